"""Expressions of methods as trees, read without torch: ``LoRA(rank=8) + PerTask(Layers(Houlsby(bottleneck=64), stop=4))``.

`peftlib.methods.parse` builds methods from these trees; what only looks at an expression (digests of runs, presets, tables,
figures) needs no more than the tree. Nothing is evaluated. A tree holds no field at its default, so that expressions that
mean the same are equal.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import math
import typing
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlib.errors import UsageError, short

if typing.TYPE_CHECKING:
    from peftlib.methods.base import Method

LONGEST = 4000  # characters of an expression
MOST = 64  # methods in one
METHODS: dict[str, type[Method]] = {}  # the classes that are imported, by name, a user's own among them: `Method` fills it
KINDS = {
    "int": lambda value: type(value) is int,
    "float": lambda value: type(value) in (int, float),
    "bool": lambda value: type(value) is bool,
    "str": lambda value: type(value) is str,
    "None": lambda value: value is None,
    "tuple[str, ...]": lambda value: type(value) is tuple and all(type(part) is str for part in value),
}


@dataclass(frozen=True)
class Field:
    """A hyperparameter as a method's source declares it; of `dataclasses.Field`, what is read here."""

    name: str
    type: str
    default: object = dataclasses.MISSING


# --- trees ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Named:
    """A method. given: (field, value) of those that are not at their defaults, in the order they are declared."""

    name: str
    given: tuple[tuple[str, Any], ...] = ()

    def leaves(self) -> Iterator[tuple[Named, bool]]:
        """(method, does every task have its own copy?)"""
        yield self, False

    def bare(self) -> str:
        """Without hyperparameters."""
        return self.name

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.given)})"


@dataclass(frozen=True)
class PerTask:
    """A method of which every task has its own copy."""

    method: Tree

    def leaves(self) -> Iterator[tuple[Named, bool]]:
        return ((leaf, True) for leaf, _ in self.method.leaves())

    def bare(self) -> str:
        return f"PerTask({self.method.bare()})"

    def __str__(self) -> str:
        return f"PerTask({self.method})"


@dataclass(frozen=True)
class Layers:
    """A method in some blocks only. given: those of `start`, `stop` and `stack` that are not at their defaults."""

    method: Tree
    given: tuple[tuple[str, Any], ...] = ()

    def leaves(self) -> Iterator[tuple[Named, bool]]:
        return self.method.leaves()

    def bare(self) -> str:
        return f"Layers({self.method.bare()})"

    def __str__(self) -> str:
        return f"Layers({', '.join([str(self.method), *(f'{name}={value!r}' for name, value in self.given)])})"


@dataclass(frozen=True)
class Sum:
    """Several methods, none of them a sum."""

    terms: tuple[Tree, ...]

    def leaves(self) -> Iterator[tuple[Named, bool]]:
        return (leaf for term in self.terms for leaf in term.leaves())

    def bare(self) -> str:
        return " + ".join(term.bare() for term in self.terms)

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))


Tree = Named | PerTask | Layers | Sum
WRAPPERS: dict[str, tuple[Field, ...]] = {  # what takes a method, and its fields
    "PerTask": (),
    "Layers": (Field("start", "int", 0), Field("stop", "int | None", None), Field("stack", "str | None", None)),
}


# --- what is asked of an expression -----------------------------------------------------------------------------------
def canonical(text: str) -> str:
    """The one way to write what an expression means: fields at their defaults left out, the others in declared order.

    Raises:
        UsageError: of `parse`.
    """
    return str(parse(text))


def skeleton(text: str) -> str:
    """An expression without its hyperparameters: ``LoRA(rank=8) + PerTask(X(a=1))`` -> ``LoRA + PerTask(X)``.

    Raises:
        UsageError: of `parse`.
    """
    return parse(text).bare()


