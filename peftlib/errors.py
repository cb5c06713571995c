"""The errors this library raises on purpose: each names the value, what was expected, and how to mend it."""

from __future__ import annotations

import reprlib

WIDTH = 80  # characters of a value in a message


class PeftlibError(Exception):
    """Base class: catch this to catch every error that the library raises on purpose."""


class DataError(PeftlibError):
    """A data set is absent, broken, or does not have the columns, labels or values its task expects."""


class UsageError(PeftlibError, ValueError):
    """A parameter has a value that cannot be used (unknown name, impossible number)."""


class _Repr(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < 1000 else f"<a number of {x.bit_length():,} bits>"


_REPR = _Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = WIDTH
_REPR.maxlevel = 3


def short(value: object) -> str:
    """A value as a message shows it: its `repr`, on one line, without its middle where it is longer than `WIDTH`.

    What comes from a file or a command line may be of any size and hold any character; a message is read on a terminal.
    """
    text = " ".join(_REPR.repr(value).splitlines())
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 23]}...{text[-20:]}"
