"""Pretraining of the small T5 that the book carries (``t5-embedded``): span corruption, after Raffel et al. (2020), while
its encoder imitates MiniLM (`tools.t5_embedded.imitation`); an hour of a processor alone does not teach it what words mean.

    text       a b c d e f g h i j          a quarter of the tokens, in spans of 3 on average
    input      a <0> d e f g <1> j </s>     every span becomes one sentinel
    target     <0> b c <1> h i </s>         what stood there

Texts are sentences of this project's grammar, from seeds that no task of the suite is made from, and the plain-text corpora
``lm/gutenberg`` and ``lm/wikitext2`` of PEFTLIB_DATA.
The recipe counts steps, not minutes: the same seed gives the same weights on the same machine, also after a kill.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import string
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration, get_linear_schedule_with_warmup

from peftlib.data import embedded
from peftlib.data.sources import local_folder
from peftlib.data.tasks import get_task
from peftlib.data.text import as_text
from peftlib.errors import DataError, UsageError, short
from peftlib.training.speed import use_own_attention
from tools.t5_embedded.imitation import Imitation

CORPORA = {"gutenberg": "train", "wikitext2": "validation"}  # folder under lm -> the split that is read
# The tasks whose sentences are read, as the published weights were made; later ones are none of them.
GENERATED = (
    *("sst", "cfimdb", "quora", "sts", "cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"),
    *("boolq", "cb", "copa", "wic"),
)
SEEDS = (1, 2, 3)  # of the generated sentences; the suite's tasks are seed 0
WEIGHTS = {"imitation": 3.0}  # of losses, but for those of 1
OFTEN = 5000  # times that the tokenizer sees every word of a label: more than any pair of letters that it leaves apart
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"


@dataclass(frozen=True)
class Pretraining:
    """The recipe.

    vocabulary: pieces, sentinels included. width, ffn, heads: of encoder and decoder alike. layers, decoder_layers: blocks
    of each. length: tokens of a text before corruption. density, span: share of corrupted tokens, and their mean run.
    batch: texts a step. imitated: texts a step on which the encoder imitates MiniLM; 0 leaves MiniLM out. steps: of the
    optimizer. lr: peak, relative to the size of what is trained; a tenth of the steps warm up, then it falls to zero.
    """

    vocabulary: int = 5120
    sentinels: int = 32
    width: int = 288
    ffn: int = 864
    layers: int = 4
    decoder_layers: int = 2
    heads: int = 6
    length: int = 128
    density: float = 0.25
    span: float = 3.0
    batch: int = 16
    imitated: int = 32
    steps: int = 3000
    lr: float = 2e-2
    seed: int = 0

    def __post_init__(self):
        spans = round(round(self.length * self.density) / self.span)
        checks = {
            "vocabulary": self.vocabulary > self.sentinels + 300,
            "sentinels": self.sentinels >= spans,
            "heads": self.width % self.heads == 0,
            "length": spans >= 1,
            "density": 0 < self.density < 0.5,
            "span": self.span >= 1,
            "batch": self.batch >= 1,
            "imitated": self.imitated >= 0,
            "steps": self.steps >= 1,
            "lr": 0 < self.lr < 1,
        }
        check(self, checks)


def check(recipe, checks: dict[str, bool]) -> None:
    """Refuse a recipe.

    Raises:
        UsageError: names the first field whose check does not hold, and its value.
    """
    for name, holds in checks.items():
        if not holds:
            raise UsageError(
                f"{name}={getattr(recipe, name)!r} is impossible; see {type(recipe).__module__}.{type(recipe).__name__}"
            )


# --- text -------------------------------------------------------------------------------------------------------------
def corpus(names: Iterable[str] = tuple(CORPORA), seeds: Iterable[int] = SEEDS) -> list[str]:
    """Texts to pretrain on, in a fixed order: the corpora of those names, then generated rows of those seeds as a
    text-to-text model reads them, without their labels.

    Raises:
        UsageError: a name that is no corpus.
        DataError: PEFTLIB_DATA is not set, or a corpus is not in it.
    """
    texts: list[str] = []
    for name in names:
        if name not in CORPORA:
            raise UsageError(f"no corpus {short(name)}: expected some of {', '.join(CORPORA)}")
        path = local_folder() / "lm" / name / f"{CORPORA[name]}.parquet"
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected parquet with a column 'text'")
        # WikiText's mark for rare words is taken out, or the model would learn to write it.
        texts += [t for t in pd.read_parquet(path)["text"].str.replace("<unk>", "") if t.strip()]
    for seed in seeds:
        for name in GENERATED:
            texts += [as_text(get_task(name), row[:-1], prefix=False) for row in generated(name, "train", seed)]
    return texts


def generated(name: str, split: str, seed: int) -> list[tuple]:
    """Texts and label of every generated row of a task."""
    task = get_task(name)
    return list(embedded.generate(name, split, seed)[[*task.texts, task.label]].itertuples(index=False, name=None))


def make_tokenizer(texts: Iterable[str], recipe: Pretraining) -> PreTrainedTokenizerFast:
    """Byte-pair merges over words with their leading space; the sentinels are the last ids.

    T5 has a unigram tokenizer; training one gives slightly different scores each time, and this one the same merges. What
    the tasks' labels are written with is merged to whole words, as most of it is in T5's vocabulary.
    """
    answers = sorted({word for name in GENERATED for word in get_task(name).words})
    sentinels = [f"<extra_id_{i}>" for i in range(recipe.sentinels)]
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(r"\n", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary - recipe.sentinels,
        show_progress=False,
        special_tokens=[PAD, END, UNKNOWN],
        limit_alphabet=200,
        initial_alphabet=list(string.printable.strip()),
    )  # no letter is unknown
    tokenizer.train_from_iterator([*texts, *answers * OFTEN], trainer)
    tokenizer.add_special_tokens(sentinels)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", pair=f"$A {END} $B {END}", special_tokens=[(END, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, additional_special_tokens=sentinels
    )


def packed(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, length: int) -> np.ndarray:
    """All texts as one stream of ids with an end token after each, cut to rows: (rows, length), the rest left out."""
    rows = tokenizer(list(texts)).input_ids
    stream = np.fromiter((i for row in rows for i in row), dtype=np.int64)
    return stream[: len(stream) // length * length].reshape(-1, length)


# --- span corruption --------------------------------------------------------------------------------------------------
def lengths(total: int, parts: int, draw: np.random.Generator) -> np.ndarray:
    """A random way to write `total` as a sum of `parts` positive whole numbers, each way equally likely."""
    cuts = np.sort(draw.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def corrupt(
    row: np.ndarray, recipe: Pretraining, sentinels: np.ndarray, end: int, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Input and target of one row (length,); their sizes depend on the recipe alone."""
    noise = round(len(row) * recipe.density)
    spans = max(1, round(noise / recipe.span))
    kept, lost = lengths(len(row) - noise, spans, draw), lengths(noise, spans, draw)
    at, source, target = 0, [], []
    for i in range(spans):
        source += [row[at : at + kept[i]], sentinels[i : i + 1]]
        at += kept[i]
        target += [sentinels[i : i + 1], row[at : at + lost[i]]]
        at += lost[i]
    return np.concatenate([*source, [end]]), np.concatenate([*target, [end]])


