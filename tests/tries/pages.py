"""What reaches the book: parameters of a page, and records that any text may stand in."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from markdown_it import MarkdownIt
from test_report import synthetic

from peftlib import grids, report
from peftlib.papers.survey import taxonomy as survey
from peftlib.report import environment, figures, methods, shares, verdicts
from peftlib.study import Results
from tries import Try

TRIES = [
    Try("report.begin", "a preset that does not exist", lambda _: report.begin("smok"), ("'smok'", "smoke")),
    Try("report.begin", "a word for a truth value", lambda _: report.begin("smoke", "False"), ("'False'", "expected True")),
    Try(
        "report.begin",
        "an experiment that does not exist",
        lambda _: report.begin("smoke", False, "adaptbert/tabel1"),
        ("adaptbert/tabel1", "adaptbert/table1"),
    ),
    Try("methods.own_row", "a label that has no row", lambda _: methods.own_row("LoRa"), ("'LoRa'", "LoRA")),
    Try("verdicts.ledger", "a paper without claims", lambda _: verdicts.ledger("lora", {}), ("lora", "adaptbert")),
]

PIECES = [
    "<script>",
    "</script>",
    "<img src=x onerror=f()>",
    '"',
    "'",
    "`",
    "````",
    "{raw}",
    "{{ x }}",
    "$",
    r"$\foo$",
    "|",
    "\n\n",
    "# ",
    "_",
    "*",
    "[x](javascript:f())",
    "\x1b[2J",
    "\u202e",
    "[",
    "]",
    ", ",
    "x" * 300,
    "中",
    " ",
]
SHOWS: dict[str, Callable[[Results, str], object]] = {
    "table": lambda found, text: report.table(
        pd.DataFrame({text: [text, None, 1.5]}), caption=text, note=text, source=found
    ),
    "rerun": lambda found, text: report.rerun("page.ipynb", report.Page(grids.get_preset("published"), False), found),
    "say": lambda found, text: report.say("{text} and {text:code}", text=text),
    "caveats": lambda found, text: report.caveats(found, "adaptbert"),
    "advice": lambda found, text: survey.advice(found),
    "choices": lambda found, text: survey.choices(found),
    "machines": lambda found, text: environment.machines(found),
    "recorded": lambda found, text: report.table(shares.recorded(found), caption=text),
    "course": lambda found, text: report.table(report.course(found, "sst"), caption=text),
    "rates": lambda found, text: report.table(report.rate_grid(found, lambda method: 1e-3), caption=text),
    "cost": lambda found, text: methods.cost(found, "LoRA"),
    "curve": lambda found, text: methods.curve(found),
    "compare": lambda found, text: methods.compare(found, "LoRA"),
    "epochs": lambda found, text: report.figure(figures.epochs(found, "sst"), caption=text, source=found),
    "over": lambda found, text: report.figure(
        figures.over({text: figures.points(found, lambda mine: report.scores(mine, "sst"))}, text, text), caption=text
    ),
    "claims": lambda found, text: report.table(verdicts.ledger("adaptbert", {"adaptbert/table1": found}), caption=text),
}


def _text(draw: random.Random) -> str:
    return "".join(draw.choices(PIECES, k=draw.randrange(5)))


def _record(draw: random.Random, run) -> dict:
    """A record with the fields that one has, and in them whatever its schema allows."""
    record = synthetic(run, draw.choice([0.0, 0.5, 1.0, -1.0, 1e-300]), stored=draw.choice([0, 1, 10**12]))
    record["machine"] = {"device": _text(draw), "threads": draw.randrange(3)}
    record |= {
        "commit": draw.choice([None, _text(draw)]),
        "versions": {_text(draw): _text(draw)},
        "peak_bytes": draw.choice([None, 0, 10**15]),
        "seconds": draw.choice([0.0, 1e-9, 1e9]),
    }
    if draw.random() < 0.5:
        counts = {"rows": 10, "rows_cut": draw.randrange(1, 10), "tokens_cut": 20, "rows_dropped": 2}
        record["left_out"] = {"train": {run.tasks[0]: counts}}
    return record


def _shown(draw: random.Random, _):
    preset = dataclasses.replace(grids.get_preset("published"), backbone=f"x{_text(draw)}")
    runs = draw.sample(grids.runs("methods/compared", preset), k=draw.randrange(8))
    wanted = [dataclasses.replace(run, label=draw.choice([run.label, _text(draw)])) for run in runs]
    found = Results([_record(draw, run) for run in wanted if draw.random() < 0.8], wanted)
    name, text = draw.choice(list(SHOWS)), _text(draw)

    def show() -> None:
        thing = SHOWS[name](found, text)
        said = MarkdownIt("commonmark").render(thing.data) if isinstance(thing, Markdown) else thing._repr_html_()
        plt.close("all")
        assert "<script" not in said and "<img src=x" not in said, (name, said)

    return show


GENERATORS = {"records on a page": _shown}
