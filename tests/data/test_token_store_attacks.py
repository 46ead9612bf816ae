"""Cache files are checked: one that is damaged, old, of another text or no regular file is replaced with a note."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chargen
from chargen.config import DataConfig
from chargen.data.token_store import (
    BLOCK_BYTES,
    MAGIC,
    OLD_MAGIC,
    OldStoreError,
    encoded_texts_folder,
    load_cached_store,
    load_or_encode_ids,
    open_store,
    write_store,
)
from chargen.errors import CorpusError
from chargen.sampling.copy_filter import load_copy_index
from chargen.sampling.training_text_index import find_training_text
from chargen.text.corpus import read_corpus
from chargen.tokenizers.tokenizer import build_tokenizer
from chargen.training.choices import ModelChoices, RunLength
from chargen.training.run import Plan
from tests.conftest import VERSE, random_model, run_plan

KEY = "k" * 64


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("verse.txt").write_text(VERSE * 20, encoding="utf-8")
    return tmp_path


def store(path: Path, ids: list[int], vocab_size: int = 100) -> bytes:
    write_store(path, [np.array(ids)], vocab_size, {"sha256": KEY})
    return path.read_bytes()


def test_a_change_of_any_byte_of_a_store_is_found() -> None:
    path = Path("a.ids")
    data = store(path, list(range(50)))
    for offset in range(len(data)):
        for flip in (1, 0xFF):
            changed = bytearray(data)
            changed[offset] ^= flip
            path.write_bytes(bytes(changed))
            with pytest.raises(CorpusError):
                open_store(path)


def test_swapped_blocks_zeros_and_a_flipped_bit_in_the_last_block_are_found() -> None:
    path = Path("a.ids")
    ids = np.random.default_rng(0).integers(1, 100, 12 * BLOCK_BYTES + 17)
    write_store(path, [ids[:1000], ids[1000:]], 100, {"sha256": KEY})
    data = np.frombuffer(path.read_bytes(), np.uint8)
    start = len(data) - len(ids) - 4 * 14
    assert np.array_equal(open_store(path).ids, ids)
    for change in ("swap", "zeros", "last"):
        changed = data.copy()
        if change == "swap":
            changed[start : start + 2 * BLOCK_BYTES] = np.roll(data[start : start + 2 * BLOCK_BYTES], BLOCK_BYTES)
        elif change == "zeros":
            changed[start : start + len(ids)] = 0
        else:
            changed[start + len(ids) - 1] ^= 4
        path.write_bytes(changed.tobytes())
        with pytest.raises(CorpusError, match="not a complete"):
            open_store(path)


def store_bytes(header: dict[str, Any], ids: bytes, blocks: bytes | None = None) -> bytes:
    """Return a store with the given header and correct checksums."""
    text = json.dumps(header).encode()
    start = MAGIC + len(text).to_bytes(8, "little") + text
    blocks = zlib.crc32(ids).to_bytes(4, "little") if blocks is None else blocks
    return start + ids + blocks + zlib.crc32(start + blocks).to_bytes(4, "little")


def test_ids_outside_the_vocabulary_are_an_error_even_with_correct_checksums() -> None:
    path = Path("a.ids")
    for dtype, ids in (("|u1", [5, 200]), ("<i2", [5, -1]), ("<i4", [5, 70_000])):
        data = np.array(ids, dtype=dtype).tobytes()
        path.write_bytes(store_bytes({"dtype": dtype, "length": 2, "about": {"sha256": KEY}}, data))
        with pytest.raises(CorpusError, match="not a complete"):
            open_store(path, 100)


@pytest.mark.parametrize("length", [-1, 2.0, "2", True, None, [2], 1 << 62, 10**40, 1e300])
@pytest.mark.parametrize("about", [{}, [], None, "x"])
def test_a_header_of_other_types_is_an_error_even_with_correct_checksums(length: Any, about: Any) -> None:
    Path("a.ids").write_bytes(store_bytes({"dtype": "|u1", "length": length, "about": about}, b"\1\2"))
    with pytest.raises(CorpusError, match="not a complete"):
        open_store(Path("a.ids"))


def test_deep_or_huge_headers_are_errors() -> None:
    for text in (b"[" * 200_000, b'{"a":' * 200_000, b"9" * 100_000):
        start = MAGIC + len(text).to_bytes(8, "little") + text
        Path("a.ids").write_bytes(start + zlib.crc32(start).to_bytes(4, "little"))
        with pytest.raises(CorpusError, match="not a complete"):
            open_store(Path("a.ids"))


def replace_file(kind: str, path: Path) -> None:
    """Replace a cached file by something else."""
    data = path.read_bytes()
    if kind == "flipped":
        path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    elif kind == "cut":
        path.write_bytes(data[:-1])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "other":
        write_store(path, [np.array([1, 2, 3])], 10, {"sha256": KEY})
    else:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "broken link":
            path.symlink_to("nowhere")
        elif kind == "link to a file":
            Path("mine").write_text("mine")
            path.symlink_to(Path("mine").resolve())


DAMAGE = ["flipped", "cut", "empty", "other", "pipe", "broken link", "link to a file"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_ids_are_made_again_with_a_note(kind: str) -> None:
    corpus = read_corpus(["verse.txt"])
    tokenizer, notes = build_tokenizer("char", corpus.text), []
    right = np.array(load_or_encode_ids(tokenizer, corpus.content.span(), notes.append))
    assert np.array_equal(load_or_encode_ids(tokenizer, corpus.content.span(), notes.append), right)
    assert notes == []
    (path,) = encoded_texts_folder().glob("*.ids")
    replace_file(kind, path)
    assert np.array_equal(load_or_encode_ids(tokenizer, corpus.content.span(), notes.append), right)
    assert len(notes) == 1 and "is created again" in notes[0]
    assert path.is_file() and not path.is_symlink()
    assert kind != "link to a file" or Path("mine").read_text() == "mine"
    assert np.array_equal(load_or_encode_ids(tokenizer, corpus.content.span(), notes.append), right)
    assert len(notes) == 1


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_copy_index_is_made_again_with_a_note(kind: str) -> None:
    model = model_of()
    notes: list[str] = []
    right = np.array(load_copy_index(model, 8, note=notes.append)._hashes)
    (path,) = encoded_texts_folder().glob("*.copies")
    replace_file(kind, path)
    assert np.array_equal(load_copy_index(model, 8, note=notes.append)._hashes, right)
    assert len(notes) == 1 and "is created again" in notes[0]


def model_of() -> Any:
    corpus = read_corpus(["verse.txt"])
    about = {
        "corpus": corpus.name, "corpus_sha256": corpus.sha256, "train_chars": corpus.num_chars,
        "data": DataConfig().to_json(),
    }  # fmt: skip
    model = random_model(corpus.text)
    return type(model)(model.config, model.tokenizer, model.weights, about)


def test_a_copy_index_of_zeros_is_made_again() -> None:
    model = model_of()
    load_copy_index(model, 8)
    (path,) = encoded_texts_folder().glob("*.copies")
    data = path.read_bytes()
    hashes = open_store(path).ids
    start = data.index(hashes.tobytes())
    path.write_bytes(data[:start] + bytes(hashes.nbytes) + data[start + hashes.nbytes :])
    assert np.array_equal(load_copy_index(model, 8)._hashes, np.frombuffer(data[start : start + hashes.nbytes], "<u8"))


def test_a_cache_file_of_an_earlier_version_is_made_again_without_a_note() -> None:
    Path("a.ids").write_bytes(OLD_MAGIC + (2).to_bytes(8, "little") + b"{}")
    with pytest.raises(OldStoreError):
        open_store(Path("a.ids"))
    notes: list[str] = []
    assert load_cached_store(Path("a.ids"), KEY, 100, notes.append) is None and notes == []


def test_clean_cache_deletes_broken_links_but_no_folders() -> None:
    from chargen.data.token_store import clean_cache

    (encoded_texts_folder() / "a.ids").mkdir(parents=True)
    (encoded_texts_folder() / "b.ids").symlink_to("nowhere")
    (encoded_texts_folder() / "mine.txt").write_text("mine")
    store(encoded_texts_folder() / "c.ids", [1])
    assert clean_cache()[0] == 2
    assert sorted(path.name for path in encoded_texts_folder().iterdir()) == ["a.ids", "mine.txt"]


def test_a_run_notes_that_its_cache_was_damaged() -> None:
    plan = Plan(read_corpus(["verse.txt"]), "mine", RunLength(steps=2), model=ModelChoices(cell="rnn", hidden_size=8))
    run_plan(plan)
    (path,) = encoded_texts_folder().glob("*.ids")
    replace_file("flipped", path)
    started = run_plan(plan)[0][0].to_json()
    assert any("was damaged and is created again" in note for note in started["notes"])


def test_sampling_notes_that_its_index_was_damaged(chargen: Callable[..., Any]) -> None:
    chargen("train", "verse.txt", "--steps", "2", "--hidden", "8", "--cell", "rnn")
    arguments = ("sample", "--length", "20", "--seed", "1", "--max-copy", "8")
    first = chargen(*arguments)
    (path,) = encoded_texts_folder().glob("*.copies")
    replace_file("flipped", path)
    second = chargen(*arguments)
    assert first.status == second.status == 0 and first.out == second.out
    assert "note: " in second.err and "created again" in second.err and "created again" not in first.err


def test_damaged_ids_do_not_replace_the_training_text() -> None:
    model, corpus = model_of(), read_corpus(["verse.txt"])
    load_or_encode_ids(model.tokenizer, corpus.content.span())
    Path("verse.txt").unlink()
    assert find_training_text(model).read() == corpus.text
    (path,) = encoded_texts_folder().glob("*.ids")
    replace_file("flipped", path)
    with pytest.raises(CorpusError, match="was not found"):
        find_training_text(model)


def test_ids_in_memory_do_not_change_with_their_file() -> None:
    path = Path("a.ids")
    store(path, [1, 2, 3])
    ids = open_store(path).ids
    data = path.read_bytes()
    with open(path, "r+b") as file:  # in place: memory-mapped ids would change, or crash the process
        file.write(b"\0" * len(data))
        file.truncate(0)
    assert ids.tolist() == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_damaged_compiled_loops_are_compiled_again(ending: str) -> None:
    pytest.importorskip("numba")
    code = (
        "from chargen.jit import njit\n@njit(cache=True)\ndef twice(a):\n    return 2 * a\n"
        "print(twice(21), sum(twice.stats.cache_hits.values()))\n"
    )
    Path("loops.py").write_text(code, encoding="utf-8")
    package = str(Path(chargen.__file__).parents[1])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(Path("compiled").resolve()), "PYTHONPATH": package}

    def run() -> str:
        done = subprocess.run([sys.executable, "loops.py"], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert [run(), run()] == ["42 0", "42 1"]
    (path,) = Path("compiled").rglob(f"*{ending}")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 3 : len(whole) // 2] = os.urandom(len(whole) // 2 - len(whole) // 3)
    path.write_bytes(whole)
    assert [run(), run()] == ["42 0", "42 1"]
