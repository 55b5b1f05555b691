"""What arrives, however often, in whatever order, by whomever: a hint where to look, and nothing more."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from guardrail.errors import Malformed
from guardrail.ids import ResourceId
from guardrail.paths import get, parse
from guardrail.stores import HOME
from guardrail.values import Look
from simulator import identity
from tests.flow.harness import (
    AI,
    HTTPS,
    NOT_HTTPS,
    STORAGE,
    VAULT,
    event,
    laid,
    stand,
    world,
)
from tests.flow.world import DEV, ENFORCE, PROD, World

pytestmark = pytest.mark.anyio

OID = "http://schemas.microsoft.com/identity/claims/objectidentifier"
TRUSTED, BREAK_GLASS = "44444444-4444-4444-4444-444444444444", "55555555-5555-5555-5555-555555555555"


async def told(here: World, *events: Any) -> None:
    """Delivered as they are, and everything that follows within half a minute."""
    for one in events:
        await here.guardrail.intake(one if isinstance(one, (str, bytes)) else json.dumps(one))
    await here.forward(40, step=5)


def is_mended(here: World, id: ResourceId) -> bool:
    return get(here.show(id), parse(HTTPS)) is True


@pytest.mark.threat("B1", "I14")
@pytest.mark.parametrize("actor", ["", TRUSTED, BREAK_GLASS, "ours", "an approver", "nonsense"])
@pytest.mark.parametrize("subscription", [DEV, PROD])
async def test_a_forged_actor_weakens_nothing(actor: str, subscription: str, tmp_path: Path) -> None:
    """A trusted deployer, break-glass, we ourselves: what an event claims is no reason to do less."""
    policy = ENFORCE + (f"trusted_deployers: [{{object_id: {TRUSTED}, scope: /subscriptions/{DEV}}}]\n"
                        f"break_glass: [{BREAK_GLASS}]\n")
    async with world(tmp_path, policy) as here:
        id = here.stands(STORAGE, laid(STORAGE, NOT_HTTPS).body, subscription=subscription)
        names = {"ours": "guardrail", "an approver": "approver"}
        oid = identity.actor(names[actor]).oid if actor in names else actor
        await told(here, event(id, data={"claims": {OID: oid} if oid else {}}))
        case = await here.case(id)
        if subscription == DEV:
            assert is_mended(here, id) and case.acting is None
        else:
            assert case.asked is not None and case.asked.state == "proposed" and here.ours == []


@pytest.mark.threat("B2", "R1", "I6")
async def test_a_thousand_replays_cost_a_handful_of_reads_and_no_write(tmp_path: Path) -> None:
    """Of events that were handled long ago, on three resources; their times and ids decide nothing."""
    async with world(tmp_path) as here:
        ids = [stand(here, laid(type)) for type in (STORAGE, VAULT, AI)]
        old = [event(id, eventTime=f"20{year}-01-01T00:00:00Z") for id in ids for year in ("01", "26", "99")]
        await told(here, *old)
        await here.forward(120)
        here.sim.log.clear()
        replay = [json.dumps(one) for one in old]
        for one in itertools.islice(itertools.cycle(replay), 1000):
            await here.guardrail.intake(one)
        await here.settle()
        await here.forward(120, step=30)
        for id in ids:
            assert len([line for line in here.reads if line.path == id]) <= 3      # one, its trailing one, a second look
        assert here.ours == []


@pytest.mark.threat("R1", "I6")
@pytest.mark.parametrize("schema", ["EventGridSchema", "CloudEventSchemaV1_0"])
async def test_an_event_five_times_is_one_plan_and_one_write(schema: str, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        here.sim.faults.events(duplicate=4, schema=schema)
        here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}})
        await here.forward(60, step=5)
        assert len(here.ours) == 1 and is_mended(here, id)
        assert (await here.events_of(id)).count("action.applying") == 1


@pytest.mark.threat("R2", "I14")
async def test_the_order_of_events_decides_nothing(tmp_path: Path) -> None:
    """A drift, a tag, a delete of something below, an action and an older write, in every order: the same world."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        await told(here, event(id))
        below = f"{id}/blobServices/default/containers/a"
        five = [event(id), event(id, eventTime="2001-01-01T00:00:00Z"), event(id, f"{STORAGE}/delete"),
                event(below, f"{STORAGE}/blobServices/containers/delete"), event(id, f"{STORAGE}/listKeys/action")]
        good = {**here.show(id), "etag": ""}
        for order in itertools.islice(itertools.permutations(five), 0, 120, 11):
            stand(here, laid(STORAGE, NOT_HTTPS))
            here.clock.forward(60)
            count = len(here.ours)
            for one in order:
                await here.guardrail.intake(json.dumps(one))
            await here.settle()
            assert is_mended(here, id) and len(here.ours) == count + 1
        assert here.show(id)["properties"] == good["properties"]
        assert "resource.gone" not in await here.events_of(id)


