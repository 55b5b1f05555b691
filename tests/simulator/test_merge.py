"""How a write changes a document: RFC 7396 where ARM follows it, and where it does not."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import merge, paths
from simulator.types import GENERAL, TYPES, Habits, habits_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("aB.[]?", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aB.", max_size=3), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=2), JSON, max_size=3)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"publicNetworkAccess": "a"}, {"PublicNetworkAccess": "b"}, {"publicNetworkAccess": "b"}),
    ],
)
def test_a_merge_patch_is_that_of_rfc_7396_with_names_folded(before: Any, change: Any, after: Any) -> None:
    assert merge.merged(before, change) == after


@given(OBJECTS, OBJECTS)
def test_a_patch_twice_is_a_patch_once_and_changes_no_input(before: Any, change: Any) -> None:
    kept = copy.deepcopy((before, change))
    once = merge.merged(before, change)
    assert merge.merged(once, change) == once
    assert (before, change) == kept


@pytest.mark.parametrize(
    ("type", "sent", "after"),
    [
        ("", {"tags": {"b": "2"}}, {"b": "2"}),
        ("", {"tags": {}}, {}),
        ("", {"properties": {}}, {"a": "1"}),
        ("Microsoft.Network/networkSecurityGroups", {"tags": {"b": "2"}}, {"b": "2"}),
    ],
)
def test_tags_in_a_patch_replace_all_tags_and_left_out_they_stay(type: str, sent: Any, after: Any) -> None:
    assert merge.patch(habits_of(type), {"tags": {"a": "1"}, "properties": {}}, sent)["tags"] == after


@pytest.mark.parametrize(
    ("type", "sent", "changed"),
    [
        ("Microsoft.CognitiveServices/accounts/deployments", {"properties": {"raiPolicyName": "weak"}}, False),
        ("Microsoft.CognitiveServices/accounts/deployments", {"sku": {"capacity": 2}}, True),
        ("Microsoft.Network/virtualNetworks", {"properties": {"enableDdosProtection": True}}, False),
        ("Microsoft.MachineLearningServices/workspaces", {"properties": {"hbiWorkspace": True}}, False),
        ("Microsoft.MachineLearningServices/workspaces", {"properties": {"publicNetworkAccess": "Disabled"}}, True),
        ("Microsoft.MachineLearningServices/workspaces/onlineEndpoints", {"properties": {"authMode": "Key"}}, False),
        ("Microsoft.Authorization/policyAssignments", {"properties": {"enforcementMode": "DoNotEnforce"}}, False),
    ],
)
def test_a_patch_takes_what_the_type_lets_it_and_ignores_the_rest(type: str, sent: Any, changed: bool) -> None:
    before = {"sku": {"name": "Basic", "tier": "Basic"}, "properties": {"kept": 1}}
    assert (merge.patch(habits_of(type), before, sent) != before) is changed


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("SystemAssigned", {"principalId", "tenantId"}),
        ("SystemAssigned, UserAssigned", {"principalId", "tenantId", "userAssignedIdentities"}),
        ("UserAssigned", {"userAssignedIdentities"}),
        ("None", set()),
    ],
)
def test_the_type_of_an_identity_decides_what_of_it_stays(kind: str, kept: set[str]) -> None:
    before = {
        "identity": {
            "type": "SystemAssigned, UserAssigned",
            "principalId": "p",
            "tenantId": "t",
            "userAssignedIdentities": {"/a": {}},
        }
    }
    assert merge.patch(GENERAL, before, {"identity": {"type": kind}})["identity"].keys() - {"type"} == kept


def test_a_put_replaces_but_for_what_only_the_service_writes_and_the_identity() -> None:
    habits = replace(GENERAL, readonly=("properties.made",))
    before = {"identity": {"type": "None"}, "tags": {"a": "1"}, "properties": {"made": 1, "set": 2}, "systemData": {}}
    sent = {"id": "/other", "etag": "x", "properties": {"made": 9, "new": 3, "nothing": None, "provisioningState": "X"}}
    after = merge.put(habits, before, sent)
    assert after == {"identity": {"type": "None"}, "properties": {"made": 1, "new": 3}, "systemData": {}}


def test_storage_accounts_merge_in_a_put() -> None:
    habits = habits_of("Microsoft.Storage/storageAccounts")
    before = {"sku": {"name": "Standard_LRS"}, "tags": {"a": "1"}, "properties": {"allowSharedKeyAccess": False}}
    after = merge.put(habits, before, {"properties": {"minimumTlsVersion": "TLS1_2"}})
    assert after["properties"] == {"allowSharedKeyAccess": False, "minimumTlsVersion": "TLS1_2"}
    assert after["tags"] == {"a": "1"}


def test_defaults_fill_what_is_absent_and_versions_hide_what_they_do_not_know() -> None:
    habits = Habits(
        shown={"properties.a": 1, "properties.list[].b": [], "properties.c?.d": 2, "properties.e.f": None},
        since={"properties.a": "2020-01-01"},
        until={"properties.old": "2022-01-01"},
    )
    body = {"properties": {"list": [{}, {"b": [3]}], "old": 1}}
    new, old = merge.shown(habits, body, "2024-01-01"), merge.shown(habits, body, "2019-06-01-preview")
    assert new["properties"] == {"a": 1, "list": [{"b": []}, {"b": [3]}], "e": {"f": None}}
    assert old["properties"] == {"list": [{"b": []}, {"b": [3]}], "e": {"f": None}, "old": 1}
    assert body == {"properties": {"list": [{}, {"b": [3]}], "old": 1}}


@given(OBJECTS, OBJECTS, st.sampled_from(sorted(TYPES)))
def test_no_body_of_any_shape_breaks_a_type(before: Any, sent: Any, type: str) -> None:
    """Whatever stands and whatever comes, each type's habits answer with a document."""
    habits = habits_of(type)
    old = {"properties": before, "systemData": {}}
    for after in (merge.put(habits, None, {"properties": sent}), merge.patch(habits, old, {"properties": sent})):
        assert isinstance(merge.shown(habits, {"id": "/x/y", **after}, "2024-01-01"), dict)


@given(JSON, st.text("ab.[]?", max_size=6))
def test_paths_never_raise_and_what_is_written_can_be_read(body: Any, path: str) -> None:
    paths.read(body, path)
    paths.has(body, path)
    document: dict[str, Any] = {}
    paths.write(document, "a.b.C", 1)
    assert (paths.read(document, "A.B.c"), document) == (1, {"a": {"b": {"C": 1}}})
