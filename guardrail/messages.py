"""What a record says to people: one table from event to kind, title, text and what to do. Pure but for the engine's tables.

A message never decides anything: it has one link, built here, to a page. All that others wrote (names, values, reasons,
Azure's errors) is one visible line, cut, and without secrets; what a chat would make of it is for channels.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from guardrail import names
from guardrail.ids import ResourceId, fold
from guardrail.logs import visible
from guardrail.redact import redact
from guardrail.stores import HOME
from guardrail.values import SEVERITIES, Severity

if TYPE_CHECKING:
    from guardrail.turn import Engine

ONE_TURN = timedelta(seconds=1)
TEXT, VALUE, CHANGES, NAMED = 300, 1000, 50, 8      # characters of one fact and of one value; list entries; names in a text


@dataclass(frozen=True, slots=True)
class Kind:
    """`title` and `text` are filled with the facts of `_facts`; `at_least`: its severity is never lower."""

    name: str
    title: str
    text: str
    must_do: str
    at_least: Severity = "low"
    page: str = ""              # of the console, where there is neither action nor resource


_DECIDE = "Review and decide."
KINDS: Mapping[str, Kind] = {
    "action.proposed": Kind(
        "approval.asked", "Approval: {verb} {name} ({severity}, {environment})",
        "Wanted: {what}. {cause} The plan changes {changes}. May break: {breaks}. Expires {expires}.", _DECIDE),
    "action.reminded": Kind(
        "approval.reminder", "Still to be decided: {verb} {name} ({severity}, {environment})",
        "Wanted: {what}. {cause} Half of the time is over. Expires {expires}.", _DECIDE),
    "action.expired": Kind(
        "approval.expired", "Nobody decided: {verb} {name} ({severity}, {environment})",
        "Wanted: {what}. Expired at {at}. The drift stays; it is asked again at the next change, or after 24 hours.",
        "Decide."),
    "action.verified": Kind(
        "action.verified", "{done}: {name}",
        "{what}. {cause} Verified at {at} ({changes}). If the change was wanted, ask for an exemption; do not make it again.",
        "Nothing."),
    "action.failed": Kind(
        "action.failed", "Failed: {verb} {name}", "{why}. Still wanted: {what}.",
        "Look at it, then retry or decide.", "medium"),
    "plan.refused": Kind(
        "plan.refused", "Cannot be put back: {name}", "{why}. Still open: {what}. {cause}",
        "Mend it by hand, or exempt it.", "medium"),
    "action.unknown": Kind(
        "action.unknown", "Nobody knows whether it worked: {verb} {name}", "{why}. It is not sent again.",
        "Look in Azure, then settle it.", "high"),
    "verification.failed": Kind(
        "verification.failed", "NOT fixed: {name}", "Azure accepted the write, and at {at} it does not show: {missing}.",
        "Look now.", "medium"),
    "resource.quarantined": Kind(
        "resource.quarantined", "Quarantined: {name}",
        "Cut off at {at} ({changes}) for: {what}. {cause} Nothing was deleted. May break: {breaks}.",
        "Decide: recreate, release or keep.", "high"),
    "breaker.tripped": Kind(
        "breaker.tripped", "Stopped acting on {name}: {breaker} breaker",
        "{count} writes in {window}, and it drifts again: {what}. {cause} The drift is OPEN now. Nothing more is written "
        "until somebody decides.", "Stop what keeps changing it, or quarantine.", "high"),
    "exemption.expiring": Kind(
        "exemption.expiring", "An exemption ends: {name}",
        "Until {until} this is tolerated: {what}. Owner: {owner}. Reason: {reason}.",
        "Mend it, or ask for another exemption.", page="exemptions"),
    "mode.switched": Kind(
        "mode.switched", "Switched from {was} to {now}{below}", "By {by} at {at}. Reason: {reason}.",
        "Nothing, if you knew.", "high", "modes"),
    "look.poisoned": Kind(
        "look.poisoned", "Given up: {name}", "Looked at {dequeue_count} times without an end: {error}.",
        "Read the log, mend the cause, then ask for a look.", "high"),
    "permission.lost": Kind(
        "permission.lost", "Permission lost: {missing}", "At {scope}. What needs it is neither read nor mended.",
        "Grant it again.", "high"),
    "own.changed": Kind(
        "own.changed", "Somebody changed the guardrail itself", "{operation} on {resource}, by {by} at {at}.",
        "Find out who and why: whoever changes our apps or their storage acts as the guardrail.", "critical"),
    "own.reached": Kind(
        "own.reached", "A stranger may reach our storage", "{principal} holds the role {role} at {scope}.",
        "Take the role away, or name the principal in GUARDRAIL_PRINCIPALS.", "critical"),
    "identity.misused": Kind(
        "identity.misused", "Our own identity drifted {name}",
        "{what}. Nobody else is said to have changed it, and no action of ours was at work. It is judged like any drift.",
        "Find out who holds our token: remake the identity if in doubt.", "critical"),
    "path.broken": Kind(
        "path.broken", "The event path is broken: {hop}",
        "Since {at} changes may arrive late or never; the hourly sweep still looks.", "Mend that hop.", "critical",
        "event-path"),
    "clock.skewed": Kind(
        "clock.skewed", "Clocks differ", "Ours and the store's are {skew_s} s apart. Nothing is approved, and nothing expires.",
        "Find out which one is wrong.", "high"),
    "audit.broken": Kind(
        "audit.broken", "Somebody wrote into what we know: {forged}",
        "{why}. What does not verify is not obeyed; where it matters, people are asked.",
        "Keep a copy of everything, and find out who.", "critical", "audit"),
}
TOLD = frozenset(KINDS)
_VERBS = {"fix": ("put back", "Put back"), "isolate": ("quarantine", "Quarantined"),
          "undo": ("take back a fix of", "Taken back")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message, the same for every channel; docs/reference/messages.md says what the fields mean."""

    id: str
    kind: str
    severity: Severity
    title: str
    text: str
    must_do: str
    occurred_at: datetime
    resource_id: str = ""
    environment: str = ""
    mode: str = ""
    action_id: str = ""
    plan_hash: str = ""
    controls: tuple[str, ...] = ()
    changes: tuple[Mapping[str, Any], ...] = ()
    caused_by: tuple[Mapping[str, Any], ...] = ()
    decided_by: tuple[str, ...] = ()
    correlation_id: str = ""
    expires_at: str = ""
    more: int = 0                           # records beyond this one that it speaks for
    also: tuple[str, ...] = ()              # their resources
    links: Mapping[str, str] = field(default_factory=dict)
    simulator: bool = False
    cause: str = ""                         # what is told together; ours, not sent

    def told(self) -> dict[str, Any]:
        """As plain JSON, lists too (azure-eventgrid 4.22 sends a tuple as its repr); what is absent is left out."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "cause"}
        kept = {name: value for name, value in found.items() if value not in ("", (), {}, 0) or name == "simulator"}
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({"schema_version": 1, **kept}))
        return plain


def of(engine: Engine, resource: ResourceId, record: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> Message | None:
    """The message of a record; `before`: records of the same chain that led to it, oldest first. None: it is for nobody."""
    kind = KINDS.get(record["event"])
    if kind is None:
        return None
    detail = redact(record["detail"])       # once more: what leaves must not rely on who stored it
    action_id = line(detail.get("action_id", ""))
    own = [one for one in before if action_id and one["detail"].get("action_id") == action_id]
    found = [detail["control"]] if "control" in detail else detail.get("controls") or _last(own, "controls")
    controls = tuple(line(one) for one in found)
    severity = _severity(engine, kind, controls)
    about = ResourceId(str(detail.get("scope") or resource)) if kind.name == "exemption.expiring" else resource
    seen = _seen(before, controls)
    # nobody knows names, so `name` shows object ids as well
    actors = tuple(line(one) for one in detail.get("actors") or seen.get("actors", ()) if one not in ("", "?"))[:NAMED]
    is_shown = engine.policy.notify.show_actor != "none"
    shown, by = (actors, line(record["actor"])) if is_shown else ((), "Somebody")
    changes = tuple(_change(redact(one)) for one in (detail.get("edits") or _last(own, "edits"))[:CHANGES])
    place = engine.place(about)
    facts = {**{name: line(value) for name, value in detail.items()}, **_facts(engine, kind, record, detail, about, controls),
             "severity": severity, "environment": place.environment if about != HOME else "", "changes": _count(len(changes)),
             "cause": _cause(record, seen, shown, by), "by": by}
    correlation_id = line(record["correlation_id"])
    cause = correlation_id or (f"{actors}/{controls}" if controls else f"{fold(resource)}/{record['seq']}")
    return Message(
        id=names.message_id(resource, record["seq"]), kind=kind.name, severity=severity,
        title=line(kind.title.format_map(_Facts(facts))), text=line(kind.text.format_map(_Facts(facts)), 3 * TEXT),
        must_do=kind.must_do, occurred_at=datetime.fromisoformat(record["at"]), resource_id=line(about, VALUE),
        environment=facts["environment"], mode=line(record["mode"]), action_id=action_id,
        plan_hash=line(detail.get("plan_hash") or _last(own, "plan_hash") or ""), controls=controls, changes=changes,
        caused_by=tuple({"object_id": one, "kind": "unknown", "confirmed": False} for one in shown),
        decided_by=tuple(line(one) for one in _last(own, "approvals") if is_shown and isinstance(one, str)),
        correlation_id=correlation_id, expires_at=line(detail.get("expires") or ""),
        links=_links(engine, kind, about, action_id), simulator=engine.is_simulated,
        cause=f"{kind.name}/{severity}/{cause}")


def joined(messages: Sequence[Message]) -> Message:
    """One message for one cause: the newest of the worst leads, the others are counted and named."""
    first = min(messages, key=lambda one: (one.occurred_at, one.id))
    lead = min(messages, key=lambda one: (SEVERITIES.index(one.severity), -one.occurred_at.timestamp()))
    if len(messages) == 1:
        return lead
    also = tuple(dict.fromkeys(one.resource_id for one in messages if one is not lead))
    text = f"{lead.text} And {len(messages) - 1} more of the same: {_named(also)}."
    return replace(lead, id=first.id, text=text, more=len(messages) - 1, also=also[:CHANGES])


def digest(engine: Engine, messages: Sequence[Message]) -> Message:
    """One message in place of many."""
    first = min(messages, key=lambda one: (one.occurred_at, one.id))
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(one.kind for one in messages).most_common())
    also = tuple(dict.fromkeys(one.resource_id for one in messages))
    severity = min((one.severity for one in messages), key=SEVERITIES.index)
    return Message(
        id=first.id, kind="digest", severity=severity, title=f"{len(messages)} more messages, up to {severity}",
        text=f"{kinds}: {_named(also)}.", must_do="Look at the list.", occurred_at=max(one.occurred_at for one in messages),
        more=len(messages), also=also[:CHANGES], links=_links(engine, None, HOME, ""), simulator=engine.is_simulated)


def line(value: Any, length: int = TEXT) -> str:
    r"""Any value as one line without what does not show or moves what does (CR, RLO: spelled \x0d, \u{202e}), cut."""
    text = visible(value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode())
    return text if len(text) <= length else f"{text[:length - 3]}..."


class _Facts(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "unknown"


def _facts(engine: Engine, kind: Kind, record: Mapping[str, Any], detail: Mapping[str, Any], resource: ResourceId,
           controls: Sequence[str]) -> dict[str, str]:
    known = [one for one in engine.controls if one.id in controls]
    more = f" (and {len(controls) - 1} more)" if len(controls) > 1 else ""
    verb, done = _VERBS.get(str(detail.get("kind", "fix")), _VERBS["fix"])
    expires = str(detail.get("expires") or "")
    return {
        "forged": line(", ".join(map(str, detail["what"])) if isinstance(detail.get("what"), list) else ""),
        "name": line(str(resource).rsplit("/", 1)[-1]), "verb": verb, "done": done, "at": f"{record['at'][11:19]} UTC",
        "what": (known[0].title if known else line(", ".join(controls)) or "what a person asked for") + more,
        "breaks": (known[0].breaks if known else "") or "nothing known",
        "expires": f"{line(expires[:10])} {line(expires[11:16])} UTC" if expires else "not by itself",
        "window": f"{detail.get('window', 0) / 60:g} min" if isinstance(detail.get("window"), int | float) else "",
        "missing": _missing(detail),
        "below": f" below {line(detail['scope'])}" if detail.get("scope") else ""}


def _missing(detail: Mapping[str, Any]) -> str:
    """What is named as missing; of rights `missing` is how many, and `actions` has their names."""
    named = (detail.get(name) for name in ("actions", "missing", "lost"))
    found = next((one for one in named if one and isinstance(one, list | str)), "it")
    return line(found if isinstance(found, str) else ", ".join(map(str, found)))


def _severity(engine: Engine, kind: Kind, controls: Sequence[str]) -> Severity:
    """The worst of its controls'; what nobody decided is told one step louder."""
    known = [SEVERITIES.index(one.severity) for one in engine.controls if one.id in controls]
    at = min([*known, SEVERITIES.index(kind.at_least)] if known else [SEVERITIES.index(kind.at_least), 2])
    return SEVERITIES[max(0, at - (kind.name == "approval.expired"))]


