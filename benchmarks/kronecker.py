"""x H for H = sum_i A_i (x) B_i on one thread: H built, or not (`peftlib.methods.adapters.kronecker`), side by side.

    python benchmarks/kronecker.py                      # less than a minute
    python benchmarks/kronecker.py --repeats 9

Every shape is that of an adapter's down-projection (k = d, m = a), with B_i in full (PHM-Adapter) and of rank one
(Compacter). Measured is what a training step does there: the product, and the gradients of x, A and B; fp32. The time is
the processor's, not the clock's, so that what else the machine does counts as little as it can; the two orders take
turns, and the median of the repeats counts. Beside the times stands the order that the count of products chooses,
which is what the library does.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from peftlib import provenance
from peftlib.commandline import Parser, at_least, run, writable
from peftlib.methods.adapters import kronecker

SHAPES = [  # d, a, n, tokens
    (384, 12, 4, 2048),
    (384, 24, 4, 2048),
    (384, 24, 8, 2048),
    (384, 48, 12, 2048),
    (768, 24, 4, 512),
    (768, 24, 4, 4096),
    (768, 24, 8, 2048),
    (768, 24, 12, 2048),
    (768, 48, 4, 2048),
    (768, 96, 12, 2048),
    (1024, 32, 4, 512),
    (1024, 32, 4, 4096),
    (1024, 96, 8, 2048),
]
RESULT = Path(__file__).parent / "results" / "kronecker.json"


def operands(d: int, a: int, n: int, tokens: int, rank: int | None) -> tuple:
    """x, A and B (or s and t), all with gradients."""

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, requires_grad=True)

    B = draw(n, d // n, a // n) if rank is None else (draw(n, d // n, rank), draw(n, rank, a // n))
    return draw(tokens, d), draw(n, n, n), B


def seconds(order: Callable, x: torch.Tensor, A: torch.Tensor, B: torch.Tensor | kronecker.Factors) -> float:
    """Processor time of one product, forwards and backwards."""
    trained = [x, A, B] if torch.is_tensor(B) else [x, A, *B]
    started = time.process_time()
    torch.autograd.grad(order(x, A, B).sum(), trained)
    return time.process_time() - started


def compare(d: int, a: int, n: int, tokens: int, rank: int | None, repeats: int) -> dict:
    """Both orders in turn, after one round that does not count."""
    given = operands(d, a, n, tokens, rank)
    orders = {"built": kronecker.built, "factored": kronecker.factored}
    rounds = [{name: seconds(order, *given) for name, order in orders.items()} for _ in range(repeats + 1)][1:]
    times = {name: 1000 * statistics.median(r[name] for r in rounds) for name in orders}
    takes = kronecker.products(n, d, a, tokens, rank)
    return {
        "d": d,
        "a": a,
        "n": n,
        "tokens": tokens,
        "rank": rank,
        "milliseconds": times,
        "products": takes,
        "chosen": "built" if takes["built"] < takes["factored"] else "factored",
        "faster": min(times, key=times.get),
    }


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=at_least(1), default=7)
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: compare_all(args))


def compare_all(args: argparse.Namespace) -> str:
    """Both orders of every shape."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load, rows = os.getloadavg()[0], []
    for rank in (None, 1):
        for shape in SHAPES:
            rows.append(row := compare(*shape, rank, args.repeats))
            ms = row["milliseconds"]
            print(
                f"d={row['d']:<5} a={row['a']:<3} n={row['n']:<3} tokens={row['tokens']:<5} "
                f"{'B in full' if rank is None else 'rank one':<10} built {ms['built']:7.2f} ms  factored "
                f"{ms['factored']:7.2f} ms  by count: {row['chosen']}",
                flush=True,
            )
    right = sum(row["chosen"] == row["faster"] for row in rows)
    result = {
        "rows": rows,
        "chosen_was_faster": right,
        "repeats": args.repeats,
        "threads": 1,
        "load_before": load,
        "torch": version("torch"),
        "date": datetime.date.today().isoformat(),
        "commit": provenance.commit(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    return f"the order with fewer products was the faster one in {right} of {len(rows)}"


if __name__ == "__main__":
    sys.exit(main())
