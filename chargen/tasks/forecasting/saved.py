"""The file of a forecaster: `checkpoints/NAME/forecaster.safetensors`, and what is checked before anything is built.

header    {"kind": "forecaster", "forecast": ForecastConfig, "network": SeriesConfig, "about": how good it is}
tensors   network.NAME (`series_network.py`): float16, and float32 for vectors and the linear map, because rounding the
          map made the error on a series without noise 640 times as large; float64: scaling.mean, scaling.std [C],
          factors [F, K], and levels.k [L] of the targets that are rounded
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chargen.cells.weights import find_invalid_weight
from chargen.checkpoint import STORAGE_VERSION, TensorFile, open_tensors, save_tensors
from chargen.config import FLOAT16
from chargen.config.series import SeriesConfig
from chargen.errors import KINDS, ConfigError, ModelError, WrongKindError
from chargen.folders import checkpoints_folder
from chargen.networks.series_network import FITTED, SeriesNetwork, series_shapes
from chargen.networks.torch_runtime import resolve_device
from chargen.registry import did_you_mean
from chargen.runs import find_classifier, find_forecaster, find_model, list_forecaster_files
from chargen.schema import Integer, ListOf, Number, Record, Spec, String, format_value
from chargen.storage.stored_weights import StoredWeights, Tensors, describe_weights, pack_weights
from chargen.tasks.forecasting.forecaster import MAX_LEVELS, Forecaster
from chargen.tasks.forecasting.settings import ForecastConfig
from chargen.tasks.forecasting.windows import Scaling

KIND = "forecaster"
NETWORK = "network."  #: prefix of the names of the weights of the network
LEVELS = "levels."  #: prefix of the names of the levels
MAX_LAYER_WEIGHTS = 100  #: a cell has at most this number of weights


class NumberByColumn(Spec):
    """An object with a number for each column."""

    def check(self, value: Any, name: str) -> None:
        """Check that all values are numbers."""
        Record().check(value, name)
        for column, number in value.items():
            Number().check(number, f"{name}.{column}")


NUMBERS = NumberByColumn()
METHOD = Record({"method": String(), "mae": NUMBERS, "rmse": NUMBERS}, {"coverage": NUMBERS})
ABOUT = Record(optional={"held_out": Record({"methods": ListOf(METHOD, 1, 100)}), "step": Integer()})
HEADER_SPEC: Spec = Record(
    {"kind": String(choices=(KIND,)), "forecast": Record(), "network": Record()}, {"about": ABOUT}
)


def save_forecaster(path: Path, forecaster: Forecaster) -> None:
    """Write the file of a forecaster atomically.

    Raises:
        StorageError: If it cannot be written. An existing file is then unchanged.
    """
    tensors = pack_weights(forecaster.network.export_weights(), FLOAT16, exact=FITTED)
    weights = {f"{NETWORK}{name}": value for name, value in tensors.items()}
    scaling = {"scaling.mean": forecaster.scaling.mean, "scaling.std": forecaster.scaling.std}
    header = {
        "kind": KIND,
        "forecast": forecaster.config.to_json(),
        "network": forecaster.network.config.to_json(),
        "about": forecaster.about,
    }
    levels = {f"{LEVELS}{k}": each for k, each in enumerate(forecaster.levels) if each is not None}
    save_tensors(path, {**weights, **scaling, **levels, "factors": forecaster.factors}, header, STORAGE_VERSION)


def load_forecaster(name: str, root: Path | None = None, device: str = "auto") -> Forecaster:
    """Open a forecaster.

    Args:
        name: Its name, the folder of its run, or its file.
        root: Folder of the runs; None for `checkpoints_folder()`.
        device: Device for torch, as for `chargen.load`.

    Raises:
        WrongKindError: If it is another kind of model.
        ModelError: If there is no such forecaster, or its file is damaged.
        DeviceError: If this machine has no such device.
    """
    root = root or checkpoints_folder()
    path = find_forecaster(name, root)
    if path is None:
        _refuse_other_kinds(name, root)
        known = [each.parent.name for each in list_forecaster_files(root)]
        hint = did_you_mean(name, known) or "Train one: chargen forecast --train FILE --column COLUMN"
        raise ModelError(f"no forecaster named {format_value(name)} under {root}/", hint)
    return read_forecaster(path, device)


def _refuse_other_kinds(name: str, root: Path) -> None:
    """Raise an error that names the right command if there is another kind of model with this name.

    Raises:
        WrongKindError: If there is one.
    """
    is_classifier = find_classifier(name, root) is not None
    try:
        find_model(name, root)
    except ModelError:
        if is_classifier:
            raise
        return
    raise WrongKindError.of(name, "language model")


def read_forecaster(path: Path, device: str = "auto") -> Forecaster:
    """Read and check the file of a forecaster.

    Raises:
        WrongKindError: If it is the file of another kind of model.
        ModelError: If it is missing, damaged or not a forecaster.
        DeviceError: If this machine has no such device.
    """
    device = resolve_device(device)
    with open_tensors(path) as file:
        try:
            forecast, config, tensors = _read(path, file)
            about = file.metadata.get("about", {})
        except ConfigError as error:
            raise ModelError(f"{path} cannot be used: {error.message}", "Train the forecaster again.") from error
    network = SeriesNetwork(config).to(device)
    network.import_weights({name: tensors[f"{NETWORK}{name}"] for name in series_shapes(config)})
    scaling = Scaling(tensors["scaling.mean"], tensors["scaling.std"])
    levels = tuple(tensors.get(f"{LEVELS}{k}") for k in range(len(forecast.targets)))
    return Forecaster(forecast, network, scaling, tensors["factors"], about, levels)


def read_header(path: Path) -> tuple[ForecastConfig, SeriesConfig, int, dict[str, Any]]:
    """Return (what is forecast, the network, its number of weights, how good it is) from the file of a forecaster.

    Raises:
        ModelError: If it is missing, damaged or not a forecaster.
    """
    with open_tensors(path) as file:
        try:
            forecast, config, tensors = _read(path, file)
            num_weights = sum(value.size for name, value in tensors.items() if name.startswith(NETWORK))
            return forecast, config, num_weights, file.metadata.get("about", {})
        except ConfigError as error:
            raise ModelError(f"{path} cannot be used: {error.message}", "Train the forecaster again.") from error


def _read(path: Path, file: TensorFile) -> tuple[ForecastConfig, SeriesConfig, Tensors]:
    """Check the header of a file before anything is built from it, and read its tensors."""
    metadata = file.metadata
    kind = metadata.get("kind", "language model" if "tokenizer" in metadata else KIND)
    if kind != KIND and kind in KINDS:
        raise WrongKindError.of(path, kind)
    HEADER_SPEC.check(metadata, "header")
    forecast, config = ForecastConfig.from_json(metadata["forecast"]), SeriesConfig.from_json(metadata["network"])
    columns = len(forecast.targets) + len(forecast.inputs)
    described = (columns, len(forecast.targets), forecast.history, forecast.num_direct_steps, forecast.output)
    if described != (config.num_columns, config.num_targets, config.history, config.horizon, config.output):
        raise ConfigError("its network does not have the columns, steps or output that it describes")
    most = 11 + len(forecast.targets) + MAX_LAYER_WEIGHTS * config.num_layers
    if not config.num_layers <= len(file.tensors) <= most:
        raise ConfigError(f"it has {len(file.tensors):,} weights, which do not fit {config}")
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        f"{NETWORK}{name}": ("F32", shape) for name, shape in series_shapes(config).items()
    }
    C, F, K = columns, forecast.horizon, len(forecast.targets)
    expected |= {"scaling.mean": ("F64", (C,)), "scaling.std": ("F64", (C,)), "factors": ("F64", (F, K))}
    found: dict[str, tuple[str, tuple[int, ...]]] = {**describe_weights(file.tensors, {})}
    for k in range(K):
        if (name := f"{LEVELS}{k}") in found:
            num_levels = found[name][1][0] if len(found[name][1]) == 1 else 0
            expected[name] = ("F64", (min(max(2, num_levels), MAX_LEVELS),))
    for name in {*expected, *found}:
        if expected.get(name) != found.get(name):
            raise ConfigError(f"the weight {format_value(name)} does not fit {config}")
    tensors = dict(StoredWeights(file.read(), {}))
    _check_values(tensors)
    return forecast, config, tensors


def _check_values(tensors: Mapping[str, np.ndarray]) -> None:
    """Check that the weights are finite, and the scales positive.

    Raises:
        ConfigError: If they are not.
    """
    problem = find_invalid_weight((name, t) for name, t in tensors.items() if not name.startswith(("scaling.", LEVELS)))
    if problem:
        raise ConfigError(problem)
    for name, levels in tensors.items():
        if name.startswith(LEVELS) and not (np.isfinite(levels).all() and (np.diff(levels) > 0).all()):
            raise ConfigError(f"the tensor {name!r} does not hold ascending finite numbers")
    for name in ("scaling.mean", "scaling.std", "factors", f"{NETWORK}scale", f"{NETWORK}difference_scale"):
        values = tensors[name]
        if not np.isfinite(values).all() or (name != "scaling.mean" and not (values > 0).all()):
            raise ConfigError(f"the tensor {name!r} holds a value that is not a positive finite number")
