"""S4 (Chen et al., 2023; the survey's section 10.5): an expression, for its parts are methods and its groups blocks.

Four groups of consecutive blocks, with more blocks in the middle ones, have a combination each of adapters (A), prefixes
(P), BitFit (B) and LoRA (L). The parameters, half a percent of the backbone's, are the same for every block. How a block's
are divided between its parts the survey does not say: here evenly between those that have a size, after what BitFit takes.
A is an adapter behind the feed-forward network, P trains prefixes directly, L stands on query and value. In an
encoder-decoder both stacks are divided alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods import BitFit, Layers, LoRA, Method, PfeifferFFN, PrefixTuning, Sum

GROUPS = ("AL", "AP", "APB", "PBL")
SIZED: dict[str, Callable[[int], Method]] = {
    "A": lambda size: PfeifferFFN(bottleneck=size),
    "P": lambda size: PrefixTuning(length=size, mlp=None),
    "L": lambda size: LoRA(rank=size, sites=("query", "value")),
}
FEWEST = 6  # blocks of a stack
SHARE = 0.005  # of the backbone's parameters: Table 2, section 10.5


def spindle(blocks: int) -> tuple[int, int, int, int]:
    """Sizes of the four groups: of twelve blocks 2, 4, 4 and 2.

    Raises:
        UsageError: too few blocks for a middle that is larger than the ends.
    """
    if blocks < FEWEST:
        raise UsageError(
            f"S4 divides a stack into four groups, the middle ones larger: expected at least {FEWEST}, got {blocks}"
        )
    ends = round(blocks / 6)
    middle = blocks - 2 * ends
    return ends, middle - middle // 2, middle // 2, ends


def groups(sizes: Shape, share: float = SHARE) -> Iterator[Layers]:
    """Group by group, each limited to its blocks.

    Raises:
        UsageError: less than six blocks in a stack.
    """
    for stack, blocks in (("encoder", sizes.encoder_layers), ("decoder", sizes.decoder_layers)):
        start = 0
        for letters, number in zip(GROUPS, spindle(blocks) if blocks else (), strict=False):
            block = sizes.only(start, start + 1, stack)
            sized = [letter for letter in letters if letter != "B"]
            left = share * sizes.total / sizes.layers - ("B" in letters) * BitFit().formula(block)
            parts: list[Method] = [BitFit()] if "B" in letters else []
            parts += [_nearest(SIZED[letter], block, left / len(sized)) for letter in sized]
            yield Layers(Sum(tuple(parts)), start, start + number, stack if sizes.decoder_layers else None)
            start += number


def _nearest(make: Callable[[int], Method], block: Shape, numbers: float) -> Method:
    """The method whose size comes nearest to so many parameters of a block; they grow by the same with each."""
    one, two = make(1).formula(block), make(2).formula(block)
    return make(max(1, 1 + round((numbers - one) / (two - one))))


def expression(sizes: Shape, share: float = SHARE) -> str:
    """S4 on a backbone of these sizes (`peftlib.accounting.counted.shape`).

    Raises:
        UsageError: a share outside (0, 1), or less than six blocks in a stack.
    """
    if not 0 < share < 1:
        raise UsageError(f"S4 trains a share of a backbone's parameters: {share}, expected more than 0 and less than 1")
    return " + ".join(map(str, groups(sizes, share)))
