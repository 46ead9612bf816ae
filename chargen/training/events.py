"""Define the reports that a training run yields.

The library yields reports and prints nothing; the command line displays them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from chargen.checkpoint import Checkpoint
from chargen.config import LN2, DataConfig, ModelConfig, TrainConfig


@dataclass(frozen=True)
class Started:
    """The run is ready to make its first step."""

    run: str
    corpus: str
    notes: tuple[str, ...]  #: messages for the user
    train_chars: int
    val_chars: int
    parameters: int  #: number of parameters
    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    total_steps: int | None  #: None for a run with a time budget
    first_step: int = 0  #: number of steps before the run was resumed
    selection_chars: int = 0  #: characters of the part of the held-out text on which validations are made
    elapsed_s: float = 0.0  #: seconds that the run took so far, start-up included
    num_processes: int = 1  #: number of processes that the batch rows are divided among

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"event": "started", **asdict(self)}


@dataclass(frozen=True)
class Progress:
    """Some steps were made."""

    step: int
    progress: float  #: completed share of the run, 0 to 1
    epoch: float
    elapsed_s: float
    remaining_s: float
    chars_per_s: float  #: moving average
    loss_nats_per_char: float  #: mean training loss since the last report
    learning_rate: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"event": "progress", **asdict(self), "bits_per_char": self.loss_nats_per_char / LN2}


@dataclass(frozen=True)
class Evaluated:
    """The current model was evaluated on the selection part of the validation text."""

    step: int
    epoch: float
    elapsed_s: float
    train_loss_nats_per_char: float  #: mean since the last evaluation
    val_loss_nats_per_char: float
    best: bool  #: whether this is the lowest validation loss so far
    checkpoint: Checkpoint = field(repr=False)  #: the current model

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object, without the model."""
        values = {key: value for key, value in self.__dict__.items() if key != "checkpoint"}
        return {"event": "evaluated", **values, "val_bits_per_char": self.val_loss_nats_per_char / LN2}


@dataclass(frozen=True)
class Finished:
    """The run has ended, and the best model is on disk."""

    run: str
    model_path: str  #: path of the best model
    interrupted: bool
    stopped_early: bool  #: the validation loss had not improved for the share of the run that `patience` allows
    reached_max_epochs: bool  #: a run with a time budget ended before its time: it had read the text `max_epochs` times
    steps: int
    best_step: int
    epochs: float
    elapsed_s: float
    chars_per_s: float
    train_loss_nats_per_char: float  #: mean over the steps since the last but one validation, with dropout
    train_loss_without_dropout_nats_per_char: float  #: loss of the best model on a sample of the training text
    val_loss_nats_per_char: float  #: loss on the whole validation text, read with carried state
    val_bits_per_char: float
    val_bits_per_byte: float
    val_perplexity_per_char: float
    val_first_half_nats_per_char: float  #: loss on the first half; the model was selected by the loss on its start
    val_second_half_nats_per_char: float | None  #: loss on the second half, which no decision uses; None if it is empty
    ngram_5_nats_per_char: float | None  #: None if the text is too short for baselines
    lzma_nats_per_char: float | None  #: None if the text is too short for baselines
    entropy_nats_per_char: float | None  #: entropy of the source, if it is known
    first_step: int = 0  #: number of steps before the run was resumed
    diagnosis: str = ""
    advice: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"event": "finished", **asdict(self)}


Report = Started | Progress | Evaluated | Finished
