"""Microsoft Defender for Cloud: plans, contacts, settings of a subscription."""

from __future__ import annotations

from simulator.paths import section
from simulator.types.habits import Answer, Body, Habits

SECURITY = "Microsoft.Security"
PLANS = (
    "VirtualMachines",
    "SqlServers",
    "AppServices",
    "StorageAccounts",
    "SqlServerVirtualMachines",
    "KubernetesService",
    "ContainerRegistry",
    "KeyVaults",
    "Dns",
    "Arm",
    "OpenSourceRelationalDatabases",
    "CosmosDbs",
    "Containers",
    "CloudPosture",
    "Api",
    "AI",
)


def plan_settled(before: Body | None, after: Body, sent: Body) -> None:
    """Going to Free drops sub-plan and extensions; Standard without a sub-plan is the full plan."""
    properties = section(after, "properties")
    if str(properties.get("pricingTier", "Free")).lower() == "free":
        for key in ("subPlan", "extensions", "enforce", "enablementTime"):
            properties.pop(key, None)


FULL = {"VirtualMachines": "P2", "StorageAccounts": "DefaultV2StorageAccount"}
"""Plan -> its full sub-plan, which Standard without a subPlan means."""


def plan_finished(view: Body, version: str) -> None:
    if str(section(view, "properties").get("pricingTier")).lower() == "standard":
        section(view, "properties")["enablementTime"] = view.get("systemData", {}).get("lastModifiedAt")
        if view["name"] in FULL:
            section(view, "properties").setdefault("subPlan", FULL[view["name"]])


def setting_refuses(before: Body | None, sent: Body) -> tuple[int, str, str] | None:
    """The kind of a setting is fixed."""
    is_other = before is not None and before.get("kind") and sent.get("kind", before["kind"]) != before["kind"]
    return (400, "InvalidSettingsInput", "Kind doesn't match the setting") if is_other else None


TYPES: tuple[Habits, ...] = (
    Habits(
        f"{SECURITY}/pricings",
        new=Answer(200),
        patch=None,
        keep=(),
        can_delete=False,
        settle=plan_settled,
        finish=plan_finished,
        shown={"properties.pricingTier": "Free", "properties.freeTrialRemainingTime": "PT0S"},
        state="",
        system_data="",
        version="2024-01-01",
    ),
    Habits(
        f"{SECURITY}/securityContacts",
        new=Answer(201),
        keep=(),
        etag="body",
        shown={"location": "West Europe"},
        state="",
        system_data="",
        version="2023-12-01-preview",
    ),
    Habits(
        f"{SECURITY}/settings",
        new=Answer(200),
        patch=None,
        refuse=setting_refuses,
        keep=(),
        can_delete=False,
        state="",
        system_data="",
        version="2022-05-01",
    ),
    Habits(
        f"{SECURITY}/autoProvisioningSettings",
        new=Answer(200),
        patch=None,
        keep=(),
        can_delete=False,
        shown={"properties.autoProvision": "Off"},
        state="",
        system_data="",
        version="2017-08-01-preview",
    ),
)
