"""The proof that events reach us: a tag on our own group, whose event has to come back.

The only write of an installation that merely reports, with a name and a value that nobody outside has a say in. Hands
send it, front sees its event and may not write what hands remember: so its record is signed, and hands read that. Each
event of a tag there proves as much, whoever set it; one from the dead letters does not.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from guardrail import home, logs, roles, signing
from guardrail.errors import Denied, Final, GuardrailError, Retryable, StoreDown
from guardrail.ids import url_path
from guardrail.stores import HOME, StoredRecord
from guardrail.turn import Engine
from guardrail.values import Case, Change, Record, Request, ResourceType

KEPT = "probe"                      # the name under which the installation keeps this
TAG = "guardrail-probe"
TAGS = ResourceType("Microsoft.Resources/tags", "2025-04-01")       # {scope}/providers/Microsoft.Resources/tags/default
EVERY, AGAIN = timedelta(minutes=15), timedelta(minutes=1)          # AGAIN: when Azure was busy
WITHIN = timedelta(minutes=35)      # two may get lost
SKEW = timedelta(seconds=60)        # of our clock and Azure's
NOTED_S = 60.0                      # at most one record of an event in so long, however many there are


@dataclass(frozen=True, slots=True)
class Probe:
    """What is known of it. Nothing `open`: the newest tag's event, or a later one, came back."""

    sent: datetime                  # the newest tag, whether or not Azure took it
    due: datetime                   # the next one
    switch: str                     # when it was sent: a probe follows each change at once
    generation: int                 # of the rules then
    seq: int                        # of the installation's records: what came back later is not yet read
    open: datetime | None = None    # the first tag since `back`
    back: datetime | None = None    # when an event last came
    took_s: float = 0.0
    why: str = ""                   # Azure did not take the newest one
    is_denied: bool = False
    is_broken: bool = False         # and people were told

    def is_lost(self, now: datetime) -> bool:
        return self.open is not None and now - self.open > WITHIN

    def is_proven(self, now: datetime) -> bool:
        return self.back is not None and now - self.back <= WITHIN and not self.is_lost(now)


def of(case: Case) -> Probe | None:
    """What the installation's case knows of it; None: there is no probe."""
    kept = case.good.get(KEPT)
    return msgspec.convert(kept, Probe) if kept else None


def _with(case: Case, probe: Probe | None) -> Case:
    return home.with_kept(case, **{KEPT: msgspec.to_builtins(probe) if probe else {}})


# Hands

async def tend(engine: Engine, *, is_on: bool) -> None:
    """Sends it where one is due, and says once that none came back, or does again. Errors: StoreDown."""
    try:
        case, _ = await engine.store.load(HOME)
        probe = of(case)
        if not is_on and probe is not None:
            await home.keep(engine, lambda case: (_with(case, None), []))
        if not is_on:
            return
        if probe is not None:
            probe = await _look(engine, probe)
        if probe is None or await _is_due(engine, probe):
            await _send(engine, probe)
    except StoreDown:
        raise
    except GuardrailError as error:     # others write to our row all the time: the next minute, then
        logs.line("look.retried", resource_id=HOME, error=str(error))


async def _is_due(engine: Engine, probe: Probe) -> bool:
    return probe.due <= engine.clock() or probe.switch != (await engine.rules()).switch


async def _look(engine: Engine, probe: Probe) -> Probe:
    """With what came back since. Kept where that changes whether the path is whole; else the next one sent takes it along."""
    if probe.open is None:
        return probe
    seen, now = await _read(engine, probe), engine.clock()
    is_lost = seen.is_lost(now)
    if seen.open is not None and is_lost == probe.is_broken:
        return seen

    def change(case: Case) -> tuple[Case, list[Record]]:
        before = of(case)
        if before is None or before.open is None:       # another worker was faster
            return case, []
        after = replace(before, seq=seen.seq, open=seen.open, back=seen.back, took_s=seen.took_s, is_broken=is_lost)
        records = list[Record]()
        if is_lost and not before.is_broken:
            why = before.why or "the tag was set, and no event of it came"
            records.append(home.record(engine, "path.broken", hop="probe", since=before.open, why=why))
        elif before.is_broken and not is_lost:
            records.append(home.record(engine, "path.restored", hop="probe", took_s=seen.took_s))
        return _with(case, after), records

    await home.keep(engine, change)
    return replace(seen, is_broken=is_lost)


