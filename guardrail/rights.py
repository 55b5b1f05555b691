"""What we may do where, as Azure says, compared with what the enabled controls need: so a right taken away is noticed.

`{group}/providers/Microsoft.Authorization/permissions` lists what the caller holds there, inherited too (2022-04-01,
AzurePermissionsForResourceGroup_List). Whether it takes account of deny assignments is not documented.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from guardrail import home, roles
from guardrail.ids import ResourceId, subscription, url_path
from guardrail.policy_schema import glob
from guardrail.turn import Engine
from guardrail.values import Case, Record

if TYPE_CHECKING:
    from guardrail.arm import Arm

VERSION = "2022-04-01"
KEPT = "permissions"                # the name under which the installation keeps what is missing
ACTIONS, SCOPES = 50, 200           # kept at most: an action a scope, and scopes


def needed(engine: Engine) -> tuple[str, ...]:
    """The actions of our role; under a ceiling that only reports, reads alone."""
    return roles.role(engine.controls, engine.types, engine.policy.controls.reach, report_only=engine.ceiling == "report")


async def missing(arm: Arm, group: ResourceId, actions: Iterable[str]) -> list[str]:
    """Those of `actions` that the caller lacks in a resource group. Errors: Retryable, Final."""
    url = f"{url_path(group)}/providers/Microsoft.Authorization/permissions"
    held = [one for one in await arm.list(url, VERSION, subscription(group)) if isinstance(one, Mapping)]
    return [action for action in actions if not any(grants(one, action) for one in held)]


def grants(permission: Mapping[str, Any], action: str) -> bool:
    """Azure's rule: one of `actions` fits, none of `notActions` does; roles add up."""
    return _fits(permission.get("actions"), action) and not _fits(permission.get("notActions"), action)


def _fits(patterns: Any, action: str) -> bool:
    return isinstance(patterns, list) and any(isinstance(one, str) and glob(one, action) for one in patterns)


def finish(engine: Engine, lost: Mapping[str, list[str]], unknown: frozenset[str], case: Case) -> tuple[Case, list[Record]]:
    """The case with what is missing now, by scope, and a record for what was not missing before.

    `unknown`: scopes that could not be asked; what was missing there counts as missing still.
    """
    before = case.good.get(KEPT, {})
    still = {scope: before[scope] for scope in unknown if scope in before}
    now = {scope: found[:ACTIONS] for scope, found in sorted({**still, **lost}.items())[:SCOPES]}
    records = [
        home.record(engine, "permission.lost", scope=scope, actions=new, missing=len(lost.get(scope, found)))
        for scope, found in now.items() if (new := [one for one in found if one not in before.get(scope, ())])]
    return home.with_kept(case, **{KEPT: now}), records
