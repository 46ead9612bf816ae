"""The settings of models, corpora and training: frozen dataclasses that are checked on construction.

Model files and training states store these settings as JSON, so every class converts to JSON and back without loss.
Each class has a table `FIELDS` that describes the valid values of each field with the types of `schema.py`. Every
number has a maximum, far above any useful value. Thus no product of settings can overflow, and no file can make the
program allocate unbounded memory.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from chargen.config.base import (
    DROPOUT_RATE,
    FRACTION,
    MAX_SECONDS,
    MAX_SEED,
    MAX_STEPS,
    Config,
    check_count,
    format_duration_s,
    parse_duration_s,
    to_python_number,
)
from chargen.config.data import (
    BACKWARD,
    DIRECTIONS,
    ERROR_MODES,
    FLOAT16,
    FLOAT32,
    FORWARD,
    INT8,
    LAST,
    MULAW,
    NEWLINE_MODES,
    NORMALIZE_MODES,
    RANDOM,
    VAL_SPLITS,
    WEIGHT_STORAGES,
    DataConfig,
)
from chargen.config.model import (
    MAX_LAYER_SIZE,
    MAX_LAYERS,
    MAX_NGRAM_DIM,
    MAX_NGRAM_ROWS,
    MAX_NGRAMS,
    MAX_VOCAB_SIZE,
    STACK_FIELDS,
    STACK_SWITCHES,
    ModelConfig,
    check_stack,
    list_cells,
)

if TYPE_CHECKING:
    from chargen.config.training import (
        BF16,
        DEFAULT_BUDGET_S,
        MAX_BATCH_SIZE,
        MAX_CLIP_NORM,
        MAX_EPOCHS,
        MAX_LEARNING_RATE,
        MAX_SEQ_LEN,
        MAX_WEIGHT_DECAY,
        PRECISIONS,
        TF32,
        TrainConfig,
    )

LN2 = math.log(2)  #: nats per bit

__all__ = [
    "BACKWARD",
    "DIRECTIONS",
    "FORWARD",
    "Config",
    "DEFAULT_BUDGET_S",
    "DROPOUT_RATE",
    "DataConfig",
    "ERROR_MODES",
    "FLOAT16",
    "FLOAT32",
    "FRACTION",
    "INT8",
    "LAST",
    "LN2",
    "MAX_BATCH_SIZE",
    "MAX_CLIP_NORM",
    "MAX_EPOCHS",
    "MAX_LAYERS",
    "MAX_LAYER_SIZE",
    "MAX_LEARNING_RATE",
    "MAX_NGRAMS",
    "MAX_NGRAM_DIM",
    "MAX_NGRAM_ROWS",
    "MAX_SECONDS",
    "MAX_SEED",
    "MAX_SEQ_LEN",
    "MAX_STEPS",
    "MAX_VOCAB_SIZE",
    "MAX_WEIGHT_DECAY",
    "MULAW",
    "ModelConfig",
    "NEWLINE_MODES",
    "NORMALIZE_MODES",
    "BF16",
    "FLOAT32",
    "PRECISIONS",
    "TF32",
    "RANDOM",
    "STACK_FIELDS",
    "STACK_SWITCHES",
    "TrainConfig",
    "VAL_SPLITS",
    "WEIGHT_STORAGES",
    "check_count",
    "check_stack",
    "format_duration_s",
    "list_cells",
    "parse_duration_s",
    "to_python_number",
]


def __getattr__(name: str) -> Any:
    """Import the settings of training when one of their names is first used: only few commands need them."""
    if name not in (*__all__, "training"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    training = import_module("chargen.config.training")
    return training if name == "training" else getattr(training, name)


def __dir__() -> list[str]:
    """Return all names, also those that are not imported yet."""
    return sorted({*globals(), *__all__, "training"})
