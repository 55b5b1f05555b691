"""What is restored: declared by the policy, or accepted by two people. What was merely seen only asks, and asks two."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrail import people
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.values import Look, digest
from tests.flow.test_people import APPROVER, ENGINEER, ONCALL, POLICY
from tests.flow.world import World, world

pytestmark = pytest.mark.anyio

VAULT = "Microsoft.KeyVault/vaults"
LOGS = "+diagnosticSettings"
KEPT = [line for line in POLICY.splitlines() if "approved_workspaces" not in line]
NOTHING_DECLARED = "\n".join(KEPT).replace("  parameters:", "")
GROUPS = {"approvers": "11111111-1111-1111-1111-111111111111"}


async def clean(here: World) -> ResourceId:
    id = here.stands(VAULT)
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
        assert (await here.case(id)).accepted == frozenset(), "one person twice is one person"
        await people.accept(engine, id, LOGS, hash, ONCALL, **GROUPS)
        assert (await here.case(id)).accepted == {LOGS}
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
        assert (await here.case(id)).accepted == frozenset()
