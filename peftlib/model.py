"""A backbone, the method attached to it, and one head a task: what is trained, saved and measured."""

from __future__ import annotations

import copy
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Anatomy
from peftlib.backbones import weights_digest
from peftlib.data.tasks import Task
from peftlib.edits import Current
from peftlib.errors import UsageError
from peftlib.methods.base import HEAD, Attachment, Expression, Method, Part, Step, affordable, parse
from peftlib.parametrized import carries_a_method

if typing.TYPE_CHECKING:
    from transformers import PreTrainedModel

LEFT_OUT = ("backbone.", "fixed.")  # what no delta holds, unless it is trained


@dataclass(frozen=True)
class Counts:
    """Three counts, never one (survey, section 12); heads apart. Percentages are of the backbone's total. What is stored is
    counted in numbers of four bytes, truth values as the bits that they are stored as."""

    trainable: int
    stored: int
    changed: int
    heads: int
    total: int

    def percent(self, name: str) -> float:
        return 100 * getattr(self, name) / self.total


class Tuned(nn.Module):
    """A backbone with a method attached and a linear head for each task.

    Args:
        backbone: a headless Hugging Face encoder or encoder-decoder; edited in place.
        method: an expression, or its text.
        tasks: the tasks, in the order in which per-task copies are made.
        pooling: "mean" over tokens or "cls" (the pooler's output) for encoders. An encoder-decoder is given one decoder
            token and read there.
        dropout: before the heads.
        form: "heads", or "text": an encoder-decoder writes each answer with its own language-model head, and there are
            no others.
        parts: of another model (`Tuned.parts`), to use in the place of new ones: a bank of adapters is then there once.

    Raises:
        UsageError: the expression cannot be read, adapts nothing on this backbone, or is larger than fits it; the backbone
            is none, carries another method that is not merged, cannot write or has no pooler.
    """

    def __init__(
        self,
        backbone: nn.Module,
        method: str | Expression,
        tasks: Iterable[Task],
        *,
        pooling: str = "mean",
        dropout: float = 0.1,
        form: str = "heads",
        parts: Mapping[str, Part] | None = None,
    ):
        super().__init__()
        if pooling not in ("mean", "cls"):
            raise UsageError(f"pooling {pooling!r} is unknown: expected 'mean' or 'cls'")
        if form not in ("heads", "text"):
            raise UsageError(f"form {form!r} is unknown: expected 'heads' or 'text'")
        if form == "text" and not hasattr(backbone, "lm_head"):
            raise UsageError(
                f"form 'text' needs a backbone that writes, and {type(backbone).__name__} has no "
                "language-model head: load it with peftlib.backbones.load(name, form='text')"
            )
        self.anatomy = Anatomy(backbone)
        if pooling == "cls" and not self.anatomy.shape.decoder_layers and getattr(backbone, "pooler", None) is None:
            raise UsageError(f"pooling 'cls' reads a pooler, which this {type(backbone).__name__} has not: expected 'mean'")
        if carries_a_method(backbone):
            raise UsageError(
                f"this {type(backbone).__name__} carries another method already, which would go on acting: "
                "load the backbone anew, or merge() the model that it is part of"
            )
        self.backbone: PreTrainedModel = backbone.requires_grad_(False)  # type: ignore[assignment]  # or no `Anatomy`
        self.method = parse(method)
        tasks = tuple(tasks)
        self.task_table = {task.name: task for task in tasks}
        self.tasks = tuple(self.task_table)
        if not self.tasks:
            raise UsageError("a model needs at least one task")
        if len(tasks) > len(self.tasks):
            raise UsageError(
                f"tasks {', '.join(task.name for task in tasks)}: one is there twice; each has one name of its own"
            )
        if taken := [name for name in self.tasks if hasattr(nn.ModuleDict(), name)]:
            raise UsageError(f"task {taken[0]!r}: PyTorch's modules have something of that name; call the task otherwise")
        self.pooling, self.form, self.current = pooling, form, Current(self.tasks[0])
        self.shared, self.fixed = nn.ModuleDict(), nn.ModuleDict()
        self.parts: dict[str, Part] = dict(parts or {})  # what lies in `fixed`
        self.one_head = False  # for all tasks?
        self._merged = False
        # Now, before a weight is trained or rounded; None for a backbone of shapes alone.
        self.weights_digest = None if any(p.is_meta for p in backbone.parameters()) else weights_digest(backbone)
        self.attachments: list[tuple] = []
        used: dict[str, int] = {}
        for leaf, task, layers in self.method.leaves(self.tasks):
            name = type(leaf).__name__.lower()
            if task in (None, self.tasks[0]):
                used[name] = used.get(name, 0) + 1
            slot = name if used[name] == 1 else f"{name}_{used[name]}"
            self.attachments.append((leaf, Attachment(self, slot, task, layers)))
        for leaf, at in self.attachments:
            if leaf.needs_decoder and not at.shape.decoder_layers:
                raise UsageError(
                    f"{leaf} needs a decoder, and this {backbone.config.model_type} backbone has only an encoder: "  # type: ignore[union-attr]  # a backbone
                    "use an encoder-decoder such as T5"
                )
            if leaf.has_formula:
                affordable(leaf, leaf.formula(at.shape), at.shape)
            leaf.attach(at)
        self.parts = {key: part for key, part in self.parts.items() if key in self.fixed}
        self._check_readers()
        self.current.follow(backbone)
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict(self._heads() if form == "heads" else {})
        self._check_task_names()

    def _check_task_names(self) -> None:
        """What is a task's own is known by the task's name among the parts of a tensor's (`peftlib.deltas.parts_of`)."""
        others = {at.slot for _, at in self.attachments}
        for module in self.modules():
            names = module._modules.keys() | module._parameters.keys() | module._buffers.keys()
            if module in (self.shared, self.fixed):  # slot, task if it has one, and name (`Attachment.share`)
                others |= {name.rpartition("__")[2] for name in names}
            elif type(module) is not nn.ModuleDict or not names <= self.task_table.keys():
                others |= names
        if taken := [name for name in self.tasks if name in others]:
            raise UsageError(f"task {taken[0]!r}: a part of this model is called so; call the task otherwise")

    def _heads(self) -> dict[str, nn.Module]:
        """A head for each task, or one for all: trained, or given and frozen."""
        if not self.one_head:
            return {name: self._head(task) for name, task in self.task_table.items()}
        first, *others = self.task_table.values()
        for task in others:
            if (task.kind, task.labels, task.low, task.high) != (first.kind, first.labels, first.low, first.high):
                raise UsageError(f"tasks {first.name!r} and {task.name!r} cannot have one head: they have other labels")
        given = [module for key, module in self.fixed.items() if key.endswith(f"__{HEAD}")]
        head = given[0] if given else self._head(first)
        expected, found = (first.outputs, self.anatomy.shape.width), tuple(head.weight.shape)  # type: ignore[arg-type]  # of an nn.Linear
        if found != expected:
            raise UsageError(f"the head that is given is {found}, and task {first.name!r} needs one of {expected} here")
        return dict.fromkeys(self.tasks, head)

    def _head(self, task: Task) -> nn.Linear:
        head = nn.Linear(self.anatomy.shape.width, task.outputs)
        if task.kind == "score":  # start in the middle of the scale: the mean is not what should be learnt
            nn.init.constant_(head.bias, (task.low + task.high) / 2)
        return head

    def require_training(self) -> None:
        """Refuse a model of which nothing would be trained.

        Raises:
            UsageError: a head alone in form "text", or one that is frozen.
        """
        if not any(p.requires_grad for p in self.parameters()):
            if self.form == "heads":
                raise UsageError(f"{self.method} trains nothing, for its head is frozen: add a method")
            raise UsageError(
                f"{self.method} trains nothing in form 'text', which has no heads; add OutputLayer() to train "
                "the language-model head"
            )

    def _readers(self, task: str | None) -> list[tuple[Method, Attachment]]:
        """The methods that read a task's states in the place of the backbone's last."""
        return [(leaf, at) for leaf, at in self.attachments if leaf.reads_states and at.task in (None, task)]

    def _check_readers(self) -> None:
        readers = [leaf for leaf, _ in self._readers(self.tasks[0])]
        if len(readers) > 1:
            raise UsageError(f"{self.method}: {readers[0]} and {readers[1]} both say what the heads read: keep one of them")
        if readers and self.form == "text":
            raise UsageError(f"{readers[0]} gives linear heads what they read, and form 'text' has none: use form 'heads'")

    # --- running --------------------------------------------------------------------------------------------------
    def features(self, inputs: dict[str, Tensor]) -> Tensor:
        """The representation that the heads read: (batch, width)."""
        self.current.mask = mask = inputs["attention_mask"]
        readers = self._readers(self.current.task)
        asked = {"output_hidden_states": True} if readers else {}
        if self.anatomy.shape.decoder_layers:
            config = self.backbone.config
            start = torch.full((mask.shape[0], 1), config.decoder_start_token_id or 0, device=mask.device)
            out = self.backbone(**inputs, decoder_input_ids=start, use_cache=False, **asked)
            for leaf, at in readers:
                states = {"encoder": out.encoder_hidden_states, "decoder": out.decoder_hidden_states}
                return leaf.readout(at, states, mask)[:, 0]
            return out.last_hidden_state[:, 0]
        out = self.backbone(**inputs, **asked)
        last = out.last_hidden_state
        for leaf, at in readers:
            last = leaf.readout(at, {"encoder": out.hidden_states}, mask)
        hidden = last[:, -mask.shape[1] :]  # the text's own positions, behind those of soft prompts
        if self.pooling == "cls":
            other = readers or hidden.shape != last.shape  # then the model's pooler has read something else
            return self.backbone.pooler(hidden) if other else out.pooler_output  # type: ignore[operator]  # a BERT
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)

    def head(self, task: str, features: Tensor) -> Tensor:
        """Outputs of a task's head: (batch, outputs)."""
        return self.heads[task](self.dropout(features))

    def forward(self, task: str, inputs: dict[str, Tensor], passes: int = 1) -> Tensor:
        """Outputs for a task: logits (batch, classes), one logit, or one score, (batch, 1); in form "text" those of the
        answer's tokens, (batch, answer, vocabulary), each given the tokens before it.

        inputs: ``input_ids`` and ``attention_mask`` (batch, length), ``token_type_ids`` where the backbone has them, and
            ``answers`` (batch, answer) in form "text", -100 after an answer's end.
        passes: more than one are stacked in front; in one call, for several processes average gradients by calls.
        """
        if passes > 1:
            return torch.stack([self(task, inputs) for _ in range(passes)])
        self.current.task = task
        if self.form == "heads":
            return self.head(task, self.features(inputs))
        self.current.mask = inputs["attention_mask"]
        answers = self.backbone.prepare_decoder_input_ids_from_labels(inputs["answers"])  # type: ignore[operator]  # a T5 that writes
        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return self.backbone(**given, decoder_input_ids=answers, use_cache=False).logits

    @torch.no_grad()
    def write(self, task: str, inputs: dict[str, Tensor], length: int) -> Tensor:
        """The likeliest answer, token by token: ids (batch, up to length + 1), a start token first."""
        self.current.task, self.current.mask = task, inputs["attention_mask"]
        given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return self.backbone.generate(**given, max_new_tokens=length, do_sample=False, num_beams=1)  # type: ignore[operator]  # as above

    def loss(self, task: str, outputs: Tensor, labels: Tensor) -> Tensor:
        """AdaptBert, section 4: cross entropy over classes, binary cross entropy on one logit, mean squared error. In form
        "text" cross entropy over the answers' tokens, which are then the labels (batch, answer)."""
        kind, outputs = self.task_table[task].kind, outputs.float()
        if self.form == "text":
            return F.cross_entropy(outputs.flatten(0, 1), labels.flatten())
        if kind == "classes":
            return F.cross_entropy(outputs, labels)
        if kind == "binary":
            return F.binary_cross_entropy_with_logits(outputs[:, 0], labels.float())
        return F.mse_loss(outputs[:, 0], labels.float())

    def predict(self, task: str, outputs: Tensor) -> Tensor:
        """Class ids, or scores, from a head's outputs: (batch,)."""
        kind = self.task_table[task].kind
        if kind == "classes":
            return outputs.argmax(-1)
        return (outputs[:, 0] > 0).long() if kind == "binary" else outputs[:, 0].float()

    # --- the life of the method -----------------------------------------------------------------------------------
    def begin(self, given: Sequence[dict[str, Tensor]]) -> None:
        """Begin from the deltas of other runs, in their order (`peftlib.deltas.for_start`); from none, where there is none.

        Raises:
            UsageError: a method cannot begin from them, or begins from nothing else.
        """
        for leaf, at in self.attachments if given else ():
            leaf.begin(at, given)
            at.begun = True

    def prepare(self, batches: Iterable[tuple[str, dict[str, Tensor]]]) -> None:
        """Raises:
        UsageError: a method has not begun from what it cannot do without.
        """
        for leaf, at in self.attachments:
            if leaf.begins_from and not at.begun:
                raise UsageError(
                    f"{leaf} begins from {leaf.begins_from}, and no start is given: name that run in `start` "
                    "(peftlib.records.Run), or pass its delta"
                )
            leaf.prepare(at, batches)

    def assume(self) -> None:
        """`prepare` without data, on a model of shapes: what it looks for is anywhere."""
        for leaf, at in self.attachments:
            leaf.assume(at)

    def step(
        self,
        task: str,
        inputs: dict[str, Tensor],
        labels: Tensor,
        index: int = 0,
        total: int = 1,
        forward: Callable[..., Tensor] | None = None,
    ) -> Step:
        """A batch of training, run through the model as often as its methods ask for. forward: in the place of the model's
        own, which something has wrapped."""
        passes = max(leaf.passes for leaf, at in self.attachments if at.task in (None, task))
        outputs = (forward or self)(task, inputs, passes)
        return Step(task, inputs, labels, tuple(outputs) if passes > 1 else (outputs,), index, total)

    def penalty(self, step: Step) -> Tensor | None:
        terms = [t for leaf, at in self.attachments if (t := leaf.penalty(at, step)) is not None]
        return torch.stack(terms).sum() if terms else None

    def objective(self, step: Step) -> tuple[Tensor, Tensor]:
        """What is minimised, the loss with the methods' penalties; and the loss alone."""
        loss, penalty = self.loss(step.task, step.outputs, step.labels), self.penalty(step)
        return loss if penalty is None else loss + penalty, loss

    def after_step(self, step: int, total: int) -> None:
        for leaf, at in self.attachments:
            leaf.after_step(at, step, total)

    def ready(self, step: int, total: int) -> bool:
        """May training stop after this step (0-based, of `total`), with all that the methods promise?"""
        return all(leaf.ready(step, total) for leaf, _ in self.attachments)

    def finish(self) -> None:
        for leaf, at in self.attachments:
            leaf.finish(at)

    def merge(self) -> Tuned:
        """Fold the method into the backbone: same outputs, no overhead. All of it, or, where it is refused, nothing.
        Merging twice changes nothing more.

        Raises:
            UsageError: the method is no fixed change of weights, or the weights' type is too narrow for the change.
        """
        if self._merged:
            return self
        self._without_numbers()._fold()  # a rehearsal: what is refused is refused here
        changes = any(at.edits or at.shared for _, at in self.attachments)
        narrow = {p.dtype for p in self.backbone.parameters() if p.is_floating_point() and p.element_size() < 4}
        if changes and narrow:
            raise UsageError(
                f"{self.method} cannot be merged into weights kept in {', '.join(map(str, narrow))}, which "
                "would round the change away: call model.float() first"
            )
        return self._fold()

    def _fold(self) -> Tuned:
        for leaf, at in self.attachments:
            leaf.merge(at)
        self.current.leave()
        self._merged = True
        return self

    def _without_numbers(self) -> Tuned:
        """A copy whose tensors are on the ``meta`` device."""
        shapes = {id(b): b.to("meta") for b in self.buffers()}
        shapes |= {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in self.parameters()}
        return copy.deepcopy(self, shapes)

    @property
    def merged(self) -> bool:
        """Has the method been folded into the backbone? Then the weights hold it, and there is no delta beside them."""
        return self._merged

    def optimizer(self, lr: float, weight_decay: float) -> torch.optim.Optimizer:
        """AdamW, or the method's own. Vectors (biases, norms) and heads' biases are not decayed."""
        named = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for _, p in named if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [g for g in groups if g["params"]]
        own = [o for leaf, _ in self.attachments if (o := leaf.optimizer(groups, lr)) is not None]
        if len(own) > 1:
            raise UsageError(f"{self.method} asks for {len(own)} optimizers: combine methods with at most one")
        # Fused: one pass over each tensor, which is most of a step's cost when everything is trained.
        return own[0] if own else torch.optim.AdamW(groups, lr=lr, fused=True)

    @property
    def encoder_is_frozen(self) -> bool:
        """True when only heads are trained: the backbone's outputs never change and can be computed once. Not beside a
        penalty, which may ask for what was given to the backbone, or for another pass."""
        touched = any(at.edits or at.trained or at.shared or leaf.has_penalty for leaf, at in self.attachments)
        return self.form == "heads" and not touched and not any(p.requires_grad for p in self.backbone.parameters())

    def store_frozen(self, dtype: torch.dtype) -> Tuned:
        """Keep frozen weights in `dtype`, so that mixed precision does not cast them again at every step."""
        norms = [list(getattr(site.module, "base", site.module).parameters()) for site in self.anatomy.norms]
        # What was trained and is no more, beside something that still is, stays as it was learnt.
        training = any(p.requires_grad for p in self.parameters())
        ever = self._once_trained() if training else set()
        # A norm takes its weight and bias in one type: one that is trained in part stays as it is.
        kept = ever | {id(p) for own in norms if any(p.requires_grad or id(p) in ever for p in own) for p in own}
        for p in (*self.backbone.parameters(), *self.fixed.parameters()):
            if not p.requires_grad and p.is_floating_point() and id(p) not in kept:
                p.data = p.data.to(dtype)
        return self

    def counts(self) -> Counts:
        """Trainable, stored and changed parameters, without the heads. What several methods train or change counts once."""
        leaves, not_kept = self.attachments, {id(p) for p in self.fixed.parameters()}
        tensors = [p for _, at in leaves for p in at.tensors()]
        again = sum(p.numel() for p in tensors) - sum({id(p): p.numel() for p in tensors}.values())
        changed: dict[Hashable, int] = {}
        for leaf, at in leaves:
            for key, numbers in leaf.changed(at).items():
                changed[key] = max(numbers, changed.get(key, 0))
        return Counts(
            trainable=sum(leaf.trainable(at) for leaf, at in leaves) - again,
            stored=sum(leaf.stored(at) for leaf, at in leaves) - again,
            changed=sum(changed.values()),
            heads=sum(p.numel() for p in self.heads.parameters() if id(p) not in not_kept),
            total=self.anatomy.shape.total,
        )

    def delta(self) -> dict[str, Tensor]:
        """What must be kept beside the backbone: every trained or added tensor, heads included, by name."""
        return {name: tensor.detach() for name, tensor in self.kept().items()}

    def _once_trained(self) -> set[int]:
        """Ids of the backbone's tensors that a method has marked, also of those that are trained no more."""
        return {id(p) for _, at in self.attachments for p in at.trained}

    def kept(self) -> dict[str, Tensor]:
        """The tensors of `delta` themselves."""
        base = {n for n, p in self.backbone.named_parameters(prefix="backbone") if not p.requires_grad}
        added = self._once_trained() | {
            id(t)
            for _, at in self.attachments
            for m in [e for _, e in at.edits] + at.shared
            for t in m.state_dict(keep_vars=True).values()
        }
        state = self.state_dict(keep_vars=True)
        first = {id(t): n for n, t in reversed(state.items())}  # tied tensors are kept once
        return {
            n: t
            for n, t in state.items()
            if first[id(t)] == n and (t.requires_grad or id(t) in added or not (n in base or n.startswith(LEFT_OUT)))
        }
