"""The relations that claims are made of: better, on par, the highest, grows with, a factor as printed ...

Each looks at a condition's numbers (`peftlib.report.conditions`) and says what they show of it, by the rules of
`peftlib.report.uncertainty`, and the numbers that say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from peftlib.papers import rounds_to
from peftlib.report import uncertainty
from peftlib.report.conditions import Case, Found, extreme_of, listed
from peftlib.report.evidence import Untestable
from peftlib.report.uncertainty import NOTHING, Number, Odds, Region, is_exact, odds

SHOWN = 8  # rows of a ranking are told if there are no more; else the first
FEWEST = 4  # rows below which a rank correlation says nothing

# --- the decision -----------------------------------------------------------------------------------------------------
# Word: where the gap between two numbers lies, in margins.
SCORES: dict[str, Region] = {
    "better": Region(low=0),
    "worse": Region(high=0),
    "no worse": Region(low=-1),
    "no better": Region(high=1),
    "on par": Region(low=-1, high=1),
    "different": Region(low=-1, high=1),  # where it does not lie
    "far better": Region(low=1),
    "far worse": Region(high=-1),
    "slightly worse": Region(low=-1, high=0),
}
AMOUNTS: dict[str, Region] = {
    "more": SCORES["better"],
    "less": SCORES["worse"],
    "at least": SCORES["no worse"],
    "at most": SCORES["no better"],
    "near": SCORES["on par"],
}
EXACT = ("better", "worse", "more", "less")  # no distance is too small for them


def decide(word: str, gap: Number, margin: float) -> Odds:
    """The one place where two numbers become better, worse or alike."""
    found = (SCORES | AMOUNTS)[word].odds(gap, margin)
    return Odds(found.fails, found.holds, found.sure) if word == "different" else found


def tolerance(case: Case, table: str, wanted: Number) -> float:
    """How far off a wanted number still counts."""
    ask, names, rows = case.condition, case.names, case.evidence.rows
    if ask.within is None and (ask.relation not in SCORES or ask.relation in EXACT):
        return 0.0
    within = names.within.get(str(ask.within), ask.within)
    if within in (None, "margin"):
        return rows(ask.other_table if ask.than == "itself" else table).margin
    if isinstance(within, str) and within in names.statements:
        number, printed = names.statements[within]
        return abs(number) + 0.5 * 10.0 ** -len(printed.strip("%").partition(".")[2])
    return float(within.removesuffix("%")) / 100 * abs(float(wanted[0])) if isinstance(within, str) else within


def seen(case: Case, column: str, numbers: list[Number]) -> str:
    """The smallest difference that all of these could have shown, in words."""
    random = [uncertainty.smallest_seen(number) for number in numbers if not is_exact(number)]
    return f"{case.written(column, max(random)).removeprefix('+')} in {column.replace('_', ' ')}" if random else ""


# --- rows against a row or a number -----------------------------------------------------------------------------------
class Pair(NamedTuple):
    """A row, its number, what it is compared with, and that one's number."""

    label: str
    value: Number
    other: str
    wanted: Number

    @property
    def gap(self) -> Number:
        return self.value - self.wanted


def compare(case: Case) -> Found:
    """Is each row, or some row, as a word of `SCORES` or `AMOUNTS` says?"""
    ask, found, said, smallest = case.condition, [], [], []
    for table, column in case.looks():
        pairs = [
            Pair(label, value, *case.other(table, label, column))
            for label, value in case.values(table, ask.rows, column).items()
        ]
        allowed = [tolerance(case, table, pair.wanted) for pair in pairs]
        found += [decide(ask.relation, pair.gap, margin) for pair, margin in zip(pairs, allowed, strict=True)]
        open_ones = case.left_open(ask.other_table or table, column)
        found += [NOTHING] * (len(case.lost(table, ask.rows, column)) + bool(open_ones))
        text = _told(case, table, column, pairs, max(allowed, default=0.0))
        said.append(case.tell(table, text + case.told_of(ask.other_table or table, open_ones)))
        smallest.append(seen(case, column, [pair.gap for pair in pairs]))
    return Found(tuple(found), "; ".join(said), ask.some, ", ".join(dict.fromkeys(filter(None, smallest))))


