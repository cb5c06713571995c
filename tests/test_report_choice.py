"""Methods as points: intervals, the front, the picture, and the first page, from synthetic records."""

from __future__ import annotations

import dataclasses
import re

import pytest
from test_report import synthetic

from peftlib import catalogue, grids, papers
from peftlib.accounting import counted
from peftlib.papers.survey import taxonomy
from peftlib.report import chart, choice, declared, home, verdicts
from peftlib.report.claims import Claim
from peftlib.study import Results


def compared():
    return grids.runs("methods/compared", grids.get_preset("published"))


def source(**reached: float) -> Results:
    """Records of experiment "methods/compared" under the preset published, by label: a test score. The first one stores a
    thousand numbers, the next one two thousand, and so on."""
    every = {run.label: run for run in compared() if run.tasks == ("sst",) and run.seed == 0}
    runs = [every[label] for label in reached]
    return Results([synthetic(run, reached[run.label], 1000 * (i + 1)) for i, run in enumerate(runs)], runs)


def test_an_interval_is_wider_than_the_test_rows_alone_would_have_it():
    one = choice.points(source(LoRA=0.5))[0].score
    rows = compared()[0].limits[2]
    assert one.mean == 0.5 and one.low < 0.5 < one.high
    assert one.high - one.low > 2 * 1.96 * (0.25 / rows) ** 0.5, "another seed matters, too"


def test_what_lies_within_chance_of_the_best_is_level_with_it():
    there = choice.points(source(LoRA=0.50, BitFit=0.49, Houlsby=0.30))
    assert [point.label for point in there] == ["LoRA", "BitFit", "Houlsby"]
    assert [point.label for point in choice.level_with_best(there)] == ["LoRA", "BitFit"]


def test_home_says_why_it_names_no_method():
    assert "has not been run" in home.which([]).text
    assert "fewer than two" in home.which(source(LoRA=0.5)).text
    assert "commonest label" in home.which(source(LoRA=0.2, BitFit=0.21)).text


def test_the_front_is_what_no_other_beats():
    points = choice.points(source(LoRA=0.5, AdaptBertAdapter=0.4, Houlsby=0.6))
    assert [point.label for point in choice.front(points)] == ["Houlsby", "LoRA"]


def test_a_higher_score_within_chance_keeps_nobody_on_the_front():
    points = choice.points(source(LoRA=0.5, AdaptBertAdapter=0.505, Houlsby=0.51))
    cheap = {point.label: dataclasses.replace(point, memory=None, time=None) for point in points}
    assert [point.label for point in choice.front(list(cheap.values()))] == ["LoRA"], "of a thousand numbers"


def test_what_was_not_learned_is_marked_in_the_table_and_in_the_picture(monkeypatch):
    records = source(LoRA=0.5, BitFit=0.4)
    monkeypatch.setattr(
        choice.learned, "marks", lambda found, task: tuple("did not learn" for r in found if r["test"][task] < 0.45)
    )
    points = choice.points(records)
    assert [point.lost for point in points] == [{}, {"sst": ("did not learn",)}]
    html = str(chart.chart(points, task="accuracy", baseline=0.3, caption="c", source=records).content)
    assert html.count("✕ did not learn: SST") >= 2 and html.count(">BitFit ✕<") == 2 and ">LoRA ✕<" not in html
    assert re.search(r"0\.400 \[.*\] ✕ did not learn", taxonomy.choices(records).text)


def test_a_cost_is_that_of_the_configuration_or_else_of_the_method():
    hundred, twenty = choice.cost("PromptTuning(length=100)"), choice.cost("PromptTuning(length=20)")
    assert hundred["time"] > twenty["time"] > 0
    assert choice.cost("PromptTuning(length=33)") == hundred
    assert choice.cost("LoRA(rank=8) + BitFit()") == {}
    full = choice.cost("Full()")
    assert full["time"] == full["memory"] == full.get("speed_32", 1.0) == 1.0


def test_the_picture_has_every_method_once_in_each_size_and_a_page_behind_it():
    records = source(LoRA=0.5, BitFit=0.49, HeadOnly=0.4, Full=0.5)
    shown = chart.chart(choice.points(records), task="accuracy", baseline=0.3, caption="c", source=records)
    html = str(shown.content)
    for page in ("lora", "bitfit", "head_only", "full"):
        assert html.count(f'href="../methods/{page}.html"') == 2, page
    assert html.count('type="radio"') == 3 and html.count(" checked") == 1
    assert len(re.findall(r"<title>LoRA: 0\.500 \(95 % interval", html)) == 2
    assert "<script" not in html and "http" not in html


