"""The training loop, and experiments made of its runs: the same numbers every time, nothing lost or done twice."""

import dataclasses
import json

import pytest
import torch
from tiny import TASKS, build, inputs_of

from peftlib import edits, experiments, records, report, study
from peftlib.edits import Edit
from peftlib.errors import UsageError
from peftlib.methods.reparametrized.lora import LowRank
from peftlib.records import Recipe, RecordError, Run
from peftlib.report import suites
from peftlib.study import Incomplete
from peftlib.training import loop
from peftlib.training.loop import Diverged, Trainer, digest_of

assert experiments  # importing it fills the registry that some tests here replace


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


def run(method="LoRA(rank=2)", tasks=("sst", "quora"), limits=(48, 32, 32), seed=0, label="", **recipe):
    given = {"lr": 1e-3, "epochs": 2, "batch_size": 16, "max_length": 32, "precision": "fp32"} | recipe
    return Run(method=method, tasks=tasks, backbone="minilm[:1]", source="embedded", recipe=Recipe(**given), seed=seed,
               limits=limits, label=label)


def numbers(outcome):
    """All that must be the same; how long it took need not."""
    history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in outcome.history]
    return history, outcome.test, outcome.best_epoch, outcome.initial_digest, digest_of(outcome.model.delta())


def fit(wanted, checkpoint=None):
    return Trainer(wanted, checkpoint, progress=False).fit()


class Killed(BaseException):
    """What a kill looks like from inside."""


def kill_in(monkeypatch, epoch):
    """Let training stop in the middle of an epoch."""
    real = Trainer._step

    def step(self, optimizer, scheduler, now, number, total):
        if now == epoch and number == 1:
            raise Killed
        real(self, optimizer, scheduler, now, number, total)

    monkeypatch.setattr(Trainer, "_step", step)
    monkeypatch.setattr(loop, "SAVE_EVERY", 0)


# --- the same numbers -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_seed_decides_every_bit(precision):
    wanted = run(precision=precision, limits=(32, 16, 16))
    first = numbers(fit(wanted))
    torch.rand(5)  # whatever was drawn before must not matter
    assert numbers(fit(wanted)) == first
    assert numbers(fit(dataclasses.replace(wanted, seed=1)))[3:] != first[3:]


