"""Where a split comes from (embedded suite, local folder, hub) and the one check that all rows pass."""

from __future__ import annotations

import hashlib
import math
import os
import struct
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from peftlib.data import embedded
from peftlib.data.tasks import STAND_INS, SUITES, Task, get_task
from peftlib.errors import DataError, UsageError, short

SOURCES = ("embedded", "local", "hub")
SPLITS = ("train", "validation", "test")
FOLDER_VARIABLE = "PEFTLIB_DATA"
HOLD_OUT_ROWS, HOLD_OUT_SHARE = 1000, 0.1
HOLD_OUT_SALT = "peftlib hold-out 0"  # the hold-out is the same for every seed of a run
HALVES_SALT = "peftlib halves 0"
GROUP_SALT, GROUP_TEST_SHARE = "peftlib groups 0", 0.3


@dataclass(frozen=True)
class Examples:
    """The rows of one split.

    ``texts``: one tuple per row, a string for each of the task's text columns; ``labels``: [rows], int64 for classes and
    binary, float32 for a score; ``digest``: sha256 over task, texts and labels, in order, so that a record can name the
    data it saw; ``groups``: for each row the question it belongs to, ``None`` where every row stands alone; ``dropped``:
    rows of the source's split that were left out by the task's ``known_bad``.
    """

    texts: list[tuple[str, ...]]
    labels: np.ndarray
    ids: list[str]
    task: Task
    split: str
    source: str
    digest: str
    groups: list[str] | None = None
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def segments(self) -> list[tuple[str, ...]]:
        """What an encoder reads of each row: one text or two."""
        return [self.task.segments(row) for row in self.texts] if self.task.segments else self.texts


def available(suite: str, source: str) -> dict[str, str | None]:
    """The tasks of a suite by their real names, and what a source has for each: the task itself, a stand-in under its
    own name, or None. source: "embedded", "local" or "hub"."""
    names = [task.name for task in SUITES[suite]]
    if source == "embedded":
        return {name: name if name in embedded.SIZES else None for name in names}
    return {name: STAND_INS.get(name, name) if source == "local" else name for name in names}


def load_split(
    task: str | Task,
    split: Literal["train", "validation", "test"],
    source: Literal["embedded", "local", "hub"] = "embedded",
    limit: int | None = None,
    seed: int = 0,
) -> Examples:
    """One split of a task, checked.

    ``limit`` keeps that many rows, or questions with all their rows where a task has groups, drawn at random by ``seed``:
    the same rows for the same seed, and a smaller limit is a prefix of a larger one. ``seed`` does nothing else: which
    rows of a source make validation and test is fixed, by the task's ``splits`` (see ``Task``). Raises ``UsageError`` for
    a bad parameter and ``DataError`` for bad data.
    """
    task = task if isinstance(task, Task) else get_task(task)
    _check_choice("split", split, SPLITS)
    _check_choice("source", source, SOURCES)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise UsageError(f"limit must be a whole number of at least 1, or None for all rows; got {short(limit)}")
    rows = _split(task, split, source)
    if limit is not None:
        rows = rows.take(_first(rows, limit, f"peftlib limit {seed}"))
    digest = _digest(task, rows.texts, rows.labels)
    return Examples(rows.texts, rows.labels, rows.ids, task, split, source, digest, rows.groups, rows.dropped)


def members(task: str, source: str = "embedded") -> dict[str, int]:
    """The tasks that are one group each of a task divided by group ("authors_0", ...), in the order of their numbers, and
    how many rows of train each has.

    Raises ``UsageError`` for a task that is not, or a bad source, and ``DataError`` for bad data.
    """
    found = get_task(task)
    _check_choice("source", source, SOURCES)
    if found.splits != "by group" or found.part_of:
        those = ", ".join(name for tasks in SUITES.values() for name in (t.name for t in tasks if t.splits == "by group"))
        raise UsageError(f"task {short(task)} is not divided by group; those that are: {those}")
    groups = _split(found, "train", source).groups or []
    return {f"{task}_{group}": groups.count(group) for group in sorted(set(groups), key=int)}


