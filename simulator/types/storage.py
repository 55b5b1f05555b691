"""Microsoft.Storage: accounts, their services, containers, policies and private endpoint connections."""

from __future__ import annotations

import uuid

from simulator.paths import drop, items, peek, read, section
from simulator.types.habits import Answer, Birth, Body, Habits, Part

ACCOUNT = "Microsoft.Storage/storageAccounts"
PAIRS = {
    "eastus": "westus",
    "eastus2": "centralus",
    "eastus2euap": "centraluseuap",
    "westus2": "westcentralus",
    "northeurope": "westeurope",
    "southcentralus": "northcentralus",
    "swedencentral": "swedensouth",
    "westus3": "eastus",
    "uksouth": "ukwest",
}
PAIRED = PAIRS | {second: first for first, second in PAIRS.items() if second not in PAIRS}
CONNECTIONS = "properties.privateEndpointConnections"


def account_born(body: Body, birth: Birth) -> None:
    """Endpoints, dates, the default of allowBlobPublicAccess: true for accounts made at versions before 2022-09-01."""
    properties = section(body, "properties")
    version = birth.version or "9999"
    made: Body = {
        "keyCreationTime": {"key1": birth.at, "key2": birth.at},
        "creationTime": birth.at,
        "minimumTlsVersion": "TLS1_0",
        "supportsHttpsTrafficOnly": True,
        "allowBlobPublicAccess": version < "2022-09-01",
        "networkAcls": {},
        "primaryLocation": str(body.get("location", "eastus")).replace(" ", "").lower(),
        "statusOfPrimary": "available",
        "primaryEndpoints": {name: f"https://{birth.name}.{name}.core.windows.net/" for name in services(body)},
    }
    for key, value in made.items():
        properties.setdefault(key, value)
    encryption = section(properties, "encryption")
    encryption.setdefault("keySource", "Microsoft.Storage")
    for name in ("file", "blob"):
        service = section(encryption, f"services.{name}")
        for key, value in (("keyType", "Account"), ("enabled", True), ("lastEnabledTime", birth.at)):
            service.setdefault(key, value)
    body.setdefault("kind", "StorageV2")
    body.setdefault("sku", {"name": "Standard_LRS"})
    account_settled(None, body, {})


def services(body: Body) -> tuple[str, ...]:
    """A general-purpose v1 account (`Storage`) has no dfs and web endpoint."""
    return (
        ("blob", "queue", "table", "file")
        if body.get("kind") == "Storage"
        else ("dfs", "web", "blob", "queue", "table", "file")
    )


def account_settled(before: Body | None, after: Body, sent: Body) -> None:
    """What follows from sku and keySource: second region and endpoints, the platform's key without a key vault."""
    sku, properties = section(after, "sku"), section(after, "properties")
    name = str(sku.get("name", ""))
    if after.get("kind") in ("StorageV2", "BlobStorage"):
        properties.setdefault("accessTier", "Hot")
    sku["tier"] = name.partition("_")[0] or "Standard"
    encryption = properties.get("encryption")
    if isinstance(encryption, dict) and str(encryption.get("keySource", "")).lower() == "microsoft.storage":
        encryption.pop("keyvaultproperties", None)
    primary = properties.get("primaryLocation")
    if primary is None:
        return
    is_geo, is_read = "GRS" in name or "GZRS" in name, "_RAG" in name
    for key in ("secondaryLocation", "statusOfSecondary", "secondaryEndpoints"):
        if not (is_read if key == "secondaryEndpoints" else is_geo):
            properties.pop(key, None)
    if is_geo:
        properties.setdefault("secondaryLocation", PAIRED.get(str(primary), "westus"))
        properties.setdefault("statusOfSecondary", "available")
    host = str(read(properties, "primaryEndpoints.blob")).removeprefix("https://").partition(".")[0]
    wanted = {"primaryEndpoints": host, **({"secondaryEndpoints": f"{host}-secondary"} if is_read else {})}
    for end, name in wanted.items():
        known = section(properties, end)
        for service in services(after):
            if (end, service) != ("secondaryEndpoints", "file"):
                known.setdefault(service, f"https://{name}.{service}.core.windows.net/")


