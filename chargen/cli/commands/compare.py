"""`chargen compare`: compare models on one text.

From Python: `compare_models(CompareArguments(models=("small", "large"), corpus="held-out.txt"))`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.series_options import refuse_text_options, shared_quantizer
from chargen.config import BACKWARD, LN2
from chargen.schema import format_count, format_number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chargen.config import DataConfig
    from chargen.lm import LanguageModel
    from chargen.text.corpus import Corpus
    from chargen.ui.fitted_table import FittedTable

MAX_BASELINE_CHARS = 1 << 20  # the baselines are trained on the end of a text, as at the end of a training run
MIN_LINES = 30  # with fewer lines the intervals are not reliable
MAX_RESAMPLES = 1_000_000  # takes some minutes for a text of 10,000 lines
CONFIDENCE = 0.95  # confidence level of the intervals

comparison_option = options.option_group("Comparison")


@dataclass(frozen=True, kw_only=True)
class CompareArguments:
    """The arguments of `chargen compare`, named as on the command line; sizes in bytes."""

    models: tuple[str, ...]
    corpus: str
    top: int = 5
    resamples: int = 10_000
    seed: int = 0
    learn: str | None = None
    encoding: str = "utf-8"
    errors: str = "strict"
    text_field: str | None = None
    json_lines: bool = False
    max_bytes: int = 10**9
    device: str = "auto"
    as_json: bool = False


@dataclass(frozen=True)
class BaselineText:
    """The text that the baselines are trained on; `text` is None if the training text of the model is not available."""

    text: str | None
    source: str  #: name of the text in the table


@click.command(
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen compare small large held-out.txt\n"
    "  chargen compare chars bytes pieces held-out.txt --top 10 --json",
)
@click.argument("models", nargs=-1, required=True, type=options.MODEL_NAME, metavar="MODEL MODEL...")
@click.argument("corpus", type=options.CORPUS_NAME)
@comparison_option(
    "--top", type=options.whole(0), default=5, show_default=True, metavar="N",
    help="Number of lines to show, those that differ most.",
)  # fmt: skip
@comparison_option(
    "--resamples", type=options.whole(100, MAX_RESAMPLES), default=10_000, show_default=True, metavar="N",
    help="Number of resamples of the bootstrap.",
)  # fmt: skip
@comparison_option(
    "--seed", type=options.whole(0), default=0, show_default=True, metavar="N", help="Random seed of the resamples."
)
@comparison_option(
    "--learn", type=options.CORPUS_NAME, metavar="TEXT",
    help="Training text of the baselines. Defaults to the training text of the first model, if it is available.",
)  # fmt: skip
@options.encoding
@options.errors
@options.text_field
@options.json_lines
@options.max_corpus_size("1GB")
@options.device
@options.checkpoints
@options.as_json
def compare(**values: Any) -> None:
    """Compare models on one text: bits per byte, and whether the differences are statistically significant.

    Give two or more MODELs. CORPUS is a file, a folder, '-' or the name of a corpus, preferably one that no model was
    trained on. It is read with carried state, as by `chargen eval`. Bits are counted per byte of the given text, so
    that models of characters, bytes and pieces can be compared.

    Each model is compared with the first one. The interval contains 95 % of the differences on resampled lines of the
    text (paired bootstrap). A backward model reads the same text from its end. The rows below the models are baselines:
    an interpolated 5-gram, a uniform distribution over the characters of the text, and lzma. Lines below the table say
    what they were trained on.
    """
    compare_models(CompareArguments(**values))


def compare_models(args: CompareArguments) -> None:
    """Compare models on a text and print the result on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If a model or a text cannot be read.
        UsageError: If there is only one model.
    """
    if len(args.models) < 2:
        given = shlex.join([*args.models, args.corpus])
        raise click.UsageError(f"compare needs two models or more, and then a text, but only {given} were given.")
    from chargen.api import load
    from chargen.config import DataConfig
    from chargen.data.dataset import split_lines
    from chargen.scoring.bootstrap import most_different_lines
    from chargen.scoring.scorer import utf8_size
    from chargen.text.corpus import check_text_field, read_corpus

    # The text is read unchanged: each model normalizes it like its training text, and the bytes of this one count.
    config = DataConfig.for_unchanged_text(args.encoding, args.errors, args.text_field, args.json_lines)
    options.check_reading([args.corpus, *([args.learn] if args.learn else [])])
    lms = [load(model, args.device) for model in args.models]
    quantizer = shared_quantizer(dict(zip(args.models, lms, strict=True)))
    refuse_text_options(quantizer, [args.corpus])
    corpus = read_corpus([args.corpus], config, max_bytes=args.max_bytes, quantizer=quantizer)
    check_text_field(args.text_field, corpus)
    lines = split_lines(corpus.text)
    nats, unknown = zip(*(lm.evaluate_lines(lines) for lm in lms), strict=True)
    baseline_text = _baseline_text(lms[0], args, config)
    rows = _rows(args, nats, lines, baseline_text)
    for row, lm, counts in zip(rows, lms, unknown, strict=False):
        row["direction"] = lm.checkpoint.data.direction
        row["unknown_chars"] = int(counts.sum())
    line_differences = [
        _line_difference(lines, args.models, nats, other, line)
        for other in range(1, len(lms))
        for line in most_different_lines(nats[0], nats[other], args.top)
    ]
    about = {
        "corpus": corpus.name,
        "chars": len(corpus.text),
        "bytes": utf8_size(corpus.text),
        "lines": len(lines),
        "resamples": args.resamples,
        "seed": args.seed,
        "confidence": CONFIDENCE,
    }
    _print_notes(corpus, lms, args.models, len(lines))
    _print(about, rows, line_differences, len(lms), args.as_json)


def _rows(
    args: CompareArguments, nats: Sequence[NDArray[np.float64]], lines: Sequence[str], baseline_text: BaselineText
) -> list[dict[str, Any]]:
    """Return a row for each model and then for each baseline: its bits, and its difference from the first model.

    Args:
        args: The arguments of the command.
        nats: For each model, −log p of each line in nats.
        lines: Lines of the text.
        baseline_text: Text that the baselines are trained on.
    """
    import numpy as np

    from chargen.data.baselines import lzma_text_nats, ngram_line_nats, uniform_line_nats
    from chargen.scoring.bootstrap import paired_bootstrap
    from chargen.scoring.scorer import utf8_size

    sizes = np.array([utf8_size(line) for line in lines], dtype=np.float64)
    num_chars = sum(map(len, lines))
    num_distinct = len(set("".join(lines)))
    by_line = np.stack([*nats, ngram_line_nats(lines, baseline_text.text), uniform_line_nats(lines)])
    names = [
        *args.models,
        f"5-gram, trained on {baseline_text.source or 'the other half of this text'}",
        f"uniform over the {format_count(num_distinct, 'character')} of this text",
        f"lzma, {f'given {baseline_text.source}' if baseline_text.source else 'without a training text'}",
    ]
    short_names: list[str | None] = [*(None for _ in args.models), "5-gram", "uniform", "lzma"]
    totals = [*(float(row.sum()) for row in by_line), lzma_text_nats(lines, baseline_text.text)]
    differences = [None, *paired_bootstrap(by_line, sizes, args.resamples, args.seed), None]  # LZMA has no lines
    return [
        {
            "name": name,
            **({"short_name": short_name} if short_name else {}),
            "bits_per_byte": total / LN2 / float(sizes.sum()),
            "bits_per_char": total / LN2 / num_chars,
            **(difference.to_json() if difference else {}),
        }
        for name, short_name, total, difference in zip(names, short_names, totals, differences, strict=True)
    ]


def _baseline_text(lm: LanguageModel, args: CompareArguments, config: DataConfig) -> BaselineText:
    """Return the end of the text that the baselines are trained on: --learn, or the first model's training text."""
    from chargen.errors import CorpusError
    from chargen.runs import find_model
    from chargen.sampling.training_text_index import TrainingText, find_training_text
    from chargen.text.corpus import read_corpus
    from chargen.text.documents import MARK, separator

    if args.learn is not None:
        corpus = read_corpus([args.learn], config, max_bytes=args.max_bytes, quantizer=lm.tokenizer.quantizer)
        return BaselineText(corpus.text[-MAX_BASELINE_CHARS:], args.learn)
    name = args.models[0]
    try:
        text = find_training_text(lm.checkpoint, model_path=find_model(name))
    except CorpusError:
        return BaselineText(None, "")
    mark = separator(TrainingText.from_checkpoint(lm.checkpoint).data.documents)
    return BaselineText(text.read()[-MAX_BASELINE_CHARS:].replace(MARK, mark), f"the training text of {name}")


