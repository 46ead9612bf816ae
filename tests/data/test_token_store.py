"""Token stores: the ids that are read are those that were written, and an incomplete file is an error."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.data.token_store import (
    ALIGNMENT,
    MAGIC,
    clean_cache,
    open_store,
    remove_old_store,
    smallest_dtype,
    write_store,
)
from chargen.errors import CorpusError, StorageError

VOCAB_SIZES = [1, 256, 257, 1 << 15, (1 << 15) + 1, 1 << 20]
laws = settings(deadline=None, max_examples=40)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_header(path: Path, header: bytes, ids: bytes = b"") -> Path:
    """Write a file with the given header."""
    path.write_bytes(MAGIC + len(header).to_bytes(8, "little") + header + ids)
    return path


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [
        (1, "u1"),
        (256, "u1"),
        (257, "<i2"),
        (1 << 15, "<i2"),
        ((1 << 15) + 1, "<i4"),
        (1 << 20, "<i4"),
        (1 << 31, "<i4"),
        (1 << 64, "<u8"),
    ],
)
def test_the_type_is_the_smallest_that_holds_every_id(vocab_size, dtype):
    assert smallest_dtype(vocab_size) == np.dtype(dtype)
    assert vocab_size - 1 <= np.iinfo(smallest_dtype(vocab_size)).max


@laws
@given(data=st.data(), vocab_size=st.sampled_from(VOCAB_SIZES))
def test_the_written_ids_and_metadata_are_read_back(tmp_path_factory, data, vocab_size):
    ids = np.array(data.draw(st.lists(st.integers(0, vocab_size - 1), max_size=200)), dtype=np.int32)
    about = data.draw(st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=4))
    path = tmp_path_factory.mktemp("store") / "train.ids"
    for store in (write_store(path, [ids], vocab_size, about), open_store(path)):
        assert store.ids.tolist() == ids.tolist()
        assert store.ids.dtype == smallest_dtype(vocab_size)
        assert store.about == about


@pytest.mark.parametrize("vocab_size", VOCAB_SIZES)
def test_the_largest_id_of_a_vocabulary_is_kept(tmp_path, vocab_size):
    store = write_store(tmp_path / "a.ids", [np.array([0, vocab_size - 1])], vocab_size, {})
    assert store.ids.tolist() == [0, vocab_size - 1]


def test_large_stores_are_memory_mapped_and_all_are_read_only(tmp_path, monkeypatch):
    read = write_store(tmp_path / "a.ids", [np.arange(5)], 5, {})
    monkeypatch.setattr("chargen.data.token_store.MAX_IN_MEMORY_BYTES", 4)
    mapped = open_store(tmp_path / "a.ids")
    assert [isinstance(store.ids, np.memmap) for store in (read, mapped)] == [False, True]
    assert read.ids.tolist() == mapped.ids.tolist()
    assert not (read.ids.flags.writeable or mapped.ids.flags.writeable)


@laws
@given(length=st.integers(0, 200))
def test_the_ids_are_aligned_for_every_header_size(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("store") / "a.ids"
    write_store(path, [np.arange(7)], 7, {"x": "y" * length})
    data, sums = path.read_bytes()[:-8], 8
    assert (path.stat().st_size - 7 - sums) % ALIGNMENT == 0
    assert data[-7:] == bytes(range(7))
    assert path.read_bytes().startswith(MAGIC)


def test_folders_are_made_and_nothing_but_the_file_is_left(tmp_path):
    write_store(tmp_path / "a" / "b" / "x.ids", [np.arange(5)], 5, {})
    write_store(tmp_path / "a" / "b" / "x.ids", [np.arange(3)], 5, {})  # and again, over the first
    assert files_below(tmp_path) == ["a", str(Path("a/b")), str(Path("a/b/x.ids"))]
    assert open_store(tmp_path / "a" / "b" / "x.ids").ids.tolist() == [0, 1, 2]


# ── files that cannot be written ────────────────────────────────────────────────────


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot be written"):
        write_store(tmp_path / "file" / "x.ids", [np.arange(5)], 5, {})
    assert files_below(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_that_is_a_folder_is_a_storage_error_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "x.ids").mkdir()
    with pytest.raises(StorageError, match="cannot be written") as caught:
        write_store(tmp_path / "x.ids", [np.arange(5)], 5, {})
    assert caught.value.hint
    assert files_below(tmp_path) == ["x.ids"]


def test_a_disk_that_is_full_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    write_store(tmp_path / "x.ids", [np.arange(5)], 5, {})

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_store(tmp_path / "x.ids", [np.arange(3)], 5, {})
    assert files_below(tmp_path) == ["x.ids"]
    assert open_store(tmp_path / "x.ids").ids.tolist() == [0, 1, 2, 3, 4]


# ── files that cannot be removed ────────────────────────────────────────────────────


def keep_in_use(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the removal of files with this name fail, as on Windows while a process has them open."""
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == name:
            raise PermissionError(errno.EACCES, "another process has the file open")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)


