"""Cross-attention tuning (Gheini et al., 2021): of an encoder-decoder, the decoder's attention to the encoder is trained.

    Q = W_q x,  K = W_k h,  V = W_v h,  W_o        W_q, W_k, W_v: (inner, d)   W_o: (d, inner), all trained

x: the decoder's states, h: the encoder's. The norm of the sublayer is trained with it, as the authors' code finds by the
name "encoder_attn"; ``norms=False`` leaves it. T5-base has 12 x 4 x 768^2 = 28,311,552 such weights, 12.7% of it, and
9,216 in norms. In translation, the paper's task, the embeddings of a new language and their norm are trained as well,
which has no counterpart here. A backbone without a decoder has no cross-attention, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from peftlib.anatomy import Shape
from peftlib.methods.base import Attachment, Method


@dataclass(frozen=True)
class CrossAttentionTuning(Method):
    """Trains cross-attention. Nothing is added, so the tuned model is a plain backbone: merging folds nothing.

    norms: train the layer norms of cross-attention as well.
    """

    norms: bool = True

    title = "Cross-attention tuning"
    family = "selective"
    paper = "crossattention"
    mergeable = True
    needs_decoder = True
    about = {"name": "cross-attention", "color": "sky", "marker": "X", "row": None, "drawn": False}

    def attach(self, at: Attachment) -> None:
        """Raises:
        UsageError: the backbone has no decoder; or under `PerTask`.
        """
        sites = at.anatomy.at(*(f"cross_attention.{name}" for name in ("query", "key", "value", "output")))
        for site in sites + (at.anatomy.at("cross_attention.norm") if self.norms else []):
            at.train([site.module.weight, getattr(site.module, "bias", None)])  # type: ignore[list-item]  # of a layer

    def formula(self, shape: Shape) -> int:
        biases = shape.biases * (3 * shape.inner + shape.width)
        norm = self.norms * shape.width * (2 if shape.biases else 1)
        return shape.decoder_layers * (4 * shape.width * shape.inner + biases + norm)