def _told(case: Case, table: str, column: str, pairs: list[Pair], allowed: float) -> str:
    """The numbers of `compare`, in words: gaps of scores, amounts as they are, with their intervals."""
    ask = case.condition
    gaps, itself = ask.relation in SCORES and ask.value is None, ask.than == "itself"
    one = len({pair.other for pair in pairs}) == 1 and not itself
    numbers, relative = [], "relative" in listed(ask.show)
    there = ask.other_table or table
    for pair in pairs:
        own, other = case.called(table, pair.label), case.called(there, pair.other)
        name = own if one or itself else f"{own} less {other}"
        value, gap, wanted = (float(number[0]) for number in (pair.value, pair.gap, pair.wanted))
        if gaps:
            number = case.written(column, gap, sign=True) + case.ends(column, pair.gap, sign=True)
            number = f"{case.written(column, value)}, {number}" if len(pairs) == 1 else number
        else:
            number = case.written(column, value) + case.ends(column, pair.value)
        number += f" ({100 * gap / wanted:+.1f}%)" if relative and wanted else ""
        numbers.append(f"{name} {number}{case.beside(table, pair.label)}")
    start, end, notes = case.what(table, column), "", []
    if one and ask.value is None:
        wanted = f"{case.written(column, float(pairs[0].wanted[0]))}{_chosen(case, table, column)}"
        other = f"{case.called(there, pairs[0].other)}'s {wanted}"
        start, end = (f"{start} less {other}", "") if gaps else (start, f" against {other}")
    elif one:
        notes.append(pairs[0].other)
    for only in ask.where:
        start += f", where {only.columns} is {only.said()} {case.called(table, only.than)}'s"
    if allowed and ask.relation not in EXACT:
        notes.append(f"margin {case.written(column, allowed).removeprefix('+')}")
    text = f"{start}: {', '.join(numbers) or 'none'}{end}" + (f" ({', '.join(notes)})" if notes else "")
    return text + case.without(table, ask.rows, column)


def _chosen(case: Case, table: str, column: str) -> str:
    """ ", the best of earlier methods" for a row that was chosen so, and by what."""
    than = case.condition.than
    group = extreme_of(than)
    by = case.condition.chosen_by or column
    validated = any(by in row for row in case.evidence.rows(case.condition.other_table or table).chosen.values())
    how = " on validation" if validated else ""
    return group and f", the {than.partition(' of ')[0] if group.endswith('*') else than}{how}"


def as_printed(case: Case) -> Found:
    """Does each number round to what a sentence prints?"""
    ask, found, said = case.condition, [], []
    printed = case.names.statements[str(ask.value)][1]
    for table, column in case.looks():
        values = {label: float(value[0]) for label, value in case.values(table, ask.rows, column).items()}
        found += [odds(np.array([rounds_to(value, printed)])) for value in values.values()]
        numbers = ", ".join(f"{case.called(table, label)} {case.written(column, value)}" for label, value in values.items())
        said.append(case.tell(table, f"{column}: {numbers} (printed {printed})"))
    return Found(tuple(found), "; ".join(said))


