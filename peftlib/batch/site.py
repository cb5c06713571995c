"""The book half's end: pages staged beside the hand-written ones, and built by Jupyter Book.

A page whose notebook failed is replaced by one that says so, so that the rest of the book is there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from peftlib import markup
from peftlib.batch.guard import exit_with
from peftlib.batch.worker import plain

WIDEST = 1000  # characters of a log's line that are shown
BESIDE = ("_config.yml", "_toc.yml", "README.md", "CITATION.cff", "book")  # what a book needs beside executed notebooks


def sources(root: Path) -> list[Path]:
    """The hand-written files of the book."""
    found = [root / name for name in BESIDE]
    files = [file for path in found for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return [file for file in files if file.is_file() and "__pycache__" not in file.parts]


def stage(root: Path, build: Path) -> Path:
    """Copy hand-written files, executed pages, and stand-ins for pages that failed to ``build/site``; returns it.

    Only the book's pages are there afterwards: one that was removed from the sources is removed here.
    """
    site, plan = build / "site", json.loads((build / "plan.json").read_text(encoding="utf-8"))
    shutil.rmtree(site, ignore_errors=True)
    for file in sources(root):
        copy(file, site / file.relative_to(root))
    for page in plan["pages"]:
        done, there = build / "pages" / f"{page}.ipynb", site / f"{page}.ipynb"
        if done.exists():
            copy(done, there)
        else:
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_text(json.dumps(stand_in(page, tail(build / "logs" / "pages" / f"{page}.log", 20))))
    return site


def copy(file: Path, there: Path) -> None:
    there.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, there)


def tail(log: Path, lines: int) -> str:
    """The last lines of a log, as plain text and of bounded size; a sentence if there is none."""
    if not log.exists() or not log.stat().st_size:
        return "(it left no log: it was killed, or never started; logs/snakemake.log may say why)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - lines * 4 * WIDEST))  # a character has up to 4 bytes
        said = plain(file.read().decode("utf-8", errors="replace")).rstrip().splitlines()
    return "\n".join(line if len(line) <= WIDEST else f"... {line[4 - WIDEST :]}" for line in said[-lines:])


def stand_in(page: str, why: str) -> dict:
    """A notebook that takes the place of one that failed. What the log says is a cell's output, which nothing parses: in
    Markdown a line of it could end its block."""
    title = markup.markdown(re.sub(r"[^\w .-]", "", Path(page).name))  # Sphinx's search shows titles as HTML
    failed = (
        f"# {title}: this page's notebook failed\n\n:::{{error}}\n{markup.code(f'{page}.ipynb')} did not run to "
        "its end, so its tables and figures are not shown. It said last:\n:::\n"
    )
    again = "Run the same command again after mending it: only this page is rendered again.\n"
    said = {"output_type": "stream", "name": "stdout", "text": why}
    cells = [
        {"cell_type": "markdown", "id": "failed", "metadata": {}, "source": failed},
        {
            "cell_type": "code",
            "id": "said",
            "metadata": {"tags": ["remove-input"]},
            "execution_count": None,
            "source": "# not shown; myst-nb leaves out a cell without a source",
            "outputs": [said],
        },
        {"cell_type": "markdown", "id": "again", "metadata": {}, "source": again},
    ]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def build_book(site: Path, log: Path) -> bool:
    """Build the staged book, warnings as errors; True if it is without fault. HTML may exist either way."""
    log.parent.mkdir(parents=True, exist_ok=True)
    # jupyter-book by import: its script may not be on the PATH. --all: values cited across pages go stale otherwise.
    command = [
        sys.executable,
        "-c",
        "from jupyter_book.cli.main import main; main()",
        "build",
        str(site),
        "--all",
        "-W",
        "-n",
        "--keep-going",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    said = plain(done.stdout).splitlines()
    # Repeated at the end of the log, which is what the batch shows.
    faults = [line for line in said if re.search(r"\b(WARNING|ERROR|Error)\b", line)]
    log.write_text("\n".join([*said, *faults]) + "\n", encoding="utf-8")
    return done.returncode == 0 and index(site).exists()


def index(site: Path) -> Path:
    """The first page of a built book."""
    return site / "_build" / "html" / "index.html"


def main(argv: list[str] | None = None) -> int:
    """Entry point of the batch's last job."""
    parser = argparse.ArgumentParser(prog="python -m peftlib.batch.site", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="the repository")
    parser.add_argument("--build", type=Path, required=True, help="_build/<preset>")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--parent", type=int, help="end when this process is no longer the parent")
    args = parser.parse_args(argv)
    if args.parent is not None:
        exit_with(args.parent)
    return 0 if build_book(stage(args.root, args.build.resolve()), args.log) else 1


if __name__ == "__main__":
    sys.exit(main())
