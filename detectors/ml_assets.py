"""What machine learning keeps and runs by itself: registered models, schedules and monitors, registries.

Enumerations: schema 2026-05-01. Nobody's approval stands in a document; who wrote it last does, in systemData.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from detectors import floors
from detectors.ml_common import MODEL, REGISTRY, REGISTRY_MODEL, SCHEDULE, certain, is_published, publishers
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold, get, join, parse, same, show
from guardrail.values import Control, Drift, Parameters

KEPT = ("modelUri", "modelType", "stage", "isArchived", "jobName", "flavors")
SIGNALS = "properties.action.monitorDefinition.signals"
MAILS = "properties.action.monitorDefinition.alertNotificationSettings.emailNotificationSettings.emails"
KIND = "properties.action.actionType"
HOURS = {"minute": 1 / 60, "hour": 1, "day": 24, "week": 168, "month": 744}
SIGNAL_KINDS = ("Custom", "DataDrift", "DataQuality", "FeatureAttributionDrift", "PredictionDrift")


def version_unchanged(version: Node, p: Parameters) -> Iterator[Drift]:
    """Drift when a registered version is not what it was when last known good, and no approved identity changed it;
    when a required tag is gone; when the version itself is. What was never known good is a person's to judge.
    """
    good = version.known_good
    if version.get() is ABSENT:
        if good.get("properties"):
            yield Drift("", ABSENT, good.get(), note="a registered version was deleted")
        return
    for tag in p["required_tags"]:
        at = _under("properties.tags", tag)
        if version.get(at) is ABSENT:
            was = good.get(at)
            yield Drift(at, ABSENT, was, decided=was is not ABSENT, note=f"the tag {tag} is required")
    stage = version.text("properties.stage")
    if p["allowed_stages"] and stage not in map(fold, p["allowed_stages"]):
        yield from version.undecided("properties.stage", "not an allowed stage")
    if good.get("properties") and not is_published(version, "lastModified", p):
        yield from _moved(version, good, p)


def _moved(version: Node, good: Node, p: Parameters) -> Iterator[Drift]:
    required = {fold(tag) for tag in p["required_tags"]}
    tags = {fold(tag): tag for node in (version, good) for tag in _names(node, "properties.tags")}
    places = [f"properties.{name}" for name in KEPT]
    places += [_under("properties.tags", tag) for folded, tag in tags.items() if folded not in required]
    for at in places:
        now, was = version.get(at), good.get(at)
        if not same(now, was):
            yield Drift(at, now, was, note="not what it was when last known good")


def _names(node: Node, path: str) -> list[str]:
    value = node.get(path)
    return [name for name, inner in value.items() if inner is not None] if isinstance(value, Mapping) else []


def _under(path: str, name: str) -> str:
    return join(path, show((name,)))


def published_by_pipeline(version: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while the version of a shared registry was last changed by nobody approved, or lacks a required tag.

    Without `approved_publishers` applications and managed identities are approved, and people are not.
    """
    if not is_published(version, "lastModified", p):
        yield from certain(version.undecided("systemData.lastModifiedByType", "published by nobody who is approved"))
    for tag in p["required_tags"]:
        if version.get(_under("properties.tags", tag)) is ABSENT:
            yield from certain(version.undecided(_under("properties.tags", tag), f"the tag {tag} is required"))


