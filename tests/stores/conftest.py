"""The stores that the contract suite runs on. A store joins by an entry in OPENERS; nothing else here knows one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from guardrail.stores import Store
from guardrail.stores.sqlite import SqliteStore


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 19, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


Open = Callable[[], Store]
OPENERS: dict[str, Callable[[Path, Clock], Store]] = {
    "sqlite": lambda place, clock: SqliteStore(place / "guardrail.db", clock, durable=False),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=list(OPENERS))
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Open]:
    """Opens the same store once more, as another worker would."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(OPENERS[request.param](tmp_path, clock))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Open) -> Store:
    return reopen()
