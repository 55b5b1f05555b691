"""guardrail baselines: what is restored without asking, because two people accepted it as good."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import ask
from cli.ask import Target
from cli.identities import As, Reason, said
from cli.output import Code, Ended, emit, mark, tell, text
from cli.scan import formats
from console import views
from guardrail.errors import Refused

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What is known good, and what two people accepted.")
HASH_LENGTH = 8
Resource = Annotated[str, typer.Argument(metavar="RESOURCE", help="An ARM id, or a name that the store knows.")]


@group.command("list", epilog=text("guardrail baselines list", "guardrail baselines list kv-ai-dev -o json"))
def listed(
    resource: Annotated[str, typer.Argument(metavar="[RESOURCE]")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table, json or csv.")] = "table",
    query: Annotated[str, typer.Option(help="JMESPath, with -o json.")] = "",
) -> None:
    """Lists the parts that were seen good, of one resource or of all that have records: merely seen they only ask."""
    formats(output)
    with ask.opened() as there:
        rows = _listed(there, resource)
    shown = rows if output == "json" else [
        dict(row) | {"short": views.short(row["resource_id"]), "seen": row["hash"][:HASH_LENGTH]} for row in rows]
    columns = {"RESOURCE": "short", "PART": "part", "HASH": "seen", "STATE": "state"}
    emit(shown, columns, output, query, "nothing was seen good.")


def _listed(there: Target, name: str) -> list[views.Row]:
    rows: list[views.Row] = there.get("/baselines", resource_id=there.resource(name) if name else "")
    return rows


@group.command("accept", epilog=text(
    'guardrail baselines accept kv-ai-dev --part +diagnosticSettings --hash 71c0aa12 --reason "as designed" --as approver',
    'guardrail baselines accept kv-ai-dev --part +diagnosticSettings --hash 71c0aa12 --reason "checked"', exits=(0, 1, 4)))
def accept(
    resource: Resource,
    part: Annotated[str, typer.Option(help="As baselines list names it.")],
    hash: Annotated[str, typer.Option(metavar="HASH", help="As baselines list shows it: what you looked at.")],
    reason: Reason = "", as_: As = "",
) -> None:
    """Accepts a part as good. With a second person's yes it is restored from then on without asking."""
    why = said(reason)
    if len(hash) < HASH_LENGTH:
        raise Ended(Code.USAGE, f"--hash {hash!r} is too short. cure: at least {HASH_LENGTH} digits.")
    with ask.opened(as_, needs_run=True) as there:
        id = there.resource(resource)
        whole = [row["hash"] for row in _listed(there, id) if row["part"] == part and row["hash"].startswith(hash)]
        if not whole:
            raise Refused("stale", f"{part} of {views.short(id)} is not what you saw: list the baselines again")
        there.confirm(f"Accept {part} of {views.short(id)} as good?")
        row = there.post("/baselines", resource_id=id, part=part, hash=whole[0], reason=why)
        if row["state"] == "accepted":
            tell(f"{mark('done')} {part} of {views.short(id)} is accepted: it is restored without asking.")
        else:
            tell(f"{mark('done')} your yes is recorded. Another person must accept the same hash.")
