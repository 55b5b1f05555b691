"""The probe: a tag on our own group whose event has to come back, and what people are told when it does not."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from guardrail import app, audit, probe, roles
from guardrail.ids import ResourceId
from guardrail.settings import read
from guardrail.stores import HOME
from guardrail.values import Record
from simulator.sinks import cloud_event
from tests.flow import harness
from tests.flow.harness import NOT_HTTPS, STORAGE, event, laid, restart
from tests.flow.world import DEV, ENFORCE, World
from tests.published import published

pytestmark = pytest.mark.anyio

GROUP = f"/subscriptions/{DEV}/resourceGroups/rg-guardrail"
PATH = f"{GROUP}/providers/Microsoft.Resources/tags/default"
ON = {"GUARDRAIL_PROBE": "on", "GUARDRAIL_GROUP": GROUP}
MINUTE = 60.0


@asynccontextmanager
async def world(folder: Path, policy: str = ENFORCE, settings: Mapping[str, str] = ON, **how: Any) -> AsyncIterator[World]:
    """Our group stands beside what is guarded, with a tag of somebody's, and Azure's clock goes with ours."""
    async with harness.world(folder, policy, settings=settings, **how) as here:
        here.sim.clock = lambda: here.clock().timestamp()
        here.sim.seed(GROUP, {"location": "westeurope", "tags": {"owner": "data-platform"}})
        yield here


async def told(here: World, *names: str) -> list[tuple[str, Mapping[str, Any]]]:
    names = names or ("probe.sent", "probe.received", "path.broken", "path.restored", "permission.lost", "own.changed")
    return [(one["event"], one["detail"]) for one in await here.records(HOME) if one["event"] in names]


async def events(here: World, *names: str) -> list[str]:
    return [name for name, _ in await told(here, *names)]


async def known(here: World) -> probe.Probe:
    found = probe.of(await here.case(HOME))
    assert found is not None
    return found


def tag(here: World) -> Any:
    return here.sim.document(GROUP, "2025-04-01")["tags"]


def lost(here: World) -> None:
    here.sim.events.disturb(match="tags/write", drop=1)


# A whole path

@pytest.mark.threat("A15", "I7")
@pytest.mark.parametrize("how", [{}, {"ceiling": "report"}, {"switch": "report"}], ids=["enforcing", "ceiling", "switch"])
async def test_each_quarter_of_an_hour_a_tag_goes_out_and_its_event_comes_back(how: Any, tmp_path: Path) -> None:
    """Also where nothing else may be written. The value is the time, and other tags stay."""
    async with world(tmp_path, **how) as here:
        id, began = here.stands(STORAGE, laid(STORAGE, NOT_HTTPS).body), here.clock()
        await here.guardrail.sweep()
        await here.forward(31 * MINUTE)
        ours = [line for line in here.ours if line.path == PATH]
        assert len(ours) == 3 and {(line.method, line.api_version) for line in ours} == {("PATCH", "2025-04-01")}
        assert [line.path for line in here.ours if line.path != PATH] == ([] if how else [id])
        assert await events(here) == ["probe.sent", "probe.received"] * 3
        last = (began + timedelta(minutes=31)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert tag(here) == {"owner": "data-platform", probe.TAG: last}
        assert ours[-1].body == {"operation": "Merge", "properties": {"tags": {probe.TAG: last}}}
        assert (await known(here)).is_proven(here.clock()) and await here.records(ResourceId(GROUP)) == []
        assert (await audit.verify_store(here.guardrail.store)).ok


@pytest.mark.parametrize("shape", ["event grid", "cloud event", "subject is the tags", "other case", "queue", "failed"])
async def test_its_event_is_known_however_it_is_spelled(shape: str, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        lost(here)
        await here.guardrail.tend()
        [raised] = [one for one in here.sim.events.record if one["data"]["operationName"] == "Microsoft.Resources/tags/write"]
        if shape == "subject is the tags":
            raised = {**raised, "subject": PATH, "data": {**raised["data"], "resourceUri": PATH}}
        elif shape == "other case":
            raised = {**raised, "subject": GROUP.replace("resourceGroups", "resourcegroups").replace("rg-", "RG-")}
        elif shape == "failed":
            raised = {**raised, "eventType": "Microsoft.Resources.ResourceWriteFailure"}
        raw = json.dumps(cloud_event(raised) if shape == "cloud event" else [raised])
        here.clock.forward(20)
        await here.guardrail.intake(b64encode(raw.encode()) if shape == "queue" else raw, queued=shape == "queue")
        [(_, detail)] = await told(here, "probe.received")
        assert detail["took_s"] == 20 and await events(here, "own.changed") == []


async def test_front_says_that_it_came_and_hands_believe_only_front(tmp_path: Path) -> None:
    """Front may not write what hands remember, and never reads or writes Azure."""
    async with world(tmp_path) as here:
        parts = [app.build(replace(here.guardrail.settings, part=part), store=here.open_store(), clock=here.clock)
                 for part in ("front", "hands")]
        front, hands = parts
        try:
            for _ in range(40):
                before = len(here.sim.log)
                here.sim.events.drain()
                with here._lock:
                    raised, here._events = here._events, []
                for one in raised:
                    await front.intake(json.dumps(one))
                assert len(here.sim.log) == before
                await hands.tend()
                here.clock.forward(60)
            assert await events(here) == ["probe.sent", "probe.received"] * 3
            assert (await known(here)).back is not None and not (await here.case(HOME)).forged
        finally:
            for one in parts:
                await one.close()


async def test_after_a_switch_a_probe_follows_within_a_minute(tmp_path: Path) -> None:
    """It names the generation: who sent it goes by those rules."""
    async with world(tmp_path) as here:
        await here.forward(3 * MINUTE)
        rules = await here.rules(switch="report")
        await here.forward(2 * MINUTE)
        sent = [detail for name, detail in await told(here, "probe.sent")]
        assert [one["switch"] for one in sent] == ["policy", "report"] and sent[-1]["generation"] == rules.generation
        back = [detail["generation"] for _, detail in await told(here, "probe.received")]
        assert back == [one["generation"] for one in sent]


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize("at", range(6))
async def test_two_workers_send_one_and_tell_once(at: int, is_lost: bool, tmp_path: Path) -> None:
    """The other one's whole tend comes before one of our commits."""
    async with world(tmp_path) as here:
        other = harness.restarted(here)
        try:
            await here.forward(2 * MINUTE)
            if is_lost:
                lost(here)
                await here.forward(48 * MINUTE)
            here.clock.forward(15 * MINUTE)
            sent, seen = len(here.ours), [0]

            async def first() -> None:
                seen[0] += 1
                if seen[0] == at + 1:
                    await other.tend()

            harness.at(here.guardrail, "store.commit", "before", first, times=9)
            await here.guardrail.tend()
            await other.tend()
            await here.settle()
            assert len(here.ours) == sent + 1
            assert await events(here, "path.broken") == (["path.broken"] if is_lost else [])
        finally:
            await other.close()


