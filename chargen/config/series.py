"""The settings of a network that continues a series (`networks/series_network.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from chargen.config.base import DROPOUT_RATE, Config
from chargen.config.model import MAX_LAYER_SIZE, MAX_LAYERS
from chargen.errors import ConfigError
from chargen.schema import Integer, Spec, String

MAX_COLUMNS = 1000
MAX_WINDOW = 10_000  #: limit of the history and of the horizon, in steps
MAX_MAP_WEIGHTS = 1 << 26  #: limit of the weights of the linear map
QUANTILES, GAUSSIAN = OUTPUTS = ("quantiles", "gaussian")  #: what describes a forecast beside its center


@dataclass(frozen=True)
class SeriesConfig(Config):
    """The architecture of a network for series."""

    num_columns: int  #: number of columns that the network reads C; the first ones are forecast
    num_targets: int  #: number of columns that are forecast K
    num_calendar: int  #: number of calendar features of a step
    history: int  #: steps that the network reads T
    horizon: int  #: steps that the network forecasts F
    output: str = QUANTILES  #: "quantiles": two widths for each value; "gaussian": one width, a standard deviation
    cell: str = "gru"  #: name of the recurrent cell in the registry `cells.CELLS`
    num_layers: int = 1
    hidden_size: int = 64  #: units of a layer, and of the hidden layer of the head H
    dropout: float = 0.0  #: dropout rate of the output of each recurrent layer, in training

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "num_columns": Integer(1, MAX_COLUMNS),
        "num_targets": Integer(1, MAX_COLUMNS),
        "num_calendar": Integer(0, MAX_COLUMNS),
        "history": Integer(1, MAX_WINDOW),
        "horizon": Integer(1, MAX_WINDOW),
        "output": String(choices=OUTPUTS),
        "cell": String(100),
        "num_layers": Integer(1, MAX_LAYERS),
        "hidden_size": Integer(1, MAX_LAYER_SIZE),
        "dropout": DROPOUT_RATE,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_targets > self.num_columns:
            raise ConfigError(f"{self.num_targets:,} targets are more than the {self.num_columns:,} columns")
        if self.num_linear_inputs * self.num_values > MAX_MAP_WEIGHTS:
            raise ConfigError(
                f"{self.num_linear_inputs:,} inputs and {self.num_values:,} forecast values would need a linear map of "
                f"more than {MAX_MAP_WEIGHTS:,} weights",
                "Use a shorter --history or --horizon, or fewer columns.",
            )

    def __str__(self) -> str:
        """Return a short description: "gru 1×64, 24 steps → 1 step"."""
        steps = f"{self.history:,} → {self.horizon:,} steps"
        return f"{self.cell} {self.num_layers}×{self.hidden_size}, {steps}"

    @property
    def num_linear_inputs(self) -> int:
        """The number of inputs of the linear map: all columns at all steps, and the calendar of the last step."""
        return self.history * self.num_columns + self.num_calendar

    @property
    def num_values(self) -> int:
        """The number of values that are forecast at once, F·K."""
        return self.horizon * self.num_targets

    @property
    def num_widths(self) -> int:
        """The number of widths of the interval of each value."""
        return 2 if self.output == QUANTILES else 1
