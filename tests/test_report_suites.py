"""The pages of Compacter's score tables, from synthetic records: complete, partial, none."""

from __future__ import annotations

import json

import pytest
from certain import make_certain
from IPython.core.interactiveshell import InteractiveShell
from test_report import FULL_SIZE, made

from peftlib import grids, records, report, study
from peftlib.data import get_task, load_split
from peftlib.papers import paper_table
from peftlib.papers.compacter.pages import rates, score_tables
from peftlib.report import commonest, declared, environment, figures, suites

TABLES = ("table1", "table2", "table6", "table7", "table8", "table9")


@pytest.fixture(autouse=True)
def certain(monkeypatch):
    """Whether runs learned is no question of these tests."""
    make_certain(monkeypatch)


def scored(name: str, score=lambda label, key: 0.5, keep=lambda run: True, seeds=(), spread: float = 0.0):
    """Records of an experiment, of Compacter if it is a table's name alone, each task with all its metrics, as training
    writes them. score: of a row and a number; every further seed is `spread` above."""
    source = made(name if "/" in name else f"compacter/{name}", keep=keep, seeds=seeds)
    for r in source:
        run, (task,) = r["run"], r["run"]["tasks"]
        found = {key: score(run["label"], key) + spread * run["seed"] for key in suites.keys(task)}
        r["test"] = found | dict.fromkeys((task, "mean"), sum(found.values()) / len(found))
        if run["recipe"]["form"] == "text":
            r["test"]["unreadable"] = 0.25
    return source


def rows(table) -> dict[str, dict]:
    return {row["method"]: row for row in table.to_dict("records")}


# --- names ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("key", "title", "printed"),
    [
        ("cola", "CoLA", "cola"),
        ("mrpc.f1", "MRPC F1", "mrpc.f1"),
        ("stsb.spearman", "STS-B Spearman", "stsb.spearman"),
        ("cb.macro_f1", "CB F1", "cb.macro_f1"),
        ("multirc.exact_match", "MultiRC EM", "multirc.exact_match"),
        ("record.entity_f1", "ReCoRD F1", "record.entity_f1"),
        ("quora", "quora, for QQP", "qqp.accuracy"),
        ("xnli_resplit", "xnli_resplit, for MNLI", "mnli"),
        ("boolq_resplit", "boolq_resplit, for BoolQ", "boolq"),
    ],
)
def test_a_number_has_a_title_and_a_place_in_the_papers_table(key, title, printed):
    assert suites.heading(key) == title and suites.printed_column(key) == printed


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("preset", ["quick", "published", "paper"])
def test_every_number_of_ours_stands_beside_one_of_the_papers(name, preset):
    wanted = study.Results([], grids.runs(f"compacter/{name}", preset))
    ours = [suites.printed_column(key) for task in suites.tasks(wanted) for key in suites.keys(task)]
    assert set(ours) <= set(declared.read("compacter", name).keys)
    assert len(set(ours)) == len(ours)


# --- numbers ----------------------------------------------------------------------------------------------------------
def test_the_average_is_over_numbers_and_not_over_tasks():
    found = suites.numbers(scored("table1", lambda label, key: 0.9 if key.startswith("mrpc") else 0.4))["Adapter"]
    count = len(found) - 1
    assert found["mrpc.f1"].mean == pytest.approx(90) and found["rte"].mean == pytest.approx(40)
    assert found["average"].mean == pytest.approx((2 * 90 + (count - 2) * 40) / count)


def test_a_missing_task_leaves_the_row_without_average_and_the_others_with_theirs():
    source = scored("table1", keep=lambda run: (run.label, run.tasks) != ("BitFit", ("rte",)), seeds=(0, 1, 2))
    shown = rows(suites.by_task(source))
    assert shown["BitFit"]["RTE"] is None and shown["BitFit"]["average"] is None and shown["BitFit"]["n"] == 3
    assert shown["BitFit"]["CoLA"].mean == shown["Adapter"]["average"].mean == pytest.approx(50)
    html = report.table(suites.by_task(source), caption="c", source=source)._repr_html_()
    assert html.count(">not run<") == 2 and "285 of 288 runs" in html


