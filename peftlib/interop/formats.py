"""What each method's folder of `peft` holds: the fields of its configuration, and its tensors' names and shapes.

A method is here if its class says what `peft` calls it (``about``), prefix tuning apart: `peft` hands prefixes to the
model as tokens already read, so that a BERT's tokens move up by as many positions, a T5's get another position bias, and of
a T5's three kinds of attention one has any. No outputs would be equal.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor, nn

from peftlib.anatomy import Anatomy
from peftlib.errors import UsageError, short
from peftlib.interop.places import FormatError, by_path, expression, kind, paths
from peftlib.methods.additive.ia3 import IA3, ScaledInput
from peftlib.methods.base import Attachment, Expression, Method
from peftlib.methods.reparametrized import krona
from peftlib.methods.reparametrized.adalora import AdaLoRA
from peftlib.methods.reparametrized.dora import DoRA
from peftlib.methods.reparametrized.glora import GLoRA
from peftlib.methods.reparametrized.krona import KronA
from peftlib.methods.reparametrized.lora import LoRA
from peftlib.methods.selective.layernorm import LayerNormTuning
from peftlib.methods.soft_prompts.prompt import PromptTuning
from peftlib.model import Tuned

Config = dict[str, Any]
OFF: tuple[object, ...] = (None, False, "none", {}, [])
SCHEDULE = 1000  # steps of a run that AdaLoRA's fractions of one are written as


def number(value: object) -> TypeGuard[float]:
    """Is it a finite number of a size that floats tell apart?"""
    return type(value) is float and math.isfinite(value) or type(value) is int and abs(value) < 1 << 53


def whole(value: object) -> TypeGuard[int]:
    return type(value) is int and number(value)


# What a field may be, in words and as a check.
CHECKS: dict[str, Callable[[Any], bool]] = {
    "a whole number above zero": lambda v: whole(v) and v > 0,
    "a whole number from zero": lambda v: whole(v) and v >= 0,
    "a number above zero": lambda v: number(v) and v > 0,
    "a number from zero": lambda v: number(v) and v >= 0,
    "a number from 0 to below 1": lambda v: number(v) and 0 <= v < 1,
    "true or false": lambda v: v in (None, False, True),
    "lora, vector, constant or none": lambda v: v in ("lora", "vector", "constant", "none"),
    "1 or 2": lambda v: v in (None, 1, 2),
}
COUNT, STEPS, POSITIVE, WEIGHT, FRACTION, FLAG, FORM, STACKS = CHECKS
# Fields that change nothing in the outputs of a saved adapter, whatever its kind.
SILENT = {
    "peft_type",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "runtime_config",
}


class Format(ABC):
    """The folder of one kind of adapter.

    Class attributes:
        kind: `peft`'s name for it. methods: the classes that can be such an adapter. prefix: of its tensors' names.
        fields: what a field of the configuration must be. defaults: of those that older versions do not write. silent: more
            fields without effect on a saved adapter. Any other must be off, whatever later versions of peft add.
        scales: the fields that scale what the tensors say.
    """

    kind: ClassVar[str]
    methods: ClassVar[tuple[type[Method], ...]]
    prefix: ClassVar[str] = "base_model.model."
    fields: ClassVar[dict[str, str]] = {}
    defaults: ClassVar[Config] = {}
    silent: ClassVar[set[str]] = set()
    scales: ClassVar[tuple[str, ...]] = ()

    def check(self, config: Config, source: str) -> None:
        """Fill in defaults and refuse what has no counterpart.

        Raises:
            FormatError: names the field, its value and what was expected.
        """
        for key, value in config.items():
            if key not in SILENT | self.silent | self.fields.keys() and value not in OFF:
                raise FormatError(
                    f"{source}: {short(key)} is {short(value)}, which has no counterpart in {self.methods[0].__name__} "
                    "here; expected it to be off"
                )
        for key, value in self.defaults.items():
            config.setdefault(key, value)
        for key, expected in self.fields.items():
            if not CHECKS[expected](config.get(key)):
                raise FormatError(f"{source}: {key} is {short(config.get(key))}, expected {expected}")

    def scaled(self, config: Config) -> str:
        """What the outputs depend on beside the tensors."""
        return json.dumps([config.get(key) for key in self.scales])

    @abstractmethod
    def tensors(self, model: Tuned) -> dict[str, Tensor]:
        """A model's numbers, in place, as a file has them."""

    @abstractmethod
    def written(self, model: Tuned) -> tuple[Config, dict[str, Tensor]]:
        """The configuration's own fields, and the tensors of a file.

        Raises:
            UsageError: a model without counterpart in peft.
        """

    def tidied(self, config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a file without what says nothing."""
        return tensors

    @abstractmethod
    def expression(self, config: Config, tensors: dict[str, Tensor], anatomy: Anatomy, source: str) -> Expression:
        """Raises:
        FormatError: the adapter has no counterpart here.
        """

    def make_room(self, model: Tuned, tensors: dict[str, Tensor]) -> None:  # noqa: B027 (most have nothing to do)
        """Before a model is filled with a file's tensors: for shapes that only training decides."""


class OnModules(Format):
    """Of a method that changes modules. marker: between a module's path and the names of its tensors. wanted: see
    `places.expression`. patterns: of a field's own values for some modules -> the field."""

    marker: ClassVar[str]
    wanted: ClassVar[tuple[str, ...]] = ()
    patterns: ClassVar[dict[str, str]] = {}

    @abstractmethod
    def parts(self, edit: Any) -> dict[str, Tensor]:
        """The tensors of one module, by what follows its path."""

    def put(self, method: Any, edit: Any) -> dict[str, Tensor]:
        """The same as they are written."""
        return self.parts(edit)

    def config(self, method: Any, at: Attachment) -> Config:
        """Raises:
        UsageError: hyperparameters that peft has not.
        """
        return {}

    @abstractmethod
    def method(self, config: Config, site: str, weight: torch.Size, parts: dict[str, Tensor]) -> Method:
        """What changes one module of a kind; parts: its tensors."""

    def places(self, at: Attachment) -> Iterator[tuple[nn.Module, Any]]:
        """Modules, and what changes them."""
        for site, edit in at.edits:
            yield site.module, edit

    def tensors(self, model: Tuned) -> dict[str, Tensor]:
        names = paths(model.backbone)
        return {
            names[id(module)] + suffix: tensor
            for _, at in model.attachments
            for module, edit in self.places(at)
            for suffix, tensor in self.parts(edit).items()
        }

    def written(self, model: Tuned) -> tuple[Config, dict[str, Tensor]]:
        names = paths(model.backbone)
        own: dict[str, Config] = {}
        tensors: dict[str, Tensor] = {}
        for method, at in model.attachments:
            config = self.config(method, at)
            for module, edit in self.places(at):
                path = names[id(module)]
                if path in own:
                    raise UsageError(
                        f"peft's format has one change of a module, and {short(str(model.method))} has two of {path}"
                    )
                own[path] = config
                tensors |= {path + suffix: tensor for suffix, tensor in self.put(method, edit).items()}
        first = next(iter(own.values()))
        common = dict(first)
        for pattern, field in self.patterns.items():
            other = {path: config[field] for path, config in own.items() if config[field] != first[field]}
            common |= {pattern: other} if other else {}
        for config in own.values():
            for field, value in config.items():
                if field not in self.patterns.values() and value != first[field]:
                    raise UsageError(
                        f"peft's format has one {field} for all modules, and {short(str(model.method))} has "
                        f"{first[field]!r} and {value!r}"
                    )
        return common | {"target_modules": sorted(own)} | self.more(own, tensors), tensors

    def more(self, own: dict[str, Config], tensors: dict[str, Tensor]) -> Config:
        """Fields that follow from the modules."""
        return {}

    def expression(self, config: Config, tensors: dict[str, Tensor], anatomy: Anatomy, source: str) -> Expression:
        sites, modules = by_path(anatomy), dict(anatomy.model.named_modules())
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            path, marker, rest = name.rpartition(self.marker)
            parts.setdefault(path if marker else name, {})[marker + rest] = tensor
        found: dict[str, Method] = {}
        for path, own in parts.items():
            if path in sites:
                here = config | {
                    field: _by_pattern(config, pattern, path, field, anatomy, source)
                    for pattern, field in self.patterns.items()
                }
                weight = getattr(modules[path], "weight", None)
                shape = torch.Size() if weight is None else weight.shape
                found[path] = self.method(here, kind(sites[path]), shape, own)
            else:
                found[path] = self.methods[0]()
        return expression(anatomy, found, self.wanted, source)


def _by_pattern(config: Config, pattern: str, path: str, field: str, anatomy: Anatomy, source: str) -> object:
    """A field's value for a module. Patterns are regular expressions, of which names of modules are read: whole, or the end
    of one; the first that fits counts."""
    own = config.get(pattern) or {}
    if not isinstance(own, dict):
        raise FormatError(f"{source}: {pattern} is {short(own)}, expected a table of modules' names and numbers")
    expected = next(words for name, words in FORMATS[config["peft_type"]].fields.items() if name == field)
    found = config[field]
    for key, value in reversed(own.items()):
        name = key.removeprefix("^").removeprefix(f"{anatomy.model.base_model_prefix}.")
        if not all(part.isidentifier() or part.isdecimal() for part in name.split(".")):
            raise FormatError(
                f"{source}: {pattern} has {short(key)}, a regular expression: expected the names of modules, whole or "
                "their ends, such as 'layer.0.attention.self.query'"
            )
        if not CHECKS[expected](value):
            raise FormatError(f"{source}: {pattern} has {short(value)} for {short(key)}, expected {expected}")
        if path == name or (not key.startswith("^") and path.endswith(f".{name}")):
            found = value
    return found


class LowRankFormat(OnModules):
    kind, methods, marker = "LORA", (LoRA, DoRA), ".lora_"
    fields = {"r": COUNT, "lora_alpha": POSITIVE, "lora_dropout": FRACTION, "use_rslora": FLAG, "use_dora": FLAG}
    defaults = {"lora_dropout": 0.0}
    silent = {"init_lora_weights", "rank_pattern", "alpha_pattern"} | {
        "megatron_core",
        "qalora_group_size",
        "loftq_config",
        "eva_config",
    }
    patterns = {"rank_pattern": "r", "alpha_pattern": "lora_alpha"}
    # Initialisations that leave the backbone as it was; the others (PiSSA, OLoRA, ...) need another backbone.
    own_backbone = (True, False, "gaussian", "orthogonal", "eva")

    def check(self, config: Config, source: str) -> None:
        super().check(config, source)
        if config.get("init_lora_weights", True) not in self.own_backbone:
            raise FormatError(
                f"{source}: init_lora_weights={short(config['init_lora_weights'])} changed the backbone "
                "itself; save with path_initial_model_for_weight_conversion, which makes it a plain LoRA"
            )

    def scaled(self, config: Config) -> str:
        text = str(float(config["lora_alpha"])) + " stabilised" * bool(config.get("use_rslora"))
        return text + (json.dumps(config["alpha_pattern"], sort_keys=True) if config.get("alpha_pattern") else "")

    def parts(self, edit: Any) -> dict[str, Tensor]:
        length = {".lora_magnitude_vector": edit.m} if hasattr(edit, "m") else {}
        return {".lora_A.weight": edit.A, ".lora_B.weight": edit.B} | length

    def config(self, method: LoRA, at: Attachment) -> Config:
        return {
            "r": method.rank,
            "lora_alpha": method.alpha or method.rank,
            "lora_dropout": method.dropout,
            "use_rslora": method.stabilised,
            "use_dora": isinstance(method, DoRA),
            "bias": "none",
        }

    def method(self, config: Config, site: str, weight: torch.Size, parts: dict[str, Tensor]) -> Method:
        cls, rank, alpha = DoRA if config.get("use_dora") else LoRA, config["r"], config["lora_alpha"]
        return cls(
            rank=rank,
            alpha=None if alpha == rank else float(alpha),
            sites=(site,) if site in ("query", "key", "value", "output", "up", "down") else LoRA.sites,
            dropout=float(config["lora_dropout"]),
            stabilised=bool(config.get("use_rslora")),
        )


class AdaptiveFormat(OnModules):
    """A file of ours has as many triplets at every module as training began with, zeros in the place of those that it
    dropped: peft takes their number for what divides alpha."""

    kind, methods, marker = "ADALORA", (AdaLoRA,), ".lora_"
    fields = {
        "init_r": COUNT,
        "target_r": COUNT,
        "lora_alpha": POSITIVE,
        "lora_dropout": FRACTION,
        "orth_reg_weight": WEIGHT,
        "total_step": COUNT,
        "tinit": STEPS,
        "tfinal": STEPS,
        "deltaT": COUNT,
        "beta1": FRACTION,
        "beta2": FRACTION,
    }
    defaults = {"lora_dropout": 0.0}
    silent = {"r", "rank_pattern", *LowRankFormat.silent} - {"alpha_pattern"}
    scales = ("init_r", "lora_alpha")

    def parts(self, edit: Any) -> dict[str, Tensor]:
        return {".lora_A": edit.Q, ".lora_B": edit.P, ".lora_E": edit.E[:, None]}

    def put(self, method: AdaLoRA, edit: Any) -> dict[str, Tensor]:
        more = method.rank - len(edit.E)
        pad = nn.functional.pad
        return {
            ".lora_A": pad(edit.Q, (0, 0, 0, more)),
            ".lora_B": pad(edit.P, (0, more)),
            ".lora_E": pad(edit.E[:, None], (0, 0, 0, more)),
        }

    def config(self, method: AdaLoRA, at: Attachment) -> Config:
        return {
            "init_r": method.rank,
            "target_r": method.target,
            "lora_alpha": method.alpha or method.rank,
            "lora_dropout": method.dropout,
            "orth_reg_weight": method.gamma,
            "total_step": SCHEDULE,
            "tinit": round(method.initial * SCHEDULE),
            "tfinal": round(method.final * SCHEDULE),
            "deltaT": method.gap,
            "beta1": method.beta1,
            "beta2": method.beta2,
            "bias": "none",
        }

    def method(self, config: Config, site: str, weight: torch.Size, parts: dict[str, Tensor]) -> Method:
        rank, alpha, total = config["init_r"], config["lora_alpha"], config["total_step"]
        return AdaLoRA(
            rank=rank,
            target=config["target_r"],
            alpha=None if alpha == rank else float(alpha),
            sites=(site,) if site in AdaLoRA.sites else AdaLoRA.sites,
            dropout=float(config["lora_dropout"]),
            gamma=float(config["orth_reg_weight"]),
            regularizer="code",
            initial=config["tinit"] / total,
            final=config["tfinal"] / total,
            gap=config["deltaT"],
            beta1=float(config["beta1"]),
            beta2=float(config["beta2"]),
        )

    def tidied(self, config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the triplets whose singular value is zero."""
        tensors = dict(tensors)
        for name, E in list(tensors.items()):
            path, marker, rest = name.rpartition(".lora_E")
            A, B = tensors.get(f"{path}.lora_A"), tensors.get(f"{path}.lora_B")
            if not marker or rest or A is None or B is None or not E.is_floating_point():
                continue  # which `fill` refuses
            if E.shape[1:] == (1,) and A.ndim == B.ndim == 2 and len(A) == B.shape[1] == len(E):
                left = E.float()[:, 0].nonzero()[:, 0]
                tensors |= {name: E[left], f"{path}.lora_A": A[left], f"{path}.lora_B": B[:, left]}
        return tensors

    def make_room(self, model: Tuned, tensors: dict[str, Tensor]) -> None:
        names = paths(model.backbone)
        for method, at in model.attachments:
            for site, edit in at.edits:
                E = tensors.get(f"{names[id(site.module)]}.lora_E")
                if E is not None and E.ndim:
                    edit.shrink(torch.arange(min(len(E), method.rank), device=edit.E.device))


class ScaledFormat(OnModules):
    kind, methods, marker, wanted = "IA3", (IA3,), ".ia3_", ("key", "value", "down")
    silent = {"feedforward_modules", "init_ia3_weights"}

    def parts(self, edit: Any) -> dict[str, Tensor]:
        return {".ia3_l": edit.l[None] if isinstance(edit, ScaledInput) else edit.l[:, None]}

    def more(self, own: dict[str, Config], tensors: dict[str, Tensor]) -> Config:
        return {"feedforward_modules": sorted(path for path in own if len(tensors[f"{path}.ia3_l"]) == 1)}

    def method(self, config: Config, site: str, weight: torch.Size, parts: dict[str, Tensor]) -> Method:
        return IA3()


class NormFormat(OnModules):
    kind, methods, marker, wanted = "LN_TUNING", (LayerNormTuning,), ".ln_tuning_layers.", ("norm",)

    def places(self, at: Attachment) -> Iterator[tuple[nn.Module, Any]]:
        for site in at.anatomy.norms:
            yield site.module, site.module

    def parts(self, edit: Any) -> dict[str, Tensor]:
        return {self.marker + name: p.detach() for name, p in edit.named_parameters()}

    def method(self, config: Config, site: str, weight: torch.Size, parts: dict[str, Tensor]) -> Method:
        return LayerNormTuning()


class KroneckerFormat(OnModules):
    """peft's LoKr. Its A has the sizes of `krona.near_root`, or of one number that divides all sides; its B is a product of
    two matrices for ranks below half the larger side, and whole from there on."""

    kind, methods, marker = "LOKR", (KronA,), ".lokr_"
    fields = {"r": COUNT, "alpha": POSITIVE}
    silent = {"init_weights", "decompose_factor", "rank_pattern", "alpha_pattern"}
    patterns = {"rank_pattern": "r", "alpha_pattern": "alpha"}
    scales = ("r", "alpha", "rank_pattern", "alpha_pattern")

    def parts(self, edit: Any) -> dict[str, Tensor]:
        product = edit.product
        names = ("w2",) if len(product.factors) == 1 else ("w2_a", "w2_b")
        return {".lokr_w1": product.A} | {f".lokr_{n}": t for n, t in zip(names, product.factors, strict=True)}

    def config(self, method: KronA, at: Attachment) -> Config:
        weights = [(edit.product.A.shape, edit.product.B.shape) for _, edit in at.edits]
        made = [(a1, a2, b1, b2) for (a1, a2), (b1, b2) in weights]
        usual = [(krona.near_root(a1 * b1), krona.near_root(a2 * b2)) for a1, a2, b1, b2 in made]
        sides = {side for a1, a2, _, _ in made for side in (a1, a2)}
        if [size[:2] for size in made] != usual and len(sides) > 1:
            raise UsageError(
                f"peft's LoKr has an A as square as its weight allows, or one with all sides alike, and {method} has one "
                f"of {made[0][0]} x {made[0][1]}: it cannot be written"
            )
        most = max(max(size[2:]) for size in made)
        if method.rank is not None and any(2 * method.rank >= max(b1, b2) for _, _, b1, b2 in made):
            raise UsageError(
                f"peft's LoKr keeps B whole from half of its larger side on, and {method} has a product of rank "
                f"{method.rank} for {made[0][2]} x {made[0][3]}: it cannot be written"
            )
        r = most if method.rank is None else method.rank
        factor = -1 if [size[:2] for size in made] == usual else next(iter(sides))
        return {"r": r, "alpha": method.scale * r, "decompose_factor": factor}

    def method(self, config: Config, site: str, weight: torch.Size, parts: dict[str, Tensor]) -> Method:
        A = parts.get(".lokr_w1")
        rows, columns = (None, None) if A is None or A.ndim != 2 or len(weight) != 2 else A.shape
        return KronA(
            rows=None if rows is None or rows == krona.near_root(weight[0]) else rows,
            columns=None if columns is None or columns == krona.near_root(weight[1]) else columns,
            rank=None if ".lokr_w2" in parts else config["r"],
            scale=config["alpha"] / config["r"],
            sites=(site,) if site in ("query", "key", "value", "output") else KronA.sites,
        )


class GeneralisedFormat(OnModules):
    """peft also writes zeros for what a layer has not."""

    kind, methods, marker = "GLORA", (GLoRA,), ".glora_"
    fields = {"r": COUNT, "config_A_B": FORM, "config_C": FORM, "config_D_E": FORM}
    silent = {"init_weights"}

    def parts(self, edit: Any) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, part in edit.parts.items():
            if hasattr(part, "left"):
                found |= {f".glora_{name}.Xd": part.left, f".glora_{name}.Xu": part.right}
            else:
                values = part.values
                found[f".glora_{name}.X"] = values.view(1) if values.numel() == 1 else values
        return found

    def config(self, method: GLoRA, at: Attachment) -> Config:
        return {
            "r": method.rank,
            "config_A_B": method.weight,
            "config_C": method.input,
            "config_D_E": method.bias,
            "bias": "none",
        }

    def tidied(self, config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: t for name, t in tensors.items() if not name.endswith(".zeros")}

    def method(self, config: Config, site: str, weight: torch.Size, parts: dict[str, Tensor]) -> Method:
        return GLoRA(
            rank=config["r"],
            weight=config["config_A_B"],
            input=config["config_C"],
            bias=config["config_D_E"],
            sites=(site,) if site in ("query", "key", "value", "output", "up", "down") else GLoRA.sites,
        )


class PromptFormat(Format):
    """`peft` drops a BERT's token types where there is a soft prompt and no task's head."""

    kind, methods, prefix = "PROMPT_TUNING", (PromptTuning,), ""
    fields = {"num_virtual_tokens": COUNT, "num_transformer_submodules": STACKS}
    silent = {
        "num_attention_heads",
        "num_layers",
        "token_dim",
        "prompt_tuning_init",
        "prompt_tuning_init_text",
        "tokenizer_kwargs",
        "tokenizer_name_or_path",
    }
    name = "prompt_embeddings"

    def tensors(self, model: Tuned) -> dict[str, Tensor]:
        ((_, at),) = model.attachments
        ((_, edit),) = at.edits
        return {self.name: edit.P}

    def written(self, model: Tuned) -> tuple[Config, dict[str, Tensor]]:
        if len(model.attachments) != 1:
            raise UsageError(f"peft's format has one prompt, and {short(str(model.method))} has {len(model.attachments)}")
        tensors = self.tensors(model)
        length, width = tensors[self.name].shape
        task = "SEQ_2_SEQ_LM" if model.form == "text" else "FEATURE_EXTRACTION"
        config = {"num_virtual_tokens": length, "token_dim": width, "num_transformer_submodules": 1, "task_type": task}
        return config, tensors

    def tidied(self, config: Config, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """For T5 peft keeps as many vectors again, which nothing reads."""
        P, length = tensors.get(self.name), config["num_virtual_tokens"]
        twice = P is not None and P.ndim == 2 and config.get("num_transformer_submodules") == 2 and len(P) == 2 * length
        return tensors | {self.name: P[:length]} if twice else tensors  # type: ignore[index]  # it is there

    def expression(self, config: Config, tensors: dict[str, Tensor], anatomy: Anatomy, source: str) -> Expression:
        return PromptTuning(length=config["num_virtual_tokens"])


FORMATS: dict[str, Format] = {
    made.kind: made
    for made in (
        LowRankFormat(),
        AdaptiveFormat(),
        ScaledFormat(),
        NormFormat(),
        KroneckerFormat(),
        GeneralisedFormat(),
        PromptFormat(),
    )
}


def of(method: Expression) -> Format | None:
    """The format that an expression's methods have; None where they have none, or several."""
    try:
        leaves = list(method.leaves(("task",)))
    except UsageError:
        return None
    kinds = {type(leaf.method) for leaf in leaves}
    if any(leaf.task is not None for leaf in leaves):
        return None
    return next((made for made in FORMATS.values() if kinds and kinds <= set(made.methods)), None)
