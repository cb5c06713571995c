"""Where a split comes from (embedded suite, local folder, hub) and the one check that all rows pass."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from peftlib.data import embedded
from peftlib.data.tasks import Task, get_task
from peftlib.errors import DataError, UsageError

SOURCES = ("embedded", "local", "hub")
SPLITS = ("train", "validation", "test")
FOLDER_VARIABLE = "PEFTLIB_DATA"
SUITE = "cs224n"  # folder of the four tasks inside PEFTLIB_DATA
HOLD_OUT_ROWS, HOLD_OUT_SHARE = 1000, 0.1
HOLD_OUT_SALT = "peftlib hold-out 0"  # the hold-out is the same for every seed of a run


@dataclass(frozen=True)
class Examples:
    """The rows of one split.

    ``texts``: one tuple per row, one or two strings each; ``labels``: [rows], int64 for classes and binary, float32
    for a score;
    ``digest``: sha256 over task, texts and labels, in order, so that a record can name the data it saw.
    """

    texts: list[tuple[str, ...]]
    labels: np.ndarray
    ids: list[str]
    task: Task
    split: str
    source: str
    digest: str

    def __len__(self) -> int:
        return len(self.texts)


def load_split(
    task: str | Task,
    split: Literal["train", "validation", "test"],
    source: Literal["embedded", "local", "hub"] = "embedded",
    limit: int | None = None,
    seed: int = 0,
) -> Examples:
    """One split of a task, checked.

    ``limit`` keeps that many rows, drawn at random by ``seed``: the same rows for the same seed, and a smaller limit
    is a prefix of
    a larger one. ``seed`` does nothing else. Where a source has no labelled test split, test is a fixed tenth of train
    (at most
    1,000 rows) that train then lacks. Raises ``UsageError`` for a bad parameter and ``DataError`` for bad data.
    """
    task = get_task(task) if isinstance(task, str) else task
    _check_choice("split", split, SPLITS)
    _check_choice("source", source, SOURCES)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise UsageError(f"limit must be a whole number of at least 1, or None for all rows; got {limit!r}")
    reader: Callable[[Task, str], tuple[pd.DataFrame, str]] = {"embedded": _embedded, "local": _local, "hub": _hub}[
        source
    ]
    frame, where = reader(task, split)
    texts, labels, ids = _checked(frame, task, where)
    if split != "validation" and not _has_test(task, source):
        held = _hold_out(texts)
        texts, labels, ids = _take(texts, labels, ids, np.flatnonzero(held == (split == "test")))
        if not texts:
            raise DataError(f"{where}: too few rows ({len(held)}) to hold out a tenth of train as test")
    if limit is not None:
        texts, labels, ids = _take(texts, labels, ids, _ranked(texts, f"peftlib limit {seed}")[:limit])
    return Examples(texts, labels, ids, task, split, source, _digest(task, texts, labels))


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"unknown {what} {value!r}; expected one of {', '.join(known)}")


# Readers: each returns the rows and a name for them that error messages use.
# --------------------------------------------


def _embedded(task: Task, split: str) -> tuple[pd.DataFrame, str]:
    return embedded.generate(task.name, split), f"embedded {task.name}/{split}"


def local_folder() -> Path:
    """The folder that PEFTLIB_DATA names.

    Raises:
        DataError: it is not set, or names no folder.
    """
    value = os.environ.get(FOLDER_VARIABLE)
    if not value:
        raise DataError(
            f"source 'local' needs the environment variable {FOLDER_VARIABLE}: a folder that holds "
            f"{SUITE}/<task>/<split>.parquet (or use source 'embedded', which needs no files)"
        )
    if not Path(value).is_dir():
        raise DataError(
            f"{FOLDER_VARIABLE} names {value!r}, which is no folder; "
            f"expected one that holds {SUITE}/<task>/<split>.parquet"
        )
    return Path(value)


def _local_file(task: Task, split: str) -> Path:
    return local_folder() / SUITE / task.name / f"{split}.parquet"


def _local(task: Task, split: str) -> tuple[pd.DataFrame, str]:
    path = _local_file(task, "train" if split == "test" and not _has_test(task, "local") else split)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected parquet with the columns {', '.join(_needed(task))}")
    try:
        return pd.read_parquet(path), str(path)
    except Exception as error:  # pyarrow raises several unrelated types for a broken file
        raise DataError(f"{path}: cannot be read as parquet ({error}); restore or replace the file") from error


def _hub(task: Task, split: str) -> tuple[pd.DataFrame, str]:
    if task.hub is None:
        raise DataError(f"task {task.name!r} is not on the hub; use source 'local' or 'embedded'")
    import datasets

    path, _, configuration = task.hub.partition(",")
    wanted = "train" if split == "test" and not task.hub_test else split
    where = f"hub {task.hub} [{wanted}]"
    try:
        rows = datasets.load_dataset(path, configuration or None, split=wanted)
    except Exception as error:  # network, name, format: the cause is in the message, the mending is the same
        raise DataError(
            f"{where}: cannot be loaded ({type(error).__name__}: {error}); check the name, the network and the split, "
            "or use source 'local' or 'embedded'"
        ) from error
    return rows.to_pandas().rename(columns=dict(task.hub_columns)), where


def _has_test(task: Task, source: str) -> bool:
    if source == "local":
        return _local_file(task, "test").is_file()
    return source == "embedded" or task.hub_test


# The check. Rows are counted from 0, as pandas shows them.
# ----------------------------------------------------------------


def _needed(task: Task) -> tuple[str, ...]:
    return (*task.texts, task.label)


def _checked(frame: pd.DataFrame, task: Task, where: str) -> tuple[list[tuple[str, ...]], np.ndarray, list[str]]:
    missing = [column for column in _needed(task) if column not in frame.columns]
    if missing:
        raise DataError(
            f"{where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; task {task.name!r} needs "
            f"{', '.join(_needed(task))}, and the file has {', '.join(map(str, frame.columns)) or 'none'}"
        )
    if frame.empty:
        raise DataError(f"{where}: no rows; expected at least one example")
    for column in task.texts:
        for row, text in enumerate(frame[column]):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{where}, row {row}, column {column}: expected a text that is not empty, got {text!r}")
    labels = _scores(frame, task, where) if task.kind == "score" else _classes(frame, task, where)
    ids = frame["id"] if "id" in frame.columns else range(len(frame))
    return list(zip(*(frame[column] for column in task.texts), strict=True)), labels, [str(i) for i in ids]


def _number(value: object) -> float:
    """``value`` as a float; NaN for what is no number (a boolean is none)."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return float("nan")
    return float(value)


