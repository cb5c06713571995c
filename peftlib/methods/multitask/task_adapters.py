"""The adapters that HyperFormer compares with (Karimi Mahabadi et al., 2021b, section 3): those of Houlsby et al., one a
task, each with a layer norm.

    A(x) = LN(U f(D x + b_D) + b_U) + x        x: (..., d)   D: (a, d)   U: (d, a)   LN: gamma and beta (d,)

after ``attention.output`` and after ``ffn.down``, before dropout, residual and norm; T5's cross-attention has none. The
backbone's layer norms are trained beside them. Adapters† (``shared_norms=True``) share all layer norms, the adapters' and
the backbone's, among tasks: T tasks are 2L (T (2da + a + d) + 2d) numbers and the backbone's norms. Else every task has its
own, also of the backbone's, as a scale (and a shift, where the backbone's norms have one) of what a norm returns:

    y -> s * y (+ b)        s, b: (d,), 1 and 0 at the start

which is gamma times s: as many numbers, and the same models.

Where the layer norm stands, f (GELU in its tanh form) and the start, weights N(0, 0.01) and biases 0, are those of the
authors' code (adapters/adapter_controller.py and adapter_modeling.py), and so is gamma = 1 where a sublayer's norm comes
before it, as in T5: an adapter adds a vector of deviation 1 to what it adapts, whatever its weights, so the model does not
start where the backbone is. T5's residual stream is far larger. Where the norm comes after the residual, as in BERT, that
vector is as large as the states themselves, and at no learning rate that was tried did such a model learn; there gamma
starts at 0 and the model at the backbone, as HyperFormer's, whose gammas start near 0.

``hidden=True`` puts the second adapter on the feed-forward network's hidden activation, of width d_ff, as AdaptBert's:
with that, these are the adapters that its hypernetwork writes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.edits import Current, Edit
from peftlib.methods.adapters.bottleneck import ACTIVATIONS, add_bias, size
from peftlib.methods.base import Attachment, Method, linear, require
from peftlib.methods.multitask.hypernet import SITES, Normed, Weights, gamma_at, numbers, own_norm, width_of_bottleneck
from peftlib.methods.selective.layernorm import LayerNormTuning


class Matrices(nn.Module):
    """D, U and their biases, for one task."""

    def __init__(self, n: int, a: int):
        super().__init__()
        self.down, self.up = linear(n, a), linear(a, n)


class TaskAdapter(Normed):
    """At one place, the adapters of all tasks: a layer norm for each, or one for all."""

    def __init__(
        self,
        tasks: tuple[str, ...],
        current: Current,
        n: int,
        a: int,
        shared: bool,
        activation: str,
        on_input: bool,
        gamma: float,
    ):
        super().__init__(activation, on_input)
        self.current = current
        self.by_task = nn.ModuleDict({task: Matrices(n, a) for task in tasks})
        self.norm = own_norm(n, gamma) if shared else nn.ModuleDict({task: own_norm(n, gamma) for task in tasks})

    def weights(self) -> Weights:
        task = self.current.task
        own: Matrices = self.by_task[task]  # type: ignore[index, assignment]  # some task, its matrices
        norm = self.norm[task] if isinstance(self.norm, nn.ModuleDict) else self.norm  # type: ignore[index]  # as above
        return Weights(own.down.weight, own.down.bias, own.up.weight, own.up.bias, norm.weight, norm.bias)  # type: ignore[arg-type]  # of a norm


class Scale(nn.Module):
    """s, and b where a norm has one."""

    def __init__(self, d: int, shift: bool):
        super().__init__()
        self.s = nn.Parameter(torch.ones(d))
        self.b = nn.Parameter(torch.zeros(d)) if shift else None


class TaskNorm(Edit):
    """A norm of the backbone as each task has it."""

    def __init__(self, tasks: tuple[str, ...], current: Current, d: int, shift: bool):
        super().__init__()
        self.current = current
        self.by_task = nn.ModuleDict({task: Scale(d, shift) for task in tasks})

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        own: Scale = self.by_task[self.current.task]  # type: ignore[index, assignment]  # some task, its scale
        y = y * own.s.to(y.dtype)
        return y if own.b is None else add_bias(y, own.b)


@dataclass(frozen=True)
class TaskAdapters(Method):
    """Adapters with layer norms for every task.

    reduction: a = d / reduction, rounded down. bottleneck: a itself, in place of reduction. shared_norms: one set of layer
    norms for all tasks (Adapters†), or one each. train_norms: train the backbone's layer norms too (shared ones not under
    PerTask). hidden: the second adapter on the feed-forward network's hidden activation. activation: relu, gelu, gelu_new
    or swish. gamma: what the adapters' layer norms start with (None: 1 where the backbone's norms come before its
    sublayers, else 0).
    """

    reduction: int = 32
    bottleneck: int | None = None
    shared_norms: bool = True
    train_norms: bool = True
    hidden: bool = False
    activation: str = "gelu_new"
    gamma: float | None = None

    title = "Adapters of tasks"
    family = "multitask"
    paper = "hyperformer"
    near_identity = None
    about = {
        "name": "adapters of tasks",
        "color": "orange",
        "marker": "8",
        "line": (5, 1, 1, 1),
        "example": "TaskAdapters(reduction=32)",
        "small": "bottleneck=4",
    }

    def check(self) -> None:
        require(
            self,
            reduction=self.reduction > 0,
            bottleneck=self.bottleneck is None or self.bottleneck > 0,
            activation=self.activation in ACTIVATIONS,
        )

    def widths(self, shape: Shape) -> dict[str, int]:
        """What is adapted: n by site."""
        return dict(zip(SITES, (shape.width, shape.ffn if self.hidden else shape.width), strict=True))

    def attach(self, at: Attachment) -> None:
        tasks = at.tasks if at.task is None else (at.task,)
        a = width_of_bottleneck(self, self.bottleneck, self.reduction, at.shape)
        gamma = gamma_at(at) if self.gamma is None else self.gamma
        for name, n in self.widths(at.shape).items():
            for site in at.anatomy.at(name):
                on_input = self.hidden and name == "ffn.down"
                at.edit(site, TaskAdapter(tasks, at.current, n, a, self.shared_norms, self.activation, on_input, gamma))
        if self.train_norms and self.shared_norms:
            LayerNormTuning().attach(at)
        elif self.train_norms:
            for site in at.anatomy.norms:
                at.edit(site, TaskNorm(tasks, at.current, at.shape.width, at.shape.biases))

    def stored(self, at: Attachment) -> int:
        return numbers(at)

    def formula(self, shape: Shape, tasks: int = 1) -> int:
        """With matrices for each of `tasks`."""
        a = width_of_bottleneck(self, self.bottleneck, self.reduction, shape)
        widths = self.widths(shape).values()
        norms = shape.layers * sum(2 * n for n in widths)
        norms += LayerNormTuning().formula(shape) if self.train_norms else 0
        return tasks * shape.layers * sum(size(n, a) for n in widths) + (1 if self.shared_norms else tasks) * norms
