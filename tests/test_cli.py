"""The command line: what it prints, and how it refuses."""

import json
import os
import subprocess
import sys

import pytest

from peftlib import cli


def out(capsys, *argv: str):
    assert cli.main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_count_gives_three_counts_and_percentages(capsys):
    row = out(capsys, "count", "LoRA(rank=8)", "--backbone", "bert-base-uncased", "--tasks", "3")
    assert (row["trainable"], row["stored"], row["total"]) == (442_368, 442_368, 109_482_240)
    assert row["changed"] == 36 * 768 * 768 and row["trainable_percent"] == pytest.approx(0.404055, abs=1e-6)


def test_count_of_table3_lists_its_rows(capsys):
    rows = out(capsys, "count", "adaptbert/table3")
    assert len(rows) == 19 and rows[0]["updated_printed"] == "0.40%" and rows[0]["updated_agrees"]


def test_estimate_as_text_and_json(capsys):
    arguments = "estimate LoRA() --backbone minilm[:1] --batch 2 --length 8 --precision fp32".split()
    row = out(capsys, *arguments)
    assert row["peak"] > row["weights"] > row["gradients"] > 0 and row["flops"] > 0
    assert cli.main(arguments) == 0
    assert "activations" in capsys.readouterr().out


def test_methods_have_hyperparameters_with_defaults_and_meaning(capsys):
    rows = {row["name"]: row for row in out(capsys, "methods")}
    assert rows["LoRA"]["mergeable"] and not rows["Houlsby"]["mergeable"]
    fields = {h["name"]: h for h in out(capsys, "methods", "LoRA")["hyperparameters"]}
    assert fields["rank"]["default"] == 8 and fields["rank"]["meaning"].startswith("r > 0")


@pytest.mark.parametrize("command", ["presets", "experiments", "status --preset smoke --paper adaptbert"])
def test_listings(capsys, command, tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    rows = out(capsys, *command.split())
    assert rows and all(isinstance(row, dict) for row in rows)
    assert cli.main(command.split()) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows) + 1


@pytest.mark.parametrize("command, hint", [
    ("count LoRA(rnk=8)", "rnk"), ("count LoRA( --tasks 2", "cannot read"), ("count LoRA() --tasks 0", "at least 1"),
    ("count adaptbert/table9", "adaptbert/table3"),
    ("estimate LoRA() --precision fp64", "bf16"), ("estimate LoRA() --batch 0", "at least 1"), ("methods Lora", "LoRA"),
    ("run adaptbert/tabel3 --preset smoke", "adaptbert/table3"), ("status --preset tiny", "smoke"),
    ("status --paper nobody", "adaptbert")])
def test_refusals_are_one_line_and_status_2(capsys, command, hint, tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(command.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and hint in captured.err


def test_an_unknown_backbone_without_a_network(tmp_path):
    """In a process of its own: the hub's library reads its settings when it is imported, and writes to stderr."""
    done = subprocess.run([sys.executable, "-m", "peftlib.cli", "count", "LoRA()", "--backbone", "t5-huge"],
                          capture_output=True, text=True,
                          env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "t5-large" in done.stderr


@pytest.mark.parametrize("command", ["", "cuont LoRA()", "count", "count LoRA() --tasks many"])
def test_a_wrong_command_line_too(capsys, command):
    with pytest.raises(SystemExit) as stop:
        cli.main(command.split())
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["--help", "presets", "status --preset published"])
def test_light_commands_do_not_load_torch(command, tmp_path):
    code = (f"import sys\nfrom peftlib import cli\ntry:\n    cli.main({command.split()!r})\n"
            "except SystemExit:\n    pass\nassert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "PEFTLIB_ROOT": str(tmp_path)})
    assert done.returncode == 0, done.stderr
