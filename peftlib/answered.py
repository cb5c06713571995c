"""The test rows that runs answered, as numbers: with them any two runs are compared row by row without training again.

A record holds a run's answers. The labels lie beside the records, one file for each set of rows (``rows/``, named by task
and by the digest that the records hold); no text of the data is in them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from peftlib import records
from peftlib.errors import UsageError
from peftlib.packed import Packed, pack, unpack
from peftlib.schema import conform, read_json


@dataclass(frozen=True)
class Rows:
    """The test rows of a task, in the data's order. labels: (rows,), class ids or scores. groups: (rows,), the number of
    the question that a row belongs to, for tasks that have such."""

    labels: np.ndarray
    groups: np.ndarray | None = None


class _File(TypedDict):
    task: str
    digest: str
    labels: Packed
    groups: Packed | None


def _path(preset: str, task: str, digest: str) -> Path:
    return records.root() / "data" / "runs" / preset / "rows" / f"{task}-{digest}.json"


def keep(preset: str, task: str, digest: str, labels: np.ndarray, groups: Sequence[str] | None) -> None:
    """Keep the labels of a task's test rows, unless they are there. digest: of the rows, as records hold it."""
    path = _path(preset, task, digest)
    if path.exists():
        return
    numbers = None if groups is None else np.unique(groups, return_inverse=True)[1]
    content: _File = {
        "task": task,
        "digest": digest,
        "labels": pack(labels, "class" if np.asarray(labels).dtype.kind in "iub" else "label"),
        "groups": None if numbers is None else pack(numbers, "group"),
    }
    records.write_atomically(path, json.dumps(content, indent=1) + "\n")


def find(preset: str, task: str, digest: str) -> Rows | None:
    """The labels of a task's test rows, None if they were not kept.

    Raises:
        UsageError: a damaged file.
    """
    path = _path(preset, task, digest)
    if not path.is_file():
        return None
    found = conform(read_json(path), _File, f"{path}: ")
    if (found["task"], found["digest"]) != (task, digest):
        raise UsageError(f"{path}: holds rows of {found['task']} {found['digest']}; a file's name is its content")
    try:
        return Rows(unpack(found["labels"]), None if found["groups"] is None else unpack(found["groups"]))
    except UsageError as error:
        raise UsageError(f"{path}: {error}; remove it: a run writes it again") from error
