"""Rankings of scores: in memory, on disk, and the N best agree; ties keep their order."""

from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.lm import LanguageModel
from chargen.scoring import ranking as ranking_module
from chargen.scoring.ranking import BEST, BY, WORST, DiskRanking, Top, rank
from chargen.scoring.scorer import Score
from tests.conftest import random_model

SCORES = st.builds(
    lambda text, nats: Score(text, -float(nats), len(text), len(text), 0),
    st.sampled_from(["", "a", "ab"]),
    st.integers(0, 3),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(SCORES, max_size=30),
    st.integers(1, 8),
    st.sampled_from(BY),
    st.sampled_from([BEST, WORST]),
    st.sampled_from([1000, 1 << 20]),
)
def test_top_and_disk_ranking_agree_with_rank(
    scores: list[Score], size: int, by: str, order: str, max_bytes: int
) -> None:
    positions = {id(score): position for position, score in enumerate(scores)}
    expected = [(positions[id(score)], score) for score in rank(scores, by, order)]
    top = Top(size, by, order)
    with patch.object(ranking_module, "MAX_MEMORY_BYTES", max_bytes), DiskRanking(by, order) as ranking:
        for position, score in enumerate(scores):
            top.add(position, score)
            ranking.add(position, score)
        assert list(ranking.ranked()) == expected
    assert top.ranked() == expected[:size]


def test_an_empty_text_is_last_unless_its_end_was_scored_and_totals_are_ranked() -> None:
    lm = LanguageModel(random_model())
    texts = ["dog", "", "The quick brown fox"]
    for by in BY:
        assert [score.text for score in rank(lm.score(texts, end=False), by)][-1] == ""
    ended = lm.score(texts, end=True)
    assert rank(ended, "total") == sorted(ended, key=lambda score: -score.log_prob_nats)
    assert rank(ended)[-1].text == ""


def test_ranking_is_stable_and_puts_empty_texts_last() -> None:
    lm = LanguageModel(random_model())
    ranked = rank(lm.score(["", "dog", "The", "dog"]))
    values = [s.bits_per_char for s in ranked[:-1]]
    assert values == sorted(values)
    assert ranked[-1].text == ""


def test_the_worst_first_is_the_reverse_order_with_empty_texts_still_last() -> None:
    lm = LanguageModel(random_model())
    scores = lm.score(["", "dog", "The", "quick fox", "☃"], end=False)
    for by in BY:
        best, worst = rank(scores, by), rank(scores, by, WORST)
        assert [score.text for score in worst] == [score.text for score in reversed(best[:-1])] + [""]
        assert worst[0].text == ("☃" if by != "total" else worst[0].text)
