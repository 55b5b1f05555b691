"""One answer to one look: what the flow has in its hands between `load` and `commit`, and nothing else.

Engine is what a worker has for its lifetime; Turn is one invocation on one resource. Records are gathered here and
leave in the same commit as the row they belong to; log lines are written after it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from guardrail import asks, baselines, breakers, forged, groups, logs, names, plans
from guardrail import policy as policies
from guardrail.documents import Document
from guardrail.errors import Busy, GuardrailError, Held, Refused
from guardrail.ids import ResourceId, subscription
from guardrail.paths import fold as fold_text
from guardrail.plans import Step
from guardrail.signing import Keys
from guardrail.stores import HOME
from guardrail.stores.signed import SignedStore
from guardrail.values import (
    Action,
    Case,
    Change,
    Control,
    Decision,
    Finding,
    Look,
    Mode,
    Parameters,
    Plan,
    Record,
    ResourceType,
    State,
    Why,
)

if TYPE_CHECKING:       # azure.core costs a tenth of a second, which `guardrail scan` need not pay
    from guardrail.arm import Arm
    from guardrail.channels import Channel

RULES_FOR_S = 5
ACTORS_KEPT = 50
NUDGED_S = 60
WISHES_AGAIN = timedelta(minutes=1)
SKEW_S = 60.0           # off the store's clock by more: nothing is approved, nothing expires


@dataclass(slots=True)
class Engine:
    """What a worker has: the store, ARM, the policy, and the tables of controls and types."""

    store: SignedStore
    arm: Arm
    policy: policies.Policy
    ceiling: Mode
    controls: tuple[Control, ...]                   # those that the policy has on
    types: Mapping[str, ResourceType]               # by folded name
    clock: Callable[[], datetime]
    keys: Keys
    subscriptions: frozenset[str] = frozenset()     # guarded ones, folded
    channels: tuple[Channel, ...] = ()              # who is told what happens
    url: str = ""                                   # of the console, for the one link of a message
    is_simulated: bool = False
    unwritten: dict[ResourceId, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict)     # told, not yet recorded
    group: ResourceId = HOME                        # our own: what changes there is told, never mended
    principals: frozenset[str] = frozenset()        # object ids, folded, that may hold a role there; none: not looked at
    above: Mapping[str, Sequence[str]] = field(default_factory=dict)    # folded subscription -> management groups
    known_at: datetime | None = None                # when `above` was last looked up
    is_checked: bool = False                        # the whole store against its anchors, by this process: guardrail.checked
    is_compared: bool = False                       # as much of it as the first write needs
    told: dict[str, datetime] = field(default_factory=dict)     # what does not verify, and when it was told: guardrail.forged
    _rules: tuple[policies.Rules, datetime] | None = None
    _on: dict[str, tuple[Control, ...]] = field(default_factory=dict)

    async def rules(self) -> policies.Rules:
        """Switch, freezes, people's exemptions: five seconds old at most."""
        now = self.clock()
        if self._rules is None or (now - self._rules[1]).total_seconds() >= RULES_FOR_S:
            self._rules = (await self.store.rules(), now)
            if self._rules[0].forged:
                await forged.tell(self, "rules", "the row of the switch does not verify, or is an old one: report-only")
        return self._rules[0]

    async def set_rules(self, rules: policies.Rules, *records: Record) -> policies.Rules:
        """Errors: Stale if somebody else changed them meanwhile."""
        self._rules = (await self.store.set_rules(rules, *records), self.clock())
        return self._rules[0]

    @property
    def is_skewed(self) -> bool:
        """Whether our clock and the store's differ by more than a minute: one of them is wrong."""
        return abs(self.store.skew_s) > SKEW_S

    def refuse_skewed(self) -> None:
        """Errors: Refused while nobody knows what time it is."""
        if self.is_skewed:
            raise Refused("clock", f"our clock and the store's differ by {abs(self.store.skew_s):.0f} s: nothing is decided")

    def place(self, resource: ResourceId, incarnation: str = "") -> policies.Place:
        """Where a resource is, as far as anybody knows which management groups are above it (guardrail.groups)."""
        return policies.place(resource, self.policy, self.above.get(subscription(resource), ()), incarnation)

    def controls_on(self, type: ResourceType) -> tuple[Control, ...]:
        if type.name not in self._on:
            self._on[type.name] = tuple(one for one in self.controls if one.on in ("*", type.name))
        return self._on[type.name]

    @staticmethod
    def parts_of(controls: Sequence[Control]) -> frozenset[str]:
        return frozenset(part for control in controls for part in control.also_reads)


