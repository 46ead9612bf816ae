"""Rankings of scores: in memory, on disk, and the N best agree; ties keep their order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.lm import LanguageModel
from chargen.scoring.ranking import BY, DiskRanking, Top, rank
from chargen.scoring.scorer import Score
from tests.conftest import random_model

SCORES = st.builds(
    lambda text, nats: Score(text, -float(nats), len(text), len(text), 0),
    st.sampled_from(["", "a", "ab"]),
    st.integers(0, 3),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(SCORES, max_size=30), st.integers(1, 8), st.sampled_from(BY))
def test_top_and_disk_ranking_agree_with_rank(scores: list[Score], size: int, by: str) -> None:
    positions = {id(score): position for position, score in enumerate(scores)}
    expected = [(positions[id(score)], score) for score in rank(scores, by)]
    top = Top(size, by)
    with DiskRanking(by) as ranking:
        for position, score in enumerate(scores):
            top.add(position, score)
            ranking.add(score)
        assert list(ranking.ranked()) == expected
    assert top.best() == expected[:size]


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
