"""Beyond the paper: what a profile stores and scores, and what a random bank is worth."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from peftlib.accounting import BERT
from peftlib.accounting.counted import shape
from peftlib.papers.xpeft.rows import BOTTLENECK, K
from peftlib.report import style, suites
from peftlib.report.tables import Spread, by_label, frame, scores
from peftlib.study import Results


def stored(record: dict) -> int:
    """Bytes that a profile is counted at, its head among them: four a number, an eighth for a choice."""
    return 4 * (record["counts"]["stored"] + record["counts"]["heads"])


def averages(source: Results) -> dict[str, Spread | None]:
    """By row the mean test score over the tasks, over seeds; None where a task is missing."""
    tasks = tuple(suites.tasks(source))
    return {label: scores(found, tasks, "test") for label, found in by_label(source).items()}


def side_by_side(source: Results, base: str) -> pd.DataFrame:
    """One line a row: what it trains beside its head, what a profile stores (``bytes``, counted, and as a ``file``), its
    score on each task, their mean (``average``) and what that is above the row `base` (``gain``)."""
    tasks, every, rows = suites.tasks(source), by_label(source), []
    average = averages(source)
    for label, found in every.items():
        mean, reference = average[label], average.get(base)
        rows.append(
            {
                "row": label,
                "trained": int(np.mean([r["counts"]["trainable"] for r in found])) if found else None,
                "bytes": round(np.mean([stored(r) for r in found])) if found else None,
                "file": round(np.mean([r["stored_bytes"] for r in found])) if found else None,
                **{task: scores(found, task, "test") for task in tasks},
                "average": mean,
                "gain": mean.mean - reference.mean if mean and reference and label != base else None,
            }
        )
    return frame(rows)


def over_bytes(source: Results) -> pd.DataFrame:
    """For `peftlib.report.figures.over`: each row's mean score over the bytes that a profile stores."""
    rows, average = [], averages(source)
    for label, found in by_label(source).items():
        if found:
            size = float(np.mean([stored(r) for r in found]))
            rows.append({"method": found[0]["run"]["method"], "name": label, "x": size, "y": average[label]})
    return pd.DataFrame(rows, columns=["method", "name", "x", "y"])


def cheapest(source: Results, within: float) -> dict[str, object]:
    """The row that stores least among those whose mean is at most `within` below the best one's: its ``name``, ``bytes``
    and ``score``, and those of the ``best``; and ``within``. None without records."""
    points = over_bytes(source).dropna()
    if points.empty:
        return dict.fromkeys(("name", "bytes", "score", "best", "best_bytes", "best_score", "within"))
    points = points.assign(score=points["y"].map(float))
    best = points.loc[points["score"].idxmax()]
    near = points[points["score"] >= best["score"] - within]
    least = near.loc[near["x"].idxmin()]
    return {
        "name": least["name"],
        "bytes": round(least["x"]),
        "score": least["score"],
        "best": best["name"],
        "best_bytes": round(best["x"]),
        "best_score": best["score"],
        "within": within,
    }


def parts(backbone: str) -> pd.DataFrame:
    """Bytes of a profile with 100 adapters by part, on a backbone and on BERT-base: hard and soft ``masks``, ``norms``, and
    heads for 2 and 15 classes."""
    from peftlib.methods.adapters.xpeft import XPEFT  # which brings torch

    rows = []
    for name in dict.fromkeys((backbone, BERT)):
        sizes = shape(name)
        sized = {
            f"{mask} masks": XPEFT(adapters=100, bottleneck=BOTTLENECK, mask=mask, k=K).mask_bytes(sizes)
            for mask in ("hard", "soft")
        }
        sized["norms"] = 2 * 4 * BOTTLENECK * sizes.layers
        heads = {f"head, {n} classes": 4 * n * (sizes.width + 1) for n in (2, 15)}
        rows.append({"model": name, **sized, **heads})
    return frame(rows)


def ladder(source: Results) -> Figure | None:
    """The mean score of each row over the tasks, with its spread over seeds. None if nothing has been run."""
    found = {label: score for label, score in averages(source).items() if score is not None}
    if not found:
        return None
    fig, ax = plt.subplots(figsize=(6.8, 0.9 + 0.34 * len(found)))
    for y, (label, score) in enumerate(found.items()):
        color = style.BLUE if label.startswith("x_peft") else style.GREY
        ax.errorbar(score.mean, y, xerr=score.sd or 0.0, fmt="o", color=color, capsize=2 if score.sd else 0)
    ax.set_yticks(range(len(found)), map(style.plain, found))
    ax.invert_yaxis()
    ax.set_xlabel(f"test score, mean over {', '.join(suites.tasks(source))}")
    ax.grid(axis="y", visible=False)
    return fig


def due(source: Results) -> dict[str, float | None]:
    """What a head, norms and masks are worth, in mean score: above the head alone ``whole`` (soft masks, norms and head),
    ``fixed`` (masks as they start) and ``norms`` (the backbone's own, without a bank); above fixed masks ``masks`` (soft)
    and ``hard``. None without the runs."""
    found = averages(source)

    def less(one: str, two: str) -> float | None:
        a, b = found.get(one), found.get(two)
        return None if a is None or b is None else a.mean - b.mean

    fixed = "masks fixed, all adapters alike"
    return {
        "whole": less("x_peft (100 soft)", "head_only"),
        "fixed": less(fixed, "head_only"),
        "masks": less("x_peft (100 soft)", fixed),
        "hard": less("x_peft (100 hard)", fixed),
        "norms": less("LayerNormTuning", "head_only"),
    }
