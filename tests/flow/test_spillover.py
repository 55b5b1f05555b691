"""A control that compares two things, where both drifted at once: each is mended, and what that brings to light as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import recorded
from guardrail import people
from guardrail.ids import ResourceId
from guardrail.paths import get, parse
from tests.flow.harness import AI, Crash, at, looked, restart, stand, world
from tests.flow.test_people import APPROVER, GROUP, ONCALL
from tests.flow.world import DEV, ENFORCE, World, type_of

pytestmark = pytest.mark.anyio

CHAT, BATCH = (f"+deployments[name='{name}'].properties" for name in ("chat-gpt", "chat-batch"))
STRICT, SECOND = (f"+raiPolicies[name='{name}']" for name in ("strict", "second"))
SPILL, POINTER = "spilloverDeploymentName", "raiPolicyName"
SHIELD = "properties.contentFilters[name='Indirect Attack',source='Prompt']"
JAILBREAK = "properties.contentFilters[name='Jailbreak',source='Prompt']"
SPILLOVER = "openai-deployment-spillover"
OF_STRICT = get(recorded.good(AI).body, parse(STRICT))
APART = {SECOND: {**OF_STRICT, "name": "second", "id": f"{recorded.good(AI).id}/raiPolicies/second"},
         f"{BATCH}.{POINTER}": "second"}
ONTO_DEFAULT = {f"{BATCH}.{POINTER}": "Microsoft.DefaultV2"}        # which has no shield against indirect attacks, and may


def weak(*policies: str) -> dict[str, Any]:
    return {f"{policy}.{place}.{name}": False for policy in policies for place in (SHIELD, JAILBREAK)
            for name in ("blocking", "enabled")}


def lay(here: World, *edits: Mapping[str, Any]) -> ResourceId:
    """The account stands so now."""
    body = recorded.good(AI).body
    for one in edits:
        body = recorded.laid(body, one)
    return stand(here, recorded.Sample(recorded.good(AI).id, recorded.good(AI).api_version, body))


def matters(here: World, id: ResourceId) -> Any:
    """What people wrote into filters and deployments, without what Azure makes of a write."""
    told = [(route.path[:route.path.index("[")], route.api_version) for route in type_of(AI).routes if route.path.startswith(
        ("+raiPolicies", "+deployments"))]
    return {(name, item["name"]): {key: value for key, value in item["properties"].items() if key != "provisioningState"}
            for name, version in told for item in here.parts(id, name[1:], version)}


def die() -> None:
    raise Crash("after the write")


async def told(here: World, id: ResourceId, event: str) -> list[Any]:
    return [one["detail"] for one in await here.records(id) if one["event"] == event]


HIDDEN = {**weak(STRICT), f"{CHAT}.{SPILL}": "chat-batch"}     # the filter is as weak as where its overflow goes
GOOD: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    # name: (what stands when all is well, what somebody does to it at once)
    "two filters, and the overflow stays": ({**APART, f"{CHAT}.{SPILL}": "chat-batch"}, weak(STRICT, SECOND)),
    "in a circle": ({**APART, f"{CHAT}.{SPILL}": "chat-batch", f"{BATCH}.{SPILL}": "chat-gpt"}, weak(STRICT, SECOND)),
    "an overflow to a filter that cannot be mended": (ONTO_DEFAULT, HIDDEN),
    "an overflow that is seen from the start": (APART, {**weak(SECOND), f"{CHAT}.{SPILL}": "chat-batch"}),
    "a pointer and the filter that it leads to": (
        {**APART, f"{BATCH}.{POINTER}": "strict", f"{CHAT}.{POINTER}": "Microsoft.DefaultV2"},
        {f"{BATCH}.{POINTER}": "second", **weak(SECOND), f"{BATCH}.{SPILL}": "chat-gpt"}),
    "two pointers": ({**APART, f"{BATCH}.{SPILL}": "chat-gpt"},
                     {f"{one}.{POINTER}": "Microsoft.Default" for one in (CHAT, BATCH)}),
}


@pytest.mark.threat("I2", "I5")
@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("dies", [False, True], ids=["at once", "by a worker that dies after the first write"])
async def test_both_drifted_at_once_and_all_is_as_it_was(name: str, dies: bool, tmp_path: Path) -> None:
    """Enforced: no drift stays, nobody is asked, and the chain tells of each; our own repair is no misuse of our identity."""
    before, drift = GOOD[name]
    async with world(tmp_path, proven=[AI]) as here:
        id = lay(here, before)
        await looked(here, id)
        assert (await here.case(id)).findings == frozenset()
        await here.accept(id)
        well = matters(here, id)
        lay(here, before, drift)
        assert matters(here, id) != well
        if dies:        # then the rest is found in answer to the echo of our own write
            at(here.guardrail, "arm.send", "after", die)
            with pytest.raises(Crash):
                await looked(here, id)
            await restart(here)
        else:
            await looked(here, id)
        await here.forward(420, step=20)
        case, events = await here.case(id), await here.events_of(id)
        assert matters(here, id) == well
        assert (case.findings, case.asked, case.acting) == (frozenset(), None, None)
        assert not {"identity.misused", "conflict.seen", "plan.refused", "action.failed"} & set(events)
        plans = [(one["action_id"], SPILLOVER in one["controls"]) for one in await told(here, id, "action.verified")]
        assert [only for _, only in plans] == {
            "an overflow to a filter that cannot be mended": [False, True],
            "a pointer and the filter that it leads to": [False, True], "an overflow that is seen from the start": [True],
        }.get(name, [False])
        assert {id for id, _ in plans} == {one["action_id"] for one in await told(here, id, "action.applying")}


async def hidden(here: World) -> ResourceId:
    """A filter as weak as where its overflow goes: looked at, when all was well before."""
    id = lay(here, ONTO_DEFAULT)
    await looked(here, id)
    lay(here, ONTO_DEFAULT, HIDDEN)
    await looked(here, id)
    return id


async def test_what_comes_to_light_goes_by_its_own_mode(tmp_path: Path) -> None:
    """The filter is mended at once; where its overflow goes is only reported, and people can read why."""
    policy = ENFORCE + f"rules: [{{name: overflow, control: {SPILLOVER}, mode: report}}]\n"
    async with world(tmp_path, policy, proven=[AI]) as here:
        id = await hidden(here)
        await here.forward(120)
        case = await here.case(id)
        assert (case.findings, case.asked, case.acting) == ({(SPILLOVER, f"{CHAT}.{SPILL}")}, None, None)
        assert get(here.parts(id, "raiPolicies", "2025-06-01"), parse(f"[name='strict'].{SHIELD}.blocking")) is True
        assert len(here.ours) == 1


async def test_what_comes_to_light_is_asked_by_itself(tmp_path: Path) -> None:
    """Both ask: first the filter, then its overflow, each with a plan of its own; nobody approves what was not shown."""
    policy = ENFORCE.replace("other: enforce", "other: approve")
    policy += f"approvals: {{approvers: [{{scope: /subscriptions/{DEV}, group: {GROUP}}}]}}\n"
    async with world(tmp_path, policy) as here:
        id = lay(here, ONTO_DEFAULT)
        well = matters(here, id)
        await hidden(here)
        wanted = list[str]()
        while (waiting := (await here.case(id)).asked) is not None:
            wanted.append(str(sorted({edit.path.split(".")[0] for edit in waiting.plan.edits})))
            for who in (APPROVER, ONCALL):      # nobody knows who did it: two decide
                await people.approve(here.guardrail.engine, id, waiting.id, waiting.plan.hash, who, "seen")
            await here.settle()
            await here.forward(60, step=30)
        assert wanted == [str([STRICT]), str(["+deployments[name='chat-gpt']"])]
        assert matters(here, id) == well and (await here.case(id)).findings == frozenset()
