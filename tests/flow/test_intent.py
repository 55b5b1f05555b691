"""D10: whoever drifts a resource again and again voids each ask. After three, what the plan wants may be approved instead."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import asks, people
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT
from guardrail.values import Action, Case, Edit, Look, Plan
from tests.flow.test_loop import NSG, STORAGE
from tests.flow.test_people import APPROVER, ONCALL, POLICY
from tests.flow.world import PROD, World, world

pytestmark = pytest.mark.anyio
TLS = "minimumTlsVersion"


def drift(here: World, id: ResourceId, **properties: Any) -> None:
    here.write("PATCH", id, {"properties": properties})


async def drifts(here: World, id: ResourceId, *versions: str) -> Action:
    """Each value once a minute; what waits then."""
    for version in versions:
        drift(here, id, minimumTlsVersion=version)
        await here.forward(60, step=30)
    return await waiting(here, id)


async def waiting(here: World, id: ResourceId) -> Action:
    found = (await here.case(id)).asked
    assert found is not None
    return found


async def starved(here: World) -> tuple[ResourceId, Action]:
    """Production: an account whose TLS version went up and down, so that no ask lasted."""
    id = here.stands(STORAGE, subscription=PROD)
    first = await drifts(here, id, "TLS1_0", "TLS1_1", "TLS1_0")
    assert first.intent == ""
    return id, await drifts(here, id, "TLS1_1")


async def yes(here: World, id: ResourceId, asked: Action, hash: str = "") -> Action:
    return await people.approve(here.guardrail.engine, id, asked.id, hash or asked.intent, APPROVER, "enough", intent=True)


@pytest.mark.threat("D10")
async def test_after_three_voids_the_intent_mends_it(tmp_path: Path) -> None:
    """Drifted every minute, and once more between the yes and the look: without the intent each yes is void."""
    async with world(tmp_path, POLICY) as here:
        id, asked = await starved(here)
        assert asked.intent == asked.plan.intent != ""
        await people.approve(here.guardrail.engine, id, asked.id, asked.plan.hash, APPROVER, "the plan alone")
        drift(here, id, minimumTlsVersion="TLS1_0")
        await here.settle()
        assert here.ours == [], "the plan's yes is void"
        seen, asked = asked, await waiting(here, id)
        assert (asked.intent, asked.id != seen.id) == (seen.intent, True)
        assert (await yes(here, id, seen)).state == "approved", "the voided ask's intent is that of the one that waits"
        drift(here, id, minimumTlsVersion="TLS1_1")
        await here.settle()
        assert [line.body for line in here.ours] == [{"properties": {TLS: "TLS1_2"}}]
        assert here.show(id)["properties"][TLS] == "TLS1_2"
        records = {one["event"]: one["detail"] for one in await here.records(id)}
        assert records["action.approved"]["intent"] == asked.intent
        assert records["action.applying"]["edits"][0]["before"] == "TLS1_1"
        assert records["action.applying"]["plan_hash"] != records["action.approved"]["plan_hash"]
        assert (await here.case(id)).acting is None


@pytest.mark.threat("D10")
async def test_an_intent_is_used_once(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, asked = await starved(here)
        await yes(here, id, asked)
        await here.settle()
        assert len(here.ours) == 1
        again = await drifts(here, id, "TLS1_0")
        assert (again.state, again.intent, len(here.ours)) == ("proposed", asked.intent, 1)


@pytest.mark.threat("D10")
@pytest.mark.parametrize("what", ["another control", "another life", "an hour later", "gone"])
async def test_anything_else_asks_again(what: str, tmp_path: Path) -> None:
    """The moved value of the intent's own path is mended; never another path, another life, or later."""
    async with world(tmp_path, POLICY.replace("approvals: {", "approvals: {expires: {other: 8h}, ")) as here:
        id, asked = await starved(here)
        await yes(here, id, asked)
        drift(here, id, minimumTlsVersion="TLS1_0")
        match what:
            case "another control":
                drift(here, id, allowBlobPublicAccess=True)
            case "another life":
                here.sim.faults.recreate(id)
            case "an hour later":
                here.clock.forward(3600)
            case "gone":
                here.write("DELETE", id)
        await here.settle()
        written = [line.body for line in here.ours]
        if what == "another control":
            assert written == [{"properties": {TLS: "TLS1_2"}}], "its own path, and that alone"
            assert (await waiting(here, id)).plan.controls == ("storage-blob-anonymous-access",)
        else:
            assert written == []
            assert (await here.case(id)).acting is None


