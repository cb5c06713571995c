"""Adapters of Houlsby et al. (2019): two in every block.

    y -> y + U f(D y + b_D) + b_U        y: (..., d)   D: (a, d)   U: (d, a)

after ``attention.output`` and after ``ffn.down``: on the sublayer's output before its dropout, residual and norm. A
block adds 2(2da + a + d). In T5, cross-attention gets none, as in the repositories of HyperFormer and Compacter and
in the survey's comparison: its ``Houlsby`` row is a = d / 16 = 64 on T5-Large with ``activation="swish",
init="bert"``.

f and the start follow the authors' code (google-research/adapter-bert, modeling.py, ``feedforward_adapter``): GELU in
its tanh form, weights N(0, 0.001) cut at two deviations, zero biases. The paper also trains the layer norms (section
2.1), which the survey's counts leave out: ``train_norms=True``.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftlib.anatomy import Shape
from peftlib.methods.adapters.bottleneck import ACTIVATIONS, INITS, OnOutput, OnSublayers, size
from peftlib.methods.base import Attachment, Method, require


@dataclass(frozen=True)
class Houlsby(OnSublayers, Method):
    """Bottleneck adapters after self-attention and after the feed-forward network.

    bottleneck: a > 0. activation: relu, gelu, gelu_new or swish. init: houlsby N(0, 0.001) truncated, hyperformer
    N(0, 0.01) or bert N(0, 0.02). train_norms: train the backbone's layer norms too (not under PerTask).
    """

    bottleneck: int = 64
    activation: str = "gelu_new"
    init: str = "houlsby"
    train_norms: bool = False

    title = "Houlsby adapter"
    family = "adapters"
    paper = "houlsby"
    near_identity = 0.01
    about = {
        "name": "Houlsby",
        "color": "orange",
        "marker": "P",
        "line": ":",
        "row": "bottleneck=64",
        "small": "bottleneck=8",
        "adapters": "DoubleSeqBnConfig",
    }

    def check(self) -> None:
        require(self, bottleneck=self.bottleneck > 0, activation=self.activation in ACTIVATIONS, init=self.init in INITS)

    def attach(self, at: Attachment) -> None:
        self.put(at, lambda: OnOutput(at.shape.width, self.bottleneck, self.activation, self.init))

    def formula(self, shape: Shape) -> int:
        return self.sized(shape, size(shape.width, self.bottleneck))
