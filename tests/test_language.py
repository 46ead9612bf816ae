"""The package, its help and its documentation use the terms of the field: a list of private words must not occur."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted([*(ROOT / "chargen").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")])
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md"), *ROOT.glob("*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]

#: Words that earlier versions used in meanings of their own, with the term to use instead.
PRIVATE = {
    r"rooms?": "buffer",
    r"beginnings?": "prompt, context, prefix or start",
    r"looks?|looked|looking": "validation; or read, inspect, search",
    r"lanes?": "batch row, stream",
    r"ways?": "method, variant, path",
    r"torn": "split, incomplete",
    r"(most|fewest|least)_\w+": "MAX_ or MIN_",
    r"so many": "the number of …",
    r"of one": "name the thing",
    r"anew": "again",
    r"begun": "started",
    r"yardsticks?": "baseline",
    r"shel(f|ves)": "disk ranking",
    r"keepers?": "saving",
    r"novelty": "calibration",
    r"originality": "copy report",
    r"nobody": "no one; or name who",
    r"whatever": "any",
    r"running (?:text|stream)s?": "continuous text",
}
#: The name of a recorded case. It stays as it is, so that recordings of earlier versions can still be compared.
RECORDED_CASE = '"lanes": '

PATTERN = re.compile(r"(?<![\w-])(" + "|".join(f"(?:{word})" for word in PRIVATE) + r")(?![\w-])", re.IGNORECASE)


def words_of(source: str) -> list[tuple[int, str]]:
    """Return the identifiers, split into words, the comments and the strings of a source, each with its line."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", token.string)
            whole = re.match(r"(MOST|FEWEST|LEAST)_", split)
            found.append((token.start[0], split if whole else split.replace("_", " ")))
        elif token.type in (tokenize.COMMENT, tokenize.STRING) or token.type == getattr(tokenize, "FSTRING_MIDDLE", -1):
            found += list(enumerate(token.string.splitlines(), token.start[0]))
    return found


def private_words(lines: list[tuple[int, str]]) -> list[str]:
    return [f"line {number}: {match[0]}" for number, text in lines for match in PATTERN.finditer(text)]


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_the_package_has_no_private_words(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    if file.name == "safety_net_cases.py":
        source = source.replace(RECORDED_CASE, '"": ')
    assert not private_words(words_of(source))


def written_lines(page: str) -> list[tuple[int, str]]:
    """Return the lines of a page with their numbers, without what a model generated: the output of `sample`."""
    lines, is_sample = [], False
    for number, line in enumerate(page.splitlines(), 1):
        if line.startswith(("$ ", "```")):
            is_sample = line.startswith("$ chargen sample")
        if not is_sample or line.startswith("$ "):
            lines.append((number, line))
    return lines


@pytest.mark.parametrize("page", PAGES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_the_documentation_has_no_private_words(page: Path) -> None:
    assert not private_words(written_lines(page.read_text(encoding="utf-8")))


def test_only_generated_text_may_have_private_words() -> None:
    page = "a\n```console\n$ chargen sample\nroom\n$ chargen info\nlanes\n```\nways"
    assert [number for number, _ in written_lines(page)] == [1, 2, 3, 5, 6, 7, 8]


def test_the_search_finds_private_words() -> None:
    source = 'new_room = 1  # a look at the lanes\nMOST_IDS = "in both ways"\nclass TornFile: pass\n'
    found = [word.rpartition(" ")[2].lower() for word in private_words(words_of(source))]
    assert found == ["room", "look", "lanes", "most_ids", "ways", "torn"]
