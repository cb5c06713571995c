"""X-PEFT (Kwak and Kim, 2024): a profile is a choice among N frozen adapters that all profiles share.

    Â = sum_i M_A[l, i] A_i    B̂ = sum_i M_B[l, i] B_i      A_i: (b, d)   B_i: (d, b)   M_A, M_B: (L, N)
    y -> y + B̂ f(LN(Â y))                                   y: (..., d)   LN over b, of its own in each block

in each of L blocks, at Pfeiffer's place: after ``ffn.down``, before dropout, residual and norm. A profile trains its masks
and norms, 2(N + b)L numbers, and has them beside its head. The averages are taken in weight space, once a forward pass, so
that a pass costs what one adapter costs, whatever N; the gradient of a mask is a product with the bank, which needs none.

    soft   M[l] = softmax(m)
    hard   m + nu g, g ~ Gumbel(0, 1);   y = softmax(. / tau);   M[l] = khot(topk(y)) / k + y - sg(y)

The second is algorithm 1 of the paper's appendix: forwards k adapters of equal weight, backwards the softmax. In evaluation
there is no noise. After training the choice is made once and kept as bits: ceil(N/8) bytes a mask and block.

All profiles share the bank, frozen, and in no delta but by its digest: drawn from ``seed``, or read from ``bank``, deltas
of `PfeifferFFN` that other profiles have trained; with ``bank="start"`` these are the runs that a run begins from. Their
profiles are loaded with the ``parts`` of a model that has begun from the same.

What the paper leaves open. Biases are averaged as weights are: its totals (appendix F) count them. f is ReLU, that of the
`adapters` library's Pfeiffer configuration, which also draws the bank: N(0, 0.02), biases 0; the paper writes no f
(``activation="none"``). Masks start at 0: every adapter counts alike. nu and tau are not given: 1. One mask
(``separate=False``, section 4.2) chooses A_i with B_i.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlib.anatomy import Shape
from peftlib.edits import Current, Edit
from peftlib.errors import UsageError
from peftlib.methods.adapters.bank import Adapter, Bank, drawn, fill, trained, without
from peftlib.methods.adapters.bottleneck import ACTIVATIONS, size
from peftlib.methods.base import Attachment, Method, Ref, affordable, normal, require
from peftlib.tensorfiles import unpacked

SITE = "ffn.down"
BANK = "bank"
START = "start"  # in the place of a bank's path: the runs that a run begins from
ANY = ACTIVATIONS | {"none": lambda x: x}


def hard_softmax(logits: Tensor, k: int, tau: float) -> Tensor:
    """Algorithm 1 behind its noise: forwards k-hot / k, exactly, backwards softmax(logits / tau). Of equals the first."""
    y_soft = (logits / tau).softmax(-1)
    indices = y_soft.argsort(dim=-1, descending=True, stable=True)[..., :k]
    y_hard = torch.zeros_like(y_soft).scatter(-1, indices, 1.0) / k
    return y_hard + (y_soft - y_soft.detach())


class Profile(nn.Module):
    """What is trained. logits: (1 or 2, L, N), of hard masks `mask` once the choice is made; gamma, beta: (L b,), for
    vectors are not decayed."""

    def __init__(self, method: XPEFT, layers: int, current: Current):
        super().__init__()
        self.method, self.current = method, current
        self.logits: Tensor | None = nn.Parameter(
            normal(torch.zeros(1 + method.separate, layers, method.adapters), method.start)
        )
        self.gamma = nn.Parameter(torch.ones(layers * method.bottleneck))
        self.beta = nn.Parameter(torch.zeros(layers * method.bottleneck))
        self.logits.requires_grad_(method.fixed != "masks")
        for vector in (self.gamma, self.beta):
            vector.requires_grad_(method.fixed != "norms")

    def masks(self, layer: int) -> Tensor:
        """(1 or 2, N), of sum 1."""
        if self.logits is None:
            return self.mask[:, layer] / self.method.k  # type: ignore[index]  # a buffer
        logits, nu = self.logits[:, layer], self.method.nu
        if self.training and self.method.mask == "hard" and nu > 0 and logits.requires_grad:
            logits = logits + nu * self.current.draw((id(self), layer), lambda: _gumbel(logits))
        return self.method.chosen(logits)

    def every_mask(self) -> Tensor:
        """(1 or 2, L, N), of bits where they are chosen; else what they weigh, without noise."""
        return self.mask if self.logits is None else self.method.chosen(self.logits)  # type: ignore[return-value]  # a buffer

    def norms(self) -> tuple[Tensor, Tensor]:
        """gamma and beta, (L, b) each."""
        return self.gamma.view(-1, self.method.bottleneck), self.beta.view(-1, self.method.bottleneck)

    @torch.no_grad()
    def settle(self, mask: Tensor | None = None) -> None:
        """Keep a choice, by default the best one, as truth values in the place of logits."""
        if self.logits is not None:
            mask = self.every_mask() > 0 if mask is None else mask
            del self.logits
            self.logits = None
            self.register_buffer("mask", mask)


def _gumbel(like: Tensor) -> Tensor:
    """Gumbel(0, 1)."""
    return -torch.empty_like(like).exponential_().log()


class Mixed:
    """The profiles of a batch, see `peftlib.serving`. masks: (profiles, 1 or 2, L, N). gamma, beta: (profiles, L, b). row:
    which of them each row of the batch is of."""

    def __init__(self, bank: Bank, masks: Tensor, gamma: Tensor, beta: Tensor, row: Tensor):
        self.bank, self.masks, self.gamma, self.beta, self.row = bank, masks, gamma, beta, row

    def __call__(self, layer: int) -> Adapter:
        made = self.bank.average(layer, self.masks[:, :, layer], self.gamma[:, layer], self.beta[:, layer])
        return Adapter(*(t[self.row] for t in made))


class Averaged(Edit):
    """A profile's adapter in one block. It owns nothing."""

    def __init__(self, bank: Bank, profile: Profile, layer: int):
        super().__init__()
        self.bank, self.profile, self.layer = Ref(bank), Ref(profile), layer
        self.f = ANY[profile.method.activation]

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        profile: Profile = self.profile.module
        bank: Bank = self.bank.module
        if bank.mixed is not None:
            adapter = bank.mixed(self.layer)
        else:
            gamma, beta = profile.norms()
            adapter = bank.average(self.layer, profile.masks(self.layer), gamma[self.layer], beta[self.layer])
        A, a, gamma, beta, B, c = adapter
        h = F.layer_norm(_linear(y, A, a).float(), gamma.shape[-1:])
        gamma, beta = (gamma, beta) if gamma.ndim == 1 else (gamma[:, None], beta[:, None])
        return y + _linear(self.f((h * gamma + beta).to(y.dtype)), B, c)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x: (batch, length, in). weight: (out, in), or (batch, out, in) for a linear layer a row."""
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    return F.linear(x, weight, bias) if weight.ndim == 2 else torch.baddbmm(bias[:, None], x, weight.mT)


@dataclass(frozen=True)
class XPEFT(Method):
    """Masks over a bank of frozen adapters; under PerTask a profile a task, all over one bank.

    adapters: N > 0. bottleneck: b > 0 of each. mask: "soft" or "hard". k: of hard masks, up to N. tau > 0, nu >= 0:
    temperature and noise of their training. separate: M_A beside M_B, or one mask for both. activation: relu, gelu,
    gelu_new, swish or none. start: deviation of the masks' logits. seed: of a random bank. bank: instead a delta of
    PfeifferFFN, or a folder of such, with N adapters in all, in the order of files and their tasks; or "start": those of
    the runs that the run begins from, in their order. fixed: "masks" or "norms" stay as they begin, the masks without
    noise: controls, of what the others do without them.
    """

    adapters: int = 100
    bottleneck: int = 48
    mask: str = "soft"
    k: int = 50
    tau: float = 1.0
    nu: float = 1.0
    separate: bool = True
    activation: str = "relu"
    start: float = 0.0
    seed: int = 42
    bank: str = ""
    fixed: str = ""

    title = "X-PEFT"
    family = "adapters"
    paper = "xpeft"
    near_identity = 0.05
    about = {"name": "X-PEFT", "color": "sky", "marker": "*", "small": "adapters=12, bottleneck=8", "drawn": False}

    def check(self) -> None:
        require(
            self,
            adapters=self.adapters > 0,
            bottleneck=self.bottleneck > 0,
            mask=self.mask in ("soft", "hard"),
            k=self.k > 0 and (self.mask == "soft" or self.k <= self.adapters),
            tau=self.tau > 0,
            nu=self.nu >= 0,
            activation=self.activation in ANY,
            start=self.start >= 0,
            seed=self.seed >= 0,
            fixed=self.fixed in ("", "masks", "norms"),
        )

    def chosen(self, logits: Tensor) -> Tensor:
        """Masks (..., N) of logits, without noise."""
        return logits.softmax(-1) if self.mask == "soft" else hard_softmax(logits, self.k, self.tau)

    def attach(self, at: Attachment) -> None:
        sites, shape = at.anatomy.at(SITE), at.shape
        affordable(self, len(sites) * self.adapters * size(shape.width, self.bottleneck), shape)
        places = self.places(at)

        def make() -> Bank:
            if self.bank == START:
                return without(len(sites), self.adapters, self.bottleneck, shape.width)
            if self.bank:
                return trained(self.bank, self.adapters, self.bottleneck, shape.width, places, at.model.weights_digest)
            return drawn(len(sites), self.adapters, self.bottleneck, shape.width)

        bank = at.share(BANK, make, kept=False, once=True, seed=None if self.bank else self.seed)
        profile = at.share("profile", Profile(self, len(sites), at.current))
        for layer, site in enumerate(sites):
            at.edit(site, Averaged(bank, profile, layer))

    def places(self, at: Attachment) -> list[str]:
        """Where its sites lie in the model, as deltas name them."""
        names = {id(module): name for name, module in at.model.named_modules()}
        return [names[id(site.module)] for site in at.anatomy.at(SITE)]

    @property
    def whole_start(self) -> bool:
        return self.bank == START

    def begin(self, at: Attachment, given: Sequence[dict[str, Tensor]]) -> None:
        """Make the bank of the adapters that the given runs have trained; or go on from one run of the same.

        Raises:
            UsageError: they are no adapters, or others than expected.
        """
        if self.bank != START:
            return super().begin(at, given)
        bank = bank_of(at)
        if bank.empty:  # no copy for another task has filled it yet
            fill(bank, given, self.bottleneck, at.shape.width, self.places(at))
            at.part_is_remade(BANK)

    def prepare(self, at: Attachment, batches: Iterable[tuple[str, dict[str, Tensor]]]) -> None:
        """Raises:
        UsageError: the bank is still to be made.
        """
        if bank_of(at).empty:
            raise UsageError(
                f"{self} begins from runs of PfeifferFFN, and no start is given: name these runs in `start` "
                "(peftlib.records.Run), or pass the parts of a model that has begun from them"
            )

    def finish(self, at: Attachment) -> None:
        if self.mask == "hard":
            profile_of(at).settle()

    def restore(self, at: Attachment, tensors: dict[str, Tensor]) -> None:
        profile = profile_of(at)
        name = {id(module): name for name, module in at.model.named_modules()}[id(profile)] + ".mask"
        if self.mask == "hard" and name in tensors and profile.logits is not None:
            mask = torch.zeros_like(profile.logits, dtype=torch.bool)
            self.look_at(tensors[name], mask)
            profile.settle(mask)

    def look_at(self, bits: Tensor, like: Tensor) -> None:
        """Refuse bits, read as the masks that they are to be, that choose another number of adapters than k.

        Raises:
            UsageError: says how many.
        """
        found = unpacked(bits, like)
        if found.dtype == torch.bool and (wrong := found.sum(-1)[found.sum(-1) != self.k].tolist()):
            raise UsageError(f"a mask chooses {wrong[0]} adapters, expected k={self.k}: it is no mask of {self}")

    # --- counts -----------------------------------------------------------------------------------------------------
    def formula(self, shape: Shape) -> int:
        masks, norms = (1 + self.separate) * self.adapters, 2 * self.bottleneck
        return (masks * (self.fixed != "masks") + norms * (self.fixed != "norms")) * shape.layers

    def trainable(self, at: Attachment) -> int:
        """Also once the choice is made."""
        return self.formula(at.shape)

    def stored(self, at: Attachment) -> int:
        """Hard masks are bits: of four bytes each number. What is fixed is stored, too."""
        return -(-self.mask_bytes(at.shape) // 4) + 2 * self.bottleneck * at.shape.layers

    def mask_bytes(self, shape: Shape) -> int:
        """Of a profile's masks on disk."""
        one = 4 * self.adapters if self.mask == "soft" else -(-self.adapters // 8)
        return (1 + self.separate) * one * shape.layers


def bank_of(at: Attachment) -> Bank:
    """The bank of an attachment of `XPEFT`."""
    return at.part(BANK)  # type: ignore[return-value]  # as `attach` has made it


def profile_of(at: Attachment) -> Profile:
    """What an attachment of `XPEFT` trains."""
    (profile,) = (module for module in at.shared if isinstance(module, Profile))
    return profile
