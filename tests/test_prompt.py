"""Prompt tuning: what a backbone is given, position by position, and its outputs against Hugging Face `peft`."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import writing_t5 as t5
from transformers import BertConfig, DistilBertConfig, RobertaConfig

from peftlib import backbones, edits
from peftlib.anatomy import Anatomy
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.methods import PromptTuning
from peftlib.model import Tuned

TASKS = [get_task("sst"), get_task("quora")]
IDS = torch.tensor([[5, 9, 13, 17, 21, 25], [6, 10, 14, 18, 1, 1], [7, 11, 1, 1, 1, 1]])
MASK = (IDS > 1).long()
TARGET = torch.tensor([[0, 8, 12, 16], [0, 9, 13, 17], [0, 10, 14, 18]])
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "bert": lambda: BertConfig(vocab_size=40, max_position_embeddings=20, **SMALL),
    "roberta": lambda: RobertaConfig(vocab_size=40, max_position_embeddings=22, type_vocab_size=1, pad_token_id=1, **SMALL),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=40, dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=20
    ),
}
on_encoders = pytest.mark.parametrize("kind", CONFIGS)


def encoder(kind: str = "bert") -> torch.nn.Module:
    torch.manual_seed(0)
    model = backbones.from_config(CONFIGS[kind]()).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)  # large enough that a wrong mask or position shows
    return model


def tuned(backbone: torch.nn.Module, expression: str = "PromptTuning(length=3)", pooling: str = "mean") -> Tuned:
    torch.manual_seed(1)
    return Tuned(backbone, expression, TASKS, pooling=pooling).eval()


def prompts(model: Tuned) -> list[torch.Tensor]:
    return [edit.P.detach() for _, at in model.attachments for _, edit in at.edits]


def with_prompt(plain: torch.nn.Module, P: torch.Tensor, **given) -> torch.Tensor:
    """What a plain encoder returns for a prompt and the embedded text, written out."""
    embedded = torch.cat([P.expand(len(IDS), -1, -1), plain.get_input_embeddings()(IDS)], dim=1)
    mask = torch.cat([torch.ones(len(IDS), len(P), dtype=torch.long), MASK], dim=1)
    return plain(inputs_embeds=embedded, attention_mask=mask, **given).last_hidden_state


# --- what the backbone is given ---------------------------------------------------------------------------------------
@on_encoders
@torch.no_grad()
def test_the_text_moves_behind_the_prompt(kind):
    model, plain = tuned(encoder(kind)), encoder(kind)
    found, expected = model.backbone(IDS, attention_mask=MASK).last_hidden_state, with_prompt(plain, prompts(model)[0])
    torch.testing.assert_close(found, expected)
    text = plain(IDS, attention_mask=MASK).last_hidden_state
    assert not torch.allclose(found[:, 3:][MASK.bool()], text[MASK.bool()], atol=1e-2)


@torch.no_grad()
def test_token_types_are_the_texts_own_and_zero_for_the_prompt():
    model, plain, types = tuned(encoder()), encoder(), torch.arange(6).ge(2).long().expand(3, -1)
    expected = with_prompt(plain, prompts(model)[0], token_type_ids=torch.nn.functional.pad(types, (3, 0)))
    for given in ({"input_ids": IDS}, {"inputs_embeds": plain.get_input_embeddings()(IDS)}):
        found = model.backbone(**given, attention_mask=MASK, token_type_ids=types).last_hidden_state
        torch.testing.assert_close(found, expected)


@on_encoders
@torch.no_grad()
def test_a_texts_mean_is_that_of_its_own_tokens(kind):
    model, plain = tuned(encoder(kind)), encoder(kind)
    hidden = with_prompt(plain, prompts(model)[0])[:, 3:]
    expected = torch.stack([h[m.bool()].mean(0) for h, m in zip(hidden, MASK, strict=True)])
    torch.testing.assert_close(model.features({"input_ids": IDS, "attention_mask": MASK}), expected)
    alone = model.features({"input_ids": IDS[2:, :2], "attention_mask": MASK[2:, :2]})  # without padding
    torch.testing.assert_close(alone, expected[2:])


@torch.no_grad()
def test_the_pooler_reads_the_texts_first_token():
    model, plain = tuned(encoder(), pooling="cls"), encoder()
    hidden = with_prompt(plain, prompts(model)[0])
    found = model.features({"input_ids": IDS, "attention_mask": MASK})
    torch.testing.assert_close(found, torch.tanh(plain.pooler.dense(hidden[:, 3])))
    assert not torch.allclose(found, torch.tanh(plain.pooler.dense(hidden[:, 0])), atol=1e-3)


@on_encoders
@torch.no_grad()
def test_prompt_and_text_must_fit_the_positions(kind):
    assert Anatomy(encoder(kind)).positions == 20  # RoBERTa keeps two rows of its table for padding
    fits, longer = tuned(encoder(kind), "PromptTuning(length=14)"), tuned(encoder(kind), "PromptTuning(length=15)")
    assert fits.backbone(IDS).last_hidden_state.shape == (3, 20, 32)
    with pytest.raises(UsageError, match="15 positions of a soft prompt and 6 tokens are more than the 20"):
        longer.backbone(IDS)


@torch.no_grad()
def test_t5_has_room_for_any_prompt():
    model = tuned(backbones.from_config(t5().config), "PromptTuning(length=600)")
    assert model.anatomy.positions is None
    assert model.features({"input_ids": IDS, "attention_mask": MASK}).shape == (3, 32)


@torch.no_grad()
def test_prompts_add_up_and_tasks_have_their_own():
    model = tuned(encoder(), "PromptTuning(length=2) + PerTask(PromptTuning(length=3))")
    shared, sst, quora = prompts(model)
    hooks = model.backbone._forward_pre_hooks.values()
    assert len([hook for hook in hooks if getattr(hook, "func", None) is edits._read_ahead]) == 1
    for task, own in (("sst", sst), ("quora", quora)):
        model.current.task = task
        found = model.backbone(IDS, attention_mask=MASK).last_hidden_state
        torch.testing.assert_close(found, with_prompt(encoder(), torch.cat([own, shared])))


# --- against peft -----------------------------------------------------------------------------------------------------
def theirs_with(plain: torch.nn.Module, P: torch.Tensor, kind: str):
    peft = pytest.importorskip("peft")
    theirs = peft.get_peft_model(plain, peft.PromptTuningConfig(task_type=kind, num_virtual_tokens=len(P))).eval()
    with torch.no_grad():
        table = theirs.prompt_encoder["default"].embedding.weight
        table[: len(P)] = P
    return theirs


@torch.no_grad()
def test_peft_says_the_same_on_bert():
    model = tuned(encoder())
    theirs = theirs_with(encoder(), prompts(model)[0], "FEATURE_EXTRACTION")
    for mask in ({"attention_mask": MASK}, {}):
        expected = theirs(input_ids=IDS, **mask).last_hidden_state
        torch.testing.assert_close(model.backbone(IDS, **mask).last_hidden_state, expected)
    assert sum(p.numel() for p in theirs.prompt_encoder.parameters()) == model.counts().trainable


@torch.no_grad()
def test_peft_says_the_same_on_t5():
    model = tuned(t5())
    theirs = theirs_with(t5(), prompts(model)[0], "SEQ_2_SEQ_LM")
    expected = theirs(input_ids=IDS, attention_mask=MASK, decoder_input_ids=TARGET).logits
    found = model.backbone(IDS, attention_mask=MASK, decoder_input_ids=TARGET).logits
    torch.testing.assert_close(found, expected)
    plain = t5()(IDS, attention_mask=MASK, decoder_input_ids=TARGET).logits
    assert not torch.allclose(found, plain, atol=1e-2)


@pytest.mark.parametrize("how", [{}, {"num_beams": 3}, {"use_cache": False}])
@torch.no_grad()
def test_generation_reads_the_prompt(how):
    model, options = tuned(t5()), {"min_new_tokens": 8, "max_new_tokens": 8, **how}
    theirs = theirs_with(t5(), prompts(model)[0], "SEQ_2_SEQ_LM")
    expected = theirs.generate(input_ids=IDS, attention_mask=MASK, **options)
    assert torch.equal(model.backbone.generate(IDS, attention_mask=MASK, **options), expected)
    assert not torch.equal(t5().generate(IDS, attention_mask=MASK, **options), expected)


# --- the start, and counts --------------------------------------------------------------------------------------------
def test_starts():
    drawn = prompts(tuned(t5(), "PromptTuning(length=2000)"))[0]
    assert drawn.min() >= -0.5 and drawn.max() <= 0.5
    assert abs(drawn.mean()) < 0.01 and abs(drawn.std() - 12**-0.5) < 0.01
    for plain in (encoder(), t5()):
        copied = prompts(tuned(copy.deepcopy(plain), "PromptTuning(length=5, init='vocabulary')"))[0]
        assert torch.equal(copied, plain.get_input_embeddings().weight[:5])


@pytest.mark.parametrize("field", [{"length": 0}, {"init": "class labels"}])
def test_impossible_fields_are_refused(field):
    with pytest.raises(UsageError, match=next(iter(field))):
        PromptTuning(**field)


def test_a_prompt_longer_than_the_vocabulary_is_refused():
    with pytest.raises(UsageError, match="the vocabulary has 40 rows to start from, expected at least 41"):
        tuned(t5(), "PromptTuning(length=41, init='vocabulary')")


@pytest.mark.parametrize("init", ["random", "vocabulary"])
def test_counts(init):
    with torch.device("meta"):
        model = Tuned(backbones.shape_only("t5-base"), PromptTuning(init=init), TASKS)
    counts = model.counts()
    assert counts.trainable == counts.stored == counts.changed == 76_800  # Compacter, Table 1: 0.034 % of T5-base
