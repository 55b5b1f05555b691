"""guardrail mode: the switch. report: nothing acts; approve: everything asks; policy: what the policy says."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cli import ask
from cli.ask import Target
from cli.identities import As, Reason, said
from cli.output import Code, Ended, ago, emit_json, mark, nearest, say, stamp, tell, text
from cli.scan import formats
from console import views
from guardrail.paths import fold
from guardrail.policy import LADDER

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The switch: report, approve, or what the policy says.")
NAMES = {"report": "REPORT-ONLY", "approve": "EVERYTHING ASKS", "policy": "POLICY"}
Scope = Annotated[str, typer.Option(help="An ARM id: only what lies below it, until it is set to policy again.")]
WAIT_S, EACH_S = 90.0, 2.0      # for the first decision under a new switch


@group.command("show", epilog=text("guardrail mode show", "guardrail mode show -o json"))
def show(output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table") -> None:
    """Shows the switch, and what was decided and written since it was set."""
    formats(output, ("table", "json"))
    with ask.opened() as there:
        modes, names = there.get("/modes"), there.names
    if output == "json":
        emit_json(modes)
        return
    by = f" by {names.get(modes['by'], modes['by'])}: {modes['reason']}" if modes["by"] else ""
    tell(f"{NAMES[modes['mode']]} since {ago(modes.get('since'))}{by}")
    tell(f"{modes['decisions']} decisions and {modes['writes']} writes since then.")
    for one in modes.get("scopes", ()):
        tell(f"{NAMES[one['mode']]} below {one['scope']}")
    for one in modes["freezes"]:
        tell(f"freeze {one['name']}: from {stamp(one['from'])} until {stamp(one['until'])} {one['scope']}".rstrip())
    for wait in modes["pending"]:
        who = names.get(wait["by"], wait["by"])
        tell(f"waits for a second person: {wait['kind']} {wait['what']}, by {who}: {wait['reason']}")


@group.command("set", epilog=text('guardrail mode set report --reason "migration tonight" --as oncall',
                                  'guardrail mode set report --scope /subscriptions/.. --reason "only there" --as oncall',
                                  'guardrail mode set policy --reason "it is over" --as approver --yes', exits=(0, 1, 4)))
def put(
    mode: Annotated[str, typer.Argument(metavar="report|approve|policy")],
    reason: Reason = "", scope: Scope = "",
    wait: Annotated[bool, typer.Option("--wait", help="Until something was decided under it, a minute at most.")] = False,
    as_: As = "",
) -> None:
    """Switches what may happen, anywhere or below a scope: effective at the next decision and before each request."""
    if mode not in LADDER:
        raise nearest(mode, LADDER, "mode")
    why = said(reason)
    with ask.opened(as_) as there:
        was = _in_force(there.get("/modes"), scope)
        if LADDER.index(mode) > LADDER.index(was):    # to stop takes no second word
            say("This lets the guardrail write again.")
            say("Where production is guarded it takes two administrators: this is one yes.")
            there.confirm(f"{NAMES[was]} => {NAMES[mode]}?", always=True)
        now = there.post("/mode", mode=mode, scope=scope or None, reason=why)
        _tell(was, mode, now, there, scope)
        if wait:
            _wait(there, now)


def _wait(there: Target, modes: views.Row) -> None:
    """Until a decision, or the probe, went by these rules. Errors: Ended if none did in time."""
    ends = time.monotonic() + WAIT_S
    while (now := there.get("/modes"))["decided"] < modes["generation"]:
        if now["generation"] != modes["generation"]:
            raise Ended(Code.UNFINISHED, f"the rules are at generation {now['generation']} now: somebody changed them.")
        if time.monotonic() > ends:
            probe = "" if now["probed"] else " There is no probe here that would prove it sooner."
            raise Ended(Code.UNFINISHED, f"stored, but nothing was decided under it within {WAIT_S:.0f} s.{probe} "
                                         "Each worker knows it 5 s after. Check again: guardrail mode show")
        time.sleep(EACH_S)
    tell(f"{mark('done')} decided under generation {now['decided']}: {now['decisions']} decisions and {now['writes']} writes "
         "since then.")


@group.command("confirm", epilog=text('guardrail mode confirm --reason "seen, go on" --as oncall',
                                      'guardrail mode confirm --generation 7 --reason "agreed"', exits=(0, 1, 4)))
def confirm(
    generation: Annotated[int, typer.Option(help="Of the rules that you saw (mode show); without: those of now.")] = 0,
    reason: Reason = "", scope: Annotated[str, typer.Option(help="Of the switch that waits.")] = "",
    as_: As = "",
) -> None:
    """Gives the second yes to a looser switch that another administrator asked for within the hour."""
    why = said(reason)
    with ask.opened(as_) as there:
        modes = there.get("/modes")
        was = _in_force(modes, scope)
        waits = (one["what"].partition(" ") for one in modes["pending"] if one["kind"] == "switch")
        wanted = next((mode for mode, _, below in waits if below == fold(scope)), was)
        there.confirm(f"{NAMES[was]} => {NAMES[wanted]}?")
        now = there.post("/mode/confirm", generation=generation or modes["generation"], scope=scope or None, reason=why)
        _tell(was, wanted, now, there, scope)


def _in_force(modes: views.Row, scope: str) -> str:
    """The switch, or what it was lowered to for just this scope."""
    lower = (one["mode"] for one in modes.get("scopes", ()) if one["scope"] == fold(scope))
    return str(next(lower, "policy") if scope else modes["mode"])


def _tell(was: str, wanted: str, modes: views.Row, there: Target, scope: str) -> None:
    below = f" below {scope}" if scope else ""
    if _in_force(modes, scope) != wanted:
        tell(f"still: {NAMES[was]}{below}    this is one yes to {NAMES[wanted]}; "
             "another administrator confirms within the hour:")
        tell(f"  guardrail mode confirm{f' --scope {scope}' if scope else ''}")
        return
    by = "" if scope else f", by {there.names.get(modes['by'], modes['by'])}"
    tell(f"was: {was}    now: {NAMES[wanted]}{below}{by}")
    tell(f"{mark('done')} switch stored, generation {modes['generation']}; a running worker knows it within 5 s")
