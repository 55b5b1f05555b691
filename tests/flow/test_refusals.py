"""Attempts that are refused stand on record; what comes too late, and what nobody decides, is asked again, louder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from console import views
from guardrail import people, switches, wishes
from guardrail.authorize import Person
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.policy_schema import Exemption, Freeze
from guardrail.stores import HOME
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Look
from simulator.identity import actor
from tests.flow.test_loop import OPEN, STORAGE
from tests.flow.test_people import APPROVER, ENGINEER, ONCALL, POLICY, asked, person, unmoved
from tests.flow.world import PROD, World, world

pytestmark = pytest.mark.anyio
MINUTE, HOUR = 60, 3600
ROBOT = person("deploy-pipeline", "Approver", "Operator", "Administrator", is_person=False)
READER = person("oncall", "Reader")


async def refused(here: World, id: ResourceId) -> list[Any]:
    return [one for one in await here.records(id) if one["event"] == "person.refused"]


async def tried(call: Any, code: str) -> None:
    with pytest.raises(Refused) as error:
        await call
    assert error.value.code == code


@pytest.mark.threat("D1", "D3", "D4")
@pytest.mark.parametrize("what", ["approve", "reject", "quarantine", "undo", "settle", "retry", "wish"])
async def test_who_may_not_is_on_record_in_the_resources_chain(what: str, tmp_path: Path) -> None:
    """An application, with every role there is: who, what, why, and nothing else has moved."""
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        engine, before = here.guardrail.engine, await here.case(id)
        calls = {
            "approve": lambda: people.approve(engine, id, action.id, action.plan.hash, ROBOT, "x"),
            "reject": lambda: people.reject(engine, id, action.id, ROBOT, "x"),
            "quarantine": lambda: people.quarantine(engine, id, ROBOT, "x"),
            "undo": lambda: people.undo(engine, id, action.id, ROBOT, "x"),
            "settle": lambda: people.settle(engine, id, action.id, "failed", ROBOT, "x"),
            "retry": lambda: people.retry(engine, id, action.id, ROBOT, "x"),
            "wish": lambda: wishes.wish(engine, id, "undo", ROBOT, "x", action.id)}
        await tried(calls[what](), "app-only")
        [record] = await refused(here, id)
        detail = record["detail"]
        assert (record["actor"], detail["code"]) == (ROBOT.object_id, "app-only")
        assert detail["what"] == ("undo" if what == "wish" else what)
        assert detail["action_id"] == ("" if what == "quarantine" else action.id)
        assert unmoved(await here.case(id)) == unmoved(before)


@pytest.mark.threat("D1", "D3")
async def test_what_is_no_resources_is_on_the_installations_record(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        engine, until, plain = here.guardrail.engine, here.clock() + timedelta(days=7), person("approver", "Approver")
        exemption = Exemption(control="storage-minimum-tls", reason="x", owner="x", until=until,
                              scope=f"/subscriptions/{PROD}/resourceGroups/rg-unheard-of")
        await tried(switches.switch(engine, "approve", READER, "x"), "role")
        await tried(switches.freeze(engine, Freeze(name="x", start=here.clock(), until=until), plain, "x"), "role")
        await tried(switches.ask_exemption(engine, exemption, ROBOT), "app-only")
        told = [(one["detail"]["what"], one["detail"]["code"]) for one in await refused(here, HOME)]
        assert told == [("mode", "role"), ("freeze", "role"), ("exempt", "app-only")]


@pytest.mark.threat("D1")
async def test_a_thousand_tries_leave_one_record_in_ten_minutes(tmp_path: Path) -> None:
    """A person, a resource and a code; an unknown resource opens no chain of its own."""
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        engine = here.guardrail.engine
        for _ in range(20):
            await tried(people.approve(engine, id, action.id, action.plan.hash, ENGINEER, "x"), "four-eyes")
        await tried(people.approve(engine, id, action.id, action.plan.hash, READER, "x"), "role")
        assert [one["detail"]["code"] for one in await refused(here, id)] == ["four-eyes", "role"]
        here.clock.forward(10 * MINUTE + 1)
        await tried(people.approve(engine, id, action.id, action.plan.hash, ENGINEER, "x"), "four-eyes")
        assert [one["detail"]["code"] for one in await refused(here, id)] == ["four-eyes", "role", "four-eyes"]
        chains = {chain.resource async for chain in here.guardrail.store.chains()}
        for number in range(5):
            await tried(people.quarantine(engine, ResourceId(f"{id}{number}"), ROBOT, "x"), "app-only")
        assert {chain.resource async for chain in here.guardrail.store.chains()} - chains <= {HOME}
        assert len(await refused(here, HOME)) == 1


# R21: the end of an ask

async def waiting(here: World, id: ResourceId) -> Any:
    found = (await here.case(id)).asked
    assert found is not None
    return found


async def test_half_time_is_told_once(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        assert action.severity == "critical" and action.expires == action.opened + timedelta(hours=4)
        await here.forward(2 * HOUR - 5 * MINUTE, step=30 * MINUTE)
        assert "action.reminded" not in await here.events_of(id)
        await here.forward(100 * MINUTE, step=5 * MINUTE)
        reminded = [one for one in await here.records(id) if one["event"] == "action.reminded"]
        assert [one["detail"]["action_id"] for one in reminded] == [action.id]
        assert reminded[0]["detail"]["severity"] == "critical"
        assert (await waiting(here, id)).id == action.id, "and it waits on"


async def test_hands_remind_and_not_who_leaves_them_something(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        here.clock.now = action.opened + timedelta(hours=2)
        await wishes.look(here.guardrail.engine, id, ONCALL, "what is it now")
        case = await here.case(id)
        assert case.asked == action and case.due == here.clock.now, "front changes nothing of an ask but what people say"
        await here.settle()
        assert (await here.events_of(id)).count("action.reminded") == 1


async def test_what_is_decided_in_time_reminds_nobody(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        await people.reject(here.guardrail.engine, id, action.id, APPROVER, "no")
        await here.forward(5 * HOUR, step=HOUR)
        assert "action.reminded" not in await here.events_of(id)


TLS: Any = {"properties": {"minimumTlsVersion": "TLS1_0"}}


@pytest.mark.parametrize("how", ["change", "day"])
async def test_what_nobody_decided_is_asked_again_one_louder(how: str, tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE, subscription=PROD)
        here.write("PATCH", id, TLS)
        await here.settle()
        first = await waiting(here, id)
        assert first.severity == "medium"
        await here.forward(9 * HOUR, step=HOUR)
        assert (await waiting(here, id)).state == "expired"
        if how == "change":
            here.write("PATCH", id, {"tags": {"x": "y"}})
            await here.settle()
        else:
            await here.forward(24 * HOUR, step=2 * HOUR)
        again = await waiting(here, id)
        assert (again.state, again.severity, again.id != first.id) == ("proposed", "high", True)
        assert here.ours == []


@pytest.mark.threat("R21")
@pytest.mark.parametrize(("before_s", "code"), [(31, ""), (29, "expired"), (1, "expired"), (-1, "expired"), (-3600, "expired")])
@pytest.mark.parametrize("seen", [True, False], ids=["the end was looked at", "nobody looked"])
async def test_a_yes_round_the_end(before_s: float, code: str, seen: bool, tmp_path: Path) -> None:
    """Half a minute before the end is too late: nothing is written, and it is asked again at once, never closed."""
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE, subscription=PROD)
        here.write("PATCH", id, TLS)
        await here.settle()
        first = await waiting(here, id)
        here.clock.now = first.expires - timedelta(seconds=before_s)
        if seen:
            await here.guardrail.tend()
            await here.settle()
        call = people.approve(here.guardrail.engine, id, first.id, first.plan.hash, APPROVER, "yes")
        if not code:
            assert (await call).state == "approved"
            await here.settle()
            assert len(here.ours) == 1
            return
        await tried(call, code)
        await here.settle()
        again = await waiting(here, id)
        assert here.ours == []
        assert (again.state, again.severity, again.id != first.id) == ("proposed", "high", True)
        done = await people.approve(here.guardrail.engine, id, again.id, again.plan.hash, APPROVER, "now then")
        assert done.state == "approved"


@pytest.mark.threat("R21")
@pytest.mark.parametrize(("after_s", "writes"), [(-1, 1), (1, 0)])
async def test_hands_that_come_too_late_act_no_more(after_s: float, writes: int, tmp_path: Path) -> None:
    """Approved in time, and hands were down until the end of the ask: asked again, louder."""
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE, subscription=PROD)
        here.write("PATCH", id, TLS)
        await here.settle()
        first = await waiting(here, id)
        await people.approve(here.guardrail.engine, id, first.id, first.plan.hash, APPROVER, "yes")
        here.clock.now = first.expires + timedelta(seconds=after_s)
        await here.settle()
        assert len(here.ours) == writes
        if not writes:
            again = await waiting(here, id)
            assert (again.state, again.severity, (await here.case(id)).acting) == ("proposed", "high", None)
            assert "action.expired" in await here.events_of(id)


async def test_a_late_undo_ends_and_is_not_asked_again(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        engine = here.guardrail.engine
        await people.approve(engine, id, action.id, action.plan.hash, APPROVER, "yes")
        await here.settle()
        undo = await people.undo(engine, id, action.id, ONCALL, "needed")
        await people.approve(engine, id, undo.id, undo.plan.hash, APPROVER, "fine")
        writes = len(here.ours)
        assert undo.expires is not None
        here.clock.now = undo.expires + timedelta(seconds=1)
        await here.settle()
        case = await here.case(id)
        assert (case.asked, case.acting, len(here.ours)) == (None, None, writes)


# What an undo makes of the action that it takes back

@pytest.mark.parametrize("is_isolation", [False, True])
async def test_what_was_taken_back_is_called_so(is_isolation: bool, tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        engine = here.guardrail.engine
        if is_isolation:
            action = await people.quarantine(engine, id, ONCALL, "keys may have leaked")
        await people.approve(engine, id, action.id, action.plan.hash, APPROVER, "yes")
        await here.settle()
        store = here.guardrail.store
        assert (await views.find_action(store, action.id))["state"] == ("quarantined" if is_isolation else "verified")
        undo = await people.undo(engine, id, action.id, ONCALL, "all clear")
        assert (await views.find_action(store, action.id))["state"] == ("quarantined" if is_isolation else "verified")
        await people.approve(engine, id, undo.id, undo.plan.hash, APPROVER, "fine")
        await here.settle()
        row = await views.find_action(store, action.id)
        assert (row["state"], row["undo"]) == ("released" if is_isolation else "rolled_back", undo.id)
        event = "resource.released" if is_isolation else "action.rolled_back"
        [record] = [one for one in await here.records(id) if one["event"] == event]
        assert (record["detail"]["action_id"], record["detail"]["from"]) == (action.id, "verified")
        await tried(people.undo(engine, id, action.id, ONCALL, "again"), "unknown")


async def test_a_no_may_ask_for_an_exemption(tmp_path: Path) -> None:
    """Whoever rejects asks for it, another person confirms it, and then nothing is asked any more."""
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE, subscription=PROD)
        here.write("PATCH", id, TLS)
        await here.settle()
        first, engine = await waiting(here, id), here.guardrail.engine
        for days in (-1, 91):
            late = here.clock() + timedelta(days=days)
            await tried(people.reject(engine, id, first.id, APPROVER, "an old client", exempt_until=late), "until")
        assert (await waiting(here, id)).state == "proposed"
        until = here.clock() + timedelta(days=7)
        await people.reject(engine, id, first.id, APPROVER, "an old client", exempt_until=until)
        [pending] = (await here.guardrail.store.rules()).pending
        assert pending.exemption is not None and (pending.exemption.scope, pending.exemption.until) == (id, until)
        await tried(switches.confirm_exemption(engine, pending.what, APPROVER), "four-eyes")
        await switches.confirm_exemption(engine, pending.what, ONCALL)
        await here.forward(25 * HOUR, step=HOUR)
        await here.guardrail.store.send(Look(id, "sweep"))
        await here.settle()
        case = await here.case(id)
        assert (case.asked, case.due, here.ours) == (None, None, [])
        assert (await here.events_of(id)).count("action.proposed") == 1


# R26: what time it is

def skewed(here: World, seconds: float) -> None:
    """As if this worker's clock were so far ahead of the store's."""
    signed: Any = here.guardrail.store
    store = signed.inner
    here.clock.forward(seconds)
    if isinstance(store, SqliteStore):
        store.skew_s = seconds
    else:
        store._account._clock = lambda: here.clock() + timedelta(seconds=seconds)


@pytest.mark.threat("R26")
@pytest.mark.parametrize("minutes", [10, -10])
async def test_while_clocks_differ_nothing_is_approved_and_nothing_expires(minutes: float, tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        engine = here.guardrail.engine
        assert action.expires is not None
        here.clock.now = action.expires - timedelta(minutes=5)
        skewed(here, minutes * MINUTE)
        await tried(people.approve(engine, id, action.id, action.plan.hash, APPROVER, "yes"), "clock")
        await switches.switch(engine, "approve", ONCALL, "tightening goes on")
        await tried(switches.switch(engine, "policy", person("approver", "Administrator"), "x"), "clock")
        await here.rules(switch="policy")
        await here.guardrail.tend()
        await here.settle()
        case = await here.case(id)
        assert case.asked is not None and case.asked.state == "proposed" and here.ours == []
        assert "clock.skewed" in await here.events_of(HOME)


@pytest.mark.threat("R26")
async def test_what_was_approved_waits_for_the_right_time(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        await people.approve(here.guardrail.engine, id, action.id, action.plan.hash, APPROVER, "yes")
        skewed(here, 10 * MINUTE)
        await here.settle()
        assert here.ours == []
        here.clock.forward(-10 * MINUTE)
        skewed(here, 0)
        await here.forward(12 * MINUTE, step=MINUTE)
        assert len(here.ours) == 1


@pytest.mark.threat("R26")
@pytest.mark.parametrize(("minutes", "ends_in", "is_exempt"), [
    (10, 5, True), (-10, -5, False), (10, -5, False), (-10, 5, True), (0.5, 5, True)])
async def test_an_exemption_ends_by_the_stores_clock(minutes: float, ends_in: float, is_exempt: bool, tmp_path: Path) -> None:
    """A clock that is ahead ends none early, one that is behind uses none late."""
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE)
        until = here.clock() + timedelta(minutes=ends_in)
        await here.rules(exemptions=(Exemption(control="storage-minimum-tls", scope=id, reason="x", owner="x", until=until),))
        here.write("PATCH", id, TLS)
        skewed(here, minutes * MINUTE)
        await here.settle()
        assert (here.ours == []) is is_exempt


def test_the_people_of_these_tests_are_who_they_seem() -> None:
    assert isinstance(ROBOT, Person) and ROBOT.object_id == actor("deploy-pipeline").oid
    assert OPEN["properties"]["minimumTlsVersion"] == TLS["properties"]["minimumTlsVersion"]
