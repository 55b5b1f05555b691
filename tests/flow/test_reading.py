"""Reads that come too early, too late, wrong, refused or not at all: nothing is taken for compliant that was not read."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

import recorded
from detectors import CONTROLS
from guardrail.ids import ResourceId
from guardrail.paths import get, parse
from guardrail.values import Look
from tests.flow.harness import (
    AI,
    HTTPS,
    NOT_HTTPS,
    NSG,
    STORAGE,
    VAULT,
    at,
    budget,
    control,
    event,
    laid,
    looked,
    stand,
    world,
)
from tests.flow.world import World, type_of

pytestmark = pytest.mark.anyio



def is_mended(here: World, id: ResourceId) -> bool:
    return get(here.show(id), parse(HTTPS)) is True


def unreadable(findings: Any) -> set[str]:
    return {control for control, path in findings if path == "?"}


@pytest.mark.threat("R3", "I4")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_drift_during_a_read_is_found(when: str, tmp_path: Path) -> None:
    """Its event joins the look that is just being answered; one more read follows, begun after it."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        await looked(here, id)

        async def drift() -> None:
            here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}})
            await here.deliver()

        at(here.guardrail, "arm.read", when, drift)
        await here.guardrail.intake(json.dumps(event(id)))
        await here.settle()
        await here.forward(30, step=5)
        assert is_mended(here, id)


@pytest.mark.threat("R3")
async def test_a_drift_while_the_read_is_out_is_found(tmp_path: Path) -> None:
    """ARM has answered from before the drift, and the answer is slow."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        await looked(here, id)
        here.sim.faults.slow(f"GET {id}", ms=60, times=1)
        here.sim.faults.before_write(f"PATCH {id}", lambda: None)
        await here.guardrail.intake(json.dumps(event(id)))

        async def later() -> None:
            await asyncio.sleep(0.03)
            here.write("PATCH", id, {"properties": {"supportsHttpsTrafficOnly": False}})
            await here.deliver()

        await asyncio.gather(here.guardrail.settle(), later())
        await here.forward(30, step=5)
        assert is_mended(here, id)


@pytest.mark.threat("R4")
async def test_a_stale_clean_read_of_a_critical_control_is_looked_at_again(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        await looked(here, id)
        here.sim.faults.stale(f"GET {id}", reads=1)
        here.write("PATCH", id, {"properties": {"allowBlobPublicAccess": True}})
        await here.settle()
        assert here.ours == []
        await here.forward(90, step=10)
        assert get(here.show(id), parse("properties.allowBlobPublicAccess")) is False


@pytest.mark.threat("R4", "A16")
@pytest.mark.parametrize("count", [1, 2, 5])
async def test_a_404_that_is_not_true_declares_nothing_deleted(count: int, tmp_path: Path) -> None:
    """Neither one nor many within a minute; the drift behind it is found as soon as it shows."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.answer(f"GET {id}", 404, "ResourceNotFound", times=count)
        for _ in range(count - 1):
            await looked(here, id)
            here.clock.forward(1)
        await looked(here, id)
        await here.forward(90, step=10)
        assert "resource.gone" not in await here.events_of(id)
        assert is_mended(here, id)


@pytest.mark.threat("R4")
async def test_what_is_gone_is_gone_once_and_for_all(tmp_path: Path) -> None:
    """By its event and one 404, or by 404s for a minute; recorded once however often it is looked at afterwards."""
    async with world(tmp_path) as here:
        for with_event in (True, False):
            id = stand(here, laid(STORAGE, NOT_HTTPS if with_event else {}))
            await here.rules(switch="report")
            await looked(here, id)
            here.sim.faults.delete(id, quiet=not with_event)
            await here.forward(10)
            if not with_event:
                await looked(here, id)
                await here.forward(120, step=30)
            gone = (await here.events_of(id)).count("resource.gone")
            assert gone == (1 if with_event else 2)
            count = (await here.case(id)).seq
            for _ in range(20):
                await looked(here, id, "sweep")
                await here.forward(60)
            case = await here.case(id)
            assert case.findings == frozenset() and len(case.missing) <= 3 and case.seq == count


