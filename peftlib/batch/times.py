"""What the jobs of a batch took: by experiment, for the pages, and whether a paper has more than its share.

``_build/<preset>/times.json`` holds the seconds of each job that the plan has, from the last time it ran; so a batch that
was interrupted, or had little to do, still tells of the whole. `benchmarks/batch_times.py` keeps the history.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from peftlib import records
from peftlib.errors import UsageError
from peftlib.schema import conform, read_json

BUDGETS = "benchmarks/seconds.json"  # in the repository: {preset: {paper: seconds of its jobs and pages}}
BOOK = "the book"


class Row(TypedDict):
    """An experiment. trained: seconds of training in the records of its jobs, however old they are; jobs: seconds of those
    jobs themselves, of as many as have run here; None if none has."""

    runs: int
    trained: float
    jobs: float | None


class Times(TypedDict):
    """experiments: by name. pages: number of pages rendered, and their seconds. book: seconds of building it. jobs: seconds
    of every job, by its name in the plan."""

    preset: str
    experiments: dict[str, Row]
    pages: int
    pages_seconds: float
    book_seconds: float | None
    jobs: dict[str, float]


def path_of(build: Path) -> Path:
    return build / "times.json"


def read(path: Path) -> Times:
    """What a batch left.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    return conform(read_json(path), Times, f"{path}: ")


def keep(plan: dict, build: Path, seconds: Mapping[str, float]) -> Times:
    """Write down what jobs took, beside what others took before. seconds: by a job's name."""
    try:
        before = read(path_of(build))["jobs"]
    except UsageError:  # the first batch here
        before = {}
    known = {name: before[name] for name in before if name in plan["train"] or name in plan["pages"] or name == BOOK}
    jobs = known | {name: round(value, 2) for name, value in seconds.items()}
    rendered = [jobs[name] for name in plan["pages"] if name in jobs]
    found = Times(
        preset=build.name,
        experiments=_experiments(plan["train"], jobs),
        pages=len(rendered),
        pages_seconds=round(sum(rendered), 2),
        book_seconds=jobs.get(BOOK),
        jobs=jobs,
    )
    records.write_atomically(path_of(build), json.dumps(found, indent=1))
    return found


def _experiments(train: dict, jobs: Mapping[str, float]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for name, job in train.items():
        row = found.setdefault(name.rpartition("-")[0], Row(runs=0, trained=0.0, jobs=None))
        row["runs"] += len(job["records"])
        row["trained"] = round(row["trained"] + sum(_trained(Path(record)) for record in job["records"]), 2)
        if name in jobs:
            row["jobs"] = round((row["jobs"] or 0.0) + jobs[name], 2)
    return found


def _trained(record: Path) -> float:
    try:
        return float(json.loads(record.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, LookupError, TypeError):  # missing, damaged, or of a run that diverged
        return 0.0


def table(times: Times, halves: Iterable[str]) -> str:
    """Rows for the end of a batch: its experiments, if it was to train, and its pages in total."""
    lines = []
    if "train" in halves and times["experiments"]:
        width = max(map(len, times["experiments"]))
        lines.append(f"{'experiment':{width}}  runs  training  jobs (seconds)")
        for name, row in times["experiments"].items():
            jobs = "-" if row["jobs"] is None else f"{row['jobs']:.0f}"
            lines.append(f"{name:{width}}  {row['runs']:4}  {row['trained']:8.0f}  {jobs:>4}")
    if "book" in halves and times["pages"]:
        book = "" if times["book_seconds"] is None else f", the book {times['book_seconds']:.0f} s"
        lines.append(f"{times['pages']} pages: {times['pages_seconds']:.0f} s of jobs{book}")
    return "\n".join(lines)


def over_budget(times: Times, root: Path) -> list[str]:
    """A line for each paper whose jobs and pages took more on this machine than `BUDGETS` allows this preset.

    Raises:
        UsageError: that file is damaged.
    """
    if not (root / BUDGETS).exists():
        return []
    allowed = conform(read_json(root / BUDGETS), dict[str, dict[str, float]], f"{BUDGETS}: ").get(times["preset"], {})
    took: dict[str, float] = {}
    for name, seconds in times["jobs"].items():
        paper = name.removeprefix("notebooks/").split("/")[0]
        took[paper] = took.get(paper, 0.0) + seconds
    return [
        f"over its budget: {paper} took {took[paper]:.0f} s of jobs, {most:.0f} s are allowed ({BUDGETS})"
        for paper, most in allowed.items()
        if took.get(paper, 0.0) > most
    ]
