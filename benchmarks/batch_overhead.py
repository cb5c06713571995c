"""What the batch costs beyond training: wall time of the graph against the sum of its training times.

    python benchmarks/batch_overhead.py                       # the `smoke` preset, two workers
    python benchmarks/batch_overhead.py --preset quick --jobs 2

The batch runs in a fresh copy of the working tree without records, so that everything is trained. Three times are
compared: the graph's wall time (both halves, and the training half alone), the seconds spent in training steps
(``seconds`` of each record), and the seconds of whole runs (from ``started`` to ``finished``: loading the model,
evaluation and writing included). With j workers that never wait, the wall time is 1/j of the runs' time. A second start
of the same batch finds nothing to do, and is timed too.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peftlib import provenance, records
from peftlib.commandline import Parser, at_least, run, writable

RESULT = Path(__file__).parent / "results" / "batch_overhead.json"
LEFT_BEHIND = shutil.ignore_patterns("_build", "runs", ".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache")


def timed(arguments: list[str], folder: Path) -> tuple[float, str]:
    """Run the batch in a folder; its wall time in seconds, and what it printed.

    Raises:
        RuntimeError: a job failed; with the end of what the batch said.
    """
    started = time.perf_counter()
    environment = os.environ | {"PEFTLIB_ROOT": str(folder), "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "peftlib.batch", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"the batch failed in {folder}:\n{(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - started, done.stdout


def instant(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")


def jobs_run(output: str) -> int:
    """Jobs that the batch's own progress lines report as done."""
    return len(re.findall(r"^\[\d+/\d+\].* done ", output, flags=re.MULTILINE))


def measure(preset: str, jobs: int) -> dict:
    """Run a whole batch from nothing, and account for its time."""
    with tempfile.TemporaryDirectory(prefix="peftlib-batch-") as scratch:
        folder = Path(scratch) / "tree"
        shutil.copytree(records.root(), folder, ignore=LEFT_BEHIND)
        options = ["--preset", preset, "--jobs", str(jobs)]
        train, said = timed([*options, "--only", "train"], folder)
        book, more = timed([*options, "--only", "book"], folder)
        again, _ = timed(options, folder)
        made = [records.read(path) for path in sorted((folder / "data" / "runs" / preset).glob("*.json"))]
    steps = sum(r.get("seconds", 0.0) for r in made)  # none of a run that diverged
    runs = sum((instant(r["finished"]) - instant(r["started"])).total_seconds() for r in made)
    return {
        "runs": len(made),
        "train_jobs": jobs_run(said),
        "book_jobs": jobs_run(more),
        "wall_seconds": train + book,
        "wall_train_seconds": train,
        "wall_book_seconds": book,
        "wall_again_seconds": again,
        "training_seconds": steps,
        "run_seconds": runs,
        "wall_over_training": (train + book) / steps,
        "wall_train_over_training": train / steps,
        "wall_train_over_runs": train / runs,
        "ideal": 1 / jobs,
    }


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="smoke", choices=("smoke", "quick"))
    parser.add_argument("--jobs", type=at_least(1), default=2, help="workers (default 2)")
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: account(args))


def account(args: argparse.Namespace) -> str:
    """A whole batch, measured, and where its time went."""
    load = os.getloadavg()[0]
    result = {
        "preset": args.preset,
        "jobs": args.jobs,
        **measure(args.preset, args.jobs),
        "machine": {**provenance.machine(), "cores": os.cpu_count(), "load_before": load},
        **provenance.made(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    return "\n".join(
        f"{name:26} {value:.2f}" if isinstance(value, float) else f"{name:26} {value}" for name, value in result.items()
    )


if __name__ == "__main__":
    sys.exit(main())
