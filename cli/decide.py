"""guardrail quarantine and release, and the verbs of `actions` that change something: what people ask for by themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import ask
from cli.ask import Target
from cli.identities import As, Reason, said
from cli.output import Code, Ended, mark, nearest, tell, text
from console import views

Id = Annotated[str, typer.Argument(metavar="act-..")]


def quarantine(
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="An ARM id, or a name that the store knows.")],
    reason: Reason = "", as_: As = "",
) -> None:
    """Cuts a resource off by its type's isolation; in production another person approves first."""
    why = said(reason)
    with ask.opened(as_, needs_run=True) as there:
        id = there.resource(resource)
        there.confirm(f"Cut {views.short(id)} off?")
        _tell(there.post("/quarantine", resource_id=id, reason=why))


def release(action: Id, reason: Reason = "", as_: As = "") -> None:
    """Ends a quarantine: what still stands as it left it is put back, and exempt for a while."""
    undo(action, reason, as_, "release")


def look(
    resource: Annotated[str, typer.Argument(metavar="[RESOURCE]", help="An ARM id, or a name that the store knows.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All of them: the next sweep, at once.")] = False,
    reason: Reason = "", as_: As = "",
) -> None:
    """Has a resource read anew, whole: after a look that was given up, or an event that was never taken in."""
    if bool(resource) == everything:
        raise Ended(Code.USAGE, "name a resource, or say --all.")
    why = said(reason)
    with ask.opened(as_, needs_run=True) as there:
        id = "" if everything else there.resource(resource)
        there.confirm(f"Look at {views.short(id) if id else 'everything'}?")
        if id:
            there.post("/looks", resource_id=id, reason=why)
        else:
            there.post("/sweep", reason=why)
        tell(f"{mark('done')} left to hands: within {'seconds' if id else 'a minute'}. "
             f"See: guardrail audit show {views.short(id) if id else 'guardrail'}")


def undo(action: str, reason: str, as_: str, verb: str = "rollback") -> None:
    """Takes a verified action back."""
    why = said(reason)
    with ask.opened(as_, needs_run=True) as there:
        id = _id(there, action, "Take {} back?")
        _tell(there.post(f"/actions/{id}/{verb}", reason=why))


def _id(there: Target, prefix: str, question: str) -> str:
    """The whole id of an action; elsewhere what is to be done with it is asked first."""
    row = there.find("/actions", prefix)
    there.confirm(question.format(f"{row['id']} ({views.short(row['resource_id'])})"))
    return str(row["id"])


def _tell(asked: views.Row) -> None:
    if "left_to_hands" in asked:
        tell(f"{mark('done')} left to hands, who look first and then ask, act or refuse. See: guardrail actions list, "
             f"guardrail audit show {views.short(asked['resource_id'])}")
    elif asked["state"] == "proposed":
        tell(f"{mark('done')} asked for as {asked['id']}: production takes a second person. See: guardrail approvals list")
    else:
        tell(f"{mark('done')} {asked['id']} is approved; it is carried out now. See: guardrail actions show {asked['id']}")


def retry(action: str, reason: str, as_: str) -> None:
    """Tries a failed action once more."""
    why = said(reason)
    with ask.opened(as_, needs_run=True) as there:
        id = _id(there, action, "Try {} again?")
        there.post(f"/actions/{id}/retry", reason=why)
        tell(f"{mark('done')} {id} is tried once more, if it is still wanted. See: guardrail actions show {id}")


def settle(action: str, ended: str, reason: str, as_: str) -> None:
    """Says how an action ended whose answer never came."""
    why = said(reason)
    if ended not in ("verified", "failed"):
        raise nearest(ended, ("verified", "failed"), "end called")
    with ask.opened(as_, needs_run=True) as there:
        id = _id(there, action, f"Call {{}} {ended}?")
        done = there.post(f"/actions/{id}/settle", as_=ended, reason=why)
        tell(f"{mark('done')} {id} is {done['state']}.")


QUARANTINE_HELP = text('guardrail quarantine stmltrain --reason "keys may have leaked" --as oncall',
                       'guardrail quarantine stmltrain --reason "until it is clear who opened it"', exits=(0, 1, 4))
RELEASE_HELP = text('guardrail release act-7c55f0 --reason "notebook needed" --as oncall',
                    'guardrail release act-7c55f0 --reason "all clear"', exits=(0, 1, 4))
LOOK_HELP = text('guardrail look stmltrain --reason "its event was rejected" --as oncall',
                 'guardrail look --all --reason "the event path was broken" --as oncall', exits=(0, 1, 4, 64))
