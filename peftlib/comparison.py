"""Every method on one task: what its own page trains."""

from __future__ import annotations

from peftlib import catalogue
from peftlib.catalogue import About
from peftlib.grids import Preset, experiment, make_run
from peftlib.records import Run

# Expressions of several methods that have a page of their own, by the label of their row; and what no method says of them.
COMPOSITIONS = {
    "LoRA+Adapter": (
        "LoRA(rank=8) + PerTask(AdaptBertAdapter(bottleneck=64))",
        About("LoRA + adapter", "vermillion", "D", "-."),
    )
}

# One configuration a method, on one task: what each method's own page trains, and what they are compared by.
METHOD_RUNS: dict[str, str] = {name: entry.row for name, entry in catalogue.methods().items() if entry.row is not None} | {
    label: expression for label, (expression, _) in COMPOSITIONS.items()
}


@experiment("methods/sst")
def methods_on_sst(preset: Preset) -> list[Run]:
    """Every method on one task, single-task."""
    return [make_run(preset, method, ("sst",), label=label) for label, method in METHOD_RUNS.items()]
