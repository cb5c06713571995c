"""What a claim is checked against: numbers by table, row and column, the paper's own or ours."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from peftlib import answered, grids, study
from peftlib.closure import PACKAGE
from peftlib.data.tasks import get_task
from peftlib.kept import kept, state_of
from peftlib.packed import unpack
from peftlib.records import cached_here, path_of, run_of
from peftlib.report import learned, power, uncertainty
from peftlib.report.averages import keys, validation_rows
from peftlib.report.tables import by_label, ran
from peftlib.report.uncertainty import Answers, Number, Seed, exact

AVERAGE = "average"
WHATEVER = "average, learned or not"  # of single seeds, see `Rows.seeds`
BY_CHANCE = "the rate used was chosen by chance"  # what is said of rows that no rate of a search taught anything


class Unknown(Exception):
    """A number that a check needs is not there."""


class Unlearned(Exception):
    """A number that a check needs is that of runs that did not learn, or whose learning rate was chosen by chance; says of
    which row, and what."""


class Untestable(Exception):
    """The numbers are there, but runs of this kind cannot decide the claim; says why."""


# --- tables -----------------------------------------------------------------------------------------------------------
class Rows:
    """A table's numbers by row label, each as `peftlib.report.uncertainty` has numbers.

    values: by label and column; a plain number is exact. labels: the rows that a complete table has. margin: how far two of
    its scores may be apart and still count as alike, declared by the paper's ``paper.toml``. setting: what its numbers hold
    for, where that is not the page's. chosen: by which number the best of several rows is chosen, where that is not the
    number itself (validation, where `values` are of the test split). lost: of numbers of runs that did not learn, which
    tasks; `values` has them nevertheless. tasks: those in its averages. left_out: uninformative ones, in none. cut: to how
    many examples the longest training sets were cut, None if none was. seeds: the averages of the single seeds that learned
    every task, of which a spread is one. by_chance: rows that no rate of a search taught anything, and which search; they
    decide nothing either. ran: of rows that are named after a backbone, another one that they ran on.
    """

    def __init__(
        self,
        name: str,
        values: Mapping[str, Mapping[str, float | Number | None]],
        labels: Iterable[str] = (),
        margin: float | None = None,
        setting: str = "",
        chosen: Mapping[str, Mapping[str, float]] | None = None,
        lost: Mapping[str, Mapping[str, str]] | None = None,
        tasks: Sequence[str] = (),
        left_out: Sequence[str] = (),
        cut: int | None = None,
        seeds: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
        by_chance: Mapping[str, str] | None = None,
        ran: Mapping[str, str] | None = None,
    ):
        self.name, self.values, self.setting = name, values, setting
        self.labels = list(dict.fromkeys([*labels, *values]))
        self.chosen, self.lost, self.seeds = chosen or {}, lost or {}, seeds or {}
        self.tasks, self.left_out, self.cut = tuple(tasks), tuple(left_out), cut
        self.by_chance, self.ran = by_chance or {}, ran or {}
        self._margin = margin

    def called(self, label: str) -> str:
        """A row as tables name it: with the backbone that ran, where its name is that of another."""
        return f"{label} (here {self.ran[label]})" if label in self.ran else label

    def gone(self, label: str, key: str) -> str:
        """Why a row's number decides nothing, to be read after its name; empty where it may."""
        if label in self.by_chance:
            return f"learned nothing at any rate of {self.by_chance[label]}: {BY_CHANCE}"
        reason = self.lost.get(label, {}).get(key)
        return f"did not learn {reason}" if reason else ""

    @property
    def margin(self) -> float:
        """Raises `Unknown` if nothing tells what it is."""
        if self._margin is None:
            raise Unknown(f"a margin for {self.name}")
        return self._margin

    def whatever(self, label: str, key: str) -> Number:
        """A number, did its runs learn or not. Raises `Unknown`, naming it, if it is not there."""
        value = self.values.get(label, {}).get(key)
        if value is None:
            raise Unknown(f"{label!r} of {self.name}")
        return value if isinstance(value, np.ndarray) else exact(value)

    def of(self, label: str, key: str) -> Number:
        """A number. Raises `Unknown` if it is not there, `Unlearned` if it decides nothing (`gone`)."""
        value = self.whatever(label, key)
        if reason := self.gone(label, key):
            raise Unlearned(f"{self.called(label)} of {self.name} {reason}")
        return value

    def choice(self, label: str, key: str) -> float:
        """By what a row is chosen as the best of several. Raises as `of` does."""
        value = self.of(label, key)
        return self.chosen.get(label, {}).get(key, float(value[0]))

    def column(self, labels: Iterable[str], key: str) -> dict[str, Number]:
        """A number of several rows, those apart that did not learn. Raises `Unknown` if one is not there, or no row at all;
        `Unlearned` if none learned."""
        found, lost = {}, []
        for label in labels:
            try:
                found[label] = self.of(label, key)
            except Unlearned as reason:
                lost.append(reason)
        if found:
            return found
        raise lost[0] if lost else Unknown(self.name)


