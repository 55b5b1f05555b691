"""Budgets: never exceeded by any number of workers, and not begun anew by whoever can write rows and cannot sign (C5)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guardrail.signing import Key, Keys, LocalKey
from guardrail.stores import HOME, Store
from guardrail.stores.azure import BUDGETS, AzureStore, _budget_key
from guardrail.stores.signed import SignedStore
from guardrail.stores.sqlite import SqliteStore
from tests.stores.conftest import OPENERS, Clock

pytestmark = pytest.mark.anyio
BUDGET, WINDOW_S = "blast/sub/storage-https-only/someone", 3600.0


@dataclass
class Rows:
    """The rows, for who writes them by hand; `open` one more worker's store on them."""

    inner: Store
    clock: Clock
    again: Callable[[], Store]
    front: Key = field(default_factory=LocalKey)
    hands: Key = field(default_factory=LocalKey)

    def open(self, part: Any = "hands") -> SignedStore:
        return SignedStore(self.again(), Keys(self.front, self.hands, part), self.clock)

    async def write(self, body: bytes) -> None:
        etag, _ = await self.inner.budget(BUDGET)
        assert await self.inner.set_budget(BUDGET, body, etag)

    async def body(self) -> bytes:
        return (await self.inner.budget(BUDGET))[1]

    async def delete(self) -> None:
        inner: Any = self.inner
        if isinstance(inner, SqliteStore):
            assert inner._db.execute("DELETE FROM state WHERE name = ?", (f"taken {BUDGET}",)).rowcount == 1
        else:
            await inner._tables.remove(BUDGETS, await inner._tables.get(BUDGETS, _budget_key(BUDGET), "taken"))

    async def told(self) -> list[str]:
        found = [json.loads(one.body) for one in await self.inner.records(HOME)]
        return [what for one in found if one["event"] == "audit.broken" for what in one["detail"]["what"]]


@pytest.fixture(params=["sqlite", "azurite"])
async def rows(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, anyio_backend: str) -> AsyncIterator[Rows]:
    async with OPENERS[request.param](request, tmp_path, clock) as open_one:
        yield Rows(open_one(), clock, open_one)


@pytest.mark.threat("R35", "I11")
async def test_a_budget_is_never_exceeded_by_any_number_of_workers(rows: Rows) -> None:
    stores = [rows.open() for _ in range(5)]
    got = await asyncio.gather(*(store.take("blast", 5, 3600) for store in stores * 10))
    assert sum(got) == 5
    rows.clock.forward(3601)
    assert await stores[0].take("blast", 5, 3600, 5)
    assert not await stores[1].take("blast", 5, 3600)
    assert await stores[1].take("blast", 5, 3600, -2)
    assert await stores[2].take("blast", 5, 3600, 2)
    assert not await stores[2].take("blast", 5, 3600)
    assert await stores[2].take("another", 5, 3600)
    assert await rows.told() == []


async def test_a_budget_slides(rows: Rows) -> None:
    store = rows.open()
    for _ in range(2):
        assert await store.take("flapping", 2, 900)
        rows.clock.forward(400)
    assert not await store.take("flapping", 2, 900)
    rows.clock.forward(101)
    assert await store.take("flapping", 2, 900)
    assert not await store.take("flapping", 2, 900)


async def test_a_budget_that_another_gave_back_to_is_not_refused(rows: Rows) -> None:
    store = rows.open()
    assert [await store.take("a", 2, 60) for _ in range(2)] == [True, True]
    assert await rows.open().take("a", 2, 60, -1)
    assert [await store.take("a", 2, 60) for _ in range(2)] == [True, False]


# Written by others

async def emptied(rows: Rows, earlier: bytes) -> None:
    await rows.write(json.dumps({**json.loads(await rows.body()), "taken": []}).encode())


async def of_another_time(rows: Rows, earlier: bytes) -> None:
    one = json.loads(await rows.body())
    await rows.write(json.dumps({**one, "taken": [at - 1800 for at in one["taken"]]}).encode())


async def counted_on(rows: Rows, earlier: bytes) -> None:
    await rows.write(json.dumps({**json.loads(earlier), "n": 99}).encode())


async def unreadable(rows: Rows, earlier: bytes) -> None:
    await rows.write(b"[]")


