"""Taxonomy, choice, efficiency and environment pages: complete, computed, and honest when there is nothing to show."""

import argparse
import importlib.util
import json
import re
from html import unescape
from pathlib import Path

import matplotlib
import pytest
import tiny
from real import needs_real_data, real_data
from test_report import synthetic

from peftlib import catalogue, grids, records
from peftlib.accounting import counted
from peftlib.comparison import METHOD_RUNS
from peftlib.data.embedded import SIZES
from peftlib.data.sources import load_split
from peftlib.data.tasks import SUITES, TASKS
from peftlib.expressions import names
from peftlib.methods import METHODS
from peftlib.papers import paper_table
from peftlib.papers.survey import decided
from peftlib.papers.survey import taxonomy as survey
from peftlib.papers.survey.properties import implemented
from peftlib.report import averages, choice, efficiency, environment, pages
from peftlib.study import Results

matplotlib.use("Agg")


def record(label: str, accuracy: float, stored: int, seconds: float, peak: int) -> dict:
    run = grids.make_run(grids.get_preset("smoke"), METHOD_RUNS[label], ("sst",), label=label)
    made = synthetic(run, accuracy, stored)
    made["counts"]["stored"] = stored
    return made | {
        "seconds": seconds,
        "peak_bytes": peak,
        "machine": {"device": "a CPU", "threads": 1},
        "versions": {"torch": "2"},
    }


@pytest.fixture
def bench():
    """Loads one of ``benchmarks/*.py`` as a module, by its name."""

    def load(name: str):
        path = Path(__file__).parent.parent / "benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def made() -> Results:
    return Results(
        [
            record("Full", 0.60, 1000, 10.0, 900),
            record("LoRA", 0.58, 10, 6.0, 500),
            record("Houlsby", 0.57, 20, 7.0, 600),
            record("HeadOnly", 0.30, 0, 1.0, 100),
        ],
        [],
    )


def test_taxonomy_finds_the_methods_that_exist_and_names_no_others():
    rows = paper_table("survey", "methods")
    here = {method: name for method in rows["method"] if (name := implemented(method))}
    assert set(here.values()) <= {*METHODS, "Layers"}, "S4 is an expression"
    assert set(here) == set(rows["method"]), "none is missing"
    assert set(rows["ours"]) - {""} <= {*METHODS, "Layers"}
    assert survey.NOT_YET not in repr(survey.taxonomy())
    said = survey.progress()
    assert f"Of the {len(rows)} methods that the survey names, {len(rows)} are here" in said.text
    links = set(re.findall(r'href="([^"]+)"', str(said.content)))
    assert links == {pages.page_of(f"{name}()") for name in here.values() if name in METHODS} - {None}, (
        "each leads to its page, if it has one"
    )
    assert all(family in said.text for family in rows["family"])


def test_the_taxonomy_is_drawn_from_the_folders():
    drawn = survey.branches()
    assert ("additive", "adapters") in drawn and "Houlsby" in drawn[("additive", "adapters")]
    folders = {entry.file.split("/")[1] for entry in catalogue.methods().values()}
    assert folders - set(survey.BRANCHES) == {"baselines.py"}, "every folder is a branch"
    assert sum(map(len, drawn.values())) == len(METHODS) - 2  # the two ends
    assert "[figure]" in survey.drawing().text and "selective" in survey.drawing().text


def test_every_method_is_listed_from_its_class():
    shown = repr(survey.ours())
    assert all(cls.title in shown for cls in METHODS.values())


def test_methods_without_a_page_are_those_that_the_comparison_lacks(monkeypatch):
    absent = {METHODS[name].title for name, entry in catalogue.methods().items() if entry.row is None}
    absent.remove("Cross-attention tuning")  # which has a page with runs of its own
    said = survey.paged().data.replace("\\", "")
    assert set(said.partition("the others: ")[2].rstrip(".").split("; ")) == absent
    assert said.startswith(f"{len(METHODS) - len(absent)} of {len(METHODS)} methods")
    monkeypatch.setattr(survey, "page_of", lambda method: "../methods/any.html")
    assert survey.paged().data.startswith(f"All {len(METHODS)} methods have a page")


