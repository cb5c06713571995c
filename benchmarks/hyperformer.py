"""HyperFormer beside full fine-tuning, as its Tables 5 and 6 measure: time and memory of a training step on eight tasks. A
task that is served without the hypernetworks, beside an adapter. And one task more, of up to a thousand.

    python benchmarks/hyperformer.py                                              # MiniLM, T5-Small and T5-Base, one thread
    python benchmarks/hyperformer.py --backbones t5-base --batch 32 --length 128  # the paper's batch

All variants are in one process and take turns, step by step; the ratio of a turn is to the first variant of the same turn,
and the median of the turns counts. On a CPU the time is the processor's, in one thread, so that what else the machine does
counts as little as it can. A batch is of one task, the next of the next; heads read T5, which writes nothing. Memory is the
highest use of some steps above what the model takes up, in a process of its own each. Weights are random, MiniLM's apart,
texts too.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from peftlib import grids, provenance
from peftlib.accounting.memory import PeakMemory
from peftlib.anatomy import Anatomy
from peftlib.apart import apart
from peftlib.backbones import SHAPES
from peftlib.commandline import Parser, at_least, run, writable
from peftlib.data.tasks import Task, get_task
from peftlib.hypernets import add_task, bake
from peftlib.model import Tuned
from peftlib.papers.hyperformer.errata import TASKS
from peftlib.papers.hyperformer.rows import METHODS, REDUCTION
from peftlib.training.speed import speed_up

RESULT = Path(__file__).parent / "results" / "hyperformer.json"
MEMORY_STEPS = 3
GROWN, COUNTS = ("HyperFormer", "HyperFormer++"), (8, 64, 999)  # tasks before one is added
OPTIONS = ("batch", "length", "steps", "precision")
METHOD = {name: method.format(r=REDUCTION) for name, method in METHODS.items()}


def plain(args: argparse.Namespace) -> nn.Module:
    import step  # beside this script, which is no part of a package

    return step.plain(args.backbone)


def built(method: str, args: argparse.Namespace, tasks: list[Task]) -> Tuned:
    """A model as the training loop sets it up."""
    torch.manual_seed(0)
    return ready(Tuned(plain(args), method, tasks), args)


def ready(model: Tuned, args: argparse.Namespace) -> Tuned:
    speed_up(model)
    model.anatomy.set_attention_dropout(0.0)
    model.to(args.device)
    return model.store_frozen(torch.bfloat16) if args.precision == "bf16" else model


def of_glue() -> list[Task]:
    return [get_task(name) for name in TASKS]


def many(count: int) -> list[Task]:
    """So many tasks of one kind."""
    return [dataclasses.replace(get_task("sst2"), name=f"task_{i}") for i in range(count)]


class Running:
    """Batches through a model, of a task after the other: steps of training, or answers."""

    def __init__(self, model: Tuned, args: argparse.Namespace, train: bool = True):
        ids = torch.randint(1000, 20_000, (args.batch, args.length), device=args.device)
        self.inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        self.model, self.train, self.number = model.train(train), train, 0
        self.optimizer = model.optimizer(1e-4, 0.0) if train else None
        self.autocast = torch.autocast(args.device.type, torch.bfloat16, enabled=args.precision == "bf16")

    def __call__(self) -> None:
        task = self.model.tasks[self.number % len(self.model.tasks)]
        self.number += 1
        with torch.set_grad_enabled(self.train), self.autocast:
            outputs = self.model(task, self.inputs)
        if self.optimizer is not None:
            outputs.float().square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()


def turns(variants: dict[str, Callable[[], object]], count: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Seconds of each variant, medians, and its ratio to the first of the same turn: median and quartiles."""
    import step  # as above

    found = {}
    for name, (seconds, ratios) in step.turns(variants, count, device).items():
        low, middle, high = statistics.quantiles(ratios, n=4)
        found[name] = {"seconds": statistics.median(seconds), "ratio": middle, "low": low, "high": high}
    return found


# --- in a process of its own each -------------------------------------------------------------------------------------
def steps(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Training on eight tasks, by method."""
    torch.set_num_threads(1)
    variants = {name: Running(built(method, args, of_glue()), args) for name, method in METHOD.items()}
    return turns(variants, args.steps, args.device)


def memory(method: str, args: argparse.Namespace) -> int | None:
    """Peak bytes of training with a method, above its model."""
    torch.set_num_threads(1)
    go = Running(built(method, args, of_glue()), args)
    with PeakMemory() as peak:
        for _ in range(MEMORY_STEPS):
            go()
    return peak.bytes


def answers(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """One task: an adapter, the same with a layer norm, HyperFormer++'s baked and written, and the backbone alone."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, one = plain(args), of_glue()[:1]
    bottleneck = Anatomy(net).shape.width // REDUCTION
    written = Tuned(copy.deepcopy(net), METHOD["HyperFormer++"], of_glue())
    models = {
        "Houlsby": Tuned(copy.deepcopy(net), f"Houlsby(bottleneck={bottleneck})", one),
        "Adapters": Tuned(copy.deepcopy(net), METHOD["Adapters†"], one),
        "baked": bake(written, TASKS[0], copy.deepcopy(net)),
        "written": written,
        "backbone": Tuned(net, "HeadOnly()", one),
    }
    variants = {name: Running(ready(model, args), args, train=False) for name, model in models.items()}
    return turns(variants, 4 * args.steps, args.device)


def growth(method: str, args: argparse.Namespace) -> list[dict]:
    """A training step with more tasks, beside that with the fewest; and the time to add one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, rows = plain(args), []
    models = {n: Tuned(copy.deepcopy(net), method, many(n)) for n in COUNTS}
    new = dataclasses.replace(get_task("sst2"), name="another")
    for n, model in models.items():
        started = time.process_time()
        grown = add_task(model, new, copy.deepcopy(net))
        seconds = time.process_time() - started
        trained = sum(p.numel() for p in grown.parameters() if p.requires_grad)
        heads = sum(p.numel() for p in grown.heads[new.name].parameters())
        rows.append({"tasks": n, "add_seconds": seconds, "trained_alone": trained - heads})
    variants = {str(n): Running(ready(model, args), args) for n, model in models.items()}
    found = turns(variants, args.steps, args.device)
    return [row | {"step": found[str(row["tasks"])]} for row in rows]


# --- all of them ------------------------------------------------------------------------------------------------------
def compare(args: argparse.Namespace) -> str:
    load, found = os.getloadavg()[0], {}
    for name in args.backbones:
        args.backbone = name
        found[name] = {
            "steps": apart(1, steps, args),
            "peak_bytes_of_steps": {row: apart(1, memory, method, args) for row, method in METHOD.items()},
            "answers": apart(1, answers, args),
            "growth": {row: apart(1, growth, METHOD[row], args) for row in GROWN},
        }
        print(name, {row: f"{step['ratio']:.2f}" for row, step in found[name]["steps"].items()}, flush=True)
    result = {
        **{name: getattr(args, name) for name in OPTIONS},
        "backbones": found,
        "machine": provenance.surroundings(1, load),
        **provenance.made(),
    }
    args.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return f"{json.dumps(result, indent=1, ensure_ascii=False)}\nwritten: {args.output}"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ("minilm", *SHAPES)
    parser.add_argument("--backbones", nargs="+", default=["minilm", "t5-small", "t5-base"], choices=known)
    parser.add_argument("--batch", type=at_least(1), default=16)
    parser.add_argument("--length", type=at_least(1), default=64)
    parser.add_argument("--steps", type=at_least(2), default=16)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=grids.native_precision())
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: compare(args))


if __name__ == "__main__":
    sys.exit(main())
