"""Process the blocks of a long text on all cores, with results in the order of the blocks and few blocks in memory.

The work is done by processes, because Python threads decode text on one core at a time.

    this process:  blocks ─▶ one thread per process ─▶ stdin ─▶ function(block, …) ─▶ stdout ─▶ arrays, in order

A worker process reads requests until its stdin ends, so it ends together with the process that started it. Requests and
results are lines of JSON, followed by plain bytes. `child.py` starts the processes so that they run nothing from the
working directory.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from chargen.child import start_child
from chargen.errors import CorpusError

Arrays = list[NDArray[Any]]

MIN_PARALLEL_BYTES = 1 << 26  #: shorter texts are faster without worker processes, which take half a second to start
MAX_PROCESSES = 8
PIPE_BYTES = 1 << 20  #: capacity of a pipe, where the system lets it be set
# By default the C library of Linux returns the memory of each block to the system and requests it again, page by page,
# for the next block. That takes half of a process's time. These settings keep some memory.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 26)}


def map_blocks(
    function: Callable[..., Arrays], blocks: Iterable[bytes], num_bytes: int, *arguments: str
) -> Iterator[Arrays]:
    """Yield function(block, *arguments) for every block, in order.

    Args:
        function: A function at the top level of a module, because another process calls it. It returns one-dimensional
            arrays.
        blocks: Blocks of a text.
        num_bytes: Approximate size of all blocks. A short text is processed here, without other processes.
        arguments: Further arguments of the function.

    Raises:
        CorpusError: If a process was killed, or the function failed in a process.
    """
    num_processes = min(MAX_PROCESSES, os.cpu_count() or 1)
    if num_bytes < MIN_PARALLEL_BYTES or num_processes == 1:
        for block in blocks:
            yield function(block, *arguments)
        return
    free: SimpleQueue[_Worker] = SimpleQueue()
    workers = [_Worker(f"{function.__module__}:{function.__name__}", arguments) for _ in range(num_processes)]
    for worker in workers:
        free.put(worker)

    def call(block: bytes) -> Arrays:
        worker = free.get()
        try:
            return worker.call(block)
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(num_processes)
    pending: deque[Future[Arrays]] = deque()
    try:
        for block in blocks:
            pending.append(pool.submit(call, block))
            if len(pending) > 2 * num_processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that calls one function with blocks."""

    def __init__(self, function: str, arguments: Sequence[str]) -> None:
        self._process = start_child(f"{__name__}:run_worker", KEEP_MEMORY, PIPE_BYTES)
        assert self._process.stdin and self._process.stdout
        self._stdin = self._process.stdin
        self._stdout = self._process.stdout
        self._stdin.write(json.dumps([function, list(arguments)]).encode() + b"\n")

    def call(self, block: bytes) -> Arrays:
        """Return what the function returns for a block."""
        try:
            self._stdin.write(b"%d\n" % len(block))
            self._stdin.write(block)
            self._stdin.flush()
            answer = self._stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            hint = "Check whether there is enough memory, and run the command again."
            raise CorpusError("a process that reads the text was killed", hint)
        result = json.loads(answer)
        if isinstance(result, str):
            hint = "Check whether there is enough memory."
            raise CorpusError(f"a process that reads the text failed: {result}", hint)
        return [np.frombuffer(self._stdout.read(size), dtype) for dtype, size in result]

    def stop(self) -> None:
        """End the process."""
        self._process.kill()  # all of its results were read
        self._process.wait()
        for pipe in (self._stdin, self._stdout):
            _close(pipe)


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # the data that was not sent is not needed any more


def run_worker() -> None:
    """Answer the requests on standard input until it ends; this is what the processes of `map_blocks` run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    name, arguments = json.loads(requests.readline())
    module, _, attribute = name.partition(":")
    function: Callable[..., Arrays] = getattr(import_module(module), attribute)
    while line := requests.readline():
        try:
            arrays = function(requests.read(int(line)), *arguments)
        except Exception as error:  # the parent process reports every error
            answers.write(json.dumps(f"{type(error).__name__}: {error}").encode() + b"\n")
            answers.flush()
            continue
        answers.write(json.dumps([(array.dtype.str, array.nbytes) for array in arrays]).encode() + b"\n")
        for array in arrays:
            answers.write(np.ascontiguousarray(array).data)
        answers.flush()
