"""`chargen train` on several processes that torchrun starts: resuming, failures, restarts, and ranks that differ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from chargen.checkpoint import load_checkpoint
from chargen.errors import RankLostError
from chargen.training.loop import hint_to_resume
from chargen.training.state import load_state

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are killed with signals")]
ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
TEXT = "".join(f"{word} sees the {other} by the sea. " for word in ("anna", "bill", "cora") for other in "xyz") * 300
SMALL = ["corpus.txt", "--batch", "6", "--seq-len", "12", "--hidden", "24", "--cell", "gru", "--dropout", "0.2"]
EXACT = [*SMALL, "--precision", "float32"]  # bf16 enlarges the difference of sums in another order
DEADLINE_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "corpus.txt").write_text(TEXT, encoding="utf-8")
    yield tmp_path


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=150)


def train(folder: Path, size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable] if size == 1 else [*TORCHRUN, str(size)]
    return run([*start, "-m", "chargen", "train", *arguments], folder)


def validations(folder: Path, name: str) -> dict[int, float]:
    lines = (folder / "checkpoints" / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    reports = [report for report in map(json.loads, lines) if report["event"] == "evaluated"]
    return {report["step"]: report["val_loss_nats_per_char"] for report in reports}


def test_a_run_is_resumed_with_another_number_of_processes(folder: Path) -> None:
    assert train(folder, 1, *EXACT, "--steps", "90", "--name", "whole").returncode == 0
    train(folder, 2, *EXACT, "--steps", "90", "--name", "parts", "--stop-after", "30")
    train(folder, 1, "--resume", "parts", "--stop-after", "60")
    done = train(folder, 2, "--resume", "parts")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("on cpu, 2 processes, seed 0") == 1  # only rank 0 prints
    assert validations(folder, "parts")[90] == pytest.approx(validations(folder, "whole")[90], abs=1e-4)
    whole, parts = (load_checkpoint(folder / f"checkpoints/{name}/model.safetensors") for name in ("whole", "parts"))
    for name, weight in whole.weights.items():
        np.testing.assert_allclose(parts.weights[name], weight, atol=1e-4)


def test_products_in_bf16_give_the_same_loss_on_one_process_and_on_two(folder: Path) -> None:
    pytest.importorskip("numba", reason="the extra chargen[fast] is not installed")
    for size, name in ((1, "one"), (2, "two")):
        assert train(folder, size, *SMALL, "--steps", "90", "--precision", "bf16", "--name", name).returncode == 0
    one, two = (validations(folder, name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert one[90] < 0.5 * np.log(20)  # it has learned
    assert two[90] == pytest.approx(one[90], abs=0.01)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_run_and_its_state_is_resumed(folder: Path, victim: int) -> None:
    arguments = [*SMALL, "--steps", "1000000", "--name", "killed", "--save-every", "1s"]
    process = start([*TORCHRUN, "2", "-m", "chargen", "train", *arguments], folder)
    kill_rank(process.pid, victim, after=folder / "checkpoints/killed/training_state.safetensors")
    started = time.monotonic()
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert time.monotonic() - started < 30 and process.returncode != 0
    lost = "rank 1 has lost rank 0" if victim == 0 else "another process of this run has ended"
    assert lost in errors
    step = load_state(folder / "checkpoints/killed/training_state.safetensors").trainer["step"]
    resumed = train(folder, 1, "--resume", "killed", "--stop-after", str(step + 5))
    assert resumed.returncode == 130, resumed.stderr
    assert f"{step + 5:,} steps (5 since the run was resumed)" in resumed.stdout


def test_torchrun_starts_a_failed_run_again_and_it_is_continued(folder: Path) -> None:
    assert train(folder, 1, *SMALL, "--steps", "1", "--name", "again").returncode == 0  # the name is taken
    arguments = [*SMALL, "--steps", "1500", "--name", "again", "--save-every", "1s"]
    process = start([*TORCHRUN, "2", "--max-restarts", "1", "-m", "chargen", "train", *arguments], folder)
    kill_rank(process.pid, 1, after=folder / "checkpoints/again-2/training_state.safetensors")
    _, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    assert "The run again-2 is continued after a failure." in errors
    assert sorted(path.name for path in (folder / "checkpoints").glob("again*")) == ["again", "again-2"]
    assert 1500 in validations(folder, "again-2")


def test_a_restart_adds_no_second_time_to_the_budget_and_takes_no_run_of_another_job(folder: Path) -> None:
    same_id = ["--rdzv-id", "same", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    launcher = [sys.executable, "-m", "torch.distributed.run", *same_id, "--nproc-per-node", "2", "--max-restarts", "1"]
    command = [*launcher, "-m", "chargen", "train", *SMALL, "--save-every", "1s"]
    assert run([*command, "--steps", "20"], folder).returncode == 0
    started = start([*command, "--budget", "12s", "--stop-after", "60"], folder)
    started.communicate(timeout=DEADLINE_S)
    state = folder / "checkpoints/corpus-2/training_state.safetensors"
    process = start([*command, "--resume", "corpus-2", "--more", "8s"], folder)
    kill_rank(process.pid, 1, after=state)
    _, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    assert "The run corpus-2 is continued after a failure." in errors
    assert load_state(state).train.budget_s == 20.0


def test_a_rank_that_is_lost_in_the_final_evaluation_is_reported_with_what_to_do(folder: Path) -> None:
    saver = SimpleNamespace(keep_state="always", is_worth_keeping=True, run=SimpleNamespace(name="mine"))
    with pytest.raises(RankLostError, match="lost") as raised, hint_to_resume(saver):  # type: ignore[arg-type]
        raise RankLostError("a rank is lost", "Its output says why.")
    assert raised.value.hint == "Its output says why. Continue with: torchrun … -m chargen train --resume mine"
    saver.is_worth_keeping = False  # the folder is removed
    with pytest.raises(RankLostError) as raised, hint_to_resume(saver):  # type: ignore[arg-type]
        raise RankLostError("a rank is lost", "Its output says why.")
    assert raised.value.hint == "Its output says why."


def test_ranks_that_differ_are_refused_with_the_difference(folder: Path) -> None:
    (folder / "other.txt").write_text(TEXT[:5000], encoding="utf-8")
    different = [("other.txt", "", "other.txt"), ("corpus.txt", "--lr 0.5", "--lr is 0.5 on rank 1")]
    for corpus, option, expected in different:
        command = f'[ "$RANK" = 1 ] && exec {sys.executable} -m chargen train {corpus} {option} --steps 5 --name d\n'
        script = folder / "start.sh"
        script.write_text(f"{command}exec {sys.executable} -m chargen train corpus.txt --steps 5 --name d\n")
        done = run([*TORCHRUN, "2", "--no-python", "sh", "start.sh"], folder)
        assert done.returncode != 0 and expected in done.stderr, done.stderr
        assert "Start all ranks with the same command." in done.stderr
        assert not (folder / "checkpoints" / "d").exists()


def test_more_ranks_than_batch_rows_are_refused(folder: Path) -> None:
    done = train(folder, 2, "corpus.txt", "--batch", "1", "--steps", "5")
    assert done.returncode != 0
    assert "2 processes cannot divide 1 batch row among them" in done.stderr


def start(command: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill_rank(launcher: int, rank: int, after: Path) -> None:
    """Kill a rank of a launcher as soon as a file exists and was written again."""
    first = wait_for(lambda: after.stat().st_mtime_ns if after.exists() else 0)
    wait_for(lambda: after.exists() and after.stat().st_mtime_ns > first)
    for process in Path("/proc").iterdir():
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue
        if parent == str(launcher) and f"RANK={rank}".encode() in variables:
            os.kill(int(process.name), signal.SIGKILL)
            return
    raise AssertionError(f"rank {rank} does not run")


def wait_for(condition: Callable[[], int]) -> int:
    """Return the value of a condition as soon as it is not 0."""
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < end, "it does not become true"
        os.sched_yield()
    return value
