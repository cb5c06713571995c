"""The survey's taxonomy and what of it is here, and the choice of a method from records."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from markupsafe import Markup

from peftlib import catalogue, markup
from peftlib.data.tasks import get_task
from peftlib.methods import METHODS
from peftlib.papers import paper_table
from peftlib.papers.survey.properties import implemented
from peftlib.report import choice, learned, style, suites
from peftlib.report.averages import test_rows
from peftlib.report.chart import chart
from peftlib.report.figures import figure
from peftlib.report.pages import page_of
from peftlib.report.sentences import fill, say
from peftlib.report.tables import IN_PART, Html, Spread, by_label, of_task, presence, rate_grid, table
from peftlib.study import Results

NOT_YET = "not here yet"


def taxonomy() -> Html:
    """Every method of the survey's taxonomy, and the class that implements it here, if any."""
    rows = paper_table("survey", "methods")
    here = rows["method"].map(implemented)
    shown = pd.DataFrame(
        {
            "family": rows["family"],
            "method": rows["method"],
            "section": rows["section"],
            "types": rows["types_printed"].replace("", "–"),
            "at inference": rows["overhead_printed"].replace("", "–"),
            "here": here.replace("", NOT_YET),
        }
    )
    absent = f" {NOT_YET.capitalize()}: no code, no page and no run in this book." if (here == "").any() else ""
    return table(
        shown,
        caption="The survey's methods, and what each is here",
        missing=NOT_YET,
        note="Types as printed in the survey's Table 1: A additive, S selective, R reparametrization-based; – "
        f"where the table has no row for the method.{absent}",
    )


# The survey's branches, by the folders of `peftlib.methods`; its additive methods are of three kinds.
BRANCHES = {
    "adapters": ("additive", "adapters"),
    "soft_prompts": ("additive", "soft prompts"),
    "additive": ("additive", "other"),
    "selective": ("selective", ""),
    "reparametrized": ("reparametrization-based", ""),
    "hybrid": ("hybrid", ""),
    "multitask": ("for many tasks", ""),
}
LINE, NAMES = 0.21, 3  # inches of a line of names, and names in one


def branches() -> dict[tuple[str, str], list[str]]:
    """The methods of every branch of the taxonomy, as figures call them, by the folders that their code lies in."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in catalogue.methods().values():
        folder = entry.file.split("/")[1]
        if folder in BRANCHES:
            found.setdefault(BRANCHES[folder], []).append(entry.about.name)
    return found


def drawing() -> Html:
    """The taxonomy as the library's folders have it."""
    lines = [
        (branch, kind, names[at : at + NAMES], at == 0)
        for (branch, kind), names in branches().items()
        for at in range(0, len(names), NAMES)
    ]
    fig, ax = plt.subplots(figsize=(8.2, 0.4 + LINE * len(lines) * 1.25))
    where: dict[str, list[int]] = {}
    for y, (branch, kind, names, first) in enumerate(lines):
        where.setdefault(branch, []).append(y)
        if first and kind:
            ax.text(2.45, y, kind, va="center_baseline")
        if first:
            ax.plot([2.3, 3.75 if not kind else 2.4], [y, y], color=style.GREY, linewidth=1)
        for i, name in enumerate(names):
            ax.text(3.85 + 1.75 * i, y, style.plain(name), va="center_baseline", fontsize=9.5)
    for branch, ys in where.items():
        ax.plot([2.3, 2.3], [min(ys), max(ys)], color=style.GREY, linewidth=1)
        ax.text(2.2, sum(ys) / len(ys), branch, va="center_baseline", ha="right", fontweight="bold")
    ax.set(xlim=(0, 9.1), ylim=(len(lines) - 0.4, -0.6))
    ax.axis("off")
    return figure(fig, caption=f"The taxonomy as the library has it: {_counted_branches()}.")


def _counted_branches() -> str:
    """ "additive 15 (adapters 10, soft prompts 2, other 3), selective 6" ..."""
    counts: dict[str, dict[str, int]] = {}
    for (branch, kind), names in branches().items():
        counts.setdefault(branch, {})[kind] = len(names)
    return ", ".join(
        f"{branch} {sum(kinds.values())}"
        + (f" ({', '.join(f'{kind} {n}' for kind, n in kinds.items())})" if len(kinds) > 1 else "")
        for branch, kinds in counts.items()
    )


