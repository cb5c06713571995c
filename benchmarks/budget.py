"""What a training step of every method of Compacter's Table 3 takes on T5-Base, and how many sequences fit a GPU of 24 GB.

    python benchmarks/budget.py

Nothing is measured: peaks and FLOPs are estimated on shapes, without weights or a GPU, and are the same on any machine.
They are kept in a file because the estimates of all methods together take minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from peftlib import provenance
from peftlib.accounting.budget import largest_batch, parse_bytes
from peftlib.accounting.estimate import DEVICES, PRECISIONS, estimate
from peftlib.commandline import Parser, at_least, run, writable
from peftlib.papers.compacter.counts import table3_rows

RESULT = Path(__file__).parent / "results" / "budget.json"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="t5-base")
    parser.add_argument("--budget", default="24GB", help="of the paper's GPU (section 5.5)")
    parser.add_argument("--batch", type=at_least(1), default=100, help="to compare methods at; the paper's for GLUE")
    parser.add_argument("--length", type=at_least(1), default=128, help="tokens, as in the paper (appendix A)")
    parser.add_argument("--answer", type=at_least(0), default=4, help="tokens to write: one of MNLI's three words")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="the paper does not say which")
    parser.add_argument("--device", choices=DEVICES, default="cuda", help="whose kernels")
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: compare(args))


def compare(args: argparse.Namespace) -> str:
    """Every method of the paper's Table 3, at one batch and at the largest within the budget."""
    budget = parse_bytes(args.budget)
    options = {"length": args.length, "precision": args.precision, "device": args.device, "answer": args.answer}
    methods = {}
    for row, method in table3_rows().items():
        one = estimate(method, args.backbone, args.batch, **options)
        largest = largest_batch(method, args.backbone, budget, **options)
        methods[row] = {"method": method, "one": one.as_dict(), "largest": largest.as_dict()}
        print(f"{row}: {one.peak / 2**30:.2f} GiB at {args.batch}, {largest.batch} within {args.budget}", flush=True)
    result = {
        "backbone": args.backbone,
        "budget": budget,
        "batch": args.batch,
        **options,
        "methods": methods,
        **provenance.made(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    return f"written: {args.output}"


if __name__ == "__main__":
    sys.exit(main())
