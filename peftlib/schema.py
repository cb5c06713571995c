"""Values from outside (files, users) against the type hints of what they are to become: one check for all that is read.

A hint is a class of numbers, texts or truth values, ``Literal``, a union, ``list``, ``tuple``, ``dict``, a ``TypedDict``
(more keys than it names are let be: a later version may have written them) or a dataclass (they are not).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import types
import typing
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path

from peftlib.errors import UsageError, short

T = typing.TypeVar("T")
NAMES: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
    list: "a list",
    tuple: "a list",
    dict: "a table of names and values",
}


@typing.overload
def conform(value: object, hint: type[T], where: str) -> T: ...
@typing.overload
def conform(value: object, hint: object, where: str) -> typing.Any: ...
def conform(value: object, hint: typing.Any, where: str) -> object:
    """The value as the hint has it: a whole number as a float where one is asked for, a list as a tuple, a table of names
    and values as a dataclass.

    Args:
        where: what it is, for the message; a title ends with ": ", and names inside the value are appended to it.

    Raises:
        UsageError: it is no such thing; names the place, the value and what was expected.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is typing.Any:
        return value
    if origin is typing.Literal:
        return _one_of(value, inner, where)
    if origin in (types.UnionType, typing.Union):
        return _either(value, inner, where)
    if typing.is_typeddict(hint):
        return _keys(value, hint, hint.__required_keys__, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else _instance(value, hint, where)
    read = {list: _sequence, tuple: _sequence, dict: _table}.get(origin)
    return read(value, origin, inner, where) if read else _plain(value, hint, where)


def conform_fields(instance: object, where: str) -> None:
    """Check every field of a dataclass, frozen or not, and set it to what its hint makes of it.

    Raises:
        UsageError: names the first field that is not what its hint says.
    """
    kind: type = type(instance)
    for name, hint in _hints(kind).items():
        object.__setattr__(instance, name, conform(getattr(instance, name), hint, f"{where}: {name}"))


def read_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        UsageError: it cannot be read, is no JSON, has a name twice, or numbers that JSON does not have (NaN).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as JSON ({error})") from error


def near(name: str, known: Iterable[str]) -> str:
    """ "; did you mean ...?" if a known name is close, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{short(next(n for n in names if names.count(n) > 1))} stands there twice")
    return found


def _no_constant(text: str) -> typing.NoReturn:
    raise ValueError(f"{text} is no number")


@functools.cache
def _hints(kind: type) -> dict[str, object]:
    """Of a dataclass's fields, or of a TypedDict's keys."""
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else hints


def _refuse(value: object, expected: str, where: str) -> typing.NoReturn:
    raise UsageError(f"{where.removesuffix(': ')}: expected {expected}, got {short(value)}")


def _inside(where: str, name: object) -> str:
    return f"{where}{name}" if where.endswith(": ") else f"{where}.{name}"


def _plain(value: object, hint: type, where: str) -> object:
    if hint is float and isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value) + 0.0  # -0.0 is 0.0
        except OverflowError:
            number = math.inf
        return number if math.isfinite(number) else _refuse(value, "a finite number", where)
    if hint is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if hint is str and isinstance(value, str):
        sound = "\0" not in value and value == value.encode(errors="ignore").decode()  # lone surrogates cannot be written
        return str(value) if sound else _refuse(value, "a text of characters", where)
    return value if type(value) is hint else _refuse(value, NAMES.get(hint, hint.__name__), where)


def _one_of(value: object, choices: tuple[object, ...], where: str) -> object:
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        _refuse(value, f"one of {', '.join(map(repr, choices))}" if len(choices) > 1 else repr(choices[0]), where)
    return value


def _either(value: object, hints: tuple[object, ...], where: str) -> object:
    for hint in hints:
        try:
            return conform(value, hint, where)
        except UsageError:
            continue
    return _refuse(value, " or ".join(NAMES.get(hint, str(hint)) for hint in hints), where)


def _sequence(value: object, kind: type, inner: tuple[object, ...], where: str) -> object:
    if not isinstance(value, list | tuple):
        _refuse(value, "a list", where)
    if kind is tuple and inner[-1] is not Ellipsis and len(value) != len(inner):
        _refuse(value, f"{len(inner)} values", where)
    hints = inner if kind is tuple and inner[-1] is not Ellipsis else inner[:1] * len(value)
    return kind(conform(item, hint, f"{where}[{i}]") for i, (item, hint) in enumerate(zip(value, hints, strict=True)))


def _table(value: object, kind: type, inner: tuple[object, ...], where: str) -> dict[object, object]:
    if not isinstance(value, dict):
        _refuse(value, NAMES[dict], where)
    return {conform(name, inner[0], where): conform(item, inner[1], _inside(where, name)) for name, item in value.items()}


def _keys(value: object, kind: type, required: Iterable[str], where: str) -> dict[str, object]:
    """Those of a table that `kind` names, conforming; the others as they are."""
    if not isinstance(value, dict):
        _refuse(value, NAMES[dict], where)
    if lacking := sorted(set(required) - set(value)):
        raise UsageError(f"{where.removesuffix(': ')}: lacks {', '.join(lacking)}")
    hints = _hints(kind)
    return {
        name: conform(item, hints[name], _inside(where, name)) if name in hints else item for name, item in value.items()
    }


def _instance(value: object, kind: type, where: str) -> object:
    fields = dataclasses.fields(kind)
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    checked, known = _keys(value, kind, required, where), [f.name for f in fields]
    for name in set(checked) - set(known):
        raise UsageError(f"{where.removesuffix(': ')}: {short(name)} is no field of it{near(name, known)}")
    return kind(**checked)
