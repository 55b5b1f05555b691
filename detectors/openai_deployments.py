"""Azure OpenAI: what a model deployment serves, where, how much of it, and where its overflow goes.

Judged in the account's document, where deployments are mounted. Enumerations: schema 2026-07-01. What may not run is
paused: inference answers 423, the deployment stays (published client, 2026). sku alone can be patched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from detectors import floors
from detectors.openai import DEFAULT_POLICY, DEPLOYMENTS, POINTER, POLICIES, at_least_as_strong, strength
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold
from guardrail.values import Check, Control, Drift, Parameters, Severity

ACCOUNT = "Microsoft.CognitiveServices/accounts"
STATE = "properties.deploymentState"
UPGRADE = "properties.versionUpgradeOption"
SPILLOVER = "properties.spilloverDeploymentName"
REGIONAL = ("Standard", "ProvisionedManaged")       # every other SKU may process outside the region
PAUSABLE = ("standard", "datazonestandard", "globalstandard")
PINNED = ("OnceCurrentVersionExpired", "NoAutoUpgrade")
MOST_CAPACITY = 10_000


def sku(deployment: Node) -> str:
    """The folded SKU; documents of older days tell it as scaleType."""
    return deployment.text("sku.name") or deployment.text("properties.scaleSettings.scaleType")


def _paused(deployment: Node, note: str) -> Iterator[Drift]:
    """Drift while a deployment that should not run does. Absent deploymentState means Running."""
    if sku(deployment) in PAUSABLE or deployment.text(STATE) == "paused":
        yield from deployment.expect(STATE, one_of=("Paused",), absent="Running", known=("Running",))
    else:
        yield from deployment.undecided("sku.name", f"{note}; this SKU cannot be paused, and deleting is a person's")


def processed_in_region(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a deployment runs whose SKU is not in `allowed_deployment_skus`: its prompts may leave the region.

    Whether a SKU can be changed in place was not verified, so the deployment is paused.
    """
    allowed = set(map(fold, p["allowed_deployment_skus"]))
    for deployment in account.items(DEPLOYMENTS, "name"):
        if sku(deployment) not in allowed:
            yield from _paused(deployment, "it may process prompts outside the region")


