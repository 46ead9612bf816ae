"""`chargen sample`: generate text and print it while it is generated.

From Python: `write_samples(SampleArguments(number=3, settings={"temperature": 0.8}))`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from io import StringIO
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from chargen.cli import options
from chargen.cli.commands import sample_output
from chargen.cli.effects import keeps_promise, needs, no_effect, only_one
from chargen.cli.series_options import check_sample_options, series_output
from chargen.sampling.settings import SAMPLING_RULES, SampleConfig, draw_seed
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from chargen.lm import LanguageModel
    from chargen.sampling.generate import Sample
    from chargen.text.series.quantizer import Quantizer

SAMPLE = options.numbers(SampleConfig)  # the types of the numeric options
MAX_SAMPLES = 1_000_000  # limit of -n times --best-of
MAX_COMPETING = 1_000_000  # limit of --particles and --beam; `sampling/generate.py` also checks their memory
MAX_REPORT_CHARS = 10_000_000  # limit of --length with --report, which needs some hundred bytes per character
MAX_PROMPT_BYTES = 1 << 26  # size limit of a --prompt-file, and of --prompts
DEFAULT_INFILL_PARTICLES = 64  # default of --suffix without --particles

text_option = options.option_group("Prompt and end of the text")
rule_option = options.option_group("Sampling rules")
list_option = options.option_group("Several samples")
constraint_option = options.option_group("Constraints")
search_option = options.option_group("Search")

RULE_OPTIONS = " ".join(f"--{name.replace('_', '-')}" for name in SAMPLING_RULES)
EFFECTS = [
    only_one("--prompt --prompt-file --prompts", why="both give a prompt; give only one"),
    needs("--no-prompt", "--prompt --prompt-file --prompts"),
    only_one("--sep --null", why="both say what is between samples; give only one"),
    no_effect("--sep --null", beside="--json", why="each sample is a JSON object on a line"),
    no_effect("--numbers --output", beside="--json", why="the JSON of a series has its values"),
    no_effect("--sep --null --numbers", beside="--output", why="the samples are written to files"),
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
    prompts: str | None = None
    no_prompt: bool = False
    sep: str | None = None
    null: bool = False
    suffix: str = ""
    particles: int = 0
    beam: int = 0
    best_of: int = 1
    output: str | None = None
    numbers: bool = False
    report: bool = False
    corpus: tuple[str, ...] = ()
    device: str = "auto"
    threads: int | None = None
    as_json: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)  #: fields of `SampleConfig`; a missing seed is drawn

    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> SampleArguments:
        """Return the arguments from the options of the command; those that have no field here are `settings`."""
        names = {field.name for field in fields(cls)}
        settings = {name: value for name, value in values.items() if name not in names and value is not None}
        return cls(settings=settings, **{name: value for name, value in values.items() if name in names})


@click.command(
    cls=options.GroupedCommand,
    effects=EFFECTS,
    epilog="\b\nExamples:\n  chargen sample --temp 0.8\n"
    "  chargen sample --prompt 'Once upon a time' --length 500 --seed 7\n"
    "  chargen sample -m names -n 20\n"
    "  chargen sample -m names --prompts prompts.txt -n 3 --sep ', '\n"
    "  chargen sample --regex '[A-Z][a-z]+, (the )?[a-z]+\\.' --particles 64\n"
    "  chargen sample --prompt 'Once' --suffix 'the end.' --length 200\n"
    "  chargen sample -m shakespeare -n 3 --json",
)
@options.model
@options.temperature
@options.basic_option(
    "-n", "--number", type=options.whole(1, MAX_SAMPLES), default=1, show_default=True, metavar="N",
    help="Number of samples.",
)  # fmt: skip
@options.basic_option(
    "--length", type=SAMPLE["length"], default=1000, show_default=True, metavar="N",
    help="Maximum number of characters in a sample, without the prompt.",
)  # fmt: skip
@options.basic_option(
    "--prompt",
    default="",
    help="Text to continue; for a backward model, the end of the text. It is printed, too. '-' reads it from standard "
    "input.",
)
@options.basic_option(
    "--seed", type=SAMPLE["seed"], metavar="N", show_default="a random one, which is printed",
    help="Random seed. The same seed gives the same text.",
)  # fmt: skip
@text_option(
    "--prompt-file", type=options.EXISTING_FILE, metavar="FILE",
    help="Read the prompt from a file. The model reads the last 20,000 tokens of a long one.",
)  # fmt: skip
@text_option(
    "--prompts", type=options.FILE_NAME, metavar="FILE",
    help="Continue each line of a file ('-' is standard input); with -n N, each line N times.",
)  # fmt: skip
@text_option("--no-prompt", is_flag=True, help="Print the continuation only, without the prompt.")
@text_option(
    "--suffix", default="", metavar="TEXT",
    help="Fill in the text between the prompt and this text (uses 64 particles if --particles is not given).",
)  # fmt: skip
@text_option("--stop", multiple=True, metavar="TEXT", help="End the sample before this text. May be repeated.")
@text_option(
    "--until", type=click.Choice(["length", "newline", "boundary"]), show_default="boundary for a model of documents, "
    "else length",
    help="Where a sample ends: at --length, at the first newline, or at the end of the document (boundary; for models "
    "trained with --documents).",
)  # fmt: skip
@list_option(
    "--sep", type=sample_output.SEPARATOR, metavar="TEXT", show_default="a newline",
    help="Text between two samples, with the escapes \\n, \\t, \\r, \\0 and \\\\.",
)  # fmt: skip
@list_option("-0", "--null", is_flag=True, help="Print a NUL character after each sample, and no newline.")
@options.sampling_rules(rule_option)
@rule_option(
    "--dry", type=SAMPLE["dry"], default=0.0, show_default=True, metavar="NATS",
    help="Penalty for a character that would extend a repetition of 12 or more characters (--dry-allowed); it grows "
    "by a tenth for each further repeated character (--dry-base 1.1).",
)  # fmt: skip
@rule_option(
    "--dry-base", type=SAMPLE["dry_base"], default=1.1, show_default=True, hidden=True,
    help="Factor of the --dry penalty for each further repeated character.",
)  # fmt: skip
@rule_option(
    "--dry-allowed", type=SAMPLE["dry_allowed"], default=12, show_default=True, hidden=True,
    help="Number of repeated characters without a --dry penalty.",
)  # fmt: skip
@constraint_option(
    "--regex", default="", metavar="PATTERN",
    help="Every sample matches this regular expression as a whole. Characters that cannot lead to a match are masked, "
    "which favours prefixes whose completions are unlikely; --particles corrects that.",
)  # fmt: skip
@constraint_option("--ban", multiple=True, metavar="TEXT", help="Never generate this text. May be repeated.")
@constraint_option(
    "--max-copy", type=SAMPLE["max_copy"], default=0, show_default="0, no limit", metavar="N",
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
    "--particles", type=options.whole(0, MAX_COMPETING), default=0, show_default="0, off", metavar="N",
    help="Draw each sample from N competing texts (sequential Monte Carlo), so that it follows the model's own "
    "distribution under --regex, --ban and --max-copy.",
)  # fmt: skip
@search_option(
    "--beam", type=options.whole(0, MAX_COMPETING), default=0, show_default="0, off", metavar="WIDTH",
    help="Print the most likely text that a beam search of this width finds; with -n N the N most likely ones.",
)  # fmt: skip
@search_option(
    "--best-of", type=options.whole(1, MAX_SAMPLES), default=1, show_default=True, metavar="N",
    help="Draw N samples and print the one that is most likely per character.",
)  # fmt: skip
@options.device
@options.threads
@options.checkpoints
@options.output_option("--report", is_flag=True, help="Report how much of each sample occurs in the training text.")
@series_output
@options.raw
@options.as_json
def sample(**values: Any) -> None:
    """Generate text with a model.

    The text is printed on stdout while it is generated. A backward model (`chargen train --direction backward`) writes
    from the end of the text to its start: the text ends with the prompt, and is printed when it is complete. Several
    samples are a list of lines if each is a single line;
    others get a heading on stderr. A model of documents ends a sample with the document. On a terminal, control
    characters are shown as symbols (--raw: as they are); a pipe or a file gets the exact text.

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
    options.start_with_one_thread(args.threads)
    from chargen.api import load
    from chargen.text.cleaning import quote_characters

    _check(args)
    options.note_same_names(args.corpus)
    lm = load(args.model, args.device, _print_note)
    options.note_newest_model(args.model, lm.path)
    check_sample_options(lm, args.output, args.numbers)
    prompts = _read_prompts(args, lm.tokenizer.quantizer)
    settings = dict(args.settings)
    if "until" not in settings:
        ends_itself = bool(settings.get("regex") or args.suffix)
        settings["until"] = "length" if ends_itself else lm.checkpoint.default_until
    seed_note = ""
    if "seed" not in settings:
        settings["seed"] = draw_seed()
        seed_note = "" if args.beam else f"seed {settings['seed']}"
    unknown = dict.fromkeys("".join(map(lm.unknown_characters, (*prompts, args.suffix))))
    if unknown:
        _print_note(f"the model does not know {quote_characters(unknown)}; it reads them as unknown characters")
    is_plain = not (args.particles or args.beam or args.best_of > 1 or args.suffix or args.as_json)
    if args.number * len(prompts) == 1 and is_plain:
        _write_one(lm, args, prompts[0], settings, seed_note)
    else:
        _write_many(lm, args, prompts, settings, seed_note)


