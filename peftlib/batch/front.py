"""The front door of the batch: plans, cleans up what a kill left, runs Snakemake, shows progress, names failures.

Everything it makes is under ``_build/<preset>``; records of runs are under ``data/runs/<preset>``.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from peftlib import commandline, records
from peftlib.batch import guard, parameters, shown, site, slurm, times, warm
from peftlib.data.sources import FOLDER_VARIABLE
from peftlib.errors import PeftlibError, UsageError, short

RENDER_ONLY = {"published"}  # its records are committed: without a GPU `make book` renders them, `make train` makes them
FOLDER = {"train": "train", "book": "pages"}  # of each half: where its notebooks land, also its key in the plan
TARGET = {"train": "trained", "pages": "book"}  # Snakefile's rules
NOUN = {"train": "training", "pages": "the book"}
PROGRAM = "python -m peftlib.batch"
MOST_JOBS = 10_000
CANCELLING = 120.0  # seconds that Snakemake has to cancel what it submitted to a cluster


# --- the plan ---------------------------------------------------------------------------------------------------------
def write(path: Path, text: str) -> None:
    """Write in one step, and only if something is new."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        records.write_atomically(path, text)


def make_plan(preset: str, root: Path, build: Path) -> dict:
    """The batch's jobs as plain data: every job with its notebook, parameters, records and resources.

    A training job is decided by the digests of its runs, which its records are named after: what changes no run of a job
    does not make it run again. A page is rendered again when its records change, or what it shows besides (`shown`).

    Raises:
        UsageError: unknown preset, or a notebook that lacks a parameter it is to be given.
    """
    from peftlib import grids
    from peftlib.batch import plan as planning

    notebook, train = root / "notebooks" / "train.ipynb", {}
    for job in planning.jobs(preset):
        given = {
            "preset": preset,
            "experiment": job.experiment,
            "generation": job.generation,
            "shard": job.shard,
            "shards": job.shards,
        }
        parameters.check(notebook, given)
        train[job.name] = {
            "notebook": str(notebook),
            "parameters": given,
            "records": [str(path) for path in job.records],
            "after": job.after,
            "gpu": int(job.gpu),
            "mem_mb": job.mem_mb,
            "minutes": job.minutes,
        }

    @functools.cache  # several pages read an experiment
    def read_by(experiment: str) -> list[str]:
        return [str(records.find(preset, run)) for run in grids.trained_runs(experiment, grids.get_preset(preset))]

    pages = {}
    for page in planning.pages(preset):
        notebook = root / page.notebook
        given = {"preset": preset, "train": False}  # records are what passes between the halves
        given = {name: given[name] for name in given if name in parameters.declared(notebook)}
        parameters.check(notebook, given)
        wanted = dict.fromkeys(record for name in page.experiments for record in read_by(name))
        pages[page.notebook.removesuffix(".ipynb")] = {
            "notebook": str(notebook),
            "parameters": given,
            "records": list(wanted),
            "shows": shown.digest(notebook, page.experiments, grids.get_preset(preset)),
        }
    return {"root": str(root), "train": train, "pages": pages, "sources": [str(file) for file in site.sources(root)]}


def write_plan(plan: dict, build: Path) -> str:
    """The plan where Snakemake finds it, and its text: paths relative to its folder, and the digest of the contents of what
    each job reads, records that are there now included."""

    @functools.cache
    def content(file: str) -> str:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()

    def digest(files: Iterable[str]) -> str:
        here = {relative(file): content(file) for file in files if os.path.exists(file)}
        return hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()[:16]

    def relative(file: str) -> str:
        return os.path.relpath(file, build)

    def with_digest(job: dict, records: Iterable[str] = ()) -> dict:
        given = {key: job[key] for key in job if key != "records"}
        return given | {
            "notebook": relative(job["notebook"]),
            "records": [relative(r) for r in job["records"]],
            "digest": digest([job["notebook"], *records]),
        }

    told = {
        "root": relative(plan["root"]),
        "digest": digest(plan["sources"]),
        "train": {name: with_digest(job) for name, job in plan["train"].items()},
        "pages": {name: with_digest(page, page["records"]) for name, page in plan["pages"].items()},
    }
    text = json.dumps(told, indent=1)
    write(build / "plan.json", text)
    return text


