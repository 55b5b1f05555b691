"""How ARM reads and writes container registries. PATCH merges, also inside networkRuleSet (recorded). Types of 2025-11-01."""

from __future__ import annotations

from collections.abc import Iterator

from guardrail.documents import Node
from guardrail.paths import ABSENT
from guardrail.values import COMMON, Drift, Parameters, ResourceType, Route

REGISTRY = "Microsoft.ContainerRegistry/registries"


def cut_off(registry: Node, _: Parameters) -> Iterator[Drift]:
    """No admin user, nobody anonymous, and where the SKU can be closed no public network."""
    yield from registry.expect("properties.adminUserEnabled", one_of=(False,), absent=False)
    yield from registry.expect("properties.anonymousPullEnabled", one_of=(False,), absent=False)
    if registry.text("sku.name") != "premium":
        return      # below Premium the network cannot be restricted: Azure would refuse the whole patch
    yield from registry.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")
    if registry.get("properties.networkRuleSet") is not ABSENT:
        yield from registry.expect("properties.networkRuleSet.defaultAction", one_of=("Deny",), absent="Allow")


TYPES = (
    ResourceType(
        REGISTRY, "2025-11-01",
        (
            Route(update="PATCH", readonly=(
                *COMMON, "identity.principalId", "identity.tenantId", "sku.tier",
                *(f"properties.{name}" for name in (
                    "loginServer", "creationDate", "status", "dataEndpointHostNames", "privateEndpointConnections",
                    "policies.retentionPolicy.lastUpdatedTime", "encryption.keyVaultProperties.versionedKeyIdentifier",
                    "encryption.keyVaultProperties.keyRotationEnabled",
                    "encryption.keyVaultProperties.lastKeyRotationTimestamp")))),
            Route("+diagnosticSettings[name]", "{id}/providers/Microsoft.Insights/diagnosticSettings/{name}",
                  "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True),
        ),
        isolate=cut_off, born="properties.creationDate", dependants=("properties.privateEndpointConnections",),
    ),
)
