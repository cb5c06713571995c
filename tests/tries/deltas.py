"""What was saved and is loaded: deltas, and folders in the format of `peft`."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import tiny
import torch
from safetensors.torch import load, save, save_file

from peftlib import deltas, interop
from peftlib.backbones import Backbone
from peftlib.data.tasks import get_task
from peftlib.model import Tuned
from peftlib.serving import Profiles
from tries import Generator, Try

Change = Callable[[dict, dict], object]  # of metadata and tensors, in place
LORA, FISH = "LoRA(rank=2)", "FishMask(fraction=0.01, examples=2)"
METHODS = (
    LORA,
    FISH,
    "AdaLoRA(rank=2, target=1)",
    "BitFit()",
    "PrefixTuning(length=2, mlp=4)",
    "PerTask(Houlsby(bottleneck=2))",
    "IntrinsicSAID(dimension=100)",
)
A = "backbone.encoder.layer.0.attention.self.query.edits.lora.A"
INDICES = "backbone.embeddings.word_embeddings.parametrizations.weight.0.indices"
PEFT_A = "base_model.model.encoder.layer.0.attention.self.query.lora_A.weight"


@functools.cache
def whole(method: str) -> bytes:
    """A delta's file."""
    with tempfile.TemporaryDirectory() as folder:
        model = tiny.build(method, "bert")
        tiny.train(model, "bert")
        model.finish()
        deltas.save(model, Path(folder) / "delta.safetensors")
        return (Path(folder) / "delta.safetensors").read_bytes()


