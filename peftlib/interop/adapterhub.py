"""Checkpoints of AdapterHub's `adapters`: ``adapter_config.json``, and ``pytorch_adapter.bin`` or ``adapter.safetensors``.

Read are bottleneck adapters (sequential and parallel), Compacter, prefix tuning, (IA)3, and unions of these such as MAM.
Not all that the library calls by a paper's name computes what the paper's own code does, and what has no equal outputs here
is refused: its adapters of Pfeiffer's kind read the sublayer's output after another residual and norm
(``original_ln_before``), its Compacter has GELU in its exact form, its (IA)3 scales what enters the activation, and its
prefixes move T5's position bias. Of a Compacter on a model without a head it saves no rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from peftlib.anatomy import Anatomy, Site
from peftlib.data.tasks import Task, get_task
from peftlib.deltas import Header, fill, outline, read_tensors
from peftlib.errors import UsageError, short
from peftlib.interop.places import FormatError, by_path, expression, paths, read_config
from peftlib.methods.adapters.bottleneck import ACTIVATIONS
from peftlib.methods.adapters.compacter import Compacter, CompacterAdapter, CompacterPlusPlus
from peftlib.methods.adapters.houlsby import Houlsby
from peftlib.methods.adapters.parallel import Beside, ParallelAdapter
from peftlib.methods.adapters.pfeiffer import PfeifferAttention, PfeifferFFN
from peftlib.methods.additive.ia3 import IA3
from peftlib.methods.base import Attachment, Expression, Method, Sum
from peftlib.methods.soft_prompts.prefix import PrefixTuning
from peftlib.model import Tuned

CONFIG, WEIGHTS, SAFE_WEIGHTS = "adapter_config.json", "pytorch_adapter.bin", "adapter.safetensors"
Config = dict[str, Any]
Tensors = dict[str, Tensor]
FAMILIES = ("bert", "roberta", "xlm-roberta", "t5", "mt5")
# What a field must be, where a file has it.
BESIDE = {
    "ln_before": False,
    "ln_after": False,
    "adapter_residual_before_ln": False,
    "cross_adapter": False,
    "inv_adapter": None,
    "use_gating": False,
    "original_ln_after": True,
}
BEHIND = BESIDE | {"original_ln_before": False, "residual_before_ln": True, "scaling": 1.0}
RULED = {
    "factorized_phm_W": True,
    "factorized_phm_rule": False,
    "shared_W_phm": False,
    "shared_phm_rule": True,
    "phm_bias": True,
    "non_linearity": "gelu_new",
}
PREFIXED = {"use_gating": False, "encoder_prefix": True, "cross_prefix": True, "leave_out": [], "non_linearity": "tanh"}
SCALED = {
    "composition_mode": "scale",
    "selfattn_lora": True,
    "intermediate_lora": True,
    "output_lora": False,
    "attn_matrices": ["k", "v"],
    "use_gating": False,
    "use_dora": False,
    "alpha": 1,
}
# Places of sublayers, by the norms beside which `adapters` hangs its own.
SUBLAYERS = {"attention.norm": "attention.output", "ffn.norm": "ffn.down"}
STACKS = {
    "encoder_attention": "encoder_prefix",
    "decoder_attention": "self_prefix",
    "decoder_cross_attention": "cross_prefix",
}


def _demand(config: Config, demanded: Config, what: str, source: str) -> None:
    for field, value in demanded.items():
        if config.get(field, value) != value:
            raise FormatError(
                f"{source}: {field} is {short(config[field])}, and {what} here computes what it is {value!r} for: no "
                "outputs would be equal"
            )


class Bottlenecks:
    """Adapters behind sublayers, or beside the feed-forward network."""

    marks: ClassVar[tuple[str, ...]] = ("adapters", "shared_parameters")

    def expression(self, config: Config, tensors: Tensors, anatomy: Anatomy, source: str) -> Expression:
        ruled, beside = bool(config.get("phm_layer")), bool(config.get("is_parallel"))
        places = {
            site
            for site, field in (("attention.output", "mh_adapter"), ("ffn.down", "output_adapter"))
            if config.get(field)
        }
        classes: dict[frozenset[str], tuple[type[Method], ...]] = {
            frozenset(("attention.output", "ffn.down")): (Houlsby, Compacter),
            frozenset(("attention.output",)): (PfeifferAttention,),
            frozenset(("ffn.down",)): (PfeifferFFN, CompacterPlusPlus),
        }
        known = classes.get(frozenset(places), ())
        if beside and places != {"ffn.down"} or beside and ruled or ruled and len(known) < 2 or not known:
            raise FormatError(
                f"{source}: {'a parallel' if beside else 'an'} adapter{' of Kronecker products' * ruled} at "
                f"{sorted(places) or 'no place'} has no counterpart here"
            )
        cls = ParallelAdapter if beside else known[ruled]
        _demand(config, BESIDE if beside else BEHIND | (RULED if ruled else {}), cls.__name__, source)
        if config.get("non_linearity") not in [*ACTIVATIONS]:
            raise FormatError(
                f"{source}: non_linearity is {short(config.get('non_linearity'))}, expected one of {', '.join(ACTIVATIONS)}"
            )
        holders = {path: site for site, path in _holders(anatomy).items()}
        names = {id(site.module): path for path, site in by_path(anatomy).items()}
        found: dict[str, Method] = {}
        for name, tensor in tensors.items():
            holder, _, rest = name.rpartition(".adapters.")
            if rest in ("adapter_down.0.bias", "adapter_down.0.b"):
                site = holders.get(holder)
                path = names[id(site.module)] if site else name
                found[path] = self._method(
                    cls, config, tensor.numel(), tensors.get(f"{holder}.adapters.adapter_down.0.W_left")
                )
        return expression(anatomy, found, tuple(sorted(places)), source, lambda site: site.name)

    @staticmethod
    def _method(cls: type[Method], config: Config, a: int, left: Tensor | None) -> Method:
        if issubclass(cls, Compacter):
            rank = left.shape[-1] if left is not None and left.ndim else 1
            return cls(n=config.get("phm_dim", 4), bottleneck=a, rank=rank, train_norms=False)
        if issubclass(cls, ParallelAdapter):
            scale = config.get("scaling", 1.0)
            learned = scale == "learned"
            return cls(bottleneck=a, scale=1.0 if learned else scale, learned=learned, activation=config["non_linearity"])
        return cls(bottleneck=a, activation=config["non_linearity"], init="bert")  # type: ignore[call-arg]  # of Houlsby's kind

    def tensors(self, at: Attachment) -> Tensors:
        holders = _holders(at.model.anatomy)
        rules: list[Any] = at.shared  # Compacter's
        found: Tensors = {"shared_parameters.phm_rule": rules[0].A.detach()} if rules else {}
        for site, edit in at.edits:
            start = f"{holders[site]}.adapters"
            for ours, theirs in (("down", "adapter_down.0"), ("up", "adapter_up")):
                layer = getattr(edit, ours)
                ruled = isinstance(edit, CompacterAdapter)
                own = {"W_left": layer.s, "W_right": layer.t, "b": layer.b} if ruled else dict(layer.named_parameters())
                found |= {f"{start}.{theirs}.{name}": t.detach() for name, t in own.items()}
            if isinstance(edit, Beside) and isinstance(edit.scale, Tensor):
                found[f"{start}.scaling"] = edit.scale.detach().view(1)
        return found


class Prefixes:
    """Keys and values before those of every attention."""

    marks: ClassVar[tuple[str, ...]] = ("prefix_tunings",)

    def expression(self, config: Config, tensors: Tensors, anatomy: Anatomy, source: str) -> Expression:
        if anatomy.shape.decoder_layers:
            raise FormatError(
                f"{source}: the library counts prefixes as a T5's first positions, which moves the position bias of its "
                "text; PrefixTuning here leaves it alone: no outputs would be equal"
            )
        return self.method(config, tensors, anatomy, source)

    @staticmethod
    def method(config: Config, tensors: Tensors, anatomy: Anatomy, source: str) -> PrefixTuning:
        """Whatever the backbone's positions. Flat prefixes become a tensor for each layer."""
        _demand(config, PREFIXED, "PrefixTuning", source)
        length, inner = config.get("prefix_length"), anatomy.shape.inner
        mlp = None if config.get("flat") else config.get("bottleneck_size")
        method = PrefixTuning(length=length, mlp=mlp)  # type: ignore[arg-type]  # which it checks
        for name, tensor in list(tensors.items()):
            if name.endswith(".control_trans") and tensor.numel() % (method.length * 2 * inner) == 0:
                del tensors[name]
                layers = tensor.view(method.length, -1, 2, inner).unbind(1)
                tensors |= {f"{name}.{i}": layer.transpose(0, 1) for i, layer in enumerate(layers)}
        return method

    def tensors(self, at: Attachment) -> Tensors:
        found: Tensors = {}
        kinds = {f"{site.stack}_{site.name}": edit for site, edit in at.edits}
        for name in kinds:
            start = f"prefix_tunings.{STACKS[name] if at.shape.decoder_layers else 'self_prefix'}"
            here = [edit for site, edit in at.edits if f"{site.stack}_{site.name}" == name]
            if here[0].mlp is None:
                found |= {f"{start}.control_trans.{i}": edit.flat.detach() for i, edit in enumerate(here)}
                continue
            network = here[0].mlp.module
            parts = (("wte", network.embedding), ("control_trans.0", network.W1), ("control_trans.2", network.W2))
            found |= {f"{start}.{theirs}.{n}": t.detach() for theirs, part in parts for n, t in part.named_parameters()}
        return found


