"""The run-time rules that people set: the switch, freezes, exemptions. What tightens works at once; what loosens takes two.

One row holds them all, changed by compare-and-swap; every change is recorded in the installation's chain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from guardrail import forged, groups, home, logs
from guardrail import policy as policies
from guardrail.authorize import Person, authorize
from guardrail.errors import Refused, Stale
from guardrail.ids import ResourceId, subscription
from guardrail.paths import fold
from guardrail.policy import LADDER, Pending, Rules, Switch
from guardrail.policy_schema import Exemption, Freeze
from guardrail.refusals import attempt
from guardrail.stores import HOME
from guardrail.turn import Engine
from guardrail.values import Case, Record

CONFIRM_WITHIN = timedelta(hours=1)
REMIND = (14, 3, 1)                     # days before an exemption ends
REMINDED = "reminded"                   # the name under which the installation keeps which of them were told


async def switch(engine: Engine, mode: Switch, who: Person, reason: str, scope: str = "") -> Rules:
    """Report and approve tighten at once. Loosening waits for a second administrator where production is guarded.

    `scope`, a subscription or anything in it: only there, never looser than the switch of everything; policy ends it.
    Errors: Refused.
    """
    rules = await engine.store.rules()
    was = rules.scoped.get(fold(scope), "policy") if scope else rules.switch
    tightens = LADDER.index(mode) <= LADDER.index(was)
    async with attempt(engine, HOME, "mode", who):
        authorize(who, "tighten" if tightens else "loosen", None, engine.policy)
        if not tightens:
            engine.refuse_skewed()
    if scope and subscription(ResourceId(scope)) not in engine.subscriptions:
        raise Refused("unknown", f"nothing below {scope} is guarded")

    def let(rules: Rules) -> Rules:
        if not scope:
            return replace(rules, switch=mode)
        others = {one: set for one, set in rules.scoped.items() if one != fold(scope)}
        return replace(rules, scoped=others if mode == "policy" else {**others, fold(scope): mode})

    said = {"was": was, "now": mode, "reason": reason, **({"scope": scope} if scope else {})}
    if tightens:
        waits = tuple(one for one in rules.pending if scope and not (one.kind == "switch" and _scope_of(one) == fold(scope)))
        return await _set(engine, replace(let(rules), pending=waits), who, "mode.switched", **said)
    what = f"{mode} {fold(scope)}" if scope else mode
    return await _by_two(engine, rules, Pending("switch", what, who.object_id, engine.clock(), reason), let,
                         "mode.switched", scope, **said)


async def distrust(engine: Engine, why: str) -> None:
    """The store is not what it was: a page, and report-only until people raise the switch again. Errors: StoreDown."""
    await forged.tell(engine, "store", why)
    rules = await engine.store.rules()
    if rules.switch == "report" and not rules.pending and rules.at is not None:
        return
    record = _record(engine, "guardrail", "mode.switched", was=rules.switch, now="report", reason=why,
                     generation=rules.generation + 1)
    await engine.set_rules(replace(rules, switch="report", pending=()), record)
    logs.told(record, HOME)


async def confirm(engine: Engine, generation: int, who: Person, reason: str, scope: str = "") -> Rules:
    """The second yes to a switch that waits for that scope, by another administrator who saw these rules. Errors: Refused."""
    async with attempt(engine, HOME, "mode", who):
        authorize(who, "loosen", None, engine.policy)
        rules = await engine.store.rules()
        first = next((one for one in rules.pending if one.kind == "switch" and _scope_of(one) == fold(scope)
                      and _waits(one, engine.clock())), None)
        if first is None:
            raise Refused("unknown", "no switch waits for a second person")
        if rules.generation != generation:
            raise Refused("stale", f"the rules have changed: they are at generation {rules.generation} now, look again")
        if fold(first.by) == fold(who.object_id):
            raise Refused("twice", "you asked for it: another administrator confirms")
    mode = next(one for one in LADDER if one == first.what.partition(" ")[0])
    return await switch(engine, mode, who, reason, scope)


async def freeze(engine: Engine, wanted: Freeze, who: Person, reason: str) -> Rules:
    """Nothing is enforced while it lasts. Errors: Refused."""
    async with attempt(engine, HOME, "freeze", who):
        authorize(who, "tighten", None, engine.policy)
    if wanted.until <= max(wanted.start, engine.clock()):
        raise Refused("until", "a freeze ends after it begins, and in the future")
    rules = await engine.store.rules()
    kept = tuple(one for one in rules.freezes if one.name != wanted.name)
    return await _set(engine, replace(rules, freezes=(*kept, wanted)), who, "freeze.set", name=wanted.name,
                      until=wanted.until, scope=wanted.scope, reason=reason)


async def end_freeze(engine: Engine, name: str, who: Person, reason: str) -> Rules:
    """A freeze that people set ends early; one of the policy ends with the policy. Errors: Refused."""
    async with attempt(engine, HOME, "freeze", who):
        authorize(who, "loosen", None, engine.policy)
        engine.refuse_skewed()
    rules = await engine.store.rules()
    if not any(one.name == name for one in rules.freezes):
        raise Refused("unknown", f"no freeze named {name!r} was set at run time")

    def let(rules: Rules) -> Rules:
        return replace(rules, freezes=tuple(one for one in rules.freezes if one.name != name))

    return await _by_two(engine, rules, Pending("freeze", name, who.object_id, engine.clock(), reason), let,
                         "freeze.ended", name=name, reason=reason)


async def ask_exemption(engine: Engine, wanted: Exemption, who: Person) -> Rules:
    """One control may drift on one resource or group until a date: another approver confirms it. Errors: Refused."""
    async with attempt(engine, ResourceId(wanted.scope), "exempt", who):
        authorize(who, "exempt", None, engine.policy)
    return await wait_exemption(engine, wanted, who)


def refuse_exemption(engine: Engine, wanted: Exemption) -> None:
    """Errors: Refused for one that could never be in force."""
    now = engine.clock()
    if not now < wanted.until <= now + policies.EXEMPT_AT_MOST:
        raise Refused("until", "an exemption ends within 90 days")
    if "/resourcegroups/" not in fold(wanted.scope) or wanted.control not in {one.id for one in engine.controls}:
        raise Refused("what", "an exemption is for one known control, on one resource or group")


async def wait_exemption(engine: Engine, wanted: Exemption, who: Person) -> Rules:
    """It waits for another person's yes, whoever asked. Errors: Refused."""
    refuse_exemption(engine, wanted)
    rules = await engine.store.rules()
    asked = Pending("exemption", wanted.id, who.object_id, engine.clock(), wanted.reason, wanted)
    kept = tuple(one for one in rules.pending if one.what != wanted.id)
    return await _set(engine, replace(rules, pending=(*kept, asked)), who, "exemption.asked", exemption_id=wanted.id,
                      control=wanted.control, scope=wanted.scope, reason=wanted.reason, owner=wanted.owner, until=wanted.until)