def batches(rows: np.ndarray, tokenizer: PreTrainedTokenizerFast, recipe: Pretraining, first: int = 0) -> Iterator[tuple]:
    """(inputs, targets) of every step from `first` on, int64 (batch, .). A step's batch depends on seed and step alone."""
    sentinels = np.array(tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(recipe.sentinels)]))
    per_epoch = max(1, len(rows) // recipe.batch)
    for step in range(first, recipe.steps):
        order = np.random.default_rng([recipe.seed, step // per_epoch]).permutation(len(rows))
        start = step % per_epoch * recipe.batch
        draw = np.random.default_rng([recipe.seed, step, 1])
        pairs = [
            corrupt(rows[i], recipe, sentinels, tokenizer.eos_token_id, draw) for i in order[start : start + recipe.batch]
        ]
        yield tuple(torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))


# --- the run ----------------------------------------------------------------------------------------------------------
def make_model(tokenizer: PreTrainedTokenizerFast, recipe: Pretraining) -> T5ForConditionalGeneration:
    """A T5 of version 1.0 (ReLU, tied embeddings) with random weights."""
    torch.manual_seed(recipe.seed)
    config = T5Config(  # type: ignore[call-arg]  # any keyword is taken
        vocab_size=len(tokenizer),
        d_model=recipe.width,
        d_ff=recipe.ffn,
        num_layers=recipe.layers,
        num_decoder_layers=recipe.decoder_layers,
        num_heads=recipe.heads,
        d_kv=recipe.width // recipe.heads,
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    config._attn_implementation = "sdpa"
    return T5ForConditionalGeneration(config)


def pretrain(
    texts: list[str], folder: Path, recipe: Pretraining, *, held_out: int = 256, every: int = 100, progress: bool = True
) -> dict:
    """Train tokenizer and model, and write both to a folder that ``peftlib.backbones.load`` reads.

    A checkpoint is written beside the folder every `every` steps, and taken up again if the recipe and texts are the same.

    Returns:
        What is written to ``pretraining.json`` too: recipe, digest of the texts, tokens, parameters, seconds, and by step
        the training losses (means since the last entry) and the loss on `held_out` rows that are never trained on.

    Raises:
        UsageError: the folder exists, or the texts are too few for the recipe.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already: a finished backbone is never overwritten; move it away first")
    tokenizer = make_tokenizer(texts, recipe)
    rows = packed(texts, tokenizer, recipe.length)
    if len(rows) < held_out + recipe.batch:
        raise UsageError(
            f"{len(rows)} rows of {recipe.length} tokens are too few to hold out {held_out} and train in "
            f"batches of {recipe.batch}: give more text or a smaller recipe"
        )
    rows = rows[np.random.default_rng(recipe.seed).permutation(len(rows))]
    held, rows = rows[:held_out], rows[held_out:]
    model = make_model(tokenizer, recipe)
    use_own_attention(model)
    imitation = Imitation(model, tokenizer, texts, recipe.imitated, recipe.seed) if recipe.imitated else None
    trained = nn.ModuleList([model] + ([imitation.projections] if imitation else []))
    # Steps in proportion to each tensor's size, as T5's: its embeddings start a hundred times as large as its queries, and
    # at one rate for both AdamW does not learn to look at the context.
    optimizer = torch.optim.Adafactor(trained.parameters(), lr=recipe.lr)

    def losses(first: int) -> Iterator[dict[str, Tensor]]:
        for step, batch in enumerate(batches(rows, tokenizer, recipe, first), start=first + 1):
            parts = {"train_loss": forward(model, batch).loss}
            yield parts | ({"imitation": imitation.loss(step)} if imitation else {})

    digest = digest_of(recipe, texts)
    history, seconds = fit(
        trained,
        losses,
        optimizer,
        recipe.steps,
        digest,
        folder.with_name(f"{folder.name}.checkpoint"),
        lambda: {"held_out_loss": evaluate(model, held, tokenizer, recipe)},
        every,
        progress,
    )
    report = {
        "recipe": dataclasses.asdict(recipe),
        "texts": digest,
        "rows": len(rows),
        "tokens": recipe.steps * recipe.batch * recipe.length,
        "parameters": model.num_parameters(),
        "seconds": seconds,
        "history": history,
    }
    write(folder, model, tokenizer, report)
    return report


def digest_of(recipe, texts: Iterable[str]) -> str:
    """16 hexadecimal digits over a recipe and what it is trained on."""
    return hashlib.sha256("\x1f".join([repr(recipe), *texts]).encode()).hexdigest()[:16]


def fit(
    trained: nn.Module,
    losses: Callable[[int], Iterator[dict[str, Tensor]]],
    optimizer: torch.optim.Optimizer,
    steps: int,
    digest: str,
    checkpoint: Path,
    measure: Callable[[], dict],
    every: int,
    progress: bool,
) -> tuple[list[dict], float]:
    """Take steps on the sum of losses, by `WEIGHTS`, that `losses` gives from a step on, or from where a killed run was.

    Returns:
        By step, every so many: the losses (means since the last entry) and what `measure` finds. And the seconds.
    """
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    state = _take_up(checkpoint, digest, trained, optimizer, schedule)
    history, seconds, seen = state["history"], state["seconds"], []
    started = time.perf_counter() - seconds
    source = losses(state["step"])
    for step in tqdm(range(state["step"] + 1, steps + 1), file=sys.stderr, disable=not progress, mininterval=5.0):
        trained.train()
        parts = next(source)
        _step(trained, sum(WEIGHTS.get(name, 1.0) * loss for name, loss in parts.items()), optimizer, schedule)  # type: ignore[arg-type]  # of one loss or more
        seen.append({name: float(loss.detach()) for name, loss in parts.items()})
        if step % every == 0 or step == steps:
            means = {name: float(np.mean([one[name] for one in seen])) for name in parts}
            history.append({"step": step, **means, **measure()})
            seen, seconds = [], time.perf_counter() - started
            _keep(
                checkpoint,
                {
                    "digest": digest,
                    "step": step,
                    "model": trained.state_dict(),
                    "history": history,
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "seconds": seconds,
                },
            )
    return history, seconds


def forward(model: T5ForConditionalGeneration, batch: tuple[Tensor, Tensor]):
    """The model's output for inputs and targets (batch, .), padded with the pad id and with -100."""
    inputs, targets = (t.to(model.device) for t in batch)
    with torch.autocast(model.device.type, torch.bfloat16):
        return model(input_ids=inputs, attention_mask=inputs.ne(model.config.pad_token_id).long(), labels=targets)  # type: ignore[arg-type]  # which T5 has


def _step(trained: nn.Module, loss: Tensor, optimizer, schedule) -> None:
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()


@torch.no_grad()
def evaluate(model: T5ForConditionalGeneration, rows: np.ndarray, tokenizer, recipe: Pretraining) -> float:
    """Mean loss over rows, corrupted the same way at every call."""
    model.eval()
    once = dataclasses.replace(recipe, steps=max(1, len(rows) // recipe.batch))
    losses = [forward(model, batch).loss for batch in batches(rows, tokenizer, once)]
    return float(torch.stack(losses).mean())


def _take_up(path: Path, digest: str, trained, optimizer, schedule) -> dict:
    """Where a killed run of the same recipe and texts stood; the beginning if there is none."""
    fresh = {"step": 0, "history": [], "seconds": 0.0}
    if not path.is_file():
        return fresh
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["digest"] != digest:
        return fresh
    trained.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    return state


def _keep(path: Path, state: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def write(folder: Path, model, tokenizer, report: dict) -> None:
    """Weights in bf16, tokenizer and report, all or nothing; what is left of checkpoints goes."""
    scratch = folder.with_name(f".{folder.name}.part")
    for config in {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values():
        config._attn_implementation = "sdpa"
    model.to(torch.bfloat16).save_pretrained(scratch)
    tokenizer.save_pretrained(scratch)
    (scratch / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n")
    scratch.rename(folder)
    folder.with_name(f"{folder.name}.checkpoint").unlink(missing_ok=True)
