"""`chargen compare`: models against each other on one text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.config import LN2
from chargen.ui.terminal_text import say, visible

if TYPE_CHECKING:
    import numpy as np

    from chargen.config import DataConfig
    from chargen.lm import LanguageModel
    from chargen.text.corpus import Corpus

MAX_LEARNED_CHARS = 1 << 20  #: of a text that the baselines learn from: its end, as at the end of a training run
FEW_LINES = 30
MAX_RESAMPLES = 1_000_000  #: some minutes for a text of 10,000 lines


@click.command(
    epilog="\b\nExamples:\n  chargen compare small large held-out.txt\n"
    "  chargen compare chars bytes pieces held-out.txt --top 10 --json"
)
@click.argument("models", nargs=-1, required=True, type=options.NAME, metavar="MODEL MODEL...")
@click.argument("corpus", type=options.NAME)
@click.option("--top", type=click.IntRange(0), default=5, show_default=True, help="Lines to show that differ most.")
@click.option(
    "--resamples", type=click.IntRange(100, MAX_RESAMPLES), default=10_000, show_default=True, help="Of the bootstrap."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the resamples.")
@click.option(
    "--learn",
    type=options.NAME,
    metavar="TEXT",
    help="What the baselines learn from; else the first model's text, if found.",
)
@options.encoding
@options.max_corpus_size("1GB")
@options.device
@options.as_json
def compare(
    models: tuple[str, ...],
    corpus: str,
    top: int,
    resamples: int,
    seed: int,
    learn: str | None,
    encoding: str,
    max_bytes: int,
    device: str,
    as_json: bool,
) -> None:
    """Compare models on one text: bits per byte, and whether the difference is more than chance.

    MODELs are two or more; CORPUS is a file, a folder, '-' or a corpus's name, best one that no model learned from.
    It is read with carried state, as `chargen eval` does it. Bits are counted for each byte of the text as it is given,
    so that models of characters, bytes and pieces can be compared.

    The others are compared with the first one. The interval holds 95 % of the differences on lines drawn anew from the
    text's (a paired bootstrap). Below them: an interpolated 5-gram, lzma, and every character of the text alike.
    """
    if len(models) < 2:
        raise click.UsageError("compare wants two models or more, and then a text.")
    from chargen.config import DataConfig
    from chargen.data.dataset import split_lines
    from chargen.lm import load
    from chargen.scoring.bootstrap import most_different_lines
    from chargen.scoring.scorer import utf8_size
    from chargen.text.corpus import read_corpus

    # Read as it is: each model brings it into the form of its training text, and the bytes of this one are counted.
    config = DataConfig(encoding=encoding, newline="keep", normalize="none")
    found = read_corpus([corpus], config, max_bytes=max_bytes)
    lines = split_lines(found.text)
    lms = [load(model, device) for model in models]
    nats, unknown = zip(*(lm.evaluate_lines(lines) for lm in lms), strict=True)
    learned, source = _learned(lms[0], models[0], learn, config, max_bytes)
    table = _table(models, nats, lines, learned, source, resamples, seed)
    for row, counts in zip(table, unknown, strict=False):
        row["unknown_chars"] = int(counts.sum())
    apart = [(b, line) for b in range(1, len(lms)) for line in most_different_lines(nats[0], nats[b], top)]
    far = [_line(lines, models, nats, b, line) for b, line in apart]
    about = {"corpus": found.name, "chars": len(found.text), "bytes": utf8_size(found.text), "lines": len(lines)}
    _say(found, lms, models, len(lines))
    _print({**about, "resamples": resamples, "seed": seed, "confidence": 0.95}, table, far, len(lms), as_json)


def _table(
    models: Sequence[str], nats: Sequence[Any], lines: Sequence[str], learned: str | None, source: str,
    resamples: int, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return a row for each model, then for each baseline: what it costs, and how it differs from the first model."""
    import numpy as np

    from chargen.data.baselines import lzma_text_nats, ngram_line_nats, uniform_line_nats
    from chargen.scoring.bootstrap import paired_bootstrap
    from chargen.scoring.scorer import utf8_size

    sizes = np.array([utf8_size(line) for line in lines], dtype=np.float64)
    chars, alphabet = sum(map(len, lines)), len(set("".join(lines)))
    by_line = np.stack([*nats, ngram_line_nats(lines, learned), uniform_line_nats(lines)])
    names = [
        *models,
        f"a 5-gram, learned from {source or 'the other half of this text'}",
        f"uniform over this text's {alphabet} characters",
        f"lzma, {f'behind {source}' if source else 'of this text alone'}",
    ]
    totals = [*(float(row.sum()) for row in by_line), lzma_text_nats(lines, learned)]  # LZMA's has no parts
    differences = [None, *paired_bootstrap(by_line, sizes, resamples, seed), None]
    return [
        {
            "name": name,
            "bits_per_byte": total / LN2 / float(sizes.sum()),
            "bits_per_char": total / LN2 / chars,
            **(difference.to_json() if difference else {}),
        }
        for name, total, difference in zip(names, totals, differences, strict=True)
    ]


