"""chargen: train small language models on your own text, generate text with them, and score text.

>>> import chargen
>>> model = chargen.load("shakespeare")          # doctest: +SKIP
>>> print(model.sample(prompt="ROMEO:", temperature=0.8))   # doctest: +SKIP

Each public name is imported on first use, so `import chargen` loads neither torch nor NumPy.
"""

# Nothing else is imported here, not even `typing`. `python -m chargen` has the working directory on its path until
# `__main__.py` removes it, so an import here could load a file from there.
import importlib

TYPE_CHECKING = False  # type checkers treat this name as true
if TYPE_CHECKING:
    from chargen import errors
    from chargen.api import load, train, train_events
    from chargen.config import DataConfig
    from chargen.errors import ChargenError
    from chargen.lm import LanguageModel
    from chargen.sampling.settings import SampleConfig, SampleSettings
    from chargen.scoring.scorer import Score
    from chargen.text.corpus import Corpus, read_corpus
    from chargen.text.series.corpus import corpus_of_values
    from chargen.training.choices import ModelChoices, TrainChoices

__version__ = "0.1.0"

__all__ = [
    "ChargenError",
    "Corpus",
    "DataConfig",
    "LanguageModel",
    "ModelChoices",
    "SampleConfig",
    "SampleSettings",
    "Score",
    "TrainChoices",
    "__version__",
    "corpus_of_values",
    "errors",
    "load",
    "read_corpus",
    "train",
    "train_events",
]

_MODULES = {
    "ChargenError": "chargen.errors",
    "Corpus": "chargen.text.corpus",
    "DataConfig": "chargen.config",
    "LanguageModel": "chargen.lm",
    "ModelChoices": "chargen.training.choices",
    "SampleConfig": "chargen.sampling.settings",
    "SampleSettings": "chargen.sampling.settings",
    "Score": "chargen.scoring.scorer",
    "TrainChoices": "chargen.training.choices",
    "corpus_of_values": "chargen.text.series.corpus",
    "load": "chargen.api",
    "read_corpus": "chargen.text.corpus",
    "train": "chargen.api",
    "train_events": "chargen.api",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return importlib.import_module("chargen.errors")
    if name not in _MODULES:
        raise AttributeError(f"module 'chargen' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
