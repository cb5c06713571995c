"""The claim ledgers: each of a paper's claims, the relations that decide it, and the verdict they compute.

The same relations look at the paper's own printed numbers and at our records, so that a ledger can say both whether the
paper's tables bear the claim out and whether ours do. A verdict is never typed in; a claim that nothing here can decide
carries the reason. Claims are ``peftlib/papers/<paper>/claims.toml`` (README.md there says how to write one); the relations
are `peftlib.report.relations`, those that one paper alone needs are in its ``checks``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from peftlib.errors import UsageError
from peftlib.papers import FOLDER, paper_table, papers, part
from peftlib.report.claims import Claim, read
from peftlib.report.conditions import Case, Found, Vocabulary, listed
from peftlib.report.evidence import Evidence, Unknown, Untestable
from peftlib.report.relations import RELATIONS

OUTCOMES = ("reproduced", "not reproduced", "not testable here", "not run")


@dataclass(frozen=True)
class Verdict:
    """outcome: one of `OUTCOMES`. why: the numbers, or what is missing."""

    outcome: str
    why: str


@dataclass
class Claims:
    """The claims of a paper and what they are checked against.

    paper: its short name. from_paper: its own printed numbers. from_records: ours, from records by experiment. again: its
    numbers once more after a doubt, and the words that say so. relations: those of its own.
    """

    paper: str
    from_paper: Callable[[], Evidence]
    from_records: Callable[[Mapping[str, Sequence[dict]]], Evidence]
    again: tuple[str, Callable[[], Evidence]]
    relations: Mapping[str, Callable[[Case], Found]]

    @functools.cached_property
    def read(self) -> tuple[Vocabulary, dict[str, Claim]]:
        """What its file of claims may name, and the claims by id, in the paper's order. Raises UsageError, see `read`."""
        said = paper_table(self.paper, "statements").to_dict("records")
        return read(
            FOLDER / self.paper / "claims.toml",
            {row["id"]: (float(row["value"]), row["printed"]) for row in said},
            RELATIONS | self.relations,
            self.from_paper().tables,
        )

    @property
    def names(self) -> Vocabulary:
        """What they may name: groups of rows, columns, tolerances."""
        return self.read[0]

    @property
    def claims(self) -> dict[str, Claim]:
        """By id, in the paper's order."""
        return self.read[1]

    def decided(self) -> list[str]:
        """Ids of the claims that something here can decide."""
        return [name for name, claim in self.claims.items() if not claim.untestable]

    def counted(self) -> list[str]:
        """Ids of the claims that our counts decide, whatever was printed or trained."""
        return [name for name, claim in self.claims.items() if (self.claims.get(claim.repeats) or claim).counted]

    def judge(self, name: str, evidence: Evidence) -> Verdict:
        """The verdict on a claim, by its id.

        Raises:
            UsageError: no such claim.
        """
        if name not in self.claims:
            raise UsageError(f"no check for claim {name!r} of {self.paper}; known: {', '.join(self.claims)}")
        claim = self.claims[name]
        if claim.untestable:
            return Verdict("not testable here", claim.untestable)
        claim = self.claims.get(claim.repeats, claim)
        try:
            found = [
                Case(one, listed(one.tables) or listed(claim.tables), evidence, self.names).found() for one in claim.holds
            ]
        except Unknown as missing:
            return Verdict("not run", f"needs {missing}")
        except Untestable as reason:
            return Verdict("not testable here", str(reason))
        except ZeroDivisionError:
            return Verdict("not testable here", "it is about a share of a number, and that number is 0")
        holds, why = zip(*found, strict=True)
        return Verdict("reproduced" if all(holds) else "not reproduced", "; ".join(why))

    def own(self, claim: str, printed: Evidence, doubted: Evidence) -> str:
        """What the paper's own printed numbers say of its claim, at first and once more after the doubt."""
        if claim in self.counted():
            return "not printed"
        said = {"reproduced": "bear it out", "not reproduced": "do not bear it out"}
        first, again = self.judge(claim, printed), self.judge(claim, doubted)
        if first.outcome not in said:
            return "not printed"
        text = f"{said[first.outcome]}: {first.why}"
        return text if again == first else f"{text}. {self.again[0]} they {said[again.outcome]}: {again.why}"

    def ledger(self, sources: Mapping[str, Sequence[dict]], claims: Sequence[str] | None = None) -> pd.DataFrame:
        """See `ledger`, for this paper."""
        evidence, printed, doubted, rows = self.from_records(sources), self.from_paper(), self.again[1](), []
        for claim in self.claims if claims is None else claims:
            verdict = self.judge(claim, evidence)
            rows.append(
                {
                    "id": claim,
                    "section": self.claims[claim].section,
                    "claim": self.claims[claim].says,
                    "verdict": verdict.outcome,
                    "ours": verdict.why,
                    "the paper's own numbers": self.own(claim, printed, doubted),
                }
            )
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
    judged = [name for name in papers() if (FOLDER / name / "claims.toml").is_file()]
    if paper not in judged:
        raise UsageError(f"no claim ledger of {paper!r}: expected one of {', '.join(judged)}")
    return part(paper, "checks").CLAIMS.ledger(sources, claims)
