"""The HTTP API for people: what waits, what was done, what is in force; and each decision, as contracts name the routes.

Every route stands in READS or CHANGES with the verb it takes. What may be decided is the engine's to say (people,
switches, wishes); here it is found by its id and told as JSON.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from console import event_path, gate, views
from console.gate import Reasoned
from guardrail import audit, ids, ocsf, people, refusals, switches, wishes
from guardrail.authorize import Person
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.policy import Switch
from guardrail.policy_schema import Exemption, Freeze, Text, Time
from guardrail.stores import HOME
from guardrail.turn import Engine

Hash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z][0-9A-Za-z ._-]{0,63}\Z")]      # it stands in a path
Id = Annotated[str, Meta(max_length=2048)]
ID_LENGTH = 64          # of what stands in a path, on record


class Approving(Reasoned, frozen=True, kw_only=True):
    plan: Hash                                      # the plan's hash as it was seen; with intent that one's may stand for it
    intent: bool = False


class Rejecting(Reasoned, frozen=True, kw_only=True):
    then: Literal["open", "exempt"] = "open"
    until: Time | None = None                       # of the exemption that is asked for


class Settling(Reasoned, frozen=True, kw_only=True):
    as_: Literal["verified", "failed"] = msgspec.field(name="as")


class OnResource(Reasoned, frozen=True, kw_only=True):
    resource_id: Id


class Switching(Reasoned, frozen=True, kw_only=True):
    mode: Switch
    scope: Id = ""                                  # without: everywhere


class Confirming(Reasoned, frozen=True, kw_only=True):
    generation: int                                 # of the rules as they were seen
    scope: Id = ""                                  # of the switch that waits


class Freezing(Reasoned, frozen=True, kw_only=True):
    name: Name
    until: Time
    start: Time | None = msgspec.field(name="from", default=None)     # without: now
    scope: Id = ""


class Exempting(Reasoned, frozen=True, kw_only=True):
    reason: Text                                    # as the policy file has it
    control: Text
    scope: Id
    owner: Text
    until: Time


class Accepting(Reasoned, frozen=True, kw_only=True):
    resource_id: Id
    part: Annotated[str, Meta(max_length=200)]
    hash: Hash


@dataclass(slots=True)
class Api:
    """`reads_azure` False: the front, which leaves to hands what needs a look at Azure."""

    engine: Engine
    identify: gate.Identify
    approvers: str = ""                             # the group that approves where the policy names none
    reads_azure: bool = True
    url: str = ""

    def routes(self) -> list[Route]:
        found = list[Route]()
        for path, read in READS:
            endpoint = gate.reading(self.identify, _answering(self, read))
            found += [Route(path, endpoint), Route(f"{path}.json", endpoint)] if "{" not in path else [Route(path, endpoint)]
        for path, verb, shape, act in CHANGES:
            found.append(Route(path, gate.changing(
                self.identify, verb, shape, self.url, _acting(self, act), self._refused), methods=["POST"]))
        return found

    # Reading -------------------------------------------------------------------------------------------------------

    async def approvals(self, request: Request) -> Any:
        """Those of one cause together; `?cause=`: of the same cause as that action; `?mine=true`: that you may approve now."""
        rows = views.of_cause(await views.approvals(self.engine.store), request.query_params.get("cause", ""))
        if request.query_params.get("mine") != "true":
            return rows
        return [row for row in rows if await self._may(row, request.state.who)]

    async def _may(self, row: views.Row, who: Person) -> bool:
        try:
            await people.deciding(self.engine, ResourceId(row["resource_id"]), row["id"], who, self.approvers)
        except Refused:
            return False
        return True

    async def findings(self, request: Request) -> Any:
        return await views.findings(self.engine.store)

    async def resources(self, request: Request) -> Any:
        """Those that have records: what was never wrong has none."""
        return [{"schema_version": 1, "resource_id": one.resource} async for one in self.engine.store.chains()]

    async def baselines(self, request: Request) -> Any:
        """The parts that were seen good; `?resource_id=`: of one resource."""
        named, store = request.query_params.get("resource_id"), self.engine.store
        cases = [(await store.load(ids.parse(named)))[0]] if named else await views.cases(store)
        return [row for case in cases for row in views.baselines(case)]

    async def actions(self, request: Request) -> Any:
        return await views.actions(self.engine.store)

    async def action(self, request: Request) -> Any:
        row = await self._found(request)
        entries = await views.timeline(self.engine.store, ResourceId(row["resource_id"]))
        return {**row, "records": [_record(one) for one in entries if one.detail.get("action_id") == row["id"]]}

    async def exemptions(self, request: Request) -> Any:
        return views.exemptions(await self.engine.store.rules(), self.engine.policy)

    async def modes(self, request: Request | None = None) -> Any:
        rules, since = await self.engine.store.rules(), await views.mode(self.engine.store)
        freezes = [{"name": one.name, "from": one.start, "until": one.until, "scope": one.scope, "source": source}
                   for source, listed in (("people", rules.freezes), ("policy", self.engine.policy.freezes)) for one in listed]
        pending = [{name: getattr(one, name) for name in ("kind", "what", "by", "at", "reason")} for one in rules.pending]
        return {"schema_version": 1, "mode": rules.switch, "ceiling": self.engine.ceiling, "generation": rules.generation,
                "policy_hash": self.engine.policy.hash, "since": since.since, "by": since.by, "reason": since.reason,
                "decisions": since.decisions, "writes": since.writes, "decided": since.decided, "probed": since.probed,
                "scopes": [{"scope": one, "mode": mode} for one, mode in sorted(rules.scoped.items())],
                "freezes": freezes, "pending": pending}

    async def event_path(self, request: Request) -> Any:
        engine = self.engine
        known = [case for case in await views.cases(engine.store) if case.resource != HOME]
        return await event_path.event_path(engine.store, engine.clock(), known, engine.subscriptions)

    async def audit(self, request: Request) -> Any:
        """The records of one resource, `?resource_id=`; without it the installation's own."""
        named = request.query_params.get("resource_id")
        resource = ids.parse(named) if named else HOME
        entries = await views.timeline(self.engine.store, resource)
        return {"schema_version": 1, "resource_id": resource, "records": [_record(one) for one in entries]}

    async def verify(self, request: Request) -> Any:
        """Every chain followed, as `audit verify -o json` has it. It walks all records: seconds for a large store."""
        return views.report(await audit.verify_store(self.engine.store))

    async def export(self, request: Request) -> Response:
        """JSON lines as they are read, `?since=` a time, `?format=ocsf` for a SIEM, `?class=` of its findings."""
        query = request.query_params
        told, since, kind = query.get("format", "jsonl"), query.get("since"), query.get("class", str(ocsf.DETECTION))
        try:
            first = msgspec.convert(since, Time) if since else None
        except msgspec.ValidationError as error:
            raise Refused("until", f"since={since!r} is no time with its zone") from error
        if told not in ("jsonl", "ocsf"):
            raise Refused("what", f"format={told!r} is neither jsonl nor ocsf")
        if kind not in (str(ocsf.DETECTION), str(ocsf.COMPLIANCE)):
            raise Refused("what", f"class={kind!r} is neither {ocsf.DETECTION} nor {ocsf.COMPLIANCE}")
        store = self.engine.store
        lines = audit.export_ocsf(store, first, int(kind)) if told == "ocsf" else audit.export(store, first)
        head = await anext(lines, b"")      # a store that is down says so here, while it can still be told

        async def body() -> AsyncIterator[bytes]:
            if head:
                yield head + b"\n"
            async for line in lines:
                yield line + b"\n"

        return StreamingResponse(body(), media_type="application/x-ndjson",
                                 headers={"content-disposition": f'attachment; filename="records.{told}"'})

    # Deciding ------------------------------------------------------------------------------------------------------

    async def approve(self, request: Request, who: Person, body: Approving) -> Any:
        resource, id = await self._named(request)
        done = await people.approve(self.engine, resource, id, body.plan, who, body.reason, self.approvers, body.intent)
        return await self._row(done.id)

    async def reject(self, request: Request, who: Person, body: Rejecting) -> Any:
        if (body.then == "exempt") != (body.until is not None):
            raise Refused("body", "then exempt needs until, and until needs then exempt")
        resource, id = await self._named(request)
        await people.reject(self.engine, resource, id, who, body.reason, self.approvers, body.until)
        return await self._found(request)

    async def undo(self, request: Request, who: Person, body: Reasoned) -> Any:
        resource, id = await self._named(request)
        if not self.reads_azure:
            await wishes.wish(self.engine, resource, "undo", who, body.reason, id)
            return _left("undo", resource, action_id=id)
        asked = await people.undo(self.engine, resource, id, who, body.reason)
        return await self._row(asked.id)

    async def retry(self, request: Request, who: Person, body: Reasoned) -> Any:
        resource, id = await self._named(request)
        await people.retry(self.engine, resource, id, who, body.reason)
        return _left("retry", resource, action_id=id)

    async def settle(self, request: Request, who: Person, body: Settling) -> Any:
        resource, id = await self._named(request)
        await people.settle(self.engine, resource, id, body.as_, who, body.reason)
        return await self._found(request)

    async def quarantine(self, request: Request, who: Person, body: OnResource) -> Any:
        resource = ids.parse(body.resource_id)
        if not self.reads_azure:
            await wishes.wish(self.engine, resource, "quarantine", who, body.reason)
            return _left("quarantine", resource)
        asked = await people.quarantine(self.engine, resource, who, body.reason)
        return await self._row(asked.id)

    async def look(self, request: Request, who: Person, body: OnResource) -> Any:
        resource = ids.parse(body.resource_id)
        await wishes.look(self.engine, resource, who, body.reason)
        return _left("look", resource)

    async def sweep(self, request: Request, who: Person, body: Reasoned) -> Any:
        await wishes.sweep(self.engine, who, body.reason)
        return _left("sweep", HOME)

    # What is in force ----------------------------------------------------------------------------------------------

    async def switch(self, request: Request, who: Person, body: Switching) -> Any:
        await switches.switch(self.engine, body.mode, who, body.reason, ids.parse(body.scope) if body.scope else "")
        return await self.modes()

    async def confirm_switch(self, request: Request, who: Person, body: Confirming) -> Any:
        await switches.confirm(self.engine, body.generation, who, body.reason, body.scope)
        return await self.modes()

    async def freeze(self, request: Request, who: Person, body: Freezing) -> Any:
        start: datetime = body.start or self.engine.clock()
        scope = ids.parse(body.scope) if body.scope else ""
        await switches.freeze(self.engine, Freeze(name=body.name, start=start, until=body.until, scope=scope), who, body.reason)
        return await self.modes()

    async def end_freeze(self, request: Request, who: Person, body: Reasoned) -> Any:
        await switches.end_freeze(self.engine, request.path_params["name"], who, body.reason)
        return await self.modes()

    async def exempt(self, request: Request, who: Person, body: Exempting) -> Any:
        scope = ids.parse(body.scope)
        wanted = Exemption(control=body.control, scope=scope, reason=body.reason, owner=body.owner, until=body.until)
        rules = await switches.ask_exemption(self.engine, wanted, who)
        return next(row for row in views.exemptions(rules, self.engine.policy) if row["id"] == wanted.id)

    async def confirm_exemption(self, request: Request, who: Person, body: Reasoned) -> Any:
        row = await self._exemption(request)
        rules = await switches.confirm_exemption(self.engine, row["id"], who, self.approvers, body.reason)
        return next(one for one in views.exemptions(rules, self.engine.policy) if one["id"] == row["id"])

    async def remove_exemption(self, request: Request, who: Person, body: Reasoned) -> Any:
        row = await self._exemption(request)
        await switches.remove_exemption(self.engine, row["id"], who, body.reason)
        return {**row, "state": "removed"}

    async def accept(self, request: Request, who: Person, body: Accepting) -> Any:
        resource = ids.parse(body.resource_id)
        case = await people.accept(self.engine, resource, body.part, body.hash, who, self.approvers, body.reason)
        return next(row for row in views.baselines(case) if row["part"] == body.part)

    async def _refused(self, request: Request, who: Person, verb: str, error: Refused) -> None:
        await refusals.note(self.engine, HOME, verb, who, error, str(request.path_params.get("id", ""))[:ID_LENGTH])

    # Finding -------------------------------------------------------------------------------------------------------

    async def _row(self, id: str) -> views.Row:
        try:
            return await views.find_action(self.engine.store, id)
        except LookupError as error:
            raise Refused("unknown", str(error)) from error

    async def _found(self, request: Request) -> views.Row:
        return await self._row(str(request.path_params["id"]).removesuffix(".json"))

    async def _named(self, request: Request) -> tuple[ResourceId, str]:
        row = await self._found(request)
        return ResourceId(row["resource_id"]), row["id"]

    async def _exemption(self, request: Request) -> views.Row:
        rows = views.exemptions(await self.engine.store.rules(), self.engine.policy)
        try:
            return views.by_prefix(rows, request.path_params["id"])
        except LookupError as error:
            raise Refused("unknown", str(error)) from error


