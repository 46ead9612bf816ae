r"""The tokens of a served model as clients see them: ids, names, and the special tokens.

    id 0                     <|end|>        the end of a document
    ids 1 … V − 1            the vocabulary; 1 is <|unknown|> where the tokenizer has an unknown character
    id V                     <|begin|>      the start of a text; no model has this id, it is read as `start_ids`

A client gets log probabilities by the names of tokens, so no two tokens may have the same name. A token that is not
valid UTF-8 alone is named by its bytes, `bytes:\xe1\xbb`, as in OpenAI's protocol; and so is a byte that decodes like
another token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chargen.checkpoint import Checkpoint
from chargen.errors import ChargenError
from chargen.schema import format_value
from chargen.server.errors import ApiError, from_chargen
from chargen.server.limits import MAX_PROMPT_TOKENS
from chargen.text.documents import separator
from chargen.tokenizers.tokenizer import BOUNDARY_ID, StreamingDecoder

BEGIN, END, UNKNOWN = "<|begin|>", "<|end|>", "<|unknown|>"


@dataclass(frozen=True)
class Prompt:
    """A prompt as the client gave it, and as the model reads it."""

    text: str  #: in the form of the training text; without special tokens, and without a character that is incomplete
    ids: tuple[int, ...]  #: the tokens that the client sees; <|begin|> may be the first
    read_ids: tuple[int, ...]  #: what the model reads: the start ids, and then the text
    is_open: bool = False  #: whether the last ids are the first bytes of a character, which the text completes

    @property
    def num_unseen(self) -> int:
        """Number of ids that are read before the first token that the client sees, or <|begin|>, is complete."""
        return len(self.read_ids) - len(self.ids)

    @property
    def last_document_ids(self) -> tuple[int, ...]:
        """The last of `read_ids`, from the last boundary on; the state of the model does not depend on earlier ids."""
        starts = (position for position, token_id in enumerate(self.read_ids) if token_id == BOUNDARY_ID)
        return self.read_ids[max(starts, default=0) :]


class ServedTokenizer:
    """Converts texts and token ids between a client and a model."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = checkpoint.tokenizer
        self.vocab_size = self._tokenizer.vocab_size
        self.begin_id = self.vocab_size
        self._separator = separator(checkpoint.data.documents) if checkpoint.has_documents else ""
        self._start_ids = tuple(checkpoint.start_ids.tolist())
        self._masked = frozenset(self._tokenizer.masked_ids(checkpoint.has_documents))

    @cached_property
    def names(self) -> list[str]:
        """The name of each token id, all different, [V + 1]."""
        ids_by_text: dict[str, list[int]] = {}
        for token_id in range(self.vocab_size):
            ids_by_text.setdefault(self._text_of(token_id), []).append(token_id)
        names = [""] * self.vocab_size + [BEGIN]
        taken = {BEGIN, END, UNKNOWN}
        names[BOUNDARY_ID] = END
        if self._tokenizer.unknown_id is not None:
            names[self._tokenizer.unknown_id] = UNKNOWN
        for text, ids in ids_by_text.items():
            plain = self._usual_id(text, ids)
            for token_id in ids:
                if names[token_id]:
                    continue
                name = text if token_id == plain else self._bytes_name(token_id)
                names[token_id] = name if name not in taken else f"token:{token_id}"
                taken.add(names[token_id])
        return names

    def _text_of(self, token_id: int) -> str:
        """Return the text of a token id; "" if it has none, or is not valid UTF-8 alone."""
        try:
            return self._tokenizer.token_bytes(token_id).decode("utf-8")
        except UnicodeDecodeError:
            return ""

    def _usual_id(self, text: str, ids: Sequence[int]) -> int:
        """Return the id of a text that the tokenizer itself uses for it; −1 for the empty text."""
        if len(ids) == 1 or not text:
            return ids[0] if text else -1
        encoded = self._tokenizer.encode(text).tolist()
        return encoded[0] if len(encoded) == 1 and encoded[0] in ids else ids[-1]

    def _bytes_name(self, token_id: int) -> str:
        data = self._tokenizer.token_bytes(token_id)
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data) if data else f"token:{token_id}"

    def encode(self, text: str) -> tuple[str, list[int]]:
        """Return a text in the form of the training text and without special tokens, and its ids.

        <|begin|> is recognised at the start of the text, and <|end|> where it is the whole text.

        Raises:
            ApiError: If the text cannot be encoded.
        """
        if text == END:
            return "", [BOUNDARY_ID]
        has_begin = text.startswith(BEGIN)
        try:
            normalized = self._checkpoint.normalize(text[len(BEGIN) :] if has_begin else text, "prompt")
            ids = self._tokenizer.encode(normalized).tolist()
        except ChargenError as error:
            raise from_chargen(error, 400, "prompt") from error
        return normalized, [self.begin_id, *ids] if has_begin else ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids; that of the special tokens is their name.

        Raises:
            ApiError: If an id is out of range.
        """
        self.check_ids(ids, "tokens")
        text, part = "", list[int]()
        for token_id in [*ids, self.begin_id]:
            if token_id in (BOUNDARY_ID, self.begin_id):
                text += self._tokenizer.decode(part) + self.names[token_id]
                part = []
            else:
                part.append(token_id)
        return text[: -len(BEGIN)]

    def check_ids(self, ids: Sequence[int], name: str) -> None:
        """Check that token ids exist.

        Raises:
            ApiError: If one does not; the message has the name of the field.
        """
        if len(ids) and not 0 <= min(ids) <= max(ids) <= self.begin_id:
            wrong = next(token_id for token_id in ids if not 0 <= token_id <= self.begin_id)
            raise ApiError(
                400, f"{name} has the token id {format_value(wrong)}, but ids are from 0 to {self.begin_id}", name
            )

    def prompt_of_text(self, text: str) -> Prompt:
        """Return the prompt of a text; the empty text is the start of a text, <|begin|>.

        Raises:
            ApiError: If it cannot be encoded, or is too long.
        """
        normalized, ids = self.encode(text)
        if ids == [BOUNDARY_ID]:
            return self.prompt_of_ids(ids)
        return self._make_prompt(normalized, ids or [self.begin_id])

    def prompt_of_ids(self, ids: Sequence[int]) -> Prompt:
        """Return the prompt of token ids; none at all are the start of a text, <|begin|>.

        Raises:
            ApiError: If an id is out of range, or cannot occur in a text, or there are too many.
        """
        self.check_ids(ids, "prompt")
        for position, token_id in enumerate(ids):
            if token_id == self.begin_id and position:
                raise ApiError(400, f"{BEGIN} can only be the first token of a prompt, not token {position}", "prompt")
            if token_id in self._masked:
                raise ApiError(
                    400, f"the token id {token_id} ({self.names[token_id]}) occurs in no text of this model", "prompt"
                )
        decoder, text = StreamingDecoder(self._tokenizer), ""
        for token_id in ids:
            text += self._piece(decoder, token_id)
        rest = decoder.finish()
        is_open = len(rest) == 1  # one U+FFFD; more of them stand for bytes that begin no character (the decoder waits)
        return self._make_prompt(text if is_open else text + rest, ids or [self.begin_id], is_open)

    def _make_prompt(self, text: str, ids: Sequence[int], is_open: bool = False) -> Prompt:
        if len(ids) > MAX_PROMPT_TOKENS:
            raise ApiError(
                400,
                f"the prompt has {len(ids):,} tokens, but may have at most {MAX_PROMPT_TOKENS:,}",
                "prompt",
                "context_length_exceeded",
            )
        has_begin = ids[0] == self.begin_id
        return Prompt(text, tuple(ids), (*self._start_ids, *ids[has_begin:]), is_open)

    def _piece(self, decoder: StreamingDecoder, token_id: int) -> str:
        """Return the text that a token id completes."""
        if token_id == self.begin_id:
            return ""
        if token_id == BOUNDARY_ID:
            return decoder.finish() + self._separator
        return decoder.feed(token_id)

    def offsets(self, prompt: Prompt) -> list[int]:
        """Return where each token of a prompt starts in its text, in characters."""
        decoder, position, offsets = StreamingDecoder(self._tokenizer), 0, []
        for token_id in prompt.ids:
            offsets.append(position)
            position += len(self._piece(decoder, token_id))
        return offsets

    def unknown_nats(self) -> float:
        """Return log p(character | unknown id) in nats, which `score` adds for each unknown character."""
        if self._tokenizer.unknown_id is None:
            return 0.0
        return float(self._tokenizer.unk_log_prob_nats(np.array([self._tokenizer.unknown_id], dtype=np.int32))[0])
