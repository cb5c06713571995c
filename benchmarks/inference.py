"""What a method costs when its model is used: tokens a second in evaluation, beside the plain backbone.

    python benchmarks/inference.py             # every method of the comparison, on a quiet machine
    python benchmarks/inference.py --quick     # a rehearsal: two rounds, shown and not written

Every method of the comparison as training leaves it and, where that can be, merged into the backbone; texts one at a time
and in batches. The reference is what full fine-tuning leaves: the backbone and a head. All models are in one process and
take turns, in another order each round: what else the machine does falls on each alike. A ratio is that of the medians over
rounds; its spread is that of the rounds' own ratios, from the first quartile to the third. Nothing has been trained, which
changes no time, and what a method would look for in data is anywhere; texts are random and without padding. In bf16 all
weights of the backbone are kept in bf16.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from transformers.utils import logging

from peftlib import backbones, grids, provenance
from peftlib.commandline import Parser, at_least, run, writable
from peftlib.comparison import METHOD_RUNS
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.model import Tuned
from peftlib.training.speed import speed_up

RESULT = Path(__file__).parent / "results" / "inference.json"
REFERENCE = "Full()"
TASK = "sst"
CALLS = {1: 8, 32: 3}  # of a model in each round, by size of the batch: about as long for each
Model = tuple[str, bool]  # expression; merged?


# --- one model --------------------------------------------------------------------------------------------------------
def texts(batch: int, args: argparse.Namespace) -> dict[str, Tensor]:
    ids = torch.randint(1000, 20_000, (batch, args.length), generator=torch.Generator().manual_seed(batch))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def build(method: str, merged: bool, args: argparse.Namespace) -> Tuned | None:
    """A model as it is used; None if the method cannot be merged."""
    torch.manual_seed(0)
    real = args.backbone == "minilm"
    base = backbones.load("minilm").model if real else backbones.from_config(backbones.SHAPES[args.backbone]())
    model = Tuned(base, method, [get_task(TASK)])
    model.assume()
    model.finish()
    if merged:
        try:
            model.merge()
        except UsageError:
            return None
    speed_up(model.eval().requires_grad_(False))
    if args.precision == "bf16":
        model.store_frozen(torch.bfloat16)
    return model.to(args.device)


def seconds(model: Tuned, given: dict[str, Tensor], calls: int, args: argparse.Namespace) -> float:
    """The median of some evaluations."""
    found, on, device = [], args.precision == "bf16", torch.get_device_module(args.device)
    with torch.no_grad(), torch.autocast(args.device, torch.bfloat16, enabled=on, cache_enabled=False):
        for _ in range(calls):
            device.synchronize()
            started = time.perf_counter()
            model(TASK, given)
            device.synchronize()
            found.append(time.perf_counter() - started)
    return statistics.median(found)


# --- all of them ------------------------------------------------------------------------------------------------------
def measure(args: argparse.Namespace) -> dict[Model, dict[int, list[float]]]:
    """Seconds of an evaluation by model and size of the batch, one for each round."""
    torch.set_num_threads(args.threads)
    logging.disable_progress_bar()
    models = {}
    for method in dict.fromkeys((REFERENCE, *METHOD_RUNS.values())):
        for merged in (False, True) if method != REFERENCE else (False,):
            if (model := build(method, merged, args)) is not None:
                models[method, merged] = model
    given = {batch: {name: t.to(args.device) for name, t in texts(batch, args).items()} for batch in CALLS}
    found: dict[Model, dict[int, list[float]]] = {name: {batch: [] for batch in CALLS} for name in models}
    order, shuffle = list(models), random.Random(0).shuffle
    for number in range(args.rounds + 1):  # one to warm up
        started = time.perf_counter()
        shuffle(order)
        for name in order:
            for batch, calls in CALLS.items():
                took = seconds(models[name], given[batch], calls, args)
                found[name][batch] += [took] if number else []
        print(f"round {number} of {args.rounds}: {time.perf_counter() - started:.0f} s", flush=True)
    return found


def summary(mine: list[float], reference: list[float], tokens: int) -> dict[str, float]:
    """Tokens a second, and how many times those of the reference: the ratio of medians, and quartiles of the rounds' own.

    Args:
        mine, reference: seconds of an evaluation, one for each round. tokens: of an evaluation.
    """
    each = [theirs / ours for ours, theirs in zip(mine, reference, strict=True)]
    low, _, high = statistics.quantiles(each, n=4, method="inclusive")
    return {
        "tokens_per_second": tokens / statistics.median(mine),
        "ratio": statistics.median(reference) / statistics.median(mine),
        "low": low,
        "high": high,
    }


def told(cells: dict[str, dict[str, float]]) -> str:
    """Ratios of a model, by size of the batch, with their spreads."""
    return ", ".join(f"{cell['ratio']:.2f} ({cell['low']:.2f} to {cell['high']:.2f})" for cell in cells.values())


def compare(args: argparse.Namespace) -> str:
    """Measure all of them, and write it down, or show it."""
    load = os.getloadavg()[0]
    found = measure(args)
    methods: dict[str, dict] = {}
    for (method, merged), by_batch in found.items():
        methods.setdefault(method, {})["merged" if merged else "unmerged"] = {
            str(batch): summary(rounds, found[REFERENCE, False][batch], batch * args.length)
            for batch, rounds in by_batch.items()
        }
    if args.output is None:
        return "\n".join(
            f"{method}, {state}: {told(cells)}" for method, by in methods.items() for state, cells in by.items()
        )
    options = {name: getattr(args, name) for name in ("backbone", "length", "rounds", "precision")}
    result = {
        **options,
        "batches": list(CALLS),
        "reference": REFERENCE,
        "methods": methods,
        "machine": provenance.surroundings(args.threads, load),
        **provenance.made(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    return f"written: {args.output}"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="minilm", choices=("minilm", *backbones.SHAPES))
    parser.add_argument("--length", type=at_least(1), default=32)
    parser.add_argument("--rounds", type=at_least(2), default=12)
    parser.add_argument("--threads", type=at_least(1), default=os.cpu_count())
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=grids.native_precision())
    parser.add_argument("--output", type=writable, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="a rehearsal: two rounds, shown and not written")
    args = parser.parse_args(argv)
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.quick:
        args.rounds, args.output = 2, None
    return run(parser.prog, lambda: compare(args))


if __name__ == "__main__":
    sys.exit(main())
