"""What people decide: approve, reject, quarantine, undo, settle, retry. Each leaves a row and a Look; nothing is sent here.

An approval is bound to the plan's hash that was seen, and beside it to policy, version and expiry. Whoever touched the
resource since it last was clean, and whoever asked, is barred; a claim is enough to bar, and never enough to let pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

import guardrail
from guardrail import asks, forged, plans, signing, switches
from guardrail.authorize import Person, authorize
from guardrail.errors import Refused, Stale, Unsafe
from guardrail.ids import ResourceId, subscription, type_of
from guardrail.paths import ABSENT, fold
from guardrail.policy_schema import Exemption
from guardrail.refusals import MARGIN, attempt
from guardrail.turn import Engine, Turn
from guardrail.values import Acceptance, Action, Approval, Case, Edit, Kind, Plan, ResourceType, State, Wish, digest

REST = timedelta(hours=24)                  # rejected and left open: asked again
UNDO_EXPIRES = timedelta(hours=8)
UNKNOWN = ("", "?")


async def approve(engine: Engine, resource: ResourceId, action_id: str, plan_hash: str, who: Person, reason: str,
                  approvers: str = "", intent: bool = False) -> Action:
    """One person's yes to the plan that they saw; the last yes that is needed lets it act. Errors: Refused.

    `intent`: what the plan wants, for an hour, whatever comes to stand there. Then `plan_hash` may be that of the intent, and
    `action_id` an ask that was voided since: what keeps changing could not be named otherwise.
    """
    async with attempt(engine, resource, "approve", who, action_id):
        turn, asked = await deciding(engine, resource, action_id, who, approvers, plan_hash if intent else "")
        if intent and not asked.intent:
            raise Refused("intent", "only the plan can be approved: an intent is offered after three voids in a day")
        offered = asked.plan if asked.instead is None or plan_hash != asked.instead.hash else asked.instead
        if plan_hash not in (offered.hash, asked.intent if intent else offered.hash):
            raise Refused("stale", f"the plan has changed: it is {asked.plan.hash[:8]} now, look at it again")
    yes = Approval(who.object_id, turn.now, offered.hash, engine.policy.hash, guardrail.__version__,
                   intent=asked.intent if intent else "")
    asked = replace(asked, approvals=(*asked.approvals, yes))
    turn.by = who.object_id
    if len(people_of(asked)) < people_needed(turn, asked):
        turn.note("action.approved", action=asked, approvals=len(asked.approvals), needed=people_needed(turn, asked),
                  plan_hash=yes.plan, reason=reason, **_intent(yes))
        turn.case = replace(turn.case, asked=asked)
        await _commit(turn)
        return asked
    return await _let_act(turn, asked, reason)


async def deciding(engine: Engine, resource: ResourceId, action_id: str, who: Person,
                   approvers: str = "", intent: str = "") -> tuple[Turn, Action]:
    """The turn, and the action that this person may approve now. Errors: Refused with why not."""
    turn, asked = await _waiting(engine, resource, action_id, who, "approve", approvers, intent)
    if turn.mode in ("ignore", "report"):
        raise Refused("report", "report-only: nothing is approved now")
    engine.refuse_skewed()
    _refuse_involved(turn, asked, who)
    if asked.expires is not None and turn.now > asked.expires - MARGIN:
        raise Refused("expired", "nobody decided in time: it is asked again")
    if any(fold(one.by) == fold(who.object_id) for one in asked.approvals):
        raise Refused("twice", "you have approved already: another person must")
    return turn, asked


async def reject(engine: Engine, resource: ResourceId, action_id: str, who: Person, reason: str,
                 approvers: str = "", exempt_until: datetime | None = None) -> Action:
    """The drift stays; it is asked again at the next change, or after a day. Errors: Refused.

    `exempt_until`: the plan's controls are to be exempt on the resource until then, if another person confirms it.
    """
    async with attempt(engine, resource, "reject", who, action_id):
        turn, asked = await _waiting(engine, resource, action_id, who, "reject", approvers)
    exempt = [Exemption(control=control, scope=resource, reason=reason, owner=who.object_id, until=exempt_until)
              for control in asked.plan.controls] if exempt_until else []
    for one in exempt:
        switches.refuse_exemption(engine, one)
    turn.by = who.object_id
    ended = turn.moves(replace(asked, expires=turn.now + REST), "rejected", reason=reason, why=reason)
    turn.case = replace(turn.case, asked=ended)
    await _commit(turn)
    for one in exempt:
        await switches.wait_exemption(engine, one, who)
    return ended


async def quarantine(engine: Engine, resource: ResourceId, who: Person, reason: str) -> Action:
    """Asks for the resource to be cut off by its type's isolation; outside production the asker is enough."""
    async with attempt(engine, resource, "quarantine", who):
        authorize(who, "quarantine", resource, engine.policy)
    return await isolate(engine, resource, Wish("quarantine", who.object_id, engine.clock(), reason))


