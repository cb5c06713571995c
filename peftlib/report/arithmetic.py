"""What a paper prints and what can be recomputed from it: a file of relations between its numbers, checked.

``peftlib/papers/<paper>/errata.toml`` is that file; README.md beside the papers describes it. A relation says what is
printed, by which formula (`peftlib.report.formulas`) it follows from other printed numbers and, where they disagree, what
follows for the paper's conclusions.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from peftlib import papers
from peftlib.errors import DataError, PeftlibError, short
from peftlib.papers import known, rounds_to
from peftlib.report import formulas
from peftlib.report.formulas import Names, Printed, Tables

COLUMNS = ["item", "where", "printed", "recomputed", "agrees", "consequence"]
KEYS = ("each", "when", "item", "where", "printed", "value", "holds", "shown", "slack", "explained", "with", "consequence")
SECTIONS = ("rows", "names", "with", "relation")


def errata(paper: str) -> pd.DataFrame:
    """All that a paper prints and that can be recomputed: item, where, printed, recomputed, agrees, consequence.

    Raises:
        UsageError: no such paper.
        DataError: see `recomputed`.
    """
    own = papers.part(paper, "errata")
    return recomputed(papers.FOLDER / paper / "errata.toml", own.FUNCTIONS if own else {})


def recomputed(path: Path, functions: Mapping[str, Callable] | None = None) -> pd.DataFrame:
    """The rows of a file of relations, over the tables in the folder ``numbers`` beside it.

    Args:
        functions: what its formulas may call, besides `peftlib.report.formulas.FUNCTIONS`.

    Raises:
        DataError: a file that cannot be read; a relation with an unknown table, row, column, name, placeholder or key, or
            whose numbers disagree with nothing said about it. Names the file and the relation.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        for section in content:
            known(SECTIONS, section, "section")
        listed = content.get("relation", [])
        if not isinstance(listed, list) or not all(isinstance(relation, dict) for relation in listed):
            raise DataError("a relation is headed [[relation]], in double brackets")
        tables = Tables(path.parent / "numbers", content.get("rows"))
    except (OSError, PeftlibError, *formulas.ERRORS) as error:
        raise DataError(f"{path}: {error}") from error
    calls, rows = formulas.FUNCTIONS | dict(functions or {}), []
    for at, relation in enumerate(listed, 1):
        try:
            for case, texts in _cases(relation, tables, content.get("names", {})):
                scope = Scope(tables, calls, texts, content.get("with", {}) | case.get("with", {}))
                if "when" not in case or scope.value(case["when"]):
                    rows.append(_row(case, scope))
        except (PeftlibError, *formulas.ERRORS) as error:
            raise DataError(f"{path}: relation {at} ({short(relation.get('item', ''))}): {error}") from error
    return pd.DataFrame(rows, columns=COLUMNS)


def _cases(relation: dict, tables: Tables, names: dict) -> Iterator[tuple[dict, dict]]:
    """A relation for each of what it repeats over, the first of it outermost: its keys, and the texts by name."""
    if not relation.get("each"):
        for key in relation:
            known(KEYS, key, "key of a relation")
        yield relation, names
        return
    (name, listed), *others = relation["each"].items()
    for entry in listed if isinstance(listed, list) else [listed]:
        for values in _entries(name, entry, tables, names):
            case, texts = relation | {"each": dict(others)}, dict(names)
            for key, value in values.items():
                if key == "with":
                    case["with"] = case.get("with", {}) | value
                else:
                    (case if key in KEYS else texts)[key] = value
            yield from _cases(case, tables, texts)


def _entries(name: str, entry: object, tables: Tables, names: dict) -> list[dict]:
    """What one entry of ``each`` stands for: itself, or rows of a table."""
    if isinstance(entry, dict):
        return [entry]
    found = formulas.reference(Scope(tables, {}, names, {}).fill(entry)) if isinstance(entry, str) else None
    table, pattern, column, _ = found or (None,) * 4
    if column or pattern is None or (table not in tables.names() and not set(pattern) & set("*!|")):
        return [{name: entry}]  # a text, such as a row's own name, "Adapter[a=8]"
    return [{name: row, "table": table} for row in tables.rows(table, pattern)]  # type: ignore[arg-type]  # found


