"""Deltas on disk: only what differs from the backbone, in safetensors, with the method's expression inside.

The size of the file is what the study calls "stored". Heads are included. What a file says of itself is checked before
anything is built from it: on the backbone's outline, which has shapes and no weights, so that a file which is refused has
changed nothing and cost nothing.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import tempfile
import time
import typing
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from peftlib.backbones import weights_digest
from peftlib.data.tasks import TASKS, Task, get_task
from peftlib.errors import PeftlibError, UsageError, short
from peftlib.expressions import LONGEST
from peftlib.methods.base import Part
from peftlib.model import Tuned
from peftlib.tensorfiles import DeltaError, read_tensors, unpacked, write_tensors

if typing.TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FORMAT = "peftlib-delta-2"
FIRST_FORMAT = "peftlib-delta-1"  # says neither which weights it belongs to nor what tasks of a user's own are
# Fields that are read, and their longest values in characters.
LIMITS = {"format": 40, "method": LONGEST, "tasks": 1_000_000, "pooling": 40, "form": 40, "weights": 64, "parts": 10_000}
# Fields of a task that its head and its answers follow from; the others say where its rows are and how they are scored.
OF_A_TASK = ("name", "kind", "texts", "labels", "low", "high")
SCRATCH, ABANDONED = ".peftlib-", 3600.0  # seconds after which a scratch folder belongs to nobody who is alive


@dataclass(frozen=True)
class Header:
    """What a file says of the model whose numbers it holds.

    weights: `peftlib.backbones.weights_digest` of the backbone before it was edited; None where an older file is silent.
    parts: digests of the frozen parts that the model was trained with and the file does not hold, by name.
    """

    method: str
    tasks: tuple[Task, ...]
    pooling: str
    form: str
    weights: str | None
    parts: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Tuned) -> Header:
        """Raises:
        UsageError: the model is merged, or has shapes alone.
        """
        if model.weights_digest is None:
            raise UsageError("a model of shapes alone has no numbers to save: build it on a backbone with weights")
        if model.merged:
            raise UsageError(
                f"{short(str(model.method))} is merged into its backbone, and no delta is left beside it: "
                "save before merging, or write the merged weights with model.backbone.save_pretrained(folder)"
            )
        parts = {key: part.digest for key, part in model.parts.items()}
        tasks = tuple(model.task_table.values())
        return cls(str(model.method), tasks, model.pooling, model.form, model.weights_digest, parts)

    def metadata(self) -> dict[str, str]:
        """Raises:
        DeltaError: a field is too long to be read again.
        """
        fields = {
            "format": FORMAT,
            "method": self.method,
            "tasks": json.dumps([_written(t) for t in self.tasks]),
            "pooling": self.pooling,
            "form": self.form,
            "weights": self.weights,
        }
        return _bounded(fields | ({"parts": json.dumps(self.parts)} if self.parts else {}), "this model")

    @classmethod
    def read(cls, found: dict[str, Any], source: str) -> Header:
        """Raises:
        DeltaError: another format, a field that is missing or too long, or a task that cannot be rebuilt.
        """
        if found.get("format") not in (FORMAT, FIRST_FORMAT):
            raise DeltaError(f"{source}: its format is {short(found.get('format'))}, expected {FORMAT!r}")
        if found["format"] == FIRST_FORMAT:
            warnings.warn(f"{source}: an older file, which does not say what weights it was trained on", stacklevel=3)
            found = {"form": "heads", "weights": None} | found
        found = {"parts": "{}"} | found
        if missing := LIMITS.keys() - found.keys():
            raise DeltaError(f"{source}: its metadata has no {min(missing)!r}; save the model again")
        _bounded(found, source)
        tasks, parts = _read_tasks(found["tasks"], source), _read_parts(found["parts"], source)
        return cls(found["method"], tasks, found["pooling"], found["form"], found["weights"], parts)

    def rebuild(
        self,
        backbone: nn.Module,
        fill_in: Callable[[Tuned], None],
        source: str,
        other_weights: bool,
        parts: Mapping[str, Part] | None = None,
    ) -> Tuned:
        """The model, on a backbone that is edited in place, with the numbers that `fill_in` puts into it.

        All this is done on the backbone's outline first: what is refused then leaves the backbone as it was, and nothing is
        allocated of a size that a file merely names.

        parts: of another model, to use in the place of new ones.

        Raises:
            DeltaError: it cannot be built, or was trained on other weights, unless that is asked for, or with other parts.
        """

        def make(backbone: nn.Module, parts: Mapping[str, Part] | None = None) -> Tuned:
            model = Tuned(backbone, self.method, self.tasks, pooling=self.pooling, form=self.form, parts=parts)
            fill_in(model)
            return model.eval()

        try:
            with torch.device("meta"):
                needed = make(outline(backbone)).parts
        except UsageError as error:
            raise DeltaError(f"{source}: {error}") from error
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            # What torch refuses: sizes that it cannot even describe.
            raise DeltaError(f"{source}: what it describes cannot be built ({short(str(error))})") from error
        if self.weights is not None and not other_weights and (ours := weights_digest(backbone)) != self.weights:
            raise DeltaError(
                f"{source}: it was trained on weights of digest {short(self.weights)}, and this backbone's is "
                f"{ours!r}: load the backbone it was made for, or pass other_weights=True"
            )
        return make(backbone, self._same(needed, parts or {}, source))

    def _same(self, needed: Mapping[str, Part], given: Mapping[str, Part], source: str) -> dict[str, Part]:
        """The parts that a model needs, which must be those that it was trained with."""
        found = {}
        for key, part in needed.items():
            found[key] = given.get(key) or part.make()
            if (theirs := self.parts.get(key)) != (ours := found[key].digest):
                raise DeltaError(
                    f"{source}: it was trained with a frozen part {key!r} of digest {short(theirs)}, and the one here has "
                    f"{ours!r}: load it with the one it was made for"
                )
        return found


def _read_parts(text: str, source: str) -> dict[str, str | None]:
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict) and all(isinstance(digest, str) for digest in found.values()):
            return found
    raise DeltaError(f"{source}: its parts are {short(text)}, expected names and digests; save the model again")


def _bounded(fields: dict[str, Any], source: str) -> dict[str, Any]:
    for name, limit in LIMITS.items():
        if len(fields.get(name) or "") > limit:
            raise DeltaError(
                f"{source}: {name!r} of its metadata has {len(fields[name]):,} characters, expected at most {limit:,}"
            )
    return fields


def _written(task: Task) -> str | dict:
    """A task of the study by its name; a user's own with what its head follows from."""
    return task.name if TASKS.get(task.name) == task else {name: getattr(task, name) for name in OF_A_TASK}