def monitor_runs(schedule: Node, p: Parameters) -> Iterator[Drift]:
    """Drift when a model monitor is off, gone, rarer than `max_interval_hours`, or lacks a signal or its addresses.

    What is missing comes back from what was known good; where it never was, a person decides. Absent isEnabled: on.
    """
    good = schedule.known_good
    was_monitor = good.text(KIND) == "createmonitor"
    if schedule.get() is ABSENT:
        if was_monitor:
            yield Drift("", ABSENT, good.get(), note="a model monitor was deleted")
        return
    if schedule.text(KIND) != "createmonitor":
        if was_monitor:
            yield Drift("properties.action", schedule.get("properties.action"), good.get("properties.action"),
                        note="a model monitor was made something else")
        return
    yield from schedule.expect("properties.isEnabled", one_of=(True,), absent=True)
    yield from _signals(schedule, good, p)
    if not list(schedule.items(MAILS)):
        yield from _back(schedule, good, MAILS, "alerts go to nobody")
    every = hours(schedule)
    if every is None or every > p["max_interval_hours"]:
        once = hours(good)
        known = once is not None and once <= p["max_interval_hours"]
        note = "runs too rarely, or it cannot be seen how often"
        yield from _back(schedule, good if known else None, "properties.trigger", note)


def _signals(schedule: Node, good: Node, p: Parameters) -> Iterator[Drift]:
    kinds = {schedule.text(f"{_under(SIGNALS, name)}.signalType") for name in _names(schedule, SIGNALS)}
    for name in _names(good, SIGNALS):
        at = _under(SIGNALS, name)
        if schedule.get(at) is ABSENT:
            yield Drift(at, ABSENT, good.get(at), note="a signal of the monitor is gone")
            kinds.add(good.text(f"{at}.signalType"))
    for kind in p["required_signals"]:
        if fold(kind) not in kinds:
            yield from schedule.undecided(SIGNALS, f"no signal {kind}")


def _back(schedule: Node, good: Node | None, path: str, note: str) -> Iterator[Drift]:
    was = good.get(path) if good else ABSENT
    yield Drift(path, schedule.get(path), was, decided=was is not ABSENT and was != [], note=note)


def hours(schedule: Node) -> float | None:
    """The most hours between two runs; None where it cannot be told. A cron line is read by its restricted fields."""
    every = schedule.get("properties.trigger.interval")
    unit = HOURS.get(schedule.text("properties.trigger.frequency"))
    if unit is not None and isinstance(every, int) and not isinstance(every, bool) and every > 0:
        return unit * every
    fields = schedule.text("properties.trigger.expression").split()
    if schedule.text("properties.trigger.triggerType") != "cron" or len(fields) != 5:
        return None
    _, hour, day, month, weekday = fields
    return 8784 if month != "*" else 744 if day != "*" else 168 if weekday != "*" else 24 if hour != "*" else 1


