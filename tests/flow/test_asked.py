"""Controls whose fix is always a person's: it waits, the approved one is carried out and verified, and undone by people."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import recorded
from detectors import CONTROLS
from guardrail import people
from guardrail.paths import get, parse
from guardrail.values import Control, Look
from tests.flow.harness import stand
from tests.flow.test_people import APPROVER, GROUP, ONCALL
from tests.flow.world import DEV, ENFORCE, PROD, world

pytestmark = pytest.mark.anyio

POLICY = ENFORCE + f"approvals: {{approvers: [{{scope: /subscriptions/{DEV}, group: {GROUP}}}]}}\n"
POLICY = POLICY.replace("  parameters:\n", "  parameters:\n" + "".join(
    f"    {one.id}: {{allowed_target_hosts: [srch-ai-dev.search.windows.net]}}\n"
    for one in CONTROLS if one.asks and "allowed_target_hosts" in one.parameters))
ASKING = [control for control in CONTROLS if control.asks]


@pytest.mark.parametrize("control", ASKING, ids=lambda one: one.id)
async def test_it_asks_and_the_approved_fix_is_verified(control: Control, tmp_path: Path) -> None:
    async with world(tmp_path, POLICY, proven=[control.on]) as here:
        id = stand(here, recorded.good(control.on))
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(70, step=35)
        assert (await here.case(id)).findings == frozenset()
        stand(here, recorded.drifted(control))
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(70, step=35)
        done = list[str]()
        while (waiting := (await here.case(id)).asked) is not None:     # a fix first, then an isolation
            assert waiting.plan.hash not in done and (done or here.ours == [])
            done.append(waiting.plan.hash)
            for who in (APPROVER, ONCALL):      # nobody knows who did it: two decide
                if (await here.case(id)).asked is not None:
                    await people.approve(here.guardrail.engine, id, waiting.id, waiting.plan.hash, who, "seen")
            await here.settle()
            await here.forward(120, step=30)
        case, records = await here.case(id), await here.records(id)
        end = "resource.quarantined" if control.response == "isolate" else "action.verified"
        ended = any(one["event"] == end and control.id in one["detail"]["controls"] for one in records)
        cleared = control.id not in {name for name, _ in case.findings}
        # another control's fix on the same resource may mend what would have been isolated
        assert here.ours and (cleared if control.response == "revert" else ended or cleared)
        assert case.acting is None and "conflict.seen" not in await here.events_of(id)


async def test_a_connections_secret_outlives_the_fix(tmp_path: Path) -> None:
    """ARM shows no secret; what is sent leaves it out, and it is still there afterwards."""
    control = next(one for one in ASKING if one.id == "cognitive-connection-shared")
    async with world(tmp_path, POLICY) as here:
        id = stand(here, recorded.drifted(control))
        url = f"{id}/connections/search-docs"
        here.sim.mutate(url, lambda body: {**body, "properties": {**body["properties"], "credentials": {"key": "kept"}}})
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(70, step=35)
        waiting = (await here.case(id)).asked
        assert waiting is not None
        for who in (APPROVER, ONCALL):
            if (await here.case(id)).asked is not None:
                await people.approve(here.guardrail.engine, id, waiting.id, waiting.plan.hash, who, "seen")
        await here.forward(120, step=30)
        stored = here.sim.world.get(url)
        assert stored is not None
        assert get(stored.body, parse("properties.isSharedToAll")) is False
        assert get(stored.body, parse("properties.credentials.key")) == "kept"
        assert not [one for one in await here.records(id) if "kept" in str(one)]


async def test_a_deleted_account_is_told_once_and_never_written(tmp_path: Path) -> None:
    """It waits for a person, softly deleted; when it is restored, the finding goes."""
    control = next(one for one in CONTROLS if one.id == "cognitive-account-deleted-soft")
    async with world(tmp_path) as here:
        id = stand(here, recorded.good(control.on))
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(70, step=35)
        here.write("DELETE", id)
        await here.settle()
        await here.forward(3700, step=600)
        assert (await here.case(id)).findings == {(control.id, "")}
        assert (await here.events_of(id)).count("finding.raised") == 1
        assert here.ours == []
        stand(here, recorded.good(control.on))
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(70, step=35)
        assert control.id not in {name for name, _ in (await here.case(id)).findings}


ELSEWHERE = re.compile(r"/subscriptions/[^\"]*/storageAccounts/stelsewhere")
DELETING = ("ml-datastore-target", "ml-marketplace-subscription", "ml-outbound-rule-allow-list", "search-shared-private-link")


@pytest.mark.threat("R25")
@pytest.mark.parametrize("control", DELETING)
async def test_an_undo_puts_back_what_a_fix_deleted(control: str, tmp_path: Path) -> None:
    sample = recorded.drifted(next(one for one in CONTROLS if one.id == control))
    async with world(tmp_path, POLICY) as here:
        # what the undo leads to is there, else it is held
        there = here.stands("Microsoft.Storage/storageAccounts", subscription=PROD)
        body = json.loads(ELSEWHERE.sub(str(there), json.dumps(sample.body)))
        id, engine = stand(here, replace(sample, body=body)), here.guardrail.engine
        await here.guardrail.store.send(Look(id, "person"))
        await here.forward(70, step=35)
        for who in (APPROVER, ONCALL):      # some ask, and nobody knows who did it: two decide
            if (waiting := (await here.case(id)).asked) is not None:
                await people.approve(engine, id, waiting.id, waiting.plan.hash, who, "seen")
        await here.forward(120, step=30)
        (gone,) = [line.path for line in here.ours if line.method == "DELETE"]
        assert here.sim.world.get(gone) is None
        (done,) = [one["detail"]["action_id"] for one in await here.records(id) if one["event"] == "action.verified"]
        await people.undo(engine, id, done, ONCALL, "it was wanted")
        await here.forward(120, step=30)
        assert here.sim.world.get(gone) is not None
