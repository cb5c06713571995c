"""The calculator's closed forms and its page against `count` and `estimate`, on choices drawn at random."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from peftlib import catalogue, expressions
from peftlib.accounting.closed import Case, trace
from peftlib.accounting.counting import count
from peftlib.accounting.estimate import estimate
from peftlib.accounting.polynomials import letters, value
from peftlib.accounting.tabulated import ASKED, FILE, LENGTHS, PRECISIONS, asked_of, counts_of
from peftlib.backbones import SHAPES
from peftlib.errors import UsageError
from peftlib.report import calculator

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("minilm", "distilbert-base-uncased", "t5-small", "mt5-small")  # whose steps are estimated here
PARTS = ("weights", "gradients", "optimizer", "activations", "peak")
ANEW = "has it changed? then `python -m peftlib.accounting.tabulated {}` computes it anew"


def asked_at_random(draw: random.Random, data: dict, backbones: list[str], method: str = "") -> dict:
    """What a reader may choose."""
    method = method or draw.choice(list(ASKED))
    fields = data["methods"][method]["fields"]
    return {
        "backbone": draw.choice(backbones),
        "method": method,
        "values": {name: draw.choice(field["choices"]) for name, field in fields.items()},
        "tasks": draw.randint(1, 4),
        "copies": data["methods"][method]["copied"] and draw.random() < 0.5,
        "batch": draw.choice((2, 3, 8, 17, 32, 100)),
        "length": draw.choice(LENGTHS),
        "precision": draw.choice(PRECISIONS),
        "budget": 24,
    }


def expression_of(chosen: dict) -> str:
    return f"{chosen['method']}({', '.join(f'{name}={said}' for name, (said, _) in chosen['values'].items())})"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("calculator")
    names = ("calculator.js", "calculator.css", "tables.js", "book.css")
    for name in names:
        shutil.copy(ROOT / "book/_static" / name, folder)
    links = "".join(
        f'<link rel="stylesheet" href="{n}">' if n.endswith("css") else f'<script src="{n}"></script>' for n in names
    )
    made = folder / "page.html"
    made.write_text(
        f'<!doctype html><html data-theme="light"><meta charset="utf-8">{links}<article class="bd-article">'
        f"{calculator.show().content}{calculator.common().content}</article>"
    )
    return made


@pytest.fixture
def opened(page, browser):
    browser.width(1280)
    browser.open(page.as_uri())
    ready = "document.querySelector('.calculator').calculate ? true : new Promise(r => setTimeout(() => r(false), 50))"
    assert any(browser.ask(ready) for _ in range(100))
    return browser


def figures(browser, chosen: dict) -> dict:
    return browser.ask(f"document.querySelector('.calculator').calculate({json.dumps(chosen)})")


def figure(browser, name: str) -> str:
    return browser.ask(f"document.querySelector('[data-figure={name}]').textContent")


def test_every_method_can_be_chosen():
    assert set(calculator.data()["methods"]) == set(catalogue.methods()) - {"OutputLayer"}  # nothing where there are heads
    assert set(ASKED) <= set(catalogue.methods())
    assert {"AdaMix", "DiffPruning", "LeTSLike"} <= set(ASKED) and FILE.stat().st_size < 400_000


def test_the_page_counts_as_the_library_does(opened):
    """Every method once, which tells of those whose file has become wrong."""
    draw, data = random.Random(1), calculator.data()
    for method in asked_of():
        found: dict = {"refused": True}
        while "refused" in found:
            chosen = asked_at_random(draw, data, list(SHAPES), method)
            found = figures(opened, chosen)
        if "trainable" not in found:
            assert method not in ASKED and found["trainable_said"].startswith("not tabulated"), method
            continue
        asked = expression_of(chosen)
        wanted = count(f"PerTask({asked})" if chosen["copies"] else asked, chosen["backbone"], chosen["tasks"])
        names = ("trainable", "stored", "changed", "heads")
        told = {name: getattr(wanted, name) for name in names}
        assert {name: found[name] for name in names} == told, f"{chosen}: {ANEW.format(method)}"
        assert found["disk"] == 4 * (wanted.stored + wanted.heads)


@pytest.mark.parametrize(
    "method, values",
    [
        ("IPT", {"dimension": 10, "length": 20}),  # what a copy changes is its own
        ("LoRA", {"rank": 4, "sites": ("query", "value")}),  # what all change is the same
        ("AdaMix", {"bottleneck": 24, "experts": 8, "shared": False}),
    ],
)
def test_copies_are_counted_as_the_library_counts_them(opened, method, values):
    numbers = {name: [repr(value), value if type(value) is int else None] for name, value in values.items()}
    chosen = {"backbone": "minilm", "method": method, "values": numbers, "tasks": 3, "copies": True}
    found = figures(opened, chosen | {"batch": 8, "length": 64, "precision": "bf16", "budget": 24})
    wanted = count(found["expression"], "minilm", 3)
    assert found["expression"].startswith("PerTask(")
    for name in ("trainable", "stored", "changed"):
        assert found[name] == getattr(wanted, name), name


def test_a_method_that_is_not_in_the_table_is_told_by_its_commands(opened):
    opened.ask(
        "(() => { const known = document.querySelector('.calculator').data.methods;"
        "known.New = {...known.Full, fields: {size: {default: '4'}}, options: ['size']}; })()"
    )
    chosen = {"backbone": "minilm", "method": "New", "values": {"size": ["8", None]}, "tasks": 2, "copies": False}
    found = figures(opened, chosen | {"batch": 8, "length": 64, "precision": "bf16", "budget": 24})
    assert found["expression"] == "New(size=8)" and "New(size=8)" in found["count_command"] + found["estimate_command"]
    assert {found[f"{name}_said"].partition(":")[0] for name in ("trainable", "disk", "peak")} == {"not tabulated"}


def test_a_method_that_nothing_is_asked_of_is_counted_at_its_row(monkeypatch):
    monkeypatch.delitem(ASKED, "LoRA")
    asked_of.cache_clear()
    try:
        counts = counts_of("LoRA", asked_of()["LoRA"], "minilm")
    finally:
        asked_of.cache_clear()
    ((case, told),) = counts.items()
    row = catalogue.methods()["LoRA"].row
    assert expressions.canonical(row) == f"LoRA({case.replace(';', ', ')})"
    assert told["trainable"][""] == count(row, "minilm").trainable and told["changed"][""] == count(row, "minilm").changed


def test_the_page_refuses_what_the_library_refuses(opened):
    draw, data, refused = random.Random(2), calculator.data(), 0
    while refused < 8:
        chosen = asked_at_random(draw, data, list(SMALL))
        method = expression_of(chosen)
        if "refused" not in figures(opened, chosen):
            continue
        with pytest.raises(UsageError):
            count(f"PerTask({method})" if chosen["copies"] else method, chosen["backbone"], chosen["tasks"])
            estimate(method, chosen["backbone"], chosen["batch"], chosen["length"])
        refused += 1


@pytest.mark.slow
def test_the_page_needs_the_memory_that_the_library_estimates(opened):
    """Every method once, on a small backbone."""
    draw, data = random.Random(3), calculator.data()
    for method in (name for name, asked in ASKED.items() if asked.tabulated):
        found: dict = {}
        while "peak" not in found:
            chosen = asked_at_random(draw, data, list(SMALL), method)
            found = figures(opened, chosen)
        wanted = estimate(expression_of(chosen), *(chosen[name] for name in ("backbone", "batch", "length", "precision")))
        told = {name: getattr(wanted, name) for name in PARTS}
        assert {name: found[name] for name in PARTS} == pytest.approx(told, rel=0.001), f"{chosen}: {ANEW.format(method)}"


def test_the_largest_batch_fits_and_one_more_does_not(opened):
    chosen = {
        "backbone": "bert-base-uncased",
        "method": "LoRA",
        "values": {"rank": ["8", 8], "sites": ["('query', 'value')", None]},
    }
    chosen |= {"tasks": 1, "copies": False, "batch": 32, "length": 128, "precision": "bf16", "budget": 2}
    largest = figures(opened, chosen)["largest"]
    assert (
        figures(opened, chosen | {"batch": largest})["peak"]
        <= 2e9
        < figures(opened, chosen | {"batch": largest + 1})["peak"]
    )


@pytest.mark.parametrize(
    "name, wrong", [("batch", "1"), ("batch", ""), ("batch", "2.5"), ("tasks", "0"), ("tasks", "1001")]
)
def test_a_number_that_is_not_known_is_refused(opened, name, wrong):
    opened.ask(
        f"(() => {{ const it = document.querySelector('.calculator [name={name}]'); it.value = '{wrong}';"
        "it.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert name in opened.ask("document.querySelector('.calculator .refused').textContent")
    assert figure(opened, "peak_said") == "–"


def test_it_is_used_by_keyboard_and_asks_nobody(opened):
    before = figure(opened, "trainable_said"), figure(opened, "expression")
    assert before[1].startswith("LoRA(")
    opened.ask("document.querySelector('.calculator [name=field-rank]').focus()")
    opened.press("ArrowDown", 40)
    after = figure(opened, "trainable_said"), figure(opened, "expression")
    assert before[0] != after[0] and before[1] != after[1]
    opened.ask("document.querySelector('.calculator [name=method]').focus()")
    opened.press("ArrowDown", 40)
    assert figure(opened, "expression").startswith("IntrinsicSAID")
    assert not opened.errors
    assert all(url.startswith(("file:", "blob:")) for url in opened.requests)


def test_it_fits_a_phone(opened):
    opened.width(380)
    assert opened.ask("document.scrollingElement.scrollWidth") <= 380


def test_without_scripts_the_table_is_there_and_the_form_is_not(page):
    text = page.read_text()
    assert "<form hidden>" in text and "Common choices" in text
    assert len(text) < 400_000


@pytest.mark.parametrize(
    "case, expression",
    [
        (Case("LoRA", ("rank",)), "LoRA(rank=6)"),
        (Case("Compacter", ("bottleneck", "n")), "Compacter(bottleneck=36, n=6)"),
        (Case("PromptTuning", ("length",)), "PromptTuning(length=21)"),
        (Case("GaLore", ("rank",), whole=True), "GaLore(rank=40)"),
    ],
)
def test_a_closed_form_holds_at_sizes_that_were_not_traced(case, expression):
    given = dict(part.split("=") for part in expression.partition("(")[2][:-1].split(", "))
    forms = trace(case, "minilm", "bf16").at(SHAPES["minilm"]())
    at = letters(5, 96, {name: int(number) for name, number in given.items()})
    wanted = estimate(expression, "minilm", 5, 96)
    assert max(value(poly, at) for poly in forms.peak) == wanted.peak
    assert [value(getattr(forms, part), at) for part in PARTS[:-1]] == [getattr(wanted, part) for part in PARTS[:-1]]


def test_sizes_that_are_no_products_have_no_closed_form():
    with pytest.raises(UsageError, match="no product of sizes"):
        trace(Case("AdaptBertHypernet", ("bottleneck", "task_dim", "hidden")), "minilm", "bf16")
