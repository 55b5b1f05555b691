"""The generated role: every action named, none that could make the guardrail an owner."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import recorded
from detectors import CONTROLS
from guardrail import roles
from guardrail.ids import ResourceId, fold
from guardrail.values import Control, Look
from remediators import TYPES
from simulator.access import operation
from tests.flow.harness import stand
from tests.flow.world import DEV, type_of, world

BY_NAME = {fold(ResourceId(type.name)): type for type in TYPES}
REACH = [type.name for type in TYPES]


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)
def test_each_control_names_what_it_needs(control: Control) -> None:
    needed = roles.permissions(control, BY_NAME)
    assert needed[0].action == f"{control.on}/read"
    assert all(re.fullmatch(r"Microsoft\.\w+(/\w+)+/(read|write|delete|action)", one.action) for one in needed)
    assert any(not one.action.endswith("/read") for one in needed) == (control.response != "report")


@pytest.mark.threat("F6")
def test_with_every_control_on_nothing_forbidden_is_in_the_role() -> None:
    actions = roles.role(CONTROLS, BY_NAME, REACH)
    assert [action for action in actions if roles.tier(action) == "forbidden"] == []
    assert not [action for action in actions if "*" in action or "listkeys" in action.lower()]


@pytest.mark.threat("F8")
def test_a_report_only_role_reads_and_nothing_else() -> None:
    assert all(action.endswith("/read") for action in roles.role(CONTROLS, BY_NAME, REACH, report_only=True))


@pytest.mark.threat("F7")
def test_what_reaches_needs_an_opt_in() -> None:
    small, large = set(roles.role(CONTROLS, BY_NAME)), set(roles.role(CONTROLS, BY_NAME, REACH))
    assert small < large
    assert all(roles.tier(action) == "reach" for action in large - small)


@pytest.mark.parametrize(("action", "tier"), [
    ("Microsoft.Authorization/roleAssignments/write", "forbidden"), ("Microsoft.Authorization/locks/delete", "forbidden"),
    ("Microsoft.Resources/deployments/write", "forbidden"), ("Microsoft.Storage/storageAccounts/listKeys/action", "forbidden"),
    ("Microsoft.Storage/*/write", "forbidden"), ("Microsoft.Authorization/roleAssignments/delete", "reach"),
    ("Microsoft.MachineLearningServices/workspaces/computes/stop/action", "reach"),
    ("Microsoft.MachineLearningServices/workspaces/computes/write", "reach"),
    ("Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/write", "reach"),
    ("Microsoft.MachineLearningServices/workspaces/schedules/write", "reach"),
    ("Microsoft.MachineLearningServices/workspaces/write", "plain"),
    ("Microsoft.ApiManagement/service/apis/policies/write", "reach"),
    ("Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", "reach"),
    ("Microsoft.KeyVault/vaults/write", "reach"),
    ("Microsoft.Storage/storageAccounts/write", "plain"), ("Microsoft.Authorization/roleAssignments/read", "plain"),
    ("Microsoft.Network/networkSecurityGroups/securityRules/delete", "reach"),
])
def test_how_far_an_action_reaches(action: str, tier: str) -> None:
    assert roles.tier(action) == tier


@pytest.mark.anyio
@pytest.mark.threat("F8")
@pytest.mark.parametrize("type", sorted({control.on for control in CONTROLS if control.response != "report"}))
async def test_the_role_is_enough_for_what_the_engine_does(type: str, tmp_path: Path) -> None:
    """Under RBAC with the generated role (S12): every control of a type at once is read, and mended where it may be.

    And each read that the role has for the type is made: none is there for nothing.
    """
    role = {"actions": list(roles.role(CONTROLS, BY_NAME, REACH)), "assignableScopes": [f"/subscriptions/{DEV}"]}
    async with world(tmp_path, proven=[type]) as here:
        mine = [control for control in CONTROLS if control.on == type and control.response != "report"]
        id = recorded.good(type).id
        here.sim.faults.rbac(role)
        for sample in (recorded.good(type), recorded.drifted(mine[0])):     # good once: some controls want what was
            stand(here, sample)
            await here.guardrail.store.send(Look(id, "person"))
            await here.forward(70, step=35)
        refused = [(line.method, line.path) for line in here.sim.log if line.status == 403]
        assert refused == []
        read = {operation(line.method, line.path).action for line in here.sim.log if line.method == "GET"}
        role_of = set(roles.role([one for one in CONTROLS if one.on == type], BY_NAME, report_only=True))
        # made elsewhere: tests/flow/test_baselines.py, where a restore leads to another resource, and test_sweep.py
        others = {*roles.LOOKUPS, *roles.SWEEPS, *(f"{name}/read" for name in roles.above(type))}
        assert role_of - others <= read
        assert here.ours or (await here.case(id)).asked
        assert type_of(type).name == type
