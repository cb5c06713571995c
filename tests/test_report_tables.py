"""What a table shows beside its cells: where its numbers end, where its methods lead, which backbone ran."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_report import synthetic

from peftlib import expressions, grids, report
from peftlib.comparison import METHOD_RUNS
from peftlib.report import pages, tables

ROOT = Path(__file__).resolve().parents[1]


def test_every_method_of_the_comparison_has_a_page():
    compared = {" + ".join(expressions.names(method)) for method in METHOD_RUNS.values()}
    apart = {"PfeifferFFN + LoRA + PrefixTuning + BitFit": "survey/s4", "CrossAttentionTuning": "survey/crossattention"}
    found = pages.pages()
    assert apart.items() <= found.items() and found.keys() - apart.keys() == compared
    notebooks = {f"methods/{path.stem}" for path in (ROOT / "notebooks/methods").glob("*.ipynb")}
    assert set(found.values()) == notebooks | set(apart.values()) and len(found) == len(set(found.values()))


def test_pages_are_those_of_the_project_that_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    assert pages.pages() == {}
    monkeypatch.setenv("PEFTLIB_ROOT", str(ROOT))
    assert pages.page_of("LoRA()") == "../methods/lora.html"


def test_a_label_means_the_same_methods_in_every_experiment():
    preset, meant = grids.get_preset("published"), {}
    for name in grids.experiments():
        for run in grids.runs(name, preset):
            if run.label in pages.rows():
                methods = [part for part in expressions.names(run.method) if part not in pages.BESIDE]
                assert meant.setdefault(run.label, methods) == methods, (name, run.label)


@pytest.mark.parametrize(
    "word, page",
    [
        ("LoRA(rank=16)", "lora"),
        ("LoRA + PerTask(AdaptBertAdapter)", "lora_adapter"),
        ("Compacter++ (n=4)", "compacter_plusplus"),
        ("Adapter[a=64]", "adaptbert_adapter"),
        ("Adapter", "houlsby"),
        ("always the commonest label", None),
        ("lr x 0.1", None),
        ("", None),
        ("LoRA + Houlsby", None),
        ("LoRA(rank=4) + LoRA(rank=2)", "lora"),
        ("HeadOnly(shared=True) + PfeifferFFN", "pfeiffer_ffn"),
        ("LoRA(rank=4) + LayerNormTuning()", "lora"),
        ("LayerNormTuning()", "layernorm"),
        ("Prompt Tuning", "prompt"),
        ("(IA)3", "ia3"),
        ("full fine-tuning", "full"),
        ("Adapters", None),
        ("S4-model", None),
    ],
)
def test_a_word_that_names_a_method_leads_to_its_page(word, page):
    assert pages.links([word]) == ({} if page is None else {word: f"../methods/{page}.html"})


def test_the_label_of_a_run_leads_to_what_it_ran():
    run = grids.make_run(grids.get_preset("smoke"), "BitFit()", ("sst",), label="Adapter")
    assert pages.links(["Adapter"], [synthetic(run, 0.5)]) == {"Adapter": "../methods/bitfit.html"}


def test_a_table_says_itself_what_its_rows_are_and_a_sum_leads_to_its_terms():
    df = pd.DataFrame({"method": ["Adapters", "T5"], "methods": ["LoRA() + BitFit()", "LoRA() + no method"]})
    shown = html(df, rows={"Adapters": "TaskAdapters()", "T5": "Full()"})
    assert '<a href="../methods/taskadapters.html">Adapters</a>' in shown
    assert '<a href="../methods/full.html">T5</a>' in shown
    assert '<td><a href="../methods/lora.html">LoRA()</a> + <a href="../methods/bitfit.html">BitFit()</a></td>' in shown
    assert "<td>LoRA() + no method</td>" in shown


def test_sentences_lead_to_the_methods_that_they_mention_once():
    text = "average less T5-Base's 74: Compacter (n=4) -6 <b>, Compacter++ (n=4) -13, Adapter-LowRank, Compacter (n=12)"
    found = re.findall(r'methods/(\w+)\.html">([^<]+)<', str(pages.told(text, "compacter")))
    assert found == [
        ("compacter", "Compacter (n=4)"),
        ("compacter_plusplus", "Compacter++ (n=4)"),
        ("adapter_lowrank", "Adapter-LowRank"),
    ]
    assert "&lt;b&gt;" in pages.told(text, "compacter") and pages.told(text, "compacter").striptags() == text.replace(
        "<b>", "<b>"
    )
    assert '<a href="../methods/lora_adapter.html">LoRA+Adapter</a>' in pages.told("LoRA+Adapter is best.", "adaptbert")
    shown = html(pd.DataFrame({"id": ["A1"], "why": ["Compacter (n=4) trains less"]}), prose="compacter")
    assert (
        '<td class="brief">A1</td>' in shown and '<a href="../methods/compacter.html">Compacter (n=4)</a> trains' in shown
    )


def test_long_lines_of_words_may_use_the_margin():
    words = pd.DataFrame({"claim": ["w" * 70], "before": ["w" * 70], "after": ["short"]})
    assert 'class="table-scroll full-width words"' in html(words)
    assert 'class="table-scroll"' in html(words[["claim", "after"]])
    assert 'class="table-scroll full-width"' in html(pd.DataFrame({f"c{i}": ["1"] for i in range(9)}))


def html(df: pd.DataFrame, **more) -> str:
    return str(report.table(df, caption="c", **more)._repr_html_())


def test_numbers_end_at_the_right_and_words_do_not():
    df = pd.DataFrame({"word": ["a", "b"], "score": ["0.5 ± 0.1", None], "percent": ["17%", "2.5%"], "mixed": ["1", "no"]})
    shown = html(df)
    assert re.findall(r'<th scope="col"([^>]*)>', shown) == [
        ' class="short"',
        ' class="short number"',
        ' class="short number"',
        ' class="short"',
    ]
    assert '<td data-sort="" class="missing number">not run</td>' in shown


@pytest.mark.parametrize(
    "text",
    [
        "0.676 ± 0.004",
        "0.676 [0.651, 0.701]",
        "+0.01 [-0.02, +0.04]",
        "1,234",
        "-0.5",
        "−0.5",
        "8.0×1",
        "+0.00",
        "2 min",
        "3e-05",
        "100%",
        "1.5 GiB",
    ],
)
def test_what_a_number_is(text):
    assert tables.NUMBER.match(text)


@pytest.mark.parametrize("text", ["5.2 Results", "Table 1", "2L(2ka)", "a", "1 or 2", "3 tasks", ""])
def test_what_a_number_is_not(text):
    assert not tables.NUMBER.match(text)


def test_the_average_comes_second():
    assert re.findall(
        r"<th[^>]*>(\w+)", html(pd.DataFrame({"method": ["x"], "cola": [1.0], "average": [2.0], "n": [1]}))
    ) == ["method", "average", "cola", "n"]


def test_a_row_named_after_a_backbone_says_which_one_ran():
    run = grids.make_run(grids.get_preset("smoke"), "Full()", ("sst",), label="T5-Base")
    df = pd.DataFrame({"method": ["T5-Base"], "score": [0.5]})
    assert f">T5-Base (here {run.backbone})</a>" in html(df, source=[synthetic(run, 0.5)])
    assert ">T5-Base</a>" in html(df)


def test_the_first_code_of_every_notebook_after_its_parameters_is_what_its_page_rests_on():
    """`book/_ext/reading.py` moves it to the page's end by that rule."""
    for notebook in sorted((ROOT / "notebooks").glob("*/*.ipynb")):
        code = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
        tagged = [i for i, cell in enumerate(code) if "parameters" in cell["metadata"].get("tags", [])]
        assert tagged == [0], notebook
        calls = [
            ast.unparse(node.func) for node in ast.walk(ast.parse("".join(code[1]["source"]))) if isinstance(node, ast.Call)
        ]
        assert "report.begin" in calls, notebook