def _check(args: SampleArguments) -> None:
    """Refuse methods that exclude each other, and numbers that ask for more than memory can hold.

    Raises:
        ConfigError: If there are such methods or numbers.
    """
    from chargen.errors import ConfigError

    if sum([args.beam > 0, args.best_of > 1, bool(args.suffix), args.particles > 0 and not args.suffix]) > 1:
        raise ConfigError("--beam, --best-of, --suffix and --particles are different methods; choose one")
    if args.number * args.best_of > MAX_SAMPLES:
        raise ConfigError(
            f"-n {args.number:,} times --best-of {args.best_of:,} is {args.number * args.best_of:,} samples, but at "
            f"most {MAX_SAMPLES:,} are possible"
        )
    if args.report and args.settings.get("length", 0) > MAX_REPORT_CHARS:
        raise ConfigError(f"--report compares samples of at most {MAX_REPORT_CHARS:,} characters; lower --length")


def _read_prompts(args: SampleArguments, quantizer: Quantizer | None) -> list[str]:
    """Return the prompts: from --prompts or --prompt-file, from standard input for `-`, or the text of --prompt.

    Raises:
        CorpusError: If the file cannot be read.
        ConfigError: If there are too many prompts.
    """
    from chargen.errors import ConfigError

    prompts = [args.prompt]
    name = args.prompts or args.prompt_file or ("-" if args.prompt == "-" else None)
    if name is not None:
        from chargen.text.corpus import read_corpus

        text = read_corpus([name], max_bytes=MAX_PROMPT_BYTES, quantizer=quantizer).text
        prompts = text.removesuffix("\n").split("\n") if args.prompts else [text]
    if len(prompts) * args.number * args.best_of > MAX_SAMPLES:
        raise ConfigError(
            f"{len(prompts):,} prompts with -n {args.number * args.best_of:,} are "
            f"{len(prompts) * args.number * args.best_of:,} samples, but at most {MAX_SAMPLES:,} are possible"
        )
    return prompts


