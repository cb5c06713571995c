"""The claim ledgers: each of a paper's claims, a small function that decides it, and the verdict it computes.

The same function looks at the paper's own printed numbers and at our records, so that a ledger can say both whether the
paper's tables bear the claim out and whether ours do. A verdict is never typed in; a claim that nothing here can decide
carries the reason. One module a paper; what they share is in `common`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from peftlib.errors import UsageError
from peftlib.report.verdicts import adaptbert, compacter
from peftlib.report.verdicts.common import OUTCOMES, Claims, Verdict, printed, tally

__all__ = ["OUTCOMES", "PAPERS", "Verdict", "adaptbert", "compacter", "ledger", "printed", "tally"]

PAPERS: dict[str, Claims] = {"adaptbert": adaptbert.CLAIMS, "compacter": compacter.CLAIMS}


def ledger(paper: str, sources: Mapping[str, Sequence[dict]], claims: Sequence[str] | None = None) -> pd.DataFrame:
    """One row a claim: id, section, claim, verdict, ours, the paper's own numbers.

    Args:
        paper: short name.
        sources: records by experiment (`peftlib.study.results`).
        claims: ids; None for all of the paper's.

    Raises:
        UsageError: a paper without a ledger, or no such claim.
    """
    if paper not in PAPERS:
        raise UsageError(f"no claim ledger of {paper!r}: expected one of {', '.join(PAPERS)}")
    return PAPERS[paper].ledger(sources, claims)
