"""The claim ledgers: each of a paper's claims, the relations that decide it, and the verdict they compute.

The same relations look at the paper's own printed numbers and at our records, so that a ledger can say both whether the
paper's tables bear the claim out and whether ours do. A verdict is never typed in; a claim that nothing here can decide
carries the reason. Claims are ``peftlib/papers/<paper>/claims.toml`` (README.md there says how to write one); the relations
are `peftlib.report.relations`, those that one paper alone needs are in its ``checks``; when a number shows something is
`peftlib.report.uncertainty`.

*reproduced*: all that the claim says is shown. *contradicted*: some of it is shown to be otherwise. *undecided*: neither,
and the smallest difference that could have been seen. *not testable here*: runs of this kind cannot decide it. *not run*:
records are missing. A claim that says what another says has that one's verdict and is not counted again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from peftlib.errors import UsageError
from peftlib.papers import FOLDER, about, paper_table, papers, part, read_table
from peftlib.report.claims import Claim, read
from peftlib.report.conditions import Case, Condition, Found, Vocabulary, conclude, listed
from peftlib.report.evidence import BY_CHANCE, Evidence, Unknown, Unlearned, Untestable
from peftlib.report.relations import RELATIONS
from peftlib.report.sentences import readable
from peftlib.report.uncertainty import NOTHING

OUTCOMES = ("reproduced", "contradicted", "undecided", "not testable here", "not run")
OWN = {"reproduced": "bear it out", "contradicted": "do not bear it out", "undecided": "leave it open"}
AGAINST = f"the paper's own numbers {OWN['contradicted']}"
SMALLEST = "Smallest difference that could have been seen"  # these end what is said of an undecided claim
NO_RESULT = "Runs that did not learn decide nothing"
NO_CHOICE = "What a method does at a rate chosen by chance decides nothing"
SAME = "as "  # begins what a ledger says of a claim that repeats another


@dataclass(frozen=True)
class Verdict:
    """outcome: one of `OUTCOMES`. why: the numbers, or what is missing. cause: what decided, in a few words. parts: the
    numbers once more, condition by condition, each with the tables that it is about."""

    outcome: str
    why: str
    cause: str = ""
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict, and what the paper's own numbers say of it: in words, and at first and after the doubt."""

    claim: Claim
    verdict: Verdict
    own: str
    printed: tuple[Verdict, ...]