def test_names_in_the_picture_do_not_touch():
    everything = source(**dict.fromkeys((run.label for run in compared()), 0.5))
    points = choice.points(everything)
    for frame in (chart.WIDE, chart.NARROW):
        for axis in chart.AXES:
            x = chart._scale(axis, points, frame)
            places = chart._labels(frame, axis, x, points, choice.front(points), lambda _: 150.0)
            boxes = []
            for point in points:
                if point.label in places:
                    dx, dy, anchor = places[point.label]
                    wide = 0.56 * frame.letters * len(point.name)
                    left = x(axis.value(point)) + dx - {"start": 0, "end": wide, "middle": wide / 2}[anchor]
                    boxes.append((left, 150 + dy - frame.letters, left + wide, 150 + dy))
            for i, one in enumerate(boxes):
                for other in boxes[:i]:
                    assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] - 2 or other[1] >= one[3] - 2


@pytest.mark.parametrize("number, said", [(0, "0"), (950, "950"), (24_672, "24.7k"), (1_597_440, "1.6M"), (11e9, "11G")])
def test_sizes_are_short(number, said):
    assert chart.size(number) == said


def test_headlines_are_claims_of_their_paper():
    for paper in home.judged():
        known = set(verdicts.ledger(paper, {}, list(papers.about(paper).headlines))["id"])
        assert known == set(papers.about(paper).headlines) and len(known) >= home.MOST, "some of them may be undecided"
        assert not any(verdicts.of(paper).claims[name].repeats for name in known)


def test_without_records_home_says_so_and_names_the_papers_to_come():
    shown = home.front({paper: {} for paper in home.judged()}, [])
    assert "Nothing to show yet" in shown.text
    waiting = [paper for paper in papers.papers() if paper not in home.judged()]
    assert all(declared.called(paper) in home.coming() for paper in waiting)
    assert str(shown.content).count('class="found"') == len(home.judged())
    told = str(shown.content).count('<b class="verdict ')
    assert len(home.judged()) <= told <= max(home.FINDINGS, home.LEAST * len(home.judged())), "one screen holds no more"


def judged(name: str, outcome: str, repeats: str = "") -> verdicts.Judged:
    claim = Claim(id=name, section="1", says=f"It is {name}.", repeats=repeats)
    return verdicts.Judged(claim, verdicts.Verdict(outcome, "average: A 1"), "", ())


def test_home_tells_headlines_that_are_decided_then_what_else_is():
    ledger = [
        judged("A1", "undecided"),
        judged("A2", "reproduced", repeats="B1"),
        judged("B1", "contradicted"),
        judged("B2", "not run"),
        judged("C1", "reproduced"),
        judged("C2", "reproduced"),
    ]
    told = [one.claim.id for one in home.matters(ledger, ["B2", "A1", "C2"])]
    assert told == ["C2", "B1", "C1", "B2", "A1"]


def test_the_numbers_of_a_finding_are_whole():
    same = "; ".join(f"over {name}'s: X {i} (printed 3, margin 1; counted)" for i, name in enumerate("ABC"))
    assert home.numbers(verdicts.Verdict("contradicted", same)) == (
        "over A's: X 0; over B's: X 1; over C's: X 2 (each: printed 3, margin 1; counted)",
        0,
    )
    said, more = home.numbers(verdicts.Verdict("reproduced", "; ".join(f"{name}: {'9' * 60}" for name in "ABCD")))
    assert said == f"A: {'9' * 60}; B: {'9' * 60}" and more == 2
    one = f"average: {'9' * 400}"
    assert home.numbers(verdicts.Verdict("reproduced", one)) == (one, 0), "a comparison is never cut"
    assert (
        home.numbers(verdicts.Verdict("reproduced", "trained: A 1 (a); trained: B 2 (b)"))[0] == "trained: A 1 (a), B 2 (b)"
    )


def test_what_stands_at_the_left_edge_is_said():
    there = choice.points(source(HeadOnly=0.4, LoRA=0.5, BitFit=0.49, Full=0.5))
    stored = {point.name: point.stored for point in there}
    said = chart.at_the_edge(there)
    assert [name in said for name in stored] == [number < 3000 for number in stored.values()]
    assert chart.at_the_edge([point for point in there if point.stored >= 3000]) == ""


