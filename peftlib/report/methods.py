"""The sections of a method's page: where it sits, its code, its counts, its run, its cost, and how it compares.

``method`` is an expression as text; ``label`` is a row of experiment "methods/compared" (`METHOD_RUNS`).
"""

from __future__ import annotations

import ast
import inspect
import re
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType

import matplotlib.pyplot as plt
import pandas as pd
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from peftlib import backbones
from peftlib.accounting import BERT
from peftlib.accounting.counted import count, shape
from peftlib.accounting.estimated import estimate
from peftlib.comparison import METHOD_RUNS
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.expressions import names
from peftlib.grids import Preset
from peftlib.markup import line
from peftlib.methods.base import METHODS, Method, parse
from peftlib.model import Tuned
from peftlib.papers import paper_table, papers, part, rounds_to, tables
from peftlib.report import choice, concerning, declared, learned, style, suites, verdicts
from peftlib.report.blocks import kinds, picture, tiny
from peftlib.report.concerning import Search
from peftlib.report.figures import figure
from peftlib.report.ledger import SIGNS
from peftlib.report.tables import Html, by_label, many, table
from peftlib.report.uncertainty import interval
from peftlib.report.verdicts import Judged
from peftlib.study import Results

__all__ = ["compare", "cost", "counts", "curve", "estimated", "found", "own_row", "picture", "printed", "recipe", "source"]
FULL = "Full"
FEW = 6  # claims that are shown unfolded
COUNTED_ON = {"bert": BERT, "t5": "t5-base"}


# --- what was found ---------------------------------------------------------------------------------------------------
def found(records: Sequence[dict], label: str, preset: Preset) -> Html:
    """What the comparison gave, what became of the papers' claims about the method, and where no learning rate taught it
    anything. records: of experiment "methods/compared"."""
    parts = [scored(records, label), told(concerning.judged(METHOD_RUNS[label], preset))]
    parts += [untaught(concerning.searches(METHOD_RUNS[label], preset))]
    parts = [part for part in parts if part.text]
    return Html(Markup().join(part.content for part in parts), "\n".join(part.text for part in parts))


def scored(records: Sequence[dict], label: str) -> Html:
    """The test score with its interval, beside the highest and beside full fine-tuning, and what it costs, by the code of
    the page on choosing a method."""
    there = choice.points(records)
    mine = next((point for point in there if point.label == label), None)
    if mine is None:
        return _paragraph(Markup("<em>Not run: {} has no record under this preset.</em>").format(label))
    said = [
        Markup("It reaches <b>{:.3f}</b> ({:.3f} to {:.3f}): {}, over test rows.").format(
            mine.score.mean, mine.score.low, mine.score.high, choice.said(records)
        )
    ]
    own = next(group for name, group in by_label(records).items() if name == label)
    for task in mine.tasks:
        if words := learned.marks(own, task):
            tried = sum(r["run"]["tasks"] == [task] for r in own)
            there_too = f" in {len(words)} of {many(tried, 'run')} on {suites.title(task)}"
            said.append(Markup("{} It {}{}.").format(learned.SIGN, words[0], there_too))
    if there[0] is not mine:
        word = "it cannot be told from" if mine in choice.level_with_best(there) else "it is below"
        said.append(
            Markup("Corrected for {}, {} the highest of {} methods, {:.3f} by {}.").format(
                many(len(there) - 1, "comparison"), word, len(there), there[0].score.mean, there[0].name
            )
        )
    elif len(there) > 1:
        said.append(
            Markup("No other of the {} methods is above it, and {} cannot be told from it.").format(
                len(there), len(choice.level_with_best(there)) - 1
            )
        )
    full = next((point for point in there if point.label == FULL), None)
    if full is not None and full is not mine:
        said.append(_against(mine, full))
    common = choice.commonest_score(records)
    if common is not None:
        said.append(Markup("Always giving the commonest answer scores {:.3f}.").format(common))
    return _paragraph(Markup(" ").join(said))


def _against(mine: choice.Point, full: choice.Point) -> Markup:
    """A method beside full fine-tuning: the difference of scores, what it stores, time and memory of a step."""
    gap = mine.score.draws - full.score.draws
    low, high = interval(gap)
    word = "above" if low > 0 else "below" if high < 0 else "neither above nor below, as far as can be seen"
    said = Markup("Against full fine-tuning: {:+.3f} ({:+.3f} to {:+.3f}), {}; it stores {:.3g}% of its numbers").format(
        float(gap[0]), low, high, word, 100 * mine.stored / full.stored
    )
    if mine.time is not None and mine.memory is not None:
        said += Markup(", and a training step takes {:.2f} times the time and {:.2f} times the memory").format(
            mine.time, mine.memory
        )
    return said + "."


