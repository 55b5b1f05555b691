"""Our side, as a worker (see measure.py): what on_resource_change and reconcile do for one event, without the queue hop.

`way`: "durable" flushes each commit to the disk, as the product does; "fast" leaves that to the system.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.measure import SUBSCRIPTION, Cell, Events, Meter, Result, begin, work
from detectors.storage import ACCOUNT, CONTROLS
from guardrail import app, logs, policy_file
from guardrail.arm import Budget
from guardrail.ids import ResourceId
from guardrail.settings import read
from guardrail.signing import Keys, LocalKey
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Control

RUN = app.ROOT / ".run"       # on the disk that the product would use: /tmp may be memory

# Everything may be enforced, and no breaker trips: what is measured is the work, not the brakes.
POLICY = f"""
version: 1
environments: {{development: [/subscriptions/{SUBSCRIPTION}]}}
controls: {{reach: [{ACCOUNT}]}}
default: {{production: report, other: enforce}}
breakers: {{flapping: {{writes: 10000}}, blast_radius: {{writes: 10000, percent: 100, least: 10000, reserve: 0}}}}
"""


def controls(count: int) -> tuple[Control, ...]:
    """`count` controls that one read serves: secure transfer, the other shipped ones, then copies under other ids.

    Secure transfer is there once, so a drift of it is one finding and one write however many there are.
    """
    first = [one for one in CONTROLS if one.id == "storage-https-only"]
    rest = [one for one in CONTROLS if one.id != "storage-https-only" and not one.also_reads]
    copies = (replace(one, id=f"{one.id}-{round}") for round in range(2, 2 + count) for one in rest)
    return tuple([*first, *rest, *copies][:count])


class Side:
    def __init__(self, cell: Cell, folder: Path) -> None:
        self.cell, self.events, self._ahead = cell, Events(), timedelta()
        os.environ |= {"IDENTITY_ENDPOINT": f"{cell.stub}/msi/token", "IDENTITY_HEADER": "guardrail"}
        settings = read({"GUARDRAIL_SUBSCRIPTIONS": SUBSCRIPTION, "GUARDRAIL_CLOUD": cell.stub,
                         "GUARDRAIL_CEILING": "enforce" if cell.case == "mend" else "report", **os.environ})
        store = SqliteStore(folder / "guardrail.db", self.clock, durable=cell.way == "durable")
        key = LocalKey()
        self.guardrail = app.build(settings, store=store, keys=Keys(key, key), clock=self.clock,
                                   budget=lambda: Budget(1e9, 1e9))
        self.guardrail.engine.policy = policy_file.load(POLICY.encode(), "benchmark")
        self.guardrail.engine.controls = controls(cell.controls)

    def clock(self) -> Any:
        return app.now() + self._ahead

    async def one(self, event: str, resource: str) -> None:
        await self.guardrail.intake(event)
        await self.guardrail.answer(ResourceId(resource))

    async def drive(self, events: Iterator[tuple[str, str]]) -> None:
        async def lane() -> None:
            for event, resource in events:
                await self.one(event, resource)

        await asyncio.gather(*(lane() for _ in range(self.cell.in_flight)))

    async def ended_well(self, resource: str) -> bool:
        """Whether the store shows the case's outcome: nothing found, one finding, or one verified action."""
        case, look = await self.guardrail.store.load(ResourceId(resource))
        told = [one.body for one in await self.guardrail.store.records(ResourceId(resource))]
        seen = (len(case.findings), sum(b'"event":"action.verified"' in body for body in told))
        wanted = {"clean": (0, 0), "drift": (1, 0), "mend": (0, 1)}[self.cell.case]
        return seen == wanted and case.acting is None and (look is None or not look.changes)

    async def measured(self) -> Result:
        cell, resources = self.cell, list[str]()

        def told() -> Iterator[tuple[str, str]]:
            for event, resource in self.events.until(cell.seconds, max(cell.least, 2 * cell.in_flight if cell.warm else 0)):
                resources.append(resource)
                yield event, resource

        store = self.guardrail.store
        await self.guardrail.engine.set_rules(replace(await store.rules(), switch="policy"))
        await self.drive(self.events.until(0, cell.in_flight if cell.warm else 0))
        meter = Meter(cell.stub)
        await self.drive(told())
        result = meter.stop(len(resources), 0)
        answered = sum([await self.ended_well(resource) for resource in resources])
        return replace(result, answered=answered, later=await self.later() if cell.later else 0)

    async def later(self) -> int:
        """Reads an event within the next two minutes: the second look at what has a critical control."""
        reads = self.guardrail.engine.arm.reads
        self._ahead = timedelta(seconds=120)
        await self.guardrail.settle()
        return round((self.guardrail.engine.arm.reads - reads) / self.events.told)


def run(cell: Cell) -> Result:
    RUN.mkdir(exist_ok=True)

    async def all(folder: Path) -> Result:
        side = Side(cell, folder)
        try:
            return await side.measured()
        finally:
            await side.guardrail.close()

    with tempfile.TemporaryDirectory(dir=RUN) as folder, Path(os.devnull).open("w") as lines:
        logs.configure("info", lines)       # each line is made, and thrown away
        begin(cell)
        return asyncio.run(all(Path(folder)))


if __name__ == "__main__":
    work(run)
