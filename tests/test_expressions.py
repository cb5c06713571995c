"""Expressions as trees: what is asked of them without torch, and that they say what the methods built from them say."""

import dataclasses
import subprocess
import sys

import pytest

from peftlib import expressions, grids
from peftlib.errors import WIDTH, UsageError, short
from peftlib.expressions import canonical, names, per_task, skeleton
from peftlib.methods import METHODS, Method, parse

OF_RUNS = sorted(
    {run.method for preset in grids.presets() for name in grids.experiments() for run in grids.runs(name, preset)}
)
WRITTEN = [
    "LoRA",
    " LoRA( rank = 8,alpha=16 )",
    "LoRA(dropout=0.1, sites=('query', 'up'), alpha=None, rank=2)",
    "PerTask(LoRA(rank=4)+(BitFit()+HeadOnly())) + Full",
    "FishMask(fraction=+0.5)",
    "AdapterDrop(init='bert', drop=1)",
    "Houlsby(train_norms=True,)",
    "GaLore(rank=0x10, scale=1)",
    "Layers(LoRA, stack='encoder', stop=4, start=0)",
    "PerTask(Layers(LoRA(rank=8) + BitFit, start=2)) + Layers(Houlsby())",
]


OF_OTHERS = {name for name, cls in METHODS.items() if cls.leaves is not Method.leaves}  # methods made of other methods


@pytest.mark.parametrize("text", OF_RUNS + [f"{name}()" for name in sorted(METHODS)] + WRITTEN)
def test_a_tree_says_what_the_methods_say(text):
    built = parse(text)
    assert canonical(text) == str(built) and canonical(str(built)) == str(built)
    leaves = list(built.leaves(("task",)))
    if not OF_OTHERS & set(names(text)):
        assert names(text) == [type(leaf.method).__name__ for leaf in leaves]
        assert per_task(text) == [leaf.task is not None for leaf in leaves]


def test_what_the_sources_declare_is_what_the_classes_have():
    declared = expressions._declared()
    ours = {name: cls for name, cls in METHODS.items() if cls.__module__.startswith("peftlib.")}
    assert set(declared) == set(ours)
    for name, cls in ours.items():
        assert [(f.name, f.type, f.default) for f in declared[name]] == [
            (f.name, f.type, f.default) for f in dataclasses.fields(cls)
        ]


@pytest.mark.parametrize(
    "text, bare",
    [
        ("LoRA(rank=8) + PerTask(Houlsby(bottleneck=8))", "LoRA + PerTask(Houlsby)"),
        ("LoRA(sites=('query', 'up'), rank=2)", "LoRA"),
        ("PerTask(LoRA() + BitFit())", "PerTask(LoRA + BitFit)"),
        ("Full", "Full"),
        ("Layers(LoRA(rank=2), stop=2) + PerTask(Layers(BitFit()))", "Layers(LoRA) + PerTask(Layers(BitFit))"),
    ],
)
def test_a_skeleton_has_no_hyperparameters(text, bare):
    assert skeleton(text) == bare


def test_no_torch_is_needed():
    code = (
        "import sys\nfrom peftlib.expressions import canonical\n"
        "assert canonical('LoRA(rank=8) + AdapterDrop(drop=5, bottleneck=8)') == 'LoRA() + AdapterDrop(bottleneck=8)'\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def mine():
    """A user's own method, one of whose fields has no default."""

    @dataclasses.dataclass(frozen=True)
    class Mine(Method):
        size: int
        scale: float = 1.0

    yield Mine
    del METHODS["Mine"]


def test_a_users_own_method(mine):
    assert parse("Mine(scale=1, size=2)") == mine(2) and canonical("Mine(scale=1, size=2)") == "Mine(size=2)"
    with pytest.raises(UsageError, match=r"Mine has no default for size: expected Mine\(size=...\)"):
        parse("Mine()")


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        10**10_000,
        [[10**5000]],
        {"a": ["b" * 100] * 100},
        "\ud800\x1b[2J\n",
        b"\0" * 1000,
        object(),
        [[[[[[]]]]]],
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_in_a_message_is_short_and_one_line(value):
    assert len(short(value)) <= WIDTH and short(value).isprintable()


def test_a_short_value_is_shown_whole():
    assert [short(v) for v in ("a  b", 1.5, None, ("query", "up"))] == ["'a  b'", "1.5", "None", "('query', 'up')"]
