"""Malformed and hostile files with correct checksums: each is refused at once, or gives a model that works."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.schema_attack import (
    attack_classifiers,
    attack_models,
    attack_states,
    change_json,
    create_examples,
    write_tensors,
)
from chargen.cells import CELLS
from chargen.cells.weights import MASKED_LOGIT, MAX_WEIGHT, count_parameters, count_tensors, parameter_shapes
from chargen.checkpoint import Checkpoint, load_checkpoint, load_metadata, load_tensors, save_checkpoint, save_tensors
from chargen.config import ModelConfig
from chargen.errors import ConfigError, ModelError, TokenizerError
from chargen.lm import LanguageModel
from chargen.runs import find_model, list_run_names
from chargen.sampling.settings import MIN_TEMPERATURE
from chargen.schema import MAX_DEPTH, parse_json
from chargen.tasks.classification.saved import load_classifier
from chargen.tokenizers.sentencepiece import SentencePieceTokenizer
from chargen.tokenizers.tokenizer import build_tokenizer, tokenizer_from_json
from chargen.training.state import load_state
from tests.conftest import VERSE, Result, random_model

Chargen = Callable[..., Result]
V1 = Path(__file__).parent / "files" / "v1"
HUGE = 10**400
DEEP = "[" * 200_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return the paths of a model, a training state and a classifier that `benchmarks/schema_attack.py` makes."""
    folder = tmp_path_factory.mktemp("attack")
    before = Path.cwd()
    os.chdir(folder)
    try:
        return tuple(path.resolve() for path in create_examples(folder, VERSE * 25))  # type: ignore[return-value]
    finally:
        os.chdir(before)


# ── random changes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_changed_models_are_refused_or_equivalent(files: tuple[Path, Path, Path], storage: str) -> None:
    model = files[0].with_name(f"{storage}.safetensors")
    save_checkpoint(model, load_checkpoint(files[0]), storage)
    outcome = attack_models(200, np.random.default_rng(1), model)
    assert outcome.failures == []
    assert outcome.counts["refused"] > 100
    assert outcome.counts["the same"] > 10


def test_changed_states_are_refused_or_train(files: tuple[Path, Path, Path]) -> None:
    outcome = attack_states(200, np.random.default_rng(2), files[1], VERSE * 25)
    assert outcome.failures == []
    assert outcome.counts["refused"] > 100


def test_changed_classifiers_are_refused_or_classify(files: tuple[Path, Path, Path]) -> None:
    original = (files[2] / "classifier.json").read_bytes()
    outcome = attack_classifiers(200, np.random.default_rng(3), files[2])
    (files[2] / "classifier.json").write_bytes(original)
    assert outcome.failures == []
    assert outcome.counts["refused"] > 100


# ── sizes that a header claims ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "claims",
    [
        {"ensemble_size": 10**9},
        {"num_layers": 10**7},
        {"ensemble_size": 200, "num_layers": 200},
        {"hidden_size": 10**6},
        {"hidden_size": 1 << 16, "embedding_dim": 1 << 16},
        {"vocab_size": 10**9},
        {"ngrams": 16, "ngram_rows": 1 << 24, "ngram_dim": 1 << 12},
        {"ensemble_size": HUGE},
        {"num_layers": 1 << 62},
        {"ensemble_size": 256},
        {"members": 10**9},
    ],
    ids=str,
)
def test_a_header_that_claims_too_much_is_refused_at_once(tmp_path: Path, claims: dict[str, int]) -> None:
    model, path = random_model(), tmp_path / "model.safetensors"
    config = {**model.config.to_json(), **claims}
    described = {"config": config, "tokenizer": model.tokenizer.to_json(), "about": {}}
    write_tensors(path, dict(model.weights), json.dumps(described))
    tracemalloc.start()
    begin = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        load_checkpoint(path)
    seconds, peak = time.perf_counter() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1.0
    assert peak < 4 * path.stat().st_size + (1 << 20)
    assert len(caught.value.message) < 500


