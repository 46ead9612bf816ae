"""B lanes over one text in windows of T: nothing lost, nothing twice, and what continues continues."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.data.batches import Batch, Position, TextBatches
from chargen.data.token_store import write_store
from chargen.errors import CorpusError

laws = settings(deadline=None)
START = 1_000_000  #: what the text begins after; no place of it


@st.composite
def streams(draw, most: int = 150) -> TextBatches:
    """A stream over ids that are their own places, so that every id says where it comes from."""
    N = draw(st.integers(1, most))
    return TextBatches(np.arange(N), START, draw(st.integers(1, 10)), draw(st.integers(1, 25)))


def positions(stream: TextBatches, epochs: int) -> list[Position]:
    return [Position(e, w) for e in range(epochs) for w in range(stream.windows_per_epoch)]


def batches(stream: TextBatches, epochs: int) -> list[Batch]:
    return [stream.batch(position) for position in positions(stream, epochs)]


def lane(read: list[Batch], b: int) -> list[int]:
    """The targets of lane b, put end to end."""
    return [int(i) for batch in read for i in batch.targets[:, b]]


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(x, y) for x, y in [(a.inputs, b.inputs), (a.targets, b.targets), (a.fresh, b.fresh)])


# ── what a batch holds ────────────────────────────────────────────────────────


@laws
@given(streams(), st.integers(0, 3))
def test_the_lanes_put_end_to_end_are_the_text_but_for_the_stated_remainder(stream, epoch):
    read = [stream.batch(Position(epoch, w)) for w in range(stream.windows_per_epoch)]
    lanes = [lane(read, b) for b in range(stream.batch_size)]
    turned = [lanes[(part - epoch) % stream.batch_size] for part in range(stream.batch_size)]
    N = len(stream._ids)
    assert [i for one in turned for i in one] == list(range(stream.ids_per_epoch))
    assert N - stream.ids_per_epoch == N % stream.batch_size


@laws
@given(streams(), st.integers(0, 12))
def test_targets_are_inputs_moved_by_one(stream, epoch):
    for w in range(stream.windows_per_epoch):
        batch = stream.batch(Position(epoch, w))
        assert batch.inputs.shape == batch.targets.shape == (len(batch.targets), stream.batch_size)
        assert (batch.inputs[1:] == batch.targets[:-1]).all()
        assert (batch.inputs == np.where(batch.targets == 0, START, batch.targets - 1)).all()


@laws
@given(streams())
def test_window_lengths_differ_by_at_most_one_and_never_exceed_what_was_asked(stream):
    lengths = {len(batch.targets) for batch in batches(stream, 1)}
    assert max(lengths) - min(lengths) <= 1
    assert stream.seq_len == max(lengths)


@laws
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 40))
def test_no_window_is_longer_than_asked_and_there_are_no_more_of_them_than_that_takes(N, B, T):
    stream = TextBatches(np.arange(N), START, B, T)
    assert 1 <= stream.seq_len <= T
    assert stream.windows_per_epoch == -(-stream.lane_len // T)


@laws
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 40))
def test_there_are_as_many_lanes_as_asked_unless_the_text_is_too_short_for_them(N, B, T):
    stream = TextBatches(np.arange(N), START, B, T)
    if N >= B * T:
        assert stream.batch_size == B
    else:
        assert stream.batch_size == max(1, N // T)
    assert stream.lane_len == N // stream.batch_size
    assert stream.lane_len >= min(N, T)


# ── what continues ────────────────────────────────────────────────────────────


@laws
@given(streams(most=60))
def test_a_lane_goes_on_where_it_stopped_unless_it_is_fresh(stream):
    for before, after in pairwise(batches(stream, 2 * stream.batch_size + 1)):
        goes_on = after.inputs[0] == before.targets[-1]
        assert (goes_on == ~after.fresh).all()


@laws
@given(streams(most=60))
def test_fresh_are_all_lanes_at_the_very_first_and_later_only_those_at_the_texts_beginning(stream):
    first, *rest = batches(stream, 2 * stream.batch_size + 1)
    assert first.fresh.all()
    for batch in rest:
        assert (batch.fresh == (batch.targets[0] == 0)).all()
        assert (batch.inputs[0][batch.fresh] == START).all()
    # In every epoch exactly one lane begins the text again.
    assert sum(int(batch.fresh.sum()) for batch in rest) == 2 * stream.batch_size


@laws
@given(streams(most=60))
def test_from_where_it_is_fresh_every_lane_reads_the_whole_text_in_order(stream):
    B = stream.batch_size
    read = batches(stream, 2 * B)
    for b in range(B):
        begin = (-b % B) * stream.lane_len  # the epoch in which lane b reads the first part
        assert lane(read, b)[begin : begin + stream.ids_per_epoch] == list(range(stream.ids_per_epoch))


# ── positions ─────────────────────────────────────────────────────────────────


@laws
@given(streams(most=60), st.randoms(use_true_random=False))
def test_a_batch_does_not_depend_on_the_ones_read_before_it(stream, draw):
    places = positions(stream, stream.batch_size + 1)
    in_order = {place: stream.batch(place) for place in places}
    draw.shuffle(places)
    assert all(same(stream.batch(place), in_order[place]) for place in places)


@laws
@given(streams(most=60))
def test_the_position_after_walks_through_every_window_of_every_epoch(stream):
    expected = positions(stream, 3)
    walked = [Position()]
    while len(walked) < len(expected):
        walked.append(stream.after(walked[-1]))
    assert walked == expected


@laws
@given(streams(), st.integers(0, 3))
def test_ids_before_counts_the_targets_of_the_windows_before(stream, epoch):
    so_far = 0
    for w in range(stream.windows_per_epoch):
        assert stream.ids_before(Position(epoch, w)) == so_far
        so_far += stream.batch(Position(epoch, w)).targets.size
    assert so_far == stream.ids_per_epoch


# ── what it takes and gives ───────────────────────────────────────────────────


@pytest.mark.parametrize("vocab_size", [200, 30_000, 100_000])
def test_ids_on_disk_give_the_batches_of_ids_in_memory(tmp_path, vocab_size):
    ids = np.random.default_rng(0).integers(0, vocab_size, 500)
    mapped = write_store(tmp_path / "x.ids", [ids], vocab_size, {}).ids
    in_memory, on_disk = (TextBatches(i, 3, 4, 7) for i in (ids, mapped))
    for place in positions(in_memory, 5):
        batch = on_disk.batch(place)
        assert same(batch, in_memory.batch(place))
        assert (batch.inputs.dtype, batch.targets.dtype, batch.fresh.dtype) == (np.int64, np.int64, np.bool_)


def test_the_ids_are_not_touched_through_a_batch():
    ids = np.arange(20)
    batch = TextBatches(ids, START, 2, 5).batch(Position(0, 1))
    batch.inputs[:] = -1
    batch.targets[:] = -1
    assert ids.tolist() == list(range(20))


def test_no_ids_are_refused():
    with pytest.raises(CorpusError, match="nothing to train on") as caught:
        TextBatches(np.empty(0, dtype=np.int32), START, 4, 8)
    assert caught.value.hint


def test_one_id_is_one_window_of_one_lane():
    batch = TextBatches(np.array([7]), START, 4, 8).batch(Position())
    assert (batch.inputs.tolist(), batch.targets.tolist(), batch.fresh.tolist()) == ([[START]], [[7]], [True])
