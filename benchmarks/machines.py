"""How fast a machine trains: some epochs of one reference run, full fine-tuning on SST.

Adds the machine, under the name that it is given, to ``benchmarks/results/machines.json``, from which ``peftlib plan``
takes how long runs would take there. On a CPU one thread a run, as in the batch; what a busy machine gives to others does
not count: seconds are those of the processor. Needs PEFTLIB_DATA.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import statistics
import sys
import time

import torch

from peftlib import grids, provenance
from peftlib.commandline import Parser, at_least, run
from peftlib.errors import UsageError, short
from peftlib.hours import WANTED, machines_file, reference
from peftlib.schema import read_json
from peftlib.training import loop


def measure(args: argparse.Namespace) -> str:
    """Train, and write down what it took."""
    torch.set_num_threads(1)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else provenance.processor()
    if WANTED[args.name] not in device:
        raise UsageError(
            f"--name {short(args.name)}: this is {device}: expected a device with {WANTED[args.name]}; run it there"
        )
    whole = reference()
    recipe = dataclasses.replace(whole.recipe, epochs=args.epochs + 1, precision=grids.native_precision())
    part = dataclasses.replace(whole, recipe=recipe, limits=(args.examples, 32, 32))
    began, busy = time.perf_counter(), time.process_time()
    history = loop.Trainer(part, None, progress=False).fit().history[1:]  # the first epoch warms up
    share = 1.0 if torch.cuda.is_available() else (time.process_time() - busy) / (time.perf_counter() - began)
    speed = statistics.median(epoch["examples"] / epoch["seconds"] for epoch in history) / min(share, 1.0)
    found = {
        "name": args.name,
        "parallel": args.parallel,
        "examples_per_second": speed,
        "device": f"{device}, {recipe.precision}",
        "date": datetime.date.today().isoformat(),
        "commit": provenance.commit(),
    }
    path = machines_file()
    others = [one for one in read_json(path) if one["name"] != args.name] if path.exists() else []
    path.write_text(json.dumps([*others, found], indent=1) + "\n", encoding="utf-8")
    return f"{args.name}: {speed:.0f} examples a second ({share:.0%} of a processor); written: {path}"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, choices=WANTED, help="the machine; peftlib plan has a column for each")
    parser.add_argument("--parallel", type=at_least(1), default=1 if torch.cuda.is_available() else os.cpu_count())
    parser.add_argument("--examples", type=at_least(1), default=640)
    parser.add_argument("--epochs", type=at_least(1), default=3)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
