"""The batch on a real SLURM cluster: one node, this machine, without an accounting database."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peftlib.batch import slurm
from peftlib.errors import UsageError

ROOT = Path(__file__).resolve().parents[1]
NODE = ROOT / "tests" / "slurm_node.sh"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
LACKING = [p for p in PROGRAMS if not shutil.which(p, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))]
JOBS = 4  # of the training jobs of smoke: enough for two at a time, twice
# The front door, with a plan of few jobs.
FRONT = f"""
import sys; from pathlib import Path; from peftlib.batch import front
root = front.repository(); build = root / "_build" / "smoke"
plan = front.make_plan("smoke", root, build); plan["train"] = dict(list(plan["train"].items())[:{JOBS}])
options = front.Options(2, "slurm"); options.check()
with front.stoppable(): sys.exit(front.run(plan, build, options, ("train",)))
"""


@pytest.fixture
def cluster():
    if LACKING:
        pytest.skip(f"no {', '.join(LACKING)} here: Debian's packages slurm-wlm and munge")
    if os.getuid() or Path("/etc/slurm/slurm.conf").exists():
        pytest.skip("a cluster of one node needs root, and a machine that belongs to no other")
    folder = Path("/tmp") / f"slurm-{os.getpid()}"  # sockets have short paths
    subprocess.run([NODE, "start", folder], check=True)
    yield
    subprocess.run([NODE, "stop", folder], check=True)
    shutil.rmtree(folder, ignore_errors=True)  # its daemons may still be ending


def commands(folder: Path, monkeypatch, **status: int) -> None:
    """SLURM's commands as scripts that end with a status."""
    for name, code in status.items():
        (folder / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    slurm.status_arguments.cache_clear()


@pytest.mark.parametrize("sacct, expected", [(0, []), (1, ["--slurm-status-command", "squeue"])])
def test_the_command_that_answers_is_asked(tmp_path, monkeypatch, sacct, expected):
    commands(tmp_path, monkeypatch, sbatch=0, sacct=sacct, squeue=0)
    assert slurm.status_arguments() == expected


@pytest.mark.parametrize("there, words", [({}, "sbatch is not here"), ({"sbatch": 0, "squeue": 1}, "controller")])
def test_what_is_missing_is_said(tmp_path, monkeypatch, there, words):
    commands(tmp_path, monkeypatch, **there)
    with pytest.raises(UsageError, match=words):
        slurm.status_arguments()


@pytest.mark.slow
def test_training_on_a_cluster_goes_on_after_a_kill(cluster, tmp_path):
    for name in ("Snakefile", "_config.yml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("notebooks", "data", "peftlib"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").unlink()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "t5-embedded").symlink_to(ROOT / "data" / "t5-embedded")
    records = tmp_path / "data" / "runs" / "smoke"
    seen = os.environ | {"PYTHONPATH": str(ROOT), "PEFTLIB_ROOT": str(tmp_path)}

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", FRONT],
            cwd=tmp_path,
            env=seen,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    first, until = start(), time.monotonic() + 240
    while not list(records.glob("*.json")) and first.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=90)
    done = {path: path.read_bytes() for path in records.glob("*.json")}
    assert done, said
    time.sleep(5)  # what was cancelled has ended
    assert not subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, check=True).stdout

    second = start()
    said, _ = second.communicate(timeout=400)
    assert second.returncode == 0 and "complete in" in said, said
    assert len(list((tmp_path / "_build" / "smoke" / "train").rglob("*.ipynb"))) == JOBS
    assert all(path.read_bytes() == content for path, content in done.items()), "a finished run was made again"
