"""Trusted deployers and break-glass identities: only who Azure's own log names lets a decision be weaker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guardrail.ids import ResourceId
from simulator.identity import actor
from tests.flow.harness import STORAGE, event, laid, stand
from tests.flow.test_intake import told
from tests.flow.world import DEV, ENFORCE, World, world

pytestmark = pytest.mark.anyio

PIPELINE, ONCALL, ENGINEER = (actor(name).oid for name in ("deploy-pipeline", "oncall", "ml-engineer"))
TRUSTING = ENFORCE + f"""
trusted_deployers: [{{object_id: {PIPELINE}, scope: /subscriptions/{DEV}}}]
break_glass: [{ONCALL}]
"""
HTTP: dict[str, Any] = {"properties": {"supportsHttpsTrafficOnly": False}}          # high
ANONYMOUS: dict[str, Any] = {"properties": {"allowBlobPublicAccess": True}}         # critical


@asynccontextmanager
async def clean(folder: Path, policy: str = TRUSTING) -> AsyncIterator[tuple[World, ResourceId]]:
    async with world(folder, policy) as here:
        here.sim.clock = lambda: here.clock().timestamp()
        id = stand(here, laid(STORAGE))
        await told(here, event(id))
        here.clock.forward(3 * 3600)
        yield here, id


@pytest.mark.threat("B1")
@pytest.mark.parametrize(("who", "change", "lag_s", "written"), [
    ("deploy-pipeline", HTTP, 0, 0), ("deploy-pipeline", HTTP, 600, 1), ("deploy-pipeline", ANONYMOUS, 0, 1),
    ("oncall", HTTP, 0, 0), ("oncall", ANONYMOUS, 0, 0), ("ml-engineer", HTTP, 0, 1)])
async def test_who_is_confirmed_passes(who: str, change: dict[str, Any], lag_s: float, written: int, tmp_path: Path) -> None:
    async with clean(tmp_path) as (here, id):
        here.sim.faults.activity_log(lag_s)
        here.write("PATCH", id, change, as_=who)
        await here.settle()
        assert len(here.ours) == written


@pytest.mark.threat("B1")
async def test_a_claim_that_the_log_does_not_bear_out_weakens_nothing(tmp_path: Path) -> None:
    """An ml-engineer drifts it, their event is lost, and a forged one names the trusted deployer."""
    async with clean(tmp_path) as (here, id):
        here.sim.faults.events(drop=1.0)
        here.write("PATCH", id, HTTP, as_="ml-engineer")
        await told(here, event(id, data={"claims": {"oid": PIPELINE}}))
        assert len(here.ours) == 1


async def test_somebody_else_in_the_log_is_one_too_many(tmp_path: Path) -> None:
    async with clean(tmp_path) as (here, id):
        here.write("PATCH", id, {"tags": {"a": "b"}}, as_="ml-engineer")
        await here.settle()
        here.clock.forward(60)
        here.write("PATCH", id, HTTP, as_="deploy-pipeline")
        await here.settle()
        assert len(here.ours) == 1


async def test_a_log_that_cannot_be_read_confirms_nobody(tmp_path: Path) -> None:
    async with clean(tmp_path) as (here, id):
        here.sim.faults.answer("GET */eventtypes/management/values", 403, "AuthorizationFailed")
        here.write("PATCH", id, HTTP, as_="deploy-pipeline")
        await here.settle()
        assert len(here.ours) == 1


async def test_a_policy_that_trusts_nobody_asks_no_log(tmp_path: Path) -> None:
    async with clean(tmp_path, ENFORCE) as (here, id):
        here.write("PATCH", id, HTTP, as_="deploy-pipeline")
        await here.settle()
        assert not any("eventtypes" in line.path for line in here.sim.log)
