"""A notebook's parameters: their names and types, checked before a kernel starts.

papermill only warns about a name it does not know and checks no type, so a typing error would train the defaults.
`python -m peftlib.batch.parameters NOTEBOOK -p preset quick` checks by hand.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import sys
from pathlib import Path

from peftlib.errors import UsageError


def declared(notebook: Path) -> dict[str, object]:
    """Names and default values in the cell tagged "parameters" (plain assignments of literals).

    Raises:
        UsageError: no such cell, or a default that is not a literal.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise UsageError(f"{notebook}: expected one cell tagged 'parameters', found {len(tagged)}")
    found = {}
    for node in ast.parse("".join(tagged[0]["source"])).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            try:
                found[target.id] = ast.literal_eval(node.value)
            except (ValueError, AttributeError) as error:
                raise UsageError(f"{notebook}: line {node.lineno} of the parameters cell: expected `name = literal`, "
                                 f"found {ast.unparse(node)!r}") from error
    return found


def check(notebook: Path, given: dict[str, object]) -> None:
    """Refuse names that the notebook does not declare, and values of another type than its default.

    A default of None admits every type; an int may stand where a float is expected.

    Raises:
        UsageError: names the parameter, the value, what was expected.
    """
    known = declared(notebook)
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(f"{notebook}: unknown parameter {name!r}{f', did you mean {near[0]!r}?' if near else ''} "
                             f"It has: {', '.join(known) or 'none'}")
        default = known[name]
        fits = default is None or type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits:
            raise UsageError(f"{notebook}: parameter {name} = {value!r} is of type {type(value).__name__}, "
                             f"expected {type(default).__name__} (default {default!r})")


def typed(text: str) -> object:
    """A value from the command line: a Python literal (``1e-3``, ``True``, ``'a'``), else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(argv: list[str] | None = None) -> int:
    """Check ``-p name value`` pairs against a notebook; 0 if papermill may run it, 2 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m peftlib.batch.parameters", description=main.__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="given")
    args = parser.parse_args(argv)
    try:
        check(args.notebook, {name: typed(value) for name, value in args.given})
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
