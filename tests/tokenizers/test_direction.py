"""The direction of a text: reversing is its own inverse, and keeps letters whole."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chargen.errors import ConfigError
from chargen.text.documents import MARK
from chargen.text.long_text import LongText
from chargen.tokenizers import direction, reversed_text
from chargen.tokenizers.direction import check_prompt, reverse, reverse_pieces, text_before
from chargen.tokenizers.reversed_text import ReversedPart, reverse_span

ZWJ = "\u200d"
#: letters, marks, Thai, Hangul, flags, emoji with skin tones and joiners, newlines
CHARACTERS = "ab \n\u0301\u0323\u0e19\u0e49\u0e32\u1100\u1161\U0001f1fb\U0001f1f3\U0001f469\U0001f3fd\u200d\u200c\ufe0f"
texts = st.text(st.sampled_from(CHARACTERS) | st.characters(exclude_categories=["Cs"]), max_size=30)
laws = settings(deadline=None, max_examples=300)


@laws
@given(texts)
@example("\u0301a\u0301b")
@example(f"{ZWJ}{ZWJ}a{ZWJ}\U0001f1fb\U0001f1f3{ZWJ}{ZWJ}")
@example("\U0001f1fb\U0001f1f3\u0301\U0001f1fba\U0001f1f3")
def test_reversing_is_its_own_inverse(text: str) -> None:
    assert reverse(reverse(text)) == text
    assert sorted(reverse(text)) == sorted(text)


@pytest.mark.parametrize(
    "letters",
    [
        list("The end."),
        [unicodedata.normalize("NFD", letter) for letter in "chữ tài chữ mệnh"],
        ["น้ำ", "ใ", "จ", " ", "เ", "ป็", "น"],
        ["\u1112\u1161\u11ab", "\u1100\u1173\u11af"],  # Hangul in NFD
        ["👩🏽‍🚀", "a", "👨‍👩‍👧", "❤️", "🇻🇳", "b", "🇫🇷🇩🇪"],
        ["क्", "षि", " ", "م", "ی\u200c", "خ"],
    ],
)
def test_letters_stay_whole(letters: list[str]) -> None:
    assert reverse("".join(letters)) == "".join(reversed(letters))


@laws
@given(texts, texts)
def test_documents_are_reversed_in_their_place(first: str, second: str) -> None:
    assert reverse(f"{first}{MARK}{second}{MARK}") == f"{reverse(first)}{MARK}{reverse(second)}{MARK}"


@laws
@given(texts.flatmap(lambda text: st.tuples(st.just(text), st.lists(st.integers(0, len(text)), max_size=12))))
def test_the_pieces_of_a_text_reversed_are_the_reversed_text(text_and_cuts: tuple[str, list[int]]) -> None:
    text, cuts = text_and_cuts
    edges = sorted({0, *cuts, len(text)})
    for pieces in (list(text), [text[a:b] for a, b in zip(edges, edges[1:], strict=False)]):
        groups = reverse_pieces(pieces)
        assert sorted(i for group in groups for i in group) == list(range(len(pieces)))
        joined = ["".join(pieces[i] for i in group) for group in groups]
        parts = [part if len(part) == 1 else reverse(part) for part in joined]
        assert "".join(parts) == reverse(text)
    assert all(len(group) == 1 for group in reverse_pieces(list(text)))


@laws
@given(texts, texts)
@example("a", "\u0301b")
@example("🇻🇳", "🇫🇷a")
@example("a", f"b{ZWJ}")
def test_a_text_before_a_prompt_is_read_back_by_the_model(prompt: str, generated: str) -> None:
    """What stands before the prompt, with the prompt, is what the model has read and generated."""
    try:
        check_prompt(prompt)
    except ConfigError:
        assert (
            unicodedata.category(prompt[0])[0] in "MC" or re.match(direction.OTHER_MARKS, prompt) or prompt[-1] == ZWJ
        )
        return
    text = text_before(prompt, generated)
    if prompt:
        assert generated.rstrip(ZWJ).endswith(reverse(text))
        assert reverse(text + prompt) == reverse(prompt) + reverse(text)
    else:
        assert reverse(text) == generated


@laws
@given(texts, st.integers(1, 7), st.booleans())
def test_a_long_text_is_reversed_in_pieces(text: str, block_chars: int, documents: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reversed_text, "BLOCK_CHARS", block_chars)
        long_text = LongText(documents)
        if documents:
            text = f"{text}{MARK}\u0301{text}{MARK}"
        long_text.write(text)
        part = ReversedPart(long_text.span())
        found = "".join(part.pieces())
        assert b"".join(part.utf8_pieces()).decode("utf-8", "surrogatepass") == found
        assert part.read(1, -1) == found[1:-1]
        assert reverse_span(long_text.span()).read() == found
        if documents or not text or (text[-1] != ZWJ and unicodedata.category(text[0])[0] not in "MC"):
            assert found == reverse(text) or re.match(direction.OTHER_MARKS, text)
        assert len(found) == part.num_chars and sorted(found) == sorted(text)
        assert part.key != long_text.span().key
