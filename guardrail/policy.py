"""Where a resource stands, what people set at run time, and what both decide about a finding. Pure: no file, no clock.

One ladder: ignore < report < approve < enforce. The file's rules choose a mode; everything else takes the minimum.
Nothing that the one who drifts can set (a tag, a group's name, an actor in an event) makes a decision weaker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from guardrail import ids
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT, fold
from guardrail.policy_schema import Exemption, Freeze, Policy, Rule, glob
from guardrail.values import (
    MODES,
    SEVERITIES,
    Control,
    Decision,
    Finding,
    Mode,
    Parameters,
    Severity,
    digest,
)

__all__ = ["NOBODY", "SEVERITY_ORDER", "Actors", "Exemption", "Freeze", "Pin", "Place", "Policy", "Rules", "Severity",
           "decide", "enabled", "exemption_for", "is_held", "lower", "parameters", "pin", "place", "rules_from",
           "switch_at", "within"]

SEVERITY_ORDER = SEVERITIES
EXEMPT_AT_MOST = timedelta(days=90)
HOLDING = ("freeze", "switch")          # causes in Decision.why that make an ask one that no rule wanted
PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class Pin:
    """The value that was first seen under an exemption: any other one is drift again (A14)."""

    exemption: str
    resource: str                       # folded id
    incarnation: str
    path: str
    value: str                          # its hash


Switch = Literal["report", "approve", "policy"]
LADDER: tuple[Switch, ...] = ("report", "approve", "policy")


@dataclass(frozen=True, slots=True)
class Pending:
    """A first yes that waits for a second person's."""

    kind: Literal["switch", "freeze", "exemption"]
    what: str                           # the mode, the freeze's name, the exemption's id
    by: str
    at: datetime
    reason: str
    exemption: Exemption | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What people set at run time: one row. Missing or unreadable it is this default, which only reports (C5)."""

    switch: Switch = "report"
    generation: int = 0
    freezes: tuple[Freeze, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    proven: frozenset[str] = frozenset()    # types (folded) whose PUT an approver once let through without loss
    pins: tuple[Pin, ...] = ()
    pending: tuple[Pending, ...] = ()
    scoped: Mapping[str, Switch] = field(default_factory=dict)      # folded id -> what the switch is lowered to below it
    at: datetime | None = None              # when they were signed; later than those before
    signature: str = ""
    forged: bool = False                    # what was in the row did not verify: this is the default; not stored


def switch_at(rules: Rules, id: str) -> Switch:
    """The strictest of the switch and what people set for a scope that holds `id`."""
    return min((rules.switch, *(mode for scope, mode in rules.scoped.items() if within(id, scope))), key=LADDER.index)


def rules_from(raw: bytes | None) -> Rules:
    """The row's JSON as Rules; anything else reports only."""
    try:
        return msgspec.json.decode(raw, type=Rules) if raw else Rules()
    except (msgspec.MsgspecError, ValueError):
        return Rules()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a resource is, as far as rules ask."""

    subscription: str                   # GUID, folded
    group: str                          # as spelled, "" at subscription scope
    type: str
    id: ResourceId
    environment: str = PRODUCTION
    management_groups: tuple[str, ...] = ()     # names, folded
    incarnation: str = ""

    @property
    def is_production(self) -> bool:
        return self.environment == PRODUCTION


@dataclass(frozen=True, slots=True)
class Actors:
    """Object ids of everyone who touched the resource since it last was verified. Claimed ones come from events."""

    claimed: frozenset[str] = frozenset()
    confirmed: frozenset[str] = frozenset()
    unknown: bool = False               # someone left no name


NOBODY = Actors()


def within(id: str, scope: str) -> bool:
    """Whether `id` is the scope or lies below it; "" is everywhere."""
    return not scope or fold(id) == fold(scope) or fold(id).startswith(fold(scope) + "/")


def place(id: ResourceId, policy: Policy, management_groups: Collection[str] = (), incarnation: str = "") -> Place:
    """Where `id` is. Production is what `environments` does not name, by subscription or else by management group."""
    own, groups = ids.subscription(id), tuple(fold(name.rsplit("/", 1)[-1]) for name in management_groups)
    names = {name: {fold(scope.rsplit("/", 1)[-1]) for scope in scopes} for name, scopes in policy.environments.items()}
    found = [name for name, scopes in names.items() if own in scopes] or [
        name for name, scopes in names.items() if not scopes.isdisjoint(groups)]
    environment = found[0] if len(found) == 1 else PRODUCTION
    return Place(own, ids.group(id), ids.type_of(id), id, environment, groups, incarnation)


def enabled(controls: Iterable[Control], policy: Policy) -> tuple[Control, ...]:
    """The controls that the policy leaves on."""
    return tuple(control for control in controls if not _one_of(policy.controls.disabled, control.id))


def parameters(control: Control, place: Place, policy: Policy) -> Parameters:
    """The control's parameters there: the first matching rule's go before the policy's, those before the defaults.

    A rule by tag gives none, and one by group only outside production: neither may weaken by what a drifter can name.
    """
    rule = next((rule for rule in policy.rules if not rule.tag and not (rule.group and place.is_production)
                 and _matches(rule, control, place)), None)
    own = rule.parameters.get(control.id, {}) if rule else {}
    return {**control.parameters, **policy.controls.parameters.get(control.id, {}), **own}


def _values(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value


def _one_of(patterns: str | Sequence[str], text: str) -> bool:
    return any(glob(pattern, text) for pattern in _values(patterns))


def _matches(rule: Rule, control: Control, place: Place) -> bool:
    """Whether all keys of the rule match, but for `tag`."""
    last = {fold(one.rsplit("/", 1)[-1]) for one in (*_values(rule.subscription), *_values(rule.management_group))}
    return (
        (not rule.management_group or not last.isdisjoint(place.management_groups))
        and (not rule.subscription or place.subscription in last)
        and (not rule.environment or place.environment in _values(rule.environment))
        and (not rule.severity or control.severity in _values(rule.severity))
        and (not rule.group or _one_of(rule.group, place.group))
        and (not rule.type or _one_of(rule.type, place.type))
        and (not rule.control or _one_of(rule.control, control.id))
    )


def _tagged(rule: Rule, tags: Mapping[str, Any]) -> bool:
    """Tag names fold case, as Azure's do; values do not. Other shapes match nothing."""
    held = {fold(name): value for name, value in tags.items() if isinstance(value, str)}
    return all(held.get(fold(name)) in _values(wanted) for name, wanted in rule.tag.items())


