"""The register of Compacter's claims, and the words that its checks share.

Words are decided alike everywhere. Better, lower, fewer: the order of the numbers as they are, however close. On par,
similar, comparable, slight: closer than the table's margin, two standard errors of its averages
(`peftlib.report.averages.margin`). Substantial: further apart than that. Scores are points out of 100.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peftlib.papers import paper_table, rounds_to
from peftlib.papers.compacter.checks.evidence import FULL, Suite, from_paper, from_records
from peftlib.report import verdicts
from peftlib.report.averages import TINY
from peftlib.report.verdicts import Claims

Found = tuple[bool, str]  # does it hold, and the numbers that say so


def statement(identifier: str) -> float:
    """A number that the paper prints in a sentence, by its id in statements.csv."""
    return verdicts.printed("compacter", identifier)


def as_printed(percent: float, identifier: str) -> bool:
    """Does a percentage round to what a sentence prints?"""
    said = paper_table("compacter", "statements").set_index("id").loc[identifier, "printed"]
    return rounds_to(percent, said)


def points(gaps: Mapping[str, float], close: float | None = None) -> str:
    """"A +0.10, B -2.00", and the margin if the verdict rests on it."""
    text = ", ".join(f"{name} {gap:+.2f}" for name, gap in gaps.items())
    return text if close is None else f"{text} (margin {close:.2f})"


def behind_full(rows: Suite, labels: Iterable[str], full: str = FULL) -> dict[str, float]:
    """Points above full fine-tuning, by row."""
    return {label: rows.lead(label, full) for label in labels}


CLAIMS = Claims(
    "compacter", from_paper, from_records, again=("Without CB and COPA", lambda: from_paper(without=TINY)),
    counted=frozenset({"I3", "C1", "B4", "B5", "B7", "B8"}),
    untestable={
        "P1": "no run of this study places a Compacter layer after attention alone",
        "G11": "no backbone of this study has billions of parameters",
        "M17": "an explanation: no measurement of this study separates attention, projections and kernels",
        "M18": "a suggestion: no run drops Compacter layers",
        "B9": "a suggestion: no run leaves out biases or norms of Compacter",
    })
