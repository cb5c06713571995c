"""Methods as points: intervals, the front, the picture, and the first page, from synthetic records."""

from __future__ import annotations

import re

import pytest
from test_report import synthetic

from peftlib import catalogue, grids, papers
from peftlib.report import chart, choice, home, verdicts
from peftlib.study import Results


def source(**reached: float) -> Results:
    """Records of experiment "methods/sst" under the preset published, by label: a test score. The first one stores a
    thousand numbers, the next one two thousand, and so on."""
    every = {run.label: run for run in grids.runs("methods/sst", grids.get_preset("published"))}
    runs = [every[label] for label in reached]
    return Results([synthetic(run, reached[run.label], 1000 * (i + 1)) for i, run in enumerate(runs)], runs)


def test_an_interval_is_wider_than_the_test_rows_alone_would_have_it():
    one = choice.points(source(LoRA=0.5), "sst")[0].score
    rows = grids.runs("methods/sst", grids.get_preset("published"))[0].limits[2]
    assert one.mean == 0.5 and one.low < 0.5 < one.high
    assert one.high - one.low > 2 * 1.96 * (0.25 / rows) ** 0.5, "another seed matters, too"


def test_what_lies_within_chance_of_the_best_is_level_with_it():
    there = choice.points(source(LoRA=0.50, BitFit=0.49, Houlsby=0.30), "sst")
    assert [point.label for point in there] == ["LoRA", "BitFit", "Houlsby"]
    assert [point.label for point in choice.level_with_best(there)] == ["LoRA", "BitFit"]


def test_the_front_is_what_no_other_beats():
    points = choice.points(source(LoRA=0.5, AdaptBertAdapter=0.4, Houlsby=0.6), "sst")
    assert [point.label for point in choice.front(points)] == ["Houlsby", "LoRA"]


def test_a_cost_is_that_of_the_configuration_or_else_of_the_method():
    hundred, twenty = choice.cost("PromptTuning(length=100)"), choice.cost("PromptTuning(length=20)")
    assert hundred["time"] > twenty["time"] > 0
    assert choice.cost("PromptTuning(length=33)") == hundred
    assert choice.cost("LoRA(rank=8) + BitFit()") == {}
    assert choice.cost("Full()") == {"time": 1.0, "memory": 1.0}


def test_the_picture_has_every_method_once_in_each_size_and_a_page_behind_it():
    records = source(LoRA=0.5, BitFit=0.49, HeadOnly=0.4, Full=0.5)
    shown = chart.chart(choice.points(records, "sst"), task="accuracy", baseline=0.3, caption="c", source=records)
    html = str(shown.content)
    for page in ("lora", "bitfit", "head_only", "full"):
        assert html.count(f'href="../methods/{page}.html"') == 2, page
    assert html.count('type="radio"') == 3 and html.count(" checked") == 1
    assert len(re.findall(r"<title>LoRA: 0\.500 \(95 % interval", html)) == 2
    assert "<script" not in html and "http" not in html


def test_names_in_the_picture_do_not_touch():
    everything = source(
        **dict.fromkeys((run.label for run in grids.runs("methods/sst", grids.get_preset("published"))), 0.5)
    )
    points = choice.points(everything, "sst")
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
        assert known == set(papers.about(paper).headlines) and 2 <= len(known) <= 3
        assert not any(verdicts.of(paper).claims[name].repeats for name in known)


def test_without_records_home_says_so_and_names_the_papers_to_come():
    shown = home.front({paper: {} for paper in home.judged()}, [])
    assert "Nothing to show yet" in shown.text
    waiting = [paper for paper in papers.papers() if paper not in home.judged()]
    assert all(home.title(paper) in home.coming() for paper in waiting)
    assert str(shown.content).count('class="found"') == len(home.judged())


def test_what_peft_calls_a_method_is_in_peft():
    peft = pytest.importorskip("peft")
    there = [entry.about.peft for entry in catalogue.methods().values() if entry.about.peft]
    assert len(there) >= 5 and all(hasattr(peft, name) for name in there)
