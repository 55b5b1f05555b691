"""Each minute: what is due is looked at again, message or not, and the heads of all chains are anchored."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

from guardrail import audit, logs, switches, wishes
from guardrail.errors import Stale
from guardrail.stores import HOME
from guardrail.sweep import is_under_way, sweep
from guardrail.turn import Engine
from guardrail.values import Case, Look, Record

ANCHOR_EVERY = timedelta(minutes=5)
SKEW_TOLD_S = 3600.0


async def tend(engine: Engine) -> list[Case]:
    """Rows are the truth and messages a nudge: this nudges again. Returns the cases with something to tell people.

    Errors: StoreDown.
    """
    now = engine.clock()
    await switches.expire(engine)
    await switches.remind(engine)
    await _tell_skew(engine, now)
    asked, untold = False, list[Case]()
    async for case in engine.store.due():
        if case.resource == HOME:
            asked = await wishes.wants_sweep(engine, case) or is_under_way(case)
        elif case.due is not None and case.due <= now and not case.stuck:     # those the sweep looks at, hourly
            await engine.store.send(Look(case.resource, "due"))
        if case.outbox:
            untold.append(case)
    await engine.store.nudge()
    if await engine.store.take(f"anchor/{HOME}", 1, ANCHOR_EVERY.total_seconds()):
        with contextlib.suppress(Stale):        # another worker was faster
            await anchor(engine, now)
    if asked:
        await sweep(engine)
    return untold


async def _tell_skew(engine: Engine, now: datetime) -> None:
    """Our clock, or the store's, is wrong: hourly on record, for people to see (R26)."""
    if engine.is_skewed and await engine.store.take(f"skewed/{HOME}", 1, SKEW_TOLD_S):
        case, _ = await engine.store.load(HOME)
        detail = {"skew_s": round(engine.store.skew_s, 1)}
        record = Record("clock.skewed", now, "guardrail", "", engine.ceiling, engine.policy.hash, detail)
        with contextlib.suppress(Stale):        # something else was recorded meanwhile
            await engine.store.commit(case, record)
        logs.told(record, HOME)


async def anchor(engine: Engine, now: datetime) -> None:
    """Writes the root over all chain heads where the records cannot be rewritten with it."""
    await audit.anchor(engine.store, now)
