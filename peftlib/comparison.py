"""Every method on the same tasks: what its own page trains, and what choosing one rests on."""

from __future__ import annotations

from typing import Any

from peftlib import catalogue
from peftlib.catalogue import About
from peftlib.expressions import names
from peftlib.grids import Preset, each_on_each, experiment
from peftlib.records import Run

# Expressions of several methods that have a page of their own, by the label of their row; and what no method says of them.
COMPOSITIONS = {
    "LoRA+Adapter": (
        "LoRA(rank=8) + PerTask(AdaptBertAdapter(bottleneck=64))",
        About("LoRA + adapter", "vermillion", "D", "-."),
    )
}

# One configuration a method: what each method's own page trains, and what they are compared by.
METHOD_RUNS: dict[str, str] = {name: entry.row for name, entry in catalogue.methods().items() if entry.row is not None} | {
    label: expression for label, (expression, _) in COMPOSITIONS.items()
}
SUITE = "cs224n"  # of whose tasks a preset takes some


@experiment("methods/compared")
def compared(preset: Preset) -> list[Run]:
    """Every method on each of a few tasks by itself, at its own learning rate, as many steps for all."""
    return each_on_each(preset, METHOD_RUNS, SUITE)


@experiment("methods/rates")
def rates(preset: Preset) -> list[Run]:
    """The search behind these rates: three tenths of the data once, in batches of 16, or there would be too few steps to
    tell rates apart. In fp32, so that a rate that is too high fails by itself."""
    limits = (*(limit and max(1, 3 * limit // 10) for limit in preset.limits_single[:1]), 300, 50)
    given: dict[str, Any] = {"epochs": 1, "batch_size": 16, "limits": limits, "precision": "fp32"}
    return [
        run
        for label, method in METHOD_RUNS.items()
        for lr in searched(preset, method)
        for run in each_on_each(preset, {label: method}, SUITE, lr=lr, **given)
    ]


def searched(preset: Preset, method: str) -> list[float]:
    """The learning rates at which a search tries an expression: the preset's grid, moved as the smallest move of its
    methods says."""
    known = catalogue.methods()
    moved = min(known[name].about.rates for name in names(method))
    return [float(f"{rate * moved:.3g}") for rate in preset.search_lr]
