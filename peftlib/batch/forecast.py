"""Before anything is trained: what is missing, how long that takes, and which differences its tables could see.

Times are those of the records that are there: examples a second, evaluation and loading included, as the median over runs
of the same kind. Other machines are compared by one reference run, `benchmarks/machines.py`.
"""

from __future__ import annotations

import datetime
import math
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from peftlib import answered, records
from peftlib.batch.plan import each_with_own_runs
from peftlib.data import embedded
from peftlib.data.tasks import get_task
from peftlib.expressions import skeleton
from peftlib.grids import get_preset, runs
from peftlib.packed import unpack
from peftlib.records import RecordError, Run
from peftlib.schema import conform, read_json
from peftlib.study import standing

if TYPE_CHECKING:
    from peftlib.report import power

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
    """How fast runs are, from records."""

    def __init__(self, found: Iterable[dict]):
        self._known: dict[tuple, list[tuple[float, float]]] = defaultdict(list)
        self._examples: dict[tuple, int] = {}
        self.machines: dict[str, int] = defaultdict(int)
        for record in found:
            run, examples = records.run_of(record), sum(epoch["examples"] for epoch in record["history"])
            self._examples[_data_of(run)] = record["history"][0]["examples"]
            speeds = (record["examples_per_second"], examples / max(_wall(record), record["seconds"], 1e-9))
            for name, what in ALIKE.items():
                self._known[name, _setting(run), *what(run)].append(speeds)
            self.machines[f"{record['machine']['device']}, threads: {record['machine']['threads']}"] += 1

    def of(self, run: Run) -> Speed | None:
        """That of a run; None where nothing on its backbone, in its form and precision, has been recorded."""
        for name, what in ALIKE.items():
            if found := self._known.get((name, _setting(run), *what(run))):
                training, whole = (statistics.median(speeds) for speeds in zip(*found, strict=True))
                return Speed(training, whole, len(found), name)
        return None

    def examples(self, run: Run) -> int | None:
        """An epoch of a run in examples, at most; None where its data has not been seen and it takes all of it."""
        if _data_of(run) in self._examples:
            return self._examples[_data_of(run)]
        rows = [_rows(task, "train", run.source, run.limits[0]) for task in run.tasks]
        return None if None in rows else sum(rows)  # type: ignore[arg-type]  # none is None

    def seconds(self, run: Run) -> float | None:
        """How long a run takes; None where that is not known."""
        speed, examples = self.of(run), self.examples(run)
        return None if speed is None or examples is None else run.recipe.epochs * examples / speed.whole


def _setting(run: Run) -> tuple:
    return run.backbone, run.recipe.form, run.recipe.precision


def _data_of(run: Run) -> tuple:
    return run.tasks, run.source, run.limits[0]


def _wall(record: dict) -> float:
    """Seconds from the beginning of a record's run to its end; less than it trained if it was taken up again."""
    try:
        began, ended = (datetime.datetime.fromisoformat(record[when]) for when in ("started", "finished"))
    except ValueError:  # a record that something else has written
        return 0.0
    return (ended - began).total_seconds()


def _rows(task: str, split: str, source: str, limit: int | None) -> int | None:
    """Rows of a split, at most: of real data that no record has seen, as many as are taken."""
    there = embedded.SIZES[task][split] if source == "embedded" and task in embedded.SIZES else None
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


WANTED = ("2 AMX cores", "one H100")  # what hours are given for besides this machine, measured or not


def machines_file() -> Path:
    return records.root() / "benchmarks" / "results" / "machines.json"


def reference() -> Run:
    """The run that machines are compared by."""
    (run,) = runs("methods/sst", "published", ["Full"])
    return run


def relative(speeds: Speeds) -> dict[str, float]:
    """How many times as many examples a second a machine trains, all its runs at a time together, as one run here does: of
    the machines that have been measured, if the reference run has been recorded here.

    Raises:
        UsageError: a file of measurements that is damaged.
    """
    path, here = machines_file(), speeds.of(reference())
    if here is None or not path.is_file():
        return {}
    found = conform(read_json(path), list[Machine], f"{path}: ")
    return {one["name"]: one["parallel"] * one["examples_per_second"] / here.training for one in found}


