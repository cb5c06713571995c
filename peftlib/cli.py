"""The command line: ``peftlib methods | count | estimate | run | status | plan | presets | experiments``.

Every command prints text, or with ``--json`` one JSON document. What cannot be done is one line on standard error and
exit status 2. Torch is imported only by the commands that need it.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from peftlib import commandline
from peftlib.commandline import Parser
from peftlib.errors import UsageError, short

if TYPE_CHECKING:
    from peftlib.methods.base import Method

QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
}
MIB = 2**20


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status (0, 2 for what cannot be done, 130 if it was interrupted)."""
    arguments = _parser().parse_args(argv)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)

    def go() -> str:
        data, text = arguments.command(arguments)
        return json.dumps(data, indent=1, default=str) if arguments.json else text

    return commandline.run("peftlib", go)


def _parser() -> Parser:
    parser = Parser(prog="peftlib", description="Parameter-efficient fine-tuning: count, estimate, train, look up.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.add_argument("--json", action="store_true", help="print JSON")
        sub.set_defaults(command=command, parser=sub)
        return sub

    sub = add("methods", methods, "All methods, or one with its hyperparameters.")
    sub.add_argument("name", nargs="?", metavar="NAME")
    sub = add("count", counts, "Trainable, stored and changed parameters, without weights or a download.")
    sub.add_argument(
        "method",
        metavar="METHOD",
        help="an expression such as 'LoRA(rank=8)', or a paper's table: adaptbert/table3, compacter/table1",
    )
    sub.add_argument("--backbone", default="bert-base-uncased", metavar="NAME")
    sub.add_argument("--tasks", type=int, default=1, metavar="N")
    sub.add_argument("--form", default="heads", metavar="heads|text", help="text: with T5's language-model head")
    sub = add("estimate", estimates, "Memory and compute of a training step, without weights or a GPU.")
    sub.add_argument("method", metavar="METHOD", help="an expression, or a paper's table of memory: survey/table5")
    sub.add_argument("--backbone", default="bert-base-uncased", metavar="NAME")
    size = sub.add_mutually_exclusive_group()
    size.add_argument("--batch", type=int, default=32, metavar="SEQUENCES")
    size.add_argument("--budget", metavar="BYTES", help="the largest batch that fits, such as 24GB or 24GiB")
    sub.add_argument("--length", type=int, default=128, metavar="TOKENS")
    sub.add_argument("--precision", default="bf16", metavar="bf16|fp32|bf16-true")
    sub.add_argument("--tasks", type=int, default=1, metavar="N")
    sub.add_argument(
        "--answer",
        type=int,
        default=0,
        metavar="TOKENS",
        help="an encoder-decoder writes answers of so many tokens (default: 0, a head reads it)",
    )
    sub.add_argument("--device", default="cuda", metavar="cuda|cpu", help="whose kernels (default: cuda)")
    sub = add("run", run, "Train the runs of an experiment that have no record yet.")
    sub.add_argument("experiment", metavar="EXPERIMENT")
    sub.add_argument("--preset", default="quick", metavar="NAME")
    sub.add_argument("--row", action="append", metavar="LABEL", help="only this row; again for another")
    sub.add_argument("--start", action="append", metavar="DIGEST", help="begin from this recorded run; again for another")
    sub.add_argument("--start-task", default="", metavar="TASK", help="of that run: its head and copies become these runs'")
    sub = add("status", status, "How many runs are done, missing, failed, damaged, or of other code, data or weights.")
    sub.add_argument("--preset", metavar="NAME", help="default: all of them")
    sub.add_argument("--paper", metavar="NAME")
    sub = add("plan", plan, "What is missing, how long it takes, and which differences the tables could see.")
    sub.add_argument("--preset", default="published", metavar="NAME", help="default: published")
    add("presets", presets, "How large a study can be.")
    sub = add("experiments", experiments, "Named grids of runs.")
    sub.add_argument("--preset", default="quick", metavar="NAME", help="for the number of runs (default: quick)")
    return parser


def columns(rows: list[dict], names: list[str] | None = None, digits: int = 3) -> str:
    """Rows as aligned text, numbers to the right, broken ones to so many digits; a line saying so if there are none."""
    if not rows:
        return "(none)"
    names = names or list(rows[0])
    cells = [names] + [[_show(row[n], digits) for n in names] for row in rows]
    width = [max(len(line[i]) for line in cells) for i in range(len(names))]
    right = [all(isinstance(row[n], int | float | None) for row in rows) for n in names]
    padded = [[c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, width, right, strict=True)] for line in cells]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def _show(value, digits: int = 3) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


