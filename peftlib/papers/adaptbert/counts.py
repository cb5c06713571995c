"""The parameter columns of AdaptBert's Table 3, recounted on a BERT-base without weights."""

from __future__ import annotations

import functools

import pandas as pd

from peftlib.accounting import BERT
from peftlib.accounting.counted import count
from peftlib.expressions import names
from peftlib.methods import AdaptBertHypernet
from peftlib.methods.base import parse
from peftlib.papers import paper_table, rounds_to
from peftlib.papers.adaptbert.experiments import TABLE3


@functools.cache
def updated_and_stored(method: str) -> tuple[float, int]:
    """What the two parameter columns of the paper's tables count, on BERT-base with three tasks, heads apart.

    "Updated per task": what all tasks share and one task's copy; of a hypernetwork a third of the whole. "Additional
    stored": everything kept for three tasks beside one backbone, which full fine-tuning replaces: nothing.
    """
    whole = count(method, BERT, 3)
    if isinstance(parse(method), AdaptBertHypernet):
        return whole.stored / 3, whole.stored
    return count(method, BERT, 1).trainable, whole.stored if whole.changed < whole.total else 0


def table3() -> pd.DataFrame:
    """The 19 rows of Table 3: our counts, their percentages of BERT-base, and the paper's two columns.

    Columns: method, expression; for ``updated`` and ``stored`` each the count, ``_percent``, ``_printed`` (the paper's
    text) and ``_agrees`` (rounded as printed). `peftlib.papers.adaptbert.denominators` examines the cells that disagree.
    """
    paper, total, rows = paper_table("adaptbert", "table3").set_index("method"), count("HeadOnly()", BERT).total, []
    for name, (method, _) in TABLE3.items():
        row: dict[str, object] = {"method": name, "expression": method}
        for column, number in zip(("updated", "stored"), updated_and_stored(method), strict=True):
            percent, printed = 100 * number / total, paper.loc[name, f"{column}_printed"]
            row |= {
                column: number,
                f"{column}_percent": percent,
                f"{column}_printed": printed,
                f"{column}_agrees": rounds_to(percent, printed),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def beside_paper(table: pd.DataFrame) -> pd.DataFrame:
    """`table3` for readers: counts on BERT-base, percentages as the paper rounds
    them beside the printed ones, and whether they agree."""
    rows = []
    for row in table.to_dict("records"):
        shown = {"method": row["method"]}
        for name in ("updated", "stored"):
            shown |= {
                f"{name}, count": round(row[name]),
                f"{name}, ours": f"{row[f'{name}_percent']:.2f}%",
                f"{name}, paper": row[f"{name}_printed"],
                f"{name}, agree": "yes" if row[f"{name}_agrees"] else "no",
            }
        rows.append(shown)
    return pd.DataFrame(rows)


def of_method(method: str) -> list[dict]:
    """Rows of Table 3 with the same methods, whatever their sizes, as `peftlib.report.methods.printed` shows them."""
    paper, rows = paper_table("adaptbert", "table3").set_index("method"), []
    for name, (expression, _) in TABLE3.items():
        if names(expression) == names(method):
            percent = 100 * updated_and_stored(expression)[0] / count("HeadOnly()", BERT).total
            text = paper.loc[name, "updated_printed"]
            rows.append(
                {
                    "paper": "adaptbert",
                    "row": name,
                    "configuration": expression,
                    "backbone": BERT,
                    "printed": text,
                    "ours": f"{percent:.2f}",
                    "agree": "yes" if rounds_to(percent, text) else "no: see the errata",
                }
            )
    return rows


COUNTED = {"table3": table3}
