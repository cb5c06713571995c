"""The sections of a method's page: where it sits, its code, its counts, its run, its cost, and how it compares.

``method`` is an expression as text; ``label`` is a row of experiment "methods/sst" (`METHOD_RUNS`).
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
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
from peftlib.methods.base import Method, parse
from peftlib.model import Tuned
from peftlib.papers import paper_table, papers, part, rounds_to, tables
from peftlib.report import style
from peftlib.report.blocks import picture, tiny
from peftlib.report.figures import figure
from peftlib.report.tables import Html, Spread, by_label, duration, field, scores, table
from peftlib.study import Results

__all__ = ["compare", "cost", "counts", "curve", "estimated", "own_row", "picture", "printed", "source", "verdict"]
TASK = "sst"  # of experiment "methods/sst"
COUNTED_ON = (BERT, "t5-base")


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
    model = Tuned(backbones.from_config(tiny("bert").model.config), method, [get_task("sst")])
    todo: list[type | FunctionType] = [type(leaf) for leaf, _ in model.attachments]
    todo += [type(part) for _, at in model.attachments for part in [*(edit for _, edit in at.edits), *at.shared]]
    found: dict[type | FunctionType, None] = {}
    while todo:
        piece = todo.pop(0)
        if piece not in found:
            found[piece] = None
            named = [vars(inspect.getmodule(piece)).get(name) for name in _names(piece)]
            bases = piece.__mro__[1:] if isinstance(piece, type) else ()
            todo += [p for p in bases if _is_own(p)]
            todo += [p for p in named if _is_own(p) and not _is_method(p)]  # type: ignore[misc]  # `_is_own` has looked
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
    return sum(leaf.formula(shape(backbone)) for leaf, _ in parse(method).leaves(each))


def counts(method: str) -> Html:
    """The three counts on BERT-base and T5-base, counted on models without weights, and the closed form beside them."""
    rows = []
    for backbone in COUNTED_ON:
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
    """Training loss and validation score over epochs, one line a seed."""
    caption = "Training loss and validation accuracy over the epochs; the ring marks the epoch that is kept."
    if not records:
        return figure(None, caption=caption, source=records)
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0))
    for record in records:
        looks, epochs = style.of(record["run"]["method"]), [e["epoch"] for e in record["history"]]
        losses = [e["train_loss"] for e in record["history"]]
        reached = [e["validation"][TASK] for e in record["history"]]
        for ax, values in ((left, losses), (right, reached)):
            ax.plot(epochs, values, color=looks.color, marker=looks.marker, linestyle=looks.line)
        best = record["best_epoch"]
        right.plot(best, reached[best - 1], "o", markersize=14, markerfacecolor="none", color=style.GREY)
    left.set(xlabel="epoch", ylabel="training loss (nats)", xticks=epochs)
    right.set(xlabel="epoch", ylabel="validation accuracy", xticks=epochs)
    return figure(fig, caption=caption, source=records)


# --- what it costs ----------------------------------------------------------------------------------------------------
def cost(records: Results, label: str) -> Html:
    """Time, memory and storage of a method's run beside those of full fine-tuning and of the head alone."""
    names, rows = list(dict.fromkeys((label, "Full", "HeadOnly"))), []
    shown = records.only(lambda run: run.label in names)
    groups = by_label(shown)
    for name in names:
        mine = groups.get(name, [])
        rows.append(
            {
                "method": name,
                "training time": _seconds(mine),
                "examples/s": field(mine, "examples_per_second"),
                "peak memory, MiB": _scaled(mine, "peak_bytes", 2**20),
                "delta on disk, KiB": _scaled(mine, "stored_bytes", 2**10),
            }
        )
    return table(
        pd.DataFrame(rows),
        caption=f"What {label} costs on this page's backbone and data",
        source=shown,
        formats={"examples/s": ",.0f", "peak memory, MiB": ",.0f", "delta on disk, KiB": ",.0f"},
        note="Time is that of training steps; peak memory is the process's own growth during the run. The "
        "delta holds the head, too; a method that trains everything stores the whole backbone.",
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


def _seconds(records: Sequence[dict]) -> str | None:
    found = field(records, "seconds")
    return duration(found.mean) if found else None


def _scaled(records: Sequence[dict], name: str, unit: int) -> Spread | None:
    return Spread.of(r[name] / unit for r in records if r[name] is not None)


# --- beside the others ------------------------------------------------------------------------------------------------
def compare(records: Sequence[dict], label: str) -> Html:
    """Validation accuracy over stored parameters, every method that has run; this one in colour."""
    caption = (
        f"Validation accuracy of every method on {TASK} over the parameters it stores; {label} in colour. Bars "
        "are two standard errors of an accuracy on that many rows, not spread over seeds."
    )
    groups = {name: mine for name, mine in by_label(records).items() if mine}
    if not groups:
        return figure(None, caption=caption, source=records)
    fig, ax = plt.subplots(figsize=(7.6, 4.4))
    for name, mine in groups.items():
        own, looks = name == label, style.of(mine[0]["run"]["method"])
        x, y = max(1, mine[0]["counts"]["stored"]), scores(mine, TASK).mean  # type: ignore[union-attr]  # each has run
        color = looks.color if own else style.GREY
        ax.errorbar(
            x,
            y,
            yerr=2 * standard_error(mine),
            color=color,
            marker=looks.marker,
            alpha=1 if own else 0.55,
            markersize=11 if own else 6,
            elinewidth=2 if own else 0.6,
            zorder=3 if own else 1,
        )
        ax.annotate(
            looks.name,
            (x, y),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=10.5 if own else 8,
            color=color,
            fontweight="bold" if own else "normal",
        )
    ax.set_xscale("log")
    ax.set(
        xlabel="parameters stored beside the backbone, heads apart (log scale; none is drawn at 1)",
        ylabel=f"validation accuracy, {TASK}",
    )
    return figure(fig, caption=caption, source=records)


def standard_error(records: Sequence[dict]) -> float:
    """Of an accuracy on the run's validation rows (binomial), with the seeds' mean as p. Rows without a limit: 1,101,
    those of SST's own validation split."""
    p, rows = scores(records, TASK).mean, records[0]["run"]["limits"][1] or 1101  # type: ignore[union-attr]  # each has run
    return math.sqrt(max(p * (1 - p), 1e-9) / rows)


def verdict(records: Sequence[dict], label: str) -> Markdown:
    """Where the method stands among those that have run, computed: score, storage, time and memory."""
    groups = {name: mine for name, mine in by_label(records).items() if mine}
    if label not in groups:
        return Markdown(f"*Not run: {label} has no record under this preset, so nothing is said of where it stands.*")
    lines = [_standing(groups, label)]
    if "Full" in groups and label != "Full":
        lines.append(_against_full(groups, label))
    return Markdown(" ".join(lines))


CRITERIA = {
    "accuracy": (lambda mine: -scores(mine, TASK).mean),  # type: ignore[union-attr]  # each has run
    "small storage": (lambda mine: mine[0]["counts"]["stored"]),
    "short training": (lambda mine: field(mine, "seconds").mean),  # type: ignore[union-attr]  # as above
    "low memory": (lambda mine: field(mine, "peak_bytes").mean if mine[0]["peak_bytes"] else math.inf),  # type: ignore[union-attr]  # as above
}


def ranks(groups: dict[str, list[dict]], label: str) -> dict[str, int]:
    """The method's place by each criterion, 1 the best; equals share the better place."""
    return {name: 1 + sum(key(mine) < key(groups[label]) for mine in groups.values()) for name, key in CRITERIA.items()}


def _standing(groups: dict[str, list[dict]], label: str) -> str:
    found, n = ranks(groups, label), len(groups)
    if n < 4:
        return f"Only {n} of the methods have been run under this preset: too few to rank {label}."
    good = [f"{name} ({place} of {n})" for name, place in found.items() if place <= max(1, n // 3)]
    bad = [f"{name} ({place} of {n})" for name, place in found.items() if place > n - max(1, n // 3)]
    return (
        f"Among the {n} methods run here {label} shines in "
        + (", ".join(good) or "nothing in particular")
        + "; it comes last or nearly so in "
        + (", ".join(bad) or "nothing")
        + "."
    )


def _against_full(groups: dict[str, list[dict]], label: str) -> str:
    mine, full = groups[label], groups["Full"]
    gap = scores(mine, TASK).mean - scores(full, TASK).mean  # type: ignore[union-attr]  # both have run
    noise = 2 * math.hypot(standard_error(mine), standard_error(full))
    size = "within" if abs(gap) <= noise else "beyond"
    share = mine[0]["counts"]["stored"] / full[0]["counts"]["stored"]
    time = field(mine, "seconds").mean / field(full, "seconds").mean  # type: ignore[union-attr]  # as above
    return (
        f"Against full fine-tuning it scores {gap:+.3f}, {size} the {noise:.3f} that two standard errors of the "
        f"difference allow for chance; it stores {share:.2%} as many numbers and takes {time:.2f} times the "
        f"training time."
    )


def own_row(label: str) -> str:
    """The expression that experiment "methods/sst" trains under a label.

    Raises:
        UsageError: no such label.
    """
    if label not in METHOD_RUNS:
        raise UsageError(f"no method {label!r} in experiment methods/sst; it has {', '.join(METHOD_RUNS)}")
    return METHOD_RUNS[label]
