"""Ladder side-tuning (Sung et al., 2022; survey, section 7.1): a narrow network beside the backbone, fed by its layers.

    s_0 = D_0 h_0,    s_i = Block_i(mu_i s_{i-1} + (1 - mu_i) D_i h_i),    z = U norm(s_n)
    mu_i = sigmoid(g_i / 0.1), g_i from 0    D: (w, d)   U: (d, w)   h_i: (..., d), what block i of the backbone gives

w = d / r, and the side network's feed-forward width and head size are the backbone's divided by r, with as many heads.
h_0 are the embeddings. Of the blocks, every fourth, counted from the first, has no side block (`skip`), as in the paper's
runs of T5-base. z takes the place of the last states. A decoder has a ladder of its own, which attends to the encoder's
side states.

No gradient enters the backbone and none of its activations is kept, as long as nothing in it is trained: a sum with a
method that trains something inside brings the whole way back.

What differs from the paper: its side network starts as a part of the backbone, of rows chosen by their Fisher
information; this one starts as the family draws its weights, D and U from N(0, 0.01). h_i of a T5's last block is taken
behind the last norm. Its code keeps a gate for blocks that are left out: on T5-base, r = 8, it has 3,878,712 numbers
(1.74%) and this file six fewer. An encoder's ladder has no counterpart in the paper; it ends with its last block's own
norm. Heads read it: a backbone that writes text is refused.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib import backbones
from peftlib.anatomy import Anatomy, Shape, walk
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, linear, require

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TEMPERATURE, BUCKETS = 0.1, 32  # of the gates; of T5's relative positions


class Given(nn.Module):
    """In the place of a model's embeddings: what it is given."""

    def forward(
        self, input_ids: None = None, inputs_embeds: Tensor | None = None, *_: object, **__: object
    ) -> Tensor | None:
        return inputs_embeds


class Rung(nn.Module):
    """A side block and its way in: Block(mu s + (1 - mu) D h)."""

    def __init__(self, block: nn.Module, width: int, side: int):
        super().__init__()
        self.block, self.D = block, linear(width, side)
        self.g = nn.Parameter(torch.zeros(()))
        self.h: Tensor | None = None  # while a pass lasts

    def forward(self, s: Tensor, *args: Any, **kwargs: Any) -> Any:
        h, self.h = self.h, None
        mu = torch.sigmoid(self.g / TEMPERATURE)
        return self.block(mu * s + (1 - mu) * self.D(h), *args, **kwargs)


class Ladder(nn.Module):
    """The side network: a narrow model of the backbone's family without embeddings, whose blocks are rungs.

    kept: for each stack the blocks of the backbone that have a rung.
    """

    def __init__(self, side: PreTrainedModel, width: int, kept: dict[str, list[int]]):
        super().__init__()
        anatomy = Anatomy(side)
        narrow, self.side, self.kept = anatomy.shape.width, side, kept
        self.first = nn.ModuleDict({stack: linear(width, narrow) for stack in kept})
        for stack in kept:
            blocks: nn.ModuleList = walk(side, anatomy.table.stacks[stack])  # type: ignore[assignment]  # `Anatomy` has looked
            for i, block in enumerate(blocks):
                blocks[i] = Rung(block, width, narrow)
        self.stacks = anatomy.table.stacks
        self.up = linear(narrow, width)

    def forward(self, states: dict[str, tuple[Tensor, ...]], mask: Tensor) -> Tensor:
        """(batch, length, d) from the states of all layers. mask: (batch, length)."""
        for stack, kept in self.kept.items():
            rungs: nn.ModuleList = walk(self.side, self.stacks[stack])  # type: ignore[assignment]  # made in `__init__`
            for rung, i in zip(rungs, kept, strict=True):
                rung.h = states[stack][i + 1]
        start = {stack: first(states[stack][0]) for stack, first in self.first.items()}
        given = {"inputs_embeds": start["encoder"], "attention_mask": mask}
        if "decoder" in start:
            given |= {"decoder_inputs_embeds": start["decoder"], "use_cache": False}
        return self.up(self.side(**given).last_hidden_state)


