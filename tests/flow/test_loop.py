"""The closed loop on the real path: a write by somebody, its event, the engine, the SDKs over HTTP, verified, recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import recorded
from detectors import CONTROLS
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT, get, parse, same
from guardrail.values import Control, Look
from tests.flow.world import PROD, World, type_of, world

pytestmark = pytest.mark.anyio

STORAGE = "Microsoft.Storage/storageAccounts"
AI = "Microsoft.CognitiveServices/accounts"
VAULT = "Microsoft.KeyVault/vaults"
NSG = "Microsoft.Network/networkSecurityGroups"
ALL_TYPES = sorted({control.on for control in CONTROLS})
ACLS = recorded.good(STORAGE).body["properties"]["networkAcls"]
OPEN: Any = {"properties": {
    "publicNetworkAccess": "Enabled", "minimumTlsVersion": "TLS1_0", "supportsHttpsTrafficOnly": False,
    "allowBlobPublicAccess": True, "networkAcls": {**ACLS, "defaultAction": "Allow"}}}


async def look(here: World, id: ResourceId) -> None:
    """A person asks for a look; everything that follows from it is done, second looks too."""
    await here.guardrail.store.send(Look(id, "person"))
    await here.forward(70, step=35)


@pytest.mark.parametrize("control", [one for one in CONTROLS if one.response != "report"], ids=lambda one: one.id)
async def test_each_control_mends_its_own_drift(control: Control, tmp_path: Path) -> None:
    """Drifted behind our back, looked at, mended in one round; afterwards nothing is found and nothing is written."""
    async with world(tmp_path, proven=ALL_TYPES) as here:
        id = here.stands(control.on)
        await look(here, id)
        assert (await here.case(id)).findings == frozenset()
        await here.accept(id)
        sample = recorded.drifted(control)
        wanted = {url for url, _, _ in recorded.resources(sample, type_of(control.on))}
        for url, version, _ in recorded.resources(recorded.good(control.on), type_of(control.on)):
            if url not in wanted:
                here.write("DELETE", url, api_version=version)
        for url, version, body in recorded.resources(sample, type_of(control.on)):
            here.sim.seed(url, body, version)
        await look(here, id)
        assert control.id in {name for name, _ in (await here.case(id)).findings} | {
            str(record["detail"].get("control")) for record in await here.records(id) if record["event"] == "finding.raised"}
        if (await here.case(id)).asked is not None:
            pytest.skip(f"asks: {(await here.case(id)).asked.why}")
        assert here.ours, await here.events_of(id)
        case = await here.case(id)
        if control.response == "revert":
            assert case.findings == frozenset()
        assert case.acting is None, case.acting
        count = len(here.ours)
        await look(here, id)
        await here.forward(300)
        assert len(here.ours) == count


async def test_five_drifts_are_one_plan_one_patch_and_two_reads(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = here.stands(STORAGE)
        await look(here, id)
        before = here.show(id)
        here.sim.log.clear()
        here.write("PATCH", id, OPEN)
        await here.settle()
        assert [line.method for line in here.ours] == ["PATCH"]
        assert same(_own(here.show(id)), _own(before))
        events = await here.events_of(id)
        assert events.count("action.applying") == events.count("action.verified") == 1
        main = [line for line in here.reads if line.path.lower().endswith("/storageaccounts/stmltrain")]
        assert len(main) == 2


def _own(body: Any) -> Any:
    return {name: value for name, value in body.items() if name not in ("etag", "systemData")}


async def test_a_clean_event_costs_one_read_however_many_controls_look(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = here.stands(VAULT)
        await look(here, id)
        here.sim.log.clear()
        here.write("PATCH", id, {"tags": {"team": "ml"}})
        await here.settle()
        mounted = [line for line in here.reads if "diagnosticsettings" in line.path.lower()]
        assert len(here.reads) - len(mounted) == 1
        assert here.ours == []


async def test_a_thousand_events_in_a_second_cost_a_handful_of_reads(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = here.stands(VAULT)
        await look(here, id)
        here.sim.log.clear()
        for count in range(1000):
            here.write("PATCH", id, {"tags": {"count": str(count)}})
            if count % 100 == 0:
                await here.settle()
        await here.settle()
        await here.forward(40, step=5)
        assert len([line for line in here.reads if "diagnostic" not in line.path.lower()]) <= 5
        seen = [record for record in await here.records(id) if record["event"] == "change.seen"]
        assert seen
        _, waiting = await here.guardrail.store.load(id)
        assert waiting is None or not waiting.changes


@pytest.mark.threat("I7")
@pytest.mark.parametrize("how", [{"ceiling": "report"}, {"switch": "report"}, {"policy": "version: 1"}], ids=str)
async def test_report_mode_sends_nothing_but_reads(how: Any, tmp_path: Path) -> None:
    """For the ceiling, the switch, and a policy that says nothing."""
    async with world(tmp_path, **how) as here:
        id = here.stands(STORAGE)
        here.write("PATCH", id, OPEN)
        await here.forward(120)
        assert here.ours == []
        made = [record for record in await here.records(id) if record["event"] == "decision.made"]
        assert made and all(record["detail"]["mode"] == "report" for record in made)
        assert any(record["detail"]["edits"] for record in made)


async def test_production_asks_and_writes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = here.stands(STORAGE, subscription=PROD)
        here.write("PATCH", id, OPEN)
        await here.settle()
        case = await here.case(id)
        assert here.ours == []
        assert case.asked is not None and case.asked.state == "proposed" and case.asked.expires is not None
        assert len(case.asked.plan.edits) == 5
        hash = case.asked.plan.hash
        await here.forward(600)
        assert (await here.case(id)).asked.plan.hash == hash      # type: ignore[union-attr]
        assert (await here.events_of(id)).count("action.proposed") == 1


async def test_a_deleted_diagnostic_setting_comes_back_as_it_was(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = here.stands(AI)
        await look(here, id)
        (before,) = here.parts(id, "providers/Microsoft.Insights/diagnosticSettings", "2021-05-01-preview")
        here.write("DELETE", before["id"], api_version="2021-05-01-preview")
        await here.settle()
        (after,) = here.parts(id, "providers/Microsoft.Insights/diagnosticSettings", "2021-05-01-preview")
        assert same(before["properties"], after["properties"])


@pytest.mark.parametrize("type", sorted({one.on for one in CONTROLS if one.response != "report"}))
async def test_an_unknown_property_survives_the_write(type: str, tmp_path: Path) -> None:
    """A property that no table of ours knows is still there, in the resource and in what was written, afterwards."""
    control = next(one for one in CONTROLS if one.on == type and one.response != "report")
    async with world(tmp_path, proven=ALL_TYPES) as here:
        id = here.stands(control.on, recorded.drifted(control).body)
        urls = [url for url, _, _ in recorded.resources(recorded.drifted(control), type_of(control.on))]
        for url in urls:
            here.sim.mutate(url, lambda body: {**body, "properties": {**body["properties"], "unheardOf": {"deep": [1, {}]}}})
        await look(here, id)
        for url in urls:
            shown = here.sim.document(url, None)
            if shown is not None:
                assert get(shown, parse("properties.unheardOf.deep")) is not ABSENT
        assert not [one for one in await here.events_of(id) if one == "conflict.seen"]
