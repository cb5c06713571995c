"""Formulas over a paper's printed tables: a small part of Python's syntax, parsed and walked, never run.

    table3[BitFit].memory_mb            a cell: table, row, column. Its text is kept, and is a number where it reads as one
    table1[BitFit].cola:rte             cells of a row, from one column to another
    table1[BitFit]                      a whole row
    table1.average, table1.cola:rte     a column, several columns
    table1[Compacter*|BitFit].average   the column where the row's name is like one of these
    table1[!T5-Base].average            the column everywhere else

Brackets within a row's name stand as they are, in pairs. Between cells: ``+ - * / % **``, comparisons, ``and``, ``or``,
``not``, ``a if b else c``, numbers, quoted texts, lists, and the functions of `FUNCTIONS`.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from peftlib.accounting.counted import count
from peftlib.errors import DataError, PeftlibError, short
from peftlib.papers import known, number, read_table, rounds_to
from peftlib.report.averages import by_task

Where = tuple[str, str | None, str | None, str | None]  # table, row or pattern, first column, last column
_PIECE = re.compile(r"""'[^']*' | "[^"]*" | (?P<name>[A-Za-z_]\w*) | \.?\d[\d.]* | .""", re.VERBOSE | re.DOTALL)
_COLUMNS = re.compile(r"\.([A-Za-z_]\w*)(?::([A-Za-z_]\w*))?")
ERRORS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class Printed(float):
    """A printed number: its `text`, which is how it is shown without a format, and `half` a unit of its last digit."""

    text: str
    half: float

    def __new__(cls, text: str) -> Printed:
        value, half = number(text)  # type: ignore[misc]  # of a number
        self = super().__new__(cls, value)
        self.text, self.half = text, half
        return self

    def __str__(self) -> str:
        return self.text

    def __format__(self, spec: str) -> str:
        return float.__format__(self, spec) if spec else self.text


class Names(list):
    """Names of rows or columns; "none" where there are none."""

    def __str__(self) -> str:
        return ", ".join(map(str, self)) or "none"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def _read(text: str) -> Printed | str | float:
    """A cell: a number, a text, or NaN where it is empty."""
    return math.nan if not text else text if number(text) is None else Printed(text)


# --- tables -----------------------------------------------------------------------------------------------------------
class Tables:
    """The files of numbers of one folder.

    Args:
        folder: with one CSV file a table.
        rows: how the rows of a table are named, where not by its first column: ``{"table2": "{method}, {type}"}``.
    """

    def __init__(self, folder: Path, rows: Mapping[str, str] | None = None) -> None:
        self.folder, self.named = folder, dict(rows or {})
        self._read: dict[str, pd.DataFrame] = {}
        for table in self.named:
            self.frame(table)

    def names(self) -> list[str]:
        """Of the tables."""
        return sorted(path.stem for path in self.folder.glob("*.csv"))

    def frame(self, table: str) -> pd.DataFrame:
        """All cells of a table, by name of the row.

        Raises:
            UsageError: no such table, or no such column in the name of its rows.
            DataError: two rows of one name.
        """
        if table not in self._read:
            path = self.folder / f"{known(self.names(), table, 'table')}.csv"
            frame = read_table(path)
            self._naming(table, frame)
            labels = [self._pattern(table, frame).format_map(row) for row in frame.to_dict("records")]
            if twice := {label for label in labels if labels.count(label) > 1}:
                raise DataError(
                    f"{path}: several rows are named {short(min(twice))}; name them by more columns in [rows], "
                    f'such as {table} = "{{{frame.columns[0]}}}, {{{frame.columns[-1]}}}"'
                )
            self._read[table] = pd.DataFrame(
                {name: pd.Series(map(_read, column), labels, dtype=object) for name, column in frame.items()}
            )
        return self._read[table]

    def _pattern(self, table: str, frame: pd.DataFrame) -> str:
        return self.named.get(table, f"{{{frame.columns[0]}}}")

    def _naming(self, table: str, frame: pd.DataFrame) -> list[str]:
        """The columns that the names of rows are made of."""
        names = re.findall(r"{(\w+)}", self._pattern(table, frame))
        return [known(list(frame), name, f"column of {table}") for name in names]

    def rows(self, table: str, pattern: str) -> list[str]:
        """Names of the rows that a pattern means, in the table's order.

        Raises:
            UsageError: no such row.
        """
        labels = list(self.frame(table).index)
        if pattern in labels:
            return [pattern]
        parts = pattern.removeprefix("!").split("|")
        for part in parts:
            if "*" not in part:
                known(labels, part, f"row of {table}")
        like = [re.compile(".*".join(map(re.escape, part.split("*")))) for part in parts]
        found = [label for label in labels if any(one.fullmatch(label) for one in like) != pattern.startswith("!")]
        if not found:
            raise DataError(f"no row of {table} is like {short(pattern)}: there are {', '.join(labels)}")
        return found

    def cells(self, table: str, pattern: str | None, first: str | None, last: str | None) -> object:
        """What a reference means: a cell, a row, a column or several. A whole row is without the columns that name it."""
        frame = self.frame(table)
        if first is None:
            columns = list(frame.columns.drop(self._naming(table, frame)))
        else:
            for name in (first, last or first):
                known(list(frame), name, f"column of {table}")
            columns = first if last in (None, first) else list(frame.loc[:, first:last])
        if not columns:
            raise DataError(f"no columns from {first} to {last} of {table}: there are {', '.join(frame)}")
        if pattern is None:
            return frame[columns]
        rows = self.rows(table, pattern)
        return frame.loc[pattern if rows == [pattern] else rows, columns]

    def place(self, table: str, row: str) -> str:
        """Where a cell stands in the paper: "Table 3"; of a row with a section "section 5.3" or "appendix B"."""
        section = self.frame(table).get("section", pd.Series(dtype=str)).get(row)
        if section is None or section == "abstract":
            return section or title(table)
        return f"{'section' if str(section)[0].isdigit() else 'appendix'} {section}"


