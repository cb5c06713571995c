"""What the page of the ledger says around it."""

from __future__ import annotations

from IPython.display import Markdown

from peftlib.papers.compacter.checks import CLAIMS
from peftlib.report import say
from peftlib.report.averages import TEST_ROWS, TINY


def tolerances() -> Markdown:
    """The other tolerances of the checks, and the tasks without which the paper's numbers are looked at once more."""
    within = CLAIMS.names.within
    small = ", ".join(f"{task.upper()} ({TEST_ROWS[task]})" for task in TINY)
    return say(
        "A change of memory or time counts as reproduced within {near:g} percentage points of the printed one, a "
        "ratio of parameters within {close}. Where the paper's own numbers say something else without the tasks "
        "of the fewest test rows, {small}, the ledger says so.",
        near=within["cost"],
        close=within["ratio"],
        small=small,
    )
