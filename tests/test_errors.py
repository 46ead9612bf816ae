"""The docstring of `errors.py` shows the real class tree, and an error consists of a message and a hint."""

from __future__ import annotations

import pickle
import re

import pytest

from chargen import errors
from chargen.errors import ChargenError

ALSO = re.compile(r"[├└]── (\w+) .*\(also an? (\w+)\)")
ALL = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, ChargenError) and error.__module__ == errors.__name__
]
IDS = [error.__name__ for error in ALL]


def test_the_docstring_lists_every_error_and_its_builtin_base_class():
    assert errors.__doc__ is not None
    listed = dict(ALSO.findall(errors.__doc__))
    builtin_bases = {e.__name__: e.__bases__[1].__name__ for e in ALL if e.__bases__[0] is ChargenError}
    assert listed == builtin_bases
    assert all(error.__name__ in errors.__doc__ for error in ALL)
    assert len(ALL) >= 9


@pytest.mark.parametrize("error", ALL, ids=IDS)
def test_the_text_of_an_error_is_its_message_and_its_hint(error):
    assert str(error("it is 5", "Say 4.")) == "it is 5\nSay 4."
    assert str(error("it is 5")) == "it is 5"
    assert (error("it is 5", "Say 4.").message, error("it is 5", "Say 4.").hint) == ("it is 5", "Say 4.")


@pytest.mark.parametrize("error", ALL, ids=IDS)
def test_an_error_can_be_pickled(error):
    sent = error("it is 5", "Say 4.")
    received = pickle.loads(pickle.dumps(sent))
    assert type(received) is error
    assert str(received) == str(sent)


def test_a_download_error_is_a_corpus_error():
    assert issubclass(errors.DownloadError, errors.CorpusError)
