"""Machine learning computes: instances, clusters, and what is attached. Little of one can be changed once it is made.

Defaults and enumerations: schema 2026-05-01. A kind that we do not know is judged like those that we know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from detectors import floors
from detectors.ml_common import COMPUTE, NETWORKS, NETWORKS_FLOOR, certain, in_managed_network, is_known, noted, subscription_of
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold
from guardrail.values import Check, Control, Drift, Parameters, Response, Severity

# Kinds that the service does not make itself: they have no settings of an instance or a cluster.
ATTACHED = ("aks", "databricks", "datafactory", "datalakeanalytics", "hdinsight", "kubernetes", "synapsespark",
            "virtualmachine")
OF = "properties.properties"
IDLE = f"{OF}.idleTimeBeforeShutdown"
SUBNET = f"{OF}.subnet.id"
FOR_CREATION = "can be chosen at creation only: make it anew"
SHORTEST_S, LONGEST_S = 15 * 60, 3 * 86400      # what the service takes as idle time


def is_made(compute: Node) -> bool:
    """An instance or a cluster."""
    return compute.text("properties.computeType") not in ATTACHED


def is_instance(compute: Node) -> bool:
    return is_made(compute) and compute.text("properties.computeType") != "amlcompute"


def is_cluster(compute: Node, path: str) -> bool:
    """A cluster; of a kind that we do not know one that shows this property."""
    kind = compute.text("properties.computeType")
    return kind == "amlcompute" or (is_instance(compute) and kind != "computeinstance" and compute.get(path) is not ABSENT)


def ssh_not_public(compute: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while a compute instance has an SSH port on the Internet. Absent means Disabled; immutable."""
    if is_instance(compute):
        access = f"{OF}.sshSettings.sshPublicAccess"
        yield from compute.expect(access, one_of=("Disabled",), absent="Disabled", known=("Enabled",))


