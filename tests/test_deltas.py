"""What is saved comes back as it was, elsewhere too; what cannot be is refused and has changed nothing."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import save_file
from tries import deltas as table

from peftlib import deltas, interop, tensorfiles
from peftlib.backbones import weights_digest
from peftlib.data.task import Task
from peftlib.data.tasks import get_task
from peftlib.deltas import DeltaError
from peftlib.errors import PeftlibError, UsageError
from peftlib.methods.reparametrized.lora import LoRA
from peftlib.model import Tuned

FAMILIES = [
    "Full()",
    "BitFit()",
    "FishMask(fraction=0.05, examples=8)",
    "LoRA(rank=2)",
    "AdaLoRA(rank=4, target=2)",
    "IntrinsicSAID(dimension=300)",
    "GaLore(rank=8)",
    "PerTask(Houlsby(bottleneck=4))",
    "Compacter(bottleneck=8)",
    "AdaptBertHypernet(bottleneck=4)",
    "PrefixTuning(length=2, mlp=8)",
    "PromptTuning(length=2)",
]
PLACES = ["bert cls", "bert mean", "t5 mean", "writing"]  # a backbone, and how it is read
MINE = [
    Task("mine", "classes", ("text",), labels=("a", "b", "c")),
    Task("measure", "score", ("first", "second"), low=-1.0, high=3.0, metrics=("pearson",)),
]


def bare(place: str) -> torch.nn.Module:
    return tiny.writing_t5() if place == "writing" else tiny.backbone(place.split()[0])


def answers(model: Tuned, place: str) -> dict[str, torch.Tensor]:
    """What a model says about every task."""
    kind = "bert" if "bert" in place else "t5"
    with torch.no_grad():
        inputs = {name: tiny.inputs_of(name, kind) for name in tiny.TASKS}
        if place == "writing":  # 40 words, and answers
            inputs = {
                name: given | {"input_ids": given["input_ids"] % 40, "answers": given["input_ids"][:, :3] % 40}
                for name, given in inputs.items()
            }
        return {name: model(name, given).clone() for name, given in inputs.items()}


def trained(method: str, place: str) -> Tuned:
    """Every number that training would change is moved a little."""
    form, pooling = "text" if place == "writing" else "heads", "cls" if place == "bert cls" else "mean"
    model = Tuned(bare(place), method, [get_task(name) for name in tiny.TASKS], pooling=pooling, form=form).eval()
    if "Fish" in method:
        model.prepare([(name, tiny.batch(name)) for name in tiny.TASKS])
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.05 * torch.randn_like(p)
    model.finish()
    return model


def cases() -> list[tuple[str, str]]:
    """All methods where the pooler is read, and some everywhere."""
    everywhere = ("Full()", "LoRA(rank=2)", "PrefixTuning(length=2, mlp=8)", "PromptTuning(length=2)")
    return [(method, place) for place in PLACES for method in (FAMILIES if place == "bert cls" else everywhere)]


def compare(folder: Path) -> None:
    """Load all cases of a folder, and compare what they say with what they said: run in another process."""
    for i, (method, place) in enumerate(cases()):
        torch.manual_seed(1000 + i)
        model, said = deltas.load(folder / f"{i}.safetensors", bare(place)), torch.load(folder / f"{i}.pt")
        for name, found in answers(model, place).items():
            assert torch.equal(found, said[name]), (method, place, name, (found - said[name]).abs().max())


def test_in_another_process_with_another_seed_it_says_the_same(tmp_path):
    for i, (method, place) in enumerate(cases()):
        torch.manual_seed(i)
        model = trained(method, place)
        deltas.save(model, tmp_path / f"{i}.safetensors")
        torch.save(answers(model, place), tmp_path / f"{i}.pt")
    code = "import pathlib, sys, test_deltas; test_deltas.compare(pathlib.Path(sys.argv[1])); print('equal')"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert found.stdout == "equal\n", found.stderr[-2000:]


# --- which weights ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["Full()", "BitFit()", "LoRA(rank=2)", "IntrinsicSAID(dimension=300)"])
def test_the_digest_is_that_of_the_weights_before_training(method, tmp_path):
    model = tiny.build(method, "bert")
    tiny.train(model, "bert")
    model.store_frozen(torch.bfloat16)
    assert model.weights_digest == weights_digest(tiny.backbone("bert"))
    deltas.save(model, tmp_path / "delta")
    deltas.load(tmp_path / "delta", tiny.backbone("bert"))


def test_other_weights_are_refused_unless_asked_for(tmp_path):
    model, other = tiny.build("LoRA(rank=2)", "bert"), tiny.backbone("bert", seed=8)
    deltas.save(model, tmp_path / "delta")
    with pytest.raises(DeltaError) as refused:
        deltas.load(tmp_path / "delta", other)
    assert model.weights_digest in str(refused.value) and weights_digest(other) in str(refused.value)
    again = deltas.load(tmp_path / "delta", other, other_weights=True)
    assert again.weights_digest == weights_digest(tiny.backbone("bert", seed=8))


def test_an_older_file_is_read_with_a_note(tmp_path):
    model = tiny.build("LoRA(rank=2)", "bert")
    meta = {
        "format": "peftlib-delta-1",
        "method": "LoRA(rank=2)",
        "tasks": json.dumps(tiny.TASKS),
        "backbone": "",
        "pooling": "cls",
    }
    save_file(model.delta(), tmp_path / "delta", meta)
    with pytest.warns(UserWarning, match="older file.*weights"):
        again = deltas.load(tmp_path / "delta", tiny.backbone("bert"))
    said = tiny.outputs(model, "bert")
    assert all(torch.equal(found, said[name]) for name, found in tiny.outputs(again, "bert").items())


def test_shapes_alone_are_not_saved(tmp_path):
    with torch.device("meta"):
        model = Tuned(deltas.outline(tiny.backbone("bert")), "BitFit()", [get_task("sst")])
    with pytest.raises(UsageError, match="shapes alone"):
        deltas.save(model, tmp_path / "delta")


# --- tasks of a user's own --------------------------------------------------------------------------------------------
def test_tasks_of_a_users_own_come_back(tmp_path):
    own = [*MINE, dataclasses.replace(get_task("sst"), labels=("bad", "good")), get_task("quora")]
    model = Tuned(tiny.backbone("bert"), "LoRA(rank=2)", own).eval()
    deltas.save(model, tmp_path / "delta")
    again = deltas.load(tmp_path / "delta", tiny.backbone("bert"))
    assert again.tasks == ("mine", "measure", "sst", "quora")
    for task in own:
        found = again.task_table[task.name]
        assert all(getattr(found, name) == getattr(task, name) for name in deltas.OF_A_TASK)
        assert found.words == task.words
        inputs = tiny.inputs_of("sst", "bert")
        assert torch.equal(again(task.name, inputs), model(task.name, inputs))
    assert again.task_table["quora"] is get_task("quora")


def test_numbers_of_numpy_are_numbers(tmp_path):
    model = Tuned(tiny.backbone("bert"), LoRA(rank=np.int64(2), alpha=np.float32(0.5)), [get_task("sst")]).eval()
    deltas.save(model, tmp_path / "delta")
    again = deltas.load(tmp_path / "delta", tiny.backbone("bert"))
    assert str(again.method) == "LoRA(rank=2, alpha=0.5)"


# --- what is refused changes nothing ----------------------------------------------------------------------------------
REFUSED = [row for row in table.TRIES if row.door in ("load", "from_peft") and "backbone" not in row.given]  # of its own


def test_a_refused_load_leaves_the_backbone_as_it_was(tmp_path, monkeypatch):
    for method in table.METHODS:
        table.whole(method)  # on backbones of their own
    backbone = tiny.backbone("bert").eval()
    inputs = tiny.inputs_of("sst", "bert")

    def looks() -> tuple:
        with torch.no_grad():
            said = backbone(**inputs)
        return (
            [(name, type(m), len(m._forward_hooks), len(m._forward_pre_hooks)) for name, m in backbone.named_modules()],
            [(name, p.requires_grad) for name, p in backbone.named_parameters()],
            weights_digest(backbone),
            said.pooler_output.tolist(),
        )

    before = looks()
    monkeypatch.setattr(tiny, "backbone", lambda kind, seed=7: backbone)
    for i, row in enumerate(REFUSED):
        (tmp_path / str(i)).mkdir()
        with pytest.raises(PeftlibError):
            row.go(tmp_path / str(i))
        assert looks() == before, str(row)


# --- whole or not at all ----------------------------------------------------------------------------------------------
def _half_then(end):
    """A writer that gets half-way."""

    def write(tensors, path, metadata=None):
        Path(path).write_bytes(b"half")
        end()

    return write


def full_disk():
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("door", ["delta", "peft"])
def test_a_failed_write_leaves_the_old_files_and_no_scratch(door, tmp_path, monkeypatch):
    write = deltas.save if door == "delta" else interop.to_peft
    target, model = tmp_path / "it", tiny.build("LoRA(rank=2)", "bert")
    write(model, target)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(tensorfiles, "save_file", _half_then(full_disk))
    with pytest.raises(DeltaError, match="cannot be written.*No space left"):
        write(tiny.build("LoRA(rank=3)", "bert"), target)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.rglob(f"{deltas.SCRATCH}*"))


def test_a_killed_save_leaves_the_old_file_and_its_scratch_goes_later(tmp_path, monkeypatch):
    model, path = tiny.build("LoRA(rank=2)", "bert"), tmp_path / "delta"
    deltas.save(model, path)
    before = path.read_bytes()
    child = os.fork()
    if child == 0:
        tensorfiles.save_file = _half_then(lambda: os._exit(9))
        deltas.save(model, path)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (left,) = tmp_path.glob(f"{deltas.SCRATCH}*")
    assert path.read_bytes() == before
    deltas.save(model, path)
    assert left.exists()  # somebody may still be writing there
    long_ago = time.time() - deltas.ABANDONED - 1
    os.utime(left, (long_ago, long_ago))
    deltas.save(model, path)
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_of_one_file_do_not_meet(tmp_path):
    models = [tiny.build(f"LoRA(rank={rank})", "bert") for rank in (1, 2, 3, 4)]
    path, failed = tmp_path / "delta", []

    def write(model):
        try:
            for _ in range(5):
                deltas.save(model, path)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and list(tmp_path.iterdir()) == [path]
    assert str(deltas.load(path, tiny.backbone("bert")).method) in {str(m.method) for m in models}


def test_others_may_read_what_is_saved(tmp_path):
    deltas.save(tiny.build("LoRA(rank=2)", "bert"), tmp_path / "delta")
    assert (tmp_path / "delta").stat().st_mode & 0o777 == 0o644
