"""The table `open`: which partitions of the cases' table somebody must come back to, and when at the latest.

A row is written before what it points to and tidied up behind it. It may name too many and too early, never too few or
too late. `look` is the time of the look that waits, `due` that of the case (rows.due_at), each absent for never and
written without touching the other, for their writers know nothing of each other. `at`: when a row was last written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from guardrail.errors import Held, Malformed
from guardrail.ids import ResourceId
from guardrail.stores import V, Waiting, rows
from guardrail.stores.partitions import NEVER, Partitions, Seen
from guardrail.stores.tables import Row, Tables
from guardrail.values import Case

OPEN = "open"
AT_ONCE = 16                # rows read at the same time where all are walked
KNOWN_FOR_S = 300           # an index row that we wrote stands at least so long: tend leaves it alone twice as long

Found = tuple[Row, Case | Exception, Waiting | None]


class Index:
    def __init__(self, tables: Tables, parts: Partitions) -> None:
        self._tables, self._parts = tables, parts

    async def note_look(self, key: str, resource: ResourceId, seen: Seen, look: float, now: float) -> None:
        """Before a look is written, unless we lately wrote a row that leads there in time."""
        if not _leads(seen.look_noted, look, now):
            await self._tables.merge(OPEN, {**_row(key, resource, now), "look": look, "nudged": 0.0})
            seen.look_noted = (now, look)

    async def note_case(self, key: str, resource: ResourceId, seen: Seen, due: float | None, look: float | None,
                        now: float) -> float | None:
        """Before an open case is written, unless a row leads to it in time: also for the `look` that will wait then.

        The time that the row is known to name, for the case's own row; None: the look alone leads there.
        """
        has_row = seen.open or seen.due is not None or look is not None
        has_look = due is not None and look is not None and look <= due
        has_due = due is None or (seen.case_due is not None and seen.case_due <= due) or _leads(seen.due_noted, due, now)
        if not has_row or not (has_look or has_due):
            at = NEVER if due is None else due
            await self._tables.merge(OPEN, {**_row(key, resource, now), "due": at})
            seen.due_noted, has_due = (now, at), True
        return due if has_due else None

    async def led_to(self, text: str, **values: Any) -> AsyncIterator[Found]:
        """Rows, each with the case (or why it cannot be read) and the look that it leads to."""
        chunk = list[Row]()
        async for row in self._tables.query(OPEN, text, **values):
            chunk.append(row)
            if len(chunk) == AT_ONCE:
                for found in await asyncio.gather(*map(self._partition, chunk)):
                    yield found
                chunk.clear()
        for found in await asyncio.gather(*map(self._partition, chunk)):
            yield found

    async def _partition(self, row: Row) -> Found:
        resource, waiting = ResourceId(row["resource"]), None
        case, look = await self._parts.both(row["RowKey"])
        with suppress(Held):
            waiting = (await self._parts.see(row["RowKey"], resource, look, case)).waiting
        try:
            return row, await self._parts.case(case) if case else Case(resource), waiting
        except (Held, Malformed) as error:
            return row, error, waiting

    async def tidy(self, row: Row, case: Case, look: float | None, now: float) -> None:
        """Sets the row to the time that counts (`look`: of the one that waits), or takes it away.

        Not if it was written lately, for others rely on rows that they wrote; nor if it is written meanwhile.
        """
        if row["at"] >= now - 2 * KNOWN_FOR_S:
            return
        due = rows.due_at(case)
        times = {"look": NEVER if look is None else look, "due": NEVER if due is None else due}
        if look is None and not rows.is_open(case):
            await self._tables.remove(OPEN, row)
        elif any(row.get(name) != at for name, at in times.items()):
            await self._tables.change(OPEN, row, **times)


def _row(key: str, resource: ResourceId, now: float) -> dict[str, Any]:
    return {"PartitionKey": key[0], "RowKey": key, "v": V, "resource": resource, "at": now}


def _leads(noted: tuple[float, float], at: float, now: float) -> bool:
    written, known = noted
    return 0 <= now - written < KNOWN_FOR_S and known <= at
