"""Compacter's numbers recomputed from its own tables."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from peftlib.papers import paper_table, rounds_to
from peftlib.report.arithmetic import as_table
from peftlib.report.arithmetic import row as _row
from peftlib.report.averages import TEST_ROWS, TINY, by_task, margin
from peftlib.report.suites import score_columns

GLUE, SUPERGLUE = ("table1", "table6", "table7", "table9"), ("table2", "table8")
FULL = "T5-Base"
WIDTH, BOTTLENECK, BLOCKS, RULE = 768, 24, 24, 4**3  # T5-Base's width and blocks; the paper's d, and n^3 at n = 4
NORMS = {"of the blocks": 60, "all": 62}


def _scores(row: pd.Series) -> dict[str, float]:
    return {name: row[name] for name in score_columns(row.to_frame().T)}


def _mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def _table(name: str) -> pd.DataFrame:
    return paper_table("compacter", name).set_index("method", drop=False)


def _where(name: str) -> str:
    return name.replace("table", "Table ")


def _number(printed: str) -> float:
    return float(printed.strip("%").replace("×1", "").replace("×", ""))


def _rows(tables: tuple[str, ...]) -> Iterator[tuple[str, str, pd.Series]]:
    for name in tables:
        for label, row in _table(name).iterrows():
            yield name, label, row


# --- tables -----------------------------------------------------------------------------------------------------------
def averages() -> list[dict]:
    """The column "Avg": the mean of all printed numbers of a row, so that a task with two metrics counts twice."""
    rows = []
    for name, label, row in _rows(GLUE + SUPERGLUE):
        mean, printed = _mean(_scores(row).values()), f"{row['average']:.2f}"
        rows.append(_row(f"average of {label}", _where(name), printed, f"{mean:.3f}", rounds_to(mean, printed),
                         f"The row's own numbers average {mean:.2f}; no sentence rests on the difference."))
    return rows


def task_averages() -> list[dict]:
    """Where the order of a method and full fine-tuning turns if every task counts once."""
    rows = []
    for name in ("table1", "table2"):
        table = _table(name)
        whole = table.loc[FULL]
        for label, row in table.drop(index=FULL).iterrows():
            printed = row["average"] - whole["average"]
            once = _mean(by_task(_scores(row)).values()) - _mean(by_task(_scores(whole)).values())
            rows.append(_row(f"{label} against full fine-tuning, every task counted once", _where(name), f"{printed:+.2f}",
                             f"{once:+.2f}", (printed > 0) == (once > 0),
                             "Which of the two is better depends on whether a task with two metrics counts twice."))
    return rows


def repeated_rows() -> list[dict]:
    """The same row in two tables."""
    rows = []
    for first, second in (("table1", "table6"), ("table2", "table8")):
        one, two = _table(first), _table(second)
        aliases = {"Intrinsic-SAID": "Intrinsic-SAID (d'=20K)"}
        for label in one.index:
            other = aliases.get(label, label)
            if other in two.index:
                differ = [c for c in one.columns if c not in ("method", "marks_printed")
                          and _same(one.loc[label, c]) != _same(two.loc[other, c])]
                rows.append(_row(f"{label}, all columns", f"{_where(first)}, also in {_where(second)}", "the same row",
                                 ", ".join(differ) or "the same row", not differ,
                                 f"The two differ in {', '.join(differ)}."))
    return rows


def _same(value) -> float | str:
    return _number(value) if isinstance(value, str) and value else value


def changes() -> list[dict]:
    """Table 3's relative changes: of time they are relative to full fine-tuning, as said; of memory they are not."""
    rows, table = [], _table("table3")
    whole = table.loc[FULL]
    for label, row in table.drop(index=FULL).iterrows():
        for column, change in (("minutes", "minutes_change_printed"), ("memory_mb", "memory_change_printed")):
            right = 100 * (row[column] / whole[column] - 1)
            own = 100 * (1 - whole[column] / row[column])
            why = (f"The change was divided by the method's own memory instead of full fine-tuning's: ({row[column]:g} - "
                   f"{whole[column]:g}) / {row[column]:g} = {own:.2f}%. " if rounds_to(own, row[change]) else "")
            why += "Every saving of memory in section 5.5 is overstated in this way" if right < 0 else \
                "The added memory is understated in this way"
            what = "time" if column == "minutes" else "memory"
            rows.append(_row(f"change of {what} by {label}, relative to full fine-tuning", "Table 3", row[change],
                             f"{right:+.2f}%", rounds_to(right, row[change]),
                             f"{why}; the order of the methods stays the same."))
    return rows


