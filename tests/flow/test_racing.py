"""Between the plan and the write: others write, delete, recreate, stop us, and what waits for people waits on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import recorded
from detectors import CONTROLS
from guardrail import people
from guardrail.errors import Refused
from guardrail.ids import ResourceId, fold
from guardrail.paths import same
from guardrail.policy import Exemption, Freeze
from tests.flow.harness import (
    AI,
    COMPUTE,
    HTTPS,
    JAILBREAK,
    NOT_HTTPS,
    NSG,
    RANGE,
    SSH,
    SSH_ON,
    STORAGE,
    VAULT,
    at,
    control,
    laid,
    looked,
    methods,
    plain_store,
    rules,
    stand,
    value,
    world,
)
from tests.flow.test_people import APPROVER, ONCALL, POLICY
from tests.flow.world import DEV, ENFORCE, PROD

pytestmark = pytest.mark.anyio


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
        here.clock.forward(5)
        getattr(here.sim.faults, what)(id)
        await here.forward(120, step=20)
        case = await here.case(id)
        assert case.acting is None and "action.superseded" in await here.events_of(id)
        assert methods(here, taken=True) == ([] if what == "delete" else methods(here)[-1:])
        if what == "recreate":
            assert case.incarnation != old.plan.incarnation and case.findings == frozenset()
            ids = [one["detail"]["action_id"] for one in await here.records(id) if one["event"] == "action.verified"]
            assert len(ids) == 1 and ids != [old.id], "the new one has an action of its own"


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


@pytest.mark.threat("R23", "I1")
async def test_a_plan_for_a_life_that_nobody_could_tell_is_for_no_other(tmp_path: Path) -> None:
    """Azure showed nothing to know it by when it was planned, and shows something now. Found by the soak."""
    async with world(tmp_path) as here:
        id = stand(here, laid(NSG))
        here.sim.mutate(id, lambda body: body["properties"].pop("resourceGuid", None) and None)
        await people.quarantine(here.guardrail.engine, id, ONCALL, "an odd prompt")
        acting = (await here.case(id)).acting
        assert acting is not None and acting.plan.incarnation == ""
        here.sim.faults.recreate(id)
        await here.forward(60)
        assert methods(here) == [] and (await here.case(id)).acting is None
        assert "action.superseded" in await here.events_of(id)


@pytest.mark.threat("R25", "I13")
@pytest.mark.parametrize("how", ["approved", "failed"])
async def test_what_somebody_else_mended_is_not_called_ours(how: str, tmp_path: Path) -> None:
    """Approved, or denied, and not a request of ours was let through: there is nothing to undo. Found by the soak."""
    async with world(tmp_path, POLICY) as here:
        id = here.stands(STORAGE, laid(STORAGE, NOT_HTTPS).body, subscription=PROD if how == "approved" else DEV)
        if how == "failed":
            here.sim.faults.answer(f"PATCH {id}", 403, "AuthorizationFailed", times=1)
        await looked(here, id)
        case = await here.case(id)
        action = case.asked or case.acting
        assert action is not None and action.state == ("proposed" if how == "approved" else how)
        if how == "approved":
            for who in (APPROVER, ONCALL):
                await people.approve(here.guardrail.engine, id, action.id, action.plan.hash, who, "as seen")
        here.sim.mutate(id, lambda body: body["properties"].update(supportsHttpsTrafficOnly=True))
        await looked(here, id)
        case = await here.case(id)
        assert methods(here, taken=True) == [] and (case.acting, case.asked) == (None, None)
        assert (await here.events_of(id))[-2:] == ["action.superseded", "finding.cleared"]
        with pytest.raises(Refused):
            await people.undo(here.guardrail.engine, id, action.id, ONCALL, "back to http")


# Rules that change


@pytest.mark.threat("R34", "R42", "I10")
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
        asked = (await here.case(id)).asked
        if how == "freeze":
            assert not {"allow-range", "allow-ssh"} & rules(here, id)
            assert methods(here) == ["DELETE"] * 2 and asked is None
        else:       # what was only reported meanwhile asks (R42)
            assert asked is not None and asked.state == "proposed"


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


@pytest.mark.threat("A16", "D10")
async def test_an_ask_waits_through_a_read_that_is_refused(tmp_path: Path) -> None:
    """Whoever takes our right to read for a moment voids no approval that is on its way."""
    async with world(tmp_path) as here:
        id = here.stands(AI, laid(AI, JAILBREAK, control("cognitive-local-auth-disabled").drift).body, subscription=PROD)
        await looked(here, id)
        first = (await here.case(id)).asked
        assert first is not None
        for right in ("*/read", "*/raiPolicies/read"):
            here.sim.faults.revoke(right)
            await looked(here, id)
            await looked(here, id, "sweep")
            asked = (await here.case(id)).asked
            assert asked is not None and asked.id == first.id
            here.sim.faults.access.clear()
            await looked(here, id)
        asked = (await here.case(id)).asked
        assert asked is not None and asked.id == first.id
        assert (await here.events_of(id)).count("action.proposed") == 1


async def test_a_fix_and_an_isolation_do_not_void_each_other(tmp_path: Path) -> None:
    """One ask a resource: what can be mended comes first, however often it is looked at."""
    async with world(tmp_path) as here:
        mended = next(one for one in CONTROLS if one.on == COMPUTE and one.response == "revert" and one.drift)
        id = here.stands(COMPUTE, laid(COMPUTE, mended.drift, SSH_ON).body, subscription=PROD)
        for _ in range(5):
            await looked(here, id)
            await here.forward(60)
        asked = (await here.case(id)).asked
        assert asked is not None and asked.plan.kind == "fix"
        assert (await here.events_of(id)).count("action.proposed") == 1


async def test_a_request_that_would_open_something_holds_up_no_other(tmp_path: Path) -> None:
    """A control of ours that speaks once another is mended: that edit is reported with the reason, the rest is done."""
    def odd(account: Any, _: Any) -> Any:
        if account.get("properties.minimumTlsVersion") == "TLS1_2" and account.get("+blobDiagnosticSettings"):
            yield from account.undecided("properties.minimumTlsVersion", "opened")

    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS, control("diag-storage-blob").drift))
        opener = replace(control("diag-storage-blob"), id="storage-odd", check=odd, learns=False)
        here.guardrail.engine.controls = (*here.guardrail.engine.controls, opener)
        here.guardrail.engine._on.clear()
        await looked(here, id)
        await here.forward(60)
        assert value(here, id, HTTPS) is True and methods(here) == ["PATCH"]
        made = [one["detail"] for one in await here.records(id) if one["event"] == "decision.made"]
        why = [one["why"] for one in made if one["controls"] == ["diag-storage-blob"]]
        assert why and "would open storage-odd" in why[0]
