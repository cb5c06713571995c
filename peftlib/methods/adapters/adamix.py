"""AdaMix (Wang et al., 2022; survey, section 5.2): several adapters in a place, of which each pass takes one at random.

    y -> y + U f(D_j y + b_j) + b_U,   j ~ Uniform(1..M)        y: (..., d)   D_j: (a, d)   U: (d, a)

j is drawn for every place and every pass, for the whole batch. The adapters stand after ``ffn.down``, before dropout,
residual and norm. They have one U in common, as in the authors' runs; ``shared=False`` gives each its own and draws them
independently of D. Each batch is run twice, and the two outputs are to agree:

    loss = CE(z_1) + c/2 (KL(z_1 || z_2) + KL(z_2 || z_1))        CE on the first; in each KL only the second argument moves

A task with one logit is one of two classes to it; a score has no divergence. A text's is the mean over its tokens. After
training the M adapters are averaged into one, and every evaluation before computes with that average, so that the best
epoch is chosen by what is kept. Trained are M D's a block, stored is one adapter: on BERT-base with a = 48 and M = 4
2,223,360 numbers and 894,528.

The authors' classes for BERT leave the second pass out (``consistency=0``), that for RoBERTa has it; its weight there is 1.
Their code redraws all experts, N(0, 0.02), so that they differ from the start; f is the exact GELU.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape
from peftlib.edits import Current, Edit
from peftlib.methods.adapters.bottleneck import ACTIVATIONS, INITS, size
from peftlib.methods.base import Attachment, Method, Step, require


def drawn(fan_in: int, fan_out: int, count: int, init: str) -> nn.ModuleList:
    """Linear layers, each with weights of its own and no bias at the start."""
    made = nn.ModuleList(nn.Linear(fan_in, fan_out) for _ in range(count))
    for linear in made:
        INITS[init](linear.weight)  # type: ignore[arg-type]  # of an nn.Linear
        nn.init.zeros_(linear.bias)  # type: ignore[arg-type]  # as above
    return made


class Experts(Edit):
    """An adapter whose projections are one of several each: in training one of them, drawn once a pass, else their mean."""

    def __init__(self, current: Current, D: nn.ModuleList, U: nn.ModuleList, activation: str):
        super().__init__()
        self.current, self.D, self.U = current, D, U
        self.activation = ACTIVATIONS[activation]

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + F.linear(self.activation(F.linear(y, *self.acting(self.D))), *self.acting(self.U))

    def acting(self, experts: nn.ModuleList) -> tuple[Tensor, Tensor]:
        """Weight and bias of the projection that acts now."""
        if self.training or len(experts) == 1:
            # On the CPU: an index that a GPU has drawn would have to be waited for.
            one = self.current.draw(experts, lambda: int(torch.randint(len(experts), (), device="cpu")))
            return experts[one].weight, experts[one].bias  # type: ignore[return-value]  # of an nn.Linear
        return self.mean(experts, "weight"), self.mean(experts, "bias")

    @staticmethod
    def mean(experts: nn.ModuleList, name: str) -> Tensor:
        return torch.stack([getattr(linear, name) for linear in experts]).mean(0)

    @torch.no_grad()
    def average(self) -> None:
        """Keep of each projection one that is the mean."""
        for experts in (self.D, self.U):
            weight, bias = self.mean(experts, "weight"), self.mean(experts, "bias")
            del experts[1:]
            experts[0].weight, experts[0].bias = nn.Parameter(weight), nn.Parameter(bias)


@dataclass(frozen=True)
class AdaMix(Method):
    """A mixture of adapters after the feed-forward network.

    bottleneck: a > 0. experts: M > 0. shared: is there one U for all experts of a place? consistency: c >= 0, 0 for one
    pass instead of two. activation: relu, gelu, gelu_new or swish. init: houlsby N(0, 0.001) truncated, hyperformer
    N(0, 0.01) or bert N(0, 0.02).
    """

    bottleneck: int = 48
    experts: int = 4
    shared: bool = True
    consistency: float = 1.0
    activation: str = "gelu"
    init: str = "bert"

    title = "AdaMix"
    family = "adapters"
    paper = "adamix"
    near_identity = 0.05
    about = {"name": "AdaMix", "color": "orange", "marker": "X", "line": "--", "small": "bottleneck=8, experts=3"}

    def check(self) -> None:
        require(
            self,
            bottleneck=self.bottleneck > 0,
            experts=self.experts > 0,
            consistency=self.consistency >= 0,
            activation=self.activation in ACTIVATIONS,
            init=self.init in INITS,
        )

    @property
    def passes(self) -> int:
        return 2 if self.consistency else 1

    def attach(self, at: Attachment) -> None:
        width, a = at.shape.width, self.bottleneck
        for site in at.anatomy.at("ffn.down"):
            D = drawn(width, a, self.experts, self.init)
            U = drawn(a, width, 1 if self.shared else self.experts, self.init)
            at.edit(site, Experts(at.current, D, U, self.activation))

    def penalty(self, at: Attachment, step: Step) -> Tensor | None:
        one_logit = step.outputs.shape[-1] == 1
        score = one_logit and at.model.task_table[step.task].kind == "score"
        if not self.consistency or at.task not in (None, step.task) or score:
            return None
        first, second = step.outputs.float(), step.again().float()
        if one_logit:  # z is of two classes with logits 0 and z
            first, second = F.pad(first, (1, 0)), F.pad(second, (1, 0))
        apart = divergence(first, second) + divergence(second, first)
        counted = step.labels >= 0  # of an answer's tokens, those before its end
        return self.consistency / 2 * (apart * counted).sum() / counted.sum()

    def finish(self, at: Attachment) -> None:
        """Replace the experts by their mean, with which evaluation has computed before."""
        for _, edit in at.edits:
            edit.average()

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        """A delta saved after `finish` holds one expert: make it so here."""
        names = {id(module): name for name, module in at.model.named_modules()}
        for _, edit in at.edits:
            if f"{names[id(edit)]}.D.1.weight" not in tensors:
                edit.average()

    def formula(self, shape: Shape) -> int:
        width, a = shape.width, self.bottleneck
        ups = 1 if self.shared else self.experts
        return shape.layers * (self.experts * (width * a + a) + ups * (a * width + width))

    def _kept(self, shape: Shape) -> int:
        return shape.layers * size(shape.width, self.bottleneck)

    def trainable(self, at: Attachment) -> int:
        """What received gradients, also after `finish`."""
        return self.formula(at.shape)

    def stored(self, at: Attachment) -> int:
        return self._kept(at.shape)

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        return {(at.slot, at.task): self._kept(at.shape)}


def divergence(target: Tensor, moved: Tensor) -> Tensor:
    """KL(target || moved) of the classes that logits (..., classes) say, the target as it is: (...,)."""
    said = target.detach().log_softmax(-1)
    return F.kl_div(moved.log_softmax(-1), said, reduction="none", log_target=True).sum(-1)
