"""What holds our tables against the published types sees what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

import recorded
from guardrail.documents import Node
from guardrail.paths import parse, show
from remediators import TYPES
from tests import facts, published
from tests.watched import watched

ACCOUNT = "Microsoft.CognitiveServices/accounts"
TYPE = next(type for type in TYPES if type.name == ACCOUNT)


@pytest.mark.parametrize(("body", "sent", "fault"), [
    ({"properties": {"publicNetworkAccess": "disabled"}, "KIND": "OpenAI", "tags": {"a": "b"}, "etag": None}, "", ""),
    ({"properties": {"publicNetworkAccess": "Closed"}}, "", "properties.publicNetworkAccess: 'Closed' is none of"),
    ({"properties": {"publicNetworkAccess": True}}, "", "properties.publicNetworkAccess: True is no string"),
    ({"properties": {"disableLocalAuth": 1}}, "", "properties.disableLocalAuth: 1 is no boolean"),
    ({"properties": {"localAuth": False}}, "PATCH", "properties.localAuth: no such property"),
    ({"properties": {"localAuth": None}}, "PATCH", "properties.localAuth: no such property"),
    ({"properties": {"networkAcls": {"ipRules": [{"value": "203.0.113.0", "note": ""}]}}}, "PATCH", "properties.networkAcls"),
    ({"properties": {"networkAcls": {"ipRules": [{}]}}}, "PATCH", "properties.networkAcls.ipRules['#0'].value: required"),
    ({"properties": {"networkAcls": {"ipRules": {}}}}, "PATCH", "properties.networkAcls.ipRules: {} is no array"),
    ({"properties": {"endpoint": "https://a"}}, "PATCH", "properties.endpoint: read-only"),
    ({"id": "/a"}, "PUT", "id: read-only"),
    ({"properties": {"restore": True}}, "", "properties.restore: write-only"),
    ({"tags": {"a": 1}}, "", "tags.a: 1 is no string"),
])
def test_a_wrong_document_is_seen(body: Any, sent: str, fault: str) -> None:
    found = list(published.published(ACCOUNT, TYPE.api_version).faults(body, sent=sent))
    assert len(found) == bool(fault) and all(one.startswith(fault) for one in found)


@pytest.mark.parametrize(("path", "value", "fault"), [
    ("properties.publicNetworkAccess", "Disabled", ""), ("+raiPolicies[name='a'].properties.mode", "Blocking", ""),
    ("properties.publicNetworkAcess", "Disabled", "properties.publicNetworkAcess: no such"),
    ("properties.publicnetworkaccess", "Disabled", "properties.publicnetworkaccess: spelled otherwise"),
    ("properties.publicNetworkAccess[='a']", "Disabled", "properties.publicNetworkAccess[='a']: no such"),
    ("properties.publicNetworkAccess", "disabled", "properties.publicNetworkAccess: 'disabled' is none of"),
    ("properties.disableLocalAuth", "true", "properties.disableLocalAuth: 'true' where boolean stands"),
    ("+raiPolicies[name='a'].properties.contentFilters[name='b',source='c'].severityThreshold", "Lower", "+raiPolicies"),
])
def test_a_wrong_path_or_value_is_seen(path: str, value: Any, fault: str) -> None:
    found = [*facts.faults_of_path(TYPE, parse(path)), *facts.faults_of_value(TYPE, parse(path), value)]
    assert bool(found) == bool(fault) and all(fault.split(":")[0].split("[")[0] in one for one in found)


def test_what_a_discriminator_chooses_is_the_shape() -> None:
    """A compute's own properties are those of its computeType: another kind's are unknown, an unknown kind is none."""
    name = "Microsoft.MachineLearningServices/workspaces/computes"
    compute = published.published(name, next(type.api_version for type in TYPES if type.name == name))
    instance = {"computeType": "computeinstance", "properties": {"sshSettings": {"sshPublicAccess": "Enabled"}}}
    assert list(compute.faults({"properties": instance})) == []
    assert list(compute.faults({"properties": {**instance, "computeType": "Kubernetes"}})) == [
        "properties.properties.sshSettings: no such property"]
    assert any("is none of" in fault for fault in compute.faults({"properties": {"computeType": "Mainframe"}}))
    assert len(compute.spots("properties.properties.vmSize")) > 1


def test_what_a_check_compares_with_is_noted() -> None:
    document = recorded.good(ACCOUNT).document
    with watched() as asked:
        node = document.node()
        assert node.text("kind") in ("none", "openai")
        assert node.text("kind") != "b"
    assert {(show(path), text) for path, text in asked.compared} == {("kind", "none"), ("kind", "openai"), ("kind", "b")}
    assert type(Node.text(document.node(), "kind")) is str
