"""Before anything is trained: what is missing, how long that takes, and which differences its tables could see.

How long runs take says `peftlib.hours`.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from peftlib import answered, records
from peftlib.batch.plan import each_with_own_runs
from peftlib.data.tasks import get_task
from peftlib.expressions import skeleton
from peftlib.grids import EMULATION, emulated, experiments, get_preset, runs
from peftlib.hours import ALIKE, Speeds, at_a_time, hours, most_rows, relative, stored
from peftlib.packed import unpack
from peftlib.records import Run
from peftlib.study import lacks, standing, still_begun_from

if TYPE_CHECKING:
    from peftlib.report import power
    from peftlib.report.uncertainty import Seed


# --- what a table could see -------------------------------------------------------------------------------------------
class Noise:
    """How far two rows of a table are apart by chance, from what has been trained; see `peftlib.report.power`. Out of 1."""

    def __init__(self, found: Sequence[tuple[str, dict]]):
        from peftlib.report import power

        self._scores: dict[str, list[float]] = defaultdict(list)
        tables: dict[tuple, list[tuple[str, dict]]] = defaultdict(list)
        groups: dict[tuple[str, float], dict[tuple, list[dict]]] = defaultdict(lambda: defaultdict(list))
        for preset, record in found:
            run = records.run_of(record)
            alike = (preset, run.tasks, run.backbone, run.source, run.limits, run.recipe.form)
            for task in run.tasks:
                self._scores[task].append(score(record, task))
                tables[task, alike].append((preset, record))
                same = (alike, run.method, dataclasses.astuple(run.recipe))
                groups[task, run.limits[0] or math.inf][same].append(record | {"preset": preset})
        rows: dict[str, list[power.Spread]] = defaultdict(list)
        for (task, _), table in tables.items():
            rows[task] += filter(None, map(power.spread, _by_row(table, task)))
        self.rows = {task: one for task, many in rows.items() if (one := power.pooled(many))}
        seeds = {key: power.over_seeds(_seeds(by_run.values(), key[0])) for key, by_run in groups.items()}
        self.seeds = {key: one for key, one in seeds.items() if one}

    def over_seeds(self, task: str, examples: int | None) -> power.Spread | None:
        """That of a task on the training sets whose sizes are nearest, as many of them as it takes to know it with `ENOUGH`
        degrees of freedom; of all tasks where its own are too few; None where nothing was trained with several seeds."""
        from peftlib.report import power

        far = {key: abs(math.log(min(key[1], ALL) / min(examples or ALL, ALL))) for key in self.seeds}
        for there in ([key for key in far if key[0] == task], list(far)):
            for most in sorted({far[key] for key in there}):
                found = power.pooled(self.seeds[key] for key in there if far[key] <= most)
                if found and found.degrees >= ENOUGH:
                    return found
        return power.pooled(self.seeds.values())

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


ENOUGH = 8  # degrees of freedom, as verdicts ask for (`peftlib.report.evidence.usual_deviation`)
USUAL = 0.8  # a score, where nothing is known
ALL = 10**6  # examples: more than any task has


def score(record: dict, task: str) -> float:
    """A record's test score on a task, the mean of its metrics."""
    metrics = get_task(task).metrics
    return statistics.fmean(record["test"][task if len(metrics) == 1 else f"{task}.{metric}"] for metric in metrics)


def _seeds(groups: Iterable[list[dict]], task: str) -> Iterator[list[Seed]]:
    """Scores of runs that differ in the seed alone and learned, for `peftlib.report.uncertainty.pooled_deviation`."""
    from peftlib.report import learned, uncertainty

    for records_of in groups:
        there = [one for one in records_of if len(records_of) > 1 and learned.of(one, task) is None]
        yield [
            uncertainty.Seed(
                reached := score(one, task),
                uncertainty.off_by_theory(one["digest"], get_task(task).metric, reached, learned.tested(one, task) or 1),
                one["data"]["test"][task],
            )
            for one in there
        ]


def _by_row(table: Iterable[tuple[str, dict]], task: str) -> Iterator[np.ndarray]:
    """For every seed: which answers are right, (rows of the table, test rows, or questions), of runs that hold theirs."""
    kept = defaultdict(list)
    for preset, record in table:
        if task in record.get("predictions", {}) and get_task(task).kind != "score":
            rows = record["run"]["seed"], preset, record["data"]["test"][task]
            kept[rows].append(unpack(record["predictions"][task]))
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
    return min((n for n in (there, most_rows(task, "test", run.source, run.limits[2])) if n is not None), default=None)


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
        difference in points that its table would find on ``average`` and on its ``widest`` task. ``undecidable``: the
        same of the experiments that are not trained, and ``why``; in no other number. ``speeds``: examples a
        second by method, over the missing runs. ``total``: of the experiments. ``machines``: how many times as fast as one
        run here. ``at_a_time``, ``measured``: runs here at a time, and records by the machine that made them.

    Raises:
        UsageError: no such preset, or a damaged file of measurements.
    """
    preset, found = get_preset(preset_name), stored()
    speeds, noise = Speeds(record for _, record in found), Noise(found)
    times, rows, left, lacking = relative(speeds), [], [], []

    def row(name: str, own: list[Run], missing: list[Run]) -> dict:
        wanted = runs(name, preset)
        sees = {"seeds": len({run.seed for run in wanted}), **difference(wanted, noise)}
        return {"experiment": name, "runs": len(own), **hours(missing, speeds, times), **sees}

    for name, own in each_with_own_runs(preset):
        missing = [run for run in own if standing(preset, run).word != "done"]
        lacking += missing
        rows.append(row(name, own, missing))
    for name in experiments():
        if why := preset.at(name).undecidable:
            wanted = runs(name, preset)
            left.append(row(name, wanted, wanted) | {"why": why})
    return {
        "preset": preset_name,
        "experiments": rows,
        "undecidable": left,
        "total": {"runs": sum(row["runs"] for row in rows), **hours(lacking, speeds, times)},
        "speeds": _by_method(lacking, speeds),
        "machines": times,
        "at_a_time": at_a_time(),
        "measured": dict(speeds.machines),
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

    By what this preset has recorded, on a device such as this machine's.
    """
    preset, own = get_preset(preset_name), [run for _, wanted in each_with_own_runs(preset_name) for run in wanted]
    needed = still_begun_from(preset, own)
    lacking = [run for run in own if lacks(preset, run, needed)]
    if not lacking:
        return None
    speeds = Speeds(record for _, record in stored(preset_name))
    seconds = [speeds.seconds(run) if speeds.here else None for run in lacking]
    known = [one for one in seconds if one is not None]
    text = f"{len(lacking)} runs to train"
    if known:
        text += f": about {sum(known) / 3600 / jobs:.1f} hours, {jobs} at a time, by the records that are there"
        if emulated(get_preset(preset_name)):
            text += f", on a machine with instructions for bf16, and about {EMULATION} times that long here"
    if len(known) < len(lacking):
        text += f"; how long {'they' if not known else f'{len(lacking) - len(known)} of them'} take is not known"
    return text
