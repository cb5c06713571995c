"""Reads what is done of an experiment, runs what is missing.

Light to import (no torch) until something is trained.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlib import answered, records
from peftlib.data.tasks import get_task
from peftlib.errors import PeftlibError, UsageError, short
from peftlib.grids import Preset, drawn, emulated, get_preset, kept, runs
from peftlib.packed import pack
from peftlib.provenance import changed_inputs, code_digest, commit, delta_digest, machine, sources_of, versions
from peftlib.records import RecordError, Run

UNDECIDABLE = "not run: at this budget nothing could be decided"


class Incomplete(PeftlibError):
    """Some runs of an experiment failed; the others are recorded."""


# --- what is done, and doing the rest -------------------------------------------------------------------------------
def record_of(preset: Preset, run: Run) -> dict | None:
    """The record of a run, if it is finished, under the label and the digest that the run has in this experiment, with the
    name of its preset.

    Raises:
        RecordError: there is one, but damaged.
    """
    path = records.find(preset.name, run)
    if not path.exists():
        return None
    record = records.read(path)
    record["run"]["label"], record["digest"], record["preset"] = run.label, run.digest, preset.name
    return record


@dataclass(frozen=True)
class Standing:
    """How a run stands. word: "done", "missing", "damaged" (its record), or "other data", "other weights" or "other start":
    the run would now read others than its record was made from, or begin from what another training of the same runs gave.
    record: of a run that is done. why: of one whose record does not stand.
    """

    word: str
    record: dict | None = None
    why: str = ""


def standing(preset: Preset, run: Run) -> Standing:
    """How a run stands. Data, weights and deltas that cannot be had here are taken to be what they were."""
    try:
        record = record_of(preset, run)
    except RecordError as error:
        return Standing("damaged", why=str(error))
    if record is None:
        return Standing("missing")
    there = {parent.digest: delta_digest(records.delta_path(preset.name, parent)) for parent in run.start}
    other = "other start" if any(now not in (None, record["start"][of]) for of, now in there.items()) else None
    if changed := changed_inputs(run, record) or other:
        return Standing(changed, why=f"{records.find(preset.name, run)}: made from {changed} than there are now")
    return Standing("done", record)


def missing(preset: Preset, wanted: Iterable[Run]) -> list[Run]:
    """The runs that are to be trained, behind those that they begin from. A record that does not stand, or whose run begins
    from one that is to be trained, is put aside; standard error says so."""
    lacking: dict[str, Run] = {}
    for run in records.with_parents(wanted):
        found = standing(preset, run)
        if found.word == "done" and any(parent.digest in lacking for parent in run.start):
            found = Standing("other start", why=f"{records.find(preset.name, run)}: what it began from is trained anew")
        while found.word not in ("done", "missing"):
            place = records.put_aside(records.find(preset.name, run))
            print(f"{found.why}. It is now {place}", file=sys.stderr)
            found = standing(preset, run)
        if found.word == "missing":
            lacking[run.digest] = run
    return list(lacking.values())


def lacks(preset: Preset, run: Run, begun_from: Collection[str]) -> bool:
    """Is a run to be trained: has it no record, or not the delta that runs begin from which are to be trained? (A run that
    diverged has none to give.) begun_from: digests, see `still_begun_from`."""
    if not records.find(preset.name, run).exists():
        return True
    gone = run.digest in begun_from and not records.delta_path(preset.name, run).exists()
    return gone and "diverged" not in (record_of(preset, run) or {})


def still_begun_from(preset: Preset, wanted: Iterable[Run]) -> set[str]:
    """Digests of the runs that those of `wanted` which are to be trained begin from."""
    found: set[str] = set()
    for run in reversed(records.with_parents(wanted)):
        if lacks(preset, run, found):
            found |= {parent.digest for parent in run.start}
    return found


class Results(list):
    """Records of an experiment, in its order. wanted: all its runs, those without a record too.

    diverged: records of runs that have no scores because they diverged; damaged: runs whose record cannot be read. Neither
    are in the list. undecidable: why the experiment is not run, see `peftlib.presets.Preset`.
    """

    def __init__(
        self,
        found: Iterable[dict],
        wanted: list[Run],
        diverged: Iterable[dict] = (),
        damaged: Iterable[Run] = (),
        undecidable: str = "",
    ):
        super().__init__(found)
        self.undecidable = undecidable
        self.wanted, self.diverged, self.damaged = wanted, list(diverged), list(damaged)

    def only(self, keep: Callable[[Run], bool]) -> Results:
        """Those of the runs that `keep` accepts, with what became of them."""
        wanted = [run for run in self.wanted if keep(run)]
        kept = {run.digest for run in wanted}
        return Results(
            (r for r in self if r["digest"] in kept),
            wanted,
            (r for r in self.diverged if r["digest"] in kept),
            filter(keep, self.damaged),
            self.undecidable,
        )


def results(
    name: str, preset: Preset | str, train: bool = True, progress: bool = True, labels: Collection[str] | None = None
) -> Results:
    """Records of an experiment, in its order; missing runs are trained first, or left out if `train` is False. Of an
    experiment that is undecidable there are none, and none are made.

    labels: only the rows of these labels, also where the preset would leave them out.

    Raises:
        Incomplete: some runs failed; every other one was still run and recorded.
        UsageError: no such experiment, or no row of such a label.
    """
    preset = get_preset(preset) if isinstance(preset, str) else preset
    wanted = runs(name, preset, labels)
    if why := preset.at(name).undecidable:
        return Results([], wanted, undecidable=why)
    if train:
        missing(preset, wanted)
        wanted = runs(name, preset, labels)  # without a record that was put aside, a run may have another precision
        _train(name, preset, wanted, progress)
    found, damaged = [], []
    for run in wanted:
        try:
            found.append(record_of(preset, run))
        except RecordError as error:
            print(error, file=sys.stderr)
            damaged.append(run)
    there = [record for record in found if record is not None]
    return Results((r for r in there if "diverged" not in r), wanted, (r for r in there if "diverged" in r), damaged)


def beginning(preset: Preset, wanted: Iterable[Run], digests: Sequence[str], task: str = "") -> list[Run]:
    """The same runs, but that they begin from others, which a preset has recorded. task: see `Run.start_task`.

    Raises:
        UsageError: a digest is that of no record, or its run is none to begin from.
        RecordError: its record is damaged.
    """
    start = []
    for digest in digests:
        path = records.path_of(preset.name, digest)
        if not (digest.isalnum() and path.is_file()):
            raise UsageError(f"no run {short(digest)} to begin from in {path.parent}: expected the name of a record there")
        start.append(records.run_of(records.read(path)))
    return [dataclasses.replace(run, start=tuple(start), start_task=task) for run in wanted]


def run_missing(name: str, preset: Preset, wanted: list[Run], progress: bool = True) -> None:
    """Train those of the runs that have no record that stands (see `missing`).

    Raises:
        Incomplete: names the runs that failed, with the last line of each traceback.
    """
    missing(preset, wanted)
    _train(name, preset, wanted, progress)


def _train(name: str, preset: Preset, wanted: list[Run], progress: bool) -> None:
    """Train those of the runs that have no record, behind those that they begin from."""
    failures, needed = [], still_begun_from(preset, wanted)
    lacking = [run for run in records.with_parents(wanted) if lacks(preset, run, needed)]
    if lacking and (said := emulated(preset.at(name))):
        print(said, file=sys.stderr)
    keep, shown = (needed | kept(preset), drawn(preset)) if lacking else (needed, {})
    for run in lacking:
        if not lacks(preset, run, needed):  # by now: another process has trained it
            continue
        try:
            execute(preset, run, progress, run.digest in keep, shown.get(run.digest, ""))
        except Exception as error:  # one bad run must not cost the others
            failures.append(f"{run.label}: {type(error).__name__}: {error}")
            records.write_atomically(failure_path(preset.name, run.digest), traceback.format_exc())
    if failures:
        raise Incomplete(f"{len(failures)} of {len(wanted)} runs of {name} failed:\n" + "\n".join(failures))


def failure_path(preset: str, digest: str) -> Path:
    """Where the traceback of a failed run is kept until it succeeds."""
    return records.root() / "_build" / preset / "failed" / f"{digest}.txt"


def execute(preset: Preset, run: Run, progress: bool = True, keep: bool = False, draws: str = "") -> dict:
    """Train one run, write its record, and return it. An interrupted run goes on from its last epoch: its checkpoint stays
    until the record is there. keep: its delta, too, for runs that begin from it. draws: what of its delta pages draw, a
    pattern of names.

    A run whose loss is no finite number any more would end so each time: its record says so, under "diverged", and has
    neither scores nor cost.

    Raises:
        RecordError: before anything is trained, if records cannot be written.
        UsageError: a run that it begins from has left no delta, or none that it can begin from.
    """
    from peftlib import deltas
    from peftlib.accounting.estimate import estimate_run, longest_batch
    from peftlib.accounting.memory import PeakMemory
    from peftlib.tensorfiles import write_tensors
    from peftlib.training import loop

    path = records.path_of(preset.name, run.digest)
    records.check_writable(path.parent)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sources = sources_of(run)  # now: files may change while it trains
    source = {"code": code_digest(sources), "sources": sources, "commit": commit()}
    checkpoint = records.root() / "_build" / preset.name / "checkpoints" / f"{run.digest}.pt"
    given = {parent.digest: records.delta_path(preset.name, parent) for parent in run.start}
    start = {digest: delta_digest(delta) for digest, delta in given.items()}
    for parent in run.start:
        if start[parent.digest] is None:
            raise UsageError(
                f"{run.label or run.method} begins from {short(parent.label or parent.method)} ({parent.digest}), which "
                "has left no delta: it has diverged, or is not trained yet"
            )
    record: dict[str, Any] = {
        "schema": records.SCHEMA,
        "digest": run.digest,
        "run": dataclasses.asdict(run),
        **source,
        "versions": versions(),
        "machine": machine(),
        "started": started,
    } | ({"start": start} if start else {})
    try:
        with PeakMemory() as peak:
            trainer = loop.Trainer(run, checkpoint, progress, list(given.values()))
            estimated = estimate_run(run, longest_batch(trainer))  # first: what cannot be estimated fails before it costs
            outcome = trainer.fit()
    except loop.Diverged as error:
        record["diverged"] = str(error)
        print(error, file=sys.stderr)
    else:
        record |= {
            "counts": dataclasses.asdict(outcome.model.counts()),
            "history": outcome.history,
            "best_epoch": outcome.best_epoch,
            "validation": outcome.validation,
            "test": outcome.test,
            "seconds": outcome.seconds,
            "examples_per_second": outcome.examples_per_second,
            "stored_bytes": loop.stored_bytes(outcome.model),
            "peak_bytes": peak.bytes,
            "estimate_bytes": estimated,
            "initial_digest": outcome.initial_digest,
            "data": outcome.data,
            "left_out": outcome.left_out,
            "backbone_digest": outcome.backbone_digest,
            "predictions": {
                task: pack(values, "score" if get_task(task).kind == "score" else "class")
                for task, values in outcome.predictions.items()
            },
        }
        for task, data in outcome.rows.items():
            answered.keep(preset.name, task, data.digest, data.labels.numpy(), data.groups)
        if keep:  # before the record, which says that all is done
            deltas.save(outcome.model, records.delta_path(preset.name, run))
        if draws:
            shown = {name: tensor for name, tensor in outcome.model.delta().items() if re.search(draws, name)}
            with deltas.replacing_all(records.drawn_path(preset.name, run)) as (scratch,):
                write_tensors(scratch, shown, {})
    record["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    records.write(path, record)
    for done_with in (checkpoint, failure_path(preset.name, run.digest)):
        with contextlib.suppress(OSError):
            done_with.unlink()
    return record
