"""A trained model: generate text with it, and score text. `api.load` opens one.

>>> model = chargen.load("checkpoints/shakespeare")             # doctest: +SKIP
>>> model.sample(prompt="ROMEO:", temperature=0.8, length=80)    # doctest: +SKIP
>>> model.score("To be, or not to be").bits_per_char             # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint, save_checkpoint
from chargen.config import check_count
from chargen.engines.interface import Engine, check_device, torch_device
from chargen.engines.numpy_engine import NumpyEngine
from chargen.graph import numba_installed
from chargen.sampling.settings import SampleConfig, draw_seed, fill_missing, takes_sample_settings
from chargen.schema import check_strings, iterate_strings
from chargen.tokenizers.tokenizer import unknown_characters

if TYPE_CHECKING:  # sampling needs no scoring, and scoring no sampling: each method imports what it needs
    from typing_extensions import Unpack  # a part of every type checker; Python has it from version 3.11 on

    from chargen.probe.surprisal import CharSurprisal, Guess
    from chargen.sampling.backward import BackwardGenerator
    from chargen.sampling.copy_report import CopyReport
    from chargen.sampling.generate import Generator, Sample
    from chargen.sampling.prefix_cache import PrefixCache
    from chargen.sampling.search import Infill
    from chargen.sampling.settings import GeneratorSettings, SampleSettings
    from chargen.scoring.edits import Suggestion
    from chargen.scoring.scorer import Score
    from chargen.scoring.whole_text import TextEvaluation

MAX_NUMPY_TOKENS = 1_000_000  #: above this many tokens in total, generating several texts is faster in torch
MAX_NUMPY_IDS = 20_000  #: NumPy reads this many tokens before torch is imported

Texts = list[str] | tuple[str, ...]
Notify = Callable[[str], object]


class LanguageModel:
    """A trained model that generates and scores text.

    Prompts, contexts and texts to score are first brought into the form of the training text: NFC with LF newlines,
    unless the model was trained with `--normalize none` or `--newline keep`. Every method that takes a text raises
    TokenizerError if the text cannot be encoded.

    Args:
        checkpoint: Weights, config and vocabulary of the model.
        device, notify: As for `api.load`.
        path: Path of the model file. The training state next to it records where the training text is.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str = "auto", path: Path | None = None, notify: Notify | None = None
    ) -> None:
        self.checkpoint, self.tokenizer = checkpoint, checkpoint.tokenizer
        self.device, self.path = check_device(device), path
        self._notify = notify

    def __repr__(self) -> str:
        where = f", {self.path}" if self.path else ""
        return f"<LanguageModel {self.checkpoint.config}, {self.tokenizer.vocab_size:,} token ids{where}>"

    def _repr_html_(self) -> str:
        from chargen.probe.heat_map import model_html

        return model_html(self.checkpoint)

    def save(self, path: str | Path, weight_storage: str | None = None) -> None:
        """Write the model to the file `path`. An existing file is replaced.

        Args:
            weight_storage: "float32", "float16" or "int8"; None for that of the file that the model was read from.

        Raises:
            ConfigError, StorageError: If there is no such storage, or the file cannot be written.
        """
        save_checkpoint(Path(path), self.checkpoint, weight_storage)

    @takes_sample_settings
    def sample(self, prompt: str = "", *, number: int = 0, **settings: Unpack[GeneratorSettings]) -> str:
        """Return the prompt followed by generated text; of a backward model, generated text that ends with the prompt.

        Args:
            prompt: Text that the generated text continues.
            number, settings: As for `stream`, which also lists the errors.

        >>> model.sample("ROMEO:", temperature=0.8, length=80)  # doctest: +SKIP
        """
        return self.join(prompt, "".join(self.stream(prompt, number=number, **settings)))

    def join(self, prompt: str, generated: str) -> str:
        """Return a prompt and the text that was generated for it, in reading order."""
        return generated + prompt if self.checkpoint.data.is_backward else prompt + generated

    @takes_sample_settings
    def stream(self, prompt: str = "", *, number: int = 0, **settings: Unpack[GeneratorSettings]) -> Iterator[str]:
        """Yield the generated text piece by piece, as soon as each piece is drawn; the prompt is not repeated.

        Args:
            prompt: Text that the generated text continues; a backward model writes the text before it, as one piece.
            number: Number of the sample under its seed, from 0; each number gives another text.
            settings: The keyword arguments below; `prefix_cache`, in place of `prompt` (see `read_prefix`); `corpus`,
                files of the training text for `max_copy`, which are searched without it.

        Raises:
            ConfigError: If a setting is out of range, or settings contradict each other.

        >>> for piece in model.stream("ROMEO:", temperature=0.8):  # doctest: +SKIP
        ...     print(piece, end="", flush=True)
        """
        return self.generator(prompt, **settings).stream(number)

    @takes_sample_settings
    def samples(self, count: int, prompt: str = "", **settings: Unpack[GeneratorSettings]) -> list[Sample]:
        """Return several texts (and why each ended), generated as one batch, in the order of their numbers.

        The first one is the text that `stream` yields, up to rounding.

        Args:
            count: Number of texts.
            prompt: Text that every generated text continues.
            settings: The keyword arguments below, and those of `stream`.

        Raises:
            ConfigError: If a setting is out of range, or the texts are too long to be in memory together.

        >>> [sample.text for sample in model.samples(5, "ROMEO:", length=80)]  # doctest: +SKIP
        """
        count = check_count("count", count, 0)
        generator = self.generator(prompt, num_texts=count, **settings)
        generator.check_memory(count)
        return list(generator.samples(range(count)))

    @takes_sample_settings
    def infill(
        self, count: int, prompt: str, suffix: str, *, particles: int = 64, **settings: Unpack[GeneratorSettings]
    ) -> list[Infill]:
        """Return several texts that lead from a prompt to a suffix (infilling; `sampling/search.py`).

        Args:
            count: Number of texts.
            prompt: Text before the gap.
            suffix: Text after the gap.
            particles: Number of candidates that are generated for each text.
            settings: As for `stream`; `length` is the most characters between prompt and suffix.

        Raises:
            ConfigError: If a setting is out of range, or there are too many candidates for the memory.

        >>> model.infill(3, "To be, ", " is the question.", length=40)  # doctest: +SKIP
        """
        count, particles = check_count("count", count, 0), check_count("particles", particles)
        suffix = self.checkpoint.normalize(suffix, "suffix")
        settings["until"] = settings.get("until") or "length"
        generator = self.generator(prompt, num_texts=particles, **settings)
        generator.check_memory(count)
        return [generator.infill(suffix, number, particles) for number in range(count)]

    def copy_report(self, text: str, corpus: Sequence[str] = ()) -> CopyReport:
        """Report which parts of a text are copied from the training text.

        Args:
            text: Text to compare with the training text.
            corpus: Files of the training text; if empty, they are searched where the training state says.

        Raises:
            CorpusError: If the training text cannot be found.
        """
        text = self.checkpoint.normalize(text)
        from chargen.sampling.copy_report import make_copy_report
        from chargen.sampling.training_text_index import find_training_text

        learned = find_training_text(self.checkpoint, corpus, self.path)
        return make_copy_report(text, learned, self.checkpoint.data.documents)

    @takes_sample_settings
    def generator(
        self, prompt: str = "", *, prefix_cache: PrefixCache | None = None, corpus: Sequence[str] = (),
        num_texts: int = 1, **settings: Unpack[SampleSettings],
    ) -> Generator | BackwardGenerator:  # fmt: skip
        """Prepare a generator of texts after a prompt, which offers all decoding methods.

        Args:
            prompt, prefix_cache, corpus, settings: As for `stream`.
            num_texts: Approximate number of texts that are generated together.
        >>> model.generator("ROMEO:", length=80).beam(8).text  # doctest: +SKIP
        """
        from chargen.sampling.backward import make_generator

        num_texts, prompt = check_count("num_texts", num_texts, 0), self.checkpoint.normalize(prompt, "prompt")
        until = "length" if settings.get("regex") else self.checkpoint.default_until
        config = SampleConfig.from_json(fill_missing(settings, seed=draw_seed(), until=until))
        copies = None
        if config.max_copy:
            from chargen.sampling.copy_filter import CopyFilter, load_copy_index  # imports the corpus readers

            copies = CopyFilter(load_copy_index(self.checkpoint, config.max_copy, corpus, self.path, self._notify))
        use_numpy = self.device in ("auto", "cpu")
        if num_texts > 1 and num_texts * config.length > MAX_NUMPY_TOKENS:  # compiled loops are faster than torch
            use_numpy = numba_installed() and torch_device(self.device) == "cpu"
        engine = self._numpy if use_numpy or prefix_cache is not None else self._torch
        return make_generator(engine, self.checkpoint, prompt, config, copies, prefix_cache)

    def read_prefix(self, text: str, previous: PrefixCache | None = None) -> Iterator[PrefixCache]:
        """Read a text and yield caches of longer and longer prefixes; the last one holds the whole text.

        `stream(prefix_cache=cache)` continues from a cache without reading the prefix again.

        Args:
            text: Text to read.
            previous: Cache that this model made of a similar text; the prefix that both share is not read again.

        >>> *_, cache = model.read_prefix("ROMEO: But soft")  # doctest: +SKIP
        >>> cache.bits_per_char, "".join(model.stream(prefix_cache=cache, length=20))  # doctest: +SKIP
        """
        from chargen.sampling.prefix_cache import read_prefix

        return read_prefix(self._numpy, self.checkpoint, text, previous)

    @overload
    def score(self, texts: str, *, context: str | None = ..., end: bool | None = ..., pieces: bool = ...) -> Score: ...
    @overload
    def score(
        self, texts: Texts, *, context: str | None = ..., end: bool | None = ..., pieces: bool = ...
    ) -> list[Score]: ...
    def score(
        self, texts: str | Texts, *, context: str | None = None, end: bool | None = None, pieces: bool = False
    ) -> Score | list[Score]:
        """Score one text, or several texts in their order.

        Args:
            texts: One text, or a list or tuple of texts.
            context: Text before each of the texts (after them, for a backward model): it is read but not scored.
            end: Whether the end of each text is scored: the boundary in a model of documents, else a newline. None: it
                is in a model of documents. If it is not, an empty text has log p = 0.
            pieces: Whether `Score.pieces` keeps log p of each character; their sum is exactly log p of the text.

        Returns:
            One Score for a string, else a list of them. `Score.chars` counts the text in the training text's form,
            `Score.bytes` in the given form.

        Raises:
            ConfigError: If `end` is True, but the model knows no end of a text.

        >>> model.score("To be, or not to be").bits_per_char  # doctest: +SKIP
        """
        scores = list(self.score_stream(check_strings(texts, "texts"), context=context, end=end, pieces=pieces))
        return scores[0] if isinstance(texts, str) else scores

    def score_stream(
        self, texts: Iterable[str], *, context: str | None = None, end: bool | None = None, pieces: bool = False
    ) -> Iterator[Score]:
        """Yield the scores of any number of texts, in their order. Some thousands of texts are in memory at a time.

        Args:
            texts, context, end, pieces: As for `score`, which also lists the errors.
        """
        from chargen.scoring.scorer import split_chunks

        batches = split_chunks(iterate_strings(texts, "texts"))
        return self.score_batches(batches, context=context, end=end, pieces=pieces)

    def score_batches(
        self, batches: Iterable[Texts], *, context: str | None = None, end: bool | None = None, pieces: bool = False
    ) -> Iterator[Score]:
        """Yield the scores of batches of texts; the next batch is taken after all scores of the one before it.

        Args:
            batches: Lists of texts, for example the lines that can be read from a pipe without waiting.
            context, end, pieces: As for `score`, which also lists the errors.
        """
        from chargen.scoring.scorer import score_batches

        context_ids = self.checkpoint.encode_context(context)
        end_ids = self.checkpoint.scored_end_ids(self.scores_end if end is None else end)
        return score_batches(self.checkpoint, self._select_engine, batches, context_ids, end_ids, pieces)

    @property
    def scores_end(self) -> bool:
        """Whether `score` scores the end of a text if `end` is None: True in a model of documents."""
        return self.checkpoint.has_documents

    def surprisal(self, text: str, *, context: str | None = None) -> list[tuple[str, float]]:
        """Return the characters of a text (its pieces, if the tokenizer is sentencepiece), each with −log₂ p in bits.

        Args:
            text: Text to score.
            context: Text before it, which is read but not scored.

        >>> model.surprisal("To be")  # doctest: +SKIP
        """
        return [(c.text, c.surprisal_bits) for c in self.char_surprisals(text, context=context, num_guesses=0)]

    def char_surprisals(
        self, text: str, *, context: str | None = None, num_guesses: int = 5, end: bool = False,
        score: Score | None = None,
    ) -> Iterator[CharSurprisal]:  # fmt: skip
        """Yield the characters of a text, each with its surprisal and what the model expected instead.

        Args:
            text: Text to score.
            context: Text before it, which is read but not scored.
            num_guesses: Number of most likely characters to add at each position; 0 saves the time to find them.
            end: Whether the end of the text is scored and yielded last, as a character with an empty text.
            score: Score of this text with `pieces`, if it is known already; then `end` is ignored.

        Raises:
            ConfigError: If `end` is True, but the model knows no end of a text; or if `score` is of another text.

        >>> [(char.text, char.surprisal_bits) for char in model.char_surprisals("To be")]  # doctest: +SKIP
        """
        from chargen.probe.surprisal import char_surprisals, text_guesses
        from chargen.scoring.scorer import check_score

        num_guesses, normalized = check_count("num_guesses", num_guesses, 0), self.checkpoint.normalize(text)
        score = self.score(text, context=context, end=end, pieces=True) if score is None else score
        check_score(score, self.checkpoint, text)
        guesses = text_guesses(self._numpy, self.checkpoint, normalized, context, num_guesses) if num_guesses else None
        return char_surprisals(score.pieces or (), score.end_log_prob_nats, score.unknown, guesses)

    def suggest(self, text: str, *, context: str | None = None, num_suggestions: int = 5) -> list[Suggestion]:
        """Return the single edits that raise log p of a text most, which often are corrections of typing errors.

        Log p includes the end of the text, so that texts of different length can be compared.

        Args:
            text: Text to improve, of at most 1,000 characters.
            context: Text before it, which is read but not scored.
            num_suggestions: Maximum number of edits.

        Returns:
            The edits, the largest gain first; fewer if no other edit raises log p.

        Raises:
            ConfigError: If the text is too long.

        >>> model.suggest("To be, or ont to be")[0].text  # doctest: +SKIP
        """
        from chargen.scoring.edits import suggest

        return suggest(self._numpy, self.checkpoint, text, context, num_suggestions)

    def guesses_after(self, prefix_cache: PrefixCache, num_guesses: int = 5) -> tuple[Guess, ...]:
        """Return the likeliest characters after a text that `read_prefix` has read to its end, with probabilities."""
        from chargen.probe.surprisal import guesses_after

        return guesses_after(self._numpy, self.checkpoint, prefix_cache, num_guesses)

    def unknown_characters(self, text: str) -> str:
        """Return the characters of a text that the vocabulary lacks, each once, in the order of the text."""
        return unknown_characters(self.checkpoint.normalize(text), self.tokenizer)

    def evaluate(self, text: str) -> TextEvaluation:
        """Return the loss of a whole held-out text and of its halves, by the two protocols of `scoring/whole_text.py`.

        Raises:
            CorpusError: If the text is empty.

        >>> model.evaluate(open("held-out.txt").read()).bits_per_char  # doctest: +SKIP
        """
        from chargen.scoring.whole_text import evaluate_text

        return evaluate_text(self.checkpoint, self._select_engine, text)

    def evaluate_lines(self, lines: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (−log p in nats, unknown characters) of the lines, which are read as one text; both [len(lines)]."""
        from chargen.scoring.whole_text import evaluate_lines

        return evaluate_lines(self.checkpoint, self._select_engine, lines)

    def _select_engine(self, num_ids: int) -> Engine:
        """Return the faster engine for reading this many tokens, with the import of torch counted."""
        return self._numpy if num_ids <= MAX_NUMPY_IDS and self.device in ("auto", "cpu") else self._torch

    @cached_property
    def _numpy(self) -> NumpyEngine:
        return NumpyEngine(self.checkpoint.config, self.checkpoint.weights)

    @cached_property
    def _torch(self) -> Engine:
        from chargen.engines.torch_engine import TorchEngine  # takes seconds to import

        return TorchEngine.from_weights(self.checkpoint.config, self.checkpoint.weights, torch_device(self.device))

    def __getstate__(self) -> dict[str, object]:
        """Return what is copied or pickled: all but the engines, which are made again."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_numpy", "_torch")}
