"""Microsoft.CognitiveServices: accounts (OpenAI, AI services), deployments, content filters, projects."""

from __future__ import annotations

from simulator.paths import read, section
from simulator.types.habits import Answer, Birth, Body, Habits, Part

ACCOUNT = "Microsoft.CognitiveServices/accounts"
CONNECTIONS = "properties.privateEndpointConnections"


def account_born(body: Body, birth: Birth) -> None:
    properties = section(body, "properties")
    properties.setdefault("internalId", birth.guid("internal").replace("-", ""))
    properties.setdefault("dateCreated", birth.at)
    properties.setdefault("isMigrated", False)
    account_settled(None, body, {})


def account_settled(before: Body | None, after: Body, sent: Body) -> None:
    """The endpoint follows from customSubDomainName, else from the region."""
    properties = section(after, "properties")
    if not isinstance(properties, dict) or (before is not None and "endpoint" not in properties and "location" not in after):
        return
    location = str(after.get("location", "eastus")).replace(" ", "").lower()
    custom = properties.get("customSubDomainName")
    host = "openai.azure.com" if str(after.get("kind")).lower() == "openai" else "cognitiveservices.azure.com"
    properties["endpoint"] = f"https://{custom}.{host}/" if custom else f"https://{location}.api.cognitive.microsoft.com/"


def account_finished(view: Body, version: str) -> None:
    """The key of a linked search service is never shown, only its place."""
    linked = read(view, "properties.apiProperties")
    if isinstance(linked, dict) and "qnaAzureSearchEndpointId" in linked:
        linked["qnaAzureSearchEndpointKey"] = None


def tags_only(before: Body | None, after: Body, sent: Body) -> int:
    """Seen: a PATCH of tags is done at once, one of properties is accepted."""
    return 200 if before is not None and not any(sent.get(key) for key in ("properties", "identity")) else 0


def restores(sent: Body) -> bool:
    return read(sent, "properties.restore") is True


def connection_settled(before: Body | None, after: Body, sent: Body) -> None:
    """An approval without words is described as such."""
    state = read(after, "properties.privateLinkServiceConnectionState")
    if isinstance(state, dict) and state.get("status") == "Approved":
        state.setdefault("description", "Approved")


def project_born(body: Body, birth: Birth) -> None:
    body.setdefault("kind", "AIServices")
    properties = section(body, "properties")
    properties.setdefault("internalId", birth.guid("internal").replace("-", ""))
    properties.setdefault("isDefault", birth.siblings == 0)


def deployment_born(body: Body, birth: Birth) -> None:
    if "sku" not in body:
        body["sku"] = {"name": "Standard", "capacity": 1}


def follows_capacity(view: Body, version: str) -> object:
    return read(view, "sku.capacity")


# Published types 2026-07-01 and the operations of the published clients; none of it was recorded.
CONNECTIONS_AND_HOSTS = tuple(
    habits
    for parent in (ACCOUNT, f"{ACCOUNT}/projects")
    for habits in (
        Habits(f"{parent}/connections", secret=("properties.credentials",), state="", version="2026-03-01"),
        Habits(
            f"{parent}/capabilityHosts",
            new=Answer(201, "aao loc", "Creating"),
            existing=Answer(200, "aao loc", "Updating"),
            patch=None,
            delete=Answer(202, "loc", body=""),
            version="2026-03-01",
        ),
    )
)

TYPES: tuple[Habits, ...] = (
    *CONNECTIONS_AND_HOSTS,
    Habits(
        ACCOUNT,
        new=Answer(201, "aao", "Creating"),
        existing=Answer(200, "aao", "Accepted"),
        patch=Answer(202, "aao loc", "Accepted"),
        readonly=(
            "properties.endpoint",
            "properties.endpoints",
            "properties.internalId",
            "properties.dateCreated",
            "properties.isMigrated",
            "properties.callRateLimit",
            "properties.capabilities",
        ),
        keep=("identity", "kind", "sku", "properties.customSubDomainName"),
        shown={"properties.publicNetworkAccess": "Enabled"},
        parts={CONNECTIONS: Part(f"{ACCOUNT}/privateEndpointConnections", written=False)},
        settle=account_settled,
        born=account_born,
        finish=account_finished,
        etag="both",
        at_once=tags_only,
        soft=restores,
        reads=("listKeys", "regenerateKey"),
        version="2026-03-01",
    ),
    Habits(
        f"{ACCOUNT}/deployments",
        keep=(),
        patch=Answer(202, "aao loc", "Accepted"),
        patchable=("sku", "tags"),
        missing="NotFound",
        readonly=("properties.capabilities", "properties.rateLimits", "properties.currentCapacity"),
        shown={
            "properties.versionUpgradeOption": "OnceNewDefaultVersionAvailable",
            "properties.raiPolicyName": "Microsoft.DefaultV2",
            "properties.currentCapacity": follows_capacity,
        },
        since={"properties.raiPolicyName": "2023-10-01", "properties.currentCapacity": "2024-10-01"},
        born=deployment_born,
        etag="both",
        version="2026-03-01",
    ),
    Habits(
        f"{ACCOUNT}/raiPolicies",
        readonly=("properties.type",),
        shown={"properties.type": "UserManaged"},
        existing=Answer(200),
        patch=None,
        delete=Answer(202, "loc", body=""),
        etag="both",
        state="",
        version="2026-03-01",
    ),
    Habits(
        "Microsoft.CognitiveServices/raiPolicy",
        readonly=("properties.type",),
        shown={"properties.type": "UserManaged"},
        patch=None,
        delete=Answer(202, "loc", body=""),
        etag="both",
        state="",
        version="2026-07-01",
    ),
    Habits(f"{ACCOUNT}/raiBlocklists", patch=None, etag="both", state="", version="2026-03-01"),
    Habits(
        f"{ACCOUNT}/projects",
        etag="both",
        long_name=True,
        born=project_born,
        keep=("identity", "properties.isDefault"),
        version="2026-03-01",
    ),
    Habits(
        f"{ACCOUNT}/defenderForAISettings",
        patch=Answer(200),
        etag="both",
        state="",
        shown={"properties.state": "Disabled"},
        version="2026-03-01",
    ),
    Habits(
        f"{ACCOUNT}/privateEndpointConnections",
        new=Answer(200),
        patch=None,
        etag="both",
        long_name=True,
        readonly=("properties.privateEndpoint.id",),
        settle=connection_settled,
        system_data="",
        version="2026-03-01",
    ),
)
