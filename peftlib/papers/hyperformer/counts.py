"""The parameter columns of HyperFormer's Tables 1 and 3, and the formulae of its section 4.1, recounted.

Both columns are over T5's parameters with a vocabulary of 32,100 words, 222,882,048 for T5-Base, and for T = 8 tasks:

    trained params / per task   multi-task (A + N) / T / D,  single-task (A + N) / D         total params   1 + A / D

A: what the method adds for all the tasks that it is trained on, biases included   N: T5's layer norms   D: T5

So the totals leave out the norms: trained for all tasks together, they take the places of T5's own.
"""

from __future__ import annotations

import functools

import pandas as pd

from peftlib.accounting.counted import count, shape, unpadded
from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.expressions import names
from peftlib.methods import HyperFormerPlusPlus, LayerNormTuning, TaskAdapters, parse
from peftlib.papers import paper_table, rounds_to
from peftlib.papers.hyperformer.rows import METHODS, REDUCTION, read

TASKS = 8
BACKBONES = {"Small": "t5-small", "Base": "t5-base"}
TABLES = {"table1": {}, "table3": {"Adapters†": 2}}  # reductions other than 32
LESS = "a hundredth of T5 less than the count, and than eight times the share beside it, {:.3f}"


def expression(row: str, reduction: int = REDUCTION) -> tuple[str, str, bool]:
    """The method of a row, its backbone, and whether it is trained on all tasks together.

    Raises:
        UsageError: no row of these tables.
    """
    found = read(row)
    return METHODS[found.method].format(r=reduction), BACKBONES[found.size], found.together


def table(name: str) -> pd.DataFrame:
    """The rows of ``table1`` or ``table3``: our counts beside the paper's two parameter columns.

    Columns: method, expression; trained (parameters for a task) and its percent, total (a multiple of T5), for both the
    ``_printed`` text and whether ours ``_agrees``, that is rounds to it; note.

    Raises:
        UsageError: no such table.
    """
    if name not in TABLES:
        raise UsageError(f"no table hyperformer/{name} to count: expected one of {', '.join(TABLES)}")
    rows = []
    for printed in paper_table("hyperformer", name).to_dict("records"):
        of, _, _ = printed["method"].partition("-")
        method, backbone, multi = expression(printed["method"], TABLES[name].get(of, REDUCTION))
        sizes = shape(backbone)
        base, everything = unpadded(sizes), method == "Full()"
        trained = base if everything else count(method, backbone, TASKS if multi else 1).trainable
        added = trained if everything else trained - LayerNormTuning().formula(sizes)
        share = trained / TASKS if multi else trained
        total = (1 + added / base if multi else 1 + TASKS * added / base) - everything
        row = {
            "method": printed["method"],
            "expression": method,
            "trained": round(share),
            "trained_percent": 100 * share / base,
            "trained_printed": printed["trained_printed"],
            "total": total,
            "total_printed": printed["total_printed"],
        }
        row |= {
            "trained_agrees": rounds_to(row["trained_percent"], row["trained_printed"]),
            "total_agrees": _total_agrees(total, row["total_printed"]),
        }
        by_share = 1 + TASKS * float(row["trained_printed"].rstrip("%")) / 100
        rows.append(row | {"note": "" if row["total_agrees"] else LESS.format(by_share)})
    return pd.DataFrame(rows)


def _total_agrees(total: float, printed: str) -> bool:
    """Of a multiple, or "1+8x0.01", one backbone and the multiple that each task adds."""
    if "+" not in printed:
        return rounds_to(total, printed)
    _, one = printed.split("x")
    return rounds_to((total - 1) / TASKS, one)


def of_method(method: str) -> list[dict]:
    """Rows of both tables with the same method, whatever its sizes, as `peftlib.report.methods.printed` shows them."""
    rows = [row for name in TABLES for row in table(name).to_dict("records") if names(row["expression"]) == names(method)]
    return [
        {
            "paper": "hyperformer",
            "row": name,
            "configuration": row["expression"],
            "backbone": expression(name)[1],
            "printed": row["trained_printed"],
            "ours": f"{row['trained_percent']:.2f}",
            "agree": "yes" if row["trained_agrees"] else "no: see the errata",
        }
        for (name, _), row in {(row["method"], row["expression"]): row for row in rows}.items()  # both have HyperFormer's
        if row["expression"] != "Full()"
    ]


def formula(text: str, sizes: Shape, tasks: int) -> int:
    """What a method of `METHODS` trains for all of `tasks`, by its closed form."""
    return parse(text.format(r=REDUCTION)).formula(sizes, tasks)  # type: ignore[attr-defined]  # a method with tasks


# --- section 4.1 ------------------------------------------------------------------------------------------------------
def section41(sizes: Shape, reduction: int = REDUCTION, tasks: int = TASKS) -> pd.DataFrame:
    """The paper's formulae beside what is built. L counts the blocks of one stack, h is the width, d the bottleneck.

    Columns: method, formula; paper (its value), biases (and the layer norm behind the projectors, which the formulae leave
    out), norms (of T5, left out, too), built (what is trained for all tasks). paper + biases + norms is built, exactly.
    """
    L, h, t, e = sizes.encoder_layers, sizes.width, 64, 128
    d, T, norms = h // reduction, tasks, LayerNormTuning().formula(sizes)
    adapters, network = TaskAdapters(reduction, shared_norms=False), HyperFormerPlusPlus(reduction)
    bias_generators = t * (h + d) + 2 * h * d + h + d + 2 * h  # W of b_U and b_D, and the biases of all W
    rows = [
        ("Adapters", "4TL(2hd + 2h)", 4 * T * L * (2 * h * d + 2 * h), 4 * T * L * (h + d), T * norms, adapters),
        (
            "HyperFormer++",
            "t(T + 4 + 2L) + 8te + 2t(2hd + 2h)",
            t * (T + 4 + 2 * L) + 8 * t * e + 2 * t * (2 * h * d + 2 * h),
            2 * (bias_generators + e + t + 2 * t),
            norms,
            network,
        ),
    ]
    return pd.DataFrame(
        [
            {
                "method": name,
                "formula": text,
                "paper": value,
                "biases": biases,
                "norms": left_out,
                "built": method.formula(sizes, tasks),
            }
            for name, text, value, biases, left_out, method in rows
        ]
    )


COUNTED = {name: functools.partial(table, name) for name in TABLES}
