"""What methods do to a model: hyperparameters from Python, sizes that a backbone has no room for, merging."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tiny import CONFIGS, backbone, build, writing_t5

from peftlib import backbones
from peftlib.data.tasks import get_task
from peftlib.hypernets import add_task, bake
from peftlib.methods import (
    LST,
    MAM,
    METHODS,
    AdaLoRA,
    AdaMix,
    BitFit,
    DiffPruning,
    FishMask,
    GaLore,
    GLoRA,
    Houlsby,
    HyperFormer,
    HyperFormerPlusPlus,
    KronA,
    Layers,
    LeTSLike,
    LoRA,
    ParallelAdapter,
    PerTask,
    PromptTuning,
    QLoRA,
    SparseAdapter,
    TaskAdapters,
    UniPELT,
    parse,
)
from peftlib.model import Tuned
from tries import Try

CONSTRUCTED: list[tuple[str, Callable, tuple[str, ...]]] = [  # what is given, the call, words of the refusal
    ("text for a number", lambda: LoRA(rank="8"), ("LoRA(rank='8')", "expected int, got str")),
    ("text for a tuple", lambda: LoRA(sites="query"), ("LoRA(sites='query')", "expected tuple[str, ...], got str")),
    ("a list for a tuple", lambda: LoRA(sites=["query"]), ("LoRA(sites=['query'])", "expected tuple[str, ...], got list")),
    ("a number among sites", lambda: LoRA(sites=("query", 1)), ("('query', 1)", "expected tuple[str, ...]")),
    ("a site twice", lambda: LoRA(sites=("query", "query")), ("LoRA(sites=('query', 'query')) is impossible",)),
    ("no site", lambda: AdaLoRA(sites=()), ("AdaLoRA(sites=()) is impossible",)),
    ("a truth for a number", lambda: LoRA(rank=True), ("LoRA(rank=True)", "expected int, got bool")),
    ("numpy's truth for a number", lambda: LoRA(rank=np.True_), ("LoRA(rank=True)", "expected int, got bool")),
    ("a truth for a float", lambda: LoRA(alpha=True), ("LoRA(alpha=True)", "expected float | None, got bool")),
    ("a number for a truth", lambda: Houlsby(train_norms=1), ("Houlsby(train_norms=1)", "expected bool, got int")),
    ("a float for a whole number", lambda: LoRA(rank=8.0), ("LoRA(rank=8.0)", "expected int, got float")),
    ("numpy's float for a whole number", lambda: LoRA(rank=np.float32(8)), ("expected int, got float",)),
    ("an array for a number", lambda: LoRA(rank=np.array([8])), ("expected int, got ndarray",)),
    ("a tensor for a number", lambda: LoRA(rank=torch.tensor(8)), ("expected int, got Tensor",)),
    ("a complex number", lambda: LoRA(alpha=1j), ("expected float | None, got complex",)),
    ("not a number", lambda: LoRA(alpha=float("nan")), ("LoRA(alpha=nan)", "expected a finite number")),
    ("numpy's infinity", lambda: GaLore(scale=np.float64("inf")), ("GaLore(scale=inf)", "expected a finite number")),
    ("a number that no float holds", lambda: LoRA(alpha=10**400), ("a number of 1,329 bits", "below 2^63")),
    ("a number of 5,000 digits", lambda: LoRA(rank=10**5000), ("a number of 16,610 bits", "below 2^63")),
    ("half a character", lambda: PromptTuning(init="\ud800"), ("PromptTuning(init='\\ud800') is impossible",)),
    ("a scale of nothing", lambda: ParallelAdapter(scale=0), ("ParallelAdapter(scale=0.0) is impossible",)),
    ("a part's size of nothing", lambda: MAM(bottleneck=0), ("ParallelAdapter(bottleneck=0) is impossible",)),
    ("a part without a size", lambda: UniPELT(bottleneck=0), ("UniPELT(bottleneck=0) is impossible",)),
    ("all that is kept", lambda: SparseAdapter(kept=1.0), ("SparseAdapter(kept=1.0) is impossible",)),
    ("nothing that is kept", lambda: SparseAdapter(kept=0), ("SparseAdapter(kept=0.0) is impossible",)),
    ("an unknown score", lambda: SparseAdapter(score="grasp"), ("SparseAdapter(score='grasp') is impossible",)),
    ("an odd block", lambda: QLoRA(block=63), ("QLoRA(block=63) is impossible",)),
    ("no form at all", lambda: GLoRA(weight="none", input="none", bias="none"), ("GLoRA(bias='none') is impossible",)),
    ("nothing to keep", lambda: DiffPruning(fraction=0.0), ("DiffPruning(fraction=0.0) is impossible",)),
    ("more to keep than there is", lambda: DiffPruning(fraction=1.5), ("DiffPruning(fraction=1.5) is impossible",)),
    ("all that there is", lambda: DiffPruning(fraction=1.0), ("DiffPruning(fraction=1.0) is impossible",)),
    ("all weights", lambda: FishMask(fraction=1.0), ("FishMask(fraction=1.0) is impossible",)),
    ("no time for a last phase", lambda: DiffPruning(noisy=1.0), ("DiffPruning(noisy=1.0) is impossible",)),
    ("a reward for entries", lambda: DiffPruning(l0=-1e-7), ("DiffPruning(l0=-1e-07) is impossible",)),
    ("gates that stand still", lambda: DiffPruning(gate_lr=0.0), ("DiffPruning(gate_lr=0.0) is impossible",)),
    ("a network of nothing", lambda: LeTSLike(hidden=0), ("LeTSLike(hidden=0) is impossible",)),
    ("all there is to choose", lambda: LeTSLike(fraction=1.0), ("LeTSLike(fraction=1.0) is impossible",)),
    ("a mixture of nothing", lambda: AdaMix(experts=0), ("AdaMix(experts=0) is impossible",)),
    ("outputs that are to differ", lambda: AdaMix(consistency=-1.0), ("AdaMix(consistency=-1.0) is impossible",)),
    ("a ladder without rungs", lambda: LST(skip=1), ("LST(skip=1) is impossible",)),
    ("an unknown form", lambda: GLoRA(weight="diagonal"), ("GLoRA(weight='diagonal') is impossible",)),
    ("a place where no product stands", lambda: KronA(sites=("up",)), ("KronA(sites=('up',)) is impossible",)),
    ("a reduction of nothing", lambda: HyperFormer(reduction=0), ("HyperFormer(reduction=0) is impossible",)),
    ("no adapters and no norms", lambda: HyperFormer(blocks=False, train_norms=False), ("HyperFormer(blocks=False) is",)),
    ("embeddings of nothing", lambda: HyperFormer(features=0), ("HyperFormer(features=0) is impossible",)),
    ("a projector of nothing", lambda: HyperFormerPlusPlus(hidden=0), ("HyperFormerPlusPlus(hidden=0) is impossible",)),
    ("an unknown activation", lambda: TaskAdapters(activation="tanh"), ("TaskAdapters(activation='tanh') is impossible",)),
    ("a text of a million letters", lambda: Houlsby(activation="x" * 10**6), ("Houlsby(activation='xxx", "is impossible")),
    ("bytes for text", lambda: PromptTuning(init=b"random"), ("expected str, got bytes",)),
    ("layers of a text", lambda: Layers("LoRA()", stop=2), ("'LoRA()' is no method",)),
    ("layers of layers", lambda: Layers(Layers(LoRA())), ("Layers inside Layers", "name the blocks once")),
    ("layers of copies", lambda: Layers(PerTask(LoRA())), ("PerTask inside Layers", "PerTask(Layers(...))")),
    ("text in a sum", lambda: LoRA() + "BitFit()", ("'BitFit()' is no method", "parse(")),
    ("a class in a sum", lambda: LoRA() + BitFit, ("is no method: expected one such as LoRA(rank=8)",)),
    ("copies of a text", lambda: PerTask("LoRA()"), ("'LoRA()' is no method",)),
    ("more methods than can be read back", lambda: parse(sum([BitFit()] * 64, BitFit())), ("65 methods", "at most 64")),
]
TOO_LARGE = [  # on a tiny BERT of width 32 with 32 positions
    ("LoRA(rank=33)", ("'attention.query' is 32 x 32", "ranks from 1 to 32")),
    ("LoRA(rank=33, sites=('up',))", ("'ffn.up' is 64 x 32", "ranks from 1 to 32")),
    ("AdaLoRA(rank=40, target=2)", ("AdaLoRA(rank=40, target=2): the weight of 'attention.query' is 32 x 32",)),
    ("PerTask(LoRA(rank=33))", ("LoRA(rank=33)", "ranks from 1 to 32")),
    ("AdapterLowRank(bottleneck=64, rank=33)", ("matrices are 32 x 64", "ranks from 1 to 32")),
    ("Compacter(bottleneck=8, rank=3)", ("factor is 8 x 2", "ranks from 1 to 2")),
    ("CompacterPlusPlus(bottleneck=8, rank=3)", ("factor is 8 x 2", "ranks from 1 to 2")),
    ("GaLore(rank=64)", ("no matrix has more than 32 rows and columns", "ranks from 1 to 31")),
    ("Layers(LoRA(), start=2)", ("blocks from 2 to the end of each stack", "2 encoder blocks", "the first is 0")),
    ("Layers(LoRA(), stop=3)", ("blocks from 0 to 3 of each stack", "2 encoder blocks")),
    ("Layers(LoRA(), stack='decoder')", ("of decoder", "2 encoder blocks")),
    ("LST(reduction=3)", ("reduction must divide the width 32, the feed-forward width 64 and the head size 8",)),
    ("LST(reduction=2, skip=2) + AttentionFusion()", ("both say what the heads read",)),
    ("LeTSLike(layers=3)", ("LeTSLike(layers=3): this backbone has 2 blocks", "expected fewer layers")),
    ("LeTSLike(layers=1, fraction=0.9)", ("weights are more than the 8,192 of the last 1 blocks", "smaller fraction")),
    ("PerTask(LeTSLike())", ("take it out of PerTask",)),
    ("PerTask(DiffPruning())", ("take it out of PerTask",)),
    ("DiffPruning() + DiffPruning()", ("can be neither repeated nor combined",)),
    ("CrossAttentionTuning()", ("CrossAttentionTuning() needs a decoder", "bert", "use an encoder-decoder such as T5")),
    ("AttentionFusion() + AttentionFusion()", ("both say what the heads read", "keep one")),
    ("KronA(rows=5)", ("the matrix is 32 x 32, which A of 5 x 4 does not divide", "rows that divide 32")),
    ("KronAB(columns=5)", ("A of 4 x 5", "columns that divide 32")),
    ("KronA(rank=9)", ("B is 8 x 8", "ranks from 1 to 8")),
    ("UniPELT(rank=33)", ("UniPELT(rank=33)", "'attention.query' is 32 x 32", "ranks from 1 to 32")),
    ("DoRA(rank=33)", ("DoRA(rank=33): the weight of 'attention.query' is 32 x 32", "ranks from 1 to 32")),
    ("QLoRA(block=96)", ("'attention.query' is 32 x 32", "blocks of 96 do not divide", "divides 1,024, such as 64")),
    ("Full() + QLoRA()", ("'attention.query' in four bits", "written before it trains or computes", "take one of the two")),
    ("LoRA() + QLoRA()", ("a method written before it stands there", "write QLoRA first")),
    ("GLoRA(rank=33)", ("GLoRA(rank=33)", "ranks from 1 to 32")),
    ("XPEFT(adapters=0)", ("XPEFT(adapters=0) is impossible",)),
    ("XPEFT(adapters=40, mask='hard')", ("XPEFT(k=50) is impossible",)),
    ("XPEFT(adapters=8, bank='nowhere')", ("nowhere: there is no such file",)),
    ("XPEFT(adapters=1000000)", ("XPEFT(adapters=1000000)", "would need", "choose smaller sizes")),
    ("HyperFormer(reduction=33)", ("HyperFormer(reduction=33)", "leaves no bottleneck of the width 32", "at most that")),
    ("HyperFormerPlusPlus(reduction=64)", ("leaves no bottleneck of the width 32",)),
    ("TaskAdapters(reduction=64)", ("leaves no bottleneck of the width 32",)),
    ("PerTask(HyperFormer())", ("trains the backbone's own tensors", "take it out of PerTask")),
    ("PerTask(TaskAdapters())", ("trains the backbone's own tensors", "take it out of PerTask")),
    ("HeadOnly(shared=True)", ("'sst' and 'quora' cannot have one head",)),
    ("HeadOnly(shared=True, given='x')", ("HeadOnly(given='x') is impossible",)),
    ("PromptTuning(length=32)", ("none of this backbone's 32 positions", "1 to 31")),
    ("IntrinsicSAID(dimension=100000000)", ("would need", "choose smaller sizes")),
    *[
        (f"{name}({field}=1000000000000000000)", (f"{field}=1000000000000000000", "would need", "choose smaller sizes"))
        for name, field in [
            ("Houlsby", "bottleneck"),
            ("SparseAdapter", "bottleneck"),
            ("AdaptBertAdapter", "bottleneck"),
            ("AdapterLowRank", "bottleneck"),
            ("Compacter", "bottleneck"),
            ("PHMAdapter", "bottleneck"),
            ("PfeifferFFN", "bottleneck"),
            ("AdaptBertHypernet", "bottleneck"),
            ("AdaptBertHypernet", "task_dim"),
            ("AdaptBertHypernet", "hidden"),
            ("HyperFormer", "bottleneck"),
            ("HyperFormer", "features"),
            ("HyperFormer", "task_dim"),
            ("HyperFormerPlusPlus", "bottleneck"),
            ("HyperFormerPlusPlus", "hidden"),
            ("TaskAdapters", "bottleneck"),
            ("PrefixTuning", "length"),
            ("AdaptivePrefixTuning", "length"),
            ("UniPELT", "length"),
            ("ParallelAdapter", "bottleneck"),
            ("PrefixTuning", "mlp"),
            ("LoRA", "rank"),
            ("PromptTuning", "length"),
            ("IntrinsicSAID", "dimension"),
        ]
    ],
]
MERGED = [  # what cannot be merged, and words of the refusal
    ("AdaMix(bottleneck=2)", ("AdaMix(bottleneck=2) cannot be merged",)),
    ("LoRA(rank=2) + Houlsby(bottleneck=2)", ("Houlsby(bottleneck=2) cannot be merged",)),
    ("PerTask(LoRA(rank=2))", ("PerTask(LoRA(rank=2)) cannot be merged", "the tasks would need different weights")),
    ("KronAB()", ("KronAB() cannot be merged",)),
    ("XPEFT(adapters=8)", ("XPEFT(adapters=8) cannot be merged",)),
    ("HyperFormerPlusPlus()", ("HyperFormerPlusPlus() cannot be merged",)),
    ("MAM(length=2, mlp=None, bottleneck=2)", ("PrefixTuning(length=2, mlp=None) cannot be merged",)),
    ("SparseAdapter(bottleneck=2)", ("SparseAdapter(bottleneck=2) cannot be merged", "no fixed change of its weights")),
    ("UniPELT(length=2, mlp=None)", ("UniPELT(length=2, mlp=None) cannot be merged", "no fixed change of its weights")),
    ("PrefixTuning(length=2, mlp=None) + LoRA(rank=2)", ("PrefixTuning(length=2, mlp=None) cannot be merged",)),
]
PLUSPLUS = "HyperFormerPlusPlus(bottleneck=4)"
BAKED: list[tuple[str, str, Callable, tuple[str, ...]]] = [  # what, the model, the call, words of the refusal
    ("a task that is not there", PLUSPLUS, lambda m: bake(m, "mnli", backbone("bert")), ("no task 'mnli'", "sst, quora")),
    ("other weights", PLUSPLUS, lambda m: bake(m, "sst", backbone("bert", seed=8)), ("load the backbone that it was",)),
    ("the model's own backbone", PLUSPLUS, lambda m: bake(m, "sst", m.backbone), ("load the backbone that it was",)),
    ("no hypernetwork", "LoRA()", lambda m: bake(m, "sst", backbone("bert")), ("is not one method", "HyperFormer,")),
    ("two methods", f"{PLUSPLUS} + LoRA()", lambda m: bake(m, "sst", backbone("bert")), ("is not one method", "alone")),
    ("no adapters", "HyperFormer(blocks=False)", lambda m: bake(m, "sst", backbone("bert")), ("has no adapters",)),
]
ADDED: list[tuple[str, str, Callable, tuple[str, ...]]] = [
    ("a task that is there", PLUSPLUS, lambda m: add_task(m, get_task("sst"), backbone("bert")), ("a task 'sst' among",)),
    (
        "like a task that is not there",
        PLUSPLUS,
        lambda m: add_task(m, get_task("sts"), backbone("bert"), like="rte"),
        ("no task 'rte' in this model", "expected one of sst, quora"),
    ),
    (
        "other weights",
        PLUSPLUS,
        lambda m: add_task(m, get_task("sts"), backbone("bert", seed=8)),
        ("load the backbone that it was built on",),
    ),
    (
        "a form that training decides",
        "AdaLoRA(rank=4, target=2)",
        lambda m: add_task(m, get_task("sts"), backbone("bert")),
        ("takes its form in training", "train all tasks together"),
    ),
    (
        "a model that is merged",
        "LoRA(rank=2)",
        lambda m: add_task(m.merge(), get_task("sts"), backbone("bert")),
        ("is merged into its backbone", "before merge()"),
    ),
]


def _nothing_of_its_own(_: Path) -> object:
    model = Tuned(writing_t5(), "LoRA(rank=2)", [get_task("sst")], form="text")
    return add_task(model, get_task("sts"), writing_t5())


def _second(first: str, second: str) -> object:
    return Tuned(build(first, "bert").backbone, second, [get_task("sst")])


TRIES = [Try("a method from Python", given, lambda _, call=call: call(), words) for given, call, words in CONSTRUCTED]
TRIES += [Try("a method on a backbone", text, lambda _, text=text: build(text, "bert"), words) for text, words in TOO_LARGE]
TRIES += [Try("merge", text, lambda _, text=text: build(text, "bert").merge(), words) for text, words in MERGED]
TRIES += [
    Try(door, f"{what}: {method}", lambda _, method=method, call=call: call(build(method, "bert")), words)
    for door, tries in (("bake", BAKED), ("add_task", ADDED))
    for what, method, call, words in tries
]
TRIES += [
    Try("add_task", "nothing that is its own", _nothing_of_its_own, ("trains nothing in form 'text'",)),
    Try(
        "merge",
        "into weights kept in bf16",
        lambda _: build("LoRA(rank=2)", "bert").store_frozen(torch.bfloat16).merge(),
        ("LoRA(rank=2) cannot be merged into weights kept in torch.bfloat16", "call model.float() first"),
    ),
    Try(
        "save_pretrained",
        "T5 with merged biases",
        lambda to: build("BitFit()", "t5").merge().backbone.save_pretrained(to),
        ("no biases in its linear layers", "keep the delta instead"),
    ),
    *[
        Try(
            "a method on a backbone",
            f"that carries {first}",
            lambda _, first=first: _second(first, "LoRA(rank=2)"),
            ("carries another method already", "load the backbone anew", "merge()"),
        )
        for first in (
            "LoRA(rank=2)",
            "PrefixTuning(length=2, mlp=None)",
            "PromptTuning(length=2)",
            "FishMask(fraction=0.1, examples=2)",
            "IntrinsicSAID(dimension=300)",
            "AdaptBertHypernet(bottleneck=2)",
        )
    ],
]

VALUES = [
    0,
    1,
    2,
    3,
    4,
    8,
    32,
    33,
    10**6,
    10**12,
    10**18,
    2**63,
    -1,
    0.0,
    0.5,
    1.0,
    1e-300,
    1e300,
    float("nan"),
    float("inf"),
    True,
    None,
    "",
    "query",
    "relu",
    "random",
    "\ud800",
    (),
    ("query",),
    ("up", "down"),
    ("query", 2),
    np.int64(4),
    np.float32(0.5),
    np.str_("bert"),
    b"",
    [],
    torch.tensor(1),
]


def _hyperparameters(draw: random.Random, _: Path):
    """A method of any hyperparameters on a backbone without weights, and its counts."""
    cls = METHODS[draw.choice(sorted(METHODS))]
    given = {field.name: draw.choice(VALUES) for field in dataclasses.fields(cls) if draw.random() < 0.5}

    def go():
        method = cls(**given)
        assert parse(str(method)) == method
        with torch.device("meta"):
            Tuned(
                backbones.from_config(CONFIGS[draw.choice(["bert", "t5"])](), device="meta"), method, [get_task("sst")]
            ).counts()

    return go


GENERATORS = {"a method from Python": _hyperparameters}
