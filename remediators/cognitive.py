"""How ARM reads and writes Cognitive Services accounts, their deployments and content-filter policies."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from guardrail.documents import Document, Node
from guardrail.errors import Unsafe
from guardrail.ids import ResourceId, name_is_sound, url_path
from guardrail.paths import ABSENT, Item, Path, get, parse, put
from guardrail.values import COMMON, Drift, Edit, Parameters, Request, ResourceType, Route, to_json

ACCOUNT = "Microsoft.CognitiveServices/accounts"
VERSION = "2026-07-01"
ACLS = "properties.networkAcls"
ENDPOINT = "properties.privateEndpointConnections[name].properties.privateLinkServiceConnectionState"

_SDK_URL = re.compile(
    r"/subscriptions/([0-9A-Fa-f-]{36})/resourceGroups/([\w.-]+)/providers/Microsoft\.CognitiveServices/accounts/([\w.-]+)"
    r"(?:/(deployments|raiPolicies|defenderForAISettings|privateEndpointConnections|projects)/([\w.-]+))?", re.ASCII)

# (method, child) -> (operation group of the SDK, its operation)
_SDK_CALLS = {
    ("PATCH", None): ("accounts", "begin_update"),
    ("PUT", "deployments"): ("deployments", "begin_create_or_update"),
    ("PATCH", "deployments"): ("deployments", "begin_update"),
    ("PUT", "raiPolicies"): ("rai_policies", "create_or_update"),
    ("PATCH", "defenderForAISettings"): ("defender_for_ai_settings", "update"),
    ("PUT", "privateEndpointConnections"): ("private_endpoint_connections", "begin_create_or_update"),
    ("PATCH", "projects"): ("projects", "begin_update"),
}


def cut_off(account: Node, _: Parameters) -> Iterator[Drift]:
    """No public network, no rule, no trusted bypass, no keys. Callers behind approved private endpoints stay."""
    yield from account.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")
    yield from account.expect("properties.disableLocalAuth", one_of=(True,), absent=False)
    if not account.text("properties.customSubDomainName"):
        return      # ARM refuses networkAcls, and with it all of the patch
    yield from account.expect(f"{ACLS}.defaultAction", one_of=("Deny",), absent="Allow")
    yield from account.expect(f"{ACLS}.bypass", one_of=("None",), absent="AzureServices")
    for rules, key in ((f"{ACLS}.ipRules", "value"), (f"{ACLS}.virtualNetworkRules", "id")):
        for rule in account.items(rules, key):
            yield from rule.unwanted()


async def send(clients: Any, request: Request, headers: Mapping[str, str]) -> Any:
    """The request through azure-mgmt-cognitiveservices; what it cannot send byte for byte goes by the plain sender.

    Bodies go as bytes and answers come back raw: the SDK's models (14.1.0) drop every property they do not know.
    """
    found = _SDK_URL.fullmatch(request.url)
    if found is None:
        return await clients.send(request, headers)
    subscription, group, account, kind, name = found.groups()
    if (request.method, kind) not in _SDK_CALLS:
        return await clients.send(request, headers)
    operations, operation = _SDK_CALLS[request.method, kind]

    from azure.mgmt.cognitiveservices.aio import CognitiveServicesManagementClient

    sdk = clients.sdk(CognitiveServicesManagementClient, subscription, request.api_version)
    call = getattr(getattr(sdk, operations), operation)
    names = (group, account) if name is None else (group, account, name)
    options: dict[str, Any] = {"cls": clients.answer, "headers": dict(headers)}
    if not operation.startswith("begin_"):
        return await call(*names, io.BytesIO(to_json(request.body)), **options)
    poller = await call(*names, io.BytesIO(to_json(request.body)), polling=False, **options)
    return await poller.result()


def _child_url(id: ResourceId, kind: str, part: Path) -> str:
    """The encoded path of an item, as `Route.url` would give it; some children tell their parent's name too, before a slash.

    Errors: Unsafe.
    """
    item = part[-1]
    name = str(item.keys[0][1]).rsplit("/", 1)[-1] if isinstance(item, Item) else ""
    if not name_is_sound(name):
        raise Unsafe(f"{name!r} is no name to put into a URL")
    return f"{url_path(id)}/{kind}/{quote(name, safe='')}"


def connection_written(document: Document, edits: Sequence[Edit]) -> Request:
    """DELETE of a connection, or a PATCH of what is edited, with authType and category beside it.

    authType decides the model and must be in every PATCH; the rest, the secret among it, is left out and so is kept by
    the general rule (RFC 7396), which was never recorded here: who plans this asks.
    """
    part = parse(edits[0].path)[:2]
    url = _child_url(document.id, "connections", part)
    if len(parse(edits[0].path)) == 2:
        return Request("DELETE", url, VERSION)
    now = get(document.body, (*part, "properties"))
    names = ("authType", "category")
    properties: Any = {name: now[name] for name in names if isinstance(now, Mapping) and name in now}
    for edit in edits:
        after = None if edit.after is ABSENT else edit.after
        properties = {**properties, **put({}, parse(edit.path)[3:], after)}
    return Request("PATCH", url, VERSION, {"properties": properties})


def endpoint_put(document: Document, edits: Sequence[Edit]) -> Request:
    """A private endpoint connection as it is shown inside the account, with its new state (recorded: Approved, Rejected)."""
    part = parse(edits[0].path)[:3]
    item = get(document.body, part)
    for edit in edits:
        item = put(item, parse(edit.path)[3:], edit.after)
    body = {name: item[name] for name in ("location", "properties") if name in item}
    for name in ("privateEndpoint", "provisioningState"):       # ARM's own
        body = put(body, ("properties", name), ABSENT)
    return Request("PUT", _child_url(document.id, "privateEndpointConnections", part), VERSION, body)


def sku_patched(document: Document, edits: Sequence[Edit]) -> Request:
    """A deployment's PATCH takes sku and tags alone; the sku goes whole, so that its name stays beside the capacity."""
    part = parse(edits[0].path)[:2]
    sku = get(document.body, (*part, "sku"))
    for edit in edits:
        sku = put(sku, parse(edit.path)[3:], edit.after)
    return Request("PATCH", _child_url(document.id, "deployments", part), VERSION, {"sku": sku})


