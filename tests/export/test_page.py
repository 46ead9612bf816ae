"""The file of a page: what is in it, its name, and models with hostile names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from chargen.export.page import model_name, write_page
from chargen.lm import LanguageModel
from tests.conftest import random_model


def test_a_page_contains_its_payload_and_nothing_that_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    written = write_page(LanguageModel(random_model(), path=Path("poems/model.safetensors")), path, "float16")
    page = path.read_text(encoding="utf-8")
    assert written.size_bytes == path.stat().st_size
    values = json.loads(re.findall(r'<script type="application/json" id="payload">(.*?)</script>', page, re.DOTALL)[0])
    assert (values["about"]["name"], values["about"]["weights"]) == (written.name, "float16")
    assert not re.search(r"(src|href)=[\"']?(https?:|//)|@import|url\(", page)
    assert not re.search(r"\b(WebAssembly|DecompressionStream|fetch\(|XMLHttpRequest|eval\(|new Function)", page)


def test_a_name_cannot_bring_markup_or_end_the_encoding(tmp_path: Path) -> None:
    about = {**random_model().about, "corpus": "</script><b>\ud800 @@script@@"}
    model = LanguageModel(replace(random_model(), about=about), path=Path("<i>\udce9.safetensors"))
    write_page(model, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "</script><b>" not in page and "<i>" not in page
    assert page.count("</script>") == 3


def test_a_model_is_named_by_its_run_or_its_file() -> None:
    assert model_name(Path("checkpoints/poems/model.safetensors")) == "poems"
    assert model_name(Path("old/sonnets.safetensors")) == "sonnets"
    assert model_name(None) == "model"
