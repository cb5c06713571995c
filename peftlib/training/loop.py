"""The training loop, the same for every method, for one task and for many."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from peftlib import backbones, deltas, provenance, records
from peftlib.data import sampling
from peftlib.data.sources import load_split
from peftlib.data.tasks import get_task
from peftlib.data.text import read_answer
from peftlib.errors import PeftlibError, UsageError
from peftlib.methods.base import Step
from peftlib.model import Tuned
from peftlib.records import Run
from peftlib.training import fits, kept, metrics
from peftlib.training.encoding import IGNORED, Encoded
from peftlib.training.speed import speed_up

SAVE_EVERY = 20.0  # seconds: what a kill may cost, and what a checkpoint (up to 12 bytes a parameter) must be worth
EVAL_BATCH = 128


class Diverged(PeftlibError):
    """The loss is no finite number any more."""


@dataclass(frozen=True)
class Answers:
    """What a model says of the rows of a split, in the data's order. predictions: class ids or scores. margins: how much
    likelier class 1 is than class 0, where a metric needs it. unreadable: written answers that are no label."""

    predictions: np.ndarray
    margins: np.ndarray | None
    unreadable: int


@dataclass
class Outcome:
    """What training gave: the model at its best epoch, finished, and what happened on the way."""

    model: Tuned
    history: list[dict]  # one entry an epoch: train_loss, seconds, examples, learning_rate, validation scores
    best_epoch: int  # 1-based
    validation: dict[str, float]
    test: dict[str, float]
    initial_digest: str
    data: dict[str, dict[str, str]]  # split -> task -> digest of its content
    left_out: dict[str, dict[str, dict[str, int]]]  # split -> task -> `Encoded.left_out`, where something was
    backbone_digest: str
    predictions: dict[str, np.ndarray]  # task -> class id or score for each row of the test split, in the data's order
    rows: dict[str, Encoded]  # task -> the test split

    @property
    def seconds(self) -> float:
        """Time in training steps, evaluation apart."""
        return sum(e["seconds"] for e in self.history)

    @property
    def examples_per_second(self) -> float:
        return sum(e["examples"] for e in self.history) / max(self.seconds, 1e-9)


def seed_everything(seed: int) -> None:
    """Seed all generators, ask for kernels that give the same bits each time, and undo whatever of torch's global settings
    would change them."""
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_float32_matmul_precision("highest")  # TORCH_ALLOW_TF32_CUBLAS_OVERRIDE sets another
    torch.backends.cudnn.benchmark = False
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A check for kernels that read it; costs 3% of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


@contextlib.contextmanager
def by_recipe_alone() -> Iterator[None]:
    """Keep out what the caller's code or shell has set and no recipe says: modes of autograd, autocast, and the variables
    of Accelerate, which overrule even what its `Accelerator` is told. Those that tell a process of several which one it is
    (RANK, WORLD_SIZE and their like) have other names and stay."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ACCELERATE_")}
    casts = [torch.autocast(d, enabled=False) for d in (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])]
    mode: contextlib.AbstractContextManager[object]
    try:
        with contextlib.ExitStack() as modes:
            for mode in (torch.inference_mode(False), torch.enable_grad(), *casts):  # type: ignore[assignment]  # each is one
                modes.enter_context(mode)
            yield
    finally:
        os.environ.update(hidden)


