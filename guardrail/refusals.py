"""Who asked for what they may not, or not any more: an attempt is on record as a deed is (D1), and moves nothing.

But for a yes that comes too late (R21): what it was for ends at once, so that it is asked again, louder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from guardrail import logs
from guardrail.authorize import Person
from guardrail.errors import GuardrailError, Refused, Stale
from guardrail.ids import ResourceId
from guardrail.paths import fold
from guardrail.stores import HOME
from guardrail.turn import Engine, Turn
from guardrail.values import Look, Record

MARGIN = timedelta(seconds=30)              # an approval this close to its end comes too late
RECORDED = ("four-eyes", "role", "scope", "app-only", "guest", "twice", "expired")     # of the person; the rest is logged
AGAIN_S = 600.0                             # one record a person, resource and code in this time
TRIES = 3


@asynccontextmanager
async def attempt(engine: Engine, resource: ResourceId, what: str, who: Person, action_id: str = "") -> AsyncIterator[None]:
    """Around the checks of what a person asks for. Errors: those of the checks, after they are on record."""
    try:
        yield
    except Refused as error:
        await note(engine, resource, what, who, error, action_id)
        if (what, error.code) == ("approve", "expired"):
            await _end_late(engine, resource)
        raise


async def note(engine: Engine, resource: ResourceId, what: str, who: Person, error: Refused, action_id: str = "") -> None:
    """In the chain of the resource, of the installation if it has none yet. A log line at least, whatever fails."""
    detail = {"what": what, "code": error.code, "why": str(error), "action_id": action_id}
    record = Record("person.refused", engine.clock(), who.object_id, "", engine.ceiling, engine.policy.hash, detail)
    with suppress(GuardrailError):
        if error.code in RECORDED:
            resource = resource if (await engine.store.load(resource))[0].seq else HOME
            if await engine.store.take(f"refused/{fold(who.object_id)}/{fold(resource)}/{error.code}", 1, AGAIN_S):
                await _commit(engine, resource, record)
    logs.told(record, resource)
    if error.code == "clock":
        logs.line("clock.skewed", resource_id=resource, skew_s=round(engine.store.skew_s, 1))


async def _commit(engine: Engine, resource: ResourceId, record: Record) -> None:
    for _ in range(TRIES):
        case, _look = await engine.store.load(resource)
        with suppress(Stale):
            await engine.store.commit(case, record)
            return


async def _end_late(engine: Engine, resource: ResourceId) -> None:
    """Somebody would decide, a little too late: not in a day, but now it is asked again."""
    turn = await Turn.begin(engine, resource)
    asked = turn.case.asked
    if asked is None or asked.asked_by or engine.is_skewed:
        return
    if asked.state == "proposed" and asked.expires is not None and turn.now > asked.expires - MARGIN:
        asked = turn.moves(asked, "expired", why="nobody decided in time")
    if asked.state == "expired":
        turn.case = replace(turn.case, asked=replace(asked, expires=turn.now))
        with suppress(Stale):       # somebody was faster
            await turn.commit(answered=False)
            await engine.store.send(Look(resource, "person"))
