"""Time and peak memory of a training step of every method, relative to full fine-tuning on the same backbone.

    python benchmarks/step.py                                            # MiniLM, 32 sequences of 32 tokens, both cores
    python benchmarks/step.py --only LST LoRA QLoRA --backbone t5-base --batch 64 --length 128 \\
        --output benchmarks/results/step_t5.json                         # few methods where activations fill the memory
    python benchmarks/step.py --peers --output benchmarks/results/step_peft.json   # what Hugging Face peft has, too

Backbones other than MiniLM have random weights.

The methods of Compacter's Table 3 stand beside its ratios. Then all other rows of the comparison. Those that Hugging Face
`peft` has too beside `peft`'s, the same adapter, handed over in `peft`'s format but for soft prompts: as it comes, with
frozen weights in fp32 under autocast and torch's kernels, and treated as our training loop treats ours, with frozen weights
in bf16 and our attention and dropout. Each variant runs
in a process of its own, all in turn, and the round is repeated: what else the machine does falls on each alike. Time is the
median over steps and rounds, peak memory the process's highest use above that before the model was loaded. Training steps
only: forward, backward, optimizer; a fixed random batch. What a method would look for in data is anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from peftlib import backbones, grids, interop, provenance
from peftlib.accounting.memory import PeakMemory
from peftlib.anatomy import Anatomy
from peftlib.apart import apart
from peftlib.commandline import Parser, at_least, run, writable
from peftlib.comparison import METHOD_RUNS
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError, short
from peftlib.expressions import canonical, names
from peftlib.methods.base import Step
from peftlib.model import Tuned
from peftlib.training.speed import speed_up

RESULT = Path(__file__).parent / "results" / "step.json"
WARM_UP = 2  # turns of `turns`
LORA, PREFIX, PROMPT = "LoRA(rank=8)", "PrefixTuning(length=20, mlp=None)", "PromptTuning(length=20)"
NORMS, ADALORA = "LayerNormTuning()", "AdaLoRA(rank=12, target=8)"
SOFT = {PREFIX: "PrefixTuningConfig", PROMPT: "PromptTuningConfig"}
# What `peft` has too, which the methods say of themselves.
PEERS = (LORA, "DoRA(rank=8)", ADALORA, "KronA()", "GLoRA()", "IA3()", PREFIX, PROMPT, NORMS)
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
SIDES = ("ours", "peft", "peft treated as ours")
_THERE = set(map(canonical, METHODS))
METHODS |= {method: "" for method in METHOD_RUNS.values() if canonical(method) not in _THERE}
FIRST, TOTAL = 110, 1000  # steps of the run that the measured ones belong to: where AdaLoRA's budget falls, on both sides


# --- the peer ---------------------------------------------------------------------------------------------------------
def hand_over(method: str, backbone: str, folder: Path) -> None:
    """Write our method on a backbone for `peft`, which does not train soft prompts that it reads: of those, nothing."""
    if method not in SOFT:
        interop.to_peft(Tuned(plain(backbone), method, [get_task("sst")]), folder)


def taken(method: str, backbone: nn.Module, folder: str) -> nn.Module:
    """What was handed over, as `peft` trains it."""
    import peft

    if method in SOFT:
        config = getattr(peft, SOFT[method])(task_type=peft.TaskType.FEATURE_EXTRACTION, num_virtual_tokens=20)
        return peft.get_peft_model(backbone, config)
    return peft.PeftModel.from_pretrained(backbone, folder, is_trainable=True)


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


def child(method: str, side: str, peer: Path | None, args: argparse.Namespace) -> dict:
    """Seconds of every step, and peak memory, of one variant. side: of `SIDES`. peer: the folder that `peft` reads from."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ids, labels = torch.randint(1000, 20_000, (args.batch, args.length)), torch.arange(args.batch, device=device) % 5
    inputs = {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}
    with PeakMemory() as peak:
        made = theirs(method, side, peer, args, inputs) if peer else ours(method, args, inputs, labels)
        model, optimizer, forward = made
        seconds = [one_step(forward, model, optimizer, labels, args.precision, i) for i in range(args.steps + 2)][2:]
    return {"seconds": seconds, "peak_bytes": peak.bytes}