class Evidence:
    """Tables by experiment, or by another name for what no run decides: ``counts/...``, ``benchmarks/...``.

    A table may be a function that makes it when it is first asked for.
    """

    def __init__(self, tables: Mapping[str, Rows | Callable[[], Rows]]):
        self.tables = dict(tables)

    def rows(self, name: str) -> Rows:
        """A table. Raises `Unknown` if there is none."""
        if name not in self.tables:
            raise Unknown(name)
        found = self.tables[name]
        if not isinstance(found, Rows):
            found = self.tables[name] = found()
        return found


# --- from records -----------------------------------------------------------------------------------------------------
def measured(
    name: str,
    source: Sequence[dict],
    *,
    margin: float | None = None,
    labels: Iterable[str] = (),
    unit: float = 1.0,
    left_out: Sequence[str] | None = None,
    by_chance: Mapping[str, str] | None = None,
    beside: Callable[[Sequence[dict]], Mapping[str, float | Number | None]] = lambda records: {},
) -> Rows:
    """A table of test scores with their draws, from records: a column for each number of each task, one for each task (the
    mean of its numbers) and "average" (over all numbers of informative tasks).

    Args:
        labels: the rows that a complete table has.
        unit: what a score of 1 is in the table, 100 for points.
        left_out: tasks that are in no average, the uninformative ones unless said otherwise.
        by_chance: see `Rows`.
        beside: other columns, from the records of a row.
    """
    left_out = learned.uninformative(source) if left_out is None else left_out
    noise, groups = _off_by_rows(source), by_label(source)
    asked = [run.tasks for run in getattr(source, "wanted", ())] or [r["run"]["tasks"] for r in source]
    tasks = list(dict.fromkeys(task for names in asked for task in names))
    averaged = [key for task in tasks if task not in left_out for key in keys(task)]
    values: dict[str, dict[str, float | Number | None]] = {}
    chosen: dict[str, dict[str, float]] = {}
    lost: dict[str, dict[str, str]] = {}
    by_seed: dict[str, dict[str, list[float]]] = {}
    for label, records in groups.items():
        row, best, gone = values.setdefault(label, {}), chosen.setdefault(label, {}), lost.setdefault(label, {})
        for task in tasks:
            used, _, all_lost = learned.counting(records, task)
            for key, metric in zip(keys(task), get_task(task).metrics, strict=True):
                seeds = {r["run"]["seed"]: noise[r["digest"], key] for r in used}
                if seeds:
                    cell = f"{name} {label} {key}"
                    row[key] = unit * uncertainty.over_seeds(cell, seeds, usual_deviation(key, metric))
                    best[key] = unit * statistics.fmean(r["validation"][key] for r in used)
                if all_lost:
                    gone[key] = task
            _mean(row, best, gone, task, keys(task))
        _mean(row, best, gone, AVERAGE, averaged)
        row.update(beside(records) if records else {})
        by_seed[label] = {
            AVERAGE: _averages(records, averaged, unit),
            WHATEVER: _averages(records, averaged, unit, whatever=True),
        }
    limits = [run.limits[0] for run in getattr(source, "wanted", ())] + [r["run"]["limits"][0] for r in source]
    return Rows(
        name,
        values,
        [*labels, *groups],
        margin,
        chosen=chosen,
        lost=lost,
        tasks=[task for task in tasks if task not in left_out],
        left_out=left_out,
        seeds=by_seed,
        cut=min((limit for limit in limits if limit is not None), default=None),
        by_chance=by_chance,
        ran=ran(source),
    )


def _mean(row: dict, best: dict, gone: dict, name: str, columns: Sequence[str]) -> None:
    """Add a column that is the mean of others, if all of them are there."""
    if columns and set(columns) <= set(row):
        row[name] = sum(row[key] for key in columns) / len(columns)
        best[name] = statistics.fmean(best[key] for key in columns)
        if reasons := [gone[key] for key in columns if key in gone]:
            gone[name] = ", ".join(dict.fromkeys(reasons))


def _averages(records: Sequence[dict], columns: Sequence[str], unit: float, whatever: bool = False) -> list[float]:
    """The average of each seed that has all of these numbers and learned their tasks, or did not, if `whatever`."""
    found: dict[int, dict[str, float]] = {}
    for record in records:
        for task in record["run"]["tasks"]:
            if whatever or learned.of(record, task) is None:
                found.setdefault(record["run"]["seed"], {}).update({key: record["test"][key] for key in keys(task)})
    whole = [scores for scores in found.values() if columns and set(columns) <= set(scores)]
    return [unit * statistics.fmean(scores[key] for key in columns) for scores in whole]


