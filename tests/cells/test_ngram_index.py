"""The index of an n-gram table: every hash and every row against a reference that works with exact n-grams."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cells import ngram_index
from chargen.cells.ngram_features import MASK, make_hash_parameters, make_word_hashing
from chargen.cells.ngram_index import (
    BUCKET_ROWS,
    NgramIndex,
    build_index,
    find_indexed_rows,
    hash_all,
    move_rows,
)
from chargen.config import ModelConfig
from chargen.config.model import NO_WORD, WORD, WORD_START

V = 9
KINDS = np.array([NO_WORD, NO_WORD, NO_WORD, WORD, WORD, WORD, WORD, WORD_START, WORD_START], dtype=np.uint8)
Ngram = tuple[int, tuple[int, ...]]  #: the kind of an n-gram, and its token ids


def config_of(ngrams: int = 4, words: int = 2, rows: int = 1 << 14, vocab_size: int = V) -> ModelConfig:
    return ModelConfig(vocab_size, ngrams=ngrams, ngram_rows=rows, ngram_words=words, ngram_index=True, ngram_dim=3)


def random_ids(seed: int, length: int, first: int = 1) -> np.ndarray:
    """Return a text in which some n-grams are frequent and some occur once."""
    rng = np.random.default_rng(seed)
    return rng.choice(np.arange(first, V), length, p=(p := 0.5 ** np.arange(V - first)) / p.sum())


def exact_ngrams(config: ModelConfig, ids: np.ndarray, kinds: np.ndarray = KINDS) -> list[list[Ngram]]:
    """Return the n-grams that end at each position, by definition: [N][K]. A boundary starts a document."""
    found: list[list[Ngram]] = []
    document: list[int] = []
    starts: list[int] = []  # of the words of the document
    for token in ids.tolist():
        if token == 0:
            document, starts = [], []
        before = kinds[document[-1]] if document else NO_WORD
        if kinds[token] == WORD_START or (kinds[token] == WORD and before == NO_WORD):
            starts.append(len(document))
        document.append(token)
        fixed = [tuple(([0] * n + document)[-n:]) for n in range(2, config.ngrams + 1)]
        of_words = [tuple(document[starts[-k] if k <= len(starts) else 0 :]) for k in range(1, config.ngram_words + 1)]
        found.append(list(enumerate(fixed + of_words)))
    return found


def exact_hash(config: ModelConfig, ngram: Ngram) -> int:
    """Return the hash of an n-gram by the formulas of `ngram_features.py`, in whole numbers without a limit."""
    kind, ids = ngram
    multipliers, _ = make_hash_parameters(config.ngrams, config.ngram_rows)
    if kind < len(multipliers):
        return sum(int(w) * c for w, c in zip(multipliers[kind].tolist(), reversed(ids), strict=False)) & MASK
    constants, g = make_word_hashing(config.ngram_words), 0
    for token in ids:
        g = g * constants.m + constants.a * token + constants.b
    return g * constants.final[kind - len(multipliers)] & MASK


def hash_in_windows(xp: Any, config: ModelConfig, ids: np.ndarray, cuts: list[int], kinds: np.ndarray) -> np.ndarray:
    """Return what `hash_all` computes of a text in windows of these lengths, the last one with the rest: [N, K]."""
    convert = torch.from_numpy if xp is torch else np.asarray
    multipliers = convert(make_hash_parameters(config.ngrams, config.ngram_rows)[0])
    history = convert(np.zeros((1, config.num_history), dtype=np.int64))
    hashes = []
    for window in np.split(ids, [cut for cut in np.cumsum(cuts) if cut < len(ids)]):
        found, history = hash_all(xp, convert(window[:, None]), history, multipliers, convert(kinds.astype(np.int64)))
        hashes.append(np.asarray(found)[:, 0])
    return np.concatenate(hashes)


def rows_of(config: ModelConfig, ids: np.ndarray, tags: np.ndarray, kinds: np.ndarray = KINDS) -> tuple[Any, Any]:
    """Return (the rows of the n-grams of a text without boundaries [N, K], which of them have one)."""
    multipliers = make_hash_parameters(config.ngrams, config.ngram_rows)[0]
    index = NgramIndex(multipliers, kinds.astype(np.int64), tags.reshape(-1, BUCKET_ROWS))
    history = np.zeros((1, config.num_history), dtype=np.int64)
    rows, is_found, _ = find_indexed_rows(np, ids[:, None].astype(np.int64), history, index)
    return rows[:, 0], is_found[:, 0]


def documents_of(ids: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the documents of a text, each with the boundary before it."""
    yield from (part for part in np.split(ids, np.flatnonzero(ids == 0)) if len(part))


