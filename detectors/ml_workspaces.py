"""Machine learning workspaces: network, keys, identity. Defaults and enumerations: schema 2026-05-01, and what GET
shows when a value was never set (recorded).

A project (kind project) follows its hub, whose document is another one: what a project says of its network is a
person's to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from detectors import floors
from detectors.ml_common import SPACE, noted, subscription_of
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold
from guardrail.values import Check, Control, Drift, Parameters, Response, Severity

ACCESS = "properties.publicNetworkAccess"
MODE = "properties.managedNetwork.isolationMode"
BUILDER = "properties.imageBuildCompute"
WEAKEST_FIRST = ("Disabled", "AllowInternetOutbound", "AllowOnlyApprovedOutbound")
IDENTITIES = ("SystemAssigned", "UserAssigned", "SystemAssigned,UserAssigned")     # without a blank here
AUTH_MODES = ("Identity", "UserDelegationSAS")


def public_access_closed(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while studio, jobs and scoring endpoints are open to any network. Absent means Enabled."""
    drifts = space.expect(ACCESS, one_of=("Disabled",), absent="Enabled")
    if p["require_private_endpoint"] and not any(_is_approved(one) for one in _endpoints(space)):
        yield from noted(drifts, "without an approved private endpoint nobody would get in any more")
    else:
        yield from _of_hub(space, drifts)


