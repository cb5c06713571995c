"""Experiments are named grids of runs, one function each, that a preset scales. This finds them all, and the presets.

Light to import (no torch); a preset that leaves the precision to the machine asks torch for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from peftlib import catalogue, records
from peftlib.data.sources import available
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError, short
from peftlib.expressions import fields_of, parse
from peftlib.papers import FOLDER, papers, part
from peftlib.presets import Preset
from peftlib.records import Limit, Recipe, Run
from peftlib.schema import conform, near, read_json

PRECISIONS: tuple[Literal["bf16", "fp32"], ...] = ("bf16", "fp32")
# Times as long as in fp32 a step takes in bf16 without instructions for it: MiniLM with LoRA, one thread, AVX2.
EMULATION = 17
DEFAULT_TASKS = ("sst", "quora", "sts")  # of a run that names none

# --- experiments ------------------------------------------------------------------------------------------------------
Build = Callable[[Preset], list[Run]]
EXPERIMENTS: dict[str, Build] = {}
DRAWN: dict[str, str] = {}  # of experiments whose pages draw what their runs have learnt: a pattern of tensors' names


def experiment(name: str, draws: str = "") -> Callable[[Build], Build]:
    """Register a function that gives the runs of an experiment under a preset. name: paper/experiment. draws: a pattern of
    names; such tensors of the runs' deltas are kept beside their records, for pages that draw them."""

    def register(build: Build) -> Build:
        EXPERIMENTS[name] = build
        if draws:
            DRAWN[name] = draws
        return build

    return register


def experiments() -> dict[str, Build]:
    """All experiments by name: the comparison of all methods first, then paper by paper. A run that several experiments
    share is trained by the first."""
    importlib.import_module("peftlib.comparison")
    for paper in papers():
        part(paper, "experiments")
    return EXPERIMENTS


# --- presets ----------------------------------------------------------------------------------------------------------
@functools.cache
def presets() -> dict[str, Preset]:
    """All presets by name: ``peftlib/presets.json``, with what each paper's ``presets.json`` changes.

    Raises:
        UsageError: one of these files holds something that cannot be used; names the file, the preset and the value.
    """
    own = {paper: FOLDER / paper / "presets.json" for paper in papers()}
    return read_presets(FOLDER.parent / "presets.json", {paper: path for paper, path in own.items() if path.is_file()})


def read_presets(general: Path, own: Mapping[str, Path]) -> dict[str, Preset]:
    """The presets of a file, by name, with the changes that papers make, checked.

    Args:
        general: {preset: its fields}.
        own: by paper, a file {preset: {the paper or one of its experiments: fields that differ}}.

    Raises:
        UsageError: names the file, the preset and the value that cannot be used.
    """
    known = _parts(*{name.split("/")[0] for name in experiments()} - set(papers()))
    content = conform(read_json(general), dict[str, dict[str, Any]], f"{general}: ")
    with _naming(general):
        found = {
            name: conform({**fields, "name": name}, Preset, f"preset {short(name)}: ") for name, fields in content.items()
        }
        for preset in found.values():
            _check_changes(preset, preset.changes, known, "outside papers, whose changes stand in their own presets.json")
            for backbone in preset.backbones:
                preset.on(backbone)
    for paper, path in own.items():
        changes = conform(read_json(path), dict[str, dict[str, dict[str, Any]]], f"{path}: ")
        with _naming(path):
            for name, given in changes.items():
                if name not in found:
                    raise UsageError(f"{short(name)} is no preset{near(name, found)}")
                found[name] = dataclasses.replace(found[name], changes=found[name].changes | given)
                _check_changes(found[name], given, _parts(paper), f"of {paper}")
    with _naming(general):
        for preset in found.values():
            used = {preset.backbone, *(given["backbone"] for given in preset.changes.values() if "backbone" in given)}
            for backbone in set(preset.backbones) - used:
                raise UsageError(
                    f"preset {preset.name!r}: backbones: {short(backbone)} is that of no experiment{near(backbone, used)}"
                )
    return found


def _parts(*groups: str) -> set[str]:
    """What presets can change: groups of experiments (a paper's are one), as a whole and each."""
    return {*groups, *(name for name in experiments() if name.split("/")[0] in groups)}


