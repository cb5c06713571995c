"""A small T5's encoder imitates MiniLM: it starts from its word vectors and learns to give words the states of MiniLM.

After TinyBERT's hidden-state distillation (Jiao et al. 2020, section 3.1), with two differences: the two models cut words
into different pieces, so states are compared word by word, as the means over a word's pieces; and the decoder's first state
imitates the mean over all words, MiniLM's representation of the text, so that the decoder learns to read what the encoder
says. From filling gaps alone it learns to look for the words around a gap, and a label is the answer to no gap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration

from peftlib import backbones
from peftlib.data import sampling
from peftlib.training.speed import use_own_attention

TEACHER = "minilm"
LONGEST = 40  # words of a text that is imitated; a longer one is cut to several
SAMPLE = 512  # texts that the scale of the teacher's states is taken from


def vectors(tokenizer: PreTrainedTokenizerBase, teacher: backbones.Backbone, width: int) -> Tensor:
    """A start for word embeddings: the teacher's vectors of each piece, on their first principal components.

    A piece that the teacher cuts further gets the mean over its parts. Returns (pieces, width), with mean square 1, as
    T5's embeddings start; components beyond the teacher's width, if there are any, are zero.
    """
    table = teacher.model.embeddings.word_embeddings.weight.detach()  # type: ignore[union-attr, operator]  # a BERT
    known = teacher.tokenizer.get_vocab()
    rows = []
    for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer))):  # type: ignore[arg-type]  # any sequence
        text = piece.lstrip("▁").lower()
        inner = known.get("##" + text) if not piece.startswith("▁") else None
        ids = [inner] if inner is not None else teacher.tokenizer(text, add_special_tokens=False).input_ids
        rows.append(table[ids].mean(0) if ids else table.mean(0))
    centred = torch.stack(rows) - torch.stack(rows).mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    found = centred @ directions[:width].T
    found = nn.functional.pad(found, (0, width - found.shape[1]))
    return found / found.square().mean().sqrt()


def _words(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[str]]) -> tuple[dict[str, Tensor], Tensor]:
    """Token ids of rows of words, padded, and for each token the number of its word in the batch, or -1: (rows, tokens)."""
    found = tokenizer([list(row) for row in rows], is_split_into_words=True, padding=True, return_tensors="pt")
    starts = np.cumsum([0, *map(len, rows)])
    numbers = [[-1 if word is None else starts[row] + word for word in found.word_ids(row)] for row in range(len(rows))]
    return {name: found[name] for name in ("input_ids", "attention_mask")}, torch.tensor(numbers)


def _pool(states: Tensor, numbers: Tensor, words: int) -> Tensor:
    """Means over the tokens of each word: states (rows, tokens, width) -> (words, width)."""
    states, numbers = states.float().flatten(0, 1)[numbers.flatten() >= 0], numbers[numbers >= 0]
    sums = states.new_zeros(words, states.shape[1]).index_add(0, numbers, states)
    return sums / numbers.bincount(minlength=words).clamp(min=1)[:, None]


class Imitation:
    """The teacher, the texts, and what reads the teacher's states from the student's.

    Args:
        model: the student; its word embeddings are set to the teacher's.
        tokenizer: the student's.
        texts: what is imitated, cut to `LONGEST` words.
        batch: texts a step.
        seed: of the projections and of the order of texts.

    Attributes:
        projections: one linear map for each of the encoder's layers that has a counterpart, and one for the decoder;
            trained, then thrown away.
    """

    def __init__(
        self,
        model: T5ForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        batch: int,
        seed: int,
    ):
        self.model, self.tokenizer, self.batch, self.seed = model, tokenizer, batch, seed
        self.teacher = backbones.load(TEACHER)
        self.teacher.model.eval().requires_grad_(False)
        use_own_attention(self.teacher.model)
        words = [text.split() for text in texts]
        self.rows = [row[i : i + LONGEST] for row in words for i in range(0, len(row), LONGEST)]
        deep: int
        width, layers, deep = model.config.d_model, model.config.num_layers, self.teacher.model.config.num_hidden_layers  # type: ignore[union-attr, assignment]  # a BERT
        # The middle and the last layer: what is said, and what it means.
        self.pairs = {max(1, layers // 2): deep // 2, layers: deep}
        with torch.no_grad():
            model.shared.weight.copy_(vectors(tokenizer, self.teacher, width))
        torch.manual_seed(seed)
        outputs: int = self.teacher.model.config.hidden_size  # type: ignore[union-attr, assignment]  # as above
        self.projections = nn.ModuleList(nn.Linear(width, outputs) for _ in range(len(self.pairs) + 1))
        draw = np.random.default_rng(seed).choice(len(self.rows), min(SAMPLE, len(self.rows)), replace=False)
        self.scale = [(s.mean(0), s.std(0)) for s in self._taught([self.rows[i] for i in draw])]
        self._order: tuple[int, list[list[int]]] = (-1, [])

    @torch.no_grad()
    def _taught(self, rows: Sequence[Sequence[str]]) -> list[Tensor]:
        """The teacher's states of every word, (words, width) for each pair of layers, and of every text, (rows, width)."""
        inputs, numbers = _words(self.teacher.tokenizer, rows)
        with torch.autocast("cpu", torch.bfloat16):
            states = self.teacher.model(**inputs, output_hidden_states=True).hidden_states
        words = [_pool(states[layer], numbers, sum(map(len, rows))) for layer in self.pairs.values()]
        return [*words, torch.stack([states.mean(0) for states in words[-1].split(list(map(len, rows)))])]

    def loss(self, step: int) -> Tensor:
        """The share of the teacher's variance on the step's texts that the student leaves unexplained: mean over the layers
        and the decoder."""
        per_epoch = -(-len(self.rows) // self.batch)
        epoch = step // per_epoch
        if self._order[0] != epoch:
            self._order = (epoch, sampling.batches([len(row) for row in self.rows], self.batch, self.seed, epoch))
        rows = [self.rows[i] for i in self._order[1][step % per_epoch]]
        inputs, numbers = _words(self.tokenizer, rows)
        with torch.autocast("cpu", torch.bfloat16):
            states = self.model.encoder(**inputs, output_hidden_states=True).hidden_states
            start = torch.full((len(rows), 1), self.model.config.decoder_start_token_id)
            first = self.model.decoder(
                start, encoder_hidden_states=states[-1], use_cache=False, encoder_attention_mask=inputs["attention_mask"]
            ).last_hidden_state[:, 0]
            *of_words, of_texts = self.projections
            read = [
                _pool(project(states[layer]), numbers, sum(map(len, rows)))
                for project, layer in zip(of_words, self.pairs, strict=True)
            ] + [of_texts(first).float()]
        return sum(
            (mine - (theirs - mean) / std).square().mean()
            for mine, theirs, (mean, std) in zip(read, self._taught(rows), self.scale, strict=True)
        ) / len(read)
