"""A Store that signs what is new when it is kept, and verifies what stands there when it is read: hole 2 of the threats.

It delegates everything else. What does not verify is taken out before anybody sees it, and named in `Case.forged`:
approvals, wishes, acceptances; and with a seal of hands all that only hands may say, so that nothing acts by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from guardrail import logs, signing
from guardrail.breakers import NOBODY_KNOWS
from guardrail.errors import Held, Malformed, Refused, Stale, Unsafe
from guardrail.ids import ResourceId, fold
from guardrail.paths import fold as fold_text
from guardrail.signing import Keys
from guardrail.stores import HOME, Chain, Rules, Store, StoredRecord
from guardrail.stores.budgets import Budgets
from guardrail.values import Acceptance, Action, Approval, Case, Look, Record, Why, Wish, digest

Said = TypeVar("Said", Approval, Wish, Acceptance)
UNKNOWN = ("?",)        # who touched it, where nobody can tell
TELLS, TOLD_AGAIN = 5, timedelta(hours=1)
ACTS = ("approved", "applying", "held", "failed")     # states in which the next thing may be a write


class SignedStore:
    """`inner` with signatures. `adopts`: rows that stand there are taken as they are, and signed before the first read."""

    def __init__(self, inner: Store, keys: Keys, clock: Callable[[], datetime], *, adopts: bool = False) -> None:
        self.inner, self._keys, self._clock, self._adopts = inner, keys, clock, adopts
        self._newest: datetime | None = None        # of the rules that this process has seen
        self._told = dict[str, datetime]()
        self._budgets = Budgets(inner, keys, clock, self._tell)

    async def load(self, resource: ResourceId) -> tuple[Case, Look | None]:
        await self._adopt()
        case, look = await self.inner.load(resource)
        return await self._verified(case), look

    @property
    def skew_s(self) -> float:
        return self.inner.skew_s

    async def open_cases(self) -> AsyncIterator[Case]:
        await self._adopt()
        async for case in self.inner.open_cases():
            yield await self._verified(case)

    async def due(self) -> AsyncIterator[Case]:
        await self._adopt()
        async for case in self.inner.due():
            yield await self._verified(case)

    async def commit(self, case: Case, *records: Record, answered: Look | None = None,
                     again_s: float | None = None, why: Why = "due") -> Case:
        """What was forged never goes unrecorded, whoever commits.

        Errors: Refused in front, for a row that hands must look at first: what only hands may say was forged.
        """
        if case.forged and not any(one.event == "audit.broken" for one in records):
            records = (*records, broken(case, self._clock()))
            logs.told(records[-1], case.resource)
        signed = [await self._vouched(case.resource, one) for one in records]
        return await self.inner.commit(await self._signed(case), *signed, answered=answered, again_s=again_s,
                                       why=why)

    async def rules(self) -> Rules:
        """Unsigned, or older than those that were seen: the default, which reports, with the row's generation."""
        await self._adopt()
        rules = await self.inner.rules()
        is_known = rules.at is not None and (self._newest is None or rules.at >= self._newest)
        if is_known and await self._either(signing.rules(rules), rules.signature):
            self._newest = rules.at
            return replace(rules, forged=False)
        return Rules(generation=rules.generation, forged=replace(rules, forged=False) != Rules() or self._newest is not None)

    async def set_rules(self, rules: Rules, *records: Record) -> Rules:
        before = rules.at or self._newest
        at = max(self._clock(), before + timedelta(microseconds=1)) if before else self._clock()
        rules = replace(rules, at=at, signature="", forged=False)
        payload = signing.rules(replace(rules, generation=rules.generation + 1))        # as it will be kept
        key = self._keys.front if self._keys.part == "front" else self._keys.hands
        kept = await self.inner.set_rules(replace(rules, signature=await key.sign(payload)), *records)
        self._newest = at
        return kept

    async def take(self, budget: str, limit: int, window_s: float, count: int = 1) -> bool:
        """As Budgets.take."""
        return await self._budgets.take(budget, limit, window_s, count)

    # verifying

    async def _verified(self, case: Case) -> Case:
        """What is left of a case when all that does not verify is gone."""
        if not case.etag:
            return case
        asked, no_ask = await self._action(case.resource, case.asked, 0)
        acting, no_act = await self._action(case.resource, case.acting, case.acting.needs if case.acting else 0)
        forged = [*no_ask, *no_act]
        wishes = [one for one in case.wishes if await self._is_said(one, signing.wish(case.resource, one))]
        forged += ["wish"] * (len(case.wishes) - len(wishes))
        lost = (case.asked is not None and asked is None) or (case.acting is not None and acting is None)
        if not _is_ours(case) and not await self._is_sealed(case):
            forged.append("case")
            lost, case = True, replace(case, good={}, incarnation="", wrote={NOBODY_KNOWS: (self._clock(),)})
        accepted, accepting = await self._acceptances(case)
        gone = {*case.accepted} - {*accepted} | {*case.accepting} - {*accepting}
        forged += [f"acceptance of {part}" for part in sorted(gone)]
        if lost:        # nothing acts by itself until it has been seen clean
            case = replace(case, distrusted=self._clock(), actors=UNKNOWN)
            asked = replace(asked, approvals=()) if asked else None
        if acting is not None and (no_act or (lost and acting.state in ACTS)):
            asked, acting = replace(acting, state="held", approvals=(), expires=None, leased_until=None), None
        return replace(case, asked=asked, acting=acting, wishes=tuple(wishes), accepted=accepted, accepting=accepting,
                       forged=tuple(dict.fromkeys(forged)))

    async def _is_sealed(self, case: Case) -> bool:
        if await self._keys.hands.verify(signing.sealed_case(case), case.seal):
            return True
        return signing.claims_nothing(case) and await self._keys.front.verify(signing.begun(case.resource), case.seal)

    async def _action(self, resource: ResourceId, action: Action | None, needs: int) -> tuple[Action | None, list[str]]:
        """The action as far as it verifies, and what of it does not. That it acts and too few let it is a forgery too."""
        if action is None:
            return None, []
        if not await self._keys.hands.verify(signing.sealed_action(resource, action), action.seal):
            return None, [f"action {action.id[:40]}"]
        said = [one for one in action.approvals
                if one.by == action.asked_by or await self._is_said(one, signing.approval(action, one))]
        if len(said) < len(action.approvals):
            return replace(action, approvals=()), [f"approval of {action.id}"]
        people = {fold_text(one) for one in (*(one.by for one in said), action.asked_by) if one}
        if action.mode == "approve" and len(people) < needs:
            return action, [f"state of {action.id}"]
        return action, []

    async def _acceptances(self, case: Case) -> tuple[dict[str, tuple[Acceptance, Acceptance]], dict[str, Acceptance]]:
        """Those that people signed for what stands there as good now, by two of them."""
        async def holds(part: str, *yeses: Acceptance) -> bool:
            if len({fold_text(one.by) for one in yeses}) < len(yeses):
                return False
            return all([await self._is_said(one, signing.acceptance(case, part, one)) for one in yeses])

        accepted = {part: both for part, both in case.accepted.items() if part in case.good
                    and {one.hash for one in both} == {digest(case.good[part])} and await holds(part, *both)}
        return accepted, {part: one for part, one in case.accepting.items() if await holds(part, one)}

    async def _is_said(self, one: Said, payload: bytes) -> bool:
        return await self._keys.front.verify(payload, one.signature)

    async def _either(self, payload: bytes, signature: str) -> bool:
        return await self._keys.hands.verify(payload, signature) or await self._keys.front.verify(payload, signature)

    # signing: what is new, so that a clean event costs none

    async def _signed(self, case: Case) -> Case:
        """Errors: Refused, Unsafe."""
        asked, acting = [await self._signed_action(case, one) if one else None for one in (case.asked, case.acting)]
        wishes = tuple([await self._say(one, signing.wish(case.resource, one)) for one in case.wishes])
        accepted = {part: (await self._say(first, signing.acceptance(case, part, first)),
                           await self._say(second, signing.acceptance(case, part, second)))
                    for part, (first, second) in case.accepted.items()}
        accepting = {part: await self._say(one, signing.acceptance(case, part, one)) for part, one in case.accepting.items()}
        seal = "" if _is_ours(case) else await self._seal(case, case.seal, signing.sealed_case(case))
        return replace(case, asked=asked, acting=acting, wishes=wishes, accepted=accepted, accepting=accepting, seal=seal,
                       forged=())

    async def _signed_action(self, case: Case, action: Action) -> Action:
        seal = await self._seal(case, action.seal, signing.sealed_action(case.resource, action))
        yeses = [one if one.by == action.asked_by else await self._say(one, signing.approval(action, one))
                 for one in action.approvals]
        return replace(action, seal=seal, approvals=tuple(yeses))

    async def _say(self, one: Said, payload: bytes) -> Said:
        """What a person says, signed by front; what was signed already was verified when it was loaded."""
        if one.signature:
            return one
        if self._keys.part == "hands":
            raise Unsafe("hands may not say what people say")
        return replace(one, signature=await self._keys.front.sign(payload))

    async def _seal(self, case: Case, seal: str, payload: bytes) -> str:
        """The seal as it is while it fits, else a new one by hands; front only begins rows that claim nothing."""
        if seal and await self._keys.hands.verify(payload, seal):
            return seal
        if self._keys.part != "front":
            return await self._keys.hands.sign(payload)
        if case.forged:
            raise Refused("broken", "this row was changed by somebody else: hands look at it first")
        begun = signing.begun(case.resource)
        if payload != signing.sealed_case(case) or not signing.claims_nothing(case):
            raise Unsafe("front may not change what only hands may say")
        return seal if seal and await self._keys.front.verify(begun, seal) else await self._keys.front.sign(begun)

    async def _vouched(self, resource: ResourceId, record: Record) -> Record:
        """The record that holds the before-values for an undo, signed; and the one that says that events come."""
        detail = record.detail
        if record.event == "probe.received" and self._keys.part != "hands":
            payload = signing.received(record.at, detail["took_s"])
            return replace(record, detail={**detail, "signature": await self._keys.front.sign(payload)})
        if record.event != "action.applying" or "edits" not in detail or self._keys.part == "front":
            return record
        payload = signing.applying(resource, detail["action_id"], detail["plan_hash"])
        return replace(record, detail={**detail, "signature": await self._keys.hands.sign(payload)})

    async def _adopt(self) -> None:
        """Once: all rows of a store from before there was a key. What is not adopted now counts as forged later."""
        if not self._adopts:
            return
        self._adopts = False
        rules = await self.inner.rules()
        if rules != Rules():
            await self.set_rules(rules)
        async for chain in self.inner.chains():
            if chain.seq:
                with suppress(Held, Malformed, Stale):
                    case, _ = await self.inner.load(chain.resource)
                    await self.commit(case)

    async def _tell(self, what: str, why: str) -> None:
        """A page and a record in the installation's chain, once an hour for each thing and process. Errors: StoreDown."""
        now = self._clock()
        if what in self._told and now - self._told[what] < TOLD_AGAIN:
            return
        self._told[what] = now
        record = Record("audit.broken", now, "guardrail", "", "", "", {"what": [what], "why": why})
        logs.told(record, HOME)
        for _ in range(TELLS):
            case, _look = await self.load(HOME)
            with suppress(Stale, Refused):          # others record there too; hands mend it first
                await self.commit(case, record)
                return

    # what needs no signature

    async def records(self, resource: ResourceId, after: int = 0) -> Sequence[StoredRecord]:
        return await self.inner.records(resource, after)

    def looks(self) -> AsyncIterator[Look]:
        return self.inner.looks()

    async def send(self, look: Look, delay_s: float = 0) -> None:
        await self.inner.send(look, delay_s)

    async def early(self, resource: ResourceId) -> bool:
        return await self.inner.early(resource)

    async def nudge(self) -> None:
        await self.inner.nudge()

    async def reject(self, raw: bytes, why: str) -> None:
        await self.inner.reject(raw, why)

    async def budget(self, name: str) -> tuple[str, bytes]:
        return await self.inner.budget(name)

    async def set_budget(self, name: str, body: bytes, etag: str) -> str:
        return await self.inner.set_budget(name, body, etag)

    def known(self) -> AsyncIterator[ResourceId]:
        return self.inner.known()

    def chains(self, since: datetime | None = None) -> AsyncIterator[Chain]:
        return self.inner.chains(since)

    async def anchors(self, last: int = 0) -> Sequence[bytes]:
        return await self.inner.anchors(last)

    async def add_anchor(self, number: int, line: bytes, *records: Record) -> None:
        await self.inner.add_anchor(number, line, *records)

    def close(self) -> None:
        self.inner.close()


def broken(case: Case, at: datetime) -> Record:
    """The record of what did not verify in a case."""
    detail = {"what": list(case.forged), "why": "not signed by who alone may say it"}
    return Record("audit.broken", at, "guardrail", "", "", "", detail)


def _is_ours(case: Case) -> bool:
    """The installation's own row, which the stores write too: it says nothing of any resource."""
    return fold(case.resource) == fold(HOME) and signing.claims_nothing(case)
