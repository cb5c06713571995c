"""MAM adapter (He et al., 2022; survey, section 10.2): prefixes in attention, a scaled parallel adapter beside the rest.

    attention(Q, [P_K ; K], [P_V ; V])        FFN(x) + s (U relu(D x + b_D) + b_U)

The paper asks where a given number of parameters does most: a few prefixes are enough for attention, and the larger part
belongs to the feed-forward network, beside it and scaled. It is the sum of two methods of this library, and is trained,
stored and counted as ``PrefixTuning(length, mlp) + ParallelAdapter(bottleneck, scale)``: what is stored after training
are flat prefixes and adapters. For summaries the paper has 30 positions, a = 512 and s = 4; on GLUE its script has 16, a
= 16 and s = 2, at a learning rate of 1e-4: 599,232 stored numbers on BERT-base.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peftlib.anatomy import Shape
from peftlib.methods.adapters.parallel import ParallelAdapter
from peftlib.methods.base import Leaf, Method, Sum
from peftlib.methods.soft_prompts.prefix import PrefixTuning


@dataclass(frozen=True)
class MAM(Method):
    """Mix-and-match: prefix tuning with a scaled parallel adapter.

    length: prefix positions > 0. mlp: width of the prefixes' reparametrisation; None trains the prefixes themselves.
    bottleneck: a > 0 of the adapter. scale: its s > 0.
    """

    length: int = 30
    mlp: int | None = 512
    bottleneck: int = 512
    scale: float = 4.0

    title = "MAM adapter"
    family = "hybrid"
    paper = "unified"
    near_identity = None
    about = {
        "name": "MAM adapter",
        "color": "green",
        "marker": "P",
        "line": "--",
        "row": "length=16, bottleneck=64",
        "small": "length=2, mlp=16, bottleneck=8",
        "adapters": "MAMConfig",
    }

    @property
    def parts(self) -> tuple[PrefixTuning, ParallelAdapter]:
        return PrefixTuning(self.length, self.mlp), ParallelAdapter(self.bottleneck, self.scale)

    def check(self) -> None:
        self.parts  # noqa: B018  # which check themselves

    def leaves(self, tasks: tuple[str, ...]) -> Iterator[Leaf]:
        return Sum(self.parts).leaves(tasks)

    def formula(self, shape: Shape) -> int:
        return sum(part.formula(shape) for part in self.parts)
