"""One view of any supported backbone: its blocks, and in each block the places the literature names.

A method never looks at a model's class: it asks the anatomy for sites such as ``attention.query`` or ``ffn.down``.
Supporting another backbone is one more `Table`.

Site names, in every block:

``attention``                       the module that calls the attention function (its inside: keys and values)
``attention.query .key .value``     projections into the heads
``attention.output``                projection back to the width; what it returns is the sublayer's output
``attention.norm``                  the layer norm of the sublayer (before it in T5, after the residual in BERT)
``cross_attention...``              the same five, in a decoder
``ffn.up  ffn.down  (ffn.gate)``    the feed-forward network; the input of ``ffn.down`` is its hidden activation
``ffn.norm``                        its layer norm
Outside the blocks: ``embeddings.words`` (the encoder's, which a decoder may share), ``embeddings.norm``, ``final.norm``,
and ``output``, the language-model head of a text-to-text backbone.
"""

from __future__ import annotations

import copy
import typing
from dataclasses import dataclass, field, replace

from torch import nn
from transformers import PreTrainedModel

from peftlib.errors import UsageError, short

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

ATTENTION = ("query", "key", "value", "output")


@dataclass(frozen=True)
class Site:
    """A named place of the backbone: attribute `attribute` of module `owner`."""

    name: str
    stack: str  # "encoder" or "decoder"
    layer: int  # index of the block in its stack; -1 outside the blocks
    owner: nn.Module = field(repr=False)
    attribute: str = field(repr=False)

    @property
    def module(self) -> nn.Module:
        return getattr(self.owner, self.attribute)

    def replace(self, module: nn.Module) -> None:
        setattr(self.owner, self.attribute, module)

    @property
    def fan_in(self) -> int:
        """Numbers that a linear layer reads, whatever holds its weight."""
        return getattr(self.module, "base", self.module).in_features  # type: ignore[return-value]  # of a layer

    @property
    def fan_out(self) -> int:
        """Numbers that a linear layer returns."""
        return getattr(self.module, "base", self.module).out_features  # type: ignore[return-value]  # as above


@dataclass(frozen=True)
class Shape:
    """The sizes that closed-form parameter counts are made of."""

    width: int  # d, the residual stream
    inner: int  # heads x head size; equals the width in BERT, not in T5-3B
    ffn: int  # width of the feed-forward network's hidden activation
    heads: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int
    biases: bool  # do linear layers and norms carry biases?
    gated: bool  # does the feed-forward network have a gate (T5 v1.1)?
    outer_norms: int  # norms outside the blocks
    writes: bool  # is there a language-model head?
    total: int  # parameters of the backbone
    tensors: int  # that they are in

    @property
    def layers(self) -> int:
        return self.encoder_layers + self.decoder_layers

    @property
    def attentions(self) -> int:
        """Attention modules: one an encoder block, two a decoder block."""
        return self.encoder_layers + 2 * self.decoder_layers

    @property
    def norms(self) -> int:
        """Layer norms: one a sublayer, and those outside the blocks."""
        return self.attentions + self.layers + self.outer_norms

    def only(self, start: int = 0, stop: int | None = None, stack: str | None = None) -> Shape:
        """The sizes of some blocks: those from `start` up to `stop` (None: to the end) of a stack, or of each (None). What
        is outside the blocks is left out, but for the total.

        Raises:
            UsageError: a stack that is not there, or one without such blocks.
        """
        depths = {name: n for name, n in (("encoder", self.encoder_layers), ("decoder", self.decoder_layers)) if n}
        chosen = {name: range(n)[start:stop] for name, n in depths.items() if stack in (None, name)}
        if not chosen or any(not found or (stop or 0) > depths[name] for name, found in chosen.items()):
            there = " and ".join(f"{n} {name} blocks" for name, n in depths.items())
            raise UsageError(
                f"blocks from {start} to {'the end' if stop is None else stop} of {stack or 'each stack'}: this backbone "
                f"has {there}; the first is 0, and stop is one more than the last"
            )
        sizes = {f"{name}_layers": len(chosen.get(name, ())) for name in ("encoder", "decoder")}
        return replace(self, **sizes, outer_norms=0, writes=False)  # type: ignore[arg-type]  # whole numbers


@dataclass(frozen=True)
class Table:
    """Where a family of backbones keeps its sites: paths inside a block, and paths from the model's root."""

    stacks: dict[str, str]  # stack -> path of its list of blocks
    block: dict[str, str]  # site -> path inside a block; a path that a block lacks is skipped
    outside: dict[tuple[str, str], str]  # (stack, site) -> path from the root
    readers: dict[str, str]  # stack -> path of the module that takes token ids and an attention mask
    config: dict[str, str]  # Shape's field -> name in the model's configuration
    biases: bool
    positions: str = ""  # path of the table of absolute positions, if there is one
    norm_first: bool = False  # does a sublayer's norm come before it, or after the residual?


