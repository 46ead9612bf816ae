"""Define the reports that a training run yields, and the diagnosis at its end.

The library yields reports and prints nothing; the command line displays them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chargen.checkpoint import Checkpoint
from chargen.config import LN2, DataConfig, ModelConfig, TrainConfig
from chargen.schema import format_count


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
    chars_per_s: float
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
    checkpoint: Checkpoint  #: the current model

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object, without the model."""
        values = {key: value for key, value in self.__dict__.items() if key != "checkpoint"}
        return {"event": "evaluated", **values, "val_bits_per_char": self.val_loss_nats_per_char / LN2}


@dataclass(frozen=True)
class Finished:
    """The run has ended, and the best model is on disk."""

    run: str
    model_path: str
    interrupted: bool
    steps: int
    best_step: int
    epochs: float
    elapsed_s: float
    chars_per_s: float
    train_loss_nats_per_char: float
    val_loss_nats_per_char: float  #: loss on the whole validation text, read with carried state
    val_bits_per_char: float
    val_bits_per_byte: float
    val_perplexity_per_char: float
    val_first_half_nats_per_char: float  #: loss on the first half; the model was selected by the loss on its start
    val_second_half_nats_per_char: float  #: loss on the second half, which is not used for any decision
    ngram_5_nats_per_char: float
    lzma_nats_per_char: float
    entropy_nats_per_char: float | None  #: entropy of the source, if it is known
    diagnosis: str = ""
    advice: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return {"event": "finished", **asdict(self)}


Report = Started | Progress | Evaluated | Finished


MAX_RISE = 0.02  #: nats per character; if the last validation loss is further above the best one, the model overfits
MAX_GAP = 0.25  #: nats per character; more regularization can reduce a larger gap between training and validation


@dataclass(frozen=True)
class Diagnosis:
    """What happened in a run, and what to try next."""

    summary: str
    advice: tuple[str, ...] = ()


def diagnose(result: Finished, history: Sequence[Mapping[str, float]], dropout: float) -> Diagnosis:
    """Explain the numbers of a run.

    Args:
        result: The numbers at the end of the run.
        history: All validations in order: {"step", "train", "val"}, losses in nats per character.
        dropout: The dropout rate of the run.
    """
    last = history[-1]
    best = min(validation["val"] for validation in history)
    gap = result.val_loss_nats_per_char - last["train"]
    rise = last["val"] - best
    entropy = result.entropy_nats_per_char
    baseline = min(result.ngram_5_nats_per_char, result.lzma_nats_per_char)
    advice: list[str] = []
    if result.best_step == 0:
        return Diagnosis(
            "No improvement: on this text the initial model is still the best one, so it was kept.",
            ("Use a lower learning rate (--lr) or more text.",),
        )
    if entropy is not None and result.val_loss_nats_per_char - entropy < 0.02 * entropy + 0.005:
        return Diagnosis("The model reaches the entropy of the source: no better model is possible.")
    if rise > MAX_RISE:
        summary = (
            f"Overfitting: the validation loss was lowest at step {result.best_step:,}, then rose by {rise:.3f} nats."
        )
        advice.append(f"Use more dropout (--dropout {min(0.5, dropout + 0.2):.1f}), a smaller --hidden, or more text.")
        advice.append(f"A shorter run is enough: about {result.best_step:,} of {format_count(result.steps, 'step')}.")
    elif gap > MAX_GAP:
        summary = (
            f"Some overfitting: the validation loss is {gap:.2f} nats above the training loss, but was not rising yet."
        )
        advice.append(f"Use more dropout (--dropout {min(0.5, dropout + 0.1):.1f}) or more text.")
    else:
        comparison = f"only {gap:.2f} nats above" if gap >= 0.005 else "not above"
        summary = f"Underfitting: the validation loss is {comparison} the training loss, and was not rising."
        advice.append("Train longer (--budget), then try a larger --hidden.")
    if result.val_loss_nats_per_char > baseline:
        advice.append(
            "A 5-gram or a compressor is better than this model: the text repeats long passages, or the run was short."
        )
    return Diagnosis(summary, tuple(advice))
