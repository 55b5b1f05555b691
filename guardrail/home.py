"""What the installation remembers of itself: small values in `good` of its own case, and records in its own chain.

Changed by compare-and-swap, for rejects, anchors, rules and several workers write to the same row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from guardrail import logs
from guardrail.errors import Busy, Stale
from guardrail.stores import HOME
from guardrail.turn import Engine
from guardrail.values import Case, Record

TRIES = 10


async def recall(engine: Engine, name: str) -> Mapping[str, Any]:
    """What was kept under `name`; empty if nothing was."""
    case, _ = await engine.store.load(HOME)
    return _kept(case, name)


async def keep(engine: Engine, change: Callable[[Case], tuple[Case, Sequence[Record]]]) -> None:
    """The installation's case as `change` makes it, with its records. Errors: Busy, StoreDown, and `change`'s own."""
    for _ in range(TRIES):
        before, _look = await engine.store.load(HOME)
        case, records = change(before)
        with contextlib.suppress(Stale):
            await engine.store.commit(case, *records)
            for record in records:
                logs.told(record, HOME)
            return
    raise Busy("the installation's own row keeps moving", after_s=15)


async def count(engine: Engine, name: str, more: int) -> None:
    """Adds to a number that is kept under `name` with the time of its last change: {"count", "last"}. Errors: as `keep`."""
    def add(case: Case) -> tuple[Case, Sequence[Record]]:
        known = _kept(case, name).get("count", 0)
        return with_kept(case, **{name: {"count": known + more, "last": engine.clock().isoformat()}}), []

    if more:
        await keep(engine, add)


def with_kept(case: Case, **values: Mapping[str, Any]) -> Case:
    """The case that keeps these values; an empty one is forgotten."""
    kept = {name: value for name, value in {**case.good, **values}.items() if value}
    return replace(case, good=kept)


def _kept(case: Case, name: str) -> Mapping[str, Any]:
    found = case.good.get(name)
    return found if isinstance(found, Mapping) else {}


def record(engine: Engine, event: str, by: str = "guardrail", **detail: Any) -> Record:
    """A record of the installation, for `keep`."""
    return Record(event, engine.clock(), by, "", engine.ceiling, engine.policy.hash, detail)