def names(text: str) -> list[str]:
    """Names of the methods of an expression, whether a task has its own copy or not.

    Raises:
        UsageError: of `parse`.
    """
    return [leaf.name for leaf, _ in parse(text).leaves()]


def per_task(text: str) -> list[bool]:
    """For each method of an expression: does every task have its own copy?

    Raises:
        UsageError: of `parse`.
    """
    return [own for _, own in parse(text).leaves()]


# --- reading ----------------------------------------------------------------------------------------------------------
def parse(text: str) -> Tree:
    """Read an expression.

    Raises:
        UsageError: no text; a syntax error, an unknown method or field, a field given twice, or a value of the wrong type;
            says what was expected.
    """
    if type(text) is not str:
        raise UsageError(f"cannot read the method {short(text)}: expected text such as 'LoRA(rank=8) + BitFit()'")
    text = text.strip()
    try:
        tree = _read(_syntax(text), text)
    except (SyntaxError, RecursionError, MemoryError) as error:
        why = getattr(error, "msg", "brackets or signs inside one another too often")
        raise UsageError(f"cannot read the method {short(text)}: {why}; expected e.g. 'LoRA(rank=8) + BitFit()'") from None
    if (terms := sum(1 for _ in tree.leaves())) > MOST:
        raise UsageError(f"{terms} methods in {short(text)}: expected at most {MOST}")
    return tree


