"""guardrail mode: the switch. report: nothing acts; approve: everything asks; policy: what the policy says."""

from __future__ import annotations

import getpass
import sys
from dataclasses import replace
from typing import Annotated

import typer

from cli import target
from cli.output import Code, Ended, ago, emit_json, mark, nearest, say, tell, text
from cli.scan import formats
from console import views
from guardrail import app
from guardrail.errors import Stale
from guardrail.stores import Store
from guardrail.values import Record

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The switch: report, approve, or what the policy says.")
LADDER = ("report", "approve", "policy")
NAMES = {"report": "REPORT-ONLY", "approve": "EVERYTHING ASKS", "policy": "POLICY"}


@group.command("show", epilog=text("guardrail mode show", "guardrail mode show -o json"))
def show(output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table") -> None:
    """Shows the switch, and what was decided and written since it was set."""
    formats(output, ("table", "json"))
    found = target.with_store(views.mode)
    if output == "json":
        emit_json({"schema_version": 1, "mode": found.switch, "generation": found.generation, "since": found.since,
                   "by": found.by, "reason": found.reason, "decisions": found.decisions, "writes": found.writes})
        return
    by = f" by {found.by}: {found.reason}" if found.by else ""
    tell(f"{NAMES[found.switch]} since {ago(found.since)}{by}")
    tell(f"{found.decisions} decisions and {found.writes} writes since then.")


@group.command("set", epilog=text('guardrail mode set report --reason "migration tonight"',
                                  'guardrail mode set policy --reason "migration is over" --yes', exits=(0, 1, 4)))
def put(
    mode: Annotated[str, typer.Argument(metavar="report|approve|policy")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the record and in the banner.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before loosening.")] = False,
) -> None:
    """Switches what may happen anywhere: effective at the next decision and before each request."""
    if mode not in LADDER:
        raise nearest(mode, LADDER, "mode")
    if not reason.strip():
        raise Ended(Code.USAGE, "--reason is missing: say why.")
    target.with_store(lambda store: _put(store, mode, reason, yes))


async def _put(store: Store, mode: str, reason: str, yes: bool) -> None:
    rules = await store.rules()
    loosens = LADDER.index(mode) > LADDER.index(rules.switch)
    if loosens:
        where = target.shown_path(target.store_path())
        say(f"This lets the guardrail write again, on store {where}.")
        say("Deployed, it takes two administrators; a local store has you.")
        if not yes and not sys.stdin.isatty():
            raise Ended(Code.REFUSED, f"nobody to ask here: the switch stays at {rules.switch}. cure: --yes.")
        if not yes and not typer.confirm(f"{NAMES[rules.switch]} => {NAMES[mode]}?", err=True):
            raise Ended(Code.REFUSED, f"the switch stays at {rules.switch}.")
    who = getpass.getuser()
    record = Record("mode.switched", app.now(), who, "", mode, "", {
        "was": rules.switch, "now": mode, "generation": rules.generation + 1, "reason": reason})
    switch = {"report": "report", "approve": "approve", "policy": "policy"}[mode]
    try:
        stored = await store.set_rules(replace(rules, switch=switch), record)  # type: ignore[arg-type]
    except Stale as error:
        raise Ended(Code.UNFINISHED, "somebody else switched meanwhile. cure: look (mode show), then again.") from error
    tell(f"was: {rules.switch}    now: {NAMES[mode]}, by {who}")
    tell(f"{mark('done')} switch stored, generation {stored.generation}; a running worker knows it within 5 s")


