"""What a penalty is told of its step: the batch, a second forward pass over it, and draws that a pass keeps."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from tiny import TASKS, backbone, build, inputs_of
from torch import nn
from torch.nn import functional as F

from peftlib.accounting.estimate import estimate
from peftlib.data.tasks import get_task
from peftlib.edits import Current, Edit
from peftlib.errors import UsageError
from peftlib.methods import METHODS, Method
from peftlib.methods.base import Step
from peftlib.model import Tuned
from peftlib.records import Recipe, Run
from peftlib.training.loop import Trainer

on_both = pytest.mark.parametrize("kind", ["bert", "t5"])
LABELS = torch.arange(8) % 2


class Shaken(Edit):
    """Multiplies by one plus noise, drawn in training under a name, and drops some of it out."""

    def __init__(self, current: Current, key: object, noise: float, dropout: float):
        super().__init__()
        self.current, self.key, self.noise, self.drawn = current, key, noise, []
        self.gain, self.dropout = nn.Parameter(torch.ones(())), nn.Dropout(dropout)

    def after(self, x, y):
        if not self.training:
            return y * self.gain
        self.drawn.append(self.current.draw(self.key, lambda: torch.randn((), device=y.device)))
        return y * self.dropout(self.gain + self.noise * self.drawn[-1].expand(y.shape[-1]))


@pytest.fixture
def steady():
    """A method that asks for the same outputs in two passes. shared: all blocks have one draw."""

    @dataclasses.dataclass(frozen=True)
    class Steady(Method):
        noise: float = 0.0
        dropout: float = 0.0
        shared: bool = False

        passes = 2
        near_identity = None

        def attach(self, at):
            for i, site in enumerate(at.anatomy.at("ffn.down")):
                at.edit(site, Shaken(at.current, 0 if self.shared else i, self.noise, self.dropout))

        def penalty(self, at, step):
            return F.mse_loss(step.outputs, step.again()) if at.task in (None, step.task) else None

    yield Steady
    del METHODS["Steady"]


def edits(model):
    return [edit for _, at in model.attachments for _, edit in at.edits]


def gradients(model, kind):
    torch.manual_seed(3)
    steps = [model.step(name, inputs_of(name, kind), LABELS) for name in TASKS]
    torch.stack([model.objective(step)[0] for step in steps]).sum().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


@on_both
def test_two_passes_differ_by_their_noise_alone(steady, kind):
    for method, differs in ((steady(), False), (steady(noise=0.5), True), (steady(dropout=0.5), True)):
        model = build(method, kind).train()
        step = model.step("sst", inputs_of("sst", kind), LABELS)
        whole, loss = model.objective(step)
        assert (model.penalty(step) > 0) == differs and (whole > loss) == differs
        assert torch.equal(step.outputs, step.again()) != differs


@on_both
def test_the_second_pass_has_gradients_of_its_own(steady, kind):
    model = build(steady(noise=0.5), kind).train()
    step = model.step("sst", inputs_of("sst", kind), LABELS)
    step.again().sum().backward()
    assert all(edit.gain.grad.abs() > 0 for edit in edits(model))


@on_both
@pytest.mark.parametrize("shared", [False, True])
def test_a_draw_lasts_for_a_pass(steady, shared, kind):
    model = build(steady(noise=0.5, shared=shared), kind).train()
    model.step("sst", inputs_of("sst", kind), LABELS)
    drawn = [edit.drawn for edit in edits(model)]
    assert all(len(passes) == 2 and passes[0] != passes[1] for passes in drawn)
    assert len({float(passes[0]) for passes in drawn}) == (1 if shared else len(drawn))


def test_outside_a_pass_each_draw_is_another():
    model = build("HeadOnly()", "bert")
    model("sst", inputs_of("sst", "bert"))
    assert [model.current.draw("a key", lambda n=n: n) for n in (1, 2)] == [1, 2]


@on_both
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("options", [{}, {"preserve_rng_state": False}], ids=str)
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_a_recomputed_block_draws_the_same(steady, shared, options, kind):
    """Dropout behind a draw as well, as long as torch keeps the state of its generator."""
    model = build(steady(noise=0.5, dropout=0.0 if options else 0.5, shared=shared), kind).train()
    expected = gradients(copy.deepcopy(model), kind)
    for reentrant in (True, False):
        again = copy.deepcopy(model)
        again.backbone.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant} | options)
        found = gradients(again, kind)
        for edit in edits(again):
            assert len(edit.drawn) == 2 * 2 * len(TASKS)  # two passes over a batch of each, and each block twice
            assert len({float(drawn) for drawn in edit.drawn}) == 2 * len(TASKS)
        for name, ours in expected.items():
            torch.testing.assert_close(found[name], ours, rtol=1e-5, atol=1e-6, msg=f"{name}, {reentrant=}")


def test_a_copy_of_another_task_asks_for_nothing(steady):
    from peftlib.methods import PerTask

    model = build(PerTask(steady(noise=0.5)), "bert").train()
    first, second = ([edit for _, edit in at.edits] for _, at in model.attachments)
    model.objective(model.step("quora", inputs_of("quora", "bert"), LABELS))
    assert all(not edit.drawn for edit in first) and all(len(edit.drawn) == 2 for edit in second)


def test_a_second_pass_that_no_method_asks_for_is_not_made(steady):
    model = build("LoRA(rank=2)", "bert").train()
    step = model.step("sst", inputs_of("sst", "bert"), LABELS)
    assert len(step.passed) == 1
    with pytest.raises(UsageError, match="no second forward pass was made for task 'sst': the method needs passes = 2"):
        step.again()


def test_the_estimate_counts_both_passes(steady):
    once, twice = (
        estimate(method, "minilm", batch=4, length=16, precision="fp32") for method in ("BitFit()", "BitFit() + Steady()")
    )
    assert twice.flops == pytest.approx(2 * once.flops, rel=0.02)
    assert twice.activations > 1.8 * once.activations and twice.optimizer < 1.01 * once.optimizer


def test_the_loop_tells_each_batch_and_its_step(monkeypatch):
    seen: list[Step] = []

    @dataclasses.dataclass(frozen=True)
    class Watching(Method):
        passes = 2

        def penalty(self, at, step):
            seen.append(step)
            return None

    recipe = Recipe(lr=1e-3, epochs=2, batch_size=4, accumulate=2, max_length=16, precision="bf16")
    run = Run("Watching() + HeadOnly()", ("sst", "quora"), "minilm[:1]", "embedded", recipe, limits=(16, 8, 8))
    trainer = Trainer(run, progress=False)
    try:
        trainer.fit()
    finally:
        del METHODS["Watching"]
    assert [step.index for step in seen] == [i // 2 + 4 * epoch for epoch in range(2) for i in range(8)]
    assert {step.total for step in seen} == {8} and {step.task for step in seen} == {"sst", "quora"}
    for step in seen:
        assert step.inputs.keys() >= {"input_ids", "attention_mask"} and "labels" not in step.inputs
        assert len(step.labels) == len(step.outputs) == len(step.again()) == 4
        assert not torch.equal(step.outputs, step.again())  # of dropout's other draws


def test_passes_of_a_backbone_alone():
    model = Tuned(backbone("bert"), "HeadOnly()", [get_task("sst")], dropout=0.0).eval()
    one, two = (model("sst", inputs_of("sst", "bert"), passes) for passes in (1, 2))
    assert two.shape == (2, *one.shape) and torch.equal(two[0], one) and torch.equal(two[1], one)
