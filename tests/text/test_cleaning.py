"""Cleaning: encodings, newlines, composed characters, compression, and data that is not text."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sys
import unicodedata

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.text.cleaning import CleaningReport, _skip_invalid_lines, has_boundary_before, normalize_text
from chargen.text.corpus import Corpus, read_corpus
from chargen.text.limits import ReadLimit
from chargen.text.long_text import LongText
from chargen.text.readers import read_texts

NO_CLEANING = DataConfig(newline="keep", normalize="none")
SCRIPTS = {
    "vietnamese": "Trăm năm trong cõi người ta,\nChữ tài chữ mệnh khéo là ghét nhau.\n",
    "greek": "Ἄνδρα μοι ἔννεπε, Μοῦσα, πολύτροπον\n",
    "han": "床前明月光，\n疑是地上霜。\n",
    "hangul": "나랏말싸미 듕귁에 달아\n",
    "hebrew": "בְּרֵאשִׁית בָּרָא\n",
    "devanagari": "धर्मक्षेत्रे कुरुक्षेत्रे\n",
    "emoji": "a 👩‍👩‍👧 family\n",
}
#: cp1258 has no composed letter with a tone: "ệ" is "ê" and U+0323.
CP1258_BYTES = b"Vi\xea\xf2t Nam\r\n"

plain_text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


def clean(data: bytes, where: str, config: DataConfig, notes: list[str], block: int = 1 << 20) -> str:
    """The clean text of a file that is read in blocks of a size."""
    findings = CleaningReport()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.text.inputs.BLOCK_BYTES", block)
        texts = read_texts(io.BytesIO(data), where, config, findings, ReadLimit())
        text = "".join(piece for pieces in texts for piece in pieces)
    notes.extend(findings.notes())
    return text


def cleaned(data: bytes, **settings_: str) -> tuple[str, list[str]]:
    """The clean text and the notes, which do not depend on where the blocks are split."""
    results = []
    for block in (1 << 20, 1, 2, 3, 7):
        notes: list[str] = []
        results.append((clean(data, "poem.txt", DataConfig(**settings_), notes, block), notes))
    assert all(result == results[0] for result in results)
    return results[0]


def refused(data: bytes, **settings_: str) -> CorpusError:
    with pytest.raises(CorpusError) as caught:
        cleaned(data, **settings_)
    return caught.value


# ── encodings ─────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")))
@example("\r\n\r \x1b[0m")
def test_utf8_text_without_cleaning_is_unchanged(text):
    notes: list[str] = []
    assert clean(text.encode(), "x", NO_CLEANING, notes) == text
    assert notes == []


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_script_is_read_in_every_unicode_encoding(text, encoding):
    notes: list[str] = []
    assert clean(text.encode(encoding), "x", DataConfig(encoding=encoding, normalize="none"), notes) == text
    assert notes == []


@pytest.mark.parametrize(("named", "encoding"), [("utf-16", "utf-16-le"), ("utf-32", "utf-32-le")])
def test_a_wide_encoding_without_a_byte_order_mark_is_little_endian(named, encoding):
    assert cleaned("Trăm năm\n".encode(encoding), encoding=named) == ("Trăm năm\n", [])


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("latin-1", "Ça va où, garçon?\n"), ("shift_jis", "吾輩は猫である\n"), ("koi8-r", "Мой дядя самых\n")],
)
def test_older_encodings_are_read_when_named(encoding, text):
    assert cleaned(text.encode(encoding), encoding=encoding)[0] == text


def test_cp1258_gives_composed_vietnamese():
    text, notes = cleaned(CP1258_BYTES, encoding="cp1258")
    assert text == "Việt Nam\n"
    assert len(notes) == 2
    assert cleaned(CP1258_BYTES, encoding="cp1258", normalize="none", newline="keep") == ("Viê\u0323t Nam\r\n", [])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_the_byte_order_mark_is_removed_only_at_the_start(encoding):
    mark = "" if encoding in ("utf-16", "utf-8-sig") else "\ufeff"  # those two write their own
    assert cleaned(f"{mark}ab\ufeffc".encode(encoding), encoding=encoding)[0] == "ab\ufeffc"


@pytest.mark.parametrize("encoding", ["utf-9", "", "hex", "rot13", "ütf", "a\0b"])
def test_an_unknown_encoding_is_named(encoding):
    error = refused(b"abc", encoding=encoding)
    assert error.message == f"no encoding named {encoding!r}"
    assert "utf-16" in error.hint


@pytest.mark.parametrize("encoding", ["punycode", "undefined"])
def test_every_error_of_a_codec_is_a_corpus_error(encoding):
    assert "poem.txt" in str(refused(b" +", encoding=encoding))


@settings(deadline=None)
@given(st.text("aé\n", max_size=30), st.lists(st.integers(32, 255)).map(bytes))
def test_the_message_gives_the_offset_and_the_line_of_the_first_wrong_byte(before, after):
    assume(before or not after.startswith(b"\xfe"))  # a byte order mark of UTF-16
    error = refused(before.encode() + b"\xff" + after)
    offset, line = len(before.encode()), before.count("\n") + 1
    assert error.message == f"poem.txt is not utf-8: byte 0xFF at offset {offset} (line {line})"
    assert "--encoding" in error.hint


def test_offsets_and_lines_of_a_long_file_are_counted_from_its_start():
    error = refused("dòng\n".encode() * 2000 + b"caf\xe9\n")
    assert "byte 0xE9 at offset 12,003 (line 2,001)" in error.message


def test_the_offset_counts_the_byte_order_mark_too():
    """It is the offset in the file, even if the codec removes the mark before it decodes."""
    data = b"\xef\xbb\xbfab\nc\xffd"
    for encoding in ("utf-8", "utf-8-sig"):
        assert "byte 0xFF at offset 7 (line 2)" in refused(data, encoding=encoding).message


# ── lines that are left out ───────────────────────────────────────────────────


@settings(deadline=None)
@given(st.text("ab\r\n", max_size=30), st.integers(1, 6))
def test_the_lines_with_invalid_bytes_are_left_out_wherever_the_text_is_divided(text, size):
    text = text.replace("b", "\udcff")
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    found = "".join(_skip_invalid_lines(pieces, "x", CleaningReport()))
    lines = re.split("(?<=\n)|(?<=\r)(?!\n)", text)
    assert found == "".join(line for line in lines if "\udcff" not in line)


def test_lines_are_left_out_in_linear_time_where_there_are_no_newlines():
    lengths: list[int] = []  # of the strings that pieces were added to

    class Piece(str):
        def __radd__(self, text: str) -> str:
            lengths.append(len(text))
            return text + str(self)

    pieces = [Piece("a" * 100)] * 64
    assert "".join(_skip_invalid_lines(pieces, "x", CleaningReport())) == "a" * 6400
    assert sum(lengths) <= 6400


# ── line ends and normal forms ────────────────────────────────────────────────


def test_cr_and_crlf_become_lf_and_are_counted():
    text, notes = cleaned(b"a\r\nb\rc\nd\r\r\n")
    assert text == "a\nb\nc\nd\n\n"
    assert notes == ["poem.txt: 4 CR or CRLF line ends became LF (--newline keep leaves them)"]
    assert cleaned(b"a\r\nb\rc\n", newline="keep") == ("a\r\nb\rc\n", [])


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
def test_decomposed_text_is_composed_and_counted_unless_normalize_is_none(text):
    apart = unicodedata.normalize("NFD", text)
    whole = unicodedata.normalize("NFC", text)
    found, notes = cleaned(apart.encode())
    assert found == whole
    if apart != whole:
        assert notes == [
            f"poem.txt: composed to NFC, {len(apart):,} → {len(whole):,} characters (--normalize none leaves them)"
        ]
    assert cleaned(apart.encode(), normalize="none") == (apart, [])


@given(st.text(), st.sampled_from(["lf", "keep"]), st.sampled_from(["nfc", "none"]))
def test_normalizing_twice_equals_normalizing_once(text, newline, normalize):
    config = DataConfig(newline=newline, normalize=normalize)
    once = normalize_text(text, config)
    assert normalize_text(once, config) == once
    assert newline == "keep" or "\r" not in once
    assert normalize == "none" or unicodedata.is_normalized("NFC", once)


@given(plain_text)
def test_a_clean_text_is_unchanged_and_gives_no_note(text):
    text = unicodedata.normalize("NFC", text.lstrip("\ufeff"))
    assert cleaned(text.encode()) == (text, [])


# ── gzip ──────────────────────────────────────────────────────────────────────


@given(plain_text)
def test_gzip_is_recognised_by_its_content_and_decompressed(text):
    assert clean(gzip.compress(text.encode()), "x", NO_CLEANING, []) == text.removeprefix("\ufeff")


def test_gzip_of_another_encoding_and_of_several_members_is_decompressed():
    assert cleaned(gzip.compress(CP1258_BYTES), encoding="cp1258")[0] == "Việt Nam\n"
    assert cleaned(gzip.compress(b"a\n") + gzip.compress(b"b\n"))[0] == "a\nb\n"


def test_gzip_truncated_at_any_byte_is_refused():
    whole = gzip.compress(SCRIPTS["vietnamese"].encode())
    for length in range(2, len(whole)):
        assert "poem.txt is a damaged gzip file" in refused(whole[:length]).message


@settings(deadline=None)
@given(st.data())
def test_gzip_with_any_byte_of_its_data_changed_is_refused(data):
    """All from the end of the 10-byte header on: the deflated text, its checksum and its length."""
    whole = gzip.compress(SCRIPTS["vietnamese"].encode())
    place = data.draw(st.integers(10, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        text = cleaned(bytes(changed))[0]
    except CorpusError:
        return
    # A bit of padding at the end of the deflated text may change without changing the text.
    assert text == SCRIPTS["vietnamese"]


# ── data that is not text ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"abc\0def", bytes(range(256)), b"\xff\x01\x02\x03"]
)
def test_a_binary_file_is_refused_as_one(data):
    assert refused(data).message == "poem.txt is a binary file, not a text"


def test_a_binary_file_is_refused_in_a_one_byte_encoding():
    assert "binary" in refused(b"\x7fELF\0\0\0", encoding="latin-1").message


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_utf16_file_read_as_utf8_gets_the_hint_to_name_its_encoding(encoding):
    assert f"--encoding {encoding}" in refused("Hello, world\n".encode(encoding)).hint


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_byte_order_mark_of_another_encoding_than_utf8_is_followed_and_reported(encoding):
    text, notes = cleaned("Trăm năm\n".encode(encoding))
    assert text == "Trăm năm\n"
    assert "byte order mark" in notes[0]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Garçon, une bière… s’il vous plaît! Café für Åse, señor."),
        ("cp1252", "perché così è più vero, perciò può andar giù lì"),
        ("cp1258", "Viê\u0323t Nam, con đươ\u0300ng da\u0300i"),
        ("cp1251", "Все счастливые семьи похожи друг на друга"),
        ("koi8-r", "Все счастливые семьи похожи друг на друга"),
        ("shift_jis", "吾輩は猫である。名前はまだ無い。"),
        ("euc_kr", "나랏말싸미 중국에 달라"),
        ("gb18030", "床前明月光，疑是地上霜。"),
        ("utf-16-le", "Call me Ishmael."),
    ],
)
def test_the_likely_encoding_is_suggested_and_never_used(encoding, text):
    assert f"--encoding {encoding}" in refused(f"{text}\n".encode(encoding) * 9).hint


def test_no_encoding_is_suggested_where_none_fits():
    assert "probably" not in refused(bytes(range(128, 256)) * 4).hint


def test_a_truncated_utf16_file_is_not_called_binary_if_its_encoding_is_given():
    error = refused("Hello, world\n".encode("utf-16")[:-1], encoding="utf-16")
    assert "is not utf-16" in error.message


# ── the corpus ────────────────────────────────────────────────────────────────


@given(st.text())
def test_the_hash_is_of_the_utf8_bytes(text):
    assert (
        Corpus(LongText.from_string(text), "x").sha256
        == hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    )


def test_the_hash_does_not_depend_on_compression_or_encoding(tmp_path):
    text = SCRIPTS["vietnamese"]
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "b.txt").write_bytes(
        b"\xef\xbb\xbf" + unicodedata.normalize("NFD", text).replace("\n", "\r\n").encode()
    )
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(text.encode()))
    hashes = {read_corpus([str(path)], DataConfig()).sha256 for path in tmp_path.iterdir()}
    assert hashes == {hashlib.sha256(text.encode()).hexdigest()}


# ── a text split into blocks ────────────────────────────────────────────────────


def test_a_character_with_a_boundary_before_it_is_never_composed_with_the_one_before():
    """Every pair that composes, of all of Unicode: the second of it, or its first part, is no place to cut at."""
    seconds = set()
    for code in range(sys.maxunicode + 1):
        apart = unicodedata.decomposition(chr(code)).split()
        if len(apart) == 2 and not apart[0].startswith("<"):
            seconds.add(chr(int(apart[1], 16)))
    seconds |= {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # Hangul, by rule
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if has_boundary_before(char):
            first = unicodedata.normalize("NFD", char)[0]
            assert first not in seconds
            assert unicodedata.combining(first) == 0


@settings(deadline=None)
@given(st.text("aế\u0302\u0301\u0323\u1112\u1161\u11ab\r\n각", max_size=40), st.integers(1, 6))
def test_cleaning_does_not_depend_on_where_blocks_are_split(text, block):
    notes, expected = [], []
    whole = clean(text.encode(), "x", DataConfig(), expected)
    assert clean(text.encode(), "x", DataConfig(), notes, block) == whole == normalize_text(text, DataConfig())
    assert notes == expected
