"""What a method puts into a backbone: an edit sees the input and the output of one site and returns a new output.

An edited site is the untouched module inside an `Edited` wrapper that holds its edits, applied in the order in which
the methods were written. Edits inside attention (extra keys and values) hang on the attention module itself and are
called by one attention function registered with transformers. Edits ahead of the tokens (soft prompts) hang on the word
embedding and are called by a hook on the module that takes token ids and attention mask, see `make_room`.
"""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from peftlib.anatomy import Anatomy, Site
from peftlib.attention import sdpa
from peftlib.errors import UsageError

if typing.TYPE_CHECKING:
    from typing import Any

    Arguments = dict[str, Any]  # of a call, by name

T = TypeVar("T")
ATTENTION_FUNCTION = "peftlib"


class Edit(nn.Module):
    """Base of all edits: changes nothing.

    Class attribute `changes`: names of the base module's tensors that this edit changes once folded in, for example
    ``("weight",)``; empty for an edit that stays beside the backbone.
    """

    changes: tuple[str, ...] = ()

    def before(self, x: Tensor) -> Tensor:
        """New input of the site. x: (..., in)."""
        return x

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """New output of the site, from its input x (..., in) and output y (..., out)."""
        return y

    def inside(self, batch: int) -> tuple[Tensor, Tensor]:
        """Keys and values to put before those of an attention site, each (batch, heads, length, head size)."""
        raise UsageError(f"{type(self).__name__} does not act inside attention")

    def ahead(self, embedded: Tensor) -> Tensor:
        """Vectors to put before a sequence of word embeddings, (batch, tokens, width): (batch, more, width). Only on
        ``embeddings.words``, through `Attachment.prepend`."""
        return embedded[:, :0]

    def merge(self, base: nn.Module) -> bool:
        """Fold this edit into the base module's own tensors; True if that was possible."""
        return False