_BERT_BLOCK = {
    "attention": "attention.self",
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention.norm": "attention.output.LayerNorm",
    "ffn.up": "intermediate.dense",
    "ffn.down": "output.dense",
    "ffn.norm": "output.LayerNorm",
}
_BERT = Table(
    stacks={"encoder": "encoder.layer"},
    block=_BERT_BLOCK,
    outside={
        ("encoder", "embeddings.words"): "embeddings.word_embeddings",
        ("encoder", "embeddings.norm"): "embeddings.LayerNorm",
    },
    readers={"encoder": ""},
    config={"width": "hidden_size", "ffn": "intermediate_size", "heads": "num_attention_heads"},
    biases=True,
    positions="embeddings.position_embeddings",
)
_DISTILBERT = Table(
    stacks={"encoder": "transformer.layer"},
    block={
        "attention": "attention",
        "attention.query": "attention.q_lin",
        "attention.key": "attention.k_lin",
        "attention.value": "attention.v_lin",
        "attention.output": "attention.out_lin",
        "attention.norm": "sa_layer_norm",
        "ffn.up": "ffn.lin1",
        "ffn.down": "ffn.lin2",
        "ffn.norm": "output_layer_norm",
    },
    outside=_BERT.outside,
    readers={"encoder": ""},
    config={"width": "dim", "ffn": "hidden_dim", "heads": "n_heads"},
    biases=True,
    positions="embeddings.position_embeddings",
)


def _t5_attention(site: str, path: str, norm: str) -> dict[str, str]:
    names = dict(zip(ATTENTION, "qkvo", strict=True))
    return {site: path, **{f"{site}.{n}": f"{path}.{letter}" for n, letter in names.items()}, f"{site}.norm": norm}


_T5 = Table(
    stacks={"encoder": "encoder.block", "decoder": "decoder.block"},
    block={
        **_t5_attention("attention", "layer.0.SelfAttention", "layer.0.layer_norm"),
        **_t5_attention("cross_attention", "layer.1.EncDecAttention", "layer.1.layer_norm"),
        "ffn.gate": "layer.-1.DenseReluDense.wi_0",
        "ffn.up": "layer.-1.DenseReluDense.wi",
        "ffn.up/gated": "layer.-1.DenseReluDense.wi_1",
        "ffn.down": "layer.-1.DenseReluDense.wo",
        "ffn.norm": "layer.-1.layer_norm",
    },
    outside={
        ("encoder", "embeddings.words"): "encoder.embed_tokens",
        ("encoder", "final.norm"): "encoder.final_layer_norm",
        ("decoder", "final.norm"): "decoder.final_layer_norm",
        ("decoder", "output"): "lm_head",
    },
    readers={"encoder": "encoder", "decoder": "decoder"},
    config={"width": "d_model", "ffn": "d_ff", "heads": "num_heads", "head_size": "d_kv"},
    biases=False,
    norm_first=True,
)
TABLES = {"bert": _BERT, "roberta": _BERT, "xlm-roberta": _BERT, "distilbert": _DISTILBERT, "t5": _T5, "mt5": _T5}


def table_of(family: str) -> Table:
    """Where a family of backbones (``model_type`` in its configuration) keeps its sites.

    Raises:
        UsageError: the family is not supported.
    """
    if not isinstance(family, str) or family not in TABLES:
        raise UsageError(f"the family {short(family)} is not supported; supported are {', '.join(TABLES)}")
    return TABLES[family]


def walk(module: nn.Module, path: str) -> nn.Module | None:
    """The module that lies at a path, or None."""
    for part in path.split("."):
        if part.lstrip("-").isdigit():
            module = module[int(part)]  # type: ignore[index]  # only lists have numbered parts
        elif hasattr(module, part):
            module = getattr(module, part)
        else:
            return None
    return module


def _untouched(model: nn.Module) -> Table:
    """The table of a model that can be a backbone; see `Anatomy` for what cannot."""
    kind, expected = type(model).__name__, "expected a backbone as peftlib.backbones.load gives it"
    if any(type(m).__module__.startswith("peft.") for m in model.modules()):
        raise UsageError(f"peft has put an adapter on this {kind}: {expected}; peftlib.interop.from_peft reads adapters")
    if not isinstance(model, PreTrainedModel):
        raise UsageError(f"a {kind} is no backbone: {expected}, or another Hugging Face model without a task's head")
    table = table_of(model.config.model_type)
    for path in table.stacks.values():
        if walk(model, path) is None:
            raise UsageError(
                f"a {kind} cannot be a backbone, for it has no {path!r}: {expected}; of a model with a "
                "task's head, that is its base_model"
            )
    if not all(p.is_floating_point() for p in model.parameters()):
        raise UsageError(f"the weights of this {kind} are quantised: {expected}")
    return table


