"""The engine on a Ray cluster: Ray Data, with one model actor per worker.

    from_items(groups of parts) ─▶ map_batches(actor: model loaded once) ─▶ results, as JSON
                                        │
                                        └─▶ part-….parquet, written by the actor

Ray schedules, balances and repeats the work. What it moves between processes are descriptions of parts and their
results, not rows: an actor reads its slice where the file is, and writes the part itself. Ray Data's own writer names
files by the task that writes them. A job that was stopped would then write the same rows under other names, and it
would not be known which rows are there. A part of chargen has the same name and content whenever it is written. So a
task that Ray repeats, and a job that is started again, change nothing: each row is there once.

A group is a run of parts of a file, where a part can be read only after the parts before it (`FilePlan`); otherwise
it is a single part. An actor goes on in the file that it has open, so a compressed file is read about once per worker.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import chargen
from chargen.bulk.job import Part
from chargen.bulk.ray_address import check_address, discarded_stderr
from chargen.bulk.reading.slices import Failure, FilePlan, Slice
from chargen.bulk.storage import InputFile
from chargen.bulk.task import Task
from chargen.bulk.worker import PartResult, PartWriter, WorkerSpec, plan_file
from chargen.errors import ChargenError, ConfigError
from chargen.io import decode_file_name, encode_file_name
from chargen.registry import import_extra

GROUPS_PER_WORKER = 4  #: groups of parts per worker, at least, where files can be divided
PLAN_BLOCKS_PER_CPU = 32  #: groups of files that are planned by one task, which takes Ray 10 ms
MAX_ATTEMPTS = 5  #: workers that may be lost with the same part, before it is given up
MIN_OBJECT_STORE_BYTES = 1 << 28  #: memory that Ray's processes share: the model is in it, and little else
#: Ray reads these when it is imported. It reports nothing to its makers, and prints nothing of its own: it would write
#: on stdout that a worker was lost, and why its work is repeated.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # each line matches, and is skipped
    "RAY_SCHEDULER_EVENTS": "0",
    # The first driver would wait without an end for workers that are started in advance, and which give up after 5 s on
    # a machine that is very busy for a moment.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_gcs_rpc_server_connect_timeout_s": "60",
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
LOGGERS = ("ray", "ray.data", "ray.util", "ray._private")
HOW_TO_GO_ON = "Run the same command again: it goes on where it stopped."


class RayEngine:
    """Plans files and writes parts on a Ray cluster, to which it connects when there is work.

    Args:
        model_path: The model file, which is sent to the workers.
        device: Device for torch in the workers: "auto", "cpu" or "cuda".
        num_workers: Number of workers; None for one per CPU of the cluster.
        address: Address of a cluster that runs; None starts a cluster of this machine, which ends with the engine.

    Raises:
        ChargenError: If Ray is not installed; when there is work, if the cluster cannot be reached, or has another
            version of Ray.
    """

    def __init__(self, model_path: Path, device: str, num_workers: int | None, address: str | None) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._ray, self._data = _import_ray()
        self._model_path, self._device = model_path, device
        self._num_workers, self._address = num_workers, address

    def _start(self) -> int:
        """Connect to the cluster, if that has not been done yet, and return its number of CPUs."""
        if not self._ray.is_initialized():
            _connect(self._ray, self._address, self._num_workers, self._model_path.stat().st_size)
            _end_on_sigterm()
            for name in LOGGERS:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            context = self._data.DataContext.get_current()
            context.enable_progress_bars = False
            context.print_on_execution_start = False
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def plan(self, paths: Sequence[str], task: Task) -> Iterator[tuple[str, FilePlan | str]]:
        """Yield (path, plan or the reason why there is none) of each file; files are planned side by side."""
        if len(paths) == 1:
            yield paths[0], plan_file(paths[0], task)
            return
        num_blocks = min(len(paths), self._start() * PLAN_BLOCKS_PER_CPU)

        def plan(row: dict[str, Any]) -> dict[str, str]:
            found = plan_file(decode_file_name(row["path"]), task)
            return {"path": row["path"], "plan": json.dumps(found if isinstance(found, str) else asdict(found))}

        items = [{"path": encode_file_name(path)} for path in paths]  # Ray moves them as UTF-8
        files = self._data.from_items(items, override_num_blocks=num_blocks)
        for row in self._rows(files.map(plan, num_cpus=1)):
            yield decode_file_name(row["path"]), _to_plan(json.loads(row["plan"]))

    def write(self, parts: Sequence[Part], spec: WorkerSpec) -> Iterator[PartResult]:
        """Yield the result of each part, after its group is written."""
        num_cpus = self._start()
        num_workers = self._num_workers or num_cpus
        model = self._ray.put(self._model_path.read_bytes())  # kept here: a worker that is started again needs it
        attempts = self._ray.remote(num_cpus=0)(Attempts).remote()
        groups = group_parts(parts, num_workers)
        items = [{"parts": json.dumps([asdict(part) for part in group])} for group in groups]
        dataset = self._data.from_items(items, override_num_blocks=len(items)).map_batches(
            RayWriter,
            fn_constructor_args=([model], attempts, self._device, spec, chargen.__version__),
            batch_size=1,
            compute=self._data.ActorPoolStrategy(
                # A cluster that grows starts the other workers later.
                min_size=min(num_workers, num_cpus, len(items)),
                max_size=min(num_workers, len(items)),
            ),
            num_cpus=1,
            num_gpus=1 if self._device == "cuda" else 0,
        )
        for row in self._rows(dataset):
            yield PartResult.from_json(row["result"])

    def close(self) -> None:
        """Disconnect; a cluster that this engine started ends."""
        self._ray.shutdown()

    def _rows(self, dataset: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a dataset.

        Raises:
            ChargenError: If the cluster is lost, or chargen cannot be imported on it.
        """
        try:
            yield from dataset.iter_rows()
        except self._ray.exceptions.RayError as error:
            raise ChargenError(f"the work on the Ray cluster failed: {describe_error(error)}", HOW_TO_GO_ON) from error


