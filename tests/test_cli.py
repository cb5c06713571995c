"""The command line: what it prints, and how it refuses."""

import io
import json
import os
import subprocess
import sys

import pytest

from peftlib import cli, commandline


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


def test_an_unknown_backbone_without_a_network(tmp_path):
    """In a process of its own: the hub's library reads its settings when it is imported, and writes to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "peftlib.cli", "count", "LoRA()", "--backbone", "t5-huge"],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "t5-large" in done.stderr


def started(*argv: str | bytes, stdout=subprocess.PIPE) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "peftlib.cli", *argv], stdout=stdout, stderr=subprocess.PIPE)


def test_what_a_terminal_cannot_show_is_escaped(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    commandline.show("2 – 3, \udcff")
    assert terminal.buffer.getvalue() == b"2 \\u2013 3, \\udcff\n"


def test_arguments_that_are_no_text_are_shown_escaped():
    process = started("status", "--preset", b"\xff")
    out, err = process.communicate()
    assert (process.returncode, out) == (2, b"") and err.count(b"\n") == 1 and b"'\\udcff'" in err


def test_an_output_without_room():
    with open("/dev/full", "w") as full:
        process = started("presets", stdout=full)
    err = process.communicate()[1]
    assert (process.returncode, err) == (2, b"peftlib: cannot print: [Errno 28] No space left on device\n")


def test_a_reader_that_has_seen_enough():
    read, write = os.pipe()
    os.close(read)
    process = started("presets", stdout=write)
    os.close(write)
    assert process.communicate()[1] == b"" and process.returncode == 0


def stopped():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "go, status, said",
    [
        (stopped, 130, "peftlib: stopped"),
        (lambda: "x" * 10**15, 2, "a size that no machine has"),
        (lambda: float(10**400), 2, "a size that no machine has"),
        (lambda: open("/nowhere/a"), 2, "'/nowhere/a'"),
    ],
)
def test_what_ends_a_command_ends_it_in_one_line(go, status, said, capsys):
    assert commandline.run("peftlib", go) == status
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and said in captured.err


def test_faults_of_the_program_itself_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        commandline.run("peftlib", lambda: str(1 / 0))


def test_a_file_that_holds_hours_of_work_is_tried_first(tmp_path):
    assert commandline.writable(str(tmp_path / "new" / "a.json")).parent.is_dir()
    assert not (tmp_path / "new" / "a.json").exists()


@pytest.mark.parametrize("command", ["--help", "presets", "status --preset paper"])
def test_light_commands_do_not_load_torch(command, tmp_path):
    code = (
        f"import sys\nfrom peftlib import cli\ntry:\n    cli.main({command.split()!r})\n"
        "except SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PEFTLIB_ROOT": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
