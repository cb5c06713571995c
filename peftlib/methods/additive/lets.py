"""After LeTS (Fu et al., 2021): a small recurrent network reads all layers, and in the last blocks few weights are trained.

    p_l = max over tokens of h_l,   z = U [forward LSTM ; backward LSTM](p_0 ... p_L) + c      h_l: states after layer l
    theta = theta0 + scatter(v, indices)    in linear layers of the last blocks   v: (k,) from 0

Only the paper's abstract was at hand, hence the name. From it: a fixed pretrained model whose activations tasks have in
common; a task's own part that reads them; of weights a sparse difference, chosen early by pruning; 1.4% of the parameters
in all. Decisions of this library: the maximum over tokens and the two-way LSTM over layers, h = 64 each way, of whose last
states U makes what heads read; k = round(fraction * parameters), those with the largest |theta0 dL/dtheta| (SNIP), summed
over the first batches with a head that is still random, of the linear layers in the last two blocks. Left out is the search
for layers that are computed anew: here they are the last ones, and no gradient goes below them.

With the defaults BERT-base has 526,080 numbers in the network and 985,340 chosen weights: 1.38%. Stored are their indices
too. z takes the place of the last states at every position; an encoder-decoder's LSTM reads the decoder's one token.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib import parametrized
from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method, require
from peftlib.methods.reparametrized.fastfood import full_precision
from peftlib.methods.selective.sparse import SparseDelta, gradients, largest
from peftlib.parametrized import Place


class Late(nn.Module):
    """States of all layers, (batch, length, d) each, and the mask of their tokens -> (batch, d)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, bidirectional=True, batch_first=True)
        self.up = nn.Linear(2 * hidden, width)

    def forward(self, states: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        hidden = mask[..., None] == 0
        pooled = torch.stack([h.masked_fill(hidden, -torch.inf).amax(1) for h in states], dim=1)
        with full_precision(pooled.device):  # few numbers, for which a recurrence in bf16 is too coarse
            _, (last, _) = self.lstm(pooled.float())
            return self.up(last.transpose(0, 1).flatten(1)).to(states[-1].dtype)


@dataclass(frozen=True)
class LeTSLike(SparseDelta, Method):
    """A late recurrent module over all layers, and a sparse difference in the last blocks.

    hidden: h > 0. fraction: k over the backbone's parameters, in (0, 1). layers: last blocks of each stack, of whose linear
    layers the k weights are chosen, > 0. batches: > 0, or as many as there are, that the choice looks at.
    """

    hidden: int = 64
    fraction: float = 0.009
    layers: int = 2
    batches: int = 16

    title = "LeTS-like late module"
    family = "additive"
    paper = "lets"
    near_identity = None
    by_layer = False
    about = {"name": "LeTS-like", "color": "grey", "marker": "d", "line": ":", "small": "hidden=4, fraction=0.02, layers=1"}

    def check(self) -> None:
        require(
            self, hidden=self.hidden > 0, fraction=0 < self.fraction < 1, layers=self.layers > 0, batches=self.batches > 0
        )

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: under `PerTask`; more blocks, or more weights in them, than there are.
        """
        at.train(())  # marks nothing, but is refused under PerTask
        at.share("late", Late(at.shape.width, self.hidden))
        k, among = self.kept(at.shape), sum(tensor.numel() for tensor, _ in self.candidates(at))
        if k > among:
            raise UsageError(
                f"{self}: {k:,} weights are more than the {among:,} of the last {self.layers} blocks' linear layers: use "
                "more blocks, or a smaller fraction"
            )

    def candidates(self, at: Attachment) -> list[tuple[Tensor, list[Place]]]:
        """The weights to choose from, with their places."""
        depths = {"encoder": at.shape.encoder_layers, "decoder": at.shape.decoder_layers}
        if self.layers > min(depth for depth in depths.values() if depth):
            raise UsageError(f"{self}: this backbone has {at.shape.layers} blocks; expected fewer layers")
        last = [site for site in at.anatomy.linears if site.layer >= depths[site.stack] - self.layers]
        wanted = {id(getattr(site.module, "base", site.module)) for site in last}
        own = parametrized.own_tensors(at.model.backbone)
        return [(t, places) for t, places in own if id(places[0][0]) in wanted and places[0][1] == "weight"]

    def prepare(self, at: Attachment, batches: Iterable[tuple[str, dict[str, Tensor]]]) -> None:
        """Choose the weights to train by what leaving them out would change."""
        found = self.candidates(at)
        tensors = [tensor.requires_grad_(True) for tensor, _ in found]
        first = ((task, batch, 1.0) for _, (task, batch) in zip(range(self.batches), batches, strict=False))
        total = gradients(at.model, tensors, first)
        for tensor in tensors:
            tensor.requires_grad_(False)
        chosen = largest([(t.detach() * g).abs() for t, g in zip(tensors, total, strict=True)], self.kept(at.shape))
        self.register(at, [(found[i][1], indices) for i, indices in chosen.items()])

    def readout(self, at: Attachment, states: dict[str, tuple[Tensor, ...]], mask: Tensor) -> Tensor:
        late, read = at.shared[0], states["decoder" if at.shape.decoder_layers else "encoder"]
        length = read[-1].shape[1]
        if at.shape.decoder_layers:
            mask = mask.new_ones(len(mask), length)
        seen = F.pad(mask, (length - mask.shape[1], 0), value=1)  # positions of a soft prompt come first
        return late(read, seen)[:, None].expand(-1, length, -1)

    def merge(self, at: Attachment) -> None:
        Method.merge(self, at)  # which refuses: the late module stays

    def formula(self, shape: Shape) -> int:
        h, d = self.hidden, shape.width
        return self.kept(shape) + 8 * h * (d + h + 2) + (2 * h + 1) * d

    def trainable(self, at: Attachment) -> int:
        return self.formula(at.shape)

    def stored(self, at: Attachment) -> int:
        return self.formula(at.shape) + self.kept(at.shape)

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        """The chosen weights, and the late module."""
        return super().changed(at) | {at.slot: self.formula(at.shape) - self.kept(at.shape)}
