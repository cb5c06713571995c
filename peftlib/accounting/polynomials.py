"""Polynomials as `peftlib.accounting.closed` writes them, and their values. Needs no torch."""

from __future__ import annotations

from fractions import Fraction

ALIGNED = 32  # the fused attention rounds lengths up to a multiple
FIELDS = {"rank": "r", "bottleneck": "a", "mlp": "m", "task_dim": "t", "hidden": "u", "length": "l", "n": "n"}
Monomial = str  # its letters in alphabetical order; those of a divisor behind a stroke: "BLa/n"
Poly = dict[Monomial, int]


def value(poly: Poly, sizes: dict[str, int]) -> int:
    """A polynomial's value. sizes: of its letters."""
    total = Fraction(0)
    for monomial, number in poly.items():
        term = Fraction(number)
        above, _, below = monomial.partition("/")
        for letter in above:
            term *= sizes[letter]
        for letter in below:
            term /= sizes[letter]
        total += term
    return int(total)


def letters(batch: int, tokens: int, given: dict[str, int]) -> dict[str, int]:
    """What the letters stand for. batch, tokens: sequences, and tokens of each. given: a method's hyperparameters."""
    more = given.get("length", 0)
    found = {"B": batch, "L": tokens, "T": tokens + more, "o": more + 1}
    found |= {FIELDS[name]: value for name, value in given.items() if name in FIELDS}
    return found | {rounded: -(-found[letter] // ALIGNED) * ALIGNED for letter, rounded in (("L", "M"), ("T", "N"))}
