"""The settings of a forecaster: which columns of a file it reads and forecasts, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from chargen.config import MAX_SECONDS, Config
from chargen.config.series import MAX_COLUMNS, MAX_WINDOW, OUTPUTS, QUANTILES
from chargen.errors import ConfigError
from chargen.schema import Integer, ListOf, Nullable, Number, Spec, String

DIRECT, RECURSIVE = STRATEGIES = ("direct", "recursive")

FILLS = ("linear", "previous")


NAMES = ListOf(String(), 0, MAX_COLUMNS)


@dataclass(frozen=True)
class ForecastConfig(Config):
    """What is forecast, from what, and how the file of a series is read."""

    targets: tuple[str, ...]  #: columns that are forecast
    inputs: tuple[str, ...] = ()  #: further columns that the network reads; they are known in the past only
    history: int = 24  #: steps that a forecast is made from
    horizon: int = 1  #: steps that are forecast
    strategy: str = DIRECT  #: "direct": all steps at once; "recursive": one step after another, each read as a value
    output: str = QUANTILES  #: "quantiles" or "gaussian": how the network describes the interval
    coverage: float = 0.9  #: share of the values that the interval is to contain
    calendar: tuple[str, ...] = ()  #: names of the calendar features, see `calendar.py`
    step_s: float | None = None  #: distance of two rows in time, in seconds; None without times
    time: str | None = None  #: column of the time; None: found
    group: str | None = None  #: column that separates several series in one file
    where: tuple[str, ...] = ()  #: "COLUMN=VALUE": only these rows are read
    fill: str | None = None  #: how missing values are filled

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "targets": ListOf(String(), 1, MAX_COLUMNS),
        "inputs": NAMES,
        "history": Integer(1, MAX_WINDOW),
        "horizon": Integer(1, MAX_WINDOW),
        "strategy": String(choices=STRATEGIES),
        "output": String(choices=OUTPUTS),
        "coverage": Number(0.01, 0.999),
        "calendar": NAMES,
        "step_s": Nullable(Number(0.0, MAX_SECONDS, exclusive_low=True)),
        "time": Nullable(String()),
        "group": Nullable(String()),
        "where": NAMES,
        "fill": Nullable(String(choices=FILLS)),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("targets", "inputs", "calendar", "where"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        columns = [*self.targets, *self.inputs]
        for column in columns:
            if columns.count(column) > 1:
                raise ConfigError(f"the column {column!r} is given twice", "Name each column once.")
        if self.strategy == RECURSIVE and self.inputs:
            raise ConfigError(
                f"a recursive forecast cannot read {self.inputs[0]!r}: its future values are not known",
                "Forecast that column, too (--column), or use --strategy direct.",
            )

    @property
    def num_direct_steps(self) -> int:
        """The number of steps that the network forecasts at once."""
        return self.horizon if self.strategy == DIRECT else 1

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a dict of JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in super().to_json().items()}
