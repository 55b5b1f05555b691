"""Where cases, looks, records and budgets are kept: the protocol that every store fulfils, and the rules they share.

The row is the truth and a message only a nudge. A store knows no Azure resource and decides nothing; what two stores
must do alike (joining looks, when one is due, windows, which rejects are kept) is a pure function here.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from guardrail.chain import Chain, StoredRecord
from guardrail.ids import ResourceId
from guardrail.policy import Rules
from guardrail.values import Case, Change, Look, Record, Why

__all__ = ["HOME", "Chain", "Rejects", "Rules", "Store", "StoredRecord", "V", "Waiting"]

V = 1                   # of every row; a row with another one is left untouched: Held
HOME = ResourceId("/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/guardrail")   # ours, locally
CHANGES = 50            # kept in one look
DEBOUNCE_S, PATIENCE_S, PERSON_S = 5.0, 30.0, 60.0
REJECTS = 100           # kept an hour
RAW_BYTES = 8192        # kept of a reject
TRIES = range(50)       # of a swap that others are faster at, spread over some ten seconds
OUTBOX = 1000           # records of a case that wait to be told; the oldest are dropped

_WEIGHT = ("event", "due", "sweep", "release", "approval", "person")      # of two reasons the weightier stays
_PERSONS = _WEIGHT[3:]


class Store(Protocol):
    """One contract, held by tests/stores. Errors: StoreDown (nothing was done), Held (a row of a newer version),
    Malformed (a row that cannot be read), Stale where named."""

    @property
    def skew_s(self) -> float:
        """How far our clock is ahead of the store's own, by its last answer; 0 where there is no other clock."""

    async def load(self, resource: ResourceId) -> tuple[Case, Look | None]:
        """What is known of a resource (an empty Case if nothing is) and the look that waits, due or not."""

    async def commit(self, case: Case, *records: Record, answered: Look | None = None,
                     again_s: float | None = None, why: Why = "due") -> Case:
        """Case, records and chain head at once, and the look gone unless something joined it meanwhile.

        With `again_s` the next look waits from then on, for `why`, as if sent with this delay. The result has the new etag,
        seq and head. Errors: Stale if another commit was faster; nothing was written then.
        """

    async def records(self, resource: ResourceId, after: int = 0) -> Sequence[StoredRecord]:
        """The chain of a resource beyond record `after`, in order."""

    def open_cases(self) -> AsyncIterator[Case]:
        """Cases with findings, actions, stuck, outbox or due. An index: it may lag."""

    def known(self) -> AsyncIterator[ResourceId]:
        """Every resource that has a case, clean ones too, always in the same order."""

    def due(self) -> AsyncIterator[Case]:
        """Cases that are due now, or have an outbox or wishes, and are not stuck: for tend.

        One whose look waits already may be left out: that comes first.
        """

    def looks(self) -> AsyncIterator[Look]:
        """The due ones, the longest due first."""

    async def send(self, look: Look, delay_s: float = 0) -> None:
        """Joined to the one that waits. While a look is due, one for later (`delay_s`) with nothing new puts it back.

        Events are debounced (5 s, 30 s at most); everything else is due when it says.
        """

    async def early(self, resource: ResourceId) -> bool:
        """Whether the look that a message names is due only later, for events were debounced; the message goes back."""

    async def nudge(self) -> None:
        """For tend: looks that were due minutes ago, and whose message may be lost, get another one."""

    async def reject(self, raw: bytes, why: str) -> None:
        """An event that is none, recorded in the installation's chain: once per hash and hour, 100 an hour, 8 KiB."""

    async def budget(self, name: str) -> tuple[str, bytes]:
        """The row of a budget, as guardrail.stores.budgets wrote it or somebody else: its etag and body, "" for none."""

    async def set_budget(self, name: str, body: bytes, etag: str) -> str:
        """The new etag; "" if another was faster: it is not at `etag` any more, "" for none."""

    async def rules(self) -> Rules:
        """The switch and what people set at run time. Missing or unreadable: report."""

    async def set_rules(self, rules: Rules, *records: Record) -> Rules:
        """The rules with the next generation, recorded in the installation's chain. Errors: Stale."""

    def chains(self, since: datetime | None = None) -> AsyncIterator[Chain]:
        """Every chain that has records, also one whose case is lost (seq 0).

        `since`: those that looks or events moved since then are enough, where that is cheaper; it may be more.
        """

    async def anchors(self, last: int = 0) -> Sequence[bytes]:
        """Anchor lines, oldest first; `last`: only so many of the newest."""

    async def add_anchor(self, number: int, line: bytes, *records: Record) -> None:
        """Anchor `number` (from 1, without gaps), recorded in the installation's chain. Errors: Stale."""

    def close(self) -> None: ...


# Records

def recorded(case: Case, stored: Sequence[StoredRecord], records: Sequence[Record], tells: Set[str]) -> Case:
    """The case after `records`, which lie in its chain as `stored`; those of the events `tells` wait in its outbox."""
    if not stored:
        return case
    news = tuple(one.seq for one, record in zip(stored, records, strict=True) if record.event in tells)
    return replace(case, seq=stored[-1].seq, head=stored[-1].hash, outbox=(*case.outbox, *news)[-OUTBOX:])


# Looks

