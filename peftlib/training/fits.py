"""Whether data, tokenizer and backbone fit each other: seen before training starts, not in its first batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from peftlib.errors import DataError, UsageError
from peftlib.model import Tuned
from peftlib.training.encoding import Encoded

# A tokenizer that belongs to its weights knows nearly every word: at most 0.3 % of the tokens of the tasks here are
# unknown to it. One of other weights, or without its files, knows next to none. Texts full of rare signs lie between.
UNKNOWN = 0.2


def check(model: Tuned, tokenizer: PreTrainedTokenizerBase, training: Mapping[str, Encoded], max_length: int) -> None:
    """Refuse what would end in a foreign error, or train on nothing.

    training: the encoded training texts of every task.

    Raises:
        UsageError: texts of max_length tokens, behind a soft prompt's vectors, have no place in the backbone.
        DataError: more than `UNKNOWN` of a task's tokens are unknown to the tokenizer.
    """
    room, prompt = model.anatomy.positions, prompt_length(model)
    if room is not None and max_length + prompt > room:
        behind = f" behind {prompt} vectors of a soft prompt" if prompt else ""
        raise UsageError(
            f"max_length={max_length} tokens{behind} are more than the {room} positions of this backbone: use "
            f"max_length={room - prompt}" + (" or a shorter prompt" if prompt else "")
        )
    for name, data in training.items():
        if (share := unknown_share(data, tokenizer)) > UNKNOWN:
            raise DataError(
                f"task {name!r}: {share:.0%} of the training texts' tokens are unknown to the tokenizer, "
                f"expected at most {UNKNOWN:.0%}: does it belong to this backbone, and know the language?"
            )


def unknown_share(data: Encoded, tokenizer: PreTrainedTokenizerBase) -> float:
    """Unknown tokens among those that are not special otherwise; 0 of a tokenizer that falls back to bytes."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return 0.0
    ids = np.concatenate(data.rows["input_ids"])
    words = ~np.isin(ids, [i for i in tokenizer.all_special_ids if i != unknown])
    return float((ids[words] == unknown).mean()) if words.any() else 0.0


@torch.no_grad()
def prompt_length(model: Tuned) -> int:
    """How many vectors soft prompts put ahead of the encoder's tokens."""
    (words,) = model.anatomy.at("embeddings.words", stack="encoder")
    nothing = torch.zeros(1, 1, model.anatomy.shape.width)
    return sum(edit.ahead(nothing).shape[1] for edit in getattr(words.module, "edits", {}).values())
