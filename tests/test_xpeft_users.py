"""X-PEFT's users: which runs stand behind its figures, and what its pages make of records, masks and counts."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from real import needs_real_data, real_data

from peftlib import backbones, grids, records, study
from peftlib.accounting import BERT
from peftlib.backbones import weights_digest
from peftlib.data import members
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.grids import get_preset
from peftlib.model import Tuned
from peftlib.papers.xpeft import rows, users
from peftlib.papers.xpeft.pages import authors, curves, growth, served
from peftlib.records import Recipe, Run
from peftlib.tensorfiles import read_tensors
from peftlib.training.loop import Trainer


# --- runs -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["smoke", "quick", "published", "paper"])
def test_all_rows_of_figure_4_are_on_the_same_authors_and_others_made_the_bank(name):
    preset = get_preset(name).at("xpeft/authors")
    runs = users.authors(preset)
    (others,) = {run.tasks for run in runs}
    (parent,) = {parent for run in runs for parent in run.start}
    assert [run.label for run in runs if run.start] == [run.label for run in runs if "warm" in run.label]
    assert not set(others) & set(parent.tasks) and len(runs) == 8
    assert all(f"adapters={len(parent.tasks)}, " in run.method for run in runs if "XPEFT" in run.method)
    masks = {run.digest for run in grids.runs("xpeft/figure3", name)}
    assert masks and masks <= {run.with_seed(seed).digest for run in runs for seed in preset.seeds}


def test_authors_are_those_of_the_data():
    assert users.AUTHORS["embedded"] == tuple(members("authors"))


@needs_real_data("lamp")
def test_authors_are_those_of_the_real_data(monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(real_data("lamp")))
    assert users.AUTHORS["local"] == tuple(members("news_category", "local"))


def test_the_papers_authors_are_those_of_lamp2_in_a_local_folder():
    runs = grids.runs("xpeft/authors", "paper")
    assert {run.source for run in runs} == {"local"} and {len(run.tasks) for run in runs} == {173}
    assert {get_task(task).title for run in runs for task in run.tasks} == {get_task("authors").title}


@pytest.mark.parametrize("sizes", [(), (4,), (60, 3), (61, 3)])
def test_sizes_that_leave_nobody_are_refused(sizes):
    preset = dataclasses.replace(get_preset("quick"), sizes=sizes)
    with pytest.raises(UsageError, match="expected how many of the 60 authors of source 'embedded' make the bank"):
        users.authors_of(preset)


def test_deltas_of_masks_are_kept():
    preset = get_preset("quick")
    wanted = grids.runs("xpeft/figure3", preset)
    kept = grids.kept(preset)
    assert {parent.digest for run in wanted for parent in run.start} <= kept
    assert {run.digest for run in wanted} <= set(grids.drawn(preset)) - kept, "a few kilobytes of each"
    assert not {run.digest for run in grids.runs("xpeft/figure5", preset)} & (kept | set(grids.drawn(preset)))


# --- from the first training to the masks ---------------------------------------------------------------------------
@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Two authors make a bank, and three have masks over it, hard and soft."""
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    preset = dataclasses.replace(get_preset("smoke"), rows=None)
    recipe = Recipe(lr=1e-2, epochs=1, batch_size=8, max_length=16, precision="fp32")

    def run(method: str, authors: tuple[int, ...], label: str = "", start=()) -> Run:
        tasks = tuple(f"authors_{i}" for i in authors)
        return Run(method, tasks, "minilm[:1]", "embedded", recipe, 0, (8, 4, 8), label, start)

    parent = run(users.BANK.replace("48", "4"), (17, 2))
    profile = "HeadOnly(given='start') + PerTask(XPEFT(adapters=2, bottleneck=4, mask='{}', k=1, bank='start'))"

    def masks(_):
        return [run(profile.format(mask), (3, 5, 9), f"x_peft warm ({mask})", (parent,)) for mask in ("hard", "soft")]

    monkeypatch.setattr(grids, "presets", lambda: {"smoke": preset})
    monkeypatch.setattr(grids, "EXPERIMENTS", {"paper/masks": masks})
    monkeypatch.setattr(grids, "DRAWN", {"paper/masks": grids.DRAWN["xpeft/figure3"]})
    monkeypatch.setattr(grids, "experiments", lambda: grids.EXPERIMENTS)
    done, execute = [], study.execute
    monkeypatch.setattr(study, "execute", lambda p, r, *a: done.append(r.digest) or execute(p, r, *a))
    return SimpleNamespace(
        preset=preset, parent=parent, done=done, source=study.results("paper/masks", "smoke", progress=False)
    )


