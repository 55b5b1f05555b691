"""guardrail freeze: a time in which nothing is enforced without people."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import target
from cli.exemptions import when
from cli.identities import As, Reason, person, said
from cli.output import mark, stamp, tell, text
from guardrail import ids, switches
from guardrail.app import Guardrail
from guardrail.authorize import Person
from guardrail.policy_schema import Freeze

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Times in which everything asks.")
Name = Annotated[str, typer.Argument(metavar="NAME")]


@group.command("add", epilog=text('guardrail freeze add tonight --until 8h --reason "migration" --as oncall',
                                  'guardrail freeze add year-end --until 2027-01-02 --reason "nobody here"', exits=(0, 1, 4)))
def add(
    name: Name,
    until: Annotated[str, typer.Option(help="A date, a time with zone, or 8h.")],
    begins: Annotated[str, typer.Option("--from", help="Without: now.")] = "",
    scope: Annotated[str, typer.Option(help="An ARM id; without: everywhere.")] = "",
    reason: Reason = "", as_: As = "",
) -> None:
    """Freezes: from then on what would be enforced asks instead."""
    who, why = person(as_), said(reason)
    target.with_guardrail(lambda one: _add(one, name, until, begins, scope, who, why), needs_run=False)


async def _add(guardrail: Guardrail, name: str, until: str, begins: str, scope: str, who: Person, reason: str) -> None:
    start = when(begins) if begins else guardrail.engine.clock()
    wanted = Freeze(name=name, start=start, until=when(until), scope=ids.parse(scope) if scope else "")
    await switches.freeze(guardrail.engine, wanted, who, reason)
    tell(f"{mark('done')} {name}: from {stamp(wanted.start)} until {stamp(wanted.until)} everything asks"
         f"{' below ' + scope if scope else ''}.")


@group.command("end", epilog=text('guardrail freeze end tonight --reason "migration is over" --as approver',
                                  'guardrail freeze end tonight --reason "done early"', exits=(0, 1, 4)))
def end(name: Name, reason: Reason = "", as_: As = "") -> None:
    """Ends a freeze early: where production is guarded, two administrators do."""
    who, why = person(as_), said(reason)
    target.with_guardrail(lambda one: _end(one, name, who, why), needs_run=False)


async def _end(guardrail: Guardrail, name: str, who: Person, reason: str) -> None:
    rules = await switches.end_freeze(guardrail.engine, name, who, reason)
    if any(one.name == name for one in rules.freezes):
        tell(f"{mark('done')} your yes is recorded: {name} ends when another administrator types the same within the hour.")
    else:
        tell(f"{mark('done')} {name} has ended.")
