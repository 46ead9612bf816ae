"""Where runs live on disk: `checkpoints/NAME/`, and how a model is found by name.

model.safetensors             the best model so far
training_state.safetensors    all that a resumed run needs
metrics.jsonl                 a line for each report
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from chargen.errors import ConfigError, ModelError, StorageError
from chargen.registry import did_you_mean

CHECKPOINTS = Path("checkpoints")
MODEL_FILE = "model.safetensors"
STATE_FILE = "training_state.safetensors"
METRICS_FILE = "metrics.jsonl"
CLASSIFIER_FILE = "classifier.json"  #: of a folder of runs, one for each label (`classifier.py`)


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def model(self) -> Path:
        return self.folder / MODEL_FILE

    @property
    def state(self) -> Path:
        return self.folder / STATE_FILE

    @property
    def metrics(self) -> Path:
        return self.folder / METRICS_FILE


def create_run(name: str, *, force: bool = False, root: Path = CHECKPOINTS) -> Run:
    """Make a new run's folder: `name`, or `name-2`, `name-3`, … where that is taken.

    Args:
        force: replace a run of that name instead.

    Raises:
        ConfigError: the name is a path.
        StorageError: the folder cannot be made, or is not a run's.
    """
    if name in ("", ".", "..") or Path(name).name != name or "\0" in name:
        raise ConfigError(f"{name!r} cannot name a run", "Give a name, not a path: --name mine")
    try:
        root.mkdir(parents=True, exist_ok=True)
        if force and (root / name).exists():
            _remove(Run(root / name))
        for taken in range(1, 10_000):
            folder = root / (name if taken == 1 else f"{name}-{taken}")
            try:
                folder.mkdir()  # exclusive: two runs that start together get two folders
            except FileExistsError:
                continue
            return Run(folder)
    except OSError as error:
        raise StorageError(
            f"{root / name} cannot be made: {error.strerror or error}", "Work in a folder that you may write to."
        ) from error
    raise StorageError(f"{root} has 10,000 runs named {name}", "Give another --name.")


def find_run(name: str, root: Path = CHECKPOINTS) -> Run:
    """Return the run of this name.

    Raises:
        ModelError: there is none; the message says which is near.
    """
    run = Run(root / name)
    if not run.folder.is_dir():
        raise ModelError(f"no run named {name!r} under {root}/", _hint(name, root))
    return run


def find_model(spec: str | None, root: Path = CHECKPOINTS) -> Path:
    """Return the model file that a person means.

    Args:
        spec: a file's path, a run's folder or name; None for the newest run that has a model.

    Raises:
        ModelError: there is none.
    """
    if spec is None:
        models = [path for path in model_files(root) if os.path.isfile(path)]
        if not models:
            raise ModelError(f"no model under {root}/ yet", "Train one: chargen train corpus.txt")
        return models[-1]
    for path in (Path(spec), Path(spec) / MODEL_FILE, root / spec / MODEL_FILE):
        if os.path.isfile(path):  # unlike `Path.is_file`, also of a folder that may not be read
            return path
    for folder in (Path(spec), root / spec):
        if os.path.isfile(folder / CLASSIFIER_FILE):
            raise ModelError(f"{folder} is a classifier, several models", f"Ask it: chargen classify -m {spec} …")
    if Path(spec).is_dir():
        raise ModelError(f"the folder {spec!r} has no {MODEL_FILE}", _hint(spec, root))
    if len(Path(spec).parts) > 1:
        raise ModelError(
            f"there is no file {spec}", "Give a model's file, a run's folder or its name under checkpoints/."
        )
    raise ModelError(f"no model named {spec!r} under {root}/", _hint(spec, root))


def run_names(root: Path = CHECKPOINTS) -> list[str]:
    """Return the names of the runs that have a model, oldest first."""
    return [path.parent.name for path in model_files(root) if os.path.isfile(path)]


def model_files(root: Path = CHECKPOINTS) -> list[Path]:
    """Return what has the name of a model file in a run's folder, oldest first; it need not be a regular file."""
    found = []
    for folder in sorted(root.iterdir()) if os.path.isdir(root) else []:
        path = folder / MODEL_FILE
        try:
            found.append((path.stat().st_mtime, path))
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(path):
                found.append((0.0, path))
        except OSError:  # a folder that may not be read: whoever opens the file is told so
            found.append((0.0, path))
    return [path for _, path in sorted(found, key=lambda item: item[0])]


def _hint(name: str, root: Path) -> str:
    return f"{did_you_mean(name, run_names(root))} (`chargen info` lists them)".strip()


def _remove(run: Run) -> None:
    """Remove a run's folder, and refuse to remove a folder that holds anything else."""
    others = [
        path.name
        for path in run.folder.iterdir()
        if not path.name.startswith((MODEL_FILE, STATE_FILE, METRICS_FILE, "."))
    ]
    if others:
        raise StorageError(
            f"{run.folder} holds {others[0]!r}, which no run wrote", "Remove it yourself, or give another --name."
        )
    shutil.rmtree(run.folder)
