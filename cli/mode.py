"""guardrail mode: the switch. report: nothing acts; approve: everything asks; policy: what the policy says."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli import identities, target
from cli.identities import As, Reason, person, said
from cli.output import Code, Ended, ago, emit_json, mark, nearest, say, stamp, tell, text
from cli.scan import formats
from console import views
from guardrail import switches
from guardrail.app import Guardrail
from guardrail.authorize import Person
from guardrail.policy import Rules, Switch
from guardrail.stores import Store

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The switch: report, approve, or what the policy says.")
NAMES = {"report": "REPORT-ONLY", "approve": "EVERYTHING ASKS", "policy": "POLICY"}


@group.command("show", epilog=text("guardrail mode show", "guardrail mode show -o json"))
def show(output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table") -> None:
    """Shows the switch, and what was decided and written since it was set."""
    formats(output, ("table", "json"))
    found, rules = target.with_store(_shown)
    if output == "json":
        emit_json({"schema_version": 1, "mode": found.switch, "generation": found.generation, "since": found.since,
                   "by": found.by, "reason": found.reason, "decisions": found.decisions, "writes": found.writes,
                   "freezes": rules.freezes, "pending": rules.pending})
        return
    by = f" by {identities.names().get(found.by, found.by)}: {found.reason}" if found.by else ""
    tell(f"{NAMES[found.switch]} since {ago(found.since)}{by}")
    tell(f"{found.decisions} decisions and {found.writes} writes since then.")
    for one in rules.freezes:
        tell(f"freeze {one.name}: from {stamp(one.start)} until {stamp(one.until)} {one.scope}".rstrip())
    for wait in rules.pending:
        who = identities.names().get(wait.by, wait.by)
        tell(f"waits for a second person: {wait.kind} {wait.what}, by {who}: {wait.reason}")


async def _shown(store: Store) -> tuple[views.Mode, Rules]:
    return await views.mode(store), await store.rules()


@group.command("set", epilog=text('guardrail mode set report --reason "migration tonight" --as oncall',
                                  'guardrail mode set policy --reason "it is over" --as approver --yes', exits=(0, 1, 4)))
def put(
    mode: Annotated[str, typer.Argument(metavar="report|approve|policy")],
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before loosening.")] = False,
    as_: As = "",
) -> None:
    """Switches what may happen anywhere: effective at the next decision and before each request."""
    wanted = next((one for one in switches.LADDER if one == mode), None)
    if wanted is None:
        raise nearest(mode, switches.LADDER, "mode")
    who, why = person(as_), said(reason)
    target.with_guardrail(lambda one: _put(one, wanted, who, why, yes), needs_run=False)


async def _put(guardrail: Guardrail, mode: Switch, who: Person, reason: str, yes: bool) -> None:
    was = (await guardrail.store.rules()).switch
    if switches.LADDER.index(mode) > switches.LADDER.index(was):
        say(f"This lets the guardrail write again, on store {target.shown_path(target.store_path())}.")
        say("Where production is guarded it takes two administrators: this is one yes.")
        if not yes and not sys.stdin.isatty():
            raise Ended(Code.REFUSED, f"nobody to ask here: the switch stays at {was}. cure: --yes.")
        if not yes and not typer.confirm(f"{NAMES[was]} => {NAMES[mode]}?", err=True):
            raise Ended(Code.REFUSED, f"the switch stays at {was}.")
    _tell(was, mode, await switches.switch(guardrail.engine, mode, who, reason), who)


@group.command("confirm", epilog=text('guardrail mode confirm --reason "seen, go on" --as oncall',
                                      'guardrail mode confirm --generation 7 --reason "agreed"', exits=(0, 1, 4)))
def confirm(
    generation: Annotated[int, typer.Option(help="Of the rules that you saw (mode show); without: those of now.")] = 0,
    reason: Reason = "",
    as_: As = "",
) -> None:
    """Gives the second yes to a looser switch that another administrator asked for within the hour."""
    who, why = person(as_), said(reason)
    target.with_guardrail(lambda one: _confirm(one, generation, who, why), needs_run=False)


async def _confirm(guardrail: Guardrail, generation: int, who: Person, reason: str) -> None:
    rules = await guardrail.store.rules()
    wanted = next((one.what for one in rules.pending if one.kind == "switch"), rules.switch)
    after = await switches.confirm(guardrail.engine, generation or rules.generation, who, reason)
    _tell(rules.switch, wanted, after, who)


def _tell(was: str, wanted: str, rules: Rules, who: Person) -> None:
    by = identities.names().get(who.object_id, who.object_id)
    if rules.switch != wanted:
        tell(f"still: {NAMES[was]}    {by} said yes to {NAMES[wanted]}; another administrator confirms within the hour:")
        tell("  guardrail mode confirm")
        return
    tell(f"was: {was}    now: {NAMES[wanted]}, by {by}")
    tell(f"{mark('done')} switch stored, generation {rules.generation}; a running worker knows it within 5 s")
