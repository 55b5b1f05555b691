"""From terms to a report: the simulator, the store, the crew, the night, and its end."""

from __future__ import annotations

import math
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from guardrail import app, logs
from guardrail.arm import Budget
from guardrail.ids import ResourceId, fold
from guardrail.settings import LOCAL_GROUP, read
from simulator import Simulator
from tests.flow.harness import TYPES, narrowed
from tests.flow.world import DEV, ENFORCE, PROD, World
from tests.soak.clock import Clock
from tests.soak.crew import Crew
from tests.soak.night import GROUP, Night

POLICY = ENFORCE + "approvals: {approvers: [" + ", ".join(
    f"{{scope: /subscriptions/{one}, group: {GROUP}}}" for one in (DEV, PROD)) + "]}\n"
FAULT = re.compile(r"S\d+")


@dataclass(frozen=True)
class Terms:
    events: int
    workers: int
    seed: int
    store: Literal["sqlite", "azurite"] = "sqlite"
    speed: float = 20
    every: int = 2000
    at_most_s: float = math.inf
    sweep_every_s: float = 3600


@dataclass(frozen=True)
class Report:
    text: str
    is_good: bool
    night: Night


async def conduct(folder: Path, terms: Terms, told: Callable[[str], None] = lambda line: None) -> Report:
    """One night in `folder`. What was found is in the report, never raised."""
    async with standing(folder, terms) as (here, crew):
        queue = getattr(here.guardrail.store, "_queue", None)
        night = Night(here, terms.seed, crew, terms.speed, queue and queue.send_message)
        try:
            await night.pass_by(terms.events, terms.every, told, terms.at_most_s)
            if not crew.broken:
                told("faults off: two sweeps, and what is due for an hour")
                await night.end()
        finally:
            await night.close()
        return report(night)


@asynccontextmanager
async def standing(folder: Path, terms: Terms) -> AsyncIterator[tuple[World, Crew]]:
    """The simulator in this process, the store, and settings for workers. Nobody works yet."""
    folder.joinpath("policy.yaml").write_text(POLICY, "utf-8")
    clock = Clock(folder / "clock", terms.speed)
    async with AsyncExitStack() as stack:
        sim = stack.enter_context(Simulator(subscriptions=(DEV, PROD), clock=clock.seconds, folder=folder / "tls"))
        account, store = None, None
        if terms.store == "azurite":
            from tests.azurite import running

            own = stack.enter_context(running(folder)).account()
            account = {"tables": own.tables, "queues": own.queues, "blobs": own.blobs, "ca": str(own.ca)}
            store = (await stack.enter_async_context(own.stores(clock)))()
        settings = {
            "GUARDRAIL_SUBSCRIPTIONS": f"{DEV},{PROD}", "GUARDRAIL_CLOUD": sim.url, "GUARDRAIL_CEILING": "enforce",
            "GUARDRAIL_STORE": str(folder / "guardrail.db"), "GUARDRAIL_POLICY": str(folder / "policy.yaml"),
            "IDENTITY_ENDPOINT": f"{sim.url}/msi/token", "IDENTITY_HEADER": "guardrail"}
        stack.enter_context(environment(settings))
        sim.seed(LOCAL_GROUP, {"location": "westeurope"})           # for the probe
        logs.configure("error", stack.enter_context(folder.joinpath("driver.log").open("w")))
        guardrail = narrowed(app.build(read(settings), store=store, clock=clock, budget=lambda: Budget(1e9, 1e9)))
        stack.push_async_callback(guardrail.close)
        here = World(sim, guardrail, clock)                 # type: ignore[arg-type]
        await here.rules(switch="policy", proven=frozenset(fold(ResourceId(name)) for name in TYPES))
        how = {"clock": str(folder / "clock"), "account": account, "sweep_every_s": terms.sweep_every_s}
        yield here, Crew(terms.workers, how, {**os.environ}, folder, random.Random(terms.seed))


@contextmanager
def environment(given: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def report(night: Night) -> Report:
    crew, raised = night.crew, [*night.broken, *night.crew.broken]
    faults = Counter({name: count for name, count in (night.did + crew.did).items() if FAULT.match(name)})
    lines = [
        table("events sent", night.kinds), f"  {'acknowledged':<44}{night.acknowledged:>9}",
        table("not acknowledged, and sent again", Counter({
            name.partition(": ")[2]: count for name, count in crew.did.items() if name.startswith("not ack")})),
        table("faults", Counter(dict(sorted(faults.items(), key=lambda one: int(re.findall(r"\d+", one[0])[0]))))),
        table("our requests, as the simulator saw them", Counter({"GET": night.reads}) + night.written),
        f"  {'PATCH of the tag on our own group':<44}{night.probes:>9}",
        f"  {'of them moved nothing':<44}{night.needless:>9}",
        f"  {'over a change or a life made since our read':<44}{night.brought_back:>9}",
        *listed("lost", night.lost), *listed("doubled", night.doubled), *listed("widened", night.widened),
        *listed("broken", raised)]
    is_good = not any((night.lost, night.doubled, night.widened, raised))
    return Report("\n".join(lines), is_good, night)


def table(title: str, counts: Mapping[str, int]) -> str:
    return "\n".join([title, *(f"  {name:<44}{count:>9}" for name, count in counts.items())])


def listed(name: str, found: Iterable[Any]) -> Iterator[str]:
    found = list(found)
    yield f"{name:<46}{len(found):>9}"
    yield from (f"    {one}" for one in found[:10])
