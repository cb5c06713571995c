"""AdaptBert's hypernetwork (section 4.4): one small network writes the adapters of every task, layer and position.

    I = LN(FFP(ReLU(FFL([z_task; l_layer; p_position]))))     z, l, p, I: (t,)                               (1)
    (U, D) = (W^U, W^D) I                                      U: (n, a) and b_U: (n,);  D: (a, n) and b_D: (a,)  (2)
    (gamma, beta) = W^LN I                                     gamma, beta: (n,)                               (3)
    A(x) = LN_{gamma, beta}(U GELU(D x + b_D) + b_U) + x       x: (..., n)                                     (4)

x is what `AdaptBertAdapter` adapts: the output of self-attention (n = d) and the feed-forward network's hidden
activation (n = d_ff). The widths differ, hence two sets of W; embeddings and projector are shared by both. T5's two
stacks share them too, with a layer embedding for every block.

What the paper leaves open is read as in HyperFormer (Karimi Mahabadi et al., 2021b), which it follows: W are linear layers
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

from peftlib.anatomy import Shape
from peftlib.edits import Current
from peftlib.methods.base import Attachment, Method, require
from peftlib.methods.multitask.hypernet import SITES, Generated, Generator, Hypernet, Writes, joined
from peftlib.methods.multitask.task_adapters import TaskAdapters

ACTIVATION = "gelu"


class AdaptBertNetwork(Hypernet):
    """A set of W for each position, whose widths differ; embeddings and projector for all."""

    def __init__(
        self, tasks: tuple[str, ...], current: Current, layers: int, t: int, hidden: int, generators: list[Generator]
    ):
        super().__init__(tasks, current, t, generators)
        self.l = nn.Parameter(torch.randn(layers, t))
        self.p = nn.Parameter(torch.randn(len(SITES), t))
        self.h_I = nn.Sequential(nn.Linear(3 * t, hidden), nn.ReLU(), nn.Linear(hidden, t), nn.LayerNorm(t))

    def embed(self, which: int) -> Tensor:
        """Equation 1 for the current task and every layer: I (layers, t)."""
        return self.h_I(joined(self.task(), self.l, self.p[which : which + 1]).flatten(0, 1))


@dataclass(frozen=True)
class AdaptBertHypernet(Writes, Method):
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
        hypernet = at.share("hypernet", AdaptBertNetwork(tasks, at.current, shape.layers, t, self.hidden, generators))
        for position, name in enumerate(SITES):
            for layer, site in enumerate(at.anatomy.at(name)):
                at.edit(site, Generated(hypernet, position, layer, ACTIVATION, on_input=name == "ffn.down"))

    def plain(self) -> Method:
        return TaskAdapters(bottleneck=self.bottleneck, activation=ACTIVATION, hidden=True, train_norms=False)

    def formula(self, shape: Shape, tasks: int = 1) -> int:
        """The whole hypernetwork, with one task embedding for each of `tasks`."""
        t, a, h = self.task_dim, self.bottleneck, self.hidden
        embeddings = (tasks + shape.layers + len(SITES)) * t
        projector = (3 * t + 1) * h + (h + 1) * t + 2 * t
        generators = sum(Generator.size(t, n, a) for n in (shape.width, shape.ffn))
        return embeddings + projector + generators
