"""Time and peak memory of a training step of every method, relative to full fine-tuning on the same backbone.

    python benchmarks/step.py                                            # MiniLM, 32 sequences of 32 tokens, both cores
    python benchmarks/step.py --backbone t5-base --batch 16 --length 128 --precision bf16     # random weights, for a GPU

The methods of Compacter's Table 3 stand beside its ratios, and those that Hugging Face `peft` has too beside `peft`'s. Each
variant runs in a process of its own, all variants in turn, and the round is repeated: what else the machine does falls on
each alike. Time is the median over steps and rounds, peak memory the process's highest use above that before the model was
loaded. Training steps only: forward, backward, optimizer; a fixed random batch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from peftlib import backbones, grids, provenance
from peftlib.accounting.memory import PeakMemory
from peftlib.anatomy import Anatomy
from peftlib.commandline import Parser, at_least, run, writable
from peftlib.data.tasks import get_task
from peftlib.model import Tuned
from peftlib.training.speed import speed_up

RESULT = Path(__file__).parent / "results" / "step.json"
LORA, PREFIX, PROMPT = "LoRA(rank=8)", "PrefixTuning(length=20, mlp=None)", "PromptTuning(length=20)"
NORMS, ADALORA = "LayerNormTuning()", "AdaLoRA(rank=12, target=8)"
PEERS = (LORA, PREFIX, PROMPT, NORMS, ADALORA)  # what `peft` has too
# Method -> its row in the paper's Table 3, or "".
METHODS = {
    "Full()": "T5-Base",
    "Houlsby(bottleneck=24, train_norms=True)": "Adapter",
    "PfeifferAttention(bottleneck=24, train_norms=True)": "Pfeiffer-Adapter",
    "AdapterDrop(bottleneck=24, drop=2, train_norms=True)": "AdapterDrop",
    "AdapterLowRank(bottleneck=24)": "Adapter-LowRank",
    "PromptTuning(length=100)": "Prompt Tuning",
    "IntrinsicSAID(dimension=1400)": "Intrinsic-SAID",
    "IntrinsicSAID(dimension=20000)": "",
    "BitFit()": "BitFit",
    "PHMAdapter(n=4, bottleneck=24)": "PHM-Adapter",
    "Compacter(n=4, bottleneck=24)": "Compacter",
    "CompacterPlusPlus(n=4, bottleneck=24)": "Compacter++",
    **dict.fromkeys(PEERS, ""),
}
ATTENTION = {"bert": ["query", "key", "value"], "t5": ["q", "k", "v"]}  # as `peft` names what LoRA(sites=q, k, v) edits


# --- the peer ---------------------------------------------------------------------------------------------------------
def configuration(method: str, model: nn.Module, total: int):
    """The configuration of `peft` that trains on this backbone what our expression trains."""
    import peft

    task, targets = peft.TaskType.FEATURE_EXTRACTION, ATTENTION[model.config.model_type]
    if method == LORA:
        return peft.LoraConfig(r=8, lora_alpha=8, target_modules=targets)
    if method == ADALORA:
        return peft.AdaLoraConfig(init_r=12, target_r=8, total_step=total, target_modules=targets)
    if method == PREFIX:
        return peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=20)
    if method == PROMPT:
        return peft.PromptTuningConfig(task_type=task, num_virtual_tokens=20)
    norms = [id(site.module) for site in Anatomy(model).norms]
    return peft.LNTuningConfig(target_modules=[name for name, module in model.named_modules() if id(module) in norms])


class Headed(nn.Module):
    """A backbone of `peft` under a linear head on the mean of its last states, as `Tuned` reads encoders."""

    def __init__(self, backbone: nn.Module, width: int, outputs: int):
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(width, outputs)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        start = {}
        if self.backbone.config.is_encoder_decoder:
            start = {"decoder_input_ids": torch.zeros_like(inputs["input_ids"][:, :1])}
        hidden = self.backbone(**inputs, **start).last_hidden_state
        return self.head(hidden.mean(1))


# --- one variant, in its own process ----------------------------------------------------------------------------------
def plain(name: str) -> nn.Module:
    """The backbone: real weights of ``minilm``, random ones of a known shape."""
    return backbones.load(name).model if name == "minilm" else backbones.from_config(backbones.SHAPES[name]())


def child(args: argparse.Namespace) -> dict:
    """Seconds of every step, and peak memory, of one variant."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ids, labels = torch.randint(1000, 20_000, (args.batch, args.length)), torch.arange(args.batch, device=device) % 5
    inputs = {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}
    with PeakMemory() as peak:
        model, optimizer, forward = theirs(args, inputs) if args.peer else ours(args, inputs, labels)
        seconds = [one_step(forward, model, optimizer, labels, args.precision, i) for i in range(args.steps + 2)][2:]
    return {"seconds": seconds, "peak_bytes": peak.bytes}


