"""Microsoft.MachineLearningServices: workspaces, computes, online endpoints and their deployments, registries."""

from __future__ import annotations

from simulator.paths import OMIT, peek, read, section
from simulator.types.habits import Answer, Birth, Body, Habits, Part

WORKSPACE = "Microsoft.MachineLearningServices/workspaces"
ENDPOINT = f"{WORKSPACE}/onlineEndpoints"
CONNECTIONS = "properties.privateEndpointConnections"
REGISTRY = "Microsoft.MachineLearningServices/registries"
PROBE = {"failureThreshold": 30, "successThreshold": 1, "timeout": "PT2S", "period": "PT10S", "initialDelay": "PT10S"}


def workspace_born(body: Body, birth: Birth) -> None:
    properties = section(body, "properties")
    properties.setdefault("workspaceId", birth.guid("workspace"))
    properties.setdefault("tenantId", birth.tenant)
    properties.setdefault("creationTime", birth.at)


def workspace_finished(view: Body, version: str) -> None:
    """Nulls for an identity without principal; rules of the managed network are inactive until it is made."""
    identity, properties = view.get("identity"), section(view, "properties")
    if isinstance(identity, dict):
        identity.setdefault("principalId", None)
        identity.setdefault("tenantId", properties.get("tenantId"))
    for rule in peek(properties, "managedNetwork.outboundRules").values():
        if isinstance(rule, dict):
            rule.setdefault("status", "Inactive")
            if rule.get("type") == "PrivateEndpoint" and isinstance(rule.get("destination"), dict):
                rule["destination"].setdefault("sparkStatus", "Inactive")


def old_only(value: object) -> object:
    """A default that is shown below 2022."""
    return lambda view, version: value if version and version < "2022-01-01" else OMIT


def compute_finished(view: Body, version: str) -> None:
    """An attached virtual machine shows what the service does not know of it as null."""
    properties = section(view, "properties")
    if str(properties.get("computeType")).lower() != "virtualmachine":
        return
    properties["isAttachedCompute"] = True
    for name in ("administratorAccount", "applicationUris", "createdBy", "imageVersion", "notebookServerPort"):
        section(properties, "properties").setdefault(name, None)


def deployment_finished(view: Body, version: str) -> None:
    """Probes and timeouts get their defaults once the deployment stands."""
    properties = section(view, "properties")
    is_settled = properties.get("provisioningState") == "Succeeded"
    for name in ("livenessProbe", "readinessProbe"):
        properties.setdefault(name, dict(PROBE) if is_settled else None)
    section(properties, "requestSettings").setdefault("requestTimeout", "PT5S" if is_settled else "PT0S")


def workspace_settled(before: Body | None, after: Body, sent: Body) -> None:
    """Every sku is Basic in the end; the managed network's own rules stay."""
    after["sku"] = {"name": "Basic", "tier": "Basic"}


def compute_born(body: Body, birth: Birth) -> None:
    """An instance starts to run when it is made."""
    if str(read(body, "properties.computeType")).lower() == "computeinstance":
        section(body, "properties.properties").setdefault("state", "Running")