async def _read(engine: Engine, probe: Probe) -> Probe:
    for record in await engine.store.records(HOME, probe.seq):
        probe = replace(probe, seq=record.seq)
        told = await _proof(engine, record)
        if told is not None:
            probe = replace(probe, back=told[0], took_s=told[1], open=None)
    return probe


async def _proof(engine: Engine, record: StoredRecord) -> tuple[datetime, float] | None:
    """When an event came back and how long it took, if front says so in this record."""
    if b'"probe.received"' not in record.body:
        return None
    try:
        told = msgspec.json.decode(record.body, type=_Told)
    except msgspec.MsgspecError:
        return None
    is_ours = told.event == "probe.received" and await engine.keys.front.verify(
        signing.received(told.at, told.detail.took_s), told.detail.signature)
    return (told.at, told.detail.took_s) if is_ours else None


class _Detail(msgspec.Struct, frozen=True):
    took_s: float
    signature: str


class _Told(msgspec.Struct, frozen=True):
    event: str
    at: datetime
    detail: _Detail


async def _send(engine: Engine, seen: Probe | None) -> None:
    """On record first, by one worker alone; then the tag."""
    now, rules, is_mine = engine.clock(), await engine.rules(), False

    def claim(case: Case) -> tuple[Case, list[Record]]:
        nonlocal is_mine
        before = of(case)
        is_mine = before is None or before.sent == (seen.sent if seen else None)
        if not is_mine:
            return case, []
        first = Probe(now, now, rules.switch, rules.generation, case.seq)
        after = replace(before or first, sent=now, due=now + EVERY, switch=rules.switch, generation=rules.generation,
                        open=(before and before.open) or now, seq=seen.seq if seen else case.seq)
        return _with(case, after), [home.record(engine, "probe.sent", generation=rules.generation, switch=rules.switch)]

    await home.keep(engine, claim)
    if not is_mine:
        return
    try:
        await engine.arm.send(TAGS, _request(engine, now), str(uuid.uuid4()))
    except (Retryable, Final) as error:
        await _failed(engine, error)
    else:
        if seen is not None and seen.why:
            await home.keep(engine, lambda case: (_noted(case, why="", is_denied=False), []))


def _request(engine: Engine, now: datetime) -> Request:
    """Merge sets this tag and leaves the others alone (Tags_UpdateAtScope)."""
    url = f"{url_path(engine.group)}/providers/Microsoft.Resources/tags/default"
    body = {"operation": "Merge", "properties": {"tags": {TAG: now.strftime("%Y-%m-%dT%H:%M:%SZ")}}}
    return Request("PATCH", url, TAGS.api_version, body)


async def _failed(engine: Engine, error: Retryable | Final) -> None:
    """Azure did not take it: sent anew, soon where that may help. A right that we lack is told once."""
    logs.line("look.retried", resource_id=engine.group, error=str(error))
    is_denied = isinstance(error, Denied)
    soon: dict[str, Any] = {}
    if isinstance(error, Retryable):
        soon = {"due": engine.clock() + max(AGAIN, timedelta(seconds=error.after_s))}

    def change(case: Case) -> tuple[Case, list[Record]]:
        before, action = of(case), roles.PROBE[0]
        is_news = is_denied and not (before and before.is_denied)
        lost = home.record(engine, "permission.lost", scope=engine.group, actions=[action], missing=1, why=str(error))
        return _noted(case, why=str(error), is_denied=is_denied, **soon), [lost] if is_news else []

    await home.keep(engine, change)


def _noted(case: Case, **fields: Any) -> Case:
    probe = of(case)
    return _with(case, replace(probe, **fields)) if probe else case


# Front

async def received(engine: Engine, change: Change) -> None:
    """An event of a tag on our own group: on record if it came in time, and there is a probe. Errors: Busy, StoreDown."""
    took = engine.clock() - change.at
    case, _ = await engine.store.load(HOME)
    probe = of(case)
    if probe is not None and -SKEW <= took <= WITHIN and await engine.store.take("probe", 1, NOTED_S):
        took_s = round(max(0.0, took.total_seconds()), 3)
        told = home.record(engine, "probe.received", took_s=took_s, generation=probe.generation)
        await home.keep(engine, lambda case: (case, [told]))
