"""How ARM reads and writes machine learning computes: nothing of an instance can be changed but whether it runs."""

from __future__ import annotations

from collections.abc import Iterator

from guardrail.documents import Node
from guardrail.paths import ABSENT
from guardrail.values import COMMON, Drift, Parameters, ResourceType, Route

COMPUTE = "Microsoft.MachineLearningServices/workspaces/computes"
STATE = "properties.properties.state"


def stopped(compute: Node, _: Parameters) -> Iterator[Drift]:
    """A stopped instance has no shell; its disks stay, and its owner can start it again.

    Whether a stop is taken in other states (SetupFailed, Unusable, ...) was not verified: there a person decides.
    """
    if compute.get(STATE) is ABSENT:
        yield from compute.undecided(STATE, "this compute shows no state: it cannot be stopped")
    else:
        yield from compute.expect(STATE, one_of=("Stopped",), known=("Running", "JobRunning"))


TYPES = (
    # A PUT of a compute that stands overwrites it beyond recovery: no route does.
    ResourceType(
        COMPUTE, "2026-05-01",
        (Route(STATE, "{id}/{action}", update="POST", actions={"Stopped": "stop", "Running": "start"}),
         Route(readonly=(*COMMON, "properties.modifiedOn", "properties.properties.lastOperation",
                         "properties.properties.errors", "properties.properties.connectivityEndpoints"))),
        isolate=stopped, born="properties.createdOn",
        busy={STATE: ("Creating", "SettingUp", "UserSettingUp", "Starting", "Stopping", "Restarting", "Resizing",
                      "Deleting")},
    ),
)
