"""How large a study is: a preset is data, not code, and checked before anything is planned by it.

``peftlib/presets.json`` holds what is general, ``presets.json`` in a paper's folder what that paper and its experiments
change; `peftlib.grids.presets` reads both.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from peftlib.data.sources import available
from peftlib.data.tasks import SUITES
from peftlib.errors import UsageError, short
from peftlib.expressions import canonical, names, skeleton
from peftlib.records import Limit
from peftlib.schema import conform, conform_fields, near


@dataclass(frozen=True, eq=False)  # what is made of a preset is kept by which one it is
class Preset:
    """How large a study is.

    lr: learning rate by method, with a ``default``: the whole expression, or it without its hyperparameters (``LoRA +
    PerTask(Houlsby)``). rows: at most so many runs an experiment (None: all). trials: of a hyperparameter search. limits:
    examples a task in multi-task runs, (train, validation, test); limits_single: in single-task runs. search_lr: the
    grid from which the preset's own learning rates were chosen, empty if they were not searched. precision: "auto" is
    whichever of bf16 and fp32 the machine computes faster (`peftlib.grids.native_precision`); a run's recipe holds what
    that was. suites: the tasks taken of GLUE or SuperGLUE, all that the source has if it is not named. sizes: of training
    sets, where an experiment asks how much data a method needs, or of groups of authors. form, sampling (of multi-task
    runs), epoch_steps: see `peftlib.records.Recipe`. backbones: what differs wherever an experiment changes to such a
    backbone, field by field; changes: what differs for a paper or for one of its experiments; see `at`. undecidable: of an
    experiment that is not trained, why nothing could be decided at any size that fits; its other fields are the size that
    would.

    Raises:
        UsageError: a value of the wrong type, or one that cannot be used.
    """

    name: str
    about: str
    backbone: str
    source: Literal["embedded", "local", "hub"]
    limits: tuple[Limit, Limit, Limit]
    limits_single: tuple[Limit, Limit, Limit]
    epochs: int
    seeds: tuple[int, ...]
    batch_size: int
    max_length: int
    precision: Literal["auto", "bf16", "fp32"]
    runs_per_job: int
    trials: int
    rows: int | None
    search_lr: tuple[float, ...]
    lr: dict[str, float]
    suites: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    sizes: tuple[int, ...] = ()
    form: Literal["heads", "text"] = "heads"
    sampling: Literal["proportional", "round_robin", "temperature"] = "proportional"
    backbones: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    changes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    epoch_steps: int | None = None
    undecidable: str = ""

    def __post_init__(self) -> None:
        conform_fields(self, f"preset {short(self.name)}")
        counts: dict[str, Iterable[int | None]] = {
            "epochs": [self.epochs],
            "epoch_steps": [self.epoch_steps],
            "batch_size": [self.batch_size],
            "runs_per_job": [self.runs_per_job],
            "trials": [self.trials],
            "rows": [self.rows],
            "sizes": self.sizes,
            "limits": self.limits,
            "limits_single": self.limits_single,
        }
        for name, values in counts.items():
            self._require(name, all(value is None or value >= 1 for value in values), "at least 1")
        self._require("name", re.fullmatch(r"[\w-]+", self.name), "letters, digits, - and _: it names a folder")
        self._require("backbone", self.backbone.strip(), "a name or a folder")
        self._require("max_length", 8 <= self.max_length <= 512, "8 to 512")
        once = len(set(self.seeds)) == len(self.seeds) > 0
        self._require("seeds", once and all(0 <= seed < 2**32 for seed in self.seeds), "each once, from 0 to 2^32 - 1")
        rates = [*self.search_lr, *self.lr.values()]
        self._require("search_lr", len(set(self.search_lr)) == len(self.search_lr), "each once")
        self._require("lr", "default" in self.lr and all(0 < lr < 10 for lr in rates), "a default, and rates from 0 to 10")
        for method in set(self.lr) - {"default"}:
            try:
                canonical(method)
            except UsageError as error:
                raise UsageError(f"preset {short(self.name)}: lr: {error}") from error
        for suite, tasks in self.suites.items():
            self._require("suites", suite in SUITES, f"of {', '.join(SUITES)}")
            there = [task for task in available(suite, self.source).values() if task]
            self._require(
                "suites",
                tasks and set(tasks) <= set(there) and len(set(tasks)) == len(tasks),
                f"tasks of {suite} that source {self.source!r} has, each once: {', '.join(there)}",
            )

    def _require(self, name: str, holds: object, expected: str) -> None:
        if not holds:
            raise UsageError(f"preset {short(self.name)}: {name}: expected {expected}, got {short(getattr(self, name))}")

    def at(self, experiment: str) -> Preset:
        """The preset as an experiment uses it: with the changes for its paper, then with those for the backbone that this
        gives it, then with its own. Learning rates that a change does not name stay. Asked twice, it is the same one.

        Raises:
            UsageError: a change that no preset could have.
        """
        return _at(self, experiment)

    def on(self, backbone: str) -> Preset:
        """The preset with what it changes for a backbone.

        Raises:
            UsageError: a change that no preset could have.
        """
        return self._with(self.backbones.get(backbone, {}), f"backbones: {backbone}", {"backbone"})

    def _with(self, given: dict[str, Any], where: str, fixed: Collection[str] = ()) -> Preset:
        known = {f.name for f in dataclasses.fields(self)} - {"name", "about", "backbones", "changes", *fixed}
        for name in set(given) - known:
            raise UsageError(f"preset {short(self.name)}: {where}: {short(name)} cannot be changed{near(name, known)}")
        if not given:
            return self
        try:
            rates = conform(given.get("lr", {}), dict[str, float], "lr")
            return dataclasses.replace(self, **given | {"lr": self.lr | rates})
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error

    def learning_rate(self, method: str) -> float:
        """That of the expression, with its hyperparameters or else without; else the lowest that its terms have; else
        the default."""
        whole = {canonical(name): rate for name, rate in self.lr.items() if "=" in name}
        if (rate := whole.get(canonical(method), self.lr.get(skeleton(method)))) is not None:
            return rate
        return min((self.lr[name] for name in names(method) if name in self.lr), default=self.lr["default"])


@functools.cache
def _at(preset: Preset, experiment: str) -> Preset:
    paper = experiment.split("/")[0]
    own, found = preset.changes.get(experiment, {}), preset._with(preset.changes.get(paper, {}), f"changes: {paper}")
    backbone = own.get("backbone", found.backbone)
    return found.on(backbone if isinstance(backbone, str) else "")._with(own, f"changes: {experiment}")