def test_spread_is_over_seeds():
    row = rows(suites.by_task(scored("table2", seeds=(0, 1), spread=0.02)))["T5-Base"]
    assert row["n"] == row["average"].n == 2
    assert row["average"].mean == pytest.approx(51) and row["average"].sd == pytest.approx(2**0.5)


def test_trained_is_a_share_of_the_backbone():
    row = rows(suites.by_task(scored("table1")))
    assert row["T5-Base"]["trained, %"] == 100 and row["Adapter"]["trained, %"] == pytest.approx(1e5 / FULL_SIZE)


# --- beside the paper -------------------------------------------------------------------------------------------------
def test_beside_compares_the_paper_on_the_tasks_that_ours_has():
    source = scored("table2", lambda label, key: 0.6 if label == "Adapter" else 0.5)
    both = rows(declared.averages(declared.read("compacter", "table2"), source))
    own = ["boolq", "cb_accuracy", "cb_f1", "copa", "wic"]  # without MultiRC and ReCoRD
    paper = paper_table("compacter", "table2").set_index("method")[own].mean(axis=1)
    assert both["Adapter"]["average, paper"] == 70.55
    assert both["Adapter"]["same tasks, paper"] == pytest.approx(paper["Adapter"])
    assert both["Adapter"]["to full, paper"] == pytest.approx(paper["Adapter"] - paper["T5-Base"])
    assert both["Adapter"]["to full, ours"] == pytest.approx(10) and both["T5-Base"]["to full, ours"] == 0
    assert both["Adapter"]["trained, paper"] == "0.832%"


def test_without_full_fine_tuning_there_is_no_difference_to_it():
    both = rows(
        declared.averages(declared.read("compacter", "table1"), scored("table1", keep=lambda run: run.label != "T5-Base"))
    )
    assert both["Adapter"]["average, ours"].mean == pytest.approx(50)
    assert both["Adapter"]["to full, ours"] is both["T5-Base"]["average, ours"] is None and both["T5-Base"]["n"] == 0


@pytest.mark.parametrize(("name", "large"), [("table6", "table1"), ("table8", "table2")])
def test_a_table_without_full_fine_tuning_takes_the_row_of_the_larger_one(name, large):
    some = scored(name, lambda label, key: 0.6, keep=lambda run: run.tasks[0] in ("cola", "cb"))
    some.wanted = [run for run in some.wanted if run.tasks[0] in ("cola", "cb")]
    whole = score_tables.with_full(some, scored(large, keep=lambda run: run.label == "T5-Base"))
    assert suites.tasks(whole) == suites.tasks(some)  # tasks that only the larger table has would spoil the averages
    both = declared.averages(declared.read("compacter", name), whole)
    assert both["method"][0] == "T5-Base" and both["to full, ours"][1] == pytest.approx(10)
    assert len(both) == 1 + len(paper_table("compacter", name))


def test_order_is_that_of_the_paper_or_its_reverse():
    paper = paper_table("compacter", "table1").set_index("method")["average"]
    for sign in (1, -1):
        source = scored("table1", lambda label, key, sign=sign: 0.5 + sign * (paper[label] - 80) / 100)
        assert suites.order(declared.averages(declared.read("compacter", "table1"), source))["rho"] == pytest.approx(
            sign, abs=0.06
        )
    two = scored("table1", keep=lambda run: run.label in ("T5-Base", "Adapter"))
    assert suites.order(declared.averages(declared.read("compacter", "table1"), two)) == {"rho": None, "n": None}


