"""The store as people ask for it: open findings, actions, one resource's timeline, what is in force. Reads only.

The page and the CLI show the same rows; their fields are those of docs/reference/cli.md and the JSON of the API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from guardrail import audit, logs, names
from guardrail.errors import Final, Held
from guardrail.ids import ResourceId, name_of
from guardrail.policy import Rules
from guardrail.policy_schema import Policy
from guardrail.stores import HOME, Store
from guardrail.values import SEVERITIES, Action, Case, Severity, digest

Row = Mapping[str, Any]

SHOWN_AS = {"proposed": "waiting for approval", "rolled_back": "rolled back"}
TOLD = ("plan_hash", "controls", "why", "edits", "error", "severity", "intent", "undo")  # of a change of state: the newest
UNKNOWN = ("", "?", "unknown")
PROVES = ("decision.made", "probe.received")        # that a worker goes by the rules of a generation
ONE_CAUSE = timedelta(minutes=10)       # the same people and control within this are one cause


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it is read back."""

    seq: int
    hash: str
    event: str
    at: datetime
    actor: str
    correlation_id: str
    mode: str
    policy_hash: str
    detail: Mapping[str, Any]


async def timeline(store: Store, resource: ResourceId, after: int = 0) -> list[Entry]:
    """The records of a resource beyond `after`, in order. One that cannot be read is shown as such: the chain knows better."""
    return [_entry(one.seq, one.hash, one.body) for one in await store.records(resource, after)]


def _entry(seq: int, hash: str, body: bytes) -> Entry:
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
        fields = {name: fields[name] for name in Entry.__slots__ if name not in ("seq", "hash")}
        entry: Entry = msgspec.convert({**fields, "seq": seq, "hash": hash}, Entry)
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError):
        entry = Entry(seq, hash, "unreadable record", datetime.fromtimestamp(0, UTC), "", "", "", "", {})
    return entry


async def cases(store: Store) -> list[Case]:
    """Every resource that is known. A row that cannot be read is left out here, and found by `audit verify`."""
    found = list[Case]()
    async for chain in store.chains():
        try:
            found.append((await store.load(chain.resource))[0])
        except (Held, Final):
            continue
    return found


async def findings(store: Store) -> list[Row]:
    """The open findings, worst first, then by resource."""
    rows = list[Row]()
    for case in await cases(store):
        if case.findings:
            entries = await timeline(store, case.resource)
            rows += [_finding(case, entries, control, path) for control, path in sorted(case.findings)]
    return sorted(rows, key=lambda row: (rank(row["severity"]), row["resource_id"], row["control"]))


def rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _finding(case: Case, entries: Sequence[Entry], control: str, path: str) -> Row:
    id = names.finding_id(case.resource, case.incarnation, control, path)
    raised = next((one for one in reversed(entries)
                   if one.event == "finding.raised" and one.detail.get("finding_id") == id), None)
    decided = next((one for one in reversed(entries)
                    if one.event == "decision.made" and id in one.detail.get("finding_ids", ())), None)
    detail: Mapping[str, Any] = raised.detail if raised else {}
    row: dict[str, Any] = {
        "schema_version": 1, "id": id, "control": control, "resource_id": case.resource,
        "path": "" if path == "?" else path, "state": "unreadable" if path == "?" else "drift",
        "severity": detail.get("severity", "unknown"), "why": detail.get("why", "")}
    row |= {name: detail[name] for name in ("observed", "wanted", "decided") if name in detail}
    if raised:
        row["since"] = raised.at
    if decided:
        told = {name: decided.detail.get(name, "") for name in ("rule", "why")}
        row["decision"] = {"mode": decided.mode, **told}
    action = next((one for one in (case.acting, case.asked) if one and control in one.plan.controls), None)
    if action:
        row["action_id"] = action.id
    return row


async def actions(store: Store) -> list[Row]:
    """Every action there ever was, the newest first."""
    rows = list[Row]()
    for case in await cases(store):
        rows += _actions(case, await timeline(store, case.resource))
    return sorted(rows, key=lambda row: (row["at"], row["id"]), reverse=True)


async def open_actions(store: Store, only: str = "") -> list[Row]:
    """Those that wait or are at work; `only` the one of this id."""
    rows = list[Row]()
    async for case in store.open_cases():
        held = {one.id for one in (case.asked, case.acting) if one and only in ("", one.id)}
        if held:
            rows += [row for row in _actions(case, await timeline(store, case.resource)) if row["id"] in held]
    return rows


