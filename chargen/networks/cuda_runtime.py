"""The CUDA runtime: recorded kernels, copies that Python does not wait for, and the precision of products.

Recorded kernels. A recurrent layer needs several kernels for each step of a window, most of which take 2 to 15 µs; to
launch one from Python or from cuDNN takes 5 to 20 µs. Recorded once as a CUDA graph, they are all launched together.

Copies. A plain copy between host and GPU waits for everything that was launched before it, and the GPU is idle until
Python has launched more. From and to page-locked memory, a copy is launched like a kernel.

Precision. Training uses TF32 products by default, whose inputs have 10 bits of mantissa: their noise does not affect
the loss. With bf16, products take inputs of 7 bits of mantissa and half the memory, but for those of hand-written
recurrences; weights and states stay float32, and so do sums. Generating and scoring use float32, so that a GPU gives
the numbers of a CPU.

On other devices the functions of this module have no effect.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

NUM_WARM_UP_CALLS = 3  #: before a recording, so that libraries allocate their workspaces outside of it

Function = Callable[[], None]

_RECORDING = threading.Lock()  # held while a thread records, so that it alone switches the garbage collection


def record(function: Function, device: torch.device, generators: Sequence[torch.Generator] = ()) -> Function:
    """Return a function that repeats the kernels of another function in one launch, if the device has CUDA graphs.

    The recording has the addresses of the tensors that `function` uses, but it does not keep these tensors: the caller
    keeps them for as long as it repeats the kernels. A repetition with freed memory has ended a process with a
    segmentation fault.

    Args:
        function: Function that launches kernels on the device and never waits for them. Its kernels are recorded, not
            executed. It must have been called before.
        device: The device of the tensors that `function` uses.
        generators: The random generators that `function` uses; each repetition draws new numbers.
    """
    if device.type != "cuda":
        return function
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    # A stream of its own: cuBLAS has a workspace for each stream. When a graph is freed, torch frees the workspace of
    # its stream, even if another graph was recorded on the same stream and still uses it (pytorch issue 193402).
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    # Other threads may use the GPU during the recording: those of NCCL, or of a server. "global" would refuse that.
    recording = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
    with _RECORDING, no_garbage_collection(), recording:
        function()
    return graph.replay


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Free no reference cycles inside the `with` block.

    To free a graph is refused while another one is recorded, and the recording fails (pytorch pull request 161037).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def warm_up(function: Function, device: torch.device) -> None:
    """Call a function a few times before it is recorded, if the device has CUDA graphs."""
    if device.type != "cuda":
        return
    side_stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side_stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side_stream):
        for _ in range(NUM_WARM_UP_CALLS):
            function()
    torch.cuda.current_stream(device).wait_stream(side_stream)


def copy_to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return a copy of an array on a device. A GPU makes it after what was launched before; Python does not wait."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def start_copy_to_host(tensor: Tensor) -> Callable[[], NDArray[Any]]:
    """Start to copy a tensor to the host, and return a function that waits for the copy and returns it.

    What is launched afterwards does not delay the copy.
    """
    if tensor.device.type != "cuda":
        return tensor.cpu().numpy
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    is_copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    is_copied.record()

    def wait() -> NDArray[Any]:
        is_copied.synchronize()
        return copy.numpy()

    return wait


@contextmanager
def product_precision(device: torch.device, tf32: bool) -> Iterator[None]:
    """Compute products in TF32 or in float32 inside the `with` block, if the device is a GPU."""
    if device.type != "cuda":
        yield
        return
    matmul_before, cudnn_before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul_before)
        torch.backends.cudnn.allow_tf32 = cudnn_before


def bf16_products(device: torch.device, is_used: bool) -> AbstractContextManager[object]:
    """Compute products in bf16 inside the `with` block, with float32 weights: torch casts them for each product.

    Args:
        device: The device.
        is_used: False changes nothing.
    """
    # A recorded step cannot keep casts of earlier steps, which the cache would be.
    return torch.autocast(device.type, torch.bfloat16, enabled=True, cache_enabled=False) if is_used else nullcontext()
