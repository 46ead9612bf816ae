"""JSON records and arrays: any JSON, wherever the text is split, and an error with its place for everything odd."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.schema import parse_json
from chargen.text.cleaning import CleaningReport
from chargen.text.corpus import read_corpus
from chargen.text.json_array import array_elements, with_start
from chargen.text.readers import open_lines
from chargen.text.records import RecordFormat
from tests.conftest import Result

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def elements(text: str, block: int) -> list[Any]:
    pieces = with_start(text[i : i + block] for i in range(0, len(text), block))
    return [value for _, value, wrong in array_elements(pieces, "it") if not wrong]


def texts(name: str, errors: str = "strict") -> tuple[list[str], tuple[str, ...]]:
    report = CleaningReport()
    return list(open_lines(name, RecordFormat(field="text", errors=errors), report)), report.notes()


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 0, 2]), st.integers(1, 9))
def test_the_elements_of_an_array_do_not_depend_on_where_it_is_split(
    values: list[Any], indent: int | None, block: int
) -> None:
    text = json.dumps(values, indent=indent)
    assert elements(f" \n{text}\n", block) == values


def test_an_array_longer_than_a_block_is_read(in_tmp_path: Path) -> None:
    lines = [f"text {n}" for n in range(20_000)]
    Path("a.json").write_text(json.dumps([{"text": line} for line in lines]))
    assert texts("a.json")[0] == lines
    assert read_corpus("a.json", DataConfig(text_field="text")).text == "\n".join(lines)


GOOD = '{"text": "good"}'
DEEP = 100_000
# Records that are errors: what the message says after the name of the line.
REFUSED = {
    '{"text": "a", "text": "b"}': "has the key 'text' twice",
    '{"id": 1, "id": 1, "text": "a"}': "has the key 'id' twice",
    '{"text": "a", "more": [{"x": 1, "y": 2, "x": 1}]}': "has the key 'x' twice",
    '{"text": "a", "\\u0074ext": "b"}': "has the key 'text' twice",
    '{"text": NaN}': "has no text in a field 'text'",
    '{"text": 1e999}': "has no text in a field 'text'",
    "Infinity": "has no text in a field 'text'",
    "9" * 5000: "has no text in a field 'text'",
    "{}": "has no text in a field 'text'",
    '{"\\ud800": "a"}': "has no text in a field 'text'",
    '{"text": "\\ud800"}': "has the escape \\ud800, which is half of a character",
    '{"text": "\\udc00\\ud800"}': "has the escape \\udc00, which is half of a character",
}
# Records that are not JSON. An array cannot be read after one of them.
BROKEN = {
    "[" * DEEP: "is not JSON: it is nested too deeply",
    '{"text": "a", "x": ' + "[" * DEEP + "]" * DEEP + "}": "is not JSON: it is nested too deeply",
    '{"a": ' * DEEP + "1" + "}" * DEEP: "is not JSON: it is nested too deeply",
    '{"text": "a\x01"}': "is not JSON: Invalid control character",
    '{"text": "a" "b"}': "is not JSON: Expecting ',' delimiter",
    '{"text": nan}': "is not JSON: Expecting value",
}
# Records whose text is the second element, with anything else in the record.
ACCEPTED = {
    '{"text": "NaN"}': "NaN",
    '{"text": "a", "x": NaN, "y": -Infinity, "z": [1e999, -1e-999]}': "a",
    '{"text": "a", "x": -' + "9" * 5000 + "}": "a",
    '{"text": "a", "x": "\\ud800"}': "a",
    '{"text": "\\ud83d\\ude00"}': "😀",
    '"Infinity"': "Infinity",
}


def short(text: str) -> str:
    return ascii(text[:40])


@pytest.mark.parametrize("record", {**REFUSED, **BROKEN}, ids=short)
def test_an_odd_record_is_an_error_with_its_line_or_left_out(in_tmp_path: Path, record: str) -> None:
    message = {**REFUSED, **BROKEN}[record]
    Path("a.jsonl").write_text(f"{GOOD}\n\n{record}\n{GOOD}\n")
    with pytest.raises(CorpusError) as caught:
        texts("a.jsonl")
    assert caught.value.message.startswith(f"a.jsonl, line 3 {message}") and caught.value.hint
    found, notes = texts("a.jsonl", errors="skip")
    assert found == ["good", "good"] and notes[0].startswith(f"skipped: a.jsonl, line 3 {message}")


@pytest.mark.parametrize("record", REFUSED, ids=short)
def test_an_odd_element_is_an_error_with_its_number_or_left_out(in_tmp_path: Path, record: str) -> None:
    Path("a.json").write_text(f"[{GOOD},\n\n{record},\n{GOOD}]\n")
    with pytest.raises(CorpusError) as caught:
        texts("a.json")
    line = " (line 3)" if "twice" in REFUSED[record] else ""
    assert caught.value.message.startswith(f"a.json, element 2{line} {REFUSED[record]}") and caught.value.hint
    assert texts("a.json", errors="skip")[0] == ["good", "good"]


@pytest.mark.parametrize(
    ("record", "hint"),
    [
        ('{"text": "a", "text": "b"}', "Remove or rename one of the two."),
        ("{'text': 1}", "Each line must be one JSON object."),
        ('\ufeff{"text": "a"}', "Remove it: such a mark can only be at the start of a file."),
        ("[" * DEEP, "Remove a level of brackets."),
    ],
    ids=short,
)
def test_the_hint_about_a_record_fits_what_is_wrong_with_it(in_tmp_path: Path, record: str, hint: str) -> None:
    Path("a.jsonl").write_text(f"{GOOD}\n{record}\n")
    with pytest.raises(CorpusError) as caught:
        texts("a.jsonl")
    assert caught.value.hint == f"{hint} --errors skip skips such records."
    Path("a.json").write_text(f"[{GOOD},\n{GOOD[:-1]}, {GOOD[1:]}]\n")
    with pytest.raises(CorpusError) as caught:
        texts("a.json")
    assert caught.value.hint.startswith("Remove or rename one of the two.")


@pytest.mark.parametrize("record", BROKEN, ids=short)
@pytest.mark.parametrize("errors", ["strict", "skip", "replace"])
def test_a_syntax_error_in_an_array_names_the_element_and_the_line(in_tmp_path: Path, record: str, errors: str) -> None:
    long = ",\n".join([GOOD] * 9000)  # the element is not in the first block
    Path("a.json").write_text(f"[{GOOD},\n\n{record},\n{GOOD}]\n")
    Path("b.json").write_text(f"[{long},\n\n{record},\n{long}]\n")
    for name, number, line in (("a.json", 2, 3), ("b.json", 9001, 9002)):
        with pytest.raises(CorpusError) as caught:
            texts(name, errors)
        assert caught.value.message.startswith(f"{name}, element {number:,} (line {line:,}) {BROKEN[record]}")


@pytest.mark.parametrize("record", ACCEPTED, ids=short)
def test_only_the_text_of_a_record_matters(in_tmp_path: Path, record: str) -> None:
    Path("a.jsonl").write_text(f"{GOOD}\n{record}\n")
    Path("a.json").write_text(f"[{GOOD},{record}]")
    assert texts("a.jsonl") == texts("a.json") == (["good", ACCEPTED[record]], ())


def test_a_second_byte_order_mark_is_an_error_of_json_and_a_character_of_a_text(in_tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.json"):
        Path(name).write_text(f"\ufeff{GOOD}\n" if name == "a.jsonl" else f"\ufeff[{GOOD}]")
        assert texts(name)[0] == ["good"]
        Path(name).write_text("\ufeff" + Path(name).read_text())
        with pytest.raises(CorpusError, match="line 1 is not JSON: it starts with a byte order mark"):
            texts(name)
    Path("a.txt").write_text("\ufeff\ufefftext\n")
    assert read_corpus("a.txt").text == "\ufefftext\n"


def test_an_error_early_in_a_large_array_is_found_at_once(in_tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.text.limits.MAX_RECORD_BYTES", 100_000)
    Path("a.json").write_text(f"[{GOOD}, {{'text': 1}},\n" + ",\n".join([GOOD] * 20_000) + "]")
    with pytest.raises(CorpusError, match=r"element 2 \(line 1\) is not JSON: Expecting property name"):
        texts("a.json")
    Path("a.json").write_text(f'[{GOOD}, "' + "long " * 40_000)
    with pytest.raises(CorpusError, match="element 2 is a record of more than 100,000 bytes"):
        texts("a.json")


@pytest.mark.parametrize("array", ["[", "[1", f"[{GOOD}", f"[{GOOD},", f"[{GOOD}] x", f"[{GOOD} {GOOD}]", f"[,{GOOD}]"])
def test_an_array_that_does_not_end_or_has_no_comma_is_refused(in_tmp_path: Path, array: str) -> None:
    Path("a.json").write_text(array)
    with pytest.raises(CorpusError, match=r"is not JSON|more text after its JSON array"):
        texts("a.json")


def test_keys_are_compared_in_linear_time() -> None:
    text = '{"text": "a", ' + ", ".join(f'"k{n}": {n}' for n in range(200_000)) + ', "k199999": 0}'
    start = time.process_time()
    assert elements(f"[{text}]", 1 << 15) == []
    assert time.process_time() - start < 10.0


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 1}', "NaN", '{"a": Infinity}', "1e999", "[" * DEEP, '{"a":' * DEEP, "9" * 5000, '"\\ud800"'],
    ids=short,
)  # fmt: skip
def test_the_programs_own_files_are_strict_json(text: str) -> None:
    with pytest.raises(ValueError, match="its JSON"):
        parse_json(text)
    with pytest.raises(ValueError, match="its JSON"):
        parse_json(text.encode())


@pytest.mark.parametrize("command", ["score", "eval", "train", "corpora"])
def test_no_command_ends_with_a_traceback(
    in_tmp_path: Path, chargen: Callable[..., Result], command: str, tmp_path: Path
) -> None:
    Path("text.txt").write_text("to be or not to be\n" * 40)
    assert chargen("train", "text.txt", "--name", "m", "--hidden", "8", "--steps", "1").status == 0
    arguments = {
        "score": ("-m", "m", "--file"),
        "eval": ("-m", "m"),
        "train": ("--name", "n", "--hidden", "8", "--steps", "1"),
        "corpora": ("check",),
    }[command]
    for record in (*REFUSED, *BROKEN):
        for name, text in (("a.jsonl", f"{GOOD}\n{record}\n"), ("a.json", f"[{GOOD},\n{record}]\n")):
            Path(name).write_text(text)
            found = chargen(command, *arguments, name, "--text-field", "text")
            assert found.status == 1 and found.err.startswith(f"error: {name}, "), found.err