async def confirm_exemption(engine: Engine, id: str, who: Person, approvers: str = "", said: str = "") -> Rules:
    """Another person than the one who asked, and than those who made the drift. Errors: Refused."""
    rules = await engine.store.rules()
    asked = next((one for one in rules.pending if one.kind == "exemption" and one.what.startswith(id)), None)
    if asked is None or asked.exemption is None:
        raise Refused("unknown", "no such exemption waits to be confirmed")
    scope = ResourceId(asked.exemption.scope)
    async with attempt(engine, scope, "exempt", who):
        authorize(who, "confirm", scope, engine.policy, approvers)
        case, _ = await engine.store.load(scope)
        engine.refuse_skewed()
        if fold(who.object_id) in {fold(asked.by), *(fold(actor) for actor in case.actors)}:
            raise Refused("four-eyes", "you asked for it, or made the change: another person must confirm")
    one = asked.exemption
    changed = replace(rules, exemptions=(*rules.exemptions, one), pending=tuple(p for p in rules.pending if p is not asked))
    return await _set(engine, changed, who, "exemption.added", exemption_id=one.id, control=one.control, scope=one.scope,
                      reason=one.reason, owner=one.owner, until=one.until, said=said)


async def remove_exemption(engine: Engine, id: str, who: Person, reason: str) -> Rules:
    """What it hid is drift again at the next look. Errors: Refused."""
    async with attempt(engine, HOME, "exempt", who):
        authorize(who, "unexempt", None, engine.policy)
    rules = await engine.store.rules()
    gone = [one for one in rules.exemptions if one.id.startswith(id)]
    if len(gone) != 1:
        raise Refused("unknown", "no such exemption was set at run time" if not gone else f"{id} names more than one")
    kept = tuple(one for one in rules.exemptions if one is not gone[0])
    pins = tuple(one for one in rules.pins if one.exemption != gone[0].id)
    return await _set(engine, replace(rules, exemptions=kept, pins=pins), who, "exemption.removed", exemption_id=gone[0].id,
                      control=gone[0].control, scope=gone[0].scope, reason=reason)


