"""Records -> tables that say where their numbers come from. Nothing is trained; what is missing is shown as missing."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from markupsafe import Markup, escape

from peftlib import hours, markup
from peftlib.grids import DEFAULT_TASKS
from peftlib.papers import about, papers
from peftlib.report import learned, pages
from peftlib.study import UNDECIDABLE, Results

MISSING = "not run"
MARK = f" {learned.SIGN} "
IN_PART = "in part"  # of an average: some of its tasks were not learned
NO_COMMIT = "unknown (made outside a repository)"
TITLES = {"sst": "SST", "cfimdb": "CFIMDB", "quora": "Quora", "sts": "STS", "average": "average"}
# A cell that is a number, whatever its unit: "0.676 ± 0.004", "0.676 [0.651, 0.701]", "1,234", "8.0×1", "17%", "2 min",
# "+0.00"; "cut" is not.
NUMBER = re.compile(
    r"[+\-−]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?( ± \d+(\.\d+)?| \[[^\[\]]+\])?\s?([%×]\d*|[kMGT]?i?B|[mµ]?s|min|h|M|K)?$"
)
SHORT = 8  # characters of a heading that is not broken
BRIEF = 4  # characters of all words of a column that needs little room
WIDE = 9  # columns from which on a table may use the margin of the page, too
LONG = 110  # characters of a row from which on it may as well, if a cell is a line of at most
CELL = 60  # characters
DATA_NAMES = {"embedded": "embedded suite", "local": "real datasets (local folder)", "hub": "real datasets (hub)"}


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of a score over n seeds; sd is None for a single seed. marks: words for those of
    the runs that did not learn (`peftlib.report.learned`), which it is shown with. ends: of its 95 % interval, if that is
    shown in place of the deviation. left_out: how many of the marked runs are not in the mean, as others of the row did
    learn."""

    mean: float
    sd: float | None
    n: int
    marks: tuple[str, ...] = ()
    ends: tuple[float, float] | None = None
    left_out: int = 0

    @classmethod
    def of(cls, values: Iterable[float | None], marks: tuple[str, ...] = (), left_out: int = 0) -> Spread | None:
        """From scores, one a seed; None if there are none."""
        found = [float(v) for v in values if v is not None and math.isfinite(v)]
        if not found:
            return None
        return cls(
            statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found), marks, None, left_out
        )

    def __float__(self) -> float:
        return self.mean

    def __format__(self, spec: str) -> str:
        spec = spec or ".3f"
        text = format(self.mean, spec)
        if self.ends is not None:
            text += f" [{self.ends[0]:{spec}}, {self.ends[1]:{spec}}]"
        elif self.sd is not None:
            text += f" ± {self.sd:{spec.removeprefix('+')}}"  # a deviation has no sign
        if not self.marks:
            return text
        runs = self.n + self.left_out
        some = f"{len(self.marks)} of {runs} " if runs > 1 and self.marks != (IN_PART,) else ""
        return f"{text} {learned.SIGN} {some}{', '.join(dict.fromkeys(self.marks))}"

    def __str__(self) -> str:
        return format(self)


class Html:
    """Something a notebook shows: HTML on a page, text elsewhere.

    content: as `Markup`, whose own methods escape what they put in; HTML in a mere str is shown as text.
    """

    def __init__(self, content: Markup, text: str):
        self.content, self.text = escape(content), text

    def _repr_html_(self) -> str:
        return self.content

    def __repr__(self) -> str:
        return self.text


# --- reading records --------------------------------------------------------------------------------------------------
def by_label(source: Sequence[dict]) -> dict[str, list[dict]]:
    """Records by the label of their run, in the experiment's order. A label whose runs are all missing comes with an
    empty list, if `source` knows what was asked for (`peftlib.study.Results`)."""
    labels = [run.label for run in getattr(source, "wanted", ())]
    labels += [record["run"]["label"] for record in source]
    return {label: [r for r in source if r["run"]["label"] == label] for label in dict.fromkeys(labels)}