def test_small_weights_that_would_give_large_tables_are_refused(tmp_path: Path) -> None:
    # The tables of each ensemble member contain the whole embedding: 4 MB of weights would become 2 GB.
    model = random_model(tie_weights=True, hidden_size=1, embedding_dim=1, ensemble_size=128)
    config = ModelConfig(1 << 20, hidden_size=1, embedding_dim=1, ensemble_size=128, tie_weights=True)
    weights = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(config).items()}
    save_checkpoint(tmp_path / "m", Checkpoint(config, model.tokenizer, weights, {}))
    with pytest.raises(ModelError, match="tables of 2.0 GiB out of small weights"):
        load_checkpoint(tmp_path / "m")


def test_a_header_above_the_size_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with open(path, "wb") as file:
        file.write((99 << 20).to_bytes(8, "little") + b"{")
        file.truncate(100 << 20)
    with pytest.raises(ModelError, match="its header would have 103,809,024 bytes"):
        load_checkpoint(path)
    with pytest.raises(ConfigError, match="more than 3,000,000 values"):
        parse_json("[" + "[]," * 3_000_001 + "[]]")
    weights = {f"w{i}": np.zeros(0, np.float32) for i in range((1 << 15) + 1)}
    save_tensors(path, weights, {})
    with pytest.raises(ModelError, match="it has 32,769 tensors"):
        load_tensors(path)


def test_a_sparse_file_larger_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "m", random_model(hidden_size=512))  # it has 3 MB, and the limits are lowered instead
    monkeypatch.setattr("chargen.text.limits.UNCHECKED_BYTES", 1 << 20)
    monkeypatch.setattr("chargen.text.limits.total_bytes", lambda: 1 << 21)
    with pytest.raises(ModelError, match=r"m, of 3,\d+,\d+ bytes, would need at least"):
        load_checkpoint(tmp_path / "m")


@pytest.mark.parametrize(
    "shape", [{}, {"ensemble_size": 3, "num_layers": 2}, {"ngrams": 4}, {"ngrams": 2, "ensemble_size": 2}]
)
@pytest.mark.parametrize("cell", CELLS.names())
@pytest.mark.parametrize("tie_weights", [False, True])
def test_counts_by_arithmetic_equal_the_table_of_shapes(shape: dict[str, Any], cell: str, tie_weights: bool) -> None:
    config = ModelConfig(7, cell, hidden_size=6, embedding_dim=6, tie_weights=tie_weights, ngram_rows=8, **shape)
    shapes = parameter_shapes(config)
    assert count_tensors(config) == len(shapes)
    assert count_parameters(config) == sum(int(np.prod(shape)) for shape in shapes.values())


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        DEEP, "{" * 200_000, '{"a":' * 200_000, "NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "[-1e999]",
        "9" * 5000,
        '{"a": 1, "a": 1}', '{"x": {"a": 1, "b": 2, "a": 3}}', '"\\ud800"', '{"\\udfff": 1}', "[" * 40 + "]" * 40, "",
        "{", "nul", "01", "{'a': 1}", '"\x00"',
    ],
    ids=lambda text: text[:20].encode("unicode_escape").decode(),
)  # fmt: skip
def test_json_that_is_not_strict_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="its JSON"):
        parse_json(text)


def test_strict_json_is_parsed_like_the_json_module_does() -> None:
    value = {"a": [1, -2.5, None, True, "Trăm \U0001f600"], "b": {"c": {}}, "": 2**70}
    assert parse_json(json.dumps(value)) == value
    nested = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(nested) == json.loads(nested)
    with pytest.raises(ConfigError, match="its JSON"):
        parse_json(b"\xff\xfe")


@pytest.mark.parametrize("seed", range(3))
def test_the_attacks_change_the_file(seed: int) -> None:
    rng, value = np.random.default_rng(seed), {"a": [1, 2, {"b": "c"}], "d": None, "e": 0.25}
    texts = {change_json(value, rng)[0] for _ in range(100)}
    assert len(texts) > 50


