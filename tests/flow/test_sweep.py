"""The sweep: nothing is lost by a crash or for its length, and what was missed, taken away or done to ourselves is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from detectors import CONTROLS
from guardrail import below, missed, own, roles, sweep
from guardrail.errors import Throttled
from guardrail.ids import ResourceId, fold
from guardrail.policy_schema import Exemption
from guardrail.stores import HOME
from guardrail.sweep import is_under_way
from remediators import TYPES
from simulator.graph import SYSTEM
from tests.flow import harness
from tests.flow.harness import COMPUTE, NOT_HTTPS, STORAGE, Crash, event, laid, looked, restart
from tests.flow.world import DEV, ENFORCE, World, granted

pytestmark = pytest.mark.anyio

GROUP = f"/subscriptions/{DEV}/resourceGroups/rg-ai-dev"
HOUR = 3600.0
REPORT = ENFORCE.replace("other: enforce", "other: report")


@asynccontextmanager
async def world(folder: Path, policy: str = REPORT, **how: Any) -> AsyncIterator[World]:
    """As the harness has it, and Azure's clock goes with ours."""
    async with harness.world(folder, policy, **how) as here:
        here.sim.clock = lambda: here.clock().timestamp()
        yield here


def named(number: int) -> ResourceId:
    return ResourceId(f"{GROUP}/providers/{STORAGE}/stmltrain{number:03}")


def accounts(here: World, count: int) -> list[ResourceId]:
    return [here.stands(STORAGE, id=named(number)) for number in range(count)]


def small_pages(here: World, rows: int = 2) -> None:
    """Resource Graph gives so many rows a page."""
    arm = here.guardrail.engine.arm
    plain = arm.graph_page

    async def paged(query: str, subscriptions: Any, token: str = "", page: int = rows) -> Any:
        return await plain(query, subscriptions, token, rows)

    arm.graph_page = paged  # type: ignore[method-assign]


async def last(here: World, name: str) -> Any:
    """The detail of the newest record of the installation with that name; {} if there is none."""
    found = [one["detail"] for one in await here.records(HOME) if one["event"] == name]
    return found[-1] if found else {}


async def count(here: World, name: str) -> int:
    return (await here.events_of(HOME)).count(name)


def queries(here: World) -> list[Any]:
    return [line for line in here.sim.log if "resourcegraph" in line.path.lower()]


def read(here: World) -> set[str]:
    return {line.path.lower() for line in here.reads}


# The cursor

@pytest.mark.threat("R33", "I4")
@pytest.mark.parametrize("dies_at", range(0, 24, 3))
async def test_a_worker_that_dies_anywhere_in_a_sweep_loses_no_page(dies_at: int, tmp_path: Path) -> None:
    """Another one carries on from the last page written down, without anybody asking, and reads everything once."""
    async with world(tmp_path) as here:
        ids = accounts(here, 5)
        small_pages(here)
        seen = [0]

        async def hook(call: str, when: str) -> None:
            seen[0] += 1
            if seen[0] > dies_at:
                raise Crash(call)

        harness.watch(here.guardrail, hook)
        with pytest.raises(Crash):
            await here.guardrail.sweep()
        await restart(here, REPORT)
        small_pages(here)
        if dies_at < 6:         # nothing was written down: the next hour's
            await here.guardrail.sweep()
        await here.forward(360)
        if not await count(here, "sweep.finished"):
            await here.guardrail.sweep()
            await here.settle()
        assert await count(here, "sweep.finished") == 1
        assert {id.lower() for id in ids} <= read(here)
        assert not is_under_way(await here.case(HOME)) and (await here.case(HOME)).due is None