def progress() -> Html:
    """How much of the taxonomy is here: a sentence, and by family the methods that are, each leading to its page."""
    rows = paper_table("survey", "methods")
    rows["ours"] = rows["method"].map(implemented)
    done = rows["ours"] != ""
    said = f"Of the {len(rows)} methods that the survey names, {int(done.sum())} are here:"
    parts, lines = [], []
    for family, group in rows.groupby("family", sort=False):
        here = group[group["ours"] != ""]
        methods = [(row.method, row.ours in METHODS and page_of(f"{row.ours}()")) for row in here.itertuples()]
        links = Markup(", ").join(
            Markup('<a href="{}">{}</a>').format(page, name) if page else Markup("{}").format(name)
            for name, page in methods
        )
        counted = f"{family}, {len(here)} of {len(group)}"
        parts.append(Markup("<li>{}{}</li>").format(counted, Markup(": {}").format(links) if methods else ""))
        lines.append(f"{counted}: {', '.join(name for name, _ in methods)}")
    shown = Markup("<p>{}</p><ul>{}</ul>").format(said, Markup().join(parts))
    return Html(shown, "\n".join([said, *lines]))


PAGE = ", to which its class leads, with its equation, its code, its counts and a training run."


def paged() -> Markdown:
    """How many methods have a page, and which have none."""
    absent = [cls.title for name, cls in METHODS.items() if page_of(f"{name}()") is None]
    if not absent:
        return say("All {n} methods have a page of their own" + PAGE, n=len(METHODS))
    return say(
        "{here} of {n} methods have a page of their own"
        + PAGE
        + " A page shows runs of the comparison of all methods, which "
        "has no row for the others: {absent}.",
        here=len(METHODS) - len(absent),
        n=len(METHODS),
        absent="; ".join(absent),
    )


def ours() -> Html:
    """Every method of this project, from its class: family, paper, hyperparameters, and whether it can be merged."""
    rows = [
        {
            "method": cls.title,
            "class": name,
            "family": cls.family,
            "paper": cls.paper,
            "hyperparameters": ", ".join(f"{f.name}={f.default!r}" for f in dataclasses.fields(cls)) or "–",
            "mergeable": "yes" if cls.mergeable else "no",
            "start": "anywhere" if cls.near_identity is None else "exact" if cls.near_identity == 0 else "near",
        }
        for name, cls in sorted(METHODS.items(), key=lambda item: (item[1].family, item[0]))
    ]
    return table(
        pd.DataFrame(rows),
        caption="The methods that can be run",
        note="Start: does the model begin exactly where the pretrained one was, near it, or anywhere? "
        "Mergeable: can the change be folded into the weights, so that inference costs nothing more?",
    )


# --- choosing ---------------------------------------------------------------------------------------------------------
def choices(records: Sequence[dict]) -> Html:
    """All methods, the highest test score first, with what they cost and what else decides; filters above."""
    there = choice.points(records)
    level, unbeaten = choice.level_with_best(there), choice.front(there)
    several, by_row = there and len(there[0].tasks) > 1, by_label(records)
    rows = [
        {
            "method": point.label,
            "test score": Spread(point.score.mean, None, 1, _together(point), (point.score.low, point.score.high)),
            **({suites.title(n): _of_task(point, n, by_row[point.label]) for n in point.tasks} if several else {}),
            "level with the highest": _yes(point in level),
            "stored": point.stored,
            "trained": point.trained,
            "changed": point.changed,
            "memory": point.memory,
            "time": point.time,
            "inference": point.speed,
            "merged": point.merged if point.merges else "–",
            "merges": _yes(point.merges),
            "peft": choice.elsewhere(point.method, "peft") or "–",
            "adapters": choice.elsewhere(point.method, "adapters") or "–",
            "unbeaten": _yes(point in unbeaten),
        }
        for point in there
    ]
    shown = table(
        pd.DataFrame(rows),
        caption="What each method gave and cost, one configuration each",
        source=records,
        formats=dict.fromkeys(("stored", "trained", "changed"), ",.0f")
        | dict.fromkeys(("memory", "time", "inference", "merged"), ".2f"),
        missing="not measured",
        note=f"Test score: {choice.said(records)}, with a 95 % interval. Level with the highest: not shown to be below "
        "it, with Holm's correction. Stored: numbers for a task; what tasks share is divided. Changed: numbers of "
        "the backbone that are others when it is used. Memory and time of a training step: full fine-tuning's are 1; "
        f"inference and merged: tokens a second, {choice.BATCH} texts at a time, the plain backbone's are 1; see the page "
        "on efficiency. Peft, adapters: what these libraries call it. Unbeaten: of the methods shown none that costs as "
        "little or less in storage, memory and time, and is not shown to score less, is better in one. Scores, memory and "
        "times are those of the backbone that ran, whichever is chosen.",
    )
    return Html(_filters(there, records[0]["run"]["backbone"]) + shown.content if rows else shown.content, shown.text)


