"""The bidirectional encoder: against torch.nn, without influence of padding, for every cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chargen.cells import CELLS
from chargen.errors import ConfigError
from chargen.networks.encoder import BAG_TABLE, POOLINGS, Encoder, EncoderBatch, EncoderConfig, encoder_shapes

LENGTHS = torch.tensor([9, 1, 5, 2])


def random_encoder(cell: str = "gru", num_layers: int = 2, pooling: str = "meanmax", ngrams: int = 0) -> Encoder:
    config = EncoderConfig(
        vocab_size=11, num_labels=3, cell=cell, num_layers=num_layers, hidden_size=6, embedding_dim=5, pooling=pooling,
        ngrams=ngrams, ngram_rows=16, ngram_dim=4,
    )  # fmt: skip
    return Encoder(config, torch.Generator().manual_seed(0)).double()


def batch(ids: torch.Tensor, lengths: torch.Tensor = LENGTHS) -> EncoderBatch:
    """Texts without n-grams."""
    num_texts = len(lengths)
    none = torch.zeros(0, dtype=torch.int64)
    return EncoderBatch(ids, lengths, none, none.float(), torch.zeros(num_texts, dtype=torch.int64))


def random_ids(seed: int = 1) -> torch.Tensor:
    return torch.randint(11, (9, 4), generator=torch.Generator().manual_seed(seed))


def test_it_equals_the_bidirectional_gru_of_torch() -> None:
    encoder, ids = random_encoder(), random_ids()
    gru = torch.nn.GRU(5, 6, num_layers=2, bidirectional=True).double()
    for layer in range(2):
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                weight = encoder.get_parameter(f"layers__{layer}__{direction}__{name}")
                getattr(gru, f"{name}_l{layer}{suffix}").data.copy_(weight)
    embedded = encoder.get_parameter("embedding__weight")[ids]
    packed = torch.nn.utils.rnn.pack_padded_sequence(embedded, LENGTHS, enforce_sorted=False)
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(gru(packed)[0])
    rows = []
    for b, length in enumerate(LENGTHS.tolist()):
        text = outputs[:length, b]
        pooled = torch.cat([text.mean(0), text.amax(0)])
        rows.append(encoder.get_parameter("head__weight") @ pooled + encoder.get_parameter("head__bias"))
    torch.testing.assert_close(encoder(batch(ids)), torch.stack(rows), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(
    ("cell", "pooling"), [*((cell, "meanmax") for cell in CELLS.names()), *(("gru", name) for name in POOLINGS)]
)
def test_padding_and_the_other_texts_of_a_batch_have_no_influence(cell: str, pooling: str) -> None:
    encoder, ids = random_encoder(cell, pooling=pooling), random_ids()
    expected = encoder(batch(ids))
    changed = torch.where(torch.arange(9)[:, None] < LENGTHS, ids, random_ids(2))
    torch.testing.assert_close(encoder(batch(changed)), expected)
    for b, length in enumerate(LENGTHS.tolist()):
        alone = encoder(batch(ids[:length, b : b + 1], LENGTHS[b : b + 1]))
        torch.testing.assert_close(alone[0], expected[b])


def test_each_output_depends_on_the_whole_text() -> None:
    encoder, ids = random_encoder(), random_ids()
    first, last = ids.clone(), ids.clone()
    first[0] = (first[0] + 1) % 11
    last[-1, 0] = (last[-1, 0] + 1) % 11
    expected = encoder(batch(ids))
    assert not torch.isclose(encoder(batch(first)), expected).any(dim=1).all()
    assert not torch.equal(encoder(batch(last))[0], expected[0])
    torch.testing.assert_close(encoder(batch(last))[1:], expected[1:])


def test_weights_are_exported_and_imported() -> None:
    encoder, other = random_encoder(), Encoder(random_encoder().config).double()
    other.import_weights(encoder.export_weights())
    assert set(encoder.export_weights()) == set(encoder_shapes(encoder.config))
    torch.testing.assert_close(other(batch(random_ids())), encoder(batch(random_ids())))


def test_poolings_follow_their_formulas() -> None:
    ids = random_ids()
    outputs, _ = random_encoder()._read(batch(ids), None)
    for name in POOLINGS:
        encoder = random_encoder(pooling=name)
        encoder.import_weights({**encoder.export_weights(), **shared_weights(random_encoder(), encoder)})
        for b, length in enumerate(LENGTHS.tolist()):
            text = outputs[:length, b]
            forward, backward = text[:, :6], text[:, 6:]
            if name == "attention":
                weights = (text @ encoder.get_parameter("attention__weight")[0]).softmax(0)
                expected = weights @ text
            else:
                expected = {
                    "last": torch.cat([forward[-1], backward[0]]),
                    "mean": text.mean(0),
                    "max": text.amax(0),
                    "meanmax": torch.cat([text.mean(0), text.amax(0)]),
                }[name]
            head, bias = encoder.get_parameter("head__weight"), encoder.get_parameter("head__bias")
            torch.testing.assert_close(encoder(batch(ids))[b], head @ expected + bias)


def shared_weights(source: Encoder, target: Encoder) -> dict[str, np.ndarray]:
    """The weights of an encoder that another one with another pooling also has."""
    names = encoder_shapes(target.config)
    return {
        name: w for name, w in source.export_weights().items() if name.startswith(("emb", "layers")) and name in names
    }


def test_the_ngrams_are_a_weighted_sum_that_is_mixed_with_the_recurrent_layers() -> None:
    encoder, ids = random_encoder(ngrams=2), random_ids()
    weights = encoder.export_weights()
    assert not weights[BAG_TABLE].any()  # an n-gram that was never trained says nothing
    rng = np.random.default_rng(0)
    weights[BAG_TABLE] = rng.normal(size=weights[BAG_TABLE].shape).astype(np.float32)
    weights["mix"] = np.array([0.25], dtype=np.float32)
    encoder.import_weights(weights)
    rows, amounts = torch.tensor([3, 5, 5, 7, 1]), torch.tensor([0.5, 1.0, 2.0, 1.0, 3.0])
    texts = EncoderBatch(ids, LENGTHS, rows, amounts, torch.tensor([0, 2, 2, 4]))  # the second text has none
    recurrent, bag = encoder.part_logits(texts)
    table = torch.from_numpy(weights[BAG_TABLE]).double()
    sums = torch.stack([0.5 * table[3] + table[5], 0 * table[0], 2 * table[5] + table[7], 3 * table[1]])
    torch.testing.assert_close(bag, sums @ encoder.get_parameter("ngrams__head").T)
    torch.testing.assert_close(encoder(texts), 0.25 * recurrent + 0.75 * bag)


def test_the_table_of_the_ngrams_has_a_sparse_gradient() -> None:
    encoder = random_encoder(ngrams=2)
    rows, starts = torch.tensor([3, 5, 7, 1]), torch.arange(4)
    encoder(EncoderBatch(random_ids(), LENGTHS, rows, torch.ones(4), starts)).sum().backward()  # type: ignore[no-untyped-call]
    gradient = encoder.get_parameter("ngrams__weight").grad
    assert gradient is not None
    assert gradient.is_sparse
    assert sorted(gradient._indices()[0].tolist()) == [1, 3, 5, 7]


@pytest.mark.parametrize("change", [{"pooling": "sum"}, {"ngram_rows": 100}, {"ngrams": 17}, {"hidden_size": 0}])
def test_settings_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        EncoderConfig(**{"vocab_size": 5, "num_labels": 2, **change})  # type: ignore[arg-type]
