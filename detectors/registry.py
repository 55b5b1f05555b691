"""Container registries: who pulls and pushes the images that jobs and endpoints run. Published types, 2025-11-01.

The rows speak of registries behind machine learning workspaces; what hangs on a registry cannot be told from it, so every
registry in the guarded scopes is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from detectors import floors
from guardrail.documents import Node
from guardrail.values import Control, Drift, Parameters

REGISTRY = "Microsoft.ContainerRegistry/registries"
ACCESS = "properties.publicNetworkAccess"


def admin_user_off(registry: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while the shared admin user can log in. Absent means false (recorded)."""
    yield from registry.expect("properties.adminUserEnabled", one_of=(False,), absent=False)


def anonymous_pull_off(registry: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while anybody may pull. Absent means false (recorded)."""
    yield from registry.expect("properties.anonymousPullEnabled", one_of=(False,), absent=False)


def public_endpoint_closed(registry: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while the public endpoint is open. Absent means Enabled (recorded); only Premium can be closed."""
    if p["allow_selected"] and registry.text("properties.networkRuleSet.defaultAction") == "deny":
        return
    drifts = registry.expect(ACCESS, one_of=("Disabled",), absent="Enabled")
    if registry.text("sku.name") == "premium":
        yield from drifts
    else:
        for _ in drifts:
            yield from registry.undecided(ACCESS, "private networking needs the Premium SKU")


WRITE = (f"{REGISTRY}/write",)

CONTROLS = (
    Control(
        "acr-ml-admin-user", admin_user_off, on=REGISTRY, severity="high", response="revert",
        triggered_by=(*WRITE, f"{REGISTRY}/regenerateCredential/action", f"{REGISTRY}/listCredentials/action"),
        title="Registry has no admin user",
        why="one shared password can push images that every job and endpoint runs",
        breaks="tools that log in with the admin password; older machine learning workspaces may",
        drift={"properties.adminUserEnabled": True},
    ),
    Control(
        "acr-ml-anonymous-pull", anonymous_pull_off, on=REGISTRY, severity="critical", response="revert",
        triggered_by=WRITE,
        title="Registry lets nobody pull without a name",
        why="model images and code can be downloaded by anyone",
        breaks="public consumers of images",
        drift={"properties.anonymousPullEnabled": True},
    ),
    Control(
        "acr-ml-public-network-access", public_endpoint_closed, on=REGISTRY, severity="medium", response="revert",
        triggered_by=WRITE,
        title="Registry is closed to the public network",
        why="whoever has a token pulls and pushes images from anywhere",
        breaks="image builds of a machine learning workspace that has no imageBuildCompute",
        parameters={"allow_selected": False}, floors={"allow_selected": floors.flag},
        drift={ACCESS: "Enabled"},
    ),
)

LEFT_OUT: tuple[tuple[str, str], ...] = ()
