"""What GET shows: a stored document with defaults, computed parts and ETag, at the api-version asked for."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from simulator import ids, merge, paths
from simulator.ids import parent_of, split, type_of
from simulator.types import Body, Habits, habits_of
from simulator.wire import Request, Response, error
from simulator.world import Resource, iso

if TYPE_CHECKING:
    from simulator import Simulator


def habits_for(sim: Simulator, type: str) -> Habits:
    """The type's habits as the faults S9 and S10 bend them."""
    return sim.faults.habits(type, habits_of(type))


def show(sim: Simulator, id: str, version: str) -> Body | None:
    """The document as GET shows it at this api-version ("": with everything); None if there is none."""
    resource = sim.world.get(id)
    return None if resource is None else view(sim, resource, version)


def view(sim: Simulator, resource: Resource, version: str, body: Body | None = None) -> Body:
    """A resource as GET shows it; with `body`, another of its states (S5)."""
    habits = habits_for(sim, resource.type)
    name = "/".join(resource.id.split("/")[-3::2]) if habits.long_name else habits.shown_name or resource.name
    document = {"id": resource.id, "name": name, "type": resource.type, **(resource.body if body is None else body)}
    times = {"created": iso(resource.created), "changed": iso(resource.changed)}
    made = {path: times[time] for path, time in habits.dated.items()}
    if habits.from_parent and (parent := sim.world.get(parent_of(resource.id))):
        made |= {path: copy.deepcopy(paths.read(parent.body, path)) for path in habits.from_parent}
    document = merge.shown(habits, document, version, made)
    if habits.state:
        paths.write(document, "properties.provisioningState", resource.state or habits.state)
    if habits.etag in ("body", "both", "reads"):
        document["etag"] = quoted(habits, resource.etag)
    for path, part in habits.parts.items():
        if part.since and version and merge.dated(version) < part.since:
            continue
        items = [view(sim, child, version) for child in sim.world.children(resource.id, part.type)]
        if part.keys:
            items = [{key: item[key] for key in part.keys if key in item} for item in items]
        if items or part.empty:
            paths.write(document, path, items)
    if habits.finish and isinstance(document.setdefault("properties", {}), dict):
        habits.finish(document, version)
    if not habits.system_data or (version and merge.dated(version) < habits.system_data):
        document.pop("systemData", None)
    return document


def get(sim: Simulator, request: Request) -> Response:
    """GET and HEAD of one resource."""
    sim.operations.seen(request.path)
    resource = sim.world.get(request.path)
    document = None if resource is None else view(sim, resource, request.version)
    document = sim.faults.seen(request, document)
    if document is None:
        return not_found(sim, request.path)
    habits = habits_for(sim, type_of(request.path))
    headers = {"ETag": quoted(habits, resource.etag)} if resource and habits.etag in ("header", "both", "reads") else {}
    return Response(200, document, headers)


def quoted(habits: Habits, etag: str) -> str:
    return f'W/"{etag}"' if habits.weak else f'"{etag}"'


def not_found(sim: Simulator, id: str) -> Response:
    """404 with the code of what is missing: subscription, group, parent, or the resource itself."""
    subscription, group, parent = ids.subscription_of(id), ids.group_of(id), parent_of(id)
    if subscription and sim.world.get(f"/subscriptions/{subscription}") is None:
        return error(404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")
    if group and sim.world.get(group) is None:
        name = ids.name_of(group)
        return error(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")
    if parent and parent != group and sim.world.get(parent) is None:
        _, namespace, _ = split(parent)
        what = f"{type_of(parent)}/{ids.name_of(parent)}" if namespace else parent
        return error(404, habits_of(type_of(id)).orphan, f"The parent resource '{what}' could not be found.")
    habits = habits_of(type_of(id))
    place = f" under resource group '{ids.name_of(group)}'" if group else ""
    response = error(404, habits.missing, f"The Resource '{type_of(id)}/{ids.name_of(id)}'{place} was not found.")
    return Response(404, response.body["error"]) if habits.bare else response