@pytest.mark.threat("R33")
async def test_a_long_sweep_goes_on_a_page_an_invocation(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        ids = accounts(here, 7)
        small_pages(here)
        for _ in range(20):
            before = len(queries(here))
            await sweep.sweep(here.guardrail.engine, slice_s=0)
            assert len(queries(here)) - before <= 1
            if not is_under_way(await here.case(HOME)):
                break
        assert len(queries(here)) > 5
        await here.settle()
        assert {id.lower() for id in ids} <= read(here)
        done = await last(here, "sweep.finished")
        assert (done["read"], done["looked"], done["unlisted"], done["errors"]) == (7, 7, 0, [])
        pages = [line.body["options"].get("$skipToken", "") for line in queries(here)]
        assert len(pages) == len({(line.body["query"], page) for line, page in zip(queries(here), pages, strict=True)})


async def test_tend_carries_on_with_what_did_not_end(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        accounts(here, 3)
        small_pages(here)
        await sweep.sweep(here.guardrail.engine, slice_s=0)
        assert is_under_way(await here.case(HOME))
        await here.forward(60)
        assert await count(here, "sweep.finished") == 1
        assert (await here.case(HOME)).due is None, "and tend has nothing more to do with it"


async def test_a_throttled_sweep_stops_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """The children of the fourth parent could not be listed: the first three pages are not asked for again."""
    async with harness.whole_world(tmp_path, REPORT) as here:
        here.sim.clock = lambda: here.clock().timestamp()
        id = here.stands(COMPUTE)
        engine, asked = here.guardrail.engine, [0]
        plain = engine.arm.list

        async def throttled(*args: Any, **options: Any) -> Any:
            asked[0] += 1
            if asked[0] == 2:
                raise Throttled("the read budget is used up", after_s=3)
            return await plain(*args, **options)

        engine.arm.list = throttled  # type: ignore[method-assign]
        await here.guardrail.sweep()
        assert is_under_way(await here.case(HOME))
        await here.forward(60)
        done = await last(here, "sweep.finished")
        assert done["errors"] == [] and id.lower() in read(here)


@pytest.mark.threat("R41")
async def test_two_sweeps_at_once_are_one(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        accounts(here, 3)
        other = harness.restarted(here, REPORT)
        await asyncio.gather(here.guardrail.sweep(), other.sweep())
        await here.settle()
        assert await count(here, "sweep.finished") == 1
        assert len(queries(here)) == 3
        await other.close()


@pytest.mark.threat("R41")
async def test_two_sweeps_whose_lease_ran_out_and_events_make_one_write(tmp_path: Path) -> None:
    """Both rows of a page at a time, in turns, with the event in between: harmless."""
    async with world(tmp_path, ENFORCE) as here:
        ids = accounts(here, 4)
        small_pages(here)
        await here.guardrail.sweep()
        await here.settle()
        for id in ids:
            here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}})
        here.clock.forward(HOUR)
        other = harness.restarted(here)
        for _ in range(30):
            for worker in (here.guardrail, other):
                await sweep.sweep(worker.engine, slice_s=0)
                here.clock.forward(sweep.LEASE_S + 1)
                await here.deliver()
                await worker.settle()
            if not is_under_way(await here.case(HOME)):
                break
        await here.settle()
        assert [line.method for line in here.ours] == ["PATCH"] * 4
        await other.close()


