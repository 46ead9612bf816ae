"""The folder for a model hub: what is written, what is kept, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import chargen as library
from chargen.checkpoint import Checkpoint, save_checkpoint
from chargen.config import DataConfig, ModelConfig
from chargen.errors import StorageError
from chargen.export.hub import HUB_FILES, write_hub_folder
from chargen.export.model_card import make_model_card
from tests.conftest import random_model

ABOUT: dict[str, Any] = {
    "chargen": "0.1.0", "corpus": "kieu", "corpus_sha256": "ab" * 32, "train_chars": 123_456,
    "result": {
        "steps": 1200, "epochs": 3.5, "val_loss_nats_per_char": 1.5, "val_second_half_nats_per_char": 1.6,
        "val_perplexity_per_char": 4.48, "ngram_5_nats_per_char": 2.0, "lzma_nats_per_char": 2.2,
    },
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Checkpoint:
    checkpoint = replace(random_model(), about=ABOUT)
    save_checkpoint(tmp_path / "run" / "model.safetensors", checkpoint)
    return checkpoint


def test_the_folder_has_the_model_itself_a_description_and_a_card(tmp_path: Path, model: Checkpoint) -> None:
    path, folder = tmp_path / "run" / "model.safetensors", tmp_path / "hub"
    assert write_hub_folder(folder, path, model) == []
    assert sorted(file.name for file in folder.iterdir()) == sorted(HUB_FILES)
    assert (folder / "model.safetensors").read_bytes() == path.read_bytes()
    assert library.load(folder).score("The quick").chars == 9
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert ModelConfig.from_json(described["architecture"]) == model.config
    assert described["vocab_size"] == model.config.vocab_size
    assert described["tokenizer"] == model.tokenizer.to_json()
    assert described["model_type"] == described["library_name"] == "chargen"


def test_the_card_has_fields_figures_and_the_corpus(model: Checkpoint) -> None:
    card = make_model_card(model, "someone/kieu")
    _, fields, body = card.split("---\n", 2)
    assert "library_name: chargen\n" in fields
    assert "license: unknown  # fill in" in fields
    assert "| loss on held-out text | 2.164 bits per character |" in body  # 1.5 nats
    assert "| its second half, which did not choose the model | 2.308 bits per character |" in body
    assert "| an interpolated 5\\-gram" not in body and "| an interpolated 5-gram, on the same text | 2.885" in body
    assert f"| SHA-256 | `{'ab' * 32}` |" in body
    assert "| name | kieu |" in body
    assert "| characters for training | 123,456 |" in body
    assert 'hf_hub_download("someone/kieu", "model.safetensors")' in body


def test_the_fields_of_the_card_are_yaml(model: Checkpoint) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    fields = yaml.safe_load(make_model_card(model).split("---\n", 2)[1])
    assert (fields["license"], fields["library_name"]) == ("unknown", "chargen")
    assert "character-level" in fields["tags"]


def test_a_card_without_figures_says_so() -> None:
    card = make_model_card(replace(random_model(), about={}))
    assert "The model file states no measured figures." in card
    assert "| name | not stated |" in card


@pytest.mark.parametrize(
    ("about", "phrase"),
    [({"direction": "backward"}, "text that ends with the prompt"), ({"documents": "line"}, "ends by itself")],
)
def test_the_card_says_what_kind_of_texts_the_model_writes(about: dict[str, str], phrase: str) -> None:
    assert phrase in make_model_card(replace(random_model(), about={"data": DataConfig(**about).to_json()}))


def test_names_from_the_file_change_neither_the_fields_nor_the_page() -> None:
    name = "a|b\n---\nlicense: mit\n# <script>alert(1)</script> [x](http://y) \u202e`code`"
    card = make_model_card(replace(random_model(), about={**ABOUT, "corpus": name}))
    assert card.split("---\n", 2)[1].count("license:") == 1
    assert not any(line.startswith("license: mit") for line in card.splitlines())
    assert "<script" not in card.replace("\\<script", "") and "\u202e" not in card
    (row,) = (line for line in card.splitlines() if line.startswith("| name |"))
    assert row.replace("\\|", "").count("|") == 3


def test_an_edited_card_is_kept_and_missing_files_are_written(tmp_path: Path, model: Checkpoint) -> None:
    path, folder = tmp_path / "run" / "model.safetensors", tmp_path / "hub"
    write_hub_folder(folder, path, model)
    (folder / "README.md").write_text("license: mit\n")
    (folder / "config.json").unlink()
    assert write_hub_folder(folder, path, model) == ["model.safetensors", "README.md"]
    assert (folder / "README.md").read_text() == "license: mit\n"
    assert (folder / "config.json").exists()


def test_a_folder_with_other_content_is_refused_and_left_as_it_is(tmp_path: Path, model: Checkpoint) -> None:
    path, folder = tmp_path / "run" / "model.safetensors", tmp_path / "other"
    folder.mkdir()
    write_hub_folder(tmp_path / "empty", path, model)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(
        StorageError, match=r"has other content, such as thesis\.txt\nName a folder that does not exist"
    ):
        write_hub_folder(folder, path, model)
    assert [file.name for file in folder.iterdir()] == ["thesis.txt"]
    save_checkpoint(folder / "model.safetensors", random_model(seed=1))
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(StorageError, match="has another model"):
        write_hub_folder(folder, path, model)
    assert (folder / "model.safetensors").read_bytes() == before
    with pytest.raises(StorageError, match="is the folder of the model itself"):
        write_hub_folder(path.parent, path, model)
    with pytest.raises(StorageError, match=r"thesis\.txt is not a folder"):
        write_hub_folder(folder / "thesis.txt", path, model)
    assert sorted(file.name for file in folder.iterdir()) == ["model.safetensors", "thesis.txt"]
