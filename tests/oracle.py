"""What the stateful test knows of the world: each write of ours as it reached ARM, with the document as it stood then.

It reads the simulator's own log and world (S0), which the engine is never told, and replays requests by what ARM does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from guardrail import plans
from guardrail.documents import Document
from guardrail.ids import ResourceId, ancestors, fold, soundest
from guardrail.ids import type_of as type_name
from guardrail.paths import ABSENT, Each, Path, get, parse, put, show, under
from guardrail.proof import differences, merge
from guardrail.values import ResourceType
from simulator import Exchange, Request, Version
from tests.flow.harness import TYPES
from tests.flow.world import World, type_of

FOLDED = {fold(ResourceId(name)) for name in TYPES}


@dataclass(frozen=True)
class Write:
    """One write of ours as it reached ARM, with what stood there at that instant."""

    line: Exchange
    at: datetime
    root: ResourceId
    before: Document
    last: Version | None = None         # who last changed what the request is for


class Oracle:
    """Sees each write of ours just before it takes effect."""

    def __init__(self, here: World) -> None:
        self.here = here
        self.writes = list[Write]()
        self.states = dict[ResourceId, list[Document]]()        # as they stood after each write, since `forget`
        writing, written = here.sim.faults.writing, here.sim.faults.written

        def watched(request: Request) -> None:
            writing(request)
            root = root_of(request.path)
            if request.actor == "guardrail" and is_known(root):         # the others are judged by the log alone
                line = next(line for line in reversed(here.sim.log) if line.path == request.path)
                last = here.sim.history(target(request))[-1:]
                self.writes.append(Write(line, here.clock(), root, full(here, root), *last))

        def remembered(request: Request) -> None:
            if is_known(root_of(request.path)):
                self.see(root_of(request.path))
            written(request)

        here.sim.faults.writing, here.sim.faults.written = watched, remembered      # type: ignore[method-assign]

    def see(self, id: ResourceId) -> None:
        self.states.setdefault(id, []).append(full(self.here, id))


def target(request: Request) -> str:
    """The resource that a request is for: a POST's path names an action below it."""
    return request.path.rpartition("/")[0] if request.method == "POST" else request.path


def root_of(path: str) -> ResourceId:
    """The guarded resource at or above a path; the path itself if there is none."""
    sound = soundest(path)
    above = ancestors(sound) if sound else ()
    return next((one for one in above if fold(ResourceId(type_name(one))) in FOLDED), ResourceId(path))


def is_known(root: ResourceId) -> bool:
    return fold(ResourceId(type_name(root))) in FOLDED


def full(here: World, id: ResourceId) -> Document:
    """The resource with every part that its type mounts, as it stands now: no log line, no fault."""
    with here.sim.lock:
        return _full(here, id, type_of(type_name(id)))


def _full(here: World, id: ResourceId, type: ResourceType) -> Document:
    body = here.sim.document(id, type.api_version)
    if body is None:
        return Document(id, type.name, ABSENT)
    parts = list[str]()
    for route in type.routes:
        path = parse(route.path)
        if not path or not str(path[0]).startswith("+"):
            continue
        name, version = str(path[0]), route.api_version or type.api_version
        above = route.url.replace("{id}", id).rsplit("/", 1)[0]
        children = [item.id for item in here.sim.world.below(id) if item.id.rsplit("/", 1)[0].lower() == above.lower()]
        body[name] = [here.sim.document(child, version) for child in children]
        parts.append(name)
    return Document(id, type.name, body, parts=frozenset(parts))


def place_of(write: Write) -> tuple[Path, ResourceType]:
    """Where in the root's document the request writes, by the type's routes."""
    type = type_of(write.before.type)
    tail = write.line.path[len(write.root):]
    for route in type.routes:
        path, pattern = parse(route.path), route.url.partition("?")[0].removeprefix("{id}").split("/")
        here = tail.split("/")
        if route.path and len(pattern) == len(here) and all(
                one.startswith("{") or one.lower() == other.lower() for one, other in zip(pattern, here, strict=True)):
            each = path[-1]
            if isinstance(each, Each):
                path = parse(f"{show(path[:-1])}[{each.keys[0]}='{shown(write, path, here[-1])}']")
            return path, type
    return (), type


def shown(write: Write, path: Path, name: str) -> str:
    """The name of an item as the document shows it: some types put the parent's before it, "account/connection"."""
    items = get(write.before.body, path[:-1])
    names = [str(item.get("name", "")) for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return next((one for one in names if one.rpartition("/")[2].lower() == name.lower()), name)


def is_trusted(write: Write) -> bool:
    """Whether only a `write=` route sends this: its body cannot be replayed, and remediators' tests answer for it."""
    routes = [route for route in type_of(write.before.type).routes if route.url.partition("?")[0] == "{id}"]
    if write.line.method == "POST":
        action = write.line.path.rsplit("/", 1)[-1]
        return not any(action in route.actions.values() for route in type_of(write.before.type).routes)
    if write.line.path != write.root:
        path, type = place_of(write)
        part = plans.route_of(type, path)
        return part is not None and part.write is not None
    plain = [route for route in routes if route.update == write.line.method and route.write is None]
    return write.line.method in ("PATCH", "PUT") and not plain


SERVERS = ("id", "type", "etag", "systemData")      # of an item, what only ARM writes


def applied(write: Write) -> Document:
    """The document as this request makes it, by what ARM is known to do, told apart from the engine's own prediction."""
    path, type = place_of(write)
    now, line = write.before.body, write.line
    if line.method == "POST":
        action = line.path.rsplit("/", 1)[-1]
        value = next(value for route in type.routes for value, name in route.actions.items() if name == action)
        return replace(write.before, body=put(now, path, value))
    if line.method == "DELETE":
        return replace(write.before, body=put(now, path, ABSENT))
    there = get(now, path)
    if line.method == "PATCH":
        return replace(write.before, body=put(now, path, merge(there, line.body)))
    server = {name: there[name] for name in ("name", *SERVERS) if isinstance(there, Mapping) and name in there}
    return replace(write.before, body=put(now, path, {**server, **line.body}))


def changed(write: Write) -> list[Path]:
    """The paths that differ afterwards, but for what only ARM writes."""
    path, type = place_of(write)
    route = plans.route_of(type, path)
    hidden = [(*path, *parse(name)) for name in (route.readonly if route else ())]
    return [moved.path for moved in differences(write.before.body, applied(write).body)
            if not any(under(moved.path, one) for one in hidden)]
