"""The committed records are what they say, and the published preset rests on them."""

from __future__ import annotations

from functools import partial

import pandas as pd
import pytest
from test_data import real_data

from peftlib import grids, provenance, records, report, study
from peftlib.methods import parse
from peftlib.report import commonest
from peftlib.report.suites import keys
from peftlib.report.tables import rate_grid

PATHS = sorted((records.root() / "data" / "runs" / "published").glob("*.json"))
SEARCHES = ("adaptbert/learning_rates", *(f"compacter/table{i}" for i in (4, 5, 10, 11)))


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_a_record_is_that_of_its_run(path):
    record = records.read(path)
    run = records.run_of(record)
    assert path.stem in (run.digest, run.digest_as_spelt)
    parse(run.method)
    if len(run.tasks) > 1:  # made when "proportional" still meant to draw with replacement
        assert (run.recipe.sampling, run.recipe.temperature) == ("temperature", 1.0)
    if "diverged" in record:
        tables = set(grids.experiments()) - set(SEARCHES)
        served = {run.digest for name in tables for run in grids.runs(name, "published")}
        assert run.digest not in served, "only a search may have a run without scores"
        return
    assert len(record["history"]) == run.recipe.epochs
    assert record["validation"] == record["history"][record["best_epoch"] - 1]["validation"]
    assert record["validation"]["mean"] == max(epoch["validation"]["mean"] for epoch in record["history"])
    written = {"unreadable"} if run.recipe.form == "text" else set()
    assert set(record["test"]) == {*run.tasks, "mean", *(key for task in run.tasks for key in keys(task))} | written
    assert record["counts"]["trainable"] <= record["counts"]["total"] * len(run.tasks)


def test_every_record_belongs_to_an_experiment():
    preset = grids.get_preset("published")
    known = {records.find("published", run) for name in grids.experiments() for run in grids.runs(name, preset)}
    assert set(PATHS) <= known, "records that no table reads"


def test_pages_say_how_the_batches_of_several_tasks_were_drawn():
    records_of = partial(study.results, preset="published", train=False)
    assert "drawn with replacement" in report.caveats(records_of("adaptbert/table3"), "adaptbert").data
    assert "drawn with replacement" not in report.caveats(records_of("compacter/table9"), "compacter").data
    every = [run for name in ("smoke", "quick", "paper") for run in grids.runs("adaptbert/table3", name)]
    assert {run.recipe.sampling for run in every} == {"proportional"}


@pytest.mark.parametrize(
    "search, used",
    [
        ("adaptbert/learning_rates", "adaptbert/table3"),
        ("compacter/table4", "compacter/table1"),
        ("compacter/table5", "compacter/table7"),
        ("compacter/table10", "compacter/table9"),
        ("compacter/table11", "compacter/table2"),
        ("compacter/table11", "compacter/table8"),
    ],
)
def test_learning_rates_are_those_the_search_chose(search, used):
    tried = rate_grid(study.results(search, "published", train=False), grids.get_preset("published").at(used).learning_rate)
    if tried.empty:
        pytest.skip("no record of this search")
    assert dict(zip(tried["method"], tried["used"], strict=True)) == dict(zip(tried["method"], tried["best"], strict=True))


@pytest.mark.parametrize("table", ["table1", "table2", "table6", "table8", "table9"])
def test_the_commonest_label_was_scored_on_the_rows_of_the_records(table):
    found = {
        tuple(row[name] for name in commonest.KEY): row
        for row in pd.read_csv(commonest.path(), dtype=str).to_dict("records")
    }
    for record in study.results(f"compacter/{table}", "published", train=False):
        run = records.run_of(record)
        for task in run.tasks:
            row = found[task, run.source, str(run.limits[0]), str(run.limits[2]), str(run.seed)]
            assert {f"{split}_digest": record["data"][split][task] for split in ("train", "test")}.items() <= row.items()


@pytest.mark.skipif(real_data() is None, reason="PEFTLIB_DATA names no folder with the real data")
def test_the_commonest_labels_scores_are_those_of_the_data(monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data()))
    for row in pd.read_csv(commonest.path()).to_dict("records"):
        found, *digests = commonest._computed(*(row[name] for name in commonest.KEY))
        assert found[row["metric"]] == row["score"] and digests == [row["train_digest"], row["test_digest"]]


@pytest.mark.skipif(real_data() is None, reason="PEFTLIB_DATA names no folder with the real data")
@pytest.mark.parametrize("task", sorted({task for path in PATHS for task in records.read(path)["run"]["tasks"]}))
def test_the_records_were_made_from_the_data_there_are(task, monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data()))
    made = [record for path in PATHS if task in (record := records.read(path))["run"]["tasks"] and "data" in record]
    for record in made:
        assert provenance.changed_inputs(records.run_of(record), record) is None
