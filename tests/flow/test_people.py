"""What people decide, and what is refused them: four eyes, the plan that was seen, its end, its place, its undo."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console import views
from guardrail import people
from guardrail.authorize import ROLES, VERBS, Person, authorize
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.values import Action, Case, Look
from simulator.identity import actor
from tests.flow.test_loop import OPEN, STORAGE
from tests.flow.world import ENFORCE, PROD, World, world

pytestmark = pytest.mark.anyio

GROUP = "11111111-1111-1111-1111-111111111111"
POLICY = ENFORCE + f"approvals: {{approvers: [{{scope: /subscriptions/{PROD}, group: {GROUP}}}]}}\n"
COMPUTE = "Microsoft.MachineLearningServices/workspaces/computes"


def person(name: str, *roles: str, **more: Any) -> Person:
    return Person(actor(name).oid, frozenset(roles or ("Approver", "Operator")), frozenset({GROUP}), **more)


APPROVER, ONCALL, ENGINEER = person("approver"), person("oncall"), person("ml-engineer")


def unmoved(case: Case) -> Case:
    """A case without what any record moves."""
    return replace(case, seq=0, head="", etag="")


async def asked(here: World) -> tuple[ResourceId, Action]:
    """Production: an ml-engineer opened a storage account, and its plan waits."""
    id = here.stands(STORAGE, subscription=PROD)
    here.write("PATCH", id, OPEN)
    await here.settle()
    waiting = (await here.case(id)).asked
    assert waiting is not None and here.ours == []
    return id, waiting


async def test_the_right_persons_yes_lets_the_plan_act(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        done = await people.approve(here.guardrail.engine, id, action.id, action.plan.hash, APPROVER, "matches policy")
        assert done.state == "approved"
        await here.settle()
        assert [line.method for line in here.ours] == ["PATCH"]
        case = await here.case(id)
        assert (case.asked, case.acting, case.findings) == (None, None, frozenset())
        record = next(one for one in await here.records(id) if one["event"] == "action.approved")
        assert (record["actor"], record["detail"]["reason"]) == (APPROVER.object_id, "matches policy")


@pytest.mark.threat("D1", "D2", "D3", "D4", "D13")
@pytest.mark.parametrize(("who", "change", "code"), [
    (ENGINEER, {}, "four-eyes"), (person("approver", "Reader"), {}, "role"), (person("approver", "Operator"), {}, "role"),
    (person("approver", is_person=False), {}, "app-only"), (person("approver", is_guest=True), {}, "guest"),
    (person("approver", token_age_s=3601), {}, "token-age"), (replace(APPROVER, groups=frozenset()), {}, "scope"),
    (APPROVER, {"hash": "0" * 64}, "stale"), (APPROVER, {"action": "act-nothing"}, "decided"),
    (APPROVER, {"switch": "report"}, "report"), (APPROVER, {"intent": True}, "intent"),
])
async def test_a_refused_approval_changes_nothing(who: Person, change: Any, code: str, tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        if "switch" in change:
            await here.rules(switch=change["switch"])
        before = await here.case(id)
        with pytest.raises(Refused) as refused:
            await people.approve(here.guardrail.engine, id, change.get("action", action.id),
                                 change.get("hash", action.plan.hash), who, "yes", intent=change.get("intent", False))
        assert refused.value.code == code
        assert unmoved(await here.case(id)) == unmoved(before)
        await here.settle()
        assert here.ours == []


@pytest.mark.threat("D1")
async def test_a_pipelines_owner_is_the_pipeline(tmp_path: Path) -> None:
    """The policy says whose pipeline it is, and a colleague's innocent write in between hides nobody."""
    mapped = POLICY.replace("approvals: {", f"approvals: {{people: {{{actor('deploy-pipeline').oid}: {APPROVER.object_id}}}, ")
    async with world(tmp_path, mapped) as here:
        id = here.stands(STORAGE, subscription=PROD)
        here.write("PATCH", id, OPEN, as_="deploy-pipeline")
        await here.settle()
        here.write("PATCH", id, {"tags": {"team": "ml"}}, as_="oncall")
        await here.forward(30, step=10)
        waiting = (await here.case(id)).asked
        assert waiting is not None
        for who in (APPROVER, ONCALL):
            with pytest.raises(Refused, match="another person"):
                await people.approve(here.guardrail.engine, id, waiting.id, waiting.plan.hash, who, "yes")


async def test_where_nobody_knows_who_did_it_two_must_approve(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE, subscription=PROD)
        here.sim.mutate(id, lambda body: {**body, "properties": {**body["properties"], "publicNetworkAccess": "Enabled"}})
        await here.guardrail.store.send(Look(id, "sweep"))
        await here.settle()
        waiting = (await here.case(id)).asked
        assert waiting is not None
        engine = here.guardrail.engine
        first = await people.approve(engine, id, waiting.id, waiting.plan.hash, APPROVER, "yes")
        assert first.state == "proposed"
        [row] = await views.approvals(here.guardrail.store)
        assert (row["id"], row["state"], len(row["approvals"])) == (waiting.id, "proposed", 1), "it waits on, and is seen"
        with pytest.raises(Refused, match="already"):
            await people.approve(engine, id, waiting.id, waiting.plan.hash, APPROVER, "yes again")
        await here.settle()
        assert here.ours == []
        second = await people.approve(engine, id, waiting.id, waiting.plan.hash, ONCALL, "yes too")
        assert second.state == "approved"
        await here.settle()
        assert len(here.ours) == 1


