"""The tasks of the study: what a row holds, what is predicted, with which loss and metric."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from peftlib.errors import UsageError


@dataclass(frozen=True)
class Task:
    """One task.

    ``kind`` decides the loss (AdaptBert, section 4): "classes" cross entropy on one logit per class, "binary" binary
    cross entropy on one
    logit, "score" mean square error on one output.
    """

    name: str
    kind: Literal["classes", "binary", "score"]
    texts: tuple[str, ...]  # columns that hold text: one, or two for a pair
    label: str  # column that holds the label
    labels: tuple[str, ...] = ()  # class names in the order of the label ids 0, 1, ...; empty for a score
    low: float = 0.0  # range of a score
    high: float = 0.0
    metric: Literal["accuracy", "pearson"] = "accuracy"
    title: str = ""
    citation: str = ""
    hub: str | None = None  # data set on the Hugging Face hub, "path" or "path,configuration"
    hub_columns: tuple[tuple[str, str], ...] = ()  # (name there, name here) where they differ
    hub_test: bool = False  # whether the hub's test split has true labels; otherwise test is held out of train

    @property
    def outputs(self) -> int:
        """Numbers the head predicts for one example."""
        return len(self.labels) if self.kind == "classes" else 1


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="sst",
            kind="classes",
            texts=("sentence",),
            label="label",
            labels=("most negative", "negative", "neutral", "positive", "most positive"),
            title="Stanford Sentiment Treebank, five grades",
            citation="Socher et al. 2013, Recursive Deep Models for Semantic Compositionality",
            hub="SetFit/sst5",
            hub_columns=(("text", "sentence"),),
            hub_test=True,
        ),
        Task(
            name="cfimdb",
            kind="classes",
            texts=("sentence",),
            label="label",
            labels=("negative", "positive"),
            title="CFIMDB, highly polar film reviews",
            citation="CS 224N default final project, Stanford; reviews after Maas et al. 2011",
        ),
        Task(
            name="quora",
            kind="binary",
            texts=("sentence1", "sentence2"),
            label="is_duplicate",
            labels=("different", "paraphrase"),
            title="Quora question pairs, paraphrase detection",
            citation="Iyer, Dandekar and Csernai 2017, First Quora Dataset Release: Question Pairs",
            hub="nyu-mll/glue,qqp",
            hub_columns=(("question1", "sentence1"), ("question2", "sentence2"), ("label", "is_duplicate")),
        ),
        Task(
            name="sts",
            kind="score",
            texts=("sentence1", "sentence2"),
            label="similarity",
            low=0.0,
            high=5.0,
            metric="pearson",
            title="Semantic textual similarity, 0 (unrelated) to 5 (same meaning)",
            citation="Cer et al. 2017, SemEval-2017 Task 1: Semantic Textual Similarity",
            hub="nyu-mll/glue,stsb",
            hub_columns=(("label", "similarity"),),
        ),
    )
}


def get_task(name: str) -> Task:
    """The task of that name. Raises ``UsageError`` with the known names and the closest one."""
    if name in TASKS:
        return TASKS[name]
    close = difflib.get_close_matches(str(name).lower(), TASKS, n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"unknown task {name!r}; known tasks: {', '.join(TASKS)}{hint}")
