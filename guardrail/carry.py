"""Carrying out: a plan that was enforced or approved is a permission, and what is sent is derived anew each time.

Every edit must be done already, or still stand exactly as it was and still be wanted; otherwise the action ends.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn

from guardrail import asks, checked, consent, plans, proof
from guardrail.dangling import dangling
from guardrail.documents import Document
from guardrail.errors import Denied, Final, GuardrailError, Held, Malformed, Retryable, Stale, Unanswered, Unsafe
from guardrail.paths import ABSENT, get, parse, same, show, under
from guardrail.plans import Step
from guardrail.policy_schema import Exemption
from guardrail.turn import Turn
from guardrail.values import Action, Control, Edit, Finding, Plan, ResourceType, State

LEASE = timedelta(minutes=5)
SENDS_FOR = timedelta(seconds=60)                   # an invocation starts no request later than this
VERIFY_READS_S = (5, 15, 30, 60, 120)               # after the first read, at once
DEADLINE = timedelta(minutes=60)
AGAIN_S = 3600                                      # failed and held ones: hourly
WAIT_AT_MOST_S = 900                                # after what Azure did not take
UNDO_EXEMPT = timedelta(days=14)
TRIES = 2                                           # answered, and its effect was never seen
STARTS = 5                                          # workers that died over it; host.json: maxDequeueCount


async def carry(turn: Turn, type: ResourceType, controls: Sequence[Control], document: Document) -> Document | None:
    """Goes on with the acting action from what the world shows now.

    Returns the document to decide the rest on, or None when the turn has ended with a commit. Errors: Stale when the
    action has ended and the rest must be planned anew.
    """
    action = turn.case.acting
    if action is None:
        return document
    action = asks.chosen(action)
    turn.case = replace(turn.case, acting=action)
    document = await turn.engine.arm.mount(type, document, turn.engine.parts_of(controls), urgent=True)
    if plans.is_blind(document, action.plan.edits):
        return await _unseen(turn, controls, document, action)
    pending = [edit for edit in action.plan.edits if not plans.is_done(document, edit)]
    if not pending:
        return await _verified(turn, type, controls, document)
    if action.state == "unknown":
        return document
    if action.state == "approved" and not await consent.still_lets(turn, action):
        return None
    at_work = action.state == "applied" and plans.is_busy(type, document)
    if not at_work and not _still_wanted(turn, action.plan, type, controls, document, pending):
        action = _under_intent(turn, action, type, controls, document) or await _void(turn, action)
        pending = [edit for edit in action.plan.edits if not plans.is_done(document, edit)]
    if action.state == "failed" and not _is_retried(turn, action):
        return document
    if action.state in ("failed", "held", "approved"):
        if not await _may_begin(turn, action, controls, document, plans.steps(type, document, pending)):
            return document
        await consent.refuse_unbound(turn, action)
        action = replace(action, opened=turn.now, attempts=0, failures=0)      # its deadline runs from here
    if turn.now - action.opened > DEADLINE:
        await _ends(turn, "unknown" if action.state == "applied" else "failed", why="not done within its deadline")
        return None
    if action.state == "applied":
        await _not_yet(turn, action, [] if at_work else pending)
        return None
    if action.state == "applying" and (why := _not_again(turn, action)):
        await _ends(turn, "failed", why=why)
        return None
    steps = plans.steps(type, document, pending)
    try:
        proof.prove(document, steps, controls, turn.parameters, loosens=action.plan.kind == "undo")
    except Unsafe as error:
        await _ends(turn, "failed", why=str(error))
        return None
    turn.case = replace(turn.case, acting=action)
    await send(turn, type, controls, document, steps)
    return None


def _not_again(turn: Turn, action: Action) -> str:
    """Why what was begun is not begun once more; "" if it is."""
    if not consent.is_peoples(turn, action):
        return "too few people said yes to it"
    return f"started {action.attempts} times, and never ended" if action.attempts >= STARTS else ""


async def _void(turn: Turn, action: Action) -> NoReturn:
    """The resource changed under the action: it ends. Errors: Stale, always."""
    turn.moves(action, "superseded", why="what it was made for has changed")
    turn.case = replace(turn.case, acting=None)
    if action.state == "approved":
        turn.case = asks.voided(turn.case, turn.now)
    await turn.commit(answered=False)
    raise Stale("superseded: planned anew")


async def _exempt(turn: Turn, plan: Plan, reason: str, owner: str) -> None:
    """What an undo loosens is exempt for a while, pinned to the values that it brings back: else it would be undone."""
    until = turn.now + UNDO_EXEMPT
    known = {control.id for control in turn.engine.controls}       # what a person cut off by hand has no control
    new = tuple(Exemption(control=control, scope=plan.resource, reason=reason or "undone", owner=owner, until=until)
                for control in plan.controls if control in known)
    turn.rules = await turn.engine.set_rules(replace(turn.rules, exemptions=(*turn.rules.exemptions, *new)))
    for one in new:
        turn.note("exemption.added", exemption_id=one.id, control=one.control, scope=one.scope, reason=one.reason,
                  owner=one.owner, until=one.until)


def _under_intent(turn: Turn, action: Action, type: ResourceType, controls: Sequence[Control],
                  document: Document) -> Action | None:
    """The action for what stands there now, where its intent was approved within the hour; None if that is not this (D10).

    The same controls want the same values at the same paths of the same life, whatever else they find by now.
    """
    plan = action.plan
    if action.state != "approved" or not asks.approves_intent(action, turn.now):
        return None
    drifts = [one.drift for one in _findings(turn, plan, controls, document) if one.drift]
    wanted = {edit.path: edit for edit in plans.edits(type, drifts)[0]}
    edits = tuple(edit if plans.is_done(document, edit) else wanted.get(edit.path, edit) for edit in plan.edits)
    moved = replace(plan, edits=edits)
    pending = [edit for edit in edits if not plans.is_done(document, edit)]
    if moved.intent != plan.intent or not _still_wanted(turn, moved, type, controls, document, pending):
        return None
    return replace(action, plan=moved)


def _is_retried(turn: Turn, action: Action) -> bool:
    """A failed action is tried again by a person; by the sweep only where nothing was let through yet: a 403, an outage."""
    why = turn.look.why if turn.look else ""
    return why == "person" or (why == "sweep" and action.attempts == 0)


async def _may_begin(turn: Turn, action: Action, controls: Sequence[Control], document: Document,
                     steps: Sequence[Step]) -> bool:
    """Whether what waited may act by the rules of now. What dangles, or rotates keys for a second time a day, is held."""
    try:
        await turn.refuse_unless_allowed(action, _findings(turn, action.plan, controls, document), document)
    except Held:
        return False
    own = [control for control in controls if control.id in action.plan.controls]
    why = await dangling(turn, own, [edit for step in steps for edit in step.edits])
    why = why or await turn.take_budgets(action.plan, steps, approved=True)
    if why and action.state != "held":
        turn.case = replace(turn.case, acting=turn.moves(action, "held", why=why))
    return not why


def _still_wanted(turn: Turn, plan: Plan, type: ResourceType, controls: Sequence[Control], document: Document,
                  pending: Sequence[Edit]) -> bool:
    """Whether it is the same life, each edit's `before` stands, and the findings of today would plan the very same edit."""
    born = plans.incarnation(type, document)
    if born and born != plan.incarnation:
        return False
    if not all(same(before(type, document, edit), edit.before) for edit in pending):
        return False
    if plan.kind == "undo":
        return True
    found = _findings(turn, plan, controls, document)
    drifts = [finding.drift for finding in found if finding.drift]
    if plan.kind == "isolate" and type.isolate is not None:
        asked = turn.case.acting is not None and turn.case.acting.asked_by      # by a person, whatever the controls find
        drifts = list(type.isolate(document.node(), {})) if drifts or asked else []
    wanted = {edit.path: edit for edit in plans.edits(type, drifts)[0]}
    return all(edit.path in wanted and same(wanted[edit.path].after, edit.after) for edit in pending)


