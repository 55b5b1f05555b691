"""Records and findings as events that a SIEM knows: Open Cybersecurity Schema Framework (OCSF) 1.8.0. Pure.

Findings are Detection Findings (2004), or Compliance Findings (2003) where that is asked for; what an action did is a
Remediation Activity (7001). Numbers and names are those of the published schema at tag 1.8.0, profile `cloud`; tests hold
every event against it. Waiting and deciding are no attempt at remediating: they stand in the records alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from guardrail import __version__, ids, names
from guardrail.chain import StoredRecord
from guardrail.errors import Malformed
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT
from guardrail.redact import redact

VERSION = "1.8.0"
COMPLIANCE, DETECTION, REMEDIATION = 2003, 2004, 7001
CLASSES = {COMPLIANCE: "Compliance Finding", DETECTION: "Detection Finding", REMEDIATION: "Remediation Activity"}
CATEGORIES = {2: "Findings", 7: "Remediation"}

Named = tuple[int, str]     # a number of the schema, and its caption
CREATE, CLOSE = (1, "Create"), (3, "Close")
ISOLATE, EVICT, RESTORE, UNTOLD = (1, "Isolate"), (2, "Evict"), (3, "Restore"), (0, "Unknown")
NEW, RESOLVED = (1, "New"), (4, "Resolved")
PASS, WARNING, FAIL = (1, "Pass"), (2, "Warning"), (3, "Fail")
OTHER = 99                  # then the caption is our own word
INFORMATIONAL, HIGH = (1, "Informational"), (4, "High")
SEVERITIES: Mapping[str, Named] = {"low": (2, "Low"), "medium": (3, "Medium"), "high": HIGH, "critical": (5, "Critical")}
RULE = {"type_id": 1, "type": "Rule"}
RESOURCE_UID = {"type_id": 10, "type": "Resource UID"}      # of an observable
SUBSCRIPTION = {"type_id": 13, "type": "Azure Subscription"}

ATTEMPTS: Mapping[str, Named] = {       # the states in which something was sent, or may have been
    "applying": (OTHER, "applying"), "applied": (OTHER, "applied"), "verified": (1, "Success"), "failed": (2, "Failure"),
    "unknown": (0, "Unknown"), "rolled_back": (OTHER, "rolled back"),
}
PARTIAL = (4, "Partial")


class _Detail(msgspec.Struct, frozen=True, rename={"was": "from"}):
    """What of a record's detail is told. A record whose detail is of another shape is not told: the verifier names it."""

    finding_id: str = ""
    control: str = ""
    path: str = ""
    severity: str = ""
    state: str = ""
    why: str = ""
    observed: Any = ABSENT
    wanted: Any = ABSENT
    decided: bool = True
    action_id: str = ""
    kind: str = ""
    was: str = ""
    controls: Sequence[str] = ()
    edits: Sequence[Mapping[str, Any]] = ()
    error: str = ""
    partial: bool = False


class _Body(msgspec.Struct, frozen=True):
    event: str
    at: datetime
    actor: str
    correlation_id: str
    mode: str
    policy_hash: str
    detail: msgspec.Raw


class Records:
    """A resource's records as events, in their order: what is told of one may stand in an earlier one."""

    def __init__(self, resource: ResourceId, class_uid: int = DETECTION) -> None:
        self._resource, self._class_uid = resource, class_uid
        self._raised = dict[str, tuple[datetime, _Detail]]()
        self._activities = dict[str, Named]()

    def event(self, record: StoredRecord) -> dict[str, Any] | None:
        """None for a record that is neither of a finding nor of an attempt, or cannot be read."""
        try:
            body = msgspec.json.decode(record.body, type=_Body)
            if not body.event.startswith(("finding.", "action.", "resource.")):
                return None
            detail = msgspec.json.decode(body.detail, type=_Detail)
        except (ValueError, RecursionError):
            return None
        event = self._finding(body, detail) if detail.finding_id else self._attempt(body, detail)
        if event is not None:
            event["metadata"] |= {"uid": names.record_id(record.hash), "original_event_uid": record.hash,
                                  "sequence": record.seq, "event_code": body.event}
            if body.correlation_id:
                event["metadata"]["correlation_uid"] = body.correlation_id
            event["unmapped"] |= {"actor": body.actor, "mode": body.mode, "policy_hash": body.policy_hash}
        return event

    def _finding(self, body: _Body, detail: _Detail) -> dict[str, Any]:
        if body.event == "finding.raised":
            self._raised[detail.finding_id] = (body.at, detail)
        since, raised = self._raised.get(detail.finding_id, (body.at, detail))
        row = {"id": detail.finding_id, "control": detail.control, "resource_id": self._resource, "path": detail.path,
               "state": raised.state, "severity": raised.severity, "why": raised.why, "observed": raised.observed,
               "wanted": raised.wanted, "decided": raised.decided, "since": since}
        return finding(row, body.at, self._class_uid, is_open=body.event == "finding.raised")

    def _attempt(self, body: _Body, detail: _Detail) -> dict[str, Any] | None:
        state = "verified" if body.event == "resource.quarantined" else body.event.removeprefix("action.")
        if detail.edits or detail.kind == "isolate":
            self._activities[detail.action_id] = activity(detail.kind, detail.edits)
        if state not in ATTEMPTS and detail.was not in ATTEMPTS:
            return None     # nothing was sent yet
        status = ATTEMPTS.get(state, (OTHER, state))
        status = PARTIAL if detail.partial and state != "unknown" else status
        severity = INFORMATIONAL if status[0] in (1, OTHER) else HIGH
        event = _event(REMEDIATION, self._activities.get(detail.action_id, UNTOLD), body.at, severity, status, self._resource)
        event |= {"command_uid": detail.action_id, "message": f"{detail.action_id} is {state}"}
        if detail.error or detail.why:
            event["status_detail"] = detail.error or detail.why
        event["unmapped"] |= {"controls": detail.controls, "state": state}
        return event


