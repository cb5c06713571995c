"""Training speed on ``sst``: MiniLM with LoRA (q, k, v; r = 8), our loop against Hugging Face `peft` + `Trainer`.

    python benchmarks/training_speed.py                 # real data if PEFTLIB_DATA is set, else the embedded suite
    python benchmarks/training_speed.py --examples 640 --repeats 3 --threads 2

Every variant trains the same examples for the same epochs at the same learning rate, in a process of its own, so that
none inherits another's memory or warm caches. The variants take turns, and all of them are repeated: what else the
machine does meanwhile falls on each alike. Timed are the training steps; loading and evaluation are not. Peak memory is
the process's high-water mark less what it used before the model was loaded, evaluation included. Accuracy is that of
the last epoch on the validation rows.

    ours, fp32 / bf16           batches sorted by length; bf16 keeps frozen weights in bf16 and runs under autocast
    Trainer, usual script       fp32, every row padded to 128 tokens, as the library's example scripts do by default
    Trainer, grouped fp32/bf16  rows grouped by length and padded to the longest of their batch
    ..., no attention dropout   the same without dropout on attention weights, as ours: the fused attention kernel runs
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from peftlib.apart import apart
from peftlib.commandline import Parser, at_least, run, writable

LENGTH, BATCH, RANK, LR, SEED = 128, 32, 8, 1e-3, 0
VARIANTS = {
    "ours, fp32": ("ours", "fp32", "sorted"),
    "ours, bf16": ("ours", "bf16", "sorted"),
    "Trainer, usual script": ("trainer", "fp32", "padded"),
    "Trainer, grouped, fp32": ("trainer", "fp32", "grouped"),
    "Trainer, grouped, bf16": ("trainer", "bf16", "grouped"),
    "Trainer, grouped, fp32, no attention dropout": ("trainer", "fp32", "grouped, no attention dropout"),
    "Trainer, grouped, bf16, no attention dropout": ("trainer", "bf16", "grouped, no attention dropout"),
}
RESULT = Path(__file__).parent / "results" / "training_speed.json"


# --- one variant, in its own process ----------------------------------------------------------------------------------
def ours(precision: str, source: str, examples: int, validation: int, epochs: int) -> dict:
    """Train with this project's loop."""
    from peftlib.accounting.memory import PeakMemory
    from peftlib.records import Recipe, Run
    from peftlib.training.loop import Trainer

    recipe = Recipe(lr=LR, epochs=epochs, batch_size=BATCH, max_length=LENGTH, precision=precision)
    run = Run(f"LoRA(rank={RANK})", ("sst",), "minilm", source, recipe, SEED, (examples, validation, 1))
    with PeakMemory() as peak:
        outcome = Trainer(run, progress=False).fit()
    return {
        "examples_per_second": outcome.examples_per_second,
        "seconds": outcome.seconds,
        "peak_bytes": peak.bytes,
        "accuracy": outcome.history[-1]["validation"]["sst"],
        "trainable": outcome.model.counts().trainable,
    }


def trainer(precision: str, batching: str, source: str, examples: int, validation: int, epochs: int) -> dict:
    """Train the same with Hugging Face `peft` and `Trainer`, as their documentation puts them together."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from peftlib.accounting.memory import PeakMemory
    from peftlib.backbones import minilm_folder
    from peftlib.data.sources import load_split

    set_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder(), trust_remote_code=False)
    padding = "max_length" if batching == "padded" else False

    def encoded(split: str, limit: int) -> Dataset:
        rows = load_split("sst", split, source, limit)
        tokens = tokenizer([t[0] for t in rows.texts], truncation=True, max_length=LENGTH, padding=padding)
        return Dataset.from_dict({**tokens, "labels": rows.labels.tolist()})

    data = {"train": encoded("train", examples), "validation": encoded("validation", validation)}
    with PeakMemory() as peak, tempfile.TemporaryDirectory() as folder:
        options = {"attention_probs_dropout_prob": 0.0} if "no attention dropout" in batching else {}
        base = AutoModelForSequenceClassification.from_pretrained(
            minilm_folder(), num_labels=5, trust_remote_code=False, **options
        )
        sites = ["query", "key", "value"]
        config = LoraConfig(task_type=TaskType.SEQ_CLS, r=RANK, lora_alpha=RANK, target_modules=sites)
        model = get_peft_model(base, config)
        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=128,
            learning_rate=LR,
            weight_decay=0.01,
            warmup_steps=0.1,
            lr_scheduler_type="linear",
            max_grad_norm=1.0,
            bf16=precision == "bf16",
            use_cpu=not torch.cuda.is_available(),
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            seed=SEED,
            dataloader_pin_memory=torch.cuda.is_available(),
            train_sampling_strategy="random" if batching == "padded" else "group_by_length",
        )
        clock = epoch_clock()
        fitting = Trainer(
            model,
            arguments,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            processing_class=tokenizer,
            data_collator=None if batching == "padded" else DataCollatorWithPadding(tokenizer),
            callbacks=[clock],
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
        )
        fitting.train()
        accuracy = fitting.evaluate()["eval_accuracy"]
    trainable = sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and "lora_" in n)
    return {
        "examples_per_second": epochs * len(data["train"]) / clock.seconds,
        "seconds": clock.seconds,
        "peak_bytes": peak.bytes,
        "accuracy": accuracy,
        "trainable": trainable,
    }


def epoch_clock():
    """A `Trainer` callback that adds up the time of its epochs, which is what our own loop counts."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        seconds = 0.0

        def on_epoch_begin(self, *args, **kwargs):
            self.started = time.perf_counter()

        def on_epoch_end(self, *args, **kwargs):
            self.seconds += time.perf_counter() - self.started

    return Clock()