def _findings(turn: Turn, plan: Plan, controls: Sequence[Control], document: Document) -> list[Finding]:
    """What the plan was made for, as it stands now: not all that its controls find."""
    found = plans.judge([control for control in controls if control.id in plan.controls], document, turn.parameters)
    places = [parse(edit.path) for edit in plan.edits]
    return [one for one in found if one.drift and one.drift.decided and (
        plan.kind == "isolate" or any(under(parse(one.path), place) for place in places))]


def before(type: ResourceType, document: Document, edit: Edit) -> object:
    """What stands at an edit's path now, as a plan shows it."""
    path = parse(edit.path)
    route = plans.route_of(type, path)
    now = get(document.body, path)
    return plans.strip(now, route.readonly) if route and len(parse(route.path)) == len(path) else now


async def send(turn: Turn, type: ResourceType, controls: Sequence[Control], document: Document,
               steps: Sequence[Step]) -> None:
    """Durable first, then the requests one by one, then the proof by a new read. Ends the turn with a commit."""
    action = turn.case.acting
    if action is None:
        raise Stale("no action to send for")
    try:
        await checked.refuse_older(turn.engine, turn.case.resource)
    except (Retryable, Stale):
        await turn.give_back()
        raise
    ids = [_client_request_id(turn, action, step, index) for index, step in enumerate(steps)]
    if any(step.request.method == "POST" and id in action.sent for step, id in zip(steps, ids, strict=True)):
        await _ends(turn, "unknown", why="a POST was sent before, and it is not known whether it took effect")
        return
    expects = proof.predict(document, steps).body
    action = replace(action, attempts=action.attempts + 1, sent=(*action.sent, *ids), leased_until=turn.now + LEASE,
                     lease=turn.id, expects=expects, reads=0)
    requests = [{"client_request_id": id, "request": step.request} for id, step in zip(ids, steps, strict=True)]
    action = turn.moves(action, "applying", edits=action.plan.edits, requests=requests,
                        incarnation=action.plan.incarnation)
    turn.case = replace(turn.case, acting=action)
    if action.plan.kind == "undo" and action.attempts == 1:
        await _exempt(turn, action.plan, action.why, action.asked_by)
    try:
        await turn.commit(answered=False)
    except Stale:
        await turn.give_back()
        raise
    findings = _findings(turn, action.plan, controls, document)
    answered = 0
    try:
        for id, step in zip(ids, steps, strict=True):
            await turn.refuse_unless_allowed(action, findings, document)
            if turn.engine.clock() - turn.now > SENDS_FOR:
                raise Retryable("this invocation has sent for long enough", after_s=1)
            await turn.sends(type, action, step, id)
            answered += 1
    except GuardrailError as error:
        await _broken_off(turn, action, error, ids[answered:], partial=answered > 0)
        return
    turn.case = replace(turn.case, acting=replace(turn.moves(action, "applied"), leased_until=None))
    now = await turn.engine.arm.read(type, document.id, turn.engine.parts_of(controls), urgent=True)
    now = replace(now, good=document.good)
    if plans.is_busy(type, now) or not plans.holds(now, action.plan.edits):
        await turn.commit(again_s=VERIFY_READS_S[0])
        return
    await _verified(turn, type, controls, now, steps)


