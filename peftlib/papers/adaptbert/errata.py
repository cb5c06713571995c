"""AdaptBert's numbers recomputed from its own tables."""

from __future__ import annotations

import pandas as pd

from peftlib.accounting.counting import BERT, count
from peftlib.papers import paper_table, rounds_to
from peftlib.report.arithmetic import as_table
from peftlib.report.arithmetic import row as _row

SCORES = ("sst", "quora", "sts")
BEST_LORA, BEST_PAIR, BEST_ADAPTER = "LoRA[r=16]-20 epochs", "LoRA+Adapter [r=128, a=128]", "Adapter[a=256]"
NEAR_PAIR = "LoRA+Adapter [r=16, a=128]"


def _mean(row: pd.Series) -> float:
    return sum(row[name] for name in SCORES) / len(SCORES)


def _table(name: str) -> pd.DataFrame:
    frame = paper_table("adaptbert", name)
    return frame.set_index(frame["method"] + ", " + frame["type"])


def _said(identifier: str) -> pd.Series:
    return paper_table("adaptbert", "statements").set_index("id").loc[identifier]


def _finetune() -> pd.Series:
    return _table("table3").loc["Finetune, Multi-task"]


# --- tables -----------------------------------------------------------------------------------------------------------
def averages() -> list[dict]:
    """The average column of tables 2 to 4 against the mean of the row's three scores."""
    rows, swapped = [], _swapped()
    for name in ("table2", "table3", "table4"):
        table = _table(name)
        for label, row in table.iterrows():
            mean, printed = _mean(row), f"{row['average']:.3f}"
            twin = swapped.get((name, label))
            shifted = mean + (1 - row["sts"]) / 2 / len(SCORES)
            why = (f"With similarity counted as (1 + r) / 2 the mean is {shifted:.4f}. An average of another kind, not "
                   "to be compared with the dev averages of the other tables.")
            if twin:
                why = f"It is the mean of the row {twin!r} of Table 2: the two were exchanged. "
                if label == "Finetune, Multi-task":
                    why += ("Every comparison with full multi-task fine-tuning uses the exchanged average, too high by "
                            f"{row['average'] - mean:.3f}.")
                else:
                    why += "No later sentence rests on this row's."
            rows.append(_row(f"average of {label}", name.replace("table", "Table "), printed, f"{mean:.4f}",
                             rounds_to(mean, printed), why))
    return rows


def _swapped() -> dict[tuple[str, str], str]:
    """Rows whose printed average is, rounded, not their own mean but that of another row of Table 2."""
    table, found = _table("table2"), {}
    for name in ("table2", "table3"):
        for label, row in _table(name).iterrows():
            printed = f"{row['average']:.3f}"
            if label in table.index and not rounds_to(_mean(row), printed):
                twins = [other for other, theirs in table.iterrows() if rounds_to(_mean(theirs), printed)]
                if twins:
                    found[name, label] = twins[0]
    return found


def repeated_rows() -> list[dict]:
    """The same model in two tables: the same percentages, and of Tables 1 and 2 the same single-task score."""
    rows, first, second = [], _table("table1"), _table("table2")
    for label in first.index:
        ours, theirs = first.loc[label, "sst"], second.loc[label, "sst"]
        multi = second.loc[label.replace("Single", "Multi"), "sst"]
        why = ("Table 1's score is that of the multi-task row: the scores of the two rows were exchanged."
               if ours == multi else "The two runs differ.")
        where = "Table 2, also in Table 1"
        rows.append(_row(f"sst of {label}", where, f"{theirs:.3f}", f"{ours:.3f}", ours == theirs, why))
    third, fourth = _table("table3"), _table("table4")
    for label in fourth.index:
        for column in ("updated", "stored"):
            there, here = third.loc[label, f"{column}_printed"], fourth.loc[label, f"{column}_printed"]
            why = ("Table 3's is three times what is updated, as for every other adapter; Table 4's makes adapters "
                   "look as cheap to store as LoRA+Adapter.")
            rows.append(_row(f"{column} of {label}", "Table 4, also in Table 3", here, there, here == there, why))
    return rows


def storage() -> list[dict]:
    """Adapters and hypernetworks: what is stored is three times what is updated, as far as the digits tell."""
    rows = []
    for label, row in _table("table3").iterrows():
        if label.startswith(("Adapter", "Hypernet")):
            slack = 1.5 * 10.0 ** -len(row["updated_printed"].strip("%").partition(".")[2])
            own = 0.5 * 10.0 ** -len(row["stored_printed"].strip("%").partition(".")[2])
            agrees = abs(3 * row["updated"] - row["stored"]) < slack + own - 1e-9
            rows.append(_row(f"stored of {label} over updated", "Table 3", row["stored_printed"],
                             f"3 x {row['updated_printed']} = {3 * row['updated']:.2f}%", agrees,
                             "One of the two is off in its last digit; no conclusion rests on it."))
    return rows


