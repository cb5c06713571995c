"""A notebook's parameters: their names and types, checked before a kernel starts.

papermill only warns about a name it does not know and checks no type, so a typing error would train the defaults.
`python -m peftlib.batch.parameters NOTEBOOK -p preset quick` checks by hand.
"""

from __future__ import annotations

import ast
import difflib
import json
import sys
import warnings
from pathlib import Path

from peftlib import commandline
from peftlib.errors import UsageError, short

UNREADABLE = (ValueError, SyntaxError, RecursionError, MemoryError)  # what Python and JSON say of text that is neither
WORDS = {"True": True, "False": False, "None": None}


def declared(notebook: Path) -> dict[str, object]:
    """Names and default values in the cell tagged "parameters" (plain assignments of literals).

    Raises:
        UsageError: no notebook, no such cell, or a default that is not a literal.
    """
    sources = [source for source, tags in _cells(notebook) if "parameters" in tags]
    if len(sources) != 1:
        raise UsageError(f"{notebook}: expected one cell tagged 'parameters', found {len(sources)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a style of Python's that will be an error some day
            lines = ast.parse(sources[0]).body
    except UNREADABLE as error:
        raise UsageError(
            f"{notebook}: the cell tagged 'parameters' is no Python ({error}): expected lines of `name = literal`"
        ) from None
    return {
        name.id: default
        for line in lines
        if isinstance(line, ast.Assign | ast.AnnAssign)
        for name, default in _assigned(line, notebook)
    }


def _cells(notebook: Path) -> list[tuple[str, list[str]]]:
    """(source, tags) of each cell."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        return [("".join(cell["source"]), list(cell["metadata"].get("tags", []))) for cell in cells]
    except OSError as error:
        raise UsageError(f"{short(str(notebook))}: cannot be read ({error.strerror}): expected a notebook") from None
    except (*UNREADABLE, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{short(str(notebook))}: no notebook ({type(error).__name__}: {error}): expected JSON with cells "
            "that have source and metadata"
        ) from None


def _assigned(line: ast.Assign | ast.AnnAssign, notebook: Path) -> list[tuple[ast.Name, object]]:
    targets = line.targets if isinstance(line, ast.Assign) else [line.target]
    try:
        default = ast.literal_eval(line.value)  # type: ignore[arg-type]  # which refuses None, too
    except (*UNREADABLE, TypeError):
        targets = []
    if not targets or not all(isinstance(target, ast.Name) for target in targets):
        raise UsageError(
            f"{notebook}: line {line.lineno} of the parameters cell: expected `name = literal`, found "
            f"{short(ast.unparse(line))}"
        )
    return [(target, default) for target in targets]  # type: ignore[misc]  # names, as was seen


def check(notebook: Path, given: dict[str, object]) -> None:
    """Refuse names that the notebook does not declare, and values of another type than its default.

    A default of None admits every type; an int may stand where a float is expected.

    Raises:
        UsageError: names the parameter, the value, what was expected.
    """
    known = declared(notebook)
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name[:100], known, n=1)
            raise UsageError(
                f"{notebook}: unknown parameter {short(name)}{f', did you mean {near[0]!r}?' if near else ''} "
                f"It has: {', '.join(known) or 'none'}"
            )
        default = known[name]
        fits = default is None or type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits:
            raise UsageError(
                f"{notebook}: parameter {name} = {short(value)} is of type {type(value).__name__}, "
                f"expected {type(default).__name__} (default {short(default)})"
            )
        if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
            raise UsageError(f"{notebook}: parameter {name} = {short(value)}: expected a finite number")


def typed(text: str) -> object:
    """A value from the command line as papermill's ``-p`` reads it: True, False, None, a number, else the text itself."""
    if text in WORDS:
        return WORDS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def main(argv: list[str] | None = None) -> int:
    """Check ``-p name value`` pairs against a notebook; 0 if papermill may run it, 2 otherwise."""
    parser = commandline.Parser(prog="python -m peftlib.batch.parameters", description=main.__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), dest="given")
    args = parser.parse_args(argv)

    def go() -> str:
        check(args.notebook, {name: typed(value) for name, value in args.given})
        return f"{args.notebook}: its parameters may be set so"

    return commandline.run(parser.prog, go)


if __name__ == "__main__":
    sys.exit(main())