def test_on_windows_the_files_of_the_cache_that_are_in_use_stay(tmp_path, monkeypatch):
    for name in ("used.ids", "free.ids", "free.copies"):
        write_store(tmp_path / name, [np.arange(5)], 5, {})
    keep_in_use(monkeypatch, "used.ids")
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")  # only here, because pathlib reads it
        num_files, _ = clean_cache(tmp_path)
    assert num_files == 2
    assert files_below(tmp_path) == ["used.ids"]


@pytest.mark.skipif(os.name == "nt", reason="such files stay")
def test_a_file_of_the_cache_that_cannot_be_removed_is_a_storage_error(tmp_path, monkeypatch):
    write_store(tmp_path / "x.ids", [np.arange(5)], 5, {})
    keep_in_use(monkeypatch, "x.ids")
    with pytest.raises(StorageError, match=r"x\.ids cannot be written: another process"):
        clean_cache(tmp_path)


def test_an_old_store_that_is_in_use_stays_but_a_link_in_its_place_is_never_followed(tmp_path, monkeypatch):
    write_store(tmp_path / "x.ids", [np.arange(5)], 5, {})
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "x.ids").symlink_to(tmp_path / "x.ids")
    keep_in_use(monkeypatch, "x.ids")
    remove_old_store(tmp_path / "x.ids")
    with pytest.raises(StorageError, match=r"x\.ids cannot be written: another process"):
        remove_old_store(tmp_path / "link" / "x.ids")
    assert open_store(tmp_path / "x.ids").ids.tolist() == [0, 1, 2, 3, 4]


# ── files that are not complete stores ─────────────────────────────────────────────────


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    whole = tmp_path / "whole.ids"
    write_store(whole, [np.arange(9)], 300, {"corpus": "kiều"})
    data, cut = whole.read_bytes(), tmp_path / "cut.ids"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        with pytest.raises(CorpusError, match="not a complete chargen store"):
            open_store(cut)


def test_a_file_with_something_after_its_end_is_refused(tmp_path):
    path = tmp_path / "x.ids"
    write_store(path, [np.arange(9)], 300, {})
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CorpusError, match="not a complete chargen store"):
        open_store(path)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"dtype": "|u1", "length": 0}',
        b'{"dtype": "|u1", "about": {}}',
        b'{"length": 0, "about": {}}',
        b'{"dtype": "|u1", "length": null, "about": {}}',
        b'{"dtype": "|u1", "length": -1, "about": {}}',
        b'{"dtype": "|u1", "length": 1, "about": {}}',
        b'{"dtype": "|u1", "length": 1e999, "about": {}}',
        b'{"dtype": "no such type", "length": 0, "about": {}}',
        b'{"dtype": 5, "length": 0, "about": {}}',
    ],
    ids=lambda header: header.decode("latin-1") or "empty",
)
def test_an_invalid_header_is_an_error(tmp_path, header):
    with pytest.raises(CorpusError, match="not a complete chargen store") as caught:
        open_store(write_header(tmp_path / "x.ids", header))
    assert "Delete it" in caught.value.hint


def test_a_header_of_python_objects_is_refused(tmp_path):
    """No file that chargen opens can run code or contain pointers."""
    header = json.dumps({"dtype": "|O", "length": 2, "about": {}}).encode()
    with pytest.raises(CorpusError, match="not a complete chargen store"):
        open_store(write_header(tmp_path / "x.ids", header, bytes(16)))


@pytest.mark.parametrize("content", [b"", b"chargen", b"chargen2" + bytes(56), b"some text, and not so short a one"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "x.ids").write_bytes(content)
    with pytest.raises(CorpusError, match="not a complete chargen store"):
        open_store(tmp_path / "x.ids")


def test_a_header_longer_than_the_file_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "x.ids").write_bytes(MAGIC + (1 << 62).to_bytes(8, "little") + b"{}")
    with pytest.raises(CorpusError, match="not a complete chargen store"):
        open_store(tmp_path / "x.ids")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CorpusError, match="x.ids cannot be read: No such file"):
        open_store(tmp_path / "x.ids")
