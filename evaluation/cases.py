"""What a benchmark does to photos: damages at severities."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ..corruptions import catalogue
from ..corruptions.damages import MILD, SEVERE

ALL, TWELVE = "all", "twelve"
# the severities that the twelve have
OF_TWELVE = {2: MILD, 5: SEVERE}


@dataclass(frozen=True)
class Case:
    """A damage at a severity, of a family: function(pictures, seed=)."""

    damage: str
    severity: int
    family: str
    function: Callable = field(repr=False, compare=False)

    @property
    def name(self):
        return f"{self.damage}, {self.severity}"


def cases_of(names, severities):
    """(Cases, names of corruptions that cannot be made here) of names and severities; ValueError with one sentence.

    Names are those of the paper's 47 corruptions, of their families, or ALL; or TWELVE alone, our twelve damages.
    """
    if not names or not severities:
        raise ValueError("Nothing would be done to the photos: name corruptions and severities.")
    if wrong := [severity for severity in severities if severity not in catalogue.SEVERITIES]:
        raise ValueError(f"There is no severity {wrong[0]!r}: take some of 1, 2, 3, 4, 5.")
    severities = [*dict.fromkeys(map(int, severities))]
    if TWELVE in names:
        return _twelve(names, severities), []
    paper = {name: family for family, each in catalogue.FAMILIES.items() for name in each}
    groups = {ALL: [*paper], **catalogue.FAMILIES}
    if wrong := [name for name in names if name not in [*paper, *groups]]:
        near = difflib.get_close_matches(str(wrong[0]), [*paper, *groups, TWELVE], 1, 0)[0]
        raise ValueError(f"There is no corruption {wrong[0]!r}: did you mean {near!r}?")
    wanted = dict.fromkeys(name for given in names for name in groups.get(given, [given]))
    able = [name for name in wanted if name in catalogue.available()]
    if not able:
        catalogue.checked(next(iter(wanted)), severities[0])
    cases = [
        Case(name, severity, paper[name], partial(catalogue.corrupt, name=name, severity=severity))
        for severity in severities
        for name in able
    ]
    return cases, [name for name in wanted if name not in able]


def _twelve(names, severities):
    if len(names) > 1:
        raise ValueError("The twelve damages are compared alone: leave the other corruptions out.")
    if not {*severities} <= {*OF_TWELVE}:
        raise ValueError("The twelve damages have the severities 2 and 5: take one of them, or both.")
    return [
        Case(name, severity, family, function)
        for severity in severities
        for family, damages in OF_TWELVE[severity].items()
        for name, function in damages.items()
    ]
