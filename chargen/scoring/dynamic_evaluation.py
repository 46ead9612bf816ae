"""Dynamic evaluation: score a text with a copy of the model that is trained on it meanwhile (Krause et al. 2018).

    for each segment s of the text, in order:
        score s with the weights θ, which were trained only on the segments before s
        g = ∇ loss(s)
        θ ← θ − η · g / (√m + ε) + min(1, λ · √m / mean √m) · (θ₀ − θ)                 rule "rms"
        θ ← θ − η · g + λ · (θ₀ − θ)                                                   rule "sgd"

    segment   ├── score, train ──┤├── score, train ──┤├── score, train ──┤

A segment is scored before the model is trained on it, so the loss is that of a prediction. η is the learning rate. θ₀
are the trained weights; every step pulls θ back to them a little, by the decay λ. m is the mean square of a weight's
gradient (Krause, Kahembwe, Murray & Renals 2018, arXiv:1709.07432).

The paper computes m on the training text. A model file does not contain that text, so the model generates text here,
and m is computed on that text; for a model that predicts well, both are the diagonal of its Fisher information. ε is as
large as the mean √m, because with a small ε the weights of rare characters, whose m is almost 0, would change far too
much in one step.

The loss cannot be compared with that of a model that does not change, so every output names the method.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from chargen.cells.cell import NetworkState
from chargen.checkpoint import Checkpoint
from chargen.errors import ConfigError, DivergenceError
from chargen.networks.network import NGRAM_TABLE, Network, detach
from chargen.networks.torch_runtime import single_thread
from chargen.schema import format_count
from chargen.scoring.whole_text import WholeText
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids

RULES = ("rms", "sgd")
LEARNING_RATES = {"rms": 1e-3, "sgd": 0.05}  #: default η of each rule; benchmarks/LOG.md names the two texts it fits
NUM_GENERATED = 100  #: segments that the model generates for the mean squares of its gradients
MAX_SEGMENT_IDS = 4096  #: gradients of a whole segment are in memory, and NUM_GENERATED such segments are generated
EPSILON = 1.0  #: ε as a fraction of the mean √m


@dataclass(frozen=True)
class Adaptation:
    """The settings of dynamic evaluation: how a model is trained while it is evaluated."""

    rule: str = "rms"
    learning_rate: float | None = None  #: η; None for the default of the rule
    decay: float = 1e-3  #: λ: fraction of the difference to the trained weights that each segment takes back
    segment_ids: int = 20  #: token ids that are scored before each step

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConfigError(f"no rule {self.rule!r} to adapt by", f"There are {' and '.join(RULES)}.")
        if not (math.isfinite(self.used_learning_rate) and self.used_learning_rate >= 0):
            raise ConfigError(f"the learning rate is {self.used_learning_rate}, but must be a number of at least 0")
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"the decay is {self.decay}, but must be between 0 and 1")
        if not 1 <= self.segment_ids <= MAX_SEGMENT_IDS:
            raise ConfigError(
                f"a segment has {format_count(self.segment_ids, 'token')}, but must have at least one and "
                f"at most {MAX_SEGMENT_IDS:,}"
            )

    @property
    def used_learning_rate(self) -> float:
        """The learning rate that is used: the given one, or the default of the rule."""
        return LEARNING_RATES[self.rule] if self.learning_rate is None else self.learning_rate


class DynamicModel:
    """A copy of a model's network that scores segments, and is trained on each after it has scored it.

    Args:
        checkpoint: The model, which is not changed.
        start: Token ids that a text starts after.
        adaptation: Rule, learning rate, decay and segment size.
        device: Device for torch.
    """

    def __init__(self, checkpoint: Checkpoint, start: Ids, adaptation: Adaptation, device: str = "cpu") -> None:
        self.network = Network(checkpoint.config)
        self.network.import_weights(checkpoint.weights)
        self.network.to(device)
        self._adaptation = adaptation
        self._device = device
        # The n-gram table is not adapted: a segment uses only a few of its rows.
        self._weights = [weight for name, weight in self.network.named_parameters() if name != NGRAM_TABLE]
        self._trained = [weight.detach().clone() for weight in self._weights]
        with single_thread():  # segments of a small network are 15 times as fast on two busy cores
            self._scale, self._decay = self._rms_factors(start) if adaptation.rule == "rms" else self._sgd_factors()

    def initial_state(self) -> NetworkState:
        """Return the state before the first token id of a text."""
        return self.network.initial_state(1)

    def read(self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState) -> tuple[Any, NetworkState]:
        """Score a segment, then train on it.

        Args:
            inputs: Ids to read, [T].
            targets: Ids that follow them, [T].
            state: State before the segment.

        Returns:
            (log p of each target in nats by the weights before the step, [T]; state after the segment).

        Raises:
            DivergenceError: If the loss is no longer a finite number.
        """
        input_column, target_column = _column(inputs, self._device), _column(targets, self._device)
        with single_thread():
            losses, gradients, state = self._losses(input_column, target_column, state)
            self._step(gradients)
        log_probs = -losses.detach().double().cpu().numpy()
        if not np.isfinite(log_probs).all():
            raise DivergenceError("the model diverged while it adapted to the text", "Give a lower --adapt-rate.")
        return log_probs, state

    @torch.no_grad()
    def _step(self, gradients: tuple[Tensor, ...]) -> None:
        learning_rate = self._adaptation.used_learning_rate
        for weight, g, trained, scale, decay in zip(
            self._weights, gradients, self._trained, self._scale, self._decay, strict=True
        ):
            weight.add_((trained - weight) * decay - learning_rate * g / scale)

    def _losses(
        self, inputs: Tensor, targets: Tensor, state: NetworkState
    ) -> tuple[Tensor, tuple[Tensor, ...], NetworkState]:
        """Return (loss of each target in nats, [T]; gradients of their mean; state after them)."""
        logits, state = self.network(inputs, state)
        losses = F.cross_entropy(logits[:, 0], targets[:, 0], reduction="none")
        return losses, torch.autograd.grad(losses.mean(), self._weights), detach(state)

    def _sgd_factors(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return (divisors of the gradients, decays), one of each for every weight tensor."""
        one = torch.ones((), device=self._device)
        return [one] * len(self._weights), [one * self._adaptation.decay] * len(self._weights)

    def _rms_factors(self, start: Ids) -> tuple[list[Tensor], list[Tensor]]:
        """Return (divisors √m + ε of the gradients, decays min(1, λ · √m / mean √m)), for every weight tensor."""
        squares = [torch.zeros_like(weight) for weight in self._weights]
        for ids in self._generated_segments(start):
            _, gradients, _ = self._losses(ids[:-1], ids[1:], self.initial_state())
            for square, g in zip(squares, gradients, strict=True):
                square.add_(g * g / NUM_GENERATED)
        roots = [square.sqrt() for square in squares]
        mean = sum(float(root.sum()) for root in roots) / sum(root.numel() for root in roots)
        scale = [root + EPSILON * mean + 1e-12 for root in roots]
        return scale, [(self._adaptation.decay * root / (mean + 1e-12)).clamp_(max=1.0) for root in roots]

    @torch.no_grad()
    def _generated_segments(self, start: Ids) -> list[Tensor]:
        """Return segments that the model generates, [T + 1, 1] each; they are the same each time."""
        generator = torch.Generator().manual_seed(0)
        state = self.network.initial_state(NUM_GENERATED)
        ids = torch.full((1, NUM_GENERATED), int(start[-1]), device=self._device)
        generated = [ids]
        for _ in range(self._adaptation.segment_ids):
            logits, state = self.network(ids, state)
            drawn = torch.multinomial(logits[0].softmax(-1).cpu(), 1, generator=generator)
            ids = drawn.T.to(self._device)
            generated.append(ids)
        return list(torch.split(torch.cat(generated), 1, dim=1))