def test_below_full_fine_tuning_counts_methods_that_were_run():
    lower = ("BitFit", "Adapter")
    source = scored(
        "table1",
        lambda label, key: 0.4 if label in lower else 0.5,
        lambda run: run.label in ("T5-Base", "Compacter (n=4)", *lower),
    )
    assert suites.below(declared.averages(declared.read("compacter", "table1"), source), "T5-Base") == {
        "n": 3,
        "paper": 2,
        "ours": 2,
    }
    assert set(suites.below(declared.averages(declared.read("compacter", "table1"), []), "T5-Base").values()) == {None}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_shown_as_printed(name):
    shown = repr(declared.as_printed("compacter", name))
    paper = paper_table("compacter", name)
    assert all(f"{average:.2f}" in shown for average in paper["average"]) and "nan" not in shown.lower()
    assert ("without success" in shown) == (name == "table9") and ("best of six" in shown) == (name == "table1")


DECLARED = [(paper, name) for paper in ("adaptbert", "compacter", "xpeft") for name in declared.declared(paper).tables]


@pytest.mark.parametrize(("paper", "name"), DECLARED)
def test_rows_of_a_declared_table_are_those_of_its_experiment(paper, name):
    """Under the preset that leaves no row out; Table 4 has two rows of Table 3."""
    found = declared.read(paper, name)
    labels = {run.label for run in grids.runs(found.experiment, "paper")}
    assert set(found.rows.index) - {found.full} <= labels
    assert (paper, name) == ("adaptbert", "table4") or labels <= set(found.rows.index)


def test_beside_has_every_column_in_the_papers_unit():
    points = declared.read("compacter", "table1")
    both = rows(declared.beside(points, scored("table1", lambda label, key: 0.25, seeds=(0, 1), spread=0.02)))["Adapter"]
    assert [name for name in both if name.endswith(", paper")] == [f"{title}, paper" for title in points.titles]
    assert both["MRPC F1, paper"] == 89.73 and both["average, paper"] == 85.78
    assert both["MRPC F1, ours"].mean == pytest.approx(26) and both["MRPC F1, ours"].sd == pytest.approx(2**0.5)
    assert both["n"] == 2
    shares = rows(declared.beside(declared.read("adaptbert", "table2"), made("adaptbert/table2", lambda run: 0.25)))
    row = shares["Pretrain, single-task"]
    assert list(row)[1:3] == ["average, paper", "average, ours"] and row["SST, paper"] == 0.304
    assert row["SST, ours"].mean == 0.25 and row["average, ours"].mean == pytest.approx(0.25)


def test_a_table_takes_the_split_that_it_declares():
    source = made("adaptbert/table3", lambda run: 0.4)
    for record in source:
        record["test"] = dict.fromkeys(record["test"], 0.6)
    label = "Adapter[a=256]"
    dev, test = (rows(declared.beside(declared.read("adaptbert", name), source)) for name in ("table3", "table4"))
    found = dev[label]["SST, ours"].mean, test[label]["SST, ours"].mean
    assert found == pytest.approx((0.4, 0.6)) and len(test) == 2


# --- what single tables add -------------------------------------------------------------------------------------------
def test_by_size_has_a_line_a_method_and_a_point_a_size():
    both = declared.averages(
        declared.read("compacter", "table6"), score_tables.with_full(scored("table6"), scored("table1"))
    )
    panels = [[len(line.get_xdata()) for line in ax.lines] for ax in score_tables.by_size(both, "n").axes]
    assert panels == [[3, 3, 3], [3, 3, 3]]
    assert [len(ax.lines[0].get_xdata()) for ax in score_tables.by_size(both, "d'").axes] == [5, 5]
    assert score_tables.by_size(declared.averages(declared.read("compacter", "table6"), []), "n") is None


def test_gain_by_the_output_layer_is_that_of_the_papers_two_tables():
    both = rows(score_tables.output_layer(scored("table7", lambda label, key: 0.6), scored("table7_frozen")))
    adapter = both["Adapter"]
    # CoLA and both numbers of STS-B, which are ours, as printed in Table 7 and in Tables 1 and 6.
    assert adapter["gain, paper"] == pytest.approx((61.80 - 64.02 + 91.51 - 90.73 + 91.71 - 91.02) / 3, abs=0.01)
    assert both["PHM-Adapter (n=8)"]["layer frozen, paper"] == pytest.approx((61.84 + 90.74 + 91.07) / 3, abs=0.01)
    assert adapter["gain, ours"] == pytest.approx(10) and adapter["unreadable %, frozen"] == 25


