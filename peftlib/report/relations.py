"""The relations that claims are made of: better, on par, the highest, grows with, a factor as printed ...

Each looks at a condition's numbers (`peftlib.report.conditions`) and says whether it holds, and the numbers that say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from peftlib.papers import rounds_to
from peftlib.report.conditions import Case, Found, extreme_of, listed
from peftlib.report.evidence import rises

SHOWN = 8  # rows of a ranking are told if there are no more; else the first

# --- the decision -----------------------------------------------------------------------------------------------------
# Word: does it hold of two numbers that far apart, when such a distance is nothing yet?
SCORES: dict[str, Callable[[float, float], bool]] = {
    "better": lambda gap, margin: gap > 0,
    "worse": lambda gap, margin: gap < 0,
    "no worse": lambda gap, margin: gap >= -margin,
    "no better": lambda gap, margin: gap <= margin,
    "on par": lambda gap, margin: abs(gap) <= margin,
    "different": lambda gap, margin: abs(gap) > margin,
    "far better": lambda gap, margin: gap > margin,
    "far worse": lambda gap, margin: gap < -margin,
    "slightly worse": lambda gap, margin: -margin <= gap < 0,
}
AMOUNTS: dict[str, Callable[[float, float], bool]] = {
    "more": SCORES["better"],
    "less": SCORES["worse"],
    "at least": SCORES["no worse"],
    "at most": SCORES["no better"],
    "near": SCORES["on par"],
}
EXACT = ("better", "worse", "more", "less")  # no distance is too small for them


def decide(word: str, gap: float, margin: float) -> bool:
    """The one place where two numbers become better, worse or alike."""
    return (SCORES | AMOUNTS)[word](gap, margin)


def tolerance(case: Case, table: str, wanted: float) -> float:
    """How far off a wanted number still counts."""
    ask, names, rows = case.condition, case.names, case.evidence.rows
    if ask.within is None and (ask.relation not in SCORES or ask.relation in EXACT):
        return 0.0
    within = names.within.get(str(ask.within), ask.within)
    if within in (None, "margin"):
        return rows(ask.other_table if ask.than == "itself" else table).margin
    if within in names.statements:
        number, printed = names.statements[within]
        return abs(number) + 0.5 * 10.0 ** -len(printed.strip("%").partition(".")[2])
    return float(within.removesuffix("%")) / 100 * abs(wanted) if isinstance(within, str) else within


# --- rows against a row or a number -----------------------------------------------------------------------------------
class Pair(NamedTuple):
    """A row, its number, what it is compared with, and that one's number."""

    label: str
    value: float
    other: str
    wanted: float

    @property
    def gap(self) -> float:
        return self.value - self.wanted


def compare(case: Case) -> Found:
    """Is each row, or some row, as a word of `SCORES` or `AMOUNTS` says?"""
    ask, holds, said = case.condition, [], []
    for table, column in case.looks():
        pairs = [
            Pair(label, value, *case.other(table, label, column))
            for label, value in case.values(table, ask.rows, column).items()
        ]
        allowed = [tolerance(case, table, pair.wanted) for pair in pairs]
        holds += [decide(ask.relation, pair.gap, margin) for pair, margin in zip(pairs, allowed, strict=True)]
        said.append(case.tell(table, _told(case, table, column, pairs, max(allowed, default=0.0))))
    return (any if ask.some else all)(holds), "; ".join(said)


def _told(case: Case, table: str, column: str, pairs: list[Pair], allowed: float) -> str:
    """The numbers of `compare`, in words: gaps of scores, amounts as they are."""
    ask = case.condition
    gaps, itself = ask.relation in SCORES and ask.value is None, ask.than == "itself"
    one = len({pair.other for pair in pairs}) == 1 and not itself
    numbers, relative = [], "relative" in listed(ask.show)
    for pair in pairs:
        name = pair.label if one or itself else f"{pair.label} less {pair.other}"
        number = case.written(column, pair.gap, sign=True) if gaps else case.written(column, pair.value)
        number = f"{case.written(column, pair.value)}, {number}" if gaps and len(pairs) == 1 else number
        number += f" ({100 * pair.gap / pair.wanted:+.1f}%)" if relative and pair.wanted else ""
        numbers.append(f"{name} {number}{case.beside(table, pair.label)}")
    start, end, notes = case.what(table, column), "", []
    if one and ask.value is None:
        other = f"{pairs[0].other}'s {case.written(column, pairs[0].wanted)}{_chosen(ask.than)}"
        start, end = (f"{start} less {other}", "") if gaps else (start, f" against {other}")
    elif one:
        notes.append(pairs[0].other)
    for only in ask.where:
        start += f", where {only.columns} is {only.said()} {only.than}'s"
    if allowed and ask.relation not in EXACT:
        notes.append(f"margin {case.written(column, allowed).removeprefix('+')}")
    return f"{start}: {', '.join(numbers) or 'none'}{end}" + (f" ({', '.join(notes)})" if notes else "")


def _chosen(than: str) -> str:
    """ ", the best of earlier methods" for a row that was chosen so."""
    group = extreme_of(than)
    return group and f", the {than.partition(' of ')[0] if group.endswith('*') else than}"


def as_printed(case: Case) -> Found:
    """Does each number round to what a sentence prints?"""
    ask, holds, said = case.condition, [], []
    printed = case.names.statements[str(ask.value)][1]
    for table, column in case.looks():
        found = case.values(table, ask.rows, column)
        holds += [rounds_to(value, printed) for value in found.values()]
        numbers = ", ".join(f"{label} {case.written(column, value)}" for label, value in found.items())
        said.append(case.tell(table, f"{column}: {numbers} (printed {printed})"))
    return all(holds), "; ".join(said)


# --- among rows -------------------------------------------------------------------------------------------------------
def extreme(case: Case) -> Found:
    """Are rows those of the highest or lowest numbers? Ties count for them."""
    ask, holds, said = case.condition, [], []
    for table, column in case.looks():
        own = case.values(table, ask.rows, column)
        every = case.values(table, ask.among, column) | own
        order = sorted(every, key=every.__getitem__, reverse=ask.relation == "highest")
        upto = ask.place - 1 + len(own)
        holds.append(sorted(own.values()) == sorted(every[label] for label in order[ask.place - 1 : upto]))
        shown = order if len(order) <= SHOWN else [label for label in order if label in order[: upto + 1] or label in own]
        numbers = [f"{label} {case.written(column, every[label])}{case.beside(table, label)}" for label in shown]
        said.append(case.tell(table, f"{ask.relation} {case.what(table, column)}: {', '.join(numbers)}"))
    return all(holds), "; ".join(said)


def grows(case: Case) -> Found:
    """Does a column grow with another, over rows?"""
    ask, ((table, column),) = case.condition, case.looks()
    labels = case.labels(table, ask.rows, column)
    return rises(*(case.evidence.rows(table).column(labels, name).values() for name in (ask.along, column)))


def alike(case: Case) -> Found:
    """Is the highest of several numbers above the lowest by no more than a share?"""
    ((table, column),) = case.looks()
    found = case.values(table, case.condition.rows, column)
    lowest, highest = min(found.values()), max(found.values())
    return highest - lowest <= tolerance(case, table, lowest), (
        f"{', '.join(found)}: {column} varies by {100 * (highest / lowest - 1):.1f}%"
    )


RELATIONS: dict[str, Callable[[Case], Found]] = {
    **dict.fromkeys([*SCORES, *AMOUNTS], compare),
    "as printed": as_printed,
    "highest": extreme,
    "lowest": extreme,
    "grows with": grows,
    "alike": alike,
}