# --- what does not depend on records ----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def suited():
    return list(decided.suited().values())


def test_what_suits_a_wish_is_found_from_the_methods(suited):
    merge, memory, optimizer, copies, many, small, positions = map(set, suited)
    every = {one.name for one in decided.candidates()}
    assert merge == {name for name in every if METHODS[name].mergeable}
    assert merge >= {"LoRA", "IA3", "DoRA", "KronA", "GLoRA", "QLoRA", "DiffPruning", "FAR", "LTSFT", "DiffFit"}
    assert "CrossAttentionTuning" in merge and not merge & {"Houlsby", "PrefixTuning", "KronABRes"}
    assert memory == {"LST", "AttentionFusion"} and optimizer == {"GaLore"}
    assert copies >= {"Houlsby", "LoRA", "XPEFT"} and not copies & {"BitFit", "FishMask", "Compacter", "HyperFormer"}
    assert many == {"AdaptBertHypernet", "HyperFormer", "HyperFormerPlusPlus"}
    assert small >= {"BitFit", "KronA"} and not small & {"LoRA", "Houlsby", "GaLore"}
    assert positions == {"AdaptivePrefixTuning", "IPT", "PrefixTuning", "PromptTuning", "SPoT", "MAM", "UniPELT"}


def test_ends_of_the_scale_and_what_nobody_would_choose_alone_are_no_candidates():
    every = {one.name for one in decided.candidates()}
    assert set(METHODS) - every == {"Full", "HeadOnly", "OutputLayer", "PromptAutoencoder"}


def test_a_method_that_no_longer_merges_is_listed_no_more(suited, monkeypatch):
    monkeypatch.setattr(METHODS["KronA"], "mergeable", False)
    assert {one.name for one in decided.candidates() if decided.merges(one)} == set(suited[0]) - {"KronA"}


def test_wishes_lead_to_pages(suited):
    shown = decided.wishes()
    links = set(re.findall(r'href="([^"]+)"', str(shown.content)))
    assert links == {pages.page_of(f"{name}()") for names in suited for name in names} - {None}
    assert len(shown.text.splitlines()) == len(decided.WISHES) and "Cross-attention tuning" in shown.text


def test_advice_comes_from_the_records(made):
    said = survey.advice(made).data
    assert "The highest score is **Full**'s, 0.600" in said and "**3 of 4 methods are level with it**" in said
    assert said.count("HeadOnly") == said.count("all but HeadOnly") == 1  # 0.30 is no interval of 0.60 away
    assert "- stores least: **LoRA**" in said and r"once merged: Full\, LoRA" in said
    assert "shines" not in said


def test_choices_are_ranked_by_test_score_and_can_be_filtered(made):
    html = survey.choices(made)._repr_html_()
    rows = [
        line.split(">")[3].partition("<")[0] for line in html.split("<tbody>")[1].splitlines() if line.startswith("<tr>")
    ]
    assert rows == ["Full", "LoRA", "Houlsby", "HeadOnly"]
    heads = {head.rpartition(">")[2] for head in html.split("</th>")}
    assert '<fieldset class="filters"' in html and " hidden>" in html, "without script nothing to choose is shown"
    ran = made[0]["run"]["backbone"]
    numbers = json.loads(unescape(re.search(r'data-numbers="([^"]*)"', html)[1]))
    assert list(numbers) == rows and set(numbers["LoRA"]["stored"]) == {ran, *survey.FAMILIES}
    assert numbers["LoRA"]["stored"][ran] == [10] * len(survey.TASKS), "as its run kept"
    assert numbers["LoRA"]["stored"]["t5-base"][0] == counted.count(METHOD_RUNS["LoRA"], "t5-base").stored
    assert {column for _, column, _, _ in survey.WISHES} <= heads
    assert html.count('type="checkbox"') == len(survey.WISHES)


