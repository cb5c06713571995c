"""What a reader of records must know of backbone, data and scores before comparing them with a paper's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from IPython.display import Markdown

from peftlib import markup
from peftlib.data.sources import available
from peftlib.data.tasks import SUITES
from peftlib.papers import About, about
from peftlib.report import declared, tables
from peftlib.report.averages import TEST_ROWS
from peftlib.report.suites import STANDS_FOR, TITLES, real

TINY = 50  # test rows at most, of which a difference of a few is told to be noise
SEEN = {"mnli": "sentences of SNLI and MultiNLI", "qnli": "SQuAD's questions with their paragraphs"}  # says its model card


def caveats(source: Sequence[dict], paper: str) -> Markdown | None:
    """What limits the comparison of these records with a paper's numbers; None if there is nothing."""
    runs, its = [r["run"] for r in source], about(paper)
    notes = [*_data(runs), *_left_out(source), *(_suites(runs, paper) if its.suites else ()), *_backbone(runs, its)]
    return Markdown("\n".join(f"- {note}" for note in notes)) if notes else None


def _data(runs: Sequence[dict]) -> Iterator[str]:
    """What holds for any paper."""
    genuine = [r for r in runs if r["source"] != "embedded"]
    seen = _tasks([r for r in genuine if r["backbone"].startswith("minilm")])
    if "quora" in seen:
        yield (
            "**MiniLM has seen Quora pairs.** all-MiniLM-L6-v2 was trained contrastively on public sentence pairs, "
            "Quora's duplicates among them: its Quora scores are not those of a model that meets the task for the "
            "first time."
        )
    if close := [SEEN[real(task)] for task in seen if real(task) in SEEN]:
        yield f"**MiniLM has seen texts of these tasks**: its contrastive training had {_listed(close)}, too."
    if any(r["source"] == "local" and "quora" in r["tasks"] for r in genuine):
        yield (
            "**Quora's train split is not the course's file** (141,506 pairs, not to be had) but a sample of the same "
            "corpus without the validation pairs; see `data/README.md`."
        )
    yield from _drawn(runs)
    if len(genuine) < len(runs):
        yield (
            "**Embedded data.** These runs use the suite that this project generates, under the tasks' names; scores "
            "are not comparable with the paper's, the order of methods may be."
        )


def _drawn(runs: Sequence[dict]) -> Iterator[str]:
    """How multi-task runs came by the task of each batch, where it was drawn."""
    recipes = [r["recipe"] for r in runs if len(r["tasks"]) > 1 and r["recipe"]["sampling"] == "temperature"]
    temperatures = sorted({recipe["temperature"] for recipe in recipes})
    by_size = "in proportion to the tasks' sizes"
    said = [by_size if T == 1 else f"{by_size} to the power of 1/{T:g} (temperature {T:g})" for T in temperatures]
    if not said:
        return
    others = f"of others {_listed(said[1:])}, " if said[1:] else ""
    evened = "The higher the temperature, the less a task's size counts. " if temperatures != [1] else ""
    proportional = "Presets whose sampling is *proportional* go through every example once an epoch."
    yield (
        f"**Batches drawn with replacement.** The multi-task runs drew the task of each batch {said[0]}, {others}so that "
        f"by chance an epoch saw some batches twice and others not at all. {evened}{proportional * (1 in temperatures)}"
    ).rstrip()


def _left_out(source: Sequence[dict]) -> Iterator[str]:
    """What of the data is not read: how much, where the records say so."""
    cut: dict[str, float]
    dropped: dict[str, int]
    lengths, cut, dropped = set(), {}, {}
    for record in source:
        counted, length = record.get("left_out", {}).get("train", {}), record["run"]["recipe"]["max_length"]
        if record["run"]["source"] != "embedded" or counted:
            lengths.add(length)
        for task, found in counted.items():
            title = TITLES.get(task) or tables.TITLES.get(task) or markup.markdown(task)
            cut |= {f"{title} at {length} tokens": found["rows_cut"] / found["rows"]} if "rows_cut" in found else {}
            dropped |= {title: found["rows_dropped"]} if "rows_dropped" in found else {}
    if lengths:
        one = f" at {min(lengths)} tokens" if len(lengths) == 1 else ""  # said already
        shares = _listed([f"{share:.0%} of {what.removesuffix(one)}" for what, share in cut.items()]) if cut else ""
        yield (
            f"**Inputs end at {_listed([str(n) for n in sorted(lengths)])} tokens.** Of a longer one the longest text "
            "loses its end, never the question that comes after it."
            + (f" Training rows cut so: {shares}." if shares else "")
        )
    if dropped:
        yield (
            "**Rows that nobody can use** are left out, those of the official files without a text: "
            f"{_listed([f'{count} of {title}' for title, count in dropped.items()])}."
        )


