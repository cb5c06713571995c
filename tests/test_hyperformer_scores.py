"""HyperFormer's tables of scores: runs that are those of its rows, tables and pages from made-up records, notebooks."""

from __future__ import annotations

import ast
import json

import pytest
from test_report import made
from test_report_verdicts_compacter import records

from peftlib import grids
from peftlib.expressions import canonical
from peftlib.papers import paper_table
from peftlib.papers.hyperformer import experiments, rows
from peftlib.papers.hyperformer.pages import scores, transfer
from peftlib.records import root
from peftlib.report import declared, figures

NAMES = [f"hyperformer/{name}" for name in ("table1", "table1_small", "table2", "table3", "table3_small", "table4")]
NAMES += ["hyperformer/table7", "hyperformer/table7_small", "hyperformer/figure2"]
GLUE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")
PAGES = ("table1", "table2", "table3", "table4", "table7", "figure2", "claims")


# --- rows and runs ----------------------------------------------------------------------------------------------------
def test_every_printed_row_is_a_method():
    assert sorted(rows.rows_of("Small") + rows.rows_of("Base")) == sorted(paper_table("hyperformer", "table1")["method"])
    assert rows.read("T5-Base (multi-task)") == ("T5", "Base", True) and not rows.read("Adapters-Small").together
    assert canonical(rows.expression("HyperFormer++-Base", 8)) == canonical("HyperFormerPlusPlus(reduction=8)")
    assert list(rows.VARIANTS) == list(paper_table("hyperformer", "table4")["variant"])
    assert {experiments.task_of(name) for name in paper_table("hyperformer", "table2")["dataset"]} == set(rows.NEAREST)


@pytest.mark.parametrize("size", ["Base", "Small"])
def test_table_1_is_two_rows_a_task_and_four_on_all_together(size):
    found = grids.runs(f"hyperformer/table1{'' if size == 'Base' else '_small'}", "paper")
    single = [run for run in found if len(run.tasks) == 1]
    assert [run.tasks for run in single] == [(task,) for task in GLUE] * 2
    assert {run.label for run in single} == {f"T5-{size} (single-task)", f"Adapters-{size}"}
    together = [run for run in found if run not in single]
    assert {run.tasks for run in together} == {GLUE} and [run.label for run in found if run in together] == [
        name for name in rows.rows_of(size) if rows.read(name).together
    ]
    assert {(run.recipe.sampling, run.recipe.temperature) for run in together} == {("temperature", 10.0)}
    steps = {run.recipe.epochs * run.recipe.epoch_steps for run in found}
    assert steps == {int(paper_table("hyperformer", "statements").set_index("id").loc["3.steps", "value"])} == {2**18}
    assert {(run.backbone, run.recipe.batch_size, run.recipe.lr) for run in found} == {
        ("t5-base", 32, 3e-4) if size == "Base" else ("t5-small", 64, 3e-4)
    }


def test_what_tables_share_is_trained_once():
    for preset in ("published", "paper"):
        by_name = {name: {run.digest for run in grids.runs(name, preset)} for name in NAMES}
        of = {name: {run.label: run.digest for run in grids.runs(name, preset) if run.seed == 0} for name in NAMES}
        assert of["hyperformer/table3"]["HyperFormer-Base"] in by_name["hyperformer/table1"]
        assert of["hyperformer/table3_small"]["HyperFormer-Small"] in by_name["hyperformer/table1_small"]
        assert of["hyperformer/table4"]["HyperFormer-Small"] in by_name["hyperformer/table1_small"]
        assert of["hyperformer/table7"]["HyperFormer++-Base (r=32)"] in by_name["hyperformer/table1"]
        assert of["hyperformer/table7_small"]["HyperFormer++-Small (r=32)"] in by_name["hyperformer/table1_small"]


@pytest.mark.parametrize("preset", ["smoke", "quick", "published", "paper"])
def test_table_2_begins_with_the_runs_of_table_1(preset):
    above = {run.digest: run for run in grids.runs("hyperformer/table1", preset)}
    for run in grids.runs("hyperformer/table2", preset):
        (parent,) = run.start
        assert parent.method == run.method and run.start_task in parent.tasks and len(run.tasks) == 1
        assert run.seed not in {one.seed for one in above.values()} or parent.digest in above, run.label


def test_table_2_has_the_papers_settings():
    found = [run for run in grids.runs("hyperformer/table2", "paper") if run.seed == 0]
    printed = paper_table("hyperformer", "table2")
    assert len(found) == 3 * len(printed) == 141
    assert [(run.tasks[0], run.limits[0]) for run in found[::3]] == sorted(
        ((experiments.task_of(line["dataset"]), line["samples"]) for line in printed.to_dict("records")),
        key=lambda one: (list(rows.NEAREST).index(one[0]), one[1]),
    )
    assert {run.tasks[0]: run.start_task for run in found} == rows.NEAREST
    local = [run for run in grids.runs("hyperformer/table2", "published") if run.seed == 0]
    assert {run.tasks[0]: run.start_task for run in local} == {
        "cb": "xnli_resplit",
        "boolq_resplit": "qnli_resplit",
        "trec": "xnli_resplit",
        "imdb_10k": "sst2",
        "yelp_sentences": "sst2",
        "pawsx_resplit": "quora",
    }
    assert 1000 not in {run.limits[0] for run in local if run.tasks == ("cb",)}, "CB has 250 rows"


