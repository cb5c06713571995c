"""`peftlib.accounting.estimate` and `effects` for pages: what has been estimated is kept, as counts are."""

from __future__ import annotations

from types import SimpleNamespace

from peftlib.accounting.counted import Figures, figures


def estimate(method: str, backbone: str, batch: int, length: int) -> SimpleNamespace:
    """What `peftlib.accounting.estimate.estimate` gives: the fields of its ``as_dict``."""

    def compute() -> Figures:
        from peftlib.accounting.estimate import estimate

        return estimate(method, backbone, batch, length).as_dict()

    return SimpleNamespace(**figures("accounting/estimate.py", compute, method, backbone, batch, length))


def effects(method: str, backbone: str, batch: int, length: int) -> SimpleNamespace:
    """What `peftlib.accounting.effects.effects` gives: the fields of its ``as_dict``."""

    def compute() -> Figures:
        from peftlib.accounting.effects import effects

        return effects(method, backbone, batch, length).as_dict()

    return SimpleNamespace(**figures("accounting/effects.py", compute, method, backbone, batch, length))
