"""Runs that begin from others: what they are given, in which order they are trained, when they do not stand any more."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tiny import after_training, backbone, build, outputs

from peftlib import cli, deltas, grids, records, study
from peftlib.batch import forecast, front, plan
from peftlib.data.tasks import get_task
from peftlib.errors import UsageError
from peftlib.model import Tuned
from peftlib.records import Recipe, Run
from peftlib.training import loop
from peftlib.training.loop import Trainer, digest_of

GIVEN = {"lr": 1e-3, "epochs": 1, "batch_size": 16, "max_length": 32, "precision": "fp32"}


def run(method="LoRA(rank=2)", tasks=("sst",), start=(), start_task="", **recipe) -> Run:
    told = Recipe(**GIVEN | recipe)
    return Run(method, tasks, "minilm[:1]", "embedded", told, 0, (32, 16, 16), method, start, start_task)


# --- digests ----------------------------------------------------------------------------------------------------------
def test_published_records_keep_their_digests():
    found = sorted((Path(__file__).resolve().parents[1] / "data/runs/published").glob("*.json"))
    for path in found:
        known = records.run_of(json.loads(path.read_text()))
        assert path.stem in (known.digest, known.digest_as_spelt)
    assert len(found) > 800


@pytest.mark.parametrize(
    "later", [{"start": (run(),)}, {"start": (run(),), "start_task": "sst"}, {"form": "text"}, {"epoch_steps": 5}]
)
def test_a_later_field_is_part_of_the_digest_unless_it_is_at_its_default(later):
    base, fields = (
        run(tasks=("sts",)),
        {f.name: f for f in dataclasses.fields(Run)} | {f.name: f for f in dataclasses.fields(Recipe)},
    )
    assert all(records.LATER in fields[name].metadata for name in later)
    of_recipe = {n: v for n, v in later.items() if n in {f.name for f in dataclasses.fields(Recipe)}}
    recipe = dataclasses.replace(base.recipe, **of_recipe)
    other = dataclasses.replace(base, recipe=recipe, **{n: v for n, v in later.items() if n not in of_recipe})
    assert other.digest != base.digest
    defaults = {n: fields[n].default for n in of_recipe}
    back = dataclasses.replace(other, start=(), start_task="", recipe=dataclasses.replace(recipe, **defaults))
    assert back.digest == base.digest


def test_a_run_is_another_with_every_start_and_order_of_starts():
    parents = [run(), run(lr=2e-3), run(start=(run(),))]
    children = [run(start=s) for s in [(), *((p,) for p in parents), tuple(parents), tuple(parents[::-1])]]
    assert len({child.digest for child in children}) == len(children)
    assert run(start=(dataclasses.replace(run(), label="another name"),)).digest == children[1].digest
    assert records.run_of({"run": json.loads(json.dumps(dataclasses.asdict(children[-1])))}).digest == children[-1].digest


def test_parents_come_first_and_once_and_have_the_seed_of_the_child():
    first = run()
    second, third = run(start=(first,)), run(tasks=("sts",), start=(first,))
    last = run(tasks=("quora",), start=(second, third))
    assert [one.digest for one in records.with_parents([last, first])] == [r.digest for r in (first, second, third, last)]
    assert [one.generation for one in (first, second, third, last)] == [0, 1, 1, 2]
    assert {one.seed for one in records.with_parents([last.with_seed(3)])} == {3}


# --- what a method is given -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["bert", "t5"])
@pytest.mark.parametrize(
    "expression",
    [
        "LoRA(rank=4)",
        "PerTask(LoRA(rank=4))",
        "Full()",
        "HeadOnly()",
        "BitFit() + PromptTuning(length=3)",
        "Compacter(n=2, bottleneck=4)",
    ],
)
def test_one_that_goes_on_says_what_its_parent_said(expression, kind, tmp_path):
    parent = after_training(expression, kind)
    deltas.save(parent, tmp_path / "delta.safetensors")
    child = build(expression, kind, seed=1)
    assert any(not torch.equal(t, outputs(parent, kind)[task]) for task, t in outputs(child, kind).items())
    child.begin([deltas.for_start(tmp_path / "delta.safetensors", child)])
    for task, said in outputs(child, kind).items():
        assert torch.equal(said, outputs(parent, kind)[task])
    assert digest_of(child.delta()) == digest_of(parent.delta())


def tuned(method: str, *tasks: str) -> Tuned:
    torch.manual_seed(1)
    return Tuned(backbone("bert"), method, map(get_task, tasks), dropout=0.0)


def test_what_is_a_tasks_own_goes_to_the_task_that_is_named(tmp_path):
    parent = tuned("PerTask(LoRA(rank=4))", "cfimdb", "quora", "mnli")
    for p in parent.parameters():
        torch.nn.init.normal_(p)
    deltas.save(parent, tmp_path / "delta.safetensors")
    wanted = parent.delta()
    # Only a head of two classes fits a task of two: of one output for a score, and of three, there are none to copy.
    for ours, theirs, fits in [("rte", "cfimdb", True), ("rte", "mnli", False), ("stsb", "quora", False)]:
        child = tuned("PerTask(LoRA(rank=4))", ours)
        before = child.delta()["heads." + ours + ".weight"].clone()
        child.begin([deltas.for_start(tmp_path / "delta.safetensors", child, theirs)])
        for name, tensor in child.delta().items():
            assert "heads" in name and not fits or torch.equal(tensor, wanted[name.replace(ours, theirs)])
        assert torch.equal(before, child.delta()["heads." + ours + ".weight"]) != fits
    alone = deltas.for_start(tmp_path / "delta.safetensors", tuned("PerTask(LoRA(rank=4))", "quora"))
    assert alone and all("quora" in name for name in alone)  # what belongs to another task stays behind
    with pytest.raises(UsageError, match=r"begin from a run of the same method and size.*start_task"):
        child = tuned("PerTask(LoRA(rank=4))", "rte")
        child.begin([deltas.for_start(tmp_path / "delta.safetensors", child)])


@pytest.mark.parametrize(
    "child, parents, said",
    [
        ("LoRA(rank=2)", ["LoRA(rank=4)"], r"LoRA\(rank=2\) cannot go on.*is \(2, 32\) here and \(4, 32\) there"),
        ("LoRA(rank=4)", ["Houlsby(bottleneck=4)"], r"LoRA.*is none here and \("),
        ("LoRA(rank=4) + BitFit()", ["LoRA(rank=4)"], r"BitFit.*is \(\d+,\) here and none there"),
        ("FishMask(fraction=0.05, examples=8)", ["FishMask(fraction=0.05, examples=8)"], r"FishMask.*is none here"),
        ("LoRA(rank=4)", ["LoRA(rank=4)", "LoRA(rank=4)"], "goes on from one run, and its start names 2"),
    ],
)
def test_what_it_cannot_go_on_from_is_named_and_nothing_is_changed(child, parents, said, tmp_path):
    model = build(child, "bert", prepared=False)
    before, given = digest_of(model.delta()), []
    for number, parent in enumerate(parents):
        deltas.save(after_training(parent, "bert"), tmp_path / f"{number}.safetensors")
        given.append(deltas.for_start(tmp_path / f"{number}.safetensors", model))
    with pytest.raises(UsageError, match=said):
        model.begin(given)
    if "+" not in child:
        assert digest_of(model.delta()) == before


# --- how they are trained ---------------------------------------------------------------------------------------------
@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two experiments: a child and a grandchild, whose parents are no rows; two children of one of these, and itself."""
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    smoke = dataclasses.replace(grids.get_preset("smoke"), runs_per_job=1)
    source, other = run(tasks=("quora",)), run(tasks=("sts",))
    child = run(start=(source,))

    def first(preset):
        return [run(start=(child,), lr=2e-3), child]

    def second(preset):
        return [source, run(start=(source,), lr=3e-3), run(start=(other,), lr=4e-3)]

    monkeypatch.setattr(grids, "presets", lambda: {"smoke": smoke})
    monkeypatch.setattr(grids, "EXPERIMENTS", {"paper/first": first, "paper/second": second})
    for module in (grids, plan, forecast):
        monkeypatch.setattr(module, "experiments", lambda: grids.EXPERIMENTS)
    return smoke


