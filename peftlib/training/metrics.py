"""The scores of section 5.2 of AdaptBert: accuracy, and Pearson's correlation."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score


def score(metric: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """One number in [0, 1] for accuracy, [-1, 1] for pearson; a constant prediction correlates with nothing: 0."""
    if metric == "accuracy":
        return float(accuracy_score(labels, predictions))
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    value = float(pearsonr(predictions, labels).statistic)
    return 0.0 if math.isnan(value) else value
