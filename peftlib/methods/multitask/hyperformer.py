"""HyperFormer (Karimi Mahabadi et al., 2021b): hypernetworks that all tasks share write the adapters of each.

    A(x) = LN_{gamma, beta}(U gelu(D x + b_D) + b_U) + x                        x: (..., d)   D: (a, d)   U: (d, a)    (3)
    (D, b_D) = W^D I    (U, b_U) = W^U I    (gamma, beta) = W^LN I               I: (t,)   a = d / reduction         (6, 7)

after ``attention.output`` and after ``ffn.down``, before dropout, residual and norm; T5's cross-attention has none. All
layer norms of the backbone are trained beside them. The two methods differ in who has W, and in what I is made of:

`HyperFormer`          a set of W for each adapter           I = h(z)               z: (512,) of a task                  (5)
`HyperFormerPlusPlus`  one for all adapters of a stack       I = LN(h([z; l; p]))   z, l, p: (t,) of a task, a layer and
                                                                                    a position, l and p a stack's own    (8)

h is linear, ReLU, linear, with 128 numbers between; HyperFormer has one, HyperFormer++ one a stack. A further task costs
its z. On T5-Base, for 8 tasks and with reduction 32, they are 122,357,056 numbers and 5,163,440, each beside T5's 47,616
in layer norms.

gamma is what W^LN gives: near 0 at the start, where the adapters add nearly nothing, and the nearer, the smaller I is. With
weights of all linear layers from N(0, 0.01), biases 0 and embeddings from N(0, 1), |I| is about 0.15 in HyperFormer, and
sqrt(t) behind the layer norm of HyperFormer++, whose model starts farther away.

The paper's equations have no biases; its printed counts do, and the authors' code (adapters/adapter_modeling.py). From
there are also the start, GELU in its tanh form, and the eps of 1e-6 in the layer norm of I. Its appendix gives z 512
numbers; by the counts of Table 1 that is HyperFormer's alone.

What Table 4 removes: ``blocks=False`` leaves nothing but the backbone's layer norms to train; ``conditional_norm=False``
gives every adapter a layer norm that all tasks share, which starts as that of `TaskAdapters`: on T5 far from the backbone;
``projector=False`` makes I a task's embedding itself, of t numbers, so that W keep their size, and |I| is sqrt(t);
``train_norms=False`` leaves the backbone's norms as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.edits import Current
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, require
from peftlib.methods.multitask.hypernet import (
    SITES,
    Generated,
    Generator,
    Hypernet,
    Writes,
    gamma_at,
    joined,
    linear,
    width_of_bottleneck,
)
from peftlib.methods.multitask.task_adapters import TaskAdapters
from peftlib.methods.selective.layernorm import LayerNormTuning

ACTIVATION = "gelu_new"


def projector(fan_in: int, hidden: int, t: int) -> nn.Sequential:
    """h."""
    return nn.Sequential(linear(fan_in, hidden), nn.ReLU(), linear(hidden, t))


def projector_size(fan_in: int, hidden: int, t: int) -> int:
    """Its parameters."""
    return (fan_in + 1) * hidden + (hidden + 1) * t


class OneEach(Hypernet):
    """HyperFormer's: every set of W writes one adapter, all from the same I. h_I: None where that is z."""

    def __init__(
        self, tasks: tuple[str, ...], current: Current, features: int, h_I: nn.Module | None, generators: list[Generator]
    ):
        super().__init__(tasks, current, features, generators)
        self.h_I = h_I

    def embed(self, which: int) -> Tensor:
        z = self.task()[None]
        if self.h_I is None:
            return z
        h_I = self.h_I
        return self.current.once((id(self), "I"), lambda: h_I(z))


class Stack(nn.Module):
    """What makes I for the adapters of a stack, from z: rows layer by layer, the positions of a layer together."""

    def __init__(self, layers: int, t: int, hidden: int):
        super().__init__()
        self.l = nn.Parameter(torch.randn(layers, t))
        self.p = nn.Parameter(torch.randn(len(SITES), t))
        self.h_I, self.norm = projector(3 * t, hidden, t), nn.LayerNorm(t, eps=1e-6)

    def forward(self, z: Tensor) -> Tensor:
        """(2 layers, t)."""
        return self.norm(self.h_I(joined(z, self.l, self.p).flatten(0, 1)))

    @staticmethod
    def size(layers: int, t: int, hidden: int) -> int:
        """Its parameters."""
        return (layers + len(SITES)) * t + projector_size(3 * t, hidden, t) + 2 * t


class OneAStack(Hypernet):
    """HyperFormer++'s: a stack's set of W writes all its adapters."""

    def __init__(self, tasks: tuple[str, ...], current: Current, t: int, stacks: list[Stack], generators: list[Generator]):
        super().__init__(tasks, current, t, generators)
        self.stacks = nn.ModuleList(stacks)

    def embed(self, which: int) -> Tensor:
        return self.stacks[which](self.task())


