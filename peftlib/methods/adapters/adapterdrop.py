"""AdapterDrop (Rücklé et al., 2021): Houlsby's adapters, but none in the first blocks.

    block l <= drop of a stack:   y -> y
    block l >  drop of a stack:   y -> y + U f(D y + b_D) + b_U        y: (..., d)   D: (a, d)   U: (d, a)

after ``attention.output`` and after ``ffn.down``, in encoder and decoder alike: (L - 2 drop) * 2(2da + a + d) for an
encoder-decoder of L blocks in all, (L - drop) * 2(2da + a + d) for an encoder. Compacter's comparison drops the first
five of T5-Base's 12 + 12 blocks (section 5.1): 28 adapters of 37,656 = 1,054,368 for a = 24. Rücklé et al. also
draw the number of dropped blocks anew at every step; like that comparison, this is their fixed variant, and but for
``train_norms`` the same as ``Layers(Houlsby(), start=5)``.

What is saved in training is the way back. With frozen norms nothing below an encoder's first adapted block needs a
gradient. A decoder saves less: its first block's cross-attention is a way to the encoder's adapters, so only that
block's self-attention is spared. ``train_norms=True`` undoes both: the norms of dropped blocks are trained as well,
and the gradient goes all the way down. The paper's 0.494% needs all 62 norms of T5-Base.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftlib.anatomy import Anatomy, Shape, Site
from peftlib.errors import UsageError
from peftlib.methods.adapters.houlsby import Houlsby
from peftlib.methods.base import require


@dataclass(frozen=True)
class AdapterDrop(Houlsby):
    """Bottleneck adapters after self-attention and after the feed-forward network, in all but the first blocks.

    drop: blocks without adapters at the bottom of each stack, 0 or more, fewer than the stack has. bottleneck: a > 0.
    activation: relu, gelu, gelu_new or swish. init: houlsby N(0, 0.001) truncated, hyperformer N(0, 0.01) or bert
    N(0, 0.02). train_norms: train all layer norms of the backbone too, those of dropped blocks included (not under
    PerTask).
    """

    drop: int = 5

    title = "AdapterDrop"
    paper = "adapterdrop"
    by_layer = False  # it is a limit itself
    about = {
        "name": "AdapterDrop",
        "color": "orange",
        "marker": "v",
        "line": (5, 2),
        "row": "bottleneck=64, drop=2",  # of MiniLM's 6 blocks; the paper's 5 of 12 is nearest to that
        "small": "bottleneck=8, drop=1",
        "adapters": "leave_out",
    }

    def check(self) -> None:
        super().check()
        require(self, drop=self.drop >= 0)

    def places(self, anatomy: Anatomy) -> list[Site]:
        self.blocks(anatomy.shape)
        return [site for site in super().places(anatomy) if site.layer >= self.drop]

    def blocks(self, shape: Shape) -> int:
        """How many blocks have adapters.

        Raises:
            UsageError: a stack has no more blocks than are dropped.
        """
        depths = {"encoder": shape.encoder_layers, "decoder": shape.decoder_layers}
        stacks = {name: depth for name, depth in depths.items() if depth}
        if self.drop >= min(stacks.values()):
            found = " and ".join(f"{depth} {name} blocks" for name, depth in stacks.items())
            raise UsageError(
                f"{self} leaves no adapter in a stack of this backbone, which has {found}: expected drop "
                f"from 0 to {min(stacks.values()) - 1}"
            )
        return shape.layers - self.drop * len(stacks)
