"""Model files: they are loaded without change, and every damaged or foreign file is refused."""

import errno
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from chargen.checkpoint import load_checkpoint, load_tensors, save_checkpoint, save_tensors
from chargen.config import ModelConfig
from chargen.errors import ModelError, StorageError
from tests.conftest import random_model


@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:300"])
def test_a_saved_model_is_loaded_without_change(tokenizer: str, tmp_path: Path, verse: str) -> None:
    model = random_model(verse, tokenizer, cell="lstm", num_layers=2)
    save_checkpoint(tmp_path / "model.safetensors", model)
    again = load_checkpoint(tmp_path / "model.safetensors")
    assert again.config == model.config
    assert again.about == model.about
    assert again.tokenizer.encode(verse).tolist() == model.tokenizer.encode(verse).tolist()
    assert list(again.weights) == sorted(model.weights) or set(again.weights) == set(model.weights)
    for name, weight in model.weights.items():
        np.testing.assert_array_equal(again.weights[name], weight)
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", random_model())
    save_checkpoint(tmp_path / "b", random_model())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, random_model())
    data = path.read_bytes()
    for length in [0, 1, 7, 8, 9, *range(10, len(data), max(1, len(data) // 60)), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelError, match="model.safetensors"):
            load_checkpoint(path)


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, random_model())
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 150).tolist():
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        with pytest.raises(ModelError):
            load_checkpoint(path)


def test_files_in_other_formats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(ModelError, match="no model file"):
        load_checkpoint(path)
    for content in (b"", b"some text\n" * 30, pickle.dumps({"weights": [1, 2]}), os.urandom(500)):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="damaged or not a model"):
            load_checkpoint(path)
    path.write_bytes(save({"x": np.zeros(3, np.float32)}))
    with pytest.raises(ModelError, match="not a chargen model"):
        load_checkpoint(path)
    path.write_bytes(save({"x": np.zeros(3, np.float32)}, metadata={"chargen": '{"format_version": 99}'}))
    with pytest.raises(ModelError, match="format 99"):
        load_checkpoint(path)


def test_a_complete_file_with_invalid_content_is_refused(tmp_path: Path) -> None:
    model, path = random_model(), tmp_path / "m"
    described = {"config": model.config.to_json(), "tokenizer": model.tokenizer.to_json(), "about": {}}
    weights = dict(model.weights)
    wrong: list[tuple[dict[str, np.ndarray], dict[str, object]]] = [
        ({**weights, "head.bias": np.full_like(weights["head.bias"], np.inf)}, described),
        ({**weights, "head.bias": weights["head.bias"][1:]}, described),
        (weights, {**described, "config": {**model.config.to_json(), "cell": "transformer"}}),
        (weights, {**described, "config": {**model.config.to_json(), "dropout": 7}}),
        (weights, {**described, "config": {"vocab_size": 3, "colour": "red"}}),
        (weights, {**described, "tokenizer": {"name": "char", "characters": "ab"}}),
        (weights, {**described, "tokenizer": {"name": "words"}}),
        (weights, {**described, "tokenizer": {}}),
        (weights, {"tokenizer": model.tokenizer.to_json()}),
    ]
    for tensors, header in wrong:
        save_tensors(path, tensors, header)
        with pytest.raises(ModelError):
            load_checkpoint(path)


def test_a_model_file_with_the_earlier_key_members_is_opened(tmp_path: Path) -> None:
    model, path = random_model(ensemble_size=2), tmp_path / "m"
    config = {"members" if key == "ensemble_size" else key: value for key, value in model.config.to_json().items()}
    save_tensors(path, dict(model.weights), {"config": config, "tokenizer": model.tokenizer.to_json(), "about": {}})
    assert load_checkpoint(path).config == model.config


def test_a_full_disk_leaves_the_existing_file_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, random_model())
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save_checkpoint(path, random_model(seed=1))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_path_inside_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "model.safetensors", random_model())


def test_tensors_of_every_dtype_are_loaded_without_change(tmp_path: Path) -> None:
    tensors = {"a": np.arange(5, dtype=np.uint8), "b": np.zeros((0, 3), np.float32), "c": np.ones((2, 2), np.int64)}
    save_tensors(tmp_path / "t", tensors, {"n": 1, "text": "là"})
    found, described = load_tensors(tmp_path / "t")
    assert described == {"n": 1, "text": "là"}
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


def test_a_config_converts_to_json_and_back() -> None:
    config = ModelConfig(vocab_size=9, cell="lstm", num_layers=2, dropout=0.25)
    assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
