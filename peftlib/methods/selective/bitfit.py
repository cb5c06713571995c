"""BitFit (Ben Zaken et al., 2022): only bias terms are trained.

    y = W x + b        b: (out,), trained        norm: y = gamma * norm(x) + b        b: (d,), trained

Linear layers of the blocks and all norms, by the backbone's own biases where it has them (BERT, RoBERTa, DistilBERT);
a pooler keeps its bias. A backbone without biases (T5) is given zeros to train, as in Compacter's comparison (by its
code): on every linear layer and norm of the blocks, not on the norms after them, and on the language-model head where
the backbone writes text: one bias for each word.

Merging: own biases need none. A new bias becomes that of its linear layer. An RMS norm has no bias to fold into, but
T5's norms come before the layers and feed nothing else, so W (norm(x) + b) = W norm(x) + W b moves it into the biases
of the layers that read the norm, with the same outputs. Such a backbone lives in memory alone: transformers' T5 has no
place for biases, and would drop them at the next loading, so that its `save_pretrained` is refused after merging.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib import edits
from peftlib.anatomy import Shape, Site
from peftlib.edits import Edit
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method

# Who reads a norm that comes before its sublayer.
READERS = {
    "attention.norm": ("attention.query", "attention.key", "attention.value"),
    "cross_attention.norm": ("cross_attention.query",),
    "ffn.norm": ("ffn.up", "ffn.gate"),
}


class Bias(Edit):
    """Adds a vector to the output of a linear layer or norm that has no bias."""

    def __init__(self, width: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width))

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + self.bias.to(y.dtype)

    def merge(self, base: nn.Module) -> bool:
        if not isinstance(base, nn.Linear) or base.bias is not None:
            return False
        base.bias = nn.Parameter(self.bias.detach().to(base.weight.dtype), requires_grad=False)
        return True


@dataclass(frozen=True)
class BitFit(Method):
    """Trains biases, the backbone's own or, where it has none, new ones that start at zero."""

    title = "BitFit"
    family = "selective"
    paper = "bitfit"
    mergeable = True
    about = {"name": "BitFit", "color": "sky", "marker": "<", "line": "-.", "drawn": False}

    def attach(self, at: Attachment) -> None:
        output = [site for site in at.anatomy.sites if site.name == "output"]
        for site in at.anatomy.linears + at.anatomy.norms + output:
            bias = getattr(site.module, "bias", None)
            if bias is not None:
                at.train([bias])
            elif site.layer >= 0 or site in output:
                at.edit(site, Bias(site.module.weight.shape[0]))  # type: ignore[index, arg-type]  # of a linear layer or a norm

    def formula(self, shape: Shape) -> int:
        attention = 3 * shape.inner + 2 * shape.width  # query, key, value; output and norm
        ffn = (2 if shape.gated else 1) * shape.ffn + 2 * shape.width
        outside = (shape.outer_norms * shape.width if shape.biases else 0) + shape.vocabulary * shape.writes
        return shape.attentions * attention + shape.layers * ffn + outside

    def merge(self, at: Attachment) -> None:
        """Fold new biases into linear layers, those of norms by way of the layers that read them.

        Raises:
            UsageError: other methods edit the same places, or every task has biases of its own.
        """
        if at.task is None:
            norms = [(site, edit) for site, edit in at.edits if site.name in READERS]
            at.edits = [(site, edit) for site, edit in at.edits if site.name not in READERS]
            for site, edit in norms:
                self._move(at, site, edit)
        if at.edits:
            at.model.backbone.save_pretrained = _no_place_for_biases  # type: ignore[method-assign]  # on purpose
        super().merge(at)

    @torch.no_grad()
    def _move(self, at: Attachment, norm: Site, bias: Bias) -> None:
        """Turn the bias of a norm into biases of the linear layers that read it."""
        place = (norm.stack, norm.layer)
        readers = [(s, e) for s, e in at.edits if s.name in READERS[norm.name] and (s.stack, s.layer) == place]
        for site in [norm] + [s for s, _ in readers]:
            others = [slot for slot in site.module.edits if slot != at.slot]  # type: ignore[union-attr]  # edited, as `at.edits` says
            if others:
                at.edits.append((norm, bias))
                raise UsageError(
                    f"{self} cannot be merged while {others[0]!r} edits {site.name!r} of block "
                    f"{site.layer}: merge that first, that is write it before BitFit"
                )
        for site, edit in readers:
            edit.bias += site.module.base.weight.to(bias.bias.dtype) @ bias.bias  # type: ignore[union-attr, operator]  # as above
        edits.remove(norm, at.slot)


def _no_place_for_biases(*_: object, **__: object) -> None:
    """In the place of a merged backbone's own `save_pretrained`."""
    raise UsageError(
        "this backbone's class has no biases in its linear layers: transformers would drop those that BitFit "
        "has merged when it loads the file; keep the delta instead (peftlib.deltas.save, before merge)"
    )
