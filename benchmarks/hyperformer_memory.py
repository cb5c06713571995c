"""What a training step of HyperFormer's Table 5 takes in memory, estimated on shapes, without weights or a GPU.

    python benchmarks/hyperformer_memory.py        # T5-Small and T5-Base, eight tasks, the paper's batches; two minutes

Nothing is measured, and the same comes out on any machine. The paper says neither how long texts are, nor the precision.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from peftlib import provenance
from peftlib.accounting.estimate import DEVICES, PRECISIONS, estimate
from peftlib.commandline import Parser, at_least, run, writable
from peftlib.papers.hyperformer.counts import TASKS
from peftlib.papers.hyperformer.rows import METHODS, REDUCTION

RESULT = Path(__file__).parent / "results" / "hyperformer_memory.json"
BATCHES = {"t5-base": 32, "t5-small": 64}  # appendix A
OPTIONS = ("length", "answer", "precision", "device")


def compare(args: argparse.Namespace) -> str:
    options, rows = {name: getattr(args, name) for name in OPTIONS}, {}
    for backbone, batch in BATCHES.items():
        rows[backbone] = {}
        for name, method in METHODS.items():
            one = estimate(method.format(r=REDUCTION), backbone, batch, tasks=TASKS, **options)
            rows[backbone][name] = one.as_dict()
            print(f"{backbone}, {name}: {one.peak / 2**30:.2f} GiB", flush=True)
    args.output.write_text(
        json.dumps({**options, "backbones": rows, **provenance.made()}, indent=1, ensure_ascii=False) + "\n"
    )
    return f"written: {args.output}"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=at_least(1), default=128, help="tokens of a text")
    parser.add_argument("--answer", type=at_least(0), default=4, help="tokens to write: one of MNLI's three words")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--device", choices=DEVICES, default="cuda", help="whose kernels")
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: compare(args))


if __name__ == "__main__":
    sys.exit(main())
