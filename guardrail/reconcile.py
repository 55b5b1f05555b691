"""One verb: reconcile a resource. Look, read, judge, decide, plan; `carry` writes. Top to bottom, one row a resource.

Everything else (events, queue, sweep, approvals, our own echoes) only leaves a Look and calls this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from guardrail import asks, caps, confirmed, plans, proof, roles, wishes
from guardrail.carry import carry, send
from guardrail.dangling import dangling
from guardrail.documents import Document
from guardrail.errors import Busy, Stale, Unsafe
from guardrail.events import ALL, subjects
from guardrail.ids import ResourceId, fold, type_of
from guardrail.paths import fold as fold_text
from guardrail.paths import parse, under
from guardrail.people import people_needed
from guardrail.plans import Step
from guardrail.policy import is_undecided
from guardrail.turn import Engine, Turn
from guardrail.values import SEVERITIES, Control, Decision, Edit, Kind, Mode, Plan, ResourceType, Severity

STALE_TRIES = 5
GONE_AFTER = (3, timedelta(seconds=60))             # 404s, and the time they must span
SECOND_LOOK_S = 60
BUSY_S = (15, 30, 60, 120, 240, 480, 960, 1800)     # then decide on what is readable, marked unsettled
HELD_AGAIN_S = 3600
ASK_AGAIN = timedelta(hours=24)


async def reconcile(engine: Engine, resource: ResourceId) -> None:
    """Answers the resource's waiting Look, or carries on with what is due.

    Errors: Retryable (look again after `after_s`), StoreDown; anything else is a bug.
    """
    for _ in range(STALE_TRIES):
        try:
            return await _once(engine, resource)
        except Stale:
            continue
    raise Busy(f"{resource} keeps moving", after_s=15)


async def _once(engine: Engine, resource: ResourceId) -> None:
    turn = await Turn.begin(engine, resource)
    if turn.look is None and not turn.is_due:
        return
    type = engine.types.get(fold_text(type_of(resource)))
    if type is None:
        await turn.commit()
        return
    turn.refuse_if_leased()
    if turn.case.wishes and await wishes.grant(engine, turn.case):
        raise Stale("people's wishes were answered: look again")
    controls = engine.controls_on(type)
    asked_for = _parts(engine, turn, controls)
    document = await engine.arm.read(type, resource, asked_for, urgent=turn.is_urgent(controls))
    turn.case = replace(turn.case, looked=turn.now)
    turn.see_changes()
    if document.gone and not _is_gone(turn, document):
        await turn.commit(again_s=30)
        return
    document = _same_life(turn, type, document)
    turn.confirmed = await confirmed.ask(turn)
    if plans.is_busy(type, document) and not _is_unsettled(turn):
        _report(turn, [one for one in _decisions(turn, controls, document) if one.mode == "report"], type,
                controls, document)
        await turn.commit(again_s=_busy_delay(turn))
        return
    if not plans.is_busy(type, document):
        turn.case = replace(turn.case, busy_since=None)
    if turn.case.acting is not None:
        carried = await carry(turn, type, controls, document)
        if carried is None:
            return
        document = carried
    await _decide(turn, type, controls, document)


def _parts(engine: Engine, turn: Turn, controls: Sequence[Control]) -> frozenset[str]:
    """The mounted parts to read: those of the operations seen; all of them on first sight and whenever in doubt."""
    everything = frozenset(part for control in controls for part in control.also_reads)
    look, case = turn.look, turn.case
    if look is None or look.why != "event" or not turn.is_known or case.asked or case.acting or case.findings:
        return everything
    wanted = set[str]()
    for change in look.changes:
        seen = subjects(change, controls, engine.types)
        parts = next((parts for id, parts in seen.items() if fold(id) == fold(look.resource)), ALL)
        wanted.update(everything if parts == ALL else parts)
    return frozenset(wanted) if look.changes else everything


def _is_gone(turn: Turn, document: Document) -> bool:
    """A delete event and one 404, or three 404s over a minute: ARM answers stale for a while.

    `missing` holds the first and the last of them, and a third one from when it counts as gone.
    """
    count, span = GONE_AFTER
    missing = turn.case.missing
    if len(missing) >= count:
        return True
    deleted = any(
        fold(change.resource) == fold(document.id) and fold_text(change.operation).endswith("/delete")
        for change in (turn.look.changes if turn.look else ())
    )
    is_gone = deleted or (len(missing) == count - 1 and turn.now - missing[0] >= span)
    missing = (*missing, *(turn.now,) * count)[:count] if is_gone else (*missing[:1], turn.now)
    turn.case = replace(turn.case, missing=missing)
    if is_gone:
        turn.note("resource.gone", action_id=turn.case.acting.id if turn.case.acting else "")
    return is_gone


def _same_life(turn: Turn, type: ResourceType, document: Document) -> Document:
    """What was known of an earlier life of this id is dropped: actions, known good, findings."""
    case = turn.case
    if document.gone:
        for action in filter(None, (case.asked, case.acting)):
            turn.moves(action, "superseded", why="the resource is gone")
        turn.case = replace(turn.case, asked=None, acting=None, due=None)
        return replace(document, good=case.good)
    born = plans.incarnation(type, document)
    if case.incarnation and born and born != case.incarnation:
        for action in filter(None, (case.asked, case.acting)):
            turn.moves(action, "superseded", why="the resource was recreated")
        case = replace(case, asked=None, acting=None, good={}, accepted={}, accepting={},
                       findings=frozenset(), reported=frozenset(), due=None)
    if born and not case.incarnation:       # what was accepted, was of a life without a mark
        case = replace(case, accepted={}, accepting={})
    turn.case = replace(case, incarnation=born or case.incarnation, missing=())
    return replace(document, good=case.good)


def _is_unsettled(turn: Turn) -> bool:
    since = turn.case.busy_since or turn.now
    turn.case = replace(turn.case, busy_since=since)
    return (turn.now - since).total_seconds() >= BUSY_S[-1]


def _busy_delay(turn: Turn) -> float:
    elapsed = (turn.now - (turn.case.busy_since or turn.now)).total_seconds()
    return next((min(float(step), BUSY_S[-1] - elapsed) for step in BUSY_S if step > elapsed), 60.0)


async def _decide(turn: Turn, type: ResourceType, controls: Sequence[Control], document: Document) -> None:
    """What to do about what is found now: enforce it, ask, or report it."""
    decisions = _decisions(turn, controls, document)
    if not decisions:
        await _clean(turn, controls, document)
        return
    await turn.pin_exempt(decisions)
    turn.remember(decisions)
    _report(turn, [one for one in decisions if one.mode == "report"], type, controls, document)
    for mode in ("enforce", "approve"):
        chosen = [decision for decision in decisions if decision.mode == mode]
        if not chosen:
            continue
        parts = {*turn.engine.parts_of(controls), *(part for part in type.dependants if part.startswith("+"))}
        document = await turn.engine.arm.mount(type, document, parts, urgent=True)
        for kind in ("fix", "isolate"):
            acted = await _plan(turn, type, controls, document, chosen, mode, kind)
            if acted:
                return
    _report(turn, [one for one in decisions if one.mode != "report"], type, controls, document)
    _drop_stale_ask(turn, decisions)
    _refuse(turn, decisions)
    is_open = turn.case.acting or (turn.case.asked and turn.case.asked.state == "held")
    await turn.commit(again_s=HELD_AGAIN_S if is_open else None)


def _decisions(turn: Turn, controls: Sequence[Control], document: Document) -> list[Decision]:
    by_id = {control.id: control for control in controls}
    return [turn.decide(one, by_id[one.control], document) for one in turn.compare(controls, document)]


async def _clean(turn: Turn, controls: Sequence[Control], document: Document) -> None:
    """Nothing found: what waited is superseded; a critical resource gets a second look, for reads can be stale."""
    if turn.case.asked is not None and not _is_persons(turn):
        _withdraw(turn, "nothing is left to fix")
    turn.remember(())
    if turn.engine.parts_of(controls) <= document.parts or document.gone:
        turn.case = replace(turn.case, actors=(), distrusted=None)
    again = turn.look is not None and turn.look.why == "event" and not document.gone and any(
        control.severity == "critical" for control in controls)
    await turn.commit(again_s=SECOND_LOOK_S if again else None)


async def _plan(turn: Turn, type: ResourceType, controls: Sequence[Control], document: Document,
                chosen: Sequence[Decision], mode: Mode, kind: Kind) -> bool:
    """Plans one kind of answer to the chosen findings; True if the turn has ended with it."""
    by_id = {control.id: control for control in controls}
    acting, asked = turn.case.acting, turn.case.asked
    if mode == "approve" and kind == "isolate" and asked is not None and asked.plan.kind == "fix" and asked.state in (
            "proposed", "held"):
        return False        # one ask a resource: what can be mended comes first
    if mode == "enforce" and acting is not None and acting.state != "failed":
        return False
    tried = acting.plan.edits if acting is not None else ()        # it is open for them: they do not hold up the rest
    response = {"fix": "revert", "isolate": "isolate"}[kind]
    mine = [decision for decision in chosen if by_id[decision.finding.control].response == response
            and not any(edit.path == decision.finding.path for edit in tried)]
    drifts = [decision.finding.drift for decision in mine if decision.finding.drift]
    if kind == "isolate" and drifts and type.isolate is not None:
        drifts = list(type.isolate(document.node(), {}))
    edits, refused = plans.edits(type, drifts)
    turn.refused += [(drift.path, why) for drift, why in refused]
    if kind == "isolate" and not edits:
        turn.refused += [(decision.finding.path, why) for decision in mine for _, why in refused]
    edits = tuple(edit for edit in edits if edit not in tried)
    if not edits:
        return False
    steps = _sound(turn, type, controls, document, edits)
    if not steps:
        return False
    edits = tuple(edit for edit in edits if any(edit in step.edits for step in steps))
    planned = [one for one in mine if kind == "isolate" or any(
        under(parse(one.finding.path), parse(edit.path)) for edit in edits)]
    _report(turn, [one for one in mine if one not in planned], type, controls, document)
    mine = planned
    plan = Plan(document.id, turn.case.incarnation, kind, edits, tuple(sorted({one.finding.control for one in mine})))
    severity = min((one.finding.severity for one in mine), key=SEVERITIES.index)
    capped, why = caps.cap(mode, plan, steps, type, document, turn.place, turn.rules)
    held = await dangling(turn, [by_id[name] for name in plan.controls], edits)
    held = held or (await turn.take_budgets(plan, steps) if capped == "enforce" else "")
    if capped != "enforce" or held:
        instead = _instead(turn, type, document, plan) if held and capped == "enforce" and severity == "critical" else None
        return await _ask(turn, plan, [replace(one, why=why or one.why) for one in mine], severity, held, instead)
    if acting is not None:
        turn.moves(acting, "superseded", why="the resource changed: another plan is carried out")
    if asked is not None and not set(asked.plan.controls).isdisjoint(plan.controls):
        turn.moves(asked, "superseded", why="it may act now")
        turn.case = replace(turn.case, asked=None)
    turn.case = replace(turn.case, acting=turn.opened(plan, "enforce", mine[0].rule))
    for decision in mine:
        turn.made(decision, plan)
    await send(turn, type, controls, document, steps)
    return True


def _refuse(turn: Turn, decisions: Sequence[Decision]) -> None:
    """What the policy has mended, no plan can, and nothing under way does: people are told, once as long as it is found."""
    waits = [parse(edit.path) for action in (turn.case.acting, turn.case.asked) if action for edit in action.plan.edits]
    reasons = dict[tuple[str, str], list[str]]()
    for one in decisions:
        key, path = plans.key(one.finding), parse(one.finding.path)
        if is_undecided(one):
            reasons[key] = [one.finding.why]
        elif one.mode in ("approve", "enforce"):
            reasons[key] = [why for at, why in turn.refused if under(path, parse(at))]
        if key in turn.case.refused or any(under(path, at) for at in waits):
            reasons.pop(key, None)
    if new := {key: why for key, why in reasons.items() if why}:
        turn.case = replace(turn.case, refused=turn.case.refused | new.keys())
        turn.note("plan.refused", finding_ids=[turn.finding_id(*key) for key in new],
                  controls=sorted({control for control, _ in new}), paths=sorted({path for _, path in new}),
                  why="; ".join(dict.fromkeys(one for why in new.values() for one in why)))


def _sound(turn: Turn, type: ResourceType, controls: Sequence[Control], document: Document,
           edits: Sequence[Edit]) -> list[Step]:
    """The requests for these edits, without those that the proof refuses by themselves: they hold up no other."""
    def why_not(steps: Sequence[Step]) -> str:
        try:
            proof.prove(document, steps, controls, turn.parameters)
            roles.check(type, steps, turn.engine.policy.controls.reach)
        except Unsafe as error:
            return str(error)
        return ""

    try:
        steps = plans.steps(type, document, edits)
    except Unsafe as error:
        turn.refused += [(edit.path, str(error)) for edit in edits]
        return []
    if why := why_not(steps):
        alone = [step for step in steps if len(steps) > 1 and not why_not([step])]
        sound = alone if len(alone) < len(steps) and not why_not(alone) else []
        turn.refused += [(edit.path, why) for step in steps if step not in sound for edit in step.edits]
        return sound
    return steps


def _instead(turn: Turn, type: ResourceType, document: Document, plan: Plan) -> Plan | None:
    """The isolation that is offered beside a critical fix which a breaker holds: whoever fights it has time till then."""
    if plan.kind != "fix" or type.isolate is None:
        return None
    edits, _ = plans.edits(type, type.isolate(document.node(), {}))
    try:
        plans.steps(type, document, edits)
    except Unsafe:
        return None
    return replace(plan, kind="isolate", edits=edits) if edits else None


async def _ask(turn: Turn, plan: Plan, mine: Sequence[Decision], severity: Severity, held: str,
               instead: Plan | None) -> bool:
    """One ask a resource: the same plan waits on, another supersedes it; a rejected or expired one rests for a day."""
    if _is_persons(turn):
        return False
    asked = turn.case.asked
    if asked is not None and not turn.blind.isdisjoint(asked.plan.controls):
        return False        # what waits cannot be judged now, and so it waits on
    if asked is not None and asked.plan.hash == plan.hash and asked.instead == instead:
        is_over = turn.is_over(asked)
        rests = asked.state in ("rejected", "expired")
        if not is_over and not (rests and turn.look is not None and turn.look.changes):
            return False
        if not rests:
            over = turn.moves(replace(asked, expires=turn.now + ASK_AGAIN), "expired", why="nobody decided")
            turn.case = replace(turn.case, asked=over)
            await turn.commit()
            return True
    else:
        _withdraw(turn, "the resource changed: another plan is asked for")
    rule = mine[0].rule
    severity = asks.louder(asked, plan, severity)
    expires = None if held else turn.now + turn.engine.policy.expires(severity)
    needs = 2 if any(turn.is_merely_seen(one.finding) for one in mine) else 1
    opened = replace(turn.opened(plan, "approve", held or rule), expires=expires, needs=needs, severity=severity,
                     intent=asks.intent(turn.case, plan, turn.now), instead=instead)
    opened = replace(opened, needs=people_needed(turn, opened, in_freeze=False))
    for decision in mine:
        turn.made(decision, plan)
    offers = {**({"intent": opened.intent} if opened.intent else {}),
              **({"instead": instead, "instead_hash": instead.hash} if instead else {})}
    waits = turn.moves(opened, "held" if held else "proposed", edits=plan.edits, expires=expires, severity=severity,
                       why=held or rule, **offers)
    turn.case = replace(turn.case, asked=waits)
    await turn.commit(again_s=HELD_AGAIN_S if held else None)
    return True


def _is_persons(turn: Turn) -> bool:
    """Whether a person asked for what waits: an undo, a quarantine. No look takes that back, but its time ends."""
    asked = turn.case.asked
    if asked is None or not asked.asked_by or asked.state not in ("proposed", "held"):
        return False
    return not turn.is_over(asked)


def _withdraw(turn: Turn, why: str) -> None:
    """What waits is taken back; what a person asked for comes here only when its time is over."""
    asked = turn.case.asked
    if asked is not None and asked.asked_by and asked.state in ("proposed", "held"):
        turn.moves(asked, "expired", why="nobody decided")
    elif asked is not None:
        turn.moves(asked, "superseded", why=why)
        if asked.state in ("proposed", "held"):
            turn.case = asks.voided(turn.case, turn.now)
    turn.case = replace(turn.case, asked=None)


def _report(turn: Turn, decisions: Sequence[Decision], type: ResourceType, controls: Sequence[Control],
            document: Document) -> None:
    """A decision that opens no action is recorded once, with the plan that it would have been."""
    for decision in decisions:
        finding = decision.finding
        if plans.key(finding) not in turn.raised or decision.mode == "ignore":
            continue
        drifts = [finding.drift] if finding.drift else []
        isolates = finding.control in {one.id for one in controls if one.response == "isolate"}
        if isolates and drifts and type.isolate is not None:
            drifts = list(type.isolate(document.node(), {}))
        edits, _ = plans.edits(type, drifts)
        kind: Kind = "isolate" if isolates else "fix"
        turn.made(decision, Plan(document.id, turn.case.incarnation, kind, edits, (finding.control,)))


def _drop_stale_ask(turn: Turn, decisions: Sequence[Decision]) -> None:
    """What waits for people and is no longer wanted by any finding is superseded."""
    asked = turn.case.asked
    if asked is None or (asked.state == "rejected" and not turn.is_over(asked)) or _is_persons(turn):
        return
    wanted = {decision.finding.control for decision in decisions if decision.mode in ("approve", "enforce")}
    wanted |= turn.blind
    if not wanted & set(asked.plan.controls):
        _withdraw(turn, "nothing asks for it any more")

