"""Role assignments that give away the subscription."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from guardrail.documents import Node
from guardrail.paths import fold
from guardrail.values import Control, Drift, Parameters

ROLE_ASSIGNMENT = "Microsoft.Authorization/roleAssignments"

# Built-in roles; the GUID is the last segment of roleDefinitionId, whose prefix varies with the scope of reading.
ROLES = {
    "Owner": "8e3af657-a8ff-443c-a75c-2fe8c4bcb635",
    "User Access Administrator": "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
    "Role Based Access Control Administrator": "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
    "Contributor": "b24988ac-6180-42a0-ab88-20f7382dd24c",
    "Reservations Administrator": "a8889054-8d42-49c9-bc1c-52486c10e7cd",
}
ALWAYS_PRIVILEGED = ("Owner", "User Access Administrator", "Role Based Access Control Administrator")
LEVELS = ("subscription", "resourceGroup", "resource")  # from wide to narrow; above: management groups and the root
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def no_over_grant(assignment: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a privileged role is held at `restricted_scope_level` or above by a principal not allowed to.

    Role, principal and scope cannot be changed (2022-04-01), so the whole assignment is what is unwanted.
    """
    role = assignment.text("properties.roleDefinitionId").rsplit("/", 1)[-1]
    if not _GUID.fullmatch(role):
        yield from assignment.undecided("properties.roleDefinitionId", "no id of a role")
        return
    privileged = map(_guid, p["privileged_roles"])
    allowed = {fold(principal) for principal in p["allowed_principals"]}
    if role not in privileged or assignment.text("properties.principalId") in allowed:
        return
    if level(assignment.text("properties.scope")) <= LEVELS.index(p["restricted_scope_level"]):
        yield from assignment.unwanted()


def _guid(role: str) -> str:
    """The folded GUID of a role that a parameter gives by name or by GUID."""
    return fold(ROLES.get(role, role))


def level(scope: str) -> int:
    """The place of a folded scope in LEVELS; -1 for management groups, the root, and what is no scope we know."""
    parts = scope.split("/")
    if len(parts) < 3 or parts[:2] != ["", "subscriptions"]:
        return -1
    if len(parts) == 3:
        return 0
    return 1 if len(parts) == 5 and parts[3] == "resourcegroups" else 2 if len(parts) > 6 else -1


def _roles(value: Any) -> str:
    """Floor: known names or GUIDs, and the three that hand out rights always among them."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
        return "must be a list of roles"
    named = [_guid(name) for name in value]
    unknown = next((guid for guid in named if not _GUID.fullmatch(guid)), None)
    if unknown is not None:
        return f"{unknown!r} is neither a GUID nor one of {', '.join(ROLES)}"
    lost = [name for name in ALWAYS_PRIVILEGED if ROLES[name] not in named]
    return f"leaves out {', '.join(lost)}" if lost else ""


def _principals(value: Any) -> str:
    listed = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
    return "" if listed and all(_GUID.fullmatch(fold(one)) for one in value) else "must be a list of object ids (GUIDs)"


def _scope_level(value: Any) -> str:
    return "" if value in LEVELS else f"must be one of {', '.join(LEVELS)}"


CONTROLS = (
    Control(
        "rbac-privileged-role-assignment", no_over_grant, on=ROLE_ASSIGNMENT, severity="critical", response="revert",
        triggered_by=(f"{ROLE_ASSIGNMENT}/write", f"{ROLE_ASSIGNMENT}/delete"),
        title="No privileged built-in role is assigned",
        why="one such assignment is full control of everything below its scope",
        breaks="an administrator or a pipeline loses access at once",
        parameters={"privileged_roles": ALWAYS_PRIVILEGED, "allowed_principals": (),
                    "restricted_scope_level": "resourceGroup"},
        floors={"privileged_roles": _roles, "allowed_principals": _principals, "restricted_scope_level": _scope_level},
        drift={"properties.roleDefinitionId": "/subscriptions/00000000-0000-0000-0000-000000000001/providers/"
                                              f"Microsoft.Authorization/roleDefinitions/{ROLES['Owner']}"},
    ),
)
