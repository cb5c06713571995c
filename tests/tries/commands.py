"""Command lines: what is no number, no name, no file or no size is refused in one line, exit status 2."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path

from peftlib import records
from peftlib.accounting.budget import parse_bytes
from peftlib.accounting.counting import count
from peftlib.accounting.estimate import estimate
from peftlib.batch import parameters
from tools.t5_embedded import __main__ as t5_embedded
from tries import Try, command
from tries.expressions import drawn

ONE = ("--backbone", "minilm[:1]")
HUGE = str(10**18)
T5 = ("--backbone", "t5-small")

# --- peftlib ----------------------------------------------------------------------------------------------------------
REFUSED = [  # arguments, what they are, words of the refusal
    ((), "nothing", ("COMMAND", "--help")),
    (("cuont", "LoRA()"), "an unknown command", ("cuont", "count")),
    (("c\nount\x1b[31m",), "a command on two lines", ("c\\nount\\x1b[31m", "methods")),
    (("count",), "no method", ("METHOD", "--help")),
    (("count", "LoRA()", "--tasks", "many"), "a number in words", ("--tasks", "many")),
    (("count", "LoRA()", "--tasks", "9" * 5000), "a number of 5,000 digits", ("--tasks", "9999")),
    (("count", "LoRA()", "--tasks", "0"), "no task", ("0 tasks", "at least 1")),
    (("count", "LoRA()", "--tasks", "-3"), "fewer tasks than none", ("-3 tasks", "at least 1")),
    (("count", "LoRA()", "--tasks", "1000000000"), "a billion tasks", ("1000000000 tasks", "at most 1,000")),
    (
        ("count", "PerTask(" + " + ".join(["LoRA()"] * 60) + ")", "--tasks", "90"),
        "a method for each of many tasks",
        ("for 90 tasks is 5,400 methods", "at most 1,000"),
    ),
    (("count", "LoRA()", "--form", "txt"), "a form misspelt", ("'txt'", "'heads' or 'text'")),
    (("count", "LoRA()", "--form", "text"), "text from an encoder", ("cannot write", "T5")),
    (("count", "adaptbert/table9"), "an unknown table", ("'adaptbert/table9'", "adaptbert/table3", "LoRA(rank=8)")),
    (("count", "t" * 10**5 + "/"), "a table's name of 10^5 letters", ("no table 'ttt", "adaptbert/table3")),
    (("count", "LoRA()", "extra\nwords\x1b[0m" * 9), "arguments on many lines", ("unrecognized", "extra words\\x1b[0m")),
    (("estimate", "LoRA()", *ONE, "--batch", "0"), "an empty batch", ("batch 0", "at least 1")),
    (("estimate", "LoRA()", *ONE, "--batch", HUGE), "a batch of 10^18", (f"batch {HUGE}", "at most 1,000,")),
    (("estimate", "LoRA()", *T5, "--length", HUGE), "10^18 tokens", (f"{HUGE} tokens each", "at most")),
    (("estimate", "LoRA()", *T5, "--answer", HUGE), "an answer of 10^18 tokens", (f"{HUGE} tokens each", "at most")),
    (("estimate", "LoRA()", *ONE, "--length", "0"), "no tokens", ("length 0", "at least 1")),
    (("estimate", "LoRA()", *ONE, "--length", "513"), "more tokens than positions", ("length 513", "512 positions")),
    (("estimate", "LoRA()", *ONE, "--answer", "-1"), "a negative answer", ("answer -1", "at least 0")),
    (("estimate", "LoRA()", *ONE, "--answer", "3"), "an answer of an encoder", ("form 'text' needs",)),
    (("estimate", "HeadOnly()", *T5, "--answer", "3"), "a head alone that writes", ("trains nothing", "add OutputLayer()")),
    (("estimate", "LoRA()", *ONE, "--precision", "fp64"), "a precision misspelt", ("'fp64'", "bf16")),
    (("estimate", "LoRA()", *ONE, "--precision", "p" * 10**5), "10^5 letters", ("precision 'ppp", "bf16")),
    (("estimate", "LoRA()", *ONE, "--device", "gpu"), "a device misspelt", ("'gpu'", "cuda")),
    (("estimate", "LoRA()", *ONE, "--batch", "2", "--budget", "1GB"), "batch and budget", ("--budget", "not allowed")),
    (("estimate", "LoRA()", *ONE, "--budget", "1KB"), "too small a budget", ("1,000 bytes", "too small")),
    (("count", "survey/table5", "--tasks", "3"), "a table with tasks", ("survey/table5", "leave out --tasks")),
    (("estimate", "survey/table6"), "a table without memory", ("'survey/table6'", "survey/table5", "LoRA(rank=8)")),
    (
        ("estimate", "survey/table5", "--budget", "24GB"),
        "a table within a budget",
        ("sizes of their own", "leave out --budget"),
    ),
    (("run", "adaptbert/tabel3"), "an experiment misspelt", ("'adaptbert/tabel3'", "adaptbert/table3")),
    (("run", "adaptbert/table3", "--preset", "../smoke"), "a preset's path", ("'../smoke'", "smoke, quick")),
    (("status", "--preset", "\udcff"), "bytes that are no text", ("'\\udcff'", "smoke")),
    (("status", "--paper", "nobody", "--preset", "smoke"), "an unknown paper", ("'nobody'", "adaptbert")),
    (("plan", "--preset", "qiuck"), "a preset misspelt", ("'qiuck'", "quick")),
    (("plan", "--preset"), "no name", ("--preset", "expected one argument")),
    (("experiments", "--preset", "p" * 10**5), "a preset's name of 10^5 letters", ("unknown preset", "smoke")),
    (("methods", "a\nb\x1b[31m"), "a method's name on two lines", ("'a\\nb\\x1b[31m'", "LoRA")),
]
SIZES = [
    "",
    "GB",
    "24",
    "24gb",
    "-1GB",
    "0GB",
    "1e9GB",
    "1e999GB",
    "nan GB",
    "infGB",
    "24 G",
    "2,5GB",
    "101TB",
    "24GB\nGB",
    "9" * 400 + "GB",
    "1." + "9" * 400 + "GB",
    "\u0662\u0664GB",
    "24\u00a0GB",
]
TRIES = [
    Try(" ".join(("peftlib", *argv[:1])).splitlines()[0], given, lambda _, argv=argv: command(*argv), words)
    for argv, given, words in REFUSED
]
TRIES += [
    Try("a size", ascii(text[:20]), lambda _, text=text: parse_bytes(text), ("cannot read the size", "24GB or 24GiB"))
    for text in SIZES
]
TRIES += [
    Try("count", "a task's name for a number", lambda _: count("LoRA()", "minilm[:1]", "sst"), ("'sst'", "names")),
    Try("count", "half a task", lambda _: count("LoRA()", "minilm[:1]", 1.5), ("tasks 1.5", "how many")),
    Try("count", "an unknown task", lambda _: count("LoRA()", "minilm[:1]", ["sts", "sst_9"]), ("'sst_9'", "sst")),
    Try("estimate", "half a batch", lambda _: estimate("LoRA()", "minilm[:1]", 0.5, 8), ("0.5", "whole")),
    Try("estimate", "a length in words", lambda _: estimate("LoRA()", "minilm[:1]", 1, "8"), ("'8'", "whole")),
]


# --- python -m peftlib.batch.parameters -------------------------------------------------------------------------------
def notebook(path: Path, source: object = 'preset: str = "smoke"\nlr = 1e-4\nrows = None') -> Path:
    cell = {"cell_type": "code", "source": source, "metadata": {"tags": ["parameters"]}, "outputs": []}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def checked(path: Path, *given: str) -> str:
    return command(str(path), *given, main=parameters.main)


PAIRS = [
    (("-p", "prest", "quick"), "a name misspelt", ("'prest'", "did you mean 'preset'", "It has: preset, lr, rows")),
    (("-p", "p" * 10**5, "1"), "a name of 10^5 letters", ("unknown parameter 'ppp", "It has: preset, lr, rows")),
    (("-p", "\udcff", "1"), "a name that is no text", ("'\\udcff'", "It has: ")),
    (("-p", "preset", "3"), "a number for a text", ("preset = 3 is of type int", "expected str")),
    (("-p", "preset", "True"), "a truth for a text", ("preset = True is of type bool", "expected str")),
    (("-p", "lr", "1e-3x"), "a text for a number", ("lr = '1e-3x' is of type str", "expected float")),
    (("-p", "lr", "x" * 10**6), "a text of 10^6 letters", ("lr = 'xxx", "expected float (default 0.0001)")),
    (("-p", "lr", "9" * 10**4), "a number of 10^4 digits", ("lr = inf", "expected a finite number")),
    (("-p", "lr", "9" * 4000), "a whole number that no float holds", ("lr = <a number of", "expected a finite number")),
    (("-p", "lr", "1e999"), "a float that overflows", ("lr = inf", "expected a finite number")),
    (("-p", "rows", "nan"), "not a number", ("rows = nan", "expected a finite number")),
    (("-p", "lr", "[" * 10**5), "brackets inside one another", ("lr = '[[[", "expected float")),
    (("-p", "preset"), "a name without a value", ("-p", "expected 2 arguments")),
]
FILES = [  # content of the notebook, what it is, words of the refusal
    ("", "an empty file", ("no notebook", "expected JSON with cells")),
    ("# a page", "a page of Markdown", ("no notebook", "JSON")),
    (b"\xff\xfe\x00", "no text", ("no notebook", "UnicodeDecodeError")),
    ("[" * 10**5, "brackets inside one another", ("no notebook", "RecursionError")),
    ("[]", "a list", ("no notebook", "expected JSON with cells")),
    ("null", "nothing", ("no notebook", "expected JSON with cells")),
    ("{}", "no cells", ("no notebook", "'cells'")),
    ('{"cells": 3}', "a number of cells", ("no notebook", "expected JSON with cells")),
    ('{"cells": [null]}', "a cell that is nothing", ("no notebook", "source and metadata")),
    ('{"cells": [{"source": "a = 1"}]}', "a cell without metadata", ("no notebook", "'metadata'")),
    ('{"cells": [{"source": [1], "metadata": {}}]}', "a source of numbers", ("no notebook", "source and metadata")),
    ('{"cells": [{"source": "a = 1", "metadata": []}]}', "metadata that are a list", ("no notebook",)),
    ('{"cells": [{"source": "a = 1", "metadata": {"tags": null}}]}', "tags that are nothing", ("no notebook",)),
    ('{"cells": []}', "no cell", ("expected one cell tagged 'parameters', found 0",)),
]
SOURCES = [
    ("lr = rate()", "a default that is computed", ("line 1", "`name = literal`", "'lr = rate()'")),
    ("lr = 1\na, b = 1, 2", "two names at once", ("line 2", "`name = literal`", "'a, b = (1, 2)'")),
    ("lr: float", "a name without a default", ("line 1", "'lr: float'")),
    ("a.b = 1", "an attribute", ("line 1", "'a.b = 1'")),
    ("lr = " + "-" * 5000 + "1", "signs inside one another", ("parameters",)),
    ("lr = {[]: 1}", "a key that cannot be one", ("line 1", "`name = literal`")),
    ("%matplotlib inline", "a magic", ("is no Python", "`name = literal`")),
    ("lr = '\0'", "a null byte", ("is no Python",)),
    ("lr = '\ud800'", "a lone surrogate", ("is no Python",)),
]
TRIES += [
    Try("parameters", given, lambda folder, argv=argv: checked(notebook(folder / "a.ipynb"), *argv), words)
    for argv, given, words in PAIRS
]
TRIES += [
    Try("parameters", f"{given} for a notebook", lambda folder, text=text: checked(written(folder / "a", text)), words)
    for text, given, words in FILES
]
TRIES += [
    Try("parameters", f"{given} in its cell", lambda folder, text=text: checked(notebook(folder / "a", text)), words)
    for text, given, words in SOURCES
]
TRIES += [
    Try("parameters", "no notebook there", lambda folder: checked(folder / "a.ipynb"), ("a.ipynb", "No such file")),
    Try("parameters", "a folder for a notebook", checked, ("cannot be read (Is a directory)", "expected a notebook")),
    Try("parameters", "a null byte in its path", lambda _: checked("a\0b.ipynb"), ("'a\\x00b.ipynb'", "expected")),
    Try("parameters", "no argument", lambda _: command(main=parameters.main), ("notebook", "--help")),
]


# --- benchmarks -------------------------------------------------------------------------------------------------------
def benchmark(name: str, *argv: str) -> str:
    """The command line of a file in benchmarks/."""
    found = importlib.util.spec_from_file_location(name, records.root() / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return command(*argv, main=module.main)


BENCHMARKS = [
    ("budget", ("--batch", "0"), "an empty batch", ("--batch", "'0'", "from 1 on")),
    ("budget", ("--budget", "24"), "a budget without a unit", ("'24'", "24GB")),
    ("budget", ("--length", "9" * 5000), "a length of 5,000 digits", ("--length", "'999")),
    ("step", ("--steps", "0"), "no step", ("--steps", "'0'", "from 1 on")),
    ("step", ("--backbone", "minilm[:0]"), "an unknown shape", ("minilm[:0]", "t5-base")),
    ("kronecker", ("--repeats", "half"), "a number in words", ("--repeats", "'half'")),
    ("xpeft", ("--steps", "0"), "no steps", ("--steps", "0")),
    ("xpeft_growth", ("--users", "0"), "no user", ("--users", "'0'", "from 1 on")),
    ("kronecker", ("--output", "/dev/null/a.json"), "a file that cannot be written", ("'/dev/null/a.json'", "written")),
    ("machines", ("--name", "a phone"), "a machine that nobody asks about", ("a phone", "one H100")),
    ("machines", ("--name", "one H100"), "the name of another machine", ("'one H100'", "a device with H100")),
    ("machines", ("--name", "one H100", "--parallel", "0"), "no run at a time", ("--parallel", "'0'", "from 1 on")),
    ("training_speed", ("--examples", "-1"), "fewer examples than none", ("--examples", "'-1'", "from 1 on")),
    ("batch_overhead", ("--jobs", "0"), "no worker", ("--jobs", "'0'", "from 1 on")),
]
TRIES += [
    Try(f"benchmarks/{name}.py", given, lambda _, name=name, argv=argv: benchmark(name, *argv), words)
    for name, argv, given, words in BENCHMARKS
]


# --- tools ------------------------------------------------------------------------------------------------------------
def made(folder: Path, *argv: str) -> str:
    (folder / "t5").mkdir()
    (folder / "t5-texts").mkdir()
    return command(str(folder / "t5"), *argv, main=t5_embedded.main)


TRIES += [
    Try("tools.t5_embedded", "a model that is there", made, ("t5 exists already", "never overwritten")),
    Try("tools.t5_embedded", "no step", lambda f: made(f, "--mixed", "0"), ("--mixed", "'0'", "from 1 on")),
    Try(
        "tools.t5_embedded",
        "a corpus that there is not",
        lambda f: command(str(f / "t5"), "--corpora", "guttenberg", main=t5_embedded.main),
        ("'guttenberg'", "gutenberg, wikitext2"),
    ),
]


# --- at random --------------------------------------------------------------------------------------------------------
WORDS = [
    "",
    HUGE,
    "9" * 5000,
    "x" * 10**5,
    "\u0663",
    "\0",
    "\ud800",
    "\x1b[2J",
    "a\nb",
    *"0 1 2 -1 3.5 nan text heads bf16 fp32 cpu cuda LoRA() minilm t5-small 24GB 1e999GB smoke quick".split(),
    *"adaptbert adaptbert/table3 lr preset rows True None / .. -- -p --json".split(),
]
OPTIONS = "--tasks --form --batch --length --budget --precision --answer --device --preset --paper --nonsense".split()


def _count_or_estimate(draw: random.Random, _: Path):
    method = draw.choice(["LoRA()", "HeadOnly()", "Full()", "BitFit()", drawn(draw)])
    argv = [draw.choice(["count", "estimate"]), method, "--backbone", draw.choice(["minilm[:1]", "minilm[:2]"])]
    for _ in range(draw.randrange(4)):
        argv += [draw.choice(OPTIONS), draw.choice(WORDS)]
    return lambda: command(*argv)


def _light(draw: random.Random, folder: Path):
    argv = draw.choice([["methods"], ["presets"], ["experiments"], ["status", "--preset", draw.choice(WORDS)], []])
    argv += [draw.choice(OPTIONS + WORDS) for _ in range(draw.randrange(5))]
    return lambda: command(*argv)


def _parameters(draw: random.Random, folder: Path):
    text = draw.choice(['lr = 1e-4\npreset = "smoke"', *(source for source, *_ in SOURCES), drawn(draw)])
    whole = notebook(folder / "a.ipynb", draw.choice([text, text.splitlines(True), draw.choice([None, 1, {}])])).read_text()
    at = draw.randrange(len(whole))
    cut = draw.choice([whole, whole, whole[:at], whole[:at] + draw.choice(WORDS) + whole[at:]])
    path = written(folder / "a.ipynb", cut.encode(errors="surrogatepass"))
    names = ["lr", "preset", *WORDS]
    given = [word for _ in range(draw.randrange(4)) for word in ("-p", draw.choice(names), draw.choice(WORDS))]
    return lambda: checked(path, *given)


GENERATORS = {
    "peftlib count and estimate": _count_or_estimate,
    "peftlib, the light commands": _light,
    "parameters": _parameters,
}
