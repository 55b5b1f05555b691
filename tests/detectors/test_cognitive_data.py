"""Keys, stores and watching of AI services accounts: what the common table of controls cannot know. Odd JSON for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import recorded
from detectors import cognitive, cognitive_data, foundry, openai_deployments, openai_policies
from guardrail import plans
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Control, Drift
from tests.detectors.worst import drifts_in_time

ALL = (*cognitive.CONTROLS, *cognitive_data.CONTROLS, *foundry.CONTROLS, *openai_deployments.CONTROLS,
       *openai_policies.CONTROLS)
CONTROLS = {control.id: control for control in ALL}
ENCRYPTION = "properties.encryption"
KEY = f"{ENCRYPTION}.keyVaultProperties"
CMK = "cognitive-cmk-encryption"
ENDPOINTS = "properties.privateEndpointConnections"
GOOD = recorded.good(cognitive.ACCOUNT)


def drifts(id: str, edits: Mapping[str, Any], good: Mapping[str, Any] | None = None, **parameters: Any) -> list[Drift]:
    control = CONTROLS[id]
    document = recorded.Sample(GOOD.id, GOOD.api_version, recorded.laid(GOOD.body, edits)).document
    document = document if good is None else replace(document, good=good)
    return list(control.check(document.node(), {**control.parameters, **parameters}))


def said(found: list[Drift]) -> dict[str, Any]:
    return {drift.path: drift.wanted if drift.decided else "undecided" for drift in found}


NO_KEY = {ENCRYPTION: ABSENT}
FOREIGN_KEY = {f"{KEY}.keyVaultUri": "https://kv-foreign.vault.azure.net/"}
WAS = GOOD.body["properties"]["encryption"]["keyVaultProperties"]
GIVEN = "https://kv-other.vault.azure.net/keys/ai/0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(("edits", "parameters", "good", "wanted"), [
    (NO_KEY, {}, None, {f"{ENCRYPTION}.keySource": "Microsoft.KeyVault", KEY: WAS}),
    (NO_KEY, {}, {}, {f"{ENCRYPTION}.keySource": "undecided"}),
    (NO_KEY | {"kind": "AIServices"}, {}, {}, {}),
    (NO_KEY | {"kind": "AIServices"}, {}, None, {f"{ENCRYPTION}.keySource": "Microsoft.KeyVault", KEY: WAS}),
    (NO_KEY, {"cmk_key_uri": GIVEN}, {}, {f"{ENCRYPTION}.keySource": "Microsoft.KeyVault", KEY: {
        "keyVaultUri": "https://kv-other.vault.azure.net/", "keyName": "ai",
        "keyVersion": "0123456789abcdef0123456789abcdef"}}),
    (FOREIGN_KEY, {}, None, {KEY: WAS}),
    (FOREIGN_KEY, {}, {}, {}),
    (FOREIGN_KEY, {"allowed_vaults": ("kv-ai-dev.vault.azure.net",)}, {},
     {f"{ENCRYPTION}.keySource": "undecided"}),
    ({f"{KEY}.keyVersion": "0" * 32}, {}, None, {}),
    ({f"{ENCRYPTION}.keySource": "Microsoft.Elsewhere"}, {}, None, {f"{ENCRYPTION}.keySource": "undecided"}),
])
def test_the_key_that_was_good_comes_back_and_no_other(
    edits: Mapping[str, Any], parameters: Mapping[str, Any], good: Any, wanted: Mapping[str, Any],
) -> None:
    assert said(drifts(CMK, edits, good, **parameters)) == wanted


def endpoint(subscription: str, status: str = "Approved", name: str = "pe") -> dict[str, Any]:
    group = f"/subscriptions/00000000-0000-0000-0000-{subscription}/resourceGroups/g"
    id = f"{group}/providers/Microsoft.Network/privateEndpoints/e"
    return {"name": name, "properties": {
        "privateEndpoint": {"id": id}, "privateLinkServiceConnectionState": {"status": status}}}


OURS, THEIRS, ODD = "000000000001", "00000000000f", "x"


@pytest.mark.parametrize(("connection", "trusted", "wanted"), [
    (endpoint(OURS), (), []), (endpoint(THEIRS), (), ["Rejected"]), (endpoint(THEIRS, "approved"), (), ["Rejected"]),
    (endpoint(THEIRS, "Pending"), (), []), (endpoint(THEIRS, "Rejected"), (), []),
    (endpoint(THEIRS, "Welcome"), (), ["undecided"]), (endpoint(ODD), (), ["undecided"]),
    ({"name": "pe", "properties": {"privateLinkServiceConnectionState": {"status": "Approved"}}}, (), ["undecided"]),
    (endpoint(THEIRS), ("00000000-0000-0000-0000-00000000000F",), []),
])
def test_an_endpoint_is_ours_or_trusted(connection: Any, trusted: tuple[str, ...], wanted: list[Any]) -> None:
    found = drifts("cognitive-private-endpoint-approved", {ENDPOINTS: [connection]}, trusted_subscriptions=trusted)
    assert list(said(found).values()) == wanted


def test_a_private_endpoint_can_be_asked_for() -> None:
    none = {ENDPOINTS: [endpoint(OURS, "Pending")]}
    assert drifts("cognitive-private-endpoint-approved", none) == []
    (asked,) = drifts("cognitive-private-endpoint-approved", none, require_private_endpoint=True)
    assert not asked.decided


BYPASS = "properties.networkAcls.bypass"
OPEN_BEFORE = {"": {"properties": {"networkAcls": {"bypass": "AzureServices"}}}}


@pytest.mark.parametrize(("now", "good", "allowed", "wanted"), [
    ("AzureServices", OPEN_BEFORE, ("AzureServices", "None"), []),
    ("AzureServices", {}, ("AzureServices", "None"), []),
    ("AzureServices", None, ("AzureServices", "None"), ["None"]),
    (ABSENT, OPEN_BEFORE, ("None",), ["None"]), ("azureservices", {}, ("None",), ["None"]),
    ("none", {}, ("None",), []), ("Everyone", OPEN_BEFORE, ("AzureServices", "None"), ["undecided"]),
])
def test_the_bypass_is_as_allowed_and_as_it_was(now: Any, good: Any, allowed: tuple[str, ...], wanted: list[Any]) -> None:
    found = drifts("cognitive-network-acls-bypass", {BYPASS: now}, good, allowed_bypass=allowed)
    assert list(said(found).values()) == wanted
    edits = {BYPASS: now, "properties.customSubDomainName": ABSENT}
    assert all(not one.decided for one in drifts("cognitive-network-acls-bypass", edits, good, allowed_bypass=allowed))


@pytest.mark.parametrize(("edits", "speaks"), [
    ({}, 0), ({"properties.customSubDomainName": ""}, 1),
    ({"properties.endpoint": "https://eastus.api.cognitive.microsoft.com/"}, 1),
    ({"properties.endpoint": "https://aoai-chat-prod.evil.example@x/"}, 0), ({"properties.endpoint": ABSENT}, 1),
    ({"properties.customSubDomainName": "AOAI-chat-prod"}, 0),
])
def test_the_endpoint_is_that_of_the_subdomain(edits: Mapping[str, Any], speaks: int) -> None:
    """ARM alone writes the endpoint: it tells whether the subdomain took effect, and is no place to attack."""
    assert len(drifts("cognitive-custom-subdomain", edits)) == speaks


@pytest.mark.parametrize(("edits", "expected", "speaks"), [
    ({}, "on", 0), ({}, "off", 1),
    ({"properties.capabilities[name='ContentLogging']": {"name": "ContentLogging", "value": "false"}}, "on", 1),
    ({"properties.capabilities[name='ContentLogging']": {"name": "contentlogging", "value": "False"}}, "off", 0),
    ({"properties.capabilities[name='ContentLogging']": {"name": "ContentLogging", "value": "true"}}, "on", 0),
    ({"properties.abusePenalty": {"action": "Throttle"}}, "on", 1),
])
def test_abuse_monitoring_is_as_expected(edits: Mapping[str, Any], expected: str, speaks: int) -> None:
    assert len(drifts("cognitive-abuse-monitoring", edits, expected_abuse_monitoring=expected)) == speaks


@pytest.mark.parametrize(("kind", "speaks"), [("OpenAI", 1), ("aiservices", 1), ("SpeechServices", 0)])
def test_an_account_that_serves_models_shows_a_defender_setting(kind: str, speaks: int) -> None:
    assert len(drifts("cognitive-defender-for-ai", {"kind": kind, "+defenderForAISettings": []})) == speaks


@pytest.mark.parametrize(("state", "wanted"), [
    ("enabled", []), ("Disabled", ["Enabled"]), (ABSENT, ["Enabled"]), ("Paused", ["undecided"])])
def test_a_setting_without_a_state_is_off(state: Any, wanted: list[Any]) -> None:
    found = drifts("cognitive-defender-for-ai", {"+defenderForAISettings[name='Default'].properties.state": state})
    assert list(said(found).values()) == wanted


@pytest.mark.parametrize(("good", "must", "wanted"), [(None, False, [True]), ({}, False, []), ({}, True, [True])])
def test_completions_are_stored_only_where_they_were(good: Any, must: bool, wanted: list[Any]) -> None:
    edits = {"properties.storedCompletionsDisabled": ABSENT}
    found = drifts("cognitive-stored-completions", edits, good, require_disabled=must)
    assert list(said(found).values()) == wanted


def test_storage_and_kinds_by_their_lists() -> None:
    group = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g"
    one = f"{group}/providers/Microsoft.Storage/storageAccounts/x"
    stored = {"properties.userOwnedStorage": [{"resourceId": one}]}
    assert drifts("cognitive-user-owned-storage", stored) == []
    for allowed, count in ((one.upper(), 0), (one + "y", 1)):
        assert len(drifts("cognitive-user-owned-storage", stored, allowed_storage_account_ids=(allowed,))) == count
    assert drifts("cognitive-account-kind-and-sku", {}, allowed_kinds=("openai",)) == []
    assert len(drifts("cognitive-account-kind-and-sku", {}, allowed_kinds=("AIServices",))) == 1
    assert len(drifts("cognitive-account-kind-and-sku", {"kind": ABSENT}, allowed_kinds=("OpenAI",))) == 1


def test_a_deleted_account_is_told_by_one_control_and_is_planned_by_none() -> None:
    gone = Document(GOOD.id, cognitive.ACCOUNT, ABSENT, {"": GOOD.body})
    found = plans.judge([one for one in ALL if one.on == cognitive.ACCOUNT], gone, lambda control: control.parameters)
    assert [(one.control, one.state) for one in found] == [("cognitive-account-deleted-soft", "drift")]
    assert all(one.drift and not one.drift.decided for one in found)


by_id = pytest.mark.parametrize("control", ALL, ids=lambda control: control.id)
leaf = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "Approved", "Prompt", "https://x", "x"])
json = st.recursive(leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["name", "properties", "sku", "source", "blocklistName", "scenario"]), inner, max_size=4), max_leaves=8)
PLACES = ("properties", "sku", "identity", "kind", "+connections", "+deployments", "+raiPolicies", "+raiBlocklists",
          "+capabilityHosts", "+managedNetworks", "+applications", "+defenderForAISettings",
          "properties.privateEndpointConnections", "properties.capabilities", "properties.networkInjections",
          "+deployments[name='chat-gpt'].properties", "+connections[name='search-docs'].properties",
          "+managedNetworks[name='default'].properties", "+raiPolicies[name='strict'].properties")


@pytest.mark.threat("E9")
@by_id
@settings(max_examples=15)
@given(st.data())
def test_odd_json_breaks_no_check(control: Control, data: st.DataObject) -> None:
    sample = recorded.good(control.on)
    place = data.draw(st.sampled_from(PLACES))
    if "[" in place and place.split("[")[0] not in sample.body:
        place = "properties"
    value, known = data.draw(json), data.draw(st.booleans())
    document = recorded.Sample(sample.id, sample.api_version, recorded.laid(sample.body, {place: value})).document
    document = replace(document, good=document.good if known else {"": {place.split(".")[0].split("[")[0]: value}})
    for drift in control.check(document.node(), control.parameters):
        assert isinstance(drift, Drift)


MANY = 10_000
WORST: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "cognitive-private-endpoint-approved": (ENDPOINTS, [endpoint(THEIRS, name=f"n{at}") for at in range(MANY)]),
    "cognitive-connection-target": ("+connections", [
        {"name": f"n{at}", "properties": {"target": "https://" + "a." * 200, "authType": "PAT"}} for at in range(MANY)]),
    "cognitive-connection-shared": ("+connections", [
        {"name": f"n{at}", "properties": {"isSharedToAll": True, "authType": "PAT"}} for at in range(MANY)]),
    "openai-deployment-capacity": ("+deployments", [
        {"name": f"n{at}", "sku": {"name": "Standard", "capacity": 5000}} for at in range(MANY)]),
    "openai-rai-policy-safety-provider": ("+raiPolicies[name='strict'].properties.safetyProviders", [
        {"safetyProviderName": f"n{at}", "source": "Prompt"} for at in range(MANY)]),
}


@pytest.mark.threat("E8")
@pytest.mark.parametrize("id", WORST)
def test_ten_thousand_entries_are_judged_in_a_fifth_of_a_second(id: str) -> None:
    path, entries = WORST[id]
    control = CONTROLS[id]
    body = recorded.laid(recorded.good(control.on).body, {path: entries})
    document = recorded.Sample(GOOD.id, GOOD.api_version, body).document
    assert len(drifts_in_time(lambda: control.check(document.node(), control.parameters), document, path)) == MANY


@by_id
def test_every_parameter_has_a_floor_that_its_default_passes(control: Control) -> None:
    assert set(control.floors) == set(control.parameters)
    assert [value for name, value in control.parameters.items() if control.floors[name](value)] == []


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("id", "parameter", "value", "sound"), [
    (CMK, "excluded_kinds", ["OpenAI"], False), (CMK, "excluded_kinds", ["*"], False), (CMK, "excluded_kinds", ["LUIS"], True),
    (CMK, "allowed_vaults", ["*.vault.azure.net"], False), (CMK, "cmk_key_uri", GIVEN, True),
    (CMK, "cmk_key_uri", GIVEN.rsplit("/", 1)[0], False), (CMK, "cmk_key_uri", GIVEN.replace("https", "http"), False),
    ("cognitive-private-endpoint-approved", "trusted_subscriptions", ["*"], False),
    ("cognitive-network-acls-bypass", "allowed_bypass", ["AzureServices"], False),
    ("cognitive-network-acls-bypass", "allowed_bypass", ["None"], True),
    ("cognitive-aml-workspace-link", "allowed_workspace_ids", ["/subscriptions/00000000-0000-0000-0000-000000000001"], False),
    ("openai-deployment-capacity", "max_capacity", {"Standard": 0}, False),
    ("openai-deployment-capacity", "max_capacity", {"Standard": 10**9}, False),
    ("openai-deployment-capacity", "max_capacity", {"Standard": True}, False),
    ("openai-deployment-capacity", "max_capacity", {"Standard": 300}, True),
    ("openai-deployment-version-upgrade", "allowed_upgrade_options", ["OnceNewDefaultVersionAvailable"], False),
    ("openai-deployment-sku-data-residency", "allowed_deployment_skus", ["GlobalStandard"], False),
    ("openai-deployment-sku-data-residency", "allowed_deployment_skus", ["Standard", "DataZoneStandard"], True),
    ("openai-rai-policy-base", "allowed_bases", ["*"], False),
    ("openai-subscription-rai-policy", "max_threshold", "High", False),
])
def test_a_parameter_below_its_floor_is_refused(id: str, parameter: str, value: Any, sound: bool) -> None:
    assert (CONTROLS[id].floors[parameter](value) == "") == sound