def title(table: str) -> str:
    """ "Table 3" for ``table3`` and ``table3_memory``; of other names the name itself."""
    found = re.match(r"(table|figure)(\d+)", table)
    return f"{found[1].title()} {found[2]}" if found else table


def references(formula: str) -> Iterator[tuple[str, Where | None]]:
    """A formula in pieces: the text of each, and what it means where it is a reference.

    Raises:
        DataError: a bracket that is not closed.
    """
    at = 0
    while at < len(formula):
        found, where_ = _PIECE.match(formula, at), None
        end = found.end()  # type: ignore[union-attr]  # any character matches
        if name := found["name"]:  # type: ignore[index]  # as above
            row = None
            if formula[end : end + 1] == "[":
                close = _close(formula, end)
                row, end = formula[end + 1 : close], close + 1
            columns = _COLUMNS.match(formula, end)
            end = columns.end() if columns else end
            if row is not None or columns:
                where_ = (name, row, *(columns.groups() if columns else (None, None)))
        yield formula[at:end], where_
        at = end


def _close(formula: str, start: int) -> int:
    depth = 0
    for at in range(start, len(formula)):
        depth += {"[": 1, "]": -1}.get(formula[at], 0)
        if depth == 0:
            return at
    raise DataError(f"a bracket is not closed in {short(formula)}")


def reference(text: str) -> Where | None:
    """The reference that a text is, if it is one and nothing else."""
    piece, where_ = next(references(text), ("", None))
    return where_ if piece == text else None


# --- functions --------------------------------------------------------------------------------------------------------
def _numbers(values: tuple) -> list[float]:
    """All numbers, one after the other."""
    found = []
    for value in values:
        found += [float(v) for v in value.dropna()] if isinstance(value, pd.Series) else [float(value)]
    return found


def _ranked(columns: tuple, sign: int) -> Names:
    pairs = [(float(value), label) for column in columns for label, value in column.dropna().items()]
    return Names(label for _, label in sorted(pairs, key=lambda pair: sign * pair[0]))


def mean(*values: object) -> float | pd.Series:
    """Of all numbers; of ranges of columns one mean a row."""
    if isinstance(values[0], pd.DataFrame):
        return pd.concat(values, axis=1).apply(lambda row: mean(row), axis=1)
    found = _numbers(values)
    return sum(found) / len(found)


def mean_by_task(row: pd.Series) -> float:
    """Of a row's numbers, where the columns ``mrpc_accuracy`` and ``mrpc_f1`` count once."""
    return mean(*by_task(row).values())


def deviation(*values: object) -> float:
    """The standard deviation of all numbers, as a sample of more."""
    return statistics.stdev(_numbers(values))


def by_column(name: str, rows: pd.DataFrame) -> pd.Series:
    """Of each column, what the function of that name, ``"max"``, gives for its numbers."""
    return rows.apply(FUNCTIONS[known(list(FUNCTIONS), name, "function")])


def nearest(column: pd.Series, value: float) -> str:
    """The row whose number is nearest to a value."""
    return _ranked(((column.astype(float) - value).abs(),), 1)[0]