def ours(args: argparse.Namespace, inputs: dict, labels: Tensor) -> tuple:
    """The method on our side, as the training loop sets it up."""
    model = Tuned(plain(args.backbone), args.child, [get_task("sst")])
    speed_up(model)
    model.anatomy.set_attention_dropout(0.0)
    model.to(inputs["input_ids"].device).train()
    if args.precision == "bf16":
        model.store_frozen(torch.bfloat16)

    def forward() -> tuple:
        step = model.step("sst", inputs, labels)
        return step.outputs, model.penalty(step)

    return model, model.optimizer(1e-4, 0.01), forward


def theirs(args: argparse.Namespace, inputs: dict) -> tuple:
    """The same with Hugging Face `peft`."""
    import peft

    base = plain(args.backbone)
    width = Anatomy(base).shape.width
    config = configuration(args.child, base, args.steps + 2)
    Anatomy(base).set_attention_dropout(0.0)
    model = Headed(peft.get_peft_model(base, config), width, 5).to(inputs["input_ids"].device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.AdamW(trained, lr=1e-4, fused=True), lambda: (model(inputs), None)


def one_step(forward: Callable, model: nn.Module, optimizer, labels: Tensor, precision: str, number: int) -> float:
    """Seconds of one training step."""
    device = torch.get_device_module(labels.device)
    device.synchronize()
    started = time.perf_counter()
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=precision == "bf16"):
        outputs, penalty = forward()
    loss = nn.functional.cross_entropy(outputs.float(), labels)
    (loss if penalty is None else loss + penalty).backward()
    optimizer.step()
    if isinstance(model, Tuned):
        model.after_step(number, 100)
    elif hasattr(model.backbone.base_model, "update_and_allocate"):  # AdaLoRA's budget, which both sides keep
        model.backbone.base_model.update_and_allocate(number)
    optimizer.zero_grad()
    device.synchronize()
    return time.perf_counter() - started


# --- all of them ------------------------------------------------------------------------------------------------------
def measure(method: str, peer: bool, args: argparse.Namespace) -> dict:
    """Run one variant in a new process.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    command = [sys.executable, __file__, "--child", method, *(["--peer"] if peer else [])]
    for option in ("backbone", "batch", "length", "steps", "threads", "precision"):
        command += [f"--{option}", str(getattr(args, option))]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": str(args.threads)})
    if done.returncode:
        raise RuntimeError(f"{method} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(rounds: list[dict]) -> dict:
    """Median step in milliseconds, and peak memory."""
    return {
        "milliseconds": 1e3 * statistics.median(s for r in rounds for s in r["seconds"]),
        "peak_bytes": statistics.median(r["peak_bytes"] for r in rounds),
    }


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="minilm", choices=("minilm", *backbones.SHAPES))
    parser.add_argument("--batch", type=at_least(1), default=32)
    parser.add_argument("--length", type=at_least(1), default=32)
    parser.add_argument("--steps", type=at_least(1), default=10)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    parser.add_argument("--threads", type=at_least(1), default=os.cpu_count())
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=grids.native_precision())
    parser.add_argument("--output", type=writable, default=RESULT)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: json.dumps(child(args)) if args.child else compare(args))


def compare(args: argparse.Namespace) -> str:
    """All variants in turn, round by round."""
    load, variants = os.getloadavg()[0], [(m, False) for m in METHODS] + [(m, True) for m in PEERS]
    rounds: dict[tuple[str, bool], list[dict]] = {variant: [] for variant in variants}
    for number in range(args.rounds):
        for method, peer in variants:
            rounds[method, peer].append(measure(method, peer, args))
            last = summary(rounds[method, peer][-1:])
            print(f"round {number + 1}: {'peft, ' if peer else ''}{method}: {last['milliseconds']:.0f} ms", flush=True)
    rows = {
        method: {
            "row": row,
            "ours": summary(rounds[method, False]),
            "peft": summary(rounds[method, True]) if method in PEERS else None,
        }
        for method, row in METHODS.items()
    }
    options = {name: getattr(args, name) for name in ("backbone", "batch", "length", "steps", "rounds", "precision")}
    result = {**options, "methods": rows, "machine": provenance.surroundings(args.threads, load), **provenance.made()}
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    return f"written: {args.output}"


if __name__ == "__main__":
    sys.exit(main())
