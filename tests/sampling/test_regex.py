import importlib.util
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chargen.errors import ChargenError, ConfigError, CorpusError
from chargen.sampling import regex as regex_module
from chargen.sampling import regex_automaton
from chargen.sampling.regex import NEVER, Constraint, compile_regex
from chargen.tokenizers.byte import ByteTokenizer
from chargen.tokenizers.char import CharTokenizer
from chargen.tokenizers.tokenizer import Tokenizer, build_tokenizer

pytest.importorskip("outlines_core", reason="the extra chargen[regex] is not installed")

LENGTH = 5  # of the longest texts that are enumerated
AB = CharTokenizer("ab\n")
WORLD = CharTokenizer("aZ_-5 \n٣ệĐđ漢あ🙂\u3000")
PATTERNS = [
    "", "a", "a|ab", "ab|a", "a*?", "a??b", "(a|b)*abb", "^a+$", r"\Aa\Z", r"a\\", "(a$|b)", "(?:)", "a{2,4}b{0,2}",
    "(ab?){2}", "(a|ab)(b|bb)", "(a*)*b", ".*", "(?s).*", "(?s:.)a", "[^a]+", r"\n+", r"[\n-a]b", "(?i)AB",
    "(?P<name>a)b", "a[ab]{3}", "(?:a|b|ab)+?", r"\x61\n|\u0062", "(?x) a  b", "a|b|", "[a-b]{5}", "(?:a?){4}",
    "b(?:a(?:b(?:a)?)?)?",
]  # fmt: skip
WORLD_PATTERNS = [
    r"\w+", r"\W", r"\d", r"\D{2}", r"\s", r"\S", ".", r"[\w-]", "(?i)đ", "(?i)Ệ", "[^ệ漢]", "[あ-龯]{1,2}", "🙂?",
    r"[\U0001F600-\U0001F64F]", "[٣5]",
]  # fmt: skip


def written(automaton: Constraint, tokenizer: Tokenizer, length: int) -> set[str]:
    """All texts that the constraint allows; in every state there is an allowed id or a match."""
    texts, queue = set(), [(automaton.start, length, b"")]
    while queue:
        state, left, so_far = queue.pop()
        allowed_ids = np.flatnonzero(automaton.allowed_mask(state, left)).tolist()
        assert allowed_ids or automaton.is_accepting(state), so_far
        if automaton.is_accepting(state):
            texts.add(so_far.decode())
        for token_id in allowed_ids:
            rest = left - int(automaton.num_chars[token_id])
            queue.append((automaton.advance(state, token_id), rest, so_far + tokenizer.token_bytes(token_id)))
    return texts


def matched(pattern: str, characters: str, length: int) -> set[str]:
    texts = ("".join(text) for n in range(length + 1) for text in itertools.product(characters, repeat=n))
    return {text for text in texts if re.fullmatch(pattern, text)}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_generated_texts_equal_the_matches_of_python(pattern: str) -> None:
    matches = matched(pattern, "ab\n", LENGTH)
    if matches:
        assert written(compile_regex(pattern, AB), AB, LENGTH) == matches
    else:
        with pytest.raises(ConfigError, match=r"cannot write a match"):
            compile_regex(pattern, AB)


@pytest.mark.parametrize("pattern", WORLD_PATTERNS)
def test_character_classes_follow_unicode(pattern: str) -> None:
    characters = WORLD.decode(range(2, WORLD.vocab_size))
    assert written(compile_regex(pattern, WORLD), WORLD, 2) == matched(pattern, characters, 2)


def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    counts = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "*?", "+?", "??"])
    return st.one_of(
        st.builds(lambda p, q: f"(?:{p}|{q})", inner, inner),
        st.builds(lambda p, q: p + q, inner, inner),
        st.builds(lambda p, n: f"(?:{p}){n}", inner, counts),
    )


