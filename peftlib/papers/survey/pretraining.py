"""The page of ``t5-embedded``: how the project's own T5 was pretrained, and what it can fill in."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown

from peftlib import backbones
from peftlib.report import style
from peftlib.report.figures import figure
from peftlib.report.tables import Html, duration, table

GAPS = (
    "The <extra_id_0> was warm and the <extra_id_1> shone.",
    "She opened the <extra_id_0> and looked out.",
    "I do not <extra_id_0> what you mean.",
    "The film is <extra_id_0> and the acting is <extra_id_1>.",
)


def report(folder: Path) -> dict | None:
    """What pretraining wrote down, or None where nothing has been pretrained."""
    path = folder / "pretraining.json"
    return json.loads(path.read_text()) if path.is_file() else None


def facts(found: dict | None) -> Html | Markdown:
    """Recipe, size and time."""
    if found is None:
        return Markdown("*Not pretrained yet: run this notebook with `rebuild` set.*")
    weights = found["parameters"]
    rows = [
        ("parameters", f"{weights:,}"),
        ("file, bf16", f"{2 * weights / 2**20:.1f} MiB"),
        ("rows of text", f"{found['rows']:,}"),
        ("tokens seen", f"{found['tokens']:,}"),
        ("time", duration(found["seconds"])),
        *((name, str(value)) for name, value in found["recipe"].items()),
    ]
    if mixture := found.get("mixture"):
        rows += [("labelled examples", f"{mixture['examples']:,}"), ("time on them", duration(mixture["seconds"]))]
        rows += [
            (f"{name}, of the mixture", ", ".join(map(str, value)) if isinstance(value, list) else str(value))
            for name, value in mixture["recipe"].items()
        ]
    return table(pd.DataFrame(rows, columns=["of t5-embedded", "value"]), caption="What was pretrained, and for how long")


def curve(found: dict | None) -> Html:
    """Span corruption's loss on training rows and on rows that were held out, and how little of MiniLM is imitated."""
    caption = (
        "Left: loss of span corruption, in nats a target token. Right: share of the variance of MiniLM's states "
        "that those of encoder and decoder do not explain, on texts not yet imitated."
    )
    if found is None:
        return figure(None, caption=caption)
    history = pd.DataFrame(found["history"])
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2))
    left.plot(history["step"], history["train_loss"], "--", color=style.ORANGE, label="training rows")
    left.plot(history["step"], history["held_out_loss"], "-", color=style.BLUE, label="held-out rows")
    left.set(xlabel="step", ylabel="loss")
    left.legend()
    if "imitation" in history:
        right.plot(history["step"], history["imitation"], "-", color=style.BLUE)
    right.set(xlabel="step", ylabel="share unexplained", ylim=(0, None))
    return figure(fig, caption=caption)


def mixed(found: dict | None) -> Html | Markdown:
    """Accuracy of each task by steps of the mixture, on its rows that were held out."""
    if not (found and "mixture" in found):
        return Markdown("")
    history = found["mixture"]["history"]
    shown = {entry["step"]: entry["accuracy"] for entry in (history[0], history[len(history) // 2], history[-1])}
    rows = pd.DataFrame({f"step {step:,}": scores for step, scores in shown.items()}).rename_axis("task").reset_index()
    return table(
        rows,
        caption="Share of answers written exactly, on rows of the mixture that were held out",
        formats=dict.fromkeys(rows.columns[1:], ".2f"),
    )


def fills(folder: Path) -> Html | Markdown:
    """What the model puts into gaps, greedily."""
    if report(folder) is None:
        return Markdown("")
    found = backbones.load(str(folder), "text")
    ids = found.tokenizer(list(GAPS), padding=True, return_tensors="pt")
    with torch.no_grad():
        written = found.model.eval().generate(ids.input_ids, attention_mask=ids.attention_mask, max_new_tokens=12)  # type: ignore[operator]  # it writes
    said = [text.replace("<pad>", "").split("</s>")[0].strip() for text in found.tokenizer.batch_decode(written)]
    return table(pd.DataFrame({"text": GAPS, "written": said}), caption="Gaps, and what the model writes for them")
