"""What every command line of the project keeps to: what cannot be done is one line on standard error and exit status 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from peftlib.errors import PeftlibError, short

LONGEST = 1200  # characters of a refusal


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str):
        self.exit(refuse(self.prog, f"{message} (see {self.prog} --help)"))


def at_least(low: int) -> Callable[[str], int]:
    """A type of argument: a whole number that is not smaller."""

    def whole(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low:
            raise argparse.ArgumentTypeError(f"{short(text)} is no whole number from {low:,} on")
        return number

    return whole


def writable(text: str) -> Path:
    """A type of argument: a file that can be written, asked before hours go into its content; its folder is made."""
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        good = not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)
    except (OSError, ValueError):
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{short(text)} is no file that can be written")
    return path


def run(program: str, go: Callable[[], str]) -> int:
    """Do what a command line asks for and print the text that it gives.

    Returns:
        The exit status: 0; 2 for what cannot be done; 130 for what was interrupted.
    """
    try:
        text = go()
    except (PeftlibError, OSError) as error:
        return refuse(program, str(error))
    except (MemoryError, OverflowError, RecursionError) as error:
        return refuse(program, f"a size that no machine has ({type(error).__name__}: {error}): expected smaller numbers")
    except KeyboardInterrupt:
        print(f"{program}: stopped", file=sys.stderr)
        return 130
    try:
        show(text)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain again when it ends
        if not isinstance(error, BrokenPipeError):  # then the reader has seen enough
            return refuse(program, f"cannot print: {error}")
    return 0


def show(text: str) -> None:
    """Print; characters that standard output cannot show as escapes."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def refuse(program: str, why: str) -> int:
    """One line on standard error, whatever `why` holds; gives the exit status."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(why.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}"
    print(f"{program}: {line}", file=sys.stderr)
    return 2
