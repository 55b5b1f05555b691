"""guardrail approvals: what waits for people, and their yes or no to the plan that they saw."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated

import typer

from cli import ask
from cli.ask import Target
from cli.exemptions import when
from cli.identities import ROLES, As, Reason, said
from cli.output import Code, Ended, count, emit, mark, say, stamp, tell, text, warn
from cli.plan import change_of, sign_of
from cli.scan import formats
from console import views
from guardrail import app
from guardrail.errors import Refused
from guardrail.ids import ResourceId, type_of
from guardrail.paths import ABSENT, fold
from guardrail.values import Edit

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What waits for a yes or a no.")
HASH_LENGTH = 8         # shown of a plan's hash, and the least that names it
Id = Annotated[str, typer.Argument(metavar="act-..")]


@group.command("list", epilog=text("guardrail approvals list", "guardrail approvals list --mine --as approver -o json",
                                   exits=(0, 1, 4)))
def listed(
    mine: Annotated[bool, typer.Option("--mine", help="Only what you may approve now.")] = False,
    cause: Annotated[str, typer.Option(metavar="act-..", help="Only those of the same cause, one by one.")] = "",
    as_: As = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or csv.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
) -> None:
    """Lists what waits for approval, critical first; a table has what one cause made in one line."""
    formats(output)
    with ask.opened(as_ if mine else None) as there:
        rows = there.get("/approvals", cause=cause, mine="true" if mine else "")
        names = there.names if output != "json" else {}
    shown = list(rows) if output == "json" else [cells(row, names) for row in rows]
    if output == "table" and not cause:
        shown = joined(shown)
    columns = {"ACTION": "id", "STATE": "state", "SEVERITY": "severity", "EXPIRES": "ends", "RESOURCE": "resource",
               "KIND": "kind", "CONTROLS": "what", "CAUSED BY": "who", "YES": "have", "PLAN": "plan"}
    emit(shown, columns, output, query, "nothing waits for you." if mine else "nothing waits.")
    if any(row["id"].endswith("more") for row in shown):
        say("Several of one cause stand in one line, and are decided one by one: guardrail approvals list --cause act-..")


def cells(row: views.Row, names: Mapping[str, str]) -> views.Row:
    """An ask as a line shows it."""
    return dict(row) | {
        "resource": views.short(row["resource_id"]), "what": ", ".join(row["controls"]), "plan": row["plan_hash"][:HASH_LENGTH],
        "ends": stamp(row["expires"]) if "expires" in row else "does not", "have": f"{len(row['approvals'])} of {row['needs']}",
        "who": _named((one["object_id"] for one in row["caused_by"]), names)}


def joined(rows: Sequence[views.Row]) -> list[views.Row]:
    """One line for a cause: "12 resources", "1 change by deploy-pipeline"."""
    return [_line(list(group)) for _, group in itertools.groupby(rows, lambda row: row["cause"]["first"])]


def _line(group: Sequence[views.Row]) -> views.Row:
    first = group[0]
    if len(group) == 1:
        return first
    cause = views.cause(group)
    return dict(first) | {name: ", ".join(sorted({row[name] for row in group})) for name in ("state", "kind", "what")} | {
        "id": f"{first['id']} and {len(group) - 1} more", "have": "", "plan": "",
        "severity": ", ".join(f"{many} {severity}" for severity, many in views.severities(group).items()),
        "resource": count(cause["resources"], "resource"), "who": f"{count(cause['changes'], 'change')} by {first['who']}"}


@group.command("approve", epilog=text('guardrail approvals approve act-6a01d3 --reason "matches policy" --as approver',
                                      'guardrail approvals approve act-6a01d3 --plan 6e9b21aa --reason "matches policy"',
                                      exits=(0, 1, 4)))
def approve(
    action: Id,
    plan: Annotated[str, typer.Option(metavar="HASH", help="The plan that you saw, 8 digits at least: no question then.")] = "",
    intent: Annotated[bool, typer.Option("--intent", help="What it wants, for an hour: the value may move.")] = False,
    reason: Reason = "",
    as_: As = "",
) -> None:
    """Approves the fix: this plan and no other, as it is shown."""
    why = said(reason)
    if plan and (len(plan) < HASH_LENGTH or not set(plan) <= set("0123456789abcdef")):
        raise Ended(Code.USAGE, f"--plan {plan!r} is no hash. cure: at least {HASH_LENGTH} digits, as the plan is shown.")
    with ask.opened(as_, needs_run=True) as there:
        asked = _waiting(there, action, intent=intent)
        _show(asked, there.names)
        hash, beside = asked["plan_hash"], asked.get("intent" if intent else "instead_hash", "")
        hash = beside if plan and beside.startswith(plan) else hash
        try:
            if not hash.startswith(plan):
                raise Refused("stale", f"the plan has changed: it is {hash[:HASH_LENGTH]} now, look at it again")  # noqa: TRY301
            if not plan:
                _confirm(there, asked)
            done = there.post(f"/actions/{asked['id']}/approve", plan=hash, intent=intent, reason=why)
        except Refused as error:
            raise _refused(there, asked, error) from error
        if done["state"] == "proposed":
            tell(f"{mark('done')} your yes is recorded. Another person must approve as well: nothing is written before.")
        else:
            tell(f"{mark('done')} approved; it is carried out now. See: guardrail actions show {done['id']}")


def _confirm(there: Target, asked: views.Row) -> None:
    """Errors: Ended where nobody can be asked, or who was asked says no. No --yes: it would be one to whatever is there."""
    if not sys.stdin.isatty():
        hash = asked["plan_hash"][:HASH_LENGTH]
        raise Ended(Code.REFUSED, f"nobody to ask here. cure: --plan {hash}, if that is what you saw.")
    if not typer.confirm(f"Approve the fix? On {there.name}?", err=True):
        raise Ended(Code.REFUSED, "nothing was approved.")


@group.command("reject", epilog=text('guardrail approvals reject act-6a01d3 --reason "wanted until Friday" --as approver',
                                     'guardrail approvals reject act-6a01d3 --reason "not now"', exits=(0, 1, 4)))
def reject(
    action: Id,
    exempt_until: Annotated[str, typer.Option(metavar="DATE", help="And asks for an exemption until then.")] = "",
    reason: Reason = "", as_: As = "",
) -> None:
    """Rejects the fix: the drift stays, and is asked about again at the next change, or after a day."""
    why, until = said(reason), when(exempt_until) if exempt_until else None
    with ask.opened(as_, needs_run=True) as there:
        asked = _waiting(there, action)
        there.confirm(f"Reject the fix of {views.short(asked['resource_id'])} (the drift stays)?")
        try:
            there.post(f"/actions/{asked['id']}/reject", then="exempt" if until else None, until=until, reason=why)
        except Refused as error:
            raise _refused(there, asked, error) from error
        resource = asked["resource_id"]
        tell(f"{mark('done')} rejected: the drift of {views.short(resource)} stays. "
             "Asked again at its next change, or in 24 h.")
        for row in there.get("/exemptions") if until else ():
            if (row["state"], row["scope"]) == ("asked", resource) and row["control"] in asked["controls"]:
                tell(f"  asked for until {stamp(row['until'])}: guardrail exemptions confirm {row['id']}")


def _waiting(there: Target, prefix: str, *, intent: bool = False) -> views.Row:
    """The one that waits under this id; with an intent also the one that came in its place. Errors: Ended."""
    if not intent:
        return there.find("/approvals", prefix)
    row = there.find("/actions", prefix)
    for asked in there.get("/approvals"):
        if asked["id"] == row["id"] or (row.get("intent") and asked.get("intent") == row["intent"]):
            found: views.Row = asked
            return found
    raise Ended(Code.REFUSED, f"{row['id']} was decided just now.")


def _show(asked: views.Row, names: Mapping[str, str]) -> None:
    """As `guardrail plan` shows it; what was seen is what the hash stands for."""
    resource = ResourceId(asked["resource_id"])
    controls = [one for one in app.CONTROLS if one.id in asked["controls"]]
    version = next((f" [{one.api_version}]" for one in app.TYPES if fold(one.name) == fold(type_of(resource))), "")
    what = {"fix": "fix", "isolate": "quarantine", "undo": "undo: this loosens"}.get(asked["kind"], asked["kind"])
    tell(f"plan {asked['plan_hash'][:HASH_LENGTH]}   {what}: {count(len(asked['edits']), 'edit')}, "
         f"{count(len(asked['controls']), 'control')}")
    tell(f"Scope: {resource.split('/providers/')[0]}")
    tell(f"  ~ {resource.split('/providers/', 1)[-1]}{version}")
    _lines(asked["edits"])
    if "instead" in asked:
        tell(f"Or, to cut it off instead: --plan {asked['instead_hash'][:HASH_LENGTH]}")
        _lines(asked["instead"]["edits"])
    if controls:
        tell(f"Why: {'; '.join(f'{one.id} ({one.severity}): {one.why}' for one in controls)}.")
        tell(f"May break: {'; '.join(dict.fromkeys(one.breaks for one in controls))}.")
    by = asked["asked_by"]
    asker = f"   Asked for by: {names.get(by, by)}, {asked['why']}" if by else ""
    if "intent" in asked:
        tell(f"Voided three times in a day: --intent lets it act within the hour whatever stands there. "
             f"Intent {asked['intent'][:HASH_LENGTH]}.")
    caused = _named((one["object_id"] for one in asked["caused_by"]), names)
    tell(f"Caused by: {caused}.{asker}   {_expires(asked)}")


def _lines(edits: Iterable[views.Row]) -> None:
    for one in edits:
        edit = Edit(one["path"], one.get("before", ABSENT), one.get("after", ABSENT))
        tell(f"    {sign_of(edit)} {edit.path or 'the resource'}:  {change_of(edit)}")


def _named(actors: Iterable[str], names: Mapping[str, str]) -> str:
    return ", ".join(names.get(one, one) or "unknown" for one in actors) or "unknown"


def _expires(asked: views.Row) -> str:
    expires: datetime | None = asked.get("expires")
    if expires is None:
        return "Does not expire."
    minutes = int((expires - app.now()).total_seconds() // 60)
    left = f"in {minutes // 60} h {minutes % 60} min" if minutes >= 0 else "over"
    return f"Expires: {expires:%H:%M} UTC, {left}."


def _refused(there: Target, asked: views.Row, error: Refused) -> Ended:
    """Says why, and who can; where nobody's name is known, what helps."""
    warn(f"refused: {error}")
    if there.names:
        can = [name for name in ROLES if any(row["id"] == asked["id"] for row in there.get("/approvals", name, mine="true"))]
        warn(f"  who can: {', '.join(can) or 'nobody now'}   {_expires(asked)}")
    else:
        warn(f"  cure: {error.cure or 'look at it again'}   {_expires(asked)}")
    if error.code in ("stale", "decided"):
        say("Look at what waits now: guardrail approvals list")
    return Ended(Code.REFUSED)
