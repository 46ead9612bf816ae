"""The network for series: it starts as its linear map, its intervals are ordered, and every cell runs in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chargen.cells import CELLS
from chargen.config.series import OUTPUTS, SeriesConfig
from chargen.errors import ConfigError
from chargen.networks.series_network import FITTED, SeriesNetwork, series_shapes

SHAPE = {"num_columns": 3, "num_targets": 2, "num_calendar": 2, "history": 6, "horizon": 4, "hidden_size": 8}


def network(**changes: object) -> SeriesNetwork:
    return SeriesNetwork(SeriesConfig(**{**SHAPE, **changes}), torch.Generator().manual_seed(0))  # type: ignore[arg-type]


def windows(batch: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, batch, 3, generator=generator), torch.randn(6, batch, 2, generator=generator)


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_untrained_network_is_its_linear_map(output: str) -> None:
    net = network(output=output)
    generator = torch.Generator().manual_seed(2)
    linear = torch.randn(8, 6 * 3 + 2, generator=generator)
    net.import_weights({**net.export_weights(), "linear.weight": linear.numpy()})
    values, calendar = windows()
    flat = torch.cat([values.transpose(0, 1).reshape(5, -1), calendar[-1]], dim=1)
    assert torch.allclose(net(values, calendar).center, (flat @ linear.T).view(5, 4, 2), atol=1e-5)


@pytest.mark.parametrize("cell", CELLS.names())
def test_every_cell_runs_and_learns(cell: str) -> None:
    net = network(cell=cell, num_layers=2)
    values, calendar = windows()
    forecast = net(values, calendar)
    assert all(part.shape == (5, 4, 2) for part in forecast)
    assert (forecast.low_width > 0).all()
    assert (forecast.high_width > 0).all()
    with torch.no_grad():
        net.get_parameter("head__output__weight").fill_(0.1)
    net(values, calendar).center.square().sum().backward()
    for name in series_shapes(net.config):
        if name not in FITTED:
            gradient = net.get_parameter(name.replace(".", "__")).grad
            assert gradient is not None and torch.isfinite(gradient).all(), name  # noqa: PT018


def test_the_batch_does_not_change_a_forecast() -> None:
    net = network()
    values, calendar = windows()
    together = net(values, calendar)
    for row in range(5):
        alone = net(values[:, row : row + 1], calendar[:, row : row + 1])
        for part, whole in zip(alone, together, strict=True):
            assert torch.allclose(part[0], whole[row], atol=1e-5)


def test_weights_survive_export_and_import() -> None:
    first, second = network(), SeriesNetwork(SeriesConfig(**SHAPE), torch.Generator().manual_seed(9))  # type: ignore[arg-type]
    second.import_weights(first.export_weights())
    for name, weight in first.export_weights().items():
        assert np.array_equal(weight, second.export_weights()[name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_targets": 4}, "more than the 3 columns"),
        ({"history": 10_000, "num_columns": 1000, "horizon": 1000}, "linear map"),
        ({"output": "point"}, "one of quantiles, gaussian"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SeriesConfig(**{**SHAPE, **changes})  # type: ignore[arg-type]
