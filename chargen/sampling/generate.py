"""What to write: a model, a beginning and settings, made ready once for as many texts as are wanted.

stream      one text, piece by piece                 samples   several, side by side
particles   one from the model's own distribution under a constraint (`particles.py`)
beam        the likeliest (`beam.py`)                join      a text up to a given end (`infill.py`)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np

from chargen.config import SampleConfig
from chargen.engines.interface import Engine, EngineState, Stream
from chargen.errors import ConfigError
from chargen.sampling.decoding import draw_ids, prime, write, write_characters, write_many, write_plainly
from chargen.sampling.logits_rules import Logits
from chargen.sampling.prefix_cache import PrefixCache
from chargen.sampling.processors import BannedStrings, LogitsProcessor, RegexProcessor, check_size, check_spelled
from chargen.sampling.sequence import GeneratedSequence, GenerationContext
from chargen.tokenizers.tokenizer import Ids, Tokenizer

if TYPE_CHECKING:
    from chargen.sampling.search import Infill

MIN_SIDE_BY_SIDE = 4  #: texts; fewer are written one after another, sooner seen and no slower
MAX_READ = 20_000  #: ids of a long beginning, its last: what stands further back is forgotten
MAX_ID_CHARS = 64  #: characters that an id stands for, as good as always: so much of a long beginning is encoded
MAX_LENGTH = 1_000_000_000  #: characters of a text, which is written piece by piece
MAX_HELD_CHARS = 100_000_000  #: characters of texts that have to be in memory together
MAX_CELLS = 1 << 23  #: texts × ids of the vocabulary, 8 bytes each, where texts compete
MAX_SUFFIX_CHARS = 10_000
MAX_SUFFIX_READ = 10**10  #: characters of the suffix that all candidates read together: some hours


def _last_part(prompt: str) -> str:
    """Return so much of a long beginning that its last MOST_READ ids are those of the whole; cut at a newline."""
    begin = len(prompt) - MAX_READ * MAX_ID_CHARS
    if begin <= 0:
        return prompt
    return prompt[max(begin, prompt.find("\n", begin) + 1) :]


@dataclass(frozen=True)
class Sample:
    """A text that was written, and how it came to its end."""

    text: str  #: without the prompt
    ended: str  #: see `sampling/writer.py`
    number: int  #: under its seed
    log_weight_nats: float  #: log of the share of the model's distribution that constraints have left, along this text


class Generator:
    """Texts by one model after one beginning.

    Args:
        engine: the model.
        tokenizer: its tokenizer.
        start: what a text begins after, at least one id.
        prompt: the beginning, in the form of the training text.
        config: settings.
        between: what stands between two documents; None for a model of one running stream.
        copies: the guide of `max_copy`, where that is asked for.
        reading: the beginning, if it was read already.

    Raises:
        ConfigError: settings do not go together, or ask for what the model cannot write.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        start: Ids,
        prompt: str,
        config: SampleConfig,
        between: str | None = None,
        copies: LogitsProcessor | None = None,
        reading: PrefixCache | None = None,
    ) -> None:
        if config.until == "boundary" and between is None:
            raise ConfigError(
                "the model knows no end of a text: it learned from one running stream",
                "Say --until newline, or train it with --documents.",
            )
        if config.length > MAX_LENGTH:
            raise ConfigError(f"length is {config.length:,}, but must be at most {MAX_LENGTH:,}")
        check_size("stop", config.stop)
        check_size("ban", config.ban)
        check_spelled("the stop string", config.stop, tokenizer)
        if config.regex and (config.stop or config.until == "newline"):
            raise ConfigError("a regular expression says itself where a text ends; leave out --stop and --until")
        guides: list[LogitsProcessor] = [copies] if copies else []
        match = None
        if config.regex:
            from chargen.sampling.regex import compile_regex

            match = RegexProcessor(compile_regex(config.regex, tokenizer), config.length)
            guides.append(match)
        if config.ban:
            guides.append(BannedStrings(config.ban, tokenizer, "" if config.until == "boundary" else between or ""))
        if config.dry:
            from chargen.sampling.processors import RepetitionPenalty

            guides.append(RepetitionPenalty(config.dry, config.dry_base, config.dry_allowed, tokenizer.vocab_size))
        self._engine = engine
        ids = (
            np.concatenate([start, tokenizer.encode(_last_part(prompt))])[-MAX_READ:]
            if reading is None
            else reading.ids
        )
        self.beginning = GenerationContext(tokenizer, config, guides, match, prompt, ids, between)
        self._reading = reading

    def stream(self, number: int = 0) -> Iterator[str]:
        """Yield one text piece by piece."""
        stream, logits = self._prime()
        if self._ends_at_its_length():
            plain = write_characters if self.beginning.tokenizer.is_char_level else write_plainly
            return plain(self.beginning, stream, logits, self._rng(number))
        return write(self._engine, self.beginning, stream, logits, self._writer(), self._rng(number))

    def samples(self, numbers: Sequence[int]) -> Iterator[Sample]:
        """Yield several texts; `numbers` are theirs under the seed.

        Raises:
            ConfigError: they are too long to be held in memory.
        """
        self.check_held(1)
        if len(numbers) < MIN_SIDE_BY_SIDE:
            for number in numbers:
                writer = self._writer()
                pieces = write(self._engine, self.beginning, *self._prime(), writer, self._rng(number))
                text = StringIO()  # four bytes a character; a list of pieces has sixty
                text.writelines(pieces)
                yield Sample(text.getvalue(), writer.ended, number, writer.log_weight)
            return
        stream, logits = self._prime()
        most = max(1, min(self._engine.max_streams, MAX_HELD_CHARS // max(1, self.beginning.config.length)))
        for first in range(0, len(numbers), most):
            few = numbers[first : first + most]
            yield from self._side_by_side(stream.state(), logits, few, len(numbers) * self.beginning.config.length)

    def _side_by_side(
        self, state: EngineState, logits: Logits, numbers: Sequence[int], num_ids: int
    ) -> Iterator[Sample]:
        rngs = [self._rng(number) for number in numbers]
        if self._ends_at_its_length() and self.beginning.tokenizer.is_char_level:
            ids = draw_ids(self._engine, self.beginning, logits, state, rngs, num_ids)
            for column, number in zip(ids.T, numbers, strict=True):
                yield Sample(self.beginning.tokenizer.decode(column), "length", number, 0.0)
            return
        writers, texts = [self._writer() for _ in numbers], [StringIO() for _ in numbers]
        for k, piece in write_many(self._engine, self.beginning, logits, state, writers, rngs):
            texts[k].write(piece)
        for text, writer, number in zip(texts, writers, numbers, strict=True):
            yield Sample(text.getvalue(), writer.ended, number, writer.log_weight)

    def particles(self, number: int, count: int) -> Sample:
        """Return a text from the model's distribution given that no constraint forbids it, by `count` particles.

        Raises:
            ConfigError: there are too many, or all come to a place where everything is forbidden.
        """
        self._check_competing(count)
        from chargen.sampling.search import sample_particles

        stream, logits = self._prime()
        text, ended, weight = sample_particles(
            self._engine, self.beginning, logits, stream.state(), self._writer(), count, self._rng(number)
        )
        return Sample(text, ended, number, weight)

    def beam(self, width: int) -> Sample:
        """Return the likeliest text that a beam of so many texts finds.

        Raises:
            ConfigError: there are too many, or all come to a place where everything is forbidden.
        """
        self._check_competing(width)
        from chargen.sampling.search import beam_search

        stream, logits = self._prime()
        text, ended = beam_search(self._engine, self.beginning, logits, stream.state(), self._writer(), width)
        return Sample(text, ended, 0, 0.0)

    def infill(self, suffix: str, number: int, count: int) -> Infill:
        """Return a text between the beginning and a suffix.

        Raises:
            ConfigError: there are too many candidates, the suffix is too long, or nothing may stand before it.
        """
        self._check_competing(count)
        if len(suffix) > MAX_SUFFIX_CHARS:
            raise ConfigError(f"the suffix has {len(suffix):,} characters, but may have at most {MAX_SUFFIX_CHARS:,}")
        read = len(suffix) * self.beginning.config.length * count
        if read > MAX_SUFFIX_READ:
            raise ConfigError(
                f"all candidates together would read {read:,} characters of the suffix, but may read at most "
                f"{MAX_SUFFIX_READ:,}",
                "Lower --length or --particles, or give a shorter --suffix.",
            )
        from chargen.sampling.search import join

        stream, logits = self._prime()
        writers = [self._writer() for _ in range(count)]
        return join(self._engine, self.beginning, logits, stream.state(), writers, suffix, self._rng(number))

    def _ends_at_its_length(self) -> bool:
        """Tell whether nothing but its length ends a text, and no guide looks at it on its way."""
        made, config = self.beginning, self.beginning.config
        running = made.between is None and config.until == "length"
        return running and not (made.guides or config.stop)

    def check_held(self, count: int) -> None:
        """Check that so many texts can be in memory together.

        Raises:
            ConfigError: they cannot.
        """
        chars = count * self.beginning.config.length
        if chars > MAX_HELD_CHARS:
            raise ConfigError(
                f"{count:,} texts of {self.beginning.config.length:,} characters would be in memory together, which is "
                f"more than {MAX_HELD_CHARS:,} characters",
                "Lower --length, or the number of texts that are chosen from.",
            )

    def _check_competing(self, count: int) -> None:
        """Check that so many texts can be in memory together, and a distribution for each.

        Raises:
            ConfigError: they cannot.
        """
        self.check_held(count)
        vocab_size = self.beginning.tokenizer.vocab_size
        if count * vocab_size > MAX_CELLS:
            raise ConfigError(
                f"{count:,} texts compete, but with a vocabulary of {vocab_size:,} at most {MAX_CELLS // vocab_size:,} "
                "may",
                "Lower --particles or --beam.",
            )

    def _prime(self) -> tuple[Stream, Logits]:
        if self._reading is None:
            return prime(self._engine, self.beginning.ids)
        return prime(self._engine, self._reading.ids[-1:], self._reading.state)

    def _writer(self) -> GeneratedSequence:
        return GeneratedSequence(self.beginning)

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.beginning.config.seed, number])
