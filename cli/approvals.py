"""guardrail approvals: what waits for people, and their yes or no to the plan that they saw."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated

import typer

from cli import identities, target
from cli.exemptions import when
from cli.findings import by_prefix
from cli.identities import As, Reason, person, said
from cli.output import Code, Ended, count, emit, mark, say, stamp, tell, text, warn
from cli.plan import change_of, sign_of
from cli.scan import formats
from console import views
from guardrail import ids, people
from guardrail.app import Guardrail
from guardrail.authorize import Person
from guardrail.errors import Refused
from guardrail.ids import ResourceId
from guardrail.paths import fold
from guardrail.refusals import attempt
from guardrail.values import Action

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
    if mine:
        who = person(as_)
        rows = target.with_guardrail(lambda one: _mine(one, who))
    else:
        rows = target.with_store(views.approvals)
    rows = views.of_cause(rows, cause)
    names = identities.names() if output != "json" else {}
    shown = list(rows) if output == "json" else [cells(row, names) for row in rows]
    if output == "table" and not cause:
        shown = joined(shown)
    columns = {"ACTION": "id", "STATE": "state", "SEVERITY": "severity", "EXPIRES": "ends", "RESOURCE": "resource",
               "KIND": "kind", "CONTROLS": "what", "CAUSED BY": "who", "YES": "have", "PLAN": "plan"}
    emit(shown, columns, output, query, "nothing waits for you." if mine else "nothing waits.")
    if any(row["id"].endswith("more") for row in shown):
        say("Several of one cause stand in one line, and are decided one by one: guardrail approvals list --cause act-..")


def cells(row: views.Row, names: dict[str, str]) -> views.Row:
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


async def _mine(guardrail: Guardrail, who: Person) -> list[views.Row]:
    rows = await views.approvals(guardrail.store)
    return [row for row in rows if await _may(guardrail, ResourceId(row["resource_id"]), row["id"], who)]


async def _may(guardrail: Guardrail, resource: ResourceId, id: str, who: Person) -> bool:
    try:
        await people.deciding(guardrail.engine, resource, id, who, guardrail.settings.approvers)
    except Refused:
        return False
    return True


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
    who, why = person(as_), said(reason)
    if plan and (len(plan) < HASH_LENGTH or not set(plan) <= set("0123456789abcdef")):
        raise Ended(Code.USAGE, f"--plan {plan!r} is no hash. cure: at least {HASH_LENGTH} digits, as the plan is shown.")
    target.with_guardrail(lambda one: _approve(one, action, plan, intent, who, why))


async def _approve(guardrail: Guardrail, prefix: str, plan: str, intent: bool, who: Person, reason: str) -> None:
    engine, approvers = guardrail.engine, guardrail.settings.approvers
    resource, asked = await _waiting(guardrail, prefix, intent)
    _show(guardrail, asked)
    offered = [asked.intent] if intent else [asked.instead.hash] if asked.instead else []
    hash = next((one for one in offered if plan and one.startswith(plan)), asked.plan.hash)
    try:
        if plan and not hash.startswith(plan):
            raise Refused("stale", f"the plan has changed: it is {asked.plan.hash[:HASH_LENGTH]} now, look at it again")  # noqa: TRY301
        if not plan:
            async with attempt(engine, resource, "approve", who, asked.id):
                await people.deciding(engine, resource, asked.id, who, approvers)
            _confirm(asked)
        done = await people.approve(engine, resource, asked.id, hash, who, reason, approvers, intent)
    except Refused as error:
        raise await _refused(guardrail, resource, asked, error) from error
    if done.state == "approved":
        tell(f"{mark('done')} approved; it is carried out now. See: guardrail actions show {done.id}")
    else:
        tell(f"{mark('done')} your yes is recorded. Another person must approve as well: nothing is written before.")


def _confirm(asked: Action) -> None:
    """Errors: Ended where nobody can be asked, or who was asked says no."""
    if not sys.stdin.isatty():
        raise Ended(Code.REFUSED, f"nobody to ask here. cure: --plan {asked.plan.hash[:HASH_LENGTH]}, if that is what you saw.")
    if not typer.confirm("Approve the fix?", err=True):
        raise Ended(Code.REFUSED, "nothing was approved.")


@group.command("reject", epilog=text('guardrail approvals reject act-6a01d3 --reason "wanted until Friday" --as approver',
                                     'guardrail approvals reject act-6a01d3 --reason "not now"', exits=(0, 1, 4)))
def reject(
    action: Id,
    exempt_until: Annotated[str, typer.Option(metavar="DATE", help="And asks for an exemption until then.")] = "",
    reason: Reason = "", as_: As = "",
) -> None:
    """Rejects the fix: the drift stays, and is asked about again at the next change, or after a day."""
    who, why, until = person(as_), said(reason), when(exempt_until) if exempt_until else None
    target.with_guardrail(lambda one: _reject(one, action, until, who, why))


async def _reject(guardrail: Guardrail, prefix: str, until: datetime | None, who: Person, reason: str) -> None:
    resource, asked = await _waiting(guardrail, prefix)
    try:
        await people.reject(guardrail.engine, resource, asked.id, who, reason, guardrail.settings.approvers, until)
    except Refused as error:
        raise await _refused(guardrail, resource, asked, error) from error
    tell(f"{mark('done')} rejected: the drift of {views.short(resource)} stays. Asked again at its next change, or in 24 h.")
    for one in (await guardrail.store.rules()).pending if until else ():
        if one.exemption and one.exemption.scope == resource and one.by == who.object_id:
            tell(f"  asked for until {stamp(one.exemption.until)}: guardrail exemptions confirm {one.what}")


async def _waiting(guardrail: Guardrail, prefix: str, intent: bool = False) -> tuple[ResourceId, Action]:
    """The one that waits under this id; with an intent also the one that came in its place. Errors: Ended."""
    row = by_prefix(await (views.actions if intent else views.approvals)(guardrail.store), prefix)
    resource = ResourceId(row["resource_id"])
    asked = (await guardrail.store.load(resource))[0].asked
    if asked is None or not (asked.id == row["id"] or (intent and asked.intent and asked.intent == row.get("intent"))):
        raise Ended(Code.REFUSED, f"{row['id']} was decided just now.")
    return resource, asked


def _show(guardrail: Guardrail, asked: Action) -> None:
    """As `guardrail plan` shows it; what was seen is what the hash stands for."""
    plan, names = asked.plan, identities.names()
    controls = {one.id: one for one in guardrail.engine.controls if one.id in plan.controls}
    type = guardrail.engine.types[fold(ids.type_of(plan.resource))]
    what = {"fix": "fix", "isolate": "quarantine", "undo": "undo: this loosens"}[plan.kind]
    tell(f"plan {plan.hash[:HASH_LENGTH]}   {what}: {count(len(plan.edits), 'edit')}, {count(len(plan.controls), 'control')}")
    tell(f"Scope: {plan.resource.split('/providers/')[0]}")
    tell(f"  ~ {plan.resource.split('/providers/', 1)[-1]} [{type.api_version}]")
    for edit in plan.edits:
        tell(f"    {sign_of(edit)} {edit.path or 'the resource'}:  {change_of(edit)}")
    if asked.instead:
        tell(f"Or, to cut it off instead: --plan {asked.instead.hash[:HASH_LENGTH]}")
        for edit in asked.instead.edits:
            tell(f"    {sign_of(edit)} {edit.path or 'the resource'}:  {change_of(edit)}")
    if controls:
        tell(f"Why: {'; '.join(f'{one.id} ({one.severity}): {one.why}' for one in controls.values())}.")
        tell(f"May break: {'; '.join(dict.fromkeys(one.breaks for one in controls.values()))}.")
    asker = f"   Asked for by: {names.get(asked.asked_by, asked.asked_by)}, {asked.why}" if asked.asked_by else ""
    if asked.intent:
        tell(f"Voided three times in a day: --intent lets it act within the hour whatever stands there. "
             f"Intent {asked.intent[:HASH_LENGTH]}.")
    tell(f"Caused by: {_named(asked.caused_by, names)}.{asker}   {_expires(asked, guardrail.engine.clock())}")


def _named(actors: Iterable[str], names: dict[str, str]) -> str:
    return ", ".join(names.get(one, one) or "unknown" for one in actors) or "unknown"


def _expires(asked: Action, now: datetime) -> str:
    if asked.expires is None:
        return "Does not expire."
    minutes = int((asked.expires - now).total_seconds() // 60)
    left = f"in {minutes // 60} h {minutes % 60} min" if minutes >= 0 else "over"
    return f"Expires: {asked.expires:%H:%M} UTC, {left}."


async def _refused(guardrail: Guardrail, resource: ResourceId, asked: Action, error: Refused) -> Ended:
    """Says why, and who can."""
    warn(f"refused: {error}")
    can = [name for name in identities.ROLES if await _may(guardrail, resource, asked.id, person(name))]
    warn(f"  who can: {', '.join(can) or 'nobody now'}   {_expires(asked, guardrail.engine.clock())}")
    if error.code in ("stale", "decided"):
        say("Look at what waits now: guardrail approvals list")
    return Ended(Code.REFUSED)
