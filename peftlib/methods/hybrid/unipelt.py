"""UniPELT (Mao et al., 2022; survey, section 10.3): prefixes, LoRA and an adapter in every block, each behind a gate.

    attention(Q, [g P_K ; K], [g P_V ; V])        g = mean over tokens of sigmoid(w . x + c)
    W x + g B A x                                 on query and value, each with a g of its own
    y + g (U relu(D y + b_D) + b_U)               behind the feed-forward network

A gate is one number for every text: it lets the model use a part where that part helps. It reads what its part reads: the
input of the attention's projections, or the feed-forward network's output y. The prefix's keys and values share one.
w starts from N(0, 0.02) and c at zero, as the authors' model draws them, so that every gate starts near one half; it takes
the place of LoRA's alpha / r. (The `adapters` library draws c of the first two kinds as torch does.) Prefixes come from
one network a kind of attention, as in `PrefixTuning`, which is dropped after training; adapters are of Pfeiffer's kind.

The authors' code takes the mean over padding, too, so that an answer depends on what else is in a batch; here over the
text alone, the same where nothing is padded. In a decoder a gate would read an answer that is not written yet: there, one
that writes is refused.

On BERT-base with the released configuration (l = 10, a = 48, r = 8) 11,083,376 numbers are trained and 1,410,672 stored,
1.29 % of it. What depends on the text cannot be merged.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape, Site
from peftlib.edits import Current
from peftlib.methods.adapters.bottleneck import Bottleneck
from peftlib.methods.adapters.pfeiffer import PfeifferFFN
from peftlib.methods.base import Attachment, Ref, normal, require
from peftlib.methods.reparametrized.lora import LoRA, LowRank, fits
from peftlib.methods.soft_prompts.adaptive import reads_whole_texts
from peftlib.methods.soft_prompts.prefix import Prefix, PrefixMLP, PrefixTuning


class Gate(nn.Module):
    """(batch, 1, 1) from what is read, (batch, tokens, d). text: is that of the encoder, with padding?"""

    def __init__(self, width: int, current: Current, text: bool):
        super().__init__()
        self.linear, self.current, self.text = nn.Linear(width, 1), current, text
        normal(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        each, mask = torch.sigmoid(self.linear(x)), self.current.mask if self.text else None
        if mask is None:
            return each.mean(1, keepdim=True)
        real = F.pad(mask, (x.shape[1] - mask.shape[1], 0), value=1)[:, :, None].to(each.dtype)  # a prompt ahead counts
        return (each * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)


class GatedPrefix(Prefix):
    """A prefix times its gate. x: what the attention reads, recorded."""

    def __init__(self, gate: Gate, x: Ref, heads: int, flat: Tensor | None, mlp: PrefixMLP | None, layer: int):
        super().__init__(heads, flat, mlp, layer)
        self.gate, self.x = gate, x

    def inside(self, batch: int) -> tuple[Tensor, Tensor]:
        key, value = super().inside(batch)
        gate = self.gate(self.x.module.take()).unsqueeze(-1)
        return gate * key, gate * value


class GatedLowRank(LowRank):
    """Adds ``g B A x`` to a linear layer's output."""

    changes: tuple[str, ...] = ()

    def __init__(self, gate: Gate, fan_in: int, fan_out: int, rank: int):
        super().__init__(fan_in, fan_out, rank, 1.0, 0.0)
        self.gate = gate

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + F.linear(self.gate(x) * F.linear(x, self.A), self.B)


class GatedAdapter(Bottleneck):
    """y + g (U relu(D y + b_D) + b_U) for what a site returns."""

    def __init__(self, gate: Gate, width: int, bottleneck: int):
        super().__init__(width, bottleneck, "relu", "bert")
        self.gate = gate

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.gate(y) * self.up(self.activation(self.down(y)))


@dataclass(frozen=True)
class UniPELT(PrefixTuning):
    """Gated prefixes, LoRA on query and value, and adapters behind the feed-forward network.

    length: prefix positions > 0. mlp: width of the prefixes' reparametrisation; None trains the prefixes themselves. rank:
    r > 0, at most the smaller side of every weight. bottleneck: a > 0.
    """

    length: int = 10
    rank: int = 8
    bottleneck: int = 48

    title = "UniPELT"
    family = "hybrid"
    paper = "unipelt"
    about = {
        "name": "UniPELT",
        "color": "green",
        "marker": "D",
        "line": "-",
        "row": "",
        "small": "length=2, mlp=16, rank=2, bottleneck=8",
        "adapters": "UniPELTConfig",
    }

    def check(self) -> None:
        super().check()
        require(self, rank=self.rank > 0, bottleneck=self.bottleneck > 0)

    def attach(self, at: Attachment) -> None:
        reads_whole_texts(self, at)
        super().attach(at)
        for site in at.anatomy.at("*.query", "*.value"):
            fan_out, fan_in = fits(self, site)
            at.edit(site, GatedLowRank(self._gate(at, site), fan_in, fan_out, self.rank))
        for site in at.anatomy.at("ffn.down"):
            at.edit(site, GatedAdapter(self._gate(at, site), at.shape.width, self.bottleneck))

    @staticmethod
    def _gate(at: Attachment, site: Site) -> Gate:
        text = site.stack == "encoder" or site.name == "cross_attention.value"
        return Gate(at.shape.width, at.current, text)

    def prefix(self, at: Attachment, site: Site, flat: Tensor | None, mlp: PrefixMLP | None, layer: int) -> Prefix:
        (query,) = (s for s in at.anatomy.at(f"{site.name}.query", stack=site.stack) if s.layer == site.layer)
        return GatedPrefix(self._gate(at, site), at.read(query), at.shape.heads, flat, mlp, layer)

    def formula(self, shape: Shape) -> int:
        parts = (LoRA(self.rank, sites=("query", "value")), PfeifferFFN(self.bottleneck))
        gates = shape.layers + 3 * shape.attentions
        return super().formula(shape) + sum(part.formula(shape) for part in parts) + gates * (shape.width + 1)

    def stored(self, at: Attachment) -> int:
        return replace(self, mlp=None).formula(at.shape)

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        return {(at.slot, at.task): self.stored(at)}
