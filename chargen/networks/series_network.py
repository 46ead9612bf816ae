"""A network that continues a series: the last T steps [T, B, C] → the next F steps [B, F, K], each with an interval.

    window ─┬▶ recurrent layers ─▶ last output ─┬▶ hidden layer ─▶ correction, widths of the interval
            ├───────────────────────────────────┘                        │
            └▶ linear map, fitted by least squares ──────────────────────┴▶ center, low width, high width

The linear map is a linear autoregression, and is not trained further. The network learns what it leaves: the weights of
the correction start at zero, so that an untrained network already is the linear autoregression. All outputs are scaled
by the size of the errors of the linear map, so that a loss has the same meaning for each step and column.

A recurrent layer reads the standardized columns, the difference of each value to the last value of its column, and the
calendar features. The differences make the level of a series irrelevant where only its changes matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F

from chargen.cells import CELLS
from chargen.config.series import QUANTILES, SeriesConfig
from chargen.networks.draws import Draws
from chargen.networks.layers import Dense, Params, choose_backend
from chargen.networks.network import locked_dropout
from chargen.networks.task_network import TaskNetwork

#: the weights that least squares determine; the loop does not train them
FITTED = ("linear.weight", "linear.bias", "scale", "difference_scale")


class SeriesForecast(NamedTuple):
    """Forecasts [B, F, K] in standardized units: the interval is from center − low_width to center + high_width."""

    center: Tensor
    low_width: Tensor
    high_width: Tensor


def series_shapes(config: SeriesConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight by name: layers.L.NAME, head.…, and those that least squares determine.

    Raises:
        ConfigError: If no cell has the configured name.
    """
    H, V, cell = config.hidden_size, config.num_values, CELLS.get(config.cell)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(config.num_layers):
        inputs = H if layer else 2 * config.num_columns + config.num_calendar
        for name, shape in cell.parameter_shapes(inputs, H).items():
            shapes[f"layers.{layer}.{name}"] = shape
    return {
        **shapes,
        "head.hidden.weight": (H, H + config.num_linear_inputs),
        "head.hidden.bias": (H,),
        "head.output.weight": (V * (1 + config.num_widths), H),
        "head.output.bias": (V * (1 + config.num_widths),),
        "linear.weight": (V, config.num_linear_inputs),
        "linear.bias": (V,),
        "scale": (V,),
        "difference_scale": (config.num_columns,),
    }


class SeriesNetwork(TaskNetwork):
    """The network.

    Args:
        config: Its shape.
        generator: The random generator of the initial weights, on the CPU.
    """

    def __init__(self, config: SeriesConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.cell = config, CELLS.get(config.cell)
        for name, shape in series_shapes(config).items():
            weight, key = self._initial(name, shape, generator), name.replace(".", "__")
            if name in FITTED:
                self.register_buffer(key, weight)
            else:
                self.register_parameter(key, Parameter(weight))

    def forward(self, values: Tensor, calendar: Tensor, draws: Draws | None = None) -> SeriesForecast:
        """Forecast the steps after each window.

        Args:
            values: The standardized columns, [T, B, C]; those that are forecast come first.
            calendar: The calendar features of the same steps, [T, B, D].
            draws: Draws the dropout masks; without it nothing is dropped.
        """
        config = self.config
        B, K = values.shape[1], config.num_targets
        last = values[-1]
        differences = (values - last) / self._weight("difference_scale")
        x = torch.cat([values, differences, calendar], dim=-1)
        for layer in range(config.num_layers):
            x = locked_dropout(self._run(layer, x), config.dropout, draws)
        window = self.linear_inputs(values, calendar)
        linear = self._linear("linear", window).view(B, config.horizon, K)
        relative = torch.cat(
            [differences.transpose(0, 1).flatten(1), window[:, config.history * config.num_columns :]], 1
        )
        hidden = torch.relu(self._linear("head.hidden", torch.cat([x[-1], relative], dim=-1)))
        outputs = self._linear("head.output", hidden).view(B, config.horizon, K, 1 + config.num_widths)
        scale = self.error_scale()
        widths = scale[..., None] * F.softplus(outputs[..., 1:])
        center = linear + scale * outputs[..., 0]
        return SeriesForecast(center, widths[..., 0], widths[..., -1])

    def error_scale(self) -> Tensor:
        """Return the size of the errors of the linear map, [F, K]."""
        return self._weight("scale").view(self.config.horizon, self.config.num_targets)

    def linear_inputs(self, values: Tensor, calendar: Tensor) -> Tensor:
        """Return the inputs of the linear map, [B, T·C + D]: all values, and the calendar of the last step."""
        return torch.cat([values.transpose(0, 1).flatten(1), calendar[-1]], dim=-1)

    def export_weights(self) -> dict[str, np.ndarray]:
        """Return a copy of the weights by name, float32."""
        return {name: self._weight(name).detach().cpu().numpy().copy() for name in series_shapes(self.config)}

    @torch.no_grad()
    def import_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Copy weights with the names and shapes of `series_shapes` into the network."""
        for name in series_shapes(self.config):
            self._weight(name).copy_(torch.from_numpy(np.ascontiguousarray(weights[name])))

    def _run(self, layer: int, x: Tensor) -> Tensor:
        """Run a layer from zeros: [T, B, I] → [T, B, H]."""
        names = self.cell.parameter_shapes(1, 1)
        params: Params = {name: self._weight(f"layers.{layer}.{name}") for name in names}
        state = self.cell.initial_state(torch, (x.shape[1], self.config.hidden_size), dtype=x.dtype, device=x.device)
        return choose_backend(self.config.cell, x.device)(self.cell, params, Dense(x.contiguous()), state)[0]

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weight(f"{name}.weight"), self._weight(f"{name}.bias"))

    def _weight(self, name: str) -> Tensor:
        key = name.replace(".", "__")
        weight: Tensor = self.get_buffer(key) if name in FITTED else self.get_parameter(key)
        return weight

    def _initial(self, name: str, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Draw one weight; the correction starts at zero, and the widths at those of a normal distribution."""

        def uniform(shape: tuple[int, ...]) -> Tensor:
            return torch.rand(shape, generator=generator)

        if name == "head.output.bias":
            deviations = NormalDist().inv_cdf(0.95) if self.config.output == QUANTILES else 1.0
            bias = torch.full((self.config.num_values, 1 + self.config.num_widths), math.log(math.expm1(deviations)))
            bias[:, 0] = 0.0
            return bias.flatten()
        if name in ("scale", "difference_scale"):
            return torch.ones(shape)
        if name == "head.output.weight" or name in FITTED:
            return torch.zeros(shape)
        own = self.cell.initial_weight(torch, name.rpartition(".")[2], shape, uniform) if "layers" in name else None
        if own is not None:
            return torch.as_tensor(own)
        return torch.zeros(shape) if len(shape) == 1 else (2.0 * uniform(shape) - 1.0) / math.sqrt(shape[-1])
