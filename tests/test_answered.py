"""What runs answered is kept with their records, and is what their scores were computed from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from peftlib import answered, grids, records, study
from peftlib.data import get_task
from peftlib.errors import UsageError
from peftlib.packed import pack, unpack
from peftlib.training import metrics


@pytest.mark.parametrize(
    "kind, values, lost",
    [
        ("class", [0, 1, 2, 255], 0),
        ("group", [0, 70_000], 0),
        ("label", [0.0, 3.8, 5.0], 1e-6),
        ("score", [-1.25, 0.333, 4.75], 5e-5),
        ("score", [2.5, 2.5], 0),
        ("score", [2.5, 2.5001, 2.5002], 1e-6),
    ],
)
def test_numbers_come_back(kind, values, lost):
    packed = json.loads(json.dumps(pack(values, kind)))
    assert np.abs(unpack(packed) - values).max() <= lost


@pytest.mark.parametrize("values", ["no base 64!", "AAAA", pack([0, 1], "class")["values"]])
def test_what_was_not_packed_is_refused(values):
    with pytest.raises(UsageError, match="values"):
        unpack({"kind": "score", "values": values})


@pytest.fixture
def preset(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    return grids.get_preset("smoke")


@pytest.mark.parametrize("task", ["sst2", "stsb", "mrpc", "cb"])
def test_scores_follow_from_what_is_kept(preset, task):
    run = grids.make_run(preset, "BitFit()", (task,))
    record = study.execute(preset, run, progress=False)
    kept = answered.find("smoke", task, record["data"]["test"][task])
    found = metrics.scores(get_task(task), unpack(record["predictions"][task]), kept.labels, kept.groups)
    assert np.mean(list(found.values())) == pytest.approx(record["test"][task], abs=2e-3)


def test_labels_are_kept_once_and_checked(preset):
    run = grids.make_run(preset, "BitFit()", ("sst2",))
    digest = study.execute(preset, run, progress=False)["data"]["test"]["sst2"]
    (file,) = (records.root() / "data/runs/smoke/rows").iterdir()
    before = file.stat().st_mtime_ns
    answered.keep("smoke", "sst2", digest, np.zeros(3, int), None)
    assert file.stat().st_mtime_ns == before
    assert answered.find("smoke", "sst2", "another") is None
    content = json.loads(file.read_text())
    for broken in (content | {"task": "cola"}, content | {"labels": {"kind": "class", "values": "?"}}, {"task": "sst2"}):
        file.write_text(json.dumps(broken))
        with pytest.raises(UsageError, match=file.name):
            answered.find("smoke", "sst2", digest)


def test_a_record_whose_answers_are_damaged_or_lack_a_task_is_refused(preset):
    run = grids.make_run(preset, "BitFit()", ("sst2",))
    study.execute(preset, run, progress=False)
    path = records.path_of("smoke", run.digest)
    record = json.loads(path.read_text())
    for answers in ({}, {"sst2": {"kind": "class", "values": "?"}}, {"sst2": {"kind": "other", "values": ""}}):
        path.write_text(json.dumps(record | {"predictions": answers}))
        with pytest.raises(records.RecordError, match="predictions"):
            records.read(path)
