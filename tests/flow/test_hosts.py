"""No token leaves for any host but the configured one. A second server stands by and counts what reaches it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from guardrail.ids import ResourceId
from guardrail.paths import get, parse, same
from guardrail.values import Look
from tests.flow.harness import (
    AI,
    COMPUTE,
    NSG,
    STORAGE,
    VAULT,
    control,
    event,
    laid,
    looked,
    stand,
    world,
)
from tests.flow.world import DEV, PROD, World, type_of

pytestmark = pytest.mark.anyio



class Stranger:
    """Another host: takes everything, and remembers it."""

    def __init__(self) -> None:
        seen = self.seen = list[tuple[str, str, str]]()

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                seen.append((self.command, self.path, self.headers.get("Authorization", "")))
                body = json.dumps({"value": [], "status": "Succeeded"}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self.answer
                raise AttributeError(name)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    stranger = Stranger()
    yield stranger
    stranger.server.shutdown()
    stranger.server.server_close()


def urls(here: World, stranger: Stranger) -> list[str]:
    """The stranger, plainly and in the spellings that look like our endpoint to a careless reader."""
    port = here.sim.url.rsplit(":", 1)[1]
    other = f"127.0.0.1:{stranger.port}"
    return [f"{stranger.url}/x", f"http://127.0.0.1:{port}@{other}/x", f"http://{other}\\@127.0.0.1:{port}/x",
            f"//{other}/x", f"http://localhost:{stranger.port}/x", f"http://{other}/x#@127.0.0.1:{port}",
            f"{here.sim.url}@{other}/", f"http:\\\\{other}/x"]


@pytest.mark.threat("E5", "I12")
async def test_a_foreign_next_link_is_not_followed(stranger: Stranger, tmp_path: Path) -> None:
    """The list is unreadable then, and what is found elsewhere on the resource is still mended."""
    async with world(tmp_path) as here:
        id = stand(here, laid(AI, control("cognitive-local-auth-disabled").drift))
        for url in urls(here, stranger):
            here.sim.faults.clear()
            here.sim.faults.answer(f"GET {id}/raiPolicies", 200, body={"value": [], "nextLink": url})
            stand(here, laid(AI, control("cognitive-local-auth-disabled").drift))
            await looked(here, id)
            assert ("openai-rai-policy-hate", "?") in (await here.case(id)).findings, url
            assert get(here.show(id), parse("properties.disableLocalAuth")) is True
        assert stranger.seen == []


@pytest.mark.threat("E5")
async def test_our_own_next_link_is_followed(tmp_path: Path) -> None:
    """Or the test before this one would prove nothing."""
    async with world(tmp_path) as here:
        id = stand(here, laid(AI))
        here.sim.faults.answer(f"GET {id}/raiPolicies", 200, times=1, body={
            "value": [], "nextLink": f"{here.sim.url}{id}/raiPolicies?api-version={type_of(AI).api_version}&page=2"})
        await looked(here, id)
        assert not [one for one in (await here.case(id)).findings if one[1] == "?"]
        assert [line for line in here.reads if line.query.get("page") == "2"]


@pytest.mark.threat("E5", "R8", "I12")
@pytest.mark.parametrize("kind", ["async", "location"])
@pytest.mark.parametrize(("type", "drift", "path", "value"), [
    (AI, "cognitive-local-auth-disabled", "properties.disableLocalAuth", True),
    (NSG, "nsg-inbound-internet-management-ports", "", None),
    (COMPUTE, "ml-compute-instance-ssh", "properties.properties.state", "Stopped"),
])
async def test_the_url_of_an_operation_is_never_asked(type: str, drift: str, path: str, value: Any, kind: Any,
                                                      stranger: Stranger, tmp_path: Path) -> None:
    """Through the SDK and without one: the resource itself is read until it is done."""
    async with world(tmp_path) as here:
        id = stand(here, laid(type, control(drift).drift))
        here.sim.faults.lro("", kind=kind, polls=2, url=f"{stranger.url}/operations/1")
        here.sim.log.clear()
        await looked(here, id)
        await here.forward(300)
        assert stranger.seen == []
        assert len(here.ours) == 1 and (await here.case(id)).acting is None
        if path:
            assert same(get(here.show(id), parse(path)), value)
        assert not [line for line in here.sim.log if "/operation" in line.path.lower()]


@pytest.mark.threat("E5", "I12")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("match", ["GET", "PATCH"])
async def test_a_redirect_is_not_followed(match: str, status: int, stranger: Stranger, tmp_path: Path) -> None:
    """A read that is sent elsewhere is unreadable, a write was not done: neither is ever taken for good."""
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, control("storage-https-only").drift))
        here.sim.faults.answer(f"{match} {id}", status, times=1, body={}, headers={"Location": f"{stranger.url}/x"})
        await looked(here, id)
        if match == "GET":
            assert {path for _, path in (await here.case(id)).findings} == {"?"}
            assert here.ours == []
            await looked(here, id)
        await here.forward(400, step=30)
        state = await here.case(id)
        assert get(here.show(id), parse("properties.supportsHttpsTrafficOnly")) is True or state.acting is not None
        assert stranger.seen == []


@pytest.mark.threat("E5", "I12")
@pytest.mark.parametrize("name", ["..", ".", "%2e%2e", "a/../b", "..%2f..", "a?api-version=2017-01-01", "a#b", "\\..\\x"])
async def test_a_hostile_child_name_leads_nowhere(name: str, tmp_path: Path) -> None:
    """ARM's answer names a rule so that its URL would be another one: nothing is sent there, and nothing for it."""
    async with world(tmp_path) as here:
        id = stand(here, laid(NSG, control("nsg-inbound-internet-management-ports").drift))
        body = here.show(id)
        for rule in body["properties"]["securityRules"]:
            if rule["name"] == "allow-ssh":
                rule["name"] = name
        here.sim.faults.answer(f"GET {id}", 200, body=body)
        here.sim.log.clear()
        await looked(here, id)
        await here.forward(120)
        assert here.ours == []
        assert "nsg-inbound-internet-management-ports" in {control for control, _ in (await here.case(id)).findings}
        asked = {line.path.lower() for line in here.sim.log if line.actor == "guardrail"}
        assert asked <= {id.lower(), f"{id.lower()}/providers/microsoft.insights/diagnosticsettings", "/msi/token"}


