"""One notebook, run by papermill as a job of the batch.

While it runs, the notebook and its log lie under logs/, where they survive a failure (Snakemake deletes the outputs of
a failed job); on success the notebook moves to its place in one step.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from peftlib.batch import warm
from peftlib.batch.guard import exit_with
from peftlib.batch.parameters import check
from peftlib.errors import UsageError

if TYPE_CHECKING:
    from jupyter_client.connect import KernelConnectionInfo

# What moves the cursor, colours or titles a terminal (sequences after ESC), and other characters that are no text.
CONTROLS = re.compile(
    r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_])"
    r"|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)


def plain(text: str) -> str:
    """Text as a log or a page may show it."""
    return CONTROLS.sub("", text)


def run(
    notebook: Path, output: Path, log: Path, parameters: dict[str, object], root: Path, spare: warm.Spare | None = None
) -> bool:
    """Run `notebook` in folder `root` with papermill into `output`; True if it succeeded, else `log` says why.

    spare: what shall become its kernel; a fresh process otherwise.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=log, filemode="w", level=logging.INFO, format="%(message)s", force=True)
    try:
        check(notebook, parameters)
        scratch = log.with_suffix(".ipynb")
        execute(notebook, scratch, parameters, root, spare)
        polish(scratch)
        os.replace(scratch, output)
    except Exception as error:  # whatever it is, the log must say it and the batch go on
        logging.error("%s", plain(explain(error)))
        return False
    return True


def execute(
    notebook: Path, scratch: Path, parameters: dict[str, object], root: Path, spare: warm.Spare | None = None
) -> None:
    """papermill, with the notebook's own prints in the log and a kernel of this interpreter.

    Two kernels that start at the same moment may be given the same port, and one dies before its first cell: it is
    started again.
    """
    import papermill  # a second; a refused parameter should not cost it
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.provisioning import LocalProvisioner

    class Provisioner(LocalProvisioner):
        process: Any  # the base class hints at nothing but its None
        pid: Any

        async def launch_kernel(self, cmd: list[str], **options) -> KernelConnectionInfo:
            nonlocal spare
            self.process, spare = spare, None
            self.process.start(cmd, options["env"], os.getcwd())  # which papermill has set
            self.pid = self.process.pid
            return self.connection_info

    class KernelManager(AsyncKernelManager):
        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])  # in no folder: what is found there may be another interpreter's

        async def start_kernel(self, **options) -> None:  # type: ignore[override]  # as the asynchronous manager has it
            if spare is not None:
                self.provisioner = Provisioner(kernel_spec=self.kernel_spec, parent=self)
            await super().start_kernel(**options)

    for last in (False, False, True):
        try:
            papermill.execute_notebook(
                notebook,
                scratch,
                parameters,
                cwd=root,
                progress_bar=False,
                log_output=True,
                start_timeout=300,
                kernel_manager_class=KernelManager,
            )
            return
        except RuntimeError as error:
            if last or "kernel_info" not in str(error):
                raise
            logging.warning("%s: starting it again", error)


def explain(error: Exception) -> str:
    """What the log says last about an error; a summary of it is shown at the end of the batch."""
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    if isinstance(error, DeadKernelError):
        return "The kernel died without a traceback: it was killed, most often for want of memory: run fewer jobs."
    if isinstance(error, PapermillExecutionError):
        return "\n".join(error.traceback)
    if isinstance(error, UsageError):
        return f"error: {error}"
    return "".join(traceback.format_exception(error))


def turn(folder: Path, gpus: Sequence[str]) -> tuple[str, IO[str]]:
    """Which of several GPUs is this job's, and what holds it while it is open: jobs at work in a folder have them in turn,
    and two the same one only when there are more jobs than GPUs."""
    for slot in itertools.count():
        held = (folder / f"gpu-{slot}").open("w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            held.close()
    return gpus[slot % len(gpus)], held


def polish(notebook: Path) -> None:
    """Make an executed notebook a page: fold its parameters, drop what holds local paths or widgets."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        cell["metadata"].pop("papermill", None)
        tags = cell["metadata"].get("tags", [])
        if {"parameters", "injected-parameters"} & set(tags) and "hide-input" not in tags:
            cell["metadata"]["tags"] = [*tags, "hide-input"]
    for key in ("papermill", "widgets"):
        content["metadata"].pop(key, None)
    notebook.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def main(argv: list[str] | None = None, spare: warm.Spare | None = None) -> int:
    """Entry point of a Snakemake job; exits with its parent. spare: of a warm process that does a job's work for it."""
    parser = argparse.ArgumentParser(prog="python -m peftlib.batch.worker", description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True, help="folder the notebook runs in")
    parser.add_argument("--parameters", type=json.loads, default={}, help="as a JSON object")
    parser.add_argument("--parent", type=int, help="end when this process is no longer the parent")
    parser.add_argument("--warm", action="store_true", help="with a warm kernel, where there is one (peftlib.batch.warm)")
    parser.add_argument("--gpus", help="two or more, as CUDA_VISIBLE_DEVICES has them, of which this job takes one")
    args = parser.parse_args(argv)
    if spare is None:
        if args.parent is not None:
            exit_with(args.parent)
        if args.warm and (status := warm.ask(sys.argv[1:] if argv is None else argv)) is not None:
            return status
    if args.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"], _held = turn(Path(), args.gpus.split(","))  # until this process ends
    return 0 if run(args.notebook, args.output, args.log, args.parameters, args.root, spare) else 1


if __name__ == "__main__":
    sys.exit(main())
