"""A random evening in a small Azure, and what has to hold in it whatever happens: the invariants of the threat model.

A Trial is one seeded run: resources, people who drift and mend them, faults, crashes, workers, switches, clock steps.
The oracle is the simulator's log and the documents as they stood at each write (S0), which the engine is never told.
"""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import recorded
from detectors import CONTROLS
from guardrail import app, audit, plans, policy
from guardrail.documents import Document
from guardrail.errors import Malformed, Unsafe
from guardrail.ids import ResourceId, ancestors, fold, soundest
from guardrail.ids import type_of as type_name
from guardrail.paths import ABSENT, Each, Path, get, parse, put, same, show, under
from guardrail.proof import differences, merge, prove
from guardrail.values import Control, Edit, Finding, Look, ResourceType
from simulator import Exchange, Request
from simulator.wire import Effect
from tests.flow.harness import TYPES, Crash, crash_at, event, plain_store, restarted, watch
from tests.flow.world import DEV, PROD, World, type_of

PATCHED = TYPES[:3]
FOLDED = {fold(ResourceId(name)) for name in TYPES}
CANARY = "c4n4ryC4n4ryc4n4ryC4n4ry"
TOLD = f"AccountName=x;AccountKey={CANARY}==;password={CANARY} Authorization: Bearer {CANARY}.{CANARY}"
LEASE = timedelta(minutes=5)

# from -> to; contracts, "States of an action". applying -> applying: a worker died, or Azure did not take it
NEXT: Mapping[str, frozenset[str]] = {state: frozenset(after.split()) for state, after in {
    "": "proposed held applying",
    "proposed": "approved rejected expired superseded held",
    "held": "approved rejected superseded applying held",
    "approved": "applying held superseded",
    "applying": "applying applied held superseded failed unknown",
    "applied": "verified applying failed unknown superseded",
    "failed": "applying verified superseded",
    "unknown": "verified failed superseded",
    "verified": "rolled_back", "rejected": "superseded", "expired": "superseded"}.items()}


@dataclass(frozen=True)
class Write:
    """One write of ours as it reached ARM, with what stood there at that instant."""

    line: Exchange
    at: datetime
    root: ResourceId
    before: Document


class Oracle:
    """Sees each write of ours just before it takes effect."""

    def __init__(self, here: World) -> None:
        self.here = here
        self.writes = list[Write]()
        self.states = dict[ResourceId, list[Document]]()        # as they stood after each write, since `forget`
        writing, written = here.sim.faults.writing, here.sim.faults.written

        def watched(request: Request) -> None:
            writing(request)
            if request.actor == "guardrail":
                root = root_of(request.path)
                line = next(line for line in reversed(here.sim.log) if line.path == request.path)
                self.writes.append(Write(line, here.clock(), root, full(here, root)))

        def remembered(request: Request) -> None:
            self.see(root_of(request.path))
            written(request)

        here.sim.faults.writing, here.sim.faults.written = watched, remembered      # type: ignore[method-assign]

    def see(self, id: ResourceId) -> None:
        self.states.setdefault(id, []).append(full(self.here, id))


def root_of(path: str) -> ResourceId:
    """The guarded resource at or above a path; the path itself if there is none."""
    sound = soundest(path)
    above = ancestors(sound) if sound else ()
    return next((one for one in above if fold(ResourceId(type_name(one))) in FOLDED), ResourceId(path))


def full(here: World, id: ResourceId) -> Document:
    """The resource with every part that its type mounts, as it stands now: no log line, no fault."""
    type = type_of(type_name(id))
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