@pytest.mark.threat("E6", "I12")
@pytest.mark.parametrize("name", ["a&b=c", "it's", "a;b", "a+b", "a b", "caf\u00e9", "100$", "(x)", "a,b", "x=y"])
async def test_an_odd_name_is_spelled_out_and_changes_nothing_else(name: str, tmp_path: Path) -> None:
    """Method, api-version and path are those of a plain name, with the name in its place."""
    async with world(tmp_path, ceiling="report") as here:
        plain = stand(here, laid(VAULT))
        id = ResourceId(plain.rsplit("/", 1)[0] + "/" + name)
        here.sim.seed(id, {**here.show(plain), "id": id, "name": name})
        await looked(here, plain)
        usual = [(line.method, line.path.replace(plain, ""), line.query) for line in here.reads]
        here.sim.log.clear()
        await looked(here, id)
        assert [(line.method, line.path.replace(id, ""), line.query) for line in here.reads] == usual


@pytest.mark.threat("B7", "I12")
async def test_a_subscription_that_is_not_ours_is_never_asked_for(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE))
        foreign = id.replace(DEV, "99999999-9999-4999-8999-999999999999")
        here.sim.log.clear()
        for one in (event(foreign), event(f"{foreign}/blobServices/default"), event(foreign, f"{STORAGE}/delete")):
            await here.guardrail.intake(json.dumps(one))
        await here.guardrail.answer(ResourceId(foreign))
        await here.forward(3700, step=600)
        assert not [line for line in here.sim.log if "/msi/" not in line.path]
        assert (await here.case(ResourceId(foreign))).seq == 0
        assert PROD in here.guardrail.engine.subscriptions


@pytest.mark.threat("B5")
async def test_a_handshake_is_never_fetched(stranger: Stranger, tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.sim.log.clear()
        for kind in ("Microsoft.EventGrid.SubscriptionValidationEvent", "microsoft.eventgrid.subscriptionvalidationevent"):
            await here.guardrail.intake(json.dumps([{
                "id": "1", "topic": "x", "subject": "", "eventType": kind, "eventTime": "2026-11-24T19:00:00Z",
                "data": {"validationCode": "512d38b6", "validationUrl": f"{stranger.url}/validate"}}]))
        await here.settle()
        assert stranger.seen == [] and here.sim.log == []


@pytest.mark.threat("E10", "I15")
async def test_a_secret_in_an_error_answer_is_kept_nowhere(tmp_path: Path, capfd: Any, caplog: Any) -> None:
    """In body, address and header of what Azure answers, to reads and to writes: not in a row, a record or a line."""
    canary = "c4n4ryc4n4ryc4n4ryc4n4ryc4n4ry+/="
    message = (f"DefaultEndpointsProtocol=https;AccountName=x;AccountKey={canary};EndpointSuffix=core.windows.net "
               f"see https://x.blob.example/y?sv=1&sig={canary}&se=2 Authorization: Bearer {canary} "
               f'{{"primaryKey": "{canary}", "password": "{canary}"}}')
    async with world(tmp_path) as here:
        id = stand(here, laid(STORAGE, control("storage-https-only").drift))
        how: dict[str, Any] = {"message": message, "headers": {"x-ms-canary": canary, "Set-Cookie": canary}}
        for match, status, code in (("PATCH", 409, "Conflict"), ("PATCH", 400, "Bad"), ("PATCH", 403, "AuthorizationFailed"),
                                    ("GET", 400, "Bad"), ("GET", 503, "Down"), ("GET", 403, "AuthorizationFailed")):
            here.sim.faults.clear()
            stand(here, laid(STORAGE, control("storage-https-only").drift))
            here.sim.faults.answer(f"{match} {id}", status, code, times=2, **how)
            await looked(here, id)
            assert [line for line in here.sim.log if line.method == match and line.status == status]
            await here.forward(120)
            await here.guardrail.store.send(Look(id, "sweep"))
            await here.settle()
        kept = b"".join(path.read_bytes() for path in tmp_path.glob("guardrail.db*"))
        told = "".join(capfd.readouterr()) + caplog.text
        assert b"Azure answered 403 AuthorizationFailed" in kept and canary[:12].encode() not in kept
        assert canary[:12] not in told
