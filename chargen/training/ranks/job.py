"""The job of a run: one torchrun command, with all starts of its processes.

After a failure, the run of the job is continued. The store of torchrun outlives the processes that it starts, so the
first start puts a random name of the job there, and the later ones find it. (The user's `--rdzv-id` is no such name:
when the same command is given again, it is the same.)
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from chargen.checkpoint import open_tensors
from chargen.errors import ModelError
from chargen.folders import checkpoints_folder
from chargen.runs import Run

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

JOB = "job"  #: name of the job in a training state, and in the store of torchrun


def name_job(store: Store) -> tuple[str, bool]:
    """Return (the name of the job, whether an earlier start has given it). The leader calls this.

    Args:
        store: The store that all starts of the job share.
    """
    own = uuid4().hex
    name = store.compare_set(f"chargen {JOB}", "", own).decode()
    return name, name != own


def find_run_of_job(job: str, root: Path | None = None) -> Run | None:
    """Return the run that an earlier start of a job has started; None if it has saved no training state.

    Args:
        job: The name of the job.
        root: The folder of all runs; None for `checkpoints_folder()`.
    """
    root = root or checkpoints_folder()
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        run = Run(folder, folder.name)
        if not folder.name.startswith(".") and run.state_path.is_file():
            with suppress(ModelError), open_tensors(run.state_path) as file:  # damaged states belong to other runs
                if file.metadata.get(JOB) == job:
                    return run
    return None