@pytest.mark.threat("R13", "A16")
@pytest.mark.parametrize("code", ["AuthorizationFailed", "LinkedAuthorizationFailed", "RequestDisallowedByPolicy"])
async def test_a_refused_read_is_unreadable_and_closes_nothing(code: str, tmp_path: Path) -> None:
    async with world(tmp_path, switch="report") as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        await looked(here, id)
        assert ("storage-https-only", HTTPS) in (await here.case(id)).findings
        here.sim.faults.answer(f"GET {id}", 403, code)
        await looked(here, id)
        findings = (await here.case(id)).findings
        mine = {one.id for one in CONTROLS if one.on in ("*", STORAGE)}
        assert unreadable(findings) == mine
        assert ("storage-https-only", HTTPS) in findings and "finding.cleared" not in await here.events_of(id)
        await here.forward(3700, step=600)
        assert (await here.case(id)).findings == findings and here.ours == []
        here.sim.faults.clear()
        await looked(here, id)
        assert unreadable((await here.case(id)).findings) == set()


@pytest.mark.threat("A16", "F4")
async def test_a_lost_read_permission_is_a_finding_and_not_silence(tmp_path: Path) -> None:
    """Of a child only what looks at it is unreadable; the rest is mended as ever."""
    async with world(tmp_path) as here:
        id = stand(here, laid(AI, control("cognitive-local-auth-disabled").drift))
        here.sim.faults.revoke("Microsoft.CognitiveServices/accounts/raiPolicies/read")
        await looked(here, id)
        await here.forward(30)
        looking = {one.id for one in CONTROLS if one.on == AI and "+raiPolicies" in one.also_reads}
        assert unreadable((await here.case(id)).findings) == looking
        assert get(here.show(id), parse("properties.disableLocalAuth")) is True