# --- what earlier batches left ----------------------------------------------------------------------------------------
def forget_lost_records(plan: dict, build: Path) -> int:
    """Remove the output of every training job that has a record missing, so that it runs again; returns how many."""
    outputs = {build / "train" / f"{name}.ipynb": job["records"] for name, job in plan["train"].items()}
    lost = [output for output, made in outputs.items() if output.exists() and not all(map(os.path.exists, made))]
    for output in lost:
        output.unlink()
    return len(lost)


def clean(plan: dict, build: Path) -> None:
    """Remove what killed batches left half-done, and what nobody asks for any more: files that were being written,
    checkpoints of runs that the plan does not have or that are finished, what kernels wrote down about themselves."""
    written = {Path(record) for job in plan["train"].values() for record in job["records"]}
    for folder in {build, build / "checkpoints", build / "failed", *(record.parent for record in written)}:
        records.remove_scratch(folder)
    unfinished = {record.stem for record in written if not record.exists()}
    for checkpoint in (build / "checkpoints").glob("*.pt"):
        if checkpoint.stem not in unfinished:
            checkpoint.unlink()
    shutil.rmtree(build / "home" / "runtime", ignore_errors=True)
    for output in (output for half in FOLDER.values() for output in (build / half).rglob("*.ipynb")):
        if output.stat().st_mtime > time.time():  # Snakemake refuses a book that is older than its pages
            os.utime(output)
    if not site.index(build / "site").exists():
        (build / "book.done").unlink(missing_ok=True)


# --- Snakemake --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Options:
    """How Snakemake is run: how many jobs at a time, by which executor, and what else it is told."""

    jobs: int = 2
    executor: str = "local"
    extra: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        return self.executor == "local"

    def check(self) -> None:
        """Refuse what Snakemake would refuse later, and in more words.

        Raises:
            UsageError: an impossible number of jobs, an executor that is not installed, or a cluster out of reach.
        """
        if not 1 <= self.jobs <= MOST_JOBS:
            raise UsageError(f"--jobs {self.jobs}: expected a number from 1 to {MOST_JOBS}")
        prefix = "snakemake_executor_plugin_"
        installed = sorted(
            m.name.removeprefix(prefix).replace("_", "-") for m in pkgutil.iter_modules() if m.name.startswith(prefix)
        )
        if self.executor not in ("local", *installed):
            raise UsageError(
                f"--executor {short(self.executor)}: expected local, or one that is installed (a package "
                f"snakemake-executor-plugin-NAME): {', '.join(installed) or 'none is'}"
            )
        if self.executor == "slurm":
            slurm.status_arguments()

    def arguments(self) -> list[str]:
        """Snakemake's arguments. On this machine its memory and GPUs bound what runs at the same time."""
        if not self.local:
            asking = slurm.status_arguments() if self.executor == "slurm" else []
            return ["--executor", self.executor, *asking, "--jobs", str(self.jobs), "--latency-wait", "60", *self.extra]
        memory = psutil.virtual_memory().total // 2**20
        limits = [f"mem_mb={memory}", f"gpu={max(1, len(gpus()))}"]
        return ["--cores", str(self.jobs), "--resources", *limits, *self.extra]


def gpus() -> list[str]:
    """This machine's GPUs, as CUDA_VISIBLE_DEVICES names them."""
    there = os.environ.get("CUDA_VISIBLE_DEVICES")
    if there is not None:
        return [name.strip() for name in there.split(",") if name.strip()]
    return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


