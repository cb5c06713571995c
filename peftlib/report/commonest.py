"""What the commonest label scores: the answer that a method has to beat before it can be said to have learned anything.

Scores on real data are kept in data/commonest.csv, because a book is also made where the data is not (`write` adds to it);
those on the embedded suite are computed when they are asked for.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from peftlib import grids, records
from peftlib.data import get_task, load_split
from peftlib.records import Run

KEY = ["task", "source", "train", "test"]  # train, test: at most so many rows; a run's seed does not choose them
COLUMNS = [*KEY, "train_digest", "test_digest", "metric", "score"]


def path() -> Path:
    """The file of what has been computed."""
    return records.root() / "data" / "commonest.csv"


def scores(run: Run, task: str) -> dict[str, float] | None:
    """Every metric, out of 1, of the training rows' commonest label on the test rows of a run's task: of the classes, or of
    any one score. None where the file has none: real data is not read, so that a page is the same wherever it is made."""
    key = _key(run, task)
    if run.source == "embedded":
        return _computed(*key)[0]
    return _known(path(), path().stat().st_mtime_ns).get(_text(key)) if path().is_file() else None


def _key(run: Run, task: str) -> tuple:
    return (task, run.source, run.limits[0], run.limits[2])


def _text(key: tuple) -> tuple[str, ...]:
    return tuple("all" if value is None else str(value) for value in key)


@cache
def _known(file: Path, changed: int) -> dict[tuple, dict[str, float]]:
    found: dict[tuple, dict[str, float]] = {}
    for row in pd.read_csv(file, dtype=str).to_dict("records"):
        found.setdefault(tuple(row[name] for name in KEY), {})[row["metric"]] = float(row["score"])
    return found


@cache
def _computed(name: str, source: str, train: int | None, test: int | None) -> tuple[dict[str, float], str, str]:
    """The scores, and the digests of both splits."""
    from peftlib.training import metrics  # brings scipy and scikit-learn, a second that most pages need not pay

    task = get_task(name)
    seen, there = load_split(task, "train", source, limit=train), load_split(task, "test", source, limit=test)  # type: ignore[arg-type]  # of a run
    labels, counts = np.unique(seen.labels, return_counts=True)
    same = np.full_like(there.labels, labels[counts.argmax()])
    return metrics.scores(task, same, there.labels, there.groups, there.texts, same), seen.digest, there.digest


def write(preset: str, experiments: list[str]) -> int:
    """Add the real data that these experiments read to the file; returns how many rows it then has.

    Raises:
        UsageError: no such preset or experiment.
        DataError: the data is not at hand.
    """
    runs = [run for name in experiments for run in grids.runs(name, preset)]
    asked = {_key(run, task) for run in runs for task in run.tasks if run.source != "embedded"}
    computed = {_text(key): _computed(*key) for key in asked}
    before = pd.read_csv(path(), dtype=str).to_dict("records") if path().is_file() else []
    rows = [row for row in before if tuple(row[name] for name in KEY) not in computed]
    for key, (found, *digests) in computed.items():
        rows += [dict(zip(COLUMNS, (*key, *digests, metric, repr(value)), strict=True)) for metric, value in found.items()]
    pd.DataFrame(rows, columns=COLUMNS).sort_values([*KEY, "metric"]).to_csv(path(), index=False)
    return len(rows)
