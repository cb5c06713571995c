"""The scores of section 5.2 of AdaptBert: accuracy, and Pearson's correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score

from peftlib.data.tasks import Task


def readable(task: Task, read: Sequence[float | None], labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Predictions from what written answers say, (rows,), and how many said nothing (None). Those become what is most
    wrong: another class than the label's, or the end of the scale farthest from it."""
    missing = np.array([label is None for label in read])
    if task.kind == "score":
        wrong = np.where(labels - task.low > task.high - labels, task.low, task.high)
    else:
        wrong = (labels + 1) % len(task.labels)
    found = np.array([0 if label is None else label for label in read])
    return np.where(missing, wrong, found).astype(labels.dtype), int(missing.sum())


def score(metric: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """One number in [0, 1] for accuracy, [-1, 1] for pearson; a constant prediction correlates with nothing: 0."""
    if metric == "accuracy":
        return float(accuracy_score(labels, predictions))
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    value = float(pearsonr(predictions, labels).statistic)
    return 0.0 if math.isnan(value) else value