LEAVES = st.sampled_from(["a", "b", r"\n", ".", "[^b]", "[ab]", "", r"\w", r"\s", "ab", "$"])
REGEXES = wider(LEAVES | wider(LEAVES))  # no deeper: of (?:(?:(?:a|)+)+)+ Python's `re` backtracks for 20 seconds


@settings(max_examples=40, deadline=None)
@given(REGEXES)
def test_random_patterns_generate_exactly_their_matches(pattern: str) -> None:
    matches = matched(rf"(?:{pattern.replace('$', '(?!.|[^.])')})", "ab\n", LENGTH)  # Python's $ holds before a \n too
    try:
        automaton = compile_regex(pattern, AB)
    except ConfigError:
        assert "$" in pattern or not matches  # a pattern with text after $ is rejected, even if an alternative matches
        return
    assert (automaton.min_length <= LENGTH) == bool(matches)
    if matches:
        assert written(automaton, AB, LENGTH) == matches


@pytest.mark.parametrize("pattern", ["(a|b)*abb", "(ab?){2}", "a{3}|b", "(aa)*b?", "a|bbbb"])
def test_cost_is_the_fewest_characters_that_complete_a_match(pattern: str) -> None:
    automaton, matches = compile_regex(pattern, AB), matched(pattern, "ab\n", 2 * LENGTH - 2)
    assert automaton.min_length == min(map(len, matches))
    queue = [(automaton.start, "")]
    for state, text in queue:
        for token_id in range(AB.vocab_size):
            after = text + AB.decode([token_id])
            costs = [len(match) - len(text) for match in matches if match.startswith(after)] if token_id > 1 else []
            assert automaton.cost[state, token_id] == min(costs, default=NEVER)
            if costs and len(after) < 4:
                queue.append((automaton.advance(state, token_id), after))
        can_grow = any(match.startswith(text) and match != text for match in matches)
        assert automaton.is_accepting(state) == (text in matches)
        assert automaton.allowed_mask(state, 10**9).any() == can_grow


@pytest.mark.parametrize("length", range(7))
def test_matches_never_exceed_the_length(length: int) -> None:
    pattern = "(?:ab){1,2}|b{5,6}"
    automaton = compile_regex(pattern, AB)
    if length < 2:
        with pytest.raises(ConfigError, match=f"shortest match of .* has 2 characters, the length is {length}"):
            automaton.check_length(length)
    else:
        automaton.check_length(length)
        assert written(automaton, AB, length) == matched(pattern, "ab", length)


@pytest.mark.parametrize("length", [3, 9])
@pytest.mark.parametrize(
    "pattern", ["[ăệ]{0,2}x?", "(?:漢|🙂a|é){0,2}", r"(?:một| hai|\t|▁){1,2}", "[^\0-\U0010fffd]?"]
)
def test_bytes_and_pieces_generate_the_same_matches_as_characters(pattern: str, length: int) -> None:
    pieces = build_tokenizer("sp:400", "một hai một hai ba bốn\n" * 20)
    chars = CharTokenizer("ăệx漢🙂aéộmthi \t▁\U0010fffe\U0010ffff")
    texts = written(compile_regex(pattern, chars), chars, length)
    for tokenizer in (ByteTokenizer(), pieces):
        assert written(compile_regex(pattern, tokenizer), tokenizer, length) == texts


def test_character_counts_at_its_first_byte() -> None:
    tokenizer = ByteTokenizer()
    automaton = compile_regex("ệ", tokenizer)
    state, left = automaton.start, 1
    for token_id in tokenizer.encode("ệ").tolist():
        assert not automaton.is_accepting(state)
        assert not automaton.allowed_mask(state, left - 1).any() or left == 0
        assert np.flatnonzero(automaton.allowed_mask(state, left)).tolist() == [token_id]
        state, left = automaton.advance(state, token_id), left - int(automaton.num_chars[token_id])
    assert left == 0
    assert automaton.is_accepting(state) and not automaton.allowed_mask(state, 10).any()


