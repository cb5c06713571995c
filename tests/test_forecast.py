"""What is forecast before anything is trained, on made-up records whose answers are reckoned by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import sys

import numpy as np
import pytest
from scipy import stats
from tries.records import whole

from peftlib import answered, cli, grids, hours, records
from peftlib.batch import forecast
from peftlib.data import embedded
from peftlib.errors import UsageError
from peftlib.packed import pack
from peftlib.report import power


# --- statistics -------------------------------------------------------------------------------------------------------
def test_the_spread_of_a_difference_is_that_of_the_paired_differences():
    """Rows (1, 2, 4) and (1, 1, 1): the differences 0, 1, 3 have the variance 7/3; what both share is no spread."""
    scores = np.array([[1.0, 2, 4], [1, 1, 1]])
    assert power.spread(scores) == pytest.approx((math.sqrt(7 / 3), 2))
    assert power.spread(scores + [5, -7, 11]) == pytest.approx((math.sqrt(7 / 3), 2))
    three = np.random.default_rng(0).normal(size=(3, 6))
    pairs = [np.var(three[i] - three[j], ddof=1) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert power.spread(three) == pytest.approx((math.sqrt(np.mean(pairs)), 10))
    assert power.spread(scores[:1]) == pytest.approx((math.sqrt(2 * 7 / 3), 2))  # alone: twice its own variance
    assert power.spread(scores[:, :1]) is None


def test_spreads_are_pooled_by_their_degrees_of_freedom():
    assert power.pooled([power.Spread(1.0, 1), power.Spread(3.0, 3)]) == pytest.approx((math.sqrt(7), 4))
    assert power.pooled([]) is None


@pytest.mark.parametrize(
    "metric, score, expected",
    [
        ("accuracy", 0.5, math.sqrt(0.5)),
        ("f1", 0.9, math.sqrt(0.18)),
        ("matthews", 0, math.sqrt(2)),
        ("pearson", 0.6, 0.64),
    ],
)
def test_two_methods_that_err_independently(metric, score, expected):
    expected *= math.sqrt(2) if metric == "pearson" else 1
    assert power.independent(metric, score) == pytest.approx(expected)


def test_the_smallest_difference_is_that_of_the_textbook():
    """Of the normal distribution 1.960 + 0.842 standard errors; of ten pairs, in standard deviations, 0.996 (Cohen's d of a
    paired t test)."""
    assert power.smallest_difference(2.0) == pytest.approx(2 * (stats.norm.isf(0.025) + stats.norm.isf(0.2)), rel=1e-4)
    assert power.smallest_difference(1 / math.sqrt(10), 9) == pytest.approx(0.996, abs=0.001)
    assert power.error(3.0, 4, 20.0, 100) == pytest.approx(2.5)  # sqrt(9 / 4 + 400 / 100)


def test_it_is_found_as_often_as_said():
    """Simulated: five pairs with the standard deviation 1."""
    shift = power.smallest_difference(1 / math.sqrt(5), 4)
    draws = np.random.default_rng(1).normal(shift, 1, size=(20_000, 5))
    assert np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.01)


# --- what records say -------------------------------------------------------------------------------------------------
ROW = np.array([1, 0, 1, 0, 1, 0, 1, 0])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty project with one experiment, three methods on a task of 8 test rows, under one preset."""
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    fields = dict(source="embedded", epochs=2, seeds=(0, 1), limits_single=(16, 8, 8), rows=None, max_length=32)
    preset = dataclasses.replace(grids.get_preset("smoke"), **fields)

    def table(preset: grids.Preset) -> list[records.Run]:
        methods = {"a": "LoRA(rank=2)", "b": "LoRA(rank=4)", "c": "BitFit()"}
        return [grids.make_run(preset, method, ("sst2",), label=label) for label, method in methods.items()]

    monkeypatch.setattr(grids, "presets", lambda: {"smoke": preset})
    monkeypatch.setattr(grids, "EXPERIMENTS", {"paper/table": table})
    monkeypatch.setattr(grids, "experiments", lambda: {"paper/table": table})
    for module in (forecast, sys.modules["peftlib.batch.plan"]):
        monkeypatch.setattr(module, "experiments", grids.experiments, raising=False)
    monkeypatch.setattr(hours, "device", lambda: "a CPU")
    monkeypatch.setattr(hours, "reference", lambda: grids.runs("paper/table", "smoke", ["a"])[0])
    monkeypatch.setattr(forecast, "standing", lambda preset, run: standing(run))
    return preset


def standing(run: records.Run) -> forecast.standing:
    word = "done" if records.find("smoke", run).exists() else "missing"
    return type("Standing", (), {"word": word})


