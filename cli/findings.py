"""guardrail findings and explain: what is wrong now, and why it was decided so."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from cli import ask
from cli.ask import Target
from cli.output import Code, Ended, ago, emit, emit_lines, nearest, tell, text, value
from cli.scan import FORMATS, OCSF_CLASS, formats, short
from console import views
from guardrail import app, ocsf
from guardrail.policy_schema import seconds
from guardrail.values import SEVERITIES

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What is wrong, as the store knows it.")


@group.command("list", epilog=text("guardrail findings list", "guardrail findings list --severity high --since 2h -o ocsf"))
def listed(
    is_open: Annotated[bool, typer.Option("--open", help="Only what stands open; cleared ones stand in audit show.")] = True,
    severity: Annotated[str, typer.Option(help="Of this severity or worse.")] = "",
    since: Annotated[str, typer.Option(metavar="AGE", help="Raised within 30m, 2h, 7d.")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table, json, csv or ocsf.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
    ocsf_class: Annotated[int, typer.Option(metavar="2004|2003", help=OCSF_CLASS)] = ocsf.DETECTION,
) -> None:
    """Lists the open findings, the worst first."""
    formats(output, (*FORMATS, "ocsf"), ocsf_class)
    with ask.opened() as there:
        rows = there.get("/findings")
    if severity:
        if severity not in SEVERITIES:
            raise nearest(severity, SEVERITIES, "severity")
        rows = [row for row in rows if views.rank(row["severity"]) <= views.rank(severity)]
    if since:
        first = app.now() - age(since)
        rows = [row for row in rows if row.get("since", first) >= first]
    if output == "ocsf":
        emit_lines((ocsf.finding(row, row.get("since") or app.now(), ocsf_class) for row in rows), query)
        return
    shown = rows if output == "json" else [row | {
        "resource": short(row["resource_id"], row["path"]), "now": _now(row), "mode": row.get("decision", {}).get("mode", "")}
        for row in map(dict, rows)]
    columns = {"FINDING": "id", "SEVERITY": "severity", "CONTROL": "control", "RESOURCE": "resource", "NOW => WANTED": "now",
               "DECIDED": "mode", "ACTION": "action_id"}
    emit(shown, columns, output, query, "no open findings. Whether events arrive is not known here: silence is not compliance.")


def age(text: str) -> timedelta:
    """Of 30m, 2h, 7d. Errors: Ended."""
    try:
        return timedelta(seconds=seconds(text))
    except (ValueError, KeyError) as error:
        raise Ended(Code.USAGE, f"{text!r} is no age. cure: 30m, 2h, 7d.") from error


def _now(row: dict[str, Any]) -> str:
    if row["state"] == "unreadable":
        return f"unreadable: {row['why']}"
    if row.get("decided") is False:
        return f"{_of(row, 'observed')}: only a person knows what is right"
    return f"{_of(row, 'observed')} => {_of(row, 'wanted')}"


def _of(row: dict[str, Any], name: str) -> str:
    return value(row[name]) if name in row else "nothing"


def explain(what: Annotated[str, typer.Argument(metavar="fnd-..|act-..|RESOURCE")]) -> None:
    """Says why a finding, an action or a resource was decided as it was, and what would change it."""
    with ask.opened() as there:
        _explain(there, what)


def _explain(there: Target, what: str) -> None:
    findings = there.get("/findings")
    if what.startswith("fnd-"):
        row = there.find("/findings", what)
        mine, resource = [row], row["resource_id"]
    elif what.startswith("act-"):
        action = there.find("/actions", what)
        resource = action["resource_id"]
        mine = [row for row in findings if row["resource_id"] == resource and row["control"] in action.get("controls", ())]
        tell(f"{action['id']} is {views.shown(action['state'])}" + (f": {action['why']}" if action.get("why") else ""))
    else:
        resource = there.resource(what, is_known=True)
        mine = [row for row in findings if row["resource_id"] == resource]
    for row in mine:
        decision = row.get("decision", {})
        tell(f"{row['id']}  {row['severity']}  {row['control']} on {short(resource, row['path'])}")
        tell(f"  {row['path'] or 'unreadable'}: {_now(dict(row))}   since {ago(row.get('since'))}")
        tell(f"  because    {row['why']}")
        if not decision:
            tell("  decided    not yet, or exempt")
            continue
        tell(f"  decided    {decision['mode']}, by policy rule '{decision['rule']}'")
        if decision["why"]:
            tell(f"  but        {decision['why']}. It would change if each cause named here were gone.")
        else:
            tell("  nothing    lowered it: ceiling, switch, freezes and breakers left it as the rule says")
    if not mine:
        tell(f"nothing is wrong with {views.short(resource)} now, as far as the store knows. Its history: "
             f"guardrail audit show {views.short(resource)}")


EXPLAIN_HELP = text("guardrail explain stmltrain", "guardrail explain act-6a01d3")
