"""What a sample copies: indices and reports against brute force, and the training text found again or not."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.checkpoint import Checkpoint, load_checkpoint
from chargen.config import DataConfig, SampleConfig
from chargen.data.token_store import CACHE, clean_cache, load_or_encode_ids
from chargen.errors import ConfigError, CorpusError
from chargen.sampling import copy_filter as copying
from chargen.sampling import copy_report as originality
from chargen.sampling import training_text_index as learned
from chargen.sampling import training_text_index as stretches
from chargen.sampling.copy_filter import START, CopyFilter, CopyIndex, copy_index
from chargen.sampling.copy_report import copy_report
from chargen.sampling.sequence import GeneratedSequence, GenerationContext, apply_processors
from chargen.sampling.training_text_index import stretch_hashes, training_text
from chargen.text import builtin_corpora as sources
from chargen.text.corpus import read_corpus
from chargen.text.documents import MARK
from chargen.text.hashing import PRIME, fingerprint, fingerprints, overlapping, wide_codes
from chargen.text.long_text import LongText
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Tokenizer, build_tokenizer
from chargen.training.run import Plan
from tests.conftest import VERSE, random_model, run_plan

laws = settings(deadline=None, max_examples=60)
ALPHABETS = ("a", "ab", "a\n", "aé", "ế漢😀\0")
texts = st.sampled_from(ALPHABETS).flatmap(lambda letters: st.text(letters, max_size=60))
PIECES = {name: build_tokenizer(name, VERSE + "".join(ALPHABETS)) for name in ("char", "byte", "sp:300")}


def index_of(text: str, most_chars: int, tokenizer: Tokenizer, documents: bool = False) -> CopyIndex:
    long = LongText(documents)
    long.write(text)
    return CopyIndex(np.concatenate(list(stretch_hashes(long.span(), most_chars + 1))), most_chars, tokenizer)


def copies(text: str, sample: str, more: str, most_chars: int) -> bool:
    """Say whether one of the characters that are added ends a run of more than `most_chars` of the text."""
    wholes = [(sample + more[:end])[-most_chars - 1 :] for end in range(1, len(more) + 1)]
    return any(len(whole) > most_chars and whole in text for whole in wholes)


def model_of(path: str, tokenizer: str = "char", **data: Any) -> Checkpoint:
    """A model that says of itself what training would write."""
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


# ── hashes of stretches ───────────────────────────────────────────────────────


@laws
@given(texts, st.lists(st.integers(1, 70), min_size=1, max_size=4))
def test_all_places_at_a_time_give_the_hash_of_one_stretch(text: str, widths: list[int]) -> None:
    for width, found in zip(widths, fingerprints(wide_codes(text), widths), strict=True):
        assert found.tolist() == [fingerprint(text[i : i + width]) for i in range(len(text) - width + 1)]


def test_what_confuses_hashes_modulo_a_power_of_two_does_not_confuse_these() -> None:
    thue_morse = "".join("ab"[i.bit_count() % 2] for i in range(4096))
    other = thue_morse.translate(str.maketrans("ab", "ba"))
    modulo = [0, 0]
    for i, pair in enumerate(zip(thue_morse, other, strict=True)):
        modulo = [
            (value + ord(char) * pow(0x9E3779B97F4A7C15, i, 1 << 64)) % (1 << 64)
            for value, char in zip(modulo, pair, strict=True)
        ]
    assert modulo[0] == modulo[1]
    assert fingerprint(thue_morse) != fingerprint(other)


@laws
@given(st.text("abc", max_size=300), st.integers(0, 40), st.integers(1, 9))
def test_every_stretch_stands_in_one_piece(text: str, overlap: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.text.hashing.BLOCK", block)
        pieces = list(overlapping(LongText.of(text).span(), lambda: overlap))
    places = [place + i for place, piece in pieces for i in range(len(piece) - overlap)]
    assert places == list(range(len(text) - overlap))
    assert all(text[place : place + len(piece)] == piece for place, piece in pieces)


@laws
@given(texts, st.integers(1, 9), st.integers(1, 9))
def test_an_index_is_sorted_and_the_same_in_however_many_rounds(text: str, width: int, at_once: int) -> None:
    span = LongText.of(text).span()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "AT_ONCE", at_once)
        found = np.concatenate([np.zeros(0, np.uint64), *stretch_hashes(span, width)])
    real = found[found < np.uint64(PRIME)].tolist()
    assert real == sorted({fingerprint(text[i : i + width]) for i in range(len(text) - width + 1)})
    assert found.tolist() == sorted(found.tolist())


# ── forbidding ────────────────────────────────────────────────────────────────


@laws
@given(texts, texts, st.integers(1, 6), st.sampled_from(sorted(PIECES)), st.data())
def test_just_those_ids_are_forbidden_that_would_copy(
    text: str, own: str, most_chars: int, name: str, data: st.DataObject
) -> None:
    tokenizer = PIECES[name]
    index = index_of(text, most_chars, tokenizer)
    begin = data.draw(st.integers(0, len(text)))
    ids = tokenizer.encode(text[begin : begin + 8] + own[:8]).tolist()
    state, utf8, sample = START, codecs.getincrementaldecoder("utf-8")("replace"), ""
    for token_id in [*ids, None]:
        expected, held = [], utf8.getstate()
        for candidate in range(tokenizer.vocab_size):
            expected.append(copies(text, sample, utf8.decode(tokenizer.token_bytes(candidate)), most_chars))
            utf8.setstate(held)
        assert index.forbidden(state).tolist() == expected
        if token_id is not None:
            state = index.advance(state, token_id)
            sample += utf8.decode(tokenizer.token_bytes(token_id))


@laws
@given(texts, st.integers(1, 20))
def test_a_text_that_is_read_gives_the_state_of_its_ids(text: str, most_chars: int) -> None:
    index = index_of(VERSE, most_chars, PIECES["char"])
    state = START
    for token_id in PIECES["char"].encode(text).tolist():
        state = index.advance(state, token_id)
    assert index.read(text) == state
    assert index.read(text[3:], index.read(text[:3])) == state


def test_whoever_obeys_never_copies_more() -> None:
    tokenizer, rng = build_tokenizer("char", VERSE), np.random.default_rng(0)
    index, state, ids = index_of(VERSE, 5, tokenizer), START, []
    for _ in range(400):
        allowed = np.flatnonzero(~index.forbidden(state))
        likely = [i for i in allowed.tolist() if tokenizer.decode([*ids[-3:], i]) in VERSE and i > 1]
        ids.append(int(rng.choice(likely or allowed[2:])))
        state = index.advance(state, ids[-1])
    sample = tokenizer.decode(ids)
    assert not any(sample[i : i + 6] in VERSE for i in range(len(sample) - 5))
    assert any(sample[i : i + 5] in VERSE for i in range(len(sample) - 4))


def test_one_who_can_only_copy_is_told() -> None:
    tokenizer = build_tokenizer("char", "a")
    index = index_of("aaaaaa", 3, tokenizer)
    assert not index.forbidden(index.read("aa"))[2]
    assert index.forbidden(index.read("aaa"))[2]
    writer = GeneratedSequence(
        GenerationContext(tokenizer, SampleConfig(), [CopyFilter(index)], None, "aaa", np.array([0, 2, 2, 2]), None)
    )
    with pytest.raises(ConfigError, match="every character is forbidden"):
        apply_processors(np.array([[-np.inf, -np.inf, 1.0]]), [writer], 1.0)


def test_nothing_is_copied_across_the_end_of_a_document() -> None:
    tokenizer = build_tokenizer("char", "abc")
    index = index_of(f"ab{MARK}ca{MARK}abc{MARK}", 2, tokenizer, documents=True)
    a, b, c = tokenizer.encode("abc").tolist()
    assert np.flatnonzero(index.forbidden(index.read("ab"))).tolist() == [c]
    assert not index.forbidden(index.read("bc")).any()
    assert index.advance(index.read("ab"), BOUNDARY_ID) == START


def test_a_range_that_ends_beyond_p_goes_on_at_0() -> None:
    index = index_of("\0\0a", 1, PIECES["char"])
    assert list(index._characters(PRIME - 3)) == [chr(3), chr(ord("a") + 3)]


@pytest.mark.parametrize("text", ["", "a", "ab"])
def test_a_text_that_is_too_short_forbids_nothing(text: str) -> None:
    index = index_of(text, 2, PIECES["sp:300"])
    assert not index.forbidden(index.read("ab")).any()


@pytest.mark.parametrize("most_chars", [0, -1, 10_001])
def test_a_run_out_of_range_is_an_error(most_chars: int) -> None:
    with pytest.raises(ConfigError, match="max_copy"):
        CopyIndex(np.zeros(0, np.uint64), most_chars, PIECES["char"])


# ── the index of a model, in the cache ────────────────────────────────────────


def test_only_what_was_learned_from_is_forbidden_and_the_cache_is_used_again(corpus_file: Path) -> None:
    model = model_of("verse.txt")
    index = copy_index(model, 8)
    assert index.forbidden(index.read("quick br")).any()
    assert not index.forbidden(index.read("black qu")).any()  # held out
    corpus_file.unlink()
    again = copy_index(model, 8)
    np.testing.assert_array_equal(again._hashes, index._hashes)
    with pytest.raises(CorpusError, match="not at hand"):
        copy_index(model, 9)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_index_is_made_again(corpus_file: Path, damage: str) -> None:
    model = model_of("verse.txt")
    index = copy_index(model, 8)
    hashes = index._hashes.copy()
    (path,) = CACHE.glob("*.copies")
    data = bytearray(path.read_bytes())
    data[-100] ^= 4
    path.unlink()
    path.write_bytes({"cut": data[:-8], "flip": data, "empty": b""}[damage])
    np.testing.assert_array_equal(copy_index(model, 8)._hashes, hashes)


def test_cleaning_the_cache_takes_indices_too(corpus_file: Path) -> None:
    copy_index(model_of("verse.txt"), 8)
    assert clean_cache()[0] == 1
    assert list(CACHE.glob("*")) == []


def test_a_text_that_is_too_long_is_an_error(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "MAX_CHARS", 100)
    with pytest.raises(CorpusError, match="100 at most"):
        copy_index(model_of("verse.txt"), 8)


# ── the training text, found again ────────────────────────────────────────────


def test_a_corpus_that_is_given_is_taken_if_it_is_the_same(corpus_file: Path) -> None:
    model = model_of("verse.txt")
    corpus_file.rename("moved")
    text = training_text(model, ["moved"]).read()
    assert text == Path("moved").read_text(encoding="utf-8")[: len(text)]
    assert len(text) == model.about["train_chars"]
    Path("moved").write_text("another", encoding="utf-8")
    for call in (lambda: training_text(model, ["moved"]), lambda: copy_index(model, 8, ["moved"])):
        with pytest.raises(CorpusError, match="moved is not the text that the model learned from") as caught:
            call()
        assert "--corpus" in caught.value.hint


@pytest.mark.parametrize(
    ("tokenizer", "documents"), [("char", "none"), ("byte", "none"), ("sp:300", "line"), ("char", "line")]
)
def test_ids_in_the_cache_are_the_text_again(corpus_file: Path, tokenizer: str, documents: str) -> None:
    model = model_of("verse.txt", tokenizer, documents=documents)
    whole = read_corpus(["verse.txt"], DataConfig(documents=documents)).content
    expected = whole.span(0, model.about["train_chars"])
    load_or_encode_ids(model.tokenizer, expected)
    corpus_file.unlink()
    found = training_text(model)
    assert found.read() == expected.read()
    assert found.text.documents == (documents == "line")
    (path,) = CACHE.glob("*.ids")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorpusError, match="not at hand"):
        training_text(model)


def test_a_corpus_that_has_changed_or_gone_is_named(corpus_file: Path) -> None:
    model = model_of("verse.txt")
    corpus_file.write_text("another text", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"verse\.txt is not the text"):
        training_text(model)
    corpus_file.unlink()
    with pytest.raises(CorpusError, match="'verse', of which it learned") as caught:
        training_text(model)
    assert "--corpus FILE" in caught.value.hint


def test_a_run_knows_where_its_text_was_and_a_lone_model_finds_its_ids(corpus_file: Path) -> None:
    Path("texts").mkdir()
    corpus_file.rename("texts/poem.txt")
    plan = Plan(read_corpus(["texts/poem.txt"]), "mine", {"steps": 2}, model={"cell": "rnn", "hidden_size": 8})
    path = Path(run_plan(plan)[1].model_path)
    model = load_checkpoint(path)
    lone = training_text(model).read()
    clean_cache()
    assert training_text(model, model_path=path).read() == lone
    assert lone == Path("texts/poem.txt").read_text(encoding="utf-8")[: len(lone)]
    with pytest.raises(CorpusError, match="not at hand"):
        training_text(model)
    path.with_name("training_state.safetensors").write_bytes(b"damaged")
    with pytest.raises(CorpusError, match="not at hand"):
        training_text(model, model_path=path)


def test_nothing_is_fetched_to_find_a_text(corpus_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "fetch", lambda *arguments: pytest.fail("the network was asked"))
    about = {**model_of("verse.txt").about, "corpus": "shakespeare"}
    model = random_model()
    with pytest.raises(CorpusError, match="'shakespeare'"):
        training_text(Checkpoint(model.config, model.tokenizer, model.weights, about))


def test_a_model_that_does_not_say_what_it_learned_from_is_an_error() -> None:
    with pytest.raises(CorpusError, match="does not say"):
        training_text(random_model())
    assert learned.UNREAD != MARK


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
def test_the_report_is_that_of_brute_force(sample: str, text: str, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.text.hashing.BLOCK", block)
        report = copy_report(sample, LongText.of(text).span(), ngrams=(1, 2, 4, 8))
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
def test_a_passage_that_is_put_in_is_found(letters: str, before: int, cut: int) -> None:
    text = "".join(letters[i * i % len(letters)] for i in range(400)) + "0123456789" * 30
    sample = "x" * before + text[cut : cut + 200] + "y" * 7
    report = copy_report(sample, LongText.of(text).span())
    assert report.chars == len(sample)
    assert report.passage == text[cut : cut + 200]
    assert report.begin == before
    assert text[report.training_begin :].startswith(report.passage)


def test_nothing_is_counted_across_what_parts_documents() -> None:
    long = LongText(documents=True)
    long.write(f"Anna{MARK}Berta{MARK}Carla{MARK}")
    report = copy_report("Berta\nAnna\nCarlos\n", long.span(), "line", (4, 5, 16))
    assert (report.passage, report.begin, report.training_begin) == ("Berta", 0, 5)
    assert report.novel_ngrams == {4: pytest.approx(2 / 6), 5: pytest.approx(2 / 3), 16: None}


def test_a_large_sample_is_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcdefgh"), 40_000))
    monkeypatch.setattr(originality, "LARGEST_SIEVE", 64)
    report = copy_report(text[5_000:35_000] + "z" + text[:100], LongText.of(text).span())
    assert (report.passage_chars, report.begin, report.training_begin) == (30_000, 0, 5_000)
    assert report.novel_ngrams[32] == pytest.approx(32 / (30_101 - 31))
