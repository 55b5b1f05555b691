"""Role assignments: which are too much, and what a policy may not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import recorded
from detectors import authorization
from guardrail import plans
from guardrail.paths import ABSENT
from guardrail.values import Drift, Edit
from remediators.authorization import TYPES

(CONTROL,) = authorization.CONTROLS
OWNER = authorization.ROLES["Owner"]
SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
ROLE, SCOPE, PRINCIPAL = "properties.roleDefinitionId", "properties.scope", "properties.principalId"
SOMEBODY = "b6941d98-695c-4568-8d12-c4e0b743b9f0"


def drifts(edits: Mapping[str, Any], **parameters: Any) -> list[Drift]:
    good = recorded.good(authorization.ROLE_ASSIGNMENT)
    document = recorded.Sample(good.id, good.api_version, recorded.laid(good.body, edits)).document
    return list(CONTROL.check(document.node(), {**CONTROL.parameters, **parameters}))


def role(guid: str, prefix: str = SUBSCRIPTION) -> str:
    return f"{prefix}/providers/Microsoft.Authorization/roleDefinitions/{guid}"


@pytest.mark.parametrize("name", authorization.ROLES)
def test_the_three_that_hand_out_rights_are_privileged_and_others_by_parameter(name: str) -> None:
    edits = {ROLE: role(authorization.ROLES[name])}
    assert bool(drifts(edits)) == (name in authorization.ALWAYS_PRIVILEGED)
    assert drifts(edits, privileged_roles=[*authorization.ALWAYS_PRIVILEGED, name])
    assert drifts(edits, privileged_roles=[*authorization.ALWAYS_PRIVILEGED, authorization.ROLES[name].upper()])


@pytest.mark.parametrize("id", [
    role(OWNER), role(OWNER.upper()), role(OWNER, ""), OWNER,
    role(OWNER, "/providers/Microsoft.Management/managementGroups/mg")])
def test_the_role_is_its_guid_wherever_it_was_read(id: str) -> None:
    (drift,) = drifts({ROLE: id})
    assert (drift.path, drift.wanted, drift.decided) == ("", ABSENT, True)


@pytest.mark.threat("E9")
@pytest.mark.parametrize("odd", [
    ABSENT, "", "Owner", role("Owner"), role(OWNER) + "/", role(OWNER) + " ", role(OWNER)[:-1]])
def test_a_role_that_cannot_be_told_is_not_compliant(odd: Any) -> None:
    assert [drift.decided for drift in drifts({ROLE: odd})] == [False]


GROUP = f"{SUBSCRIPTION}/resourceGroups/rg-ai-dev"
VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-ai-dev"


@pytest.mark.parametrize(("scope", "rank"), [
    ("/", -1), ("", -1), ("/providers/Microsoft.Management/managementGroups/mg", -1), (f"{SUBSCRIPTION}/", -1),
    (SUBSCRIPTION, 0), (GROUP, 1), (VAULT, 2), (f"{SUBSCRIPTION}/providers/Microsoft.Security/pricings/AI", 2),
    (f"{SUBSCRIPTION}/resourceGroups", -1), (f"{SUBSCRIPTION}/resourceGroups/a/b", -1),
])
@pytest.mark.parametrize(("restricted", "upto"), [("subscription", 0), ("resourceGroup", 1), ("resource", 2)])
def test_what_is_no_narrower_than_the_scope_level_counts(scope: str, rank: int, restricted: str, upto: int) -> None:
    found = drifts({ROLE: role(OWNER), SCOPE: scope}, restricted_scope_level=restricted)
    assert bool(found) == (rank <= upto)


def test_a_scope_that_is_not_told_counts_as_the_widest() -> None:
    assert drifts({ROLE: role(OWNER), SCOPE: ABSENT}, restricted_scope_level="subscription")


@pytest.mark.parametrize(("principal", "allowed", "speaks"), [
    (SOMEBODY, [SOMEBODY], False), (SOMEBODY.upper(), [SOMEBODY], False), (SOMEBODY, [SOMEBODY.upper()], False),
    (SOMEBODY, [], True), (SOMEBODY + " ", [SOMEBODY], True), (ABSENT, [SOMEBODY], True),
])
def test_only_the_listed_principals_may(principal: Any, allowed: list[str], speaks: bool) -> None:
    assert bool(drifts({ROLE: role(OWNER), PRINCIPAL: principal}, allowed_principals=allowed)) == speaks


@pytest.mark.threat("F5", "F6")
def test_an_assignment_is_deleted_or_left_and_never_written() -> None:
    """Settled question 12: roleAssignments/write is never held, so the undo is a command for a person."""
    (type,) = TYPES
    document = recorded.drifted(CONTROL).document
    edits, refused = plans.edits(type, CONTROL.check(document.node(), CONTROL.parameters))
    assert refused == []
    (step,) = plans.steps(type, document, edits)
    assert (step.request.method, step.request.url) == ("DELETE", document.id)
    back = [Drift("", edit.after, edit.before) for edit in edits]
    assert plans.edits(type, back)[0] == ()
    assert plans.edits(type, [Drift("properties.description", "a", "b")])[0] == ()
    assert edits[0] == Edit("", {"properties": {name: document.get(f"properties.{name}") or None for name in (
        "roleDefinitionId", "principalId", "principalType", "condition", "conditionVersion", "description",
        "delegatedManagedIdentityResourceId")}}, ABSENT)


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("parameter", "value", "sound"), [
    ("privileged_roles", [], False), ("privileged_roles", ["Owner"], False), ("privileged_roles", "Owner", False),
    ("privileged_roles", [*authorization.ALWAYS_PRIVILEGED, "*"], False), ("privileged_roles", ["owner"], False),
    ("privileged_roles", [*authorization.ALWAYS_PRIVILEGED, "Contributor"], True),
    ("privileged_roles", [authorization.ROLES[name].upper() for name in authorization.ALWAYS_PRIVILEGED], True),
    ("allowed_principals", ["*"], False), ("allowed_principals", [SOMEBODY], True),
    ("allowed_principals", SOMEBODY, False),
    ("restricted_scope_level", "managementGroup", False), ("restricted_scope_level", "resource", True),
])
def test_a_parameter_below_its_floor_is_refused(parameter: str, value: Any, sound: bool) -> None:
    assert (CONTROL.floors[parameter](value) == "") == sound


def test_every_parameter_has_a_floor_that_its_default_passes() -> None:
    assert set(CONTROL.floors) == set(CONTROL.parameters)
    assert [value for name, value in CONTROL.parameters.items() if CONTROL.floors[name](value)] == []
