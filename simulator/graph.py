"""Azure Resource Graph over the world: POST /providers/Microsoft.ResourceGraph/resources, paging, quota and lies (S16).

api-versions 2022-10-01 and 2024-04-01. Rows are what the caller may read. `resources` has what is tracked: top-level
resources and children with a location of their own; rules, subnets and extensions are not rows of it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from simulator import reads
from simulator.ids import GROUP, SUBSCRIPTION, fold, group_of, name_of, split, subscription_of, type_of
from simulator.kql import Parser, QueryError, Row
from simulator.types import habits_of
from simulator.wire import Request, Response, error
from simulator.world import Resource, Version, iso

if TYPE_CHECKING:
    from simulator import Simulator

PATH = "/providers/microsoft.resourcegraph/resources"
VERSIONS = ("2022-10-01", "2024-04-01")
PAGE = 1000
"""Rows a page, at most and by default."""
QUOTA, WINDOW_S = 15, 5
"""Queries of one user in so many seconds."""

SYSTEM = "system"
"""The actor of what a service does by itself, without a request and so without an event: `mutate(…, by=SYSTEM)`."""

_NAMESPACE = UUID("00000000-0000-0000-0000-00000000c4a6")
ELSEWHERE: Mapping[str, str] = {
    "microsoft.authorization/roleassignments": "authorizationresources",
    "microsoft.authorization/roledefinitions": "authorizationresources",
    "microsoft.authorization/policyassignments": "policyresources",
    "microsoft.security/pricings": "securityresources",
    "microsoft.security/settings": "securityresources",
    fold(GROUP): "resourcecontainers",
    fold(SUBSCRIPTION): "resourcecontainers",
}
"""Type → its table, where that is not `resources`."""
TABLES = ("resources", "resourcechanges", *dict.fromkeys(ELSEWHERE.values()))


@dataclass(slots=True)
class Trouble:
    """S16. `lag_s`: rows show the world of that long ago. `omit`: ids or globs whose rows are silently left out.
    `truncate`: only so many rows come, with resultTruncated and no token. `bad_skip_token`: every token is refused."""

    lag_s: float = 0.0
    omit: Sequence[str] = ()
    truncate: int | None = None
    bad_skip_token: bool = False


class Graph:
    """The query endpoint of one simulator."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._trouble = Trouble()
        self._asked: dict[str, list[float]] = {}

    def trouble(self, **how: Any) -> None:
        """S16, see Trouble."""
        self._trouble = Trouble(**how)

    def clear(self) -> None:
        self._trouble = Trouble()

    def route(self, request: Request) -> Response | None:
        """The answer to a query; None for every other path."""
        if fold(request.path) != PATH:
            return None
        if request.method != "POST":
            return Response(
                405, {"Message": f"The requested resource does not support http method '{request.method}'."}
            )
        if request.version not in VERSIONS:
            return error(400, "InvalidApiVersionParameter", f"The api-version '{request.version}' is invalid.")
        left = self._quota(request)
        if left is None:
            refused = error(
                429,
                "RateLimiting",
                "Please provide below info when asking for support.",
                details=[{"code": "RateLimiting", "message": "Client application has been throttled."}],
            )
            refused.headers |= {
                "Retry-After": str(WINDOW_S),
                "x-ms-user-quota-remaining": "0",
                "x-ms-user-quota-resets-after": f"00:00:{WINDOW_S:02}",
            }
            return refused
        try:
            response = self._answer(request)
        except QueryError as why:
            response = error(
                400,
                "BadRequest",
                "Please provide below info when asking for support.",
                details=[{"code": "InvalidQuery", "message": f"Query is invalid: {why}."}],
            )
        response.headers |= {
            "x-ms-user-quota-remaining": str(left),
            "x-ms-user-quota-resets-after": f"00:00:{WINDOW_S:02}",
        }
        return response

    def _quota(self, request: Request) -> int | None:
        who, now = str(request.claims.get("oid", "")), self._sim.clock()
        asked = self._asked[who] = [at for at in self._asked.get(who, []) if now - at < WINDOW_S]
        if len(asked) >= QUOTA and not self._sim.throttle.is_off:
            return None
        asked.append(now)
        return max(0, QUOTA - len(asked))

    def _answer(self, request: Request) -> Response:
        try:
            body = json.loads(request.body or b"{}")
            query, options = body["query"], body.get("options") or {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise QueryError("the body has no query") from None
        if fold(options.get("resultFormat", "objectArray")) != "objectarray":
            raise QueryError("the simulator knows resultFormat objectArray only")
        parser = Parser(str(query), datetime.fromtimestamp(self._sim.clock(), UTC))
        wanted = {fold(id) for id in body.get("subscriptions") or self._sim.subscriptions}
        rows = parser.run(
            lambda table: [row for row in self._rows(table, request) if fold(row.get("subscriptionId", "")) in wanted]
        )
        size = min(int(options.get("$top") or PAGE), PAGE)
        start = self._start(options)
        page = rows[start : start + size]
        cut = self._trouble.truncate
        if cut is not None:
            page = page[:cut]
        more = start + size < len(rows) or len(page) < min(size, len(rows) - start)
        answer: dict[str, Any] = {
            "totalRecords": len(rows),
            "count": len(page),
            "data": json.loads(json.dumps(page, default=_shown)),
            "facets": [],
            "resultTruncated": "true" if more else "false",
        }
        # A token is given only where rows can be told apart: without the id column, or after take, there is none.
        if more and cut is None and not parser.limited and all("id" in row for row in page):
            answer["$skipToken"] = base64.urlsafe_b64encode(json.dumps({"from": start + size}).encode()).decode()
            answer["resultTruncated"] = "false"
        return Response(200, answer)

    def _start(self, options: Mapping[str, Any]) -> int:
        token = options.get("$skipToken")
        if not token:
            return int(options.get("$skip") or 0)
        try:
            start = int(json.loads(base64.urlsafe_b64decode(str(token)))["from"])
        except (ValueError, KeyError, TypeError):
            start = -1
        if start < 0 or self._trouble.bad_skip_token:
            raise QueryError("the skip token is invalid")
        return start

    # the tables

    def _rows(self, table: str, request: Request) -> Iterator[Row]:
        if table not in TABLES:
            raise QueryError(f"the table '{table}' is not known to the simulator")
        access, oid = self._sim.faults.access, str(request.claims.get("oid", ""))
        make: Callable[[], Iterator[Row]] = (
            self.changes if table == "resourcechanges" else lambda: self._resources(table)
        )
        for row in make():
            target = row["properties"]["targetResourceId"] if table == "resourcechanges" else row["id"]
            if access.may(oid, f"{type_of(target)}/read", target) and not self._omitted(target):
                yield row

    def _omitted(self, id: str) -> bool:
        return any(
            fnmatchcase(fold(id), fold(hidden)) if "*" in hidden else f"{fold(id)}/".startswith(f"{fold(hidden)}/")
            for hidden in self._trouble.omit
        )

    def _resources(self, table: str) -> Iterator[Row]:
        for resource in self._then():
            if _table(resource) == table:
                yield self._row(resource)

    def _then(self) -> Iterator[Resource]:
        """The world as it was `lag_s` ago: what has been seeded always was."""
        if not self._trouble.lag_s:
            yield from self._sim.world.all()
            return
        moment = self._sim.clock() - self._trouble.lag_s
        for id in self._sim.world.known():
            past = [state for state in self._sim.world.history(id) if state.method == "SEED" or state.at <= moment]
            if past and past[-1].body is not None:
                yield Resource(id, type_of(id), past[-1].body, "")

    def _row(self, resource: Resource) -> Row:
        shown = reads.view(self._sim, resource, "")
        return {
            "id": resource.id,
            "name": name_of(resource.id),
            "type": _written(resource.type),
            "tenantId": self._sim.tenant,
            "kind": shown.get("kind", ""),
            "location": shown.get("location", ""),
            "resourceGroup": fold(name_of(group_of(resource.id))),
            "subscriptionId": subscription_of(resource.id),
            "managedBy": shown.get("managedBy", ""),
            **{key: shown.get(key) for key in ("sku", "plan", "properties", "tags", "identity", "zones", "systemData")},
        }

    def changes(self, of: str = "") -> Iterator[Row]:
        """Fourteen days of changes in Azure; here all that were made (to one resource), seeds excepted."""
        moment = self._sim.clock() - self._trouble.lag_s
        for id in [of] if of else self._sim.world.known():
            before: Version | None = None
            for count, state in enumerate(self._sim.world.history(id)):
                if state.method != "SEED" and state.at <= moment:
                    yield self._change(id, count, before, state)
                before = state

    def _change(self, id: str, count: int, before: Version | None, state: Version) -> Row:
        created = before is None or before.body is None
        name = str(uuid5(_NAMESPACE, f"{fold(id)} {count}"))
        changes = _difference(before.body if before else None, state.body)
        return {
            "id": f"{id}/providers/Microsoft.Resources/changes/{name}",
            "name": name,
            "type": "microsoft.resources/changes",
            "tenantId": self._sim.tenant,
            "resourceGroup": fold(name_of(group_of(id))),
            "subscriptionId": subscription_of(id),
            "properties": {
                "targetResourceId": id,
                "targetResourceType": _written(type_of(id)),
                "changeType": "Delete" if state.body is None else "Create" if created else "Update",
                "changeAttributes": {
                    "timestamp": iso(state.at),
                    "changesCount": len(changes),
                    "changedBy": state.who,
                    "changedByType": "System" if state.who == SYSTEM else "User",
                    "clientType": "Unspecified",
                },
                "changes": changes,
            },
        }


def is_tracked(resource: Resource) -> bool:
    """What stands in a group: top-level resources, and children with a location of their own; no extensions."""
    scope, namespace, segments = split(resource.id)
    is_located = len(segments) == 2 or bool(resource.body.get("location"))
    is_extension = habits_of(resource.type).extension or bool(split(scope)[1])
    return bool(namespace and group_of(resource.id)) and is_located and not is_extension


def _table(resource: Resource) -> str:
    return ELSEWHERE.get(fold(resource.type)) or ("resources" if is_tracked(resource) else "")


def _written(type: str) -> str:
    """Types are lower case in Resource Graph; groups and subscriptions have a longer name there."""
    return "microsoft.resources/subscriptions/resourcegroups" if fold(type) == fold(GROUP) else fold(type)


def _difference(before: Any, after: Any, at: str = "") -> dict[str, dict[str, str]]:
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, dict[str, str]] = {}
        for key in before.keys() | after.keys():
            if key != "systemData":
                found |= _difference(before.get(key), after.get(key), f"{at}.{key}" if at else key)
        return found
    if before == after or not at:
        return {}
    kind = "Insert" if before is None else "Remove" if after is None else "Update"
    return {
        at: {"propertyChangeType": kind, "changeCategory": "User", "previousValue": str(before), "newValue": str(after)}
    }


def _shown(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
