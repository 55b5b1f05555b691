"""Azure AI Search and Bot Service."""

from __future__ import annotations

import uuid

from simulator.paths import drop, items, read, section, write
from simulator.types.habits import Answer, Birth, Body, Habits, Part

SEARCH = "Microsoft.Search/searchServices"
CONNECTIONS = "properties.privateEndpointConnections"

REGIONS = {
    "eastus": "East US",
    "eastus2": "East US 2",
    "eastus2euap": "East US 2 EUAP",
    "westus": "West US",
    "westus2": "West US 2",
    "westeurope": "West Europe",
    "northeurope": "North Europe",
    "swedencentral": "Sweden Central",
}


def search_finished(view: Body, version: str) -> None:
    """Regions by their display names; status follows provisioningState; no options where local auth is off."""
    properties, location = section(view, "properties"), str(view.get("location", ""))
    view["location"] = REGIONS.get(location.replace(" ", "").lower(), location)
    properties["status"] = "provisioning" if properties.get("provisioningState") == "provisioning" else "running"
    if version and version < "2019-01-01":
        properties["statusDetails"] = None
    elif "authOptions" not in properties:
        properties["authOptions"] = None if properties.get("disableLocalAuth") else {"apiKeyOnly": {}}


def no_identity(before: Body | None, after: Body, sent: Body) -> None:
    if str(read(after, "identity.type")).lower() == "none":
        drop(after, "identity")


def search_connection_settled(before: Body | None, after: Body, sent: Body) -> None:
    write(after, "properties.privateLinkServiceConnectionState.actionsRequired", "None")


def search_connection_refuses(before: Body | None, sent: Body) -> tuple[int, str, str] | None:
    """Rejecting cannot be undone by approving."""
    path = "properties.privateLinkServiceConnectionState.status"
    if before is not None and read(before, path) == "Rejected" and read(sent, path) == "Approved":
        return 400, "OperationNotAllowed", "A rejected private endpoint connection cannot be approved."
    return None


LATER = ("publicNetworkAccess", "networkRuleSet", "encryptionWithCmk", "disableLocalAuth")
SEARCHES = (
    Habits(
        SEARCH,
        new=Answer(201, state="provisioning"),
        keep=("identity",),
        readonly=("properties.status", "properties.statusDetails"),
        shown={
            "properties.replicaCount": 1,
            "properties.partitionCount": 1,
            "properties.hostingMode": "default",
            "properties.publicNetworkAccess": "Enabled",
            "properties.networkRuleSet.ipRules": [],
            "properties.networkRuleSet.bypass": "None",
            "properties.encryptionWithCmk.enforcement": "Unspecified",
            "properties.encryptionWithCmk.encryptionComplianceStatus": "Compliant",
            "properties.disableLocalAuth": False,
            "properties.semanticSearch": "free",
            "properties.statusDetails": "",
        },
        since={**{f"properties.{name}": "2019-01-01" for name in LATER}, "properties.semanticSearch": "2023-11-01"},
        parts={
            CONNECTIONS: Part(f"{SEARCH}/privateEndpointConnections", written=False, since="2019-01-01"),
            "properties.sharedPrivateLinkResources": Part(
                f"{SEARCH}/sharedPrivateLinkResources", written=False, since="2019-01-01"
            ),
        },
        settle=no_identity,
        finish=search_finished,
        etag="header",
        weak=True,
        state="succeeded",
        system_data="",
        reads=("listAdminKeys", "listQueryKeys"),
        version="2025-05-01",
    ),
    Habits(
        f"{SEARCH}/privateEndpointConnections",
        new=Answer(200),
        patch=None,
        delete=Answer(200, body="deleted"),
        deleted={
            "properties.privateLinkServiceConnectionState": {
                "status": "Disconnected",
                "description": "Remove request from customer.",
                "actionsRequired": "None",
            }
        },
        readonly=("properties.privateEndpoint", "properties.groupId"),
        settle=search_connection_settled,
        refuse=search_connection_refuses,
        system_data="",
        version="2025-05-01",
    ),
    Habits(
        f"{SEARCH}/sharedPrivateLinkResources",
        new=Answer(202, "aao", body=""),
        existing=Answer(202, "aao", body=""),
        patch=None,
        delete=Answer(202, "aao", body=""),
        shown={"properties.resourceRegion": None, "properties.status": "Pending"},
        system_data="",
        version="2025-05-01",
    ),
)

# bots

NULLS = (
    "description",
    "msaAppMSIResourceId",
    "msaAppTenantId",
    "developerAppInsightKey",
    "developerAppInsightsApplicationId",
    "publishingCredentials",
    "parameters",
    "allSettings",
    "manifestUrl",
    "storageResourceId",
    "migrationToken",
    "cmekKeyVaultUrl",
    "openWithHint",
    "appPasswordHint",
)


def bot_born(body: Body, birth: Birth) -> None:
    section(body, "properties").setdefault("tenantId", birth.tenant)


BOT = "Microsoft.BotService/botServices"
SITES = "properties.properties.sites"


def channel_settled(before: Body | None, after: Body, sent: Body) -> None:
    """A site is known by its name and keeps its id, which no client writes; its keys are shown as empty texts."""
    known = {str(site.get("siteName")): site.get("siteId") for site in items(before or {}, SITES)}
    for site in items(after, SITES):
        name = str(site.get("siteName"))
        site["siteId"] = known.get(name) or site.get("siteId") or uuid.uuid5(uuid.NAMESPACE_URL, name).hex[:11]
        site["key"] = site["key2"] = ""


def channel_finished(view: Body, version: str) -> None:
    """The ETag stands in the properties as well."""
    section(view, "properties")["etag"] = view.get("etag")


BOTS = (
    Habits(
        BOT,
        existing=Answer(201),
        readonly=("properties.tenantId",),
        secret=("properties.developerAppInsightsApiKey",),
        shown={
            "tags": {},
            "zones": [],
            **{f"properties.{name}": None for name in NULLS},
            "properties.iconUrl": "https://docs.botframework.com/static/devportal/client/images/bot-framework-default.png",
            "properties.luisAppIds": [],
            "properties.endpointVersion": "3.0",
            "properties.configuredChannels": ["webchat"],
            "properties.enabledChannels": ["webchat", "directline"],
            "properties.isDeveloperAppInsightsApiKeySet": False,
            "properties.isStreamingSupported": False,
            "properties.schemaTransformationVersion": "1.3",
            "properties.isCmekEnabled": False,
            "properties.publicNetworkAccess": "Enabled",
            "properties.disableLocalAuth": False,
            "properties.cmekEncryptionStatus": "Off",
        },
        born=bot_born,
        etag="both",
        system_data="",
        version="2023-09-15-preview",
    ),
    # Seen in Azure/azure-cli, botservice recordings of 2020 (test_botservice_update_directline, test_webchat_channel,
    # test_auth_setting), which are not among ours.
    Habits(
        f"{BOT}/channels",
        new=Answer(200),
        shown={"properties.location": "global"},
        settle=channel_settled,
        finish=channel_finished,
        long_name=True,
        etag="both",
        weak=True,
        system_data="",
        version="2022-09-15",
    ),
    Habits(
        f"{BOT}/connections",
        existing=Answer(201),
        readonly=("properties.settingId",),
        secret=("properties.clientSecret",),
        shown={"properties.clientSecret": "**********", "properties.serviceProviderDisplayName": None},
        long_name=True,
        etag="both",
        weak=True,
        system_data="",
        version="2022-09-15",
    ),
)

TYPES: tuple[Habits, ...] = (*SEARCHES, *BOTS)