def at_a_time() -> int:
    """Runs that this machine trains at a time, one thread each."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- what a table could see -------------------------------------------------------------------------------------------
class Noise:
    """How far two rows of a table are apart by chance, from what has been trained; see `peftlib.report.power`. Out of 1."""

    def __init__(self, found: Sequence[tuple[str, dict]]):
        from peftlib.report import power

        self._scores: dict[str, list[float]] = defaultdict(list)
        alike: dict[tuple, dict[str, dict[int, tuple[str, dict]]]] = defaultdict(lambda: defaultdict(dict))
        for preset, record in found:
            run = records.run_of(record)
            for task in run.tasks:
                self._scores[task].append(score(record, task))
                recipe = (run.recipe.epochs, run.recipe.batch_size, run.recipe.max_length, run.recipe.precision)
                table = (preset, task, run.tasks, run.backbone, run.source, run.limits, recipe, run.recipe.form)
                alike[table][f"{run.method} {run.recipe.lr}"][run.seed] = preset, record
        rows: dict[str, list]
        seeds, rows = defaultdict(list), defaultdict(list)  # by task and training examples, by task
        for (_, task, _, _, _, limits, *_), table in alike.items():
            seeds[task, limits[0] or math.inf].append(power.spread(_by_seed(table, task)))
            rows[task] += [power.spread(answers) for answers in _by_row(table, task)]
        self.seeds: dict[tuple[str, float], power.Spread]
        self.rows: dict[str, power.Spread]
        self.seeds, self.rows = (  # type: ignore[assignment]  # each of its own keys
            {key: one for key, many in found.items() if (one := power.pooled(filter(None, many)))}
            for found in (seeds, rows)
        )

    def over_seeds(self, task: str, examples: int | None) -> power.Spread | None:
        """That of a task, or of all tasks where it has been trained with one seed alone, on the training sets whose size is
        nearest; None where nothing has been trained with several seeds."""
        from peftlib.report import power

        there = {key: one for key, one in self.seeds.items() if key[0] == task} or self.seeds
        far = {key: abs(math.log(min(key[1], ALL) / min(examples or ALL, ALL))) for key in there}
        return power.pooled(there[key] for key in there if far[key] == min(far.values()))

    def error(self, task: str, examples: int | None, seeds: int, rows: int) -> tuple[float, float] | None:
        """The standard error of a difference on a task, and its degrees of freedom; None where no spread over seeds is
        known. examples: that are trained on (None: all)."""
        from peftlib.report import power

        if (of_seeds := self.over_seeds(task, examples)) is None:
            return None
        of_rows = self.rows.get(task)
        usual = statistics.median(self._scores.get(task) or [USUAL])
        over_rows = of_rows.sd if of_rows else power.independent(get_task(task).metric, usual)
        return power.error(of_seeds.sd, seeds, over_rows, rows), of_seeds.degrees


USUAL = 0.8  # a score, where nothing is known
ALL = 10**6  # examples: more than any task has


def score(record: dict, task: str) -> float:
    """A record's test score on a task, the mean of its metrics."""
    metrics = get_task(task).metrics
    return statistics.fmean(record["test"][task if len(metrics) == 1 else f"{task}.{metric}"] for metric in metrics)


def _by_seed(table: dict, task: str) -> np.ndarray:
    """Scores (rows, seeds) of those rows of a table that have most seeds, or all of as many."""
    most = max(map(len, table.values()))
    whole = [records for records in table.values() if len(records) == most]
    common = sorted(set.intersection(*map(set, whole)))
    return np.array([[score(records[seed][1], task) for seed in common] for records in whole]).reshape(len(whole), -1)


def _by_row(table: dict, task: str) -> Iterator[np.ndarray]:
    """For every seed: which answers are right, (rows of the table, test rows, or questions), of runs that hold theirs."""
    kept = defaultdict(list)
    for found in table.values():
        for seed, (preset, record) in found.items():
            if task in record.get("predictions", {}) and get_task(task).kind != "score":
                kept[seed, preset, record["data"]["test"][task]].append(unpack(record["predictions"][task]))
    for (_, preset, digest), answers in kept.items():
        there = answered.find(preset, task, digest)
        if there is None or len(answers) < 2:
            continue
        right = (np.stack(answers) == there.labels).astype(float)
        if there.groups is not None:
            sizes = np.bincount(there.groups)
            right = np.stack([np.bincount(there.groups, one) / sizes for one in right])
        yield right


def test_rows(run: Run, task: str) -> int | None:
    """How many a run is tested on, at most; None where that is not known."""
    from peftlib.report.averages import STAND_IN_ROWS, TEST_ROWS

    there = None if run.source == "embedded" else (TEST_ROWS | STAND_IN_ROWS).get(task)
    return min((n for n in (there, _rows(task, "test", run.source, run.limits[2])) if n is not None), default=None)


