"""Cognitive Services accounts: what the common table of controls cannot know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import recorded
from detectors import cognitive
from guardrail.paths import ABSENT
from guardrail.values import Drift
from tests.detectors.worst import drifts_in_time

CONTROLS = {control.id: control for control in cognitive.CONTROLS}
RULES = "properties.networkAcls.ipRules"
RANGES = "cognitive-network-acls-ip-rules"
SUBDOMAIN = "properties.customSubDomainName"


def drifts(id: str, edits: Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> list[Drift]:
    """What a control says of its type's good document with `edits` laid over it."""
    control, good = CONTROLS[id], recorded.good(cognitive.ACCOUNT)
    document = recorded.Sample(good.id, good.api_version, recorded.laid(good.body, edits)).document
    return list(control.check(document.node(), {**control.parameters, **(parameters or {})}))


def verdicts(values: list[Any], **parameters: Any) -> dict[str, str]:
    """The verdict on each IP rule that a control speaks of: unwanted, or undecided."""
    found = drifts(RANGES, {RULES: [{"value": value} for value in values]}, parameters)
    return {drift.observed["value"]: "unwanted" if drift.decided else "undecided" for drift in found}


@pytest.mark.threat("E9")
@pytest.mark.parametrize(("values", "spoken"), [
    (["0.0.0.0/0"], {"0.0.0.0/0": "unwanted"}),
    (["0.0.0.0/1", "128.0.0.0/1"], {"0.0.0.0/1": "unwanted", "128.0.0.0/1": "unwanted"}),
    (["203.0.113.9/0"], {"203.0.113.9/0": "unwanted"}),
    (["::ffff:0.0.0.0/96"], {"::ffff:0.0.0.0/96": "unwanted"}),
    (["::ffff:203.0.113.7/128"], {}),
    (["203.0.113.7"], {}),
    (["203.0.113.7/24"], {}),
    (["203.0.113.0/23"], {"203.0.113.0/23": "unwanted"}),
    (["203.0.112.0/24", "203.0.113.0/24"], {"203.0.112.0/24": "unwanted", "203.0.113.0/24": "unwanted"}),
    (["203.0.113.0/25", "203.0.113.128/25", "198.51.100.1"], {}),
    (["203.0.113.7", "203.0.113.7"], {}),
    (["203.0.113.7 "], {"203.0.113.7 ": "undecided"}),
    (["203.0.113.0/ 24"], {"203.0.113.0/ 24": "undecided"}),
    (["0.0.0.0/0.0.0.0"], {"0.0.0.0/0.0.0.0": "undecided"}),
    (["010.0.0.1"], {"010.0.0.1": "undecided"}),
    (["::/0"], {"::/0": "undecided"}),
    (["1.2.3.4-1.2.3.9"], {"1.2.3.4-1.2.3.9": "undecided"}),
    (["*"], {"*": "undecided"}),
    (["Internet"], {"Internet": "undecided"}),
    ([], {}),
], ids=str)
def test_rules_are_ranges_not_texts(values: list[str], spoken: dict[str, str]) -> None:
    assert verdicts(values) == spoken


def test_approved_ranges_bound_the_rules_and_neighbours_inside_them_are_fine() -> None:
    allowed = ["203.0.112.0/20", "198.51.100.7"]
    rules = ["203.0.112.0/24", "203.0.113.0/24", "198.51.100.7", "198.51.100.8", "203.0.112.0/20"]
    said = verdicts(rules, allowed_ip_ranges=allowed)
    assert said == {"198.51.100.8": "unwanted", "203.0.112.0/20": "unwanted"}


def test_two_approved_neighbours_hold_a_rule_across_both() -> None:
    assert verdicts(["203.0.113.0/24"], allowed_ip_ranges=["203.0.113.0/25", "203.0.113.128/25"]) == {}


@pytest.mark.threat("E8")
@pytest.mark.parametrize("values", [
    [f"10.{n // 256}.{n % 256}.0/24" for n in range(10_000)],
    [f"{n % 223 + 1}.{n // 223}.0.0/8" for n in range(10_000)],
    ["1" * 400 + "."] * 10_000,
    [f"x{n}" for n in range(10_000)],
], ids=["neighbours", "wide", "bait", "names"])
@pytest.mark.parametrize("allowed", [(), tuple(f"{n + 1}.99.7.0/24" for n in range(200))], ids=["open", "listed"])
def test_ten_thousand_rules_are_judged_in_a_fifth_of_a_second(values: list[str], allowed: tuple[str, ...]) -> None:
    control, good = CONTROLS[RANGES], recorded.good(cognitive.ACCOUNT)
    body = recorded.laid(good.body, {RULES: [{"value": value} for value in values]})
    document = recorded.Sample(good.id, good.api_version, body).document
    given = {**control.parameters, "allowed_ip_ranges": allowed}
    assert len(drifts_in_time(lambda: control.check(document.node(), given), document, RULES)) == 10_000


@pytest.mark.parametrize(("id", "edits"), [
    ("cognitive-network-acls-default-deny",
     {"properties.publicNetworkAccess": ABSENT, "properties.networkAcls": ABSENT}),
    ("cognitive-local-auth-disabled", {"properties.disableLocalAuth": ABSENT}),
])
def test_what_would_lock_everybody_out_or_be_refused_is_left_to_a_person(id: str, edits: Mapping[str, Any]) -> None:
    """Both need a customSubDomainName, which can be set once only."""
    assert [drift.decided for drift in drifts(id, edits)] == [True]
    assert [drift.decided for drift in drifts(id, {**edits, SUBDOMAIN: ABSENT})] == [False]
    assert [drift.decided for drift in drifts(id, {**edits, SUBDOMAIN: ""})] == [False]


