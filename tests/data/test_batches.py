"""Batches of a continuous text and of documents.

Every id is read exactly once per epoch, rows continue across windows, and each document starts with a reset state.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.data.batches import MIN_ROW_WINDOWS, NO_TARGET, Batch, DocumentBatches, Position, TextBatches
from chargen.data.token_store import write_store
from chargen.errors import CorpusError
from chargen.tokenizers.tokenizer import BOUNDARY_ID

laws = settings(deadline=None)
START = 1_000_000  #: the start id; it is not an offset in the text


@st.composite
def sources(draw, max_ids: int = 150) -> TextBatches:
    """A source in which every id is its own offset in the text."""
    N = draw(st.integers(1, max_ids))
    return TextBatches(np.arange(N), START, draw(st.integers(1, 10)), draw(st.integers(1, 25)))


def positions(source: TextBatches, epochs: int) -> list[Position]:
    return [Position(e, w) for e in range(epochs) for w in range(source.windows_per_epoch)]


def batches(source: TextBatches, epochs: int) -> list[Batch]:
    return [source.get_batch(position) for position in positions(source, epochs)]


def row_targets(read: list[Batch], b: int) -> list[int]:
    """The concatenated targets of row b."""
    return [int(i) for batch in read for i in batch.targets[:, b]]


def equal(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(x, y) for x, y in [(a.inputs, b.inputs), (a.targets, b.targets), (a.reset, b.reset)])


# ── the content of a batch ────────────────────────────────────────────────────────


@laws
@given(sources(), st.integers(0, 3))
def test_the_concatenated_rows_are_the_text_without_the_remainder(source, epoch):
    read = [source.get_batch(Position(epoch, w)) for w in range(source.windows_per_epoch)]
    rows = [row_targets(read, b) for b in range(source.batch_size)]
    parts = [rows[(part - epoch) % source.batch_size] for part in range(source.batch_size)]
    N = len(source._ids)
    assert [i for part in parts for i in part] == list(range(source.ids_per_epoch))
    assert N - source.ids_per_epoch == N % source.batch_size


@laws
@given(sources(), st.integers(0, 12))
def test_targets_are_inputs_shifted_by_one(source, epoch):
    for w in range(source.windows_per_epoch):
        batch = source.get_batch(Position(epoch, w))
        assert batch.inputs.shape == batch.targets.shape == (len(batch.targets), source.batch_size)
        assert (batch.inputs[1:] == batch.targets[:-1]).all()
        assert (batch.inputs == np.where(batch.targets == 0, START, batch.targets - 1)).all()


@laws
@given(sources())
def test_window_lengths_differ_by_at_most_one(source):
    lengths = {len(batch.targets) for batch in batches(source, 1)}
    assert max(lengths) - min(lengths) <= 1
    assert source.seq_len == max(lengths)


@laws
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 40))
def test_no_window_is_longer_than_seq_len_and_their_number_is_minimal(N, B, T):
    source = TextBatches(np.arange(N), START, B, T)
    assert 1 <= source.seq_len <= T
    assert source.windows_per_epoch == -(-source.row_len // T)


@laws
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 40))
def test_the_batch_size_is_reduced_only_for_a_short_text(N, B, T):
    source = TextBatches(np.arange(N), START, B, T)
    if N >= B * T:
        assert source.batch_size == B
    else:
        assert source.batch_size == max(1, N // T)
    assert source.row_len == N // source.batch_size
    assert source.row_len >= min(N, T)


# ── rows across windows ────────────────────────────────────────────────────────────


@laws
@given(sources(max_ids=60))
def test_a_row_continues_where_it_stopped_unless_it_is_reset(source):
    for before, after in pairwise(batches(source, 2 * source.batch_size + 1)):
        continues = after.inputs[0] == before.targets[-1]
        assert (continues == ~after.reset).all()


@laws
@given(sources(max_ids=60))
def test_all_rows_are_reset_in_the_first_batch_and_later_only_at_the_start_of_the_text(source):
    first, *rest = batches(source, 2 * source.batch_size + 1)
    assert first.reset.all()
    for batch in rest:
        assert (batch.reset == (batch.targets[0] == 0)).all()
        assert (batch.inputs[0][batch.reset] == START).all()
    # In every epoch exactly one row returns to the start of the text.
    assert sum(int(batch.reset.sum()) for batch in rest) == 2 * source.batch_size


@laws
@given(sources(max_ids=60))
def test_every_row_reads_the_whole_text_in_order_after_its_reset(source):
    B = source.batch_size
    read = batches(source, 2 * B)
    for b in range(B):
        start = (-b % B) * source.row_len  # row b reads the first part of the text in epoch −b mod B
        assert row_targets(read, b)[start : start + source.ids_per_epoch] == list(range(source.ids_per_epoch))


# ── positions ─────────────────────────────────────────────────────────────────


@laws
@given(sources(max_ids=60), st.randoms(use_true_random=False))
def test_a_batch_does_not_depend_on_the_ones_read_before_it(source, draw):
    shuffled = positions(source, source.batch_size + 1)
    map_blocks = {position: source.get_batch(position) for position in shuffled}
    draw.shuffle(shuffled)
    assert all(equal(source.get_batch(position), map_blocks[position]) for position in shuffled)


@laws
@given(sources(max_ids=60))
def test_next_position_visits_every_window_of_every_epoch(source):
    expected = positions(source, 3)
    visited = [Position()]
    while len(visited) < len(expected):
        visited.append(source.next_position(visited[-1]))
    assert visited == expected


@laws
@given(sources(), st.integers(0, 3))
def test_num_ids_before_counts_the_targets_of_the_preceding_windows(source, epoch):
    so_far = 0
    for w in range(source.windows_per_epoch):
        assert source.num_ids_before(Position(epoch, w)) == so_far
        so_far += source.get_batch(Position(epoch, w)).targets.size
    assert so_far == source.ids_per_epoch


# ── inputs and outputs ───────────────────────────────────────────────────


@pytest.mark.parametrize("vocab_size", [200, 30_000, 100_000])
def test_ids_on_disk_and_in_memory_give_equal_batches(tmp_path, vocab_size):
    ids = np.random.default_rng(0).integers(0, vocab_size, 500)
    mapped = write_store(tmp_path / "x.ids", [ids], vocab_size, {}).ids
    in_memory, on_disk = (TextBatches(i, 3, 4, 7) for i in (ids, mapped))
    for position in positions(in_memory, 5):
        batch = on_disk.get_batch(position)
        assert equal(batch, in_memory.get_batch(position))
        assert (batch.inputs.dtype, batch.targets.dtype, batch.reset.dtype) == (np.int64, np.int64, np.bool_)


def test_changing_a_batch_does_not_change_the_ids():
    ids = np.arange(20)
    batch = TextBatches(ids, START, 2, 5).get_batch(Position(0, 1))
    batch.inputs[:] = -1
    batch.targets[:] = -1
    assert ids.tolist() == list(range(20))


def test_an_empty_text_is_an_error():
    with pytest.raises(CorpusError, match="nothing to train on") as caught:
        TextBatches(np.empty(0, dtype=np.int32), START, 4, 8)
    assert caught.value.hint


def test_one_id_gives_a_single_window_of_a_single_row():
    batch = TextBatches(np.array([7]), START, 4, 8).get_batch(Position())
    assert (batch.inputs.tolist(), batch.targets.tolist(), batch.reset.tolist()) == ([[START]], [[7]], [True])


# ── documents ─────────────────────────────────────────────────────────────────

lengths_of_documents = st.lists(st.integers(1, 12), min_size=1, max_size=20)


def an_epoch(stream: DocumentBatches, epoch: int) -> list[tuple[list[int], list[int]]]:
    """Every document that the batches of an epoch hold: (inputs, targets)."""
    position, open_, found = Position(epoch), {}, []
    while position.epoch == epoch:
        batch = stream.get_batch(position)
        for row in range(stream.batch_size):
            inside = batch.targets[:, row] != NO_TARGET
            assert not (np.diff(inside.astype(int)) > 0).any()  # padding comes after
            if batch.reset[row]:
                assert row not in open_
                open_[row] = ([], [])
            open_[row][0].extend(batch.inputs[inside, row].tolist())
            open_[row][1].extend(batch.targets[inside, row].tolist())
            if not inside.any() or open_[row][1][-1] == BOUNDARY_ID:
                found.append(open_.pop(row))
        position = stream.next_position(position)
    assert not open_
    return [document for document in found if document[1]]


@laws
@given(lengths_of_documents, st.integers(1, 5), st.integers(1, 6), st.integers(0, 3))
def test_an_epoch_reads_every_document_once_from_boundary_to_boundary(lengths, batch_size, seq_len, epoch):
    texts = [[10 * i + j + 1 for j in range(length)] for i, length in enumerate(lengths)]
    ids = np.array([i for text in texts for i in [*text, BOUNDARY_ID]], dtype=np.int32)
    found = an_epoch(DocumentBatches(ids, batch_size, seq_len, seed=1), epoch)
    assert sorted(target[:-1] for _, target in found) == sorted(texts)
    assert all(inputs == [BOUNDARY_ID, *targets[:-1]] for inputs, targets in found)


@laws
@given(lengths_of_documents, st.integers(1, 5))
def test_every_batch_has_a_target_and_positions_advance(lengths, batch_size):
    ids = np.array([i for length in lengths for i in [*[1] * length, BOUNDARY_ID]], dtype=np.int32)
    stream, position = DocumentBatches(ids, batch_size, 4, seed=0), Position()
    seen = 0
    while position.epoch < 2:
        assert (stream.get_batch(position).targets != NO_TARGET).any()
        after = stream.next_position(position)
        assert position.epoch < after.epoch or stream.num_ids_before(after) >= seen
        seen = 0 if position.epoch < after.epoch else stream.num_ids_before(after)
        position = after


def test_documents_are_shuffled_for_each_epoch():
    ids = np.array([i for n in range(1, 100) for i in (n, BOUNDARY_ID)], dtype=np.int32)
    stream = DocumentBatches(ids, 1, 8, seed=0)
    first, second = ([targets[0] for _, targets in an_epoch(stream, epoch)] for epoch in (0, 1))
    assert first != second != sorted(second)
    assert stream.seq_len == 2  # and a window is no longer than they are


uneven_lengths = st.lists(st.one_of(st.integers(1, 12), st.integers(200, 2000)), min_size=1, max_size=30)


@laws
@given(uneven_lengths, st.integers(1, 8), st.integers(1, 6), st.integers(0, 3))
def test_long_documents_are_divided_and_every_token_is_a_target_once(lengths, batch_size, seq_len, epoch):
    ids = np.array([i for length in lengths for i in [*range(1, length + 1), BOUNDARY_ID]], dtype=np.int32)
    numbers = np.where(ids == BOUNDARY_ID, 0, np.arange(1, len(ids) + 1)).astype(np.int32)  # a token id for each place
    stream = DocumentBatches(numbers, batch_size, seq_len, seed=1)
    position, targets, before = Position(epoch), [], dict.fromkeys(range(stream.batch_size))
    while position.epoch == epoch:
        batch = stream.get_batch(position)
        for row in range(stream.batch_size):
            inside = batch.targets[:, row] != NO_TARGET
            inputs, read = batch.inputs[inside, row].tolist(), batch.targets[inside, row].tolist()
            for first, following in zip(inputs, read, strict=True):
                assert following == BOUNDARY_ID or first == BOUNDARY_ID or following == first + 1
            if inside.any() and not batch.reset[row]:
                assert inputs[0] == before[row]
            before[row] = read[-1] if read else None
            targets += read
        position = stream.next_position(position)
    assert sorted(targets) == sorted(numbers.tolist())


@pytest.mark.parametrize(
    "lengths",
    [
        [1_000_000, 10_000, 10_000],
        [100_000, *[100] * 20_000],
        [40_000] * 7,
        [*range(1, 400)],
        [30_000, 20_000, *[5] * 300_000],
        [24_000] * 33,
        [24_000] * 40,
        [24_000] * 100,
    ],
    ids=["one long", "a book and names", "seven books", "all lengths", "books and words", "33", "40", "100"],
)
def test_rows_of_uneven_documents_have_nearly_the_same_number_of_windows(lengths):
    ids = np.concatenate([np.r_[np.ones(length, dtype=np.int32), BOUNDARY_ID] for length in lengths])
    stream = DocumentBatches(ids, 64, 24, seed=0)
    assert stream.batch_size == 64
    for epoch in (0, 1):
        rows = np.diff(stream._layout(epoch).row_starts)
        assert rows.max() <= 1.07 * rows.mean() + 1 or rows.max() <= MIN_ROW_WINDOWS
        assert np.count_nonzero(rows == 0) <= 1
        assert rows.max() <= 1.02 * stream.windows_per_epoch + 1


def test_a_document_beside_a_tiny_one_is_divided():
    ids = np.concatenate([np.r_[np.ones(length, dtype=np.int32), BOUNDARY_ID] for length in (9999, 9)])
    stream = DocumentBatches(ids, 2, 10, seed=0)
    assert sorted(np.diff(stream._layout(0).row_starts).tolist()) == [500, 501]


def test_few_short_documents_are_not_divided():
    ids = np.concatenate([np.r_[np.ones(length, dtype=np.int32), BOUNDARY_ID] for length in (90, 20, 300, 150)])
    stream = DocumentBatches(ids, 64, 10, seed=0)
    assert stream.batch_size == 4
    assert sorted(np.diff(stream._layout(0).row_starts).tolist()) == [3, 10, 16, 31]
    assert stream.windows_per_epoch == 31