class Scales:
    """(IA)3: on keys, values and what enters the activation, where that is as good as what leaves it."""

    marks: ClassVar[tuple[str, ...]] = ("loras",)

    def expression(self, config: Config, tensors: Tensors, anatomy: Anatomy, source: str) -> Expression:
        _demand(config, SCALED, "(IA)3", source)
        into, gated = _activations(anatomy), anatomy.shape.gated
        if not gated and getattr(anatomy.model.config, "feed_forward_proj", None) != "relu":
            raise FormatError(
                f"{source}: the library's (IA)3 scales what enters the activation, and IA3 here what leaves it, as the "
                f"paper does: not the same in this {anatomy.model.config.model_type} backbone"
            )
        found: dict[str, Method] = {}
        for name, tensor in tensors.items():
            path = name.removesuffix(".loras.lora_B")
            if path in into and not gated and not (tensor > 0).all():
                raise FormatError(
                    f"{source}: {short(name)} is not above zero everywhere, and there scaling what enters a ReLU is not "
                    "scaling what leaves it"
                )
            found[into.get(path, path)] = IA3()
        return expression(anatomy, found, ("key", "value", "down"), source)

    def tensors(self, at: Attachment) -> Tensors:
        names = paths(at.model.backbone)
        before = {down: up for up, down in _activations(at.model.anatomy).items()}
        where = ((names[id(site.module)], edit) for site, edit in at.edits)
        return {f"{before.get(path, path)}.loras.lora_B": edit.l.detach()[:, None] for path, edit in where}