def _client_request_id(turn: Turn, action: Action, step: Step, index: int) -> str:
    """A POST has one id for ever, so that a second one is seen; the others one a try."""
    attempt = "" if step.request.method == "POST" else f"/{turn.id}/{index}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{action.id}/{step.request.url}{attempt}"))


async def _broken_off(turn: Turn, action: Action, error: GuardrailError, unsent: Sequence[str], partial: bool) -> None:
    """A request did not go through. Retryable: the same action, later. Everything else has an end with a name.

    What Azure did not take (busy, throttled, no token, denied) is no try of ours, and such a POST may be sent again.
    """
    if not isinstance(error, (Unanswered, Malformed)):
        action = replace(action, sent=tuple(id for id in action.sent if id not in unsent))
    if isinstance(error, (Retryable, Denied)):
        action = replace(action, attempts=action.attempts - 1)
    action = replace(action, leased_until=None)
    turn.case = replace(turn.case, acting=action)
    if isinstance(error, Retryable):
        elapsed = (turn.now - action.opened).total_seconds()        # waiting as long again doubles the time each time
        wait = error.after_s if partial else max(error.after_s, min(elapsed, WAIT_AT_MOST_S))
        turn.note("look.retried", action=action, error=str(error), after_s=wait)
        await turn.commit(again_s=wait)
    elif isinstance(error, Stale):
        turn.moves(action, "superseded", why=str(error), partial=partial)
        turn.case = replace(turn.case, acting=None, wrote=turn.case.wrote if partial else turn.wrote)
        await turn.commit(answered=False)
        if not partial:
            await turn.give_back()
        raise error
    elif isinstance(error, Held):
        held = turn.moves(replace(action, expects=ABSENT), "held", why=str(error), partial=partial)
        if held.approvals:
            turn.case = replace(turn.case, acting=held)
        else:       # nobody approved it: it is decided anew, as an ask
            if turn.case.asked is not None:
                turn.moves(turn.case.asked, "superseded", why="what was to be done at once is held")
            turn.case = replace(turn.case, acting=None, asked=held)
        await turn.commit(again_s=AGAIN_S)
    elif isinstance(error, Unanswered):
        await _ends(turn, "unknown", why=str(error), partial=partial)
    else:
        request_id = error.request_id if isinstance(error, Final) else ""
        await _ends(turn, "failed", why=str(error), partial=partial, request_id=request_id)