def combinations() -> list[dict]:
    """LoRA+Adapter against the rows it is made of; LoRA of rank 128, which has no row, scaled from rank 64."""
    table, rows = _table("table3"), []
    lora = {8: ("LoRA[r=8]", 1), 16: ("LoRA[r=16]", 1), 128: ("LoRA[r=64]-20 epochs", 2)}
    for r, a in ((8, 64), (16, 128), (128, 128)):
        whole, (name, times) = table.loc[f"LoRA+Adapter [r={r}, a={a}], Multi-task"], lora[r]
        base, adapter = table.loc[f"{name}, Multi-task"], table.loc[f"Adapter[a={a}], Multi-task"]
        for column in ("updated", "stored"):
            total = times * base[column] + adapter[column]
            slack = sum(0.5 * k * 10.0 ** -len(x[f"{column}_printed"].strip("%").partition(".")[2])
                        for k, x in ((times, base), (1, adapter), (1, whole)))
            rows.append(_row(f"{column} of LoRA+Adapter [r={r}, a={a}]", "Table 3", whole[f"{column}_printed"],
                             f"{total:.2f}%", abs(total - whole[column]) <= slack + 1e-9,
                             "The parts do not add up; no conclusion rests on it."))
    return rows


def formula() -> list[dict]:
    """Section 4.2's parameters a layer, 2md + m, and the percentages that it would give."""
    total, rows, said = count("HeadOnly()", BERT).total, [], _said("4.2.formula")["printed"]
    for label, row in _table("table3").iterrows():
        if label.startswith("Adapter"):
            m = int(label.split("=")[1].split("]")[0])
            percent = 100 * 12 * 2 * (2 * m * 768 + m) / total  # read generously: for each of a layer's two adapters
            rows.append(_row(f"updated of {label}, by {said} an adapter", "section 4.2 against Table 3",
                             row["updated_printed"], f"{percent:.2f}%", rounds_to(percent, row["updated_printed"]),
                             "The table's adapters are larger: biases, and a second adapter 3,072 wide, on the hidden "
                             "activation. Section 4.2 describes another model than the one that was counted."))
    return rows


# --- sentences --------------------------------------------------------------------------------------------------------
def differences() -> list[dict]:
    """The conclusion's differences from full fine-tuning: from the printed averages, and from the recomputed ones."""
    rows, table, reference = [], _table("table3"), _finetune()
    for key, name in (("combination", BEST_PAIR), ("adapter", BEST_ADAPTER)):
        row = table.loc[f"{name}, Multi-task"]
        for what, ours, theirs in (("printed averages", row["average"], reference["average"]),
                                   ("means of the scores", _mean(row), _mean(reference))):
            gap = ours - theirs
            why = (f"Full fine-tuning's own scores average {theirs:.4f}: by them {name} is {gap:+.4f} from it; the "
                   "loss that the conclusion reports comes from an exchanged average.")
            if what == "printed averages":
                why = "Cut off instead of rounded; no conclusion rests on it."
            for kind, value in (("difference", gap), ("relative", 100 * gap / theirs)):
                said, digits = _said(f"7.{key}_{kind}"), 4 if kind == "difference" else 2
                rows.append(_row(f"{kind} of {name} from full fine-tuning, by {what}", "section 7", said["printed"],
                                 f"{value:+.{digits}f}" + ("%" if kind == "relative" else ""),
                                 rounds_to(value, said["printed"]), why))
    return rows


def ratios() -> list[dict]:
    """LoRA's share of full fine-tuning's accuracy, by both averages, and full fine-tuning's storage."""
    table, reference, said = _table("table3"), _finetune(), _said("6.1.lora_ratio")
    lora, rows = table.loc[f"{BEST_LORA}, Multi-task"], []
    for what, value in (("printed averages", lora["average"] / reference["average"]),
                        ("means of the scores", _mean(lora) / _mean(reference))):
        rows.append(_row(f"accuracy of {BEST_LORA} over full fine-tuning, by {what}", "section 6.1", said["printed"],
                         f"{100 * value:.1f}%", rounds_to(100 * value, said["printed"]),
                         "LoRA does better than claimed; with the epochs of the other rows (r=16) it is "
                         f"{100 * _mean(table.loc['LoRA[r=16], Multi-task']) / _mean(reference):.0f}%."))
    copies, extra = _said("6.1.finetune_copies")["value"], _said("6.1.finetune_stored_single")
    rows.append(_row("extra storage of one full model a task", "section 6.1 and Table 2", extra["printed"],
                     f"+{100 * (copies - 1):.0f}%", 100 * (copies - 1) == extra["value"], ""))
    return rows


