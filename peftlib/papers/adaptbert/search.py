"""AdaptBert's dropout and weight-decay search as an Optuna study: finished runs are entered into a file that any later
run of the page, or Optuna's own tools, go on from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from peftlib import records
from peftlib.report.tables import Spread, by_label, scores

NAME = "section62"
SPACE = {"dropout": (0.0, 0.5, False), "weight_decay": (1e-3, 1.0, True)}  # low, high, logarithmic


def trials(source: Sequence[dict], task: str = "sst") -> pd.DataFrame:
    """Finished trials: columns ``trial``, ``dropout``, ``weight_decay``, ``score`` (`Spread` over seeds)."""
    rows = []
    for label, found in by_label(source).items():
        score: Spread | None = scores(found, task)
        if score is not None:
            recipe = found[0]["run"]["recipe"]
            rows.append({"trial": label, **{name: recipe[name] for name in SPACE}, "score": score})
    return pd.DataFrame(rows, columns=["trial", *SPACE, "score"])


def storage_path(preset: str) -> Path:
    """Where a preset's study is kept."""
    return records.root() / "_build" / preset / "optuna" / f"{NAME}.log"


def register(source: Sequence[dict], path: Path, task: str = "sst"):
    """Enter finished runs into the study in `path`, each once however often this is called; returns the study.

    The storage is Optuna's journal: a text file that is appended to, which survives a kill and may be shared.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    study = _open(storage)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(low, high, log=log) for name, (low, high, log) in SPACE.items()
    }
    digests = {label: "+".join(r["digest"] for r in found) for label, found in by_label(source).items()}
    rows = trials(source, task).to_dict("records")
    scores_now = {digests[row["trial"]]: float(row["score"]) for row in rows}
    if any(scores_now.get(trial.user_attrs["run"], trial.value) != trial.value for trial in study.trials):
        optuna.delete_study(study_name=NAME, storage=storage)  # a run was made again and gave another score
        study = _open(storage)
    known = {trial.user_attrs["run"] for trial in study.trials}
    for row in rows:
        if digests[row["trial"]] not in known:
            study.add_trial(
                optuna.trial.create_trial(
                    params={name: row[name] for name in SPACE},
                    distributions=space,
                    value=float(row["score"]),
                    user_attrs={"run": digests[row["trial"]], "label": row["trial"]},
                )
            )
    return study


def _open(storage):
    import optuna

    return optuna.create_study(study_name=NAME, direction="maximize", storage=storage, load_if_exists=True)


def best(study) -> dict[str, float | None]:
    """The best trial: its ``score`` and hyperparameters, and ``n`` trials; None for each if there is no trial."""
    if not study.trials:
        return dict.fromkeys(("n", "score", *SPACE))
    return {"n": len(study.trials), "score": study.best_value, **study.best_params}


def importances(study) -> dict[str, float | None]:
    """How much of the scores' variance each hyperparameter explains (functional ANOVA); None for each below four
    trials, or if all scores are equal."""
    import optuna

    values = {trial.value for trial in study.trials}
    if len(study.trials) < 4 or len(values) < 2:
        return dict.fromkeys(SPACE)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in found.items()}
