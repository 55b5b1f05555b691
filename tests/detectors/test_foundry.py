"""Foundry: what the common table of controls cannot know of connections, capability hosts, networks and projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import recorded
from detectors import foundry
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Drift

CONTROLS = {control.id: control for control in foundry.CONTROLS}
AT = "+connections[name='search-docs'].properties"
TARGET = "cognitive-connection-target"
OWN = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/x"
FOREIGN = OWN.replace("000000000001", "00000000000f")


def laid(id: str, edits: Mapping[str, Any], good: Mapping[str, Any] | None = None) -> Document:
    """The good document of the control's type with `edits`; `good`: what was known good, if not that document."""
    sample = recorded.good(CONTROLS[id].on)
    document = recorded.Sample(sample.id, sample.api_version, recorded.laid(sample.body, edits)).document
    return document if good is None else replace(document, good=good)


def drifts(id: str, edits: Mapping[str, Any], good: Mapping[str, Any] | None = None, **parameters: Any) -> list[Drift]:
    control = CONTROLS[id]
    return list(control.check(laid(id, edits, good).node(), {**control.parameters, **parameters}))


def verdict(found: list[Drift]) -> Any:
    """None, "undecided", "removed", or the one value that is wanted."""
    assert len(found) <= 1
    return next(("undecided" if not one.decided else "removed" if one.wanted is ABSENT else one.wanted for one in found), None)


GOOD_TARGET = "https://srch-ai-dev.search.windows.net/"


@pytest.mark.threat("A12", "E9")
@pytest.mark.parametrize(("target", "listed", "said"), [
    (GOOD_TARGET, (), None),
    ("https://SRCH-ai-dev.search.windows.net:443/indexes?x=1", (), None),
    ("https://elsewhere.search.windows.net/", (), GOOD_TARGET),
    ("http://srch-ai-dev.search.windows.net/", (), GOOD_TARGET),
    ("https://srch-ai-dev.search.windows.net@evil.example/", (), GOOD_TARGET),
    ("https://srch-ai-dev.search.windows.net\\@evil.example/", (), GOOD_TARGET),
    ("https://evil.example\\.srch-ai-dev.search.windows.net/", (), GOOD_TARGET),
    (" " + GOOD_TARGET, (), GOOD_TARGET),
    (ABSENT, (), GOOD_TARGET),
    (OWN, (), None),
    (FOREIGN, (), GOOD_TARGET),
    (OWN + "/..", (), GOOD_TARGET),
    ("https://other.example/", ("other.example",), None),
    ("https://evil.example/", ("srch-ai-dev.search.windows.net",), GOOD_TARGET),
    ("https://evil.example/", ("other.example",), "removed"),      # what was good is not approved any more
])
def test_a_connection_is_led_back_where_it_led(target: Any, listed: tuple[str, ...], said: Any) -> None:
    assert verdict(drifts(TARGET, {f"{AT}.target": target}, allowed_target_hosts=listed)) == said


NEW = {"+connections[name='new']": {"name": "new", "properties": {
    "authType": "AAD", "category": "AzureOpenAI", "target": "https://evil.example/"}}}


def test_a_new_connection_goes_by_the_list_and_without_one_a_person_decides() -> None:
    assert verdict(drifts(TARGET, NEW)) == "undecided"
    assert verdict(drifts(TARGET, NEW, allowed_target_hosts=("srch-ai-dev.search.windows.net",))) == "removed"
    assert verdict(drifts(TARGET, NEW, allowed_target_hosts=("srch-ai-dev.search.windows.net", "evil.example"))) is None


def test_what_is_first_seen_passes_if_it_is_https_and_no_earlier_look_is_forgotten() -> None:
    assert drifts(TARGET, NEW, good={}) == []
    (odd,) = drifts(TARGET, {f"{AT}.target": "http://srch-ai-dev.search.windows.net/"}, good={})
    assert not odd.decided
    assert verdict(drifts(TARGET, NEW | {f"{AT[:-11]}": ABSENT}, good={"+connections": []})) == "undecided"


def test_a_category_that_is_not_approved_is_removed() -> None:
    assert verdict(drifts(TARGET, {}, allowed_categories=("AzureOpenAI",))) == "removed"
    assert verdict(drifts(TARGET, {}, allowed_categories=("cognitivesearch",))) is None


