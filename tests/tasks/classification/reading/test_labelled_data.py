"""Labelled texts: which files of a folder are texts, and which labels are the same."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from chargen.tasks.classification.reading.labelled_data import read_labelled


def test_hidden_files_and_folders_are_no_texts(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "labels"  # hidden parts of the path to the folder do not count
    texts = ["a/1.txt", "a/deep/er/2.txt", "b/1.txt"]
    hidden = [".git/x/1.txt", ".notes.txt", "a/.2.txt", "a/.git/objects/3", "a/deep/.ipynb_checkpoints/2.txt"]
    for name in (*texts, *hidden):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text of {name}\n")
    assert read_labelled(folder) == {
        "a": ["text of a/1.txt", "text of a/deep/er/2.txt"],
        "b": ["text of b/1.txt"],
    }


def test_a_label_in_two_unicode_forms_is_one_label(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "việt") for form in ("NFC", "NFD"))
    path = tmp_path / "texts.tsv"
    path.write_text(f"{decomposed}\tone\nen\ttwo\n{composed}\tthree\n", encoding="utf-8")
    assert read_labelled(path) == {"en": ["two"], composed: ["one", "three"]}