def _split(task: Task, split: str, source: str) -> _Rows:
    if task.part_of:
        return _part(task, split, source)
    if task.trained_on and split != "test":
        rows = _split(get_task(task.trained_on), split, source)
        return replace(rows, groups=["\x1f".join(texts) for texts in rows.texts] if task.rows else None)  # each its own
    if task.splits == "by group":
        return _divided(task, split, source)
    reader, (there, part) = _READERS[source], _plan(task, split, source)
    columns, where = reader(task, there)
    rows = _checked(columns, task, where)
    if part is not None:
        choose, wanted = part
        marked = _marked(choose, rows)
        rows = rows.take(np.flatnonzero(marked == wanted))
        if not rows.texts:
            raise DataError(f"{where}: too few rows ({len(marked)}) to make {split} {_NEEDS[choose]}")
    return rows


def _part(task: Task, split: str, source: str) -> _Rows:
    """The rows of one group of a task."""
    base, group = task.part_of
    rows = _split(get_task(base), split, source)
    own = [row for row, found in enumerate(rows.groups or ()) if found == group]
    if not own:
        written = sum(
            (_split(get_task(base), other, source).groups or []).count(group) for other in SPLITS if other != split
        )
        if written:
            raise DataError(
                f"{source} {base}: group {group} has {written} row{'s' * (written > 1)}, too few to leave any for {split}; "
                "expected 3 at least: leave it out, or give it more"
            )
        known = members(base, source)
        raise DataError(
            f"{source} {base}: no rows of group {group} in {split}; those of train: {len(known)} tasks, "
            f"from {next(iter(known), 'none')} to {next(reversed(known), 'none')} (peftlib.data.members lists them)"
        )
    return replace(rows.take(np.array(own)), groups=None)


def _divided(task: Task, split: str, source: str) -> _Rows:
    """The rows of a split of a task whose groups are divided one by one; in the order of the source."""
    parts = [_checked(columns, task, where) for columns, where in (_READERS[source](task, name) for name in SPLITS)]
    texts, groups = [row for part in parts for row in part.texts], [group for part in parts for group in part.groups or ()]
    labels = np.concatenate([part.labels for part in parts])
    found = task.regroup(texts, labels.tolist(), groups) if task.regroup else groups
    rows_of: dict[str, list[int]] = {}
    for row, group in enumerate(found):
        if group is not None:
            rows_of.setdefault(group, []).append(row)
    chosen: list[int] = []
    for rows in rows_of.values():
        ranked = [rows[i] for i in _ranked([texts[row] for row in rows], GROUP_SALT)]
        tested = round(GROUP_TEST_SHARE * len(rows))
        held = tested + max(1, int(HOLD_OUT_SHARE * (len(rows) - tested)))
        chosen += {"test": ranked[:tested], "validation": ranked[tested:held], "train": ranked[held:]}[split]
    chosen.sort()
    if not chosen:
        raise DataError(f"{source} {task.name}: too few rows ({len(texts)}) to make {split} of every group")
    dropped = sum(part.dropped for part in parts)
    every = _Rows(texts, labels, [str(row) for row in range(len(texts))], [str(group) for group in found], dropped)
    return every.take(np.array(chosen))


def _check_choice(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"unknown {what} {short(value)}; expected one of {', '.join(known)}")


Keys = list[bytes]
Part = tuple[Callable[[Keys], np.ndarray], bool]  # marks rows, and whether the marked ones are wanted


def _plan(task: Task, split: str, source: str) -> tuple[str, Part | None]:
    """Which split of the source to read, and which part of it (``None``: all)."""
    if source == "embedded":
        return split, None
    if task.splits == "halves":
        return (split, None) if split == "train" else ("validation", (_first_half, split == "validation"))
    if task.splits == "held validation":
        return ("validation", None) if split == "test" else ("train", (_hold_out, split == "validation"))
    if split == "validation" or task.trained_on or _has_test(task, source):
        return split, None
    return "train", (_hold_out, split == "test")


