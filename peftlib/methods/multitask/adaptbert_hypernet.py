"""AdaptBert's hypernetwork (section 4.4): one small network writes the adapters of every task, layer and position.

    I = LN(FFP(ReLU(FFL([z_task; l_layer; p_position]))))     z, l, p, I: (t,)                               (1)
    (U, D) = (W^U, W^D) I                                      U: (n, a) and b_U: (n,);  D: (a, n) and b_D: (a,)  (2)
    (gamma, beta) = W^LN I                                     gamma, beta: (n,)                               (3)
    A(x) = LN_{gamma, beta}(U GELU(D x + b_D) + b_U) + x       x: (..., n)                                     (4)

x is what `AdaptBertAdapter` adapts: the output of self-attention (n = d) and the feed-forward network's hidden
activation (n = d_ff). The widths differ, hence two sets of W; embeddings and projector are shared by both. T5's two
stacks share them too, with a layer embedding for every block.

What the paper leaves open is read as in HyperFormer (Mahabadi et al., 2021), which it follows: W are linear layers
with biases, of weights N(0, 0.01), embeddings are N(0, 1), the projector's inner width is 128, and gamma is generated
beside the beta that equation 3 writes (a norm without gamma would add a vector of unit size to every adapted
activation). Only W^LN starts elsewhere, at zero, so that the model starts where it was: HyperFormer's N(0, 0.01)
gives a gamma of 0.08, small beside T5's activations but not beside the hidden ones of a BERT. ``norm_std=0.01`` has
it back.

Counts: Table 3's "additional parameters stored" is the whole hypernetwork, "updated per task" a third of it. A unit
of a costs (t + 1)(2d + 2d_ff + 2) = 499,330 parameters on BERT-base; the table's slope, 0.4512% a unit, is 493,948 if
its percentages are of BERT's 109,482,240 parameters, or 499,330 of 110.7 million. At a = 8 ... 128 the table has
4.49, 8.1, 15.32, 29.76 and 58.63%; this file gives 4.36, 8.01, 15.31, 29.90, 59.09; with beta alone 4.14, 7.78,
15.08, 29.68, 58.87. The text does not say what makes up the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape
from peftlib.edits import Current, Edit
from peftlib.methods.base import Attachment, Method, Ref, require

POSITIONS = ("attention.output", "ffn.down")


def _linear(fan_in: int, fan_out: int, std: float = 0.01) -> nn.Linear:
    linear = nn.Linear(fan_in, fan_out)
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)
    return linear


class Generator(nn.Module):
    """Equations 2 and 3 for one width n: from I (layers, t) to the tensors of one adapter a layer."""

    def __init__(self, t: int, n: int, a: int, norm_std: float):
        super().__init__()
        self.n, self.a = n, a
        self.W_D, self.W_U, self.W_LN = _linear(t, a * n + a), _linear(t, n * a + n), _linear(t, 2 * n, norm_std)

    def forward(self, I: Tensor) -> list[tuple[Tensor, ...]]:  # noqa: E741 (the paper's symbol)
        """For each layer: D (a, n), b_D (a,), U (n, a), b_U (n,), gamma (n,), beta (n,)."""
        n, a = self.n, self.a
        D, b_D = self.W_D(I).split([a * n, a], dim=1)
        U, b_U = self.W_U(I).split([n * a, n], dim=1)
        gamma, beta = self.W_LN(I).split([n, n], dim=1)
        tensors = (D.unflatten(1, (a, n)), b_D, U.unflatten(1, (n, a)), b_U, gamma, beta)
        return list(zip(*(x.unbind() for x in tensors), strict=True))


class Hypernet(nn.Module):
    """Embeddings, projector and a generator for each position.

    The adapters of all layers are written together in a forward pass of the backbone and dropped when it ends: one matrix
    product, and one gradient as large as W, in place of one a layer (which a checkpointed block costs).
    """

    def __init__(
        self, tasks: tuple[str, ...], current: Current, layers: int, t: int, hidden: int, generators: list[Generator]
    ):
        super().__init__()
        self.row, self.current = {name: i for i, name in enumerate(tasks)}, current
        self.z = nn.Parameter(torch.randn(len(tasks), t))
        self.l = nn.Parameter(torch.randn(layers, t))
        self.p = nn.Parameter(torch.randn(len(POSITIONS), t))
        self.h_I = nn.Sequential(nn.Linear(3 * t, hidden), nn.ReLU(), nn.Linear(hidden, t), nn.LayerNorm(t))
        self.h = nn.ModuleList(generators)

    def embed(self, position: int) -> Tensor:
        """Equation 1 for the current task and every layer: I (layers, t)."""
        z, p = self.z[self.row[self.current.task]], self.p[position]  # type: ignore[index]  # some task
        return self.h_I(torch.cat([z.expand_as(self.l), self.l, p.expand_as(self.l)], dim=1))

    def adapter(self, position: int, layer: int) -> tuple[Tensor, ...]:
        """Tensors of one adapter; in a pass of the whole backbone all layers' are written at the first look."""
        if not self.current.whole:
            return self.h[position](self.embed(position)[layer : layer + 1])[0]
        return self.current.once((id(self), position), lambda: self.h[position](self.embed(position)))[layer]


