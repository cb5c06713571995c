"""The environment that `make` makes: by one process at a time, and begun anew after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parents[1] / "peftlib" / "batch" / "install.py"
# A virtual environment without pip, in whose place a script stands that takes a while and writes down that it ran.
DRIVER = """
import importlib.util, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, as a test may be, begins without
spec = importlib.util.spec_from_file_location("install", sys.argv[1])
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)
here, = map(Path, sys.argv[2:])
install.FOLDER, install.DECIDING, install.WANTED = here / ".venv", [here / "pyproject.toml"], [["something"]]
true = install.run
def run(lock, command, failed):
    if command[1:3] == ["-m", "venv"]:
        (here / ".venv").mkdir()
    else:
        true(lock, [sys.executable, str(here / "pip.py")], failed)
install.run = run
sys.exit(install.main())
"""
PIP = "import sys, time\nopen(sys.argv[0] + '.ran', 'a').write('.')\ntime.sleep({seconds})\nsys.exit({status})\n"


@pytest.fixture
def start(tmp_path):
    """Starts an installation; pip takes so many seconds and ends with a status."""
    (tmp_path / "pyproject.toml").touch()
    begun = []

    def begin(seconds: float = 0.0, status: int = 0) -> subprocess.Popen:
        (tmp_path / "pip.py").write_text(PIP.format(seconds=seconds, status=status))
        begun.append(
            subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(INSTALL), str(tmp_path)],
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def calls(folder: Path) -> int:
    ran = folder / "pip.py.ran"
    return len(ran.read_text()) if ran.exists() else 0


def until_pip_runs(folder: Path, times: int = 1) -> None:
    end = time.monotonic() + 60
    while calls(folder) < times:
        assert time.monotonic() < end, "pip was never started"
        time.sleep(0.05)


def test_a_second_make_waits_for_the_first_and_finds_its_work_done(tmp_path, start):
    first = start(seconds=2)
    until_pip_runs(tmp_path)
    second = start()
    said, _ = second.communicate(timeout=60)
    assert first.wait(60) == second.returncode == 0 and calls(tmp_path) == 1
    assert f"(process {first.pid}): waiting for it" in said
    assert (tmp_path / ".venv" / ".installed").exists()


def test_a_changed_requirement_makes_it_anew_and_a_newer_date_does_not(tmp_path, start):
    assert start().wait(60) == 0
    os.utime(tmp_path / "pyproject.toml", (time.time() + 5000,) * 2)
    assert start().wait(60) == 0 and calls(tmp_path) == 1
    (tmp_path / "pyproject.toml").write_text("other")
    assert start().wait(60) == 0 and calls(tmp_path) == 2


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_installation_is_begun_anew(tmp_path, start, signum):
    killed = start(seconds=3)
    until_pip_runs(tmp_path)
    killed.send_signal(signum)
    killed.wait(60)
    again = start()
    assert again.wait(60) == 0 and calls(tmp_path) == 2
    assert (tmp_path / ".venv" / ".installed").exists()


def test_a_failed_one_leaves_nothing_and_says_what_failed(tmp_path, start):
    failed = start(status=1)
    _, said = failed.communicate(timeout=60)
    assert failed.returncode == 1 and said.startswith("error: could not install something: pip's message is above")
    assert not (tmp_path / ".venv").exists()
