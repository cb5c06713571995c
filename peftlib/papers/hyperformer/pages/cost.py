"""Tables 5 and 6: memory and time of a training step, as printed, estimated on T5 without weights, and measured here."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from peftlib.papers import paper_table
from peftlib.papers.hyperformer.rows import called
from peftlib.report import style
from peftlib.report.efficiency import benchmark, not_measured, where
from peftlib.report.tables import Html, Spread, frame, table

MEASURED, ESTIMATED = "hyperformer", "hyperformer_memory"  # benchmarks
FULL = "T5"
PRINTED = {"table5": "memory_gb", "table6": "minutes"}
WITHIN = 0.02  # of the time of an adapter of Houlsby et al.: what a baked task is to stay in
SIZES = (("Base", "t5-base"), ("Small", "t5-small"))
GIB = 2**30
PARTS = ("weights", "gradients", "optimizer", "activations", "peak")
SERVED = {
    "backbone": "the backbone alone",
    "Houlsby": "an adapter of Houlsby et al.",
    "Adapters": "the same with a layer norm",
    "baked": "HyperFormer++, baked",
    "written": "HyperFormer++, written anew for each batch",
}


def printed(name: str) -> pd.Series:
    """What ``table5`` or ``table6`` prints of each method on T5-Base, relative to full fine-tuning."""
    rows = paper_table("hyperformer", name).set_index("method")[PRINTED[name]].rename(lambda row: row.removesuffix("-Base"))
    return rows / rows[FULL]


def _span(cell: dict, rounds: int) -> Spread:
    """A ratio, with half the distance between the quartiles of the turns."""
    return Spread(cell["ratio"], (cell["high"] - cell["low"]) / 2, rounds)


def _measured_on(result: dict) -> str:
    return (
        f"Measured: {result['batch']} sequences of {result['length']} tokens, {result['precision']}, heads in the place of "
        f"answers; processor time. ± half the distance between the quartiles of {result['steps']} turns. {where(result)}"
    )


# --- Table 6 ----------------------------------------------------------------------------------------------------------
def time_ratios(result: dict) -> dict[str, dict[str, Spread]]:
    """By backbone and method: a training step over one of full fine-tuning."""
    return {
        backbone: {name: _span(step, result["steps"]) for name, step in found["steps"].items()}
        for backbone, found in result["backbones"].items()
    }


def time_beside() -> Html | Markdown:
    """Table 6: a training step over one of full fine-tuning."""
    result, kept = benchmark(MEASURED), benchmark(ESTIMATED)
    if result is None:
        return not_measured(MEASURED)
    ours, paper = time_ratios(result), printed("table6")
    shown = frame(
        {
            "method": name,
            "paper, T5-Base": float(paper[name]) if name in paper else None,
            **_flops(kept, name),
            **{f"ours, {backbone}": of[name] for backbone, of in ours.items()},
        }
        for name in next(iter(ours.values()))
    )
    estimated = f"FLOPs: {_texts(kept)}. " if kept else ""
    return table(
        shown,
        caption="Time of a training step on eight tasks, over that of full fine-tuning",
        formats=dict.fromkeys(shown.columns[1:], ".2f"),
        missing="–",
        rows=called(),
        note=estimated + _measured_on(result),
    )


def _flops(kept: dict | None, name: str) -> dict[str, float | None]:
    """What the matrix products of a step come to on each size of T5, over those of full fine-tuning."""
    found = {f"FLOPs, T5-{size}": kept["backbones"][backbone] for size, backbone in SIZES if kept}
    return {title: of[name]["flops"] / of[FULL]["flops"] if name in of else None for title, of in found.items()}


def time_lines() -> Figure | None:
    """The paper's ratios (hollow) and ours by backbone; None without the benchmark."""
    result = benchmark(MEASURED)
    if result is None:
        return None
    ours, paper = time_ratios(result), printed("table6")
    names = [name for name in next(iter(ours.values())) if name != FULL]
    fig, ax = plt.subplots(figsize=(7.0, 1.4 + 0.5 * len(names)))
    looks = zip((style.BLUE, style.GREEN, style.ORANGE), "os^", (0.0, 0.15, -0.15), strict=True)
    for (backbone, of), (color, marker, beside) in zip(ours.items(), looks, strict=False):
        for y, name in enumerate(names):
            label = f"ours, {backbone}" if y == 0 else None
            ax.errorbar(of[name].mean, y + beside, xerr=of[name].sd, fmt=marker, color=color, capsize=2, label=label)
    there = [y for y, name in enumerate(names) if name in paper]
    ax.plot([paper[names[y]] for y in there], there, "D", color=style.GREY, markerfacecolor="none", label="paper, T5-Base")
    ax.axvline(1, color=style.GREY, linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(names)), map(style.plain, names))
    ax.invert_yaxis()
    ax.set_xlabel("time of a training step / full fine-tuning")
    ax.grid(axis="y", visible=False)
    fig.legend(loc="outside upper right", ncols=2)
    return fig


