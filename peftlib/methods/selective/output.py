"""The output layer: a text-to-text backbone's language-model head is trained (Compacter, appendix C).

    logits = W h        h: (..., d), the decoder's last state   W: (vocabulary, d), trained

T5 ties W to the token embeddings. It is untied here and starts as a copy of them: what is trained is the output layer
alone, as the paper names it (11.1% of T5-Base, 32,100 x 768), and the inputs keep their embeddings. The released code
leaves it tied, so that there the embeddings of encoder and decoder are trained with it, at the same count.

Where a linear head a task reads the backbone (encoders), that head is the output layer, it is trained with every method,
and this one adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from peftlib.anatomy import Shape
from peftlib.edits import Edited
from peftlib.methods.base import Attachment, Method


@dataclass(frozen=True)
class OutputLayer(Method):
    """Trains the language-model head. Nothing is added, so the tuned model is a plain backbone: merging folds nothing."""

    title = "Output layer"
    family = "selective"
    paper = "compacter"
    mergeable = True
    by_layer = False
    about = {"name": "output layer", "color": "sky", "marker": "s", "line": "--", "row": None, "drawn": False}

    def attach(self, at: Attachment) -> None:
        for site in at.anatomy.sites:
            if site.name == "output":
                layer = site.module.base if isinstance(site.module, Edited) else site.module  # under BitFit's new bias
                layer.weight = nn.Parameter(layer.weight.detach().clone())  # type: ignore[operator]  # of a linear layer
                at.train([layer.weight])

    def formula(self, shape: Shape) -> int:
        return shape.vocabulary * shape.width if shape.writes else 0
