"""S4 (Chen et al., 2023; the survey's section 10.5): an expression, for its parts are methods and its groups blocks.

Four groups of consecutive blocks, with more blocks in the middle ones, have a combination each of adapters (A), prefixes
(P), BitFit (B) and LoRA (L). The parameters, half a percent of the backbone's, are the same for every block. How a block's
are divided between its parts the survey does not say: here evenly between those that have a size, after what BitFit takes.
A is an adapter behind the feed-forward network, P trains prefixes directly, L stands on query and value. In an
encoder-decoder both stacks are divided alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd

from peftlib.accounting.counted import count, shape
from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods import BitFit, Layers, LoRA, Method, PfeifferFFN, PrefixTuning, Sum
from peftlib.report.tables import Html, table

GROUPS = ("AL", "AP", "APB", "PBL")
SIZED: dict[str, Callable[[int], Method]] = {
    "A": lambda size: PfeifferFFN(bottleneck=size),
    "P": lambda size: PrefixTuning(length=size, mlp=None),
    "L": lambda size: LoRA(rank=size, sites=("query", "value")),
}
SHARE = 0.005  # of the backbone's parameters: Table 2, section 10.5


def spindle(blocks: int) -> tuple[int, int, int, int]:
    """Sizes of the four groups: of twelve blocks 2, 4, 4 and 2.

    Raises:
        UsageError: too few blocks for a middle that is larger than the ends.
    """
    if blocks < 6:
        raise UsageError(f"S4 divides a stack into four groups, the middle ones larger: expected at least 6, got {blocks}")
    ends = round(blocks / 6)
    middle = blocks - 2 * ends
    return ends, middle - middle // 2, middle // 2, ends


def _groups(sizes: Shape, share: float) -> Iterator[Layers]:
    """Group by group, each limited to its blocks."""
    for stack, blocks in (("encoder", sizes.encoder_layers), ("decoder", sizes.decoder_layers)):
        start = 0
        for letters, number in zip(GROUPS, spindle(blocks) if blocks else (), strict=False):
            block = sizes.only(start, start + 1, stack)
            sized = [letter for letter in letters if letter != "B"]
            left = share * sizes.total / sizes.layers - ("B" in letters) * BitFit().formula(block)
            parts: list[Method] = [_nearest(SIZED[letter], block, left / len(sized)) for letter in sized]
            together = Sum(tuple([BitFit()] * ("B" in letters) + parts))
            yield Layers(together, start, start + number, stack if sizes.decoder_layers else None)
            start += number


def _nearest(make: Callable[[int], Method], block: Shape, numbers: float) -> Method:
    """The method whose size comes nearest to so many parameters of a block; they grow by the same with each."""
    one, two = make(1).formula(block), make(2).formula(block)
    return make(max(1, 1 + round((numbers - one) / (two - one))))


def expression(backbone: str, share: float = SHARE) -> str:
    """S4 on a backbone that `peftlib.accounting.counted.shape` knows.

    Raises:
        UsageError: a share outside (0, 1), a backbone that is not known, or one with less than six blocks a stack.
    """
    if not 0 < share < 1:
        raise UsageError(f"S4 trains a share of a backbone's parameters: {share}, expected more than 0 and less than 1")
    return " + ".join(map(str, _groups(shape(backbone), share)))


def groups(backbone: str) -> Html:
    """What each group is made of, and what a block of it trains."""
    sizes, rows = shape(backbone), []
    for group, letters in zip(_groups(sizes, SHARE), 2 * GROUPS, strict=False):
        start, stop, stack = group.blocks
        each = sum(leaf.formula(sizes) for leaf in group.leaves(("task",))) // ((stop or 0) - start)
        rows.append(
            {
                "stack": stack or "encoder",
                "blocks": f"{start} to {(stop or 0) - 1}",
                "parts": " + ".join(letters),
                "methods": str(group.method),
                "parameters of a block": each,
            }
        )
    found = count(expression(backbone), backbone)
    said = (
        f"Together {found.trainable:,}, {100 * found.trainable / found.total:.3f} % of {backbone}; the survey prints "
        f"{100 * SHARE:g} %. A block should have {SHARE * found.total / sizes.layers:,.0f}."
    )
    return table(pd.DataFrame(rows), caption=f"S4 on {backbone}", note=said, formats={"parameters of a block": ","})
