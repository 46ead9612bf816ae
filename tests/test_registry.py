"""A registry finds, adds and replaces entries; the error for an unknown name lists the known names."""

from __future__ import annotations

import sys

import pytest

from chargen.errors import ConfigError
from chargen.registry import Registry, did_you_mean


@pytest.fixture
def fruit() -> Registry[object]:
    return Registry("fruit", {"apple": "decimal:Decimal", "pear": "fractions:Fraction"})


def test_get_returns_the_attribute_at_the_import_path(fruit):
    from decimal import Decimal

    assert fruit.get("apple") is Decimal
    assert fruit.get("apple") is Decimal  # the second time without an import


def test_an_entry_is_imported_on_first_use(tmp_path, monkeypatch):
    (tmp_path / "chargen_test_lazy_entry.py").write_text("thing = [1, 2]\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    table: Registry[list[int]] = Registry("thing", {"lazy": "chargen_test_lazy_entry:thing"})
    assert table.names() == ["lazy"]
    assert "chargen_test_lazy_entry" not in sys.modules
    assert table.get("lazy") == [1, 2]
    monkeypatch.delitem(sys.modules, "chargen_test_lazy_entry")


def test_the_error_for_an_unknown_name_suggests_the_most_similar_and_lists_all(fruit):
    with pytest.raises(ConfigError) as caught:
        fruit.get("appel")
    assert caught.value.message == "no fruit named 'appel'"
    assert caught.value.hint == "Did you mean 'apple'? Known: apple, pear."


def test_the_error_for_a_name_without_similar_ones_lists_all(fruit):
    with pytest.raises(ConfigError) as caught:
        fruit.get("zzzz")
    assert caught.value.hint == "Known: apple, pear."


def test_a_registered_entry_is_found_listed_last_and_suggested(fruit):
    plum = object()
    fruit.register("plum_2-b", plum)
    assert fruit.get("plum_2-b") is plum
    assert fruit.names() == ["apple", "pear", "plum_2-b"]
    with pytest.raises(ConfigError, match="Did you mean 'plum_2-b'"):
        fruit.get("plum_2")


def test_registering_a_known_name_replaces_the_entry_and_keeps_its_position(fruit):
    fruit.register("apple", "mine")
    assert fruit.get("apple") == "mine"
    assert fruit.names() == ["apple", "pear"]


def test_registering_does_not_change_another_registry(fruit):
    other: Registry[object] = Registry("fruit", {"apple": "decimal:Decimal"})
    fruit.register("kiwi", 1)
    assert other.names() == ["apple"]


@pytest.mark.parametrize("name", ["", "-", "_-_", "a b", "a:b", "a/b", "a.b", "a\n"])
def test_a_name_with_other_characters_is_refused(fruit, name):
    with pytest.raises(ConfigError, match="cannot name a fruit"):
        fruit.register(name, 1)
    assert name not in fruit.names()


def test_did_you_mean_is_empty_without_a_similar_name():
    assert did_you_mean("lsmt", ["rnn", "lstm", "gru"]) == "Did you mean 'lstm'?"
    assert did_you_mean("transformer", ["rnn", "lstm", "gru"]) == ""
    assert did_you_mean("gru", []) == ""