def measured() -> list[dict]:
    """Table 3's first column against the configurations that section 5.5 says it measures, and its memory against the
    weights alone."""
    from peftlib.papers.compacter.counts import measured_share, weights  # counts on shapes: brings torch

    table, rows = _table("table3"), []
    for label, printed in table["trained_printed"].drop(index=FULL).items():
        percent = measured_share(label)
        rows.append(_row(f"share trained by {label} as section 5.5 configures it", "Table 3", printed, f"{percent:.2g}%",
                         rounds_to(percent, printed),
                         "The printed share is that of Table 1's configuration; memory and time are said to be another's."))
    full, least = table.loc[FULL, "memory_mb"], weights() / 10**6
    rows.append(_row("peak memory of full fine-tuning, MB", "Table 3", f"{full:g}", f"over {least:.0f}, the weights alone",
                     full > least, "The column is no peak. It fits peak memory divided by the batch, see the page of Table "
                                   "3; its ratios then are of memory for a sequence."))
    return rows


def small_tests() -> list[dict]:
    """SuperGLUE's smallest test halves: how much of a lead over full fine-tuning they carry."""
    rows, table = [], _table("table2")
    whole = _scores(table.loc[FULL])
    small = [name for name in whole if name.split("_")[0] in TINY]
    for label, row in table.drop(index=FULL).iterrows():
        printed, own = row["average"] - table.loc[FULL, "average"], _scores(row)
        if printed <= 0:
            continue
        rest = _mean(v for n, v in own.items() if n not in small) - _mean(v for n, v in whole.items() if n not in small)
        rows.append(_row(f"{label} above full fine-tuning, CB and COPA left out", "Table 2", f"{printed:+.2f}",
                         f"{rest:+.2f}", rest > 0,
                         f"The lead comes from CB and COPA alone, whose test halves have {TEST_ROWS['cb']} and "
                         f"{TEST_ROWS['copa']} rows (one row is {100 / TEST_ROWS['cb']:.1f} and "
                         f"{100 / TEST_ROWS['copa']:.1f} points), one seed: that Compacter outperforms full fine-tuning "
                         "on SuperGLUE is not shown."))
    return rows


# --- sentences --------------------------------------------------------------------------------------------------------
def _trained(label: str, table: str = "table1") -> float:
    return _number(_table(table).loc[label, "trained_printed"])


