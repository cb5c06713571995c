"""How sure a number is, and what can be concluded from it: the statistics of this book, on one page.

**A number is an array**: first the number itself, then `DRAWS` numbers that it might as well have been, had other seeds
and other test rows been drawn. Numbers that nothing random decides (counts, what a paper prints) are arrays of one. So a
difference of two numbers is ``a - b``, an average ``(a + b) / 2``, the larger one ``np.maximum(a, b)``, each with its own
draws. The draws of one seed and those of one set of test rows are the same in every row of every table, whatever method
was trained with that seed and tested on those rows: by that every comparison is a paired one.

**Test rows** are drawn with replacement (Efron 1979), questions as a whole where rows belong to questions. Records that
do not hold their predictions get the textbook's standard error for so many rows instead, independently of each other:
binomial for shares of right answers, Fisher's z for correlations.

**Seeds** are few, and the plain bootstrap of a few numbers gives intervals that are much too narrow. The mean over n seeds
is therefore drawn from Student's distribution around it, as its t interval has it. Below `ENOUGH` seeds the missing degrees
of freedom are borrowed, with a standard deviation over seeds pooled from the experiments that have several: one seed gives
a wider interval than two, and two a wider one than five. Where each seed was tested on rows of its own, the spread over
seeds contains that of the rows, which is not counted twice.

**What is concluded.** A word about a number is a region on its axis: better is above zero, on par is within a margin. That
the number lies there is shown if a test of its complement rejects at `LEVEL`: for words about zero two-sided, so that the
95 % interval excludes zero; for words about a margin by two one-sided tests (Schuirmann 1987), so that the 90 % interval
lies inside it. That it lies elsewhere is shown if its 95 % interval does. Otherwise nothing is. Several comparisons in one
claim are corrected by Holm's method (1979).
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

DRAWS = 4000
LEVEL = 0.05
ENOUGH = 5  # seeds: with so many, a row's own spread is all that counts
CORRELATIONS = ("pearson", "spearman", "matthews")
Number = np.ndarray


# --- numbers ----------------------------------------------------------------------------------------------------------
def exact(value: float) -> Number:
    """A number that nothing random decides."""
    return np.array([value], dtype=float)


def is_exact(number: Number) -> bool:
    return number.size == 1


def around(value: float, noise: np.ndarray) -> Number:
    """A number with draws. noise: (DRAWS,), what they are off by."""
    return np.concatenate([[value], value + noise])


def interval(number: Number, level: float = LEVEL) -> tuple[float, float]:
    """Between which two values all but a share `level` of the draws lie, half of it on either side."""
    if is_exact(number):
        return float(number[0]), float(number[0])
    low, high = np.quantile(number[1:], [level / 2, 1 - level / 2])
    return float(low), float(high)


def smallest_seen(number: Number) -> float:
    """How far from zero such a number must be at least for its interval to exclude zero: half the interval's width."""
    low, high = interval(number)
    return (high - low) / 2


