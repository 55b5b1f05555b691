"""The hourly sweep: Resource Graph nominates, a GET decides. It leaves Looks, and says what it missed.

A page at a time, with the cursor in the installation's own row: a crash loses no page, and what takes longer than one
invocation should is carried on by tend. One runner at a time, by a lease; two do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from guardrail import below, breakers, groups, home, ids, logs, missed, own, rights
from guardrail.errors import Final, Held, Malformed, Retryable, StoreDown
from guardrail.ids import ResourceId
from guardrail.paths import fold as fold_text
from guardrail.stores import HOME
from guardrail.turn import Engine
from guardrail.values import Case, Look, Record

KEPT = "sweep"                          # the name under which the installation keeps the cursor
TABLES = {"microsoft.authorization/roleassignments": "authorizationresources"}      # the others stand in `resources`
STEPS = ("above", "changes", "resources", "authorizationresources", "known", "ours")
SLICE_S = 60.0                          # an invocation goes on for so long, and ends with the page at hand
LEASE, LEASE_S = f"sweep/{HOME}", 300.0
AT_ONCE = 16
ERRORS = 20                             # kept of a sweep


@dataclass(slots=True)
class Cursor:
    """How far a sweep has come: its step, the page there, and how much of that page is done."""

    began: datetime
    missed: missed.Missed
    step: int = 0
    token: str = ""                     # of the page, "" for the first one
    done: int = 0                       # rows of it
    last: str = ""                      # the resource group that was last asked
    read: int = 0
    looked: int = 0
    known: dict[str, dict[str, int]] = field(default_factory=dict)  # subscription -> type -> how many are listed
    unlisted: int = 0                   # known, and not listed by Azure
    lost: dict[str, list[str]] = field(default_factory=dict)        # group -> actions that we lack there
    unasked: list[str] = field(default_factory=list)                # groups that did not tell
    above: dict[str, list[str]] | None = None                       # management groups; None: not asked, or not told
    strangers: dict[str, dict[str, str]] | None = None              # None: they could not be listed
    errors: list[str] = field(default_factory=list)

    def failed(self, error: str) -> None:
        if error not in self.errors and len(self.errors) < ERRORS:
            self.errors.append(error)


async def sweep(engine: Engine, slice_s: float = SLICE_S) -> None:
    """Begins a sweep, or carries on with the one that is under way, for `slice_s` at most. Errors: StoreDown."""
    if not await engine.store.take(LEASE, 1, LEASE_S):
        return
    try:
        await _carry_on(engine, slice_s)
    finally:
        await engine.store.take(LEASE, 1, LEASE_S, -1)


def is_under_way(case: Case) -> bool:
    """Whether the installation's case says that a sweep has not come to its end."""
    return KEPT in case.good


async def _carry_on(engine: Engine, slice_s: float) -> None:
    kept = await home.recall(engine, KEPT)
    at = msgspec.convert(kept, Cursor) if kept else Cursor(engine.clock(), await missed.begin(engine))
    clock = asyncio.get_running_loop().time
    until, sweeper = clock() + slice_s, Sweeper(engine, at)

    def write_down(case: Case) -> tuple[Case, list[Record]]:
        return replace(home.with_kept(case, **{KEPT: msgspec.to_builtins(at)}), due=engine.clock()), []

    while at.step < len(STEPS):
        try:
            await sweeper.page()
        except StoreDown:
            raise
        except Retryable as error:      # throttled, as a rule: tend carries on
            logs.line("look.retried", resource_id=HOME, error=str(error), after_s=error.after_s)
            until = 0
        await home.keep(engine, write_down)
        if clock() >= until:
            return
    await _finish(engine, at)


async def _finish(engine: Engine, at: Cursor) -> None:
    """The record of it all, and of what people must know."""
    took = engine.clock() - at.began
    finished = home.record(
        engine, "sweep.finished", read=at.read, looked=at.looked, unlisted=at.unlisted, changes=at.missed.changes,
        missed=at.missed.missed, coverage=at.missed.coverage, permissions_lost=sum(map(len, at.lost.values())),
        errors=at.errors, took_s=round(took.total_seconds(), 3))

    def end(case: Case) -> tuple[Case, list[Record]]:
        case, path = missed.finish(engine, at.missed, case)
        case, lost = rights.finish(engine, at.lost, frozenset(at.unasked), case)
        case, reached = own.finish(engine, at.strangers, case) if at.strangers is not None else (case, [])
        case = home.with_kept(case, **{KEPT: {}, breakers.KNOWN: at.known})
        case = home.with_kept(case, **{groups.KEPT: at.above}) if at.above is not None else case
        return replace(case, due=None), [finished, *path, *lost, *reached]

    await home.keep(engine, end)


