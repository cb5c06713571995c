"""The sections of a method's page: pictures that show what a method does, counts that agree, pages without records."""

import dataclasses
import json
import re

import matplotlib
import nbformat
import pytest

from peftlib import grids, method_page, records, report
from peftlib.comparison import METHOD_RUNS
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.expressions import names
from peftlib.methods import METHODS
from peftlib.model import Tuned
from peftlib.report import blocks, concerning, methods
from peftlib.study import Results

matplotlib.use("Agg")
LABELS = list(METHOD_RUNS)
PAGES = sorted((records.root() / "notebooks" / "methods").glob("*.ipynb"))


def edited_sites(method: str, kind: str) -> set[tuple[str, str]]:
    """(stack, site) pairs whose module holds an edit that changes something, read from the model's modules and not from the
    attachment."""
    from peftlib import backbones
    from peftlib.edits import Edited, Seen

    model = Tuned(backbones.from_config(blocks.tiny(kind).model.config), method, [get_task("sst"), get_task("quora")])
    sites = model.anatomy.sites
    return {
        (s.stack, s.name)
        for s in sites
        if hasattr(s.module, "inside")
        or (isinstance(s.module, Edited) and not all(isinstance(edit, Seen) for edit in s.module.edits.values()))
    }


def trained_sites(method: str, kind: str) -> set[tuple[str, str]]:
    """(stack, site) pairs some of whose own tensors the model trains."""
    from peftlib import backbones

    model = Tuned(backbones.from_config(blocks.tiny(kind).model.config), method, [get_task("sst")])
    sites = [s for s in model.anatomy.sites if not s.name.endswith("attention")]
    return {
        (s.stack, s.name)
        for s in sites
        if any(p.requires_grad for p in getattr(s.module, "base", s.module).parameters(recurse=False))
    }


@pytest.mark.parametrize("kind", ["bert", "t5"])
@pytest.mark.parametrize("label", LABELS)
def test_picture_shows_the_places_that_are_edited_and_trained(label, kind):
    method = METHOD_RUNS[label]
    found, _ = blocks.touches(method, kind)
    shown = {(t.stack, t.site) for t in found if t.how in ("before", "after", "inside", "ahead")}
    own = {(t.stack, t.site) for t in found if t.how == "trained"}
    assert shown == edited_sites(method, kind)
    assert own == trained_sites(method, kind)
    drawn = {(stack, name) for stack, rows in blocks.order(kind).items() for names in rows for name in names}
    assert shown | own <= drawn


def test_picture_tells_before_from_after_and_a_copy_a_task():
    found, _ = blocks.touches(METHOD_RUNS["LoRA+Adapter"], "bert")
    by_site = {(t.site, t.method): (t.how, t.per_task) for t in found}
    assert by_site["attention.query", "LoRA"] == ("after", False)
    assert by_site["attention.output", "AdaptBertAdapter"] == ("after", True)
    assert by_site["ffn.down", "AdaptBertAdapter"] == ("before", True)


@pytest.mark.parametrize(
    "label, method",
    [
        ("AdaptBertHypernet", "AdaptBertHypernet(norm_std=1.0)"),
        ("HyperFormer", "HyperFormer(bottleneck=4)"),
        ("TaskAdapters", "TaskAdapters(bottleneck=4, gamma=1.0)"),
    ],
)
def test_picture_of_an_adapter_for_both_ends_agrees_with_what_it_changes(label, method):
    """`Normed` overrides both ends; only one of them acts at a site."""
    import torch

    from peftlib import backbones

    backbone = backbones.from_config(blocks.tiny("bert").model.config)
    model = Tuned(backbone, method, [get_task("sst")])
    model.current.task = "sst"
    found = {t.site: t.how for t in blocks.touches(METHOD_RUNS[label], "bert")[0]}
    for site, edit in model.attachments[0][1].edits:
        x = torch.randn(2, model.anatomy.shape.ffn if site.name == "ffn.down" else model.anatomy.shape.width)
        y = torch.randn(2, model.anatomy.shape.width)
        acts = {"before": not torch.equal(edit.before(x), x), "after": not torch.equal(edit.after(x, y), y)}
        assert [how for how, does in acts.items() if does] == [found[site.name]]


