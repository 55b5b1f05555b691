"""What an ask knows of those before it: how loud it is, which intent it offers, what it takes back. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from guardrail.paths import ABSENT
from guardrail.values import SEVERITIES, Action, Case, Plan, Severity

VOIDS = 3                                   # in VOIDED_FOR: from then on the intent may be approved
VOIDED_FOR = timedelta(hours=24)
INTENT_FOR = timedelta(hours=1)             # an approved intent is good for so long


def louder(before: Action | None, plan: Plan, severity: Severity) -> Severity:
    """Of an ask for `plan`: one step above an ask of its controls that nobody decided, `severity` at least."""
    if before is None or before.state != "expired" or set(plan.controls).isdisjoint(before.plan.controls):
        return severity
    was = SEVERITIES.index(before.severity or severity)
    return SEVERITIES[min(SEVERITIES.index(severity), max(0, was - 1))]


def reminds(asked: Action) -> datetime | None:
    """When people are reminded: at half of an ask's time, once."""
    if asked.state != "proposed" or asked.reminded or asked.expires is None:
        return None
    return asked.opened + (asked.expires - asked.opened) / 2


def voided(case: Case, now: datetime) -> Case:
    """The case after another ask ended because the resource changed."""
    return replace(case, voids=(*case.voids, now)[-VOIDS:])


def intent(case: Case, plan: Plan, now: datetime) -> str:
    """Plan.intent, if an ask for `plan` offers it: after three voids in a day, and for a fix that deletes nothing; or ""."""
    recent = [at for at in case.voids if now - at < VOIDED_FOR]
    is_plain = plan.kind == "fix" and all(edit.after is not ABSENT for edit in plan.edits)
    return plan.intent if is_plain and len(recent) >= VOIDS else ""


def chosen(action: Action) -> Action:
    """For the plan that people approved: of a fix that a breaker held perhaps the isolation that it offered instead."""
    if action.state != "approved" or not action.approvals:
        return action
    plan = action.approvals[-1].plan
    action = replace(action, approvals=tuple(one for one in action.approvals if one.plan == plan))
    return replace(action, plan=action.instead, instead=None) if action.instead and action.instead.hash == plan else action


def approves_intent(action: Action, now: datetime) -> bool:
    """Whether everyone who approved it approved its intent, and within the hour."""
    return bool(action.approvals) and all(
        one.intent == action.plan.intent and now < one.at + INTENT_FOR for one in action.approvals)


def taken_back(undo: Action) -> list[tuple[str, dict[str, Any]]]:
    """The record (event, detail) of what a verified undo took back: rolled back, an isolation released; none for a fix."""
    if undo.undoes is None:
        return []
    id, kind = undo.undoes
    event = "resource.released" if kind == "isolate" else "action.rolled_back"
    return [(event, {"action_id": id, "from": "verified", "kind": kind, "undo": undo.id, "why": undo.why})]
