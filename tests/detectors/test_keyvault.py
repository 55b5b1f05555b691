"""What the table of all controls cannot know of key vaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import recorded
from detectors.keyvault import CONTROLS, VAULT
from guardrail.paths import ABSENT
from guardrail.plans import edits, judge, steps
from guardrail.values import Drift
from remediators.keyvault import TYPES

BY_ID = {control.id: control for control in CONTROLS}


def found(id: str, **properties: Any) -> list[Drift]:
    sample = recorded.good(VAULT)
    body = recorded.laid(sample.body, {f"properties.{name}": value for name, value in properties.items()})
    findings = judge([BY_ID[id]], replace(sample.document, body=body), lambda control: control.parameters)
    return [finding.drift for finding in findings if finding.drift is not None]


@pytest.mark.parametrize("access", ["disabled", "Disabled", "DISABLED"])
def test_a_closed_endpoint_is_closed_in_any_spelling(access: str) -> None:
    assert found("keyvault-public-network-access", publicNetworkAccess=access) == []
    assert found("keyvault-network-default-action", publicNetworkAccess=access, networkAcls=ABSENT) == []


@pytest.mark.threat("E9")
@pytest.mark.parametrize(("access", "decided"), [
    ("enabled", True), (ABSENT, True), ("SecuredByPerimeter", False), ("", False)])
def test_any_other_word_is_not_closed(access: Any, decided: bool) -> None:
    """The property is a free string in the schema: only the words that we know are written over."""
    assert [drift.decided for drift in found("keyvault-public-network-access", publicNetworkAccess=access)] == [decided]
    drifts = found("keyvault-network-default-action", publicNetworkAccess=access, networkAcls=ABSENT)
    assert [drift.wanted for drift in drifts] == ["Deny"]


def test_purge_protection_is_only_ever_turned_on_and_only_asked_for() -> None:
    assert BY_ID["keyvault-purge-protection"].asks, "it cannot be undone"
    for value in (ABSENT, False):
        assert [drift.wanted for drift in found("keyvault-purge-protection", enablePurgeProtection=value)] == [True]


def test_no_fix_sends_access_policies_and_network_acls_go_whole() -> None:
    sample = recorded.good(VAULT)
    body = sample.body
    for control in CONTROLS:
        body = recorded.laid(body, control.drift)
    document = replace(sample.document, body=body)
    findings = judge(CONTROLS, document, lambda control: control.parameters)
    wanted, _ = edits(TYPES[0], [finding.drift for finding in findings if finding.drift])
    [step] = steps(TYPES[0], document, wanted)
    assert step.request.method == "PATCH"
    assert step.request.body == {"properties": {
        "publicNetworkAccess": "Disabled", "enablePurgeProtection": True,
        "networkAcls": {"bypass": "AzureServices", "defaultAction": "Deny", "ipRules": [], "virtualNetworkRules": []}}}
