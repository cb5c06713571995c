"""Time of a training step with Intrinsic SAID, as a multiple of full fine-tuning's (Compacter prints 3.4 for T5-base).

    python benchmarks/said.py                                          # MiniLM, 32 sequences of 32 tokens
    python benchmarks/said.py --threads 2 --length 128 --precision bf16

Both models take turns at the same random batch, so that what else the machine does falls on each alike; shown are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from peftlib.backbones import load
from peftlib.data.tasks import get_task
from peftlib.model import Tuned

METHODS = ("Full()", "IntrinsicSAID(dimension=20000)")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def step(model: Tuned, optimizer: torch.optim.Optimizer, inputs: dict, labels: torch.Tensor, precision: str) -> float:
    """Seconds of one training step."""
    synchronize()
    started = time.perf_counter()
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=precision == "bf16"):
        outputs = model("sst", inputs)
    model.loss("sst", outputs, labels).backward()
    optimizer.step()
    optimizer.zero_grad()
    synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ids = torch.randint(1000, 20_000, (args.batch, args.length), device=device)
    inputs, labels = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, torch.arange(args.batch, device=device) % 5
    pairs = []
    for method in METHODS:
        model = Tuned(load(args.backbone).model, method, [get_task("sst")]).train().to(device)
        model = model.store_frozen(torch.bfloat16) if args.precision == "bf16" else model
        pairs.append((model, model.optimizer(1e-4, 0.01)))
    seconds: list[list[float]] = [[], []]
    for i in range(args.steps + 1):
        for times, (model, optimizer) in zip(seconds, pairs, strict=True):
            taken = step(model, optimizer, inputs, labels, args.precision)
            if i:  # the first step warms up
                times.append(taken)
    full, said = (statistics.median(times) for times in seconds)
    print(f"{args.backbone}, {args.batch} x {args.length} tokens, {args.precision}, {device.type}, {args.threads} threads: "
          f"full {1e3 * full:.0f} ms, Intrinsic SAID {1e3 * said:.0f} ms, {said / full:.2f} times as long")


if __name__ == "__main__":
    main()