def quotations() -> list[dict]:
    """Numbers of the sentences that quote a table."""
    table, rows = _table("table3"), []
    cells = [("abstract.updated", BEST_PAIR, "updated"), ("6.1.best", "Finetune", "average"),
             ("6.1.combination_accuracy", NEAR_PAIR, "average"), ("6.1.combination_updated", NEAR_PAIR, "updated"),
             ("6.1.sst_updated", BEST_ADAPTER, "updated"), ("6.1.lora_updated", BEST_LORA, "updated"),
             ("6.1.best_combination", BEST_PAIR, "average"), ("6.1.best_combination_updated", BEST_PAIR, "updated"),
             ("7.finetune", "Finetune", "average"), ("7.combination", BEST_PAIR, "average"),
             ("7.combination_updated", BEST_PAIR, "updated"), ("7.adapter", BEST_ADAPTER, "average"),
             ("7.adapter_updated", BEST_ADAPTER, "updated")]
    for key, name, column in cells:
        said, value = _said(key), table.loc[f"{name}, Multi-task", column]
        where = "abstract" if said["section"] == "abstract" else f"section {said['section']}"
        rows.append(_row(f"{column} of {name}, quoted", where, said["printed"], f"{value:g}",
                         rounds_to(value, said["printed"]), "Cut off, not rounded; no conclusion rests on it."))
    cited = _said("6.1.lora_table")["printed"]
    holds = [f"Table {n}" for n in (3, 4) if any(_table(f"table{n}").index.str.startswith("LoRA["))]
    rows.append(_row("the table with LoRA's SST scores", "section 6.1", cited, ", ".join(holds), cited in holds,
                     "A wrong reference, no more."))
    return rows


def orders() -> list[dict]:
    """Sentences that rank rows: best, above, below."""
    table, second = _table("table3"), _table("table2")
    reference, efficient = _finetune(), table.drop(index="Finetune, Multi-task")
    above = list(efficient.index[efficient["sst"] > reference["sst"]].str.removesuffix(", Multi-task"))
    rows = [_row("rows above full multi-task fine-tuning on SST", "section 6.1", BEST_ADAPTER, ", ".join(above),
                 above == [BEST_ADAPTER], f"{len(above)} rows are, not only the one named; the best "
                 f"has {efficient['sst'].max():.3f}, one model a task {_table('table1')['sst'].max():.3f}.")]
    means = pd.concat([second[["sst", "quora", "sts"]], efficient[["sst", "quora", "sts"]]]).mean(axis=1)
    best = means.idxmax()
    pair = _mean(table.loc[f"{BEST_PAIR}, Multi-task"])
    claimed = "Finetune, Multi-task"
    rows.append(_row("most accurate model", "section 6.1", claimed, f"{best} ({means[best]:.3f})", best == claimed,
                     "One full model a task is the most accurate, and the most expensive; "
                     f"the multi-task one averages {_mean(reference):.4f}, the best LoRA+Adapter {pair:.4f}."))
    gap = _mean(table.loc[f"{BEST_PAIR}, Multi-task"]) - _mean(table.loc[f"{BEST_ADAPTER}, Multi-task"])
    rows.append(_row(f"{BEST_PAIR} against {BEST_ADAPTER}", "section 6.1", "better", f"{gap:+.4f}", gap > 0,
                     "The best adapters are not beaten."))
    pair, whole = table.loc[f"{BEST_PAIR}, Multi-task"], reference
    better = [name for name in SCORES if pair[name] > whole[name]]
    rows.append(_row("tasks on which LoRA+Adapter beats full fine-tuning", "abstract", "some tasks",
                     ", ".join(better) or "none", len(better) > 1, "Only one of the three, by "
                     f"{max(pair[name] - whole[name] for name in SCORES):.3f}; one seed."))
    return rows


def errata() -> pd.DataFrame:
    """All that AdaptBert prints and that can be recomputed: item, where, printed, recomputed, agrees, consequence."""
    parts = (averages, repeated_rows, storage, combinations, formula, differences, ratios, quotations, orders)
    return as_table(part() for part in parts)
