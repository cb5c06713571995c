"""The largest batch within a memory budget, and the pages on Compacter's efficiency that rest on it."""

from __future__ import annotations

import dataclasses
import json

import pandas as pd
import pytest
from test_report import made

from peftlib import cli, report
from peftlib.accounting import budget
from peftlib.accounting.budget import largest_batch, parse_bytes
from peftlib.accounting.estimate import estimate
from peftlib.errors import UsageError
from peftlib.methods.base import parse
from peftlib.papers.compacter import counts as compacter
from peftlib.papers.compacter.pages import budget as pages
from peftlib.papers.compacter.pages import lowdata, tradeoff
from peftlib.report import efficiency, figures, suites
from peftlib.report.tables import Spread

SMALL = {"backbone": "minilm[:1]", "length": 8, "precision": "fp32", "device": "cpu"}


def by_metric(source):
    """The made-up scores under the names that tasks of several metrics have in records."""
    for record in source:
        run = record["run"]
        for split in ("validation", "test"):
            value = record[split]["mean"]
            record[split] |= {key: value for task in run["tasks"] for key in suites.keys(task)}
    return source


# --- the largest batch ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["Full()", "BitFit()", "Compacter(n=4, bottleneck=8)"])
@pytest.mark.parametrize("batch", [1, 9, 300])
def test_a_step_that_just_fits_is_found_and_one_byte_less_is_one_sequence_less(method, batch):
    peak = estimate(method, batch=batch, **SMALL).peak
    found = largest_batch(method, budget=peak, **SMALL)
    assert found.peak <= peak < estimate(method, batch=found.batch + 1, **SMALL).peak
    assert found.batch >= batch  # more than that where a batch does not matter yet: the optimizer's step is the peak
    if batch > 1 and method != "Full()":
        assert (found.batch, largest_batch(method, budget=peak - 1, **SMALL).batch) == (batch, batch - 1)


def made_up(monkeypatch, peak) -> list[int]:
    """Estimates whose peak is a function of the batch; returns the batches that will have been asked for."""
    real, asked = estimate("BitFit()", batch=1, **SMALL), []

    def at(method, backbone, batch, length, precision, **options):
        asked.append(batch)
        return dataclasses.replace(real, batch=batch, peak=peak(batch))

    monkeypatch.setattr(budget, "estimate", at)
    return asked


def test_on_a_line_the_answer_takes_four_estimates(monkeypatch):
    asked = made_up(monkeypatch, lambda batch: 1000 + 7 * batch)
    assert largest_batch("BitFit()", "minilm", 1000 + 7 * 181 + 6, 128).batch == 181
    assert asked == [1, 64, 181, 182]


@pytest.mark.parametrize("answer", [2, 63, 64, 65, 150, 5000, 70_000])
def test_on_bent_lines_it_is_found_too(monkeypatch, answer):
    def peak(batch):
        return max(5000, 1000 + 7 * batch, -2000 + 31 * batch)

    asked = made_up(monkeypatch, peak)
    found = largest_batch("BitFit()", "minilm", max(5001, peak(answer)), 128).batch
    assert peak(found) <= max(5001, peak(answer)) < peak(found + 1) and len(asked) < 14


def test_a_budget_below_one_sequence_is_refused():
    with pytest.raises(UsageError, match=r"too small for BitFit\(\) on minilm\[:1\]: one sequence of 8"):
        largest_batch("BitFit()", budget=1_000_000, **SMALL)


@pytest.mark.parametrize("text, size", [("24GB", 24 * 10**9), ("24GiB", 24 * 2**30), ("1.5 MB", 1_500_000), ("7B", 7)])
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


# --- the command ------------------------------------------------------------------------------------------------------
COMMAND = "estimate BitFit() --backbone minilm[:1] --length 8 --precision fp32 --device cpu --budget".split()