def _read_tasks(text: str, source: str) -> tuple[Task, ...]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DeltaError(f"{source}: its tasks {short(text)} are no JSON ({error})") from error
    if not isinstance(found, list):
        raise DeltaError(f"{source}: its tasks are {short(found)}, expected a list")
    tasks = tuple(_task(one, source) for one in found)
    if len({task.name for task in tasks}) != len(tasks):
        raise DeltaError(f"{source}: a task occurs twice among {short([task.name for task in tasks])}")
    return tasks


def _task(found: object, source: str) -> Task:
    try:
        if isinstance(found, str):
            return get_task(found)
        if not (isinstance(found, dict) and set(found) == set(OF_A_TASK)):
            raise UsageError(f"expected a task's name, or its {', '.join(OF_A_TASK)}")
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
        return Task(**fields, metrics=("pearson",) if found["kind"] == "score" else ("accuracy",))
    except (PeftlibError, OverflowError) as error:
        raise DeltaError(f"{source}: cannot rebuild the task {short(found)}: {error}") from error


# --- writing ----------------------------------------------------------------------------------------------------------
def save(model: Tuned, path: str | Path, backbone: str = "") -> int:
    """Write the delta of a model, whole or not at all; returns the file's size in bytes.

    backbone: its name, kept in the file for the reader's sake; that of its weights is their digest.

    Raises:
        UsageError: the model is merged, or its method has not looked at data yet.
        DeltaError: the file cannot be written, or a number of the delta is not finite.
    """
    path, header, tensors = Path(path), Header.of(model), model.delta()
    if model.counts().trainable and all(name.startswith("heads.") for name in tensors):
        raise UsageError(
            f"{short(header.method)} has nothing to save yet: it chooses what to train when it has looked at "
            "data, see model.prepare(batches)"
        )
    with replacing_all(path) as (scratch,):
        write_tensors(scratch, tensors, header.metadata() | {"backbone": backbone})
    return path.stat().st_size


@contextmanager
def replacing_all(*paths: Path) -> Iterator[list[Path]]:
    """Paths to write to, in a scratch folder: what is there takes the places of `paths`, of one folder, once all are whole.

    As `records.replacing`, for several files and for a writer that wants a path. A failure leaves the old files and no
    scratch; what a kill leaves is removed by a later write to the same folder.

    Raises:
        DeltaError: the folder cannot be written to.
    """
    folder = paths[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=SCRATCH) as scratch:
            written = [Path(scratch) / path.name for path in paths]
            yield written
            for one, path in zip(written, paths, strict=True):
                one.chmod(0o644)  # safetensors lets nobody else read
                one.replace(path)
    except (OSError, UnicodeError, SafetensorError) as error:
        raise DeltaError(f"{paths[0]}: cannot be written ({short(str(error))})") from error


def _remove_abandoned(folder: Path) -> None:
    for left in folder.glob(f"{SCRATCH}*"):
        with suppress(OSError):  # another writer may do the same
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left)