def test_figure_2_takes_as_many_steps_for_every_size():
    found = grids.runs("hyperformer/figure2", "paper")
    assert {run.recipe.epochs * run.recipe.epoch_steps for run in found} == {15_000}
    assert sorted({run.limits[0] for run in found}) == [100, 500, 1000, 2000, 4000]
    assert len(found) == 5 * 5 * 3 and {run.tasks for run in found} == {GLUE}


def test_quick_runs_are_few():
    found = {run.digest for name in NAMES for run in grids.runs(name, "quick")}
    assert len(found) <= 15
    assert {run.backbone for name in NAMES for run in grids.runs(name, "quick")} == {"minilm[:2]"}


# --- pages ------------------------------------------------------------------------------------------------------------
def test_printed_tables_are_read_by_size():
    base, small = (scores.of_size("table1", size) for size in ("Base", "Small"))
    assert base.full == "T5-Base (single-task)" and small.full == "T5-Small (single-task)"
    assert list(base.rows.index) == rows.rows_of("Base") and len(small.rows) == 6
    assert scores.of_size("table7", "Base").split == "validation" and declared.read("hyperformer", "table1").scale == 100
    assert scores.of_size("table7", "Small").rows.loc["HyperFormer++-Small (r=32)", "rte"] == 72.99


def test_averages_stand_beside_the_papers_and_shares_are_divided_by_tasks():
    gains = {"T5-Base (single-task)": 0.6, "HyperFormer++-Base": 0.75}
    source = made("hyperformer/table1", lambda run: gains.get(run.label, 0.5))
    both = scores.averages("Base", source)
    row = both.set_index("method").loc["HyperFormer++-Base"]
    assert row["average, paper"] == 86.48 and float(row["average, ours"]) == pytest.approx(75)
    assert float(row["to full, ours"]) == pytest.approx(15) and row["n"] == 3
    shares = both.set_index("method")["trained, ours"]
    assert shares["T5-Base (single-task)"] == 100 and shares["T5-Base (multi-task)"] == pytest.approx(100 / 8)
    found = scores.lead(both, "HyperFormer++-Base", "T5-Base (multi-task)")
    assert found["ours"] == pytest.approx(25) and found["paper"] == pytest.approx(86.48 - 85.47)
    assert scores.lead(scores.averages("Base", []), "HyperFormer++-Base", "Adapters-Base")["ours"] is None
    assert "trained, %" not in scores.own_scores(source)


@pytest.mark.parametrize(("better", "row"), [(2, "Adapters†-Base (r=2)"), (4, "Adapters†-Base (r=4)")])
def test_table_3_compares_with_the_adapters_that_validation_chooses(better, row):
    source = made("hyperformer/table3", lambda run: 0.7 if run.label == "HyperFormer-Base" else 0.6)
    for record in source:
        if record["run"]["label"] == f"Adapters†-Base (r={better})":
            record["validation"] = dict.fromkeys(record["validation"], 0.65)
            record["test"] = dict.fromkeys(record["test"], 0.5)
    found = scores.chosen(scores.larger("Base", source))
    assert found["row"] == row and found["ours"] == pytest.approx(20) and found["paper"] == pytest.approx(0.74)
    assert scores.chosen(scores.larger("Base", []))["ours"] is None


def test_table_4_is_a_distance_to_the_whole():
    source = made("hyperformer/table4", lambda run: 0.3 if run.label == "without adapter blocks" else 0.5)
    both = scores.ablations(source)
    row = both.set_index("variant").loc["without adapter blocks"]
    assert (row["to whole, paper"], row["to whole, ours"]) == pytest.approx((-14.1, -20))
    assert scores.below(both) == {"n": 5, "paper": 5, "ours": 1}
    assert set(scores.below(scores.ablations([])).values()) == {None}


def test_table_7_counts_which_bottleneck_is_better():
    source = records("hyperformer/table7", lambda run: 0.5, preset="paper")
    for record in source:
        if "(r=8)" in record["run"]["label"]:
            record["validation"] = {
                key: 0.4 if key.partition(".")[0] in rows.SMALL_TASKS else 0.6 for key in record["validation"]
            }
    found = scores.best_factors("Base", source)
    assert (found["small_n"], found["large_n"]) == (6, 5) == (found["small_ours"], found["large_ours"])
    assert (found["small_paper"], found["large_paper"]) == (3, 5)
    assert scores.best_factors("Base", [])["small_ours"] is None