@pytest.mark.parametrize("method", [
    "PerTask(LoRA(rank=2, dropout=0.1))", "AdaLoRA(rank=3, target=1)", "FishMask(fraction=0.001, examples=8)",
    "GaLore(rank=8, gap=5, scale=1.0)", "PrefixTuning(length=3, mlp=8)", "HeadOnly()",
])
def test_killed_and_taken_up_again_gives_the_same_bits(method, tmp_path, monkeypatch):
    tasks = ("sst", "quora") if "PerTask" in method else ("sts",)
    wanted, checkpoint = run(method, tasks=tasks, limits=(32, 16, 16)), tmp_path / "checkpoint.pt"
    whole = numbers(fit(wanted))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, epoch=2)
        fit(wanted, checkpoint)
    assert checkpoint.is_file()
    resumed = Trainer(wanted, checkpoint, progress=False)
    seen = []
    epoch = resumed._epoch
    resumed._epoch = lambda number, *rest: (seen.append(number), epoch(number, *rest))[1]
    assert numbers(resumed.fit()) == whole
    assert seen == [2]
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_saves_little_time_is_not_written(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        kill_in(monkeypatch, epoch=2)
        monkeypatch.setattr(loop, "SAVE_EVERY", 1000)
        fit(run(limits=(32, 16, 16)), tmp_path / "checkpoint.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_checkpoint_that_is_not_this_runs_is_put_aside(content, tmp_path):
    wanted, checkpoint = run(tasks=("sst",), limits=(16, 16, 16), epochs=1), tmp_path / "checkpoint.pt"
    if content is None:
        torch.save({"digest": "of another run", "epoch": 1}, checkpoint)
    else:
        checkpoint.write_bytes(content)
    assert numbers(fit(wanted, checkpoint)) == numbers(fit(wanted))


def test_accumulated_batches_make_the_step_of_one_large_batch():
    """Without dropout, four batches of 4 change the weights as one of 16 does (equal lengths of batches apart)."""
    options = {"tasks": ("quora",), "limits": (16, 16, 16), "epochs": 1, "dropout": 0.0, "warmup": 0.0, "clip": 1e6}
    trainers = [Trainer(run(batch_size=16, **options), progress=False),
                Trainer(run(batch_size=4, accumulate=4, **options), progress=False)]
    deltas = []
    for trainer in trainers:
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        deltas.append(trainer.fit().model.delta())
        assert trainer.steps_per_epoch == 1
    for name, tensor in deltas[0].items():
        # Adam's first step is the sign of the gradient: compare where the sign is not noise
        same = (tensor - deltas[1][name]).abs() < 1e-5
        assert same.float().mean() > 0.95, name


# --- stops and choices ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("epochs", [1, 3])
def test_an_absurd_learning_rate_stops_with_advice(epochs):
    wanted = run("Full()", tasks=("sts",), lr=9.9, epochs=epochs, warmup=0.0, limits=(16, 16, 16))
    trainer = Trainer(wanted, progress=False)
    for p in trainer.model.backbone.parameters():
        p.register_hook(lambda g: g * float("inf"))
    with pytest.raises(Diverged, match=r"Full\(\), learning rate 9.9\): lower the learning rate, or use precision"):
        trainer.fit()


def test_a_loss_that_is_no_number_is_named_with_its_place(monkeypatch):
    trainer = Trainer(run(tasks=("sst",)), progress=False)
    monkeypatch.setattr(trainer.model, "loss", lambda *a: trainer.model.heads["sst"].bias.sum() * float("nan"))
    with pytest.raises(Diverged, match="the loss is nan by batch 3 of epoch 1"):
        trainer.fit()


@pytest.mark.parametrize("scores, best", [((0.2, 0.9, 0.5), 2), ((0.9, 0.2, 0.5), 1), ((0.1, 0.4, 0.4), 2)])
def test_the_best_epoch_on_validation_is_kept(scores, best):
    trainer = Trainer(run(tasks=("sst",), epochs=3, limits=(16, 16, 16)), progress=False)
    real, given, weights = trainer.evaluate, iter(scores), []

    def evaluate(split):
        if split == "validation":
            weights.append(digest_of(trainer.model.delta()))
            return {"sst": 0.0, "mean": next(given)}
        return real(split)

    trainer.evaluate = evaluate
    outcome = trainer.fit()
    assert outcome.best_epoch == best and outcome.validation["mean"] == scores[best - 1]
    assert digest_of(outcome.model.delta()) == weights[best - 1]
    assert len(set(weights)) == 3


# --- nothing that is not needed ---------------------------------------------------------------------------------------
def test_a_frozen_encoder_runs_once():
    calls = []
    wanted = {"epochs": 3, "limits": (16, 16, 16), "batch_size": 8}
    trainers = {method: Trainer(run(method, **wanted), progress=False) for method in ("HeadOnly()", "LoRA(rank=2)")}
    for method, trainer in trainers.items():
        trainer.model.backbone.register_forward_hook(lambda *a, m=method: calls.append(m))
        trainer.fit()
    tasks = 2  # of which each split fits into one evaluation batch
    assert calls.count("HeadOnly()") == 3 * tasks
    # LoRA: three epochs of two batches a task, validation after each, test at the end
    assert calls.count("LoRA(rank=2)") == tasks * (3 * 2 + 3 + 1)


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_nothing_below_the_lowest_trained_place_is_back_propagated(kind):
    model = build("HeadOnly()", kind)
    sites = {(s.stack, s.layer, s.name): s for s in model.anatomy.sites}
    stack = "decoder" if kind == "t5" else "encoder"
    linear = sites[stack, 1, "ffn.up"]
    edits.add(linear, "probe", LowRank(*linear.module.weight.shape[::-1], 2, 1.0, 0.0))
    flows = {}
    for place in ((stack, 0, "ffn.down"), (stack, 1, "attention.output"), (stack, 1, "ffn.up"), (stack, 1, "ffn.down")):
        sites[place].module.register_forward_hook(lambda m, a, y, p=place[1:]: flows.update({p: y.requires_grad}))
    model(TASKS[0], inputs_of(TASKS[0], kind)).sum().backward()
    assert flows == {(0, "ffn.down"): False, (1, "attention.output"): False, (1, "ffn.up"): True, (1, "ffn.down"): True}
    assert all(p.grad is None for n, p in model.backbone.named_parameters() if "probe" not in n)


def test_frozen_weights_are_cast_once():
    trainer = Trainer(run(precision="bf16", epochs=1), progress=False)
    trainer.fit()
    frozen = [p for p in trainer.model.backbone.parameters() if not p.requires_grad]
    assert frozen and all(p.dtype == torch.bfloat16 for p in frozen)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters() if p.requires_grad)


# --- records ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    monkeypatch.setattr(study, "EXPERIMENTS", {})
    return tmp_path


def preset(**options):
    return dataclasses.replace(study.get_preset("smoke"), precision="fp32", **options)


def grid(name, *methods):
    @study.experiment(name)
    def rows(preset):
        return [study.make_run(preset, method, tasks=("sst",), label=f"row {i}") for i, method in enumerate(methods)]


def test_the_precision_of_quick_is_the_machines_or_the_one_that_is_given(monkeypatch):
    quick = study.get_preset("quick")
    for flags, expected in (({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({}, "fp32")):
        monkeypatch.delenv("PEFTLIB_PRECISION", raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda flags=flags: flags)
        study.native_precision.cache_clear()
        assert study.make_run(quick, "LoRA()").recipe.precision == expected
    monkeypatch.setenv("PEFTLIB_PRECISION", "bf16")
    study.native_precision.cache_clear()
    assert study.make_run(quick, "LoRA()").recipe.precision == "bf16"
    assert study.make_run(study.get_preset("smoke"), "LoRA()").recipe.precision == "fp32"
    study.native_precision.cache_clear()


@pytest.mark.parametrize("method, rate", [
    ("LoRA(rank=64)", 4.0), ("LoRA(rank=8)", 2.0), ("BitFit()", 1.0), ("Houlsby(bottleneck=24)", 1.0),
    ("LoRA(rank=8) + OutputLayer()", 2.0), ("LoRA() + FishMask(fraction=0.1)", 2.0)])
def test_a_rate_is_that_of_the_expression_or_of_its_terms(method, rate):
    rates = {"default": 1.0, "LoRA": 2.0, "FishMask": 3.0, "LoRA(rank=64)": 4.0}
    assert preset(lr=rates).learning_rate(method) == rate


def test_a_preset_changes_by_paper_then_by_experiment():
    changed = preset(lr={"default": 1.0, "LoRA": 2.0}, changes={
        "paper": {"epochs": 7, "seeds": [1, 2], "lr": {"LoRA": 3.0}}, "paper/table": {"epochs": 9}})
    table, other = changed.at("paper/table"), changed.at("elsewhere/table")
    assert (table.epochs, table.seeds, table.lr) == (9, (1, 2), {"default": 1.0, "LoRA": 3.0})
    assert changed.at("paper/figure").epochs == 7
    assert other == changed


def test_a_record_is_written_whole_and_once(tmp_path, monkeypatch):
    path = tmp_path / "runs" / "abc.json"
    monkeypatch.setattr(records.os, "replace", lambda *a: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        records.write(path, {"schema": records.SCHEMA, "digest": "abc"})
    assert not list(path.parent.iterdir())
    monkeypatch.undo()
    records.write(path, {"schema": records.SCHEMA, "digest": "abc", "n": 1})
    records.write(path, {"schema": records.SCHEMA, "digest": "abc", "n": 2})
    assert records.read(path)["n"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["abc.json"]


@pytest.mark.parametrize("text, message", [
    ("{", "cannot be read as a record"), ("[]", "expected a record of schema"),
    (json.dumps({"schema": 0, "digest": "abc"}), "expected a record of schema"),
    (json.dumps({"schema": records.SCHEMA, "digest": "xyz"}), "holds the record of xyz"),
])
def test_a_file_that_is_no_record_is_refused(text, message, tmp_path):
    path = tmp_path / "abc.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=message):
        records.read(path)


def test_the_digest_is_of_all_that_decides_the_outcome():
    base = run()
    others = [run("LoRA(rank=3)"), run(seed=1), run(lr=2e-3), run(limits=(48, 32, None)), run(tasks=("sst",)),
              run(precision="bf16"), dataclasses.replace(base, backbone="minilm"),
              dataclasses.replace(base, source="local")]
    assert len({r.digest for r in [base, *others]}) == 1 + len(others)
    assert run(label="another name").digest == base.digest


def test_results_trains_what_is_missing_and_nothing_twice(root, monkeypatch):
    grid("paper/table", "HeadOnly()", "LoRA(rank=2)")
    first = study.results("paper/table", preset(), progress=False)
    assert [r["run"]["label"] for r in first] == ["row 0", "row 1"]
    for record in first:
        wanted = records.run_of(record)
        assert wanted.digest == record["digest"]
        assert records.path_of("smoke", record["digest"]).is_file()
        assert set(record["test"]) == {"sst", "mean"} and len(record["history"]) == 1
        assert record["stored_bytes"] >= 4 * (record["counts"]["stored"] + record["counts"]["heads"])
    monkeypatch.setattr(study, "execute", lambda *a: pytest.fail("trained again"))
    assert study.results("paper/table", preset(), progress=False) == first


def test_a_failing_run_costs_only_itself_and_is_named(root):
    grid("paper/table", "HeadOnly()", "PerTask(BitFit())", "LoRA(rank=2)")
    with pytest.raises(Incomplete, match=r"(?s)1 of 3 runs of paper/table failed:.*row 1: UsageError: .*PerTask"):
        study.results("paper/table", preset(), progress=False)
    found = study.results("paper/table", preset(), train=False)
    assert [r["run"]["label"] for r in found] == ["row 0", "row 2"]
    assert len(found.wanted) == 3
    (failed,) = (root / "_build" / "smoke" / "failed").rglob("*.txt")
    assert "Traceback" in failed.read_text()
    assert failed.stem == found.wanted[1].digest


def test_a_run_that_diverges_is_recorded_once_and_left_out_of_scores(root, monkeypatch, capsys):
    grid("paper/table", "HeadOnly()", "LoRA(rank=2)")
    fit = Trainer.fit

    def diverging(self):
        if self.run.method.startswith("LoRA"):
            self._stop("the loss is nan by batch 3 of epoch 1")
        return fit(self)

    monkeypatch.setattr(Trainer, "fit", diverging)
    found = study.results("paper/table", preset(), progress=False)
    assert "the loss is nan" in capsys.readouterr().err
    assert [r["run"]["label"] for r in found] == ["row 0"]
    assert [r["run"]["label"] for r in found.diverged] == ["row 1"] and len(found.wanted) == 2
    assert "lower the learning rate" in found.diverged[0]["diverged"] and "test" not in found.diverged[0]
    assert report.presence(found) == report.presence(report.union(found, found)) == "1 of 2 runs, 1 diverged"
    assert report.presence(suites.only(found, ["sst"])) == "1 of 2 runs, 1 diverged"
    assert report.presence(suites.only(found, ["cola"])) == "0 of 0 runs"
    said = report.rerun("notebooks/x.ipynb", report.Page(preset(), False), found).data
    assert "1 diverged at its learning rate and has no scores" in said and "missing" not in said
    monkeypatch.setattr(study, "execute", lambda *a: pytest.fail("trained again"))
    assert len(study.results("paper/table", preset(), progress=False).diverged) == 1


def test_a_killed_run_goes_on_from_its_last_epoch(root, monkeypatch):
    grid("paper/table", "LoRA(rank=2)")
    wanted = preset(epochs=3)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_in(patch, epoch=3)
        study.results("paper/table", wanted, progress=False)
    assert not study.results("paper/table", wanted, train=False)
    (left,) = (root / "_build" / "smoke" / "checkpoints").iterdir()
    epochs, real = [], Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", lambda self, now, *rest: (epochs.append(now), real(self, now, *rest))[1])
    (record,) = study.results("paper/table", wanted, progress=False)
    assert epochs == [3] and len(record["history"]) == 3
    assert not left.exists()


def test_status_counts_done_missing_failed_and_stale(root):
    smoke = study.get_preset("smoke")
    grid("paper/table", "HeadOnly()", "PerTask(BitFit())", "LoRA(rank=2)")
    assert study.status("smoke") == [
        {"paper": "paper", "experiment": "paper/table", "done": 0, "missing": 3, "failed": 0, "stale": 0}]
    wanted = study.runs("paper/table", smoke)
    with pytest.raises(Incomplete):
        study.run_missing("paper/table", smoke, wanted[:2], progress=False)
    assert study.status("smoke")[0] | {"paper": "", "experiment": ""} == {
        "paper": "", "experiment": "", "done": 1, "missing": 1, "failed": 1, "stale": 0}
    path = records.path_of("smoke", wanted[0].digest)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "of another day"}))
    assert study.status("smoke")[0]["stale"] == 1


def test_unknown_names_get_a_suggestion(root):
    grid("adaptbert/table3", "HeadOnly()")
    with pytest.raises(UsageError, match="did you mean 'adaptbert/table3'"):
        study.runs("adaptbert/tabel3", "smoke")
    with pytest.raises(UsageError, match="unknown preset 'smok'"):
        study.runs("adaptbert/table3", "smok")


def test_a_base_edit_changes_nothing():
    x, y = torch.ones(2, 3), torch.zeros(2, 4)
    assert Edit().before(x) is x and Edit().after(x, y) is y and not Edit().merge(torch.nn.Linear(3, 4))
    assert loop.EVAL_BATCH > 32  # what the count of calls above rests on
