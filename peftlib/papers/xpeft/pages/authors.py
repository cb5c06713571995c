"""X-PEFT's authors: what they score (Figure 4) and what their masks say (Figures 3 and 6), from records and what lies
beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from peftlib import answered, records
from peftlib.data.tasks import get_task
from peftlib.grids import Preset
from peftlib.report import style
from peftlib.report.tables import Spread, by_label, frame
from peftlib.report.uncertainty import LEVEL
from peftlib.study import Results

PERPLEXITY, DRAWS = 30, 2000  # of t-SNE, as scikit-learn has it, where there are authors enough; permutations


# --- Figure 4 ---------------------------------------------------------------------------------------------------------
def by_author(source: Sequence[dict], metric: str) -> dict[str, np.ndarray]:
    """Test scores of each row's authors, means over seeds: (authors,), in their order."""
    found = {}
    for label, runs in by_label(source).items():
        each = [[record["test"][f"{author}.{metric}"] for author in record["run"]["tasks"]] for record in runs]
        if each:
            found[label] = np.mean(each, axis=0)
    return found


def mean_of(values: np.ndarray) -> Spread:
    """A mean over authors with its 95 % interval, Student's; that of a single author has none."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Spread(mean, None, n)
    half = float(stats.t.isf(LEVEL / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Spread(mean, None, n, ends=(mean - half, mean + half))


def figure4(source: Results, over: str) -> pd.DataFrame:
    """One line a row: its mean over the authors of ``accuracy`` and ``macro F1``, and what it is above the row `over` in
    accuracy, author by author (``gain``); None where nothing has been run."""
    right, f1 = by_author(source, "accuracy"), by_author(source, "macro_f1")
    rows = []
    for label in by_label(source):
        there = label in right
        beside = there and label != over and over in right
        rows.append(
            {
                "row": label,
                "accuracy": mean_of(right[label]) if there else None,
                "macro F1": mean_of(f1[label]) if there else None,
                "gain": mean_of(right[label] - right[over]) if beside else None,
            }
        )
    return frame(rows)


def bars(source: Results) -> Figure | None:
    """Accuracy and F1 of each row, means over the authors with intervals. None if nothing has been run."""
    panels = {title: by_author(source, metric) for title, metric in (("accuracy", "accuracy"), ("macro F1", "macro_f1"))}
    if not panels["accuracy"]:
        return None
    fig, axes = plt.subplots(1, 2, sharey=True, figsize=(8.4, 0.9 + 0.36 * len(panels["accuracy"])))
    for ax, (title, found) in zip(axes, panels.items(), strict=True):
        for y, (label, values) in enumerate(found.items()):
            mean = mean_of(values)
            low, high = mean.ends or (mean.mean, mean.mean)
            color = style.BLUE if label.startswith("x_peft") else style.GREY
            ax.errorbar(mean.mean, y, xerr=[[mean.mean - low], [high - mean.mean]], fmt="o", color=color, capsize=2)
        ax.set_xlabel(f"{title}, mean over authors")
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(panels["accuracy"])), map(style.plain, panels["accuracy"]))
    axes[0].invert_yaxis()
    return fig


def gains(source: Results, over: str, **rows: str) -> dict[str, float | None]:
    """What rows are above the row `over` in mean accuracy, by the names they are given; None where one is missing."""
    right = by_author(source, "accuracy")
    there = over in right
    return {
        name: float(np.mean(right[row] - right[over])) if there and row in right else None for name, row in rows.items()
    }


# --- Figures 3 and 6 --------------------------------------------------------------------------------------------------
class Masks(NamedTuple):
    """Masks of authors. weights: (authors, 2, blocks, adapters), of sum 1 over adapters. majority: the category that most
    of an author's test rows have; share: of how many."""

    authors: tuple[str, ...]
    weights: np.ndarray
    majority: tuple[str, ...]
    share: np.ndarray

    @property
    def distances(self) -> np.ndarray:
        """(authors, authors), Euclidean."""
        flat = self.weights.reshape(len(self.authors), -1)
        return np.linalg.norm(flat[:, None] - flat[None], axis=-1)


