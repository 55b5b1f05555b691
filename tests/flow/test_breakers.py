"""The breakers: one who fights us, or drifts everything at once, gets an ask instead of a write, and takes no one else's."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import recorded
from guardrail import people
from guardrail.breakers import NOBODY_KNOWS
from guardrail.ids import ResourceId
from guardrail.names import chain_key
from guardrail.stores import HOME
from guardrail.values import Control, Look, Route
from tests.flow.harness import AI, control, event, laid, looked, restarted
from tests.flow.harness import world as narrowed
from tests.flow.test_loop import STORAGE
from tests.flow.test_people import APPROVER, GROUP, ONCALL
from tests.flow.world import DEV, ENFORCE, PROD, World, world

pytestmark = pytest.mark.anyio

TIGHT = ENFORCE.replace("writes: 50,", "writes: 2,").replace("writes: 500,", "writes: 3,").replace("reserve: 0", "reserve: 2")
OPENED = {"properties": {"publicNetworkAccess": "Enabled"}}
ANONYMOUS = {"properties": {"allowBlobPublicAccess": True}}
OFFERING = TIGHT + f"approvals: {{approvers: [{{scope: /subscriptions/{DEV}, group: {GROUP}}}]}}\n"


def account(here: World, name: str, **properties: Any) -> ResourceId:
    """One more storage account, seen clean before."""
    sample = recorded.good(STORAGE)
    body = json.loads(json.dumps(sample.body).replace("stmltrain", name))
    body["properties"].update(properties)
    return here.stands(STORAGE, body, id=sample.id.replace("stmltrain", name))


async def seen(here: World, names: list[str], **properties: Any) -> list[ResourceId]:
    ids = [account(here, name, **properties) for name in names]
    for id in ids:
        await here.guardrail.store.send(Look(id, "sweep"))
    await here.settle()
    here.clock.forward(60)
    return ids


@pytest.mark.threat("A3")
async def test_whoever_reopens_it_again_and_again_is_held(tmp_path: Path) -> None:
    async with world(tmp_path, TIGHT) as here:
        (id, other) = await seen(here, ["stone", "sttwo"])
        for _ in range(20):
            here.write("PATCH", id, OPENED, as_="deploy-pipeline")
            await here.forward(20, step=10)
        assert len(here.ours) == 2
        case = await here.case(id)
        assert case.asked is not None and case.asked.state == "held" and "flapping" in case.asked.why
        assert (await here.events_of(id)).count("breaker.tripped") == 1, "one page, not twenty"
        here.write("PATCH", other, {"properties": {"minimumTlsVersion": "TLS1_0"}})
        await here.settle()
        assert here.show(other)["properties"]["minimumTlsVersion"] == "TLS1_2"
        await here.forward(2 * 3600, step=1800)
        assert here.show(id)["properties"]["publicNetworkAccess"] == "Disabled", "the hourly look finds its budget again"


@pytest.mark.threat("A4", "I11")
async def test_many_cheap_drifts_use_up_nobody_elses_budget(tmp_path: Path) -> None:
    async with world(tmp_path, TIGHT) as here:
        ids = await seen(here, [f"st{at:02}" for at in range(8)])
        for id in ids[:7]:
            here.write("PATCH", id, OPENED, as_="deploy-pipeline")
        await here.settle()
        assert len(here.ours) == 3, "three an hour for this control and this actor"
        held = [id for id in ids[:7] if (await here.case(id)).asked]
        assert len(held) == 4
        here.write("PATCH", ids[7], OPENED, as_="ml-engineer")
        await here.settle()
        assert here.show(ids[7])["properties"]["publicNetworkAccess"] == "Disabled"


@pytest.mark.threat("C5")
async def test_whoever_empties_the_radius_gets_an_hour_of_asking_instead(tmp_path: Path) -> None:
    async with world(tmp_path, TIGHT) as here:
        ids = await seen(here, [f"st{at:02}" for at in range(8)])
        for id in ids[:4]:
            here.write("PATCH", id, OPENED, as_="deploy-pipeline")
        await here.settle()
        assert len(here.ours) == 3
        inner: Any = here.guardrail.store.inner
        ((name,),) = inner._db.execute("SELECT substr(name, 7) FROM state WHERE name LIKE '%blast%'")
        etag, body = await inner.budget(name)
        assert await inner.set_budget(name, json.dumps({**json.loads(body), "taken": []}).encode(), etag)
        for id in ids[4:]:
            here.write("PATCH", id, OPENED, as_="deploy-pipeline")
        await here.settle()
        assert len(here.ours) == 3
        broken = [one["detail"]["what"] for one in await here.records(HOME) if one["event"] == "audit.broken"]
        assert broken == [[f"budget {name}"]]
        held = [asked for id in ids if (asked := (await here.case(id)).asked) and asked.state == "held"]
        assert len(held) == 5
        await here.forward(3700, step=1850)
        assert len(here.ours) == 6, "three an hour again"


@pytest.mark.threat("C5")
@pytest.mark.parametrize("left", [0, 1])
async def test_who_empties_the_flapping_of_a_resource_is_found_by_its_seal(left: int, tmp_path: Path) -> None:
    async with world(tmp_path, TIGHT) as here:
        (id,) = await seen(here, ["stone"])
        db: Any = here.guardrail.store.inner._db

        def row() -> dict[str, Any]:
            return dict(json.loads(db.execute("SELECT body FROM cases WHERE key = ?", (chain_key(id),)).fetchone()[0]))

        for _ in range(2):
            here.write("PATCH", id, OPENED, as_="deploy-pipeline")
            await here.forward(20, step=10)
        assert len(here.ours) == 2 and len(row()["wrote"]["flapping/storage-public-network-access"]) == 2
        forged = {**row(), "wrote": {name: times[:left] for name, times in row()["wrote"].items()}}
        db.execute("UPDATE cases SET body = ? WHERE key = ?", (json.dumps(forged), chain_key(id)))
        here.write("PATCH", id, OPENED, as_="deploy-pipeline")
        await here.forward(20, step=10)
        assert len(here.ours) == 2
        assert (await here.events_of(id)).count("audit.broken") == 1
        assert set((await here.case(id)).wrote) == {NOBODY_KNOWS}


@pytest.mark.threat("A4", "I11")
async def test_the_radius_is_a_share_of_what_the_last_sweep_knew_and_never_less_than_least(tmp_path: Path) -> None:
    share = TIGHT.replace("writes: 3, percent: 100, least: 500", "writes: 5, percent: 50, least: 2")
    async with world(tmp_path, share) as here:
        ids = [account(here, f"st{at:02}") for at in range(8)]
        for id in ids:
            await here.guardrail.store.send(Look(id, "person"))
        await here.settle()
        for swept, many in ((False, 2), (True, 4)):     # half of eight are four
            if swept:
                await here.guardrail.sweep()
            here.clock.forward(3700)
            before = len(here.ours)
            for id in ids:
                here.write("PATCH", id, OPENED, as_="deploy-pipeline")
            await here.settle()
            assert len(here.ours) - before == many
            for id in ids:
                here.write("PATCH", id, {"properties": {"publicNetworkAccess": "Disabled"}})
            await here.forward(10, step=10)
        why = [str(one["detail"]["why"]) for id in ids for one in await here.records(id) if one["event"] == "action.held"]
        assert {one.split(": ")[1].split(" in ")[0] for one in why} == {"2 writes", "4 writes"}


@pytest.mark.threat("A3")
@pytest.mark.parametrize("chosen", ["the isolation", "the fix", "nothing"])
async def test_a_trip_on_a_critical_control_offers_the_isolation(chosen: str, tmp_path: Path) -> None:
    """Never by itself: people see both plans, and one of them acts."""
    async with world(tmp_path, OFFERING) as here:
        (id,) = await seen(here, ["stone"], allowSharedKeyAccess=True)
        for _ in range(4):
            here.write("PATCH", id, ANONYMOUS, as_="deploy-pipeline")
            await here.forward(20, step=10)
        asked = (await here.case(id)).asked
        assert asked is not None and asked.state == "held" and asked.plan.kind == "fix"
        assert asked.instead is not None and asked.instead.kind == "isolate" and len(here.ours) == 2
        (held,) = [one["detail"] for one in await here.records(id) if one["event"] == "action.held"]
        assert held["instead_hash"] == asked.instead.hash
        if chosen != "nothing":
            plan = asked.instead if chosen == "the isolation" else asked.plan
            done = await people.approve(here.guardrail.engine, id, asked.id, plan.hash, APPROVER, "seen")
            assert done.state == "approved" and done.approvals[-1].plan == plan.hash
            await here.settle()
        assert len(here.ours) == (2 if chosen == "nothing" else 3)
        shown = here.show(id)["properties"]
        assert shown["allowSharedKeyAccess"] is (chosen != "the isolation")
        assert ("resource.quarantined" in await here.events_of(id)) == (chosen == "the isolation")
        await here.forward(3700, step=1800)
        assert here.show(id)["properties"]["allowBlobPublicAccess"] is False, "its budget is there again"
        assert (await here.case(id)).asked is None


@pytest.mark.threat("A3")
async def test_the_isolation_waits_for_its_second_yes_through_the_hourly_looks(tmp_path: Path) -> None:
    async with world(tmp_path, OFFERING.replace("window: 15m", "window: 9h")) as here:
        (id,) = await seen(here, ["stone"], allowSharedKeyAccess=True)
        here.sim.faults.events(strip_claims=True)       # nobody knows who did it: two decide
        for _ in range(4):
            here.write("PATCH", id, ANONYMOUS)
            await here.forward(20, step=10)
        asked = (await here.case(id)).asked
        assert asked is not None and asked.instead is not None
        first = await people.approve(here.guardrail.engine, id, asked.id, asked.instead.hash, APPROVER, "seen")
        assert first.state == "held" and first.id == asked.id
        await here.forward(2 * 3600, step=1800)
        waiting = (await here.case(id)).asked
        assert waiting is not None and (waiting.id, len(waiting.approvals)) == (first.id, 1)
        await people.approve(here.guardrail.engine, id, first.id, asked.instead.hash, ONCALL, "seen")
        await here.settle()
        assert "resource.quarantined" in await here.events_of(id)


@pytest.mark.threat("R35", "I11")
async def test_many_workers_take_one_budget(tmp_path: Path) -> None:
    """S22: fifty drifted at once, four workers on one store, five writes allowed."""
    tight = ENFORCE.replace("writes: 500,", "writes: 5,")
    async with narrowed(tmp_path, tight) as here:
        ids = await seen(here, [f"st{at:02}" for at in range(50)])
        for id in ids:
            here.write("PATCH", id, OPENED, as_="deploy-pipeline")
        await here.deliver()
        workers = [here.guardrail, *(restarted(here, tight) for _ in range(3))]
        await asyncio.gather(*(worker.settle() for worker in workers))
        for worker in workers[1:]:
            await worker.close()
        assert len(here.ours) == 5
        await here.settle()
        assert len(here.ours) == 5
        held = [asked for id in ids if (asked := (await here.case(id)).asked) and asked.state == "held"]
        assert len(held) == 45


@pytest.mark.threat("A4")
async def test_critical_controls_have_a_reserve(tmp_path: Path) -> None:
    async with world(tmp_path, TIGHT) as here:
        ids = await seen(here, [f"st{at:02}" for at in range(7)])
        for id in ids:
            here.write("PATCH", id, ANONYMOUS, as_="deploy-pipeline")
        await here.settle()
        assert len(here.ours) == 5


async def test_what_was_bad_when_first_seen_does_not_count(tmp_path: Path) -> None:
    async with world(tmp_path, TIGHT) as here:
        ids = [account(here, f"st{at:02}") for at in range(6)]
        for id in ids:
            here.write("PATCH", id, OPENED, as_="deploy-pipeline")
        await here.settle()
        assert len(here.ours) == 6
        assert all(DEV in line.path for line in here.ours)


# What rotates keys

STATE = "properties.keyState"


def rotating(here: World) -> Control:
    """A control of ours that wants fresh keys, and a route that makes them: no type here has one."""
    kind = here.guardrail.engine.types[AI.lower()]
    route = Route(STATE, "{id}/{action}", update="POST", actions={"fresh": "regenerateKey"})
    here.guardrail.engine.types = {**here.guardrail.engine.types, AI.lower(): replace(kind, routes=(*kind.routes, route))}
    made = replace(control("cognitive-local-auth-disabled"), id="test-keys-fresh", floors={}, parameters={},
                   check=lambda node, _: node.expect(STATE, one_of=("fresh",), absent="fresh", known=("told",)))
    here.guardrail.engine.controls = (made,)
    here.guardrail.engine._on.clear()
    return made


def rotations(here: World) -> list[str]:
    return [line.path for line in here.ours if "regeneratekey" in line.path.lower()]


async def tell_key(here: World, id: ResourceId) -> None:
    """The keys were told again; a rotation done by then counts as seen."""
    here.sim.mutate(id, lambda body: body["properties"].update(keyState="told"))
    await looked(here, id)
    here.sim.mutate(id, lambda body: body["properties"].update(keyState="fresh"))
    await here.forward(90, step=30)


@pytest.mark.threat("A9")
async def test_keys_rotate_once_a_day_whatever_the_policy_says(tmp_path: Path) -> None:
    async with narrowed(tmp_path) as here:
        rotating(here)
        id = here.stands(AI)
        await looked(here, id)
        for _ in range(5):
            await tell_key(here, id)
        assert len(rotations(here)) == 1
        here.sim.mutate(id, lambda body: body["properties"].update(keyState="told"))
        await looked(here, id)
        case = await here.case(id)
        assert case.asked is not None and case.asked.state == "held" and "rotation breaker: 1 writes in 1440" in case.asked.why
        await here.forward(24 * 3600, step=3600)
        assert len(rotations(here)) == 2, "a day later the hourly look finds its budget again"


@pytest.mark.threat("A9")
async def test_an_approved_rotation_counts_too(tmp_path: Path) -> None:
    policy = ENFORCE + f"approvals: {{approvers: [{{scope: /subscriptions/{PROD}, group: {GROUP}}}]}}\n"
    async with narrowed(tmp_path, policy) as here:
        rotating(here)
        id = here.stands(AI, subscription=PROD)
        for state in ("fresh", "told"):
            here.sim.mutate(id, lambda body: body["properties"].update(keyState="told"))
            await looked(here, id)
            asked = (await here.case(id)).asked
            assert asked is not None and asked.state == "proposed"
            for who in (APPROVER, ONCALL):
                await people.approve(here.guardrail.engine, id, asked.id, asked.plan.hash, who, "seen")
            await here.settle()
            here.sim.mutate(id, lambda body, state=state: body["properties"].update(keyState=state))    # type: ignore[misc]
            await here.forward(90, step=30)
        assert len(rotations(here)) == 1
        acting = (await here.case(id)).acting
        assert acting is not None and acting.state == "held" and "rotation" in acting.why
        assert (await here.events_of(id)).count("breaker.tripped") == 1


@pytest.mark.threat("A9")
async def test_a_storm_of_list_keys_is_one_proposal_and_no_rotation(tmp_path: Path) -> None:
    async with narrowed(tmp_path) as here:
        id = here.stands(AI, laid(AI, control("cognitive-local-auth-disabled").drift).body, subscription=PROD)
        for at in range(100):
            await here.guardrail.intake(json.dumps(event(id, f"{AI}/listKeys/action")))
            if at % 10 == 0:
                await here.settle()
                here.clock.forward(7)
        await here.forward(60, step=20)
        assert (await here.events_of(id)).count("action.proposed") == 1
        assert here.ours == []
