"""Texts to padded batches of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from peftlib.data.text import answer, as_text

IGNORED = -100  # the label that cross entropy leaves out


class Encoded:
    """Examples of one task as token ids, tokenised once and padded batch by batch.

    Args:
        examples: segments (one or two a row), labels, and a task, as `peftlib.data.load_split` returns them.
        tokenizer: a fast Hugging Face tokenizer; pairs are joined as it joins them ([CLS] a [SEP] b [SEP]).
        max_length: tokens a row; longer ones are cut (the longer text of a pair first).
        form: "heads"; or "text": a row is one text that names its parts, and its label is written out.

    Attributes:
        labels: (rows,), class ids or scores, in both forms. answers: token ids of each written label, None for heads.
        texts, groups: as of `peftlib.data.sources.Examples`.
    """

    def __init__(self, examples, tokenizer, max_length: int, form: str = "heads"):
        columns, self.answers = [list(column) for column in zip(*examples.segments, strict=True)], None
        if form == "text":
            columns = [[as_text(examples.task, texts) for texts in examples.texts]]
            written = tokenizer([answer(examples.task, label) for label in examples.labels]).input_ids
            self.answers = [np.asarray(ids, dtype=np.int64) for ids in written]
        encoded = tokenizer(*columns, truncation=True, max_length=max_length, padding=False)
        self.task = examples.task if isinstance(examples.task, str) else examples.task.name
        self.names = [n for n in ("input_ids", "token_type_ids") if n in encoded]
        self.rows = {n: [np.asarray(r, dtype=np.int64) for r in encoded[n]] for n in self.names}
        self.pad = tokenizer.pad_token_id or 0
        self.lengths = np.array([len(r) for r in self.rows["input_ids"]])
        self.labels = torch.as_tensor(np.asarray(examples.labels))
        self.texts, self.groups, self.digest = examples.texts, examples.groups, examples.digest

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
        rows = [self.answers[i] for i in indices]
        block = np.full((len(rows), max(map(len, rows))), IGNORED, dtype=np.int64)
        for row, ids in enumerate(rows):
            block[row, : len(ids)] = ids
        return torch.from_numpy(block)

    def in_order(self, batch_size: int) -> list[list[int]]:
        """All rows once, longest first, for evaluation."""
        order = np.argsort(-self.lengths, kind="stable").tolist()
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