def test_table_2_stands_beside_ours_by_setting():
    source = made("hyperformer/table2", lambda run: 0.9 if run.label == "HyperFormer++-Base, 100" else 0.8)
    found = transfer.settings(source)
    assert len(found) == len(source) / 3 / 3 and set(found["n"]) == {3}
    row = found[(found["data set"] == "CB") & (found["examples"] == 100)].iloc[0]
    assert row["HyperFormer++-Base, paper"] == 87.41 and float(row["HyperFormer++-Base, ours"]) == pytest.approx(90)
    assert transfer.best(found)["ours"] == (found["examples"] == 100).sum()
    assert transfer.best(transfer.settings(source.only(lambda run: False)))["n"] is None
    drawn = {
        name: panel
        for tasks in (transfer.ASKED, transfer.LIKE)
        for name, panel in transfer.panels(found, tasks, source).items()
    }
    assert len(drawn) == 6 and figures.over(drawn, "x", "y") is not None


def test_table_2_says_what_could_be_seen():
    """Ten points: on CB's 28 test rows that is nothing, on a thousand rows it is much."""
    source = made("hyperformer/table2", lambda run: 0.9 if run.label == "HyperFormer++-Base, 100" else 0.8)
    found = transfer.settings(source).set_index(["data set", "examples"])
    assert found.loc[("CB", 100), transfer.SEEN] > 10 > found.loc[("imdb_10k, for IMDB", 100), transfer.SEEN] > 0
    said = transfer.best(found.reset_index())
    small = found.xs(100, level="examples")[transfer.SEEN] < 10
    assert said["ours"] == len(small) and said["seen"] == small.sum() < said["ours"]
    spread = made("hyperformer/table2", lambda run: 0.8 + 0.1 * (run.seed - 1) * run.label.startswith("T5"))
    wider = transfer.settings(spread).set_index(["data set", "examples"])
    assert (wider[transfer.SEEN] > found[transfer.SEEN]).all(), "where seeds differ by much, less is seen"
    part = transfer.settings(made("hyperformer/table2", keep=lambda run: not run.label.startswith("T5")))
    assert part[transfer.SEEN].isna().all()


def test_every_seed_is_a_small_point_behind_its_line():
    source = made("hyperformer/table2", lambda run: 0.7 + 0.02 * run.seed + 0.1 * run.label.startswith("T5"))
    (ax, *_) = figures.over(transfer.panels(transfer.settings(source), ["trec"], source), "x", "y").axes
    assert small_points(ax) == [(x, pytest.approx(y)) for x in (16, 100, 1000) for y in (80, 82, 84)]
    source = made("hyperformer/figure2", lambda run: 0.7 + 0.02 * run.seed)
    points = transfer.points(transfer.by_size(source), source)
    (ax,) = figures.over({"": points}, "x", "y").axes
    assert small_points(ax) == [(x, pytest.approx(y)) for x in (100, 500, 1000) for y in (70, 72, 74)]
    (plain,) = figures.over({"": points.drop(columns="seeds")}, "x", "y").axes
    assert len(plain.lines) + 3 == len(ax.lines) and not any(line.get_markersize() < 4 for line in plain.lines)


def small_points(ax) -> list[tuple]:
    """Of the first row's line: full fine-tuning's."""
    line = next(line for line in ax.lines if line.get_markersize() < 4)
    assert line.get_zorder() < 2 and line.get_linestyle() == "None"
    return sorted(zip(line.get_xdata(), line.get_ydata(), strict=True))


def test_table_2_is_shown_with_its_deviations():
    shown = repr(transfer.printed())
    assert "60.74 ± 16.66" in shown and "80.0 ± 7.6" in shown and shown.count(" ± ") == 3 * 47


def test_figure_2_is_the_distance_at_each_size():
    source = made("hyperformer/figure2", lambda run: 0.7 if run.label == "HyperFormer++-Base, 100" else 0.6)
    found = transfer.by_size(source)
    assert list(found["examples"]) == [100, 500, 1000]
    said = transfer.ahead(found)
    assert (said["n"], said["ahead"], said["low"], said["high"]) == (3, 1, 100, 1000)
    assert (said["low_gap"], said["high_gap"]) == pytest.approx((10, 0))
    assert set(transfer.schedule(source)["steps"]) == {400} and len(transfer.points(found, source)) == 9
    assert said["seen"] == 1 and 0 < found[transfer.SEEN].max() < 10
    nothing = transfer.by_size(made("hyperformer/figure2", keep=lambda run: False))
    assert nothing[transfer.SEEN].isna().all() and set(transfer.ahead(nothing).values()) == {None}


# --- notebooks --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PAGES)
def test_pages_say_what_they_read(name):
    page = json.loads((root() / "notebooks" / "hyperformer" / f"{name}.ipynb").read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) for cell in page["cells"])
    assert all(f'"{one}"' in text for one in page["metadata"]["peftlib"]["experiments"]) or name == "claims"
    assert f'report.rerun("notebooks/hyperformer/{name}.ipynb"' in text


@pytest.mark.parametrize("name", PAGES)
def test_pages_stand_without_records(name):
    """As of a preset of which nothing has been trained."""
    path, known = root() / "notebooks" / "hyperformer" / f"{name}.ipynb", {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            tags = cell["metadata"].get("tags", ())
            body = ast.parse('preset = "paper"\ntrain = False' if "parameters" in tags else source).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), "cell", "exec"), known)
            if last is not None:
                repr(eval(compile(ast.Expression(last.value), "cell", "eval"), known))
