"""How torchrun has started this process: alone or as one of several, for the first time or again after a failure.

torchrun describes itself in environment variables. Importing this module does not load torch.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from chargen.checkpoint import open_tensors
from chargen.errors import ModelError
from chargen.folders import checkpoints_folder
from chargen.runs import Run

JOB = "job"  #: name of the job in a training state
NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")  #: variables without which processes cannot find each other


def is_started_by_torchrun() -> bool:
    """Return whether this process is one of several that torchrun has started."""
    size = os.environ.get("WORLD_SIZE", "1")
    return all(name in os.environ for name in NEEDED) and size.isdecimal() and int(size) > 1


def local_rank() -> int:
    """Return the number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def machine() -> str:
    """Return the number of this machine in the run."""
    return os.environ.get("GROUP_RANK", "0")


def start_id() -> str:
    """Return a name that differs for each start of the processes of a job."""
    return f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')} of {os.environ['WORLD_SIZE']} processes"


def current_job() -> str | None:
    """Return a name that is the same for all starts of a job by one torchrun command; None without torchrun.

    It is the user's `--rdzv-id`. Without one, it is the process that torchrun itself runs in.
    """
    if not is_started_by_torchrun():
        return None
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return f"process {os.getppid()}" if name == "none" else name


def find_run_of_job(root: Path | None = None) -> Run | None:
    """Return the run that an earlier start of this job has started, if torchrun has started it again after a failure.

    Args:
        root: The folder of all runs; None for `checkpoints_folder()`.
    """
    job = current_job()
    if job is None or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    root = root or checkpoints_folder()
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        run = Run(folder, folder.name)
        if not folder.name.startswith(".") and run.state_path.is_file():
            with suppress(ModelError), open_tensors(run.state_path) as file:  # damaged states belong to other runs
                if file.metadata.get(JOB) == job:
                    return run
    return None
