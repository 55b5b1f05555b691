"""The store against its anchors: one that was put back by somebody is not obeyed (C4).

By each anchor, and once by each process before its first write: most processes never run `tend`, which is one's for all.
"""

from __future__ import annotations

from datetime import timedelta

from guardrail import anchors, switches
from guardrail.errors import Malformed, Stale
from guardrail.ids import ResourceId
from guardrail.turn import Engine

LONG = timedelta(seconds=2)


async def check(engine: Engine, only: ResourceId | None = None) -> tuple[anchors.Heads | None, str]:
    """Where the chains end, and "" or what is older than the anchors say; then report-only, until people raise the switch.

    `only`: this resource's chain and our own, instead of all. None: an anchor cannot be read. Errors: StoreDown.
    """
    heads, why = None, ""
    try:
        heads = await anchors.heads(engine.store, whole=not engine.is_checked, only=only)
        why = heads.rolled_back
        rules = await engine.store.rules()
        if not why and heads.rules_at and (rules.at is None or rules.at < heads.rules_at):
            why = "the row of the switch is older than the newest anchor, or gone"
    except Malformed as error:
        why = str(error)
    if why:
        await switches.distrust(engine, why)
    return heads, why


async def refuse_older(engine: Engine, resource: ResourceId) -> None:
    """Before a write: a process asks once whether the store, or this resource's part of it, was put back.

    Errors: Stale if it was, or if asking took so long that the resource is read again; and as `check`.
    """
    if engine.is_compared:
        return
    began = engine.clock()
    _, why = await check(engine, resource)
    engine.is_compared = True
    if why or engine.clock() - began > LONG:
        raise Stale(why or "the anchors were slow to answer")