PATCHABLE = (
    "description",
    "friendlyName",
    "publicNetworkAccess",
    "managedNetwork",
    "encryption",
    "systemDatastoresAuthMode",
    "v1LegacyMode",
    "enableDataIsolation",
    "applicationInsights",
    "containerRegistry",
    "imageBuildCompute",
    "primaryUserAssignedIdentity",
    "serverlessComputeSettings",
    "serviceManagedResourcesSettings",
    "featureStoreSettings",
)
"""What a workspace's PATCH takes: neither hbiWorkspace nor allowPublicAccessWhenBehindVnet."""
TYPES: tuple[Habits, ...] = (
    Habits(
        WORKSPACE,
        new=Answer(202, "aao loc", body=""),
        existing=Answer(202, "aao loc", body=""),
        patch=Answer(202, "aao loc", body=""),
        delete=Answer(202, "aao loc", body=""),
        keep=("identity", "properties.managedNetwork"),
        readonly=(
            "properties.workspaceId",
            "properties.tenantId",
            "properties.creationTime",
            "properties.discoveryUrl",
            "properties.mlFlowTrackingUri",
            "properties.notebookInfo",
        ),
        shown={
            "tags": {},
            "properties.friendlyName": "",
            "properties.description": "",
            "properties.applicationInsights": None,
            "properties.hbiWorkspace": False,
            "properties.imageBuildCompute": None,
            "properties.v1LegacyMode": False,
            "properties.publicNetworkAccess": "Enabled",
            "properties.managedNetwork": {"isolationMode": "Disabled"},
            "properties.allowRoleAssignmentOnRG": old_only(True),
            "properties.storageHnsEnabled": False,
            "properties.linkedModelInventoryArmId": None,
            "properties.privateLinkCount": 0,
            "properties.allowPublicAccessWhenBehindVnet": old_only(True),
            "kind": "Default",
            "properties.sasGetterUri": "",
        },
        since={f"properties.{name}": "2022-01-01" for name in ("managedNetwork", "publicNetworkAccess", "v1LegacyMode")},
        patchable=("tags", "identity", "sku", *(f"properties.{name}" for name in PATCHABLE)),
        born=workspace_born,
        finish=workspace_finished,
        settle=workspace_settled,
        etag="body",
        reads=("listKeys", "resyncKeys", "listNotebookKeys"),
        version="2026-05-01",
    ),
    Habits(
        f"{WORKSPACE}/computes",
        new=Answer(201, "aao", "Creating"),
        existing=Answer(200, "aao", "Updating"),
        patch=Answer(200),
        delete=Answer(202, "aao", body=""),
        readonly=("properties.properties.state",),
        secret=("properties.properties.administratorAccount", "sku"),
        shown={
            "tags": None,
            "properties.description": None,
            "properties.provisioningErrors": None,
            "properties.provisioningWarnings": None,
        },
        dated={"properties.createdOn": "created", "properties.modifiedOn": "changed"},
        born=compute_born,
        finish=compute_finished,
        patchable=("properties.properties.scaleSettings",),
        settings={"updateIdleShutdownSetting": ("idleTimeBeforeShutdown", "properties.properties.idleTimeBeforeShutdown")},
        actions={
            "start": ("properties.properties.state", "Running"),
            "stop": ("properties.properties.state", "Stopped"),
            "restart": ("properties.properties.state", "Running"),
        },
        passing={"start": "Starting", "stop": "Stopping", "restart": "Restarting"},
        system_data="",
        version="2026-05-01",
    ),
    Habits(
        ENDPOINT,
        new=Answer(201, "aao loc", "Creating"),
        existing=Answer(200, "aao loc", "Updating"),
        patch=Answer(202, "aao loc", body=""),
        patchable=("tags", "identity"),
        delete=Answer(202, "aao loc", body=""),
        readonly=("properties.scoringUri", "properties.swaggerUri"),
        secret=("properties.keys",),
        shown={
            "kind": "Managed",
            "properties.authMode": "Key",
            "properties.publicNetworkAccess": "Enabled",
            "properties.traffic": {},
            "properties.compute": None,
        },
        system_data="0",
        reads=("listKeys", "token"),
        version="2026-05-01",
    ),
    Habits(
        f"{ENDPOINT}/deployments",
        new=Answer(201, "aao loc", "Updating"),
        existing=Answer(200, "aao loc", "Updating"),
        patch=Answer(202, "aao loc", body=""),
        patchable=("tags", "sku"),
        delete=Answer(202, "aao loc", body=""),
        shown={
            "kind": "Managed",
            "sku.tier": "Standard",
            "properties.codeConfiguration": None,
            "properties.description": None,
            "properties.egressPublicNetworkAccess": "Enabled",
            "properties.environmentId": None,
            "properties.modelMountPath": None,
            "properties.requestSettings.maxConcurrentRequestsPerInstance": 1,
            "properties.requestSettings.maxQueueWait": "PT0S",
            "properties.scaleSettings.scaleType": "Default",
        },
        finish=deployment_finished,
        version="2026-05-01",
    ),
    Habits(
        REGISTRY,
        new=Answer(202, "aao loc", body=""),
        existing=Answer(202, "aao loc", body=""),
        patch=Answer(200),
        delete=Answer(202, "aao loc", body=""),
        secret=("sku",),
        parts={CONNECTIONS: Part(f"{REGISTRY}/privateEndpointConnections", written=False, since="2023-01-01")},
        shown={
            "properties.publicNetworkAccess": "Enabled",
            "properties.managedResourceGroupSettings": None,
            "properties.intellectualPropertyPublisher": None,
            "properties.regionDetails[].acrDetails[].userCreatedAcrAccount": None,
            "properties.regionDetails[].storageAccountDetails[].userCreatedStorageAccount": None,
        },
        since={"properties.managedResourceGroupSettings": "2023-01-01"},
        state="",
        version="2026-05-01",
    ),
    # Never recorded: what is asynchronous, and what PATCH takes, by the published operations; codes as of online endpoints.
    Habits(
        f"{WORKSPACE}/serverlessEndpoints",
        new=Answer(201, "aao loc", "Creating"),
        existing=Answer(200, "aao loc", "Updating"),
        patch=Answer(202, "aao loc", body=""),
        patchable=("tags", "sku", "identity"),
        delete=Answer(202, "aao loc", body=""),
        readonly=tuple(
            f"properties.{name}" for name in ("endpointState", "inferenceEndpoint", "marketplaceSubscriptionId")
        ),
        reads=("listKeys",),
        version="2026-05-01",
    ),
    Habits(
        f"{WORKSPACE}/batchEndpoints",
        new=Answer(201, "aao loc", "Creating"),
        existing=Answer(200, "aao loc", "Updating"),
        patch=Answer(202, "aao loc", body=""),
        patchable=("tags", "identity"),
        delete=Answer(202, "aao loc", body=""),
        readonly=("properties.scoringUri", "properties.swaggerUri"),
        secret=("properties.keys",),
        version="2026-05-01",
    ),
    Habits(
        f"{WORKSPACE}/schedules",
        new=Answer(201, "aao loc", "Creating"),
        existing=Answer(200, "aao loc", "Updating"),
        patch=None,
        delete=Answer(202, "aao loc", body=""),
        readonly=("properties.action.jobDefinition.status", "properties.action.jobDefinition.parameters"),
        version="2026-05-01",
    ),
    Habits(
        f"{WORKSPACE}/marketplaceSubscriptions",
        new=Answer(201, "aao loc", "Creating"),
        existing=Answer(200, "aao loc", "Updating"),
        patch=None,
        delete=Answer(202, "aao loc", body=""),
        readonly=("properties.marketplacePlan", "properties.marketplaceSubscriptionStatus"),
        version="2026-05-01",
    ),
    Habits(
        f"{WORKSPACE}/outboundRules",
        new=Answer(201, "aao loc"),
        existing=Answer(200, "aao loc"),
        patch=None,
        delete=Answer(202, "aao loc", body=""),
        readonly=("properties.errorInformation", "properties.parentRuleNames"),
        state="",
        version="2026-05-01",
    ),
    Habits(
        f"{WORKSPACE}/datastores",
        patch=None,
        readonly=("properties.isDefault",),
        secret=("properties.credentials.secrets",),
        state="",
        version="2026-05-01",
    ),
    Habits(
        f"{WORKSPACE}/connections",
        new=Answer(200),
        readonly=("properties.createdByWorkspaceArmId", "properties.group"),
        secret=("properties.credentials",),
        state="",
        version="2026-05-01",
    ),
    Habits(f"{WORKSPACE}/models/versions", patch=None, version="2026-05-01"),
    Habits(
        f"{REGISTRY}/models/versions",
        new=Answer(201, "aao loc", "Creating"),
        existing=Answer(202, "aao loc", body=""),
        patch=None,
        delete=Answer(202, "aao loc", body=""),
        version="2026-05-01",
    ),
)
