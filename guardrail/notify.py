"""Records that wait in outboxes reach people: one message a cause, each channel by itself, after everything else.

A record leaves the outbox when every channel took it, or was given up on. A channel that is slow or fails holds up nothing
but itself: it is left alone until the next minute. A worker that dies between sending and writing down tells the same
once more, under the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from guardrail import logs, messages
from guardrail.channels import Channel
from guardrail.errors import GuardrailError, Stale, StoreDown
from guardrail.ids import ResourceId
from guardrail.messages import Message
from guardrail.turn import Engine
from guardrail.values import SEVERITIES, Case, Record

JOINED_S = 600              # one message a cause in that time, the rest is counted in the next
SINGLY = 20                 # messages in that time and channel; above it one digest
GIVE_UP = timedelta(days=7)
SENDS_FOR_S = 20            # a channel starts no send later than this after the first
PATIENCE_S = 10.0           # with one message
BEFORE = 60                 # records read before the first one that waits: what led to it
AT_ONCE, TRIES = 16, 5


Parcel = tuple[Message, tuple["Waiting", ...], list[tuple[str, int]]]      # what to send, what it tells, budgets taken


@dataclass(slots=True)
class Waiting:
    """A record that waits; `message` None: nobody is to be told. `done`: channels that took it, or will not get it."""

    resource: ResourceId
    seq: int
    at: datetime
    message: Message | None
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)       # channels whose first failure is recorded


@dataclass(frozen=True, slots=True)
class Note:
    """What became of it at one channel, to be recorded in each of its resources' chains."""

    event: str                  # message.sent, message.failed
    channel: str
    kind: str
    message_id: str
    waiting: tuple[Waiting, ...]
    detail: dict[str, Any]


async def deliver(engine: Engine, cases: Sequence[Case]) -> None:
    """Tells what waits in these cases, and writes down what was told. What cannot be done now, the next minute does."""
    waiting = list[Waiting]()
    for at in range(0, len(cases), AT_ONCE):
        for found in await asyncio.gather(*(_read(engine, case) for case in cases[at: at + AT_ONCE])):
            waiting += found
    notes = [note for found in await asyncio.gather(*(_tell(engine, channel, waiting) for channel in engine.channels))
             for note in found]
    by_resource = dict[ResourceId, list[Waiting]]()
    for one in waiting:
        by_resource.setdefault(one.resource, []).append(one)
    resources = list(by_resource)
    for at in range(0, len(resources), AT_ONCE):
        await asyncio.gather(*(_written(engine, one, by_resource[one], notes) for one in resources[at: at + AT_ONCE]))


async def _read(engine: Engine, case: Case) -> list[Waiting]:
    try:
        return await _waiting(engine, case)
    except Exception as error:  # noqa: BLE001  the edge of one case: a record that nobody can read silences no other
        logs.line("message.failed", resource_id=case.resource, error=repr(error))
        return []


async def _waiting(engine: Engine, case: Case) -> list[Waiting]:
    """What waits in a case: its records, what led to them, and which channels are done with them."""
    if not case.outbox or _is_leased(engine, case):
        return []
    if not engine.channels:         # front cannot know whether hands has any
        return [Waiting(case.resource, seq, engine.clock(), None) for seq in case.outbox]
    stored = await engine.store.records(case.resource, max(0, min(case.outbox) - 1 - BEFORE))
    records = [msgspec.json.decode(one.body) for one in stored]
    found = dict[int, Waiting]()
    for index, record in enumerate(records):
        if record["seq"] in case.outbox:
            message = messages.of(engine, case.resource, record, records[max(0, index - BEFORE): index])
            if message and SEVERITIES.index(message.severity) > SEVERITIES.index(engine.policy.notify.least):
                message = None
            found[record["seq"]] = Waiting(case.resource, record["seq"], datetime.fromisoformat(record["at"]), message)
        elif record["event"] in ("message.sent", "message.failed"):
            _note(found.values(), record["event"], record["detail"])
    for event, detail in engine.unwritten.get(case.resource, ()):
        _note(found.values(), event, detail)
    return list(found.values())


def _note(waiting: Iterable[Waiting], event: str, detail: Any) -> None:
    for one in waiting:
        if one.seq in detail["records"]:
            (one.done if event == "message.sent" or detail.get("given_up") else one.failed).add(detail["channel"])


def _is_leased(engine: Engine, case: Case) -> bool:
    """Whether an action is under way: a commit of ours between its own would hold it up."""
    until = case.acting.leased_until if case.acting else None
    return until is not None and until > engine.clock()


