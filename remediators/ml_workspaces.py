"""How ARM reads and writes machine learning workspaces and what is mounted in them. PATCH merges (recorded)."""

from __future__ import annotations

from collections.abc import Iterator

from guardrail.documents import Node
from guardrail.values import COMMON, Drift, Parameters, ResourceType, Route

SPACE = "Microsoft.MachineLearningServices/workspaces"
DIAGNOSTICS = Route("+diagnosticSettings[name]", "{id}/providers/Microsoft.Insights/diagnosticSettings/{name}",
                    "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True)

# Marked read-only in the published type.
SERVER_WRITTEN = ("identity.principalId", "identity.tenantId", *(f"properties.{name}" for name in (
    "mlFlowTrackingUri", "notebookInfo", "privateEndpointConnections", "privateLinkCount", "serviceProvisionedResourceGroup",
    "storageHnsEnabled", "tenantId", "workspaceId", "managedNetwork.networkId", "managedNetwork.firewallPublicIpAddress")))


def cut_off(space: Node, _: Parameters) -> Iterator[Drift]:
    """No public network: whoever comes through an approved private endpoint stays."""
    yield from space.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")


TYPES = (
    ResourceType(
        SPACE, "2026-05-01",
        (
            # PATCH takes neither hbiWorkspace nor allowPublicAccessWhenBehindVnet: their controls report
            Route(update="PATCH", readonly=COMMON + SERVER_WRITTEN),
            # never updated in place: a rule is the users' or it goes
            Route("+outboundRules[name]", "{id}/outboundRules/{name}", create=True, delete=True,
                  readonly=(*COMMON, "properties.errorInformation", "properties.parentRuleNames")),
            Route("+datastores[name]", "{id}/datastores/{name}", create=True, delete=True,
                  readonly=(*COMMON, "properties.isDefault"), write_only=("properties.credentials.secrets",)),
            # what is made with a secret cannot be made again by us: no route writes it
            Route("+connections[name]", "{id}/connections/{name}",
                  readonly=(*COMMON, "properties.createdByWorkspaceArmId", "properties.group")),
            Route("+marketplaceSubscriptions[name]", "{id}/marketplaceSubscriptions/{name}", create=True, delete=True,
                  readonly=(*COMMON, "properties.marketplacePlan", "properties.marketplaceSubscriptionStatus")),
            Route("+batchEndpoints[name]", "{id}/batchEndpoints/{name}",
                  readonly=(*COMMON, "properties.scoringUri", "properties.swaggerUri")),
            DIAGNOSTICS,
        ),
        isolate=cut_off, dependants=("properties.privateEndpointConnections", "+batchEndpoints"),
    ),
)