async def test_a_lease_that_nobody_gave_back_ends(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.guardrail.store.take(sweep.LEASE, 1, sweep.LEASE_S)
        await here.guardrail.sweep()
        assert await count(here, "sweep.finished") == 0
        here.clock.forward(sweep.LEASE_S + 1)
        await here.guardrail.sweep()
        assert await count(here, "sweep.finished") == 1


@pytest.mark.threat("R33")
async def test_a_token_that_is_refused_and_rows_that_are_cut_off_are_said(tmp_path: Path) -> None:
    """Those that are known are read all the same; for the others the record says that the list was not whole."""
    async with world(tmp_path) as here:
        ids = accounts(here, 5)
        for id in ids:
            await looked(here, id)
        small_pages(here)
        here.clock.forward(HOUR)
        for number, trouble in enumerate(({"bad_skip_token": True}, {"truncate": 1}), 1):
            here.sim.faults.graph(**trouble)
            here.sim.log.clear()
            await here.guardrail.sweep()
            await here.settle()
            done = await last(here, "sweep.finished")
            assert await count(here, "sweep.finished") == number
            assert len(done["errors"]) == 1 and done["errors"][0].startswith("resources: ")
            assert {id.lower() for id in ids} <= read(here)
            here.clock.forward(HOUR)


# What was missed

@pytest.mark.threat("A15")
@pytest.mark.parametrize("lag_s", [0.0, 900.0])
async def test_lost_events_are_counted_told_and_made_up_for(lag_s: float, tmp_path: Path) -> None:
    """S15 loses some events: one sweep reads every subject that was missed, says how many, and pages."""
    async with world(tmp_path) as here:
        ids = accounts(here, 40)
        await here.guardrail.sweep()
        await here.settle()
        here.sim.faults.graph(lag_s=lag_s)
        here.clock.forward(HOUR)
        here.sim.faults.events(drop=0.3, seed=7)
        for id in ids:
            here.write("PATCH", id, {"tags": {"team": "ml"}})
            here.clock.forward(1)
        here.sim.events.drain()
        came = {one["subject"].lower() for one in here._events}
        lost = {id.lower() for id in ids} - came
        assert 3 < len(lost) < 20
        await here.settle()
        here.sim.events.calm()
        here.clock.forward(missed.SETTLED.total_seconds() + lag_s + 1)
        here.sim.log.clear()
        await here.guardrail.sweep()
        await here.settle()
        done, broken = await last(here, "sweep.finished"), await last(here, "path.broken")
        assert (done["missed"], done["changes"]) == (len(lost), 40)
        assert done["coverage"] == round(1 - len(lost) / 40, 4)
        assert (broken["hop"], broken["missed"]) == ("events", len(lost))
        assert {one.lower() for one in broken["resources"]} <= lost
        assert lost <= read(here)
        here.clock.forward(HOUR)
        await here.guardrail.sweep()
        assert (await last(here, "sweep.finished"))["changes"] == 0, "none is counted twice"
        assert await count(here, "path.restored") == 0, "nothing has changed, so nothing is proven"
        here.write("PATCH", ids[0], {"tags": {"team": "ops"}})
        await here.settle()
        here.clock.forward(HOUR)
        await here.guardrail.sweep()
        assert await count(here, "path.restored") == 1
        assert await count(here, "path.broken") == 1
        assert (await last(here, "sweep.finished"))["coverage"] == 1.0


async def test_a_missed_deletion_is_found(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        (id,) = accounts(here, 1)
        await here.guardrail.sweep()
        await here.settle()
        here.clock.forward(HOUR)
        here.sim.faults.events(drop=1.0)
        here.write("DELETE", id)
        here.clock.forward(HOUR)
        await here.guardrail.sweep()
        await here.settle()
        await here.forward(180)
        assert "resource.gone" in await here.events_of(id)
        assert (await last(here, "path.broken"))["missed"] == 1


async def test_what_a_service_does_by_itself_is_not_missed(tmp_path: Path) -> None:
    """No request, no event: that is no broken path."""
    async with world(tmp_path) as here:
        (id,) = accounts(here, 1)
        await here.guardrail.sweep()
        await here.settle()
        here.clock.forward(HOUR)
        here.sim.mutate(id, lambda body: body.update({"tags": {"a": "b"}}), by=SYSTEM)
        here.clock.forward(HOUR)
        await here.guardrail.sweep()
        assert (await last(here, "sweep.finished"))["changes"] == 0
        assert await count(here, "path.broken") == 0


# Rights

@pytest.mark.threat("F4")
async def test_a_right_taken_away_is_told_once_until_it_is_back(tmp_path: Path) -> None:
    """S12: one action of our role is denied in one group."""
    async with world(tmp_path, ENFORCE) as here:
        accounts(here, 2)
        action = f"{STORAGE}/write"
        await here.guardrail.sweep()
        assert await count(here, "permission.lost") == 0
        here.sim.faults.revoke(action, scope=GROUP)
        for _ in range(3):
            here.clock.forward(HOUR)
            await here.guardrail.sweep()
        assert await count(here, "permission.lost") == 1
        told = await last(here, "permission.lost")
        assert (told["actions"], told["scope"]) == ([action], fold(ResourceId(GROUP)))
        here.sim.faults.access.revoked.clear()
        here.clock.forward(HOUR)
        await here.guardrail.sweep()
        assert (await last(here, "sweep.finished"))["permissions_lost"] == 0
        here.sim.faults.revoke(action, scope=GROUP)
        here.clock.forward(HOUR)
        await here.guardrail.sweep()
        assert await count(here, "permission.lost") == 2


@pytest.mark.parametrize("ceiling", ["report", "enforce"])
async def test_a_report_only_installation_needs_reads_alone(ceiling: str, tmp_path: Path) -> None:
    async with world(tmp_path, ENFORCE, ceiling=ceiling) as here:
        accounts(here, 1)
        here.sim.faults.access.grants.clear()
        here.sim.faults.rbac({"actions": granted(here.guardrail.engine, report_only=True)})
        await here.guardrail.sweep()
        lost = (await last(here, "permission.lost")).get("actions", [])
        assert (lost == []) == (ceiling == "report")
        assert not any(one.endswith("/read") for one in lost)


async def test_rights_that_cannot_be_asked_for_are_an_error_and_no_alarm(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        accounts(here, 1)
        here.sim.faults.revoke("Microsoft.Authorization/permissions/read")
        await here.guardrail.sweep()
        done = await last(here, "sweep.finished")
        assert [one[:12] for one in done["errors"]] == ["permissions:"]
        assert await count(here, "permission.lost") == 0


# Children

CHILDREN = sorted(type.name for type in TYPES if roles.above(type.name))


@pytest.mark.parametrize("type", CHILDREN)
async def test_children_are_found_by_their_parents_lists(type: str, tmp_path: Path) -> None:
    """Whatever Resource Graph lists or does not: here it leaves out everything but the topmost parent."""
    async with harness.whole_world(tmp_path, REPORT) as here:
        here.sim.clock = lambda: here.clock().timestamp()
        id = here.stands(type)
        parent = "/".join(id.split("/")[:9])
        here.sim.faults.graph(omit=[f"{parent}/*"])
        await here.guardrail.sweep()
        done = await last(here, "sweep.finished")
        assert done["errors"] == []
        await here.settle()
        assert (await here.case(id)).looked is not None


async def test_children_of_no_enabled_control_are_not_listed(tmp_path: Path) -> None:
    async with harness.whole_world(tmp_path, REPORT) as here:
        here.stands(COMPUTE)
        engine = here.guardrail.engine
        engine.controls = tuple(one for one in CONTROLS if one.on != COMPUTE)
        assert COMPUTE not in {kind.name for found in below.kinds(engine).values() for kind in found}
        await here.guardrail.sweep()
        assert not any(line.path.lower().endswith("/computes") for line in here.reads)


async def test_a_list_leads_nowhere_else(tmp_path: Path) -> None:
    """What an answer names outside its own collection is not looked at."""
    async with world(tmp_path) as here:
        id = here.stands(COMPUTE)
        parent = ResourceId(id.rsplit("/", 2)[0])
        (kind,) = (one for one in below.kinds(here.guardrail.engine)[fold(ResourceId(roles.above(COMPUTE)[0]))]
                   if one.name == COMPUTE)
        wild = [id.upper(), f"{parent}/schedules/x", f"{parent}/computes/x/nodes/y", "/subscriptions/x", 7, None,
                id.replace(DEV, DEV[:-1] + "9"), f"{parent}/computes/..", f"{parent}/computes"]
        here.sim.faults.answer(f"GET {parent}/computes", 200, body={"value": [{"id": one} for one in wild] + [None, "x"]})
        assert await below.children(here.guardrail.engine, parent, kind) == [id.upper()]


# Our own resources

OURS = f"/subscriptions/{DEV}/resourceGroups/rg-guardrail"


@pytest.mark.threat("F1", "F2")
@pytest.mark.parametrize(("tail", "operation"), [
    ("/providers/Microsoft.Web/sites/func-hands", "Microsoft.Web/sites/host/listkeys/action"),
    ("/providers/Microsoft.Web/sites/func-front/config/appsettings", "Microsoft.Web/sites/config/write"),
    ("/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-hands/federatedIdentityCredentials/x",
     "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write"),
    ("/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-hands",
     "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"),
    ("/providers/Microsoft.EventGrid/systemTopics/evgt/eventSubscriptions/changes",
     "Microsoft.EventGrid/systemTopics/eventSubscriptions/delete"),
    (f"/providers/{STORAGE}/stguardrail", f"{STORAGE}/write"),
    ("", "Microsoft.Resources/subscriptions/resourceGroups/delete"),
])
async def test_whatever_is_done_to_our_own_group_pages_and_is_not_mended(
        tail: str, operation: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with world(tmp_path, ENFORCE) as here:
        here.guardrail.engine.group = ResourceId(OURS)
        id = ResourceId(OURS.upper().replace("/SUBSCRIPTIONS/", "/subscriptions/") + tail)
        if "stguardrail" in tail:
            here.stands(STORAGE, laid(STORAGE, NOT_HTTPS).body, id=id)
        await here.guardrail.intake(json.dumps(event(id, operation)))
        await here.settle()
        told = await last(here, "own.changed")
        assert (told["resource"], told["operation"]) == (id, operation)
        assert any('"event":"own.changed"' in line.getMessage() and line.levelname == "ERROR" for line in caplog.records)
        await here.guardrail.sweep()
        await here.settle()
        assert here.ours == [] and await here.records(id) == []


@pytest.mark.parametrize("id", [
    f"{OURS}-dev/providers/{STORAGE}/stmltrain", f"/subscriptions/{DEV}/resourceGroups/rg-ai-dev",
    OURS, f"{OURS}/providers/Microsoft.Resources/tags/default"])
async def test_others_and_the_probe_page_nobody(id: str, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.guardrail.engine.group = ResourceId(OURS)
        await here.guardrail.intake(json.dumps(event(id, "Microsoft.Resources/tags/write")))
        assert await count(here, "own.changed") == 0


async def test_a_flood_on_our_own_group_leaves_a_bounded_record(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.guardrail.engine.group = ResourceId(OURS)
        await here.guardrail.intake(json.dumps([event(f"{OURS}/providers/{STORAGE}/x{number}") for number in range(130)]))
        assert await count(here, "own.changed") == 100


OWNER, BLOB_READER, READER = (f"/subscriptions/{DEV}/providers/Microsoft.Authorization/roleDefinitions/{id}" for id in (
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1", own.READER.upper()))
KNOWN, STRANGER = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def assigned(here: World, scope: str, principal: str, role: str, number: int) -> str:
    id = f"{scope}/providers/Microsoft.Authorization/roleAssignments/00000000-0000-0000-0000-{number:012}"
    here.sim.seed(id, {"properties": {"principalId": principal, "roleDefinitionId": role, "scope": scope}})
    return id


@pytest.mark.threat("F3")
@pytest.mark.parametrize("below", ["", f"/providers/{STORAGE}/stguardrail",
                                   f"/providers/{STORAGE}/stguardrail/blobServices/default/containers/anchors"])
async def test_a_stranger_with_a_role_that_reaches_our_storage_is_named_once(below: str, tmp_path: Path) -> None:
    """Inherited from the subscription, or on the account or one container; those we know and mere readers are not."""
    async with world(tmp_path) as here:
        engine = here.guardrail.engine
        engine.group, engine.principals = ResourceId(OURS), frozenset({KNOWN})
        here.sim.seed(f"{OURS}/providers/{STORAGE}/stguardrail", {"location": "westeurope"})
        assigned(here, OURS, KNOWN.upper(), OWNER, 1)
        assigned(here, f"/subscriptions/{DEV}", STRANGER, READER, 2)
        await here.guardrail.sweep()
        assert await count(here, "own.reached") == 0
        scope = OURS + below if below else f"/subscriptions/{DEV}"
        id = assigned(here, scope, STRANGER, BLOB_READER, 3)
        for _ in range(2):
            here.clock.forward(HOUR)
            await here.guardrail.sweep()
        told = await last(here, "own.reached")
        assert await count(here, "own.reached") == 1
        assert (told["principal"], told["role"], told["scope"]) == (STRANGER, BLOB_READER, scope)
        here.sim.faults.delete(id, quiet=True)
        here.clock.forward(HOUR)
        await here.guardrail.sweep()
        assigned(here, scope, STRANGER, BLOB_READER, 3)
        here.clock.forward(HOUR)
        await here.guardrail.sweep()
        assert await count(here, "own.reached") == 2


async def test_without_a_list_of_those_we_know_nobody_is_a_stranger(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.guardrail.engine.group = ResourceId(OURS)
        assigned(here, OURS, STRANGER, OWNER, 1)
        await here.guardrail.sweep()
        assert await count(here, "own.reached") == 0


# Exemptions that end

async def test_an_exemption_that_ends_is_told_of_three_times(tmp_path: Path) -> None:
    """The policy's and one that people set: 14, 3 and 1 days before, each once, whoever runs; none after its end."""
    until = "2026-12-24T19:00:00Z"
    policy = REPORT + (f"exemptions: [{{control: storage-https-only, scope: {GROUP}, reason: migration, owner: ml-engineer,"
                       f" until: {until}}}]\n")
    async with world(tmp_path, policy) as here:
        until_at = datetime.fromisoformat(until)
        mine = Exemption("storage-sftp", named(1), "a test", "ml-engineer", until_at - timedelta(days=2))
        await here.rules(exemptions=(mine,))
        told = list[tuple[int, str, int]]()
        for day in range(33):
            if day == 20:
                await restart(here, policy)
            for _ in range(2):
                await here.guardrail.tend()
            for record in await here.records(HOME):
                detail = record["detail"]
                if record["event"] == "exemption.expiring" and (one := (detail["control"], detail["days"])) not in [
                        (control, days) for _, control, days in told]:
                    told.append((day, *one))
            here.clock.forward(24 * HOUR)
        assert told == [(14, "storage-sftp", 14), (16, "storage-https-only", 14), (25, "storage-sftp", 3),
                        (27, "storage-https-only", 3), (27, "storage-sftp", 1), (29, "storage-https-only", 1)]
        assert await count(here, "exemption.expiring") == 6


async def test_a_short_exemption_is_told_of_as_it_stands(tmp_path: Path) -> None:
    """Two days are left when it is set: one reminder, of the three days, and one a day before."""
    async with world(tmp_path) as here:
        until = here.clock.now + timedelta(days=2)
        await here.rules(exemptions=(Exemption("storage-sftp", named(1), "a test", "ml-engineer", until),))
        await here.forward(3 * 24 * HOUR, step=6 * HOUR)
        days = [one["detail"]["days"] for one in await here.records(HOME) if one["event"] == "exemption.expiring"]
        assert days == [3, 1]
