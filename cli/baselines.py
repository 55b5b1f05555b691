"""guardrail baselines: what is restored without asking, because two people accepted it as good."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import target
from cli.decide import resource_of
from cli.identities import As, Reason, person, said
from cli.output import Code, Ended, emit, mark, tell, text
from cli.scan import formats
from console import views
from guardrail import people
from guardrail.app import Guardrail
from guardrail.authorize import Person
from guardrail.stores import Store

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
    rows = target.with_store(lambda store: _listed(store, resource))
    shown = rows if output == "json" else [
        dict(row) | {"short": views.short(row["resource_id"]), "seen": row["hash"][:HASH_LENGTH]} for row in rows]
    columns = {"RESOURCE": "short", "PART": "part", "HASH": "seen", "STATE": "state"}
    emit(shown, columns, output, query, "nothing was seen good.")


async def _listed(store: Store, name: str) -> list[views.Row]:
    found = [(await store.load(await resource_of(store, name)))[0]] if name else await views.cases(store)
    return [row for case in found for row in views.baselines(case)]


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
    who, why = person(as_), said(reason)
    if len(hash) < HASH_LENGTH:
        raise Ended(Code.USAGE, f"--hash {hash!r} is too short. cure: at least {HASH_LENGTH} digits.")
    target.with_guardrail(lambda one: _accept(one, resource, part, hash, who, why))


async def _accept(guardrail: Guardrail, name: str, part: str, prefix: str, who: Person, reason: str) -> None:
    resource = await resource_of(guardrail.store, name)
    rows = [row for row in await _listed(guardrail.store, resource) if row["part"] == part]
    hash = next((row["hash"] for row in rows if row["hash"].startswith(prefix)), prefix)
    case = await people.accept(guardrail.engine, resource, part, hash, who, guardrail.settings.approvers, reason)
    if part in case.accepted:
        tell(f"{mark('done')} {part} of {views.short(resource)} is accepted: it is restored without asking.")
    else:
        tell(f"{mark('done')} your yes is recorded. Another person must accept the same hash.")
