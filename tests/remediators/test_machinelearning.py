"""Machine learning: what is sent, and what contains what cannot be mended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import recorded
from detectors import CONTROLS
from guardrail import plans, proof
from guardrail.documents import Document
from guardrail.errors import Unsafe
from guardrail.paths import ABSENT
from guardrail.values import Drift, Edit, Request, ResourceType
from remediators import machinelearning
from remediators.ml_assets import MODEL, SCHEDULE
from remediators.ml_computes import COMPUTE, IDLE, SCALE, STATE, send
from remediators.ml_endpoints import ONLINE
from remediators.ml_workspaces import SPACE

TYPES = {type.name: type for type in machinelearning.TYPES}
MADE = TYPES[COMPUTE]
SSH = "properties.properties.sshSettings.sshPublicAccess"
CLUSTER = {"properties.computeType": "AmlCompute", STATE: ABSENT, SCALE: {
    "minNodeCount": 1, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT2M"}}


def document(type: str, edits: Mapping[str, Any]) -> Document:
    good = recorded.good(type)
    return recorded.Sample(good.id, good.api_version, recorded.laid(good.body, edits)).document


def cure(type: ResourceType, now: Document) -> list[Drift]:
    assert type.isolate is not None
    return list(type.isolate(now.node(), {}))


def isolated(type: ResourceType, now: Document) -> tuple[list[plans.Step], Document]:
    edits, refused = plans.edits(type, cure(type, now))
    assert refused == []
    steps = plans.steps(type, now, edits)
    proof.prove(now, steps, [one for one in CONTROLS if one.on == type.name], lambda control: control.parameters)
    after = proof.predict(now, steps)
    assert cure(type, after) == []
    return steps, after


def test_nothing_writes_what_is_fixed_at_creation() -> None:
    for path in (SSH, "properties.disableLocalAuth", "properties.properties.enableNodePublicIp"):
        edits, refused = plans.edits(MADE, [Drift(path, "Enabled", "Disabled")])
        assert (edits, len(refused)) == ((), 1)


@pytest.mark.parametrize(("state", "decided"), [
    ("Running", True), ("JobRunning", True), ("running", True), ("SetupFailed", False), ("Unusable", False),
    ("Unknown", False),
    ("CreateFailed", False), (ABSENT, False),
])
def test_a_running_instance_is_stopped_and_another_state_is_a_persons(state: Any, decided: bool) -> None:
    (drift,) = cure(MADE, document(COMPUTE, {STATE: state}))
    assert (drift.path, drift.decided) == (STATE, decided)
    assert not decided or drift.wanted == "Stopped"
    assert cure(MADE, document(COMPUTE, {STATE: "Stopped"})) == []


def test_isolation_of_an_instance_is_one_post_and_release_the_other() -> None:
    now = document(COMPUTE, {SSH: "Enabled"})
    [step], stopped = isolated(MADE, now)
    assert (step.request.method, step.request.url, step.request.body) == ("POST", f"{now.id}/stop", None)
    assert stopped.get(STATE) == "Stopped"
    (back,) = plans.steps(MADE, stopped, [Edit(STATE, "Stopped", "Running")])
    assert (back.request.method, back.request.url) == ("POST", f"{now.id}/start")


def test_isolation_of_a_cluster_is_one_patch_of_its_scale_settings_and_nothing_else() -> None:
    [step], _ = isolated(MADE, document(COMPUTE, CLUSTER))
    assert step.request.method == "PATCH"
    assert step.request.body == {"properties": {"properties": {"scaleSettings": {
        "minNodeCount": 0, "maxNodeCount": 0, "nodeIdleTimeBeforeScaleDown": "PT2M"}}}}


@pytest.mark.parametrize("bound", ["four", True, 2.5, None])
def test_a_bound_that_we_do_not_know_is_a_persons(bound: Any) -> None:
    found = cure(MADE, document(COMPUTE, {**CLUSTER, f"{SCALE}.maxNodeCount": bound}))
    assert [drift.decided for drift in found if drift.path.endswith("maxNodeCount")] == [bound is None]


@pytest.mark.parametrize("state", [
    "Creating", "SettingUp", "UserSettingUp", "Starting", "Stopping", "Restarting", "Resizing", "Deleting"])
def test_while_azure_is_at_work_on_it_the_look_waits(state: str) -> None:
    assert plans.is_busy(MADE, document(COMPUTE, {STATE: state}))
    assert plans.is_busy(MADE, document(COMPUTE, {STATE: state.lower()}))


@pytest.mark.parametrize("state", ["Running", "JobRunning", "Stopped", "Unusable", "Unknown"])
def test_a_settled_instance_is_not_busy(state: str) -> None:
    assert not plans.is_busy(MADE, document(COMPUTE, {STATE: state}))
    assert plans.is_busy(MADE, document(COMPUTE, {STATE: state, "properties.provisioningState": "Updating"}))


def test_a_compute_recreated_under_its_name_is_another_one() -> None:
    later = document(COMPUTE, {"properties.createdOn": "2027-01-01T00:00:00+00:00"})
    assert "" != plans.incarnation(MADE, document(COMPUTE, {})) != plans.incarnation(MADE, later)


@pytest.mark.parametrize("type", TYPES.values(), ids=TYPES)
def test_every_type_shows_which_life_this_is(type: ResourceType) -> None:
    assert plans.incarnation(type, recorded.good(type.name).document)


def test_idle_time_is_set_by_its_own_action_and_never_taken_away() -> None:
    now = document(COMPUTE, {IDLE: "PT12H"})
    (step,) = plans.steps(MADE, now, [Edit(IDLE, "PT12H", "PT3H")])
    assert step.request == Request(
        "POST", f"{now.id}/updateIdleShutdownSetting", "2021-07-01", {"idleTimeBeforeShutdown": "PT3H"})
    with pytest.raises(Unsafe):
        plans.steps(MADE, now, [Edit(IDLE, "PT12H", ABSENT)])


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["DELETE", "POST", "PATCH"])
async def test_what_is_attached_is_detached_and_never_deleted_with_its_machine(method: str) -> None:
    sent = list[Request]()

    class Clients:
        async def send(self, request: Request, headers: Mapping[str, str]) -> Mapping[str, str]:
            sent.append(request)
            return headers

    request = Request(method, "/subscriptions/x/computes/y", "2026-05-01")
    assert await send(Clients(), request, {"x-ms-client-request-id": "1"}) == {"x-ms-client-request-id": "1"}
    detached = replace(request, url=request.url + "?underlyingResourceAction=Detach")
    assert sent == [detached if method == "DELETE" else request]


def test_an_endpoint_that_is_cut_off_keeps_all_but_its_way_in_and_its_traffic() -> None:
    now = document(ONLINE, {"properties.publicNetworkAccess": "Enabled", "properties.authMode": "Key",
                            "properties.traffic": {"blue": 90, "gr een": 10}, "properties.mirrorTraffic": {"next": 20}})
    [step], after = isolated(TYPES[ONLINE], now)
    assert (step.request.method, step.request.url) == ("PUT", str(now.id).replace(" ", "%20"))
    assert not [name for name in step.request.body if name.startswith("+") or name in ("id", "name", "type", "systemData")]
    assert step.request.body["properties"] == {
        "authMode": "Key", "publicNetworkAccess": "Disabled", "traffic": {"blue": 0, "gr een": 0}, "mirrorTraffic": {"next": 0},
        "properties": now.get("properties.properties")}
    assert step.request.body["location"] and step.request.body["kind"] == "Managed"
    assert step.request.body["identity"] == {"type": "SystemAssigned"}
    assert after.get("+deployments") == now.get("+deployments")


def test_a_connection_is_never_written() -> None:
    edits, refused = plans.edits(TYPES[SPACE], [
        Drift("+connections[name='search']", {"name": "search"}, ABSENT),
        Drift("+connections[name='x']", ABSENT, {"name": "x"}),
        Drift("+connections[name='search'].properties.authType", "ApiKey", "AAD")])
    assert (edits, len(refused)) == ((), 3)


@pytest.mark.parametrize("type", [MODEL, SCHEDULE])
def test_what_was_deleted_is_made_again_without_what_only_azure_writes(type: str) -> None:
    good = document(type, {})
    edits, refused = plans.edits(TYPES[type], [Drift("", ABSENT, good.body)])
    [step] = plans.steps(TYPES[type], replace(good, body=ABSENT), edits)
    assert (refused, step.creates, step.request.method, step.request.url) == ([], True, "PUT", good.id)
    assert set(step.request.body) == {"properties"}
    assert "provisioningState" not in step.request.body["properties"]