def test_a_file_with_a_loss_of_nan_can_be_read(tmp_path: Path) -> None:
    model = random_model()
    model.about["result"] = {"val_loss_nats_per_char": float("nan"), "epochs": float("inf")}  # type: ignore[index]
    save_checkpoint(tmp_path / "m", model)
    assert load_checkpoint(tmp_path / "m").about["result"] == {"val_loss_nats_per_char": None, "epochs": None}


def test_unknown_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    model = random_model()
    model.about["colour"] = {"red": [1, 2]}  # type: ignore[index]
    save_checkpoint(tmp_path / "m", model)
    assert load_checkpoint(tmp_path / "m").about["colour"] == {"red": [1, 2]}


# ── tensors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, -3e38, 2 * MAX_WEIGHT, MASKED_LOGIT])
@pytest.mark.parametrize("name", ["embedding.weight", "layers.0.weight_hh", "head.weight"])
def test_weights_beyond_the_limit_are_refused(tmp_path: Path, name: str, value: float) -> None:
    model = random_model()
    weights = {**model.weights, name: model.weights[name].copy()}
    weights[name].flat[3] = value
    save_checkpoint(tmp_path / "m", Checkpoint(model.config, model.tokenizer, weights, {}))
    with pytest.raises(ModelError, match=f"the weight '{name}' holds"):
        load_checkpoint(tmp_path / "m")


def test_masked_ids_are_allowed_but_not_all_ids(tmp_path: Path) -> None:
    model = random_model()
    bias = model.weights["head.bias"]
    assert bias[0] == np.float32(MASKED_LOGIT)
    save_checkpoint(tmp_path / "m", model)
    np.testing.assert_array_equal(load_checkpoint(tmp_path / "m").weights["head.bias"], bias)
    for wrong in (np.full_like(bias, MASKED_LOGIT), np.where(bias == bias[0], np.float32(-1.1e30), bias)):
        described = {"config": model.config.to_json(), "tokenizer": model.tokenizer.to_json()}
        save_tensors(tmp_path / "m", {**model.weights, "head.bias": wrong}, described)
        with pytest.raises(ModelError, match=r"head\.bias"):
            load_checkpoint(tmp_path / "m")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("cell", CELLS.names())
def test_the_largest_valid_weights_do_not_overflow(cell: str) -> None:
    model = random_model(cell=cell, ensemble_size=2, num_layers=2, ngrams=3, ngram_rows=16)
    largest = {name: np.copysign(np.float32(MAX_WEIGHT), weight) for name, weight in model.weights.items()}
    lm = LanguageModel(Checkpoint(model.config, model.tokenizer, largest, model.about))
    assert np.isfinite(lm.score("Trăm năm").log_prob_nats)
    assert len(lm.sample(length=20, seed=1, temperature=MIN_TEMPERATURE)) == 20
    assert np.isfinite(lm.evaluate("Trăm năm\n" * 20).loss_nats_per_char)


@pytest.mark.parametrize("dtype", ["F64", "F16", "BF16", "F4", "F8_E4M3", "I64", "BOOL", "C64"])
def test_weights_of_another_dtype_are_refused(tmp_path: Path, dtype: str) -> None:
    model, path = random_model(), tmp_path / "m"
    bits = {"F64": 64, "F16": 16, "BF16": 16, "F4": 4, "F8_E4M3": 8, "I64": 64, "BOOL": 8, "C64": 64}[dtype]
    described = json.dumps({"config": model.config.to_json(), "tokenizer": model.tokenizer.to_json()})
    header: dict[str, Any] = {
        "__metadata__": {"chargen": f'{{"format_version": 1, "sha256": "{"0" * 64}", "model": {described}}}'}
    }
    size = 0
    for name, weight in model.weights.items():
        num_bytes = weight.size * bits // 8
        header[name] = {"dtype": dtype, "shape": weight.shape, "data_offsets": [size, size + num_bytes]}
        size += num_bytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    with pytest.raises(ModelError):
        load_checkpoint(path)