def _classes(frame: pd.DataFrame, task: Task, where: str) -> np.ndarray:
    for row, value in enumerate(frame[task.label]):
        if _number(value) not in range(len(task.labels)):
            known = ", ".join(f"{i} ({name})" for i, name in enumerate(task.labels))
            raise DataError(f"{where}, row {row}, column {task.label}: label {value!r} is unknown; expected {known}")
    return frame[task.label].to_numpy().astype(np.int64)


def _scores(frame: pd.DataFrame, task: Task, where: str) -> np.ndarray:
    for row, value in enumerate(frame[task.label]):
        if not task.low <= _number(value) <= task.high:
            raise DataError(
                f"{where}, row {row}, column {task.label}: score {value!r}; "
                f"expected a number from {task.low:g} to {task.high:g}"
            )
    return frame[task.label].to_numpy().astype(np.float32)


# Choosing rows by hash: no dependence on a random generator's version, nor (for the hold-out) on the order of the
# file. ----


def _take(texts: list, labels: np.ndarray, ids: list, rows: np.ndarray) -> tuple[list, np.ndarray, list]:
    return [texts[i] for i in rows], labels[rows], [ids[i] for i in rows]


def _hash(salt: str, *parts: str) -> bytes:
    return hashlib.sha256("\x1f".join((salt, *parts)).encode()).digest()


def _ranked(texts: list[tuple[str, ...]], salt: str) -> np.ndarray:
    """Row numbers in an order that the salt decides; equal rows stand in the order of the file."""
    return np.array(sorted(range(len(texts)), key=lambda i: (_hash(salt, *texts[i]), i)))


def _hold_out(texts: list[tuple[str, ...]]) -> np.ndarray:
    """[rows] of bool: the held-out tenth (at most 1,000 rows). Equal texts, in either order of a pair, go the same
    way."""
    keys = [_hash(HOLD_OUT_SALT, *sorted(text.strip().casefold() for text in row)) for row in texts]
    size = min(HOLD_OUT_ROWS, int(len(texts) * HOLD_OUT_SHARE))
    # Strictly below the key of the first row that stays: a group of equal texts is never cut in two.
    first_kept = sorted(keys)[size]
    return np.array([key < first_kept for key in keys])


def _digest(task: Task, texts: list[tuple[str, ...]], labels: np.ndarray) -> str:
    digest = hashlib.sha256(task.name.encode())
    for row, label in zip(texts, labels, strict=True):
        for text in row:
            data = text.encode()
            digest.update(struct.pack("<q", len(data)) + data)  # the length keeps "ab","c" apart from "a","bc"
        digest.update(struct.pack("<d", float(label)))
    return digest.hexdigest()
