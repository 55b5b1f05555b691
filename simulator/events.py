"""What Event Grid says of a change: one event for every write, action and delete, and their way to the sinks (S15).

Fields and spelling are those of the documentation's samples and one recorded event; a test compares key sets and types.
Nothing is raised for reads, for changes behind everyone's back, or outside a subscription.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4, uuid5

from simulator import identity
from simulator.roles import ROLES
from simulator.sinks import EVENT_GRID, Event, Sink, Target
from simulator.wire import Effect, Request, Response

if TYPE_CHECKING:
    from simulator import Simulator

_MICROSOFT, _XMLSOAP = "http://schemas.microsoft.com", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims"
CLAIMS: Mapping[str, tuple[str, ...]] = {
    "oid": (f"{_MICROSOFT}/identity/claims/objectidentifier",),
    "tid": (f"{_MICROSOFT}/identity/claims/tenantid",),
    "idp": (f"{_MICROSOFT}/identity/claims/identityprovider",),
    "scp": (f"{_MICROSOFT}/identity/claims/scope",),
    "amr": (f"{_MICROSOFT}/claims/authnmethodsreferences",),
    "acr": (f"{_MICROSOFT}/claims/authnclassreference",),
    "sub": (f"{_XMLSOAP}/nameidentifier",),
    "upn": (f"{_XMLSOAP}/upn", f"{_XMLSOAP}/name"),
}
"""Short claim of the token → its names in the event; the other claims keep theirs."""
DROPPED = ("unique_name",)

SILENT = (401, 404, 429)
"""Refusals that raise no Failure event here. Which refusals Azure tells of was not established: this is our reading
(nobody was let in, nothing was there, the request did not count)."""

_NAMESPACE = UUID("00000000-0000-0000-0000-0000000e4e47")


def claims_of(token: Mapping[str, Any]) -> dict[str, str]:
    """The token's payload as an event shows it: URIs for names, text for values."""
    shown: dict[str, str] = {}
    for name, value in token.items():
        if name not in DROPPED:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            shown |= dict.fromkeys(CLAIMS.get(name, (name,)), text)
    return shown


