"""The supervised half of the pretraining of ``t5-embedded``, after Raffel et al. (2020), section 3.7.

The T5 that is published, and that papers fine-tune, saw the tasks of GLUE and SuperGLUE in its pretraining already. So does
ours: rows of the generated tasks in their text-to-text form, drawn with other seeds than the embedded suite's and without
any sentence of it. It learns how tasks are asked and answered; a suite's own rows it has never seen.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration

from peftlib import backbones
from peftlib.data import embedded, sampling
from peftlib.data.suites import glue
from peftlib.data.tasks import get_task
from peftlib.data.text import answer, as_text
from peftlib.errors import UsageError
from peftlib.training.encoding import IGNORED
from peftlib.training.speed import use_own_attention
from tools.t5_embedded import spans

Rows = list[tuple[np.ndarray, np.ndarray]]  # token ids of inputs and answers


@dataclass(frozen=True)
class Mixture:
    """The recipe.

    tasks: embedded ones, all rows alike. seeds: of the rows. length: tokens of an input. batch: examples a step. steps: of
    the optimizer. lr: peak, of AdamW; a tenth of the steps warm up, then it falls to zero.
    """

    tasks: tuple[str, ...] = tuple(task.name for task in glue.TASKS)
    seeds: tuple[int, ...] = spans.SEEDS
    length: int = 96
    batch: int = 32
    steps: int = 2500
    lr: float = 4e-4
    seed: int = 0

    def __post_init__(self):
        checks = {
            "tasks": len(self.tasks) > 0 and set(self.tasks) <= set(embedded.SIZES),
            "seeds": len(self.seeds) > 0 and 0 not in self.seeds,
            "length": self.length >= 8,
            "batch": self.batch >= 1,
            "steps": self.steps >= 1,
            "lr": 0 < self.lr < 1,
        }
        spans.check(self, checks)


def examples(recipe: Mixture) -> dict[str, list[tuple[str, str]]]:
    """Inputs and answers of each task, none with a sentence that the embedded suite has in any split.

    A text of one word is no sentence (COPA's question, WiC's word).
    """
    out = {}
    for name in recipe.tasks:
        task = get_task(name)
        own = [row for split in embedded.SIZES[name] for row in spans.generated(name, split, 0)]
        kept = {text for row in own for text in row[:-1] if " " in text}
        drawn = [row for seed in recipe.seeds for row in spans.generated(name, "train", seed)]
        new = (row for row in drawn if kept.isdisjoint(row[:-1]))
        out[name] = list(dict.fromkeys((as_text(task, row[:-1]), answer(task, row[-1])) for row in new))
    return out


def encode(pairs: list[tuple[str, str]], tokenizer: PreTrainedTokenizerBase, length: int) -> Rows:
    """Token ids of inputs, cut to a length, and of answers."""
    inputs = tokenizer([text for text, _ in pairs], truncation=True, max_length=length).input_ids
    answers = tokenizer([said for _, said in pairs]).input_ids
    return [(np.asarray(a), np.asarray(b)) for a, b in zip(inputs, answers, strict=True)]


def batch(rows: Rows, pad: int) -> tuple[Tensor, Tensor]:
    """Inputs (rows, longest), padded with `pad`, and targets (rows, longest answer), padded with -100."""

    def block(ids: list[np.ndarray], empty: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in ids], True, empty)

    return block([row[0] for row in rows], pad), block([row[1] for row in rows], IGNORED)


def batches(rows: Rows, recipe: Mixture, pad: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """The batch of every step from `first` on, of all tasks. A step's batch depends on seed and step alone."""
    queue: list[list[int]]
    lengths, queue, epoch = [len(row[0]) for row in rows], [], 0
    for step in range(recipe.steps):
        if not queue:
            queue, epoch = sampling.batches(lengths, recipe.batch, recipe.seed, epoch), epoch + 1
        chosen = queue.pop()
        if step >= first:
            yield batch([rows[i] for i in chosen], pad)


@torch.no_grad()
def accuracy(model: T5ForConditionalGeneration, rows: Rows, size: int = 128) -> float:
    """Share of answers that the model writes exactly, which is so if every next token is the likeliest."""
    model.eval()
    right = 0
    for start in range(0, len(rows), size):
        inputs, targets = batch(rows[start : start + size], model.config.pad_token_id)  # type: ignore[arg-type]  # which T5 has
        said = spans.forward(model, (inputs, targets)).logits.argmax(-1).cpu()
        right += int(((said == targets) | (targets == IGNORED)).all(1).sum())
    return right / len(rows)


def pretrain(
    start: Path, folder: Path, recipe: Mixture, *, held_out: int = 100, every: int = 250, progress: bool = True
) -> dict:
    """Train the T5 that `tools.t5_embedded.spans.pretrain` wrote to `start` on tasks, and write it to another folder.

    Args:
        held_out: examples of each task that are not trained on, and measured every so many steps.

    Returns:
        The report of `start` with the mixture's under "mixture": recipe, examples, seconds, and by step the training loss
        and the accuracy of each task on what was held out.

    Raises:
        UsageError: the folder exists.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already: a finished backbone is never overwritten; move it away first")
    report = json.loads((start / "pretraining.json").read_text())
    found = backbones.load(str(start), "text")
    model: T5ForConditionalGeneration
    model, tokenizer = found.model, found.tokenizer  # type: ignore[assignment]  # in form "text"
    model.requires_grad_(True)
    use_own_attention(model)
    drawn = examples(recipe)
    encoded = {name: encode(pairs, tokenizer, recipe.length) for name, pairs in drawn.items()}
    held = {name: rows[:held_out] for name, rows in encoded.items()}
    rows = [row for of_task in encoded.values() for row in of_task[held_out:]]

    def losses(first: int) -> Iterator[dict[str, Tensor]]:
        for one in batches(rows, recipe, tokenizer.pad_token_id, first):
            yield {"train_loss": spans.forward(model, one).loss}

    history, seconds = spans.fit(
        model,
        losses,
        torch.optim.AdamW(model.parameters(), lr=recipe.lr),
        recipe.steps,
        spans.digest_of(recipe, [report["texts"], *(text for pairs in drawn.values() for text, _ in pairs)]),
        folder.with_name(f"{folder.name}.checkpoint"),
        lambda: {"accuracy": {name: accuracy(model, kept) for name, kept in held.items()}},
        every,
        progress,
    )
    report["mixture"] = {
        "recipe": dataclasses.asdict(recipe),
        "examples": len(rows),
        "seconds": seconds,
        "history": history,
    }
    spans.write(folder, model, tokenizer, report)
    return report
