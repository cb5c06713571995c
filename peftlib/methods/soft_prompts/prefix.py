"""Prefix tuning (Li & Liang, 2021): trained keys and values before those of every attention.

    attention(Q, [P_K ; K], [P_V ; V])        P_K, P_V: (length, inner) a layer

The prefixes of all layers of one kind of attention (encoder self, decoder self, cross) are trained through one
reparametrisation (their section 4.3), because training them directly is unstable:

    [P_K ; P_V] = W2 tanh(W1 E + b1) + b2     E: (length, d)   W1: (mlp, d)   W2: (layers 2 inner, mlp)

After training the network is dropped and only the prefixes it produces are kept: the same outputs from far fewer stored
numbers. ``mlp=None`` trains the prefixes themselves; the survey lists that run as "prompt tuning" (its Table 5, by its
count). Prefix positions are always attended to, carry no relative position bias and move no token. Weights start as torch
draws those of `Embedding` and `Linear`, flat prefixes from N(0, 1), as in the ``adapters`` library the survey's runs
used; neither leaves the model near where it was.

Hugging Face `peft` (0.21) hands prefixes to the model as a cache of tokens already read. BERT's tokens then move up by
`length` absolute positions, and T5's relative bias treats prefixes as tokens before the first one. In T5 only the
decoder's self-attention gets any there, and layer i of L that of layer 2i mod L.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape, Site
from peftlib.edits import Edit
from peftlib.methods.base import Attachment, Method, Ref, affordable, require


class PrefixMLP(nn.Module):
    """The reparametrisation of one kind of attention."""

    def __init__(self, length: int, width: int, mlp: int, layers: int, inner: int):
        super().__init__()
        self.rows = 2 * inner
        self.embedding = nn.Embedding(length, width)
        self.W1 = nn.Linear(width, mlp)
        self.W2 = nn.Linear(mlp, layers * self.rows)

    def forward(self, layer: int) -> Tensor:
        """The prefix of one layer, (2, length, inner); no other layer's part of W2 is computed."""
        own = slice(layer * self.rows, (layer + 1) * self.rows)
        hidden = torch.tanh(self.W1(self.embedding.weight))
        return F.linear(hidden, self.W2.weight[own], self.W2.bias[own]).unflatten(1, (2, -1)).transpose(0, 1)


class Prefix(Edit):
    """Keys and values before those of one attention: ``flat``, (2, length, inner), or a slice of a shared network."""

    def __init__(self, heads: int, flat: Tensor | None, mlp: PrefixMLP | None, layer: int):
        super().__init__()
        self.heads, self.layer = heads, layer
        self.mlp = None if mlp is None else Ref(mlp)
        self.flat = None if flat is None else nn.Parameter(flat)

    def prefix(self) -> Tensor:
        """Keys and values: (2, length, inner)."""
        return self.flat if self.mlp is None else self.mlp.module(self.layer)  # type: ignore[return-value]  # one of them is there

    def inside(self, batch: int) -> tuple[Tensor, Tensor]:
        by_head = self.prefix().unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = by_head.unsqueeze(1).expand(-1, batch, -1, -1, -1)
        return key, value

    @torch.no_grad()
    def flatten(self) -> None:
        """Keep the prefix itself and forget the network it came from."""
        self.flat, self.mlp = nn.Parameter(self.prefix().clone(memory_format=torch.contiguous_format)), None


@dataclass(frozen=True)
class PrefixTuning(Method):
    """Prefix tuning.

    length: prefix positions > 0. mlp: width of the reparametrisation's hidden layer (512 in the released code, 800 in
    the paper's sequence-to-sequence runs); None trains the prefixes directly.
    """

    length: int = 30
    mlp: int | None = 512

    title = "Prefix tuning"
    family = "soft prompts"
    paper = "prefixtuning"
    near_identity = None
    about = {
        "name": "prefix tuning",
        "color": "purple",
        "marker": "v",
        "line": "--",
        "row": "length=30",
        "small": "length=4, mlp=16",
        "peft": "PrefixTuningConfig",
        "adapters": "PrefixTuningConfig",
    }

    def check(self) -> None:
        require(self, length=self.length > 0, mlp=self.mlp is None or self.mlp > 0)

    def attach(self, at: Attachment) -> None:
        affordable(self, self._flat(at.shape), at.shape)
        kinds: dict[str, list[Site]] = {}
        for site in at.anatomy.at("*"):
            kinds.setdefault(f"{site.stack}_{site.name}", []).append(site)
        for kind, sites in kinds.items():
            mlp = None
            if self.mlp is not None:
                shape = at.shape
                mlp = at.share(kind, PrefixMLP(self.length, shape.width, self.mlp, len(sites), shape.inner))
            for layer, site in enumerate(sites):
                flat = torch.randn(2, self.length, at.shape.inner) if mlp is None else None
                at.edit(site, self.prefix(at, site, flat, mlp, layer))

    def prefix(self, at: Attachment, site: Site, flat: Tensor | None, mlp: PrefixMLP | None, layer: int) -> Prefix:
        """The edit of one attention."""
        return Prefix(at.shape.heads, flat, mlp, layer)

    def finish(self, at: Attachment) -> None:
        """Replace the networks by the prefixes they produce."""
        if not at.shared:
            return
        for _, edit in at.edits:
            if isinstance(edit, Prefix):
                edit.flatten()
        for name in self._networks(at):
            del at.model.shared[name]
        at.shared = []

    @staticmethod
    def _networks(at: Attachment) -> list[str]:
        return [name for name, module in at.model.shared.items() if any(module is m for m in at.shared)]

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        """A delta saved after `finish` holds flat prefixes: give up the networks to make room for them."""
        if not any(f"shared.{name}.W1.weight" in tensors for name in self._networks(at)):
            self.finish(at)

    def formula(self, shape: Shape) -> int:
        if self.mlp is None:
            return self._flat(shape)
        kinds = (shape.encoder_layers > 0) + 2 * (shape.decoder_layers > 0)
        network = self.length * shape.width + self.mlp * (shape.width + 1)
        return kinds * network + shape.attentions * 2 * shape.inner * (self.mlp + 1)

    def _flat(self, shape: Shape) -> int:
        return shape.attentions * 2 * self.length * shape.inner

    def trainable(self, at: Attachment) -> int:
        """Parameters that receive gradients while training, also when asked after `finish`."""
        finished = self.mlp is not None and not at.shared
        return self.formula(at.shape) if finished else super().trainable(at)

    def stored(self, at: Attachment) -> int:
        return self._flat(at.shape)

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        return {(at.slot, at.task): self._flat(at.shape)}
