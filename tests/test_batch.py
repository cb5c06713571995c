"""The batch, on notebooks that train nothing: what runs again, what a failure and what a kill leave."""

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

from peftlib import study
from peftlib.batch import front, parameters, site, worker
from peftlib.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[1]
DRIVER = """
import json, sys
from pathlib import Path
from peftlib.batch import front
plan = json.loads(Path(sys.argv[1]).read_text())
sys.exit(front.run(plan, Path(sys.argv[2]), front.Options(jobs=2), tuple(sys.argv[3:])))
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
PAGE = """
from pathlib import Path
if Path(folder, "broken").exists() and name == "fragile":
    raise ValueError("the reason " + "it gives")
texts = sorted(record.read_text() for record in Path(folder).glob("*.json"))
print(len(texts), "records", texts)
"""


def notebook(path: Path, defaults: str, code: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_markdown_cell(f"# {path.stem}"),
             nbformat.v4.new_code_cell(defaults, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(code)]
    book = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {
        "name": "python3", "display_name": "Python 3", "language": "python"}})
    nbformat.write(book, path)
    return path


class Project:
    """A repository in miniature: two training jobs of `runs` runs each, two pages, a book."""

    def __init__(self, root: Path, runs: int = 1, seconds: float = 0.0):
        self.root, self.build, self.folder = root, root / "_build" / "tiny", root / "records"
        self.folder.mkdir(parents=True)
        shutil.copy(REPOSITORY / "Snakefile", root)
        train = notebook(root / "notebooks/train.ipynb", 'shard = 0\nfolder = "."\nruns = 1\nseconds = 0.0', TRAIN)
        self.pages = {name: notebook(root / f"notebooks/{name}.ipynb", 'folder = "."\nname = ""', PAGE)
                      for name in ("sturdy", "fragile")}
        (root / "_config.yml").write_text("title: tiny\nauthor: nobody\nexecute:\n  execute_notebooks: 'off'\n")
        (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n" + "".join(
            f"- file: notebooks/{name}\n" for name in self.pages))
        (root / "book").mkdir()
        (root / "book/index.md").write_text("# Tiny\n")
        self.records = [[self.folder / f"{shard}-{i}.json" for i in range(runs)] for shard in range(2)]
        jobs = {f"tiny/table-{shard + 1}of2": {
            "parameters": {"shard": shard, "folder": str(self.folder), "runs": runs, "seconds": seconds},
            "inputs": [str(train)], "records": [str(r) for r in records], "gpu": 0, "mem_mb": 100, "minutes": 1}
            for shard, records in enumerate(self.records)}
        pages = {f"notebooks/{name}": {"parameters": {"folder": str(self.folder), "name": name}, "inputs": [str(path)],
                                       "records": [str(r) for records in self.records for r in records]}
                 for name, path in self.pages.items()}
        self.plan = root / "plan.json"
        self.plan.write_text(json.dumps({"root": str(root), "train": jobs, "pages": pages,
                                         "sources": [str(file) for file in site.sources(root)]}))

    def command(self, *halves: str) -> list[str]:
        return [sys.executable, "-c", DRIVER, str(self.plan), str(self.build), *(halves or ("train", "book"))]

    def run(self, *halves: str) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*halves), capture_output=True, text=True, timeout=600)

    def trained(self) -> list[str]:
        trace = self.folder / "trace"
        return sorted(trace.read_text().split()) if trace.exists() else []

    def made(self) -> dict[str, int]:
        """Executed notebooks and the book, with when they were written."""
        notebooks = [*self.build.glob("train/**/*.ipynb"), *self.build.glob("pages/**/*.ipynb")]
        files = [*notebooks, site.index(self.build / "site")]
        return {file.relative_to(self.build).as_posix(): file.stat().st_mtime_ns for file in files if file.exists()}


@pytest.mark.slow
def test_only_what_changed_runs_again(tmp_path):
    project = Project(tmp_path)
    first = project.run()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "[2/2]" in first.stdout and "[3/3]" in first.stdout, "one line a finished job, with the total"
    assert str(site.index(project.build / "site")) in first.stdout
    before = project.made()
    assert len(before) == 5

    second = project.run()
    assert second.returncode == 0
    assert project.made() == before and "[1/" not in second.stdout, "a second run found something to do"

    project.records[1][0].unlink()
    assert project.run().returncode == 0
    after = project.made()
    same = {name for name in before if after[name] == before[name]}
    assert same == {"train/tiny/table-1of2.ipynb"}, "what runs again: the lost record's job, its readers, the book"
    assert project.trained() == ["0-0.json", "1-0.json", "1-0.json"]


@pytest.mark.slow
def test_a_failing_notebook_stops_no_other(tmp_path):
    project = Project(tmp_path)
    (project.folder / "broken").touch()
    failed = project.run()
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


def find(processes: list[psutil.Process], word: str) -> psutil.Process:
    return next(p for p in processes if word in " ".join(p.cmdline()))


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_amidst(project: Project, victim: str) -> list[str]:
    """Start training, kill `victim` once there is a new record, wait until all is gone; names of the records before."""
    known = len(list(project.folder.glob("*.json")))
    batch = subprocess.Popen(project.command("train"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    family = []
    try:
        until(lambda: len(list(project.folder.glob("*.json"))) > known, 240, "a new record")
        family = [psutil.Process(batch.pid), *psutil.Process(batch.pid).children(recursive=True)]
        finished = [record.name for record in project.folder.glob("*.json")]
        (family[0] if victim == "front" else find(family, victim)).send_signal(signal.SIGKILL)
        until(lambda: batch.poll() is not None, 240, "the batch has ended")
        until(lambda: not any(map(alive, family)), 30, "no orphan left")
    finally:
        for process in family:
            if alive(process):
                process.kill()
        batch.wait()
    return finished


@pytest.mark.slow
@pytest.mark.parametrize("victims", [("front", "worker"), ("snakemake", "ipykernel")], ids="+".join)
def test_kills_lose_no_finished_run_and_leave_no_orphan(tmp_path, victims):
    project = Project(tmp_path, runs=4, seconds=0.8)
    finished = [name for victim in victims for name in kill_amidst(project, victim)]
    again = project.run("train")
    assert again.returncode == 0, again.stdout + again.stderr
    trained = project.trained()
    assert set(trained) == {record.name for records in project.records for record in records}
    assert all(trained.count(name) == 1 for name in finished), "a finished run was trained again"


@pytest.mark.parametrize("preset", ["smoke", "quick", "published"])
def test_the_plan_trains_every_run_once(tmp_path, preset):
    plan = front.make_plan(preset, REPOSITORY, tmp_path)
    planned = [record for job in plan["train"].values() for record in job["records"]]
    assert len(planned) == len(set(planned))
    assert {record for page in plan["pages"].values() for record in page["records"]} <= set(planned)
    for job in study.plan(preset):
        trained = study.shard_of(study.own_runs(job.experiment, preset), job.shard, job.shards)
        assert [run.digest for run in trained] == list(job.digests), "notebooks/train.ipynb would train others"


def test_an_unknown_preset_is_refused(tmp_path):
    with pytest.raises(UsageError, match="'qiuck'.*quick"):
        front.make_plan("qiuck", REPOSITORY, tmp_path)


def test_two_batches_do_not_share_a_folder(tmp_path):
    with front.alone(tmp_path):
        code = "import pathlib, sys\nfrom peftlib.batch import front\nwith front.alone(pathlib.Path(sys.argv[1])): pass"
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert other.returncode != 0 and "another batch is running" in other.stderr


@pytest.mark.parametrize("given, message", [
    ({"prest": "quick"}, "unknown parameter 'prest', did you mean 'preset'"),
    ({"preset": 3}, "preset = 3 is of type int, expected str"),
    ({"lr": "1e-3"}, "lr = '1e-3' is of type str, expected float"),
    ({"train": 1}, "train = 1 is of type int, expected bool"),
    ({"epochs": True}, "epochs = True is of type bool, expected int"),
])
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
    path = notebook(tmp_path / "a.ipynb", 'lr = 1e-4\nlimit = None', "")
    parameters.check(path, {"lr": 1, "limit": 5})
    assert parameters.main([str(path), "-p", "lr", "1e-3"]) == 0


def test_progress_reads_snakemake():
    progress = front.Progress()
    lines = ["train          2", "trained        1", "total          3", "Job 4: tiny/table-1of2",
             "Job 5: notebooks/a", "Error in rule page:", "    message: None", "    jobid: 5",
             "Finished jobid: 4 (Rule: train)"]
    said = [line for line in map(progress.feed, lines) if line]
    assert said[0].startswith("[1/2]") and said[0].endswith("FAILED notebooks/a")
    assert said[1].startswith("[2/2]") and said[1].endswith("done   tiny/table-1of2")


def test_jobs_compute_in_the_precision_that_was_planned():
    from peftlib import study

    assert front.environment(front.Options(executor="slurm"))["PEFTLIB_PRECISION"] == study.native_precision()


def test_threads_are_shared_out():
    assert front.environment(front.Options(jobs=2))["OMP_NUM_THREADS"] == "1"
    assert front.environment(front.Options(jobs=1)).get("OMP_NUM_THREADS") == os.environ.get("OMP_NUM_THREADS")
    cluster = front.Options(jobs=50, executor="slurm", extra=("--default-resources", "slurm_account=x")).arguments()
    assert cluster[:4] == ["--executor", "slurm", "--jobs", "50"] and cluster[-1] == "slurm_account=x"
