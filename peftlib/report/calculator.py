"""The calculator: what a method trains, stores, changes and needs in memory on each known shape, for a reader's numbers.

The page's script (``book/_static/calculator.js``) evaluates the closed forms of `peftlib.accounting.tabulated`, which says
how they are made, what they hold for, and how they are renewed.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from peftlib import expressions
from peftlib.accounting.polynomials import letters, value
from peftlib.accounting.tabulated import ASKED, LEAST_BATCH, LENGTHS, PRECISIONS, Asked, asked_of, counted, given, tabulated
from peftlib.catalogue import methods
from peftlib.data.tasks import get_task
from peftlib.grids import DEFAULT_TASKS
from peftlib.report import choice, pages
from peftlib.report.efficiency import benchmark
from peftlib.report.tables import Html, table

COPIED = ("adapters", "soft prompts", "multitask")  # families of which a task can have a copy, and two methods more
BACKBONE, BATCH, LENGTH, BUDGET = "bert-base-uncased", 32, 128, 24
TABLE = ("bert-base-uncased", "t5-base")
MIB = 2**20


def fields(method: str, asked: Asked) -> dict[str, dict[str, Any]]:
    """What the reader is asked, in the order the method declares it: choices as (text, number or null), which of them is
    chosen at first, and the default's text."""
    known, row = asked.numbers | asked.options, given(methods()[method].row or f"{method}()")
    found = {}
    for field in expressions.fields_of(method):
        if field.name not in known:
            continue
        values = (*([None] if asked.absent == field.name else []), *known[field.name])
        first = row.get(field.name, field.default)
        found[field.name] = {
            "choices": [
                [repr(value), value if method in ASKED and type(value) in (int, float) else None] for value in values
            ],
            "chosen": values.index(first) if first in values else len(values) // 2,
            "default": repr(field.default),
        }
    return found


def data() -> dict[str, Any]:
    """What the page's script reads: the file, and what is asked of each method."""
    from peftlib.methods import METHODS

    found = tabulated()
    result = benchmark("step")
    about = {}
    for method, asked in asked_of().items():
        measured = [name for name in (result or {"methods": {}})["methods"] if expressions.names(name) == [method]]
        cls = METHODS[method]
        about[method] = {
            "title": cls.title,
            "page": pages.page_of(f"{method}()"),
            "fields": fields(method, asked),
            "options": [*asked.options, *([asked.absent] if asked.absent else [])],
            "numbers": list(asked.numbers),
            "memory": {name: [repr(value) for value in values] for name, values in asked.memory.items()},
            "copied": method in ASKED and (cls.family in COPIED or method in ("LoRA", "AdaLoRA")),
            "time": [[expressions.canonical(name), choice.cost(name)["time"]] for name in measured],
        }
    return found | {
        "methods": about,
        "outputs": [get_task(name).outputs for name in DEFAULT_TASKS],
        "measured": f"on {result['backbone']}, {result['batch']} x {result['length']} tokens, {result['precision']}"
        if result
        else "",
    }