def parts(content: bytes) -> tuple[dict, dict]:
    """Metadata and tensors."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size])["__metadata__"], load(content)


def loaded(folder: Path, content: bytes, **options) -> Tuned:
    path = folder / "delta.safetensors"
    path.write_bytes(content)
    return deltas.load(path, tiny.backbone("bert"), **options)


def changed(change: Change, method: str = LORA) -> Callable[[Path], object]:
    """Load a delta after a change."""

    def go(folder: Path) -> Tuned:
        metadata, tensors = parts(whole(method))
        change(metadata, tensors)
        return loaded(folder, save(tensors, metadata))

    return go


def says(**fields: str | None) -> Callable[[Path], object]:
    """Load a delta whose metadata says something else, or nothing (None)."""

    def change(metadata: dict, _) -> None:
        metadata |= fields
        for name in [name for name, value in fields.items() if value is None]:
            del metadata[name]

    return changed(change)


def header(**entry) -> bytes:
    """A file of one tensor, with whatever its header says of it."""
    text = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | entry}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


def task_of(**fields) -> str:
    return json.dumps(
        [{"name": "mine", "kind": "classes", "texts": ["text"], "labels": ["no", "yes"], "low": 0.0, "high": 0.0} | fields]
    )


def _save(
    method: str = "LoRA(rank=2)", change: Callable[[Tuned], object] = lambda model: None, name: str = "delta.safetensors"
) -> Callable[[Path], object]:
    def go(folder: Path) -> int:
        model = tiny.build(method, "bert")
        change(model)
        return deltas.save(model, folder / name)

    return go


def _diverge(model: Tuned) -> None:
    model.heads["sst"].bias.data.fill_(float("nan"))


def _without_permission(folder: Path) -> Tuned:
    (folder / "delta.safetensors").symlink_to(folder / "delta.safetensors")  # root may read everything, but not this
    return deltas.load(folder / "delta.safetensors", tiny.backbone("bert"))


SAVED = [
    Try("save", "after merging", _save(change=Tuned.merge), ("LoRA(rank=2)", "merged", "save before merging")),
    Try("save", "a FISH mask after merging", _save(FISH, Tuned.merge), ("FishMask", "save before merging")),
    Try(
        "save",
        "a FISH mask that has seen no data",
        lambda folder: deltas.save(tiny.build(FISH, "bert", prepared=False), folder / "delta.safetensors"),
        ("FishMask", "prepare"),
    ),
    Try("save", "weights that are no numbers", _save(change=_diverge), ("heads.sst.bias", "not finite")),
    Try(
        "save",
        "in the place of a folder",
        lambda folder: ((folder / "it").mkdir(), _save(name="it")(folder)),
        ("it", "cannot be written"),
    ),
    Try(
        "save",
        "a backbone's name that is no text",
        lambda folder: deltas.save(tiny.build(LORA, "bert"), folder / "delta.safetensors", backbone="\udcff"),
        ("cannot be written", "surrogates"),
    ),
    Try(
        "save",
        "below a file",
        lambda folder: ((folder / "it").touch(), _save(name="it/delta")(folder)),
        ("it/delta", "cannot be written"),
    ),
]
LOADED = [
    Try("load", "no file", lambda folder: deltas.load(folder / "it", tiny.backbone("bert")), ("it", "no such file")),
    Try("load", "a folder", lambda folder: deltas.load(folder, tiny.backbone("bert")), ("no such file",)),
    Try("load", "a file that cannot be opened", _without_permission, ("delta.safetensors",)),
    Try("load", "an empty file", lambda folder: loaded(folder, b""), ("delta.safetensors", "safetensors")),
    Try("load", "a picture", lambda folder: loaded(folder, b"\x89PNG" + bytes(99)), ("delta.safetensors", "cut")),
    Try("load", "half a file", lambda folder: loaded(folder, whole(LORA)[:-1000]), ("delta.safetensors", "cut short")),
    Try("load", "a file with more at its end", lambda folder: loaded(folder, whole(LORA) + bytes(9)), ("safetensors",)),
    Try(
        "load",
        "a header of 2**60 bytes",
        lambda folder: loaded(folder, (1 << 60).to_bytes(8, "little") + bytes(99)),
        ("delta.safetensors", "safetensors"),
    ),
    Try("load", "a shape of 10**18", lambda folder: loaded(folder, header(shape=[10**18])), ("delta.safetensors",)),
    Try(
        "load",
        "a tensor outside the file",
        lambda folder: loaded(folder, header(data_offsets=[0, 1 << 40])),
        ("delta.safetensors",),
    ),
    Try("load", "somebody else's safetensors", lambda folder: loaded(folder, header()), ("format", "peftlib-delta-2")),
    Try("load", "a format of the future", says(format="peftlib-delta-3"), ("peftlib-delta-3", "peftlib-delta-2")),
    Try(
        "load",
        "a backbone with its tokenizer",
        lambda folder: (
            _save()(folder),
            deltas.load(folder / "delta.safetensors", Backbone("tiny", None, None, "mean", "")),
        ),
        ("Backbone", "load(name).model"),
    ),
    Try(
        "load",
        "a backbone that has its method already",
        lambda folder: (_save()(folder), deltas.load(folder / "delta.safetensors", tiny.build(LORA, "bert").backbone)),
        ("delta.safetensors",),
    ),
    Try("load", "weights of another digest", says(weights="0" * 64), ("0" * 64, "other_weights=True")),
    Try("load", "a digest of a million characters", says(weights="0" * 10**6), ("weights", "1,000,000 characters")),
    Try("load", "no digest", says(weights=None), ("weights", "save the model again")),
    Try("load", "no method", says(method=None), ("method", "save the model again")),
    Try("load", "a method that cannot be read", says(method="LoRA(rank="), ("delta.safetensors", "LoRA(rank=")),
    Try("load", "an unknown method", says(method="Lora()"), ("delta.safetensors", "did you mean LoRA")),
    Try("load", "a rank of 10**9", says(method=f"LoRA(rank={10**9})"), ("delta.safetensors", "1000000000")),
    Try("load", "a rank of 10**30", says(method=f"LoRA(rank={10**30})"), ("delta.safetensors",)),
    Try("load", "a dimension of 10**12", says(method=f"IntrinsicSAID(dimension={10**12})"), ("delta.safetensors",)),
    Try("load", "a method of a million characters", says(method="LoRA(" * 200_000), ("method", "1,000,000 characters")),
    Try("load", "an unknown pooling", says(pooling="max"), ("delta.safetensors", "max", "'mean' or 'cls'")),
    Try("load", "an unknown form", says(form="speech"), ("delta.safetensors", "speech")),
    Try("load", "form text on an encoder", says(form="text"), ("delta.safetensors", "language-model head")),
    Try("load", "tasks that are no JSON", says(tasks="[sst"), ("delta.safetensors", "[sst")),
    Try("load", "tasks nested without end", says(tasks="[" * 90_000), ("delta.safetensors", "tasks")),
    Try("load", "tasks that are no list", says(tasks='"sst"'), ("'sst'", "expected a list")),
    Try("load", "no task", says(tasks="[]"), ("delta.safetensors", "at least one task")),
    Try("load", "an unknown task", says(tasks='["sst", "qora"]'), ("delta.safetensors", "qora", "'quora'")),
    Try("load", "tasks of two million characters", says(tasks='["sst"]' + " " * 2_000_000), ("tasks", "2,000,007")),
    Try("load", "a task twice", says(tasks='["sst", "sst"]'), ("delta.safetensors", "twice")),
    Try("load", "a task that is a number", says(tasks="[7]"), ("delta.safetensors", "7", "a task's name")),
    Try("load", "a task of half its fields", says(tasks='[{"name": "mine"}]'), ("mine", "labels")),
    Try("load", "a task whose name has a dot", says(tasks=task_of(name="a.b")), ("a.b", "name")),
    Try("load", "a task of unknown kind", says(tasks=task_of(kind="rank")), ("rank", "'binary'")),
    Try("load", "a task whose labels are numbers", says(tasks=task_of(labels=[0, 1])), ("labels",)),
    Try("load", "a score without end", says(tasks=task_of(kind="score", labels=[], high=float("inf"))), ("high",)),
    Try(
        "load",
        "a task of other labels",
        says(tasks=task_of(name="sst", labels=["a", "b", "c"])),
        ("heads.", "does not fit"),
    ),
    Try("load", "parts that are no names and digests", says(parts="[1]"), ("its parts are '[1]'", "names and digests")),
    Try(
        "load",
        "parts without an end",
        says(parts='{"a": ' * 2000),
        ("'parts' of its metadata has 12,000", "at most 10,000"),
    ),
    Try("load", "a tensor that is missing", changed(lambda _, t: t.pop(A)), (A, "found none")),
    Try("load", "a tensor too many", changed(lambda _, t: t.update(more=torch.ones(3))), ("more", "expected none")),
    Try(
        "load",
        "a tensor with a name of a million characters",
        changed(lambda _, t: t.update({"a" * 10**6: torch.ones(3)})),
        ("aaa", "expected none"),
    ),
    Try("load", "another shape", changed(lambda _, t: t.update({A: torch.ones(3, 32)})), (A, "(2, 32)", "(3, 32)")),
    Try("load", "whole numbers", changed(lambda _, t: t.update({A: t[A].long()})), (A, "int64", "float32")),
    Try("load", "complex numbers", changed(lambda _, t: t.update({A: t[A] + 0j})), (A, "complex64", "float32")),
    Try("load", "NaN", changed(lambda _, t: t[A].fill_(float("nan"))), (A, "not finite")),
    Try("load", "numbers beyond fp32", changed(lambda _, t: t.update({A: t[A].double() + 1e300})), (A, "not finite")),
    Try(
        "load",
        "a mask outside its tensor",
        changed(lambda _, t: t[INDICES].add_(10**6), FISH),
        ("FishMask", "inside its tensor"),
    ),
    Try("load", "a mask below zero", changed(lambda _, t: t[INDICES].sub_(10**6), FISH), ("inside its tensor",)),
    Try("load", "a mask of one entry again and again", changed(lambda _, t: t[INDICES].fill_(1), FISH), ("each once",)),
    Try("load", "a mask in floats", changed(lambda _, t: t.update({INDICES: t[INDICES].float()}), FISH), ("FishMask",)),
    Try(
        "load",
        "a FISH mask of no entries",
        changed(lambda _, t: [t.pop(n) for n in [*t] if "parametriz" in n], FISH),
        ("FishMask", "found 0"),
    ),
]


# --- folders of peft --------------------------------------------------------------------------------------------------
@functools.cache
def adapter(method: str = "LoRA(rank=2, sites=('query',))") -> dict[str, bytes]:
    """The files of a folder."""
    with tempfile.TemporaryDirectory() as folder:
        interop.to_peft(tiny.build(method, "bert"), folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def read(
    folder: Path, change: Callable[[Path], object] = lambda folder: None, files: dict[str, bytes] | None = None, **options
) -> Tuned:
    for name, content in (files or adapter()).items():
        (folder / name).write_bytes(content)
    change(folder)
    return interop.from_peft(folder, tiny.backbone("bert"), **options)


def configured(**fields) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        config = json.loads(adapter()[interop.CONFIG]) | fields
        (folder / interop.CONFIG).write_text(json.dumps(config))

    return lambda folder: read(folder, change)


def config_of(content: bytes) -> Callable[[Path], object]:
    return lambda folder: read(folder, lambda folder: (folder / interop.CONFIG).write_bytes(content))


def adapted(change: Callable[[dict], object], name: str = interop.WEIGHTS) -> Callable[[Path], object]:
    def rewrite(folder: Path) -> None:
        tensors = load(adapter()[name])
        change(tensors)
        save_file(tensors, folder / name)
        if name == interop.WEIGHTS:
            (folder / interop.HEADS).unlink()

    return lambda folder: read(folder, rewrite, tasks=["sst"])


def _retrained(folder: Path) -> None:
    save_file({n: t + 1 for n, t in load(adapter()[interop.WEIGHTS]).items()}, folder / interop.WEIGHTS)


def _pickled(folder: Path) -> None:
    (folder / interop.WEIGHTS).rename(folder / "adapter_model.bin")


NO_LORA = dict.fromkeys(("r", "lora_alpha", "lora_dropout"))


def adaptive(**fields) -> Callable[[Path], object]:
    """A folder of AdaLoRA with other fields."""
    files = adapter("AdaLoRA(rank=2, target=2, sites=('query',))")

    def change(folder: Path) -> None:
        config = json.loads(files[interop.CONFIG]) | {"total_step": 10, "tinit": 0, "tfinal": 0} | fields
        (folder / interop.CONFIG).write_text(json.dumps(config))

    return lambda folder: read(folder, change, files)


def _own_only(folder: Path) -> None:
    (folder / interop.HEADS).unlink()


PEFT = [
    Try(
        "to_peft",
        "after merging",
        lambda folder: interop.to_peft(tiny.build("LoRA(rank=2)", "bert").merge(), folder),
        ("merged", "save before merging"),
    ),
    Try(
        "to_peft",
        "a copy for each task",
        lambda folder: interop.to_peft(tiny.build("PerTask(LoRA(rank=2))", "bert"), folder),
        ("shared by all tasks", "PerTask(LoRA(rank=2))"),
    ),
    Try(
        "to_peft",
        "prefixes",
        lambda folder: interop.to_peft(tiny.build("PrefixTuning(length=2)", "bert"), folder),
        ("PrefixTuning(length=2)", "positions"),
    ),
    Try(
        "to_peft",
        "two dropouts",
        lambda folder: interop.to_peft(
            tiny.build("LoRA(rank=2, sites=('query',)) + LoRA(rank=2, sites=('value',), dropout=0.1)", "bert"), folder
        ),
        ("one lora_dropout", "0.0", "0.1"),
    ),
    Try(
        "to_peft",
        "an oblong factor of KronA",
        lambda folder: interop.to_peft(tiny.build("KronA(rows=2, columns=8)", "bert"), folder),
        ("KronA(rows=2, columns=8)", "2 x 8"),
    ),
    Try(
        "to_peft",
        "below a file",
        lambda folder: ((folder / "it").touch(), interop.to_peft(tiny.build("LoRA(rank=2)", "bert"), folder / "it")),
        ("it", "cannot be written"),
    ),
    Try("from_peft", "no folder", lambda folder: interop.from_peft(folder / "it", tiny.backbone("bert")), ("it",)),
    Try("from_peft", "adapter_model.bin", lambda folder: read(folder, _pickled), (interop.WEIGHTS, "no such file")),
    Try("from_peft", "peft's own, without tasks", lambda folder: read(folder, _own_only), ("tasks=",)),
    Try("from_peft", "another pooling than was trained", lambda folder: read(folder, pooling="mean"), ("cls", "mean")),
    Try("from_peft", "another form than was trained", lambda folder: read(folder, form="text"), ("text", "heads")),
    Try("from_peft", "a task without a head", lambda folder: read(folder, tasks=["sts"]), ("sts", "quora", "sst")),
    Try(
        "from_peft",
        "an adapter trained on, beside old heads",
        lambda folder: read(folder, _retrained),
        (interop.HEADS, "remove it"),
    ),
    Try(
        "from_peft",
        "another backbone of the same shape",
        lambda folder: interop.from_peft(read(folder) and folder, tiny.backbone("bert", seed=8)),
        ("other_weights=True",),
    ),
    Try("from_peft", "half a configuration", config_of(adapter()[interop.CONFIG][:50]), (interop.CONFIG,)),
    Try("from_peft", "a configuration that is a list", config_of(b"[1]"), (interop.CONFIG, "peft_type", "LORA")),
    Try("from_peft", "a configuration nested without end", config_of(b"[" * 10**6), (interop.CONFIG,)),
    Try("from_peft", "a configuration in no UTF-8", config_of(b'{"peft_type": "\xff"}'), (interop.CONFIG,)),
    Try("from_peft", "a configuration of 100 MB", config_of(b" " * 10**8), (interop.CONFIG, "larger")),
    Try("from_peft", "another kind of adapter", configured(peft_type="LOHA"), ("LOHA", "LORA")),
    Try("from_peft", "a prefix, which peft makes a cache", configured(peft_type="PREFIX_TUNING"), ("positions", "LORA")),
    Try("from_peft", "fields of another kind of adapter", configured(peft_type="IA3"), ("'r' is 2", "IA3")),
    Try(
        "from_peft", "tensors of another kind", configured(peft_type="LN_TUNING", **NO_LORA), ("lora_A", "LayerNormTuning")
    ),
    Try("from_peft", "a rank of 10**9", configured(r=10**9), ("1000000000",)),
    Try("from_peft", "a rank of 10**30", configured(r=10**30), (interop.CONFIG, "r is")),
    Try("from_peft", "a rank of 2.5", configured(r=2.5), ("r is 2.5", "whole number")),
    Try("from_peft", "ranks in a list", configured(r=[2]), ("r is [2]", "whole number")),
    Try("from_peft", "alpha below zero", configured(lora_alpha=-1), ("lora_alpha is -1", "above zero")),
    Try("from_peft", "alpha is NaN", configured(lora_alpha=float("nan")), ("lora_alpha is nan",)),
    Try("from_peft", "alpha is endless", configured(lora_alpha=float("inf")), ("lora_alpha is inf",)),
    Try("from_peft", "alpha of 10**400", configured(lora_alpha=10**400), ("lora_alpha is", "above zero")),
    Try("from_peft", "alpha is true", configured(lora_alpha=True), ("lora_alpha is True",)),
    Try("from_peft", "dropout in words", configured(lora_dropout="a lot"), ("lora_dropout is 'a lot'",)),
    Try("from_peft", "dropout of 1", configured(lora_dropout=1.0), ("lora_dropout is 1.0", "below 1")),
    Try("from_peft", "an unknown bias mode", configured(bias="some"), ("bias", "some")),
    Try("from_peft", "modules to save", configured(modules_to_save=["classifier"]), ("modules_to_save",)),
    Try("from_peft", "a rank pattern", configured(rank_pattern={"query": 4}), ("(4, 32)", "(2, 32)")),
    Try("from_peft", "a rank pattern of regular expressions", configured(rank_pattern={".*": 2}), ("rank_pattern", "'.*'")),
    Try("from_peft", "a rank pattern of halves", configured(rank_pattern={"query": 2.5}), ("rank_pattern", "2.5")),
    Try("from_peft", "an alpha pattern that is a list", configured(alpha_pattern=[2]), ("alpha_pattern", "[2]", "table")),
    Try("from_peft", "DoRA without lengths", configured(use_dora=True), ("lora_magnitude_vector", "found none")),
    Try("from_peft", "DoRA perhaps", configured(use_dora="perhaps"), ("use_dora is 'perhaps'", "true or false")),
    Try("from_peft", "AdaLoRA that begins and ends at once", adaptive(tinit=9, tfinal=9), ("final", "impossible")),
    Try("from_peft", "AdaLoRA of no steps", adaptive(total_step=0), ("total_step is 0", "above zero")),
    Try("from_peft", "AdaLoRA for more than it begins with", adaptive(target_r=9), ("target=9", "impossible")),
    Try("from_peft", "a value of 100 kB", configured(some_new_field="x" * 10**5), ("some_new_field", "xxx")),
    Try(
        "from_peft",
        "weights that are none",
        lambda folder: read(folder, lambda folder: (folder / interop.WEIGHTS).write_bytes(b"broken")),
        (interop.WEIGHTS, "safetensors"),
    ),
    Try("from_peft", "a tensor that does not belong", adapted(lambda t: t.update(more=torch.ones(2))), ("more",)),
    Try(
        "from_peft",
        "a third factor",
        adapted(lambda t: t.update({PEFT_A.replace("_A", "_C"): torch.ones(2)})),
        ("lora_C", "expected none"),
    ),
    Try(
        "from_peft",
        "a tensor under two names",
        adapted(lambda t: t.update({PEFT_A.replace("encoder", "bert.encoder"): t[PEFT_A].clone()})),
        ("twice",),
    ),
    Try("from_peft", "one factor missing", adapted(lambda t: t.pop(PEFT_A)), ("lora_A", "found none")),
    Try("from_peft", "whole numbers", adapted(lambda t: t.update({PEFT_A: t[PEFT_A].int()})), ("int32", "float32")),
    Try("from_peft", "NaN", adapted(lambda t: t[PEFT_A].fill_(float("nan"))), ("lora_A", "not finite")),
    Try(
        "from_peft",
        "heads in whole numbers",
        adapted(lambda t: t.update({"sst.bias": t["sst.bias"].int()}), interop.HEADS),
        (interop.HEADS, "sst.bias", "int32"),
    ),
]
XPEFT = "XPEFT(adapters=4, bottleneck=2)"


def _served(author: str) -> Callable[[Path], object]:
    """Answer for an author beside those whose profiles are held."""

    def go(_: Path):
        inputs = tiny.inputs_of("sst", "bert")
        return Profiles(tiny.build(f"PerTask({XPEFT})", "bert"))(["sst", author] * (len(inputs["input_ids"]) // 2), inputs)

    return go


def _added(method: str = XPEFT, **options) -> Callable[[Path], object]:
    """Take up a delta of two authors' profiles beside those of the same."""

    def of_authors(expression: str) -> Tuned:
        return Tuned(tiny.backbone("bert"), expression, [get_task("authors_0"), get_task("authors_1")])

    def go(folder: Path) -> list[str]:
        deltas.save(of_authors("HeadOnly(shared=True)"), folder / "head")
        deltas.save(of_authors(method.format(folder=folder)), folder / "delta")
        return Profiles(of_authors(f"PerTask({XPEFT})")).add(folder / "delta", **options)

    return go