def job_by_pipeline(schedule: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for a schedule of jobs that nobody approved made: code that runs on a timer with the workspace's access.

    Without `approved_publishers` applications and managed identities are approved, and people are not. Monitors pass.
    """
    if schedule.text(KIND) != "createmonitor" and not is_published(schedule, "created", p):
        yield from certain(schedule.undecided("systemData.createdByType", "made by nobody who is approved"))


def registry_closed(registry: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while the registry is open to any network. Absent means Enabled, as GET shows it. A string without an enum."""
    yield from registry.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")


def registry_blobs_private(registry: Node, _: Parameters) -> Iterator[Drift]:
    """Drift for each storage account of the registry that lets everybody read. Absent counts as false.

    GET left out a false that had been sent (recorded, 2024-04-01); whether it shows a true was never seen.
    """
    for region in registry.items("properties.regionDetails", "location"):
        accounts = region.get("storageAccountDetails")
        for account in accounts if isinstance(accounts, Iterable) and not isinstance(accounts, str) else ():
            if _may_be_public(account):
                yield from region.undecided("storageAccountDetails", "fixed at creation, in a group that the service locks")
                break


def _may_be_public(account: Any) -> bool:
    return get(account, parse("systemCreatedStorageAccount.allowBlobPublicAccess")) not in (False, ABSENT)


def _hours(value: Any) -> str:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return "" if is_number and 1 <= value <= 744 else "must be hours, from 1 to 744"


PUBLISHERS: dict[str, Any] = {"approved_publishers": ()}
PUBLISHERS_FLOOR = {"approved_publishers": publishers}
PARENT = MODEL.rsplit("/", 1)[0]

CONTROLS = (
    Control(
        "ml-model-version-tampered", version_unchanged, on=MODEL, severity="high", response="revert", learns=True,
        judges_gone=True,
        triggered_by=(f"{MODEL}/write", f"{MODEL}/delete", f"{PARENT}/write", f"{PARENT}/delete"),
        title="Registered model version is as its pipeline left it",
        why="poisoned weights under a trusted name, or a lineage that is lost",
        breaks="a promotion by hand; a version that was deleted on purpose",
        parameters={**PUBLISHERS, "required_tags": ("approved_by",), "allowed_stages": ()},
        floors={**PUBLISHERS_FLOOR, "required_tags": floors.names, "allowed_stages": floors.names},
        drift={"properties.stage": "Production", "systemData.lastModifiedByType": "User"},
    ),
    Control(
        "ml-registry-model-version", published_by_pipeline, on=REGISTRY_MODEL, severity="high", response="isolate",
        triggered_by=(f"{REGISTRY_MODEL}/write", f"{REGISTRY_MODEL}/delete"),
        title="Registry models are published by approved identities",
        why="every workspace that uses the registry gets the bad model",
        breaks="whoever looks for that version: it is archived, and still answers to its full id",
        asks="a colleague's release looks the same",
        parameters={**PUBLISHERS, "required_tags": ()},
        floors={**PUBLISHERS_FLOOR, "required_tags": floors.names},
        drift={"systemData.lastModifiedByType": "User"},
    ),
    Control(
        "ml-model-monitor-schedule", monitor_runs, on=SCHEDULE, severity="medium", response="revert", learns=True,
        judges_gone=True, triggered_by=(f"{SCHEDULE}/write", f"{SCHEDULE}/delete"),
        title="Model monitors run, with their signals and addresses",
        why="alarms of drift and quality go silent", breaks="a pause that was planned",
        parameters={"required_signals": ("DataDrift",), "max_interval_hours": 168},
        floors={"required_signals": floors.some_of(SIGNAL_KINDS), "max_interval_hours": _hours},
        drift={"properties.isEnabled": False},
    ),
    Control(
        "ml-schedule-unapproved-job", job_by_pipeline, on=SCHEDULE, severity="medium", response="isolate",
        triggered_by=(f"{SCHEDULE}/write",),
        title="Job schedules are made by approved identities",
        why="a foothold that stays: code runs on a timer with the workspace's access to data",
        breaks="the job: its schedule is switched off", asks="a colleague's schedule looks the same",
        parameters=PUBLISHERS, floors=PUBLISHERS_FLOOR,
        drift={"systemData.createdByType": "User", "properties.action": {
            "actionType": "CreateJob", "jobDefinition": {
                "jobType": "Command", "command": "python train.py",
                "environmentId": "azureml://registries/azureml/environments/sklearn-1.5/versions/1"}}},
    ),
    Control(
        "ml-registry-public-network-access", registry_closed, on=REGISTRY, severity="high", response="revert",
        triggered_by=(f"{REGISTRY}/write",),
        title="ML registry is closed to the public network",
        why="models and environments can be stolen or poisoned for all workspaces that use it",
        breaks="workspaces without a private endpoint to it",
        asks="it takes a PUT, and GET shows neither the sku nor all of the managed storage",
        drift={"properties.publicNetworkAccess": "Enabled"},
    ),
    Control(
        "ml-registry-storage-public-blob", registry_blobs_private, on=REGISTRY, severity="high", response="report",
        triggered_by=(f"{REGISTRY}/write",),
        title="Storage of the ML registry is not public",
        why="what the registry keeps can be read by anybody", breaks="",
        drift={"properties.regionDetails[location='eastus'].storageAccountDetails": [
            {"systemCreatedStorageAccount": {"storageAccountName": "a1b2c3d4e5f", "storageAccountType": "Standard_LRS",
                                             "allowBlobPublicAccess": True}}]},
    ),
)
