"""The book's efficiency page: results of ``benchmarks/``, each with the machine that it was measured on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

import pandas as pd
from IPython.display import Markdown

from peftlib import expressions
from peftlib import records as store
from peftlib.report.sentences import fill
from peftlib.report.tables import NO_COMMIT, Html, Spread, many, table

T = TypeVar("T")
T5, LORA = "step_t5", "LoRA(rank=8)"  # a second result of ``benchmarks/step.py``, and the row that memory is compared with
QLORA = "QLoRA(rank=8, alpha=8.0, dropout=0.0)"


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
    name = machine["device"] if "processor" not in machine or "CPU" not in machine["device"] else machine["processor"]
    load = (
        f"load {machine['load_before']:.1f} before, {machine['load_after']:.1f} after · " if "load_after" in machine else ""
    )
    return (
        f"{name}, {many(machine['threads'], 'thread')} of {many(machine['cores'], 'core')} · {load}"
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
        caption=f"The batch, preset {result['preset']}, {many(result['jobs'], 'worker')}",
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
    papers = {method: printed.get(found["row"], {}) for method, found in result["methods"].items()}
    rows = [
        {"method": method, **ours, **{f"{name}, paper": ratio for name, ratio in papers[method].items()}}
        for method, ours in relative(result).items()
    ]
    names = ("time", "time, paper", "memory", "memory, paper")
    return table(
        pd.DataFrame(rows)[["method", *names]],
        caption="A training step relative to full fine-tuning",
        formats=dict.fromkeys(names, ".2f"),
        note=f"{_full(result)} {about} {where(result)}",
        missing="–",
    )


def relative(result: dict) -> dict[str, dict[str, float]]:
    """``time`` and ``memory`` of each method of a step benchmark, relative to full fine-tuning."""
    full = result["methods"]["Full()"]["ours"]
    return {
        method: {
            "time": found["ours"]["milliseconds"] / full["milliseconds"],
            "memory": found["ours"]["peak_bytes"] / full["peak_bytes"],
        }
        for method, found in result["methods"].items()
    }


def _full(result: dict) -> str:
    """What a step benchmark ran on, and what full fine-tuning took there."""
    full = result["methods"]["Full()"]["ours"]
    taken = f"{full['milliseconds']:,.0f} ms and {full['peak_bytes'] / 2**20:,.0f} MiB"
    return f"{_shape(result)}; full fine-tuning takes {taken}."


def on_t5() -> Html | Markdown:
    """A training step on T5-Base with inputs long enough for activations to fill the memory, relative to full fine-tuning,
    and its memory relative to LoRA's: `T5`, of few methods."""
    result = benchmark(T5)
    if result is None:
        return Markdown(
            "*Not measured yet: `python benchmarks/step.py --only LST LoRA QLoRA --backbone t5-base --batch 64 "
            f"--length 128 --output benchmarks/results/{T5}.json`.*"
        )
    found = relative(result)
    rows = pd.DataFrame.from_dict(found, orient="index").rename_axis("method").reset_index()
    rows["memory / LoRA's"] = rows["memory"] / found[LORA]["memory"]
    kept = "QLoRA changes six kinds of layers and keeps the inputs of all of them; LoRA's row changes two. "
    return table(
        rows,
        caption="A training step on T5-Base",
        formats=dict.fromkeys(("time", "memory", "memory / LoRA's"), ".2f"),
        note=f"{_full(result)} The backbone's weights are random. {kept if QLORA in found else ''}{where(result)}",
    )


def beside_peft() -> Html | Markdown:
    """A training step of the methods that Hugging Face `peft` has too, beside its own, as it comes and treated as ours."""
    result = benchmark("step_peft")
    if result is None:
        return Markdown(
            "*Not measured yet: `python benchmarks/step.py --peers --output benchmarks/results/step_peft.json` does it.*"
        )
    columns = {"": "peft", ", treated as ours": "peft treated as ours"}
    rows = [
        {"method": method, "ours, ms": found["ours"]["milliseconds"]}
        | {f"peft{said}, ms": found[side]["milliseconds"] for said, side in columns.items()}
        | {
            f"{what}, ours / peft{said}": found["ours"][of] / found[side][of]
            for what, of in (("time", "milliseconds"), ("memory", "peak_bytes"))
            for said, side in columns.items()
        }
        for method, found in result["methods"].items()
    ]
    return table(
        pd.DataFrame(rows),
        caption="A training step, ours and that of Hugging Face peft",
        formats={name: ".0f" if name.endswith("ms") else ".2f" for name in rows[0]},
        note="peft: as it comes, with frozen weights in fp32 under autocast and torch's own attention and dropout. Treated "
        "as ours: with frozen weights in the precision of the step, and this library's attention and dropout under it, as "
        f"its training loop treats every model. {_shape(result)}. {where(result)}",
    )


def evaluation(method: str) -> dict[str, float]:
    """What using a method's model costs, from ``benchmarks/results/inference.json``: ``tokens_per_second_1`` and
    ``speed_1``, that relative to the plain backbone's, of texts one at a time, and so for each size of batches; once merged
    ``merged_tokens_per_second_1`` and ``merged_speed_1``. Of this configuration if it was measured, else of the first one
    of the same methods; empty if there is none."""
    result = benchmark("inference")
    found = of_method(result["methods"], method) if result else None
    return {
        prefix + name + batch: cell[key]
        for state, prefix in (("unmerged", ""), ("merged", "merged_"))
        for batch, cell in (found or {}).get(state, {}).items()
        for name, key in (("tokens_per_second_", "tokens_per_second"), ("speed_", "ratio"))
    }


def of_method(measured: Mapping[str, T], method: str) -> T | None:
    """What was measured of an expression, else of the first one of the same methods; None if there is none."""
    names = expressions.names(method)
    alike = {expressions.canonical(name): one for name, one in measured.items() if expressions.names(name) == names}
    return alike.get(expressions.canonical(method), next(iter(alike.values()), None))


def inference(batch: int) -> Html | Markdown:
    """Tokens a second in evaluation of every method of the comparison, merged too where that can be, by so many texts at a
    time."""
    result = benchmark("inference")
    if result is None:
        return not_measured("inference")
    shown = pd.DataFrame(
        {
            "method": method,
            "tokens/s": states["unmerged"][str(batch)]["tokens_per_second"],
            "relative to the plain backbone": _ratio(states["unmerged"], batch, result["rounds"]),
            "merged: relative to the plain backbone": _ratio(states.get("merged"), batch, result["rounds"]),
        }
        for method, states in result["methods"].items()
    )
    note = (
        f"{result['backbone']}, texts of {result['length']} tokens, {result['precision']}. Relative to the plain backbone: "
        f"how many times its tokens a second, medians of {result['rounds']} rounds, ± half the distance between the "
        f"quartiles of the rounds' own ratios. – cannot be merged, or is the plain backbone itself. {where(result)}"
    )
    formats = {name: ",.0f" if name == "tokens/s" else ".2f" for name in shown.columns}
    caption = f"Tokens a second in evaluation, {'one text at a time' if batch == 1 else f'in batches of {batch}'}"
    return table(shown, caption=caption, formats=formats, note=note, missing="–")


def _ratio(cells: Mapping[str, Mapping[str, float]] | None, batch: int, rounds: int) -> Spread | None:
    """Of a state of a model; None for one that it has not."""
    if cells is None:
        return None
    cell = cells[str(batch)]
    return Spread(cell["ratio"], (cell["high"] - cell["low"]) / 2, rounds)


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
        note=f"{many(result['threads'], 'thread')}, torch {result['torch']} · {result['date']} · commit {result['commit']}",
    )