async def anothers(rows: Rows, earlier: bytes) -> None:
    """The row of a budget that nothing was ever taken of, signed by hands."""
    store = rows.open()
    assert await store.take("blast/other", 1, WINDOW_S)
    assert await store.take("blast/other", 1, WINDOW_S, -1)
    await rows.write((await rows.inner.budget("blast/other"))[1])


async def by_front(rows: Rows, earlier: bytes) -> None:
    """Who has front's key says nothing for hands."""
    await rows.delete()
    assert await rows.open("front").take(BUDGET, 1, WINDOW_S)


async def put_back(rows: Rows, earlier: bytes) -> None:
    await rows.write(earlier)


async def deleted(rows: Rows, earlier: bytes) -> None:
    await rows.delete()


Forge = Callable[[Rows, bytes], Awaitable[None]]
NEEDS_MEMORY = (put_back, deleted)      # signed as it was, or absent as of a new actor: only who saw it later can tell


@pytest.mark.threat("C5")
@pytest.mark.parametrize("forge", [emptied, of_another_time, counted_on, unreadable, anothers, by_front, *NEEDS_MEMORY])
async def test_who_cannot_sign_begins_no_budget_anew(forge: Forge, rows: Rows) -> None:
    """Told, and used up for a window from when it was found, however large the limit; then it counts again."""
    store = rows.open()
    assert await store.take(BUDGET, 3, WINDOW_S)
    earlier = await rows.body()
    assert [await store.take(BUDGET, 3, WINDOW_S) for _ in range(3)] == [True, True, False]
    await forge(rows, earlier)
    rows.clock.forward(1)
    workers = [store] if forge in NEEDS_MEMORY else [rows.open(), store]
    for worker in workers:
        assert not await worker.take(BUDGET, 3, WINDOW_S)
        assert not await worker.take(BUDGET, 500, WINDOW_S), "nor the share of what is known"
    assert await rows.told() == [f"budget {BUDGET}"]
    rows.clock.forward(WINDOW_S - 1)
    assert not await rows.open().take(BUDGET, 3, WINDOW_S)
    rows.clock.forward(2)
    assert [await rows.open().take(BUDGET, 2, WINDOW_S) for _ in range(3)] == [True, True, False]
    assert await rows.told() == [f"budget {BUDGET}"]


@pytest.mark.threat("C5")
@pytest.mark.parametrize("forge", NEEDS_MEMORY)
async def test_a_worker_that_never_saw_the_row_believes_it_once(forge: Forge, rows: Rows) -> None:
    """What is left: the next time that worker finds it."""
    store = rows.open()
    assert await store.take(BUDGET, 2, WINDOW_S)
    earlier = await rows.body()
    assert [await store.take(BUDGET, 2, WINDOW_S) for _ in range(2)] == [True, False]
    await forge(rows, earlier)
    fresh = rows.open()
    assert await fresh.take(BUDGET, 2, WINDOW_S)
    assert await rows.told() == []
    await forge(rows, earlier)
    assert not await fresh.take(BUDGET, 2, WINDOW_S)
    assert await rows.told() == [f"budget {BUDGET}"]


async def test_what_front_counts_hands_believe_and_the_other_way_round(rows: Rows) -> None:
    front, hands = rows.open("front"), rows.open()
    assert await front.take("refused/someone/role", 2, 600)
    assert await hands.take("refused/someone/role", 2, 600)
    assert not await front.take("refused/someone/role", 2, 600)
    assert await rows.told() == []


async def test_one_process_tells_once_an_hour_however_often_it_is_written(rows: Rows) -> None:
    store = rows.open()
    for _ in range(3):
        assert await store.take(BUDGET, 9, WINDOW_S) in (True, False)
        await rows.write(b"{")
    assert not await store.take(BUDGET, 9, WINDOW_S)
    assert await rows.told() == [f"budget {BUDGET}"]


async def test_a_cold_take_of_a_new_budget_is_one_round_trip(azurite: Any, clock: Clock) -> None:
    account, key = azurite.account(), LocalKey()
    async with account.stores(clock) as open_one:
        inner: AzureStore = open_one()
        store = SignedStore(inner, Keys(key, key), clock)
        assert [await store.take("flapping", 2, 60) for _ in range(2)] == [True, True]
        assert [one for one in account.requests if "budgets" in one or "batch" in one] == ["POST $batch"] * 2