def test_home_says_who_is_level_or_that_nobody_can_be_told_apart():
    told = home.which(source(LoRA=0.5, BitFit=0.49, Houlsby=0.1)).text
    assert "2 of 3 methods are level with the highest score here, LoRA's 0.500" in told
    told = home.which(source(LoRA=0.5, BitFit=0.49, Houlsby=0.48)).text
    assert "None of the 3 methods can be told from the highest score here, LoRA's 0.500" in told
    assert "the lowest, Houlsby's, is 0.020 below" in told and "stores least" not in told


def test_what_a_task_stores_counts_what_tasks_share_once():
    one, hundred = (choice.stored_a_task("AdaptBertHypernet(bottleneck=8)", "minilm", tasks) for tasks in (1, 100))
    step = counted.count("AdaptBertHypernet(bottleneck=8)", "minilm", 2).stored - one
    assert hundred == round((one + 99 * step) / 100) and step < hundred < one / 50
    assert choice.stored_a_task("LoRA(rank=8)", "minilm", 100) == choice.stored_a_task("LoRA(rank=8)", "minilm", 1)
    both = "LoRA(rank=8) + PerTask(Houlsby(bottleneck=8))"
    alone = choice.stored_a_task("Houlsby(bottleneck=8)", "minilm", 1)
    assert alone < choice.stored_a_task(both, "minilm", 100) < choice.stored_a_task(both, "minilm", 1)
    assert choice.stored_a_task("LoRA(rank=8)", "minilm", 1, one=7) == 7, "what a run has kept goes before the count"


def test_a_method_without_a_place_stores_nothing_that_could_be_said():
    assert choice.stored_a_task("BitFit()", "t5-base", 1) > 0, "it brings biases along"
    assert choice.stored_a_task("LoRA(rank=8)", "no such backbone", 10, one=5) is None


def test_a_difference_that_could_not_be_seen_is_told_with_the_correction_that_decides():
    """No method that lies further below the highest than this, as uncertain as the others, is called level with it."""
    reached = {"LoRA": 0.6} | dict.fromkeys(("BitFit", "Houlsby", "Full", "PHMAdapter", "GaLore"), 0.5)
    there = choice.points(source(**reached))
    assert choice.visible(there) > choice.visible(there[:2]), "more comparisons, more to be shown"
    least = choice.visible(there)
    for gap, level in ((1.15 * least, 1), (0.85 * least, 6)):
        found = choice.points(source(**{name: 0.6 if name == "LoRA" else 0.6 - gap for name in reached}))
        assert len(choice.level_with_best(found)) == level


# Names of configurations that AdapterHub's library exports: github.com/adapter-hub/adapters, src/adapters/__init__.py of
# 1.2.0 (commit 0274b63bf9b6); the notes of 1.3.0 (github.com/adapter-hub/adapters/releases) add DoRA and take none away.
# `leave_out`, blocks that get no adapter, is a field of BnConfig (src/adapters/configuration/adapter_config.py).
ADAPTERS = set(
    """AdapterFusionConfig AdapterPlusConfig BnConfig CompacterConfig CompacterPlusPlusConfig ConfigUnion DiReftConfig
    DoubleSeqBnConfig DoubleSeqBnInvConfig DynamicAdapterFusionConfig IA3Config LoRAConfig LoReftConfig MAMConfig
    MTLLoRAConfig MultiTaskConfig NoReftConfig ParBnConfig PrefixTuningConfig PromptTuningConfig ReftConfig SeqBnConfig
    SeqBnInvConfig StaticAdapterFusionConfig UniPELTConfig VeraConfig leave_out""".split()
)


def test_what_adapters_calls_a_method_is_in_adapters():
    there = {name: entry.about.adapters for name, entry in catalogue.methods().items() if entry.about.adapters}
    assert there.keys() == {
        *("AdapterDrop", "Compacter", "CompacterPlusPlus", "Houlsby", "IA3", "LoRA", "MAM", "ParallelAdapter"),
        *("PfeifferFFN", "PrefixTuning", "PromptTuning", "UniPELT"),
    }
    assert set(there.values()) <= ADAPTERS
    assert len(set(there.values())) == len(there), "two methods are not one there"


def test_what_peft_calls_a_method_is_in_peft():
    peft = pytest.importorskip("peft")
    there = {name: entry.about.peft for name, entry in catalogue.methods().items() if entry.about.peft}
    assert there.keys() == {
        *("AdaLoRA", "DoRA", "GLoRA", "IA3", "KronA", "LayerNormTuning", "LoRA", "PrefixTuning", "PromptTuning")
    }
    assert all(hasattr(peft, name) for name in there.values())
