"""Lists: the resources of a type in a group or subscription, the children of a parent, the extensions of a scope."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from simulator.ids import ancestors, fold, parent_of, split
from simulator.reads import not_found, view
from simulator.types import habits_of
from simulator.wire import Request, Response, error
from simulator.world import Resource

if TYPE_CHECKING:
    from simulator import Simulator


def answer(sim: Simulator, request: Request) -> Response:
    """`{"value": [...]}`, with nextLink when there are more than `sim.page_size`."""
    scope, namespace, segments = split(request.path)
    type = "/".join([namespace, *segments[::2]])
    parent = request.path.rpartition("/")[0] if len(segments) > 1 else scope
    if parent and sim.world.get(parent) is None:
        return not_found(sim, parent)
    if len(segments) > 1:
        found = sim.world.children(parent, type)
    elif habits_of(type).extension:
        found = extensions(sim, request, scope, type)
    else:
        found = [item for item in sim.world.below(scope) if fold(item.type) == fold(type)]
    return page(sim, request, found)


def extensions(sim: Simulator, request: Request, scope: str, type: str) -> list[Resource]:
    """Those at the scope; with them those above or below it, as the type's list does (`atScope()`: not those below)."""
    reach, filter = habits_of(type).reach, request.get("$filter")
    if "atscope()" in fold(filter):
        reach = "above" if reach in ("both", "above") else "here"
    found = sim.world.children(scope, type)
    if reach in ("above", "both"):
        found = [item for above in ancestors(scope) for item in sim.world.children(above, type)] + found
    if reach in ("below", "both"):
        found += [it for it in sim.world.below(scope) if fold(it.type) == fold(type) and fold(parent_of(it.id)) != fold(scope)]
    for key, value in re.findall(r"(\w+) eq '([^']*)'", filter):
        found = [it for it in found if fold(str(it.body.get("properties", {}).get(key))) == fold(value)]
    if who := re.search(r"assignedTo\('([^']*)'\)", filter):
        found = [it for it in found if fold(str(it.body.get("properties", {}).get("principalId"))) == fold(who[1])]
    return found


def page(sim: Simulator, request: Request, found: list[Resource]) -> Response:
    start = request.get("$skiptoken") or "0"
    if not start.isdigit():
        return error(400, "InvalidSkipToken", "The skip token is invalid.")
    first, last = int(start), int(start) + sim.page_size
    body = {"value": [view(sim, item, request.version) for item in found[first:last]]}
    if last < len(found):
        query = {key: value for key, value in request.query.items() if fold(key) != "$skiptoken"}
        link = f"{request.base}{quote(request.path)}?{urlencode({**query, '$skiptoken': str(last)})}"
        return Response(200, {**body, "nextLink": link})
    return Response(200, body)
