"""`chargen sample`: text out, as it is drawn."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.lm import LanguageModel
    from chargen.sampling.generate import Sample

FLUSH_EVERY_S = 0.02
MAX_SAMPLES = 1_000_000  #: limit of -n times --best-of
MAX_COMPETING = 1_000_000  #: limit of --particles and --beam; `sampling/writing.py` also checks their memory
MAX_REPORT_CHARS = 10_000_000  #: limit of --length with --report, which needs some hundred bytes per character
MAX_PROMPT_BYTES = 1 << 26  #: size limit of a --prompt-file


@click.command(
    epilog="\b\nExamples:\n  chargen sample --temp 0.8\n"
    "  chargen sample --prompt 'Once upon a time' --length 500 --seed 7\n"
    "  chargen sample -m names --until newline -n 20\n"
    "  chargen sample --regex '[A-Z][a-z]+, (the )?[a-z]+\\.' --particles 64\n"
    "  chargen sample --prompt 'Once' --suffix 'the end.' --length 200\n"
    "  chargen sample -m shakespeare -n 3 --json"
)
@options.model
@options.temperature
@click.option(
    "-n", "--number", type=click.IntRange(1, MAX_SAMPLES), default=1, show_default=True, help="Samples to draw."
)
@click.option(
    "--length",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Characters a sample at most, the prompt not counted.",
)
@click.option("--prompt", default="", help="The beginning; it is printed too. '-' reads it from standard input.")
@click.option(
    "--prompt-file",
    type=click.Path(exists=True, dir_okay=False),
    help="The beginning, as a file; of a long one the last 20,000 ids are read.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of the random numbers; one is drawn, and told, if left out.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text. May be given several times.")
@click.option(
    "--until",
    type=click.Choice(["length", "newline", "boundary"]),
    default="length",
    show_default=True,
    help="End at the first newline, or with the document (of a model trained with --documents).",
)
@options.sampling_rules
@click.option(
    "--dry", type=float, default=0.0, metavar="NATS",
    help="Take nats from a character that would go on repeating a sequence of 12 or more (--dry-allowed), a tenth "
    "more for each further one (--dry-base 1.1).",
)  # fmt: skip
@click.option("--dry-base", type=float, default=1.1, hidden=True)
@click.option("--dry-allowed", type=int, default=12, hidden=True)
@click.option("--ban", multiple=True, metavar="TEXT", help="Never write this text. May be given several times.")
@click.option(
    "--regex", default="", metavar="PATTERN",
    help="Every sample matches this regular expression, as a whole. Characters that lead to no match are masked, so "
    "beginnings are favoured that lead to unlikely ends; --particles mends that.",
)  # fmt: skip
@click.option(
    "--particles", type=click.IntRange(0, MAX_COMPETING), default=0, metavar="N",
    help="N texts compete for each sample, so that it is from the model's own distribution under --regex, --ban and "
    "--max-copy.",
)  # fmt: skip
@click.option(
    "--beam", type=click.IntRange(0, MAX_COMPETING), default=0, metavar="W", help="The likeliest text, by beam search."
)
@click.option(
    "--best-of",
    type=click.IntRange(1, MAX_SAMPLES),
    default=1,
    metavar="N",
    help="Of N samples the likeliest per character.",
)
@click.option(
    "--max-copy", type=int, default=0, metavar="N",
    help="Never write more than N characters in a row that stand so in the training text.",
)  # fmt: skip
@click.option(
    "--allow-invalid-utf8", is_flag=True, help="Let a model of bytes write invalid UTF-8; it is printed as U+FFFD."
)
@click.option("--suffix", default="", help="Join the prompt to this end, by particles (64 if not said).")
@click.option("--report", is_flag=True, help="Say how much of each sample stands in the training text.")
@click.option("--corpus", multiple=True, type=options.NAME, metavar="FILE", help="Where that is, if it is not found.")
@options.device
@options.raw
@options.as_json
def sample(
    model: str | None, number: int, prompt: str, prompt_file: str | None, particles: int, beam: int, best_of: int,
    suffix: str, report: bool, corpus: tuple[str, ...], device: str, as_json: bool, **settings: Any,
) -> None:  # fmt: skip
    """Write text with a model.

    The text goes to stdout as it is drawn. The same seed gives the same text. On a terminal, characters that would act
    on it are shown as symbols (--raw: as they are); a pipe or a file gets exactly the text.

    What acts on a character, in this order: --regex, --ban and --max-copy rule out; --dry takes away; --temp; --top-k,
    --top-p, --typical, --min-p; then it is drawn.
    """
    import secrets

    from chargen.lm import load
    from chargen.text.cleaning import check_unicode

    _check(number, particles, beam, best_of, suffix, settings["length"] if report else 0, prompt_file)
    if prompt_file is not None or prompt == "-":
        from chargen.text.corpus import read_corpus

        prompt = read_corpus([prompt_file or prompt], max_bytes=MAX_PROMPT_BYTES).text
    check_unicode(prompt, "the prompt")
    check_unicode(suffix, "the suffix")
    lm = load(model, device, _note)
    told = settings["seed"] is not None or beam > 0
    if settings["seed"] is None:
        settings["seed"] = secrets.randbits(31)
    unknown = lm.unknown_characters(prompt + suffix) if prompt or suffix else ""
    if unknown:
        say(f"note: the model does not know {unknown}; it reads them as unknown characters")
    if number == 1 and not (particles or beam or best_of > 1 or suffix or as_json):
        pieces = lm.stream(prompt, corpus=corpus, **settings)
        if not told:
            click.echo(f"seed {settings['seed']}", err=True)
        kept = StringIO() if report else None
        _write(prompt, pieces, kept)
        if kept is not None:
            _print_report(lm, kept.getvalue(), corpus)
        return
    for count, (drawn, more) in enumerate(
        _drawn(lm, prompt, suffix, number, beam, best_of, particles, corpus, settings), 1
    ):
        if count == 1 and not told:
            click.echo(f"seed {settings['seed']}", err=True)
        about = {"text": prompt + drawn.text + suffix, "prompt": prompt, "number": drawn.number}
        if as_json:
            from chargen.ui.console import print_json

            found = {"report": lm.copy_report(drawn.text, corpus).to_json()} if report else {}
            ended = {"ended": drawn.ended, "log_weight_nats": drawn.log_weight_nats}
            print_json({**about, **({"suffix": suffix} if suffix else ended), **_given(settings), **more, **found})
            continue
        if number > 1:
            click.echo(f"{'' if count == 1 else chr(10)}── sample {count} of {number} ──", err=True)
        _write(prompt, [drawn.text, suffix])
        if report:
            _print_report(lm, drawn.text, corpus)


def _check(
    number: int, particles: int, beam: int, best_of: int, suffix: str, reported_chars: int, prompt_file: str | None
) -> None:
    """Refuse options that contradict each other, or ask for more than can be held.

    Raises:
        ConfigError: they do.
        UsageError: there are two prompts.
    """
    from chargen.errors import ConfigError

    if prompt_file is not None:
        options.refuse(["prompt"], "and --prompt-file are two beginnings; give one.")
    if sum([beam > 0, best_of > 1, bool(suffix), particles > 0 and not suffix]) > 1:
        raise ConfigError("--beam, --best-of, --suffix and --particles are different ways to write; choose one")
    if number * best_of > MAX_SAMPLES:
        raise ConfigError(f"-n {number:,} times --best-of {best_of:,} are more than {MAX_SAMPLES:,} samples")
    if reported_chars > MAX_REPORT_CHARS:
        raise ConfigError(f"--report looks at samples of at most {MAX_REPORT_CHARS:,} characters; lower --length")


def _note(text: str) -> None:
    say(f"note: {text}")


def _drawn(
    lm: LanguageModel,
    prompt: str,
    suffix: str,
    number: int,
    beam: int,
    best_of: int,
    particles: int,
    corpus: Any,
    settings: Any,
) -> Iterable[tuple[Sample, dict[str, Any]]]:
    """Yield the samples, each with what else there is to say of it."""
    from chargen.sampling.generate import Sample

    if suffix:
        infills = lm.infill(number, prompt, suffix, particles=particles or 64, corpus=corpus, **settings)
        for index, infill in enumerate(infills):
            facts = {
                "suffix_log_prob_nats": infill.suffix_log_prob_nats,
                "effective_candidates": infill.effective_candidates,
            }
            yield Sample(infill.text, "suffix", index, 0.0), facts
        return
    generator = lm.generator(prompt, num_texts=max(number * best_of, particles, beam), corpus=corpus, **settings)
    if beam:
        yield generator.beam(beam), {}
    elif best_of > 1:
        generator.check_memory(best_of)
        samples = generator.samples(range(number * best_of))
        for _ in range(number):
            drawn = list(islice(samples, best_of))
            some = [each for each in drawn if each.text] or drawn[:1]
            scores = lm.score([each.text for each in some], context=prompt)
            best = min(range(len(some)), key=lambda k: scores[k].bits_per_char or 0.0)
            yield some[best], {"bits_per_char": scores[best].bits_per_char}
    elif particles:
        yield from ((generator.particles(index, particles), {}) for index in range(number))
    else:
        yield from ((each, {}) for each in generator.samples(range(number)))


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are not what they are if nothing is said, and those that a text always depends on."""
    from dataclasses import asdict

    from chargen.config import SampleConfig

    plain = asdict(SampleConfig())
    return {k: v for k, v in settings.items() if k in ("temperature", "seed") or v != plain[k]}


def _print_report(lm: LanguageModel, text: str, corpus: tuple[str, ...]) -> None:
    found = lm.copy_report(text, corpus)
    novel = ", ".join(f"{share:.0%} of {n}-grams" for n, share in found.novel_ngrams.items() if share is not None)
    click.echo(f"longest copy: {found.passage_chars} characters, {found.passage!r}\nnew: {novel}", err=True)


def _write(prompt: str, pieces: Iterable[str], kept: StringIO | None = None) -> None:
    """Write a prompt and what follows it, soon but not with a flush for every character; end with a newline.

    What follows the prompt is put into `kept` too, if that is given.
    """
    out, last, flushed = sys.stdout, prompt, 0.0
    out.write(prompt)
    for piece in pieces:
        out.write(piece)
        if kept is not None:
            kept.write(piece)
        last = piece or last
        now = time.perf_counter()
        if now - flushed > FLUSH_EVERY_S:
            out.flush()
            flushed = now
    if not last.endswith("\n"):
        out.write("\n")
    out.flush()
