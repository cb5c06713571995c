"""What comes before everything that is trained gives the same of a text at every step: it is run without dropout, once a
run, and kept.

That is the embeddings and first blocks of an encoder below the lowest place that a method touches (`AdapterDrop`, limits to
upper layers), or all of it where only heads read something else (`LST`, `AttentionFusion`) or only a decoder is trained
(`CrossAttentionTuning`). Behind an encoder in which nothing is trained the first blocks of a decoder are kept too, where
it reads one token for the heads: that is the same at every step, and an answer that is written is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from peftlib.anatomy import Anatomy, walk
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
        blocks: of it, the encoder's before the decoder's; none where something that is trained comes before the first
            block's end.
        wanted: numbers of those blocks whose output something above reads.
    """

    def __init__(self, model: Tuned):
        self.model = model
        self.blocks: list[nn.Module] = []
        self.wanted: list[int] = []
        self._still: list[nn.Module] = []  # what has no dropout
        self._beside: dict[int, Sequence[Tensor | None]] = {}  # what blocks give beside states, of the longest batch so far
        self._longest = 0
        for stack in model.anatomy.table.stacks if model.form == "heads" else ("encoder",):
            self._find(stack)
            if not _is_fixed(model.anatomy.reader(stack)):
                break

    def _find(self, stack: str) -> None:
        anatomy, before = self.model.anatomy, len(self.blocks)
        reader, embeddings = anatomy.reader(stack), _embeddings(anatomy, stack)
        if not _is_fixed(embeddings):
            return
        self.blocks += takewhile(_is_fixed, walk(self.model.backbone, anatomy.table.stacks[stack]))  # type: ignore[arg-type]  # a list of blocks
        depth = len(self.blocks)
        every = any(leaf.reads_states for leaf, _ in self.model.attachments)
        self.wanted += range(before if every else max(before, depth - 1), depth)
        if depth > before:  # a T5's one dropout is behind its embeddings and behind its last norm: that of a whole stack
            self._still += [reader] if _is_fixed(reader) else [embeddings, *self.blocks[before:]]

    def without_dropout(self) -> None:
        """To be called whenever the model is set to train."""
        for module in self._still:
            module.eval()

    def nbytes(self, data: Encoded) -> int:
        """Of the states of all rows."""
        shape = self.model.anatomy.shape
        in_encoder = sum(i < shape.encoder_layers for i in self.wanted)
        positions = in_encoder * int(data.lengths.sum()) + (len(self.wanted) - in_encoder) * len(data)
        return 4 * positions * shape.width

    def states(self, data: Encoded, batch_size: int, device: torch.device) -> States:
        """What the wanted blocks give of every row."""
        found: States = {i: [torch.empty(0)] * len(data) for i in self.wanted}
        for rows in data.in_order(batch_size):
            for i, output in self._run(data.batch(rows, device)).items():
                for row, state in zip(rows, output, strict=True):
                    found[i][row] = state[: data.lengths[row]].clone()  # of a decoder, its one position
        return found

    @torch.no_grad()
    def _run(self, inputs: Mapping[str, Tensor]) -> dict[int, Tensor]:
        """The outputs of the wanted blocks without dropout, in a forward pass that ends with the last of them."""
        found: dict[int, Tensor] = {}
        longer, training = inputs["attention_mask"].shape[1] > self._longest, self.model.training

        def keep(i: int, module: nn.Module, args: object, output: Tensor | tuple[Tensor, ...]) -> None:
            state, *beside = output if isinstance(output, tuple) else (output,)
            if longer:
                self._beside[i] = beside
            if i in self.wanted:
                found[i] = state
            if i == self.wanted[-1]:
                raise _Enough

        hooks = [block.register_forward_hook(partial(keep, i)) for i, block in enumerate(self.blocks)]
        self.model.eval()
        try:
            with contextlib.suppress(_Enough):
                self.model(self.model.current.task, {name: t for name, t in inputs.items() if name != "labels"})
        finally:
            for hook in hooks:
                hook.remove()
            if training:
                self.model.train()
                self.without_dropout()
        self._longest = max(self._longest, inputs["attention_mask"].shape[1])
        return found

    @contextlib.contextmanager
    def given(self, states: States | None, rows: Sequence[int], inputs: Mapping[str, Tensor]) -> Iterator[None]:
        """While it lasts, blocks give what is kept of these rows, in their order. states: None: nothing is kept, and in
        training they are run here, once for all passes. inputs: of the rows, padded."""
        if not self.blocks or not (states or self.model.training):
            yield
            return
        length = inputs["attention_mask"].shape[1]
        if states:
            kept = {i: pad_sequence([of[row] for row in rows], batch_first=True) for i, of in states.items()}
        else:
            kept = self._run(inputs)
        for i, block in enumerate(self.blocks):
            # A T5's biases of attention by positions, (1, heads, positions, positions): the same for all texts.
            beside = [t if t is None else t[..., :length, :length] for t in self._beside[i]]
            block.forward = partial(_pass, kept.get(i), beside)  # until the end of this pass
        try:
            yield
        finally:
            for block in self.blocks:
                del block.forward


def _pass(
    kept: Tensor | None, beside: Sequence[Tensor | None], hidden_states: Tensor, *_: object, **__: object
) -> Tensor | tuple[Tensor | None, ...]:
    """In the place of a block's forward: what it has given, or for a block whose output nobody reads what it is given."""
    output = hidden_states if kept is None else kept
    return (output, *beside) if beside else output


def _embeddings(anatomy: Anatomy, stack: str) -> nn.Module:
    """What a stack has before its first block: a module, or in T5 the embedding of words alone."""
    reader, owner = anatomy.reader(stack), anatomy.at("embeddings.words")[0].owner
    return reader.get_input_embeddings() if stack == "decoder" or owner is reader else owner  # type: ignore[operator]  # a backbone's own name


def _is_fixed(module: nn.Module) -> bool:
    return not (carries_a_method(module) or any(p.requires_grad for p in module.parameters()))