@settings(max_examples=60, deadline=None)
@given(
    ngrams=st.integers(2, 6),
    words=st.integers(0, 4),
    length=st.integers(1, 40),
    cuts=st.lists(st.integers(1, 9), max_size=8),
    seed=st.integers(0, 999),
)
def test_hashes_follow_the_definition_in_windows_of_any_length(
    ngrams: int, words: int, length: int, cuts: list[int], seed: int
) -> None:
    config, rng = config_of(ngrams, words), np.random.default_rng(seed)
    ids, kinds = rng.integers(1, V, length), rng.integers(0, 3, V).astype(np.uint8)
    kinds[0] = NO_WORD
    expected = np.array(
        [[exact_hash(config, ngram) for ngram in at] for at in exact_ngrams(config, ids, kinds)], dtype=np.uint64
    ).view(np.int64)
    for xp, lengths in ((np, [length]), (np, [1] * length), (np, cuts), (torch, cuts)):
        np.testing.assert_array_equal(hash_in_windows(xp, config, ids, lengths, kinds), expected)
    fast = list(ngram_index._hash_kinds(config, ids, kinds))
    np.testing.assert_array_equal(np.stack(fast, -1), expected)


@settings(max_examples=40, deadline=None)
@given(words=st.integers(0, 3), length=st.integers(1, 40), seed=st.integers(0, 999))
def test_the_builder_starts_each_document_like_training(words: int, length: int, seed: int) -> None:
    config = config_of(5, words)
    ids = np.random.default_rng(seed).choice([0, 0, 1, 3, 3, 4, 7], length)
    separately = [hash_in_windows(np, config, document, [], KINDS) for document in documents_of(ids)]
    fast = list(ngram_index._hash_kinds(config, ids, KINDS))
    np.testing.assert_array_equal(np.stack(fast, -1), np.concatenate(separately))


@pytest.mark.parametrize("words", [0, 1, 2, 4])
@pytest.mark.parametrize("rows", [1 << 16, 1 << 20])  # keys of 29 bits, and of 33 bits
def test_exactly_the_ngrams_that_occur_twice_have_rows_of_their_own(words: int, rows: int) -> None:
    config, ids = config_of(5, words, rows), random_ids(1, 3000)
    ngrams = exact_ngrams(config, ids)
    counts = Counter(ngram for at in ngrams for ngram in at)
    found_rows, is_found = rows_of(config, ids, build_index(config, ids, KINDS))
    is_frequent = np.array([[counts[ngram] >= 2 for ngram in at] for at in ngrams])
    assert 0.1 < is_frequent.mean() < 0.95
    np.testing.assert_array_equal(is_found, is_frequent)
    owners = defaultdict(set)
    for at, row in zip(ngrams, found_rows.tolist(), strict=True):
        for ngram in at:
            if counts[ngram] >= 2:
                owners[ngram].add(row[ngram[0]])
    assert all(len(owned) == 1 for owned in owners.values())
    assert len(set().union(*owners.values())) == len(owners)


@pytest.mark.parametrize("seed", range(5))
def test_the_most_frequent_ngrams_get_the_rows_of_a_full_bucket(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_index, "MAX_LOAD", 100.0)
    config, ids = config_of(4, 2, 64), random_ids(seed, 1500)
    tags = build_index(config, ids, KINDS)
    counts = Counter(ngram for at in exact_ngrams(config, ids) for ngram in at)
    wanted: dict[int, Counter[int]] = defaultdict(Counter)  # for each bucket, how often each tag occurs
    for (kind, tuple_of_ids), count in counts.items():
        hashed = exact_hash(config, (kind, tuple_of_ids))
        if count >= 2:
            bucket, tag = hashed >> 61, hashed >> 45 & 0xFFFF
            wanted[bucket][tag] = max(wanted[bucket][tag], count)
    assert max(map(len, wanted.values())) > BUCKET_ROWS  # most of the n-grams get no row
    for bucket, owned in enumerate(tags.reshape(-1, BUCKET_ROWS).tolist()):
        assert len(set(owned)) == BUCKET_ROWS
        assert set(owned) <= set(wanted[bucket])
        lowest = min(wanted[bucket][tag] for tag in owned)
        assert all(count <= lowest for tag, count in wanted[bucket].items() if tag not in owned)


