"""The book's efficiency page: results of ``benchmarks/`` and what records say of speed and memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

from peftlib import records as store
from peftlib.report import style
from peftlib.report.figures import figure
from peftlib.report.sentences import fill
from peftlib.report.tables import NO_COMMIT, Html, by_label, field, table


def benchmark(name: str) -> dict | None:
    """The result that ``benchmarks/<name>.py`` has left, or None."""
    path = store.root() / "benchmarks" / "results" / f"{name}.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    return found | {"commit": found.get("commit") or NO_COMMIT}


def not_measured(name: str) -> Markdown:
    """How to get the result of a benchmark that nobody has left here."""
    return Markdown(f"*Not measured yet: `python benchmarks/{name}.py` writes `benchmarks/results/{name}.json`.*")


def where(result: dict) -> str:
    """The machine, versions, date and commit of a measurement, in one line."""
    machine = result["machine"]
    return (
        f"{machine['device']}, {machine['threads']} threads of {machine['cores']} cores · "
        + ", ".join(f"{k} {v}" for k, v in result["versions"].items())
        + f" · {result['date']} · commit {result['commit']}"
    )


def training_speed() -> Html | Markdown:
    """Examples per second, peak memory and accuracy of our loop and of Hugging Face's, measured side by side."""
    result = benchmark("training_speed")
    if result is None:
        return not_measured("training_speed")
    rows = [
        {
            "variant": name,
            "examples/s": row["examples_per_second"],
            "slowest": row["slowest"],
            "fastest": row["fastest"],
            "peak memory, MiB": row["peak_bytes"] / 2**20,
            "accuracy": row["accuracy"],
        }
        for name, row in result["variants"].items()
    ]
    about = (
        f"{result['method']} on {result['backbone']}, {result['task']} ({result['source']}): {result['examples']} "
        f"examples, {result['epochs']} epochs, batches of {result['batch_size']}; median of {result['repeats']} "
        f"rounds in turn, accuracy on {result['validation']} rows. {where(result)}"
    )
    speeds = dict.fromkeys(("examples/s", "slowest", "fastest", "peak memory, MiB"), ".0f")
    return table(pd.DataFrame(rows), caption="Training the same model on the same examples", formats=speeds, note=about)


def ratios() -> Markdown:
    """How many times as fast as each setting of the peer."""
    result = benchmark("training_speed")
    if result is None:
        return Markdown("")
    said = [fill("{x:.1f} times its {name}", x=value, name=name) for name, value in result["ratios"].items()]
    return Markdown(f"Our loop in its faster precision, against the peer: {'; '.join(said)}.")


def batch_overhead() -> Html | Markdown:
    """Wall time of the graph beside the time spent in training."""
    result = benchmark("batch_overhead")
    if result is None:
        return not_measured("batch_overhead")
    names = {
        "runs": "runs",
        "training_seconds": "in training steps, s",
        "run_seconds": "in whole runs, s",
        "wall_train_seconds": "wall, training half, s",
        "wall_book_seconds": "wall, book half, s",
        "wall_again_seconds": "wall, second start, s",
        "wall_over_training": "whole wall / training steps",
        "wall_train_over_runs": "training half / whole runs",
        "ideal": "ideal of the last",
    }
    rows = [{"quantity": said, "value": float(result[key])} for key, said in names.items()]
    return table(
        pd.DataFrame(rows),
        caption=f"The batch, preset {result['preset']}, {result['jobs']} workers",
        formats={"value": ".2f"},
        note=where(result),
    )


