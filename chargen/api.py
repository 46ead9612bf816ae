"""The functions of the library: `load` a model, or `train` one.

>>> import chargen
>>> model = chargen.train("poems.txt", budget="30s")             # doctest: +SKIP
>>> model = chargen.load("poems")                                # doctest: +SKIP
>>> model.sample(prompt="The ", temperature=0.8, length=80)      # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from chargen.checkpoint import load_checkpoint
from chargen.errors import ConfigError
from chargen.lm import LanguageModel, Notify
from chargen.runs import find_model
from chargen.schema import check_string, check_type

if TYPE_CHECKING:  # `load` needs none of these, and training imports torch
    from chargen.config import DataConfig
    from chargen.text.corpus import Corpus
    from chargen.text.series.quantizer import Quantizer
    from chargen.training.choices import ModelChoices, TrainChoices
    from chargen.training.events import Report

    Texts = str | Path | Corpus | Sequence[str | Path]
    OnEvent = Callable[[Report], object]


def load(model: str | Path | None = None, device: str = "auto", notify: Notify | None = None) -> LanguageModel:
    """Open a trained model.

    Args:
        model: Path of a model file, folder of a run, or name of a run under checkpoints/; None opens the newest run.
        device: Device for torch: "cpu", "cuda", "mps", or "auto" (a GPU if there is one).
        notify: Function that gets messages for a person, for example that a damaged cache is rebuilt; None drops them.

    Raises:
        ModelError, DeviceError: If there is no such model or device, or the model's file is damaged.
        TypeError: If `model` is neither a string nor a path.
    """
    if model is not None and not isinstance(model, (str, Path)):
        raise TypeError(f"model must be a path or a name, not {type(model).__name__}")
    path = find_model(None if model is None else str(model))
    return LanguageModel(load_checkpoint(path), device, path, notify)


def train(
    corpus: Texts,
    *,
    budget: str | float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    name: str = "",
    val: Texts | None = None,
    model: ModelChoices | None = None,
    training: TrainChoices | None = None,
    data: DataConfig | None = None,
    device: str = "auto",
    init_from: str | Path = "",
    force: bool = False,
    checkpoints: str | Path | None = None,
    on_event: OnEvent | None = None,
    notify: Notify | None = None,
) -> LanguageModel:
    """Train a model on a text, save it as a run, and return the best model.

    Args:
        corpus: File, folder, URL or built-in corpus; several of them, which are concatenated; or what `read_corpus`
            returns.
        budget: Time limit of the whole run: "30s", "1h30m" or seconds; default 5 minutes. A short text ends it earlier.
        steps: Number of optimizer steps, instead of a time.
        epochs: Number of passes over the text, instead of a time.
        name: Name of the run; the corpus name if it is empty. If it is taken, -2, -3, … is appended (see `notify`).
        val: Validation text; None holds out a part of the corpus.
        model: Settings of the network; a recipe chooses those that are left out.
        training: Settings of the training; a recipe chooses those that are left out.
        data: How the corpus is decoded, tokenized and split into documents. None: as `read_corpus` read it, or the
            defaults.
        device: "cpu", "cuda", "mps", or "auto" (a CUDA GPU if there is one).
        init_from: Path or name of a model whose weights and vocabulary the run starts from.
        force: Whether an existing run of this name is replaced.
        checkpoints: Folder of the runs; None for `CHARGEN_CHECKPOINTS`, or checkpoints/.
        on_event: Function that gets each report of the run: Started, Progress, Evaluated, Finished. If it raises an
            exception, the run ends as described for `train_events`.
        notify: Function that gets messages for a person: the `notes` of the report Started, and those of `load`.

    Raises:
        ChargenError: If the corpus, the settings or the disk do not allow the run, or if the loss diverged.
        ConfigError: If torchrun has started several processes; `chargen train` divides a run among them.
        TypeError: If an argument has another type.

    >>> model = chargen.train("poems.txt", budget="30s")  # doctest: +SKIP
    >>> model = chargen.train("poems.txt", steps=500, model=chargen.ModelChoices(hidden_size=64))  # doctest: +SKIP
    """
    _check_functions(on_event=on_event, notify=notify)
    reports = train_events(
        corpus, budget=budget, steps=steps, epochs=epochs, name=name, val=val, model=model, training=training,
        data=data, device=device, init_from=init_from, force=force, checkpoints=checkpoints,
    )  # fmt: skip
    for report in reports:
        if on_event is not None:
            on_event(report)
        if notify is not None:
            for note in getattr(report, "notes", ()):
                notify(note)
    return load(report.model_path, device, notify)  # type: ignore[union-attr]  # the last report is Finished


def train_events(
    corpus: Texts,
    *,
    budget: str | float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
    name: str = "",
    val: Texts | None = None,
    model: ModelChoices | None = None,
    training: TrainChoices | None = None,
    data: DataConfig | None = None,
    device: str = "auto",
    init_from: str | Path = "",
    force: bool = False,
    checkpoints: str | Path | None = None,
) -> Iterator[Report]:
    """Train a model and yield the reports of the run: Started, Progress and Evaluated, and Finished at the end.

    The corpus is read before this function returns. To stop the run early, stop iterating. The run then keeps the best
    model of the validations so far (`Evaluated`). Before the first validation there is none, and the run is discarded,
    unless its training state was saved meanwhile (once a minute).

    Args:
        corpus, budget, steps, epochs, name, val, model, training, data, device, init_from, force, checkpoints: As for
            `train`, which also lists the errors.

    >>> for event in chargen.train_events("poems.txt", steps=500):  # doctest: +SKIP
    ...     print(event.to_json())
    """
    from chargen.config import DataConfig
    from chargen.text.corpus import Corpus
    from chargen.training import run
    from chargen.training.choices import ModelChoices, RunLength, TrainChoices
    from chargen.training.ranks.launch import refuse_several_processes

    refuse_several_processes("chargen.train")
    _check_types(model, training, data, checkpoints)
    check_type(init_from, "init_from", str, Path)
    check_string(name, "name")
    check_string(device, "device")
    check_type(force, "force", bool)
    if data is None:
        data = (corpus.config if isinstance(corpus, Corpus) else None) or DataConfig()
    data, quantizer = _series_settings(corpus, data, init_from)
    length = RunLength(budget_s=_parse_budget(budget), steps=steps, epochs=epochs)
    read = _read("corpus", corpus, data, quantizer)
    plan = run.Plan(
        corpus=read,
        name=name,
        length=length,
        data=data,
        model=model or ModelChoices(),
        train=training or TrainChoices(),
        val_corpus=None if val is None else _read("val", val, data, read.quantizer),
        device=device,
        init_from=str(init_from) if init_from else "",
        force=force,
        root=None if checkpoints is None else Path(checkpoints),
    )
    return run.train(plan)


def _series_settings(corpus: Texts, data: DataConfig, init_from: str | Path) -> tuple[DataConfig, Quantizer | None]:
    """Return the data settings of a run, and the quantizer of its series: that of the corpus or of the initial model.

    Both determine the tokenizer. Without a quantizer the settings are unchanged.
    """
    from chargen.text.corpus import Corpus
    from chargen.training.init_from import read_quantizer

    quantizer = corpus.quantizer if isinstance(corpus, Corpus) else None
    quantizer = quantizer or (read_quantizer(str(init_from)) if init_from else None)
    return (replace(data, tokenizer=quantizer.spec) if quantizer else data), quantizer


def _check_functions(**functions: object) -> None:
    """Raise TypeError for an argument, named by its keyword, that is neither None nor a function."""
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function, not {type(function).__name__}")


def _parse_budget(budget: str | float | None) -> float | None:
    """Return a time limit in seconds.

    Raises:
        ConfigError: If it is not a duration; the message has the parameter's name.
    """
    from chargen.config import parse_duration_s

    try:
        return None if budget is None else parse_duration_s(budget)
    except ConfigError as error:
        raise ConfigError(f"budget: {error.message}", error.hint) from error


def _check_types(model: object, training: object, data: object, checkpoints: object) -> None:
    """Check the types of the arguments of `train` that may be None.

    Raises:
        TypeError: If one has another type; the message has the parameter's name.
    """
    from chargen.config import DataConfig
    from chargen.training.choices import ModelChoices, TrainChoices

    check_type(model, "model", ModelChoices, NoneType)
    check_type(training, "training", TrainChoices, NoneType)
    check_type(data, "data", DataConfig, NoneType)
    check_type(checkpoints, "checkpoints", str, Path, NoneType)


def _read(name: str, texts: Texts, data: DataConfig, quantizer: Quantizer | None) -> Corpus:
    """Return a corpus, which is read if `texts` names files; a series with a quantizer, if there is one.

    Raises:
        ConfigError: If the corpus was read in another form than `data` says.
        TypeError: If `texts` has another type; the message has the parameter's name.
    """
    from chargen.text.corpus import Corpus, read_corpus

    if isinstance(texts, Corpus):
        _check_form(name, texts, data)
        return texts
    try:
        return read_corpus(texts, data, quantizer=quantizer)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from error


def _check_form(name: str, corpus: Corpus, data: DataConfig) -> None:
    """Check that the text of a corpus has the form that it would have if `data` had been used to read it.

    Raises:
        ConfigError: If `documents`, `newline` or `normalize` differ.
    """
    for setting in ("documents", "newline", "normalize") if corpus.config else ():
        read, wanted = getattr(corpus.config, setting), getattr(data, setting)
        if read != wanted:
            raise ConfigError(
                f"{name} was read with {setting}={read!r}, but the run has {setting}={wanted!r}",
                f"Read it with config=chargen.DataConfig({setting}={wanted!r}), or train with "
                f"data=chargen.DataConfig({setting}={read!r}).",
            )
