"""What a benchmark found, as a report: the tables, figures and pictures of the paper, and what it leaves unsaid."""

from . import tables
from .benchmark import KEPT, MEASURES, PER_FEATURE, RESAMPLES, SAME, best, best_of, joined, resamples, statistics
from .figures import bars, convergence, over_calls, tradeoff
from .frechet import Gaussian
from .methods import SDEdit, families_of
from .report import Figure, Grid, Heading, Table, Text

NOTES = """\
In brackets: 95 % of what {resamples:,} resamples of the photos, each with all its damages, make of them, laid round \
the mean. L2 is the norm of the difference of all values in [0, 1]. A PSNR above {same:g} dB counts as that. Features \
are those of the flower classifier: their distance to the clean photo's stands where the paper has LPIPS, and \
FD-flowers, the Fréchet distance between those of the results and of {references:,} other photos, where it has FID. \
Neither is what it stands for, and their numbers cannot be compared with it. Original is what a perfect restoration \
would have: not 0, as these are few, and other photos."""
ORACLE = """\
The paper keeps, of each damaged picture, the {kept} results nearest to the clean photo by PSNR, over all depths, \
steps and seeds: an oracle, which no one who restores a picture has. The rows below say of how many; the others have \
one result and no choice. Given are means over the damages, in parentheses the standard deviation over them; a PSNR is \
that of the pooled error of a damage. FD-flowers is of all damages together, n pictures."""
FEW = """\
FD-flowers of few pictures is too large: compare within a column only, and where n is below {least} with care. Unless \
all damages have the same photos (--same-photos), they differ by these too."""
TRADEOFF = """\
Realism over fidelity, the paper's Figure 5. Families are dots, with a regression of second degree and one standard \
deviation of it; the others have 95 % intervals."""


def findings(measured, methods, families, references, inception, against, seed, cell, beside=()):
    """The parts of a report.

    measured: {method: Measured}, with Original and Damaged. methods: those that have settings. families: {family of
    damages: {damage: its place}}. references, inception: features (N, F) of other photos, the latter or None.
    against: a method to compare with. cell(method, damage): an image of some of its results. beside: methods whose
    time is compared too.
    """
    places = {damage: place for each in families.values() for damage, place in each.items()}
    damages = sorted(places, key=places.get)
    curves, series = _curves_and_series(methods)
    gaussian, weights = Gaussian(references), resamples(int(measured["Damaged"].photos.max()) + 1, seed=seed)
    found = {name: statistics(each, weights, gaussian) for name, each in measured.items()}
    serial = {method.name for members in series.values() for method in members} - {against}
    fixed = {name: each for name, each in found.items() if name not in serial}
    names = {title: [method.name for method in members] for title, members in curves.items()}
    alone = [name for name in fixed if not any(name in members for members in names.values())]
    # of a family, what is shown is the most real one
    main = [*alone, *(best(members, found) for members in names.values())]
    rivals = [title for title, members in curves.items() if isinstance(members[0], SDEdit)]
    return [
        *_single(measured, fixed, names, rivals, against, references),
        *_times({method.name: measured[method.name] for method in beside}),
        *_oracle(measured, alone, names, weights, gaussian, inception),
        *_series(found, series),
        *_over_calls(measured, found, {**curves, **series}),
        *_by_damage(measured, fixed, main, families, damages, gaussian, references),
        *_pictures(main, families, cell),
        *_varied(curves, damages, cell),
    ]


def _curves_and_series(methods):
    """The families of methods that vary anything, and those that vary the number of updates alone."""
    curves, series = {}, {}
    for title, members in families_of(methods).items():
        only = {setting for method in members for setting, _ in method.varied} == {"updates"}
        (series if only else curves)[title] = members
    return curves, series


