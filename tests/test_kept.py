"""What lies below all that is trained: found, run without dropout, and kept from step to step."""

import dataclasses

import numpy as np
import pytest
import torch
from test_training import Killed, kill_in, numbers, run
from tiny import build, inputs_of

from peftlib.training import kept
from peftlib.training.kept import Bottom
from peftlib.training.loop import EVAL_BATCH, Trainer

ENCODERS = ("bert", "xlm-roberta", "distilbert")
TWO_STACKS = ("t5", "mt5")
UPPER = "Layers(LoRA(rank=2), start=1)"
DECODER = "Layers(LoRA(rank=2), stack='decoder')"
UPPER_DECODER = "Layers(LoRA(rank=2), start=1, stack='decoder')"


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


@pytest.mark.parametrize("kind", TWO_STACKS)
@pytest.mark.parametrize(
    ("method", "heads", "text"),
    [
        ("LoRA(rank=2)", [], []),
        ("Full()", [], []),
        ("PromptTuning(length=3)", [], []),
        ("IntrinsicSAID(dimension=100)", [], []),
        (UPPER, [0], [0]),
        ("AdapterDrop(bottleneck=2, drop=1)", [0], [0]),
        ("AdapterDrop(bottleneck=2, drop=1, train_norms=True)", [], []),
        ("CrossAttentionTuning()", [1], [1]),
        (DECODER, [1], [1]),
        (UPPER_DECODER, [1, 2], [1]),
        ("LST(reduction=2, skip=0)", [0, 1, 2, 3], None),
        ("AttentionFusion()", [0, 1, 2, 3], None),
        (f"AttentionFusion() + {UPPER}", [0], None),
        (f"AttentionFusion() + {DECODER}", [0, 1], None),
    ],
)
def test_a_decoder_is_kept_behind_an_encoder_in_which_nothing_is_trained(kind, method, heads, text):
    """And only where it reads one token for the heads."""
    model = build(method, kind)
    bottom = Bottom(model)
    assert (len(bottom.blocks), bottom.wanted) == (max(heads, default=-1) + 1, heads)
    if text is not None:
        model.form = "text"
        bottom = Bottom(model)
        assert (len(bottom.blocks), bottom.wanted) == (max(text, default=-1) + 1, text)


BOTH = [
    *((kind, method) for kind in ENCODERS for method in (UPPER, "LST(reduction=2, skip=0)", "AttentionFusion()")),
    *(
        (kind, method)
        for kind in TWO_STACKS
        for method in (
            UPPER,
            "CrossAttentionTuning()",
            UPPER_DECODER,
            "LST(reduction=2, skip=0)",
            "AttentionFusion()",
            f"AttentionFusion() + {UPPER}",
        )
    ),
]


def kept_of(bottom, inputs):
    """The states of every row, without padding."""
    lengths, encoder = inputs["attention_mask"].sum(1), bottom.model.anatomy.shape.encoder_layers
    return {
        i: [state[: length if i < encoder else 1].clone() for state, length in zip(found, lengths, strict=True)]
        for i, found in bottom._run(inputs).items()
    }


def some(inputs, rows):
    lengths = inputs["attention_mask"].sum(1)
    return {name: t[rows][:, : lengths[rows].max()] for name, t in inputs.items()}


