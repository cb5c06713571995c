"""What methods train, store, change and need in memory on each known shape, as closed forms in ``tabulated.json``.

Counts come from `peftlib.accounting.counting.count`, memory from `peftlib.accounting.closed`. They hold for the choices
below and no others, and any batch from two sequences on (one alone takes other steps).

``python -m peftlib.accounting.tabulated`` adds to the file what it lacks, and computes anew what is there of the methods
that it is given: tests/test_calculator.py compares every method with the library and says which have changed. A method that
``asked.toml`` lacks is counted at the hyperparameters of its row in the comparison, and its memory is not tabulated.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from peftlib import expressions
from peftlib.accounting.polynomials import Poly, letters
from peftlib.catalogue import methods
from peftlib.errors import UsageError
from peftlib.schema import conform

if TYPE_CHECKING:
    from peftlib.accounting.closed import Case, Forms

FILE = Path(__file__).with_suffix(".json")
LENGTHS, PRECISIONS, LEAST_BATCH = (32, 64, 128, 256, 384, 512), ("bf16", "fp32"), 2
BATCHES = tuple(int(1.3**i) for i in range(3, 62))  # 2 and on
NEAR = 0.0002  # of the peak of memory
Values = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What the reader chooses of a method. numbers: fields whose values the forms have as letters. options: fields of
    which every combination has forms of its own. absent: a number that may be None, which is an option too. whole: see
    `peftlib.accounting.closed.Case`. tabulated: is its memory? memory: fields at the only values that memory is known
    for. stored: what it stores, where that is not what it trains; "counted": the same at all its numbers; "sparse": chosen
    entries and their indices; "with indices": these and what it trains besides. changed: is what it changes counted, for it
    is neither?"""

    numbers: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    options: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    absent: str = ""
    whole: bool = False
    tabulated: bool = True
    memory: dict[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    stored: Literal["", "sparse", "with indices", "target for rank", "without mlp", "one expert", "counted"] = ""
    changed: bool = False


def read(path: Path) -> dict[str, Asked]:
    """A file such as ``asked.toml``.

    Raises:
        UsageError: a name or a value that `Asked` does not have.
    """
    found = tomllib.loads(path.read_text(encoding="utf-8"))

    def meant(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: found["choices"].get(one, one) if isinstance(one, str) else one for name, one in value.items()}
        return value

    def fixed(value: Any) -> Any:  # the forms' names, and sets of them, want tuples
        if isinstance(value, dict):
            return {name: fixed(one) for name, one in value.items()}
        return tuple(map(fixed, value)) if isinstance(value, list) else value

    return {
        method: conform({name: fixed(meant(value)) for name, value in fields.items()}, Asked, f"{path}: {method}: ")
        for method, fields in found["methods"].items()
    }


ASKED = read(Path(__file__).with_name("asked.toml"))


@functools.cache
def asked_of() -> dict[str, Asked]:
    """What is asked of every method there is: of those that ``asked.toml`` lacks, the one choice is that of their row."""
    listed = [method for method in methods() if method != "OutputLayer"]  # which adds nothing where there are heads
    return {method: ASKED.get(method) or _as_in_its_row(method) for method in (*ASKED, *listed)}


def _as_in_its_row(method: str) -> Asked:
    row = given(methods()[method].row or f"{method}()")
    return Asked(options={name: (value,) for name, value in row.items()}, tabulated=False)


def given(method: str) -> Values:
    """The hyperparameters of a method that are not at their defaults."""
    ((leaf, _),) = expressions.parse(method).leaves()
    return dict(leaf.given)


def tabulated() -> dict[str, Any]:
    """The file."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"backbones": {}, "counts": {}, "memory": {}}


def cases(asked: Asked) -> Iterator[Values]:
    """Every combination of options."""
    options = list(asked.options.items()) + ([(asked.absent, (None, ...))] if asked.absent else [])
    for chosen in itertools.product(*(values for _, values in options)):
        yield {name: value for (name, _), value in zip(options, chosen, strict=True) if value is not ...}


def key(case: Values) -> str:
    """A case's name in the file and in the page's script."""
    return ";".join(f"{name}={value!r}" for name, value in case.items())


def expression(method: str, values: Values) -> str:
    return expressions.canonical(f"{method}({', '.join(f'{name}={value!r}' for name, value in values.items())})")


def numbers_of(asked: Asked, case: Values) -> dict[str, tuple[int, ...]]:
    """The fields that are letters in a case, with their choices."""
    return {name: values for name, values in asked.numbers.items() if name not in case}


def possible(values: Values, width: int) -> bool:
    """May these be together? What book/_static/calculator.js refuses, too; all other choices are possible everywhere."""
    n, rank = values.get("n", 1), values.get("rank", 1)
    bottleneck = values.get("bottleneck", n * rank)  # of a method without, any rank
    return width % n == 0 and bottleneck % n == 0 and values.get("target", 1) <= rank <= bottleneck // n


def counts_of(method: str, asked: Asked, backbone: str) -> dict[str, dict]:
    """By case the polynomials of what is trained, of what is stored if that is something else, and of what is changed if
    that is not what is stored."""
    from peftlib.accounting.counted import shape
    from peftlib.accounting.counting import count
    from peftlib.methods import parse

    if method not in ASKED:
        (case,) = cases(asked)
        try:
            one, three = (count(expression(method, case), backbone, tasks) for tasks in (1, 3))
        except UsageError as e:  # not on this backbone, or not alone
            print(backbone, method, e, flush=True)
            return {}
        told = {name: {"": getattr(one, name)} for name in ("trainable", "stored", "changed")}
        same = all(told[name][""] == getattr(three, name) for name in told)  # else it grows with the tasks
        return {key(case): _briefly(told)} if same else {}
    sizes, found = shape(backbone), {}

    def trained(values: Values) -> int:
        return parse(expression(method, values)).formula(sizes)  # type: ignore[attr-defined]  # a method

    for case in cases(asked):
        if sizes.width % case.get("n", 1):
            continue
        points = {name: (least(method, name, case), 2 * least(method, name, case)) for name in numbers_of(asked, case)}
        trainable = multilinear(lambda values, case=case: trained(case | values), points)
        told = {"trainable": trainable}
        if asked.stored in ("sparse", "with indices"):
            kept = parse(expression(method, case)).kept(sizes)  # type: ignore[attr-defined]  # a `SparseDelta`
            changed = {"": kept} if asked.stored == "sparse" else trainable
            told["stored"], told["changed"] = {"": changed[""] + kept}, changed
        elif asked.stored == "target for rank":
            told["stored"] = {name.replace("rank", "target"): number for name, number in trainable.items()}
        elif asked.stored in ("without mlp", "one expert"):
            last: Values = {"mlp": None} if asked.stored == "without mlp" else {"experts": 1}
            left = {name: ends for name, ends in points.items() if name not in last}
            told["stored"] = multilinear(lambda values, whole=case | last: trained(whole | values), left)
        first = {name: values[0] for name, values in numbers_of(asked, case).items()}
        if asked.stored == "counted":
            told["stored"] = {"": count(expression(method, case | first), backbone).stored}
        if asked.changed:
            told["changed"] = {"": count(expression(method, case | first), backbone).changed}
        found[key(case)] = _briefly(told)
    return found


def _briefly(told: dict[str, Poly]) -> dict[str, Poly]:
    """Counts without those that are the ones before them."""
    stored = told.get("stored", told["trainable"])
    same = {"stored": told["trainable"], "changed": stored}
    return {name: poly for name, poly in told.items() if poly != same.get(name)}


def least(method: str, name: str, case: Values) -> int:
    """A value that any other field goes with."""
    return {"bottleneck": 4 * case.get("n", 1), "dimension": 1000, "rank": 2 if method == "AdaLoRA" else 1}.get(name, 1)


def multilinear(compute: Any, points: dict[str, tuple[int, int]]) -> dict[str, int]:
    """The polynomial, of degree one in each of its variables, that a function of whole numbers is. Its monomials are names
    joined by ``*``."""
    if not points:
        return {"": compute({})}
    (name, (low, high)), *rest = points.items()
    others = dict(rest)
    at_low = multilinear(lambda values: compute({name: low} | values), others)
    at_high = multilinear(lambda values: compute({name: high} | values), others)
    found: dict[str, int] = {}
    for monomial in at_low.keys() | at_high.keys():
        slope, rest_ = divmod(at_high.get(monomial, 0) - at_low.get(monomial, 0), high - low)
        if rest_:
            raise AssertionError(f"{monomial} of {name}: not of degree one")
        found[f"{name}*{monomial}".rstrip("*")] = slope
        found[monomial] = at_low.get(monomial, 0) - slope * low
    return {monomial: number for monomial, number in sorted(found.items()) if number}


def forms_of(method: str, asked: Asked, case: Values, backbone: str, forms: Forms) -> dict[str, Any]:
    """What the page needs of a closed form: of the polynomials behind a peak as few as come near it everywhere."""
    from peftlib.backbones import SHAPES

    config = SHAPES[backbone]()
    room = getattr(config, "max_position_embeddings", None)
    fields = numbers_of(asked, case) | {name: values for name, values in asked.options.items() if name == "n"}
    fields |= {name: values for name, values in asked.memory.items() if name in fields}
    points = []
    for tokens, *chosen in itertools.product(LENGTHS, *fields.values()):
        values = dict(zip(fields, chosen, strict=True))
        longest = tokens + (values.get("length", 0) if method == "PromptTuning" else 0)
        if (room is None or longest <= room) and possible(case | values, config.hidden_size):
            points += [letters(batch, tokens, values) for batch in BATCHES]
    parts = {part: getattr(forms, part) for part in ("weights", "gradients", "optimizer", "activations")}
    return parts | {"peak": fewest(forms.peak, points)}


def fewest(polys: Sequence[Poly], points: Sequence[dict[str, int]]) -> list[Poly]:
    """Few of the polynomials, whose highest is less than `NEAR` below the highest of all at every point."""
    at = {letter: np.array([point[letter] for point in points], dtype=float) for letter in points[0]}

    def height(poly: Poly) -> np.ndarray:
        terms = []
        for monomial, number in poly.items():
            above, _, below = monomial.partition("/")
            terms.append(number * math.prod(at[c] for c in above) / math.prod(at[c] for c in below) + 0 * at["B"])
        return np.sum(terms, axis=0)

    heights = np.stack([height(poly) for poly in polys])
    near, kept = heights >= (1 - NEAR) * heights.max(0), []
    while near.any():
        best = int(near.sum(1).argmax())
        kept.append(best)
        near = near & ~near[best]
    return [polys[i] for i in sorted(kept)]


def memory_cases(method: str, asked: Asked) -> Iterator[tuple[Values, Case]]:
    """The cases whose memory is known, with what is traced for them."""
    from peftlib.accounting.closed import Case

    if not asked.tabulated:
        return
    seen = set()
    for case in cases(asked):
        case = {name: value for name, value in case.items() if name != "n"}
        if key(case) in seen or any(value not in asked.memory.get(name, (value,)) for name, value in case.items()):
            continue
        seen.add(key(case))
        free = [name for name in numbers_of(asked, case) if name not in asked.memory and name != "target"]
        fixed = case | {name: values[0] for name, values in asked.memory.items() if name not in case}
        whole = asked.whole or (bool(asked.absent) and asked.absent not in case)
        told = ", ".join(f"{name}={value!r}" for name, value in fixed.items())
        free += ["n"] * ("n" in asked.options)
        if method == "AdaLoRA":
            told = "target=1"
        yield case, Case(method, tuple(free), told, case.get("drop", 0), whole)


def build(anew: Sequence[str] = ()) -> None:
    """Write the file. What it has already is kept, but for the methods to be computed anew, and for those that are gone."""
    from peftlib.accounting.closed import family, trace
    from peftlib.accounting.counted import shape
    from peftlib.backbones import SHAPES, anatomy_of

    found, asked = tabulated(), asked_of()
    if unknown := set(anew) - set(asked):
        raise UsageError(f"cannot tabulate {sorted(unknown)}: expected methods, one of {', '.join(asked)}")

    def save() -> None:
        FILE.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")

    for backbone in SHAPES:
        sizes = shape(backbone)
        found["backbones"][backbone] = {
            "total": sizes.total,
            "width": sizes.width,
            "decoder": bool(sizes.decoder_layers),
            "positions": anatomy_of(backbone).positions,
        }
        for part in ("counts", "memory"):
            there = found[part].get(backbone, {})
            found[part][backbone] = {method: there[method] for method in asked if method in there and method not in anew}
        counts = found["counts"][backbone]
        counts |= {method: counts_of(method, asked[method], backbone) for method in asked if method not in counts}
    save()
    work = [
        (one, precision, backbone, method, case)
        for method in asked
        for case, one in memory_cases(method, asked[method])
        for precision in PRECISIONS
        for backbone in SHAPES
    ]
    last, traced = None, None  # backbones that share the traced steps come one after the other
    for one, precision, backbone, method, case in sorted(work, key=lambda job: job[0].whole):
        config = SHAPES[backbone]()
        there = found["memory"][backbone].setdefault(method, {}).setdefault(precision, {})
        in_several_ways = method == "GaLore" and config.is_encoder_decoder  # matrices tall in one T5, wide in another
        if key(case) in there or in_several_ways:
            continue
        like = (family(config), config.num_hidden_layers if one.whole else 0, one, precision)
        if traced is None or like != last:
            last, traced = like, trace(one, backbone, precision)
        there[key(case)] = forms_of(method, asked[method], case, backbone, traced.at(config))
        print(backbone, one.expression, precision, flush=True)
        save()


def counted(poly: Poly, values: Values) -> int:
    """A count: monomials are names joined by ``*``."""
    return sum(number * math.prod(values[name] for name in names.split("*") if name) for names, number in poly.items())


if __name__ == "__main__":
    build(sys.argv[1:])