async def approvals(store: Store) -> list[Row]:
    """What waits for people, those of one cause together, critical first and then what expires first (D11)."""
    rows = [row for row in await open_actions(store) if row["state"] in ("proposed", "held") and "plan" in row]
    groups = sorted((sorted(group, key=_urgency) for group in _causes(rows)), key=lambda group: _urgency(group[0]))
    return [{**row, "cause": cause(group)} for group in groups for row in group]


def of_cause(rows: Sequence[Row], prefix: str) -> list[Row]:
    """The asks of the same cause as the one whose id begins so; all without one."""
    causes = {row["cause"]["first"] for row in rows if row["id"].startswith(prefix)}
    return [row for row in rows if not prefix or row["cause"]["first"] in causes]


def _urgency(row: Row) -> Any:
    return rank(row.get("severity", "")), "expires" not in row, row.get("expires", row["at"]), row["id"]


def _causes(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """Groups by the same people, and the same correlation id or, within ten minutes, the same control.

    A correlation id alone joins nothing: whoever writes may choose it, and hide among somebody else's.
    """
    groups, by_key = list[list[Row]](), dict[Any, list[Row]]()
    for row in sorted(rows, key=lambda row: (row["opened"], row["id"])):
        actors = tuple(sorted(one["object_id"] for one in row["caused_by"]))
        keys: list[Any] = [(actors, row["correlation_id"])] if row["correlation_id"] else []
        if actors and not set(actors) & set(UNKNOWN):
            keys += [(actors, "control", control) for control in row["controls"]]
        found = [(key, by_key[key]) for key in keys if key in by_key]
        group = next((one for key, one in found if len(key) == 2 or row["opened"] - one[0]["opened"] <= ONE_CAUSE), None)
        if group is None:
            groups.append(group := [])
        group.append(row)
        by_key.update(dict.fromkeys(keys, group))
    return groups


def cause(group: Sequence[Row]) -> Row:
    """What asks of one cause have in common; `first`, the id of the most urgent one, names them all."""
    return {"first": group[0]["id"], "asks": len(group), "resources": len({row["resource_id"] for row in group}),
            "changes": len({row["correlation_id"] or row["id"] for row in group})}


async def find_action(store: Store, prefix: str) -> Row:
    """The action whose id begins so; a whole id of an open one is found without walking everything. Errors: LookupError."""
    found = await open_actions(store, prefix)
    return found[0] if found else by_prefix(await actions(store), prefix)


def _actions(case: Case, entries: Iterable[Entry]) -> list[Row]:
    found = dict[str, dict[str, Any]]()
    actors: Sequence[str] = ()
    for one in entries:
        if one.event == "change.seen":
            actors = tuple(one.detail.get("actors", ())) or actors
        id = one.detail.get("action_id")
        if not isinstance(id, str) or not id:
            continue
        row = found.setdefault(id, {
            "schema_version": 1, "id": id, "resource_id": case.resource, "state": "", "kind": one.detail.get("kind", "fix"),
            "mode": one.mode, "opened": one.at, "correlation_id": one.correlation_id, "attempts": 0, "requests": [],
            "caused_by": [{"object_id": actor, "kind": "unknown", "confirmed": False} for actor in actors]})
        state = _state(one)
        if state:
            row |= {"state": state, "at": one.at}
            row |= {name: one.detail[name] for name in TOLD if one.detail.get(name)}
            row["attempts"] += state == "applying"
        elif one.event == "request.sent":
            row["requests"].append({name: one.detail.get(name) for name in ("method", "url", "status", "duration_ms")})
    for held in (case.asked, case.acting):
        if held and held.id in found:
            found[held.id] |= _of(held)
    return [row for row in found.values() if row["state"]]


def _state(entry: Entry) -> str:
    if entry.event == "resource.quarantined":
        return "quarantined"
    if entry.event == "resource.released":
        return "released"
    if entry.event == "action.reminded":        # still waiting
        return "proposed"
    return entry.event.removeprefix("action.") if entry.event.startswith("action.") else ""


def _of(action: Action) -> dict[str, Any]:
    """What only the open action itself knows."""
    plan, more = action.plan, {"expires": action.expires, "severity": action.severity, "intent": action.intent}
    offers = {"instead": action.instead, "instead_hash": action.instead.hash} if action.instead else {}
    return {"state": action.state, "controls": plan.controls, "edits": plan.edits, "why": action.why, "plan": plan,
            "plan_hash": plan.hash, "approvals": action.approvals, "needs": action.needs, "asked_by": action.asked_by,
            **offers, **{name: one for name, one in more.items() if one}}


def shown(state: str) -> str:
    return SHOWN_AS.get(state, state)


def by_prefix(rows: Sequence[Row], prefix: str) -> Row:
    """The one row whose id begins so. Errors: LookupError with what to do."""
    found = [row for row in rows if row["id"].startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise LookupError(f"nothing here has the id {prefix}")
    raise LookupError(f"{prefix} could be {', '.join(row['id'] for row in found[:5])}")


def exemptions(rules: Rules, policy: Policy) -> list[Row]:
    """Those in force and those that wait for a second person, the ones that end first before the rest."""
    asked = [("asked", "people", one.exemption, one.by) for one in rules.pending if one.exemption]
    rest = [("in force", source, one, "") for source, listed in (("people", rules.exemptions), ("policy", policy.exemptions))
            for one in listed]
    rows = [{"schema_version": 1, "id": one.id, "control": one.control, "scope": one.scope, "reason": one.reason,
             "owner": one.owner, "until": one.until, "state": state, "source": source, **({"asked_by": by} if by else {})}
            for state, source, one, by in (*asked, *rest)]
    return sorted(rows, key=lambda row: (row["until"], row["id"]))


def baselines(case: Case) -> list[Row]:
    """The parts that were seen good, with the hash that people accept, and how far that is."""
    def state(part: str) -> str:
        return "accepted" if part in case.accepted else "one accepted" if part in case.accepting else "seen"

    return [{"schema_version": 1, "resource_id": case.resource, "part": part, "hash": digest(value), "state": state(part)}
            for part, value in sorted(case.good.items())]


async def last(store: Store, event: str) -> Entry | None:
    """The newest record of this name in the installation's own chain; not one that is for a scope."""
    return next((one for one in reversed(await timeline(store, HOME)) if one.event == event and not one.detail.get("scope")),
                None)


@dataclass(frozen=True, slots=True)
class Mode:
    """What is in force: the switch, since when, by whom and why; and what happened since. `scoped`: where it is lower."""

    switch: str
    scoped: Mapping[str, str]
    generation: int
    since: datetime | None
    by: str
    reason: str
    decisions: int
    writes: int
    decided: int        # the newest generation of the rules that something was decided under
    probed: bool        # whether a probe ever came back


async def mode(store: Store) -> Mode:
    rules = await store.rules()
    switched = await last(store, "mode.switched")
    since = switched.at if switched else None
    told, decided = Counter[str](), 0
    for case in await cases(store):
        for one in await timeline(store, case.resource):
            told["probes"] += one.event == "probe.received"
            if one.event in PROVES and isinstance(one.detail.get("generation"), int):
                decided = max(decided, one.detail["generation"])
            if since is None or one.at >= since:
                told["decisions"] += one.event == "decision.made"
                told["writes"] += one.event == "request.sent" and isinstance(one.detail.get("status"), int)
    return Mode(rules.switch, rules.scoped, rules.generation, since, switched.actor if switched else "",
                str(switched.detail.get("reason", "")) if switched else "", told["decisions"], told["writes"],
                decided, told["probes"] > 0)


def report(found: audit.Report) -> Row:
    """What a verification found, as it leaves."""
    row: dict[str, Any] = {"schema_version": 1, "intact": found.ok, "records": found.records, "chains": found.chains,
                           "chains_intact": found.intact, "anchors": found.anchors}
    if found.newest_anchor:
        row["newest_anchor"] = found.newest_anchor
    named = [{"resource_id": one.resource, "seq": one.seq, "why": one.why, "expected": one.expected, "found": one.found}
             for one in found.broken]
    return row | {"broken": [{name: value for name, value in one.items() if value != ""} for one in named]}


def short(resource: str) -> str:
    """Its name, for people: nothing in it looks like what it is not."""
    return logs.plain(name_of(ResourceId(resource)))


def severities(rows: Iterable[Row]) -> dict[Severity, int]:
    """How many of each severity, the worst first."""
    many = Counter(row["severity"] for row in rows)
    return {severity: many[severity] for severity in SEVERITIES if many[severity]}