def ours(method: str, args: argparse.Namespace, inputs: dict, labels: Tensor) -> tuple:
    """The method on our side, as the training loop sets it up."""
    model = Tuned(plain(args.backbone), method, [get_task("sst")])
    model.assume()
    speed_up(model)
    model.anatomy.set_attention_dropout(0.0)
    model.to(inputs["input_ids"].device).train()
    if args.precision == "bf16":
        model.store_frozen(torch.bfloat16)

    def forward() -> tuple:
        step: Step = model.step("sst", inputs, labels, FIRST, TOTAL)
        return step.outputs, model.penalty(step)

    return model, model.optimizer(1e-4, 0.01), forward


def theirs(method: str, side: str, peer: Path, args: argparse.Namespace, inputs: dict) -> tuple:
    """The same with Hugging Face `peft`, as it comes or treated as ours."""
    base = plain(args.backbone)
    width = Anatomy(base).shape.width
    Anatomy(base).set_attention_dropout(0.0)
    model = Headed(taken(method, base, str(peer)), width, 5).to(inputs["input_ids"].device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    if side == SIDES[2]:
        speed_up(model)
        for parameter in model.parameters():
            if args.precision == "bf16" and not parameter.requires_grad:
                parameter.data = parameter.data.bfloat16()
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
        model.after_step(FIRST + number, TOTAL)
    elif hasattr(model.backbone.base_model, "update_and_allocate"):  # AdaLoRA's budget, which both sides keep
        model.backbone.base_model.update_and_allocate(FIRST + number)
    optimizer.zero_grad()
    device.synchronize()
    return time.perf_counter() - started


# --- variants in one process ------------------------------------------------------------------------------------------
def turns(
    variants: dict[str, Callable[[], object]], count: int, device: torch.device
) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of each variant, one for each turn in which all run, and their ratios to the first variant's of the same
    turn. Some turns more, to warm up, are left out. On a CPU the time is the processor's, not the clock's."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    wait = torch.get_device_module(device).synchronize
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(count + WARM_UP):
        for name, go in variants.items():
            wait()
            started = clock()
            go()
            wait()
            seconds[name].append(clock() - started)
    kept = {name: found[WARM_UP:] for name, found in seconds.items()}
    first = next(iter(kept.values()))
    return {name: (found, [own / one for own, one in zip(found, first, strict=True)]) for name, found in kept.items()}


# --- all of them ------------------------------------------------------------------------------------------------------
def chosen(only: Iterable[str] | None) -> dict[str, str]:
    """The rows of `METHODS` that have one of these methods alone; without any, and always full fine-tuning, all.

    Raises:
        UsageError: none has.
    """
    if only is None:
        return METHODS
    for name in only:
        if not any(names(method) == [name] for method in METHODS):
            raise UsageError(f"no row is {short(name)} alone: expected methods, such as LoRA or LST")
    return {m: row for m, row in METHODS.items() if names(m) == ["Full"] or (len(names(m)) == 1 and names(m)[0] in only)}


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
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", nargs="+", metavar="METHOD", help="the rows of these methods, and full fine-tuning")
    which.add_argument("--peers", action="store_true", help="what Hugging Face peft has too, beside its own")
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: compare(args))


def compare(args: argparse.Namespace) -> str:
    """All variants in turn, round by round; a method and its peer one after the other."""
    load, methods = os.getloadavg()[0], dict.fromkeys(PEERS, "") if args.peers else chosen(args.only)
    sides = SIDES if args.peers else SIDES[:1]
    rounds: dict[tuple[str, str], list[dict]] = {(method, side): [] for method in methods for side in sides}
    with tempfile.TemporaryDirectory() as handed:
        folders = {method: Path(handed, str(i)) for i, method in enumerate(methods) if args.peers}
        for method, folder in folders.items():
            hand_over(method, args.backbone, folder)
        for number in range(args.rounds):
            for method, side in rounds:
                peer = None if side == SIDES[0] else folders[method]
                rounds[method, side].append(apart(args.threads, child, method, side, peer, args))
                last = summary(rounds[method, side][-1:])
                print(f"round {number + 1}: {side}, {method}: {last['milliseconds']:.0f} ms", flush=True)
    rows = {
        method: {"row": row} | {side: summary(rounds[method, side]) for side in sides} for method, row in methods.items()
    }
    options = {name: getattr(args, name) for name in ("backbone", "batch", "length", "steps", "rounds", "precision")}
    result = {**options, "methods": rows, "machine": provenance.surroundings(args.threads, load), **provenance.made()}
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    return f"written: {args.output}"


if __name__ == "__main__":
    sys.exit(main())