def _column(ids: NDArray[Any], device: str) -> Tensor:
    """Return token ids [T] as a batch with a single row, [T, 1]."""
    return torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64)).unsqueeze(1).to(device)


@dataclass(frozen=True)
class AdaptedEvaluation:
    """The likelihood of a whole text by a model that was trained on it while it was evaluated."""

    rule: str
    learning_rate: float
    decay: float
    segment_ids: int
    chars: int
    loss_nats_per_char: float
    bits_per_char: float
    bits_per_byte: float
    perplexity_per_char: float
    first_half_nats_per_char: float
    second_half_nats_per_char: float | None  #: None if that half is empty

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON values; "method" says that it is dynamic evaluation."""
        return {"method": "dynamic evaluation", **asdict(self)}


def adapted_log_probs(
    checkpoint: Checkpoint, ids: Ids, adaptation: Adaptation, device: str = "cpu"
) -> Iterator[NDArray[np.float64]]:
    """Yield log p of each token id given all token ids before it, one segment after the other, [T] each, in nats.

    Args:
        checkpoint: The model, which is not changed.
        ids: Ids of the text, [N]. In a model of documents a boundary follows each document and resets the state.
        adaptation: Rule, learning rate, decay and segment size.
        device: Device for torch.
    """
    previous = checkpoint.start_ids[-1:]
    model = DynamicModel(checkpoint, previous, adaptation, device)
    ends = (np.flatnonzero(ids == BOUNDARY_ID) + 1).tolist() if checkpoint.has_documents else []
    for document_start, document_end in pairwise([0, *ends, len(ids)]):
        state = model.initial_state()
        for start in range(document_start, document_end, adaptation.segment_ids):
            targets = ids[start : min(document_end, start + adaptation.segment_ids)]
            log_probs, state = model.read(np.concatenate([previous, targets[:-1]]), targets, state)
            yield log_probs
            previous = targets[-1:]


def evaluate_adapted(
    checkpoint: Checkpoint, text: str, adaptation: Adaptation, device: str = "cpu"
) -> Iterator[float | AdaptedEvaluation]:
    """Evaluate a whole text by dynamic evaluation: yield the fraction that is done, and last the result.

    Args:
        checkpoint: The model, which is not changed.
        text: Text in any form.
        adaptation: Rule, learning rate, decay and segment size.
        device: Device for torch.

    Raises:
        CorpusError: If the text is empty.
        DivergenceError: If the learning rate is too high for this model.
    """
    whole = WholeText.from_text(text, checkpoint)
    segments, num_done = [], 0
    for log_probs in adapted_log_probs(checkpoint, whole.ids, adaptation, device):
        segments.append(log_probs)
        num_done += len(log_probs)
        yield num_done / len(whole.ids)
    yield AdaptedEvaluation(
        rule=adaptation.rule,
        learning_rate=adaptation.used_learning_rate,
        decay=adaptation.decay,
        segment_ids=adaptation.segment_ids,
        chars=len(whole.text),
        **whole.losses(np.concatenate(segments)),
    )
