"""Structure-aware intrinsic dimension (Aghajanyan et al., 2021; survey, section 9.1): all tensors move, in few directions.

    theta_i = theta_i0 + lambda_i P_i z        for every tensor i of m
    z: (d - m,) from zero   lambda: (m,) from one: `dimension` = d trained numbers for any backbone, all that is stored

P_i: a Fastfood projection (`peftlib.methods.reparametrized.fastfood`), with the released code's normalisation.

What differs from the released code: there one transform of length 2^ceil(log2 D_i) covers a tensor of D_i entries, and the
backward pass multiplies every gradient by 1 / 2^ceil(log2 D_i) of its tensor, which weighs small tensors thousands of
times more than large ones. Here gradients are the true ones; Compacter's learning rate for that code, 3e-2, does not
carry over.

The projections are drawn from `seed` when the method is attached, and stay outside the delta. Weights are computed once
in a forward pass of the backbone, and at every look outside of one: merge before generating text.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import nn

from peftlib import parametrized
from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, affordable, require
from peftlib.methods.reparametrized.fastfood import Fastfood, Subspace


@dataclass(frozen=True)
class IntrinsicSAID(Method):
    """Training in a random subspace that knows the tensors.

    dimension: d, trained numbers, more than the backbone has tensors (Compacter: 20,000). seed: of the projections.
    """

    dimension: int = 20_000
    seed: int = 0

    title = "Intrinsic SAID"
    family = "reparametrized"
    paper = "intrinsicdimension"
    mergeable = True
    by_layer = False
    about = {
        "name": "intrinsic SAID",
        "color": "blue",
        "marker": "p",
        "line": "-.",
        "row": "dimension=20000",
        "small": "dimension=300",
        "drawn": False,
        "rates": 0.1,
    }

    def check(self) -> None:
        require(self, dimension=self.dimension > 0, seed=self.seed >= 0)

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: under `PerTask`, beside a method that reparametrises tensors, or fewer dimensions than tensors.
        """
        at.train(())  # marks nothing, but is refused under PerTask
        tensors = parametrized.own_tensors(at.model.backbone)
        if self.dimension <= len(tensors):
            raise UsageError(
                f"{self}: this backbone has {len(tensors)} tensors, each with a weight of its own; expected a "
                f"dimension of at least {len(tensors) + 1}"
            )
        affordable(self, self.dimension * len(tensors), at.shape)  # no projection is shorter than z
        generator, device = torch.Generator("cpu").manual_seed(self.seed), tensors[0][0].device
        space = at.share("space", Subspace(self.dimension, len(tensors), generator, device, at.current))
        for index, (tensor, places) in enumerate(tensors):
            fastfood = Fastfood(tensor.numel(), index, space, generator)
            parametrized.register(places, fastfood)
            at.shared.append(fastfood)
            if len(places) == 1 and isinstance(places[0][0], nn.Embedding):  # tied, it is the output layer too
                space.hooks += fastfood.follow(places[0][0])
            else:
                space.join(fastfood)

    def merge(self, at: Attachment) -> None:
        if not at.shared:
            return
        space, *projections = at.shared
        parametrized.unregister(at.model.backbone, projections, fold=True)
        for hook in space.hooks:  # type: ignore[union-attr]  # a Subspace
            hook.remove()
        for name in [name for name, module in at.model.shared.items() if module is space]:
            del at.model.shared[name]
        at.shared = []

    def formula(self, shape: Shape) -> int:
        return self.dimension

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        """Every parameter of the backbone."""
        return {id(p): p.numel() for p in parametrized.own_parameters(at.model.backbone)}
