"""Diagnostic settings: which of them keep the logs, and what is put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import recorded
from detectors import monitor
from guardrail import plans, proof
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Control, Drift
from remediators import TYPES
from tests.detectors.worst import drifts_in_time

CONTROLS = {control.id: control for control in monitor.CONTROLS}
ACCOUNT = CONTROLS["diag-cognitiveservices"]
APPROVED = ("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-log/providers/"
            "Microsoft.OperationalInsights/workspaces/log-ai")
FOREIGN = APPROVED.replace("rg-log", "rg-else")
PART = monitor.SETTINGS
by_id = pytest.mark.parametrize("control", monitor.CONTROLS, ids=lambda control: control.id)


def setting(name: str, *logs: Mapping[str, Any], workspace: Any = APPROVED, **properties: Any) -> dict[str, Any]:
    """A setting as GET shows it: what was never set stands there as null."""
    nothing: dict[str, Any] = {"storageAccountId": None, "eventHubName": None, "metrics": []}
    shown = [{"category": None, "categoryGroup": None, **log} for log in logs]
    return {"name": name, "location": None, "tags": None, "identity": None,
            "properties": {**nothing, "workspaceId": workspace, "logs": shown, **properties}}


def audit(enabled: Any = True) -> dict[str, Any]:
    return {"categoryGroup": "audit", "enabled": enabled}


def every(enabled: Any = True) -> dict[str, Any]:
    return {"categoryGroup": "allLogs", "enabled": enabled}


def category(name: str, enabled: Any = True) -> dict[str, Any]:
    return {"category": name, "enabled": enabled}


CATEGORIES = [category(name) for name in ACCOUNT.parameters["categories"]]


def drifts(stand: Sequence[Any], known: Sequence[Any] = (), control: Control = ACCOUNT,
           **parameters: Any) -> list[Drift]:
    document = _document(stand, known, control)
    return list(control.check(document.node(), {**control.parameters, **parameters}))


def _document(stand: Sequence[Any], known: Sequence[Any], control: Control) -> Document:
    good, (part,) = recorded.good(control.on), control.also_reads
    body = {**good.body, part: list(stand)}
    return replace(recorded.Sample(good.id, good.api_version, body).document, good={part: list(known)} if known else {})


def after(stand: Sequence[Any], known: Sequence[Any] = (), control: Control = ACCOUNT, **parameters: Any) -> Any:
    """The settings once the control's plan is carried out: proved, and silent."""
    (type,) = [one for one in TYPES if one.name == control.on]
    document = _document(stand, known, control)
    edits, refused = plans.edits(type, drifts(stand, known, control, **parameters))
    assert refused == []
    steps = plans.steps(type, document, edits)
    proof.prove(document, steps, [control], lambda one: {**one.parameters, **parameters})
    fixed = proof.predict(document, steps)
    assert list(control.check(fixed.node(), {**control.parameters, **parameters})) == []
    return fixed.get(control.also_reads[0])


@pytest.mark.parametrize(("logs", "level", "kept"), [
    ([audit()], "audit", True), ([every()], "audit", True), ([audit()], "allLogs", False), ([every()], "allLogs", True),
    (CATEGORIES, "audit", True), (CATEGORIES, "categories", True), (CATEGORIES[1:], "audit", False),
    ([audit(False)], "audit", False), ([], "audit", False), ([audit("true")], "audit", False),
    ([audit(1)], "audit", False),
    ([audit(None)], "audit", False), ([{"categoryGroup": "AUDIT", "enabled": True}], "audit", True),
    ([audit(), audit(False)], "audit", False), ([audit(False), every()], "audit", True),
    ([{"categoryGroup": "audit ", "enabled": True}], "audit", False),
])
@pytest.mark.threat("E9")
def test_logs_are_kept_when_all_that_is_wanted_is_switched_on(logs: list[Any], level: str, kept: bool) -> None:
    found = drifts([setting("logs", *logs)], approved_workspaces=[APPROVED], level=level)
    assert (found == []) == kept


@pytest.mark.parametrize("logs", ["text", {}, [7], [None], [{"enabled": True}]], ids=str)
def test_logs_of_another_shape_keep_nothing(logs: Any) -> None:
    document = _document([setting("logs", logs=logs)], (), ACCOUNT)
    assert plans.judge([ACCOUNT], document, lambda control: {**control.parameters, "approved_workspaces": [APPROVED]})


