"""`chargen classify`: methods, formats, reports, explanations, and errors of the command line."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from chargen.checkpoint import save_checkpoint
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]
SMALL = ("--hidden", "8", "--embedding", "8")


def labelled_rows(count: int = 60) -> list[tuple[str, str]]:
    """Return (label, text): texts of digits, and texts of letters."""
    rng = np.random.default_rng(0)
    digits = [("digits", "".join(rng.choice(list("0123456789 "), 12))) for _ in range(count)]
    letters = [("letters", "".join(rng.choice(list("abcdefghij "), 12))) for _ in range(count)]
    return [*digits, *letters]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "two.csv"
    path.write_text("kind,text\n" + "".join(f"{label},{text}\n" for label, text in labelled_rows()))
    return path


def train(chargen: Chargen, *more: str) -> Result:
    result = chargen("classify", "--train", "two.csv", *SMALL, *more)
    assert result.status == 0, result.err
    return result


@pytest.mark.parametrize("method", ["encoder", "generative", "auto"])
def test_each_method_trains_and_reports_beside_two_baselines(chargen: Chargen, data: Path, method: str) -> None:
    result = train(chargen, "--method", method, "--epochs", "6", "--json")
    found = json.loads(result.out)
    assert found["method"] == method or method == "auto"
    held_out, matrix = found["held_out"], np.array(found["confusion_matrix"]["counts"])
    assert held_out["texts"] == matrix.sum() == 12
    assert held_out["accuracy"] == pytest.approx(matrix.trace() / 12)
    assert {"macro_f1", "log_loss_nats", "expected_calibration_error"} <= set(held_out)
    baselines = {baseline["name"]: baseline["quality"] for baseline in found["baselines"]}
    assert baselines["majority"]["accuracy"] == 0.5
    if "tfidf_logistic_regression" in baselines:
        assert baselines["tfidf_logistic_regression"]["accuracy"] > 0.9
    assert "the text is in the field 'text', and the label in 'kind'" in result.err
    used = json.loads(chargen("classify", "-m", "two", "0123 456", "--json").out)
    assert used["calibrated"]
    assert sum(used["probabilities"].values()) == pytest.approx(1.0)
    facts = json.loads(chargen("info", "two", "--json").out)
    assert facts["method"] == found["method"]
    assert facts["held_out_macro_f1"] == held_out["macro_f1"]


def test_auto_keeps_the_lower_log_loss_and_leaves_the_folder_of_that_method(chargen: Chargen, data: Path) -> None:
    result = train(chargen, "--epochs", "3", "--name", "auto", "--json")
    found = json.loads(result.out)
    losses = {method: each["choice_log_loss_nats"] for method, each in found["methods"].items()}
    assert set(losses) == {"encoder", "generative"}
    assert found["method"] == min(losses, key=lambda method: losses[method])
    assert f"kept: {found['method']}" in result.err
    for method, loss in losses.items():
        assert f"{method}: log loss {loss:.3f} nats on the texts that choose the method" in result.err
    train(chargen, "--method", found["method"], "--epochs", "3", "--name", "alone")
    folders = [Path("checkpoints") / name for name in ("auto", "alone")]
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in folders]
    assert names[0] == names[1]
    described = [json.loads((folder / "classifier.json").read_text()) for folder in folders]
    assert described[0] == described[1]
    assert not [path for path in Path("checkpoints").iterdir() if path.name.startswith(".auto")]


def test_the_report_for_people_has_figures_confusions_and_mistakes(chargen: Chargen, data: Path) -> None:
    lines = data.read_text().splitlines()
    flipped = [line.replace("digits", "letters") if n % 5 == 0 else line for n, line in enumerate(lines)]
    data.write_text("\n".join([lines[0], *flipped[1:]]) + "\n")
    result = train(chargen, "--method", "generative", "--epochs", "3", "--plot", "matrix.svg")
    for words in ("held-out texts", "macro F1", "the most frequent label alone", "right label → predicted", "digits"):
        assert words in result.out
    assert re.search(r"letters\s+digits\s+0\.\d\d\d\s+\d", result.out), "a flipped text is a confident mistake"
    picture = ElementTree.fromstring((data.parent / "matrix.svg").read_text(encoding="utf-8"))
    titles = [element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 1 + 4
    assert any(title.startswith("letters → digits: ") for title in titles)


def test_shuffled_labels_give_chance_accuracy(chargen: Chargen, tmp_path: Path) -> None:
    rows = labelled_rows(300)
    labels = np.random.default_rng(1).permutation([label for label, _ in rows])
    (tmp_path / "two.csv").write_text(
        "label,text\n" + "".join(f"{label},{text}\n" for label, (_, text) in zip(labels, rows, strict=True))
    )
    found = json.loads(train(chargen, "--epochs", "3", "--json").out)
    assert abs(found["held_out"]["accuracy"] - 0.5) < 0.19  # 3 standard deviations of 60 tosses of a coin
    assert found["held_out"]["log_loss_nats"] < 0.8  # the temperature removes false confidence
    for baseline in found["baselines"]:
        assert abs(baseline["quality"]["accuracy"] - 0.5) < 0.19


def test_an_explanation_names_what_moved_the_decision(chargen: Chargen, data: Path) -> None:
    train(chargen, "--method", "generative", "--epochs", "12")
    found = json.loads(chargen("classify", "-m", "two", "--explain", "--json", "abc 123456").out)
    effects = [char["effect_nats"] for char in found["explanation"]["characters"]]
    assert "".join(char["text"] for char in found["explanation"]["characters"]) == "abc 123456"
    assert found["label"] == "digits"
    assert np.mean(effects[5:]) > 0 > np.mean(effects[:2])
    shown = chargen("classify", "-m", "two", "--explain", "--html", "why.html", "abc 123456")
    assert shown.out.splitlines()[:2] == [f"digits  p {found['probabilities']['digits']:.3f}", "  abc 123456"]
    assert "note: the digits below a text are the strength" in shown.err
    page = (data.parent / "why.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "for digits" in page and "against digits" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-m", "m", "x"], "m is a language model, which has no labels\nGive one for each label"),
        (["-m", "none", "x"], "no classifier named 'none'"),
        (["-m", "two", "--explain", "x" * 20_001], "texts of at most 20,000 characters can be explained, and text 1"),
    ],
)
def test_wrong_models_and_texts_are_named(chargen: Chargen, data: Path, arguments: list[str], words: str) -> None:
    train(chargen, "--method", "generative", "--steps", "1")
    save_checkpoint(Path("checkpoints/m/model.safetensors"), random_model())
    result = chargen("classify", *arguments)
    assert result.status != 0
    assert words in result.err
    assert len(result.err.strip().splitlines()) <= 4


@pytest.mark.parametrize("method", ["encoder", "generative"])
def test_other_commands_name_the_command_for_a_classifier(chargen: Chargen, data: Path, method: str) -> None:
    train(chargen, "--method", method, "--steps", "1")
    Path("text.txt").write_text("some text\n" * 50)
    for command in (
        ["sample", "-m", "two"],
        ["score", "-m", "two", "x"],
        ["eval", "-m", "two", "text.txt"],
        ["train", "text.txt", "--init-from", "two", "--steps", "1"],
    ):
        result = chargen(*command)
        assert result.status != 0, command
        assert "chargen classify -m" in result.err, (command, result.err)


def test_a_forecaster_is_named_as_one(chargen: Chargen, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "weather"
    folder.mkdir(parents=True)
    (folder / "forecaster.safetensors").write_bytes(b"")
    result = chargen("classify", "-m", "weather", "x")
    assert result.status == 1
    assert "weather is a forecaster" in result.err
    assert "chargen forecast" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--train", "two.csv", "--method", "generative", "--pooling", "max"],
            "--pooling cannot be combined with --method",
        ),
        (
            ["--train", "two.csv", "--method", "encoder", "--ensemble", "2"],
            "--ensemble cannot be combined with --method",
        ),
        (["--train", "two.csv", "--explain"], "--explain cannot be combined with --train"),
        (["-m", "two", "x", "--html", "a.html"], "--html needs --explain"),
        (["-m", "two", "x", "--plot", "a.svg"], "--plot needs --train or --labelled"),
        (["-m", "two", "x", "--label-field", "a"], "--label-field needs --train or --labelled"),
        (["--train", "two.csv", "--plot", "two.csv"], "--plot two.csv would overwrite two.csv"),
    ],
)
def test_options_without_effect_are_refused(chargen: Chargen, data: Path, arguments: list[str], words: str) -> None:
    result = chargen("classify", *arguments)
    assert result.status == 2
    assert words in result.err


def test_labelled_texts_of_any_form_evaluate_models(chargen: Chargen, data: Path, tmp_path: Path) -> None:
    train(chargen, "--method", "generative", "--epochs", "6")
    rows = [json.dumps({"kind": label, "text": text}) for label, text in labelled_rows()]
    (tmp_path / "new.jsonl").write_text("\n".join(rows))
    result = chargen("classify", "-m", "two", "--labelled", "new.jsonl", "--label-field", "kind", "--json")
    found = json.loads(result.out)
    assert found["event"] == "measured"
    assert found["held_out"]["accuracy"] > 0.9
    assert [baseline["name"] for baseline in found["baselines"]] == ["majority"]


def test_labelled_texts_in_two_unicode_forms_are_evaluated_once(chargen: Chargen, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        save_checkpoint(tmp_path / "checkpoints" / name / "model.safetensors", random_model(seed=seed))
    lines = [
        f"{label}\t{unicodedata.normalize(form, f'chữ tài {label} {n}')}\n"
        for form in ("NFC", "NFD")
        for label in "ab"
        for n in range(20)
    ]
    (tmp_path / "l.tsv").write_text("".join(lines), encoding="utf-8")
    result = chargen("classify", "-m", "a", "-m", "b", "--labelled", "l.tsv", "--json")
    assert result.status == 0, result.err
    assert json.loads(result.out)["held_out"]["texts"] == 2 * 20 / 2


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_the_most_frequent_label_is_that_of_the_texts_that_fit_the_temperature(
    chargen: Chargen, tmp_path: Path, order: str
) -> None:
    for seed, name in enumerate("ab"):
        save_checkpoint(tmp_path / "checkpoints" / name / "model.safetensors", random_model(seed=seed))
    lines = [f"{label}\ttext {n} of {label}\n" for label, count in (("a", 8), ("b", 24)) for n in range(count)]
    (tmp_path / "l.tsv").write_text("".join(lines))
    models = [word for name in order for word in ("-m", name)]
    result = chargen("classify", *models, "--labelled", "l.tsv", "--json")
    assert result.status == 0, result.err
    found = json.loads(result.out)
    (majority,) = [baseline["quality"] for baseline in found["baselines"]]
    assert majority["accuracy"] == found["held_out"]["majority_class_accuracy"] == 12 / 16
    # The fitting half has 4 and 12 texts of the labels, and each gets one more, so that no share is 0.
    expected = -(4 * np.log(5 / 18) + 12 * np.log(13 / 18)) / 16
    assert majority["log_loss_nats"] == pytest.approx(expected)


def test_a_resumed_encoder_keeps_its_split_and_is_reported_alike(chargen: Chargen, data: Path) -> None:
    train(chargen, "--method", "encoder", "--epochs", "2", "--seed", "5", "--name", "whole", "--json")
    first = json.loads(train(chargen, "--method", "encoder", "--epochs", "1", "--seed", "5", "--json").out)
    resumed = chargen("classify", "--train", "two.csv", "--resume", "two", "--epochs", "2", "--json")
    assert resumed.status == 0, resumed.err
    found = json.loads(resumed.out)
    assert found["classifier"] == first["classifier"]
    assert [each["quality"] for each in found["baselines"]] == [each["quality"] for each in first["baselines"]]
    facts = [json.loads(chargen("info", name, "--json").out)["held_out_texts"] for name in ("whole", "two")]
    assert facts[0] == facts[1]


def test_a_run_that_is_no_encoder_cannot_be_resumed(chargen: Chargen, data: Path) -> None:
    Path("text.txt").write_text("some text\n" * 50)
    assert chargen("train", "text.txt", "--steps", "1", "--hidden", "8", "--keep-state", "always").status == 0
    result = chargen("classify", "--train", "two.csv", "--resume", "text", "--epochs", "2")
    assert result.status == 1
    assert "the run 'text' trains a model of another kind: 'language model', and not 'encoder'" in result.err
    assert "chargen train --resume text" in result.err
    assert "no run named 'nine'" in chargen("classify", "--train", "two.csv", "--resume", "nine").err
    train(chargen, "--method", "encoder", "--epochs", "1")
    assert "Continue it with: chargen classify --train DATA --resume two" in chargen("train", "--resume", "two").err


@pytest.mark.parametrize("method", ["encoder", "generative"])
def test_order_and_batch_never_change_a_prediction(chargen: Chargen, data: Path, method: str) -> None:
    train(chargen, "--method", method, "--epochs", "2")
    texts = ["a", "", "0123 456 " * 30, "abc", "x" * 700, "é日本"]
    from chargen.tasks.classification.saved import load_classifier

    classifier = load_classifier(["two"])
    together = np.exp(classifier.log_probs(texts))
    alone = np.exp(np.concatenate([classifier.log_probs([text]) for text in texts]))
    order = np.random.default_rng(0).permutation(len(texts))
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.exp(classifier.log_probs([texts[i] for i in order])) == pytest.approx(together[order], abs=1e-5)