def accelerator() -> Accelerator:
    """One that leaves precision and accumulation to this loop.

    Raises:
        UsageError: another one of this process has set a precision, which is one for all.
    """
    try:
        return Accelerator(
            mixed_precision="no",
            gradient_accumulation_steps=1,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise UsageError(f"Accelerate cannot start ({error}): train in a process of its own") from error


def digest_of(tensors: dict[str, Tensor]) -> str:
    """16 hexadecimal digits over names and bits of tensors."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        h.update(name.encode())
        h.update(tensors[name].detach().float().cpu().contiguous().numpy().tobytes())
    return h.hexdigest()[:16]


class Look:
    """The training batches, (task, inputs with labels), made anew for every method that looks at them."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer

    def __iter__(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        for name, rows in self.trainer.schedule(0):
            yield name, self.trainer.data["train"][name].batch(rows, self.trainer.device)


class Trainer:
    """Trains one run. ``Trainer(run).fit()`` is all that most callers need.

    Args:
        run: what to train.
        checkpoint: a file that is rewritten after an epoch, but not sooner than `SAVE_EVERY` seconds after the last; a
            run that finds its own there goes on from it, and gives the same numbers as one that was never stopped. One
            of other code, data, weights or versions, or a damaged one, is removed, and standard error says so. Left
            there at the end, for whoever has written down the outcome to remove.
        progress: show a progress bar on standard error.
        given: the deltas of the runs that this one begins from, in their order.
    """

    @by_recipe_alone()
    def __init__(self, run: Run, checkpoint: Path | None = None, progress: bool = True, given: Sequence[str | Path] = ()):
        self.run, self.recipe, self.checkpoint, self.progress = run, run.recipe, checkpoint, progress
        if run.start and len(given) != len(run.start):
            raise UsageError(f"{run.method} begins from {len(run.start)} runs: pass the deltas of all, got {len(given)}")
        seed_everything(run.seed)
        self.tasks = {name: get_task(name) for name in run.tasks}
        backbone = backbones.load(run.backbone, self.recipe.form)
        self.tokenizer = backbone.tokenizer
        self.model = Tuned(
            backbone.model,
            run.method,
            self.tasks.values(),
            pooling=backbone.pooling,
            dropout=self.recipe.dropout,
            form=self.recipe.form,
        )
        self.model.require_training()
        self.data = {
            split: {
                name: Encoded(
                    load_split(task, split, run.source, limit=limit),  # type: ignore[arg-type]  # `Run` has looked at it
                    backbone.tokenizer,
                    self.recipe.max_length,
                    self.recipe.form,
                )
                for name, task in self.tasks.items()
            }
            for split, limit in zip(("train", "validation", "test"), run.limits, strict=True)
        }
        fits.check(self.model, backbone.tokenizer, self.data["train"], self.recipe.max_length)
        # One token more than any answer, so that an answer that goes on too long is seen to.
        self.longest_answer = {
            name: 1 + max(map(len, data.answers)) for name, data in self.data["train"].items() if data.answers is not None
        }
        speed_up(self.model)
        self.model.anatomy.set_attention_dropout(self.recipe.attention_dropout)
        self.backbone_digest = backbone.digest
        self.accelerator = accelerator()
        self.device = self.accelerator.device
        self.model.to(self.device)
        self.model.begin([deltas.for_start(path, self.model, run.start_task) for path in given])
        self.initial_digest = digest_of(self.model.delta())
        self.data_digests = {split: {n: d.digest for n, d in by_task.items()} for split, by_task in self.data.items()}
        # What a checkpoint must have been made of to be gone on from: no run is of two codes or two data.
        self.made_of = {
            "run": run.digest,
            "code": provenance.code_digest(provenance.sources_of(run)),
            "data": self.data_digests,
            "weights": self.backbone_digest,
            "start": [provenance.delta_digest(Path(path)) for path in given],
            "parts": {key: part.digest for key, part in self.model.parts.items()},
            "versions": provenance.versions(),
        }
        self.bottom = kept.Bottom(self.model)
        self.kept: dict[tuple[str, str], kept.States] = {}  # by split and task
        self.history: list[dict] = []
        self.best: tuple[int, float, dict[str, Tensor]] | None = None

    # --- schedule -------------------------------------------------------------------------------------------------
    def schedule(self, epoch: int) -> list[tuple[str, list[int]]]:
        """The (task, row numbers) of every batch of an epoch; depends on the seed and the epoch alone."""
        r, seed = self.recipe, self.run.seed
        queues = {name: self._batches(name, epoch) for name in self.data["train"]}
        sizes = {name: len(q) for name, q in queues.items()}
        steps = r.epoch_steps * r.accumulate if r.epoch_steps else sum(sizes.values())
        order = sampling.task_order(sizes, r.sampling, steps, r.temperature, seed * 1000 + epoch)
        taken = dict.fromkeys(queues, 0)
        out = []
        for name in order:  # a task drawn more often than it has batches starts over
            passes, i = divmod(taken[name], sizes[name])
            if r.epoch_steps and passes and not i:
                queues[name] = self._batches(name, epoch, passes)
            out.append((name, queues[name][i]))
            taken[name] += 1
        return out

    def _batches(self, name: str, epoch: int, passes: int = 0) -> list[list[int]]:
        """The batches of a task in an epoch, in an order of their own. passes: over its data before in this epoch."""
        r, lengths = self.recipe, self.data["train"][name].lengths
        return sampling.batches(lengths, r.batch_size, self.run.seed, epoch, sort=r.sort_by_length, passes=passes)

    @property
    def steps_per_epoch(self) -> int:
        if self.recipe.epoch_steps:
            return self.recipe.epoch_steps
        batches = sum(-(-len(d) // self.recipe.batch_size) for d in self.data["train"].values())
        return -(-batches // self.recipe.accumulate)

    # --- running --------------------------------------------------------------------------------------------------
    @by_recipe_alone()
    def fit(self) -> Outcome:
        """Train all epochs, go back to the best one, finish the method, and score the test split."""
        r = self.recipe
        left_off, self._saved_at = self._read_checkpoint(), time.perf_counter()
        self._prepare(left_off)
        optimizer = self.model.optimizer(r.lr, r.weight_decay)
        total = self.steps_per_epoch * r.epochs
        scheduler = get_linear_schedule_with_warmup(optimizer, round(r.warmup * total), total)
        self.forward, optimizer = self.accelerator.prepare(self.model, optimizer)
        first = self._resume(left_off, optimizer, scheduler)
        for epoch in range(first, r.epochs + 1):
            self.history.append(self._epoch(epoch, optimizer, scheduler, total))
            self._keep_best(epoch)
            self._save(epoch, optimizer, scheduler)
        self._load_state(self.best[2])  # type: ignore[index]  # there was an epoch
        self.model.finish()
        answers = self._answers("test")
        epoch = self.best[0]  # type: ignore[index]  # as above
        left_out = {
            split: {name: d.left_out for name, d in by_task.items() if d.left_out} for split, by_task in self.data.items()
        }
        return Outcome(
            self.model,
            self.history,
            epoch,
            self.history[epoch - 1]["validation"],
            self._scores("test", answers),
            self.initial_digest,
            self.data_digests,
            left_out,
            self.backbone_digest,
            {name: found.predictions for name, found in answers.items()},
            self.data["test"],
        )

    def _prepare(self, left_off: dict | None) -> None:
        """The method's look at data (unless a checkpoint already holds what it found), then frozen weights in bf16."""
        if left_off:
            for leaf, at in self.model.attachments:
                leaf.restore(at, left_off["state"])
        else:
            self.model.prepare(Look(self))
        if self.recipe.precision == "bf16":
            self.model.store_frozen(torch.bfloat16)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]  # in every phase, as the optimizer's
        # A frozen encoder gives the same features every epoch: run it once.
        self.features: dict[str, dict[str, Tensor]] = {}
        if self.model.encoder_is_frozen:
            self.features = {
                split: {n: self._encode(d) for n, d in by_task.items()} for split, by_task in self.data.items()
            }
        self.bottom, self.kept = kept.Bottom(self.model), {}  # anew: of what the look at data has attached, too
        if self.bottom.blocks and not self.features and self.recipe.epochs > 1:
            self._keep_states()

    def _keep_states(self) -> None:
        """What the part below all that is trained gives of the rows that every epoch runs, as far as there is room."""
        room = kept.LIMIT
        for split in ("train", "validation"):
            for name, data in self.data[split].items():
                if (needed := self.bottom.nbytes(data)) <= room:
                    room -= needed
                    with self._autocast():
                        self.kept[split, name] = self.bottom.states(data, EVAL_BATCH, self.device)

    def _given(
        self, split: str, name: str, rows: list[int], batch: dict[str, Tensor]
    ) -> contextlib.AbstractContextManager[None]:
        """While it lasts, what is kept of these rows is not run again."""
        return self.bottom.given(self.kept.get((split, name)), rows, batch)

    @torch.no_grad()
    def _encode(self, data: Encoded) -> Tensor:
        self.model.eval()
        rows = data.in_order(EVAL_BATCH)
        out = torch.empty(len(data), self.model.anatomy.shape.width, device=self.device)
        with self._autocast():
            for indices in rows:
                batch = data.batch(indices, self.device)
                batch.pop("labels")
                out[indices] = self.model.features(batch).float()
        return out

    def _outputs(self, split: str, name: str, rows: list[int]) -> Tensor:
        """The head's outputs for rows of a task."""
        if self.features:
            return self.model.head(name, self.features[split][name][rows])
        batch = self.data[split][name].batch(rows, self.device)
        batch.pop("labels")
        with self._autocast(), self._given(split, name, rows, batch):
            return self.forward(name, batch)

    def _trained_on(self, name: str, rows: list[int], index: int, total: int) -> Step:
        """A batch of training as the model sees it in step `index` of `total`."""
        data = self.data["train"][name]
        if self.features:
            labels = data.labels[rows].to(self.device)
            return Step(name, {}, labels, (self._outputs("train", name, rows),), index, total)
        batch = data.batch(rows, self.device)
        labels = batch.pop("labels")
        with self._autocast(), self._given("train", name, rows, batch):
            return self.model.step(name, batch, labels, index, total, self.forward)

    def _autocast(self) -> torch.autocast:
        # Accelerator's own precision is one for the whole process, and stays in the model's forward after training.
        # No cache: torch empties that of cast weights at the end of the outermost autocast alone, and inside another one
        # (see `by_recipe_alone`) every step would compute with the weights of the first.
        on = self.recipe.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=on, cache_enabled=False)

    def _epoch(self, epoch: int, optimizer, scheduler, total: int) -> dict:
        schedule = self.schedule(epoch)
        self.model.train()
        self.bottom.without_dropout()
        loss_sum = torch.zeros((), device=self.device)
        accumulate, seen, started = self.recipe.accumulate, 0, time.perf_counter()
        bar = tqdm(
            schedule,
            desc=f"epoch {epoch}/{self.recipe.epochs}",
            file=sys.stderr,
            disable=not self.progress,
            mininterval=2.0,
            leave=False,
        )
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        for i, (name, rows) in enumerate(bar):
            index = (epoch - 1) * self.steps_per_epoch + i // accumulate
            whole, loss = self.model.objective(self._trained_on(name, rows[rank::world] or rows[:1], index, total))
            in_step = min(accumulate, len(schedule) - i // accumulate * accumulate)  # the last step may have fewer batches
            self.accelerator.backward(whole / in_step)
            loss_sum += loss.detach()
            seen += len(rows)
            if (i + 1) % accumulate == 0 or i + 1 == len(schedule):
                self._step(optimizer, scheduler, index, total)
            if (i + 1) % 50 == 0 or i + 1 == len(schedule):  # not at every step: reading a loss waits for the device
                self._check(loss_sum, epoch, i)
        seconds = time.perf_counter() - started
        return {
            "epoch": epoch,
            "train_loss": loss_sum.item() / len(schedule),
            "seconds": seconds,
            "examples": seen,
            "learning_rate": scheduler.get_last_lr()[0],
            "validation": self.evaluate("validation"),
        }

    def _step(self, optimizer, scheduler, step: int, total: int) -> None:
        self.accelerator.clip_grad_norm_(self.trained, self.recipe.clip)
        optimizer.step()
        scheduler.step()
        self.model.after_step(step, total)
        optimizer.zero_grad()

    def _check(self, loss_sum: Tensor, epoch: int, i: int) -> None:
        if not torch.isfinite(loss_sum):
            self._stop(f"the loss is {loss_sum.item()} by batch {i + 1} of epoch {epoch}")

    def _stop(self, found: str) -> NoReturn:
        raise Diverged(
            f"{found} ({self.run.method}, learning rate {self.recipe.lr}): lower the learning rate, or use precision fp32"
        )

    def evaluate(self, split: str) -> dict[str, float]:
        """Scores of every task on a split, and their mean under "mean". A task of several metrics has their mean under its
        name, and each as "task.metric". In form "text" also "unreadable", the share of written answers that are no label
        of their task, which count as wrong.

        Raises:
            Diverged: an output is no finite number, or in form "text" a weight.
        """
        return self._scores(split, self._answers(split))

    @torch.no_grad()
    def _answers(self, split: str) -> dict[str, Answers]:
        self.model.eval()
        if self.recipe.form == "text":  # where what is written shows no numbers
            self._check_weights(split)
        found = {}
        for name, data in self.data[split].items():
            task, rows = self.tasks[name], data.in_order(EVAL_BATCH)
            back = np.argsort(np.concatenate(rows))  # to the order of the data
            if self.recipe.form == "text":
                read = [label for indices in rows for label in self._written(split, name, indices)]
                predictions, lost = metrics.from_answers(task, [read[i] for i in back], data.labels.numpy())
                margins = self._margins(split, name, rows)[back] if metrics.needs_margins(task) else None
            else:
                predictions, margins = (values[back] for values in self._predicted(split, name, rows))
                lost = 0
            found[name] = Answers(predictions, margins, lost)
        return found

    def _scores(self, split: str, answers: dict[str, Answers]) -> dict[str, float]:
        scores: dict[str, float]
        single: dict[str, float]
        scores, single = {}, {}
        for name, data in self.data[split].items():
            given, labels = answers[name], data.labels.numpy()
            found = metrics.scores(self.tasks[name], given.predictions, labels, data.groups, data.texts, given.margins)
            scores[name] = sum(found.values()) / len(found)
            single |= {f"{name}.{metric}": value for metric, value in found.items()} if len(found) > 1 else {}
        mean = {"mean": sum(scores.values()) / len(scores)}
        unreadable = sum(given.unreadable for given in answers.values())
        total = sum(len(data) for data in self.data[split].values())
        return scores | single | mean | ({"unreadable": unreadable / total} if self.recipe.form == "text" else {})

    def _check_weights(self, split: str) -> None:
        finite = torch.stack([torch.isfinite(p).all() for p in self.model.parameters() if p.requires_grad])
        if not finite.all():
            self._stop(f"trained weights are no finite numbers before answers on {split} are written")

    def _predicted(self, split: str, name: str, rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        """What a head says of each row: a class id or a score, and how much larger its last output is than its first."""
        outputs = torch.cat([self._outputs(split, name, indices).float().cpu() for indices in rows])
        if not torch.isfinite(outputs).all():  # the last step of an epoch may be the one that breaks the weights
            self._stop(f"outputs for {name!r} on {split} are no finite numbers")
        return self.model.predict(name, outputs).numpy(), (outputs[:, -1] - outputs[:, 0]).numpy()

    def _written(self, split: str, name: str, rows: list[int]) -> list[float | None]:
        """What the answers that the model writes say: a label, or None for what is no label."""
        batch = self.data[split][name].batch(rows, self.device)
        with self._autocast(), self._given(split, name, rows, batch):
            ids = self.model.write(name, batch, self.longest_answer[name])
        return [read_answer(self.tasks[name], text) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def _margins(self, split: str, name: str, rows: list[list[int]]) -> np.ndarray:
        """How much likelier, as a log ratio, the answer of class 1 is than that of class 0, whatever would be written."""
        answers = self.tokenizer(list(self.tasks[name].words), return_tensors="pt", padding=True)
        ids = answers.input_ids.masked_fill(answers.attention_mask == 0, IGNORED).to(self.device)
        found = []
        for indices in rows:
            batch = self.data[split][name].batch(indices, self.device)
            likely = []
            for answer in ids:
                labels = answer.expand(len(indices), -1)
                with self._autocast(), self._given(split, name, indices, batch):
                    outputs = self.forward(name, batch | {"answers": labels}).float()
                likely.append(-F.cross_entropy(outputs.mT, labels, reduction="none").sum(1))
            found.append(likely[1] - likely[0])
        return torch.cat(found).cpu().numpy()

    # --- best epoch, and going on after a kill --------------------------------------------------------------------
    def _state(self) -> dict[str, Tensor]:
        """What training changes: the delta, and the buffers that methods keep only while training."""
        buffers = {n: b for n, b in self.model.named_buffers() if ".edits." in n or n.startswith("shared.")}
        return {n: t.detach().cpu().clone() for n, t in (self.model.delta() | buffers).items()}

    def _load_state(self, state: dict[str, Tensor]) -> None:
        buffers = dict(self.model.named_buffers())
        own = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, tensor in state.items():
                target = own.get(name, buffers.get(name))
                target.copy_(tensor)  # type: ignore[union-attr]  # of this model

    def _keep_best(self, epoch: int) -> None:
        mean = self.history[-1]["validation"]["mean"]
        if self.best is None or (self._ready(epoch), mean) > (self._ready(self.best[0]), self.best[1]):
            self.best = (epoch, mean, self._state())

    def _ready(self, epoch: int) -> bool:
        """Is the model at the end of an epoch what its method promises? If not, it is the best only for want of another."""
        return self.model.ready(epoch * self.steps_per_epoch - 1, self.steps_per_epoch * self.recipe.epochs)

    def _save(self, epoch: int, optimizer, scheduler) -> None:
        """Rewrite the checkpoint: a digest of 32 bytes, then what `torch.save` makes of the rest."""
        if not self.checkpoint or time.perf_counter() - self._saved_at < SAVE_EVERY:
            return
        content = {
            "made_of": self.made_of,
            "epoch": epoch,
            "state": self._state(),
            "best": self.best,
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "history": self.history,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        try:
            with records.replacing(self.checkpoint) as file:
                file.write(bytes(32))
                torch.save(content, file)
                file.seek(32)
                digest = hashlib.file_digest(file, "sha256").digest()
                file.seek(0)
                file.write(digest)
        except (OSError, RuntimeError) as error:  # such as a full disk: what a kill may cost, not the run
            print(f"{self.checkpoint}: cannot be written ({error}); training goes on without it", file=sys.stderr)
        self._saved_at = time.perf_counter()

    def _read_checkpoint(self) -> dict | None:
        """The checkpoint of this very run, if there is one; another's, or a damaged one, is removed."""
        if not self.checkpoint:
            return None
        try:
            with self.checkpoint.open("rb") as file:
                whole = file.read(32) == hashlib.file_digest(file, "sha256").digest()
                file.seek(32)
                content = torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True) if whole else {}
        except FileNotFoundError:
            return None
        except OSError:
            content = {}
        found = content.get("made_of", {})
        if found == self.made_of:
            return content
        others = [name for name, value in found.items() if self.made_of.get(name) != value]
        why = f"of other {' and '.join(others)}" if others else "damaged"
        print(f"{self.checkpoint}: {why}; it is removed, and the run begins anew", file=sys.stderr)
        with contextlib.suppress(OSError):
            self.checkpoint.unlink()
        return None

    def _resume(self, left_off: dict | None, optimizer, scheduler) -> int:
        """Take up a checkpoint; returns the epoch to go on with."""
        if not left_off:
            return 1
        self._load_state(left_off["state"])
        optimizer.load_state_dict(left_off["optimizer"])
        scheduler.load_state_dict(left_off["scheduler"])
        self.history, self.best = left_off["history"], tuple(left_off["best"])
        torch.set_rng_state(left_off["torch_rng"])
        if left_off["cuda_rng"]:
            torch.cuda.set_rng_state_all(left_off["cuda_rng"])
        return left_off["epoch"] + 1


def stored_bytes(model: Tuned) -> int:
    """Size of the model's delta as a file."""
    with tempfile.TemporaryDirectory() as folder:
        return deltas.save(model, Path(folder) / "delta.safetensors")