def record(run: records.Run, score: float, seconds: float = 4.0, answers: np.ndarray | None = None) -> None:
    """16 examples an epoch; a run of twice the seconds that it trains for."""
    made = whole(run)
    for epoch in made["history"]:
        epoch["validation"] = {"sst2": score, "mean": score}
    made |= {
        "validation": {"sst2": score, "mean": score},
        "test": {"sst2": score, "mean": score},
        "seconds": seconds / 2,
        "examples_per_second": 32 / (seconds / 2),
        "started": "2026-01-01T00:00:00Z",
        "finished": f"2026-01-01T00:00:{seconds:02.0f}Z",
        "data": {split: {"sst2": "0" * 64} for split in ("train", "validation", "test")},
    }
    if answers is not None:
        made["predictions"] = {"sst2": pack(answers, "class")}
        answered.keep("smoke", "sst2", "0" * 64, ROW, None)
    records.write(records.path_of("smoke", run.digest), made)


def runs_of(label: str) -> list[records.Run]:
    return grids.runs("paper/table", "smoke", [label])


def test_hours_are_those_of_runs_alike(place, monkeypatch):
    """a took 4 s a run, b and c are missing: b is known by LoRA, whose task it shares, c by the task alone."""
    for run in runs_of("a"):
        record(run, 0.5)
    monkeypatch.setattr(hours, "at_a_time", lambda: 2)
    found = forecast.forecast("smoke")
    (row,) = found["experiments"]
    assert (row["runs"], row["missing"], row["unknown"], row["seeds"]) == (6, 4, 0, 2)
    assert row["here"] == pytest.approx(4 * 4 / 3600 / 2) and row["one H100"] is None  # not measured
    assert found["total"] == {key: row[key] for key in found["total"]}
    assert [(one["method"], one["runs"], one["examples a second"], one["known by"]) for one in found["speeds"]] == [
        ("BitFit", 2, 16.0, "task"),
        ("LoRA", 2, 16.0, "method and task"),
    ]
    assert forecast.announced("smoke", 4).startswith("4 runs to train: about 0.0 hours, 4 at a time")
    assert found["measured"] == {"a CPU, threads: 1": 2}


def test_a_machine_counts_by_the_reference_run_and_its_runs_at_a_time(place, monkeypatch):
    """It trains 48 examples a second where the reference run has 16 here, two runs at a time: six times as fast as one."""
    for run in runs_of("a"):
        record(run, 0.5)
    file = hours.machines_file()
    file.parent.mkdir(parents=True)
    one = {"name": "2 AMX cores", "parallel": 2, "examples_per_second": 48.0, "device": "x", "date": "d", "commit": None}
    file.write_text(json.dumps([one]))
    assert forecast.forecast("smoke")["total"]["2 AMX cores"] == pytest.approx(4 * 4 / 3600 / 6)
    file.write_text(json.dumps([one | {"parallel": "two"}]))
    with pytest.raises(UsageError, match=r"machines.json: \[0\]\.?.*parallel.*expected a whole number, got 'two'"):
        forecast.forecast("smoke")


def test_hours_on_this_machine_are_known_from_its_own_device_alone(place, monkeypatch):
    """A GPU that has trained nothing; one on which a run was made at ten times the speed, which is no speed of a CPU."""
    for run in runs_of("a"):
        record(run, 0.5)
    before = forecast.forecast("smoke")["total"]
    monkeypatch.setattr(hours, "device", lambda: "NVIDIA H100")
    assert hours.at_a_time() == 1
    assert before["here"] > 0 and forecast.forecast("smoke")["total"]["here"] is None
    assert forecast.announced("smoke", 2) == "4 runs to train; how long they take is not known"
    found = [made for _, made in hours.stored()]
    fast = found[0] | {"machine": {"device": "NVIDIA H100", "threads": 1}, "examples_per_second": 160.0}
    speeds = hours.Speeds([*found, fast])
    assert not speeds.here and speeds.of(runs_of("a")[0]).training == 16.0
    assert speeds.machines == {"a CPU, threads: 1": 2, "NVIDIA H100, threads: 1": 1}


def test_a_machine_counts_by_the_runs_that_it_has_recorded(place):
    """Eight runs of 4 s here took it 10 s: six at a time in the first 4, and two in turn after a break."""
    here, there = runs_of("a"), {"device": "NVIDIA H200", "threads": 1}
    for run in here:
        record(run, 0.5)
    found = [made for _, made in hours.stored()]
    whens = [(0, 4)] * 4 + [(1, 3), (2, 4), (20, 23), (23, 26)]
    times = [{"started": f"2026-01-02T00:00:{a:02}Z", "finished": f"2026-01-02T00:00:{b:02}Z"} for a, b in whens]
    speeds = hours.Speeds([*found * 5, *(found[0] | {"machine": there} | when for when in times)])
    assert speeds.here and speeds.of(here[0]).n == 10
    assert speeds.together("H200") == pytest.approx(8 * 4 / 10) and speeds.together("H100") is None
    assert hours.relative(speeds) == {"one H200": pytest.approx(3.2)}


def test_nothing_is_invented_where_nothing_is_recorded(place):
    found = forecast.forecast("smoke")
    (row,) = found["experiments"]
    assert (row["missing"], row["unknown"]) == (6, 6)
    assert {row[name] for name in ("here", *hours.WANTED, "average", "widest")} == {None}
    assert forecast.announced("smoke", 2) == "6 runs to train; how long they take is not known"
    assert {one["examples a second"] for one in found["speeds"]} == {None}