def _syntax(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise SyntaxError(f"{len(text):,} characters, more than {LONGEST:,}")
    if strange := [c for c in text if c in "#\\" or not (c.isascii() and c.isprintable())]:
        raise SyntaxError(f"the character {strange[0]!a} has no place in one")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as 1if: a syntax error some day
        return ast.parse(text, mode="eval").body


def _read(node: ast.expr, text: str, inside: tuple[str, ...] = ()) -> Tree:
    """inside: the wrappers around it."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        read = [_read(term, text, inside) for term in _operands(node)]
        return Sum(tuple(t for term in read for t in (term.terms if isinstance(term, Sum) else (term,))))
    if isinstance(node, ast.Name) and node.id not in WRAPPERS:
        return Named(node.id, _given(node.id, [], text))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and all(k.arg for k in node.keywords):
        name, keywords = node.func.id, node.keywords
        if name in WRAPPERS:
            refuse_inside(name, inside, text)
            if len(node.args) == 1 and (name == "Layers" or not keywords):
                method = _read(node.args[0], text, (*inside, name))
                return PerTask(method) if name == "PerTask" else Layers(method, _given(name, keywords, text))
        elif not node.args:
            return Named(name, _given(name, keywords, text))
    raise UsageError(
        f"cannot read {_quoted(node, text)} in the method {short(text)}: expected Name(field=value, ...), "
        "PerTask(method), Layers(method, start=0, stop=4), and '+' between methods"
    )


def refuse_inside(name: str, around: Iterable[str], text: str) -> None:
    """Refuse wrappers that mean nothing inside one another, or that would have two spellings.

    Raises:
        UsageError: says how to write it.
    """
    for wrapper in around:
        if name == wrapper == "PerTask":
            raise UsageError(f"PerTask inside PerTask: {short(text)}; one copy a task is all there can be")
        if name == wrapper:
            raise UsageError(f"Layers inside Layers: {short(text)}; name the blocks once")
        if wrapper == "Layers":
            raise UsageError(f"PerTask inside Layers: {short(text)}; write PerTask(Layers(...)), which means the same")


def _operands(node: ast.expr) -> list[ast.expr]:
    """The terms of a chain of additions, which leans to the left: no recursion, for there may be thousands."""
    found = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        found.append(node.right)
        node = node.left
    return [node, *reversed(found)]


def _constant(node: ast.expr, text: str) -> object:
    if isinstance(node, ast.Constant) and (node.value is None or type(node.value) in (int, float, str, bool)):
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(_constant(part, text) for part in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number: Any = getattr(node.operand, "value", None)
        if type(number) in (int, float):
            return -number if isinstance(node.op, ast.USub) else number
    raise UsageError(f"{_quoted(node, text)} in the method {short(text)} is not a number, text, None or a tuple")


def _quoted(node: ast.expr, text: str) -> str:
    return short(text[node.col_offset : node.end_col_offset])  # one line of ASCII: bytes are characters


def _given(name: str, keywords: Iterable[ast.keyword], text: str) -> tuple[tuple[str, Any], ...]:
    """The fields that are given and not at their defaults, in the order in which they are declared."""
    fields = {field.name: field for field in WRAPPERS.get(name) or fields_of(name)}
    values: dict[str, Any] = {}
    for keyword in keywords:
        key, value = keyword.arg or "", _constant(keyword.value, text)
        if key not in fields:
            raise UsageError(f"{name} has no field {short(key)}; its fields are {', '.join(fields) or 'none'}")
        if key in values:
            raise UsageError(f"{name} is given {key} twice, as {short(values[key])} and {short(value)}: keep one of them")
        values[key] = checked(name, fields[key], value)
    for key, field in fields.items():
        if field.default is dataclasses.MISSING and key not in values:
            raise UsageError(f"{name} has no default for {key}: expected {name}({key}=...)")
    return tuple((key, values[key]) for key, field in fields.items() if key in values and values[key] != field.default)


def checked(owner: str, field: Field | dataclasses.Field[Any], value: Any) -> Any:
    """A value as a field of a method holds it: a whole number stands for a float.

    Raises:
        UsageError: another type than the field's, a number that is not finite, or a whole one that no size can be.
    """
    kind = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
    kinds = [part.strip() for part in kind.split("|")]
    said = f"{owner}({field.name}={short(value)})"
    if not any(KINDS[k](value) for k in kinds if k in KINDS):
        raise UsageError(f"{said}: expected {kind}, got {type(value).__name__}")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise UsageError(f"{said}: expected a whole number below 2^63")
    if "float" in kinds and type(value) is int:
        value = float(value)
    if type(value) is float and not math.isfinite(value):
        raise UsageError(f"{said}: expected a finite number")
    return value


# --- what methods declare ---------------------------------------------------------------------------------------------
def fields_of(name: str) -> Sequence[Field | dataclasses.Field[Any]]:
    """The fields of the method of that name, in the order they are declared.

    Raises:
        UsageError: unknown; names the closest match.
    """
    if name in METHODS:
        return dataclasses.fields(METHODS[name])
    if name not in _declared():
        raise UsageError(unknown(name, METHODS | _declared()))
    return _declared()[name]


def unknown(name: str, known: Iterable[str]) -> str:
    """What is said of a name that no method has."""
    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
    hint = f"; did you mean {by_lower[near[0]]}?" if near else ""
    return f"unknown method {short(name)}{hint} Known: {', '.join(sorted(known))}"


@functools.cache
def _declared() -> dict[str, tuple[Field, ...]]:
    """Fields of the methods in `peftlib.methods`, by name. Their sources are read: importing them would bring torch."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (Path(__file__).parent / "methods").rglob("*.py")]
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}

    def lineage(name: str) -> list[str]:
        bases = [b.id for b in classes[name].bases if isinstance(b, ast.Name)] if name in classes else []
        return [name] + [above for base in bases for above in lineage(base)]

    methods = {name: lineage(name) for name in classes if "Method" in lineage(name)[1:]}
    return {
        name: tuple(
            {
                field.name: field for above in reversed(line) if above in methods for field in _fields(classes[above])
            }.values()
        )
        for name, line in methods.items()
    }


def _fields(node: ast.ClassDef) -> list[Field]:
    """The fields of a dataclass, whose defaults are literals."""
    return [
        Field(line.target.id, ast.unparse(line.annotation), ast.literal_eval(line.value))  # type: ignore[union-attr, arg-type]  # a name and its default
        for line in node.body
        if isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line.annotation)
    ]