def has_private_endpoint(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift without any approved private endpoint, and for each approved one of a subscription that is not trusted.

    Without `trusted_subscriptions` endpoints of every subscription count.
    """
    if space.text("kind") == "project":
        return
    approved = [one for one in _endpoints(space) if _is_approved(one)]
    if not approved:
        yield from space.undecided("properties.privateEndpointConnections", "no approved private endpoint; one needs a subnet")
    trusted = {fold(one) for one in p["trusted_subscriptions"]}
    for one in approved:
        if trusted and subscription_of(one.get("properties.privateEndpoint.id")) not in trusted:
            yield from one.undecided("properties.privateEndpoint.id", "a private endpoint of another subscription")


def _endpoints(space: Node) -> list[Node]:
    return list(space.items("properties.privateEndpointConnections", "id"))


def _is_approved(endpoint: Node) -> bool:
    return endpoint.text("properties.privateLinkServiceConnectionState.status") == "approved"


def _of_hub(space: Node, drifts: Iterable[Drift]) -> Iterator[Drift]:
    if space.text("kind") == "project":
        yield from noted(drifts, "a project follows its hub: mend the hub")
    else:
        yield from drifts


def network_isolated(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while training and scoring may call any host. Absent means Disabled."""
    drifts = space.expect(MODE, at_least=p["minimum_mode"], order=WEAKEST_FIRST, absent="Disabled")
    yield from _of_hub(space, drifts)


def own_key(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift without a customer-managed key (absent: none), or with one of a vault outside `allowed_key_vault_ids`.

    Set at creation only.
    """
    if space.text("kind") == "project":
        return
    drifts = list(space.expect("properties.encryption.status", one_of=("Enabled",), absent="Disabled"))
    yield from noted(drifts, "can be chosen at creation only")
    vault, allowed = space.text("properties.encryption.keyVaultProperties.keyVaultArmId"), p["allowed_key_vault_ids"]
    if not drifts and allowed and vault not in map(fold, allowed):
        yield from space.undecided("properties.encryption.keyVaultProperties.keyVaultArmId", "a key of another vault")


def high_impact(space: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while the service collects diagnostics as from any workspace. Absent means false; set at creation only."""
    if space.text("kind") != "project":
        drifts = space.expect("properties.hbiWorkspace", one_of=(True,), absent=False)
        yield from noted(drifts, "can be chosen at creation only")


def has_identity(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift without a managed identity (absent means None); without a user-assigned primary one where required."""
    drifts = space.expect("identity.type", one_of=IDENTITIES, absent="None")
    yield from noted(drifts, "a new identity has no roles yet: somebody must grant them")
    if p["require_user_assigned"] and not space.text("properties.primaryUserAssignedIdentity"):
        yield from space.undecided("properties.primaryUserAssignedIdentity", "no user-assigned identity is the primary one")


def datastores_use_identity(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while the workspace's own datastores hand out the storage key. Absent means AccessKey."""
    wanted = [mode for mode in AUTH_MODES if mode in p["allowed_modes"]]
    yield from space.expect("properties.systemDatastoresAuthMode", one_of=wanted, absent="AccessKey",
                            known=("AccessKey", "UserDelegationSAS"))


def legacy_mode_as_wanted(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while v1 legacy mode is not `expected`. Absent means false; managed endpoints need false."""
    yield from space.expect("properties.v1LegacyMode", one_of=(p["expected"],), absent=False)


def no_way_round_the_network(space: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while the older flag lets the public in behind a virtual network. Absent means false.

    No PATCH takes it: closing public access is what mends it.
    """
    if space.text(ACCESS) != "disabled":
        drifts = space.expect("properties.allowPublicAccessWhenBehindVnet", one_of=(False,), absent=False)
        yield from noted(drifts, "no PATCH takes this flag: close public network access")


def images_built_inside(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while no cluster of the workspace builds its images, or another one than `image_build_compute`.

    Without the parameter the cluster last known good counts; without either any cluster does. Absent: registry tasks
    build, which a closed registry refuses. Whether the registry is closed cannot be seen here.
    """
    known = space.known_good.get(BUILDER)
    wanted = p["image_build_compute"] or (known if isinstance(known, str) else "")
    now = space.get(BUILDER)
    if wanted:
        yield from space.expect(BUILDER, one_of=(wanted,), known=(now,) if isinstance(now, str) else ())
    elif not isinstance(now, str) or not now.strip():
        yield from space.undecided(BUILDER, "image_build_compute is empty, and none was ever known good")


def kind_allowed(space: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for a kind outside `allowed_kinds`, or a project of a hub outside `allowed_hubs` (if there are any).

    Absent means default; fixed at creation.
    """
    kind = space.text("kind") or "default"
    if kind not in map(fold, p["allowed_kinds"]):
        yield from space.undecided("kind", "not an allowed kind; it is fixed at creation")
    hub = space.text("properties.hubResourceId")
    if kind == "project" and p["allowed_hubs"] and hub not in map(fold, p["allowed_hubs"]):
        yield from space.undecided("properties.hubResourceId", "a project of another hub")


def serverless_without_public_ip(space: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while serverless jobs run on nodes with public addresses, outside a managed network. Absent means they do.

    Closing it takes a subnet, which only a person can choose.
    """
    if space.text(MODE) not in map(fold, WEAKEST_FIRST[1:]):
        drifts = space.expect("properties.serverlessComputeSettings.serverlessComputeNoPublicIP", one_of=(True,), absent=False)
        yield from noted(drifts, "it takes a subnet, too")


def _compute(value: Any) -> str:
    return "" if value == "" or floors.names([value]) == "" else "must be the name of a cluster"


def _control(id: str, check: Check, severity: Severity, response: Response, title: str, why: str, breaks: str,
             drift: dict[str, Any], **more: Any) -> Control:
    triggers = (f"{SPACE}/write", *more.pop("also", ()))
    return Control(f"ml-workspace-{id}", check, on=SPACE, severity=severity, response=response, triggered_by=triggers,
                   title=title, why=why, breaks=breaks, drift=drift, **more)


_CONNECTION = f"{SPACE}/privateEndpointConnections"

CONTROLS = (
    _control(
        "public-network-access", public_access_closed, "high", "revert",
        "ML workspace is closed to the public network",
        "studio, job submission and scoring endpoints answer anyone with a token",
        "users and pipelines outside the private network; its online endpoints become private too",
        {ACCESS: "Enabled"}, parameters={"require_private_endpoint": False}, floors={"require_private_endpoint": floors.flag}),
    _control(
        "private-endpoint", has_private_endpoint, "medium", "report",
        "ML workspace has an approved private endpoint",
        "public access is then the only way in, and cannot be closed", "",
        {"properties.privateEndpointConnections": []}, also=(f"{_CONNECTION}/write", f"{_CONNECTION}/delete"),
        parameters={"trusted_subscriptions": ()}, floors={"trusted_subscriptions": floors.guids}),
    _control(
        "managed-network-isolation", network_isolated, "high", "revert",
        "Managed network lets out to approved destinations only",
        "training and scoring code can send data anywhere",
        "package installs and every host that is not approved; host rules start a paid firewall",
        {MODE: "AllowInternetOutbound"},
        also=(f"{SPACE}/managedNetworks/write", f"{SPACE}/provisionManagedNetwork/action"),
        parameters={"minimum_mode": "AllowOnlyApprovedOutbound"}, floors={"minimum_mode": floors.one_of(*WEAKEST_FIRST[1:])},
        asks="nothing takes a managed network back to none, and it may need its computes made anew"),
    _control(
        "cmk", own_key, "medium", "report", "ML workspace is encrypted with a customer-managed key",
        "metadata and jobs are outside the customer's control of keys", "", {"properties.encryption": ABSENT},
        parameters={"allowed_key_vault_ids": ()}, floors={"allowed_key_vault_ids": floors.resource_ids}),
    _control(
        "hbi", high_impact, "low", "report", "ML workspace is marked as of high business impact",
        "the service keeps more diagnostic data of a sensitive workspace", "", {"properties.hbiWorkspace": False}),
    _control(
        "identity", has_identity, "low", "report", "ML workspace has a managed identity",
        "without one it needs keys; a system identity's roles go with the workspace", "", {"identity.type": "None"},
        parameters={"require_user_assigned": False}, floors={"require_user_assigned": floors.flag}),
    _control(
        "system-datastores-auth", datastores_use_identity, "high", "revert",
        "The workspace's own datastores use identities", "any user of the workspace can pull the storage account's key",
        "users without a data role on the default storage account",
        {"properties.systemDatastoresAuthMode": "AccessKey"},
        parameters={"allowed_modes": AUTH_MODES}, floors={"allowed_modes": floors.some_of(AUTH_MODES)}),
    _control(
        "v1-legacy-mode", legacy_mode_as_wanted, "low", "revert", "v1 legacy mode is as expected",
        "legacy mode blocks managed endpoints; without it control calls go through public Resource Manager",
        "users of the v1 SDK, or managed endpoints", {"properties.v1LegacyMode": True},
        parameters={"expected": False}, floors={"expected": floors.flag}),
    _control(
        "allow-public-behind-vnet", no_way_round_the_network, "medium", "report",
        "No older flag keeps the workspace public", "a forgotten flag keeps the studio public behind a virtual network", "",
        {"properties.allowPublicAccessWhenBehindVnet": True, ACCESS: "Enabled"}),
    _control(
        "image-build-compute", images_built_inside, "low", "revert", "A cluster of the workspace builds its images",
        "builds that fall back to registry tasks make people open the registry again", "nothing", {BUILDER: ABSENT},
        learns=True, parameters={"image_build_compute": ""}, floors={"image_build_compute": _compute}),
    _control(
        "kind", kind_allowed, "low", "report", "ML workspace is of an allowed kind",
        "each kind keeps network and keys in another place", "", {"kind": "Unheard"},
        parameters={"allowed_kinds": ("default", "hub", "project", "featurestore"), "allowed_hubs": ()},
        floors={"allowed_kinds": floors.names, "allowed_hubs": floors.resource_ids}),
    _control(
        "serverless-compute-public-ip", serverless_without_public_ip, "medium", "report",
        "Serverless jobs run on nodes without public addresses",
        "nodes can be reached, and leave by an address of their own", "",
        {MODE: "Disabled", "properties.serverlessComputeSettings.serverlessComputeNoPublicIP": False}),
)