@pytest.mark.parametrize("auth", ["AccessKey", "AccountKey", "ApiKey", "CustomKeys", "OAuth2", "PAT", "SAS",
                                  "ServicePrincipal", "UsernamePassword", "NotYetKnown", ABSENT])
def test_every_way_to_sign_in_but_the_keyless_is_a_secret(auth: Any) -> None:
    found = drifts("cognitive-connection-key-auth", {f"{AT}.authType": auth})
    assert [drift.decided for drift in found] == [False]
    assert drifts("cognitive-connection-key-auth", {f"{AT}.authType": auth}, exempt_categories=("CognitiveSearch",)) == []


@pytest.mark.parametrize(("auth", "shared", "said"), [
    ("AAD", True, None), ("managedidentity", True, None), ("ApiKey", True, False), ("ApiKey", False, None),
    ("ApiKey", ABSENT, "undecided"), ("ApiKey", "true", "undecided"), ("NotYetKnown", True, False),
])
def test_only_secrets_must_not_be_shared(auth: str, shared: Any, said: Any) -> None:
    assert verdict(drifts("cognitive-connection-shared", {f"{AT}.authType": auth, f"{AT}.isSharedToAll": shared})) == said


HOST = "+capabilityHosts[name='agents'].properties"


@pytest.mark.parametrize(("edits", "parameters", "count"), [
    ({f"{HOST}.storageConnections": ABSENT}, {}, 1),
    ({f"{HOST}.threadStorageConnections": [], f"{HOST}.vectorStoreConnections": []}, {}, 2),
    ({f"{HOST}.enablePublicHostingEnvironment": False}, {}, 0),
    ({f"{HOST}.enablePublicHostingEnvironment": 0}, {}, 1),
    ({}, {"allowed_subnet_ids": (OWN,)}, 1),
    ({f"{HOST}.customerSubnet": OWN.upper()}, {"allowed_subnet_ids": (OWN,)}, 0),
])
def test_stores_that_were_ours_are_missed(edits: Mapping[str, Any], parameters: Mapping[str, Any], count: int) -> None:
    found = drifts("cognitive-capability-host", edits, **parameters)
    assert [drift.decided for drift in found] == [False] * count


def test_stores_of_the_service_pass_where_nothing_else_was_asked_or_known() -> None:
    bare = {f"{HOST}.{name}": ABSENT for name in ("storageConnections", "threadStorageConnections", "vectorStoreConnections")}
    assert drifts("cognitive-project-capability-host", bare, good={}) == []
    assert len(drifts("cognitive-project-capability-host", bare, good={}, require_byo=True)) == 3


INJECTION = {"properties.allowProjectManagement": True,
             "properties.networkInjections": [{"scenario": "agent", "subnetArmId": OWN}]}
AGENT = "properties.networkInjections[scenario='agent']"


@pytest.mark.parametrize(("edits", "parameters", "speaks"), [
    ({}, {}, False),
    ({"properties.networkInjections": [{"scenario": "none", "subnetArmId": OWN}]}, {}, True),
    ({"properties.networkInjections": ABSENT}, {}, True),
    ({"properties.networkInjections": ABSENT}, {"require_injection": False}, False),
    ({}, {"allowed_subnet_ids": (FOREIGN,)}, True),
    ({}, {"allowed_subnet_ids": (FOREIGN,), "require_injection": False}, True),
    ({}, {"allowed_subnet_ids": (OWN.upper(),)}, False),
    ({f"{AGENT}.subnetArmId": ABSENT, f"{AGENT}.useMicrosoftManagedNetwork": True}, {"allowed_subnet_ids": (OWN,)}, False),
    ({f"{AGENT}.subnetArmId": ABSENT}, {}, True),
    ({"properties.allowProjectManagement": False, "properties.networkInjections": ABSENT}, {}, False),
])
def test_agents_run_in_an_approved_network(edits: Mapping[str, Any], parameters: Mapping[str, Any], speaks: bool) -> None:
    found = drifts("cognitive-network-injection-agent", {**INJECTION, **edits}, **parameters)
    assert [drift.decided for drift in found] == [False] * speaks


NETWORK = "+managedNetworks[name='default'].properties.managedNetwork"


