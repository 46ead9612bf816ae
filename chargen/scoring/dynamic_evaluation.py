"""A copy of a model that goes on learning from a text, behind the place that it predicts.

    for each segment s of the text, in its order:
        score s with the weights θ, which have learned from what stands before s       honest: first predict,
        g = ∇ loss(s)                                                                  then learn
        θ ← θ − η · g / (√m + ε) + min(1, λ · √m / mean √m) · (θ₀ − θ)                 rule "rms"
        θ ← θ − η · g + λ · (θ₀ − θ)                                                   rule "sgd"

θ₀ are the trained weights, which every step falls back to a little; m is the mean square of a weight's gradient
(Krause, Kahembwe, Murray & Renals 2018, arXiv 1709.07432). There m is gathered over the training text. A model file
does not hold that text, so here the model writes some of its own and m is gathered over that: of a model that predicts
well, both are the diagonal of its Fisher information. And ε is as large as the mean √m: with a small one the weights
of a rare character, whose m is next to nothing, would leap.

Dynamic evaluation: a whole text measured by a model that goes on learning from it (Krause et al. 2018, 1709.07432).

    segment   ├── scored ──┤├── scored ──┤├── scored ──┤      then learned from (`learner.py`), each before the next

The number is not comparable with that of a model that stands still, and is never given without saying so.
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

from chargen.cells.network_state import NetworkState
from chargen.checkpoint import Checkpoint
from chargen.errors import ConfigError, DivergenceError
from chargen.networks.network import NGRAM_TABLE, Network, detach
from chargen.networks.torch_runtime import single_thread
from chargen.scoring.whole_text import WholeText
from chargen.text.documents import NONE
from chargen.tokenizers.tokenizer import BOUNDARY_ID, Ids, start_ids

RULES = ("rms", "sgd")
RATES = {"rms": 1e-3, "sgd": 0.05}  #: η; see benchmarks/LOG.md for the two texts that they were tried on
WRITTEN = 100  #: segments that the model writes, for the mean squares of its gradients
MAX_SEGMENT_IDS = 4096  #: gradients of a whole segment are in memory, and the model first writes a hundred of them
EPSILON = 1.0  #: ε as a share of the mean √m


@dataclass(frozen=True)
class Adaptation:
    """How a model learns while it is measured."""

    rule: str = "rms"
    learning_rate: float | None = None  #: None for the rule's own
    decay: float = 1e-3  #: λ: how fast what was learned is forgotten, a segment
    segment_ids: int = 20  #: that are scored before the next step

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConfigError(f"no rule {self.rule!r} to adapt by", f"There are {' and '.join(RULES)}.")
        if not (math.isfinite(self.rate) and self.rate >= 0):
            raise ConfigError(f"the learning rate is {self.rate}, but must be a number of at least 0")
        if not 0 <= self.decay <= 1:
            raise ConfigError(f"the decay is {self.decay}, but must be between 0 and 1")
        if not 1 <= self.segment_ids <= MAX_SEGMENT_IDS:
            raise ConfigError(
                f"a segment has {self.segment_ids} ids, but must have at least one and at most {MAX_SEGMENT_IDS:,}"
            )

    @property
    def rate(self) -> float:
        return RATES[self.rule] if self.learning_rate is None else self.learning_rate


class DynamicModel:
    """A copy of a model's network that scores segments, each before it learns from it.

    Args:
        checkpoint: the model, which is not changed.
        start: what a text begins after.
        how: rule, rate, decay, segments.
        device: where torch works.
    """

    def __init__(self, checkpoint: Checkpoint, start: Ids, how: Adaptation, device: str = "cpu") -> None:
        self.network = Network(checkpoint.config)
        self.network.import_weights(checkpoint.weights)
        self.network.to(device)
        self._how, self._device = how, device
        # A segment meets a few rows of the n-grams' table: they stay as they are.
        self._weights = [weight for name, weight in self.network.named_parameters() if name != NGRAM_TABLE]
        self._trained = [weight.detach().clone() for weight in self._weights]
        with single_thread():  # segments of a small network are 15 × as fast on two busy cores
            self._scale, self._decay = self._rms(start) if how.rule == "rms" else self._plain()

    def initial_state(self) -> NetworkState:
        return self.network.initial_state(1)

    def read(self, inputs: NDArray[Any], targets: NDArray[Any], state: NetworkState) -> tuple[Any, NetworkState]:
        """Score a segment, then learn from it.

        Args:
            inputs: [T].
            targets: the ids that follow them, [T].
            state: before the segment.

        Returns:
            (log p of each target by the weights as they were before, [T], the state after it).

        Raises:
            DivergenceError: the loss is no number any more.
        """
        ids, wanted = _column(inputs, self._device), _column(targets, self._device)
        with single_thread():
            losses, gradients, state = self._losses(ids, wanted, state)
            self._step(gradients)
        log_probs = -losses.detach().double().cpu().numpy()
        if not np.isfinite(log_probs).all():
            raise DivergenceError("the model went astray while it adapted", "Give a lower --adapt-rate.")
        return log_probs, state

    @torch.no_grad()
    def _step(self, gradients: tuple[Tensor, ...]) -> None:
        for weight, g, trained, scale, decay in zip(
            self._weights, gradients, self._trained, self._scale, self._decay, strict=True
        ):
            weight.add_((trained - weight) * decay - self._how.rate * g / scale)

    def _losses(
        self, ids: Tensor, targets: Tensor, state: NetworkState
    ) -> tuple[Tensor, tuple[Tensor, ...], NetworkState]:
        logits, state = self.network(ids, state)
        losses = F.cross_entropy(logits[:, 0], targets[:, 0], reduction="none")
        return losses, torch.autograd.grad(losses.mean(), self._weights), detach(state)

    def _plain(self) -> tuple[list[Tensor], list[Tensor]]:
        one = torch.ones((), device=self._device)
        return [one] * len(self._weights), [one * self._how.decay] * len(self._weights)

    def _rms(self, start: Ids) -> tuple[list[Tensor], list[Tensor]]:
        """Return (what each weight's gradient is divided by, how much of the way back it goes a segment)."""
        squares = [torch.zeros_like(weight) for weight in self._weights]
        for ids in self._written(start):
            _, gradients, _ = self._losses(ids[:-1], ids[1:], self.initial_state())
            for square, g in zip(squares, gradients, strict=True):
                square.add_(g * g / WRITTEN)
        roots = [square.sqrt() for square in squares]
        mean = sum(float(root.sum()) for root in roots) / sum(root.numel() for root in roots)
        scale = [root + EPSILON * mean + 1e-12 for root in roots]
        return scale, [(self._how.decay * root / (mean + 1e-12)).clamp_(max=1.0) for root in roots]

    @torch.no_grad()
    def _written(self, start: Ids) -> list[Tensor]:
        """Return segments that the model wrote, [T + 1, 1] each; the same ones every time."""
        generator = torch.Generator().manual_seed(0)
        state = self.network.initial_state(WRITTEN)
        ids = torch.full((1, WRITTEN), int(start[-1]), device=self._device)
        written = [ids]
        for _ in range(self._how.segment_ids):
            logits, state = self.network(ids, state)
            drawn = torch.multinomial(logits[0].softmax(-1).cpu(), 1, generator=generator)
            ids = drawn.T.to(self._device)
            written.append(ids)
        return list(torch.split(torch.cat(written), 1, dim=1))


def _column(ids: NDArray[Any], device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int64)).unsqueeze(1).to(device)