@pytest.mark.threat("R43")
@pytest.mark.parametrize("code", ["InvalidApiVersionParameter", "NoRegisteredProviderFound"])
async def test_a_retired_version_makes_one_type_unreadable_and_no_other(code: str, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        vault, account = stand(here, laid(VAULT)), stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.answer("GET Microsoft.KeyVault/vaults", 400, code)
        for id in (vault, account):
            await here.guardrail.store.send(Look(id, "person"))
        await here.settle()
        case = await here.case(vault)
        assert unreadable(case.findings) == {one.id for one in CONTROLS if one.on in ("*", VAULT)}
        assert case.missing == () and "resource.gone" not in await here.events_of(vault)
        assert is_mended(here, account)


@pytest.mark.threat("R11")
@pytest.mark.parametrize(("header", "waits"), [("40", 40), ("7200", 900), ("-1", 15), ("soon", 15), (None, 15)])
async def test_nothing_is_asked_before_its_time(header: str | None, waits: int, tmp_path: Path) -> None:
    """429 to reads, with every kind of Retry-After; afterwards all is done."""
    async with world(tmp_path) as here:
        here.guardrail.engine.arm._make_budget = budget(here)
        here.sim.clock = lambda: here.clock().timestamp()
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        headers = {} if header is None else {"Retry-After": header}
        here.sim.faults.answer("GET /subscriptions*", 429, "SubscriptionRequestsThrottled", headers=headers, times=2)
        await looked(here, id)
        await here.forward(3 * waits + 60, step=5)
        refused = [line.at for line in here.reads if line.status == 429]
        after = [line.at for line in here.reads if line.at > refused[0]]
        assert min(after) - refused[0] >= waits
        assert is_mended(here, id)


@pytest.mark.threat("R12")
@pytest.mark.parametrize("mode", ["fail", "expired", "foreign_tenant", "claims_challenge"])
async def test_without_a_good_token_nothing_is_written_and_later_all_is_done(mode: str, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.token(mode)
        began = time.monotonic()
        await looked(here, id)
        await here.forward(120, step=30)
        assert time.monotonic() - began < 5, "no invocation sleeps"
        assert all(line.status == 401 for line in here.sim.log if "/msi/" not in line.path)
        assert not is_mended(here, id)
        here.sim.faults.clear()
        await here.forward(120, step=30)
        assert is_mended(here, id) and len(here.ours) == 1


@pytest.mark.threat("R33", "A15")
@pytest.mark.parametrize("how", [{}, {"omit": ("stmltrain",)}, {"lag_s": 1e9}, {"bad_skip_token": True}], ids=str)
async def test_the_sweep_finds_what_no_event_told(how: dict[str, Any], tmp_path: Path) -> None:
    """Also where Resource Graph leaves a known one out; a finding is made by a GET alone."""
    async with world(tmp_path) as here:
        ids = [stand(here, laid(STORAGE)), stand(here, laid(VAULT)), stand(here, laid(AI))]
        for id in ids:
            await looked(here, id)
        stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.graph(**how)
        here.sim.log.clear()
        await here.guardrail.sweep()
        await here.settle()
        assert is_mended(here, ids[0])
        assert {line.path.lower() for line in here.reads} >= {id.lower() for id in ids}


@pytest.mark.threat("R33")
async def test_what_only_resource_graph_shows_is_no_finding(tmp_path: Path) -> None:
    """A row of something that is long gone."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.graph(lag_s=1e9)
        here.sim.faults.delete(id, quiet=True)
        await here.guardrail.sweep()
        await here.forward(180, step=30)
        assert (await here.case(id)).findings == frozenset() and here.ours == []


@pytest.mark.threat("R33", "I4")
async def test_a_sweep_that_dies_loses_no_page(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        ids = [stand(here, laid(type)) for type in (STORAGE, VAULT, AI, NSG)]
        sent = list[ResourceId]()
        plain = here.guardrail.engine.store.send

        async def dies(look: Look, delay_s: float = 0) -> None:
            if len(sent) == 2:
                raise RuntimeError("killed")
            sent.append(look.resource)
            await plain(look, delay_s)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(here.guardrail.engine.store, "send", dies)
            with pytest.raises(RuntimeError):
                await here.guardrail.sweep()
        await here.guardrail.sweep()
        await here.settle()
        for id in ids:
            assert [line for line in here.reads if line.path == id]


@pytest.mark.threat("A8")
@pytest.mark.parametrize("tail", ["", "/blobServices/default", "/nobody/knows/this/type", "/providers/Contoso.Other/things/x"])
@pytest.mark.parametrize("verb", ["write", "delete", "listKeys/action", "frobnicate/action"])
async def test_whatever_happens_below_a_guarded_resource_has_it_read(tail: str, verb: str, tmp_path: Path) -> None:
    """Children, extensions and operations that no control names, in whatever version they were written."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        await looked(here, id)
        stand(here, laid(STORAGE, NOT_HTTPS))
        name = f"Contoso.Other/things/{verb}" if "providers" in tail else f"{STORAGE}/{verb}"
        await here.guardrail.intake(json.dumps(event(id + tail, name)))
        await here.forward(10)
        assert is_mended(here, id)


@pytest.mark.threat("B6")
@pytest.mark.parametrize("tail", [
    "/blobServices/..", "/blobServices/%2e%2e", "/blobServices/a%2fb", "/blobServices/a?x=1", "/blobServices/a#b",
    "/blobServices/a\\b", "/blobServices/default\n", "/blobServices/" + "x" * 300, "/blobServices/\u202edefault", "/.."])
async def test_a_bad_tail_hides_no_drift_above_it(tail: str, tmp_path: Path) -> None:
    """Only the deepest sound ancestor is read, and its drift is found; the tail itself gets no request."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        await looked(here, id)
        stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.log.clear()
        await here.guardrail.intake(json.dumps(event(id + tail, f"{STORAGE}/blobServices/write")))
        await here.forward(10)
        assert is_mended(here, id)
        mounted = f"{id}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings".lower()
        assert {line.path.lower() for line in here.reads} <= {id.lower(), mounted}


@pytest.mark.threat("B6", "E8")
@pytest.mark.parametrize("kind", ["unknown", "null", "case", "type", "surrogate", "big", "duplicate_key"])
async def test_an_odd_document_raises_nothing_and_hides_nothing(kind: str, tmp_path: Path) -> None:
    """S17: it is read, or unreadable; another drift on it is found as soon as it can be."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, NOT_HTTPS))
        here.sim.faults.mutate(id, kind, size_mb=5)
        await looked(here, id)
        await here.forward(30)
        case = await here.case(id)
        assert case.stuck == "" and case.seq
        if kind == "big":
            assert unreadable(case.findings) and here.ours == []
        else:
            assert is_mended(here, id)


async def test_a_first_look_reads_everything_and_a_clean_type_is_clean(tmp_path: Path) -> None:
    """The good document of every type: no finding, no write."""
    async with world(tmp_path) as here:
        for type in sorted({one.on for one in CONTROLS}):
            id = stand(here, recorded.good(type))
            await looked(here, id)
            assert (await here.case(id)).findings == frozenset(), type_of(type).name
        assert here.ours == []
