"""Text in Markdown: whatever it holds, the parsers that make the book see text alone."""

import random
from pathlib import Path

import pytest
import yaml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

from peftlib import markup
from peftlib.report.sentences import fill

EXTENSIONS = yaml.safe_load((Path(__file__).resolve().parents[1] / "_config.yml").read_text())["parse"]
PARSERS = {
    "commonmark": MdParserConfig(commonmark_only=True),  # outputs of cells
    "myst": MdParserConfig(enable_extensions=set(EXTENSIONS["myst_enable_extensions"])),  # pages and cells of Markdown
    "gfm": MdParserConfig(gfm_only=True),
}
PIECES = [
    *"ab1.)-+*_`{}$\\%#>|=[]!<&~^'\"\n\t\0é中\u202e\ud800\u2028",
    "B ",
    "```",
    "````text",
    ":::",
    "~~~",
    "{{",
    "}}",
    "{raw} html",
    "$$",
    "\\begin{equation}",
    "|-|",
    "(x)=",
    "](",
    "[^1]",
    "<b>",
    "</script>",
    "<!--",
    "&lt;",
    "http://x.y",
    "www.x.y",
    "a@b.c",
    "\n\n",
    "    ",
    "+++",
    "---",
    ": ",
    "\x1b[31m",
]
TEXTS = ["", *("".join(random.Random(seed).choices(PIECES, k=1 + seed % 9)) for seed in range(3000))]
PLACES = {"first": "{}", "in a sentence": "It has {} here.", "bold": "**{}** is it.", "in a list": "- {}\n- b"}


def texts(tokens) -> list[tuple[str, str]]:
    """Kinds and contents of what a parser found inside paragraphs; of blocks their kinds alone."""
    found = []
    for token in tokens:
        found += texts(token.children) if token.children else [(token.type, token.content)]
    return found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("parser", PARSERS)
def test_text_means_nothing(parser, place):
    md = create_md_parser(PARSERS[parser], RendererHTML)
    kinds = [kind for kind, _ in texts(md.parse(PLACES[place].format("x")))]
    for text in TEXTS:
        shown = markup.line(text) or "x"
        found = texts(md.parse(PLACES[place].format(markup.markdown(text) or "x")))
        assert [kind for kind, _ in found] == kinds, text
        assert shown in "".join(content for _, content in found), text


@pytest.mark.parametrize("parser", PARSERS)
def test_code_holds_its_text_and_nothing_else(parser):
    md = create_md_parser(PARSERS[parser], RendererHTML)
    for text in TEXTS:
        inline = texts(md.parse(f"It is {markup.code(text)}."))
        assert [kind for kind, _ in inline if kind != "text"] == ["paragraph_open", "code_inline", "paragraph_close"], text
        assert next(content for kind, content in inline if kind == "code_inline").strip() == markup.line(text)


def test_a_line_can_be_seen_and_written():
    assert markup.line("a\n\tb  c") == "a b c"
    assert markup.line("\x1b[31m\0\u202eé中") == r"\x1b[31m\x00\u202eé中"
    for text in TEXTS:
        assert markup.line(text).isprintable()
        markup.line(text).encode()


def test_a_sentence_formats_numbers_and_escapes_text():
    assert fill("**{a:.2f}** of {b:,} in {c} ({d:code})", a=-0.5, b=1000, c="x_y*", d="a`b") == (
        "**-0.50** of 1,000 in x\\_y\\* (`` a`b ``)"
    )
