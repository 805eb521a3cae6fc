"""The listing of priors."""

from rich.console import Console
from rich.table import Table

from ..priors.loading import HERE, bundled, load

PAPER = {
    "google/ddpm-ema-celebahq-256": "faces",
    "google/ddpm-ema-bedroom-256": "bedrooms",
    "google/ddpm-ema-church-256": "churches",
}


def print_priors():
    """Print the bundled priors with what they are, and the hub ids of the paper's."""
    table = Table(title="Bundled", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in ("name", "size", "classes", "parameters", "predicts", "schedule"):
        table.add_column(column, style="cyan" if column == "name" else "", overflow="fold")
    about = []
    for name in bundled():
        prior = load(name)
        parameters = sum(weight.numel() for weight in prior.network.parameters())
        table.add_row(
            name,
            f"{prior.size}×{prior.size}",
            ", ".join(prior.classes) or "none",
            f"{parameters / 1e6:.2f} M",
            prior.prediction,
            prior.schedule,
        )
        about.append(f"{name}: {description(name)}")
    fetched = Table(
        title="Of the paper, fetched by their hub id",
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
    )
    for hub_id, what in PAPER.items():
        fetched.add_row(f"[cyan]{hub_id}[/]", f"{what}, 256×256, 114 M parameters")
    console = Console()
    for part in (table, "", *about, "", fetched, "", "Any other diffusers DDPM works too: give its folder or hub id."):
        console.print(part)


def description(name):
    """The first line of text in a bundled prior's model card."""
    lines = (HERE / name / "README.md").read_text(encoding="utf-8").split("\n# ", 1)[1].splitlines()[1:]
    return next(line for line in lines if line.strip())
