"""The process dies, stops, or loses its store at any call; another one finishes the work, and sends nothing without need."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import recorded
from guardrail import audit, people
from guardrail.errors import StoreDown
from guardrail.ids import ResourceId
from guardrail.paths import get, parse, same
from guardrail.values import Look
from tests.flow.harness import (
    AI,
    COMPUTE,
    NSG,
    ROLE,
    STORAGE,
    Crash,
    at,
    control,
    crash_at,
    event,
    laid,
    looked,
    plain_store,
    restart,
    restarted,
    stand,
    store_fails,
    world,
)
from tests.flow.test_people import APPROVER, ONCALL, POLICY
from tests.flow.world import PROD, World

pytestmark = pytest.mark.anyio

ALL = (STORAGE, AI, NSG, ROLE, COMPUTE)


DURABLE = {"after store.commit", "after store.send", "after store.take", "after arm.send"}


@dataclass(frozen=True)
class Case:
    """A drift, the writes that mend it, and whether the world shows it mended."""

    type: str
    controls: tuple[str, ...]
    writes: tuple[str, ...]
    mended: Callable[[World, ResourceId], bool]

    def drifted(self) -> recorded.Sample:
        return laid(self.type, *(control(id).drift for id in self.controls))


def holds(path: str, value: Any) -> Callable[[World, ResourceId], bool]:
    return lambda here, id: same(get(here.show(id), parse(path)), value)


def no_rules(here: World, id: ResourceId) -> bool:
    return not {"allow-ssh", "allow-range"} & {rule["name"] for rule in here.show(id)["properties"]["securityRules"]}


CASES = {
    "PATCH": Case(STORAGE, ("storage-https-only",), ("PATCH",), holds("properties.supportsHttpsTrafficOnly", True)),
    "two DELETEs": Case(NSG, ("nsg-inbound-internet-management-ports", "nsg-inbound-internet-any"), ("DELETE", "DELETE"),
                        no_rules),
    "PUT of what was deleted": Case(
        AI, ("diag-cognitiveservices",), ("PUT",),
        lambda here, id: len(here.parts(id, "providers/Microsoft.Insights/diagnosticSettings", "2021-05-01-preview")) == 1),
    "DELETE of the whole": Case(ROLE, ("rbac-privileged-role-assignment",), ("DELETE",),
                                lambda here, id: here.show(id) is None),
    "POST": Case(COMPUTE, ("ml-compute-instance-ssh",), ("POST",), holds("properties.properties.state", "Stopped")),
}


async def mended_after(here: World, case: Case, crashes: Mapping[int, int]) -> tuple[list[str], list[str]]:
    """The drift stands, its event comes, and the workers die at these boundaries, one after the other, until one lives.

    Returns the boundaries that the first one passed, and the writes that were sent.
    """
    id = stand(here, recorded.good(case.type))
    here._arrived(event(id))
    await here.forward(120)
    assert (await here.case(id)).acting is None
    here.sim.log.clear()
    stand(here, case.drifted())
    here._arrived(event(id))
    first: list[str] = []
    for number in crashes.values():
        passed = crash_at(here.guardrail, number)
        first = first or passed
        try:
            await here.settle()
            await here.forward(400, step=100)
        except Crash:
            pass
        await restart(here)
    await here.forward(400, step=100)
    return first, [line.method for line in here.ours]


@pytest.mark.threat("R9", "R10", "R27", "R28", "R29", "R32", "I5", "I8")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_crash_between_any_two_calls_is_made_good(case: Case, tmp_path: Path) -> None:
    """P1 to P12: after each call that leaves something behind, before the next one. Nothing is sent twice."""
    async with world(tmp_path, proven=ALL) as here:
        passed, writes = await mended_after(here, case, {0: 10 ** 9})
        assert writes == list(case.writes)
        names = passed.copy()
        assert {"before arm.send", "before store.commit", "before store.send", "before arm.read"} <= set(names)
        for number, name in enumerate(names):
            if name.startswith("after") or (number and names[number - 1] not in DURABLE):
                continue
            _, writes = await mended_after(here, case, {0: number})
            state = await here.case(ResourceId(case.drifted().id))
            where = f"crash {name} ({number} of {len(names)}): {writes}, {await here.events_of(state.resource)}"[-1500:]
            if case.writes == ("POST",) and not writes:
                assert state.acting is not None and state.acting.state == "unknown", where
                here.sim.mutate(state.resource, stopped)        # a person settles it, and it is found done
                await here.guardrail.store.send(Look(state.resource, "person"))
                await here.forward(60)
                continue
            assert case.mended(here, state.resource), where
            assert writes == list(case.writes), where
            assert state.acting is None and state.asked is None, where
        assert (await audit.verify_store(here.guardrail.store)).ok


@pytest.mark.threat("R32", "R24", "I8")
@pytest.mark.parametrize("case", [CASES["two DELETEs"], CASES["POST"]], ids=["two DELETEs", "POST"])
@pytest.mark.parametrize("first", [8, 16, 20])
async def test_two_crashes_in_a_row_leave_the_world_right_or_an_open_action(case: Case, first: int, tmp_path: Path) -> None:
    async with world(tmp_path, proven=ALL) as here:
        for second in range(1, 24, 6):
            _, writes = await mended_after(here, case, {0: first, 1: second})
            state = await here.case(ResourceId(case.drifted().id))
            assert len(writes) <= len(case.writes), "what took effect is seen, and not sent again"
            if case.mended(here, state.resource):
                assert state.acting is None
            else:
                assert state.acting is not None and state.acting.state in ("failed", "unknown")
                stand(here, recorded.good(case.type))
                if case is CASES["POST"]:
                    here.sim.mutate(state.resource, stopped)
                await here.guardrail.store.send(Look(state.resource, "person"))
                await here.forward(60)


@pytest.mark.threat("R27", "R28")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("skip", [0, 1])
async def test_a_store_that_does_not_answer_costs_time_and_no_write(when: str, skip: int, tmp_path: Path) -> None:
    """Before the write nothing is sent for it; after the write nothing is sent again; committed twice it is once."""
    async with world(tmp_path) as here:
        case = CASES["PATCH"]
        id = stand(here, case.drifted())
        await here.guardrail.intake(text(event(id)))
        store_fails(here.guardrail, "store.commit", when, times=3, skip=skip)
        await here.settle()
        assert len(here.ours) == skip, "no write without its row"
        await here.forward(900)
        assert [line.method for line in here.ours] == ["PATCH"]
        assert case.mended(here, id) and (await here.case(id)).acting is None
        applying = [one for one in await here.events_of(id) if one == "action.verified"]
        assert len(applying) == 1
        assert (await audit.verify_store(here.guardrail.store)).ok


@pytest.mark.threat("R27")
async def test_an_event_is_acknowledged_only_when_its_row_is_there(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, CASES["PATCH"].drifted())
        store_fails(here.guardrail, "store.send", "before")
        with pytest.raises(StoreDown):
            await here.guardrail.intake(text(event(id)))
        assert await here.guardrail.settle() == 0
        await here.guardrail.intake(text(event(id)))
        await here.settle()
        assert len(here.ours) == 1


@pytest.mark.threat("R29")
async def test_a_lost_nudge_costs_a_minute(tmp_path: Path) -> None:
    """Every message for later is lost; what is due stands in the rows."""
    async with world(tmp_path) as here:
        id = stand(here, CASES["PATCH"].drifted())
        here.sim.faults.stale(f"GET {id}", reads=2)
        await here.guardrail.intake(text(event(id)))
        plain = plain_store(here.guardrail)

        async def lost(*_: Any) -> None: ...

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plain, "send", lost)
            await here.settle()
        assert (await here.case(id)).acting is not None
        await here.forward(240)
        assert (await here.case(id)).acting is None and len(here.ours) == 1


@pytest.mark.threat("R14", "R40", "I8")
@pytest.mark.parametrize("case", [CASES["PATCH"], CASES["two DELETEs"], CASES["POST"]], ids=["PATCH", "two DELETEs", "POST"])
async def test_eight_workers_on_one_resource_send_it_once(case: Case, tmp_path: Path) -> None:
    async with world(tmp_path, proven=ALL) as here:
        id = stand(here, case.drifted())
        await here.guardrail.intake(text(event(id)))
        workers = [restarted(here) for _ in range(8)]
        here.sim.faults.slow(f"GET {id}", ms=20, times=8)
        await asyncio.gather(*(one.settle() for one in workers))
        await here.forward(400, step=100)
        assert [line.method for line in here.ours] == list(case.writes)
        assert case.mended(here, id) and (await here.case(id)).acting is None
        assert (await audit.verify_store(here.guardrail.store)).ok
        for one in workers:
            await one.close()


@pytest.mark.threat("R15", "I8", "I10")
@pytest.mark.parametrize("case", [CASES["PATCH"], CASES["two DELETEs"], CASES["POST"]], ids=["PATCH", "two DELETEs", "POST"])
@pytest.mark.parametrize("point", ["after store.load", "after arm.read", "after store.commit", "before arm.send"])
async def test_a_worker_that_wakes_after_its_lease_harms_nothing(case: Case, point: str, tmp_path: Path) -> None:
    """Twenty minutes it stands at P6, P7 or P8; another one has long done the work, or left the POST to a person."""
    async with world(tmp_path, proven=ALL) as here:
        id = stand(here, case.drifted())
        await here.guardrail.intake(text(event(id)))
        other = restarted(here)

        async def meanwhile() -> None:
            for _ in range(20):
                here.clock.forward(60)
                await other.tend()
                await other.settle()

        when, call = point.split()
        at(here.guardrail, call, when, meanwhile)
        await here.settle()
        await here.forward(400, step=100)
        state = await here.case(id)
        if case is CASES["POST"]:
            assert len(here.ours) <= 1
            assert case.mended(here, id) or (state.acting is not None and state.acting.state == "unknown")
        else:
            assert case.mended(here, id) and state.acting is None
            assert len(here.ours) <= 2 * len(case.writes)
        assert (await audit.verify_store(here.guardrail.store)).ok
        await other.close()


@pytest.mark.threat("R30")
async def test_a_look_that_breaks_the_code_is_stuck_and_a_fixed_version_finishes_it(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, CASES["PATCH"].drifted())
        await here.guardrail.intake(text(event(id)))

        def bug() -> None:
            raise ZeroDivisionError("a bug")

        at(here.guardrail, "arm.read", "after", bug, times=1000)
        await here.forward(3600)
        state = await here.case(id)
        assert "ZeroDivisionError" in state.stuck
        poisoned = (await here.events_of(id)).count("look.poisoned")
        assert poisoned == 1, "said once, not each minute"
        await restart(here)
        await here.guardrail.sweep()
        await here.forward(120)
        state = await here.case(id)
        assert state.stuck == "" and state.acting is None and CASES["PATCH"].mended(here, id)


@pytest.mark.threat("R27", "R30")
async def test_a_look_that_an_outage_poisoned_is_put_back_and_stuck_only_the_next_time(tmp_path: Path) -> None:
    """It is mended minutes after the store is there again, not by the next sweep."""
    async with world(tmp_path) as here:
        id = stand(here, CASES["PATCH"].drifted())
        message = json.dumps({"v": 1, "resource": id})
        await here.guardrail.intake(text(event(id)))
        await here.guardrail.poisoned(message, 5)
        assert (await here.case(id)).stuck == "" and await here.guardrail.settle() == 0
        here.clock.forward(301)
        await here.settle()
        assert CASES["PATCH"].mended(here, id)
        await here.guardrail.poisoned(message, 5)
        assert (await here.case(id)).stuck and (await here.events_of(id)).count("look.poisoned") == 1
        here.clock.forward(3600)
        await here.guardrail.poisoned(message, 5)
        assert (await here.events_of(id)).count("look.poisoned") == 1


@pytest.mark.threat("R30")
async def test_a_bug_in_sending_ends_as_failed(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, CASES["PATCH"].drifted())
        await here.guardrail.intake(text(event(id)))

        def bug() -> None:
            raise ZeroDivisionError("a bug")

        at(here.guardrail, "arm.send", "before", bug, times=1000)
        await here.forward(7200)
        state = await here.case(id)
        assert state.acting is not None and state.acting.state == "failed" and here.ours == []
        assert (await here.events_of(id)).count("action.applying") <= 5
        await restart(here)
        await here.guardrail.store.send(Look(id, "person"))
        await here.settle()
        assert CASES["PATCH"].mended(here, id)


@pytest.mark.threat("R29", "R32")
async def test_an_approval_whose_look_was_lost_is_carried_out_within_two_minutes(tmp_path: Path) -> None:
    """P13: stored, and the worker is gone."""
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE, CASES["PATCH"].drifted().body, subscription=PROD)
        await looked(here, id)
        asked = (await here.case(id)).asked
        assert asked is not None
        engine = here.guardrail.engine
        await people.approve(engine, id, asked.id, asked.plan.hash, APPROVER, "as seen")
        await here.settle()
        at(here.guardrail, "store.commit", "after", died)
        with pytest.raises(Crash):
            await people.approve(here.guardrail.engine, id, asked.id, asked.plan.hash, ONCALL, "as seen")
        await restart(here, POLICY)
        await here.forward(120)
        assert [line.method for line in here.ours] == ["PATCH"] and CASES["PATCH"].mended(here, id)
        assert (await here.case(id)).acting is None


@pytest.mark.threat("R29", "R32")
async def test_a_retry_whose_worker_died_is_still_a_persons(tmp_path: Path) -> None:
    """Its reason is in the same transaction: a look that was merely due would not try a failed action again."""
    async with world(tmp_path) as here:
        id = stand(here, CASES["PATCH"].drifted())
        here.sim.faults.lock(id, "ReadOnly")
        await looked(here, id)
        here.sim.faults.clear()
        failed = (await here.case(id)).acting
        assert failed is not None and failed.state == "failed"
        at(here.guardrail, "store.commit", "after", died)
        with pytest.raises(Crash):
            await people.retry(here.guardrail.engine, id, failed.id, ONCALL, "the lock is gone")
        await restart(here)
        before = len(here.ours)
        await here.settle()
        assert len(here.ours) == before + 1 and CASES["PATCH"].mended(here, id)
        assert (await here.case(id)).acting is None


@pytest.mark.threat("R32", "C3", "I13")
async def test_an_anchor_that_was_never_recorded_is_written_by_the_next_one(tmp_path: Path) -> None:
    """P14: the root is made and not appended, or appended and its worker gone."""
    async with world(tmp_path) as here:
        await looked(here, stand(here, CASES["PATCH"].drifted()))
        for when in ("before", "after"):
            here.clock.forward(301)
            at(here.guardrail, "store.add_anchor", when, died)
            with pytest.raises(Crash):
                await here.guardrail.tend()
            await restart(here)
            assert len(await here.guardrail.store.anchors()) == (1 if when == "after" else 0)
        await here.forward(301)
        assert len(await here.guardrail.store.anchors()) == 2
        assert (await audit.verify_store(here.guardrail.store)).ok


def died() -> None:
    raise Crash


def stopped(body: Any) -> None:
    body["properties"]["properties"]["state"] = "Stopped"


def text(event: Any) -> str:
    return json.dumps(event)
