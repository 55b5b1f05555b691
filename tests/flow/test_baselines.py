"""What is restored: declared by the policy, or accepted by two people. What was merely seen only asks, and asks two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from guardrail import people
from guardrail.dangling import references
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT
from guardrail.values import Edit, Look, digest
from tests.flow.test_people import APPROVER, ENGINEER, ONCALL, POLICY
from tests.flow.world import DEV, PROD, WORKSPACE, World, world

pytestmark = pytest.mark.anyio

VAULT = "Microsoft.KeyVault/vaults"
LOGS = "+diagnosticSettings"
KEPT = [line for line in POLICY.splitlines() if "approved_workspaces" not in line]
NOTHING_DECLARED = "\n".join(KEPT).replace("  parameters:", "")
GROUPS = {"approvers": "11111111-1111-1111-1111-111111111111"}


async def clean(here: World, subscription: str = DEV) -> ResourceId:
    """A vault that was seen clean, and the workspace that its logs go to."""
    here.sim.seed(WORKSPACE, {"location": "eastus", "properties": {}}, "2025-07-01")
    id = here.stands(VAULT, subscription=subscription)
    await here.guardrail.store.send(Look(id, "sweep"))
    await here.settle()
    here.clock.forward(60)
    return id


def settings(here: World, id: ResourceId) -> list[str]:
    return [one["id"] for one in here.parts(id, "providers/Microsoft.Insights/diagnosticSettings", "2021-05-01-preview")]


@pytest.mark.threat("A11")
async def test_what_was_merely_seen_is_asked_for_by_two(tmp_path: Path) -> None:
    async with world(tmp_path, NOTHING_DECLARED) as here:
        id = await clean(here)
        here.write("DELETE", settings(here, id)[0], api_version="2021-05-01-preview")
        await here.settle()
        asked = (await here.case(id)).asked
        assert asked is not None and asked.needs == 2
        assert here.ours == [] and settings(here, id) == []


@pytest.mark.threat("A11")
async def test_what_two_accepted_comes_back_by_itself(tmp_path: Path) -> None:
    async with world(tmp_path, NOTHING_DECLARED) as here:
        id, engine = await clean(here), here.guardrail.engine
        hash = digest((await here.case(id)).good[LOGS])
        with pytest.raises(Refused, match="look at it again"):
            await people.accept(engine, id, LOGS, "0" * 64, APPROVER, **GROUPS)
        await people.accept(engine, id, LOGS, hash, APPROVER, **GROUPS)
        await people.accept(engine, id, LOGS, hash, APPROVER, **GROUPS)
        assert (await here.case(id)).accepted == {}, "one person twice is one person"
        await people.accept(engine, id, LOGS, hash, ONCALL, **GROUPS)
        assert (await here.case(id)).accepted.keys() == {LOGS}
        (before,) = settings(here, id)
        here.write("DELETE", before, api_version="2021-05-01-preview")
        await here.settle()
        assert settings(here, id) == [before]


@pytest.mark.threat("A11")
async def test_whoever_changed_it_does_not_accept_it(tmp_path: Path) -> None:
    async with world(tmp_path, NOTHING_DECLARED) as here:
        id, engine = await clean(here), here.guardrail.engine
        here.write("DELETE", settings(here, id)[0], as_="ml-engineer", api_version="2021-05-01-preview")
        await here.settle()
        hash = digest((await here.case(id)).good[LOGS])
        with pytest.raises(Refused, match="other people"):
            await people.accept(engine, id, LOGS, hash, ENGINEER, **GROUPS)


@pytest.mark.threat("A7")
async def test_a_new_life_of_the_name_inherits_no_baseline(tmp_path: Path) -> None:
    async with world(tmp_path, NOTHING_DECLARED) as here:
        id = await clean(here)
        await here.accept(id)
        here.sim.faults.recreate(id)
        await here.forward(30, step=10)
        assert (await here.case(id)).accepted == {}


# What leads nowhere any more


@pytest.mark.threat("A12")
@pytest.mark.parametrize("how", ["deleted", "its group deleted", "another of its name in another group", "refused"])
async def test_what_leads_nowhere_is_held_and_comes_back_with_its_target(how: str, tmp_path: Path) -> None:
    """The workspace goes, then the setting that ships logs to it: nobody restores a name that others may take."""
    async with world(tmp_path, NOTHING_DECLARED) as here:
        id = await clean(here)
        await here.accept(id)
        (before,) = settings(here, id)
        if how == "refused":
            here.sim.faults.revoke("Microsoft.Resources/subscriptions/resources/read")
        else:
            here.sim.faults.delete(WORKSPACE.split("/providers/")[0] if how == "its group deleted" else WORKSPACE)
        if how.startswith("another"):
            here.sim.seed(WORKSPACE.replace("rg-log", "rg-ai-dev"), {"location": "eastus", "properties": {}}, "2025-07-01")
        here.write("DELETE", before, api_version="2021-05-01-preview")
        await here.forward(3 * 3600, step=1800)
        assert here.ours == [] and settings(here, id) == []
        case = await here.case(id)
        assert case.asked is not None and case.asked.state == "held"
        assert case.asked.why.startswith(f"dangling: {WORKSPACE} ")
        assert (await here.events_of(id)).count("action.held") == 1
        here.sim.faults.access.clear()
        here.sim.seed(WORKSPACE, {"location": "eastus", "properties": {}}, "2025-07-01")
        await here.forward(3700, step=1800)
        assert settings(here, id) == [before]
        assert (await here.case(id)).asked is None


@pytest.mark.threat("A12")
@pytest.mark.parametrize(("id", "stands"), [
    (f"/subscriptions/{DEV}", True), (f"/subscriptions/{PROD[:-1]}9", False),
    (f"/subscriptions/{DEV}/resourceGroups/rg-log", True), (f"/subscriptions/{DEV}/resourceGroups/rg-gone", False)])
async def test_a_reference_may_be_to_a_group_or_a_subscription(id: str, stands: bool, tmp_path: Path) -> None:
    async with world(tmp_path, NOTHING_DECLARED) as here:
        await clean(here)
        assert await here.guardrail.engine.arm.stands(ResourceId(id), None) is stands


@pytest.mark.threat("A12")
async def test_an_approved_restore_is_held_where_its_target_went_meanwhile(tmp_path: Path) -> None:
    async with world(tmp_path, NOTHING_DECLARED) as here:
        id, engine = await clean(here, PROD), here.guardrail.engine
        here.write("DELETE", settings(here, id)[0], as_="ml-engineer", api_version="2021-05-01-preview")
        await here.settle()
        asked = (await here.case(id)).asked
        assert asked is not None and asked.state == "proposed"
        here.sim.faults.delete(WORKSPACE)
        for who in (APPROVER, ONCALL):
            await people.approve(engine, id, asked.id, asked.plan.hash, who, "seen", **GROUPS)
        await here.forward(2 * 3600, step=1800)
        assert here.ours == [] and settings(here, id) == []
        acting = (await here.case(id)).acting
        assert acting is not None and acting.state == "held" and "dangling" in acting.why
        assert (await here.events_of(id)).count("action.held") == 1


OWN = ResourceId(f"/subscriptions/{DEV}/resourceGroups/rg-ai-dev/providers/{VAULT}/kv-ai-dev")
NET = f"/subscriptions/{DEV}/resourceGroups/rg-net/providers/Microsoft.Network/virtualNetworks/v/subnets/s"


@pytest.mark.threat("A12")
@pytest.mark.parametrize(("after", "before", "declared", "ids", "hosts"), [
    ({"workspaceId": WORKSPACE}, ABSENT, [], [WORKSPACE], []),
    ({"workspaceId": WORKSPACE.upper()}, ABSENT, [WORKSPACE], [], []),
    ({"workspaceId": WORKSPACE}, {"workspaceId": WORKSPACE.lower()}, [], [], []),
    ({"rules": [{"id": NET}, {"id": WORKSPACE}]}, {"rules": [{"id": NET}]}, [], [WORKSPACE], []),
    ({"userAssignedIdentities": {NET: {}}}, ABSENT, [], [NET], []),
    ({"id": f"{OWN}/providers/Microsoft.Insights/diagnosticSettings/logs"}, ABSENT, [], [], []),
    ({"scope": OWN.split("/providers/")[0]}, ABSENT, [], [], []),
    ({"id": OWN + "2"}, ABSENT, [], [OWN + "2"], []),
    ({"id": f"{NET}/providers/odd tail"}, ABSENT, [], [NET], []),
    ("https://bot.example.com/api", ABSENT, [], [], ["bot.example.com"]),
    ("https://bot.example.com/api", ABSENT, ["Bot.example.com"], [], []),
    ("https://bot.example.com/new", "https://BOT.example.com/old", [], [], []),
    ("HTTPS://user:x@Evil.example.com:8443/?a", ABSENT, ["bot.example.com", "user"], [], ["evil.example.com"]),
    ("<set-backend base-url='https://a.example.com/x'/> wss://b.example.com", ABSENT, [], [],
     ["a.example.com", "b.example.com"]),
    ("https://bot.example.com.evil.com", ABSENT, ["bot.example.com"], [], ["bot.example.com.evil.com"]),
    ("https:" + chr(92) * 2 + "evil.example.com/x", ABSENT, [], [], ["evil.example.com"]),
    (True, ABSENT, [], [], []),
    ("Deny", "Allow", [], [], []),
])
def test_what_an_edit_refers_to(after: Any, before: Any, declared: list[str], ids: list[str], hosts: list[str]) -> None:
    assert references([Edit("properties", before, after)], declared, OWN) == (ids, hosts)
