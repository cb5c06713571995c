"""The calculator: what a method trains, stores, changes and needs in memory on each known shape, for a reader's numbers.

The page's script (``book/_static/calculator.js``) evaluates closed forms, which `peftlib/report/calculator.json` holds:
counts from `peftlib.accounting.counting.count`, memory from `peftlib.accounting.closed`. They hold for the choices below
and no others, and any batch from two sequences on (one alone takes other steps). ``python -m peftlib.report.calculator``
adds to the file what it lacks, and tests/test_calculator.py compares it with the library.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from peftlib import expressions
from peftlib.accounting.polynomials import Poly, letters, value
from peftlib.catalogue import methods
from peftlib.data.tasks import get_task
from peftlib.grids import DEFAULT_TASKS
from peftlib.report import choice, pages
from peftlib.report.efficiency import benchmark
from peftlib.report.tables import Html, table

if TYPE_CHECKING:
    from peftlib.accounting.closed import Case, Forms

FILE = Path(__file__).with_suffix(".json")
LENGTHS, PRECISIONS, LEAST_BATCH = (32, 64, 128, 256, 384, 512), ("bf16", "fp32"), 2
RANKS, WIDTHS = (1, 2, 4, 8, 12, 16, 32, 64, 128, 256), (8, 12, 16, 24, 32, 48, 64, 96, 128, 256)
NORMS = {"train_norms": (False, True)}
LAYERS = ("query", "key", "value", "output", "up", "down")
Values = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What the reader chooses of a method. numbers: fields whose values the forms have as letters. options: fields of which
    every combination has forms of its own. absent: a number that may be None, which is an option too. whole: see
    `peftlib.accounting.closed.Case`. memory: fields at the only values that memory is known for; None if it is for none."""

    numbers: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    options: dict[str, tuple] = dataclasses.field(default_factory=dict)
    absent: str = ""
    whole: bool = False
    memory: dict[str, tuple] | None = dataclasses.field(default_factory=dict)


BOTTLENECK = Asked({"bottleneck": WIDTHS}, NORMS, memory={"train_norms": (False,)})
KRONECKER = {"n": (2, 4, 8, 12)}
COMPACTER = Asked(
    {"bottleneck": WIDTHS, "rank": (1, 2, 4)}, KRONECKER | NORMS, memory={"rank": (1,), "train_norms": (True,)}
)
ASKED = {
    "Full": Asked(),
    "HeadOnly": Asked(),
    "AdaptBertAdapter": Asked({"bottleneck": WIDTHS}),
    "AdapterDrop": Asked(
        {"bottleneck": WIDTHS}, {"drop": (1, 2, 5)} | NORMS, memory={"drop": (2,), "train_norms": (False,)}
    ),
    "AdapterLowRank": Asked({"bottleneck": WIDTHS, "rank": (1, 2, 4, 8)}, NORMS, memory={"train_norms": (True,)}),
    "Houlsby": BOTTLENECK,
    "PfeifferAttention": BOTTLENECK,
    "PfeifferFFN": BOTTLENECK,
    "PHMAdapter": Asked({"bottleneck": WIDTHS}, KRONECKER | NORMS, memory={"train_norms": (True,)}),
    "Compacter": COMPACTER,
    "CompacterPlusPlus": COMPACTER,
    "PrefixTuning": Asked({"length": (5, 10, 20, 30, 50, 100, 200), "mlp": (128, 256, 512, 800)}, absent="mlp"),
    "PromptTuning": Asked({"length": (5, 10, 20, 50, 100, 150)}),
    "BitFit": Asked(),
    "FishMask": Asked(options={"fraction": (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05)}, memory=None),
    "LayerNormTuning": Asked(),
    "AdaLoRA": Asked({"rank": (2, 4, 8, 12, 16, 32), "target": (1, 2, 4, 8, 16)}, whole=True),
    "GaLore": Asked({"rank": (64, 128, 256)}, whole=True),
    "LoRA": Asked({"rank": RANKS}, {"sites": (("query", "value"), LAYERS[:3], LAYERS)}),
    "IntrinsicSAID": Asked({"dimension": (1000, 1400, 2000, 5000, 10000, 20000, 50000)}, memory=None),
    "AdaptBertHypernet": Asked(
        {"bottleneck": (8, 16, 24, 32, 48, 64), "task_dim": (32, 64, 128), "hidden": (64, 128, 256)}, memory=None
    ),
}