def test_the_command_says_the_batch_as_text_and_json(capsys):
    assert cli.main([*COMMAND, "60MB", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["batch"] == largest_batch("BitFit()", budget=60_000_000, **SMALL).batch and row["budget"] == 60_000_000
    assert row["peak"] <= 60_000_000
    assert cli.main([*COMMAND, "60MB"]) == 0
    text = capsys.readouterr().out
    assert f"{row['batch']} x 8 tokens" in text and f"largest batch within 60MB: {row['batch']:,}" in text


@pytest.mark.parametrize("size, hint", [("1MB", "too small"), ("much", "24GB")])
def test_the_command_refuses_in_one_line(capsys, size, hint):
    assert cli.main([*COMMAND, size]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and hint in captured.err


def test_a_batch_and_a_budget_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        cli.main([*COMMAND, "60MB", "--batch", "3"])
    assert "not allowed with" in capsys.readouterr().err


# --- Table 3 ----------------------------------------------------------------------------------------------------------
def test_the_kept_estimates_are_still_those_of_the_code():
    kept = efficiency.benchmark("budget")
    assert {row: found["method"] for row, found in kept["methods"].items()} == compacter.table3_rows()
    fields = ("backbone", "batch", "length", "precision", "device", "answer")
    again = estimate(kept["methods"]["BitFit"]["method"], **{name: kept[name] for name in fields})
    for name in ("peak", "flops"):  # another torch may keep a little more or less
        assert kept["methods"]["BitFit"]["one"][name] == pytest.approx(getattr(again, name), rel=0.02)
    assert all(found["largest"]["peak"] <= kept["budget"] for found in kept["methods"].values())


def test_rows_are_those_of_section_5_5():
    rows = {name: parse(method) for name, method in compacter.table3_rows().items()}
    assert rows["PHM-Adapter"].n == rows["Compacter"].n == 4 and rows["Compacter++"].bottleneck == 24
    assert rows["Intrinsic-SAID"].dimension == 1400 and rows["Prompt Tuning"].length == 100
    said = pages.sizes()  # the printed shares are those of n = 12 and d' = 20,000
    assert said["phm"] == pytest.approx(0.240, abs=5e-4) and said["said"] < 0.001


def keep(folder, monkeypatch, peaks: dict[str, tuple[int, int, int]]) -> None:
    """A made-up benchmarks/results/budget.json: by row (batch, peak in MB, FLOPs) of the largest batch."""
    monkeypatch.setenv("PEFTLIB_ROOT", str(folder))
    (folder / "benchmarks" / "results").mkdir(parents=True)
    parts = dict.fromkeys(pages.PARTS, 2**30)
    methods = {
        row: {
            "method": "m",
            "one": parts | {"flops": 1},
            "largest": parts | {"batch": batch, "peak": peak * 10**6, "flops": flops},
        }
        for row, (batch, peak, flops) in peaks.items()
    }
    (folder / "benchmarks" / "results" / "budget.json").write_text(
        json.dumps(
            {
                "methods": methods,
                "backbone": "t5-base",
                "batch": 100,
                "budget": 24 * 10**9,
                "length": 128,
                "precision": "fp32",
                "answer": 4,
                "device": "cuda",
                "versions": {"torch": "2"},
                "date": "2026-11-21",
                "commit": "abc",
            }
        )
    )


def test_ratios_are_for_a_sequence_and_relative_to_full_fine_tuning(tmp_path, monkeypatch):
    keep(
        tmp_path,
        monkeypatch,
        {"T5-Base": (100, 20_000, 1000), "BitFit": (200, 20_000, 1000), "Adapter": (100, 15_000, 800)},
    )
    monkeypatch.setattr(
        pages,
        "paper_table",
        lambda paper, name: pd.DataFrame(
            {"method": ["T5-Base", "BitFit", "Adapter"], "memory_mb": [100.0, 60.0, 70.0], "minutes": [40.0, 20.0, 36.0]}
        ),
    )
    ratios = pages.ratios(efficiency.benchmark("budget"))
    assert ratios.loc["BitFit"].to_list() == [0.5, 0.6, 0.5, 0.5]
    assert repr(pages.largest()).split("BitFit")[1].split()[:5] == ["200", "100.0", "60.0", "0.50", "0.60"]
    assert repr(pages.compute()).split("Adapter")[1].split()[:3] == ["0.80", "0.90", "1.12"]
    said = pages.agreement()
    assert (said["memory_row"], said["time_row"]) == ("BitFit", "Adapter") and said["others"] == pytest.approx(0.05)
    assert "<img" in report.figure(pages.beside_paper(), caption="c")._repr_html_()


def test_without_estimates_the_page_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    assert all("python benchmarks/budget.py" in shown().data for shown in (pages.step, pages.largest, pages.compute))
    assert pages.beside_paper() is None
    assert "Not run" in report.say("{memory_row}", **pages.agreement()).data


# --- Figure 1 ---------------------------------------------------------------------------------------------------------
def test_every_row_of_table1_has_its_memory_in_table3():
    points = tradeoff.of_paper().set_index("method")
    assert len(points) == 12 and points["memory"].notna().all()
    assert points.loc["Compacter (n=4)", ["percent", "score", "memory"]].to_list() == [0.073, 86.62, 123.91]
    assert points.loc["Prompt Tuning-R", "memory"] == points.loc["Prompt Tuning-T", "memory"] == 222.27
    assert "<img" in report.figure(tradeoff.circles(points.reset_index(), "T5-Base"), caption="c")._repr_html_()


def test_our_points_are_records_and_estimates_and_missing_runs_are_left_out():
    source = by_metric(made("compacter/table1", keep=lambda run: run.label in ("BitFit", "T5-Base")))
    points = tradeoff.recorded(source).set_index("method")
    assert points.loc["BitFit", "percent"] == pytest.approx(100 * 1000 / 22_565_376)
    assert points.loc["BitFit", "score"].mean == pytest.approx(50)
    largest = efficiency.benchmark("budget")["methods"]["BitFit"]["largest"]
    assert points.loc["BitFit", "memory"] == pytest.approx(largest["peak"] / largest["batch"] / 1e6)
    assert points.loc["Adapter", ["percent", "score"]].isna().all()
    drawn = tradeoff.circles(points.reset_index(), "MiniLM")
    assert len(drawn.axes[0].collections) == 2
    assert tradeoff.circles(tradeoff.recorded(made("compacter/table1", keep=lambda run: False)), "MiniLM") is None


# --- Figure 4 ---------------------------------------------------------------------------------------------------------
def lowdata_score(run) -> float:
    """Full fine-tuning gains with size, Compacter++ is ahead by 0.1 at first, and by 0.02 a seed more."""
    size, small = run.limits[0], run.label.startswith("Compacter++")
    return 0.6 + size / 10_000 + small * (0.11 - size / 10_000 + 0.02 * run.seed)  # at 100 a gap of 10, 12, 14, 16, 18


def test_a_gap_is_that_of_the_averages_with_its_interval():
    source = by_metric(made("compacter/figure4", score=lowdata_score))
    rows = lowdata.by_size(source).set_index("examples")
    assert list(rows.index) == [100, 500, 1000, 2000, 4000]
    gap = rows.loc[100, "gap"]
    assert gap.mean == pytest.approx(14) and gap.ends[0] < 14 < gap.ends[1] and rows.loc[100, "n"] == 5
    assert rows.loc[1000, lowdata.FULL].mean == pytest.approx(70) and rows.loc[1000, lowdata.FULL].sd == pytest.approx(0)
    assert figures.over({"": lowdata.points(source)}, "x", "y") is not None


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([(1, 2), (1, 3), (0.5, 1)], "is ahead at 3 sizes."),
        ([(-2, -1), (-3, -1), (-1, 2)], "full fine-tuning is ahead at 2 sizes, chance explains the difference at 1 size."),
        ([(-1, 2), None, (-4, 1)], "chance explains the difference at 2 sizes, runs that did not learn leave 1 size open."),
    ],
)
def test_what_is_said_of_few_examples_is_right_for_any_sign(monkeypatch, ends, said):
    gaps = [
        Spread(0.0 if one is None else sum(one) / 2, None, 1, () if one else ("did not learn",), one or (-1, 1))
        for one in ends
    ]
    rows = pd.DataFrame([{"examples": 100 * i, "gap": gap} for i, gap in enumerate(gaps, 1)], dtype=object)
    monkeypatch.setattr(lowdata, "by_size", lambda source: rows)
    text = lowdata.sentence([]).data
    assert text.endswith(said) and f"{gaps[0]:+.2f} points with 100 examples" in text and "200" not in text


def test_a_size_that_lacks_a_run_has_no_gap_and_is_not_drawn():
    lacking = by_metric(
        made(
            "compacter/figure4",
            score=lowdata_score,
            keep=lambda run: (run.label, run.tasks) != ("Compacter++ (n=4), 500", ("cola",)),
        )
    )
    rows = lowdata.by_size(lacking).set_index("examples")
    assert rows.loc[500, lowdata.SMALL] is None and rows.loc[500, "gap"] is None and rows.loc[500, "n"] == 0
    assert rows.loc[500, lowdata.FULL] is not None and lowdata.gaps(lacking)["sizes"] == 4
    assert lowdata.points(lacking)["y"].isna().sum() == 1
    nothing = made("compacter/figure4", keep=lambda run: False)
    assert figures.over({"": lowdata.points(nothing)}, "x", "y") is None and lowdata.gaps(nothing)["sizes"] == 0


def test_every_size_sees_as_many_examples():
    seen = lowdata.schedule(made("compacter/figure4"))
    assert seen["examples"].to_list() == [100, 500, 1000, 2000, 4000] and seen["examples seen"].nunique() == 1
