"""Beyond HyperFormer's tables: schemes of sharing with as many numbers each, and the run whose task embeddings Figure 3
draws."""

from __future__ import annotations

import dataclasses

from peftlib.accounting.counted import count
from peftlib.grids import EXPERIMENTS, Preset, experiment
from peftlib.papers.hyperformer.rows import METHODS, REDUCTION, TRANSFERRED, at_size
from peftlib.records import Run

PLUSPLUS = METHODS["HyperFormer++"].format(r=REDUCTION)
PAPERS = TRANSFERRED[-1]  # HyperFormer++ in Tables 1 and 2
TABLE1, TABLE2 = "hyperformer/table1", "hyperformer/table2"
BUDGET = "HyperFormer++"  # whose numbers every scheme has
# What tasks share, by the size n that makes a scheme as large as HyperFormer++. All train the backbone's norms, too. What
# the two other hypernetworks write from has few numbers, or there would be none left for a bottleneck.
SCHEMES = {
    "one adapter for all tasks": "Houlsby(bottleneck={n}, train_norms=True)",
    "LoRA for all tasks": "LoRA(rank={n}) + LayerNormTuning()",
    "an adapter for every task": "TaskAdapters(bottleneck={n})",
    "AdaptBert's hypernetwork": "AdaptBertHypernet(bottleneck={n}, task_dim=8) + LayerNormTuning()",
    "HyperFormer": "HyperFormer(bottleneck={n}, task_dim=2)",
}
# What `sized` finds for the backbones and numbers of tasks of the presets, in the order of `SCHEMES`: runs are planned, and
# their records read, without torch, which counting needs.
SIZES = {
    ("minilm", 8): (76, 51, 9, 19, 22),
    ("minilm[:2]", 2): (230, 154, 114, 19, 68),
    ("t5-base", 8): (69, 31, 8, 73, 22),
}
ENDS = {"norms alone": "LayerNormTuning()", "heads alone": "HeadOnly()"}


def sized(scheme: str, backbone: str, tasks: int) -> int:
    """The size at which a scheme of `SCHEMES` trains most nearly as much as HyperFormer++ for all tasks together: counts
    grow in proportion to it."""
    one, two = (count(scheme.format(n=n), backbone, tasks).trainable for n in (1, 2))
    wanted = count(PLUSPLUS, backbone, tasks).trainable
    return max(1, 1 + round((wanted - one) / (two - one)))


def schemes(backbone: str, tasks: int) -> dict[str, str]:
    """All rows of the comparison: expression by label."""
    sizes = SIZES.get((backbone, tasks)) or [sized(scheme, backbone, tasks) for scheme in SCHEMES.values()]
    found = {name: scheme.format(n=n) for (name, scheme), n in zip(SCHEMES.items(), sizes, strict=True)}
    return {BUDGET: PLUSPLUS} | found | ENDS


@experiment("hyperformer/sharing")
def sharing(preset: Preset) -> list[Run]:
    """What is shared, at equal numbers: all tasks together, as HyperFormer++ of Table 1. Where answers are written there is
    no head to train alone."""
    (like,) = _rows(TABLE1, preset)
    return [
        dataclasses.replace(
            like, method=method, label=label, recipe=dataclasses.replace(like.recipe, lr=preset.learning_rate(method))
        )
        for label, method in schemes(preset.backbone, len(like.tasks)).items()
        if not (preset.form == "text" and method == "HeadOnly()")
    ]


@experiment("hyperformer/figure3", draws=r"__hypernet\.z\.[^.]+\.weight$")
def figure3(preset: Preset) -> list[Run]:
    """HyperFormer++ of Table 1, and what Table 2 makes of it with the most examples of each data set."""
    largest: dict[tuple[str, ...], Run] = {}
    for run in sorted(_rows(TABLE2, preset.at(TABLE2)), key=lambda run: run.limits[0] or 0):
        largest[run.tasks] = run
    return _rows(TABLE1, preset.at(TABLE1)) + list(largest.values())


def _rows(table: str, preset: Preset) -> list[Run]:
    """The runs of HyperFormer++ in an experiment, of whatever number of examples."""
    return [run for run in EXPERIMENTS[table](preset) if run.label in (PAPERS, at_size(PAPERS, run.limits[0] or 0))]
