"""Find the other processes of this start through the store of torchrun.

The store outlives the processes, so it has entries of those that have ended. TORCHELASTIC_RESTART_COUNT does not tell
them apart: a machine whose own processes were ended only because of a failure elsewhere may not count that start. So
the leader gives each start a random name, and each follower waits until the leader has seen this very process:

    leader     set "leader" to NAME ─▶ wait for NAME/1, NAME/2, … ─▶ set NAME/members to their values
    follower   read "leader" ─▶ set NAME/RANK to a random value ─▶ wait for NAME/members to contain it, or begin again
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

from torch.distributed.distributed_c10d import PrefixStore

from chargen.errors import RankLostError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

MAX_START_S = 600.0  #: torchrun starts the processes of all machines together
POLL_S = 0.02
LEADER = "chargen leader"


def meet(store: Store, rank: int, size: int, max_start_s: float = MAX_START_S) -> Store:
    """Wait until all processes of this start are here, and return a store that only they use.

    Args:
        store: The store that all starts share.
        rank: The number of this process.
        size: The number of processes.
        max_start_s: How long to wait, in seconds.

    Raises:
        RankLostError: If they do not come in this time.
    """
    deadline = time.monotonic() + max_start_s
    own = uuid4().hex
    if rank == 0:
        store.set(LEADER, own)
    while time.monotonic() < deadline:
        name = _meet_followers(store, own, size) if rank == 0 else _meet_leader(store, own, rank)
        if name:
            return PrefixStore(f"{name}/store", store)
        time.sleep(POLL_S)
    raise RankLostError(
        f"rank {rank} has waited {max_start_s:g} s for the other processes", "Start all of them with the same command."
    )


def _meet_followers(store: Store, name: str, size: int) -> str:
    """Return the name of the leader's start if all followers are here, and tell them."""
    keys = [f"{name}/{rank}" for rank in range(1, size)]
    if not store.check(keys):
        return ""
    store.set(f"{name}/members", " ".join(store.get(key).decode() for key in keys))
    return name


def _meet_leader(store: Store, own: str, rank: int) -> str:
    """Return the name of the leader's start if the leader has seen this process, whose random value is `own`."""
    if not store.check([LEADER]):
        return ""
    name = store.get(LEADER).decode()
    store.set(f"{name}/{rank}", own)
    members = f"{name}/members"
    return name if store.check([members]) and own in store.get(members).decode().split() else ""
