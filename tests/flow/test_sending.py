"""Requests on their way: others hold the resource, refuse, throttle, and answers get lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.flow.harness import (
    COMPUTE,
    HTTPS,
    NOT_HTTPS,
    NSG,
    RANGE,
    SSH,
    STORAGE,
    VAULT,
    control,
    laid,
    looked,
    methods,
    rules,
    stand,
    value,
    world,
)

pytestmark = pytest.mark.anyio


# Others hold the resource


@pytest.mark.threat("R6", "A6")
async def test_another_operation_is_waited_for(tmp_path: Path) -> None:
    """Ten minutes it shows; nothing is sent meanwhile, then it is one write, and nothing has failed."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        here.sim.faults.lro(STORAGE, polls=10 ** 6, effect="accept", times=1)
        here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}})
        await here.forward(600, step=15)
        assert here.ours == [] and ("storage-https-only", HTTPS) in (await here.case(id)).findings
        operation = here.sim.operations.running(id)
        assert operation is not None
        operation.left = 1
        await here.forward(600, step=15)
        assert methods(here) == ["PATCH"] and value(here, id, HTTPS) is True
        assert "action.failed" not in await here.events_of(id)


@pytest.mark.threat("R6")
@pytest.mark.parametrize(("status", "code"), [
    (409, "AnotherOperationInProgress"), (429, "RetryableErrorDueToAnotherOperation"), (409, "Conflict")])
