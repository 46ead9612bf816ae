"""What a run says as it goes. The library yields these; an edge shows them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from chargen.checkpoint import Checkpoint
from chargen.config import DataConfig, ModelConfig, TrainConfig

LN2 = math.log(2)


@dataclass(frozen=True)
class Started:
    """A run is about to make its first step."""

    run: str
    corpus: str
    notes: tuple[str, ...]
    train_chars: int
    val_chars: int
    parameters: int
    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    total_steps: int | None  #: None for a run by time
    first_step: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"event": "started", **asdict(self)}


@dataclass(frozen=True)
class Progress:
    """Some steps were made."""

    step: int
    progress: float  #: 0 to 1
    epoch: float
    elapsed_s: float
    remaining_s: float
    chars_per_s: float
    loss_nats_per_char: float  #: training, mean since the last report
    learning_rate: float

    def to_json(self) -> dict[str, Any]:
        return {"event": "progress", **asdict(self), "bits_per_char": self.loss_nats_per_char / LN2}


@dataclass(frozen=True)
class Evaluated:
    """A look: the model was measured on the part of the validation text that choices look at."""

    step: int
    epoch: float
    elapsed_s: float
    train_loss_nats_per_char: float  #: mean since the evaluation before
    val_loss_nats_per_char: float
    best: bool
    checkpoint: Checkpoint  #: the model as it is now

    def to_json(self) -> dict[str, Any]:
        values = {key: value for key, value in self.__dict__.items() if key != "checkpoint"}
        return {"event": "evaluated", **values, "val_bits_per_char": self.val_loss_nats_per_char / LN2}


@dataclass(frozen=True)
class Finished:
    """The run is over; the best model is on disk."""

    run: str
    model_path: str
    interrupted: bool
    steps: int
    best_step: int
    epochs: float
    elapsed_s: float
    chars_per_s: float
    train_loss_nats_per_char: float
    val_loss_nats_per_char: float  #: carried, the whole validation text
    val_bits_per_char: float
    val_bits_per_byte: float
    val_perplexity_per_char: float
    val_first_half_nats_per_char: float  #: choices looked at it, or at the beginning of it
    val_second_half_nats_per_char: float  #: no choice looked at it
    ngram_5_nats_per_char: float
    lzma_nats_per_char: float
    entropy_nats_per_char: float | None  #: of the source, where it is known
    verdict: str = ""
    advice: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"event": "finished", **asdict(self)}


Report = Started | Progress | Evaluated | Finished
