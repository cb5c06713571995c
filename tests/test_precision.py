"""A preset that leaves the precision to the machine: its records are found under either, and decide the same."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json

import pytest
from test_report import synthetic

from peftlib import answered, grids, records, study
from peftlib.batch import plan
from peftlib.packed import unpack
from peftlib.records import run_of
from peftlib.report import begin, tables, uncertainty, verdicts

TABLE = "paper/table"


@pytest.fixture
def auto(tmp_path, monkeypatch):
    """A small preset and its table of two methods, one of which names its precision, in a folder of its own."""
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    preset = dataclasses.replace(grids.get_preset("smoke"), precision="auto", rows=None)
    monkeypatch.setattr(grids, "EXPERIMENTS", {})
    monkeypatch.setattr(grids, "presets", lambda: {"smoke": preset})

    @grids.experiment(TABLE)
    def rows(preset):
        given = {"any": {}, "fixed": {"precision": "fp32"}, "other": {}}
        return [
            grids.make_run(preset, "HeadOnly()", ("sst2",), label=label, lr=0.01 * (i + 1), **said)
            for i, (label, said) in enumerate(given.items())
        ]

    return preset


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine one that is faster in this precision."""

    def make(precision: str) -> None:
        monkeypatch.delenv("PEFTLIB_PRECISION", raising=False)
        monkeypatch.setattr(grids, "fast_precision", lambda: precision)
        grids.native_precision.cache_clear()

    yield make
    grids.native_precision.cache_clear()


def precisions() -> dict[str, str]:
    return {run.label: run.recipe.precision for run in grids.runs(TABLE, "smoke")}


def test_without_records_a_run_is_in_the_precision_of_the_machine_or_in_its_own(auto, machine):
    machine("bf16")
    assert precisions() == {"any": "bf16", "fixed": "fp32", "other": "bf16"}
    machine("fp32")
    assert precisions() == dict.fromkeys(("any", "fixed", "other"), "fp32")


@pytest.mark.parametrize("here, there", [("bf16", "fp32"), ("fp32", "bf16")])
def test_records_of_either_precision_are_found_on_a_machine_of_the_other(auto, machine, capsys, here, there):
    machine(there)
    made, _, _ = grids.runs(TABLE, "smoke")
    study.execute(auto, made, progress=False)
    machine(here)
    assert precisions() == {"any": there, "fixed": "fp32", "other": here}
    (record,) = study.results(TABLE, "smoke", train=False)
    assert record["digest"] == made.digest and record["run"]["recipe"]["precision"] == there, "the record says which"
    (row,) = plan.status("smoke")
    assert (row["done"], row["missing"]) == (1, 2)
    assert [path.exists() for job in plan.jobs("smoke") for path in job.records] == [True, False, False]
    begin("smoke", experiment=TABLE)
    assert ", bf16 or fp32" in capsys.readouterr().out


def test_of_two_records_every_machine_shows_the_same(auto, machine):
    machine("fp32")
    run = grids.runs(TABLE, "smoke")[2]
    for precision in grids.PRECISIONS:
        study.execute(
            auto, dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, precision=precision)), progress=False
        )
    for precision in ("fp32", "bf16"):
        machine(precision)
        assert precisions()["other"] == "bf16"


def test_a_record_that_does_not_stand_is_replaced_in_the_precision_of_the_machine(auto, machine, capsys):
    machine("bf16")
    made = grids.runs(TABLE, "smoke")[0]
    records.path_of("smoke", made.digest).parent.mkdir(parents=True)
    records.path_of("smoke", made.digest).write_text("{}")
    machine("fp32")
    found = study.results(TABLE, "smoke", progress=False)
    assert [record["run"]["recipe"]["precision"] for record in found] == ["fp32"] * 3
    assert "aside" in capsys.readouterr().err


def test_a_table_of_two_precisions_says_so():
    def made(precision: str, seed: int) -> dict:
        run = grids.make_run(grids.get_preset("smoke"), "BitFit()", ("sst",), seed=seed, precision=precision)
        return synthetic(run, 0.5)

    mixed = [made("bf16", 0), made("bf16", 1), made("fp32", 2)]
    assert "precision bf16 (2 runs) and fp32 (1)" in tables.provenance(mixed)
    assert "precision" not in tables.provenance(mixed[:2])


# --- what is concluded does not depend on it --------------------------------------------------------------------------
@functools.cache
def committed() -> dict[str, study.Results]:
    names = ("adaptbert/table2", "adaptbert/table3", "adaptbert/table1", "adaptbert/figure4", "adaptbert/section62")
    return {name: study.results(name, "published", train=False) for name in names}


def relabelled(source: study.Results) -> study.Results:
    """The same records as if they had run in fp32, digests included."""

    def other(run: records.Run) -> records.Run:
        return dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, precision="fp32"))

    found = copy.deepcopy(list(source))
    for record in found:
        run = other(run_of(record))
        record["digest"], record["run"] = run.digest, json.loads(json.dumps(dataclasses.asdict(run)))
    return study.Results(found, [other(run) for run in source.wanted], source.diverged, source.damaged)


def test_no_verdict_looks_at_what_precision_a_record_names():
    """Only that: the scores are those of the same runs. What another precision does to scores is the next test's."""
    claims = verdicts.of("adaptbert")
    before = claims.judged(committed())
    after = claims.judged({name: relabelled(source) for name, source in committed().items()})
    outcomes = [one.verdict.outcome for one in before]
    assert [one.verdict.outcome for one in after] == outcomes
    assert {"reproduced", "contradicted", "undecided"} <= set(outcomes)


def test_a_training_in_either_precision_scores_the_same_within_its_interval(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    preset = dataclasses.replace(grids.get_preset("smoke"), limits_single=(240, 48, 200), epochs=3)
    found = {}
    for precision in grids.PRECISIONS:
        run = grids.make_run(preset, "LoRA(rank=4)", ("sst",), precision=precision)
        record = study.execute(preset, run, progress=False)
        assert record["run"]["recipe"]["precision"] == precision
        there = answered.find("smoke", "sst", record["data"]["test"]["sst"])
        found[precision] = record, uncertainty.Answers(unpack(record["predictions"]["sst"]), there.labels)
    off = uncertainty.off_by_rows("rows", ["accuracy"], {name: answers for name, (_, answers) in found.items()})
    score = {name: record["test"]["sst"] for name, (record, _) in found.items()}
    difference = uncertainty.around(score["bf16"] - score["fp32"], off["bf16"]["accuracy"] - off["fp32"]["accuracy"])
    low, high = uncertainty.interval(difference)
    assert low <= 0 <= high
    assert min(score.values()) > 0.3, "both learn"
    assert len({record["history"][-1]["train_loss"] for record, _ in found.values()}) == 2, "they are two runs"
