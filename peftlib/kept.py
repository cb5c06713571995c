"""Values that are decided by what can be named: computed once, kept in a file, and computed again when that changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
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


def state_of(folders: Iterable[Path]) -> str:
    """Changes when a file in one of these folders does, or a file there comes or goes, unless somebody hides it: a stamp
    for what rests on more files than can be read each time."""
    state = hashlib.sha256()
    for folder in folders:
        for above, inside, files in os.walk(folder):
            inside[:] = sorted(name for name in inside if name != "__pycache__")
            for name in sorted(files):
                state.update(stamp_of(Path(above, name)).encode())
    return state.hexdigest()[:16]


def stamp_of(file: Path) -> str:
    """Changes when a file's content does, unless somebody hides it."""
    facts = file.stat()
    return f" {file.resolve()} {facts.st_size} {facts.st_mtime_ns}"


def folder() -> Path:
    """Where they lie. Whoever deletes it loses time alone."""
    return records.root() / "_build" / "kept"
