"""The life of a method, and the expressions that combine methods.

A method is a frozen dataclass whose fields are the paper's hyperparameters. `attach` is all that most methods need; the
other steps default to nothing. Methods compose with ``+``, ``PerTask(m)`` gives every task its own copy of ``m``, and
``Layers(m, stop=4)`` keeps ``m`` to some blocks. `Sum`, `PerTask` and `Layers` exist only in the expression: the model is
built from the leaves under them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from peftlib import edits, expressions, parametrized
from peftlib.anatomy import Anatomy, Shape, Site
from peftlib.backbones import weights_digest
from peftlib.edits import Edit, Replaced, Seen, Switch
from peftlib.errors import UsageError, short
from peftlib.expressions import METHODS

if TYPE_CHECKING:
    from typing import Any, Protocol

    from peftlib.model import Tuned

    class Ranked(Protocol):
        """A method that has a rank."""

        @property
        def rank(self) -> int: ...


E = TypeVar("E", bound=Edit)
M = TypeVar("M", bound=nn.Module)
HEAD = "head"  # what a part that is a head is called
LARGEST = 10  # times a backbone's parameters: what any sensible method has many times over


class Part(NamedTuple):
    """A frozen part of a model that no delta holds. digest: of its numbers as they were made, None for shapes alone. make:
    gives it again."""

    module: nn.Module
    digest: str | None
    make: Callable[[], Part]

    @classmethod
    def made(cls, make: Callable[[], nn.Module], seed: int | None) -> Part:
        """What `make` gives, drawn on the CPU from a seed alone if there is one: the same whatever was drawn before, and
        what is drawn after it is the same, too."""
        with torch.random.fork_rng(devices=[]):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            module = make().requires_grad_(False)
        shapes = any(p.is_meta for p in module.parameters())
        return cls(module, None if shapes else weights_digest(module), lambda: cls.made(make, seed))


@dataclass(frozen=True)
class Step:
    """A batch of a training step, and what the model said of it.

    inputs, labels: of this batch of a task, as `Tuned.forward` and `Tuned.loss` take them. passed: outputs of each forward
    pass. index: of the optimizer's step that the batch is part of, 0-based, of `total`.
    """

    task: str
    inputs: dict[str, Tensor]
    labels: Tensor
    passed: tuple[Tensor, ...]
    index: int = 0
    total: int = 1

    @property
    def outputs(self) -> Tensor:
        """Those that the loss is computed from."""
        return self.passed[0]

    def again(self) -> Tensor:
        """Outputs of a second forward pass, with dropout and draws of its own.

        Raises:
            UsageError: no method of the model has ``passes = 2``.
        """
        if len(self.passed) < 2:
            raise UsageError(f"no second forward pass was made for task {self.task!r}: the method needs passes = 2")
        return self.passed[1]


class Attachment:
    """What one method may do to a model, and the memory of what it did.

    Attributes:
        model, anatomy, shape, tasks, current: the model being edited and views of it; anatomy and shape are those of the
            blocks that the method is limited to, if it is.
        slot: this method's name inside the model, unique in the expression.
        task: the task this copy belongs to, or None when it is shared by all.
        edits: (site, edit) in the order they were made.
        begun: has it begun from other runs?
    """

    def __init__(self, model: Tuned, slot: str, task: str | None, layers: Layers | None = None):
        self.model, self.slot, self.task = model, slot, task
        self.anatomy: Anatomy = model.anatomy if layers is None else model.anatomy.only(*layers.blocks)
        self.shape: Shape = self.anatomy.shape
        self.tasks, self.current = model.tasks, model.current
        self.edits: list[tuple[Site, Any]] = []  # of the class that the method has put there, as it knows
        self.trained: list[nn.Parameter] = []
        self.shared: list[nn.Module] = []
        self.begun = False

    def edit(self, site: Site, edit: E) -> E:
        """Put an edit on a site (for this copy's task only, if it has one)."""
        if self.task is None:
            edits.add(site, self.slot, edit)
        else:
            switch: Switch | None = edits.get(site, self.slot)  # type: ignore[assignment]  # of copies
            if switch is None:
                edits.add(site, self.slot, switch := Switch(self.current))
            switch.by_task[self.task] = edit
        self.edits.append((site, edit))
        return edit

    def read(self, site: Site) -> Ref:
        """What a site is given, for an edit of this method further on in the same block: ``.module.take()``, once a pass.

        An adapter beside a sublayer is an edit of its last site that takes what its first was given.
        """
        name = f"{self.slot}_reads"
        seen = edits.get(site, name)  # copies for other tasks, of which one acts, take it too
        if seen is None:
            edits.add(site, name, seen := Seen())
        return Ref(seen)

    def replace(self, site: Site, module: nn.Module) -> None:
        """Put a module that computes the same from other storage in the place of a site's own, under the edits there."""
        held = site.module
        if isinstance(held, edits.Edited):
            held.base = module
        else:
            site.replace(module)

    def give_back(self, site: Site) -> None:
        """Give a site that was replaced its linear layer back, in full precision."""
        held = site.module
        layer = held.base if isinstance(held, edits.Edited) else held
        if isinstance(layer, Replaced):
            self.replace(site, layer.restored())

    def prepend(self, edit: E) -> E:
        """Put an edit whose `ahead` gives vectors before the encoder's embedded tokens, of several the last first."""
        (site,) = self.anatomy.at("embeddings.words", stack="encoder")
        edits.make_room(self.anatomy)
        return self.edit(site, edit)

    def train(self, parameters: Iterable[nn.Parameter | None]) -> None:
        """Mark tensors of the backbone itself as trained. None entries (a layer without bias) are passed over.

        Raises:
            UsageError: under `PerTask`, for a backbone's own tensor exists only once; a tensor that a method computes.
        """
        if self.task is not None:
            raise UsageError(f"{self.slot} trains the backbone's own tensors, which tasks share: take it out of PerTask")
        marked = {id(p) for p in self.trained}
        for p in parameters:
            if p is not None and not p.is_leaf:
                raise UsageError(
                    f"{self.slot} trains tensors that a method written before it computes from its own "
                    f"numbers: write {self.slot} first"
                )
            if p is not None and id(p) not in marked:
                marked.add(id(p))
                self.trained.append(p.requires_grad_(True))  # type: ignore[arg-type]  # itself

    def share(
        self, name: str, make: M | Callable[[], M], kept: bool = True, once: bool = False, seed: int | None = None
    ) -> M:
        """Register a module that several edits use (a hypernetwork, a bank of adapters); edits hold it through `Ref`.

        make: the module, or, as for one that is not kept, what gives it.
        kept: False: frozen, in no delta and in no copy of a best epoch; its digest is in the delta, and checked.
        once: one for all copies under `PerTask`.
        seed: what `make` draws from, if it is not kept; None for numbers that are not drawn.
        """
        key = "__".join(part for part in (self.slot, None if once else self.task, name) if part)
        there: nn.ModuleDict = self.model.shared if kept else self.model.fixed
        if key not in there and kept:
            there[key] = make if isinstance(make, nn.Module) else make()
        elif key not in there:
            if key not in self.model.parts:
                self.model.parts[key] = Part.made(make, seed)
            there[key] = self.model.parts[key].module
        module: M = there[key]  # type: ignore[assignment]  # as `make` gave it
        if kept:
            self.shared.append(module)
        return module

    def part(self, name: str) -> nn.Module:
        """What `share` has registered for all copies, frozen and not kept."""
        return self.model.fixed[f"{self.slot}__{name}"]

    def part_is_remade(self, name: str) -> None:
        """Such a part holds other numbers now than it was made with, and has another digest."""
        key = f"{self.slot}__{name}"
        self.model.parts[key] = self.model.parts[key]._replace(digest=weights_digest(self.model.fixed[key]))

    def kept(self) -> dict[str, Tensor]:
        """The tensors of this method, trained or not, by their names in the model's delta."""
        own = {id(t) for m in [e for _, e in self.edits] + self.shared for t in m.state_dict(keep_vars=True).values()}
        own |= {id(p) for p in self.trained}
        return {name: tensor for name, tensor in self.model.kept().items() if id(tensor) in own}

    def head(self, make: Callable[[], nn.Linear] | None = None) -> None:
        """Let one head read for all tasks. make: gives one that is frozen and not kept, see `share`; else it is trained.

        Raises:
            UsageError: there are no heads, or another method has said so already.
        """
        if self.model.form != "heads":
            raise UsageError(f"{self.slot} gives all tasks one head, and form {self.model.form!r} has none: use 'heads'")
        if self.model.one_head:
            raise UsageError(f"{self.slot} gives all tasks one head, which another method does already: write one of them")
        self.model.one_head = True
        if make is not None:
            self.share(HEAD, make, kept=False, once=True)

    @torch.no_grad()
    def take_heads(self, given: dict[str, Tensor]) -> None:
        """Begin with the heads that a delta has."""
        for name, p in self.model.heads.named_parameters(prefix="heads"):
            if name in given:
                p.copy_(given[name])

    def tensors(self) -> list[nn.Parameter]:
        """Trainable parameters of this method, each once."""
        modules = [edit for _, edit in self.edits] + self.shared
        own = [*(p for m in modules for p in m.parameters()), *self.trained]
        return list({id(p): p for p in own if p.requires_grad}.values())


class Ref:
    """Holds a module without owning it, so that its tensors appear once in a state dict."""

    def __init__(self, module: nn.Module):
        self.module: Any = module  # of the class that the holder has given, as it knows


class Leaf(NamedTuple):
    """A method of an expression. task: whose copy it is, None for one shared by all. layers: what limits it, if it is."""

    method: Method
    task: str | None = None
    layers: Layers | None = None

    def formula(self, shape: Shape) -> int:
        """`Method.formula` on the blocks of a backbone that it is limited to."""
        return self.method.formula(shape if self.layers is None else shape.only(*self.layers.blocks))


class Expression:
    """A method, or methods combined."""

    def leaves(self, tasks: tuple[str, ...]) -> Iterator[Leaf]:
        """Its methods, one for every task where tasks have copies."""
        raise UsageError(f"{type(self).__name__} is no method")

    def __add__(self, other: Expression) -> Sum:
        return Sum((self, other))


@dataclass(frozen=True)
class Method(Expression):
    """Base of all methods. Subclasses are frozen dataclasses, registered under their class name.

    Class attributes:
        title, family, paper: what the tables call it, its branch of the survey's taxonomy, its key in the bibliography.
        mergeable: can it be folded into the backbone with the same outputs?
        near_identity: bound on the relative change of the backbone's output at the start (0 = exact), None = unbounded.
        by_layer: is it a change of blocks, so that `Layers` can limit it to some?
        needs_decoder: has it no place in an encoder alone?
        begins_from: what run it cannot do without, see `begin`; empty: it begins by itself.
        about: what else is said of the method, by the names of `peftlib.catalogue.About`; read from the source, and no part
            of what a run rests on.
    """

    if TYPE_CHECKING:
        about: ClassVar[dict[str, object]]

    title: ClassVar[str] = ""
    family: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    mergeable: ClassVar[bool] = False
    near_identity: ClassVar[float | None] = 0.0
    by_layer: ClassVar[bool] = True
    needs_decoder: ClassVar[bool] = False
    begins_from: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__ in expressions.WRAPPERS:
            raise UsageError(f"a method cannot be called {cls.__name__}, which expressions have a meaning for: rename it")
        METHODS[cls.__name__] = cls

    def __post_init__(self) -> None:
        """Hyperparameters become Python's own numbers and text, whoever made the method, and are checked.

        Raises:
            UsageError: one of the wrong type, or impossible.
        """
        for field in dataclasses.fields(self):
            value = expressions.checked(type(self).__name__, field, _plain(getattr(self, field.name)))
            object.__setattr__(self, field.name, value)
        self.check()

    def check(self) -> None:
        """Refuse hyperparameters that are impossible on any backbone, see `require`."""

    def leaves(self, tasks: tuple[str, ...]) -> Iterator[Leaf]:
        yield Leaf(self)

    def __str__(self) -> str:
        """The shortest expression that parses back to this method: fields at their defaults are left out."""
        given = [
            f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    # --- the life of a method -------------------------------------------------------------------------------------
    def attach(self, at: Attachment) -> None:
        """Edit sites, add modules, mark what is trained."""

    def begin(self, at: Attachment, given: Sequence[dict[str, Tensor]]) -> None:
        """Before `prepare`, where a run begins from others: their deltas, in their order. Unless a method says otherwise,
        it goes on from one: see `go_on`."""
        go_on(self, at, given)

    def prepare(self, at: Attachment, batches: Iterable[tuple[str, dict[str, Tensor]]]) -> None:
        """A first phase that looks at data: batches of (task, inputs with "labels")."""

    def assume(self, at: Attachment) -> None:
        """Put in place what `prepare` would, whatever the entries: on a model of shapes, which has no data to look at."""

    def readout(self, at: Attachment, states: dict[str, tuple[Tensor, ...]], mask: Tensor) -> Tensor:
        """In the place of the last states of the stack that heads read, from those of all layers, the embeddings first:
        (batch, length, d) each, by stack. mask: (batch, text). For one method at most of those that a task has.
        """
        raise UsageError(f"{type(self).__name__} reads no states")

    def penalty(self, at: Attachment, step: Step) -> Tensor | None:
        """A term added to the loss of every batch."""

    def after_step(self, at: Attachment, step: int, total: int) -> None:
        """Called after the optimizer's step (0-based, of `total`), while the gradients are still there."""

    def ready(self, step: int, total: int) -> bool:
        """Is the model what the method promises of a finished one, after this step (0-based, of `total`)? Until it is, no
        epoch can be the best one. True at the last step at latest."""
        return True

    def optimizer(self, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer | None:
        """An optimizer of the method's own over parameter groups (with their weight_decay); None for AdamW."""

    def finish(self, at: Attachment) -> None:
        """After training: drop what only training needed. Outputs stay the same."""

    def merge(self, at: Attachment) -> None:
        """Fold into the backbone's weights: same outputs, no overhead."""
        if not self.mergeable:
            raise UsageError(f"{self} cannot be merged into the backbone: it is no fixed change of its weights")
        if at.task is not None:
            raise UsageError(f"PerTask({self}) cannot be merged: the tasks would need different weights")
        for site, edit in at.edits:
            wrapper: edits.Edited = site.module  # type: ignore[assignment]  # since `edit`
            first = next(iter(wrapper.edits))
            if first != at.slot:
                raise UsageError(f"{self} comes after {first!r} on {site.name!r}: merge that first or write it later")
            at.give_back(site)
            if not edit.merge(wrapper.base):
                raise UsageError(f"{self} cannot be folded into {type(wrapper.base).__name__} at {site.name!r}")
            edits.remove(site, at.slot)
        at.edits = []

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        """Before a delta is loaded: make room for tensors whose shapes only training decides."""

    @property
    def whole_start(self) -> bool:
        """Has it use for all of the deltas that `begin` is given, also for what belongs to tasks that the run has not?"""
        return False

    # --- counts ---------------------------------------------------------------------------------------------------
    @property
    def reads_states(self) -> bool:
        """Has it a `readout`?"""
        return type(self).readout is not Method.readout

    @property
    def passes(self) -> int:
        """Forward passes over each batch of training; 2 for a `penalty` that calls ``step.again()``."""
        return 1

    @property
    def has_penalty(self) -> bool:
        """Has it a `penalty`?"""
        return type(self).penalty is not Method.penalty

    @property
    def has_formula(self) -> bool:
        """Is there a closed form?"""
        return type(self).formula is not Method.formula

    def formula(self, shape: Shape) -> int:
        """Closed form of the trainable parameters (one copy, heads excluded), from the backbone's sizes."""
        raise UsageError(f"{type(self).__name__} has no closed form")

    def trainable(self, at: Attachment) -> int:
        """Parameters that receive gradients."""
        return sum(p.numel() for p in at.tensors())

    def stored(self, at: Attachment) -> int:
        """Numbers to keep beside the backbone once training has finished."""
        return self.trainable(at)

    def changed(self, at: Attachment) -> dict[Hashable, int]:
        """Parameters that differ from the pretrained model's (survey, section 12), by tensor: whole weights where an edit
        folds into them, the added tensors where it does not."""
        edit: Edit
        tensors: list[Tensor] = list(at.trained)
        for site, edit in at.edits:
            base = getattr(site.module, "base", site.module)
            tensors += [t for n in edit.changes if (t := parametrized.original(base, n)) is not None]
            tensors += [] if edit.changes else edit.parameters()
        folded_in = any(edit.changes for _, edit in at.edits)
        tensors += [] if folded_in else [p for m in at.shared for p in m.parameters()]
        return {id(t): t.numel() for t in tensors}


@dataclass(frozen=True)
class Sum(Expression):
    """Several methods on one model, applied in the order they are written."""

    terms: tuple[Expression, ...]

    def __post_init__(self) -> None:
        flat = [t for term in self.terms for t in (term.terms if isinstance(term, Sum) else (term,))]
        object.__setattr__(self, "terms", tuple(map(_method, flat)))

    def leaves(self, tasks: tuple[str, ...]) -> Iterator[Leaf]:
        for term in self.terms:
            yield from term.leaves(tasks)

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))


@dataclass(frozen=True)
class PerTask(Expression):
    """A method of which every task has its own copy."""

    method: Expression

    def __post_init__(self) -> None:
        _method(self.method)

    def leaves(self, tasks: tuple[str, ...]) -> Iterator[Leaf]:
        for leaf in self.method.leaves(tasks):
            if leaf.task is not None:
                expressions.refuse_inside("PerTask", ["PerTask"], str(self))
            for name in tasks:
                yield leaf._replace(task=name)

    def __str__(self) -> str:
        return f"PerTask({self.method})"


@dataclass(frozen=True)
class Layers(Expression):
    """A method in some blocks of a backbone only: it finds no sites but theirs.

    start, stop: the first block, counted from 0, and the one after the last; None is the end. stack: "encoder" or
    "decoder"; None: these blocks of each. Norms outside the blocks and a language-model head are left out.
    """

    method: Expression
    start: int = 0
    stop: int | None = None
    stack: str | None = None

    def __post_init__(self) -> None:
        """Raises:
        UsageError: blocks that no stack has; a method that acts on the whole backbone, or is limited already.
        """
        _method(self.method)
        for field in expressions.WRAPPERS["Layers"]:
            value = expressions.checked("Layers", field, _plain(getattr(self, field.name)))
            object.__setattr__(self, field.name, value)
        checks = {
            "start": self.start >= 0,
            "stop": self.stop is None or self.stop > self.start,
            "stack": self.stack in (None, "encoder", "decoder"),
        }
        for name, holds in checks.items():
            if not holds:
                raise UsageError(
                    f"Layers({name}={short(getattr(self, name))}) is impossible: expected start from 0, stop above start "
                    "or None, and stack 'encoder', 'decoder' or None"
                )
        for leaf in self.method.leaves(("task",)):
            expressions.refuse_inside("PerTask" if leaf.task else "Layers", ["Layers"] * any(leaf[1:]), str(self))
            if not leaf.method.by_layer:
                raise UsageError(f"{leaf.method} acts on the whole backbone, not block by block: take it out of Layers")

    @property
    def blocks(self) -> tuple[int, int | None, str | None]:
        """What `Anatomy.only` takes."""
        return self.start, self.stop, self.stack

    def leaves(self, tasks: tuple[str, ...]) -> Iterator[Leaf]:
        for leaf in self.method.leaves(tasks):
            yield leaf._replace(layers=self)

    def __str__(self) -> str:
        given = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in expressions.WRAPPERS["Layers"]
            if getattr(self, f.name) != f.default
        ]
        return f"Layers({', '.join([str(self.method), *given])})"


