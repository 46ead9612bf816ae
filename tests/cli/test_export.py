"""`chargen export`: the files, the output, and what is refused in one or two lines."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chargen.checkpoint import save_checkpoint
from chargen.ui.console import format_size
from tests.conftest import Result, random_model

Chargen = Callable[..., Result]


@pytest.fixture(autouse=True)
def run_named_m(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoints" / "m" / "model.safetensors", random_model(ngrams=3, ngram_rows=8))


@pytest.fixture
def onnx() -> Any:
    pytest.importorskip("onnxruntime", reason="the extra chargen[onnx] is not installed")
    return pytest.importorskip("onnx", reason="the extra chargen[onnx] is not installed")


def test_onnx_writes_the_file_and_prints_inputs_and_outputs(chargen: Chargen, onnx: Any) -> None:
    result = chargen("export", "onnx", "m", "--check")
    assert result.status == 0, result.err
    assert "token_ids  int64 [batch]" in result.out
    assert "ngram_history  int64 [batch, 2]" in result.out
    assert "next_state.0.h  float32 [batch, 12]" in result.out
    assert "between onnxruntime and chargen, in 1,000 tokens" in result.out
    onnx.checker.check_model("model.onnx", full_check=True)
    as_json = json.loads(chargen("export", "onnx", "m", "-o", "other.onnx", "--json", "--check").out)
    assert as_json["size_bytes"] == Path("other.onnx").stat().st_size
    assert as_json["inputs"]["state.0.h"] == "float32 [batch, 12]"
    assert 0 <= as_json["check"]["relative_difference"] <= 1e-4
    assert Path("other.onnx").read_bytes() == Path("model.onnx").read_bytes()
    assert "check" not in json.loads(chargen("export", "onnx", "--json").out)  # the newest run, without a comparison


def test_onnx_writes_nothing_if_the_comparison_fails(
    chargen: Chargen, onnx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chargen.export.onnx_file.MAX_DIFFERENCE", -1.0)
    result = chargen("export", "onnx", "m", "--check")
    assert result.status == 1
    assert "gives other logits than chargen" in result.err
    assert not Path("model.onnx").exists()


@pytest.mark.parametrize("module", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(
    chargen: Chargen, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module == "onnxruntime":
        pytest.importorskip("onnx", reason="the extra chargen[onnx] is not installed")
    monkeypatch.setitem(sys.modules, module, None)
    result = chargen("export", "onnx", "m", *(["--check"] if module == "onnxruntime" else []))
    assert result.status == 1
    assert "pip install 'chargen[onnx]'" in result.err
    assert len(result.err.splitlines()) == 2
    assert not Path("model.onnx").exists()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = chargen("export", "hub", "m", "folder", "--push", "a/b")
    assert "pip install 'chargen[hub]'" in result.err
    assert not Path("folder").exists()


def test_hub_prints_the_files_and_keeps_what_is_there(chargen: Chargen) -> None:
    result = chargen("export", "hub", "m", "folder")
    assert result.status == 0, result.err
    assert "folder/README.md" in result.out and "model.safetensors" in result.out
    assert "fill in the license in folder/README.md" in result.err
    again = chargen("export", "hub", "m", "folder", "--json")
    assert "in the folder already, and kept" in again.err
    described = json.loads(again.out)
    assert [file["name"] for file in described["files"]] == ["model.safetensors", "config.json", "README.md"]
    assert described["repository"] is None
    assert chargen("sample", "-m", "folder", "--length", "9").status == 0


def test_model_writes_a_file_of_another_size_and_says_what_it_is(chargen: Chargen) -> None:
    sizes = {}
    for storage in ("float32", "float16", "int8"):
        result = chargen("export", "model", "m", "-o", f"{storage}.safetensors", "--weights", storage)
        assert (result.status, result.err) == (0, "")
        sizes[storage] = Path(f"{storage}.safetensors").stat().st_size
        rows = "" if storage == "float32" else ", 16 n-gram rows"
        assert result.out.startswith(f"{storage}.safetensors: ") and result.out.endswith(f" ({storage}{rows})\n")
        assert f"{format_size(sizes[storage])} instead of {format_size(sizes['float32'])}" in result.out
        assert chargen("sample", "-m", f"{storage}.safetensors", "--length", "9").status == 0
        facts = json.loads(chargen("info", f"{storage}.safetensors", "--json").out)
        stored = (facts["weight_storage"], facts["stored_ngram_rows"], facts["size_bytes"])
        assert stored == (storage, None if storage == "float32" else 16, sizes[storage])
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]
    assert Path("float32.safetensors").read_bytes() == Path("checkpoints/m/model.safetensors").read_bytes()
    text = chargen("info", "int8.safetensors").out
    assert re.search(r"weights stored as +int8", text) and re.search(r"n-gram rows stored +16", text)
    assert "n-gram rows stored" not in chargen("info", "m").out
    more = chargen("export", "model", "int8.safetensors", "-o", "x", "--weights", "float32", "--json")
    assert "are stored as int8, and keep their values as float32" in more.err
    assert json.loads(more.out) == {
        "path": "x", "size_bytes": sizes["float32"], "original_size_bytes": sizes["int8"], "weight_storage": "float32",
        "stored_ngram_rows": None,
    }  # fmt: skip


def test_model_refuses_what_cannot_be_written_or_read(chargen: Chargen) -> None:
    path = Path("checkpoints/m/model.safetensors")
    before = path.read_bytes()
    assert "Missing option '-o'" in chargen("export", "model", "m").err
    assert chargen("export", "model", "-o", "x").status == 2
    for output in (str(path), "missing/x", "checkpoints", ""):
        assert chargen("export", "model", "m", "-o", output).status == 2, output
    refused = chargen("export", "model", "m", "-o", "x", "--weights", "int4")
    assert refused.status == 2 and "'int4' is not one of" in refused.err
    Path("damaged.safetensors").write_bytes(before[:-9])
    refused = chargen("export", "model", "damaged.safetensors", "-o", "x")
    assert refused.status == 1 and len(refused.err.splitlines()) <= 2
    assert not Path("x").exists() and path.read_bytes() == before


@pytest.mark.parametrize("words", [("onnx",), ("hub",), ("model",)])
def test_other_kinds_of_models_and_missing_models_are_refused(chargen: Chargen, words: tuple[str, ...]) -> None:
    from chargen.checkpoint import save_tensors

    more = {"hub": ("folder",), "model": ("-o", "folder")}.get(words[0], ())
    for kind, phrase in (("encoder", "is a bidirectional encoder"), ("forecaster", "is a forecaster")):
        save_tensors(Path(f"{kind}.safetensors"), {}, {"kind": kind})
        result = chargen("export", *words, f"{kind}.safetensors", *more)
        assert (result.status, phrase in result.err, len(result.err.splitlines())) == (1, True, 2)
    for name, phrase in (("mm", "no model named 'mm'"), ("text.txt", "is a text, not a model file")):
        Path("text.txt").write_text("a text\n")
        result = chargen("export", *words, name, *more)
        assert result.status == 1 and phrase in result.err
    Path("checkpoints").rename("elsewhere")
    if words == ("onnx",):
        assert "no model under checkpoints/ yet" in chargen("export", "onnx").err
    assert not Path("folder").exists() and not Path("model.onnx").exists()


def test_outputs_that_would_destroy_something_are_refused(chargen: Chargen) -> None:
    model = Path("checkpoints/m/model.safetensors")
    before = model.read_bytes()
    result = chargen("export", "onnx", "m", "-o", str(model))
    assert result.status == 2 and "would overwrite" in result.err
    assert chargen("export", "onnx", "m", "-o", "missing/x.onnx").status == 2
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    result = chargen("export", "hub", "m", "full")
    assert result.status == 1 and "the folder full has other content, such as mine.txt" in result.err
    assert "the folder of the model itself" in chargen("export", "hub", "m", "checkpoints/m").err
    assert model.read_bytes() == before
    assert sorted(path.name for path in Path("full").iterdir()) == ["mine.txt"]
