"""A stopped run continues with the command that it printed, for all settings that it started with."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from chargen.cli.commands.train.plan import TrainArguments
from chargen.cli.commands.train.several import resumed_after_restart
from chargen.training.ranks.group import Ranks
from tests.conftest import VERSE, Result

Chargen = Callable[..., Result]
QUICK = ("--hidden", "8", "--batch", "2", "--seq-len", "8", "--steps", "6")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verse: str) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("verse.txt").write_text(verse, encoding="utf-8")
    return tmp_path


def test_a_run_with_a_seed_is_resumed_without_repeating_the_seed(chargen: Chargen) -> None:
    for name, more in (("whole", ()), ("cut", ("--stop-after", "3"))):
        chargen("train", "verse.txt", "--seed", "7", "--name", name, *QUICK, *more)
    resumed = chargen("train", "--resume", "cut")
    assert resumed.status == 0, resumed.err
    whole, cut = (Path(f"checkpoints/{name}/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    refused = chargen("train", "--resume", "cut", "--seed", "0", "--steps", "8")
    assert refused.status == 2
    assert "--seed 0 contradicts" in refused.err


def test_the_size_limit_of_a_corpus_may_change_when_a_run_is_resumed(chargen: Chargen) -> None:
    chargen("train", "verse.txt", "--name", "run", "--stop-after", "3", *QUICK)
    refused = chargen("train", "verse.txt", "--resume", "run", "--max-corpus-size", "100")
    assert refused.status != 0
    assert "--max-corpus-size" in refused.err
    assert "cannot be combined with" not in refused.err
    assert chargen("train", "verse.txt", "--resume", "run", "--max-corpus-size", "1MB").status == 0


def test_members_is_a_hidden_alias_of_ensemble(chargen: Chargen) -> None:
    for name, option in (("a", "--ensemble"), ("b", "--members")):
        trained = chargen("train", "verse.txt", "--name", name, *QUICK, option, "2", "--seed", "1")
        assert trained.status == 0, trained.err
    a, b = (Path(f"checkpoints/{name}/model.safetensors").read_bytes() for name in "ab")
    assert a == b
    assert "--members" not in chargen("train", "--help").out


def test_a_finished_run_says_how_to_train_it_longer(chargen: Callable[..., Result]) -> None:
    Path("verse.txt").write_text(VERSE * 4, encoding="utf-8")
    assert chargen("train", "verse.txt", "--name", "done", "--steps", "3", "--hidden", "8").status == 0
    assert "note: the run done is finished; --more TIME" in chargen("train", "--resume", "done").err
    assert "is finished" not in chargen("train", "--resume", "done", "--steps", "4").err


@pytest.mark.parametrize(
    ("first", "again", "error"),
    [
        (
            "--budget 1h --stop-after 3",
            "--budget 0.1",
            "budget of 0.1 s is already used up (S so far); to add time: --more",
        ),
        ("--budget 0.1", "--more 0.001", "budget of 0.101 s is already used up (S so far); to add time: --more "),
        (
            "--steps 9 --stop-after 3",
            "--steps 2",
            "the run 'cut' already has 3 steps, more than --steps 2 Give a larger ",
        ),
        (
            "--epochs 3",
            "--epochs 1",
            "the run 'cut' has already read the text 3 times, so --epochs 1 is over Give ",
        ),
    ],
)
def test_a_length_that_a_run_already_has_is_refused_before_torch_is_loaded(
    first: str, again: str, error: str, chargen: Chargen, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = chargen("train", "verse.txt", "--name", "cut", *QUICK[:-2], *first.split())
    assert trained.status in (0, 130), trained.err
    monkeypatch.setattr("chargen.text.recorded_corpus.read_recorded_corpus", None)  # nothing is read, either
    monkeypatch.setitem(sys.modules, "chargen.training.loop", None)  # it imports torch
    refused = chargen("train", "--resume", "cut", *again.split())
    assert refused.status == 2
    assert error in re.sub(r"\([^()]* so far\)", "(S so far)", " ".join(refused.err.split())), refused.err


def test_a_job_that_torchrun_starts_again_continues_its_run_if_the_name_was_taken(
    chargen: Chargen, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", "verse.txt", "--name", "poems", *QUICK, "--stop-after", "3")
    assert chargen(*command).status == 130  # a run of another job

    def start_job(is_restarted: bool) -> Result:
        ranks = Ranks(job="17", is_restarted=is_restarted)
        monkeypatch.setattr("chargen.cli.commands.train.several.joined", lambda args: nullcontext(ranks))
        return chargen(*command)

    stopped, continued = start_job(False), start_job(True)
    assert stopped.status == 130, stopped.err
    assert continued.status == 0, continued.err
    assert "The run poems-2 is continued after a failure." in continued.err
    assert sorted(path.name for path in Path("checkpoints").iterdir()) == [".locks", "poems", "poems-2"]


def test_a_job_that_torchrun_starts_again_adds_no_second_time_and_keeps_the_length_of_its_run(
    chargen: Chargen, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = Ranks(job="17"), Ranks(job="17", is_restarted=True)
    monkeypatch.setattr("chargen.cli.commands.train.several.joined", lambda args: nullcontext(first))
    assert chargen("train", "verse.txt", *QUICK, "--stop-after", "3").status == 130
    for length in ({"budget": 20.0, "more": 8.0}, {"steps": 6}, {"epochs": 2.0}):
        args = TrainArguments(resume="verse", **length)
        restarted = resumed_after_restart(args, again)
        assert (restarted.resume, restarted.name) == ("verse", None)
        assert (restarted.budget, restarted.steps, restarted.epochs, restarted.more) == (None,) * 4
        assert resumed_after_restart(args, first) is args
        assert resumed_after_restart(args, Ranks(job="18", is_restarted=True)) is args
