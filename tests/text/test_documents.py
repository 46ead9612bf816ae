"""Documents are split at their separators, and a mark ends each of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.text.documents import MARK, split_documents
from chargen.tokenizers.tokenizer import BOUNDARY_ID, build_tokenizer

NAMES = ["An", "Bình", "Châu", "Dũng", "Giang", "Hà"]


def documents(text: str, kind: str, block: int = 1000) -> list[str]:
    pieces = [text[i : i + block] for i in range(0, len(text), block)]
    found = "".join(split_documents(pieces, kind))
    assert not found or found.endswith(MARK)
    return found.split(MARK)[:-1]


@pytest.mark.parametrize("block", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("line", "a\nb\n\nc", ["a", "b", "c"]),
        ("line", "\n\na\n", ["a"]),
        ("blank", "a\nb\n\nc\n \t\n\nd\n", ["a\nb", "c", "d"]),
        ("blank", "\n\na", ["a"]),
        ("blank", "\n\n \na", ["a"]),
        ("file", "a\n\nb\n", ["a\n\nb\n"]),
        ("<|end|>", "a\n<|end|>\nb<|end|>c", ["a", "b", "c"]),
        ("<|end|>", "<|end|>a <|end", ["a <|end"]),
        ("%", "a%%b\n%\n", ["a", "b"]),
    ],
)
def test_documents_are_split_at_their_separators(kind, text, expected, block):
    assert documents(text, kind, block) == expected


@settings(deadline=None)
@given(st.text("ab \n", max_size=30), st.sampled_from(["line", "blank", "file", "b"]), st.integers(1, 5))
def test_documents_do_not_depend_on_where_blocks_are_split_and_are_not_empty(text, kind, block):
    assert documents(text, kind, block) == documents(text, kind)
    assert all(documents(text, kind))


def test_a_text_of_many_documents_is_split_in_linear_time():
    """`chargen eval` splits a text as one piece. A copy of the rest at each separator would take quadratic time."""
    copied = []

    class Piece(str):
        def __radd__(self, text):
            return Piece(text + str(self))

        def __getitem__(self, key):
            part = str.__getitem__(self, key)
            copied.append(len(part))
            return part

    text = "ab\n" * 1000
    assert sum(map(len, split_documents([Piece(text)], "line"))) == len(text)
    assert copied and sum(copied) <= 2 * len(text)


@pytest.mark.parametrize("spec", ["char", "byte", "sp:300"])
def test_every_mark_becomes_the_boundary(spec):
    text = "".join(name + MARK for name in NAMES)
    tokenizer = build_tokenizer(spec, "\n".join(NAMES))
    expected = [i for name in NAMES for i in [*tokenizer.encode(name).tolist(), BOUNDARY_ID]]
    assert tokenizer.encode_documents(text).tolist() == expected
