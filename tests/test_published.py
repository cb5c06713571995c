"""The committed records are what they say, and the published preset rests on them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from real import needs_real_data, real_data

from peftlib import answered, grids, provenance, records, report, study
from peftlib.accounting.counting import count
from peftlib.data import get_task
from peftlib.data.task import OF_ENTITIES
from peftlib.errors import PeftlibError
from peftlib.methods import parse
from peftlib.packed import pack, unpack
from peftlib.report import commonest
from peftlib.report.suites import keys
from peftlib.report.tables import rate_grid
from peftlib.training import metrics

PATHS = sorted((records.root() / "data" / "runs" / "published").glob("*.json"))
SEARCHES = (
    *("adaptbert/learning_rates", "adaptbert/rates_near", "compacter/rates_near", "hyperformer/rates"),
    "hyperformer/as_released",
    *(f"compacter/table{i}" for i in (4, 5, 10, 11)),
)


# --- each record ------------------------------------------------------------------------------------------------------
@functools.cache
def served() -> set[str]:
    """Digests of the runs that a table reads other than to choose learning rates."""
    tables = set(grids.experiments()) - set(SEARCHES)
    return {run.digest for name in tables for run in grids.runs(name, "published")}


def faults(path: Path) -> Iterator[str]:
    """What is wrong with a record."""
    try:
        record = records.read(path)
        run = records.run_of(record)
        parse(run.method)
    except PeftlibError as error:
        yield str(error)
        return
    if path.stem not in (run.digest, run.digest_as_spelt):
        yield f"holds the run {run.digest}"
    if len(run.tasks) > 1 and "predictions" not in record:  # made when "proportional" still meant to draw with replacement
        if (run.recipe.sampling, run.recipe.temperature) != ("temperature", 1.0):
            drawn = f"{run.recipe.sampling} at {run.recipe.temperature}"
            yield f"tasks drawn by {drawn}, not by temperature at 1.0"
    if "diverged" in record:
        if run.digest in served():
            yield "diverged, and a table reads it: only a search may have a run without scores"
        return
    if len(record["history"]) != run.recipe.epochs:
        yield f"a history of {len(record['history'])} epochs of {run.recipe.epochs}"
    if record["validation"] != record["history"][record["best_epoch"] - 1]["validation"]:
        yield "validation scores other than those of the best epoch"
    if record["validation"]["mean"] != max(epoch["validation"]["mean"] for epoch in record["history"]):
        yield f"epoch {record['best_epoch']} is not the best of its history"
    expected = {*run.tasks, "mean", *(key for task in run.tasks for key in keys(task))}
    if run.recipe.form == "text":
        expected.add("unreadable")
    if set(record["test"]) != expected:
        yield f"test scores {sorted(record['test'])}, not {sorted(expected)}"
    if record["counts"]["trainable"] != (built := trainable(run.method, run.backbone, run.tasks, run.recipe.form)):
        yield f"counts of {record['counts']['trainable']} trainable parameters, where its model has {built}"
    for task in record.get("predictions", {}):
        yield from faults_of_answers(record, task)


@functools.cache
def trainable(method: str, backbone: str, tasks: tuple[str, ...], form: str) -> int:
    return count(method, backbone, tasks, form).trainable


def faults_of_answers(record: dict, task: str) -> Iterator[str]:
    """Where what was answered on the test rows does not give the record's scores; nothing where no labels are kept."""
    try:
        rows = answered.find("published", task, record["data"]["test"][task])
    except PeftlibError as error:
        yield str(error)
        return
    if rows is None:
        return
    said = unpack(record["predictions"][task])
    if len(said) != len(rows.labels):
        yield f"{task}: {len(said)} answers on {len(rows.labels)} rows"
        return
    if get_task(task).kind == "score" and np.ptp(said) < 1e-5:
        return  # one answer but for rounding, with which nothing correlates
    for key, metric in zip(keys(task), get_task(task).metrics, strict=True):
        if metric not in OF_ENTITIES and key in record["test"]:  # those need margins, which are not kept
            found = metrics.score(metric, said, rows.labels, rows.groups)
            if abs(found - record["test"][key]) > 2e-3:
                yield f"{key}: {record['test'][key]:.4f} recorded, {found:.4f} follows from the answers"


def test_each_record_is_that_of_its_run():
    assert PATHS
    wrong = [f"{path.name}: {fault}" for path in PATHS for fault in faults(path)]
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """The path of a record in a project of its own, and its content with answers of which 3 in 4 are right."""
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    (tmp_path / "data/runs/published").mkdir(parents=True)
    single = (path for path in PATHS if "sst" in (r := records.read(path))["run"]["tasks"] and len(r["run"]["tasks"]) == 1)
    path = next(single)
    record = json.loads(path.read_text())
    labels = np.arange(40) % 2
    answered.keep("published", "sst", record["data"]["test"]["sst"], labels, None)
    record["predictions"] = {"sst": pack(np.where(np.arange(40) < 10, 1 - labels, labels), "class")}
    record["test"] |= {"sst": 0.75, "mean": 0.75}
    return tmp_path / "data/runs/published" / path.name, record


