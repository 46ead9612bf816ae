"""`chargen export`: the files, the output, and what is refused in one or two lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chargen.checkpoint import save_checkpoint
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


@pytest.mark.parametrize("words", [("onnx",), ("hub",)])
def test_other_kinds_of_models_and_missing_models_are_refused(chargen: Chargen, words: tuple[str, ...]) -> None:
    from chargen.checkpoint import save_tensors

    more = ("folder",) if words == ("hub",) else ()
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
