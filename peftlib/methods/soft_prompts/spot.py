"""SPoT (Vu et al., 2022; survey, Table 1): prompt tuning that begins with a prompt learnt on other tasks.

    P = P_source, then as `PromptTuning`        P, P_source: (length, d)

Nothing else is changed, and nothing more is trained or stored: length * d. Here the source prompt is what a run of
`PromptTuning` has learnt, on one task or on several together (the paper mixes its source tasks in proportion to their
size); it goes on with the same length, on the same frozen weights. With no step on the source's own task it says what the
source said.

Left out is the search for a source. The paper takes an early prompt of each task as the task's embedding, and of the
sources those with the highest cosine of mean vectors; `similarity` is that cosine, of prompts that begin from one start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from peftlib.anatomy import Shape
from peftlib.errors import UsageError
from peftlib.methods.base import Attachment, Method
from peftlib.methods.soft_prompts.prompt import PromptTuning


@dataclass(frozen=True)
class SPoT(Method):
    """Soft prompt transfer.

    length: vectors > 0, as many as the source prompt has.
    """

    length: int = 100

    title = "SPoT"
    family = "soft prompts"
    paper = "spot"
    near_identity = None
    by_layer = False
    begins_from = "a run of PromptTuning() of the same length on other tasks"
    about = {
        "name": "SPoT",
        "color": "purple",
        "marker": ">",
        "line": "-.",
        "row": "length=100",
        "small": "length=4",
        "drawn": False,
        "rates": 10.0,
        "start": "PromptTuning",
        "start_on": "others",
    }

    @property
    def prompt(self) -> PromptTuning:
        return PromptTuning(self.length)

    def check(self) -> None:
        self.prompt  # noqa: B018  # which checks itself

    def attach(self, at: Attachment) -> None:
        self.prompt.attach(at)

    def begin(self, at: Attachment, given: Sequence[dict[str, Tensor]]) -> None:
        """Take the prompt of the given run, and its head where that is of the same task.

        Raises:
            UsageError: several runs are given, or one without a prompt of this size.
        """
        ((_, edit),) = at.edits
        with torch.no_grad():
            edit.P.copy_(prompts(self, at, given, 1)[0])
        at.take_heads(given[0])

    def formula(self, shape: Shape) -> int:
        return self.prompt.formula(shape)


def prompts(method: Method, at: Attachment, given: Sequence[dict[str, Tensor]], runs: int) -> list[Tensor]:
    """The prompts of runs of prompt tuning, (length, d) each, for a method with a field ``length``.

    Raises:
        UsageError: other than so many runs, or one without a prompt of this size.
    """
    if len(given) != runs:
        raise UsageError(f"{method} begins from {method.begins_from}: expected {runs}, and its start names {len(given)}")
    size, found = (method.length, at.shape.width), []  # type: ignore[attr-defined]  # as asked for
    for delta in given:
        theirs = {name: tensor for name, tensor in delta.items() if name.endswith(".P") and tensor.ndim == 2}
        fitting = [tensor for tensor in theirs.values() if tensor.shape == size]
        if len(fitting) != 1:
            there = ", ".join(f"{name} of {tuple(tensor.shape)}" for name, tensor in theirs.items()) or "no prompt"
            raise UsageError(f"{method} begins from a prompt of {size}, and its start has {there}")
        found += fitting
    return found


def similarity(first: Tensor, second: Tensor) -> float:
    """Cosine of two prompts' mean vectors, from -1 to 1."""
    return F.cosine_similarity(first.mean(0), second.mean(0), dim=0).item()