def build(request: Request, effect: Effect, *, ok: bool, tenant: str) -> Event:
    """The event in Event Grid's schema. `httpRequest` is left out of creations, as documented."""
    subscription = effect.id.split("/")[2]
    principal = str(request.claims.get("oid") or request.claims.get("appid") or "")
    person = request.claims.get("idtyp") == "user"
    scope = f"/subscriptions/{subscription}"
    role = identity.role_of(request.claims)
    evidence = {
        "role": role,
        "roleAssignmentScope": scope,
        "roleAssignmentId": uuid5(_NAMESPACE, principal + scope).hex,
        "roleDefinitionId": ROLES[role][0].replace("-", "") if role in ROLES else uuid5(_NAMESPACE, role).hex,
        "principalId": principal.replace("-", ""),
        "principalType": "User" if person else "ServicePrincipal",
    }
    data: Event = {
        "authorization": {"scope": effect.id, "action": effect.operation, "evidence": evidence},
        "claims": claims_of(request.claims),
        "correlationId": request.headers.get("x-ms-correlation-request-id") or str(uuid4()),
        "httpRequest": {
            "clientRequestId": request.headers.get("x-ms-client-request-id") or str(uuid4()),
            "clientIpAddress": str(request.claims.get("ipaddr", "192.0.2.1")),
            "method": request.method,
            "url": f"{request.base}{request.path}?api-version={request.version}",
        },
        "resourceProvider": effect.operation.split("/")[0],
        "resourceUri": effect.id,
        "operationName": effect.operation,
        "status": "Succeeded" if ok else "Failed",
        "subscriptionId": subscription,
        "tenantId": tenant,
    }
    if effect.created:
        del data["httpRequest"]
    return {
        "subject": effect.id,
        "eventType": f"Microsoft.Resources.Resource{effect.kind}{'Success' if ok else 'Failure'}",
        "eventTime": datetime.fromtimestamp(request.at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
        "id": str(uuid4()),
        "data": data,
        "dataVersion": "2",
        "metadataVersion": "1",
        "topic": scope,
    }


@dataclass(slots=True)
class Disturbance:
    """S15: what happens to the events whose subject or operation contains `match`, `times` of them (None: all)."""

    match: str = ""
    times: int | None = None
    drop: float = 0.0
    """Share that gets lost, 0 to 1; 1 is all."""
    duplicate: int = 0
    """Further deliveries of the same event."""
    delay_s: float = 0.0
    reorder: int | Sequence[int] = 0
    """Holds that many events and delivers them backwards, or in the order of these indexes."""
    batch: int = 0
    """Holds that many and delivers them as one array."""
    schema: str = ""
    strip_claims: bool = False
    forge: Mapping[str, Any] | None = None
    """Laid over the event, key by key: `{"data": {"claims": {…}}}`."""
    early: bool = False
    """The answer to the write waits until its event has been delivered."""
    seed: int = 0

    def holds(self) -> int:
        return self.batch or (self.reorder if isinstance(self.reorder, int) else len(self.reorder))


class Events:
    """Builds, remembers and delivers. `record` holds every event raised, in order, before anything disturbed it."""

    def __init__(self, sim: Simulator) -> None:
        self.record: list[Event] = []
        self.sinks: list[Sink] = []
        self._sim = sim
        self._disturbance: Disturbance | None = None
        self._random = random.Random(0)
        self._held: list[Event] = []

    def to(self, target: Target, *, schema: str = EVENT_GRID, scope: str = "", name: str = "") -> Sink:
        """Subscribes a sink to all events from now on, or to those below `scope`, a group's or subscription's id.

        `schema`: EventGridSchema or CloudEventSchemaV1_0."""
        sink = Sink(target, schema, scope, name or f"subscription-{len(self.sinks) + 1}")
        self.sinks.append(sink)
        return sink

    def raised(self, request: Request, response: Response) -> None:
        """Called for every answered request: one event for each effect that happened, Failure for those refused."""
        if not response.ok and response.status in SILENT:
            return
        for effect in response.effects:
            if effect.id.lower().startswith("/subscriptions/"):
                event = build(request, effect, ok=response.ok, tenant=self._sim.tenant)
                self.record.append(event)
                self._disturb(event)

    def inject(self, *events: Event) -> None:
        """Delivers events as they are given (forged, replayed), to every sink, as one array each."""
        for sink in self.sinks:
            sink.put(copy.deepcopy(list(events)), batched=len(events) > 1)

    def disturb(self, **how: Any) -> None:
        """S15, see Disturbance; a second call replaces the first and lets go what that held."""
        self.calm()
        self._disturbance = Disturbance(**how)
        self._random = random.Random(self._disturbance.seed)

    def calm(self) -> None:
        """No disturbance any more; held events are delivered."""
        self._disturbance, held = None, self._held
        self._held = []
        for event in held:
            self._deliver([event])

    def _disturb(self, event: Event) -> None:
        how = self._disturbance
        if how is None or not self._applies(how, event):
            self._deliver([event])
            return
        if how.times is not None:
            how.times -= 1
        if how.drop and self._random.random() < how.drop:
            return
        event = copy.deepcopy(event)
        if how.strip_claims:
            event["data"]["claims"] = {}
        if how.forge:
            _lay(how.forge, event)
        if not how.holds():
            for _ in range(1 + how.duplicate):
                self._deliver([event], how)
            return
        self._held += [event] * (1 + how.duplicate)
        if len(self._held) >= how.holds():
            held, self._held = self._held, []
            if how.batch:
                self._deliver(held, how)
            else:
                order = range(len(held) - 1, -1, -1) if isinstance(how.reorder, int) else how.reorder
                for index in order:
                    self._deliver([held[index]], how)

    def _applies(self, how: Disturbance, event: Event) -> bool:
        text = f"{event['subject']} {event['data']['operationName']}".lower()
        return how.match.lower() in text and how.times != 0

    def _deliver(self, events: list[Event], how: Disturbance | None = None) -> None:
        for sink in self.sinks:
            if wanted := [event for event in events if sink.wants(event)]:
                sink.put(
                    wanted,
                    delay_s=how.delay_s if how else 0.0,
                    schema=how.schema if how else "",
                    batched=len(events) > 1,
                )

    @property
    def early(self) -> bool:
        """Whether an answer has to wait for the deliveries (app.py waits, without the lock)."""
        return self._disturbance is not None and self._disturbance.early

    def drain(self, timeout_s: float = 5.0) -> bool:
        """Waits until every sink has what was raised (held events excepted); False when the time was up first."""
        drained = [sink.drain(timeout_s) for sink in self.sinks]
        return all(drained)

    def flush(self) -> None:
        """Delivers at once what is delayed or held, and waits."""
        self.calm()
        for sink in self.sinks:
            sink.hurry()
        self.drain()

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()

    @property
    def dead(self) -> list[tuple[Event, str]]:
        """What every sink gave up, with the status or error."""
        return [entry for sink in self.sinks for entry in sink.dead]


def _lay(over: Mapping[str, Any], event: Event) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(event.get(key), dict):
            _lay(value, event[key])
        else:
            event[key] = value