def _seen(before: Sequence[Mapping[str, Any]], controls: Sequence[str]) -> Mapping[str, Any]:
    """The change with which it was found: its record stands right before that of the finding, noted in the same moment.

    An echo of our own finds nothing, and what is found later was caused by somebody else.
    """
    raised = [index for index, one in enumerate(before) if one["event"] == "finding.raised"]
    mine = [index for index in raised if before[index]["detail"].get("control") in controls] or raised
    at = mine[-1] if mine else 0
    while at and before[at]["event"] in ("finding.raised", "finding.cleared"):
        at -= 1
    if not mine or before[at]["event"] != "change.seen":
        return {}
    found = before[at]
    late = datetime.fromisoformat(before[mine[-1]]["at"]) - datetime.fromisoformat(found["at"])
    return {"at": found["at"], **found["detail"]} if late < ONE_TURN else {}


def _cause(record: Mapping[str, Any], seen: Mapping[str, Any], shown: Sequence[str], by: str) -> str:
    if record["event"] == "action.proposed" and record["actor"] != "guardrail":
        return f"{by} asked for it."
    who = ", ".join(shown) or "Somebody"
    return f"{who} changed it, seen at {seen['at'][11:19]} UTC." if seen else "Nobody knows who changed it."


def _change(edit: Mapping[str, Any]) -> Mapping[str, Any]:
    pairs = (("path", "path"), ("before", "now"), ("after", "wanted"))
    return {name: _value(edit[key]) for key, name in pairs if key in edit}


