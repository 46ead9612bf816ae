"""The copy filter and the copy report equal brute force, and the training text is found or named in an error."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.checkpoint import Checkpoint, load_checkpoint
from chargen.config import DataConfig
from chargen.data.token_store import clean_cache, encoded_texts_folder, load_or_encode_ids
from chargen.errors import ConfigError, CorpusError
from chargen.lm import LanguageModel
from chargen.sampling import copy_filter as copy_filter_module
from chargen.sampling import copy_report as copy_report_module
from chargen.sampling import training_text_index
from chargen.sampling.copy_filter import INITIAL_STATE, CopyFilter, CopyIndex, load_copy_index
from chargen.sampling.copy_report import make_copy_report
from chargen.sampling.generate import Generator
from chargen.sampling.sequence import GeneratedSequence, GenerationContext, apply_processors
from chargen.sampling.settings import SampleConfig
from chargen.sampling.training_text_index import find_training_text, window_hashes
from chargen.text import builtin_corpora as sources
from chargen.text.corpus import read_corpus
from chargen.text.documents import MARK
from chargen.text.hashing import PRIME, hash_text, hash_windows, read_overlapping, to_uint64_codes
from chargen.text.long_text import LongText
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Tokenizer, build_tokenizer
from chargen.training.choices import ModelChoices, RunLength
from chargen.training.run import Plan
from tests.conftest import VERSE, random_model, run_plan

laws = settings(deadline=None, max_examples=60)
ALPHABETS = ("a", "ab", "a\n", "aé", "ế漢😀\0")
texts = st.sampled_from(ALPHABETS).flatmap(lambda letters: st.text(letters, max_size=60))
PIECES = {name: build_tokenizer(name, VERSE + "".join(ALPHABETS)) for name in ("char", "byte", "sp:300")}


def index_of(text: str, max_copy: int, tokenizer: Tokenizer, documents: bool = False) -> CopyIndex:
    long = LongText(documents)
    long.write(text)
    return CopyIndex(np.concatenate(list(window_hashes(long.span(), max_copy + 1))), max_copy, tokenizer)


def copies(text: str, sample: str, more: str, max_copy: int) -> bool:
    """Tell whether an added character ends a run of more than `max_copy` characters that occurs in the text."""
    wholes = [(sample + more[:end])[-max_copy - 1 :] for end in range(1, len(more) + 1)]
    return any(len(whole) > max_copy and whole in text for whole in wholes)


def model_of(path: str, tokenizer: str = "char", **data: Any) -> Checkpoint:
    """A model whose metadata describes its training text, as training writes it."""
    config = DataConfig(tokenizer=tokenizer, **data)
    corpus = read_corpus([path], config)
    model = random_model(corpus.text.replace(MARK, ""), tokenizer)
    about = {
        "corpus": corpus.name,
        "corpus_sha256": corpus.sha256,
        "train_chars": corpus.num_chars * 9 // 10,
        "data": config.to_json(),
    }
    return Checkpoint(model.config, model.tokenizer, model.weights, about)


@pytest.fixture
def corpus_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verse: str) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "verse.txt"
    path.write_text(verse + "At the very end stands what is held out: sphinx of black quartz.\n", encoding="utf-8")
    return path


# ── hashes of windows ───────────────────────────────────────────────────────


@laws
@given(texts, st.lists(st.integers(1, 70), min_size=1, max_size=4))
def test_window_hashes_equal_hashes_of_single_windows(text: str, widths: list[int]) -> None:
    for width, found in zip(widths, hash_windows(to_uint64_codes(text), widths), strict=True):
        assert found.tolist() == [hash_text(text[i : i + width]) for i in range(len(text) - width + 1)]


def test_thue_morse_strings_do_not_collide() -> None:
    thue_morse = "".join("ab"[i.bit_count() % 2] for i in range(4096))
    other = thue_morse.translate(str.maketrans("ab", "ba"))
    modulo = [0, 0]
    for i, pair in enumerate(zip(thue_morse, other, strict=True)):
        modulo = [
            (value + ord(char) * pow(0x9E3779B97F4A7C15, i, 1 << 64)) % (1 << 64)
            for value, char in zip(modulo, pair, strict=True)
        ]
    assert modulo[0] == modulo[1]
    assert hash_text(thue_morse) != hash_text(other)


@laws
@given(st.text("abc", max_size=300), st.integers(0, 40), st.integers(1, 9))
def test_overlapping_pieces_contain_every_window_once(text: str, overlap: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.text.hashing.BLOCK_CHARS", block)
        pieces = list(read_overlapping(LongText.from_string(text).span(), lambda: overlap))
    places = [position + i for position, piece in pieces for i in range(len(piece) - overlap)]
    assert places == list(range(len(text) - overlap))
    assert all(text[position : position + len(piece)] == piece for position, piece in pieces)


@laws
@given(texts, st.integers(1, 9), st.integers(1, 9))
def test_index_is_sorted_and_independent_of_the_number_of_ranges(text: str, width: int, at_once: int) -> None:
    span = LongText.from_string(text).span()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_text_index, "MAX_SORTED_HASHES", at_once)
        found = np.concatenate([np.zeros(0, np.uint64), *window_hashes(span, width)])
    real = found[found < np.uint64(PRIME)].tolist()
    assert real == sorted({hash_text(text[i : i + width]) for i in range(len(text) - width + 1)})
    assert found.tolist() == sorted(found.tolist())


# ── forbidding ────────────────────────────────────────────────────────────────


@laws
@given(texts, texts, st.integers(1, 6), st.sampled_from(sorted(PIECES)), st.data())
def test_forbidden_ids_equal_brute_force(text: str, own: str, max_copy: int, name: str, data: st.DataObject) -> None:
    tokenizer = PIECES[name]
    index = index_of(text, max_copy, tokenizer)
    begin = data.draw(st.integers(0, len(text)))
    ids = tokenizer.encode(text[begin : begin + 8] + own[:8]).tolist()
    state, utf8, sample = INITIAL_STATE, codecs.getincrementaldecoder("utf-8")("replace"), ""
    for token_id in [*ids, None]:
        expected, held = [], utf8.getstate()
        for candidate in range(tokenizer.vocab_size):
            expected.append(copies(text, sample, utf8.decode(tokenizer.token_bytes(candidate)), max_copy))
            utf8.setstate(held)
        assert index.forbidden_mask(state).tolist() == expected
        if token_id is not None:
            state = index.advance(state, token_id)
            sample += utf8.decode(tokenizer.token_bytes(token_id))


@laws
@given(texts, st.integers(1, 20))
def test_state_after_text_equals_state_after_its_ids(text: str, max_copy: int) -> None:
    index = index_of(VERSE, max_copy, PIECES["char"])
    state = INITIAL_STATE
    for token_id in PIECES["char"].encode(text).tolist():
        state = index.advance(state, token_id)
    assert index.state_after(text) == state
    assert index.state_after(text[3:], index.state_after(text[:3])) == state


def test_text_of_allowed_ids_has_no_run_above_max_copy() -> None:
    tokenizer, rng = build_tokenizer("char", VERSE), np.random.default_rng(0)
    index, state, ids = index_of(VERSE, 5, tokenizer), INITIAL_STATE, []
    for _ in range(400):
        allowed = np.flatnonzero(~index.forbidden_mask(state))
        likely = [i for i in allowed.tolist() if tokenizer.decode([*ids[-3:], i]) in VERSE and i > 1]
        ids.append(int(rng.choice(likely or allowed[2:])))
        state = index.advance(state, ids[-1])
    sample = tokenizer.decode(ids)
    assert not any(sample[i : i + 6] in VERSE for i in range(len(sample) - 5))
    assert any(sample[i : i + 5] in VERSE for i in range(len(sample) - 4))


def test_error_if_every_character_would_copy() -> None:
    tokenizer = build_tokenizer("char", "a")
    index = index_of("aaaaaa", 3, tokenizer)
    assert not index.forbidden_mask(index.state_after("aa"))[2]
    assert index.forbidden_mask(index.state_after("aaa"))[2]
    sequence = GeneratedSequence(
        GenerationContext(tokenizer, SampleConfig(), [CopyFilter(index)], None, "aaa", np.array([0, 2, 2, 2]), None)
    )
    with pytest.raises(ConfigError, match="every character is forbidden"):
        apply_processors(np.array([[-np.inf, -np.inf, 1.0]]), [sequence], 1.0)


def test_copies_end_at_document_boundaries() -> None:
    tokenizer = build_tokenizer("char", "abc")
    index = index_of(f"ab{MARK}ca{MARK}abc{MARK}", 2, tokenizer, documents=True)
    a, b, c = tokenizer.encode("abc").tolist()
    assert np.flatnonzero(index.forbidden_mask(index.state_after("ab"))).tolist() == [c]
    assert not index.forbidden_mask(index.state_after("bc")).any()
    assert index.advance(index.state_after("ab"), BOUNDARY_ID) == INITIAL_STATE


def test_hash_range_wraps_at_the_prime() -> None:
    index = index_of("\0\0a", 1, PIECES["char"])
    assert list(index._characters(PRIME - 3)) == [chr(3), chr(ord("a") + 3)]


@pytest.mark.parametrize("text", ["", "a", "ab"])
def test_short_training_text_forbids_nothing(text: str) -> None:
    index = index_of(text, 2, PIECES["sp:300"])
    assert not index.forbidden_mask(index.state_after("ab")).any()


@pytest.mark.parametrize("max_copy", [0, -1, 10_001])
def test_max_copy_out_of_range_is_an_error(max_copy: int) -> None:
    with pytest.raises(ConfigError, match="max_copy"):
        CopyIndex(np.zeros(0, np.uint64), max_copy, PIECES["char"])


# ── the index of a model, in the cache ────────────────────────────────────────


def test_validation_text_is_not_forbidden_and_the_cached_index_is_reused(corpus_file: Path) -> None:
    model = model_of("verse.txt")
    index = load_copy_index(model, 8)
    assert index.forbidden_mask(index.state_after("quick br")).any()
    assert not index.forbidden_mask(index.state_after("black qu")).any()  # held out
    corpus_file.unlink()
    again = load_copy_index(model, 8)
    np.testing.assert_array_equal(again._hashes, index._hashes)
    with pytest.raises(CorpusError, match="was not found"):
        load_copy_index(model, 9)


def test_a_copy_that_begins_in_a_cached_text_is_not_continued(corpus_file: Path) -> None:
    lm = LanguageModel(model_of("verse.txt"))
    *_, cache = lm.read_prefix("The quick br")
    generator = lm.generator(prefix_cache=cache, max_copy=8)
    assert isinstance(generator, Generator)
    mask = generator.new_sequence().forbidden_mask()
    assert mask is not None
    assert lm.tokenizer.decode(np.flatnonzero(mask)) == "o"


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_damaged_index_is_rebuilt(corpus_file: Path, damage: str) -> None:
    model = model_of("verse.txt")
    index = load_copy_index(model, 8)
    hashes = index._hashes.copy()
    (path,) = encoded_texts_folder().glob("*.copies")
    data = bytearray(path.read_bytes())
    data[-100] ^= 4
    path.unlink()
    path.write_bytes({"cut": data[:-8], "flip": data, "empty": b""}[damage])
    np.testing.assert_array_equal(load_copy_index(model, 8)._hashes, hashes)


def test_the_newest_indexes_of_a_text_are_kept(corpus_file: Path) -> None:
    Path("other.txt").write_text(VERSE * 9, encoding="utf-8")
    load_copy_index(model_of("other.txt"), 6)
    model = model_of("verse.txt")
    for number, max_copy in enumerate((8, 3, 5, 9, 4, 7)):
        load_copy_index(model, max_copy)
        (path,) = encoded_texts_folder().glob(f"*-{max_copy}.copies")
        os.utime(path, (number, number))
    kept = {path.stem.rpartition("-")[2] for path in encoded_texts_folder().glob("*.copies")}
    assert kept == {"5", "9", "4", "7"} | {"6"}  # that of another text
    index = load_copy_index(model, 8)  # is made again
    assert index.forbidden_mask(index.state_after("quick br")).any()


def test_cleaning_the_cache_removes_indices(corpus_file: Path) -> None:
    load_copy_index(model_of("verse.txt"), 8)
    assert clean_cache()[0] == 1
    assert list(encoded_texts_folder().glob("*")) == []


def test_training_text_above_the_limit_is_an_error(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_filter_module, "MAX_CHARS", 100)
    with pytest.raises(CorpusError, match="100 at most"):
        load_copy_index(model_of("verse.txt"), 8)


# ── the training text, found again ────────────────────────────────────────────


def test_named_corpus_must_be_the_training_text(corpus_file: Path) -> None:
    model = model_of("verse.txt")
    corpus_file.rename("moved")
    text = find_training_text(model, ["moved"]).read()
    assert text == Path("moved").read_text(encoding="utf-8")[: len(text)]
    assert len(text) == model.about["train_chars"]
    Path("moved").write_text("another", encoding="utf-8")
    for call in (lambda: find_training_text(model, ["moved"]), lambda: load_copy_index(model, 8, ["moved"])):
        with pytest.raises(CorpusError, match="moved is not the text that the model was trained on") as caught:
            call()
        assert "--corpus" in caught.value.hint


@pytest.mark.parametrize(
    ("tokenizer", "documents"), [("char", "none"), ("byte", "none"), ("sp:300", "line"), ("char", "line")]
)
def test_cached_ids_decode_to_the_training_text(corpus_file: Path, tokenizer: str, documents: str) -> None:
    model = model_of("verse.txt", tokenizer, documents=documents)
    whole = read_corpus(["verse.txt"], DataConfig(documents=documents)).content
    expected = whole.span(0, model.about["train_chars"])
    load_or_encode_ids(model.tokenizer, expected)
    corpus_file.unlink()
    found = find_training_text(model)
    assert found.read() == expected.read()
    assert found.text.has_documents == (documents == "line")
    (path,) = encoded_texts_folder().glob("*.ids")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorpusError, match="was not found"):
        find_training_text(model)


def test_error_names_a_changed_or_missing_corpus(corpus_file: Path) -> None:
    model = model_of("verse.txt")
    corpus_file.write_text("another text", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"verse\.txt is not the text"):
        find_training_text(model)
    corpus_file.unlink()
    with pytest.raises(CorpusError, match="'verse', of which it was trained on") as caught:
        find_training_text(model)
    assert "--corpus FILE" in caught.value.hint


def test_training_state_locates_the_text_and_a_model_alone_uses_cached_ids(corpus_file: Path) -> None:
    Path("texts").mkdir()
    corpus_file.rename("texts/poem.txt")
    plan = Plan(
        read_corpus(["texts/poem.txt"]), "mine", RunLength(steps=2), model=ModelChoices(cell="rnn", hidden_size=8)
    )
    path = Path(run_plan(plan)[1].model_path)
    model = load_checkpoint(path)
    lone = find_training_text(model).read()
    clean_cache()
    assert find_training_text(model, model_path=path).read() == lone
    assert lone == Path("texts/poem.txt").read_text(encoding="utf-8")[: len(lone)]
    with pytest.raises(CorpusError, match="was not found"):
        find_training_text(model)
    path.with_name("training_state.safetensors").write_bytes(b"damaged")
    with pytest.raises(CorpusError, match="was not found"):
        find_training_text(model, model_path=path)


def test_finding_the_training_text_does_not_use_the_network(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "fetch", lambda *arguments: pytest.fail("the network was asked"))
    about = {**model_of("verse.txt").about, "corpus": "shakespeare"}
    model = random_model()
    with pytest.raises(CorpusError, match="'shakespeare'"):
        find_training_text(Checkpoint(model.config, model.tokenizer, model.weights, about))


def test_model_without_a_description_of_its_text_is_an_error() -> None:
    with pytest.raises(CorpusError, match="does not name"):
        find_training_text(random_model())
    assert training_text_index.UNKNOWN_CHAR != MARK


# ── the report ────────────────────────────────────────────────────────────────


def longest_common(a: str, b: str) -> int:
    """Dynamic programming: the length of the common suffix of a[:i] and b[:j], for all i and j."""
    best, before = 0, [0] * (len(b) + 1)
    for char in a:
        row = [0] + [before[j] + 1 if b[j] == char else 0 for j in range(len(b))]
        best, before = max(best, *row), row
    return best


@laws
@given(texts, texts, st.integers(1, 70))
def test_copy_report_equals_brute_force(sample: str, text: str, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.text.hashing.BLOCK_CHARS", block)
        report = make_copy_report(sample, LongText.from_string(text).span(), ngrams=(1, 2, 4, 8))
    size = report.passage_chars
    assert size == longest_common(sample, text)
    assert sample[report.begin : report.begin + size] == report.passage
    assert text.find(report.passage) == report.training_begin
    for n, share in report.novel_ngrams.items():
        grams = [sample[i : i + n] for i in range(len(sample) - n + 1)]
        novel = sum(gram not in text for gram in grams)
        assert share == (pytest.approx(novel / len(grams)) if grams else None)


@laws
@given(st.text("ab", min_size=1, max_size=30), st.integers(0, 40), st.integers(0, 300))
def test_inserted_passage_is_found(letters: str, before: int, cut: int) -> None:
    text = "".join(letters[i * i % len(letters)] for i in range(400)) + "0123456789" * 30
    sample = "x" * before + text[cut : cut + 200] + "y" * 7
    report = make_copy_report(sample, LongText.from_string(text).span())
    assert report.chars == len(sample)
    assert report.passage == text[cut : cut + 200]
    assert report.begin == before
    assert text[report.training_begin :].startswith(report.passage)


def test_copy_report_does_not_cross_document_separators() -> None:
    long = LongText(has_documents=True)
    long.write(f"Anna{MARK}Berta{MARK}Carla{MARK}")
    report = make_copy_report("Berta\nAnna\nCarlos\n", long.span(), "line", (4, 5, 16))
    assert (report.passage, report.begin, report.training_begin) == ("Berta", 0, 5)
    assert report.novel_ngrams == {4: pytest.approx(2 / 6), 5: pytest.approx(2 / 3), 16: None}


def test_copy_report_of_a_text_longer_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcdefgh"), 40_000))
    monkeypatch.setattr(copy_report_module, "MAX_TABLE_SIZE", 64)
    report = make_copy_report(text[5_000:35_000] + "z" + text[:100], LongText.from_string(text).span())
    assert (report.passage_chars, report.begin, report.training_begin) == (30_000, 0, 5_000)
    assert report.novel_ngrams[32] == pytest.approx(32 / (30_101 - 31))
