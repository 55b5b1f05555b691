"""guardrail actions: the life of each plan."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import ask, decide
from cli.identities import As, Reason
from cli.output import emit, emit_json, nearest, stamp, tell, text, value
from cli.scan import formats
from console import views

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The life of each plan.")
STATES = ("proposed", "held", "approved", "applying", "applied", "verified", "quarantined", "failed", "unknown", "rejected",
          "expired", "superseded", "rolled_back", "released")


@group.command("list", epilog=text("guardrail actions list", "guardrail actions list --state held -o json"))
def listed(
    state: Annotated[str, typer.Option(help="proposed, held, verified, quarantined, failed, ...")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or csv.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
) -> None:
    """Lists the actions, the newest first."""
    formats(output)
    if state and state not in STATES:
        raise nearest(state, STATES, "state")
    with ask.opened() as there:
        rows = [row for row in there.get("/actions") if state in ("", row["state"])]
    shown = rows if output == "json" else [dict(row) | {
        "when": stamp(row["at"]), "shown": views.shown(row["state"]), "resource": views.short(row["resource_id"]),
        "what": ", ".join(row.get("controls", ())), "cause": row.get("why", "")} for row in rows]
    columns = {"ACTION": "id", "WHEN": "when", "STATE": "shown", "RESOURCE": "resource", "CONTROLS": "what", "WHY": "cause"}
    emit(shown, columns, output, query, "no action yet.")


@group.command("show", epilog=text("guardrail actions show act-4f7c21", "guardrail actions show act-4f7c21 -o json"))
def show(
    action: Annotated[str, typer.Argument(metavar="act-..")],
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Shows one action from the change that caused it to its end."""
    formats(output, ("table", "json"))
    with ask.opened() as there:
        row = there.get(f"/actions/{there.find('/actions', action)['id']}")
    if output == "json":
        emit_json(row)
        return
    caused = ", ".join(one["object_id"] or "unknown" for one in row["caused_by"]) or "unknown"
    tell(f"{views.shown(row['state'])}   {row['id']}   {row['resource_id']}")
    tell(f"  caused by {caused}   plan {row.get('plan_hash', '')[:8]}   {row.get('why', '')}".rstrip())
    for edit in row.get("edits", ()):
        before, after = (value(edit[side]) if side in edit else "nothing" for side in ("before", "after"))
        tell(f"    ~ {edit['path'] or 'the resource'}: {before} => {after}")
    for one in row["records"]:
        at = one["at"]
        tell(f"  {at:%H:%M:%S}.{at.microsecond // 100000}  {one['event']:<22} {told(one)}".rstrip())


Id = Annotated[str, typer.Argument(metavar="act-..")]


@group.command("rollback", epilog=text('guardrail actions rollback act-4f7c21 --reason "the demo needs it" --as oncall',
                                       'guardrail actions rollback act-4f7c21 --reason "was wanted"', exits=(0, 1, 4)))
def rollback(action: Id, reason: Reason = "", as_: As = "") -> None:
    """Takes a verified action back, where it still stands; in production another person approves first."""
    decide.undo(action, reason, as_)


@group.command("retry", epilog=text('guardrail actions retry act-4f7c21 --reason "the lock is gone" --as oncall',
                                    'guardrail actions retry act-4f7c21 --reason "role granted"', exits=(0, 1, 4)))
def retry(action: Id, reason: Reason = "", as_: As = "") -> None:
    """Tries a failed action once more, judged anew."""
    decide.retry(action, reason, as_)


@group.command("settle", epilog=text('guardrail actions settle act-4f7c21 --ended verified --reason "seen in the portal"',
                                     'guardrail actions settle act-4f7c21 --ended failed --reason "still running" --as oncall',
                                     exits=(0, 1, 4)))
def settle(
    action: Id,
    ended: Annotated[str, typer.Option(metavar="verified|failed", help="How it ended, as you saw it in Azure.")],
    reason: Reason = "", as_: As = "",
) -> None:
    """Says how an action ended whose answer never came."""
    decide.settle(action, ended, reason, as_)


def told(record: views.Row) -> str:
    """The heart of a record in one line."""
    detail = record["detail"]
    match record["event"]:
        case "request.sent":
            return f"{detail.get('method')} {detail.get('status')}, {detail.get('duration_ms')} ms"
        case "finding.raised" | "finding.cleared":
            return f"{detail.get('control')} {detail.get('path')}"
        case "decision.made":
            return f"{record['mode']}, rule '{detail.get('rule')}' {detail.get('why')}".rstrip()
        case "change.seen":
            return f"{', '.join(detail.get('operations', ()))} by {', '.join(detail.get('actors', ())) or 'unknown'}"
        case "action.applying":
            return f"{len(detail.get('requests', ()))} write, plan {str(detail.get('plan_hash', ''))[:8]}"
        case "mode.switched":
            below = f" below {detail['scope']}" if detail.get("scope") else ""
            return f"{detail.get('was')} => {detail.get('now')}{below}: {detail.get('reason')}"
    return str(detail.get("why") or detail.get("error") or "")
