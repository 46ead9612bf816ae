"""The tokenizer of characters."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chargen.tokenizers.char import CharTokenizer


@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), max_size=5))
def test_rows_decode_as_each_of_them(rows: list[list[int]]) -> None:
    tokenizer = CharTokenizer("aé中🙂")
    assert tokenizer.decode_rows(np.array(rows, dtype=np.int32).reshape(-1, 4)) == [tokenizer.decode(r) for r in rows]
    assert tokenizer.decode_rows(np.zeros((2, 0), dtype=np.int32)) == ["", ""]
