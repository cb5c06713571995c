"""Records and the papers' numbers -> tables, figures, verdicts. Reads; never trains.

A notebook begins with ``page = report.begin(preset=preset, train=train)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from IPython.display import Markdown, display

from peftlib.errors import UsageError
from peftlib.report import style
from peftlib.report.tables import DATA_NAMES, Html, Spread, by_label, duration, field, provenance, scores, table
from peftlib.study import Preset, get_preset

__all__ = ["Html", "Page", "Spread", "begin", "by_label", "duration", "field", "provenance", "say", "scores", "table"]


@dataclass(frozen=True)
class Page:
    """What a page was asked for. preset: the preset itself. train: whether missing runs are trained here."""

    preset: Preset
    train: bool


def begin(preset: str, train: bool = True) -> Page:
    """Check a notebook's parameters, set the style of its figures, and show what its numbers rest on.

    Raises:
        UsageError: an unknown preset, or `train` is no truth value.
    """
    found = get_preset(preset)
    if not isinstance(train, bool):
        raise UsageError(f"train = {train!r}: expected True (train missing runs here) or False (only read records)")
    style.use()
    display(_overview(found, train))
    return Page(found, train)


def _overview(preset: Preset, train: bool) -> Html:
    sizes = ["all" if n is None else f"{n:,}" for n in preset.limits]
    rows = {
        "preset": f"{preset.name}: {preset.about}",
        "backbone": preset.backbone,
        "data": f"{DATA_NAMES[preset.source]}: {sizes[0]} examples a task to train on, {sizes[1]} to validate, {sizes[2]} to test",
        "seeds": ", ".join(map(str, preset.seeds)) + f" (n = {len(preset.seeds)})",
        "budget": f"{preset.epochs} epochs, batches of {preset.batch_size}, {preset.max_length} tokens, {preset.precision}",
        "missing runs": "are trained here" if train else "are left out; the tables say so",
    }
    return table(pd.DataFrame({"parameter": rows.keys(), "value": rows.values()}), caption="What this page was rendered with")


def say(template: str, **values: object) -> Markdown:
    """A sentence whose numbers come from records: ``say("LoRA reaches {x:.3f}.", x=...)``. If a value is None, it says
    instead that the runs it rests on are missing."""
    lacking = [name for name, value in values.items() if value is None]
    if lacking:
        return Markdown(f"*Not run: the sentence that stands here needs {', '.join(n.replace('_', ' ') for n in lacking)}.*")
    return Markdown(template.format(**values))