def account_refuses(before: Body | None, sent: Body) -> tuple[int, str, str] | None:
    """The immutability policy's one way: Disabled, Unlocked, Locked; locked, its period only grows."""
    path = "properties.immutableStorageWithVersioning.immutabilityPolicy"
    wanted, now = peek(sent, path), peek(before, path)
    code, state = "InvalidStorageAccountImmutabilityPolicy", wanted.get("state", now.get("state"))
    if before is None or not wanted:
        return None
    if state == "Locked" and now.get("state") not in ("Unlocked", "Locked"):
        return 400, code, 'Storage account immutability policy state can be set to "Unlocked, Disabled".'
    if now.get("state") != "Locked":
        return None
    if state != "Locked":
        return 400, code, "The immutability policy state cannot be changed once Locked."
    days = "immutabilityPeriodSinceCreationInDays"
    if wanted.get(days, now.get(days, 0)) < now.get(days, 0):
        return 400, code, f"The {days} can only be extended for a Locked policy."
    if wanted.get("allowProtectedAppendWrites", now.get("allowProtectedAppendWrites")) != now.get("allowProtectedAppendWrites"):
        return 400, code, "Request parameters are invalid: allowProtectedAppendWrites."
    return None


def blob_settled(before: Body | None, after: Body, sent: Body) -> None:
    """Tracking of last access: complete once on, gone once off."""
    policy = read(after, "properties.lastAccessTimeTrackingPolicy")
    if isinstance(policy, dict) and policy.get("enable") is False:
        drop(after, "properties.lastAccessTimeTrackingPolicy")
    elif isinstance(policy, dict):
        for key, value in (
            ("name", "AccessTimeTracking"),
            ("trackingGranularityInDays", 1),
            ("blobType", ["blockBlob"]),
        ):
            policy.setdefault(key, value)


def cors_finished(view: Body, version: str) -> None:
    """No exposed headers are read back as one empty header."""
    for rule in items(view, "properties.cors.corsRules"):
        if rule.get("exposedHeaders") == []:
            rule["exposedHeaders"] = [""]


def replication_born(body: Body, birth: Birth) -> None:
    section(body, "properties").setdefault("policyId", birth.name)


def replication_settled(before: Body | None, after: Body, sent: Body) -> None:
    """Rules without an id get one."""
    for rule in items(after, "properties.rules"):
        rule.setdefault("ruleId", str(uuid.uuid4()))


def connection_refuses(before: Body | None, sent: Body) -> tuple[int, str, str] | None:
    """Only what is pending can be approved: rejecting cannot be undone."""
    path = "properties.privateLinkServiceConnectionState.status"
    if read(sent, path) == "Approved" and before is not None and read(before, path) in ("Approved", "Rejected"):
        message = "Values for request parameters are invalid: privateLinkServiceConnectionState.status."
        return 400, "InvalidValuesForRequestParameters", message
    return None