def no_local_accounts(compute: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while an instance or cluster has local accounts. Absent means it has; immutable."""
    if is_made(compute):
        yield from compute.expect("properties.disableLocalAuth", one_of=(True,), absent=False)


def nodes_private(compute: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while nodes have public addresses. Absent means they have; immutable.

    In the workspaces that `managed_network_workspaces` names the managed network answers for it.
    """
    if is_made(compute) and not in_managed_network(compute, p):
        yield from compute.expect(f"{OF}.enableNodePublicIp", one_of=(False,), absent=True)


def in_a_network(compute: Node, p: Parameters) -> Iterator[Drift]:
    """Drift outside a subnet, or outside `allowed_subnet_ids` (if there are any)."""
    if is_made(compute) and not in_managed_network(compute, p):
        subnet, allowed = compute.text(SUBNET), p["allowed_subnet_ids"]
        if not subnet or (allowed and subnet not in map(fold, allowed)):
            yield from compute.undecided(SUBNET, FOR_CREATION)


def sign_on_as_wanted(compute: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while single sign-on to an instance's applications is not `expected`. Absent means on."""
    if is_instance(compute):
        yield from noted(compute.expect(f"{OF}.enableSSO", one_of=(p["expected"],), absent=True), FOR_CREATION)


def stops_when_idle(compute: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while an idle instance runs on for longer than `max_idle`. Absent means that it never stops."""
    if is_instance(compute):
        value = compute.get(IDLE)
        idle = seconds(value)
        if idle is None or not SHORTEST_S <= idle <= (seconds(p["max_idle"]) or LONGEST_S):
            yield from compute.expect(IDLE, one_of=(p["max_idle"],), known=() if idle is None else (value,))


_DURATION = re.compile(r"P(?:(\d{1,5})D)?(?:T(?=\d)(?:(\d{1,6})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?", re.ASCII | re.IGNORECASE)


def seconds(value: Any) -> int | None:
    """The length of an ISO 8601 duration in days and below; None for anything else."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not any(found.groups()):
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + rest


def of_one_user(compute: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while an instance's applications are shared, or it is somebody else's than its maker's. Immutable.

    Absent sharing counts as shared; an absent user is the maker.
    """
    if not is_instance(compute):
        return
    if not p["allow_shared"]:
        yield from compute.expect(f"{OF}.applicationSharingPolicy", one_of=("Personal",), known=("Shared",))
    owner = f"{OF}.personalComputeInstanceSettings.assignedUser.objectId"
    fine = {"", compute.text(f"{OF}.createdBy.userId"), *map(fold, p["allowed_assignees"])}
    if compute.text(owner) not in fine:
        yield from certain(compute.undecided(owner, "made for somebody else"))


def image_is_latest(compute: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while the service says that a newer image stands ready. Absent: it has not said. No event tells of it."""
    if is_instance(compute):
        drifts = compute.expect(f"{OF}.osImageMetadata.isLatestOsImageVersion", one_of=(True,), absent=True)
        yield from noted(drifts, "an instance is not patched in place: make it anew")


def scripts_approved(compute: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for a setup script that is not kept where `allowed_script_sources` says. It runs as root; immutable."""
    if is_instance(compute):
        for name in ("creationScript", "startupScript"):
            script = f"{OF}.setupScripts.scripts.{name}"
            if compute.get(script) is not ABSENT:
                allowed = tuple(p["allowed_script_sources"])
                yield from compute.expect(f"{script}.scriptSource", one_of=allowed, known=("inline", "workspace"))


def nodes_without_ssh(compute: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while a cluster's nodes take SSH from the Internet. Absent means NotSpecified: closed inside a subnet only.

    Immutable.
    """
    access = f"{OF}.remoteLoginPortPublicAccess"
    if is_cluster(compute, access):
        fine = ("Disabled", "NotSpecified") if compute.text(SUBNET) else ("Disabled",)
        yield from compute.expect(access, one_of=fine, absent="NotSpecified", known=("Enabled",))


def cluster_isolated(compute: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for a cluster in the service's own network: not isolated, without a subnet. Absent means not isolated."""
    isolated = f"{OF}.isolatedNetwork"
    if is_cluster(compute, isolated) and not compute.text(SUBNET) and not in_managed_network(compute, p):
        yield from noted(compute.expect(isolated, one_of=(True,), absent=False), FOR_CREATION)


def attached_is_known(compute: Node, p: Parameters) -> Iterator[Drift]:
    """Drift for an attached machine or cluster of a subscription that is neither the workspace's nor trusted."""
    if compute.get("properties.isAttachedCompute") in (False, ABSENT):
        return
    compute.text("properties.resourceId")       # another shape is told as such
    target = subscription_of(compute.get("properties.resourceId"))
    if not target:
        yield from compute.undecided("properties.resourceId", "attached, and not to be seen to what")
    elif not is_known(target, compute, p):
        yield from compute.unwanted("attached to a machine of a subscription that is not trusted")


def _idle(value: Any) -> str:
    found = seconds(value)
    return "" if found is not None and SHORTEST_S <= found <= LONGEST_S else "must be a duration from PT15M to P3D"


EVENTS = tuple(f"{COMPUTE}/{verb}" for verb in ("write", "delete", "start/action", "restart/action"))
OWNER = "the owner's running notebook: the instance is stopped, for only creating it anew mends it"
USERS = "whoever works on it: an instance is stopped, a cluster scaled down to no node"


def _control(id: str, check: Check, severity: Severity, response: Response, title: str, why: str, breaks: str,
             drift: dict[str, Any], **more: Any) -> Control:
    return Control(f"ml-{id}", check, on=COMPUTE, severity=severity, response=response, triggered_by=EVENTS, title=title,
                   why=why, breaks=breaks, drift=drift, **more)


CONTROLS = (
    _control(
        "compute-instance-ssh", ssh_not_public, "high", "isolate", "Compute instance has no public SSH",
        "a shell on the Internet, on a machine that holds its user's credentials", OWNER,
        {f"{OF}.sshSettings.sshPublicAccess": "Enabled"}),
    _control(
        "compute-local-auth", no_local_accounts, "medium", "isolate", "Compute has no local accounts",
        "shared accounts of the machine go round the sign-in of Entra", USERS, {"properties.disableLocalAuth": False}),
    _control(
        "compute-node-public-ip", nodes_private, "medium", "isolate", "Compute nodes have no public address",
        "nodes can be reached from the Internet", USERS, {f"{OF}.enableNodePublicIp": True},
        parameters=NETWORKS, floors=NETWORKS_FLOOR),
    _control(
        "compute-in-vnet", in_a_network, "medium", "report", "Compute stands in an approved subnet",
        "its traffic is under no security group or firewall", "", {f"{OF}.subnet": ABSENT},
        parameters={"allowed_subnet_ids": (), **NETWORKS},
        floors={"allowed_subnet_ids": floors.resource_ids, **NETWORKS_FLOOR}),
    _control(
        "compute-instance-sso", sign_on_as_wanted, "low", "report", "Single sign-on to instance applications is as expected",
        "tokens of applications follow the user onto the instance", "", {f"{OF}.enableSSO": False},
        parameters={"expected": True}, floors={"expected": floors.flag}),
    _control(
        "compute-instance-idle-shutdown", stops_when_idle, "low", "revert", "Idle compute instances stop",
        "idle machines can be attacked, and cost money", "notebooks that work for hours without a touch",
        {IDLE: "PT12H"}, parameters={"max_idle": "PT3H"}, floors={"max_idle": _idle}),
    _control(
        "compute-instance-personal", of_one_user, "medium", "isolate", "Compute instance is its maker's alone",
        "a shared instance shows one user's tokens to the others", f"shared use; {OWNER}",
        {f"{OF}.applicationSharingPolicy": "Shared"},
        parameters={"allowed_assignees": (), "allow_shared": False},
        floors={"allowed_assignees": floors.guids, "allow_shared": floors.flag}),
    _control(
        "compute-instance-os-outdated", image_is_latest, "low", "report", "Compute instance runs the latest image",
        "kernel and packages stay unpatched: instances are not patched in place", "",
        {f"{OF}.osImageMetadata.isLatestOsImageVersion": False}),
    _control(
        "compute-instance-setup-scripts", scripts_approved, "medium", "isolate", "Setup scripts come from the workspace",
        "it runs as root at creation, or at each start: an easy way back in",
        f"instances made to measure; {OWNER}",
        {f"{OF}.setupScripts.scripts.startupScript.scriptSource": "inline"},
        parameters={"allowed_script_sources": ("workspace",)},
        floors={"allowed_script_sources": floors.some_of(("workspace",))}),
    _control(
        "amlcompute-remote-login", nodes_without_ssh, "high", "isolate", "Cluster nodes take no SSH from the Internet",
        "an SSH port on the Internet on every node", "jobs that wait for the cluster: it is scaled down to no node",
        {"properties.computeType": "AmlCompute", f"{OF}.remoteLoginPortPublicAccess": "Enabled",
         f"{OF}.scaleSettings": {"minNodeCount": 1, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT2M"}}),
    _control(
        "amlcompute-isolated-network", cluster_isolated, "low", "report", "Cluster nodes stand in a network of their own",
        "nodes share the service's network", "",
        {"properties.computeType": "AmlCompute", f"{OF}.subnet": ABSENT, f"{OF}.isolatedNetwork": False},
        parameters=NETWORKS, floors=NETWORKS_FLOOR),
    _control(
        "compute-attached-target", attached_is_known, "medium", "revert", "Attached computes are of known subscriptions",
        "jobs and their data run on somebody else's machine", "jobs sent to it; the machine itself stays",
        {"properties.isAttachedCompute": True,
         "properties.resourceId": "/subscriptions/00000000-0000-0000-0000-0000000000f1/resourceGroups/rg-elsewhere"
                                  "/providers/Microsoft.Compute/virtualMachines/vm-elsewhere"},
        parameters={"trusted_subscriptions": ()}, floors={"trusted_subscriptions": floors.guids}),
)
