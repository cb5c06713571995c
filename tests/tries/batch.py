"""The front door of the batch, and its parameters of notebooks."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from unittest import mock

from peftlib.batch import front
from tries import Try, command

DOOR = "python -m peftlib.batch"
batch = partial(command, main=front.main)


def _from(root: str) -> None:
    with mock.patch.dict(os.environ, {"PEFTLIB_ROOT": root}):
        front.repository()


def _clone(folder: Path) -> None:
    (folder / "notebooks").mkdir(parents=True)
    (folder / "Snakefile").touch()
    _from(str(folder))


def _twice(folder: Path) -> None:
    with front.alone(folder), front.alone(folder):
        pass


TRIES = [
    Try(DOOR, "--jobs that is no number", lambda _: batch("--jobs", "x"), ("--jobs", "'x'", "int")),
    Try(DOOR, "no jobs", lambda _: batch("--jobs", "0"), ("--jobs 0", "from 1 to")),
    Try(DOOR, "fewer than no jobs", lambda _: batch("--jobs=-3"), ("--jobs -3", "from 1 to")),
    Try(DOOR, "a thousand million jobs", lambda _: batch("--jobs", "1000000000"), ("1000000000", "from 1 to")),
    Try(
        DOOR,
        "an executor that is not installed",
        lambda _: batch("--executor", "nonsense"),
        ("'nonsense'", "local", "slurm", "snakemake-executor-plugin-NAME"),
    ),
    Try(DOOR, "an executor that is another option", lambda _: batch("--executor", "x --forceall"), ("'x --forceall'",)),
    Try(DOOR, "an unknown preset", lambda _: batch("--preset", "qiuck"), ("'qiuck'", "quick")),
    Try(DOOR, "a preset that is a path", lambda _: batch("--preset", "../../x"), ("'../../x'", "expected one of")),
    Try(
        DOOR, "a preset that is shell", lambda _: batch("--preset", "a b; rm -rf /"), ("'a b; rm -rf /'", "expected one of")
    ),
    Try(DOOR, "a half that there is not", lambda _: batch("--only", "x"), ("--only", "'x'", "train", "book")),
    Try(DOOR, "an unknown option", lambda _: batch("--presets", "quick", "--nonsense"), ("--nonsense", "--help")),
    Try(DOOR, "a parent that is no process", lambda _: batch("--parent", "x"), ("--parent", "'x'")),
    Try(DOOR, "a folder that is no clone", lambda folder: _from(str(folder)), ("has no Snakefile", "in a clone")),
    Try(DOOR, "a clone whose path has a line break", lambda folder: _clone(folder / "a\nb"), ("a\\nb", "move the clone")),
    Try(DOOR, "a clone whose path has a colon", lambda folder: _clone(folder / "a: b"), ("a: b", "move the clone")),
    Try(
        DOOR,
        "a clone whose path is no UTF-8",
        lambda folder: _clone(folder / os.fsdecode(b"a\xff")),
        ("a\\udcff", "move the clone"),
    ),
    Try(DOOR, "a second batch in one folder", _twice, ("another batch is running", "wait for it")),
]
