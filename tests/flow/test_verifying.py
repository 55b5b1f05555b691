"""After the answer: reads that lag, operations that fail, hang or do half, and echoes. The document decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flow.harness import (
    AI,
    COMPUTE,
    NOT_HTTPS,
    NSG,
    ROLE,
    SSH,
    SSH_ON,
    STORAGE,
    at,
    control,
    laid,
    looked,
    restarted,
    stand,
    value,
    world,
)
from tests.flow.world import World

pytestmark = pytest.mark.anyio



@pytest.mark.threat("R5", "I8")
@pytest.mark.parametrize("reads", [1, 3, 5])
async def test_a_stale_read_after_the_write_never_sends_again(reads: int, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.stale(f"GET {id}", reads=reads)
        await looked(here, id)
        await here.forward(130, step=5)
        assert len(here.ours) == 1
        assert (await here.events_of(id)).count("action.verified") == 1
        assert (await here.case(id)).acting is None


@pytest.mark.threat("R5", "A5")
async def test_a_flood_of_events_does_not_hurry_the_reads_after_a_write(tmp_path: Path) -> None:
    """Two minutes stay two minutes however often somebody has the resource looked at meanwhile."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.stale(f"GET {id}", ms=1e9)
        await looked(here, id)
        for _ in range(22):
            here.clock.forward(5)
            await looked(here, id, "event")
        assert len(here.ours) == 1
        assert "verification.failed" not in await here.events_of(id)
        here.sim.faults.clear()
        await here.forward(60)
        assert len(here.ours) == 1 and (await here.case(id)).acting is None


@pytest.mark.threat("R5", "R7")
@pytest.mark.parametrize("type", [STORAGE, AI])
async def test_an_effect_that_never_comes_is_failed_after_two_writes(type: str, tmp_path: Path) -> None:
    """200, and nothing changes. It stays open: sweeps look at it and do not send it again; a person may."""
    drift = {STORAGE: NOT_HTTPS, AI: control("cognitive-local-auth-disabled").drift}[type]
    async with world(tmp_path) as here:
        id = stand(here, laid(type, drift))
        here.sim.faults.answer(f"PATCH {id}", 200, body={"id": id})
        await looked(here, id)
        await here.forward(900, step=15)
        for _ in range(3):
            await here.guardrail.sweep()
            await here.forward(1200)
        assert len(here.ours) == 2
        case = await here.case(id)
        assert case.acting is not None and case.acting.state == "failed" and case.findings
        assert (await here.events_of(id)).count("verification.failed") == 2
        here.sim.faults.clear()
        await looked(here, id)
        assert len(here.ours) == 3 and (await here.case(id)).acting is None


@pytest.mark.threat("R7")
@pytest.mark.parametrize("end", ["Succeeded", "Failed", "Canceled"])
@pytest.mark.parametrize("effect", ["accept", "end", "half", "never"])
@pytest.mark.parametrize("kind", ["async", "state"])
async def test_the_document_decides_how_an_operation_ended(end: Any, effect: Any, kind: Any, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(AI, control("cognitive-local-auth-disabled").drift,
                              {"properties.restrictOutboundNetworkAccess": False}))
        here.sim.faults.lro(AI, kind=kind, polls=2, end=end, effect=effect)
        await looked(here, id)
        await here.forward(1500, step=15)
        assert 1 <= len(here.ours) <= 2
        case = await here.case(id)
        right = (value(here, id, "properties.disableLocalAuth") is True
                 and value(here, id, "properties.restrictOutboundNetworkAccess") is True)
        assert (case.acting is None) == right
        assert bool(case.findings) != right
        if not right:
            assert case.acting is not None and case.acting.state == "failed"


@pytest.mark.threat("R7", "R10", "I8")
@pytest.mark.parametrize(("end", "effect"), [
    ("Succeeded", "accept"), ("Failed", "never"), ("Canceled", "never"), ("Succeeded", "never"), ("never", "never")])
async def test_an_action_of_long_running_kind_is_posted_once(end: Any, effect: Any, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(COMPUTE, SSH_ON))
        here.sim.faults.lro(COMPUTE, polls=2, end=end, effect=effect)
        await looked(here, id)
        await here.forward(7200, step=120)
        assert [line.method for line in here.ours] == ["POST"]
        case = await here.case(id)
        if value(here, id, "properties.properties.state") == "Stopped":
            assert case.acting is None
        else:
            assert case.acting is not None and case.acting.state == "unknown"


