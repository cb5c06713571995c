"""Experiments: named grids of runs, scaled by a preset. Reads what is done, runs what is missing.

Light to import (no torch) until something is trained, so that the batch can plan in a fraction of a second; a preset that
leaves the precision to the machine asks torch for it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from peftlib import records
from peftlib.errors import PeftlibError, UsageError
from peftlib.expressions import names, skeleton
from peftlib.records import Recipe, Run, path_of

TASKS = ("sst", "quora", "sts")  # AdaptBert's three, in its order


class Incomplete(PeftlibError):
    """Some runs of an experiment failed; the others are recorded."""


@dataclass(frozen=True)
class Preset:
    """How large a study is. A preset is data (presets.json), not code.

    lr: learning rate by method, with a ``default``: the whole expression, or it without its hyperparameters (``LoRA +
    PerTask(Houlsby)``). rows: at most so many runs an experiment (None: all). trials: of a hyperparameter search. limits:
    examples a task in multi-task runs, (train, validation, test); limits_single: in single-task runs. search_lr: the
    grid from which the preset's own learning rates were chosen, empty if they were not searched. precision: "auto" is
    whichever of bf16 and fp32 the machine computes faster (`native_precision`); a run's recipe holds what that was.
    suites: the tasks taken of GLUE or SuperGLUE, all that the source has if it is not named. sizes: of training sets,
    where an experiment asks how much data a method needs. form: "heads" or "text", see `peftlib.records.Recipe`.
    changes: what differs for a paper or for one of its experiments, field by field; see `at`.
    """

    name: str
    about: str
    backbone: str
    source: str
    limits: tuple[int | None, int | None, int | None]
    limits_single: tuple[int | None, int | None, int | None]
    epochs: int
    seeds: tuple[int, ...]
    batch_size: int
    max_length: int
    precision: str
    runs_per_job: int
    trials: int
    rows: int | None
    search_lr: tuple[float, ...]
    lr: dict[str, float]
    suites: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    form: str = "heads"
    changes: dict[str, dict] = dataclasses.field(default_factory=dict)

    def at(self, experiment: str) -> Preset:
        """The preset as an experiment uses it: with the changes for its paper, then with those for itself. Learning
        rates that a change does not name stay."""
        changed = self
        for part in (experiment.split("/")[0], experiment):
            fields = _tuples(self.changes.get(part, {}))
            fields["lr"] = changed.lr | fields.get("lr", {})
            changed = dataclasses.replace(changed, **fields)
        return changed

    def learning_rate(self, method: str) -> float:
        """That of the expression, with its hyperparameters or else without; else the lowest that its terms have; else
        the default."""
        for name in (method, skeleton(method)):
            if name in self.lr:
                return self.lr[name]
        return min((self.lr[name] for name in names(method) if name in self.lr), default=self.lr["default"])


def presets() -> dict[str, Preset]:
    """All presets by name."""
    raw = json.loads(resources.files("peftlib").joinpath("presets.json").read_text())
    return {name: Preset(name=name, **_tuples(fields)) for name, fields in raw.items()}


def _tuples(fields: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: unknown; names the known ones.
    """
    known = presets()
    if name not in known:
        raise UsageError(f"unknown preset {name!r}: expected one of {', '.join(known)}")
    return known[name]


# --- experiments ------------------------------------------------------------------------------------------------------
EXPERIMENTS: dict[str, Callable[[Preset], list[Run]]] = {}


def experiment(name: str):
    """Register a function that gives the runs of an experiment under a preset."""

    def register(build: Callable[[Preset], list[Run]]):
        EXPERIMENTS[name] = build
        return build

    return register


