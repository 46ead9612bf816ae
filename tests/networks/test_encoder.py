"""The bidirectional encoder: against torch.nn, without influence of padding, for every cell."""

from __future__ import annotations

import pytest
import torch

from chargen.cells import CELLS
from chargen.networks.encoder import Encoder, EncoderConfig, encoder_shapes

LENGTHS = torch.tensor([9, 1, 5, 2])


def random_encoder(cell: str = "gru", num_layers: int = 2) -> Encoder:
    config = EncoderConfig(
        vocab_size=11, num_labels=3, cell=cell, num_layers=num_layers, hidden_size=6, embedding_dim=5
    )
    return Encoder(config, torch.Generator().manual_seed(0)).double()


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
    torch.testing.assert_close(encoder(ids, LENGTHS), torch.stack(rows), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("cell", CELLS.names())
def test_padding_and_the_other_texts_of_a_batch_have_no_influence(cell: str) -> None:
    encoder, ids = random_encoder(cell), random_ids()
    expected = encoder(ids, LENGTHS)
    changed = torch.where(torch.arange(9)[:, None] < LENGTHS, ids, random_ids(2))
    torch.testing.assert_close(encoder(changed, LENGTHS), expected)
    for b, length in enumerate(LENGTHS.tolist()):
        alone = encoder(ids[:length, b : b + 1], LENGTHS[b : b + 1])
        torch.testing.assert_close(alone[0], expected[b])


def test_each_output_depends_on_the_whole_text() -> None:
    encoder, ids = random_encoder(), random_ids()
    first, last = ids.clone(), ids.clone()
    first[0] = (first[0] + 1) % 11
    last[-1, 0] = (last[-1, 0] + 1) % 11
    expected = encoder(ids, LENGTHS)
    assert not torch.isclose(encoder(first, LENGTHS), expected).any(dim=1).all()
    assert not torch.equal(encoder(last, LENGTHS)[0], expected[0])
    torch.testing.assert_close(encoder(last, LENGTHS)[1:], expected[1:])


def test_weights_are_exported_and_imported() -> None:
    encoder, other = random_encoder(), Encoder(random_encoder().config).double()
    other.import_weights(encoder.export_weights())
    assert set(encoder.export_weights()) == set(encoder_shapes(encoder.config))
    torch.testing.assert_close(other(random_ids(), LENGTHS), encoder(random_ids(), LENGTHS))