def join(waiting: Look, look: Look) -> Look:
    """Both as one: one change per actor, app and operation, the newest; of more than CHANGES the actors are unknown.

    What did not fit leaves one Change with actor, app and operation "?": nobody may then count as a bystander, and an
    operation that no control names makes the look read everything.
    """
    newest = dict[tuple[str, str, str], Change]()
    for change in sorted((*waiting.changes, *look.changes), key=_age):
        newest[change.actor, change.app, change.operation] = change
    nobody = newest.pop(("?", "?", "?"), None)
    changes = sorted(newest.values(), key=_age)
    room = CHANGES - 1 if nobody or len(changes) > CHANGES else CHANGES
    left_out, changes = changes[: max(0, len(changes) - room)], changes[max(0, len(changes) - room):]
    if left_out or nobody:
        last = nobody or left_out[-1]
        changes.insert(0, replace(unknown(waiting.resource), event_id=last.event_id, at=last.at))
    why = max(waiting.why, look.why, key=_WEIGHT.index)
    return Look(waiting.resource, why, tuple(changes), max(waiting.generation, look.generation) + 1)


def unknown(resource: ResourceId) -> Change:
    """In place of changes that nobody can tell any more."""
    return Change("", "?", resource, "?", "?", "", datetime.min.replace(tzinfo=UTC))


def _age(change: Change) -> tuple[datetime, str, str, str, str]:
    return change.at, change.event_id, change.operation, change.actor, change.app


@dataclass(frozen=True, slots=True)
class Waiting:
    """The look row of a resource. It stays when the look is answered: it remembers when, and counts generations."""

    look: Look
    due: float | None = None        # seconds since 1970; None: nothing waits
    since: float | None = None      # the first event that waits; None: no event set `due`
    tried: float | None = None      # when a look was last answered or put back

    def sent(self, look: Look, now: float, delay_s: float) -> Waiting:
        """With `look` joined. Events: at once if it was quiet, else 5 s after the last one, 30 s after the first."""
        if self.due is not None and delay_s and (look.generation or not look.changes):
            return self._later(self.due, now, delay_s)
        since = None if self.due is None else self.since
        if look.why != "event" or delay_s:
            due = now + delay_s
        elif since is not None:
            due = min(now + DEBOUNCE_S, since + PATIENCE_S)
        else:
            since = now
            due = now if self.tried is None or now - self.tried >= DEBOUNCE_S else now + DEBOUNCE_S
        if self.due is not None and (self.due <= now or self.since is None or look.why != "event" or delay_s):
            due = min(due, self.due)        # only one event after another puts off what was to be soon
        return Waiting(join(self.look, look), due, since, self.tried)

    def _later(self, due: float, now: float, delay_s: float) -> Waiting:
        """Nothing new, only a time. While a look is due, it comes from whoever could not answer it: the look goes back.

        A person's look never waits long, for it may have come just after one that was answered.
        """
        if due > now:
            return replace(self, due=min(due, now + delay_s))
        if self.look.why in _PERSONS:
            delay_s = min(delay_s, PERSON_S)
        return Waiting(self.look, now + delay_s, None, now)

    def answered(self, look: Look, now: float) -> Waiting:
        """After a commit that answers `look`: what joined it meanwhile is looked at again, debounced."""
        if self.due is None or look.generation >= self.look.generation:
            return Waiting(replace(self.look, why="event", changes=()), None, None, now)
        news = tuple(change for change in self.look.changes if change not in look.changes)
        due = self.due if self.due > now or self.look.why in _PERSONS else now + DEBOUNCE_S
        return Waiting(replace(self.look, changes=news), due, now, now)


def after(waiting: Waiting | None, resource: ResourceId, answered: Look | None, again_s: float | None,
          now: float, why: Why = "due") -> Waiting | None:
    """The look row after a commit; None if the commit leaves it alone."""
    if answered is None and again_s is None:
        return None
    waiting = waiting or empty(resource)
    waiting = waiting.answered(answered, now) if answered else waiting
    return waiting if again_s is None else waiting.sent(Look(resource, why), now, again_s)


def empty(resource: ResourceId) -> Waiting:
    return Waiting(Look(resource, "event"))


# Budgets and rejects

async def spread(turn: int) -> None:
    """Before another try, so that those who collided do not collide again."""
    if turn:
        await asyncio.sleep(random.uniform(0, min(0.005 * 2 ** turn, 0.5)))     # noqa: S311  spread, not secret


def window(taken: Sequence[float], now: float, limit: int, window_s: float, count: int) -> list[float] | None:
    """The times that count after taking `count` (negative: the newest are given back); None: over the limit."""
    inside = [at for at in taken if at > now - window_s]
    if count < 0:
        return inside[:count]
    return inside + [now] * count if len(inside) + count <= limit else None


@dataclass(frozen=True, slots=True)
class Rejects:
    """What was rejected this hour: hashes whose records are kept, and how many were only counted since the last one."""

    hour: int = 0
    kept: tuple[str, ...] = ()
    more: int = 0

    def add(self, raw: bytes, why: str, at: datetime) -> tuple[Rejects, Record | None]:
        hour, sha256 = int(at.timestamp() // 3600), hashlib.sha256(raw).hexdigest()
        kept = self.kept if hour == self.hour else ()
        if sha256 in kept or len(kept) >= REJECTS:
            return Rejects(hour, kept, self.more + 1), None
        text = raw[:RAW_BYTES].decode("utf-8", "backslashreplace")
        detail: dict[str, Any] = {"why": why, "sha256": sha256, "raw": text[:RAW_BYTES], "size": len(raw),
                                  "more": self.more}
        return Rejects(hour, (*kept, sha256), 0), Record("change.rejected", at, "unknown", "", "", "", detail)