class Attempts:
    """The actor that counts how often each part was started. Ray repeats the work of a lost worker without an end."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def begin(self, number: int) -> int:
        """Count an attempt, and return how many there were before."""
        count = self._counts.get(number, 0)
        self._counts[number] = count + 1
        return count


class RayWriter:
    """The actor of a worker: writes the parts of the groups that it gets.

    An error is a result, and not an exception: Ray would repeat the work, or print a traceback.

    Args:
        model: A list with the reference of the bytes of the model file: Ray would resolve a reference that stands alone
            only once, and not for an actor that is started again.
        attempts: The actor that counts attempts.
        device: Device for torch.
        spec: What the job is.
        version: The version of chargen that started the job.
    """

    def __init__(self, model: list[Any], attempts: Any, device: str, spec: WorkerSpec, version: str) -> None:
        import ray

        from chargen.checkpoint import load_checkpoint
        from chargen.lm import LanguageModel

        _use_one_thread()
        self._begin: Callable[[int], int] = lambda number: int(ray.get(attempts.begin.remote(number)))
        self._error: ChargenError | None = None
        try:
            if chargen.__version__ != version:
                raise ConfigError(
                    f"a worker has chargen {chargen.__version__}, but the job was started by {version}",
                    "Install the same version on all machines.",
                )
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model.safetensors")
                path.write_bytes(ray.get(model[0]))
                lm = LanguageModel(load_checkpoint(path), device)
            self._writer = PartWriter(lm, spec)
        except ChargenError as error:
            self._error = error

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        """Write the parts of a batch of groups, and yield the result of each."""
        for text in batch["parts"]:
            for value in json.loads(str(text)):
                part = Part(**{**value, "file": InputFile(**value["file"]), "slice": Slice(**value["slice"])})
                yield {"result": [self._write(part).to_json()]}

    def _write(self, part: Part) -> PartResult:
        if self._error is not None:
            failure = Failure(self._error.message, self._error.hint)
            return PartResult(part.number, error=failure, is_fatal=True)
        if self._begin(part.number) >= MAX_ATTEMPTS:
            reason = f"{MAX_ATTEMPTS} workers were lost while they worked on these rows; they may need more memory"
            rows = f"rows {part.slice.first_row + 1:,} to {part.slice.first_row + part.slice.num_rows:,}"
            return PartResult(part.number, error=Failure(f"{part.path}, {rows}", reason))
        return self._writer.write(part)


def _end_on_sigterm() -> None:
    """End this process on SIGTERM after it has disconnected. Ray's own handler prints the stack of its C++ code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _use_one_thread() -> None:
    """Let this process compute on one thread. torch, which takes seconds to import, is imported when it is needed."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    if "torch" in sys.modules:
        from chargen.networks.torch_runtime import set_num_threads

        set_num_threads(1)


def group_parts(parts: Sequence[Part], num_workers: int) -> list[list[Part]]:
    """Return the parts in groups, each of which is read and written by one worker.

    Args:
        parts: The parts, in the order of their numbers.
        num_workers: Number of workers.
    """
    max_size = max(1, len(parts) // (GROUPS_PER_WORKER * num_workers))
    groups: list[list[Part]] = []
    for part in parts:
        last = groups[-1] if groups else []
        if last and part.is_sequential and last[-1].path == part.path and len(last) < max_size:
            last.append(part)
        else:
            groups.append([part])
    return groups


def describe_error(error: Exception) -> str:
    """Return the reason of an error of Ray in one line: the error in the worker, if there was one.

    Ray puts a traceback before the reason, and advice about its own settings after it.
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        return ": ".join([type(cause).__name__, *lines[:1]])
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _to_plan(value: Any) -> FilePlan | str:
    """Return the plan of a file from JSON."""
    if isinstance(value, str):
        return value
    return FilePlan(tuple(Slice(**each) for each in value["slices"]), value["is_sequential"], value["fields"])


