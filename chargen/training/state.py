"""The training state of a stopped run as a value, checked when it is read.

A state names files and carries everything that training goes on from, so it is checked as strictly as a model: first
its header, against a description of the JSON and against the names, types and shapes that its own settings ask for;
then the numbers in its tensors. What comes out of `load_state` can be trained on, or fails with a stated error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chargen.cells import CELLS
from chargen.cells.weights import count_tensors, find_invalid_weight, parameter_shapes
from chargen.checkpoint import DamagedError, TensorInfo, Tensors, open_tensors
from chargen.config import MAX_SECONDS, MAX_STEPS, DataConfig, ModelConfig, TrainConfig
from chargen.errors import ChargenError, ModelError
from chargen.io import decode_file_name
from chargen.schema import Integer, ListOf, Nullable, Number, Record, Spec, String, Tuple
from chargen.tokenizers.tokenizer import Tokenizer, tokenizer_from_json

MAX_GENERATOR_BYTES = 1 << 16  #: of a random generator's state; torch's on a CPU has 5,056
LOSS = Nullable(Number())  #: null where it was not a finite number

FILES = Nullable(ListOf(Tuple((String(), Nullable(Integer())))))  #: names, and sizes in bytes; no size: no file

STATE: Spec = Record(
    {
        "corpus_sha256": String(64, 64),
        "corpus_arguments": ListOf(String()),
        "val_argument": Nullable(String()),
        "tokenizer": Record({"name": String(100)}),
        "data": Record(),
        "model": Record(),
        "train": Record(),
        "trainer": Record(
            {
                "step": Integer(0, MAX_STEPS),
                "epoch": Integer(0, MAX_STEPS),
                "window": Integer(0, MAX_STEPS),
                "losses": Tuple((Number(), Integer(0, MAX_STEPS))),
            }
        ),
        "best": Tuple((LOSS, Integer(0, MAX_STEPS))),
        "elapsed_s": Number(0.0, MAX_SECONDS),
        "first_step_s": Nullable(Number(0.0, MAX_SECONDS)),
        "history": ListOf(Record({"step": Integer(0, MAX_STEPS), "train": LOSS, "val": LOSS})),
    },
    optional={"val_sha256": Nullable(String(64, 64)), "corpus_files": FILES, "val_files": FILES},  # new in this version
)


@dataclass(frozen=True)
class State:
    """All that a resumed run needs."""

    corpus_sha256: str
    corpus_arguments: tuple[str, ...]  #: what was read, as the person named it
    corpus_files: list[list[Any]] | None  #: what was read: see `Corpus.parts`; None in files of the first version
    val_argument: str | None
    val_files: list[list[Any]] | None
    val_sha256: str | None  #: of the validation text, where it is one of its own
    tokenizer: Tokenizer
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    trainer: Mapping[str, Any]  #: `Trainer.numbers()`: step, epoch, window, losses
    best_loss: float  #: infinite where there is no best model yet
    best_step: int
    elapsed_s: float
    first_step_s: float | None
    history: tuple[dict[str, float], ...]
    tensors: Tensors = field(repr=False)


def load_state(path: Path) -> State:
    """Read and check a training state.

    Raises:
        ModelError: the file is missing, damaged, not a training state, or does not fit together.
    """
    with open_tensors(path) as file:
        try:
            described = file.metadata
            STATE.check(described, "header")
            model = ModelConfig.from_json(described["model"])
            train = TrainConfig.from_json(described["train"])
            _check_numbers(described)
            _check_header(model, train, described["best"][0] is not None, file.tensors)
            tokenizer = tokenizer_from_json(described["tokenizer"])
            if tokenizer.vocab_size != model.vocab_size:
                raise ModelError(f"its vocabulary has {tokenizer.vocab_size:,} ids, its network {model.vocab_size:,}")
            tensors = file.read()
            _check_values(model, tensors)
        except ChargenError as error:
            if isinstance(error, DamagedError):
                raise
            raise ModelError(
                f"{path} cannot be used: {error.message}", error.hint or "Train anew, or begin from its model."
            ) from error
        best_loss, best_step = described["best"]
        return State(
            described["corpus_sha256"],
            tuple(decode_file_name(name) for name in described["corpus_arguments"]),
            described.get("corpus_files"),
            decode_file_name(described["val_argument"]) if described["val_argument"] else None,
            described.get("val_files"),
            described.get("val_sha256"),
            tokenizer,
            DataConfig.from_json(described["data"]),
            model,
            train,
            described["trainer"],
            math.inf if best_loss is None else float(best_loss),
            best_step,
            float(described["elapsed_s"]),
            described["first_step_s"],
            tuple({k: math.nan if v is None else v for k, v in look.items()} for look in described["history"]),
            tensors,
        )


def _check_numbers(described: Mapping[str, Any]) -> None:
    """Check what the numbers of a state say of each other."""
    (best_loss, best_step), step = described["best"], described["trainer"]["step"]
    if best_step > step or (best_step > 0 and (best_loss is None or not described["history"])):
        raise ModelError(f"its best model is of step {best_step:,}, which it does not know")
    if described["first_step_s"] is not None and described["first_step_s"] > described["elapsed_s"]:
        raise ModelError("its first step was made after its last")


def _check_header(model: ModelConfig, train: TrainConfig, has_best: bool, tensors: Mapping[str, TensorInfo]) -> None:
    """Check the names, types and shapes of a state's tensors, in time proportional to their number."""
    if count_tensors(model) > len(tensors):  # do not name thousands of weights to say which is missing
        raise ModelError(f"it has {len(tensors):,} tensors, which are not all of its network's weights")
    lanes = tensors["state.0.0"].shape[:1] if "state.0.0" in tensors else ()
    if not lanes or not 1 <= lanes[0] <= train.batch_size:
        raise ModelError("its carried state does not fit its batch size")
    expected = _expected(model, has_best, lanes[0])
    for name, wanted in expected.items():
        if name not in tensors:
            raise ModelError(f"the tensor {name!r} is missing")
        found = tensors[name]
        if found != wanted and not (name == "dropout" and _is_generator_state(found)):
            raise ModelError(
                f"the tensor {name!r} is {found.dtype} {list(found.shape)}, but its settings say "
                f"{wanted.dtype} {list(wanted.shape)}"
            )
    for name in tensors:
        if name not in expected:
            raise ModelError(f"the tensor {name!r} belongs to no part of the state")


