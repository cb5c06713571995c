"""The adapters of AdaptBert (section 4.2), at the two places that its Table 3 counts.

    y -> A(y) = y + U f(D y + b_D) + b_U

after ``attention.output``     y: (..., d), the sublayer's output before dropout, residual and norm    D: (a, d)
before ``ffn.down``            y: (..., d_ff), the feed-forward network's hidden activation             D: (a, d_ff)

A layer adds a(2d + 2d_ff) + 2a + d + d_ff. The section's text says otherwise (both adapters after their sublayers, no
biases, 2md + m a layer), but the percentages of Table 3 come out only with a second adapter as wide as the
hidden activation (a = 64: 5.42% of BERT-base; two adapters of width 768 would be 2.2%), and section 4.4 confirms it:
adapters after self-attention and in the feed-forward layer differ in width. The paper names neither
the non-linearity nor the initialisation: f is the GELU of its equation 4, and weights start as N(0, 0.01) with zero
biases, near identity as Houlsby et al. ask for. In an encoder-decoder, cross-attention gets none, as in HyperFormer.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftlib.anatomy import Shape
from peftlib.methods.adapters.bottleneck import ACTIVATIONS, INITS, OnInput, OnOutput, size
from peftlib.methods.base import Attachment, Method, require


@dataclass(frozen=True)
class AdaptBertAdapter(Method):
    """Bottleneck adapters after self-attention and on the feed-forward network's hidden activation.

    bottleneck: a > 0. activation: relu, gelu, gelu_new or swish. init: hyperformer N(0, 0.01), bert N(0, 0.02) or
    houlsby N(0, 0.001) truncated. The paper holds one copy a task: ``PerTask(AdaptBertAdapter(bottleneck=64))``.
    """

    bottleneck: int = 64
    activation: str = "gelu"
    init: str = "hyperformer"

    title = "AdaptBert adapter"
    family = "adapters"
    paper = "adaptbert"
    near_identity = 0.1
    about = {
        "name": "adapter",
        "color": "orange",
        "marker": "s",
        "line": "--",
        "row": "bottleneck=64",
        "example": "PerTask(AdaptBertAdapter(bottleneck=64))",
        "small": "bottleneck=8",
    }

    def check(self) -> None:
        require(self, bottleneck=self.bottleneck > 0, activation=self.activation in ACTIVATIONS, init=self.init in INITS)

    def attach(self, at: Attachment) -> None:
        options = (self.bottleneck, self.activation, self.init)
        for site in at.anatomy.at("attention.output"):
            at.edit(site, OnOutput(at.shape.width, *options))
        for site in at.anatomy.at("ffn.down"):
            at.edit(site, OnInput(at.shape.ffn, *options))

    def formula(self, shape: Shape) -> int:
        return shape.layers * (size(shape.width, self.bottleneck) + size(shape.ffn, self.bottleneck))
