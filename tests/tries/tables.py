"""A paper's tables.toml as somebody edits it, and tables that it does not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from peftlib import papers
from peftlib.report import declared
from tries import Try

SOUND = (papers.FOLDER / "compacter" / "tables.toml").read_text(encoding="utf-8")
COLUMNS = {"table1": ["method", "cola", "mrpc_f1", "average"], "table4": ["method", "lr"]}


def read(text: str) -> Callable[[Path], declared.Declared]:
    def go(folder: Path) -> declared.Declared:
        path = folder / "tables.toml"
        path.write_text(text, encoding="utf-8")
        return declared.read_declared(path, list(COLUMNS), COLUMNS.__getitem__)

    return go


def _at(name: str, old: str, new: str, *words: str) -> Try:
    text = TEXT.replace(old, new)
    assert text != TEXT, f"{old!r} is not there"
    return Try("tables.toml", name, read(text), ("tables.toml: ", *words))


TEXT = """
scale = 100
split = "test"
columns = { cola = "cola", mrpc_f1 = "mrpc.f1" }
titles = { average = "mean" }
[tables.table1]
experiment = "compacter/table1"
full = "T5-Base"
labels = "{method}"
"""

TRIES = [
    Try("tables.toml", "cut short", read(SOUND[: SOUND.index('"cola"') + 3]), ("cannot be read as TOML",)),
    _at("no scale", "scale = 100\n", "", "lacks scale"),
    _at("a scale of 10", "scale = 100", "scale = 10", "scale: expected 1 or 100, got 10"),
    _at("a scale in words", "scale = 100", 'scale = "points"', "scale: expected a number, got 'points'"),
    _at("an unknown split", '"test"', '"dev"', "split: expected one of 'validation', 'test', got 'dev'"),
    _at("a field that there is not", "full =", "whole =", "tables.table1: 'whole' is no field of it"),
    _at("an unknown task", '"cola"', '"coal"', "columns: cola: unknown task 'coal'"),
    _at("no metric of several", '"mrpc.f1"', '"mrpc"', "columns: mrpc_f1: expected mrpc.accuracy or mrpc.f1 or mrpc.mean,"),
    _at("an unknown metric", '"mrpc.f1"', '"mrpc.f2"', "or mrpc.mean, got 'mrpc.f2'"),
    _at("the mean of one metric", '"cola"', '"cola.mean"', "columns: cola: expected cola, got 'cola.mean'"),
    _at(
        "a scale of no column",
        "titles =",
        "scales = { color = 1 }\ntitles =",
        "scales: 'color' is a column of none",
        "'cola'?",
    ),
    _at(
        "a column's scale of 10", "titles =", "scales = { cola = 10 }\ntitles =", "scales: cola: expected 1 or 100, got 10"
    ),
    _at("a metric of a task with one", '"cola"', '"cola.matthews"', "columns: cola: expected cola, got 'cola.matthews'"),
    _at("a column that no table has", "{ cola", '{ coal = "cola", cola', "'coal' is a column of none", "mean 'cola'?"),
    _at("a title of no column", "average =", "avreage =", "titles: 'avreage' is a column of none", "'average'?"),
    _at("a table that there is not", "tables.table1", "tables.tabel1", "no table 'tabel1'; did you mean 'table1'?"),
    _at("a table without scores", "tables.table1", "tables.table4", "'table4': has none of the declared columns", "lr"),
    _at("an unknown experiment", '"compacter/table1"', '"compacter/tabel1"', "no experiment", "'compacter/table1'?"),
    _at("full fine-tuning from nowhere", 'labels = "{method}"', 'full_from = "table0"', "no table 'table0'"),
    _at("a label from no column", "{method}", "{row}", "labels: '{row}' cannot be filled from method, cola"),
    _at("a label with an open brace", "{method}", "{method", "labels: '{method' cannot be filled"),
    Try("declared.read", "a paper that there is not", lambda _: declared.read("compactor", "table1"), ("'compactor'",)),
    Try("declared.read", "a table of no scores", lambda _: declared.read("compacter", "table3"), ("'table3'", "table1")),
]