def _learned(
    lm: LanguageModel, name: str, learn: str | None, config: DataConfig, max_bytes: int
) -> tuple[str | None, str]:
    """Return (what the baselines learn from, what to call it); (None, "") if the model's text is not at hand."""
    from chargen.errors import CorpusError
    from chargen.runs import find_model
    from chargen.sampling.training_text_index import TrainingText, find_training_text
    from chargen.text.corpus import read_corpus
    from chargen.text.documents import MARK, separator

    if learn is not None:
        given = read_corpus([learn], config, max_bytes=max_bytes)
        return given.text[-MAX_LEARNED_CHARS:], learn
    try:
        text = find_training_text(lm.checkpoint, model_path=find_model(name))
    except CorpusError:
        return None, ""
    between = separator(TrainingText.from_checkpoint(lm.checkpoint).data.documents)
    return text.read()[-MAX_LEARNED_CHARS:].replace(MARK, between), f"{name}’s text"


def _line(
    lines: Sequence[str], models: Sequence[str], nats: Sequence[np.ndarray[Any, Any]], other: int, line: int
) -> dict[str, Any]:

    bits, other_bits = float(nats[0][line]) / LN2, float(nats[other][line]) / LN2
    return {
        "line": line + 1,
        "text": lines[line].rstrip("\r\n"),
        "first": models[0],
        "other": models[other],
        "first_bits": bits,
        "other_bits": other_bits,
        "difference_bits": other_bits - bits,
    }


def _say(corpus: Corpus, lms: Sequence[LanguageModel], models: Sequence[str], num_lines: int) -> None:
    """Say what makes the numbers less than they seem."""
    for lm, name in zip(lms, models, strict=True):
        if corpus.has_sha256(lm.checkpoint.about.get("corpus_sha256")):
            say(f"note: {name} learned from a part of this very text")
    if num_lines < FEW_LINES:
        say(f"note: {num_lines} lines are too few for the intervals to say much")


def _print(
    about: dict[str, Any], table: list[dict[str, Any]], far: list[dict[str, Any]], num_models: int, as_json: bool
) -> None:
    from chargen.ui.console import print_json, stdout_console
    from chargen.ui.tables import comparison_table, lines_apart_table

    if as_json:
        print_json({**about, "models": table[:num_models], "baselines": table[num_models:], "lines_apart": far})
        return
    first = table[0]["name"]
    stdout_console().print(comparison_table(table))
    stdout_console().print(
        f"{about['chars']:,} characters, {about['bytes']:,} bytes, {about['lines']:,} lines; differences from "
        f"{visible(first)}, 95 % of {about['resamples']:,} resamples"
    )
    for other in dict.fromkeys(line["other"] for line in far):
        stdout_console().print(lines_apart_table([line for line in far if line["other"] == other]))
