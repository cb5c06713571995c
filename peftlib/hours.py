"""How long runs take, from the records that are there: examples a second, evaluation and loading included, as the median
over runs of the same kind. Other machines are compared by the runs that they have recorded, or by one reference run,
`benchmarks/machines.py`.
"""

from __future__ import annotations

import datetime
import os
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TypedDict

from peftlib import provenance, records
from peftlib.data import embedded
from peftlib.data.tasks import get_task
from peftlib.expressions import skeleton
from peftlib.grids import runs
from peftlib.records import RecordError, Run
from peftlib.schema import conform, read_json

# What a run's speed is known from, the nearest first: runs that agree with it in all of these.
ALIKE: dict[str, Callable[[Run], tuple]] = {
    "method and task": lambda run: (skeleton(run.method), run.tasks, run.recipe.max_length),
    "method": lambda run: (skeleton(run.method),),
    "task": lambda run: (run.tasks, run.recipe.max_length),
    "backbone": lambda run: (),
}


# --- what records say -------------------------------------------------------------------------------------------------
def stored(preset: str = "*") -> list[tuple[str, dict]]:
    """Every record, of one preset or of all, that can be read and has scores, with its preset."""
    found = []
    for path in sorted((records.root() / "data" / "runs").glob(f"{preset}/*.json")):
        try:
            record = records.read(path)
        except RecordError as error:
            print(error, file=sys.stderr)
            continue
        if "diverged" not in record:
            found.append((path.parent.name, record))
    return found


@dataclass(frozen=True)
class Speed:
    """Examples a second: of training steps, and of a run as a whole; medians over n runs that agree in `known_by`."""

    training: float
    whole: float
    n: int
    known_by: str


class Speeds:
    """How fast runs are, from the records of one device: that which has most of them. `here`: is it this machine's?"""

    def __init__(self, found: Iterable[dict]):
        found = list(found)
        devices = Counter(record["machine"]["device"] for record in found)
        most = max(devices, key=devices.__getitem__, default=None)
        self.here = most is not None and most == device()
        self._known: dict[tuple, list[tuple[float, float]]] = defaultdict(list)
        self._examples: dict[tuple, int] = {}
        self.machines: dict[str, int] = defaultdict(int)
        self._elsewhere: dict[str, list[tuple[Run, float, float]]] = defaultdict(list)
        for record in found:
            self.machines[f"{record['machine']['device']}, threads: {record['machine']['threads']}"] += 1
            run, (began, ended) = records.run_of(record), _when(record)
            if record["machine"]["device"] != most:
                self._elsewhere[record["machine"]["device"]].append((run, began, ended))
                continue
            examples = sum(epoch["examples"] for epoch in record["history"])
            if not run.recipe.epoch_steps:
                self._examples[_data_of(run)] = record["history"][0]["examples"]
            speeds = (record["examples_per_second"], examples / max(ended - began, record["seconds"], 1e-9))
            for name, what in ALIKE.items():
                self._known[name, _setting(run), *what(run)].append(speeds)

    def of(self, run: Run) -> Speed | None:
        """That of a run; None where nothing on its backbone, in its form and precision, has been recorded."""
        for name, what in ALIKE.items():
            if found := self._known.get((name, _setting(run), *what(run))):
                training, whole = (statistics.median(speeds) for speeds in zip(*found, strict=True))
                return Speed(training, whole, len(found), name)
        return None

    def examples(self, run: Run) -> int | None:
        """An epoch of a run in examples, at most; None where its data has not been seen and it takes all of it."""
        if run.recipe.epoch_steps:
            return run.recipe.epoch_steps * run.recipe.accumulate * run.recipe.batch_size
        if _data_of(run) in self._examples:
            return self._examples[_data_of(run)]
        sizes = [most_rows(task, "train", run.source, run.limits[0]) for task in run.tasks]
        return None if None in sizes else sum(sizes)  # type: ignore[arg-type]  # none is None

    def seconds(self, run: Run) -> float | None:
        """How long a run takes; None where that is not known."""
        speed, examples = self.of(run), self.examples(run)
        return None if speed is None or examples is None else run.recipe.epochs * examples / speed.whole

    def together(self, word: str) -> float | None:
        """How many times as much another device does, with as many runs at a time as it was given, as one run on this one:
        what the runs that it has recorded would take here, over the time in which at least one of them went on there.
        word: of the device's name. None where it has recorded nothing that is known here."""
        there = sorted(
            (one for name in self._elsewhere if word in name for one in self._elsewhere[name]), key=itemgetter(1)
        )
        busy = until = 0.0
        for _, began, ended in there:
            busy += max(0.0, ended - max(began, until))
            until = max(until, ended)
        known = [seconds for run, _, _ in there if (seconds := self.seconds(run)) is not None]
        return sum(known) / busy if known and busy else None


