"""Tags as a resource of their own, the only way to change one of them and leave the rest alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator import reads
from simulator.ids import fold, split
from simulator.queries import sent
from simulator.wire import Effect, Request, Response, error

if TYPE_CHECKING:
    from simulator import Simulator

TAGS = "Microsoft.Resources/tags"


def route(sim: Simulator, request: Request) -> Response:
    """`{scope}/providers/Microsoft.Resources/tags/default`: PUT replaces, PATCH merges, replaces or deletes by its
    `operation`. The event's subject is the tagged resource."""
    scope = split(request.path)[0]
    resource = sim.world.get(scope)
    if resource is None:
        return reads.not_found(sim, scope)
    tags = dict(resource.body.get("tags") or {})
    if request.method == "GET":
        return Response(200, _shown(scope, tags))
    sim.faults.writing(request)
    tags = dict(resource.body.get("tags") or {})
    body = sent(request)
    named = (body.get("properties") or {}).get("tags") or {}
    how = {"PUT": "replace", "DELETE": "clear"}.get(request.method, fold(str(body.get("operation", ""))))
    if how == "merge":
        names = {fold(name): name for name in tags}
        tags |= {names.get(fold(name), name): value for name, value in named.items()}
    elif how == "delete":
        gone = {fold(name): value for name, value in named.items()}
        tags = {
            name: value
            for name, value in tags.items()
            if fold(name) not in gone or gone[fold(name)] not in ("", None, value)
        }
    elif how in ("replace", "clear"):
        tags = dict(named) if how == "replace" else {}
    else:
        return error(400, "InvalidRequestContent", "The operation must be Merge, Replace or Delete.")
    changed = {**resource.body, "tags": tags}
    sim.world.put(resource.id, changed, who=request.actor, method=request.method, api_version=request.version)
    verb: Any = "Delete" if how == "clear" else "Write"
    effect = Effect(resource.id, resource.type, verb, f"{TAGS}/{verb.lower()}")
    sim.faults.written(request)
    return Response(200, None if how == "clear" else _shown(scope, tags), effects=[effect])


def _shown(scope: str, tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": f"{scope}/providers/{TAGS}/default",
        "name": "default",
        "type": TAGS,
        "properties": {"tags": dict(tags)},
    }