class Sweeper:
    """One slice of a sweep. What it does is written down in the cursor as it goes."""

    def __init__(self, engine: Engine, at: Cursor) -> None:
        self._engine, self.at = engine, at
        self._kinds = below.kinds(engine)
        self._needed = rights.needed(engine)

    async def page(self) -> None:
        """The next page of the step at hand. Errors: Retryable; the cursor says how much of it is done."""
        step = STEPS[self.at.step]
        if step in ("above", "known", "ours"):
            await {"above": self._above, "known": self._known, "ours": self._ours}[step]()
            self._turn("", again=False)
            return
        types = self._types("" if step == "changes" else step)
        query = missed.query(self.at.missed, types) if step == "changes" else _query(step, types)
        try:
            if not types:
                self._turn("", again=False)
                return
            rows, token, is_cut = await self._engine.arm.graph_page(query, self._engine.subscriptions, self.at.token)
        except Final as error:
            again = bool(self.at.token) and f"{step}: {error}" not in self.at.errors    # a token may have grown too old
            self.at.failed(f"{step}: {error}")
            self._turn("", again=again)
            return
        if is_cut:
            self.at.failed(f"{step}: cut off after {len(rows)} rows, without a way to the others")
        each = self._changed if step == "changes" else self._listed
        await self._all(rows, each)
        self._turn(token, again=bool(token))

    def _turn(self, token: str, *, again: bool) -> None:
        """To the next page, or to the next step."""
        self.at.token, self.at.done = token, 0
        if not again:
            self.at.step, self.at.last = self.at.step + 1, ""

    async def _all(self, rows: Sequence[Any], each: Callable[[Any], Awaitable[None]]) -> None:
        """`each` of the rows that are not done, some at once."""
        for start in range(self.at.done, len(rows), AT_ONCE):
            chunk = rows[start: start + AT_ONCE]
            counts = self.at.read, self.at.looked, self.at.unlisted, deepcopy(self.at.known)
            failures = [one for one in await asyncio.gather(*map(each, chunk), return_exceptions=True) if one]
            if failures:                # the whole chunk comes again
                self.at.read, self.at.looked, self.at.unlisted, self.at.known = counts
                raise failures[0]
            self.at.done = start + len(chunk)

    async def _changed(self, row: Mapping[str, Any]) -> None:
        await missed.compare(self._engine, self.at.missed, row)

    async def _listed(self, row: Mapping[str, Any]) -> None:
        resource = _id(row.get("id"))
        engine = self._engine
        if resource is not None and ids.subscription(resource) in engine.subscriptions and not own.is_ours(engine, resource):
            self.at.read += 1
            await self._rights(resource)
            await self._visit(resource)

    async def _visit(self, resource: ResourceId) -> None:
        """A look at a resource, and at its children of guarded types."""
        if _is_guarded(self._engine, resource):
            await self._look(resource)
        for kind in self._kinds.get(fold_text(ids.type_of(resource)), ()):
            try:
                found = await below.children(self._engine, resource, kind)
            except Final as error:
                self.at.failed(f"{kind.name}: {error}")
                continue
            for child in found:
                await self._look(child)

    async def _look(self, resource: ResourceId) -> None:
        await self._engine.store.send(Look(resource, "sweep"))
        self.at.looked += 1
        if STEPS[self.at.step] != "known":
            breakers.count(self.at.known, resource)

    async def _rights(self, resource: ResourceId) -> None:
        """Once a resource group: rows come in the order of their ids, so a group's stand together."""
        name = ids.group(resource)
        group = ResourceId("/".join(resource.split("/")[:5])) if name else None
        if group is None or ids.fold(group) == self.at.last:
            return
        self.at.last = ids.fold(group)
        if self.at.last in self.at.lost:
            return
        try:
            if lost := await rights.missing(self._engine.arm, group, self._needed):
                self.at.lost[ids.fold(group)] = lost[: rights.ACTIONS]
        except Final as error:
            self.at.unasked.append(ids.fold(group))
            self.at.failed(f"permissions: {error}")
        except Retryable:
            self.at.last = ""           # asked again with the rows at hand
            raise

    async def _known(self) -> None:
        """What we know and nothing has led to since the sweep began: Azure lists it no more, or never did."""
        known = [one async for one in self._engine.store.known() if one != HOME and _is_guarded(self._engine, one)]
        await self._all(known, self._recall)

    async def _above(self) -> None:
        if groups.are_named(self._engine.policy):
            try:
                rows = [row async for row in self._engine.arm.graph(groups.QUERY, self._engine.subscriptions)]
                self.at.above = groups.chains(rows)
            except Final as error:
                self.at.failed(f"management groups: {error}")

    async def _ours(self) -> None:
        try:
            self.at.strangers = await own.strangers(self._engine)
        except Final as error:
            self.at.failed(f"role assignments on our own group: {error}")

    async def _recall(self, resource: ResourceId) -> None:
        try:
            case, look = await self._engine.store.load(resource)
        except (Held, Malformed) as error:      # one bad row hides no other
            self.at.failed(f"known: {error}")
            return
        if look is None and (case.looked is None or case.looked <= self.at.began):
            self.at.unlisted += 1
            await self._visit(resource)

    # queries

    def _types(self, table: str) -> str:
        """Quoted names of the guarded types and of the parents of guarded children; of `table` if that is given."""
        names = {*self._engine.types, *self._kinds}
        return ", ".join(f"'{name}'" for name in sorted(names) if table in ("", TABLES.get(name, "resources")))


def _query(table: str, types: str) -> str:
    """Constant text but for type names, which come from our own table."""
    return f"{table} | where type in~ ({types}) | project id, type | order by id asc"


def _id(text: object) -> ResourceId | None:
    try:
        return ids.parse(text) if isinstance(text, str) else None
    except Malformed:
        return None


def _is_guarded(engine: Engine, resource: ResourceId) -> bool:
    is_known = fold_text(ids.type_of(resource)) in engine.types and ids.subscription(resource) in engine.subscriptions
    return is_known and not own.is_ours(engine, resource)