def show() -> Html:
    """The form, its figures, the data behind them, and a table of common choices for readers without scripts."""
    known = data()
    packed = base64.b64encode(zlib.compress(json.dumps(known, separators=(",", ":")).encode(), 9)).decode()
    select = Markup('<label>{} <select name="{}">{}</select></label>')

    def options(chosen: str, named: Sequence[tuple[str, str]]) -> Markup:
        return Markup().join(
            Markup('<option value="{}"{}>{}</option>').format(value, Markup(" selected") if value == chosen else "", said)
            for value, said in named
        )

    def number(label: str, name: str, value: int, low: int, high: int, step: str = "1") -> Markup:
        return Markup(
            '<label>{} <input type="number" name="{}" value="{}" min="{}" max="{}" step="{}" required></label>'
        ).format(label, name, value, low, high, step)

    parts = [
        select.format("backbone", "backbone", options(BACKBONE, [(name, name) for name in known["backbones"]])),
        select.format("method", "method", options("LoRA", [(name, name) for name in known["methods"]])),
        Markup('<span class="fields"></span>'),
        number("tasks", "tasks", 1, 1, 1000),
        Markup('<label><input type="checkbox" name="copies"> a copy for every task</label>'),
        number("batch", "batch", BATCH, LEAST_BATCH, 100_000),
        select.format("tokens", "length", options(str(LENGTH), [(str(n), str(n)) for n in LENGTHS])),
        select.format("precision", "precision", options(PRECISIONS[0], [(name, name) for name in PRECISIONS])),
        number("memory of the device, GB", "budget", BUDGET, 0, 100_000, "any"),
    ]
    figures = [
        ("parameters trained", "trainable_said"),
        ("stored", "stored_said"),
        ("changed", "changed_said"),
        ("heads beside them", "heads_said"),
        ("on disk, heads included", "disk_said"),
        ("memory of a training step", "peak_said"),
        ("of it weights", "weights_said"),
        ("gradients", "gradients_said"),
        ("optimizer", "optimizer_said"),
        ("activations", "activations_said"),
        ("on the device", "fits_said"),
        ("largest batch that fits", "largest_said"),
        ("time of a step", "time_said"),
    ]
    lines = Markup().join(
        Markup('<tr><th scope="row">{}</th><td class="number" data-figure="{}"></td></tr>').format(*figure)
        for figure in figures
    )
    copied = [
        ("expression", "expression"),
        ("counts", "count_command"),
        ("memory", "estimate_command"),
        ("Python", "python"),
    ]
    commands = Markup().join(
        Markup(
            '<div class="command"><span>{0}</span><pre data-figure="{1}" tabindex="0"></pre>'
            '<button type="button" class="copy" data-of="{1}" aria-label="copy: {0}">copy</button></div>'
        ).format(*one)
        for one in copied
    )
    content = Markup(
        '<div class="calculator"><form hidden>{}</form><p class="refused" role="alert"></p>'
        '<div class="figures" hidden aria-live="polite"><table><caption><a class="method"></a></caption><tbody>{}</tbody>'
        "</table>"
        "{}</div>"
        '<script type="text/plain" class="data">{}</script></div>'
    ).format(Markup().join(parts), lines, commands, Markup(packed))
    return Html(content, "A calculator: its table of common choices follows.")


def common() -> Html:
    """A table of common choices: what is left of the calculator on paper and without scripts."""
    known, rows = tabulated(), []
    for method, asked in asked_of().items():
        chosen = {name: field["choices"][field["chosen"]] for name, field in fields(method, asked).items()}
        values = {name: number for name, (_, number) in chosen.items()}
        named = [*asked.options, *([asked.absent] if asked.absent and values[asked.absent] is None else [])]
        case = ";".join(f"{name}={chosen[name][0]}" for name in named)
        row: dict[str, object] = {"method": _expression(method, asked, chosen)}
        for backbone in TABLE:
            told = known["counts"][backbone].get(method, {}).get(case)
            forms = known["memory"].get(backbone, {}).get(method, {}).get("bf16", {})
            form = forms.get(";".join(part for part in case.split(";") if not part.startswith("n=")))
            row[f"stored, {backbone}"] = counted(told.get("stored", told["trainable"]), values) if told else None
            row[f"MiB, {backbone}"] = (
                max(value(poly, letters(BATCH, LENGTH, values)) for poly in form["peak"]) / MIB if form else None
            )
        rows.append(row)
    formats = {name: ",.0f" for name in rows[0] if name != "method"}
    return table(
        pd.DataFrame(rows),
        caption="Common choices: numbers stored for a task, and memory of a training step",
        formats=formats,
        missing="not tabulated",
        note=f"Memory: {BATCH} sequences of {LENGTH} tokens, bf16, on CUDA, what tensors take.",
    )


def _expression(method: str, asked: Asked, chosen: dict[str, list]) -> str:
    defaults = {name: field["default"] for name, field in fields(method, asked).items()}
    return f"{method}({', '.join(f'{name}={said}' for name, (said, _) in chosen.items() if said != defaults[name])})"
