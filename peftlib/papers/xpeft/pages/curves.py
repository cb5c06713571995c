"""X-PEFT's training curves: Figures 5 and 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from peftlib.papers.xpeft.rows import K
from peftlib.papers.xpeft.users import COUNTS
from peftlib.report import style
from peftlib.report.tables import Spread, by_label, frame
from peftlib.study import Results


def curves(source: Results, panels: Mapping[str, Sequence[str]], each_seed: bool = False) -> Figure | None:
    """Training loss over the examples that have been seen: one panel a group of rows, one line a row, the mean over its
    seeds, or one line a seed. None if nothing has been run."""
    found = by_label(source)
    there = {title: [label for label in labels if found.get(label)] for title, labels in panels.items()}
    there = {title: labels for title, labels in there.items() if labels}
    if not there:
        return None
    fig, axes = plt.subplots(1, len(there), squeeze=False, sharey=True, figsize=(1.6 + 3.1 * len(there), 4.2))
    colors = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY, style.GREY)
    for ax, (title, labels) in zip(axes[0], there.items(), strict=True):
        for i, label in enumerate(labels):
            losses = {r["run"]["seed"]: [entry["train_loss"] for entry in r["history"]] for r in found[label]}
            lines = losses if each_seed else {"": np.mean(list(losses.values()), axis=0)}
            seen = np.cumsum([entry["examples"] for entry in found[label][0]["history"]])
            for j, (seed, loss) in enumerate(lines.items()):
                name = f"{label}, seed {seed}" if each_seed else label
                look = "--" if "hard" in label else ("-", ":", "-.")[j % 3]
                ax.plot(seen, loss, look, marker="osD^v<>"[i % 7], color=colors[i % 7], label=style.plain(name))
        ax.set(title=style.plain(title), xlabel="examples seen")
        ax.legend(fontsize=7)
    axes[0][0].set_ylabel("training loss (nats)")
    return fig


def losses(source: Results, task: str) -> pd.DataFrame:
    """Of each row the ``loss`` of the last epoch's training steps, and the validation and test score."""
    return frame(
        {
            "row": label,
            "loss": Spread.of(record["history"][-1]["train_loss"] for record in found),
            "validation": Spread.of(record["validation"][task] for record in found),
            "test": Spread.of(record["test"][task] for record in found),
        }
        for label, found in by_label(source).items()
    )


def panels(source: Results) -> dict[str, list[str]]:
    """Figure 5's: labels of rows by what is varied."""
    labels = list(by_label(source))
    plain = [label for label in labels if "," not in label]
    return {
        "(a) adapters and masks": plain,
        "(b) one mask or two": [label for label in labels if label.startswith("x_peft (100") and ", k" not in label],
        "(c) k, 100 adapters": [label for label in labels if label.startswith("x_peft (100 hard)") and "mask" not in label],
        "(c) k, 200 adapters": [label for label in labels if label.startswith("x_peft (200 hard)")],
    }


def _last_losses(source: Results) -> dict[str, float]:
    """By row, the mean over runs of the loss over the last epoch's steps."""
    found = by_label(source).items()
    return {label: float(np.mean([r["history"][-1]["train_loss"] for r in runs])) for label, runs in found if runs}


def by_count(source: Results) -> dict[str, float | int | None]:
    """What the last loss changes by from the ``fewest`` adapters to the ``most``, ``soft`` and ``hard``, and how far hard
    masks' is ``above`` soft masks'. None without the runs."""
    last = _last_losses(source)
    both = [n for n in COUNTS if {f"x_peft ({n} soft)", f"x_peft ({n} hard)"} <= set(last)]
    if len(both) < 2:
        return dict.fromkeys(("fewest", "most", "soft", "hard", "above"))
    changes = {m: last[f"x_peft ({both[-1]} {m})"] - last[f"x_peft ({both[0]} {m})"] for m in ("soft", "hard")}
    above = float(np.mean([last[f"x_peft ({n} hard)"] - last[f"x_peft ({n} soft)"] for n in both]))
    return {"fewest": both[0], "most": both[-1], **changes, "above": above}


def by_one_mask(source: Results) -> dict[str, float | None]:
    """What the last loss changes by with one mask in the place of two, ``soft`` and ``hard``. None without the runs."""
    last = _last_losses(source)
    pairs = {mask: (f"x_peft (100 {mask}), one mask", f"x_peft (100 {mask})") for mask in ("soft", "hard")}
    return {mask: last[one] - last[two] if {one, two} <= set(last) else None for mask, (one, two) in pairs.items()}


def best_k(source: Results) -> dict[str, int | None]:
    """The k of the lowest last loss, of 100 adapters (``k_100``) and of 200 (``k_200``). None unless there are three."""
    found: dict[str, int | None] = {}
    for n in COUNTS[:2]:
        name, by_k = f"x_peft ({n} hard)", {}
        for label, loss in _last_losses(source).items():
            if label == name or label.startswith(f"{name}, k = "):
                by_k[int(label.partition(" = ")[2] or K)] = loss
        found[f"k_{n}"] = min(by_k, key=by_k.__getitem__) if len(by_k) > 2 else None
    return found