@dataclass
class Trial:
    here: World
    seed: int
    ids: Sequence[ResourceId] = ()

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.here.sim.clock = lambda: self.here.clock().timestamp()
        self.oracle = Oracle(self.here)
        self.switched: list[tuple[datetime, str]] = [(self.here.clock(), "policy")]
        self.arrived: list[tuple[int, ResourceId]] = []         # acknowledged: how long the log was then, the subject
        self.foreign = Counter[str]()
        self.did = Counter[str]()
        self.unseen = list[str]()
        self.focus: ResourceId | None = None
        self.edits = dict[str, Sequence[Edit]]()
        self.other: app.Guardrail | None = None
        intake = app.Guardrail.intake
        trial = self

        async def acknowledged(raw: Any, worker: app.Guardrail) -> None:
            await intake(worker, raw)
            for one in as_list(raw):
                trial.arrived.append((len(trial.here.sim.log), ResourceId(one["subject"])))

        self._acknowledged = acknowledged

    # what happens

    async def run(self, steps: int) -> None:
        """The world stands, this many things happen to it, then it is left alone until all is quiet."""
        kinds = self.dice.sample(TYPES, self.dice.randint(2, 4))
        self.ids = tuple(self.here.stands(kind, subscription=self.dice.choice((DEV, DEV, PROD))) for kind in kinds)
        for id in self.ids:
            await self.tell(event(id))
        await self.here.settle()
        happenings: Sequence[tuple[int, Callable[[], Any]]] = (
            (10, self.drift), (4, self.mend), (3, self.tag), (2, self.end_and_begin), (6, self.noise), (10, self.fault),
            (5, self.calm), (14, self.settle), (3, self.both_settle), (8, self.interrupted), (9, self.time), (6, self.crash),
            (2, self.switch), (2, self.sweep), (2, self.foreign_write))
        for _ in range(steps):
            what = self.dice.choices([do for _, do in happenings], [weight for weight, _ in happenings])[0]
            self.did[what.__name__] += 1
            await self.watched(what)
        await self.quiet()

    async def watched(self, what: Callable[[], Any]) -> None:
        """One happening; whatever it called verified did stand there at some instant of it."""
        seqs = {id: (await self.here.case(id)).seq for id in self.ids}
        self.oracle.states = {}
        for when in ("before", "after"):
            if when == "after":
                done = what()
                if done is not None:
                    await done
            for id in self.ids:
                self.oracle.see(id)
        for id in self.ids:
            for one in await plain_store(self.here.guardrail).records(id, seqs[id]):
                self.saw(id, json.loads(one.body))

    def saw(self, id: ResourceId, record: Mapping[str, Any]) -> None:
        detail = record["detail"]
        if record["event"] == "action.applying":
            self.edits[detail["action_id"]] = [
                Edit(edit["path"], after=edit.get("after", ABSENT)) for edit in detail.get("edits", ())] or self.edits.get(
                    detail["action_id"], [])
        if record["event"] in ("action.verified", "resource.quarantined"):
            edits = self.edits[detail["action_id"]]
            if not any(plans.holds(document, edits) for document in self.oracle.states[id]):
                raise AssertionError(self.told_of(5, f"{id}: called verified, and {edits} never stood there"))

    async def tell(self, *events: Any) -> None:
        await self._acknowledged(json.dumps(list(events)), self.here.guardrail)

    def pick(self) -> ResourceId:
        return self.focus if self.focus and self.dice.random() < 0.8 else self.dice.choice(self.ids)

    def become(self, id: ResourceId, body: Any) -> None:
        """The resource and its parts are exactly this, behind everyone's back."""
        type = type_of(type_name(id))
        sample = recorded.Sample(id, type.api_version, body)
        now = recorded.Sample(id, type.api_version, full(self.here, id).body)
        wanted = {url for url, _, _ in recorded.resources(sample, type)}
        for url, _, _ in recorded.resources(now, type):
            if url not in wanted:
                self.here.sim.faults.delete(url, quiet=True)
        for url, version, part in recorded.resources(sample, type):
            self.here.sim.seed(url, part, version)

    async def told(self, id: ResourceId, operation: str = "") -> None:
        """Mostly the change has its event: by someone, by nobody, in another's name, twice."""
        if self.dice.random() < 0.25:
            return
        claims = self.dice.choice([{}, {"oid": "44444444-4444-4444-4444-444444444444"}, {"oid": "nonsense"}])
        one = event(id, operation, data={"claims": claims})
        await self.tell(*[one] * self.dice.choice((1, 1, 1, 3)))

    async def drift(self) -> None:
        id = self.pick()
        now = full(self.here, id)
        if now.gone:
            return
        control = self.dice.choice([one for one in CONTROLS if one.on == type_name(id) and one.response != "report"])
        try:
            self.become(id, recorded.laid(now.body, control.drift))
        except Malformed:
            return
        await self.told(id)

    async def mend(self) -> None:
        """Somebody puts it back by hand, or brings it back."""
        id = self.pick()
        self.become(id, good_of(id))
        await self.told(id)

    def tag(self) -> None:
        id = self.pick()
        if type_name(id) in PATCHED:
            who = self.dice.choice(("ml-engineer", "guardrail-x"))
            self.here.write("PATCH", id, {"tags": {"n": str(self.dice.random())}}, as_=who)

    async def end_and_begin(self) -> None:
        id = self.pick()
        quiet = self.dice.random() < 0.5
        if full(self.here, id).gone:
            self.become(id, good_of(id))
        elif self.dice.random() < 0.5:
            self.here.sim.faults.recreate(id, quiet=quiet)
        else:
            self.here.sim.faults.delete(id, quiet=quiet)

    async def noise(self) -> None:
        """Events of nothing, forged ones, junk, messages, and looks for every reason."""
        id = self.pick()
        events = [event(id), event(f"{id}/nobody/x", "Microsoft.Nobody/nothing/action"), event(id, f"{type_name(id)}/delete"),
                  event(id, eventTime="1999-01-01T00:00:00Z")]
        await self.tell(*self.dice.sample(events, self.dice.randint(1, 4)))
        await self.here.guardrail.intake(self.dice.choice(["{}", "[1, {}]", "nonsense", json.dumps({"x": TOLD})]))
        why: Any = self.dice.choice(("event", "due", "sweep", "person"))
        await self.here.guardrail.store.send(Look(id, why), self.dice.choice((0, 0, 30)))

    def fault(self) -> None:
        id, faults, times = self.pick(), self.here.sim.faults, self.dice.choice((1, 1, 2, 4))
        match = self.dice.choice(
            (f"GET {id}", f"*{id}*", f"PATCH,PUT,DELETE,POST *{id}*", "PATCH,PUT,DELETE", "*/subscriptions/*"))
        kind = type_name(id)
        end: Any = self.dice.choice(("Succeeded", "Failed", "Canceled", "never"))
        effect: Any = self.dice.choice(("accept", "end", "half", "never"))
        status, code = self.dice.choice((
            (400, "Bad"), (403, "AuthorizationFailed"), (404, "ResourceNotFound"),
            (409, "AnotherOperationInProgress"), (412, "Precondition"),
            (409, "ScopeLocked"), (429, "TooMany"), (500, "Internal"), (503, "ServerBusy"), (302, "Found"), (401, "Expired")))
        self.dice.choice((
            lambda: faults.answer(match, status, code, TOLD, times=times, headers={"Location": "http://127.0.0.1:9/x"}),
            lambda: faults.answer(match, status, code, TOLD, times=times, headers={"Retry-After": "40"}),
            lambda: faults.answer(f"PATCH,PUT,DELETE,POST *{id}*", status, code, TOLD, times=times),
            lambda: faults.lose_answer(f"PATCH,PUT,DELETE,POST *{id}*", self.dice.choice(("drop", "500")), times=times),
            lambda: faults.drop_request(match, times=times),
            lambda: faults.stale(f"GET {id}", reads=times),
            lambda: faults.lro(kind, self.dice.choice(("async", "location", "state")), times, end, effect,
                               url=self.dice.choice((None, "http://127.0.0.1:9/operation")), times=times),
            lambda: faults.revoke(f"{kind}/{self.dice.choice(('read', 'write', 'delete', '*'))}"),
            lambda: faults.token(self.dice.choice(("fail", "expired", "foreign_tenant", "claims_challenge")), times=times),
            lambda: faults.lock(id.split("/providers/")[0], "ReadOnly"),
            lambda: faults.graph(omit=(id.rsplit("/", 1)[-1],)),
            lambda: faults.events(duplicate=times, strip_claims=True),
            lambda: faults.events(drop=0.5, seed=self.seed),
            lambda: faults.events(reorder=3),
        ))()

    def foreign_write(self) -> None:
        """Somebody sets another property at the last instant before a write of ours, or just after it."""
        id, name = self.pick(), f"foreign{self.dice.randint(0, 99)}"

        def change() -> None:
            if self.here.sim.world.get(id) is not None:
                self.here.sim.mutate(id, lambda body: body.setdefault("properties", {}).update({name: {"on": True}}))

        when = self.here.sim.faults.before_write if self.dice.random() < 0.5 else self.here.sim.faults.after_write
        when(f"PATCH *{id}", change)

    def calm(self) -> None:
        self.here.sim.faults.clear()
        self.end_operations()

    def end_operations(self) -> None:
        for operation in list(self.here.sim.operations._all.values()):
            if operation.status == "InProgress":
                self.here.sim.operations._end(operation)

    async def deliver(self) -> None:
        self.here.sim.events.drain()
        with self.here._lock:
            events, self.here._events = self.here._events, []
        for index, one in enumerate(events):
            try:
                await self._acknowledged(json.dumps(one), self.here.guardrail)
            except BaseException:
                self.here._arrived(events[index:])
                raise

    async def settle(self) -> None:
        await self.deliver()
        for _ in range(20):
            if not await self.here.guardrail.settle():
                break
            await self.deliver()

    async def both_settle(self) -> None:
        """Two workers at once on the same rows."""
        await self.deliver()
        self.other = self.other or restarted(self.here)
        await asyncio.gather(self.here.guardrail.settle(), self.other.settle())

    async def interrupted(self) -> None:
        """In the middle of a worker's turn another one works, time passes, somebody drifts, or the switch is turned."""
        self.focus = self.pick()
        if self.dice.random() < 0.7:
            await self.drift()
        await self.deliver()
        self.other = self.other or restarted(self.here)
        number, passed = self.dice.randint(3, 25), [0]
        meanwhile = self.dice.choice((self.other_works, self.other_works, self.drift, self.stop, self.stop))

        async def hook(call: str, when: str) -> None:
            passed[0] += 1
            checked = meanwhile == self.stop and (call, when) == ("arm.send", "before")     # allowed a moment ago
            if passed[0] == number and not checked:
                self.did[f"interrupted by {meanwhile.__name__}"] += 1
                await meanwhile()
                self.here.clock.forward(self.dice.choice((0, 6, 6, 400)))

        watch(self.here.guardrail, hook)
        await self.settle()
        await self.replace()
        self.focus = None
        if meanwhile == self.stop and self.dice.random() < 0.7:
            await self.set_switch("policy")

    async def stop(self) -> None:
        await self.set_switch("report")

    async def other_works(self) -> None:
        assert self.other is not None
        await self.other.tend()
        await self.other.settle()

    async def time(self) -> None:
        self.here.clock.forward(self.dice.choice((1, 6, 6, 20, 60, 400, 1000)))
        await self.here.guardrail.tend()

    async def sweep(self) -> None:
        from guardrail.errors import GuardrailError

        try:
            await self.here.guardrail.sweep()
        except GuardrailError:
            self.did["sweep broken off"] += 1

    async def crash(self) -> None:
        """The worker dies at one of its next calls, and another takes its place."""
        crash_at(self.here.guardrail, self.dice.randint(0, 30))
        try:
            await self.settle()
        except Crash:
            self.did["died"] += 1
        await self.replace()

    async def replace(self) -> None:
        old, self.here.guardrail = self.here.guardrail, restarted(self.here)
        await old.close()

    async def switch(self) -> None:
        await self.set_switch(self.dice.choice(("report", "approve", "policy", "policy")))

    async def set_switch(self, switch: str) -> None:
        """Behind the worker's back, as another instance would."""
        rules = await self.here.guardrail.store.rules()
        await self.here.guardrail.store.set_rules(replace(rules, switch=switch))       # type: ignore[arg-type]
        self.switched.append((self.here.clock(), switch))

    async def quiet(self) -> None:
        """Faults stop, what runs ends, the switch is as the policy says; then a sweep, an hour, another sweep."""
        self.calm()
        await self.replace()
        await self.set_switch("policy")
        self.here.clock.forward(6)
        for wait in (900, 3700, 300):
            if wait != 900:
                await self.here.guardrail.sweep()
            end = self.here.clock() + timedelta(seconds=wait)
            while self.here.clock() < end:
                await self.settle()
                self.here.clock.forward(30 if wait < 1000 else 120)
                await self.here.guardrail.tend()
            await self.settle()
            if wait == 900:
                self.unseen = list(self.not_read())     # before a sweep reads everything anyway

    async def close(self) -> None:
        if self.other is not None:
            await self.other.close()

    # what has to hold

    async def check(self) -> None:
        """Errors: AssertionError, with the invariant's number and the seed."""
        chains = {id: await self.here.records(id) for id in self.ids}
        for number, check in ((1, self.written_as_told), (2, self.never_wider), (8, self.once), (12, self.to_nobody_else),
                              (13, self.paths_of_states)):
            for why in check(chains):
                raise AssertionError(self.told_of(number, why))
        for number, later in ((4, self.all_seen), (5, self.at_rest), (13, self.verified), (15, self.no_canary),
                              (6, self.left_alone)):
            async for why in later():
                raise AssertionError(self.told_of(number, why))

    def told_of(self, number: int, why: str) -> str:
        return f"invariant {number}, seed {self.seed}: {why}\n{dict(self.did)}"

    def written_as_told(self, chains: Mapping[ResourceId, Sequence[Mapping[str, Any]]]) -> Iterator[str]:  # noqa: C901
        """1, 3, 7: each write belongs to a request that was on record, was allowed then, and says nothing but its edits."""
        told = dict[str, tuple[datetime, Mapping[str, Any]]]()
        requests = dict[str, Mapping[str, Any]]()
        for records in chains.values():
            for record in of(records, "action.applying"):
                for one in record["detail"].get("requests", ()):
                    requests[one["client_request_id"]] = one["request"]
                    told.setdefault(one["client_request_id"], (datetime.fromisoformat(record["at"]), record["detail"]))
        for line in self.here.sim.writes():
            if line.actor != "guardrail":
                continue
            what = f"{line.method} {line.path}"
            at = datetime.fromtimestamp(line.at, self.here.clock().tzinfo)
            known = told.get(line.headers.get("x-ms-client-request-id", ""))
            if known is None or known[0] > at:
                yield f"{what} is on no record before it"
                continue
            request = requests[line.headers["x-ms-client-request-id"]]
            path = unquote(request["url"].partition("?")[0])
            if (line.method, line.path, line.api_version) != (request["method"], path, request["api_version"]):
                yield f"{what} {line.api_version} is not what was on record: {request}"
            if f"/subscriptions/{PROD}" in line.path:
                yield f"{what} in production, which nobody approved"
            if not any(switch == "policy" for switch in self.switches(at - timedelta(seconds=5), at)):
                yield f"{what} at {at} while the switch was {self.switches(at, at)}"
        for write in self.oracle.writes:
            detail = told.get(write.line.headers.get("x-ms-client-request-id", ""), (None, {}))[1]
            if write.before.gone or is_trusted(write):
                continue
            born = plans.incarnation(type_of(write.before.type), write.before)
            if detail.get("incarnation", born) != born:
                yield f"{write.line.method} {write.line.path} to another life: {born}, planned for {detail['incarnation']}"
            edits = {edit["path"]: edit.get("after", ABSENT) for edit in detail.get("edits", ())}
            wanted = recorded.laid(write.before.body, edits)
            for path in changed(write):
                said = any(under(path, parse(one)) for one in edits)
                if not said and not same(get(wanted, path), get(applied(write).body, path)):
                    yield f"{write.line.method} {write.line.path} changes {show(path)}, declared: {list(edits)}"

    def switches(self, since: datetime, until: datetime) -> list[str]:
        """What the switch was in that time."""
        before = [switch for at, switch in self.switched if at <= since][-1:]
        return before + [switch for at, switch in self.switched if since < at <= until]

    def never_wider(self, _: object) -> Iterator[str]:
        """2: no write makes a control speak that was silent, by the documents as they stood."""
        for write in self.oracle.writes:
            if write.before.gone or is_trusted(write):
                continue
            after = applied(write)
            found = {plans.key(one) for one in self.judged(after)} - {plans.key(one) for one in self.judged(write.before)}
            if found:
                yield f"{write.line.method} {write.line.path} {write.line.body} opens {found}"

    def once(self, chains: Mapping[ResourceId, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
        """8: one live claim a resource; a POST once; a request that is repeated says the same."""
        for id, records in chains.items():
            until = datetime.min.replace(tzinfo=self.here.clock().tzinfo)
            for record in records:
                at = datetime.fromisoformat(record["at"])
                if record["event"] == "action.applying" and record["detail"].get("requests"):
                    if at < until:
                        yield f"two claims on {id} at {at}"
                    until = at + LEASE
                elif record["event"].startswith(("action.", "resource.", "look.retried")):
                    until = at
        sent = dict[str, Exchange]()
        for line in self.here.sim.writes():
            if line.actor == "guardrail":
                id_ = line.headers["x-ms-client-request-id"]
                if id_ in sent and (line.method == "POST" and 0 < sent[id_].status < 400 or line.body != sent[id_].body):
                    yield f"{line.method} {line.path} twice"
                sent[id_] = line

    def to_nobody_else(self, _: object) -> Iterator[str]:
        """12: methods, paths and versions are those of the tables and of what stands in the world."""
        versions = {kind.api_version for name in TYPES for kind in (type_of(name),)} | {
            route.api_version for name in TYPES for route in type_of(name).routes}
        for line in self.here.sim.log:
            if line.actor != "guardrail" or line.path == "/msi/token":
                continue
            graph = line.path.endswith("/Microsoft.ResourceGraph/resources")
            known = root_of(line.path) in self.ids and (line.method != "GET" or line.api_version in versions)
            if not graph and not known:
                yield f"{line.method} {line.path} {line.api_version}"
            if line.method == "GET" and set(line.query) != {"api-version"}:
                yield f"{line.path} with {line.query}"

    def paths_of_states(self, chains: Mapping[ResourceId, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
        """13: the records of an action are a path of the table, without gaps."""
        for records in chains.values():
            state = dict[str, str]()
            for record in records:
                kind, _, word = record["event"].partition(".")
                if kind != "action" and record["event"] != "resource.quarantined":
                    continue
                word = "verified" if record["event"] == "resource.quarantined" else word
                id, was = record["detail"]["action_id"], record["detail"]["from"]
                if id in state and state[id] != was:
                    yield f"{id} was {state[id]}, and moves from {was} to {word}"
                if word not in NEXT.get(was if id in state else "", frozenset()):
                    yield f"{id} moves from {was if id in state else 'nothing'} to {word}"
                state[id] = word

    async def all_seen(self) -> Any:
        """4: after every acknowledged event on a guarded resource a read of it began, or its row still waits."""
        for why in self.unseen:
            yield why

    def not_read(self) -> Iterator[str]:
        last = dict[ResourceId, int]()
        for index, line in enumerate(self.here.sim.log):
            if line.method == "GET" and line.actor == "guardrail":
                last[ResourceId(line.path)] = index
        for index, subject in self.arrived:
            root = root_of(subject)
            if root in self.ids and last.get(root, -1) < index:
                yield f"{subject} was never read after its event"

    async def at_rest(self) -> Any:
        """5: compliant, or an open action or a finding that no one can act on says why not. Nothing stays applying."""
        by_id = {control.id: control for control in CONTROLS}
        for id in self.ids:
            case, waiting = await self.here.guardrail.store.load(id)
            document = replace(full(self.here, id), good=case.good)
            found = self.judged(document)
            if {plans.key(one) for one in found} != case.findings:
                yield f"{id}: found {case.findings}, and it is {[plans.key(one) for one in found]}"
            if case.stuck:
                yield f"{id} is stuck: {case.stuck}"
            if case.acting is not None and case.acting.state in ("applying", "applied", "approved"):
                yield f"{id} is still {case.acting.state}: {case.acting.why}"
            if case.acting is not None and case.acting.leased_until is not None:
                yield f"{id} is still leased"
            if waiting is not None and waiting.changes:
                yield f"{id} has events that nobody looked at"
            open_for = [action for action in (case.asked, case.acting) if action is not None]
            for one in found:
                control = by_id[one.control]
                wanted = one.drift is not None and one.drift.decided and control.response == "revert"
                says = case.asked is not None or any(control.id in action.plan.controls for action in open_for)
                if wanted and not says and self.can_be_mended(document, one):
                        yield f"{id}: {plans.key(one)} is open and nothing says why: {await self.here.events_of(id)}"

    def can_be_mended(self, document: Document, finding: Finding) -> bool:
        """Whether a plan for this finding alone would pass: if not, its decision said so."""
        type = type_of(document.type)
        edits, refused = plans.edits(type, [finding.drift] if finding.drift else [])
        try:
            prove(document, plans.steps(type, document, edits), self.controls(document), self.parameters(document))
        except Unsafe:
            return False
        return not refused

    async def left_alone(self) -> Any:
        """6: nothing more is written, whatever comes, where nothing is wrong."""
        count = Counter(root_of(write.line.path) for write in self.oracle.writes)
        for id in self.ids:
            await self.tell(*[event(id), event(id, f"{type_name(id)}/frobnicate/action")] * 3)
        for _ in range(2):
            await self.here.guardrail.sweep()
            for _ in range(6):
                await self.settle()
                self.here.clock.forward(20)
                await self.here.guardrail.tend()
        after = Counter(root_of(write.line.path) for write in self.oracle.writes)
        for id in self.ids:
            case = await self.here.case(id)
            if after[id] != count[id] and case.acting is None and case.asked is None:
                yield f"{id} was right, and was written to"

    async def verified(self) -> Any:
        report = await audit.verify_store(self.here.guardrail.store)
        for one in report.broken:
            yield str(one)

    async def no_canary(self) -> Any:
        file = pathlib.Path(self.here.guardrail.settings.store)
        for path in file.parent.glob(f"{file.name}*"):
            if CANARY.encode() in path.read_bytes():
                yield f"a secret stands in {path.name}"

    def controls(self, document: Document) -> Sequence[Control]:
        return self.here.guardrail.engine.controls_on(type_of(document.type))

    def parameters(self, document: Document) -> Callable[[Control], Mapping[str, Any]]:
        file = self.here.guardrail.engine.policy
        place = policy.place(document.id, file)
        return lambda control: policy.parameters(control, place, file)

    def judged(self, document: Document) -> list[Finding]:
        return plans.judge(self.controls(document), document, self.parameters(document))


def as_list(raw: Any) -> list[Any]:
    value = json.loads(raw)
    return value if isinstance(value, list) else [value]


def good_of(id: ResourceId) -> Any:
    return recorded.good(type_name(id)).body


def of(records: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [record for record in records if record["event"] == event]


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
            at = parse(f"{show(path[:-1])}[{each.keys[0]}='{here[-1]}']") if isinstance(each, Each) else path
            return at, type
    return (), type


def is_trusted(write: Write) -> bool:
    """Whether only a `write=` route sends this: its body cannot be replayed, and remediators' tests answer for it."""
    routes = [route for route in type_of(write.before.type).routes if route.url.partition("?")[0] == "{id}"]
    if write.line.method == "POST":
        action = write.line.path.rsplit("/", 1)[-1]
        return not any(action in route.actions.values() for route in type_of(write.before.type).routes)
    plain = [route for route in routes if route.update == write.line.method and route.write is None]
    return write.line.path == write.root and write.line.method in ("PATCH", "PUT") and not plain


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
    own = ("id", "name", "type", "etag", "systemData")
    server = {name: there[name] for name in own if isinstance(there, Mapping) and name in there}
    return replace(write.before, body=put(now, path, {**server, **line.body}))


def changed(write: Write) -> list[Path]:
    """The paths that differ afterwards, but for what only ARM writes."""
    path, type = place_of(write)
    route = plans.route_of(type, path)
    hidden = [(*path, *parse(name)) for name in (route.readonly if route else ())]
    return [moved.path for moved in differences(write.before.body, applied(write).body)
            if not any(under(moved.path, one) for one in hidden)]


__all__ = ["CANARY", "Effect", "Trial"]
