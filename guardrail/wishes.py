"""What people ask of hands, for the front may not read Azure: rows that the next look, or the next tend, answers.

The front decides who may ask; hands read, and then ask, act or refuse as if the person stood there.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from guardrail import people
from guardrail.authorize import Person, authorize
from guardrail.errors import Refused, Stale
from guardrail.ids import ResourceId
from guardrail.refusals import attempt
from guardrail.stores import HOME
from guardrail.turn import Engine, Turn
from guardrail.values import Case, Record, Wish

FOR = timedelta(hours=1)        # what hands did not get to by then is to be asked anew


async def look(engine: Engine, resource: ResourceId, who: Person, reason: str) -> None:
    """The resource is read anew, whole; a failed action of it is tried again. Errors: Refused."""
    authorize(who, "look", resource, engine.policy)
    people.guarded_type(engine, resource)
    await people.leave(await Turn.begin(engine, resource), who, "look", reason)


async def wish(engine: Engine, resource: ResourceId, what: Literal["quarantine", "undo"], who: Person, reason: str,
               action_id: str = "") -> None:
    """`people.quarantine` and `people.undo` for who may not read Azure. Errors: Refused, as far as the store tells."""
    async with attempt(engine, resource, what, who, action_id):
        authorize(who, "quarantine" if what == "quarantine" else "rollback", resource, engine.policy)
    people.guarded_type(engine, resource)
    if what == "undo":
        await people.verified_plan(engine, resource, action_id)
    turn = await Turn.begin(engine, resource)
    others = tuple(one for one in turn.case.wishes if one.what != what)
    turn.case = replace(turn.case, wishes=(*others, Wish(what, who.object_id, turn.now, reason, action_id)))
    await people.leave(turn, who, what, reason, action_id)


async def grant(engine: Engine, case: Case) -> bool:
    """Answers a case's wishes: each becomes the action that it asks for, or a record of why not.

    False: one waits on, for another action is at work. Errors: Retryable, StoreDown.
    """
    for wanted in case.wishes:
        try:
            _refuse_late(engine, wanted)
            await (people.isolate if wanted.what == "quarantine" else people.take_back)(engine, case.resource, wanted)
        except Refused as error:
            if error.code in ("busy", "decided"):
                return False
            turn = await Turn.begin(engine, case.resource)
            turn.case = replace(turn.case, wishes=tuple(one for one in turn.case.wishes if one != wanted))
            turn.by = wanted.by
            turn.note("wish.refused", what=wanted.what, action_id=wanted.action, why=str(error), reason=wanted.reason)
            await turn.commit(answered=False)
    return True


def _refuse_late(engine: Engine, wanted: Wish) -> None:
    if engine.clock() - wanted.at > FOR:
        raise Refused("expired", "hands did not get to it within an hour")


async def sweep(engine: Engine, who: Person, reason: str) -> None:
    """The next `tend` sweeps, whatever the hour. Errors: Refused."""
    authorize(who, "look", None, engine.policy)
    case, _ = await engine.store.load(HOME)
    wanted = Wish("sweep", who.object_id, engine.clock(), reason)
    detail = {"what": "sweep", "reason": reason}
    record = Record("wish.made", wanted.at, wanted.by, "", engine.ceiling, engine.policy.hash, detail)
    try:
        await engine.store.commit(replace(case, wishes=(wanted,)), record)
    except Stale as error:
        raise Refused("decided", "somebody was faster: try again") from error


async def wants_sweep(engine: Engine, case: Case) -> bool:
    """Whether our own case asks for a sweep; the wish is taken out."""
    if not case.wishes:
        return False
    with contextlib.suppress(Stale):        # something was recorded meanwhile: the next minute, then
        await engine.store.commit(replace(case, wishes=()))
        return True
    return False
