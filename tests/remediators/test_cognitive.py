"""What azure-mgmt-cognitiveservices puts on the wire: our Request, byte for byte, and the raw answer back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AioHttpTransport

import recorded
from guardrail import ids, plans
from guardrail.errors import GuardrailError, Unsafe
from guardrail.paths import ABSENT, Item, get, parse
from guardrail.proof import predict
from guardrail.transport import Clients, mapped
from guardrail.values import Edit, Request, to_json
from remediators import cognitive

pytestmark = pytest.mark.anyio

ACCOUNT = str(recorded.good(cognitive.ACCOUNT).id)
VERSION = "2026-07-01"
HEADERS = {"x-ms-client-request-id": "5b1e0000-0000-4000-8000-000000000001", "If-Match": '"etag"'}


@dataclass
class Seen:
    method: str
    path: str
    version: str
    body: bytes
    headers: dict[str, str]


class Credential:
    async def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("token", 4102444800)

    async def close(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def arm(status: int, answer: Any) -> AsyncIterator[tuple[Clients, list[Seen]]]:
    """A server that gives one answer to everything, and what it was asked."""
    seen = list[Seen]()

    async def take(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path, version = request.raw_path.split("?")[0], request.query["api-version"]
        seen.append(Seen(request.method, path, version, await request.read(), headers))
        return web.json_response(answer, status=status, headers={"x-ms-request-id": "req-1"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    clients = Clients(f"http://127.0.0.1:{port}", "https://scope/.default", Credential(), AioHttpTransport())
    try:
        yield clients, seen
    finally:
        await clients.close()
        await runner.cleanup()


BODY = {"properties": {"publicNetworkAccess": "Disabled", "notYetKnown": {"kept": [1, None, "é"]}}, "tags": None}

SDK = {
    "account": ("PATCH", ACCOUNT, 202),
    "account, answered at once": ("PATCH", ACCOUNT, 200),
    "deployment": ("PUT", f"{ACCOUNT}/deployments/chat-gpt", 201),
    "policy": ("PUT", f"{ACCOUNT}/raiPolicies/strict", 200),
    "capacity": ("PATCH", f"{ACCOUNT}/deployments/chat-gpt", 202),
    "Defender": ("PATCH", f"{ACCOUNT}/defenderForAISettings/Default", 200),
    "private endpoint": ("PUT", f"{ACCOUNT}/privateEndpointConnections/pe-aoai-chat", 200),
    "project": ("PATCH", f"{ACCOUNT}/projects/support", 202),
}
SENT = {
    **SDK,
    "setting, no SDK has it": ("PUT", f"{ACCOUNT}/providers/Microsoft.Insights/diagnosticSettings/logs", 200),
    "id in another case, the SDK would respell it": ("PATCH", ACCOUNT.replace("resourceGroups", "resourcegroups"), 202),
    "name the SDK would encode its own way": ("PUT", f"{ACCOUNT}/deployments/chat%20gpt", 200),
    "connection": ("PATCH", f"{ACCOUNT}/connections/search-docs", 200),
    "project's connection": ("PATCH", f"{ACCOUNT}/projects/support/connections/search-docs", 200),
    "policy of a subscription": ("PUT", str(recorded.good("Microsoft.CognitiveServices/raiPolicy").id), 200),
    "deletion": ("DELETE", f"{ACCOUNT}/raiPolicies/strict", 204),
}


@pytest.mark.parametrize("case", SENT)
async def test_the_request_arrives_as_it_was_planned_and_the_answer_unchanged(case: str) -> None:
    method, url, status = SENT[case]
    body = None if method == "DELETE" else BODY
    answer = {"id": url, "properties": {"provisioningState": "Accepted", "notYetKnown": {"kept": True}}, "new": 1}
    async with arm(status, answer) as (clients, seen):
        got = await cognitive.send(clients, Request(method, url, VERSION, body), HEADERS)
        by_sdk = bool(clients._sdk)
    assert by_sdk == (case in SDK)
    assert len(seen) == 1
    one = seen[0]
    assert (one.method, one.path, one.version) == (method, url, VERSION)
    assert one.body == (to_json(BODY) if body else b"")
    assert one.headers["x-ms-client-request-id"] == HEADERS["x-ms-client-request-id"]
    assert one.headers["if-match"] == HEADERS["If-Match"]
    assert not body or one.headers["content-type"] == "application/json"
    assert got.status == status
    assert got.request_id == "req-1"
    assert status == 204 or got.body == answer


@pytest.mark.parametrize("case", ["account", "deployment", "policy"])
@pytest.mark.parametrize(("status", "code"), [
    (409, "Conflict"), (429, "429"), (503, "ServiceUnavailable"), (412, "PreconditionFailed"),
    (403, "AuthorizationFailed")])
async def test_a_refusal_is_raised_at_once_and_nothing_is_sent_again(case: str, status: int, code: str) -> None:
    """Hole 3: the SDK's own retries, registration and polling are off."""
    method, url, _ = SENT[case]
    async with arm(status, {"error": {"code": code, "message": "no"}}) as (clients, seen):
        with pytest.raises(Exception) as raised:
            await cognitive.send(clients, Request(method, url, VERSION, BODY), HEADERS)
    assert isinstance(raised.value, AzureError)
    assert isinstance(mapped(raised.value, method), GuardrailError)
    assert len(seen) == 1


