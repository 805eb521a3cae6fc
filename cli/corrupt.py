"""Damaging picture files as the paper does: a picture for each corruption and severity, and a sheet of the first."""

from rich.console import Console

from ..corruptions.catalogue import CORRUPTIONS, FAMILIES, LOOKS, MORE, available, checked, corrupt
from ..corruptions.imagenet_c import LIBRARY
from ..evaluation.sheets import TILE, Cell, contact_sheet
from .photos import make_folder, spare, stems
from .pictures import read, save, to_image, to_tensor
from .progress import call_progress

ACROSS = 8
GROUPS = {"all": CORRUPTIONS, **FAMILIES}


def corrupt_photos(paths, folder, names, severities, seed=0):
    """Damage picture files into `folder`; the number of those that failed, each named in a sentence on stderr.

    names: of corruptions, of families, or "all" the 47; what cannot run here of a family is left out, and said. Raises
    ValueError or OSError, before any picture, where anything else is wrong.
    """
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    able, severities = available(), sorted(set(severities))
    missing = [name for group in names for name in GROUPS.get(group, ()) if name not in able]
    names = list(dict.fromkeys(name for group in names for name in GROUPS.get(group, [group]) if name not in missing))
    for name in names or missing:
        for severity in severities:
            checked(name, severity)
    if missing:
        errors.print(f"Left out, as they need one more package (pip install {LIBRARY}): {', '.join(missing)}.")
    make_folder(folder)
    failed, drawn = 0, False
    with call_progress(errors, "pictures") as bar:
        task = bar.add_task("", total=len(paths) * len(names) * len(severities))
        for i, (path, stem) in enumerate(zip(paths, stems(paths), strict=True)):
            bar.update(task, description=path.name, completed=i * len(names) * len(severities))
            try:
                files = {(name, s): folder / f"{stem}_{name}_{s}.png" for name in names for s in severities}
                sheet = folder / f"{stem}_corruptions.png"
                for file in (*files.values(), sheet):
                    spare(paths, file)
                original, made = read(path), {}
                for (name, severity), file in files.items():
                    damaged = to_image(corrupt(to_tensor(original), name, severity, seed))
                    save(damaged, file)
                    made[name, severity] = _small(damaged)
                    bar.advance(task)
                if not drawn:
                    save(_sheet(path.name, _small(original), made), sheet)
                print(f"{path} -> {folder / stem}_*: {len(made)} damaged{'' if drawn else ', and a sheet'}", flush=True)
                drawn = True
            except (ValueError, OSError) as error:
                failed += 1
                errors.print(str(error) if str(path) in str(error) else f"{path}: {error}")
    return failed


def print_corruptions():
    """Print what there is by family, with what it looks like and what cannot run here."""
    console, able = Console(highlight=False, markup=False, soft_wrap=True), available()
    for family, names in {**FAMILIES, "beside the 47": MORE}.items():
        console.print(f"{family}:")
        for name in names:
            console.print(f"  {name:32}{LOOKS[name]}{'' if name in able else ' (cannot run here)'}")
    if len(able) < len({**CORRUPTIONS, **MORE}):
        console.print(f"What cannot run here needs one more package: pip install {LIBRARY}.")


def _small(image):
    """The picture as it is, or scaled down to a sheet's tile."""
    if max(image.size) <= TILE:
        return image
    image = image.copy()
    image.thumbnail((TILE, TILE))
    return image


def _sheet(title, original, made):
    """The damaged pictures {(name, severity): image}: a row for each name, or, of one severity, as many as fit."""
    severities = sorted({severity for _, severity in made})
    if len(severities) > 1:
        columns = ["Original", *(f"severity {severity}" for severity in severities)]
        names = list(dict.fromkeys(name for name, _ in made))
        rows = [[Cell(original), *(Cell(made[name, severity]) for severity in severities)] for name in names]
        return contact_sheet(columns, rows, title, names)
    cells = [Cell(original, ("original",)), *(Cell(image, (name,)) for (name, _), image in made.items())]
    across = min(ACROSS, len(cells))
    cells += [None] * (-len(cells) % across)
    rows = [cells[i : i + across] for i in range(0, len(cells), across)]
    return contact_sheet([""] * across, rows, f"{title}, severity {severities[0]}")
