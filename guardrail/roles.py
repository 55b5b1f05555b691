"""What the guardrail must be allowed to do, derived from the enabled controls and the types' routes.

Tiers: plain; reach (runs code, opens data, or deletes: a type is opted into it by the policy); forbidden (could make
the guardrail an owner: refused, and the controls that would need it only report).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from guardrail.errors import Unsafe
from guardrail.paths import fold, parse, under
from guardrail.plans import Step, route_of
from guardrail.values import Control, ResourceType, Route

WHO = "Microsoft.Insights/eventtypes/values/read"               # who drifted something (guardrail.confirmed)
SWEEPS = ("Microsoft.Authorization/permissions/read", WHO)      # how the sweep learns what was taken away

Tier = Literal["plain", "reach", "forbidden"]

# Types whose writes run code or open data (F7). Every delete and every action belongs here too.
_REACH = re.compile(
    r"microsoft\.machinelearningservices/.*(onlineendpoints/deployments|batchendpoints|computes|schedules|jobs)/.*"
    r"|microsoft\.apimanagement/.*policies/.*|microsoft\.keyvault/vaults/write|.*userassignedidentities/assign/.*"
    r"|.*/(delete|action)")
# Writes and deletes that make whoever holds them an owner (F6); deleting role assignments is F5's own opt-in.
_FORBIDDEN = re.compile(
    r"microsoft\.authorization/(?!roleassignments/delete$).*/(write|delete|action)$|microsoft\.resources/deployments/write$"
    r"|microsoft\.managedidentity/userassignedidentities/.*write$|.*/listkeys/action$|.*\*.*")

# The one write of a report-only installation: a tag on its own resource group (catalogue of Microsoft.Resources)
PROBE = ("Microsoft.Resources/tags/write",)
# What Event Grid sends us of a subscription: all nine, for what failed or was cancelled may have been done in part
EVENT_TYPES = tuple(f"Microsoft.Resources.Resource{what}{end}" for what in ("Write", "Delete", "Action")
                    for end in ("Success", "Failure", "Cancel"))
# What we want to hear of ourselves: topic and event subscription, the probe's tag, the two apps
OWN = ("Microsoft.EventGrid/", "Microsoft.Resources/tags/", "Microsoft.Web/")


# To look up what a restored value refers to, whatever its type (guardrail.dangling). Under which of the two names RBAC
# checks a group's list was not verified.
LOOKUPS = tuple(f"Microsoft.Resources/subscriptions{where}/read" for where in (
    "", "/resourceGroups", "/resourceGroups/resources", "/resources"))


@dataclass(frozen=True, slots=True)
class Permission:
    """One Azure action, and how far it reaches."""

    action: str
    tier: Tier


def tier(action: str) -> Tier:
    folded = fold(action)
    if folded.endswith("/read"):
        return "plain"
    return "forbidden" if _FORBIDDEN.fullmatch(folded) else "reach" if _REACH.fullmatch(folded) else "plain"


def resource(type: ResourceType, route: Route) -> str:
    """The ARM type that a route reads or writes: its own, a child's, or an extension's."""
    tail = route.url.removeprefix("{id}").strip("/")
    extension = re.fullmatch(r"(?:.*/)?providers/([^/]+/[^/]+)/\{\w+\}", tail)
    if extension:
        return extension[1]
    parts = [part for part in tail.split("/") if part and not part.startswith("{") and part != "default"]
    return "/".join((type.name, *parts))


def reads(control: Control, type: ResourceType) -> tuple[str, ...]:
    """The read actions that a check needs: of the resource, and of each part that it asks for."""
    parts = {fold(part) for part in control.also_reads}
    mounted = [route for route in type.routes if route.path and fold(str(parse(route.path)[0])) in parts]
    return tuple(dict.fromkeys(f"{resource(type, route)}/read" for route in (Route(), *mounted)))


def above(type: str) -> tuple[str, ...]:
    """The types above a child type, topmost first: workspaces and workspaces/models of workspaces/models/versions."""
    parts = type.split("/")
    return tuple("/".join(parts[:end]) for end in range(2, len(parts)))


def writes(control: Control, type: ResourceType) -> tuple[str, ...]:
    """The actions that its fix needs: of each route that its drift, or the type's isolation, can lead to."""
    if control.response == "report":
        return ()
    actions = list[str]()
    for route in _routes(control, type):
        name = resource(type, route)
        if route.update in ("PATCH", "PUT") or route.create or route.write:
            actions.append(f"{name}/write")
        if route.delete and control.response == "revert":
            actions.append(f"{name}/delete")
        if route.update == "POST":
            actions += [f"{type.name}/{action}/action" for action in dict.fromkeys(route.actions.values())]
        actions += route.needs
    return tuple(dict.fromkeys(actions))


