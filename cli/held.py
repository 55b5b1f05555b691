"""The roles that an identity has in Azure, whoever asks, and what they lack or have beyond what is needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from guardrail import rights
from guardrail.ids import ResourceId, url_path
from guardrail.paths import fold

if TYPE_CHECKING:
    from guardrail.arm import Arm

VERSION = "2022-04-01"      # of roleAssignments, roleDefinitions and permissions
AUTHORIZATION = "providers/Microsoft.Authorization"

Held = Mapping[str, Any]    # {"role", "scope", "actions", "notActions"}: one role at one scope


async def roles_of(arm: Arm, principal: str, subscription: str) -> list[Held]:
    """Its roles at, above and in a subscription, those of its groups too.

    Errors: Retryable, Final; LookupError for an answer that is none. RoleAssignments_ListForScope, where
    `assignedTo` follows groups and `principalId eq` would not; RoleDefinitions_GetById, for a role may be known below only.
    """
    scope, filter = f"/subscriptions/{subscription}", quote(f"assignedTo('{principal}')")
    url = f"{scope}/{AUTHORIZATION}/roleAssignments?$filter={filter}"
    found, known = list[Held](), dict[str, Any]()
    for one in await arm.list(url, VERSION, subscription):
        held = one["properties"]
        role = held["roleDefinitionId"]
        if role not in known:
            known[role] = (await arm.get(url_path(ResourceId(role)), VERSION, subscription)).body["properties"]
        found += [{"role": known[role]["roleName"], "scope": held["scope"], "actions": part.get("actions", []),
                   "notActions": part.get("notActions", [])} for part in known[role]["permissions"]]
    return found


def missing(held: Iterable[Held], wanted: Iterable[str], scope: str) -> list[str]:
    """Of `wanted`, what no role grants in the whole of a scope."""
    there = [one for one in held if within(scope, one["scope"])]
    return [action for action in wanted if not any(rights.grants(one, action) for one in there)]


def surplus(held: Iterable[Held], wanted: Collection[str], own: Sequence[str]) -> dict[str, Held]:
    """The actions beyond `wanted` that a role has outside our own groups, with that role. A pattern is always beyond."""
    known = {fold(action) for action in wanted}
    guarded = [one for one in held if not any(within(one["scope"], group) for group in own)]
    return {action: one for one in guarded for action in one["actions"] if fold(action) not in known}


def within(id: str, scope: str) -> bool:
    """Whether a scope holds an id; the root and management groups hold every subscription that they are told of for."""
    is_above = scope == "/" or fold(scope).startswith("/providers/microsoft.management/")
    return is_above or f"{fold(id)}/".startswith(f"{fold(scope).rstrip('/')}/")