@dataclass(frozen=True)
class AdaptedEvaluation:
    """The likelihood of a whole text by a model that learned from it on the way."""

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
    second_half_nats_per_char: float

    def to_json(self) -> dict[str, Any]:
        return {"method": "dynamic evaluation", **asdict(self)}


def adapted_log_probs(
    checkpoint: Checkpoint, ids: Ids, how: Adaptation, device: str = "cpu"
) -> Iterator[NDArray[np.float64]]:
    """Yield log p of each id given all before it, segment after segment, [T] each, in nats.

    Args:
        checkpoint: the model, which is not changed.
        ids: the text, [N]; of a model of documents with the boundary after each of them, where the state begins anew.
        how: rule, rate, decay, segments.
        device: where torch works.
    """
    documents = checkpoint.data.documents
    before = start_ids(checkpoint.tokenizer, documents)[-1:]
    learner = DynamicModel(checkpoint, before, how, device)
    state = learner.initial_state()
    ends = np.flatnonzero(ids == BOUNDARY_ID) + 1 if documents != NONE else np.zeros(0, dtype=np.int64)
    for begin, end in [*pairwise([0, *ends.tolist()]), (int(ends[-1]) if len(ends) else 0, len(ids))]:
        for place in range(begin, end, how.segment_ids):
            targets = ids[place : min(end, place + how.segment_ids)]
            log_probs, state = learner.read(np.concatenate([before, targets[:-1]]), targets, state)
            yield log_probs
            before = targets[-1:]
        state = learner.initial_state()


def evaluate_adapted(
    checkpoint: Checkpoint, text: str, how: Adaptation, device: str = "cpu"
) -> Iterator[float | AdaptedEvaluation]:
    """Measure a whole text by dynamic evaluation: yield the share of it that is done, now and then; last the result.

    Raises:
        CorpusError: the text is empty.
        DivergenceError: the rate is too high for this model.
    """
    whole = WholeText.of(text, checkpoint.tokenizer, checkpoint.data)
    parts, done = [], 0
    for part in adapted_log_probs(checkpoint, whole.ids, how, device):
        parts.append(part)
        done += len(part)
        yield done / len(whole.ids)
    yield AdaptedEvaluation(
        rule=how.rule,
        learning_rate=how.rate,
        decay=how.decay,
        segment_ids=how.segment_ids,
        chars=len(whole.text),
        **whole.units(np.concatenate(parts)),
    )