def steps(printed: Mapping[str, Mapping[str, float]], about: str) -> Html | Markdown:
    """A training step of every method relative to full fine-tuning, beside a paper's ratios.

    printed: "time" and "memory" by the paper's row. about: what the reader must know of the paper's numbers.
    """
    result = benchmark("step")
    if result is None:
        return not_measured("step")
    full, rows = result["methods"]["Full()"]["ours"], []
    for method, found in result["methods"].items():
        row = {
            "method": method,
            "time": found["ours"]["milliseconds"] / full["milliseconds"],
            "memory": found["ours"]["peak_bytes"] / full["peak_bytes"],
        }
        row |= {f"{name}, paper": ratio for name, ratio in printed.get(found["row"], {}).items()}
        rows.append(row)
    note = (
        f"{_shape(result)}; full fine-tuning takes {full['milliseconds']:.0f} ms and "
        f"{full['peak_bytes'] / 2**20:.0f} MiB. {about} {where(result)}"
    )
    names = ("time", "time, paper", "memory", "memory, paper")
    return table(
        pd.DataFrame(rows)[["method", *names]],
        caption="A training step relative to full fine-tuning",
        formats=dict.fromkeys(names, ".2f"),
        note=note,
    )


def beside_peft() -> Html | Markdown:
    """A training step of the methods that Hugging Face `peft` has too, beside its own."""
    result = benchmark("step")
    if result is None:
        return Markdown("")
    rows = [
        {
            "method": method,
            "ours, ms": found["ours"]["milliseconds"],
            "peft, ms": found["peft"]["milliseconds"],
            "ours / peft": found["ours"]["milliseconds"] / found["peft"]["milliseconds"],
            "memory, ours / peft": found["ours"]["peak_bytes"] / found["peft"]["peak_bytes"],
        }
        for method, found in result["methods"].items()
        if found["peft"]
    ]
    formats = dict.fromkeys(("ours, ms", "peft, ms"), ".0f") | dict.fromkeys(("ours / peft", "memory, ours / peft"), ".2f")
    return table(
        pd.DataFrame(rows),
        caption="A training step, ours and that of Hugging Face peft",
        formats=formats,
        note=f"{_shape(result)}. {where(result)}",
    )


def _shape(result: dict) -> str:
    return f"{result['backbone']}, {result['batch']} sequences of {result['length']} tokens, {result['precision']}"


def kronecker() -> Html | Markdown:
    """Both orders of a product with a sum of Kronecker products, by shape."""
    result = benchmark("kronecker")
    if result is None:
        return not_measured("kronecker")
    rows = [
        {
            **{key: row[key] for key in ("d", "a", "n", "tokens")},
            "rank": row["rank"] or "full",
            "built, ms": row["milliseconds"]["built"],
            "factored, ms": row["milliseconds"]["factored"],
            "fewer products": row["chosen"],
            "faster": row["faster"],
        }
        for row in result["rows"]
    ]
    return table(
        pd.DataFrame(rows),
        caption="A product with a sum of Kronecker products: the matrix built first, or not",
        formats=dict.fromkeys(("built, ms", "factored, ms"), ".1f"),
        note=f"{result['threads']} thread, torch {result['torch']} · {result['date']} · commit {result['commit']}",
    )


def by_method(records: Sequence[dict]) -> Html:
    """Training speed over peak memory, one point a method."""
    caption = "Training speed and peak memory of every method on this page's backbone and data."
    groups = {label: mine for label, mine in by_label(records).items() if mine and mine[0]["peak_bytes"] is not None}
    if not groups:
        return figure(None, caption=caption, source=records)
    fig, ax = plt.subplots(figsize=(7.4, 4.2))
    for mine in groups.values():
        looks = style.of(mine[0]["run"]["method"])
        x, y = field(mine, "peak_bytes").mean / 2**20, field(mine, "examples_per_second").mean  # type: ignore[union-attr]  # each has them
        ax.plot(x, y, color=looks.color, marker=looks.marker)
        ax.annotate(looks.name, (x, y), xytext=(6, 4), textcoords="offset points", fontsize=9, color=looks.color)
    ax.set_yscale("log")
    ax.set(
        xlabel="peak memory of the process during the run, less what it used before (MiB)",
        ylabel="training examples per second (log scale)",
    )
    return figure(fig, caption=caption, source=records)
