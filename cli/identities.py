"""Who may be played in the embedded run: whoever types says who they are, for there is no sign-in on one machine.

Known to the CLI only. Deployed, a verified token says it (guardrail.tokens), and nothing of this is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import Code, Ended, nearest
from guardrail.authorize import Person
from guardrail.errors import Refused

if TYPE_CHECKING:
    from starlette.requests import Request

GROUP = "00000000-0000-0000-0000-0000000a9904"      # those who approve, made up as all ids of the simulator
ROLES: Mapping[str, tuple[str, ...]] = {
    "approver": ("Approver", "Administrator"),
    "oncall": ("Operator", "Approver", "Administrator"),
    "ml-engineer": ("Reader", "Approver"),
    "deploy-pipeline": ("Reader", "Approver"),      # an application: whatever its roles, it decides nothing
}

As = Annotated[str, typer.Option("--as", metavar="WHO", envvar="GUARDRAIL_AS", help=f"Who you are: {', '.join(ROLES)}.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the record.")]


def person(name: str) -> Person:
    """Errors: Ended for nobody, or for a name that is none."""
    from simulator.identity import actor

    if not name:
        raise Ended(Code.USAGE, f"--as is missing: say who you are ({', '.join(ROLES)}), or set GUARDRAIL_AS.")
    if name not in ROLES:
        raise nearest(name, ROLES, "identity")
    one = actor(name)
    return Person(one.oid, frozenset(ROLES[name]), frozenset({GROUP}), is_person=one.person)


async def identify(request: Request) -> Person:
    """Who a request of this machine says it is: `Authorization: Bearer approver`. Anyone here may look."""
    scheme, _, name = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and name in ROLES:
        return person(name)
    if request.method in ("GET", "HEAD") and not scheme:
        return Person("", frozenset({"Reader"}), is_person=False)
    raise Refused("token", f"say who you are: Authorization: Bearer {'|'.join(ROLES)}")


def names() -> dict[str, str]:
    """Object id -> name."""
    from simulator.identity import ACTORS

    return {actor.oid: actor.name for actor in ACTORS.values()}


def said(reason: str) -> str:
    """Errors: Ended without one."""
    if not reason.strip():
        raise Ended(Code.USAGE, "--reason is missing: say why.")
    return reason