def _off_by_rows(source: Sequence[dict]) -> dict[tuple[str, str], Seed]:
    """Of each run, by digest and name of a number: the score and how much it is off on other test rows."""
    found: dict[tuple[str, str], Seed] = {}
    same: dict[tuple[str, str], dict[str, Answers]] = {}
    for record in source:
        for task in record["run"]["tasks"]:
            rows = record.get("data", {}).get("test", {}).get(task, "")
            for key, metric in zip(keys(task), get_task(task).metrics, strict=True):
                score, tested = record["test"][key], learned.tested(record, task) or 1
                off = uncertainty.off_by_theory(f"{record['digest']} {task}", metric, score, tested)
                found[record["digest"], key] = Seed(score, off, rows)
            if answers := _answers(record, task, rows):
                same.setdefault((task, rows), {})[record["digest"]] = answers
    for (task, rows), runs in same.items():
        off_by = uncertainty.off_by_rows(f"{task} {rows}", get_task(task).metrics, runs)
        for digest, off_of in off_by.items():
            for key, metric in zip(keys(task), get_task(task).metrics, strict=True):
                if metric in off_of:
                    found[digest, key] = replace(found[digest, key], off=off_of[metric])
    return found


def validated(name: str, record: dict, task: str) -> Number:
    """The validation score of one run, the mean over a task's numbers, with draws."""
    metric, run = get_task(task).metric, run_of(record)
    score = statistics.fmean(record["validation"][key] for key in keys(task))
    rows = validation_rows(task, run.source, run.limits[1]) or 1
    cell = f"{name} {record['digest']} {task}"
    seed = Seed(score, uncertainty.off_by_theory(cell, metric, score, rows), "")
    return uncertainty.over_seeds(cell, {run.seed: seed}, usual_deviation(keys(task)[0], metric))


def _answers(record: dict, task: str, rows: str) -> Answers | None:
    """What a run answered, None if its record does not hold it, or nobody kept the labels."""
    packed = record.get("predictions", {}).get(task)
    there = answered.find(record["preset"], task, rows) if packed is not None and "preset" in record else None
    return None if there is None else Answers(unpack(packed), there.labels, there.groups)


# --- the spread over seeds --------------------------------------------------------------------------------------------
Deviations = dict[str, tuple[float, int]]  # by name of a number, with their degrees of freedom


@cached_here
def _over_seeds_elsewhere(preset: str) -> Deviations:
    """How far runs that differ in the seed alone and learned lie apart, in all experiments of a preset that have several
    seeds. Searches for learning rates are none of them: at some of their rates a run is lost by chance.

    As every page of scores asks for it, it is kept until a file of the package or a record changes.
    """
    stamp = state_of([PACKAGE, path_of(preset, "").parent])
    return kept(f"deviations over seeds in {preset}", stamp, lambda: _deviations(grids.get_preset(preset)), Deviations)


def _deviations(preset: grids.Preset) -> Deviations:
    groups: dict[str, dict[str, list[Seed]]] = {}
    for name in grids.experiments():
        if len(preset.at(name).seeds) < 2 or grids.searches_rates(grids.runs(name, preset)):
            continue
        source = study.results(name, preset, train=False)
        noise = _off_by_rows(source)
        for record in source:
            run = replace(run_of(record).with_seed(0), label="")
            for task in run.tasks:
                if learned.of(record, task) is None:
                    for key in keys(task):
                        groups.setdefault(key, {}).setdefault(run.digest, []).append(noise[record["digest"], key])
    found = {key: uncertainty.pooled_deviation(list(same.values())) for key, same in groups.items()}
    return {key: (deviation, degrees) for key, (deviation, degrees) in found.items() if degrees}


def usual_deviation(key: str, metric: str, preset: str = "published", enough: int = 8) -> float:
    """The standard deviation over seeds that a number usually has, out of 1: pooled from the experiments of several seeds,
    of the same number where they have enough degrees of freedom, else of the same metric, else of all.

    Raises:
        Untestable: no experiment has several seeds.
    """
    every = {name: power.Spread(*told) for name, told in _over_seeds_elsewhere(preset).items()}
    same = [spread for name, spread in every.items() if _metric(name) == metric]
    for nearest in ([every[key]] if key in every else [], same, every.values()):
        found = power.pooled(nearest)
        if found and found.degrees >= enough:
            return found.sd
    raise Untestable(f"no experiment of {preset!r} has seeds enough to tell how much another seed matters")


def _metric(key: str) -> str:
    task, _, metric = key.partition(".")
    return metric or get_task(task).metric
