"""azure-mgmt-storage and azure-mgmt-network send our Request and nothing else, once, and give the answer raw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AioHttpTransport

import recorded
from guardrail.errors import GuardrailError
from guardrail.transport import Clients, mapped
from guardrail.values import Request
from remediators import network, storage
from simulator import Exchange, Simulator

pytestmark = pytest.mark.anyio

ACCOUNT, GROUP = recorded.good(storage.ACCOUNT).id, recorded.good(network.NSG).id
RULE = f"{GROUP}/securityRules"
DENIAL = {"access": "Deny", "direction": "Inbound", "priority": 150, "protocol": "*", "sourcePortRange": "*",
          "destinationPortRange": "*", "sourceAddressPrefix": "*", "destinationAddressPrefix": "*"}
HEADERS = {"x-ms-client-request-id": "5b1e0000-0000-4000-8000-000000000002"}
UNKNOWN = {"kept": [1, None, "é"]}

CLOSED = {"properties": {"publicNetworkAccess": "Disabled", "notYetKnown": UNKNOWN}}
PATCH = Request("PATCH", ACCOUNT, "2026-04-01", CLOSED)
PUT = Request("PUT", f"{RULE}/deny", "2025-09-01", {"properties": {**DENIAL, "notYetKnown": UNKNOWN}})
DELETE = Request("DELETE", f"{RULE}/allow-https", "2025-09-01")
SETTING = Request("PUT", f"{GROUP}/providers/Microsoft.Insights/diagnosticSettings/more", "2021-05-01-preview",
                  {"properties": {"workspaceId": "/subscriptions/x", "logs": [], "metrics": []}})
SENDS: dict[str, tuple[Any, Request, bool]] = {         # the send function, the request, whether the SDK carries it
    "a patched account": (storage.send, PATCH, True),
    "a new rule": (network.send, PUT, True),
    "a rule over another": (network.send, Request("PUT", f"{RULE}/allow-https", "2025-09-01", PUT.body), True),
    "a deleted rule": (network.send, DELETE, True),
    "a rule that is gone already": (network.send, Request("DELETE", f"{RULE}/none", "2025-09-01"), True),
    "an account that is read": (storage.send, Request("GET", ACCOUNT, "2026-04-01"), False),
    "a diagnostic setting": (network.send, SETTING, False),
    "a name that is encoded": (network.send, Request("PUT", f"{RULE}/deny%20all", "2025-09-01", PUT.body), False),
    "an id that the SDK would respell": (
        storage.send, Request("PATCH", ACCOUNT.replace("Groups", "groups", 1), "2026-04-01", CLOSED), False),
}


class Credential:
    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(self._token(), 4102444800)

    async def close(self) -> None:
        """Nothing to close."""


@dataclass
class Arm:
    sim: Simulator
    clients: Clients

    @property
    def seen(self) -> list[Exchange]:
        return self.sim.log


@pytest.fixture
async def arm(tmp_path: Path) -> AsyncIterator[Arm]:
    with Simulator(folder=tmp_path) as sim:
        for type in (*storage.TYPES, *network.TYPES):
            for id, version, body in recorded.resources(recorded.good(type.name), type):
                sim.seed(id, body, version)
        scope = "https://management.azure.com"
        credential = Credential(lambda: sim.identity.token("guardrail", scope, sim.clock()))
        clients = Clients(sim.url, f"{scope}/.default", credential, AioHttpTransport())
        yield Arm(sim, clients)
        await clients.close()


@pytest.mark.parametrize("case", SENDS)
async def test_the_request_arrives_as_it_was_planned(case: str, arm: Arm) -> None:
    send, request, by_sdk = SENDS[case]
    answer = await send(arm.clients, request, HEADERS)
    [one] = arm.seen
    assert (one.method, one.path, one.api_version) == (request.method, unquote(request.url), request.api_version)
    assert one.body == request.body
    assert one.headers["x-ms-client-request-id"] == HEADERS["x-ms-client-request-id"]
    assert answer.status == one.status
    assert not answer.body or answer.body == one.answer
    assert bool(arm.clients._sdk) is by_sdk


@pytest.mark.parametrize("case", ["a patched account", "a rule over another", "a deleted rule"])
async def test_an_etag_goes_with_the_request(case: str, arm: Arm) -> None:
    """The SDKs have no parameter for it here: it goes with the headers, and a wrong one changes nothing."""
    send, request, _ = SENDS[case]
    arm.sim.faults.answer(request.method, status=412, code="PreconditionFailed")
    with pytest.raises(AzureError):
        await send(arm.clients, request, {**HEADERS, "If-Match": '"etag"'})
    assert [one.headers.get("if-match") for one in arm.seen] == ['"etag"']


async def test_an_unknown_property_comes_to_stand_in_azure_and_back(arm: Arm) -> None:
    answer = await storage.send(arm.clients, PATCH, HEADERS)
    await network.send(arm.clients, PUT, HEADERS)
    kept = {"kept": [1, None, "é"]}
    assert answer.body["properties"]["notYetKnown"] == kept
    for id, version in ((ACCOUNT, "2026-04-01"), (f"{RULE}/deny", "2025-09-01")):
        document = arm.sim.document(id, version)
        assert document is not None
        assert document["properties"]["notYetKnown"] == kept


@pytest.mark.parametrize("case", ["a patched account", "a new rule", "a deleted rule"])
@pytest.mark.parametrize(("status", "code"), [
    (409, "AnotherOperationInProgress"), (409, "MissingSubscriptionRegistration"), (429, "429"), (307, "Moved"),
    (412, "PreconditionFailed"), (403, "ScopeLocked"), (503, "ServiceUnavailable")])
async def test_a_refusal_is_raised_at_once_and_nothing_is_sent_again(
    case: str, status: int, code: str, arm: Arm,
) -> None:
    """Hole 3: the SDK's own retries, redirects, registration and polling are off."""
    send, request, _ = SENDS[case]
    arm.sim.faults.answer(request.method, status=status, code=code, headers={"Retry-After": "0"})
    with pytest.raises(AzureError) as raised:
        await send(arm.clients, request, HEADERS)
    assert isinstance(mapped(raised.value, request.method), GuardrailError)
    assert len(arm.seen) == 1