@pytest.mark.parametrize(("workspace", "approved", "kept"), [
    (APPROVED, [APPROVED], True), (APPROVED.upper(), [APPROVED], True), (FOREIGN, [APPROVED], False),
    (None, [APPROVED], False),
    (APPROVED + "/", [APPROVED], False), (APPROVED + " ", [APPROVED], False), (FOREIGN, [APPROVED, FOREIGN], True),
    (FOREIGN, [], True), ("somewhere", [], False), (APPROVED.replace("workspaces", "clusters"), [], False),
    (None, [], False),
])
def test_the_destination_counts(workspace: Any, approved: list[str], kept: bool) -> None:
    """Nothing declared and nothing known: any workspace is taken, and what is no workspace is not."""
    assert (drifts([setting("logs", audit(), workspace=workspace)], approved_workspaces=approved) == []) == kept


def test_any_one_of_five_settings_is_enough() -> None:
    others = [setting(f"s{n}", audit(), workspace=None, storageAccountId="/subscriptions/x") for n in range(4)]
    assert drifts([*others, setting("logs", audit())], approved_workspaces=[APPROVED]) == []


def test_what_was_known_good_comes_back_as_it_was_without_what_was_never_set() -> None:
    known = setting("siem", audit(), category("Trace"), metrics=[{"category": "AllMetrics", "enabled": True}])
    (back,) = after([], [known])
    assert back["name"] == "siem"
    assert back["properties"] == {name: value for name, value in known["properties"].items() if value is not None}


def test_without_a_known_one_the_parameters_make_it() -> None:
    (made,) = after([], approved_workspaces=[APPROVED, FOREIGN], setting_name="ours")
    assert made == {"name": "ours", "properties": {"workspaceId": APPROVED, "logs": [audit()], "metrics": []}}


@pytest.mark.threat("A11")
def test_without_either_a_person_decides() -> None:
    (drift,) = drifts([])
    assert (drift.path, drift.decided) == (PART, False)


@pytest.mark.threat("A11")
def test_a_poisoned_known_setting_is_not_put_back_where_workspaces_are_declared() -> None:
    (drift,) = drifts([], [setting("siem", audit(), workspace=FOREIGN)], approved_workspaces=[APPROVED])
    assert drift.wanted["properties"]["workspaceId"] == APPROVED


def test_a_destination_that_changed_is_noticed_by_what_was_known() -> None:
    known = setting("logs", audit())
    (drift,) = drifts([setting("logs", audit(), workspace=FOREIGN)], [known])
    assert (drift.path, drift.observed, drift.wanted, drift.decided) == (
        f"{PART}[name='logs'].properties.workspaceId", FOREIGN, APPROVED, True)


@pytest.mark.parametrize(("stand", "wanted"), [
    ([setting("logs", audit(False))], {"logs": [True]}),
    ([setting("logs")], {"logs": [True]}),
    ([setting("logs", audit(False), audit(False))], {"logs": [True, True]}),
    ([setting("logs", audit(), audit(False))], {"logs": [True, True]}),
    ([setting("archive", category("Trace"), workspace=None), setting("logs", audit(False))],
     {"archive": [], "logs": [True]}),
])
def test_a_weakened_setting_is_mended_and_not_doubled(stand: list[Any], wanted: dict[str, list[bool]]) -> None:
    """Azure refuses two settings that send the same logs to the same workspace."""
    mended = after(stand, [setting("logs", audit())])
    assert [one["name"] for one in mended] == [one["name"] for one in stand]
    for one in mended:
        on = [log["enabled"] for log in one["properties"]["logs"] if log.get("categoryGroup") == "audit"]
        assert on == wanted[one["name"]]


def test_the_one_that_ships_to_the_approved_workspace_is_mended_when_none_is_known() -> None:
    stranger, mine = setting("other", every(), workspace=FOREIGN), setting("mine", category("Trace"))
    mended = after([stranger, mine], approved_workspaces=[APPROVED])
    assert [one["name"] for one in mended] == ["other", "mine"]
    assert mended[1]["properties"]["logs"][1] == audit()
    assert mended[0]["properties"]["workspaceId"] == FOREIGN


def test_ours_is_led_back_and_a_strangers_is_left_alone() -> None:
    stranger, ours = setting("siem", every(), workspace=FOREIGN), setting("Guardrail-Logs", audit(), workspace=FOREIGN)
    mended = after([stranger, ours], approved_workspaces=[APPROVED])
    assert mended[0] == stranger
    assert mended[1]["properties"]["workspaceId"] == APPROVED


@pytest.mark.threat("E8")
def test_ten_thousand_entries_are_judged_in_a_fifth_of_a_second() -> None:
    for entry, decided in ((audit(False), False), (category("Trace", False), True)):
        document = _document([setting("logs", *[entry] * 10_000)], [setting("logs", audit())], ACCOUNT)
        (drift,) = drifts_in_time(
            lambda now=document: ACCOUNT.check(now.node(), ACCOUNT.parameters),  # type: ignore[misc]
            document, f"{PART}[name='logs'].properties.logs")
        assert drift.decided == decided


