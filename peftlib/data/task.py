"""What a task is: the columns of a row, what is predicted, with which loss and metrics, and how its splits are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

Metric = Literal["accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "exact_match", "entity_f1", "entity_em"]


@dataclass(frozen=True)
class Task:
    """One task.

    ``kind`` decides the loss of a classification head (AdaptBert, section 4): "classes" cross entropy on one logit per
    class, "binary" binary cross entropy on one logit, "score" mean square error on one output.

    ``splits`` says where validation and test come from, for the sources "local" and "hub" (the embedded suite has three
    splits of its own): "as given" takes a labelled test split where there is one, else a tenth of train (at most 1,000
    rows); "halves" and "held validation" are the rules of Compacter, section 5: the original validation set divided in
    two for tasks of fewer than 10,000 training rows; 1,000 training rows as validation and the original validation set
    as test for larger ones.
    """

    name: str
    kind: Literal["classes", "binary", "score"]
    texts: tuple[str, ...]  # columns that hold text
    label: str = "label"  # column that holds the label
    labels: tuple[str, ...] = ()  # class names in the order of the label ids 0, 1, ...; empty for a score
    low: float = 0.0  # range of a score
    high: float = 0.0
    metrics: tuple[Metric, ...] = ("accuracy",)
    title: str = ""
    citation: str = ""
    suite: str = "cs224n"  # the folder of the task in PEFTLIB_DATA is suite/folder
    folder: str = ""  # "": the task's name
    splits: Literal["as given", "halves", "held validation"] = "as given"
    validation: str = "validation"  # what the sources "local" and "hub" call the validation split
    hub: str | None = None  # data set on the Hugging Face hub, "path" or "path,configuration"
    hub_columns: tuple[tuple[str, str], ...] = ()  # (name there, name here) where they differ
    hub_test: bool = False  # whether the hub's test split has true labels (asked only where splits is "as given")
    source_columns: tuple[str, ...] = ()  # columns that ``rows`` needs; (): the text and label columns
    rows: Callable[[pd.DataFrame], pd.DataFrame] | None = None  # a source's rows to one row per example, with "group"
    segments: Callable[[tuple[str, ...]], tuple[str, ...]] | None = None  # texts to the one or two an encoder reads
    fields: tuple[str, ...] = ()  # text columns in the order of the text-to-text form; (): the order of ``texts``
    text_name: str = ""  # what the text-to-text form calls the task; "": its name

    @property
    def outputs(self) -> int:
        """Numbers the head predicts for one example."""
        return len(self.labels) if self.kind == "classes" else 1

    @property
    def metric(self) -> Metric:
        """The first metric."""
        return self.metrics[0]

    @property
    def words(self) -> tuple[str, ...]:
        """The answers of the text-to-text form: the class names, or for a score every 0.2 of its range.

        Raffel et al. 2020 (section 2.4) and Compacter (appendix A) call STS-B a task of 21 classes, which is the count
        from 1 to 5; its scores begin at 0, so here it has 26.
        """
        if self.kind != "score":
            return self.labels
        first, last = round(self.low * 5), round(self.high * 5)
        return tuple(f"{fifth / 5:.1f}" for fifth in range(first, last + 1))