def test_order_is_that_of_a_forward_pass():
    bert, t5 = blocks.order("bert")["encoder"], blocks.order("t5")
    assert bert == [
        ["embeddings.words"],
        ["embeddings.norm"],
        ["attention.query", "attention.key", "attention.value"],
        ["attention"],
        ["attention.output"],
        ["attention.norm"],
        ["ffn.up"],
        ["ffn.down"],
        ["ffn.norm"],
    ]
    assert t5["encoder"][:2] == [["embeddings.words"], ["attention.norm"]]  # norms come first in T5
    assert [row[0] for row in t5["decoder"]].count("cross_attention") == 1


def test_pictures_are_drawn_and_described():
    shown = methods.picture("LoRA(rank=8)")
    assert "<img" in shown._repr_html_()
    assert "LowRank after attention.query, attention.key, attention.value" in repr(shown)
    assert "only heads are trained" in repr(methods.picture("HeadOnly()"))


@pytest.mark.parametrize("label", LABELS)
def test_counts_agree_with_the_formula(label):
    for backbone in methods.COUNTED_ON.values():
        assert methods.count(METHOD_RUNS[label], backbone).trainable == methods.formula(METHOD_RUNS[label], backbone)
    assert "NO" not in repr(methods.counts(METHOD_RUNS[label]))


@pytest.mark.parametrize("row", methods.printed_counts().to_dict("records"), ids=lambda r: f"{r['paper']} {r['row']}")
def test_printed_counts_agree_or_say_why_not(row):
    agrees = methods._beside(row)["agree"] == "yes"
    assert agrees == (row["note"] == "")


def test_explanations_of_printed_counts_hold():
    """The notes beside the three counts that disagree are arithmetic, so they are checked."""
    shape = methods.backbones.anatomy_of("t5-3b").shape
    only_48 = 48 * 2 * 8 * (shape.width + shape.inner)
    assert f"{only_48 / 1e6:.2f}" == "3.93"
    assert methods.count("PrefixTuning(length=10, mlp=512)", "t5-large").trainable == 77_250_048
    assert methods.count("MAM(length=30, mlp=512, bottleneck=512)", "t5-11b").trainable == 1_262_390_784
    assert f"{methods.count('MAM(length=30, mlp=800, bottleneck=512)', 't5-large').trainable / 1e6:.2f}" == "171.07"
    with_head = methods.count("BitFit()", "t5-base").trainable + 32_100
    assert f"{100 * with_head / 222_882_048:.3f}" == "0.126"


@pytest.mark.parametrize("label", LABELS)
def test_source_is_the_librarys(label):
    shown = methods.source(METHOD_RUNS[label])
    assert "<details>" in shown._repr_html_() and "peftlib/methods/" in shown._repr_html_()
    assert all(f"class {name}(" in repr(shown) for name in names(METHOD_RUNS[label]))
    assert "about = {" not in repr(shown) and "def formula" not in repr(shown)


@pytest.mark.parametrize(
    "label, code",
    {
        "Compacter": 'H = torch.einsum("ipq,iab->paqb", A, full)',  # the Kronecker product, in a file beside it
        "PHMAdapter": "def factored(",
        "FishMask": "def _fisher(",
        "GaLore": "torch.linalg.eigh(gram)",
        "AdaLoRA": "def after_step(",
        "AdapterDrop": "site.layer >= self.drop",
        "PfeifferFFN": "OnOutput(at.shape.width",  # of the class it is a variant of
        "IntrinsicSAID": "def hadamard(",
    }.items(),
)
def test_source_has_the_code_that_does_the_work(label, code):
    assert code in repr(methods.source(METHOD_RUNS[label]))


def test_pages_cope_with_no_records():
    empty, preset = Results([], grids.runs("methods/compared", "smoke", ["LoRA"])), grids.get_preset("smoke")
    for shown in (methods.curve(empty), methods.compare(empty, "LoRA"), methods.cost(empty, "LoRA")):
        assert "0 of 1 run" in repr(shown)
    assert "0.002" in repr(methods.recipe(empty, preset)) and "3" in repr(methods.recipe(empty, preset))
    assert "Not run: LoRA" in methods.scored(empty, "LoRA").text
    assert "not run" in methods.found(empty, "LoRA", preset).text