def test_a_sixth_setting_is_not_tried() -> None:
    five = [setting(f"s{n}", every(), workspace=FOREIGN) for n in range(5)]
    (drift,) = drifts(five, approved_workspaces=[APPROVED])
    assert not drift.decided
    assert drifts(five[:4], approved_workspaces=[APPROVED])[0].decided


switches = st.builds(
    lambda name, on: {**name, "enabled": on},
    st.sampled_from([{"categoryGroup": "audit"}, {"categoryGroup": "allLogs"}, {"category": "Trace"},
                     {"category": "Audit"}]),
    st.booleans())
wild_settings = st.lists(st.builds(
    lambda name, logs, workspace: setting(name, *logs, workspace=workspace),
    st.sampled_from(["logs", "siem", "guardrail-logs", "Logs2"]), st.lists(switches, max_size=4),
    st.sampled_from([APPROVED, FOREIGN, None])), max_size=5, unique_by=lambda one: one["name"])


@settings(max_examples=40)
@given(wild_settings, wild_settings, st.sampled_from([(), (APPROVED,), (APPROVED, FOREIGN)]),
       st.sampled_from(monitor.LEVELS))
def test_whatever_stands_there_one_plan_keeps_the_logs_and_takes_nothing_away(
    stand: list[Any], known: list[Any], approved: tuple[str, ...], level: str,
) -> None:
    found = drifts(stand, known, approved_workspaces=approved, level=level)
    if not all(drift.decided for drift in found):
        assert not approved or len(stand) == monitor.MOST_SETTINGS
        return
    now = {one["name"]: one for one in after(stand, known, approved_workspaces=approved, level=level)}
    assert set(now) >= {one["name"] for one in stand}
    for one in stand:
        on = [log for log in one["properties"]["logs"] if log["enabled"]]
        assert all(log in now[one["name"]]["properties"]["logs"] for log in on)


@by_id
def test_every_type_gets_back_what_was_known_and_what_is_made_is_kept(control: Control) -> None:
    (part,) = control.also_reads
    good = recorded.good(control.on).body[part]
    (back,) = after([], good, control)
    assert back["name"] == "logs"
    (made,) = after([], (), control, approved_workspaces=[APPROVED])
    assert made["name"] == "guardrail-logs"


def test_a_storage_account_without_a_blob_service_has_no_blob_logs() -> None:
    blob = CONTROLS["diag-storage-blob"]
    document = _document([], (), blob)
    files = replace(document, body={**document.body, "kind": "FileStorage"})
    assert list(blob.check(files.node(), blob.parameters)) == []
    assert list(blob.check(document.node(), blob.parameters))


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("parameter", "value", "sound"), [
    ("approved_workspaces", ["*"], False), ("approved_workspaces", APPROVED, False),
    ("approved_workspaces", [APPROVED], True),
    ("approved_workspaces", [APPROVED.rsplit("/", 1)[0] + "/*/x"], False), ("approved_workspaces", [7], False),
    ("approved_workspaces", [APPROVED.replace("workspaces", "clusters")], False), ("level", "none", False),
    ("level", "allLogs", True), ("categories", [], False), ("categories", ["Trace"], False),
    ("categories", ["audit", "requestresponse"], True), ("setting_name", "a/b", False),
    ("setting_name", "logs\n", False),
    ("setting_name", "logs", True),
])
def test_a_parameter_below_its_floor_is_refused(parameter: str, value: Any, sound: bool) -> None:
    assert (ACCOUNT.floors[parameter](value) == "") == sound


@by_id
def test_every_parameter_has_a_floor_that_its_default_passes(control: Control) -> None:
    assert set(control.floors) == set(control.parameters)
    assert [value for name, value in control.parameters.items() if control.floors[name](value)] == []


@pytest.mark.threat("E9")
@pytest.mark.parametrize("odd", [ABSENT, "text", 7, [7], [{"properties": {}}]], ids=str)
def test_settings_that_cannot_be_read_are_not_taken_for_none(odd: Any) -> None:
    good = recorded.good(ACCOUNT.on)
    body = {name: value for name, value in good.body.items() if name != PART}
    document = recorded.Sample(good.id, good.api_version, body if odd is ABSENT else {**body, PART: odd}).document
    document = replace(document, parts=document.parts - {PART}) if odd is ABSENT else document
    found = plans.judge([ACCOUNT], document, lambda control: {**control.parameters, "approved_workspaces": [APPROVED]})
    assert [finding.state for finding in found] == ["unreadable"]
