"""The errors this library raises on purpose: each names the value, what was expected, and how to mend it."""

from __future__ import annotations


class PeftlibError(Exception):
    """Base class: catch this to catch every error that the library raises on purpose."""


class DataError(PeftlibError):
    """A data set is absent, broken, or does not have the columns, labels or values its task expects."""


class UsageError(PeftlibError, ValueError):
    """A parameter has a value that cannot be used (unknown name, impossible number)."""