KINDS: dict[str | None, Any] = {None: Bottlenecks(), "prefix_tuning": Prefixes(), "lora": Scales()}
OF = {Houlsby: None, PfeifferFFN: None, PfeifferAttention: None, Compacter: None, CompacterPlusPlus: None}
OF |= {ParallelAdapter: None, PrefixTuning: "prefix_tuning", IA3: "lora"}  # type: ignore[dict-item]  # names, too


def _holders(anatomy: Anatomy) -> dict[Site, str]:
    """Sublayers' outputs, and the paths of the modules on which `adapters` hangs its own."""
    names = paths(anatomy.model)
    outputs = {(site.stack, site.layer, site.name): site for site in anatomy.sites}
    return {
        outputs[site.stack, site.layer, SUBLAYERS[site.name]]: names[id(site.owner)]
        for site in anatomy.sites
        if site.name in SUBLAYERS
    }


def _activations(anatomy: Anatomy) -> dict[str, str]:
    """Paths of the layers before the activations and behind them."""
    names = {id(site.module): path for path, site in by_path(anatomy).items()}
    ups, downs = anatomy.at("ffn.up"), anatomy.at("ffn.down")
    return {names[id(up.module)]: names[id(down.module)] for up, down in zip(ups, downs, strict=True)}


def from_adapters(
    folder: str | Path, backbone: nn.Module, tasks: Iterable[str | Task], pooling: str = "mean", form: str = "heads"
) -> Tuned:
    """A model with the adapter that `adapters` has saved in a folder, on the backbone that it was trained on (edited in
    place), in evaluation mode. Heads are new. What is refused leaves the backbone as it was.

    Raises:
        FormatError: no configuration, one without counterpart here, or tensors that are missing or do not fit.
        DeltaError: files are missing or broken.
        UsageError: an unknown task, or a backbone whose places in `adapters` are not known.
    """
    folder, anatomy = Path(folder), Anatomy(outline(backbone))
    family, source = backbone.config.model_type, str(folder / CONFIG)  # type: ignore[union-attr]  # `Anatomy` has looked
    if family not in FAMILIES:
        raise UsageError(
            f"checkpoints of adapters can be read for {', '.join(FAMILIES)} backbones; this is a {short(family)}"
        )
    name, configs = _read_config(folder / CONFIG)
    tensors = _normalised(_read_tensors(folder), name, backbone, source)
    terms = []
    for config in configs:
        part = KINDS[config.get("architecture")]
        own = {key: t for key, t in tensors.items() if _mark(key) in part.marks}
        for key in own:
            del tensors[key]
        try:
            terms.append(part.expression(config, own, anatomy, source))
        except UsageError as error:
            raise FormatError(f"{source}: {error}") from error
        tensors |= own
    method = terms[0] if len(terms) == 1 else Sum(tuple(terms))
    chosen = tuple(get_task(t) if isinstance(t, str) else t for t in tasks)
    if not chosen:
        raise UsageError("a model needs at least one task: pass tasks=[...], whose heads are then new")
    return Header(str(method), chosen, pooling, form, None).rebuild(
        backbone, lambda model: fill(_tensors(model), tensors, str(folder)), str(folder), other_weights=True
    )


