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

import numpy as np
import pandas as pd

from peftlib import papers
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError, short
from peftlib.grids import experiments
from peftlib.report import learned, suites
from peftlib.report.evidence import measured
from peftlib.report.tables import IN_PART, TITLES, Html, Spread, by_label, frame, less, scores, table
from peftlib.report.uncertainty import interval
from peftlib.schema import conform, near

Split = Literal["validation", "test"]
Columns = Callable[[str], Iterable[str]]  # of a table, by its name
MEAN = "mean"  # of a task's metrics: what records have under its name


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
    record that a column of any table stands beside, ``task`` or ``task.metric``, or ``task.mean`` of a task's several
    metrics. scales: of columns that are printed in another scale. titles: of other columns. marks: what signs in the column
    ``marks_printed`` mean. name: see `called`."""

    scale: float
    split: Split
    columns: dict[str, str]
    tables: dict[str, Table]
    scales: dict[str, float] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Printed:
    """A printed table of scores. rows: its numbers by the labels of the runs, columns of scores under the names that
    records have for them (`keys`) and in the paper's scale, with the row of full fine-tuning wherever it stands. The
    others: see `Table`. elsewhere: does full fine-tuning's row stand in another table?"""

    rows: pd.DataFrame
    keys: tuple[str, ...]
    scale: float
    split: Split
    full: str
    experiment: str
    elsewhere: bool = False

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
        for where, scale in {
            "scale": found.scale,
            **{f"scales: {name}": one for name, one in found.scales.items()},
        }.items():
            if scale not in (1, 100):
                raise UsageError(f"{where}: expected 1 or 100, got {scale:g}")
        for column, key in found.columns.items():
            _check_key(column, key)
        for name, one in found.tables.items():
            _check_table(name, one, found, tables, columns_of)
        for kind, names, where in (
            ("columns", found.columns, found.tables),
            ("scales", found.scales, found.tables),
            ("titles", found.titles, tables),
        ):
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
    known += [f"{task}.{MEAN}"] if len(known) > 1 else []
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
    keys = {column: key.removesuffix(f".{MEAN}") for column, key in found.columns.items() if column in rows.columns}
    for column, scale in found.scales.items():
        if column in rows.columns:
            rows[column] *= found.scale / scale
    return Printed(
        rows.rename(columns=keys),
        tuple(keys.values()),
        found.scale,
        one.split or found.split,
        one.full,
        one.experiment,
        bool(one.full_from),
    )


def _rows(paper: str, name: str, labels: str) -> pd.DataFrame:
    """A table by the labels of runs."""
    found = papers.paper_table(paper, name)
    return found.set_index(pd.Index([_label(labels, row) for row in found.to_dict("records")], name="label"))


def score_columns(paper: str, name: str) -> list[str]:
    """The printed columns of scores of a table, those that its average is over, in its order.

    Raises:
        UsageError: of `declared`.
    """
    known = declared(paper).columns
    return [column for column in papers.paper_table(paper, name).columns if column in known]


def title(key: str) -> str:
    """That of a number: a task's, with its metric where it has several; "average"."""
    return TITLES[key] if key in TITLES else suites.heading(key)


def called(paper: str) -> str:
    """What a paper is called: its ``name`` in tables.toml, or what stands before the colon of its title."""
    name = declared(paper).name if (papers.FOLDER / paper / "tables.toml").is_file() else ""
    return name or papers.about(paper).title.partition(":")[0]


# --- showing ----------------------------------------------------------------------------------------------------------
def as_printed(paper: str, name: str) -> Html:
    """A table of a paper with its printed digits and marks."""
    found, shown = declared(paper), papers.paper_table(paper, name)
    shown = shown.drop(columns=[column for column in shown.columns if f"{column}_printed" in shown.columns])
    if "marks_printed" in shown.columns and not shown["marks_printed"].any():
        shown = shown.drop(columns="marks_printed")
    signs = "".join(shown.get("marks_printed", ()))
    says = found.tables[name].says if name in found.tables else ""
    caption = f"{called(paper)}, {name.replace('table', 'Table ')}"
    caption += f": {says}, as printed" if says else ": as printed"
    whole = f".{MEAN}" if name in found.tables else "."  # other tables have tasks, and no metrics, in their columns
    titles = {column: title(key.partition(whole)[0]) for column, key in found.columns.items()}
    titles |= {"average": "average"} | found.titles
    texts = papers.read_table(papers.FOLDER / paper / "numbers" / f"{name}.csv")
    scores = {titles[column]: f".{_digits(texts[column])}f" for column in shown.columns if column in titles}
    return table(
        shown.rename(columns=titles),
        caption=caption + (", scores out of 100" if found.scale == 100 and name in found.tables else ""),
        formats=scores,
        missing="–",
        note="; ".join(f"{sign} {meaning}" for sign, meaning in found.marks.items() if sign in signs),
    )