# --- commands: each gives what --json prints, and the text ------------------------------------------------------------
def methods(a: argparse.Namespace) -> tuple[object, str]:
    from peftlib.methods import METHODS, method_class

    if a.name is None:
        rows = [describe(METHODS[name]) for name in sorted(METHODS)]
        short = [
            {**row, "hyperparameters": ", ".join(f"{h['name']}={h['default']!r}" for h in row["hyperparameters"])}
            for row in rows
        ]
        return rows, columns(short, ["name", "family", "paper", "mergeable", "hyperparameters"])
    row = describe(method_class(a.name))
    keys = ("name", "title", "family", "paper", "mergeable", "about")
    head = "\n".join(f"{key:<10} {_show(row[key])}" for key in keys)
    body = [{**h, "default": repr(h["default"])} for h in row["hyperparameters"]]
    return row, f"{head}\n\n{columns(body) if body else '(no hyperparameters)'}"


def describe(cls: type[Method]) -> dict:
    """What the tables say of a method, and its hyperparameters with type, default and meaning."""
    fields = dataclasses.fields(cls)
    text = " ".join((cls.__doc__ or "").split())
    names = "|".join(f.name for f in fields) or "$^"
    meanings = dict(re.findall(rf"(?<!\w)({names}): (.*?)(?= (?:{names}): |$)", text))
    about = re.split(rf" (?:{names}): ", text, maxsplit=1)[0]
    types = [f.type if isinstance(f.type, str) else inspect.formatannotation(f.type) for f in fields]
    hyper = [
        {"name": f.name, "type": kind, "default": f.default, "meaning": meanings.get(f.name, "")}
        for f, kind in zip(fields, types, strict=True)
    ]
    return {
        "name": cls.__name__,
        "title": cls.title,
        "family": cls.family,
        "paper": cls.paper,
        "mergeable": cls.mergeable,
        "about": about,
        "hyperparameters": hyper,
    }


def counts(a: argparse.Namespace) -> tuple[object, str]:
    from peftlib.accounting import counting

    if "/" in a.method:
        rows = _of_table(a, "count", "counts", "COUNTED")().to_dict("records")
        return rows, columns(rows, [n for n in rows[0] if n != "expression"])
    row = counting.count(a.method, a.backbone, a.tasks, a.form).as_dict()
    kinds = [{"parameters": n, "count": row[n], "percent": row[f"{n}_percent"]} for n in ("trainable", "stored", "changed")]
    title = f"{row['method']} on {a.backbone} ({row['total']:,} parameters), tasks: {a.tasks}"
    return row, f"{title}\n{columns(kinds)}\nheads beside them: {row['heads']:,}"


def _of_table(a: argparse.Namespace, verb: str, part: str, name: str):
    """What a paper's module says of the table that was named, in its dictionary of that name.

    Raises:
        UsageError: no such table; an option, for a table's rows have backbones and sizes of their own.
    """
    from peftlib import papers

    tables = {
        f"{paper}/{table}": found
        for paper in papers.papers()
        for table, found in getattr(papers.part(paper, part), name, {}).items()
    }
    if a.method not in tables:
        raise UsageError(
            f"no table {short(a.method)} to {verb}: expected one of {', '.join(tables)}, or a method like 'LoRA(rank=8)'"
        )
    given = [f"--{key}" for key, value in vars(a).items() if value != a.parser.get_default(key)]
    given = [option for option in given if option not in ("--json", "--method")]
    if given:
        raise UsageError(f"the rows of {a.method} have backbones and sizes of their own: leave out {', '.join(given)}")
    return tables[a.method]


def estimates(a: argparse.Namespace) -> tuple[object, str]:
    from peftlib.accounting.budget import largest_batch, parse_bytes
    from peftlib.accounting.estimate import estimate

    if "/" in a.method:
        make, said = _of_table(a, "estimate", "memory", "ESTIMATED")
        rows = make().to_dict("records")
        return rows, f"{columns(rows, digits=1)}\n{said}"
    options = {"precision": a.precision, "tasks": a.tasks, "device": a.device, "answer": a.answer}
    if a.budget is None:
        row, within = estimate(a.method, a.backbone, a.batch, a.length, **options).as_dict(), ""
    else:
        budget = parse_bytes(a.budget)
        row = largest_batch(a.method, a.backbone, budget, a.length, **options).as_dict() | {"budget": budget}
        within = f"\nlargest batch within {a.budget}: {row['batch']:,}"
    parts = [{"memory": n, "MiB": row[n] / MIB} for n in ("weights", "gradients", "optimizer", "activations", "peak")]
    title = f"{row['method']} on {a.backbone}: {row['batch']} x {a.length} tokens, {a.precision}, {a.device}"
    return row, f"{title}\n{columns(parts)}\nper step: {row['flops'] / 1e12:,.3f} TFLOP{within}"