def _single(measured, fixed, names, rivals, against, references):
    """What each method is by itself, of the statistics `fixed`; names: of the members of families."""
    calls = {name: measured[name].calls.mean().item() for name in fixed}
    return [
        Heading("One setting, nothing chosen"),
        Table(tables.overall(fixed, calls)),
        Text(NOTES.format(resamples=RESAMPLES, same=SAME, references=len(references))),
        *(Text(tables.matched(fixed, against, names[title], title)) for title in rivals),
        Figure(tradeoff(fixed, names), TRADEOFF, "tradeoff.png"),
        Text(f"Differences on the same photos, each method minus {against}:"),
        Table(tables.differences(fixed, against)),
    ]


def _oracle(measured, alone, names, weights, gaussian, inception):
    """The best of each family with more than KEPT results, beside the methods of none."""
    chosen = {name: measured[name] for name in alone if name not in ("Original", "Damaged")}
    for title, members in names.items():
        several = joined([measured[name] for name in members], 2)
        if (count := several.calls.shape[2]) > KEPT:
            chosen[f"{title}, best {KEPT} of {count}"] = best_of(several)
    table = tables.as_in_paper({"Inputs": measured["Damaged"], **chosen}, weights, gaussian, inception)
    return [Heading("With the paper's oracle"), Text(ORACLE.format(kept=KEPT)), Table(table)]


def _by_damage(measured, fixed, main, families, damages, gaussian, references):
    """All methods by family of damages, and the main ones damage by damage."""
    some = {name: measured[name] for name in main if name != "Original"}
    gained = f"{MEASURES['psnr_to_clean'][0]}, gained."
    return [
        Heading("Damage by damage"),
        Text(FEW.format(least=PER_FEATURE * references.shape[1])),
        Table(tables.by_family({name: measured[name] for name in fixed}, families, gaussian)),
        Text("Means for each damage:"),
        Table(tables.by_damage(some, damages)),
        Figure(bars(some, damages, "psnr_to_clean", "Damaged"), gained, "gains.png"),
        Figure(bars(some, damages, "features_to_clean"), "How far from the clean photo in features.", "features.png"),
    ]


def _pictures(main, families, cell):
    yield Heading("Pictures")
    for family, damages in families.items():
        rows = [(damage, [cell(name, damage) for name in main]) for damage in damages]
        yield Grid(main, rows, f"Of the family {family}.")


def _times(measured):
    if not measured:
        return []
    text = "The same prior, pictures and seeds, at about as many network calls, one picture at a time."
    return [Heading("Beside the authors' code"), Text(text), Table(tables.speeds(measured))]


def _series(found, series):
    """How realism converges over the number of updates, the paper's Figure 6."""
    if not series:
        return []
    parts = [Heading("Over the number of updates")]
    for i, (title, members) in enumerate(series.items()):
        values = {method.name: dict(method.varied)["updates"] for method in members}
        text = f"{title}: convergence over the number of updates, the paper's Figure 6, with 95 % intervals."
        parts += [Figure(convergence(found, values, "updates"), text, f"updates-{i + 1}.png" if i else "updates.png")]
    return parts


def _over_calls(measured, found, families):
    """What more network calls bring, where methods differ in them."""
    calls = {name: measured[name].calls.mean().item() for name in found}
    names = {title: [method.name for method in members] for title, members in families.items()}
    if len({*calls.values()} - {0}) < 2:
        return
    text = "PSNR and realism over the network calls of a result, with 95 % intervals."
    yield Heading("Over network calls")
    yield Figure(over_calls(found, calls, names), text, "calls.png")


def _varied(curves, damages, cell, most=6):
    """What each setting of a family makes of some damages, evenly taken, the paper's Figure 7."""
    some = damages[:: -(-len(damages) // most)]
    for title, members in curves.items():
        settings = " and ".join(dict.fromkeys(name.replace("_", " ") for m in members for name, _ in m.varied))
        columns = ["Damaged", *(", ".join(str(value) for _, value in method.varied) for method in members)]
        names = ["Damaged", *(method.name for method in members)]
        rows = [(damage, [cell(name, damage) for name in names]) for damage in some]
        yield Grid(columns, rows, f"{title}, over {settings}, as in the paper's Figure 7.")
