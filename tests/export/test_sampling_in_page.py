"""The sampling rules of the page are those of `chargen sample`."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chargen.sampling.logits_rules import draw, softmax, warp_logits
from chargen.sampling.settings import SampleConfig
from chargen.tokenizers.tokenizer import DEAD, NUM_STATES, _run_automaton
from tests.export.javascript import needs_javascript, run_javascript

SAMPLING = files("chargen.export").joinpath("assets", "sampling.js").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.3},
    {"temperature": 4.0, "top_k": 3},
    {"top_k": 1},
    {"top_p": 0.5},
    {"top_p": 1e-9},
    {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "min_p": 0.1},
    {"min_p": 1.0},
]


def run(source: str, folder: Path) -> Any:
    return run_javascript(f"{SAMPLING}\n{source}", folder)


def settings_of(rules: dict[str, Any]) -> dict[str, Any]:
    config = SampleConfig(**rules)
    return {"temperature": config.temperature, "topK": config.top_k, "topP": config.top_p, "minP": config.min_p}


@needs_javascript
def test_the_rules_keep_the_same_distribution(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, (40, 12))
    logits[10:20] = logits[10:20].round()  # ties
    logits[20:30, ::3] = -1e30  # masked token ids
    logits[30:, :] = 0.5
    cases = [[settings_of(rules), row.tolist()] for rules in RULES for row in logits]
    warped = run(
        f"result = {json.dumps(cases)}.map(([settings, row]) => "
        "Array.from(warpLogits(Float64Array.from(row), settings), Math.exp));",
        tmp_path,
    )
    expected = [softmax(warp_logits(row, SampleConfig(**rules))) for rules in RULES for row in logits]
    for weights, probs in zip(warped, expected, strict=True):
        np.testing.assert_allclose(np.array(weights) / sum(weights), probs, atol=1e-12)


@needs_javascript
def test_draws_are_those_of_the_same_random_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (50, 9))
    logits -= logits.max(axis=1, keepdims=True)
    logits[:, 4] = -np.inf
    uniforms = [*rng.random(48).tolist(), 0.0, 1 - 2**-53]
    rows = [[None if value == -np.inf else value for value in row] for row in logits.tolist()]
    ids = run(
        f"const rows = {json.dumps(rows)}, uniforms = {json.dumps(uniforms)};\n"
        "result = rows.map((row, i) => drawId(Float64Array.from(row, x => x ?? -Infinity), uniforms[i]));",
        tmp_path,
    )
    assert ids == [draw(row, uniform) for row, uniform in zip(logits, uniforms, strict=True)]


@needs_javascript
@pytest.mark.parametrize("seed", [0, 1, 2**53 - 1])
def test_random_numbers_are_uniform_and_differ_between_seeds_and_positions(seed: int, tmp_path: Path) -> None:
    count = 20_000
    numbers = run(
        f"result = Array.from({{length: {count}}}, (_, n) => randomNumber({seed}, n))"
        f".concat(Array.from({{length: {count}}}, (_, n) => randomNumber({max(0, seed - 1)}, n + 1)));",
        tmp_path,
    )
    first, second = np.array(numbers[:count]), np.array(numbers[count:])
    assert first.min() >= 0 and first.max() < 1
    counts = np.histogram(first, 100, (0, 1))[0]
    assert ((counts - count / 100) ** 2 / (count / 100)).sum() < 160  # χ² with 99 degrees of freedom, p = 1e-4
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.03
    if seed:
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert len(set(numbers[:count])) == count


@needs_javascript
def test_a_text_ends_before_the_stop_string_that_is_complete_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    cases = [
        (
            "".join(rng.choice(list("abc"), 8)),
            int(rng.integers(1, 9)),
            ["".join(rng.choice(list("abc"), 1 + k % 4)) for k in range(3)],
        )
        for _ in range(300)
    ]
    starts = run(
        f"result = {json.dumps(cases)}.map(([text, numNew, stops]) => findStop(text, numNew, stops));", tmp_path
    )
    for (text, num_new, stops), start in zip(cases, starts, strict=True):
        ends = [end for end in range(len(text) - num_new + 1, len(text) + 1) if text[:end].endswith(tuple(stops))]
        longest = max((len(stop) for stop in stops if ends and text[: ends[0]].endswith(stop)), default=0)
        assert start == (ends[0] - longest if ends else -1)


@needs_javascript
def test_the_states_of_utf8_are_those_of_the_tokenizers(tmp_path: Path) -> None:
    table = run(
        f"result = Array.from({{length: {NUM_STATES}}}, (_, state) => "
        "Array.from({length: 256}, (_, byte) => runUtf8([byte], state)));",
        tmp_path,
    )
    expected = [[_run_automaton(bytes([byte]), state) for byte in range(256)] for state in range(NUM_STATES)]
    assert table == expected
    assert DEAD == -1