# Readers: each returns the rows and a name for them that error messages use.
# --------------------------------------------

Columns = dict[str, list]  # column -> the value of each row, as Python's own types


def _embedded(task: Task, split: str) -> tuple[Columns, str]:
    return embedded.generate(task.name, split).to_dict("list"), f"embedded {task.name}/{split}"


def local_folder() -> Path:
    """The folder that PEFTLIB_DATA names.

    Raises:
        DataError: it is not set, or names no folder.
    """
    value = os.environ.get(FOLDER_VARIABLE)
    if not value:
        raise DataError(
            f"source 'local' needs the environment variable {FOLDER_VARIABLE}: a folder that holds "
            "<suite>/<task>/<split>.parquet (or use source 'embedded', which needs no files)"
        )
    if not os.path.isdir(value):  # False also where the system cannot say, for a name too long or a folder that is closed
        raise DataError(
            f"{FOLDER_VARIABLE} names {short(value)}, which is no folder; expected the whole path (no ~) of one that holds "
            "<suite>/<task>/<split>.parquet"
        )
    return Path(value)


def _called(task: Task, split: str) -> str:
    """What the sources "local" and "hub" call a split."""
    return task.validation if split == "validation" else split


def _local_file(task: Task, split: str) -> Path:
    return local_folder() / task.suite / (task.folder or task.name) / f"{_called(task, split)}.parquet"


def _local(task: Task, split: str) -> tuple[Columns, str]:
    path = _local_file(task, split)
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file; expected parquet with the columns {', '.join(_needed(task))}")
    try:
        table = parquet.ParquetFile(path).read()
    except Exception as error:  # pyarrow raises several unrelated types for a broken file
        raise DataError(f"{path}: cannot be read as parquet ({_line(error)}); restore or replace the file") from error
    return _columns(table, task, str(path)), str(path)


def _hub(task: Task, split: str) -> tuple[Columns, str]:
    if task.hub is None:
        raise DataError(f"task {task.name!r} is not on the hub; use source 'local' or 'embedded'")
    import datasets

    path, _, configuration = task.hub.partition(",")
    wanted = _called(task, split)
    where = f"hub {task.hub} [{wanted}]"
    try:
        rows = datasets.load_dataset(path, configuration or None, split=wanted)
    except Exception as error:  # network, name, format: the cause is in the message, the mending is the same
        raise DataError(
            f"{where}: cannot be loaded ({type(error).__name__}: {_line(error)}); check the name, the network and the "
            "split, or use source 'local' or 'embedded'"
        ) from error
    table, here = rows.with_format("arrow")[:], dict(task.hub_columns)
    return _columns(table.rename_columns([here.get(name, name) for name in table.column_names]), task, where), where


_READERS: dict[str, Callable[[Task, str], tuple[Columns, str]]] = {"embedded": _embedded, "local": _local, "hub": _hub}


def _columns(table: pa.Table, task: Task, where: str) -> Columns:
    """The columns of a table that a task needs."""
    missing = [column for column in _needed(task) if column not in table.column_names]
    if missing:
        raise DataError(
            f"{where}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}; task {task.name!r} needs "
            f"{', '.join(_needed(task))}, and the file has {_line(', '.join(table.column_names)) or 'none'}"
        )
    wanted = [column for column in (*_needed(task), "id") if column in table.column_names]
    for column in wanted:
        if table.column_names.count(column) > 1:
            raise DataError(f"{where}: column {column} stands there {table.column_names.count(column)} times; expected one")
    return {column: _values(table[column], f"column {column}", where) for column in wanted}


