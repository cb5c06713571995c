"""Text-to-text: a T5 that writes its answers, and the pretraining of the one that the book carries."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from peftlib import backbones, deltas, edits
from peftlib.accounting.counting import count
from peftlib.accounting.estimate import estimate, estimate_run, longest_batch
from peftlib.data import Examples, as_text, embedded, get_task
from peftlib.errors import DataError, UsageError
from peftlib.methods import parse
from peftlib.methods.selective.fish import _examples
from peftlib.model import Tuned
from peftlib.records import Recipe, Run
from peftlib.training.encoding import Encoded, _levelled
from peftlib.training.loop import Trainer
from tools.t5_embedded import imitation
from tools.t5_embedded import mixture as m
from tools.t5_embedded import spans as p

TINY = p.Pretraining(
    vocabulary=900,
    width=32,
    ffn=64,
    layers=2,
    decoder_layers=2,
    heads=2,
    length=40,
    density=0.15,
    batch=16,
    imitated=4,
    steps=30,
)
METHODS = [
    "Full()",
    "LoRA(rank=4) + OutputLayer()",
    "PerTask(Houlsby(bottleneck=8))",
    "BitFit() + OutputLayer()",
    "PrefixTuning(length=4, mlp=16)",
    "Compacter(bottleneck=8)",
]


@pytest.fixture(scope="module")
def texts():
    return p.corpus(names=(), seeds=(1,))[:1500]


@pytest.fixture(scope="module")
def folder(texts, tmp_path_factory):
    """A tiny T5 that was pretrained for a second."""
    where = tmp_path_factory.mktemp("backbones") / "t5-tiny"
    p.pretrain(texts, where, TINY, held_out=32, every=10, progress=False)
    return where


def run(folder, method="Full()", tasks=("sst",), limits=(48, 24, 24), **recipe):
    given = {"lr": 3e-3, "epochs": 2, "batch_size": 16, "max_length": 48, "precision": "fp32", "form": "text"} | recipe
    return Run(method, tasks, str(folder), "embedded", Recipe(**given), 0, limits)


def inputs(tokenizer, *rows):
    return dict(tokenizer(list(rows), padding=True, return_tensors="pt"))


# --- writing answers --------------------------------------------------------------------------------------------------
def test_it_learns_to_write_labels(folder):
    outcome = Trainer(run(folder, epochs=24, lr=2e-2), progress=False).fit()
    first, last = outcome.history[0], outcome.history[-1]
    assert last["train_loss"] < 0.5 * first["train_loss"]
    assert first["validation"]["unreadable"] > last["validation"]["unreadable"] == outcome.test["unreadable"] == 0
    assert outcome.test["sst"] > 0
    assert set(outcome.test) == {"sst", "mean", "unreadable"}


def test_an_untrained_model_writes_no_label_and_gets_no_point(folder):
    trainer = Trainer(run(folder, tasks=("sst", "sts")), progress=False)
    trainer._prepare(None)
    trainer.forward = trainer.model
    scores = trainer.evaluate("validation")
    assert scores["unreadable"] == 1 and scores["sst"] == 0 and scores["sts"] < 0


def test_a_task_of_two_metrics_shows_each_and_their_mean(folder):
    outcome = Trainer(run(folder, "LoRA(rank=4)", tasks=("mrpc",), epochs=1), progress=False).fit()
    assert set(outcome.test) == {"mrpc", "mrpc.accuracy", "mrpc.f1", "mean", "unreadable"}
    assert outcome.test["mrpc"] == pytest.approx((outcome.test["mrpc.accuracy"] + outcome.test["mrpc.f1"]) / 2)


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_loaded_it_writes_the_same(method, folder, tmp_path):
    trainer = Trainer(run(folder, method, tasks=("sst", "quora"), epochs=1, lr=1e-2), progress=False)
    model = trainer.fit().model.eval()
    assert not model.heads
    owned = {id(t) for _, at in model.attachments for t in at.tensors()}
    assert {id(t) for t in model.parameters() if t.requires_grad} == owned
    deltas.save(model, tmp_path / "delta.safetensors")
    loaded = deltas.load(tmp_path / "delta.safetensors", backbones.load(str(folder), "text").model)
    assert loaded.form == "text"
    given = inputs(trainer.tokenizer, "sst sentence: a fine film.", "sst sentence: it is long and dull.")
    given["answers"] = torch.tensor([[5, 6, 1], [7, 1, -100]])
    for task in ("sst", "quora"):
        assert torch.equal(model.write(task, given, 5), loaded.write(task, given, 5))
        with torch.no_grad():
            torch.testing.assert_close(loaded(task, given), model(task, given), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["LoRA(rank=4)", "BitFit()", "OutputLayer()"])
def test_merged_it_writes_the_same(method, folder):
    trainer = Trainer(run(folder, method, epochs=1, lr=1e-2), progress=False)
    model = trainer.fit().model.eval()
    given = inputs(trainer.tokenizer, "sst sentence: a fine film.") | {"answers": torch.tensor([[5, 6, 1]])}
    with torch.no_grad():
        before = model("sst", given)
        torch.testing.assert_close(model.merge()("sst", given), before, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(m, edits.Edited) for m in model.backbone.modules())


def test_the_loss_leaves_out_what_comes_after_an_answer(folder):
    model = Tuned(backbones.load(str(folder), "text").model, "Full()", [get_task("sst")], form="text").eval()
    ids = torch.tensor([[4, 5, 1]])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    short, padded = torch.tensor([[6, 1]]), torch.tensor([[6, 1, -100, -100]])
    losses = [model.loss("sst", model("sst", given | {"answers": a}), a) for a in (short, padded)]
    torch.testing.assert_close(*losses)


def test_training_the_output_layer_leaves_the_embeddings(folder):
    model = Tuned(backbones.load(str(folder), "text").model, "OutputLayer()", [get_task("sst")], form="text")
    assert model.backbone.lm_head.weight is not model.backbone.shared.weight
    assert torch.equal(model.backbone.lm_head.weight, model.backbone.shared.weight)
    assert model.backbone.lm_head.weight.requires_grad and not model.backbone.shared.weight.requires_grad


def test_a_run_with_heads_keeps_the_digest_it_always_had():
    heads = Run("LoRA()", ("sst",), "minilm", "embedded", Recipe(lr=1e-3))
    assert heads.digest == "988fcb96095800a4"
    assert dataclasses.replace(heads, recipe=Recipe(lr=1e-3, form="text")).digest != heads.digest


# --- what is too long -------------------------------------------------------------------------------------------------
LONG = {
    "boolq": ("is it so", "word by word " * 60),
    "copa": ("The dog ran home " * 20, "cause", "It was late " * 8, "It rained."),
    "mnli": ("He sold the piano " * 15, "The piano was sold " * 12),
    "wic": ("set", "A set " * 40, "They set out at dawn."),
}


def rows_of(name, *texts):
    return Examples(list(texts), np.zeros(len(texts), dtype=np.int64), list(texts), get_task(name), "train", "local", "")


@pytest.mark.parametrize("name", LONG)
def test_of_a_long_row_the_longest_text_is_cut(name, folder):
    tokenizer, task = backbones.load(str(folder), "text").tokenizer, get_task(name)
    short = tuple(f"{text.split()[0]}." for text in LONG[name])
    found = Encoded(rows_of(name, short, LONG[name], short), tokenizer, 48, "text")
    plain = tokenizer(as_text(task, short)).input_ids
    assert found.rows["input_ids"][0].tolist() == found.rows["input_ids"][2].tolist() == plain
    whole = len(tokenizer(as_text(task, LONG[name])).input_ids)
    assert 44 <= found.lengths[1] <= 48 < whole  # what is left of a word may be written in fewer tokens
    assert found.left_out == {"rows": 3, "rows_cut": 1, "tokens_cut": whole - found.lengths[1]}
    read = tokenizer.decode(found.rows["input_ids"][1], skip_special_tokens=True)
    positions = [read.index(f"{field}: ") for field in task.fields or task.texts]
    assert read.startswith(name) and positions == sorted(positions)
    sizes = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in LONG[name]]
    for text, size in zip(LONG[name], sizes, strict=True):
        if size < 5:
            assert f": {text}" in read, "a short text lost something, though another is longer"


def test_tokens_are_taken_from_the_largest_one_by_one():
    draw = np.random.default_rng(0)
    for _ in range(200):
        sizes = draw.integers(1, 30, draw.integers(1, 5)).tolist()
        lost, left = draw.integers(0, sum(sizes)), list(sizes)
        for _ in range(lost):
            left[int(np.argmax(left))] -= 1
        assert sorted(_levelled(sizes, sum(sizes) - lost)) == sorted(left)
        assert all(a <= b for a, b in zip(_levelled(sizes, sum(sizes) - lost), sizes, strict=True))


def test_any_text_can_be_cut(folder):
    """Characters that are several tokens, blanks at the cut, marks that belong to the character before them."""
    draw = np.random.default_rng(0)
    signs = list("ab .\u200b\u0301\u4e2d\U0001f926\U0001f3fd\u200d\t\u00e9-'")
    texts = [tuple("x" + "".join(draw.choice(signs, draw.integers(1, 90))) for _ in range(3)) for _ in range(60)]
    for name, form in ((str(folder), "text"), ("minilm", "heads")):
        found = Encoded(rows_of("wic", *texts), backbones.load(name, form).tokenizer, 30, form)
        assert found.lengths.max() == 30 and found.left_out["rows_cut"] > 20


def test_a_text_of_a_million_characters_is_cut_like_any_other(folder):
    tokenizer = backbones.load(str(folder), "text").tokenizer
    found = Encoded(rows_of("boolq", ("is it so", "a b " * 250_000)), tokenizer, 64, "text")
    assert found.lengths.tolist() == [64] and found.left_out["tokens_cut"] > 400_000


def test_one_text_or_two_are_cut_by_the_tokenizer():
    tokenizer = backbones.load("minilm").tokenizer
    for name in ("mnli", "boolq"):
        found = Encoded(rows_of(name, LONG[name], ("One.", "Two.")), tokenizer, 32)
        expected = tokenizer([LONG[name][0], "One."], [LONG[name][1], "Two."], truncation=True, max_length=32)
        assert [row.tolist() for row in found.rows["input_ids"]] == expected.input_ids
        assert found.left_out["rows_cut"] == 1


def test_an_encoder_reads_both_choices_of_copa_however_long_they_are():
    tokenizer = backbones.load("minilm").tokenizer
    found = Encoded(rows_of("copa", ("It rained.", "cause", "It was late " * 30, "Clouds came.")), tokenizer, 40)
    read = tokenizer.decode(found.rows["input_ids"][0])
    assert "what was the cause?" in read and "first : it was late" in read and read.endswith("second : clouds came. [SEP]")


def test_a_length_that_leaves_no_room_for_the_texts_is_refused(folder):
    with pytest.raises(UsageError, match=r"max_length=12 leaves a text of 4 without a token.*expected at least \d\d"):
        Encoded(rows_of("copa", LONG["copa"]), backbones.load(str(folder), "text").tokenizer, 12, "text")


def test_the_record_says_what_was_left_out(folder):
    wanted = [run(folder, "LoRA(rank=4)", tasks=("cfimdb",), epochs=1, max_length=length) for length in (40, 512)]
    short, whole = (Trainer(one, progress=False).fit() for one in wanted)
    assert short.left_out["train"]["cfimdb"]["rows"] == 48 and short.left_out["test"]["cfimdb"]["rows_cut"] == 24
    assert whole.left_out == {"train": {}, "validation": {}, "test": {}}


# --- answers longer than inputs, and how likely an answer is ----------------------------------------------------------
def test_fish_looks_at_answers_longer_than_their_inputs(folder):
    model = Tuned(backbones.load(str(folder), "text").model, "FishMask(fraction=0.01)", [get_task("sst")], form="text")
    ids, answers = torch.tensor([[7, 1, 0], [8, 9, 1]]), torch.tensor([[5, 6, 7, 8, 1], [5, 1, -100, -100, -100]])
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": answers, "answers": answers}
    found = list(_examples([("sst", batch)], 9))
    assert [example["input_ids"].shape for _, example in found] == [(1, 2), (1, 3)]
    assert all(example["answers"].shape == example["labels"].shape == (1, 5) for _, example in found)
    model.prepare([("sst", batch)])
    assert model.counts().trainable == parse("FishMask(fraction=0.01)").formula(model.anatomy.shape)


def test_record_is_scored_by_how_likely_its_answers_are(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))
    (tmp_path / "superglue" / "record").mkdir(parents=True)
    rows = {
        "passage": [f"{i} and Ada saw Bob." for i in range(30)],
        "query": ["@placeholder left."] * 30,
        "entities": [["Ada", "Bob"]] * 30,
        "answers": [["Bob"], ["Ada"], ["Ada"]] * 10,
        "idx": [{"passage": i, "query": i} for i in range(30)],
    }
    for split in ("train", "validation"):
        pd.DataFrame(rows).to_parquet(tmp_path / "superglue" / "record" / f"{split}.parquet")
    trainer = Trainer(dataclasses.replace(run(folder, tasks=("record",), limits=(4, 2, 6)), source="local"), progress=False)
    trainer.forward, model, data = trainer.model, trainer.model.eval(), trainer.data["test"]["record"]
    order = data.in_order(5)
    with torch.no_grad():
        found = trainer._margins("test", "record", order)
        for margin, row in zip(found, np.concatenate(order), strict=True):
            losses = {}
            for word in ("True", "False"):
                answer = trainer.tokenizer(word, return_tensors="pt").input_ids
                loss = model.loss("record", model("record", data.batch([row]) | {"answers": answer}), answer)
                losses[word] = loss.item() * answer.shape[1]
            assert margin == pytest.approx(losses["False"] - losses["True"], abs=1e-4)
    right = torch.where(data.labels == 1, 2.0, 1.0).numpy()
    monkeypatch.setattr(trainer, "_margins", lambda split, name, rows: right[np.concatenate(rows)])
    scores = trainer.evaluate("test")
    assert scores["record.entity_em"] == 1 and scores["unreadable"] == 1  # nothing that it writes is an answer yet


# --- what cannot be done is refused before it costs -------------------------------------------------------------------
def test_nothing_to_train_is_refused(folder):
    with pytest.raises(UsageError, match=r"HeadOnly\(\) trains nothing in form 'text'.*OutputLayer"):
        Trainer(run(folder, "HeadOnly()"), progress=False)


@pytest.mark.parametrize(
    "call", [lambda: backbones.load("minilm", "text"), lambda: backbones.shape_only("bert-base-uncased", "text")]
)
def test_an_encoder_cannot_write(call):
    with pytest.raises(UsageError, match="cannot write text: form 'text' needs an encoder-decoder"):
        call()


def test_a_backbone_without_a_language_model_head_cannot_write():
    with pytest.raises(UsageError, match=r"backbones.load\(name, form='text'\)"):
        Tuned(backbones.shape_only("t5-small"), "LoRA()", [get_task("sst")], form="text")


# --- counts and estimates ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "expected"), [("BitFit()", 248_832 + 32_128), ("OutputLayer()", 32_128 * 768), ("Full()", 222_903_552)]
)
def test_counts_with_the_language_model_head(method, expected):
    found = count(method, "t5-base", form="text")
    assert found.trainable == expected == parse(method).formula(backbones.anatomy_of("t5-base", "text").shape)
    assert found.heads == 0 and found.total == 222_903_552


def test_estimates_see_the_answers_and_the_vocabulary(folder):
    head, text = (estimate("LoRA()", "t5-base", 32, 64, answer=n) for n in (0, 8))
    assert text.activations - head.activations > 32 * 8 * 32_128 * 2  # logits at least in bf16
    assert text.flops > head.flops
    trainer = Trainer(run(folder), progress=False)
    batch, length, answer = longest_batch(trainer)
    assert answer == trainer.longest_answer["sst"] > 1
    assert estimate_run(trainer.run, (batch, length, answer)) > 0


@pytest.mark.parametrize("method", ["Full()", "PHMAdapter(n=4, bottleneck=8)"])
def test_a_backbone_stored_in_bf16_is_estimated_as_it_is_loaded(method, folder):
    found = estimate(method, str(folder), 4, 16, "fp32", answer=3)
    assert found.weights >= 4 * backbones.load(str(folder), "text").model.num_parameters()


# --- span corruption --------------------------------------------------------------------------------------------------
def test_a_corrupted_row_holds_every_token_once(folder):
    tokenizer, row = backbones.load(str(folder), "text").tokenizer, np.arange(300, 340)
    sentinels = np.array(tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(TINY.sentinels)]))
    source, target = p.corrupt(row, TINY, sentinels, 1, np.random.default_rng(0))
    assert source[-1] == target[-1] == 1
    assert sorted([*source[:-1], *target[:-1]]) == sorted([*row, *sentinels[:2], *sentinels[:2]])
    assert len(target) == 6 + 2 + 1  # 15% of 40 in spans of 3, a sentinel before each, the end
    pieces = {}
    for side in (source[:-1], target[:-1]):  # every sentinel in the input is where its span of the target was
        last = None
        for token in side:
            last = token if token in sentinels else last
            pieces.setdefault((side is target[:-1], last), []).append(token)
    rebuilt = [t for t in source[:-1] if t not in sentinels[:2]] + [t for t in target[:-1] if t not in sentinels[:2]]
    assert sorted(rebuilt) == row.tolist()


def test_spans_are_every_way_equally_likely():
    draw = np.random.default_rng(0)
    ways = [tuple(p.lengths(4, 2, draw)) for _ in range(3000)]
    assert {way: round(ways.count(way) / 3000, 1) for way in set(ways)} == {(1, 3): 0.3, (2, 2): 0.3, (3, 1): 0.3}


def test_pretraining_learns_and_says_what_it_did(folder):
    report = json.loads((folder / "pretraining.json").read_text())
    assert [entry["step"] for entry in report["history"]] == [10, 20, 30]
    for loss in ("train_loss", "imitation", "held_out_loss"):
        assert report["history"][-1][loss] < report["history"][0][loss], loss
    assert report["tokens"] == 30 * 16 * 40 and report["parameters"] > 0
    model = backbones.load(str(folder), "text").model
    assert model.dtype == torch.float32 and model.num_parameters() == report["parameters"]


def test_pretraining_killed_and_taken_up_again_gives_the_same_weights(texts, folder, tmp_path, monkeypatch):
    step, calls = p._step, []

    def dying(*given):
        calls.append(1)
        if len(calls) == 17:
            raise KeyboardInterrupt
        return step(*given)

    monkeypatch.setattr(p, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        p.pretrain(texts, tmp_path / "again", TINY, held_out=32, every=10, progress=False)
    assert not (tmp_path / "again").exists()
    p.pretrain(texts, tmp_path / "again", TINY, held_out=32, every=10, progress=False)
    assert len(calls) == 17 + 20
    assert [f.name for f in tmp_path.iterdir()] == ["again"]
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_pretraining_without_a_teacher_starts_at_random_and_says_nothing_of_it(texts, tmp_path):
    recipe = dataclasses.replace(TINY, imitated=0, steps=2)
    report = p.pretrain(texts, tmp_path / "alone", recipe, held_out=32, progress=False)
    assert set(report["history"][-1]) == {"step", "train_loss", "held_out_loss"}


# --- imitation --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def teacher():
    return backbones.load(imitation.TEACHER)


def test_word_vectors_start_as_the_teachers_turned(folder, teacher):
    tokenizer = backbones.load(str(folder), "text").tokenizer
    found = imitation.vectors(tokenizer, teacher, 384)
    known = teacher.tokenizer.get_vocab()
    pieces = [piece for piece in tokenizer.get_vocab() if piece[0] == "▁" and piece[1:].lower() in known]
    assert len(pieces) > 100 and {"▁the", "▁The"} < set(pieces)
    mine = found[tokenizer.convert_tokens_to_ids(pieces)]
    theirs = teacher.model.embeddings.word_embeddings.weight[[known[piece[1:].lower()] for piece in pieces]]
    apart, there = torch.cdist(mine, mine), torch.cdist(theirs, theirs)
    assert torch.allclose(apart / apart.max(), there / there.max(), atol=1e-3)  # one turn and one scale for all
    assert found.square().mean() == pytest.approx(1, rel=1e-4)
    narrow, wide = imitation.vectors(tokenizer, teacher, 16), imitation.vectors(tokenizer, teacher, 400)
    assert narrow.shape[1] == 16 and not wide[:, 384:].any()
    near = torch.nn.functional.cosine_similarity(narrow, found[:, :16], dim=1)
    assert torch.allclose(near, torch.ones(len(near)), atol=1e-3)  # the components that say most come first


def test_both_read_the_same_words_whatever_their_pieces(folder, teacher):
    rows = [["The", "unhappy", "nurse's", "2.6", "ambassador."], ["Hm", "\u200b", "yes"]]
    for tokenizer in (teacher.tokenizer, backbones.load(str(folder), "text").tokenizer):
        inputs, numbers = imitation._words(tokenizer, rows)
        assert numbers.shape == inputs["input_ids"].shape
        assert {0, 1, 2, 3, 4, 5, 7} <= set(numbers.unique().tolist()) <= set(range(-1, 8))
        assert (numbers[inputs["attention_mask"] == 0] == -1).all() and numbers.max(dim=1).values.tolist() == [4, 7]


def test_states_of_a_word_are_the_mean_over_its_pieces():
    states = torch.tensor([[[9.0], [1.0], [3.0]], [[5.0], [9.0], [9.0]]])
    numbers = torch.tensor([[-1, 0, 0], [1, -1, -1]])
    assert imitation._pool(states, numbers, 3).flatten().tolist() == [2, 5, 0]  # the third word has no piece


def test_a_finished_backbone_is_never_overwritten(texts, folder):
    with pytest.raises(UsageError, match="never overwritten"):
        p.pretrain(texts, folder, TINY)


@pytest.mark.parametrize(
    "wrong", [{"vocabulary": 100}, {"density": 0.9}, {"heads": 3}, {"sentinels": 1}, {"steps": 0}, {"imitated": -1}]
)
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        dataclasses.replace(TINY, **wrong)


def test_too_little_text_is_refused(tmp_path):
    with pytest.raises(UsageError, match="too few to hold out"):
        p.pretrain(["a short text about nothing"] * 30, tmp_path / "t5", TINY, progress=False)


def test_a_missing_corpus_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"lm/gutenberg/train.parquet: no such file"):
        p.corpus()


# --- the mixture of tasks that follows --------------------------------------------------------------------------------
MIX = m.Mixture(tasks=("sst2", "copa"), seeds=(1,), length=40, batch=16, steps=12, lr=3e-3)


@pytest.fixture(scope="module")
def mixed(folder, tmp_path_factory):
    """The tiny T5 after a dozen steps of the mixture."""
    where = tmp_path_factory.mktemp("backbones") / "t5-mixed"
    m.pretrain(folder, where, MIX, held_out=16, every=4, progress=False)
    return where


def test_no_sentence_of_the_embedded_suite_is_in_the_mixture():
    drawn = m.examples(dataclasses.replace(MIX, tasks=("sst2", "copa", "mnli")))
    assert all(len(pairs) > 800 for pairs in drawn.values())
    for name, pairs in drawn.items():
        task, inputs = get_task(name), "\n".join(text for text, _ in pairs)
        for split in embedded.SIZES[name]:
            for column in task.texts:
                sentences = embedded.generate(name, split)[column]
                assert not [s for s in sentences if " " in s and f": {s} " in inputs + " "]
        assert {said for _, said in pairs} == set(task.words)


def test_an_epoch_of_the_mixture_is_every_row_once_and_one_begun_later_goes_on_the_same():
    rows = [(np.full(3 + i % 5, i), np.array([7, 1])) for i in range(40)]
    whole, later = (list(m.batches(rows, MIX, 0, first)) for first in (0, 7))
    assert len(whole) == 12 and len(later) == 5
    assert sorted(int(row[0]) for inputs, _ in whole[:3] for row in inputs) == list(range(40))
    for a, b in zip(whole[7:], later, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_mixture_says_what_it_did(folder, mixed):
    report, before = (json.loads((where / "pretraining.json").read_text()) for where in (mixed, folder))
    history = report["mixture"]["history"]
    assert {k: v for k, v in report.items() if k != "mixture"} == before
    assert [entry["step"] for entry in history] == [4, 8, 12] and set(history[0]["accuracy"]) == {"sst2", "copa"}
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert sorted(f.name for f in mixed.parent.iterdir()) == ["t5-mixed"]


def test_answers_count_only_when_every_token_is_right(folder, monkeypatch):
    said = torch.tensor([[5, 6, 1], [5, 1, 9], [5, 7, 1], [4, 1, 9]])  # what is likeliest; after an answer's end, anything
    monkeypatch.setattr(p, "forward", lambda model, batch: SimpleNamespace(logits=torch.nn.functional.one_hot(said, 10)))
    rows = [(np.array([3, 1]), np.array(answer)) for answer in ([5, 6, 1], [5, 1], [5, 6, 1], [5, 1])]
    assert m.accuracy(backbones.load(str(folder), "text").model, rows) == 0.5


@pytest.mark.parametrize("wrong", [{"tasks": ("multirc",)}, {"seeds": (0, 1)}, {"seeds": ()}, {"lr": 0.0}])
def test_impossible_mixtures_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        dataclasses.replace(MIX, **wrong)


def test_a_finished_mixture_is_never_overwritten(folder):
    with pytest.raises(UsageError, match="never overwritten"):
        m.pretrain(folder, folder, MIX)