class Scope:
    """What names mean within one row: texts, formulas (``with``), and its ``printed`` and ``value`` once they are known."""

    def __init__(self, tables: Tables, functions: Mapping[str, Callable], texts: dict, formulas_: dict) -> None:
        self.tables, self.functions, self.texts, self.formulas = tables, functions, texts, formulas_
        if "table" in texts:
            self.texts = texts | {"title": formulas.title(texts["table"])}
        self.found: dict[str, Any] = {}
        self.used: dict[tuple, None] = {}
        self.moved: tuple | None = None

    def value(self, formula: str) -> Any:
        """Of a formula, after its placeholders are filled."""
        return formulas.evaluate(self.fill(str(formula)), self.name, self.cells, self.functions)

    def name(self, name: str) -> Any:
        if name in self.found:
            return self.found[name]
        if name in self.formulas:
            return self.value(self.formulas[name])
        return self.texts[known([*self.found, *self.texts, *self.formulas], name, "name")]

    def cells(self, *where: Any) -> Any:
        self.used[where] = None
        there = self.tables.cells(*where)
        if where != self.moved:
            return there
        return _up(there) if isinstance(there, float) else there.map(_up)  # type: ignore[attr-defined]  # columns

    def fill(self, text: str) -> str:
        """A text with each ``{name}`` and ``{name:format}`` filled; texts by name may hold placeholders themselves."""
        try:
            return "".join(
                before + ("" if name is None else self._shown(name, spec))  # type: ignore[arg-type]  # where there is a name
                for before, name, spec, _ in string.Formatter().parse(text)
            )
        except PeftlibError:
            raise
        except (TypeError, ValueError) as error:
            raise DataError(f"placeholders of {short(text)} cannot be filled: {error}") from error

    def _shown(self, name: str, spec: str) -> str:
        value = self.name(name)
        return format(self.fill(value) if name in self.texts and isinstance(value, str) else value, spec)

    def slack(self, formula: str) -> float:
        """By how much a formula's value may be off because each printed number that it uses is rounded."""
        self.used = {}
        value, total = self.value(formula), 0.0
        for where in list(self.used):
            self.moved = where
            total += abs(self.value(formula) - value)
        self.moved = None
        return total


def _up(cell: object) -> object:
    """A printed number, moved by half a unit of its last digit."""
    return cell + cell.half if isinstance(cell, Printed) else cell


def _row(case: dict, scope: Scope) -> dict:
    for key in ("item", "printed"):
        if key not in case:
            raise DataError(f"it has no {key!r}")
    if not {"value", "holds"} & case.keys():
        raise DataError("it has neither 'value' nor 'holds'")
    text = scope.fill(case["printed"])
    cell = formulas.reference(text)
    cell = cell if cell and cell[1] and cell[2] else None
    printed = scope.found["printed"] = scope.tables.cells(*cell) if cell else text
    if "value" in case:
        scope.found["value"] = scope.value(case["value"])
    agrees = _agrees(case, scope)
    place = case.get("where") or (scope.tables.place(*cell[:2]) if cell else "{title}")  # type: ignore[arg-type]  # a cell has a row
    row = (scope.fill(case["item"]), scope.fill(place), str(printed), scope.fill(case.get("shown", "{value}")), agrees)
    consequence = _consequence(case, scope, agrees)  # filled in any case, so that a slip in it is found
    return dict(zip(COLUMNS, (*row, "" if agrees else consequence), strict=True))


def _agrees(case: dict, scope: Scope) -> bool:
    if "holds" in case:
        return bool(scope.value(case["holds"]))
    value, printed = scope.found["value"], scope.found["printed"]
    if isinstance(value, (str, Names)):
        return str(value) == str(printed)
    if case.get("slack"):  # the value's interval and the printed number's have more than an end in common
        return abs(value - printed) < scope.slack(case["value"]) + printed.half - 1e-9
    return rounds_to(value, str(printed))


def _consequence(case: dict, scope: Scope, agrees: bool) -> str:
    said = f"{short(str(scope.found['printed']))} is printed and does not agree"
    if not agrees and "consequence" not in case:
        raise DataError(f"{said}, and no 'consequence' says what follows")
    if not agrees and "explained" in case and not rounds_to(scope.value(case["explained"]), str(scope.found["printed"])):
        raise DataError(f"{said}, and 'explained', {short(case['explained'])}, does not give it either")
    return scope.fill(case.get("consequence", ""))
