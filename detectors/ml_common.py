"""What the machine learning detectors share: the types' names, floors of parameters, and who may publish."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from detectors import floors
from guardrail import ids
from guardrail.documents import Node
from guardrail.errors import Malformed
from guardrail.paths import fold
from guardrail.values import Drift, Parameters

SPACE = "Microsoft.MachineLearningServices/workspaces"
COMPUTE = f"{SPACE}/computes"
ONLINE = f"{SPACE}/onlineEndpoints"
SERVERLESS = f"{SPACE}/serverlessEndpoints"
SCHEDULE = f"{SPACE}/schedules"
MODEL = f"{SPACE}/models/versions"
REGISTRY = "Microsoft.MachineLearningServices/registries"
REGISTRY_MODEL = f"{REGISTRY}/models/versions"

SOMEBODY = re.compile(r"[^\s*?]{3,254}")
MACHINES = ("application", "managedidentity")       # systemData.createdByType of what runs without a person


def noted(drifts: Iterable[Drift], note: str) -> Iterator[Drift]:
    """The same places, left to a person with a reason."""
    for drift in drifts:
        yield replace(drift, decided=False, note=note)


def certain(drifts: Iterable[Drift]) -> Iterator[Drift]:
    """The same places, wrong beyond doubt: nothing mends them, and their control isolates."""
    for drift in drifts:
        yield replace(drift, decided=True)


def subscription_of(id: Any) -> str:
    """The folded subscription of an ARM id; "" for anything else."""
    try:
        return ids.subscription(ids.parse(id)) if isinstance(id, str) else ""
    except Malformed:
        return ""


def is_known(subscription: str, node: Node, p: Parameters) -> bool:
    """Whether it is the node's own subscription, or one of `trusted_subscriptions`."""
    known = {ids.subscription(node.id), *(fold(one) for one in p["trusted_subscriptions"])}
    return fold(subscription) in known


def in_managed_network(node: Node, p: Parameters) -> bool:
    """Whether a parameter says that the workspace keeps its own network: its document cannot be seen from here."""
    space = ids.up_to(node.id, SPACE)
    return space is not None and fold(space) in map(fold, p["managed_network_workspaces"])


def is_published(node: Node, did: str, p: Parameters) -> bool:
    """Whether an approved identity did it: `did` is "created" or "lastModified".

    Without `approved_publishers` any application or managed identity is one, and no person: pipelines publish.
    """
    by, kind = node.text(f"systemData.{did}By"), node.text(f"systemData.{did}ByType")
    publishers = p["approved_publishers"]
    return by in map(fold, publishers) if publishers else kind in MACHINES


def listed(pattern: re.Pattern[str], what: str) -> Callable[[Any], str]:
    """Floor: a list of `what`, spelled out; a wildcard would stand for all of them."""
    def floor(value: Any) -> str:
        sound = isinstance(value, (list, tuple)) and all(isinstance(one, str) and pattern.fullmatch(one) for one in value)
        return "" if sound else f"must be a list of {what}, without wildcards"
    return floor


publishers = listed(SOMEBODY, "names or object ids as systemData shows them")
NETWORKS: dict[str, Any] = {"managed_network_workspaces": ()}
NETWORKS_FLOOR = {"managed_network_workspaces": floors.resource_ids}