def _line_difference(
    lines: Sequence[str], models: Sequence[str], nats: Sequence[NDArray[np.float64]], other: int, line: int
) -> dict[str, Any]:
    """Return the difference between the models 0 and `other` on the line with the index `line`."""
    first_bits = float(nats[0][line]) / LN2
    other_bits = float(nats[other][line]) / LN2
    return {
        "line": line + 1,
        "text": lines[line].rstrip("\r\n"),
        "first": models[0],
        "other": models[other],
        "first_bits": first_bits,
        "other_bits": other_bits,
        "difference_bits": other_bits - first_bits,
    }


def _print_notes(corpus: Corpus, lms: Sequence[LanguageModel], models: Sequence[str], num_lines: int) -> None:
    """Print what was read otherwise than it stands, and the reasons why the numbers say less than they seem to."""
    for note in (*corpus.notes, *corpus.repeated_files):
        say(f"note: {note}")
    for lm, name in zip(lms, models, strict=True):
        if corpus.has_sha256(lm.checkpoint.about.get("corpus_sha256")):
            say(f"note: {name} was trained on a part of this text")
    if num_lines < MIN_LINES:
        say(f"note: {format_count(num_lines, 'line is', 'lines are')} too few for reliable intervals")


def _print(
    about: dict[str, Any], rows: list[dict[str, Any]], line_differences: list[dict[str, Any]], num_models: int,
    as_json: bool,
) -> None:  # fmt: skip
    from chargen.ui.console import Paragraph, stdout_console
    from chargen.ui.output import print_json

    if as_json:
        models, baselines = rows[:num_models], rows[num_models:]
        print_json({**about, "models": models, "baselines": baselines, "lines_apart": line_differences})
        return
    console, table = stdout_console(), comparison_table(rows)
    console.print(table)
    for sentence in comparison_sentences(rows[:num_models], about["confidence"]):
        console.print(Paragraph(sentence))
    console.print(
        Paragraph(
            f"{format_count(about['chars'], 'character')}, {format_count(about['bytes'], 'byte')}, "
            f"{format_count(about['lines'], 'line')}; differences from {rows[0]['name']} in bits/byte. "
            "Fewer bits are better."
        )
    )
    for line in _legend(table.shown_columns(console), rows, about):
        console.print(Paragraph(line))
    for other in dict.fromkeys(line["other"] for line in line_differences):
        console.print(line_difference_table([line for line in line_differences if line["other"] == other]))