@pytest.mark.parametrize(("path", "after", "url", "names"), [
    ("+deployments[name='chat-gpt'].properties.raiPolicyName", "Microsoft.DefaultV2", "/deployments/chat-gpt",
     {"sku", "properties"}),
    ("+raiPolicies[name='strict'].properties.mode", "Blocking", "/raiPolicies/strict", {"properties"}),
])
async def test_a_put_carries_all_that_people_set_and_nothing_that_arm_writes(
    path: str, after: str, url: str, names: set[str],
) -> None:
    """A deployment's PUT always names its policy: left out, it may fall back to the default filter."""
    document = recorded.good(cognitive.ACCOUNT).document
    (type,) = cognitive.TYPES
    before = get(document.body, parse(path))
    (step,) = plans.steps(type, document, [Edit(path, before, after)])
    async with arm(200, {}) as (clients, seen):
        await cognitive.send(clients, step.request, HEADERS)
    sent = json.loads(seen[0].body)
    assert (seen[0].method, seen[0].path) == ("PUT", ids.url_path(document.id) + url)
    assert set(sent) == names
    now = get(document.body, parse(path)[:2])
    for name, value in now["properties"].items():
        if name in ("capabilities", "rateLimits", "currentCapacity", "provisioningState", "type"):
            assert name not in sent["properties"]
        elif name not in path:
            assert sent["properties"][name] == value
    assert get(sent, parse(path)[2:]) == after
    assert sent["properties"].get("raiPolicyName", ABSENT) is not ABSENT or "deployments" not in path


async def test_a_patch_says_the_change_and_the_whole_of_what_it_lies_in() -> None:
    document = recorded.good(cognitive.ACCOUNT).document
    (type,) = cognitive.TYPES
    edits = [Edit("properties.networkAcls.ipRules[value='203.0.113.0/28']", {"value": "203.0.113.0/28"}, ABSENT)]
    (step,) = plans.steps(type, document, edits)
    assert step.request.method == "PATCH"
    whole = {**document.get("properties.networkAcls"), "ipRules": []}
    assert step.request.body == {"properties": {"networkAcls": whole}}


@pytest.mark.threat("A9")
def test_isolation_closes_every_door_but_leaves_what_it_does_not_own() -> None:
    document = recorded.good(cognitive.ACCOUNT).document
    (type,) = cognitive.TYPES
    assert type.isolate is not None
    open_body = recorded.laid(document.body, {
        "properties.publicNetworkAccess": "Enabled", "properties.disableLocalAuth": ABSENT,
        "properties.networkAcls": {"defaultAction": "Allow", "bypass": "AzureServices",
                                   "ipRules": [{"value": "0.0.0.0/0"}],
                                   "virtualNetworkRules": [{"id": "/subscriptions/x"}]}})
    for body in (document.body, open_body, recorded.laid(open_body, {"properties.networkAcls": ABSENT})):
        now = recorded.Sample(document.id, VERSION, body).document
        edits, refused = plans.edits(type, list(type.isolate(now.node(), {})))
        (step,) = plans.steps(type, now, edits)
        assert refused == []
        assert step.request.method == "PATCH"
        assert set(step.request.body) == {"properties"}
        after = predict(now, [step])
        assert after.get("properties.publicNetworkAccess") == "Disabled"
        assert after.get("properties.disableLocalAuth") is True
        assert after.get("properties.networkAcls.defaultAction") == "Deny"
        assert after.get("properties.networkAcls.bypass") == "None"
        for rules in ("ipRules", "virtualNetworkRules"):
            assert not after.get(f"properties.networkAcls.{rules}")
        assert list(type.isolate(after.node(), {})) == []
        assert after.get("+raiPolicies") == document.get("+raiPolicies")