TYPES: tuple[Habits, ...] = (
    Habits(
        ACCOUNT,
        put="merge",
        new=Answer(202, "loc", body=""),
        delete=Answer(200, body=""),
        readonly=(
            "properties.creationTime",
            "properties.keyCreationTime",
            "properties.primaryEndpoints",
            "properties.primaryLocation",
            "properties.statusOfPrimary",
            "properties.secondaryEndpoints",
            "properties.secondaryLocation",
            "properties.statusOfSecondary",
            "sku.tier",
        ),
        shown={
            "tags": {},
            "properties.networkAcls.ipv6Rules": [],
            "properties.networkAcls.bypass": "AzureServices",
            "properties.networkAcls.virtualNetworkRules": [],
            "properties.networkAcls.ipRules": [],
            "properties.networkAcls.defaultAction": "Allow",
            "properties.networkAcls.virtualNetworkRules[].state": "Succeeded",
            "properties.allowCrossTenantReplication": False,
        },
        since={
            "properties.networkAcls.ipv6Rules": "2023-01-01",
            "properties.allowCrossTenantReplication": "2023-05-01",
            "properties.allowBlobPublicAccess": "2019-04-01",
            "properties.minimumTlsVersion": "2019-04-01",
            "properties.keyCreationTime": "2021-02-01",
        },
        parts={CONNECTIONS: Part(f"{ACCOUNT}/privateEndpointConnections", written=False)},
        brings=("blobServices/default", "fileServices/default", "queueServices/default", "tableServices/default"),
        settle=account_settled,
        born=account_born,
        refuse=account_refuses,
        system_data="",
        reads=("listKeys", "regenerateKey", "ListAccountSas", "ListServiceSas"),
        version="2025-08-01",
    ),
    Habits(
        f"{ACCOUNT}/blobServices",
        new=Answer(200, body="echo"),
        existing=Answer(200, body="echo"),
        patch=None,
        can_delete=False,
        from_parent=("sku",),
        shown={
            "properties.cors": {"corsRules": []},
            "properties.deleteRetentionPolicy": {"allowPermanentDelete": False, "enabled": False},
            "properties.deleteRetentionPolicy.allowPermanentDelete": False,
        },
        since={"properties.deleteRetentionPolicy.allowPermanentDelete": "2021-01-01"},
        settle=blob_settled,
        finish=cors_finished,
        state="",
        system_data="",
        version="2025-08-01",
    ),
    Habits(
        f"{ACCOUNT}/fileServices",
        new=Answer(200, body="echo"),
        existing=Answer(200, body="echo"),
        patch=None,
        can_delete=False,
        from_parent=("sku",),
        shown={
            "properties.protocolSettings": {"smb": {}},
            "properties.cors": {"corsRules": []},
            "properties.shareDeleteRetentionPolicy": {"enabled": True, "days": 7},
            "properties.shareDeleteRetentionPolicy.days": 0,
        },
        finish=cors_finished,
        state="",
        system_data="",
        version="2025-08-01",
    ),
    Habits(
        f"{ACCOUNT}/queueServices",
        new=Answer(200),
        patch=None,
        can_delete=False,
        state="",
        system_data="",
        shown={"properties.cors": {"corsRules": []}},
        version="2025-08-01",
    ),
    Habits(
        f"{ACCOUNT}/tableServices",
        new=Answer(200),
        patch=None,
        can_delete=False,
        state="",
        system_data="",
        shown={"properties.cors": {"corsRules": []}},
        version="2025-08-01",
    ),
    Habits(
        f"{ACCOUNT}/blobServices/containers",
        new=Answer(201, body="echo"),
        existing=Answer(200, body="echo"),
        patch=Answer(200, body="echo"),
        replaced=("properties.metadata",),
        missing="ContainerNotFound",
        echoed={"deleted": False, "hasImmutabilityPolicy": False, "hasLegalHold": False, "remainingRetentionDays": 0},
        shown={
            "properties.publicAccess": "None",
            "properties.defaultEncryptionScope": "$account-encryption-key",
            "properties.denyEncryptionScopeOverride": False,
            "properties.leaseState": "Available",
            "properties.leaseStatus": "Unlocked",
            "properties.legalHold": {"hasLegalHold": False, "tags": []},
            "properties.deleted": False,
            "properties.hasImmutabilityPolicy": False,
            "properties.hasLegalHold": False,
            "properties.remainingRetentionDays": 0,
        },
        dated={"properties.lastModifiedTime": "changed"},
        etag="both",
        state="",
        system_data="",
        version="2025-08-01",
    ),
    Habits(
        f"{ACCOUNT}/managementPolicies",
        new=Answer(200),
        patch=None,
        missing="ManagementPolicyNotFound",
        shown_name="DefaultManagementPolicy",
        dated={"properties.lastModifiedTime": "changed"},
        shown={"properties.policy.rules[].enabled": True, "properties.policy.rules[].type": "Lifecycle"},
        state="",
        system_data="",
        version="2025-08-01",
    ),
    Habits(
        f"{ACCOUNT}/objectReplicationPolicies",
        born=replication_born,
        readonly=("properties.policyId", "properties.enabledTime"),
        settle=replication_settled,
        new=Answer(200),
        patch=None,
        state="",
        system_data="",
        version="2025-08-01",
    ),
    Habits(
        f"{ACCOUNT}/privateEndpointConnections",
        new=Answer(200),
        patch=None,
        readonly=("properties.privateEndpoint",),
        refuse=connection_refuses,
        shown={"properties.privateLinkServiceConnectionState.description": ""},
        system_data="",
        version="2025-08-01",
    ),
)
