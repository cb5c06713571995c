"""x H for a sum of Kronecker products H = sum_i A_i (x) B_i, i = 1 ... n: what `PHMAdapter` and `Compacter` are made of.

    x: (..., k)   A_i: (n, n)   B_i: (k/n, m/n), in full or as s_i t_i with s_i: (k/n, r), t_i: (r, m/n)   H: (k, m)

(Compacter, equations 4 and 5.) With x as n rows x_p of k/n numbers and y = x H as n rows y_q of m/n:

    y_q = sum_i sum_p A_i[p, q] x_p B_i

so H need not be built. Products of two numbers, for r = rank and N tokens:

    built      n k m once (for s_i t_i also k m r / n), then k m a token
    factored   B_i in full: k m + n^2 min(k, m) a token;   s_i t_i: r (n (k + m) + n^3) a token

With B_i in full, building is the cheaper one from N > max(k, m) / n tokens on, that is in all training; with factors
of rank one the factored order is, unless n^3 outgrows k m (d = 768, a = 24, n = 4: 3,232 a token in place of 18,432).
`benchmarks/kronecker.py` measures both: fewer products were faster nearly everywhere. The factored order's are thinner and
run slower each, so with rank one and n = 8 or 12 at a small width the other order can be a little faster.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from peftlib.errors import UsageError
from peftlib.methods.base import Method

Factors = tuple[Tensor, Tensor]


def products(n: int, k: int, m: int, tokens: int, rank: int | None = None) -> dict[str, int]:
    """Products of two numbers that each order of operations takes: ``built`` and ``factored``. rank: None for B_i in
    full."""
    if rank is None:
        return {"built": n * k * m + tokens * k * m, "factored": tokens * (k * m + n * n * min(k, m))}
    return {"built": n * k * m + k * m * rank // n + tokens * k * m, "factored": tokens * rank * (n * (k + m) + n**3)}


def multiply(x: Tensor, A: Tensor, B: Tensor | Factors) -> Tensor:
    """x H, in the order that takes fewer products. x: (..., k). A: (n, n, n). B: (n, k/n, m/n), or (s, t) of shapes
    (n, k/n, r) and (n, r, m/n)."""
    n, k, tokens = len(A), x.shape[-1], x.shape[:-1].numel()
    rank, last = (None, B) if isinstance(B, Tensor) else (B[0].shape[2], B[1])
    takes = products(n, k, n * last.shape[2], tokens, rank)
    return built(x, A, B) if takes["built"] < takes["factored"] else factored(x, A, B)


def built(x: Tensor, A: Tensor, B: Tensor | Factors) -> Tensor:
    """x H by way of H: (k, m)."""
    full = B if isinstance(B, Tensor) else B[0] @ B[1]
    H = torch.einsum("ipq,iab->paqb", A, full).flatten(2).flatten(0, 1)
    return x @ H


def factored(x: Tensor, A: Tensor, B: Tensor | Factors) -> Tensor:
    """x H without H."""
    rows = x.unflatten(-1, (len(A), -1))  # (..., p, k/n)
    if not isinstance(B, Tensor):
        return _low_rank(rows, A, *B).flatten(-2)
    if B.shape[1] >= B.shape[2]:  # mix the rows where they are shorter: after B_i ...
        u = torch.einsum("...pa,iab->...pib", rows, B)
        return torch.einsum("...pib,ipq->...qb", u, A).flatten(-2)
    v = torch.einsum("...pa,ipq->...qia", rows, A)  # ... or before it
    return torch.einsum("...qia,iab->...qb", v, B).flatten(-2)


def _low_rank(rows: Tensor, A: Tensor, s: Tensor, t: Tensor) -> Tensor:
    n, _, r = s.shape
    u = F.linear(rows, s.transpose(1, 2).flatten(0, 1)).unflatten(-1, (n, r))  # (..., p, i, r): row p times s_i
    v = torch.einsum("...pir,ipq->...qir", u, A)
    return v.flatten(-2) @ t.flatten(0, 1)


def divided(method: Method, n: int, d: int, a: int) -> None:
    """Refuse sizes that n does not divide.

    Raises:
        UsageError: n does not divide the bottleneck's width a, or not the backbone's width d.
    """
    if a < 1 or a % n or d % n:
        raise UsageError(
            f"{method} on a backbone of width {d} has a bottleneck of {a}: n={n} must divide both; choose "
            "another n or another width of the bottleneck"
        )
