"""Between the plan and the answer: others write, refuse, throttle, delete, and answers get lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import recorded
from guardrail.ids import ResourceId, fold
from guardrail.paths import get, parse, same
from guardrail.policy import Exemption, Freeze
from guardrail.values import Look
from tests.flow.harness import at, control, laid, plain_store, stand
from tests.flow.world import DEV, ENFORCE, World, world

pytestmark = pytest.mark.anyio

STORAGE = "Microsoft.Storage/storageAccounts"
AI = "Microsoft.CognitiveServices/accounts"
VAULT = "Microsoft.KeyVault/vaults"
NSG = "Microsoft.Network/networkSecurityGroups"
ROLE = "Microsoft.Authorization/roleAssignments"
COMPUTE = "Microsoft.MachineLearningServices/workspaces/computes"
DIAGNOSTICS = "2021-05-01-preview"
HTTPS = "properties.supportsHttpsTrafficOnly"
NOT_HTTPS = control("storage-https-only").drift
SSH, RANGE = control("nsg-inbound-internet-management-ports").drift, control("nsg-inbound-internet-any").drift
JAILBREAK = control("openai-rai-policy-jailbreak").drift


async def looked(here: World, id: ResourceId, why: Any = "person") -> None:
    await here.guardrail.store.send(Look(id, why))
    await here.settle()


def value(here: World, id: ResourceId, path: str) -> Any:
    return get(here.show(id), parse(path))


def methods(here: World, *, taken: bool | None = None) -> list[str]:
    """The writes that we sent; `taken`: only those that Azure took, or did not."""
    return [line.method for line in here.ours if taken is None or taken == (0 < line.status < 400)]


def rules(here: World, id: ResourceId) -> set[str]:
    return {rule["name"] for rule in here.show(id)["properties"]["securityRules"]}


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
@pytest.mark.parametrize("fault", ["lost", "500 after", "dropped", "500 instead", "503 instead", "408 instead"])
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
            here.sim.faults.answer(match, int(fault[:3]), "Whatever", times=1)
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


# Others write


@pytest.mark.threat("R17", "I3")
async def test_a_drift_on_a_planned_path_meanwhile_is_planned_anew(tmp_path: Path) -> None:
    """It changes between the last read and the claim of a resumed action: no write by the old plan."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, control("storage-minimum-tls").drift))
        here.sim.faults.answer(f"PATCH {id}", 503, "ServerBusy", times=1)
        await looked(here, id)
        here.sim.mutate(id, lambda body: body["properties"].update(minimumTlsVersion="TLS1_1"))
        await here.forward(60, step=15)
        assert value(here, id, "properties.minimumTlsVersion") == "TLS1_2"
        events = await here.events_of(id)
        assert events.count("action.superseded") == 1 and events.count("action.verified") == 1


@pytest.mark.threat("R18", "R20", "I3")
@pytest.mark.parametrize("point", ["after arm.read", "after store.commit", "at the last instant"])
async def test_a_foreign_change_on_another_path_stays(point: str, tmp_path: Path) -> None:
    """A PATCH does not name it, and so whoever sets it meanwhile keeps it."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))

        def foreign() -> None:
            here.sim.mutate(id, lambda body: body["properties"].update(foreignSetting={"on": True}))

        if point == "at the last instant":
            here.sim.faults.before_write(f"PATCH {id}", foreign)
        else:
            when, call = point.split()
            at(here.guardrail, call, when, foreign)
        await looked(here, id)
        await here.forward(30)
        assert value(here, id, "properties.foreignSetting.on") is True and value(here, id, HTTPS) is True
        assert (await here.case(id)).acting is None


@pytest.mark.threat("R20")
async def test_a_value_that_a_put_overwrote_is_a_conflict_on_record(tmp_path: Path) -> None:
    """Somebody's change of a value that we had read, at the last instant: after the write both are on record."""
    async with world(tmp_path, proven=[AI]) as here:
        id = stand(here, laid(AI, JAILBREAK))
        here.sim.faults.after_write("PUT strict", {"properties": {"mode": "Blocking", "basePolicyName": "foreign"}})
        await looked(here, id)
        await here.forward(30)
        conflicts = [one["detail"] for one in await here.records(id) if one["event"] == "conflict.seen"]
        assert [one["path"].rsplit(".", 1)[-1] for one in conflicts if one.get("after") == "foreign"] == ["basePolicyName"]


