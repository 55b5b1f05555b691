"""How ARM reads and writes Cognitive Services accounts, their deployments and content-filter policies."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from guardrail.documents import Node
from guardrail.values import COMMON, Drift, Parameters, Request, ResourceType, Route, to_json

ACCOUNT = "Microsoft.CognitiveServices/accounts"
ACLS = "properties.networkAcls"

_SDK_URL = re.compile(
    r"/subscriptions/([0-9A-Fa-f-]{36})/resourceGroups/([\w.-]+)/providers/Microsoft\.CognitiveServices/accounts/([\w.-]+)"
    r"(?:/(deployments|raiPolicies)/([\w.-]+))?", re.ASCII)


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
    call = (request.method, kind)
    if call not in (("PATCH", None), ("PUT", "deployments"), ("PUT", "raiPolicies")):
        return await clients.send(request, headers)

    from azure.mgmt.cognitiveservices.aio import CognitiveServicesManagementClient

    sdk = clients.sdk(CognitiveServicesManagementClient, subscription, request.api_version)
    body = io.BytesIO(to_json(request.body))
    options: dict[str, Any] = {"cls": clients.answer, "headers": dict(headers)}
    if kind is None:
        poller = await sdk.accounts.begin_update(group, account, body, polling=False, **options)
    elif kind == "deployments":
        poller = await sdk.deployments.begin_create_or_update(group, account, name, body, polling=False, **options)
    else:
        return await sdk.rai_policies.create_or_update(group, account, name, body, **options)
    return await poller.result()


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
)

TYPES = (
    ResourceType(
        ACCOUNT, "2026-07-01",
        (
            # How arrays inside networkAcls merge was never recorded: the whole object is sent.
            Route(update="PATCH", whole=(ACLS,), readonly=ACCOUNT_READONLY),
            # PUT only, and never recorded: unproven until an approver let one through and nothing was lost.
            Route("+raiPolicies[name]", "{id}/raiPolicies/{name}", update="PUT", readonly=(*COMMON, "properties.type")),
            # PATCH takes sku and tags only. The PUT carries the document as read, and so always raiPolicyName: whether
            # leaving it out falls back to the default filter is unknown. Recorded over default values only: unproven.
            Route("+deployments[name]", "{id}/deployments/{name}", update="PUT", readonly=DEPLOYMENT_READONLY),
            Route("+diagnosticSettings[name]", "{id}/providers/Microsoft.Insights/diagnosticSettings/{name}",
                  "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True),
        ),
        isolate=cut_off, send=send,
        dependants=("properties.privateEndpointConnections", "properties.associatedProjects", "+deployments"),
    ),
)
