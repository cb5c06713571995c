"""The scores of the papers: AdaptBert, section 5.2; GLUE's and SuperGLUE's as Compacter reports them, Tables 1 and 2."""

from __future__ import annotations

import math
import re
import string
import typing
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from peftlib.data.task import OF_ENTITIES, Task
from peftlib.errors import UsageError

if typing.TYPE_CHECKING:
    T = typing.TypeVar("T")

CORRELATIONS = {"pearson": pearsonr, "spearman": spearmanr}


def score(
    metric: str,
    predictions: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str] | None = None,
    entities: Sequence[str] | None = None,
    margins: np.ndarray | None = None,
) -> float:
    """One number in [0, 1], or [-1, 1] for Matthews and the correlations.

    A constant prediction correlates with nothing: 0. Raises ``UsageError`` for an unknown metric, and where ``groups``,
    ``entities`` or ``margins`` are needed and absent.

    metric:
        "accuracy"; "f1" of class 1 (for MultiRC, over all answers, it is F1a); "macro_f1", the mean over the classes
        that occur; "matthews"; "pearson"; "spearman"; "exact_match", the share of groups with no wrong row (MultiRC);
        "entity_em" and "entity_f1": see ``_entities`` (ReCoRD).
    groups, entities, margins: for each row the question it belongs to, the text of its entity, and how much likelier class
        1 is than class 0 (on any scale: rows of a group are compared).
    """
    if metric == "accuracy":
        return float(accuracy_score(labels, predictions))
    if metric in CORRELATIONS:
        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return 0.0
        value = float(CORRELATIONS[metric](predictions, labels).statistic)
        return 0.0 if math.isnan(value) else value
    if metric == "f1":
        return float(f1_score(labels, predictions, zero_division=0))
    if metric == "macro_f1":
        return float(f1_score(labels, predictions, average="macro", zero_division=0))
    if metric == "matthews":
        return float(matthews_corrcoef(labels, predictions))
    if metric == "exact_match":
        return _exact_match(predictions, labels, _given("groups", metric, groups))
    if metric in OF_ENTITIES:
        groups, entities = _given("groups", metric, groups), _given("entities", metric, entities)
        return _entities(metric, _given("margins", metric, margins), labels, groups, entities)
    raise UsageError(f"unknown metric {metric!r}; see peftlib.training.metrics.score")


def scores(
    task: Task,
    predictions: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str] | None = None,
    texts: Sequence[tuple[str, ...]] | None = None,
    margins: np.ndarray | None = None,
) -> dict[str, float]:
    """Every metric of a task by name.

    ``groups`` and ``texts`` are those of ``Examples`` and needed by MultiRC (groups) and ReCoRD (both, and ``margins``).
    """
    entities = [row[task.texts.index("entity")] for row in texts] if texts and "entity" in task.texts else None
    return {metric: score(metric, predictions, labels, groups, entities, margins) for metric in task.metrics}


def needs_margins(task: Task) -> bool:
    """Whether a metric compares rows by how likely class 1 is, which class ids do not tell."""
    return not set(task.metrics).isdisjoint(OF_ENTITIES)


def average(by_task: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over all numbers of all tasks, by which a task of two metrics weighs double.

    That is how the column "Avg" of Compacter's Tables 1 and 2 comes about: 86.50 for T5-base, where the mean over tasks,
    each task's own mean first, would be 84.97. (The paper does not say so; its numbers do.)
    """
    values = [value for found in by_task.values() for value in found.values()]
    return sum(values) / len(values)


def from_answers(task: Task, found: Sequence[int | float | None], labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Predictions from what ``read_answer`` made of written answers, and how many stood for no label.

    Such an answer counts as wrong in every metric: the other one of two classes, the next class of several, the far end
    of a scale.
    """

    def wrong(label: float) -> float:
        if task.kind == "score":
            return task.low if label - task.low > task.high - label else task.high
        return (label + 1) % len(task.labels)

    values = [wrong(label) if value is None else value for value, label in zip(found, labels, strict=True)]
    return np.array(values, dtype=np.asarray(labels).dtype), sum(value is None for value in found)


def _given(what: str, metric: str, value: T | None) -> T:
    if value is None:
        raise UsageError(f"metric {metric!r} needs {what}: one for each row, as Examples of the task have them")
    return value


def _by_group(groups: Sequence[str]) -> list[list[int]]:
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    return list(rows.values())


def _exact_match(predictions: np.ndarray, labels: np.ndarray, groups: Sequence[str]) -> float:
    right = np.asarray(predictions) == np.asarray(labels)
    return float(np.mean([right[rows].all() for rows in _by_group(groups)]))


def _entities(
    metric: str, margins: np.ndarray, labels: np.ndarray, groups: Sequence[str], entities: Sequence[str]
) -> float:
    """ReCoRD (Zhang et al. 2018): of each query the entity of the largest margin, the first of equals, is compared
    with every answer; EM: is it one of them? F1: its largest overlap in words with one. Both after normalisation."""

    def best(rows: list[int]) -> float:
        chosen = entities[max(rows, key=lambda row: margins[row])]
        compare = _overlap if metric == "entity_f1" else _same
        return max((compare(chosen, entities[row]) for row in rows if labels[row] == 1), default=0.0)

    return float(np.mean([best(rows) for rows in _by_group(groups)]))


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and articles, as in SQuAD's evaluation (Rajpurkar et al. 2016, section 6.1)."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _same(a: str, b: str) -> float:
    return float(_words(a) == _words(b))


def _overlap(a: str, b: str) -> float:
    common = sum((Counter(_words(a)) & Counter(_words(b))).values())
    return 2 * common / (len(_words(a)) + len(_words(b))) if common else 0.0