def test_a_bank_is_trained_once_for_all_profiles_over_it(trained):
    parent, source = trained.parent, trained.source
    assert trained.done == [parent.digest, *(record["digest"] for record in source)]
    given = records.delta_path("smoke", parent)
    assert all(record["start"] == {parent.digest: study.delta_digest(given)} for record in source)
    for record in source:
        run = records.run_of(record)
        trainer = Trainer(run, progress=False, given=[given])
        bank = trainer.model.fixed["xpeft__bank"]
        tensors = read_tensors(given)[1]
        for number, author in enumerate(("authors_17", "authors_2")):
            weight = tensors[f"backbone.encoder.layer.0.output.dense.edits.pfeifferffn.by_task.{author}.down.weight"]
            assert torch.equal(bank.A[0, number, : weight.numel()], weight.flatten())
        assert trainer.made_of["parts"]["xpeft__bank"] == weights_digest(bank)
        head = trainer.model.heads["authors_9"]
        assert torch.equal(head.weight, tensors["heads.authors_17.weight"]) and not head.weight.requires_grad
        assert record["counts"]["heads"] == 0


def test_masks_are_read_from_deltas_and_categories_from_rows(trained):
    hard, soft = (authors.masks(trained.source, trained.preset, f"x_peft warm ({mask})") for mask in ("hard", "soft"))
    for found in (hard, soft):
        assert found.authors == ("authors_3", "authors_5", "authors_9") and found.weights.shape == (3, 2, 1, 2)
        np.testing.assert_allclose(found.weights.sum(-1), 1, rtol=1e-6)
        assert set(found.majority) <= set(get_task("authors").labels) and ((found.share > 0) & (found.share <= 1)).all()
    assert set(hard.weights.ravel().tolist()) == {0.0, 1.0} and len(set(soft.weights.ravel().tolist())) > 2
    tensors = read_tensors(records.drawn_path("smoke", records.run_of(trained.source[1])))[1]
    expected = tensors["shared.xpeft__authors_5__profile.logits"].softmax(-1)
    np.testing.assert_allclose(soft.weights[1], expected.numpy())
    assert authors.map_of(hard) is not None and authors.heatmaps(soft) is not None
    records.drawn_path("smoke", records.run_of(trained.source[0])).unlink()
    assert authors.masks(trained.source, trained.preset, "x_peft warm (hard)") is None
    assert authors.map_of(None) is authors.heatmaps(None) is None and authors.alike(None)["p"] is None


# --- what is made of masks --------------------------------------------------------------------------------------------
def of_groups(apart: float, n: int = 24) -> authors.Masks:
    """Masks of authors of two categories, so far apart."""
    random = np.random.default_rng(1)
    kinds = tuple("ab"[i % 2] for i in range(n))
    weights = random.random((n, 2, 2, 5)) + apart * np.array([kind == "a" for kind in kinds])[:, None, None, None]
    return authors.Masks(tuple(map(str, range(n))), weights, kinds, np.full(n, 0.5))


def test_masks_are_alike_only_where_they_are():
    near, none = authors.alike(of_groups(1.0)), authors.alike(of_groups(0.0))
    assert near["same"] < near["other"] and near["p"] < 0.01 < 0.05 < none["p"]
    assert authors.alike(of_groups(1.0, n=2))["p"] is None  # no two of one category


def test_the_farthest_are_the_farthest():
    found = of_groups(0.0, n=6)
    found.weights[4] += 5
    found.weights[1] -= 5
    assert set(authors.farthest(found)) == {1, 4}


# --- what is made of records ------------------------------------------------------------------------------------------
def result(label: str, score: float, method: str = "HeadOnly()", seed: int = 0, loss: float = 1.0, **tests) -> dict:
    tests = tests or {"sst2": score, "mean": score}
    history = [{"epoch": 1, "train_loss": loss + 1, "examples": 8}, {"epoch": 2, "train_loss": loss, "examples": 8}]
    tasks = tuple(t for t in tests if t != "mean" and "." not in t)  # on rows of which no commonest label is known
    run = dataclasses.asdict(Run(method, tasks, "minilm", "local", Recipe(lr=1e-3), seed, (7, 7, 7), label))
    counts = {"stored": 10 * len(label), "trainable": 5, "heads": 3}
    return {"run": run, "test": tests, "validation": tests, "history": history, "counts": counts, "stored_bytes": 99}


def results(*found: dict) -> study.Results:
    wanted = [SimpleNamespace(label=r["run"]["label"], tasks=r["run"]["tasks"], digest=str(i)) for i, r in enumerate(found)]
    return study.Results(found, wanted)