SERVED = [
    Try("serve", "a profile of a name that is held", _added(), ("'authors_0' already", "names=[...]", "replace=True")),
    Try("serve", "two profiles of one name", _added(names=["a", "a"]), ("to be 'a'", "a name of its own")),
    Try("serve", "one name for two profiles", _added(names=["a"]), ("holds 2 profiles, and 1 names", "one each")),
    Try(
        "serve",
        "a profile of another bank",
        _added(XPEFT.replace(")", ", seed=1)"), names=["a", "b"]),
        ("delta: a profile of 'xpeft__bank' of digest", "and here it is", "serve it beside its like"),
    ),
    Try(
        "serve",
        "profiles with a head that the server has not",
        _added(f"HeadOnly(given='{{folder}}/head') + {XPEFT}", names=["a", "b"]),
        ("need a frozen part 'headonly__head' of digest", "has 'xpeft__bank'", "expected a head in the file"),
    ),
    Try("serve", "another method", _added(LORA, names=["a", "b"]), ("delta", LORA, "is not XPEFT(...)")),
    Try("serve", "an author who is not known", _served("authors_3"), ("no profile 'authors_3' among 2", "add its delta")),
    Try(
        "begin",
        "a bank without runs to make it of",
        lambda _: tiny.build(XPEFT.replace(")", ", bank='start')"), "bert"),
        ("begins from runs of PfeifferFFN, and no start is given", "name these runs in `start`"),
    ),
    Try(
        "begin",
        "a bank of what is no adapter",
        lambda _: tiny.build(XPEFT.replace(")", ", bank='start')"), "bert", prepared=False).begin([whole_delta(LORA)]),
        ("run 1 of the start has trained no PfeifferFFN", "a bank is made of its adapters"),
    ),
]