def _routes(control: Control, type: ResourceType) -> Iterable[Route]:
    """The parts where the control's own drift lies; for an isolation every part but the mounted ones."""
    if control.response == "isolate":
        return [route for route in type.routes if not route.path.startswith("+")]
    paths = [parse(path) for path in control.drift]
    at = [route for path in paths if (route := route_of(type, path))]
    below = [route for route in type.routes for path in paths if route.path and under(parse(route.path), path)]
    return {route.path: route for route in (*at, *below)}.values()


def action_of(type: ResourceType, step: Step) -> str:
    """The action that one request needs."""
    if step.request.method == "POST":
        return f"{type.name}/{step.request.url.rsplit('/', 1)[1]}/action"
    return f"{resource(type, step.route)}/{'delete' if step.deletes else 'write'}"


def check(type: ResourceType, steps: Iterable[Step], reach: Iterable[str]) -> None:
    """Errors: Unsafe if a request needs an action that the role does not have: forbidden, or reaching and not opted in."""
    opted = fold(type.name) in {fold(name) for name in reach}
    for action in [action for step in steps for action in (action_of(type, step), *step.route.needs)]:
        if tier(action) == "forbidden":
            raise Unsafe(f"{action} is never in our role")
        if tier(action) == "reach" and not opted:
            raise Unsafe(f"{action} is not in our role: opt in by  controls: {{reach: [{type.name}]}}")


def permissions(control: Control, types: Mapping[str, ResourceType]) -> tuple[Permission, ...]:
    """All of a control's, reads first. `types` is by folded name."""
    type = types[fold(control.on)]
    return tuple(Permission(action, tier(action)) for action in (*reads(control, type), *writes(control, type)))


def role(controls: Iterable[Control], types: Mapping[str, ResourceType], reach: Iterable[str] = (), *,
         report_only: bool = False) -> tuple[str, ...]:
    """The actions of the custom role: sorted, without what is forbidden; what reaches only for opted-in types.

    With what the sweep reads (its own permissions, whatever stands above a child, to list it there), the activity log, and
    what looks up where a restored value leads.
    """
    opted = {fold(name) for name in reach}
    wanted = set(SWEEPS)
    for control in controls:
        type = types[fold(control.on)]
        wanted |= {*reads(control, type), *(f"{name}/read" for name in above(type.name))}
        wanted |= set(LOOKUPS) if control.learns else set()
        if not report_only:
            wanted |= {action for action in writes(control, type)
                       if tier(action) == "plain" or (tier(action) == "reach" and fold(type.name) in opted)}
    return tuple(sorted(wanted))


def definitions(controls: Iterable[Control], types: Mapping[str, ResourceType],
                reach: Iterable[str] = ()) -> dict[str, list[str]]:
    """The actions of our three custom roles, as infra/roles.json has them.

    reader and remediator have none in common: the second is assigned beside the first.
    """
    on = list(controls)
    reads = role(on, types, report_only=True)
    writes = [one for one in role(on, types, reach) if one not in reads]
    return {"reader": list(reads), "remediator": writes, "probe": list(PROBE)}


def heard(controls: Iterable[Control]) -> dict[str, list[str]]:
    """What the event subscription asks for, as infra/filters.json has it."""
    return {"events": list(EVENT_TYPES), "operations": list(filters(controls))}


def filters(controls: Iterable[Control]) -> tuple[str, ...]:
    """Prefixes of data.operationName for the event subscription: one a provider, since 25 values is all there is."""
    prefixes = {trigger.split("/")[0] + "/" for control in controls for trigger in control.triggered_by}
    return tuple(sorted(prefixes.union(OWN)))
