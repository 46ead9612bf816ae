"""What the tests of reading share: an empty working directory, and a corpus that is refused."""

from pathlib import Path
from typing import Any

import pytest

from chargen.errors import ChargenError
from chargen.text.corpus import read_corpus


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*arguments: str, **more: Any) -> ChargenError:
    with pytest.raises(ChargenError) as caught:
        read_corpus(arguments, **more)
    assert caught.value.hint
    return caught.value
