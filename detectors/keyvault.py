"""Key vaults: who reaches the secrets, and whether they can be destroyed. Facts: published types, 2026-02-01."""

from __future__ import annotations

from collections.abc import Iterator

from guardrail.documents import Node
from guardrail.paths import ABSENT
from guardrail.values import Control, Drift, Parameters

VAULT = "Microsoft.KeyVault/vaults"
WRITTEN = (VAULT + "/write",)


def public_endpoint_closed(vault: Node, _: Parameters) -> Iterator[Drift]:
    """Drift unless publicNetworkAccess, a free string, is Disabled. Absent means Enabled."""
    yield from vault.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")


def firewall_denies_by_default(vault: Node, _: Parameters) -> Iterator[Drift]:
    """Drift where the public endpoint is open and its firewall allows by default. Absent networkAcls allow everyone."""
    if vault.text("properties.publicNetworkAccess") != "disabled":
        yield from vault.expect("properties.networkAcls.defaultAction", one_of=("Deny",), absent="Allow")


def purge_protected(vault: Node, _: Parameters) -> Iterator[Drift]:
    """Drift unless enablePurgeProtection is true. Absent means off; it is never false, and once on it stays on."""
    yield from vault.expect("properties.enablePurgeProtection", one_of=(True,), absent=False)


CONTROLS = (
    Control(
        "keyvault-public-network-access", public_endpoint_closed, on=VAULT, severity="high", response="revert",
        title="The public endpoint is closed",
        why="encryption keys and connection secrets are reachable from anywhere",
        breaks="callers without a private endpoint; trusted services still pass",
        triggered_by=WRITTEN,
        drift={"properties.publicNetworkAccess": "Enabled"},
    ),
    Control(
        "keyvault-network-default-action", firewall_denies_by_default, on=VAULT, severity="high", response="revert",
        title="The firewall denies by default",
        why="a firewall that allows by default makes its rules decoration",
        breaks="clients off the allow-list",
        triggered_by=WRITTEN,
        # closed to the public the firewall is not asked, so this cannot drift without the endpoint
        drift={"properties.publicNetworkAccess": "Enabled", "properties.networkAcls.defaultAction": "Allow"},
    ),
    Control(
        "keyvault-purge-protection", purge_protected, on=VAULT, severity="high", response="revert",
        title="Purge protection is on",
        why="purging a customer-managed key destroys every data set under it",
        breaks="nothing that runs; cannot be undone, and deleted names stay taken for the retention time",
        triggered_by=WRITTEN,
        asks="nothing takes it back",
        drift={"properties.enablePurgeProtection": ABSENT},
    ),
)
