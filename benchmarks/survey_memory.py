"""What a training step of every row of the survey's Table 5 takes, at its microbatches, on T5-Large, 3B and 11B.

    python benchmarks/survey_memory.py                    # all rows, minutes
    python benchmarks/survey_memory.py "T5-3B UniPELT"    # these; the others stay as they are in the file

Nothing is measured: peaks are estimated on shapes, without weights or a GPU, and are the same on any machine. They are kept
in a file because all together take minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from peftlib import provenance
from peftlib.accounting.estimate import estimate
from peftlib.commandline import Parser, run, writable
from peftlib.errors import UsageError, short
from peftlib.papers.survey.memory import steps

RESULT = Path(__file__).parent / "results" / "survey_memory.json"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="such as 'T5-3B MAM' (default: all)")
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: compare(args))


def compare(args: argparse.Namespace) -> str:
    """Each row on each of its data sets."""
    known = steps()
    if unknown := [row for row in args.rows if row not in known]:
        raise UsageError(f"no row {short(unknown[0])} with a method that is built: expected one of {', '.join(known)}")
    found = {}
    if args.rows and args.output.exists():
        found = json.loads(args.output.read_text())["rows"]
    for row in args.rows or known:
        found[row] = {}
        for dataset, step in known[row].items():
            try:
                one = estimate(**step).as_dict()  # type: ignore[arg-type]  # as its arguments are
            except UsageError:  # of a method that does not write: a head reads it
                step = step | {"answer": 0}
                one = estimate(**step).as_dict()  # type: ignore[arg-type]  # as above
            found[row][dataset] = one | step
            print(f"{row}, {dataset}: {one['peak'] / 2**30:.2f} GiB", flush=True)
    rows = {row: found[row] for row in known if row in found}
    args.output.write_text(json.dumps({"rows": rows, **provenance.made()}, indent=1) + "\n")
    return f"written: {args.output}"


if __name__ == "__main__":
    sys.exit(main())