def test_gain_needs_both_halves():
    trained = scored("table7", keep=lambda run: run.label == "BitFit")
    both = score_tables.output_layer(trained, scored("table7_frozen", keep=lambda run: run.label == "Adapter"))
    assert both["gain, ours"].isna().all() and set(score_tables.gaining(both).values()) == {None}
    assert rows(both)["BitFit"]["unreadable %, trained"] == 25 and rows(both)["BitFit"]["unreadable %, frozen"] is None
    assert figures.dumbbells(both, ["gain"]) is None


def test_heads_write_nothing_unreadable():
    assert score_tables.unreadable(scored("table1")) is None


def test_loss_on_the_smaller_backbone_is_compared_with_that_of_full_fine_tuning():
    small = {"T5-Small": 0.45, "Adapter": 0.40, "BitFit": 0.48}
    large = [scored(name, lambda label, key: 0.5) for name in ("table1", "table6")]
    lost = score_tables.smaller(scored("table9", lambda label, key: small.get(label, 0.45)), *large)
    found = rows(lost)
    assert "PHM-Adapter (n=16)" not in found and "PHM-Adapter (n=8)" in found  # in Table 6, not in Table 1
    assert found["T5-Small"]["lost, ours"] == pytest.approx(5) and found["Adapter"]["lost, ours"] == pytest.approx(10)
    assert [found[name]["more than full, ours"] for name in ("Adapter", "BitFit")] == ["yes", "no"]
    assert found["Prompt Tuning-R"]["more than full, paper"] == "no"  # the paper's gains by the smaller model
    assert score_tables.losing(lost)["n"] == len(lost) - 1


def test_loss_without_the_large_backbone_is_not_known():
    lost = score_tables.smaller(scored("table9"), study.Results([], []), study.Results([], []))
    assert lost["lost, ours"].isna().all() and lost["more than full, ours"].isna().all()
    assert set(score_tables.losing(lost).values()) == {None} and figures.dumbbells(lost, ["lost"]) is None


# --- the commonest label ----------------------------------------------------------------------------------------------
def test_the_commonest_label_stands_before_what_is_learned():
    source = scored("survey/t5_embedded", keep=lambda run: run.label != "BitFit")
    shown = suites.by_task(source)
    first = shown.iloc[0]
    assert first["method"] == suites.CONSTANT and first["trained, %"] == 0 and first["n"] == 1
    assert first["CoLA"].mean == first["STS-B Pearson"].mean == first["STS-B Spearman"].mean == 0
    run = next(run for run in source.wanted if run.tasks == ("sst2",))
    train, test = (
        load_split("sst2", split, "embedded", limit).labels
        for split, limit in (("train", run.limits[0]), ("test", run.limits[2]))
    )
    assert first["SST-2"].mean == pytest.approx(100 * (test == (train.mean() > 0.5)).mean())
    assert suites.by_task(study.Results([], [])).empty


def test_the_commonest_label_is_the_same_for_every_seed():
    one, two = (suites.by_task(scored("survey/embedded", seeds=seeds)).iloc[0] for seeds in ((0,), (0, 1)))
    assert two["n"] == two["SST-2"].n == 1 and one["SST-2"] == two["SST-2"]


def test_real_data_that_nobody_has_looked_at_has_no_commonest_label(monkeypatch, tmp_path):
    source = scored("table1")
    assert suites.constant(source)
    monkeypatch.setattr(commonest, "path", lambda: tmp_path / "commonest.csv")
    assert suites.constant(source) == []


