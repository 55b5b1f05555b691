"""What does not verify is told: a page, once an hour for each thing and process, and a record that says what it was."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from guardrail import logs
from guardrail.errors import Refused, Stale
from guardrail.ids import ResourceId, subscription
from guardrail.stores import HOME
from guardrail.stores.signed import broken
from guardrail.values import Look, Record

if TYPE_CHECKING:
    from guardrail.turn import Engine, Turn

AGAIN = timedelta(hours=1)
TRIES = 5


async def tell(engine: Engine, what: str, why: str) -> None:
    """A line that pages somebody, and a record in the installation's chain. Errors: StoreDown."""
    if not _is_news(engine, what):
        return
    record = Record("audit.broken", engine.clock(), "guardrail", "", engine.ceiling, engine.policy.hash,
                    {"what": [what], "why": why})
    logs.told(record, HOME)
    for _ in range(TRIES):
        case, _look = await engine.store.load(HOME)
        with contextlib.suppress(Stale):        # a reject or an anchor was recorded meanwhile
            await engine.store.commit(case, record)
            return


async def go_on_without(turn: Turn) -> None:
    """A row of which something did not verify: kept as it was verified, recorded, and the resource looked at anew.

    Errors: Stale; Refused in front, where only hands can say what was forged: then they are told to look.
    """
    engine, resource = turn.engine, turn.case.resource
    record = replace(broken(turn.case, turn.now), mode=turn.mode, policy_hash=engine.policy.hash)
    try:
        turn.case = await engine.store.commit(turn.case, record)
        logs.told(record, resource)
    except Refused:
        if _is_news(engine, resource):
            logs.told(record, resource)
        await _look(engine, resource)
        raise
    await _look(engine, resource)


def _is_news(engine: Engine, what: str) -> bool:
    """Whether this process has not told it within the hour. Not a budget of the store: who writes there would use it up."""
    before, now = engine.told.get(what), engine.clock()
    if before is not None and now - before < AGAIN:
        return False
    engine.told[what] = now
    return True


async def _look(engine: Engine, resource: ResourceId) -> None:
    if subscription(resource) in engine.subscriptions:      # not our own row
        await engine.store.send(Look(resource, "due"))