def fastest() -> dict[str, object]:
    """For a sentence: how many of the ``n`` measured ratios of the paper's methods are ``below`` the paper's, how many are
    below full fine-tuning's step (``faster``); and of HyperFormer++ the highest (``plusplus``) beside the ``paper``'s."""
    result, paper = benchmark(MEASURED), printed("table6").drop(FULL)
    if result is None:
        return dict.fromkeys(("n", "below", "faster", "plusplus")) | {"paper": float(paper["HyperFormer++"])}
    ours = time_ratios(result)
    pairs = [(of[name].mean, float(paper[name])) for of in ours.values() for name in paper.index]
    return {
        "n": len(pairs),
        "below": sum(mean < theirs for mean, theirs in pairs),
        "faster": sum(mean < 1 for mean, _ in pairs),
        "plusplus": max(of["HyperFormer++"].mean for of in ours.values()),
        "paper": float(paper["HyperFormer++"]),
    }


# --- Table 5 ----------------------------------------------------------------------------------------------------------
def memory_beside() -> Html | Markdown:
    """Table 5: memory over that of full fine-tuning, printed, estimated, and measured."""
    kept, result = benchmark(ESTIMATED), benchmark(MEASURED)
    if kept is None:
        return not_measured(ESTIMATED)
    paper = printed("table5")
    gigabytes = paper_table("hyperformer", "table5").set_index("method")[PRINTED["table5"]]
    measured = {name: found["peak_bytes_of_steps"] for name, found in result["backbones"].items()} if result else {}
    rows = []
    for name, one in kept["backbones"]["t5-base"].items():
        row = {
            "method": name,
            "GB, paper": float(gigabytes[f"{name}-Base"]) if name in paper else None,
            "GB, estimated": one["peak"] / 10**9,
            "relative, paper": float(paper[name]) if name in paper else None,
        }
        for backbone, of in kept["backbones"].items():
            row[f"estimated, {backbone}"] = of[name]["peak"] / of[FULL]["peak"]
        for backbone, bytes_of in measured.items():
            row[f"measured, {backbone}"] = bytes_of[name] / bytes_of[FULL]
        rows.append(row)
    shown = frame(rows)
    note = (
        f"GB are 10^9 bytes, on T5-Base. Estimated: {_texts(kept)}, {kept['precision']}, kernels of {kept['device']}, "
        "tensors alone. "
    )
    if result:
        note += f"What is measured is above the model itself, in a process of its own each. {_measured_on(result)}"
    return table(
        shown,
        caption="Memory of training on eight tasks, and over that of full fine-tuning",
        formats=dict.fromkeys(shown.columns[1:], ".2f"),
        missing="–",
        rows=called(),
        note=note,
    )


def memory_parts() -> Html | Markdown:
    """What a step on T5-Base and T5-Small holds, by method."""
    kept = benchmark(ESTIMATED)
    if kept is None:
        return not_measured(ESTIMATED)
    rows = [
        {"backbone": backbone, "method": name} | {part: one[part] / GIB for part in PARTS}
        for backbone, of in kept["backbones"].items()
        for name, one in of.items()
    ]
    return table(
        pd.DataFrame(rows),
        caption="GiB of a training step, estimated, by what holds them",
        formats=dict.fromkeys(PARTS, ".2f"),
        rows=called(),
        note=f"{_batches(kept)}; optimizer: AdamW's two moments. The peak is less than the sum where one is freed before "
        "the other is there.",
    )