async def isolate(engine: Engine, resource: ResourceId, wish: Wish) -> Action:
    """What `quarantine` was asked for, read and planned. Errors: Refused, Retryable."""
    type = guarded_type(engine, resource)
    document = await engine.arm.read(type, resource, engine.parts_of(engine.controls_on(type)), urgent=True)
    drifts = list(type.isolate(document.node(), {})) if type.isolate and not document.gone else []
    edits, refused = plans.edits(type, drifts)
    if not edits:
        raise Refused("nothing", "; ".join(why for _, why in refused) or "it is cut off already, or has no isolation")
    return await _propose(engine, resource, plans.incarnation(type, document), "isolate", edits, ("quarantine",), wish)


async def undo(engine: Engine, resource: ResourceId, action_id: str, who: Person, reason: str) -> Action:
    """Asks for a verified action to be taken back, where the world still shows what we wrote: rollback and release.

    Loosens by nature: in production two people, and whoever carries it out exempts the controls first. Errors: Refused.
    """
    async with attempt(engine, resource, "undo", who, action_id):
        authorize(who, "rollback", resource, engine.policy)
    return await take_back(engine, resource, Wish("undo", who.object_id, engine.clock(), reason, action_id))


async def take_back(engine: Engine, resource: ResourceId, wish: Wish) -> Action:
    """What `undo` was asked for, read and planned. Errors: Refused, Retryable."""
    id, plan = await verified_plan(engine, resource, wish.action)
    type = guarded_type(engine, resource)
    document = await engine.arm.read(type, resource, engine.parts_of(engine.controls_on(type)), urgent=True)
    if document.gone or plans.incarnation(type, document) != plan.incarnation:
        raise Refused("gone", "this is not the resource that the action changed")
    edits = tuple(edit for edit in plan.inverse().edits if plans.is_done(document, Edit(edit.path, edit.after, edit.before)))
    if not edits:
        raise Refused("moved", "nothing still stands as we left it")
    try:
        plans.steps(type, document, edits)
    except Unsafe as error:
        raise Refused("no-undo", str(error)) from error
    return await _propose(engine, resource, plan.incarnation, "undo", edits, plan.controls, wish, (id, plan.kind))


async def settle(engine: Engine, resource: ResourceId, action_id: str, as_: State, who: Person, reason: str) -> Action:
    """A person says how an unknown POST ended: `verified` or `failed`. Errors: Refused."""
    async with attempt(engine, resource, "settle", who, action_id):
        authorize(who, "settle", resource, engine.policy)
    turn = await Turn.begin(engine, resource)
    acting = turn.case.acting
    if acting is None or not acting.id.startswith(action_id) or acting.state != "unknown" or as_ not in ("verified", "failed"):
        raise Refused("state", "only an unknown outcome is settled, as verified or failed")
    turn.by = who.object_id
    ended = turn.moves(replace(acting, expects=ABSENT), as_, reason=reason, why=reason)
    if as_ == "verified":
        for event, detail in asks.taken_back(ended):
            turn.note(event, **detail)
    turn.case = replace(turn.case, acting=None if as_ == "verified" else ended)
    await _commit(turn)
    return ended


async def retry(engine: Engine, resource: ResourceId, action_id: str, who: Person, reason: str = "") -> None:
    """A failed action is tried once more, judged anew. Errors: Refused."""
    async with attempt(engine, resource, "retry", who, action_id):
        authorize(who, "retry", resource, engine.policy)
    turn = await Turn.begin(engine, resource)
    acting = turn.case.acting
    if acting is None or acting.state != "failed" or not acting.id.startswith(action_id):
        raise Refused("state", "only a failed action is retried")
    await leave(turn, who, "retry", reason, acting.id)


