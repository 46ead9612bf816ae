"""Series as corpora: several files with one range, documents, folders, and the range of a trained model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

import chargen
from chargen.config import DataConfig
from chargen.errors import ChargenError, ConfigError, CorpusError, TokenizerError
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.documents import MARK
from chargen.text.limits import CorpusSizeError
from chargen.text.series.corpus import corpus_of_values
from chargen.text.series.quantizer import Quantizer
from chargen.text.series.wav import write_wav

TONE = np.sin(0.3 * np.arange(400))


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write recordings and numbers in an empty folder."""
    monkeypatch.chdir(tmp_path)
    write_wav(Path("a.wav"), 0.2 * TONE, 8000)
    write_wav(Path("b.wav"), 0.5 * TONE, 8000)
    write_wav(Path("fast.wav"), 0.5 * TONE, 16_000)
    write_wav(Path("silence.wav"), np.zeros(50), 8000)
    Path("numbers.txt").write_text("1\n2\n40\n", encoding="utf-8")
    Path("text.txt").write_text("to be or not to be\n", encoding="utf-8")


def read(*names: str, quantizer: Quantizer | None = None, tokenizer: str = "mulaw", **settings: object) -> Corpus:
    return read_corpus(names, DataConfig(tokenizer=tokenizer, **settings), quantizer=quantizer)  # type: ignore[arg-type]


def test_the_range_is_that_of_all_files_and_the_text_has_a_character_per_value():
    corpus = read("a.wav", "silence.wav", "b.wav")
    assert corpus.quantizer is not None
    assert corpus.quantizer.scale == pytest.approx(0.5, rel=1e-3)
    assert (corpus.quantizer.offset, corpus.quantizer.rate_hz) == (0.0, 8000)
    assert corpus.num_chars == 850
    values = corpus.quantizer.decode(corpus.text)
    assert values[:400] == pytest.approx(0.2 * TONE, abs=0.01)
    assert values[450:] == pytest.approx(0.5 * TONE, abs=0.02)
    assert "850 values (0.1 s)" in corpus.notes[0]


def test_numbers_have_their_median_in_the_middle():
    corpus = read("numbers.txt", tokenizer="mulaw:16")
    assert corpus.quantizer == Quantizer(16, None, 2.0, 38.0)
    assert corpus.quantizer.decode(corpus.text)[[0, 2]] == pytest.approx([1, 40], abs=0.6)


def test_a_trained_model_reads_with_its_own_range_and_says_what_is_clipped():
    quantizer = read("a.wav").quantizer
    corpus = read("b.wav", quantizer=quantizer)
    assert corpus.quantizer == quantizer
    clipped = int((np.abs(np.rint(0.5 * TONE * 2**15) / 2**15) > quantizer.scale).sum())
    assert corpus.notes == (
        f"{clipped} of 400 values are beyond the range of the model's training data, {quantizer.describe_range()}, and "
        "are clipped",
    )
    assert read("silence.wav", quantizer=quantizer).num_chars == 50  # only a new model has nothing to learn from it


def test_each_file_can_be_a_document():
    corpus = read("a.wav", "b.wav", documents="file")
    assert corpus.text.count(MARK) == 2 and corpus.text.endswith(MARK)
    with pytest.raises(ConfigError, match="cannot be split into documents by 'line'"):
        read("a.wav", documents="line")


def test_a_folder_is_read_in_sorted_order_and_a_note_names_what_is_no_series(tmp_path: Path):
    Path("fast.wav").unlink()
    Path("numbers.txt").unlink()
    Path(".hidden.wav").write_bytes(b"RIFF")
    corpus = read(str(tmp_path))
    assert corpus.num_chars == 850
    assert [Path(name).name for name, _ in corpus.parts] == ["a.wav", "b.wav", "silence.wav"]
    assert "left out 1 file that is no series" in corpus.notes[1] and "'to be or not to be'" in corpus.notes[1]
    for path in tmp_path.glob("*.wav"):
        path.unlink()
    with pytest.raises(CorpusError, match="no series in the folder"):
        read(str(tmp_path))


def test_standard_input_may_be_a_recording():
    stream = io.BytesIO(Path("a.wav").read_bytes())
    corpus = read_corpus("-", DataConfig(tokenizer="mulaw"), stdin=stream)
    assert corpus.text == read("a.wav").text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.wav", "fast.wav"], "(?s)fast.wav has a sampling rate of 16,000 Hz, but a.wav has 8,000 Hz.*-ar 8000"),
        (["numbers.txt", "a.wav"], "a.wav has a sampling rate of 8,000 Hz, but numbers.txt has none"),
        (["silence.wav"], "silence.wav: the series is silent"),
        (["text.txt"], "text.txt, line 1: 'to be or not to be' is not a number"),
        (["alphabet"], "the built-in corpus alphabet is a text, but the tokenizer mulaw needs a series"),
        (["a.wave"], "(?s)no file or folder named 'a.wave'.*Did you mean 'a.wav'"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(names, message):
    with pytest.raises(ChargenError, match=message):
        read(*names)


def test_a_model_refuses_another_sampling_rate():
    with pytest.raises(CorpusError, match="fast.wav has a sampling rate of 16,000 Hz, but the model has 8,000 Hz"):
        read("fast.wav", quantizer=Quantizer(256, 8000))
    with pytest.raises(CorpusError, match="a.wav has a sampling rate of 8,000 Hz, but the model has none"):
        read("a.wav", quantizer=Quantizer(256, None))
    assert read("numbers.txt", quantizer=Quantizer(256, 8000, scale=50.0)).num_chars == 3


def test_a_recording_without_the_tokenizer_gives_an_error_that_names_the_option():
    with pytest.raises(CorpusError, match="(?s)a.wav is a binary file.*--tokenizer mulaw:256"):
        read_corpus("a.wav")


def test_the_size_limit_counts_the_bytes_of_the_files():
    with pytest.raises(CorpusSizeError):
        read_corpus("a.wav", DataConfig(tokenizer="mulaw"), max_bytes=500)


def test_values_in_memory_are_a_corpus():
    corpus = chargen.corpus_of_values(TONE, rate_hz=8000)
    assert corpus.quantizer == Quantizer(256, 8000, 0.0, float(np.abs(TONE).max()))
    assert len(corpus.text) == 400
    for wrong in ([], [[1.0]], [1.0, np.nan]):
        with pytest.raises(CorpusError):
            corpus_of_values(wrong)
    with pytest.raises(TokenizerError, match="constant"):
        corpus_of_values([3.0, 3.0])