def _of_task(point: choice.Point, task: str, records: Sequence[dict]) -> Spread:
    return Spread(point.tasks[task].mean, None, len(of_task(records, task)), point.lost.get(task, ()))


def _together(point: choice.Point) -> tuple[str, ...]:
    """What the mean over the tasks is marked with: that a part of it, or all, was not learned."""
    return point.words[:1] if len(point.lost) == len(point.tasks) else (IN_PART,) * bool(point.lost)


def rates_said(tried: Results, used: Callable[[str], float]) -> Markdown:
    """Which rows run at another learning rate than the search's best, and which the search cannot judge yet. used: a
    method's expression -> its rate."""
    grid = rate_grid(tried, used)
    others = grid[grid["best"] != grid["used"]] if len(grid) else grid
    listed = "; ".join(f"{row['method']} (best {row['best']:g}, used {row['used']:g})" for _, row in others.iterrows())
    open_ = len({run.label for run in tried.wanted}) - len(grid)
    return say(
        "Each method has the rate with the best validation score, a mean over the tasks, in a search that is shorter than "
        "the runs above. {others} {open_}",
        others=f"Other rates are used for: {listed}." if listed else "None has another.",
        open_=f"The search of {open_} more is not complete: their rates are guesses." if open_ else "",
    )


# Backbones of two families, whose shapes decide what a method stores there and whether it has a place at all.
FAMILIES = {"bert-base-uncased": "an encoder: BERT-base", "t5-base": "an encoder-decoder: T5-Base"}
TASKS = (1, 3, 10, 100)
SHARES = (0.001, 0.005, 0.01, 0.05)  # of full fine-tuning's, that a task may store
# What a reader may ask of a row besides: column, comparison, value (book/_static/tables.js hides the other rows).
WISHES = (
    ("trains in less memory than full fine-tuning", "memory", "<", "1"),
    ("trains faster than full fine-tuning", "time", "<", "1"),
    ("can be merged, so that inference costs nothing more", "merges", "=", "yes"),
    ("is in peft", "peft", "!=", "–"),
    ("is in adapters", "adapters", "!=", "–"),
    ("cannot be told from the highest score", "level with the highest", "=", "yes"),
)


def _filters(there: Sequence[choice.Point], ran: str) -> Markup:
    """What a reader chooses from, with the numbers that the choice needs: by label, whom each point is shown to be below,
    its costs, and what a task stores by backbone and number of tasks. Hidden until the script shows it. ran: the backbone
    of the records."""
    backbones = {ran: f"the one that ran: {ran}", **{name: said for name, said in FAMILIES.items() if name != ran}}
    numbers = {
        markup.line(point.label): {  # as its row and its point are called
            "below": [markup.line(other.label) for other in there if choice.above(other, point)],
            "memory": point.memory,
            "time": point.time,
            "stored": {name: [_stored(point, name, number, ran) for number in TASKS] for name in backbones},
        }
        for point in there
    }
    full = next((markup.line(point.label) for point in there if point.method == "Full()"), "")
    chosen = [
        _select("tasks", "tasks to be kept", [(str(i), str(number)) for i, number in enumerate(TASKS)]),
        _select("backbone", "backbone", list(backbones.items())),
    ]
    if full:
        shares = [(str(share), f"{share:.1%} of full fine-tuning's") for share in SHARES]
        chosen.append(_select("share", "stored for a task at most", [("", "any number"), *shares]))
    wishes = Markup().join(
        Markup('<label><input type="checkbox" data-column="{}" data-is="{}" data-value="{}"> {}</label>').format(
            column, comparison, value, wish
        )
        for wish, column, comparison, value in WISHES
    )
    return Markup(
        '<fieldset class="filters" data-numbers="{}" data-full="{}" hidden>'
        "<legend>Which methods suit?</legend>{}{}</fieldset>"
    ).format(json.dumps(numbers), full, Markup().join(chosen), wishes)


