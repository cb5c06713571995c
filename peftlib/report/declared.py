"""A paper's printed tables of scores as its ``tables.toml`` declares them, and ours beside them.

The file (peftlib/papers/README.md) says which task and metric a column is, in which unit, on which split, and which
experiment reproduces a table; so a new table is shown, compared and averaged without code of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from peftlib import papers
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError, short
from peftlib.grids import experiments
from peftlib.report import suites
from peftlib.report.tables import TITLES, Html, Spread, by_label, frame, scores, table
from peftlib.schema import conform, near

Split = Literal["validation", "test"]
Columns = Callable[[str], Iterable[str]]  # of a table, by its name


@dataclass(frozen=True)
class Table:
    """What a paper declares of one table. experiment: whose runs reproduce it. full: label of full fine-tuning's row, if
    there is one; full_from: the declared table where that row stands, if not here. labels: how runs are called, from
    columns of the row. says: what its caption adds. split: if not the paper's."""

    experiment: str
    full: str = ""
    full_from: str = ""
    labels: str = "{method}"
    says: str = ""
    split: Split | None = None


@dataclass(frozen=True)
class Declared:
    """A ``tables.toml``. scale: what a full score is printed as. split: that the scores are of. columns: the number in a
    record that a column of any table stands beside, ``task`` or ``task.metric``. titles: of other columns. marks: what
    signs in the column ``marks_printed`` mean."""

    scale: float
    split: Split
    columns: dict[str, str]
    tables: dict[str, Table]
    titles: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Printed:
    """A printed table of scores. rows: its numbers by the labels of the runs, columns of scores under the names that
    records have for them (`keys`), with the row of full fine-tuning wherever it stands. The others: see `Table`."""

    rows: pd.DataFrame
    keys: tuple[str, ...]
    scale: float
    split: Split
    full: str
    experiment: str

    def only(self, labels: Iterable[str]) -> Printed:
        """Some of its rows."""
        return dataclasses.replace(self, rows=self.rows.loc[list(labels)])

    @property
    def columns(self) -> list[str]:
        """The numbers of a row: the average, if it is printed, and the scores, in the table's order."""
        return [name for name in self.rows.columns if name in (*self.keys, "average")]

    @property
    def titles(self) -> list[str]:
        """Those of `columns`."""
        return [title(name) for name in self.columns]


# --- reading ----------------------------------------------------------------------------------------------------------
@functools.cache
def declared(paper: str) -> Declared:
    """What a paper declares of its tables.

    Raises:
        UsageError: no such paper, or a file that cannot be used; names the file and the value.
    """
    home = papers.FOLDER / papers.known(papers.papers(), paper, "paper")
    return read_declared(home / "tables.toml", papers.tables(paper), lambda name: papers.paper_table(paper, name).columns)


def read_declared(path: Path, tables: Sequence[str], columns_of: Columns) -> Declared:
    """A ``tables.toml``, checked.

    Args:
        tables: that the paper has.
        columns_of: the columns of one.

    Raises:
        UsageError: names the file and the value that cannot be used.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error})") from error
    found = conform(content, Declared, f"{path}: ")
    try:
        if found.scale not in (1, 100):
            raise UsageError(f"scale: expected 1 or 100, got {found.scale:g}")
        for column, key in found.columns.items():
            _check_key(column, key)
        for name, one in found.tables.items():
            _check_table(name, one, found, tables, columns_of)
        for kind, names, where in (("columns", found.columns, found.tables), ("titles", found.titles, tables)):
            there = {column for name in where for column in columns_of(name)}
            for column in set(names) - there:
                raise UsageError(f"{kind}: {short(column)} is a column of none of its tables{near(column, there)}")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return found


def _check_key(column: str, key: str) -> None:
    task, _, metric = key.partition(".")
    try:
        known = suites.keys(get_task(task).name)
    except UsageError as error:
        raise UsageError(f"columns: {column}: {error}") from error
    if key not in known:
        raise UsageError(f"columns: {column}: expected {' or '.join(known)}, got {short(key)}{near(key, known)}")


def _check_table(name: str, one: Table, found: Declared, tables: Sequence[str], columns_of: Columns) -> None:
    where = f"tables: {short(name)}"
    for asked, there in ((name, tables), (one.full_from, found.tables)):
        if asked and asked not in there:
            raise UsageError(f"{where}: the paper has no table {short(asked)}{near(asked, there)}")
    if one.experiment not in experiments():
        raise UsageError(f"{where}: no experiment {short(one.experiment)}{near(one.experiment, experiments())}")
    columns = list(columns_of(name))
    if not set(columns) & set(found.columns):
        raise UsageError(f"{where}: has none of the declared columns of scores; it has {', '.join(columns)}")
    try:
        _label(one.labels, dict.fromkeys(columns, ""))
    except (KeyError, ValueError, IndexError) as error:
        raise UsageError(f"{where}: labels: {short(one.labels)} cannot be filled from {', '.join(columns)}") from error


class _Text(str):
    """Text that a label's ``{name:lower}`` writes in small letters."""

    def __format__(self, spec: str) -> str:
        return self.lower() if spec == "lower" else super().__format__(spec)


def _label(pattern: str, row: dict) -> str:
    return pattern.format_map({name: _Text(value) for name, value in row.items()})


