"""`chargen sample`: generate text and print it while it is generated.

From Python: `write_samples(SampleArguments(number=3, settings={"temperature": 0.8}))`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.effects import keeps_promise, needs, no_effect, only_one
from chargen.sampling.settings import SAMPLING_RULES
from chargen.schema import format_count
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.lm import LanguageModel
    from chargen.sampling.generate import Sample

FLUSH_EVERY_S = 0.02
MAX_SAMPLES = 1_000_000  # limit of -n times --best-of
MAX_COMPETING = 1_000_000  # limit of --particles and --beam; `sampling/generate.py` also checks their memory
MAX_REPORT_CHARS = 10_000_000  # limit of --length with --report, which needs some hundred bytes per character
MAX_PROMPT_BYTES = 1 << 26  # size limit of a --prompt-file
DEFAULT_INFILL_PARTICLES = 64  # default of --suffix without --particles

text_option = options.option_group("Prompt and end of the text")
rule_option = options.option_group("Sampling rules")
constraint_option = options.option_group("Constraints")
search_option = options.option_group("Search")

RULE_OPTIONS = " ".join(f"--{name.replace('_', '-')}" for name in SAMPLING_RULES)
EFFECTS = [
    only_one("--prompt --prompt-file", why="both give a prompt; give only one"),
    only_one("--beam --best-of --suffix", why="these are different methods; choose one"),
    only_one("--beam --particles", why="these are different methods; choose one"),
    only_one("--best-of --particles", why="these are different methods; choose one"),
    needs("--dry-base --dry-allowed", "--dry"),
    needs("--corpus", "--max-copy --report"),
    no_effect(f"--temp {RULE_OPTIONS}", beside="--beam", why="a beam search draws nothing at random"),
    no_effect(
        f"--number --best-of --particles {RULE_OPTIONS}", beside="--temp=0",
        why="each character is the most likely one, so there is only one text",
    ),
    keeps_promise("--seed", beside="--beam --temp=0", why="nothing is drawn at random"),
    no_effect(
        "--stop --until", beside="--regex", why="it determines where a text ends; leave out --stop and --until"
    ),
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SampleArguments:
    """The arguments of `chargen sample`, named as on the command line."""

    model: str | None = None
    number: int = 1
    prompt: str = ""
    prompt_file: str | None = None
    suffix: str = ""
    particles: int = 0
    beam: int = 0
    best_of: int = 1
    report: bool = False
    corpus: tuple[str, ...] = ()
    device: str = "auto"
    threads: int | None = None
    as_json: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)  #: fields of `SampleConfig`; seed None draws one

    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> SampleArguments:
        """Return the arguments from the options of the command; those that have no field here are `settings`."""
        names = {field.name for field in fields(cls)}
        settings = {name: value for name, value in values.items() if name not in names}
        return cls(settings=settings, **{name: value for name, value in values.items() if name in names})


@click.command(
    cls=options.GroupedCommand,
    effects=EFFECTS,
    epilog="\b\nExamples:\n  chargen sample --temp 0.8\n"
    "  chargen sample --prompt 'Once upon a time' --length 500 --seed 7\n"
    "  chargen sample -m names --until newline -n 20\n"
    "  chargen sample --regex '[A-Z][a-z]+, (the )?[a-z]+\\.' --particles 64\n"
    "  chargen sample --prompt 'Once' --suffix 'the end.' --length 200\n"
    "  chargen sample -m shakespeare -n 3 --json",
)
@options.model
@options.temperature
@options.basic_option(
    "-n", "--number", type=click.IntRange(1, MAX_SAMPLES), default=1, show_default=True, metavar="N",
    help="Number of samples.",
)  # fmt: skip
@options.basic_option(
    "--length", type=click.IntRange(min=0), default=1000, show_default=True, metavar="N",
    help="Maximum number of characters in a sample, without the prompt.",
)  # fmt: skip
@options.basic_option(
    "--prompt", default="", help="Text to continue. It is printed, too. '-' reads it from standard input."
)
@options.basic_option(
    "--seed", type=click.IntRange(min=0), metavar="N", show_default="a random one, which is printed",
    help="Random seed. The same seed gives the same text.",
)  # fmt: skip
@text_option(
    "--prompt-file", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
    help="Read the prompt from a file. The model reads the last 20,000 tokens of a long one.",
)  # fmt: skip
@text_option(
    "--suffix", default="", metavar="TEXT",
    help="Fill in the text between the prompt and this text (uses 64 particles if --particles is not given).",
)  # fmt: skip
@text_option("--stop", multiple=True, metavar="TEXT", help="End the sample before this text. May be repeated.")
@text_option(
    "--until", type=click.Choice(["length", "newline", "boundary"]), default="length", show_default=True,
    help="Where a sample ends: at --length, at the first newline, or at the end of the document (boundary; for models "
    "trained with --documents).",
)  # fmt: skip
@options.sampling_rules(rule_option)
@rule_option(
    "--dry", type=float, default=0.0, show_default=True, metavar="NATS",
    help="Penalty for a character that would extend a repetition of 12 or more characters (--dry-allowed); it grows "
    "by a tenth for each further repeated character (--dry-base 1.1).",
)  # fmt: skip
@rule_option(
    "--dry-base", type=float, default=1.1, show_default=True, hidden=True,
    help="Factor of the --dry penalty for each further repeated character.",
)  # fmt: skip
@rule_option(
    "--dry-allowed", type=int, default=12, show_default=True, hidden=True,
    help="Number of repeated characters without a --dry penalty.",
)  # fmt: skip
@constraint_option(
    "--regex", default="", metavar="PATTERN",
    help="Every sample matches this regular expression as a whole. Characters that cannot lead to a match are masked, "
    "which favours prefixes whose completions are unlikely; --particles corrects that.",
)  # fmt: skip
@constraint_option("--ban", multiple=True, metavar="TEXT", help="Never generate this text. May be repeated.")
@constraint_option(
    "--max-copy", type=int, default=0, show_default="0, no limit", metavar="N",
    help="Never generate more than N consecutive characters that also occur in the training text.",
)  # fmt: skip
@constraint_option(
    "--corpus", multiple=True, type=options.FILE_NAME, metavar="FILE",
    help="The training text, for --max-copy and --report. Defaults to the files that the model was trained on. May be "
    "repeated.",
)  # fmt: skip
@constraint_option(
    "--allow-invalid-utf8", is_flag=True,
    help="Allow a model of bytes to generate invalid UTF-8, which is printed as U+FFFD.",
)  # fmt: skip
@search_option(
    "--particles", type=click.IntRange(0, MAX_COMPETING), default=0, show_default="0, off", metavar="N",
    help="Draw each sample from N competing texts (sequential Monte Carlo), so that it follows the model's own "
    "distribution under --regex, --ban and --max-copy.",
)  # fmt: skip
@search_option(
    "--beam", type=click.IntRange(0, MAX_COMPETING), default=0, show_default="0, off", metavar="WIDTH",
    help="Print the most likely text that a beam search of this width finds; with -n N the N most likely ones.",
)  # fmt: skip
@search_option(
    "--best-of", type=click.IntRange(1, MAX_SAMPLES), default=1, show_default=True, metavar="N",
    help="Draw N samples and print the one that is most likely per character.",
)  # fmt: skip
@options.device
@options.threads
@options.checkpoints
@options.output_option("--report", is_flag=True, help="Report how much of each sample occurs in the training text.")
@options.raw
@options.as_json
def sample(**values: Any) -> None:
    """Generate text with a model.

    The text is printed on stdout while it is generated. On a terminal, control characters are shown as symbols (--raw:
    as they are); a pipe or a file gets the exact text.

    The rules act on each character in this order: --regex, --ban and --max-copy exclude characters; --dry subtracts
    its penalty; --temp scales the logits; --top-k and the rules listed after it exclude unlikely characters, in the
    order of the list. Then the character is drawn.
    """
    write_samples(SampleArguments.from_options(values))


def write_samples(args: SampleArguments) -> None:
    """Generate samples and print them on stdout.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If the model, the prompt or the training text cannot be read, or a setting is out of range.
    """
    import secrets

    options.use_threads(args.threads)
    from chargen.api import load

    _check(args)
    prompt = _read_prompt(args)
    lm = load(args.model, args.device, _print_note)
    settings = dict(args.settings)
    seed_is_known = settings.get("seed") is not None or args.beam > 0
    if settings.get("seed") is None:
        settings["seed"] = secrets.randbits(31)
    seed_note = "" if seed_is_known else f"seed {settings['seed']}"
    unknown = lm.unknown_characters(prompt + args.suffix) if prompt or args.suffix else ""
    if unknown:
        _print_note(f"the model does not know {unknown}; it reads them as unknown characters")
    if args.number == 1 and not (args.particles or args.beam or args.best_of > 1 or args.suffix or args.as_json):
        _write_one(lm, args, prompt, settings, seed_note)
    else:
        _write_many(lm, args, prompt, settings, seed_note)


def _check(args: SampleArguments) -> None:
    """Refuse methods that exclude each other, and numbers that ask for more than memory can hold.

    Raises:
        ConfigError: If there are such methods or numbers.
    """
    from chargen.errors import ConfigError

    methods = [args.beam > 0, args.best_of > 1, bool(args.suffix), args.particles > 0 and not args.suffix]
    if sum(methods) > 1:
        raise ConfigError("--beam, --best-of, --suffix and --particles are different methods; choose one")
    if args.number * args.best_of > MAX_SAMPLES:
        raise ConfigError(
            f"-n {args.number:,} times --best-of {args.best_of:,} is {args.number * args.best_of:,} samples, but at "
            f"most {MAX_SAMPLES:,} are possible"
        )
    if args.report and args.settings.get("length", 0) > MAX_REPORT_CHARS:
        raise ConfigError(f"--report compares samples of at most {MAX_REPORT_CHARS:,} characters; lower --length")


def _read_prompt(args: SampleArguments) -> str:
    """Return the prompt: from --prompt-file, from standard input for `-`, or the text of --prompt.

    Raises:
        CorpusError: If the file cannot be read, or the prompt or the suffix is not valid UTF-8.
    """
    from chargen.text.cleaning import check_unicode

    prompt = args.prompt
    if args.prompt_file is not None or prompt == "-":
        from chargen.text.corpus import read_corpus

        prompt = read_corpus([args.prompt_file or prompt], max_bytes=MAX_PROMPT_BYTES).text
    check_unicode(prompt, "the prompt")
    check_unicode(args.suffix, "the suffix")
    return prompt


def _write_one(lm: LanguageModel, args: SampleArguments, prompt: str, settings: dict[str, Any], seed_note: str) -> None:
    """Print a single sample piece by piece while it is generated."""
    pieces = lm.stream(prompt, corpus=args.corpus, **settings)
    if seed_note:
        click.echo(seed_note, err=True)
    copy = StringIO() if args.report else None
    _write(prompt, pieces, copy)
    if copy is not None:
        _print_report(lm, copy.getvalue(), args.corpus)


def _write_many(
    lm: LanguageModel, args: SampleArguments, prompt: str, settings: dict[str, Any], seed_note: str
) -> None:
    """Print samples that are generated as a whole, as text or as a JSON object per line."""
    for count, (drawn, facts) in enumerate(_draw(lm, args, prompt, settings), 1):
        if count == 1 and seed_note:
            click.echo(seed_note, err=True)
        if args.as_json:
            _print_json(lm, args, prompt, settings, drawn, facts)
            continue
        if args.number > 1:
            click.echo(f"{'' if count == 1 else chr(10)}── sample {count} of {args.number} ──", err=True)
        _write(prompt, [drawn.text, args.suffix])
        if args.report:
            _print_report(lm, drawn.text, args.corpus)


def _draw(
    lm: LanguageModel, args: SampleArguments, prompt: str, settings: dict[str, Any]
) -> Iterator[tuple[Sample, dict[str, Any]]]:
    """Yield the samples by the method of the arguments, each with its additional JSON values."""
    from chargen.sampling.generate import Sample

    if args.suffix:
        particles = args.particles or DEFAULT_INFILL_PARTICLES
        infills = lm.infill(args.number, prompt, args.suffix, particles=particles, corpus=args.corpus, **settings)
        for index, infill in enumerate(infills):
            facts = {
                "suffix_log_prob_nats": infill.suffix_log_prob_nats,
                "effective_candidates": infill.effective_candidates,
            }
            yield Sample(infill.text, "suffix", index, 0.0), facts
        return
    num_texts = max(args.number * args.best_of, args.particles, args.beam)
    generator = lm.generator(prompt, num_texts=num_texts, corpus=args.corpus, **settings)
    if args.beam:
        texts = generator.beam_texts(args.beam, args.number)
        if len(texts) < args.number:
            _print_note(f"the beam found only {len(texts):,} different {'text' if len(texts) == 1 else 'texts'}")
        yield from ((each, {}) for each in texts)
    elif args.best_of > 1:
        generator.check_memory(args.best_of)
        samples = generator.samples(range(args.number * args.best_of))
        for _ in range(args.number):
            candidates = list(islice(samples, args.best_of))
            candidates = [each for each in candidates if each.text] or candidates[:1]
            scores = lm.score([each.text for each in candidates], context=prompt)
            best = min(range(len(candidates)), key=lambda index: scores[index].bits_per_char or 0.0)
            yield candidates[best], {"bits_per_char": scores[best].bits_per_char}
    elif args.particles:
        for index in range(args.number):
            yield generator.particles(index, args.particles), {}
    else:
        for each in generator.samples(range(args.number)):
            yield each, {}


def _print_json(
    lm: LanguageModel, args: SampleArguments, prompt: str, settings: dict[str, Any], drawn: Sample,
    facts: dict[str, Any],
) -> None:  # fmt: skip
    from chargen.ui.console import print_json

    values = {"text": prompt + drawn.text + args.suffix, "prompt": prompt, "number": drawn.number}
    if args.suffix:
        values["suffix"] = args.suffix
    else:
        values |= {"ended": drawn.ended, "log_weight_nats": drawn.log_weight_nats}
    values |= {**_changed_settings(settings), **facts}
    if args.report:
        values["report"] = lm.copy_report(drawn.text, args.corpus).to_json()
    print_json(values)


def _changed_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from their defaults, and always the temperature and the seed."""
    from chargen.sampling.settings import SampleConfig

    defaults = asdict(SampleConfig())
    return {k: v for k, v in settings.items() if k in ("temperature", "seed") or v != defaults[k]}


def _print_note(text: str) -> None:
    say(f"note: {text}")


def _print_report(lm: LanguageModel, text: str, corpus: tuple[str, ...]) -> None:
    report = lm.copy_report(text, corpus)
    novel = ", ".join(f"{share:.0%} of {n}-grams" for n, share in report.novel_ngrams.items() if share is not None)
    click.echo(
        f"longest copy: {format_count(report.passage_chars, 'character')}, {report.passage!r}\nnew: {novel}", err=True
    )


def _write(prompt: str, pieces: Iterable[str], copy: StringIO | None = None) -> None:
    """Write a prompt and its continuation on stdout; end with a newline.

    The output is flushed at most every `FLUSH_EVERY_S` seconds, not for every character.

    Args:
        prompt: Text that is written first.
        pieces: The continuation.
        copy: A buffer to which the continuation is written too; None for no copy.
    """
    out = sys.stdout
    last = prompt
    flushed = 0.0
    out.write(prompt)
    for piece in pieces:
        out.write(piece)
        if copy is not None:
            copy.write(piece)
        last = piece or last
        now = time.perf_counter()
        if now - flushed > FLUSH_EVERY_S:
            out.flush()
            flushed = now
    if not last.endswith("\n"):
        out.write("\n")
    out.flush()