def make_run(preset: Preset, method: str, tasks: tuple[str, ...] = TASKS, *, label: str = "", seed: int = 0,
             limits: tuple | None = None, **recipe) -> Run:
    """A run as the preset would do it; keyword arguments override fields of the recipe."""
    given = {"lr": preset.learning_rate(method), "epochs": preset.epochs, "batch_size": preset.batch_size,
             "max_length": preset.max_length, "form": preset.form,
             "precision": native_precision() if preset.precision == "auto" else preset.precision} | recipe
    limits = limits or (preset.limits if len(tasks) > 1 else preset.limits_single)
    return Run(method=method, tasks=tuple(tasks), backbone=preset.backbone, source=preset.source, recipe=Recipe(**given),
               seed=seed, limits=tuple(limits), label=label or method)


@functools.cache
def native_precision() -> str:
    """"bf16" where this machine multiplies bf16 matrices in hardware, about twice as fast; else "fp32".

    The environment variable PEFTLIB_PRECISION decides instead where it is set: the batch sets it, so that the jobs on a
    cluster's nodes train what was planned on another machine.
    """
    if given := os.environ.get("PEFTLIB_PRECISION"):
        return given
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"


def runs(name: str, preset: Preset | str, labels: Collection[str] | None = None) -> list[Run]:
    """The runs of an experiment, all seeds; fewer rows if the preset says so, or those of the labels.

    Raises:
        UsageError: no such experiment, or no row of such a label.
    """
    from peftlib import experiments  # noqa: F401 (fills EXPERIMENTS)

    preset = get_preset(preset) if isinstance(preset, str) else preset
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        raise UsageError(f"unknown experiment {name!r}{f'; did you mean {near[0]!r}?' if near else ''} "
                         f"Known: {', '.join(EXPERIMENTS)}")
    preset = preset.at(name)
    rows = EXPERIMENTS[name](preset)
    if labels is None:
        rows = rows if preset.rows is None else rows[: preset.rows]
    else:
        known = {run.label for run in rows}
        if unknown := set(labels) - known:
            missing = ", ".join(map(repr, sorted(unknown)))
            raise UsageError(f"{name} has no row {missing}; it has {', '.join(sorted(known))}")
        rows = [run for run in rows if run.label in labels]
    return [dataclasses.replace(run, seed=seed) for run in rows for seed in preset.seeds]


def record_of(preset: Preset, run: Run) -> dict | None:
    """The record of a run, if it is finished, under the label that the run has in this experiment."""
    path = path_of(preset.name, run.digest)
    if not path.exists():
        return None
    record = records.read(path)
    record["run"]["label"] = run.label
    return record


class Results(list):
    """Records of an experiment, in its order. wanted: all its runs, those without a record too.

    diverged: records of runs that have no scores because they diverged; they are not in the list.
    """

    def __init__(self, found: Iterable[dict], wanted: list[Run], diverged: Iterable[dict] = ()):
        super().__init__(found)
        self.wanted, self.diverged = wanted, list(diverged)

    def only(self, keep: Callable[[Run], bool]) -> Results:
        """Those of the runs that `keep` accepts, with what became of them."""
        wanted = [run for run in self.wanted if keep(run)]
        kept = {run.digest for run in wanted}
        return Results((r for r in self if r["digest"] in kept), wanted, (r for r in self.diverged if r["digest"] in kept))


def results(name: str, preset: Preset | str, train: bool = True, progress: bool = True,
            labels: Collection[str] | None = None) -> Results:
    """Records of an experiment, in its order; missing runs are trained first, or left out if `train` is False.

    labels: only the rows of these labels, also where the preset would leave them out.

    Raises:
        Incomplete: some runs failed; every other one was still run and recorded.
        UsageError: no such experiment, or no row of such a label.
    """
    preset = get_preset(preset) if isinstance(preset, str) else preset
    wanted = runs(name, preset, labels)
    if train:
        run_missing(name, preset, wanted, progress)
    found = [r for run in wanted if (r := record_of(preset, run)) is not None]
    return Results((r for r in found if "diverged" not in r), wanted, (r for r in found if "diverged" in r))