# --- what is said about records ---------------------------------------------------------------------------------------
def record(label: str, accuracy: float, stored: int, seed: int = 0) -> dict:
    """A finished run with as much of the schema as these pages read."""
    (run,) = (run for run in grids.runs("methods/compared", "smoke", [label]) if run.seed == 0)
    scores = {"sst": accuracy, "mean": accuracy}
    return {
        "digest": f"{label}{seed}",
        "history": [{"epoch": 1, "train_loss": 1.0, "examples": 48, "validation": scores}],
        "best_epoch": 1,
        "validation": scores,
        "test": scores,
        "stored_bytes": 4 * stored,
        "counts": {"trainable": stored, "stored": stored, "changed": stored},
        "commit": "abc",
        "run": dataclasses.asdict(run) | {"seed": seed, "limits": (48, 100, 32), "tasks": ("sst",)},
    }


def made() -> Results:
    rows = [record("Full", 0.60, 1000), record("HeadOnly", 0.30, 0), record("LoRA", 0.58, 10), record("Houlsby", 0.01, 20)]
    return Results(rows, [])


def test_what_is_said_of_a_score_is_what_its_interval_shows():
    near, far = methods.scored(made(), "LoRA").text, methods.scored(made(), "Houlsby").text
    assert (
        "It reaches 0.580 (" in near and "cannot be told from the highest of 4 methods, 0.600 by full fine-tuning" in near
    )
    assert "-0.020" in near and "neither above nor below" in near and "stores 1% of its numbers" in near
    assert "it is below the highest of 4" in far and "), below; it stores 2%" in far
    assert "cannot be told from it" in methods.scored(made(), "Full").text


def test_a_score_that_was_not_learned_is_marked():
    assert "did not learn" in methods.scored(made(), "Houlsby").text
    assert "did not learn" not in methods.scored(made(), "Full").text


def test_steps_are_those_of_the_run():
    runs = grids.runs("methods/compared", "smoke", ["LoRA"])
    shown = repr(methods.recipe(Results([record("LoRA", 0.5, 10)], runs), grids.get_preset("smoke")))
    assert re.search(r"0\.002\s+3\s+16\s+48\s+1\s+fp32\s+SST\s+0", shown)  # 48 examples in batches of 16, once


def test_the_rates_of_a_recipe_are_those_that_searches_tried(monkeypatch):
    runs, preset = grids.runs("methods/compared", "smoke", ["LoRA"]), grids.get_preset("smoke")
    source = Results([record("LoRA", 0.5, 10)], runs)
    assert "chosen on validation" not in repr(methods.recipe(source, preset)), "nothing was searched"
    for rates, said in (((0.001, 0.002), "chosen on validation among 0.001, 0.002."), ((0.001, 0.004), None)):
        search = concerning.Search("a/b", "LoRA", "sst", "minilm", rates, 0.5, 0.002, 0.3, True)
        monkeypatch.setattr(concerning, "searches", lambda *_, search=search: [search])
        shown = repr(methods.recipe(source, preset))
        assert said in shown if said else "chosen on validation" not in shown


def test_own_record_joins_the_others_once():
    own = Results([record("LoRA", 0.58, 10), record("BitFit", 0.5, 5)], [])
    labels = [r["run"]["label"] for r in report.union(made(), own)]
    assert labels == ["Full", "HeadOnly", "LoRA", "Houlsby", "BitFit"]


def test_figures_show_records():
    for shown in (methods.curve(made()), methods.compare(made(), "LoRA")):
        assert "<img" in shown._repr_html_() and "backbone minilm" in repr(shown)


def test_own_row_refuses_an_unknown_label():
    with pytest.raises(UsageError, match="no method 'Lora'.*LoRA"):
        methods.own_row("Lora")


def test_results_by_label_reach_rows_that_a_small_preset_leaves_out():
    assert [r.label for r in grids.runs("methods/compared", "smoke", ["GaLore"])] == ["GaLore"]
    with pytest.raises(UsageError, match="no row 'Nothing'"):
        grids.runs("methods/compared", "smoke", ["Nothing"])


# --- claims and searches ----------------------------------------------------------------------------------------------
def test_a_claim_is_about_the_methods_that_its_conditions_name():
    """Rows and what they are compared with, by the labels of the tables looked at; a group of several names none."""
    about = {label: concerning.claims(method) for label, method in METHOD_RUNS.items()}
    assert "P11" in about["LoRA"]["adaptbert"] and "P11" not in about["LoRA+Adapter"]["adaptbert"]
    assert {"A2", "A3"} <= set(about["Compacter"]["compacter"])  # Compacter (n=4), Compacter*
    assert "A3" in about["CompacterPlusPlus"]["compacter"] and "A3" in about["Full"]["compacter"]  # better than full
    assert "G1" in about["Compacter"]["compacter"] and "G1" not in about["BitFit"]["compacter"]  # than the best of several
    assert "adaptbert" not in about["AdapterDrop"]  # its rows are no Adapter[a=8]
    assert about["GaLore"] == {} and all("C4" not in found.get("compacter", ()) for found in about.values())  # repeats A4