def test_only_regular_files_are_opened(tmp_path: Path, chargen: Chargen) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    names = ["folder", "link", "loop", "missing"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "fifo")
        names.append("fifo")
    for name in names:
        for read in (load_checkpoint, load_tensors, load_state):
            with pytest.raises(ModelError, match="not a regular file|no model file"):
                read(tmp_path / name)
        assert load_metadata(tmp_path / name) == {}
        assert chargen("score", "-m", str(tmp_path / name), "x").status == 1
        assert chargen("train", "x", "--tokenizer", f"sp:{tmp_path / name}").status == 1


# ── tokenizers ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "values",
    [
        {}, [], {"name": 5}, {"name": None}, {"name": "char"}, {"name": "char", "characters": 5},
        {"name": "char", "characters": ""}, {"name": "char", "characters": "ba"}, {"name": "char", "characters": "aa"},
        {"name": "char", "characters": "a\ud800"}, {"name": "char", "characters": ["a", "b"]},
        {"name": "sp"}, {"name": "sp", "model": 5}, {"name": "sp", "model": ""}, {"name": "sp", "model": "é"},
        {"name": "sp", "model": "AAAA"}, {"name": "sp", "model": "x" * 1001}, {"name": "nothing"},
    ],
    ids=lambda values: str(values).encode("ascii", "backslashreplace").decode()[:50],
)  # fmt: skip
def test_invalid_json_of_a_tokenizer_is_refused(values: Any) -> None:
    with pytest.raises((TokenizerError, ConfigError)):
        tokenizer_from_json(values)


def _field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_sentencepiece_model_is_checked_before_the_library_opens_it() -> None:
    tokenizer = build_tokenizer("sp:300", VERSE * 4)
    assert isinstance(tokenizer, SentencePieceTokenizer)
    model = tokenizer._model
    assert SentencePieceTokenizer(model).encode("Trăm").tolist() == tokenizer.encode("Trăm").tolist()
    table = _field(2, (64).to_bytes(4, "little") + bytes(range(100)))
    for more, words in (
        (_field(3, table), "normalises"),
        (_field(5, table), "normalises"),
        (_field(4, b"x"), "besides its pieces"),
        (_field(1, b"\x0a\x05ab"), "not a sentencepiece model"),
        (b"\x0a\xff\xff\xff\xff\x7f", "ends too early"),
        (b"\x0a" + b"\xff" * 12, "does not end"),
        (b"\x0f", "is damaged"),
        (_field(1, b"\x0a\x02\xff\xfe\x15\x00\x00\x00\x00"), "not a sentencepiece model"),
        (_field(1, b"\x0a\x02zz\x15\x00\x00\xc0\x7f"), "not a finite number|NaN"),
        (b"\x0a\x81\x20" + bytes(4097), "has 4,097 bytes"),
    ):
        with pytest.raises(TokenizerError, match=words):
            SentencePieceTokenizer(model + more)
    for end in range(0, len(model), max(1, len(model) // 50)):
        with pytest.raises(TokenizerError):
            SentencePieceTokenizer(model[:end])


@pytest.mark.parametrize("flag", [3, 4])
def test_a_sentencepiece_model_in_a_file_must_be_lossless(flag: int) -> None:
    tokenizer = build_tokenizer("sp:300", VERSE * 4)
    values = tokenizer.to_json()
    lossy = base64.b64decode(values["model"]) + _field(3, bytes([flag << 3, 1]))  # a dummy prefix; spaces removed
    with pytest.raises(TokenizerError, match="changes the text that it encodes"):
        tokenizer_from_json({**values, "model": base64.b64encode(lossy).decode()})


# ── classifiers ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["a"]}, {"labels": ["a", "a"]}, {"labels": "ab"}, {"labels": [1, 2]}, {"labels": {"a": 1, "b": 2}},
        {"folders": ["a", "../b"]}, {"folders": ["a", "/etc"]}, {"folders": ["a", ".."]}, {"folders": ["a", "."]},
        {"folders": ["a", ""]}, {"folders": ["a", "a/../b"]}, {"folders": ["a", "\0"]}, {"folders": ["a", "a\\b"]},
        {"folders": ["a", "a"]}, {"folders": ["a", "c"]}, {"folders": ["a", "\x1b[2J"]}, {"folders": ["a", "C:"]},
        {"log_priors": [-0.1]}, {"log_priors": [-0.1, 0.1]}, {"log_priors": [-1.0, -1.0]}, {"log_priors": ["a", "b"]},
        {"log_priors": [-1e308, -1e308]}, {"log_priors": None}, {"temperature": 0}, {"temperature": -1.0},
        {"temperature": 5e-324}, {"temperature": "1"}, {"temperature": HUGE}, {"temperature": True}, {"held_out": []},
    ],
    ids=str,
)  # fmt: skip
def test_an_inconsistent_classifier_is_refused(files: tuple[Path, Path, Path], change: Any) -> None:
    path = files[2] / "classifier.json"
    original = path.read_bytes()
    try:
        path.write_text(json.dumps({**json.loads(original), **change}), encoding="utf-8")
        with pytest.raises(ModelError):
            load_classifier([str(files[2])])
    finally:
        path.write_bytes(original)


