"""Beyond HyperFormer's tables: what is shared at equal numbers, what tasks lose to each other, and a thousand tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from peftlib.accounting.counted import count, shape
from peftlib.methods import parse
from peftlib.methods.multitask.hypernet import Writes
from peftlib.papers import paper_table
from peftlib.papers.hyperformer import counts
from peftlib.papers.hyperformer.rows import METHODS, REDUCTION, called
from peftlib.papers.hyperformer.sharing import BUDGET, ENDS, schemes
from peftlib.report import style, suites
from peftlib.report.averages import by_task
from peftlib.report.efficiency import benchmark, not_measured, where
from peftlib.report.evidence import AVERAGE, Rows, measured
from peftlib.report.tables import IN_PART, Html, Spread, frame, table
from peftlib.report.uncertainty import Number, interval
from peftlib.study import Results

POINTS = 100
UNLEARNED = "did not learn"


def _cell(number: Number, marks: tuple[str, ...] = ()) -> Spread:
    return Spread(float(number[0]), None, 1, marks, interval(number))


def _marks(rows: Rows, key: str, *labels: str) -> tuple[str, ...]:
    lost = any(rows.lost.get(label, {}).get(key) for label in labels)
    return ((IN_PART if key == AVERAGE else UNLEARNED),) if lost else ()


def score(rows: Rows, label: str, key: str) -> Spread | None:
    """A row's test score with its 95 % interval; None where it has not been run."""
    if rows.values.get(label, {}).get(key) is None:
        return None
    return _cell(rows.whatever(label, key), _marks(rows, key, label))


def difference(rows: Rows, one: str, other: str, key: str) -> Spread | None:
    """What a row is above another, on the same test rows, with its 95 % interval; None where one has not been run."""
    if any(rows.values.get(label, {}).get(key) is None for label in (one, other)):
        return None
    return _cell(rows.whatever(one, key) - rows.whatever(other, key), _marks(rows, key, one, other))


def _tasks(source: Results) -> list[str]:
    return list(dict.fromkeys(task for run in source.wanted for task in run.tasks))


def side(found: Spread | None) -> str:
    """On which side of zero an interval is: "above", "below", or "neither", also of runs that did not learn."""
    if found is None or found.ends is None or found.marks:
        return "neither"
    return "above" if found.ends[0] > 0 else "below" if found.ends[1] < 0 else "neither"


# --- what is shared ---------------------------------------------------------------------------------------------------
def sizes(backbone: str, tasks: int) -> Html:
    """What each scheme trains for all tasks together, heads apart."""
    wanted = count(schemes(backbone, tasks)[BUDGET], backbone, tasks).trainable
    rows = []
    for label, method in schemes(backbone, tasks).items():
        trained = count(method, backbone, tasks).trainable
        rows.append({"scheme": label, "expression": method, "trained": trained, f"over {BUDGET}": trained / wanted})
    return table(
        pd.DataFrame(rows),
        caption=f"Parameters trained on {backbone} for {tasks} tasks together",
        formats={f"over {BUDGET}": ".3f"},
    )


def uncut(backbone: str, tasks: int) -> dict[str, float]:
    """For a sentence on the two hypernetworks that write from less than in their papers: from how many numbers
    (``adaptbert_cut``) in place of how many (``adaptbert_own``), and what they would train with these and a bottleneck of
    1, over HyperFormer++ (``adaptbert``); the same of ``hyperformer``."""
    rows = schemes(backbone, tasks)
    found: dict[str, float] = {}
    wanted = count(rows[BUDGET], backbone, tasks).trainable
    for key, name in (("adaptbert", "AdaptBert's hypernetwork"), ("hyperformer", "HyperFormer")):
        methods = [leaf.method for leaf in parse(rows[name]).leaves(("task",))]
        cut = next(method for method in methods if isinstance(method, Writes))
        own = dataclasses.replace(cut, bottleneck=1, task_dim=type(cut).task_dim)  # type: ignore[attr-defined, call-arg]  # of one that writes
        whole = " + ".join(str(own if method is cut else method) for method in methods)
        found |= {f"{key}_cut": cut.task_dim, f"{key}_own": own.task_dim}  # type: ignore[attr-defined]  # as above
        found[key] = count(whole, backbone, tasks).trainable / wanted
    return found


def sharing(source: Results) -> pd.DataFrame:
    """One line a scheme: its mean test score (``average``), what that is above HyperFormer++'s (``gain``), and its score on
    each task, in points with 95 % intervals; None where nothing has been run."""
    rows = measured("hyperformer/sharing", source, unit=POINTS)
    return frame(
        {
            "scheme": label,
            "average": score(rows, label, AVERAGE),
            "gain": None if label == BUDGET else difference(rows, label, BUDGET, AVERAGE),
            **{task: score(rows, label, task) for task in _tasks(source)},
        }
        for label in rows.labels
    )


