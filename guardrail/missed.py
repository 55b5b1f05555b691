"""Changes that Azure made a note of and no event told us: how we learn that somebody blinded us, or that events get lost.

Resource Graph keeps each change of a resource for days, mostly within five minutes (Microsoft's page "Get resource
changes"), in the table `resourcechanges`. A change counts as told when an event of its resource was answered after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from guardrail import home, ids, own
from guardrail.errors import Held, Malformed
from guardrail.ids import ResourceId
from guardrail.turn import Engine
from guardrail.values import Case, Look, Record

KEPT = "events"                     # the name under which the installation keeps this
SETTLED = timedelta(minutes=10)     # a change is asked for when the graph and its event have had so long
SKEW = timedelta(seconds=60)        # of our clock and Azure's
NAMED = 10                          # resources that a record names


@dataclass(slots=True)
class Missed:
    """As far as this sweep has compared. `since`: up to where the last one did; None: this is the first."""

    since: datetime | None
    until: datetime
    newest: datetime | None = None
    changes: int = 0
    missed: int = 0
    resources: list[str] = field(default_factory=list)

    @property
    def coverage(self) -> float | None:
        """The share of changes that events told; None if nothing changed."""
        return round(1 - self.missed / self.changes, 4) if self.changes else None


async def begin(engine: Engine) -> Missed:
    since = (await home.recall(engine, KEPT)).get("until")
    until = engine.clock() - SETTLED
    return Missed(datetime.fromisoformat(since) if since else None, until)


def query(at: Missed, types: str) -> str:
    """Constant text but for times and the names of our own types."""
    since = at.since or at.until
    return (
        "resourcechanges | extend at = todatetime(properties.changeAttributes.timestamp)"
        f" | where at > datetime({_written(since)}) and at <= datetime({_written(at.until)})"
        f" | where tostring(properties.targetResourceType) in~ ({types})"
        " | project id, at, target = properties.targetResourceId, who = properties.changeAttributes.changedByType"
        " | order by at asc, id asc")


async def compare(engine: Engine, at: Missed, row: Mapping[str, Any]) -> None:
    """Counts one row; what no event told is looked at. Errors: StoreDown."""
    resource, when = _target(row.get("target")), _time(row.get("at"))
    if resource is None or when is None or ids.subscription(resource) not in engine.subscriptions:
        return
    if own.is_ours(engine, resource):
        return
    at.newest = max(when, at.newest or when)
    if row.get("who") == "System":           # a service's own doing: no request, and so no event
        return
    at.changes += 1
    with contextlib.suppress(Held, Malformed):      # a bad row proves nothing
        case, look = await engine.store.load(resource)
        if _is_told(case, look, when):
            return
    at.missed += 1
    if len(at.resources) < NAMED and resource not in at.resources:
        at.resources.append(resource)
    await engine.store.send(Look(resource, "sweep"))


def finish(engine: Engine, at: Missed, case: Case) -> tuple[Case, list[Record]]:
    """The installation's case with how far was compared, and the record that pages, or that all is well again."""
    before = case.good.get(KEPT, {})
    was_broken = bool(before.get("broken"))
    is_broken = at.missed > 0 or (was_broken and not at.changes)       # nothing changed: nothing is proven
    records = list[Record]()
    if at.missed:
        records.append(home.record(engine, "path.broken", hop="events", missed=at.missed, changes=at.changes,
                                   coverage=at.coverage, resources=at.resources))
    elif was_broken and not is_broken:
        records.append(home.record(engine, "path.restored", hop="events", changes=at.changes))
    # the graph may lag: the next sweep goes on behind the newest row, not behind the newest moment
    until = at.newest + timedelta(microseconds=1) if at.newest else at.since or at.until
    return home.with_kept(case, **{KEPT: {"until": until.isoformat(), "broken": is_broken}}), records


def _is_told(case: Case, look: Look | None, when: datetime) -> bool:
    waits = look is not None and any(change.at >= when - SKEW for change in look.changes)
    return waits or (case.told is not None and case.told >= when - SKEW)


def _target(text: object) -> ResourceId | None:
    try:
        return ids.parse(text) if isinstance(text, str) else None
    except Malformed:
        return None


def _time(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