def _setting(run: Run) -> tuple:
    return run.backbone, run.recipe.form, run.recipe.precision


def _data_of(run: Run) -> tuple:
    return run.tasks, run.source, run.limits[0]


def _when(record: dict) -> tuple[float, float]:
    """When a record's run began and ended, in seconds: a part of it alone if it was taken up again."""
    try:
        began, ended = (datetime.datetime.fromisoformat(record[when]).timestamp() for when in ("started", "finished"))
    except ValueError:  # a record that something else has written
        return 0.0, 0.0
    return began, ended


def most_rows(task: str, split: str, source: str, limit: int | None) -> int | None:
    """Rows of a split, at most: of real data that no record has seen, as many as are taken."""
    of = get_task(task).trained_on if split != "test" else ""
    there = embedded.SIZES.get(of or task, {}).get(split) if source == "embedded" else None
    return min((n for n in (there, limit) if n is not None), default=None)


# --- other machines ---------------------------------------------------------------------------------------------------
class Machine(TypedDict):
    """What `benchmarks/machines.py` writes down of a machine. parallel: runs at a time."""

    name: str
    parallel: int
    examples_per_second: float
    device: str
    date: str
    commit: str | None


# What hours are given for besides this machine, measured or not, with a word of its device's name: an H200 is no H100.
WANTED = {"2 AMX cores": "amx", "one H100": "H100", "one H200": "H200"}


def machines_file() -> Path:
    return records.root() / "benchmarks" / "results" / "machines.json"


def reference() -> Run:
    """The run that machines are compared by."""
    return runs("methods/compared", "published", ["Full"])[0]


def relative(speeds: Speeds) -> dict[str, float]:
    """How many times as many examples a second a machine trains, all its runs at a time together, as one run here does: of
    the machines that have been measured, if the reference run has been recorded here, and of those that have recorded runs.

    Raises:
        UsageError: a file of measurements that is damaged.
    """
    path, here = machines_file(), speeds.of(reference())
    by_records = {name: times for name, word in WANTED.items() if (times := speeds.together(word)) is not None}
    if here is None or not path.is_file():
        return by_records
    found = conform(read_json(path), list[Machine], f"{path}: ")
    return by_records | {one["name"]: one["parallel"] * one["examples_per_second"] / here.training for one in found}


def device() -> str:
    """What this machine trains on, as records name it."""
    return str(provenance.machine()["device"])


def at_a_time() -> int:
    """Runs that this machine trains at a time: as many as it has cores, one thread each, or one on its GPU."""
    if not device().endswith(" CPU"):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hours(missing: Sequence[Run], speeds: Speeds, times: dict[str, float]) -> dict[str, float | None]:
    """How many runs are ``missing``, of how many of these the time is ``unknown``, and their hours ``here`` and on the
    machines `WANTED`; None where they, or all times, are not known, and ``here`` where nothing has been recorded on such
    a device. times: of `relative`."""
    seconds = [speeds.seconds(run) for run in missing]
    known = [one for one in seconds if one is not None]
    whole = sum(known) / 3600 if known or not missing else None

    def on(times: float | None) -> float | None:
        return None if whole is None or times is None else whole / times

    return {
        "missing": len(missing),
        "unknown": len(seconds) - len(known),
        "here": on(at_a_time() if speeds.here else None),
        **{name: on(times.get(name)) for name in WANTED},
    }


@records.cached_here
def recorded() -> Speeds:
    """How fast runs are, from all records of the project."""
    return Speeds(record for _, record in stored())
