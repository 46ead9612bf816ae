"""The card of a model on a model hub: Markdown, after YAML fields that the hub reads.

The figures are those that the model file states; a figure that it does not state is left out. Names from the file, such
as that of the corpus, are quoted, so that they are shown as they are and change neither the fields nor the page.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from chargen import __version__
from chargen.cells.weights import count_parameters
from chargen.checkpoint import Checkpoint
from chargen.config import LN2
from chargen.runs import MODEL_FILE
from chargen.schema import format_number

EXAMPLE_REPOSITORY = "YOUR_NAME/YOUR_MODEL"
MAX_NAME_CHARS = 200
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$&])")  # characters that may have a meaning in Markdown or HTML

FIELDS = """\
---
library_name: chargen
pipeline_tag: text-generation
license: unknown  # fill in, for example: mit, cc-by-4.0; the training text may decide it
# language: en    # fill in the languages of the training text, and remove the first "#"
tags:
- chargen
- character-level
- recurrent-neural-network
---
"""


def make_model_card(checkpoint: Checkpoint, repository: str = "") -> str:
    """Return the card of a model.

    Args:
        checkpoint: The model.
        repository: The name of the repository on the hub; "" if it is not known.
    """
    name = _quote(repository.rpartition("/")[2] or checkpoint.about.get("corpus") or "chargen model")
    parts = [
        FIELDS + f"\n# {name}",
        _introduction(checkpoint),
        "## Figures",
        _table(("", "value"), _figures(checkpoint)) + _explanation(checkpoint),
        "## Training text",
        _table(("", "value"), _corpus(checkpoint)),
        "*Fill in: where the training text is from, its license, and what it may contain.*",
        "## How to use it",
        _usage(checkpoint, repository or EXAMPLE_REPOSITORY),
        "## License",
        "*Fill in: the license of the model, here and in the field `license` at the top of this file.*",
    ]
    return "\n\n".join(parts)


def _introduction(checkpoint: Checkpoint) -> str:
    """Return what kind of model it is."""
    what = "A character-level language model"
    if checkpoint.tokenizer.quantizer is not None:
        what = "A model of a series of numbers"
    elif not checkpoint.tokenizer.is_char_level:
        what = "A small language model"
    more = ""
    if checkpoint.data.is_backward:
        more = " It reads texts from their end, and generates text that ends with the prompt."
    if checkpoint.has_documents:
        more += " It was trained on separate documents, so a generated text ends by itself."
    version = _quote(str(checkpoint.about.get("chargen", __version__)))
    return f"{what}, trained with chargen {version}: a recurrent network that generates and scores text.{more}"


def _figures(checkpoint: Checkpoint) -> Iterable[tuple[str, str]]:
    """Yield the figures of a model, each with its name and unit."""
    config, about = checkpoint.config, checkpoint.about
    result: dict[str, Any] = about.get("result", {})
    yield "network", _quote(str(config))
    yield "parameters", f"{count_parameters(config):,}"
    yield "vocabulary", f"{config.vocab_size:,} token ids ({_quote(checkpoint.tokenizer.name)})"
    loss = result.get("val_loss_nats_per_char", about.get("choice_loss_nats_per_char"))
    figures = (
        ("loss on held-out text", None if loss is None else loss / LN2, "bits per character", 3),
        (
            "its second half, which did not choose the model",
            _bits(result, "val_second_half_nats_per_char"),
            "bits per character",
            3,
        ),
        ("perplexity on held-out text", result.get("val_perplexity_per_char"), "per character", 2),
        ("an interpolated 5-gram, on the same text", _bits(result, "ngram_5_nats_per_char"), "bits per character", 3),
        ("LZMA, on the same text", _bits(result, "lzma_nats_per_char"), "bits per character", 3),
        ("steps of the optimizer", result.get("steps"), "", 0),
        ("passes over the training text", result.get("epochs"), "", 2),
    )
    for label, value, unit, decimals in figures:
        if value is not None:
            yield label, f"{format_number(value, decimals)} {unit}".rstrip()


def _bits(result: dict[str, Any], name: str) -> float | None:
    return None if result.get(name) is None else result[name] / LN2


def _explanation(checkpoint: Checkpoint) -> str:
    """Return what the loss was measured on, if there is one."""
    if not checkpoint.about.get("result") and checkpoint.about.get("choice_loss_nats_per_char") is None:
        return "\n\nThe model file states no measured figures."
    return (
        "\n\nHeld-out text is a part of the corpus that the network was not trained on. Its first half chose the best "
        "model of the run, so the second half is the better estimate for other texts of this kind."
    )


def _corpus(checkpoint: Checkpoint) -> Iterable[tuple[str, str]]:
    """Yield what the model file says about its training text."""
    about = checkpoint.about
    yield "name", _quote(str(about.get("corpus") or "not stated"))
    if about.get("corpus_sha256"):
        yield "SHA-256", f"`{re.sub('[^0-9a-fA-F]', '?', about['corpus_sha256'])}`"
    if about.get("train_chars") is not None:
        yield "characters for training", f"{about['train_chars']:,}"
    yield "documents", _quote(checkpoint.data.documents)
    yield "Unicode normalization", _quote(checkpoint.data.normalize)


def _usage(checkpoint: Checkpoint, repository: str) -> str:
    """Return commands and a program that use the model."""
    is_series = checkpoint.tokenizer.quantizer is not None
    python = "print(model.sample(length=200))\n"
    if not is_series:
        python += 'print(model.score("A sentence.").bits_per_char)\n'
    shell = "chargen sample -m MODEL_FOLDER " + (
        "--numbers" if is_series else '--length 200\nchargen score -m MODEL_FOLDER "A sentence."'
    )
    return (
        "```sh\npip install chargen huggingface_hub\n"
        f"hf download {repository} --local-dir MODEL_FOLDER\n{shell}\n```\n\n"
        "```python\nimport chargen\nfrom huggingface_hub import hf_hub_download\n\n"
        f"model = chargen.load(hf_hub_download({json.dumps(repository)}, {json.dumps(MODEL_FILE)}))\n{python}```\n\n"
        "The model is one file without code in it; opening it runs nothing."
    )


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {name} | {value} |" for name, value in (head, ("---", "---"), *rows)]
    return "\n".join(lines)


def _quote(text: str) -> str:
    """Return a text as Markdown that shows it on one line, without the characters that cannot be seen.

    >>> _quote("a_b | <c>\\n")
    'a\\\\_b \\\\| \\\\<c\\\\>'
    """
    visible = "".join(char if not unicodedata.category(char).startswith("C") else " " for char in text)
    words = " ".join(visible.split())
    if len(words) > MAX_NAME_CHARS:
        words = f"{words[:MAX_NAME_CHARS]}…"
    return MARKDOWN.sub(r"\\\1", words)