def told(judged: Mapping[str, Sequence[Judged]]) -> Html:
    """How the papers' claims about a method fared: counted, and each of them folded below with a link to its ledger."""
    shown, lines = Markup(), []
    for paper, claims in judged.items():
        counts = [(word, sum(one.verdict.outcome == word for one in claims)) for word in verdicts.OUTCOMES]
        words = ", ".join(f"{count} {word}" for word, count in counts if count)
        name = declared.called(paper)
        heading = f"{name}, {len(claims)} {'claim is' if len(claims) == 1 else 'claims are'} about it: {words}"
        items = Markup().join(
            Markup('<li><b>{} {}</b> <a href="../{}/claims.html#claim-{}">{}</a>: {}</li>').format(
                SIGNS[one.verdict.outcome], one.verdict.outcome, paper, one.claim.id, one.claim.id, line(one.claim.says)
            )
            for one in claims
        )
        shown += Markup('<details class="claims"{}><summary>{}.</summary><ul>{}</ul></details>').format(
            Markup(" open") if len(claims) <= FEW else "", heading, items
        )
        lines += [heading, *(f"  {one.verdict.outcome}: {one.claim.id} {one.claim.says}" for one in claims)]
    return Html(shown, "\n".join(lines))


def untaught(searches: Sequence[Search]) -> Html:
    """The tasks that no learning rate of any search on a backbone taught a method, with the numbers; nothing where there is
    none."""
    groups: dict[tuple[str, str], list[Search]] = {}
    for one in searches:
        groups.setdefault((one.task, one.backbone), []).append(one)
    parts = [_paragraph(_untaught(mine)) for mine in groups.values() if not any(one.learned for one in mine)]
    return Html(Markup().join(part.content for part in parts), "\n".join(part.text for part in parts))


def _untaught(mine: Sequence[Search]) -> Markup:
    best, rates = max(mine, key=lambda one: one.best), sorted({rate for one in mine for rate in one.rates})
    pages = Markup(", ").join(
        Markup('<a href="{}">{}</a>').format(_page(name), name) for name in dict.fromkeys(m.experiment for m in mine)
    )
    return Markup(
        "{} <b>No learning rate taught it {}</b> on {}. Of {} rates from {:g} to {:g} ({}) the best, {:g}, reached {:.3f} "
        "on validation, where the commonest answer has {:.3f}: the rate of its runs was chosen by chance."
    ).format(
        learned.SIGN,
        suites.title(best.task),
        best.backbone,
        len(rates),
        *(rates[0], rates[-1], pages, best.at, best.best, best.to_beat),
    )


def _page(experiment: str) -> str:
    """The address of the page that shows an experiment, as seen from any other page."""
    paper, _, name = experiment.partition("/")
    if paper == "methods":  # the comparison and its search
        return "../survey/choosing.html"
    return f"../{paper}/{verdicts.of(paper).page(experiment) if paper in verdicts.with_ledger() else name}.html"


def _paragraph(said: Markup) -> Html:
    return Html(Markup("<p>{}</p>").format(said), said.striptags())


