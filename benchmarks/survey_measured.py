"""Peak memory of a training step of every row of the survey's Table 5, measured on a GPU beside its estimate.

    python benchmarks/survey_measured.py                        # T5-Large, 3B, 11B: random weights, minutes on one H200
    python benchmarks/survey_measured.py --model T5-Large       # one size

Each row takes the larger of its two steps (`peftlib.papers.survey.memory`), all in bf16, on a copy of one backbone. Its
peak is what the allocator had in use at most, without that backbone; null where it does not fit. The file is
written row by row.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path
from unittest import mock

import torch

from peftlib import backbones, provenance
from peftlib.accounting.memory import PeakMemory
from peftlib.commandline import Parser, run, writable
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.model import Tuned
from peftlib.papers.survey import memory
from peftlib.papers.survey.counts import BACKBONES

DEVICE = "cuda"
RESULT = Path(__file__).parent / "results" / "survey_measured.json"


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(BACKBONES), help="may be repeated (default: all)")
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: measure(args))


def measure(args: argparse.Namespace) -> str:
    if not torch.cuda.is_available():
        raise UsageError("there is no GPU whose allocator could tell: run it where torch.cuda.is_available()")
    rows = {}
    for name in args.model or BACKBONES:
        base = backbones.from_config(backbones.SHAPES[BACKBONES[name]](), DEVICE, "text").to(torch.bfloat16)
        for row in [row for row in memory.steps() if row.partition(" ")[0] == name]:
            asked = memory.estimated(row)
            if asked is None:  # of a method that came in after the estimates
                continue
            rows[row] = {"method": asked["method"], "dataset": asked["dataset"], "peak": peak(base, asked)}
            print(f"{row}: {rows[row]['peak']} bytes measured, {asked['peak']} estimated", flush=True)
            machine = {"rows": rows, "device": torch.cuda.get_device_name(), **provenance.made()}
            args.output.write_text(json.dumps(machine, indent=1) + "\n")
        del base
        torch.cuda.empty_cache()
    return f"written: {args.output}"


def peak(base: torch.nn.Module, asked: dict) -> int | None:
    """Bytes of one training step on a copy of the backbone; None if it does not fit."""
    try:
        with PeakMemory() as found:
            step(copy.deepcopy(base), asked)
        return found.bytes
    except torch.OutOfMemoryError:
        return None
    finally:
        torch.cuda.empty_cache()


def step(backbone: torch.nn.Module, asked: dict) -> None:
    """Forward, backward and a step of AdamW, as `peftlib.accounting.estimate` has them."""
    undigested = mock.patch("peftlib.model.weights_digest", return_value=None)  # it would read 11 billion numbers
    with undigested, torch.device(DEVICE):
        model = Tuned(backbone, asked["method"], [get_task("boolq")], form="text", dropout=0.1)
        model.assume()
    model.anatomy.set_attention_dropout(0.0)
    model.to(DEVICE, torch.bfloat16).train()
    ids = torch.randint(100, 30_000, (asked["batch"], asked["length"]), device=DEVICE)
    answers = torch.randint(100, 30_000, (asked["batch"], asked["answer"]), device=DEVICE)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "answers": answers}
    optimizer = model.optimizer(1e-4, 0.01)
    model.objective(model.step("boolq", inputs, answers))[0].backward()
    optimizer.step()


if __name__ == "__main__":
    sys.exit(main())