@pytest.mark.parametrize("seed", range(3))
def test_a_share_of_the_rows_goes_to_the_most_frequent_ngrams(seed: int) -> None:
    config, ids = config_of(4, 2, 256), random_ids(seed, 3000)
    num_owned = int(ngram_index.MAX_LOAD * 256)
    keys = [[exact_hash(config, ngram) >> 64 - 5 - 16 for ngram in at] for at in exact_ngrams(config, ids)]
    counts = Counter(key for at in keys for key in at)  # of a bucket and a tag: a few n-grams share them
    lowest = sorted(counts.values(), reverse=True)[num_owned - 1]
    assert lowest >= 2
    tags = build_index(config, ids, KINDS)
    assert 0.7 * num_owned < np.count_nonzero(tags) <= num_owned  # full buckets leave out some
    for row in np.flatnonzero(tags).tolist():
        assert counts[row // BUCKET_ROWS << 16 | int(tags[row])] >= lowest


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 20])
@pytest.mark.parametrize("letters", [[1, 2], [3, 3, 4, 7, 1], [0], [0, 3]], ids=str)
def test_tiny_texts_and_texts_without_words_have_an_index(length: int, letters: list[int]) -> None:
    config, ids = config_of(6, 4, 256), np.random.default_rng(length).choice(letters, length)
    counts = Counter(ngram for at in exact_ngrams(config, ids) for ngram in at)
    keys = {exact_hash(config, ngram) >> 64 - 5 - 16 for ngram, count in counts.items() if count >= 2}
    per_bucket = Counter(key >> 16 for key in keys)
    assert np.count_nonzero(build_index(config, ids, KINDS)) == sum(min(BUCKET_ROWS, n) for n in per_bucket.values())


def test_excerpts_of_a_long_text_are_counted_from_its_start_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngram_index, "MAX_COUNTED_IDS", 300)
    monkeypatch.setattr(ngram_index, "NUM_EXCERPTS", 3)
    config = config_of(2, 0, vocab_size=1001)
    kinds = np.zeros(1001, dtype=np.uint8)
    ids = np.arange(1, 1001)  # each pair occurs once, except for these three
    ids[[0, 1, 60, 61]], ids[[500, 501, 520, 521]], ids[[996, 997, 998, 999]] = [7, 8] * 2, [9, 10] * 2, [11, 12] * 2
    ids[[300, 301, 310, 311]] = [13, 14] * 2  # between two excerpts
    tags = build_index(config, ids, kinds)
    for pair, has_row in (((7, 8), True), ((9, 10), True), ((11, 12), True), ((13, 14), False)):
        assert rows_of(config, np.array(pair), tags, kinds)[1][1, 0] == has_row


def test_a_second_text_gets_the_free_rows_only() -> None:
    config = config_of(4, 2, 1 << 12)
    first, second = random_ids(1, 800), random_ids(2, 800)[::-1].copy()
    tags = build_index(config, first, KINDS)
    tags[np.flatnonzero(tags)[::3]] = 0  # free rows between others
    both = build_index(config, second, KINDS, tags)
    np.testing.assert_array_equal(both[tags > 0], tags[tags > 0])
    _, is_found = rows_of(config, second, both)
    _, is_frequent = rows_of(config, second, build_index(config, second, KINDS))
    assert is_frequent.mean() > 0.5
    assert is_found[is_frequent].all()
    assert all(len(set(bucket[bucket > 0])) == np.count_nonzero(bucket) for bucket in both.reshape(-1, BUCKET_ROWS))
    full = np.ones(1 << 12, dtype=np.uint16)
    np.testing.assert_array_equal(build_index(config, second, KINDS, full), full)


@pytest.mark.parametrize("words", [0, 3])
def test_rows_follow_their_ngrams_to_other_numbers_of_the_token_ids(words: int) -> None:
    config, old = config_of(4, words, 1 << 12), random_ids(3, 2000)
    new_of = np.array([0, 1, 5, 2, 7, 3, 8, 4, 6])
    old_of = np.argsort(new_of)
    ids, kinds = new_of[old], KINDS[old_of]
    table = np.random.default_rng(0).normal(size=(1 << 12, 3)).astype(np.float32)
    old_tags, tags = build_index(config, old, KINDS), build_index(config, ids, kinds)
    moved = move_rows(config, ids, old_of, (tags, kinds), (old_tags, KINDS), table)
    (rows, is_found), (old_rows, was_found) = rows_of(config, ids, tags, kinds), rows_of(config, old, old_tags)
    np.testing.assert_array_equal(is_found, was_found)
    np.testing.assert_array_equal(moved[rows[is_found]], table[old_rows[is_found]])
    assert np.count_nonzero(moved.any(1)) == len(np.unique(rows[is_found]))