@pytest.mark.threat("D10", "D2")
@pytest.mark.parametrize("hash", ["plan", "intent", "other"])
async def test_an_intent_is_asked_for_by_name(hash: str, tmp_path: Path) -> None:
    """The hash of the plan or of the intent will do, with the word; the intent's alone says nothing."""
    async with world(tmp_path, POLICY) as here:
        id, asked = await starved(here)
        engine, given = here.guardrail.engine, {"plan": asked.plan.hash, "intent": asked.intent, "other": "0" * 64}[hash]
        if hash != "plan":
            with pytest.raises(Refused, match="has changed"):
                await people.approve(engine, id, asked.id, given, APPROVER, "yes")
        if hash == "other":
            with pytest.raises(Refused, match="has changed"):
                await yes(here, id, asked, given)
            return
        [approval] = (await yes(here, id, asked, given)).approvals
        assert (approval.plan, approval.intent) == (asked.plan.hash, asked.intent)


@pytest.mark.threat("D10")
async def test_one_of_two_who_saw_the_plan_alone_makes_no_intent(tmp_path: Path) -> None:
    """Two people are needed, and one of them approved the plan: it moves, and is asked again."""
    async with world(tmp_path, POLICY) as here:
        id, asked = await starved(here)
        case = await here.case(id)
        await here.guardrail.store.commit(replace(case, asked=replace(asked, needs=2)))
        asked = await waiting(here, id)
        await people.approve(here.guardrail.engine, id, asked.id, asked.plan.hash, ONCALL, "the plan")
        assert (await yes(here, id, asked)).state == "approved"
        drift(here, id, minimumTlsVersion="TLS1_0")
        await here.settle()
        assert here.ours == [] and (await waiting(here, id)).state == "proposed"


async def test_voids_of_another_day_count_no_more(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE, subscription=PROD)
        await drifts(here, id, "TLS1_0", "TLS1_1", "TLS1_0")
        here.clock.forward(24 * 3600 + 1)
        assert (await drifts(here, id, "TLS1_1")).intent == ""


@pytest.mark.threat("D10")
async def test_what_deletes_offers_no_intent(tmp_path: Path) -> None:
    """A rule that is opened again and again: its removal is asked for each time anew."""
    async with world(tmp_path, POLICY) as here:
        id = here.stands(NSG, subscription=PROD)
        for port in ("22", "3389", "22", "3389", "22"):
            here.sim.mutate(id, lambda body, port=port: _with_rule(body, port))
            await here.guardrail.store.send(Look(id, "person"))
            await here.forward(60, step=30)
        case = await here.case(id)
        assert case.asked is not None and any(edit.after is ABSENT for edit in case.asked.plan.edits)
        assert len(case.voids) == asks.VOIDS and case.asked.intent == ""


def _with_rule(body: Any, port: str) -> Any:
    rule = {"name": f"open-{port}", "properties": {
        "access": "Allow", "direction": "Inbound", "priority": 100, "protocol": "Tcp", "sourceAddressPrefix": "*",
        "sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": port}}
    return {**body, "properties": {**body["properties"], "securityRules": [rule]}}


VALUES = st.sampled_from([ABSENT, "a", "b", 1])
EDITS = st.lists(st.builds(Edit, st.sampled_from("ab"), VALUES, VALUES), max_size=2)
PLANS = st.builds(
    Plan, st.sampled_from([ResourceId("/subscriptions/s/x"), ResourceId("/subscriptions/s/y")]), st.sampled_from(["", "one"]),
    st.sampled_from(["fix", "isolate", "undo"]), EDITS.map(tuple), st.sampled_from([("c",), ("c", "d")]))


@given(PLANS, PLANS)
def test_two_plans_of_one_intent_differ_in_what_stands_there_alone(one: Plan, other: Plan) -> None:
    def rest(plan: Plan) -> Any:
        return plan.resource, plan.incarnation, plan.kind, plan.controls, [(edit.path, edit.after) for edit in plan.edits]

    assert (one.intent == other.intent) is (rest(one) == rest(other))
    assert one.intent != other.hash


@given(st.lists(st.integers(0, 100_000), max_size=6))
def test_three_voids_within_a_day_offer_the_intent(seconds: list[int]) -> None:
    from tests.flow.world import Clock

    start = Clock().now
    plan = Plan(ResourceId("/subscriptions/s/x"), "one", "fix", (Edit("a", "b", "c"),), ("d",))
    case = Case(plan.resource)
    times = sorted(start + timedelta(seconds=one) for one in seconds)
    for at in times:
        case = asks.voided(case, at)
    now = times[-1] if times else start
    assert bool(asks.intent(case, plan, now)) is (sum(now - at < timedelta(hours=24) for at in times) >= 3)
    assert asks.intent(case, replace(plan, edits=(Edit("a", "b", ABSENT),)), now) == ""
    assert asks.intent(case, replace(plan, kind="isolate"), now) == ""