def lower(one: Mode, other: Mode) -> Mode:
    return min(one, other, key=MODES.index)


def _chosen(control: Control, place: Place, tags: Mapping[str, Any], policy: Policy) -> tuple[Mode, str]:
    """(mode, rule) by the file alone: read from its end, so that each rule knows what the ones after it say."""
    kind = PRODUCTION if place.is_production else "other"
    mode: Mode = policy.default.production if place.is_production else policy.default.other
    name = f"default.{kind}"
    for rule in reversed(policy.rules):
        if not _matches(rule, control, place) or (rule.tag and not _tagged(rule, tags)):
            continue
        wanted: Mode = rule.mode
        if rule.tag and place.is_production:
            wanted = lower(wanted, "approve")
        only_raises = rule.tag or (rule.group and place.is_production)
        if not only_raises or MODES.index(wanted) > MODES.index(mode):
            mode, name = wanted, rule.name
    return mode, name


def decide(finding: Finding, control: Control, place: Place, tags: Mapping[str, Any], policy: Policy, rules: Rules,
           ceiling: Mode, now: datetime, actors: Actors = NOBODY) -> Decision:
    """What to do about a finding, by which rule, and in `why` each cause that lowered it, as "cause: text; ...".

    `tags` are the resource's as ARM shows them; `actors` weaken only when confirmed. What only the plan shows is
    left to `caps`, breakers to the store.
    """
    exempt = exemption_for(finding, place, policy, rules, now)
    if exempt is not None:
        why = f"exempt: {exempt.reason} ({exempt.owner}, until {exempt.until:%Y-%m-%d %H:%M}Z)"
        return Decision(finding, "ignore", f"exemption {exempt.id}", why)
    mode, rule = _chosen(control, place, tags, policy)
    causes = list[str]()
    for most, cause in _limits(finding, control, place, policy, rules, ceiling, now, actors):
        if lower(mode, most) != mode:
            mode = most
            causes.append(cause)
    return Decision(finding, mode, rule, "; ".join(causes))


