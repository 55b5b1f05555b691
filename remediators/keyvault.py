"""How ARM reads and writes key vaults. PATCH merges; a PUT would replace the access policies. Types of 2026-02-01."""

from __future__ import annotations

from collections.abc import Iterator

from guardrail.documents import Node
from guardrail.values import COMMON, Drift, Parameters, ResourceType, Route

VAULT = "Microsoft.KeyVault/vaults"


def cut_off(vault: Node, _: Parameters) -> Iterator[Drift]:
    """Isolated: no public endpoint, nobody in by default. Trusted services with a private way in still pass."""
    yield from vault.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")
    yield from vault.expect("properties.networkAcls.defaultAction", one_of=("Deny",), absent="Allow")


TYPES = (
    ResourceType(
        VAULT, "2026-02-01",
        (
            # whether networkAcls merges was never recorded, and a bypass left out becomes AzureServices: it goes whole
            Route(update="PATCH", whole=("properties.networkAcls",),
                  readonly=(*COMMON, "properties.hsmPoolResourceId", "properties.privateEndpointConnections")),
            Route("+diagnosticSettings[name]", "{id}/providers/Microsoft.Insights/diagnosticSettings/{name}",
                  "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True),
        ),
        isolate=cut_off, dependants=("properties.privateEndpointConnections",),
    ),
)
