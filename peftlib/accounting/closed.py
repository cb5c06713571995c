"""Closed forms of `peftlib.accounting.estimate`: a step's memory for any batch, length, rank, width and depth.

A storage's bytes are a product of sizes. Give each size a prime of its own, and one step on shapes alone tells by its
factors what every storage is made of: 4 x 47 x 541 x 1001 is 4 B L d. What is in use after each event of the step is then a
polynomial, and the peak the highest of these:

    peak = max over events of  sum over monomials of  c B^i L^j r^k ...

Depth is told by steps with one block more in a stack: it adds the same to an event for every further block, counted from
the stack's first block or from its last. No more than such steps are run, however large the backbone.

Which operations a step runs must not depend on the sizes. Where it does, these are the forms of one way (`Case`).
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from transformers import PreTrainedConfig

from peftlib.accounting.estimate import Moves, Step, step_inputs, step_model, training_step
from peftlib.accounting.polynomials import ALIGNED, FIELDS, Monomial, Poly
from peftlib.backbones import SHAPES, from_config
from peftlib.errors import UsageError

LENGTH = 541  # tokens in the step that is traced; rounded up to 16, as some kernels do, it is what it is to `ALIGNED`
# The size that each prime stands for. A factor that is not here is a number.
PRIMES = {
    7: "h",  # heads
    11: "k",  # T5: the size of a head; else that size divided by n
    13: "n",  # of Kronecker products
    17: "M",  # LENGTH rounded up, by ALIGNED
    23: "N",  # LENGTH + l rounded up, by ALIGNED
    29: "r",  # rank
    31: "a",  # bottleneck; with Kronecker products, that divided by n
    37: "m",  # mlp
    41: "t",  # task_dim
    43: "u",  # hidden
    47: "B",  # sequences
    79: "e",  # T5: width / n
    97: "o",  # l + 1, by 2
    193: "l",  # length of a prompt or prefix
    367: "T",  # LENGTH + l, by 2
    541: "L",  # LENGTH
    859: "p",  # positions
    1103: "f",  # the feed-forward network's hidden width
    1201: "v",  # vocabulary
    1301: "p",
}
OF = {letter: prime for prime, letter in reversed(PRIMES.items())}
BY = {"T": 2, "M": ALIGNED, "N": ALIGNED, "o": 2}


@dataclass(frozen=True)
class Case:
    """A method, with what is traced by primes and what is fixed.

    free: hyperparameters that the forms hold for, at whatever value. fixed: text of the others that are not at their
    defaults. drop: blocks at the bottom of each stack that are unlike the rest. whole: traced at a backbone's own depth,
    for a step visits its blocks once more between the passes or after them.
    """

    method: str
    free: tuple[str, ...] = ()
    fixed: str = ""
    drop: int = 0
    whole: bool = False

    @property
    def expression(self) -> str:
        """What is traced."""
        kronecker = OF["n"] if "n" in self.free else 1
        values = {name: OF[FIELDS[name]] * (kronecker if name == "bottleneck" else 1) for name in self.free}
        return f"{self.method}({', '.join([*(f'{k}={v}' for k, v in values.items()), *filter(None, [self.fixed])])})"


@dataclass(frozen=True)
class Forms:
    """Bytes as polynomials of B, L, T = L + l, M and N (L and T rounded up to 32), o = l + 1, and hyperparameters, for L in
    multiples of 32. peak: the highest of its polynomials."""

    weights: Poly
    gradients: Poly
    optimizer: Poly
    activations: Poly
    peak: list[Poly]


def family(config: PreTrainedConfig) -> tuple[str, str]:
    """What backbones have in common that take the same steps in the same order."""
    return {"xlm-roberta": "roberta"}.get(config.model_type, config.model_type), getattr(config, "pooling", "")


def _primes(config: PreTrainedConfig, encoder: int, decoder: int = 0) -> PreTrainedConfig:
    """A configuration of the same family with primes for sizes."""
    h, k, n, f, v = (OF[letter] for letter in "hknfv")
    d = h * k * n
    sizes = {"vocab_size": v}
    if config.is_encoder_decoder:
        sizes |= {"d_model": OF["e"] * n, "d_ff": f, "num_heads": h, "d_kv": k}
        sizes |= {"num_layers": encoder, "num_decoder_layers": decoder}
    elif config.model_type == "distilbert":
        sizes |= {"dim": d, "hidden_dim": f, "n_heads": h, "n_layers": encoder, "max_position_embeddings": OF["p"]}
    else:
        # A matrix is tall or wide as the real one is.
        p = next(q for q in (859, 1301) if (q < d) == (config.max_position_embeddings < config.hidden_size))
        sizes |= {"hidden_size": d, "intermediate_size": f, "num_attention_heads": h, "num_hidden_layers": encoder}
        sizes |= {"max_position_embeddings": p}
    return type(config)(**(config.to_diff_dict() | sizes))


@functools.cache
def _split(size: int) -> tuple[Monomial, int]:
    letters = []
    for prime, letter in PRIMES.items():
        while size % prime == 0:
            size //= prime
            letters.append(letter)
    rest = size
    for small in (2, 3, 5):
        while rest % small == 0:
            rest //= small
    if rest not in (1, -1):
        raise UsageError(f"a storage of {size:,} times {letters} bytes is no product of sizes: no closed form for it")
    return "".join(sorted(letters)), size


def trace(case: Case, name: str, precision: str) -> _Traced:
    """The steps of a case on a known shape's family.

    Raises:
        UsageError: sizes are no products, or steps of different depths do not match.
    """
    config = SHAPES[name]()
    stacks = [config.num_hidden_layers] + ([config.num_decoder_layers] if config.is_encoder_decoder else [])
    depths = stacks if case.whole else [case.drop + 2] * len(stacks)

    def step(depths: Sequence[int]) -> Step:
        body = from_config(_primes(config, *depths), "meta")
        model = step_model(case.expression, body, 1, precision, 0.1, 0.0, "heads").train()
        return training_step(model, step_inputs(OF["B"], LENGTH, 0), precision, "cuda")

    deeper = [] if case.whole else [[d + (i == j) for j, d in enumerate(depths)] for i in range(len(depths))]
    return _Traced([step(depths), *map(step, deeper)], depths, "n" in case.free)


class _Traced:
    """A step, and those with one block more in either stack, as numbers by event and monomial."""

    def __init__(self, steps: Sequence[Step], depths: Sequence[int], kronecker: bool):
        self.depths, self.kronecker = depths, kronecker
        moves = [[*s.forward, *s.backward, *s.update] for s in steps]
        sizes = [size for one in moves for _, size in one]
        parts = ("weights", "gradients", "optimizer", "activations")
        sizes += [size for s in steps for part in parts for size in getattr(s, part)]
        self.monomials = sorted({_split(size)[0] for size in sizes})
        self.sums = {
            part: self._grown([self._rows(getattr(s, part)).sum(0, keepdims=True) for s in steps]) for part in parts
        }
        passed = [self._rows([size for _, size in s.forward]).sum(0) for s in steps]
        forward = self._events([s.forward for s in steps], np.zeros_like(passed))
        self.passes = np.concatenate([forward, self._events([s.backward for s in steps], passed)])
        if {label for label, _ in steps[0].update} <= {"state"}:  # all at once
            self.update = self.sums["optimizer"]
        else:
            self.update = self._events([s.update for s in steps], np.zeros_like(passed))

    def _rows(self, sizes: Sequence[int]) -> np.ndarray:
        """Bytes by monomial: (sizes, monomials)."""
        found = np.zeros((len(sizes), len(self.monomials)), dtype=np.int64)
        for i, size in enumerate(sizes):
            monomial, number = _split(size)
            found[i, self.monomials.index(monomial)] = number
        return found

    @staticmethod
    def _grown(rows: Sequence[np.ndarray]) -> np.ndarray:
        """What is there, and what a further block of each stack adds: (events, 1 + stacks, monomials)."""
        return np.stack([rows[0], *(row - rows[0] for row in rows[1:])], axis=1)

    def _events(self, moves: Sequence[Moves], start: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        """What is in use whenever something has come, as `_grown`; where an event can be counted from the first block and
        from the last, both."""
        kinds = [[(label, _split(size)[0], size > 0) for label, size in one] for one in moves]
        after = [first + self._rows([size for _, size in one]).cumsum(0) for one, first in zip(moves, start, strict=True)]
        alike = [_alike(kinds[0], other) for other in kinds[1:]]
        places = []
        for e, (label, size) in enumerate(moves[0]):
            if size > 0:
                if not all(there[e] for there in alike):
                    raise UsageError(f"event {e} ({label}) of a step has none like it in a deeper one: no closed form")
                places += [(e, *chosen) for chosen in itertools.product(*(there[e] for there in alike))]
        return np.unique(
            self._grown([one[list(i)] for one, i in zip(after, zip(*places, strict=True), strict=True)]), axis=0
        )

    def at(self, config: PreTrainedConfig) -> Forms:
        """The forms of a backbone of this family."""
        stacks = [config.num_hidden_layers] + ([config.num_decoder_layers] if config.is_encoder_decoder else [])
        blocks = [real - traced for real, traced in zip(stacks, self.depths, strict=True)]
        sums = {name: self._polys(rows, blocks, config)[0] for name, rows in self.sums.items()}
        passes = [_plus(sums["weights"], sums["optimizer"], p) for p in self._polys(self.passes, blocks, config)]
        update = [_plus(sums["weights"], sums["gradients"], p) for p in self._polys(self.update, blocks, config)]
        return Forms(**sums, peak=passes + update)

    def _polys(self, events: np.ndarray, blocks: Sequence[int], config: PreTrainedConfig) -> list[Poly]:
        """events: of `_grown`. Those that are not below another in every monomial."""
        terms = [_at(monomial, config, self.kronecker) for monomial in self.monomials]
        there = sorted({monomial for monomial, _ in terms})
        onto = np.zeros((len(terms), len(there)), dtype=object)
        for i, (monomial, factor) in enumerate(terms):
            onto[i, there.index(monomial)] = factor
        grown = events[:, 0] + sum(n * events[:, 1 + i] for i, n in enumerate(blocks) if i + 1 < events.shape[1])
        rows = _highest(np.unique(grown, axis=0))
        return [{m: _whole(n) for m, n in zip(there, row, strict=True) if n} for row in rows @ onto]


def _at(monomial: Monomial, config: PreTrainedConfig, kronecker: bool) -> tuple[Monomial, Fraction]:
    """A monomial with the sizes of a backbone put in: what is left of it, and a factor."""
    t5 = config.is_encoder_decoder
    width, heads = (config.d_model, config.num_heads) if t5 else (config.hidden_size, config.num_attention_heads)
    ffn = config.d_ff if t5 else config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size
    known = {"h": heads, "v": config.vocab_size, "f": ffn, "p": getattr(config, "max_position_embeddings", 0)}
    known |= {"k": config.d_kv, "e": width} if t5 else {"k": Fraction(width, heads)}
    powers, factor = Counter(monomial), Fraction(1)
    for letter, power in Counter(monomial).items():
        if letter in known:
            factor *= Fraction(known[letter]) ** power
            del powers[letter]
        factor /= BY.get(letter, 1) ** power
    divided = Counter(monomial)["e" if t5 else "k"] + (Counter(monomial)["a"] if kronecker else 0)
    powers["n"] -= divided
    below = "/" + "n" * -powers["n"] if powers["n"] < 0 else ""
    return "".join(sorted(powers.elements())) + below, factor


def _whole(number: Fraction) -> int:
    if number.denominator != 1:
        raise UsageError(f"{number} bytes: no closed form")
    return number.numerator


def _highest(rows: np.ndarray) -> np.ndarray:
    """Rows of which no other is at least as high in every monomial."""
    kept = np.empty((0, rows.shape[1]), dtype=rows.dtype)
    for row in rows[np.argsort(-rows.astype(float).sum(1), kind="stable")]:  # none is below a later one
        if not (kept >= row).all(1).any():
            kept = np.concatenate([kept, row[None]])
    return kept


def _plus(*polys: Poly) -> Poly:
    found: Poly = {}
    for poly in polys:
        for monomial, number in poly.items():
            found[monomial] = found.get(monomial, 0) + number
    return {m: n for m, n in found.items() if n}


def _alike(base: list, deeper: list) -> list[set[int]]:
    """For each event of a step those of a deeper one that are the same, counted from the start and from the end."""
    from_start, from_end = _common(base, deeper), len(base) - _common(base[::-1], deeper[::-1])
    more = len(deeper) - len(base)
    return [{i for i, good in ((e, e < from_start), (e + more, e >= from_end)) if good} for e in range(len(base))]


def _common(one: list, other: list) -> int:
    """How many items two lists begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