def _write_one(lm: LanguageModel, args: SampleArguments, prompt: str, settings: dict[str, Any], seed_note: str) -> None:
    """Print a single sample piece by piece while it is generated."""
    pieces = lm.stream(prompt, corpus=args.corpus, **settings)
    if seed_note:
        click.echo(seed_note, err=True)
    copy = StringIO()  # 4 bytes per character; a list of pieces has 60
    if args.report:
        pieces = sample_output.copied(pieces, copy)
    is_backward = lm.checkpoint.data.is_backward
    if is_backward:
        _print_note("the text is printed when it is complete: a backward model writes it from its end")
    whole = pieces if args.no_prompt else chain(pieces, [prompt]) if is_backward else chain([prompt], pieces)
    sample_output.make_writer(args, lm.tokenizer.quantizer, 1).write_pieces(whole)
    if args.report:
        sample_output.print_report(lm, copy.getvalue(), args.corpus)


def _write_many(
    lm: LanguageModel, args: SampleArguments, prompts: Sequence[str], settings: dict[str, Any], seed_note: str
) -> None:
    """Print samples that are generated as a whole, as text or as a JSON object per line."""
    quantizer = lm.tokenizer.quantizer
    writer = sample_output.make_writer(args, quantizer, args.number * len(prompts))
    for index, prompt in enumerate(prompts):
        numbers = range(index * args.number, (index + 1) * args.number)
        for drawn, facts in _draw(lm, args, prompt, numbers, settings):
            if seed_note:
                click.echo(seed_note, err=True)
                seed_note = ""
            text = lm.join("" if args.no_prompt else prompt, drawn.text) + args.suffix
            if args.as_json:
                facts |= sample_output.series_facts(quantizer, text)
                report = lm.copy_report(drawn.text, args.corpus) if args.report else None
                sample_output.print_json_sample(args, text, prompt, drawn, {**settings, **facts}, report)
                continue
            writer.write(text)
            if args.report:
                is_one = writer.num_samples == 1
                label = "" if is_one else f"sample {writer.num_written:,} of {writer.num_samples:,}: "
                sample_output.print_report(lm, drawn.text, args.corpus, label)
    writer.finish()


def _draw(
    lm: LanguageModel, args: SampleArguments, prompt: str, numbers: range, settings: dict[str, Any]
) -> Iterator[tuple[Sample, dict[str, Any]]]:
    """Yield the samples by the method of the arguments, each with its additional JSON values.

    Args:
        lm: the model.
        args: the arguments of the command.
        prompt: one of the prompts.
        numbers: the numbers of the samples under their seed; those of other prompts are other numbers.
        settings: fields of `SampleConfig`.
    """
    from chargen.sampling.generate import Sample

    if args.suffix:
        particles = args.particles or DEFAULT_INFILL_PARTICLES
        generator = lm.generator(prompt, num_texts=particles, corpus=args.corpus, **settings)
        for index in numbers:
            infill = generator.infill(lm.checkpoint.normalize(args.suffix), index, particles)
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
        samples = generator.samples(range(numbers.start * args.best_of, numbers.stop * args.best_of))
        for _ in range(args.number):
            candidates = list(islice(samples, args.best_of))
            candidates = [each for each in candidates if each.text] or candidates[:1]
            scores = lm.score([each.text for each in candidates], context=prompt)
            best = min(range(len(candidates)), key=lambda index: scores[index].bits_per_char or 0.0)
            yield candidates[best], {"bits_per_char": scores[best].bits_per_char}
    elif args.particles:
        for index in numbers:
            yield generator.particles(index, args.particles), {}
    else:
        for each in generator.samples(numbers):
            yield each, {}


def _print_note(text: str) -> None:
    say(f"note: {text}")