def _is_generator_state(tensor: TensorInfo) -> bool:
    """Tell whether a tensor may be a random generator's state, whose size only its device knows."""
    return tensor.dtype == "U8" and len(tensor.shape) == 1 and 1 <= tensor.shape[0] <= MAX_GENERATOR_BYTES


def _expected(model: ModelConfig, has_best: bool, lanes: int) -> dict[str, TensorInfo]:
    """Return the type and shape of every tensor of a state by its name."""
    shapes, expected = parameter_shapes(model), {"dropout": TensorInfo("U8", (0,))}
    for name, shape in shapes.items():
        expected[f"weights.{name}"] = TensorInfo("F32", shape)
        if has_best:
            expected[f"best.{name}"] = TensorInfo("F32", shape)
        parameter = name.replace(".", "__")
        if name == "ngrams.weight":
            expected[f"squares.{parameter}"] = TensorInfo("F32", shape[:1])
            continue
        expected[f"exp_avg.{parameter}"] = expected[f"exp_avg_sq.{parameter}"] = TensorInfo("F32", shape)
        expected[f"step.{parameter}"] = TensorInfo("F32", (1,))
    for layer in range(model.total_layers):
        for part, _ in enumerate(CELLS.get(model.cell).state_names):
            expected[f"state.{layer}.{part}"] = TensorInfo("F32", (lanes, model.hidden_size))
    if model.ngrams:
        expected[f"state.{model.total_layers}.0"] = TensorInfo("I64", (lanes, model.ngrams - 1))
    return expected


def _check_values(model: ModelConfig, tensors: Tensors) -> None:
    """Check the numbers in a state's tensors."""
    for kind in ("weights.", "best."):
        weights = ((name.removeprefix(kind), t) for name, t in tensors.items() if name.startswith(kind))
        found = find_invalid_weight(weights)
        if found:
            raise ModelError(found, "Train again; a lower --lr keeps weights small.")
    for name, tensor in tensors.items():
        kind = name.partition(".")[0]
        low, high = float(tensor.min()), float(tensor.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ModelError(f"the tensor {name!r} holds NaN or infinity")
        if kind in ("exp_avg_sq", "squares", "step") and low < 0.0:
            raise ModelError(f"the tensor {name!r} holds {low:g}, but must not be negative")
        if kind == "step" and high > MAX_STEPS:
            raise ModelError(f"the tensor {name!r} holds {high:g}, but must be at most {MAX_STEPS:g}")
        if tensor.dtype == np.int64 and not 0 <= low <= high < model.vocab_size:
            raise ModelError(f"the tensor {name!r} holds ids that are not of the vocabulary")
