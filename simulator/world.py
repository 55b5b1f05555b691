"""What exists: documents by folded id, with every state they went through. Knows ids and types, nothing of HTTP.

A resource is stored as it was written; defaults and versions are laid over it when it is shown (`simulator.merge`).
Parts that a parent shows inside itself (rules of an NSG, subnets of a network) are resources of their own here.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from simulator import merge, paths
from simulator.ids import ancestors, fold, name_of, parent_of, type_of
from simulator.types import Birth, Body, habits_of

if TYPE_CHECKING:
    from simulator import Simulator


BEHIND = ("SEED", "MUTATE")
"""Methods in the history that no client sent: their documents are stored as they stand."""


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a resource: when, by whom, by which call. `body` None: deleted."""

    at: float
    who: str
    method: str
    api_version: str
    body: Body | None


@dataclass(slots=True)
class Resource:
    """A resource as stored. `incarnation` is new with every creation, `etag` (no quotes) with every change."""

    id: str
    type: str
    body: Body
    incarnation: str
    etag: str = field(default_factory=lambda: str(uuid.uuid4()))
    created: float = 0.0
    changed: float = 0.0
    state: str = ""
    """provisioningState to show instead of the settled one, while an operation runs or after one failed."""

    @property
    def name(self) -> str:
        return name_of(self.id)


