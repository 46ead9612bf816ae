"""Generate texts from one model, one prompt and one group of settings, by any of the methods.

stream      one text, piece by piece           samples   many texts at once
particles   one text from the model's own distribution under constraints (sequential Monte Carlo)
beam        the most probable text that beam search finds
infill      a text between a prompt and a suffix
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from chargen.config import check_count
from chargen.engines.interface import Engine
from chargen.engines.uniforms import Uniforms
from chargen.errors import ConfigError
from chargen.sampling.decoding import (
    PrimedPrompt,
    generate_batch,
    generate_chars,
    generate_text,
    generate_tokens,
    prime,
    sample_ids,
)
from chargen.sampling.sequence import GeneratedSequence, GenerationContext
from chargen.sampling.settings import SampleConfig
from chargen.schema import format_count
from chargen.tokenizers.tokenizer import Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.engines.uniform_rows import UniformRows
    from chargen.sampling.prefix_cache import PrefixCache
    from chargen.sampling.processors import LogitsProcessor, RegexProcessor
    from chargen.sampling.search import Infill

MIN_BATCH_SIZE = 4  # fewer texts are generated one after another: the first is shown sooner, and it is no slower
MAX_PROMPT_IDS = 20_000  # the model reads only the last token ids of a long prompt; earlier ones have almost no effect
MAX_ID_CHARS = 64  # almost no token id has more characters: only this many per token id are encoded of a long prompt
MAX_LENGTH = 1_000_000_000  # characters of a text that is streamed
MAX_HELD_CHARS = 100_000_000  # characters of all texts that have to be in memory together
MAX_LOGITS = 1 << 23  # texts × vocabulary size for beams and particles, 8 bytes each
MAX_SUFFIX_CHARS = 10_000
MAX_SUFFIX_READS = 10**10  # characters of the suffix that all candidates read together: some hours


@dataclass(frozen=True)
class Sample:
    """A generated text."""

    text: str  #: without the prompt
    ended: str  #: why it ended; see `sampling/sequence.py`
    number: int  #: number of the text under its seed
    log_weight_nats: float  #: log of the probability mass that the constraints left along this text


class Generator:
    """Generates texts from one model, prompt and group of settings.

    Args:
        engine: The model.
        tokenizer: Its tokenizer.
        start_ids: Token ids that a text starts after, at least one.
        prompt: The prompt, normalised like the training text.
        config: The settings.
        document_separator: The text between two documents; None for a model of continuous text.
        copy_filter: The processor of `max_copy`, if that is set.
        prefix_cache: The prompt, if the model has read it before; it replaces `prompt`.

    Raises:
        ConfigError: If settings contradict each other, or the model cannot write what they demand.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        start_ids: Ids,
        prompt: str,
        config: SampleConfig,
        document_separator: str | None = None,
        copy_filter: LogitsProcessor | None = None,
        prefix_cache: PrefixCache | None = None,
    ) -> None:
        check_settings(config, tokenizer, document_separator)
        processors: list[LogitsProcessor] = [copy_filter] if copy_filter else []
        regex = _regex_processor(config, tokenizer) if config.regex else None
        processors += [regex] if regex else []
        processors += _string_processors(config, tokenizer, document_separator)
        if prefix_cache is None:
            prompt_ids = np.concatenate([start_ids, tokenizer.encode(_last_part(prompt))])[-MAX_PROMPT_IDS:]
        else:
            prompt, prompt_ids = prefix_cache.get_read_text(tokenizer), prefix_cache.ids
        self.context = GenerationContext(tokenizer, config, processors, regex, prompt, prompt_ids, document_separator)
        if self.context.open_ids and (regex or copy_filter):
            raise ConfigError("the prefix cache ends inside of a character", "Leave out regex and max_copy.")
        self.engine = engine
        self._prefix_cache = prefix_cache

    def stream(self, number: int = 0) -> Iterator[str]:
        """Yield one text piece by piece; `number` selects it among the texts of the seed."""
        prompt, uniforms = self.prime(), self.uniforms(number)
        if self._only_length_ends_texts():
            generate = generate_chars if self.context.tokenizer.is_char_level else generate_tokens
            return generate(prompt, uniforms)
        return generate_text(prompt, self.new_sequence(), uniforms)

    def samples(self, numbers: Sequence[int]) -> Iterator[Sample]:
        """Yield several texts; `numbers` select them among the texts of the seed.

        Raises:
            ConfigError: If a text is too long to be held in memory.
        """
        self.check_memory(1)
        if len(numbers) < MIN_BATCH_SIZE:
            for number in numbers:
                sequence, text = self.new_sequence(), StringIO()  # 4 bytes per character; a list of pieces has 60
                text.writelines(generate_text(self.prime(), sequence, self.uniforms(number)))
                yield Sample(text.getvalue(), sequence.ended, number, sequence.log_weight_nats)
            return
        prompt, length = self.prime(), self.context.config.length
        batch_size = max(1, min(self.engine.max_streams, MAX_HELD_CHARS // max(1, length)))
        for first in range(0, len(numbers), batch_size):
            yield from self._batch(prompt, numbers[first : first + batch_size], len(numbers) * length)

    def _batch(self, prompt: PrimedPrompt, numbers: Sequence[int], num_ids: int) -> Iterator[Sample]:
        """Yield the texts of a batch; `num_ids` token ids are drawn for all batches together."""
        if self._only_length_ends_texts() and self.context.tokenizer.is_char_level:
            ids = sample_ids(prompt, self.uniform_rows(numbers), num_ids)
            rows = self.context.tokenizer.decode_rows(ids)
            yield from (Sample(row, "length", number, 0.0) for row, number in zip(rows, numbers, strict=True))
            return
        sequences = [self.new_sequence() for _ in numbers]
        texts = [StringIO() for _ in numbers]
        for k, piece in generate_batch(prompt, sequences, self.rngs(numbers)):
            texts[k].write(piece)
        for text, sequence, number in zip(texts, sequences, numbers, strict=True):
            yield Sample(text.getvalue(), sequence.ended, number, sequence.log_weight_nats)

    def particles(self, number: int, num_particles: int) -> Sample:
        """Return a text from the model's distribution under the constraints, by sequential Monte Carlo.

        Raises:
            ConfigError: If there are too many particles, or all of them reach a dead end.
        """
        num_particles = self._check_num_competing("num_particles", num_particles)
        from chargen.sampling.search import sample_particles

        sequence, log_mass = sample_particles(self.prime(), self.new_sequence(), num_particles, self.rng(number))
        return Sample(sequence.pop_text(), sequence.ended, number, log_mass)

    def beam(self, width: int) -> Sample:
        """Return the most probable text that a beam of this width finds; `beam_texts` lists the errors."""
        return self.beam_texts(width, 1)[0]

    def beam_texts(self, width: int, count: int) -> list[Sample]:
        """Return the most probable distinct texts that a beam of this width finds, the most probable first.

        Args:
            width: Number of prefixes that the beam keeps.
            count: Number of texts, at most `width`; there are fewer if the beam finds fewer.

        Raises:
            ConfigError: If the beam is too wide, keeps fewer texts than `count`, or all its texts reach a dead end.
        """
        width, count = check_count("width", width), check_count("count", count)
        if count > width:
            raise ConfigError(
                f"a beam of width {width:,} keeps {width:,} texts, but {count:,} are asked for",
                f"Give --beam {count} or more, or lower -n.",
            )
        self._check_num_competing("width", width)
        from chargen.sampling.search import beam_search

        sequences = beam_search(self.prime(), self.new_sequence(), width, count)
        return [Sample(each.pop_text(), each.ended, rank, 0.0) for rank, each in enumerate(sequences)]

    def infill(self, suffix: str, number: int, num_particles: int) -> Infill:
        """Return a text between the prompt and a suffix, by importance sampling.

        Raises:
            ConfigError: If there are too many particles, the suffix is empty or too long, or no text may precede it.
        """
        num_particles = self._check_num_competing("num_particles", num_particles)
        if not suffix:
            raise ConfigError("the suffix is empty", "Give the text after the gap; without one, use samples.")
        if len(suffix) > MAX_SUFFIX_CHARS:
            raise ConfigError(f"the suffix has {len(suffix):,} characters, but may have at most {MAX_SUFFIX_CHARS:,}")
        num_reads = len(suffix) * self.context.config.length * num_particles
        if num_reads > MAX_SUFFIX_READS:
            raise ConfigError(
                f"all candidates together would read {num_reads:,} characters of the suffix, but may read at most "
                f"{MAX_SUFFIX_READS:,}",
                "Lower --length or --particles, or give a shorter --suffix.",
            )
        from chargen.sampling.search import sample_infill

        particles = [self.new_sequence() for _ in range(num_particles)]
        return sample_infill(self.prime(), particles, suffix, self.rng(number))

    def check_memory(self, num_texts: int) -> None:
        """Check that several texts fit into memory together.

        Raises:
            ConfigError: If they have more than MAX_HELD_CHARS characters.
        """
        length = self.context.config.length
        if num_texts * max(1, length) > MAX_HELD_CHARS:
            raise ConfigError(
                f"{format_count(num_texts, 'text')} of {format_count(length, 'character')} would be in "
                "memory together, which is more than "
                f"{MAX_HELD_CHARS:,} characters",
                "Lower --length, or the number of texts that are chosen from.",
            )

    def _check_num_competing(self, name: str, num_texts: int) -> int:
        """Return the number of texts that compete, if they and their distributions fit into memory together.

        Args:
            name: Name of the parameter that has the number.
            num_texts: The number, at least 1.

        Raises:
            ConfigError: If they do not fit, or it is not such a number.
        """
        num_texts = check_count(name, num_texts)
        self.check_memory(num_texts)
        vocab_size = self.context.tokenizer.vocab_size
        if num_texts * vocab_size > MAX_LOGITS:
            raise ConfigError(
                f"{num_texts:,} texts compete, but with a vocabulary of {vocab_size:,} at most "
                f"{MAX_LOGITS // vocab_size:,} may",
                "Lower --particles or --beam.",
            )
        return num_texts

    def _only_length_ends_texts(self) -> bool:
        """Return whether only the length ends a text, and no processor changes the logits."""
        context, config = self.context, self.context.config
        is_continuous = context.document_separator is None and config.until == "length"
        return is_continuous and not (context.processors or config.stop or context.open_ids)

    def prime(self) -> PrimedPrompt:
        """Let the model read the prompt."""
        cache = self._prefix_cache
        if cache is None:
            return prime(self.engine, self.context, self.context.prompt_ids)
        return prime(self.engine, self.context, cache.ids[-1:], cache.state)

    def new_sequence(self) -> GeneratedSequence:
        """Return a text that is still empty."""
        return GeneratedSequence(self.context)

    def uniforms(self, number: int) -> Uniforms:
        """Return the random numbers of a text of the seed, by its number."""
        return Uniforms(self.context.config.seed, check_count("number", number, 0))

    def rng(self, number: int) -> np.random.Generator:
        """Return the generator of the same random numbers."""
        return np.random.default_rng([self.context.config.seed, check_count("number", number, 0)])

    def rngs(self, numbers: Sequence[int]) -> list[np.random.Generator]:
        """Return the random numbers of several texts of the seed: the generators that `rng` returns."""
        from chargen.engines.uniform_rows import make_rngs

        return make_rngs(self.context.config.seed, [check_count("number", number, 0) for number in numbers])

    def uniform_rows(self, numbers: Sequence[int]) -> UniformRows:
        """Return the same random numbers for all texts together."""
        from chargen.engines.uniform_rows import UniformRows

        return UniformRows(self.context.config.seed, [check_count("number", number, 0) for number in numbers])


def check_settings(config: SampleConfig, tokenizer: Tokenizer, document_separator: str | None) -> None:
    """Check that the settings do not contradict each other and that the model can write what they demand.

    Raises:
        ConfigError: If they do, or if it cannot.
    """
    if config.until == "boundary" and document_separator is None:
        raise ConfigError(
            "the model knows no end of a text: it was trained on one continuous text",
            "Use --until newline, or train the model with --documents.",
        )
    if config.allow_invalid_utf8 and tokenizer.is_char_level:
        raise ConfigError(
            "--allow-invalid-utf8 (allow_invalid_utf8) has no effect on a model of characters", "Leave it out."
        )
    if config.length > MAX_LENGTH:
        raise ConfigError(f"length is {config.length:,}, but must be at most {MAX_LENGTH:,}")
    if config.regex and (config.stop or config.until == "newline"):
        raise ConfigError("a regular expression determines where a text ends; leave out --stop and --until")
    if config.stop or config.ban:
        from chargen.sampling.processors import check_can_write, check_total_size

        check_total_size("stop", config.stop)
        check_total_size("ban", config.ban)
        check_can_write("the stop string", config.stop, tokenizer)


def _regex_processor(config: SampleConfig, tokenizer: Tokenizer) -> RegexProcessor:
    from chargen.sampling.processors import RegexProcessor
    from chargen.sampling.regex import compile_regex

    return RegexProcessor(compile_regex(config.regex, tokenizer), config.length)


def _string_processors(
    config: SampleConfig, tokenizer: Tokenizer, document_separator: str | None
) -> list[LogitsProcessor]:
    """Return the processors of --ban and --dry."""
    if not (config.ban or config.dry):
        return []
    from chargen.sampling.processors import BannedStrings, RepetitionPenalty

    processors: list[LogitsProcessor] = []
    if config.ban:
        separator = "" if config.until == "boundary" else document_separator or ""
        processors.append(BannedStrings(config.ban, tokenizer, separator))
    if config.dry:
        processors.append(RepetitionPenalty(config.dry, config.dry_base, config.dry_allowed, tokenizer.vocab_size))
    return processors


def _last_part(prompt: str) -> str:
    """Return the end of a long prompt, cut at a newline, whose last MAX_PROMPT_IDS token ids are the whole prompt's."""
    start = len(prompt) - MAX_PROMPT_IDS * MAX_ID_CHARS
    if start <= 0:
        return prompt
    return prompt[max(start, prompt.find("\n", start) + 1) :]
