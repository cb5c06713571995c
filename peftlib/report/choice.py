"""Every method as a point: what it scores, with an interval, and what it costs. For home and for choosing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlib import catalogue
from peftlib.accounting import counted
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.expressions import names
from peftlib.methods import METHODS
from peftlib.records import Run, run_of
from peftlib.report import learned, pages, style, suites
from peftlib.report.efficiency import benchmark, evaluation, of_method, relative
from peftlib.report.evidence import AVERAGE, measured
from peftlib.report.tables import by_label
from peftlib.report.uncertainty import LEVEL, Number, Region, interval, settle

COMBINED = "combined"
ABOVE = Region(low=0.0)
BATCH = 32  # texts at a time, for what using a model costs


@dataclass(frozen=True)
class Score:
    """A test score with its draws (`peftlib.report.uncertainty`) and the ends of its 95 % interval."""

    draws: Number
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: Number) -> Score:
        return cls(draws, float(draws[0]), *interval(draws))


@dataclass(frozen=True)
class Point:
    """A method of experiment "methods/compared".

    score: the mean over the tasks; tasks: each one's own. lost: of tasks that runs did not learn, by which words. stored,
    trained, changed: see `numbers`. memory, time: of a training step, as multiples of full fine-tuning's in the benchmark
    of one step; speed, merged: tokens a second in evaluation, as multiples of the plain backbone's, as it was trained and
    once merged (None: not measured there). merges: can it be folded into the backbone's weights? page: its page's address,
    if it has one.
    """

    label: str
    method: str
    name: str
    family: str
    score: Score
    tasks: dict[str, Score]
    lost: dict[str, tuple[str, ...]]
    stored: int
    trained: int
    changed: int
    memory: float | None
    time: float | None
    speed: float | None
    merged: float | None
    merges: bool
    page: str | None

    @property
    def words(self) -> tuple[str, ...]:
        """Of all that is in ``lost``, each once."""
        return tuple(dict.fromkeys(word for found in self.lost.values() for word in found))


def points(source: Sequence[dict]) -> list[Point]:
    """A point for each row that has run on all tasks, the highest score first."""
    found, seen = [], measured("methods", source)
    for label, records in by_label(source).items():
        draws = {name: np.atleast_1d(value) for name, value in seen.values.get(label, {}).items() if value is not None}
        if AVERAGE not in draws:
            continue
        reached = Score.of(draws[AVERAGE])
        method = records[0]["run"]["method"]
        parts = names(method)
        step = cost(method)
        found.append(
            Point(
                label,
                method,
                style.of(method).name,
                METHODS[parts[0]].family if len(parts) == 1 else COMBINED,
                reached,
                {task: Score.of(draws[task]) for task in seen.tasks},
                {task: words for task in seen.tasks if (words := learned.marks(records, task))},
                numbers(records, "stored"),
                numbers(records, "trainable"),
                numbers(records, "changed"),
                step.get("memory"),
                step.get("time"),
                step.get(f"speed_{BATCH}"),
                step.get(f"merged_speed_{BATCH}"),
                all(METHODS[part].mergeable for part in parts),
                pages.page_of(method),
            )
        )
    return sorted(found, key=lambda point: -point.score.mean)


def numbers(records: Sequence[dict], which: str) -> int:
    """Parameters that a row keeps for a task ("stored"), trains ("trainable") or changes in the backbone ("changed"): the
    mean over its runs, of which training may decide it."""
    return round(statistics.fmean(record["counts"][which] for record in records))


def cost(method: str) -> dict[str, float]:
    """``time`` and ``memory`` of a training step relative to full fine-tuning, from ``benchmarks/results/step.json``: of
    this configuration if it was measured, else of the first one of the same methods; what using its model costs besides,
    see `peftlib.report.efficiency.evaluation`. What was not measured is not there."""
    result = benchmark("step")
    step = of_method(relative(result), method) if result else None
    return evaluation(method) | (step or {})


def asked(source: Sequence[dict]) -> list[Run]:
    """One run a task of those that the comparison asks for (`peftlib.study.Results`), or of its records; without tasks on
    which no method can be told from the commonest label."""
    runs = [*getattr(source, "wanted", ())] or [run_of(record) for record in source]
    dull = learned.uninformative(source)
    return list({run.tasks: run for run in runs if run.tasks[0] not in dull}.values())


def said(source: Sequence[dict]) -> str:
    """What scores are of: "accuracy on SST", or "the mean score on SST, Quora and STS"."""
    tasks = [run.tasks[0] for run in asked(source)]
    names = [suites.title(task) for task in tasks]
    if len(tasks) == 1:
        return f"{suites.METRICS[get_task(tasks[0]).metric]} on {names[0]}"
    return f"the mean score on {', '.join(names[:-1])} and {names[-1]}" if names else "the score"


def commonest_score(source: Sequence[dict]) -> float | None:
    """What the commonest label scores, the mean over the tasks, on the test rows of the runs that were asked for; None if
    that is not known."""
    known = [learned.to_beat(run, run.tasks[0]) for run in asked(source)]
    return statistics.fmean(known) if known and None not in known else None  # type: ignore[arg-type]  # none is None


def level_with_best(found: Sequence[Point]) -> list[Point]:
    """Those of which it is not shown that they are below the highest score, by Holm's correction for so many comparisons;
    the highest among them."""
    below = settle([ABOVE.odds(found[0].score.draws - point.score.draws, 0.0) for point in found[1:]])
    return [*found[:1], *(point for point, shown in zip(found[1:], below, strict=True) if not shown)]


def visible(found: Sequence[Point]) -> float | None:
    """The least difference to the highest score that could have been seen, of the middle one of all others, where the
    correction for so many comparisons asks most; None if there is no other."""
    others = len(found) - 1
    ends = [LEVEL / 2 / max(1, others), 1 - LEVEL / 2 / max(1, others)]
    seen = [float(np.ptp(np.quantile((found[0].score.draws - point.score.draws)[1:], ends))) / 2 for point in found[1:]]
    return statistics.median(seen) if seen else None


def above(one: Point, other: Point) -> bool:
    """Is one shown to score more than the other?"""
    return interval(one.score.draws - other.score.draws)[0] > 0


def front(found: Sequence[Point]) -> list[Point]:
    """Those that no other beats in one of score, stored parameters, memory and time without losing in another. Scores whose
    difference's interval holds zero are equal; what was not measured of either is not compared."""

    def beats(other: Point, mine: Point) -> bool:
        pairs = [(other.stored, mine.stored), (other.memory, mine.memory), (other.time, mine.time)]
        costs = [(theirs, ours) for theirs, ours in pairs if theirs is not None and ours is not None]
        if other is mine or any(theirs > ours for theirs, ours in costs):
            return False
        return not above(mine, other) and (any(theirs < ours for theirs, ours in costs) or above(other, mine))

    return [point for point in found if not any(beats(other, point) for other in found)]


def elsewhere(method: str, library: str) -> str | None:
    """What "peft" or "adapters" calls an expression's one method; None if it lacks it."""
    parts = names(method)
    entry = catalogue.methods().get(parts[0]) if len(parts) == 1 else None
    return (getattr(entry.about, library) or None) if entry else None


def stored_a_task(method: str, backbone: str, tasks: int, one: int | None = None) -> int | None:
    """Numbers that an expression keeps for each of so many tasks on a backbone of a known shape, heads apart.

    Does its count grow with the tasks, then the expression itself says what they share, and what is shared is divided among
    them; does it not, then nothing in it belongs to a task, and every task keeps a copy.

    Args:
        one: what a run of one task has kept, if that is known: of some methods training decides it.

    Returns:
        None where the method has no place in the backbone, or nothing can be counted.
    """
    try:
        first, second = (counted.count(method, backbone, number).stored for number in (1, 2))
    except UsageError:
        return one if tasks == 1 else None
    one = first if one is None else one
    return one if first == second else round((one + (tasks - 1) * (second - first)) / tasks)