# --- data -------------------------------------------------------------------------------------------------------------
def test_how_many_rows_a_task_is_tested_on_is_known_of_all_tasks():
    """But of LaMP's authors, which only the hub has."""
    unknown = {name for name in TASKS if averages.test_rows(name, "hub", None) is None}
    assert unknown == {"authors"}
    assert {name for name in TASKS if averages.validation_rows(name, "hub", None) is None} == {"authors"}
    assert averages.test_rows("wnli", "embedded", 100) == 100 and averages.test_rows("wnli", "local", 100) == 36
    assert averages.validation_rows("sst2", "hub", None) == 1_000 and averages.validation_rows("trec", "hub", None) == 250


@needs_real_data("transfer/trec/test.parquet")
@pytest.mark.parametrize(
    "task", ["wnli", "trec", "pawsx_resplit", "imdb_10k", "yelp_sentences", "news_category", "cb", "sst", "quora"]
)
def test_they_are_as_many_as_there_are(task, monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data("transfer/trec/test.parquet")))
    assert len(load_split(task, "test", "local")) == averages.test_rows(task, "local", None)
    odd = len(load_split(task, "validation", "local")) - averages.validation_rows(task, "local", None)
    assert odd in (0, -1)  # of two halves the test split has the row that is left over


def test_the_data_page_shows_every_suite():
    code = (records.root() / "notebooks" / "survey" / "data.ipynb").read_text(encoding="utf-8")
    shown = set(re.findall(r'environment\.tasks\(\\"(\w+)\\"\)', code)) | {"cs224n"}
    assert shown == set(SUITES)
    assert "36" in environment.tasks("diagnostics").text and "not known" in environment.tasks("authors").text
    in_page = {task.name for suite in SUITES for task in SUITES[suite] if f'embedded_sizes(\\"{suite}\\")' in code}
    assert set(SIZES) <= in_page | {task.name for task in SUITES["cs224n"]}


def test_pages_cope_with_no_records():
    empty = Results([], [])
    assert "too few" in survey.advice(empty).data
    assert "nothing to show" in survey.about_the_tasks(empty).text
    assert "not drawn" in repr(survey.picture(empty))
    assert "(no rows)" in repr(survey.choices(empty)) or "nothing to show" in repr(survey.choices(empty))
    assert "nothing to show" in repr(environment.machines(empty))


def test_the_step_benchmark_has_every_method_that_peft_has(bench):
    found = {name for method in bench("step").PEERS for name in names(method)}
    assert found == {name for name, entry in catalogue.methods().items() if entry.about.peft}
    assert set(bench("step").PEERS) <= bench("step").METHODS.keys()


