"""AdaptBert: the runs behind its tables, figures and section 6.2."""

from __future__ import annotations

from typing import Any

from peftlib.comparison import searched
from peftlib.grids import DEFAULT_TASKS, Preset, experiment, make_run
from peftlib.records import Run

ADAPTER, HYPERNET = "PerTask(AdaptBertAdapter(bottleneck={a}))", "AdaptBertHypernet(bottleneck={a})"
COMBINED = "LoRA(rank={r}) + " + ADAPTER

# AdaptBert's Table 3: printed name -> expression, and how many times the epochs of the other rows.
TABLE3 = {
    "LoRA[r=8]": ("LoRA(rank=8)", 1),
    "LoRA[r=16]": ("LoRA(rank=16)", 1),
    "LoRA[r=16]-20 epochs": ("LoRA(rank=16)", 2),
    "LoRA[r=64]-20 epochs": ("LoRA(rank=64)", 2),
    **{f"Adapter[a={a}]": (ADAPTER.format(a=a), 1) for a in (8, 16, 32, 64, 128, 256)},
    **{f"LoRA+Adapter [r={r}, a={a}]": (COMBINED.format(r=r, a=a), 1) for r, a in ((8, 64), (16, 128), (128, 128))},
    **{f"Hypernet[a={a}]": (HYPERNET.format(a=a), 1) for a in (8, 16, 32, 64, 128)},
    "Finetune": ("Full()", 1),
}


@experiment("adaptbert/table1")
def table1(preset: Preset) -> list[Run]:
    """Single-task sentiment: heads only against full fine-tuning, on two datasets."""
    rows = {"Pretrain": "HeadOnly()", "Finetune": "Full()"}
    sst = [make_run(preset, m, ("sst",), label=label) for label, m in rows.items()]
    long = 2 * preset.max_length  # reviews, not sentences
    return sst + [make_run(preset, m, ("cfimdb",), label=label, max_length=long) for label, m in rows.items()]


@experiment("adaptbert/table2")
def table2(preset: Preset) -> list[Run]:
    """Heads only and full fine-tuning, each for one task at a time and for three together."""
    rows = {"Pretrain": "HeadOnly()", "Finetune": "Full()"}
    single = [
        make_run(preset, m, (task,), label=f"{label}, single-task", limits=preset.limits)
        for label, m in rows.items()
        for task in DEFAULT_TASKS
    ]
    return single + [make_run(preset, m, label=f"{label}, multi-task") for label, m in rows.items()]


@experiment("adaptbert/table3")
def table3(preset: Preset) -> list[Run]:
    """The paper's main table: 19 multi-task models."""
    return [
        make_run(preset, method, label=label, epochs=preset.epochs * times) for label, (method, times) in TABLE3.items()
    ]


@experiment("adaptbert/table3_long")
def table3_long(preset: Preset) -> list[Run]:
    """Table 3 at what would decide its claims on par: more training rows, epochs and seeds, as the preset says."""
    return table3(preset)


@experiment("adaptbert/figure4")
def figure4(preset: Preset) -> list[Run]:
    """SST after full fine-tuning at several learning rates, around the preset's own."""
    own = preset.learning_rate("Full()")
    return [
        make_run(preset, "Full()", ("sst",), lr=own * factor, label=f"lr x {factor:g}")
        for factor in (0.01, 0.1, 0.5, 1, 2, 10)
    ]


@experiment("adaptbert/section62")
def section62(preset: Preset) -> list[Run]:
    """Dropout of the classification layer and weight decay: Optuna's quasi-random (Sobol) trials, fixed beforehand, so
    that trials can run in parallel and a search that was stopped goes on with exactly the trials it lacks."""
    import warnings

    import optuna

    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.QMCSampler(seed=0, warn_independent_sampling=False))
    out = []
    for number in range(preset.trials):
        trial = study.ask(
            {
                "dropout": optuna.distributions.FloatDistribution(0.0, 0.5),
                "weight_decay": optuna.distributions.FloatDistribution(1e-3, 1.0, log=True),
            }
        )
        study.tell(trial, 0.0)  # quasi-random: what a trial gave changes nothing in the next
        values = {name: float(f"{value:.3g}") for name, value in trial.params.items()}
        out.append(make_run(preset, "Full()", ("sst",), label=f"trial {number}", **values))  # type: ignore[arg-type]  # of the recipe
    return out


@experiment("adaptbert/learning_rates")
def learning_rates(preset: Preset) -> list[Run]:
    """The small search behind the learning rates of Table 3: on a tenth of its data, one epoch, in batches of 16 (or there
    would be too few steps to tell rates apart). In fp32, so that a rate that is too high fails by itself."""
    tenth = tuple(limit and max(1, limit // 10) for limit in preset.limits[:1])
    rows = {
        "Full": "Full()",
        "HeadOnly": "HeadOnly()",
        "LoRA": "LoRA(rank=16)",
        "LoRA(rank=64)": "LoRA(rank=64)",  # the largest need a rate of their own
        "PerTask(AdaptBertAdapter)": ADAPTER.format(a=64),
        ADAPTER.format(a=256): ADAPTER.format(a=256),
        "LoRA + PerTask(AdaptBertAdapter)": COMBINED.format(r=16, a=128),
        "AdaptBertHypernet": HYPERNET.format(a=32),
    }
    given: dict[str, Any] = {"epochs": 1, "batch_size": 16, "limits": (*tenth, 300, 50), "precision": "fp32"}
    return [
        make_run(preset, method, label=name, lr=rate, **given)
        for name, method in rows.items()
        for rate in searched(preset, method)
    ]


@experiment("adaptbert/rates_near")
def rates_near(preset: Preset) -> list[Run]:
    """The second step of the search, for Table 3: each kind of row at the rate that the first step found and at a third of
    it, on a quarter of the data, one epoch in batches of 16, in the precision of the table. The first step is so short
    that a rate may look good there and ruin a long run."""
    if not preset.search_lr:
        return []
    quarter = tuple(limit and max(1, limit // 4) for limit in preset.limits[:1]) + (300, 50)
    rows = {
        "LoRA": "LoRA(rank=16)",
        "LoRA(rank=64)": "LoRA(rank=64)",
        "PerTask(AdaptBertAdapter)": ADAPTER.format(a=64),
        ADAPTER.format(a=256): ADAPTER.format(a=256),
        "LoRA + PerTask(AdaptBertAdapter)": COMBINED.format(r=16, a=128),
        COMBINED.format(r=128, a=128): COMBINED.format(r=128, a=128),
        "AdaptBertHypernet": HYPERNET.format(a=32),
        "Full": "Full()",
    }
    return [
        make_run(preset, method, label=name, lr=float(f"{rate:.3g}"), epochs=1, batch_size=16, limits=quarter)
        for name, method in rows.items()
        for rate in (preset.learning_rate(method) / 3, preset.learning_rate(method))
    ]