def stream(*names: object) -> np.random.Generator:
    """Random numbers that depend on these names and on nothing else."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:8], "big"))


# --- what draws show --------------------------------------------------------------------------------------------------
class Odds(NamedTuple):
    """p-values. holds: small if the draws show that a statement holds; fails: small if they show that it does not. sure:
    nothing random decides it."""

    holds: float
    fails: float
    sure: bool = False


NOTHING = Odds(1.0, 1.0, sure=True)  # of runs that did not learn: neither is shown, and there was nothing to try


def tail(outside: np.ndarray) -> float:
    """The share of draws for which something is so, at least one of them counted (Davison and Hinkley 1997, 4.2)."""
    return (int(np.count_nonzero(outside)) + 1) / (outside.size + 1)


def above(metric: str, score: float, base: float, rows: int, tries: int) -> bool:
    """Is a score on so many rows further above another, the commonest label's, than chance explains for the best of so many
    tries (Bonferroni)?"""
    return score - base > stats.norm.isf(LEVEL / tries) * standard_error(metric, base, rows)


def odds(holds: np.ndarray) -> Odds:
    """Of any statement. holds: (1,) or (1 + DRAWS,), whether it is true of the numbers and of each draw."""
    if holds.size == 1:
        return Odds(*((0.0, 1.0) if holds[0] else (1.0, 0.0)), sure=True)
    return Odds(min(1.0, 2 * tail(~holds[1:])), min(1.0, 2 * tail(holds[1:])))


class Region(NamedTuple):
    """Where a difference lies that a word is true of, in margins; an end beyond zero belongs to the region."""

    low: float = -math.inf
    high: float = math.inf

    def ends(self, margin: float) -> tuple[float, float]:
        """The region's ends for a margin."""
        low, high = (end * margin if math.isfinite(end) else end for end in self)
        return low, high

    def sides(self, difference: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """Which differences are on the right side of each end."""
        low, high = self.ends(margin)
        slack = 1e-9 * abs(margin)  # printed numbers that are a margin apart are not so in binary
        return (
            difference >= low - slack if self.low < 0 else difference > low,
            difference <= high + slack if self.high > 0 else difference < high,
        )

    def odds(self, difference: Number, margin: float) -> Odds:
        """What the draws of a difference show: that it lies there by a test for each end, one-sided where the end is that
        of a margin around zero; that it does not by its interval."""
        if is_exact(difference):
            return odds(np.logical_and(*self.sides(difference, margin)))
        above, below = self.sides(difference[1:], margin)
        holds = max(tail(~above) * (1 if self.low < 0 else 2), tail(~below) * (1 if self.high > 0 else 2))
        return Odds(min(1.0, holds), min(1.0, 2 * tail(above), 2 * tail(below)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number m (Holm 1979): the smallest times m, the next times m - 1, none below another."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


def settle(found: Sequence[Odds]) -> list[bool | None]:
    """Of each comparison of one claim: does it hold, does it not, or is neither shown? Holm's correction is over those
    that something random decides."""
    random = [one for one in found if not one.sure]
    corrected = iter(zip(holm([one.holds for one in random]), holm([one.fails for one in random]), strict=True))
    settled: list[bool | None] = []
    for one in found:
        holds, fails = (one.holds, one.fails) if one.sure else next(corrected)
        settled.append(True if holds <= LEVEL else False if fails <= LEVEL else None)
    return settled


def together(parts: Sequence[bool | None], some: bool = False) -> bool | None:
    """Do all hold (or some), where None is neither known to hold nor known to fail."""
    decisive = some  # one such part decides
    if decisive in parts:
        return decisive
    return None if None in parts else not decisive


# --- test rows --------------------------------------------------------------------------------------------------------
class Answers(NamedTuple):
    """What a run answered on the test rows of a task: predictions, labels (rows,), groups (rows,) of numbers or None."""

    predictions: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None


def drawn_rows(name: str, size: int, chunk: int = 500) -> Iterator[np.ndarray]:
    """How often each of so many rows is drawn: arrays (size, chunk), `DRAWS` columns in all, the same for one name."""
    random = stream("rows", name)
    for _ in range(0, DRAWS, chunk):
        yield random.multinomial(size, np.full(size, 1 / size), chunk).T.astype(np.float32)


def scores_on(metric: str, answers: Answers, weights: np.ndarray) -> np.ndarray | None:
    """A metric of `peftlib.training.metrics` on drawn rows. weights: (rows or groups, draws). Returns (draws,), or None
    for a metric that predictions alone do not give."""
    found, labels, groups = answers
    if metric == "exact_match" and groups is not None:
        right = np.ones(groups.max() + 1)
        np.minimum.at(right, groups, found == labels)
        return right @ weights / weights.sum(0)
    weights = weights if groups is None else weights[groups]
    if metric == "accuracy":
        return (found == labels) @ weights / weights.sum(0)
    if metric in ("pearson", "spearman"):
        ranked = stats.rankdata if metric == "spearman" else np.asarray  # ranks among all rows, which the draws keep
        return _correlation(ranked(found), ranked(labels), weights)
    if metric in ("f1", "macro_f1", "matthews"):
        classes = [1] if metric == "f1" else np.union1d(found, labels)
        both, guessed, true = (
            np.array([hits @ weights for hits in found_of])
            for found_of in (
                [(found == c) & (labels == c) for c in classes],
                [found == c for c in classes],
                [labels == c for c in classes],
            )
        )
        total = weights.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            if metric == "matthews":
                top = both.sum(0) * total - (guessed * true).sum(0)
                bottom = np.sqrt((total**2 - (guessed**2).sum(0)) * (total**2 - (true**2).sum(0)))
                return np.nan_to_num(top / bottom, posinf=0.0, neginf=0.0)
            each, there = np.nan_to_num(2 * both / (guessed + true)), (guessed + true) > 0
            return each.sum(0) / np.maximum(there.sum(0), 1)
    return None


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's, weighted; 0 where one of both does not vary."""
    total = weights.sum(0)
    x, y = x - x.mean(), y - y.mean()
    mean_x, mean_y = x @ weights / total, y @ weights / total
    covariance = (x * y) @ weights / total - mean_x * mean_y
    varies_x, varies_y = (x * x) @ weights / total - mean_x**2, (y * y) @ weights / total - mean_y**2
    scale = np.sqrt(np.maximum(varies_x, 0) * np.maximum(varies_y, 0))  # rounding may leave less than nothing
    return np.divide(covariance, scale, out=np.zeros_like(covariance), where=scale > 1e-12)


def off_by_rows(name: str, metrics: Sequence[str], runs: Mapping[str, Answers]) -> dict[str, dict[str, np.ndarray]]:
    """By how much each metric of each run is off on drawn rows, (DRAWS,) each, by the runs' names. All of the runs were
    tested on the same rows, whose name is `name`, and are off on the same draws of them. Metrics that predictions alone do
    not give are left out."""
    one = next(iter(runs.values()))
    size = len(one.labels) if one.groups is None else int(one.groups.max()) + 1
    whole = np.ones((size, 1), np.float32)
    metrics = [metric for metric in metrics if scores_on(metric, one, whole) is not None]
    drawn: dict[str, dict[str, list[np.ndarray]]] = {run: {metric: [] for metric in metrics} for run in runs}
    for weights in drawn_rows(name, size):
        for run, answers in runs.items():
            for metric in metrics:
                drawn[run][metric].append(scores_on(metric, answers, weights))  # type: ignore[arg-type]  # as seen above
    return {
        run: {
            metric: np.concatenate(chunks) - float(scores_on(metric, runs[run], whole)[0])  # type: ignore[index]  # as above
            for metric, chunks in by_metric.items()
        }
        for run, by_metric in drawn.items()
    }


def standard_error(metric: str, score: float, rows: int) -> float:
    """Of a score on so many rows: that of a correlation, (1 - r²) / √(N - 1); else the binomial one, with two right and
    two wrong answers more (Agresti and Coull 1998), so that no score is certain."""
    if metric in CORRELATIONS:
        return (1 - score**2) / math.sqrt(max(rows - 1, 1))
    share = (rows * min(max(score, 0.0), 1.0) + 2) / (rows + 4)  # a record that somebody edited may hold any number
    return math.sqrt(share * (1 - share) / (rows + 4))


def off_by_theory(name: str, metric: str, score: float, rows: int) -> np.ndarray:
    """The same where no predictions are known: (DRAWS,). name: of the run, on which nothing else depends."""
    normal = stream("theory", name).standard_normal(DRAWS)
    if metric in CORRELATIONS and abs(score) < 1 and rows > 3:
        return np.tanh(np.arctanh(score) + normal / math.sqrt(rows - 3)) - score
    return standard_error(metric, score, rows) * normal


# --- seeds ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Seed:
    """A run's score on one task with one seed. off: (DRAWS,), by how much on other rows. rows: the name of its rows."""

    score: float
    off: np.ndarray
    rows: str


@functools.cache
def _of_seed(seed: int) -> np.ndarray:
    return stream("seed", seed).standard_normal(DRAWS)


@functools.cache
def _tails(degrees: int) -> np.ndarray:
    """What turns normal draws into Student's."""
    return np.sqrt(degrees / stream("tails", degrees).chisquare(degrees, DRAWS))


def over_seeds(name: str, seeds: Mapping[int, Seed], usual: float) -> Number:
    """The mean of a score over seeds, with draws.

    Args:
        name: of the cell, on which the draws of borrowed spread depend.
        seeds: by seed; at least one.
        usual: the standard deviation over seeds that other experiments have, on the same rows.
    """
    n, scores = len(seeds), np.array([seed.score for seed in seeds.values()])
    mean = float(scores.mean())
    lacking = max(0, ENOUGH - n)
    rows = np.mean([seed.off for seed in seeds.values()], axis=0)
    if n > 1 and len({seed.rows for seed in seeds.values()}) > 1:
        usual = math.hypot(usual, float(np.mean([seed.off.std() for seed in seeds.values()])))
        rows = np.zeros(DRAWS)
    own = sum(_of_seed(number) * (seed.score - mean) for number, seed in seeds.items())
    borrowed = math.sqrt(lacking) * usual * stream("borrowed", name).standard_normal(DRAWS) if lacking else 0.0
    degrees = lacking + n - 1
    return around(mean, rows + (own + borrowed) / math.sqrt(n * degrees) * _tails(degrees))


def pooled_deviation(groups: Sequence[Sequence[Seed]]) -> tuple[float, int]:
    """The standard deviation of a score over seeds, pooled over groups of runs that differ in the seed alone, and its
    degrees of freedom; (nan, 0) if no group has two. Of runs that were each tested on rows of their own, what such rows
    explain is taken off."""
    squares, degrees = 0.0, 0
    for seeds in groups:
        if len(seeds) < 2:
            continue
        variance = float(np.var([seed.score for seed in seeds], ddof=1))
        if len({seed.rows for seed in seeds}) > 1:
            variance -= float(np.mean([seed.off.var() for seed in seeds]))
        squares += variance * (len(seeds) - 1)
        degrees += len(seeds) - 1
    return (math.sqrt(max(squares, 0.0) / degrees), degrees) if degrees else (math.nan, 0)


def ratio_of_deviations(name: str, one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Number:
    """The standard deviation over seeds of one method to another's, pooled over groups of scores, with draws: those of
    the F distribution, as for any two samples from normal distributions."""
    (own, degrees), (theirs, others) = (
        (sum(np.var(group, ddof=1) * (len(group) - 1) for group in groups), sum(len(group) - 1 for group in groups))
        for groups in (one, other)
    )
    ratio = (own / degrees) / (theirs / others) if theirs > 0 else math.inf
    drawn = stream("ratio", name).f(degrees, others, DRAWS)
    return np.sqrt(np.concatenate([[ratio], ratio / drawn]))


# --- order ------------------------------------------------------------------------------------------------------------
def rank_correlation(name: str, x: Sequence[Number], y: Sequence[Number]) -> Number:
    """Spearman's rho of two columns, with draws: of the numbers, and of the rows with replacement. 0 where one column
    does not vary."""
    columns = [np.stack([np.broadcast_to(number, 1 + DRAWS) for number in column]) for column in (x, y)]
    chosen = stream("order", name, len(x)).integers(len(x), size=(len(x), DRAWS))
    chosen = np.concatenate([np.arange(len(x))[:, None], chosen], axis=1)  # the rows as they are come first
    ranks = [stats.rankdata(np.take_along_axis(column, chosen, axis=0), axis=0) for column in columns]
    first, second = (rank - rank.mean(axis=0) for rank in ranks)
    scale = np.sqrt((first**2).sum(0) * (second**2).sum(0))
    return np.divide((first * second).sum(0), scale, out=np.zeros(1 + DRAWS), where=scale > 0)
