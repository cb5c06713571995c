"""Sphinx extension: what the pages need from MathJax lies beside them, so that no reader's browser asks the network.

The files come from the package sphinx-mathjax-offline (MathJax 3.2.2). Only the component we name in `mathjax_path`
and its fonts are copied, 1.6 MB of the package's 20.
"""

import importlib.metadata
import shutil
from pathlib import Path

from sphinx.errors import ExtensionError

PACKAGE, FOLDER = "sphinx-mathjax-offline", "static/mathjax"
WANTED = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2/")


def packaged() -> dict[str, Path]:
    """The wanted files of the package, by their path under ``mathjax/``.

    Raises:
        ExtensionError: the package is not installed, or lacks them.
    """
    try:
        files = importlib.metadata.distribution(PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ExtensionError(f"formulas need MathJax from the package {PACKAGE}, which is not installed: "
                             f"pip install -c constraints.txt {PACKAGE}") from error
    named = {file.as_posix().partition(f"{FOLDER}/")[2]: Path(file.locate()) for file in files}
    found = {name: path for name, path in named.items() if name.startswith(WANTED) and path.exists()}
    if len(found) < 20:
        raise ExtensionError(f"the installed {PACKAGE} carries only {len(found)} of MathJax's files: reinstall it")
    return found


def copy_mathjax(app, error) -> None:
    """Place MathJax where `mathjax_path` points, once the pages are written."""
    if error is None and app.builder.format == "html":
        for name, source in packaged().items():
            there = Path(app.outdir) / "_static" / "mathjax" / name
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, there)


def setup(app) -> dict:
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
