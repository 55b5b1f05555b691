"""Key vaults, container registries and Purview accounts."""

from __future__ import annotations

from simulator.paths import OMIT, drop, has, items, read, section, write
from simulator.types.habits import Answer, Birth, Body, Habits, Part

CONNECTIONS = "properties.privateEndpointConnections"

# key vaults

VAULT = "Microsoft.KeyVault/vaults"


def policies(body: Body, name: str, sent: Body) -> Body:
    """accessPolicies/add, replace and remove: entries are told apart by tenant, object and application."""
    sign = name.lower()
    entries = {_key(entry): entry for entry in items(body, "properties.accessPolicies")}
    for entry in items(sent, "properties.accessPolicies"):
        known = entries.get(_key(entry))
        if sign == "replace" or (sign == "add" and known is None):
            entries[_key(entry)] = entry
        elif known is not None:
            _change(known, entry, sign)
            if sign == "remove" and not any(section(known, "permissions").values()):
                del entries[_key(entry)]
    write(body, "properties.accessPolicies", list(entries.values()))
    return {"properties": {"accessPolicies": list(entries.values())}}


def _key(entry: Body) -> tuple[str, ...]:
    return tuple(str(entry.get(part, "")).lower() for part in ("tenantId", "objectId", "applicationId"))


def _change(known: Body, entry: Body, sign: str) -> None:
    """Words of each kind of permission (keys, secrets, ...) are added to an entry or taken from it, without case."""
    for kind, words in section(entry, "permissions").items():
        have = section(known, "permissions").get(kind) or []
        named = {str(word).lower() for word in words or ()}
        kept = [word for word in have if sign == "add" or str(word).lower() not in named]
        new = [word for word in words or () if str(word).lower() not in {str(it).lower() for it in have}]
        known["permissions"][kind] = kept + new if sign == "add" else kept


def vault_born(body: Body, birth: Birth) -> None:
    properties = section(body, "properties")
    for key, value in (
        ("sku", {"family": "A", "name": "standard"}),
        ("tenantId", birth.tenant),
        ("accessPolicies", []),
        ("vaultUri", f"https://{birth.name}.vault.azure.net/"),
    ):
        properties.setdefault(key, value)


OPEN: Body = {"bypass": "AzureServices", "defaultAction": "Allow", "ipRules": [], "virtualNetworkRules": []}
"""What networkAcls means when it is not there; set to this, it is not shown either."""


def vault_settled(before: Body | None, after: Body, sent: Body) -> None:
    drop(after, "properties.createMode")
    acls = read(after, "properties.networkAcls")
    if isinstance(acls, dict):
        for key, value in OPEN.items():
            acls.setdefault(key, value)
        if all(str(acls[key]).lower() == str(value).lower() for key, value in OPEN.items()):
            drop(after, "properties.networkAcls")


VAULTS = (
    Habits(
        VAULT,
        new=Answer(200, state="RegisteringDns"),
        delete=Answer(200, body=""),
        readonly=("properties.vaultUri", "properties.hsmPoolResourceId"),
        keep=("properties.softDeleteRetentionInDays", "properties.enablePurgeProtection"),
        shown={
            "tags": {},
            "properties.enabledForDeployment": False,
            "properties.enableSoftDelete": True,
            "properties.publicNetworkAccess": "Enabled",
        },
        since={"properties.publicNetworkAccess": "2021-10-01"},
        parts={CONNECTIONS: Part(f"{VAULT}/privateEndpointConnections", written=False, empty=False, keys=("id", "properties"))},
        settle=vault_settled,
        born=vault_born,
        soft=lambda sent: str(read(sent, "properties.createMode")).lower() == "recover",
        version="2026-02-01",
    ),
    Habits(f"{VAULT}/accessPolicies", on_parent=policies, version="2026-02-01"),
    Habits(
        f"{VAULT}/privateEndpointConnections",
        new=Answer(200, "aao", "Updating"),
        existing=Answer(200, "aao", "Updating"),
        delete=Answer(202, "loc", body=""),
        patch=None,
        keep=("location",),
        readonly=("properties.privateEndpoint",),
        etag="body",
        system_data="",
        version="2026-02-01",
    ),
)

# container registries

REGISTRY = "Microsoft.ContainerRegistry/registries"
POLICIES: dict[str, Body] = {
    "quarantinePolicy": {"status": "disabled"},
    "trustPolicy": {"type": "Notary", "status": "disabled"},
    "retentionPolicy": {"days": 7, "status": "disabled"},
    "exportPolicy": {"status": "enabled"},
    "azureADAuthenticationAsArmPolicy": {"status": "enabled"},
    "softDeletePolicy": {"retentionDays": 7, "status": "disabled"},
}
SINCE_2020 = (
    "dataEndpointEnabled",
    "dataEndpointHostNames",
    "encryption",
    "publicNetworkAccess",
    "networkRuleBypassOptions",
    "zoneRedundancy",
    "policies.quarantinePolicy",
    "policies.trustPolicy",
    "policies.retentionPolicy",
    "policies.exportPolicy",
)


