"""The shape of the house: what may know of what."""

import ast
import re
from pathlib import Path

from peftlib import papers

ROOT = Path(papers.__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def runs(tree: ast.AST):
    """The nodes of a module but for what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            yield from runs(node)


def imported(path: Path) -> set[str]:
    """Modules of the library that a file imports, anywhere in it."""
    found = set()
    for node in runs(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(MODULES)


ARROWS = {name: imported(path) - {name} for name, path in MODULES.items()}


def owner(module: str) -> str | None:
    """The paper that a module belongs to."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["peftlib", "papers"] and len(parts) > 2 else None


def test_no_circles():
    left = dict(ARROWS)
    while ready := [name for name, needs in left.items() if not needs & set(left)]:
        left = {name: needs for name, needs in left.items() if name not in ready}
    assert left == {}


def test_a_paper_is_imported_by_itself_alone():
    """A paper that needs a piece of another's has found something general."""
    strangers = {(name, used) for name, needs in ARROWS.items() for used in needs if owner(used) not in (None, owner(name))}
    assert strangers == set()


def test_general_rooms_name_no_paper():
    """No text in their code is a paper's short name or one of its experiments; a method says whose it is."""
    named = set()
    for module, path in MODULES.items():
        if owner(module) is None and not module.startswith("peftlib.methods."):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    named |= {
                        (module, node.value)
                        for paper in papers.papers()
                        if node.value == paper or node.value.startswith(f"{paper}/")
                    }
    assert named == set()


def test_methods_and_papers_know_nothing_of_the_batch_or_the_command_line():
    above = {"peftlib.batch", "peftlib.cli", "peftlib.commandline"}
    below = tuple(f"peftlib.{room}" for room in ("methods", "training", "data", "papers", "report", "accounting"))
    assert {
        (name, used)
        for name, needs in ARROWS.items()
        for used in needs
        if name.startswith(below) and ".".join(used.split(".")[:2]) in above
    } == set()


def test_reports_train_nothing():
    assert {
        (name, used)
        for name, needs in ARROWS.items()
        for used in needs
        if name.startswith("peftlib.report") and used == "peftlib.training.loop"
    } == set()


def test_what_the_type_checker_is_told_to_let_be_has_a_reason():
    """The checker itself asks for the code of the error."""
    bare = re.compile(r"# type: ignore\b(?!\[[\w, -]+\]  # \S)")
    lines = ((name, line) for name, path in MODULES.items() for line in path.read_text(encoding="utf-8").splitlines())
    assert [(name, line.strip()) for name, line in lines if bare.search(line)] == []
