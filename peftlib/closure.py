"""What a piece of the package rests on: the files that it imports, and those that they import, with digests of their code.

Sources are read, nothing is imported (torch least of all). Files are named by their path inside the package. A digest is
one of the code as it computes: comments, docstrings, line ends, formatting, type hints of functions, what is imported for
them alone, and what a method says of itself (``about``, see `peftlib.methods.base`) are no part of it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent


def closure(roots: Iterable[str], follow: Callable[[str, str], bool] = lambda file, used: True) -> set[str]:
    """The files that `roots` rest on, themselves included. follow(file, used): whether an import counts."""
    found, todo = set(), list(roots)
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo += [used for used in _source(file).imports if follow(file, used)]
    return found


def digests(files: Iterable[str]) -> dict[str, str]:
    """8 hexadecimal digits for each file, files in order."""
    return {file: _source(file).digest for file in sorted(files)}


def homes(names: Collection[str], room: str) -> set[str]:
    """The files of a folder of the package that define classes of these names."""
    files = (path.relative_to(PACKAGE).as_posix() for path in (PACKAGE / room).rglob("*.py"))
    return {file for file in files if _source(file).classes & set(names)}


def imports(tree: ast.AST) -> set[str]:
    """The files of the package that code imports, anywhere in it. What a package's ``__init__`` does when a module inside
    it is imported does not count: it hands on names."""
    found: set[str | None] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {_file_of(f"{node.module}.{alias.name}") or _file_of(f"{node.module}") for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {_file_of(alias.name) for alias in node.names}
    return {file for file in found if file}


def _file_of(module: str) -> str | None:
    """The file of a module of the package."""
    package, *parts = module.split(".")
    places = ["/".join([*parts, "__init__.py"]), "/".join(parts) + ".py"] if package == "peftlib" else []
    return next((place for place in places if (PACKAGE / place).is_file()), None)


# --- one file ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Source:
    imports: frozenset[str]
    classes: frozenset[str]
    digest: str


def _source(file: str) -> _Source:
    facts = (PACKAGE / file).stat()
    return _read(PACKAGE, file, facts.st_mtime_ns, facts.st_size)


@functools.cache
def _read(package: Path, file: str, *stamp: int) -> _Source:
    content = (package / file).read_bytes()
    if not file.endswith(".py"):
        return _Source(frozenset(), frozenset(), _digest(content.replace(b"\r\n", b"\n")))
    tree = ast.parse(content)
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    words = list(_plain(_Bare().visit(tree)))
    return _Source(frozenset(imports(tree)), frozenset(classes), _digest(json.dumps(words).encode()))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


class _Bare(ast.NodeTransformer):
    """Takes out of a tree what computes nothing. The hints of a class's own fields stay: dataclasses are made of them."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        kept = [part for part in node.body if not _sets(part, "about")]
        node.body = [part if isinstance(part, ast.AnnAssign) else self.visit(part) for part in kept]
        node.body = [part for part in node.body if part is not None]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]  # of the same fields

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return ast.Assign([node.target], node.value) if node.value else None

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        # Python 3.12.1 ends a format inside a format, as in f"{x:{width}}", with an empty text, others do not.
        node.values = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        said = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if said else self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        return None if [alias.name for alias in node.names] == ["typing"] else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        only_hints = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") and not node.orelse
        return None if only_hints else self.generic_visit(node)


def _sets(node: ast.AST, name: str) -> bool:
    """Is it ``name = ...`` in the body of a class?"""
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]


def _plain(node: object) -> Iterator[str]:
    """A tree as words, without positions and empty fields: `ast.dump` differs from one Python to the next."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if value is not None and value != []:
                yield name
                yield from _plain(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for part in node:
            yield from _plain(part)
        yield "]"
    else:
        yield repr(node)