def _limits(finding: Finding, control: Control, place: Place, policy: Policy, rules: Rules, ceiling: Mode,
            now: datetime, actors: Actors) -> Iterable[tuple[Mode, str]]:
    """Each (mode at most, cause), the mildest first, so that every cause that counts is named."""
    if control.asks:
        yield "approve", f"asks: {control.asks}"
    for freeze in (*policy.freezes, *rules.freezes):
        if freeze.start <= now < freeze.until and within(place.id, freeze.scope):
            yield "approve", f"freeze: {freeze.name}"
    if (switch := switch_at(rules, place.id)) != "policy":
        yield "approve" if switch == "approve" else "report", f"switch: {switch}"
    yield ceiling, f"ceiling: {ceiling}"
    if control.response == "report":
        yield "report", "control: it only reports"
    if finding.drift is None:
        yield "report", "unreadable: nothing is known to be wrong"
    elif not finding.drift.decided:
        yield "report", "undecided: only a person knows what is right"
    if actors.confirmed and not actors.unknown and actors.claimed <= actors.confirmed:
        if actors.confirmed <= {fold(one) for one in policy.break_glass}:
            yield "report", "break glass: a confirmed break-glass identity"
        trusted = {fold(one.object_id) for one in policy.trusted_deployers if within(place.id, one.scope)}
        if actors.confirmed <= trusted and finding.severity != "critical":
            yield "report", "trusted deployer: confirmed"


def is_held(decision: Decision) -> bool:
    """Whether it asks although its rule would have acted: a freeze or the switch holds it."""
    return decision.mode == "approve" and not _causes(decision).isdisjoint(HOLDING)


def is_undecided(decision: Decision) -> bool:
    """Whether it is only reported although its rule would have mended it: what is right there only a person knows."""
    return "undecided" in _causes(decision)


def _causes(decision: Decision) -> set[str]:
    return {cause.split(":")[0] for cause in decision.why.split("; ")}


def exemption_for(finding: Finding, place: Place, policy: Policy, rules: Rules, now: datetime) -> Exemption | None:
    """The exemption that holds for a finding now. Ask at the decision and again before each request.

    It covers one control on one resource or group, 90 days at most, in the life of the resource that it was first seen
    in, and for the value that was first seen there: whoever uses it calls `pin`. What cannot be read is never exempt.
    """
    if finding.drift is None:
        return None
    id, value = fold(place.id), _hash(finding)
    for one in (*policy.exemptions, *rules.exemptions):
        narrow = within(place.id, one.scope) and "/resourcegroups/" in fold(one.scope)
        if one.control != finding.control or not narrow or not now < one.until <= now + EXEMPT_AT_MOST:
            continue
        pins = [pinned for pinned in rules.pins if pinned.exemption == one.id and pinned.resource == id]
        if all(pinned.incarnation == place.incarnation for pinned in pins) and all(
                pinned.value == value for pinned in pins if pinned.path == finding.path):
            return one
    return None


def pin(rules: Rules, exemption: Exemption, finding: Finding, place: Place) -> Rules:
    """The rules with the finding's value pinned to the exemption; unchanged if it is already."""
    new = Pin(exemption.id, fold(place.id), place.incarnation, finding.path, _hash(finding))
    return rules if new in rules.pins else replace(rules, pins=(*rules.pins, new))


def _hash(finding: Finding) -> str:
    """Of what was observed; nothing and null are one."""
    observed = finding.drift.observed if finding.drift else ABSENT
    return digest(None if observed is ABSENT else observed)

