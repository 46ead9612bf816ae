"""A worker writes a part for each slice that it can read, also if no row of the slice can be used."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet
import pytest

from chargen.bulk.local_engine import LocalEngine
from chargen.bulk.run import Finished, run_job
from chargen.bulk.score_rows import ScoreTask
from chargen.errors import TokenizerError
from chargen.lm import LanguageModel
from chargen.tokenizers.char import CharTokenizer
from chargen.tokenizers.tokenizer import Ids
from tests.conftest import random_model


def test_a_slice_of_which_the_tokenizer_refuses_every_text_is_a_part_without_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = LanguageModel(random_model(), "cpu")
    encode = CharTokenizer.encode

    def refuse(self: CharTokenizer, text: str) -> Ids:
        if text.strip():
            raise TokenizerError("the text cannot be encoded")
        return encode(self, text)  # of the newline before a text

    monkeypatch.setattr(CharTokenizer, "encode", refuse)
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    *_, last = run_job([str(tmp_path / "a.txt")], str(tmp_path / "out"), ScoreTask(), "0" * 64, LocalEngine(lm))
    assert isinstance(last, Finished)
    summary = last.summary
    assert (summary["rows_failed"], summary["rows_written"], summary["parts_unwritten"]) == (2, 0, 0)
    assert [failure["reason"] for failure in summary["failures"]] == ["the text cannot be encoded"] * 2
    table = pyarrow.parquet.read_table(tmp_path / "out" / "part-000000.parquet")
    assert (table.num_rows, table.column_names) == (0, ["text", *ScoreTask().columns])