def run(a: argparse.Namespace) -> tuple[object, str]:
    from peftlib import grids, records, study

    if a.start or a.start_task:
        preset = grids.get_preset(a.preset)
        wanted = study.beginning(preset, grids.runs(a.experiment, preset, a.row), a.start or (), a.start_task)
        study.run_missing(a.experiment, preset, wanted)
        there = [record for run in wanted if (record := study.record_of(preset, run)) and "diverged" not in record]
        found = study.Results(there, wanted)
    else:
        found = study.results(a.experiment, a.preset, labels=a.row)
    if found.undecidable:
        return found, f"{study.UNDECIDABLE}. {found.undecidable}"
    rows = [{"label": r["run"]["label"], "seed": r["run"]["seed"], **r["validation"]} for r in found]
    names = list(dict.fromkeys(n for row in rows for n in row))
    where = records.root() / "data" / "runs" / a.preset
    text = columns([{n: row.get(n, "") for n in names} for row in rows])
    return found, f"{text}\nvalidation scores; records: {where}"


def status(a: argparse.Namespace) -> tuple[object, str]:
    from peftlib import grids
    from peftlib.batch import plan as planning

    papers = sorted({name.split("/")[0] for name in grids.experiments()})
    if a.paper not in (None, *papers):
        raise UsageError(f"no experiment of paper {short(a.paper)}: expected one of {', '.join(papers)}")
    names = [a.preset] if a.preset is not None else list(grids.presets())
    rows = [{"preset": name, **row} for name in names for row in planning.status(name) if a.paper in (None, row["paper"])]
    stale: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["changed"]:
            stale.setdefault((row["preset"], ", ".join(row["changed"])), []).append(row["experiment"])
    since = [
        f"\n{preset}: changed since the stale runs of {', '.join(where)}: {files}"
        for (preset, files), where in stale.items()
    ]
    return rows, columns(rows, [name for name in rows[0] if name != "changed"]) + "".join(since)


def plan(a: argparse.Namespace) -> tuple[object, str]:
    from peftlib import hours, study
    from peftlib.batch import forecast

    found = forecast.forecast(a.preset)
    names = {
        "here": "hours here",
        **{name: f"hours, {name}" for name in hours.WANTED},
        "average": "sees, points",
        "widest": "widest task",
    }
    total = {"experiment": "all", "seeds": None, "average": None, "widest": None, **found["total"]}
    unknown = {name: "not measured" for name in hours.WANTED if name not in found["machines"]}

    def shown(rows: list[dict]) -> str:
        named = [{names.get(key, key): value for key, value in (row | unknown).items()} for row in rows]
        return columns(named, digits=2)

    said = [shown([*found["experiments"], total])]
    if found["undecidable"]:
        said.append(f"{study.UNDECIDABLE.capitalize()}. What would:")
        said.append(shown(found["undecidable"]))
    if found["speeds"]:
        said.append(columns(found["speeds"], digits=1))
    made = ", ".join(f"{n:,} records of {machine}" for machine, n in found["measured"].items()) or "no record"
    said.append(
        f"hours here: {found['at_a_time']} runs at a time; speeds are medians of {made}. – where nothing of the kind has "
        "been recorded on such a device; other machines by the runs that they have recorded, or by benchmarks/machines.py."
    )
    said.append(
        "sees: the smallest true difference of two rows that a test at 5 % finds in 80 % of cases, on the average over the "
        "table's tasks and on its widest task; – where no experiment like it has several seeds."
    )
    return found, "\n\n".join(said)


def presets(a: argparse.Namespace) -> tuple[object, str]:
    from peftlib import grids

    rows = [dataclasses.asdict(p) for p in grids.presets().values()]
    return rows, columns(rows, ["name", "backbone", "source", "epochs", "about"])


def experiments(a: argparse.Namespace) -> tuple[object, str]:
    from peftlib import grids

    preset = grids.get_preset(a.preset)
    rows = [
        {"experiment": name, "runs": len(grids.runs(name, preset)), "about": _first_sentence(build)}
        for name, build in grids.experiments().items()
    ]
    return rows, columns(rows)


def _first_sentence(build: Callable) -> str:
    return re.split(r"(?<=\.)\s", " ".join((build.__doc__ or "").split()), maxsplit=1)[0]


if __name__ == "__main__":
    sys.exit(main())