# --- among rows -------------------------------------------------------------------------------------------------------
def extreme(case: Case) -> Found:
    """Are rows those of the highest or lowest numbers? Ties count for them."""
    ask, found, said, smallest = case.condition, [], [], []
    for table, column in case.looks():
        own = case.values(table, ask.rows, column)
        every = case.values(table, ask.among, column) | own
        rivals = [value for label, value in every.items() if label not in own]
        if all(map(is_exact, every.values())) or ask.place > 1:
            found.append(odds(_in_place(list(own.values()), list(every.values()), ask.place, ask.relation == "highest")))
        else:
            word = "better" if ask.relation == "highest" else "worse"
            found += [decide(word, value - rival, 0) for value in own.values() for rival in rivals]
        found += [NOTHING] * len(case.lost(table, ask.among, column) | case.lost(table, ask.rows, column))
        order = sorted(every, key=lambda label: every[label][0], reverse=ask.relation == "highest")  # noqa: B023
        upto = ask.place - 1 + len(own)
        shown = order if len(order) <= SHOWN else [label for label in order if label in order[: upto + 1] or label in own]
        numbers = [
            f"{case.called(table, label)} {case.written(column, every[label][0])}{case.ends(column, every[label])}"
            f"{case.beside(table, label)}"
            for label in shown
        ]
        text = f"{ask.relation} {case.what(table, column)}: {', '.join(numbers)}{case.without(table, ask.among, column)}"
        said.append(case.tell(table, text))
        rival = next((every[label] for label in order if label not in own), None)
        smallest.append("" if rival is None else seen(case, column, [value - rival for value in own.values()]))
    return Found(tuple(found), "; ".join(said), seen=", ".join(dict.fromkeys(filter(None, smallest))))


def _in_place(own: list[Number], every: list[Number], place: int, highest: bool) -> np.ndarray:
    """In which draws numbers are, in order, from a place on: (1,) or (1 + DRAWS,)."""
    size = max(number.size for number in every)
    mine, all_of_them = (
        np.sort(np.stack([np.broadcast_to(number, size) for number in numbers]) * (-1 if highest else 1), axis=0)
        for numbers in (own, every)
    )
    return (mine == all_of_them[place - 1 : place - 1 + len(own)]).all(axis=0)


def order(name: str, x: list[Number], y: list[Number]) -> Found:
    """Do two columns rank rows alike? By Spearman's rho, whose interval must lie above 0.

    Raises:
        Untestable: too few rows.
    """
    if len(x) < FEWEST:
        raise Untestable(f"a rank correlation of {len(x)} rows says nothing: expected at least {FEWEST}")
    rho = uncertainty.rank_correlation(name, x, y)
    low, high = uncertainty.interval(rho)
    smallest = "" if is_exact(rho) else f"{uncertainty.smallest_seen(rho):.2f} in Spearman's rho"
    said = f"Spearman's rho {rho[0]:.2f} [{low:.2f}, {high:.2f}], {len(x)} rows"
    return Found((Region(low=0).odds(rho, 0),), said, seen=smallest)


def grows(case: Case) -> Found:
    """Does a column grow with another, over rows?"""
    ask, ((table, column),) = case.condition, case.looks()
    there = case.evidence.rows(table)
    values = there.column(case.labels(table, ask.rows, column), column)
    along = there.column(values, ask.along)
    found = order(f"{table} {column}", [along[label] for label in values], list(values.values()))
    said = f"{column} over {ask.along}: {found.said}{case.without(table, ask.rows, column)}"
    return Found(found.odds, said, seen=found.seen)


def alike(case: Case) -> Found:
    """Is the highest of several numbers above the lowest by no more than a share?"""
    ((table, column),) = case.looks()
    found = {label: float(value[0]) for label, value in case.values(table, case.condition.rows, column).items()}
    lowest, highest = min(found.values()), max(found.values())
    holds = highest - lowest <= tolerance(case, table, uncertainty.exact(lowest))
    said = (
        f"{', '.join(case.called(table, label) for label in found)}: {column} varies by {100 * (highest / lowest - 1):.1f}%"
    )
    return Found((odds(np.array([holds])),), said)


RELATIONS: dict[str, Callable[[Case], Found]] = {
    **dict.fromkeys([*SCORES, *AMOUNTS], compare),
    "as printed": as_printed,
    "highest": extreme,
    "lowest": extreme,
    "grows with": grows,
    "alike": alike,
}
