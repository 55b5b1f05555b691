"""The store in Azure: tables for what is true, a queue for nudges, blobs for anchors and for what is too large for a row.

One partition a resource, so that case, records and the answered look are one batch. Every write names the ETag that it
replaces and carries a mark of its own (`by`): whose answer was lost finds the mark, and knows that it was done. The table
`open` is an index, written before what it points to and tidied up behind it by tend; it may name too many, never too few.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from azure.core.pipeline.transport import AsyncHttpTransport

from guardrail.errors import Held, Malformed, Stale, StoreDown
from guardrail.ids import ResourceId, fold
from guardrail.names import chain_key
from guardrail.policy import Rules, rules_from
from guardrail.stores import HOME, TRIES, Chain, Rejects, StoredRecord, V, after, empty, rows, spread
from guardrail.stores.account import PATIENCE_S, Account, Refused
from guardrail.stores.index import AT_ONCE, KNOWN_FOR_S, OPEN, Index
from guardrail.stores.nudges import Nudges
from guardrail.stores.partitions import CASES, Partitions, Rows, Seen, look_row
from guardrail.stores.tables import Tables, etag_of
from guardrail.values import Case, Look, Record, Why, to_json

if TYPE_CHECKING:
    from guardrail.stores.blobs import Anchors

BUDGETS = "budgets"         # and CASES, OPEN
LATE_S = 120                # after which a message counts as lost
LATE = "( look le @late and nudged le @late ) or due le @late"      # blanks, for the SDK finds names by them
EARLY_S = 1.0
AHEAD_S = 10.0              # a message that is hidden so long may be sent beside the rows that it is about


class AzureStore:
    """A Store (guardrail.stores.Store). Addresses: of the table and queue service, and of two containers ("": none).

    `tells`: events whose records wait in the case's outbox until people were told.
    """

    def __init__(self, tables: str, queues: str, credential: Any, transport: AsyncHttpTransport[Any, Any],
                 clock: Callable[[], datetime], home: ResourceId = HOME, *, anchors: str = "", bodies: str = "",
                 patience_s: float = PATIENCE_S, tells: Set[str] = frozenset()) -> None:
        self._home, self._clock, self._anchors_at = home, clock, anchors
        self._account = Account(credential, transport, clock, patience_s)
        self._tables = Tables(tables, self._account, bodies)
        self._nudges = Nudges(self._account, queues)
        self._parts = Partitions(self._tables, tells)
        self._index = Index(self._tables, self._parts)
        self._ahead = dict[str, tuple[float, Rows]]()
        self._made: Anchors | None = None

    @property
    def skew_s(self) -> float:
        return self._account.skew_s

    async def create(self) -> None:
        """Tables and queue, for a local run: in Azure infra/ makes them."""
        for name in (CASES, OPEN, BUDGETS):
            await self._tables.create(name)
        await self._nudges.create()

    def close(self) -> None:
        """Nothing to do: transport and credential are their owner's."""

    # cases and records

    async def load(self, resource: ResourceId) -> tuple[Case, Look | None]:
        key = chain_key(resource)
        read, found = self._ahead.pop(key, (-math.inf, (None, None)))
        if asyncio.get_running_loop().time() - read > EARLY_S:
            found = await self._parts.both(key)
        case = await self._parts.case(found[0]) if found[0] else Case(resource)
        if fold(case.resource) != fold(resource):
            raise Malformed(f"the row of {resource} is one of {case.resource}")
        seen = await self._parts.see(key, resource, found[1], found[0])
        return case, seen.waiting.look if seen.waiting and seen.due is not None else None

    async def commit(self, case: Case, *records: Record, answered: Look | None = None,
                     again_s: float | None = None, why: Why = "due") -> Case:
        """Its `seq` and `head` must be as loaded: they are not read again."""
        key, by, was, now = chain_key(case.resource), uuid4().hex, case.etag, self._now()
        seen = self._parts.seen.get(key)
        looks_on = bool(answered) or again_s is not None
        if looks_on and (seen is None or seen.etag != was or seen.look_etag is None):
            row, look = await self._parts.both(key)
            seen = await self._parts.see(key, case.resource, look, row)
        elif seen is None or seen.etag != was:
            seen = Seen(etag=was)
        case, entities = self._parts.committed(key, case, records, by)
        next_look, due = seen.due if answered is None or again_s is not None else None, None
        if again_s is not None and (next_look is None or now + again_s < next_look):
            next_look = now + again_s
            await self._index.note_look(key, case.resource, seen, next_look, now)
        if rows.is_open(case):
            due = await self._index.note_case(key, case.resource, seen, rows.due_at(case), next_look, now)
        entities[0] |= {} if due is None else {"due": due}      # what the index row is known to name
        for turn in TRIES:
            await spread(turn)
            waiting = after(seen.waiting, case.resource, answered, again_s, now, why)
            looks = [(look_row(key, waiting, by), seen.look_etag or "")] if waiting else []
            wait_s = waiting.due - now if waiting and waiting.due is not None else None
            batch = [(entities[0], was), *((one, "") for one in entities[1:]), *looks]
            try:
                write = self._tables.write(CASES, batch)
                is_ahead = wait_s is not None and wait_s >= AHEAD_S
                etags = await (self._nudges.beside(write, case.resource, wait_s or 0) if is_ahead else write)
            except Refused:
                row, look = await self._parts.both(key)
                if row is None or row.get("by") != by:
                    if etag_of(row) != was:
                        raise Stale(f"the case of {case.resource} was changed by another") from None
                    before, seen = seen, await self._parts.see(key, case.resource, look, row)
                    if not looks_on or seen.look_etag == before.look_etag:
                        raise Malformed(f"a record of {case.resource} lies beyond its head") from None
                    continue
                etags = [etag_of(row), etag_of(look)]       # ours: only the answer was lost
            self._parts.remember(key, replace(
                seen, etag=etags[0], open=rows.is_open(case), case_due=due, waiting=waiting or seen.waiting,
                look_etag=etags[-1] if waiting else seen.look_etag))
            if wait_s is not None and wait_s < AHEAD_S:     # joined meanwhile, its message used up; or soon again
                with suppress(StoreDown):
                    await self._nudges.send(case.resource, wait_s)
            return replace(case, etag=etags[0])
        raise StoreDown(f"{case.resource}: others write faster")

    async def records(self, resource: ResourceId, after: int = 0) -> Sequence[StoredRecord]:
        found = list[StoredRecord]()
        query = self._tables.query(CASES, "PartitionKey eq @key and RowKey ge @first and RowKey lt @end",
                            key=chain_key(resource), first=rows.record_key(after + 1), end="r.")
        async for row in query:
            try:
                body = await self._tables.body(row)
            except (Held, Malformed):
                body = b""          # for a verifier, which names the place
            found += [one for one in rows.records_of(row["RowKey"], body) if one.seq > after]
        return found

    async def open_cases(self) -> AsyncIterator[Case]:
        async for row, case, _ in self._index.led_to("RowKey ge @first", first=""):
            if isinstance(case, Case) and rows.is_open(case):
                yield case
            elif isinstance(case, Exception):           # one bad row hides no other, nor itself
                yield Case(ResourceId(row["resource"]), stuck=str(case))

    async def known(self) -> AsyncIterator[ResourceId]:
        async for row in self._tables.query(CASES, "RowKey eq @case", ["resource"], case="case"):
            yield ResourceId(row["resource"])

    async def due(self) -> AsyncIterator[Case]:
        now = self._now()
        async for row, case, _ in self._index.led_to("due le @now", now=now):
            due = rows.due_at(case) if isinstance(case, Case) else None
            if isinstance(case, Case) and due is not None and due <= now:
                yield case
            elif isinstance(case, Exception):
                yield Case(ResourceId(row["resource"]), stuck=str(case))

    async def chains(self, since: datetime | None = None) -> AsyncIterator[Chain]:
        if since is not None:
            async for chain in self._moved(since):
                yield chain
            return
        columns, known = ["PartitionKey", "RowKey", "resource", "seq", "head"], ""
        async for row in self._tables.query(CASES, "RowKey eq @case or first eq true", columns, case="case"):
            if row["RowKey"] == "case" and row["seq"]:
                known = row["PartitionKey"]         # its first record comes next
                yield Chain(ResourceId(row["resource"]), row["seq"], str(row["head"]))
            elif row["RowKey"] != "case" and row["PartitionKey"] != known:
                yield Chain(ResourceId(row["resource"]), 0, "")

    async def _moved(self, since: datetime) -> AsyncIterator[Chain]:
        """By the index, which each event and look writes; and our own. Everything else is for the next whole walk."""
        case, _ = await self.load(self._home)
        if case.seq:
            yield Chain(case.resource, case.seq, case.head)
        late = since.timestamp() - 2 * KNOWN_FOR_S
        async for _, found, _ in self._index.led_to("at ge @late or look le @now or due le @now", late=late, now=self._now()):
            if isinstance(found, Case) and found.seq and fold(found.resource) != fold(self._home):
                yield Chain(found.resource, found.seq, found.head)

    # looks

    async def looks(self) -> AsyncIterator[Look]:
        now = self._now()
        found = [waiting async for _, _, waiting in self._index.led_to("look le @now", now=now) if waiting]
        due = [(waiting.due, waiting.look) for waiting in found if waiting.due is not None and waiting.due <= now]
        for _, look in sorted(due, key=lambda one: one[0]):
            yield look

    async def send(self, look: Look, delay_s: float = 0) -> None:
        """Index, row, message, in this order: what is lost in between, tend finds."""
        key, by, now = chain_key(look.resource), uuid4().hex, self._now()
        seen = self._parts.seen.get(key)
        for turn in TRIES:
            await spread(turn)
            if seen is None or seen.look_etag is None:
                found = await self._tables.get(CASES, key, "look")
                seen = await self._parts.see(key, look.resource, found)
                if found and found.get("by") == by:
                    break
            before, after = seen.due, (seen.waiting or empty(look.resource)).sent(look, now, delay_s)
            due = after.due if after.due is not None else now
            await self._index.note_look(key, look.resource, seen, due, now)
            try:
                (etag,) = await self._tables.write(CASES, [(look_row(key, after, by), seen.look_etag or "")])
            except Refused:
                seen = None
                continue
            self._parts.remember(key, replace(seen, look_etag=etag, waiting=after))
            break
        else:
            raise StoreDown(f"{look.resource}: others write faster")
        # while a look waits there is a message; while it is due, somebody has it in hand, and may be putting it back
        if before is None or due < before or before <= now < due:
            await self._nudges.send(look.resource, due - now)

    async def early(self, resource: ResourceId) -> bool:
        """What was read for it serves the load that follows."""
        key, now = chain_key(resource), self._now()
        found = await self._parts.both(key)
        seen = await self._parts.see(key, resource, found[1], found[0])
        if seen.due is not None and seen.due > now + EARLY_S:
            await self._nudges.send(resource, seen.due - now)
            return True
        if len(self._ahead) >= AT_ONCE * 4:
            self._ahead.clear()
        self._ahead[key] = (asyncio.get_running_loop().time(), found)
        return False

    async def nudge(self) -> None:
        """Also tidies the index: only rows that nobody wrote lately, for others rely on those that they wrote."""
        now = self._now()
        async for row, case, waiting in self._index.led_to(LATE, late=now - LATE_S):
            due = waiting.due if waiting else None
            if due is not None and due <= now - LATE_S and row.get("nudged", 0.0) <= now - LATE_S:
                await self._nudges.send(ResourceId(row["resource"]), 0)
                await self._tables.change(OPEN, row, nudged=now)
            elif isinstance(case, Case):
                await self._index.tidy(row, case, due, now)

    # the installation's state

    async def reject(self, raw: bytes, why: str) -> None:
        at = self._clock()

        def add(_: int, body: bytes | None) -> tuple[int, Any, Sequence[Record]]:
            try:
                rejects = rows.decode(body, Rejects, "rejects") if body else Rejects()
            except Malformed:
                rejects = Rejects()
            rejects, record = rejects.add(raw, why, at)
            return 0, rejects, [record] if record else []

        await self._at_home("rejects", add)

    async def budget(self, name: str) -> tuple[str, bytes]:
        found = await self._tables.get(BUDGETS, _budget_key(name), "taken")
        rows.known(found["v"] if found else V, "budget", name)
        try:
            return etag_of(found), await self._tables.body(found) if found else b""
        except (Held, Malformed):
            return etag_of(found), b"?"         # for who verifies it

    async def set_budget(self, name: str, body: bytes, etag: str) -> str:
        row = {"PartitionKey": _budget_key(name), "RowKey": "taken", "v": V, "name": name, **rows.packed(body)}
        try:
            (kept,) = await self._tables.write(BUDGETS, [(row, etag)])
        except Refused:
            return ""
        return kept

    async def rules(self) -> Rules:
        row = await self._tables.get(CASES, chain_key(self._home), "rules")
        if row is None or row.get("v") != V:
            return Rules()
        try:
            body = await self._tables.body(row)
        except (Held, Malformed):
            body = None
        return replace(rules_from(body), generation=row["generation"])

    async def set_rules(self, rules: Rules, *records: Record) -> Rules:
        kept = replace(rules, generation=rules.generation + 1)

        def change(generation: int, _: bytes | None) -> tuple[int, Any, Sequence[Record]]:
            if rules.generation != generation:
                raise Stale("the rules were changed by another")
            return kept.generation, kept, records

        await self._at_home("rules", change)
        return kept

    async def anchors(self, last: int = 0) -> Sequence[bytes]:
        if self._anchors_at:
            return await self._anchors.lines(last)
        key, newest = chain_key(self._home), await self._tables.get(CASES, chain_key(self._home), "anchor")
        first = max(1, newest["generation"] - last + 1) if newest and last else 1
        query = self._tables.query(CASES, "PartitionKey eq @key and RowKey ge @first and RowKey lt @end",
                            key=key, first=f"a-{first:012}", end="a.")
        return [await self._tables.body(row) async for row in query]

    async def add_anchor(self, number: int, line: bytes, *records: Record) -> None:
        if not self._anchors_at:
            def change(newest: int, _: bytes | None) -> tuple[int, Any, Sequence[Record]]:
                if number != newest + 1:
                    raise Stale(f"anchor {newest} is the newest, so {number} cannot follow")
                return number, None, records

            return await self._at_home("anchor", change, {"RowKey": f"a-{number:012}", "v": V, **rows.packed(line)})
        await self._anchors.add(number, line)
        for turn in TRIES:
            await spread(turn)
            case, _ = await self.load(self._home)
            with suppress(Stale):
                await self.commit(case, *records)
                return None
        raise StoreDown(f"{self._home}: others write faster")

    async def _at_home(self, name: str, change: Callable[[int, bytes | None], tuple[int, Any, Sequence[Record]]],
                       *more: dict[str, Any]) -> None:
        """A row of the installation's partition, from (generation, body) to both and records of it, in one batch."""
        key, by = chain_key(self._home), uuid4().hex
        for turn in TRIES:
            await spread(turn)
            row = await self._tables.get(CASES, key, name)
            if row is not None and row.get("by") == by:
                return
            rows.known(row["v"] if row else V, name, self._home)
            try:
                body = await self._tables.body(row) if row else None
            except Malformed:
                body = b""
            generation, value, records = change(row["generation"] if row else 0, body)
            state = {"PartitionKey": key, "RowKey": name, "v": V, "generation": generation, "by": by,
                     **rows.packed(to_json(value))}
            batch = [(state, etag_of(row)), *(({"PartitionKey": key, **one}, "") for one in more)]
            if records:
                case, _ = await self.load(self._home)
                case, (first, *others) = self._parts.committed(key, case, records, by)
                if case.outbox:
                    await self._index.note_case(key, self._home, self._parts.seen[key], rows.due_at(case), None, self._now())
                batch += [(first, case.etag), *((one, "") for one in others)]
            try:
                await self._tables.write(CASES, batch)
            except Refused:
                continue
            self._parts.seen.pop(key, None)
            return
        raise StoreDown(f"{self._home}: others write faster")

    # rows

    def _now(self) -> float:
        return self._clock().timestamp()

    @property
    def _anchors(self) -> Anchors:
        if self._made is None:
            from guardrail.stores.blobs import Anchors

            self._made = Anchors(self._account, self._anchors_at)
        return self._made


def _budget_key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
