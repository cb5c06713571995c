"""What methods say of themselves, and that a new one is its file, its page, its paper and its printed facts."""

import ast
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from peftlib import catalogue, expressions, grids
from peftlib.accounting.counted import shape
from peftlib.comparison import COMPOSITIONS, METHOD_RUNS, S4
from peftlib.methods import METHODS
from peftlib.papers.survey import spindle as s4
from peftlib.report import style

REPOSITORY = Path(__file__).resolve().parents[1]
OWN = {name: cls for name, cls in METHODS.items() if cls.__module__.startswith("peftlib.methods.")}
TOY = '''
"""A toy: the output of every feed-forward network, scaled.

    y -> (1 + g) * y        y: (..., d)   g: (d,), from N(0, 0.0001)
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from peftlib.anatomy import Shape
from peftlib.edits import Edit
from peftlib.methods.base import Attachment, Method, require


class Scale(Edit):
    def __init__(self, width: int, spread: float):
        super().__init__()
        self.g = nn.Parameter(torch.randn(width) * spread)

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        return y + (self.g * y).to(y.dtype)


@dataclass(frozen=True)
class Toy(Method):
    """Scaled sublayers.

    spread: of g at the start, or None for 1e-4.
    """

    spread: float | None = None

    title = "Toy"
    family = "additive"
    paper = "toy"
    near_identity = 0.01
    about = {"name": "toy", "color": "green", "marker": "d", "small": "spread=1e-3"}

    def check(self) -> None:
        require(self, spread=self.spread is None or self.spread > 0)

    def attach(self, at: Attachment) -> None:
        for site in at.anatomy.at("ffn.down"):
            at.edit(site, Scale(at.shape.width, self.spread or 1e-4))

    def formula(self, shape: Shape) -> int:
        return shape.layers * shape.width
'''.lstrip()
MATRIX = (
    "starts_where or only_declared or saved_and_loaded or seed_decides or closed_form or mixed or copy_is or do_not_leak "
    "or under_checkpointing or same_thing"
)
PAGES = "every_method_has_a_page or keep_one_order or is_the_templates or bibliography or places or source or counts_agree"


def test_every_method_says_what_it_is():
    assert set(catalogue.methods()) == set(OWN)
    assert set(METHOD_RUNS) == set(COMPOSITIONS) | {name for name, entry in catalogue.methods().items() if entry.row}


def test_order_is_the_surveys():
    branches = [Path(entry.file).parent.name for entry in catalogue.methods().values()]
    assert branches == sorted(branches, key=catalogue.BRANCHES.index)
    assert list(METHOD_RUNS)[:2] == ["Full", "HeadOnly"]  # what small presets compare with


def test_s4_is_made_for_the_backbone_where_that_has_the_blocks():
    preset = grids.get_preset("published")
    made = {run.label: run.method for run in grids.runs("methods/compared", preset)}
    assert made.keys() - METHOD_RUNS.keys() == {"S4"} and style.of(made["S4"]).name == "S4"
    assert "start=5, stop=6" in made["S4"]
    assert {name: s4.expression(shape(name)) for name in S4} == S4
    few = dataclasses.replace(preset, backbone="minilm[:5]")
    assert "S4" not in {run.label for run in grids.runs("methods/compared", few)}


def test_figures_show_what_methods_say():
    lora, drop = style.of("PerTask(LoRA(rank=2))"), style.of("AdapterDrop(drop=2)")
    assert (lora.name, lora.color, lora.marker, lora.line) == ("LoRA", style.BLUE, "o", "-")
    assert drop.line == (0, (5, 2))  # as matplotlib has it


def test_no_torch_is_needed():
    code = "import sys\nfrom peftlib import catalogue\ncatalogue.methods()\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_no_list_of_methods_is_kept():
    """Outside of papers, of a method's own file and its branch, and of what reads another library's files by that library's
    names, no code lists methods: three or more in one expression."""
    lists = set()
    for path in sorted((REPOSITORY / "peftlib").rglob("*.py")):
        if path.relative_to(REPOSITORY / "peftlib").parts[0] not in ("papers", "methods", "interop"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Dict | ast.List | ast.Tuple | ast.Set):
                    parts = [*node.keys, *node.values] if isinstance(node, ast.Dict) else node.elts
                    words = {getattr(part, "value", getattr(part, "id", "")) for part in parts}
                    if sum(word in OWN for word in words if isinstance(word, str)) > 2:
                        lists.add(path.name)
    assert lists == set()