ACCOUNT_READONLY = (
    *COMMON, "identity.principalId", "identity.tenantId",
    *(f"properties.{name}" for name in (
        "endpoint", "endpoints", "internalId", "capabilities", "isMigrated", "skuChangeInfo", "dateCreated",
        "privateEndpointConnections", "callRateLimit", "quotaLimit", "deletionDate", "scheduledPurgeDate",
        "commitmentPlanAssociations", "abusePenalty")),
)
DEPLOYMENT_READONLY = (
    *COMMON, "properties.capabilities", "properties.callRateLimit", "properties.rateLimits",
    "properties.dynamicThrottlingEnabled", "properties.model.callRateLimit", "properties.scaleSettings.activeCapacity",
    "properties.currentCapacity",       # writable by the schema; recorded: it follows sku.capacity
)

# A connection is never made: without its secret, which GET leaves out, it would be another one. A capability host is
# made anew or not at all, and its agents with it: nothing writes one.
CONNECTIONS_AND_HOSTS = (
    Route("+connections[name]", "{id}/connections/{name}", write=connection_written, delete=True,
          readonly=(*COMMON, "properties.createdByWorkspaceArmId", "properties.group")),
    Route("+capabilityHosts[name]", "{id}/capabilityHosts/{name}"),
)

TYPES = (
    ResourceType(
        ACCOUNT, VERSION,
        (
            # How networkAcls and encryption merge was never recorded: the whole object is sent.
            Route(update="PATCH", whole=(ACLS, "properties.encryption"), readonly=ACCOUNT_READONLY),
            # Shown inside the account, written at a URL of its own.
            Route("properties.privateEndpointConnections[name]", "{id}/privateEndpointConnections/{name}",
                  write=endpoint_put, readonly=(*COMMON, "properties.privateEndpoint.id")),
            # PUT only, and never recorded: unproven until an approver let one through and nothing was lost.
            Route("+raiPolicies[name]", "{id}/raiPolicies/{name}", update="PUT", create=True, delete=True,
                  readonly=(*COMMON, "properties.type")),       # deleted by the undo of a restored one alone
            Route("+raiBlocklists[name]", "{id}/raiBlocklists/{name}"),
            # PATCH takes sku and tags only. The PUT carries the document as read, and so always raiPolicyName: whether
            # leaving it out falls back to the default filter is unknown. Recorded over default values only: unproven.
            Route("+deployments[name]", "{id}/deployments/{name}", update="PUT", readonly=DEPLOYMENT_READONLY),
            Route("+deployments[name].sku", "{id}/deployments/{name}", write=sku_patched),
            Route("+defenderForAISettings[name]", "{id}/defenderForAISettings/{name}", update="PATCH"),
            Route("+managedNetworks[name]", "{id}/managedNetworks/{name}"),
            *CONNECTIONS_AND_HOSTS,
            Route("+diagnosticSettings[name]", "{id}/providers/Microsoft.Insights/diagnosticSettings/{name}",
                  "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True),
        ),
        isolate=cut_off, send=send,
        dependants=("properties.privateEndpointConnections", "properties.associatedProjects", "+deployments"),
        stops={"+deployments[name].properties.deploymentState": ("Paused",), f"{ENDPOINT}.status": ("Rejected",)},
    ),
)
