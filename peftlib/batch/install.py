"""Makes the virtual environment that `make` runs everything in. Started by path with the system's interpreter: standard
library only, and nothing of peftlib.

One at a time: a second `make` waits for the first, then finds the work done. The stamp is written last, so that an
installation that failed or was killed is begun anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(".venv")
DECIDING = [Path("pyproject.toml"), Path("constraints.txt")]
# torch comes first and pinned: left to itself pip may fetch gigabytes of another build.
WANTED = [["-c", "constraints.txt", "torch"], ["-c", "constraints.txt", "-e", ".[book,test]"]]


class Failed(Exception):
    """The environment could not be made; nothing of it is left."""


def install(folder: Path, wanted: list[list[str]], deciding: list[Path]) -> None:
    """Make the environment with this interpreter, unless it is there and was made from the same files.

    wanted: arguments of `pip install`, one call each. deciding: the files, whose contents are compared.

    Raises:
        Failed: it could not be made; what failed has said why.
    """
    stamp = folder / ".installed"
    content = hashlib.sha256(b"\0".join(file.read_bytes() for file in deciding)).hexdigest()
    with Path(f"{folder}.lock").open("a+") as lock:  # beside the folder, which is deleted below
        hold(lock, f"another make is making the environment in {folder}")
        if stamp.exists() and stamp.read_text() == content:
            stamp.touch()  # make goes by dates
            return
        shutil.rmtree(folder, ignore_errors=True)
        print(f"making the environment in {folder} with {sys.executable}: about two minutes", flush=True)
        try:
            run(
                lock,
                [sys.executable, "-m", "venv", str(folder)],
                f"{sys.executable} cannot make environments; on Debian: apt-get install python3-venv",
            )
            for arguments in wanted:
                run(
                    lock,
                    [
                        str(folder / "bin" / "python"),
                        "-m",
                        "pip",
                        "install",
                        "--quiet",
                        "--disable-pip-version-check",
                        *arguments,
                    ],
                    f"could not install {' '.join(arguments)}: pip's message is above. If it names no matching version or "
                    "no connection, the package index is out of reach (see pip's --index-url and --proxy)",
                )
            stamp.write_text(content)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def hold(lock, busy: str) -> None:
    """Take the lock, saying who holds it if it has to be waited for. It ends with this process and those it starts."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        print(f"{busy} ({lock.read()}): waiting for it", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    lock.truncate(0)
    lock.write(f"process {os.getpid()}")
    lock.flush()


def run(lock, command: list[str], failed: str) -> None:
    """Run a command, which holds the lock too: if this process is killed, it must end before another begins.

    Raises:
        Failed: it ended with another status than zero.
    """
    if subprocess.run(command, pass_fds=[lock.fileno()]).returncode:
        raise Failed(failed)


def main() -> int:
    """Entry point of the Makefile; 0 if the environment is there, 1 otherwise."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        install(FOLDER, WANTED, DECIDING)
    except (Failed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
