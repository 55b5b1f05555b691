"""A night: an evening in which workers are processes, faults come from every class, and events by the hundred.

What happens is rolled from one seed; who is faster is not, for these are real processes. So a failure is told with the
seed and the requests, and is made small by hand.
"""

from __future__ import annotations

import asyncio
import json
import math
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from guardrail import people
from guardrail.authorize import Person
from guardrail.errors import Refused, Retryable, Stale, StoreDown
from guardrail.ids import ResourceId
from guardrail.ids import type_of as type_name
from simulator.identity import actor
from simulator.sinks import cloud_event
from tests.evening import TOLD, good_of
from tests.flow.harness import TYPES, event
from tests.flow.world import DEV, PROD, World
from tests.oracle import full, root_of
from tests.soak.account import Account
from tests.soak.crew import Crew
from tests.soak.hosted import JUNK

GROUP = "11111111-1111-1111-1111-111111111111"          # who may approve, in conduct's policy
PEOPLE = [Person(actor(name).oid, frozenset({"Approver", "Operator"}), frozenset({GROUP})) for name in ("approver", "oncall")]
STORMS, PLAYERS = 3, 3
COPIES = 3                  # of each type in the development subscription; one in production
STORE = ("fail_before", "fail_after_commit", "conflict", "slow", "lost", "twice", "never")
PARTS = ("Microsoft.CognitiveServices/accounts/raiPolicies", "Microsoft.Insights/diagnosticSettings")


