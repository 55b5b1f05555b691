"""Budgets over a store's rows: how much was taken of each in a sliding window, signed, and taken by compare-and-swap.

A row that does not verify, or is older than one that this process has seen, or is gone since, was written by others: it is
told, counts as used up, and is begun anew, used up for a window more (C5).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from guardrail import signing
from guardrail.errors import StoreDown
from guardrail.signing import Keys
from guardrail.stores import TRIES, Store, spread, window
from guardrail.values import to_json

SEEN = 10_000                               # budgets that are remembered
FRONTS = ("refused/", "own", "probe")       # what front takes of, and may sign; the rest only hands


class Taken(msgspec.Struct, frozen=True):
    n: int = 0                              # of the write, by the clock in ms, and more than that of the one before
    taken: tuple[float, ...] = ()           # seconds since 1970
    broken: float | None = None             # when it was found to be another's
    signature: str = ""


EMPTY = Taken()


@dataclass(frozen=True, slots=True)
class Seen:
    """What this process knows of a row, by its last read or write."""

    etag: str = ""
    row: Taken = EMPTY


class Budgets:
    """`tell`: called with what does not verify, and why, before the row is written over."""

    def __init__(self, store: Store, keys: Keys, clock: Callable[[], datetime],
                 tell: Callable[[str, str], Awaitable[None]]) -> None:
        self._store, self._keys, self._clock, self._tell = store, keys, clock, tell
        self._seen = dict[str, Seen]()

    async def take(self, budget: str, limit: int, window_s: float, count: int = 1) -> bool:
        """Whether `count` more fit under `limit` in the sliding window; taken if so. A negative count gives back.

        Errors: StoreDown; Held for a row of a newer version.
        """
        now, row, mine = self._clock().timestamp(), Taken(), b""
        seen, is_read = self._seen.get(budget, Seen()), False
        for turn in TRIES:
            left = None
            if seen.row.broken is None or seen.row.broken <= now - window_s or count < 0:
                left = window(seen.row.taken, now, limit, window_s, count)
            if left is not None:
                row, mine = await self._signed(budget, Taken(_next(seen.row.n, now), tuple(left), seen.row.broken))
                if etag := await self._store.set_budget(budget, mine, seen.etag):
                    self._remember(budget, Seen(etag, row))
                    return True
                await spread(turn)
            elif is_read:
                return False
            least = self._seen.get(budget, Seen()).row.n        # before it is read: others here go on writing
            etag, body = await self._store.budget(budget)
            if mine and body == mine:
                self._remember(budget, Seen(etag, row))
                return True         # only the answer was lost
            found = await self._verified(budget, body)
            if found is None or found.n < least:
                await self._tell(f"budget {budget}", "its row is not the one that was kept: it counts as used up")
                row, body = await self._signed(budget, Taken(_next(max(least, found.n if found else 0), now), broken=now))
                etag, found = await self._store.set_budget(budget, body, etag), row
                if not etag:
                    continue
            seen, is_read = Seen(etag, found), True
            self._remember(budget, seen)
        raise StoreDown(f"budget {budget}: others write faster")

    def _remember(self, budget: str, seen: Seen) -> None:
        if len(self._seen) >= SEEN:
            self._seen.clear()
        if seen.row.n >= self._seen.get(budget, Seen()).row.n:
            self._seen[budget] = seen

    async def _signed(self, budget: str, row: Taken) -> tuple[Taken, bytes]:
        key = self._keys.front if self._keys.part == "front" else self._keys.hands
        row = msgspec.structs.replace(row, signature=await key.sign(signing.budget(budget, row.n, row.taken, row.broken)))
        return row, to_json(row)

    async def _verified(self, budget: str, body: bytes) -> Taken | None:
        """The row; an empty one where none is; None for one that only somebody else can have written."""
        if not body:
            return Taken()
        try:
            row = msgspec.json.decode(body, type=Taken)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        payload = signing.budget(budget, row.n, row.taken, row.broken)
        is_ours = await self._keys.hands.verify(payload, row.signature)
        if not is_ours and budget.startswith(FRONTS):
            is_ours = await self._keys.front.verify(payload, row.signature)
        return row if is_ours else None


def _next(n: int, now: float) -> int:
    """Beyond what other processes have seen too, though the row that said it is gone."""
    return max(n + 1, int(now * 1000))
