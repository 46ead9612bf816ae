"""One handle on a trained model: `load(path)` → `LanguageModel`.

    >>> import chargen
    >>> model = chargen.load("checkpoints/shakespeare")             # doctest: +SKIP
    >>> model.sample(prompt="ROMEO:", temperature=0.8, length=80)    # doctest: +SKIP
    >>> model.score("To be, or not to be").bits_per_char             # doctest: +SKIP

Little work is done by NumPy, without torch; what is worth a matrix product goes to torch.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from chargen.config import DataConfig, SampleConfig
from chargen.engine.engine import Engine
from chargen.engine.evaluate import carried_log_probs, document_log_probs, windows_log_probs
from chargen.engine.numpy_engine import NumpyEngine
from chargen.errors import CorpusError
from chargen.probe.surprisal import Place, places
from chargen.runs import find_model
from chargen.sampling.reading import Reading, read
from chargen.sampling.sampler import sample
from chargen.scoring.evaluation import TextEvaluation
from chargen.scoring.lines import line_ids
from chargen.scoring.scorer import LN2, Score, id_log_probs, score_texts, utf8_size
from chargen.scoring.suggest import Suggestion, suggest
from chargen.text.decode import normal_form
from chargen.text.documents import NONE, marked, separator
from chargen.text.tokenizer import Ids, StreamingDecoder, encoder, start_ids

MOST_NUMPY_IDS = 20_000  #: ids to read, up to which NumPy is done before torch is imported
LANES, WARMUP = 32, 512


def load(model: str | Path | None = None) -> LanguageModel:
    """Open a model.

    Args:
        model: a file, a run's folder, a run's name under checkpoints/; None for the newest run.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    return LanguageModel(load_checkpoint(find_model(None if model is None else str(model))))


