"""Generate texts with a backward model: each text ends with the prompt, and is returned in reading order.

    model order    reversed prompt ─▶ generated, from the letter before the prompt to the first letter of the text
    reading order  generated text · prompt

The first letter of a text is generated last. So a text can be shown only when it is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from chargen.checkpoint import Checkpoint
from chargen.engines.interface import Engine
from chargen.errors import ConfigError
from chargen.sampling.generate import Generator, Sample
from chargen.text.documents import separator
from chargen.tokenizers.direction import check_prompt, text_before

if TYPE_CHECKING:
    from chargen.sampling.prefix_cache import PrefixCache
    from chargen.sampling.processors import LogitsProcessor
    from chargen.sampling.search import Infill
    from chargen.sampling.settings import SampleConfig


def make_generator(
    engine: Engine,
    checkpoint: Checkpoint,
    prompt: str,
    config: SampleConfig,
    copy_filter: LogitsProcessor | None = None,
    prefix_cache: PrefixCache | None = None,
) -> Generator | BackwardGenerator:
    """Return the generator of a model, which is a `BackwardGenerator` for a backward model.

    Args:
        engine: The engine that runs the model.
        checkpoint: The model.
        prompt: The prompt in reading order, normalized.
        config: The settings, with strings in any form.
        copy_filter: The processor of `max_copy`, if that is set.
        prefix_cache: The prompt, if the model has read it before; `prompt` is empty then.

    Raises:
        ConfigError: If settings contradict each other, another model made the prefix cache, or the prompt of a backward
            model is not made of whole letters.
        TypeError: If `prefix_cache` is not a `PrefixCache`.
    """
    if prefix_cache is not None:
        from chargen.sampling.prefix_cache import check_prefix_cache

        check_prefix_cache(prefix_cache, checkpoint, prompt=prompt)
    generator = Generator(
        engine,
        checkpoint.tokenizer,
        checkpoint.start_ids,
        checkpoint.reorder(prompt),
        config.normalized(checkpoint.normalize, checkpoint.reorder),
        checkpoint.reorder(separator(checkpoint.data.documents)) if checkpoint.has_documents else None,
        copy_filter,
        prefix_cache,
    )
    if not checkpoint.data.is_backward:
        return generator
    prompt = generator.context.prompt  # with a prefix cache, this is the text of the cache
    return BackwardGenerator(generator, checkpoint.reorder(prompt))


class BackwardGenerator:
    """Generates texts before a prompt: the methods of `Generator`, with texts in reading order.

    Args:
        generator: The generator of the model, with the reversed prompt.
        prompt: The prompt in reading order, normalized.

    Raises:
        ConfigError: If the prompt is not made of whole letters, or there is a regular expression.
    """

    def __init__(self, generator: Generator, prompt: str) -> None:
        check_prompt(prompt)
        if generator.context.regex is not None:
            raise ConfigError(
                "--regex (regex) cannot be combined with a backward model: a text is matched from its start, which "
                "such a model generates last",
                "Leave it out, or use a forward model.",
            )
        self._generator = generator
        self._prompt = prompt

    def stream(self, number: int = 0) -> Iterator[str]:
        """Yield one text when it is complete, as a single piece."""
        yield text_before(self._prompt, "".join(self._generator.stream(number)))

    def samples(self, numbers: Sequence[int]) -> Iterator[Sample]:
        """Yield several texts, as `Generator.samples` does, which also lists the errors."""
        yield from map(self._in_reading_order, self._generator.samples(numbers))

    def particles(self, number: int, num_particles: int) -> Sample:
        """Return a text by sequential Monte Carlo, as `Generator.particles` does, which also lists the errors."""
        return self._in_reading_order(self._generator.particles(number, num_particles))

    def beam(self, width: int) -> Sample:
        """Return the most probable text that a beam of this width finds; `Generator.beam_texts` lists the errors."""
        return self._in_reading_order(self._generator.beam(width))

    def beam_texts(self, width: int, count: int) -> list[Sample]:
        """Return the most probable texts, as `Generator.beam_texts` does, which also lists the errors."""
        return list(map(self._in_reading_order, self._generator.beam_texts(width, count)))

    def infill(self, suffix: str, number: int, num_particles: int) -> Infill:
        """Refuse to fill a gap.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "--suffix (infill) cannot be combined with a backward model: its texts end with the prompt",
            "Give the end of the text with --prompt, or use a forward model.",
        )

    def check_memory(self, num_texts: int) -> None:
        """Check that several texts fit into memory together, as `Generator.check_memory` does."""
        self._generator.check_memory(num_texts)

    def _in_reading_order(self, sample: Sample) -> Sample:
        return replace(sample, text=text_before(self._prompt, sample.text))