def _backbone(runs: Sequence[dict], paper: About) -> Iterator[str]:
    if any(not r["backbone"].startswith(paper.backbones) for r in runs):
        yield (
            f"**Another backbone.** The paper's is {paper.backbone}; where ours differs, compare the order of rows and "
            "the distances between them, not the scores."
        )


# --- GLUE and SuperGLUE -----------------------------------------------------------------------------------------------
def _suites(runs: Sequence[dict], paper: str) -> Iterator[str]:
    """What holds for tables over a suite of tasks."""
    tasks, writes = _tasks(runs), any(name.startswith("t5") for name in about(paper).backbones)
    if stand_ins := [f"{task} for {TITLES[real(task)]}" for task in tasks if task in STANDS_FOR]:
        yield (
            f"**Stand-ins are not the official tasks.** For want of official training sets: {_listed(stand_ins)}. Their "
            "scores compare with nothing published; see `data/README.md`."
        )
    for suite in ("glue", "superglue"):
        yield from _missing(runs, suite, paper)
    if runs:
        yield ("**Scores are of the test split**, at the epoch that was best on validation." + _split(runs, writes))
    yield from _small(runs)
    if any(r["limits"][0] is not None for r in runs):
        yield (
            "**Less training.** The paper trains on whole data sets, for more epochs where they are small; these runs "
            "stop at the numbers of examples and epochs that the fold at the end of the page names. Methods that "
            "learn slowly suffer most."
        )
    if writes and any(r["recipe"]["form"] == "heads" for r in runs):
        yield (
            "**A trained head.** T5 writes its answer through an output layer that stays frozen. An encoder needs a "
            "new linear head for each task; every method trains it, and no count of parameters contains it."
        )


def _missing(runs: Sequence[dict], suite: str, paper: str) -> Iterator[str]:
    """Tasks that the paper has of a suite, without runs: those that the source has not, and those that the preset leaves
    out."""
    printed = {key.partition(".")[0] for key in declared.declared(paper).columns.values()}
    names = [task.name for task in SUITES[suite] if task.name in printed]
    there = {real(task) for task in _tasks(runs)} & set(names)
    if not there:
        return
    source = next(r["source"] for r in runs if real(r["tasks"][0]) in there)
    lost = [name for name, found in available(suite, source).items() if found is None]
    left = [name for name in names if name not in there and name not in lost]
    said = [f"{_titles(lost)} cannot be had from this source"] if lost else []
    said += [f"{_titles(left)} {'is' if len(left) == 1 else 'are'} not run"] if left else []
    if said:
        yield (
            f"**Missing tasks.** {', and '.join(said)}: our averages are over the others, as the paper's are wherever "
            "they are compared with ours."
        )


def _split(runs: Sequence[dict], writes: bool) -> str:
    """writes: is the paper's backbone a T5, which the rule for splits is from? The others are scored on validation."""
    if all(r["source"] == "embedded" for r in runs):
        return ""
    if not writes:
        return (
            " The paper scores the official validation set; here that is the test split, or half of it where the training "
            "set is small: the other half chooses the epoch."
        )
    return (
        " As in the paper (section 5) the official validation set is cut into halves for validation and test where "
        "the training set is small; where it is large, it is the test split, and validation is held out of train."
    )


def _small(runs: Sequence[dict]) -> Iterator[str]:
    """How coarse the scores of the smallest test splits are."""
    genuine = _tasks([r for r in runs if r["source"] != "embedded"])
    sizes = {task: TEST_ROWS[task] for task in genuine if TEST_ROWS.get(task, math.inf) <= TINY}
    if sizes:
        said = [f"{TITLES[task]}'s has {rows} rows, each of them {100 / rows:.1f} points" for task, rows in sizes.items()]
        yield f"**Tiny test splits.** {_listed(said)}: a difference of a few rows is noise."


def _tasks(runs: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(task for r in runs for task in r["tasks"]))


def _titles(tasks: Sequence[str]) -> str:
    return _listed([TITLES[task] for task in tasks])


def _listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a; b and c" where a has a comma, else "a, b and c"."""
    between = "; " if any("," in word for word in words) else ", "
    return f"{between.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