# --- a new method -----------------------------------------------------------------------------------------------------
def copied(folder: Path) -> Path:
    """What a method is added to."""
    for part in ("peftlib", "tests", "notebooks/methods"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("_config.yml", "pyproject.toml", "book/references.bib"):
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / file, folder / file)
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Python where the package is that of the folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_method_is_its_file_its_page_its_paper_and_its_printed_facts(tmp_path):
    """As CONTRIBUTING.md says, and the file lacks what delays the reading of hints."""
    folder = copied(tmp_path)
    toy = folder / "peftlib" / "methods" / "additive" / "toy.py"
    toy.parent.mkdir(exist_ok=True)
    toy.write_text(TOY)
    with (folder / "book" / "references.bib").open("a") as bibliography:
        bibliography.write("@misc{toy,\n  title = {A toy}\n}\n")
    counts = folder / "peftlib" / "papers" / "survey" / "numbers" / "counts.csv"
    header = counts.read_text().splitlines()[0].split(",")
    facts = {"row": "Toy", "expression": "Toy()", "backbone": "t5-base", "printed": "0.02", "unit": "millions"}
    with counts.open("a") as file:
        file.write(",".join(facts.get(name, "") for name in header) + "\n")

    script = f"""
import sys
from peftlib import cli, grids, method_page
from peftlib.methods import METHODS, Toy, parse
from peftlib.report import style
assert METHODS["Toy"] is Toy and parse("Toy(spread=1)") == Toy(spread=1.0) and str(Toy(spread=2)) == "Toy(spread=2.0)"
assert method_page.main(["Toy"]) == 0 and cli.main(["methods", "Toy"]) == 0 and cli.main(["methods"]) == 0
(run,) = grids.runs("methods/compared", "smoke", ["Toy"])
assert run.method == "Toy()" and style.of("Toy()").name == "toy"
page = {str(folder / "notebooks/methods/toy.ipynb")!r}
text = open(page).read()
assert text.count("<!--") == 9  # one a section but those that need no words of their own
open(page, "w").write(text.replace("<!--", "").replace("-->", ""))
import pytest
options = ["-q", "-p", "no:cacheprovider"]
sys.exit(
    pytest.main([*options, "tests/test_methods.py", "-k", "Toy and ({MATRIX})"])
    or pytest.main([*options, "tests/test_report_methods.py", "-k", "(Toy or toy or page or paper) and ({PAGES})"])
)
"""
    done = python(folder, "-c", script)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "float | None" in done.stdout and "additive" in done.stdout  # peftlib methods
    matrix, pages = (int(passed) for passed in re.findall(r"(\d+) passed", done.stdout))
    assert matrix >= 20 and pages >= 10  # both backbones; the pages of all methods


def test_a_method_that_does_not_say_what_it_is_is_refused(tmp_path):
    folder = copied(tmp_path)
    path = folder / "peftlib" / "methods" / "adapters" / "toy.py"
    path.write_text(TOY.replace("    about =", "    looks ="))
    done = python(folder, "-m", "peftlib.cli", "methods")
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "peftlib: peftlib.methods.adapters.toy: class Toy does not say what it is: expected a line such as "
        'about = {"name": "...", "color": "...", "marker": "..."} in its body, see CONTRIBUTING.md\n'
    )


def test_declared_types_are_read_where_they_are_not_text():
    """A method's file may have or lack the import that makes text of hints."""
    field = expressions.Field("alpha", "float | None", None)

    class Hint:
        name, type, default = "alpha", float | None, None

    assert expressions.checked("Own", Hint, 3) == expressions.checked("Own", field, 3) == 3.0
