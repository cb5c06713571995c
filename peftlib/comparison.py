"""Every method on the same tasks: what its own page trains, and what choosing one rests on; and the head alone on all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from peftlib import catalogue
from peftlib.catalogue import About
from peftlib.expressions import names
from peftlib.grids import Preset, each_on_each, experiment, experiments, searches_rates, trained_runs
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
# What figures call a row that is made for a backbone, by its methods, each once.
MADE = {"PfeifferFFN + LoRA + PrefixTuning + BitFit": About("S4", "orange", "*", ":")}
# What `expression` of the survey's spindle gives, which needs torch, on the backbones that presets compare methods on.
S4 = {
    "minilm": (
        "Layers(PfeifferFFN(bottleneck=12) + LoRA(rank=6, sites=('query', 'value')), stop=1) + "
        "Layers(PfeifferFFN(bottleneck=12) + PrefixTuning(length=12, mlp=None), start=1, stop=3) + "
        "Layers(BitFit() + PfeifferFFN(bottleneck=9) + PrefixTuning(length=9, mlp=None), start=3, stop=5) + "
        "Layers(BitFit() + PrefixTuning(length=9, mlp=None) + LoRA(rank=5, sites=('query', 'value')), start=5, stop=6)"
    ),
    "bert-base-uncased": (
        "Layers(PfeifferFFN(bottleneck=14) + LoRA(rank=7, sites=('query', 'value')), stop=2) + "
        "Layers(PfeifferFFN(bottleneck=14) + PrefixTuning(length=15, mlp=None), start=2, stop=6) + "
        "Layers(BitFit() + PfeifferFFN(bottleneck=12) + PrefixTuning(length=12, mlp=None), start=6, stop=10) + "
        "Layers(BitFit() + PrefixTuning(length=12, mlp=None) + LoRA(rank=6, sites=('query', 'value')), start=10, stop=12)"
    ),
}
SUITE = "cs224n"  # of whose tasks a preset takes some
HEADS = "methods/heads"


@experiment("methods/compared")
def compared(preset: Preset) -> list[Run]:
    """Every method on each of a few tasks by itself, at its own learning rate, as many steps for all."""
    return each_on_each(preset, rows(preset), SUITE)


@experiment("methods/rates")
def rates(preset: Preset) -> list[Run]:
    """The search behind these rates."""
    return search(preset, rows(preset))


def rows(preset: Preset) -> dict[str, str]:
    """Expression by label: every method's, and S4's, which is made for a backbone, where it is."""
    return METHOD_RUNS | ({"S4": S4[preset.backbone]} if preset.backbone in S4 else {})


def search(preset: Preset, rows: Mapping[str, str]) -> list[Run]:
    """Rows at every rate that is tried: three tenths of the data once, in batches of 16, or there would be too few steps to
    tell rates apart. In fp32, so that a rate that is too high fails by itself. rows: expression by label."""
    limits = (*(limit and max(1, 3 * limit // 10) for limit in preset.limits_single[:1]), 300, 50)
    given: dict[str, Any] = {"epochs": 1, "batch_size": 16, "limits": limits, "precision": "fp32"}
    return [
        run
        for label, method in rows.items()
        for lr in searched(preset, method)
        for run in each_on_each(preset, {label: method}, SUITE, lr=lr, **given)
    ]


def searched(preset: Preset, method: str) -> list[float]:
    """The learning rates at which a search tries an expression: the preset's grid, moved as the smallest move of its
    methods says."""
    known = catalogue.methods()
    moved = min(known[name].about.rates for name in names(method))
    return [float(f"{rate * moved:.3g}") for rate in preset.search_lr]


@experiment(HEADS)
def heads(preset: Preset) -> list[Run]:
    """A head alone at each budget of all other experiments but searches: whoever ends below it did not learn. The first run
    of a budget decides what else the head's recipe says."""
    others = [trained_runs(name, preset) for name in experiments() if name != HEADS]
    found: dict[tuple, Run] = {}
    for run in (run for wanted in others if not searches_rates(wanted) for run in wanted):
        if run.recipe.form == "heads":  # what answers in words has none
            found.setdefault(budget(run), run)
    lr = preset.learning_rate("HeadOnly()")
    return [
        dataclasses.replace(
            run,
            method="HeadOnly()",
            recipe=dataclasses.replace(run.recipe, lr=lr),
            seed=0,
            label=_said(run),
            start=(),
            start_task="",
        )
        for run in found.values()
    ]


def _said(run: Run) -> str:
    """The budget of a run but for its tasks."""
    recipe = run.recipe
    rows = "/".join("all" if limit is None else str(limit) for limit in run.limits)
    steps = f" of {recipe.epoch_steps} steps" if recipe.epoch_steps else ""
    return f"head alone, {run.backbone}, {rows} rows, {recipe.epochs} epochs{steps}, {recipe.max_length} tokens"


def budget(run: Run) -> tuple:
    """What two runs share whose scores tell which of them learned more from the same."""
    recipe = run.recipe
    return (
        run.tasks,
        run.backbone,
        run.source,
        run.limits,
        recipe.epochs,
        recipe.epoch_steps,
        recipe.max_length,
        recipe.form,
    )