class Anatomy:
    """The sites of one backbone.

    Args:
        model: a Hugging Face model whose ``config.model_type`` is in `TABLES`; a headless one (`BertModel`, `T5Model`)
            or one with a language-model head over the same attributes (`T5ForConditionalGeneration`).

    Raises:
        UsageError: the model's family is not supported, it has a task's head or lacks a stack, or something else has
            wrapped or quantised its layers.
    """

    def __init__(self, model: nn.Module):
        self.model: PreTrainedModel
        self.model, self.table = model, _untouched(model)  # type: ignore[assignment]  # `_untouched` has looked
        self.sites: list[Site] = list(self._find())
        self.shape = self._measure()

    def _find(self) -> Iterator[Site]:
        block: nn.Module
        for stack, path in self.table.stacks.items():
            for layer, block in enumerate(walk(self.model, path)):  # type: ignore[arg-type]  # a list of blocks: `_untouched` has looked
                for name, inner in self.table.block.items():
                    sublayer = self.table.block.get(name.split(".")[0])
                    if sublayer is not None and walk(block, sublayer) is None:
                        continue  # an encoder's second norm stands where a decoder's cross-attention has its own
                    yield from self._site(block, name.split("/")[0], inner, stack, layer)
        for (stack, name), path in self.table.outside.items():
            yield from self._site(self.model, name, path, stack, -1)

    @staticmethod
    def _site(root: nn.Module, name: str, path: str, stack: str, layer: int) -> Iterator[Site]:
        parent, _, leaf = path.rpartition(".")
        owner = walk(root, parent) if parent else root
        if owner is not None and hasattr(owner, leaf):
            yield Site(name, stack, layer, owner, leaf)

    def _measure(self) -> Shape:
        config = self.model.config
        read = {ours: getattr(config, theirs) for ours, theirs in self.table.config.items()}
        head_size = read.pop("head_size", read["width"] // read["heads"])
        layers = {stack: len(walk(self.model, path)) for stack, path in self.table.stacks.items()}  # type: ignore[arg-type]  # as above
        return Shape(
            **read,
            inner=read["heads"] * head_size,
            encoder_layers=layers["encoder"],
            decoder_layers=layers.get("decoder", 0),
            vocabulary=config.vocab_size,
            biases=self.table.biases,
            gated=any(s.name == "ffn.gate" for s in self.sites),
            outer_norms=sum(s.layer < 0 and s.name.endswith("norm") for s in self.sites),
            writes=any(s.name == "output" for s in self.sites),
            total=sum(p.numel() for p in self.model.parameters()),
            tensors=sum(1 for _ in self.model.parameters()),
        )

    def at(self, *names: str, stack: str | None = None) -> list[Site]:
        """Sites of the given names, block by block. A ``*.`` prefix means self- and cross-attention alike.

        Raises:
            UsageError: a name matches no site of this backbone (a method that silently adapts nothing is a bug).
        """
        wanted: list[str] = []
        for name in names:
            wanted += [name.replace("*", a, 1) for a in ("attention", "cross_attention")] if "*" in name else [name]
        found = [s for s in self.sites if s.name in wanted and stack in (None, s.stack)]
        for name in names:
            options = {name.replace("*", a, 1) for a in ("attention", "cross_attention")}
            if not any(s.name in options for s in found):
                known = sorted({s.name for s in self.sites})
                raise UsageError(f"no site {name!r} in this {self.model.config.model_type} backbone; it has {known}")
        return found

    def inputs(self, sublayer: str, normed: bool) -> list[Site]:
        """The sites that are given what a sublayer ("ffn", "attention" or "cross_attention") reads, block by block. Where
        its norm comes first, that is what the norm makes of the residual stream (normed) or the stream itself; elsewhere
        the two are the same."""
        first = "norm" if self.table.norm_first and not normed else "up" if sublayer == "ffn" else "query"
        return self.at(f"{sublayer}.{first}")

    def only(self, start: int = 0, stop: int | None = None, stack: str | None = None) -> Anatomy:
        """The same backbone with the sites of some blocks alone, see `Shape.only`."""
        part = copy.copy(self)
        part.shape = self.shape.only(start, stop, stack)
        part.sites = [
            s for s in self.sites if s.layer >= start and (stop is None or s.layer < stop) and stack in (None, s.stack)
        ]
        return part

    def set_attention_dropout(self, p: float) -> None:
        """Set the dropout on attention weights, which backbones keep as a module or as a number."""
        for site in self.sites:
            if site.name.endswith("attention"):
                held = site.module.dropout
                if isinstance(held, nn.Dropout):
                    held.p = p
                else:
                    site.module.dropout = p  # type: ignore[assignment]  # a number there

    def reader(self, stack: str) -> nn.Module:
        """The module that takes a stack's token ids and attention mask: the whole model, or one of two stacks."""
        path = self.table.readers[stack]
        return walk(self.model, path) if path else self.model  # type: ignore[return-value]  # the tables know

    @property
    def positions(self) -> int | None:
        """How many tokens the table of absolute positions has room for; None where positions are relative."""
        if not self.table.positions:
            return None
        table = walk(self.model, self.table.positions)
        return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)  # type: ignore[union-attr, operator, return-value]  # an nn.Embedding

    @property
    def norms(self) -> list[Site]:
        """Every layer norm of the backbone, those outside the blocks included."""
        return [s for s in self.sites if s.name.endswith(".norm")]

    @property
    def linears(self) -> list[Site]:
        """Every linear layer of the blocks."""
        leaves = {*ATTENTION, "up", "down", "gate"}
        return [s for s in self.sites if s.layer >= 0 and s.name.split(".")[-1] in leaves]