def whole_delta(method: str) -> dict[str, torch.Tensor]:
    return parts(whole(method))[1]


TRIES = SAVED + LOADED + PEFT + SERVED


# --- at random --------------------------------------------------------------------------------------------------------
TYPES = (
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.int8,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
)
ODD = [
    None,
    True,
    -1,
    0,
    2.5,
    1e400,
    float("nan"),
    10**9,
    10**30,
    "",
    "x" * 1000,
    "\ud800",
    "0",
    "all",
    "LoRA()",
    "BitFit() + LoRA(rank=2)",
    [],
    [[]],
    [7],
    ["sst"],
    ["query"],
    {},
    {"name": "sst"},
]


def _flip(draw: random.Random, content: bytes) -> bytes:
    """Some bytes changed, cut away or put in, most of them in the header."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(min(len(found), draw.choice([9, 2000, len(found)])))
        kind = draw.choice(["change", "change", "cut", "put in", "end"])
        if kind == "change":
            found[at] = draw.randrange(256)
        elif kind == "cut":
            del found[at : at + draw.randint(1, 40)]
        elif kind == "put in":
            found[at:at] = draw.randbytes(draw.randint(1, 9))
        else:
            del found[at:]
        if not found:
            break
    return bytes(found)


def _rewrite(draw: random.Random, value: object) -> object:
    """A JSON value with one of its parts replaced."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        return value | {key: _rewrite(draw, value[key])}
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        return [*value[:at], _rewrite(draw, value[at]), *value[at + 1 :]]
    return draw.choice(ODD)


