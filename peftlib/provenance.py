"""What decides a run beside its own description: code, versions, machine, and the content of its data and its backbone."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path

from peftlib import closure, records
from peftlib.data import embedded
from peftlib.data.sources import SPLITS, load_split, local_folder
from peftlib.data.tasks import SUITES, get_task, made_from
from peftlib.errors import PeftlibError
from peftlib.expressions import names
from peftlib.kept import kept, stamp_of
from peftlib.names import split_name
from peftlib.records import Run

# What a run imports and its numbers cannot depend on: how it is described, written down, and what is said of errors.
NO_NUMBERS = {"closure.py", "errors.py", "kept.py", "packed.py", "provenance.py", "records.py", "schema.py"}
# What is imported so that one can choose from it. Only what a run has chosen is its own.
CHOICES = ("methods/", "data/suites/", "data/embedded.py", "data/grammar/")
NOT_KEPT = "unknown (a record without digests of files)"


# --- the code ---------------------------------------------------------------------------------------------------------
def sources_of(run: Run) -> dict[str, str]:
    """Digest by file of the package of what decides a run: the training loop, the methods and the sources of the data, with
    all that they import."""
    methods = closure.homes(names(run.method), "methods")
    return _digests({"training/loop.py", "methods/base.py", *methods, *_of_data(run.tasks, run.source)})


def sources_of_methods(methods: Collection[str], *roots: str) -> dict[str, str] | None:
    """The same for what files of the package (`roots`) say of methods, whatever the task. None if a method is not of the
    package."""
    homes = {method: closure.homes([method], "methods") for method in methods}
    if not all(homes.values()):
        return None
    suites = {f"data/suites/{suite}.py" for suite in SUITES}
    return _digests({*roots, "methods/base.py", *suites, *(file for found in homes.values() for file in found)})


def code_digest(sources: dict[str, str]) -> str:
    """16 hexadecimal digits over digests of files."""
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()[:16]


def changed_sources(record: dict, now: dict[str, str]) -> list[str]:
    """The files that decide a record's run now, or did then, and are not what they were; `NOT_KEPT` if the record does not
    say what they were."""
    then = record.get("sources")
    if then is None:
        return [NOT_KEPT]
    return sorted(file for file in then.keys() | now.keys() if then.get(file) != now.get(file))


def _digests(roots: Iterable[str]) -> dict[str, str]:
    def chosen(file: str, used: str) -> bool:
        return not used.startswith(CHOICES) or any(file.startswith(room) and used.startswith(room) for room in CHOICES)

    return closure.digests(closure.closure(roots, follow=chosen) - NO_NUMBERS)


def _of_data(tasks: Iterable[str], source: str) -> set[str]:
    """The files that make these tasks' data."""
    tasks = made_from(tasks)
    files = {f"data/suites/{suite}.py" for suite, there in SUITES.items() for task in there if task.name in tasks}
    if source == "embedded":
        modules = (embedded.GRAMMAR[task].__module__ for task in tasks if task in embedded.GRAMMAR)
        files |= {"data/embedded.py", *(f"data/grammar/{module.split('.')[-1]}.py" for module in modules)}
    return files


# --- commit, versions, machine ----------------------------------------------------------------------------------------
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


def processor() -> str:
    """The CPU's name, where the system tells it, and the widest of its instructions that decide how fast bf16 is."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    fast = [name for name in ("amx_bf16", "avx512_bf16", "avx2") if capabilities.get(name)]
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # another system than Linux
        told = ""
    lines = (line.partition(":") for line in told.splitlines())
    name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), platform.machine() + " CPU")
    return f"{name} with {fast[0] if fast else 'neither AMX nor AVX2'}"


def made() -> dict[str, object]:
    """What every result of a benchmark says of its making: versions, date and commit."""
    return {"versions": versions(), "date": datetime.date.today().isoformat(), "commit": commit()}


def surroundings(threads: int, load_before: float) -> dict[str, str | int | float]:
    """What a benchmark was measured on, asked for at its end: `machine`, its processor and cores, and how many processes
    wanted one, by the system's average over a minute, before it began and now."""
    now = os.getloadavg()[0]
    return {
        **machine(),
        "processor": processor(),
        "threads": threads,
        "cores": os.cpu_count() or 1,
        "load_before": load_before,
        "load_after": now,
    }


# --- have the inputs of a record changed? -----------------------------------------------------------------------------
def changed_inputs(run: Run, record: dict) -> str | None:
    """ "other data" or "other weights" if the run would now read others than its record was made from; else None, also
    where they cannot be had here, or not cheaply (the hub)."""
    if "diverged" in record:  # which does not hold what it read
        return None
    for split, limit in zip(SPLITS, run.limits, strict=True):
        for task in run.tasks:
            if _differ(record["data"][split][task], data_digest(task, split, run.source, limit)):
                return "other data"
    return "other weights" if _differ(record["backbone_digest"], weight_files_digest(run.backbone)) else None


def _differ(then: str, now: str | None) -> bool:
    return now is not None and then != now


def data_digest(task: str, split: str, source: str, limit: int | None) -> str | None:
    """Digest of a split's content as `peftlib.data.load_split` gives it, or None where it cannot be had. Once computed it
    is kept in a file, for as long as the sources (embedded) or the task's files (local) stay as they are."""
    if source == "hub":
        return None
    try:
        stamp = code_digest(_digests({"data/sources.py", *_of_data([task], source)}))
        if source == "local":
            for found in map(get_task, sorted(made_from([task]))):
                folder = local_folder() / found.suite / (found.folder or found.name)
                stamp += "".join(map(stamp_of, sorted(folder.glob("*.parquet"))))
        return kept(
            f"{source} {task} {split} {limit}",
            stamp,
            lambda: load_split(task, split, source, limit=limit).digest,  # type: ignore[arg-type]  # which looks at both
            str,
        )
    except (PeftlibError, OSError):
        return None


def weight_files_digest(backbone: str) -> str | None:
    """Digest of a folder's weights as `peftlib.backbones.load` gives it, kept as those of data are; None for the embedded
    MiniLM, which is checked whenever it is loaded, and where there is no such folder."""
    name, _ = split_name(backbone)
    if name == "minilm":
        return None
    folder = records.root() / "data" / name if name == "t5-embedded" else Path(name)
    try:
        stamp = "".join(map(stamp_of, sorted(folder.glob("*.safetensors*"))))
        return kept(f"weights {folder.resolve()}", stamp, lambda: _digest_of_weights(folder), str) if stamp else None
    except (PeftlibError, OSError):
        return None


def delta_digest(path: Path) -> str | None:
    """16 hexadecimal digits over names and bits of a delta's tensors, kept as those of data are; None where there is no
    such file. What the file says besides has no order, so that its bytes are not the same twice."""

    def read() -> str:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            header.pop("__metadata__", None)
            digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()[:16]

    try:
        return kept(f"delta {path.resolve()}", stamp_of(path), read, str)
    except (OSError, ValueError):
        return None


def _digest_of_weights(folder: Path) -> str:
    from peftlib import checkpoints

    return checkpoints.digest_of_files(checkpoints.weight_files(folder))