def _method(given: Expression) -> Expression:
    if not isinstance(given, Expression):
        raise UsageError(f"{short(given)} is no method: expected one such as LoRA(rank=8), or parse('LoRA(rank=8)')")
    return given


@torch.no_grad()
def go_on(method: Method, at: Attachment, given: Sequence[dict[str, Tensor]]) -> None:
    """Copy the method's tensors from a delta that has them all, and no tensors of another method; and the heads it has.

    Raises:
        UsageError: several deltas; a tensor that only one of the two has, or in another shape. Names it.
    """
    if len(given) != 1:
        raise UsageError(f"{method} goes on from one run, and its start names {len(given)}")
    ours, theirs, all_ours = at.kept(), given[0], at.model.kept()
    for name in sorted(ours.keys() | (theirs.keys() - all_ours.keys())):
        here, there = (f"{tuple(t.shape)}" if t is not None else "none" for t in (ours.get(name), theirs.get(name)))
        if here != there:
            raise UsageError(
                f"{method} cannot go on from its start: {short(name)} is {here} here and {there} there; begin from a run "
                "of the same method and size, and of the same task or with start_task, where tasks have their own"
            )
    for name, tensor in ours.items():
        tensor.copy_(theirs[name])
    at.take_heads(theirs)


def _plain(value: Any) -> Any:
    """Python's own form of a number or a text of numpy's, which could be saved but not read."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def normal(tensor: Tensor, std: float) -> Tensor:
    """Fill a tensor from N(0, std); one without storage stays as it is, for torch takes milliseconds to draw nothing."""
    return tensor if tensor.is_meta else nn.init.normal_(tensor, std=std)


def linear(fan_in: int, fan_out: int, std: float = 0.01) -> nn.Linear:
    """Weights N(0, std), biases 0."""
    made = nn.Linear(fan_in, fan_out)
    normal(made.weight, std)
    nn.init.zeros_(made.bias)
    return made


def require(owner: Method, **checks: bool | str) -> None:
    """Refuse impossible hyperparameters: ``require(self, rank=self.rank > 0)``.

    Raises:
        UsageError: names the field, its value and the method, for the first check that does not hold.
    """
    for name, holds in checks.items():
        if not holds:
            raise UsageError(
                f"{type(owner).__name__}({name}={short(getattr(owner, name))}) is impossible: see "
                f"`peftlib methods {type(owner).__name__}` for what {name} may be"
            )


def affordable(method: Method, numbers: int, shape: Shape) -> None:
    """Refuse sizes out of proportion to a backbone, before memory is asked for them.

    Raises:
        UsageError: `LARGEST` times the backbone's parameters, and more than half a gigabyte.
    """
    most = max(LARGEST * shape.total, 1 << 27)
    if numbers > most:
        raise UsageError(
            f"{method} would need {numbers:,} numbers beside a backbone of {shape.total:,} parameters: "
            f"expected at most {most:,}; choose smaller sizes"
        )


def bounded(method: Ranked, most: int, sizes: str) -> None:
    """Refuse a rank that no matrix of these sizes has.

    Raises:
        UsageError: names the sizes.
    """
    if method.rank > most:
        raise UsageError(f"{method}: {sizes} on this backbone, which leaves room for ranks from 1 to {most}")


def parse(text: str | Expression) -> Expression:
    """Read an expression such as ``LoRA(rank=8) + PerTask(Houlsby(bottleneck=64))``. Nothing is evaluated.

    Raises:
        UsageError: of `peftlib.expressions.parse`; or a hyperparameter that is impossible.
    """
    tree = expressions.parse(str(text) if isinstance(text, Expression) else text)  # what cannot be read must not be saved
    return text if isinstance(text, Expression) else _built(tree)


def _built(tree: expressions.Tree) -> Expression:
    if isinstance(tree, expressions.Sum):
        return Sum(tuple(map(_built, tree.terms)))
    if isinstance(tree, expressions.PerTask):
        return PerTask(_built(tree.method))
    if isinstance(tree, expressions.Layers):
        return Layers(_built(tree.method), **dict(tree.given))
    return METHODS[tree.name](**dict(tree.given))


def method_class(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        UsageError: unknown; names the closest match.
    """
    if name not in METHODS:
        raise UsageError(expressions.unknown(name, METHODS))
    return METHODS[name]
