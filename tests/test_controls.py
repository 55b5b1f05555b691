"""Every control, by the one table of its type's good document and its own `drift=`: no control needs a test of its own
for what all must do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

import recorded
from detectors import CONTROLS
from guardrail import plans, proof
from guardrail.documents import Document
from guardrail.errors import Malformed
from guardrail.paths import ABSENT, get, parse, put, same, under
from guardrail.paths import fold as fold_text
from guardrail.values import Control, Drift, Finding, Plan, ResourceType
from remediators import TYPES

BY_TYPE = {type.name: type for type in TYPES}
by_id = pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)


def parameters(control: Control) -> Any:
    return control.parameters


def judge(control: Control, document: Document) -> list[Finding]:
    return plans.judge([control], document, parameters)


def siblings(control: Control) -> list[Control]:
    return [other for other in CONTROLS if other.on == control.on]


def drifts(findings: list[Finding]) -> list[Drift]:
    return [finding.drift for finding in findings if finding.drift]


@pytest.mark.parametrize("type", TYPES, ids=lambda type: type.name)
def test_every_control_is_silent_on_the_good_document(type: ResourceType) -> None:
    document = recorded.good(type.name).document
    assert plans.judge([control for control in CONTROLS if control.on == type.name], document, parameters) == []


@by_id
def test_its_drift_makes_it_speak(control: Control) -> None:
    findings = judge(control, recorded.drifted(control).document)
    assert control.drift, "without drift= nothing shows that the control can speak"
    assert drifts(findings), f"{control.id} is silent on its own drift"


@by_id
def test_null_and_absent_are_one(control: Control) -> None:
    for path in control.drift:
        removed = recorded.laid(recorded.drifted(control).body, {path: ABSENT})
        if removed is ABSENT or not path:
            continue
        document = recorded.drifted(control).document
        with_null = _with_null(removed, path)
        assert judge(control, replace(document, body=removed)) == judge(control, replace(document, body=with_null))


def _with_null(body: Any, path: str) -> Any:
    try:
        return put(body, parse(path), None) if isinstance(parse(path)[-1], str) else body
    except Malformed:
        return body


@by_id
def test_letter_case_decides_nothing(control: Control) -> None:
    document = recorded.drifted(control).document
    shouted = replace(document, body=_other_case(document.body))
    assert bool(judge(control, document)) == bool(judge(control, shouted))
    good = recorded.good(control.on).document
    assert judge(control, replace(good, body=_other_case(good.body), good={})) == [] or control.learns


def _other_case(value: Any) -> Any:
    """Property names and enum-like strings in lower case; names and ids keep their case, as routes print them."""
    if isinstance(value, dict):
        keeps = ("name", "id")
        return {(key if key.startswith("+") else fold_text(key)): (inner if fold_text(key) in keeps else _other_case(inner))
                for key, inner in value.items()}
    if isinstance(value, list):
        return [_other_case(item) for item in value]
    return fold_text(value) if isinstance(value, str) and value.isalnum() else value


@pytest.mark.threat("E9")
@by_id
def test_a_value_of_a_wrong_kind_is_never_compliant(control: Control) -> None:
    """At each place that the drift names: a value that Azure does not know leaves the control speaking."""
    document = recorded.drifted(control).document
    for path in control.drift:
        here = parse(path)
        if not here or not isinstance(here[-1], str) or isinstance(control.drift[path], (list, dict)):
            continue
        for odd in ("Disabled ", "Disabled\u200b", "maybe", [], {}, 7):
            body = put(document.body, here, odd)
            findings = judge(control, replace(document, body=body))
            assert findings, f"{control.id} takes {odd!r} at {path} for compliant"


@by_id
def test_what_cannot_be_read_is_not_compliant(control: Control) -> None:
    document = recorded.good(control.on).document
    for part in control.also_reads or ("",):
        hidden = replace(document, unreadable={part: "403 AuthorizationFailed"})
        findings = judge(control, hidden)
        assert [finding.state for finding in findings] == ["unreadable"]
        assert "403" in findings[0].why
    for part in control.also_reads:
        unread = replace(document, parts=document.parts - {part})
        assert [finding.state for finding in judge(control, unread)] == ["unreadable"]


def fixed_by(control: Control, document: Document) -> tuple[list[Any], list[Any]]:
    type = BY_TYPE[control.on]
    found = drifts(judge(control, document))
    if control.response == "isolate" and type.isolate:
        found = list(type.isolate(document.node(), {}))
    edits, refused = plans.edits(type, found)
    return list(edits), refused


ACTING = [control for control in CONTROLS if control.response != "report"]


@pytest.mark.parametrize("control", ACTING, ids=lambda control: control.id)
def test_its_fix_is_planned_proved_silent_and_undone(control: Control) -> None:
    """Fix applied: the check is silent, or the isolation is. Undone: the same document. Twice is once."""
    type, document = BY_TYPE[control.on], recorded.drifted(control).document
    edits, refused = fixed_by(control, document)
    assert edits and not refused, f"nothing can be planned: {refused}"
    steps = plans.steps(type, document, edits)
    proof.prove(document, steps, siblings(control), parameters)
    fixed = proof.predict(document, steps)
    assert plans.holds(fixed, edits)
    if control.response == "revert":
        assert judge(control, fixed) == []
    else:
        assert type.isolate is not None and list(type.isolate(fixed.node(), {})) == []
    assert same(proof.edited(fixed, edits).body, fixed.body)
    back = Plan(document.id, "", "fix", tuple(edits), (control.id,)).inverse()
    undone = proof.edited(fixed, back.edits)
    left = [moved for moved in proof.differences(document.body, undone.body)
            if not _is_servers_own(type, moved.path) and moved.now != {}]     # an object made on the way may stay, empty
    assert left == []
    if "" in {edit.path for edit in edits}:
        return      # who writes a role assignment could make itself owner: a person's command undoes this one
    undo_steps = plans.steps(type, fixed, back.edits)
    proof.prove(fixed, undo_steps, siblings(control), parameters, loosens=True)


def _is_servers_own(type: ResourceType, path: Any) -> bool:
    """What only ARM writes does not come back with an undo: it is made anew."""
    return any(under(path, (*path[:depth], *parse(own))) for route in type.routes for own in route.readonly
               for depth in range(len(path)))


@pytest.mark.parametrize("control", ACTING, ids=lambda control: control.id)
def test_the_order_of_drifts_does_not_matter(control: Control) -> None:
    type, document = BY_TYPE[control.on], recorded.drifted(control).document
    found = drifts(judge(control, document))[:4]
    plans_made = {tuple(plans.edits(type, list(order))[0]).__repr__() for order in permutations(found)}
    assert len(plans_made) == 1


def test_all_drifts_of_a_type_at_once_make_one_plan() -> None:
    """Controls of one type agree with each other: nothing is refused when all speak together."""
    for type in TYPES:
        body = recorded.good(type.name).body
        for control in ACTING:
            if control.on == type.name and control.response == "revert" and "" not in control.drift:
                try:
                    body = recorded.laid(body, control.drift)
                except Malformed:
                    continue
        document = replace(recorded.good(type.name).document, body=body)
        mine = [control for control in ACTING if control.on == type.name and control.response == "revert"]
        edits, refused = plans.edits(type, drifts(plans.judge(mine, document, parameters)))
        conflicts = [why for drift, why in refused if drift.decided]
        assert conflicts == []
        steps = plans.steps(type, document, edits)
        proof.prove(document, steps, mine, parameters)


def _ids() -> Iterator[str]:
    for control in CONTROLS:
        yield control.id


def test_ids_are_kebab_case_and_used_once() -> None:
    names = list(_ids())
    assert len(names) == len(set(names))
    assert all(fold_text(name) == name and name.replace("-", "").isalnum() for name in names)


@by_id
def test_what_a_person_reads_of_it_is_there(control: Control) -> None:
    for text in (control.title, control.why):
        assert text and not text.endswith(".") and len(text) < 160
    assert control.breaks or control.response == "report"
    assert control.on in BY_TYPE
    for trigger in control.triggered_by:
        assert trigger.split("/")[-1] in ("write", "delete", "action"), trigger


@by_id
def test_its_parts_can_be_read(control: Control) -> None:
    mounted = {route.path.split("[")[0] for route in BY_TYPE[control.on].routes if route.path.startswith("+")}
    assert set(control.also_reads) <= mounted
    assert get({}, parse(control.also_reads[0])) is ABSENT if control.also_reads else True
