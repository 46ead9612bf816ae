"""chargen: small language models of your own text.

>>> import chargen
>>> model = chargen.load("shakespeare")          # doctest: +SKIP
>>> print(model.sample(prompt="ROMEO:", temperature=0.8))   # doctest: +SKIP

The names are loaded when they are first used: importing chargen costs nothing.
"""

# Nothing else is imported, not even `typing`: `python -m chargen` has the working directory on its path until
# `__main__.py` takes it off.
import importlib

TYPE_CHECKING = False  # type checkers take it for true
if TYPE_CHECKING:
    from chargen.lm import LanguageModel, load
    from chargen.scoring.scorer import Score
    from chargen.text.corpus import Corpus, read_corpus
    from chargen.training.run import Plan, train

__version__ = "0.1.0"

__all__ = ["Corpus", "LanguageModel", "Plan", "Score", "__version__", "load", "read_corpus", "train"]

_WHERE = {
    "Corpus": "chargen.text.corpus",
    "LanguageModel": "chargen.lm",
    "Plan": "chargen.training.run",
    "Score": "chargen.scoring.scorer",
    "load": "chargen.lm",
    "read_corpus": "chargen.text.corpus",
    "train": "chargen.training.run",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'chargen' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
