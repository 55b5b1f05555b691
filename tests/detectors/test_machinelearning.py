"""Compute instances: public SSH cannot be mended, only stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import recorded
from detectors import machinelearning
from guardrail import plans, proof
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Drift, Edit
from remediators.machinelearning import STATE, TYPES

(CONTROL,) = machinelearning.CONTROLS
(COMPUTE,) = TYPES
KIND = "properties.computeType"
SSH = "properties.properties.sshSettings.sshPublicAccess"


def document(edits: Mapping[str, Any]) -> Document:
    good = recorded.good(machinelearning.COMPUTE)
    return recorded.Sample(good.id, good.api_version, recorded.laid(good.body, edits)).document


def drifts(edits: Mapping[str, Any]) -> list[Drift]:
    return list(CONTROL.check(document(edits).node(), {}))


def cure(edits: Mapping[str, Any]) -> list[Drift]:
    assert COMPUTE.isolate is not None
    return list(COMPUTE.isolate(document(edits).node(), {}))


@pytest.mark.threat("E9")
@pytest.mark.parametrize(("kind", "access", "verdict"), [
    ("ComputeInstance", "Enabled", [True]), ("computeinstance", "enabled", [True]), ("ComputeInstance", "Disabled", []),
    ("ComputeInstance", ABSENT, []), ("ComputeInstance", "NotSpecified", [False]),
    ("ComputeInstance", "Disabled ", [False]),
    ("AmlCompute", "Enabled", []), ("VirtualMachine", "Enabled", []), (ABSENT, "Enabled", [True]),
    ("ComputeInstance ", "Enabled", [True]), ("NewKind", "Enabled", [True]),
])
def test_instances_and_kinds_that_we_do_not_know_are_judged(kind: Any, access: Any, verdict: list[bool]) -> None:
    assert [drift.decided for drift in drifts({KIND: kind, SSH: access})] == verdict


def test_nothing_writes_the_setting_itself() -> None:
    edits, refused = plans.edits(COMPUTE, drifts({SSH: "Enabled"}))
    assert edits == ()
    assert len(refused) == 1


@pytest.mark.parametrize(("state", "decided"), [
    ("Running", True), ("JobRunning", True), ("running", True), ("SetupFailed", False), ("Unusable", False),
    ("Unknown", False),
    ("CreateFailed", False), (ABSENT, False),
])
def test_a_running_instance_is_stopped_and_another_state_is_a_persons(state: Any, decided: bool) -> None:
    (drift,) = cure({STATE: state})
    assert (drift.path, drift.decided) == (STATE, decided)
    assert not decided or drift.wanted == "Stopped"
    assert cure({STATE: "Stopped"}) == []


def test_isolation_is_one_post_and_release_the_other() -> None:
    now = document({SSH: "Enabled"})
    edits, refused = plans.edits(COMPUTE, cure({SSH: "Enabled"}))
    (step,) = plans.steps(COMPUTE, now, edits)
    assert refused == []
    assert (step.request.method, step.request.url, step.request.body) == ("POST", f"{now.id}/stop", None)
    proof.prove(now, [step], [CONTROL], lambda control: control.parameters)
    stopped = proof.predict(now, [step])
    assert stopped.get(STATE) == "Stopped"
    (back,) = plans.steps(COMPUTE, stopped, [Edit(STATE, "Stopped", "Running")])
    assert (back.request.method, back.request.url) == ("POST", f"{now.id}/start")


@pytest.mark.parametrize("state", [
    "Creating", "SettingUp", "UserSettingUp", "Starting", "Stopping", "Restarting", "Resizing", "Deleting"])
def test_while_azure_is_at_work_on_it_the_look_waits(state: str) -> None:
    assert plans.is_busy(COMPUTE, document({STATE: state}))
    assert plans.is_busy(COMPUTE, document({STATE: state.lower()}))


@pytest.mark.parametrize("state", ["Running", "JobRunning", "Stopped", "Unusable", "Unknown"])
def test_a_settled_instance_is_not_busy(state: str) -> None:
    assert not plans.is_busy(COMPUTE, document({STATE: state}))
    assert plans.is_busy(COMPUTE, document({STATE: state, "properties.provisioningState": "Updating"}))


def test_a_compute_recreated_under_its_name_is_another_one() -> None:
    later = document({"properties.createdOn": "2027-01-01T00:00:00+00:00"})
    assert "" != plans.incarnation(COMPUTE, document({})) != plans.incarnation(COMPUTE, later)