def _check_changes(preset: Preset, changes: Iterable[str], known: set[str], whose: str) -> None:
    for name in changes:
        if name not in known:
            raise UsageError(f"preset {preset.name!r}: changes: {short(name)} is no experiment {whose}{near(name, known)}")
        preset.at(name)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors name the file."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: unknown; names the known ones.
    """
    known = presets()
    if name not in known:
        raise UsageError(f"unknown preset {short(name)}: expected one of {', '.join(known)}")
    return known[name]


# --- runs -------------------------------------------------------------------------------------------------------------
def make_run(
    preset: Preset,
    method: str,
    tasks: tuple[str, ...] = DEFAULT_TASKS,
    *,
    label: str = "",
    seed: int = 0,
    limits: tuple[Limit, ...] | None = None,
    start: Iterable[Run] | None = None,
    start_task: str = "",
    **recipe: Any,
) -> Run:
    """A run as the preset would do it. start, start_task: see `peftlib.records.Run`; None: what the method cannot do
    without, see `start_of`. recipe: fields that differ."""
    given: dict[str, Any] = {
        "lr": preset.learning_rate(method),
        "epochs": preset.epochs,
        "epoch_steps": preset.epoch_steps,
        "batch_size": preset.batch_size,
        "max_length": preset.max_length,
        "form": preset.form,
        "precision": native_precision() if preset.precision == "auto" else preset.precision,
    }
    if len(tasks) > 1:  # in a run of one task there is nothing to sample
        given["sampling"] = preset.sampling
    limits = limits or (preset.limits if len(tasks) > 1 else preset.limits_single)
    return Run(
        method=method,
        tasks=tuple(tasks),
        backbone=preset.backbone,
        source=preset.source,
        recipe=Recipe(**given | recipe),
        seed=seed,
        limits=tuple(limits),  # type: ignore[arg-type]  # `Run` looks at them
        label=label or method,
        start=start_of(preset, method, tuple(tasks), seed) if start is None else tuple(start),
        start_task=start_task,
    )


def each_on_each(preset: Preset, rows: dict[str, str], suite: str, **recipe: Any) -> list[Run]:
    """Runs of every row on every task that the preset takes of a suite, one run each. rows: expression by label."""
    tasks = tasks_of(preset, suite)
    return [make_run(preset, method, (task,), label=label, **recipe) for label, method in rows.items() for task in tasks]


def tasks_of(preset: Preset, suite: str) -> list[str]:
    """The tasks that the preset takes of a suite."""
    return preset.suites.get(suite) or _available(preset, suite)


def _available(preset: Preset, suite: str) -> list[str]:
    return [there for there in available(suite, preset.source).values() if there]


def _others(preset: Preset, tasks: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(task for task in _available(preset, get_task(tasks[0]).suite) if task not in tasks)


def start_of(preset: Preset, method: str, tasks: tuple[str, ...], seed: int = 0) -> tuple[Run, ...]:
    """The runs that a method begins from which cannot begin by itself, as its ``about`` says; with its hyperparameters,
    where they have some of the same name. Other tasks are all others of the suite that the source has."""
    known = catalogue.methods()
    for leaf, _ in parse(method).leaves():
        if leaf.name not in known or not known[leaf.name].about.start:
            continue
        about = known[leaf.name].about
        if about.start_on == "others":
            on = [_others(preset, tasks)]
        else:
            on = [tasks] if about.start_on == "own" else [(task,) for task in tasks]
        known_there = {field.name for field in fields_of(about.start)}
        given = ", ".join(f"{name}={value!r}" for name, value in leaf.given if name in known_there)
        return tuple(make_run(preset, f"{about.start}({given})", one, seed=seed) for one in on)
    return ()


@functools.cache
def native_precision() -> str:
    """What a preset's "auto" is: the precision that the environment variable PEFTLIB_PRECISION names, else the machine's
    faster one. The batch sets the variable, so that the jobs on a cluster's nodes train what was planned elsewhere.

    Raises:
        UsageError: the variable names no precision.
    """
    given = os.environ.get("PEFTLIB_PRECISION")
    if given and given not in PRECISIONS:
        raise UsageError(f"PEFTLIB_PRECISION is {short(given)}: expected bf16 or fp32")
    return given or fast_precision()


def fast_precision() -> str:
    """ "bf16" where this machine multiplies bf16 matrices in hardware, about twice as fast; else "fp32"."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"