def _values(found: pa.ChunkedArray, column: str, where: str) -> list:
    try:
        return found.to_pylist()
    except Exception as error:  # as many types as the file can have
        said = error
    for row, value in enumerate(found):  # once more, to see which
        try:
            value.as_py()
        except UnicodeDecodeError as error:
            start = error.object[error.start : error.start + 8]
            raise DataError(f"{where}, row {row}, {column}: {start!r} is no UTF-8; write the file in UTF-8") from error
        except Exception as error:
            raise DataError(f"{where}, row {row}, {column}: a {found.type} that cannot be read ({_line(error)})") from error
    raise DataError(f"{where}, {column}: a {found.type} that cannot be read ({_line(said)})") from said


def _line(said: object) -> str:
    """What another library says, on one line that is not too long."""
    return textwrap.shorten(str(said), 300)


def _has_test(task: Task, source: str) -> bool:
    return os.path.isfile(_local_file(task, "test")) if source == "local" else task.hub_test


# The check. Rows are those of the source, counted from 0.
# ----------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    texts: list[tuple[str, ...]]
    labels: np.ndarray
    ids: list[str]
    groups: list[str] | None
    dropped: int

    def take(self, rows: np.ndarray) -> _Rows:
        texts, ids = [self.texts[i] for i in rows], [self.ids[i] for i in rows]
        return _Rows(texts, self.labels[rows], ids, self.groups and [self.groups[i] for i in rows], self.dropped)


def _needed(task: Task) -> tuple[str, ...]:
    return task.source_columns or (*task.texts, task.label)


def _checked(columns: Columns, task: Task, where: str) -> _Rows:
    count = len(columns[_needed(task)[0]])
    if not count:
        raise DataError(f"{where}: no rows; expected at least one example")
    columns, source = _expanded(columns, task, where) if task.rows else (columns, range(count))
    texts = list(zip(*(columns[column] for column in task.texts), strict=True))
    bad = set(task.known_bad)
    kept = [i for i, row in enumerate(texts) if tuple(_bare(text) for text in row) not in bad] if bad else range(len(texts))
    labels = np.zeros(len(kept), dtype=np.float32 if task.kind == "score" else np.int64)
    for place, i in enumerate(kept):
        for column, text in zip(task.texts, texts[i], strict=True):
            if fault := _fault_of_text(text):
                raise DataError(f"{where}, row {source[i]}, column {column}: {fault}")
        labels[place] = _label(columns[task.label][i], task, f"{where}, row {source[i]}, column {task.label}")
    ids, groups = columns.get("id", range(len(texts))), columns.get("group") if task.rows else None
    return _Rows(
        [texts[i] for i in kept],
        labels,
        [str(ids[i]) for i in kept],
        groups and [groups[i] for i in kept],
        len(texts) - len(kept),
    )


def _expanded(columns: Columns, task: Task, where: str) -> tuple[Columns, list[int]]:
    """The columns of the examples that a task makes of its source's rows, and the row of each."""
    made: Columns = {column: [] for column in (*task.texts, task.label, "group")}
    source: list[int] = []
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        try:
            examples = task.rows(dict(zip(columns, values, strict=True)))  # type: ignore[misc]  # only of tasks that have them
            for column, found in made.items():
                found += [example[column] for example in examples]
        except DataError as error:
            raise DataError(f"{where}, row {row}, {error}") from error
        except KeyError as error:
            raise UsageError(
                f"task {task.name!r}: its rows find no column {error}; the source gives {', '.join(columns)}, "
                f"and each example needs {', '.join(made)}"
            ) from error
        source += [row] * len(examples)
    return made, source


def _bare(text: object) -> object:
    """A text without outer blanks, the empty one for nothing at all."""
    return "" if text is None else text.strip() if isinstance(text, str) else text


def _fault_of_text(text: object) -> str | None:
    if not isinstance(text, str) or not text.strip():
        return f"expected a text that is not empty, got {short(text)}"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{text[error.start]!r} stands alone, half a character; expected a text that UTF-8 can write"
    return None


