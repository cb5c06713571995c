"""X-PEFT beside one Pfeiffer adapter: a training step at N = 100, 200 and 400, its memory, and a batch of many profiles.

    python benchmarks/xpeft.py                                       # MiniLM, 32 sequences of 64 tokens, one thread
    python benchmarks/xpeft.py --backbone bert-base-uncased --batch 64 --length 128      # the paper's, random weights

All variants are in one process and take turns, step by step; the ratio of a turn is to the adapter's, or the one profile's,
of the same turn, and the median of the turns counts. The time is the processor's, not the clock's, so that what else the
machine does counts as little as it can. Memory is the highest use of some steps above what the model takes up, bank
included, in a process of its own each. Profiles are hard, as many as rows, and drawn at random.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import torch

from peftlib import backbones, grids, provenance
from peftlib.accounting.memory import PeakMemory
from peftlib.apart import apart
from peftlib.commandline import Parser, at_least, run, writable
from peftlib.data.tasks import get_task
from peftlib.methods.adapters.xpeft import XPEFT
from peftlib.model import Tuned
from peftlib.serving import Profiles

RESULT = Path(__file__).parent / "results" / "xpeft.json"
ADAPTER = "PfeifferFFN(bottleneck=48, activation='relu', init='bert')"
SIZES = (100, 200, 400)
KINDS = {"soft": "XPEFT(adapters={})", "hard": "XPEFT(adapters={}, mask='hard')"}
METHODS = {"head alone": "HeadOnly()"} | {f"{kind} {n}": text.format(n) for n in SIZES for kind, text in KINDS.items()}
OPTIONS = ("backbone", "batch", "length", "steps", "precision")


def inputs_of(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    ids = torch.randint(1000, 20_000, (args.batch, args.length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class Stepping:
    """A method's training steps."""

    def __init__(self, method: str, args: argparse.Namespace, inputs: dict[str, torch.Tensor]):
        import step  # beside this script, which is no part of a package

        self.step, self.args, self.labels, self.number = step.one_step, args, torch.arange(args.batch) % 5, 0
        self.model, self.optimizer, self.forward = step.ours(method, args, inputs, self.labels)

    def __call__(self) -> None:
        self.step(self.forward, self.model, self.optimizer, self.labels, self.args.precision, self.number)
        self.number += 1


def turns(variants: dict, count: int) -> dict[str, float]:
    """Processor time of each variant over that of the first: medians over turns in which all run."""
    import step  # as above

    found = step.turns(variants, count, torch.device("cpu"))
    print({name: f"{1e3 * statistics.median(seconds):.0f} ms" for name, (seconds, _) in found.items()}, flush=True)
    return {name: statistics.median(ratios) for name, (_, ratios) in list(found.items())[1:]}


def serving(args: argparse.Namespace, inputs: dict[str, torch.Tensor], adapters: int) -> float:
    """A mixed batch over one of a single profile."""
    tasks = [get_task(f"authors_{i}") for i in range(args.batch)]
    loaded = backbones.load(args.backbone).model if args.backbone == "minilm" else None
    net = loaded or backbones.from_config(backbones.SHAPES[args.backbone]())
    model = Tuned(net, f"PerTask({XPEFT(adapters=adapters, mask='hard', start=1.0)})", tasks)
    if args.precision == "bf16":
        model.store_frozen(torch.bfloat16)
    profiles = Profiles(model)

    def go(mixed: bool) -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
            profiles(model.tasks, inputs) if mixed else model(model.tasks[0], inputs)

    return turns({"one": lambda: go(False), "mixed": lambda: go(True)}, 2 * args.steps)["mixed"]


def memory(method: str, args: argparse.Namespace) -> int:
    """Peak bytes of some steps of a method, above its model."""
    torch.manual_seed(0)
    step = Stepping(method, args, inputs_of(args))
    with PeakMemory() as peak:
        for _ in range(3):
            step()
    return peak.bytes or 0


def compare(args: argparse.Namespace) -> str:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    load, inputs = os.getloadavg()[0], inputs_of(args)
    methods = {"adapter": ADAPTER, **METHODS}
    peaks = {name: apart(1, memory, method, args) for name, method in methods.items()}
    step = turns({name: Stepping(method, args, inputs) for name, method in methods.items()}, args.steps)
    result = {
        **{name: getattr(args, name) for name in OPTIONS},
        "step_over_adapter": step,
        "mixed_over_one_profile": {str(n): serving(args, inputs, n) for n in SIZES},
        "peak_bytes_of_steps": peaks,
        "machine": provenance.surroundings(1, load),
        **provenance.made(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    return f"{json.dumps(result, indent=1)}\nwritten: {args.output}"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="minilm", choices=("minilm", *backbones.SHAPES))
    parser.add_argument("--batch", type=at_least(1), default=32)
    parser.add_argument("--length", type=at_least(1), default=64)
    parser.add_argument("--steps", type=at_least(1), default=10)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=grids.native_precision())
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: compare(args))


if __name__ == "__main__":
    sys.exit(main())
