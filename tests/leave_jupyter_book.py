"""Rehearse the exit from Jupyter Book 1, which is in maintenance: build a staged book by Sphinx alone, and compare.

    python tests/leave_jupyter_book.py _build/published/site

`jupyter-book config sphinx` writes a conf.py, out of which Jupyter Book's own extensions are taken; Sphinx builds a copy of
the site with it, warnings as errors, in a process that cannot import Jupyter Book; `compare_books` compares the pages with
those that Jupyter Book made of the same site (_build/html). Exit status 1 if they differ, 2 if they are not there or Sphinx
fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import compare_books

CONFIGURE = "from jupyter_book.cli.main import main; main()"
OWN = ("jupyter_book", "sphinx_jupyterbook_latex")
# A module that is None in sys.modules cannot be imported.
BUILD = (
    f"import sys; sys.modules.update(dict.fromkeys({OWN})); from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"
)
EXTENSIONS = '\nimport sys\nfrom pathlib import Path\n\nsys.path.insert(0, str(Path(__file__).parent / "book" / "_ext"))\n'


def write_configuration(site: Path) -> None:
    """Write the conf.py of a folder that has a _config.yml."""
    run("-c", CONFIGURE, "config", "sphinx", str(site))
    conf = site / "conf.py"
    text = conf.read_text(encoding="utf-8")
    for extension in OWN:
        text = re.sub(rf"'{extension}'(, )?", "", text)
    conf.write_text(text + EXTENSIONS, encoding="utf-8")  # where the local ones lie is not part of what it writes


def build(site: Path, html: Path) -> None:
    run("-c", BUILD, "-b", "html", "-W", "-n", "--keep-going", "-q", str(site), str(html))


def run(*arguments: str) -> None:
    """Run Python; end with what it said if it fails."""
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout)
        sys.exit(2)


def main(site: Path) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        copy, html = Path(scratch) / "site", Path(scratch) / "html"
        shutil.copytree(site, copy, ignore=lambda folder, _: ["_build"] if Path(folder) == site else [])
        write_configuration(copy)
        build(copy, html)
        return compare_books.main(site / "_build" / "html", html)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
