"""What the fix itself does: which steps ask first, by kind of step, mode and place. No policy can say otherwise (A9)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import recorded
from detectors import CONTROLS
from guardrail import ids
from guardrail.caps import CUTS, Class, cap, class_of, dependants
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.plans import edits as edits_of
from guardrail.plans import judge, steps
from guardrail.policy import Place, Policy, Rules, place
from guardrail.values import MODES, Edit, Kind, Mode, Plan, ResourceType, Route
from remediators import TYPES

PRODUCTION, DEVELOPMENT = (f"/subscriptions/00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))
NSG = "Microsoft.Network/networkSecurityGroups"
ID = ids.parse(f"{PRODUCTION}/resourceGroups/rg/providers/{NSG}/n")
OPEN = Rules(switch="policy")
CAPPED = ResourceType(
    NSG, "2025-09-01",
    (
        Route("properties.rules[name]", "{id}/rules/{name}", update="PUT", create=True, delete=True, round_trip=True),
        Route("+policies[name]", "{id}/policies/{name}", update="PUT", create=True, delete=True),
        Route("properties.state", "{id}/{action}", update="POST",
              actions={"Stopped": "stop", "Running": "start", "new": "regenerateKey", "NEW": "rotateKeys",
                       "again": "resyncKeys"}),
        Route("properties.schedule", "{id}/schedule", update="PUT", round_trip=True),
        Route(update="PATCH"),
    ),
    dependants=("properties.subnets", "properties.interfaces"),
    stops={"properties.state": ("Stopped",), "properties.schedule.isEnabled": (False,), "properties.traffic": (0,),
           "properties.links[name].status": ("Rejected",)},
)
RULE = {"name": "a", "access": "Allow"}
BODY: dict[str, Any] = {
    "x": 1, "rules": [RULE], "state": "Running", "schedule": {"isEnabled": True, "at": 1}, "traffic": {"blue": 100},
    "links": [{"name": "a", "status": "Approved"}], "subnets": [{"id": "one"}]}
PATCHED = Edit("properties.x", 1, 2)
STEPS: dict[str, tuple[Edit, Class]] = {
    "patch": (PATCHED, "sets"),
    "patch of an item": (Edit("properties.links[name='a'].note", ABSENT, "x"), "sets"),
    "put": (Edit("properties.rules[name='a'].access", "Allow", "Deny"), "overwrites"),
    "create": (Edit("properties.rules[name='b']", ABSENT, {"name": "b"}), "creates"),
    "delete": (Edit("properties.rules[name='a']", RULE, ABSENT), "deletes"),
    "stop by post": (Edit("properties.state", "Running", "Stopped"), "stops"),
    "start by post": (Edit("properties.state", "Stopped", "Running"), "acts"),
    "regenerate": (Edit("properties.state", "Running", "new"), "rotates"),
    "rotate": (Edit("properties.state", "Running", "NEW"), "rotates"),
    "resync": (Edit("properties.state", "Running", "again"), "rotates"),
    "pause by put": (Edit("properties.schedule.isEnabled", True, False), "stops"),
    "pause by put of the whole": (
        Edit("properties.schedule", {"isEnabled": True, "at": 1}, {"isEnabled": False, "at": 1}), "stops"),
    "pause by leaving out": (Edit("properties.schedule.isEnabled", True, ABSENT), "stops"),
    "resume by put": (Edit("properties.schedule.isEnabled", False, True), "overwrites"),
    "put of what was paused": (
        Edit("properties.schedule", {"isEnabled": False, "at": 1}, {"isEnabled": False, "at": 2}), "overwrites"),
    "traffic to zero": (Edit("properties.traffic.blue", 100, 0), "stops"),
    "traffic moved": (Edit("properties.traffic.blue", 100, 50), "sets"),
    "a connection rejected": (Edit("properties.links[name='a'].status", "Approved", "rejected"), "stops"),
    "a dependant taken out": (Edit("properties.subnets[id='one']", {"id": "one"}, ABSENT), "detaches"),
    "a dependant changed": (Edit("properties.subnets[id='one'].x", ABSENT, 1), "sets"),
}


def lowered(mode: Mode, edits: list[Edit], body: Any = BODY, kind: Kind = "fix", production: bool = True) -> tuple[Mode, str]:
    document = Document(ID, NSG, {"properties": body, "+policies": [RULE]})
    where = replace(place(ID, Policy()), environment="production" if production else "development")
    return cap(mode, Plan(ID, "", kind, tuple(edits), ("c",)), steps(CAPPED, document, edits), CAPPED, document, where, OPEN)


@pytest.mark.threat("A9")
@pytest.mark.parametrize("name", STEPS)
def test_what_cuts_somebody_off_asks_in_production(name: str) -> None:
    """With one dependant alone, so that nothing but the step itself can be the reason."""
    edit, kind = STEPS[name]
    (step,) = steps(CAPPED, Document(ID, NSG, {"properties": BODY}), [edit])
    assert class_of(CAPPED, step) == kind
    for mode in MODES:
        for production in (True, False):
            found, why = lowered(mode, [edit], production=production)
            asks = production and kind in CUTS
            assert found == (min(mode, "approve", key=MODES.index) if asks else mode)
            assert why == (f"production: it {kind}" if found != mode else "")


@pytest.mark.threat("A9")
@pytest.mark.parametrize(("edits", "body", "kind", "development", "production"), [
    ([PATCHED], {}, "fix", "enforce", "enforce"),
    ([PATCHED], {"subnets": [1], "interfaces": [1]}, "fix", "enforce", "approve"),
    ([PATCHED], {"subnets": "odd"}, "fix", "enforce", "enforce"),
    ([PATCHED], {}, "isolate", "enforce", "approve"),
    ([PATCHED], {}, "undo", "approve", "approve"),
    ([Edit("+policies[name='a'].access", "Allow", "Deny")], {}, "fix", "approve", "approve"),
    ([Edit("+policies[name='b']", ABSENT, {"name": "b"})], {}, "fix", "enforce", "enforce"),
    ([Edit(f"properties.x{n}", 1, 2) for n in range(50)], {}, "fix", "enforce", "enforce"),
    ([Edit(f"properties.x{n}", 1, 2) for n in range(51)], {}, "fix", "approve", "approve"),
    ([PATCHED, Edit("properties.traffic.blue", 100, 0)], BODY, "fix", "enforce", "approve"),
], ids=["patch", "two dependants", "odd list", "isolate", "undo", "unproven put", "create", "50 edits", "51 edits",
        "one of two stops"])
def test_what_the_plan_is_and_whom_it_meets(
        edits: list[Edit], body: Any, kind: Kind, development: Mode, production: Mode) -> None:
    for mode in ("enforce", "approve", "report"):
        for wanted, is_production in ((development, False), (production, True)):
            found, why = lowered(mode, edits, body, kind, is_production)
            assert found == min(mode, wanted, key=MODES.index)
            assert bool(why) == (found != mode)


@pytest.mark.threat("A9")
def test_dependants_that_cannot_be_read_are_not_none() -> None:
    type = replace(CAPPED, dependants=("properties.subnets", "+policies"))
    document = Document(ID, NSG, {"properties": BODY}, parts=frozenset({"+policies"}))
    assert dependants(type, document) == 1
    assert dependants(type, replace(document, body={**document.body, "+policies": [RULE]})) == 2
    assert dependants(type, replace(document, parts=frozenset())) is None
    assert dependants(type, replace(document, unreadable={"+policies": "403"})) is None
    found = cap("enforce", Plan(ID, "", "fix", (PATCHED,), ("c",)), steps(type, document, [PATCHED]), type,
                replace(document, parts=frozenset()), place(ID, Policy()), OPEN)
    assert found == ("approve", "production: how many depend on it could not be read")


def test_a_put_that_was_once_let_through_without_loss_is_proven() -> None:
    id = ids.parse(f"{DEVELOPMENT}/resourceGroups/rg/providers/{NSG}/n")
    document = Document(id, NSG, {"+policies": [RULE]})
    edits = (Edit("+policies[name='a'].access", "Allow", "Deny"),)
    here = Place(DEVELOPMENT[-36:], "rg", NSG, id, "development")
    found = cap("enforce", Plan(id, "", "fix", edits, ("c",)), steps(CAPPED, document, edits), CAPPED, document, here,
                replace(OPEN, proven=frozenset({NSG.lower()})))
    assert found == ("enforce", "")


STOPPING = {"paused", "stopped", "rejected"}


@pytest.mark.threat("A9")
def test_every_fix_and_isolation_of_ours_that_stops_something_is_known_to() -> None:
    """By the values that stop in Azure's words, and live traffic: what a type's table leaves out would act unasked."""
    unknown, known = list[str](), set[str]()
    for type in TYPES:
        bodies = [recorded.drifted(control).document for control in CONTROLS if control.on == type.name and control.drift]
        for body in bodies:
            drifts = [one.drift for one in judge([one for one in CONTROLS if one.on == type.name], body,
                                                 lambda control: control.parameters) if one.drift]
            drifts += list(type.isolate(body.node(), {})) if type.isolate and not body.gone else []
            for edit in edits_of(type, drifts)[0]:
                last = edit.path.rsplit(".", 1)[-1].lower()
                stops = (str(edit.after).lower() in STOPPING or (last == "isenabled" and edit.after is False)
                         or (".traffic" in edit.path and edit.after == 0) or (last == "maxnodecount" and edit.after == 0))
                if stops and edit.before is not ABSENT:
                    (step,) = steps(type, body, [edit])
                    known.add(type.name)
                    if class_of(type, step) != "stops":
                        unknown.append(f"{type.name} {edit.path} = {edit.after}")
    assert unknown == []
    assert len(known) >= 4
