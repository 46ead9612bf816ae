"""Each sampling rule leaves its stated distribution, for single rows and for batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.cli.commands.sample import sample
from chargen.errors import ConfigError
from chargen.sampling.logits_rules import (
    apply_temperature,
    draw,
    keep_top_k,
    keep_top_p,
    keep_typical,
    log_sum_exp,
    softmax,
    warp_logits,
)
from chargen.sampling.settings import SAMPLING_RULES, SampleConfig
from chargen.schema import Integer
from tests.sampling.test_decoding import LOGITS, chi_squared, mask

P = [0.5, 0.2, 0.15, 0.1, 0.05]  # what LOGITS are the logarithms of
SURPRISALS = -np.log(P)
ENTROPY = float((np.array(P) * SURPRISALS).sum())

rows = st.integers(2, 9).flatmap(lambda v: st.lists(st.lists(st.floats(-20, 20), min_size=v, max_size=v), min_size=1))
#: A value for every rule of `SampleConfig`, with which it has an effect on LOGITS.
VALUES = {name: 2 if isinstance(rule.values, Integer) else 0.5 for name, rule in SAMPLING_RULES.items()}
KEEP_THE_MOST_PROBABLE = {"top_k", "top_p", "min_p", "temperature"}
rules = st.sampled_from(
    [
        *({name: value} for name, value in VALUES.items()),
        {"top_k": 1}, {"top_k": 3}, {"top_p": 0.3}, {"top_p": 0.95}, {"typical": 0.4}, {"typical": 0.9},
        {"min_p": 0.1}, {"min_p": 1.0}, {"temperature": 0.5}, {"temperature": 3.0}, {"temperature": 0.0},
        {"top_k": 4, "top_p": 0.9, "typical": 0.9, "min_p": 0.05, "temperature": 1.5},
    ]
)  # fmt: skip


def warped(logits: np.ndarray, **values: float) -> np.ndarray:
    return warp_logits(logits, SampleConfig(**values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.5}, [0]),
        ({"top_p": 0.51}, [0, 1]),
        ({"top_p": 0.85}, [0, 1, 2]),
        ({"min_p": 0.2}, [0, 1, 2, 3]),
        ({"min_p": 0.25}, [0, 1, 2]),
        ({"typical": 0.3}, [1, 2]),  # |surprisal − entropy|: .24 for .2, .53 for .15, .68 for .5, .93 for .1
        ({"top_k": 3, "min_p": 0.35}, [0, 1]),
    ],
)
def test_draws_under_each_rule_follow_the_stated_distribution(rule: dict[str, float], kept: list[int]) -> None:
    expected = np.zeros(5)
    expected[kept] = np.array(P)[kept] / np.array(P)[kept].sum()
    np.testing.assert_allclose(softmax(warped(LOGITS, **rule)), expected, atol=1e-12)
    rng, n = np.random.default_rng(1), 100_000
    logits = warped(LOGITS, **rule)
    counts = np.bincount([draw(logits, rng.random()) for _ in range(n)], minlength=5)
    assert chi_squared(counts, n * expected) < 23.5  # at most 4 degrees of freedom: p = 1e-4


def test_typical_keeps_surprisals_nearest_to_the_entropy() -> None:
    order = np.argsort(np.abs(SURPRISALS - ENTROPY), kind="stable")
    for count in range(1, 5):
        mass = float(np.array(P)[order[:count]].sum())
        kept = np.flatnonzero(np.isfinite(keep_typical(LOGITS, mass - 1e-9)))
        assert set(kept) == set(order[:count])


@settings(max_examples=150, deadline=None)
@given(rows, rules)
def test_rules_of_a_batch_equal_rules_of_single_rows(values: list[list[float]], rule: dict[str, float]) -> None:
    logits = np.array(values)
    before = logits.copy()
    together = warped(logits, **rule)
    np.testing.assert_array_equal(logits, before)
    for row, one in zip(logits, together, strict=True):
        np.testing.assert_array_equal(warped(row, **rule), one)
        assert softmax(one).sum() == pytest.approx(1.0)
        assert softmax(one)[row.argmax()] > 0 or not KEEP_THE_MOST_PROBABLE.issuperset(rule)


@pytest.mark.parametrize("name", SAMPLING_RULES)
def test_a_field_of_sample_config_registers_a_rule(name: str) -> None:
    rule, options = SAMPLING_RULES[name], {param.name: param for param in sample.params}
    assert getattr(SampleConfig(), name) == rule.off == options[name].default
    assert SampleConfig.FIELDS[name] is rule.values
    value = VALUES[name]
    (active,) = SampleConfig(**{name: value}).active_rules
    assert active == (rule, value)
    expected = rule.function(apply_temperature(LOGITS, 1.0), value)
    np.testing.assert_array_equal(warped(LOGITS, **{name: value}), expected)
    assert not np.array_equal(expected, warped(LOGITS))


def test_rules_act_in_the_order_of_their_fields() -> None:
    everything = SampleConfig(**dict(reversed(VALUES.items())))  # type: ignore[arg-type]
    assert [rule for rule, _ in everything.active_rules] == list(SAMPLING_RULES.values())
    known = [name for name in SAMPLING_RULES if name in ("top_k", "top_p", "typical", "min_p")]
    assert known == ["top_k", "top_p", "typical", "min_p"]
    assert SampleConfig().active_rules == ()


@settings(max_examples=100, deadline=None)
@given(rows, st.integers(1, 9), st.floats(0.01, 1))
def test_rules_keep_the_logits_of_kept_ids(values: list[list[float]], k: int, p: float) -> None:
    logits = np.array(values)
    values_of_rules = {**VALUES, "top_k": k, "top_p": p, "min_p": p, "typical": p}
    for name, rule in SAMPLING_RULES.items():
        kept = rule.function(logits, values_of_rules[name])
        inside = np.isfinite(kept)
        assert inside.any(axis=-1).all()
        np.testing.assert_array_equal(kept[inside], logits[inside])
    assert (np.isfinite(keep_top_k(logits, k)).sum(-1) == min(k, logits.shape[1])).all()
    mass = np.where(np.isfinite(keep_top_p(logits, p)), softmax(logits), 0).sum(-1)
    assert (mass >= p - 1e-9).all()


def test_masked_ids_stay_masked_under_every_rule() -> None:
    logits = LOGITS + mask(0, 4)
    for name, value in VALUES.items():
        assert set(np.flatnonzero(softmax(warped(logits, **{name: value})))) <= {1, 2, 3}
    for rule in ({"top_k": 3}, {"top_p": 0.999}, {"typical": 0.999}, {"min_p": 1e-9}, {"temperature": 9.0}):
        assert set(np.flatnonzero(softmax(warped(logits, **rule)))) == {1, 2, 3}


def test_log_sum_exp_is_the_logarithm_of_the_sum() -> None:
    assert log_sum_exp(LOGITS) == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(log_sum_exp(np.stack([LOGITS, LOGITS + 3])), [0.0, 3.0], atol=1e-12)


@pytest.mark.parametrize(
    "bad",
    [{"top_p": 0}, {"top_p": 1.5}, {"top_k": -1}, {"min_p": 2}, {"typical": 0}, {"dry": -1}, {"ban": ("",)},
     {"stop": ("",)}, {"until": "dawn"}, {"max_copy": -1}, {"dry_base": 0.5}],
)  # fmt: skip
def test_settings_out_of_range_are_errors(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        SampleConfig(**bad)  # type: ignore[arg-type]