def _stored(point: choice.Point, backbone: str, tasks: int, ran: str) -> int | None:
    return choice.stored_a_task(point.method, backbone, tasks, point.stored if backbone == ran else None)


def _select(name: str, title: str, options: Sequence[tuple[str, str]]) -> Markup:
    choices = Markup().join(Markup('<option value="{}">{}</option>').format(*option) for option in options)
    return Markup('<label>{} <select data-choose="{}">{}</select></label>').format(title, name, choices)


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def about_the_tasks(records: Results) -> Html:
    """What the scores are of, so that a number near a half is not taken for a coin toss: each task's classes, and what the
    commonest label, a head alone and full fine-tuning reach on it."""
    reached = {point.label: point.tasks for point in choice.points(records)}
    rows = []
    for run in choice.asked(records):
        (name,) = run.tasks
        task, ends = get_task(name), {label: reached.get(label, {}).get(name) for label in ("HeadOnly", "Full")}
        rows.append(
            {
                "task": suites.title(name),
                "what is asked": task.title,
                "classes": str(len(task.labels)) if task.labels else f"a score, {task.low:g} to {task.high:g}",
                "scored by": suites.METRICS[task.metric],
                "test rows": test_rows(name, run.source, run.limits[2]),
                "commonest label": learned.to_beat(run, name),
                **{label: score and score.mean for label, score in ends.items()},
            }
        )
    return table(
        pd.DataFrame(rows),
        caption="The tasks of the comparison, and how far apart the ends of the scale are",
        source=records,
        formats={"test rows": ",.0f"} | dict.fromkeys(("commonest label", "HeadOnly", "Full"), ".3f"),
        note="HeadOnly: a linear layer on the frozen backbone. Full: everything is trained. A method is of use if it "
        "gets from the first close to the second.",
    )


def picture(records: Sequence[dict]) -> Html:
    """Every method as a point, see `peftlib.report.chart`."""
    there = choice.points(records)
    if len(there) < 2:
        return figure(None, caption="Every method: score over what it costs.", source=records)
    return chart(
        there,
        task=choice.said(records),
        baseline=choice.commonest_score(records),
        caption="Every method, with its 95 % interval, on the backbone that ran, for one task; solid: unbeaten. "
        "What is chosen below fades the others, and says anew which of those left are unbeaten.",
        source=records,
    )


def advice(records: Sequence[dict]) -> Markdown:
    """Which methods the records cannot tell from the best, and which of those stores least, trains fastest, needs least
    memory."""
    there = choice.points(records)
    if len(there) < 4:
        return say("*{there}: too few to advise anyone. Train the others first.*", there=presence(records))
    close, best = choice.level_with_best(there), there[0]
    lines = [
        fill(
            "The highest score is **{top}**'s, {score:.3f} ({low:.3f} to {high:.3f}). **{n} of {all} methods are level "
            "with it**, itself included, for a difference below about {least:.2f} cannot be seen{which}. Their order "
            "says nothing; choose among them by what they cost:",
            top=best.label,
            score=best.score.mean,
            low=best.score.low,
            high=best.score.high,
            n=len(close),
            least=choice.visible(there),
            all=len(there),
            which=_named(close, there),
        ),
        _least("stores least", close, lambda point: point.stored),
        _least("trains fastest, of those that were timed", close, lambda point: point.time),
        _least("needs least memory, of those that were measured", close, lambda point: point.memory),
        fill(
            "- cost nothing at inference, once merged: {merges}",
            merges=", ".join(point.label for point in close if point.merges) or "none",
        ),
    ]
    return Markdown(lines[0] + "\n\n" + "\n".join(line for line in lines[1:] if line))


def _named(close: Sequence[choice.Point], there: Sequence[choice.Point]) -> str:
    """Who is level with the highest score: by name, or, where most are, who is not. Nothing if all are."""
    others = [point.label for point in there if point not in close]
    if len(close) <= len(others):
        return f": {', '.join(point.label for point in close)}"
    return f": all but {', '.join(others)}" if others else ""


def _least(what: str, close: Sequence[choice.Point], cost: Callable[[choice.Point], float | None]) -> str:
    known = {point.label: value for point in close if (value := cost(point)) is not None}
    return fill("- {what}: **{best}**", what=what, best=min(known, key=known.__getitem__)) if known else ""
