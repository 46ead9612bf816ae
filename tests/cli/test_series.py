"""A series over the command line: train on a recording, generate one, score it, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chargen.api import load
from chargen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from chargen.config import DataConfig, ModelConfig
from chargen.text.series.quantizer import Quantizer
from chargen.text.series.wav import parse_wav, write_wav
from chargen.tokenizers.mulaw import MuLawTokenizer
from tests.conftest import VERSE, Result, random_model, random_weights

Chargen = Callable[..., Result]
SMALL = ("--hidden", "8", "--embedding", "8", "--ngrams", "0", "--batch", "4", "--seq-len", "16", "--steps", "4")
TONE = np.sin(0.3 * np.arange(4000))


def save_random_model(name: str, quantizer: Quantizer) -> None:
    tokenizer = MuLawTokenizer(quantizer)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, hidden_size=12, embedding_dim=8)
    about = {"data": DataConfig(tokenizer=quantizer.spec).to_json()}
    save_checkpoint(
        Path(f"checkpoints/{name}/model.safetensors"), Checkpoint(config, tokenizer, random_weights(config), about)
    )


@pytest.fixture(autouse=True)
def files(chargen: Chargen) -> None:
    """Write a recording, numbers, and three models: of samples, of numbers and of texts."""
    write_wav(Path("tone.wav"), 0.5 * TONE, 8000)
    Path("temps.csv").write_text("day,temp\n" + "".join(f"{k},{20 + 5 * x:.3f}\n" for k, x in enumerate(TONE)))
    save_random_model("samples", Quantizer(256, 8000, 0.0, 0.5))
    save_random_model("numbers", Quantizer(64, None, 20.0, 5.0, column="temp"))
    save_checkpoint(Path("checkpoints/texts/model.safetensors"), random_model(VERSE))


def test_a_recording_is_trained_on_sampled_and_scored(chargen: Chargen) -> None:
    trained = chargen("train", "tone.wav", "--tokenizer", "mulaw:256", "--name", "tone", *SMALL)
    assert trained.status == 0, trained.err
    assert "note: a series of samples at 8,000 Hz, from -0.5 to 0.5, in 256 μ-law levels" in trained.err
    assert "tone: 3,600 values for training" in trained.err
    assert "Try: chargen sample -m tone --length 16000 --output out.wav" in trained.out
    sampled = chargen("sample", "-m", "tone", "--length", "800", "--output", "out.wav", "--seed", "1")
    assert (sampled.status, sampled.out) == (0, "")
    assert "out.wav: 800 samples at 8,000 Hz (0.1 s), none of them is clipped at full scale; " in sampled.err
    recording = parse_wav(Path("out.wav").read_bytes(), "out.wav")
    assert (recording.rate_hz, len(recording.values)) == (8000, 800)
    lm = load("tone")
    text = lm.sample(length=800, seed=1)
    assert recording.values == pytest.approx(lm.tokenizer.quantizer.decode(text), abs=1 / 2**15)
    scored = json.loads(chargen("score", "-m", "tone", "--file", "out.wav", "--json").out)
    assert scored["log_prob_nats"] == pytest.approx(lm.score(text).log_prob_nats, rel=1e-6)
    assert "800 values, each a character; perplexity" in chargen("eval", "-m", "tone", "out.wav").out
    assert "the model was trained on a part of this text" in chargen("eval", "-m", "tone", "tone.wav").err


def test_a_resumed_run_of_a_series_gives_the_same_bytes(chargen: Chargen) -> None:
    words = ("train", "tone.wav", "--tokenizer", "mulaw:64", "--val", "tone.wav", *SMALL)
    assert chargen(*words, "--name", "whole").status == 0
    assert chargen(*words, "--name", "stopped", "--stop-after", "2").status == 130
    assert chargen("train", "--resume", "stopped").status == 0
    whole, resumed = (Path(f"checkpoints/{name}/model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert whole == resumed


def test_a_run_that_starts_from_a_model_reads_with_its_range(chargen: Chargen) -> None:
    write_wav(Path("loud.wav"), 0.9 * TONE, 8000)
    result = chargen("train", "loud.wav", "--init-from", "samples", "--name", "more", "--steps", "2")
    assert result.status == 0, result.err
    assert "are beyond the range of the model's training data, -0.5 to 0.5, and are clipped" in result.err
    model = load_checkpoint(Path("checkpoints/more/model.safetensors"))
    assert model.tokenizer.quantizer == Quantizer(256, 8000, 0.0, 0.5)
    assert model.data.tokenizer == "mulaw:256"
    assert "is not a number" in chargen("train", "temps.csv", "--init-from", "samples").err
    assert "is a binary file" in chargen("train", "loud.wav", "--init-from", "texts").err


def test_the_values_of_numbers_are_printed_one_per_line_and_read_again(chargen: Chargen) -> None:
    words = ("sample", "-m", "numbers", "--length", "20", "--seed", "1")
    printed = chargen(*words, "--numbers").out
    values = [float(line) for line in printed.splitlines()]
    assert len(values) == 20 and all(15 <= value <= 25 for value in values)
    facts = json.loads(chargen(*words, "--json").out)
    assert facts["values"] == values and facts["rate_hz"] is None
    assert (
        load("numbers").tokenizer.quantizer.encode(np.array(values)) == facts["text"] == chargen(*words).out.strip("\n")
    )
    Path("again.txt").write_text(printed)
    Path("levels.txt").write_text(facts["text"] + "\n", encoding="utf-8")
    again, levels = (
        chargen("score", "-m", "numbers", "--file", name, "--tsv").out for name in ("again.txt", "levels.txt")
    )
    assert again == levels
    assert chargen("eval", "-m", "numbers", "temps.csv").status == 0  # the column is that of the model
    continued = chargen(*words, "--numbers", "--prompt-file", "temps.csv").out.splitlines()
    assert len(continued) == 4020 and float(continued[1]) == pytest.approx(20 + 5 * TONE[1], abs=0.1)


def test_several_recordings_have_numbered_names(chargen: Chargen) -> None:
    result = chargen("sample", "-m", "samples", "-n", "2", "--length", "9", "-o", "x.wav", "--prompt-file", "tone.wav")
    assert result.status == 0, result.err
    recordings = [parse_wav(Path(f"x-{number}.wav").read_bytes(), "x").values for number in (1, 2)]
    assert [len(values) for values in recordings] == [4009, 4009]
    assert recordings[0][:4000] == pytest.approx(0.5 * TONE, abs=0.02)


def test_a_table_of_scores_shortens_a_series(chargen: Chargen) -> None:
    result = chargen("score", "-m", "samples", "--file", "tone.wav")
    assert "4,000" in result.out and len(max(result.out.splitlines(), key=len)) < 130
    assert len(json.loads(chargen("score", "-m", "samples", "--file", "tone.wav", "--json").out)["text"]) == 4000


def test_info_says_that_the_model_is_of_a_series(chargen: Chargen) -> None:
    assert "a series of samples at 8,000 Hz, from -0.5 to 0.5, in 256 μ-law levels" in chargen("info", "samples").out
    assert "a series of numbers (temp), from 15 to 25, in 64 μ-law levels" in chargen("info", "numbers").out
    assert json.loads(chargen("info", "samples", "--json").out)["rate_hz"] == 8000
    assert "series" not in chargen("info", "texts").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train tone.wav", "--tokenizer mulaw:256"),
        ("train tone.wav --tokenizer mulaw:1", "mulaw:1 is not possible: the number of levels must be from 2 to 256"),
        ("train tone.wav --tokenizer mulaw:300", "mulaw:300 is not possible"),
        ("train tone.wav --tokenizer mulaw:x", "mulaw:x is not possible"),
        ("train temps.csv --tokenizer mulaw", "Name the column with --text-field NAME."),
        ("train tone.wav --tokenizer mulaw --newline keep", "--newline has no effect: a series of numbers is not"),
        ("train tone.wav --tokenizer mulaw --encoding cp1252", "--encoding has no effect: tone.wav is a recording"),
        (
            "train --tokenizer mulaw",
            "the built-in corpus python-docs is a text, but the tokenizer mulaw needs a series",
        ),
        ("eval -m texts tone.wav", "tone.wav is a binary file, not a text"),
        ("score -m texts --file tone.wav", "tone.wav is a binary file, not a text"),
        ("sample -m texts --prompt-file tone.wav", "tone.wav is a binary file, not a text"),
        ("sample -m texts --output x.wav", "--output has no effect: the model is of texts"),
        ("sample -m texts --numbers", "--numbers has no effect: the model is of texts"),
        ("sample -m samples --prompt hello", "contains 'h', but the model is of a series of samples at 8,000 Hz"),
        ("sample -m samples --output x.mp3", "--output x.mp3: a recording is a file .wav"),
        ("sample -m samples --output no/x.wav", "there is no folder no"),
        ("sample -m samples --regex a", "--regex has no effect: the model is of a series"),
        ("sample -m samples --stop a", "--stop has no effect: the model is of a series"),
        ("sample -m numbers --output x.wav", "which has no sampling rate"),
        ("sample -m samples --numbers --json", "--numbers cannot be combined with --json"),
        ("score -m samples hello", "contains 'h', but the model is of a series"),
        ("score -m samples --file tone.wav --whole", "--whole has no effect: a series of numbers"),
        ("score -m numbers --file tone.wav", "tone.wav has a sampling rate of 8,000 Hz, but the model has none"),
        ("eval -m samples temps.csv", "temps.csv, line 1: 'day,temp' is not a number"),
        ("compare samples numbers tone.wav", "they cannot read the same file"),
        ("compare samples texts tone.wav", "they cannot read the same file"),
    ],
)
def test_what_has_no_effect_or_cannot_be_read_is_refused_by_name(chargen: Chargen, words: str, message: str) -> None:
    result = chargen(*words.split())
    assert result.status in (1, 2)
    assert message in " ".join(result.err.split())
    assert len([line for line in result.err.splitlines() if line.startswith(("error", "Error"))]) == 1


def spectrum_peaks_hz(values: np.ndarray, rate_hz: int) -> list[float]:
    """The two strongest frequencies that are at least 50 Hz apart, ascending."""
    power = np.abs(np.fft.rfft(values * np.hanning(len(values)))) ** 2
    frequencies = np.fft.rfftfreq(len(values), 1 / rate_hz)
    first = frequencies[power.argmax()]
    second = frequencies[np.where(np.abs(frequencies - first) < 50, 0, power).argmax()]
    return sorted([float(first), float(second)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("tones_hz", [(440.0, 660.0), (437.3, 661.7)])
def test_sampled_audio_keeps_both_tones(chargen: Chargen, tones_hz: tuple[float, float], seed: int) -> None:
    times = np.arange(32_000) / 8000
    write_wav(Path("tones.wav"), sum(0.4 * np.sin(2 * np.pi * tone * times + tone) for tone in tones_hz), 8000)
    words = ("--tokenizer", "mulaw:256", "--name", "tones", "--steps", "800", "--batch", "16", "--seq-len", "24")
    assert chargen("train", "tones.wav", *words, "--hidden", "160", "--ensemble", "1", "--seed", str(seed)).status == 0
    assert chargen("sample", "-m", "tones", "--length", "16000", "-o", "out.wav", "--seed", str(seed)).status == 0
    recording = parse_wav(Path("out.wav").read_bytes(), "out.wav")
    assert spectrum_peaks_hz(recording.values, recording.rate_hz) == pytest.approx(list(tones_hz), rel=0.02)
    assert recording.values.std() == pytest.approx(0.4, rel=0.1)
