"""The units of a model while it reads a text: their activations, and the property of the text that each one tracks.

Karpathy, Johnson & Li (2015, arXiv:1506.02078) found units that are active inside quotes, or that count the characters
of a line. Here every unit of every layer is compared with every property of `text_properties.py`:

    yes or no   the area under the ROC curve (AUC): the probability that the activation at a character with the property
                is larger than at one without it. 0.5 is chance; 0 and 1 are perfect.
    a number    the correlation coefficient r of Pearson.

A unit is one element of the state of a layer: of h, and of an LSTM also of c. Its activation at a character is its
value after the model has read it. Where a character has several token ids, it is the value after the last one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chargen.cells.weights import get_cells
from chargen.checkpoint import Checkpoint
from chargen.engines.interface import Engine, read_context, step_through
from chargen.errors import ConfigError
from chargen.probe.text_properties import TextProperty, text_properties
from chargen.schema import format_count
from chargen.tokenizers.direction import reverse, reverse_pieces
from chargen.tokenizers.tokenizer import StreamingDecoder

MAX_VALUES = 30_000_000  #: activations on a page; such a page has 40 MB


class Unit(NamedTuple):
    """A unit of a network. Layers and units count from 0, as in the names of the weights."""

    layer: int
    part: str  #: the part of the state: "h", or "c"
    number: int  #: its index in the part

    def __str__(self) -> str:
        return f"layer {self.layer} {self.part}[{self.number}]"


@dataclass(frozen=True)
class Activations:
    """The activations of all units at the characters of a text (at its pieces, if the tokenizer is sentencepiece).

    Attributes:
        pieces: The characters or pieces of the text, N of them. Joined, they are the text as the model reads it.
        units: The units, U of them.
        values: The activation of each unit after each piece, float32 [U, N].
    """

    pieces: tuple[str, ...]
    units: tuple[Unit, ...]
    values: NDArray[np.float32]


class Tracking(NamedTuple):
    """How well a unit tracks a property."""

    name: str  #: name of the property
    measure: str  #: "AUC" or "r"
    figure: float  #: the AUC, 0 to 1, or the correlation coefficient, −1 to 1
    strength: float  #: 0 for chance, 1 for perfect: |2·AUC − 1| or |r|

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"property": self.name, "measure": self.measure, "figure": self.figure, "strength": self.strength}


@dataclass(frozen=True)
class NeuronReport:
    """The units of a model on a text.

    Attributes:
        activations: Their activations.
        properties: The properties that vary in the text, P of them.
        missing: Names of the properties that do not, or that too few characters have.
        figures: AUC or r of each unit and property, float64 [U, P].
    """

    activations: Activations
    properties: tuple[TextProperty, ...]
    missing: tuple[str, ...]
    figures: NDArray[np.float64]

    @property
    def strengths(self) -> NDArray[np.float64]:
        """The strength of each unit and property, [U, P], from 0 (chance) to 1 (perfect)."""
        is_binary = np.array([each.is_binary for each in self.properties], dtype=np.bool_)
        return np.abs(np.where(is_binary, 2.0 * self.figures - 1.0, self.figures))

    def tracking(self, unit: int, column: int) -> Tracking:
        """Return how well a unit tracks a property; both are given by their number."""
        about = self.properties[column]
        figure = float(self.figures[unit, column])
        return Tracking(
            about.name, "AUC" if about.is_binary else "r", figure, abs(2 * figure - 1 if about.is_binary else figure)
        )

    def ranked(self) -> list[tuple[int, Tracking | None]]:
        """Return the number of each unit with the property that it tracks best, the best unit first.

        The property is None if no property varies in the text.
        """
        if not self.properties:
            return [(unit, None) for unit in range(len(self.activations.units))]
        strengths = self.strengths
        best = strengths.argmax(axis=1)
        order = np.argsort(-strengths.max(axis=1), kind="stable")
        return [(unit, self.tracking(unit, int(best[unit]))) for unit in order.tolist()]

    def best_units(self) -> Iterator[tuple[int, Tracking]]:
        """Yield, for each property, the number of the unit that tracks it best."""
        for column, unit in enumerate(self.strengths.argmax(axis=0).tolist()):
            yield unit, self.tracking(unit, column)


def probe_neurons(checkpoint: Checkpoint, engine: Engine, text: str) -> NeuronReport:
    """Read a text with a model, and compare its units with the properties of the text.

    Args:
        checkpoint: The model.
        engine: NumPy engine of the model.
        text: The text. The model reads it in the form of its training text.

    Raises:
        ConfigError: If the text is empty, or too long for a model of this size.
        TokenizerError: If the text cannot be encoded.
    """
    activations = read_activations(checkpoint, engine, text)
    ends = np.cumsum([len(piece) for piece in activations.pieces]) - 1
    properties = [each.at(ends) for each in text_properties("".join(activations.pieces))]
    varying = tuple(each for each in properties if each.varies)
    missing = tuple(each.name for each in properties if not each.varies)
    return NeuronReport(activations, varying, missing, track_properties(activations.values, varying))


def read_activations(checkpoint: Checkpoint, engine: Engine, text: str) -> Activations:
    """Return the activations of all units after each piece of a text; see `probe_neurons`.

    A backward model reads the text from its end; its pieces are in reading order, too.
    """
    text = checkpoint.reorder(checkpoint.normalize(text))
    if not text:
        raise ConfigError("the text is empty", "Give a text of at least one character.")
    cells = get_cells(checkpoint.config)
    step = read_context(engine, checkpoint.encode_context(None))
    parts = [  # (layer, number of the part in its state, its name) of all parts that have units
        (layer, part, name)
        for layer in range(len(step.state.layers))
        for part, name in enumerate(cells[layer % len(cells)].state_names)
        if name in cells[layer % len(cells)].unit_names
    ]
    units = tuple(
        Unit(layer, name, index)
        for layer, part, name in parts
        for index in range(step.state.layers[layer][part].shape[-1])
    )
    ids = checkpoint.tokenizer.encode(text)
    if len(ids) * len(units) > MAX_VALUES:
        raise ConfigError(
            f"{format_count(len(text), 'character')} are too many for a model of {len(units):,} units: a page can "
            f"have {MAX_VALUES:,} activations",
            f"Give a text of about {MAX_VALUES // len(units):,} characters, as with --max-chars.",
        )
    decoder = StreamingDecoder(checkpoint.tokenizer)
    pieces: list[str] = []
    rows: list[NDArray[np.float32]] = []
    start = 0
    for token_id, after in zip(ids.tolist(), step_through(engine, ids, step.state), strict=True):
        if decoded := decoder.feed(token_id):
            pieces.append(text[start : start + len(decoded)])  # an unknown character keeps its own text
            start += len(decoded)
            rows.append(np.concatenate([after.state.layers[layer][part][0] for layer, part, _ in parts]))
    if checkpoint.data.is_backward:
        groups = reverse_pieces(pieces)
        pieces = [reverse("".join(pieces[i] for i in group)) for group in groups]
        rows = [rows[group[-1]] for group in groups]
    return Activations(tuple(pieces), units, np.ascontiguousarray(np.stack(rows, axis=1), dtype=np.float32))


def track_properties(values: NDArray[np.float32], properties: Sequence[TextProperty]) -> NDArray[np.float64]:
    """Return how well each unit tracks each property: the AUC of a yes/no property, else the correlation, [U, P].

    A unit that does not change has the AUC 0.5 and the correlation 0.

    Args:
        values: Activations, [U, N].
        properties: Properties at the same N places, each of which varies.
    """
    figures = np.zeros((len(values), len(properties)))
    binary = [column for column, each in enumerate(properties) if each.is_binary]
    numeric = [column for column, each in enumerate(properties) if not each.is_binary]
    N = values.shape[1]
    has = np.array([properties[column].values for column in binary]).reshape(len(binary), N)  # [P, N] of 0 and 1
    num_with = has.sum(axis=1)
    num_pairs = num_with * (N - num_with)
    numbers = np.array([properties[column].values for column in numeric]).reshape(len(numeric), N)
    numbers = numbers - numbers.mean(axis=1, keepdims=True)
    norms = np.sqrt((numbers**2).sum(axis=1))
    for unit, row in enumerate(values):
        activations = row.astype(np.float64)
        if binary:
            rank_sums = has @ _midranks(activations)
            figures[unit, binary] = (rank_sums - num_with * (num_with + 1) / 2) / num_pairs
        centred = activations - activations.mean()
        if numeric and np.ptp(activations) > 0:
            figures[unit, numeric] = numbers @ centred / (norms * np.sqrt((centred**2).sum()))
    return figures


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value, from 1; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2.0
