"""X-PEFT's tables of scores: its rows beside a single adapter and a head alone, the paper's and ours."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from peftlib.papers.xpeft.checks import printed_scores
from peftlib.papers.xpeft.rows import HEAD, SINGLE
from peftlib.report import suites
from peftlib.report.tables import by_label, frame, less, scores

ENDS = {"to adapter": SINGLE, "to head": HEAD}


def averages(name: str, source: Sequence[dict]) -> pd.DataFrame:
    """One row a method: ``method``; the mean over all numbers of informative tasks that the paper prints and we have, of
    its own (``same tasks``) and of ours (``average``); ``to adapter`` and ``to head``, what that is more than a single
    adapter's and a head's alone; ``n`` seeds. None where something that ours needs has not been run.

    name: the experiment.
    """
    printed = pd.DataFrame(printed_scores(name)).T
    both = {key: suites.printed_column(key) for key in suites.averaged_keys(source)}
    both = {key: column for key, column in both.items() if column in printed}
    paper = printed[list(both.values()) or list(printed)].mean(axis=1)
    groups, rows = by_label(source), []
    ours = {label: scores(groups.get(label, []), tuple(both), "test") if both else None for label in paper.index}
    for label in paper.index:
        row: dict[str, object] = {"method": label, "same tasks, paper": float(paper[label]), "average, ours": ours[label]}
        for title, end in ENDS.items():
            row[f"{title}, paper"] = float(paper[label] - paper[end])
            row[f"{title}, ours"] = less(ours[label], ours[end])
        rows.append(row | {"n": suites.seeds(groups.get(label, []))})
    return frame(rows)


def formats(found: pd.DataFrame) -> dict:
    """Scores with three digits, differences with a sign."""
    signed = [column for column in found.columns if column.startswith(tuple(ENDS))]
    return dict.fromkeys(found.columns, ".3f") | dict.fromkeys(signed, "+.3f") | {"trained, %": ".4f"}


def tally(both: pd.DataFrame, what: str) -> dict[str, int | None]:
    """Of a table of `averages`: for how many rows of X-PEFT the difference is above zero; see
    `peftlib.report.suites.tally`. what: of `ENDS`."""
    return suites.tally(both[~both["method"].isin(ENDS.values())], what, lambda gap: gap > 0)