def masks(source: Results, preset: Preset, label: str) -> Masks | None:
    """The masks that a row's first run has learnt; None where they or the labels of its rows are not here."""
    from peftlib.methods import parse  # which bring torch
    from peftlib.methods.adapters.xpeft import XPEFT
    from peftlib.tensorfiles import read_tensors, unpacked

    for record in (record for record in source if record["run"]["label"] == label):
        run = records.run_of(record)
        path = records.drawn_path(preset.name, run)
        rows = {author: answered.find(preset.name, author, record["data"]["test"][author]) for author in run.tasks}
        if not path.exists() or None in rows.values():
            return None
        (method,) = {leaf.method for leaf in parse(run.method).leaves(run.tasks) if isinstance(leaf.method, XPEFT)}
        tensors, found = read_tensors(path)[1], []
        for author in run.tasks:
            place = f"shared.xpeft__{author}__profile."
            if method.mask == "soft":
                found.append(method.chosen(tensors[f"{place}logits"]).numpy())
            else:
                bits = tensors[f"{place}mask"]
                like = bits.new_empty(*bits.shape[:-1], method.adapters).bool()
                found.append(unpacked(bits, like).float().numpy() / method.k)
        names, counts = get_task(run.tasks[0]).labels, []
        for there in rows.values():
            counts.append(np.bincount(there.labels.astype(int), minlength=len(names)))  # type: ignore[union-attr]  # none is None
        share = np.array([count.max() / count.sum() for count in counts])
        return Masks(run.tasks, np.stack(found), tuple(names[count.argmax()] for count in counts), share)
    return None


def map_of(found: Masks | None, title: str = "") -> Figure | None:
    """Figure 3: the authors by their masks, in two dimensions by t-SNE; colour and size are the category that most of an
    author's articles have, and its share."""
    if found is None:
        return None
    from sklearn.manifold import TSNE

    n = len(found.authors)
    flat = found.weights.reshape(n, -1)
    places = TSNE(perplexity=min(PERPLEXITY, (n - 1) / 3), init="pca", random_state=42).fit_transform(flat)
    fig, ax = plt.subplots(figsize=(7.4, 4.8))
    kinds = sorted(set(found.majority), key=found.majority.count, reverse=True)
    colors = (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY)
    for i, kind in enumerate(kinds):
        mine = np.array([one == kind for one in found.majority])
        color, marker = (colors[i % 6], "osD^v"[i // 6]) if i < 30 else (style.GREY, ".")
        ax.scatter(
            places[mine, 0],
            places[mine, 1],
            s=20 + 120 * found.share[mine],
            color=color,
            marker=marker,
            alpha=0.75,
            label=kind,
        )
    ax.set(xticks=[], yticks=[], xlabel="t-SNE, first dimension", ylabel="second", title=style.plain(title))
    fig.legend(loc="outside right upper", fontsize=8)
    return fig


def alike(found: Masks | None) -> dict[str, float | int | None]:
    """Are masks of authors who write mostly of one category nearer to each other? ``same``, ``other``: mean distances of
    pairs with the same majority category, and with different ones; ``p``: the share of permutations of the authors that
    bring those of a category as near together. None where it cannot be said."""
    if found is None:
        return dict.fromkeys(("same", "other", "p", "authors"))
    distances, n = found.distances, len(found.authors)
    one, two = np.triu_indices(n, 1)
    kinds = np.array(found.majority)
    same = kinds[one] == kinds[two]
    if same.all() or not same.any():
        return {"same": None, "other": None, "p": None, "authors": n}
    pairs, random = distances[one, two], np.random.default_rng(0)

    def gap(order: np.ndarray) -> float:
        together = kinds[order][one] == kinds[order][two]
        return float(pairs[together].mean() - pairs[~together].mean())

    seen = gap(np.arange(n))
    as_low = sum(gap(random.permutation(n)) <= seen for _ in range(DRAWS))
    return {
        "same": float(pairs[same].mean()),
        "other": float(pairs[~same].mean()),
        "p": (as_low + 1) / (DRAWS + 1),
        "authors": n,
    }


def farthest(found: Masks | None) -> tuple[int, int] | None:
    """The two authors whose masks are the most distant."""
    if found is None:
        return None
    one, two = np.unravel_index(found.distances.argmax(), found.distances.shape)
    return int(one), int(two)


def heatmaps(found: Masks | None) -> Figure | None:
    """Figure 6: both masks of the two most distant authors, block by adapter."""
    pair = farthest(found)
    if found is None or pair is None:
        return None
    which = ("M_A", "M_B")[-found.weights.shape[1] :]
    fig, axes = plt.subplots(len(which), 2, figsize=(8.4, 0.8 + 1.5 * len(which)), sharex=True, sharey=True, squeeze=False)
    shown = found.weights[list(pair)]
    for column, author in enumerate(pair):
        for row, name in enumerate(which):
            ax = axes[row][column]
            image = ax.imshow(found.weights[author, row], aspect="auto", cmap="cividis", vmin=shown.min(), vmax=shown.max())
            ax.grid(visible=False)
            ax.set_ylabel(f"{name}, block" if column == 0 else "")
            for axis in (ax.xaxis, ax.yaxis):
                axis.get_major_locator().set_params(integer=True)
        axes[0][column].set_title(
            f"{found.authors[author]}: {found.majority[author]} ({found.share[author]:.0%})", fontsize=9
        )
        axes[-1][column].set_xlabel("adapter")
    fig.colorbar(image, ax=axes, label="weight")
    return fig
