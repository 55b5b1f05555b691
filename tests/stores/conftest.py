"""The stores that the contract suite runs on. A store joins by an entry in OPENERS; nothing else here knows one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from guardrail.signing import Keys, LocalKey
from guardrail.stores import Store
from guardrail.stores.signed import SignedStore
from guardrail.stores.sqlite import SqliteStore


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 19, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


Open = Callable[..., Store]     # opens the same store once more, as another worker would; options are both stores'
Opener = Callable[[pytest.FixtureRequest, Path, Clock], AbstractAsyncContextManager[Open]]


@asynccontextmanager
async def sqlite(request: pytest.FixtureRequest, place: Path, clock: Clock) -> AsyncIterator[Open]:
    opened: list[Store] = []

    def open_one(**options: Any) -> Store:
        opened.append(SqliteStore(place / "guardrail.db", clock, durable=False, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@asynccontextmanager
async def signed(request: pytest.FixtureRequest, place: Path, clock: Clock) -> AsyncIterator[Open]:
    """What every worker has: the same file, and around it who signs and verifies."""
    key = LocalKey(place / "guardrail.key")
    async with sqlite(request, place, clock) as open_one:
        yield lambda **options: SignedStore(open_one(**options), Keys(key, key), clock)


@asynccontextmanager
async def azurite(request: pytest.FixtureRequest, place: Path, clock: Clock) -> AsyncIterator[Open]:
    async with request.getfixturevalue("azurite").account().stores(clock) as open_one:
        yield open_one


@dataclass(frozen=True)
class Scale:
    """How much of the same a test does: an emulator answers in 10 ms, a file in a tenth of one."""

    step_s: float       # between two events of a flood
    cases: int
    rejects: int
    turns: int          # of each of eight writers
    steps: int          # of a random walk


SCALES = {"sqlite": Scale(0.1, 450, 300, 12, 300), "signed": Scale(0.1, 450, 300, 12, 300),
          "azurite": Scale(1.0, 40, 130, 4, 60)}
OPENERS: dict[str, Opener] = {"sqlite": sqlite, "signed": signed, "azurite": azurite}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=list(OPENERS))
async def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock, anyio_backend: str) -> AsyncIterator[Open]:
    async with OPENERS[request.param](request, tmp_path, clock) as open_one:
        yield open_one


@pytest.fixture
def scale(request: pytest.FixtureRequest, reopen: Open) -> Scale:
    return SCALES[request.node.callspec.params["reopen"]]


@pytest.fixture
def store(reopen: Open) -> Store:
    return reopen()
