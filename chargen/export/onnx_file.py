"""A trained model as an ONNX file, and the comparison of such a file with the NumPy engine.

The file has one step of the network (`graph/onnx_backend.py` lists its inputs and outputs). A text starts from a state
of zeros: the program that runs the file reads the start ids, then draws a token id from the logits, reads it, and so
on. What it needs for that is in the property list of the file, as JSON texts:

    format_version      the version of this list: 1
    chargen_version     the version of chargen that wrote the file
    vocabulary          the text of each token id, V entries; a list of bytes where it is not valid UTF-8 alone
    start_ids           the token ids that are read before the first character of every text
    end_ids             the token ids that end a text; null if the model can generate none
    unknown_id          the token id of all characters outside the vocabulary; null if no character is unknown
    masked_ids          the token ids that never occur: their probability is 0
    config              the architecture of the network
    tokenizer           the description of the tokenizer, as in the model file
    text_form           how a text is prepared: Unicode normalization, newlines, documents, direction of reading
    corpus, corpus_sha256, val_bits_per_char    about the training; null where the model file does not say it
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chargen import __version__
from chargen.cells.cell import NetworkState
from chargen.cells.weights import MASKED_LOGIT, get_cells
from chargen.engines.numpy_engine import NumpyEngine
from chargen.errors import ChargenError
from chargen.graph.graph import TraceError
from chargen.graph.onnx_backend import HISTORY, LOGITS, NEXT, STATE, TOKEN_IDS, build_onnx_model
from chargen.registry import import_extra

if TYPE_CHECKING:
    from chargen.checkpoint import Checkpoint
    from chargen.tokenizers.tokenizer import Tokenizer

FORMAT_VERSION = 1
MAX_DIFFERENCE = 1e-4  #: largest difference of two logits that rounding explains, relative to the largest logit
CHECKED_STEPS, CHECKED_STREAMS = 500, 2  #: tokens of each text, and texts, of a comparison


def make_onnx(checkpoint: Checkpoint) -> bytes:
    """Return the content of the ONNX file of a model; the same model always gives the same bytes.

    Raises:
        ChargenError: If the package onnx is not installed, a cell cannot be expressed in ONNX, or the file would be
            larger than the format allows.
    """
    traced = NumpyEngine(checkpoint.config, checkpoint.weights).traced
    problem = "it has an operation that the graph compiler cannot trace"
    try:
        if traced is not None:
            names = list_state_names(checkpoint)
            metadata = make_metadata(checkpoint)
            model = build_onnx_model(traced.plan, traced.input_table, names, traced.ngrams, metadata)
            return bytes(model.SerializeToString(deterministic=True))
    except TraceError as error:
        problem = str(error)
    raise ChargenError(
        f"the cell {checkpoint.config.cell!r} cannot be written as ONNX: {problem}", "Use a cell of chargen's own."
    )


def list_state_names(checkpoint: Checkpoint) -> list[str]:
    """Return a name for each part of the state, layer by layer over all ensemble members: "0.h", "0.c", "1.h", …"""
    config = checkpoint.config
    cells = get_cells(config) * config.ensemble_size
    return [f"{layer}.{part}" for layer, cell in enumerate(cells) for part in cell.state_names]


def make_metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the property list of the file: JSON texts by name."""
    tokenizer, data, about = checkpoint.tokenizer, checkpoint.data, checkpoint.about
    end_ids = checkpoint.end_ids
    values = {
        "format_version": FORMAT_VERSION,
        "chargen_version": __version__,
        "vocabulary": list_token_texts(tokenizer),
        "start_ids": checkpoint.start_ids.tolist(),
        "end_ids": None if end_ids is None else end_ids.tolist(),
        "unknown_id": tokenizer.unknown_id,
        "masked_ids": tokenizer.masked_ids(checkpoint.has_documents),
        "config": checkpoint.config.to_json(),
        "tokenizer": tokenizer.to_json(),
        "text_form": {name: getattr(data, name) for name in ("normalize", "newline", "documents", "direction")},
        "corpus": about.get("corpus"),
        "corpus_sha256": about.get("corpus_sha256"),
        "val_bits_per_char": about.get("result", {}).get("val_bits_per_char"),
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def list_token_texts(tokenizer: Tokenizer) -> list[str | list[int]]:
    """Return the text of each token id; the values of its bytes where it is a part of a character."""
    texts: list[str | list[int]] = []
    for token_id in range(tokenizer.vocab_size):
        token = tokenizer.token_bytes(token_id)
        try:
            texts.append(token.decode("utf-8"))
        except UnicodeDecodeError:
            texts.append(list(token))
    return texts


class OnnxStepper:
    """Runs an ONNX file of this module with onnxruntime, on the CPU. Its state is that of B texts.

    Args:
        model: The content of the file.
        batch_size: The number of texts, B.

    Raises:
        ChargenError: If the package onnxruntime is not installed, or cannot read the file.
    """

    def __init__(self, model: bytes, batch_size: int) -> None:
        runtime = import_extra("onnxruntime", "onnx", "running an ONNX file")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # the products of a step are too small to divide
        options.log_severity_level = 3  # errors only: nothing but chargen writes to stderr
        try:
            self._session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has exception classes without a common base
            version = getattr(runtime, "__version__", "")
            raise ChargenError(
                f"onnxruntime {version} cannot read the file: {error}", "pip install --upgrade onnxruntime"
            ) from error
        self.state: dict[str, NDArray[Any]] = {}  #: the parts of the state by the name of the input
        for entry in self._session.get_inputs():
            if entry.name.startswith((STATE, HISTORY)):
                dtype = np.int64 if entry.name == HISTORY else np.float32
                self.state[entry.name] = np.zeros((batch_size, entry.shape[1]), dtype=dtype)
        self._outputs = [LOGITS, *(f"{NEXT}{name}" for name in self.state)]

    def step(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Read one token id per text, [B], and return the logits of the next token, [B, V]."""
        inputs = {TOKEN_IDS: np.asarray(ids, dtype=np.int64), **self.state}
        logits, *after = self._session.run(self._outputs, inputs)
        self.state = dict(zip(self.state, after, strict=True))
        return np.asarray(logits)


@dataclass(frozen=True)
class Comparison:
    """How much the logits of an ONNX file differ from those of the NumPy engine."""

    tokens: int  #: token ids that both have read
    largest_difference: float  #: largest absolute difference of two logits
    largest_logit: float  #: largest absolute value of a logit, without those of masked token ids

    @property
    def relative_difference(self) -> float:
        """The largest difference, relative to the largest logit if that is above 1."""
        return self.largest_difference / max(1.0, self.largest_logit)


def compare_with_engine(
    model: bytes, checkpoint: Checkpoint, num_steps: int = CHECKED_STEPS, num_streams: int = CHECKED_STREAMS
) -> Comparison:
    """Let onnxruntime and the NumPy engine read the same texts, which the model generates, and compare all logits.

    Each carries its own state from the first token id to the last.

    Args:
        model: The content of an ONNX file.
        checkpoint: The model from which the file was made.
        num_steps: Length of each text, in tokens.
        num_streams: Number of texts, which are read as one batch.

    Raises:
        ChargenError: If onnxruntime is not installed, cannot read the file, or gives other logits than the engine.
    """
    engine = NumpyEngine(checkpoint.config, checkpoint.weights)
    state: NetworkState = engine.initial_state(num_streams)
    stepper, rng = OnnxStepper(model, num_streams), np.random.default_rng(0)
    is_possible = checkpoint.weights["head.bias"] > MASKED_LOGIT / 2
    difference = largest = 0.0
    ids = np.full(num_streams, checkpoint.start_ids[-1])
    for step in range(num_steps):
        expected, state = engine.step(ids, state)
        found = stepper.step(ids)
        expected, found = expected[:, is_possible], found[:, is_possible]
        difference = max(difference, float(np.abs(expected - found).max()))
        largest = max(largest, float(np.abs(expected).max()))
        result = Comparison((step + 1) * num_streams, difference, largest)
        if not result.relative_difference <= MAX_DIFFERENCE:  # true for NaN, too
            raise ChargenError(
                f"the ONNX file gives other logits than chargen: at token {step + 1:,} they differ by "
                f"{difference:.3g}, and the largest logit is {largest:.3g}",
                "No file was written. Upgrade onnx and onnxruntime, and report this with the model if it remains.",
            )
        ids = np.flatnonzero(is_possible)[(expected + rng.gumbel(size=expected.shape)).argmax(axis=1)]
    return result
