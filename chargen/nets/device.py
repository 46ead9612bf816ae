"""The device that torch works on, by its name."""

from __future__ import annotations

import torch

from chargen.errors import DeviceError


def resolve_device(name: str) -> str:
    """Return the device that is meant; "auto" is a CUDA GPU where there is one, else the CPU.

    MPS is never chosen unasked: it has not been measured.

    Raises:
        DeviceError: this machine, or this build of torch, has no such device.
    """
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if has["cuda"] else "cpu"
    if not has.get(name, False):
        raise DeviceError(
            f"this machine has no device {name!r} that torch {torch.__version__} can use", "Say --device auto."
        )
    return name
