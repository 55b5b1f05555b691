"""How ARM reads and writes machine learning computes. A PUT of one that stands overwrites it beyond recovery: none does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from guardrail.documents import Document, Node
from guardrail.errors import Unsafe
from guardrail.ids import url_path
from guardrail.paths import ABSENT, parse, put
from guardrail.values import COMMON, Drift, Edit, Parameters, Request, ResourceType, Route

COMPUTE = "Microsoft.MachineLearningServices/workspaces/computes"
OF = "properties.properties"
STATE = f"{OF}.state"
SCALE = f"{OF}.scaleSettings"
IDLE = f"{OF}.idleTimeBeforeShutdown"


def contained(compute: Node, _: Parameters) -> Iterator[Drift]:
    """A stopped instance has no shell, a cluster of no node runs nothing; disks and settings stay, and both come back.

    Whether a stop is taken in other states (SetupFailed, Unusable, ...), and no node at all of a cluster, was not
    verified.
    """
    if compute.text("properties.computeType") == "amlcompute":
        for bound in ("maxNodeCount", "minNodeCount"):
            now = compute.get(f"{SCALE}.{bound}")
            known = (now,) if isinstance(now, int) and not isinstance(now, bool) else ()
            yield from compute.expect(f"{SCALE}.{bound}", one_of=(0,), known=known)
    elif compute.get(STATE) is ABSENT:
        yield from compute.undecided(STATE, "this compute shows no state: it cannot be stopped")
    else:
        yield from compute.expect(STATE, one_of=("Stopped",), known=("Running", "JobRunning"))


def scaled(document: Document, edits: Sequence[Edit]) -> Request:
    """PATCH takes the scale settings of a cluster and nothing else (ClusterUpdateParameters); they go whole."""
    settings = document.get(SCALE)
    for edit in edits:
        settings = put(settings, parse(edit.path)[len(parse(SCALE)):], edit.after)
    return Request("PATCH", url_path(document.id), "2026-05-01", {"properties": {"properties": {"scaleSettings": settings}}})


def idles(document: Document, edits: Sequence[Edit]) -> Request:
    """The one setting of an instance that changes, by an action of its own (documented at 2021-07-01).

    Errors: Unsafe for taking it away: how that is said was not documented.
    """
    if len(edits) != 1 or not isinstance(edits[0].after, str):
        raise Unsafe("how to switch idle shutdown off is not known")
    url = f"{url_path(document.id)}/updateIdleShutdownSetting"
    return Request("POST", url, "2021-07-01", {"idleTimeBeforeShutdown": edits[0].after})


async def send(clients: Any, request: Request, headers: Mapping[str, str]) -> Any:
    """A removal detaches: the service wants to be told, and the other answer deletes the machine itself."""
    if request.method == "DELETE":
        request = replace(request, url=f"{request.url}?underlyingResourceAction=Detach")
    return await clients.send(request, headers)


# Marked read-only in the published type.
SERVER_WRITTEN = (
    *(f"properties.{name}" for name in ("createdOn", "modifiedOn", "provisioningErrors", "isAttachedCompute")),
    *(f"{OF}.{name}" for name in (
        "lastOperation", "errors", "connectivityEndpoints", "osImageMetadata", "applications", "createdBy", "containers",
        "dataDisks", "dataMounts", "versions", "allocationState", "allocationStateTransitionTime", "currentNodeCount",
        "targetNodeCount", "nodeStateCounts", "sshSettings.adminUserName", "sshSettings.sshPort")),
)

TYPES = (
    ResourceType(
        COMPUTE, "2026-05-01",
        (
            Route(STATE, "{id}/{action}", update="POST", actions={"Stopped": "stop", "Running": "start"}),
            Route(SCALE, write=scaled),
            # its action's name in RBAC was not verified: it is made as ARM makes them
            Route(IDLE, write=idles, needs=(f"{COMPUTE}/updateIdleShutdownSetting/action",)),
            Route(delete=True, readonly=COMMON + SERVER_WRITTEN),
        ),
        isolate=contained, born="properties.createdOn", send=send,
        stops={STATE: ("Stopped",), f"{SCALE}.maxNodeCount": (0,)},
        busy={STATE: ("Creating", "SettingUp", "UserSettingUp", "Starting", "Stopping", "Restarting", "Resizing",
                      "Deleting"),
              f"{OF}.allocationState": ("Resizing",)},
    ),
)