@pytest.mark.parametrize(("edits", "parameters", "count"), [
    ({f"{NETWORK}.isolationMode": "allowonlyapprovedoutbound"}, {}, 0),
    ({f"{NETWORK}.isolationMode": "AllowInternetOutbound"}, {"minimum_mode": "AllowInternetOutbound"}, 0),
    ({f"{NETWORK}.isolationMode": ABSENT}, {"minimum_mode": "AllowInternetOutbound"}, 1),
    ({f"{NETWORK}.isolationMode": "Disabled"}, {}, 1),
    ({f"{NETWORK}.isolationMode": "AllowAll"}, {"minimum_mode": "AllowInternetOutbound"}, 1),
    ({}, {"allowed_outbound_fqdns": ("files.contoso.example",)}, 0),
    ({f"{NETWORK}.outboundRules['a.b']": {"type": "FQDN", "destination": "*.example"}},
     {"allowed_outbound_fqdns": ("files.contoso.example",)}, 1),
    ({f"{NETWORK}.outboundRules.tag": {"type": "ServiceTag", "destination": {"serviceTag": "Storage"}}},
     {"allowed_outbound_fqdns": ("files.contoso.example",)}, 0),
    ({"+managedNetworks": []}, {}, 0),
])
def test_a_managed_network_lets_out_what_is_approved(edits: Any, parameters: Any, count: int) -> None:
    found = drifts("cognitive-managed-network-isolation", edits, **parameters)
    assert [drift.decided for drift in found] == [False] * count


@pytest.mark.parametrize(("allows", "good", "allow", "speaks"), [
    (ABSENT, None, True, False), (False, None, False, False), (True, None, True, True), (True, {}, True, False),
    (True, {}, False, True), ("true", {}, True, True),
    (True, {"": {"properties": {"allowProjectManagement": True}}}, True, False),
])
def test_projects_stand_where_they_stood(allows: Any, good: Any, allow: bool, speaks: bool) -> None:
    found = drifts("cognitive-project-management", {"properties.allowProjectManagement": allows}, good, allow_projects=allow)
    assert [drift.decided for drift in found] == [False] * speaks


@pytest.mark.parametrize(("policy", "speaks"), [("default", 0), ("Channels", 1), ("OrganizationScope", 1), (ABSENT, 1)])
def test_an_agent_answers_those_with_a_role(policy: Any, speaks: int) -> None:
    at = "+applications[name='support'].properties.authorizationPolicy.type"
    assert len(drifts("cognitive-agent-application-authorization", {at: policy})) == speaks


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("id", "parameter", "value", "sound"), [
    ("cognitive-connection-key-auth", "allowed_auth_types", ["AAD", "ApiKey"], False),
    ("cognitive-connection-key-auth", "allowed_auth_types", [], False),
    ("cognitive-connection-key-auth", "allowed_auth_types", ["AAD"], True),
    ("cognitive-connection-key-auth", "exempt_categories", ["*"], False),
    (TARGET, "allowed_target_hosts", ["*.windows.net"], False),
    (TARGET, "allowed_target_hosts", ["https://a.example"], False),
    (TARGET, "allowed_target_hosts", ["a.example"], True),
    ("cognitive-managed-network-isolation", "minimum_mode", "Disabled", False),
    ("cognitive-capability-host", "allowed_subnet_ids", ["/subscriptions/00000000-0000-0000-0000-000000000001"], False),
    ("cognitive-capability-host", "allowed_subnet_ids", [OWN], True),
    ("cognitive-agent-application-authorization", "allowed_policies", ["Channels"], False),
    ("cognitive-agent-application-authorization", "allowed_policies", ["Default", "OrganizationScope"], False),
])
def test_a_parameter_below_its_floor_is_refused(id: str, parameter: str, value: Any, sound: bool) -> None:
    assert (CONTROLS[id].floors[parameter](value) == "") == sound


def test_accounts_and_projects_are_judged_alike() -> None:
    for id in ("key-auth", "target", "shared"):
        one, other = CONTROLS[f"cognitive-connection-{id}"], CONTROLS[f"cognitive-project-connection-{id}"]
        assert (one.check, one.parameters, one.severity) == (other.check, other.parameters, other.severity)
        assert (one.on, other.on) == (foundry.ACCOUNT, foundry.PROJECT)
