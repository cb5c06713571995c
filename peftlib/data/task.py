"""What a task is: the columns of a row, what is predicted, with which loss and metrics, and how its splits are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from peftlib.errors import UsageError, short

Metric = Literal[
    "accuracy",
    "f1",
    "macro_f1",
    "matthews",
    "pearson",
    "spearman",
    "exact_match",
    "entity_f1",
    "entity_em",
    "gender_parity",
]
CORRELATIONS = ("pearson", "spearman")  # of scores; the others are of classes
OF_CLASS_1 = ("f1", "entity_f1", "entity_em")  # of two classes
OF_ENTITIES = ("entity_f1", "entity_em")
OF_GROUPS = ("exact_match", "gender_parity", *OF_ENTITIES)
OF_CLASSES = ("accuracy", "macro_f1", "matthews", "exact_match", "gender_parity", *OF_CLASS_1)
SPLITTINGS = ("as given", "halves", "held validation", "by group")
TAKEN = ("mean", "unreadable")  # what a table of scores has beside its tasks


@dataclass(frozen=True)
class Task:
    """One task.

    ``kind`` decides the loss of a classification head (AdaptBert, section 4): "classes" cross entropy on one logit per
    class, "binary" binary cross entropy on one logit, "score" mean square error on one output.

    ``splits`` says where validation and test come from, for the sources "local" and "hub" (the embedded suite has three
    splits of its own): "as given" takes a labelled test split where there is one, else a tenth of train (at most 1,000
    rows); "halves" and "held validation" are the rules of Compacter, section 5: the original validation set divided in
    two for tasks of fewer than 10,000 training rows; 1,000 training rows as validation and the original validation set
    as test for larger ones. "by group", for all three sources: the three splits of the source are put together, and every
    group (an author) is divided: 30 % of its rows are test, a tenth of the others (one row at least) validation.

    ``rows`` makes the examples of one row of a source (column -> value), each with every text, the label and its
    "group"; raises ``DataError`` for a row that is not nested as it must be. ``known_bad`` names rows by their texts that
    the official files have and nobody can use: they are left out, wherever they stand, and counted; every other row that
    cannot be used is an error. ``regroup`` sees the texts, labels and groups of all rows that are divided by group, and
    says anew to which group each belongs, ``None`` to leave it out.

    ``trained_on`` names the task whose train and validation rows serve a test set that has none of its own. ``part_of``
    (task, group): the rows of one group of a task alone; `peftlib.data.tasks.get_task` makes such tasks.

    Raises ``UsageError`` for fields that cannot be used, alone or together.
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
    splits: Literal["as given", "halves", "held validation", "by group"] = "as given"
    validation: str = "validation"  # what the sources "local" and "hub" call the validation split
    hub: str | None = None  # data set on the Hugging Face hub, "path" or "path,configuration"
    hub_columns: tuple[tuple[str, str], ...] = ()  # (name there, name here) where they differ
    hub_test: bool = False  # whether the hub's test split has true labels (asked only where splits is "as given")
    source_columns: tuple[str, ...] = ()  # columns that ``rows`` needs; (): the text and label columns
    rows: Callable[[dict], list[dict]] | None = None
    known_bad: tuple[tuple[str, ...], ...] = ()  # blank texts as ""
    named_labels: bool = False  # whether a source may write the names of classes in place of their ids
    regroup: Callable[[list[tuple[str, ...]], list[int], list[str]], list[str | None]] | None = None
    trained_on: str = ""
    part_of: tuple[str, ...] = ()
    segments: Callable[[tuple[str, ...]], tuple[str, ...]] | None = None  # texts to the one or two an encoder reads
    fields: tuple[str, ...] = ()  # text columns in the order of the text-to-text form; (): the order of ``texts``
    text_name: str = ""  # what the text-to-text form calls the task; "": its name

    def __post_init__(self):
        if (fault := next(self._faults(), None)) is not None:
            field, expected = fault
            raise UsageError(f"task {short(self.name)}: {field}={short(getattr(self, field))}; expected {expected}")

    def _faults(self) -> Iterator[tuple[str, str]]:
        """Fields that cannot be used, with what is expected of each. A line rests on those before it."""
        if not isinstance(self.name, str) or not self.name.isidentifier() or not self.name.isascii() or self.name in TAKEN:
            yield "name", f"letters, digits and _, no digit first, and neither {' nor '.join(TAKEN)}"
        if self.kind not in ("classes", "binary", "score"):
            yield "kind", "'classes', 'binary' or 'score'"
        for field in ("texts", "labels", "metrics", "fields", "source_columns"):
            found = getattr(self, field)
            if not isinstance(found, tuple) or not all(map(_is_word, found)) or len(set(found)) < len(found):
                yield field, "a tuple of strings, none blank, none twice"
        if not self.texts:
            yield "texts", "the names of one text column or more"
        if not _is_word(self.label) or self.label in self.texts:
            yield "label", "the name of a column that holds no text"
        if sorted(self.fields or self.texts) != sorted(self.texts):
            yield "fields", f"the text columns {', '.join(self.texts)} in some order"
        yield from self._faults_of_labels()
        yield from self._faults_of_metrics()
        if self.splits not in SPLITTINGS:
            yield "splits", f"one of {', '.join(SPLITTINGS)}"
        for field in ("title", "citation", "suite", "folder", "validation", "text_name", "trained_on"):
            if not isinstance(getattr(self, field), str):
                yield field, "a string"
        if not isinstance(self.part_of, tuple) or len(self.part_of) not in (0, 2) or not all(map(_is_word, self.part_of)):
            yield "part_of", "(), or a task and a group of it"
        if not isinstance(self.hub, str | None):
            yield "hub", "the name of a data set, or None"
        for field in ("rows", "segments", "regroup"):
            if getattr(self, field) is not None and not callable(getattr(self, field)):
                yield field, "a function, or None"
        if self.splits == "by group" and not self.rows:
            yield "splits", "another one without rows, which name the groups"
        if self.source_columns and not self.rows:
            yield "source_columns", "none without rows, which read them"
        pairs = self.hub_columns
        if not isinstance(pairs, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
            yield "hub_columns", "a tuple of pairs: the name there, the name here"
        if not isinstance(self.known_bad, tuple) or not all(
            isinstance(row, tuple) and len(row) == len(self.texts) for row in self.known_bad
        ):
            yield "known_bad", f"a tuple of rows, each of {len(self.texts)} texts"

    def _faults_of_labels(self) -> Iterator[tuple[str, str]]:
        if self.kind == "score":
            if self.labels:
                yield "labels", "none for a score"
            if not (_is_finite(self.low) and _is_finite(self.high) and self.low < self.high):
                yield "high", f"a number above low={short(self.low)}, both finite"
        elif len(self.labels) < 2 or (self.kind == "binary" and len(self.labels) > 2):
            yield "labels", "the names of two classes" + " or more" * (self.kind == "classes")

    def _faults_of_metrics(self) -> Iterator[tuple[str, str]]:
        known = CORRELATIONS if self.kind == "score" else OF_CLASSES
        if not self.metrics or not set(self.metrics) <= set(known):
            yield "metrics", f"one or more of {', '.join(known)} for kind {self.kind!r}"
        if len(self.labels) > 2 and set(self.metrics) & set(OF_CLASS_1):
            yield "metrics", f"none of {', '.join(OF_CLASS_1)}, which are of two classes"
        if not self.rows and set(self.metrics) & set(OF_GROUPS):
            yield "metrics", f"none of {', '.join(OF_GROUPS)}, which need groups: see rows"
        if "entity" not in self.texts and set(self.metrics) & set(OF_ENTITIES):
            yield "metrics", f"none of {', '.join(OF_ENTITIES)}, which need a text column entity"

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
        from 1 to 5; its scores begin at 0, so here it has 26. Raises ``UsageError`` for a scale of too many.
        """
        if self.kind != "score":
            return self.labels
        first, last = round(self.low * 5), round(self.high * 5)
        if last - first > 1000:
            raise UsageError(
                f"task {self.name!r} has scores from {self.low:g} to {self.high:g}, and form 'text' an answer "
                "for every 0.2, 1000 at most: give it another scale, or use form 'heads'"
            )
        return tuple(f"{fifth / 5:.1f}" for fifth in range(first, last + 1))


def _is_word(value: object) -> bool:
    """A string that is not blank and has no blanks around it, which written answers do not keep."""
    return isinstance(value, str) and value != "" and value == value.strip()


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
