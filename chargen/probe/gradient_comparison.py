"""Compare gradients of networks on one text: of fresh networks before and after a short training, and of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from chargen.checkpoint import Checkpoint
from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import TextBatches
from chargen.networks.network import Network
from chargen.probe.gradients import GradientNorms, check_has_state, check_text_length, measure_gradients
from chargen.probe.small_networks import TrainingRecord, build_network, train_network
from chargen.tokenizers.tokenizer import Tokenizer

EMBEDDING_DIM = 32
BATCH_SIZE, SEQ_LEN = 32, 64  #: windows as long as the default lag: a gradient cannot reach further in training
MAX_CHARS = 1 << 22  #: a longer text is cut to its first characters


@dataclass(frozen=True, kw_only=True)
class GradientSettings:
    """What is measured, and how fresh networks are built and trained; either `steps` or `budget_s` is set."""

    max_lag: int = 64  #: in tokens
    num_positions: int = 64
    hidden_size: int = 64
    num_layers: int = 1
    init_scale: float = 1.0  #: factor of the initial recurrent weights
    steps: int | None = None
    budget_s: float | None = None
    learning_rate: float = 1e-2
    clip_norm: float = 1.0
    seed: int = 0

    def training(self) -> TrainConfig:
        """Return the settings of the training of a network."""
        return TrainConfig(
            steps=self.steps, budget_s=self.budget_s, batch_size=BATCH_SIZE, seq_len=SEQ_LEN, clip_norm=self.clip_norm,
            learning_rate=self.learning_rate, seed=self.seed,
        )  # fmt: skip


@dataclass(frozen=True)
class GradientCurve:
    """The gradients of a network."""

    name: str  #: name of the cell or the model
    stage: str  #: "before training", "after training" or "model"
    gradients: GradientNorms
    training: TrainingRecord | None = None  #: the training before the measurement; None if there was none

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON values, with units in the keys."""
        found = self.gradients
        return {
            "name": self.name,
            "stage": self.stage,
            "loss_nats_per_token": found.loss_nats,
            "horizon_tokens": found.horizon,
            "factor_per_token": found.growth,
            "explodes": found.explodes,
            "gradient_norms": found.norms,
            "gradient_norms_of_parts": found.parts,
            "training": asdict(self.training) if self.training else None,
        }


def compare_cells(
    cells: tuple[str, ...],
    text: str,
    tokenizer: Tokenizer,
    settings: GradientSettings,
    report: Callable[[str, float], None] | None = None,
) -> Iterator[GradientCurve]:
    """Yield the gradients of a fresh network of each cell, before and then after its training on the text.

    Args:
        cells: Names of the cells.
        text: The text that the networks are trained on, and whose losses are differentiated.
        tokenizer: A tokenizer of the text.
        settings: What is measured.
        report: Function that gets the name of a cell and the completed share of its training.

    Raises:
        ConfigError: If a cell is unknown or has no hidden state, or a setting is out of range.
        CorpusError: If the text is too short for the lag.
    """
    ids = tokenizer.encode(text)
    check_text_length(len(ids), settings.max_lag)
    for cell in cells:
        check_has_state(cell)
    for cell in cells:
        config = ModelConfig(
            vocab_size=tokenizer.vocab_size, cell=cell, num_layers=settings.num_layers,
            hidden_size=settings.hidden_size, embedding_dim=EMBEDDING_DIM,
        )  # fmt: skip
        network = build_network(config, settings.seed, settings.init_scale)
        yield GradientCurve(cell, "before training", _measure(network, ids, settings))
        training = settings.training()
        batches = TextBatches(ids, int(ids[-1]), BATCH_SIZE, SEQ_LEN)
        record = train_network(network, batches, training, _named(report, cell))
        yield GradientCurve(cell, "after training", _measure(network, ids, settings), record)


def measure_model(name: str, model: Checkpoint, text: str, settings: GradientSettings) -> GradientCurve:
    """Return the gradients of a trained model.

    Raises:
        ConfigError: If its cell has no hidden state.
        CorpusError: If the text is too short for the lag.
        TokenizerError: If the text cannot be encoded.
    """
    check_has_state(model.config.cell)
    ids = model.tokenizer.encode(model.reorder(model.normalize(text)))
    check_text_length(len(ids), settings.max_lag)
    network = Network(model.config)
    network.import_weights(model.weights)
    return GradientCurve(name, "model", _measure(network, ids, settings))


def _measure(network: Network, ids: NDArray[Any], settings: GradientSettings) -> GradientNorms:
    return measure_gradients(network, ids, settings.max_lag, settings.num_positions)


def _named(report: Callable[[str, float], None] | None, name: str) -> Callable[[float], None] | None:
    return None if report is None else lambda share: report(name, share)
