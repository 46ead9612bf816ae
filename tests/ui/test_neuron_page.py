"""The page of neurons: complete, escaped, whole grapheme clusters, and activations that can be decoded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape

import numpy as np
import pytest

from chargen.engines.numpy_engine import NumpyEngine
from chargen.probe.heat_map import contrast
from chargen.probe.neurons import NeuronReport, probe_neurons
from chargen.ui.neuron_page import neuron_page
from chargen.ui.neuron_script import NEURON_SCRIPT
from tests.conftest import random_model

EVIL = '</script><script>alert(1)</script> & "q" <b>\n'
CLUSTERS = "q\u0302\u0301 न\u093f 👩\u200d👩\u200d👧 🇻🇳 نص\x1b"


def report_of(text: str, tokenizer: str = "char") -> NeuronReport:
    model = random_model(text, tokenizer=tokenizer, cell="lstm", hidden_size=5)
    return probe_neurons(model, NumpyEngine(model.config, model.weights), text)


def parts_of(page: str) -> tuple[list[str], dict[str, object], np.ndarray]:
    """Return the pieces of the text, the data, and the activations [U, N] of a page."""
    text = page.partition('<div id="text"')[2].partition("</div>")[0]
    spans = [unescape(span) for span in re.findall(r"<span>(.*?)</span>", text, re.DOTALL)]
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    raw = base64.b64decode(page.partition('id="activations">')[2].partition("</script>")[0], validate=True)
    return spans, data, np.frombuffer(raw, np.int8).reshape(len(data["units"]), len(spans))


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_spans_are_whole_clusters_with_the_activation_after_the_last_character(tokenizer: str) -> None:
    report = report_of(CLUSTERS + "abc", tokenizer)
    spans, data, bytes_ = parts_of("".join(neuron_page(report, "m", "t")))
    assert "q\u0302\u0301" in spans and "👩\u200d👩\u200d👧" in spans and "🇻🇳" in spans
    assert "\x1b" not in "".join(spans)
    assert "".join(spans).endswith("abc")
    scales = np.array(data["scales"])[:, None]
    last = report.activations.values[:, -1:]
    assert np.abs(bytes_[:, -1:] * scales / 127 - last).max() <= scales.max() / 200
    assert np.abs(bytes_).max(axis=1).tolist() == [127] * len(bytes_)


def test_nothing_of_a_text_or_a_name_becomes_markup() -> None:
    page = "".join(neuron_page(report_of(EVIL * 3), EVIL, EVIL))
    assert page.count("<script") == 3  # the data, the activations and the script of the page
    assert "alert(1)<" not in page.replace("&lt;", "")
    spans, data, _ = parts_of(page)
    assert "<" in spans and "&" in spans
    assert "<b>" not in page


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    page = "".join(neuron_page(report_of("abc" * 9), "m", "t"))
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert script == NEURON_SCRIPT
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert not re.search(r"(src|href)=|url\(|@import|innerHTML|https?:", page)


def test_letters_on_every_shade_can_be_read() -> None:
    page = "".join(neuron_page(report_of("abc" * 9), "m", "t"))
    shades = re.findall(r"\.[pn]\d \{ background: (#\w+); color: (#\w+); \}", page)
    assert len(shades) == 32  # 8 of each sign, light and dark
    assert min(contrast(*pair) for pair in shades) >= 4.5
