"""Values that are decided by what can be named: computed once, kept in a file, and computed again when that changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from peftlib import records
from peftlib.errors import UsageError
from peftlib.schema import conform, read_json

Value = TypeVar("Value")


def kept(name: str, stamp: str, compute: Callable[[], Value], kind: type[Value]) -> Value:
    """The value of a name, from the file that keeps it; computed and kept if there is none of this stamp.

    kind: the type of what `compute` returns, as JSON can hold it. Of two processes that ask at the same moment, both may
    compute.
    """
    path = folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
    told = {"name": name, "stamp": stamp}
    try:
        found = read_json(path)
        if isinstance(found, dict) and found.items() >= told.items():
            return conform(found["value"], kind, f"{path}: ")
    except (UsageError, LookupError):  # none yet, or a broken one
        pass
    value = compute()
    try:
        records.write_atomically(path, json.dumps(told | {"value": value}))
    except OSError:  # nothing is lost but time
        pass
    return value


def folder() -> Path:
    """Where they lie. Whoever deletes it loses time alone."""
    return records.root() / "_build" / "kept"
