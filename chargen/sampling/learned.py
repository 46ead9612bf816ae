"""The text that a model learned from, found again: a model's file knows its name and its hash, not the text.

In this order, and each only if it is the same text, character for character:

    the corpus that a person names ─▶ the one that the run's saved state names ─▶ one of the model's corpus's name
    ─▶ the ids that training left in the cache, decoded
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chargen.checkpoint import Checkpoint, load_described
from chargen.config import DataConfig
from chargen.errors import CorpusError
from chargen.runs import STATE_FILE
from chargen.text import encode
from chargen.text.corpus import read_corpus
from chargen.text.documents import MARK, NONE
from chargen.text.longtext import LongText, Span
from chargen.text.reading import is_remote
from chargen.text.sources import SOURCES
from chargen.text.store import open_store
from chargen.text.tokenizer import BOUNDARY_ID

UNREAD = "\ufdd1"  #: stands for a character that the model's vocabulary lacks; like MARK, no text holds it
BLOCK = 1 << 16  #: ids that are decoded at a time


@dataclass(frozen=True)
class Learned:
    """What a model's file says of its text."""

    name: str
    sha256: str  #: of the whole clean corpus
    num_chars: int  #: the first ones of it, that were learned from
    data: DataConfig

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Learned:
        """Read it off a model.

        Raises:
            CorpusError: the model does not say.
        """
        about = checkpoint.about
        try:
            data = DataConfig.from_json(about["data"])
            return cls(str(about["corpus"]), str(about["corpus_sha256"]), int(about["train_chars"]), data)
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                "the model's file does not say what text it learned from", "Train it again with this version."
            ) from error


def training_text(checkpoint: Checkpoint, corpus: Sequence[str] = (), model_path: Path | None = None) -> Span:
    """Return the part of its corpus that a model learned from; validation is not in it.

    Of a model that began from another (`--init-from`) it is the text of the last run alone.

    Args:
        checkpoint: the model.
        corpus: where the corpus is, as `chargen train` takes it; nothing to look for it.
        model_path: of the model's file; a run's saved state beside it knows where the corpus was.

    Raises:
        CorpusError: `corpus` is another text than the model learned from; or it is not given and is not at hand.
    """
    learned = Learned.of(checkpoint)
    if corpus:
        found = read_corpus(corpus, learned.data)
        if found.sha256 != learned.sha256:
            raise _changed(learned, corpus, found.sha256)
        return found.content.span(0, learned.num_chars)
    changed: CorpusError | None = None
    for arguments in _places(learned, model_path):
        try:
            found = read_corpus(arguments, learned.data)
        except CorpusError:
            continue  # no longer there
        if found.sha256 == learned.sha256:
            return found.content.span(0, learned.num_chars)
        changed = changed or _changed(learned, arguments, found.sha256)
    text = _from_cache(checkpoint, learned)
    if text is None:
        raise changed or CorpusError(
            f"the text that the model learned from is not at hand: {learned.name!r}, of which it learned "
            f"{learned.num_chars:,} characters (sha256 {learned.sha256[:12]}…)",
            "Give it as it was given to `chargen train`: --corpus FILE.",
        )
    return text


def _changed(learned: Learned, corpus: Sequence[str], sha256: str) -> CorpusError:
    return CorpusError(
        f"{', '.join(corpus)} is not the text that the model learned from: its sha256 is {sha256[:12]}…, "
        f"that of {learned.name!r} was {learned.sha256[:12]}…",
        "Give the text as it was then, all parts of it in their order: --corpus FILE.",
    )


def _places(learned: Learned, model_path: Path | None) -> Iterator[list[str]]:
    """Yield where the corpus may be: where it was, or a file of its name. Nothing is fetched from a network for it."""
    state = load_described(model_path.parent / STATE_FILE) if model_path else {}
    recorded = [str(argument) for argument in state.get("corpus_arguments") or ()]
    if recorded and all(_is_at_hand(argument) for argument in recorded):
        yield recorded
    for guess in (f"corpora/{learned.name}.txt", f"{learned.name}.txt", learned.name):
        if os.path.isfile(guess) or (guess in SOURCES and _is_at_hand(guess)):
            yield [guess]


def _is_at_hand(argument: str) -> bool:
    if argument == "-" or is_remote(argument):
        return False
    source = SOURCES.get(argument.partition(":")[0])
    return os.path.exists(argument) or (source is not None and source.offline)


def _from_cache(checkpoint: Checkpoint, learned: Learned) -> Span | None:
    """Decode the ids that training left on the disk; None where there are none, or not all of them."""
    tokenizer = checkpoint.tokenizer
    path = encode.CACHE / f"{encode.ids_key(tokenizer, learned.sha256, 0, learned.num_chars)[:32]}{encode.SUFFIX}"
    if not path.is_file():
        return None
    writes = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
    writes[BOUNDARY_ID] = MARK.encode()
    if tokenizer.unknown_id is not None:
        writes[tokenizer.unknown_id] = UNREAD.encode()
    text, utf8 = LongText(learned.data.documents != NONE), codecs.getincrementaldecoder("utf-8")()
    try:
        ids = open_store(path).ids
        for begin in range(0, len(ids), BLOCK):
            text.write(utf8.decode(b"".join([writes[i] for i in ids[begin : begin + BLOCK].tolist()])))
        text.write(utf8.decode(b"", final=True))
    except (CorpusError, IndexError, UnicodeDecodeError):
        return None  # a damaged file
    return text.span() if text.survey.num_chars == learned.num_chars else None
