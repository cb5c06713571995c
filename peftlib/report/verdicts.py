"""The claim ledgers: each of a paper's claims, a small function that decides it, and the verdict it computes.

The same function looks at the paper's own printed numbers and at our records, so that a ledger can say both whether the
paper's tables bear the claim out and whether ours do. A verdict is never typed in; a claim that nothing here can decide
carries the reason. A paper's checks are in ``peftlib/papers/<paper>/checks``; what they share is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from peftlib.errors import UsageError
from peftlib.papers import paper_table, papers, part

OUTCOMES = ("reproduced", "not reproduced", "not testable here", "not run")


class Unknown(Exception):
    """A number that a check needs is not there."""


class Untestable(Exception):
    """The numbers are there, but runs of this kind cannot decide the claim; says why."""


# --- what a claim is checked against ----------------------------------------------------------------------------------
class Rows:
    """A table's numbers by row label. labels: the rows that a complete table has."""

    def __init__(self, name: str, values: Mapping[str, Mapping[str, float | None]], labels: Iterable[str] = ()):
        self.name, self.values = name, values
        self.labels = list(dict.fromkeys([*labels, *values]))

    def of(self, label: str, key: str) -> float:
        """A number. Raises `Unknown`, naming it, if it is not there."""
        value = self.values.get(label, {}).get(key)
        if value is None:
            raise Unknown(f"{label!r} of {self.name}")
        return float(value)

    def column(self, labels: Iterable[str], key: str) -> dict[str, float]:
        """A number of several rows. Raises `Unknown` if one is not there, or no row at all."""
        found = {label: self.of(label, key) for label in labels}
        if not found:
            raise Unknown(self.name)
        return found


class Evidence:
    """Tables by experiment."""

    def __init__(self, tables: Mapping[str, Rows]):
        self.tables = tables

    def rows(self, experiment: str) -> Rows:
        """A table. Raises `Unknown` if there is none."""
        if experiment not in self.tables:
            raise Unknown(experiment)
        return self.tables[experiment]


def rises(x: Iterable[float], y: Iterable[float]) -> tuple[bool, str]:
    """Does y rise with x? By rank correlation: positive, with p below 0.05."""
    from scipy.stats import spearmanr

    x, y = list(x), list(y)
    found = spearmanr(x, y)
    return bool(found.statistic > 0 and found.pvalue < 0.05), (
        f"Spearman's rho {found.statistic:.2f}, p = {found.pvalue:.2g}, {len(x)} rows")


# --- a paper's checks -------------------------------------------------------------------------------------------------
Check = Callable[[Evidence], tuple[bool, str]]


@dataclass(frozen=True)
class Verdict:
    """outcome: one of `OUTCOMES`. why: the numbers, or what is missing."""

    outcome: str
    why: str


@dataclass
class Claims:
    """The claims of a paper and what decides them.

    paper: its short name; numbers/claims.csv lists the claims. from_paper: its own printed numbers.
    from_records: ours, from records by experiment. again: its numbers once more after a doubt, and the words that say so.
    checks: by claim, filled by `check`. untestable: reasons by claim. counted: claims that our counts decide, whatever
    was printed or trained.
    """

    paper: str
    from_paper: Callable[[], Evidence]
    from_records: Callable[[Mapping[str, Sequence[dict]]], Evidence]
    again: tuple[str, Callable[[], Evidence]]
    untestable: Mapping[str, str]
    counted: frozenset[str]
    checks: dict[str, Check] = field(default_factory=dict)

    def check(self, *claims: str) -> Callable[[Check], Check]:
        """Register the function that decides a claim, or each of several that say the same: it returns whether the claim
        holds, and the numbers that say so."""

        def register(function: Check) -> Check:
            self.checks.update(dict.fromkeys(claims, function))
            return function

        return register

    def judge(self, claim: str, evidence: Evidence) -> Verdict:
        """The verdict on a claim, by its id in claims.csv.

        Raises:
            UsageError: no such claim.
        """
        if claim in self.untestable:
            return Verdict("not testable here", self.untestable[claim])
        if claim not in self.checks:
            known = ", ".join([*self.checks, *self.untestable])
            raise UsageError(f"no check for claim {claim!r} of {self.paper}; known: {known}")
        try:
            holds, why = self.checks[claim](evidence)
        except Unknown as missing:
            return Verdict("not run", f"needs {missing}")
        except Untestable as reason:
            return Verdict("not testable here", str(reason))
        return Verdict("reproduced" if holds else "not reproduced", why)

    def own(self, claim: str, printed: Evidence, doubted: Evidence) -> str:
        """What the paper's own printed numbers say of its claim, at first and once more after the doubt."""
        if claim in self.counted:
            return "not printed"
        said = {"reproduced": "bear it out", "not reproduced": "do not bear it out"}
        first, again = self.judge(claim, printed), self.judge(claim, doubted)
        if first.outcome not in said:
            return "not printed"
        text = f"{said[first.outcome]}: {first.why}"
        return text if again == first else f"{text}. {self.again[0]} they {said[again.outcome]}: {again.why}"

    def ledger(self, sources: Mapping[str, Sequence[dict]], claims: Sequence[str] | None = None) -> pd.DataFrame:
        """See `ledger`, for this paper."""
        listed = paper_table(self.paper, "claims").set_index("id")
        evidence, printed, doubted, rows = self.from_records(sources), self.from_paper(), self.again[1](), []
        for claim in listed.index if claims is None else claims:
            verdict = self.judge(claim, evidence)
            rows.append({"id": claim, "section": listed.loc[claim, "section"], "claim": listed.loc[claim, "claim"],
                         "verdict": verdict.outcome, "ours": verdict.why,
                         "the paper's own numbers": self.own(claim, printed, doubted)})
        return pd.DataFrame(rows)


def tally(table: pd.DataFrame) -> dict[str, int]:
    """How many claims of a ledger have each outcome, by `OUTCOMES` with underscores."""
    return {outcome.replace(" ", "_"): int((table["verdict"] == outcome).sum()) for outcome in OUTCOMES}


def printed(paper: str, statement: str) -> float:
    """A number that the paper prints in a sentence, by its id in statements.csv."""
    return float(paper_table(paper, "statements").set_index("id").loc[statement, "value"])


def ledger(paper: str, sources: Mapping[str, Sequence[dict]], claims: Sequence[str] | None = None) -> pd.DataFrame:
    """One row a claim: id, section, claim, verdict, ours, the paper's own numbers.

    Args:
        paper: short name.
        sources: records by experiment (`peftlib.study.results`).
        claims: ids; None for all of the paper's.

    Raises:
        UsageError: a paper without a ledger, or no such claim.
    """
    judged = [name for name in papers() if part(name, "checks")]
    if paper not in judged:
        raise UsageError(f"no claim ledger of {paper!r}: expected one of {', '.join(judged)}")
    return part(paper, "checks").CLAIMS.ledger(sources, claims)
