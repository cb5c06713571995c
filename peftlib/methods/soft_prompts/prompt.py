"""Prompt tuning (Lester et al., 2021; survey, section 6.1): trained vectors before the embedded tokens of the input.

    encoder(E(x_1), ..., E(x_T))  ->  encoder(P_1, ..., P_l, E(x_1), ..., E(x_T))        P: (length, d)

Nothing else is trained. The vectors take part as tokens do: every token and a decoder's cross-attention attend to them.
Where positions are relative (T5, the paper's model) that is all. BERT, RoBERTa and DistilBERT add a position and a token
type to every embedding: the vectors take the first positions and type 0, the text moves up by `length`, as in Hugging
Face `peft`; prompt and text together must fit the table of positions. A text is represented by its own tokens: the mean
leaves the prompt out, and the pooler is given the text's first token, [CLS], not the prompt's.

Start: "random" draws from U(-0.5, 0.5) (their section 3; Compacter's "-R"); "vocabulary" copies rows of the embedding
table (Compacter's "-T"): the first `length` rows, as Compacter's code does, where the paper draws among the 5,000 most
frequent tokens. Hugging Face `peft` draws from N(0, 1), or takes any rows; for T5 it also keeps as many vectors again,
which nothing reads. Compacter trains 100 vectors at learning rates of 3e-2 and 3e-1 (its Table 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.edits import Edit
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, require


class Prompt(Edit):
    """Vectors (length, d) that stand before every sequence."""

    def __init__(self, P: Tensor):
        super().__init__()
        self.P = nn.Parameter(P)

    def ahead(self, embedded: Tensor) -> Tensor:
        return self.P.expand(len(embedded), -1, -1)


@dataclass(frozen=True)
class PromptTuning(Method):
    """Prompt tuning.

    length: vectors > 0 (the paper: 1 to 150). init: "random" or "vocabulary".
    """

    length: int = 100
    init: str = "random"

    title = "Prompt tuning"
    family = "soft prompts"
    paper = "prompttuning"
    near_identity = None
    by_layer = False
    about = {
        "name": "prompt tuning",
        "color": "purple",
        "marker": "^",
        "line": (3, 1, 1, 1),
        "row": "length=100",
        "small": "length=4",
        "rates": 10.0,
        "peft": "PromptTuningConfig",
        "adapters": "PromptTuningConfig",
    }

    def check(self) -> None:
        require(self, length=self.length > 0, init=self.init in ("random", "vocabulary"))

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: more vectors than the vocabulary has rows to start from, or no position left for the text.
        """
        leaves_room(self, at, self.length)
        if self.init == "random":
            at.prepend(Prompt(torch.empty(self.length, at.shape.width).uniform_(-0.5, 0.5)))
            return
        if self.length > at.shape.vocabulary:
            raise UsageError(
                f"{self}: the vocabulary has {at.shape.vocabulary} rows to start from, expected at least "
                f"{self.length}: use a shorter prompt or init='random'"
            )
        (words,) = at.anatomy.at("embeddings.words", stack="encoder")
        at.prepend(Prompt(words.module.weight[: self.length].detach().float().clone()))  # type: ignore[index]  # of an nn.Embedding

    def formula(self, shape: Shape) -> int:
        return self.length * shape.width


def leaves_room(method: Method, at: Attachment, length: int) -> None:
    """Refuse a prompt that leaves the text no position.

    Raises:
        UsageError: names the positions there are.
    """
    room = at.anatomy.positions
    if room is not None and length >= room:
        raise UsageError(
            f"{method} leaves the text none of this backbone's {room} positions: expected a length of 1 to {room - 1}"
        )