# --- reading ----------------------------------------------------------------------------------------------------------
def load(
    path: str | Path, backbone: nn.Module, other_weights: bool = False, parts: Mapping[str, Part] | None = None
) -> Tuned:
    """Rebuild a model from its delta and the backbone it was made for (edited in place): same outputs as when saved, but
    for what frozen weights lose that were kept in bf16.

    other_weights: put it on a backbone of other weights than it was trained on. What is refused leaves the backbone as it
    was. parts: frozen ones of another model (`Tuned.parts`), to use in the place of new ones.

    Raises:
        DeltaError: no delta, a broken file, other weights or frozen parts, or tensors that do not fit this backbone.
    """
    metadata, tensors = read_tensors(path)
    header = Header.read(metadata, str(path))
    return header.rebuild(backbone, lambda model: load_tensors(model, tensors, str(path)), str(path), other_weights, parts)


def parts_of(name: str) -> list[str]:
    """The parts of a tensor's name, and what is between them: what is a task's own is called after it."""
    return re.split(r"(\.|__)", name)


def for_start(path: str | Path, model: Tuned, task: str = "") -> dict[str, Tensor]:
    """The tensors of a delta for a model that begins from it, under the names that they have there. What belongs to tasks
    that the model does not have is left out, unless one of its methods asks for it (`Method.whole_start`); with `task`,
    its tensors go to the model's first task, and those of all others are left out. So is the head of a task whose answers
    are of another kind, or more or fewer.

    Raises:
        DeltaError: a broken file, other weights, or a task that it does not have.
    """
    metadata, tensors = read_tensors(path)
    header = Header.read(metadata, str(path))
    if header.weights not in (None, model.weights_digest):
        raise DeltaError(
            f"{path}: it was trained on weights of digest {short(header.weights)}, and what it learnt fits no others: "
            f"expected {model.weights_digest!r}"
        )
    theirs = {one.name: one for one in header.tasks}
    if task and task not in theirs:
        raise DeltaError(f"{path}: it knows no task {short(task)}: expected one of {', '.join(theirs)}")
    names = {task: model.tasks[0]} if task else {name: name for name in theirs if name in model.tasks}
    ours = {old: model.task_table[new] for old, new in names.items()}
    unfit = {f"heads.{n}" for n, t in ours.items() if (t.kind, t.outputs) != (theirs[n].kind, theirs[n].outputs)}
    whole = any(leaf.whole_start for leaf, _ in model.attachments)
    found = {}
    for name, tensor in tensors.items():
        parts = parts_of(name)
        if (whole or all(part in names for part in parts if part in theirs)) and name.rpartition(".")[0] not in unfit:
            found["".join(names.get(part, part) for part in parts)] = tensor
    return found


def outline(backbone: nn.Module) -> nn.Module:
    """A copy with shapes and no weights.

    Raises:
        UsageError: no model.
    """
    if not isinstance(backbone, nn.Module):
        raise UsageError(f"expected a backbone's model, got {type(backbone).__name__}: pass backbones.load(name).model")

    def bare(tensor: Tensor) -> Tensor:
        empty = torch.empty_like(tensor, device="meta")
        return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty

    return copy.deepcopy(backbone, {id(t): bare(t) for t in (*backbone.parameters(), *backbone.buffers())})


def load_tensors(model: Tuned, tensors: dict[str, Tensor], source: str = "the delta") -> None:
    """Put a delta's tensors into a model built by the same expression.

    Raises:
        DeltaError: names, shapes or types do not match, or a number is not finite.
    """
    for leaf, at in model.attachments:
        leaf.restore(at, tensors)
    fill(model.delta(), tensors, source)


@torch.no_grad()
def fill(ours: dict[str, Tensor], theirs: dict[str, Tensor], source: str) -> None:
    """Copy the tensors of a file into those of a model, after a look at all of them.

    Raises:
        DeltaError: names, shapes or types do not match, or a number is not finite.
    """
    theirs = {name: unpacked(tensor, ours.get(name)) for name, tensor in theirs.items()}
    for name in sorted(ours.keys() | theirs.keys()):
        expected, found = ours.get(name), theirs.get(name)
        if expected is None or found is None or _kind(expected) != _kind(found):
            raise DeltaError(
                f"{source}: {short(name)} does not fit this backbone (expected {_named(expected)}, found {_named(found)})"
            )
        if not found.to(expected.dtype).isfinite().all():
            raise DeltaError(f"{source}: {short(name)} holds numbers that are not finite; save the model again")
    for name, tensor in ours.items():
        tensor.copy_(theirs[name])


def _kind(tensor: Tensor) -> tuple:
    """Shape and type; any floating type may stand for another."""
    return tensor.shape, "float" if tensor.is_floating_point() else tensor.dtype


def _named(tensor: Tensor | None) -> str:
    if tensor is None:
        return "none"
    kind = "bits" if tensor.dtype == torch.bool else str(tensor.dtype).removeprefix("torch.")
    return f"{kind} {short(tuple(tensor.shape))}"
