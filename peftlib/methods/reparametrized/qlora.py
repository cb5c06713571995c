"""QLoRA (Dettmers et al., 2023; survey, section 9.2): LoRA beside weights that are stored in four bits.

    W x  ->  W~ x + (alpha / r) B A x        W~: what W's codes stand for, in the type of x

Every linear layer of the blocks is quantised when the model is built (`nf4.py`), embeddings, norms and heads are not.
Gradients pass through W~ to x and never to W; it is computed anew in the backward pass. The model starts at the quantised
backbone, not at the pretrained one: a weight is off by 0.092 of its matrix's deviation. LoRA stands on all six kinds of
layers, as the paper found necessary (its figure 2), with r = 64, alpha = 16 and dropout 0.1.

A delta holds A and B alone: the backbone is quantised again where it is loaded. Merging gives the layers back in full
precision, W~ + (alpha / r) B A; rounding that to four bits again would lose most of a small change. Paged optimizers and
the library's kernels are no part of the method's numbers; where `bitsandbytes` is installed and the weights are on CUDA, it
turns codes into weights.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from torch import nn

from peftlib.edits import Edited, Replaced
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, require
from peftlib.methods.reparametrized.lora import LoRA
from peftlib.methods.reparametrized.nf4 import Quantised


@dataclass(frozen=True)
class QLoRA(LoRA):
    """Low-rank adaptation of a backbone in four bits.

    rank: r > 0, at most the smaller side of every weight. alpha: the change is scaled by alpha / r (None: alpha = r).
    sites: which layers have a change, of query, key, value, output, up, down. dropout: of x in the low-rank branch.
    stabilised: scale by alpha / sqrt(r). block: weights that share a constant, even, a divisor of every matrix's number of
    weights. double: quantise these constants, too.
    """

    rank: int = 64
    alpha: float | None = 16.0
    sites: tuple[str, ...] = ("query", "key", "value", "output", "up", "down")
    dropout: float = 0.1
    block: int = 64
    double: bool = True

    title = "QLoRA"
    paper = "qlora"
    near_identity = 0.3
    about = {
        "name": "QLoRA",
        "color": "blue",
        "marker": "P",
        "line": "--",
        "row": "rank=8, alpha=8.0, dropout=0.0",
        "small": "rank=4, dropout=0.0",
    }

    def check(self) -> None:
        super().check()
        require(self, block=self.block > 0 and self.block % 2 == 0)

    def attach(self, at: Attachment) -> None:
        for site in at.anatomy.linears:
            layer = getattr(site.module, "base", site.module)
            if isinstance(layer, Replaced):
                continue  # for another task's copy
            if isinstance(site.module, Edited):
                raise UsageError(
                    f"{self} stores {site.name!r} in four bits, and a method written before it stands there: "
                    f"write {type(self).__name__} first"
                )
            if not isinstance(layer, nn.Linear) or "weight" not in layer._parameters or layer.weight.requires_grad:
                raise UsageError(
                    f"{self} stores {site.name!r} in four bits, and a method written before it trains or computes that "
                    "weight: take one of the two out"
                )
            if layer.weight.numel() % self.block:
                raise UsageError(
                    f"{self}: the weight of {site.name!r} is {site.fan_out} x {site.fan_in}, which blocks of {self.block} "
                    f"do not divide: expected an even block that divides {layer.weight.numel():,}, such as 64"
                )
            at.replace(site, Quantised(layer, self.block, self.double))
        super().attach(at)

    def merge(self, at: Attachment) -> None:
        super().merge(at)
        for site in at.anatomy.linears:
            at.give_back(site)

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        """Every weight that is quantised."""
        layers = [getattr(site.module, "base", site.module) for site in at.anatomy.linears]
        return {id(layer.outline): layer.outline.numel() for layer in layers if isinstance(layer, Replaced)}