class Current:
    """What is the same for all edits of a model during one forward pass, and again when a part of it is recomputed.

    Gradient checkpointing runs a block of the backbone twice, the second time in the backward pass, when another task may
    have had its turn and the forward pass is over. The second run must do what the first did. So a checkpointed block
    remembers its task and what its pass has drawn, and computes by itself what the blocks of a whole pass share.

    Attributes:
        task: the task that is run.
        mask: which positions of the encoder's input are text, (batch, length); None: all.
    """

    def __init__(self, task: str | None = None):
        self.task = task
        self.mask: Tensor | None = None
        self._held: dict[Hashable, object] | None = None  # None: outside a forward pass of the backbone
        self._drawn: dict[Hashable, object] | None = None  # as above
        self._whole = False
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    @property
    def whole(self) -> bool:
        """Is this a forward pass of the whole backbone? What its blocks need is then best computed together."""
        return self._whole

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives, kept under `key` while a forward pass, or a checkpointed block, lasts."""
        if self._held is None:
            return compute()
        if key not in self._held:
            self._held[key] = compute()
        return self._held[key]  # type: ignore[return-value]  # what was computed for this key

    def draw(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` draws at random, once a forward pass: whoever asks for `key` again is given the same, a block that is
        recomputed too."""
        # Drawn every time, for a recomputed block must leave to its dropout the random numbers that the first run left.
        drawn = make()
        return drawn if self._drawn is None else self._drawn.setdefault(key, drawn)  # type: ignore[return-value]  # for this key

    def follow(self, backbone: nn.Module) -> None:
        """Watch the forward passes of a backbone."""
        blocks = [m for m in backbone.modules() if hasattr(m, "gradient_checkpointing")]
        self._hooks = [
            backbone.register_forward_pre_hook(partial(_begin, self, blocks)),
            backbone.register_forward_hook(partial(_end, self), always_call=True),
        ]

    def leave(self) -> None:
        """Watch no more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @contextlib.contextmanager
    def block(self, task: str | None, mask: Tensor | None, drawn: dict[Hashable, object]) -> Iterator[None]:
        """While a checkpointed block runs, for the first time or again."""
        before = self.task, self.mask, self._held, self._drawn, self._whole
        self.task, self.mask, self._held, self._drawn, self._whole = task, mask, {}, drawn, False
        try:
            yield
        finally:
            self.task, self.mask, self._held, self._drawn, self._whole = before


def _begin(current: Current, blocks: list[nn.Module], *_: object) -> None:
    """Forward pre-hook of a backbone. Checkpointing may have been enabled at any time before."""
    current._held, current._drawn, current._whole = {}, {}, True
    for block in blocks:
        checkpoint = getattr(block, "_gradient_checkpointing_func", None)
        if checkpoint is not None and not _is_followed(checkpoint, current):
            block._gradient_checkpointing_func = partial(_checkpointed, current, checkpoint)  # type: ignore[assignment]  # no module and no tensor


def _end(current: Current, *_: object) -> None:
    """Forward hook of a backbone."""
    current._held, current._drawn, current._whole = None, None, False


def _is_followed(checkpoint: Callable[..., object], current: Current) -> bool:
    while getattr(checkpoint, "func", None) is _checkpointed:
        one, checkpoint = checkpoint.args  # type: ignore[union-attr, attr-defined]  # a partial
        if one is current:
            return True
    return False


def _checkpointed(current: Current, checkpoint: Callable[..., T], block: Callable[..., object], *args: Tensor | None) -> T:
    """`checkpoint`, as torch's, of a block that remembers its pass. Re-entrant checkpointing gives no gradient to a block
    none of whose inputs asks for one, such as the first above frozen embeddings: there the hidden states ask."""
    task, mask, drawn = current.task, current.mask, {} if current._drawn is None else current._drawn

    def run(*args: Tensor | None) -> object:
        with current.block(task, mask, drawn):
            return block(*args)

    reentrant = getattr(checkpoint, "keywords", {}).get("use_reentrant", True)
    if reentrant and torch.is_grad_enabled() and not any(isinstance(a, Tensor) and a.requires_grad for a in args):
        hidden, *rest = args
        args = (hidden.detach().requires_grad_(), *rest)  # type: ignore[union-attr]  # hidden states come first
    return checkpoint(run, *args)


class Switch(Edit):
    """One edit a task; acts as that of the current task."""

    def __init__(self, current: Current):
        super().__init__()
        self.current = current
        self.by_task = nn.ModuleDict()

    @property
    def chosen(self) -> Edit:
        return self.by_task[self.current.task]  # type: ignore[index, return-value]  # only edits, of the tasks

    def before(self, x: Tensor) -> Tensor:
        return self.chosen.before(x)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return self.chosen.after(x, y)

    def inside(self, batch: int) -> tuple[Tensor, Tensor]:
        return self.chosen.inside(batch)

    def ahead(self, embedded: Tensor) -> Tensor:
        return self.chosen.ahead(embedded)


class Seen(Edit):
    """Keeps what a site is given for an edit further on in the same block, see `Attachment.read`."""

    def __init__(self) -> None:
        super().__init__()
        self._x: Tensor | None = None

    def before(self, x: Tensor) -> Tensor:
        self._x = x
        return x

    def take(self) -> Tensor:
        """What was given, once: it is kept no longer. A block that is recomputed records it again."""
        x, self._x = self._x, None
        return x  # type: ignore[return-value]  # the site comes first


class Edited(nn.Module):
    """A module of the backbone with the edits of one or more methods: ``after(x, base(before(x)))``."""

    def __init__(self, base: nn.Module):
        super().__init__()
        self.base = base
        self.edits = nn.ModuleDict()

    # Backbones read these of their own linear layers (T5 looks at the dtype of ``wo.weight``).
    @property
    def weight(self) -> Tensor:
        return self.base.weight  # type: ignore[return-value]  # which a layer has

    @property
    def bias(self) -> Tensor | None:
        return getattr(self.base, "bias", None)

    def forward(self, x: Tensor) -> Tensor:
        edit: Edit
        edits = self.edits.values()
        for edit in edits:  # type: ignore[assignment]  # a ModuleDict of edits
            x = edit.before(x)
        y = self.base(x)
        for edit in edits:  # type: ignore[assignment]  # as above
            y = edit.after(x, y)
        return y


class Inside(nn.ModuleDict):
    """The edits that hang on an attention module."""


def add(site: Site, slot: str, edit: Edit) -> None:
    """Put an edit on a site, under the name of the method's slot."""
    module = site.module
    if site.name in ("attention", "cross_attention"):
        if not hasattr(module, "inside"):
            module.inside = Inside()
            module.config._attn_implementation = ATTENTION_FUNCTION  # type: ignore[union-attr]  # of an attention module
        edits: nn.ModuleDict = module.inside  # type: ignore[assignment]  # as just made
    else:
        if not isinstance(module, Edited):
            site.replace(module := Edited(module))
        edits = module.edits
    if slot in edits:
        raise UsageError(f"method {slot!r} edits site {site.name!r} of block {site.layer} twice")
    edits[slot] = edit