def where(holds: pd.Series) -> Names:
    """Names of the rows or columns for which a comparison holds."""
    return Names(holds.index[holds.astype(bool)])


def same(one: pd.Series, other: pd.Series) -> str:
    """ "the same row", or the columns in which two rows differ."""
    pairs = {name: (one[name], other[name]) for name in one.index if name in other.index}
    differ = [name for name, (a, b) in pairs.items() if a != b and not (a != a and b != b)]  # empty cells are alike
    return ", ".join(differ) or "the same row"


def cut(value: float, printed: Printed) -> float:
    """A value cut off, not rounded, at the digits of a printed number."""
    unit = 2 * printed.half
    return math.trunc(value / unit + math.copysign(1e-9, value)) * unit


def no_fraction(column: pd.Series, n: float, whole: float) -> Names:
    """The numbers of a column, each with its row, to which no k/n rounds.

    n: rows tested on, times the runs that a number is the mean of. whole: the score of all right, 100 or 1.
    """

    def given(value: Printed) -> bool:
        near = round(value / whole * n)
        return any(rounds_to(whole * k / n, value.text) for k in (near - 1, near, near + 1) if 0 <= k <= n)

    return Names(f"{label} {value}" for label, value in column.dropna().items() if not given(value))


def repeated(*columns: pd.Series | pd.DataFrame) -> Names:
    """Rows that have the same numbers in all these columns as one above: "Prompt Tuning-T as Prompt Tuning-R"."""
    first: dict[tuple, object]
    first, found = {}, Names()
    for label, row in pd.concat(columns, axis=1).dropna().iterrows():
        above = first.setdefault(tuple(row), label)
        if above != label:
            found.append(f"{label} as {above}")
    return found


FUNCTIONS: dict[str, Callable] = {
    "mean": mean,
    "mean_by_task": mean_by_task,
    "deviation": deviation,
    "by_column": by_column,
    "nearest": nearest,
    "where": where,
    "same": same,
    "cut": cut,
    "no_fraction": no_fraction,
    "repeated": repeated,
    "count": len,
    "parameters": lambda method, backbone: count(method, backbone).total,  # all of a backbone with a method
    "trained": lambda method, backbone: count(method, backbone).trainable,
    "max": lambda *values: max(_numbers(values)),
    "min": lambda *values: min(_numbers(values)),
    "highest": lambda *columns: _ranked(columns, -1),
    "lowest": lambda *columns: _ranked(columns, 1),
}


# --- formulas ---------------------------------------------------------------------------------------------------------
OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda one, many: one in list(many),
    ast.NotIn: lambda one, many: one not in list(many),
}


def evaluate(
    formula: str, names: Callable[[str], object], cells: Callable[..., object], functions: Mapping[str, Callable]
) -> Any:
    """The value of a formula.

    Args:
        names: gives the value of a bare name.
        cells: gives that of a reference (`Where`), as `Tables.cells` does.
        functions: what may be called.

    Raises:
        DataError: what cannot be read or computed; names the formula.
    """
    found: dict[str, Where]
    found, text = {}, ""
    for piece, where_ in references(formula):
        if where_:
            piece = f"cells_{len(found)}_"  # a name that Python can parse
            found[piece] = where_
        text += piece
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{short(formula)} cannot be read as a formula") from error

    def walk(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() | str() as value):
                return value
            case ast.Name(id=name):
                return cells(*found[name]) if name in found else names(name)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](walk(left), walk(right))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                return OPERATORS[type(op)](walk(operand))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in OPERATORS:
                return OPERATORS[type(op)](walk(left), walk(right))
            case ast.BoolOp(op=op, values=values):
                return (all if isinstance(op, ast.And) else any)(walk(value) for value in values)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return walk(body) if walk(test) else walk(orelse)
            case ast.List(elts=elements):
                return Names(map(walk, elements))
            case ast.Subscript(value=value, slice=ast.Slice(lower=None, upper=ast.Constant(value=int(end)), step=None)):
                return Names(walk(value)[:end])
            case ast.Subscript(value=value, slice=ast.Constant(value=int(at))):
                return walk(value)[at]
            case ast.Call(func=ast.Name(id=name), args=given, keywords=[]):
                return functions[known(list(functions), name, "function")](*map(walk, given))
        raise DataError(f"{short(formula)} holds more than a formula may: {short(ast.unparse(node))}")

    try:
        return walk(tree)
    except PeftlibError:
        raise
    except ERRORS as error:
        raise DataError(f"{short(formula)} cannot be computed: {short(str(error))}") from error