def _number(value: object) -> float:
    """``value`` as a float; NaN for what is no number (a boolean is none)."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _label(value: object, task: Task, where: str) -> float:
    number = float(task.labels.index(value)) if task.named_labels and value in task.labels else _number(value)
    if task.kind == "score":
        if not task.low <= number <= task.high:
            raise DataError(f"{where}: score {short(value)}; expected a number from {task.low:g} to {task.high:g}")
    elif number not in range(len(task.labels)):
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(task.labels))
        hidden = "; -1 marks the rows of a hidden test set, which nobody can score" if number == -1 else ""
        raise DataError(f"{where}: label {short(value)} is unknown; expected {known}{hidden}")
    return number


# Choosing rows by hash: no dependence on a random generator's version, nor (for the splits) on the order of the file. ----


def _hash(salt: str, *parts: str) -> bytes:
    return hashlib.sha256("\x1f".join((salt, *parts)).encode()).digest()


def _ranked(texts: list[tuple[str, ...]], salt: str) -> np.ndarray:
    """Row numbers in an order that the salt decides; equal rows stand in the order of the file."""
    return np.array(sorted(range(len(texts)), key=lambda i: (_hash(salt, *texts[i]), i)))


def _first(rows: _Rows, limit: int, salt: str) -> np.ndarray:
    """The numbers of ``limit`` rows, or of those of ``limit`` groups, which stay whole."""
    if rows.groups is None:
        return _ranked(rows.texts, salt)[:limit]
    members: dict[str, list[int]] = {}
    for row, group in enumerate(rows.groups):
        members.setdefault(group, []).append(row)
    names = list(members)
    return np.concatenate([members[names[i]] for i in _ranked([(name,) for name in names], salt)[:limit]])


def _marked(choose: Callable[[Keys], np.ndarray], rows: _Rows) -> np.ndarray:
    """[rows] of bool. Groups are chosen whole and counted as one; else equal texts, in either order, go the same way."""
    if rows.groups is None:
        pairs = (sorted(text.strip().casefold() for text in row) for row in rows.texts)
        return choose(["\x1f".join(texts).encode() for texts in pairs])
    groups = list(dict.fromkeys(rows.groups))
    chosen = dict(zip(groups, choose([group.encode() for group in groups]), strict=True))
    return np.array([chosen[group] for group in rows.groups])


def _smallest(keys: Keys, size: int, salt: str) -> np.ndarray:
    """[rows] of bool: the ``size`` rows of smallest hash, or fewer, as a group of equal keys is never cut in two."""
    hashes = [hashlib.sha256(salt.encode() + b"\x1f" + key).digest() for key in keys]
    first_left = sorted(hashes)[size]
    return np.array([found < first_left for found in hashes])


def held_out(rows: int) -> int:
    """How many of so many training rows are held out where nothing else validates or tests: a tenth, at most 1,000."""
    return min(HOLD_OUT_ROWS, int(rows * HOLD_OUT_SHARE))


def _hold_out(keys: Keys) -> np.ndarray:
    """The held-out rows of train."""
    return _smallest(keys, held_out(len(keys)), HOLD_OUT_SALT)


def _first_half(keys: Keys) -> np.ndarray:
    """The half of the original validation set that stays validation."""
    return _smallest(keys, len(keys) // 2, HALVES_SALT)


_NEEDS: dict[Callable[[list[bytes]], np.ndarray], str] = {
    _hold_out: "a tenth of train",
    _first_half: "one half of validation",
}


def _digest(task: Task, texts: list[tuple[str, ...]], labels: np.ndarray) -> str:
    digest = hashlib.sha256(task.name.encode())
    for row, label in zip(texts, labels, strict=True):
        for text in row:
            data = text.encode()
            digest.update(struct.pack("<q", len(data)) + data)  # the length keeps "ab","c" apart from "a","bc"
        digest.update(struct.pack("<d", float(label)))
    return digest.hexdigest()
