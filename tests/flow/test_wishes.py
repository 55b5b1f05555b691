"""What people leave to hands where the front may not read Azure: rows that the next look or the next tend answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrail import people, wishes
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.stores import HOME
from guardrail.values import Look
from tests.flow.test_loop import OPEN, STORAGE
from tests.flow.test_people import APPROVER, ENGINEER, ONCALL, POLICY, asked, person
from tests.flow.world import DEV, PROD, World, world

pytestmark = pytest.mark.anyio
OUTSIDE = ResourceId("/subscriptions/00000000-0000-0000-0000-0000000000ff/resourceGroups/g/providers/Microsoft.Storage/"
                     "storageAccounts/x")


async def standing(here: World, subscription: str) -> ResourceId:
    """An account that was looked at, and stands open to whoever has its keys."""
    id = here.stands(STORAGE, subscription=subscription)
    here.sim.mutate(id, lambda body: {**body, "properties": {**body["properties"], "allowSharedKeyAccess": True}})
    await here.guardrail.store.send(Look(id, "sweep"))
    await here.settle()
    return id


async def test_asking_reads_nothing_and_hands_isolate(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY, switch="report") as here:
        id = await standing(here, DEV)
        await here.rules(switch="policy")
        before = len(here.sim.log)
        await wishes.wish(here.guardrail.engine, id, "quarantine", ONCALL, "keys may have leaked")
        assert len(here.sim.log) == before, "whoever asks reads nothing of Azure"
        assert [one.what for one in (await here.case(id)).wishes] == ["quarantine"]
        here.clock.forward(10)
        await here.settle()
        assert (await here.case(id)).wishes == ()
        events = await here.events_of(id)
        assert "wish.made" in events and "action.approved" in events
        assert "resource.quarantined" in events
        now = here.show(id)["properties"]
        assert (now["networkAcls"]["defaultAction"], now["allowSharedKeyAccess"]) == ("Deny", False)
        record = next(one for one in await here.records(id)
                      if one["event"] == "action.proposed" and one["detail"]["kind"] == "isolate")
        assert (record["actor"], record["detail"]["reason"]) == (ONCALL.object_id, "keys may have leaked")


async def test_a_quarantine_by_hand_cuts_off_and_its_release_puts_back(tmp_path: Path) -> None:
    """Outside production one person is enough for both, and nobody's control has to find anything."""
    async with world(tmp_path, POLICY, switch="report") as here:
        id = await standing(here, DEV)
        await here.rules(switch="policy")
        before = here.show(id)["properties"]
        action = await people.quarantine(here.guardrail.engine, id, ONCALL, "keys may have leaked")
        await here.settle()
        assert "resource.quarantined" in await here.events_of(id)
        assert here.show(id)["properties"]["allowSharedKeyAccess"] is False
        back = await people.undo(here.guardrail.engine, id, action.id, ONCALL, "all clear")
        assert (back.state, back.plan.kind) == ("approved", "undo")
        await here.settle()
        assert {name: here.show(id)["properties"].get(name) for name in before} == before


async def test_in_production_a_wish_becomes_an_ask(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        engine = here.guardrail.engine
        await people.approve(engine, id, action.id, action.plan.hash, APPROVER, "yes")
        await here.settle()
        writes = len(here.ours)
        await wishes.wish(engine, id, "undo", ONCALL, "the demo needs it", action.id)
        here.clock.forward(10)
        await here.settle()
        waiting = (await here.case(id)).asked
        assert waiting is not None and (waiting.plan.kind, waiting.asked_by) == ("undo", ONCALL.object_id)
        assert len(here.ours) == writes
        with pytest.raises(Refused, match="asked for it"):
            await people.approve(engine, id, waiting.id, waiting.plan.hash, ONCALL, "me too")


async def test_what_hands_refuse_is_on_record(tmp_path: Path) -> None:
    """Isolated already: there is nothing to do, and the record says so."""
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE)
        here.sim.mutate(id, lambda body: {**body, "properties": {
            **body["properties"], "publicNetworkAccess": "Disabled", "allowSharedKeyAccess": False}})
        await here.guardrail.store.send(Look(id, "sweep"))
        await here.settle()
        await wishes.wish(here.guardrail.engine, id, "quarantine", ONCALL, "again")
        here.clock.forward(10)
        await here.settle()
        case = await here.case(id)
        assert case.wishes == () and case.asked is None
        refused = [one for one in await here.records(id) if one["event"] == "wish.refused"]
        assert [(one["actor"], one["detail"]["reason"]) for one in refused] == [(ONCALL.object_id, "again")]