def recipe(records: Results, preset: Preset) -> Html:
    """How this page's runs were trained, the first task's. records: of one row, with what was asked for."""
    run, made = records.wanted[0], records[0] if records else None
    examples = made["history"][0]["examples"] if made else run.limits[0]
    batches = (
        None if examples is None else (run.recipe.epoch_steps or -(-examples // run.recipe.batch_size)) * run.recipe.epochs
    )
    row = {
        "learning rate": f"{run.recipe.lr:g}",
        "steps": batches,
        "batch": run.recipe.batch_size,
        "examples": examples,
        "epochs": run.recipe.epochs,
        "precision": run.recipe.precision,
        "tasks": ", ".join(dict.fromkeys(suites.title(one.tasks[0]) for one in records.wanted)),
        "seeds": ", ".join(dict.fromkeys(str(one.seed) for one in records.wanted)),
        "backbone": run.backbone,
    }
    tried = sorted({lr for search in concerning.searches(run.method, preset) for lr in search.rates})
    grid = ", ".join(f"{lr:g}" for lr in tried) if run.recipe.lr in tried else ""
    return table(
        pd.DataFrame([row]),
        caption="The recipe of this page's runs",
        source=records,
        formats=dict.fromkeys(("steps", "batch", "examples", "epochs"), ",.0f"),
        note=f"AdamW with {run.recipe.warmup:.0%} of the steps as warm-up and linear decay, unless the method has an "
        f"optimizer of its own; inputs of at most {run.recipe.max_length} tokens."
        + (f" The learning rate was chosen on validation among {grid}." if grid else ""),
    )


# --- the code ---------------------------------------------------------------------------------------------------------
ELSEWHERE = {"title", "family", "paper", "about", "check", "formula", "trainable", "stored", "changed"}  # of a class's body


def source(method: str) -> Html:
    """The code from the library: what acts in the model and how it gets there in view, whole files folded. In view are the
    methods' classes without what other sections of the page show, the modules that they put into a model, and what all of
    these use of their branch: the Kronecker product is in a file beside Compacter's."""
    files: dict[str, list[type | FunctionType]] = {}
    for piece in _pieces(method):
        files.setdefault(inspect.getsourcefile(piece) or "", []).append(piece)
    blocks = []
    for file, pieces in sorted(files.items(), key=lambda item: not any(map(_is_method, item[1]))):  # methods first
        pieces.sort(key=lambda piece: inspect.getsourcelines(piece)[1])
        blocks += [f"# {_name(file)}", *map(_in_view, pieces)]
    text = "\n\n".join(blocks)
    fold = Markup("<details><summary>{} ({} lines)</summary>{}</details>")
    folded = [fold.format(_name(f), len(text.splitlines()), _code(text)) for f in files for text in (Path(f).read_text(),)]
    return Html(_code(text) + Markup("\n").join(folded), text)


def _pieces(method: str) -> list[type | FunctionType]:
    """Classes and functions that an expression's methods are made of: the methods, what they attached to a tiny model, and
    what these name, one after the other."""
    model = Tuned(backbones.from_config(tiny(kinds(method)[0]).model.config), method, [get_task("sst")])
    todo: list[type | FunctionType] = [METHODS[name] for name in names(method)]  # one that is made of others among them
    todo += [type(leaf) for leaf, _ in model.attachments]
    todo += [type(part) for _, at in model.attachments for part in [*(edit for _, edit in at.edits), *at.shared]]
    found: dict[type | FunctionType, None] = {}
    while todo:
        piece = todo.pop(0)
        if piece not in found:
            found[piece] = None
            named = [vars(inspect.getmodule(piece)).get(name) for name in _names(piece)]
            bases = piece.__mro__[1:] if isinstance(piece, type) else ()
            todo += [p for p in bases if _is_own(p)]
            named = [inspect.unwrap(p) for p in named if _is_own(p) and not _is_method(p)]  # type: ignore[arg-type]  # it has looked
            todo += named
    return list(found)


def _is_own(thing: object) -> bool:
    """Is it a class or a function of a file of methods?"""
    module = getattr(thing, "__module__", "") if isinstance(thing, type | FunctionType) else ""
    return module.startswith("peftlib.methods.") and module != Method.__module__


def _is_method(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Method)


def _names(piece: type | FunctionType) -> list[str]:
    return [node.id for node in ast.walk(ast.parse(_in_view(piece))) if isinstance(node, ast.Name)]


def _in_view(piece: type | FunctionType) -> str:
    """The source of a class or function; of a method's class without what is shown elsewhere on its page."""
    text = textwrap.dedent(inspect.getsource(piece)).strip()
    if not _is_method(piece):
        return text
    dropped: set[int] = set()
    for node in ast.parse(text).body[0].body:  # type: ignore[attr-defined]  # of a class
        if {getattr(node, "name", ""), *map(ast.unparse, getattr(node, "targets", []))} & ELSEWHERE:
            dropped |= {*range(node.lineno, node.end_lineno + 1)}
    kept = [line for number, line in enumerate(text.splitlines(), 1) if number not in dropped]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _name(file: str) -> str:
    parts = Path(file).parts
    return "/".join(parts[len(parts) - 1 - parts[::-1].index("peftlib") :])


def _code(text: str) -> Markup:
    return Markup(highlight(text, PythonLexer(), HtmlFormatter(cssclass="highlight")))


# --- the counts -------------------------------------------------------------------------------------------------------
def printed_counts() -> pd.DataFrame:
    """What papers print about parameters of methods that are here: paper, row, expression, backbone, printed, unit,
    of (what a percentage is of), section, note."""
    frames = [paper_table(paper, "counts").assign(paper=paper) for paper in papers() if "counts" in tables(paper)]
    return pd.concat(frames, ignore_index=True)


def formula(method: str, backbone: str, tasks: int = 1) -> int:
    """The closed forms of an expression's methods added up."""
    each = tuple(f"task{i}" for i in range(tasks))
    return sum(leaf.formula(shape(backbone)) for leaf in parse(method).leaves(each))


def counts(method: str) -> Html:
    """The three counts on BERT-base and T5-base, or on that of them which the method can be attached to, counted on models
    without weights, and the closed form beside them."""
    rows = []
    for backbone in (COUNTED_ON[kind] for kind in kinds(method)):
        ours, form = count(method, backbone), formula(method, backbone)
        rows.append(
            {
                "backbone": backbone,
                "trainable": ours.trainable,
                "by formula": form,
                "stored": ours.stored,
                "changed": ours.changed,
                "trainable, % of backbone": ours.trainable_percent,
                "agree": "yes" if form == ours.trainable else "NO",
            }
        )
    return table(
        pd.DataFrame(rows),
        caption=f"Parameters of {method}, one task, heads apart",
        formats={"trainable, % of backbone": ".3f"},
        note="Counted on shape-only models; the formula is a closed form of the backbone's sizes.",
    )


def printed(method: str) -> Html:
    """What papers print for configurations of these methods beside what we count for the same configuration."""
    known = printed_counts()
    mine = known[[names(expression) == names(method) for expression in known["expression"]]]
    rows = [_beside(row) for row in mine.to_dict("records")]
    rows += [row for paper in papers() for row in getattr(part(paper, "counts"), "of_method", lambda _: [])(method)]
    if not rows:
        return Html(
            Markup("<p>The papers of this study print no parameter count of it.</p>"),
            "The papers of this study print no parameter count of it.",
        )
    return table(
        pd.DataFrame(rows),
        caption="Printed counts, and ours for the same configuration",
        formats={"ours": str},
        note="A count agrees if it rounds to what is printed.",
    )


def _beside(row: dict) -> dict:
    ours = count(row["expression"], row["backbone"]).trainable
    value = ours / 1e6 if row["unit"] == "millions" else 100 * ours / float(row["of"])
    digits = len(row["printed"].partition(".")[2])
    return {
        "paper": row["paper"],
        "row": row["row"],
        "configuration": row["expression"],
        "backbone": row["backbone"],
        "printed": f"{row['printed']} {'M' if row['unit'] == 'millions' else '%'}",
        "ours": f"{value:.{digits}f}",
        "agree": "yes" if rounds_to(value, row["printed"]) else f"no: {row['note']}",
    }


# --- its run ----------------------------------------------------------------------------------------------------------
def curve(records: Sequence[dict]) -> Html:
    """Training loss and validation score over the epochs, a pair of pictures a task, one line a seed."""
    tasks = list(dict.fromkeys(record["run"]["tasks"][0] for record in records))
    caption = "Training loss and validation score over the epochs; the ring marks the epoch that is kept."
    if not records:
        return figure(None, caption=caption, source=records)
    fig, rows = plt.subplots(len(tasks), 2, figsize=(8.4, 0.4 + 2.6 * len(tasks)), squeeze=False)
    for record in records:
        (task,), looks, history = record["run"]["tasks"], style.of(record["run"]["method"]), record["history"]
        epochs, reached = [e["epoch"] for e in history], [e["validation"][task] for e in history]
        left, right = rows[tasks.index(task)]
        for ax, values in ((left, [e["train_loss"] for e in history]), (right, reached)):
            ax.plot(epochs, values, color=looks.color, marker=looks.marker, linestyle=looks.line)
            ax.set(xlabel="epoch", xticks=epochs, title=suites.title(task))
        best = record["best_epoch"]
        right.plot(best, reached[best - 1], "o", markersize=14, markerfacecolor="none", color=style.GREY)
        left.set(ylabel=f"training loss ({'squared grades' if get_task(task).kind == 'score' else 'nats'})")
        right.set(ylabel=f"validation, {suites.METRICS[get_task(task).metric]}")
    return figure(fig, caption=caption, source=records)


# --- what it costs ----------------------------------------------------------------------------------------------------
def cost(records: Results, label: str) -> Html:
    """A training step of a method, and what it leaves on the disk, beside full fine-tuning and the head alone. Time and
    memory are those of `choice.cost`, as on all other pages: records are made on machines that are busy with other work."""
    rows, shown = [], records.only(lambda run: run.label in (label, FULL, "HeadOnly"))
    groups = by_label(shown)
    for name in dict.fromkeys((label, FULL, "HeadOnly")):
        mine, step = groups.get(name, []), choice.cost(METHOD_RUNS[name])
        rows.append(
            {
                "method": name,
                "time": step.get("time", None),
                "memory": step.get("memory", None),
                "stored": choice.numbers(mine, "stored") if mine else None,
                "file, KiB": statistics.fmean(r["stored_bytes"] / 2**10 for r in mine) if mine else None,
            }
        )
    return table(
        pd.DataFrame(rows),
        caption=f"What {label} costs, and what it stores",
        source=shown,
        formats={"time": ".2f", "memory": ".2f", "stored": ",.0f", "file, KiB": ",.0f"},
        missing="not measured",
        note="Time and memory of a training step: full fine-tuning's are 1, measured in turn on one machine, "
        "see the page on efficiency. Stored: parameters kept for a task, the head apart; the file holds the head, too. "
        "Both are means over the runs. A method that trains everything stores the whole backbone.",
    )


def estimated(method: str, backbone: str = BERT, batch: int = 32, length: int = 128) -> Html:
    """Memory and compute of a training step at a paper's scale, from models without weights; the two ends beside it."""
    rows, parts = [], ("weights", "gradients", "optimizer", "activations", "peak")
    for name, expression in {"this method": method, "full fine-tuning": "Full()", "head only": "HeadOnly()"}.items():
        if expression != method or name == "this method":
            e = estimate(expression, backbone, batch, length)
            mebibytes = {part: getattr(e, part) / 2**20 for part in parts}
            rows.append({"model": name, **mebibytes, "TFLOPs": e.flops / 1e12})
    return table(
        pd.DataFrame(rows),
        caption=f"MiB and TFLOPs of a training step on {backbone}, estimated without weights",
        formats={**dict.fromkeys(parts, ",.0f"), "TFLOPs": ".2f"},
        note=f"{batch} sequences of {length} tokens; bf16 autocast, trained weights in fp32, CUDA's kernels.",
    )


# --- beside the others ------------------------------------------------------------------------------------------------
def compare(records: Sequence[dict], label: str) -> Html:
    """Test accuracy over stored parameters, every method that has run; this one in colour."""
    caption = (
        f"Every method's test score ({choice.said(records)}) over the parameters it stores; {label} in colour, the "
        "highest, the lowest and full fine-tuning by name. Bars are 95 % intervals."
    )
    there = choice.points(records)
    if not there:
        return figure(None, caption=caption, source=records)
    fig, ax = plt.subplots(figsize=(7.6, 4.4))
    for point in there:
        own, looks, score = point.label == label, style.of(point.method), point.score
        color, place = looks.color if own else style.GREY, (max(1, point.stored), score.mean)
        ax.errorbar(
            *place,
            yerr=[[score.mean - score.low], [score.high - score.mean]],
            color=color,
            marker=looks.marker,
            alpha=1 if own else 0.55,
            markersize=11 if own else 6,
            elinewidth=2 if own else 0.6,
            zorder=3 if own else 1,
        )
        if own or point in (there[0], there[-1]) or point.label == FULL:  # all names would hide each other
            ax.annotate(
                looks.name,
                place,
                xytext=(6, 5),
                textcoords="offset points",
                fontsize=10.5 if own else 8,
                color=color,
                fontweight="bold" if own else "normal",
            )
    ax.set_xscale("log")
    ax.set(
        xlabel="parameters stored beside the backbone, heads apart (log scale; none is drawn at 1)",
        ylabel=choice.said(records),
    )
    return figure(fig, caption=caption, source=records)


def own_row(label: str) -> str:
    """The expression that experiment "methods/compared" trains under a label.

    Raises:
        UsageError: no such label.
    """
    if label not in METHOD_RUNS:
        raise UsageError(f"no method {label!r} in experiment methods/compared; it has {', '.join(METHOD_RUNS)}")
    return METHOD_RUNS[label]
