"""What decides a run beside its own description: code, versions, machine, and the content of its data and its backbone."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from peftlib import records
from peftlib.data.sources import SPLITS, load_split, local_folder
from peftlib.data.tasks import get_task
from peftlib.errors import PeftlibError, UsageError
from peftlib.names import split_name
from peftlib.records import Run
from peftlib.schema import conform, read_json

PACKAGE = Path(__file__).parent
CORE = ("anatomy.py", "edits.py", "model.py", "backbones.py", "checkpoints.py", "names.py", "methods/base.py", "training",
        "data")


def code_digest(method: str) -> str:
    """Digest of the sources that decide a run of `method`: the core, the files of its methods and of what those import."""
    from peftlib.methods import parse

    files = {f for part in CORE for f in ([PACKAGE / part] if part.endswith(".py") else (PACKAGE / part).rglob("*.py"))}
    for leaf, _ in parse(method).leaves(("task",)):
        module = sys.modules[type(leaf).__module__]
        used = {getattr(value, "__module__", None) or "" for value in vars(module).values()} | {module.__name__}
        files |= {Path(sys.modules[name].__file__) for name in used if name.startswith("peftlib.methods.")}
    return _digest_of_sources(files)


def _digest_of_sources(files: Iterable[Path]) -> str:
    h = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes().replace(b"\r\n", b"\n")  # a clone made on Windows has the same code
        h.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + content)
    return h.hexdigest()[:16]


def commit() -> str | None:
    """The commit of the working tree, with "+" if it has changes; None outside a repository."""

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=records.root(), capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "peftlib") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version(), **{p: version(p) for p in ("torch", "transformers", "accelerate")}}


def machine() -> dict[str, str | int]:
    """What decides speed: the device and its cores or name."""
    import torch

    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "threads": torch.get_num_threads()}
    return {"device": platform.machine() + " CPU", "threads": torch.get_num_threads()}


# --- have the inputs of a record changed? -----------------------------------------------------------------------------
def changed_inputs(run: Run, record: dict) -> str | None:
    """"other data" or "other weights" if the run would now read others than its record was made from; else None, also
    where they cannot be had here, or not cheaply (the hub)."""
    if "diverged" in record:  # which does not hold what it read
        return None
    for split, limit in zip(SPLITS, run.limits, strict=True):
        for task in run.tasks:
            if _differ(record["data"][split][task], data_digest(task, split, run.source, limit)):
                return "other data"
    return "other weights" if _differ(record["backbone_digest"], weights_digest(run.backbone)) else None


def _differ(then: str, now: str | None) -> bool:
    return now is not None and then != now


def data_digest(task: str, split: str, source: str, limit: int | None) -> str | None:
    """Digest of a split's content as `peftlib.data.load_split` gives it, or None where it cannot be had. Once computed it
    is kept in a file, for as long as the sources (embedded) or the task's files (local) stay as they are."""
    if source == "hub":
        return None
    try:
        stamp = _data_sources()
        if source == "local":
            found = get_task(task)
            folder = local_folder() / found.suite / (found.folder or found.name)
            stamp += "".join(map(_stamp, sorted(folder.glob("*.parquet"))))
        return _kept(f"{source} {task} {split} {limit}", stamp, lambda: load_split(task, split, source, limit=limit).digest)
    except (PeftlibError, OSError):
        return None


@functools.cache
def _data_sources() -> str:
    return _digest_of_sources((PACKAGE / "data").rglob("*.py"))


def weights_digest(backbone: str) -> str | None:
    """Digest of a folder's weights as `peftlib.backbones.load` gives it, kept as those of data are; None for the embedded
    MiniLM, which is checked whenever it is loaded, and where there is no such folder."""
    name, _ = split_name(backbone)
    if name == "minilm":
        return None
    folder = records.root() / "data" / name if name == "t5-embedded" else Path(name)
    try:
        stamp = "".join(map(_stamp, sorted(folder.glob("*.safetensors*"))))
        return _kept(f"weights {folder.resolve()}", stamp, lambda: _digest_of_weights(folder)) if stamp else None
    except (PeftlibError, OSError):
        return None


def _digest_of_weights(folder: Path) -> str:
    from peftlib import checkpoints

    return checkpoints.digest_of_files(checkpoints.weight_files(folder))


def _stamp(file: Path) -> str:
    """Changes when a file's content does, unless somebody hides it."""
    facts = file.stat()
    return f" {file.resolve()} {facts.st_size} {facts.st_mtime_ns}"


def _kept(name: str, stamp: str, compute: Callable[[], str]) -> str:
    """A digest from the file that keeps them, or computed and kept if it was of another stamp."""
    path = records.root() / "_build" / "digests" / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json"
    kept = {"name": name, "stamp": stamp}
    try:
        found = conform(read_json(path), dict[str, str], str(path))
        if found.items() >= kept.items() and "digest" in found:
            return found["digest"]
    except UsageError:  # none yet, or a broken one
        pass
    kept["digest"] = compute()
    try:
        records.write_atomically(path, json.dumps(kept))
    except OSError:  # nothing is lost but time
        pass
    return kept["digest"]