def difference(wanted: Sequence[Run], noise: Noise) -> dict[str, float | None]:
    """The smallest differences, in points, between two rows of a table that it would find: on ``average`` over its tasks,
    and on the task where that is ``widest``. None where the spread or the number of test rows is not known."""
    from peftlib.report import power

    seeds, found = len({run.seed for run in wanted}), []
    for task, one in {task: run for run in wanted for task in run.tasks}.items():
        rows = test_rows(one, task)
        found.append(noise.error(task, one.limits[0], seeds, rows) if rows else None)
    if not found or None in found:
        return {"average": None, "widest": None}
    whole = sum(error**2 for error, _ in found) ** 0.5 / len(found)  # type: ignore[misc]  # none is None
    return {
        "average": 100 * power.smallest_difference(whole, min(degrees for _, degrees in found)),  # type: ignore[misc]  # as above
        "widest": max(100 * power.smallest_difference(*one) for one in found),  # type: ignore[misc]  # as above
    }


# --- all of it --------------------------------------------------------------------------------------------------------
def forecast(preset_name: str) -> dict:
    """What a preset still has to train.

    Returns:
        ``experiments``: a row each, with its own ``runs``, those ``missing``, of how many of these the time is ``unknown``,
        hours ``here`` and on the machines `WANTED` (None where they or the time is not known), ``seeds``, and the smallest
        difference in points that its table would find on ``average`` and on its ``widest`` task. ``speeds``: examples a
        second by method, over the missing runs. ``total``: of the experiments. ``machines``: how many times as fast as one
        run here. ``at_a_time``, ``measured``: runs here at a time, and records by the machine that made them.

    Raises:
        UsageError: no such preset, or a damaged file of measurements.
    """
    preset, found = get_preset(preset_name), stored()
    speeds, noise = Speeds(record for _, record in found), Noise(found)
    times, rows, lacking = relative(speeds), [], []
    for name, own in each_with_own_runs(preset):
        missing = [run for run in own if standing(preset, run).word != "done"]
        lacking += missing
        row = {"experiment": name, "runs": len(own), **_hours(missing, speeds, times)}
        wanted = runs(name, preset)
        rows.append(row | {"seeds": len({run.seed for run in wanted}), **difference(wanted, noise)})
    return {
        "preset": preset_name,
        "experiments": rows,
        "total": {"runs": sum(row["runs"] for row in rows), **_hours(lacking, speeds, times)},
        "speeds": _by_method(lacking, speeds),
        "machines": times,
        "at_a_time": at_a_time(),
        "measured": dict(speeds.machines),
    }


def _hours(missing: Sequence[Run], speeds: Speeds, times: dict[str, float]) -> dict[str, float | None]:
    seconds = [speeds.seconds(run) for run in missing]
    known = [one for one in seconds if one is not None]
    hours = sum(known) / 3600 if known or not missing else None

    def on(times: float | None) -> float | None:
        return None if hours is None or times is None else hours / times

    return {
        "missing": len(missing),
        "unknown": len(seconds) - len(known),
        "here": on(at_a_time()),
        **{name: on(times.get(name)) for name in WANTED},
    }


def _by_method(missing: Sequence[Run], speeds: Speeds) -> list[dict]:
    """A row a method and backbone: how many runs, the median of their training steps' examples a second, and the least
    that one of these is known by; None where nothing is known."""
    order, groups = list(ALIKE), defaultdict(list)
    for run in missing:
        groups[skeleton(run.method), run.backbone].append(speeds.of(run))
    rows = []
    for (method, backbone), all_of_them in sorted(groups.items()):
        there = [one for one in all_of_them if one is not None]
        rows.append(
            {
                "method": method,
                "backbone": backbone,
                "runs": len(all_of_them),
                "examples a second": statistics.median(one.training for one in there) if there else None,
                "known by": max((one.known_by for one in there), key=order.index) if there else None,
            }
        )
    return rows


def announced(preset_name: str, jobs: int) -> str | None:
    """One line for whoever starts a batch: how many runs are to be trained and how long that takes; None if none are.

    Light: what this preset has recorded, no torch.
    """
    lacking = [
        run for _, own in each_with_own_runs(preset_name) for run in own if not records.find(preset_name, run).exists()
    ]
    if not lacking:
        return None
    speeds = Speeds(record for _, record in stored(preset_name))
    seconds = [speeds.seconds(run) for run in lacking]
    known = [one for one in seconds if one is not None]
    text = f"{len(lacking)} runs to train"
    if known:
        text += f": about {sum(known) / 3600 / jobs:.1f} hours, {jobs} at a time, by the records that are there"
    if len(known) < len(lacking):
        text += f"; how long {'they' if not known else f'{len(lacking) - len(known)} of them'} take is not known"
    return text
