"""Whether people's yes still lets an action act: given to this plan by enough of them, not long ago, under the rules of now.

Asked at the approval, and once more before the first request: the row may have lain there for hours.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from guardrail import __version__, asks, people
from guardrail.errors import Stale
from guardrail.turn import Turn
from guardrail.values import SEVERITIES, Action, Severity

SKEWED_AGAIN_S = 60
APPROVED_FOR = timedelta(hours=8)       # or less, by the policy


async def still_lets(turn: Turn, action: Action) -> bool:
    """Whether what was approved may begin now; False after a commit, where nobody knows what time it is. Errors: Stale."""
    if turn.engine.is_skewed:
        await turn.commit(again_s=SKEWED_AGAIN_S)
        return False
    if turn.is_over(action):
        over = replace(turn.moves(action, "expired", why="approved, and not begun before its end"), expires=turn.now)
        turn.case = replace(turn.case, acting=None, asked=turn.case.asked or (None if over.asked_by else over))
        await turn.commit(answered=False)
        raise Stale("it came too late: asked again")
    await refuse_unbound(turn, action)
    return True


def _is_bound(turn: Turn, action: Action) -> bool:
    """Whether people enough said yes to this plan, under the policy and the code of now, and not long ago."""
    since = turn.now - min(APPROVED_FOR, turn.engine.policy.expires(_severity(turn, action)))
    enough = action.mode != "approve" or len(people.people_of(action)) >= people.people_needed(turn, action)
    is_moved = asks.approves_intent(action, turn.now)
    return enough and all(
        (one.plan == action.plan.hash or is_moved) and one.policy_hash == turn.engine.policy.hash and one.version == __version__
        and one.at > since for one in action.approvals)


def is_peoples(turn: Turn, action: Action) -> bool:
    """Whether people enough said yes, a freeze that came later aside."""
    needed = people.people_needed(turn, action, in_freeze=False)
    return action.mode != "approve" or len(people.people_of(action)) >= needed


def _severity(turn: Turn, action: Action) -> Severity:
    found = {one.severity for one in turn.engine.controls if one.id in action.plan.controls}
    return min(found, key=SEVERITIES.index, default="low")


async def refuse_unbound(turn: Turn, action: Action) -> None:
    """Ends an action whose approvals no longer bind. Errors: Stale."""
    if _is_bound(turn, action):
        return
    turn.moves(action, "superseded", why="approved by too few, too long ago, or under another policy or version: asked again")
    turn.case = replace(turn.case, acting=None)
    await turn.commit(answered=False)
    raise Stale("the approval no longer binds: decided anew")
