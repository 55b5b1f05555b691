"""The HTTP API: real tokens, the real engine, a small Azure. Who gets through, what that changes, what never leaves."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from console.api import CHANGES, READS, Api
from console.app import HEADERS, Console, build
from console.gate import BODY_BYTES
from guardrail import anchors, audit, home
from guardrail.authorize import ROLES, VERBS, Person
from guardrail.errors import StoreDown, Throttled
from guardrail.ids import ResourceId
from guardrail.stores import HOME
from guardrail.tokens import Verifier
from guardrail.values import Action, Look, Wish, digest
from simulator.identity import actor
from tests import test_ocsf
from tests.console.test_page import PAYLOADS, Answer, call, filled
from tests.flow.harness import event
from tests.flow.test_baselines import LOGS, NOTHING_DECLARED, VAULT
from tests.flow.test_intent import drift, drifts, starved
from tests.flow.test_loop import OPEN, STORAGE
from tests.flow.test_people import GROUP, POLICY, asked, unmoved
from tests.flow.world import DEV, PROD, World, world
from tests.test_tokens import AT, BAD, SETTINGS, WITHOUT, answer, signed

pytestmark = pytest.mark.anyio

OWN = "https://guardrail.example"
FREE = {"/health", "/style.css"}
PUBLIC = "storage-public-network-access"
ZERO = "0" * 64


def token(name: str, *roles: str, **claims: Any) -> str:
    held = {"roles": list(roles or ("Approver", "Operator")), "groups": [GROUP]}
    return signed(**{"oid": actor(name).oid, "sub": f"pairwise {name}", **held, **claims})


APPROVER, ONCALL, ENGINEER = token("approver"), token("oncall"), token("ml-engineer")
ADMIN, OTHER = token("approver", "Administrator"), token("oncall", "Administrator")
ROBOT = token("deploy-pipeline", "Administrator", idtyp="app", scp=WITHOUT, acct=WITHOUT)


class Site:
    """The world, and its API as the cloud would have it."""

    def __init__(self, here: World, reads_azure: bool) -> None:
        self.here = here
        engine = here.guardrail.engine
        verifier = Verifier(SETTINGS, here.clock, answer)

        async def identify(request: Request) -> Person:
            return await verifier.person(request.headers.get("authorization", ""))

        console = Console(engine.store, engine.ceiling, "test", identify, clock=engine.clock)
        self.app: Starlette = build(console, ("*",), Api(engine, identify, GROUP, reads_azure, OWN))

    async def get(self, path: str, as_: str = APPROVER, method: str = "GET") -> Answer:
        return await call(self.app, method, path, authorization=f"Bearer {as_}")

    async def post(self, path: str, body: Any, as_: str = APPROVER, **headers: str) -> tuple[int, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content_type": "application/json", "authorization": f"Bearer {as_}", **headers}
        found = await call(self.app, "POST", path, raw, **{name: one for name, one in sent.items() if one})
        assert {name: found.headers[name] for name in HEADERS} == HEADERS
        return found.status, json.loads(found.body)

    def dump(self) -> list[str]:
        store: Any = self.here.guardrail.store
        return list(store.inner._db.iterdump())

    async def kept(self) -> Any:
        """All rows without what the record of a refusal moves: it decides nothing, and is one in ten minutes."""
        store: Any = self.here.guardrail.store
        rows = [one for one in self.dump() if re.match(r'INSERT INTO "(looks|state|anchors)"', one) and "refused/" not in one]
        cases = [unmoved((await store.load(chain.resource))[0]) async for chain in store.chains() if chain.resource != HOME]
        return rows, cases


@asynccontextmanager
async def site(folder: Path, policy: str = POLICY, *, reads_azure: bool = True, **more: Any) -> AsyncIterator[Site]:
    async with world(folder, policy, **more) as here:
        yield Site(here, reads_azure)


def path_of(path: str) -> str:
    return path.replace("{id}", "act-000000000000").replace("{name}", "tonight")


def good_bodies(here: World, id: str) -> Mapping[str, Any]:
    until = (here.clock.now + timedelta(days=1)).isoformat()
    return {
        "/actions/{id}/approve": {"plan": ZERO}, "/actions/{id}/settle": {"as": "failed"}, "/quarantine": {"resource_id": id},
        "/looks": {"resource_id": id}, "/mode": {"mode": "report"}, "/mode/confirm": {"generation": 1},
        "/freezes": {"name": "tonight", "until": until}, "/baselines": {"resource_id": id, "part": "", "hash": ZERO},
        "/exemptions": {"control": PUBLIC, "scope": id, "owner": "o", "until": until}}


# who gets through

@pytest.mark.threat("D3")
async def test_each_route_takes_its_role_and_no_other(tmp_path: Path) -> None:
    """An empty body is refused only to those whose role let them come so far. Nothing changes."""
    async with site(tmp_path) as one:
        before = await one.kept()
        for path, verb, _, _ in CHANGES:
            for role in ("", *ROLES):
                status, told = await one.post(path_of(path), {}, token("oncall", role))
                code = told["error"]["code"]
                allowed = role and VERBS[verb] in ROLES[role]      # type: ignore[index]
                assert (status, code) == ((400, "body") if allowed else (403, "role")), (path, role)
        for path, _ in READS:
            for role in ("", *ROLES):
                status = (await one.get(path, token("oncall", role))).status
                assert status == (403 if not role else 404 if "{" in path else 200), (path, role)
        assert await one.kept() == before


@pytest.mark.threat("D3", "D5")
async def test_a_route_that_lets_nobody_in_by_accident(tmp_path: Path) -> None:
    """Every route there is, but the two that tell nothing, wants a token; a platform's header is none."""
    async with site(tmp_path) as one:
        before = one.dump()
        paths = [(route.path, route.methods or ()) for route in one.app.routes if isinstance(route, Route)]
        assert {path for path, _ in paths} >= FREE | {path for path, *_ in (*READS, *CHANGES)}
        for path, methods in paths:
            for method in methods:
                for header in ({}, {"x_ms_client_principal": "eyJ", "x_ms_client_principal_id": actor("approver").oid,
                                    "x_ms_token_aad_access_token": APPROVER}):
                    found = await call(one.app, method, path_of(path), b"{}", content_type="application/json", **header)
                    assert found.status == (200 if path in FREE else 401), path
                    assert path in FREE or found.headers["www-authenticate"] == "Bearer"
        assert one.dump() == before