def norm_and_bias_shares() -> dict[str, tuple[float, float]]:
    """Appendix B's shares in percent, by statement: with the norms that were counted in the method's total."""
    adapters = {"compacter": 2 * BLOCKS, "plusplus": BLOCKS, "phm": 2 * BLOCKS}
    n, shares = 4, {}
    for name, count in adapters.items():
        biases = count * (WIDTH + BOTTLENECK)
        factors = 2 * (WIDTH + BOTTLENECK) * count + RULE
        if name == "phm":
            factors = 2 * (WIDTH * BOTTLENECK // n + RULE) * count
        total = factors + biases + NORMS["all"] * WIDTH
        shares[f"B.{name}_norms"] = (100 * NORMS["all"] * WIDTH / total, 100 * NORMS["of the blocks"] * WIDTH / total)
        shares[f"B.{name}_biases"] = (100 * biases / total, 100 * biases / total)
    return shares


def statements() -> list[dict]:
    """Every number of a sentence that the tables or the shapes decide."""
    first, said = _table("table1"), paper_table("compacter", "statements").set_index("id")
    average, table3 = first["average"], _table("table3")
    plus, whole = "Compacter++ (n=4)", average[FULL]
    memory = 100 * (table3["memory_mb"] / table3.loc[FULL, "memory_mb"] - 1)
    time = 100 * (table3["minutes"] / table3.loc[FULL, "minutes"] - 1)
    wrong_memory = "Divided by the method's own memory, as in Table 3."
    phm8 = _number(_table("table6").loc["PHM-Adapter (n=8)", "trained_printed"])
    values = {
        "abstract.trained": (_trained("Compacter (n=4)"), "That is Compacter++; Compacter trains half as much again."),
        "5.output": (100 * 32_100 * WIDTH / 222_882_048, ""),
        "5.3.adapter": (average["Adapter"], ""),
        "5.3.adapter_output": (_table("table7").loc["Adapter", "average"], ""),
        "5.3.compacter": (_trained("Compacter (n=4)"), ""), "5.3.plusplus": (_trained(plus), ""),
        "5.3.said": (whole - average["Intrinsic-SAID"], ""), "5.3.said_trained": (_trained("Intrinsic-SAID"), ""),
        "5.3.phm_from": (_trained("Adapter"), ""), "5.3.phm_to": (_trained("PHM-Adapter (n=12)"), ""),
        "5.3.phm_ratio": (said.loc["5.3.phm_from", "value"] / said.loc["5.3.phm_to", "value"], ""),
        "5.5.plusplus_memory": (memory["Compacter++"], wrong_memory),
        "5.5.bitfit_memory": (memory["BitFit"], wrong_memory),
        "5.5.said_memory": (memory["Intrinsic-SAID"], wrong_memory),
        "5.5.prompt_memory": (memory["Prompt Tuning"], wrong_memory),
        "5.5.compacter_time": (time["Compacter"], ""), "5.5.plusplus_time": (time["Compacter++"], ""),
        "5.5.bitfit_time": (time["BitFit"], ""),
        "5.5.bitfit_average": (whole - average["BitFit"], ""),
        "5.5.pfeiffer_ratio": (_trained("Pfeiffer-Adapter") / _trained(plus), ""),
        "5.5.drop_ratio": (_trained("AdapterDrop") / _trained(plus), ""),
        "5.5.drop_average": (average["AdapterDrop"] - whole, ""),
        "5.5.lowrank_average": (average["Adapter-LowRank"] - whole, ""),
        "6.hyperformer_ratio": (0.29 / _trained(plus), ""),
        "7.ratio": (100 / _trained(plus), ""),
        "A.stsb": (5 * (5 - 0) + 1, "Steps of 0.2 from 0 to 5 make 26 classes; 21 is their number from 1 to 5."),
        "B.phm_ratio": (_trained("Adapter") / phm8, ""),
        "B.compacter_ratio": (_trained("Adapter") / _trained("Compacter (n=4)"), ""),
        "B.plusplus_ratio": (_trained("Adapter") / _trained(plus), ""),
    }
    for key, (right, counted) in norm_and_bias_shares().items():
        values[key] = (right, f"The share of 60 norms ({counted:.2f}%) in a total that counts all 62: the norms after the "
                              "last blocks were left out of the one and not of the other. No conclusion rests on it.")
    rows = []
    for key, (value, why) in values.items():
        printed, section = said.loc[key, "printed"], said.loc[key, "section"]
        kind = "section" if section[0].isdigit() else "appendix"
        where = section if section == "abstract" else f"{kind} {section}"
        rows.append(_row(said.loc[key, "what"], where, printed, f"{value:.4g}", rounds_to(value, printed),
                         why or "Off in its last digit; no conclusion rests on it."))
    return rows


def orders() -> list[dict]:
    """Sentences that rank methods."""
    rows, first, third = [], _table("table1"), _table("table3")
    efficient = first.drop(index=FULL)
    ours = [label for label in efficient.index if label.startswith("Compacter")]
    others = efficient.drop(index=ours)["average"]
    for label in ours:
        rows.append(_row(f"{label} above every earlier method", "section 5.3, Table 1", "outperforms all",
                         f"{efficient.loc[label, 'average'] - others.max():+.2f} to {others.idxmax()}",
                         efficient.loc[label, "average"] > others.max(), "It does not outperform all of them."))
    for name in ("table1", "table2"):
        rows += _against_full(_table(name), _where(name))
    memory, time = third["memory_mb"].sort_values(), third["minutes"].sort_values()
    second = memory.index[1]
    rows.append(_row("second lowest memory", "section 5.5", "Compacter++", second, second == "Compacter++",
                     "Another method's is lower."))
    rows.append(_row("lowest memory and fastest", "section 5.5", "BitFit, BitFit", f"{memory.index[0]}, {time.index[0]}",
                     memory.index[0] == time.index[0] == "BitFit", "Another method is better."))
    slowest = sorted(time.index[-2:])
    rows.append(_row("slowest two", "section 5.5", "Intrinsic-SAID, Prompt Tuning", ", ".join(slowest),
                     slowest == ["Intrinsic-SAID", "Prompt Tuning"], "Others are slower."))
    return rows


def _against_full(table: pd.DataFrame, where: str) -> list[dict]:
    rows = []
    for label in table.index[table.index.str.startswith("Compacter")]:
        gap = table.loc[label, "average"] - table.loc[FULL, "average"]
        rows.append(_row(f"{label} on par with or above full fine-tuning", f"abstract, {where}", "on par or above",
                         f"{gap:+.2f}", gap >= -_margin(table), "It is below."))
    return rows


def _margin(table: pd.DataFrame) -> float:
    """What two averages of a table may differ by and still be alike."""
    return margin({task: TEST_ROWS[task] for task in by_task(_scores(table.iloc[0]))})


def wording() -> list[dict]:
    """Sentences that call a difference substantial, or rest on one: against two standard errors of the averages."""
    first, second, seventh = (_table(name)["average"] for name in ("table1", "table2", "table7"))
    close, close_second = _margin(_table("table1")), _margin(_table("table2"))
    frozen = pd.concat([first, _table("table6")["average"]])
    gains = seventh - frozen[~frozen.index.duplicated()].reindex(seventh.index)
    said = first["Intrinsic-SAID"] - first[FULL]
    within = f"Within {close:.2f} points, two standard errors of an average on these test splits"
    rows = [
        _row("Adapter without a trained output layer", "section 5.3, Tables 1 and 7", "substantially worse",
             f"{-gains['Adapter']:+.2f}", gains["Adapter"] > close, f"{within}, one seed."),
        _row("Intrinsic-SAID against full fine-tuning", "section 5.5, Table 1", "substantially behind", f"{said:+.2f}",
             said < -close, f"{within}; section 5.3 calls the same difference only {-said:.2f} points."),
        _row("AdapterDrop, where lower blocks have no adapters, against Adapter", "section 5.3, Table 1",
             "lower blocks matter", f"{first['AdapterDrop'] - first['Adapter']:+.2f}",
             first["AdapterDrop"] < first["Adapter"],
             "Adapters in all blocks do no better; that it is below full fine-tuning says nothing of the lower blocks."),
        _row("Adapter-LowRank against Adapter, whose weights it factorises", "section 5.3, Table 1",
             "not expressive enough", f"{first['Adapter-LowRank'] - first['Adapter']:+.2f}",
             first["Adapter-LowRank"] < first["Adapter"], "Factors of rank one cost it nothing."),
        _row("method that gains most from a trained output layer, every n", "appendix C, Tables 1, 6 and 7",
             "Adapter", f"{gains.idxmax()} ({gains.max():+.2f})", gains.idxmax() == "Adapter",
             f"Adapter ({gains['Adapter']:+.2f}) gains most only among the rows of Table 1."),
    ]
    ours = [label for label in second.index if label.startswith("Compacter")]
    others = second.drop([FULL, *ours])
    for label in ours:
        lead = second[label] - others.max()
        rows.append(_row(f"{label} against the best other efficient method", "section 5.4, Table 2", "substantially better",
                         f"{lead:+.2f} to {others.idxmax()}", lead > close_second,
                         f"Within {close_second:.2f} points, two standard errors of an average on these test splits."))
    return rows


def shapes() -> list[dict]:
    """Where the paper says that its layers can be built."""
    rows = []
    for n in (2, 4, 8, 12):
        rows.append(_row(f"PHM layers with n = {n} on a width of 1,024", "section 4, appendix B", "possible",
                         "possible" if 1024 % n == 0 else f"{n} does not divide 1,024", 1024 % n == 0,
                         "T5-Large, 3B and 11B cannot have PHM or Compacter layers with this n."))
    for n in (4, 8, 12):
        product = WIDTH * BOTTLENECK
        rows.append(_row(f"kd > n^4 at n = {n}, d = {BOTTLENECK}", "appendix B", "holds" if n < 12 else "does not hold",
                         f"{product:,} against {n**4:,}", (product > n**4) == (n < 12), "The condition is misjudged."))
    return rows


def headline() -> dict[str, float]:
    """For the page's summary: changes of memory in percent, as printed and right; the leads on SuperGLUE's other tasks."""
    table, found = _table("table3"), {}
    for key, label in (("plusplus", "Compacter++"), ("bitfit", "BitFit"), ("said", "Intrinsic-SAID")):
        found[f"{key}_printed"] = abs(_number(table.loc[label, "memory_change_printed"]))
        found[key] = abs(100 * (table.loc[label, "memory_mb"] / table.loc[FULL, "memory_mb"] - 1))
    rest = {row["item"].split(" above")[0]: float(row["recomputed"]) for row in small_tests()}
    return found | {"lead": rest["Compacter (n=12)"], "lead_plusplus": rest["Compacter++ (n=12)"],
                    "cb": TEST_ROWS["cb"], "copa": TEST_ROWS["copa"]}


def errata() -> pd.DataFrame:
    """All that Compacter prints and that can be recomputed: item, where, printed, recomputed, agrees, consequence."""
    parts = (averages, task_averages, repeated_rows, changes, measured, small_tests, statements, orders, wording, shapes)
    return as_table(part() for part in parts)