@pytest.mark.threat("B3", "I12")
async def test_a_message_names_a_resource_and_says_nothing_else(tmp_path: Path) -> None:
    """Plans, requests, modes and other ids in it: not read. What it names is looked at only if its row says so."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.log.clear()
        more: list[Mapping[str, Any]] = [
            {"plan": {"edits": [{"path": "properties.publicNetworkAccess", "after": "Enabled"}]}}, {"mode": "enforce"},
            {"why": "person"}, {"action": "act-1", "state": "approved"}, {"requests": [{"method": "DELETE", "url": id}]}]
        for extra in more:
            named = await here.guardrail.nudge(json.dumps({"v": 1, "resource": id, **extra}))
            assert named == id
            await here.guardrail.answer(named)
        for message in ("", "{}", "null", "[]", '{"v": 2, "resource": "x"}', '{"v": 1}', '{"v": 1, "resource": 7}', "\x00",
                        json.dumps({"v": 1, "resource": f"{id}/.."}), json.dumps({"v": 1, "resource": "/"}), "[" * 5000,
                        json.dumps({"v": 1, "resource": id, "x": "y" * 9000}), '{"v": 1, "v": 1e999, "resource": "x"}'):
            with pytest.raises(Malformed):
                await here.guardrail.nudge(message)
        for other in (id.replace(DEV, "99999999-9999-4999-8999-999999999999"), f"/subscriptions/{DEV}",
                      f"/subscriptions/{DEV}/resourceGroups/x/providers/Contoso.Other/things/x"):
            await here.guardrail.answer(ResourceId(other))
        await here.settle()
        assert here.sim.log == [] and (await here.case(id)).seq == 0


@pytest.mark.threat("B4", "R31", "I15")
@pytest.mark.parametrize("bad", [
    '{"a":' + "[" * 1000 + "]" * 1000 + "}", '{"id": ' + "9" * 5000 + "}", '{"id": NaN}', '{"id": 1e999}', "null", "17",
    '{"id": "\ud800"}', '{"eventType": "Microsoft.Resources.ResourceWriteSuccess", "subject": "/.."}', "{}",
    '{"eventType": {"a": 1}, "subject": []}', '{"eventType": "Microsoft.Resources.ResourceWriteSuccess", "data": [1]}',
], ids=lambda text: text[:20])
async def test_one_bad_event_of_ten_spoils_no_other(bad: str, tmp_path: Path) -> None:
    """Nine are handled, one is recorded, and the delivery is acknowledged."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        vault = stand(here, laid(VAULT))
        good = [json.dumps(event(one)) for one in (id, vault) * 4] + [json.dumps(event(id))]
        batch = "[" + ",".join([*good[:5], bad, *good[5:]]) + "]"
        await here.guardrail.intake(batch.encode("utf-8", "surrogatepass"))
        await here.settle()
        assert is_mended(here, id) and (await here.case(vault)).seq
        rejected = [one for one in await here.records(HOME) if one["event"] == "change.rejected"]
        assert len(rejected) == 1