def test_what_is_written_is_what_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(commonest, "path", lambda: tmp_path / "commonest.csv")
    monkeypatch.setattr(commonest, "_computed", lambda name, *_: (dict.fromkeys(get_task(name).metrics, 0.25), "a", "b"))
    numbers = sum(len(suites.keys(task)) for task in suites.tasks(scored("table2")))
    assert commonest.write("published", ["compacter/table2"]) == numbers
    assert commonest.write("published", ["compacter/table2", "survey/embedded"]) == numbers  # the same, and not embedded
    (row,) = suites.constant(scored("table2"))
    assert row["average"] == row["CB F1"].mean == 25


def test_difficulty_has_a_row_a_number():
    html = environment.difficulty(scored("survey/embedded"))._repr_html_()
    keys = [key for task in suites.tasks(scored("survey/embedded")) for key in suites.keys(task)]
    assert html.count("<tr") == 1 + len(keys) and "24 of 24 runs" in html and suites.CONSTANT in html


# --- learning rates ---------------------------------------------------------------------------------------------------
def searched(best: dict[str, float], keep=lambda run: True):
    """A search of Table 4 in which a row scores 0.8 at its best rate, 0.795 at the paper's and 0.7 elsewhere."""
    paper = paper_table("compacter", "table4").set_index("method")["lr"]

    def score(run):
        lr = run.recipe.lr
        return 0.8 if lr == best.get(run.label, paper[run.label]) else 0.795 if lr == paper[run.label] else 0.7

    return made("compacter/table4", score, keep)


def test_rates_agree_with_the_papers_or_do_not():
    found = rates.rates("table4", searched({"Adapter": 3e-5, "BitFit": 3e-3}), "published")
    row = rows(found)
    assert row["T5-Base"]["agree"] == "yes" and row["T5-Base"]["paper's rate costs"] == 0
    assert row["Adapter"]["best, ours"] == 3e-5 and row["Adapter"]["at the edge"] == "yes"
    assert row["BitFit"]["agree"] == row["BitFit"]["at the edge"] == "no"
    assert row["BitFit"]["paper's rate costs"] == pytest.approx(0.5)
    assert rates.agreement(found) == {"n": 12, "agree": 10, "edge": 2, "paper_edge": 1, "close": 2}
    assert "**10 of 12 methods**" in rates.sentence(found).data


def test_a_method_that_no_rate_taught_anything_is_named_and_has_no_best_rate():
    def score(run):
        return 0.05 if run.label.startswith("Prompt") else 0.8 if run.recipe.lr == 3e-3 else 0.7

    source = made("compacter/table4", score)
    for record in source:
        record["validation"]["stsb.pearson"] = record["validation"]["mean"]
    found = rates.rates("table4", source, "published")
    row = rows(found)["Prompt Tuning-R"]
    assert row["agree"] == row["at the edge"] == row["paper's rate costs"] == rates.NONE
    assert rows(found)["BitFit"]["agree"] in ("yes", "no") and rates.agreement(found)["n"] == 10
    assert "No rate taught Prompt Tuning\\-R and Prompt Tuning\\-T anything" in rates.sentence(found).data
    assert rates.NONE in repr(report.table(found, formats=rates.formats(found), caption=""))


def test_rates_that_were_not_tried_are_not_run():
    found = rates.rates("table4", searched({}, lambda run: run.label == "Adapter" and run.recipe.lr != 3e-4), "published")
    row = rows(found)
    assert row["BitFit"]["best, ours"] is row["BitFit"]["agree"] is None
    assert row["Adapter"]["best, ours"] == 3e-5  # the lowest of equals
    assert row["Adapter"]["paper's rate costs"] is None and "0.0003" not in found
    assert len(rates.figure(found).axes[0].get_yticks()) == 1
    nothing = rates.rates("table4", searched({}, lambda run: False), "published")
    assert rates.figure(nothing) is None and "Not run" in rates.sentence(nothing).data


