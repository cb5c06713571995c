"""Pages executed in forks of one process: like those of plain papermill, apart from each other, ended by what ends jobs."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from peftlib.batch import front, warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
LOOK = """
import os, signal, sys, threading
import matplotlib, matplotlib.pyplot as plt, pandas, torch
from peftlib import errors
print(sorted(name for name in globals() if not name.startswith("_")))
print(os.getcwd(), sys.path, sys.argv[:2], __name__)
print({name: value for name, value in sorted(os.environ.items()) if name != "JPY_PARENT_PID"})
print(os.environ["JPY_PARENT_PID"] == str(os.getppid()), os.getsid(0) == os.getpid())
print(matplotlib.get_backend(), plt.get_fignums(), matplotlib.rcParams["font.size"], pandas.options.display.max_rows)
print(torch.get_num_threads(), signal.getsignal(signal.SIGINT), hasattr(errors, "left"), threading.active_count())
"""
LEAVE = """
import os, sys
import matplotlib.pyplot as plt, pandas, torch
from peftlib import errors
left = errors.left = 1
os.environ["LEFT"] = "1"
os.chdir("/")
sys.path.append("left")
plt.rcParams["font.size"] = 77
pandas.options.display.max_rows = 77
torch.manual_seed(77)
"""
SHOW = """
import warnings
import matplotlib.pyplot as plt, pandas, torch
print("said")
warnings.warn("warned")
lines = plt.plot([1, 2])
"""
DRAW = "import random, numpy, torch\nprint(random.random(), numpy.random.rand(), torch.rand(1))"
TABLE = "pandas.DataFrame({'word': [word, word], 'sum': torch.arange(4.0).reshape(2, 2).sum(1)})"


def notebook(path: Path, *codes: str) -> Path:
    parameters = nbformat.v4.new_code_cell('word = "default"', metadata={"tags": ["parameters"]})
    cells = [parameters, *map(nbformat.v4.new_code_cell, codes)]
    book = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    nbformat.write(book, path)
    return path


def environment(build: Path) -> dict[str, str]:
    return front.environment(front.Options(), build, build)


def worker(build: Path, page: Path, **more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "peftlib.batch.worker", str(page), f"pages/{page.name}", "--root", ".", "--warm"]
    command += [
        "--log",
        f"logs/{page.stem}.log",
        "--parameters",
        json.dumps({"word": "given"}),
        "--parent",
        str(os.getpid()),
    ]
    return subprocess.Popen(command, cwd=build, env=environment(build) | more, stderr=subprocess.DEVNULL)


def until(condition, what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, f"still not: {what}"
        time.sleep(0.05)


@pytest.fixture
def build(tmp_path):
    """A build's folder with warm kernels."""
    with warm.kernels(tmp_path, environment(tmp_path)):
        until((tmp_path / warm.SOCKET).exists, "listens")
        yield tmp_path


def server(build: Path) -> psutil.Process:
    (found,) = (p for p in psutil.Process().children() if "peftlib.batch.forks" in p.cmdline() and p.cwd() == str(build))
    return found


def cells(path: Path) -> list[dict]:
    """What papermill has made, but for when, and for what each run calls differently."""
    found = json.loads(re.sub(r"ipykernel_\d+", "ipykernel", path.read_text()))["cells"]
    for cell in found:
        cell["id"] = ""
        cell["metadata"] = {"tags": [tag for tag in cell["metadata"]["tags"] if tag != "hide-input"]}  # see `worker.polish`
    return found


def plain(build: Path, page: Path) -> Path:
    """The page by papermill alone, in the folder and the environment of the batch's jobs."""
    code = f"import papermill; papermill.execute_notebook({str(page)!r}, 'plain.ipynb', {{'word': 'given'}})"
    subprocess.run([sys.executable, "-c", code], cwd=build, env=environment(build), check=True, capture_output=True)
    return build / "plain.ipynb"


@pytest.mark.slow
def test_pages_are_those_of_plain_papermill_and_see_nothing_of_each_other(build):
    codes = {"first": [LEAVE, SHOW, DRAW], "second": [LOOK, SHOW, TABLE], "third": [DRAW]}
    pages = {name: notebook(build / f"{name}.ipynb", *parts) for name, parts in codes.items()}
    for name, page in pages.items():
        assert worker(build, page).wait(240) == 0, (build / "logs" / f"{name}.log").read_text()
    first, second, third = (cells(build / "pages" / f"{name}.ipynb") for name in codes)
    assert second == cells(plain(build, pages["second"]))
    text = json.dumps(second)
    assert "image/png" in text and "text/html" in text and "warned" in text, "the page shows too little to compare"
    assert first[-1]["source"] == third[-1]["source"] and first[-1]["outputs"] != third[-1]["outputs"], "the same draws"


@pytest.mark.slow
def test_a_page_that_fails_or_is_killed_fails_alone(build):
    broken = notebook(build / "broken.ipynb", "raise ValueError('the reason')")
    killed = notebook(build / "killed.ipynb", "import os\nos.kill(os.getpid(), 9)")
    good = notebook(build / "good.ipynb", "import os\nprint('parents', [os.getppid(), os.getpid()])")
    assert [worker(build, page).wait(240) for page in (broken, killed, good)] == [1, 1, 0]
    assert "ValueError: the reason" in (build / "logs/broken.log").read_text()
    assert "The kernel died" in (build / "logs/killed.log").read_text()
    assert not (build / "pages/broken.ipynb").exists() and not (build / "pages/killed.ipynb").exists()


SLOW = "import time\nfrom pathlib import Path\nPath('began').touch()\ntime.sleep(600)"


@pytest.mark.slow
@pytest.mark.parametrize(
    "victim, signum", [("client", signal.SIGKILL), ("papermill", signal.SIGKILL), ("server", signal.SIGKILL)]
)
def test_what_is_killed_takes_all_that_it_started_along(build, victim, signum):
    client = worker(build, notebook(build / "slow.ipynb", SLOW))
    until((build / "began").exists, "a page is being made")
    warmed = server(build)
    (papermills,) = warmed.children()
    (kernel,) = papermills.children()
    family = [papermills, kernel]
    {"client": client, "papermill": papermills, "server": warmed}[victim].send_signal(signum)
    assert client.wait(60) != 0
    until(lambda: not any(map(alive, family)), "all has ended")
    assert alive(warmed) == (victim != "server")
    after = notebook(build / "after.ipynb", "1 + 1")
    assert worker(build, after).wait(240) == 0, "without a server, kernels are fresh"


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.slow
def test_a_process_with_threads_does_not_fork(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    )
    command = [sys.executable, "-m", "peftlib.batch.forks", "--parent", str(os.getpid())]
    surroundings = environment(tmp_path)
    surroundings["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{surroundings['PYTHONPATH']}"
    refused = subprocess.Popen(command, cwd=tmp_path, env=surroundings, stderr=subprocess.PIPE, text=True)
    until((tmp_path / warm.SOCKET).exists, "listens")
    page = notebook(tmp_path / "page.ipynb", "1 + 1")
    assert worker(tmp_path, page).wait(240) == 0, "kernels are fresh then"
    assert refused.wait(60) == 1 and "threads run" in refused.stderr.read()


def test_without_a_server_nothing_is_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert warm.ask([]) is None
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(warm.SOCKET)
    assert warm.ask([]) is None, "a socket that a killed server left"
