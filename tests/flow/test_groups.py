"""Environments and rules by management group: production until the sweep has asked, and never by what a drifter can name."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrail import groups
from guardrail.ids import ResourceId
from tests.flow.test_loop import OPEN, STORAGE
from tests.flow.world import DEV, PROD, World, world

pytestmark = pytest.mark.anyio

BY_GROUP = """
version: 1
environments: {development: [/providers/Microsoft.Management/managementGroups/sandbox]}
default: {production: approve, other: enforce}
breakers: {blast_radius: {least: 500, writes: 500}}
"""


def lies_below(here: World, subscription: str, *names: str) -> None:
    chain = [{"name": name, "displayName": name.title()} for name in names]
    here.sim.seed(f"/subscriptions/{subscription}", {"properties": {"managementGroupAncestorsChain": chain}})


async def opened(here: World, subscription: str = DEV) -> ResourceId:
    id = here.stands(STORAGE, subscription=subscription)
    here.write("PATCH", id, {})
    await here.settle()
    here.clock.forward(60)
    here.write("PATCH", id, OPEN)
    await here.settle()
    return id


async def test_a_subscription_is_production_until_the_sweep_has_asked(tmp_path: Path) -> None:
    async with world(tmp_path, BY_GROUP) as here:
        lies_below(here, DEV, "Sandbox", "root")
        lies_below(here, PROD, "landing-zones", "root")
        first = await opened(here)
        assert here.ours == [] and (await here.case(first)).asked is not None
        await here.guardrail.sweep()
        here.clock.forward(301)
        here.write("PATCH", first, {"properties": {"minimumTlsVersion": "TLS1_0"}})
        await here.settle()
        assert [line.method for line in here.ours] == ["PATCH"], "what drifted since is mended; the backlog still asks"
        other = await opened(here, PROD)
        assert (await here.case(other)).asked is not None


async def test_a_graph_that_does_not_answer_leaves_what_was_known(tmp_path: Path) -> None:
    async with world(tmp_path, BY_GROUP) as here:
        lies_below(here, DEV, "sandbox")
        await here.guardrail.sweep()
        here.sim.faults.answer("POST /providers/Microsoft.ResourceGraph/*", 400, "BadRequest")
        await here.guardrail.sweep()
        here.sim.faults.clear()
        here.clock.forward(301)
        await opened(here)
        assert [line.method for line in here.ours] == ["PATCH"]


async def test_a_policy_that_names_none_asks_for_none(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.guardrail.sweep()
        assert not any("resourcecontainers" in str(line.body) for line in here.sim.log)


@pytest.mark.parametrize(("rows", "found"), [
    ([{"subscriptionId": DEV.upper(), "chain": [{"name": "a"}, {"name": "root"}]}], {DEV: ["a", "root"]}),
    ([{"subscriptionId": DEV, "chain": None}, {"subscriptionId": PROD}], {DEV: [], PROD: []}),
    ([{"subscriptionId": DEV, "chain": ["a", {"displayName": "x"}, {"name": 3}, {"name": "b"}]}], {DEV: ["b"]}),
])
def test_odd_rows_put_nothing_below_anything(rows: list[dict[str, object]], found: dict[str, list[str]]) -> None:
    assert groups.chains(rows) == found
