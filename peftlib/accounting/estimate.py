"""Memory and compute of a training step, estimated on tensors that have shapes but no content.

A forward, a backward and an optimizer step run on the ``meta`` device, with nothing but shapes computed, while

    saved_tensors_hooks   see what autograd keeps for the backward pass (parameters left out, storages counted once)
    FlopCounterMode       counts the multiplications
    Live                  follows every storage from its creation to its end, and keeps the highest sum

Two things do not happen by themselves on ``meta`` and are put in by `Emulated`: autocast's casts to bfloat16, and the
kernels that a real device would choose for attention and dropout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import typing
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from peftlib.accounting.counting import shape_model
from peftlib.errors import UsageError, short
from peftlib.methods.base import Expression
from peftlib.model import Tuned
from peftlib.records import Run

if typing.TYPE_CHECKING:
    from transformers import PreTrainedModel

PRECISIONS, DEVICES = ("fp32", "bf16", "bf16-true"), ("cuda", "cpu")
# What autocast does in its low precision, under the names by which backbones and methods call it.
PRODUCTS = {
    F.linear,
    torch.matmul,
    torch.mm,
    torch.bmm,
    torch.addmm,
    torch.baddbmm,
    torch.einsum,
    Tensor.matmul,
    Tensor.__matmul__,
    Tensor.__rmatmul__,
    F.scaled_dot_product_attention,
}
TOKENS, PAIRS = 10**12, 10**15  # of a batch: more than any machine holds, and sizes of tensors would overflow
EVAL_BATCH = 128  # as in peftlib.training.loop, which is not imported for one number


@dataclass(frozen=True)
class Estimate:
    """Bytes, unless said otherwise.

    weights: of backbone, method and heads. gradients: of this step. optimizer: its state, once all of it is there.
    activations: kept for the backward pass, dropout masks and casts of trained weights included. peak: the most that is in
    use at any time of a step after the first; less than the sum of the four where gradients appear while activations go,
    more where an operation's results pass by. flops: multiplications and additions of a step's matrix products and
    attention, forward and back.
    """

    method: str
    backbone: str
    batch: int
    length: int
    precision: str
    tasks: int
    device: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int
    flops: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


Moves = list[tuple[str, int]]


class Live(TorchDispatchMode):
    """Follows the storages made inside it: ``moves`` holds, in order, the operation that made one and its bytes, and a
    negative number of bytes when one goes."""

    def __init__(self, before: Sequence[Tensor] = ()):
        super().__init__()
        self.moves: Moves = []
        self.alive = {t.untyped_storage()._cdata for t in before}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, Tensor):
                self._follow(func.__name__, t.untyped_storage())
        return out

    def _follow(self, made_by: str, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.alive:
            self.alive.add(key)
            self.moves.append((made_by, size))
            weakref.finalize(storage, self._gone, key, size).atexit = False

    def _gone(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.moves.append(("", -size))


def highest(moves: Moves) -> int:
    """The most bytes that were there at any time."""
    return max(itertools.accumulate((size for _, size in moves), initial=0))


class Emulated(TorchFunctionMode):
    """What a real device would run in place of what ``meta`` runs.

    Autocast: matrix products in bfloat16; on CUDA layer norms in float32. Attention: the fused kernel, which keeps no
    weights of attention, unless it is a CPU's and there is dropout or a trained bias. Dropout: masks of one byte on
    CUDA. A mask of padding counts as one that hides something.
    """

    def __init__(self, precision: str, device: str):
        super().__init__()
        self.bf16, self.cuda = precision == "bf16", device == "cuda"

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is Tensor.__bool__ and args[0].is_meta:
            return False
        if self.bf16 and func in PRODUCTS:
            args, kwargs = self._cast(args, torch.bfloat16), self._cast(kwargs, torch.bfloat16)
        if self.bf16 and self.cuda and func is F.layer_norm:
            args, kwargs = self._cast(args, torch.float32), self._cast(kwargs, torch.float32)
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func is F.dropout and self.cuda:
            return self._dropout(*args, **kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def _cast(values, dtype: torch.dtype):
        def one(v):
            if isinstance(v, (tuple, list)):
                return type(v)(map(one, v))
            return v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v

        return {k: one(v) for k, v in values.items()} if isinstance(values, dict) else tuple(map(one, values))

    @staticmethod
    def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return torch.native_dropout(x, p, True)[0] if training and p > 0 else x

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **other,
    ) -> Tensor:
        if not self.cuda and query.dtype == torch.bfloat16:  # in fp32, as `peftlib.edits` has it
            mask = attn_mask if attn_mask is None or attn_mask.dtype == torch.bool else attn_mask.float()
            return self._attention(
                query.float(), key.float(), value.float(), mask, dropout_p, is_causal, scale, **other
            ).to(query.dtype)
        trained_bias = attn_mask is not None and attn_mask.requires_grad
        if not self.cuda and (dropout_p > 0 or trained_bias):
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, scale=scale, **other
            )
        if attn_mask is not None:
            attn_mask = attn_mask.to(query.dtype).expand(*query.shape[:3], key.shape[2])
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, torch.is_grad_enabled(), dropout_p, is_causal, scale=scale
        )[0]


class Saved:
    """What autograd keeps for the backward pass: ``sizes`` in bytes, parameters left out, each storage once."""

    def __init__(self, parameters: Sequence[Tensor]):
        self.seen = {p.untyped_storage()._cdata for p in parameters}
        self.sizes: list[int] = []

    def pack(self, t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.sizes.append(storage.nbytes())
        return t.detach()  # not t: an output that holds its own graph would never go

    def watch(self):
        return torch.autograd.graph.saved_tensors_hooks(self.pack, lambda t: t)


def step_model(
    method: str | Expression,
    backbone: str | PreTrainedModel,
    tasks: int | Sequence[str],
    precision: str,
    dropout: float,
    attention_dropout: float,
    form: str,
) -> Tuned:
    """A model of shapes as it is trained: what a look at data would choose is in place, weights have the precision's types.
    The arguments are those of `estimate`; form: of `Tuned`."""
    model = shape_model(method, backbone, tasks, form, dropout=dropout)
    with torch.device("meta"):
        model.assume()
    model.anatomy.set_attention_dropout(attention_dropout)
    if precision == "bf16-true":
        return model.to(torch.bfloat16)
    return model.store_frozen(torch.bfloat16) if precision == "bf16" else model


def step_inputs(batch: int, length: int, answer: int) -> dict[str, Tensor]:
    """A batch of shapes: (batch, length), and answers (batch, answer) unless that is 0."""
    ones = torch.ones(batch, length, dtype=torch.long, device="meta")
    answers = {"answers": torch.ones(batch, answer, dtype=torch.long, device="meta")} if answer else {}
    return {"input_ids": ones, "attention_mask": ones.clone(), **answers}


def _sizes(tensors) -> list[int]:
    """Bytes of each storage, once."""
    return list({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())


def _check(batch: int, length: int, precision: str, device: str, answer: int) -> None:
    for name, value in {"batch": batch, "length": length, "answer": answer}.items():
        if type(value) is not int:
            raise UsageError(f"cannot estimate with {name} {short(value)}: expected a whole number")
    checks = {
        "batch": (batch, batch >= 1, "at least 1"),
        "length": (length, length >= 1, "at least 1"),
        "answer": (answer, answer >= 0, "at least 0"),
        "precision": (precision, precision in PRECISIONS, f"one of {PRECISIONS}"),
        "device": (device, device in DEVICES, f"one of {DEVICES}"),
    }
    for name, (value, holds, expected) in checks.items():
        if not holds:
            raise UsageError(f"cannot estimate with {name} {short(value)}: expected {expected}")
    longest = max(length, answer)
    if batch * longest > TOKENS or batch * longest**2 > PAIRS:
        raise UsageError(
            f"cannot estimate with batch {short(batch)} and {short(longest)} tokens each: expected at most "
            f"{TOKENS:,} tokens and {PAIRS:,} pairs of them"
        )


def estimate(
    method: str | Expression,
    backbone: str,
    batch: int,
    length: int,
    precision: str = "bf16",
    tasks: int | Sequence[str] = 1,
    *,
    device: str = "cuda",
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    answer: int = 0,
) -> Estimate:
    """Bytes and FLOPs of one training step.

    Args:
        method: an expression. A first look at data (`Method.prepare`) is left out, what it chooses is not.
        backbone: as in `count`; ``minilm[:N]`` has N layers.
        batch, length: sequences of one batch, and tokens of each.
        precision: "bf16": autocast, trained weights kept in fp32 and frozen ones in bf16; "fp32"; or "bf16-true": all in
            bf16, gradients and the optimizer's moments too, in which nothing here trains, but others have.
        tasks: how many, or names; the step is one of the first.
        device: whose kernels: "cuda" or "cpu".
        dropout, attention_dropout: before the heads, and on attention weights (`Recipe`).
        answer: tokens of an answer that an encoder-decoder writes; 0: a head reads the backbone instead.

    Raises:
        UsageError: a method, backbone, task or number that cannot be used.
    """
    _check(batch, length, precision, device, answer)
    form = "text" if answer else "heads"
    model = step_model(method, backbone, tasks, precision, dropout, attention_dropout, form).train()
    model.require_training()
    if (room := model.anatomy.positions) is not None and length > room:
        raise UsageError(f"cannot estimate with length {length}: {backbone} has {room} positions")
    flops = FlopCounterMode(display=False)
    step = training_step(model, step_inputs(batch, length, answer), precision, device, flops)
    return Estimate(
        str(model.method),
        backbone,
        batch,
        length,
        precision,
        len(model.tasks),
        device,
        sum(step.weights),
        sum(step.gradients),
        sum(step.optimizer),
        sum(step.activations),
        step.peak,
        int(flops.get_total_flops()),
    )


@dataclass(frozen=True)
class Step:
    """Bytes of every storage of a training step. weights to activations: as `Estimate` has their sums. forward, backward:
    what comes and goes in these passes. update: in the first step of the optimizer; the state alone if that is fused."""

    weights: list[int]
    gradients: list[int]
    optimizer: list[int]
    activations: list[int]
    forward: Moves
    backward: Moves
    update: Moves

    @property
    def peak(self) -> int:
        """The most that is in use at any time of a step after the first."""
        passes = sum(self.optimizer) + highest(self.forward + self.backward)
        return sum(self.weights) + max(passes, sum(self.gradients) + highest(self.update))


def training_step(
    model: Tuned,
    inputs: dict[str, Tensor],
    precision: str,
    device: str,
    flops: contextlib.AbstractContextManager | None = None,
) -> Step:
    """One training step of a model on the ``meta`` device. flops: counts them, which takes most of the time."""
    everything = [*model.parameters(), *model.buffers()]
    saved, live = Saved(everything), Live(everything)
    with torch.random.fork_rng(devices=[]), flops or contextlib.nullcontext(), live, Emulated(precision, device):
        torch.manual_seed(0)  # a method may draw which of its parts a step uses
        with saved.watch():
            loss = _loss(model, inputs)
        passed = len(live.moves)
        loss.backward()
    del loss
    trained = [p for p in model.parameters() if p.requires_grad]
    grads = [p.grad for p in trained if p.grad is not None]
    forward, backward = live.moves[:passed], live.moves[passed:]
    for p in trained:  # what this step leaves out has its state from others
        p.grad = torch.empty_like(p) if p.grad is None else p.grad
    state, update = _step(model.optimizer(1e-3, 0.01), [*everything, *(p.grad for p in trained if p.grad is not None)])
    return Step(_sizes(everything), _sizes(grads), state, saved.sizes, forward, backward, update)


def _step(optimizer: torch.optim.Optimizer, before: list[Tensor]) -> tuple[list[int], Moves]:
    """Bytes of an optimizer's state, and what its step makes beside what was there before."""
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for group in optimizer.param_groups:
        if fused:
            group["fused"] = None  # the fused kernel does not run on meta, and makes nothing but the state
    with Live(before) as live:
        optimizer.step()
    state = _sizes(v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor))
    return state, [("state", size) for size in state] if fused else live.moves