@pytest.mark.parametrize(
    "tokenizer", [AB, ByteTokenizer(), build_tokenizer("sp:300", "ab\n" * 50)], ids=lambda t: t.name
)
def test_ids_without_text_are_never_allowed(tokenizer: Tokenizer) -> None:
    automaton = compile_regex("(?s:.)*", tokenizer)
    silent = [i for i in range(tokenizer.vocab_size) if not tokenizer.token_bytes(i)] + tokenizer.special_ids()
    allowed = np.stack([automaton.allowed_mask(state, 100) for state in range(len(automaton.cost))])
    assert not allowed[:, silent].any()
    with pytest.raises(ConfigError, match="continues with token id 0"):
        automaton.advance(automaton.start, 0)


@pytest.mark.parametrize(
    ("pattern", "states"),
    [("a[ab]{30}", 32), (".{1,300}", 301), ("(a{1,3}|b{1,4}){1,30}", None), ("[^,]{1,40}(,b){3}", 47)],
)
def test_long_repetitions_compile(pattern: str, states: int | None) -> None:
    automaton = compile_regex(pattern, CharTokenizer("ab,"))
    assert states is None or len(automaton.cost) == states


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(a", "not valid: missing ), unterminated subpattern at position 0"),
        ("a)(b", "not valid: unbalanced parenthesis at position 1"),
        (r"\p{L}(", "not valid: missing ), unterminated subpattern at position 5"),
        ("[b-a]", "not valid: bad character range b-a at position 1"),
        ("*a", "not valid: nothing to repeat at position 0"),
        (r"(a)\1", "not valid\nThere is no look-around"),
        ("a(?=b)", "not valid\nThere is no look-around"),
        ("a{,3}", r"not valid\nThere is .* \{0,3\}"),
        (r"a\b", "not valid: .*word boundaries"),
        ("a|^b", "has a ^ inside\nA match is always of the whole text"),
        ("[a&&b]", "a part of the regular expression .* that nothing can match"),
        ("a$b|b", "a part of the regular expression .* that nothing can match\nA match is .* leave out \\$ and \\\\z."),
        ("áé+b", "cannot write a match .*\nIt does not know 'á' .*, 'é' .*\\."),
        (r"\.\d{3}", r"cannot write a match .*\nIt does not know '\.'."),
    ],
)
def test_invalid_pattern_is_an_error_with_its_reason(pattern: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compile_regex(pattern, AB)
    plain = message if ".*" in message else re.escape(message)
    assert re.search(plain.replace(r"\n", "\n"), str(caught.value)), str(caught.value)


def test_pattern_with_invalid_unicode_is_an_error() -> None:
    with pytest.raises(CorpusError, match="regular expression is not valid UTF-8"):
        compile_regex("a\udcff", AB)


def test_compilation_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex_automaton, "MAX_SECONDS", 0.5)
    with pytest.raises(ConfigError, match="too large: it is not done after"):
        compile_regex("(a|b)*a(a|b){24}", AB)


@pytest.mark.parametrize(("cells", "states"), [(100, "more than 20 states"), (30, "31 states over bytes")])
def test_automaton_has_a_size_limit(monkeypatch: pytest.MonkeyPatch, cells: int, states: str) -> None:
    monkeypatch.setattr(regex_module, "MAX_CELLS", cells)
    with pytest.raises(ConfigError, match=f"too large: {states}"):
        compile_regex("a{30}", AB)


def test_all_automata_that_are_kept_fit_into_the_limit_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regex_module, "MAX_CELLS", 400)  # a state has five token ids
    small, medium = compile_regex("b{30}", AB), compile_regex("b{40}", AB)
    assert compile_regex("b{30}", AB) is small and compile_regex("b{40}", AB) is medium
    large = compile_regex("b{70}", AB)
    assert sum(each.cost.size for each in regex_module._kept.values()) <= 400
    assert compile_regex("b{70}", AB) is large
    assert compile_regex("b{40}", AB) is not medium


def test_missing_package_error_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ChargenError, match=r"pip install 'chargen\[regex\]'"):
        compile_regex("a", AB)
