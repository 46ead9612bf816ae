"""One handle on a trained model: `load(path)` → `LanguageModel`.

>>> import chargen
>>> model = chargen.load("checkpoints/shakespeare")             # doctest: +SKIP
>>> model.sample(prompt="ROMEO:", temperature=0.8, length=80)    # doctest: +SKIP
>>> model.score("To be, or not to be").bits_per_char             # doctest: +SKIP
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from chargen.config import SampleConfig
from chargen.engines.interface import Engine
from chargen.engines.numpy_engine import NumpyEngine
from chargen.graph.numba_backend import numba_installed
from chargen.runs import find_model
from chargen.sampling.generate import Generator, Sample
from chargen.sampling.prefix_cache import PrefixCache, read_prefix
from chargen.scoring.scorer import Score, unknown_names
from chargen.scoring.text_scorer import Scoring
from chargen.text.documents import NONE, separator

if TYPE_CHECKING:
    from chargen.probe.surprisal import CharSurprisal
    from chargen.sampling.copy_report import CopyReport
    from chargen.sampling.search import Infill
    from chargen.scoring.edits import Suggestion
    from chargen.scoring.whole_text import TextEvaluation

MAX_NUMPY_DRAWN = 1_000_000  #: ids of many texts, up to which nothing is faster than NumPy; of one, nothing ever is
LANES = 32  #: parts of a long text that torch reads side by side
MAX_NUMPY_IDS = 20_000  #: ids to read, up to which NumPy is done before torch is imported

Texts = list[str] | tuple[str, ...]


def load(model: str | Path | None = None) -> LanguageModel:
    """Open a model.

    Args:
        model: a file, a run's folder, a run's name under checkpoints/; None for the newest run.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    path = find_model(None if model is None else str(model))
    return LanguageModel(load_checkpoint(path), path=path)