@pytest.mark.threat("R19")
@pytest.mark.parametrize("times", [1, 3, 100])
async def test_a_412_is_read_and_planned_anew(times: int, tmp_path: Path) -> None:
    """A few times at once, then as busy. It costs no budget of writes, for nothing was written."""
    policy = ENFORCE.replace("flapping: {writes: 50", "flapping: {writes: 2")
    async with world(tmp_path, policy) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.answer(f"PATCH {id}", 412, "PreconditionFailed", times=times)
        await looked(here, id)
        assert len(methods(here)) == min(times + 1, 5)
        if times == 100:
            case = await here.case(id)
            assert case.acting is None and case.asked is None and value(here, id, HTTPS) is False
            here.sim.faults.clear()
            await here.forward(60)
        assert value(here, id, HTTPS) is True
        assert (await here.events_of(id)).count("action.verified") == 1


@pytest.mark.threat("R19", "A10")
async def test_if_match_is_sent_where_a_route_says_that_it_is_honoured(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(NSG, SSH))
        kind = here.guardrail.engine.types[fold(ResourceId(NSG))]
        routes = (replace(kind.routes[0], etag=True), *kind.routes[1:])
        here.guardrail.engine.types = {**here.guardrail.engine.types, fold(ResourceId(NSG)): replace(kind, routes=routes)}
        here.sim.faults.before_write("DELETE allow-ssh", lambda: here.sim.mutate(
            f"{id}/securityRules/allow-ssh", lambda body: body["properties"].update(description="swapped")), times=2)
        await looked(here, id)
        await here.forward(30)
        assert [line.status for line in here.ours] == [412, 412, 202]
        assert "allow-ssh" not in rules(here, id)


@pytest.mark.threat("A10")
async def test_only_what_was_planned_is_deleted(tmp_path: Path) -> None:
    """The content behind the name is swapped for a good one while the action waits: nothing is deleted."""
    async with world(tmp_path) as here:
        id = stand(here, laid(NSG, SSH))
        here.sim.faults.answer("DELETE allow-ssh", 503, "ServerBusy", times=1)
        await looked(here, id)
        here.sim.mutate(f"{id}/securityRules/allow-ssh",
                        lambda body: body["properties"].update(sourceAddressPrefix="10.0.0.0/8"))
        await here.forward(90, step=15)
        assert methods(here, taken=True) == [] and "allow-ssh" in rules(here, id)
        assert (await here.case(id)).acting is None


# Other lives of the resource


@pytest.mark.threat("R23", "A7", "I1")
@pytest.mark.parametrize("type", [STORAGE, VAULT, AI, NSG])
@pytest.mark.parametrize("what", ["delete", "recreate"])
async def test_another_life_of_the_resource_inherits_no_action(what: str, type: str, tmp_path: Path) -> None:
    """Deleted, or deleted and made again, while the action waits to be sent: superseded; the new one is judged anew."""
    drift = {STORAGE: NOT_HTTPS, VAULT: control("keyvault-public-network-access").drift, NSG: SSH,
             AI: control("cognitive-local-auth-disabled").drift}[type]
    async with world(tmp_path) as here:
        here.sim.clock = lambda: here.clock().timestamp()
        id = stand(here, laid(type, drift))
        here.sim.faults.answer("PATCH,DELETE", 503, "ServerBusy", times=1)
        await looked(here, id)
        old = (await here.case(id)).acting
        assert old is not None and old.state == "applying"
        await here.rules(switch="report")
        here.clock.forward(5)
        getattr(here.sim.faults, what)(id)
        await here.forward(120, step=20)
        assert len(methods(here)) == 1
        case = await here.case(id)
        assert case.acting is None and "action.superseded" in await here.events_of(id)
        if what == "recreate":
            assert case.incarnation != old.plan.incarnation and case.findings
            await here.rules(switch="policy")
            await looked(here, id)
            await here.forward(60)
            assert (await here.case(id)).findings == frozenset()