@pytest.mark.parametrize("name", ["rg (ml)", "rg-\u00fc"])
async def test_it_goes_to_our_group_whatever_that_is_called(name: str, tmp_path: Path) -> None:
    group = f"/subscriptions/{DEV}/resourceGroups/{name}"
    async with world(tmp_path, settings={**ON, "GUARDRAIL_GROUP": group}) as here:
        here.sim.seed(group, {"location": "westeurope"})
        await here.forward(2 * MINUTE)
        assert [line.path for line in here.ours] == [f"{group}/providers/Microsoft.Resources/tags/default"]
        assert await events(here) == ["probe.sent", "probe.received"]


@pytest.mark.threat("I7")
async def test_it_needs_the_probe_s_role_on_our_group_and_no_other(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.sim.faults.access.grants.clear()
        here.sim.faults.rbac({"actions": list(roles.PROBE)}, scope=GROUP)
        await here.forward(2 * MINUTE)
        assert await events(here) == ["probe.sent", "probe.received"]
        here.sim.faults.revoke("Microsoft.Resources/tags/write")
        await here.forward(15 * MINUTE)
        [(_, lost)] = await told(here, "permission.lost")
        assert (lost["scope"], lost["actions"]) == (GROUP, ["Microsoft.Resources/tags/write"])


async def test_what_is_sent_fits_the_published_type(tmp_path: Path) -> None:
    """At the newest stable version; the type has no `operation`, which the PATCH alone knows."""
    async with world(tmp_path) as here:
        await here.guardrail.tend()
        body = {name: value for name, value in here.ours[0].body.items() if name != "operation"}
        type = published(probe.TAGS.name, here.ours[0].api_version)
        assert list(type.faults(body, sent="PATCH", exact=True)) == []


# A broken one

@pytest.mark.threat("A15")
async def test_no_event_within_35_minutes_is_told_once_and_its_end_too(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.forward(2 * MINUTE)
        lost(here)
        await here.forward(48 * MINUTE)         # sent at 16: at 50 nobody is worried yet
        assert await events(here, "path.broken") == []
        await here.forward(4 * MINUTE)
        [(_, broken)] = await told(here, "path.broken")
        assert (broken["hop"], broken["why"]) == ("probe", "the tag was set, and no event of it came")
        assert datetime.fromisoformat(broken["since"]) == datetime(2026, 11, 24, 19, 16, tzinfo=UTC)
        await here.forward(120 * MINUTE)
        assert await events(here, "path.broken", "path.restored") == ["path.broken"]
        here.sim.events.calm()
        await here.forward(16 * MINUTE)
        assert await events(here, "path.broken", "path.restored") == ["path.broken", "path.restored"]
        assert (await known(here)).is_proven(here.clock()) and not (await known(here)).is_broken


async def test_a_slow_path_is_a_whole_one(tmp_path: Path) -> None:
    """Events that take 20 minutes come back after the next tag has been sent."""
    async with world(tmp_path) as here:
        lost(here)
        late = list[tuple[datetime, Any]]()
        for _ in range(90):
            await here.forward(MINUTE)
            late += [(here.clock() + timedelta(minutes=20), one) for one in here.sim.events.record]
            here.sim.events.record.clear()
            for at, one in late:
                if at <= here.clock():
                    await here.guardrail.intake(json.dumps(one))
            late = [(at, one) for at, one in late if at > here.clock()]
        assert await events(here, "path.broken") == []
        assert {round(detail["took_s"] / 60) for _, detail in await told(here, "probe.received")} == {20}
        assert (await known(here)).is_proven(here.clock())


@pytest.mark.parametrize(("status", "code", "every", "pages"), [
    (403, "AuthorizationFailed", 15, 1), (404, "ResourceGroupNotFound", 15, 0), (503, "ServerBusy", 1, 0),
    (429, "TooManyRequests", 1, 0), (409, "ScopeLocked", 15, 1), (400, "InvalidTag", 15, 0)])
async def test_a_tag_that_azure_refuses_ends_nothing_else_and_is_told(
        status: int, code: str, every: int, pages: int, tmp_path: Path) -> None:
    """Soon again where that may help; a lack of rights pages once; the path counts as broken, and says why."""
    async with world(tmp_path) as here:
        here.sim.faults.answer(f"PATCH {PATH}", status, code)
        await here.forward(31 * MINUTE)
        assert len(here.ours) == 1 + 30 // every
        assert len(await events(here, "permission.lost")) == pages and await events(here, "path.broken") == []
        assert "anchor.written" in await here.events_of(HOME)
        await here.forward(20 * MINUTE)
        [(_, broken)] = await told(here, "path.broken")
        assert f"{status} {code}" in broken["why"]
        here.sim.faults.clear()
        await here.forward(20 * MINUTE)
        assert await events(here, "path.restored") == ["path.restored"]
        now = await known(here)
        assert (now.why, now.is_denied, now.is_broken) == ("", False, False)


async def test_no_answer_is_no_end(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.sim.faults.drop_request(f"PATCH {PATH}", times=1)
        await here.forward(3 * MINUTE)
        assert await events(here) == ["probe.sent", "probe.sent", "probe.received"]
        assert (await known(here)).why == ""


@pytest.mark.parametrize("dies_at", range(14))
async def test_a_worker_that_dies_over_it_leaves_no_false_word(dies_at: int, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        harness.crash_at(here.guardrail, dies_at)
        with suppress(harness.Crash):
            await here.guardrail.tend()
        await restart(here)
        await here.forward(40 * MINUTE)
        assert await events(here, "path.broken") == [] and (await known(here)).is_proven(here.clock())
        assert 2 <= len(here.ours) <= 4


# What proves nothing

@pytest.mark.parametrize("settings", [{**ON, "GUARDRAIL_PROBE": "off"}, {}], ids=["off", "nobody named a group"])
async def test_without_it_nothing_is_written_and_nothing_proven(settings: Mapping[str, str], tmp_path: Path) -> None:
    async with world(tmp_path, settings=settings) as here:
        here.write("PATCH", PATH, {"operation": "Merge", "properties": {"tags": {probe.TAG: "now"}}}, api_version="2025-04-01")
        await here.forward(20 * MINUTE)
        assert here.ours == [] and await events(here) == [] and probe.of(await here.case(HOME)) is None


def test_a_local_run_against_azure_without_a_group_tags_nothing() -> None:
    """The group that local runs have by default is nobody's in Azure."""
    plain = {"GUARDRAIL_SUBSCRIPTIONS": DEV}
    assert not read(plain).probes and read({**plain, **ON}).probes
    assert not read({**plain, **ON, "GUARDRAIL_PROBE": "off"}).probes


async def test_what_was_remembered_is_forgotten_once_it_is_off(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.forward(2 * MINUTE)
        here.guardrail.settings = replace(here.guardrail.settings, probe=False)
        await here.forward(60 * MINUTE)
        assert await events(here) == ["probe.sent", "probe.received"] and probe.of(await here.case(HOME)) is None


@pytest.mark.parametrize("forged", ["old", "to come", "another group", "below our group", "taken away", "dead letter"])
async def test_an_event_that_proves_nothing_is_no_proof(forged: str, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        lost(here)
        await here.guardrail.tend()
        at = here.clock() + {"old": -timedelta(minutes=36), "to come": timedelta(minutes=2)}.get(forged, timedelta(0))
        group = {"another group": f"{GROUP}-dev", "below our group": f"{GROUP}/providers/{STORAGE}/stours"}.get(forged, GROUP)
        operation = "Microsoft.Resources/tags/" + ("delete" if forged == "taken away" else "write")
        raw = json.dumps(event(group, operation, eventTime=at.isoformat()))
        await here.guardrail.intake(raw, late=forged == "dead letter")
        assert await events(here, "probe.received") == []
        await here.forward(40 * MINUTE)
        assert await events(here, "path.broken") == ["path.broken"]


@pytest.mark.threat("B1")
@pytest.mark.parametrize("signature", [None, "", "0123456789abcdef." + "A" * 86, "of another time"])
async def test_who_writes_into_the_store_cannot_say_that_it_came(signature: str | None, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.forward(2 * MINUTE)
        [(_, before)] = await told(here, "probe.received")
        lost(here)
        await here.forward(20 * MINUTE)
        forged = {"took_s": before["took_s"], **({} if signature is None else {"signature": signature})}
        if signature == "of another time":
            forged = dict(before)
        store: Any = here.guardrail.store
        case, _ = await store.inner.load(HOME)
        await store.inner.commit(case, Record("probe.received", here.clock(), "guardrail", "", "enforce", "", forged))
        await here.forward(40 * MINUTE)
        assert await events(here, "path.broken") == ["path.broken"]


async def test_a_flood_of_them_leaves_a_record_a_minute(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.guardrail.tend()
        at = here.clock().isoformat()
        await here.guardrail.intake(json.dumps([event(GROUP, "Microsoft.Resources/tags/write", eventTime=at)] * 200))
        assert await events(here, "probe.received") == ["probe.received"]
