"""A small Azure with a guardrail in it: simulator, real SDKs over HTTP, the real store, and a clock that tests move."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

import recorded
from detectors import CONTROLS
from guardrail import app, policy_file, roles
from guardrail.arm import Budget
from guardrail.ids import ResourceId, fold
from guardrail.policy import Rules
from guardrail.settings import read
from guardrail.stores import Store
from guardrail.turn import Engine
from guardrail.values import Acceptance, Case, ResourceType, digest
from remediators import TYPES
from simulator import Response, Simulator
from tests import called

DEV = "00000000-0000-0000-0000-000000000001"
PROD = "00000000-0000-0000-0000-000000000002"
WORKSPACE = f"/subscriptions/{DEV}/resourceGroups/rg-log/providers/Microsoft.OperationalInsights/workspaces/log-ai"
LOGGED = [control.id for control in CONTROLS if "approved_workspaces" in control.parameters]

ENFORCE = f"""
version: 1
environments: {{development: [/subscriptions/{DEV}]}}
controls:
  reach: [{", ".join(type.name for type in TYPES)}]
  parameters:
{"".join(f"    {one}: {{approved_workspaces: [{WORKSPACE}]}}{chr(10)}" for one in LOGGED)}
default: {{production: approve, other: enforce}}
breakers:
  flapping: {{writes: 50, window: 15m}}
  blast_radius: {{writes: 500, percent: 100, least: 500, window: 1h, reserve: 0}}
"""
BY_NAME = {fold(ResourceId(type.name)): type for type in TYPES}


class Clock:
    """Moves only when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 19, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


Stores = Callable[[Clock], AbstractAsyncContextManager[Callable[[], Store]]]    # Account.stores of tests/azurite.py


STORES: list[Stores | None] = [None]      # what `--store` says


class World:
    """`open_store` opens the world's store once more, for another worker; None: by its settings."""

    def __init__(self, sim: Simulator, guardrail: app.Guardrail, clock: Clock,
                 open_store: Callable[[], Store | None] = lambda: None) -> None:
        self.sim, self.guardrail, self.clock, self.open_store = sim, guardrail, clock, open_store
        self._events: list[Any] = []
        self._lock = threading.Lock()
        sim.events.to(self._arrived)

    def _arrived(self, batch: Any) -> None:
        with self._lock:
            self._events += batch if isinstance(batch, list) else [batch]

    # the world and those who change it

    def stands(self, type: str, body: Any = None, *, subscription: str = DEV, id: str = "") -> ResourceId:
        """The type's good document (or `body`, at `id`) as resources of the simulator; the id of the topmost one."""
        sample = recorded.good(type)
        sample = replace(sample, body=sample.body if body is None else body, id=ResourceId(id) if id else sample.id)
        for id, version, part in recorded.resources(sample, type_of(type)):
            self.sim.seed(moved(id, subscription), moved(part, subscription), version)
        return ResourceId(moved(sample.id, subscription))

    def write(self, method: str, id: str, body: Any = None, *, as_: str = "ml-engineer",
              api_version: str | None = None) -> Response:
        return self.sim.request(method, id, body, as_=as_, api_version=api_version)

    def show(self, id: str) -> Any:
        """The resource as it stands now, without its mounted parts; None if it is gone."""
        return self.sim.document(id, api_version_of(id))

    def parts(self, id: str, suffix: str, api_version: str) -> list[Any]:
        answer = self.sim.request("GET", f"{id}/{suffix}", api_version=api_version)
        return list(answer.body["value"])

    # time

    async def deliver(self) -> int:
        """Hands the events that have been raised to the guardrail, as they came; those not acknowledged come again."""
        self.sim.events.drain()
        with self._lock:
            events, self._events = self._events, []
        for index, event in enumerate(events):
            try:
                await self.guardrail.intake(json.dumps(event))
            except BaseException:
                self._arrived(events[index:])
                raise
        return len(events)

    async def settle(self) -> None:
        """Everything that is due now: events, looks, and what they cause."""
        while await self.deliver() or await self.guardrail.settle():
            pass

    async def forward(self, seconds: float, step: float = 60) -> None:
        """Time passes in steps; at each of them tend runs and what is due is done."""
        end = self.clock.now + timedelta(seconds=seconds)
        await self.settle()
        while self.clock.now < end:
            self.clock.forward(min(step, (end - self.clock.now).total_seconds()))
            await self.guardrail.tend()
            await self.settle()

    # what can be seen

    async def case(self, id: ResourceId) -> Case:
        return (await self.guardrail.store.load(id))[0]

    async def records(self, id: ResourceId) -> list[Mapping[str, Any]]:
        return [msgspec.json.decode(one.body) for one in await self.guardrail.store.records(id)]

    async def events_of(self, id: ResourceId) -> list[str]:
        return [str(record["event"]) for record in await self.records(id)]

    async def accept(self, id: ResourceId) -> None:
        """All that is known good of the resource counts as accepted by people."""
        case = await self.case(id)
        both = {part: tuple(Acceptance(by, self.clock(), digest(value)) for by in ("approver", "oncall"))
                for part, value in case.good.items()}
        await self.guardrail.store.commit(replace(case, accepted=both))

    @property
    def ours(self) -> list[Any]:
        """The writes of the guardrail's identity, as the simulator logged them."""
        return [line for line in self.sim.writes() if line.actor == "guardrail"]

    @property
    def reads(self) -> list[Any]:
        ours = [line for line in self.sim.log if line.method == "GET" and line.actor == "guardrail"]
        return [line for line in ours if "/msi/" not in line.path]

    async def rules(self, **change: Any) -> Rules:
        rules = await self.guardrail.store.rules()
        return await self.guardrail.engine.set_rules(replace(rules, **change))