class LanguageModel:
    """A trained model.

    Texts that it is given (prompts, contexts, texts to score) are first brought into the form of its training text:
    NFC and LF, unless it was trained with `--normalize none` or `--newline keep`.

    Args:
        checkpoint: its weights, config and vocabulary.
        device: where torch works, when it is called: "cpu", "cuda", "mps", or "auto".
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        self.checkpoint = checkpoint
        self.tokenizer = checkpoint.tokenizer
        self.device = device
        self._data = DataConfig.from_json(checkpoint.about["data"]) if "data" in checkpoint.about else DataConfig()

    def save(self, path: str | Path) -> None:
        """Write the model to one file.

        Raises:
            StorageError: it cannot be written.
        """
        save_checkpoint(Path(path), self.checkpoint)

    def sample(self, prompt: str = "", *, temperature: float = 1.0, length: int = 1000, seed: int | None = None) -> str:
        """Return the prompt and `length` characters after it; see `stream`."""
        return prompt + "".join(self.stream(prompt, temperature=temperature, length=length, seed=seed))

    def stream(
        self,
        prompt: str = "",
        *,
        temperature: float = 1.0,
        length: int = 1000,
        seed: int | None = None,
        number: int = 0,
        after: Reading | None = None,
    ) -> Iterator[str]:
        """Yield what the model writes after the prompt, piece by piece, as it is drawn.

        Args:
            prompt: the beginning, not repeated; the model reads it after what a text begins after.
            temperature: 0 takes the likeliest character, 1 draws from the model's own distribution.
            length: characters to write.
            seed: of the random numbers; None draws one.
            number: of the sample under its seed.
            after: a beginning that was read already (see `read`), in the prompt's place.

        Raises:
            ConfigError: a setting is out of range.
        """
        config = SampleConfig(temperature, length, secrets.randbits(31) if seed is None else seed)
        between = separator(self._data.documents) if self._has_documents else None
        context, state = (self._context(prompt), None) if after is None else (after.ids[-1:], after.state)
        return sample(self._numpy, self.tokenizer, context, config, number, between, state)

    def read(self, text: str, before: Reading | None = None) -> Iterator[Reading]:
        """Yield readings of ever longer parts of a text, the last of the whole, to be gone on from by `stream`.

        Args:
            text: the beginning.
            before: any reading by this model; what it shares with this text is not read again.
        """
        return read(self._numpy, self.tokenizer, self._start, self._normal(text), before)

    @overload
    def score(self, texts: str, *, context: str | None = None) -> Score: ...
    @overload
    def score(self, texts: list[str] | tuple[str, ...], *, context: str | None = None) -> list[Score]: ...
    def score(self, texts: str | list[str] | tuple[str, ...], *, context: str | None = None) -> Score | list[Score]:
        """Score one text, or several in their order.

        Args:
            texts: what to score. An empty text has log p = 0 and no value per character. Characters are counted in
                the training text's form, bytes in the given one.
            context: what they stand after, read but not scored; None for the beginning of a text.
        """
        many = [texts] if isinstance(texts, str) else list(texts)
        engine = self._engine(sum(len(text) for text in many))
        scores = score_texts(
            engine, self.tokenizer, self._context(context or ""), [self._normal(text) for text in many]
        )
        scores = [replace(score, text=text, bytes=utf8_size(text)) for score, text in zip(scores, many, strict=True)]
        return scores[0] if isinstance(texts, str) else scores

    def surprisal(self, text: str, *, context: str | None = None) -> list[tuple[str, float]]:
        """Return the text's characters (pieces, of a sentencepiece model), each with its −log₂ p in bits."""
        text = self._normal(text)
        ids = self.tokenizer.encode(text)
        log_probs = id_log_probs(self._engine(len(ids)), self.tokenizer, self._context(context or ""), [ids])[0]
        decoder, pieces, bits, place = StreamingDecoder(self.tokenizer), [], 0.0, 0
        for token_id, log_prob in zip(ids.tolist(), log_probs.tolist(), strict=True):
            bits -= log_prob / LN2
            written = decoder.feed(token_id)
            if written:  # an unknown character is shown as it stands in the text
                pieces.append((text[place : place + len(written)], bits))
                place, bits = place + len(written), 0.0
        return pieces

    def places(self, text: str, *, context: str | None = None, most: int = 5, end: bool = False) -> Iterator[Place]:
        """Yield a text's characters (and its end), each with its surprisal and the best guesses in its place."""
        before, after = self._context(context or ""), self._start if end else None
        return places(self._numpy, self.tokenizer, before, self._normal(text), most, self._has_documents, after)

    def suggest(self, text: str, *, context: str | None = None, most: int = 5) -> list[Suggestion]:
        """Return the single edits that raise log p of a text and its end most, the best first."""
        before, text = self._context(context or ""), self._normal(text)
        return suggest(self._numpy, self.tokenizer, before, self._start, text, self._normal, most)

    def unknown_characters(self, text: str) -> str:
        """Return the characters of a text that the model does not know, each once, in their order."""
        text = self._normal(text)
        unknown = [char for char in dict.fromkeys(text) if self.tokenizer.unknown(self.tokenizer.encode(char)).any()]
        return "".join(unknown)

    def evaluate(self, text: str) -> TextEvaluation:
        """Measure the likelihood of a whole text, by both protocols.

        Raises:
            CorpusError: the text is empty.
        """
        if not text:
            raise CorpusError("there is nothing to evaluate: the text is empty")
        original, text = text, self._normal(text)
        if self._has_documents:
            text = "".join(marked([text], self._data.documents))
        half = max(1, len(text) // 2)
        encode = encoder(self.tokenizer, self._data.documents)
        ids = encode(text)
        engine, start = self._engine(2 * len(ids)), self._start
        carried = self._carried(engine, ids)
        windows = windows_log_probs(engine, ids, start)
        spelling, unknown = self.tokenizer.spelling_nats(ids), int(self.tokenizer.unknown(ids).sum())
        carried, windows = carried + spelling, windows + spelling
        score = Score(text, float(carried.sum()), len(text), utf8_size(original), unknown)
        cut = len(encode(text[:half]))
        return TextEvaluation(
            chars=score.chars,
            bytes=score.bytes,
            unknown_chars=unknown,
            loss_nats_per_char=-score.log_prob_nats / score.chars,
            bits_per_char=score.bits_per_char or 0.0,
            bits_per_byte=score.bits_per_byte or 0.0,
            perplexity_per_char=score.perplexity_per_char or 1.0,
            first_half_nats_per_char=-float(carried[:cut].sum()) / half,
            second_half_nats_per_char=-float(carried[cut:].sum()) / max(1, len(text) - half),
            windows_256_nats_per_char=-float(windows.sum()) / len(text),
        )

    def by_line(self, lines: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (−log p of each line of a text, in nats; its unknown characters), read as `evaluate` reads it."""
        ids, numbers = line_ids(self.tokenizer, self._data.documents, [self._normal(line) for line in lines])
        nats = -self._carried(self._engine(len(ids)), ids) - self.tokenizer.spelling_nats(ids)
        both = (nats, self.tokenizer.unknown(ids))
        costs, unknown = (np.bincount(numbers, values, len(lines)).astype(np.float64) for values in both)
        return costs, unknown

    def _carried(self, engine: Engine, ids: Ids) -> NDArray[np.float64]:
        if self._has_documents:
            return document_log_probs(engine, ids)
        return carried_log_probs(engine, ids, self._start, 1 if isinstance(engine, NumpyEngine) else LANES, WARMUP)

    def _context(self, text: str) -> Ids:
        """What is read before anything is drawn or scored: what a text begins after, and then `text`."""
        return np.concatenate([self._start, self.tokenizer.encode(self._normal(text))])

    @property
    def _has_documents(self) -> bool:
        return self._data.documents != NONE

    @property
    def _start(self) -> Ids:
        """What a text begins after."""
        return start_ids(self.tokenizer, self._data.documents)

    def _normal(self, text: str) -> str:
        """Bring a text into the form that the training text had: composed characters, one kind of newline."""
        return normal_form(text, self._data)

    def _engine(self, num_ids: int) -> Engine:
        return self._numpy if num_ids <= MOST_NUMPY_IDS and self.device in ("auto", "cpu") else self._torch

    @cached_property
    def _numpy(self) -> NumpyEngine:
        return NumpyEngine(self.checkpoint.config, self.checkpoint.weights)

    @cached_property
    def _torch(self) -> Engine:
        from chargen.engine.torch_engine import TorchEngine  # seconds to import: only for what is worth it
        from chargen.nets.device import resolve_device

        return TorchEngine.from_weights(self.checkpoint.config, self.checkpoint.weights, resolve_device(self.device))