def said_of_sharing(source: Results) -> dict[str, object]:
    """For a sentence: of ``n`` other schemes that train as much, how many are ``above`` HyperFormer++ in the mean over
    tasks, how many ``below`` and how many neither (``level``), by 95 % intervals. None without records."""
    found = sharing(source)
    same = found[~found["scheme"].isin((BUDGET, *ENDS))]
    there = [side(gain) for gain in same["gain"] if gain is not None]
    if not there:
        return dict.fromkeys(("n", "above", "below", "level"))
    of = {"above": "above", "below": "below", "level": "neither"}
    return {"n": len(there), **{name: there.count(word) for name, word in of.items()}}


def ladder(source: Results) -> Figure | None:
    """The mean test score of each scheme with its interval. None if nothing has been run."""
    found = sharing(source).dropna(subset=["average"]) if source else None
    if found is None or found.empty:
        return None
    fig, ax = plt.subplots(figsize=(6.8, 0.9 + 0.34 * len(found)))
    for y, (label, mean) in enumerate(zip(found["scheme"], found["average"], strict=True)):
        color = style.GREEN if label == BUDGET else style.BLUE
        low, high = mean.ends
        ax.errorbar(mean.mean, y, xerr=[[mean.mean - low], [high - mean.mean]], fmt="o", color=color, capsize=2)
    ax.set_yticks(range(len(found)), map(style.plain, found["scheme"]))
    ax.invert_yaxis()
    ax.set_xlabel("test score, points, mean over tasks, with 95 % interval")
    ax.grid(axis="y", visible=False)
    return fig


# --- negative transfer ------------------------------------------------------------------------------------------------
def compared(size: str) -> dict[str, tuple[str, str]]:
    """By name, two rows of Table 1 on ``Base`` or ``Small``: trained on all tasks together, and on each alone."""
    return {
        "full fine-tuning": (f"T5-{size} (multi-task)", f"T5-{size} (single-task)"),
        "adapters": (f"Adapters†-{size}", f"Adapters-{size}"),
        "HyperFormer above adapters alone": (f"HyperFormer-{size}", f"Adapters-{size}"),
        "HyperFormer++ above adapters alone": (f"HyperFormer++-{size}", f"Adapters-{size}"),
    }


def printed(size: str) -> pd.DataFrame:
    """What the paper's Table 1 says: a line a comparison, a column a task and ``average``, points."""
    rows = {
        row["method"]: by_task({k: v for k, v in row.items() if isinstance(v, float) and k != AVERAGE})
        | {AVERAGE: row[AVERAGE]}
        for row in paper_table("hyperformer", "table1").to_dict("records")
    }
    return pd.DataFrame(
        {
            name: {task: rows[one][task] - rows[other][task] for task in rows[one]}
            for name, (one, other) in compared(size).items()
        }
    ).T


def transfer(source: Results, size: str, name: str) -> pd.DataFrame:
    """Ours: a line a comparison, a column a task, by the names of the real ones, and ``average``: what all tasks together
    give above each alone, points with 95 % intervals. None where one of both has not been run. name: of the experiment."""
    rows = measured(name, source, unit=POINTS)
    return frame(
        {
            "what": what,
            "average": difference(rows, one, other, AVERAGE),
            **{suites.real(task): difference(rows, one, other, task) for task in _tasks(source)},
        }
        for what, (one, other) in compared(size).items()
    )


def transfer_table(found: pd.DataFrame, size: str, source: Results) -> Html:
    """Ours, each above the paper's."""
    paper, rows = printed(size), []
    for row in found.to_dict("records"):
        rows.append({"what": row["what"], "whose": "ours"} | {k: v for k, v in row.items() if k != "what"})
        theirs = {key: float(paper.loc[row["what"], key]) for key in row if key in paper.columns}
        rows.append({"what": row["what"], "whose": "paper"} | theirs)
    shown = frame(rows)
    shown = shown[["what", "whose", *(column for column in shown.columns if column not in ("what", "whose"))]]
    return table(
        shown,
        caption=f"Points gained by training all tasks together, rows of Table 1 on T5-{size}",
        source=source,
        formats=dict.fromkeys(shown.columns[2:], "+.1f"),
        note="In brackets: 95 % intervals, over test rows and seeds. The paper prints no spread. Of a task with two "
        "metrics their mean; the average is over all metrics.",
    )


