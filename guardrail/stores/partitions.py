"""A resource's partition in the table of cases: its rows as values and back, and what this worker last saw of them."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from guardrail.chain import append
from guardrail.errors import Malformed
from guardrail.ids import ResourceId
from guardrail.stores import V, Waiting, recorded, rows
from guardrail.stores.tables import Row, Tables, etag_of
from guardrail.values import Case, Record

CASES = "cases"
GUESSES = 20_000            # partitions remembered
NEVER = 4e9                 # seconds since 1970, for "no look waits"

Rows = tuple[Row | None, Row | None]


@dataclass(slots=True)
class Seen:
    """What this worker last saw of a resource's rows. Only a guess that saves reading: each write names its ETag."""

    etag: str = ""                      # of the case
    open: bool = False
    case_due: float | None = None       # which its index row is known to name, or an earlier one
    look_etag: str | None = None        # "": there is none; None: nobody looked
    waiting: Waiting | None = None
    look_noted: tuple[float, float] = (0.0, NEVER)  # when we wrote its index row, and the time that stands there
    due_noted: tuple[float, float] = (0.0, NEVER)

    @property
    def due(self) -> float | None:
        return self.waiting.due if self.waiting else None


class Partitions:
    def __init__(self, tables: Tables, tells: Set[str] = frozenset()) -> None:
        self._tables, self._tells = tables, tells
        self.seen = dict[str, Seen]()

    async def both(self, key: str) -> Rows:
        """Case and look in one query: no other row key lies between theirs."""
        query = self._tables.query(CASES, "PartitionKey eq @key and RowKey ge @case and RowKey le @look",
                                   key=key, case="case", look="look")
        found = {row["RowKey"]: row async for row in query}
        return found.get("case"), found.get("look")

    async def see(self, key: str, resource: ResourceId, look: Row | None, *case: Row | None) -> Seen:
        """Remembers a look row, and the case's if that was read too. Errors: Held."""
        waiting = None
        if look is not None:
            rows.known(look.get("v"), "look", resource)
            try:
                body = await self._tables.body(look)
            except Malformed:
                body = b""
            times = (look.get(name) for name in ("due", "since", "tried"))
            waiting = Waiting(rows.look_of(resource, look["generation"], body), *times)
        seen = replace(self.seen.get(key) or Seen(), look_etag=etag_of(look), waiting=waiting)
        for row in case:
            seen = replace(seen, etag=etag_of(row), open=row is not None and bool(row.get("open")),
                           case_due=row.get("due") if row is not None else None)
        self.remember(key, seen)
        return seen

    async def case(self, row: Row) -> Case:
        return rows.case_of(row.get("v"), row["resource"], etag_of(row), row["seq"], row["head"], await self._tables.body(row))

    def committed(self, key: str, case: Case, records: Sequence[Record], by: str) -> tuple[Case, list[dict[str, Any]]]:
        """The case after `records`, and its rows: that of the case first."""
        stored = append(case.resource, case.seq, case.head, records)
        entities = [{"PartitionKey": key, "RowKey": name, "v": V, "resource": case.resource, **rows.packed(body)}
                    for name, body in rows.record_rows(stored)]
        if entities and not case.seq:
            entities[0]["first"] = True
        case = recorded(case, stored, records, self._tells)
        row = {"PartitionKey": key, "RowKey": "case", "v": V, "resource": case.resource, "seq": case.seq, "head": case.head,
               "open": rows.is_open(case), "by": by, **rows.packed(rows.case_body(case))}
        return case, [row, *entities]

    def remember(self, key: str, seen: Seen) -> None:
        if len(self.seen) >= GUESSES:
            self.seen.clear()
        self.seen[key] = seen


def look_row(key: str, waiting: Waiting, by: str) -> dict[str, Any]:
    times = {"due": waiting.due, "since": waiting.since, "tried": waiting.tried}
    return {"PartitionKey": key, "RowKey": "look", "v": V, "resource": waiting.look.resource, "by": by,
            "generation": waiting.look.generation, **{name: at for name, at in times.items() if at is not None},
            **rows.packed(rows.look_body(waiting.look))}
