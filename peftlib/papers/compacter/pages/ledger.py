"""What the page of the ledger says around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from IPython.display import Markdown

from peftlib.papers.compacter.checks import CLAIMS, from_paper
from peftlib.papers.compacter.checks.evidence import FEW, GLUE, SUPERGLUE
from peftlib.report import say
from peftlib.report.averages import TEST_ROWS, TINY, margin, rows_tested
from peftlib.report.tables import Html, frame, table


def doubts(ledger: pd.DataFrame) -> dict[str, int]:
    """How many claims the paper's own numbers do not bear out (``against``), and only with the tiny tasks
    (``doubtful``)."""
    said, no = ledger["the paper's own numbers"], "do not bear it out"
    against = said.str.startswith(no)
    doubtful = ~against & said.str.contains(f"{CLAIMS.again[0]} they {no}")
    return {"against": int(against.sum()), "doubtful": int(doubtful.sum())}


def margins(sources: Mapping[str, Sequence[dict]]) -> Html:
    """How far two averages may be apart and still count as alike: on this page's test splits, and on the paper's."""
    paper, rows = from_paper(), []
    for name, experiment, like in (("GLUE", GLUE, GLUE), ("SuperGLUE", SUPERGLUE, SUPERGLUE), ("few examples", FEW, GLUE)):
        found = rows_tested(sources[experiment])
        rows.append(
            {
                "suite": name,
                "test rows": ", ".join(f"{task} {n:,}" for task, n in found.items()),
                "margin, ours": margin(found),
                "margin, paper": paper.rows(like).margin,
            }
        )
    return table(
        frame(rows),
        caption="Two standard errors of an average, in points, by the number of test rows",
        formats=dict.fromkeys(("margin, ours", "margin, paper"), ".2f"),
    )


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
