"""Machine learning in the closed loop: what the table of controls does not do to its samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from guardrail.paths import same
from guardrail.values import Look
from remediators.ml_assets import SCHEDULE
from remediators.ml_computes import COMPUTE
from remediators.ml_endpoints import ONLINE
from tests.flow.harness import laid, stand
from tests.flow.world import World, world

pytestmark = pytest.mark.anyio


def written(here: World, id: str) -> list[str]:
    """Methods of our writes at the resource: its workspace, which stands there empty, is mended too."""
    return [line.method for line in here.ours if line.path.lower() == id.lower()]


async def test_a_deleted_monitor_is_missed_and_two_people_are_asked_to_bring_it_back(tmp_path: Path) -> None:
    """What it was is only what was seen: nobody accepted it."""
    async with world(tmp_path, proven=[SCHEDULE]) as here:
        id = here.stands(SCHEDULE)
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(70, step=35)
        before = here.show(id)
        here.write("DELETE", id, api_version="2026-05-01")
        await here.forward(300)
        case = await here.case(id)
        assert ("ml-model-monitor-schedule", "") in case.findings
        assert written(here, id) == []
        assert case.asked is not None
        (edit,) = case.asked.plan.edits
        assert edit.path == "" and same(edit.after["properties"]["action"], before["properties"]["action"])


async def test_a_foreign_machine_is_detached_and_a_cluster_with_public_ssh_scaled_to_no_node(tmp_path: Path) -> None:
    scale = "properties.properties.scaleSettings"
    async with world(tmp_path) as here:
        id = stand(here, laid(COMPUTE, {"properties.computeType": "AmlCompute", "properties.disableLocalAuth": False,
                                        f"{scale}": {"minNodeCount": 1, "maxNodeCount": 4}}))
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(70, step=35)
        assert here.show(id)["properties"]["properties"]["scaleSettings"] == {"minNodeCount": 0, "maxNodeCount": 0}
        assert written(here, id) == ["PATCH"]
        here.sim.mutate(id, lambda body: {**body, "properties": {
            **body["properties"], "isAttachedCompute": True,
            "resourceId": "/subscriptions/00000000-0000-0000-0000-0000000000f1/resourceGroups/r/providers/M.C/vms/v"}})
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(300)
        assert here.show(id) is None
        assert written(here, id) == ["PATCH", "DELETE"]


@pytest.mark.threat("A9")
async def test_an_endpoint_that_is_cut_off_keeps_its_deployments_where_they_are(tmp_path: Path) -> None:
    async with world(tmp_path, proven=[ONLINE]) as here:
        id = stand(here, laid(ONLINE, {"properties.authMode": "Key", "properties.publicNetworkAccess": "Enabled"}))
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(70, step=35)
        shown = here.show(id)
        assert shown["properties"]["publicNetworkAccess"] == "Disabled"
        assert shown["properties"]["traffic"] == {"blue": 0}
        assert not [name for name in shown if name.startswith("+")]
        assert [one["name"] for one in here.parts(id, "deployments", "2026-05-01")] == ["blue"]