def capacity_is_bounded(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for a capacity above the SKU's `max_capacity` (thousands of tokens a minute, or PTUs).

    A capacity that is not told, a SKU without a limit, and a sum above `max_total` (0: no limit) are left to a person.
    """
    limits, total = {fold(name): most for name, most in p["max_capacity"].items()}, 0
    for deployment in account.items(DEPLOYMENTS, "name"):
        now, limit = deployment.get("sku.capacity"), limits.get(sku(deployment))
        if not isinstance(now, int) or isinstance(now, bool) or limit is None:
            yield from deployment.undecided("sku.capacity", "no capacity is told, or no limit is set for this SKU")
            continue
        total += now
        if now > limit:
            yield from deployment.expect("sku.capacity", one_of=(limit,), known=(now,))
    if 0 < p["max_total"] < total:
        yield from account.undecided(DEPLOYMENTS, f"together {total}: more than max_total, and which to lower is a choice")


def version_is_pinned(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a deployment takes up new default versions by itself, as it does when absent (recorded, 2025-06-01).

    A model without a version follows the default too; which version was meant only a person knows.
    """
    for deployment in account.items(DEPLOYMENTS, "name"):
        yield from deployment.expect(UPGRADE, one_of=p["allowed_upgrade_options"], absent="OnceNewDefaultVersionAvailable",
                                     known=("OnceNewDefaultVersionAvailable", *PINNED))
        if not deployment.text("properties.model.version"):
            yield from deployment.undecided("properties.model.version", "no version is named")


def model_is_approved(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a deployment serves a model that is not approved, or one copied from an account that is not.

    Approved: its publisher (its format, where none is told) or `format/name` or `format/name/version` is listed; with
    both lists empty any model is. The models that a router may choose are judged too. The model of a deployment cannot
    be changed, so the deployment is paused.
    """
    for deployment in account.items(DEPLOYMENTS, "name"):
        routed = deployment.items("properties.routing.models", "name")
        notes = [_why_not(deployment, "properties.model.", p), *(_why_not(model, "", p) for model in routed)]
        note = next(filter(None, notes), "")
        if note:
            yield from _paused(deployment, note)


def _why_not(node: Node, at: str, p: Parameters) -> str:
    source, own = node.text(f"{at}sourceAccount"), fold(node.id)
    if source and source not in {own, *map(fold, p["allowed_source_accounts"])}:
        return "its model was copied from an account that is not approved"
    publishers, models = set(map(fold, p["allowed_publishers"])), set(map(fold, p["allowed_models"]))
    if not publishers and not models:
        return ""
    format, name, version = (node.text(f"{at}{part}") for part in ("format", "name", "version"))
    listed = {f"{format}/{name}", f"{format}/{name}/{version}"} & models
    return "" if listed or (node.text(f"{at}publisher") or format) in publishers else "its model is not approved"


def overflow_is_as_safe(account: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while a deployment's overflow goes to one with a weaker content filter, or that may leave the region.

    Absent: no spillover. Whether leaving the name out of a PUT clears it was not verified: the read afterwards tells.
    """
    allowed = set(map(fold, p["allowed_deployment_skus"]))
    policies = {policy.text("name"): policy for policy in account.items(POLICIES, "name")}
    deployments = {one.text("name"): one for one in account.items(DEPLOYMENTS, "name")}
    strengths = {name: strength(policy) for name, policy in policies.items()}
    for deployment in deployments.values():
        target = deployment.text(SPILLOVER)
        if not target:
            if deployment.get(SPILLOVER) is not ABSENT:
                yield from deployment.undecided(SPILLOVER, "no name of a deployment")
            continue
        other = deployments.get(target)
        ours, theirs = (one.text(POINTER) or fold(DEFAULT_POLICY) if one else "" for one in (deployment, other))
        if other is None or (ours != theirs and not {ours, theirs} <= strengths.keys()):
            found = deployment.undecided(SPILLOVER, "where it leads, or through which filter, cannot be told")
        elif (sku(other) not in {*allowed, sku(deployment)}
              or (ours != theirs and not at_least_as_strong(strengths[theirs], strengths[ours]))):
            found = deployment.expect(SPILLOVER, known=(deployment.get(SPILLOVER),))
        else:
            continue
        # where both were weak, mending the first one's filter makes this speak, and opens nothing
        measures = (deployment.path(POINTER), *(policies[name].path() for name in {ours} & policies.keys()))
        yield from (replace(drift, measures=measures) for drift in found)


def _capacities(value: Any) -> str:
    """Floor: a limit for each SKU named, from 1 to MOST_CAPACITY."""
    sound = isinstance(value, Mapping) and all(
        isinstance(name, str) and name.isalnum() and type(most) is int and 1 <= most <= MOST_CAPACITY
        for name, most in value.items())
    return "" if sound else f"must give each SKU a whole number from 1 to {MOST_CAPACITY}"


def _total(value: Any) -> str:
    return "" if type(value) is int and value >= 0 else "must be a whole number; 0 for no limit"


SKUS = ("Standard", "ProvisionedManaged", "DataZoneStandard", "DataZoneProvisionedManaged", "DataZoneBatch")
EVENTS = tuple(f"{ACCOUNT}/deployments/{verb}" for verb in ("write", "delete"))


def _control(id: str, check: Check, severity: Severity, drift: Mapping[str, Any], **fields: Any) -> Control:
    return Control(f"openai-deployment-{id}", check, on=ACCOUNT, severity=severity, response="revert", drift=drift,
                   also_reads=fields.pop("also_reads", (DEPLOYMENTS,)),
                   triggered_by=fields.pop("triggered_by", EVENTS), **fields)


CHAT, BATCH = (f"{DEPLOYMENTS}[name='{name}']" for name in ("chat-gpt", "chat-batch"))


CONTROLS = (
    _control(
        "sku-data-residency", processed_in_region, "critical", {f"{CHAT}.sku.name": "GlobalStandard"},
        triggered_by=(*EVENTS, f"{ACCOUNT}/deployments/resume/action"),
        title="No deployment runs that may process outside the region",
        why="prompts are processed in any region of Azure or of the data zone",
        breaks="the deployment is paused: its callers are refused",
        parameters={"allowed_deployment_skus": REGIONAL},
        floors={"allowed_deployment_skus": floors.some_of(SKUS)}),
    _control(
        "model-allow-list", model_is_approved, "high",
        {f"{CHAT}.properties.model.sourceAccount": "/subscriptions/00000000-0000-0000-0000-00000000000f/resourceGroups/rg"
                                                   "/providers/Microsoft.CognitiveServices/accounts/elsewhere"},
        triggered_by=(*EVENTS, f"{ACCOUNT}/deployments/resume/action"),
        title="No deployment runs a model that is not approved",
        why="a model that nobody reviewed, with other terms, or copied from another account is put in service",
        breaks="the deployment is paused: its callers are refused",
        parameters={"allowed_publishers": (), "allowed_models": (), "allowed_source_accounts": ()},
        floors={"allowed_publishers": floors.names, "allowed_models": floors.names,
                "allowed_source_accounts": floors.resource_ids}),
    _control(
        "capacity", capacity_is_bounded, "medium", {f"{CHAT}.sku": {"name": "Standard", "capacity": 1000}},
        title="Capacity of a deployment is within its limit",
        why="the rate limit is the only brake on a stolen or runaway client",
        breaks="traffic above the limit is refused with 429; committed capacity may cost all the same",
        parameters={"max_capacity": {"Standard": 100, "GlobalStandard": 100}, "max_total": 0},
        floors={"max_capacity": _capacities, "max_total": _total}),
    _control(
        "version-upgrade", version_is_pinned, "low", {f"{CHAT}.{UPGRADE}": "OnceNewDefaultVersionAvailable"},
        title="Deployment keeps the version of its model",
        why="a new version changes what the application says without anybody's approval",
        breaks="teams that rely on automatic upgrades",
        parameters={"allowed_upgrade_options": PINNED}, floors={"allowed_upgrade_options": floors.some_of(PINNED)}),
    _control(
        "spillover", overflow_is_as_safe, "medium",
        {f"{CHAT}.{SPILLOVER}": "chat-batch", f"{BATCH}.{POINTER}": "Microsoft.DefaultV2"},
        also_reads=(DEPLOYMENTS, POLICIES),
        triggered_by=(*EVENTS, *(f"{ACCOUNT}/raiPolicies/{verb}" for verb in ("write", "delete"))),
        title="Overflow goes to a deployment that is as safe",
        why="overflow passes by the content filter or the region of the first deployment",
        breaks="peaks above the capacity are refused with 429",
        parameters={"allowed_deployment_skus": REGIONAL},
        floors={"allowed_deployment_skus": floors.some_of(SKUS)}),
)