# --- the file ---------------------------------------------------------------------------------------------------------
def cases(asked: Asked) -> Iterator[Values]:
    """Every combination of options."""
    options = list(asked.options.items()) + ([(asked.absent, (None, ...))] if asked.absent else [])
    for chosen in itertools.product(*(values for _, values in options)):
        yield {name: value for (name, _), value in zip(options, chosen, strict=True) if value is not ...}


def key(case: Values) -> str:
    """A case's name in the file and in the page's script."""
    return ";".join(f"{name}={text(value)}" for name, value in case.items())


def text(value: object) -> str:
    return repr(value)


def expression(method: str, values: Values) -> str:
    return expressions.canonical(f"{method}({', '.join(f'{name}={value!r}' for name, value in values.items())})")


def numbers_of(asked: Asked, case: Values) -> dict[str, tuple[int, ...]]:
    """The fields that are letters in a case, with their choices."""
    return {name: values for name, values in asked.numbers.items() if name not in case}


def possible(method: str, values: Values, width: int) -> bool:
    """May these be together? What book/_static/calculator.js refuses, too; all other choices are possible everywhere."""
    bottleneck, n = values.get("bottleneck", 0), values.get("n", 1)
    rank = values.get("rank", 1)
    most = {"AdapterLowRank": bottleneck, "Compacter": bottleneck // n, "CompacterPlusPlus": bottleneck // n}
    return width % n == 0 and bottleneck % n == 0 and rank <= most.get(method, rank) and values.get("target", 1) <= rank


def counts_of(method: str, asked: Asked, backbone: str) -> dict[str, dict]:
    """By case the polynomials of what is trained, and of what is stored and changed where that is something else."""
    from peftlib.accounting.counted import shape
    from peftlib.accounting.counting import count
    from peftlib.methods import parse

    sizes, found = shape(backbone), {}

    def trained(values: Values) -> int:
        return parse(expression(method, values)).formula(sizes)  # type: ignore[attr-defined]  # a method

    for case in cases(asked):
        if sizes.width % case.get("n", 1):
            continue
        letters = list(numbers_of(asked, case))
        points = {name: (least(method, name, case), 2 * least(method, name, case)) for name in letters}
        trainable = multilinear(lambda values, case=case: trained(case | values), points)
        told = {"trainable": trainable}
        if method == "FishMask":
            told["stored"] = {name: 2 * number for name, number in trainable.items()}
        elif method == "AdaLoRA":
            told["stored"] = {name.replace("rank", "target"): number for name, number in trainable.items()}
        elif method == "PrefixTuning":
            told["stored"] = multilinear(lambda values: trained({"mlp": None} | values), {"length": (1, 2)})
            told["changed"] = told["stored"]
        if method in ("LoRA", "AdaLoRA", "Full", "GaLore", "IntrinsicSAID", "FishMask"):
            first = {name: values[0] for name, values in numbers_of(asked, case).items()}
            told["changed"] = {"": count(expression(method, case | first), backbone).changed}
        found[key(case)] = told
    return found


def least(method: str, name: str, case: Values) -> int:
    """A value that any other field goes with."""
    return {"bottleneck": 4 * case.get("n", 1), "dimension": 1000, "rank": 2 if method == "AdaLoRA" else 1}.get(name, 1)


def multilinear(compute: Any, points: dict[str, tuple[int, int]]) -> dict[str, int]:
    """The polynomial, of degree one in each of its variables, that a function of whole numbers is. Its monomials are names
    joined by ``*``."""
    if not points:
        return {"": compute({})}
    (name, (low, high)), *rest = points.items()
    others = dict(rest)
    at_low = multilinear(lambda values: compute({name: low} | values), others)
    at_high = multilinear(lambda values: compute({name: high} | values), others)
    found: dict[str, int] = {}
    for monomial in at_low.keys() | at_high.keys():
        slope, rest_ = divmod(at_high.get(monomial, 0) - at_low.get(monomial, 0), high - low)
        if rest_:
            raise AssertionError(f"{monomial} of {name}: not of degree one")
        found[f"{name}*{monomial}".rstrip("*")] = slope
        found[monomial] = at_low.get(monomial, 0) - slope * low
    return {monomial: number for monomial, number in sorted(found.items()) if number}


def forms_of(method: str, asked: Asked, case: Values, backbone: str, forms: Forms) -> dict[str, Any]:
    """What the page needs of a closed form: of the polynomials behind a peak those that are the highest somewhere."""
    from peftlib.backbones import SHAPES

    config = SHAPES[backbone]()
    room = getattr(config, "max_position_embeddings", None)
    fields = numbers_of(asked, case) | {name: values for name, values in asked.options.items() if name == "n"}
    fields |= {name: values for name, values in (asked.memory or {}).items() if name in fields}
    kept: set[int] = set()
    for tokens in LENGTHS:
        for chosen in itertools.product(*fields.values()):
            values = dict(zip(fields, chosen, strict=True))
            longest = tokens + (values.get("length", 0) if method == "PromptTuning" else 0)
            if (room is None or longest <= room) and possible(method, case | values, config.hidden_size):
                kept |= highest_lines(forms.peak, letters(1, tokens, values))
    parts = {part: getattr(forms, part) for part in ("weights", "gradients", "optimizer", "activations")}
    return parts | {"peak": [forms.peak[i] for i in sorted(kept)]}


def highest_lines(polys: Sequence[dict[str, int]], at: dict[str, int]) -> set[int]:
    """Which of them are the highest for some batch from `LEAST_BATCH` on, all else given: each is a line in the batch."""
    lines = []
    for i, poly in enumerate(polys):
        constant = slope = 0.0
        for monomial, number in poly.items():
            above, _, below = monomial.partition("/")
            for letter in above.replace("B", ""):
                number *= at[letter]
            for letter in below:
                number /= at[letter]
            slope, constant = (slope + number, constant) if "B" in above else (slope, constant + number)
        lines.append((slope, constant + LEAST_BATCH * slope, i))
    found: set[int] = set()
    slope, height, i = max(lines, key=lambda line: (line[1], line[0]))
    while True:
        found.add(i)
        later = [((height - h) / (k - slope), -k, h, j) for k, h, j in lines if k > slope]
        if not later:
            return found
        _, slope, height, i = min(later)
        slope = -slope


def memory_cases(method: str, asked: Asked) -> Iterator[tuple[Values, Case]]:
    """The cases whose memory is known, with what is traced for them."""
    from peftlib.accounting.closed import Case

    if asked.memory is None:
        return
    seen = set()
    for case in cases(asked):
        case = {name: value for name, value in case.items() if name != "n"}
        if key(case) in seen or any(value not in asked.memory.get(name, (value,)) for name, value in case.items()):
            continue
        seen.add(key(case))
        free = [name for name in numbers_of(asked, case) if name not in asked.memory and name != "target"]
        fixed = case | {name: values[0] for name, values in asked.memory.items() if name not in case}
        whole = asked.whole or (bool(asked.absent) and asked.absent not in case)
        told = ", ".join(f"{name}={value!r}" for name, value in fixed.items())
        letters = (*free, "n") if "n" in asked.options else tuple(free)
        if method == "AdaLoRA":
            told = "target=1"
        yield case, Case(method, letters, told, case.get("drop", 0), whole)


def build(path: Path = FILE) -> None:
    """Write the file. What it has already is kept: remove it to have all computed anew."""
    from peftlib.accounting.closed import family, trace
    from peftlib.accounting.counted import shape
    from peftlib.backbones import SHAPES, anatomy_of

    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"backbones": {}, "counts": {}, "memory": {}}

    def save() -> None:
        path.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")

    for backbone in SHAPES:
        if backbone not in found["backbones"]:
            sizes = shape(backbone)
            found["backbones"][backbone] = {
                "total": sizes.total,
                "width": sizes.width,
                "decoder": bool(sizes.decoder_layers),
                "positions": anatomy_of(backbone).positions,
            }
            found["counts"][backbone] = {method: counts_of(method, asked, backbone) for method, asked in ASKED.items()}
            print(backbone, flush=True)
    save()
    work = [
        (
            one.whole,
            SHAPES[backbone]().is_encoder_decoder,
            PRECISIONS.index(precision),
            method,
            key(case),
            case,
            one,
            backbone,
        )
        for method, asked in ASKED.items()
        for case, one in memory_cases(method, asked)
        for precision in PRECISIONS
        for backbone in SHAPES
    ]
    traced: dict[str, Any] = {}
    for whole, text_to_text, i, method, name, case, one, backbone in sorted(work, key=lambda job: job[:5]):
        there = found["memory"].setdefault(backbone, {}).setdefault(method, {}).setdefault(PRECISIONS[i], {})
        if name in there or (method == "GaLore" and text_to_text):  # whose matrices are wide in one T5 and tall in another
            continue
        config = SHAPES[backbone]()
        like = json.dumps([family(config), config.num_hidden_layers if whole else 0, one.expression, i])
        if like not in traced:
            traced = {k: v for k, v in traced.items() if json.loads(k)[2:] == [one.expression, i]}
            traced[like] = trace(one, backbone, PRECISIONS[i])
        there[name] = forms_of(method, ASKED[method], case, backbone, traced[like].at(config))
        print(backbone, one.expression, PRECISIONS[i], flush=True)
        save()


