"""What a batch says it took, and the history that is kept of it."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from peftlib.batch import front, times
from peftlib.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def plan(tmp_path):
    """Two experiments of one paper and one page; the records of all but one run are there, one of them diverged."""
    seconds = {"a": 3.0, "b": 4.0, "c": None}
    for name, value in seconds.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({} if value is None else {"seconds": value}))
    records = {"p/one-1of2": ["a", "c"], "p/one-2of2": ["b"], "p/two-1of1": ["missing"]}
    train = {name: {"records": [str(tmp_path / f"{r}.json") for r in made]} for name, made in records.items()}
    return {"root": str(tmp_path), "train": train, "pages": {"notebooks/p/page": {}, "notebooks/q/page": {}}}


def test_jobs_add_up_over_batches(tmp_path, plan):
    times.keep(plan, tmp_path, {"p/one-1of2": 10.0, "gone-1of1": 5.0})
    found = times.keep(plan, tmp_path, {"p/one-2of2": 20.0, "notebooks/p/page": 2.0, times.BOOK: 7.0})
    assert found == times.read(times.path_of(tmp_path))
    assert found["experiments"] == {
        "p/one": {"runs": 3, "trained": 7.0, "jobs": 30.0},
        "p/two": {"runs": 1, "trained": 0.0, "jobs": None},
    }
    assert (found["pages"], found["pages_seconds"], found["book_seconds"]) == (1, 2.0, 7.0)
    assert "gone-1of1" not in times.keep(plan, tmp_path, {})["jobs"]
    said = times.table(found, ("train", "book")).splitlines()
    assert (
        re.fullmatch(r"p/one +3 +7 +30", said[1])
        and said[2].endswith("-")
        and said[3] == "1 pages: 2 s of jobs, the book 7 s"
    )
    assert times.table(found, ("book",)).splitlines() == said[3:]


def test_a_paper_that_takes_more_than_its_share_is_named(tmp_path, plan):
    found = times.keep(plan, tmp_path, {"p/one-1of2": 10.0, "notebooks/p/page": 2.0, "notebooks/q/page": 99.0})
    assert times.over_budget(found, tmp_path) == [], "no budgets, no word"
    budgets = tmp_path / times.BUDGETS
    budgets.parent.mkdir()
    for most, lines in ((12, 0), (11, 1)):
        budgets.write_text(json.dumps({tmp_path.name: {"p": most, "r": 1}, "another": {"q": 1}}))
        assert len(said := times.over_budget(found, tmp_path)) == lines
    assert "p took 12 s of jobs, 11 s are allowed" in said[0]
    budgets.write_text("{")
    with pytest.raises(UsageError, match=r"seconds\.json"):
        times.over_budget(found, tmp_path)


def test_budgets_are_of_papers_and_presets_that_may_be_and_fit_in_a_quarter_of_an_hour():
    from peftlib import grids

    allowed = json.loads((REPOSITORY / times.BUDGETS).read_text())
    assert set(allowed) <= set(grids.presets())
    known = {name.split("/")[0] for name in grids.experiments()} | {
        path.name for path in (REPOSITORY / "notebooks").iterdir()
    }
    assert known - {"train.ipynb"} <= {
        *allowed["quick"],
        *(path.name for path in (REPOSITORY / "notebooks").glob("*.ipynb")),
    }
    assert sum(allowed["quick"].values()) <= 2 * 15 * 60, "two jobs at a time"


def test_snakemake_s_messages_give_seconds(monkeypatch):
    clock = iter(range(100))
    progress = front.Progress(started=0.0)
    monkeypatch.setattr(front.time, "monotonic", lambda: next(clock) * 10.0)
    for line in (
        "Job 4: p/one-1of2",
        "Job 5: notebooks/a",
        "Finished jobid: 4 (Rule: train)",
        "Error in rule page:",
        "    jobid: 5",
    ):
        progress.feed(line)
    assert progress.seconds == {"p/one-1of2": 20.0}, "of finished jobs alone"


def test_the_history_has_one_row_a_batch(tmp_path, plan):
    build = tmp_path / "_build" / "quick"
    build.mkdir(parents=True)
    times.keep(plan, build, {"p/one-1of2": 10.0, "notebooks/p/page": 2.0})
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "batch_times.py"), "--output", str(tmp_path / "history.csv")]
    environment = os.environ | {"PEFTLIB_ROOT": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    for _ in range(2):
        subprocess.run(command, env=environment, check=True, capture_output=True)
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and rows[0]["experiments"] == "p/one=10" and rows[1]["pages_seconds"] == "2.0"
    refused = subprocess.run([*command, "--preset", "none"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