def test_a_rate_that_diverged_is_named_and_not_chosen():
    high = [run.digest for run in grids.runs("compacter/table4", "published") if run.recipe.lr == 0.3]
    source = searched({"BitFit": 0.3}, lambda run: run.recipe.lr < 0.3)
    source.diverged = [r | {"diverged": "the loss is nan"} for r in searched({}) if r["digest"] in high]
    found = rates.rates("table4", source, "published")
    row = rows(found)
    assert row["BitFit"]["0.3"] == "diverged" and row["BitFit"]["best, ours"] < 0.3
    assert row["Prompt Tuning-T"]["best, paper"] == 0.3 and row["Prompt Tuning-T"]["paper's rate costs"] is None
    assert "diverged" in repr(report.table(found, formats=rates.formats(found), caption=""))
    assert [text.get_text() for text in rates.figure(found).axes[0].texts].count("–") == 12


def test_a_rate_that_lacks_a_task_is_not_compared():
    source = made("compacter/table1", lambda run: 0.9 if run.recipe.lr == 1.0 else 0.5, lambda run: run.label == "Adapter")
    other = made("compacter/table1", lambda run: 0.9, lambda run: run.label == "Adapter")
    for r in other:
        r["run"]["recipe"]["lr"] = 1.0
    half = report.rate_grid([*source, *other[:3]], lambda method: 0.0)
    assert "1" not in half and list(half["best"]) == [source[0]["run"]["recipe"]["lr"]]
    assert list(report.rate_grid([*source, *other], lambda method: 0.0)["best"]) == [1.0]


def test_best_rates_at_an_edge_of_what_was_tried_are_named():
    best = {"Adapter": 3e-5, "BitFit": 0.3, "Compacter++ (n=4)": 3e-3}
    source = searched(best, lambda run: run.label in best)
    grid = report.rate_grid(source, lambda method: 0.0)
    assert report.at_edges(grid) == {"lowest": "Adapter", "highest": "BitFit"}
    high = [r for r in searched({}) if r["run"]["label"] == "BitFit" and r["run"]["recipe"]["lr"] == 0.3]
    below = max(rate for rate in map(float, grid.columns.drop(["method", "best", "used"])) if rate < 0.3)
    source = searched({"BitFit": below}, lambda run: run.label == "BitFit" and run.recipe.lr < 0.3)
    assert report.at_edges(report.rate_grid(source, lambda method: 0.0))["highest"] == "BitFit"
    source.diverged = [r | {"diverged": "the loss is nan"} for r in high]
    assert report.at_edges(report.rate_grid(source, lambda method: 0.0))["highest"] == "none", "a higher one was tried"
    alone = searched({}, lambda run: run.label == "BitFit" and run.recipe.lr == 0.3)
    none = {"lowest": "none", "highest": "none"}
    assert report.at_edges(report.rate_grid(alone, lambda method: 0.0)) == none == report.at_edges(report.frame([]))


def test_rates_are_those_of_the_table_that_the_search_serves():
    found = rates.rates("table11", made("compacter/table11"), "paper")
    assert rows(found)["Intrinsic-SAID"]["used"] == 3e-3  # changed for Table 2 alone


# --- what a page says -------------------------------------------------------------------------------------------------
def test_caveats_of_stand_ins_and_missing_tasks():
    glue, super_ = (report.caveats(scored(name), "compacter").data for name in ("table1", "table2"))
    assert "quora for QQP" in glue and "qnli_resplit for QNLI" in glue and "Missing" not in glue
    assert "MiniLM has seen Quora pairs" in glue and "MultiNLI" in glue and "test split" in glue
    assert "MultiRC and ReCoRD cannot be had" in super_ and "boolq_resplit for BoolQ" in super_
    assert "CB's has 28 rows" in super_ and "COPA's has 50" in super_ and "Quora" not in super_
    assert all("T5-Base" in text and "BERT" not in text for text in (glue, super_))


