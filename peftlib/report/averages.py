"""Averages over a suite: a row's numbers by task, and on how many rows they rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peftlib.data.tasks import get_task

# Rows to test on, of the official data: for GLUE and SuperGLUE those of the Compacter paper (section 5), the official
# validation rows or half of them; so for others without a labelled test split. What stands together is counted as it is
# scored first: MultiRC's answers, ReCoRD's queries. How many there are of LaMP's authors is not known.
TEST_ROWS = {
    "cola": 522,
    "sst2": 872,
    "mrpc": 204,
    "qqp": 40_430,
    "stsb": 750,
    "mnli": 9_815,
    "qnli": 5_463,
    "rte": 139,
    "boolq": 1_635,
    "cb": 28,
    "copa": 50,
    "multirc": 2_424,
    "record": 10_000,
    "wic": 319,
    "wnli": 36,
    "axb": 1_104,
    "axg": 356,
    "scitail": 2_126,
    "trec": 250,
    "imdb": 12_500,
    "yelp_polarity": 19_000,
    "paws": 8_000,
}
STAND_IN_ROWS = {  # in a local folder
    "quora": 1_000,
    "xnli_resplit": 300,
    "qnli_resplit": 500,
    "boolq_resplit": 400,
    "pawsx_resplit": 251,
    "imdb_10k": 5_000,
    "yelp_sentences": 1_000,
    "news_category": 2_052,
}
TINY = ("cb", "copa")  # of SuperGLUE; one row is 3.6 and 2 points
CS224N_ROWS = {"sst": 854, "cfimdb": 170, "quora": 1_000, "sts": 604}  # to test on, in a local folder
HELD = 1_000  # training rows that validate where the paper holds some out
VALIDATION_ROWS = {  # where there are neither so many nor as many as to test on
    "sst": 1_101,
    "cfimdb": 245,
    "quora": 20_212,
    "sts": 863,
    "axb": 138,
    "axg": 138,
    "scitail": 1_304,
    "news_category": 448,
}
USUAL_SCORE = 0.8


def keys(task: str) -> list[str]:
    """The names of a task's numbers in a record: its own, or "task.metric" where it has several metrics."""
    metrics = get_task(task).metrics
    return [task] if len(metrics) == 1 else [f"{task}.{metric}" for metric in metrics]


def by_task(numbers: Mapping[str, float], between: str = "_") -> dict[str, float]:
    """One number a task: the mean of its metrics. between: what parts the names of task and metric, "_" in the columns of
    printed tables (``mrpc_f1``), "." in records (``mrpc.f1``)."""
    tasks: dict[str, list[float]] = {}
    for name, value in numbers.items():
        tasks.setdefault(name.split(between)[0], []).append(value)
    return {task: sum(values) / len(values) for task, values in tasks.items()}


def margin(test_rows: Mapping[str, int]) -> float:
    """Two standard errors, in points, of an average over the numbers of these tasks.

    A score near 0.8 on N rows has a standard error of sqrt(0.8 (1 - 0.8) / N), whatever the metric; the numbers of one
    task are right and wrong on the same rows, those of two tasks are independent. Two methods are tested on the same
    rows, by which the error of their difference is about that of either average.
    """
    numbers = {task: len(get_task(task).metrics) for task in test_rows}
    variance = sum(numbers[task] ** 2 * USUAL_SCORE * (1 - USUAL_SCORE) / rows for task, rows in test_rows.items())
    return 2 * 100 * variance**0.5 / sum(numbers.values())


def test_rows(task: str, source: str, limit: int | None) -> int | None:
    """On how many rows a task is tested that is given at most `limit`; None if that is not known."""
    return _fewer((TEST_ROWS | STAND_IN_ROWS | CS224N_ROWS).get(task), source, limit)


def validation_rows(task: str, source: str, limit: int | None) -> int | None:
    """On how many it is validated: of a split that is halved as many as to test on; where rows are held out of train, as
    many as that takes."""
    held = HELD if get_task(task).splits == "held validation" else None
    return _fewer(VALIDATION_ROWS.get(task) or held or (TEST_ROWS | STAND_IN_ROWS).get(task), source, limit)


def _fewer(there: int | None, source: str, limit: int | None) -> int | None:
    if source == "embedded" or there is None:  # the embedded suite has as many as are asked for
        return limit
    return min(there, limit or there)


def rows_tested(source: Sequence[dict]) -> dict[str, int]:
    """Test rows by task, of the runs that an experiment asks for (`peftlib.study.Results`) or of its records."""
    runs = [(run.tasks, run.limits, run.source) for run in getattr(source, "wanted", ())]
    runs += [(r["run"]["tasks"], r["run"]["limits"], r["run"]["source"]) for r in source]
    found = {task: test_rows(task, where, limits[2]) for tasks, limits, where in runs for task in tasks}
    return {task: rows for task, rows in found.items() if rows is not None}
