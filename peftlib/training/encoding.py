"""Texts to padded batches of token ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from peftlib.data.task import Task
from peftlib.data.text import answer, as_text
from peftlib.errors import UsageError

IGNORED = -100  # the label that cross entropy leaves out
Row = tuple[str, ...]


def _written(task: Task, texts: Row) -> Row:
    return (as_text(task, texts),)


def _encode(
    texts: Sequence[Row], parts: Callable[[Row], Row] | None, tokenizer, max_length: int
) -> tuple[Mapping[str, list[list[int]]], list[int]]:
    """Token ids of every row, at most ``max_length``, by the names of a model's inputs; and how many tokens each row that
    was cut has lost.

    ``parts`` puts a row's texts together to the one or two that are read; ``None``: they are read as they are.
    """

    def read(rows: Sequence[Row], **options):
        columns = zip(*(map(parts, rows) if parts else rows), strict=True)
        return tokenizer(*map(list, columns), padding=False, return_attention_mask=False, verbose=False, **options)

    encoded = read(texts)
    before = {row: len(ids) for row, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length}
    over, shorter = before, {row: texts[row] for row in before}
    while over:
        if parts:  # the tokenizer knows nothing of the texts in a part, and would cut the last one away
            fitted = _shortened([shorter[row] for row in over], list(over.values()), max_length, tokenizer)
            shorter |= zip(over, fitted, strict=True)
            again = read([shorter[row] for row in over])  # a word that was cut may have more tokens than its beginning had
        else:
            again = read([texts[row] for row in over], truncation=True, max_length=max_length)
        for name, rows in again.items():
            for row, ids in zip(over, rows, strict=True):
                encoded[name][row] = ids
        over = {row: len(encoded["input_ids"][row]) for row in over if len(encoded["input_ids"][row]) > max_length}
    return encoded, [length - len(encoded["input_ids"][row]) for row, length in before.items()]


def _shortened(rows: Sequence[Row], lengths: Sequence[int], max_length: int, tokenizer) -> list[Row]:
    """Rows of these lengths without the tokens that are too many, always the last token of the text that is longest then.

    Raises:
        UsageError: a text would lose all of its tokens.
    """
    flat = [text for row in rows for text in row]
    spans = iter(tokenizer(flat, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"])
    out = []
    for row, length in zip(rows, lengths, strict=True):
        own = [next(spans) for _ in row]
        sizes = [len(tokens) for tokens in own]
        left = sum(sizes) + max_length - length
        if left < len(row):
            raise UsageError(
                f"max_length={max_length} leaves a text of {len(row)} without a token, as their names take "
                f"the others; expected at least {max_length + len(row) - left}"
            )
        kept = _levelled(sizes, left)
        out.append(
            tuple(
                text[: tokens[n][0]].rstrip() if n < len(tokens) else text
                for text, tokens, n in zip(row, own, kept, strict=True)
            )
        )
    return out


def _levelled(sizes: Sequence[int], left: int) -> list[int]:
    """The sizes when the largest of them has lost one until ``left`` are left of all."""
    kept = list(sizes)
    for place, i in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        kept[i] = min(sizes[i], left // (len(sizes) - place))  # an even share of what the smaller ones have left
        left -= kept[i]
    return kept


class Encoded:
    """Examples of one task as token ids, tokenised once and padded batch by batch.

    Args:
        examples: segments (one or two a row), labels, and a task, as `peftlib.data.load_split` returns them.
        tokenizer: a fast Hugging Face tokenizer; pairs are joined as it joins them ([CLS] a [SEP] b [SEP]).
        max_length: tokens a row. Of a longer row the longest text loses its last tokens, one at a time, and the names that
            the texts have in it stay whole.
        form: "heads"; or "text": a row is one text that names its parts, and its label is written out.

    Attributes:
        labels: (rows,), class ids or scores, in both forms. answers: token ids of each written label, None for heads.
        texts, groups: as of `peftlib.data.sources.Examples`.
        left_out: what of the data is not read: ``rows_dropped`` (see `peftlib.data.task.Task.known_bad`), ``rows_cut`` and
            the ``tokens_cut`` of them, beside the number of ``rows``; empty if everything is.

    Raises:
        UsageError: ``max_length`` leaves a text of some row without a token.
    """

    def __init__(self, examples, tokenizer, max_length: int, form: str = "heads"):
        self.task, parts, self.answers = examples.task.name, examples.task.segments, None
        if form == "text":
            parts = partial(_written, examples.task)
            written = tokenizer([answer(examples.task, label) for label in examples.labels]).input_ids
            self.answers = [np.asarray(ids, dtype=np.int64) for ids in written]
        encoded, lost = _encode(examples.texts, parts, tokenizer, max_length)
        self.names = [n for n in ("input_ids", "token_type_ids") if n in encoded]
        self.rows = {n: [np.asarray(r, dtype=np.int64) for r in encoded[n]] for n in self.names}
        self.pad = tokenizer.pad_token_id or 0
        self.lengths = np.array([len(r) for r in self.rows["input_ids"]])
        self.labels = torch.as_tensor(np.asarray(examples.labels))
        self.texts, self.groups, self.digest = examples.texts, examples.groups, examples.digest
        missed = {"rows_dropped": examples.dropped, "rows_cut": len(lost), "tokens_cut": sum(lost)}
        missed = {what: count for what, count in missed.items() if count}
        self.left_out = missed and {"rows": len(self)} | missed

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Sequence[int], device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Padded inputs of the rows, (batch, longest), and their ``labels`` (batch,); in form "text" the labels are the
        answers' tokens, (batch, longest answer), given as ``answers`` too."""
        lengths = self.lengths[list(indices)]
        longest = int(lengths.max())
        out = {}
        for name in self.names:
            block = np.full((len(lengths), longest), self.pad if name == "input_ids" else 0, dtype=np.int64)
            for row, index in enumerate(indices):
                block[row, : lengths[row]] = self.rows[name][index]
            out[name] = torch.from_numpy(block).to(device)
        out["attention_mask"] = torch.from_numpy((np.arange(longest) < lengths[:, None]).astype(np.int64)).to(device)
        out["labels"] = self.labels[list(indices)].to(device)
        if self.answers is not None:
            out["labels"] = out["answers"] = self._answers(indices).to(device)
        return out

    def _answers(self, indices: Sequence[int]) -> Tensor:
        rows = [self.answers[i] for i in indices]  # type: ignore[index]  # only where there are answers
        block = np.full((len(rows), max(map(len, rows))), IGNORED, dtype=np.int64)
        for row, ids in enumerate(rows):
            block[row, : len(ids)] = ids
        return torch.from_numpy(block)

    def in_order(self, batch_size: int) -> list[list[int]]:
        """All rows once, longest first, for evaluation."""
        order = np.argsort(-self.lengths, kind="stable").tolist()
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
