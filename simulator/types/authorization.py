"""Who may do what: roles, locks, policies, managed identities."""

from __future__ import annotations

from simulator.paths import read, section
from simulator.types.habits import Answer, Birth, Body, Habits

AUTHORIZATION = "Microsoft.Authorization"
IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"


def assignment_born(body: Body, birth: Birth) -> None:
    """Who made it and when; the scope from the id."""
    properties = section(body, "properties")
    scope = birth.id[: birth.id.lower().rfind("/providers/microsoft.authorization")]
    for key, value in (
        ("principalType", "ServicePrincipal"),
        ("scope", scope),
        ("createdOn", birth.at),
        ("updatedOn", birth.at),
        ("createdBy", birth.guid("by")),
        ("updatedBy", birth.guid("by")),
    ):
        properties.setdefault(key, value)


def assignment_finished(view: Body, version: str) -> None:
    """The role is shown with the subscription's id in front."""
    properties, parts = view.get("properties", {}), view["id"].split("/")
    role = properties.get("roleDefinitionId")
    if isinstance(role, str) and role.lower().startswith("/providers/") and parts[1].lower() == "subscriptions":
        properties["roleDefinitionId"] = f"/subscriptions/{parts[2]}{role}"


def assignment_refuses(before: Body | None, sent: Body) -> tuple[int, str, str] | None:
    """Role and principal of an assignment are fixed."""
    for path in ("properties.principalId", "properties.roleDefinitionId"):
        if before is not None and str(read(before, path)).lower() != str(read(sent, path)).lower():
            message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
            return 400, "RoleAssignmentUpdateNotPermitted", message
    return None


def definition_born(body: Body, birth: Birth) -> None:
    properties = section(body, "properties")
    for key, value in (
        ("createdOn", birth.at),
        ("updatedOn", birth.at),
        ("createdBy", birth.guid("by")),
        ("updatedBy", birth.guid("by")),
    ):
        properties.setdefault(key, value)


def definition_finished(view: Body, version: str) -> None:
    """A custom role belongs to the subscription, wherever it was written."""
    parts = view["id"].split("/")
    if parts[1].lower() == "subscriptions":
        view["id"] = "/".join([*parts[:3], *parts[-4:]])


def policy_born(body: Body, birth: Birth) -> None:
    properties = section(body, "properties")
    properties.setdefault("scope", birth.id[: birth.id.lower().rfind("/providers/microsoft.authorization")])
    metadata = section(properties, "metadata")
    metadata.setdefault("createdBy", birth.guid("by"))
    metadata.setdefault("createdOn", birth.at)


def policy_finished(view: Body, version: str) -> None:
    """The service keeps its four entries in metadata; the last two are null until the first update."""
    stamps, metadata = view.get("systemData", {}), section(view, "properties.metadata")
    is_updated = stamps.get("createdAt") != stamps.get("lastModifiedAt")
    metadata["updatedBy"] = metadata.get("createdBy") if is_updated else None
    metadata["updatedOn"] = stamps.get("lastModifiedAt") if is_updated else None


def identity_born(body: Body, birth: Birth) -> None:
    properties = section(body, "properties")
    properties.setdefault("tenantId", birth.tenant)
    properties.setdefault("principalId", birth.guid("principal"))
    properties.setdefault("clientId", birth.guid("client"))


MADE = ("properties.createdOn", "properties.updatedOn", "properties.createdBy", "properties.updatedBy")

TYPES: tuple[Habits, ...] = (
    Habits(
        f"{AUTHORIZATION}/roleAssignments",
        existing=Answer(201),
        patch=None,
        delete=Answer(200, body="deleted"),
        keep=(),
        missing="RoleAssignmentNotFound",
        readonly=(*MADE, "properties.scope"),
        shown={
            "properties.condition": None,
            "properties.conditionVersion": None,
            "properties.delegatedManagedIdentityResourceId": None,
            "properties.description": None,
        },
        dated={"properties.updatedOn": "changed"},
        finish=assignment_finished,
        refuse=assignment_refuses,
        unique=("properties.principalId", "properties.roleDefinitionId"),
        born=assignment_born,
        state="",
        system_data="",
        extension=True,
        reach="both",
        version="2022-04-01",
    ),
    Habits(
        f"{AUTHORIZATION}/roleDefinitions",
        existing=Answer(201),
        patch=None,
        delete=Answer(200, body="deleted"),
        keep=(),
        missing="RoleDefinitionDoesNotExist",
        readonly=MADE,
        shown={
            "properties.type": "CustomRole",
            "properties.description": None,
            **{f"properties.permissions[].{key}": [] for key in ("actions", "notActions", "dataActions", "notDataActions")},
        },
        dated={"properties.updatedOn": "changed"},
        finish=definition_finished,
        born=definition_born,
        state="",
        system_data="",
        extension=True,
        reach="above",
        version="2022-04-01",
    ),
    Habits(
        f"{AUTHORIZATION}/locks",
        patch=None,
        keep=(),
        state="",
        system_data="2017-01-01",
        extension=True,
        reach="below",
        version="2020-05-01",
    ),
    Habits(
        f"{AUTHORIZATION}/policyAssignments",
        existing=Answer(201),
        delete=Answer(200, body="deleted"),
        keep=(),
        readonly=(
            "properties.scope",
            *(f"properties.metadata.{key}" for key in ("createdBy", "createdOn", "updatedBy", "updatedOn")),
        ),
        shown={"properties.enforcementMode": "Default"},
        finish=policy_finished,
        patchable=("location", "identity", "properties.resourceSelectors", "properties.overrides"),
        born=policy_born,
        state="",
        system_data="2021-01-01",
        extension=True,
        reach="both",
        version="2025-03-01",
    ),
    Habits(
        IDENTITY,
        new=Answer(201, "loc"),
        readonly=("properties.tenantId", "properties.principalId", "properties.clientId"),
        shown={"tags": {}},
        born=identity_born,
        state="",
        system_data="",
        version="2024-11-30",
    ),
    Habits(
        f"{IDENTITY}/federatedIdentityCredentials",
        new=Answer(201, "loc"),
        missing="NotFound",
        patch=None,
        state="",
        system_data="",
        version="2024-11-30",
    ),
)