class Night(Account):
    """`tell` hands events to the crew; everything else is an evening's, with more of it."""

    def __init__(self, here: World, seed: int, crew: Crew, speed: float,
                 junk: Callable[[str], Awaitable[Any]] | None = None) -> None:
        super().__init__(here, seed)
        self.crew, self.speed, self.junk = crew, speed, junk
        self.kinds = Counter[str]()
        self.storms = set[asyncio.Task[None]]()
        self.odd = set[ResourceId]()
        self.away = dict[ResourceId, ResourceId]()      # moved: where it was
        self._pump: asyncio.Task[None] | None = None

    # the course of it

    async def pass_by(self, events: int, every: int, told: Callable[[str], None], at_most_s: float = math.inf) -> None:
        """Until so many events were acknowledged, or the time is up. After each `every` of them faults stop for a look."""
        self.settles_in()
        await self.crew.start()
        self._pump = asyncio.create_task(self.pumped())
        await self.tell(*(event(id) for id in self.ids))
        await self.rest()
        self.kill()                     # in the shortest of nights too
        said = Counter[str]()
        until = asyncio.get_running_loop().time() + at_most_s
        while self.acknowledged < events and asyncio.get_running_loop().time() < until and not self.crew.broken:
            following = min(events, self.acknowledged + every)
            await asyncio.gather(*(self.play(following, until) for _ in range(PLAYERS)))
            await self.checked()
            for one in (Counter(self.found()) - said).elements():
                told(one[:2000])
            said = Counter(self.found())
            told(f"{self.acknowledged:>7} events  {sum(self.written.values()):>6} writes  lost {len(self.lost)}  "
                 f"doubled {len(self.doubled)}  widened {len(self.widened)}  "
                 f"broken {len(self.broken) + len(self.crew.broken)}")

    async def play(self, events: int, until: float) -> None:
        """One of those who act at the same time, until so many events were acknowledged."""
        happenings: Sequence[tuple[int, Callable[[], Any]]] = (
            (40, self.drift), (20, self.mend), (4, self.tag), (3, self.end_and_begin), (40, self.storm), (9, self.fault),
            (10, self.other_fault), (4, self.foreign_write), (7, self.calm), (3, self.store_trouble), (1, self.switch),
            (2, self.away_or_back), (12, self.people), (1, self.kill), (1, self.crash), (1, self.terminate), (1, self.pause),
            (10, self.wait))
        while self.acknowledged < events and asyncio.get_running_loop().time() < until and not self.crew.broken:
            what = self.dice.choices([do for _, do in happenings], [weight for weight, _ in happenings])[0]
            self.did[what.__name__] += 1
            done = what()
            if done is not None:
                await done
            await self.tick()

    def settles_in(self) -> None:
        ids = list[ResourceId]()
        for kind in TYPES:
            first = self.here.stands(kind)
            ids += [first, self.here.stands(kind, subscription=PROD)]
            ids += [self.here.stands(kind, id=f"{first}-{number}") for number in range(2, COPIES + 1)
                    if "roleassignments" not in first.lower()]
        self.ids = tuple(ids)

    async def end(self) -> None:
        """Faults off, an hour and two sweeps: then nothing is wrong that nothing says, and nothing more is written."""
        await self.come_to_rest()
        for id in self.odd:         # what nobody can read stays unreadable, and its drift unknown
            self.become(id, good_of(id))
        await self.quiet()
        await self.rest()
        await self.look_for_lost()
        self.lost += [f"invariant 5: {why}" async for why in self.at_rest()]
        self.broken += [f"invariant 13: {why}" async for why in self.verified()]
        self.broken += [f"invariant 15: {why}" async for why in self.no_canary()]
        self.broken += [f"invariant 6: {why}" async for why in self.left_alone()]
        await self.tick(now=True)

    async def checked(self) -> None:
        """Faults off, all that is due done: whatever was acknowledged by now has been read since, or waits."""
        await self.come_to_rest()
        await self.look_for_lost()

    def found(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.widened, *self.broken, *self.crew.broken]

    async def come_to_rest(self) -> None:
        self.calm()
        await self.crew.calm()
        await asyncio.gather(*self.storms)
        self.storms.clear()
        await self.set_switch("policy")
        for id in list(self.away):
            await self.back(id)
        await self.rest()

    async def rest(self, at_most_s: float = 60) -> None:
        """Until no look is due."""
        end = asyncio.get_running_loop().time() + at_most_s
        idle = 0
        while idle < 2 and asyncio.get_running_loop().time() < end and not self.crew.broken:
            due = [look async for look in self.here.guardrail.store.looks()]
            idle = 0 if due or self.here._events else idle + 1
            await asyncio.sleep(0.03)

    async def settle(self) -> None:
        await self.rest()

    async def quiet(self) -> None:
        """An hour in which all that was put off comes due, between two sweeps; in longer steps than an evening's."""
        self.here.clock.forward(6)
        for wait, step in ((900, 100), (3700, 370), (300, 100)):
            if wait == 900:
                await self.look_for_lost()
            else:
                await self.swept()
            for _ in range(wait // step):
                await self.rest()
                self.here.clock.forward(step)
                await self.tended()
            await self.rest()

    async def tended(self) -> None:
        with suppress(Retryable):
            await self.here.guardrail.tend()

    async def swept(self) -> None:
        """As the next timer would, where one met an expired token."""
        for _ in range(5):
            with suppress(Retryable):
                return await self.here.guardrail.sweep()
            self.here.clock.forward(30)
        return await self.here.guardrail.sweep()

    async def replace(self) -> None:
        """Workers are replaced as they die."""

    # events

    async def pumped(self) -> None:
        """What the simulator raises is delivered as it comes."""
        while True:
            with self.here._lock:
                events, self.here._events = self.here._events, []
            if events:
                await asyncio.gather(*(self.tell(one, kind="raised by Azure") for one in events))
            await asyncio.sleep(0.02)

    async def deliver(self) -> None: ...

    async def tell(self, *events: Any, kind: str = "of a change") -> None:
        at, subjects = self.position(), [ResourceId(str(one.get("subject", ""))) for one in events]
        await self.tell_raw(json.dumps(list(events)), kind, len(events))
        self.arrives(at, (root_of(one) for one in subjects))

    async def tell_raw(self, raw: str, kind: str, count: int = 1) -> None:
        self.kinds[kind] += count
        await self.crew.tell(raw)
        self.acknowledged += count

    async def storm(self) -> None:
        """Many at once: duplicates, replays, an order that makes no sense, forged ones, of nobody, and no events at all.

        Other things happen meanwhile; a few storms at a time.
        """
        ids = [self.pick() for _ in range(self.dice.randint(1, 4))]
        self.storms.add(asyncio.create_task(self.bursts([self.dice.choice(ids) for _ in range(self.dice.randint(2, 12))])))
        if len(self.storms) > STORMS:
            _, self.storms = await asyncio.wait(self.storms, return_when=asyncio.FIRST_COMPLETED)

    async def bursts(self, ids: Sequence[ResourceId]) -> None:
        await asyncio.gather(*map(self.burst, ids))

    async def burst(self, id: ResourceId) -> None:
        number, kind = self.dice.randint(2, 30), type_name(id)
        forged = {"claims": {"oid": self.dice.choice(("guardrail", "44444444-4444-4444-4444-444444444444", "../x")),
                             "appid": TOLD}, "status": "Succeeded", "resourceUri": "/subscriptions/0/x"}
        other = "/subscriptions/99999999-9999-9999-9999-999999999999"
        name, events = self.dice.choice((
            ("duplicate", [event(id)] * number),
            ("replayed", [event(id, eventTime="1999-01-01T00:00:00Z") for _ in range(number)]),
            ("out of order", self.dice.sample([event(id), event(id, f"{kind}/delete"), event(id, f"{kind}/x/action"),
                                               event(f"{id}/nobody/x", "Microsoft.Nobody/nothing/action")], 4)),
            ("forged", [event(id, f"{kind}/listKeys/action", data=forged) for _ in range(number)]),
            ("of other subscriptions", [event(id.replace(f"/subscriptions/{DEV}", other)) for _ in range(number)]),
            ("cloud events", [cloud_event(event(id)) for _ in range(number)]),
            ("malformed", []),
        ))
        if name == "malformed":
            junk = ("{}", "[1, {}]", "nonsense", json.dumps({"x": TOLD}), "[" * 200, '{"a": NaN}', json.dumps([event("/x")]))
            await self.tell_raw(self.dice.choice(junk), name)
        elif name == "of other subscriptions":
            await self.tell_raw(json.dumps(events), name, len(events))
        else:
            await self.tell(*events, kind=name)

    # what else happens

    def become(self, id: ResourceId, body: Any) -> None:
        with self.here.sim.lock:
            self.oracle.see(id)
            super().become(id, body)
            self.oracle.see(id)

    def fault(self) -> None:
        with self.here.sim.lock:
            super().fault()

    def calm(self) -> None:
        with self.here.sim.lock:
            super().calm()

    def foreign_write(self) -> None:
        """Also a drift at that instant, of the very resource that is being written."""
        self.did["S7"] += 1
        with self.here.sim.lock:
            super().foreign_write()
            id = self.pick()
            before, faults = self.dice.random() < 0.5, self.here.sim.faults
            (faults.before_write if before else faults.after_write)(
                f"PATCH,PUT,DELETE,POST *{id}*", lambda: self.drifts(id))

    def other_fault(self) -> None:
        """The classes, and the variants, that an evening has not."""
        id, faults, dice = self.pick(), self.here.sim.faults, self.dice
        kind, group = type_name(id), id.split("/providers/")[0]
        match, ours = dice.choice((f"GET *{id}*", "PATCH,PUT,DELETE,POST", f"*{id}*")), f"PATCH,PUT,DELETE,POST *{id}*"
        times: Any = dice.choice((1, 3, 10))
        retry: Any = dice.choice(("seconds", "date", "absent", 86400, -1))
        where = "properties.publicNetworkAccess"
        row, begin = dice.choice((
            ("S2", lambda: faults.lose_answer(ours, "timeout", times=1)),
            ("S4", lambda: faults.slow(match, ms=dice.choice((20, 200, 600)), times=times)),
            ("S4", lambda: faults.slow(match, drip_ms=0.2, times=1)),
            ("S5", lambda: faults.stale(f"GET {id}", ms=dice.choice((5_000, 60_000)))),
            ("S9", lambda: faults.etag(kind, dice.choice(("honour", "ignore", "absent")))),
            ("S10", lambda: faults.put(dice.choice(PARTS), "merge")),
            ("S11", lambda: faults.deny_assignment(group, actions=[f"{kind}/write"])),
            ("S11", lambda: faults.policy(group, "deny", path=where, value="Disabled")),
            ("S11", lambda: faults.policy(group, "modify", path=where, value="Enabled")),
            ("S12", lambda: faults.rbac({"actions": ["*/read"]}, grant_lag_s=20)),
            ("S13", lambda: faults.throttle({"reads": (20, 2), "writes": (3, 1), "deletes": (3, 1)}, retry)),
            ("S14", lambda: faults.token("slow", times=1, seconds=dice.choice((0.1, 1.0)))),
            ("S15", lambda: faults.events(delay_s=0.3, seed=dice.randrange(10 ** 6))),
            ("S15", lambda: faults.events(batch=4, duplicate=1)),
            ("S15", lambda: faults.events(schema="CloudEventSchemaV1_0", early=True)),
            ("S15", lambda: faults.events(forge={"data": {"claims": {}, "operationName": f"{kind}/delete"}})),
            ("S16", lambda: faults.graph(truncate=3)),
            ("S16", lambda: faults.graph(lag_s=600, bad_skip_token=True)),
            ("S17", lambda: faults.mutate(id, dice.choice(("unknown", "null", "case", "type", "surrogate")), where)),
            ("S17", lambda: faults.mutate(id, "big", size_mb=dice.choice((0.1, 0.1, 0.1, 5)))),
            ("S17", lambda: faults.mutate(id, "duplicate_key")),
        ))
        with self.here.sim.lock, suppress(KeyError):        # nothing to mutate
            begin()
            self.did[row] += 1
            if row == "S17":
                self.odd.add(id)

    async def end_and_begin(self) -> None:
        self.did["S8"] += 1
        with self.here.sim.lock:
            await super().end_and_begin()

    async def away_or_back(self) -> None:
        """S8: it moves to another group, and after a while back."""
        if self.away:
            await self.back(self.dice.choice(list(self.away)))
            return
        id = self.pick()
        if "/workspaces/" in id or "roleassignments" in id.lower() or full(self.here, id).gone:
            return
        with self.here.sim.lock:
            new = ResourceId(self.here.sim.faults.move(id, "rg-elsewhere"))
        self.did["S8"] += 1
        self.away[new] = id
        self.ids = (*self.ids, new)

    async def back(self, new: ResourceId) -> None:
        id = self.away.pop(new)
        with self.here.sim.lock:
            if not full(self.here, new).gone and full(self.here, id).gone:
                self.here.sim.faults.move(new, id.split("/")[4])
            elif not full(self.here, new).gone:
                self.here.sim.faults.delete(new)
        await self.tell(event(id), event(new, f"{type_name(new)}/delete"))

    async def store_trouble(self) -> None:
        """S18, S19: for a while; and a message that is none, where there is a queue."""
        if self.junk is not None and self.dice.random() < 0.5:
            self.did["S19"] += 1
            await self.junk(self.dice.choice(JUNK))
        shares: Mapping[str, float] = self.dice.choice((
            {}, dict.fromkeys(STORE, 0.02), {self.dice.choice(STORE): 0.2}, {"down": 0.7}, {"down": 0.2, "conflict": 0.2}))
        self.crew.suffer(shares)

    async def switch(self) -> None:
        await super().switch()
        await asyncio.sleep(self.dice.uniform(0, 1))
        await self.set_switch("policy")

    async def set_switch(self, switch: str) -> None:
        """Once more if a worker, or another of us, changed the rules at the same time, or stands still over the file."""
        for _ in range(20):
            with suppress(Stale, StoreDown):
                return await super().set_switch(switch)
        return await super().set_switch(switch)

    def kill(self) -> None:
        self.crew.end(signal.SIGKILL)

    def terminate(self) -> None:
        self.crew.end(signal.SIGTERM)

    def crash(self) -> None:        # type: ignore[override]  its turn comes while others go on
        self.crew.die_soon()

    def pause(self) -> None:
        """Shorter and longer than a lease."""
        self.crew.pause(self.dice.choice((3, 60, 400)) / self.speed)

    async def people(self) -> None:
        """What waits is approved by two, or rejected; what failed is tried again; somebody asks for a quarantine."""
        id, engine = self.pick(), self.here.guardrail.engine
        with suppress(Refused, Retryable, Stale):
            case = await self.here.case(id)
            asked, acting = case.asked, case.acting
            if asked is not None and asked.state in ("proposed", "held") and self.dice.random() < 0.9:
                self.approved.add(asked.id)
                for who in PEOPLE:
                    await people.approve(engine, id, asked.id, asked.plan.hash, who, "as seen")
            elif asked is not None:
                await people.reject(engine, id, asked.id, PEOPLE[0], "not now")
            elif acting is not None and acting.state == "failed":
                await people.retry(engine, id, acting.id, PEOPLE[1])
            elif self.dice.random() < 0.1:
                await people.quarantine(engine, id, PEOPLE[1], "an odd prompt")

    async def wait(self) -> None:
        await asyncio.sleep(self.dice.uniform(0, 0.3))

    async def close(self) -> None:
        await self.crew.stop()
        if self._pump is not None:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump
