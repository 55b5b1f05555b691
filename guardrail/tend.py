"""Each minute: what is due is looked at again, message or not; heads are anchored, forgeries and a wrong clock told of."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

from guardrail import anchors, checked, forged, logs, probe, switches, wishes
from guardrail.errors import Stale
from guardrail.stores import HOME
from guardrail.sweep import is_under_way, sweep
from guardrail.turn import Engine, Turn
from guardrail.values import Case, Look, Record

ANCHOR_EVERY = timedelta(minutes=5)
SKEW_TOLD_S = 3600.0
WALK_EVERY_S = 3600.0


async def tend(engine: Engine, *, probes: bool = False) -> list[Case]:
    """Rows are the truth and messages a nudge: this nudges again. Returns the cases with something to tell people.

    `probes`: the event path is to be proven, which writes a tag.
    Errors: StoreDown.
    """
    now = engine.clock()
    if not engine.is_checked:           # before anything is sent, as far as a worker's first minute allows
        await checked.check(engine)
        engine.is_checked = engine.is_compared = True
    await switches.expire(engine)
    await switches.remind(engine)
    await _tell_skew(engine, now)
    if await engine.store.take(f"walk/{HOME}", 1, WALK_EVERY_S):
        await _look_for_forged(engine)
    asked, untold = False, list[Case]()
    async for case in engine.store.due():
        await _tell_forged(engine, case)
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
    await probe.tend(engine, is_on=probes)
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


async def _look_for_forged(engine: Engine) -> None:
    """Each hour, whatever is due: a row that others wrote into may name no time."""
    async for case in engine.store.open_cases():
        await _tell_forged(engine, case)


async def _tell_forged(engine: Engine, case: Case) -> None:
    if case.stuck and not case.etag:        # it cannot be read
        await forged.tell(engine, f"row of {case.resource}", case.stuck)
    if case.forged:
        with contextlib.suppress(Stale):        # whoever was faster has seen it
            await Turn.begin(engine, case.resource)


async def anchor(engine: Engine, now: datetime) -> None:
    """Writes the root over all chain heads where the records cannot be rewritten with it, after a look at the last one."""
    heads, _ = await checked.check(engine)
    if heads is not None:
        await anchors.write(engine.store, now, heads, (await engine.store.rules()).at)