def activity(kind: str, edits: Sequence[Mapping[str, Any]]) -> Named:
    """What a plan does: cuts off, takes away (nothing shall stand where its edits are), or puts back."""
    if kind == "isolate":
        return ISOLATE
    return EVICT if kind == "fix" and edits and all("after" not in edit for edit in edits) else RESTORE


def finding(row: Mapping[str, Any], at: datetime, class_uid: int = DETECTION, *, is_open: bool = True) -> dict[str, Any]:
    """A finding as `findings list -o json` has it; without `id` and `since` where no store knows it. `at`: of the event."""
    resource, control = ResourceId(row["resource_id"]), row["control"]
    told = redact({name: row[name] for name in ("path", "observed", "wanted", "why") if row.get(name, ABSENT) is not ABSENT})
    why = told.pop("why", "")
    event = _event(class_uid, CREATE if is_open else CLOSE, at, SEVERITIES.get(row["severity"], UNTOLD),
                   NEW if is_open else RESOLVED, resource)
    info = {"uid": row["id"], "title": f"{control} on {resource.rpartition('/')[2]}", "desc": why,
            "types": [row["state"]] if row["state"] else [], "analytic": {**RULE, "uid": control, "name": control}}
    if "since" in row:
        info["created_time"] = milliseconds(row["since"])
    event |= {"message": why, "finding_info": info, "resources": [_resource(resource)]}
    if row["state"] == "drift":
        event["evidences"] = [{"data": told}]
    if class_uid == COMPLIANCE:
        number, caption = PASS if not is_open else FAIL if row["state"] == "drift" else WARNING
        event["compliance"] = {"control": control, "status_id": number, "status": caption}
    else:
        event["is_alert"] = is_open and row["state"] == "drift"
    event["unmapped"] |= {name: row[name] for name in ("decided", "action_id", "decision") if name in row}
    return event


def milliseconds(at: datetime) -> int:
    """Since 1970, as OCSF counts."""
    return round(at.timestamp() * 1000)


def _event(class_uid: int, what: Named, at: datetime, severity: Named, status: Named, resource: ResourceId) -> dict[str, Any]:
    category = class_uid // 1000
    cloud: dict[str, Any] = {"provider": "Azure"}
    if _is_sound(resource):
        cloud["account"] = {**SUBSCRIPTION, "uid": ids.subscription(resource)}
    return {
        "category_uid": category, "category_name": CATEGORIES[category],
        "class_uid": class_uid, "class_name": CLASSES[class_uid],
        "activity_id": what[0], "activity_name": what[1],
        "type_uid": class_uid * 100 + what[0], "type_name": f"{CLASSES[class_uid]}: {what[1]}",
        "time": milliseconds(at), "severity_id": severity[0], "severity": severity[1],
        "status_id": status[0], "status": status[1],
        "metadata": {"version": VERSION, "profiles": ["cloud"], "log_name": "records",
                     "product": {"name": "guardrail", "vendor_name": "guardrail", "version": __version__}},
        "cloud": cloud, "observables": [{**RESOURCE_UID, "name": "unmapped.resource_id", "value": resource}],
        "unmapped": {"resource_id": resource},
    }


def _resource(resource: ResourceId) -> dict[str, Any]:
    told: dict[str, Any] = {"uid": resource}
    if _is_sound(resource):
        told |= {"name": ids.name_of(resource), "type": ids.type_of(resource)}
        if group := ids.group(resource):
            told["group"] = {"name": group}
    return told


def _is_sound(resource: ResourceId) -> bool:
    """Whether it is an ARM id: somebody may have written another text into the store."""
    try:
        ids.parse(resource)
    except Malformed:
        return False
    return True
