"""The front door of the batch: plans, cleans up what a kill left, runs Snakemake, shows progress, names failures.

Everything it makes is under ``_build/<preset>``; records of runs are under ``data/runs/<preset>``.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from peftlib.batch import guard, parameters, site
from peftlib.errors import UsageError

RENDER_ONLY = {"published"}  # its records are committed: `make book` renders them, `make train` makes them


# --- the plan ---------------------------------------------------------------------------------------------------------
def make_plan(preset: str, root: Path) -> dict:
    """The batch's jobs as plain data, which Snakemake reads: every job with its parameters, inputs and resources.

    Raises:
        UsageError: unknown preset, or a notebook that lacks a parameter it is to be given.
    """
    from peftlib import records, study

    study.get_preset(preset)
    presets, notebook = root / "peftlib" / "presets.json", root / "notebooks" / "train.ipynb"
    train = {}
    for job in study.plan(preset):
        given = {"preset": preset, "experiment": job.experiment, "shard": job.shard, "shards": job.shards}
        parameters.check(notebook, given)
        train[f"{job.experiment}-{job.shard + 1}of{job.shards}"] = {
            "parameters": given, "inputs": [str(notebook), str(presets)],
            "records": [str(records.path_of(preset, digest)) for digest in job.digests],
            "gpu": int(job.gpu), "mem_mb": job.mem_mb, "minutes": job.minutes}
    reads = [presets, *sorted((root / "peftlib" / "report").rglob("*.py")), *sorted((root / "data" / "papers").rglob("*.csv"))]
    pages = {}
    for page in study.pages(preset):
        notebook = root / page.notebook
        given = {"preset": preset, "train": False}  # records are what passes between the halves
        given = {name: given[name] for name in given if name in parameters.declared(notebook)}
        parameters.check(notebook, given)
        wanted = dict.fromkeys(records.path_of(preset, run.digest) for name in page.experiments
                               for run in study.runs(name, preset))
        pages[page.notebook.removesuffix(".ipynb")] = {
            "parameters": given, "inputs": [str(notebook), *map(str, reads)], "records": [str(path) for path in wanted]}
    return {"root": str(root), "train": train, "pages": pages, "sources": [str(file) for file in site.sources(root)]}


def write_plan(plan: dict, build: Path) -> Path:
    """The plan where Snakemake finds it; a page's inputs are those of its records that exist now."""
    pages = {name: page | {"inputs": page["inputs"] + [r for r in page["records"] if os.path.exists(r)]}
             for name, page in plan["pages"].items()}
    path = build / "plan.json"
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(plan | {"pages": pages}, indent=1), encoding="utf-8")
    os.replace(scratch, path)
    return path


def forget_lost_records(plan: dict, build: Path) -> int:
    """Remove the output of every training job that has a record missing, so that it runs again; returns how many."""
    lost = [build / "train" / f"{name}.ipynb" for name, job in plan["train"].items()
            if not all(os.path.exists(record) for record in job["records"])]
    lost = [output for output in lost if output.exists()]
    for output in lost:
        output.unlink()
    return len(lost)


# --- Snakemake --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Options:
    """How Snakemake is run: how many jobs at a time, by which executor, and what else it is told."""

    jobs: int = 2
    executor: str = "local"
    extra: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Snakemake's arguments. On this machine its memory and GPUs bound what runs at the same time."""
        if self.executor != "local":
            return ["--executor", self.executor, "--jobs", str(self.jobs), "--latency-wait", "60", *self.extra]
        memory = psutil.virtual_memory().total // 2**20
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        limits = [f"mem_mb={memory}", f"gpu={max(1, gpus)}"]
        return ["--cores", str(self.jobs), "--resources", *limits, *self.extra]


@dataclass
class Progress:
    """Reads Snakemake's messages and prints one line a finished job."""

    started: float = field(default_factory=time.monotonic)
    total: int = 0
    done: int = 0
    names: dict[str, str] = field(default_factory=dict)  # of running jobs, by Snakemake's number
    failing: bool = False

    def feed(self, line: str) -> str | None:
        """What to print for a line of Snakemake's output, if anything."""
        if match := re.match(r"total\s+(\d+)$", line):
            self.total = int(match[1]) - 1  # without the rule that only gathers the others
        elif match := re.match(r"Job (\d+): (.+?)(?: {2,}.*)?$", line):
            self.names[match[1]] = match[2].strip()
        elif match := re.match(r"Error in rule", line):
            self.failing = True
        elif self.failing and (match := re.match(r"\s+jobid: (\d+)", line)):
            self.failing = False
            return self.report(match[1], "FAILED")
        elif match := re.match(r"Finished jobid: (\d+)", line):
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


