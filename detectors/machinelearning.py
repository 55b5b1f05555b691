"""Azure Machine Learning: compute instances."""

from __future__ import annotations

from collections.abc import Iterator

from guardrail.documents import Node
from guardrail.values import Control, Drift, Parameters

COMPUTE = "Microsoft.MachineLearningServices/workspaces/computes"

# Kinds of compute (2026-05-01) that have no sshSettings; a kind that we do not know is judged as an instance.
OTHER_KINDS = ("aks", "amlcompute", "databricks", "datafactory", "datalakeanalytics", "hdinsight", "kubernetes",
               "synapsespark", "virtualmachine")


def ssh_not_public(compute: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while a compute instance has an SSH port on the Internet. Absent means Disabled (2026-05-01); immutable."""
    if compute.text("properties.computeType") not in OTHER_KINDS:
        access = "properties.properties.sshSettings.sshPublicAccess"
        yield from compute.expect(access, one_of=("Disabled",), absent="Disabled", known=("Enabled",))


CONTROLS = (
    Control(
        "ml-compute-instance-ssh", ssh_not_public, on=COMPUTE, severity="high", response="isolate",
        triggered_by=tuple(f"{COMPUTE}/{verb}" for verb in ("write", "delete", "start/action", "restart/action")),
        title="Compute instance has no public SSH",
        why="a shell on the Internet, on a machine that holds its user's credentials",
        breaks="the owner's running notebook: the instance is stopped, for only creating it anew mends it",
        drift={"properties.properties.sshSettings.sshPublicAccess": "Enabled"},
    ),
)
