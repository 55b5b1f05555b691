"""How ARM reads and writes storage accounts. PATCH merges; writes.md and published types, 2026-04-01."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from guardrail.documents import Node
from guardrail.values import COMMON, Drift, Parameters, Request, ResourceType, Route, to_json

ACCOUNT = "Microsoft.Storage/storageAccounts"

# Marked read-only in the published type. What Azure writes below `encryption` moves when a key rotates.
SERVER_WRITTEN = tuple(f"properties.{name}" for name in (
    "primaryEndpoints", "primaryLocation", "statusOfPrimary", "secondaryEndpoints", "secondaryLocation",
    "statusOfSecondary", "creationTime", "keyCreationTime", "lastGeoFailoverTime", "geoReplicationStats",
    "failoverInProgress", "privateEndpointConnections", "blobRestoreStatus", "storageAccountSkuConversionStatus",
    "isSkuConversionBlocked",
    "accountMigrationInProgress", "encryption.keyvaultproperties.currentVersionedKeyIdentifier",
    "encryption.keyvaultproperties.lastKeyRotationTimestamp",
    "encryption.keyvaultproperties.currentVersionedKeyExpirationTimestamp",
    *(f"encryption.services.{service}.lastEnabledTime" for service in ("blob", "file", "queue", "table")),
))

_URL = re.compile(
    r"/subscriptions/([\w.-]+)/resourceGroups/([\w.-]+)/providers/Microsoft\.Storage/storageAccounts/([\w.-]+)",
    re.ASCII)


def cut_off(account: Node, _: Parameters) -> Iterator[Drift]:
    """Isolated: no public endpoint, nobody in by default, no key that opens anything."""
    yield from account.expect(
        "properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled", known=("SecuredByPerimeter",))
    yield from account.expect("properties.networkAcls.defaultAction", one_of=("Deny",), absent="Allow")
    yield from account.expect("properties.allowSharedKeyAccess", one_of=(False,), absent=True)


async def send(clients: Any, request: Request, headers: Mapping[str, str]) -> Any:
    """A PATCH of an account through azure-mgmt-storage; all else, and names that it would spell otherwise, plainly."""
    found = _URL.fullmatch(request.url)
    if request.method != "PATCH" or found is None:
        return await clients.send(request, headers)
    from azure.mgmt.storage.aio import StorageManagementClient

    subscription, group, name = found.groups()
    client = clients.sdk(StorageManagementClient, subscription, request.api_version)
    body = io.BytesIO(to_json(request.body))
    return await client.storage_accounts.update(group, name, body, headers=dict(headers), cls=clients.answer)


TYPES = (
    ResourceType(
        ACCOUNT, "2026-04-01",
        (
            # whether networkAcls merges was never recorded, and defaultAction is required in it: it goes whole
            Route(update="PATCH", whole=("properties.networkAcls",), readonly=COMMON + SERVER_WRITTEN),
            # logs are kept a service, not an account; a PUT replaces the setting and loses nothing (recorded)
            Route("+blobDiagnosticSettings[name]",
                  "{id}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings/{name}",
                  "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True),
        ),
        isolate=cut_off, born="properties.creationTime", dependants=("properties.privateEndpointConnections",),
        send=send,
    ),
)