def of_task(records: Iterable[dict], task: str) -> list[dict]:
    """Those whose run has that task, alone or among others."""
    return [record for record in records if task in record["run"]["tasks"]]


def scores(records: Iterable[dict], name: str | tuple[str, ...], split: str = "validation") -> Spread | None:
    """A score of the best epoch over seeds: a number's, the mean of several (`mean_of`), be they of one run or of as many,
    or "average", that over the tasks of runs that name none. None if no record has it. Of a row of which some seeds did not
    learn a task, those that did count."""
    wanted = name if isinstance(name, tuple) else DEFAULT_TASKS if name == "average" else (name,)
    found = [counted(records, key, split) for key in wanted]
    return mean_of(found) if len(found) > 1 else found[0].spread


class Counted(NamedTuple):
    """A number of a row by seed, of the runs that count; the words of all that did not learn; how many do not count."""

    by_seed: dict[int, float]
    marks: tuple[str, ...]
    left_out: int

    @property
    def spread(self) -> Spread | None:
        return Spread.of(self.by_seed.values(), self.marks, self.left_out)


def counted(records: Iterable[dict], key: str, split: str = "test", scale: float = 1) -> Counted:
    """A number of a row, of the runs that count for its task (`peftlib.report.learned.counting`). scale: of a full
    score."""
    task = key.partition(".")[0]
    there = of_task(records, task)
    counts = learned.counting(there, task)
    found = {r["run"]["seed"]: scale * r[split][key] for r in counts.runs if key in r[split]}
    return Counted(found, counts.marks, len(there) - len(counts.runs))


def mean_of(found: Sequence[Counted]) -> Spread | None:
    """The mean of several numbers of a row, each the mean over its own seeds that count, so that a lost run costs its own
    number and no other; None if one is not there. Its deviation is over the seeds that count for all of them."""
    if not found or not all(one.by_seed for one in found):
        return None
    whole = [seed for seed in found[0].by_seed if all(seed in one.by_seed for one in found)]
    means = [statistics.fmean(one.by_seed[seed] for one in found) for seed in whole]
    return Spread(
        statistics.fmean(statistics.fmean(one.by_seed.values()) for one in found),
        statistics.stdev(means) if len(means) > 1 else None,
        max(1, len(whole)),
        (IN_PART,) if any(one.marks for one in found) else (),
    )


def field(records: Iterable[dict], *path: str) -> Spread | None:
    """A number inside records, such as ``field(records, "counts", "stored")`` or ``field(records, "seconds")``."""

    def dig(record: dict):
        for key in path:
            record = record[key]
        return record

    return Spread.of(dig(r) for r in records)


def epoch_seconds(records: Iterable[dict]) -> Spread | None:
    """Seconds of training steps an epoch; None without records."""
    return Spread.of(r["seconds"] / r["run"]["recipe"]["epochs"] for r in records)


def less(one: Spread | float | None, other: Spread | float | None) -> float | None:
    """What one score is above another; None where one of them has not been run."""
    return None if one is None or other is None else float(one) - float(other)


def many(number: int, noun: str) -> str:
    """ "1 run", "2 runs"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def presence(source: Sequence[dict]) -> str:
    """ "17 of 19 runs"; "3 runs" if it is not known how many there should be. Also how many did not learn, have no scores
    because they diverged, or have a damaged record."""
    wanted = getattr(source, "wanted", None)
    parts = [f"{len(source)} of {many(len(wanted), 'run')}" if wanted is not None else many(len(source), "run")]
    parts += [f"{learned.SIGN} {number} {word}" for word, number in learned.counted(source).items() if number]
    parts += [f"{len(lost)} {why}" for why in ("diverged", "damaged") if (lost := getattr(source, why, ()))]
    return ", ".join(parts)


def cost(source: Sequence[dict]) -> dict[str, float] | None:
    """What making these records took: ``seconds`` of training steps, ``longest`` run, number of ``runs``; None if there
    are none."""
    seconds = [r["seconds"] for r in source]
    return {"seconds": sum(seconds), "longest": max(seconds), "runs": len(seconds)} if seconds else None


def duration(seconds: float) -> str:
    """ "0.4 s", "35 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --- where numbers come from ------------------------------------------------------------------------------------------
