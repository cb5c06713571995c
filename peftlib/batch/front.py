"""The front door of the batch: plans, cleans up what a kill left, runs Snakemake, shows progress, names failures.

Everything it makes is under ``_build/<preset>``; records of runs are under ``data/runs/<preset>``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
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
FOLDER = {"train": "train", "book": "pages"}  # of each half: where its notebooks land, also its key in the plan
TARGET = {"train": "trained", "pages": "book"}  # Snakefile's rules
NOUN = {"train": "training", "pages": "the book"}


# --- the plan ---------------------------------------------------------------------------------------------------------
def write(path: Path, text: str) -> None:
    """Write in one step, and only if something is new: a newer file makes jobs run again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".tmp")
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)


def make_plan(preset: str, root: Path, build: Path) -> dict:
    """The batch's jobs as plain data, which Snakemake reads: every job with its parameters, inputs and resources.

    The preset's own values are written to ``build/preset.json``: a change of another preset makes no job run again.

    Raises:
        UsageError: unknown preset, or a notebook that lacks a parameter it is to be given.
    """
    from peftlib import records, study

    values, notebook = build / "preset.json", root / "notebooks" / "train.ipynb"
    write(values, json.dumps(dataclasses.asdict(study.get_preset(preset)), indent=1))
    train = {}
    for job in study.plan(preset):
        given = {"preset": preset, "experiment": job.experiment, "shard": job.shard, "shards": job.shards}
        parameters.check(notebook, given)
        train[f"{job.experiment}-{job.shard + 1}of{job.shards}"] = {
            "parameters": given, "inputs": [str(notebook), str(values)],
            "records": [str(path) for path in job.records],
            "gpu": int(job.gpu), "mem_mb": job.mem_mb, "minutes": job.minutes}
    report, papers = (root / "peftlib" / "report").rglob("*.py"), (root / "data" / "papers").rglob("*.csv")
    reads = [values, *sorted(report), *sorted(papers)]
    pages = {}
    for page in study.pages(preset):
        notebook = root / page.notebook
        given = {"preset": preset, "train": False}  # records are what passes between the halves
        given = {name: given[name] for name in given if name in parameters.declared(notebook)}
        parameters.check(notebook, given)
        wanted = dict.fromkeys(records.find(preset, run) for name in page.experiments
                               for run in study.runs(name, preset))
        pages[page.notebook.removesuffix(".ipynb")] = {
            "parameters": given, "inputs": [str(notebook), *map(str, reads)], "records": [str(path) for path in wanted]}
    return {"root": str(root), "train": train, "pages": pages, "sources": [str(file) for file in site.sources(root)]}


def write_plan(plan: dict, build: Path) -> None:
    """The plan where Snakemake finds it; a page's inputs are those of its records that exist now."""
    pages = {name: page | {"inputs": page["inputs"] + [r for r in page["records"] if os.path.exists(r)]}
             for name, page in plan["pages"].items()}
    write(build / "plan.json", json.dumps(plan | {"pages": pages}, indent=1))


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
    """Reads Snakemake's messages and gives one line a finished job."""

    gathering: int = 0  # jobs without work, which only gather the others
    started: float = field(default_factory=time.monotonic)
    total: int = 0
    done: int = 0
    names: dict[str, str] = field(default_factory=dict)  # of running jobs, by Snakemake's number
    failing: bool = False

    def feed(self, line: str) -> str | None:
        """What to print for a line of Snakemake's output, if anything."""
        if match := re.match(r"trained\s+(\d+)$", line):
            self.gathering = int(match[1])
        elif match := re.match(r"total\s+(\d+)$", line):
            self.total = int(match[1]) - self.gathering
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
    """What jobs see: this same peftlib, installed or not; and one thread each when several share the machine, so that
    the sums are the same, in the same order, whatever runs beside. A node computes in the precision planned here."""
    from peftlib import study

    threads = {"OMP_NUM_THREADS": "1"} if options.jobs > 1 and options.executor == "local" else {}
    here = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(here), "PEFTLIB_PRECISION": study.native_precision(),
            "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **threads}


def snakemake_log(build: Path) -> Path:
    """Everything Snakemake said in the last run."""
    return build / "logs" / "snakemake.log"


def snakemake(targets: list[str], build: Path, root: Path, options: Options) -> bool:
    """Bring targets of the Snakefile up to date in `build`, with progress; True if nothing failed."""
    base = [sys.executable, "-m", "snakemake", *targets,
            "--snakefile", str(root / "Snakefile"), "--directory", str(build),
            "--config", f"plan={build / 'plan.json'}", f"parent={os.getpid()}"]
    if any((build / ".snakemake" / "locks").glob("*")):  # left by a kill; ours is held by `alone`
        subprocess.run([*base, "--cores", "1", "--unlock"], capture_output=True, check=True)
    command = [*base, *options.arguments(), "--keep-going", "--rerun-incomplete", "--nocolor",
               "--rerun-triggers", "mtime", "params", "input"]
    progress, log = Progress(), snakemake_log(build)
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


def bring(folders: tuple[str, ...], plan: dict, build: Path, options: Options) -> list[str]:
    """Bring training jobs ("train"), pages and the book ("pages"), or both up to date; names of those that failed.

    The book is built even if pages failed, with stand-ins for them.
    """
    for folder in folders:
        missing = len(unfinished(folder, plan, build))
        print(f"{NOUN[folder]}: {len(plan[folder])} notebooks, {missing} of them never run or failed", flush=True)
    good = snakemake([TARGET[folder] for folder in folders], build, Path(plan["root"]), options)
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


def run(plan: dict, build: Path, options: Options, halves: tuple[str, ...] = ("train", "book")) -> int:
    """Run the halves of a plan in folder `build`; 0 if everything succeeded, 1 otherwise."""
    started, failed = time.monotonic(), []
    with alone(build):
        again = forget_lost_records(plan, build)
        if again:
            print(f"{again} training jobs run again: records of theirs are gone")
        folders = [FOLDER[half] for half in halves]
        # Pages depend on the records there are: only when all are there can one start of Snakemake do both halves.
        steps = [tuple(folders)] if not unfinished("train", plan, build) else [(folder,) for folder in folders]
        for step in steps:
            write_plan(plan, build)
            failed += bring(step, plan, build, options)
    if "book" in halves and site.index(build / "site").exists():
        print(f"\nthe book: {site.index(build / 'site')}")
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
    parser.add_argument("--only", choices=("train", "book"), help="one half: training, or the book from records")
    parser.add_argument("--parent", type=int, help="end when this process is no longer the parent (for make)")
    argv = sys.argv[1:] if argv is None else argv
    cut = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:cut]), argv[cut + 1:]


def stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    """Run the batch from the command line; 0 complete, 1 something failed, 2 refused, 130 stopped."""
    from peftlib import study

    args, extra = parse(argv)
    if args.parent is not None:
        guard.exit_with(args.parent)
    signal.signal(signal.SIGTERM, stop)
    halves = (args.only,) if args.only else ("book",) if args.preset in RENDER_ONLY else ("train", "book")
    try:
        if args.jobs < 1:
            raise UsageError(f"--jobs {args.jobs}: expected at least 1")
        root = repository()
        build = root / "_build" / args.preset
        options = Options(args.jobs, args.executor, tuple(extra))
        if "train" in halves:
            study.make_ready(args.preset)
        return run(make_plan(args.preset, root, build), build, options, halves)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        guard.kill_descendants()
