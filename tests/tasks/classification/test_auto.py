"""Training by both methods: only the classifier that is kept is left."""

from __future__ import annotations

import os
from pathlib import Path

from chargen.tasks.classification.auto import _keep_only


def test_the_folder_of_the_classifier_that_is_kept_takes_the_place_of_all_others(tmp_path: Path) -> None:
    for name in ("encoder/classifier.json", "generative/classifier.json", ".locks/encoder.lock", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    _keep_only(tmp_path, tmp_path / "encoder")
    assert os.listdir(tmp_path) == ["classifier.json"]
    assert (tmp_path / "classifier.json").read_text(encoding="utf-8") == "encoder/classifier.json"