def test_the_file_of_a_classifier_must_be_a_small_regular_file(tmp_path: Path) -> None:
    path = tmp_path / "classifier.json"
    with open(path, "wb") as file:
        file.truncate(1 << 33)  # 8 GiB of zeros, none of them on the disk
    with pytest.raises(ModelError, match="more than 16,777,216 bytes"):
        load_classifier([str(tmp_path)])
    for text in (DEEP, "[]", "null", '{"labels": NaN}'):
        path.write_text(text)
        with pytest.raises(ModelError, match="damaged"):
            load_classifier([str(tmp_path)])
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelError, match="no classifier named"):
        load_classifier([str(tmp_path)])


# ── info ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_info_lists_the_good_runs_among_bad_ones(chargen: Chargen) -> None:
    save_checkpoint(Path("checkpoints/good/model.safetensors"), random_model())
    for name, about in (("result", {"result": []}), ("loss", {"result": {"val_loss_nats_per_char": "x"}})):
        model = random_model()
        save_checkpoint(Path(f"checkpoints/{name}/model.safetensors"), Checkpoint(*_parts(model), about))
    for name in ("folder", "fifo", "junk", "link", "loop", "none"):
        Path(f"checkpoints/{name}").mkdir()
    Path("checkpoints/folder/model.safetensors").mkdir()
    Path("checkpoints/junk/model.safetensors").write_bytes(b"junk")
    Path("checkpoints/link/model.safetensors").symlink_to("nowhere")
    Path("checkpoints/loop/model.safetensors").symlink_to("model.safetensors")
    Path("checkpoints/file").write_text("no folder")
    if hasattr(os, "mkfifo"):
        os.mkfifo("checkpoints/fifo/model.safetensors")
    for arguments in (["info"], ["info", "--json"]):
        result = chargen(*arguments)
        assert result.status == 0
        assert "good" in result.out
        for name in ("result", "loss", "folder", "junk", "link", "loop"):
            assert f"note: checkpoints/{name}/" in result.err or f"at checkpoints/{name}/" in result.err, name
    assert find_model(None).parent.name in ("good", "result", "loss", "junk")
    assert "folder" not in list_run_names()


def _parts(model: Checkpoint) -> tuple[Any, Any, Any]:
    return model.config, model.tokenizer, model.weights


def test_a_hostile_model_is_refused_within_little_address_space(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    model = random_model()
    described = {"config": {**model.config.to_json(), "ensemble_size": 10**9}, "tokenizer": model.tokenizer.to_json()}
    write_tensors(tmp_path / "m", dict(model.weights), json.dumps(described))
    program = (
        "import resource, sys\nfrom pathlib import Path\nimport numpy\nfrom chargen.checkpoint import load_checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from chargen.errors import ModelError\n"
        "try:\n    load_checkpoint(Path(sys.argv[1]))\nexcept ModelError as error:\n    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "m")], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "refused\n", done.stderr
