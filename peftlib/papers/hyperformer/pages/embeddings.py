"""Figure 3: what HyperFormer++ has learnt of tasks, from the embeddings beside the records of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from peftlib import records
from peftlib.grids import Preset
from peftlib.papers import paper_table
from peftlib.papers.hyperformer.rows import NEAREST
from peftlib.papers.hyperformer.sharing import PAPERS
from peftlib.report import style, suites
from peftlib.report.tables import Html, frame, table
from peftlib.study import Results

DRAWS = 2000  # permutations


class Embeddings(NamedTuple):
    """Of one seed. tasks: by the names of the real ones. vectors: (tasks, t). begun: of a task that was carried over, the
    one whose embedding it began with, and how far it has moved from there."""

    tasks: tuple[str, ...]
    vectors: np.ndarray
    begun: dict[str, tuple[str, float]]

    @property
    def distances(self) -> np.ndarray:
        """(tasks, tasks), Euclidean."""
        return np.linalg.norm(self.vectors[:, None] - self.vectors[None], axis=-1)


def groups() -> dict[str, str]:
    """The group that the paper (section 4.4) sees each task in; it says nothing of TREC."""
    return dict(paper_table("hyperformer", "figure3").itertuples(index=False, name=None))


def pairs(group_of: Mapping[str, str]) -> set[frozenset[str]]:
    """Every two tasks of a group."""
    return {frozenset((a, b)) for a in group_of for b in group_of if a < b and group_of[a] == group_of[b]}


def read(source: Results, preset: Preset) -> dict[int, Embeddings]:
    """By seed, of the run on all tasks and those that begin with it. A seed whose first run has left none is left out,
    and so is a run without any."""
    from peftlib.tensorfiles import read_tensors  # which brings torch

    found: dict[int, dict[str, np.ndarray]] = {}
    begun: dict[int, dict[str, tuple[str, float]]] = {}
    for record in sorted(source, key=lambda record: record["run"]["label"] != PAPERS):
        run = records.run_of(record)
        path = records.drawn_path(preset.name, run)
        if not path.exists() or (run.start and run.seed not in found):
            continue
        tensors = read_tensors(path)[1]
        mine = {
            suites.real(task): tensors[f"shared.hyperformerplusplus__hypernet.z.{task}.weight"].float().numpy()
            for task in run.tasks
        }
        if run.start:
            (task,), first = mine, suites.real(run.start_task)
            moved = float(np.linalg.norm(mine[task] - found[run.seed][first]))
            begun.setdefault(run.seed, {})[task] = (first, moved)
        found.setdefault(run.seed, {}).update(mine)
    return {
        seed: Embeddings(tuple(vectors), np.stack(list(vectors.values())), begun.get(seed, {}))
        for seed, vectors in found.items()
    }


def picture(found: Mapping[int, Embeddings]) -> Figure | None:
    """Figure 3: one panel a seed, the embeddings in two dimensions by PCA; colour: the paper's groups, a line: from where a
    task that was carried over began. None without any."""
    from sklearn.decomposition import PCA

    there = {seed: one for seed, one in found.items() if len(one.tasks) > 2}
    if not there:
        return None
    of = groups()
    kinds = [kind for kind in dict.fromkeys(of.values()) if kind != "alone"]
    colors = dict(
        zip(kinds, (style.BLUE, style.ORANGE, style.GREEN, style.VERMILLION, style.PURPLE, style.SKY), strict=True)
    )
    fig, axes = plt.subplots(1, len(there), squeeze=False, figsize=(1.2 + 4.4 * len(there), 4.6))
    for ax, (seed, one) in zip(axes[0], there.items(), strict=True):
        fitted = PCA(2, random_state=0).fit(one.vectors)
        places = dict(zip(one.tasks, fitted.transform(one.vectors), strict=True))
        below = dict.fromkeys(one.tasks, 0)  # names of those that began with a task, which may lie upon each other
        for task, place in places.items():
            color, carried = colors.get(of.get(task, ""), style.GREY), task in one.begun
            if carried:
                below[one.begun[task][0]] += 1
            offset = (6, 3 - 10 * below[one.begun[task][0]] if carried else 3)
            ax.plot(*place, "^" if carried else "o", color=color)
            ax.annotate(task.replace("_", " "), place, xytext=offset, textcoords="offset points", fontsize=8, color=color)
        for task, (first, _) in one.begun.items():
            ax.plot(*zip(places[first], places[task], strict=True), color=style.GREY, linewidth=0.7, zorder=0)
        ax.margins(x=0.2)  # room for names
        share = 100 * fitted.explained_variance_ratio_
        ax.set(xticks=[], yticks=[], title=f"seed {seed}" if len(there) > 1 else "")
        ax.set(xlabel=f"first component, {share[0]:.0f}% of the variance", ylabel=f"second, {share[1]:.0f}%")
    return fig


# --- nearest neighbours -----------------------------------------------------------------------------------------------
def _near(one: Embeddings, tasks: list[int]) -> np.ndarray:
    """Of some tasks, by their places, which among them is nearest to each."""
    distances = one.distances[np.ix_(tasks, tasks)]
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(1)


def neighbours(found: Mapping[int, Embeddings]) -> pd.DataFrame:
    """One line a seed and task: its ``nearest`` other task, the paper's ``group`` and that of the nearest; where the task
    ``began`` and how far it ``moved`` from there, over the mean distance between two tasks trained together."""
    of, rows = groups(), []
    for seed, one in found.items():
        if len(one.tasks) < 2:
            continue
        near = _near(one, list(range(len(one.tasks))))
        first = [i for i, task in enumerate(one.tasks) if task not in one.begun]
        apart = one.distances[np.ix_(first, first)][np.triu_indices(len(first), 1)].mean()
        for i, task in enumerate(one.tasks):
            nearest = one.tasks[near[i]]
            began, moved = one.begun.get(task, ("", None))
            rows.append(
                {
                    "seed": seed,
                    "task": task,
                    "group": of.get(task, "–"),
                    "nearest": nearest,
                    "its group": of.get(nearest, "–"),
                    "began with": began or "–",
                    "moved": None if moved is None else moved / float(apart),
                }
            )
    return frame(rows)


def shown(found: Mapping[int, Embeddings], source: Results) -> Html:
    """`neighbours` as a table."""
    return table(
        neighbours(found),
        caption="Each task's nearest neighbour among the embeddings, and the paper's groups",
        source=source,
        missing="–",
        note="moved: distance from the embedding that a task began with, over the mean distance between two tasks that "
        "were trained together.",
    )


def agreement(found: Mapping[int, Embeddings], carried: bool = True) -> dict[str, float | int | None]:
    """Have tasks their nearest neighbour in their group? Over all seeds: of ``n`` tasks that have another of their group
    beside them ``hits`` have; by ``chance`` it would be so many; ``p``: the share of permutations with as many.
    carried: also those that were carried over. None where no task has another of its group beside it."""
    of, random = groups(), np.random.default_rng(0)
    hits = n = 0
    chance, drawn = 0.0, np.zeros(DRAWS)
    for one in found.values():
        kept = [i for i, task in enumerate(one.tasks) if carried or task not in one.begun]
        kinds = np.array([of.get(one.tasks[i], one.tasks[i]) for i in kept])
        mates = (kinds[:, None] == kinds[None]).sum(1) - 1
        if not mates.any():
            continue
        near = _near(one, kept)
        n += int((mates > 0).sum())
        hits += int((kinds[near] == kinds).sum())
        chance += float((mates / (len(kept) - 1)).sum())
        for draw in range(DRAWS):
            mixed = random.permutation(kinds)
            drawn[draw] += (mixed[near] == mixed).sum()
    if not n:
        return dict.fromkeys(("n", "hits", "chance", "p"))
    return {"n": n, "hits": hits, "chance": chance, "p": float(((drawn >= hits).sum() + 1) / (DRAWS + 1))}


def stayed(found: Mapping[int, Embeddings]) -> dict[str, float | int | None]:
    """Of ``n`` tasks that were carried over, over all seeds, how many still have the task that they began with as their
    nearest neighbour among those trained together (``near``); and the mean of what they ``moved``, see `neighbours`."""
    near, moved = [], []
    for one in found.values():
        first = [i for i, task in enumerate(one.tasks) if task not in one.begun]
        apart = one.distances[np.ix_(first, first)][np.triu_indices(len(first), 1)].mean() if len(first) > 1 else np.nan
        for task, (began, distance) in one.begun.items():
            mine = one.distances[one.tasks.index(task), first]
            near.append(one.tasks[first[int(mine.argmin())]] == began)
            moved.append(distance / apart)
    if not near:
        return dict.fromkeys(("n", "near", "moved"))
    return {"n": len(near), "near": sum(near), "moved": float(np.mean(moved))}


def imposed() -> dict[str, object]:
    """Of the paper's groups: how many pairs of tasks in one (``pairs``) there are, how many a start explains, because one
    of them began as the other, or both as a third (``begun``), and which are left (``others``)."""
    from_of = {task: NEAREST.get(task, task) for task in groups()}
    there = pairs({task: group for task, group in groups().items() if group != "alone"})
    begun = {pair for pair in there if len({from_of[task] for task in pair}) == 1}
    others = [" and ".join(sorted(pair)) for pair in sorted(there - begun, key=sorted)]
    return {"pairs": len(there), "begun": len(begun), "others": "; ".join(others)}
