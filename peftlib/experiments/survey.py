"""What the book says of its own tasks and of its own backbone."""

from __future__ import annotations

from peftlib.experiments.compacter import each_on_each, expression
from peftlib.records import Run
from peftlib.study import Preset, experiment

# Full fine-tuning, and rows of Compacter's tables, which train less and less.
ROWS = {"Full fine-tuning": "T5-Base", "Adapter": "Adapter", "PHM-Adapter (n=4)": "PHM-Adapter (n=4)", "BitFit": "BitFit",
        "Compacter (n=4)": "Compacter (n=4)"}

# What every method has to beat, and what all of them try to reach.
HARD = {"Head only": "HeadOnly()", "Full fine-tuning": "Full()"}


@experiment("survey/embedded")
def embedded(preset: Preset) -> list[Run]:
    """How hard the generated tasks are: a head on frozen features and full fine-tuning, for each task by itself."""
    return [run for suite in ("glue", "superglue") for run in each_on_each(preset, HARD, suite)]


@experiment("survey/t5_embedded")
def t5_embedded(preset: Preset) -> list[Run]:
    """Methods on the generated counterparts of GLUE, on the project's own T5."""
    return each_on_each(preset, {label: expression(row, 24) for label, row in ROWS.items()}, "glue")