def _retype(draw: random.Random, tensors: dict[str, torch.Tensor]) -> None:
    """Some tensors in another type or shape, with other values, under another name, or gone."""
    for name in draw.sample(sorted(tensors), min(len(tensors), draw.randint(1, 3))):
        shape, t = tensors[name].shape, tensors.pop(name).flatten()
        kind = draw.choice(["type", "shape", "value", "name", "gone"])
        if kind == "type":
            t = t.float().to(draw.choice(TYPES))
        elif kind == "shape":
            t = draw.choice([t[:1], t[:0], t.sum(), t[None], torch.cat([t, t])])
        elif kind == "value":
            t = (t * draw.choice([0, -1, 1e9, 1e39, float("nan")])).to(t.dtype)
        if kind != "shape":
            t = t.view(shape)
        if kind != "gone":
            tensors[draw.choice([f"{name}.0", name[:-1], *tensors]) if kind == "name" else name] = t.clone()


def _delta(draw: random.Random, folder: Path) -> Callable[[], object]:
    content = whole(draw.choice(METHODS))
    kind = draw.choice(["bytes", "header", "metadata", "tensors"])
    if kind == "bytes":
        content = _flip(draw, content)
    elif kind == "header":
        size = int.from_bytes(content[:8], "little")
        text = json.dumps(_rewrite(draw, json.loads(content[8 : 8 + size]))).encode()
        content = len(text).to_bytes(8, "little") + text + content[8 + size :]
    else:
        metadata, tensors = parts(content)
        if kind == "metadata":
            texts = [text for text in ODD if isinstance(text, str) and text.isascii()]
            tasks = json.dumps(_rewrite(draw, json.loads(task_of())))
            metadata[draw.choice(sorted(metadata))] = draw.choice([tasks, *texts])
        else:
            _retype(draw, tensors)
        content = save(tensors, metadata)
    return lambda: loaded(folder, content, other_weights=draw.random() < 0.5)