async def expire(engine: Engine) -> Rules:
    """Takes out what has ended: exemptions, freezes, and second yeses that never came. For tend."""
    rules, now = await engine.store.rules(), engine.clock()
    if engine.is_skewed:
        return rules
    ended = [one for one in rules.exemptions if one.until <= now]
    kept = replace(
        rules, exemptions=tuple(one for one in rules.exemptions if one.until > now),
        freezes=tuple(one for one in rules.freezes if one.until > now),
        pending=tuple(one for one in rules.pending if _waits(one, now)),
        pins=tuple(one for one in rules.pins if one.exemption not in {gone.id for gone in ended}))
    if kept == rules:
        return rules
    records = [_record(engine, "guardrail", "exemption.expired", exemption_id=one.id, control=one.control, scope=one.scope)
               for one in ended]
    return await engine.set_rules(kept, *records)


async def remind(engine: Engine) -> None:
    """Records 14, 3 and 1 days before an exemption ends that it will, each once; the policy's too. For tend."""
    now = engine.clock()
    ending = {one.id: one for one in (*engine.policy.exemptions, *(await engine.rules()).exemptions)
              if now < one.until <= now + timedelta(days=REMIND[0])}
    if not ending:
        return
    days = {id: min(day for day in REMIND if one.until - now <= timedelta(days=day)) for id, one in ending.items()}
    known = await home.recall(engine, REMINDED)
    if all(known.get(id, REMIND[0] + 1) <= day for id, day in days.items()):
        return

    def change(case: Case) -> tuple[Case, list[Record]]:
        told = case.good.get(REMINDED, {})
        records = [
            _record(engine, "guardrail", "exemption.expiring", exemption_id=id, control=one.control, scope=one.scope,
                    reason=one.reason, owner=one.owner, until=one.until, days=days[id])
            for id, one in ending.items() if days[id] < told.get(id, REMIND[0] + 1)]
        return home.with_kept(case, **{REMINDED: days}), records

    await home.keep(engine, change)


def _waits(one: Pending, now: datetime) -> bool:
    return now < one.at + (policies.EXEMPT_AT_MOST if one.kind == "exemption" else CONFIRM_WITHIN)


def _scope_of(switch: Pending) -> str:
    return switch.what.partition(" ")[2]


async def _by_two(engine: Engine, rules: Rules, mine: Pending, let: Callable[[Rules], Rules], event: str,
                  where: str = "", **detail: Any) -> Rules:
    """Done at once outside production; else kept as the first yes, and done by another person's within the hour."""
    first = next((one for one in rules.pending if (one.kind, one.what) == (mine.kind, mine.what)), None)
    others = tuple(one for one in rules.pending if one is not first)
    is_second = first is not None and fold(first.by) != fold(mine.by) and _waits(first, mine.at)
    await groups.know(engine)
    if is_second or not holds_production(engine, where):
        people = [one.by for one in (first, mine) if one is not None]
        return await _set(engine, let(replace(rules, pending=others)), mine.by, event, people=people, **detail)
    return await _set(engine, replace(rules, pending=(*others, mine)), mine.by, "mode.asked", **detail)


def holds_production(engine: Engine, scope: str = "") -> bool:
    """Whether any guarded subscription is production, or that of `scope`; unknown is."""
    scopes = [scope] if scope else [f"/subscriptions/{one}" for one in engine.subscriptions]
    return any(engine.place(ResourceId(one)).is_production for one in scopes)


def _record(engine: Engine, by: str, event: str, **detail: Any) -> Record:
    return Record(event, engine.clock(), by, "", engine.ceiling, engine.policy.hash, detail)


async def _set(engine: Engine, rules: Rules, who: Person | str, event: str, **detail: Any) -> Rules:
    by = who if isinstance(who, str) else who.object_id
    try:
        return await engine.set_rules(rules, _record(engine, by, event, generation=rules.generation + 1, **detail))
    except Stale as error:
        raise Refused("decided", "somebody was faster: look again") from error
