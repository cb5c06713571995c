"""The statistics page: against closed forms, against scipy, and on simulated data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from peftlib.report import uncertainty
from peftlib.report.relations import decide
from peftlib.report.uncertainty import (
    DRAWS,
    Answers,
    Odds,
    Seed,
    around,
    exact,
    holm,
    interval,
    odds,
    off_by_rows,
    over_seeds,
    rank_correlation,
    settle,
    smallest_seen,
    together,
)
from peftlib.training import metrics

NO_ROWS = np.zeros(DRAWS)
CLASSES = Answers(*np.random.default_rng(1).integers(0, 3, (2, 300)))
BINARY = Answers(*np.random.default_rng(2).integers(0, 2, (2, 300)))
SCORES = np.random.default_rng(3).standard_normal((2, 300))
SCORES = Answers(SCORES[0] + SCORES[1], SCORES[1])


def seeds(scores, rows: str = "r", off=NO_ROWS) -> dict[int, Seed]:
    return {number: Seed(score, off, rows) for number, score in enumerate(scores)}


# --- seeds ------------------------------------------------------------------------------------------------------------
def test_a_difference_over_seeds_has_students_paired_interval():
    """Whatever the two rows share by seed is gone from their difference."""
    random = np.random.default_rng(0)
    shared, own = random.normal(0, 5, 6), random.normal(0.4, 0.5, 6)
    gap = over_seeds("a", seeds(shared + own), 9.0) - over_seeds("b", seeds(shared), 9.0)
    low, high = stats.t.interval(0.95, 5, own.mean(), own.std(ddof=1) / 6**0.5)
    assert gap[0] == pytest.approx(own.mean())
    assert interval(gap) == pytest.approx((low, high), abs=0.06 * (high - low))


def test_an_average_over_tasks_has_the_interval_of_the_averages():
    tasks = np.random.default_rng(0).normal(0, 1, (4, 7))
    whole = sum(over_seeds(str(i), seeds(task), 1.0) for i, task in enumerate(tasks)) / 4
    by_seed = tasks.mean(axis=0)
    expected = stats.t.interval(0.95, 6, by_seed.mean(), by_seed.std(ddof=1) / 7**0.5)
    assert interval(whole) == pytest.approx(expected, abs=0.06 * (expected[1] - expected[0]))


def test_fewer_seeds_have_wider_intervals():
    widths = []
    for n in (1, 2, 3, 4, 5, 8):
        spread = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
        scores = spread / (spread.std(ddof=1) if n > 1 else 1)  # a deviation of 1 over seeds, like the usual one
        widths.append(smallest_seen(over_seeds("cell", seeds(scores), 1.0)))
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == pytest.approx(stats.t.isf(0.025, 4), rel=0.06)  # borrowed: one seed, four degrees of freedom
    assert widths[4] == pytest.approx(stats.t.isf(0.025, 4) / 5**0.5, rel=0.06)  # its own: five
    assert smallest_seen(over_seeds("cell", seeds([0.0]), 2.0)) == pytest.approx(2 * widths[0], rel=1e-9)


@pytest.mark.parametrize("n", [5, 8])
def test_intervals_over_seeds_cover_the_truth_in_95_of_100_cases(n):
    samples = np.random.default_rng(n).normal(3.0, 1.0, (600, n))
    ends = np.array([interval(over_seeds(str(i), seeds(sample), 1.0)) for i, sample in enumerate(samples)])
    assert 0.925 <= np.mean((ends[:, 0] <= 3) & (ends[:, 1] >= 3)) <= 0.975


@pytest.mark.parametrize(("n", "power"), [(5, 0.53), (8, 0.88)])
def test_equivalence_within_a_point_is_decided_as_often_as_planned(n, power):
    """Paired standard deviation of 0.8 points, no true difference, a margin of one point."""
    samples = np.random.default_rng(n).normal(0, 0.8, (800, n))
    shown = [settle([decide("on par", over_seeds(str(i), seeds(s), 0.8), 1.0)]) == [True] for i, s in enumerate(samples)]
    assert np.mean(shown) == pytest.approx(power, abs=0.045)


def test_a_difference_that_is_as_large_as_the_margin_is_rarely_called_none():
    samples = np.random.default_rng(0).normal(1.0, 0.8, (600, 5))
    wrong = [settle([decide("on par", over_seeds(str(i), seeds(s), 0.8), 1.0)]) == [True] for i, s in enumerate(samples)]
    assert np.mean(wrong) <= 0.075
    better = [settle([decide("better", over_seeds(str(i), seeds(s - 1), 0.8), 0)]) == [True] for i, s in enumerate(samples)]
    assert np.mean(better) <= 0.045  # two-sided: one in forty


def test_the_usual_deviation_is_pooled_and_free_of_what_other_rows_explain():
    groups = [list(seeds(scores).values()) for scores in ([1.0, 2.0, 3.0], [0.0, 4.0], [7.0])]
    assert uncertainty.pooled_deviation(groups) == (pytest.approx(((2 * 1 + 1 * 8) / 3) ** 0.5), 3)
    noise = np.random.default_rng(0).standard_normal(DRAWS)
    own_rows = [[Seed(score, noise, str(i)) for i, score in enumerate((0.0, 2.0))]]
    assert uncertainty.pooled_deviation(own_rows)[0] == pytest.approx((2 - noise.var()) ** 0.5)
    assert np.isnan(uncertainty.pooled_deviation([[Seed(1.0, NO_ROWS, "r")]])[0])


def test_rows_of_their_own_are_counted_once():
    """Seeds that were tested on rows of their own spread by these, too: their noise is not added again."""
    noise = np.random.default_rng(0).standard_normal(DRAWS)
    own = {i: Seed(score, noise, str(i)) for i, score in enumerate((0.0, 0.1, 0.2, 0.3, 0.4))}
    same = {i: Seed(seed.score, noise, "r") for i, seed in own.items()}
    assert smallest_seen(over_seeds("a", own, 1.0)) < 0.3 < 1.5 < smallest_seen(over_seeds("a", same, 1.0))


def test_a_ratio_of_deviations_has_fishers_interval():
    one, other = np.random.default_rng(0).normal(0, [[2.0], [1.0]], (2, 6))
    ratio = uncertainty.ratio_of_deviations("r", [one], [other])
    squared = one.var(ddof=1) / other.var(ddof=1)
    expected = np.sqrt(squared / stats.f.isf([0.025, 0.975], 5, 5))
    assert ratio[0] == pytest.approx(squared**0.5) and interval(ratio) == pytest.approx(expected, rel=0.08)


# --- test rows --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("metric", "answers"),
    [
        ("accuracy", CLASSES),
        ("macro_f1", CLASSES),
        ("matthews", CLASSES),
        ("f1", BINARY),
        ("matthews", BINARY),
        ("pearson", SCORES),
        ("spearman", SCORES),
    ],
)
def test_scores_on_drawn_rows_are_those_of_the_rows(metric, answers):
    times = next(uncertainty.drawn_rows("rows", 300))[:, :3]
    found = uncertainty.scores_on(metric, answers, np.concatenate([np.ones((300, 1), np.float32), times], axis=1))
    assert found[0] == pytest.approx(metrics.score(metric, answers.predictions, answers.labels), abs=1e-6)
    if metric == "spearman":  # the ranks are those among all rows
        return
    for draw in range(3):
        rows = np.repeat(np.arange(300), times[:, draw].astype(int))
        expected = metrics.score(metric, answers.predictions[rows], answers.labels[rows])
        assert found[1 + draw] == pytest.approx(expected, abs=1e-5)


def test_questions_are_drawn_as_a_whole():
    groups = np.repeat(np.arange(100), 3)
    answers = Answers(BINARY.predictions, BINARY.labels, groups)
    off = off_by_rows("q", ["accuracy", "exact_match"], {"run": answers})["run"]
    right = (BINARY.predictions == BINARY.labels).reshape(100, 3)
    assert off["exact_match"].std() == pytest.approx((right.all(1).var() / 100) ** 0.5, rel=0.06)
    assert off["accuracy"].std() == pytest.approx((right.mean(1).var() / 100) ** 0.5, rel=0.06)
    assert off_by_rows("q", ["entity_f1"], {"run": answers}) == {"run": {}}


def test_the_noise_of_rows_is_the_textbooks_and_scipys():
    off = off_by_rows("rows", ["accuracy"], {"run": CLASSES})["run"]["accuracy"]
    right = CLASSES.predictions == CLASSES.labels
    assert off.std() == pytest.approx((right.mean() * (1 - right.mean()) / 300) ** 0.5, rel=0.06)
    theirs = stats.bootstrap((right,), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert interval(around(right.mean(), off)) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    correlation = off_by_rows("rows", ["pearson"], {"run": SCORES})["run"]["pearson"]
    theory = uncertainty.off_by_theory("run", "pearson", float(np.corrcoef(*SCORES[:2])[0, 1]), 300)
    assert theory.std() == pytest.approx(correlation.std(), rel=0.15)
    assert uncertainty.standard_error("pearson", 0.0, 101) == 0.1
    assert uncertainty.standard_error("accuracy", 0.5, 96) == 0.05 and uncertainty.standard_error("accuracy", 1.0, 96) > 0


def test_runs_on_the_same_rows_are_compared_on_the_same_draws():
    better = CLASSES.predictions.copy()
    better[:30] = CLASSES.labels[:30]
    off = off_by_rows("rows", ["accuracy"], {"a": CLASSES, "b": CLASSES, "c": Answers(better, CLASSES.labels)})
    assert np.array_equal(off["a"]["accuracy"], off["b"]["accuracy"])
    again = off_by_rows("rows", ["accuracy"], {"d": CLASSES})["d"]["accuracy"]
    assert np.array_equal(off["a"]["accuracy"], again)  # in another table, too
    alone, paired = off["a"]["accuracy"].std(), (off["c"]["accuracy"] - off["a"]["accuracy"]).std()
    assert paired < 0.7 * alone


def test_intervals_over_seeds_and_rows_cover_the_truth():
    """Two methods, five seeds each, on the same 150 rows, which differ in difficulty: the truth is the difference of the
    expected accuracies. The draws may be a little too wide (Owen 2007), not too narrow."""
    random, rows, hits = np.random.default_rng(0), 150, []
    level = {"a": 0.9, "b": 0.5}
    many = random.normal(0, 1.5, 200_000)
    truth = np.subtract(*(np.mean(1 / (1 + np.exp(-many - shift))) for shift in level.values()))
    for world in range(120):
        difficulty, numbers = random.normal(0, 1.5, rows), {}
        answers = {
            f"{name}{seed}": Answers(
                (random.random(rows) < 1 / (1 + np.exp(-difficulty - shift - random.normal(0, 0.2)))).astype(int),
                np.ones(rows, int),
            )
            for name, shift in level.items()
            for seed in range(5)
        }
        off = off_by_rows(f"world {world}", ["accuracy"], answers)
        for name in level:
            runs = {
                seed: Seed(answers[f"{name}{seed}"].predictions.mean(), off[f"{name}{seed}"]["accuracy"], "r")
                for seed in range(5)
            }
            numbers[name] = over_seeds(f"{world} {name}", runs, 0.02)
        low, high = interval(numbers["a"] - numbers["b"])
        hits.append(low <= truth <= high)
    assert np.mean(hits) >= 0.92


# --- what is shown ----------------------------------------------------------------------------------------------------
def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_several_comparisons_need_more_than_one():
    barely = Odds(0.04, 1.0)
    assert settle([barely]) == [True] and settle([barely, Odds(0.5, 1.0)]) == [None, None]
    assert settle([barely, Odds(0.0, 1.0, sure=True)]) == [True, True]  # what is sure was not tried
    assert settle([barely, Odds(0.001, 1.0)]) == [True, True]
    assert settle([uncertainty.NOTHING]) == [None]


def test_all_and_some_of_what_is_known_and_not():
    assert [together(parts) for parts in ([True, True], [True, None], [None, False], [])] == [True, None, False, True]
    some = [together(parts, some=True) for parts in ([False, True], [None, True], [False, None], [False], [])]
    assert some == [True, True, None, False, False]


def test_exact_numbers_decide_exactly():
    assert odds(exact(1.0) > 0) == (0.0, 1.0, True) and odds(exact(0.0) > 0) == (1.0, 0.0, True)
    assert interval(exact(2.0)) == (2.0, 2.0) and smallest_seen(exact(2.0)) == 0
    same = around(0.0, np.zeros(DRAWS))  # a row less itself
    assert settle([decide("better", same, 0.0)]) == [False] and settle([decide("on par", same, 0.0)]) == [True]


# --- order ------------------------------------------------------------------------------------------------------------
def test_a_rank_correlation_is_scipys_with_its_interval():
    random = np.random.default_rng(0)
    x = random.normal(size=25)
    y = x + random.normal(size=25)
    rho = rank_correlation("r", [exact(v) for v in x], [exact(v) for v in y])
    assert rho[0] == pytest.approx(stats.spearmanr(x, y).statistic)
    theirs = stats.bootstrap(
        (x, y),
        lambda a, b: stats.spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=0,
    ).confidence_interval
    assert interval(rho) == pytest.approx((theirs.low, theirs.high), abs=0.06)
    noisy = [around(v, 3 * random.standard_normal(DRAWS)) for v in y]
    assert smallest_seen(rank_correlation("r", [exact(v) for v in x], noisy)) > smallest_seen(rho)
    assert rank_correlation("r", [exact(1.0)] * 5, [exact(v) for v in range(5)])[0] == 0


def test_draws_are_the_same_every_time():
    one, two = (over_seeds("cell", seeds([0.1, 0.2]), 0.1) for _ in range(2))
    assert np.array_equal(one, two) and not np.array_equal(one, over_seeds("other", seeds([0.1, 0.2]), 0.1))