def child(name: str, args: argparse.Namespace) -> dict:
    """Measure one variant in this process."""
    import torch

    torch.set_num_threads(args.threads)
    whose, precision, batching = VARIANTS[name]
    size = (args.source, args.examples, args.validation, args.epochs)
    return ours(precision, *size) if whose == "ours" else trainer(precision, batching, *size)


# --- all of them ------------------------------------------------------------------------------------------------------
def summary(runs: dict[str, list[dict]]) -> dict[str, dict]:
    """Median and range of each variant."""
    out = {}
    for name, repeats in runs.items():
        speeds = [r["examples_per_second"] for r in repeats]
        out[name] = {
            "examples_per_second": statistics.median(speeds),
            "slowest": min(speeds),
            "fastest": max(speeds),
            "peak_bytes": statistics.median(r["peak_bytes"] for r in repeats),
            "accuracy": statistics.mean(r["accuracy"] for r in repeats),
            "trainable": repeats[0]["trainable"],
        }
    return out


def ratios(by_variant: dict[str, dict]) -> dict[str, float]:
    """How many times the peer's speed ours is, ours in its faster precision: against the peer's usual script, its best
    options (grouped, its faster precision), and the same without attention dropout."""

    def fastest(*settings: str) -> float:
        return max(row["examples_per_second"] for name, row in by_variant.items() if VARIANTS[name][2] in settings)

    us = fastest("sorted")
    return {
        "usual script": us / fastest("padded"),
        "best options": us / fastest("grouped"),
        "best options, no attention dropout": us / fastest("grouped, no attention dropout"),
    }


def machine(threads: int) -> dict:
    """Processor or GPU, threads, and whether it has matrix units for bf16 (then bf16 is the faster)."""
    import torch

    path = Path("/proc/cpuinfo")
    rows = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line) if path.exists() else {}
    info = {name.strip(): value.strip() for name, value in rows.items()}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else info.get("model name", "unknown CPU")
    return {
        "device": device,
        "threads": threads,
        "cores": os.cpu_count(),
        "amx_bf16": "amx_bf16" in info.get("flags", ""),
        "load_before": os.getloadavg()[0],
    }


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "local" if os.environ.get("PEFTLIB_DATA") else "embedded"
    parser.add_argument("--source", default=default, choices=("embedded", "local", "hub"))
    parser.add_argument("--examples", type=at_least(1), default=640, help="training rows (default 640)")
    parser.add_argument("--validation", type=at_least(1), default=500, help="validation rows (default 500)")
    parser.add_argument("--epochs", type=at_least(1), default=2)
    parser.add_argument("--repeats", type=at_least(1), default=3, help="rounds over all variants (default 3)")
    parser.add_argument("--threads", type=at_least(1), default=os.cpu_count())
    parser.add_argument("--output", type=writable, default=RESULT)
    args = parser.parse_args(argv)
    return run(parser.prog, lambda: compare(args))


def compare(args: argparse.Namespace) -> str:
    """All variants in turn, round by round."""
    from peftlib import provenance

    where = machine(args.threads)
    runs: dict[str, list[dict]] = {name: [] for name in VARIANTS}
    for turn in range(args.repeats):
        for name in VARIANTS:
            runs[name].append(apart(args.threads, child, name, args))
            speed = runs[name][-1]["examples_per_second"]
            print(f"round {turn + 1}/{args.repeats}  {name:44} {speed:7.1f} examples/s", flush=True)
    by_variant = summary(runs)
    result = {
        "task": "sst",
        "backbone": "minilm",
        "method": f"LoRA(rank={RANK})",
        "batch_size": BATCH,
        "max_length": LENGTH,
        **{k: getattr(args, k) for k in ("source", "examples", "validation", "epochs", "repeats")},
        "lr": LR,
        "variants": by_variant,
        "ratios": ratios(by_variant),
        "runs": runs,
        "machine": where,
        "versions": {p: version(p) for p in ("torch", "transformers", "accelerate", "peft")},
        "date": datetime.date.today().isoformat(),
        "commit": provenance.commit(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        f"{name:44} {row['examples_per_second']:7.1f} examples/s  {row['peak_bytes'] / 2**20:6.0f} MiB  "
        f"accuracy {row['accuracy']:.3f}"
        for name, row in by_variant.items()
    ]
    lines += [f"ours is {value:.2f} times as fast as the peer: {name}" for name, value in result["ratios"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
