"""Records: lines, NUL-separated records, JSON records and whole files."""

import io
import json
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import CorpusError
from chargen.text import cleaning
from chargen.text.cleaning import CleaningReport
from chargen.text.records import JSON, LINES, NULL, WHOLE, RecordFormat, read_batches, split_pieces

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=8)
NEWLINES = ["\n", "\r\n", "\r"]


def read(
    data: bytes,
    form: str = LINES,
    block: int = 1 << 20,
    report: CleaningReport | None = None,
    **settings_: Any,
) -> list[str]:
    blocks = iter(partial(io.BytesIO(data).read, block), b"")
    batches = read_batches(blocks, "it", RecordFormat(form, **settings_), report or CleaningReport())
    return [text for batch in batches for text in batch]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(LINE, st.sampled_from(NEWLINES)), max_size=8),
    st.integers(1, 9),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-le"]),
)
def test_lines_do_not_depend_on_newline_encoding_or_block_size(
    lines: list[tuple[str, str]], block: int, encoding: str
) -> None:
    # An empty line after a CR would be taken for the rest of a CRLF, and a first U+FEFF for a mark.
    parts = [("x" + line, newline) for line, newline in lines]
    data = "".join(line + newline for line, newline in parts).encode(encoding)
    assert read(data, block=block, encoding=encoding) == [line for line, _ in parts]


def test_empty_lines_are_texts_and_the_last_newline_ends_a_text() -> None:
    assert read(b"a\n\nb\n\n") == ["a", "", "b", ""]
    assert read(b"a\nb") == ["a", "b"]
    assert read(b"") == []
    assert read(b"\n") == [""]
    assert read(b"a\r\r\nb\r", block=2) == ["a", "", "b"]


def test_a_nul_byte_is_a_character_of_a_line_and_the_end_of_a_record() -> None:
    assert read(b"a\0b\nc") == ["a\0b", "c"]
    assert read(b"a\nb\0c\0\0d", NULL) == ["a\nb", "c", "", "d"]


def test_a_whole_file_is_one_text_without_its_last_newline() -> None:
    assert read(b"\xef\xbb\xbfa\nb\r\n", WHOLE) == ["a\nb"]
    assert read(b"a\nb\n\n", WHOLE) == ["a\nb\n"]


def test_a_line_of_a_megabyte_is_one_text() -> None:
    assert [len(line) for line in read(b"a" * (1 << 20) + b"\nb\n", block=4096)] == [1 << 20, 1]


def test_json_records_give_their_field_and_blank_lines_are_skipped() -> None:
    data = "\n\n".join(json.dumps({"id": n, "t": text}) for n, text in enumerate(["a\nb", "chữ", ""])).encode()
    assert read(data, JSON, field="t") == ["a\nb", "chữ", ""]


@pytest.mark.parametrize(
    ("data", "form", "words"),
    [
        (b"a\nb\xffc\n", LINES, ["it, line 2 is not UTF-8", "byte 2 of it is 0xFF", "--errors replace"]),
        (b"a\0b\xffc", NULL, ["it, record 2"]),
        (b'{"text": "a"}\n{"text": 1}', JSON, ["line 2", "no text in a field 'text'"]),
        (b'{"id": 1, "tekst": "a"}', JSON, ["'id', 'tekst'", "--text-field"]),
        (b"[" * 100_000, JSON, ["line 1 is not JSON"]),
        (
            b'{"text": "\\ud800"}',
            JSON,
            ["line 1 has the escape \\ud800, which is half of a character", "--errors replace"],
        ),
    ],
)
def test_the_error_for_an_invalid_line_names_it(data: bytes, form: str, words: list[str]) -> None:
    with pytest.raises(CorpusError) as found:
        read(data, form)
    assert all(word in str(found.value) for word in words), str(found.value)


def test_the_error_for_truncated_utf16_names_the_last_line() -> None:
    with pytest.raises(CorpusError, match="line 2 is not UTF-16-LE"):
        read("a\nb".encode("utf-16-le") + b"\x00", encoding="utf-16-le", block=4)


def test_invalid_bytes_can_be_replaced() -> None:
    assert read(b"a\nb\xffc\n", errors="replace") == ["a", "b\ufffdc"]
    assert read(b'{"text": "\\ud800"}', JSON, errors="replace") == ["\ufffd"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), max_size=9), st.sampled_from([LINES, NULL, JSON]), st.integers(1, 9))
def test_invalid_records_are_skipped_and_reported_and_no_other_text_is_lost(
    good: list[bool], form: str, block: int
) -> None:
    bad = b'{"text": 1}' if form == JSON else b"\xff"
    texts = [f"text {n}" for n in range(len(good))]
    lines = [json.dumps({"text": text}).encode() if form == JSON else text.encode() for text in texts]
    data = b"".join(
        (line if fine else bad) + (b"\0" if form == NULL else b"\n") for line, fine in zip(lines, good, strict=True)
    )
    report = CleaningReport()
    with patch.object(cleaning, "MAX_NAMED", 100):
        found = read(data, form, block, report, errors="skip")
    assert found == [text for text, fine in zip(texts, good, strict=True) if fine]
    what = "record" if form == NULL else "line"
    expected = [f"skipped: it, {what} {n}" for n, fine in enumerate(good, start=1) if not fine]
    assert [" ".join(note.split()[:4]) for note in report.notes()] == expected


def test_a_whole_file_that_is_invalid_can_be_skipped() -> None:
    report = CleaningReport()
    assert read(b"a\xff", WHOLE, report=report, errors="skip") == []
    assert len(report.notes()) == 1


@settings(max_examples=100, deadline=None)
@given(st.text("ab|", max_size=20), st.integers(1, 5), st.integers(1, 4))
def test_parts_do_not_depend_on_where_pieces_are_split_and_long_parts_are_marked_by_their_size(
    text: str, block: int, max_size: int
) -> None:
    pieces = [text[i : i + block] for i in range(0, len(text), block)]
    expected = text.split("|") if not text or text.endswith("|") else [*text.split("|"), ""]
    found = list(split_pieces(pieces, "|", max_size))
    assert list(split_pieces([piece.encode() for piece in pieces], b"|", max_size)) == [part.encode() for part in found]
    assert len(found) == len(expected) - 1
    for part, whole in zip(found, expected, strict=False):
        assert part == whole if len(whole) <= max_size else whole.startswith(part) and len(part) > max_size
