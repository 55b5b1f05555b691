"""guardrail quarantine and release, and the verbs of `actions` that change something: what people ask for by themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import target
from cli.findings import by_prefix, known
from cli.identities import As, Reason, person, said
from cli.output import mark, nearest, tell, text
from console import views
from guardrail import ids, people
from guardrail.app import Guardrail
from guardrail.authorize import Person
from guardrail.ids import ResourceId
from guardrail.stores import Store
from guardrail.values import Action

Id = Annotated[str, typer.Argument(metavar="act-..")]


def quarantine(
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="An ARM id, or a name that the store knows.")],
    reason: Reason = "", as_: As = "",
) -> None:
    """Cuts a resource off by its type's isolation; in production another person approves first."""
    who, why = person(as_), said(reason)
    target.with_guardrail(lambda one: _quarantine(one, resource, who, why))


async def _quarantine(guardrail: Guardrail, name: str, who: Person, reason: str) -> None:
    resource = await resource_of(guardrail.store, name)
    _tell(await people.quarantine(guardrail.engine, resource, who, reason))


async def resource_of(store: Store, name: str) -> ResourceId:
    """By its ARM id, or the name of one that has records: what was never wrong has none. Errors: Ended, Malformed."""
    return ids.parse(name) if name.startswith("/") else ResourceId(await known(store, name))


def release(action: Id, reason: Reason = "", as_: As = "") -> None:
    """Ends a quarantine: what still stands as it left it is put back, and exempt for a while."""
    undo(action, reason, as_)


def undo(action: str, reason: str, as_: str) -> None:
    """Takes a verified action back."""
    who, why = person(as_), said(reason)
    target.with_guardrail(lambda one: _undo(one, action, who, why))


async def _undo(guardrail: Guardrail, prefix: str, who: Person, reason: str) -> None:
    resource, id = await _found(guardrail, prefix)
    _tell(await people.undo(guardrail.engine, resource, id, who, reason))


def _tell(asked: Action) -> None:
    if asked.state == "proposed":
        tell(f"{mark('done')} asked for as {asked.id}: production takes a second person. See: guardrail approvals list")
    else:
        tell(f"{mark('done')} {asked.id} is approved; it is carried out now. See: guardrail actions show {asked.id}")


def retry(action: str, reason: str, as_: str) -> None:
    """Tries a failed action once more."""
    who, why = person(as_), said(reason)
    target.with_guardrail(lambda one: _retry(one, action, who, why))


async def _retry(guardrail: Guardrail, prefix: str, who: Person, reason: str) -> None:
    resource, id = await _found(guardrail, prefix)
    await people.retry(guardrail.engine, resource, id, who, reason)
    tell(f"{mark('done')} {id} is tried once more, if it is still wanted. See: guardrail actions show {id}")


def settle(action: str, ended: str, reason: str, as_: str) -> None:
    """Says how an action ended whose answer never came."""
    who, why = person(as_), said(reason)
    if ended not in ("verified", "failed"):
        raise nearest(ended, ("verified", "failed"), "end called")
    target.with_guardrail(lambda one: _settle(one, action, ended, who, why))


async def _settle(guardrail: Guardrail, prefix: str, ended: str, who: Person, reason: str) -> None:
    resource, id = await _found(guardrail, prefix)
    done = await people.settle(guardrail.engine, resource, id, "verified" if ended == "verified" else "failed", who, reason)
    tell(f"{mark('done')} {id} is {done.state}.")


async def _found(guardrail: Guardrail, prefix: str) -> tuple[ResourceId, str]:
    row = by_prefix(await views.actions(guardrail.store), prefix)
    return ResourceId(row["resource_id"]), row["id"]


QUARANTINE_HELP = text('guardrail quarantine stmltrain --reason "keys may have leaked" --as oncall',
                       'guardrail quarantine stmltrain --reason "until it is clear who opened it"', exits=(0, 1, 4))
RELEASE_HELP = text('guardrail release act-7c55f0 --reason "notebook needed" --as oncall',
                    'guardrail release act-7c55f0 --reason "all clear"', exits=(0, 1, 4))
