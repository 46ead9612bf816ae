"""What a run says as it goes. The library yields these; an edge shows them.

What a run's numbers mean, in words, and what to try next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chargen.checkpoint import Checkpoint
from chargen.config import LN2, DataConfig, ModelConfig, TrainConfig


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


RISEN = 0.02  #: nats per character above the best that say the model has begun to learn the text by heart
WIDE_GAP = 0.25  #: nats per character between training and validation that more regularisation can narrow


def verdict(result: Finished, history: Sequence[Mapping[str, float]], dropout: float) -> tuple[str, tuple[str, ...]]:
    """Return (what happened, what to try next).

    Args:
        result: the run's numbers.
        history: the looks at validation in their order: {"step", "train", "val"}, losses in nats per character.
        dropout: what the run used.
    """
    last = history[-1]
    best = min(look["val"] for look in history)
    gap = result.val_loss_nats_per_char - last["train"]
    risen = last["val"] - best
    entropy = result.entropy_nats_per_char
    baseline = min(result.ngram_5_nats_per_char, result.lzma_nats_per_char)
    advice: list[str] = []
    if result.best_step == 0:
        return (
            "Nothing gained: on this text the model that the run began from is the best still, and was kept.",
            ("A lower rate (--lr), or more text.",),
        )
    if entropy is not None and result.val_loss_nats_per_char - entropy < 0.02 * entropy + 0.005:
        return "The model is as good as this source allows.", ()
    if risen > RISEN:
        said = f"Overfitting: validation was best at step {result.best_step:,}, then rose by {risen:.3f} nats."
        advice.append(f"More dropout (--dropout {min(0.5, dropout + 0.2):.1f}), a smaller --hidden, or more text.")
        advice.append(f"Less time is enough: about {result.best_step:,} of {result.steps:,} steps.")
    elif gap > WIDE_GAP:
        said = f"Fits, with a gap: validation is {gap:.2f} nats above training, and was not rising yet."
        advice.append(f"More dropout (--dropout {min(0.5, dropout + 0.1):.1f}) or more text would narrow it.")
    else:
        above = f"only {gap:.2f} nats above" if gap >= 0.005 else "no higher than"
        said = f"Underfitting: validation is {above} training, and was not rising."
        advice.append("More time (--budget), then a larger --hidden: the text has more to give.")
    if result.val_loss_nats_per_char > baseline:
        advice.append(
            "A 5-gram or a compressor does better still: the text repeats long passages, or the run was too short."
        )
    return said, tuple(advice)