async def leave(turn: Turn, who: Person, what: str, reason: str, action_id: str = "") -> None:
    """What was asked of hands is recorded, and a look does it."""
    turn.by = who.object_id
    turn.note("wish.made", what=what, reason=reason, action_id=action_id)
    await _commit(turn, "person")


async def accept(engine: Engine, resource: ResourceId, part: str, hash: str, who: Person, approvers: str = "",
                 reason: str = "") -> Case:
    """This part of what was seen is known good: restored from then on without asking. Two approvers say so.

    `hash` is the digest of the part as it was shown to them. Errors: Refused.
    """
    async with attempt(engine, resource, "accept", who):
        authorize(who, "accept", resource, engine.policy, approvers)
        turn = await Turn.begin(engine, resource)
        if part not in turn.case.good or digest(turn.case.good[part]) != hash:
            raise Refused("stale", "this is not what is known of that part now: look at it again")
        if fold(who.object_id) in {fold(actor) for actor in turn.case.actors}:
            raise Refused("four-eyes", "you changed this resource: other people must accept it")
    said = dict(turn.case.accepting)
    first, mine = said.pop(part, None), Acceptance(who.object_id, turn.now, hash)
    turn.by = who.object_id
    if first is not None and first.hash == hash and fold(first.by) != fold(mine.by):
        turn.note("baseline.accepted", part=part, hash=hash, by=[first.by, mine.by], reason=reason)
        turn.case = replace(turn.case, accepted={**turn.case.accepted, part: (first, mine)}, accepting=said)
    else:
        turn.case = replace(turn.case, accepting={**said, part: mine})
    await _commit(turn)
    return turn.case


def people_needed(turn: Turn, action: Action, *, in_freeze: bool = True) -> int:
    """How many people: two where nobody knows who drifted it, in a freeze, and for an undo or isolation in production.

    Whoever asked for an undo or an isolation counts as one. `in_freeze` False: as if there were none.
    """
    if action.asked_by:
        return 2 if turn.place.is_production else 1
    unknown = not action.caused_by or any(one in UNKNOWN for one in action.caused_by) or turn.case.distrusted is not None
    frozen = in_freeze and any(one.start <= turn.now < one.until for one in (*turn.engine.policy.freezes, *turn.rules.freezes))
    return 2 if unknown or frozen else action.needs


def people_of(action: Action) -> set[str]:
    """Who asked for it, and who said yes to the plan that the last yes was for."""
    asked = {fold(action.asked_by)} if action.asked_by else set()
    return {fold(one.by) for one in action.approvals if one.plan == action.approvals[-1].plan} | asked


async def _waiting(engine: Engine, resource: ResourceId, action_id: str, who: Person, verb: str,
                   approvers: str, intent: str = "") -> tuple[Turn, Action]:
    """The turn and the action that waits in it: of that id, or of the intent that is named. Errors: Refused."""
    authorize(who, verb, resource, engine.policy, approvers)
    turn = await Turn.begin(engine, resource)
    asked = turn.case.asked
    if asked is None or not (asked.id.startswith(action_id) or (intent and asked.intent == intent)):
        raise Refused("decided", "this does not wait any more: it was decided, or the resource changed")
    if asked.state == "expired":
        raise Refused("expired", "nobody decided in time: it is asked again")
    if asked.state not in ("proposed", "held"):
        raise Refused("decided", f"it is {asked.state} already")
    return turn, asked


def _refuse_involved(turn: Turn, action: Action, who: Person) -> None:
    """Four eyes, over everybody who touched the resource since it last was clean, and whoever asked."""
    people = {fold(name): fold(person) for name, person in turn.engine.policy.approvals.people.items()}
    involved = {fold(one) for one in (*action.caused_by, *turn.case.actors, action.asked_by) if one not in UNKNOWN}
    involved |= {people[one] for one in involved if one in people}
    if fold(who.object_id) in involved:
        raise Refused("four-eyes", "you made the change that this plan is about, or asked for it: another person must decide")