def _value(value: Any) -> Any:
    """The value, its texts each on one line; the beginning of its JSON if it is long."""
    if isinstance(value, str):
        return line(value, VALUE)
    if not isinstance(value, Mapping | list):
        return value
    if len(msgspec.json.encode(value)) > VALUE:
        return line(value, VALUE)
    if isinstance(value, Mapping):
        return {line(name): _value(inner) for name, inner in value.items()}
    return [_value(inner) for inner in value]


def _last(records: Sequence[Mapping[str, Any]], name: str) -> Any:
    return next((found for one in reversed(records) if (found := one["detail"].get(name))), ())


def _count(changes: int) -> str:
    return "1 value" if changes == 1 else f"{changes} values"


def _named(resources: Sequence[str]) -> str:
    short = [line(one.rsplit("/", 1)[-1], 80) for one in resources[:NAMED]]
    return ", ".join(short) + (f" and {len(resources) - NAMED} others" if len(resources) > NAMED else "")


def _links(engine: Engine, kind: Kind | None, resource: ResourceId, action_id: str) -> dict[str, str]:
    """The one link, to a page that only shows: deciding takes a sign-in there."""
    if not engine.url:
        return {}
    page = "/" if resource == HOME else f"/resources{quote(resource, safe='/')}"
    if action_id:
        page = f"/actions/{quote(action_id, safe='')}"
    elif kind and kind.page:
        page = f"/{kind.page}"
    return {"console": engine.url.rstrip("/") + page}