@dataclass(frozen=True)
class HyperFormer(Writes, Method):
    """Adapters written from a task's embedding, each by hypernetworks of its own.

    reduction: a = d / reduction, rounded down. bottleneck: a itself, in place of reduction. features: numbers in z.
    task_dim: t, those in I. hidden: inner width of the projector. blocks, conditional_norm, projector, train_norms: False
    removes the adapters, what writes their layer norms, the projector (z then has t numbers), or the training of the
    backbone's layer norms (which is not possible under PerTask).
    """

    reduction: int = 32
    bottleneck: int | None = None
    features: int = 512
    task_dim: int = 64
    hidden: int = 128
    blocks: bool = True
    conditional_norm: bool = True
    projector: bool = True
    train_norms: bool = True

    title = "HyperFormer"
    family = "multitask"
    paper = "hyperformer"
    near_identity = 0.01
    about = {
        "name": "HyperFormer",
        "color": "green",
        "marker": "s",
        "line": "--",
        "example": "HyperFormer(reduction=32)",
        "small": "bottleneck=4, features=32, task_dim=16, hidden=32",
        "rates": 0.3,
    }

    def check(self) -> None:
        require(
            self,
            reduction=self.reduction > 0,
            bottleneck=self.bottleneck is None or self.bottleneck > 0,
            features=self.features > 0,
            task_dim=self.task_dim > 0,
            hidden=self.hidden > 0,
            blocks=self.blocks or self.train_norms,
        )

    def attach(self, at: Attachment) -> None:
        if self.blocks:
            t, norm_std = self.task_dim, 0.01 if self.conditional_norm else None
            a = width_of_bottleneck(self, self.bottleneck, self.reduction, at.shape)
            sites = at.anatomy.at(*SITES)
            hypernet = OneEach(
                at.tasks if at.task is None else (at.task,),
                at.current,
                self.features if self.projector else t,
                projector(self.features, self.hidden, t) if self.projector else None,
                [Generator(t, at.shape.width, a, norm_std) for _ in sites],
            )
            at.share("hypernet", hypernet)
            for which, site in enumerate(sites):
                at.edit(site, Generated(hypernet, which, 0, ACTIVATION, gamma=gamma_at(at)))
        if self.train_norms:
            LayerNormTuning().attach(at)

    def plain(self) -> Method:
        if not self.blocks:
            raise UsageError(f"{self} has no adapters that could be written")
        return TaskAdapters(reduction=self.reduction, bottleneck=self.bottleneck, train_norms=self.train_norms)

    def formula(self, shape: Shape, tasks: int = 1) -> int:
        """The whole hypernetwork, with one task embedding for each of `tasks`."""
        norms = LayerNormTuning().formula(shape) if self.train_norms else 0
        if not self.blocks:
            return norms
        t, n, sites = self.task_dim, shape.width, shape.layers * len(SITES)
        a = width_of_bottleneck(self, self.bottleneck, self.reduction, shape)
        one = Generator.size(t, n, a, self.conditional_norm) + (0 if self.conditional_norm else 2 * n)
        made = tasks * self.features + projector_size(self.features, self.hidden, t) if self.projector else tasks * t
        return made + sites * one + norms


@dataclass(frozen=True)
class HyperFormerPlusPlus(Writes, Method):
    """Adapters written from embeddings of task, layer and position, by hypernetworks that a stack shares.

    reduction: a = d / reduction, rounded down. bottleneck: a itself, in place of reduction. task_dim: t, numbers in each
    embedding and in I. hidden: inner width of the projectors. conditional_norm, train_norms: False removes what writes
    the adapters' layer norms, or the training of the backbone's layer norms (which is not possible under PerTask).
    """

    reduction: int = 32
    bottleneck: int | None = None
    task_dim: int = 64
    hidden: int = 128
    conditional_norm: bool = True
    train_norms: bool = True

    title = "HyperFormer++"
    family = "multitask"
    paper = "hyperformer"
    near_identity = 0.5
    about = {
        "name": "HyperFormer++",
        "color": "green",
        "marker": "8",
        "line": (3, 1, 1, 1),
        "example": "HyperFormerPlusPlus(reduction=32)",
        "small": "bottleneck=4, task_dim=16, hidden=32",
        "rates": 0.1,
    }

    def check(self) -> None:
        require(
            self,
            reduction=self.reduction > 0,
            bottleneck=self.bottleneck is None or self.bottleneck > 0,
            task_dim=self.task_dim > 0,
            hidden=self.hidden > 0,
        )

    def attach(self, at: Attachment) -> None:
        t, norm_std = self.task_dim, 0.01 if self.conditional_norm else None
        a = width_of_bottleneck(self, self.bottleneck, self.reduction, at.shape)
        sites = at.anatomy.at(*SITES)
        stacks = {name: [s for s in sites if s.stack == name] for name in dict.fromkeys(s.stack for s in sites)}
        hypernet = OneAStack(
            at.tasks if at.task is None else (at.task,),
            at.current,
            t,
            [Stack(len(own) // len(SITES), t, self.hidden) for own in stacks.values()],
            [Generator(t, at.shape.width, a, norm_std) for _ in stacks],
        )
        at.share("hypernet", hypernet)
        for which, own in enumerate(stacks.values()):
            for row, site in enumerate(own):  # block by block, as `Stack` has its rows
                at.edit(site, Generated(hypernet, which, row, ACTIVATION, gamma=gamma_at(at)))
        if self.train_norms:
            LayerNormTuning().attach(at)

    def plain(self) -> Method:
        return TaskAdapters(reduction=self.reduction, bottleneck=self.bottleneck, train_norms=self.train_norms)

    def formula(self, shape: Shape, tasks: int = 1) -> int:
        """The whole hypernetwork, with one task embedding for each of `tasks`."""
        t, n = self.task_dim, shape.width
        a = width_of_bottleneck(self, self.bottleneck, self.reduction, shape)
        generator = Generator.size(t, n, a, self.conditional_norm)
        stacks = [layers for layers in (shape.encoder_layers, shape.decoder_layers) if layers]
        made = tasks * t + sum(Stack.size(layers, t, self.hidden) + generator for layers in stacks)
        unwritten = 0 if self.conditional_norm else shape.layers * len(SITES) * 2 * n
        return made + unwritten + (LayerNormTuning().formula(shape) if self.train_norms else 0)
