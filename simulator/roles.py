"""Role definitions: those that Azure brings, at every scope, beside those that someone made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator import reads
from simulator.ids import fold, split, subscription_of
from simulator.queries import equalities
from simulator.wire import Request, Response

if TYPE_CHECKING:
    from simulator import Simulator

ROLE_DEFINITIONS = "Microsoft.Authorization/roleDefinitions"
ROLES: Mapping[str, tuple[str, list[str], list[str]]] = {
    "Owner": ("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", ["*"], []),
    "Contributor": (
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        ["*"],
        [
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ],
    ),
    "Reader": ("acdd72a7-3385-48ef-bd42-f606fba81ae7", ["*/read"], []),
    "User Access Administrator": (
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        ["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"],
        [],
    ),
    "Role Based Access Control Administrator": (
        "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
        ["Microsoft.Authorization/roleAssignments/write", "Microsoft.Authorization/roleAssignments/delete", "*/read"],
        [],
    ),
    "Cognitive Services Contributor": (
        "25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68",
        [
            "Microsoft.CognitiveServices/*",
            "Microsoft.Insights/diagnosticSettings/*",
            "Microsoft.Resources/deployments/*",
        ],
        [],
    ),
    "Cognitive Services OpenAI Contributor": (
        "a001fd3d-188f-4b5d-821b-7da978bf7442",
        ["Microsoft.CognitiveServices/*/read"],
        [],
    ),
    "AzureML Data Scientist": (
        "f6c7c914-8db3-469d-8ca1-694a8f32e121",
        ["Microsoft.MachineLearningServices/workspaces/*/read"],
        [],
    ),
    "Storage Blob Data Contributor": (
        "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
        ["Microsoft.Storage/storageAccounts/blobServices/*"],
        [],
    ),
}
"""Built-in roles by name: GUID, actions, notActions. Of the narrower ones only what a guardrail looks at."""


def route(sim: Simulator, request: Request) -> Response | None:
    """Built-in roles at every scope, beside the world's own; `$filter=roleName eq '…'` is honoured."""
    scope, _, segments = split(request.path)
    builtin = [_role(subscription_of(scope), name) for name in ROLES]
    if len(segments) == 2:
        return next((Response(200, role) for role in builtin if role["name"] == fold(segments[1])), None)
    own = [item for item in sim.world.all() if fold(item.type) == fold(ROLE_DEFINITIONS)]
    found = builtin + [reads.view(sim, item, request.version) for item in own]
    for key, value in equalities(request.get("$filter")):
        name = {"rolename": "roleName", "type": "type"}.get(key)
        if name:
            found = [role for role in found if fold(str(role["properties"].get(name))) == fold(value)]
    return Response(200, {"value": found})


def _role(subscription: str, name: str) -> dict[str, Any]:
    guid, actions, not_actions = ROLES[name]
    above = f"/subscriptions/{subscription}" if subscription else ""
    permission = {"actions": actions, "notActions": not_actions, "dataActions": [], "notDataActions": []}
    return {
        "id": f"{above}/providers/{ROLE_DEFINITIONS}/{guid}",
        "type": ROLE_DEFINITIONS,
        "name": guid,
        "properties": {
            "roleName": name,
            "type": "BuiltInRole",
            "description": name,
            "assignableScopes": ["/"],
            "permissions": [permission],
        },
    }