class Generated(Edit):
    """Equation 4 at one place. It owns nothing."""

    def __init__(self, hypernet: Hypernet, position: int, layer: int):
        super().__init__()
        self.hypernet, self.position, self.layer = Ref(hypernet), position, layer

    def adapt(self, x: Tensor) -> Tensor:
        D, b_D, U, b_U, gamma, beta = self.hypernet.module.adapter(self.position, self.layer)
        h = F.linear(F.gelu(F.linear(x, D, b_D)), U, b_U)
        return x + F.layer_norm(h.float(), h.shape[-1:], gamma.float(), beta.float()).to(x.dtype)

    def before(self, x: Tensor) -> Tensor:
        return self.adapt(x) if POSITIONS[self.position] == "ffn.down" else x

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return self.adapt(y) if POSITIONS[self.position] == "attention.output" else y


@dataclass(frozen=True)
class AdaptBertHypernet(Method):
    """Adapters generated from task, layer and position.

    bottleneck: a > 0. task_dim: t > 0, the size of the embeddings and of I. hidden: inner width of the projector.
    norm_std: standard deviation of W^LN at the start; 0 starts at the pretrained model.
    """

    bottleneck: int = 64
    task_dim: int = 64
    hidden: int = 128
    norm_std: float = 0.0

    title = "AdaptBert hypernetwork"
    family = "multitask"
    paper = "adaptbert"
    about = {
        "name": "hypernetwork",
        "color": "green",
        "marker": "^",
        "line": (4, 1, 1, 1, 1, 1),
        "row": "bottleneck=32",
        "small": "bottleneck=8",
        "rates": 0.1,
    }

    def check(self) -> None:
        require(
            self,
            bottleneck=self.bottleneck > 0,
            task_dim=self.task_dim > 0,
            hidden=self.hidden > 0,
            norm_std=self.norm_std >= 0,
        )

    def attach(self, at: Attachment) -> None:
        t, shape = self.task_dim, at.shape
        tasks = at.tasks if at.task is None else (at.task,)
        generators = [Generator(t, n, self.bottleneck, self.norm_std) for n in (shape.width, shape.ffn)]
        hypernet = at.share("hypernet", Hypernet(tasks, at.current, shape.layers, t, self.hidden, generators))
        for position, name in enumerate(POSITIONS):
            for layer, site in enumerate(at.anatomy.at(name)):
                at.edit(site, Generated(hypernet, position, layer))

    def formula(self, shape: Shape, tasks: int = 1) -> int:
        """The whole hypernetwork, with one task embedding for each of `tasks`."""
        t, a, h = self.task_dim, self.bottleneck, self.hidden
        embeddings = (tasks + shape.layers + len(POSITIONS)) * t
        projector = (3 * t + 1) * h + (h + 1) * t + 2 * t
        generators = sum((t + 1) * (2 * n * a + a + n + 2 * n) for n in (shape.width, shape.ffn))
        return embeddings + projector + generators