@pytest.mark.parametrize(("access", "action", "speaks"), [
    ("Disabled", "Allow", False), ("disabled", "Allow", False), ("Enabled", "deny", False),
    ("Enabled", "Allow", True), ("Enabled", ABSENT, True), (ABSENT, ABSENT, True), ("Disabled ", "Allow", True),
    ("SecuredByPerimeter", "Allow", True), (True, "Allow", True),
])
def test_the_default_action_counts_while_the_endpoint_is_not_closed(access: Any, action: Any, speaks: bool) -> None:
    edits = {"properties.publicNetworkAccess": access, "properties.networkAcls.defaultAction": action}
    assert bool(drifts("cognitive-network-acls-default-deny", edits)) == speaks


def test_selected_networks_pass_only_where_a_parameter_says_so_and_the_rest_is_denied() -> None:
    chosen = {"allow_selected_networks": True}
    opened = {"properties.publicNetworkAccess": "Enabled"}
    assert drifts("cognitive-public-network-access", opened)
    assert not drifts("cognitive-public-network-access", opened, chosen)
    for acls in ({"properties.networkAcls.defaultAction": "Allow"}, {"properties.networkAcls": ABSENT}):
        assert drifts("cognitive-public-network-access", {**opened, **acls}, chosen)


@pytest.mark.parametrize(("type", "required", "wanted"), [
    ("SystemAssigned", "any", None), ("systemassigned, userassigned", "any", None),
    ("SystemAssigned,UserAssigned", "any", None),
    ("UserAssigned", "any", None), ("None", "any", "SystemAssigned"), (ABSENT, "any", "SystemAssigned"),
    ("UserAssigned", "SystemAssigned", "SystemAssigned, UserAssigned"), ("None", "SystemAssigned", "SystemAssigned"),
    ("SystemAssigned", "SystemAssigned", None),
])
def test_an_identity_is_added_and_none_is_taken_away(type: Any, required: str, wanted: str | None) -> None:
    found = drifts("cognitive-managed-identity", {"identity.type": type}, {"required_identity_type": required})
    assert [drift.wanted for drift in found] == ([wanted] if wanted else [])
    assert all(drift.decided for drift in found)


def test_hosts_are_approved_one_by_one() -> None:
    hosts = ["Files.Contoso.example", "files.contoso.example.", "files.contoso.example ", "*.example", "evil.example"]
    allowed = {"allowed_fqdns": ["files.contoso.example"]}
    found = drifts("cognitive-outbound-restricted", {"properties.allowedFqdnList": hosts}, allowed)
    assert [drift.observed for drift in found] == hosts[1:]
    assert all(drift.wanted is ABSENT and drift.decided for drift in found)
    (odd,) = drifts("cognitive-outbound-restricted", {"properties.allowedFqdnList": [1]})
    assert odd.observed == 1


def test_kinds_that_serve_no_models_may_be_exempt() -> None:
    keys_on = {"properties.disableLocalAuth": False, "kind": "SpeechServices"}
    assert drifts("cognitive-local-auth-disabled", keys_on)
    assert not drifts("cognitive-local-auth-disabled", keys_on, {"exempt_kinds": ["speechservices"]})


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("id", "parameter", "value", "sound"), [
    (RANGES, "allowed_ip_ranges", ["0.0.0.0/0"], False),
    (RANGES, "allowed_ip_ranges", ["0.0.0.0/1", "128.0.0.0/1"], False),
    (RANGES, "allowed_ip_ranges", ["*"], False),
    (RANGES, "allowed_ip_ranges", "203.0.113.0/24", False),
    (RANGES, "allowed_ip_ranges", ["203.0.113.0/24"], True),
    (RANGES, "min_prefix_length", 0, False),
    (RANGES, "min_prefix_length", True, False),
    (RANGES, "min_prefix_length", 16, True),
    ("cognitive-public-network-access", "allow_selected_networks", "yes", False),
    ("cognitive-public-network-access", "allow_selected_networks", True, True),
    ("cognitive-local-auth-disabled", "exempt_kinds", ["*"], False),
    ("cognitive-local-auth-disabled", "exempt_kinds", ["OpenAI"], False),
    ("cognitive-local-auth-disabled", "exempt_kinds", ["SpeechServices"], True),
    ("cognitive-outbound-restricted", "allowed_fqdns", ["*.example.com"], False),
    ("cognitive-outbound-restricted", "allowed_fqdns", ["com"], False),
    ("cognitive-outbound-restricted", "allowed_fqdns", ["files.example.com"], True),
    ("cognitive-managed-identity", "required_identity_type", "none", False),
    ("cognitive-managed-identity", "required_identity_type", "SystemAssigned", True),
])
def test_a_parameter_below_its_floor_is_refused(id: str, parameter: str, value: Any, sound: bool) -> None:
    assert (CONTROLS[id].floors[parameter](value) == "") == sound


def test_every_parameter_has_a_floor_that_its_default_passes() -> None:
    for control in cognitive.CONTROLS:
        assert set(control.floors) == set(control.parameters)
        assert [value for name, value in control.parameters.items() if control.floors[name](value)] == []


def test_a_removed_rule_leaves_the_others() -> None:
    """The drift is the item, never the list: what stands beside it is not said."""
    (drift,) = drifts(RANGES, CONTROLS[RANGES].drift)
    mended = recorded.laid(recorded.drifted(CONTROLS[RANGES]).body, {drift.path: ABSENT})
    assert mended == recorded.good(cognitive.ACCOUNT).body
