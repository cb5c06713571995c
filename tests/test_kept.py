"""What lies below all that is trained: found, run without dropout, and kept from step to step."""

import dataclasses

import pytest
import torch
from test_training import run
from tiny import build, inputs_of

from peftlib.training import kept
from peftlib.training.kept import Bottom
from peftlib.training.loop import EVAL_BATCH, Trainer

ENCODERS = ("bert", "xlm-roberta", "distilbert")
UPPER = "Layers(LoRA(rank=2), start=1)"


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(
    ("method", "blocks", "wanted"),
    [
        ("LoRA(rank=2)", 0, []),
        ("BitFit()", 0, []),
        ("Full()", 0, []),
        ("PromptTuning(length=3)", 0, []),
        ("IntrinsicSAID(dimension=100)", 0, []),
        (UPPER, 1, [0]),
        (f"PerTask({UPPER})", 1, [0]),
        ("Layers(BitFit(), start=1)", 1, [0]),
        ("Layers(PrefixTuning(length=3), start=1)", 1, [0]),
        ("AdapterDrop(bottleneck=2, drop=1)", 1, [0]),
        ("LST(reduction=2, skip=0)", 2, [0, 1]),
        ("AttentionFusion()", 2, [0, 1]),
        (f"AttentionFusion() + {UPPER}", 1, [0]),
    ],
)
def test_it_ends_below_the_lowest_place_that_a_method_touches(kind, method, blocks, wanted):
    bottom = Bottom(build(method, kind))
    assert (len(bottom.blocks), bottom.wanted) == (blocks, wanted)


def test_blocks_that_hand_on_more_than_states_are_run():
    assert not Bottom(build("Layers(LoRA(rank=2), start=1)", "t5")).blocks


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("method", [UPPER, "LST(reduction=2, skip=0)", "AttentionFusion()"])
def test_from_what_is_kept_outputs_and_gradients_are_the_same(kind, method):
    model = build(method, kind)
    inputs, bottom = inputs_of("sst", kind), Bottom(model)
    lengths, rows = inputs["attention_mask"].sum(1), [2, 0, 1]
    inputs = {name: t[rows][:, : lengths[rows].max()] for name, t in inputs.items()}
    trained = [p for p in model.parameters() if p.requires_grad]

    def answer(states):
        with bottom.given(states, rows):
            outputs = model("sst", inputs)
        model.zero_grad()
        outputs.sum().backward()
        return [outputs, *(p.grad for p in trained if p.grad is not None)]

    first = answer(None)
    found = bottom._run(lambda: model.features(inputs))
    states = {i: [torch.empty(0)] * len(rows) for i in bottom.wanted}
    for place, row in enumerate(rows):
        for i in bottom.wanted:
            states[i][row] = found[i][place, : lengths[row]].detach()
    for block in bottom.blocks:  # from now on whoever runs it is found out
        for p in block.parameters():
            p.fill_(torch.nan)
    for ours, theirs in zip(answer(states), first, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert answer(None)[0].isnan().all()  # and no longer than that


def trained_with(method, monkeypatch, limit=kept.LIMIT, **fields):
    """The outcome of a run, and how often the first block was run."""
    monkeypatch.setattr(kept, "LIMIT", limit)
    wanted = dataclasses.replace(
        run(method, tasks=("sst", "sts"), limits=(24, 16, 16), **({"epochs": 3} | fields)), backbone="minilm[:2]"
    )
    trainer, calls = Trainer(wanted, progress=False), []
    first = trainer.model.backbone.encoder.layer[0]
    first.attention.output.register_forward_hook(lambda *_: calls.append(None))
    return trainer.fit(), len(calls), trainer


@pytest.mark.parametrize("method", [UPPER, "LST(reduction=2, skip=0)"])
def test_training_runs_it_once_a_row_and_ends_alike(method, monkeypatch):
    ours, runs, trainer = trained_with(method, monkeypatch)
    sizes = [len(data) for split in trainer.data.values() for data in split.values()]
    assert runs == sum(-(-size // EVAL_BATCH) for size in sizes)
    again, all_runs, _ = trained_with(method, monkeypatch, limit=0)
    assert all_runs > 3 * runs
    assert [h["train_loss"] for h in ours.history] == pytest.approx([h["train_loss"] for h in again.history], rel=1e-4)
    room = trainer.bottom.nbytes(trainer.data["train"]["sst"])
    _, some, small = trained_with(method, monkeypatch, limit=room)
    assert list(small.kept) == [("train", "sst")]
    assert runs < some < all_runs


def test_below_there_is_no_dropout_and_above_there_is(monkeypatch):
    _, _, trainer = trained_with(UPPER, monkeypatch)
    trainer.model.train()
    trainer.bottom.without_dropout()
    embeddings, (first, second) = trainer.model.backbone.embeddings, trainer.model.backbone.encoder.layer
    assert not any(m.training for part in (embeddings, first) for m in part.modules())
    assert all(m.training for m in second.modules())
    assert trainer.model.dropout.training


def test_a_single_epoch_keeps_nothing(monkeypatch):
    _, _, trainer = trained_with(UPPER, monkeypatch, **{"epochs": 1})
    assert not trainer.kept
