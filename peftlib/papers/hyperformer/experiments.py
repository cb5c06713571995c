"""HyperFormer: the runs behind its tables of scores and Figure 2.

A row on all tasks is one run, whose tasks are drawn with temperature 10, and whose epoch of the highest mean over them
counts; a single-task row is a run a task. Rows keep their printed names; those of T5-Small have experiments of their own,
for which presets name a smaller backbone. What the presets change is in presets.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftlib.data.sources import available
from peftlib.errors import UsageError, short
from peftlib.grids import Preset, each_on_each, experiment, make_run, tasks_of
from peftlib.papers import paper_table
from peftlib.papers.hyperformer import rows, sharing
from peftlib.papers.hyperformer.rows import NEAREST, TRANSFERRED, at_reduction, at_size, expression
from peftlib.records import Run

TEMPERATURE = 10.0  # section 3
SUITES = ("transfer", "superglue")  # of Table 2's data sets


def together(preset: Preset, methods: Mapping[str, str], **given: Any) -> list[Run]:
    """Every row on all tasks of GLUE that the preset takes, in one run. methods: expression by label."""
    told: dict[str, Any] = {"sampling": "temperature", "temperature": TEMPERATURE} | given
    return [make_run(preset, method, _glue(preset), label=label, **told) for label, method in methods.items()]


def _glue(preset: Preset) -> tuple[str, ...]:
    """Raises UsageError for fewer than two tasks, which there is nothing to draw from."""
    tasks = tuple(tasks_of(preset, "glue"))
    if len(tasks) < 2:
        raise UsageError(
            f"preset {preset.name!r}: suites: glue: hyperformer trains on several tasks together, expected two or more, "
            f"got {', '.join(tasks)}"
        )
    return tasks


def _table1(preset: Preset, size: str) -> list[Run]:
    found = []
    for name in rows.rows_of(size):
        row = {name: expression(name)}
        found += together(preset, row) if rows.read(name).together else each_on_each(preset, row, "glue")
    return found


@experiment("hyperformer/table1")
def table1(preset: Preset) -> list[Run]:
    """GLUE on T5-Base: two rows a task by itself, four on all together."""
    return _table1(preset, "Base")


@experiment("hyperformer/table1_small")
def table1_small(preset: Preset) -> list[Run]:
    """The same on T5-Small."""
    return _table1(preset, "Small")


@experiment("hyperformer/rates")
def rates(preset: Preset) -> list[Run]:
    """The rows of Table 1 that write or share adapters for all tasks, at every rate of the preset's grid, which may be
    empty. At the rate that the table has they are its own runs."""
    read = {name: rows.read(name) for name in rows.rows_of("Base")}
    adapters = {name: expression(name) for name, row in read.items() if row.together and row.method != "T5"}
    return [run for lr in preset.search_lr for run in together(preset, adapters, lr=lr)]


@experiment("hyperformer/as_released")
def as_released(preset: Preset) -> list[Run]:
    """Adapters† whose layer norms start as in the authors' code, whatever the backbone, at the same rates."""
    return [run for lr in preset.at("hyperformer/rates").search_lr for run in together(preset, rows.AS_RELEASED, lr=lr)]


def _table3(preset: Preset, size: str) -> list[Run]:
    adapters, ours = f"Adapters†-{size}", f"HyperFormer-{size}"
    return together(preset, {at_reduction(adapters, r): expression(adapters, r) for r in (2, 4)} | {ours: expression(ours)})


@experiment("hyperformer/table3")
def table3(preset: Preset) -> list[Run]:
    """Adapters† with more parameters than HyperFormer, on T5-Base; the paper prints the better one on validation."""
    return _table3(preset, "Base")


@experiment("hyperformer/table3_small")
def table3_small(preset: Preset) -> list[Run]:
    """The same on T5-Small."""
    return _table3(preset, "Small")


@experiment("hyperformer/table4")
def table4(preset: Preset) -> list[Run]:
    """HyperFormer on T5-Small without one of its parts."""
    return together(preset, rows.VARIANTS)


def _table7(preset: Preset, size: str) -> list[Run]:
    name = f"HyperFormer++-{size}"
    return together(preset, {at_reduction(name, r): expression(name, r) for r in (8, 16, 32)})


@experiment("hyperformer/table7")
def table7(preset: Preset) -> list[Run]:
    """HyperFormer++ by the reduction factor, on T5-Base."""
    return _table7(preset, "Base")


@experiment("hyperformer/table7_small")
def table7_small(preset: Preset) -> list[Run]:
    """The same on T5-Small."""
    return _table7(preset, "Small")


@experiment("hyperformer/table2")
def table2(preset: Preset) -> list[Run]:
    """Few-shot transfer: runs of one data set with few examples that begin with what a row of Table 1 has learnt. Of the
    paper's sizes those that the preset has."""
    above = preset.at(sharing.TABLE1)
    parents = {run.label: run for run in together(above, {name: expression(name) for name in TRANSFERRED})}
    found = []
    for task, real in datasets(preset).items():
        for size in sizes_of(real):
            if size in preset.sizes:
                found += [
                    make_run(
                        preset,
                        parent.method,
                        (task,),
                        label=at_size(name, size),
                        limits=(size, *preset.limits_single[1:]),
                        start=(parent,),
                        start_task=nearest(preset, real),
                    )
                    for name, parent in parents.items()
                ]
    return found


def nearest(preset: Preset, real: str) -> str:
    """The task of GLUE, or its stand-in, that a data set begins with. Raises UsageError if the preset does not take it."""
    task = available("glue", preset.source)[NEAREST[real]]
    if task not in _glue(preset):
        raise UsageError(
            f"preset {preset.name!r}: suites: {real} begins with {short(task)}, which glue must name, too; it names "
            f"{', '.join(_glue(preset))}"
        )
    return task


def datasets(preset: Preset) -> dict[str, str]:
    """Table 2's data sets that the preset takes, each by its name there or that of its stand-in, in the paper's order: the
    name in the paper."""
    there = {
        real: task
        for suite in SUITES
        for real, task in available(suite, preset.source).items()
        if task and task in tasks_of(preset, suite)
    }
    return {there[real]: real for real in NEAREST if real in there}


def sizes_of(real: str) -> list[int]:
    """The numbers of training examples that Table 2 has of a data set."""
    printed = paper_table("hyperformer", "table2")
    return [int(n) for n in printed[printed["dataset"].map(task_of) == real]["samples"]]


def task_of(dataset: str) -> str:
    """The task of a data set's printed name."""
    return dataset.lower().replace(" ", "_")


@experiment("hyperformer/figure2")
def figure2(preset: Preset) -> list[Run]:
    """GLUE from few examples of each task, as many steps for every number of them (section 3.3)."""
    return [
        run
        for size in preset.sizes
        for run in together(
            preset, {at_size(name, size): expression(name) for name in TRANSFERRED}, limits=(size, *preset.limits[1:])
        )
    ]
