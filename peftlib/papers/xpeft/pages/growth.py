"""How X-PEFT grows with its users, to a million: bytes on disk and in a server's memory, counted and measured."""

from __future__ import annotations

from functools import cache

import pandas as pd
from IPython.display import Markdown

from peftlib.accounting.counted import count, shape
from peftlib.data.tasks import get_task
from peftlib.papers.xpeft.rows import ADAPTER, HEAD, SINGLE, label, masks
from peftlib.report import efficiency
from peftlib.report.tables import Html, frame, table

BENCHMARK = "xpeft_growth"
USERS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
ADAPTERS, TASK = 100, "authors"
# (name, expression, has each user a head of his or her own?)
WAYS = (
    (f"{label(ADAPTERS, 'hard')}, one head for all", masks(ADAPTERS, "hard"), False),
    (label(ADAPTERS, "hard"), masks(ADAPTERS, "hard"), True),
    (label(ADAPTERS, "soft"), masks(ADAPTERS, "soft"), True),
    (HEAD, "HeadOnly()", True),
    ("LoRA, r = 1", "LoRA(rank=1)", True),
    ("LoRA, r = 8", "LoRA(rank=8)", True),
    (SINGLE, ADAPTER, True),
    ("full fine-tuning", "Full()", True),
)
ROWS = {name: method for name, method, _ in WAYS}


@cache
def head(backbone: str) -> int:
    """Bytes of a head for the authors' categories."""
    return 4 * (shape(backbone).width + 1) * get_task(TASK).outputs


@cache
def per_user(method: str, own_head: bool, backbone: str) -> int:
    """Bytes that a user stores: four a number, an eighth for a choice among adapters."""
    return 4 * count(method, backbone).stored + head(backbone) * own_head


def bank(backbone: str, number: int = 4) -> int:
    """Bytes of the bank in memory, at so many a number. On disk a random one is its seed."""
    return ADAPTERS * number * count(ADAPTER, backbone).stored


def on_disk(backbone: str) -> pd.DataFrame:
    """For `peftlib.report.figures.over`: bytes of all users together, by their number. The backbone is left out."""
    rows = [
        {"method": method, "name": name, "x": users, "y": float(users * per_user(method, own, backbone))}
        for name, method, own in WAYS
        for users in USERS
    ]
    return pd.DataFrame(rows)


def in_memory(backbone: str) -> pd.DataFrame:
    """GiB of a server that holds every user beside the backbone, at four bytes a number, by the number of users."""
    rows = []
    for name, method, own in WAYS:
        model = 4 * shape(backbone).total * (method != "Full()") + bank(backbone) * method.startswith("XPEFT")
        shared = head(backbone) * (not own)
        sizes = {f"for {n:,}": (model + shared + n * per_user(method, own, backbone)) / 2**30 for n in USERS[::2]}
        rows.append({"row": name, "bytes a user": per_user(method, own, backbone), **sizes})
    return frame(rows)


def crossings(backbone: str) -> dict[str, int]:
    """From how many users on the bank is smaller than the single adapters that it stands for (``adapter``) and the LoRAs of
    rank 1 (``lora``)?"""
    mine = per_user(*WAYS[1][1:], backbone)
    found = {"adapter": ADAPTER, "lora": "LoRA(rank=1)"}
    return {name: bank(backbone) // (per_user(method, True, backbone) - mine) + 1 for name, method in found.items()}


def measured() -> Html | Markdown:
    """What the benchmark has left: users held, bytes of their files and in memory, time to take one up and to answer."""
    found = efficiency.benchmark(BENCHMARK)
    if found is None:
        return efficiency.not_measured(BENCHMARK)
    rows = [
        {
            "users": row["users"],
            "file, bytes a user": round(row["disk_bytes"] / row["users"]),
            "counted, bytes a user": found["counted_bytes"],
            "memory, bytes a user": round(row["held_bytes"] / row["users"]),
            "process, MiB": row["resident_bytes"] / 2**20,
            "take up, ms": 1e3 * row["add_seconds"],
            "same user, ms": 1e3 * row["same_seconds"],
            "any user, ms": 1e3 * row["switch_seconds"],
            "any / same": row["switch_over_same"],
        }
        for row in found["users"]
    ]
    about = (
        f"{found['method']} on {found['backbone']}, one head for all; a batch of {found['batch']} of {found['length']} "
        f"tokens; processor time, medians of {found['rounds']} turns. The first user is taken up by the first call of its "
        f"process, which does what later ones find done. {efficiency.where(found)}"
    )
    formats = {"process, MiB": ".0f"} | dict.fromkeys(("take up, ms", "same user, ms", "any user, ms", "any / same"), ".2f")
    return table(frame(rows), caption="Hard profiles held by one server", formats=formats, note=about)
