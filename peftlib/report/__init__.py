"""Records and the papers' numbers -> tables, figures, verdicts. Reads; never trains.

A notebook begins with ``page = report.begin(preset=preset, train=train)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from IPython.display import Markdown, display

from peftlib.errors import UsageError
from peftlib.grids import PRECISIONS, Preset, get_preset, runs
from peftlib.records import Run, root
from peftlib.report import style
from peftlib.report.figures import figure
from peftlib.report.notes import caveats
from peftlib.report.sentences import fill, say
from peftlib.report.tables import (
    DATA_NAMES,
    Html,
    Spread,
    at_edges,
    by_label,
    cost,
    course,
    duration,
    epoch_seconds,
    fell,
    field,
    frame,
    gains,
    many,
    not_run,
    presence,
    provenance,
    rate_grid,
    scores,
    table,
    union,
)

__all__ = [
    "Html",
    "Page",
    "Spread",
    "at_edges",
    "begin",
    "by_label",
    "caveats",
    "cost",
    "course",
    "duration",
    "epoch_seconds",
    "fell",
    "field",
    "figure",
    "frame",
    "gains",
    "presence",
    "provenance",
    "not_run",
    "rate_grid",
    "rerun",
    "root",
    "say",
    "scores",
    "style",
    "table",
    "union",
]


@dataclass(frozen=True)
class Page:
    """What a page was asked for. preset: as the page's experiment uses it. train: whether missing runs are trained
    here."""

    preset: Preset
    train: bool


def begin(preset: str, train: bool = True, experiment: str | Sequence[str] | None = None) -> Page:
    """Check a notebook's parameters, set the style of its figures, and show what its numbers rest on.

    experiment: the page's main one, whose changes to the preset are then shown, too; of a page about several, all of them.

    Raises:
        UsageError: an unknown preset or experiment, or `train` is no truth value.
    """
    found = get_preset(preset)
    if not isinstance(train, bool):
        raise UsageError(f"train = {train!r}: expected True (train missing runs here) or False (only read records)")
    names = [] if experiment is None else [experiment] if isinstance(experiment, str) else list(experiment)
    asked = [name for name in names if len(names) == 1 or not found.at(name).undecidable]  # these are not run
    wanted = [run for name in asked for run in runs(name, found)]
    found = found.at(names[0]) if len(names) == 1 else found
    style.use()
    display(_overview(found, train, wanted))
    return Page(found, train)


def _overview(preset: Preset, train: bool, wanted: Sequence[Run]) -> Html:
    """wanted: the runs of the page's experiments; without any, sizes and epochs are the preset's."""
    limits = {run.limits for run in wanted} or {preset.limits}
    epochs = {run.recipe.epochs for run in wanted} or {preset.epochs}
    steps = {run.recipe.epoch_steps for run in wanted} - {None} or {preset.epoch_steps} - {None}
    batches = {run.recipe.batch_size for run in wanted} or {preset.batch_size}
    lengths = {run.recipe.max_length for run in wanted} or {preset.max_length}
    precisions = {run.recipe.precision for run in wanted} or {preset.precision} - {"auto"} or PRECISIONS
    sources = dict.fromkeys(run.source for run in wanted) or {preset.source: None}
    seeds = sorted({run.seed for run in wanted} or preset.seeds)
    sizes = [_either(split) for split in zip(*limits, strict=True)]
    rows = {
        "preset": f"{preset.name}: {preset.about}",
        "backbone": " or ".join(dict.fromkeys(run.backbone for run in wanted)) or preset.backbone,
        "data": f"{' or '.join(DATA_NAMES[name] for name in sources)}: {sizes[0]} examples a task to train on, {sizes[1]} "
        f"to validate, {sizes[2]} to test",
        "rows": "all" if preset.rows is None else f"the first {preset.rows} of each experiment; the others are not run",
        "seeds": ", ".join(map(str, seeds)) + f" (n = {_numbers_of_seeds(wanted) or len(seeds)})",
        "budget": f"epochs: {_either(epochs)}{f' of {_either(steps)} steps' if steps else ''}, "
        f"batches of {_either(batches)}, {_either(lengths)} tokens, "
        f"{' or '.join(sorted(precisions))}",
        "missing runs": "are trained here" if train else "are left out; the tables say so",
    }
    return table(pd.DataFrame({"parameter": rows.keys(), "value": rows.values()}), caption="Preset, data, seeds and budget")


def _numbers_of_seeds(wanted: Sequence[Run]) -> str:
    """Of how many seeds the runs are that differ in nothing else: "3", or "1 or 3" where experiments differ in that."""
    seeds: dict[str, set[int]] = {}
    for run in wanted:
        seeds.setdefault(run.with_seed(0).digest, set()).add(run.seed)
    return _either(map(len, seeds.values()))


def _either(values: Iterable[int | None]) -> str:
    """ "100 or 1,000"; None is all."""
    found = sorted(set(values), key=lambda n: float("inf") if n is None else n)
    return " or ".join("all" if n is None else f"{n:,}" for n in found)


def rerun(notebook: str, page: Page, *sources: Sequence[dict]) -> Markdown:
    """How to make a page again, and what that costs, from its records. Experiments that are not run are left out."""
    sources = tuple(source for source in sources if not getattr(source, "undecidable", ""))
    made = list({r["digest"]: r for source in sources for r in source}.values())
    wanted = {run.digest for source in sources for run in getattr(source, "wanted", ())}
    lines = [f"```bash\npapermill {notebook} out.ipynb -p preset {page.preset.name}\n```\n"]
    if total := cost(made):
        machines = [f"{r['machine']['device']}, {many(r['machine']['threads'], 'thread')}" for r in made]
        lines.append(
            fill(
                "trains what has no record. The {runs} recorded took {time} of training steps, the "
                "longest {longest} ({machines}).",
                runs=many(int(total["runs"]), "run"),
                time=duration(total["seconds"]),
                longest=duration(total["longest"]),
                machines=", ".join(dict.fromkeys(machines)),
            )
        )
    diverged = {r["digest"] for source in sources for r in getattr(source, "diverged", ())}
    if diverged:
        lines.append(
            f"{len(diverged)} diverged at {'its' if len(diverged) == 1 else 'their'} learning rate and "
            f"{'has' if len(diverged) == 1 else 'have'} no scores."
        )
    damaged = {run.digest for source in sources for run in getattr(source, "damaged", ())}
    if damaged:
        lines.append(f"{len(damaged)} {'has a damaged record' if len(damaged) == 1 else 'have damaged records'}.")
    missing = len(wanted - {r["digest"] for r in made} - diverged)
    if missing:
        verb, what = ("is", "it") if missing == 1 else ("are", "them")
        lines.append(
            f"**{missing} of {many(len(wanted), 'run')} {verb} missing**; the same command, or `make train "
            f"PRESET={page.preset.name}`, trains {what}."
        )
    return Markdown(" ".join(lines))
