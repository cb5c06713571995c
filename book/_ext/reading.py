"""Sphinx extension: a page of a notebook begins with its content.

What a page rests on (its parameters, the cell that reads them, and what that cell says) stands in one fold at the end. The
code of every other cell is folded below what it made, unless it is there to be read. Each page ends with how to cite it.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import yaml
from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform

PARAMETERS = {"tag_parameters", "tag_injected-parameters"}
HOME = "Parameter-efficient fine-tuning, reproduced"


class Fold(nodes.General, nodes.Element):
    """A ``<details>``. summary: what it says when closed; classes as any node's."""


def visit_fold(self, node: Fold) -> None:
    classes = " ".join(node["classes"])
    self.body.append(f'<details class="{classes}"><summary>{escape(node["summary"])}</summary>\n')


def depart_fold(self, node: Fold) -> None:
    self.body.append("</details>\n")


def fold(summary: str, css: str, *children: nodes.Node) -> Fold:
    made = Fold("", *children, summary=summary)
    made["classes"].append(css)
    return made


class ContentFirst(SphinxPostTransform):
    """Moves and folds the code of a page. Before `HideInputCells` of myst-nb, which then finds nothing left to hide."""

    default_priority = 198
    formats = ("html",)

    def run(self, **kwargs) -> None:
        cells = [node for node in self.document.findall(nodes.container) if node.get("nb_element") == "cell_code"]
        opening = beginning(cells)
        for cell in cells:
            if cell not in opening:
                fold_code(cell)
        page = next(self.document.findall(nodes.section), None)
        if page is None:
            return
        if opening:
            for cell in opening:
                cell.parent.remove(cell)
                cell.attributes.pop("hide_mode", None)
            # What the page rests on in words comes before the code that says it.
            said = [part for cell in opening for part in cell.children if part.get("nb_element") != "cell_code_source"]
            code = [part for cell in opening for part in cell.children if part.get("nb_element") == "cell_code_source"]
            page.append(fold("What this page rests on", "rests-on", *said, *code))
        page.append(nodes.raw("", citation(Path(self.app.srcdir), self.env.docname, title(page)), format="html"))


def beginning(cells: list[nodes.container]) -> list[nodes.container]:
    """The cells of a page's parameters, and the one after them, which reads them. None of a page without parameters."""
    last = max((i for i, cell in enumerate(cells) if PARAMETERS & set(cell["classes"])), default=None)
    if last is None:
        return []
    return [cell for cell in cells[: last + 1] if PARAMETERS & set(cell["classes"])] + cells[last + 1 : last + 2]


def fold_code(cell: nodes.container) -> None:
    """Fold a cell's code below what it made.

    Code is shown where its cell has the tag ``show-input``, or printed plain text and has no tag ``hide-input``: such a
    cell is an example of use, and its text means little without it.
    """
    if not cell.children or cell.children[0].get("nb_element") != "cell_code_source":
        return
    mode = cell.get("hide_mode")
    if mode not in (None, "input"):
        return
    texts = any(True for part in cell.children[1:] for _ in part.findall(nodes.literal_block))
    others = any(
        True
        for part in cell.children[1:]
        for _ in part.findall(
            lambda n: isinstance(n, nodes.raw | nodes.Text) and not isinstance(n.parent, nodes.literal_block)
        )
    )
    if "tag_show-input" in cell["classes"] or (mode is None and texts and not others):
        return
    cell.attributes.pop("hide_mode", None)
    code = cell.children[0]
    cell.remove(code)
    cell.append(fold("code", "code-fold", code))


def title(page: nodes.section) -> str:
    found = next(page.findall(nodes.title), None)
    return found.astext() if found is not None else HOME


def citation(root: Path, docname: str, name: str) -> str:
    """How to cite a page, as HTML, from the CITATION.cff of the book.

    Raises:
        ExtensionError: there is none, or it lacks a field.
    """
    try:
        cff = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
        who = " and ".join(author["name"] for author in cff["authors"])
        year, book, version, asks = cff["date-released"].year, cff["title"], cff["version"], cff["message"]
    except (OSError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise ExtensionError(
            f"CITATION.cff beside _config.yml cannot be read ({error}): every page says how to cite it"
        ) from None
    key = f"peftlib{year}" + "".join(c for c in docname.rpartition("/")[2] if c.isalnum())
    part = "" if name == book else f"“{name}”, in "
    bibtex = [
        f"@misc{{{key},",
        f"  author = {{{{{who}}}}},",
        f"  title  = {{{{{name}}}}},",
        *([] if name == book else [f"  note   = {{In: {book}, version {version}, page {docname}}},"]),
        f"  year   = {{{year}}}",
        "}",
    ]
    return (
        '<div class="cite"><p class="cite-title">How to cite this page</p>\n'
        f"<p>{escape(who)} ({year}). {escape(part)}<em>{escape(book)}</em>, version {escape(str(version))}, "
        f"page <code>{escape(docname)}</code>. {escape(asks)}</p>\n"
        f"<details><summary>BibTeX</summary><pre>{escape(chr(10).join(bibtex))}</pre></details></div>\n"
    )


def setup(app) -> dict:
    app.add_node(Fold, html=(visit_fold, depart_fold))
    app.add_post_transform(ContentFirst)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