def test_what_a_table_sees_follows_from_its_seeds_and_rows(place):
    """Scores of a and b over two seeds: 0.9, 1.0 and 0.95, 1.0; variances 0.005 and 0.00125, twice their mean is that of a
    difference, known with two degrees of freedom. Answers of a and b: one alone is right on row 0, the other alone on row
    1, and so a difference on a row is 1, -1, 0, ... with the variance 2/7, at either seed."""
    scores = {"a": (0.9, 1.0), "b": (0.95, 1.0)}
    answers = {"a": np.array([1, 1, 1, 0, 1, 0, 1, 0]), "b": np.array([0, 0, 1, 0, 1, 0, 1, 0])}
    for label, found in scores.items():
        for run, score in zip(runs_of(label), found, strict=True):
            record(run, score, answers=answers[label])
    noise = forecast.Noise(hours.stored())
    assert noise.over_seeds("sst2", 16) == pytest.approx((math.sqrt(0.00625), 2))
    assert noise.rows["sst2"] == pytest.approx((math.sqrt(2 / 7), 14))
    expected = math.sqrt(0.00625 / 2 + 2 / 7 / 8)
    assert noise.error("sst2", 16, seeds=2, rows=8) == pytest.approx((expected, 2))
    (row,) = forecast.forecast("smoke")["experiments"]
    assert row["average"] == row["widest"] == pytest.approx(100 * power.smallest_difference(expected, 2))


def test_a_run_that_did_not_learn_is_no_part_of_the_spread(place):
    for label, found in {"a": (0.9, 1.0), "b": (0.1, 1.0)}.items():
        for run, score in zip(runs_of(label), found, strict=True):
            record(run, score)
    assert forecast.Noise(hours.stored()).over_seeds("sst2", 16) == pytest.approx((math.sqrt(2 * 0.005), 1))


def test_the_spread_over_seeds_is_that_of_the_nearest_sizes_that_tell_it():
    noise = forecast.Noise([])
    noise.seeds = {
        ("sst2", 100): power.Spread(3.0, 8),
        ("sst2", 4000): power.Spread(1.0, 8),
        ("cola", 900): power.Spread(2.0, 8),
        ("mrpc", 900): power.Spread(7.0, 1),
    }
    assert noise.over_seeds("sst2", 1000).sd == 1.0 and noise.over_seeds("sst2", 200).sd == 3.0
    assert noise.over_seeds("sst2", None).sd == 1.0
    near = math.sqrt((8 * 2.0**2 + 7.0**2) / 9)
    assert noise.over_seeds("rte", 1000) == noise.over_seeds("mrpc", 1000) == pytest.approx((near, 9))
    noise.seeds = {("cola", 900): power.Spread(2.0, 3)}
    assert noise.over_seeds("cola", 900) == (2.0, 3)


def test_a_run_that_diverged_or_a_damaged_record_says_nothing(place, capsys):
    run, other = runs_of("a")
    made = whole(run)
    kept = {
        key: made[key]
        for key in ("schema", "digest", "run", "code", "commit", "versions", "started", "machine", "finished")
    }
    records.write(records.path_of("smoke", run.digest), kept | {"diverged": "at step 3"})
    records.path_of("smoke", other.digest).write_text("{")
    assert hours.stored() == []
    assert other.digest in capsys.readouterr().err


def test_the_command_prints_a_table_and_json(place, capsys):
    for run in runs_of("a"):
        record(run, 0.5)
    assert cli.main(["plan", "--preset", "smoke"]) == 0
    text = capsys.readouterr().out
    assert "hours here" in text and "paper/table" in text and "benchmarks/machines.py" in text
    assert text.splitlines()[1].count("not measured") == len(hours.WANTED)
    assert cli.main(["plan", "--preset", "smoke", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["experiments"][0]["missing"] == 4


def test_rows_are_at_most_those_that_there_are():
    run = grids.runs("methods/compared", "published", ["Full"])[0]
    big = dataclasses.replace(run, tasks=("rte",), limits=(4000, 10, 9999))
    assert (
        forecast.test_rows(big, "rte") == 139 and forecast.test_rows(dataclasses.replace(big, limits=(1, 1, 8)), "rte") == 8
    )
    assert forecast.test_rows(dataclasses.replace(run, source="hub", limits=(None,) * 3), "sst") is None
    assert hours.Speeds([]).examples(dataclasses.replace(run, source="embedded", limits=(9999, 1, 1))) == 4000
    assert hours.Speeds([]).examples(dataclasses.replace(run, source="hub", limits=(None,) * 3)) is None
    assert hours.most_rows("axb", "train", "embedded", None) == embedded.SIZES["rte"]["train"]  # trained on RTE
    assert hours.most_rows("axb", "test", "embedded", None) == embedded.SIZES["axb"]["test"]


@pytest.mark.parametrize("preset", sorted(grids.presets()))
def test_every_preset_can_be_planned(preset):
    assert forecast.forecast(preset)["total"]["runs"] > 0
