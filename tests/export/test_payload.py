"""A model in a page: its logits and texts in JavaScript, against the NumPy engine."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.cells import CELLS
from chargen.cells.ngram_features import find_ngram_rows, make_hash_parameters
from chargen.cells.weights import FIXED_DTYPES, parameter_shapes
from chargen.checkpoint import Checkpoint
from chargen.config import DataConfig, ModelConfig
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ModelError
from chargen.export.payload import Payload, _hash_constants, make_payload
from chargen.text.series.quantizer import Quantizer
from chargen.tokenizers.mulaw import MuLawTokenizer
from chargen.tokenizers.sentencepiece import SentencePieceTokenizer
from tests.conftest import VERSE, random_model
from tests.export.javascript import needs_chromium, needs_javascript, run_javascript
from tests.graph.small_engines import indexed_ngrams

SHAPES: list[dict[str, Any]] = [
    {},
    {"num_layers": 3, "residual": True, "skip": True, "layer_norm": True},
    {"ensemble_size": 3, "tie_weights": True, "embedding_dim": 12},
    {"ensemble_size": 2, "num_layers": 2, "ngrams": 4, "ngram_rows": 16, "ngram_dim": 3},
    {"ngrams": 4, "ngram_rows": 1 << 10, "ngram_dim": 3, "ngram_words": 2, "ngram_index": True},
]
#: JavaScript: the logits of token ids that are read one after the other; greedy(n) continues with the likeliest ids
STEPS = """
function read(model, ids) {
  const state = model.initialState();
  return ids.map((id) => Array.from(model.step(state, id)));
}
function greedy(model, id, count) {
  const state = model.initialState(), ids = [];
  for (; ids.length < count; ids.push(id)) {
    const logits = model.step(state, id);
    id = logits.indexOf(Math.max(...logits));
  }
  return ids;
}
function largestDifference(model, ids, base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const expected = new Float32Array(bytes.buffer), state = model.initialState();
  let largest = 0;
  ids.forEach((id, n) => model.step(state, id).forEach((logit, k) => {
    const difference = Math.abs(logit - expected[n * model.vocabSize + k]);
    if (!(difference <= largest)) largest = difference;
  }));
  return largest;
}
"""


def javascript_of(payload: Payload, name: str = "model") -> str:
    values = json.dumps(payload.values).replace("<", "\\u003c")
    return f"const {name} = (() => {{ {payload.script}return createModel({values}); }})();\n"


def stable_model(cell: str, seed: int = 0, text: str = VERSE, **shape: Any) -> Checkpoint:
    """Return a model with random weights whose state forgets, as a trained one does, so that rounding does not grow."""
    model = random_model(text, seed=seed, cell=cell, **shape)
    rng = np.random.default_rng(seed)
    trained = {name: array for name, array in model.weights.items() if name not in FIXED_DTYPES}
    weights = {
        name: rng.normal(0, 0.5 / math.sqrt(array.shape[-1]), array.shape).astype("f4")
        for name, array in trained.items()
    }
    return Checkpoint(model.config, model.tokenizer, {**model.weights, **weights}, model.about)


def greedy(engine: NumpyEngine, token_id: int, count: int) -> list[int]:
    stream, ids = engine.stream(engine.initial_state(1)), []
    for _ in range(count):
        token_id = int(stream.step(token_id).argmax())
        ids.append(token_id)
    return ids


def logits_of(model: Checkpoint, ids: list[int]) -> np.ndarray:
    engine = NumpyEngine(model.config, model.weights)
    stream = engine.stream(engine.initial_state(1))
    return np.stack([stream.step(token_id).copy() for token_id in ids])


def assert_page_equals_engine(models: list[Checkpoint], num_ids: int, folder: Path, in_chromium: bool = False) -> None:
    """Compare the logits of random token ids, and a greedy text, of several models in one script."""
    source, texts = STEPS + "const all = [];\n", []
    for number, model in enumerate(models):
        ids = np.random.default_rng(number).integers(0, model.config.vocab_size, num_ids).tolist()
        expected = base64.b64encode(logits_of(model, ids).astype("<f4").tobytes()).decode()
        source += javascript_of(make_payload(model, "m", "float32"), f"model{number}")
        difference = f'largestDifference(model{number}, {ids}, "{expected}")'
        source += f"all.push([{difference}, greedy(model{number}, 1, {num_ids})]);\n"
        texts.append(greedy(NumpyEngine(model.config, model.weights), 1, num_ids))
    found = run_javascript(f"{source}result = all;", folder, in_chromium)
    assert max(difference for difference, _ in found) < 1e-4
    assert [text for _, text in found] == texts


@needs_javascript
@pytest.mark.parametrize("shape", SHAPES)
def test_every_cell_in_a_page_equals_the_numpy_engine(shape: dict[str, Any], tmp_path: Path) -> None:
    models = [stable_model(cell, **shape) for cell in CELLS.names()]
    assert_page_equals_engine(models, 50, tmp_path)


@needs_javascript
def test_stacks_of_different_cells_and_cells_with_an_option_equal_the_numpy_engine(tmp_path: Path) -> None:
    cells = ["lstm,gru", "mgru,mlp:3,lru", "conv:5,rnn", "mlp:16"]
    models = [stable_model(cell, num_layers=cell.count(",") + 1, ngrams=2, ngram_rows=4) for cell in cells]
    assert_page_equals_engine(models, 50, tmp_path)


@needs_javascript
def test_a_vocabulary_of_5000_characters_equals_the_numpy_engine(tmp_path: Path) -> None:
    model = stable_model("gru", text="".join(map(chr, range(0x4E00, 0x4E00 + 5000))), ngrams=2, ngram_rows=4)
    assert_page_equals_engine([model], 40, tmp_path)


@needs_javascript
def test_more_token_ids_than_are_kept_equal_the_numpy_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.graph.javascript_backend.MAX_ROWS", 3)
    assert_page_equals_engine([stable_model("mgru", ensemble_size=2)], 200, tmp_path)


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_every_cell_equals_the_numpy_engine_over_10000_characters_in_chromium(
    shape: dict[str, Any], tmp_path: Path
) -> None:
    for number, cell in enumerate(CELLS.names()):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert_page_equals_engine([stable_model(cell, **shape)], 10_000, folder, in_chromium=True)


@needs_javascript
@pytest.mark.parametrize(("max_n", "num_rows"), [(2, 1), (4, 1 << 10), (6, 1 << 16), (16, 1 << 4), (5, 1 << 20)])
def test_the_rows_of_n_grams_are_those_of_python_for_any_ids(max_n: int, num_rows: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(max_n)
    ids = np.concatenate([rng.integers(0, 1 << 20, 300), rng.integers(0, 300, 300), [0, 0, (1 << 20) - 1]])
    history = np.zeros((1, max_n - 1), dtype=np.int64)
    expected, _ = find_ngram_rows(np, ids[:, None], history, make_hash_parameters(max_n, num_rows), num_rows)
    model = random_model(ngrams=max_n, ngram_rows=num_rows, ngram_dim=1)
    payload = make_payload(model, "m", "float32")
    source = payload.script.replace("return createModel;", "return createNGramReader;").replace(
        "createModel =", "make ="
    )
    constants = json.dumps(payload.values["network"]["ngrams"])
    source += f"""
    const found = [], tables = {{}};
    for (let n = 2; n <= {max_n}; n++) {{
      const get = (_, row) => (found.push((n - 2) * {num_rows} + Number(row)), -1);
      tables["ngrams" + n] = {{index: new Proxy({{}}, {{get}})}};
    }}
    const read = make({constants}, tables, new Float32Array(1)), history = new Int32Array({max_n - 1});
    for (const id of {ids.tolist()}) read(history, id);
    result = found;
    """
    assert run_javascript(source, tmp_path) == expected.ravel().tolist()


@needs_javascript
@pytest.mark.parametrize(("num_words", "num_rows"), [(0, 16), (1, 1 << 21), (2, 1 << 12), (4, 1 << 10)])
def test_the_features_of_an_index_are_those_of_python_for_any_ids(
    num_words: int, num_rows: int, tmp_path: Path
) -> None:
    ngrams, ids = indexed_ngrams(num_words, num_rows, vocab_size=1 << 20)
    assert ngrams.index is not None
    history, expected = ngrams.initial_history(1), []
    for token_id in ids:
        features, history = ngrams.read(np.array([token_id]), history)
        expected.append(features[0].tolist())
    payload = make_payload(random_model(), "m", "float32")
    source = payload.script.replace("return createModel;", "return createNGramReader;").replace(
        "createModel =", "make ="
    )
    is_used = ngrams.index.tags.ravel() > 0
    rows = np.where(is_used, np.cumsum(is_used) - 1, -1)
    kinds = {int(token_id): int(ngrams.index.words[token_id]) for token_id in [0, *ids]}
    tags = ngrams.index.tags.ravel()[is_used].tolist()
    source += f"""
    const arrays = {{"ngrams.words": {json.dumps(kinds)}, "ngrams.index": {tags},
      "ngrams.weight": {{index: {rows.tolist()}, values: {ngrams.table[is_used].ravel().tolist()}}}}};
    const out = new Float32Array(5), read = make({json.dumps(_hash_constants(ngrams.config))}, arrays, out);
    const history = new Int32Array({2 + 2 * num_words});
    result = {ids.tolist()}.map((id) => {{ read(history, id); return Array.from(out); }});
    result.push(Array.from(history.subarray(2)));
    """
    *found, words = run_javascript(source, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    assert words == np.flip(history[0, 2:].view(np.int32).reshape(-1, 2), 1).ravel().tolist()


LINES = VERSE.splitlines(keepends=True)
TEXTS = (
    "To be", "", "chữ\r\ntài\rmệnh \u0065\u0302\u0301 là", "a€b\U0001f600", "\ufeffx\0y", "é" * 30, "  a\t b\u2028c▁d",
    *LINES, *("".join(np.random.default_rng(n).permutation(list(VERSE)).tolist()) for n in range(3)),
)  # fmt: skip


@needs_javascript
@pytest.mark.parametrize("tokenizer", ["char", "byte", "sp:270", "sp:330"])
@pytest.mark.parametrize(("normalize", "newline"), [("nfc", "lf"), ("none", "keep")])
def test_texts_become_the_token_ids_of_python(tokenizer: str, normalize: str, newline: str, tmp_path: Path) -> None:
    model = random_model(VERSE * 9, tokenizer)
    data = DataConfig(tokenizer=tokenizer, normalize=normalize, newline=newline)
    model = Checkpoint(model.config, model.tokenizer, model.weights, {"data": data.to_json()})
    ids = [np.random.default_rng(n).integers(0, model.config.vocab_size, 40).tolist() for n in range(20)]
    source = javascript_of(make_payload(model, "m"))
    source += f"result = [{json.dumps(TEXTS)}.map((text) => Array.from(model.encode(model.prepare(text)))), "
    encoded, decoded = run_javascript(f"{source} {ids}.map(model.decodeAll)];", tmp_path)
    assert encoded == [model.tokenizer.encode(model.normalize(text)).tolist() for text in TEXTS]
    assert decoded == [model.tokenizer.decode(row) for row in ids]


@needs_javascript
def test_the_model_has_the_vocabulary_and_the_special_ids_of_python(tmp_path: Path) -> None:
    names = ["vocabSize", "tokens", "boundaryId", "unknownId", "unknownLogProb"]
    script = "({...Object.fromEntries(" + json.dumps(names) + ".map((name) => [name, model[name]])), "
    script += "ids: [model.startIds, model.endIds, model.maskedIds].map((ids) => ids && Array.from(ids))});"
    for documents in ("none", "line"):
        model = random_model(documents=documents)
        found = run_javascript(javascript_of(make_payload(model, "m")) + f"result = {script}", tmp_path)
        assert found["tokens"] == [
            model.tokenizer.token_bytes(n).decode() if n != 1 else "" for n in range(found["vocabSize"])
        ]
        assert (found["boundaryId"], found["unknownId"], found["vocabSize"]) == (0, 1, model.config.vocab_size)
        assert found["unknownLogProb"] == pytest.approx(model.tokenizer.unk_log_prob_nats(np.array([1]))[0])
        end_ids = None if model.end_ids is None else model.end_ids.tolist()
        assert found["ids"] == [model.start_ids.tolist(), end_ids, model.tokenizer.masked_ids(documents != "none")]
    found = run_javascript(
        javascript_of(make_payload(random_model(tokenizer="byte"), "m")) + f"result = {script}", tmp_path
    )
    assert [found["tokens"][n] for n in (0, 11, 66, 196, 256)] == ["", "\n", "A", "\\xC3", "\\xFF"]
    assert (found["unknownId"], found["unknownLogProb"]) == (None, 0)


@needs_javascript
def test_a_copied_state_continues_with_the_same_bits(tmp_path: Path) -> None:
    model = stable_model("lstm", num_layers=2, ngrams=3, ngram_rows=8)
    source = javascript_of(make_payload(model, "m")) + STEPS
    script = """
    const ids = [5, 6, 7, 8, 9, 5, 6], whole = read(model, ids), state = model.initialState();
    let equal = true;
    ids.forEach((id, n) => {
      const other = model.copy(state);
      model.step(other, 3);
      model.step(model.initialState(), 2);
      equal = equal && model.step(state, id).every((value, k) => value === whole[n][k]);
    });
    result = equal;
    """
    assert run_javascript(source + script, tmp_path) is True


@needs_javascript
@pytest.mark.parametrize(("weights", "tolerance"), [("int8", 0.2), ("float16", 0.01), ("float32", 1e-5)])
def test_the_page_decodes_the_weights_that_python_rounded(weights: str, tolerance: float, tmp_path: Path) -> None:
    model = stable_model("gru", hidden_size=24, ngrams=3, ngram_rows=128, ngram_dim=5)
    table = model.weights["ngrams.weight"].copy()
    table[::3] = 0
    model = Checkpoint(model.config, model.tokenizer, {**model.weights, "ngrams.weight": table}, model.about)
    payload = make_payload(model, "m", weights)
    assert payload.num_ngram_rows <= 256 - len(table[::3])
    ids = list(range(2, 40))
    source = javascript_of(payload) + STEPS + f"result = read(model, {ids});"
    difference = np.array(run_javascript(source, tmp_path)) - logits_of(model, ids)
    assert 0 < np.abs(difference[:, 1:]).max() < tolerance


@needs_javascript
def test_a_page_leaves_out_rows_of_an_index_that_are_zero_after_rounding(tmp_path: Path) -> None:
    shape = {"ngrams": 3, "ngram_rows": 1 << 10, "ngram_dim": 5, "ngram_words": 2, "ngram_index": True}
    model = stable_model("gru", hidden_size=24, **shape)
    table = model.weights["ngrams.weight"].copy()
    table[::3] *= 1e-6
    model = Checkpoint(model.config, model.tokenizer, {**model.weights, "ngrams.weight": table}, model.about)
    payload = make_payload(model, "m", "int8")
    assert 0 < payload.num_ngram_rows <= len(table) - len(table[::3])
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, 300).tolist()
    source = javascript_of(payload) + STEPS + f"result = read(model, {ids});"
    difference = np.array(run_javascript(source, tmp_path)) - logits_of(model, ids)
    assert 0 < np.abs(difference).max() < 0.2


def test_a_page_says_what_the_model_is() -> None:
    model = random_model()
    about = {**model.about, "corpus": "verse", "train_chars": 99, "result": {"val_bits_per_char": 2.5}}
    payload = make_payload(Checkpoint(model.config, model.tokenizer, model.weights, about), "poems", "int8", "CC0")
    described = payload.values["about"]
    assert (described["name"], described["corpus"], described["bits_per_char"]) == ("poems", "verse", 2.5)
    assert described["license_note"] == "CC0"
    assert "No licence" in make_payload(model, "poems").values["about"]["license_note"]


def test_a_sentencepiece_model_of_another_algorithm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SentencePieceTokenizer, "algorithm", lambda tokenizer: "word")
    with pytest.raises(ModelError, match=r"by another algorithm \(word\) than those of a page"):
        make_payload(random_model(VERSE * 9, "sp:270"), "m")


def test_a_model_of_a_series_is_refused() -> None:
    tokenizer = MuLawTokenizer(Quantizer(levels=4))
    config = ModelConfig(tokenizer.vocab_size, hidden_size=4, embedding_dim=4)
    weights = {name: np.zeros(shape, dtype=np.float32) for name, shape in parameter_shapes(config).items()}
    with pytest.raises(ModelError, match="continues a series of numbers"):
        make_payload(Checkpoint(config, tokenizer, weights), "m")


def test_a_cell_without_an_operator_graph_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    monkeypatch.setattr(type(CELLS.get("gru")), "step", lambda cell, xp, params, x_gates, state: (xp.cbrt(state[0]),))
    with pytest.raises(ModelError, match="has a cell that cannot run in a page"):
        make_payload(model, "m")


def test_weights_that_no_browser_can_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.export.payload.MAX_DATA_BYTES", 100)
    with pytest.raises(ModelError, match="a browser can read at most"):
        make_payload(random_model(text=VERSE), "m")