def registry_born(body: Body, birth: Birth) -> None:
    section(body, "properties").setdefault("loginServer", f"{birth.name.lower()}.azurecr.io")
    registry_settled(None, body, {})


def registry_settled(before: Body | None, after: Body, sent: Body) -> None:
    """The tier follows the sku; an identity of None is none; a rule without an action allows."""
    sku = section(after, "sku")
    sku["tier"] = sku.setdefault("name", "Basic")
    if str(read(after, "identity.type")).lower() == "none":
        drop(after, "identity")
    for rules in ("ipRules", "virtualNetworkRules"):
        for rule in items(after, f"properties.networkRuleSet.{rules}"):
            rule.setdefault("action", "Allow")


def registry_at_once(before: Body | None, after: Body, sent: Body) -> int:
    """Seen: below Premium writes are synchronous; a PATCH takes time for identity, encryption and anonymous pull."""
    if read(after, "sku.name") != "Premium":
        return 200
    slow = ("identity", "properties.encryption", "properties.anonymousPullEnabled")
    is_patch = before is not None and "location" not in sent
    return 200 if is_patch and not any(has(sent, path) for path in slow) else 0


def premium(value: object) -> object:
    """A default that only Premium registries have."""
    return lambda view, version: value if read(view, "sku.name") == "Premium" else OMIT


def published_in_2025(view: Body, version: str) -> object:
    """In every preview, and in the stable versions from 2025-04-01 on (published types)."""
    return False if "preview" in version or not version or version >= "2025-04-01" else OMIT


def registry_finished(view: Body, version: str) -> None:
    """Soft delete and the search in metadata are known to previews only (published types)."""
    if version and "preview" not in version:
        drop(view, "properties.policies.softDeletePolicy")
        drop(view, "properties.metadataSearch")


def purview_born(body: Body, birth: Birth) -> None:
    properties = section(body, "properties")
    for key, value in (
        ("friendlyName", birth.name),
        ("managedResourceGroupName", f"managed-rg-{birth.name}"),
        ("createdBy", birth.by),
        ("createdByObjectId", birth.guid("by")),
        ("cloudConnectors", {"awsExternalId": birth.guid("aws")}),
        (
            "endpoints",
            {name: f"https://{birth.name}.purview.azure.com/{name}" for name in ("catalog", "guardian", "scan")},
        ),
    ):
        properties.setdefault(key, value)


OTHERS = (
    Habits(
        REGISTRY,
        new=Answer(201, "aao", "Creating"),
        existing=Answer(201, "aao", "Updating"),
        patch=Answer(201, "aao", "Updating"),
        at_once=registry_at_once,
        readonly=("properties.loginServer", "properties.creationDate", "sku.tier"),
        shown={
            "tags": {},
            "properties.adminUserEnabled": False,
            "properties.anonymousPullEnabled": published_in_2025,
            "properties.dataEndpointEnabled": False,
            "properties.dataEndpointHostNames": [],
            "properties.encryption.status": "disabled",
            "properties.metadataSearch": "Disabled",
            "properties.networkRuleBypassOptions": "AzureServices",
            "properties.publicNetworkAccess": "Enabled",
            "properties.zoneRedundancy": "Disabled",
            "properties.networkRuleSet": premium({}),
            **{
                f"properties.networkRuleSet?.{key}": value
                for key, value in (("defaultAction", "Allow"), ("virtualNetworkRules", []), ("ipRules", []))
            },
            **{
                f"properties.policies.{policy}.{key}": value for policy, keys in POLICIES.items() for key, value in keys.items()
            },
        },
        since={
            **{f"properties.{name}": "2020-01-01" for name in SINCE_2020},
            **{
                f"properties.{name}": "2023-01-01"
                for name in ("policies.azureADAuthenticationAsArmPolicy", "policies.softDeletePolicy", "metadataSearch")
            },
        },
        until={"properties.networkRuleSet.virtualNetworkRules": "2022-01-01"},
        dated={
            "properties.creationDate": "created",
            "properties.policies.retentionPolicy.lastUpdatedTime": "changed",
            "properties.policies.softDeletePolicy.lastUpdatedTime": "changed",
        },
        parts={CONNECTIONS: Part(f"{REGISTRY}/privateEndpointConnections", written=False, since="2020-01-01")},
        settle=registry_settled,
        born=registry_born,
        finish=registry_finished,
        system_data="2020-01-01",
        reads=("listCredentials", "regenerateCredential"),
        version="2025-11-01",
    ),
    Habits(
        "Microsoft.Purview/accounts",
        new=Answer(201, "loc", "Creating"),
        patch=Answer(202, "loc", "Creating"),
        delete=Answer(202, "loc", body=""),
        born=purview_born,
        parts={CONNECTIONS: Part("Microsoft.Purview/accounts/privateEndpointConnections", written=False)},
        shown={"properties.publicNetworkAccess": "Enabled", "sku.capacity": 1, "sku.name": "Standard"},
        dated={"properties.createdAt": "created"},
        version="2021-12-01",
    ),
)

TYPES: tuple[Habits, ...] = (*VAULTS, *OTHERS)
