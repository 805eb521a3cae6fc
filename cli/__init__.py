"""The command `confident-ode`."""

import importlib.util
import os
import sys

NEEDED = ("typer", "rich", "PIL", "torchmetrics")


def main():
    """Run the command line. Exits with 2 on bad input, with 130 when interrupted."""
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        print('The command line needs a few packages more: pip install "confident-ode[cli]"', file=sys.stderr)
        sys.exit(2)
    # threads that spin while they wait make small networks many times slower beside other work; read when torch loads
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # a file's name that the terminal cannot show is no reason to fail
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from .app import app

        app()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