def environment(options: Options) -> dict[str, str]:
    """One thread a job when several share the machine: the same sums in the same order whatever runs beside."""
    threads = {"OMP_NUM_THREADS": "1"} if options.jobs > 1 and options.executor == "local" else {}
    return {**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false", **threads}


def snakemake(target: str, build: Path, root: Path, options: Options) -> bool:
    """Bring one target of the Snakefile up to date in `build`, with progress; True if nothing failed."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(build),
            "--config", f"plan={build / 'plan.json'}", f"parent={os.getpid()}"]
    if any((build / ".snakemake" / "locks").glob("*")):  # left by a kill; ours is held by `alone`
        subprocess.run([*base, "--cores", "1", "--unlock"], capture_output=True, check=True)
    command = [*base, target, *options.arguments(), "--keep-going", "--rerun-incomplete", "--nocolor",
               "--rerun-triggers", "mtime", "params", "input"]
    progress, log = Progress(), build / "logs" / f"snakemake-{target}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env=environment(options), errors="replace")
        for line in process.stdout:
            file.write(line)
            if message := progress.feed(line.rstrip("\n")):
                print(message, flush=True)
        process.wait()
    if process.returncode and not progress.total:  # it stopped before its first job: its own words are all there is
        print(site.tail(log, 15), file=sys.stderr)
    return process.returncode == 0


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


def train(plan: dict, build: Path, options: Options) -> list[str]:
    """Run the training jobs that have something to do; names of those that failed."""
    print(f"training: {len(plan['train'])} jobs, {len(unfinished('train', plan, build))} of them to run", flush=True)
    good = snakemake("trained", build, Path(plan["root"]), options)
    failed = unfinished("train", plan, build)
    for name in failed:
        explain(name, build / "logs" / "train" / f"{name}.log")
    return failed if failed or good else ["training: Snakemake stopped"]


def render(plan: dict, build: Path, options: Options) -> list[str]:
    """Render the pages that changed, and the book; names of those that failed. The book is built all the same."""
    print(f"the book: {len(plan['pages'])} notebooks, {len(unfinished('pages', plan, build))} without a page", flush=True)
    good, log = snakemake("book", build, Path(plan["root"]), options), build / "logs" / "book.log"
    failed = unfinished("pages", plan, build)
    for name in failed:
        explain(name, build / "logs" / "pages" / f"{name}.log")
    if failed:
        site.build_book(site.stage(Path(plan["root"]), build), log)
    elif not good:
        explain("the book", log)
        failed = ["the book"]
    if site.index(build / "site").exists():
        print(f"\nthe book: {site.index(build / 'site')}")
    return failed


def run(plan: dict, build: Path, options: Options, halves: tuple[str, ...] = ("train", "book")) -> int:
    """Run the halves of a plan in folder `build`; 0 if everything succeeded, 1 otherwise."""
    started, failed = time.monotonic(), []
    with alone(build):
        again = forget_lost_records(plan, build)
        if again:
            print(f"{again} training jobs run again: records of theirs are gone")
        if "train" in halves:
            write_plan(plan, build)
            failed += train(plan, build, options)
        if "book" in halves:
            write_plan(plan, build)  # with the records there are now
            failed += render(plan, build, options)
    print(f"{'NOT complete after' if failed else 'complete in'} {clock(time.monotonic() - started)}")
    for name in failed:
        print(f"  failed: {name}")
    return 1 if failed else 0


# --- the command line -------------------------------------------------------------------------------------------------
def repository() -> Path:
    """The folder with Snakefile and notebooks: the current one, else that of an editable install.

    Raises:
        UsageError: neither.
    """
    for folder in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (folder / "Snakefile").exists() and (folder / "notebooks").is_dir():
            return folder
    raise UsageError(f"{Path.cwd()} has no Snakefile: start the batch in a clone of the repository")


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Arguments of the front door, and those after ``--``, which are Snakemake's."""
    parser = argparse.ArgumentParser(prog="python -m peftlib.batch", description=__doc__,
                                     epilog="Arguments after -- go to Snakemake.")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--jobs", type=int, default=2, help="jobs at a time (default 2)")
    parser.add_argument("--executor", default="local", help="where jobs run: local (default), slurm, ...")
    parser.add_argument("--only", choices=("train", "book"), help="one half: only train, or only render what is recorded")
    parser.add_argument("--parent", type=int, help="end when this process is no longer the parent (for make)")
    argv = sys.argv[1:] if argv is None else argv
    cut = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:cut]), argv[cut + 1:]


def stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    """Run the batch from the command line; 0 complete, 1 something failed, 2 refused, 130 stopped."""
    args, extra = parse(argv)
    if args.parent is not None:
        guard.exit_with(args.parent)
    signal.signal(signal.SIGTERM, stop)
    halves = (args.only,) if args.only else ("book",) if args.preset in RENDER_ONLY else ("train", "book")
    try:
        if args.jobs < 1:
            raise UsageError(f"--jobs {args.jobs}: expected at least 1")
        root = repository()
        return run(make_plan(args.preset, root), root / "_build" / args.preset,
                   Options(args.jobs, args.executor, tuple(extra)), halves)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        guard.kill_descendants()
