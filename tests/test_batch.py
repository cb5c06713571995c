"""The batch, on notebooks that train nothing: what runs again, what a failure and what a kill leave."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from peftlib import grids, records
from peftlib.batch import front, parameters, site, worker
from peftlib.batch import plan as planning
from peftlib.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[1]
DRIVER = """
import json, sys
from pathlib import Path
from peftlib import grids, provenance
from peftlib.batch import forecast, front
from peftlib.batch import plan as planning
plan = json.loads(Path(sys.argv[1]).read_text())
front.make_plan, planning.make_ready = lambda *_: plan, lambda _: None
forecast.announced = lambda *_: None
sys.exit(front.main(["--preset", "tiny", *sys.argv[2:]]))
"""
TRAIN = """
import time
from pathlib import Path
for i in range(runs):
    record = Path(folder) / f"{shard}-{i}.json"
    if record.exists():
        continue
    time.sleep(seconds)
    with open(Path(folder) / "trace", "a") as trace:
        trace.write(record.name + "\\n")
    scratch = record.with_suffix(".tmp")
    scratch.write_text(str(time.time()))  # Snakemake goes by the content of small files: a new record differs
    scratch.rename(record)
"""
BOTH = """
import os, time
from pathlib import Path
Path(folder, f"seen-{shard}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
end = time.monotonic() + 120
while len(list(Path(folder).glob("seen-*"))) < 2 and time.monotonic() < end:
    time.sleep(0.1)
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from peftlib import records
with records.replacing(Path(sys.argv[1])) as record, records.replacing(Path(sys.argv[2])) as checkpoint:
    record.write(b"half of it")
    os.kill(os.getpid(), signal.SIGKILL)
"""
PAGE = """
from pathlib import Path
if Path(folder, "broken").exists() and name == "fragile":
    raise ValueError("the reason " + "it gives")
texts = sorted(record.read_text() for record in Path(folder).glob("*.json"))
print(len(texts), "records", texts)
"""


def notebook(path: Path, defaults: str, code: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [
        nbformat.v4.new_markdown_cell(f"# {path.stem}"),
        nbformat.v4.new_code_cell(defaults, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    book = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    nbformat.write(book, path)
    return path


class Project:
    """A repository in miniature: two training jobs of `runs` runs each, two pages, a book."""

    def __init__(self, root: Path, runs: int = 1, seconds: float = 0.0):
        self.root, self.build, self.folder = root, root / "_build" / "tiny", root / "records"
        self.folder.mkdir(parents=True)
        for name in ("Snakefile", "Makefile"):
            shutil.copy(REPOSITORY / name, root)
        train = notebook(root / "notebooks/train.ipynb", 'shard = 0\nfolder = "."\nruns = 1\nseconds = 0.0', TRAIN)
        self.pages = {
            name: notebook(root / f"notebooks/{name}.ipynb", 'folder = "."\nname = ""', PAGE)
            for name in ("sturdy", "fragile")
        }
        (root / "_config.yml").write_text("title: tiny\nauthor: nobody\nexecute:\n  execute_notebooks: 'off'\n")
        (root / "_toc.yml").write_text(
            "format: jb-book\nroot: book/index\nchapters:\n" + "".join(f"- file: notebooks/{name}\n" for name in self.pages)
        )
        (root / "book").mkdir()
        (root / "book/index.md").write_text("# Tiny\n")
        self.records = [[self.folder / f"{shard}-{i}.json" for i in range(runs)] for shard in range(2)]
        jobs = {
            f"tiny/table-{shard + 1}of2": {
                "parameters": {"shard": shard, "folder": str(self.folder), "runs": runs, "seconds": seconds},
                "notebook": str(train),
                "records": [str(r) for r in records],
                "after": [],
                "gpu": 0,
                "mem_mb": 100,
                "minutes": 1,
            }
            for shard, records in enumerate(self.records)
        }
        pages = {
            f"notebooks/{name}": {
                "parameters": {"folder": str(self.folder), "name": name},
                "notebook": str(path),
                "shows": "0",
                "records": [str(r) for made in self.records for r in made],
            }
            for name, path in self.pages.items()
        }
        self.plan = root / "plan.json"
        self.plan.write_text(
            json.dumps(
                {"root": str(root), "train": jobs, "pages": pages, "sources": [str(file) for file in site.sources(root)]}
            )
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", DRIVER, str(self.plan), *arguments]

    def environment_with_driver(self) -> Path:
        """For make: a virtual environment whose `python -m peftlib.batch ARGUMENTS` is the driver."""
        python = self.root / "env" / "bin" / "python"
        python.parent.mkdir(parents=True)
        (self.root / "driver.py").write_text(DRIVER)
        python.write_text(f'#!/bin/sh\nshift 4\nexec {sys.executable} driver.py plan.json "$@"\n')  # -m ... --preset tiny
        python.chmod(0o755)
        return self.root / "env"

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PEFTLIB_ROOT": str(self.root), **more}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=600,
            cwd=self.root,
            env=self.environment(**environment),
        )

    def trained(self) -> list[str]:
        trace = self.folder / "trace"
        return sorted(trace.read_text().split()) if trace.exists() else []

    def made(self) -> dict[str, int]:
        """Executed notebooks and the book, with when they were written."""
        notebooks = [*self.build.glob("train/**/*.ipynb"), *self.build.glob("pages/**/*.ipynb")]
        files = [*notebooks, site.index(self.build / "site")]
        return {file.relative_to(self.build).as_posix(): file.stat().st_mtime_ns for file in files if file.exists()}


ODD = "a {job} #b c 'd' \"e\" $f \\g %h ü [i]*?&;"  # what a folder may be called
HOSTILE = {
    "SNAKEMAKE_PROFILE": "cluster",
    "HOME": "/dev/null/nowhere",
    "TMPDIR": "/dev/null/nowhere",
    "PYTHONSTARTUP": "/dev/null/nowhere",
    "JUPYTER_PATH": "/dev/null",
    "IPYTHONDIR": "/dev/null",
    "MPLBACKEND": "none",
}


@pytest.mark.slow
def test_only_what_changed_runs_again(tmp_path):
    project = Project(tmp_path / ODD)
    first = project.run()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "[2/2]" in first.stdout and "[3/3]" in first.stdout, "one line a finished job, with the total"
    assert str(site.index(project.build / "site")) in first.stdout
    before = project.made()
    assert len(before) == 5

    second = project.run()
    assert second.returncode == 0
    assert project.made() == before and "nothing to do" in second.stdout, "a second run found something to do"

    project.records[1][0].unlink()
    assert project.run().returncode == 0
    after = project.made()
    same = {name for name in before if after[name] == before[name]}
    assert same == {"train/tiny/table-1of2.ipynb"}, "what runs again: the lost record's job, its readers, the book"
    assert project.trained() == ["0-0.json", "1-0.json", "1-0.json"]

    page, tomorrow, plan = project.pages["sturdy"], time.time() + 86400, json.loads(project.plan.read_text())
    page.write_text(page.read_text().replace("# sturdy", "# changed"))
    os.utime(page, (0, 0))
    os.utime(project.pages["fragile"], (tomorrow, tomorrow))
    for name in (*after, "book.done"):
        os.utime(project.build / name, (tomorrow, tomorrow))
    last = project.run()
    assert last.returncode == 0 and "[2/2]" in last.stdout, last.stdout + last.stderr
    html = site.index(project.build / "site").parent / "notebooks" / "sturdy.html"
    assert "changed" in html.read_text(), "contents decide, not dates"

    before = project.made()
    plan["pages"]["notebooks/fragile"]["shows"] = "1"
    project.plan.write_text(json.dumps(plan))
    assert project.run().returncode == 0
    again = {name for name, when in project.made().items() if when != before[name]}
    assert {name for name in again if name.startswith("pages/")} == {"pages/notebooks/fragile.ipynb"}


@pytest.mark.slow
def test_a_job_waits_for_those_whose_runs_its_own_begin_from(tmp_path):
    project = Project(tmp_path, seconds=0.5)
    plan = json.loads(project.plan.read_text())
    plan["train"]["tiny/table-1of2"]["after"] = ["tiny/table-2of2"]
    project.plan.write_text(json.dumps(plan))
    assert project.run("--only", "train").returncode == 0
    assert (project.folder / "trace").read_text().split() == ["1-0.json", "0-0.json"]
    project.records[1][0].unlink()  # trained again, it makes no other run again: what does not stand is put aside before
    assert project.run("--only", "train").returncode == 0
    assert (project.folder / "trace").read_text().split() == ["1-0.json", "0-0.json", "1-0.json"]

    for record in (project.records[0][0], project.records[1][0]):
        record.unlink()
    plan["train"]["tiny/table-2of2"]["parameters"]["folder"] = str(tmp_path / "gone")
    project.plan.write_text(json.dumps(plan))
    failed = project.run("--only", "train")
    assert failed.returncode == 1 and "failed: tiny/table-1of2" in failed.stdout and not project.records[0][0].exists()


@pytest.mark.slow
def test_a_failing_notebook_stops_no_other_in_whatever_surroundings(tmp_path):
    project = Project(tmp_path)
    (project.folder / "broken").touch()
    failed = project.run(**HOSTILE)
    assert failed.returncode == 1
    assert "failed: notebooks/fragile" in failed.stdout and "ValueError: the reason it gives" in failed.stdout
    assert "notebooks/sturdy" not in failed.stdout.partition("failed:")[2]
    html = site.index(project.build / "site").parent / "notebooks"
    assert "2 records" in (html / "sturdy.html").read_text()
    assert "the reason it gives" in (html / "fragile.html").read_text()

    (project.folder / "broken").unlink()
    before = project.made()
    mended = project.run()
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert project.made()["pages/notebooks/sturdy.ipynb"] == before["pages/notebooks/sturdy.ipynb"]
    assert "the reason it gives" not in (html / "fragile.html").read_text()


def until(condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        time.sleep(0.1)


def having(word: str, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have a word in their command line."""

    def line(process: psutil.Process) -> str:
        try:
            return " ".join(process.cmdline())
        except psutil.Error:  # it has ended
            return ""

    return [process for process in processes if word in line(process)]


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def started(project: Project, ready, command: list[str] | None = None, **environment: str):
    """The processes of a batch that trains, the first the one that was started, once it is ready; none is left after."""
    batch = subprocess.Popen(
        command or project.command("--only", "train"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=project.root,
        env=project.environment(**environment),
    )
    family = [first := psutil.Process(batch.pid)]
    try:
        until(lambda: ready(first), 240, "ready")
        family += first.children(recursive=True)
        yield family
    finally:
        for process in filter(alive, family):
            process.kill()
        batch.wait()


def kill_amidst(project: Project, victim: str) -> list[str]:
    """Start training, kill `victim` once there is a new record, wait until all is gone; names of the records before."""
    known = len(list(project.folder.glob("*.json")))
    with started(project, lambda _: len(list(project.folder.glob("*.json"))) > known) as family:
        finished = [record.name for record in project.folder.glob("*.json")]
        (family[0] if victim == "front" else having(victim, family)[0]).send_signal(signal.SIGKILL)
        until(lambda: not any(map(alive, family)), 240, "the batch has ended, with no orphan left")
    return finished


@pytest.mark.slow
@pytest.mark.parametrize("victims", [("front", "worker"), ("snakemake", "ipykernel")], ids="+".join)
def test_kills_lose_no_finished_run_and_leave_no_orphan(tmp_path, victims):
    project = Project(tmp_path, runs=4, seconds=0.8)
    finished = [name for victim in victims for name in kill_amidst(project, victim)]
    again = project.run("--only", "train")
    assert again.returncode == 0, again.stdout + again.stderr
    trained = project.trained()
    assert set(trained) == {record.name for records in project.records for record in records}
    assert all(trained.count(name) == 1 for name in finished), "a finished run was trained again"


@pytest.mark.slow
@pytest.mark.parametrize(
    "victim, signum",
    [
        ("front", signal.SIGINT),
        ("snakemake", signal.SIGTERM),
        ("snakemake", signal.SIGINT),
        ("make", signal.SIGTERM),
        ("make", signal.SIGKILL),
    ],
)
def test_a_signal_to_any_part_of_the_batch_ends_all_of_it(tmp_path, victim, signum):
    project = Project(tmp_path, seconds=600)
    make = ["make", "train", "PRESET=tiny", f"VENV={project.environment_with_driver()}"]

    def computing(first: psutil.Process) -> bool:
        return len(having("ipykernel", first.children(recursive=True))) == 2

    with started(project, computing, make if victim == "make" else None) as family:
        (having("snakemake", family)[0] if victim == "snakemake" else family[0]).send_signal(signum)
        until(lambda: not any(map(alive, family)), 20, "all has ended")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_on_a_cluster_are_cancelled(tmp_path, signum):
    project, told = Project(tmp_path), tmp_path / "told"
    for name in ("sbatch", "scancel", "sacct", "sacctmgr", "scontrol", "sinfo", "squeue"):  # a cluster that never begins
        script = tmp_path / "slurm" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\necho {name} >> "{told}"\necho {4242 if name == "sbatch" else "ours"}\n')
        script.chmod(0o755)
    command = project.command(
        "--only", "train", "--executor", "slurm", "--", "--default-resources", "slurm_account=ours", "slurm_partition=gpu"
    )

    def said(word: str, times: int) -> bool:
        return told.exists() and told.read_text().split().count(word) == times

    with started(
        project, lambda _: said("sbatch", 2), command, PATH=f"{tmp_path / 'slurm'}:{os.environ['PATH']}"
    ) as family:
        family[0].send_signal(signum)
        until(lambda: said("scancel", 1), 30, "both jobs are cancelled, in one call")


@pytest.mark.parametrize("preset", ["smoke", "quick", "published"])
def test_the_plan_trains_every_run_once(tmp_path, preset):
    plan = front.make_plan(preset, REPOSITORY, tmp_path)
    planned = [record for job in plan["train"].values() for record in job["records"]]
    assert len(planned) == len(set(planned))
    assert {record for page in plan["pages"].values() for record in page["records"]} <= set(planned)
    own_runs = functools.cache(lambda experiment, generation: planning.own_runs(experiment, preset, generation))
    for job in planning.jobs(preset):
        trained = planning.shard_of(own_runs(job.experiment, job.generation), job.shard, job.shards)
        assert [run.digest for run in trained] == list(job.digests), "notebooks/train.ipynb would train others"


def test_a_start_cleans_up_after_kills(tmp_path):
    project = Project(tmp_path)
    plan, checkpoints = json.loads(project.plan.read_text()), project.build / "checkpoints"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(project.folder / "1-0.json"), str(checkpoints / "1-0.pt")])
    assert killed.returncode == -signal.SIGKILL
    left = [*project.folder.glob(".1-0.json.*"), *checkpoints.glob(".1-0.pt.*")]
    assert len(left) == 2, "the test made no scratch files"
    for name in ("0-0", "1-0", "of-another-plan"):
        (checkpoints / f"{name}.pt").touch()
    project.records[0][0].touch()
    with records.replacing(project.folder / "of-a-living-writer.json") as file:
        front.clean(plan, project.build)
        file.write(b"whole")
    assert not any(map(Path.exists, left))
    assert [file.name for file in checkpoints.iterdir()] == ["1-0.pt"], "that of the one run that is wanted and unfinished"
    assert {file.name for file in project.folder.iterdir()} == {"0-0.json", "of-a-living-writer.json"}