def type_of(name: str) -> ResourceType:
    return BY_NAME[fold(ResourceId(name))]


def api_version_of(id: str) -> str:
    from guardrail.ids import type_of as type_name

    return BY_NAME[fold(ResourceId(type_name(ResourceId(id))))].api_version


def moved(value: Any, subscription: str) -> Any:
    """The same sample in another subscription."""
    group = "/resourceGroups/rg-ai-dev"
    return json.loads(json.dumps(value).replace(DEV + group, subscription + group))


@asynccontextmanager
async def world(folder: Path, policy: str = ENFORCE, ceiling: str = "enforce", switch: str = "policy",
                proven: Sequence[str] = (), part: str = "all", store: Stores | None = None,
                settings: Mapping[str, str] = {}) -> AsyncIterator[World]:
    """The world, and everything ended afterwards. `proven`: types whose PUT counts as proven (settled question 13).

    `store`: where it keeps its rows, given the world's clock; without it what `--store` says, SQLite in `folder`.
    It may do what an installation with this policy and ceiling is granted, and no more (S12).
    `settings`: more of them. The probe is off: it writes, and these tests count writes.
    """
    clock = Clock()
    store = store or STORES[0]
    async with AsyncExitStack() as stack:
        sim = stack.enter_context(Simulator(subscriptions=(DEV, PROD)))
        open_store: Callable[[], Store | None] = await stack.enter_async_context(store(clock)) if store else lambda: None
        sim.throttle.off()
        identity = {"IDENTITY_ENDPOINT": f"{sim.url}/msi/token", "IDENTITY_HEADER": "guardrail"}
        before = {name: os.environ.get(name) for name in identity}
        os.environ.update(identity)
        found = read({
            "GUARDRAIL_SUBSCRIPTIONS": f"{DEV},{PROD}", "GUARDRAIL_CLOUD": sim.url, "GUARDRAIL_CEILING": ceiling,
            "GUARDRAIL_PART": part, "GUARDRAIL_STORE": str(folder / "guardrail.db"),
            "GUARDRAIL_PROBE": "off", **identity, **settings})
        guardrail = app.build(found, store=open_store(), clock=clock, budget=lambda: Budget(1e9, 1e9))
        guardrail.engine.policy = policy_file.load(policy.encode(), "test policy")
        sim.faults.rbac({"actions": granted(guardrail.engine, report_only=ceiling == "report")})
        here = World(sim, guardrail, clock, open_store)
        await here.rules(switch=switch, proven=frozenset(fold(ResourceId(name)) for name in proven))
        try:
            yield here
        finally:
            called.note(sim.log)
            await here.guardrail.close()
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def granted(engine: Engine, report_only: bool = False) -> list[str]:
    return [*roles.role(engine.controls, engine.types, engine.policy.controls.reach, report_only=report_only), *roles.PROBE]
