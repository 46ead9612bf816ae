"""Properties of characters: each against examples, with a caret below each character that has it."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.probe import text_properties as properties


def marks(values: np.ndarray) -> str:
    return "".join(str(int(value)) for value in values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('say "hi" now', "000011100000"),
        ('no pair " here', "0" * 14),
        ("it's Tom's, 'tis", "0" * 16),
        ("f('it')", "0011100"),
        ("“a” «b» 「c」", "11001100110"),
        ('"one\ntwo"', "1" * 8 + "0"),
        ('"a paragraph ends\n\nthe quote"', "0" * 29),
        ("‘don’t’ x", "111111000"),  # noqa: RUF001
    ],
)
def test_quotes_are_pairs(text: str, expected: str) -> None:
    assert marks(properties.inside_quotes(text)) == expected


def test_positions_and_indentations_are_those_read_so_far() -> None:
    text = "ab\n  if x:\n\ty"
    assert marks(properties.line_positions("ab\ncd")) == "12012"
    assert properties.indentations(text).tolist() == [0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 0, 4, 4]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("f(a[0])", "0112210"), (":( (x)", "000110"), ("(]x)", "1110"), ("[(]", "110"), ("{（）}", "1210")],  # noqa: RUF001
)  # fmt: skip
def test_bracket_depth_counts_pairs_only(text: str, expected: str) -> None:
    assert marks(properties.bracket_depths(text)) == expected


def test_a_word_has_letters_digits_marks_and_apostrophes_between_letters() -> None:
    text = "don't e\u0302 x2, 'a' 漢"
    assert marks(properties.inside_words(text)) == "111110110110001001"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_tone_mark_counts_from_its_letter_to_the_end_of_the_syllable(form: str) -> None:
    text = unicodedata.normalize(form, "tôi nhớ nhà, ơi")
    found = {each.name: each for each in properties.text_properties(text) if "tone" in each.name}
    end_of_syllable = [i for i, char in enumerate(text) if i + 1 == len(text) or not text[i + 1].isalnum()]
    any_tone = found["tone mark on the syllable"].values
    assert any_tone[text.index(" nh") - 1] == 0  # ô has a circumflex, which is no tone
    assert [any_tone[i] for i in end_of_syllable if text[i].isalpha()][-1] == 0  # ơi
    assert found["tone sắc"].values.sum() >= 1
    assert found["tone huyền"].values[text.index(",") - 1] == 1
    assert found["tone nặng"].values.sum() == 0


def test_tones_are_properties_of_vietnamese_text_only() -> None:
    names = [each.name for each in properties.text_properties("¿Qué será, será? déjà vu, für größer")]
    assert not any("tone" in name for name in names)


def test_a_property_of_few_characters_does_not_vary() -> None:
    few, enough = (properties.text_properties('"' + "a" * n + '"' + "b" * 20)[0] for n in (5, 9))
    assert (few.varies, enough.varies) == (False, True)


@given(st.text(st.sampled_from("ab \n\t\"'()[]“”«»àớ\u0301漢\u200d👍"), max_size=60))
def test_every_property_has_a_finite_value_for_every_character(text: str) -> None:
    for each in properties.text_properties(text):
        assert each.values.shape == (len(text),)
        assert np.isfinite(each.values).all() and (each.values >= 0).all()
        assert not each.is_binary or set(each.values) <= {0.0, 1.0}
