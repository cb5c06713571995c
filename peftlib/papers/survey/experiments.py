"""What the book says of its own tasks and of its own backbone."""

from __future__ import annotations

from peftlib.grids import Preset, each_on_each, experiment
from peftlib.records import Run

# Full fine-tuning, and methods that train less and less.
ROWS = {
    "Full fine-tuning": "Full()",
    "Adapter": "Houlsby(bottleneck=24, train_norms=True)",
    "PHM-Adapter (n=4)": "PHMAdapter(n=4, bottleneck=24)",
    "BitFit": "BitFit()",
    "Compacter (n=4)": "Compacter(n=4, bottleneck=24)",
}
CROSS_ATTENTION = {"Cross-attention": "CrossAttentionTuning()"}  # which no comparison on an encoder can have

# What every method has to beat, and what all of them try to reach.
HARD = {"Head only": "HeadOnly()", "Full fine-tuning": "Full()"}


@experiment("survey/embedded")
def embedded(preset: Preset) -> list[Run]:
    """How hard the generated tasks are: a head on frozen features and full fine-tuning, for each task by itself."""
    return [run for suite in ("glue", "superglue") for run in each_on_each(preset, HARD, suite)]


@experiment("survey/t5_embedded")
def t5_embedded(preset: Preset) -> list[Run]:
    """Methods on the generated counterparts of GLUE, on the project's own T5."""
    return each_on_each(preset, ROWS, "glue")


@experiment("survey/crossattention")
def crossattention(preset: Preset) -> list[Run]:
    """Cross-attention tuning on the same tasks and backbone."""
    return each_on_each(preset, CROSS_ATTENTION, "glue")


@experiment("survey/crossattention_rates")
def crossattention_rates(preset: Preset) -> list[Run]:
    """The search behind its rate, trained as long."""
    return [run for lr in preset.search_lr for run in each_on_each(preset, CROSS_ATTENTION, "glue", lr=lr)]