def emulated(preset: Preset) -> str | None:
    """What to tell whoever is about to train bf16 on a machine that has no such instructions; None elsewhere."""
    wanted = native_precision() if preset.precision == "auto" else preset.precision
    if wanted == "fp32" or fast_precision() == "bf16":
        return None
    mend = "unset PEFTLIB_PRECISION" if preset.precision == "auto" else 'give the preset the precision "auto" or "fp32"'
    return (
        f"preset {preset.name} trains in bf16, which this machine has no instructions for: about {EMULATION} times slower "
        f"than fp32. {mend[0].upper()}{mend[1:]}, or train on a machine that has them"
    )


def runs(name: str, preset: Preset | str, labels: Collection[str] | None = None) -> list[Run]:
    """The runs of an experiment, all seeds; fewer rows if the preset says so, or those of the labels. Where the preset
    leaves the precision to the machine, a run is one that has been recorded in either, or else one in this machine's.

    Raises:
        UsageError: no such experiment, or no row of such a label.
    """
    preset = get_preset(preset) if isinstance(preset, str) else preset
    known = experiments()
    if name not in known:
        raise UsageError(f"unknown experiment {short(name)}{near(name, known)} Known: {', '.join(known)}")
    preset = preset.at(name)
    if preset.precision != "auto":
        return [run for row in _rows(name, preset, labels) for run in row]
    # The rows in the second precision are made only if a run has no record in the first.
    rows = functools.cache(lambda one: _rows(name, _in_precision(preset, one), labels))
    return [_recorded(preset.name, i, j, rows) for i, row in enumerate(rows(PRECISIONS[0])) for j in range(len(row))]


def trained_runs(name: str, preset: Preset) -> list[Run]:
    """The runs of an experiment, none if it is undecidable: what is trained, and whose records are read."""
    return [] if preset.at(name).undecidable else runs(name, preset)


def kept(preset: Preset) -> set[str]:
    """Digests of the runs whose deltas are kept: those that runs of any experiment which is trained begin from."""
    trained = (trained_runs(name, preset) for name in experiments())
    return {parent.digest for found in trained for run in records.with_parents(found) for parent in run.start}


def drawn(preset: Preset) -> dict[str, str]:
    """Of the runs whose tensors are kept for pages to draw: by digest, the pattern of the tensors' names."""
    there = [name for name in experiments() if name in DRAWN]
    return {run.digest: DRAWN[name] for name in there for run in trained_runs(name, preset)}


def searches_rates(wanted: Iterable[Run]) -> bool:
    """Is some row of an experiment tried at several learning rates?"""
    tried: dict[tuple[str, str], set[float]] = {}
    for run in wanted:
        tried.setdefault((run.label, run.method), set()).add(run.recipe.lr)
    return any(len(rates) > 1 for rates in tried.values())


def _rows(name: str, preset: Preset, labels: Collection[str] | None) -> list[tuple[Run, ...]]:
    """The rows of an experiment that are asked for, see `runs`; a row is the runs of all seeds."""
    rows = _grid(EXPERIMENTS[name], preset)
    if labels is None:
        return list(rows if preset.rows is None else rows[: preset.rows])
    there = {row[0].label for row in rows}
    if unknown := set(labels) - there:
        missing = ", ".join(map(repr, sorted(unknown)))
        raise UsageError(f"{name} has no row {missing}; it has {', '.join(sorted(there))}")
    return [row for row in rows if row[0].label in labels]


@functools.cache
def _grid(build: Build, preset: Preset) -> tuple[tuple[Run, ...], ...]:
    """All rows of an experiment. Pages list the runs of every experiment again and again, and a run is checked when it is
    made, which takes longer than all else about it."""
    return tuple(tuple(run.with_seed(seed) for seed in preset.seeds) for run in build(preset))


@functools.cache
def _in_precision(preset: Preset, precision: Literal["bf16", "fp32"]) -> Preset:
    return dataclasses.replace(preset, precision=precision)


def _recorded(preset: str, row: int, seed: int, rows: Callable[[Any], list[tuple[Run, ...]]]) -> Run:
    """Of the same run in each of `PRECISIONS` that which has a record, in their order, so that a table is the same on every
    machine; if none has, that of the precision which it would be trained in here. seed: its place in the row. rows: of the
    experiment, by precision."""
    seen: list[Run] = []
    for precision in PRECISIONS:
        run = rows(precision)[row][seed]
        if run in seen or records.find(preset, run).exists():  # seen: the experiment itself says which precision it takes
            return run
        seen.append(run)
    return seen[PRECISIONS.index(native_precision())]
