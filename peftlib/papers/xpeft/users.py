"""X-PEFT's many users: the runs behind its Figures 3 to 7, and what goes beyond the paper.

An author is a task. Of the authors the first make the bank, all in one run with one head, and what is compared is compared
on the others; the preset's ``sizes`` say how many of each. What the presets change is in presets.json.
"""

from __future__ import annotations

from peftlib.errors import UsageError
from peftlib.grids import Preset, each_on_each, experiment, make_run
from peftlib.papers.xpeft.rows import ADAPTER, HEAD, SINGLE, label, masks
from peftlib.records import Run

BANK = f"HeadOnly(shared=True) + PerTask({ADAPTER})"
COUNTS = (100, 200, 400)  # of adapters
# Lines of the local stand-in that are authors: `peftlib.data.members` finds them in the data, which a plan does not need.
LINES = """
    51 66 70 87 92 103 116 130 149 154 160 200 213 232 233 273 275 283 285 288 295 298 312 327 339 353 394 403 413 418 427
    430 447 450 474 489 503 507 616 624 628 650 691 706 725 734 737 744 751 807 827 843 848 896 910 920 929 963 967 975 996
    1047 1060 1069 1087 1095 1109 1120 1130 1151 1205 1211 1221 1225 1233 1271 1330 1335 1359 1366 1373 1374 1382 1411 1420
    1427 1448 1458 1527 1559 1575 1604
"""
LAMP2 = tuple(f"authors_{i}" for i in range(323))  # of the paper; data/README.md says how its file is made
AUTHORS = {
    "embedded": tuple(f"authors_{i}" for i in range(60)),
    "local": tuple(f"news_category_{i}" for i in LINES.split()),
    "hub": LAMP2,
}


def authors_of(preset: Preset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The authors who make the bank, and the others.

    Raises:
        UsageError: the preset's sizes leave one of both without any.
    """
    first, others = preset.sizes[:1], preset.sizes[1:2]
    names = AUTHORS[preset.source]
    if preset.source == "local" and sum(preset.sizes[:2]) > len(names):  # more than the stand-in has: the paper's own
        names = LAMP2
    if not (first and others and first[0] < len(names)):
        raise UsageError(
            f"preset {preset.name!r}: sizes={preset.sizes}: expected how many of the {len(names)} authors of source "
            f"{preset.source!r} make the bank, fewer than all, and how many others there are"
        )
    return names[: first[0]], names[first[0] : first[0] + others[0]]


def chosen(adapters: int) -> int:
    """How many adapters a hard mask selects of so many: a third, as 50 of the paper's 150."""
    return max(1, round(adapters / 3))


@experiment("xpeft/authors")
def authors(preset: Preset) -> list[Run]:
    """Figures 3, 4 and 6: a profile an author, over a random bank and one that others have trained, beside an adapter and a
    head an author, and one model for all."""
    bank, others = authors_of(preset)
    n = len(bank)
    parent = make_run(preset, BANK, bank, label="x_peft warm: the bank")
    warm = {
        mask: masks(n, mask, chosen(n), bank="start") if mask == "hard" else masks(n, mask, bank="start")
        for mask in ("hard", "soft")
    }
    over = {f"x_peft warm ({mask})": f"HeadOnly(given='start') + PerTask({method})" for mask, method in warm.items()}
    over |= {f"x_peft random ({mask})": f"PerTask({masks(n, mask, chosen(n))})" for mask in warm}
    rows = {name: over[name] for name in ("x_peft warm (hard)", "x_peft random (hard)")}
    rows |= {"single_adapter an author": f"PerTask({ADAPTER})"}
    rows |= {"one adapter and head for all": f"HeadOnly(shared=True) + {ADAPTER}"}
    rows |= over | {"head_only an author": "HeadOnly()"}
    rows |= {"x_peft warm, own heads (hard)": f"PerTask({warm['hard']})"}
    return [
        make_run(preset, method, others, label=name, start=(parent,) if "'start'" in method else None)
        for name, method in rows.items()
    ]


@experiment("xpeft/figure3", draws=r"__profile\.(logits|mask)$")
def figure3(preset: Preset) -> list[Run]:
    """The masks of the authors: of the same runs those over a warm bank."""
    return [run for run in authors(preset) if run.label in (f"x_peft warm ({mask})" for mask in ("hard", "soft"))]


@experiment("xpeft/figure5")
def figure5(preset: Preset) -> list[Run]:
    """Training curves on SST-2: by the number of adapters, by one mask or two, by k."""
    rows = {label(n, mask): masks(n, mask) for n in COUNTS for mask in ("soft", "hard")}
    rows |= {f"{label(100, mask)}, one mask": masks(100, mask, separate=False) for mask in ("soft", "hard")}
    rows |= {f"{label(n, 'hard')}, k = {k}": masks(n, "hard", k) for n in COUNTS[:2] for k in (1, 10, 30, 70, 100)}
    return each_on_each(preset, rows, "glue")


@experiment("xpeft/figure7")
def figure7(preset: Preset) -> list[Run]:
    """Training curves on SST-2 by seed, over the same random bank and over others."""
    rows = {label(100, "soft"): masks(100, "soft")}
    rows |= {f"{label(100, 'soft')}, bank {seed}": masks(100, "soft", seed=seed) for seed in (43, 44)}
    return each_on_each(preset, rows, "glue")


@experiment("xpeft/controls")
def controls(preset: Preset) -> list[Run]:
    """X-PEFT without its masks, without its norms, without its bank."""
    rows = {label(100, mask): masks(100, mask) for mask in ("soft", "hard")}
    rows |= {
        "masks fixed, all adapters alike": masks(100, "soft", fixed="masks"),
        "masks fixed, 50 drawn": masks(100, "hard", fixed="masks", start=1.0),
        "one random adapter": masks(1, "soft", fixed="masks"),
        "norms fixed": masks(100, "soft", fixed="norms"),
        "LayerNormTuning": "LayerNormTuning()",
        HEAD: "HeadOnly()",
        SINGLE: ADAPTER,
    }
    return each_on_each(preset, rows, "glue")


@experiment("xpeft/served")
def served(preset: Preset) -> list[Run]:
    """What a profile stores, and what it scores for it."""
    rows = {label(100, mask): masks(100, mask) for mask in ("soft", "hard")}
    rows |= {
        label(400, "hard"): masks(400, "hard"),
        SINGLE: ADAPTER,
        "LoRA, r = 1": "LoRA(rank=1)",
        "LoRA, r = 8": "LoRA(rank=8)",
        "BitFit": "BitFit()",
        "IA3": "IA3()",
        "LayerNormTuning": "LayerNormTuning()",
        "prompt of 5": "PromptTuning(length=5)",
        "prompt of 20": "PromptTuning(length=20)",
        HEAD: "HeadOnly()",
    }
    return each_on_each(preset, rows, "glue")
