"""What a method does to a model beside training it: seen in one step, one forward pass and one merge, on shapes alone."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from peftlib.accounting.counting import shape_model
from peftlib.accounting.estimate import Emulated, step_inputs, step_model, training_step
from peftlib.anatomy import walk
from peftlib.errors import UsageError

if typing.TYPE_CHECKING:
    from typing import Any

    from torch import nn

    from peftlib.model import Tuned

DEVICE = "cuda"


@dataclass(frozen=True)
class Effects:
    """Of a method on a backbone, one task.

    trainable, stored, changed, total: as `Counts` has them. peak: bytes of a training step. blocks: of the backbone;
    passed: those that the backward pass goes through, from behind, so that gradients reach what the block before gives.
    merges: can it be folded into the weights? flops: of a forward pass, unmerged. places: sites where it adds operations,
    and "readout" if heads read something else than the last states; empty where it changes the backbone's tensors alone.
    """

    trainable: int
    stored: int
    changed: int
    total: int
    peak: int
    blocks: int
    passed: int
    merges: bool
    flops: int
    places: str

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def effects(method: str, backbone: str, batch: int, length: int, precision: str = "bf16") -> Effects:
    """See `Effects`. The arguments are those of `peftlib.accounting.estimate.estimate`.

    Raises:
        UsageError: a method or backbone that cannot be used.
    """
    model = step_model(method, backbone, 1, precision, 0.1, 0.0, "heads").train()
    counts, places = model.counts(), ", ".join(sorted(_places(model)))
    forward = _forward_flops(model, batch, length, precision)
    blocks, passed = _watch(model)
    step = training_step(model, step_inputs(batch, length, 0), precision, DEVICE)
    return Effects(
        counts.trainable,
        counts.stored,
        counts.changed,
        counts.total,
        step.peak,
        blocks,
        len(passed),
        merges(method, backbone),
        forward,
        places,
    )


def merges(method: str, backbone: str) -> bool:
    """Can it be folded into the weights of that backbone?"""
    try:
        shape_model(method, backbone).merge()
    except UsageError:
        return False
    return True


def _places(model: Tuned) -> set[str]:
    sites = {site.name for _, at in model.attachments for site, _ in at.edits}
    return sites | {"readout" for leaf, _ in model.attachments if leaf.reads_states}


def _forward_flops(model: Tuned, batch: int, length: int, precision: str) -> int:
    counter = FlopCounterMode(display=False)
    # With gradients: the counter cannot do without where a parameter is a module's input.
    with counter, Emulated(precision, DEVICE):
        model(model.tasks[0], step_inputs(batch, length, 0))
    return int(counter.get_total_flops())


def _watch(model: Tuned) -> tuple[int, set[int]]:
    """How many blocks the backbone has, and, once a backward pass has been made, those whose output had a gradient."""
    passed: set[int] = set()
    blocks: list[nn.Module] = [
        block
        for path in model.anatomy.table.stacks.values()
        for block in walk(model.backbone, path)  # type: ignore[union-attr]  # a list of blocks
    ]

    def follow(at: int):
        def hook(_: nn.Module, __: tuple, out: Tensor | tuple[Tensor, ...]) -> None:
            states = out if isinstance(out, Tensor) else out[0]
            if states.requires_grad:
                states.register_hook(lambda _: passed.add(at))

        return hook

    for at, block in enumerate(blocks):
        block.register_forward_hook(follow(at))
    return len(blocks), passed
