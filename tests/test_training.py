"""The training loop, and experiments made of its runs: the same numbers every time, nothing lost or done twice."""

import dataclasses
import functools
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import TASKS, build, inputs_of

from peftlib import edits, grids, provenance, records, report, study
from peftlib.batch import plan
from peftlib.edits import Edit
from peftlib.errors import UsageError
from peftlib.methods.reparametrized.lora import LowRank
from peftlib.records import Recipe, Run
from peftlib.report import suites
from peftlib.study import Incomplete
from peftlib.training import loop
from peftlib.training.loop import Diverged, Trainer, digest_of


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


def run(method="LoRA(rank=2)", tasks=("sst", "quora"), limits=(48, 32, 32), seed=0, label="", **recipe):
    given = {"lr": 1e-3, "epochs": 2, "batch_size": 16, "max_length": 32, "precision": "fp32"} | recipe
    return Run(
        method=method,
        tasks=tasks,
        backbone="minilm[:1]",
        source="embedded",
        recipe=Recipe(**given),
        seed=seed,
        limits=limits,
        label=label,
    )


def numbers(outcome):
    """All that must be the same; how long it took need not."""
    history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in outcome.history]
    return history, outcome.test, outcome.best_epoch, outcome.initial_digest, digest_of(outcome.model.delta())


def fit(wanted, checkpoint=None):
    return Trainer(wanted, checkpoint, progress=False).fit()


class Killed(BaseException):
    """What a kill looks like from inside."""


def kill_in(monkeypatch, epoch):
    """Let training stop in the middle of an epoch."""
    real = Trainer._step

    def step(self, optimizer, scheduler, number, total):
        if number == (epoch - 1) * self.steps_per_epoch + 1:
            raise Killed
        real(self, optimizer, scheduler, number, total)

    monkeypatch.setattr(Trainer, "_step", step)
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)


# --- the same numbers -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_seed_decides_every_bit(precision):
    wanted = run(precision=precision, limits=(32, 16, 16))
    first = numbers(fit(wanted))
    torch.rand(5)  # whatever was drawn before must not matter
    assert numbers(fit(wanted)) == first
    assert numbers(fit(dataclasses.replace(wanted, seed=1)))[3:] != first[3:]


@pytest.mark.parametrize(
    "method",
    [
        "PerTask(LoRA(rank=2, dropout=0.1))",
        "AdaLoRA(rank=3, target=1)",
        "FishMask(fraction=0.001, examples=8)",
        "GaLore(rank=8, gap=5, scale=1.0)",
        "PrefixTuning(length=3, mlp=8)",
        "AdaMix(bottleneck=2, experts=3)",
        "LST(reduction=2, skip=0)",
        "HeadOnly()",
        "HyperFormerPlusPlus(bottleneck=2)",
        "XPEFT(adapters=6, bottleneck=2, mask='hard', k=2)",
    ],
)
def test_killed_and_taken_up_again_gives_the_same_bits(method, tmp_path, monkeypatch):
    """HyperFormer++ draws the task of each batch and has a budget in steps; hard masks draw noise."""
    tasks = ("sst", "quora") if method.startswith(("PerTask", "HyperFormer")) else ("sts",)
    budget = {"epoch_steps": 4, "sampling": "temperature", "temperature": 10.0} if method.startswith("HyperFormer") else {}
    wanted, checkpoint = run(method, tasks=tasks, limits=(32, 16, 16), **budget), tmp_path / "checkpoint.pt"
    whole = numbers(fit(wanted))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, epoch=2)
        fit(wanted, checkpoint)
    assert checkpoint.is_file()
    resumed = Trainer(wanted, checkpoint, progress=False)
    seen = []
    epoch = resumed._epoch
    resumed._epoch = lambda number, *rest: (seen.append(number), epoch(number, *rest))[1]
    assert numbers(resumed.fit()) == whole
    assert seen == [2]
    assert [left.name for left in tmp_path.iterdir()] == ["checkpoint.pt"]  # until its record is written


def test_a_budget_in_steps_is_kept_whatever_there_is_of_data(tmp_path, monkeypatch):
    budget = {"epoch_steps": 5, "epochs": 2, "accumulate": 2, "sampling": "temperature", "temperature": 10.0}
    wanted, checkpoint = run("HeadOnly()", limits=(40, 16, 16), **budget), tmp_path / "checkpoint.pt"
    trainer = Trainer(wanted, checkpoint, progress=False)
    for epoch in (1, 2):
        schedule = trainer.schedule(epoch)
        assert len(schedule) == 5 * 2, "batches"
        for task in wanted.tasks:
            taken = [batch for name, batch in schedule if name == task]
            size = -(-40 // 16)
            for start in range(0, len(taken) - size + 1, size):  # every row once in each pass over the data,
                assert sorted(row for batch in taken[start : start + size] for row in batch) == list(range(40))
            assert len(taken) < 2 * size or taken[:size] != taken[size : 2 * size], "in another order each time"
    assert max(sum(name == task for name, _ in trainer.schedule(1)) for task in wanted.tasks) > 3
    whole = numbers(fit(wanted))
    assert [entry["epoch"] for entry in whole[0]] == [1, 2]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, epoch=2)
        fit(wanted, checkpoint)
    assert numbers(fit(wanted, checkpoint)) == whole