@functools.cache
def read(paper: str, name: str) -> Printed:
    """A table of a paper.

    Raises:
        UsageError: no such paper, a table that it does not declare, or a ``tables.toml`` that cannot be used.
    """
    found = declared(paper)
    one = found.tables[papers.known(list(found.tables), name, f"table of scores of {paper}")]
    rows = _rows(paper, name, one.labels)
    if one.full_from:
        rows = pd.concat([_rows(paper, one.full_from, found.tables[one.full_from].labels).loc[[one.full]], rows])
    if one.full and one.full not in rows.index:
        raise UsageError(f"{paper}, {name}: full fine-tuning's row {short(one.full)} is none of {', '.join(rows.index)}")
    keys = {column: key for column, key in found.columns.items() if column in rows.columns}
    return Printed(
        rows.rename(columns=keys), tuple(keys.values()), found.scale, one.split or found.split, one.full, one.experiment
    )


def _rows(paper: str, name: str, labels: str) -> pd.DataFrame:
    """A table by the labels of runs."""
    found = papers.paper_table(paper, name)
    return found.set_index(pd.Index([_label(labels, row) for row in found.to_dict("records")], name="label"))


def title(key: str) -> str:
    """That of a number: a task's, with its metric where it has several; "average"."""
    return TITLES[key] if key in TITLES else suites.heading(key)


# --- showing ----------------------------------------------------------------------------------------------------------
def as_printed(paper: str, name: str) -> Html:
    """A table of a paper with its printed digits and marks."""
    found, shown = declared(paper), papers.paper_table(paper, name)
    shown = shown.drop(columns=[column for column in shown.columns if f"{column}_printed" in shown.columns])
    if "marks_printed" in shown.columns and not shown["marks_printed"].any():
        shown = shown.drop(columns="marks_printed")
    signs = "".join(shown.get("marks_printed", ()))
    says = found.tables[name].says if name in found.tables else ""
    caption = f"{papers.about(paper).title.partition(':')[0]}, {name.replace('table', 'Table ')}"
    caption += f": {says}, as printed" if says else ": as printed"
    titles = {column: title(key) for column, key in found.columns.items()} | {"average": "average"} | found.titles
    scores = {titles[column]: ".2f" if found.scale == 100 else ".3f" for column in (*found.columns, "average")}
    return table(
        shown.rename(columns=titles),
        caption=caption + (", scores out of 100" if found.scale == 100 and name in found.tables else ""),
        formats=scores,
        missing="–",
        note="; ".join(f"{sign} {meaning}" for sign, meaning in found.marks.items() if sign in signs),
    )


def beside(printed: Printed, source: Sequence[dict], columns: Iterable[str] | None = None) -> pd.DataFrame:
    """The paper's scores and ours, one row for each of the paper's: ``method``, and for each of its columns, or those of
    these names, "..., paper" and "..., ours"; ``n`` seeds. Ours is None where nothing has been run."""
    groups, rows = by_label(source), []
    wanted = printed.columns if columns is None else list(columns)
    for label, line in printed.rows.iterrows():
        row, ours = {"method": label}, []
        for name in wanted:
            ours.append(_ours(groups.get(label, []), printed.keys if name == "average" else name, printed))
            row |= {f"{title(name)}, paper": float(line[name]), f"{title(name)}, ours": ours[-1]}
        rows.append(row | {"n": max((one.n for one in ours if one), default=0)})
    return frame(rows)


def _ours(records: Sequence[dict], what: str | tuple[str, ...], printed: Printed) -> Spread | None:
    """A score of a row in the paper's unit; the average over several, of seeds that have all."""
    found = scores(records, what, printed.split)
    if found is None or printed.scale == 1:
        return found
    return dataclasses.replace(
        found, mean=printed.scale * found.mean, sd=None if found.sd is None else printed.scale * found.sd
    )


def averages(printed: Printed, source: Sequence[dict]) -> pd.DataFrame:
    """The paper's averages and ours, one row for each of the paper's: for tables whose runs are of fewer tasks than theirs.

    Returns:
        ``method``; ``average, paper`` as printed; ``same tasks, paper``: the mean of the printed numbers of the tasks
        that we run; ``average, ours``; ``to full``: the difference to full fine-tuning, of the paper's on the same
        tasks and of ours; ``trained, paper`` and ``trained, ours`` (percent of the backbone); ``n`` seeds. None where
        something that ours needs has not been run.
    """
    paper, full = printed.rows, printed.full
    same, found, groups = suites.paper_averages(paper, source), suites.numbers(source), by_label(source)
    ours = {label: found.get(label, {}).get("average") for label in paper.index}
    rows = []
    for label, line in paper.iterrows():
        mine, whole, records = ours[label], ours[full], groups.get(label, [])
        rows.append(
            {
                "method": label,
                "average, paper": float(line["average"]),
                "same tasks, paper": float(same[label]),
                "average, ours": mine,
                "to full, paper": float(same[label] - same[full]),
                "to full, ours": None if mine is None or whole is None else float(mine) - float(whole),
                "trained, paper": line["trained_printed"],
                "trained, ours": suites.trained(records),
                "n": suites.seeds(records),
            }
        )
    return frame(rows)
