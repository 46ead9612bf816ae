"""Work on the pieces of a long text on all cores, in the order of the pieces, with few of them in memory.

By processes of their own: Python decodes text on one core at a time, however many threads ask it to.

    here:  blocks ─▶ a thread for each process ─▶ stdin ─▶ function(block, …) ─▶ stdout ─▶ arrays, in order

A process reads requests until there are no more, and so ends with the one that started it. What goes over a pipe is a
line of JSON and plain bytes. How it is started, so that it runs nothing of the working directory: `child.py`.
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

MIN_PARALLEL_BYTES = 1 << 26  #: bytes, from which on the half second is won back that processes take to start
MAX_PROCESSES = 8
PIPE = 1 << 20  #: bytes that a pipe holds, where the system lets itself be asked
# The C library of Linux gives the memory of a block back to the system and asks for it again, page by page, for the
# next one: half of a process's time, unless it is told to keep some.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 26)}


def map_blocks(
    function: Callable[..., Arrays], blocks: Iterable[bytes], num_bytes: int, *arguments: str
) -> Iterator[Arrays]:
    """Yield function(block, *arguments) for every block.

    Args:
        function: of a module's top level, since another process calls it; one-dimensional arrays come back.
        blocks: of the text.
        num_bytes: of all blocks, about. A few are done here and now.
        arguments: what else it is told.

    Raises:
        CorpusError: a process was killed.
    """
    processes = min(MAX_PROCESSES, os.cpu_count() or 1)
    if num_bytes < MIN_PARALLEL_BYTES or processes == 1:
        for block in blocks:
            yield function(block, *arguments)
        return
    free: SimpleQueue[_Process] = SimpleQueue()
    started = [_Process(f"{function.__module__}:{function.__name__}", arguments) for _ in range(processes)]
    for process in started:
        free.put(process)

    def call(block: bytes) -> Arrays:
        process = free.get()
        try:
            return process.call(block)
        finally:
            free.put(process)

    pool = ThreadPoolExecutor(processes)
    waiting: deque[Future[Arrays]] = deque()
    try:
        for block in blocks:
            waiting.append(pool.submit(call, block))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for process in started:
            process.end()


class _Process:
    """One that works for this one."""

    def __init__(self, function: str, arguments: Sequence[str]) -> None:
        self._process = start_child(f"{__name__}:work", KEEP_MEMORY, PIPE)
        assert self._process.stdin and self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout
        self._to.write(json.dumps([function, list(arguments)]).encode() + b"\n")

    def call(self, block: bytes) -> Arrays:
        try:
            self._to.write(b"%d\n" % len(block))
            self._to.write(block)
            self._to.flush()
            answer = self._from.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise CorpusError("a process that reads the text was killed", "Is there memory enough? Then begin again.")
        described = json.loads(answer)
        if isinstance(described, str):
            raise CorpusError(f"a process that reads the text failed: {described}", "Is there memory enough?")
        return [np.frombuffer(self._from.read(size), dtype) for dtype, size in described]

    def end(self) -> None:
        self._process.kill()  # it holds nothing that is not said already
        self._process.wait()
        for pipe in (self._to, self._from):
            _close(pipe)


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # what was not sent is wanted no more


def work() -> None:
    """Do what is asked on standard input until it ends; for the processes of `map_blocks`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    name, arguments = json.loads(asked.readline())
    module, _, attribute = name.partition(":")
    function: Callable[..., Arrays] = getattr(import_module(module), attribute)
    while line := asked.readline():
        try:
            arrays = function(asked.read(int(line)), *arguments)
        except Exception as error:  # whatever it is, the process that asked says it
            answers.write(json.dumps(f"{type(error).__name__}: {error}").encode() + b"\n")
            answers.flush()
            continue
        answers.write(json.dumps([(array.dtype.str, array.nbytes) for array in arrays]).encode() + b"\n")
        for array in arrays:
            answers.write(np.ascontiguousarray(array).data)
        answers.flush()