def test_caveats_of_embedded_and_of_partial_suites():
    text = report.caveats(scored("table7"), "compacter").data
    assert "Embedded data" in text and "Stand-ins" not in text and "halves" not in text and "A trained head" not in text
    some = report.caveats(scored("table1", keep=lambda run: run.tasks[0] in ("cola", "sst2")), "compacter").data
    assert "MRPC, QQP, STS-B, MNLI, QNLI and RTE are not run" in some
    assert report.caveats([], "compacter") is None


def test_the_papers_own_backbone_and_data_need_few_caveats():
    source = scored("table1", keep=lambda run: run.tasks[0] in ("cola", "mrpc"))
    for r in source:
        r["run"] |= {"backbone": "t5-base", "source": "hub", "limits": [None] * 3}
        r["run"]["recipe"]["form"] = "text"
    text = report.caveats(source, "compacter").data
    assert not any(what in text for what in ("Another backbone", "Stand-ins", "Less training", "MiniLM", "head"))


def test_begin_shows_the_preset_as_the_experiment_changes_it(capsys):
    page = report.begin("published", False, "compacter/table10")
    shown = capsys.readouterr().out
    assert page.preset.backbone == "minilm[:3]" and "500 examples a task to train on, 500 to validate, 50 to test" in shown
    report.begin("published", False, "compacter/figure4")
    assert "100 or 500 or 1,000 or 2,000 or 4,000 examples" in capsys.readouterr().out
    report.begin("published", False)
    assert "4,000 examples" in capsys.readouterr().out
    report.begin("published", False, "adaptbert/table3")
    shown = capsys.readouterr().out
    assert "2,000 examples a task to train on, 1,000 to validate, 2,000 to test" in shown and "0, 1, 2 (n = 3)" in shown
    page = report.begin("published", False, ["adaptbert/table2", "adaptbert/table3", "compacter/table2"])
    shown = capsys.readouterr().out
    assert "2,000 or 4,000 examples" in shown and "0, 1, 2 (n = 1 or 3)" in shown  # Compacter's Table 2 is not run
    assert page.preset.limits == report.begin("published", False).preset.limits


# --- the pages --------------------------------------------------------------------------------------------------------
KEPT = {
    "all": lambda run: True,
    "some": lambda run: run.label in ("T5-Base", "T5-Small", "Adapter", "Compacter (n=4)"),
    "one task": lambda run: run.tasks[0] in ("cola", "cb"),
    "none": lambda run: False,
}
LEFT_OUT = {
    "table6": "qqp, mnli and qnli are not run",
    "table7": "sst-2, mrpc, qqp, mnli, qnli and rte are not run",
    "table9": "qqp, mnli and qnli are not run",
}  # by the preset, which takes five tasks, or two


@pytest.mark.parametrize("keep", KEPT)
@pytest.mark.parametrize("page", [*TABLES, "learning_rates"])
def test_pages_run_on_complete_and_on_partial_records(page, keep, monkeypatch):
    """Every code cell, with made-up records; what is missing is said, and nothing else is called missing."""

    def results(experiment, preset, train, labels=None):
        assert preset == "published" and train is False
        return scored(
            experiment.removeprefix("compacter/"),
            lambda label, key: 0.4 + len(label) / 100,
            keep=lambda run: KEPT[keep](run) and (labels is None or run.label in labels),
        )

    monkeypatch.setattr(study, "results", results)
    cells = json.loads((records.root() / "notebooks" / "compacter" / f"{page}.ipynb").read_text())["cells"]
    shell, shown = InteractiveShell(), ""
    for cell in cells:
        if cell["cell_type"] == "code":
            done = shell.run_cell("".join(cell["source"]))
            done.raise_error()
            shown += f"{getattr(done.result, 'data', done.result)}\n"
            if "parameters" in cell["metadata"].get("tags", ()):
                shell.push({"preset": "published", "train": False})
    shown = shown.lower()
    for sentence in set(LEFT_OUT.values()):
        assert (sentence in shown) == (LEFT_OUT.get(page) == sentence and keep in ("all", "some"))
        shown = shown.replace(sentence, "")
    assert ("not run" in shown) == (keep != "all") and " nan" not in shown
