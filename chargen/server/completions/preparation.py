"""From a checked request to the texts that a worker writes: the settings of this model, the prompts as token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from chargen.engines.interface import Engine
from chargen.errors import ChargenError
from chargen.lm import Notify
from chargen.sampling.generate import Generator
from chargen.sampling.openai_processors import CountPenalties, LogitBias
from chargen.sampling.processors import LogitsProcessor
from chargen.sampling.sequence import GenerationContext
from chargen.sampling.settings import SampleConfig, draw_seed
from chargen.server.batch.worker import PromptStream, Ticket
from chargen.server.batch.written_text import WrittenChars, WrittenText
from chargen.server.completions.request import CompletionRequest
from chargen.server.errors import ApiError, from_chargen
from chargen.server.limits import (
    MAX_DRY_TOKENS,
    MAX_HELD_VALUES,
    MAX_LOG_PROBS,
    MAX_PARTICLE_STEPS,
    VALUES_PER_SCORED_TOKEN,
    VALUES_PER_TEXT,
)
from chargen.server.models import ServedModel
from chargen.server.tokens import Prompt
from chargen.text.documents import separator

MAX_TOKEN_CHARS = 64  # characters of a token: almost none has more
MAX_QUICK_CHARS = 4000  # characters of prompts and stop strings that are prepared in the event loop
COUNTS_PER_VALUE = 25  # counts of tokens, of 4 bytes, that take the memory of a single value
VALUES_PER_MB = 10_000  # values of about 100 bytes
DEFAULT_INFILL_PARTICLES = 64  # as `chargen sample --suffix`


@dataclass(frozen=True)
class PreparedCompletion:
    """A request with its prompts and settings for one model."""

    request: CompletionRequest
    model: ServedModel
    prompts: tuple[Prompt, ...]
    config: SampleConfig

    @property
    def num_scored_tokens(self) -> int:
        """Number of tokens with log probabilities in the response, if all texts have their maximum length."""
        request = self.request
        if request.logprobs is None:
            return 0
        return (self.num_prompt_tokens if request.echo else 0) + request.num_texts * request.max_tokens

    @property
    def num_log_probs(self) -> int:
        """Number of values in the log probabilities of these tokens."""
        return self.num_scored_tokens * ((self.request.logprobs or 0) + 1)

    @property
    def num_indexed_tokens(self) -> int:
        """Number of tokens in the indexes of prompts that `dry` makes for each text."""
        if not self.config.dry:
            return 0
        num_texts = num_particles(self.request) if self.request.has_competing_texts else self.request.best_of
        return num_texts * sum(len(prompt.read_ids) for prompt in self.prompts)

    @property
    def num_held_values(self) -> int:
        """What the request holds in memory until it is answered, in values of about 100 bytes."""
        request = self.request
        has_counts = bool(request.presence_penalty or request.frequency_penalty)
        num_counts = self.model.tokenizer.vocab_size // COUNTS_PER_VALUE if has_counts else 0
        num_for_log_probs = self.num_log_probs + VALUES_PER_SCORED_TOKEN * self.num_scored_tokens
        num_stop_chars = sum(map(len, self.config.stop))
        num_for_texts = (VALUES_PER_TEXT + num_counts) * request.num_texts
        return num_for_log_probs + self.num_indexed_tokens + num_stop_chars + num_for_texts

    @property
    def num_prompt_tokens(self) -> int:
        """Number of tokens of all prompts, as the client counts them."""
        return sum(len(prompt.ids) for prompt in self.prompts)

    def text_numbers(self, index: int) -> range:
        """Return the numbers of the texts of a prompt, which select their random numbers under the seed.

        With a seed of the client, every prompt gets the texts of `sample` with this seed. Without one, all texts of the
        request have different random numbers, so that equal prompts do not give equal texts.

        Args:
            index: The number of the prompt.
        """
        num_texts = self.request.best_of
        first = index * num_texts if self.request.seed is None else 0
        return range(first, first + num_texts)


def is_quick(request: CompletionRequest) -> bool:
    """Return whether a request is prepared within a few milliseconds."""
    num_chars = sum(map(len, request.prompts)) + sum(map(len, request.stop))
    return not is_slow(request) and num_chars <= MAX_QUICK_CHARS and request.num_texts <= 16


def is_slow(request: CompletionRequest) -> bool:
    """Return whether the preparation of a request may take seconds."""
    return bool(request.settings.get("regex") or request.settings.get("max_copy"))


def prepare(request: CompletionRequest, model: ServedModel) -> PreparedCompletion:
    """Convert the prompts and the settings of a request.

    Raises:
        ApiError: If this model cannot satisfy the request.
    """
    if request.settings.get("regex") and find_spec("outlines_core") is None:
        raise ApiError(
            422, "regex needs a package that the server does not have: pip install 'chargen[regex]'", "regex"
        )
    tokenizer = model.tokenizer
    prompts = tuple(
        tokenizer.prompt_of_text(prompt) if isinstance(prompt, str) else tokenizer.prompt_of_ids(prompt)
        for prompt in request.prompts
    )
    for name in ("regex", "max_copy"):  # these work with characters, not with bytes
        if request.settings.get(name) and any(prompt.is_open for prompt in prompts):
            raise ApiError(
                400, f"{name} needs a prompt of whole characters; add the ids that complete the last one", "prompt"
            )
    vocab_size = tokenizer.vocab_size
    if request.logprobs is not None and request.logprobs > vocab_size:
        raise ApiError(400, f"logprobs is {request.logprobs:,}, but the model has {vocab_size:,} token ids", "logprobs")
    for token_id in request.logit_bias:
        if token_id >= vocab_size:
            raise ApiError(400, f"logit_bias has the token id {token_id}; ids are below {vocab_size}", "logit_bias")
    prepared = PreparedCompletion(request, model, prompts, make_config(request, model))
    _check_size(prepared)
    return prepared


def _check_size(prepared: PreparedCompletion) -> None:
    """Check that a request takes no more memory than it ever gets.

    Raises:
        ApiError: If it takes more.
    """
    if prepared.num_log_probs > MAX_LOG_PROBS:
        raise ApiError(
            400,
            f"logprobs would be {prepared.num_log_probs:,} numbers, but at most {MAX_LOG_PROBS:,} are allowed",
            "logprobs",
        )
    if prepared.num_indexed_tokens > MAX_DRY_TOKENS:
        raise ApiError(
            400,
            f"dry would search {prepared.num_indexed_tokens:,} tokens of prompts for all texts, but at most "
            f"{MAX_DRY_TOKENS:,} are allowed; ask for fewer texts, or shorten the prompts",
            "dry",
        )
    num_values = prepared.num_held_values
    if not prepared.request.has_competing_texts and num_values > MAX_HELD_VALUES:  # competing texts are not held
        raise ApiError(
            400,
            f"the request would take about {num_values // VALUES_PER_MB:,} MB of memory, but all requests together may "
            f"take {MAX_HELD_VALUES // VALUES_PER_MB:,} MB; ask for fewer texts, or for fewer tokens with logprobs",
            "n",
        )


def make_config(request: CompletionRequest, model: ServedModel) -> SampleConfig:
    """Return the settings of sampling for a request.

    Stop strings with a character that the model does not know are left out: no text of the model contains them.

    Raises:
        ApiError: If the settings contradict each other.
    """
    checkpoint = model.checkpoint
    has_regex, is_char_level = bool(request.settings.get("regex")), checkpoint.tokenizer.is_char_level
    counts_chars = is_char_level or has_regex or request.has_competing_texts
    known = tuple(string for string in request.stop if not model.lm.unknown_characters(string))
    values = {
        **request.settings,
        "length": request.max_tokens * (1 if counts_chars else MAX_TOKEN_CHARS),
        "seed": draw_seed() if request.seed is None else request.seed,
        "stop": known,
        "until": "length" if has_regex or request.suffix else checkpoint.default_until,
    }
    try:
        return SampleConfig.from_json(values).normalized(checkpoint.normalize, checkpoint.reorder)
    except ChargenError as error:
        raise from_chargen(error, 400) from error


def make_generator(prepared: PreparedCompletion, engine: Engine, notify: Notify | None = None) -> Generator:
    """Return a generator without a prompt, which `with_prompt` adds; it checks the settings and builds what they need.

    Args:
        prepared: The request.
        engine: The engine that the generator uses.
        notify: Function that gets messages for a person; None drops them.

    Raises:
        ApiError: If this model cannot satisfy the settings.
    """
    checkpoint, config = prepared.model.checkpoint, prepared.config
    try:
        generator = Generator(
            engine,
            checkpoint.tokenizer,
            checkpoint.start_ids,
            "",
            config,
            separator(checkpoint.data.documents) if checkpoint.has_documents else None,
            prepared.model.copy_filter(config.max_copy, notify) if config.max_copy else None,
        )
    except ChargenError as error:
        raise from_chargen(error) from error
    more = _openai_processors(prepared.request, prepared.model.tokenizer.vocab_size)
    if more:
        generator.context = replace(generator.context, processors=[*generator.context.processors, *more])
    return generator


def with_prompt(context: GenerationContext, text: str, ids: Sequence[int]) -> GenerationContext:
    """Return a context with a prompt: its text, and the token ids that the model reads.

    The contexts of all prompts share the automaton that finds the stop strings.
    """
    changed = replace(context, prompt=text, prompt_ids=np.array(ids, dtype=np.int32))
    vars(changed)["stop_matcher"] = context.stop_matcher  # a cached property, whose value `replace` does not copy
    return changed


def _openai_processors(request: CompletionRequest, vocab_size: int) -> list[LogitsProcessor]:
    """Return the processors of the settings that only the protocol has."""
    processors: list[LogitsProcessor] = []
    if request.logit_bias:
        processors.append(LogitBias(request.logit_bias, vocab_size))
    if request.presence_penalty or request.frequency_penalty:
        processors.append(CountPenalties(request.presence_penalty, request.frequency_penalty, vocab_size))
    return processors


def make_ticket(
    prepared: PreparedCompletion, wake: Callable[[], object], notify: Notify | None = None
) -> tuple[Ticket, list[list[WrittenText]]]:
    """Return the ticket of a request, and the texts of each prompt.

    Args:
        prepared: The request.
        wake: Function that the worker calls when there is something new.
        notify: Function that gets messages for a person; None drops them.

    Raises:
        ApiError: If this model cannot satisfy the settings.
    """
    request = prepared.request
    context = make_generator(prepared, prepared.model.engine, notify).context
    streams = [_prompt_stream(prepared, context, index) for index in range(len(prepared.prompts))]
    ticket = Ticket(streams, wake, is_streamed=request.stream)
    return ticket, [stream.texts for stream in streams]


def _prompt_stream(prepared: PreparedCompletion, context: GenerationContext, index: int) -> PromptStream:
    """Return the stream of a prompt with the texts that continue it."""
    request, config, prompt = prepared.request, prepared.config, prepared.prompts[index]
    context = with_prompt(context, prompt.text, prompt.read_ids)
    max_tokens = None if config.regex or prepared.model.checkpoint.tokenizer.is_char_level else request.max_tokens
    is_ranked = request.best_of > request.n
    has_log_probs = is_ranked or request.logprobs is not None
    numbers = prepared.text_numbers(index) if request.max_tokens else range(0)
    texts: list[WrittenText] = [
        WrittenChars(context, config.seed, number)
        if WrittenChars.can_be(context, has_log_probs)
        else WrittenText(context, config.seed, number, max_tokens, request.logprobs, is_ranked)
        for number in numbers
    ]
    echoes = request.echo and request.logprobs is not None
    echo_from = len(prompt.read_ids) - len(prompt.ids) + 1 if echoes else len(prompt.read_ids)
    return PromptStream(prompt.read_ids, texts, echo_from, request.logprobs or 0)


def num_particles(request: CompletionRequest) -> int:
    """Return the number of texts that compete for each completion.

    Raises:
        ApiError: If they would take too long.
    """
    number = request.particles or DEFAULT_INFILL_PARTICLES
    num_steps = number * request.max_tokens * request.num_texts
    if num_steps > MAX_PARTICLE_STEPS:
        raise ApiError(
            400,
            f"{number:,} particles for {request.num_texts:,} texts of {request.max_tokens:,} tokens are "
            f"{num_steps:,} steps, but at most {MAX_PARTICLE_STEPS:,} are allowed",
            "particles" if request.particles else "suffix",
        )
    return number