IN_PEFT = (
    "LoRA(rank=2, sites=('query',))",
    "Layers(DoRA(rank=2, sites=('query',)), stop=1)",
    "AdaLoRA(rank=2, target=1, sites=('query',))",
    "IA3()",
    "LayerNormTuning()",
    "KronA(rank=2)",
    "GLoRA()",
    "PromptTuning(length=2)",
)


def _peft_folder(draw: random.Random, folder: Path) -> Callable[[], object]:
    files = adapter(draw.choice(IN_PEFT))

    def change(folder: Path) -> None:
        path = folder / draw.choice(sorted(files))
        if path.name == interop.CONFIG and draw.random() < 0.8:
            config = json.loads(path.read_text())
            known = sorted(interop.formats.SILENT | interop.formats.LowRankFormat.silent)
            config |= {draw.choice([*config, *known, "bias", "use_dora"]): draw.choice(ODD)}
            path.write_text(json.dumps(_rewrite(draw, config)))
        elif path.name != interop.CONFIG and draw.random() < 0.6:
            metadata, tensors = parts(path.read_bytes())
            _retype(draw, tensors)
            save_file(tensors, path, metadata)
        else:
            path.write_bytes(_flip(draw, path.read_bytes()))

    return lambda: read(folder, change, files, tasks=draw.choice([None, ["sst"], ["sst", "quora"]]))


GENERATORS: dict[str, Generator] = {"a delta": _delta, "a peft folder": _peft_folder}