def transfer_figure(found: pd.DataFrame, size: str) -> Figure | None:
    """One panel a comparison: ours with intervals and the paper's (hollow), task by task. None if nothing has been run."""
    tasks = [column for column in found.columns if column not in ("what", "average")]
    there = found[found[tasks].notna().any(axis=1)]
    if there.empty:
        return None
    paper = printed(size)
    fig, axes = plt.subplots(
        1, len(there), sharey=True, squeeze=False, figsize=(2.2 + 2.4 * len(there), 1.3 + 0.34 * len(tasks))
    )
    for ax, row in zip(axes[0], there.to_dict("records"), strict=True):
        for y, task in enumerate(tasks):
            if task in paper.columns:
                ax.plot(paper.loc[row["what"], task], y, "o", color=style.GREY, markerfacecolor="none", zorder=1)
            ours = row[task]
            if ours is not None:
                low, high = ours.ends
                color = {"above": style.BLUE, "below": style.VERMILLION}.get(side(ours), style.GREY)
                marker = "x" if ours.marks else "o"
                bars = [[ours.mean - low], [high - ours.mean]]
                ax.errorbar(ours.mean, y, xerr=bars, fmt=marker, color=color, capsize=2)
        ax.axvline(0, color=style.GREY, linewidth=0.8, linestyle=":")
        ax.set_title(row["what"].replace(" above ", "\nabove "), fontsize=9)
        ax.set_xlabel("points")
        ax.grid(axis="y", visible=False)
    axes[0][0].set_yticks(range(len(tasks)), tasks)
    axes[0][0].invert_yaxis()
    return fig


def said_of_transfer(found: pd.DataFrame, what: str) -> dict[str, object]:
    """For a sentence on one comparison: of ``n`` tasks those that lose (``below``) and those that gain (``above``), by
    name; None if none has been run."""
    (row,) = found[found["what"] == what].to_dict("records")
    there = {task: value for task, value in row.items() if isinstance(value, Spread) and task != AVERAGE}
    if not there:
        return dict.fromkeys(("n", "below", "above"))
    named = {word: [task for task, value in there.items() if side(value) == word] for word in ("below", "above")}
    return {"n": len(there)} | {word: ", ".join(tasks) or "none" for word, tasks in named.items()}


# --- a thousand tasks -------------------------------------------------------------------------------------------------
TASKS = (1, 8, 64, 256, 1000)
SINGLE = {name: text for name, text in METHODS.items() if name != "T5"}


def needed(name: str, tasks: int, backbone: str) -> int:
    """Numbers that a method trains and stores for so many tasks, closed forms; T5 by full fine-tuning, a model a task."""
    sizes = shape(backbone)
    return tasks * sizes.total if name == "T5" else counts.formula(SINGLE[name], sizes, tasks)


ALONE = "full fine-tuning, a model a task"


def rows_grown() -> dict[str, str]:
    """The rows of `growth`, with an expression."""
    return {ALONE if name == "T5" else name: method for name, method in called().items()}


def growth(backbone: str) -> pd.DataFrame:
    """One line a method: numbers trained and stored for so many tasks, what one more adds, and GiB for the most."""
    return frame(
        {
            "method": ALONE if name == "T5" else name,
            **{f"{n:,}": needed(name, n, backbone) for n in TASKS},
            "one more": needed(name, 2, backbone) - needed(name, 1, backbone),
            f"GiB for {TASKS[-1]:,}": 4 * needed(name, TASKS[-1], backbone) / 2**30,
        }
        for name in METHODS
    )


def grown(backbone: str) -> pd.DataFrame:
    """For `peftlib.report.figures.over`."""
    rows = [
        {"method": METHODS[name].format(r=REDUCTION), "name": name, "x": n, "y": float(needed(name, n, backbone))}
        for name in METHODS
        for n in TASKS
    ]
    return pd.DataFrame(rows)


def crossings(backbone: str) -> dict[str, int]:
    """From how many tasks on HyperFormer++ (``plusplus``) and HyperFormer (``hyperformer``) store less than Adapters†."""
    found = {}
    for key, name in (("plusplus", "HyperFormer++"), ("hyperformer", "HyperFormer")):
        found[key] = next(n for n in range(1, 10_000) if needed(name, n, backbone) < needed("Adapters†", n, backbone))
    return found


def added() -> Html | Markdown:
    """What one task more takes, as it was measured: time to add it, numbers to train for it, and a step of training all."""
    result = benchmark("hyperformer")
    if result is None:
        return not_measured("hyperformer")
    rows: Sequence[dict] = [
        {
            "backbone": backbone,
            "method": name,
            "tasks before": row["tasks"],
            "add one, s": row["add_seconds"],
            "trained for it": row["trained_alone"],
            "a step / with the fewest": row["step"]["ratio"],
        }
        for backbone, found in result["backbones"].items()
        for name, of in found["growth"].items()
        for row in of
    ]
    about = (
        f"The model is built anew with one task more, its backbone read, checked and its weights copied; processor time. "
        f"{result['batch']} sequences of {result['length']} tokens, {result['precision']}. {where(result)}"
    )
    formats = {"add one, s": ".2f", "a step / with the fewest": ".2f"}
    return table(
        pd.DataFrame(rows), caption="One task more, the others left as they are", formats=formats, rows=called(), note=about
    )