@pytest.mark.threat("R23", "A7")
async def test_another_life_inherits_nothing_that_was_known_good(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.sim.clock = lambda: here.clock().timestamp()
        id = stand(here, laid(AI))
        await looked(here, id)
        assert "+diagnosticSettings" in (await here.case(id)).good
        here.clock.forward(60)
        here.sim.faults.recreate(id)
        here.sim.faults.delete(f"{id}/providers/Microsoft.Insights/diagnosticSettings/logs", quiet=True)
        await here.rules(switch="report")
        await here.forward(60)
        assert "+diagnosticSettings" not in (await here.case(id)).good


# Rules that change


@pytest.mark.threat("R34", "I10")
@pytest.mark.parametrize("how", ["switch", "freeze", "exemption"])
@pytest.mark.parametrize("point", ["after arm.read", "after store.commit", "after arm.send"])
async def test_a_stop_in_the_middle_stops_what_is_left(how: str, point: str, tmp_path: Path) -> None:
    """Another worker stops it, six seconds ago. No further request starts; afterwards it is decided anew."""
    async with world(tmp_path) as here:
        id = stand(here, laid(NSG, SSH, RANGE))
        before = await here.guardrail.store.rules()
        now, until = here.clock(), here.clock() + timedelta(hours=2)
        change: dict[str, Any] = {
            "switch": {"switch": "report"}, "freeze": {"freezes": (Freeze("now", now, until, f"/subscriptions/{DEV}"),)},
            "exemption": {"exemptions": tuple(Exemption(name, id, "reviewed", "team", until) for name in (
                "nsg-inbound-internet-management-ports", "nsg-inbound-internet-any"))}}[how]

        async def stop() -> None:
            await plain_store(here.guardrail).set_rules(replace(before, **change))
            here.clock.forward(6)

        when, call = point.split()
        at(here.guardrail, call, when, stop)
        await looked(here, id)
        await here.forward(120, step=15)
        await looked(here, id)
        assert len(methods(here)) == (1 if point == "after arm.send" else 0)
        case = await here.case(id)
        assert case.acting is None, "decided anew, it is no permission any more"
        assert "action.held" in await here.events_of(id) or point == "after arm.read"
        assert (case.asked is not None) == (how == "freeze")
        rules_now = await plain_store(here.guardrail).rules()
        await plain_store(here.guardrail).set_rules(replace(before, generation=rules_now.generation))
        here.clock.forward(6)
        await looked(here, id)
        await here.forward(60)
        assert not {"allow-range", "allow-ssh"} & rules(here, id)
        assert methods(here) == ["DELETE"] * 2 and (await here.case(id)).asked is None


# What waits for people


async def test_an_ask_follows_the_drift_and_an_unrelated_fix_leaves_it_alone(tmp_path: Path) -> None:
    policy = ENFORCE + "rules: [{name: tls asks, control: storage-minimum-tls, mode: approve}]\n"
    async with world(tmp_path, policy) as here:
        id = stand(here, laid(STORAGE, control("storage-minimum-tls").drift))
        await looked(here, id)
        first = (await here.case(id)).asked
        assert first is not None and first.state == "proposed"
        here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}})
        await here.forward(30)
        assert value(here, id, HTTPS) is True
        asked = (await here.case(id)).asked
        assert asked is not None and asked.id == first.id, "an approval on its way is not void by that"
        here.write("PATCH", id, {"properties": {"minimumTlsVersion": "TLS1_1"}})
        await here.forward(30)
        second = (await here.case(id)).asked
        assert second is not None and second.plan.hash != first.plan.hash
        here.write("PATCH", id, {"properties": {"minimumTlsVersion": "TLS1_2"}})
        await here.forward(30)
        assert (await here.case(id)).asked is None
        events = await here.events_of(id)
        assert events.count("action.proposed") == 2 and events.count("action.superseded") == 2
        assert same(recorded.good(STORAGE).body["properties"]["minimumTlsVersion"], "TLS1_2")
