"""The schema of a run and of its record: one small JSON file that says what was run and what came out.

A run is keyed by the digest of everything that decides its outcome. A record is written once, atomically; nothing else
passes from training to tables.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from peftlib.errors import PeftlibError, UsageError

SCHEMA = 1


class RecordError(PeftlibError):
    """A record cannot be read, or is not the record of the run it is named after."""


@dataclass(frozen=True)
class Recipe:
    """How a run is trained.

    lr: peak learning rate. epochs: passes over the (limited) training data. warmup: fraction of all steps, then linear
    decay to zero. attention_dropout: on attention weights; at 0 the fused attention kernel can run, a tenth faster on a
    CPU. sampling: "proportional" (every example once an epoch), "round_robin" or "temperature" (see
    `peftlib.data.sampling`). precision: "fp32" or "bf16" (autocast; frozen weights stored in bf16). form: "heads" (a
    linear head a task) or "text" (an encoder-decoder writes the answer).
    """

    lr: float
    epochs: int = 3
    batch_size: int = 32
    accumulate: int = 1
    warmup: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.1
    attention_dropout: float = 0.0
    clip: float = 1.0
    max_length: int = 128
    precision: str = "bf16"
    sampling: str = "proportional"
    temperature: float = 1.0
    sort_by_length: bool = True
    form: str = "heads"

    def __post_init__(self):
        checks = {
            "lr": 0 < self.lr < 10, "epochs": self.epochs >= 1, "batch_size": self.batch_size >= 1,
            "accumulate": self.accumulate >= 1, "warmup": 0 <= self.warmup < 1, "weight_decay": self.weight_decay >= 0,
            "dropout": 0 <= self.dropout < 1, "attention_dropout": 0 <= self.attention_dropout < 1,
            "clip": self.clip > 0, "max_length": 8 <= self.max_length <= 512,
            "precision": self.precision in ("fp32", "bf16"),
            "sampling": self.sampling in ("proportional", "round_robin", "temperature"),
            "temperature": self.temperature > 0, "form": self.form in ("heads", "text"),
        }
        for name, holds in checks.items():
            if not holds:
                raise UsageError(f"recipe: {name}={getattr(self, name)!r} is impossible; see peftlib.records.Recipe")


@dataclass(frozen=True)
class Run:
    """Everything that decides an outcome.

    limits: at most so many examples of (train, validation, test) a task, or questions (see `peftlib.data.load_split`); None
    for all of them.
    """

    method: str
    tasks: tuple[str, ...]
    backbone: str
    source: str
    recipe: Recipe
    seed: int = 0
    limits: tuple[int | None, int | None, int | None] = (None, None, None)
    label: str = field(default="", compare=False)  # what a table calls it; no part of the digest

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name the run."""
        content = dataclasses.asdict(self)
        content.pop("label")
        if self.recipe.form == "heads":  # a later field: what it adds by default is no part of older digests
            content["recipe"].pop("form")
        text = json.dumps({"schema": SCHEMA, **content}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def root() -> Path:
    """The project's folder: PEFTLIB_ROOT, else the nearest parent of the working folder that holds ``_config.yml``,
    else the folder above the package."""
    if "PEFTLIB_ROOT" in os.environ:
        return Path(os.environ["PEFTLIB_ROOT"])
    here = Path.cwd()
    above = (p for p in (here, *here.parents) if (p / "_config.yml").is_file() and (p / "notebooks").is_dir())
    return next(above, Path(__file__).resolve().parent.parent)


def path_of(preset: str, digest: str) -> Path:
    """Where a run's record lies. Experiments that ask for the same run share it."""
    return root() / "data" / "runs" / preset / f"{digest}.json"


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing: readers never see half of it, a kill leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write(path: Path, record: dict) -> None:
    """Write a record that is not there yet; a finished one is never overwritten."""
    if not path.exists():
        write_atomically(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def read(path: Path) -> dict:
    """One record.

    Raises:
        RecordError: not JSON, another schema, or not the record its name says.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read as a record ({error}); delete it and run again") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise RecordError(f"{path}: expected a record of schema {SCHEMA}; delete it and run again")
    if record.get("digest") != path.stem:
        raise RecordError(f"{path}: holds the record of {record.get('digest')}; a record's name is its digest")
    return record


def run_of(record: dict) -> Run:
    """The run that a record describes."""
    content = dict(record["run"])
    content["recipe"] = Recipe(**content["recipe"])
    content["tasks"], content["limits"] = tuple(content["tasks"]), tuple(content["limits"])
    return Run(**content)


def table(records: Iterable[dict]) -> pd.DataFrame:
    """One row a record: what was run, scores of the best epoch (``validation.sst``, ``test.sst``), counts and cost."""
    rows = []
    for r in records:
        row = {"label": r["run"]["label"], "method": r["run"]["method"], "seed": r["run"]["seed"],
               "tasks": "+".join(r["run"]["tasks"]), "backbone": r["run"]["backbone"], "source": r["run"]["source"],
               **{k: r["run"]["recipe"][k] for k in ("lr", "epochs")}, "digest": r["digest"]}
        row |= {k: r[k] for k in ("best_epoch", "seconds", "examples_per_second", "stored_bytes", "peak_bytes")}
        row |= r["counts"]
        for split in ("validation", "test"):
            row |= {f"{split}.{name}": value for name, value in r[split].items()}
        rows.append(row)
    return pd.DataFrame(rows)