async def test_a_write_answered_busy_is_no_try_of_ours(status: int, code: str, tmp_path: Path) -> None:
    """More and more rarely asked, for as long as an action lives; then it is open, and the next sweep does it."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.answer(f"PATCH {id}", status, code)
        await looked(here, id)
        await here.forward(1800)
        action = (await here.case(id)).acting
        assert action is not None and action.state == "applying" and action.attempts == 0
        assert 3 <= len(methods(here)) <= 10
        await here.forward(2400)
        action = (await here.case(id)).acting
        assert action is not None and action.state == "failed" and "deadline" in action.why
        here.sim.faults.clear()
        await here.guardrail.sweep()
        await here.forward(60)
        assert value(here, id, HTTPS) is True and (await here.case(id)).acting is None


@pytest.mark.threat("A6")
async def test_what_is_busy_for_ever_is_decided_on_after_half_an_hour(tmp_path: Path) -> None:
    async with world(tmp_path, switch="report") as here:
        id = stand(here, laid(STORAGE))
        await looked(here, id)
        here.sim.faults.lro(STORAGE, end="never", effect="accept")
        here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}})
        await here.forward(1860, step=15)
        made = [one for one in await here.records(id) if one["event"] == "decision.made"]
        assert made and (await here.case(id)).findings
        looks = len(here.reads)
        assert looks < 60


# Answers that get lost


@pytest.mark.threat("R9")
@pytest.mark.parametrize("how", ["drop", "500", "timeout"])
@pytest.mark.parametrize(("type", "drift"), [(STORAGE, NOT_HTTPS), (VAULT, control("keyvault-public-network-access").drift)],
                         ids=["by SDK", "plain"])
async def test_a_lost_answer_is_found_applied(how: Any, type: str, drift: Any, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardrail.transport.REQUEST_TIMEOUT_S", 0.3)
    async with world(tmp_path) as here:
        id = stand(here, laid(type, drift))
        here.sim.faults.lose_answer(f"PATCH {id}", how)
        await looked(here, id)
        await here.forward(400)
        assert methods(here) == ["PATCH"] and (await here.case(id)).findings == frozenset()
        applied = [one["detail"].get("why") for one in await here.records(id) if one["event"] == "action.applied"]
        assert applied == ["found done"]


@pytest.mark.threat("R9", "R11")
@pytest.mark.parametrize("how", [
    {"drop": True}, {"status": 500}, {"status": 503}, {"status": 408}, {"status": 429}, {"status": 401}], ids=str)
async def test_what_was_not_taken_is_sent_again_with_the_same_body(how: dict[str, Any], tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        if how.pop("drop", False):
            here.sim.faults.drop_request(f"PATCH {id}")
        else:
            here.sim.faults.answer(f"PATCH {id}", code="Whatever", times=1, **how)
        await looked(here, id)
        await here.forward(120, step=15)
        assert methods(here) == ["PATCH", "PATCH"] and value(here, id, HTTPS) is True
        assert here.ours[0].body == here.ours[1].body
        sent = [line.headers["x-ms-client-request-id"] for line in here.ours]
        noted = str([one["detail"]["requests"] for one in await here.records(id) if one["event"] == "action.applying"])
        assert len(set(sent)) == 2 and all(one in noted for one in sent)


@pytest.mark.threat("R9")
async def test_an_outage_of_half_an_hour_is_outlived(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.answer(f"PATCH {id}", 503, "ServerBusy")
        await looked(here, id)
        await here.forward(1800)
        assert len(methods(here)) <= 10
        here.sim.faults.clear()
        await here.forward(1200)
        assert value(here, id, HTTPS) is True and "action.failed" not in await here.events_of(id)


@pytest.mark.threat("R10", "I8")
@pytest.mark.parametrize("fault", [
    "lost", "500 after", "dropped", "500 instead", "503 instead", "408 instead", "302 instead", "200 instead"])
async def test_a_post_is_sent_once_whatever_becomes_of_its_answer(fault: str, tmp_path: Path) -> None:
    """Shown by the resource it is done; else it is unknown, and stays so: a person settles it."""
    async with world(tmp_path) as here:
        id = stand(here, laid(COMPUTE, control("ml-compute-instance-ssh").drift))
        match = f"POST {id}/stop"
        if fault in ("lost", "500 after"):
            here.sim.faults.lose_answer(match, "drop" if fault == "lost" else "500")
        elif fault == "dropped":
            here.sim.faults.drop_request(match)
        else:
            here.sim.faults.answer(match, int(fault[:3]), "Whatever", times=1, body="{nonsense")
        await looked(here, id)
        for _ in range(3):
            await here.guardrail.sweep()
            await here.forward(1800, step=300)
            await looked(here, id)
        assert methods(here) == ["POST"]
        action = (await here.case(id)).acting
        if value(here, id, "properties.properties.state") == "Stopped":
            assert action is None and "resource.quarantined" in await here.events_of(id)
        else:
            assert action is not None and action.state == "unknown"


@pytest.mark.threat("R10")
@pytest.mark.parametrize(("status", "code"), [(429, "TooManyRequests"), (409, "AnotherOperationInProgress"), (401, "Expired")])
async def test_a_post_that_was_certainly_not_taken_may_be_sent_again(status: int, code: str, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(COMPUTE, control("ml-compute-instance-ssh").drift))
        here.sim.faults.answer(f"POST {id}/stop", status, code, times=2)
        await looked(here, id)
        await here.forward(300, step=15)
        assert methods(here, taken=True) == ["POST"] and len(methods(here)) == 3
        assert (await here.case(id)).acting is None


@pytest.mark.threat("R10")
@pytest.mark.parametrize("fault", ["lost", "dropped"])
async def test_a_delete_is_read_before_it_is_sent_again(fault: str, tmp_path: Path) -> None:
    """By us; aiohttp itself repeats an idempotent request at once, unchanged, when a kept connection was dropped."""
    async with world(tmp_path) as here:
        id = stand(here, laid(NSG, SSH))
        if fault == "lost":
            here.sim.faults.lose_answer("DELETE allow-ssh")
        else:
            here.sim.faults.drop_request("DELETE allow-ssh")
        await looked(here, id)
        await here.forward(120)
        assert set(methods(here)) == {"DELETE"}
        assert len({line.headers["x-ms-client-request-id"] for line in here.ours}) == 1
        assert "allow-ssh" not in rules(here, id) and (await here.case(id)).acting is None


# Refusals


@pytest.mark.threat("R13")
async def test_a_missing_right_to_write_is_open_until_it_is_granted(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.revoke(f"{STORAGE}/write")
        await looked(here, id)
        action = (await here.case(id)).acting
        assert action is not None and action.state == "failed" and "AuthorizationFailed" in action.why
        await here.forward(1800)
        assert methods(here) == ["PATCH"], "nobody asks again but the sweep"
        await here.guardrail.sweep()
        await here.settle()
        assert methods(here) == ["PATCH"] * 2
        here.sim.faults.clear()
        await here.guardrail.sweep()
        await here.settle()
        assert value(here, id, HTTPS) is True and (await here.case(id)).acting is None


@pytest.mark.threat("A13")
@pytest.mark.parametrize("kind", ["lock", "deny_assignment", "deny", "modify"])
async def test_a_blocked_revert_stays_open_and_is_not_repeated(kind: str, tmp_path: Path) -> None:
    """By a lock, a deny assignment or a policy: at most two writes, and the action names what stands in the way."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        group = id.split("/providers/")[0]
        if kind == "lock":
            here.sim.faults.lock(group, "ReadOnly")
        elif kind == "deny_assignment":
            here.sim.faults.deny_assignment(group, [f"{STORAGE}/write"])
        else:
            here.sim.faults.policy(group, kind, HTTPS, kind != "modify", type=STORAGE)
        await looked(here, id)
        await here.forward(3000, step=30)
        assert 1 <= len(methods(here)) <= 2
        action = (await here.case(id)).acting
        assert action is not None and action.state == "failed"
        blockers = {"lock": "ScopeLocked", "deny_assignment": "DenyAssignment", "deny": "RequestDisallowedByPolicy"}
        assert blockers.get(kind, "still not there") in action.why
        assert not [line for line in here.ours if "Microsoft.Authorization" in line.path]