def _legend(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> list[str]:
    """Return what the short names of the baselines stand for, and a line for each of the `columns` that needs one."""
    baselines = [row["name"] for row in rows if "short_name" in row]
    meanings = {
        "interval": f"it contains {about['confidence']:.0%} of the differences on {about['resamples']:,} resamples of "
        "the lines",
        "first better": "share of the resamples in which the first model needs fewer bits",
    }
    lines = [f"{column}: {meaning}" for column, meaning in meanings.items() if column in columns]
    return [f"Baselines: {'; '.join(baselines)}.", *lines]


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> FittedTable:
    """Return a table of models and baselines, each with its difference from the first model (`chargen compare`)."""
    cells = []
    for row in rows:
        difference = ("", "", "")
        if "difference_bits_per_byte" in row:
            share = f"{100 * row['first_better_share']:.1f} %"
            difference = (format_number(row["difference_bits_per_byte"], 4, sign=True), _interval(row), share)
        unknown = row.get("unknown_chars", 0)
        name = row.get("short_name", row["name"])
        cells.append(
            (
                f"{name} (backward)" if row.get("direction") == BACKWARD else name,
                format_number(row["bits_per_byte"], 4),
                format_number(row["bits_per_char"], 4),
                f"{unknown:,}" if unknown else "",
                *difference,
            )
        )
    numbers = ("bits/byte", "bits/char", "unknown", "difference", "interval", "first better")
    empty = () if any(row.get("unknown_chars") for row in rows) else ("unknown",)
    # The sentences below the table contain the intervals, too.
    optional = (*empty, "interval", "first better", "bits/char")
    from chargen.ui.fitted_table import FittedTable

    return FittedTable(("model", *numbers), cells, numbers, optional=optional)


def comparison_sentences(rows: Sequence[Mapping[str, Any]], confidence: float) -> list[str]:
    """Return a sentence for each model after the first: which of the two is better, by how much, and how certainly.

    Args:
        rows: The rows of the models; those of `comparison_table` without the baselines.
        confidence: Confidence level of the intervals.
    """
    first, *others = rows
    sentences = []
    for row in others:
        bits, interval = row["difference_bits_per_byte"], f"{confidence:.0%} interval {_interval(row)}"
        if row["interval_low"] <= 0 <= row["interval_high"]:
            sentences.append(f"{row['name']} and {first['name']}: neither is clearly better ({interval} bits/byte).")
            continue
        better, worse = (first, row) if bits > 0 else (row, first)
        amount = format_number(abs(bits), 4)
        sentences.append(
            f"{better['name']} is better: it needs {amount} bits/byte less than {worse['name']} ({interval})."
        )
    return sentences


def _interval(row: Mapping[str, Any]) -> str:
    return " to ".join(format_number(row[f"interval_{end}"], 4, sign=True) for end in ("low", "high"))


def line_difference_table(lines: Sequence[Mapping[str, Any]]) -> FittedTable:
    """Return a table of the lines that two models differ most on, in bits for the whole line."""
    from chargen.ui.fitted_table import FittedTable
    from chargen.ui.heatmap import visible as visible_characters

    numbers = ("line", lines[0]["first"], lines[0]["other"], "difference")
    rows = [
        (
            f"{row['line']:,}",
            format_number(row["first_bits"], 1),
            format_number(row["other_bits"], 1),
            format_number(row["difference_bits"], 1, sign=True),
            visible_characters(row["text"]),
        )
        for row in lines
    ]
    return FittedTable((*numbers, "text"), rows, numbers, optional=numbers[1:3])
