"""A picture of where a method sits in the blocks of BERT and T5, read off tiny models that it was attached to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from transformers import BertConfig, T5Config

from peftlib import backbones
from peftlib.anatomy import Anatomy
from peftlib.data.tasks import get_task
from peftlib.edits import Edit
from peftlib.expressions import names, skeleton
from peftlib.methods.base import METHODS, Attachment, Method
from peftlib.model import Tuned
from peftlib.report import style
from peftlib.report.figures import figure
from peftlib.report.tables import Html


@dataclass(frozen=True)
class Touch:
    """What one method does at a named place of a stack.

    how: "before" or "after" (a module on the site's input or output), "inside" (keys and values), "ahead" (vectors
    before the sequence), "trained" (the backbone's own tensors), "computed" (all of them, from the method's numbers) or
    "candidate" (the method will choose among them by looking at data). what: class of the module, or names of the trained
    tensors. per_task: does every task have its own?
    """

    stack: str
    site: str
    how: str
    what: str
    method: str
    per_task: bool


@cache
def tiny(kind: str) -> Anatomy:
    """The anatomy of a small random BERT ("bert") or T5 ("t5") of three blocks a stack, as methods may leave
    out the first ones; not to be edited."""
    config = {
        "bert": lambda: BertConfig(
            vocab_size=16,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=512,
        ),
        "t5": lambda: T5Config(  # type: ignore[call-arg]  # any keyword is taken
            vocab_size=16, d_model=128, d_ff=256, d_kv=64, num_layers=3, num_heads=2, decoder_start_token_id=0
        ),
    }[kind]()
    return Anatomy(backbones.from_config(config))


def touches(method: str, kind: str) -> tuple[list[Touch], list[str]]:
    """What the method did to a tiny backbone, found by attaching it; and the classes of modules its places share."""
    model = Tuned(backbones.from_config(tiny(kind).model.config), method, [get_task(t) for t in ("sst", "quora")])
    found, shared = [], []
    for leaf, at in model.attachments:
        found += list(_touches(leaf, at))
        shared += [
            type(module).__name__
            for module in model.shared.values()
            if at.task in (None, at.tasks[0]) and any(module is own for own in at.shared)
        ]
    return list(dict.fromkeys(found)), shared


def _touches(leaf: Method, at: Attachment) -> Iterable[Touch]:
    name = type(leaf).__name__
    for site, edit in at.edits:
        yield Touch(site.stack, site.name, _how(site.name, edit), type(edit).__name__, name, at.task is not None)
    waits = leaf.trainable(at) > 0 and not (at.edits or at.trained or at.shared)
    own = {id(p) for p in at.trained}
    for site in at.anatomy.sites:
        if site.name.endswith("attention"):
            continue  # holds the other sites of its sublayer
        base = getattr(site.module, "base", site.module)
        tensors = dict(base.named_parameters(recurse=False))
        trained = [n for n, p in tensors.items() if id(p) in own]
        if any(chain[0] is ours for chain in getattr(base, "parametrizations", {}).values() for ours in at.shared):
            yield Touch(site.stack, site.name, "computed", "", name, False)
        if waits or trained:
            what = "" if len(trained) == len(tensors) else ", ".join(trained)
            yield Touch(site.stack, site.name, "candidate" if waits else "trained", what, name, False)


def _how(site: str, edit: Edit) -> str:
    """Where an edit acts, by what it overrides."""
    if site.endswith("attention"):
        return "inside"
    acts = type(edit)
    if acts.ahead is not Edit.ahead:
        return "ahead"
    before, after = acts.before is not Edit.before, acts.after is not Edit.after
    if before and after:  # one class for both ends: the edit says at which it is
        return "before" if getattr(edit, "on_input", False) else "after"
    return "before" if before else "after"


@cache
def order(kind: str) -> dict[str, list[list[str]]]:
    """For each stack the rows of its picture from the bottom up: names of sites in the order in which a forward pass
    calls them, query, key and value side by side."""
    anatomy, called = tiny(kind), []
    hooks = [
        site.module.register_forward_pre_hook(lambda *_, site=site: called.append((site.stack, site.name)))
        for site in anatomy.sites
        if not site.name.endswith("attention") and site.layer < 1
    ]
    ids = torch.ones(1, 3, dtype=torch.long)
    anatomy.model(ids, **({"decoder_input_ids": ids} if anatomy.shape.decoder_layers else {}))
    for hook in hooks:
        hook.remove()
    rows: dict[str, list[list[str]]] = {}
    # T5 keeps its embedding outside the modules that call it.
    words = [(site.stack, site.name) for site in anatomy.sites if site.name == "embeddings.words"]
    for stack, name in dict.fromkeys(words + called):
        column, family = rows.setdefault(stack, []), _family(name)
        if column and family == _family(column[-1][0]):
            column[-1].append(name)
            continue
        column.append([name])
    for column in rows.values():  # the attention function itself acts on the three projections
        for i in range(len(column) - 1, -1, -1):
            if column[i][0].endswith("query"):
                column.insert(i + 1, [column[i][0].removesuffix(".query")])
    return rows


def _family(name: str) -> str:
    """Names that stand side by side share a family."""
    head, _, leaf = name.rpartition(".")
    return f"{head}.in" if leaf in ("query", "key", "value", "up", "gate") else name


def kinds(method: str) -> tuple[str, ...]:
    """The backbones of `tiny` that an expression can be attached to."""
    return ("t5",) if any(METHODS[name].needs_decoder for name in names(method)) else ("bert", "t5")


def picture(method: str) -> Html:
    """A block of BERT and the two of T5 with what the method does there, read off tiny models it was attached to; of T5
    alone for a method that needs a decoder."""
    found = {kind: touches(method, kind) for kind in kinds(method)}
    columns = [
        (kind, stack, title)
        for kind, stack, title in (
            ("bert", "encoder", "BERT block"),
            ("t5", "encoder", "T5 encoder block"),
            ("t5", "decoder", "T5 decoder block"),
        )
        if kind in found
    ]
    tallest = max(len(order(kind)[stack]) for kind, stack, _ in columns)
    fig, ax = plt.subplots(figsize=(7.8, 0.42 * tallest + 0.8))
    for i, (kind, stack, title) in enumerate(columns):
        here = [t for t in found[kind][0] if t.stack == stack]
        _draw_column(ax, 3.6 * i, order(kind)[stack], here, title, _shared(found[kind][1]))
    ax.set(xlim=(-0.45, 10.6), ylim=(-1.35, tallest + 0.35))
    ax.axis("off")
    return figure(fig, caption=f"Where {skeleton(method)} acts, from the bottom up. {describe(method)}")


def _shared(classes: Sequence[str]) -> str:
    counted = {c: classes.count(c) for c in dict.fromkeys(classes)}
    return ", ".join(c if n == 1 else f"{n} {c}" for c, n in counted.items())


def _draw_column(ax: Axes, left: float, rows: list[list[str]], here: list[Touch], title: str, shared: str) -> None:
    for y, sites in enumerate(rows):
        width = 3.0 / len(sites)
        for i, name in enumerate(sites):
            at = [t for t in here if t.site == name]
            _draw_site(ax, left + i * width, y, width - 0.08, name, at)
    for below, above in residuals(rows):
        ax.plot(
            [left - 0.1, left - 0.28, left - 0.28, left - 0.1],
            [below, below, above, above],
            color=style.GREY,
            linewidth=1,
            solid_joinstyle="round",
        )
        ax.text(left - 0.09, above, "+", ha="left", va="center", fontsize=10, color=style.GREY)
    ax.text(left + 1.5, -0.75, title, ha="center", va="center", fontsize=11)
    if shared:
        ax.text(left + 1.5, -1.12, f"shared by all places: {shared}", ha="center", va="center", fontsize=8.5)


def residuals(rows: list[list[str]]) -> list[tuple[float, float]]:
    """Heights (from, to) of the residual connection round each sublayer: round its norm where that comes first."""
    out, sublayers = [], ("attention", "cross_attention", "ffn")
    for sublayer in sublayers:
        heights = [y for y, names in enumerate(rows) if names[0].split(".")[0] == sublayer]
        if heights:
            norm_last = rows[heights[-1]][0].endswith("norm")
            out.append((heights[0] - 0.5, heights[-1] - 0.5 if norm_last else heights[-1] + 0.5))
    return out


def _draw_site(ax: Axes, x: float, y: float, width: float, name: str, at: list[Touch]) -> None:
    own = [t for t in at if t.how in ("trained", "computed", "candidate", "inside", "ahead")]
    looks = style.of(own[0].method) if own else None
    dashed = any(t.how == "candidate" for t in own)
    _box(ax, x, y - 0.23, width, 0.46, looks.color if looks else None, "--" if dashed else "-")
    short = {
        "embeddings.words": "word embeddings",
        "embeddings.norm": "embeddings' norm",
        "final.norm": "final norm",
        "ffn.up": "ffn up",
        "ffn.down": "ffn down",
        "ffn.gate": "ffn gate",
    }
    leaf = short.get(name, name.split(".")[-1])
    said = {
        "candidate": "some entries",
        "trained": "trained",
        "computed": "in a subspace",
        "inside": "keys, values",
        "ahead": "prompt before",
    }
    # A tensor's name is told where only a part of the site is trained.
    detail = [t.what if t.how == "trained" and t.what else said[t.how] for t in own]
    text = leaf.replace("_", " ") + (f": {', '.join(detail)}" if own and width > 2 else "")
    ax.text(x + width / 2, y, text, ha="center", va="center", fontsize=8.5, fontweight="bold" if own else "normal")
    for touch in (t for t in at if t.how in ("before", "after")):
        middle = y + (0.5 if touch.how == "after" else -0.5)
        color = style.of(touch.method).color
        _box(ax, x + 0.06, middle - 0.15, width - 0.12, 0.3, color, "-", round_=True)
        what = touch.what + (" × task" if touch.per_task else "")
        ax.text(x + width / 2, middle, what, ha="center", va="center", fontsize=7 if width > 1.2 else 6.5)


def _box(
    ax: Axes, x: float, y: float, width: float, height: float, color: str | None, line: str, round_: bool = False
) -> None:
    """A box: grey and thin if nothing happens there, coloured, thick and tinted if something does."""
    shape = f"round,pad=0,rounding_size={0.12 if round_ else 0.03}"
    ax.add_patch(
        FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle=shape,
            linestyle=line,
            linewidth=2 if color else 0.8,
            edgecolor=color or style.GREY,
            facecolor=(color + "38") if color else "none",
        )
    )


def describe(method: str) -> str:
    """The picture in words, for those who do not see it; from the first of the tiny backbones."""
    found, shared = touches(method, kinds(method)[0])
    by_kind: dict[tuple[str, str], list[str]] = {}
    for touch in found:
        by_kind.setdefault((touch.how, touch.what + (", one a task" if touch.per_task else "")), []).append(touch.site)
    if not found and shared:
        return f"It puts nothing into a block: {_shared(shared)} stands beside the backbone and reads its states."
    if not found:
        return "In the backbone it touches nothing: only heads are trained."
    templates = {
        "before": "puts {what} before {sites}",
        "after": "puts {what} after {sites}",
        "inside": "gives {sites} more keys and values ({what})",
        "ahead": "puts {what} before the sequence that comes from {sites}",
        "trained": "trains {what} of {sites}",
        "computed": "moves {what} of {sites} in a subspace",
        "candidate": "trains some entries, chosen by data, anywhere in {sites}",
    }
    said = [
        templates[how].format(what=what or "all", sites=", ".join(dict.fromkeys(sites)))
        for (how, what), sites in by_kind.items()
    ]
    tail = f" The places share {_shared(shared)}." if shared else ""
    return f"In {kinds(method)[0].upper()} it {'; '.join(said)}.{tail}"
