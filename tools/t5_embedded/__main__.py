"""Make the project's own small T5 again. A run that is stopped goes on from its last hundred steps, and gives the same
weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from peftlib import commandline
from tools.t5_embedded import mixture, spans

PROGRAM = "python -m tools.t5_embedded"


def main(argv: list[str] | None = None) -> int:
    """Make the model; 0 if that was possible, 2 with a line on standard error if not."""
    parser = commandline.Parser(prog=PROGRAM, description=__doc__)
    parser.add_argument("folder", type=Path, help="where to; a finished folder is never overwritten")
    parser.add_argument(
        "--corpora",
        default=",".join(spans.CORPORA),
        metavar="NAMES",
        help="of PEFTLIB_DATA, beside generated sentences; empty: generated sentences alone (default: %(default)s)",
    )
    number = commandline.at_least(1)
    for name, default, about in (
        ("steps", spans.Pretraining.steps, "of the first half"),
        ("mixed", mixture.Mixture.steps, "steps of the second half"),
        ("width", spans.Pretraining.width, "of the residual stream"),
    ):
        parser.add_argument(f"--{name}", type=number, default=default, metavar="N", help=f"{about} (default: {default})")
    arguments = parser.parse_args(argv)
    return commandline.run(PROGRAM, lambda: make(arguments))


def make(given: argparse.Namespace) -> str:
    """Both halves; the model after the first is kept beside the folder.

    Raises:
        UsageError: a name that is no corpus.
        PeftlibError: what the halves raise.
    """
    names = [name for name in given.corpora.split(",") if name]
    first = given.folder.with_name(f"{given.folder.name}-texts")
    if not first.exists():
        spans.pretrain(spans.corpus(names), first, spans.Pretraining(steps=given.steps, width=given.width))
    mixture.pretrain(first, given.folder, mixture.Mixture(steps=given.mixed))
    return f"made {given.folder}"


if __name__ == "__main__":
    sys.exit(main())