class Turn:
    """One invocation on one resource. `case` is replaced as the turn goes on, and leaves by `commit`."""

    def __init__(self, engine: Engine, case: Case, look: Look | None, rules: policies.Rules, now: datetime) -> None:
        self.engine, self.case, self.look, self.rules, self.now = engine, case, look, rules, now
        self.id = uuid.uuid4().hex              # who holds a lease
        self.is_known = bool(case.etag)         # it was looked at before
        self.by = "guardrail"                   # who stands in the records: us, or the person who decides
        self.confirmed: frozenset[str] = frozenset()    # who drifted it, where Azure says so: guardrail.confirmed
        self.raised: set[tuple[str, str]] = set()
        self.refused: list[tuple[str, str]] = []
        self.foreseen: set[tuple[str, str]] = set()     # what an action of ours was known to make its controls find
        self.blind: set[str] = set()            # controls that could not read what they look at: what they found stays
        self._records: list[Record] = []
        self._taken: list[tuple[str, int, float]] = []
        self.wrote = case.wrote                 # before this turn took of the resource's own budgets
        self._answered = False

    @classmethod
    async def begin(cls, engine: Engine, resource: ResourceId) -> Turn:
        """Loads the row, its waiting Look and the rules. Errors: StoreDown, Stale, Refused for what only hands may mend."""
        case, look = await engine.store.load(resource)
        await groups.know(engine)
        turn = cls(engine, case, look, await engine.rules(), engine.clock())
        if case.forged:
            await forged.go_on_without(turn)
        return turn

    @property
    def is_due(self) -> bool:
        return self.case.due is not None and self.case.due <= self.now

    def refuse_if_leased(self) -> None:
        """Errors: Busy while another invocation holds the resource's action."""
        until = self.case.acting.leased_until if self.case.acting else None
        if until is not None and until > self.now:
            raise Busy("another worker is applying", after_s=min(30.0, (until - self.now).total_seconds() + 1))

    def is_over(self, action: Action) -> bool:
        """Whether its time has ended: never while nobody knows what time it is."""
        return action.expires is not None and action.expires <= self.now and not self.engine.is_skewed

    def is_urgent(self, controls: Sequence[Control]) -> bool:
        return self.case.acting is not None or any(control.severity == "critical" for control in controls)

    # What is known of the resource ---------------------------------------------------------------------------------

    def see_changes(self) -> None:
        """Records the events that led here, and keeps who claims to have touched the resource since it was clean."""
        changes = self.look.changes if self.look else ()
        if not changes:
            return
        who = (change.actor or change.app for change in changes if not self.is_ours(change))    # an echo tells of nobody
        actors = dict.fromkeys((*self.case.actors, *who))
        self.case = replace(self.case, actors=tuple(actors)[-ACTORS_KEPT:], told=self.now)
        self.note(
            "change.seen", operations=sorted({change.operation for change in changes}),
            event_ids=[change.event_id for change in changes], actors=sorted({change.actor for change in changes}))

    def is_ours(self, change: Change) -> bool:
        """Whether our own identity is said to have made it."""
        return bool(self.engine.arm.object_id) and fold_text(change.actor) == self.engine.arm.object_id

    @property
    def place(self) -> policies.Place:
        return self.engine.place(self.case.resource, self.case.incarnation)

    def parameters(self, control: Control) -> Parameters:
        return policies.parameters(control, self.place, self.engine.policy)

    def compare(self, controls: Sequence[Control], document: Document) -> list[Finding]:
        """The findings now. What was raised or cleared is recorded, and clean parts become known good."""
        whole = document.gone or "" in document.unreadable
        judged = [control for control in controls if whole or set(control.also_reads) <= document.parts]
        found = plans.judge(judged, document, self.parameters)
        now = {plans.key(finding): finding for finding in found}
        ids = {control.id for control in judged}
        self.blind = {finding.control for finding in found if finding.drift is None}
        before = {one for one in self.case.findings if one[0] in ids and (one[0] not in self.blind or one[1] == "?")}
        for control, path in sorted(before - now.keys()):
            self.note("finding.cleared", finding_id=self.finding_id(control, path), control=control, path=path)
        self.raised = now.keys() - self.case.findings
        for one in sorted(self.raised):
            finding = now[one]
            self.note(
                "finding.raised", finding_id=self.finding_id(*one), control=finding.control, path=finding.path,
                severity=finding.severity, state=finding.state, why=finding.why,
                **({"observed": finding.drift.observed, "wanted": finding.drift.wanted, "decided": finding.drift.decided}
                   if finding.drift else {}))
        changes = self.look.changes if self.look else ()
        new = self.raised - self.foreseen
        if new and changes and self.case.acting is None and self.is_known and all(map(self.is_ours, changes)):
            self.note("identity.misused", event_ids=[change.event_id for change in changes],
                      controls=sorted({control for control, _ in new}))
        self.case = replace(self.case, findings=self.case.findings - before | now.keys())
        if not document.gone and not document.unreadable:
            good = {**baselines.good(judged, document, found), **{part: self.case.good[part] for part in self.case.accepted}}
            good = {**self.case.good, **good}
            self.case = replace(self.case, good=good) if good != self.case.good else self.case
        return found

    def finding_id(self, control: str, path: str) -> str:
        return names.finding_id(self.case.resource, self.case.incarnation, control, path)

    # Deciding ------------------------------------------------------------------------------------------------------

    def decide(self, finding: Finding, control: Control, document: Document) -> Decision:
        tags = document.get("tags")
        named = frozenset(fold_text(actor) for actor in self.case.actors if actor not in ("", "?"))
        actors = policies.Actors(named, self.confirmed, unknown=len(named) < len(self.case.actors))
        # what ends (an exemption, a freeze) ends by the store's clock where ours is far off it
        now = self.now - timedelta(seconds=self.engine.store.skew_s) if self.engine.is_skewed else self.now
        decided = policies.decide(finding, control, self.place, tags if isinstance(tags, Mapping) else {},
                                  self.engine.policy, self.rules, self.engine.ceiling, now, actors)
        if decided.mode == "enforce" and self.case.distrusted is not None:
            return replace(decided, mode="approve", why="forged: others wrote into what is known of it, so people decide")
        if decided.mode == "enforce" and plans.key(finding) in self.case.reported:
            why = "backlog: seen while it was only reported, so a raised mode asks"
            return replace(decided, mode="approve", why=why)
        if decided.mode == "enforce" and self.is_merely_seen(finding):
            return replace(decided, mode="approve", why="baseline: what was merely seen may be poisoned, people decide")
        return decided

    def is_merely_seen(self, finding: Finding) -> bool:
        """Whether its fix restores what neither the policy nor two people ever vouched for."""
        return bool(finding.drift and finding.drift.learned) and baselines.part_of(finding.path) not in self.case.accepted

    def remember(self, decisions: Sequence[Decision]) -> None:
        """Which findings were only reported: what is found anew under a raised mode may act, the backlog asks."""
        now = {plans.key(one.finding) for one in decisions if one.mode in ("ignore", "report")}
        self.case = replace(self.case, reported=frozenset((self.case.reported | now) & self.case.findings),
                            refused=self.case.refused & self.case.findings)

    async def pin_exempt(self, decisions: Sequence[Decision]) -> None:
        """The values first seen under an exemption are pinned to it: worse ones are drift again."""
        rules = self.rules
        for finding in [decision.finding for decision in decisions if decision.mode == "ignore"]:
            exemption = policies.exemption_for(finding, self.place, self.engine.policy, rules, self.now)
            rules = policies.pin(rules, exemption, finding, self.place) if exemption else rules
        if rules != self.rules:
            self.rules = await self.engine.set_rules(rules)

    async def take_budgets(self, plan: Plan, steps: Sequence[Step], *, approved: bool = False) -> str:
        """Takes what this plan's writes cost from the breakers' budgets; "" or which one is used up.

        By compare-and-swap before the write, so that any number of instances share them; a resource's own by the commit before
        it. A trip is recorded once. What people approved counts for the rotation of keys alone.
        """
        critical = [control.id for control in self.engine.controls if control.severity == "critical"]
        actors = (self.case.actors or ("",)) if self.is_known else ()
        budgets = [] if approved else list(breakers.budgets(plan, self.engine.policy.breakers, critical, actors))
        wrote = self.case.wrote
        for budget in sorted((*breakers.rotation(plan, steps), *budgets), key=lambda one: not one.own):
            window_s, limit = budget.window.total_seconds(), budget.limit()
            if budget.own:
                more = breakers.written(wrote, budget, self.now)
                is_taken, wrote = more is not None, more or wrote
            elif not (is_taken := await self.engine.store.take(budget.key, limit, window_s)) and budget.grows:
                home, _ = await self.engine.store.load(HOME)
                limit = budget.limit(breakers.known(home.good, plan.resource))
                is_taken = await self.engine.store.take(budget.key, limit, window_s)
            if is_taken:
                self._taken += [] if budget.own else [(budget.key, limit, window_s)]
                continue
            await self.give_back()
            held = [one for one in (self.case.asked, self.case.acting) if one and one.state == "held"]
            if all(one.plan.hash != plan.hash for one in held):
                self.note("breaker.tripped", breaker=budget.breaker, key=budget.key, count=limit, window=window_s,
                          actors=self.case.actors, controls=plan.controls)
            return budget.why(limit)
        self.wrote, self.case = self.case.wrote, replace(self.case, wrote=wrote)
        return ""

    async def give_back(self) -> None:
        """What this turn took of the store's budgets."""
        taken, self._taken = self._taken, []
        for key, limit, window_s in taken:
            await self.engine.store.take(key, limit, window_s, -1)

    async def refuse_unless_allowed(self, action: Action, findings: Sequence[Finding], document: Document) -> None:
        """Before each request: what was decided is decided again by the rules of this moment. Errors: Held."""
        self.rules = await self.engine.rules()
        if self.mode in ("ignore", "report"):
            raise Held(f"nothing is written: {self.mode}")
        by_id = {control.id: control for control in self.engine.controls}
        for finding in findings:
            decision = self.decide(finding, by_id[finding.control], document)
            if decision.mode in ("ignore", "report") or (decision.mode == "approve" and not action.approvals):
                raise Held(decision.why or f"{decision.rule}: {decision.mode}")

    # Acting --------------------------------------------------------------------------------------------------------

    def opened(self, plan: Plan, mode: Mode, why: str) -> Action:
        """A new action; its first state is recorded by whoever moves it there."""
        id = names.action_id(plan.resource, self.case.seq, plan.hash)
        return Action(id, plan, "proposed", mode, self.now, caused_by=self.case.actors, why=why)

    def moves(self, action: Action, state: State, **detail: Any) -> Action:
        """The action in its next state, and the record of it."""
        was = action.state
        event = "resource.quarantined" if state == "verified" and action.plan.kind == "isolate" else f"action.{state}"
        self.note(event, action=action, **{"from": was, "plan_hash": action.plan.hash, "kind": action.plan.kind,
                                           "controls": action.plan.controls, **detail})
        return replace(action, state=state, why=str(detail.get("why", action.why)))

    def made(self, decision: Decision, plan: Plan) -> None:
        """Records a decision with the plan that it leads to, or would lead to."""
        finding = decision.finding
        paths = {finding.path, *(edit.path for edit in plan.edits)}
        refused = dict.fromkeys(why for path, why in self.refused if path in paths)
        self.note(
            "decision.made", finding_ids=[self.finding_id(*plans.key(finding))], controls=[finding.control],
            rule=decision.rule, mode=decision.mode, why="; ".join(filter(None, (decision.why, *refused))),
            plan_hash=plan.hash if plan.edits else "", edits=plan.edits, generation=self.rules.generation)

    async def sends(self, type: ResourceType, action: Action, step: Step, client_request_id: str) -> None:
        """Sends one request and records how it was answered, whichever way that went."""
        began = self.engine.clock()
        status: int | str = 0
        request_id = ""
        try:
            answer = await self.engine.arm.send(type, step.request, client_request_id)
            status, request_id = answer.status, answer.request_id
        except GuardrailError as error:
            status, request_id = error.__class__.__name__, getattr(error, "request_id", "")
            raise
        finally:
            took = self.engine.clock() - began
            self.note(
                "request.sent", action=action, method=step.request.method, url=step.request.url, status=status,
                azure_request_id=request_id, client_request_id=client_request_id,
                duration_ms=round(took / timedelta(milliseconds=1)))

    @property
    def mode(self) -> Mode:
        """The most that may happen here now: ceiling and switch."""
        switch = policies.switch_at(self.rules, self.case.resource)
        return policies.lower(self.engine.ceiling, "enforce" if switch == "policy" else switch)

    # Recording -----------------------------------------------------------------------------------------------------

    def note(self, event: str, *, action: Action | None = None, **detail: Any) -> None:
        """A record for the next commit; secrets are taken out where it is stored, and where it is logged."""
        change = self.look.changes[-1] if self.look and self.look.changes else None
        if action is not None:
            detail = {"action_id": action.id, **detail}
        actor = (change.actor or "unknown") if change and event == "change.seen" else self.by
        self._records.append(Record(
            event, self.engine.clock(), actor, change.correlation_id if change else "", detail.get("mode", self.mode),
            self.engine.policy.hash, detail))

    async def commit(self, *, answered: bool = True, again_s: float | None = None, why: Why = "due") -> None:
        """Row, records, the answered look and the next one, with its reason, in one transaction; then the log.

        `due` is the truth: a lost nudge costs a minute. Errors: Stale, StoreDown.
        """
        if self.by == "guardrail":      # what people decide may be committed by front, which says nothing else
            self._remind()
        dues = [self.now + timedelta(seconds=again_s)] if again_s is not None else []
        if self.case.wishes:
            dues.append(self.now + WISHES_AGAIN)
        if self.case.asked is not None:
            dues += [at for at in (self.case.asked.expires, asks.reminds(self.case.asked)) if at is not None]
        if self.case.acting is not None and self.case.acting.leased_until is not None:
            dues.append(self.case.acting.leased_until)
        self.case = replace(self.case, due=min(dues, default=None), stuck="" if answered else self.case.stuck)
        look = self.look if answered and not self._answered else None
        records, self._records = self._records, []
        # later ones tend nudges: a late nudge puts a new event's look back
        nudge_s = again_s if again_s is not None and again_s <= NUDGED_S else None
        self.case = await self.engine.store.commit(self.case, *records, answered=look, again_s=nudge_s, why=why)
        self._answered = self._answered or answered
        for record in records:
            logs.told(record, self.case.resource)

    def _remind(self) -> None:
        asked = self.case.asked
        half = asks.reminds(asked) if asked else None
        if asked is not None and half is not None and half <= self.now and not self.engine.is_skewed:
            self.note("action.reminded", action=asked, plan_hash=asked.plan.hash, kind=asked.plan.kind,
                      controls=asked.plan.controls, expires=asked.expires, severity=asked.severity)
            self.case = replace(self.case, asked=replace(asked, reminded=True))
