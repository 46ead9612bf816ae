"""Words as tokens: the recipe, scripts without spaces, and damaged descriptions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.errors import TokenizerError
from chargen.tasks.classification.words import DEFAULT_WORDS, WordTokenizer, read_num_words, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't PANIC!", ["dont", "panic"]),
        ("one,two;three -- 4.5", ["one", "two", "three", "4", "5"]),
        ("你好，world和平", ["你", "好", "world", "和", "平"]),
        ("日本語テキスト", list("日本語テキスト")),
        ("ภาษา", list("ภาษา")),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),  # vowel signs are part of the word
        ("Straße ÉCOLE", ["straße", "école"]),
        ("great👍❤️", ["great", "👍", "❤"]),
        ("...!?", []),
    ],
)
def test_texts_are_split_into_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@given(st.text(max_size=60))
def test_a_word_alone_is_the_same_word(text: str) -> None:
    for word in split_words(text):
        assert split_words(word) == [word]


def test_the_most_frequent_words_are_kept() -> None:
    tokenizer = WordTokenizer.build(["the cat", "the dog the end", "a cat"], 2)
    assert tokenizer.words == ("the", "cat")
    assert tokenizer.encode("The mouse, the CAT!").tolist() == [2, 1, 2, 3]
    again = WordTokenizer.from_json(tokenizer.to_json())
    assert again.words == tokenizer.words
    assert again.vocab_size == 4


def test_texts_without_words_have_no_vocabulary() -> None:
    with pytest.raises(TokenizerError, match="no words"):
        WordTokenizer.build(["...", "?!"], 10)


@pytest.mark.parametrize("words", [None, [], ["a", "a"], ["A"], ["a b"], [1], [""], ["a!"], ["a" * 101]])
def test_damaged_descriptions_are_refused(words: object) -> None:
    with pytest.raises(TokenizerError):
        WordTokenizer.from_json({"name": "words", "words": words})


def test_the_number_of_words_is_read() -> None:
    assert (read_num_words(""), read_num_words("500")) == (DEFAULT_WORDS, 500)
    for option in ("0", "-1", "many", "1000001", "9" * 50, "²"):
        with pytest.raises(TokenizerError, match="words:20000"):
            read_num_words(option)
