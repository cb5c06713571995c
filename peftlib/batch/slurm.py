"""What a SLURM cluster offers, as far as the batch has to know before it submits to one."""

from __future__ import annotations

import functools
import shutil
import subprocess

from peftlib.errors import UsageError


@functools.cache
def status_arguments() -> list[str]:
    """Snakemake's arguments for the command that says how jobs are.

    Snakemake asks ``sacct``, which needs SLURM's accounting database. Many small clusters have none: there jobs come to
    their end, and whoever asks ``sacct`` waits for ever. ``squeue`` knows them too, for some minutes after their end.

    Raises:
        UsageError: jobs cannot be submitted here, or nothing can say how they are.
    """
    if not shutil.which("sbatch"):
        raise UsageError(
            "--executor slurm: sbatch is not here; start the batch on a node of the cluster that has SLURM's "
            "commands (on Debian they come with the package slurm-client)"
        )
    if _answers("sacct", "--allocations", "--noheader", "--starttime=now-1minute"):
        return []
    if _answers("squeue", "--noheader"):
        return ["--slurm-status-command", "squeue"]
    raise UsageError("--executor slurm: neither sacct nor squeue gets an answer: is the cluster's controller up? See sinfo")


def _answers(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