def test_what_the_step_benchmark_hands_over_is_what_peft_trains(bench, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    step = bench("step")
    monkeypatch.setattr(step, "plain", tiny.backbone)
    for i, method in enumerate(step.PEERS):
        step.hand_over(method, "bert", tmp_path / str(i))
        theirs = step.taken(method, tiny.backbone("bert"), str(tmp_path / str(i)))
        trained = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
        assert trained == tiny.build(method, "bert").counts().trainable, method


def test_benchmarks_are_shown_or_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    assert "python benchmarks/training_speed.py" in efficiency.training_speed().data
    assert "python benchmarks/batch_overhead.py" in efficiency.batch_overhead().data
    assert "python benchmarks/step.py" in efficiency.steps({}, "").data
    assert "python benchmarks/kronecker.py" in efficiency.kronecker().data
    assert "python benchmarks/inference.py" in efficiency.inference(1).data and choice.cost("LoRA(rank=8)") == {}
    assert efficiency.ratios().data == ""
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    common = {
        "machine": {"device": "a CPU", "threads": 2, "cores": 2},
        "versions": {"torch": "2"},
        "date": "2026-11-21",
        "commit": "abc",
    }
    row = {"examples_per_second": 12.3, "slowest": 11.0, "fastest": 13.0, "peak_bytes": 2**20, "accuracy": 0.4}
    speed = {
        "method": "LoRA(rank=8)",
        "backbone": "minilm",
        "task": "sst",
        "source": "local",
        "examples": 1,
        "epochs": 1,
        "batch_size": 32,
        "repeats": 3,
        "validation": 5,
        "variants": {"ours": row},
        "ratios": {"usual script": 9.5},
    }
    (folder / "training_speed.json").write_text(json.dumps(speed | common))
    assert "ours" in repr(efficiency.training_speed()) and "9.5 times its usual script" in efficiency.ratios().data


def test_a_step_is_shown_relative_to_full_fine_tuning_and_to_peft(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)

    def cost(milliseconds, mebibytes):
        return {"milliseconds": milliseconds, "peak_bytes": mebibytes * 2**20}

    methods = {
        "Full()": {"row": "T5-Base", "ours": cost(200.0, 400)},
        "BitFit()": {"row": "BitFit", "ours": cost(150.0, 100)},
        "LoRA(rank=8)": {"row": "", "ours": cost(120.0, 200)},
    }
    result = {
        "methods": methods,
        "backbone": "minilm",
        "batch": 32,
        "length": 32,
        "precision": "bf16",
        "machine": {"device": "a CPU", "threads": 2, "cores": 2},
        "versions": {"torch": "2"},
        "date": "2026-11-21",
        "commit": "abc",
    }
    (folder / "step.json").write_text(json.dumps(result))
    printed = {"T5-Base": {"time": 1.0, "memory": 1.0}, "BitFit": {"time": 0.5, "memory": 0.75}}
    shown = repr(efficiency.steps(printed, "As printed.")).split("BitFit()")[1].split("\n")[0].split()
    assert shown == ["0.75", "0.50", "0.25", "0.75"]  # time, the paper's, memory, the paper's
    assert "--peers" in efficiency.beside_peft().data
    lora = {"row": "", "ours": cost(120.0, 200), "peft": cost(160.0, 250), "peft treated as ours": cost(125.0, 160)}
    (folder / "step_peft.json").write_text(json.dumps(result | {"methods": {"LoRA(rank=8)": lora}}))
    shown = repr(efficiency.beside_peft()).split("LoRA(rank=8)")[1].split()
    assert shown[:7] == ["120", "160", "125", "0.75", "0.96", "0.80", "1.25"]
    assert "--output benchmarks/results/step_t5.json" in efficiency.on_t5().data
    methods["LST()"] = {"row": "", "ours": cost(100.0, 80)}
    (folder / "step_t5.json").write_text(json.dumps(result | {"backbone": "t5-base"}))
    shown = repr(efficiency.on_t5())
    assert shown.split("LST()")[1].split()[:3] == ["0.50", "0.20", "0.40"]  # of LoRA's memory the last
    assert "t5-base, 32 sequences" in shown and "QLoRA" not in shown
    methods[efficiency.QLORA] = {"row": "", "ours": cost(100.0, 80)}
    (folder / "step_t5.json").write_text(json.dumps(result | {"backbone": "t5-base"}))
    assert "QLoRA changes six kinds of layers" in repr(efficiency.on_t5())


def test_what_using_a_model_costs_is_shown_and_has_one_source(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)

    def cells(one, many):
        ratios = {"1": one, "32": many}
        return {
            batch: {"tokens_per_second": 1000 * ratio, "ratio": ratio, "low": ratio - 0.01, "high": ratio + 0.03}
            for batch, ratio in ratios.items()
        }

    machine = {"device": "x86_64 CPU", "processor": "a quick one with amx_bf16", "threads": 2, "cores": 2}
    result = {
        "backbone": "minilm",
        "length": 32,
        "rounds": 5,
        "precision": "bf16",
        "batches": [1, 32],
        "methods": {
            "Full()": {"unmerged": cells(1.0, 1.0)},
            "LoRA(rank=8)": {"unmerged": cells(0.75, 0.9), "merged": cells(1.0, 0.99)},
        },
        "machine": machine | {"load_before": 0.25, "load_after": 1.5},
        "versions": {"torch": "2"},
        "date": "2026-11-27",
        "commit": "abc",
    }
    (folder / "inference.json").write_text(json.dumps(result))
    one, many = (repr(efficiency.inference(batch)) for batch in (1, 32))
    for shown, expected in ((one, "750 0.75 ± 0.02 1.00 ± 0.02"), (many, "900 0.90 ± 0.02 0.99 ± 0.02")):
        assert shown.split("LoRA(rank=8)")[1].split("\n")[0].split() == expected.split()
        assert shown.split("Full()")[1].split("\n")[0].split()[-1] == "–", "it is the plain backbone"
    assert "one text at a time" in one and "in batches of 32" in many and "tokens/s" in one
    assert "a quick one with amx_bf16" in one and "load 0.2 before, 1.5 after" in one
    rank4 = choice.cost("LoRA(rank=4)")
    assert rank4 == choice.cost("LoRA(rank=8)") and rank4["merged_speed_32"] == 0.99 and rank4["tokens_per_second_1"] == 750


def test_a_ratio_is_that_of_medians_and_its_spread_that_of_rounds(bench):
    reference = [1.0, 2.0, 4.0, 1.0, 1.0]  # another process took its time in two rounds
    mine = [2.0, 4.0, 8.0, 2.0, 2.5]
    found = bench("inference").summary(mine, reference, tokens=32)
    assert found == {"tokens_per_second": 12.8, "ratio": 0.4, "low": 0.5, "high": 0.5}


def test_the_rehearsal_measures_every_model_and_writes_nothing(bench, monkeypatch, capsys):
    inference = bench("inference")
    monkeypatch.setattr(inference, "METHOD_RUNS", {"LoRA": "LoRA(rank=2)", "Prompt": "PromptTuning(length=2)"})
    monkeypatch.setattr(inference, "CALLS", {1: 1, 2: 1})
    monkeypatch.setattr(inference, "RESULT", None)
    assert inference.main(["--quick", "--length", "4", "--threads", "1"]) == 0
    said = capsys.readouterr().out.splitlines()
    models = [line.partition(":")[0] for line in said if "merged" in line]
    assert models == [
        "Full(), unmerged",
        "LoRA(rank=2), unmerged",
        "LoRA(rank=2), merged",
        "PromptTuning(length=2), unmerged",
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_merged_model_is_timed_with_the_weights_it_would_have(bench, precision):
    inference = bench("inference")
    options = argparse.Namespace(backbone="minilm", length=4, precision=precision, device="cpu")
    merged, plain = (inference.build(*one, options) for one in (("LoRA(rank=2)", True), ("Full()", False)))
    assert {p.dtype for p in merged.backbone.parameters()} == {p.dtype for p in plain.backbone.parameters()}
    assert len(list(merged.backbone.modules())) == len(list(plain.backbone.modules())), "nothing is left of the method"
    assert inference.build("PromptTuning(length=2)", True, options) is None


def test_environment_tables():
    assert "cfimdb" in repr(environment.tasks()) and "exact match" in repr(environment.tasks("superglue"))
    assert "multirc" not in repr(environment.embedded_sizes("superglue"))
    assert "mrpc sentence1: " in repr(environment.text_forms("glue"))
    assert "torch" in repr(environment.versions())
    assert "a CPU" in repr(environment.machines(Results([record("Full", 0.6, 1, 1.0, 1)], [])))


def test_survey_pages_carry_no_outputs():
    pages = sorted((records.root() / "notebooks" / "survey").glob("*.ipynb"))
    assert {p.stem for p in pages} >= {"taxonomy", "choosing", "data", "efficiency"}
    assert not any(c.get("outputs") for p in pages for c in json.loads(p.read_text())["cells"])
