"""Suggested edits have exact log probabilities, and all four kinds are found, for any tokenizer."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError
from chargen.lm import LanguageModel
from chargen.scoring.edits import MAX_CHARS, Edit, SearchLimits, suggest
from tests.conftest import VERSE, random_model, random_weights

TEXTS = st.text(alphabet=sorted(set(VERSE) - {"\n"}), min_size=1, max_size=12)


def alphabet_model(num_letters: int = 8) -> LanguageModel:
    """Return a model with weights set by hand that expects the next letter of the alphabet; its state is its input."""
    letters = "".join(chr(ord("a") + i) for i in range(num_letters))
    model = random_model(letters + "\n", cell="rnn", hidden_size=num_letters + 3, embedding_dim=num_letters + 3)
    V = model.config.vocab_size
    weights = {name: np.zeros_like(weight) for name, weight in random_weights(model.config).items()}
    weights["embedding.weight"] = np.eye(V, dtype=np.float32)
    weights["layers.0.weight_ih"] = 4 * np.eye(V, dtype=np.float32)
    ids = model.tokenizer.encode("\n" + letters + "\n")
    for before, after in itertools.pairwise(ids.tolist()):
        weights["head.weight"][after, before] = 6.0
    return LanguageModel(type(model)(model.config, model.tokenizer, weights, model.about))


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("abcdxfgh", "replace"),
        ("abcdfgh", "insert"),
        ("abcddefgh", "delete"),
        ("abcedfgh", "swap"),
        ("bcdefgh", "insert"),
    ],
)
def test_each_kind_of_error_is_corrected_by_the_opposite_edit(written: str, kind: str) -> None:
    best = alphabet_model().suggest(written)[0]
    assert (best.edit.kind, best.text) == (kind, "abcdefgh")
    assert best.gain_nats > 5


def test_the_most_likely_text_has_no_suggestions() -> None:
    assert alphabet_model().suggest("abcdefgh") == []


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["char", "byte", "sp:300"]), TEXTS, TEXTS)
def test_log_probs_are_the_scores_of_the_edited_texts_with_their_end(tokenizer: str, text: str, context: str) -> None:
    lm = LanguageModel(random_model(VERSE * 20, tokenizer))
    whole = lm.score(text + "\n", context=context).log_prob_nats
    for s in lm.suggest(text, context=context):
        assert s.text == s.edit.apply(text)
        assert s.log_prob_nats == pytest.approx(lm.score(s.text + "\n", context=context).log_prob_nats, abs=1e-4)
        assert s.gain_nats == pytest.approx(s.log_prob_nats - whole, abs=2e-4)
        assert "\n" not in s.text


@settings(max_examples=8, deadline=None)
@given(st.text(alphabet="abcdefgh\n", min_size=1, max_size=5))
def test_without_limits_the_best_edit_of_all_is_found(text: str) -> None:
    model = random_model("abcdefgh\n", seed=2)
    lm = LanguageModel(model)
    letters = sorted(set("abcdefgh" + text))
    edits = {text[:i] + c + text[i + k :] for i in range(len(text) + 1) for k in (0, 1) for c in ["", *letters]}
    edits |= {text[:i] + text[i + 1] + text[i] + text[i + 2 :] for i in range(len(text) - 1)}
    scores = lm.score([edited + "\n" for edited in sorted(edits - {text})])
    best = sorted((s.log_prob_nats for s in scores), reverse=True)[:5]
    found = suggest(lm._numpy, model, text, limits=SearchLimits(num_chars=99, num_finalists=10**6))
    unchanged = lm.score(text + "\n").log_prob_nats
    expected = [value for value in best if value > unchanged + 1e-4]
    assert [s.log_prob_nats for s in found][: len(expected)] == pytest.approx(expected, abs=1e-4)


def test_the_best_edit_removes_an_unknown_character() -> None:
    best = LanguageModel(random_model()).suggest("Chữ €tài")[0]
    assert "€" in best.edit.removed
    assert "€" not in best.text


def test_an_inserted_combining_mark_is_scored_as_the_composed_letter() -> None:
    text = "cafe\u0301 cafe cafe\u0301"  # NFD: the model's form is composed
    lm = LanguageModel(random_model(text * 9, "byte"))
    for s in lm.suggest(text):
        assert s.log_prob_nats == pytest.approx(lm.score(s.text + "\n").log_prob_nats, abs=1e-4)


def test_the_empty_text_has_only_insertions_and_a_long_text_is_refused() -> None:
    lm = LanguageModel(random_model())
    assert {s.edit.kind for s in lm.suggest("")} <= {"insert"}
    with pytest.raises(ConfigError, match="line"):
        lm.suggest("a" * (MAX_CHARS + 1))


def test_apply_returns_the_edited_text() -> None:
    assert Edit("swap", 1, "ab", "ba").apply("xabx") == "xbax"
