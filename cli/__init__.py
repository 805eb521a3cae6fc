"""The command `confident-ode`."""

import importlib.util
import sys

NEEDED = ("typer", "rich", "PIL", "torchmetrics")


def main():
    """Run the command line. Exits with 2 on bad input, with 130 when interrupted."""
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        print('The command line needs a few packages more: pip install "confident-ode[cli]"', file=sys.stderr)
        sys.exit(2)
    try:
        from .app import app

        app()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