def run_missing(name: str, preset: Preset, wanted: list[Run], progress: bool = True) -> None:
    """Train those of the runs that have no record.

    Raises:
        Incomplete: names the runs that failed, with the last line of each traceback.
    """
    failures = []
    for run in wanted:
        if record_of(preset, run) is not None:
            continue
        try:
            execute(preset, run, progress)
        except Exception as error:  # one bad run must not cost the others
            failures.append(f"{run.label}: {type(error).__name__}: {error}")
            records.write_atomically(failure_path(preset.name, run.digest), traceback.format_exc())
    if failures:
        raise Incomplete(f"{len(failures)} of {len(wanted)} runs of {name} failed:\n" + "\n".join(failures))


def failure_path(preset: str, digest: str) -> Path:
    """Where the traceback of a failed run is kept until it succeeds."""
    return records.root() / "_build" / preset / "failed" / f"{digest}.txt"


def execute(preset: Preset, run: Run, progress: bool = True) -> dict:
    """Train one run, write its record, and return it. An interrupted run goes on from its last epoch.

    A run whose loss is no finite number any more would end so each time: its record says so, under "diverged", and has
    neither scores nor cost.
    """
    from peftlib.accounting.estimate import estimate_run, longest_batch
    from peftlib.accounting.memory import PeakMemory
    from peftlib.training import loop

    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    source = {"code": code_digest(run.method), "commit": commit()}  # now: files may change while it trains
    checkpoint = records.root() / "_build" / preset.name / "checkpoints" / f"{run.digest}.pt"
    record = {"schema": records.SCHEMA, "digest": run.digest, "run": dataclasses.asdict(run), **source,
              "versions": versions(), "machine": machine(), "started": started}
    try:
        with PeakMemory() as peak:
            trainer = loop.Trainer(run, checkpoint, progress)
            estimated = estimate_run(run, longest_batch(trainer))  # first: what cannot be estimated fails before it costs
            outcome = trainer.fit()
    except loop.Diverged as error:
        record["diverged"] = str(error)
        print(error, file=sys.stderr)
        checkpoint.unlink(missing_ok=True)
    else:
        record |= {
            "counts": dataclasses.asdict(outcome.model.counts()), "history": outcome.history,
            "best_epoch": outcome.best_epoch, "validation": outcome.validation, "test": outcome.test,
            "seconds": outcome.seconds, "examples_per_second": outcome.examples_per_second,
            "stored_bytes": loop.stored_bytes(outcome.model), "peak_bytes": peak.bytes, "estimate_bytes": estimated,
            "initial_digest": outcome.initial_digest, "data": outcome.data, "left_out": outcome.left_out,
            "backbone_digest": outcome.backbone_digest,
        }
    record["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    records.write(path_of(preset.name, run.digest), record)
    failure_path(preset.name, run.digest).unlink(missing_ok=True)
    return record


# --- where a record comes from ----------------------------------------------------------------------------------------
_CORE = ("anatomy.py", "edits.py", "model.py", "backbones.py", "methods/base.py", "training", "data")


def code_digest(method: str) -> str:
    """Digest of the sources that decide a run of `method`: the core, the files of its methods and of what those import."""
    import hashlib

    from peftlib.methods import parse

    package = Path(__file__).parent
    files = {f for part in _CORE for f in ([package / part] if part.endswith(".py") else (package / part).rglob("*.py"))}
    for leaf, _ in parse(method).leaves(("task",)):
        module = sys.modules[type(leaf).__module__]
        used = {getattr(value, "__module__", None) or "" for value in vars(module).values()} | {module.__name__}
        files |= {Path(sys.modules[name].__file__) for name in used if name.startswith("peftlib.methods.")}
    h = hashlib.sha256()
    for file in sorted(files):
        h.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return h.hexdigest()[:16]


def commit() -> str | None:
    """The commit of the working tree, with "+" if it has changes; None outside a repository."""

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=records.root(), capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "peftlib") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{p: version(p) for p in ("torch", "transformers", "accelerate")}}


def machine() -> dict[str, str | int]:
    """What decides speed: the device and its cores or name."""
    import torch

    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "threads": torch.get_num_threads()}
    return {"device": platform.machine() + " CPU", "threads": torch.get_num_threads()}


