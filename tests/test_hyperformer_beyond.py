"""HyperFormer's cost, embeddings of tasks, schemes of sharing and growth: what pages make of what was run and measured."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_report import made

from peftlib import grids, records, study
from peftlib.accounting.counted import count, shape
from peftlib.expressions import canonical
from peftlib.grids import get_preset
from peftlib.methods import AdaptBertHypernet, HyperFormer
from peftlib.papers import FOLDER, paper_table
from peftlib.papers.hyperformer import counts, sharing
from peftlib.papers.hyperformer.pages import beyond, cost, embeddings
from peftlib.papers.hyperformer.pages.embeddings import Embeddings
from peftlib.papers.hyperformer.rows import METHODS, REDUCTION
from peftlib.records import Recipe, Run
from peftlib.report import efficiency, suites
from peftlib.report.tables import Spread
from peftlib.tensorfiles import read_tensors

ROOT = Path(__file__).parent.parent


# --- runs -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backbone, tasks", [("minilm", 8), ("minilm[:3]", 2), ("t5-base", 8)])
def test_all_schemes_train_as_much(backbone, tasks):
    found = sharing.schemes(backbone, tasks)
    wanted = count(found[sharing.BUDGET], backbone, tasks).trainable
    for name, method in found.items():
        trained = count(method, backbone, tasks).trainable
        if name in sharing.ENDS:
            assert trained < wanted / 50
        else:
            assert trained == pytest.approx(wanted, rel=0.05), name


def test_no_other_size_of_a_scheme_is_nearer():
    wanted = count(sharing.PLUSPLUS, "minilm", 8).trainable
    for scheme in sharing.SCHEMES.values():
        chosen = sharing.sized(scheme, "minilm", 8)
        off = {n: abs(count(scheme.format(n=n), "minilm", 8).trainable - wanted) for n in range(1, 90)}
        assert chosen == min(off, key=off.__getitem__)


@pytest.mark.parametrize(("backbone", "tasks"), sharing.SIZES)
def test_the_sizes_that_are_written_down_are_those_that_are_counted(backbone, tasks):
    found = [sharing.sized(scheme, backbone, tasks) for scheme in sharing.SCHEMES.values()]
    assert sharing.SIZES[backbone, tasks] == tuple(found)


@pytest.mark.parametrize("preset", ["published", "paper"])
def test_embeddings_are_those_of_the_tables_and_are_kept(preset):
    tables = {run.digest for name in ("hyperformer/table1", "hyperformer/table2") for run in grids.runs(name, preset)}
    runs = grids.runs("hyperformer/figure3", preset)
    assert runs and {run.digest for run in runs} <= tables
    carried = [run for run in runs if run.start]
    assert carried and all({parent.digest for parent in run.start} <= {run.digest for run in runs} for run in carried)
    assert len({run.tasks for run in carried}) * len({run.seed for run in carried}) == len(carried)
    most = {
        (r.tasks, r.seed): max(o.limits[0] for o in grids.runs("hyperformer/table2", preset) if o.tasks == r.tasks)
        for r in carried
    }
    assert all(run.limits[0] == most[run.tasks, run.seed] for run in carried)
    assert "hyperformer/figure3" in grids.DRAWN


# --- embeddings -------------------------------------------------------------------------------------------------------
@pytest.fixture
def trained(tmp_path, monkeypatch):
    """HyperFormer++ on two tasks, and on a third that begins as one of them."""
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    preset = dataclasses.replace(get_preset("smoke"), rows=None)
    recipe = Recipe(lr=1e-2, epochs=1, batch_size=8, max_length=16, precision="fp32")
    method = "HyperFormerPlusPlus(bottleneck=2, task_dim=4, hidden=4)"
    parent = Run(method, ("mnli", "sst2"), "minilm[:1]", "embedded", recipe, 0, (8, 4, 8), sharing.PAPERS)
    child = dataclasses.replace(parent, tasks=("cb",), start=(parent,), start_task="mnli", label="cb")
    monkeypatch.setattr(grids, "presets", lambda: {"smoke": preset})
    monkeypatch.setattr(grids, "EXPERIMENTS", {"paper/embeddings": lambda _: [child, parent]})
    monkeypatch.setattr(grids, "DRAWN", {"paper/embeddings": grids.DRAWN["hyperformer/figure3"]})
    monkeypatch.setattr(grids, "experiments", lambda: grids.EXPERIMENTS)
    return preset, parent, child, study.results("paper/embeddings", "smoke", progress=False)


def test_embeddings_are_read_from_what_lies_beside_records(trained):
    preset, parent, child, source = trained
    (found,) = embeddings.read(source, preset).values()
    assert found.tasks == ("mnli", "sst2", "cb") and found.vectors.shape == (3, 4)
    name = "shared.hyperformerplusplus__hypernet.z.{}.weight"
    for task, run in (("mnli", parent), ("sst2", parent), ("cb", child)):
        kept = read_tensors(records.drawn_path("smoke", run))[1][name.format(task)]
        assert torch.equal(torch.from_numpy(found.vectors[found.tasks.index(task)]), kept)
    assert found.begun == {"cb": ("mnli", pytest.approx(found.distances[2, 0]))} and 0 < found.distances[2, 0] < 0.5
    assert embeddings.picture({0: found}) is not None
    assert "mnli" in repr(embeddings.shown({0: found}, source))
    assert records.drawn_path("smoke", parent).stat().st_size < 1000 < records.delta_path("smoke", parent).stat().st_size
    records.drawn_path("smoke", parent).unlink()
    assert embeddings.read(source, preset) == {} and embeddings.picture({}) is None
    assert set(embeddings.agreement({}).values()) == set(embeddings.stayed({}).values()) == {None}


def test_stand_ins_are_in_the_groups_of_what_they_stand_for():
    tasks = {task for run in grids.runs("hyperformer/figure3", "published") for task in run.tasks}
    assert "imdb_10k" in tasks and {suites.real(task) for task in tasks} <= {*embeddings.groups(), "trec"}


def test_neighbours_are_told_from_chance():
    tasks = tuple(embeddings.groups())[:10]  # three, and three pairs; and one of a pair
    kinds = [embeddings.groups()[task] for task in tasks]
    places = np.array([[10.0 * sorted(set(kinds)).index(kind), i] for i, kind in enumerate(kinds)]) * [1, 0.1]
    found = embeddings.agreement({0: Embeddings(tasks, places, {})})
    assert (found["n"], found["hits"], found["chance"]) == (9, 9, pytest.approx((3 * 2 + 6 * 1) / 9)) and found["p"] < 0.001
    random = np.random.default_rng(1)
    drawn = [embeddings.agreement({0: Embeddings(tasks, random.normal(size=(10, 8)), {})}) for _ in range(30)]
    assert np.mean([one["hits"] for one in drawn]) == pytest.approx(12 / 9, abs=0.7)
    assert np.mean([one["p"] < 0.05 for one in drawn]) < 0.3


def test_what_was_carried_over_counts_apart():
    tasks, places = ("mnli", "sst2", "imdb", "trec"), np.array([[0.0, 0], [4, 0], [4, 1], [4, 3]])
    one = Embeddings(tasks, places, {"imdb": ("sst2", 1.0), "trec": ("mnli", 5.0)})
    assert embeddings.stayed({0: one}) == {"n": 2, "near": 1, "moved": pytest.approx((1 / 4 + 5 / 4) / 2)}
    assert embeddings.agreement({0: one})["hits"] == 2
    assert embeddings.agreement({0: one}, carried=False)["n"] is None, "neither has another of its group beside it"


def test_most_of_the_papers_groups_are_how_it_began():
    assert embeddings.imposed() == {"pairs": 8, "begun": 6, "others": "cb and rte; mrpc and stsb"}
    assert len(paper_table("hyperformer", "figure3")) == 14


# --- cost -------------------------------------------------------------------------------------------------------------
def result(**ratios: float) -> dict:
    """A made-up benchmarks/results/hyperformer.json."""

    def cells(by_name):
        return {n: {"seconds": r / 10, "ratio": r, "low": r - 0.1, "high": r + 0.1} for n, r in by_name.items()}

    steps = {"T5": 1.0, "Adapters": 0.9, "Adapters†": 0.8, "HyperFormer": 1.2, "HyperFormer++": 0.7}
    grown = [{"tasks": n, "add_seconds": n / 8, "trained_alone": 64, "step": cells({"x": 1.25})["x"]} for n in (8, 999)]
    return {
        "batch": 2,
        "length": 8,
        "steps": 5,
        "precision": "fp32",
        "backbones": {
            "minilm": {
                "steps": cells(steps),
                "peak_bytes_of_steps": {name: 1000 * ratio for name, ratio in steps.items()},
                "answers": cells({"Houlsby": 1.0, "Adapters": 1.1, "baked": 1.21, "written": 1.5, "backbone": 0.9}),
                "growth": {"HyperFormer++": grown},
            }
        },
        "machine": {"device": "a CPU", "threads": 1, "cores": 2},
        "versions": {"torch": "2"},
        "date": "2026-01-01",
        "commit": "abc",
    }


@pytest.fixture
def measured(monkeypatch):
    kept = efficiency.benchmark(cost.ESTIMATED)
    for room in (cost, beyond):
        monkeypatch.setattr(room, "benchmark", lambda name: result() if name == "hyperformer" else kept)


def test_the_papers_ratios_are_its_own():
    assert cost.printed("table6").round(2).to_dict() == {
        "T5": 1,
        "Adapters†": 1.85,
        "HyperFormer": 1.44,
        "HyperFormer++": 1.3,
    }
    assert cost.printed("table5").round(3).to_dict() == {
        "T5": 1,
        "Adapters†": 0.767,
        "HyperFormer": 0.979,
        "HyperFormer++": 0.749,
    }


def test_cost_is_shown_beside_the_papers(measured):
    assert cost.fastest() == {"n": 3, "below": 3, "faster": 2, "plusplus": 0.7, "paper": pytest.approx(7.19 / 5.51)}
    assert "0.70 ± 0.10" in repr(cost.time_beside()) and "1.30" in repr(cost.time_beside())
    assert "measured, minilm" in repr(cost.memory_beside()) and cost.time_lines() is not None
    assert "HyperFormer++, baked" in repr(cost.served())
    assert cost.baked_over() == {
        "norm": pytest.approx(1.1),
        "met": "none",
        "missed": "minilm (21.0 %)",
        "plain": "minilm (10.0 %)",
    }
    assert "1.25" in repr(beyond.added()) and "124.88" in repr(beyond.added())


def test_time_is_estimated_on_both_sizes(measured):
    kept = efficiency.benchmark(cost.ESTIMATED)["backbones"]
    for size, backbone in (("Base", "t5-base"), ("Small", "t5-small")):
        ratio = kept[backbone]["HyperFormer++"]["flops"] / kept[backbone]["T5"]["flops"]
        assert cost._flops({"backbones": kept}, "HyperFormer++")[f"FLOPs, T5-{size}"] == ratio < 1
        assert f"FLOPs, T5-{size}" in repr(cost.time_beside())
    assert cost._flops(None, "T5") == {}


@pytest.mark.parametrize(("baked", "met"), [(1.02, True), (1.021, False)])
def test_backbones_that_miss_the_aim_are_named(baked, met, monkeypatch):
    found = result()
    found["backbones"]["t5-small"] = json.loads(json.dumps(found["backbones"]["minilm"]))
    found["backbones"]["minilm"]["answers"]["baked"]["ratio"] = baked
    monkeypatch.setattr(cost, "benchmark", lambda name: found)
    said = cost.baked_over()
    assert ("minilm" in said["met"], "minilm" in said["missed"]) == (met, not met) and "t5-small (21.0 %)" in said["missed"]


def test_nothing_measured_is_said(monkeypatch):
    for room in (cost, beyond):
        monkeypatch.setattr(room, "benchmark", lambda name: None)
    for page in (cost.time_beside, cost.memory_beside, cost.memory_parts, cost.served, beyond.added):
        assert "Not measured yet" in page().data
    assert cost.time_lines() is None and cost.fastest()["below"] is None and cost.baked_over()["norm"] is None
    assert cost.memory_order()["ours"] is None


def test_estimates_order_the_methods_as_the_paper_does():
    kept, found = efficiency.benchmark(cost.ESTIMATED), cost.memory_order()
    assert found["order"] == "the same order as" and found["off"] < 15 and found["ours"] > found["paper"]
    for backbone, rows in kept["backbones"].items():
        assert set(rows) == set(METHODS)
        for name, one in rows.items():
            assert canonical(one["method"]) == canonical(METHODS[name].format(r=REDUCTION)) and one["backbone"] == backbone
            trained = (
                shape(backbone).total if name == "T5" else counts.formula(METHODS[name], shape(backbone), counts.TASKS)
            )
            assert one["gradients"] <= 4 * trained and one["optimizer"] >= 2 * one["gradients"]


def test_turns_are_over_the_first_of_the_same_turn(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # as for a script that is started there
    spec = importlib.util.spec_from_file_location("benchmark_hyperformer", ROOT / "benchmarks" / "hyperformer.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    now = [0.0]
    monkeypatch.setattr(script.time, "process_time", lambda: now[0])

    def taking(*seconds):
        rest = iter(seconds)
        return lambda: now.__setitem__(0, now[0] + next(rest))

    slow = {"one": taking(9, 9, 1, 2, 4), "two": taking(1, 1, 3, 6, 12)}
    found = script.turns(slow, 3, torch.device("cpu"))
    assert found["one"] == {"seconds": 2, "ratio": 1, "low": 1, "high": 1}
    assert found["two"] == {"seconds": 6, "ratio": 3, "low": 3, "high": 3}
    names = [task.name for task in script.many(3)]
    assert len(set(names)) == 3 and set(script.METHOD) == set(METHODS)


# --- growth -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [name for name in METHODS if name != "T5"])
def test_what_grows_is_what_is_trained_and_stored(name):
    for tasks in (1, 8):
        found = count(METHODS[name].format(r=REDUCTION), "t5-small", tasks)
        assert beyond.needed(name, tasks, "t5-small") == found.trainable == found.stored


def test_growth_of_the_hypernetworks_is_an_embedding():
    found = beyond.growth("t5-base").set_index("method")
    assert (found.loc["HyperFormer", "one more"], found.loc["HyperFormer++", "one more"]) == (512, 64)
    assert found.loc["HyperFormer++", "1,000"] == 5_163_440 + 47_616 + 992 * 64
    for key, name in (("plusplus", "HyperFormer++"), ("hyperformer", "HyperFormer")):
        n = beyond.crossings("t5-base")[key]
        less = [
            beyond.needed(name, tasks, "t5-base") < beyond.needed("Adapters†", tasks, "t5-base") for tasks in (n - 1, n)
        ]
        assert less == [False, True]


# --- records ----------------------------------------------------------------------------------------------------------
def test_sides_of_zero():
    assert (
        beyond.side(Spread(1, None, 1, ends=(0.5, 2))) == "above"
        and beyond.side(Spread(-1, None, 1, ends=(-2, -0.5))) == "below"
    )
    assert beyond.side(Spread(1, None, 1, ends=(-0.5, 2))) == beyond.side(None) == "neither"
    assert beyond.side(Spread(1, None, 1, ("did not learn",), (0.5, 2))) == "neither"


def test_transfer_is_the_difference_of_rows_task_by_task():
    """Trained together, all rows are 0.2 above those trained alone on SST-2, and below on the others."""

    def score(run):
        return 0.9 if "sst2" in run.tasks and len(run.tasks) == 1 else 0.7 if len(run.tasks) > 1 else 0.95

    source = made("hyperformer/table1", score)
    found = beyond.transfer(source, "Base", "hyperformer/table1").set_index("what")
    assert {"cola", "qqp", "mnli"} < set(found.columns), "by the real tasks' names"
    cell = found.loc["adapters", "sst2"]
    assert cell.mean == pytest.approx(-20) and cell.ends[0] < -20 < cell.ends[1] < 0
    said = beyond.said_of_transfer(found.reset_index(), "adapters")
    assert "sst2" in said["below"] and said["above"] == "none"
    paper = beyond.printed("Base")
    assert paper.loc["full fine-tuning", "rte"] == pytest.approx(75.36 - 67.39)
    assert paper.loc["full fine-tuning", "average"] == pytest.approx(85.47 - 84.67)
    shown = repr(beyond.transfer_table(found.reset_index(), "Base", source))
    assert "-20.0 [" in shown and "+8.0" in shown
    assert beyond.transfer_figure(found.reset_index(), "Base") is not None
    nothing = beyond.transfer(made("hyperformer/table1", keep=lambda run: False), "Base", "hyperformer/table1")
    assert beyond.transfer_figure(nothing, "Base") is None and beyond.said_of_transfer(nothing, "adapters")["n"] is None


@pytest.mark.parametrize(("backbone", "tasks"), sharing.SIZES)
def test_hypernetworks_of_their_papers_would_leave_no_bottleneck(backbone, tasks):
    found = beyond.uncut(backbone, tasks)
    wanted = count(sharing.PLUSPLUS, backbone, tasks).trainable
    assert (found["adaptbert_cut"], found["hyperformer_cut"]) == (8, 2)
    assert (found["adaptbert_own"], found["hyperformer_own"]) == (AdaptBertHypernet().task_dim, HyperFormer().task_dim)
    own = count("AdaptBertHypernet(bottleneck=1) + LayerNormTuning()", backbone, tasks).trainable
    assert found["adaptbert"] == own / wanted
    assert found["hyperformer"] == count("HyperFormer(bottleneck=1)", backbone, tasks).trainable / wanted
    shown = repr(beyond.sizes(backbone, tasks))
    assert backbone in shown and sharing.schemes(backbone, tasks)["HyperFormer"] in shown


def test_schemes_are_compared_with_hyperformer_plus_plus():
    better, worse = "LoRA for all tasks", "HyperFormer"
    source = made("hyperformer/sharing", lambda run: {better: 0.95, worse: 0.6}.get(run.label, 0.8))
    found = beyond.sharing(source).set_index("scheme")
    assert found.loc[better, "gain"].mean == pytest.approx(15) and found.loc[sharing.BUDGET, "gain"] is None
    assert beyond.said_of_sharing(source) == {"n": 5, "above": 1, "below": 1, "level": 3}
    assert beyond.ladder(source) is not None and better in repr(beyond.sizes("minilm", 8))
    empty = made("hyperformer/sharing", keep=lambda run: False)
    assert beyond.ladder(empty) is None and beyond.said_of_sharing(empty)["n"] is None


@pytest.mark.parametrize("page", ["table5", "table6", "figure3", "sharing", "transfer", "growth"])
def test_pages_name_the_experiments_that_they_read(page):
    book = json.loads((ROOT / "notebooks" / "hyperformer" / f"{page}.ipynb").read_text())
    text = "".join("".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code")
    named = book["metadata"]["peftlib"]["experiments"]
    assert all(f'study.results("{name}"' in text for name in named) and text.count("study.results(") == len(named)
    assert (FOLDER / "hyperformer" / "sharing.py").is_file() and set(named) <= set(grids.experiments())
