"""Whether Azure itself says who drifted something: an event only claims it, the activity log knows, minutes later.

Asked only where the policy would let whoever claims it pass, and nobody else has touched the resource. Until the log says
so, and wherever it names anybody else, nothing is confirmed: then it is decided as for everyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from guardrail import ids
from guardrail.errors import Denied, Final
from guardrail.paths import fold

if TYPE_CHECKING:
    from guardrail.turn import Turn

VERSION = "2015-04-01"          # of Microsoft.Insights/eventtypes/management/values
BACK = timedelta(hours=2)       # of the log; who changed it in that time must be trusted, all of them
OBJECT_ID = "http://schemas.microsoft.com/identity/claims/objectidentifier"


async def ask(turn: Turn) -> frozenset[str]:
    """Folded object ids of all who changed it lately, by the log; none while it would let nobody pass. Errors: Retryable.

    What they may is the policy's to say: whoever claims it must be among them, and it must name each of them.
    """
    policy = turn.engine.policy
    named = {fold(one.object_id) for one in policy.trusted_deployers} | {fold(one) for one in policy.break_glass}
    claimed = {fold(actor) for actor in turn.case.actors}
    group = ids.group(turn.case.resource)
    if not claimed or not claimed <= named or not group:
        return frozenset()
    since, until = (f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (turn.now - BACK, turn.now + timedelta(minutes=5)))
    wanted = (f"eventTimestamp ge '{since}' and eventTimestamp le '{until}' and resourceGroupName eq "
               "'" + group.replace("'", "''") + "'")
    subscription = ids.subscription(turn.case.resource)
    url = f"/subscriptions/{subscription}/providers/Microsoft.Insights/eventtypes/management/values?$filter={quote(wanted)}"
    try:
        rows = await turn.engine.arm.list(url, VERSION, subscription)
    except (Final, Denied):
        return frozenset()
    here = f"{ids.fold(turn.case.resource)}/"
    found = {_who(row) for row in rows if isinstance(row, Mapping) and f"{fold(str(row.get('resourceId')))}/".startswith(here)
             and _value(row, "status") == "Succeeded"} - {turn.engine.arm.object_id}
    return frozenset(found)


def _who(row: Mapping[str, Any]) -> str:
    claims = row.get("claims")
    return fold(str(claims.get(OBJECT_ID, ""))) if isinstance(claims, Mapping) else ""


def _value(row: Mapping[str, Any], name: str) -> Any:
    held = row.get(name)
    return held.get("value") if isinstance(held, Mapping) else None
