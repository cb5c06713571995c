"""What a comparison can see, asked before anything is trained: the smallest difference of two rows that would be found.

Two rows of a table are trained with the same n seeds and tested on the same N rows. The standard error of the difference of
their scores has two parts,

    se^2 = s^2 / n + d^2 / N

s: standard deviation over seeds of the difference of two rows, on the same test rows. d: of the difference on one test row.
More seeds make the first part smaller, more test rows the second. s has the source that verdicts have, runs that learned
(`peftlib.report.uncertainty.pooled_deviation`); in what has been trained, equal seeds of both rows make it no smaller. d is
the residual of a two-way layout (`spread`); where answers on test rows are not known, that of two methods that err
independently (`independent`), which is more than it is for two that share most of their errors.

A difference is found if a two-sided t test rejects at `LEVEL`; the smallest that is found in a share `POWER` of cases
follows from the noncentral t distribution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from peftlib.report.uncertainty import LEVEL, Seed, pooled_deviation

POWER = 0.8
CORRELATIONS = ("pearson", "spearman")


class Spread(NamedTuple):
    """Standard deviation, here of a difference of two rows, and the degrees of freedom that it is known with."""

    sd: float
    degrees: float


def over_seeds(groups: Iterable[Sequence[Seed]]) -> Spread | None:
    """s of the module's formula, from groups of runs that differ in the seed alone; None if no group has two."""
    deviation, degrees = pooled_deviation(list(groups))
    return Spread(math.sqrt(2) * deviation, degrees) if degrees else None


def spread(scores: np.ndarray) -> Spread | None:
    """Of the difference of two rows of a table, from one test row to another. scores: (rows, test rows); what is common to
    either is no spread. None for fewer than two test rows.

    With a single row there is nothing to pair: its difference to another is taken to be that of two independent ones.
    """
    rows, blocks = scores.shape
    if blocks < 2:
        return None
    left = scores - scores.mean(axis=1, keepdims=True)
    if rows > 1:
        left = left - left.mean(axis=0, keepdims=True)
    degrees = max(rows - 1, 1) * (blocks - 1)
    return Spread(math.sqrt(2 * float((left**2).sum()) / degrees), degrees)


def pooled(spreads: Iterable[Spread]) -> Spread | None:
    """One spread from several, weighted by their degrees of freedom; None from none."""
    found = list(spreads)
    degrees = sum(one.degrees for one in found)
    return Spread(math.sqrt(sum(one.degrees * one.sd**2 for one in found) / degrees), degrees) if degrees else None


def independent(metric: str, score: float) -> float:
    """d of the module's formula for two methods of about such a score, out of 1, that err independently: a share of right
    answers is binomial, a correlation has Fisher's standard error, and Matthews' coefficient is twice as wide as the share
    (between two classes of one size it is 2 share - 1)."""
    if metric in CORRELATIONS:
        return math.sqrt(2) * (1 - score**2)
    share = (score + 1) / 2 if metric == "matthews" else score
    return math.sqrt(2 * share * (1 - share)) * (2 if metric == "matthews" else 1)


def error(over_seeds: float, seeds: int, over_rows: float, rows: int) -> float:
    """The standard error of a difference: s, n, d and N of the module's formula."""
    return math.sqrt(over_seeds**2 / seeds + over_rows**2 / rows)


def smallest_difference(error: float, degrees: float = math.inf, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest true difference that a two-sided t test finds at `level` in a share `power` of cases.

    Args:
        error: the standard error of the difference.
        degrees: of freedom that it is known with.
    """
    if math.isinf(degrees):
        critical = stats.norm.isf(level / 2)
        found = stats.norm.sf
    else:
        critical = stats.t.isf(level / 2, degrees)

        def found(at: float, shift: float) -> float:
            return float(stats.nct.sf(at, degrees, shift))

    def lacking(shift: float) -> float:
        return found(critical, shift) + (1 - found(-critical, shift)) - power

    return error * optimize.brentq(lacking, 0.0, 100.0)
