"""What watches: diagnostic settings, Log Analytics, Sentinel, Event Grid subscriptions."""

from __future__ import annotations

from simulator.paths import drop, read, section
from simulator.types.habits import Answer, Birth, Body, Habits

WORKSPACE = "Microsoft.OperationalInsights/workspaces"
DESTINATIONS = (
    "storageAccountId",
    "serviceBusRuleId",
    "workspaceId",
    "eventHubAuthorizationRuleId",
    "eventHubName",
    "logAnalyticsDestinationType",
)


def workspace_born(body: Body, birth: Birth) -> None:
    properties = section(body, "properties")
    properties.setdefault("customerId", birth.guid("customer"))


def subscription_settled(before: Body | None, after: Body, sent: Body) -> None:
    """What is off is not kept."""
    if read(after, "properties.filter.isSubjectCaseSensitive") is False:
        drop(after, "properties.filter.isSubjectCaseSensitive")


def subscription_finished(view: Body, version: str) -> None:
    """The topic is what it extends; some defaults are filled in only once it is settled."""
    properties = section(view, "properties")
    properties["topic"] = view["id"][: view["id"].lower().rfind("/providers/microsoft.eventgrid/eventsubscriptions")]
    is_settled = properties.get("provisioningState") == "Succeeded"
    if is_settled or "filter" not in properties:
        filter = section(properties, "filter")
        filter.setdefault("subjectBeginsWith", "")
        filter.setdefault("subjectEndsWith", "")
    if is_settled:
        properties.setdefault("eventDeliverySchema", "EventGridSchema")


def alert_rule_finished(view: Body, version: str) -> None:
    """Rules that make incidents of other products' alerts show their unset filters as null."""
    if view.get("kind") == "MicrosoftSecurityIncidentCreation":
        for name in (
            "severitiesFilter",
            "displayNamesFilter",
            "displayNamesExcludeFilter",
            "description",
            "alertRuleTemplateName",
        ):
            section(view, "properties").setdefault(name, None)


def onboarding_settled(before: Body | None, after: Body, sent: Body) -> None:
    if read(after, "properties.customerManagedKey") is False:
        drop(after, "properties.customerManagedKey")


TYPES: tuple[Habits, ...] = (
    Habits(
        "Microsoft.Insights/diagnosticSettings",
        new=Answer(200),
        patch=None,
        keep=(),
        shown={
            **{f"properties.{name}": None for name in DESTINATIONS},
            "properties.logs": [],
            "properties.metrics": [],
            "properties.logs[].categoryGroup": None,
            "properties.logs[].category": None,
            **{f"properties.{kind}[].retentionPolicy": {"enabled": False, "days": 0} for kind in ("logs", "metrics")},
            "kind": None,
            "location": None,
            "tags": None,
            "identity": None,
        },
        state="",
        system_data="",
        bare=True,
        extension=True,
        version="2021-05-01-preview",
    ),
    Habits(
        WORKSPACE,
        new=Answer(201, "loc", "Creating"),
        answers_from=("2025-02-01", Answer(201, "aao loc", "Creating"), Answer(200, "aao loc", "Updating")),
        rewrite={"properties.sku.name": {"standalone": "PerGB2018", "pernode": "PerGB2018"}},
        readonly=("properties.customerId", "properties.createdDate", "properties.modifiedDate"),
        shown={
            "properties.sku.name": "PerGB2018",
            "properties.features.legacy": 0,
            "properties.features.searchVersion": 1,
            "properties.features.enableLogAccessUsingOnlyResourcePermissions": True,
            "properties.workspaceCapping.dailyQuotaGb": -1.0,
            "properties.workspaceCapping.dataIngestionStatus": "RespectQuota",
            "properties.retentionInDays": 30,
            "properties.publicNetworkAccessForIngestion": "Enabled",
            "properties.publicNetworkAccessForQuery": "Enabled",
        },
        dated={
            "properties.createdDate": "created",
            "properties.modifiedDate": "changed",
            "properties.sku.lastSkuUpdate": "created",
            "properties.workspaceCapping.quotaNextResetTime": "changed",
        },
        born=workspace_born,
        etag="body",
        system_data="",
        soft=lambda sent: True,
        version="2025-07-01",
    ),
    Habits(
        "Microsoft.EventGrid/eventSubscriptions",
        new=Answer(201, "aao", "Creating"),
        existing=Answer(201, "aao", "Creating"),
        patch=Answer(201, "aao", "Updating"),
        delete=Answer(202, "aao loc", body=""),
        keep=("properties.eventDeliverySchema",),
        orphan="ResourceNotFound",
        unwrapped=True,
        readonly=("properties.topic",),
        shown={
            "properties.labels": None,
            "properties.retryPolicy.maxDeliveryAttempts": 30,
            "properties.retryPolicy.eventTimeToLiveInMinutes": 1440,
        },
        settle=subscription_settled,
        finish=subscription_finished,
        extension=True,
        version="2025-02-15",
    ),
    Habits(
        "Microsoft.SecurityInsights/alertRules",
        patch=None,
        etag="body",
        state="",
        system_data="",
        extension=True,
        dated={"properties.lastModifiedUtc": "changed"},
        finish=alert_rule_finished,
        version="2025-09-01",
    ),
    Habits(
        "Microsoft.SecurityInsights/onboardingStates",
        patch=None,
        settle=onboarding_settled,
        state="",
        extension=True,
        version="2025-09-01",
    ),
)