@dataclass(frozen=True)
class LST(Method):
    """Ladder side-tuning.

    reduction: r > 0, which divides the backbone's width, feed-forward width and head size. skip: blocks 0, skip, 2 skip
    and so on have no side block; 0: every block has one.
    """

    reduction: int = 8
    skip: int = 4

    title = "Ladder side-tuning"
    family = "additive"
    paper = "lst"
    near_identity = None
    by_layer = False
    about = {"name": "LST", "color": "green", "marker": "h", "line": "-.", "small": "reduction=2, skip=0"}

    def check(self) -> None:
        require(self, reduction=self.reduction > 0, skip=self.skip == 0 or self.skip > 1)

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: sizes that the reduction does not divide.
        """
        self.narrow(at.shape)
        backbone, table = at.model.backbone, at.anatomy.table
        config, depths = (
            copy.deepcopy(backbone.config),
            {"encoder": at.shape.encoder_layers, "decoder": at.shape.decoder_layers},
        )
        kept = {stack: self.rungs(depth) for stack, depth in depths.items() if depth}
        for name in table.config.keys() - {"heads"}:
            setattr(config, table.config[name], getattr(config, table.config[name]) // self.reduction)
        config.num_hidden_layers, config.vocab_size = len(kept["encoder"]), 8  # no embedding is used
        if "decoder" in kept:
            config.num_decoder_layers = len(kept["decoder"])
        side = backbones.from_config(config, "meta" if backbone.device.type == "meta" else "cpu")
        if hasattr(side, "embeddings"):
            side.embeddings, side.pooler = Given(), None  # type: ignore[assignment]  # as its class takes no pooler
        else:
            side.set_input_embeddings(Given())
        at.share("ladder", Ladder(side, at.shape.width, kept))

    def readout(self, at: Attachment, states: dict[str, tuple[Tensor, ...]], mask: Tensor) -> Tensor:
        (ladder,) = at.shared
        more = states["encoder"][0].shape[1] - mask.shape[1]  # positions of a soft prompt
        return ladder(states, F.pad(mask, (more, 0), value=1))

    def rungs(self, depth: int) -> list[int]:
        """The blocks of a stack that have a side block."""
        return [i for i in range(depth) if not self.skip or i % self.skip]

    def narrow(self, shape: Shape) -> tuple[int, int, int]:
        """Width, heads x head size and feed-forward width of the side network.

        Raises:
            UsageError: the reduction does not divide them, or leaves no block.
        """
        r, head = self.reduction, shape.inner // shape.heads
        if shape.width % r or shape.ffn % r or head % r:
            raise UsageError(
                f"{self}: reduction must divide the width {shape.width}, the feed-forward width {shape.ffn} and the head "
                f"size {head} of this backbone"
            )
        if not all(self.rungs(depth) for depth in (shape.encoder_layers, shape.decoder_layers) if depth):
            raise UsageError(f"{self} leaves no side block beside {shape.layers} blocks: expected skip=0, or more blocks")
        return shape.width // r, shape.inner // r, shape.ffn // r

    def formula(self, shape: Shape) -> int:
        (w, inner, ffn), d, b = self.narrow(shape), shape.width, shape.biases
        attention = 4 * w * inner + b * (3 * inner + w) + w * (1 + b)
        network = (3 if shape.gated else 2) * w * ffn + b * (ffn + w) + w * (1 + b)
        total = w * d + d
        for depth, attentions in ((shape.encoder_layers, 1), (shape.decoder_layers, 2)):
            if depth:
                n = len(self.rungs(depth))
                total += n * (attentions * attention + network + 1) + (n + 1) * (d * w + w)
                total += 0 if b else BUCKETS * shape.heads + w  # relative positions, and a norm after the last block
        return total