@pytest.mark.threat("D5")
async def test_no_bad_token_leaves_a_row(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        _, action = await asked(one.here)
        before = one.dump()
        for name, make in BAD.items():
            status, _ = await one.post(f"/actions/{action.id}/approve", {"plan": action.plan.hash, "reason": "yes"}, make())
            assert status == 401, name
        assert one.dump() == before


@pytest.mark.threat("D4")
async def test_an_application_decides_nothing(tmp_path: Path) -> None:
    """With every role, and a body that a person's request would be taken with."""
    async with site(tmp_path) as one:
        id, action = await asked(one.here)
        before, bodies = await one.kept(), good_bodies(one.here, id)
        for path, *_ in CHANGES:
            body = {"reason": "automated", **bodies.get(path, {})}
            status, told = await one.post(path.replace("{id}", action.id).replace("{name}", "x"), body, ROBOT)
            assert (status, told["error"]["code"]) == (403, "app-only"), path
        assert (await one.get("/approvals", ROBOT)).status == 200
        assert await one.kept() == before


@pytest.mark.threat("D1", "D2", "D3", "D13")
async def test_each_refusal_has_its_status_and_cure(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        _, action = await asked(one.here)
        path, good = f"/actions/{action.id}/approve", {"plan": action.plan.hash, "reason": "yes"}
        before = await one.kept()
        for who, body, status, code in (
                (ENGINEER, good, 403, "four-eyes"), (token("x", acct=1), good, 403, "guest"),
                (token("x", iat=AT - 3700), good, 401, "token-age"), (token("x", hasgroups=True), good, 403, "groups"),
                (signed(oid="x", roles=["Approver"], groups=[]), good, 403, "scope"),
                (APPROVER, {**good, "plan": ZERO}, 409, "stale")):
            found, told = await one.post(path, body, who)
            assert (found, told["error"]["code"]) == (status, code)
            assert told["error"]["message"] and told["error"]["cure"]
        status, told = await one.post("/actions/act-nothing/approve", good)
        assert (status, told["error"]["code"]) == (404, "unknown")
        assert await one.kept() == before
        one.here.clock.forward(8 * 3600)
        late = token("approver", iat=AT + 8 * 3600, nbf=AT, exp=AT + 9 * 3600)
        status, told = await one.post(path, good, late)
        assert (status, told["error"]["code"]) == (409, "expired")


@pytest.mark.threat("D1", "D4")
async def test_a_refusal_is_on_record_where_it_belongs(tmp_path: Path) -> None:
    """Whose role stops at the gate stands in the installation's chain, with what the path named; the rest in the resource's."""
    async with site(tmp_path) as one:
        id, action = await asked(one.here)
        path, good = f"/actions/{action.id}/approve", {"plan": action.plan.hash, "reason": "yes"}
        for who in (ENGINEER, ENGINEER, token("x", "Reader"), token("x", "Reader"), ROBOT):
            assert (await one.post(path, good, who))[0] == 403
        found = [*await one.here.records(id), *await one.here.records(HOME)]
        told = [(row["actor"], *(row["detail"][name] for name in ("what", "code", "action_id")))
                for row in found if row["event"] == "person.refused"]
        assert told == [
            (actor("ml-engineer").oid, "approve", "four-eyes", action.id), (actor("x").oid, "approve", "role", action.id),
            (actor("deploy-pipeline").oid, "approve", "app-only", action.id)]


@pytest.mark.threat("D10")
async def test_an_intent_is_offered_and_approved(tmp_path: Path) -> None:
    """By the id and the hash as they were seen, though both are another ask's by now."""
    async with site(tmp_path) as one:
        id, seen = await starved(one.here)
        [row] = json.loads((await one.get("/approvals")).body)
        assert (row["id"], row["intent"]) == (seen.id, seen.intent)
        await drifts(one.here, id, "TLS1_0")
        path = f"/actions/{seen.id}/approve"
        fresh = token("approver", iat=AT + 300, nbf=AT, exp=AT + 3600)
        assert (await one.post(path, {"plan": seen.intent, "reason": "enough"}, fresh))[0] == 409
        status, told = await one.post(path, {"plan": seen.intent, "intent": True, "reason": "enough"}, fresh)
        assert (status, told["state"], told["id"] != seen.id) == (200, "approved", True)
        assert told["approvals"][0]["intent"] == seen.intent
        drift(one.here, id, minimumTlsVersion="TLS1_1")
        await one.here.settle()
        assert one.here.show(id)["properties"]["minimumTlsVersion"] == "TLS1_2"


async def test_a_no_asks_for_an_exemption(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        id, action = await asked(one.here)
        path, until = f"/actions/{action.id}/reject", (one.here.clock.now + timedelta(days=7)).isoformat()
        for body in ({"then": "exempt"}, {"until": until}, {"then": "open", "until": until}, {"then": "later"}):
            assert (await one.post(path, {"reason": "an old client", **body}))[0] == 400
        status, told = await one.post(path, {"reason": "an old client", "then": "exempt", "until": until})
        assert (status, told["state"]) == (200, "rejected")
        rows = json.loads((await one.get("/exemptions")).body)
        assert {row["control"] for row in rows} == set(action.plan.controls)
        assert {(row["state"], row["scope"], row["asked_by"]) for row in rows} == {("asked", id, actor("approver").oid)}
        confirmed = await one.post(f"/exemptions/{rows[0]['id']}/confirm", {"reason": "agreed"}, ONCALL)
        assert (confirmed[0], confirmed[1]["state"]) == (200, "in force")


# what others' pages, prefetchers and odd clients send

@pytest.mark.threat("D6")
@pytest.mark.parametrize(("headers", "status"), [
    ({"content_type": "text/plain"}, 400), ({"content_type": "application/x-www-form-urlencoded"}, 400),
    ({"content_type": "multipart/form-data; boundary=x"}, 400), ({"content_type": ""}, 400),
    ({"content_type": "application/jsonp"}, 400),
    ({"origin": "https://evil.example"}, 403), ({"origin": "null"}, 403), ({"origin": OWN + ".evil.example"}, 403),
    ({"origin": "http://guardrail.example"}, 403), ({"origin": ""}, 403),
    ({"authorization": "", "cookie": f"__Host-token={APPROVER}"}, 401),
    ({"authorization": "", "x_guardrail_as": "approver"}, 401), ({"authorization": "Bearer approver"}, 401),
    ({"origin": OWN}, 200), ({"content_type": "application/json; charset=utf-8"}, 200)])
async def test_what_another_site_can_send_is_refused(headers: dict[str, str], status: int, tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        _, action = await asked(one.here)
        before = one.dump()
        body = json.dumps({"plan": action.plan.hash, "reason": "yes"}).encode()
        sent = {"content_type": "application/json", "authorization": f"Bearer {APPROVER}", **headers}
        found = await call(one.app, "POST", f"/actions/{action.id}/approve", body,
                           **{name: text for name, text in sent.items() if text or name == "origin"})
        assert found.status == status
        assert (one.dump() == before) == (status != 200)
        assert "access-control-allow-origin" not in found.headers


@pytest.mark.threat("D8")
async def test_reading_changes_no_byte(tmp_path: Path) -> None:
    """An approver's mail client fetches every address there is, twice, by each method that is not POST."""
    async with site(tmp_path) as one:
        id, action = await asked(one.here)
        before, sent = one.dump(), len(one.here.sim.log)
        paths = [path for path, *_ in (*READS, *CHANGES)] + [f"{path}.json" for path, _ in READS]
        paths += ["/", "/index.json", f"/audit?resource_id={id}", "/actions/{id}?approve=1",
                  f"/actions/{{id}}/approve?plan={action.plan.hash}"]
        for path in [one.replace("{id}", action.id).replace("{name}", "x") for one in (*paths, *paths)]:
            for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
                assert (await one.get(path, method=method)).status in (200, 404, 405)
        assert one.dump() == before
        assert len(one.here.sim.log) == sent


@pytest.mark.parametrize(("raw", "word"), [
    (b"", "JSON"), (b"{", "JSON"), (b"[]", "object"), (b'"x"', "object"), (b"{}", "reason"), (b'{"reason": ""}', "reason"),
    (b'{"reason": "  "}', "reason"), (b'{"reason": 7}', "reason"),
    (b'{"reason": "x", "mode": "policy", "mode": "report"}', "twice"),
    (b'{"reason": "x", "mode": "policy", "force": true}', "force"), (b'{"reason": "x", "mode": NaN}', "NaN"),
    (b'{"reason": "x", "mode": "enforce"}', "mode"), (b"[" * 1000, ""), (b'{"reason": "' + b"x" * BODY_BYTES + b'"}', "64 KiB"),
    (b"\xff\xfe", ""), (b'{"reason": "x", "mode": 1e999}', "")])
async def test_a_body_of_another_shape_changes_nothing(raw: bytes, word: str, tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        before = one.dump()
        status, told = await one.post("/mode", raw, ADMIN)
        assert (status, told["error"]["code"]) == (400, "body")
        assert word in told["error"]["message"]
        assert one.dump() == before


@pytest.mark.threat("B6", "B7")
@pytest.mark.parametrize("id", [
    "", "x", "/", "/subscriptions/x", f"/subscriptions/{DEV}/../x", "/subscriptions/" + "0" * 3000,
    f"/subscriptions/{DEV}/resourceGroups/a/providers/Microsoft.Foo/bars/x",
    f"/subscriptions/{DEV[:-2]}ff/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/x"])
async def test_an_id_that_is_none_or_not_ours_is_not_looked_at(id: str, tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        before, sent = one.dump(), len(one.here.sim.log)
        for path in ("/quarantine", "/looks"):
            assert (await one.post(path, {"resource_id": id, "reason": "x"}, OTHER))[0] in (400, 404)
        assert (one.dump(), len(one.here.sim.log)) == (before, sent)


# deciding

async def test_what_waits_is_listed_and_the_yes_acts(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        id, action = await asked(one.here)
        [row] = json.loads((await one.get("/approvals.json", token("x", "Reader"))).body)
        assert (row["id"], row["resource_id"], row["state"], row["plan_hash"]) == (action.id, id, "proposed", action.plan.hash)
        assert row["caused_by"][0]["object_id"] == actor("ml-engineer").oid
        assert {edit["path"]: edit["after"] for edit in row["plan"]["edits"]}["properties.publicNetworkAccess"] == "Disabled"
        yes = {"plan": row["plan_hash"], "reason": "matches policy"}
        status, told = await one.post(f"/actions/{action.id[:9]}/approve", yes)
        assert (status, told["state"], told["approvals"][0]["by"]) == (200, "approved", actor("approver").oid)
        await one.here.settle()
        assert one.here.show(id)["properties"]["publicNetworkAccess"] == "Disabled"
        shown = json.loads((await one.get(f"/actions/{action.id}.json")).body)
        assert shown["state"] == "verified"
        approved = next(record for record in shown["records"] if record["event"] == "action.approved")
        assert (approved["actor"], approved["detail"]["reason"]) == (actor("approver").oid, "matches policy")
        assert json.loads((await one.get("/approvals")).body) == []
        assert [row["id"] for row in json.loads((await one.get("/actions")).body)] == [action.id]


async def test_what_is_wrong_good_and_known_is_told(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        id, action = await asked(one.here)

        async def told(path: str, as_: str = APPROVER) -> Any:
            return json.loads((await one.get(path, as_)).body)

        [row] = [row for row in await told("/findings") if row["control"] == PUBLIC]
        assert (row["resource_id"], row["observed"], row["action_id"]) == (id, "Enabled", action.id)
        assert {row["resource_id"] for row in await told("/resources")} == {
            chain.resource async for chain in one.here.guardrail.store.chains()}
        good = (await one.here.case(id)).good
        assert {row["part"]: row["hash"] for row in await told(f"/baselines?resource_id={id}")} == {
            part: digest(value) for part, value in good.items()}
        every = await told("/baselines")
        assert [row for row in every if row["resource_id"] == id] == await told(f"/baselines?resource_id={id}")
        assert (await one.get("/baselines?resource_id=x")).status == 400
        for who, mine in ((APPROVER, [action.id]), (ENGINEER, []), (token("approver", "Operator"), []), (ROBOT, [])):
            assert [row["id"] for row in await told("/approvals?mine=true", who)] == mine
        modes = await told("/modes")
        assert (modes["decided"], modes["probed"]) == (modes["generation"], False)
        await one.post("/mode", {"mode": "report", "reason": "x"}, ONCALL)
        assert (await told("/modes"))["decided"] == modes["generation"]
        one.here.write("PATCH", one.here.stands(STORAGE, subscription=DEV), OPEN)
        await one.here.settle()
        assert (await told("/modes"))["decided"] == modes["generation"] + 1
        assert (await one.get("/audit/export?format=ocsf&class=2001")).status == 400


async def test_a_no_leaves_the_drift(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        _, action = await asked(one.here)
        status, told = await one.post(f"/actions/{action.id}/reject", {"reason": "wanted until Friday"})
        assert (status, told["state"], told["why"]) == (200, "rejected", "wanted until Friday")
        await one.here.settle()
        assert one.here.ours == []
        assert (await one.post(f"/actions/{action.id}/approve", {"plan": action.plan.hash, "reason": "yes"}))[0] == 409


@pytest.mark.threat("D9")
async def test_of_fifty_at_once_one_decides(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        id, action = await asked(one.here)
        path, yes = f"/actions/{action.id}", {"reason": "race", "plan": action.plan.hash}
        calls = [one.post(f"{path}/approve", yes, token(f"p{at}")) if at % 2 else
                 one.post(f"{path}/reject", {"reason": "race"}, token(f"p{at}")) for at in range(50)]
        statuses = sorted(status for status, _ in await asyncio.gather(*calls))
        assert statuses == [200] + [409] * 49
        events = await one.here.events_of(id)
        assert events.count("action.approved") + events.count("action.rejected") == 1


async def release(one: Site) -> tuple[ResourceId, Action]:
    """A fix that was approved and verified in production."""
    id, action = await asked(one.here)
    assert (await one.post(f"/actions/{action.id}/approve", {"plan": action.plan.hash, "reason": "yes"}))[0] == 200
    await one.here.settle()
    return id, action


@pytest.mark.threat("D14")
@pytest.mark.parametrize("verb", ["rollback", "release"])
async def test_an_undo_asks_a_second_person(verb: str, tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        id, action = await release(one)
        status, told = await one.post(f"/actions/{action.id}/{verb}", {"reason": "the demo"}, ONCALL)
        assert (status, told["state"], told["kind"], told["asked_by"]) == (200, "proposed", "undo", actor("oncall").oid)
        one.here.clock.forward(60)
        await one.here.settle()
        yes = {"plan": told["plan_hash"], "reason": "fine"}
        assert (await one.post(f"/actions/{told['id']}/approve", yes, ONCALL))[0] == 403
        assert (await one.post(f"/actions/{told['id']}/approve", yes))[0] == 200
        await one.here.settle()
        assert one.here.show(id)["properties"]["publicNetworkAccess"] == "Enabled"


async def test_the_front_reads_nothing_of_azure(tmp_path: Path) -> None:
    """What needs a look is left to hands as a row; what hands make of it is told by the action."""
    async with site(tmp_path, reads_azure=False) as one:
        id, action = await release(one)
        sent = len(one.here.sim.log)
        for path, body in ((f"/actions/{action.id}/rollback", {}), ("/quarantine", {"resource_id": id}),
                           ("/looks", {"resource_id": id}), ("/sweep", {})):
            status, told = await one.post(path, {"reason": "why", **body}, ONCALL)
            assert (status, told["resource_id"] in (id, HOME)) == (200, True)
        assert len(one.here.sim.log) == sent
        wanted = [one.what for one in (await one.here.case(id)).wishes]
        assert wanted == ["undo", "quarantine"]
        assert [type(wish) for wish in (await one.here.case(HOME)).wishes] == [Wish]
        one.here.clock.forward(10)
        await one.here.settle()
        assert (await one.here.case(id)).wishes == ()
        [row] = json.loads((await one.get("/approvals")).body)
        assert row["asked_by"] == actor("oncall").oid


async def test_a_quarantine_where_nothing_is_production(tmp_path: Path) -> None:
    async with site(tmp_path, switch="report") as one:
        id = one.here.stands(STORAGE, subscription=DEV)
        one.here.write("PATCH", id, OPEN)
        await one.here.settle()
        await one.here.rules(switch="policy")
        status, told = await one.post("/quarantine", {"resource_id": id, "reason": "leaked"}, ONCALL)
        assert (status, told["state"], told["kind"]) == (200, "approved", "isolate")
        await one.here.settle()
        assert one.here.show(id)["properties"]["networkAcls"]["defaultAction"] == "Deny"


async def test_retry_and_settle_are_for_failed_and_unknown_ones(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        id, action = await asked(one.here)
        for path, body in (("retry", {}), ("settle", {"as": "verified"})):
            status, told = await one.post(f"/actions/{action.id}/{path}", {"reason": "x", **body}, ONCALL)
            assert (status, told["error"]["code"]) == (409, "state")
        one.here.sim.faults.answer(f"PATCH {id}", 409, "ScopeLocked", times=1)
        await one.post(f"/actions/{action.id}/approve", {"plan": action.plan.hash, "reason": "yes"})
        await one.here.settle()
        acting = (await one.here.case(id)).acting
        assert acting is not None and acting.state == "failed"
        status, told = await one.post(f"/actions/{action.id}/retry", {"reason": "the lock is gone"}, ONCALL)
        assert (status, told["left_to_hands"]) == (200, "retry")
        await one.here.settle()
        assert one.here.show(id)["properties"]["publicNetworkAccess"] == "Disabled"
        assert any(record["event"] == "wish.made" and record["detail"]["reason"] == "the lock is gone"
                   for record in await one.here.records(id))


# what is in force

@pytest.mark.threat("D12")
async def test_one_stops_it_and_two_let_it_go_on(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        operator = token("oncall", "Operator")
        assert (await one.post("/mode", {"mode": "report", "reason": "migration"}, operator))[1]["mode"] == "report"
        assert (await one.post("/mode", {"mode": "policy", "reason": "over"}, operator))[0] == 403
        status, told = await one.post("/mode", {"mode": "policy", "reason": "over"}, ADMIN)
        assert (status, told["mode"], told["pending"][0]["what"]) == (200, "report", "policy")
        confirm = {"generation": told["generation"], "reason": "agreed"}
        assert (await one.post("/mode/confirm", confirm, ADMIN))[1]["error"]["code"] == "twice"
        assert (await one.post("/mode/confirm", {**confirm, "generation": 1}, OTHER))[1]["error"]["code"] == "stale"
        status, told = await one.post("/mode/confirm", confirm, OTHER)
        assert (status, told["mode"], told["pending"]) == (200, "policy", [])
        assert (await one.post("/mode/confirm", confirm, OTHER))[0] == 404
        records = json.loads((await one.get("/audit")).body)["records"]
        assert [record["detail"].get("reason") for record in records if record["event"] == "mode.switched"][-1] == "agreed"


@pytest.mark.threat("D12")
async def test_a_scope_is_stopped_by_one_and_let_go_by_two(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        operator, scope = token("oncall", "Operator"), f"/subscriptions/{PROD}"
        said = {"scope": f"{scope}/resourceGroups/RG", "reason": "only there"}
        status, told = await one.post("/mode", {"mode": "report", **said}, operator)
        below = {"scope": f"{scope}/resourcegroups/rg", "mode": "report"}
        assert (status, told["mode"], told["scopes"]) == (200, "policy", [below])
        assert f"report below {below['scope']}" in (await one.get("/")).text
        assert (await one.post("/mode", {"mode": "policy", **said}, operator))[0] == 403
        status, told = await one.post("/mode", {"mode": "policy", **said}, ADMIN)
        assert (status, told["scopes"], len(told["pending"])) == (200, [below], 1)
        confirm = {"generation": told["generation"], **said}
        assert (await one.post("/mode/confirm", {**confirm, "scope": ""}, OTHER))[0] == 404
        status, told = await one.post("/mode/confirm", confirm, OTHER)
        assert (status, told["scopes"], told["pending"]) == (200, [], [])
        assert (await one.post("/mode", {"mode": "report", "scope": "rg", "reason": "x"}, operator))[0] == 400


async def test_a_freeze_and_its_end(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        until = (one.here.clock.now + timedelta(hours=8)).isoformat()
        status, told = await one.post("/freezes", {"name": "year end", "until": until, "reason": "x"}, ONCALL)
        assert (status, [freeze["name"] for freeze in told["freezes"]]) == (200, ["year end"])
        now = one.here.clock.now.isoformat()
        for wrong in ({"name": "a/b"}, {"until": now}, {"until": "2026-12-01T00:00:00"}, {"scope": "x"}):
            assert (await one.post("/freezes", {"name": "x", "until": until, "reason": "x", **wrong}, ONCALL))[0] == 400, wrong
        assert (await one.post("/freezes/nothing/end", {"reason": "x"}, ADMIN))[0] == 404
        assert len((await one.post("/freezes/year end/end", {"reason": "x"}, ADMIN))[1]["freezes"]) == 1
        assert (await one.post("/freezes/year end/end", {"reason": "x"}, OTHER))[1]["freezes"] == []


@pytest.mark.threat("A14")
async def test_an_exemption_from_asking_to_its_removal(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        id = one.here.stands(STORAGE)
        until = (one.here.clock.now + timedelta(days=7)).isoformat()
        wanted = {"control": PUBLIC, "scope": id, "owner": "data", "until": until, "reason": "open data set"}
        for change in ({"until": (one.here.clock.now + timedelta(days=91)).isoformat()}, {"control": "no-such"},
                       {"scope": f"/subscriptions/{DEV}"}, {"scope": "x"}, {"owner": ""}):
            assert (await one.post("/exemptions", {**wanted, **change}, ADMIN))[0] == 400, change
        status, row = await one.post("/exemptions", wanted, ADMIN)
        assert (status, row["state"], row["asked_by"]) == (200, "asked", actor("approver").oid)
        assert (await one.post(f"/exemptions/{row['id']}/confirm", {"reason": "me"}, ADMIN))[0] == 403
        assert (await one.post(f"/exemptions/{row['id'][:8]}/confirm", {"reason": "ok"}, ONCALL))[1]["state"] == "in force"
        assert [one["state"] for one in json.loads((await one.get("/exemptions")).body)] == ["in force"]
        assert (await one.post(f"/exemptions/{row['id']}/remove", {"reason": "over"}, ONCALL))[1]["state"] == "removed"
        assert json.loads((await one.get("/exemptions.json")).body) == []
        assert (await one.post(f"/exemptions/{row['id']}/remove", {"reason": "over"}, ONCALL))[0] == 404


@pytest.mark.threat("A11")
async def test_two_accept_a_baseline(tmp_path: Path) -> None:
    async with site(tmp_path, NOTHING_DECLARED) as one:
        id = one.here.stands(VAULT, subscription=PROD)
        await one.here.guardrail.store.send(Look(id, "sweep"))
        await one.here.settle()
        hash = digest((await one.here.case(id)).good[LOGS])
        body = {"resource_id": id, "part": LOGS, "hash": hash, "reason": "as designed"}
        assert (await one.post("/baselines", {**body, "hash": ZERO}))[0] == 409
        assert (await one.post("/baselines", body))[1]["state"] == "one accepted"
        assert (await one.post("/baselines", body, ONCALL))[1]["state"] == "accepted"


# what leaves

@pytest.mark.threat("E1")
@pytest.mark.parametrize("payload", PAYLOADS)
async def test_hostile_text_stays_text(payload: str, tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        await filled(one.here.guardrail.store, payload)     # type: ignore[arg-type]
        for path in ("/approvals", "/actions", "/actions/act-123456789abc", "/exemptions", "/modes", "/audit"):
            found = await one.get(path)
            assert (found.status, found.headers["content-type"]) == (200, "application/json")
            assert found.headers["x-content-type-options"] == "nosniff"
            json.loads(found.body)
        [row] = json.loads((await one.get("/approvals")).body)
        assert row["why"] == payload
        status, told = await one.post("/actions/act-123456789abc/reject", {"reason": payload})
        assert status in (200, 400, 403)
        assert [one for one in told.get("error", {}).get("message", "") if not one.isprintable()] == []


@pytest.mark.threat("C7")
async def test_no_secret_leaves_through_the_api(tmp_path: Path) -> None:
    canary = "q7J3canaryZm9vYmFyYmF6cXV4cXV1eA=="
    async with site(tmp_path) as one:
        store: Any = one.here.guardrail.store
        await filled(store, f"AccountKey={canary};")
        store.inner._db.execute("UPDATE cases SET body = replace(CAST(body AS TEXT), 'publicNetworkAccess', 'primaryKey')")
        for path in ("/approvals", "/actions", "/actions/act-123456789abc", "/modes", "/audit", "/exemptions"):
            assert canary not in (await one.get(path)).text, path


@pytest.mark.threat("C3")
async def test_the_records_are_verified_and_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What leaves is what `audit verify FILE` takes, and the same bytes that the store holds."""
    async with site(tmp_path) as one:
        id, _ = await asked(one.here)
        store: Any = one.here.guardrail.store
        await anchors.write(store, one.here.clock())
        told = json.loads((await one.get("/audit/verify")).body)
        assert (told["intact"], told["anchors"], told["broken"]) == (True, 1, [])
        assert told["newest_anchor"] == "2026-11-24T19:00:00Z"
        answer = await one.get("/audit/export")
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["content-disposition"] == 'attachment; filename="records.jsonl"'
        lines = answer.body.splitlines()
        assert lines == [line async for line in audit.export(store)]
        assert audit.verify(lines).ok
        later = (one.here.clock() + timedelta(hours=1)).isoformat().replace("+", "%2B")
        assert len((await one.get(f"/audit/export?since={later}")).body.splitlines()) < len(lines)
        events = [json.loads(line) for line in (await one.get("/audit/export?format=ocsf")).body.splitlines()]
        assert [fault for event in events for fault in test_ocsf.faults(event)] == []
        assert {event["unmapped"]["resource_id"] for event in events} == {id}
        assert (await one.get(f"/audit/export?format=ocsf&since={later}")).body == b""
        for wrong in ("since=soon", "since=2026-11-24", "format=csv"):
            assert (await one.get(f"/audit/export?{wrong}")).status == 400, wrong
        changed = "UPDATE records SET body = replace(CAST(body AS TEXT), 'Enabled', 'enabled') WHERE resource = ?"
        store.inner._db.execute(changed, (id,))
        told = json.loads((await one.get("/audit/verify")).body)
        assert (told["intact"], told["chains_intact"]) == (False, told["chains"] - 1)
        assert [place["resource_id"] for place in told["broken"]] == [id]
        assert not audit.verify((await one.get("/audit/export")).body.splitlines()).ok

        async def down(*_: Any) -> Any:
            raise StoreDown("store /secret/path: disk I/O error")

        records = store.records
        monkeypatch.setattr(type(store), "records", down)
        cut = await one.get("/audit/export")
        assert "the export is cut off" in str([str(place) for place in audit.verify(cut.body.splitlines()).broken])
        monkeypatch.setattr(type(store), "anchors", down)
        assert (await one.get("/audit/export")).status == 503
        monkeypatch.undo()
        assert await records(id)


async def test_what_did_not_answer_is_said_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(tmp_path) as one:
        id = one.here.stands(STORAGE)

        async def throttled(*_: Any, **__: Any) -> Any:
            raise Throttled("the read budget is used up", after_s=7)

        async def down(*_: Any) -> Any:
            raise StoreDown("store /secret/path: disk I/O error")

        monkeypatch.setattr(one.here.guardrail.engine.arm, "read", throttled)
        found = await call(one.app, "POST", "/quarantine", json.dumps({"resource_id": id, "reason": "x"}).encode(),
                           content_type="application/json", authorization=f"Bearer {ONCALL}")
        assert (found.status, found.headers["retry-after"]) == (429, "7")
        monkeypatch.setattr(one.here.guardrail.store, "rules", down)
        found = await one.get("/modes")
        assert (found.status, int(found.headers["retry-after"]) > 0, "/secret" in found.text) == (503, True, False)


@pytest.mark.threat("B9")
@pytest.mark.parametrize("who", ["nobody", "a robot", "an approver"])
async def test_no_address_of_ours_takes_an_event(who: str, tmp_path: Path) -> None:
    """Deployed, events come through the queue, or through the host's own trigger: a post delivers none, with any token."""
    as_ = {"nobody": "", "a robot": ROBOT, "an approver": APPROVER}[who]
    async with site(tmp_path) as one:
        id = one.here.stands(STORAGE)
        one.here.write("PATCH", id, OPEN)
        raw = json.dumps([event(id)]).encode()
        paths = ["/", "/api/events", "/runtime/webhooks/EventGrid", "/runtime/webhooks/EventGrid?functionName=x",
                 "/admin/functions/on_resource_change", *(path for path, _ in READS), *(path for path, *_ in CHANGES)]
        for path in paths:
            found = await call(one.app, "POST", path_of(path), raw, content_type="application/json",
                               **({"authorization": f"Bearer {as_}"} if as_ else {}))
            assert 400 <= found.status < 500, path
        assert [look async for look in one.here.guardrail.store.looks()] == []
        assert (await one.here.guardrail.store.load(id))[0].etag == ""


def test_every_route_of_a_change_names_a_verb() -> None:
    assert {verb for _, verb, _, _ in CHANGES} <= set(VERBS)


# the event path

PROBED = {"GUARDRAIL_PROBE": "on", "GUARDRAIL_GROUP": f"/subscriptions/{DEV}/resourceGroups/rg-guardrail"}


async def path_of_events(one: Site) -> Mapping[str, Any]:
    """As the API tells it; the page and its JSON say the same."""
    now = int(one.here.clock().timestamp())
    reader = token("oncall", "Reader", iat=now, nbf=now, exp=now + 3600)
    told, same, page, status = [await one.get(path, reader) for path in ("/event-path", "/event-path.json", "/", "/index.json")]
    assert (told.status, told.body) == (200, same.body)
    found: Mapping[str, Any] = json.loads(told.body)
    assert json.loads(status.body)["event_path"]["said"] == found["said"]
    assert f"Event path: <b>{found['said']}</b>" in page.text
    assert ("silence is not compliance" in page.text) == (found["state"] != "proven")
    return found


@pytest.mark.threat("A15")
async def test_the_event_path_is_unproven_then_proven_then_broken_then_unproven(tmp_path: Path) -> None:
    """A green word needs proof: none yet, a fresh one, none in time, and off."""
    async with site(tmp_path, settings=PROBED) as one:
        here = one.here
        here.sim.clock = lambda: here.clock().timestamp()
        here.sim.seed(PROBED["GUARDRAIL_GROUP"], {"location": "westeurope"})
        first = await path_of_events(one)
        assert (first["state"], first["probe"], first["events"]["last"]) == ("unproven", {"is_on": False, "history": []}, None)
        assert [row["subscription"] for row in first["events"]["subscriptions"]] == [DEV, PROD]
        here.write("PATCH", here.stands(STORAGE), {"tags": {"seen": "once"}})
        await here.guardrail.sweep()
        await here.forward(180)
        proven = await path_of_events(one)
        assert proven["said"] == "proven 2 min ago" and proven["hops"] == [] and "sweep" in proven
        assert [row["event"] for row in proven["probe"]["history"]] == ["probe.sent", "probe.received"]
        assert proven["probe"]["took_s"] == 0 and "signature" not in json.dumps(proven)
        last = {row["subscription"]: row.get("last") for row in proven["events"]["subscriptions"]}
        assert last[DEV] == proven["events"]["last"] == "2026-11-24T19:00:00Z" and last[PROD] is None
        here.sim.events.disturb(match="tags/write", drop=1)
        await here.forward(3600)
        broken = await path_of_events(one)
        assert (broken["said"], broken["hops"], broken["since"]) == ("broken: probe", ["probe"], proven["since"])
        assert [row["event"] for row in broken["probe"]["history"]][-1] in ("path.broken", "probe.sent")
        here.clock.forward(26 * 3600)
        assert (await path_of_events(one))["probe"]["history"] == []
        here.guardrail.settings = replace(here.guardrail.settings, probe=False)
        await here.guardrail.tend()
        assert (await path_of_events(one))["state"] == "unproven"


async def test_a_path_that_nobody_watches_any_more_is_not_green(tmp_path: Path) -> None:
    """Hands stand still: what was proven grows old by itself; a tag without an answer counts as lost."""
    async with site(tmp_path, settings=PROBED) as one:
        here = one.here
        here.sim.clock = lambda: here.clock().timestamp()
        here.sim.seed(PROBED["GUARDRAIL_GROUP"], {"location": "westeurope"})
        await here.forward(120)
        here.clock.forward(36 * 60)
        assert (await path_of_events(one))["state"] == "unproven"
        here.sim.events.disturb(match="tags/write", drop=1)
        await here.guardrail.tend()
        here.clock.forward(36 * 60)
        assert (await path_of_events(one))["said"] == "broken: probe"


@pytest.mark.threat("A15")
async def test_changes_that_no_event_told_break_the_path_too(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        engine = one.here.guardrail.engine
        await home.keep(engine, lambda case: (home.with_kept(case, events={"until": "", "broken": True}), []))
        await home.count(engine, "letters", 3)
        await home.count(engine, "letters", 0)
        await home.count(engine, "letters", 2)
        told = await path_of_events(one)
        assert (told["said"], told["dead_letters"]) == ("broken: events", {"taken": 5, "last": "2026-11-24T19:00:00+00:00"})
