"""Runs on disk: a run is a folder `checkpoints/NAME/`. This module finds runs and models by name.

    checkpoints/NAME/
        model.safetensors             the best model so far
        training_state.safetensors    everything that is needed to resume the run
        metrics.jsonl                 one line per training report
    checkpoints/.locks/               \
    checkpoints/.NAME.new/             } files of the process that writes a run: see `run_writer.py`
    checkpoints/.NAME.old/            /
"""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import NamedTuple

from chargen.errors import ChargenError, ConfigError, ModelError, WrongKindError
from chargen.folders import checkpoints_folder
from chargen.registry import did_you_mean, did_you_mean_file
from chargen.schema import format_name, is_short_name

MODEL_SUFFIX = ".safetensors"
MODEL_FILE = f"model{MODEL_SUFFIX}"
STATE_FILE = "training_state.safetensors"
METRICS_FILE = "metrics.jsonl"
CLASSIFIER_FILE = "classifier.json"  #: in a folder that contains one run per label: see `tasks/classification/`
ENCODER_FILE = "encoder.safetensors"  #: in the folder of a classifier that is an encoder: see `networks/encoder.py`
FORECASTER_FILE = "forecaster.safetensors"  #: in the folder of a forecaster: see `tasks/forecasting/`
LOCKS_FOLDER = ".locks"  #: name of the folder of lock files, in the same folder as the runs
TEXT_SAMPLE_BYTES = 4096  #: so much of a file is read to tell a text from something else
TEXT_CONTROLS = b"\t\n\v\f\r\x1b"  #: control characters that texts contain, in every encoding but UTF-16 and UTF-32
RUN_FILES = (MODEL_FILE, STATE_FILE, METRICS_FILE)


class Run(NamedTuple):
    """A run: its folder and its name."""

    folder: Path
    name: str

    @property
    def model_path(self) -> Path:
        """The path of the best model so far."""
        return self.folder / MODEL_FILE

    @property
    def state_path(self) -> Path:
        """The path of the training state."""
        return self.folder / STATE_FILE

    @property
    def metrics_path(self) -> Path:
        """The path of the training reports."""
        return self.folder / METRICS_FILE


def check_name(name: str) -> None:
    """Check that a string can be the name of a run.

    Raises:
        ConfigError: If the name is empty, is a path, cannot be printed, or starts with a dot.
    """
    is_path = name in ("", ".", "..") or Path(name).name != name or "\\" in name
    if is_path:
        raise ConfigError(f"{name!r} cannot name a run", "Give a name, not a path: --name mine")
    if not name.isprintable():  # control characters, and bytes that are not UTF-8
        raise ConfigError(
            f"{name!r} cannot name a run: it contains control characters or bytes that are not UTF-8",
            "Give a name that can be printed: --name mine",
        )
    if name.startswith("."):
        raise ConfigError(f"{name!r} cannot name a run: names that start with a dot are hidden", "Leave out the dot.")


def check_new_name(name: str) -> None:
    """Check that a string can be the name of a new run; runs of earlier versions may start with a dash.

    Raises:
        ConfigError: If it cannot name a run, or starts with a dash.
    """
    check_name(name)
    if name.startswith("-"):
        raise ConfigError(
            f"{name!r} cannot name a run: commands would take a name that starts with a dash for an option",
            "Leave out the dash.",
        )


def find_run(name: str, root: Path | None = None) -> Run:
    """Return the run with this name.

    Raises:
        ModelError: If there is no such run. The hint suggests the most similar name.
    """
    root = root or checkpoints_folder()
    folder = _find_folder(root / name) if name else None
    if folder is None:
        raise ModelError(f"no run named {name!r} under {root}/", _similar_name_hint(name, root))
    return Run(folder, (root / name).name)


def split_run_path(name: str, root: Path) -> tuple[Path, str]:
    """Return (folder of all runs, name of the run) of a run that is given by its name or by a path.

    A path is the folder of a run ("checkpoints/verse") or one of the files in it. A run under `root` comes first.
    """
    path = Path(name)
    if not name or "\0" in name or _find_folder(root / name) is not None:
        return root, name
    if path.name in RUN_FILES and os.path.isfile(path):
        path = path.parent
    if any(os.path.lexists(path / file) for file in RUN_FILES):
        return path.absolute().parent if path.name in ("", "..") else path.parent, path.absolute().name
    return root, name


