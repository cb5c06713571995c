"""What the page of the ledger says around it."""

from __future__ import annotations

from collections.abc import Sequence

from IPython.display import Markdown

from peftlib.papers.compacter.checks import CLAIMS
from peftlib.report import say
from peftlib.report.averages import TEST_ROWS, TINY
from peftlib.report.verdicts import Judged


def doubts(judged: Sequence[Judged]) -> dict[str, int]:
    """How many claims, each counted once, the paper's own numbers do not bear out (``against``), and only with the tiny
    tasks (``doubtful``)."""
    once = [one.printed for one in judged if not one.claim.repeats]
    against = [found for found in once if found and found[0].outcome == "contradicted"]
    doubtful = [found for found in once if found not in against and found[1:] and found[1].outcome != found[0].outcome]
    return {"against": len(against), "doubtful": len(doubtful)}


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
