"""The schema of a run and of its record: one small JSON file that says what was run and what came out.

A run is keyed by the digest of everything that decides its outcome. A record is written once, atomically; nothing else
passes from training to tables.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedRandom
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar

from peftlib.data.sources import SOURCES, SPLITS
from peftlib.data.tasks import get_task
from peftlib.errors import PeftlibError, UsageError, short
from peftlib.expressions import canonical
from peftlib.names import canonical_name
from peftlib.packed import Packed, unpack
from peftlib.schema import conform, conform_fields, read_json

P = ParamSpec("P")
T = TypeVar("T")

SCHEMA = 1
A_DAY = 24 * 3600.0  # seconds; no file takes so long to write


LATER = "later"  # in the metadata of a field


def later(default: T) -> T:
    """A field that runs or recipes did not always have: at its default it is left out of the digest, so that the records
    which are older than it keep their names."""
    return field(default=default, metadata={LATER: True})


def _deciding(described: Run | Recipe) -> dict[str, Any]:
    """The fields that a digest is made of."""
    fields = {f: getattr(described, f.name) for f in dataclasses.fields(described) if f.compare}
    return {f.name: value for f, value in fields.items() if not (f.metadata.get(LATER) and value == f.default)}


class RecordError(PeftlibError):
    """A record cannot be read, or is not the record of the run it is named after."""


@dataclass(frozen=True)
class Recipe:
    """How a run is trained.

    lr: peak learning rate. epochs: passes over the (limited) training data; with `epoch_steps`, so many optimizer steps
    each, however much data there is: a budget in steps is their product, and each ends with an evaluation. warmup: fraction
    of all steps, then linear decay to zero. attention_dropout: on attention weights; at 0 the fused attention kernel can
    run, a tenth faster on a CPU. sampling: "proportional" (every example once an epoch), "round_robin" or "temperature"
    (see `peftlib.data.sampling`). precision: "fp32" or "bf16" (autocast; frozen weights stored in bf16). form: "heads" (a
    linear head a task) or "text" (an encoder-decoder writes the answer).
    """

    lr: float
    epochs: int = 3
    batch_size: int = 32
    accumulate: int = 1
    warmup: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.1
    attention_dropout: float = 0.0
    clip: float = 1.0
    max_length: int = 128
    precision: Literal["fp32", "bf16"] = "bf16"
    sampling: Literal["proportional", "round_robin", "temperature"] = "proportional"
    temperature: float = 1.0
    sort_by_length: bool = True
    form: Literal["heads", "text"] = later("heads")
    epoch_steps: int | None = later(None)

    def __post_init__(self) -> None:
        conform_fields(self, "recipe")
        checks = {
            "lr": 0 < self.lr < 10,
            "epochs": self.epochs >= 1,
            "epoch_steps": self.epoch_steps is None or self.epoch_steps >= 1,
            "batch_size": self.batch_size >= 1,
            "accumulate": self.accumulate >= 1,
            "warmup": 0 <= self.warmup < 1,
            "weight_decay": self.weight_decay >= 0,
            "dropout": 0 <= self.dropout < 1,
            "attention_dropout": 0 <= self.attention_dropout < 1,
            "clip": self.clip > 0,
            "max_length": 8 <= self.max_length <= 512,
            "temperature": self.temperature > 0,
        }
        for name, holds in checks.items():
            if not holds:
                raise UsageError(f"recipe: {name}={short(getattr(self, name))} is impossible; see peftlib.records.Recipe")


Limit = int | None  # at most so many examples of a split; None: all of them


@dataclass(frozen=True)
class Run:
    """Everything that decides an outcome.

    limits: at most so many examples of (train, validation, test) a task, or questions (see `peftlib.data.load_split`); None
    for all of them. start: runs that it begins from, see `peftlib.methods.base.Method.begin`. As a run holds them, there is
    no unknown one and no circle. start_task: a task of theirs whose tensors become those of this run's only task: its head,
    its copies under `PerTask`.
    """

    method: str
    tasks: tuple[str, ...]
    backbone: str
    source: str
    recipe: Recipe
    seed: int = 0
    limits: tuple[Limit, Limit, Limit] = (None, None, None)
    label: str = field(default="", compare=False)  # what a table calls it; no part of the digest
    start: tuple[Run, ...] = later(())
    start_task: str = later("")

    def __post_init__(self) -> None:
        conform_fields(self, "run")
        object.__setattr__(self, "backbone", canonical_name(self.backbone))
        canonical(self.method)  # refuses what is no expression
        for name in self.tasks:
            get_task(name)
        checks = {
            "tasks": 0 < len(self.tasks) == len(set(self.tasks)),
            "backbone": self.backbone.strip(),
            "source": self.source in SOURCES,
            "seed": 0 <= self.seed < 2**32,
            "limits": all(limit is None or limit >= 1 for limit in self.limits),
        }
        for name, holds in checks.items():
            if not holds:
                raise UsageError(f"run: {name}={short(getattr(self, name))} is impossible; see peftlib.records.Run")
        self._check_start()

    def _check_start(self) -> None:
        for parent in self.start:
            if parent.backbone != self.backbone:
                raise UsageError(
                    f"run: start: {short(parent.method)} is trained on {short(parent.backbone)}, and what it learnt fits "
                    f"no other: expected a run on {short(self.backbone)}"
                )
            if self.start_task and self.start_task not in parent.tasks:
                raise UsageError(
                    f"run: start_task: {short(parent.method)} knows no task {short(self.start_task)}: expected one of "
                    f"{', '.join(parent.tasks)}"
                )
        if self.start_task and not (self.start and len(self.tasks) == 1):
            raise UsageError(
                f"run: start_task={short(self.start_task)} is for a run of one task that has a start; it has the tasks "
                f"{', '.join(self.tasks)}, and begins from {len(self.start)} runs"
            )

    def with_seed(self, seed: int) -> Run:
        """The same run with another seed, which what it begins from has, too: repetitions share nothing."""
        return dataclasses.replace(self, seed=seed, start=tuple(parent.with_seed(seed) for parent in self.start))

    @property
    def generation(self) -> int:
        """How many runs have to be trained one after the other before this one."""
        return max((1 + parent.generation for parent in self.start), default=0)

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that name the run, however its method is spelt."""
        return self._digest(canonical(self.method))

    @functools.cached_property
    def digest_as_spelt(self) -> str:
        """What names its record where that is older than the rule that expressions of one meaning have one digest."""
        return self._digest(self.method)

    def _digest(self, method: str) -> str:
        content = _deciding(self) | {"method": method, "recipe": _deciding(self.recipe)}
        if self.start:
            content["start"] = [parent.digest for parent in self.start]
        text = json.dumps({"schema": SCHEMA, **content}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_parents(wanted: Iterable[Run]) -> list[Run]:
    """Runs, each once, behind those that they begin from."""
    found: dict[str, Run] = {}
    for run in wanted:
        for one in (*with_parents(run.start), run):
            found.setdefault(one.digest, one)
    return list(found.values())


def root() -> Path:
    """The project's folder: PEFTLIB_ROOT, else the nearest parent of the working folder that holds ``_config.yml``,
    else the folder above the package."""
    if "PEFTLIB_ROOT" in os.environ:
        return Path(os.environ["PEFTLIB_ROOT"])
    here = Path.cwd()
    above = (p for p in (here, *here.parents) if (p / "_config.yml").is_file() and (p / "notebooks").is_dir())
    return next(above, Path(__file__).resolve().parent.parent)


def cached_here(read: Callable[P, T]) -> Callable[P, T]:
    """`functools.cache` for what is read in the project's folder: once for each folder that `root` names."""

    @functools.cache
    def read_in(_: Path, *given: P.args, **named: P.kwargs) -> T:
        return read(*given, **named)

    @functools.wraps(read)
    def cached(*given: P.args, **named: P.kwargs) -> T:
        return read_in(root(), *given, **named)  # type: ignore[arg-type]  # what is cached is hashable

    return cached


def path_of(preset: str, digest: str) -> Path:
    """Where a run's record lies. Experiments that ask for the same run share it."""
    return root() / "data" / "runs" / preset / f"{digest}.json"


def delta_path(preset: str, run: Run) -> Path:
    """Where the delta of a run lies that others begin from; of other runs none is kept."""
    return root() / "data" / "runs" / preset / "deltas" / f"{run.digest}.safetensors"


def drawn_path(preset: str, run: Run) -> Path:
    """Where those tensors of a run's delta lie that a page draws (`peftlib.grids.experiment`); of other runs none do."""
    return root() / "data" / "runs" / preset / "drawn" / f"{run.digest}.safetensors"


def find(preset: str, run: Run) -> Path:
    """Where the record of a run lies, under whichever of its digests; where it is to lie if there is none."""
    places = [path_of(preset, digest) for digest in dict.fromkeys((run.digest, run.digest_as_spelt))]
    return next((path for path in places if path.exists()), places[0])


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BufferedRandom]:
    """A file that takes the place of `path` when all of it is written: readers never see half of it, a kill or a full disk
    leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{_writer(os.getpid())}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)  # a full disk does not say which file it has no room for
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    with replacing(path) as file:
        file.write(text.encode())


def _writer(pid: int | str) -> str:
    """A process in the name of a file that it is writing."""
    return f"{socket.gethostname()}-{pid}"


def remove_scratch(folder: Path) -> None:
    """Remove the files that writers which are no more left half-written in a folder. Of writers on other machines (a
    cluster's nodes share folders) only a file's age tells."""
    import psutil  # the batch's: it alone cleans up

    for file in folder.glob(".*.*"):
        writer = re.search(re.escape(_writer("")) + r"(\d+)\.\w{8}$", file.name)
        if writer:
            gone = not psutil.pid_exists(int(writer[1]))
        else:
            gone = bool(re.search(r"\.\w{8}$", file.name)) and time.time() - file.stat().st_mtime > A_DAY
        if gone:
            file.unlink(missing_ok=True)


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record that is not there yet; a finished one is never overwritten."""
    if not path.exists():
        write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def check_writable(folder: Path) -> None:
    """Refuse a folder that records cannot be written to, before anything is trained.

    Raises:
        RecordError: names the folder and the cause.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"a record is some thousand bytes" * 200)
    except OSError as error:
        raise RecordError(f"{folder}: records cannot be written there ({error}); make room, or make it writable") from error


def put_aside(path: Path) -> Path:
    """Move a record that does not stand any more out of the way, to where nothing reads it; returns the new place."""
    folder = path.parent / "aside"
    folder.mkdir(exist_ok=True)
    places = (folder / f"{path.stem}.{number}.json" for number in itertools.count(1))
    place = next(place for place in places if not place.exists())
    path.rename(place)
    return place


# --- what a record holds ----------------------------------------------------------------------------------------------
Scores = dict[str, float]


class Machine(TypedDict):
    device: str
    threads: int


class Counts(TypedDict):
    changed: int
    heads: int
    stored: int
    total: int
    trainable: int


class Epoch(TypedDict):
    epoch: int
    examples: int
    learning_rate: float
    seconds: float
    train_loss: float
    validation: Scores


class _Sources(TypedDict, total=False):
    """What older records do not have; their `code` is a digest by another rule, which nothing is compared with."""

    sources: dict[str, str]  # file of the package -> digest, see `peftlib.provenance.sources_of`
    start: dict[str, str]  # of runs that it began from: digest -> `peftlib.provenance.delta_digest`


class Origin(_Sources):
    """What every record says: what was run, by which code, where and when."""

    schema: Literal[1]
    digest: str
    run: Run
    code: str  # over the sources
    commit: str | None
    versions: dict[str, str]
    machine: Machine
    started: str
    finished: str


class Diverged(Origin):
    """Of a run whose loss was no finite number any more."""

    diverged: str


class _Optional(TypedDict, total=False):
    """What older records do not have."""

    estimate_bytes: int
    left_out: dict[str, dict[str, dict[str, int]]]  # split -> task -> see `peftlib.training.encoding.Encoded`
    predictions: dict[str, Packed]  # task -> answers on the test rows; what was right: `peftlib.answered`


class Finished(Origin, _Optional):
    """Of a run that has scores."""

    backbone_digest: str
    best_epoch: int
    counts: Counts
    data: dict[str, dict[str, str]]  # split -> task -> digest of its content
    examples_per_second: float
    history: list[Epoch]
    initial_digest: str
    peak_bytes: int | None
    seconds: float
    stored_bytes: int
    test: Scores
    validation: Scores


def read(path: Path) -> dict[str, Any]:
    """One record.

    Raises:
        RecordError: not JSON, not what a record holds, or not the record its name says: the digest of the run inside.
    """
    try:
        record: dict[str, Any] = read_json(path)  # type: ignore[assignment]  # the next lines find out whether it is
        kind: type[Finished] | type[Diverged] = Diverged if isinstance(record, dict) and "diverged" in record else Finished
        checked = conform(record, kind, f"{path}: ")
        _agrees(checked, path)
    except UsageError as error:
        raise RecordError(f"{error}; `peftlib run` puts it aside and trains the run again") from error
    return record


def _agrees(record: Finished | Diverged, path: Path) -> None:
    """Refuse a record whose parts contradict each other."""
    run = record["run"]
    if record["digest"] != path.stem:
        raise UsageError(f"{path}: holds the record of {short(record['digest'])}; a record's name is its digest")
    if path.stem not in (run.digest, run.digest_as_spelt):
        raise UsageError(f"{path}: holds another run than its name says, {run.digest}")
    begun = {parent.digest for parent in run.start}
    if set(record.get("start", ())) != begun:
        raise UsageError(f"{path}: start: expected a digest of what each of {short(sorted(begun))} had learnt")
    if "diverged" in record:
        return
    epochs = [epoch["epoch"] for epoch in record["history"]]
    if epochs != list(range(1, run.recipe.epochs + 1)):
        raise UsageError(f"{path}: history: expected epochs 1 to {run.recipe.epochs}, got {short(epochs)}")
    if record["best_epoch"] not in epochs:
        raise UsageError(f"{path}: best_epoch: expected one of its epochs, got {short(record['best_epoch'])}")
    if record["validation"] != record["history"][record["best_epoch"] - 1]["validation"]:
        raise UsageError(f"{path}: validation: expected the scores of the best epoch")
    for name in ("validation", "test"):
        if lacking := {*run.tasks, "mean"} - set(record[name]):
            raise UsageError(f"{path}: {name}: lacks {', '.join(sorted(lacking))}")
    if {split: set(tasks) for split, tasks in record["data"].items()} != dict.fromkeys(SPLITS, set(run.tasks)):
        raise UsageError(f"{path}: data: expected a digest of each split of each task")
    answers = record.get("predictions")
    if answers is not None and set(answers) != set(run.tasks):
        raise UsageError(f"{path}: predictions: expected those of each task, got {short(sorted(answers))}")
    for task, packed in (answers or {}).items():
        try:
            unpack(packed)
        except UsageError as error:
            raise UsageError(f"{path}: predictions: {task}: {error}") from error


def run_of(record: Mapping[str, Any]) -> Run:
    """The run that a record describes."""
    return conform(record["run"], Run, "run: ")