def _import_ray() -> tuple[Any, Any]:
    """Return the modules ray and ray.data.

    Raises:
        ChargenError: If they are not installed.
    """
    try:
        return import_extra("ray", "ray", "the engine 'ray'"), import_extra("ray.data", "ray", "the engine 'ray'")
    except ChargenError as error:
        raise ChargenError(error.message, f"{error.hint}; or use --engine local, which needs no Ray") from error


def _connect(ray: Any, address: str | None, num_workers: int | None, model_bytes: int) -> None:
    """Connect to a cluster, or start one on this machine.

    Raises:
        ChargenError: If that is not possible.
    """
    own = {
        "num_cpus": num_workers or os.cpu_count(),
        "include_dashboard": False,
        "object_store_memory": max(MIN_OBJECT_STORE_BYTES, 4 * model_bytes),
    }
    if address is not None:
        check_address(address)
    settings = {"log_to_driver": False, "logging_level": logging.CRITICAL, **({} if address else own)}
    try:
        with discarded_stderr():
            ray.init(address=address or "local", **settings)
    except Exception as error:  # Ray raises errors of many types, also plain RuntimeError
        reason = " ".join(str(error).split())
        if "mismatch" in reason.lower():
            found = re.search(r"Ray: (\d[\w.]*)", reason)
            raise ConfigError(
                f"the cluster at {address} has another version of Ray or Python: {reason}",
                f'Install its version here: pip install "ray[data]=={found[1] if found else "VERSION"}"',
            ) from error
        where = f"the Ray cluster at {address} cannot be reached" if address else "Ray cannot be started"
        hint = "Check --address; `ray status` shows a cluster." if address else "Use --engine local."
        raise ChargenError(f"{where}: {reason}", hint) from error