def _tensors(model: Tuned) -> Tensors:
    return {name: t for leaf, at in model.attachments for name, t in KINDS[OF[type(leaf)]].tensors(at).items()}


def _mark(key: str) -> str:
    """Which kind of part a tensor belongs to."""
    return next((mark for part in KINDS.values() for mark in part.marks if f".{mark}." in f".{key}"), "")


def _normalised(tensors: Tensors, name: str, backbone: nn.Module, source: str) -> Tensors:
    """Tensors by names without the adapter's own and that of a model with a head; of a prefix, which is there once for each
    layer, one."""
    found: Tensors = {}
    marks = "|".join(mark for part in KINDS.values() for mark in part.marks)
    for key, tensor in tensors.items():
        parts = re.match(
            rf"((?:.*?\.)?)({marks})\.{re.escape(name)}\.(.+)", key.removeprefix(f"{backbone.base_model_prefix}.")
        )
        if not parts:
            raise FormatError(f"{source}: {short(key)} is no tensor that an adapter called {short(name)} has here")
        place, mark, rest = parts.groups()
        new = f"{'' if mark == 'prefix_tunings' else place}{mark}.{rest}"
        if new in found and not torch.equal(found[new], tensor):
            raise FormatError(f"{source}: {short(key)} is not what another layer's copy of it is")
        found[new] = tensor
    return found


def _read_config(path: Path) -> tuple[str, list[Config]]:
    """An adapter's name, and the configurations of its parts."""
    found = read_config(path, "adapters'")
    config = found.get("config") if isinstance(found, dict) else None
    if not isinstance(config, dict) or not isinstance(found.get("name"), str) or not found["name"]:
        raise FormatError(f"{path}: expected a table with the adapter's 'name' and its 'config', in full")
    configs = config.get("configs") if config.get("architecture") == "union" else [config]
    if not isinstance(configs, list) or not configs or not all(isinstance(one, dict) for one in configs):
        raise FormatError(f"{path}: configs is {short(configs)}, expected a list of tables")
    for one in configs:
        kind = one.get("architecture")
        if not isinstance(kind, str | None) or kind not in KINDS:
            known = ", ".join(sorted(kind for kind in KINDS if kind))
            raise FormatError(
                f"{path}: architecture is {short(kind)}, expected null (a bottleneck), {known} or a union of these"
            )
    if len({one.get("architecture") for one in configs}) < len(configs):
        raise FormatError(f"{path}: a union of two parts of one kind has no counterpart here")
    return found["name"], configs


def _read_tensors(folder: Path) -> Tensors:
    """Either file; a pickle is read without running what it says."""
    path = folder / WEIGHTS
    if not path.is_file():
        return read_tensors(folder / SAFE_WEIGHTS)[1]
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, by what is broken
        raise FormatError(f"{path}: cannot be read as tensors ({short(str(error))})") from error
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(t, Tensor) for k, t in found.items()):
        raise FormatError(f"{path}: expected a table of names and tensors, found {short(type(found).__name__)}")
    return found