# --- the page ---------------------------------------------------------------------------------------------------------
COPIED = ("adapters", "soft prompts", "multitask")  # families of which a task can have a copy, and two methods more
BACKBONE, BATCH, LENGTH, BUDGET = "bert-base-uncased", 32, 128, 24
TABLE = ("bert-base-uncased", "t5-base")
MIB = 2**20


def fields(method: str, asked: Asked) -> dict[str, dict[str, Any]]:
    """What the reader is asked, in the order the method declares it: choices as (text, number or null), which of them is
    chosen at first, and the default's text."""
    known, row = asked.numbers | asked.options, dict(_leaf(methods()[method].row or f"{method}()"))
    found = {}
    for field in expressions.fields_of(method):
        if field.name not in known:
            continue
        values = (*([None] if asked.absent == field.name else []), *known[field.name])
        first = row.get(field.name, field.default)
        found[field.name] = {
            "choices": [[text(value), value if type(value) in (int, float) else None] for value in values],
            "chosen": values.index(first) if first in values else len(values) // 2,
            "default": text(field.default),
        }
    return found


def _leaf(method: str) -> Sequence[tuple[str, Any]]:
    ((leaf, _),) = expressions.parse(method).leaves()
    return leaf.given


def data() -> dict[str, Any]:
    """What the page's script reads: the file, and what is asked of each method."""
    from peftlib.methods import METHODS

    found = json.loads(FILE.read_text(encoding="utf-8"))
    result = benchmark("step")
    about = {}
    for method, asked in ASKED.items():
        measured = [name for name in (result or {"methods": {}})["methods"] if expressions.names(name) == [method]]
        cls = METHODS[method]
        about[method] = {
            "title": cls.title,
            "page": pages.page_of(f"{method}()"),
            "fields": fields(method, asked),
            "options": [*asked.options, *([asked.absent] if asked.absent else [])],
            "numbers": list(asked.numbers),
            "memory": {name: [text(value) for value in values] for name, values in (asked.memory or {}).items()},
            "copied": cls.family in COPIED or method in ("LoRA", "AdaLoRA"),
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
    known, rows = json.loads(FILE.read_text(encoding="utf-8")), []
    for method, asked in ASKED.items():
        chosen = {name: field["choices"][field["chosen"]] for name, field in fields(method, asked).items()}
        values = {name: number for name, (_, number) in chosen.items()}
        named = [*asked.options, *([asked.absent] if asked.absent and values[asked.absent] is None else [])]
        case = ";".join(f"{name}={chosen[name][0]}" for name in named)
        row: dict[str, object] = {"method": _expression(method, asked, chosen)}
        for backbone in TABLE:
            told = known["counts"][backbone][method].get(case)
            forms = known["memory"].get(backbone, {}).get(method, {}).get("bf16", {})
            form = forms.get(";".join(part for part in case.split(";") if not part.startswith("n=")))
            at = letters(BATCH, LENGTH, values)
            row[f"stored, {backbone}"] = counted(told.get("stored", told["trainable"]), values) if told else None
            row[f"MiB, {backbone}"] = max(value(poly, at) for poly in form["peak"]) / MIB if form else None
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


def counted(poly: Poly, values: Values) -> int:
    """A count: monomials are names joined by ``*``."""
    return sum(number * math.prod(values[name] for name in names.split("*") if name) for names, number in poly.items())


if __name__ == "__main__":
    build()
