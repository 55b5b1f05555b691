"""How ARM reads and writes registered models, schedules and registries of machine learning. None has a useful PATCH."""

from __future__ import annotations

from collections.abc import Iterator

from guardrail.documents import Node
from guardrail.values import COMMON, Drift, Parameters, ResourceType, Route
from remediators.ml_workspaces import DIAGNOSTICS, SPACE

MODEL = f"{SPACE}/models/versions"
SCHEDULE = f"{SPACE}/schedules"
REGISTRY = "Microsoft.MachineLearningServices/registries"
REGISTRY_MODEL = f"{REGISTRY}/models/versions"


def archived(version: Node, _: Parameters) -> Iterator[Drift]:
    """Out of every list; who names the version in full still gets it (not verified)."""
    yield from version.expect("properties.isArchived", one_of=(True,), absent=False)


def paused(schedule: Node, _: Parameters) -> Iterator[Drift]:
    """A schedule that starts nothing."""
    yield from schedule.expect("properties.isEnabled", one_of=(False,), absent=True)


def closed(registry: Node, _: Parameters) -> Iterator[Drift]:
    """No public network: workspaces with a private endpoint stay."""
    yield from registry.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")


# All PUTs here were never recorded over what stands: unproven.
TYPES = (
    ResourceType(MODEL, "2026-05-01", (Route(update="PUT", create=True),), isolate=archived),
    ResourceType(
        SCHEDULE, "2026-05-01",
        (Route(update="PUT", create=True, readonly=(
            *COMMON, "properties.action.jobDefinition.status", "properties.action.jobDefinition.parameters")),),
        isolate=paused, stops={"properties.isEnabled": (False,)},
    ),
    ResourceType(
        REGISTRY, "2026-05-01",
        (Route(update="PUT", readonly=(*COMMON, "identity.principalId", "identity.tenantId")), DIAGNOSTICS),
        # systemData is null (recorded); the group that the service makes has a new GUID in its name each time
        isolate=closed, born="properties.managedResourceGroup.resourceId",
    ),
    ResourceType(REGISTRY_MODEL, "2026-05-01", (Route(update="PUT"),), isolate=archived),
)