def _limits(limits: Sequence[int | None]) -> str:
    if all(limit is None for limit in limits):
        return "all"
    return " / ".join("all" if limit is None else f"{limit:,}" for limit in limits)


def _data(runs: Sequence[dict]) -> str:
    """Every source with the numbers of examples to train on, to validate and to test."""
    sizes: dict[str, dict[str, None]] = {}
    for r in runs:
        sizes.setdefault(DATA_NAMES.get(r["source"], r["source"]), {})[_limits(r["limits"])] = None
    return "; ".join(f"{name}, {' or '.join(there)} examples a task" for name, there in sizes.items())


def _ranges(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(values))))


def _joined(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _commits(source: Sequence[dict], shown: int = 3) -> str:
    """The commits that made the records, "+" after one with local changes; only the first few are named."""
    found = list(dict.fromkeys(r.get("commit") or NO_COMMIT for r in source))
    more = f" and {len(found) - shown} more" if len(found) > shown else ""
    return f"commit{'s' if len(found) > 1 else ''} {', '.join(found[:shown])}{more}"


def _precisions(runs: Sequence[dict]) -> list[str]:
    """In which precision they ran, if that was not the same for all: "precision bf16 (11 runs) and fp32 (1)"."""
    found = Counter(r["recipe"]["precision"] for r in runs)
    said = [f"{name} ({number if i else many(number, 'run')})" for i, (name, number) in enumerate(found.most_common())]
    return [f"precision {' and '.join(said)}"] if len(found) > 1 else []


def provenance(source: Sequence[dict]) -> str:
    """One line: backbone, data, precision if there are two, seeds, how many runs are there, and the commits that made
    them."""
    if not source:
        return f"{presence(source)}: nothing to show yet"
    runs = [r["run"] for r in source]
    seeds = {r["seed"] for r in runs}
    parts = [
        "backbone " + _joined(r["backbone"] for r in runs),
        "data: " + _data(runs),
        *_precisions(runs),
        f"seed{'s' if len(seeds) > 1 else ''} {_ranges(seeds)} (n = {len(seeds)})",
        presence(source),
        _commits(source),
    ]
    return markup.line(" · ".join(parts))


def not_run(source: Sequence[dict] | None) -> Html | None:
    """What stands in place of the numbers of an experiment that is not run, with the hours that would decide; None for any
    other."""
    why = getattr(source, "undecidable", "")
    if not why:
        return None
    wanted = source.wanted  # type: ignore[union-attr]  # of `Results`, as the reason is
    found = hours.hours(wanted, hours.recorded(), hours.relative(hours.recorded()))
    times = {name: found[name] for name in hours.WANTED}
    said = [f"on {name} {'not measured' if time is None else duration(3600 * time)}" for name, time in times.items()]
    known = len(wanted) - found["unknown"]  # type: ignore[operator]  # a number of runs
    some = f" ({known} of them)" if 0 < known < len(wanted) else ""
    rest = markup.line(f"{why} The {len(wanted)} runs that would decide it take{some}: {'; '.join(said)}.")
    return Html(Markup("<p><em>{}.</em> {}</p>").format(UNDECIDABLE, rest), f"{UNDECIDABLE}. {rest}")


# --- tables -----------------------------------------------------------------------------------------------------------
def cell_text(value: object, spec: str | Callable[[object], str] = ".3f") -> str:
    """A cell as text: numbers by `spec`, nothing (None, NaN) as "not run"."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return MISSING
    if callable(spec):
        return spec(value)
    if isinstance(value, Spread | float):
        return format(value, spec)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return markup.line(value)


def table(
    df: pd.DataFrame,
    *,
    caption: str,
    source: Sequence[dict] | None = None,
    note: str = "",
    formats: Mapping[str, str | Callable[[object], str]] | None = None,
    missing: str = MISSING,
    rows: Mapping[str, str] | None = None,
    prose: str = "",
) -> Html:
    """A sortable table with a caption and a footer that says where its numbers come from; `not_run` in its place where that
    is so.

    Args:
        df: cells are text, numbers, `Spread`, or None for what has not been run. The index is not shown. A column
            "average" comes second.
        caption: what a reader who only scrolls should get from it.
        source: the records behind it (of `peftlib.study.results`); None for a table of the paper's numbers alone.
        note: a sentence below it.
        formats: format specification, or function to text, of a column; ".3f" otherwise.
        missing: what an empty cell says.
        rows: expressions of methods by what this table calls them, where no run has that label.
        prose: the paper whose methods lead to their pages where sentences in cells mention them.
    """
    if instead := not_run(source):
        return instead
    formats = dict(formats or {})
    df = df.iloc[:, _order(list(df.columns))]
    lines = [
        [cell_text(value, formats.get(column, ".3f")) for column, value in zip(df.columns, row, strict=True)]
        for row in df.itertuples(index=False, name=None)
    ]
    lines = [[missing if text == MISSING else text for text in line] for line in lines]
    foot = [markup.line(note)] if note else []
    foot += [provenance(source)] if source is not None else []
    columns, caption = [markup.line(name).replace("_", " ") for name in df.columns], markup.line(caption)
    cells = [
        _Column(name, [line[i] for line in lines], missing, source or (), rows, prose) for i, name in enumerate(columns)
    ]
    shown = [[column.shown(line[i]) for i, column in enumerate(cells)] for line in lines]
    return Html(_html_table(cells, lines, caption, foot), _text_table(columns, shown, caption, foot))


def _order(columns: Sequence[str]) -> list[int]:
    """The average comes second, after the names of rows: a narrow screen and a printed page show it beside them."""
    return sorted(range(len(columns)), key=lambda i: (i > 0, columns[i] != "average"))


class _Column:
    """A column as a page shows it: its numbers end at the right, its methods lead to their pages.

    texts: its cells. missing: what an empty one says. source: the records that its rows come from. rows, prose: as
    `table`'s.
    """

    def __init__(
        self,
        name: str,
        texts: Sequence[str],
        missing: str,
        source: Sequence[dict],
        rows: Mapping[str, str] | None = None,
        prose: str = "",
    ):
        filled = [text for text in texts if text not in (missing, "", "–")]
        self.name, self.missing = name, missing
        self.numeric = bool(filled) and all(NUMBER.match(text.partition(MARK)[0]) for text in filled)
        self.names = name in pages.COLUMNS
        self.links = pages.links(filled, source, rows) if self.names else {}
        self.prose = "" if self.numeric or self.names else prose
        self.brief = not self.numeric and all(len(text) <= BRIEF for text in texts)
        self.ran = ran(source) if self.names else {}

    def shown(self, text: str) -> str:
        return f"{text} (here {self.ran[text]})" if text in self.ran else text

    def head(self) -> Markup:
        return Markup('<th scope="col"{}>{}</th>').format(
            self._class("short" if len(self.name) <= SHORT else ""), self.name
        )

    def cell(self, text: str) -> Markup:
        if text == self.missing:  # an empty cell sorts last, whatever the column holds
            return Markup('<td data-sort=""{}>{}</td>').format(self._class("missing"), text)
        said = self.shown(text).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")
        if MARK in text:  # a run that did not learn sorts by its number
            return Markup('<td data-sort="{}"{}>{}</td>').format(text.split()[0], self._class("unlearned"), said)
        link = Markup('<a href="{1}">{0}</a>').format
        if text in self.links:
            said = link(said, self.links[text])
        elif self.names and (terms := pages.terms(text)):
            said = Markup(" + ").join(link(*term) for term in terms)
        elif self.prose:
            said = pages.told(said, self.prose)
        return Markup("<td{}>{}</td>").format(self._class("brief" if self.brief else ""), said)

    def _class(self, also: str = "") -> Markup:
        names = [name for name in (also, "number" if self.numeric else "") if name]
        return Markup(' class="{}"').format(" ".join(names)) if names else Markup()


def ran(source: Sequence[dict]) -> dict[str, str]:
    """Of the rows of an experiment that a paper names after a backbone, those that ran on another: label -> backbone."""
    there: dict[str, dict[str, None]] = {}
    for record in source:
        for label, backbone in ran_elsewhere([record["run"]["label"]], record["run"]["backbone"]).items():
            there.setdefault(label, {})[backbone] = None
    return {label: " and ".join(found) for label, found in there.items()}


def ran_elsewhere(labels: Iterable[str], backbone: str) -> dict[str, str]:
    """Those rows that a paper names after a backbone other than this one, on which they ran."""
    named = {name for paper in papers() for name in about(paper).backbones} - {backbone}
    return {label: backbone for label in labels if label.partition(",")[0].lower() in named}


def _html_table(columns: list[_Column], rows: list[list[str]], caption: str, foot: list[str]) -> Markup:
    head = Markup().join(column.head() for column in columns)
    body = Markup("\n").join(
        Markup("<tr>{}</tr>").format(Markup().join(c.cell(text) for c, text in zip(columns, row, strict=True)))
        for row in rows
    )
    below = Markup().join(Markup('<p class="source"><small>{}</small></p>').format(said) for said in foot)
    looks = Markup(' class="sortable"') if rows else ""  # nothing to sort, no buttons that would do nothing
    width = " full-width" if len(columns) >= WIDE else " full-width words" if _long(columns, rows) else ""
    return Markup(
        '<div class="table-scroll{}"><table{}>\n<caption>{}</caption>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n'
        "</tbody></table></div>\n{}"
    ).format(width, looks, caption, head, body, below)


def _long(columns: Sequence[_Column], rows: Sequence[Sequence[str]]) -> bool:
    """Would lines of words that are good to read make a table wider than a page's own text?"""
    texts = [[column.name.rpartition(" ")[2], *(row[i] for row in rows)] for i, column in enumerate(columns)]
    return sum(min(CELL, max(map(len, cells))) for cells in texts) > LONG


def _text_table(columns: list[str], rows: list[list[str]], caption: str, foot: list[str]) -> str:
    text = pd.DataFrame(rows, columns=columns).to_string(index=False) if rows else "(no rows)"
    return "\n".join([caption, text, *foot])


def course(source: Sequence[dict], task: str) -> pd.DataFrame:
    """Where a task's validation score peaks: ``method``, ``epochs``, the ``best epoch``, the score ``at best`` and
    ``at the end``, and the ``training loss at the end``; means over seeds, None where nothing has been run. Runs of other
    tasks are left out."""
    rows = []
    for label, found in by_label(source).items():
        records = of_task(found, task)
        curves = [[entry["validation"][task] for entry in r["history"]] for r in records]
        rows.append(
            {
                "method": label,
                "epochs": max(map(len, curves), default=None),
                "best epoch": Spread.of(curve.index(max(curve)) + 1 for curve in curves),
                "at best": Spread.of(map(max, curves)),
                "at the end": Spread.of(curve[-1] for curve in curves),
                "training loss at the end": Spread.of(r["history"][-1]["train_loss"] for r in records),
            }
        )
    return frame(rows)


def fell(source: Sequence[dict], task: str) -> dict[str, int | None]:
    """In how many of a task's ``n`` runs its score ended below its peak (``fell``); None for both without runs."""
    curves = [[entry["validation"][task] for entry in r["history"]] for r in of_task(source, task)]
    return {"fell": sum(c[-1] < max(c) for c in curves), "n": len(curves)} if curves else {"fell": None, "n": None}


def frame(rows: Iterable[Mapping]) -> pd.DataFrame:
    """A table whose cells stay what they are: None is not turned into NaN, nor whole numbers beside it into floats."""
    return pd.DataFrame(list(rows), dtype=object)


def union(*sources: Sequence[dict]) -> Results:
    """Records of several experiments together, each run once."""
    found = {r["digest"]: r for source in sources for r in source}
    wanted = {run.digest: run for source in sources for run in getattr(source, "wanted", ())}
    diverged = {r["digest"]: r for source in sources for r in getattr(source, "diverged", ())}
    damaged = {run.digest: run for source in sources for run in getattr(source, "damaged", ())}
    whole = Results(found.values(), list(wanted.values()), diverged.values(), damaged.values())
    if not whole:
        whole.undecidable = next((why for source in sources if (why := getattr(source, "undecidable", ""))), "")
    return whole


def rate_grid(source: Sequence[dict], used: Callable[[str], float]) -> pd.DataFrame:
    """A search for learning rates: ``method``, the mean validation score at each rate ("diverged" where a run did), the
    ``best`` rate (the lower of equals), and the rate ``used`` in the study. used: a method's expression -> its rate."""
    rows, groups, lost = [], by_label(source), by_label(getattr(source, "diverged", ()))
    asked = [(run.label, (*run.tasks, run.seed)) for run in getattr(source, "wanted", ())]
    for label, records in groups.items():
        found = by_rate(records, {on for of, on in asked if of == label})
        if found:
            diverged = {f"{r['run']['recipe']['lr']:g}": "diverged" for r in lost.get(label, ())}
            rows.append(
                {
                    "method": label,
                    **{f"{lr:g}": score for lr, score in found.items()},
                    **diverged,
                    "best": max(found, key=lambda lr, found=found: (found[lr], -lr)),  # type: ignore[misc]  # a default is no second argument
                    "used": used(records[0]["run"]["method"]),
                }
            )
    rates = sorted({c for row in rows for c in row} - {"method", "best", "used"}, key=float)
    return frame({"method": None, **dict.fromkeys(rates), **row} for row in rows)


def at_edges(grid: pd.DataFrame) -> dict[str, str]:
    """Of a table of `rate_grid`, whose best rate is the ``lowest`` or the ``highest`` that was tried, be it with runs that
    diverged: methods by name, or "none". Beyond such a rate there may be a better one."""
    found: dict[str, list[str]] = {"lowest": [], "highest": []}
    for row in grid.to_dict("records"):
        tried = [float(rate) for rate in grid.columns.drop(["method", "best", "used"]) if pd.notna(row[rate])]
        if len(tried) > 1:  # with a single one there was no search
            for edge, rate in (("lowest", min(tried)), ("highest", max(tried))):
                found[edge] += [row["method"]] if row["best"] == rate else []
    return {edge: ", ".join(methods) or "none" for edge, methods in found.items()}


def by_rate(records: Sequence[dict], asked: Collection[tuple] = ()) -> dict[float, float]:
    """A method's mean validation score by learning rate. A rate that lacks a task or a seed of another rate, or one that is
    asked for, is left out: its mean would be over other runs. asked: each (task, ..., seed)."""
    tried: dict[float, dict[tuple, float]] = {}
    for r in records:
        run = r["run"]
        tried.setdefault(run["recipe"]["lr"], {})[(*run["tasks"], run["seed"])] = r["validation"]["mean"]
    every = {what for found in tried.values() for what in found} | set(asked)
    return {lr: statistics.fmean(found.values()) for lr, found in tried.items() if set(found) == every}


def gains(both: pd.DataFrame, row: str, over: str, metrics: Sequence[str]) -> dict[str, float | None]:
    """Differences between two rows of `peftlib.report.declared.beside`: by metric ours (``sst``; None if not run) and
    the paper's (``sst_paper``)."""
    rows, out = both.set_index("method"), {}
    for metric in metrics:
        ours = [rows.loc[name, f"{TITLES[metric]}, ours"] for name in (row, over)]
        out[metric] = None if None in ours else float(ours[0]) - float(ours[1])
        out[f"{metric}_paper"] = rows.loc[row, f"{TITLES[metric]}, paper"] - rows.loc[over, f"{TITLES[metric]}, paper"]
    return out
