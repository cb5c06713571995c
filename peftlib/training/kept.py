"""What comes before everything that is trained gives the same of a text at every step: it is run without dropout, once a
run, and kept.

That is the embeddings and first blocks of an encoder below the lowest place that a method touches (`AdapterDrop`, limits to
upper layers), or all of it where the heads alone read something else (`LST`, `AttentionFusion`). In an encoder-decoder
blocks hand on more than states: there nothing is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from peftlib.anatomy import walk
from peftlib.model import Tuned
from peftlib.parametrized import carries_a_method
from peftlib.training.encoding import Encoded

LIMIT = 1 << 30  # bytes of kept states a run. Data of more is run again at every step, also without dropout.
States = dict[int, list[Tensor]]  # block -> for each row what it gives, (length, width)


class _Enough(Exception):
    """All states are there: what comes above need not be run."""


class Bottom:
    """The part of a model that gives the same at every step. Made once nothing more is attached.

    Attributes:
        blocks: of it, from the first; none where something that is trained comes before the first block's end.
        wanted: numbers of those blocks whose output something above reads.
    """

    def __init__(self, model: Tuned):
        self.model, anatomy = model, model.anatomy
        self.blocks: list[nn.Module] = []
        self.embeddings: nn.Module = anatomy.at("embeddings.words")[0].owner
        if model.form == "heads" and not anatomy.shape.decoder_layers and _is_fixed(self.embeddings):
            for block in walk(model.backbone, anatomy.table.stacks["encoder"]):  # type: ignore[union-attr]  # a list of blocks
                if not _is_fixed(block):
                    break
                self.blocks.append(block)
        every = any(leaf.reads_states for leaf, _ in model.attachments)
        depth = len(self.blocks)
        self.wanted = list(range(0 if every else max(0, depth - 1), depth))

    def without_dropout(self) -> None:
        """To be called whenever the model is set to train."""
        for module in (self.embeddings, *self.blocks) if self.blocks else ():
            module.eval()

    def nbytes(self, data: Encoded) -> int:
        """Of the states of all rows."""
        return 4 * len(self.wanted) * int(data.lengths.sum()) * self.model.anatomy.shape.width

    @torch.no_grad()
    def states(self, data: Encoded, batch_size: int, device: torch.device) -> States:
        """What the wanted blocks give of every row."""
        self.model.eval()
        found: States = {i: [torch.empty(0)] * len(data) for i in self.wanted}
        for rows in data.in_order(batch_size):
            inputs = data.batch(rows, device)
            inputs.pop("labels")
            for i, output in self._run(partial(self.model.features, inputs)).items():
                for row, state in zip(rows, output, strict=True):
                    found[i][row] = state[: data.lengths[row]].clone()
        return found

    def _run(self, forward: Callable[[], object]) -> dict[int, Tensor]:
        """The outputs of the wanted blocks in a forward pass, which ends with the last of them."""
        found: dict[int, Tensor] = {}

        def keep(i: int, module: nn.Module, args: object, output: Tensor) -> None:
            found[i] = output
            if i == self.wanted[-1]:
                raise _Enough

        hooks = [self.blocks[i].register_forward_hook(partial(keep, i)) for i in self.wanted]
        try:
            with contextlib.suppress(_Enough):
                forward()
        finally:
            for hook in hooks:
                hook.remove()
        return found

    @contextlib.contextmanager
    def given(self, states: States | None, rows: Sequence[int]) -> Iterator[None]:
        """While it lasts, blocks give what is kept of these rows, in their order. None: nothing is, and they are run."""
        if not states:
            yield
            return
        kept = {i: pad_sequence([of[row] for row in rows], batch_first=True) for i, of in states.items()}
        for i, block in enumerate(self.blocks):
            block.forward = partial(_pass, kept.get(i))  # until the end of this pass
        try:
            yield
        finally:
            for block in self.blocks:
                del block.forward


def _pass(kept: Tensor | None, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
    """In the place of a block's forward: what it has given, or for a block whose output nobody reads what it is given."""
    return hidden_states if kept is None else kept


def _is_fixed(module: nn.Module) -> bool:
    return not (carries_a_method(module) or any(p.requires_grad for p in module.parameters()))
