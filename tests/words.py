"""What a bag of words makes of a task: the words of each segment, and nothing of their order."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from peftlib.data import Examples


class Words:
    """Counts of the words of some examples' segments, one vocabulary a segment."""

    def __init__(self, train: Examples):
        self.bags = [CountVectorizer(min_df=2).fit(column) for column in zip(*train.segments, strict=True)]

    def __call__(self, examples: Examples) -> csr_matrix:
        columns = zip(*examples.segments, strict=True)
        return hstack([bag.transform(column) for bag, column in zip(self.bags, columns, strict=True)]).tocsr()


def predicted(train: Examples, other: Examples) -> np.ndarray:
    """Classes of the other rows by a logistic regression on words."""
    words = Words(train)
    return LogisticRegression(C=0.3, max_iter=500).fit(words(train), train.labels).predict(words(other))


def accuracy(train: Examples, other: Examples) -> float:
    return float((predicted(train, other) == other.labels).mean())
