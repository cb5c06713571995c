"""Sphinx extension: a page asks nothing of the network, and works when its file is opened from a disk.

MathJax comes from the package sphinx-mathjax-offline (version 3.2.2); of its 20 MB only the component that
`mathjax_path` names and its fonts are copied, 1.6 MB, and only pages with a formula load it. What the theme and Jupyter
Book add for servers is taken out, and so are the theme's icons, a script of 1.5 MB and a font for a dozen pictures:
`book/_static/icons.css` draws them.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.errors import ExtensionError

PACKAGE, FOLDER = "sphinx-mathjax-offline", "static/mathjax"
WANTED = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2/")
# A preloaded font is a cross-origin request, which browsers refuse for files.
TAKEN_OUT = re.compile(
    r'\s*<link rel="preload" as="font"[^>]*>'
    r"|\s*<link [^>]*vendor/fontawesome/[^>]*>"
    r"|\s*<script [^>]*vendor/fontawesome/[^>]*></script>"
)


def packaged() -> dict[str, Path]:
    """The wanted files of the package, by their path under ``mathjax/``.

    Raises:
        ExtensionError: the package is not installed, or lacks them.
    """
    try:
        files = importlib.metadata.distribution(PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ExtensionError(
            f"formulas need MathJax from the package {PACKAGE}, which is not installed: "
            f"pip install -c constraints.txt {PACKAGE}"
        ) from error
    named = {file.as_posix().partition(f"{FOLDER}/")[2]: Path(file.locate()) for file in files}
    found = {name: path for name, path in named.items() if name.startswith(WANTED) and path.exists()}
    if len(found) < 20:
        raise ExtensionError(f"the installed {PACKAGE} carries only {len(found)} of MathJax's files: reinstall it")
    return found


def without_thebe(app, config) -> None:
    """Jupyter Book always loads sphinx-thebe, whose scripts would run cells on a server and fail without one.

    Only its static files stay: every page names its style sheet.
    """

    def wanted(handler) -> bool:
        return not handler.__module__.startswith("sphinx_thebe") or handler.__name__ == "st_static_path"

    for name, listeners in app.events.listeners.items():
        app.events.listeners[name] = [listener for listener in listeners if wanted(listener.handler)]


def without_mathjax(app, pagename, templatename, context, doctree) -> None:
    """A page without a formula loads no MathJax. Sphinx's own rule looks at the pages below it, too: home has all."""
    if doctree is None or any(True for kind in (nodes.math, nodes.math_block) for _ in doctree.findall(kind)):
        return
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "mathjax" not in f"{script} {getattr(script, 'attributes', '')}".lower()
    ]


def make_local(app, error) -> None:
    """Place MathJax where `mathjax_path` points, and mend the written pages."""
    if error is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    for name, source in packaged().items():
        there = out / "_static" / "mathjax" / name
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, there)
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        if TAKEN_OUT.search(text):
            page.write_text(TAKEN_OUT.sub("", text), encoding="utf-8")
    shutil.rmtree(out / "_static" / "vendor" / "fontawesome", ignore_errors=True)


def setup(app) -> dict:
    app.connect("config-inited", without_thebe)
    app.connect("html-page-context", without_mathjax, priority=900)
    app.connect("build-finished", make_local)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