def at(record: dict, *keys: str | int, value: object) -> None:
    *above, last = keys
    for key in above:
        record = record[key]
    record[last] = value


def test_answers_that_give_the_scores_are_no_fault(answers):
    path, record = answers
    path.write_text(json.dumps(record))
    assert list(faults(path)) == []


@pytest.mark.parametrize(
    "change, said",
    [
        ((("test", "sst"), 0.753), "sst: 0.7530 recorded, 0.7500 follows from the answers"),
        ((("predictions", "sst"), pack([0, 1], "class")), "sst: 2 answers on 40 rows"),
        ((("predictions", "sst", "values"), "?"), "predictions: sst"),
        ((("test", "f1"), 0.5), "test scores"),
        ((("counts", "trainable"), 10**12), "counts of 1000000000000 trainable"),
        ((("run", "seed"), 2**31), "holds another run"),
        ((("run", "method"), "Nothing()"), "Nothing"),
        ((("run", "tasks"), ["sst", "quora"]), "holds another run"),
        ((("history", -1, "validation", "mean"), 2.0), "best"),
        ((("history",), []), "history"),
    ],
    ids=lambda value: value if isinstance(value, str) else ".".join(map(str, value[0])),
)
def test_what_is_wrong_with_a_record_is_named(answers, change, said):
    path, record = answers
    keys, value = change
    at(record, *keys, value=value)
    path.write_text(json.dumps(record))
    assert said in "; ".join(faults(path))


@pytest.mark.parametrize("broken", ["{", '{"task": "sst"}'])
def test_labels_that_are_damaged_are_named(answers, broken):
    path, record = answers
    path.write_text(json.dumps(record))
    (rows,) = (path.parent / "rows").iterdir()
    rows.write_text(broken)
    assert rows.name in "; ".join(faults(path))


# --- all of them ------------------------------------------------------------------------------------------------------
def test_every_record_belongs_to_an_experiment():
    preset = grids.get_preset("published")
    read = [run for name in grids.experiments() for run in grids.runs(name, preset)]
    known = {records.find("published", run) for run in records.with_parents(read)}
    assert set(PATHS) <= known, "records that no table reads and no run begins with"


def test_pages_say_how_the_batches_of_several_tasks_were_drawn():
    records_of = partial(study.results, preset="published", train=False)
    assert "drawn with replacement" in report.caveats(records_of("adaptbert/table2"), "adaptbert").data
    assert "drawn with replacement" not in report.caveats(records_of("adaptbert/table3"), "adaptbert").data
    every = [run for name in ("smoke", "quick", "paper") for run in grids.runs("adaptbert/table3", name)]
    assert {run.recipe.sampling for run in every} == {"proportional"}


@pytest.mark.parametrize(
    "search, used",
    [
        ("adaptbert/learning_rates", "adaptbert/rates_near"),
        ("adaptbert/rates_near", "adaptbert/table3"),
        ("compacter/table4", "compacter/rates_near"),
        ("compacter/rates_near", "compacter/table1"),
        ("compacter/table5", "compacter/table7"),
        ("compacter/table10", "compacter/table9"),
        ("compacter/table11", "compacter/table2"),
        ("compacter/table11", "compacter/table8"),
        ("hyperformer/rates", "hyperformer/table1"),
    ],
)
def test_learning_rates_are_those_the_search_chose(search, used):
    tried = rate_grid(study.results(search, "published", train=False), grids.get_preset("published").at(used).learning_rate)
    if tried.empty:
        pytest.skip("no record of this search")
    assert dict(zip(tried["method"], tried["used"], strict=True)) == dict(zip(tried["method"], tried["best"], strict=True))


@pytest.mark.parametrize("table", ["adaptbert/table3", *(f"compacter/table{i}" for i in (1, 2, 6, 8, 9))])
def test_the_commonest_label_was_scored_on_the_rows_of_the_records(table):
    found = {
        tuple(row[name] for name in commonest.KEY): row
        for row in pd.read_csv(commonest.path(), dtype=str).to_dict("records")
    }
    for record in study.results(table, "published", train=False):
        run = records.run_of(record)
        for task in run.tasks:
            row = found[task, run.source, str(run.limits[0]), str(run.limits[2]), "test"]
            assert [row[name] for name in ("train_digest", "rows_digest")] == [
                record["data"][split][task] for split in ("train", "test")
            ]


@needs_real_data()
def test_the_commonest_labels_scores_are_those_of_the_data(monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data()))
    for row in pd.read_csv(commonest.path()).to_dict("records"):
        found, *digests = commonest._computed(*(row[name] for name in commonest.KEY))
        assert found[row["metric"]] == row["score"] and digests == [row["train_digest"], row["rows_digest"]]


@needs_real_data()
def test_the_records_were_made_from_the_data_there_are(monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data()))
    made = {path: record for path in PATHS if "data" in (record := records.read(path))}
    changed = {path.name: provenance.changed_inputs(records.run_of(record), record) for path, record in made.items()}
    assert not (wrong := {name: what for name, what in changed.items() if what is not None}), wrong