@pytest.mark.threat("D9")
async def test_of_many_at_once_one_decides(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        engine = here.guardrail.engine
        calls = [people.approve(engine, id, action.id, action.plan.hash, person(f"p{at}"), "yes") if at % 2 else
                 people.reject(engine, id, action.id, person(f"p{at}"), "no") for at in range(50)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        done = [one for one in results if not isinstance(one, BaseException)]
        assert len(done) == 1
        assert all(isinstance(one, Refused) and one.code == "decided" for one in results if one not in done)
        events = await here.events_of(id)
        assert events.count("action.approved") + events.count("action.rejected") == 1


@pytest.mark.threat("R17", "R22")
async def test_a_change_after_the_yes_voids_it(tmp_path: Path) -> None:
    """Approved, and before it is carried out the touched value moves: asked again, nothing written by the old plan."""
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        await people.approve(here.guardrail.engine, id, action.id, action.plan.hash, APPROVER, "yes")
        here.sim.mutate(id, lambda body: {**body, "properties": {**body["properties"], "minimumTlsVersion": "TLS1_1"}})
        await here.settle()
        assert here.ours == []
        events = await here.events_of(id)
        assert "action.superseded" in events and events.count("action.proposed") == 2


async def test_an_approval_under_another_policy_is_asked_again(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        await people.approve(here.guardrail.engine, id, action.id, action.plan.hash, APPROVER, "yes")
        from guardrail import policy_file
        here.guardrail.engine.policy = policy_file.load((POLICY + "# another day\n").encode(), "test policy")
        await here.settle()
        assert here.ours == []
        assert (await here.case(id)).asked is not None


async def test_a_rejected_plan_rests_until_the_next_change(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        await people.reject(here.guardrail.engine, id, action.id, APPROVER, "wanted for a demo")
        await here.forward(3600, step=1200)
        assert (await here.events_of(id)).count("action.proposed") == 1
        here.write("PATCH", id, {"tags": {"x": "y"}})
        await here.settle()
        assert (await here.events_of(id)).count("action.proposed") == 2
        assert here.ours == []


@pytest.mark.threat("D14", "R25")
async def test_an_undo_takes_two_and_is_left_alone_afterwards(tmp_path: Path) -> None:
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        engine = here.guardrail.engine
        await people.approve(engine, id, action.id, action.plan.hash, APPROVER, "yes")
        await here.settle()
        wanted = await people.undo(engine, id, action.id, ONCALL, "the demo needs it")
        assert wanted.state == "proposed" and wanted.plan.kind == "undo"
        with pytest.raises(Refused, match="asked for it"):
            await people.approve(engine, id, wanted.id, wanted.plan.hash, ONCALL, "me too")
        await people.approve(engine, id, wanted.id, wanted.plan.hash, APPROVER, "fine")
        await here.settle()
        assert here.show(id)["properties"]["publicNetworkAccess"] == "Enabled"
        count = len(here.ours)
        for _ in range(3):
            await here.guardrail.sweep()
            await here.forward(120, step=60)
        assert len(here.ours) == count, "the next sweep must not fight the undo"
        assert (await here.case(id)).asked is None, "nor ask for it again"
        here.sim.mutate(id, lambda body: {**body, "properties": {**body["properties"], "minimumTlsVersion": "TLS1_1"}})
        await here.guardrail.sweep()
        await here.settle()
        assert (await here.case(id)).asked is not None, "a worse value than the pinned one is drift again"


@pytest.mark.threat("R25")
async def test_an_undo_leaves_what_moved_on(tmp_path: Path) -> None:
    """Three-way: only where our value still stands; what was tightened since stays."""
    async with world(tmp_path, POLICY) as here:
        id, action = await asked(here)
        engine = here.guardrail.engine
        await people.approve(engine, id, action.id, action.plan.hash, APPROVER, "yes")
        await here.settle()
        here.sim.mutate(id, lambda body: {**body, "properties": {**body["properties"], "minimumTlsVersion": "TLS1_3"}})
        wanted = await people.undo(engine, id, action.id, ONCALL, "needed")
        assert "properties.minimumTlsVersion" not in {edit.path for edit in wanted.plan.edits}
        here.sim.faults.recreate(id)
        with pytest.raises(Refused, match="not the resource"):
            await people.undo(engine, id, action.id, ONCALL, "needed")


@pytest.mark.threat("D3")
@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize("role", sorted(ROLES))
async def test_each_verb_by_each_role(verb: str, role: str) -> None:
    from guardrail.policy_schema import Policy

    who = Person("x", frozenset({role}), frozenset({GROUP}))
    allowed = VERBS[verb] in ROLES[role]
    with nullcontext() if allowed else pytest.raises(Refused, match="needs the app role"):
        authorize(who, verb, ResourceId(f"/subscriptions/{PROD}"), Policy(), GROUP)