async def test_a_wish_that_comes_too_late_is_refused(tmp_path: Path) -> None:
    """Hands were down: what somebody wanted an hour ago is asked anew, not done."""
    async with world(tmp_path, POLICY) as here:
        id = await standing(here, DEV)
        writes = len(here.ours)
        await wishes.wish(here.guardrail.engine, id, "quarantine", ONCALL, "now")
        here.clock.forward(3601)
        await here.settle()
        why = [one["detail"]["why"] for one in await here.records(id) if one["event"] == "wish.refused"]
        assert why == ["hands did not get to it within an hour"] and len(here.ours) == writes


async def test_a_lost_look_only_delays_a_wish(tmp_path: Path) -> None:
    """R29: the row is the truth; tend nudges it within two minutes."""
    async with world(tmp_path, POLICY) as here:
        id = await standing(here, DEV)
        await wishes.wish(here.guardrail.engine, id, "quarantine", ONCALL, "now")
        case, look = await here.guardrail.store.load(id)
        assert look is not None
        await here.guardrail.store.commit(case, answered=look)
        assert (await here.case(id)).wishes
        await here.forward(120)
        assert (await here.case(id)).wishes == ()


async def test_no_look_takes_back_what_a_person_asked_for(tmp_path: Path) -> None:
    """Sweeps, other drift and the fix that it would ask for do not; its own end does, and then the fix is asked for."""
    async with world(tmp_path, POLICY) as here:
        id, _ = await asked(here)
        mine = await people.quarantine(here.guardrail.engine, id, ONCALL, "keys may have leaked")
        assert mine.state == "proposed"
        here.clock.forward(10)
        await here.settle()
        here.write("PATCH", id, {"properties": {"allowCrossTenantReplication": True}})
        await here.forward(3600, step=600)
        waiting = (await here.case(id)).asked
        assert waiting is not None and waiting.id == mine.id
        await here.forward(8 * 3600, step=3600)
        await here.guardrail.sweep()
        await here.settle()
        events = await here.events_of(id)
        waiting = (await here.case(id)).asked
        assert "action.expired" in events and waiting is not None and waiting.asked_by == ""


@pytest.mark.threat("B7", "D3")
@pytest.mark.parametrize(("what", "who", "id", "code"), [
    ("quarantine", APPROVER, None, None), ("quarantine", person("approver", "Approver"), None, "role"),
    ("quarantine", person("oncall", is_person=False), None, "app-only"), ("quarantine", ONCALL, OUTSIDE, "unknown"),
    ("undo", ENGINEER, None, "unknown"), ("look", person("x", "Approver"), None, "role"), ("look", ONCALL, OUTSIDE, "unknown"),
])
async def test_who_may_not_ask_leaves_no_row(
        what: str, who: object, id: ResourceId | None, code: str | None, tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id = id or here.stands(STORAGE, subscription=PROD)
        engine = here.guardrail.engine
        call = wishes.look(engine, id, who, "why") if what == "look" else wishes.wish(engine, id, what, who, "why", "act-0")
        if code is None:
            await call
            assert (await here.case(id)).wishes
            return
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.code == code
        assert (await here.case(id)).wishes == () and await here.records(id) == []


async def test_a_look_and_a_sweep_are_rows_too(tmp_path: Path) -> None:
    """Nobody waits for the hour: tend sweeps once, and only once."""
    async with world(tmp_path, POLICY, switch="report") as here:
        id = here.stands(STORAGE)
        here.sim.mutate(id, lambda body: {**body, "properties": {**body["properties"], **OPEN["properties"]}})
        before = len(here.sim.log)
        await wishes.sweep(here.guardrail.engine, ONCALL, "after the outage")
        assert len(here.sim.log) == before
        await here.forward(180, step=60)
        assert (await here.case(id)).findings
        events = await here.events_of(HOME)
        assert (events.count("wish.made"), events.count("sweep.finished")) == (1, 1)
        assert (await here.case(HOME)).wishes == ()
        await wishes.look(here.guardrail.engine, id, ONCALL, "what is it now")
        await here.settle()
        assert (await here.events_of(id)).count("wish.made") == 1
        assert [look async for look in here.guardrail.store.looks()] == []
