"""`chargen forecast`: training, forecasts, pictures, resume, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Result

Chargen = Callable[..., Result]
TRAIN = ("forecast", "--train", "hours.csv", "--column", "temp")
QUICK = ("--history", "12", "--horizon", "3", "--hidden", "8", "--steps", "30")


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    temp = 10 + 5 * np.sin(2 * np.pi * np.arange(600) / 24) + rng.normal(0, 0.5, 600)
    times = np.datetime64("2021-03-01T00:00") + np.arange(600) * np.timedelta64(1, "h")
    lines = [f"{time},{value:.2f},{value + 1:.2f},a" for time, value in zip(times, temp, strict=True)]
    Path("hours.csv").write_text("\n".join(["time,temp,other,place", *lines]) + "\n")
    Path("text.txt").write_text("to be or not to be\n" * 60)
    return tmp_path


def test_a_forecaster_is_trained_compared_and_used(chargen: Chargen) -> None:
    trained = chargen(*TRAIN, *QUICK, "--plot", "held_out.svg")
    assert trained.status == 0, trained.err
    for method in ("this forecaster", "persistence", "seasonal naive", "linear autoregression"):
        assert method in trained.out
    assert "chargen forecast -m hours hours.csv" in trained.out
    assert "what followed" in Path("held_out.svg").read_text()
    used = chargen("forecast", "-m", "hours", "hours.csv", "--plot", "next.svg")
    assert used.status == 0, used.err
    assert [line.split()[:2] for line in used.out.splitlines() if line.startswith(" 2021")] == [
        ["2021-03-26", "00:00"], ["2021-03-26", "01:00"], ["2021-03-26", "02:00"],
    ]  # fmt: skip
    assert "90 % interval" in Path("next.svg").read_text()


def test_json_has_the_figures_and_the_forecast(chargen: Chargen) -> None:
    trained = json.loads(chargen(*TRAIN, *QUICK, "--json").out)
    methods = {each["method"]: each for each in trained["held_out"]["methods"]}
    assert methods["this forecaster"]["mae"]["temp"] < methods["persistence"]["mae"]["temp"]
    assert 0.8 < methods["this forecaster"]["coverage"]["temp"] <= 1.0
    assert trained["steps"] == 30
    values = json.loads(chargen("forecast", "-m", "hours", "hours.csv", "--json").out)
    assert [each["time"] for each in values] == [f"2021-03-26T0{hour}:00:00" for hour in range(3)]
    assert all(each["low"] < each["value"] < each["high"] for each in values)
    Path("utc.csv").write_text(Path("hours.csv").read_text().replace(":00,", ":00Z,"))
    in_utc = json.loads(chargen("forecast", "-m", "hours", "utc.csv", "--json").out)
    assert in_utc == [{**each, "time": f"{each['time']}Z"} for each in values]
    expected = 10 + 5 * np.sin(2 * np.pi * np.arange(600, 603) / 24)
    assert np.allclose([each["value"] for each in values], expected, atol=1.5)
    info = json.loads(chargen("info", "hours", "--json").out)
    assert info["kind"] == "forecaster"
    assert info["held_out_mae"] == methods["this forecaster"]["mae"]
    assert "columns that are forecast" in chargen("info", "hours").out
    assert "hours" in chargen("info").out


def test_a_resumed_run_writes_the_same_bytes(chargen: Chargen) -> None:
    assert chargen(*TRAIN, *QUICK, "--name", "whole").status == 0
    stopped = chargen(*TRAIN, *QUICK, "--name", "parts", "--stop-after", "11")
    assert stopped.status == 130
    assert "Continue with: chargen forecast --train hours.csv --resume parts" in stopped.err
    assert chargen("forecast", "--train", "hours.csv", "--resume", "parts").status == 0
    whole, parts = (Path(f"checkpoints/{name}/forecaster.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    again = chargen("forecast", "--train", "hours.csv", "--resume", "parts", "--steps", "40", "--json")
    assert json.loads(again.out)["steps"] == 40


def test_a_run_is_not_resumed_with_another_file(chargen: Chargen) -> None:
    chargen(*TRAIN, *QUICK, "--stop-after", "11")
    text = Path("hours.csv").read_text()
    Path("other.csv").write_text(text.replace("0.5", "0.6"))
    refused = chargen("forecast", "--train", "other.csv", "--resume", "hours")
    assert refused.status == 1
    assert "other data" in refused.err


def test_models_of_other_kinds_name_the_right_command(chargen: Chargen) -> None:
    assert chargen(*TRAIN, *QUICK, "--name", "f").status == 0
    assert chargen("train", "text.txt", "--name", "lm", "--steps", "2", "--hidden", "8").status == 0
    Path("labels.tsv").write_text("".join(f"{'ab'[n % 2]}\ttext {'xy'[n % 2]} {n}\n" for n in range(60)))
    for method in ("encoder", "generative"):
        words = ["--method", method, "--name", method, "--steps", "2"]
        assert chargen("classify", "--train", "labels.tsv", *words).status == 0
    for name in ("f", "checkpoints/f", "checkpoints/f/forecaster.safetensors"):
        for command in (("sample", "-m", name), ("score", "-m", name, "a"), ("eval", "-m", name, "text.txt")):
            refused = chargen(*command)
            assert refused.status == 1
            assert "is a forecaster" in refused.err
            assert "chargen forecast -m" in refused.err
    refused = chargen("classify", "-m", "f", "a")
    assert refused.status == 1
    assert "forecast" in refused.err
    for name, right in (("lm", "chargen sample"), ("encoder", "chargen classify"), ("generative", "chargen classify")):
        refused = chargen("forecast", "-m", name, "hours.csv")
        assert refused.status == 1
        assert right in refused.err
        assert len(refused.err.splitlines()) <= 2
    refused = chargen("forecast", "-m", "checkpoints/lm/model.safetensors", "hours.csv")
    assert refused.status == 1
    assert "is a language model" in refused.err


def test_rm_removes_a_forecaster(chargen: Chargen) -> None:
    chargen(*TRAIN, *QUICK)
    assert chargen("rm", "hours", "--yes").out.startswith("removed forecaster hours")
    assert not Path("checkpoints/hours").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--train", "hours.csv"], 2, "--column NAME"),
        (["--train", "hours.csv", "--column", "tmep"], 1, "temp"),
        (["--train", "hours.csv", "--column", "place"], 1, "place"),
        (["--train", "hours.csv", "--column", "temp", "--history", "700"], 1, "too short"),
        (["--train", "hours.csv", "--column", "temp", "--column", "temp"], 2, "twice"),
        (["--train", "hours.csv", "--column", "temp", "--with", "temp"], 2, "twice"),
        (["--train", "hours.csv", "--column", "temp", "--with", "other", "--strategy", "recursive"], 2, "not known"),
        (["--train", "hours.csv", "--column", "temp", "--cell", "gur"], 2, "gru"),
        (["--train", "hours.csv", "--column", "temp", "--cell", "gru,lstm"], 2, "same cell"),
        (["--train", "hours.csv", "--column", "temp", "--plot", "x.gif"], 2, ".svg or .png"),
        (["--train", "hours.csv", "--column", "temp", "--plot", "hours.csv"], 2, "overwrite"),
        (["--train", "missing.csv", "--column", "temp"], 1, "missing.csv"),
        (["--train", "hours.csv", "-m", "m"], 2, "--model cannot be combined with --train"),
        (["--train", "hours.csv", "--column", "temp", "--name", "a/b"], 2, "cannot name a run"),
        (["--train", "hours.csv", "--resume", "none"], 1, "no run named"),
        (["--train", "hours.csv", "--resume", "m", "--column", "temp"], 2, "resumed run keeps"),
        (["--resume", "m"], 2, "--resume needs --train"),
        (["hours.csv"], 2, "-m NAME"),
        (["-m", "m"], 2, "FILE"),
        (["-m", "m", "hours.csv"], 1, "no forecaster named 'm'"),
        (["-m", "m", "hours.csv", "--horizon", "4"], 2, "--horizon needs --train"),
    ],
)
def test_wrong_command_lines_are_refused(chargen: Chargen, words: list[str], status: int, message: str) -> None:
    refused = chargen("forecast", *words)
    assert refused.status == status, refused.err
    assert message in " ".join(refused.err.split())
    assert "Traceback" not in refused.err
    assert not Path("checkpoints/hours").exists()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a gap", lambda lines: lines[:200] + lines[205:], "--fill"),
        ("no value", lambda lines: [*lines[:-3], lines[-3].split(",")[0] + ",,1,a", *lines[-2:]], "--fill"),
        ("a word", lambda lines: [*lines[:-3], lines[-3].split(",")[0] + ",warm,1,a", *lines[-2:]], "warm"),
        ("equal times", lambda lines: [*lines, lines[-1]], "time"),
        ("too short", lambda lines: lines[:8], "last 12"),
        ("no header", lambda lines: lines[1:], "temp"),
        ("other steps", lambda lines: lines[:1] + lines[1::2], "apart"),
        ("no rows", lambda lines: lines[:1], "no"),
    ],
)
def test_files_that_do_not_fit_a_forecaster_are_refused(
    chargen: Chargen, name: str, change: Callable[[list[str]], list[str]], message: str
) -> None:
    chargen(*TRAIN, *QUICK)
    Path("bad.csv").write_text("\n".join(change(Path("hours.csv").read_text().splitlines())) + "\n")
    refused = chargen("forecast", "-m", "hours", "bad.csv")
    assert refused.status == 1, (name, refused.out)
    assert message in refused.err
    assert len([line for line in refused.err.splitlines() if not line.startswith("note:")]) <= 2


def test_groups_are_forecast_one_by_one(chargen: Chargen) -> None:
    chargen("corpora", "ball", "--balls", "20", "--frames", "20", "-o", "balls.csv")
    words = ["--column", "x", "--column", "y", "--group", "ball", "--history", "5", "--horizon", "4"]
    trained = chargen(
        "forecast", "--train", "balls.csv", *words, "--steps", "20", "--hidden", "8", "--plot", "path.svg"
    )
    assert trained.status == 0, trained.err
    values = json.loads(chargen("forecast", "-m", "balls", "balls.csv", "--json").out)
    assert len(values) == 20 * 4 * 2
    one = chargen("forecast", "-m", "balls", "balls.csv", "--where", "ball=3", "--json")
    assert [each["value"] for each in json.loads(one.out)] == pytest.approx(
        [each["value"] for each in values if each["group"] == "3"], abs=1e-5
    )


def test_names_of_forecasters_are_completed(chargen: Chargen) -> None:
    from chargen.cli.value_types import FORECASTER_NAME

    chargen(*TRAIN, *QUICK)
    items = FORECASTER_NAME.shell_complete(None, None, "ho")  # type: ignore[arg-type]
    assert "hours" in [item.value for item in items]