async def _ends(turn: Turn, state: State, expects: object = ABSENT, **detail: object) -> None:
    """failed or unknown: the action stays open, in the slot, for a person and the hourly look."""
    action = turn.case.acting
    if action is not None:
        ended = turn.moves(replace(action, leased_until=None, expects=expects), state, **detail)
        turn.case = replace(turn.case, acting=ended)
    await turn.commit(again_s=AGAIN_S)


async def _unseen(turn: Turn, controls: Sequence[Control], document: Document, action: Action) -> Document | None:
    """What it writes cannot be read now: neither done nor changed. What is under way waits, until its deadline."""
    if action.state not in ("approved", "applying", "applied"):
        return document
    if action.state != "approved" and turn.now - action.opened > DEADLINE:
        await _ends(turn, "unknown" if action.state == "applied" else "failed", why="cannot be read, and past its deadline")
        return None
    turn.compare(controls, document)
    await turn.commit(again_s=VERIFY_READS_S[-1])
    return None


async def _not_yet(turn: Turn, action: Action, pending: Sequence[Edit]) -> None:
    """Azure answered, and the read does not show it: stale for a while, never a reason to send again at once.

    Looks that come early (our echo, somebody's events) and those at a busy resource (`pending` empty) are no reads.
    """
    due = turn.case.due
    if not pending or (due is not None and due > turn.now):
        wait = (due - turn.now).total_seconds() if pending and due else VERIFY_READS_S[-1]
        await turn.commit(again_s=wait)
        return
    reads = action.reads + 1
    if reads < len(VERIFY_READS_S):
        turn.case = replace(turn.case, acting=replace(action, reads=reads))
        await turn.commit(again_s=VERIFY_READS_S[reads] - VERIFY_READS_S[reads - 1])
        return
    turn.note("verification.failed", action=action, reads=reads + 1, missing=[edit.path for edit in pending])
    if action.failures + 1 >= TRIES:
        await _ends(turn, "failed", why="Azure accepted the write, and the value is still not there")
        return
    again = turn.moves(replace(action, failures=action.failures + 1), "applying", why="its effect was not seen")
    turn.case = replace(turn.case, acting=again)
    await turn.commit(again_s=0)


async def _verified(turn: Turn, type: ResourceType, controls: Sequence[Control], document: Document,
                    steps: Sequence[Step] = ()) -> Document | None:
    """The edits hold. What was predicted and is missing makes it a failure; what others moved is recorded.

    Returns None; the document if nothing changed: it failed by what it lost, and that is still not there.
    """
    action = turn.case.acting
    if action is None:
        return document
    if action.state in ("approved", "held", "failed") and not action.sent:
        turn.moves(action, "superseded", why="it is done, and not by us")       # so there is nothing of ours to undo
        turn.case = replace(turn.case, acting=None)
        await turn.commit(answered=False)
        raise Stale("done by somebody: decided anew")
    if action.expects is not ABSENT:
        predicted = replace(document, body=action.expects)
        turn.foreseen = {plans.key(one) for one in plans.judge(controls, predicted, turn.parameters)}
        steps = steps or plans.steps(type, predicted, [edit for edit in action.plan.edits if edit.after is not ABSENT])
        missing, foreign = proof.lost(type, predicted, document, steps)
        if missing and action.state == "failed":
            return document
        for moved in foreign[:20]:
            turn.note("conflict.seen", action=action, path=show(moved.path), before=moved.predicted, after=moved.now)
        if missing:
            lost = [show(moved.path) for moved in missing]
            turn.note("verification.failed", action=action, lost=lost, values=[moved.predicted for moved in missing])
            await _ends(turn, "failed", action.expects, why=f"the write lost {', '.join(lost[:5])}")
            return None
    if action.state in ("approved", "held"):
        action = turn.moves(action, "applying", why="found done")
    if action.state == "applying":
        action = turn.moves(action, "applied", why="found done")
    action = turn.moves(replace(action, leased_until=None, expects=ABSENT), "verified")
    for event, detail in asks.taken_back(action):
        turn.note(event, **detail)
    turn.case = replace(turn.case, acting=None, actors=())
    turn.compare(controls, document)
    await turn.commit(again_s=0 if turn.case.findings else None)
    return None
