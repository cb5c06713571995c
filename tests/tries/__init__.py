"""Bad input at every door of the project, one row a try: the door, what is given to it, the words of its refusal.

Each module of this folder is one part of the house and has a list ``TRIES`` and, where inputs can be drawn at random,
a dictionary ``GENERATORS``. `test_tries.py` goes through all rows, `test_random_input.py` through all generators.
A row is refused by an error that the library raises on purpose (at the command line: one line, exit status 2).
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peftlib import cli
from peftlib.errors import PeftlibError


@dataclass(frozen=True)
class Try:
    """One try.

    door: what was called, such as "peftlib count" or "load a backbone". given: the input in words. go: builds the input in
    an empty folder and calls the door. words: what the refusal must say: the value, what was expected, how to mend it.
    """

    door: str
    given: str
    go: Callable[[Path], object]
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.door}: {self.given}"


# Draws one input, in an empty folder, and gives the call that takes it to the door.
Generator = Callable[[random.Random, Path], Callable[[], object]]


class Refused(PeftlibError):
    """A command line's refusal, for what the library raises behind it."""


def command(*argv: str, main: Callable[[list[str]], int] = cli.main) -> str:
    """What a command prints; its refusal as an error.

    Raises:
        Refused: exit status 2, and one line on standard error.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(list(argv))
        except SystemExit as stop:  # argparse
            status = stop.code
    if status == 0:
        return out.getvalue()
    said = err.getvalue().strip()
    assert status == 2 and not out.getvalue() and len(said.splitlines()) == 1, (status, out.getvalue(), said)
    raise Refused(said)