async def _let_act(turn: Turn, asked: Action, reason: str) -> Action:
    """From asked to acting, in one commit: whoever was faster wins, and the look that carries it out is only a nudge."""
    acting = turn.case.acting
    if acting is not None and acting.state != "failed":
        raise Refused("busy", f"{acting.id} is {acting.state} on this resource: wait for its end")
    if acting is not None:
        turn.moves(acting, "superseded", why="people decided on another plan")
    moved = turn.moves(asked, "approved", plan_hash=asked.approvals[-1].plan, approvals=[one.by for one in asked.approvals],
                       reason=reason, why=reason, **_intent(*asked.approvals))
    turn.case = replace(turn.case, asked=None, acting=moved)
    await _commit(turn)
    return moved


def _intent(*approvals: Approval) -> dict[str, str]:
    """For the record of a yes: the intent, if all of them were to it."""
    given = {one.intent for one in approvals}
    return {"intent": given.pop()} if len(given) == 1 and "" not in given else {}


async def _propose(engine: Engine, resource: ResourceId, incarnation: str, kind: Kind, edits: Sequence[Edit],
                   controls: tuple[str, ...], wish: Wish, undoes: tuple[str, Kind] | None = None) -> Action:
    turn = await Turn.begin(engine, resource)
    turn.case = replace(turn.case, wishes=tuple(one for one in turn.case.wishes if one != wish))
    plan = Plan(resource, incarnation, kind, tuple(edits), controls)
    if turn.case.asked is not None:
        turn.moves(turn.case.asked, "superseded", why=f"a person asked for an {kind}")
    turn.by = wish.by
    expires = turn.now + UNDO_EXPIRES
    opened = replace(turn.opened(plan, "approve", wish.reason), asked_by=wish.by, expires=expires, undoes=undoes)
    opened = replace(opened, needs=people_needed(turn, opened))
    asked = turn.moves(opened, "proposed", edits=plan.edits, expires=expires, reason=wish.reason, why=wish.reason)
    if people_needed(turn, asked) <= 1:
        yes = Approval(wish.by, turn.now, plan.hash, engine.policy.hash, guardrail.__version__)
        return await _let_act(turn, replace(asked, approvals=(yes,)), wish.reason)
    turn.case = replace(turn.case, asked=asked)
    await _commit(turn)
    return asked


async def _commit(turn: Turn, why: Literal["approval", "person"] = "approval") -> None:
    """Due at once, whether or not the look that says so is left behind."""
    try:
        await turn.commit(answered=False, again_s=0, why=why)
    except Stale as error:
        raise Refused("decided", "somebody was faster: look again") from error


async def verified_plan(engine: Engine, resource: ResourceId, action_id: str) -> tuple[str, Plan]:
    """Id and plan of an action that was carried out and verified, from the resource's own records. Errors: Refused."""
    edits: Any = None
    detail: dict[str, Any] = {}
    ended = False
    for stored in await engine.store.records(resource):
        record = msgspec.json.decode(stored.body)
        if not str(record["detail"].get("action_id", "")).startswith(action_id):
            continue
        if record["event"] == "action.applying":
            edits, detail = record["detail"]["edits"], record["detail"]
        ended = ended or record["event"] in ("action.verified", "resource.quarantined")
        ended = ended and record["event"] not in ("action.rolled_back", "resource.released")
    if edits is None or not ended:
        raise Refused("unknown", "no verified action of that id on this resource")
    made = tuple(Edit(one["path"], one.get("before", ABSENT), one.get("after", ABSENT)) for one in edits)
    plan = Plan(resource, detail["incarnation"], detail["kind"], made, tuple(detail["controls"]))
    if plan.hash != detail["plan_hash"]:
        raise Refused("no-undo", "the record does not hold all that an undo needs: a secret was left out")
    payload = signing.applying(resource, detail["action_id"], plan.hash)
    if not await engine.keys.hands.verify(payload, str(detail.get("signature", ""))):
        await forged.tell(engine, f"record of {detail['action_id']}", "what an undo would write is not signed by hands")
        raise Refused("no-undo", "the record of what stood there before is not signed by hands: it may have been changed")
    return str(detail["action_id"]), plan


def guarded_type(engine: Engine, resource: ResourceId) -> ResourceType:
    """Errors: Refused for what we do not look at."""
    found = engine.types.get(fold(type_of(resource)))
    if found is None or subscription(resource) not in engine.subscriptions:
        raise Refused("unknown", "this type, or its subscription, is not guarded")
    return found
