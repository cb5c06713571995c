"""The parameter columns of the Compacter paper (Tables 1, 2, 6, 7, 8, 9) and the formulae of its section 4, recounted.

Both columns are over the backbone's parameters with a vocabulary of 32,100 words, 222,882,048 for T5-Base (published
checkpoints are padded to 32,128):

    trained params / per task   (A + N + O) / D          total params   (T A + D) / D

A: what the method adds, biases included   N: all layer norms, where the method trains them   T: tasks, 8 or 6
O: in Table 7 the output layer, 32,100 x d   D: the backbone

So the totals leave out what every task trains of the backbone itself: the norms, and in Table 7 the output layer,
without which they print what Table 1 prints. With it, eight tasks would nearly double the model.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pandas as pd

from peftlib.accounting.counted import T5_WORDS, count, shape, unpadded
from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.expressions import skeleton
from peftlib.methods import Compacter, Houlsby, LayerNormTuning, PHMAdapter
from peftlib.papers import paper_table, rounds_to
from peftlib.papers.compacter.experiments import BOTTLENECK, expression


@dataclass(frozen=True)
class Table:
    """What a table counts: on which backbone, with which bottleneck, over how many tasks, with the output layer?"""

    backbone: str
    bottleneck: int
    tasks: int
    output_layer: bool = False


TABLES = {
    "table1": Table("t5-base", BOTTLENECK, 8),
    "table2": Table("t5-base", BOTTLENECK, 6),
    "table6": Table("t5-base", BOTTLENECK, 8),
    "table7": Table("t5-base", BOTTLENECK, 8, output_layer=True),
    "table8": Table("t5-base", BOTTLENECK, 6),
    "table9": Table("t5-small", 16, 8),
}
COLUMNS = (
    "method",
    "expression",
    "trained",
    "trained_percent",
    "trained_printed",
    "trained_agrees",
    "total",
    "total_printed",
    "total_agrees",
    "note",
)
NOTES = {  # why a cell disagrees
    ("table6", "PHM-Adapter (n=4)"): "Tables 2 and 8 print 0.240% and 0.24%, Table 7 prints 1.017 for it",
    **{("table6", f"Intrinsic-SAID (d'={d}K)"): "the total is that of d' = 20K" for d in ("0.4", "1.4", "2.5", "10")},
}
# Rows of Table 3, which measures, by their names elsewhere: section 5.5 has d' = 1400, and n = 4 throughout.
TABLE3_NAMES = {"Prompt Tuning": "Prompt Tuning-R", "Intrinsic-SAID": "Intrinsic-SAID (d'=1.4K)"}
TRAINS_NORMS = (
    "Houlsby",
    "PfeifferAttention",
    "AdapterDrop",
    "AdapterLowRank",
    "PHMAdapter",
    "Compacter",
    "CompacterPlusPlus",
)


def table(name: str) -> pd.DataFrame:
    """The rows of ``table1``, 2, 6, 7, 8 or 9: our counts beside the paper's two parameter columns.

    Columns: method, expression; trained (parameters) and its percent, total (a multiple of the backbone), for both the
    ``_printed`` text and whether ours ``_agrees``, that is rounds to it; note.

    Raises:
        UsageError: no such table.
    """
    if name not in TABLES:
        raise UsageError(f"no table compacter/{name} to count: expected one of {', '.join(TABLES)}")
    spec, rows = TABLES[name], []
    base = unpadded(shape(spec.backbone))
    for printed in paper_table("compacter", name).to_dict("records"):
        method = expression(printed["method"], spec.bottleneck)
        trained, added = trained_and_added(method, spec)
        row = {
            "method": printed["method"],
            "expression": method,
            "trained": trained,
            "trained_percent": 100 * trained / base,
            "trained_printed": printed["trained_printed"],
            "total": float(spec.tasks) if added == base else 1 + spec.tasks * added / base,
            "total_printed": printed["total_printed"],
        }
        row |= {
            "trained_agrees": rounds_to(row["trained_percent"], row["trained_printed"]),
            "total_agrees": rounds_to(row["total"], row["total_printed"].removesuffix("×1")),
        }
        agrees = row["trained_agrees"] and row["total_agrees"]
        rows.append(row | {"note": "" if agrees else NOTES.get((name, printed["method"]), "")})
    return pd.DataFrame(rows, columns=COLUMNS)


def trained_and_added(method: str, spec: Table) -> tuple[int, int]:
    """Parameters trained for a task, and those that a task adds to the shared backbone."""
    sizes, name = shape(spec.backbone), skeleton(method)
    if name == "Full":
        return unpadded(sizes), unpadded(sizes)
    added = built(method, spec.backbone)
    if name == "BitFit":
        added += T5_WORDS  # the bias of the output layer, which no backbone has here
    beside = T5_WORDS * sizes.width if spec.output_layer else 0
    if name in TRAINS_NORMS:
        norms = LayerNormTuning().formula(sizes)
        added, beside = added - norms, beside + norms
    return added + beside, added


@functools.cache
def built(method: str, backbone: str) -> int:
    """Trainable parameters of a model without weights; the tables repeat their rows."""
    return count(method, backbone).trainable


def table3_rows() -> dict[str, str]:
    """The rows of Table 3 -> the expressions that section 5.5 measures."""
    return {name: expression(TABLE3_NAMES.get(name, name)) for name in paper_table("compacter", "table3")["method"]}


@functools.cache
def measured_share(row: str) -> float:
    """Percent of T5-Base that a row of Table 3 trains as section 5.5 configures it, counted as the paper counts."""
    own, _ = trained_and_added(table3_rows()[row], TABLES["table1"])
    return 100 * own / unpadded(shape("t5-base"))


def weights() -> int:
    """Bytes of T5-Base's weights in fp32."""
    return shape("t5-base").total * 4


# --- section 4 --------------------------------------------------------------------------------------------------------
def section4(shape: Shape, a: int, n: int) -> pd.DataFrame:
    """The paper's formulae beside what is built. L counts the blocks of both stacks, k is the width, a its d.

    Columns: method, formula; paper (its value), biases (2L(k + a), which the formulae leave out), norms (left out,
    too), built (trainable parameters of our method). paper + biases + norms is built, exactly: that of PHM-Adapter has
    one rule of n^3 for each of its 4L matrices, that of Compacter one in all.
    """
    L, k = shape.layers, shape.width
    norms, biases = LayerNormTuning().formula(shape), 2 * L * (k + a)
    rows = [
        ("Adapter", "2L(2ka)", 2 * L * 2 * k * a),
        ("PHM-Adapter", "4L(ka/n + n^3)", 4 * L * (k * a // n + n**3)),
        ("Compacter", "4L(k + a) + n^3", 4 * L * (k + a) + n**3),
    ]
    built = {
        "Adapter": Houlsby(bottleneck=a, train_norms=True),
        "PHM-Adapter": PHMAdapter(n=n, bottleneck=a),
        "Compacter": Compacter(n=n, bottleneck=a),
    }
    return pd.DataFrame(
        [
            {
                "method": name,
                "formula": text,
                "paper": value,
                "biases": biases,
                "norms": norms,
                "built": built[name].formula(shape),
            }
            for name, text, value in rows
        ]
    )


COUNTED = {name: functools.partial(table, name) for name in TABLES}
