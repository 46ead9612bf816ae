"""The precision of products while a network is trained.

    float32    on every device
    tf32       on a GPU with CUDA: 10 bits of mantissa                        (`cuda_runtime.py`)
    bf16       on a GPU with CUDA: 7 bits, by torch's automatic casts         (`cuda_runtime.py`)
               on a CPU: 7 bits, for the cells with compiled passes           (`kernels/__init__.py`)

In each of them, weights, states and sums are float32, and so are validation, scoring and generated text.

On some processors a product in bf16 takes half as long as one in float32, on others twice as long. So bf16 is the
default only on those that `/proc/cpuinfo` shows to be fast: with AMX, or with AVX-512 for bf16 if AMD made them.
Intel's processors with AVX-512 for bf16 but without AMX are slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

from chargen.config import BF16, FLOAT32, TF32
from chargen.errors import ConfigError
from chargen.networks.kernels import use_numba
from chargen.networks.layers import NUMBA_CELLS
from chargen.registry import is_installed

CPU_INFO = Path("/proc/cpuinfo")  #: Linux only
#: flags of processors that compute products in bf16 fast, and the vendor for which this holds; None: for every vendor
FAST_BF16 = {"amx_bf16": None, "avx512_bf16": "AuthenticAMD"}
LEAVE_OUT = f"Leave it out, or use --precision {FLOAT32}."


def choose_precision(wanted: str | None, cells: Sequence[str], device: str) -> str:
    """Return the precision for a network: the one that is wanted, or for None the fastest one on this machine.

    The choice depends on no measurement, so that a run with a number of steps can be repeated.

    Args:
        wanted: The precision, or None.
        cells: The names of the cells.
        device: "cpu", "cuda" or "mps".

    Raises:
        ConfigError: If the network cannot be trained with the precision that is wanted.
    """
    if wanted is not None:
        check_precision(wanted, cells, device)
        return wanted
    if device == "cuda":
        return TF32
    is_fast = has_bf16_passes(cells, device) and use_numba() and _has_fast_bf16()
    return BF16 if is_fast else FLOAT32


def resumed_precision(precision: str, cells: Sequence[str], device: str, own_device: str) -> str:
    """Return the precision of a resumed run: its own, but float32 on another device that has no such products.

    Args:
        precision: The precision of the run.
        cells: The names of its cells.
        device: "cpu", "cuda" or "mps".
        own_device: The device on which the run was trained so far.

    Raises:
        ConfigError: If this device is that of the run, but lacks what the precision needs.
    """
    has_products = device == "cuda" or has_bf16_passes(cells, device)
    if precision == BF16 and device != own_device and not has_products:
        return FLOAT32
    check_precision(precision, cells, device)
    return precision


def has_bf16_passes(cells: Sequence[str], device: str) -> bool:
    """Return whether all cells of a network have compiled passes for products in bf16 on the device."""
    return device == "cpu" and is_installed("numba") and all(name in NUMBA_CELLS for name in cells)


@lru_cache(maxsize=1)
def _has_fast_bf16() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # another system
        return False
    lines = [line.partition(":") for line in reversed(text.splitlines())]
    values = {name.strip(): value.split() for name, _, value in lines}  # the first processor's
    flags, vendor = values.get("flags", []), values.get("vendor_id", [])
    return any(flag in flags and (maker is None or maker in vendor) for flag, maker in FAST_BF16.items())


def check_precision(precision: str, cells: Sequence[str], device: str) -> None:
    """Check that a network can be trained with products in this precision.

    Raises:
        ConfigError: If it cannot; the message says what to do.
    """
    given = f"--precision {precision} (precision)"
    if precision == TF32 and device != "cuda":
        raise ConfigError(f"{given} needs a GPU with CUDA, but the device is {device}", LEAVE_OUT)
    if precision != BF16 or device == "cuda":
        return
    if device != "cpu":
        raise ConfigError(f"{given} needs a CPU or a GPU with CUDA, but the device is {device}", LEAVE_OUT)
    others = sorted({name for name in cells if name not in NUMBA_CELLS})
    if others:
        raise ConfigError(
            f"{given} is for the cells {' and '.join(NUMBA_CELLS)} on a CPU, but the network has {', '.join(others)}",
            LEAVE_OUT,
        )
    if not is_installed("numba"):
        raise ConfigError(
            f"{given} needs numba on a CPU, which is not installed",
            f"Install it: pip install 'chargen[fast]'. Or use --precision {FLOAT32}.",
        )