def _left(what: str, resource: ResourceId, **more: str) -> Any:
    """What was recorded for hands, which read, and then act, ask or refuse."""
    return {"schema_version": 1, "resource_id": resource, "left_to_hands": what, **more}


def _record(entry: views.Entry) -> Any:
    return {name: getattr(entry, name) for name in views.Entry.__slots__}


def _answering(api: Api, read: Callable[[Api, Request], Awaitable[Any]]) -> gate.Endpoint:
    async def answer(request: Request) -> Any:
        found = await read(api, request)
        return found if isinstance(found, Response) else gate.as_json(found)

    return answer


def _acting(api: Api, act: Callable[..., Awaitable[Any]]) -> Callable[[Request, Person, Any], Awaitable[Any]]:
    async def acting(request: Request, who: Person, body: Any) -> Any:
        return await act(api, request, who, body)

    return acting


READS: tuple[tuple[str, Callable[..., Awaitable[Any]]], ...] = (
    ("/findings", Api.findings), ("/approvals", Api.approvals), ("/actions", Api.actions), ("/actions/{id}", Api.action),
    ("/resources", Api.resources), ("/exemptions", Api.exemptions), ("/baselines", Api.baselines), ("/modes", Api.modes),
    ("/event-path", Api.event_path),
    ("/audit", Api.audit), ("/audit/verify", Api.verify), ("/audit/export", Api.export),
)
CHANGES: tuple[tuple[str, str, type[Reasoned], Callable[..., Awaitable[Any]]], ...] = (
    ("/actions/{id}/approve", "approve", Approving, Api.approve),
    ("/actions/{id}/reject", "reject", Rejecting, Api.reject),
    ("/actions/{id}/rollback", "rollback", Reasoned, Api.undo),
    ("/actions/{id}/release", "release", Reasoned, Api.undo),
    ("/actions/{id}/retry", "retry", Reasoned, Api.retry),
    ("/actions/{id}/settle", "settle", Settling, Api.settle),
    ("/quarantine", "quarantine", OnResource, Api.quarantine),
    ("/looks", "look", OnResource, Api.look),
    ("/sweep", "look", Reasoned, Api.sweep),
    ("/mode", "tighten", Switching, Api.switch),
    ("/mode/confirm", "loosen", Confirming, Api.confirm_switch),
    ("/freezes", "tighten", Freezing, Api.freeze),
    ("/freezes/{name}/end", "loosen", Reasoned, Api.end_freeze),
    ("/exemptions", "exempt", Exempting, Api.exempt),
    ("/exemptions/{id}/confirm", "confirm", Reasoned, Api.confirm_exemption),
    ("/exemptions/{id}/remove", "unexempt", Reasoned, Api.remove_exemption),
    ("/baselines", "accept", Accepting, Api.accept),
)
