"""The precision of products: which one a run has, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from chargen.config import BF16, FLOAT32, PRECISIONS, TF32, TrainConfig
from chargen.errors import ConfigError
from chargen.networks import precision
from chargen.networks.precision import choose_precision


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with numba and with a processor that computes bf16 fast, whose parts a test can change."""
    monkeypatch.setattr(precision, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor : 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16\n")
    monkeypatch.setattr(precision, "is_installed", lambda name: True)
    monkeypatch.setattr(precision, "use_numba", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    precision._has_fast_bf16.cache_clear()
    yield monkeypatch
    precision._has_fast_bf16.cache_clear()


@pytest.mark.parametrize(
    ("cells", "device", "expected"),
    [
        (["mgru"], "cpu", BF16),
        (["gru", "mgru"], "cpu", BF16),
        (["lstm"], "cpu", FLOAT32),
        (["gru", "lstm"], "cpu", FLOAT32),
        (["mgru"], "cuda", TF32),
        (["lstm"], "cuda", TF32),
        (["mgru"], "mps", FLOAT32),
    ],
)
def test_the_default_depends_on_the_cells_and_the_device(cells: list[str], device: str, expected: str) -> None:
    assert choose_precision(None, cells, device) == expected


@pytest.mark.parametrize(
    "info",
    [
        "vendor_id : AuthenticAMD\nflags : fpu avx512f avx512_bf16_other\nbugs : avx512_bf16\n",
        "vendor_id : GenuineIntel\nflags : fpu avx512f avx512_bf16\n",
        "flags : fpu avx512f avx512_bf16\n",
        "Features : fp asimd bf16\n",
        "",
        None,
    ],
)
def test_a_processor_without_fast_instructions_has_float32(info: str | None) -> None:
    precision.CPU_INFO.unlink()
    if info is not None:
        precision.CPU_INFO.write_text(info)
    assert choose_precision(None, ["mgru"], "cpu") == FLOAT32
    assert choose_precision(BF16, ["mgru"], "cpu") == BF16  # slow, but it was asked for


@pytest.mark.parametrize(
    "info",
    [
        "vendor_id : GenuineIntel\nflags : fpu avx512_bf16 amx_bf16\n",
        "vendor_id : AuthenticAMD\nflags : fpu avx512_bf16\n\nvendor_id : Other\nflags : fpu\n",
    ],
)
def test_a_processor_with_fast_instructions_has_bf16(info: str) -> None:
    precision.CPU_INFO.write_text(info)
    assert choose_precision(None, ["mgru"], "cpu") == BF16


@pytest.mark.parametrize("part", ["is_installed", "use_numba"])
def test_without_compiled_passes_the_default_is_float32(part: str, machine: pytest.MonkeyPatch) -> None:
    machine.setattr(precision, part, lambda *names: False)
    assert choose_precision(None, ["mgru"], "cpu") == FLOAT32


@pytest.mark.parametrize("wanted", PRECISIONS)
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_precision_that_is_wanted_is_used_or_refused(wanted: str, device: str) -> None:
    allowed = {"cpu": {FLOAT32, BF16}, "cuda": {FLOAT32, TF32, BF16}, "mps": {FLOAT32}}
    if wanted in allowed[device]:
        assert choose_precision(wanted, ["mgru"], device) == wanted
        return
    with pytest.raises(ConfigError, match=f"--precision {wanted} .* needs .* but the device is {device}") as raised:
        choose_precision(wanted, ["mgru"], device)
    assert "--precision float32" in raised.value.hint


def test_cells_without_compiled_passes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"is for the cells gru and mgru on a CPU, but the network has lstm, rnn\n"):
        choose_precision(BF16, ["rnn", "mgru", "lstm"], "cpu")
    assert choose_precision(BF16, ["lstm"], "cuda") == BF16


def test_a_missing_numba_is_named_with_its_command(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(precision, "is_installed", lambda name: False)
    with pytest.raises(ConfigError, match="needs numba on a CPU") as raised:
        choose_precision(BF16, ["mgru"], "cpu")
    assert "pip install 'chargen[fast]'" in raised.value.hint


def test_tf32_becomes_float32_where_there_is_none() -> None:
    assert TrainConfig(steps=1).precision == FLOAT32
    assert TrainConfig(steps=1, device="cuda").precision == TF32
    of_a_gpu = TrainConfig(steps=1, device="cuda").to_json()
    assert TrainConfig.from_json({**of_a_gpu, "device": "cpu"}).precision == FLOAT32
    of_an_earlier_version = {**TrainConfig(steps=1).to_json(), "precision": "tf32"}
    assert TrainConfig.from_json(of_an_earlier_version).precision == FLOAT32
    assert TrainConfig.from_json(of_a_gpu).precision == TF32
