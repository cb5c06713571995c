"""Keep what a batch took, one row a batch: for a history of what the book costs.

    make book PRESET=quick && python benchmarks/batch_times.py --preset quick

Reads ``_build/<preset>/times.json``, which the batch writes, and appends to ``benchmarks/results/batch_times.csv``. Seconds
of jobs are of this machine, with as many jobs at a time as the batch had.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import sys
from pathlib import Path

from peftlib import provenance, records
from peftlib.batch import times
from peftlib.commandline import Parser, run, writable

RESULT = Path(__file__).parent / "results" / "batch_times.csv"
COLUMNS = ("date", "commit", "machine", "cores", "load", "preset", "pages", "pages_seconds", "book_seconds", "experiments")


def row(found: times.Times) -> dict[str, object]:
    """A batch as a row; ``experiments`` holds ``name=seconds`` of those whose jobs ran on this machine."""
    jobs = {name: each["jobs"] for name, each in found["experiments"].items() if each["jobs"] is not None}
    return {
        "date": datetime.date.today().isoformat(),
        "commit": provenance.commit(),
        "machine": f"{platform.machine()} CPU",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "preset": found["preset"],
        "pages": found["pages"],
        "pages_seconds": found["pages_seconds"],
        "book_seconds": found["book_seconds"],
        "experiments": " ".join(f"{name}={seconds:.0f}" for name, seconds in jobs.items()),
    }


def append(args: argparse.Namespace) -> str:
    new = not args.output.exists()
    added = row(times.read(times.path_of(records.root() / "_build" / args.preset)))
    with args.output.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(added)
    return "\n".join(f"{name:14} {value}" for name, value in added.items())


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: append(args))


if __name__ == "__main__":
    sys.exit(main())