class LanguageModel:
    """A trained model.

    Texts that it is given (prompts, contexts, texts to score) are first brought into the form of its training text:
    NFC and LF, unless it was trained with `--normalize none` or `--newline keep`.

    Args:
        checkpoint: its weights, config and vocabulary.
        device: where torch works, when it is called: "cpu", "cuda", "mps", or "auto".
        path: of its file, beside which its training state knows where the training text was.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", path: Path | None = None) -> None:
        self.checkpoint, self.path = checkpoint, path
        self.tokenizer, self.device = checkpoint.tokenizer, device
        self.note: Callable[[str], object] = lambda text: None  # is told what a person should know (a damaged cache)
        self._data = checkpoint.data

    def save(self, path: str | Path) -> None:
        """Write the model to one file.

        Raises:
            StorageError: it cannot be written.
        """
        save_checkpoint(Path(path), self.checkpoint)

    def sample(self, prompt: str = "", **settings: Any) -> str:
        """Return the prompt and what the model writes after it; see `stream`."""
        return prompt + "".join(self.stream(prompt, **settings))

    def stream(self, prompt: str = "", *, number: int = 0, **settings: Any) -> Iterator[str]:
        """Yield what the model writes after the prompt, piece by piece, as it is drawn.

        Args:
            prompt: the beginning, not repeated; the model reads it after what a text begins after.
            number: of the sample under its seed.
            settings: Fields of `SampleConfig`: temperature, length, seed (drawn if missing), top_k, stop, regex, ….
                `prefix_cache`: a prompt that was read already (see `read_prefix`); it replaces `prompt`. `corpus`:
                the training text's files, for `max_copy`; without it they are searched for.

        Raises:
            ConfigError: a setting is out of range.
        """
        return self.generator(prompt, **settings).stream(number)

    def samples(self, count: int, prompt: str = "", **settings: Any) -> list[Sample]:
        """Return several texts, written side by side; the first is what `stream` writes, up to rounding."""
        return list(self.generator(prompt, num_texts=count, **settings).samples(range(count)))

    def infill(self, count: int, prompt: str, suffix: str, *, particles: int = 64, **settings: Any) -> list[Infill]:
        """Return texts of at most `length` characters between a prompt and a suffix; see `sampling/search.py`."""
        generator, suffix = self.generator(prompt, num_texts=particles, **settings), self._scoring.normal(suffix)
        return [generator.infill(suffix, number, particles) for number in range(count)]

    def copy_report(self, text: str, corpus: Sequence[str] = ()) -> CopyReport:
        """Compare a text with the training text, which is looked for if `corpus` does not say where it is.

        Raises:
            CorpusError: it is not at hand.
        """
        from chargen.sampling.copy_report import make_copy_report
        from chargen.sampling.training_text_index import find_training_text

        learned = find_training_text(self.checkpoint, corpus, self.path)
        return make_copy_report(text, learned, self._data.documents)

    def generator(
        self,
        prompt: str = "",
        *,
        prefix_cache: PrefixCache | None = None,
        corpus: Sequence[str] = (),
        num_texts: int = 1,
        **settings: Any,
    ) -> Generator:
        """Make everything ready to write after a prompt, in any of the ways that `Generator` knows.

        Args:
            prompt, prefix_cache, corpus, settings: as `stream` has them.
            num_texts: that will be written at once, about: for many it is worth to wait for torch.

        Raises:
            ConfigError: a setting is out of range, or settings do not go together.
        """
        config = SampleConfig(**{"seed": secrets.randbits(31), **settings})
        few = num_texts == 1 or num_texts * config.length <= MAX_NUMPY_DRAWN
        by_numpy = (
            self.device in ("auto", "cpu") if few else numba_installed() and self._device() == "cpu"
        )  # compiled loops
        copies = None
        if config.max_copy:
            from chargen.sampling.copy_filter import CopyFilter, load_copy_index  # which reads corpora

            copies = CopyFilter(load_copy_index(self.checkpoint, config.max_copy, corpus, self.path, self.note))
        engine = self._numpy if by_numpy or prefix_cache else self._torch
        config, prompt = replace(config, regex=self._scoring.normal(config.regex)), self._scoring.normal(prompt)
        between = separator(self._data.documents) if self._has_documents else None
        return Generator(engine, self.tokenizer, self._scoring.start, prompt, config, between, copies, prefix_cache)

    def read_prefix(self, text: str, prefix_cache: PrefixCache | None = None) -> Iterator[PrefixCache]:
        """Yield readings of ever longer parts of a text, the last of the whole, to be gone on from by `stream`.

        Args:
            text: the beginning.
            prefix_cache: any reading by this model; what it shares with this text is not read again.
        """
        return read_prefix(self._numpy, self.tokenizer, self._scoring.start, self._scoring.normal(text), prefix_cache)

    @overload
    def score(self, texts: str, *, context: str | None = ..., end: bool | None = ..., pieces: bool = ...) -> Score: ...
    @overload
    def score(
        self, texts: Texts, *, context: str | None = ..., end: bool | None = ..., pieces: bool = ...
    ) -> list[Score]: ...
    def score(
        self, texts: str | Texts, *, context: str | None = None, end: bool | None = None, pieces: bool = False
    ) -> Score | list[Score]:
        """Score one text, or several in their order.

        Args:
            texts: what to score. Characters are counted in the training text's form, bytes in the given one.
            context: what they stand after, read but not scored; None for the beginning of a text.
            end: whether the end of each text is scored too, the boundary of a model of documents or a newline of one of
                running text; None: in a model of documents it is. Without it an empty text has log p = 0.
            pieces: keep each character's log p in `Score.pieces`; they add up to the text's.
        """
        many = [texts] if isinstance(texts, str) else list(texts)
        scores = list(self.score_stream(many, context=context, end=end, pieces=pieces))
        return scores[0] if isinstance(texts, str) else scores

    def score_stream(
        self, texts: Iterable[str], *, context: str | None = None, end: bool | None = None, pieces: bool = False
    ) -> Iterator[Score]:
        """Yield the scores of any number of texts in their order, of which some thousands are held at a time."""
        return self._scoring.score_stream(texts, context or "", self.scores_end if end is None else end, pieces)

    @property
    def scores_end(self) -> bool:
        """Whether the end of a text is scored where nothing else is said: it is in a model of documents."""
        return self._has_documents

    def surprisal(self, text: str, *, context: str | None = None) -> list[tuple[str, float]]:
        """Return the text's characters (pieces, of a sentencepiece model), each with its −log₂ p in bits."""
        return [(place.text, place.surprisal_bits) for place in self.places(text, context=context, most=0)]

    def places(
        self, text: str, *, context: str | None = None, most: int = 5, end: bool = False, score: Score | None = None
    ) -> Iterator[CharSurprisal]:
        """Yield a text's characters (and its end) with surprisal and guesses; `score`: its own with pieces."""
        from chargen.probe.surprisal import best_guesses, places

        score = score or self.score(text, context=context, end=end, pieces=True)
        read = (self._scoring.context(context or ""), self._scoring.normal(text), most, self._has_documents)
        guesses = best_guesses(self._numpy, self.tokenizer, *read) if most else None
        return places(score.pieces or (), score.end_log_prob_nats, score.unknown, guesses)

    def suggest(self, text: str, *, context: str | None = None, most: int = 5) -> list[Suggestion]:
        """Return the single edits that raise log p of a text and its end most, the best first."""
        return self._scoring.suggest(text, context or "", most)

    def unknown_characters(self, text: str) -> str:
        """Return the characters of a text that the model does not know, each once, in their order."""
        return unknown_names(self._scoring.normal(text), self.tokenizer)

    def evaluate(self, text: str) -> TextEvaluation:
        """Measure the likelihood of a whole text, by both protocols.

        Raises:
            CorpusError: the text is empty.
        """
        return self._scoring.evaluate(text, LANES)

    def by_line(self, lines: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (−log p of each line of a text, in nats; its unknown characters), read as `evaluate` reads it."""
        return self._scoring.by_line(lines, LANES)

    @cached_property
    def _scoring(self) -> Scoring:
        return Scoring(self._engine, self.tokenizer, self._data)

    @property
    def _has_documents(self) -> bool:
        return self._data.documents != NONE

    def _engine(self, num_ids: int) -> Engine:
        return self._numpy if num_ids <= MAX_NUMPY_IDS and self.device in ("auto", "cpu") else self._torch

    @cached_property
    def _numpy(self) -> NumpyEngine:
        return NumpyEngine(self.checkpoint.config, self.checkpoint.weights)

    @cached_property
    def _torch(self) -> Engine:
        from chargen.engines.torch_engine import TorchEngine  # seconds to import: only for what is worth it

        return TorchEngine.from_weights(self.checkpoint.config, self.checkpoint.weights, self._device())

    def _device(self) -> str:
        if self.device == "cpu":
            return "cpu"
        from chargen.networks.torch_runtime import resolve_device  # with torch: only it can tell whether there is a GPU

        return resolve_device(self.device)