def _batches(kept: dict) -> str:
    of = {name: next(iter(rows.values()))["batch"] for name, rows in kept["backbones"].items()}
    return " and ".join(f"{batch} sequences on {name}" for name, batch in of.items())


def _texts(kept: dict) -> str:
    return f"{_batches(kept)} of {kept['length']} tokens, answers of {kept['answer']}"


def memory_order() -> dict[str, object]:
    """For sentences on T5-Base: the largest distance of an estimated ratio from the printed one (``off``, in points of full
    fine-tuning's memory, and of ``which``); what HyperFormer++ saves in print (``paper``) and by the estimate (``ours``),
    in percent; and whether both put the methods in the same ``order``, in words. None without estimates."""
    paper, kept = printed("table5"), benchmark(ESTIMATED)
    saved = 100 * (1 - float(paper["HyperFormer++"]))
    if kept is None:
        return dict.fromkeys(("off", "which", "ours", "order")) | {"paper": saved}
    rows = kept["backbones"]["t5-base"]
    ours = pd.Series({name: rows[name]["peak"] / rows[FULL]["peak"] for name in paper.index})
    off, alike = (ours - paper).abs(), list(ours.sort_values().index) == list(paper.sort_values().index)
    return {
        "off": 100 * float(off.max()),
        "which": off.idxmax(),
        "paper": saved,
        "ours": 100 * (1 - float(ours["HyperFormer++"])),
        "order": "the same order as" if alike else "another order than",
    }


# --- served -----------------------------------------------------------------------------------------------------------
def rows_served() -> dict[str, str]:
    """The method of each way to serve a task, by its words; the backbone alone is none."""
    ours = called()
    ways = {
        "Houlsby": "Houlsby()",
        "Adapters": ours["Adapters"],
        "baked": ours["HyperFormer++"],
        "written": ours["HyperFormer++"],
    }
    return {SERVED[way]: method for way, method in ways.items()}


def served() -> Html | Markdown:
    """A batch of one task through each way to serve it, over the time with an adapter of Houlsby et al."""
    result = benchmark(MEASURED)
    if result is None:
        return not_measured(MEASURED)
    rows = [
        {"served as": said}
        | {
            name: _span(found["answers"][way], result["steps"])
            for name, found in result["backbones"].items()
            if way in found["answers"]
        }
        for way, said in SERVED.items()
    ]
    shown = frame(rows)
    return table(
        shown,
        caption="Time of a batch of one task, over that with an adapter of Houlsby et al.",
        formats=dict.fromkeys(shown.columns[1:], ".3f"),
        rows=rows_served(),
        note=f"All bottlenecks are the same. {_measured_on(result)}",
    )


def baked_over() -> dict[str, object]:
    """For sentences on a baked task: its time over that of the same adapter with a layer norm (``norm``), the highest of
    all backbones; over that of an adapter without one the excess by backbone, in percent, of those on which it is `WITHIN`
    (``met``) and of the others (``missed``); and the excess of adapters with a norm that nobody wrote (``plain``). None
    without the benchmark."""
    result = benchmark(MEASURED)
    if result is None:
        return dict.fromkeys(("norm", "met", "missed", "plain"))
    ways = {backbone: found["answers"] for backbone, found in result["backbones"].items()}
    met = {backbone: of["baked"]["ratio"] <= 1 + WITHIN for backbone, of in ways.items()}
    return {
        "norm": max(of["baked"]["seconds"] / of["Adapters"]["seconds"] for of in ways.values()),
        "met": _excess({backbone: ways[backbone]["baked"] for backbone in ways if met[backbone]}),
        "missed": _excess({backbone: ways[backbone]["baked"] for backbone in ways if not met[backbone]}),
        "plain": _excess({backbone: of["Adapters"] for backbone, of in ways.items()}),
    }


def _excess(cells: dict[str, dict]) -> str:
    """ "minilm (1.8 %), t5-base (2.3 %)", or "none"."""
    said = (f"{backbone} ({100 * (cell['ratio'] - 1):.1f} %)" for backbone, cell in cells.items())
    return ", ".join(said) or "none"