def _digits(printed: Iterable[str]) -> int:
    """How many digits behind the point a column's numbers have, at most."""
    return max((len(text.partition(".")[2]) for text in printed), default=0)


def beside(printed: Printed, source: Sequence[dict], columns: Iterable[str] | None = None) -> pd.DataFrame:
    """The paper's scores and ours, one row for each of the paper's: ``method``, and for each of its columns, or those of
    these names, "..., paper" and "..., ours"; ``n`` seeds. Ours is None where nothing has been run; of a stand-in it is
    called so."""
    groups, rows = by_label(source), []
    wanted = printed.columns if columns is None else list(columns)
    stand_ins = suites.stand_ins(source)
    for label, line in printed.rows.iterrows():
        row, ours = {"method": label}, []
        for name in wanted:
            own = stand_ins.get(name, name)
            ours.append(_ours(groups.get(label, []), printed.keys if name == "average" else own, printed))
            row |= {f"{title(name)}, paper": float(line[name]), f"{title(own)}, ours": ours[-1]}
        rows.append(row | {"n": max((one.n for one in ours if one), default=0)})
    return frame(rows)


def tested(printed: Printed, source: Sequence[dict], columns: Iterable[str] | None = None) -> pd.DataFrame:
    """As `beside`, but ours are what verdicts rest on: scores of the test split with their 95 % intervals, whichever split
    the paper's are of, over the seeds that learned where some did; both averages are over the informative tasks."""
    found, groups, rows = test_scores(printed.experiment, source), by_label(source), []
    wanted = printed.columns if columns is None else list(columns)
    out = learned.uninformative(source)
    same = [key for key in printed.keys if key.partition(".")[0] not in out] if out else []
    for label, line in printed.rows.iterrows():
        row: dict[str, object] = {"method": label}
        for name in wanted:
            ours = found.get(label, {}).get(name)
            if ours is not None and printed.scale != 1:
                ours = _scaled(ours, printed.scale)
            paper = line[same].astype(float).mean() if same and name == "average" else line[name]
            row |= {f"{title(name)}, paper": float(paper), f"{title(name)}, ours": ours}
        rows.append(row | {"n": suites.seeds(groups.get(label, []))})
    return frame(rows)


def test_scores(name: str, source: Sequence[dict]) -> dict[str, dict[str, Spread]]:
    """By row label and number: the score of the test split with its 95 % interval, as the verdicts on an experiment have
    it; "average" is that over all informative tasks, if a row has all of them."""
    rows, out = measured(name, source), {}
    for label, records in by_label(source).items():
        numbers = {key: value for key, value in rows.values.get(label, {}).items() if isinstance(value, np.ndarray)}
        counts = {task: learned.counting(records, task) for task in suites.tasks(source)}
        some = (IN_PART,) if any(counts[task].marks for task in rows.tasks) else ()
        out[label] = {
            key: Spread(
                float(value[0]),
                None,
                suites.seeds(records),
                some if key == "average" else counts[key.split(".")[0]].marks,
                interval(value),
            )
            for key, value in numbers.items()
        }
    return out


def _ours(records: Sequence[dict], what: str | tuple[str, ...], printed: Printed) -> Spread | None:
    """A score of a row in the paper's unit; the average over several, of seeds that have all."""
    found = scores(records, what, printed.split)
    if found is None or printed.scale == 1:
        return found
    return _scaled(found, printed.scale)


def _scaled(score: Spread, by: float) -> Spread:
    ends = None if score.ends is None else (by * score.ends[0], by * score.ends[1])
    return dataclasses.replace(score, mean=by * score.mean, sd=None if score.sd is None else by * score.sd, ends=ends)


def averages(printed: Printed, source: Sequence[dict]) -> pd.DataFrame:
    """The paper's averages and ours, one row for each of the paper's: for tables whose runs are of fewer tasks than theirs.

    Returns:
        ``method``; ``average, paper`` as printed; ``same tasks, paper``: the mean of the printed numbers of the tasks
        that we run; ``average, ours``; ``to full``: the difference to full fine-tuning, of the paper's on the same
        tasks and of ours; ``trained, paper`` and ``trained, ours`` (percent of the backbone); ``n`` seeds. None where
        something that ours needs has not been run.
    """
    paper, full = printed.rows, printed.full
    out, groups = _uninformative(printed, source), by_label(source)
    same, found = suites.paper_averages(paper, source, out), suites.numbers(source, left_out=out)
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
                "to full, ours": less(mine, whole),
                "trained, paper": line["trained_printed"],
                "trained, ours": suites.trained(records),
                "n": suites.seeds(records),
            }
        )
    return frame(rows)


def _uninformative(printed: Printed, source: Sequence[dict]) -> list[str]:
    """The tasks that are in no average of a table: by its own rows, whichever stand beside them."""
    borrowed = printed.full if printed.elsewhere else None
    return learned.uninformative([record for record in source if record["run"]["label"] != borrowed])
