"""What a backbone takes whose linear layers are stored in a few bits."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pandas as pd

from peftlib.accounting.counting import shape_model
from peftlib.methods import QLoRA, parse
from peftlib.methods.reparametrized.nf4 import GROUP, Quantised
from peftlib.report.tables import Html, table

FULL = 32  # bits of a weight that is not quantised


def stated(method: QLoRA) -> float:
    """Bits of a weight by the paper's sum: its code, its share of a block's constant, and of that constant's own."""
    return 4 + (8 / method.block + FULL / (method.block * GROUP) if method.double else FULL / method.block)


@functools.cache
def stored(method: str, backbone: str) -> dict[str, int | float]:
    """What is stored of a backbone under QLoRA: matrices and weights that are quantised, bytes of all that stands for them,
    bits of each; and bytes of the whole backbone as a share of those in 32 bits."""
    model = shape_model(method, backbone)
    layers = [module for module in model.backbone.modules() if isinstance(module, Quantised)]
    weights = sum(layer.outline.numel() for layer in layers)
    size = sum(b.numel() * b.element_size() for layer in layers for b in layer.buffers())
    total = model.counts().total
    return {
        "matrices": len(layers),
        "weights": weights,
        "bytes": size,
        "bits": 8 * size / weights,
        "whole": (8 * size + FULL * (total - weights)) / (FULL * total),
    }


def bits(method: str, backbones: Sequence[str]) -> Html:
    """`stored` of each backbone, beside the paper's bits a weight."""
    (leaf,) = parse(method).leaves(("task",))
    rows = []
    for backbone in dict.fromkeys(backbones):
        found = stored(method, backbone)
        rows.append(
            {
                "backbone": backbone,
                "matrices": found["matrices"],
                "weights in them": found["weights"],
                "bytes": found["bytes"],
                "bits a weight": found["bits"],
                "by the paper's sum": stated(leaf.method),
                "whole backbone, % of 32 bits": 100 * found["whole"],
            }
        )
    return table(
        pd.DataFrame(rows),
        caption="What the quantised matrices take, all of them together",
        formats={"whole backbone, % of 32 bits": ".1f"},
        note="Counted are codes, constants of blocks, constants of those, and one mean a matrix, which the sum leaves out. "
        "The whole backbone has its embeddings, norms and biases in 32 bits besides.",
    )