def find_model(spec: str | None, root: Path | None = None) -> Path:
    """Return the path of a model file.

    Args:
        spec: Path of a model file, folder of a run, or name of a run; None for the newest run that has a model, except
            for models that are worse than the uniform distribution. The name of a run comes before a file that is not a
            model, such as the text that the run was trained on.
        root: Folder of all runs; None for `checkpoints_folder()`.

    Raises:
        ModelError: If there is no such model.
    """
    root = root or checkpoints_folder()
    if spec is None:
        return _find_newest_model(root)
    if not spec or "\0" in spec:
        raise ModelError(
            f"{format_name(spec)} cannot name a model", "Give a model file, the folder of a run or its name."
        )
    if os.path.isfile(spec) and _has_model_header(spec):
        return Path(spec)
    folders = [_find_folder(folder) for folder in (Path(spec), root / spec)]
    for folder in folders:
        if folder is not None and os.path.isfile(folder / MODEL_FILE):
            return folder / MODEL_FILE
    if os.path.isfile(spec):
        _check_not_text(spec)
        return Path(spec)
    if any(folder is not None and os.path.isfile(folder / FORECASTER_FILE) for folder in folders):
        raise WrongKindError.of(spec, "forecaster")
    classifier = find_classifier(spec, root)
    if classifier is not None and os.path.lexists(classifier.with_name(ENCODER_FILE)):
        raise WrongKindError.of(spec, "encoder")
    if classifier is not None:
        raise WrongKindError(
            f"{classifier.parent} is a classifier, which has several models", f"Use: chargen classify -m {spec} …"
        )
    if os.path.isdir(spec):
        raise ModelError(f"the folder {spec!r} has no {MODEL_FILE}", _similar_name_hint(spec, root))
    if len(Path(spec).parts) > 1:
        similar = did_you_mean_file(spec, suffix=MODEL_SUFFIX)
        raise ModelError(
            f"there is no file {spec if is_short_name(spec) else format_name(spec)}",
            f"{similar} Give a model file, the folder of a run or its name under {root}/.".strip(),
        )
    raise ModelError(f"no model named {format_name(spec)} under {root}/", _similar_name_hint(spec, root))