def test_scratch_files_of_other_machines_stay_for_a_day(tmp_path):
    young, old, foreign = (tmp_path / name for name in (".a.json.node7-1.abcdefgh", ".b.json.abcdefgh", ".gitignore"))
    for file in (young, old, foreign):
        file.touch()
    for file in (old, foreign):
        os.utime(file, (0, 0))
    records.remove_scratch(tmp_path)
    assert young.exists() and foreign.exists() and not old.exists()


def test_the_end_of_a_log_is_plain_text_of_bounded_size(tmp_path):
    log = tmp_path / "log"
    coloured = b"\x1b[31;1mred\x1b[0m \xff\x1b]0;title\x07\x00 10 %\r20 %"
    log.write_bytes(b"\n".join([b"first", b"x" * 10**7, coloured, b"last \xc3\xbc", b"", b""]))
    said = site.tail(log, 4).splitlines()
    assert said[1:] == ["red \N{REPLACEMENT CHARACTER} 10 %", "20 %", "last ü"]
    assert said[0].startswith("... x") and len(said[0]) == site.WIDEST


@pytest.mark.parametrize("variable", ["PRESET", "JOBS", "EXECUTOR"])
def test_make_hands_a_value_on_as_it_is(tmp_path, variable):
    project = Project(tmp_path)
    python = project.environment_with_driver() / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    value = "a b'; touch broken; \"`touch broken`"
    made = subprocess.run(
        ["make", "-s", "train", "VENV=env", f"{variable}={value}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert f"<--{variable.lower()}><{value}>" in made.stdout, made
    assert not (tmp_path / "broken").exists()


def test_arguments_that_snakemake_does_not_know_are_refused(tmp_path):
    refused = Project(tmp_path).run("--", "--nonsense")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused
    assert "unrecognized arguments: --nonsense" in refused.stderr, refused


@pytest.mark.parametrize(
    "given, message",
    [
        ({"prest": "quick"}, "unknown parameter 'prest', did you mean 'preset'"),
        ({"preset": 3}, "preset = 3 is of type int, expected str"),
        ({"lr": "1e-3"}, "lr = '1e-3' is of type str, expected float"),
        ({"train": 1}, "train = 1 is of type int, expected bool"),
        ({"epochs": True}, "epochs = True is of type bool, expected int"),
    ],
)
def test_parameters_are_refused_before_a_kernel_starts(tmp_path, given, message):
    path = notebook(tmp_path / "a.ipynb", 'preset: str = "smoke"\ntrain = True\nlr = 1e-4\nepochs = 3', "")
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parameters.check(path, given)
    assert parameters.main([str(path), *[word for k, v in given.items() for word in ("-p", k, repr(v))]]) == 2
    assert not worker.run(path, tmp_path / "out.ipynb", tmp_path / "log", given, tmp_path)
    assert "Executing" not in (tmp_path / "log").read_text() and not (tmp_path / "out.ipynb").exists()


def test_a_kernel_that_dies_at_its_start_is_started_again(tmp_path, monkeypatch):
    path = notebook(tmp_path / "a.ipynb", "lr = 1e-4", "")
    deaths = ["Kernel died before replying to kernel_info"] * 2 + ["something else"]

    def execute(*args, **options):
        raise RuntimeError(deaths.pop(0))

    monkeypatch.setattr("papermill.execute_notebook", execute)
    assert not worker.run(path, tmp_path / "out.ipynb", tmp_path / "log", {}, tmp_path)
    assert not deaths and "something else" in (tmp_path / "log").read_text()


def test_parameters_that_fit_are_admitted(tmp_path):
    path = notebook(tmp_path / "a.ipynb", "lr = 1e-4\nlimit = None", "")
    parameters.check(path, {"lr": 1, "limit": 5})
    assert parameters.main([str(path), "-p", "lr", "1e-3"]) == 0


def test_progress_reads_snakemake():
    progress = front.Progress()
    lines = [
        "train          2",
        "trained        1",
        "total          3",
        "Job 4: tiny/table-1of2",
        "Job 5: notebooks/a",
        "Error in rule page:",
        "    message: None",
        "    jobid: 5",
        "Finished jobid: 4 (Rule: train)",
    ]
    said = [line for line in map(progress.feed, lines) if line]
    assert said[0].startswith("[1/2]") and said[0].endswith("FAILED notebooks/a")
    assert said[1].startswith("[2/2]") and said[1].endswith("done   tiny/table-1of2")


def surroundings(**options) -> dict[str, str]:
    return front.environment(front.Options(**options), Path("/clone"), Path("/clone/_build/tiny"))


def test_jobs_compute_in_the_precision_that_was_planned():
    assert surroundings(executor="slurm")["PEFTLIB_PRECISION"] == grids.native_precision()


def test_jobs_compute_in_one_thread_however_many_there_are(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("MKL_NUM_THREADS", "4")
    for jobs, executor in ((1, "local"), (2, "local"), (50, "slurm")):
        seen = surroundings(jobs=jobs, executor=executor)
        assert seen["OMP_NUM_THREADS"] == "1" and "MKL_NUM_THREADS" not in seen


def test_what_the_shell_holds_for_other_work_decides_nothing(monkeypatch):
    foreign = (
        "SNAKEMAKE_PROFILE",
        "JUPYTER_PATH",
        "PYTHONSTARTUP",
        "MATPLOTLIBRC",
        "MPLBACKEND",
        "SPHINXOPTS",
        "ACCELERATE_MIXED_PRECISION",
        "PAPERMILL_X",
    )
    for name in (*foreign, "SNAKEMAKE_SLURM_PARTITIONS", "HF_TOKEN", "PATH"):
        monkeypatch.setenv(name, "left over")
    assert not set(foreign) & set(surroundings())
    assert "SNAKEMAKE_SLURM_PARTITIONS" not in surroundings(), "no setting of what is not asked for"
    assert {"SNAKEMAKE_SLURM_PARTITIONS", "HF_TOKEN", "PATH"} <= set(surroundings(executor="slurm"))


def test_arguments_after_two_dashes_come_last():
    cluster = front.Options(jobs=50, executor="kubernetes", extra=("--default-resources", "cpu=2")).arguments()
    assert cluster[:4] == ["--executor", "kubernetes", "--jobs", "50"] and cluster[-1] == "cpu=2"


def test_kernels_are_of_this_interpreter(tmp_path, monkeypatch):
    rogue = tmp_path / "kernels" / "python3"
    rogue.mkdir(parents=True)
    (rogue / "kernel.json").write_text(json.dumps({"argv": ["false"], "display_name": "rogue", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    code = "import sys\nfrom pathlib import Path\nPath(out).write_text(sys.executable)"
    path = notebook(tmp_path / "a.ipynb", "out = ''", code)
    assert worker.run(path, tmp_path / "out.ipynb", tmp_path / "log", {"out": str(tmp_path / "said")}, tmp_path)
    assert (tmp_path / "said").read_text() == sys.executable


# --- several GPUs -----------------------------------------------------------------------------------------------------
def test_jobs_have_the_gpus_in_turn(tmp_path):
    """Three at work on two, and a fourth after one has ended."""
    working = [worker.turn(tmp_path, ["4", "7"]) for _ in range(3)]
    assert [gpu for gpu, _ in working] == ["4", "7", "4"]
    working[1][1].close()
    gpu, held = worker.turn(tmp_path, ["4", "7"])
    assert gpu == "7"
    for file in (held, *(file for _, file in working)):
        file.close()


@pytest.mark.parametrize(
    "visible, files, expected", [(None, 2, ["0", "1"]), (None, 0, []), ("4, GPU-5f", 8, ["4", "GPU-5f"]), ("", 8, [])]
)
def test_gpus_are_those_that_the_shell_lets_jobs_see(monkeypatch, visible, files, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(range(files)))
    assert front.gpus() == expected
    assert f"gpu={max(1, len(expected))}" in front.Options().arguments()


@pytest.mark.slow
def test_each_training_job_sees_a_gpu_of_its_own(tmp_path):
    """Two jobs at a time, neither of which ends before the other has begun."""
    project = Project(tmp_path)
    notebook(tmp_path / "notebooks/train.ipynb", 'shard = 0\nfolder = "."\nruns = 1\nseconds = 0.0', BOTH + TRAIN)
    done = project.run("--only", "train", CUDA_VISIBLE_DEVICES="4,7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(file.read_text() for file in project.folder.glob("seen-*")) == ["4", "7"]


@pytest.mark.parametrize(
    "preset, only, gpu, data, expected",
    [
        ("published", None, True, True, ("train", "book")),
        ("published", None, False, True, ("book",)),
        ("published", None, True, False, ("book",)),
        ("published", "train", False, False, ("train",)),
        ("quick", None, False, False, ("train", "book")),
    ],
)
def test_the_published_runs_that_are_missing_are_trained_where_a_gpu_does_it_in_minutes(
    tmp_path, monkeypatch, preset, only, gpu, data, expected
):
    monkeypatch.setattr(front, "has_gpu", lambda: gpu)
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path) if data else "")
    assert front.halves_of(preset, only) == expected