# --- the batch's plan -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Job:
    """Some runs of an experiment, trained by one papermill job."""

    experiment: str
    shard: int
    shards: int
    digests: tuple[str, ...]
    gpu: bool
    mem_mb: int
    minutes: int


@dataclass(frozen=True)
class Page:
    """A notebook of the book, and the experiments whose records it reads."""

    notebook: str
    experiments: tuple[str, ...]


def pages(preset_name: str) -> list[Page]:
    """The book's notebooks. Each names, in its metadata, the experiments it reads: ``{"peftlib": {"experiments": []}}``.

    Raises:
        UsageError: a notebook names an experiment that does not exist.
    """
    from peftlib import experiments  # noqa: F401 (fills EXPERIMENTS)

    get_preset(preset_name)
    out = []
    for path in sorted((records.root() / "notebooks").glob("*/*.ipynb")):
        named = json.loads(path.read_text())["metadata"].get("peftlib", {}).get("experiments", [])
        unknown = set(named) - set(EXPERIMENTS)
        if unknown:
            raise UsageError(f"{path.name} reads unknown experiments {sorted(unknown)}; known: {', '.join(EXPERIMENTS)}")
        out.append(Page(path.relative_to(records.root()).as_posix(), tuple(named)))
    return out


def shard_of(wanted: list[Run], shard: int, shards: int) -> list[Run]:
    """Every `shards`-th run, so that the long ones of a table do not fall into one job.

    Raises:
        UsageError: there is no such shard.
    """
    if not 0 <= shard < shards:
        raise UsageError(f"shard {shard} of {shards}: expected a number from 0 to {max(shards, 1) - 1}")
    return wanted[shard::shards]


def own_runs(name: str, preset: Preset | str) -> list[Run]:
    """The runs of an experiment that no experiment before it has: what its jobs train.

    Raises:
        UsageError: no such experiment.
    """
    runs(name, preset)
    return next(own for other, own in _each_with_own_runs(preset) if other == name)


def _each_with_own_runs(preset: Preset | str) -> Iterator[tuple[str, list[Run]]]:
    from peftlib import experiments  # noqa: F401 (fills EXPERIMENTS)

    seen: set[str] = set()
    for name in EXPERIMENTS:
        own = [run for run in runs(name, preset) if run.digest not in seen]
        seen |= {run.digest for run in own}
        yield name, own


def plan(preset_name: str) -> list[Job]:
    """The jobs of a preset; a run that several experiments share is trained by the first. Light, no torch."""
    preset, jobs = get_preset(preset_name), []
    for name, wanted in _each_with_own_runs(preset):
        shards = max(1, -(-len(wanted) // preset.at(name).runs_per_job))
        for shard in range(shards):
            mine = shard_of(wanted, shard, shards)
            if mine:
                jobs.append(Job(name, shard, shards, tuple(r.digest for r in mine), gpu=preset_name == "paper",
                                mem_mb=16000 if preset_name == "paper" else 4000, minutes=30 * len(mine)))
    return jobs


def status(preset_name: str) -> list[dict]:
    """One row an experiment: paper, experiment, and how many runs are done, missing, failed, stale.

    Stale: done, but by sources that have changed since. Failed ones are not counted as missing.
    """
    from peftlib import experiments  # noqa: F401 (fills EXPERIMENTS)

    preset, rows, digests = get_preset(preset_name), [], {}
    for name in EXPERIMENTS:
        row = {"paper": name.split("/")[0], "experiment": name, "done": 0, "missing": 0, "failed": 0, "stale": 0}
        for run in runs(name, preset):
            record = record_of(preset, run)
            if record is None:
                row["failed" if failure_path(preset_name, run.digest).exists() else "missing"] += 1
                continue
            row["done"] += 1
            if run.method not in digests:
                digests[run.method] = code_digest(run.method)
            row["stale"] += record["code"] != digests[run.method]
        rows.append(row)
    return rows
