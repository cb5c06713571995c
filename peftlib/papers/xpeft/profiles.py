"""What X-PEFT's authors score and what their masks say: Figures 3 to 7, from records and deltas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from peftlib import answered, records
from peftlib.accounting import BERT
from peftlib.accounting.counted import shape
from peftlib.data.tasks import get_task
from peftlib.grids import Preset
from peftlib.papers.xpeft.rows import K
from peftlib.papers.xpeft.users import COUNTS
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
    """The masks that a row's first run has learnt; None where its delta or the labels of its rows are not here."""
    from peftlib.methods import parse  # which bring torch
    from peftlib.methods.adapters.xpeft import XPEFT
    from peftlib.tensorfiles import read_tensors, unpacked

    for record in (record for record in source if record["run"]["label"] == label):
        run = records.run_of(record)
        path = records.delta_path(preset.name, run)
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


# --- Figures 5 and 7 --------------------------------------------------------------------------------------------------
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


# --- beyond the paper -------------------------------------------------------------------------------------------------
def stored(record: dict) -> int:
    """Bytes that a profile is counted at, its head among them: four a number, an eighth for a choice."""
    return 4 * (record["counts"]["stored"] + record["counts"]["heads"])


def scored(source: Results, tasks: Sequence[str], split: str = "test") -> dict[str, Spread | None]:
    """By row the mean over the tasks, over seeds; None where a task is missing."""
    found: dict[str, Spread | None] = {}
    for label, there in by_label(source).items():
        by_seed: dict[int, dict[str, float]] = {}
        for record in there:
            by_seed.setdefault(record["run"]["seed"], {}).update(
                {task: record[split].get(task) for task in record["run"]["tasks"]}
            )
        whole = [
            float(np.mean([scores[task] for task in tasks])) for scores in by_seed.values() if set(tasks) <= set(scores)
        ]
        found[label] = Spread.of(whole)
    return found


def tasks_of(source: Results) -> list[str]:
    """The tasks that an experiment's runs are on."""
    return list(dict.fromkeys(task for run in source.wanted for task in run.tasks))


def side_by_side(source: Results, base: str) -> pd.DataFrame:
    """One line a row: what it trains beside its head, what a profile stores (``bytes``, counted, and as a ``file``), its
    score on each task, their mean (``average``) and what that is above the row `base` (``gain``)."""
    tasks, every, rows = tasks_of(source), by_label(source), []
    average = scored(source, tasks)
    for label, found in every.items():
        by_task = {task: [r for r in found if task in r["run"]["tasks"]] for task in tasks}
        mean, reference = average[label], average.get(base)
        rows.append(
            {
                "row": label,
                "trained": int(np.mean([r["counts"]["trainable"] for r in found])) if found else None,
                "bytes": round(np.mean([stored(r) for r in found])) if found else None,
                "file": round(np.mean([r["stored_bytes"] for r in found])) if found else None,
                **{task: Spread.of(r["test"][task] for r in there) for task, there in by_task.items()},
                "average": mean,
                "gain": mean.mean - reference.mean if mean and reference and label != base else None,
            }
        )
    return frame(rows)


def over_bytes(source: Results) -> pd.DataFrame:
    """For `peftlib.report.figures.over`: each row's mean score over the bytes that a profile stores."""
    rows, average = [], scored(source, tasks_of(source))
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
        "bytes": int(least["x"]),
        "score": least["score"],
        "best": best["name"],
        "best_bytes": int(best["x"]),
        "best_score": best["score"],
        "within": within,
    }


def parts(backbone: str) -> pd.DataFrame:
    """Bytes of a profile with 100 adapters by part, on a backbone and on BERT-base: hard and soft ``masks``, ``norms``, and
    heads for 2 and 15 classes."""
    rows = []
    for name in dict.fromkeys((backbone, BERT)):
        sizes = shape(name)
        masks = {
            "hard masks": 2 * -(-100 // 8) * sizes.layers,
            "soft masks": 2 * 4 * 100 * sizes.layers,
            "norms": 2 * 4 * 48 * sizes.layers,
        }
        heads = {f"head, {n} classes": 4 * n * (sizes.width + 1) for n in (2, 15)}
        rows.append({"model": name, **masks, **heads})
    return frame(rows)


def ladder(source: Results) -> Figure | None:
    """The mean score of each row over the tasks, with its spread over seeds. None if nothing has been run."""
    found = {label: score for label, score in scored(source, tasks_of(source)).items() if score is not None}
    if not found:
        return None
    fig, ax = plt.subplots(figsize=(6.8, 0.9 + 0.34 * len(found)))
    for y, (label, score) in enumerate(found.items()):
        color = style.BLUE if label.startswith("x_peft") else style.GREY
        ax.errorbar(score.mean, y, xerr=score.sd or 0.0, fmt="o", color=color, capsize=2 if score.sd else 0)
    ax.set_yticks(range(len(found)), map(style.plain, found))
    ax.invert_yaxis()
    ax.set_xlabel(f"test score, mean over {', '.join(tasks_of(source))}")
    ax.grid(axis="y", visible=False)
    return fig


def due(source: Results) -> dict[str, float | None]:
    """What a head, norms and masks are worth, in mean score: above the head alone ``whole`` (soft masks, norms and head),
    ``fixed`` (masks as they start) and ``norms`` (the backbone's own, without a bank); above fixed masks ``masks`` (soft)
    and ``hard``. None without the runs."""
    found = scored(source, tasks_of(source))

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
