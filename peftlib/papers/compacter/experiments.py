"""Compacter: the runs behind its tables and figures, each method on each task of GLUE or SuperGLUE by itself.

A row keeps its printed name as label, whatever the task; what the presets change for this paper is in presets.json.
"""

from __future__ import annotations

import re

from peftlib.grids import Preset, each_on_each, experiment
from peftlib.papers import paper_table
from peftlib.records import Run

FULL = "T5-Base"  # how most tables call full fine-tuning, whatever the backbone
BOTTLENECK = 24  # of adapters on T5-Base; 16 on T5-Small
# Printed name -> expression. {a}: the bottleneck. {n}: the number in the printed name's brackets. {drop}: see `DROPPED`.
EXPRESSIONS = {
    FULL: "Full()",
    "T5-Small": "Full()",
    "Adapter": "Houlsby(bottleneck={a}, train_norms=True)",
    "Pfeiffer-Adapter": "PfeifferAttention(bottleneck={a}, train_norms=True)",
    "AdapterDrop": "AdapterDrop(bottleneck={a}, train_norms=True, drop={drop})",
    "Adapter-LowRank": "AdapterLowRank(bottleneck={a})",
    "Prompt Tuning-R": "PromptTuning(length=100)",
    "Prompt Tuning-T": "PromptTuning(length=100, init='vocabulary')",
    "Intrinsic-SAID": "IntrinsicSAID(dimension={n})",
    "BitFit": "BitFit()",
    "PHM-Adapter": "PHMAdapter(n={n}, bottleneck={a})",
    "Compacter": "Compacter(n={n}, bottleneck={a})",
    "Compacter++": "CompacterPlusPlus(n={n}, bottleneck={a})",
}
# Blocks without adapters at the bottom of a stack: the paper's 5 of 12 (and of T5-Small's 6), fewer where there are fewer.
DROPPED = {"minilm": 2, "minilm[:3]": 1, "minilm[:2]": 1, "t5-embedded": 1}


def expression(printed: str, bottleneck: int = BOTTLENECK, drop: int = 5) -> str:
    """The expression of a row by its printed name, ``PHM-Adapter (n=12)`` or ``Intrinsic-SAID (d'=0.4K)``."""
    return EXPRESSIONS[printed.partition(" (")[0]].format(a=bottleneck, n=size_of(printed), drop=drop)


def size_of(printed: str) -> int:
    """The number in a printed name's brackets, n or d'; without brackets n = 4 and d' = 20K, as in most tables."""
    name, _, bracket = printed.partition(" (")
    size = re.search(r"=([\d.]+)(K?)", bracket)
    usual = 20_000 if name == "Intrinsic-SAID" else 4
    return round(float(size[1]) * (1000 if size[2] else 1)) if size else usual


def table3_row(label: str) -> str:
    """The row of Table 3 that a row of Table 1 has: without its numbers, and one for both starts of a prompt."""
    return re.sub(r" \(.*\)$|-[RT]$", "", label)


def rows_of(preset: Preset, table: str, bottleneck: int = BOTTLENECK) -> dict[str, str]:
    """The rows of a printed table: label -> expression for the preset's backbone."""
    drop = DROPPED.get(preset.backbone, 5)
    return {label: expression(label, bottleneck, drop) for label in paper_table("compacter", table)["method"]}


@experiment("compacter/table1")
def table1(preset: Preset) -> list[Run]:
    """Twelve methods on GLUE."""
    return each_on_each(preset, rows_of(preset, "table1"), "glue")


@experiment("compacter/table1_long")
def table1_long(preset: Preset) -> list[Run]:
    """Table 1 at what would decide its claims on par: larger training sets, epochs until full fine-tuning is flat, and
    more seeds, as the preset says."""
    return table1(preset)


@experiment("compacter/table2")
def table2(preset: Preset) -> list[Run]:
    """The same on SuperGLUE."""
    return each_on_each(preset, rows_of(preset, "table2"), "superglue")


@experiment("compacter/table6")
def table6(preset: Preset) -> list[Run]:
    """GLUE by n and by the dimension of Intrinsic-SAID."""
    return each_on_each(preset, rows_of(preset, "table6"), "glue")


@experiment("compacter/table7")
def table7(preset: Preset) -> list[Run]:
    """GLUE with the output layer trained, on a backbone that writes its answers: only there is the layer pretrained."""
    rows = {label: f"{method} + OutputLayer()" for label, method in rows_of(preset, "table7").items()}
    return each_on_each(preset, rows, "glue")


@experiment("compacter/table7_frozen")
def table7_frozen(preset: Preset) -> list[Run]:
    """The rows of Table 7 on the same backbone with the output layer frozen."""
    return each_on_each(preset, rows_of(preset, "table7"), "glue")


@experiment("compacter/table8")
def table8(preset: Preset) -> list[Run]:
    """SuperGLUE by n."""
    return each_on_each(preset, rows_of(preset, "table8"), "superglue")


@experiment("compacter/table9")
def table9(preset: Preset) -> list[Run]:
    """GLUE on a smaller backbone."""
    return each_on_each(preset, rows_of(preset, "table9", bottleneck=16), "glue")


@experiment("compacter/figure4")
def figure4(preset: Preset) -> list[Run]:
    """GLUE from few examples: full fine-tuning and Compacter++, as many steps for every size (appendix A)."""
    rows = {label: expression(label) for label in (FULL, "Compacter++ (n=4)")}
    return [
        run
        for size in preset.sizes
        for run in each_on_each(
            preset,
            {f"{label}, {size}": method for label, method in rows.items()},
            "glue",
            epochs=round(preset.epochs * max(preset.sizes) / size),
            limits=(size, *preset.limits_single[1:]),
        )
    ]


def _search(preset: Preset, table: str, suite: str, bottleneck: int = BOTTLENECK, ending: str = "") -> list[Run]:
    """Every method of a printed list of learning rates at every rate of the preset's grid, which may be empty."""
    return [
        run
        for label, method in rows_of(preset, table, bottleneck).items()
        for lr in preset.search_lr
        for run in each_on_each(preset, {label: method + ending}, suite, lr=lr)
    ]


@experiment("compacter/table4")
def table4(preset: Preset) -> list[Run]:
    """The search behind Table 1's learning rates."""
    return _search(preset, "table4", "glue")


@experiment("compacter/table5")
def table5(preset: Preset) -> list[Run]:
    """The search behind Table 7's, with the output layer trained."""
    return _search(preset, "table5", "glue", ending=" + OutputLayer()")


@experiment("compacter/table10")
def table10(preset: Preset) -> list[Run]:
    """The search behind Table 9's, on the smaller backbone."""
    return _search(preset, "table10", "glue", bottleneck=16)


@experiment("compacter/table11")
def table11(preset: Preset) -> list[Run]:
    """The search behind Table 2's, on SuperGLUE."""
    return _search(preset, "table11", "superglue")


@experiment("compacter/rates_near")
def rates_near(preset: Preset) -> list[Run]:
    """The second step of Table 1's search: a row at the rate that the first step found, at a third and at three times of
    it, for twice the steps."""
    if not preset.search_lr:
        return []
    return [
        run
        for label, method in rows_of(preset, "table1").items()
        for factor in (1 / 3, 1, 3)
        for lr in [float(f"{preset.learning_rate(method) * factor:.3g}")]
        for run in each_on_each(preset, {label: method}, "glue", lr=lr)
    ]