@pytest.mark.parametrize("folder", ["adaptbert", "compacter"])
def test_a_page_says_what_the_experiment_that_it_shows_rests_on(folder):
    for notebook in sorted((ROOT / "notebooks" / folder).glob("*.ipynb")):
        found = json.loads(notebook.read_text())
        shown = found["metadata"]["peftlib"]["experiments"]
        source = "".join(next(c for c in found["cells"] if "report.begin" in "".join(c["source"]))["source"])
        calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        (begin,) = [call for call in calls if ast.unparse(call.func) == "report.begin"]
        named = {keyword.arg: keyword.value for keyword in begin.keywords}.get("experiment")
        if not shown:
            assert named is None, notebook
        elif isinstance(named, ast.Name):  # of a page about several
            lists = {
                ast.unparse(node.targets[0]): node.value for node in ast.parse(source).body if isinstance(node, ast.Assign)
            }
            assert ast.literal_eval(lists[named.id]) == shown, notebook
        else:
            assert ast.literal_eval(named) == shown[0], notebook


def test_a_page_is_cited_as_citation_cff_says(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book/_ext"))
    import reading

    said = reading.citation(ROOT, "notebooks/methods/lora", "LoRA & <b>")
    assert "The peftlib authors" in said and "“LoRA &amp; &lt;b&gt;”" in said and "@misc{peftlib2026lora," in said
    with pytest.raises(reading.ExtensionError, match="CITATION.cff"):
        reading.citation(ROOT / "tests", "a", "b")
    sys.modules.pop("reading")


def test_every_work_cited_can_be_followed_and_told_from_the_others():
    entries = re.findall(r"@\w+\{(\w+),\n(.*?)\n\}", (ROOT / "book/references.bib").read_text(), re.DOTALL)
    fields = {key: dict(re.findall(r"^  (\w+) = \{(.*)\},$", body, re.MULTILINE)) for key, body in entries}
    assert {key for key, found in fields.items() if not {"doi", "eprint", "url"} & set(found)} == {"adaptbert"}
    called = [(found["author"].split(" and ")[0], " and " in found["author"], found["year"]) for found in fields.values()]
    assert len(set(called)) == len(called), "two works are cited alike"
