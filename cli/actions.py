"""guardrail actions: the life of each plan."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import decide, target
from cli.findings import by_prefix
from cli.identities import As, Reason
from cli.output import emit, emit_json, nearest, stamp, tell, text, value
from cli.scan import formats
from console import views
from guardrail.ids import ResourceId
from guardrail.stores import Store

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
    rows = [row for row in target.with_store(views.actions) if state in ("", row["state"])]
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
    target.with_store(lambda store: _show(store, action, output))


async def _show(store: Store, prefix: str, output: str) -> None:
    row = by_prefix(await views.actions(store), prefix)
    if output == "json":
        emit_json(row)
        return
    caused = ", ".join(one["object_id"] or "unknown" for one in row["caused_by"]) or "unknown"
    tell(f"{views.shown(row['state'])}   {row['id']}   {row['resource_id']}")
    tell(f"  caused by {caused}   plan {row.get('plan_hash', '')[:8]}   {row.get('why', '')}".rstrip())
    for edit in row.get("edits", ()):
        before, after = (_side(edit, side) for side in ("before", "after"))
        tell(f"    ~ {_get(edit, 'path') or 'the resource'}: {before} => {after}")
    for one in await views.timeline(store, ResourceId(row["resource_id"])):
        if one.detail.get("action_id") == row["id"]:
            tell(f"  {one.at:%H:%M:%S}.{one.at.microsecond // 100000}  {one.event:<22} {told(one)}".rstrip())


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


def _get(edit: Any, name: str) -> Any:
    return edit.get(name) if isinstance(edit, dict) else getattr(edit, name)


def _side(edit: Any, name: str) -> str:
    if isinstance(edit, dict):
        return value(edit[name]) if name in edit else "nothing"
    return value(getattr(edit, name))


def told(entry: views.Entry) -> str:
    """The heart of a record in one line."""
    detail = entry.detail
    match entry.event:
        case "request.sent":
            return f"{detail.get('method')} {detail.get('status')}, {detail.get('duration_ms')} ms"
        case "finding.raised" | "finding.cleared":
            return f"{detail.get('control')} {detail.get('path')}"
        case "decision.made":
            return f"{entry.mode}, rule '{detail.get('rule')}' {detail.get('why')}".rstrip()
        case "change.seen":
            return f"{', '.join(detail.get('operations', ()))} by {', '.join(detail.get('actors', ())) or 'unknown'}"
        case "action.applying":
            return f"{len(detail.get('requests', ()))} write, plan {str(detail.get('plan_hash', ''))[:8]}"
        case "mode.switched":
            return f"{detail.get('was')} => {detail.get('now')}: {detail.get('reason')}"
    return str(detail.get("why") or detail.get("error") or "")
