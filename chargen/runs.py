"""Runs on disk: one folder each, `checkpoints/NAME/`, and how a run or a model is found by name.

    checkpoints/NAME/
        model.safetensors             the best model so far
        training_state.safetensors    all that a resumed run needs
        metrics.jsonl                 one line per report
    checkpoints/.locks/               \
    checkpoints/.NAME.new/             } of the process that writes a run: `run_writer.py`
    checkpoints/.NAME.old/            /
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chargen.errors import ConfigError, ModelError
from chargen.registry import did_you_mean

# Folder of the runs; the environment variable is read once, when this module is imported.
CHECKPOINTS = Path(os.environ.get("CHARGEN_CHECKPOINTS") or "checkpoints")
MODEL_FILE = "model.safetensors"
STATE_FILE = "training_state.safetensors"
METRICS_FILE = "metrics.jsonl"
CLASSIFIER_FILE = "classifier.json"  #: of a folder of runs, one for each label (`classifier.py`)
LOCKS_FOLDER = ".locks"  #: folder of locks, beside the runs
RUN_FILES = (MODEL_FILE, STATE_FILE, METRICS_FILE)


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path
    name: str

    @property
    def model_path(self) -> Path:
        return self.folder / MODEL_FILE

    @property
    def state_path(self) -> Path:
        return self.folder / STATE_FILE

    @property
    def metrics_path(self) -> Path:
        return self.folder / METRICS_FILE


def check_name(name: str) -> None:
    """Check that a run can have this name.

    Raises:
        ConfigError: it cannot.
    """
    is_path = name in ("", ".", "..") or Path(name).name != name or "\\" in name
    if is_path:
        raise ConfigError(f"{name!r} cannot name a run", "Give a name, not a path: --name mine")
    if not name.isprintable():  # control characters, and bytes that are not UTF-8
        raise ConfigError(
            f"{name!r} cannot name a run: it holds control characters or bytes that are not UTF-8",
            "Give a name that can be printed: --name mine",
        )
    if name.startswith("."):
        raise ConfigError(f"{name!r} cannot name a run: names that begin with a dot are hidden", "Leave out the dot.")


def find_run(name: str, root: Path = CHECKPOINTS) -> Run:
    """Return the run of this name.

    Raises:
        ModelError: there is none; the message says which is near.
    """
    folder = _present(root / name) if name else None
    if folder is None:
        raise ModelError(f"no run named {name!r} under {root}/", _hint(name, root))
    return Run(folder, (root / name).name)


def find_model(spec: str | None, root: Path = CHECKPOINTS) -> Path:
    """Return the model file that a person means.

    Args:
        spec: a file's path, a run's folder or name; None for the newest run that has a model.

    Raises:
        ModelError: there is none.
    """
    if spec is None:
        models = _models(root)
        if not models:
            raise ModelError(f"no model under {root}/ yet", "Train one: chargen train corpus.txt")
        return models[-1]
    if not spec or "\0" in spec:
        raise ModelError(f"{spec!r} cannot name a model", "Give a model's file, a run's folder or a run's name.")
    if os.path.isfile(spec):
        return Path(spec)
    folders = [_present(folder) for folder in (Path(spec), root / spec)]
    for folder in folders:
        if folder is not None and os.path.isfile(folder / MODEL_FILE):
            return folder / MODEL_FILE
    for folder in folders:
        if folder is not None and os.path.isfile(folder / CLASSIFIER_FILE):
            raise ModelError(f"{folder} is a classifier, several models", f"Ask it: chargen classify -m {spec} …")
    if Path(spec).is_dir():
        raise ModelError(f"the folder {spec!r} has no {MODEL_FILE}", _hint(spec, root))
    if len(Path(spec).parts) > 1:
        raise ModelError(
            f"there is no file {spec}", "Give a model's file, a run's folder or its name under checkpoints/."
        )
    raise ModelError(f"no model named {spec!r} under {root}/", _hint(spec, root))


def list_run_names(root: Path = CHECKPOINTS) -> list[str]:
    """Return the names of the runs that have a model, oldest first."""
    return [path.parent.name for path in _models(root)]


def _models(root: Path) -> list[Path]:
    return [path for path in list_model_files(root) if os.path.isfile(path)]


def list_model_files(root: Path = CHECKPOINTS) -> list[Path]:
    """Return what has the name of a model file in a run's folder, oldest first; it need not be a regular file."""
    found = []
    for folder in sorted(root.iterdir()) if os.path.isdir(root) else []:
        path = folder / MODEL_FILE
        if folder.name.startswith("."):
            continue  # a run in the making
        try:
            found.append((path.stat().st_mtime, path))
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(path):
                found.append((0.0, path))
        except OSError:  # a folder without read permission: the error comes when the file is opened
            found.append((0.0, path))
    return [path for _, path in sorted(found, key=lambda item: item[0])]


def _hint(name: str, root: Path) -> str:
    return f"{did_you_mean(name, list_run_names(root))} (`chargen info` lists them)".strip()


def get_hidden_folder(folder: Path, kind: str) -> Path:
    """Return the hidden folder beside a run's: of kind "new" or "old"."""
    real = Path(os.path.realpath(folder))
    return real.with_name(f".{real.name}.{kind}")


def get_staging_marker(folder: Path) -> Path:
    """Return the file that says that the hidden folders beside a run's are chargen's, not a person's."""
    real = Path(os.path.realpath(folder))
    return real.parent / LOCKS_FOLDER / f"{real.name}.staged"


def _present(folder: Path) -> Path | None:
    """Return a run's folder, or the one that was about to take its place when the process was killed; None if none."""
    if folder.is_dir():
        return folder
    if get_staging_marker(folder).exists():
        for candidate in (get_hidden_folder(folder, "new"), get_hidden_folder(folder, "old")):
            if (candidate / MODEL_FILE).is_file():
                return candidate
    return None
