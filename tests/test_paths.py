"""Places in a document: what shows parses back, what is put is got, and null reads as absent."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import Malformed
from guardrail.paths import ABSENT, Each, Item, agrees, get, parse, put, same, show, under

plain = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
literals = st.one_of(plain, st.integers(-10**6, 10**6), st.booleans())
items = st.builds(
    Item, st.one_of(st.tuples(st.tuples(st.just(""), plain)), st.lists(
        st.tuples(st.sampled_from(["name", "source", "id"]), literals), min_size=1, max_size=2,
        unique_by=lambda pair: pair[0]).map(tuple)), st.integers(1, 3))
paths = st.lists(st.one_of(st.text(min_size=1, max_size=8), items), max_size=5).map(tuple)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=20)


@given(paths)
def test_a_path_that_is_shown_parses_back(path: Any) -> None:
    assert parse(show(path)) == path


@given(json, paths)
def test_any_json_can_be_asked_for_any_place(body: Any, path: Any) -> None:
    get(body, path)


@given(st.text(max_size=40))
def test_any_text_is_a_path_or_malformed(text: str) -> None:
    try:
        parse(text)
    except Malformed:
        return


@given(st.dictionaries(st.sampled_from("abc"), json, max_size=3), st.lists(st.sampled_from("abcd"), min_size=1, max_size=3))
def test_what_is_put_is_got_and_the_original_stays(body: Any, names: list[str]) -> None:
    before, path = copy.deepcopy(body), tuple(names)
    try:
        changed = put(body, path, "new")
    except Malformed:
        return
    assert get(changed, path) == "new"
    assert body == before
    assert get(put(changed, path, ABSENT), path) is ABSENT


@pytest.mark.parametrize(("path", "value"), [
    ("properties.PublicNetworkAccess", "Enabled"),
    ("properties.rules[name='A'].port", 22),
    ("properties.rules[name='a';2].port", 23),
    ("properties.enabledRules[='mfa']", "MFA"),
    ("properties.nothing", ABSENT),
    ("properties.null", ABSENT),
    ("tags['a b.c']", "x"),
])
def test_names_and_keys_fold_case(path: str, value: Any) -> None:
    body = {"properties": {"publicNetworkAccess": "Enabled", "rules": [{"name": "a", "port": 22}, {"name": "A", "port": 23}],
                           "enabledRules": ["MFA"], "null": None}, "tags": {"A b.C": "x"}}
    assert get(body, parse(path)) == value


def test_a_new_item_carries_the_keys_that_address_it() -> None:
    made = put({}, parse("properties.filters[name='Hate',source='Prompt'].blocking"), True)
    assert made == {"properties": {"filters": [{"name": "Hate", "source": "Prompt", "blocking": True}]}}
    assert put({}, parse("rules[='MFA']"), "MFA") == {"rules": ["MFA"]}


@pytest.mark.parametrize(("now", "want", "holds"), [
    ({"a": 1, "more": 2}, {"a": 1}, True),
    ({"a": 1}, {"a": 1, "b": None}, True),
    ({"a": "DENY"}, {"a": "Deny"}, True),
    ([{"name": "b"}, {"name": "a", "x": 1}], [{"name": "a"}, {"name": "b"}], True),
    (["a", "a"], ["a", "b"], False),
    ({"a": True}, {"a": 1}, False),
    ({"a": "Disabled "}, {"a": "Disabled"}, False),
    ({}, {"a": 1}, False),
    (None, {}, False),
])
def test_what_stands_there_holds_what_is_wanted(now: Any, want: Any, holds: bool) -> None:
    assert agrees(now, want) is holds


@given(json)
def test_everything_is_the_same_as_itself(value: Any) -> None:
    assert same(value, copy.deepcopy(value))


def test_a_pattern_stands_for_every_item_with_its_keys() -> None:
    pattern = parse("properties.securityRules[name]")
    assert pattern == ("properties", "securityRules", Each(("name",)))
    assert under(parse("properties.SecurityRules[name='ssh'].properties.access"), pattern)
    assert not under(parse("properties.securityRules[priority=100]"), pattern)
