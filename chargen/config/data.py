"""The settings of the data: how a text is read, encoded and held out. A model file has them too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from chargen.config.base import Config
from chargen.errors import ConfigError
from chargen.schema import Boolean, Nullable, Number, Spec, String

ERROR_MODES = ("strict", "replace", "skip")
NEWLINE_MODES = ("lf", "keep")
NORMALIZE_MODES = ("nfc", "none")
LAST, RANDOM = VAL_SPLITS = ("last", "random")
MULAW = "mulaw"  #: name of the tokenizer that reads files as series of numbers
FORWARD, BACKWARD = DIRECTIONS = ("forward", "backward")
INT8, FLOAT16, FLOAT32 = WEIGHT_STORAGES = ("int8", "float16", "float32")  #: how files store weights


@dataclass(frozen=True)
class DataConfig(Config):
    """How files are decoded to text, how text is encoded as token ids, and which part of it is held out."""

    tokenizer: str = "char"  #: "char", "byte", "sp:SIZE" or "sp:FILE.model" (sentencepiece); "mulaw:LEVELS" (a series)
    encoding: str = "utf-8"  #: text encoding of the input files
    errors: str = "strict"  #: what happens to invalid bytes: "strict", "replace" (by U+FFFD) or "skip" (their line)
    newline: str = "lf"  #: "lf" converts CR and CRLF to LF; "keep" keeps them
    normalize: str = "nfc"  #: Unicode normalization: "nfc" or "none"
    documents: str = "none"  #: how the text is split into documents: "none", "line", "blank", "file", or a separator
    text_field: str = ""  #: field of a record that contains its text; "": "text", and .json, .csv, .tsv are plain text
    json_lines: bool = False  #: whether the lines of every file are JSON records, with any name
    val_fraction: float = 0.1  #: fraction of the characters that is held out for validation
    #: which documents are held out: "random" or "last"; a continuous text has only "last". None: random if there are
    #: documents, else last
    val_split: str | None = None
    #: "forward", or "backward": the model reads each text reversed, see `tokenizers/direction.py`
    direction: str = FORWARD

    FIELDS: ClassVar[Mapping[str, Spec]] = {
        "tokenizer": String(),
        "encoding": String(100),
        "errors": String(choices=ERROR_MODES),
        "newline": String(choices=NEWLINE_MODES),
        "normalize": String(choices=NORMALIZE_MODES),
        "documents": String(),
        "text_field": String(),
        "json_lines": Boolean(),
        "val_fraction": Number(0.0, 0.5, exclusive_low=True),
        "val_split": Nullable(String(choices=VAL_SPLITS)),
        "direction": String(choices=DIRECTIONS),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.documents:
            raise ConfigError("documents is empty", "Use none, line, blank, file, or the separator between documents.")
        if self.val_split is None:
            object.__setattr__(self, "val_split", LAST if self.documents == "none" else RANDOM)
        elif self.val_split == RANDOM and self.documents == "none":
            raise ConfigError(
                "val_split is 'random', but a continuous text has no documents to choose from: a passage from its "
                "middle would stand between two passages that the model is trained on",
                "Give --documents (line, blank, file or a separator), or --val-split last.",
            )

    @property
    def is_backward(self) -> bool:
        """Whether texts are read from their last letter to their first."""
        return self.direction == BACKWARD

    @property
    def is_series(self) -> bool:
        """Whether files are read as series of numbers (`text/series/`), and not as texts."""
        return self.tokenizer.partition(":")[0] == MULAW

    @classmethod
    def for_unchanged_text(
        cls, encoding: str, errors: str, text_field: str | None, json_lines: bool = False
    ) -> DataConfig:
        """Return the settings that read a text unchanged, because a model brings it into the form of its own text."""
        return cls(
            encoding=encoding, errors=errors, newline="keep", normalize="none", text_field=text_field or "",
            json_lines=json_lines,
        )  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataConfig:
        """Return the settings that a dict from `to_json` contains.

        Files of earlier versions have no keys "errors", "val_split", "direction" and "json_lines": the end of every
        text was held out, and texts were read forward. Their `text_field` is "text" where none was given.

        Raises:
            ConfigError: If a key is unknown, or its value is out of range.
        """
        if not isinstance(values, Mapping):
            return super().from_json(values)
        if "errors" not in values and values.get("text_field") == "text":
            values = {**values, "text_field": ""}
        return super().from_json({"val_split": LAST, **values})
