"""guardrail exemptions: one control may drift on one resource or group until a date; one asks, another confirms."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from cli import ask
from cli.findings import age
from cli.identities import As, Reason, said
from cli.output import Code, Ended, emit, mark, nearest, stamp, tell, text
from cli.scan import formats
from console import views
from guardrail import app

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What may drift until a date.")
Id = Annotated[str, typer.Argument(metavar="exm-..")]


@group.command("list", epilog=text("guardrail exemptions list", "guardrail exemptions list --expiring 14d -o json"))
def listed(
    expiring: Annotated[str, typer.Option(metavar="AGE", help="Only those that end within 14d, 24h.")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or csv.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
) -> None:
    """Lists the exemptions, those that people asked for and those of the policy, what ends first before the rest."""
    formats(output)
    with ask.opened() as there:
        rows = there.get("/exemptions")
    if expiring:
        last = app.now() + age(expiring)
        rows = [row for row in rows if row["until"] <= last]
    shown = rows if output == "json" else [
        dict(row) | {"short": views.short(row["scope"]), "ends": stamp(row["until"])} for row in rows]
    columns = {"EXEMPTION": "id", "STATE": "state", "CONTROL": "control", "SCOPE": "short", "OWNER": "owner", "UNTIL": "ends",
               "REASON": "reason"}
    emit(shown, columns, output, query, "nothing is exempt.")


@group.command("add", epilog=text(
    'guardrail exemptions add --control storage-minimum-tls --scope stmltrain --until 7d --owner data --reason "review 4711"',
    'guardrail exemptions add --control keyvault-soft-delete --scope kv-ai-dev --until 2027-01-31 --owner sec --reason "4711"',
    exits=(0, 1, 4)))
def add(
    control: Annotated[str, typer.Option(help="The control's id.")],
    scope: Annotated[str, typer.Option(help="An ARM id of a resource or group, or a name that the store knows.")],
    until: Annotated[str, typer.Option(help="A date, a time with zone, or 7d: 90 days at most.")],
    owner: Annotated[str, typer.Option(help="Who answers for it.")],
    reason: Reason = "", as_: As = "",
) -> None:
    """Asks for an exemption: another person confirms it, and until then nothing is exempt."""
    why = said(reason)
    if control not in {one.id for one in app.CONTROLS}:
        raise nearest(control, [one.id for one in app.CONTROLS], "control")
    ends = when(until)
    with ask.opened(as_) as there:
        id = there.resource(scope)
        there.confirm(f"Ask for an exemption of {control} on {views.short(id)} until {stamp(ends)}?")
        row = there.post("/exemptions", control=control, scope=id, until=ends, owner=owner, reason=why)
        tell(f"{mark('done')} asked for as {row['id']}: nothing is exempt until another person confirms it.")
        tell(f"  guardrail exemptions confirm {row['id']}")


def when(text: str) -> datetime:
    """Of a date (its beginning in UTC, as in the policy file), a time with its zone, or 7d from now. Errors: Ended."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return app.now() + age(text)
    if len(text) == len("2027-01-31"):
        return at.replace(tzinfo=UTC)
    if at.tzinfo is None:
        raise Ended(Code.USAGE, f"{text!r} has no zone. cure: {text}Z")
    return at


@group.command("confirm", epilog=text('guardrail exemptions confirm exm-02c1 --reason "agreed" --as oncall',
                                      'guardrail exemptions confirm exm-02c1 --reason "reviewed"', exits=(0, 1, 4)))
def confirm(exemption: Id, reason: Reason = "", as_: As = "") -> None:
    """Confirms an exemption that somebody else asked for: it is in force from now."""
    why = said(reason)
    with ask.opened(as_) as there:
        row = there.find("/exemptions", exemption)
        there.confirm(f"Let {row['id']} be exempt?")
        there.post(f"/exemptions/{row['id']}/confirm", reason=why)
        tell(f"{mark('done')} {row['id']} is in force until {stamp(row['until'])}, for the value that is seen first under it.")


@group.command("remove", epilog=text('guardrail exemptions remove exm-02c1 --reason "review over" --as oncall',
                                     'guardrail exemptions remove exm-02c1 --reason "mended"', exits=(0, 1, 4)))
def remove(exemption: Id, reason: Reason = "", as_: As = "") -> None:
    """Takes an exemption back: what it hid is drift at the next look."""
    why = said(reason)
    with ask.opened(as_) as there:
        row = there.find("/exemptions", exemption)
        there.confirm(f"Take {row['id']} back?")
        there.post(f"/exemptions/{row['id']}/remove", reason=why)
        tell(f"{mark('done')} {row['id']} is gone: what it hid is drift at the next look.")
