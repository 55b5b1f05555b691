"""The acts of recorded/story/acts.json, played into the simulator under their actors' names. From there all is real:
the event, its way over HTTP, the engine, its requests. What is printed was read back from the records and the world.
"""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cli import hook, world
from cli.output import Code, Ended, count, say, tell, value
from console import views
from guardrail import audit, ids, stores
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT, get, parse, same
from guardrail.stores import HOME
from guardrail.values import Record, to_json

if TYPE_CHECKING:
    from cli.run import Embedded

WITHIN_S = 120          # on the run's clock: what an act has to end in
LOOK_EVERY_S = 0.02


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that somebody does: a request, a delivery of events, or the switch."""

    method: str = ""
    id: str = ""
    api_version: str = ""
    body: Any = None
    as_: str = msgspec.field(name="as", default="")
    again: str = ""                         # delivers the newest event of this resource once more
    deliver: list[dict[str, Any]] = []
    switch: str = ""
    reason: str = ""
    until: str = ""                         # waits for this record of the act's resource before the next step
    wait_s: float = 0


class Act(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    who: str
    tells: str
    steps: tuple[Step, ...]
    on: str                                 # whose records tell how it ended; "" the installation's
    ends: str                               # the record that ends it
    says: str
    world: dict[str, Any] = {}              # path -> value, as it stands in the simulator afterwards
    look_at: str = ""                       # where; without: `on`
    then_s: float = 5


class Story(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    acts: tuple[Act, ...]


def load(folder: Path = world.STORY) -> Story:
    return msgspec.json.decode((folder / "acts.json").read_bytes(), type=Story)


async def play(run: Embedded, story: Story | None = None) -> Ended | None:
    """All acts, then what became of them; Ended says whether each ended as told."""
    story = story or load()
    total = sum(act.then_s + sum(step.wait_s for step in act.steps) for act in story.acts)
    tell(f'Story "{story.name}", {count(len(story.acts), "act")}, about {total:.0f} s.')
    stage = Stage(run)
    await stage.rest()
    before = await stage.totals()
    failed = 0
    for number, act in enumerate(story.acts, 1):
        if run.stop.is_set():
            return None
        failed += not await stage.act(f"{number}/{len(story.acts)}", act)
        await run.sleep(act.then_s)
    await stage.over(before)
    if failed:
        return Ended(Code.UNFINISHED, f"{failed} of {count(len(story.acts), 'act')} did not end as told.")
    return Ended(Code.DONE, "every act ended as told.")


class Stage:
    """Plays acts, and finds out from store and simulator how they ended."""

    def __init__(self, run: Embedded) -> None:
        self.run, self.simulator, self.store = run, run.simulator, run.guardrail.store

    def say(self, text: str, number: str = "") -> None:
        tell(f"{self.run.clock():%H:%M:%S} {number:<3} {text}".rstrip())

    async def rest(self) -> None:
        """Until the first sweep has been answered."""
        while [look async for look in self.store.looks()] and not self.run.stop.is_set():
            await self.run.sleep(LOOK_EVERY_S)
        await self.run.sleep(stores.DEBOUNCE_S)     # an event so soon after a look would wait that long

    async def act(self, number: str, act: Act) -> bool:
        resource = ids.parse(act.on) if act.on else HOME
        start = len(await self.store.records(resource))
        totals = await self.totals()
        name = "" if act.who == "noise" else f"{act.who} "
        self.say(f"{name}{act.tells}" if name else f"noise: {act.tells}", number)
        at = self.run.clock()
        for step in act.steps:
            at = self.run.clock()
            seen = len(await self.store.records(resource))
            await self._step(act, step)
            if step.until:
                await self._ended(resource, seen, step.until)
            await self.run.sleep(step.wait_s)
        found = await self._ended(resource, start, act.ends)
        if self.run.stop.is_set():
            return True
        wrong = self._wrong(act)
        if found is None or wrong:
            self.say(f"NOT as told: {f'{act.ends} never came' if found is None else wrong}")
            return False
        await self._told(act, resource, start, found, at, totals)
        return True

    async def _step(self, act: Act, step: Step) -> None:
        if step.switch:
            await self._switch(act.who, step)
        elif step.deliver or step.again:
            events = step.deliver or [self._newest(step.again)]
            await asyncio.to_thread(hook.post, hook.url(self.run.url), to_json(events))
        else:
            answer = await asyncio.to_thread(
                self.simulator.request, step.method, step.id, step.body, as_=step.as_ or act.who, api_version=step.api_version)
            if not answer.ok:
                self.say(f"the simulator answered {answer.status}: {value(answer.body)}")

    def _newest(self, id: str) -> dict[str, Any]:
        mine = [event for event in self.simulator.events.record if event["subject"].lower() == id.lower()]
        return copy.deepcopy(mine[-1])

    async def _switch(self, who: str, step: Step) -> None:
        engine = self.run.guardrail.engine
        rules = await engine.store.rules()
        record = Record("mode.switched", self.run.clock(), who, "", step.switch, engine.policy.hash, {
            "was": rules.switch, "now": step.switch, "generation": rules.generation + 1, "reason": step.reason})
        await engine.set_rules(replace(rules, switch=step.switch), record)  # type: ignore[arg-type]

    async def _ended(self, resource: ResourceId, start: int, event: str) -> views.Entry | None:
        """The newest such record beyond number `start`; None when it did not come in time."""
        until = self.run.clock().timestamp() + WITHIN_S * max(1.0, self.run.speed / 5)     # a fast clock leaves less real time
        while self.run.clock().timestamp() < until and not self.run.stop.is_set():
            entries = (await views.timeline(self.store, resource))[start:]
            found = next((one for one in reversed(entries) if one.event == event), None)
            if found is not None:
                return found
            await asyncio.sleep(LOOK_EVERY_S)
        return None

    def _wrong(self, act: Act) -> str:
        """"" if the simulator's world is as the act says."""
        where = act.look_at or act.on
        document = self.simulator.document(where) if act.world else None
        for path, wanted in act.world.items():
            now = get(document, parse(path)) if document is not None else ABSENT
            if not same(now, wanted):
                return f"{path} of {views.short(where)} is {value(now)}, not {value(wanted)}"
        return ""

    async def _told(self, act: Act, resource: ResourceId, start: int, found: views.Entry, at: datetime,
                    before: Counter[str]) -> None:
        """How it ended, with figures that were read back."""
        entries = (await views.timeline(self.store, resource))[start:]
        many = Counter(one.event for one in entries)
        now = await self.totals()
        id = str(found.detail.get("action_id", ""))[:10]
        took = f"{(found.at - at).total_seconds() / self.run.speed:.1f} s from event to verified"
        if act.ends == "action.verified":
            written = count(now["writes"] - before["writes"], "write")
            self.say(f"{count(many['finding.raised'], 'finding')} -> 1 plan, {written}")
            self.say(f"verified: {act.says}. {took}".ljust(68) + f"  {id}")
        elif act.ends == "resource.quarantined":
            self.say(f"quarantined: {act.says}".ljust(68) + f"  {id}")
        elif act.ends == "action.proposed":
            self.say(f"WAITS FOR YOU: {act.says}".ljust(68) + f"  {id}")
        elif act.ends == "action.held":
            self.say(f"reverted {_times(many['action.verified'])}, then HELD: {found.detail.get('why')}")
            self.say(f"{act.says}".ljust(68) + f"  {id}")
        elif act.ends == "decision.made":
            self.say(f"{act.says}: {count(now['writes'] - before['writes'], 'write')}, "
                     f"{count(many['finding.raised'], 'finding')} on record")
        else:
            self.say(f"{count(now['actions'] - before['actions'], 'action')}, "
                     f"{count(now['records'] - before['records'], 'record')}")

    async def totals(self) -> Counter[str]:
        """Of the whole store: records, actions, writes that Azure answered."""
        total = Counter[str]()
        async for chain in self.store.chains():
            entries = await views.timeline(self.store, chain.resource)
            total["records"] += len(entries)
            total["writes"] += sum(_is_write(one) for one in entries)
            total["actions"] += len({one.detail["action_id"] for one in entries if one.detail.get("action_id")})
        return total

    async def over(self, before: Counter[str]) -> None:
        actions = await views.actions(self.store)
        states = Counter(row["state"] for row in actions)
        findings = await views.findings(self.store)
        reported = {row["resource_id"] for row in findings if row.get("decision", {}).get("mode") == "report"}
        parts = [f"{states[state]} {shown}" for state, shown in (
            ("verified", "verified"), ("quarantined", "quarantined"), ("proposed", "waiting for you"), ("held", "held"),
            ("failed", "failed"), ("unknown", "unknown"), ("superseded", "superseded")) if states[state]]
        chain = await audit.verify_store(self.store)
        now = await self.totals()
        self.say(f"story over: {count(len(actions), 'action')}: {', '.join(parts)}. "
                 f"{count(len(reported), 'resource')} reported. "
                 f"{count(now['writes'] - before['writes'], 'write')}. Chain {'intact' if chain.ok else 'BROKEN'}.")
        say("Look at it: guardrail findings list, guardrail actions list, guardrail audit verify")


def _times(many: int) -> str:
    return {1: "once", 2: "twice"}.get(many, f"{many} times")


def _is_write(entry: views.Entry) -> bool:
    return entry.event == "request.sent" and isinstance(entry.detail.get("status"), int) and entry.detail["status"] < 400