def get(site: Site, slot: str) -> Edit | None:
    """The edit that a method's slot holds on a site, if any."""
    module = site.module
    edits = getattr(module, "inside", None) if site.name.endswith("attention") else getattr(module, "edits", None)
    return edits[slot] if edits is not None and slot in edits else None


def remove(site: Site, slot: str) -> None:
    """Take an edit off a site; the last one gives the site its own module back."""
    module = site.module
    if isinstance(module, Edited):
        del module.edits[slot]
        if not module.edits:
            site.replace(module.base)


def make_room(anatomy: Anatomy) -> None:
    """Let a backbone's encoder put what edits have `Edit.ahead` before its tokens, in forward passes and in generation.

    The encoder then returns that many more positions; its attention mask and that of a decoder's cross-attention are
    extended by ones, token types by zeros, and absolute positions are counted from the first of the new vectors.
    """
    encoder = anatomy.reader("encoder")
    if any(getattr(hook, "func", None) is _read_ahead for hook in encoder._forward_pre_hooks.values()):
        return
    encoder.register_forward_pre_hook(partial(_read_ahead, positions=anatomy.positions), with_kwargs=True)
    if anatomy.shape.decoder_layers:
        anatomy.reader("decoder").register_forward_pre_hook(_see_ahead, with_kwargs=True)


def _read_ahead(
    encoder: nn.Module, args: tuple[Any, ...], kwargs: Arguments, *, positions: int | None
) -> tuple[tuple[()], Arguments]:
    """The encoder's arguments with word embeddings, longer by what comes ahead, in the place of token ids."""
    given, words = _named(encoder, args, kwargs), encoder.get_input_embeddings()  # type: ignore[operator]  # a backbone's own name for them
    ids, embedded = given.get("input_ids"), given.get("inputs_embeds")
    tokens = embedded = words(ids) if embedded is None else embedded
    edit: Edit
    for edit in words.edits.values():
        embedded = torch.cat([edit.ahead(embedded).to(embedded.dtype), embedded], dim=1)
    more = embedded.shape[1] - tokens.shape[1]
    if positions is not None and embedded.shape[1] > positions:
        raise UsageError(
            f"{more} positions of a soft prompt and {tokens.shape[1]} tokens are more than the {positions} "
            "positions of this backbone: use a shorter prompt or cut the texts (max_length)"
        )
    given.update(input_ids=None, inputs_embeds=embedded)
    for name, value in (("attention_mask", 1), ("token_type_ids", 0)):
        if given.get(name) is not None:
            given[name] = F.pad(given[name], (more, 0), value=value)
    return (), given


def _see_ahead(decoder: nn.Module, args: tuple[Any, ...], kwargs: Arguments) -> tuple[tuple[()], Arguments]:
    """The decoder's arguments with a mask over the encoder's output as long as that output."""
    given = _named(decoder, args, kwargs)
    hidden, mask = given.get("encoder_hidden_states"), given.get("encoder_attention_mask")
    if hidden is not None and mask is not None:
        given["encoder_attention_mask"] = F.pad(mask, (hidden.shape[1] - mask.shape[1], 0), value=1)
    return (), given


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: Arguments) -> Arguments:
    """All arguments of a call by name."""
    return dict(zip(inspect.signature(module.forward).parameters, args, strict=False)) | kwargs


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *args: Any,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """`peftlib.attention.sdpa`, over keys and values that the edits of this attention module extend.

    query, key, value: (batch, heads, length, head size). Extra positions are never masked and carry no position bias.
    """
    for edit in getattr(module, "inside", {}).values():
        more_key, more_value = edit.inside(key.shape[0])
        extra = more_key.shape[2]
        if attention_mask is None and getattr(module, "is_causal", False) and query.shape[2] > 1:
            ones = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=key.device)
            attention_mask = ones.tril(key.shape[2] - query.shape[2])[None, None]
        key = torch.cat([more_key.to(key.dtype), key], dim=2)
        value = torch.cat([more_value.to(value.dtype), value], dim=2)
        if attention_mask is not None:
            seen = True if attention_mask.dtype == torch.bool else 0.0
            attention_mask = F.pad(attention_mask, (extra, 0), value=seen)
        if position_bias is not None:
            position_bias = F.pad(position_bias, (extra, 0))
    if position_bias is not None:
        kwargs["position_bias"] = position_bias
    return sdpa(module, query, key, value, attention_mask, *args, **kwargs)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION_FUNCTION, _attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION_FUNCTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
