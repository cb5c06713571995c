"""An experiment of which a preset says that nothing could be decided: not trained, not read, and said so with the hours."""

from __future__ import annotations

import ast
import dataclasses
import json

import pandas as pd
import pytest
from tries.records import whole

from peftlib import cli, grids, hours, records, report, study
from peftlib.batch import forecast, plan
from peftlib.errors import UsageError
from peftlib.report import verdicts

WHY = "Eight test rows tell no two methods apart."
SENTENCE = f"not run: at this budget nothing could be decided. {WHY}"
TAKE = "The 6 runs that would decide it take"


def with_changes(name: str, **changes) -> grids.Preset:
    preset = grids.get_preset("smoke")
    return dataclasses.replace(preset, changes=preset.changes | {name: preset.changes.get(name, {}) | changes})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project with two experiments of the same two methods; one is not trained: it would take three seeds."""
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    preset = dataclasses.replace(with_changes("paper/table", undecidable=WHY, seeds=[0, 1, 2]), epochs=2)

    def table(preset: grids.Preset) -> list[records.Run]:
        return [grids.make_run(preset, method, ("sst2",), label=method) for method in ("BitFit()", "HeadOnly()")]

    monkeypatch.setattr(grids, "presets", lambda: {"smoke": preset})
    monkeypatch.setattr(grids, "EXPERIMENTS", {"paper/table": table, "paper/other": table})
    for module in (grids, plan, forecast):
        monkeypatch.setattr(module, "experiments", lambda: grids.EXPERIMENTS)
    monkeypatch.setattr(hours, "device", lambda: "a CPU")
    monkeypatch.setattr(hours, "reference", lambda: grids.runs("paper/other", "smoke")[0])
    return tmp_path


def record(run: records.Run) -> None:
    """An hour."""
    made = whole(run) | {"seconds": 3600.0, "examples_per_second": 10.0}
    made |= {"started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T01:00:00Z"}
    made["data"] = {split: {"sst2": "0" * 64} for split in ("train", "validation", "test")}
    scores = {"sst2": 0.5, "mean": 0.5}
    made |= {"validation": scores, "test": scores}
    made["history"] = [entry | {"examples": 36_000, "validation": scores} for entry in made["history"]]
    records.write(records.path_of("smoke", run.digest), made)


def test_it_is_planned_by_nobody_and_its_runs_are_those_that_would_decide(place):
    assert len(grids.runs("paper/table", "smoke")) == 6, "what would"
    assert {job.experiment for job in plan.jobs("smoke")} == {"paper/other"}
    assert plan.own_runs("paper/table", "smoke") == [] and len(plan.own_runs("paper/other", "smoke")) == 2
    missing = {row["experiment"]: row["missing"] for row in plan.status("smoke")}
    assert missing == {"paper/table": 0, "paper/other": 2}


def test_asked_for_it_nothing_is_trained_and_no_record_is_read(place):
    for run in grids.runs("paper/table", "smoke"):
        record(run)
    found = study.results("paper/table", "smoke", progress=False)
    assert (list(found), len(found.wanted), found.undecidable) == ([], 6, WHY)
    assert found.only(lambda run: run.seed == 0).undecidable == WHY
    assert report.union(found, found).undecidable == WHY


def test_in_place_of_its_numbers_stands_the_sentence(place):
    found = study.results("paper/table", "smoke", train=False)
    shown = report.table(pd.DataFrame({"score": [None]}), caption="c", source=found)
    times = "on 2 AMX cores not measured; on one H100 not measured; on one H200 not measured"
    assert repr(shown) == f"{SENTENCE} {TAKE}: {times}."
    assert "<td" not in shown._repr_html_() and f"<em>{SENTENCE.partition('.')[0]}.</em>" in shown._repr_html_()


def test_with_the_hours_that_would_decide(place):
    """An hour a run; a machine that trains 2 x 30 examples a second where a run here trains 10, six times as fast."""
    for run in grids.runs("paper/other", "smoke"):
        record(run)
    one = {"name": "2 AMX cores", "parallel": 2, "examples_per_second": 30.0, "device": "x", "date": "d", "commit": None}
    hours.machines_file().parent.mkdir(parents=True)
    hours.machines_file().write_text(json.dumps([one]))
    found = study.results("paper/table", "smoke", train=False)
    shown = report.figure(None, caption="c", source=found)
    assert repr(shown) == f"{SENTENCE} {TAKE}: on 2 AMX cores 60 min; on one H100 not measured; on one H200 not measured."


def test_the_forecast_lists_it_apart(place, capsys):
    found = forecast.forecast("smoke")
    assert [row["experiment"] for row in found["experiments"]] == ["paper/other"] and found["total"]["missing"] == 2
    (left,) = found["undecidable"]
    assert (left["experiment"], left["missing"], left["seeds"], left["why"]) == ("paper/table", 6, 3, WHY)
    assert cli.main(["plan", "--preset", "smoke"]) == 0
    assert "Not run: at this budget nothing could be decided. What would:" in capsys.readouterr().out
    assert cli.main(["run", "paper/table", "--preset", "smoke"]) == 0
    assert SENTENCE in capsys.readouterr().out


def test_claims_that_rest_on_it_are_not_run():
    claims = verdicts.of("compacter")
    name = "compacter/table2"
    on_it = [claim for claim in claims.decided() if claims.tables(claim) == [name]]
    source = study.results(name, with_changes(name, undecidable=WHY), train=False)
    assert on_it and {one.verdict.outcome for one in claims.judged({name: source}, on_it)} == {"not run"}


def test_its_page_says_so_in_place_of_every_number(monkeypatch):
    name, there = "compacter/table2", grids.presets()
    changed = there | {"smoke": with_changes(name, undecidable=WHY)}
    monkeypatch.setattr(grids, "presets", lambda: changed)
    path = records.root() / "notebooks" / "compacter" / "table2.ipynb"
    shown, known = [], {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            body = ast.parse("".join(cell["source"])).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), "cell", "exec"), known)
            if last is not None:
                shown.append(repr(eval(compile(ast.Expression(last.value), "cell", "eval"), known)))
    ours = [text for text in shown if SENTENCE in text]
    assert len(ours) == 3, "two tables and a figure"
    assert not any("runs are missing" in text for text in shown)


def test_the_field_is_text():
    with pytest.raises(UsageError, match="undecidable: expected a text"):
        with_changes("paper/table", undecidable=3).at("paper/table")
