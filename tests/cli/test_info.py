"""`chargen info`: models and classifiers, with labels for people and with units for programs."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from chargen.checkpoint import save_checkpoint
from chargen.cli.main import run
from chargen.ui.console import format_size
from tests.conftest import random_model

TRAINED_S = 1_700_000_000  # 14 November 2023, 22:13 UTC
CLASSIFIER = {
    "labels": ["en", "tiếng Việt"],
    "folders": ["en", "vi"],
    "log_priors": [-0.6931471805599453] * 2,
    "temperature": 12.5,
    "held_out": {"accuracy": 0.875},
}


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run `verse` with a training state, and the classifier `letters`."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "checkpoints"
    for name in ("verse", "letters/en", "letters/vi"):
        save_checkpoint(root / name / "model.safetensors", random_model())
    (root / "verse" / "training_state.safetensors").write_bytes(bytes(2_500_000))
    (root / "letters" / "classifier.json").write_text(json.dumps(CLASSIFIER))
    for path in ("verse/model.safetensors", "letters/classifier.json"):
        os.utime(root / path, (TRAINED_S, TRAINED_S))
    return root


def info(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["info", *arguments]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_the_table_has_sizes_dates_and_classifiers_with_their_labels(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = info(capsys)
    size = format_size((runs / "verse" / "model.safetensors").stat().st_size)
    (verse,) = [line for line in table.splitlines() if line.split()[:1] == ["verse"]]
    assert f" {size} " in verse and " 2023-11-1" in verse
    (letters,) = [line for line in table.splitlines() if line.split()[:1] == ["letters"]]
    assert "en, tiếng Việt" in letters and "87.5 %" in letters and "2023-11-1" in letters


def test_a_model_is_described_with_labels_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    text = info(capsys, "verse")
    rows = dict(line.strip().split("  ", 1) for line in text.splitlines() if "  " in line.strip())
    assert rows["training state"].strip() == "2.5 MB"
    assert rows["trained"].strip().startswith("2023-11-1")
    assert rows["size"].strip().endswith((" kB", " MB"))
    assert "_" not in "".join(rows)


def test_json_has_machine_values_with_units_in_the_keys(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(info(capsys, "verse", "--json"))
    assert facts["training_state_bytes"] == 2_500_000
    assert facts["size_bytes"] == (runs / "verse" / "model.safetensors").stat().st_size
    assert facts["trained_at"].startswith("2023-11-1") and "T" in facts["trained_at"]
    assert facts["path"] == str(runs / "verse" / "model.safetensors")
    model, classifier = json.loads(info(capsys, "--json"))
    assert model == {"name": "verse", **facts}
    assert classifier["labels"] == CLASSIFIER["labels"]
    assert (classifier["kind"], classifier["held_out_accuracy"]) == ("classifier", 0.875)


@pytest.mark.parametrize("spec", ["letters", "checkpoints/letters"])
def test_a_classifier_is_described(spec: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = info(capsys, spec)
    assert "en, tiếng Việt" in text and "87.5 %" in text
    files = [path for path in (runs / "letters").rglob("*") if path.is_file()]
    facts = json.loads(info(capsys, spec, "--json"))
    assert facts["size_bytes"] == sum(path.stat().st_size for path in files)


def test_an_older_run_without_a_training_state_and_a_classifier_without_accuracy(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "verse" / "training_state.safetensors").unlink()
    (runs / "letters" / "classifier.json").write_text(
        json.dumps({key: value for key, value in CLASSIFIER.items() if key != "held_out"})
    )
    assert "training state" not in info(capsys, "verse")
    assert "accuracy" not in info(capsys, "letters")
    assert json.loads(info(capsys, "verse", "--json"))["training_state_bytes"] is None
    info(capsys)


def test_a_damaged_classifier_gets_a_note(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "letters" / "classifier.json").write_text("{}")
    assert run(["info"]) == 0
    output = capsys.readouterr()
    assert "verse" in output.out and "is damaged" in output.err


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"),
     (23_400_000, "23 MB"), (9_940_000_000, "9.9 GB"), (5 * 10**15, "5000 TB")],
)  # fmt: skip
def test_sizes_are_readable(num_bytes: int, text: str) -> None:
    assert format_size(num_bytes) == text


def test_the_path_of_a_model_has_the_rows_of_its_run_and_its_numbers_have_separators(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_model()
    result = {"val_loss_nats_per_char": 7.2, "val_perplexity_per_char": 1339.43, "best_step": 12_345}
    about = {**model.about, "result": result}  # as in files without the key "step"
    save_checkpoint(runs / "verse" / "model.safetensors", replace(model, about=about))
    for name in ("verse", "checkpoints/verse", "checkpoints/verse/model.safetensors"):
        text = info(capsys, name)
        assert "12,345" in text.split("best step")[1].splitlines()[0]
        assert "1,339.43 per character" in text.split("its perplexity")[1].splitlines()[0]


def test_rows_that_do_not_apply_to_a_model_are_left_out(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, with_ngrams = (random_model(ngrams=ngrams, ngram_dropout=0.5) for ngrams in (0, 3))
    for name, model in (("plain", plain), ("grams", with_ngrams)):
        save_checkpoint(runs / name / "model.safetensors", model)
    assert "n-gram dropout" in info(capsys, "grams")
    assert "n-gram dropout" not in info(capsys, "plain")
    assert " dropout " in info(capsys, "plain")  # 0 of something that a model has is shown
    assert "ngram_dropout" in json.loads(info(capsys, "plain", "--json"))


def test_numbers_are_written_without_an_exponent(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = json.dumps({**CLASSIFIER, "temperature": 54_512.3})
    (runs / "letters" / "classifier.json").write_text(saved)
    assert "54,512" in info(capsys, "letters")
