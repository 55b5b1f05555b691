"""How ARM reads and writes AI Search services and their shared private links. Types of 2025-05-01."""

from __future__ import annotations

from collections.abc import Iterator

from guardrail.documents import Node
from guardrail.paths import ABSENT
from guardrail.values import COMMON, Drift, Parameters, ResourceType, Route

SERVICE = "Microsoft.Search/searchServices"
RULES = "properties.networkRuleSet"
AUTH_OPTIONS = "properties.authOptions"


def cut_off(service: Node, _: Parameters) -> Iterator[Drift]:
    """No public network, no rule, no trusted bypass, no keys. Callers behind approved private endpoints stay."""
    yield from service.expect(
        "properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled", known=("SecuredByPerimeter",))
    yield from service.expect(f"{RULES}.bypass", one_of=("None",), absent="None", known=("AzureServices",))
    for rule in service.items(f"{RULES}.ipRules", "value"):
        yield from rule.unwanted()
    yield from service.expect("properties.disableLocalAuth", one_of=(True,), absent=False)
    options = service.get(AUTH_OPTIONS)     # refused beside disableLocalAuth
    yield from service.expect(AUTH_OPTIONS, one_of=(ABSENT,), known=(options,))


TYPES = (
    ResourceType(
        SERVICE, "2025-05-01",
        (
            # No PATCH was ever recorded, and `networkRuleSet: {}` in a PUT emptied the rules: the object goes whole.
            Route(update="PATCH", whole=(RULES,), readonly=(
                *COMMON, "identity.principalId", "identity.tenantId",
                *(f"properties.{name}" for name in (
                    "status", "statusDetails", "privateEndpointConnections", "eTag", "serviceUpgradedAt",
                    "encryptionWithCmk.encryptionComplianceStatus")))),
            # Shown inside the service, written at its own URL; put back, its target has to approve it anew.
            Route("properties.sharedPrivateLinkResources[name]", "{id}/sharedPrivateLinkResources/{name}",
                  create=True, delete=True, readonly=(*COMMON, "properties.status")),
            Route("+diagnosticSettings[name]", "{id}/providers/Microsoft.Insights/diagnosticSettings/{name}",
                  "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True),
        ),
        isolate=cut_off,
        dependants=("properties.privateEndpointConnections", "properties.sharedPrivateLinkResources"),
    ),
)