@pytest.mark.threat("R8", "E5")
async def test_an_operation_without_end_is_unknown_at_its_deadline(tmp_path: Path) -> None:
    """Nothing more is sent, also afterwards; when it ends at last it is found done."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.lro(STORAGE, end="never", effect="end", times=1)
        await looked(here, id)
        await here.forward(2400)
        action = (await here.case(id)).acting
        assert action is not None and action.state == "applied"
        await here.forward(2400)
        action = (await here.case(id)).acting
        assert action is not None and action.state == "unknown" and "deadline" in action.why
        await here.guardrail.sweep()
        await here.forward(3600, step=300)
        assert len(here.ours) == 1
        operation = here.sim.operations.running(id)
        assert operation is not None
        here.sim.operations._end(operation)
        await looked(here, id)
        assert (await here.case(id)).acting is None and len(here.ours) == 1


@pytest.mark.threat("R36", "I6")
@pytest.mark.parametrize("how", [{"drop": 1.0}, {"early": True}, {"duplicate": 5}, {"delay_s": 0.05}, {"strip_claims": True}],
                         ids=str)
async def test_the_echo_of_our_write_changes_nothing(how: dict[str, Any], tmp_path: Path) -> None:
    """Lost, late, many times, or before our own answer: verified all the same, and no second write."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.events(match="storageAccounts", **how)
        await looked(here, id)
        verified = (await here.events_of(id)).count("action.verified")
        assert verified == 1, "nobody waits for the echo"
        await here.forward(120, step=15)
        assert len(here.ours) == 1 and (await here.case(id)).findings == frozenset()


@pytest.mark.threat("R36", "R14", "I8")
async def test_an_echo_that_another_worker_answers_waits_for_the_claim(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        other = restarted(here)
        at(here.guardrail, "arm.send", "after", lambda: answered(here, other))
        await looked(here, id)
        await here.forward(60, step=15)
        assert len(here.ours) == 1 and (await here.events_of(id)).count("action.verified") == 1
        await other.close()


async def answered(here: World, other: Any) -> None:
    await here.deliver()
    here.clock.forward(6)
    await other.settle()


@pytest.mark.threat("A16", "R13")
@pytest.mark.parametrize("type", [NSG, ROLE, AI])
async def test_what_cannot_be_read_was_not_deleted_and_not_done(type: str, tmp_path: Path) -> None:
    """Our right to read is taken at the moment of the write, which had no effect: never verified, and done later."""
    drift = {NSG: SSH, ROLE: control("rbac-privileged-role-assignment").drift,
             AI: control("diag-cognitiveservices").drift}[type]
    async with world(tmp_path) as here:
        id = stand(here, laid(type))
        await looked(here, id)
        stand(here, laid(type, drift))
        here.sim.faults.answer("PUT,PATCH,DELETE", 200, body={}, times=1)
        at(here.guardrail, "arm.send", "after", lambda: here.sim.faults.revoke("*/read"))
        await looked(here, id)
        await here.forward(900, step=60)
        action = (await here.case(id)).acting
        assert action is not None and action.state == "applied" and len(here.ours) == 1
        assert "action.verified" not in await here.events_of(id)
        here.sim.faults.access.clear()
        await here.forward(600, step=30)
        case = await here.case(id)
        assert case.findings == frozenset() and case.acting is None and len(here.ours) == 2


def without_precious(body: Any) -> None:
    del body["properties"]["precious"]


@pytest.mark.threat("I3", "R20")
async def test_what_a_put_lost_is_never_called_verified(tmp_path: Path) -> None:
    """A value that the type's table wrongly calls read-only is gone after the PUT: failed, with what was lost, for good."""
    async with world(tmp_path, proven=[AI]) as here:
        id = stand(here, laid(AI, control("openai-rai-policy-jailbreak").drift))
        policy = f"{id}/raiPolicies/strict"
        here.sim.mutate(policy, lambda body: body["properties"].update(precious="kept by nobody"))
        here.sim.faults.after_write("PUT strict", lambda: here.sim.mutate(policy, without_precious))
        await looked(here, id)
        for _ in range(3):
            await here.guardrail.sweep()
            await here.forward(3600, step=600)
        events = await here.events_of(id)
        assert "action.verified" not in events and events.count("action.failed") == 1
        action = (await here.case(id)).acting
        assert action is not None and action.state == "failed" and "precious" in action.why
        here.sim.mutate(policy, lambda body: body["properties"].update(precious="kept by nobody"))
        await looked(here, id)
        assert (await here.case(id)).acting is None