def _loss(model: Tuned, inputs: dict[str, Tensor]) -> Tensor:
    task = model.tasks[0]
    whole = model.task_table[task].kind == "classes"
    labels = inputs.get("answers")
    if labels is None:
        labels = torch.zeros(len(inputs["input_ids"]), dtype=torch.long if whole else torch.float, device="meta")
    return model.objective(model.step(task, inputs, labels))[0]


# --- beside a measurement ---------------------------------------------------------------------------------------------
def longest_batch(trainer) -> tuple[int, int, int]:
    """(sequences, tokens of the longest, tokens of the longest answer or 0) of the batch of a `Trainer`'s first epoch
    that holds most tokens."""
    shapes = [
        (len(rows), int(trainer.data["train"][name].lengths[rows].max()), trainer.longest_answer.get(name, 0))
        for name, rows in trainer.schedule(1)
    ]
    return max(shapes, key=lambda shape: shape[0] * shape[1])


def estimate_run(run: Run, longest_batch_shape: tuple[int, int, int]) -> int:
    """Peak bytes of a whole run, to stand beside `PeakMemory`'s: the larger of a training step's and an evaluation's.

    On a CPU the trained tensors of the best epoch, which the loop keeps, are added from the second epoch on.

    Args:
        longest_batch_shape: of the largest batch, from `longest_batch`.
    """
    with torch.random.fork_rng(devices=[]):  # a run's own random numbers stay what they are
        return _estimate_run(run, *longest_batch_shape)


def _estimate_run(run: Run, batch: int, length: int, answer: int) -> int:
    recipe, device = run.recipe, "cuda" if torch.cuda.is_available() else "cpu"
    step = estimate(
        run.method,
        run.backbone,
        batch,
        length,
        recipe.precision,
        run.tasks,
        device=device,
        dropout=recipe.dropout,
        attention_dropout=recipe.attention_dropout,
        answer=answer,
    )
    model = step_model(run.method, run.backbone, run.tasks, recipe.precision, recipe.dropout, 0.0, recipe.form).eval()
    with torch.no_grad(), Live([*model.parameters(), *model.buffers()]) as live, Emulated(recipe.precision, device):
        model(model.tasks[0], step_inputs(EVAL_BATCH, length, answer))
    kept = sum(_sizes(model.delta().values())) if device == "cpu" and recipe.epochs > 1 else 0
    return kept + max(step.peak, step.weights + step.optimizer + highest(live.moves))
