"""What cuts a storage account and a key vault off, and what their writes carry along."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import recorded
from detectors import CONTROLS
from guardrail import plans, proof
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Edit, ResourceType
from remediators import keyvault, storage

TYPES = {"account": storage.TYPES[0], "vault": keyvault.TYPES[0]}
OPEN: dict[str, Any] = {
    "properties.publicNetworkAccess": "Enabled", "properties.networkAcls": ABSENT,
    "properties.allowSharedKeyAccess": ABSENT}


def document(type: ResourceType, at: dict[str, Any]) -> Document:
    sample = recorded.good(type.name)
    return replace(sample.document, body=recorded.laid(sample.body, at))


def isolation(type: ResourceType, of: Document) -> tuple[list[Edit], list[str]]:
    """(edits, why the rest is refused)."""
    assert type.isolate is not None
    edits, refused = plans.edits(type, type.isolate(of.node(), {}))
    return list(edits), [why for _, why in refused]


@pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)
def test_one_patch_cuts_it_off_and_opens_nothing(type: ResourceType) -> None:
    wide = document(type, OPEN)
    edits, refused = isolation(type, wide)
    [step] = plans.steps(type, wide, edits)
    proof.prove(wide, [step], [control for control in CONTROLS if control.on == type.name],
                lambda control: control.parameters)
    cut = proof.predict(wide, [step])
    assert step.request.method == "PATCH"
    assert not refused
    assert isolation(type, cut) == ([], [])
    assert cut.get("properties.publicNetworkAccess") == "Disabled"
    assert cut.get("properties.networkAcls.defaultAction") == "Deny"
    assert type.name != storage.ACCOUNT or cut.get("properties.allowSharedKeyAccess") is False
    assert cut.get("properties.accessPolicies") == wide.get("properties.accessPolicies")


@pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)
def test_what_is_closed_already_is_not_written(type: ResourceType) -> None:
    assert isolation(type, recorded.good(type.name).document) == ([], [])


@pytest.mark.threat("E9")
@pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)
def test_an_unknown_word_is_not_written_over_and_holds_up_no_other(type: ResourceType) -> None:
    edits, refused = isolation(type, document(type, {**OPEN, "properties.publicNetworkAccess": "Disabled "}))
    assert len(refused) == 1
    assert "properties.networkAcls.defaultAction" in [edit.path for edit in edits]


@pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)
def test_network_acls_go_whole(type: ResourceType) -> None:
    """Whether ARM merges inside them was never recorded: what is left out might be lost."""
    at = {"properties.networkAcls.defaultAction": "Allow", "properties.networkAcls.notYetKnown": [1],
          "properties.networkAcls.ipRules": [{"value": "203.0.113.7"}], "tags.team": "research"}
    allowing = document(type, at)
    [step] = plans.steps(type, allowing, [Edit("properties.networkAcls.defaultAction", "Allow", "Deny")])
    whole = {**allowing.get("properties.networkAcls"), "defaultAction": "Deny"}
    assert step.request.body == {"properties": {"networkAcls": whole}}


def test_a_key_is_restored_with_all_that_names_it() -> None:
    type, control = storage.TYPES[0], next(control for control in CONTROLS if control.id == "storage-cmk")
    drifted = recorded.drifted(control).document
    found = plans.judge([control], drifted, lambda control: control.parameters)
    edits, _ = plans.edits(type, [finding.drift for finding in found if finding.drift])
    [step] = plans.steps(type, drifted, edits)
    good = recorded.good(type.name).document
    assert step.request.body == {"properties": {"encryption": {
        "keySource": "Microsoft.Keyvault",
        "keyvaultproperties": {name: good.get(f"properties.encryption.keyvaultproperties.{name}")
                               for name in ("keyname", "keyvaulturi", "keyversion")},
        "identity": good.get("properties.encryption.identity")}}}