def test_figure_4_is_over_authors_and_gains_are_paired():
    base = {"authors_1.accuracy": 0.2, "authors_2.accuracy": 0.8, "authors_1.macro_f1": 0.1, "authors_2.macro_f1": 0.3}
    better = {name: value + 0.1 for name, value in base.items()}
    tasks = {"authors_1": 0.0, "authors_2": 0.0}
    table = authors.figure4(results(result("one", 0, **tasks, **base), result("two", 0, **tasks, **better)), over="one")
    one, two = table.to_dict("records")
    assert (one["accuracy"].mean, one["macro F1"].mean, one["gain"]) == (pytest.approx(0.5), pytest.approx(0.2), None)
    low, high = one["accuracy"].ends
    assert high - 0.5 == pytest.approx(12.706 * 0.3, abs=0.01)  # Student's with one degree: sd / sqrt(2) = 0.3
    assert two["gain"].mean == pytest.approx(0.1) and np.ptp(two["gain"].ends) == pytest.approx(0, abs=1e-9)
    assert low < 0.5


def test_what_is_due_to_what_is_a_difference_of_rows():
    scores = {
        "x_peft (100 soft)": 0.8,
        "x_peft (100 hard)": 0.7,
        "masks fixed, all adapters alike": 0.75,
        "LayerNormTuning": 0.65,
        "head_only": 0.5,
    }
    due = served.due(results(*(result(label, score) for label, score in scores.items())))
    expected = {"whole": 0.3, "fixed": 0.25, "masks": 0.05, "hard": -0.05, "norms": 0.15}
    assert due == {name: pytest.approx(value) for name, value in expected.items()}
    assert served.due(results(result("head_only", 0.5)))["whole"] is None


def test_the_cheapest_of_those_that_are_near_the_best():
    source = results(result("a" * 9, 0.9), result("b" * 5, 0.885), result("c", 0.5))
    found = served.cheapest(source, within=0.02)
    assert (found["name"], found["bytes"], found["best"], found["best_bytes"]) == ("b" * 5, 4 * 53, "a" * 9, 4 * 93)
    table = served.side_by_side(source, base="c").set_index("row")
    assert table.loc["b" * 5, "bytes"] == 212 and table.loc["a" * 9, "gain"] == pytest.approx(0.4)


def test_losses_of_figure_5():
    losses = {
        "x_peft (100 soft)": 0.5,
        "x_peft (100 hard)": 0.6,
        "x_peft (400 soft)": 0.3,
        "x_peft (400 hard)": 0.55,
        "x_peft (100 soft), one mask": 0.65,
        "x_peft (100 hard), k = 10": 0.7,
        "x_peft (100 hard), k = 30": 0.5,
    }
    source = results(*(result(label, 0.5, loss=loss) for label, loss in losses.items()))
    found = curves.by_count(source)
    assert (found["fewest"], found["most"], found["soft"]) == (100, 400, pytest.approx(-0.2))
    assert found["hard"] == pytest.approx(-0.05) and found["above"] == pytest.approx(0.175)
    assert curves.by_one_mask(source) == {"soft": pytest.approx(0.15), "hard": None}
    assert curves.best_k(source) == {"k_100": 30, "k_200": None}
    assert [len(labels) for labels in curves.panels(source).values()] == [4, 3, 3, 0]
    assert curves.curves(source, curves.panels(source)) is not None


# --- growth -----------------------------------------------------------------------------------------------------------
def test_a_user_is_counted_at_what_the_delta_holds(tmp_path):
    for name, method, own in growth.WAYS[:-1]:
        with torch.device("meta"):
            model = Tuned(backbones.shape_only(BERT), method, [get_task("authors")])
        model.finish()
        heads = {n for n in model.delta() if n.startswith("heads.")}
        held = sum(
            -(-t.shape[-1] // 8) * t[..., 0].numel() if t.dtype == torch.bool else t.nbytes
            for n, t in model.delta().items()
            if own or n not in heads
        )
        assert growth.per_user(method, own, BERT) == held, name


def test_where_lines_cross():
    found = growth.crossings(BERT)
    mine = growth.per_user(*growth.WAYS[1][1:], BERT)
    for name, method in (("adapter", rows.ADAPTER), ("lora", "LoRA(rank=1)")):
        theirs = growth.per_user(method, True, BERT)
        n = found[name]
        assert growth.bank(BERT) + n * mine < n * theirs and growth.bank(BERT) + (n - 1) * mine >= (n - 1) * theirs
    assert growth.bank(BERT) == 100 * 894_528 * 4
    disk = growth.on_disk(BERT)
    assert (disk["y"] == disk["x"] * [growth.per_user(m, o, BERT) for _, m, o in growth.WAYS for _ in growth.USERS]).all()
