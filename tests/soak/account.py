"""What the night is judged by: the simulator's log and the documents as they stood, never what the guardrail says of itself.

The log is read and dropped as it grows. Records are read for one thing only: which paths a step had declared (and for the
invariants that are about records); they count as `broken`, beside lost, doubled and widened.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from guardrail import plans
from guardrail.ids import ResourceId, fold
from guardrail.paths import parse
from simulator import Exchange
from tests.flow.world import World, type_of
from tests.invariants import Trial, is_open, is_probe
from tests.oracle import Write, changed, is_trusted

EVERY = timedelta(seconds=160)      # how old a document may be that a request brings: 60 s of sending, 100 s under way
KEPT = ("action_id", "from", "requests", "edits", "incarnation")


class Account(Trial):
    """A Trial over a log that is never whole. `lost`, `doubled`, `widened`, `broken`: what was found, in words."""

    skew = timedelta(seconds=60)        # clocks 3 s apart either way, and 3 s on the wall until a request has arrived

    def __init__(self, here: World, seed: int) -> None:
        super().__init__(here, seed)
        self.lost, self.doubled, self.widened, self.broken = list[str](), list[str](), list[str](), list[str]()
        self.acknowledged = 0
        self.reads = 0
        self.probes = 0             # tags on our own group
        self.needless = 0           # writes that moved nothing: mended meanwhile, or an answer was lost
        self.brought_back = 0       # a PUT without ETag overwrote what somebody had mended since our read (R20)
        self.written = Counter[str]()
        self._dropped = 0                           # lines of the log
        self._told, self._read = dict[str, int](), dict[str, int]()     # by folded root: where in the log
        self._seqs = dict[ResourceId, int]()
        self._reading = asyncio.Lock()
        self._ticked = here.clock()
        self._marks = dict[ResourceId, int]()

    def lived(self, write: Write, incarnation: str) -> bool:
        """Where ARM has no ETag, nobody can know that it was made anew since our read."""
        kind = type_of(write.before.type)
        raced = any(plans.incarnation(kind, state) == incarnation for state in self.oracle.states.get(write.root, ()))
        self.brought_back += raced
        return raced

    # events and reads

    def position(self) -> int:
        """In the log, now."""
        with self.here.sim.lock:
            return self._dropped + len(self.here.sim.log)

    def arrives(self, at: int, roots: Iterable[ResourceId]) -> None:
        """Acknowledged: sent when the log was so long."""
        for root in roots:
            self._told[fold(root)] = max(at, self._told.get(fold(root), 0))

    async def look_for_lost(self) -> None:
        """4: no read of it was begun since an event was sent, and no row waits either."""
        await self.tick(now=True)
        waits = [root for root in self.unread() if not await self.is_waiting(root)]
        if waits:
            await self.tick(now=True)           # it was read between the two looks
        self.lost += [f"{root} was never read after its event" for root in self.unread() if root in waits]

    async def is_waiting(self, root: ResourceId) -> bool:
        case, look = await self.here.guardrail.store.load(root)
        return look is not None or case.due is not None or bool(case.stuck)

    def unread(self) -> Iterator[ResourceId]:
        for id in self.ids:
            if self._told.get(fold(id), -1) > self._read.get(fold(id), -1):
                yield id

    # what was sent

    async def tick(self, *, now: bool = False) -> None:
        """Reads on. A document that stood within EVERY is remembered, an older one is not."""
        async with self._reading:
            if now or self.here.clock() - self._ticked >= EVERY:
                await self._tick()

    async def _tick(self) -> None:
        self._ticked = self.here.clock()
        sim = self.here.sim
        with sim.lock:
            first, lines, writes = self._dropped, list(sim.log), self.oracle.writes
            self._dropped += len(lines)
            sim.log.clear()
            self.oracle.writes = []
            sim.events.record.clear()
            for versions in sim.world._history.values():
                del versions[:-2]
            running = sim.operations._all
            for id in [id for id, one in running.items() if one.status != "InProgress"]:
                del running[id]
        await self.read_records()
        self.judge(first, lines, writes)
        for id, states in self.oracle.states.items():
            with sim.lock:
                del states[: self._marks.get(id, 0)]
                self._marks[id] = len(states)

    async def read_records(self) -> None:
        chains = dict[ResourceId, list[dict[str, Any]]]()
        for id in self.ids:
            for one in await self.here.guardrail.store.records(id, self._seqs.get(id, 0)):
                record = json.loads(one.body)
                detail = {name: record["detail"][name] for name in KEPT if name in record["detail"]}
                chains.setdefault(id, []).append({"event": record["event"], "at": record["at"], "detail": detail})
                self._seqs[id] = one.seq
        self.remember(chains)
        for number, check in ((8, self.claims), (13, self.paths_of_states)):
            self.broken += [f"invariant {number}: {why}" for why in check(chains)]

    def judge(self, first: int, lines: list[Exchange], writes: list[Write]) -> None:
        for number, line in enumerate(lines, first):
            if line.actor == "guardrail" and line.method == "GET":
                self.reads += 1
                self._read[fold(ResourceId(line.path))] = number
        self.broken += [f"invariant 12: {why}" for why in self.elsewhere(lines)]
        ours = [line for line in lines if line.actor == "guardrail" and line.method not in ("GET", "HEAD")
                and "microsoft.resourcegraph" not in line.path.lower()]
        self.probes += sum(map(is_probe, ours))
        ours = [line for line in ours if not is_probe(line)]
        for line in ours:
            taken = "taken" if 0 < line.status < 400 else "no answer" if not line.status else "refused"
            self.written[f"{line.method} {taken}"] += 1
            self.broken += [f"invariant 1: {why}" for why in self.was_told(line)]
        self.doubled += self.repeated(ours)
        for write in writes:
            self.judge_write(write)

    def judge_write(self, write: Write) -> None:
        line, last = write.line, write.last
        what = f"{line.at:.1f} {line.method} {line.path}"
        if write.before.gone or is_trusted(write):
            return
        moved = changed(write)
        is_ours = last is not None and (last.method, last.who) == ("POST", "guardrail")
        if line.method == "POST" and is_ours and not moved and is_open(line.status):
            self.doubled.append(f"{what}: it was done at {last.at:.1f}, and nobody has changed it since")   # type: ignore[union-attr]
        for one in self.opened(write):
            if self.raced(write, parse(one.path)):
                self.brought_back += 1
            else:
                self.widened.append(f"{what} {line.body}: opens {one.control} {one.path}")
        self.widened += [f"{what}: {why}" for why in self.was_declared(write)]
        self.needless += not moved