@pytest.mark.parametrize(("kind", "method"), BOTH)
@pytest.mark.parametrize("rows", [[2, 0, 1], [6, 4, 5], [7, 0]], ids=["long", "short", "mixed"])
def test_from_what_is_kept_outputs_and_gradients_are_the_same(kind, method, rows):
    model = build(method, kind)
    every = inputs_of("sst", kind)
    bottom, inputs = Bottom(model), some(every, rows)
    trained = [p for p in model.parameters() if p.requires_grad]

    def answer(states):
        with bottom.given(states, rows, inputs):
            outputs = model("sst", inputs)
        model.zero_grad()
        outputs.sum().backward()
        return [outputs, *(p.grad for p in trained if p.grad is not None)]

    first, states = answer(None), kept_of(bottom, every)
    for block in bottom.blocks:  # from now on whoever runs it is found out
        for p in block.parameters():
            p.fill_(torch.nan)
    for ours, theirs in zip(answer(states), first, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert answer(None)[0].isnan().all()  # and no longer than that


@pytest.mark.parametrize(("kind", "method"), BOTH)
def test_what_is_not_kept_is_run_without_dropout_too(kind, method):
    """Between the embeddings and the lowest trained place, and nowhere else."""
    model = build(method, kind)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model.anatomy.set_attention_dropout(0.5)
    bottom, inputs, rows = Bottom(model), inputs_of("sst", kind), list(range(8))
    states = kept_of(bottom, inputs)
    assert not model.training
    model.train()
    bottom.without_dropout()
    modes = [m.training for m in model.modules()]

    def answer(states, seed):
        torch.manual_seed(seed)
        with bottom.given(states, rows, inputs):
            return model("sst", inputs)

    torch.testing.assert_close(answer(None, 0), answer(states, 0))
    assert not torch.allclose(answer(states, 0), answer(states, 1))
    assert [m.training for m in model.modules()] == modes


def trained_with(method, monkeypatch, limit=kept.LIMIT, backbone="minilm[:2]", tasks=("sst", "sts"), **fields):
    """The outcome of a run, and how often the first block was run."""
    monkeypatch.setattr(kept, "LIMIT", limit)
    wanted = dataclasses.replace(
        run(method, tasks=tasks, limits=(24, 16, 16), **({"epochs": 3} | fields)), backbone=backbone
    )
    trainer, calls = Trainer(wanted, progress=False), []
    for module in trainer.model.backbone.modules():  # which the embedded T5 has none of
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    first = trainer.model.anatomy.at("attention.output", stack="encoder")[0]
    first.module.register_forward_hook(lambda *_: calls.append(None))
    return trainer.fit(), len(calls), trainer


RUNS = [
    (UPPER, {}),
    ("LST(reduction=2, skip=0)", {}),
    *(
        (method, {"backbone": "t5-embedded[:2]", "lr": 3e-3, "form": form})
        for method, form in (
            ("AdapterDrop(bottleneck=4, drop=1)", "heads"),
            ("CrossAttentionTuning()", "heads"),
            (UPPER_DECODER, "heads"),
            ("LST(reduction=2, skip=0)", "heads"),
            (UPPER, "text"),
            ("CrossAttentionTuning()", "text"),
        )
    ),
]


@pytest.mark.parametrize(("method", "fields"), RUNS)
def test_training_runs_it_once_a_row_and_ends_alike(method, fields, monkeypatch):
    ours, runs, trainer = trained_with(method, monkeypatch, **fields)
    sizes = [len(data) for split in trainer.data.values() for data in split.values()]
    assert runs == sum(-(-size // EVAL_BATCH) for size in sizes)
    again, all_runs, _ = trained_with(method, monkeypatch, limit=0, **fields)
    assert all_runs > 3 * runs
    for one, other in zip(ours.history, again.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        assert one["validation"] == pytest.approx(other["validation"], rel=1e-3)
    theirs = again.model.delta()
    for name, tensor in ours.model.delta().items():  # a part of a step, after twelve
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0.05 * trainer.recipe.lr)
    room = trainer.bottom.nbytes(trainer.data["train"]["sst"])
    _, some, small = trained_with(method, monkeypatch, limit=room, **fields)
    assert list(small.kept) == [("train", "sst")]
    assert runs < some < all_runs


@pytest.mark.parametrize(("method", "fields"), RUNS)
def test_as_many_bytes_are_kept_as_were_reckoned(method, fields, monkeypatch):
    _, _, trainer = trained_with(method, monkeypatch, epochs=2, **fields)
    for (split, name), states in trainer.kept.items():
        rows = [row for of in states.values() for row in of]
        assert sum(row.nbytes for row in rows) == trainer.bottom.nbytes(trainer.data[split][name])
        assert all(row.untyped_storage().nbytes() == row.nbytes for row in rows)  # no view of a whole batch
    assert len(trainer.kept) == 4


def test_written_answers_are_compared_from_what_is_kept(monkeypatch):
    """As ReCoRD asks for, which has no embedded data."""
    _, _, trainer = trained_with(
        "CrossAttentionTuning()", monkeypatch, backbone="t5-embedded[:2]", form="text", tasks=("sst2",)
    )
    rows, seen = trainer.data["validation"]["sst2"].in_order(EVAL_BATCH), []
    first = trainer.model.anatomy.at("attention.output", stack="encoder")[0]
    first.module.register_forward_hook(lambda *_: seen.append(None))
    trainer.model.eval()
    with torch.no_grad():
        ours = trainer._margins("validation", "sst2", rows)
        assert not seen
        trainer.kept = {}
        np.testing.assert_allclose(ours, trainer._margins("validation", "sst2", rows), rtol=1e-4, atol=1e-5)
    assert seen


@pytest.mark.parametrize("form", ["heads", "text"])
def test_killed_and_taken_up_again_a_decoder_gives_the_same_bits(form, tmp_path, monkeypatch):
    wanted = dataclasses.replace(
        run("CrossAttentionTuning()", tasks=("sst2",), limits=(32, 16, 16), form=form), backbone="t5-embedded[:1]"
    )
    whole, checkpoint = numbers(Trainer(wanted, progress=False).fit()), tmp_path / "checkpoint.pt"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, epoch=2)
        Trainer(wanted, checkpoint, progress=False).fit()
    resumed = Trainer(wanted, checkpoint, progress=False)
    assert numbers(resumed.fit()) == whole
    assert resumed.kept


def test_below_there_is_no_dropout_and_above_there_is(monkeypatch):
    _, _, trainer = trained_with(UPPER, monkeypatch)
    trainer.model.train()
    trainer.bottom.without_dropout()
    embeddings, (first, second) = trainer.model.backbone.embeddings, trainer.model.backbone.encoder.layer
    assert not any(m.training for part in (embeddings, first) for m in part.modules())
    assert all(m.training for m in second.modules())
    assert trainer.model.dropout.training


@pytest.mark.parametrize("kind", TWO_STACKS)
def test_a_stack_in_which_nothing_is_trained_has_no_dropout_behind_its_last_norm(kind):
    """It is the same module as the one behind the embeddings."""
    for method, still in (("CrossAttentionTuning()", True), (UPPER, False)):
        model = build(method, kind).train()
        Bottom(model).without_dropout()
        encoder, decoder = model.backbone.encoder, model.backbone.decoder
        assert encoder.dropout.training is not still and decoder.dropout.training
        assert encoder.block[1].training is not still and not encoder.block[0].training
        assert all(block.training for block in decoder.block)


def test_a_single_epoch_keeps_nothing(monkeypatch):
    _, _, trainer = trained_with(UPPER, monkeypatch, **{"epochs": 1})
    assert not trainer.kept
