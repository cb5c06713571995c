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

GAPS = ("The <extra_id_0> was warm and the <extra_id_1> shone.", "She opened the <extra_id_0> and looked out.",
        "I do not <extra_id_0> what you mean.", "The film is <extra_id_0> and the acting is <extra_id_1>.")


def report(folder: Path) -> dict | None:
    """What pretraining wrote down, or None where nothing has been pretrained."""
    path = folder / "pretraining.json"
    return json.loads(path.read_text()) if path.is_file() else None


def facts(found: dict | None) -> Html | Markdown:
    """Recipe, size and time."""
    if found is None:
        return Markdown("*Not pretrained yet: run this notebook with `rebuild` set.*")
    weights = found["parameters"]
    rows = [("parameters", f"{weights:,}"), ("file, bf16", f"{2 * weights / 2**20:.1f} MiB"),
            ("rows of text", f"{found['rows']:,}"), ("tokens seen", f"{found['tokens']:,}"),
            ("time", duration(found["seconds"])), *((name, str(value)) for name, value in found["recipe"].items())]
    return table(pd.DataFrame(rows, columns=["of t5-embedded", "value"]), caption="What was pretrained, and for how long")


def curve(found: dict | None) -> Html:
    """Loss on training rows and on rows that were held out, over steps."""
    caption = "Loss of span corruption, in nats a target token."
    if found is None:
        return figure(None, caption=caption)
    history = pd.DataFrame(found["history"])
    fig, ax = plt.subplots()
    ax.plot(history["step"], history["train_loss"], "--", color=style.ORANGE, label="training rows")
    ax.plot(history["step"], history["held_out_loss"], "-", color=style.BLUE, label="held-out rows")
    ax.set(xlabel="step", ylabel="loss")
    ax.legend()
    return figure(fig, caption=caption)


def fills(folder: Path) -> Html | Markdown:
    """What the model puts into gaps, greedily."""
    if report(folder) is None:
        return Markdown("")
    found = backbones.load(str(folder), "text")
    ids = found.tokenizer(list(GAPS), padding=True, return_tensors="pt")
    with torch.no_grad():
        written = found.model.eval().generate(ids.input_ids, attention_mask=ids.attention_mask, max_new_tokens=12)
    said = [text.replace("<pad>", "").split("</s>")[0].strip() for text in found.tokenizer.batch_decode(written)]
    return table(pd.DataFrame({"text": GAPS, "written": said}), caption="Gaps, and what the model writes for them")