def test_the_plan_trains_parents_first_and_each_once(project, tmp_path):
    jobs = plan.jobs("smoke")
    where = {digest: i for i, job in enumerate(jobs) for digest in job.digests}
    line = records.with_parents([r for name in grids.EXPERIMENTS for r in grids.runs(name, project)])
    assert sorted(where) == sorted(r.digest for r in line) and sum(len(job.digests) for job in jobs) == len(where)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for one in line:
        job = jobs[where[one.digest]]
        assert {jobs[where[parent.digest]].name for parent in one.start} == set(job.after)
        assert all(where[parent.digest] < where[one.digest] for parent in one.start)
        found = plan.shard_of(plan.own_runs(job.experiment, "smoke", job.generation), job.shard, job.shards)
        assert [r.digest for r in found] == list(job.digests), "notebooks/train.ipynb would train others"
        needed = one.digest in {parent.digest for child in line for parent in child.start}
        assert (records.delta_path("smoke", one) in job.records) == needed
    planned = front.make_plan("smoke", Path(__file__).resolve().parents[1], tmp_path)["train"]
    assert {name: job["after"] for name, job in planned.items()} == {job.name: job.after for job in jobs}


def test_parents_are_trained_once_and_their_deltas_alone_are_kept(project, tmp_path, monkeypatch, capsys):
    trained, execute = [], study.execute
    monkeypatch.setattr(study, "execute", lambda p, r, *a: trained.append(r.digest) or execute(p, r, *a))
    found = study.results("paper/first", "smoke", progress=False)
    (last, child), source = grids.runs("paper/first", project), run(tasks=("quora",))
    assert trained == [source.digest, child.digest, last.digest] and [r["digest"] for r in found] == [
        last.digest,
        child.digest,
    ]
    kept = {path.stem for path in (tmp_path / "data/runs/smoke/deltas").iterdir()}
    assert kept == {source.digest, child.digest}
    assert set(found[1]["start"]) == {source.digest} and "start" not in records.read(records.find("smoke", source))
    first = Trainer(source, progress=False).fit().model  # a child's first numbers are its parent's last
    begun = Trainer(child, progress=False, given=[records.delta_path("smoke", source)])
    ours, theirs = begun.model.delta(), first.delta()
    assert all(torch.equal(ours[n], theirs[n]) for n in ours if not n.startswith("heads."))
    assert found[1]["initial_digest"] == begun.initial_digest != Trainer(run(), progress=False).initial_digest

    study.results("paper/second", "smoke", progress=False)
    assert len(trained) == len(set(trained)) == 6
    assert [path.exists() for job in plan.jobs("smoke") for path in job.records] == [True] * 9

    # Trained anew, and with another outcome, it takes with it whatever began from it.
    records.find("smoke", source).unlink()
    assert [r.digest for r in study.missing(project, grids.runs("paper/first", project))] == trained[:3]
    assert "what it began from is trained anew" in capsys.readouterr().err