@pytest.mark.threat("R31")
async def test_a_batch_with_one_that_must_wait_waits_for_that_one_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id, vault = stand(here, laid(STORAGE, NOT_HTTPS)), stand(here, laid(VAULT))
        here.sim.faults.answer(f"GET {vault}", 503, "ServerBusy", times=1)
        await here.guardrail.intake(json.dumps([event(vault), event(id), {"odd": True}]))
        await here.settle()
        assert is_mended(here, id) and (await here.case(vault)).seq == 0
        await here.forward(30, step=15)
        assert (await here.case(vault)).seq


@pytest.mark.threat("B10")
async def test_junk_leaves_bounded_rows(tmp_path: Path) -> None:
    """Three thousand: malformed ones, of types and subscriptions that nobody guards, foreign ones."""
    async with world(tmp_path) as here:
        other = f"/subscriptions/{DEV}/resourceGroups/x/providers/Contoso.Other/things"
        junk = [lambda n: json.dumps({"n": n}), lambda n: json.dumps(event(f"{other}/{n}", "Contoso.Other/things/write")),
                lambda n: json.dumps({"id": str(n), "eventType": "Contoso.Items.Received", "subject": "x", "data": {}}),
                lambda n: json.dumps(event(f"/subscriptions/99999999-9999-4999-8999-{n:012}")), lambda n: "x" * (n % 300)]
        for n in range(600):
            for one in junk:
                await here.guardrail.intake(one(n))
        await here.settle()
        assert [chain.resource async for chain in here.guardrail.store.chains()] == [HOME]
        assert len(await here.records(HOME)) <= 101
        assert (tmp_path / "guardrail.db").stat().st_size < 1024 * 1024
        assert not [line for line in here.sim.log if "/msi/" not in line.path]


@pytest.mark.threat("B10", "B2")
async def test_a_large_raw_event_is_kept_in_part(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.guardrail.intake(json.dumps({"x": "y" * 900_000}))
        await here.guardrail.intake("[" + "1," * 400_000 + "1]")
        await here.guardrail.intake("z" * 3_000_000)
        size = sum(path.stat().st_size for path in tmp_path.glob("guardrail.db*"))
        assert size < 1024 * 1024


@pytest.mark.threat("B1", "F9")
async def test_a_drift_by_our_own_identity_is_a_drift(tmp_path: Path) -> None:
    """A stolen token of ours, or an echo that hides something: it is judged like any other change."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}}, as_="guardrail")
        await here.forward(30, step=5)
        assert is_mended(here, id)
        assert "identity.misused" not in await here.events_of(id), "bad when it was first seen: nobody knows who"
        here.clock.forward(60)
        here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}}, as_="guardrail")
        await here.forward(30, step=5)
        assert is_mended(here, id)
        assert (await here.events_of(id)).count("identity.misused") == 1


@pytest.mark.threat("B1")
async def test_our_own_echo_is_nobody(tmp_path: Path) -> None:
    """Where only our echo is known of, nobody knows who drifted it: two people."""
    async with world(tmp_path, ENFORCE.replace("other: enforce", "other: approve")) as here:
        id = stand(here, laid(STORAGE))
        await told(here, event(id))
        here.clock.forward(60)
        here.sim.faults.events(drop=1.0)
        here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}})
        await told(here, event(id, data={"claims": {"oid": here.guardrail.engine.arm.object_id}}))
        asked = (await here.case(id)).asked
        assert asked is not None and (asked.caused_by, asked.needs) == ((), 2)


@pytest.mark.threat("I6")
async def test_when_all_is_right_nothing_is_written_whatever_comes(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        ids = [stand(here, laid(type)) for type in (STORAGE, VAULT, AI)]
        for id in ids:
            await told(here, event(id), event(f"{id}/providers/Microsoft.Insights/diagnosticSettings/logs"))
        for why in ("event", "sweep", "due", "approval", "person", "release"):
            for id in ids:
                await here.guardrail.store.send(Look(id, why))      # type: ignore[arg-type]
            await here.guardrail.sweep()
            await here.forward(120)
        assert here.ours == []