def _has_model_header(path: str) -> bool:
    """Return whether a file begins like a model: with the length of its header in 8 bytes, and then with JSON.

    A file that cannot be read is treated as a model, so that the error is that of opening it.
    """
    try:
        with open(path, "rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError:
        return True


def _check_not_text(path: str) -> None:
    """Check that a file which was given as a model is not a text.

    Raises:
        ModelError: If it is one.
    """
    with open(path, "rb") as file:
        start = file.read(TEXT_SAMPLE_BYTES)
    if start and all(byte >= 32 or byte in TEXT_CONTROLS for byte in start):
        raise ModelError(
            f"{path} is a text, not a model file", f"Train a model on it first: chargen train {shlex.quote(path)}"
        )


def _find_newest_model(root: Path) -> Path:
    """Return the newest model that is better than the uniform distribution over its vocabulary.

    Raises:
        ModelError: If there is none.
    """
    models = _regular_model_files(root)
    if not models:
        raise ModelError(f"no model under {root}/ yet", "Train one: chargen train corpus.txt")
    for path in reversed(models):
        if not _is_worse_than_uniform(path):
            return path
    raise ModelError(
        f"every model under {root}/ is worse than the uniform distribution",
        f"Train longer (--budget), or name the model: -m {models[-1].parent.name}",
    )


def _is_worse_than_uniform(path: Path) -> bool:
    """Return whether a model file says that its validation loss is above that of the uniform distribution.

    A file that cannot be read is not worse: opening it gives the error. Files of earlier versions state no uniform
    loss; with one token for each character it is the log of the size of the vocabulary.
    """
    from chargen.about import MODEL_SPEC
    from chargen.checkpoint import open_tensors

    try:
        with open_tensors(path) as file:
            header = file.metadata
        MODEL_SPEC.check(header, "header")
    except ChargenError:
        return False
    about = header.get("about", {})
    loss = about.get("result", {}).get("val_loss_nats_per_char") or about.get("choice_loss_nats_per_char")
    uniform = about.get("uniform_loss_nats_per_char")
    if uniform is None and header["tokenizer"]["name"] == "char":
        uniform = math.log(max(1, int(header["config"].get("vocab_size") or 1)))
    return loss is not None and uniform is not None and loss > uniform


def find_classifier(spec: str, root: Path | None = None) -> Path | None:
    """Return the path of the file that describes a classifier, or None if there is no such classifier.

    Args:
        spec: Folder of a classifier, or its name.
        root: Folder of all runs; None for `checkpoints_folder()`.
    """
    if not spec or "\0" in spec:
        return None
    paths = (folder / CLASSIFIER_FILE for folder in (Path(spec), (root or checkpoints_folder()) / spec))
    return next((path for path in paths if os.path.isfile(path)), None)


def list_classifier_files(root: Path | None = None) -> list[Path]:
    """Return the files that describe the classifiers, in alphabetical order of their names."""
    return _list_files(CLASSIFIER_FILE, root)


def _list_files(name: str, root: Path | None) -> list[Path]:
    """Return the files of a name in the folders of the runs, in alphabetical order of the folders."""
    root = root or checkpoints_folder()
    folders = sorted(root.iterdir()) if os.path.isdir(root) else []
    paths = (folder / name for folder in folders if not folder.name.startswith("."))
    return [path for path in paths if os.path.isfile(path)]


def find_forecaster(spec: str, root: Path | None = None) -> Path | None:
    """Return the path of the file of a forecaster, or None if there is no such forecaster.

    Args:
        spec: File of a forecaster, folder of its run, or its name.
        root: Folder of all runs; None for `checkpoints_folder()`.
    """
    if not spec or "\0" in spec:
        return None
    if os.path.isfile(spec) and Path(spec).suffix == MODEL_SUFFIX:
        return Path(spec)
    paths = (folder / FORECASTER_FILE for folder in (Path(spec), (root or checkpoints_folder()) / spec))
    return next((path for path in paths if os.path.isfile(path)), None)


def list_forecaster_files(root: Path | None = None) -> list[Path]:
    """Return the files of the forecasters, in alphabetical order of their names."""
    return _list_files(FORECASTER_FILE, root)


def list_run_names(root: Path | None = None) -> list[str]:
    """Return the names of the runs that have a model, the oldest model first."""
    return [path.parent.name for path in _regular_model_files(root or checkpoints_folder())]


def _regular_model_files(root: Path) -> list[Path]:
    return [path for path in list_model_files(root) if os.path.isfile(path)]


def list_model_files(root: Path | None = None) -> list[Path]:
    """Return everything in a run's folder that has the name of a model file, the oldest first.

    The entries need not be regular files: they may be folders, broken links or FIFOs.
    """
    root = root or checkpoints_folder()
    timed_paths = []
    for folder in sorted(root.iterdir()) if os.path.isdir(root) else []:
        path = folder / MODEL_FILE
        if folder.name.startswith("."):
            continue  # a run that will replace another one
        try:
            timed_paths.append((path.stat().st_mtime, path))
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(path):
                timed_paths.append((0.0, path))
        except OSError:  # a folder without read permission; the error is raised when the file is opened
            timed_paths.append((0.0, path))
    return [path for _, path in sorted(timed_paths, key=lambda item: item[0])]


def _similar_name_hint(name: str, root: Path) -> str:
    hint = did_you_mean(name, list_run_names(root))
    if not hint and Path(name).suffix:
        hint = did_you_mean_file(name, suffix=MODEL_SUFFIX)
    return f"{hint} (`chargen info` lists them)".strip()


def get_hidden_folders(folder: Path) -> tuple[Path, Path]:
    """Return the hidden folders next to the folder of a run: (of the run that replaces it, of the replaced run)."""
    real = Path(os.path.realpath(folder))
    return real.with_name(f".{real.name}.new"), real.with_name(f".{real.name}.old")


def get_staging_marker(folder: Path) -> Path:
    """Return the path of the file whose existence says that chargen made the hidden folders of a run, not the user."""
    real = Path(os.path.realpath(folder))
    return real.parent / LOCKS_FOLDER / f"{real.name}.staged"


def _find_folder(folder: Path) -> Path | None:
    """Return the folder of a run, or None if there is none.

    If a process was killed while it exchanged two folders, this is the hidden folder with the model.
    """
    if os.path.isdir(folder):  # false for a name that is too long
        return folder
    if os.path.exists(get_staging_marker(folder)):
        for candidate in get_hidden_folders(folder):
            if (candidate / MODEL_FILE).is_file():
                return candidate
    return None