async def test_a_refused_edit_holds_up_no_other_drift(tmp_path: Path) -> None:
    """The open action stays for what it could not do; what drifts later is mended by itself."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.answer(lambda request: request.method == "PATCH" and b"supportsHttps" in request.body,
                               400, "Refused", "never")
        await looked(here, id)
        action = (await here.case(id)).acting
        assert action is not None and action.state == "failed"
        here.write("PATCH", id, {"properties": {"minimumTlsVersion": "TLS1_0"}})
        await here.forward(60, step=10)
        assert value(here, id, "properties.minimumTlsVersion") == "TLS1_2"
        await here.forward(60, step=10)
        action = (await here.case(id)).acting
        assert action is not None and action.state == "failed"
        assert [edit.path for edit in action.plan.edits] == [HTTPS]
        count = len(methods(here))
        await here.forward(1800)
        assert len(methods(here)) == count
        here.sim.faults.clear()
        here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": True}})
        await here.forward(60, step=10)
        case = await here.case(id)
        assert case.acting is None and case.findings == frozenset()


@pytest.mark.threat("R24")
@pytest.mark.parametrize(("status", "end"), [(400, "failed"), (403, "failed"), (503, "verified"), (409, "verified")])
@pytest.mark.parametrize("which", ["allow-range", "allow-ssh"])
async def test_one_of_several_steps_fails(status: int, end: str, which: str, tmp_path: Path) -> None:
    """What was done stays done; what is missing is sent later, or the action is open and says it is partial."""
    async with world(tmp_path) as here:
        id = stand(here, laid(NSG, SSH, RANGE))
        here.sim.faults.answer(f"DELETE {which}", status, "Conflict" if status == 409 else "Whatever", times=1)
        await looked(here, id)
        await here.forward(200, step=10)
        done = methods(here, taken=True)
        states = [one for one in await here.records(id) if one["event"] in ("action.failed", "action.verified")]
        assert states[0]["event"] == f"action.{end}"
        if end == "verified":
            assert done == ["DELETE"] * 2 and not {"allow-range", "allow-ssh"} & rules(here, id)
        else:
            assert which in rules(here, id)
            assert bool(states[0]["detail"]["partial"]) == (len(done) == 1)