class World:
    """All documents of one simulator. Callers hold the simulator's lock."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._resources: dict[str, Resource] = {}
        self._history: dict[str, list[Version]] = {}
        self._inside: dict[str, dict[str, None]] = {}
        """Folded id of a parent (or scope) to those of its direct children, in order of creation."""
        self.deleted: dict[str, list[Resource]] = {}
        """Softly deleted resources by folded id, each with what was below it."""

    def get(self, id: str) -> Resource | None:
        return self._resources.get(fold(id))

    def all(self) -> Iterator[Resource]:
        """Every resource, groups and subscriptions too, in order of creation."""
        yield from list(self._resources.values())

    def below(self, id: str) -> list[Resource]:
        """Everything under an id, at any depth, extensions too; a parent before its children."""
        found: list[Resource] = []
        for key in self._inside.get(fold(id), ()):
            if key in self._resources:
                found.append(self._resources[key])
            found += self.below(key)
        return found

    def children(self, id: str, type: str) -> list[Resource]:
        """The direct children of one type, extensions too, in order of creation."""
        wanted = fold(type)
        direct = (self._resources[key] for key in self._inside.get(fold(id), ()) if key in self._resources)
        return [item for item in direct if fold(item.type) == wanted]

    def put(self, id: str, body: Body, *, who: str = "", method: str = "PUT", api_version: str = "") -> Resource:
        """Stores `body` as the new state, makes the resource if need be, and renews its ETag and its parents'."""
        now, resource = self._sim.clock(), self.get(id)
        habits = habits_of(type_of(id))
        if resource is None:
            resource = Resource(id, type_of(id), body, str(uuid.uuid4()), created=now, changed=now)
            siblings = len(self.children(parent_of(id), resource.type)) if habits.born else 0
            self._add(resource)
            if habits.born:
                tenant = self._sim.tenant
                habits.born(body, Birth(id, resource.incarnation, iso(now), who, api_version, tenant, siblings))
            body.setdefault("systemData", {"createdBy": who, "createdByType": "User", "createdAt": iso(now)})
            for child in habits.brings:
                self.put(f"{id}/{child}", {}, who=who, method=method, api_version=api_version)
        resource.body, resource.changed = body, now
        self._identify(body, id)
        if not isinstance(body.get("systemData"), dict):        # a type that shows none says null
            body["systemData"] = {}
        body["systemData"].update(lastModifiedBy=who, lastModifiedByType="User", lastModifiedAt=iso(now))
        self._renew(resource)
        self._note(id, Version(now, who, method, api_version, copy.deepcopy(body)))
        return resource

    def _identify(self, body: Body, id: str) -> None:
        """Principals for identities that have none yet; a system identity turned on again gets another one."""
        identity = body.get("identity")
        if not isinstance(identity, dict):
            return
        if "systemassigned" in str(identity.get("type", "")).lower():
            identity.setdefault("principalId", str(uuid.uuid4()))
            identity.setdefault("tenantId", self._sim.tenant)
        assigned = identity.get("userAssignedIdentities")
        for name, value in assigned.items() if isinstance(assigned, dict) else ():
            if isinstance(value, dict):
                value.setdefault("principalId", str(uuid.uuid5(uuid.NAMESPACE_URL, fold(name) + "/principal")))
                value.setdefault("clientId", str(uuid.uuid5(uuid.NAMESPACE_URL, fold(name) + "/client")))

    def spread(self, id: str, type: str, items: Sequence[Body], **by: str) -> None:
        """Makes the direct children of one type be exactly `items` (full documents, told apart by name)."""
        kind = type.rsplit("/", 1)[-1]
        named = {name: item for item in items if (name := name_of(str(item.get("name") or item.get("id") or "")))}
        names = {fold(name) for name in named}
        for child in self.children(id, type):
            if fold(child.name) not in names:
                self.delete(child.id, **{key: value for key, value in by.items() if key != "api_version"})
        habits = habits_of(type)
        for name, item in named.items():
            child_id = f"{id}/{kind}/{name}"
            known = self.get(child_id)
            if by.get("method") in BEHIND:
                self._take(child_id, item, **by)
            else:
                self.put(child_id, merge.put(habits, known.body if known else None, item), **by)

    def delete(self, id: str, *, who: str = "", method: str = "DELETE") -> Resource | None:
        """Takes a resource and all below it away, softly where the type has that; gives it, None if there was none."""
        gone = self.get(id)
        if gone is None:
            return None
        family = [gone, *self.below(id)]
        for item in family:
            if method == "DELETE" and habits_of(item.type).soft:
                self.deleted[fold(item.id)] = [item, *self.below(item.id)]
        for item in family:
            key = fold(item.id)
            del self._resources[key]
            self._inside.get(fold(parent_of(key)), {}).pop(key, None)
            self._note(item.id, Version(self._sim.clock(), who, method, "", None))
        if (above := self.get(parent_of(id))) is not None:
            self._renew(above)
        return gone

    def restore(self, id: str, *, who: str = "") -> Resource:
        """Brings a softly deleted resource back as it was, as the incarnation it was, with what was below it."""
        family = self.deleted.pop(fold(id))
        for resource in family:
            self._add(resource)
        root = family[0]
        return self.put(root.id, root.body, who=who)

    def _add(self, resource: Resource) -> None:
        key = fold(resource.id)
        self._resources[key] = resource
        self._inside.setdefault(fold(parent_of(key)), {})[key] = None

    def seed(self, id: str, document: Mapping[str, Any], api_version: str = "") -> Resource:
        """Stores a document as GET showed it: parts inside it become resources, missing parents are made."""
        for above in reversed(list(ancestors(id))):
            if self.get(above) is None:
                self.put(above, {"location": document.get("location") or "eastus"}, who="seed", method="SEED")
        self._take(id, document, who="seed", method="SEED", api_version=api_version)
        resource = self._resources[fold(id)]
        if isinstance(document.get("systemData"), dict):
            resource.body["systemData"].update(document["systemData"])
        state = paths.read(document, "properties.provisioningState")
        settled = habits_of(resource.type).state
        if isinstance(state, str) and settled and state.lower() != settled.lower():
            resource.state = state
        return resource

    def mutate(self, id: str, fn: Callable[[Body], Any], by: str) -> None:
        """`fn` gets the stored document with its parts and changes it in place, or gives another (S17)."""
        resource = self.get(id)
        if resource is None:
            raise KeyError(id)
        document = self.whole(resource)
        changed = fn(document)
        self._take(resource.id, document if changed is None else changed, who=by, method="MUTATE")

    def _take(self, id: str, document: Mapping[str, Any], **by: str) -> None:
        """Stores a document as it stands, nothing dropped but what is kept elsewhere: id, ETag, parts."""
        body = copy.deepcopy(dict(document))
        parts = {part.type: paths.read(body, path) for path, part in habits_of(type_of(id)).parts.items()}
        for path in ("id", "name", "type", "etag", "properties.provisioningState", *habits_of(type_of(id)).parts):
            paths.drop(body, path)
        old = self.get(id)
        body.setdefault("systemData", dict(old.body["systemData"]) if old else {"createdAt": iso(self._sim.clock())})
        self.put(id, body, **by)
        for type, items in parts.items():
            if isinstance(items, list):
                self.spread(id, type, [item for item in items if isinstance(item, dict)], **by)

    def whole(self, resource: Resource) -> Body:
        """A copy of the stored document with its parts, without what is only shown (defaults, ETags)."""
        body = {"id": resource.id, "name": resource.name, "type": resource.type, **copy.deepcopy(resource.body)}
        for path, part in habits_of(resource.type).parts.items():
            if items := self.children(resource.id, part.type):
                paths.write(body, path, [self.whole(item) for item in items])
        return body

    def known(self) -> list[str]:
        """Ids of everything that exists or ever did; of what is gone in lower case."""
        return [self._resources[id].id if id in self._resources else id for id in self._history]

    def history(self, id: str) -> list[Version]:
        return list(self._history.get(fold(id), ()))

    def touch(self, resource: Resource) -> None:
        """A new ETag for a change of state alone."""
        self._renew(resource)

    def _renew(self, resource: Resource | None) -> None:
        while resource is not None:
            resource.etag = str(uuid.uuid4())
            above = self.get(parent_of(resource.id))
            is_part = above is not None and any(
                fold(part.type) == fold(resource.type) for part in habits_of(above.type).parts.values()
            )
            resource = above if is_part else None

    def _note(self, id: str, version: Version) -> None:
        self._history.setdefault(fold(id), []).append(version)


def iso(seconds: float) -> str:
    """Seven decimals and a Z, as .NET writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
