"""Network security groups: what isolates one, and that nothing but its rules is ever written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import recorded
from detectors import CONTROLS
from guardrail import plans, proof
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Drift
from remediators.network import NSG, TYPES, cut_off

TYPE = TYPES[0]
OURS = "properties.securityRules[name='guardrail-quarantine-inbound']"


def group(at: dict[str, Any]) -> Document:
    sample = recorded.good(NSG)
    return replace(sample.document, body=recorded.laid(sample.body, at))


def rule(name: str, **said: Any) -> dict[str, Any]:
    properties = {"access": "Allow", "direction": "Inbound", "priority": 100, "protocol": "Tcp", "sourcePortRange": "*",
                  "sourceAddressPrefix": "10.0.0.0/8", "destinationPortRange": "443", "destinationAddressPrefix": "*"}
    return {"name": name, "properties": {**properties, **said}}


def isolated(document: Document) -> Document:
    """As after the isolation's requests, proved against every control of the type."""
    controls = [control for control in CONTROLS if control.on == NSG]
    edits, refused = plans.edits(TYPE, cut_off(document.node(), {}))
    assert not refused
    steps = plans.steps(TYPE, document, edits)
    proof.prove(document, steps, controls, lambda control: control.parameters)
    assert all(step.request.url.count("/securityRules/guardrail-quarantine-") == 1 for step in steps)
    return proof.predict(document, steps)


def drifts(document: Document) -> list[Drift]:
    return list(cut_off(document.node(), {}))


def priorities(document: Document, direction: str) -> list[tuple[int, str]]:
    """(priority, access) of the direction's rules, in the order that counts."""
    said = [rule["properties"] for rule in document.get("properties.securityRules")]
    return sorted((rule["priority"], rule["access"]) for rule in said if rule["direction"] == direction)


@pytest.mark.parametrize("rules", [
    [], [rule("a", priority=300)], [rule("a", priority=101), rule("b", priority=102, direction="Outbound")],
    [rule("d", access="Deny"), rule("e", access="Deny", priority=101), rule("a", priority=103)],
])
def test_a_denial_stands_before_everything_that_allows(rules: list[Any]) -> None:
    cut = isolated(group({"properties.securityRules": rules}))
    for direction in ("Inbound", "Outbound"):
        order = priorities(cut, direction)
        assert "Allow" not in [access for _, access in order[:1]]
        assert len({priority for priority, _ in order}) == len(order), "a priority is given once a direction"
    assert drifts(cut) == []


def test_where_no_priority_is_free_a_person_decides() -> None:
    """Just-in-time access takes the first numbers: nothing goes before 100."""
    said = drifts(group({"properties.securityRules": [rule("SecurityCenter-JITRule-1")]}))
    assert [(drift.decided, drift.path) for drift in said] == [
        (False, "properties.securityRules"), (True, "properties.securityRules[name='guardrail-quarantine-outbound']")]
    unread = drifts(group({"properties.securityRules": [rule("odd", priority="first")]}))
    assert not unread[0].decided


@pytest.mark.parametrize("change", [
    {"access": "Allow"}, {"priority": 4000}, {"protocol": "Udp"}, {"sourceAddressPrefix": "10.0.0.0/8"},
    {"destinationPortRange": "443"}, {"direction": "Outbound"},
    {"sourceAddressPrefix": ABSENT, "sourceAddressPrefixes": ["8.8.8.8"]},
    {"destinationPortRange": ABSENT, "destinationPortRanges": ["1", "2"]}, {"sourceAddressPrefixes": ["8.8.8.8"]},
    {"sourceApplicationSecurityGroups": [{"id": "/subscriptions/x"}]},
])
def test_a_weakened_quarantine_is_made_whole(change: dict[str, Any]) -> None:
    cut = isolated(recorded.good(NSG).document)
    at = {f"{OURS}.properties.{name}": value for name, value in change.items()}
    weak = replace(cut, body=recorded.laid(cut.body, at))
    assert drifts(weak)
    assert drifts(isolated(weak)) == []


def test_the_group_itself_is_never_written() -> None:
    """A PUT of the group would drop the rules that were added since it was read."""
    for path in ("properties.flushConnection", "tags.env", "location", "properties.securityRules", ""):
        edits, refused = plans.edits(TYPE, [Drift(path, 1, 2), Drift(path, 1, ABSENT)])
        assert not edits
        assert len(refused) == 2


@pytest.mark.threat("A10")
def test_a_rule_goes_whole_and_comes_back_whole() -> None:
    opening = rule("open", sourceAddressPrefix="*", destinationPortRange="22")
    document = group({"properties.securityRules[name='open']": opening})
    controls = [control for control in CONTROLS if control.id.startswith("nsg-")]
    found = plans.judge(controls, document, lambda control: control.parameters)
    edits, _ = plans.edits(TYPE, [finding.drift for finding in found if finding.drift])
    [gone] = plans.steps(TYPE, document, edits)
    assert (gone.request.method, gone.request.url.rpartition("/")[2], gone.request.body) == ("DELETE", "open", None)
    back = [replace(edit, before=edit.after, after=edit.before) for edit in edits]
    [put] = plans.steps(TYPE, proof.predict(document, [gone]), back)
    assert (put.request.method, put.request.url) == ("PUT", gone.request.url)
    assert put.request.body == {"properties": opening["properties"]}