@dataclass
class Progress:
    """Reads Snakemake's messages and gives one line a finished job."""

    gathering: int = 0  # jobs without work, which only gather the others
    started: float = field(default_factory=time.monotonic)
    total: int = 0
    done: int = 0
    names: dict[str, str] = field(default_factory=dict)  # of running jobs, by Snakemake's number
    begun: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # of finished jobs, by name
    failing: bool = False

    def feed(self, line: str) -> str | None:
        """What to print for a line of Snakemake's output, if anything."""
        if match := re.match(r"trained\s+(\d+)$", line):
            self.gathering = int(match[1])
        elif match := re.match(r"total\s+(\d+)$", line):
            self.total = int(match[1]) - self.gathering
        elif match := re.match(r"Job (\d+): (.+?)(?: {2,}.*)?$", line):
            self.names[match[1]], self.begun[match[1]] = match[2].strip(), time.monotonic()
        elif match := re.match(r"Error in rule", line):
            self.failing = True
        elif self.failing and (match := re.match(r"\s+jobid: (\d+)", line)):
            self.failing = False
            return self.report(match[1], "FAILED")
        elif match := re.match(r"Finished jobid: (\d+)", line):
            if match[1] in self.names:
                self.seconds[self.names[match[1]]] = time.monotonic() - self.begun[match[1]]
            return self.report(match[1], "done")
        return None

    def report(self, job: str, outcome: str) -> str | None:
        name = self.names.pop(job, None)
        if name is None:
            return None
        self.done += 1
        return f"[{self.done}/{self.total}] {clock(time.monotonic() - self.started)}  {outcome:6} {name}"


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


# What would decide what runs, where, in how many threads or how it looks, and is often left in a shell by other work.
FOREIGN = re.compile(
    "(SNAKEMAKE|JUPYTER|PAPERMILL|ACCELERATE|SPHINX|OMP|GOMP|KMP|MKL|ONEDNN|DNNL)_|SPHINXOPTS|SPHINXBUILD"
    "|JPY_|IPYTHON|MPL|MATPLOTLIBRC|NVIDIA_TF32|PYTHON(STARTUP|OPTIMIZE|INSPECT|WARNINGS)"
)


def environment(options: Options, root: Path, build: Path) -> dict[str, str]:
    """What jobs see: the caller's environment but for what is `FOREIGN`, this same peftlib, installed or not, and folders
    of their own for what tools keep at home.

    One thread a job, whatever the number of jobs: sums are then the same, in the same order, to the last digit. A node
    computes in the precision planned here. An executor's own settings are let through.
    """
    from peftlib import grids

    executor = f"SNAKEMAKE_{options.executor.upper().replace('-', '_')}_"
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name) or name.startswith(executor)}
    here, home = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])], build / "home"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return {
        "HF_HOME": os.path.join(cache, "huggingface"),
        **kept,
        "PYTHONPATH": os.pathsep.join(here),
        "PEFTLIB_ROOT": str(root),
        "PEFTLIB_PRECISION": grids.native_precision(),
        "XDG_CACHE_HOME": str(home / "cache"),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "jupyter"),
        "JUPYTER_DATA_DIR": str(home / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def snakemake_log(build: Path) -> Path:
    """Everything Snakemake said in the last run."""
    return build / "logs" / "snakemake.log"


def snakemake(targets: list[str], build: Path, root: Path, options: Options) -> tuple[bool, dict[str, float]]:
    """Bring targets of the Snakefile up to date in `build`, with progress; whether nothing failed, and the seconds that
    each finished job took.

    Raises:
        UsageError: Snakemake stopped before its first job: it does not know an argument, or cannot write.
        KeyboardInterrupt: it was killed.
    """
    base = [
        sys.executable,
        "-m",
        "snakemake",
        *targets,
        "--snakefile",
        os.path.relpath(root / "Snakefile", build),
        "--workflow-profile",
        "none",
        "--config",
        "plan=plan.json",
        f"parent={os.getpid()}",
        f"executor={options.executor}",
        *([f"gpus={','.join(gpus())}"] if options.local and len(gpus()) > 1 else []),
    ]
    seen: dict[str, Any] = {"cwd": build, "env": environment(options, root, build), "text": True, "errors": "replace"}
    if any((build / ".snakemake" / "locks").glob("*")):  # left by a kill; ours is held by `alone`
        subprocess.run([*base, "--cores", "1", "--unlock"], capture_output=True, check=True, **seen)
    command = [
        *base,
        *options.arguments(),
        "--keep-going",
        "--rerun-incomplete",
        "--nocolor",
        "--rerun-triggers",
        "params",
        "input",
    ]
    progress, log = Progress(), snakemake_log(build)
    log.parent.mkdir(parents=True, exist_ok=True)
    warmed = warm.kernels(build, seen["env"]) if options.local and TARGET["pages"] in targets else contextlib.nullcontext()
    with log.open("w", encoding="utf-8") as file, warmed:
        # On a cluster Snakemake alone can cancel its jobs: it gets a group, and so no Ctrl-C but ours.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **seen, process_group=None if options.local else 0
        )
        try:
            for line in process.stdout:  # type: ignore[union-attr]  # a pipe
                file.write(line)
                if message := progress.feed(line.rstrip("\n")):
                    print(message, flush=True)
            process.wait()
        except KeyboardInterrupt:
            if not options.local:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(CANCELLING)
            raise
    if process.returncode < 0:
        raise KeyboardInterrupt(f"Snakemake was killed by signal {-process.returncode}")
    if process.returncode and not progress.total:
        raise UsageError(f"Snakemake stopped before its first job: {site.tail(log, 1)} (all it said: {log})")
    return process.returncode == 0, progress.seconds


