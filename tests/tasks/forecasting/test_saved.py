"""The file of a forecaster: it is read as it was written, and a hostile file gives an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.checkpoint import STORAGE_VERSION, load_tensors, open_tensors, save_tensors
from chargen.errors import ModelError, WrongKindError
from chargen.networks.series_network import FITTED
from chargen.runs import find_model
from chargen.storage.stored_weights import round_weights
from chargen.tasks.forecasting.forecaster import Forecaster
from chargen.tasks.forecasting.saved import load_forecaster, read_forecaster, read_header, save_forecaster
from tests.tasks.forecasting.test_forecaster import F, T, forecaster

Change = Callable[[dict[str, Any], dict[str, np.ndarray]], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    path = tmp_path / "m" / "forecaster.safetensors"
    save_forecaster(path, forecaster(2))
    return path


def predictions(model: Forecaster) -> np.ndarray:
    history = np.random.default_rng(0).normal(size=(3, T, 2))
    return np.stack(model.forecast(history, np.zeros((3, T + F, 0), dtype=np.float32)))


def as_stored(model: Forecaster) -> Forecaster:
    """Return a forecaster with the weights that its file will have."""
    model.network.import_weights(round_weights(model.network.export_weights(), "float16", exact=FITTED))
    return model


def test_a_forecaster_is_read_as_it_was_written(path: Path) -> None:
    exact, stored = forecaster(2), as_stored(forecaster(2))
    assert np.array_equal(predictions(read_forecaster(path)), predictions(stored))
    np.testing.assert_allclose(predictions(stored), predictions(exact), atol=2e-3 * np.abs(predictions(exact)).max())
    tensors, _ = load_tensors(path)
    assert tensors["network.head.hidden.weight"].dtype == np.float16
    np.testing.assert_array_equal(tensors["network.linear.weight"], exact.network.export_weights()["linear.weight"])
    for name in ("m", str(path), str(path.parent)):
        assert load_forecaster(name, path.parent.parent).config == exact.config
    rounded = replace(stored, levels=(np.array([-1.0, 0.5, 4.0]),))
    save_forecaster(path, rounded)
    assert np.array_equal(predictions(read_forecaster(path)), predictions(rounded))
    assert set(predictions(rounded)[0].flat) <= {-1.0, 0.5, 4.0}
    config, network, num_weights, _ = read_header(path)
    assert (config.history, network.horizon) == (T, F)
    assert num_weights == sum(w.size for w in exact.network.export_weights().values())


def test_a_file_of_an_earlier_version_has_float32_weights(path: Path) -> None:
    with open_tensors(path) as file:
        header, tensors = file.metadata, file.read()
    exact = forecaster(2)
    weights = {f"network.{name}": weight for name, weight in exact.network.export_weights().items()}
    save_tensors(path, {**tensors, **weights}, header, 1)
    assert np.array_equal(predictions(read_forecaster(path)), predictions(exact))


CHANGES: dict[str, Change] = {
    "another kind": lambda header, tensors: header.update(kind="encoder"),
    "an unknown kind": lambda header, tensors: header.update(kind="surprise"),
    "no forecast": lambda header, tensors: header.pop("forecast"),
    "a forecast that is no object": lambda header, tensors: header.update(forecast=[1]),
    "columns that are no list": lambda header, tensors: header["forecast"].update(targets="ab"),
    "a long history": lambda header, tensors: header["forecast"].update(history=9_999),
    "a horizon of another network": lambda header, tensors: header["forecast"].update(horizon=9),
    "a huge network": lambda header, tensors: header["network"].update(hidden_size=1 << 14, num_layers=9),
    "an unknown cell": lambda header, tensors: header["network"].update(cell="magic"),
    "an unknown setting": lambda header, tensors: header["network"].update(code="import os"),
    "a weight too few": lambda header, tensors: tensors.pop("network.head.hidden.bias"),
    "a weight too many": lambda header, tensors: tensors.update(extra=np.zeros(3, np.float32)),
    "another shape": lambda header, tensors: tensors.update({"scaling.mean": np.zeros(5)}),
    "another type": lambda header, tensors: tensors.update({"scaling.mean": np.zeros(2, np.float32)}),
    "a weight that is NaN": lambda header, tensors: tensors["network.head.hidden.bias"].fill(np.nan),
    "levels that descend": lambda header, tensors: tensors.update({"levels.0": np.array([2.0, 1.0])}),
    "a single level": lambda header, tensors: tensors.update({"levels.0": np.array([2.0])}),
    "levels that are not finite": lambda header, tensors: tensors.update({"levels.0": np.array([2.0, np.inf])}),
    "levels of no column": lambda header, tensors: tensors.update({"levels.1": np.array([2.0, 3.0])}),
    "levels in rows": lambda header, tensors: tensors.update({"levels.0": np.array([[2.0, 3.0]])}),
    "a scale of zero": lambda header, tensors: tensors["scaling.std"].fill(0.0),
    "an infinite mean": lambda header, tensors: tensors["scaling.mean"].fill(np.inf),
    "a negative factor": lambda header, tensors: tensors["factors"].fill(-1.0),
    "a report that is no object": lambda header, tensors: header.update(about=3),
    "figures that are no numbers": lambda header, tensors: header.update(
        about={"held_out": {"methods": [{"method": "m", "mae": {"a": "x"}, "rmse": {}}]}}
    ),
    "figures that are no objects": lambda header, tensors: header.update(about={"held_out": {"methods": [3]}}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_hostile_files_give_an_error(path: Path, change: Change) -> None:
    with open_tensors(path) as file:
        header, tensors = file.metadata, file.read()
    tensors = {name: value.copy() for name, value in tensors.items()}
    change(header, tensors)
    save_tensors(path, tensors, header, STORAGE_VERSION)
    for read in (read_forecaster, read_header):
        with pytest.raises(ModelError) as error:
            read(path)
        assert str(path) in str(error.value)
        assert len(str(error.value).splitlines()) <= 2


def test_damaged_files_give_an_error(path: Path) -> None:
    data = path.read_bytes()
    for damaged in (b"", data[:100], data[:-1], data[:-9] + b"\x7f" + data[-8:]):
        path.write_bytes(damaged)
        with pytest.raises(ModelError):
            read_forecaster(path)


def test_a_missing_forecaster_and_another_kind_of_model_are_named(path: Path) -> None:
    with pytest.raises(ModelError, match="no forecaster named 'mm'.*\n.*Did you mean 'm'"):
        load_forecaster("mm", path.parent.parent)
    with pytest.raises(WrongKindError, match="forecaster.*\n.*chargen forecast"):
        find_model("m", path.parent.parent)
