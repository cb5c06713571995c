"""Tiny backbones from configurations, and batches of token ids: what the tests of methods share."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    DistilBertConfig,
    MT5Config,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    XLMRobertaConfig,
)

from peftlib import backbones, catalogue, expressions
from peftlib.data.tasks import get_task
from peftlib.model import Tuned

VOCABULARY, LENGTH = 100, 10
TASKS = ("sst", "quora")
CONFIGS = {
    "bert": lambda: BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    "t5": lambda: T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        d_kv=8,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    ),
    "xlm-roberta": lambda: XLMRobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=34,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=32,
        hidden_dim=64,
        n_layers=2,
        n_heads=4,
        max_position_embeddings=32,
        dropout=0.0,
        attention_dropout=0.0,
    ),
    "mt5": lambda: MT5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        d_kv=8,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        untied_head=True,
    ),
}


def backbone(kind: str, seed: int = 7) -> torch.nn.Module:
    """The same random weights at every call, in tensors of their own; leaves the global generator alone."""
    return copy.deepcopy(_backbone(kind, seed))


@functools.cache
def _backbone(kind: str, seed: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return backbones.from_config(CONFIGS[kind]())


def tokenizer(size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Words w0, w1, ... after four special tokens, `size` entries in all; pairs are joined as BERT joins them."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(size - len(special)))])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def folder(path: Path, kind: str = "bert", form: str = "heads", words: int = VOCABULARY, **config) -> Path:
    """A model's folder as `save_pretrained` writes it; config: fields that differ from `CONFIGS`."""
    settings = CONFIGS[kind]()
    settings.update(config)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        backbones.from_config(settings, form=form).save_pretrained(path)
    tokenizer(words).save_pretrained(path)
    return path


def writing_t5() -> T5ForConditionalGeneration:
    """With a language-model head, so that it can generate; heads x head size differs from the width."""
    torch.manual_seed(0)
    config = T5Config(vocab_size=40, d_model=32, d_ff=48, num_layers=2, num_heads=3, d_kv=16, decoder_start_token_id=0)
    config._attn_implementation = "sdpa"
    model = T5ForConditionalGeneration(config).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)  # large enough that a wrong mask or position shows
    return model


def batch(task: str, rows: int = 8, seed: int = 0, kind: str = "bert") -> dict[str, torch.Tensor]:
    """Token ids of which the first decides the label; the second half of the rows is padded."""
    generator = torch.Generator().manual_seed(seed + 100 * TASKS.index(task))
    ids = torch.randint(10, VOCABULARY, (rows, LENGTH), generator=generator)
    labels = torch.arange(rows) % 2
    ids[:, 1:4] = 3 + labels[:, None]
    mask = torch.ones_like(ids)
    mask[rows // 2 :, LENGTH - 3 :] = 0
    types = {"token_type_ids": torch.arange(LENGTH).ge(5).long().expand(rows, -1)} if kind == "bert" else {}
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": labels, **types}


def build(expression: str, kind: str, seed: int = 0, prepared: bool = True) -> Tuned:
    """A model on a tiny backbone, in evaluation mode, after its look at data."""
    torch.manual_seed(seed)
    tasks = [get_task(name) for name in TASKS]
    model = Tuned(backbone(kind), expression, tasks, pooling="cls" if kind == "bert" else "mean", dropout=0.0)
    if prepared and (given := start_of(expression, kind)):
        model.begin(given)
    if prepared:
        model.prepare([(name, batch(name, kind=kind)) for name in TASKS])
    return model.eval()


def start_of(expression: str, kind: str) -> list[dict[str, torch.Tensor]]:
    """Deltas of small models of what a method cannot do without, if there is such."""
    known = catalogue.methods()
    for about in (
        known[name].about for name in expressions.names(str(expression)) if name in known and known[name].about.start
    ):
        numbers = range(len(TASKS) if about.start_on == "each" else 1)
        models = [after_training(known[about.start].small, kind) for _ in numbers]
        return [{name: tensor + i for name, tensor in m.delta().items()} for i, m in enumerate(models)]
    return []


def after_training(expression: str, kind: str) -> Tuned:
    """A model of `build` after three steps of `train`: at every call a copy of the same."""
    return copy.deepcopy(_after_training(expression, kind))


@functools.cache
def _after_training(expression: str, kind: str) -> Tuned:
    model = build(expression, kind)
    train(model, kind)
    return model


def inputs_of(task: str, kind: str, **options) -> dict[str, torch.Tensor]:
    found = batch(task, kind=kind, **options)
    found.pop("labels")
    return found


def outputs(model: Tuned, kind: str) -> dict[str, torch.Tensor]:
    """What every task's head says about its own batch."""
    with torch.no_grad():
        return {name: model(name, inputs_of(name, kind)).clone() for name in model.tasks}


def train(
    model: Tuned,
    kind: str,
    steps: int = 3,
    lr: float = 1e-2,
    tasks=TASKS,
    first: int = 0,
    total: int | None = None,
    watch=None,
) -> list[float]:
    """Some steps as the training loop makes them, one batch of every task a step; returns the first task's losses.

    first, total: where these steps lie in a longer run. watch: called after every backward pass.
    """
    optimizer, losses = model.optimizer(lr, 0.01), []
    model.train()
    for step in range(first, first + steps):
        for i, name in enumerate(tasks):
            found = batch(name, kind=kind)
            labels = found.pop("labels")
            whole, loss = model.objective(model.step(name, found, labels, step, total or steps))
            whole.backward()
            if i == 0:
                losses.append(loss.item())
            if watch:
                watch()
        optimizer.step()
        model.after_step(step, total or steps)
        optimizer.zero_grad()
    model.eval()
    return losses
