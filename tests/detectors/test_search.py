"""AI Search: what closing a firewall must not open, and where a private link may lead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import recorded
from detectors import search
from guardrail import plans, proof
from guardrail.paths import ABSENT
from guardrail.values import Control, Drift
from remediators import TYPES
from tests.detectors.worst import drifts_in_time

CONTROLS = {control.id: control for control in search.CONTROLS}
RULES, LINKS, KEYS = (CONTROLS[id] for id in ("search-network-rules", "search-shared-private-link", "search-local-auth"))
TYPE = next(type for type in TYPES if type.name == search.SERVICE)
OFFICE = "203.0.113.0/28"


def drifts(control: Control, edits: dict[str, Any], **parameters: Any) -> list[Drift]:
    document = recorded.good(search.SERVICE).document
    document = replace(document, body=recorded.laid(document.body, edits))
    return list(control.check(document.node(), {**control.parameters, **parameters}))


def ruled(*values: Any) -> dict[str, Any]:
    return {search.ACCESS: "Enabled", search.RULES: [{"value": value} for value in values]}


@pytest.mark.threat("E9")
@pytest.mark.parametrize("wide", ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "::ffff:0.0.0.0/96", "203.0.113.0/23"])
def test_wide_rules_go_even_if_the_list_covers_them(wide: str) -> None:
    found = drifts(RULES, ruled(OFFICE, wide), allowed_ip_ranges=("203.0.0.0/8", wide))
    assert [drift.path for drift in found] == [f"{search.RULES}[value='{wide}']"]


def test_an_open_service_that_would_keep_no_rule_is_closed_as_well() -> None:
    """Without rules the public endpoint is open to all: both go into one request."""
    found = drifts(RULES, ruled("0.0.0.0/1"))
    assert {drift.path: drift.wanted for drift in found} == {
        f"{search.RULES}[value='0.0.0.0/1']": ABSENT, search.ACCESS: "Disabled"}
    document = recorded.good(search.SERVICE).document
    document = replace(document, body=recorded.laid(document.body, ruled("0.0.0.0/1")))
    edits, refused = plans.edits(TYPE, found)
    steps = plans.steps(TYPE, document, edits)
    assert [step.request.method for step in steps] == ["PATCH"] and not refused
    assert list(RULES.check(proof.predict(document, steps).node(), RULES.parameters)) == []


def test_an_approved_rule_that_stays_keeps_the_endpoint_as_it_is() -> None:
    found = drifts(RULES, ruled(OFFICE, "198.51.100.7"), allowed_ip_ranges=(OFFICE,))
    assert [drift.path for drift in found] == [f"{search.RULES}[value='198.51.100.7']"]


def test_a_rule_that_cannot_be_read_is_a_persons() -> None:
    (drift,) = drifts(RULES, ruled("everywhere"))
    assert not drift.decided


def test_a_bypass_that_is_not_approved_goes() -> None:
    assert drifts(RULES, {"properties.networkRuleSet.bypass": "AzureServices"}) == []
    (drift,) = drifts(RULES, {"properties.networkRuleSet.bypass": "AzureServices"}, allowed_bypass=("None",))
    assert drift.wanted == "None"


def test_options_go_with_the_keys_and_only_with_them() -> None:
    options = {"aadOrApiKey": {"aadAuthFailureMode": "http403"}}
    found = drifts(KEYS, {"properties.disableLocalAuth": False, "properties.authOptions": options})
    assert {drift.path: drift.wanted for drift in found} == {
        "properties.disableLocalAuth": True, "properties.authOptions": ABSENT}
    odd = drifts(KEYS, {"properties.disableLocalAuth": "perhaps", "properties.authOptions": options})
    assert [drift.decided for drift in odd] == [False]


def link(target: Any, group: str = "blob") -> dict[str, Any]:
    return {f"{search.LINKS}[name='new']": {"name": "new", "properties": {"privateLinkResourceId": target, "groupId": group}}}


def id_in(subscription: str) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/st"


FOREIGN = "00000000-0000-0000-0000-0000000000FF"


def test_links_within_the_services_own_subscription_pass() -> None:
    assert drifts(LINKS, link(id_in("00000000-0000-0000-0000-000000000001"))) == []
    assert drifts(LINKS, link(id_in(FOREIGN)), trusted_subscriptions=(FOREIGN.lower(),)) == []


def test_links_into_another_subscription_or_another_part_go() -> None:
    (drift,) = drifts(LINKS, link(id_in(FOREIGN)))
    assert (drift.path, drift.wanted) == (f"{search.LINKS}[name='new']", ABSENT)
    (drift,) = drifts(LINKS, link(id_in("00000000-0000-0000-0000-000000000001"), "table"), allowed_group_ids=("blob",))
    assert drift.wanted is ABSENT


@pytest.mark.parametrize("target", [None, "", 7, "/subscriptions/x", f"{id_in(FOREIGN)}/../.."])
def test_a_link_whose_target_cannot_be_read_is_a_persons(target: Any) -> None:
    (drift,) = drifts(LINKS, link(target))
    assert not drift.decided


def test_what_a_free_service_cannot_have_is_not_sent() -> None:
    free = {"sku.name": "free", search.ACCESS: "Enabled"}
    assert [drift.decided for drift in drifts(CONTROLS["search-public-network-access"], free)] == [False]
    assert [drift.decided for drift in drifts(CONTROLS["search-private-link-capable-sku"], free)] == [False]
    assert drifts(CONTROLS["search-private-link-capable-sku"], {"sku.name": "gigantic"})


def test_selected_addresses_pass_only_where_a_parameter_says_so() -> None:
    control = CONTROLS["search-public-network-access"]
    assert drifts(control, ruled(OFFICE)) and not drifts(control, ruled(OFFICE), allow_selected_ips=True)
    assert drifts(control, ruled(), allow_selected_ips=True)       # selected, and none are: open to all


@pytest.mark.parametrize("kind", ["SystemAssigned, UserAssigned", "systemAssigned,userAssigned", "UserAssigned"])
def test_any_identity_will_do(kind: str) -> None:
    assert drifts(CONTROLS["search-identity"], {"identity.type": kind}) == []


def test_indexes_from_before_are_reported() -> None:
    status = "properties.encryptionWithCmk.encryptionComplianceStatus"
    (drift,) = drifts(CONTROLS["search-cmk-enforcement"], {status: "NonCompliant"})
    assert not drift.decided


@pytest.mark.threat("E8")
@pytest.mark.parametrize("control", [RULES, LINKS], ids=lambda control: control.id)
def test_ten_thousand_entries_are_judged_in_time(control: Control) -> None:
    document = recorded.good(search.SERVICE).document
    many = {search.RULES: [{"value": f"10.{at // 256}.{at % 256}.0/24"} for at in range(10_000)],
            search.LINKS: [{"name": f"l{at}", "properties": {"privateLinkResourceId": id_in(FOREIGN)}} for at in range(10_000)]}
    worst = replace(document, body=recorded.laid(document.body, many))
    assert drifts_in_time(lambda: list(control.check(worst.node(), control.parameters)), worst, search.RULES)


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("id", "name", "weak"), [
    ("search-network-rules", "allowed_ip_ranges", ["0.0.0.0/0"]),
    ("search-network-rules", "allowed_ip_ranges", ["0.0.0.0/1", "128.0.0.0/1"]),
    ("search-network-rules", "min_prefix_length", 0), ("search-network-rules", "allowed_bypass", ["*"]),
    ("search-shared-private-link", "trusted_subscriptions", ["*"]), ("search-shared-private-link", "allowed_group_ids", ["*"]),
    ("search-public-network-access", "allow_perimeter", "yes")])
def test_a_weak_parameter_is_refused(id: str, name: str, weak: Any) -> None:
    assert CONTROLS[id].floors[name](weak)
    assert not CONTROLS[id].floors[name](CONTROLS[id].parameters[name])
