"""What the model does for a draft, in small steps that can be left at any time: it reads the text, then writes on."""

from __future__ import annotations

from collections.abc import Iterator

from chargen.lm import LanguageModel
from chargen.sampling.reading import Reading
from chargen.ui.draft import Draft

ENDLESS = 1_000_000_000  #: characters: more than anyone waits for


class Work:
    """The model at work; what it has done for one draft serves the next as far as they agree."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._steps: Iterator[None] = iter(())
        self._steps_for: tuple[object, str] | None = None  #: a draft's cause and text
        self._stream: Iterator[str] = iter(())
        self._stream_for: object = None  #: a draft's cause
        self._written = ""
        self._read_text: str | None = None
        self.reading: Reading | None = None  #: the newest, of this draft's text or, for a moment, of the last one's

    def step(self, draft: Draft) -> None:
        """Do the next few hundred microseconds or milliseconds of work for a draft."""
        if self._steps_for != (draft.cause, draft.text):
            self._steps_for, self._steps = (draft.cause, draft.text), self._all_steps(draft)
        next(self._steps)

    def written(self, draft: Draft) -> str:
        """Return what was written after the draft's beginning so far."""
        return self._written if self._stream_for == draft.cause else ""

    def has_read(self, draft: Draft) -> bool:
        """Tell whether `reading` is of the draft's whole text."""
        return self._read_text == draft.text

    def _all_steps(self, draft: Draft) -> Iterator[None]:
        if draft.cause != self._stream_for:
            yield from self._read(draft.beginning)
            self._stream = self._lm.stream(
                after=self.reading, temperature=draft.temperature, seed=draft.seed, length=ENDLESS
            )
            self._stream_for, self._written = draft.cause, ""
        yield from self._read(draft.text)
        for piece in self._stream:
            self._written += piece
            yield

    def _read(self, text: str) -> Iterator[None]:
        if self._read_text == text:
            return
        self._read_text = None
        for reading in self._lm.read(text, self.reading):
            self.reading = reading
            yield
        self._read_text = text