@dataclass
class Claims:
    """The claims of a paper and what they are checked against.

    paper: its short name. from_paper: its own printed numbers. from_records: ours, from records by experiment. again: its
    numbers once more after a doubt, and the words that say so. relations: those of its own, called as the functions with
    spaces. pages: for tables whose page has another name than they, that name.
    """

    paper: str
    from_paper: Callable[[], Evidence]
    from_records: Callable[[Mapping[str, Sequence[dict]]], Evidence]
    again: tuple[str, Callable[[], Evidence]]
    relations: Sequence[Callable[[Case], Found]]
    pages: Mapping[str, str]

    @functools.cached_property
    def read(self) -> tuple[Vocabulary, dict[str, Claim]]:
        """What its file of claims may name, and the claims by id, in the paper's order. Raises UsageError, see `read`."""
        said, own = paper_table(self.paper, "statements").to_dict("records"), self.from_paper()
        return read(
            FOLDER / self.paper / "claims.toml",
            {row["id"]: (float(row["value"]), row["printed"]) for row in said},
            RELATIONS | {function.__name__.replace("_", " "): function for function in self.relations},
            {name: own.rows(name) for name in own.tables},
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

    def tables(self, name: str) -> list[str]:
        """The tables that a claim looks at."""
        claim = self.claims.get(self.claims[name].repeats) or self.claims[name]
        return list(dict.fromkeys(t for one in claim.holds for t in listed(one.tables) or listed(claim.tables)))

    def page(self, table: str) -> str:
        """The page of this paper, without its ending, that shows a table."""
        return self.pages.get(table, table.partition("/")[2])

    def judge(self, name: str, evidence: Evidence) -> Verdict:
        """The verdict on a claim, by its id, from one evidence alone.

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
            found = [self._found(one, claim, evidence) for one in claim.holds]
        except Unknown as missing:
            return Verdict("not run", f"needs {missing}")
        except Untestable as reason:
            return Verdict("not testable here", str(reason))
        except ZeroDivisionError:
            return Verdict("not testable here", "it is about a share of a number, and that number is 0")
        holds, why = conclude(found), "; ".join(dict.fromkeys(part.said for part in found))
        tables = [listed(one.tables) or listed(claim.tables) for one in claim.holds]
        parts = tuple(dict(zip((part.said for part in found), tables, strict=True)).items())
        if holds is not None:
            random = not all(one.sure for part in found for one in part.odds)
            cause = "intervals decide" if random else "exact numbers decide"
            return Verdict("reproduced" if holds else "contradicted", why, cause, parts)
        smallest = ", ".join(dict.fromkeys(part.seen for part in found if part.seen))
        end, cause = f"{SMALLEST}: {smallest}" if smallest else "", "intervals leave it open"
        if any(one is NOTHING for part in found for one in part.odds):
            end, cause = f"{NO_RESULT}. {end}" if end else NO_RESULT, "a run did not learn"
            if BY_CHANCE in why:
                end, cause = NO_CHOICE, "a learning rate was chosen by chance"
        return Verdict("undecided", f"{why}. {end}" if end else why, cause, parts + (((end, ()),) if end else ()))

    def _found(self, one: Condition, claim: Claim, evidence: Evidence) -> Found:
        """What one condition of a claim says; nothing where what it rests on did not learn."""
        try:
            return Case(one, listed(one.tables) or listed(claim.tables), evidence, self.names).found()
        except Unlearned as reason:
            return Found((NOTHING,), str(reason))

    def verdict(self, name: str, evidence: Evidence, printed: Evidence) -> Verdict:
        """The verdict on a claim from ours and from the paper's own numbers: what those do not bear out cannot be
        reproduced."""
        found = self.judge(name, evidence)
        if found.outcome != "reproduced" or name in self.counted():
            return found
        own = self.judge(name, printed).outcome
        return (
            Verdict("undecided", f"{found.why}. Ours bear it out, {AGAINST}", AGAINST) if own == "contradicted" else found
        )

    def own(self, name: str, printed: Evidence, doubted: Evidence) -> tuple[str, tuple[Verdict, ...]]:
        """What the paper's own printed numbers say of its claim, at first and, if that is something else, once more after
        the doubt: in words, and the verdicts."""
        first, again = self.judge(name, printed), self.judge(name, doubted)
        if name in self.counted() or first.outcome not in OWN:
            return "not printed", ()
        text = f"{OWN[first.outcome]}: {first.why}"
        if again == first:
            return text, (first,)
        return f"{text}. {self.again[0]} they {OWN[again.outcome]}: {again.why}", (first, again)

    def judged(self, sources: Mapping[str, Sequence[dict]], claims: Sequence[str] | None = None) -> list[Judged]:
        """Claims with their verdicts, in order. claims: ids; None for all.

        Raises:
            UsageError: no such claim.
        """
        evidence, printed, doubted, found = self.from_records(sources), self.from_paper(), self.again[1](), []
        for name in self.claims if claims is None else claims:
            verdict = self.verdict(name, evidence, printed)
            found.append(Judged(self.claims[name], verdict, *self.own(name, printed, doubted)))
        return found

    def changes(self, judged: Sequence[Judged]) -> pd.DataFrame:
        """See `changes`, for this paper."""
        before, rows = read_table(FOLDER / self.paper / "verdicts_before.csv").set_index("id"), []
        for claim, now in ((one.claim, one.verdict) for one in judged):
            old = before["verdict"].get(claim.id, "not there")
            causes = [f"repeats {claim.repeats}, is not counted again"] if claim.repeats else []
            causes += (
                [now.cause or readable(now.why)] if old.replace("not reproduced", "contradicted") != now.outcome else []
            )
            rows.append(
                {
                    "id": claim.id,
                    "claim": claim.says,
                    "before": old,
                    "after": shown(claim, now),
                    "what changed it": "; ".join(causes),
                    "before, because": readable(before["ours"].get(claim.id, "")),
                    "after, because": f"see {claim.repeats}" if claim.repeats else readable(now.why),
                }
            )
        return pd.DataFrame(rows)


def shown(claim: Claim, verdict: Verdict) -> str:
    """The outcome, or the claim whose outcome is this one's, too."""
    return f"{SAME}{claim.repeats}" if claim.repeats else verdict.outcome


def table(judged: Sequence[Judged]) -> pd.DataFrame:
    """See `ledger`."""
    rows = []
    for claim, verdict, own in ((one.claim, one.verdict, one.own) for one in judged):
        see = f"see {claim.repeats}"
        rows.append(
            {
                "id": claim.id,
                "section": claim.section,
                "claim": claim.says,
                "verdict": shown(claim, verdict),
                "ours": see if claim.repeats else readable(verdict.why),
                "the paper's own numbers": see if claim.repeats else own,
            }
        )
    return pd.DataFrame(rows)


def with_ledger() -> list[str]:
    """The papers that have a file of claims."""
    return [name for name in papers() if (FOLDER / name / "claims.toml").is_file()]


def of(paper: str) -> Claims:
    """The claims of a paper.

    Raises:
        UsageError: a paper without a ledger, or without its ``checks``.
    """
    judged = with_ledger()
    if paper not in judged:
        raise UsageError(f"no claim ledger of {paper!r}: expected one of {', '.join(judged)}")
    checks = part(paper, "checks")
    if checks is None:
        raise UsageError(f"no checks of {paper!r} beside its claims.toml: expected a module of that name with CLAIMS")
    return checks.CLAIMS


def tally(table: pd.DataFrame) -> dict[str, int]:
    """How many claims of a ledger have each outcome, by `OUTCOMES` with underscores; how many were ``judged``, each once;
    and how many are ``repeats``, which are in no other number."""
    found = {outcome.replace(" ", "_"): int((table["verdict"] == outcome).sum()) for outcome in OUTCOMES}
    repeats = int(table["verdict"].str.startswith(SAME).sum())
    return found | {"judged": len(table) - repeats, "repeats": repeats}


def doubts(judged: Sequence[Judged]) -> dict[str, int]:
    """How many claims, each counted once, the paper's own numbers do not bear out (``against``), and only before the doubt
    (``doubtful``)."""
    once = [one.printed for one in judged if not one.claim.repeats]
    against = [found for found in once if found and found[0].outcome == "contradicted"]
    doubtful = [found for found in once if found not in against and found[1:] and found[1].outcome != found[0].outcome]
    return {"against": len(against), "doubtful": len(doubtful)}


def printed(paper: str, statement: str) -> float:
    """A number that the paper prints in a sentence, by its id in statements.csv."""
    return float(paper_table(paper, "statements").set_index("id").loc[statement, "value"])


def margin(paper: str) -> dict[str, object]:
    """How far apart two scores of a paper may be and still be on par (``margin``), and ``why``."""
    return {"margin": about(paper).margin, "why": about(paper).margin_from}


def ledger(paper: str, sources: Mapping[str, Sequence[dict]], claims: Sequence[str] | None = None) -> pd.DataFrame:
    """One row a claim: id, section, claim, verdict, ours, the paper's own numbers.

    Args:
        paper: short name.
        sources: records by experiment (`peftlib.study.results`).
        claims: ids; None for all of the paper's.

    Raises:
        UsageError: a paper without a ledger, or no such claim.
    """
    return table(of(paper).judged(sources, claims))


def changes(paper: str, judged: Sequence[Judged]) -> pd.DataFrame:
    """The verdicts by the first rule of this book (``verdicts_before.csv``, with the commit that made it) beside those of
    today: id, claim, before, after, what changed it, and what each rests on. judged: of `Claims.judged`."""
    return of(paper).changes(judged)


def tallied(changed: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How many claims had and have each outcome: ``outcome``, and for each paper its counts ``before`` and ``after``. Those
    that repeat another were counted like others before. changed: of `changes`, by the paper's title."""
    rows = []
    for outcome in ("reproduced", "not reproduced", *OUTCOMES[1:], "repeats another"):
        row: dict[str, object] = {"outcome": outcome}
        for title, table in changed.items():
            again = table["after"].str.startswith(SAME)
            row[f"{title}, before"] = int((table["before"] == outcome).sum())
            row[f"{title}, after"] = int(again.sum() if outcome == "repeats another" else (table["after"] == outcome).sum())
        rows.append(row)
    return pd.DataFrame(rows)