# --- one batch --------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def alone(build: Path):
    """Hold the folder: two batches in one would delete each other's outputs. The lock ends with the process.

    Raises:
        UsageError: another batch runs there.
    """
    build.mkdir(parents=True, exist_ok=True)
    with (build / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another batch is running in {build}: wait for it, or stop it") from error
        yield


def unfinished(half: str, plan: dict, build: Path) -> list[str]:
    """Jobs of a half that have no output."""
    return [name for name in plan[half] if not (build / half / f"{name}.ipynb").exists()]


def explain(name: str, log: Path) -> None:
    """Name what failed, with the last lines of its log."""
    print(f"\nfailed: {name}\n  log: {log}\n" + "\n".join(f"  | {line}" for line in site.tail(log, 12).splitlines()))


def bring(folders: tuple[str, ...], plan: dict, build: Path, options: Options) -> list[str]:
    """Bring training jobs ("train"), pages and the book ("pages"), or both up to date; names of those that failed.

    The book is built even if pages failed, with stand-ins for them.
    """
    for folder in folders:
        missing = len(unfinished(folder, plan, build))
        print(f"{NOUN[folder]}: {len(plan[folder])} notebooks, {missing} of them never run or failed", flush=True)
    good, took = snakemake([TARGET[folder] for folder in folders], build, Path(plan["root"]), options)
    times.keep(plan, build, took)
    failed = {folder: unfinished(folder, plan, build) for folder in folders}
    for folder, names in failed.items():
        for name in names:
            explain(name, build / "logs" / folder / f"{name}.log")
    names = [name for names in failed.values() for name in names]
    log = build / "logs" / "book.log"
    if failed.get("pages"):
        site.build_book(site.stage(Path(plan["root"]), build), log)
    elif not good and not names:
        explain("the book" if "pages" in folders else "Snakemake", log if "pages" in folders else snakemake_log(build))
        names = ["the book" if "pages" in folders else "Snakemake"]
    return names


def state(halves: tuple[str, ...], plan: dict, build: Path) -> str:
    """A digest of all that decides what the halves make: jobs, parameters, and the contents of what is read."""
    return hashlib.sha256(json.dumps([halves, write_plan(plan, build)]).encode()).hexdigest()


def is_complete(halves: tuple[str, ...], plan: dict, build: Path) -> bool:
    """Whether all was made, from the very same: Snakemake takes seconds to find that there is nothing to do."""
    made = not any(unfinished(FOLDER[half], plan, build) for half in halves)
    made &= "book" not in halves or (build / "book.done").exists()
    complete = build / "complete"
    return made and complete.exists() and complete.read_text() == state(halves, plan, build)


def run(plan: dict, build: Path, options: Options, halves: tuple[str, ...] = ("train", "book")) -> int:
    """Run the halves of a plan in folder `build`; 0 if everything succeeded, 1 otherwise."""
    started, failed = time.monotonic(), []
    with alone(build):
        clean(plan, build)
        again = forget_lost_records(plan, build)
        if again:
            print(f"{again} training jobs run again: records of theirs are gone")
        folders = [FOLDER[half] for half in halves]
        # Pages depend on the records there are: only when all are there can one start of Snakemake do both halves.
        steps = [tuple(folders)] if not unfinished("train", plan, build) else [(folder,) for folder in folders]
        if is_complete(halves, plan, build) and not options.extra:
            print("nothing to do: all is made from what is there")
            steps = []
        for step in steps:
            made_from = state(halves, plan, build)
            failed += bring(step, plan, build, options)
        if steps and not failed:
            write(build / "complete", made_from)
    if "book" in halves and site.index(build / "site").exists():
        print(f"\nthe book: {site.index(build / 'site')}")
    if steps:
        told = times.read(times.path_of(build))
        print("\n".join(["", times.table(told, halves), *times.over_budget(told, Path(plan["root"]))]))
    print(f"{'NOT complete after' if failed else 'complete in'} {clock(time.monotonic() - started)}")
    for name in failed:
        print(f"  failed: {name}")
    return 1 if failed else 0


# --- the command line -------------------------------------------------------------------------------------------------
def repository() -> Path:
    """The project's folder, see `peftlib.records.root`.

    Raises:
        UsageError: it is no clone of the repository, or its path cannot be used.
    """
    root = records.root().absolute()
    if not ((root / "Snakefile").exists() and (root / "notebooks").is_dir()):
        raise UsageError(f"{root} has no Snakefile: start the batch in a clone of the repository")
    if not str(root).isprintable() or os.pathsep in str(root):  # a surrogate, where bytes are no UTF-8, is not printable
        raise UsageError(
            f"{str(root)!r}: a path with a {os.pathsep!r}, a line break or bytes that are no text cannot be "
            "used (PYTHONPATH and logs could not hold it); move the clone"
        )
    return root


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Arguments of the front door, and those after ``--``, which are Snakemake's."""
    parser = commandline.Parser(prog=PROGRAM, description=__doc__, epilog="Arguments after -- go to Snakemake.")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--jobs", type=int, default=2, help="jobs at a time (default 2)")
    parser.add_argument("--executor", default="local", help="where jobs run: local (default), slurm, ...")
    parser.add_argument("--only", choices=("train", "book"), help="one half: training, or the book from records")
    parser.add_argument("--parent", type=int, help="end when this process is no longer the parent (for make)")
    argv = sys.argv[1:] if argv is None else argv
    cut = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:cut]), argv[cut + 1 :]


