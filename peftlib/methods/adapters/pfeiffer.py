"""One of Houlsby's two adapters in every block, after Pfeiffer et al. (2021): half the parameters and half the cost.

    y -> y + U f(D y + b_D) + b_U        y: (..., d)   D: (a, d)   U: (d, a)

Which of the two is kept differs between papers, so it has two names:

`PfeifferAttention`   after ``attention.output``   Compacter's Pfeiffer-Adapter (section 5.1: the better one on T5-Base)
`PfeifferFFN`         after ``ffn.down``           Pfeiffer et al., the `adapters` library and the survey's comparison

Either adds 2da + a + d to a block. The survey places it after attention in its section 5.1 and after the feed-forward
network in section 11; its row of Table 5 is the latter with a = 64 on T5-Large.

Non-linearity and start are Houlsby's here, so that the three methods differ in their places alone; the `adapters`
library takes ``activation="relu", init="bert"``. That library's adapter on BERT also stands elsewhere: it reads
the sum of the sublayer's output and the residual after a layer norm. Here, as in the Compacter paper, it is
Houlsby's adapter, on the sublayer's output before dropout, residual and norm.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftlib.methods.adapters.houlsby import Houlsby


@dataclass(frozen=True)
class PfeifferAttention(Houlsby):
    """Bottleneck adapters after self-attention only.

    bottleneck: a > 0. activation: relu, gelu, gelu_new or swish. init: houlsby N(0, 0.001) truncated, hyperformer
    N(0, 0.01) or bert N(0, 0.02). train_norms: train the backbone's layer norms too (not under PerTask).
    """

    title = "Pfeiffer adapter (attention)"
    paper = "pfeiffer"
    sites = ("attention.output",)
    about = {
        "name": "Pfeiffer (attention)",
        "color": "orange",
        "marker": "<",
        "line": "-.",
        "row": "bottleneck=64",
        "small": "bottleneck=8",
    }


@dataclass(frozen=True)
class PfeifferFFN(Houlsby):
    """Bottleneck adapters after the feed-forward network only.

    bottleneck: a > 0. activation: relu, gelu, gelu_new or swish. init: houlsby N(0, 0.001) truncated, hyperformer
    N(0, 0.01) or bert N(0, 0.02). train_norms: train the backbone's layer norms too (not under PerTask).
    """

    title = "Pfeiffer adapter (feed-forward)"
    paper = "pfeiffer"
    sites = ("ffn.down",)
    about = {
        "name": "Pfeiffer (FFN)",
        "color": "orange",
        "marker": ">",
        "row": "bottleneck=64",
        "small": "bottleneck=8",
        "adapters": "SeqBnConfig",
    }