def test_a_checkpoint_that_saves_little_time_is_not_written(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        kill_in(monkeypatch, epoch=2)
        monkeypatch.setattr(loop, "SAVE_EVERY", 1000)
        fit(run(limits=(32, 16, 16)), tmp_path / "checkpoint.pt")
    assert not list(tmp_path.iterdir())


def test_a_run_that_lost_its_outcome_is_not_trained_again(tmp_path, monkeypatch):
    """After the last epoch, too, the checkpoint holds all there is."""
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)
    wanted, checkpoint = run("AdaLoRA(rank=3, target=1)", tasks=("sts",), limits=(32, 16, 16)), tmp_path / "checkpoint.pt"
    first = numbers(fit(wanted, checkpoint))
    monkeypatch.setattr(Trainer, "_epoch", lambda *a: pytest.fail("trained again"))
    assert numbers(fit(wanted, checkpoint)) == first


@pytest.fixture(scope="module")
def left_off(tmp_path_factory):
    """A run of one epoch, and the bytes of its checkpoint."""
    path, wanted = tmp_path_factory.mktemp("left") / "checkpoint.pt", run(tasks=("sst",), limits=(16, 16, 16), epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SAVE_EVERY", 0)
        fit(wanted, path)
    return wanted, path.read_bytes()


DAMAGES = {
    "empty": lambda whole: b"",
    "a text": lambda whole: b"no checkpoint",
    "its digest alone": lambda whole: whole[:32],
    "cut short": lambda whole: whole[:-1],
    "half of it": lambda whole: whole[: len(whole) // 2],
    "longer": lambda whole: whole + b"\0",
    "without its digest": lambda whole: whole[32:],
    "another digest": lambda whole: bytes(32) + whole[32:],
    **{
        f"a bit at {place:.0%}": lambda whole, place=place: _flipped(whole, int(len(whole) * place))
        for place in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
    },
}


def _flipped(whole: bytes, place: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_removed_with_a_word(damage, left_off, tmp_path, capsys):
    wanted, whole = left_off
    checkpoint = tmp_path / "checkpoint.pt"
    trainer = Trainer(wanted, checkpoint, progress=False)
    checkpoint.write_bytes(whole)
    assert trainer._read_checkpoint()["epoch"] == 1  # as long as it is whole
    checkpoint.write_bytes(damage(whole))
    capsys.readouterr()
    assert trainer._read_checkpoint() is None and not checkpoint.exists()
    assert capsys.readouterr().err == f"{checkpoint}: damaged; it is removed, and the run begins anew\n"


@pytest.mark.parametrize("part", ["run", "code", "data", "weights", "versions"])
def test_a_checkpoint_of_something_else_is_begun_anew(part, left_off, tmp_path, capsys, monkeypatch):
    """No run is of two codes, two data or two versions."""
    wanted, whole = left_off
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(whole)
    trainer = Trainer(wanted, checkpoint, progress=False)
    trainer.made_of[part] = "another"
    epochs, real = [], Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", lambda self, now, *rest: (epochs.append(now), real(self, now, *rest))[1])
    trainer.fit()
    assert epochs == [1] and f"of other {part}; it is removed, and the run begins anew" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_written_costs_no_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)
    (tmp_path / "folder").write_text("a file")
    wanted = run(tasks=("sst",), limits=(16, 16, 16))
    assert numbers(fit(wanted, tmp_path / "folder" / "checkpoint.pt")) == numbers(fit(wanted))
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_step_computes_with_the_weights_of_the_one_before(precision):
    """A cache of cast weights that outlives a step would give every learning rate the same losses."""
    preset = grids.get_preset("smoke")
    losses = [
        Trainer(grids.make_run(preset, "LoRA(rank=8)", ("sst2",), lr=lr, precision=precision), progress=False)
        .fit()
        .history[0]["train_loss"]
        for lr in (1e-4, 1e-2)
    ]
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.fixture(scope="module")
def said():
    """What a training says in a process of its own, with more environment variables than these: Accelerate reads its own
    once."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import torch; torch.set_num_threads(1); from test_training import *; "
        "import os; before = dict(os.environ); outcome = fit(run(tasks=('sst',), limits=(32, 16, 16), epochs=1)); "
        "assert all(os.environ[name] == value for name, value in before.items() if 'ACCELERATE' in name); "
        "print(numbers(outcome)[3:], outcome.test)"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}

    @functools.cache
    def said(*more):
        return subprocess.run(
            [sys.executable, "-c", code],
            env=clean | dict(more),
            cwd=records.root(),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout

    return said


@pytest.mark.parametrize(
    "variables",
    [
        {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
        {"ACCELERATE_MIXED_PRECISION": "fp64", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "x"},
        {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_MEGATRON_LM": "true"}
        | {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "ACCELERATE_TORCH_DEVICE": "meta", "ACCELERATE_USE_CPU": "perhaps"}
        | {"CUBLAS_WORKSPACE_CONFIG": ":0:0", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
    ],
    ids=lambda variables: ",".join(variables),
)
def test_the_shell_does_not_change_the_numbers(variables, said):
    assert said(*variables.items()) == said()


def test_the_callers_torch_does_not_change_the_numbers():
    wanted = run(tasks=("sst",), limits=(32, 16, 16), epochs=1)
    plain = numbers(fit(wanted))
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert numbers(fit(wanted)) == plain


@pytest.mark.parametrize("sampling, once", [("proportional", True), ("temperature", False)])
def test_proportional_epochs_take_every_example_once(sampling, once):
    trainer = Trainer(run(limits=(90, 16, 16), sampling=sampling, batch_size=7), progress=False)
    epochs = [trainer.schedule(epoch) for epoch in (1, 2)]
    for schedule in epochs:
        for task in ("sst", "quora"):
            rows = sorted(row for name, batch in schedule for row in batch if name == task)
            assert (rows == list(range(90))) is once
    assert epochs[0] != epochs[1]
    assert [name for name, _ in epochs[0]] != [name for name, _ in epochs[1]]


@pytest.mark.parametrize("batches, groups", [(4, [4]), (5, [4, 1]), (7, [4, 3])])
def test_a_step_is_the_mean_of_the_batches_it_has(batches, groups, monkeypatch):
    """The last step of an epoch, too, which may have fewer of them."""
    trainer = Trainer(
        run(tasks=("sst",), limits=(4 * batches, 16, 16), epochs=1, batch_size=4, accumulate=4), progress=False
    )
    shares = []
    monkeypatch.setattr(trainer.model, "loss", lambda *a: trainer.model.heads["sst"].bias.sum() * 0 + 1)
    monkeypatch.setattr(trainer.accelerator, "backward", lambda loss: shares.append(loss.item()))
    trainer._prepare(None)
    trainer.forward = trainer.model
    optimizer = trainer.model.optimizer(1e-3, 0.0)
    trainer._epoch(1, optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer), len(groups))
    assert shares == pytest.approx([1 / size for size in groups for _ in range(size)])


@pytest.mark.parametrize(
    "method",
    ["AdaLoRA(rank=3, target=2)", "DiffPruning()", "AdaMix(bottleneck=4)", "SparseAdapter(bottleneck=4, examples=8)"],
)
def test_what_is_trained_is_the_same_at_every_step(method, monkeypatch):
    """Whatever the phase: all whose gradients are clipped, and no other, are trained."""
    real, seen = Trainer._step, []

    def step(self, *given):
        real(self, *given)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        seen.append(list(map(id, trained)) == list(map(id, self.trained)))

    monkeypatch.setattr(Trainer, "_step", step)
    fit(run(method))
    assert len(seen) == 12 and all(seen)


def test_accumulated_batches_make_the_step_of_one_large_batch():
    """Without dropout, four batches of 4 change the weights as one of 16 does (equal lengths of batches apart)."""
    options = {"tasks": ("quora",), "limits": (16, 16, 16), "epochs": 1, "dropout": 0.0, "warmup": 0.0, "clip": 1e6}
    trainers = [
        Trainer(run(batch_size=16, **options), progress=False),
        Trainer(run(batch_size=4, accumulate=4, **options), progress=False),
    ]
    deltas = []
    for trainer in trainers:
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        deltas.append(trainer.fit().model.delta())
        assert trainer.steps_per_epoch == 1
    for name, tensor in deltas[0].items():
        # Adam's first step is the sign of the gradient: compare where the sign is not noise
        same = (tensor - deltas[1][name]).abs() < 1e-5
        assert same.float().mean() > 0.95, name


@pytest.mark.parametrize("form", ["AdaLoRA(rank=12, target=2)", "PerTask(AdaLoRA(rank=6, target=1))"])
def test_the_best_epoch_is_one_that_keeps_the_budget(form, monkeypatch):
    trainer = Trainer(run(form, epochs=3, limits=(48, 16, 16)), progress=False)
    scores = iter([0.9, 0.5, 0.4, 0.3])  # the best by far before the budget is reached; the last are the test's
    monkeypatch.setattr(trainer, "evaluate", lambda split: {"mean": next(scores)})
    outcome = trainer.fit()
    method = next(leaf for leaf, _ in outcome.model.attachments)
    total = 3 * trainer.steps_per_epoch
    assert method.budget(trainer.steps_per_epoch - 1, total, 1) > method.target
    assert outcome.best_epoch == 2 and outcome.validation == {"mean": 0.5}
    for _, at in outcome.model.attachments:
        assert sum(len(edit.E) for _, edit in at.edits) == method.target * len(at.edits)


def test_other_methods_may_end_at_any_epoch(monkeypatch):
    trainer = Trainer(run(epochs=2, limits=(16, 16, 16)), progress=False)
    scores = iter([0.9, 0.5, 0.3])
    monkeypatch.setattr(trainer, "evaluate", lambda split: {"mean": next(scores)})
    assert trainer.fit().best_epoch == 1


# --- stops and choices ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("epochs", [1, 3])
def test_an_absurd_learning_rate_stops_with_advice(epochs):
    wanted = run("Full()", tasks=("sts",), lr=9.9, epochs=epochs, warmup=0.0, limits=(16, 16, 16))
    trainer = Trainer(wanted, progress=False)
    for p in trainer.model.backbone.parameters():
        p.register_hook(lambda g: g * float("inf"))
    with pytest.raises(Diverged, match=r"Full\(\), learning rate 9.9\): lower the learning rate, or use precision"):
        trainer.fit()


def test_a_loss_that_is_no_number_is_named_with_its_place(monkeypatch):
    trainer = Trainer(run(tasks=("sst",)), progress=False)
    monkeypatch.setattr(trainer.model, "loss", lambda *a: trainer.model.heads["sst"].bias.sum() * float("nan"))
    with pytest.raises(Diverged, match="the loss is nan by batch 3 of epoch 1"):
        trainer.fit()


def test_weights_that_are_no_numbers_are_noticed_where_answers_are_written():
    wanted = dataclasses.replace(run("BitFit()", tasks=("sst2",), limits=(8, 8, 8), form="text"), backbone="t5-embedded")
    trainer = Trainer(wanted, progress=False)
    with torch.no_grad():
        next(p for p in trainer.model.parameters() if p.requires_grad).fill_(float("nan"))
    with pytest.raises(Diverged, match="trained weights are no finite numbers before answers on test are written"):
        trainer.evaluate("test")


@pytest.mark.parametrize("scores, best", [((0.2, 0.9, 0.5), 2), ((0.9, 0.2, 0.5), 1), ((0.1, 0.4, 0.4), 2)])
def test_the_best_epoch_on_validation_is_kept(scores, best):
    trainer = Trainer(run(tasks=("sst",), epochs=3, limits=(16, 16, 16)), progress=False)
    real, given, weights = trainer.evaluate, iter(scores), []

    def evaluate(split):
        if split == "validation":
            weights.append(digest_of(trainer.model.delta()))
            return {"sst": 0.0, "mean": next(given)}
        return real(split)

    trainer.evaluate = evaluate
    outcome = trainer.fit()
    assert outcome.best_epoch == best and outcome.validation["mean"] == scores[best - 1]
    assert digest_of(outcome.model.delta()) == weights[best - 1]
    assert len(set(weights)) == 3


# --- nothing that is not needed ---------------------------------------------------------------------------------------
def test_a_frozen_encoder_runs_once():
    calls = []
    wanted = {"epochs": 3, "limits": (16, 16, 16), "batch_size": 8}
    trainers = {method: Trainer(run(method, **wanted), progress=False) for method in ("HeadOnly()", "LoRA(rank=2)")}
    for method, trainer in trainers.items():
        trainer.model.backbone.register_forward_hook(lambda *a, m=method: calls.append(m))
        trainer.fit()
    tasks = 2  # of which each split fits into one evaluation batch
    assert calls.count("HeadOnly()") == 3 * tasks
    # LoRA: three epochs of two batches a task, validation after each, test at the end
    assert calls.count("LoRA(rank=2)") == tasks * (3 * 2 + 3 + 1)


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_nothing_below_the_lowest_trained_place_is_back_propagated(kind):
    model = build("HeadOnly()", kind)
    sites = {(s.stack, s.layer, s.name): s for s in model.anatomy.sites}
    stack = "decoder" if kind == "t5" else "encoder"
    linear = sites[stack, 1, "ffn.up"]
    edits.add(linear, "probe", LowRank(*linear.module.weight.shape[::-1], 2, 1.0, 0.0))
    flows = {}
    for place in ((stack, 0, "ffn.down"), (stack, 1, "attention.output"), (stack, 1, "ffn.up"), (stack, 1, "ffn.down")):
        sites[place].module.register_forward_hook(lambda m, a, y, p=place[1:]: flows.update({p: y.requires_grad}))
    model(TASKS[0], inputs_of(TASKS[0], kind)).sum().backward()
    assert flows == {(0, "ffn.down"): False, (1, "attention.output"): False, (1, "ffn.up"): True, (1, "ffn.down"): True}
    assert all(p.grad is None for n, p in model.backbone.named_parameters() if "probe" not in n)


def test_frozen_weights_are_cast_once():
    trainer = Trainer(run(precision="bf16", epochs=1), progress=False)
    trainer.fit()
    frozen = [p for p in trainer.model.backbone.parameters() if not p.requires_grad]
    assert frozen and all(p.dtype == torch.bfloat16 for p in frozen)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters() if p.requires_grad)


# --- records ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    grids.presets()  # checked against the true experiments
    monkeypatch.setattr(grids, "EXPERIMENTS", {})
    return tmp_path


def preset(**options):
    return dataclasses.replace(grids.get_preset("smoke"), precision="fp32", **options)


def grid(name, *methods):
    @grids.experiment(name)
    def rows(preset):
        return [grids.make_run(preset, method, tasks=("sst",), label=f"row {i}") for i, method in enumerate(methods)]


def test_the_precision_of_quick_is_the_machines_or_the_one_that_is_given(monkeypatch):
    quick = grids.get_preset("quick")
    for flags, expected in (({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({}, "fp32")):
        monkeypatch.delenv("PEFTLIB_PRECISION", raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        grids.native_precision.cache_clear()
        assert grids.make_run(quick, "LoRA()").recipe.precision == expected
    monkeypatch.setenv("PEFTLIB_PRECISION", "bf16")
    grids.native_precision.cache_clear()
    assert grids.make_run(quick, "LoRA()").recipe.precision == "bf16"
    assert grids.make_run(grids.get_preset("smoke"), "LoRA()").recipe.precision == "fp32"
    grids.native_precision.cache_clear()


@pytest.mark.parametrize(
    "method, rate",
    [
        ("LoRA(rank=64)", 4.0),
        ("LoRA(rank=8)", 2.0),
        ("BitFit()", 1.0),
        ("Houlsby(bottleneck=24)", 1.0),
        ("LoRA( rank=64,dropout=0 )", 4.0),
        ("LoRA(rank=8) + OutputLayer()", 2.0),
        ("LoRA() + FishMask(fraction=0.1)", 2.0),
    ],
)
def test_a_rate_is_that_of_the_expression_or_of_its_terms(method, rate):
    rates = {"default": 1.0, "LoRA": 2.0, "FishMask": 3.0, "LoRA(rank=64)": 4.0}
    assert preset(lr=rates).learning_rate(method) == rate


def test_a_preset_changes_by_paper_then_by_experiment():
    changed = preset(
        lr={"default": 1.0, "LoRA": 2.0},
        changes={"paper": {"epochs": 7, "seeds": [1, 2], "lr": {"LoRA": 3.0}}, "paper/table": {"epochs": 9}},
    )
    table, other = changed.at("paper/table"), changed.at("elsewhere/table")
    assert (table.epochs, table.seeds, table.lr) == (9, (1, 2), {"default": 1.0, "LoRA": 3.0})
    assert changed.at("paper/figure").epochs == 7
    assert other == changed


def test_what_a_backbone_changes_stands_between_a_paper_and_an_experiment():
    every = {"epochs": 5, "form": "text", "lr": {"LoRA": 4.0, "Full": 5.0}}
    changed = preset(
        lr={"default": 1.0, "LoRA": 2.0},
        backbones={"t5-embedded": every},
        changes={
            "paper": {"epochs": 7, "batch_size": 3, "lr": {"LoRA": 3.0}},
            "paper/table": {"backbone": "t5-embedded", "lr": {"Full": 6.0}},
            "other": {"backbone": "t5-embedded"},
        },
    )
    table, figure, other = (changed.at(name) for name in ("paper/table", "paper/figure", "other/table"))
    assert (table.epochs, table.batch_size, table.form) == (5, 3, "text")
    assert table.lr == {"default": 1.0, "LoRA": 4.0, "Full": 6.0}
    assert (figure.epochs, figure.form, figure.lr["LoRA"]) == (7, "heads", 3.0)
    assert (other.epochs, other.form, other.lr["Full"]) == (5, "text", 5.0)


def test_a_record_is_written_whole_and_once(tmp_path, monkeypatch):
    path = tmp_path / "runs" / "abc.json"
    monkeypatch.setattr(records.os, "replace", lambda *a: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        records.write(path, {"n": 0})
    assert not list(path.parent.iterdir())
    monkeypatch.undo()
    records.write(path, {"n": 1})
    records.write(path, {"n": 2})
    assert json.loads(path.read_text()) == {"n": 1}
    assert [p.name for p in path.parent.iterdir()] == ["abc.json"]


def test_the_digest_is_of_all_that_decides_the_outcome():
    base = run()
    others = [
        run("LoRA(rank=3)"),
        run(seed=1),
        run(lr=2e-3),
        run(limits=(48, 32, None)),
        run(tasks=("sst",)),
        run(precision="bf16"),
        dataclasses.replace(base, backbone="minilm"),
        dataclasses.replace(base, source="local"),
    ]
    assert len({r.digest for r in [base, *others]}) == 1 + len(others)
    assert run(label="another name").digest == base.digest


@pytest.mark.parametrize(
    "same",
    [
        {"weight_decay": 0},
        {"clip": 1},
        {"warmup": -0.0},
        {"lr": np.float64(1e-3)},
        {"epochs": np.int64(2)},
        {"method": " LoRA( rank = 2 )"},
        {"method": "LoRA(dropout=0, rank=2)"},
        {"tasks": ["sst", "quora"]},
        {"limits": [np.int64(48), 32, 32]},
        {"backbone": "models/mine/"},
        {"backbone": "models/mine//"},
    ],
    ids=str,
)
def test_runs_that_mean_the_same_have_one_digest(same):
    base = dataclasses.replace(run(weight_decay=0.0, clip=1.0, warmup=0.0), backbone="models/mine")
    whole = {k: v for k, v in same.items() if k in ("method", "tasks", "limits", "backbone")}
    recipe = dataclasses.replace(base.recipe, **{k: v for k, v in same.items() if k not in whole})
    other = dataclasses.replace(base, recipe=recipe, **whole)
    assert other.digest == base.digest


def test_a_folder_of_a_backbones_name_is_another_backbone():
    base = dataclasses.replace(run(), backbone="minilm")
    assert dataclasses.replace(base, backbone="minilm/").digest != base.digest


def test_a_record_under_the_digest_of_its_spelling_is_found(root):
    """Records are older than the rule that expressions of one meaning have one digest, and keep their names."""
    grid("paper/table", "LoRA(rank=8)")
    (wanted,) = grids.runs("paper/table", preset())
    assert wanted.digest != wanted.digest_as_spelt
    record = study.execute(preset(), wanted, progress=False)
    path = records.path_of("smoke", wanted.digest)
    old = records.path_of("smoke", wanted.digest_as_spelt)
    old.write_text(json.dumps(record | {"digest": wanted.digest_as_spelt}))
    path.unlink()
    (found,) = study.results("paper/table", preset(), progress=False)
    assert found["digest"] == wanted.digest and not path.exists() and records.find("smoke", wanted) == old
    assert plan.jobs("smoke") == [] or plan.jobs("smoke")[0].records == (old,)


def test_results_trains_what_is_missing_and_nothing_twice(root, monkeypatch):
    grid("paper/table", "HeadOnly()", "LoRA(rank=2)")
    first = study.results("paper/table", preset(), progress=False)
    assert [r["run"]["label"] for r in first] == ["row 0", "row 1"]
    for record in first:
        wanted = records.run_of(record)
        assert wanted.digest == record["digest"]
        assert records.path_of("smoke", record["digest"]).is_file()
        assert set(record["test"]) == {"sst", "mean"} and len(record["history"]) == 1
        assert record["stored_bytes"] >= 4 * (record["counts"]["stored"] + record["counts"]["heads"])
    monkeypatch.setattr(study, "execute", lambda *a: pytest.fail("trained again"))
    assert study.results("paper/table", preset(), progress=False) == first


def test_a_failing_run_costs_only_itself_and_is_named(root):
    grid("paper/table", "HeadOnly()", "PerTask(BitFit())", "LoRA(rank=2)")
    with pytest.raises(Incomplete, match=r"(?s)1 of 3 runs of paper/table failed:.*row 1: UsageError: .*PerTask"):
        study.results("paper/table", preset(), progress=False)
    found = study.results("paper/table", preset(), train=False)
    assert [r["run"]["label"] for r in found] == ["row 0", "row 2"]
    assert len(found.wanted) == 3
    (failed,) = (root / "_build" / "smoke" / "failed").rglob("*.txt")
    assert "Traceback" in failed.read_text()
    assert failed.stem == found.wanted[1].digest


def test_a_run_that_diverges_is_recorded_once_and_left_out_of_scores(root, monkeypatch, capsys):
    grid("paper/table", "HeadOnly()", "LoRA(rank=2)")
    fit = Trainer.fit

    def diverging(self):
        if self.run.method.startswith("LoRA"):
            self._stop("the loss is nan by batch 3 of epoch 1")
        return fit(self)

    monkeypatch.setattr(Trainer, "fit", diverging)
    found = study.results("paper/table", preset(), progress=False)
    assert "the loss is nan" in capsys.readouterr().err
    assert [r["run"]["label"] for r in found] == ["row 0"]
    assert [r["run"]["label"] for r in found.diverged] == ["row 1"] and len(found.wanted) == 2
    assert "lower the learning rate" in found.diverged[0]["diverged"] and "test" not in found.diverged[0]
    assert (
        report.presence(found)
        == report.presence(report.union(found, found))
        == "1 of 2 runs, ✕ 1 did not learn, 1 diverged"
    )
    assert report.presence(suites.only(found, ["sst"])) == "1 of 2 runs, ✕ 1 did not learn, 1 diverged"
    assert report.presence(suites.only(found, ["cola"])) == "0 of 0 runs"
    said = report.rerun("notebooks/x.ipynb", report.Page(preset(), False), found).data
    assert "1 diverged at its learning rate and has no scores" in said and "missing" not in said
    monkeypatch.setattr(study, "execute", lambda *a: pytest.fail("trained again"))
    assert len(study.results("paper/table", preset(), progress=False).diverged) == 1


@pytest.fixture
def finished(root):
    """An experiment of two runs that are done: their preset and the paths of their records."""
    grid("paper/table", "HeadOnly()", "LoRA(rank=2)")
    study.results("paper/table", preset(), progress=False)
    return preset(), [records.find("smoke", run) for run in grids.runs("paper/table", preset())]


def states():
    (row,) = plan.status("smoke")
    return {word: n for word, n in row.items() if n and word not in ("paper", "experiment", "changed")}


def test_a_damaged_record_is_left_out_counted_and_trained_again(finished, root, monkeypatch, capsys):
    smoke, (first, second) = finished
    whole = json.loads(first.read_text())
    cut = first.read_text()[:100]
    first.write_text(cut)
    read = study.results("paper/table", smoke, train=False)
    assert [r["run"]["label"] for r in read] == ["row 1"] and [run.label for run in read.damaged] == ["row 0"]
    assert str(first) in capsys.readouterr().err and first.read_text() == cut  # who only reads changes nothing
    assert read.only(lambda run: run.label == "row 1").damaged == []
    assert report.presence(read) == report.presence(report.union(read, read)) == "1 of 2 runs, ✕ 1 did not learn, 1 damaged"
    assert "1 has a damaged record" in report.rerun("notebooks/x.ipynb", report.Page(smoke, False), read).data
    assert states() == {"done": 1, "damaged": 1}
    again = study.results("paper/table", smoke, progress=False)
    assert [r["test"] for r in again] == [whole["test"], json.loads(second.read_text())["test"]] and not again.damaged
    (aside,) = (first.parent / "aside").iterdir()
    assert aside.read_text() == cut and str(aside) in capsys.readouterr().err
    assert states() == {"done": 2}


def test_a_batch_plans_to_train_a_damaged_record_again(finished, capsys):
    """Snakemake goes by whether files are there: what does not stand must be away before it looks."""
    _, (first, second) = finished
    first.write_text("{")
    plan.make_ready("smoke")
    (job,) = plan.jobs("smoke")
    assert job.records == (first, second) and not first.exists() and second.exists()
    assert (first.parent / "aside" / f"{first.stem}.1.json").read_text() == "{" and str(first) in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda record: record["data"]["test"].update(sst="0" * 64), "other data"),
        (lambda record: record.update(backbone_digest="0" * 64), "other weights"),
    ],
)
def test_a_record_of_other_inputs_is_not_the_answer(finished, root, change, word, monkeypatch, capsys):
    smoke, (first, _) = finished
    monkeypatch.setattr(provenance, "weight_files_digest", lambda name: provenance_of_minilm)
    provenance_of_minilm = json.loads(first.read_text())["backbone_digest"]
    assert states() == {"done": 2}
    record = json.loads(first.read_text())
    change(record)
    first.write_text(json.dumps(record))
    assert states() == {"done": 1, word: 1}
    assert len(study.results("paper/table", smoke, train=False)) == 2  # a page that only reads does not look at data
    study.results("paper/table", smoke, progress=False)
    assert states() == {"done": 2}
    (aside,) = (first.parent / "aside").iterdir()
    assert json.loads(aside.read_text()) == record and f"made from {word} than there are now" in capsys.readouterr().err


def test_data_and_weights_are_looked_at_again_only_when_their_files_change(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))
    assert provenance.data_digest("sst2", "test", "local", 5) is None  # not there: nothing is said of it
    model, table = tmp_path / "mine" / "model.safetensors", tmp_path / "glue" / "sst2" / "train.parquet"
    for path in (model, table):
        path.parent.mkdir(parents=True)

    def write(rows):
        model.write_text("weights " * rows)
        sentences = [f"a sentence {i}" for i in range(rows)]
        pd.DataFrame({"sentence": sentences, "label": [0, 1] * (rows // 2)}).to_parquet(table)
        weights = provenance.weight_files_digest(str(tmp_path / "mine[:2]"))
        return weights, provenance.data_digest("sst2", "train", "local", 5)

    first = write(40)
    assert None not in first and len(set(first)) == 2
    monkeypatch.setattr(provenance, "load_split", lambda *a, **k: pytest.fail("read again"))
    assert provenance.data_digest("sst2", "train", "local", 5) == first[1]
    monkeypatch.undo()
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))
    assert set(write(60)).isdisjoint(first)
    for kept in (tmp_path / "_build" / "kept").iterdir():
        kept.write_text("{")
    assert set(write(40)) == set(first)


def test_a_finished_run_outlives_a_records_folder_that_cannot_be_written(root, monkeypatch):
    """The checkpoint stays until the record is there; what cannot be written is refused before anything is trained."""
    grid("paper/table", "LoRA(rank=2)")
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)
    with monkeypatch.context() as patch, pytest.raises(Incomplete, match="No space left"):
        patch.setattr(records, "write", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        study.results("paper/table", preset(), progress=False)
    (left,) = (root / "_build" / "smoke" / "checkpoints").iterdir()
    monkeypatch.setattr(Trainer, "_epoch", lambda *a: pytest.fail("trained again"))
    (record,) = study.results("paper/table", preset(), progress=False)
    assert len(record["history"]) == 1 and not left.exists()
    assert states() == {"done": 1}


def test_a_folder_that_takes_no_records_is_refused_before_training(root, monkeypatch):
    grid("paper/table", "LoRA(rank=2)")
    (root / "data").mkdir()
    (root / "data" / "runs").write_text("a file")
    monkeypatch.setattr(Trainer, "__init__", lambda *a: pytest.fail("trained"))
    with pytest.raises(Incomplete, match="RecordError: .*records cannot be written there"):
        study.results("paper/table", preset(), progress=False)


@pytest.mark.parametrize(
    "given, precision, said",
    [
        ("bf16", "bf16", 'give the preset the precision "auto" or "fp32"'.capitalize()),
        ("auto", "bf16", "Unset PEFTLIB_PREC"),
        ("auto", "", None),
        ("fp32", "bf16", None),
    ],
)
def test_who_trains_bf16_without_the_instructions_is_told(root, monkeypatch, capsys, given, precision, said):
    monkeypatch.setattr(grids, "fast_precision", lambda: "fp32")
    monkeypatch.setenv("PEFTLIB_PRECISION", precision)
    grids.native_precision.cache_clear()
    grid("paper/table", "HeadOnly()")
    wanted = dataclasses.replace(preset(), precision=given)
    study.results("paper/table", wanted, progress=False)
    study.results("paper/table", wanted, progress=False)
    grids.native_precision.cache_clear()
    lines = [line for line in capsys.readouterr().err.splitlines() if "17 times slower" in line]
    assert len(lines) == (said is not None) and all(said.lower() in line.lower() for line in lines)


def test_a_killed_run_goes_on_from_its_last_epoch(root, monkeypatch):
    grid("paper/table", "LoRA(rank=2)")
    wanted = preset(epochs=3)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, epoch=3)
        study.results("paper/table", wanted, progress=False)
    assert not study.results("paper/table", wanted, train=False)
    (left,) = (root / "_build" / "smoke" / "checkpoints").iterdir()
    epochs, real = [], Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", lambda self, now, *rest: (epochs.append(now), real(self, now, *rest))[1])
    (record,) = study.results("paper/table", wanted, progress=False)
    assert epochs == [3] and len(record["history"]) == 3
    assert not left.exists()


def test_status_counts_done_missing_failed_and_stale(root):
    smoke = grids.get_preset("smoke")
    grid("paper/table", "HeadOnly()", "PerTask(BitFit())", "LoRA(rank=2)")
    assert states() == {"missing": 3}
    wanted = grids.runs("paper/table", smoke)
    with pytest.raises(Incomplete):
        study.run_missing("paper/table", smoke, wanted[:2], progress=False)
    assert states() == {"done": 1, "missing": 1, "failed": 1}
    path = records.path_of("smoke", wanted[0].digest)
    record = json.loads(path.read_text())
    assert record["code"] == provenance.code_digest(record["sources"])
    sources = record["sources"] | {"edits.py": "of another day", "forgotten.py": "12345678"}
    path.write_text(json.dumps(record | {"sources": sources}))
    assert states() == {"done": 1, "missing": 1, "failed": 1, "stale": 1}
    assert plan.status("smoke")[0]["changed"] == ["edits.py", "forgotten.py"]
    del record["sources"]
    path.write_text(json.dumps(record))
    assert states() == {"done": 1, "missing": 1, "failed": 1, "stale": 1}
    assert plan.status("smoke")[0]["changed"] == [provenance.NOT_KEPT]


def test_unknown_names_get_a_suggestion(root):
    grid("adaptbert/table3", "HeadOnly()")
    with pytest.raises(UsageError, match="did you mean 'adaptbert/table3'"):
        grids.runs("adaptbert/tabel3", "smoke")
    with pytest.raises(UsageError, match="unknown preset 'smok'"):
        grids.runs("adaptbert/table3", "smok")


def test_a_base_edit_changes_nothing():
    x, y = torch.ones(2, 3), torch.zeros(2, 4)
    assert Edit().before(x) is x and Edit().after(x, y) is y and not Edit().merge(torch.nn.Linear(3, 4))
    assert loop.EVAL_BATCH > 32  # what the count of calls above rests on
