"""Training on a table of one's own, and the code that every method's page shows for it."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch

from peftlib import backbones, deltas, interop, method_page, own, records
from peftlib.comparison import METHOD_RUNS
from peftlib.data.tasks import TASKS
from peftlib.expressions import names
from peftlib.methods import METHODS, parse

SMALL = "t5-embedded"
# Of a width or a depth that these examples, made for MiniLM, do not suit.
OTHERS = dict.fromkeys(("AdapterDrop", "Compacter", "CompacterPlusPlus"), "minilm[:3]")
LABELS = list(METHOD_RUNS)


def films(rows: int = 24) -> pd.DataFrame:
    return pd.DataFrame(
        {"text": ["a joy to watch", "dull from start to end"] * (rows // 2), "label": ["good", "bad"] * (rows // 2)}
    )


def run(label: str, backbone: str) -> dict:
    """What the code of a method's page has named when it has run, on another backbone."""
    there: dict = {}
    exec(compile(method_page.use(label, "page").replace('"minilm"', f'"{backbone}"'), label, "exec"), there)
    return there


@pytest.mark.parametrize("label", LABELS)
def test_what_a_page_shows_works(label):
    """It trains, saves, loads and answers; what is loaded, merged and exported gives the same outputs."""
    there = run(label, OTHERS.get(label, SMALL))
    model, again, tokenizer = there["model"], there["again"], there["minilm"].tokenizer
    assert Path(there["folder"].name, "page.safetensors").stat().st_size == there["size"]
    batch = tokenizer(["a joy to watch", "never again"], return_tensors="pt", padding=True)
    with torch.no_grad():
        assert torch.allclose(model.eval()("own", dict(batch)), again("own", dict(batch)), atol=1e-4)
    assert ("plain" in there) == model.merged == all(METHODS[name].mergeable for name in names(METHOD_RUNS[label]))
    assert Path(there["folder"].name, "peft", "adapter_config.json").exists() == interop.writes(parse(METHOD_RUNS[label]))


def test_what_a_page_serves_answers_as_each_profile_alone(capsys):
    """The code that X-PEFT's page alone has, after that which all pages have."""
    page = json.loads((records.root() / "notebooks" / "methods" / "xpeft.ipynb").read_text())
    (cell,) = (cell for cell in page["cells"] if method_page.OWN in cell["metadata"].get("tags", []))
    there = run("XPEFT", SMALL)
    exec(compile("".join(cell["source"]).replace('"minilm"', f'"{SMALL}"'), "served", "exec"), there)
    assert there["names"] == list(there["server"].held) == ["own", "other"]
    batch = there["minilm"].tokenizer(["a joy to watch"], return_tensors="pt")
    files = [Path(there["folder"].name, f"{name}.safetensors") for name in ("page", "other")]  # `run` calls it page
    answers = {}
    for name, file, row in zip(there["names"], files, there["scores"], strict=True):
        alone = deltas.load(file, backbones.load(SMALL).model)
        with torch.no_grad():
            torch.testing.assert_close(row, alone("own", dict(batch))[0], rtol=1e-4, atol=1e-5)
        answers[name] = alone.task_table["own"].labels[int(row.argmax())]
    assert not torch.allclose(*there["scores"], atol=1e-3)
    assert str(answers) in capsys.readouterr().out


@pytest.mark.parametrize("label", LABELS)
def test_what_a_page_shows_is_about_ten_lines(label):
    statements = ast.parse(method_page.use(label, "page")).body
    assert len([one for one in statements if not isinstance(one, ast.Import | ast.ImportFrom)]) <= 8
    assert len(statements) <= 12


def test_peft_reads_what_a_page_exports():
    peft = pytest.importorskip("peft")
    there = run("LoRA", "minilm[:3]")
    theirs = peft.PeftModel.from_pretrained(backbones.load("minilm[:3]").model, f"{there['folder'].name}/peft").eval()
    batch = there["minilm"].tokenizer(["a joy to watch"], return_tensors="pt")
    with torch.no_grad():
        ours = there["again"].backbone(**batch).last_hidden_state
        assert torch.allclose(theirs(**batch).last_hidden_state, ours, atol=1e-4)


def test_it_learns_from_the_table_and_answers_by_its_words():
    outcome = own.train(films(60), "LoRA(rank=8)", backbone=SMALL, lr=1e-2, epochs=8, batch_size=8)
    tokenizer = backbones.load(SMALL).tokenizer
    assert outcome.test["own"] == 1.0
    assert own.answers(outcome.model, ["dull from start to end", "a joy to watch"], tokenizer) == ["bad", "good"]


def test_numbers_with_a_fraction_are_scores_and_two_texts_a_pair():
    pairs = pd.DataFrame(
        {"one": ["a cat sits", "it rains"] * 10, "two": ["a cat sat", "sunny"] * 10, "alike": [4.5, 0.5] * 10}
    )
    outcome = own.train(pairs, "BitFit()", label="alike", backbone=SMALL, epochs=1)
    (task,) = outcome.model.task_table.values()
    assert (task.kind, task.texts, task.low, task.high) == ("score", ("one", "two"), 0.5, 4.5)
    (score,) = own.answers(outcome.model, [("a cat sits", "a cat sat")], backbones.load(SMALL).tokenizer)
    assert isinstance(score, float)


def test_the_study_is_as_it_was_afterwards(monkeypatch):
    monkeypatch.setenv("PEFTLIB_DATA", "elsewhere")
    own.train(films(), "HeadOnly()", backbone=SMALL, epochs=1)
    assert own.NAME not in TASKS and os.environ["PEFTLIB_DATA"] == "elsewhere"


def test_splits_share_no_row(tmp_path):
    table = pd.DataFrame({"text": [f"row {i}" for i in range(40)], "label": [0, 1] * 20})
    own._write(table, tmp_path / "own", seed=0)
    parts = [pd.read_parquet(tmp_path / "own" / f"{split}.parquet") for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [32, 4, 4]
    assert set().union(*(part["text"] for part in parts)) == set(table["text"])
