"""WNLI and the diagnostic sets AX-b and AX-g: rows, pairs, the gender parity score, and training on RTE."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import words

from peftlib import provenance
from peftlib.data import TASKS, embedded, get_task, load_split
from peftlib.data.grammar import phenomena, pronouns
from peftlib.data.grammar.lexicon import PEOPLE
from peftlib.errors import DataError, UsageError
from peftlib.records import Recipe, Run
from peftlib.training import metrics
from peftlib.training.loop import Trainer

DIGESTS = {"wnli": "bbb751a0b6c053e1", "axb": "41f66b86dabf9989", "axg": "9a9f0edd4dc6c44b"}
DIAGNOSTICS = ["axb", "axg"]


@pytest.mark.parametrize("name", DIGESTS)
def test_suite_has_not_changed(name):
    assert load_split(name, "test").digest[:16] == DIGESTS[name]


def test_rows_read_like_english():
    for name in DIGESTS:
        for row in load_split(name, "test").texts:
            for text in row:
                assert text[0].isupper() and text[-1] == "." and text == " ".join(text.split())
                assert not set(text) & set("{}#|/_") and not re.search(r"\ba [aeiou]|\bthe the\b", text)


def test_wnli_has_the_labels_of_the_hub_and_halves():
    assert TASKS["wnli"].labels == ("not_entailment", "entailment") and TASKS["wnli"].splits == "halves"
    assert TASKS["wnli"].hub == "nyu-mll/glue,wnli"


# Training rows are RTE's ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_diagnostics_are_trained_on_rte(name):
    task = TASKS[name]
    assert task.labels == TASKS["rte"].labels and task.hub == f"aps/super_glue,{name}"
    for split in ("train", "validation"):
        found, rte = load_split(name, split, limit=50), load_split("rte", split, limit=50)
        assert found.texts == rte.texts and (found.labels == rte.labels).all() and found.digest != rte.digest
    assert set(load_split(name, "test").texts).isdisjoint(load_split("rte", "test").texts)
    with pytest.raises(UsageError, match="unknown split 'train'; expected one of test"):
        embedded.generate(name, "train")


def test_a_diagnostic_run_rests_on_the_grammars_of_both():
    run = Run("HeadOnly()", ("axg",), "minilm", "embedded", Recipe(lr=1e-3))
    assert {"data/grammar/pronouns.py", "data/grammar/reading.py", "data/suites/glue.py"} <= provenance.sources_of(
        run
    ).keys()


def axg_rows(pairs: int) -> dict:
    """As the hub has them: the second of a pair after the first, or anywhere."""
    told = [f"The guest thanked cook {i} because {p} was full." for i in range(pairs) for p in ("she", "he")]
    return {
        "premise": told,
        "hypothesis": [f"Cook {i // 2} was full." for i in range(2 * pairs)],
        "idx": list(range(2 * pairs)),
        "label": [i // 2 % 2 for i in range(2 * pairs)],
    }


@pytest.mark.parametrize("source", ["local", "hub"])
def test_axg_and_rte_are_read_from_their_own_places(source, tmp_path, monkeypatch):
    """A local folder, and one laid out as the hub does it: AX-g has a test split alone."""
    rte = {"sentence1": [f"Told {i}." for i in range(40)], "sentence2": ["So."] * 40, "label": [i % 2 for i in range(40)]}
    rows = pd.DataFrame(axg_rows(6)).sample(frac=1, random_state=0)  # pairs are known by their texts, in any order
    monkeypatch.setenv("PEFTLIB_DATA", str(tmp_path))
    places = {("glue", "rte", split): rte for split in ("train", "validation")} | {("superglue", "axg", "test"): rows}
    for (suite, folder, split), columns in places.items():
        path = tmp_path / suite / folder / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(columns).to_parquet(path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for name, suite in (("rte", "glue"), ("axg", "superglue")):
        monkeypatch.setitem(TASKS, name, dataclasses.replace(TASKS[name], hub=str(tmp_path / suite / name)))
    assert [len(load_split("axg", split, source)) for split in ("train", "validation", "test")] == [40, 20, 12]
    test = load_split("axg", "test", source)
    assert sorted(test.groups.count(group) for group in set(test.groups)) == [2] * 6
    few = load_split("axg", "test", source, limit=2)  # pairs stay whole
    assert len(few) == 4 and len(set(few.groups)) == 2
    if source == "local":
        (tmp_path / "superglue" / "axg" / "test.parquet").unlink()
        with pytest.raises(DataError, match=r"axg/test.parquet: no such file"):
            load_split("axg", "test", source)


# The gender parity score ----------------------------------------------------------------------------------------------


def test_parity_is_the_share_of_pairs_with_one_answer():
    labels, groups = np.array([0, 0, 1, 1, 0, 0]), list("aabbcc")
    found = np.array([1, 1, 1, 0, 0, 0])  # alike though wrong; not alike; alike
    assert metrics.scores(TASKS["axg"], found, labels, groups) == {
        "accuracy": pytest.approx(3 / 6), "gender_parity": pytest.approx(2 / 3)
    }  # fmt: skip
    assert metrics.score("gender_parity", found[[0, 2, 4, 1, 3, 5]], labels, groups=list("abcabc")) == pytest.approx(2 / 3)
    assert metrics.score("gender_parity", found, labels, groups=list("abcdef")) == 1  # RTE's rows have no partners
    with pytest.raises(UsageError, match="metric 'gender_parity' needs groups"):
        metrics.score("gender_parity", found, labels)


def test_parity_needs_a_task_with_groups():
    with pytest.raises(UsageError, match="metrics=.*none of exact_match, gender_parity, .*which need groups"):
        dataclasses.replace(TASKS["rte"], metrics=("gender_parity",))


def test_training_on_rte_is_scored_on_axg():
    run = Run("HeadOnly()", ("axg",), "minilm", "embedded", Recipe(lr=1e-3, epochs=1), limits=(32, 16, 16))
    trainer = Trainer(run, progress=False)
    assert [len(trainer.data[split]["axg"]) for split in ("train", "validation", "test")] == [32, 16, 32]
    found = trainer.fit().test
    assert {"axg.accuracy", "axg.gender_parity"} <= set(found) and 0 <= found["axg.gender_parity"] <= 1


# The embedded counterparts --------------------------------------------------------------------------------------------


def test_axg_pairs_differ_in_the_pronoun_alone():
    test = load_split("axg", "test")
    assert len(test) == 400 and np.abs(test.labels.mean() - 0.5) < 0.1
    for i in range(0, len(test), 2):
        (one, same), (two, again) = test.texts[i], test.texts[i + 1]
        assert same == again and test.labels[i] == test.labels[i + 1] and test.groups[i] == test.groups[i + 1]
        assert sorted(
            {*zip(one.lower().split(), two.lower().split(), strict=True)} - {(w, w) for w in one.lower().split()}
        ) == [("he", "she")]
    assert len(set(test.groups)) == 200


def test_no_name_of_somebody_gives_the_gender_away():
    names = {name for family in pronouns.ANYBODY for entry in family for name in entry.split("/")}
    assert names < {name for family in PEOPLE for entry in family for name in entry.split("/")} and len(names) > 50
    assert not names & {"mother", "uncle", "postman", "fisherman"}


def read_pronoun(premise: str, hypothesis: str) -> bool | None:
    """Whether the hypothesis names whom the reason of the premise is of."""
    for deed, *reasons in pronouns.DEEDS:
        pattern = re.escape(deed).replace(r"\{a\}", r"the (?P<a>[a-z ]+)").replace(r"\{b\}", r"the (?P<b>[a-z ]+)")
        if found := re.search(pattern.replace(r"\ ", " "), premise.replace("The ", "the ")):
            for who, reason in zip("ab", reasons, strict=True):
                if reason in premise and reason in hypothesis:
                    named = hypothesis.removeprefix("The ").removesuffix(f" {reason}.")
                    return f"{found[who]} ".split(" because ")[0].strip().endswith(named)
    return None


@pytest.mark.parametrize(("name", "entailed"), [("wnli", 1), ("axg", 0)])
def test_a_reader_who_knows_the_deeds_solves_the_pronouns(name, entailed):
    test = load_split(name, "test")
    read = [read_pronoun(*row) for row in test.texts]
    assert None not in read
    right = np.mean([answer == (label == entailed) for answer, label in zip(read, test.labels, strict=True)])
    assert right > (0.999 if name == "axg" else 0.94)


def test_every_phenomenon_has_both_labels():
    frame = embedded.generate("axb", "test", kinds=True)
    shares = frame.groupby("kind")["label"].mean()
    assert set(shares.index) == set(phenomena.RULES) and shares.between(0.35, 0.65).all()


def test_a_reader_of_numbers_and_quantifiers_solves_them():
    frame = embedded.generate("axb", "test", kinds=True)
    for row in frame[frame.kind == "numbers"].itertuples():
        told = next(i for i, word in enumerate(phenomena.NUMBERS) if f"exactly {word} " in row.sentence1)
        way, bound = re.search(r"(more|fewer) than (\w+)", row.sentence2).groups()
        bound = phenomena.NUMBERS.index(bound)
        assert row.label == int(not (told > bound if way == "more" else told < bound))
    for row in frame[frame.kind == "quantifiers"].itertuples():
        first, second = (
            next(q for q in phenomena.QUANTIFIERS if text.lower().startswith(q)) for text in (row.sentence1, row.sentence2)
        )
        assert row.label == int(second not in phenomena.IMPLIED[first])
    for row in frame[frame.kind == "order"].itertuples():
        assert row.label == int(in_order(row.sentence1) != in_order(row.sentence2))


def in_order(text: str) -> tuple[str, ...]:
    """The two clauses, the earlier one first."""
    text = text[0].lower() + text[1:-1]
    if text.startswith(("before ", "after ")):
        word, _, rest = text.partition(" ")
        clauses = rest.split(", ")
        return tuple(clauses[::-1] if word == "before" else clauses)
    word = "before" if " before " in text else "after"
    clauses = text.split(f" {word} ")
    return tuple(clauses if word == "before" else clauses[::-1])


def test_words_alone_do_not_solve_them():
    assert words.accuracy(load_split("wnli", "train"), load_split("wnli", "test")) < 0.62
    train = load_split("rte", "train", limit=1500)
    for name in DIAGNOSTICS:
        test = load_split(name, "test")
        assert abs((words.predicted(train, test) == test.labels).mean() - 0.5) < 0.1
    assert get_task("axb").metrics == ("matthews",)
