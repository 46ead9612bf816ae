"""Environment variables set defaults of the command line, and --threads limits the CPU threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from chargen.api import train
from chargen.checkpoint import save_checkpoint
from chargen.cli import options
from chargen.errors import ConfigError
from chargen.text.corpus import Corpus
from tests.conftest import VERSE, Result, random_model

ROOT = Path(__file__).parents[2]


def run_process(folder: Path, code: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


RUN = "import sys\nfrom chargen.cli.main import run\nstatus = run(sys.argv[1:])\n"


@pytest.mark.slow
def test_the_folder_of_the_runs_can_be_elsewhere(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "models" / "verse" / "model.safetensors", random_model())
    result = run_process(tmp_path, f"{RUN}sys.exit(status)", "info", "--json", CHARGEN_CHECKPOINTS="models")
    assert [row["name"] for row in json.loads(result.stdout)] == ["verse"]
    (tmp_path / "verse.txt").write_text(VERSE * 4, encoding="utf-8")
    arguments = ("train", "verse.txt", "--name", "new", "--steps", "2", "--hidden", "8", "--batch", "2")
    trained = run_process(tmp_path, f"{RUN}sys.exit(status)", *arguments, CHARGEN_CHECKPOINTS="models")
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "models" / "new" / "model.safetensors").is_file()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_the_device_variable_is_a_default_that_the_option_overrides(
    chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    save_checkpoint(Path("checkpoints/verse/model.safetensors"), random_model())
    monkeypatch.setenv("CHARGEN_DEVICE", "cuda")
    refused = chargen("eval", "verse.txt")
    assert refused.status == 1
    assert "no device 'cuda'" in refused.err
    assert chargen("eval", "verse.txt", "--device", "cpu").status == 0
    monkeypatch.setenv("CHARGEN_DEVICE", "gpu")
    wrong = chargen("eval", "verse.txt")
    assert wrong.status == 2
    assert "'gpu' is not one of" in wrong.err


def test_a_variable_is_not_an_option_that_contradicts_a_resumed_run(
    chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARGEN_DEVICE", "cpu")
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    small = ("--hidden", "8", "--batch", "2", "--seq-len", "8")
    chargen("train", "verse.txt", "--name", "run", "--steps", "4", "--stop-after", "2", *small)
    assert chargen("train", "--resume", "run").status == 0


@pytest.mark.parametrize("arguments", [("--threads", "1"), ()], ids=["option", "variable"])
def test_torch_uses_the_number_of_threads(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    save_checkpoint(tmp_path / "checkpoints" / "verse" / "model.safetensors", random_model())
    code = f"{RUN}assert 'torch' not in sys.modules\nimport torch\nprint('threads', torch.get_num_threads())"
    variables = {} if arguments else {"CHARGEN_THREADS": "1"}
    result = run_process(tmp_path, code, "sample", "--seed", "1", "--length", "5", *arguments, **variables)
    assert "threads 1\n" in result.stdout, result.stderr


def test_threads_are_set_in_a_torch_that_is_loaded_already(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in options.THREAD_VARIABLES:
        monkeypatch.setenv(variable, "2")
    before = torch.get_num_threads()
    try:
        options.use_threads(3)
        assert torch.get_num_threads() == 3
        assert os.environ["OMP_NUM_THREADS"] == "3"
        options.use_threads(None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("command", ["train", "sample", "score", "eval"])
@pytest.mark.parametrize("value", ["0", "-1", "1025", "two"])
def test_a_number_of_threads_that_is_not_possible_is_refused(
    chargen: Callable[..., Result], command: str, value: str
) -> None:
    result = chargen(command, "--threads", value)
    assert result.status == 2
    assert "--threads" in result.err


def test_the_option_for_the_folder_of_the_runs_overrides_the_variable(
    chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    monkeypatch.setenv("CHARGEN_CHECKPOINTS", "others")
    options = ("--name", "new", "--steps", "2", "--hidden", "8", "--batch", "2")
    assert chargen("train", "verse.txt", *options, "--checkpoints", "models").status == 0
    assert Path("models/new/model.safetensors").is_file()
    assert not Path("others").exists()
    assert not Path("corpora").exists()  # encoded texts are in the user's cache folder
    for arguments in (["info", "new"], ["sample", "--length", "5"], ["score", "a"], ["eval", "verse.txt"]):
        assert chargen(*arguments).status == 1
        assert chargen(*arguments, "--checkpoints", "models").status == 0


def test_the_model_variable_names_the_default_model(
    chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate(("older", "newer")):
        save_checkpoint(Path(f"checkpoints/{name}/model.safetensors"), random_model(seed=seed))
        os.utime(f"checkpoints/{name}/model.safetensors", (seed, seed))
    newer = chargen("score", "người", "--json").out
    monkeypatch.setenv("CHARGEN_MODEL", "older")
    older = chargen("score", "người", "--json").out
    assert older != newer
    assert chargen("score", "người", "--json", "-m", "newer").out == newer


SEVERAL = {
    "WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "job",
}


def set_variables(monkeypatch: pytest.MonkeyPatch, **variables: str | None) -> None:
    for name, value in variables.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE is 'abc', but must be a whole number from 1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0', but must be"),
        ({"WORLD_SIZE": "\u0662"}, "WORLD_SIZE is '\u0662', but must be"),
        ({"WORLD_SIZE": "9" * 5000}, "but must be a whole number from 1"),
        ({"RANK": None}, "WORLD_SIZE is set, but RANK is not"),
        ({"MASTER_ADDR": ""}, "WORLD_SIZE is set, but MASTER_ADDR is not"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http', but must be a whole number from 0 to 65535"),
        ({"RANK": "2"}, "RANK is '2', but must be a whole number from 0 to 1"),
        ({"RANK": "-1"}, "RANK is '-1', but must be a whole number from 0 to 1"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x', but must be a whole number from 0"),
    ],
)
def test_variables_of_torchrun_that_are_wrong_are_refused(
    chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], problem: str
) -> None:
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    set_variables(monkeypatch, **{**SEVERAL, "LOCAL_RANK": None, **changed})
    result = chargen("train", "verse.txt", "--steps", "2")
    assert result.status == 2
    assert problem in result.err and "unset WORLD_SIZE" in result.err
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    "arguments", [("sample",), ("classify", "--train", "verse.txt"), ("probe", "memory"), ("bench", "cells")]
)
def test_only_train_runs_on_several_processes_and_one_of_them_says_so(
    chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    set_variables(monkeypatch, **SEVERAL)
    first = chargen(*arguments)
    assert first.status == 2
    assert f"torchrun has started 2 processes, but chargen {arguments[0]} runs in one" in first.err
    set_variables(monkeypatch, RANK="1", LOCAL_RANK="1")
    monkeypatch.setattr("chargen.cli.main.MAX_REPORT_S", 0.0)
    second = chargen(*arguments)
    assert second.status == 2 and second.out == second.err == ""
    set_variables(monkeypatch, WORLD_SIZE="1", RANK="0", LOCAL_RANK="0")
    assert "torchrun" not in chargen("info").err


def test_only_the_first_process_of_a_machine_reports_a_wrong_option(
    chargen: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, **SEVERAL)
    assert "'abc' is not a whole number" in chargen("train", "--hidden", "abc").err
    set_variables(monkeypatch, RANK="1", LOCAL_RANK="1")
    monkeypatch.setattr("chargen.cli.main.MAX_REPORT_S", 0.0)
    other = chargen("train", "--hidden", "abc")
    assert other.status == 2 and other.err == ""


def test_a_script_that_torchrun_starts_several_times_is_told_to_use_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, **SEVERAL)
    with pytest.raises(ConfigError, match="torchrun has started 2 processes, but chargen.train runs in one"):
        train(Corpus.from_text(VERSE * 4, "verse"), steps=2, checkpoints=tmp_path)
    assert not list(tmp_path.iterdir())
