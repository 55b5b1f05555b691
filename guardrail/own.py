"""Our own resources: who publishes to our app, assigns its identity or reads its storage is the guardrail.

So whatever is done in our own group pages a person, and nothing there is reconciled: it would be us who decides about us.
"""

from __future__ import annotations

from collections.abc import Mapping

from guardrail import home, ids, roles
from guardrail.ids import ResourceId, url_path
from guardrail.paths import fold
from guardrail.turn import Engine
from guardrail.values import Case, Change, Record

AN_HOUR = 100           # records of it; the activity log has the others
KEPT = "strangers"      # the name under which the installation keeps who was told of
SCOPE_VERSION = "2022-04-01"                    # of roleAssignments
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"         # */read and no data: may see us, and reach nothing
STRANGERS = 200         # kept at most


def is_ours(engine: Engine, resource: ResourceId) -> bool:
    """Whether it is our own group or stands in it."""
    return f"{ids.fold(resource)}/".startswith(f"{ids.fold(engine.group)}/")


def is_probe(engine: Engine, change: Change) -> bool:
    """Whether it is a tag on our group, which gives nobody anything. Its subject may be either of two: docs/untested.md."""
    above = ids.fold(change.resource).removesuffix("/providers/microsoft.resources/tags/default")
    return fold(change.operation) == fold(roles.PROBE[0]) and above == ids.fold(engine.group)


async def changed(engine: Engine, change: Change) -> None:
    """Records and pages a change of ours, whoever claims to have made it. Errors: Busy, StoreDown."""
    if await engine.store.take("own", AN_HOUR, 3600):
        told = home.record(engine, "own.changed", by=change.actor or change.app or "unknown", resource=change.resource,
                           operation=change.operation, event_id=change.event_id, app=change.app)
        await home.keep(engine, lambda case: (case, [told]))


async def strangers(engine: Engine) -> dict[str, dict[str, str]]:
    """Role assignments at, above or in our group whose principal nobody named, by their ids. Errors: Retryable, Final.

    Listed without a filter ARM gives those above and below too (RoleAssignments_ListForScope); Owner of a management
    group and a data role on one container reach our storage alike. One that cannot be read whole is a stranger's.
    """
    if not engine.principals:
        return {}
    url = f"{url_path(engine.group)}/providers/Microsoft.Authorization/roleAssignments"
    found = dict[str, dict[str, str]]()
    for item in await engine.arm.list(url, SCOPE_VERSION, ids.subscription(engine.group)):
        body = item if isinstance(item, Mapping) else {}
        held = body.get("properties")
        held = held if isinstance(held, Mapping) else {}
        principal, role = str(held.get("principalId", "")), str(held.get("roleDefinitionId", ""))
        if fold(principal) not in engine.principals and not fold(role).endswith(f"/{READER}"):
            found[fold(str(body.get("id", "")))] = {"principal": principal, "role": role, "scope": str(held.get("scope", ""))}
    return found


def finish(engine: Engine, found: Mapping[str, Mapping[str, str]], case: Case) -> tuple[Case, list[Record]]:
    """The installation's case with the strangers of now, and a record for each that was not told of before."""
    before = case.good.get(KEPT, {})
    now = dict(sorted(found.items())[:STRANGERS])
    records = [home.record(engine, "own.reached", assignment=id, **held) for id, held in now.items() if id not in before]
    return home.with_kept(case, **{KEPT: {id: held["principal"] for id, held in now.items()}}), records
