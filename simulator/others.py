"""What others do behind a client's back: another life of a resource (S8), documents that nobody expects (S17)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from simulator import identity, paths
from simulator.ids import group_of
from simulator.wire import Effect, Request, Response
from simulator.world import Resource

if TYPE_CHECKING:
    from simulator import Simulator

BIRTH = ("systemData", "etag", "properties.creationTime", "properties.resourceGuid", "identity.principalId")
"""What a service makes at creation, so that one life of a name can be told from the next."""


def delete(sim: Simulator, id: str, by: str, quiet: bool) -> None:
    """Takes the resource and all below it away."""
    with sim.lock:
        gone = sim.world.delete(id, who=by)
        if gone is not None and not quiet:
            effect = Effect(gone.id, gone.type, "Delete", f"{gone.type}/delete", before=gone.body)
            _tell(sim, "DELETE", by, effect)


def recreate(sim: Simulator, id: str, by: str, quiet: bool) -> None:
    """Deletes, and makes anew from the same documents."""
    with sim.lock:
        family = _family(sim, id)
        delete(sim, id, by, quiet)
        for item in family:
            body = copy.deepcopy(item.body)
            for path in BIRTH:
                paths.drop(body, path)
            sim.world.put(item.id, body, who=by)
        if family and not quiet:
            root = family[0]
            effect = Effect(root.id, root.type, "Write", f"{root.type}/write", after=root.body, created=True)
            _tell(sim, "PUT", by, effect)


def move(sim: Simulator, id: str, group: str, by: str, quiet: bool) -> str:
    """Gives the resource and all below it ids in another group; the resource's new id."""
    with sim.lock:
        old = group_of(id)
        new = group if group.startswith("/") else f"{old.rsplit('/', 1)[0]}/{group}"
        if sim.world.get(new) is None:
            sim.seed(new, {"location": "eastus"})
        family = _family(sim, id)
        sim.world.delete(id, who=by, method="MOVE")
        for item in family:
            moved = sim.world.put(new + item.id[len(old) :], item.body, who=by, method="MOVE")
            moved.incarnation, moved.created, moved.body = item.incarnation, item.created, item.body
        if not quiet:
            kind = "Microsoft.Resources/subscriptions/resourceGroups"
            _tell(sim, "POST", by, Effect(old, kind, "Action", f"{kind}/moveResources/action"))
        return new + id[len(old) :]


def _family(sim: Simulator, id: str) -> list[Resource]:
    """Copies of the resource and all below it, parents first."""
    return [dataclasses.replace(item) for item in (sim.world.get(id), *sim.world.below(id)) if item is not None]


def _tell(sim: Simulator, method: str, by: str, effect: Effect) -> None:
    claims = identity.claims(by, now=sim.clock(), tenant=sim.tenant)
    request = Request(method, effect.id, at=sim.clock(), claims=claims, base=sim.url or "http://127.0.0.1")
    sim.events.raised(request, Response(200, effects=[effect]))


Oddity = Callable[[Any, str, float], None]
"""(document, path, megabytes): changes the document in place."""


def _unknown(body: Any, path: str, size_mb: float) -> None:
    body.setdefault("properties", {})["simulatedSetting"] = {"mode": "Unheard", "list": [1, None, {"a": "b"}]}


def _value(make: Callable[[Any], Any]) -> Oddity:
    return lambda body, path, size_mb: paths.write(body, path, make(paths.read(body, path)))


ODD: Mapping[str, Oddity] = {
    "unknown": _unknown,
    "null": _value(lambda value: None),
    "case": _value(lambda value: str(value).swapcase()),
    "type": _value(lambda value: [value] if isinstance(value, (str, bool, int)) else "text"),
    "surrogate": _value(lambda value: "\ud800"),
    "big": lambda body, path, size_mb: paths.write(body, "properties.simulatedText", "x" * int(size_mb * 1024 * 1024)),
}