def test_a_child_of_another_training_does_not_stand(project, tmp_path, capsys):
    study.results("paper/first", "smoke", progress=False)
    (last, child), source = grids.runs("paper/first", project), run(tasks=("quora",))
    path = records.delta_path("smoke", source)
    before = study.delta_digest(path)
    trainer = Trainer(source, progress=False)
    deltas.save(trainer.fit().model, path)
    assert study.delta_digest(path) == before  # the same numbers, whatever the file's bytes
    assert study.standing(project, child).word == "done"
    deltas.save(Trainer(dataclasses.replace(source, seed=1), progress=False).fit().model, path)
    assert study.standing(project, child).word == "other start" and plan.status("smoke")[0]["other start"] == 1
    path.unlink()
    assert study.standing(project, child).word == "done"  # what cannot be had is taken to be what it was
    records.find("smoke", last).unlink()
    records.delta_path("smoke", child).unlink()
    assert [r.digest for r in study.missing(project, [last])] == [last.digest]
    study.results("paper/first", "smoke", progress=False)  # trains again what left no delta, up to the first
    assert study.standing(project, last).word == "done" and path.exists()


def test_a_checkpoint_of_another_start_is_removed(tmp_path, monkeypatch, capsys):
    source, child = run(tasks=("quora",)), run(start=(run(tasks=("quora",)),))
    first, second = (tmp_path / f"{seed}.safetensors" for seed in (0, 1))
    for seed, path in enumerate((first, second)):
        deltas.save(Trainer(dataclasses.replace(source, seed=seed), progress=False).fit().model, path)
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)
    Trainer(child, tmp_path / "c.pt", False, [first]).fit()
    assert Trainer(child, tmp_path / "c.pt", False, [first])._read_checkpoint()
    assert Trainer(child, tmp_path / "c.pt", False, [second])._read_checkpoint() is None
    assert "of other start; it is removed" in capsys.readouterr().err


def test_a_child_of_a_run_that_diverged_is_named(project, monkeypatch):
    fit = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda self: fit(self) if self.run.start else self._stop("the loss is nan"))
    for _ in range(2):
        with pytest.raises(study.Incomplete, match=r"2 of 2 runs.*\n.*begins from 'LoRA.*left no delta: it has diverged"):
            study.results("paper/first", "smoke", progress=False)


def test_from_the_command_line(project, tmp_path, capsys):
    (row,) = [r for r in grids.runs("paper/second", project) if not r.start]
    grids.EXPERIMENTS["paper/rows"] = lambda preset: [dataclasses.replace(run(), label="row"), run("BitFit()")]
    study.execute(project, row, progress=False)
    args = ["--json", "run", "paper/rows", "--preset", "smoke", "--row", "row", "--start", row.digest]
    args = ["run", "--json", *args[2:]]
    assert cli.main(args) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert list(found["start"]) == [row.digest] and records.delta_path("smoke", row).exists()
    for wrong, said in [
        (["--start", "0" * 16], "no run '0000000000000000' to begin from"),
        (["--start", "../x"], "no run '../x' to begin from"),
        (["--start-task", "cola"], "knows no task 'cola': expected one of quora"),
    ]:
        assert cli.main([*args, *wrong]) == 2
        assert said in capsys.readouterr().err
