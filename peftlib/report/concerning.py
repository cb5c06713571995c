"""Which claims of the papers are about a method, what became of them, and whether any learning rate taught it anything."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from peftlib import study
from peftlib.grids import Preset, experiments, runs, searches_rates
from peftlib.records import cached_here, run_of
from peftlib.report import learned, pages, verdicts
from peftlib.report.averages import keys
from peftlib.report.claims import Claim
from peftlib.report.conditions import Condition, Vocabulary, extreme_of, listed
from peftlib.report.verdicts import Judged


# --- claims -----------------------------------------------------------------------------------------------------------
def claims(method: str) -> dict[str, list[str]]:
    """Ids of the claims about a method, by paper with a ledger: those whose conditions name a row of it, be it the one that
    is judged or the one that it is compared with. A name for rows of several methods names none of them, and a claim that
    repeats another is not told twice.

    method: an expression; its hyperparameters do not matter.
    """
    page = pages.page_of(method)
    found: dict[str, list[str]] = {}
    for paper in verdicts.with_ledger() if page else ():
        ledger = verdicts.of(paper)
        about = [
            name
            for name, claim in ledger.claims.items()
            if any(page in _named(one, ledger.names, _rows(paper, one, claim)) for one in claim.holds)
        ]
        found |= {paper: about} if about else {}
    return found


def _named(one: Condition, names: Vocabulary, rows: Mapping[str, str | None]) -> set[str | None]:
    """The pages of the methods that a condition names."""
    found: set[str | None] = set()
    for name in (*listed(one.rows), one.than):
        group = extreme_of(name) or name
        there = set(_meant(group, names, rows))
        if len(there) == 1 or group not in names.rows and group != "*":
            found |= there
    return found


def _meant(name: str, names: Vocabulary, rows: Mapping[str, str | None]) -> Iterator[str | None]:
    """The pages of all rows that a name in a condition means."""
    for part in names.rows.get(name, (name,)):
        if part != name and part in names.rows:
            yield from _meant(part, names, rows)
        elif part.endswith("*"):
            yield from (page for label, page in rows.items() if label.startswith(part[:-1]))
        elif part in rows:
            yield rows[part]


def _rows(paper: str, one: Condition, claim: Claim) -> dict[str, str | None]:
    """The pages of methods by the labels that the tables of a condition have, as far as these are experiments; else by all
    of the paper's."""
    tables, there = (*(listed(one.tables) or listed(claim.tables)), one.other_table), _pages(paper)
    chosen = [name for name in tables if name]
    if not set(chosen) <= set(there):
        chosen = list(there)
    return {label: page for name in chosen for label, page in there[name].items()}


@cached_here
def _pages(paper: str) -> dict[str, dict[str, str | None]]:
    """The pages of methods by the labels of a paper's runs, by experiment."""
    known = functools.cache(pages.page_of)
    return {
        name: {label: known(method) for label, method in rows.items() if pages.says_one(label)}
        for name, rows in pages.labelled().items()
        if _of(name, paper)
    }


def needed(method: str) -> list[str]:
    """The experiments whose records tell what became of these claims and what searches found: of a paper all of them, as
    they are compared with each other."""
    about, page = set(claims(method)), pages.page_of(method)
    searched = [name for name, rows in _searching(pages.EVERY_ROW).items() if page in map(pages.page_of, rows.values())]
    return sorted(name for name in experiments() if name.split("/")[0] in about or name in searched)


def judged(method: str, preset: Preset | str) -> dict[str, list[Judged]]:
    """The claims about a method with their verdicts, by paper; as in its ledger, for they are judged from all of the
    paper's records. Nothing is trained."""
    found = {}
    for paper, ids in claims(method).items():
        ledger = verdicts.of(paper)
        sources = {name: study.results(name, preset, train=False) for name in experiments() if _of(name, paper)}
        found[paper] = ledger.judged(sources, ids)
    return found


def _of(experiment: str, paper: str) -> bool:
    return experiment.split("/")[0] == paper


# --- searches ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Search:
    """What a search over learning rates found for one row on one task.

    rates: those tried. best: the highest validation score, the mean over seeds, at the rate `at`. to_beat: what the
    commonest label scores; None if that is not known. learned: can a run of the row, on this task or another of its, be
    told from that?
    """

    experiment: str
    label: str
    task: str
    backbone: str
    rates: tuple[float, ...]
    best: float
    at: float
    to_beat: float | None
    learned: bool


def searches(method: str, preset: Preset) -> list[Search]:
    """Every search over learning rates that a preset has records of, for rows of a method."""
    page, found = pages.page_of(method), []
    for name, methods in _searching(preset.name).items():
        own = {label for label, searched in methods.items() if page and pages.page_of(searched) == page}
        if own:
            found += list(_searched(name, study.results(name, preset, train=False), own))
    return found


@cached_here
def _searching(preset: str) -> dict[str, dict[str, str]]:
    """The experiments that try a row at several learning rates, with the rows' methods by label."""
    wanted = {name: runs(name, preset) for name in experiments()}
    return {name: {run.label: run.method for run in each} for name, each in wanted.items() if searches_rates(each)}


def _searched(name: str, source: Sequence[Mapping], labels: Collection[str]) -> Iterator[Search]:
    groups: dict[tuple[str, tuple[str, ...]], list[Mapping]] = {}
    for record in source:
        if record["run"]["label"] in labels:
            groups.setdefault((record["run"]["label"], tuple(record["run"]["tasks"])), []).append(record)
    for (label, _), made in groups.items():
        run = run_of(made[0])
        # Rates are chosen by the mean over a run's tasks: one that was learned tells them apart.
        taught = any(learned.told_apart(r, task, "validation", len(source)) for r in made for task in run.tasks)
        for task in run.tasks:
            by_rate: dict[float, list[float]] = {}
            for record in made:
                by_rate.setdefault(record["run"]["recipe"]["lr"], []).append(record["validation"][keys(task)[0]])
            means = {lr: statistics.fmean(scores) for lr, scores in by_rate.items()}
            at, base = max(means, key=means.__getitem__), learned.to_beat(run, task, "validation")
            yield Search(name, label, task, run.backbone, tuple(sorted(means)), means[at], at, base, taught)
