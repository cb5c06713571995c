"""What a batch does under a preset: its training jobs, the book's pages, and how far the runs of each experiment are.

Light (no torch), so that the batch can plan in a fraction of a second; a preset that leaves the precision to the machine
asks torch for it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlib import records
from peftlib.comparison import HEADS
from peftlib.errors import UsageError
from peftlib.grids import Preset, emulated, experiments, get_preset, runs, trained_runs
from peftlib.provenance import changed_sources, sources_of
from peftlib.records import Run
from peftlib.study import failure_path, missing, standing, still_begun_from


@dataclass(frozen=True)
class Job:
    """Some runs of an experiment, trained by one papermill job. All are of one generation, so that no two jobs wait for
    each other.

    records: what it makes: where records of its runs lie, or will, and the deltas that other runs begin from. after: names
    of the jobs that train what its runs begin from.
    """

    experiment: str
    generation: int
    shard: int
    shards: int
    digests: tuple[str, ...]
    records: tuple[Path, ...]
    after: tuple[str, ...]
    gpu: bool
    mem_mb: int
    minutes: int

    @property
    def name(self) -> str:
        return f"{self.experiment}-{self.shard + 1}of{self.shards}" + f"-after{self.generation}" * (self.generation > 0)


@dataclass(frozen=True)
class Page:
    """A notebook of the book, and the experiments whose records it reads."""

    notebook: str
    experiments: tuple[str, ...]


def pages(preset_name: str) -> list[Page]:
    """The book's notebooks. Each names, in its metadata, the experiments it reads: ``{"peftlib": {"experiments": []}}``, or
    "all" in place of the list. Whoever reads any reads the heads alone, too, by which runs are marked that did not learn.

    Raises:
        UsageError: a notebook names an experiment that does not exist.
    """
    get_preset(preset_name)
    out = []
    for path in sorted((records.root() / "notebooks").glob("*/*.ipynb")):
        named = json.loads(path.read_text())["metadata"].get("peftlib", {}).get("experiments", [])
        named = list(experiments()) if named == "all" else named
        unknown = set(named) - set(experiments())
        if unknown:
            raise UsageError(f"{path.name} reads unknown experiments {sorted(unknown)}; known: {', '.join(experiments())}")
        measures = [HEADS] if named and HEADS in experiments() else []
        out.append(Page(path.relative_to(records.root()).as_posix(), tuple(dict.fromkeys([*named, *measures]))))
    return out


def shard_of(wanted: list[Run], shard: int, shards: int) -> list[Run]:
    """Every `shards`-th run, so that the long ones of a table do not fall into one job.

    Raises:
        UsageError: there is no such shard.
    """
    if not 0 <= shard < shards:
        raise UsageError(f"shard {shard} of {shards}: expected a number from 0 to {max(shards, 1) - 1}")
    return wanted[shard::shards]


def own_runs(name: str, preset: Preset | str, generation: int | None = None) -> list[Run]:
    """The runs of an experiment that no experiment before it has: what its jobs train. None if it is `undecidable`.

    generation: only those for which so many have to be trained one after the other.

    Raises:
        UsageError: no such experiment.
    """
    runs(name, preset)
    own = next((own for other, own in each_with_own_runs(preset) if other == name), [])
    return [run for run in own if generation in (None, run.generation)]


def each_with_own_runs(preset: Preset | str) -> Iterator[tuple[str, list[Run]]]:
    """Every experiment that is trained with the runs that none before it has, behind those that they begin from."""
    seen: set[str] = set()
    preset = get_preset(preset) if isinstance(preset, str) else preset
    for name in experiments():
        if preset.at(name).undecidable:
            continue
        own = [run for run in records.with_parents(runs(name, preset)) if run.digest not in seen]
        seen |= {run.digest for run in own}
        yield name, own


def make_ready(preset_name: str) -> None:
    """Before training is planned: put aside records that do not stand, so that their jobs run again, and warn of what would
    be slow. Both on standard error."""
    preset = get_preset(preset_name)
    lacking = missing(preset, (run for _, own in each_with_own_runs(preset) for run in own))
    if lacking and (said := emulated(preset)):
        print(said, file=sys.stderr)


def jobs(preset_name: str) -> list[Job]:
    """The training jobs of a preset; a run that several experiments share is trained by the first. Light, no torch."""
    preset, own = get_preset(preset_name), list(each_with_own_runs(get_preset(preset_name)))
    needed = still_begun_from(preset, [run for _, wanted in own for run in wanted])
    out: list[Job] = []
    trained_by: dict[str, str] = {}
    for name, wanted in own:
        for generation in sorted({run.generation for run in wanted}):
            of_it = [run for run in wanted if run.generation == generation]
            shards = -(-len(of_it) // preset.at(name).runs_per_job)
            for shard in range(shards):
                mine = shard_of(of_it, shard, shards)
                deltas = [records.delta_path(preset_name, run) for run in mine]
                deltas = [d for run, d in zip(mine, deltas, strict=True) if run.digest in needed or d.exists()]
                job = Job(
                    name,
                    generation,
                    shard,
                    shards,
                    tuple(r.digest for r in mine),
                    (*(records.find(preset_name, r) for r in mine), *deltas),
                    tuple(dict.fromkeys(trained_by[parent.digest] for run in mine for parent in run.start)),
                    gpu=preset_name == "paper",
                    mem_mb=16000 if preset_name == "paper" else 4000,
                    minutes=30 * len(mine),
                )
                trained_by |= dict.fromkeys(job.digests, job.name)
                out.append(job)
    return out


# --- how far it is ----------------------------------------------------------------------------------------------------
def status(preset_name: str) -> list[dict]:
    """One row an experiment: paper, experiment, and how many runs are done, missing, failed, stale, or have a record that
    is damaged or was made from other data, weights or start (see `Standing`); and what has changed since the stale ones.

    Stale: done, but by sources that have changed since. Failed ones are not counted as missing, and runs of an experiment
    that is undecidable not at all.
    """
    preset, rows, sources = get_preset(preset_name), [], {}
    for name in experiments():
        words = ("done", "missing", "failed", "stale", "damaged", "other data", "other weights", "other start")
        row: dict[str, Any] = {"paper": name.split("/")[0], "experiment": name, **dict.fromkeys(words, 0)}
        changed = set()
        for run in records.with_parents(trained_runs(name, preset)):
            found = standing(preset, run)
            failed = found.word == "missing" and failure_path(preset_name, run.digest).exists()
            row["failed" if failed else found.word] += 1
            if found.record:
                deciding = (run.method, run.tasks, run.source)
                if deciding not in sources:
                    sources[deciding] = sources_of(run)
                files = changed_sources(found.record, sources[deciding])
                row["stale"] += bool(files)
                changed.update(files)
        rows.append(row | {"changed": sorted(changed)})
    return rows
