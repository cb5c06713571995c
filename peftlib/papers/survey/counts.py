"""The parameter columns of the survey's Table 5, recounted: 14 methods and full fine-tuning on three sizes of T5.

A row's configuration is that of ``numbers/counts.csv``; a method that the library has not is not counted, and its row is
found as soon as it has one. Percentages are of the model's parameters before anything is added.
"""

from __future__ import annotations

import functools

import pandas as pd

from peftlib.accounting.counted import count, shape
from peftlib.errors import UsageError
from peftlib.expressions import names
from peftlib.methods.base import parse
from peftlib.papers import FOLDER, paper_table, read_table, rounds_to

BACKBONES = {"T5-Large": "t5-large", "T5-3B": "t5-3b", "T5-11B": "t5-11b"}
MILLION = 10**6
NOT_BUILT = "not built"


def built(expression: str) -> bool:
    """Does the library have the methods of an expression?"""
    try:
        return bool(names(expression))
    except UsageError:
        return False


@functools.cache
def configurations() -> dict[str, str]:
    """The rows of Table 5 whose method is built, with their expressions, in the table's order."""
    known = paper_table("survey", "counts").set_index("row")["expression"]
    printed = paper_table("survey", "table5")
    rows = [row for row in printed["model"] + " " + printed["method"] if row in known.index]
    return {row: known[row] for row in rows if built(known[row])}


def table5_rows() -> dict[str, str]:
    """What Table 5 calls its methods, with an expression: on all models the same method."""
    return {row.partition(" ")[2]: method for row, method in configurations().items()}


@functools.cache
def table5() -> pd.DataFrame:
    """All rows of Table 5. Columns: model, method, expression; trained (exact, of a model without weights), formula (the
    method's closed form), trained_printed (millions), agrees (does it round to that?); percent, percent_printed,
    percent_agrees; note, why a count does not agree. None where the method is not built."""
    notes = paper_table("survey", "counts").set_index("row")["note"]
    as_text = read_table(FOLDER / "survey" / "numbers" / "table5.csv")
    rows = []
    for printed in as_text.to_dict("records"):
        row = f"{printed['model']} {printed['method']}"
        method = configurations().get(row)
        found = _counted(method, printed) if method else dict.fromkeys(COLUMNS)
        found |= {key: printed[key] for key in ("model", "method")}
        found |= {"trained_printed": printed["trainable"], "percent_printed": printed["trainable_percent"]}
        rows.append(found | {"expression": method or NOT_BUILT, "note": notes[row] if method else NOT_BUILT})
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


COLUMNS = (
    "model",
    "method",
    "expression",
    "trained",
    "formula",
    "trained_printed",
    "agrees",
    "percent",
    "percent_printed",
    "percent_agrees",
    "note",
)


def _counted(method: str, printed: dict[str, str]) -> dict[str, object]:
    backbone = BACKBONES[printed["model"]]
    found = count(method, backbone)
    percent = 100 * found.trainable / found.total
    return {
        "trained": found.trainable,
        "formula": parse(method).formula(shape(backbone)),  # type: ignore[attr-defined]  # of one method
        "agrees": rounds_to(found.trainable / MILLION, printed["trainable"]),
        "percent": percent,
        "percent_agrees": rounds_to(percent, printed["trainable_percent"]),
    }


COUNTED = {"table5": table5}
