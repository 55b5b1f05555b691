"""The breakers: one who fights us, or drifts everything at once, gets an ask instead of a write, and takes no one else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import recorded
from guardrail.ids import ResourceId
from guardrail.values import Look
from tests.flow.test_loop import STORAGE
from tests.flow.world import DEV, ENFORCE, World, world

pytestmark = pytest.mark.anyio

TIGHT = ENFORCE.replace("writes: 50,", "writes: 2,").replace("writes: 500,", "writes: 3,").replace("reserve: 0", "reserve: 2")
OPENED = {"properties": {"publicNetworkAccess": "Enabled"}}
ANONYMOUS = {"properties": {"allowBlobPublicAccess": True}}


def account(here: World, name: str) -> ResourceId:
    """One more storage account, seen clean before."""
    sample = recorded.good(STORAGE)
    body = json.loads(json.dumps(sample.body).replace("stmltrain", name))
    return here.stands(STORAGE, body, id=sample.id.replace("stmltrain", name))


async def seen(here: World, names: list[str]) -> list[ResourceId]:
    ids = [account(here, name) for name in names]
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
