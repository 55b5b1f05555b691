"""guardrail freeze: a time in which nothing is enforced without people."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from cli import ask
from cli.exemptions import when
from cli.identities import As, Reason, said
from cli.output import mark, stamp, tell, text

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
    why, start, ends = said(reason), when(begins) if begins else None, when(until)
    with ask.opened(as_) as there:
        there.confirm(f"Let everything ask until {stamp(ends)}?")
        modes = there.post("/freezes", name=name, until=ends, from_=start, scope=scope, reason=why)
        made = next(one for one in modes["freezes"] if (one["name"], one["source"]) == (name, "people"))
        tell(f"{mark('done')} {name}: from {stamp(made['from'])} until {stamp(made['until'])} everything asks"
             f"{' below ' + scope if scope else ''}.")


@group.command("end", epilog=text('guardrail freeze end tonight --reason "migration is over" --as approver',
                                  'guardrail freeze end tonight --reason "done early"', exits=(0, 1, 4)))
def end(name: Name, reason: Reason = "", as_: As = "") -> None:
    """Ends a freeze early: where production is guarded, two administrators do."""
    why = said(reason)
    with ask.opened(as_) as there:
        there.confirm(f"End the freeze {name}?")
        modes = there.post(f"/freezes/{quote(name, safe='')}/end", reason=why)
        if any((one["name"], one["source"]) == (name, "people") for one in modes["freezes"]):
            tell(f"{mark('done')} your yes is recorded: {name} ends when another administrator types the same within the hour.")
        else:
            tell(f"{mark('done')} {name} has ended.")