def test_an_account_without_a_subdomain_is_isolated_by_what_arm_would_take() -> None:
    document = recorded.good(cognitive.ACCOUNT).document
    body = recorded.laid(document.body, {
        "properties.customSubDomainName": ABSENT, "properties.networkAcls": ABSENT,
        "properties.publicNetworkAccess": "Enabled", "properties.disableLocalAuth": False})
    now = recorded.Sample(document.id, VERSION, body).document
    found = {drift.path: drift.wanted for drift in cognitive.cut_off(now.node(), {})}
    assert found == {"properties.publicNetworkAccess": "Disabled", "properties.disableLocalAuth": True}


@pytest.mark.parametrize(("edits", "method", "url", "body"), [
    ({"+connections[name='search-docs'].properties.isSharedToAll": (True, False)}, "PATCH", "/connections/search-docs",
     {"properties": {"authType": "AAD", "category": "CognitiveSearch", "isSharedToAll": False}}),
    ({"+connections[name='search-docs'].properties.target": ("https://a.example/", "https://b.example/"),
      "+connections[name='search-docs'].properties.metadata.ApiType": ("Azure", ABSENT)}, "PATCH",
     "/connections/search-docs",
     {"properties": {"authType": "AAD", "category": "CognitiveSearch", "target": "https://b.example/",
                     "metadata": {"ApiType": None}}}),
    ({"+connections[name='search-docs']": ({"name": "search-docs"}, ABSENT)}, "DELETE", "/connections/search-docs", None),
    ({"+deployments[name='chat-gpt'].sku.capacity": (10, 5)}, "PATCH", "/deployments/chat-gpt",
     {"sku": {"name": "Standard", "capacity": 5}}),
    ({"properties.privateEndpointConnections[name='pe-aoai-chat'].properties.privateLinkServiceConnectionState.status":
      ("Approved", "Rejected")}, "PUT", "/privateEndpointConnections/pe-aoai-chat",
     {"location": "eastus", "properties": {
         "privateLinkServiceConnectionState": {"status": "Rejected", "description": "", "actionsRequired": "None"},
         "groupIds": ["account"]}}),
])
def test_what_merges_in_no_common_way_says_the_edit_and_what_must_stand_beside_it(
    edits: dict[str, Any], method: str, url: str, body: Any,
) -> None:
    """No secret is sent, none is read: a connection's PATCH names its authType, and never its credentials."""
    document = recorded.good(cognitive.ACCOUNT).document
    (type,) = cognitive.TYPES
    (step,) = plans.steps(type, document, [Edit(path, *values) for path, values in edits.items()])
    assert (step.request.method, step.request.url, step.request.body) == (method, ids.url_path(document.id) + url, body)


def test_a_childs_name_may_tell_its_parents_and_must_be_sound() -> None:
    """Recorded: privateEndpointConnections shows its name with the account's before it."""
    part, id = parse("properties.privateEndpointConnections"), recorded.good(cognitive.ACCOUNT).id
    assert cognitive._child_url(id, "x", (*part, Item((("name", "acc/pe"),)))) == f"{ids.url_path(id)}/x/pe"
    for name in ("acc/..", "a?b", ""):
        with pytest.raises(Unsafe):
            cognitive._child_url(id, "x", (*part, Item((("name", name),))))


def test_a_capacity_is_lowered_after_the_rest_of_the_deployment_was_put() -> None:
    """The PUT carries the sku as it was read: sent later it would raise the capacity again."""
    document = recorded.good(cognitive.ACCOUNT).document
    (type,) = cognitive.TYPES
    at = "+deployments[name='chat-gpt']"
    steps = plans.steps(type, document, [Edit(f"{at}.sku.capacity", 10, 5),
                                         Edit(f"{at}.properties.raiPolicyName", "strict", "Microsoft.DefaultV2")])
    assert [step.request.method for step in steps] == ["PUT", "PATCH"]
    assert get(predict(document, steps).body, parse(f"{at}.sku.capacity")) == 5
