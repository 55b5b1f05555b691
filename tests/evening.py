"""A random evening in a small Azure: resources, people who drift and mend them, faults, crashes, workers, clock steps.

All of it is rolled from one seed. What has to hold whatever happens stands in tests/invariants.py.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import recorded
from detectors import CONTROLS
from guardrail import app
from guardrail.errors import GuardrailError, Malformed
from guardrail.ids import ResourceId
from guardrail.ids import type_of as type_name
from guardrail.paths import ABSENT, get, parse, put
from guardrail.values import Look
from simulator.others import BIRTH
from tests.flow.harness import TYPES, Crash, crash_at, event, restarted, watch
from tests.flow.world import DEV, PROD, World, type_of
from tests.oracle import Oracle, full

PATCHED = TYPES[:3]
CANARY = "c4n4ryC4n4ryc4n4ryC4n4ry"
TOLD = f"AccountName=x;AccountKey={CANARY}==;password={CANARY} Authorization: Bearer {CANARY}.{CANARY}"


@dataclass
class Evening:
    here: World
    seed: int
    ids: Sequence[ResourceId] = ()

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.here.sim.clock = lambda: self.here.clock().timestamp()
        self.oracle = Oracle(self.here)
        self.switched: list[tuple[datetime, str]] = [(self.here.clock(), "policy")]
        self.arrived: list[tuple[int, ResourceId]] = []         # acknowledged: how long the log was then, the subject
        self.did = Counter[str]()
        self.focus: ResourceId | None = None
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
        self.ids = tuple(self.here.stands(kind, subscription=self.dice.choice((DEV, DEV, DEV, PROD))) for kind in kinds)
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
        done = what()
        if done is not None:
            await done

    async def tell(self, *events: Any) -> None:
        await self._acknowledged(json.dumps(list(events)), self.here.guardrail)

    def pick(self) -> ResourceId:
        return self.focus if self.focus and self.dice.random() < 0.8 else self.dice.choice(self.ids)

    def become(self, id: ResourceId, body: Any) -> None:
        """The resource and its parts are exactly this, behind everyone's back, in the life that it is in."""
        type = type_of(type_name(id))
        for path in map(parse, BIRTH):
            born = get(full(self.here, id).body, path)
            if born is not ABSENT and body is not ABSENT and get(body, path) is ABSENT:
                body = put(body, path, born)
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
        if self.drifts(id):
            await self.told(id)

    def drifts(self, id: ResourceId) -> bool:
        """Somebody lays the drift of a control over what stands, if that can be."""
        now = full(self.here, id)
        if now.gone:
            return False
        control = self.dice.choice([one for one in CONTROLS if one.on == type_name(id) and one.response != "report"])
        try:
            self.become(id, recorded.laid(now.body, control.drift))
        except Malformed:
            return False
        return True

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
        row, begin = self.dice.choice((
            ("S1", lambda: faults.answer(
                match, status, code, TOLD, times=times, headers={"Location": "http://127.0.0.1:9/x"})),
            ("S1", lambda: faults.answer(match, status, code, TOLD, times=times, headers={"Retry-After": "40"})),
            ("S1", lambda: faults.answer(f"PATCH,PUT,DELETE,POST *{id}*", status, code, TOLD, times=times)),
            ("S2", lambda: faults.lose_answer(
                f"PATCH,PUT,DELETE,POST *{id}*", self.dice.choice(("drop", "500")), times=times)),
            ("S3", lambda: faults.drop_request(match, times=times)),
            ("S5", lambda: faults.stale(f"GET {id}", reads=times)),
            ("S6", lambda: faults.lro(
                kind, self.dice.choice(("async", "location", "state")), times, end, effect,
                url=self.dice.choice((None, "http://127.0.0.1:9/operation")), times=times)),
            ("S12", lambda: faults.revoke(f"{kind}/{self.dice.choice(('read', 'write', 'delete', '*'))}")),
            ("S14", lambda: faults.token(
                self.dice.choice(("fail", "expired", "foreign_tenant", "claims_challenge")), times=times)),
            ("S11", lambda: faults.lock(id.split("/providers/")[0], "ReadOnly")),
            ("S16", lambda: faults.graph(omit=(id.rsplit("/", 1)[-1],))),
            ("S15", lambda: faults.events(duplicate=times, strip_claims=True)),
            ("S15", lambda: faults.events(drop=0.5, seed=self.seed)),
            ("S15", lambda: faults.events(reorder=3)),
        ))
        begin()
        self.did[row] += 1

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
        self.focus = self.dice.choice([id for id in self.ids if f"/subscriptions/{DEV}" in id] or self.ids)
        if self.dice.random() < 0.5:
            self.calm()
        if self.dice.random() < 0.8:
            await self.drift()
        await self.deliver()
        await self.here.guardrail.store.send(Look(self.focus, "person"))
        self.other = self.other or restarted(self.here)
        number, passed = self.dice.randint(3, 25), [0]
        meanwhile = self.dice.choices((self.other_works, self.drift, self.stop), (4, 1, 3))[0]

        async def hook(call: str, when: str) -> None:
            passed[0] += 1
            allowed = (call, when) in (("store.rules", "after"), ("arm.send", "before"))    # a moment ago: time stands still
            if passed[0] == number and not (allowed and meanwhile == self.stop):
                self.did[f"interrupted by {meanwhile.__name__}"] += 1
                await meanwhile()
                self.here.clock.forward(0 if allowed else self.dice.choice((0, 6, 6, 400)))

        watch(self.here.guardrail, hook)
        await self.settle()
        await self.replace()
        self.focus = None
        if meanwhile == self.stop and self.dice.random() < 0.9:
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
        await self.set_switch(self.dice.choice(("report", "approve", "policy", "policy", "policy")))

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
                await self.swept()
            end = self.here.clock() + timedelta(seconds=wait)
            while self.here.clock() < end:
                await self.settle()
                self.here.clock.forward(30 if wait < 1000 else 120)
                await self.here.guardrail.tend()
            await self.settle()
            if wait == 900:
                self.before_the_sweep()

    async def swept(self) -> None:
        await self.here.guardrail.sweep()

    def before_the_sweep(self) -> None:
        """For the checks: a sweep reads everything anyway."""

    async def close(self) -> None:
        if self.other is not None:
            await self.other.close()


def as_list(raw: Any) -> list[Any]:
    value = json.loads(raw)
    return value if isinstance(value, list) else [value]


def good_of(id: ResourceId) -> Any:
    return recorded.good(type_name(id)).body