def test_a_page_depends_on_all_that_it_reads():
    assert concerning.needed("GaLore()") == ["methods/rates"]
    lora = concerning.needed("LoRA()")
    assert {"adaptbert/table3", "adaptbert/learning_rates"} <= set(lora) and "compacter/table1" not in lora


def test_no_rate_is_said_only_where_none_can_be_told_from_the_commonest_label():
    def search(backbone: str, learned: bool, best: float, name: str = "compacter/table4") -> concerning.Search:
        return concerning.Search(name, "row", "stsb", backbone, (0.1, 0.3), best, 0.3, 0.0, learned)

    assert methods.untaught([search("minilm", True, 0.5), search("minilm", False, 0.1)]).text == ""
    said = methods.untaught([search("minilm", False, 0.05), search("minilm", False, 0.101)]).text
    assert "taught it STS-B on minilm. Of 2 rates from 0.1 to 0.3" in said and "0.3, reached 0.101" in said
    assert said.count("No learning rate") == 1
    assert "compacter/learning_rates.html" in methods.untaught([search("minilm", False, 0.1)]).content
    assert "survey/choosing.html" in methods.untaught([search("minilm", False, 0.1, "methods/rates")]).content


def test_prompts_learned_at_no_rate_of_the_published_search():
    """What a verdict rests on: the best of five rates is no better than always the same answer."""
    said = methods.untaught(concerning.searches("PromptTuning()", grids.get_preset("published"))).text
    assert "STS-B" in said and "the commonest answer has 0.000" in said
    assert methods.untaught(concerning.searches("Compacter()", grids.get_preset("published"))).text == ""


# --- the notebooks ----------------------------------------------------------------------------------------------------
def test_every_method_has_a_page_and_every_page_its_own_row():
    assert sorted(method_page.label_of(json.loads(page.read_text()), page.stem) for page in PAGES) == sorted(LABELS)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_code_is_the_templates(page):
    """``python -m peftlib.method_page`` writes it."""
    notebook = json.loads(page.read_text())
    assert method_page.refreshed(notebook, page.stem) == notebook
    nbformat.validate(notebook)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_pages_keep_one_order_and_no_outputs(page):
    cells = json.loads(page.read_text())["cells"]
    lines = [line.strip() for c in cells if c["cell_type"] == "markdown" for line in c["source"]]
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == [
        "## The equation",
        "## What was found",
        "## What it costs",
        "## Where it sits",
        "## Read and decided",
        "## The code",
        "## The counts",
        "## A training run",
        "## Where it shines, where it fails",
        "## How to use it",
        "## References",
    ]
    assert all(not c.get("outputs") for c in cells)
    assert not [line for line in lines if "<!--" in line]  # where the template asks for prose


def test_pages_keep_what_is_their_own():
    """Prose, and code with a tag, in its place; no other code."""
    notebook = json.loads(PAGES[0].read_text())
    ids = [cell["id"] for cell in notebook["cells"]]
    mine = {"cell_type": "code", "id": "mine", "metadata": {"tags": ["own"]}, "source": ["1 + 1"], "outputs": []}
    more = {"cell_type": "markdown", "id": "more", "metadata": {}, "source": ["More."]}
    at = ids.index("source")
    notebook["cells"][at + 1 : at + 1] = [mine, more]
    notebook["cells"][at]["source"] = ["methods.source(method)  # edited"]
    del notebook["cells"][ids.index("counted") + 2]
    again = method_page.refreshed(notebook, PAGES[0].stem)
    assert [cell["id"] for cell in again["cells"]] == [*ids[: at + 1], "mine", "more", *ids[at + 1 :]]
    assert again["cells"][at]["source"] == ["methods.source(method)"] and again["cells"][at + 1 : at + 3] == [mine, more]
    assert [c for c in again["cells"] if c["id"] == "equation"] == [c for c in notebook["cells"] if c["id"] == "equation"]


def test_every_methods_paper_is_in_the_bibliography():
    bibliography = (records.root() / "book" / "references.bib").read_text()
    missing = {name: cls.paper for name, cls in METHODS.items() if f"{{{cls.paper}," not in bibliography}
    assert not missing
