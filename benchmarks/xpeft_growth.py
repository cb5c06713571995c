"""X-PEFT's users, up to ten thousand in one server: bytes of their files and in memory, time to take one up and to switch.

    python benchmarks/xpeft_growth.py            # MiniLM, hard masks over a hundred adapters, one head for all, one thread

Every user is a file: masks drawn at random, a norm a block. A batch of one row is answered for the same user each time, and
for another one each time, drawn among all that are held; both take turns, and the median of the turns counts. The time is
the processor's. Files lie in a temporary folder and are removed.
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
from tempfile import TemporaryDirectory

import psutil
import torch

from peftlib import backbones, deltas, provenance
from peftlib.commandline import Parser, at_least, run, writable
from peftlib.data.tasks import get_task
from peftlib.model import Tuned
from peftlib.papers.xpeft.rows import masks
from peftlib.serving import Profiles
from peftlib.tensorfiles import read_tensors, write_tensors

RESULT = Path(__file__).parent / "results" / "xpeft_growth.json"
ADAPTERS, K, WARM_UP = 100, 50, 3


def seconds(go, *args) -> float:
    started = time.process_time()
    go(*args)
    return time.process_time() - started


def measure(args: argparse.Namespace) -> str:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    load, process = os.getloadavg()[0], psutil.Process()
    expression = masks(ADAPTERS, "hard", K)
    ids = torch.randint(1000, 20_000, (args.batch, args.length))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with TemporaryDirectory() as place:
        folder = Path(place)
        task, net = get_task("authors"), backbones.load(args.backbone).model
        deltas.save(Tuned(net, "HeadOnly()", [task]), folder / "head")
        net = backbones.load(args.backbone).model
        method = f"HeadOnly(given={str(folder / 'head')!r}) + {expression}"
        model = Tuned(net, method, [task])
        server = Profiles(model)
        deltas.save(model, folder / "first")
        metadata, tensors = read_tensors(folder / "first")
        (name,) = (name for name in tensors if name.endswith(".mask"))
        counted = sum(t.nbytes for t in tensors.values())
        shape = (*tensors[name].shape[:-1], ADAPTERS)
        server.held.clear()

        rows, taken, disk = [], [], 0
        for users in sorted(args.users):
            while len(server.held) < users:
                chosen = torch.rand(shape).argsort(-1) < K  # k of each row
                path = folder / f"{len(server.held)}"
                write_tensors(path, tensors | {name: chosen}, metadata)
                disk += path.stat().st_size
                taken.append(seconds(server.add, path, [f"user {len(server.held)}"]))
            everyone = list(server.held)
            same, other = [], []
            for _ in range(args.rounds + WARM_UP):
                same.append(seconds(server, everyone[:1] * args.batch, inputs))
                other.append(seconds(server, [random.choice(everyone)] * args.batch, inputs))
            ratio = statistics.median(o / s for o, s in zip(other[WARM_UP:], same[WARM_UP:], strict=True))
            rows.append(
                {
                    "users": users,
                    "disk_bytes": disk,
                    "held_bytes": server.nbytes,
                    "resident_bytes": process.memory_info().rss,
                    "add_seconds": statistics.median(taken),
                    "same_seconds": statistics.median(same[WARM_UP:]),
                    "switch_seconds": statistics.median(other[WARM_UP:]),
                    "switch_over_same": ratio,
                }
            )
            print(rows[-1], flush=True)
    result = {
        "backbone": args.backbone,
        "method": expression,
        "batch": args.batch,
        "length": args.length,
        "rounds": args.rounds,
        "counted_bytes": counted,
        "users": rows,
        "machine": provenance.surroundings(1, load),
        **provenance.made(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    return f"{json.dumps(result, indent=1)}\nwritten: {args.output}"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--users", type=at_least(1), nargs="+", default=[1, 100, 1_000, 10_000])
    parser.add_argument("--batch", type=at_least(1), default=1)
    parser.add_argument("--length", type=at_least(1), default=64)
    parser.add_argument("--rounds", type=at_least(1), default=20)
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: measure(args))


if __name__ == "__main__":
    sys.exit(main())