def halves_of(preset: str, only: str | None) -> tuple[str, ...]:
    """The halves that are asked for. Those of a preset whose records are committed are trained, too, where a GPU does what
    is missing in minutes and the data is at hand."""
    if only:
        return (only,)
    if preset in RENDER_ONLY and not (has_gpu() and os.path.isdir(os.environ.get(FOLDER_VARIABLE, ""))):
        return ("book",)
    return ("train", "book")


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextlib.contextmanager
def stoppable():
    """SIGINT and SIGTERM end what is done here; and whatever ends it, nothing that it started is left.

    Raises:
        KeyboardInterrupt: at either signal.
    """

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    for signum in guard.ENDING:
        signal.signal(signum, stop)
    try:
        yield
    finally:
        guard.kill_descendants()


def main(argv: list[str] | None = None) -> int:
    """Run the batch from the command line; 0 complete, 1 something failed, 2 refused, 130 stopped."""
    from peftlib.batch import forecast
    from peftlib.batch import plan as planning

    args, extra = parse(argv)
    if args.parent is not None:
        guard.exit_with(args.parent)
    halves = halves_of(args.preset, args.only)
    try:
        options = Options(args.jobs, args.executor, tuple(extra))
        options.check()
        root = repository()
        build = root / "_build" / args.preset
        if "train" in halves:
            planning.make_ready(args.preset)
            if said := forecast.announced(args.preset, args.jobs):
                print(said, flush=True)
        plan = make_plan(args.preset, root, build)
        with stoppable():
            return run(plan, build, options, halves)
    except (PeftlibError, OSError) as error:
        return commandline.refuse(PROGRAM, str(error))
    except KeyboardInterrupt as stopped:
        print(f"{str(stopped) or 'stopped'}; the same command goes on from here", file=sys.stderr)
        return 130
