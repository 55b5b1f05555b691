"""Who may do what: one function, for every verb of the API and the CLI. Pure.

The app role is necessary, the policy's scope map decides. Only object ids and group ids count, never names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.paths import fold
from guardrail.policy import within
from guardrail.policy_schema import Policy

Role = Literal["Reader", "Approver", "Operator", "Administrator"]

TOKEN_AGE_S = 3600          # an older sign-in decides nothing
ROLES: Mapping[str, frozenset[str]] = {     # what a role brings with it
    "Reader": frozenset({"Reader"}),
    "Approver": frozenset({"Reader", "Approver"}),
    "Operator": frozenset({"Reader", "Operator"}),
    "Administrator": frozenset({"Reader", "Approver", "Operator", "Administrator"}),
}
VERBS: Mapping[str, Role] = {
    "read": "Reader", "approve": "Approver", "reject": "Approver", "accept": "Approver", "confirm": "Approver",
    "rollback": "Operator", "release": "Operator", "retry": "Operator", "settle": "Operator", "quarantine": "Operator",
    "look": "Operator", "tighten": "Operator", "unexempt": "Operator", "loosen": "Administrator", "exempt": "Administrator",
}
SCOPED = ("approve", "reject", "accept", "confirm")     # besides the role, the policy says where


@dataclass(frozen=True, slots=True)
class Person:
    """Who a verified token speaks for. `is_person` False: an application, whatever its roles."""

    object_id: str
    roles: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    is_person: bool = True
    is_guest: bool = False
    token_age_s: float = 0.0


def authorize(who: Person, verb: str, resource: ResourceId | None, policy: Policy, approvers: str = "") -> None:
    """Errors: Refused with what is missing. `approvers`: the group that approves where the policy names none."""
    held = frozenset(one for role in who.roles for one in ROLES.get(role, ()))
    if VERBS[verb] not in held:
        raise Refused("role", f"{verb} needs the app role {VERBS[verb]}")
    if verb == "read":
        return
    if not who.is_person:
        raise Refused("app-only", "an application decides nothing: sign in as a person")
    if who.is_guest:
        raise Refused("guest", "a guest of the tenant decides nothing")
    if not 0 <= who.token_age_s <= TOKEN_AGE_S:
        raise Refused("token-age", "this sign-in is older than an hour: sign in again")
    if verb in SCOPED and resource is not None:
        named = [one.group for one in policy.approvals.approvers if within(resource, one.scope)]
        wanted = {fold(group) for group in named or filter(None, [approvers])}
        if not wanted & {fold(group) for group in who.groups}:
            nobody = "nobody, until the policy names a group"
            raise Refused("scope", f"approvals here belong to: {', '.join(sorted(wanted)) or nobody}")
