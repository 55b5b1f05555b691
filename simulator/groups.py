"""Resource groups, and the generic list of what stands in them or in the subscription."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from simulator import reads
from simulator.graph import is_tracked
from simulator.ids import GROUP, fold, group_of, name_of
from simulator.queries import equalities, sent
from simulator.types import Answer
from simulator.wire import Effect, Request, Response, error
from simulator.world import Resource, iso

if TYPE_CHECKING:
    from simulator import Simulator

KNOWN = ("location", "tags", "managedBy", "properties")
"""What a group keeps of a request's body."""


def collection(sim: Simulator, request: Request, subscription: str) -> Response:
    """The groups of a subscription, by tag if the filter names one."""
    found = [item for item in sim.world.below(f"/subscriptions/{subscription}") if fold(item.type) == fold(GROUP)]
    for key, value in equalities(request.get("$filter")):
        wanted = {
            "tagname": lambda tags, value=value: value in tags,
            "tagvalue": lambda tags, value=value: value in tags.values(),
        }
        if key in wanted:
            found = [item for item in found if wanted[key](item.body.get("tags") or {})]
    return Response(200, {"value": [_shown(item) for item in found]})


def _shown(group: Resource) -> dict[str, Any]:
    shown = {"id": group.id, "name": group.name, "type": GROUP, **copy.deepcopy(group.body)}
    shown.pop("systemData", None)
    shown.setdefault("properties", {})["provisioningState"] = group.state or "Succeeded"
    return shown


def one(sim: Simulator, request: Request, id: str) -> Response:
    """201 or 200 for PUT, 202 and a Location for DELETE, 204 or 404 for HEAD."""
    group = sim.world.get(id)
    if request.method == "HEAD":
        return Response(404 if group is None else 204)
    if group is None and request.method != "PUT":
        return error(404, "ResourceGroupNotFound", f"Resource group '{name_of(id)}' could not be found.")
    if group is not None and request.method == "GET":
        return Response(200, _shown(group))
    sim.faults.writing(request)
    before = None if group is None else _shown(group)
    kind: Any = "Delete" if request.method == "DELETE" else "Write"
    effect = Effect(id, GROUP, kind, f"Microsoft.Resources/subscriptions/resourceGroups/{kind.lower()}", before)
    if request.method == "DELETE":
        return _delete(sim, request, id, effect)
    wanted = {key: value for key, value in sent(request).items() if key in KNOWN}
    if request.method == "PUT" and not wanted.get("location"):
        return error(400, "LocationRequired", "The location property is required for this definition.")
    body = {**group.body, **wanted} if group is not None and request.method == "PATCH" else wanted
    group = sim.world.put(id, body, who=request.actor, method=request.method, api_version=request.version)
    effect.after, effect.created = _shown(group), before is None
    sim.faults.written(request)
    return Response(201 if before is None else 200, effect.after, effects=[effect])


def _delete(sim: Simulator, request: Request, id: str, effect: Effect) -> Response:
    plan = sim.faults.plan(GROUP) or sim.operations.plan()

    def finish(operation: Any) -> None:
        if operation.status == "Succeeded" and plan.effect != "never":
            sim.world.delete(id, who=request.actor)

    operation = sim.operations.start(id, plan, finish, lambda: None)
    headers = sim.operations.headers(request, operation, Answer(202, "loc"))
    sim.faults.written(request)
    return Response(202, None, headers, [effect])


def contents(sim: Simulator, request: Request) -> Response:
    """The generic listing: top-level resources and children with a location; only the common fields are shown."""
    scope = request.path.rpartition("/")[0]
    if sim.world.get(scope) is None:
        return reads.not_found(sim, scope)
    found = [item for item in sim.world.below(scope) if is_tracked(item)]
    for key, value in equalities(request.get("$filter")):
        shown = {
            "resourcegroup": lambda item: fold(name_of(group_of(item.id))),
            "resourcetype": lambda item: fold(item.type),
            "name": lambda item: fold(item.name),
            "location": lambda item: fold(str(item.body.get("location", ""))),
        }
        if key == "tagname":
            found = [item for item in found if value in (item.body.get("tags") or {})]
        elif key == "tagvalue":
            found = [item for item in found if value in (item.body.get("tags") or {}).values()]
        elif key in shown:
            found = [item for item in found if shown[key](item) == fold(value)]
    return Response(200, {"value": [_listed(sim, item, fold(request.get("$expand"))) for item in found]})


def _listed(sim: Simulator, item: Resource, expand: str) -> dict[str, Any]:
    shown = reads.view(sim, item, "")
    common = ("id", "name", "type", "kind", "location", "tags", "sku", "identity", "managedBy", "plan", "zones")
    entry = {key: shown[key] for key in common if shown.get(key) is not None}
    if "createdtime" in expand:
        entry["createdTime"] = iso(item.created)
    if "changedtime" in expand:
        entry["changedTime"] = iso(item.changed)
    if "provisioningstate" in expand:
        entry["provisioningState"] = item.state or "Succeeded"
    return entry