async def _tell(engine: Engine, channel: Channel, waiting: Sequence[Waiting]) -> list[Note]:
    """One message after another, until one fails or the time is over; the rest waits."""
    notes, now, loop = list[Note](), engine.clock(), asyncio.get_running_loop()
    mine = [one for one in waiting if one.message and channel.name not in one.done]
    for one in mine:
        if now - one.at > GIVE_UP and one.message:
            notes.append(Note("message.failed", channel.name, one.message.kind, one.message.id, (one,), {"given_up": True}))
            one.done.add(channel.name)
    parcels = _parcels(engine, channel.name, [one for one in mine if channel.name not in one.done])
    end = loop.time() + SENDS_FOR_S
    async with contextlib.aclosing(parcels):
        with contextlib.suppress(StoreDown):        # what was told until then is kept in mind
            async for message, ones, taken in parcels:
                error = await _sent(channel, message, now)
                if not error:
                    notes.append(Note("message.sent", channel.name, message.kind, message.id, ones, {}))
                    for one in ones:
                        one.done.add(channel.name)
                elif new := tuple(one for one in ones if channel.name not in one.failed):
                    notes.append(Note("message.failed", channel.name, message.kind, message.id, new, {"error": error}))
                for key, limit in taken if error else ():
                    await engine.store.take(key, limit, JOINED_S, -1)
                if error or loop.time() > end:
                    break
    return notes


async def _sent(channel: Channel, message: Message, now: datetime) -> str:
    """"" or why it was not taken; no more than what kind of error it was, for its text may hold the address."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await channel.send(message, now)
    except TimeoutError:
        return f"no answer in {PATIENCE_S:g} s"
    except GuardrailError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  the edge of one receiver: whatever is wrong with it concerns nobody else
        status = getattr(error, "status_code", None)
        return f"answered {status}" if status else type(error).__name__
    return ""


async def _parcels(engine: Engine, channel: str,
                   waiting: Sequence[Waiting]) -> AsyncGenerator[Parcel, None]:
    """The worst first. What was told lately waits; what is too many is one digest."""
    take, groups = engine.store.take, dict[str, list[Waiting]]()
    for one in waiting:
        if one.message:
            groups.setdefault(one.message.cause, []).append(one)
    # what was refused once goes last, so that one message which its receiver does not like holds up no other
    ordered = sorted(groups.values(), key=lambda ones: min(
        (channel in one.failed, SEVERITIES.index(one.message.severity), one.at) for one in ones if one.message))
    for index, ones in enumerate(ordered):
        cause = (_bucket(channel, ones), 1)
        if not await take(*cause, JOINED_S):
            continue
        if await take(f"messages/{channel}", SINGLY, JOINED_S):
            yield messages.joined(_messages(ones)), tuple(ones), [cause, (f"messages/{channel}", SINGLY)]
            continue
        await take(*cause, JOINED_S, -1)
        rest = [one for left in ordered[index:] for one in left]
        if await take(f"digest/{channel}", 1, JOINED_S):
            yield messages.digest(engine, _messages(rest)), tuple(rest), [(f"digest/{channel}", 1)]
        return


def _messages(waiting: Sequence[Waiting]) -> list[Message]:
    return [one.message for one in waiting if one.message]


def _bucket(channel: str, ones: Sequence[Waiting]) -> str:
    """A row for many causes, so that rows do not grow with them; who shares one waits for the other, once in a long while."""
    cause = ones[0].message.cause if ones[0].message else ""
    return f"message/{channel}/{hashlib.sha256(cause.encode()).hexdigest()[:4]}"


async def _written(engine: Engine, resource: ResourceId, waiting: Sequence[Waiting], notes: Sequence[Note]) -> None:
    """What is told leaves the outbox, in one commit with the records of it. What cannot be written now is kept in mind."""
    names = {channel.name for channel in engine.channels}
    over = {one.seq for one in waiting if one.message is None or names <= one.done}
    new = [(note.event, {"channel": note.channel, "kind": note.kind, "message_id": note.message_id, "records": seqs,
                         **note.detail})
           for note in notes if (seqs := [one.seq for one in note.waiting if one.resource == resource])]
    unwritten = [*engine.unwritten.pop(resource, ()), *new]
    if not over and not unwritten:
        return
    engine.unwritten[resource] = unwritten
    records = [Record(event, engine.clock(), "guardrail", "", engine.ceiling, engine.policy.hash, detail)
               for event, detail in unwritten]
    for _ in range(TRIES):
        with contextlib.suppress(Stale, StoreDown):
            case, _look = await engine.store.load(resource)
            if _is_leased(engine, case):
                return
            kept = tuple(seq for seq in case.outbox if seq not in over)
            await engine.store.commit(replace(case, outbox=kept), *records)
            del engine.unwritten[resource]
            for record in records:
                logs.told(record, resource)
            return
