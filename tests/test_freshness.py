"""What makes a record stale, a training job run again and a page be rendered again: a change of what it rests on, alone."""

import ast
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from peftlib import catalogue, cli, closure, grids, provenance
from peftlib.accounting import counted, counting, estimated
from peftlib.accounting.estimate import estimate
from peftlib.backbones import anatomy_of
from peftlib.batch import front, plan, shown
from peftlib.comparison import METHOD_RUNS
from peftlib.kept import kept, state_of
from peftlib.report import evidence

REPOSITORY = Path(__file__).resolve().parents[1]
COMMENT = "\n# A word.\n"
CODE = "\nX_NEW = 1\n"
ON_BOTTLENECKS = {
    "AdaptBertAdapter",
    "LoRA+Adapter",
    "Houlsby",
    "PfeifferAttention",
    "PfeifferFFN",
    "AdapterDrop",
    "AdapterLowRank",
    "PHMAdapter",
    "Compacter",
    "CompacterPlusPlus",
    "ParallelAdapter",
    "AdaMix",
    "XPEFT",
    "MAM",
    "UniPELT",
    "SparseAdapter",
    "AdaptBertHypernet",
    "HyperFormer",
    "HyperFormerPlusPlus",
    "TaskAdapters",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    copy = tmp_path_factory.mktemp("sources") / "peftlib"
    return Path(shutil.copytree(closure.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def package(whole, monkeypatch):
    """A copy of the package's sources, to be edited."""
    before = {file: file.read_bytes() for file in whole.rglob("*.*")}
    monkeypatch.setattr(closure, "PACKAGE", whole)
    yield whole
    for file in {*whole.rglob("*.*")} - {*before}:
        file.unlink()
    for file, content in before.items():
        if not file.exists() or file.read_bytes() != content:
            file.write_bytes(content)


def add(file: Path, text: str = "\nX_NEW = 1\n") -> None:
    file.write_text(file.read_text() + text)


def run(method: str = "Houlsby()", task: str = "sst", source: str = "embedded") -> grids.Run:
    return grids.make_run(dataclasses.replace(grids.get_preset("smoke"), source=source), method, (task,))


def stale(wanted: grids.Run, then: dict) -> list[str]:
    return provenance.changed_sources({"sources": then}, provenance.sources_of(wanted))


# --- records ----------------------------------------------------------------------------------------------------------
def test_what_computes_nothing_stales_nothing(package):
    """Hints of functions, imports for them, and what a method says of itself; a class's own hints make dataclasses."""
    file = package / "methods/base.py"
    code = """
if TYPE_CHECKING:
    from torch import Tensor


class Own:
    size: int = 1{about}

    def twice(self, x{hint}){back}:
        y{hint} = 2 * x
        return y
"""
    add(file, code.format(about="", hint="", back=""))
    then = provenance.sources_of(run())
    source = file.read_text()
    file.write_text(
        source.replace(
            code.format(about="", hint="", back=""),
            code.format(about='\n    about = {"name": "own"}', hint=": int", back=" -> Tensor").replace(
                "Tensor\n\n\n", "nn\n\n\n", 1
            ),
        )
    )
    assert stale(run(), then) == []
    file.write_text(source.replace("size: int = 1", "size: float = 1"))
    assert stale(run(), then) == ["methods/base.py"]


def test_what_is_imported_for_hints_alone_stales_nothing(package):
    file = package / "names.py"
    then, text = closure.digests(["names.py"]), file.read_text()
    hints = "if typing.TYPE_CHECKING:\n    from torch import Tensor\n"
    file.write_text(text.replace("import re\n", f"import re\nimport typing\n\n{hints}\n"))
    assert file.read_text() != text and closure.digests(["names.py"]) == then
    add(file, "\nif typing.TYPE_CHECKING:\n    pass\nelse:\n    re = None\n")  # which runs
    assert closure.digests(["names.py"]) != then


def test_what_changed_is_named(package):
    then = provenance.sources_of(run())
    assert stale(run(), then) == []
    add(package / "model.py")
    (package / "methods/adapters/bottleneck.py").rename(package / "methods/adapters/neck.py")
    houlsby = package / "methods/adapters/houlsby.py"
    houlsby.write_text(houlsby.read_text().replace("adapters.bottleneck", "adapters.neck"))
    assert stale(run(), then) == [
        "methods/adapters/bottleneck.py",
        "methods/adapters/houlsby.py",
        "methods/adapters/neck.py",
        "model.py",
    ]


def test_status_says_what_changed_since_which_runs(capsys, monkeypatch):
    words = {"done": 1, "stale": 1, "missing": 0}
    rows = [
        {"paper": "a", "experiment": "a/old", **words, "changed": ["model.py", "edits.py"]},
        {"paper": "a", "experiment": "a/new", **words, "stale": 0, "changed": []},
        {"paper": "a", "experiment": "a/older", **words, "changed": ["model.py", "edits.py"]},
    ]
    monkeypatch.setattr(plan, "status", lambda name: rows)
    assert cli.main(["status", "--preset", "smoke"]) == 0
    table, last = capsys.readouterr().out.strip().rsplit("\n", 1)
    assert last == "smoke: changed since the stale runs of a/old, a/older: model.py, edits.py" and "model.py" not in table
    cli.main(["status", "--preset", "smoke", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["changed"] == ["model.py", "edits.py"]


@pytest.mark.parametrize(
    "edit",
    {
        "comment": lambda text: "# A word.\n" + text.replace("\n\n\n", "\n\n\n# More words.\n"),
        "docstring": lambda text: text.replace('"""', '"""Another word. ', 1).replace('    """', '    """And one. ', 1),
        "line ends": lambda text: text.replace("\n", "\r\n"),
        "formatting": lambda text: ast.unparse(ast.parse(text)),  # nor comments nor blank lines nor brackets as they were
    }.items(),
    ids=lambda edit: edit[0],
)
def test_comments_and_formatting_stale_nothing(edit, package):
    then = provenance.sources_of(run())
    for file in then:
        text = (package / file).read_text()
        (package / file).write_bytes(edit[1](text).encode())
        assert (package / file).read_bytes() != text.encode()
    assert stale(run(), then) == []


def test_an_empty_text_in_a_format_is_no_code():
    """Which is all in which the Pythons read our sources differently."""
    trees = [ast.parse('f"{number:{width}} wide"') for _ in range(2)]
    trees[0].body[0].value.values[0].format_spec.values.append(ast.Constant(""))
    one, other = (list(closure._plain(closure._Bare().visit(tree))) for tree in trees)
    assert one == other


def test_code_in_a_docstrings_place_counts(package):
    """Only what stands there as a documentation is none of the code."""
    file = package / "names.py"
    add(file, '\n\ndef said():\n    return "a word"\n')
    then = closure.digests(["names.py"])
    file.write_text(file.read_text().replace('return "a word"', 'return "another"'))
    assert closure.digests(["names.py"]) != then


def test_an_edit_of_bottleneck_stales_what_is_built_on_it(package):
    then = {label: provenance.sources_of(run(method)) for label, method in METHOD_RUNS.items()}
    add(package / "methods/adapters/bottleneck.py")
    found = {label: stale(run(method), then[label]) for label, method in METHOD_RUNS.items()}
    assert {label for label, files in found.items() if files} == ON_BOTTLENECKS
    assert set(map(tuple, found.values())) == {(), ("methods/adapters/bottleneck.py",)}


@pytest.mark.parametrize(
    "file, wanted",
    [
        ("data/grammar/commitment.py", [("cb", "embedded")]),
        ("data/grammar/reviews.py", [("sst", "embedded"), ("sst2", "embedded")]),
        ("data/grammar/draw.py", [("sst", "embedded"), ("sst2", "embedded"), ("cb", "embedded")]),
        ("data/embedded.py", [("sst", "embedded"), ("sst2", "embedded"), ("cb", "embedded")]),
        ("data/suites/superglue.py", [("cb", "embedded"), ("cb", "local")]),
        ("data/suites/resplit.py", []),
        ("data/sources.py", [(task, source) for task in ("sst", "sst2", "cb") for source in ("embedded", "local")]),
        *(
            (file, [])
            for file in (
                "cli.py",
                "study.py",
                "report/tables.py",
                "batch/front.py",
                "accounting/counting.py",
                "papers/compacter/experiments.py",
                "methods/reparametrized/lora.py",
                "methods/__init__.py",
            )
        ),
    ],
)
def test_a_run_is_stale_by_the_sources_of_its_own_data_alone(file, wanted, package):
    each = {
        (task, source): run(task=task, source=source) for task in ("sst", "sst2", "cb") for source in ("embedded", "local")
    }
    then = {key: provenance.sources_of(found) for key, found in each.items()}
    add(package / file)
    assert {key for key, found in each.items() if stale(found, then[key])} == set(wanted)


def test_all_that_a_run_imports_is_known_without_importing_it():
    """The graph that is read is the one that Python makes; what is left out is named."""
    script = """
import sys
from peftlib import grids, provenance
print(list(provenance.sources_of(grids.runs("methods/compared", "smoke", ["Compacter"])[0])))
assert "torch" not in sys.modules
described = {*sys.modules}
import peftlib.training.loop
print([name for name in sys.modules if name.startswith("peftlib.") and name not in described])
print([name for name in described if name.startswith("peftlib.")])
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
    known, trains, describes = map(ast.literal_eval, said.splitlines())
    trains, describes = ({closure._file_of(name) for name in names} - {None} for names in (trains, describes))
    unknown = {file for file in trains - {*known} if not file.endswith("__init__.py")}
    assert {file for file in unknown if not file.startswith("methods/")} == set()  # other methods
    assert {*known} <= trains | describes and {"methods/adapters/kronecker.py", "edits.py"} <= {*known}


# --- counts and estimates ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "file, text, again",
    [
        ("methods/reparametrized/lora.py", CODE, True),
        ("methods/reparametrized/lora.py", COMMENT, False),
        ("accounting/counting.py", CODE, True),
        ("backbones.py", CODE, True),
        ("methods/adapters/houlsby.py", CODE, False),
        ("accounting/estimate.py", CODE, False),
        ("report/tables.py", CODE, False),
    ],
)
def test_a_count_is_computed_again_only_when_code_that_decides_it_changes(
    file, text, again, package, tmp_path, monkeypatch
):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    computed = []
    monkeypatch.setattr(counting, "count", lambda *given, real=counting.count: computed.append(given) or real(*given))

    def asked() -> int:
        counted.count.cache_clear()
        assert counted.count("LoRA(rank=8)", "bert-base-uncased").trainable == 442368
        return len(computed)

    assert [asked(), asked()] == [1, 1]
    add(package / file, text)
    assert [asked(), asked()] == [1 + again] * 2


def test_what_is_kept_is_what_is_computed(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    for _ in range(2):  # computed, kept
        counted.count.cache_clear()
        counted.shape.cache_clear()
        many = counted.count("PerTask(Houlsby(bottleneck=8))", "t5-small", 2)
        assert vars(many) == counting.count("PerTask(Houlsby(bottleneck=8))", "t5-small", 2).as_dict()
        assert counted.shape("t5-small") == anatomy_of("t5-small").shape
        few = estimated.estimate("LoRA(rank=8)", "t5-small", 2, 16)
        assert vars(few) == estimate("LoRA(rank=8)", "t5-small", 2, 16).as_dict()


def test_what_is_kept_and_damaged_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    values = iter("abcdef")
    assert [kept("a name", "1", lambda: next(values), str) for _ in range(2)] == ["a", "a"]
    (file,) = (tmp_path / "_build" / "kept").iterdir()
    for text in ("{", "[]", '{"name": "a name", "stamp": "1"}', '{"name": "a name", "stamp": "1", "value": 3}'):
        file.write_text(text)
        assert kept("a name", "1", lambda: next(values), str) == kept("a name", "1", lambda: "never", str)
    assert kept("a name", "2", lambda: next(values), str) == "f", "of another stamp"


def test_a_folders_state_changes_with_any_file_in_it(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a.json").write_text("1")
    states = [state_of([tmp_path]), state_of([tmp_path])]
    (tmp_path / "inside" / "a.json").write_text("22")
    states.append(state_of([tmp_path]))
    (tmp_path / "b.json").write_text("1")
    states.append(state_of([tmp_path]))
    (tmp_path / "b.json").rename(tmp_path / "c.json")
    states.append(state_of([tmp_path]))
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("1")
    states.append(state_of([tmp_path]))
    assert states[0] == states[1] and states[4] == states[5] and len(set(states)) == 4
    assert state_of([tmp_path / "not there"]) != states[0]


def test_the_spread_over_seeds_is_computed_again_when_a_record_comes(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    found = iter([{"sst": (0.25, 8)}, {"sst": (0.5, 8)}])
    monkeypatch.setattr(evidence, "_deviations", lambda preset: next(found))
    home = tmp_path / "data" / "runs" / "smoke"
    home.mkdir(parents=True)

    asked = evidence._over_seeds_elsewhere.__wrapped__  # without what this process remembers
    assert [asked("smoke"), asked("smoke")] == [{"sst": (0.25, 8)}] * 2
    (home / "0123456789abcdef.json").write_text("{}")
    assert [asked("smoke"), asked("smoke")] == [{"sst": (0.5, 8)}] * 2


def test_a_count_of_a_folder_or_of_a_method_from_elsewhere_is_not_kept(tmp_path, monkeypatch):
    """Their sources do not say what decides it."""
    monkeypatch.setenv("PEFTLIB_ROOT", str(tmp_path))
    (tmp_path / "t5-small").mkdir()
    monkeypatch.chdir(tmp_path)
    counted.figures("accounting/counting.py", lambda: {"n": 1}, "LoRA(rank=8)", "t5-small")
    counted.figures("accounting/counting.py", lambda: {"n": 1}, "Elsewhere()", "t5-base")
    assert not (tmp_path / "_build").exists()


# --- training jobs ----------------------------------------------------------------------------------------------------
def plan_of(preset: grids.Preset, folder: Path, monkeypatch) -> dict:
    monkeypatch.setattr(grids, "presets", lambda: {preset.name: preset})
    return front.make_plan(preset.name, REPOSITORY, folder)


def test_one_changed_rate_of_one_paper_queues_its_jobs_alone(tmp_path, monkeypatch):
    """Snakemake runs a job again whose parameters, records or inputs are others."""
    before = grids.get_preset("quick")
    rates = before.changes["compacter"]["lr"] | {"IntrinsicSAID": 0.123}
    after = dataclasses.replace(before, changes=before.changes | {"compacter": before.changes["compacter"] | {"lr": rates}})
    plans = [plan_of(preset, tmp_path, monkeypatch) for preset in (before, after)]
    assert plans[0]["train"].keys() == plans[1]["train"].keys()
    again = {name for name, job in plans[0]["train"].items() if plans[1]["train"][name] != job}
    wanted = {f"{name}-{shard + 1}of{shards}" for name, shard, shards in trains("IntrinsicSAID", before)}
    assert again == wanted and 0 < len(again) < len(plans[0]["train"])
    assert {name.split("/")[0] for name in again} == {"compacter"}
    assert not list(tmp_path.iterdir())  # no file of values that every job would have to read

    again = {name for name, page in plans[0]["pages"].items() if plans[1]["pages"][name] != page}
    read = {page.notebook: any(name.startswith("compacter/") for name in page.experiments) for page in plan.pages("quick")}
    theirs = {Path(page).with_suffix("").as_posix() for page, reads in read.items() if reads or "/compacter/" in page}
    assert again == theirs and {"notebooks/book/home", "notebooks/survey/verdicts"} <= again < {*plans[0]["pages"]}


def trains(method: str, preset: grids.Preset) -> set[tuple]:
    """Jobs of the paper whose rate changes that train a method."""
    jobs = [job for job in plan.jobs(preset.name) if job.experiment.startswith("compacter/")]
    return {
        (job.experiment, job.shard, job.shards)
        for job in jobs
        for found in plan.shard_of(plan.own_runs(job.experiment, preset), job.shard, job.shards)
        if found.method.startswith(method)
    }


# --- pages ------------------------------------------------------------------------------------------------------------
COUNTING = {"adaptbert/table3", "compacter/counts", "compacter/table1", "survey/taxonomy"}
SHOWN = {"methods/lora", "methods/lora_adapter", "methods/adalora", "methods/bitfit", "methods/houlsby", *COUNTING}


@pytest.mark.parametrize(
    "file, text, wanted",
    [
        ("methods/reparametrized/lora.py", CODE, {"methods/lora", "methods/lora_adapter", "methods/adalora", *COUNTING}),
        (
            "methods/reparametrized/lora.py",
            COMMENT,
            {"methods/lora", "methods/lora_adapter", "methods/adalora"},
        ),  # quote it
        (
            "methods/adapters/bottleneck.py",
            CODE,
            SHOWN,  # each method's page asks all papers for its printed sizes, and HyperFormer's are those of adapters
        ),
        ("methods/base.py", CODE, SHOWN),
        ("methods/base.py", COMMENT, set()),
        ("accounting/counting.py", CODE, SHOWN),
        ("accounting/counting.py", COMMENT, set()),
        ("accounting/estimate.py", CODE, {"survey/taxonomy"} | {name for name in SHOWN if name.startswith("methods/")}),
        ("report/tables.py", CODE, SHOWN),
        ("report/tables.py", COMMENT, set()),
        (
            "papers/compacter/numbers/table1.csv",
            "x\n",
            {name for name in SHOWN if name.startswith(("compacter/", "methods/"))},
        ),
        ("papers/compacter/checks/own.py", CODE, {name for name in SHOWN if name.startswith(("compacter/", "methods/"))}),
        ("papers/adaptbert/paper.toml", "\n", {name for name in SHOWN if name.startswith(("adaptbert/", "methods/"))}),
        ("batch/front.py", CODE, set()),
        # What it changes comes with records, but for the training that a method's page shows.
        ("training/loop.py", CODE, {name for name in SHOWN if name.startswith("methods/")}),
    ],
)
def test_a_page_is_rendered_again_when_the_code_or_the_counts_it_shows_change(file, text, wanted, package):
    preset = grids.get_preset("quick")

    def planned() -> dict[str, str]:
        return {name: shown.digest(REPOSITORY / "notebooks" / f"{name}.ipynb", [], preset) for name in SHOWN}

    before = planned()
    assert planned() == before
    add(package / file, text)
    after = planned()
    assert {name for name in SHOWN if after[name] != before[name]} == wanted


@pytest.mark.parametrize("file", ["tabulated.json", "asked.toml"])
def test_the_calculator_is_rendered_again_when_its_tables_change(file, package):
    page, preset = REPOSITORY / "notebooks/survey/calculator.ipynb", grids.get_preset("quick")
    before = shown.digest(page, [], preset)
    add(package / "accounting" / file, "\n")
    assert shown.digest(page, [], preset) != before


def test_a_page_is_rendered_again_when_a_method_looks_otherwise(monkeypatch):
    """Which makes no record stale: no digest of a source holds what a method says of itself."""
    preset, known = grids.get_preset("quick"), catalogue.methods()

    def planned() -> dict[str, str]:
        return {name: shown.digest(REPOSITORY / "notebooks" / f"{name}.ipynb", [], preset) for name in SHOWN}

    before, about = planned(), dataclasses.replace(known["LoRA"].about, marker="d")
    monkeypatch.setattr(catalogue, "methods", lambda: known | {"LoRA": dataclasses.replace(known["LoRA"], about=about)})
    after = planned()
    assert all(after[name] != before[name] for name in SHOWN)
