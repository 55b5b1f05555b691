"""The rows of every release, as they were left behind (tools/golden_rows.py): read, followed, finished, or left alone."""

from __future__ import annotations

import json
import shutil
import sqlite3
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from guardrail import __version__, anchors, audit, people
from guardrail.errors import Held, Refused, Stale
from guardrail.ids import ResourceId
from guardrail.names import chain_key
from guardrail.policy import Rules, rules_from
from guardrail.signing import Keys, LocalKey
from guardrail.stores import Store, V
from guardrail.stores.rows import case_body, case_of, look_body, look_of
from guardrail.stores.signed import SignedStore
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Look, Record, to_json
from tests.azurite import Azurite
from tests.flow.harness import STORAGE, world
from tests.flow.test_loop import OPEN
from tests.flow.test_people import APPROVER, ONCALL
from tests.flow.world import DEV, World
from tools.golden_rows import BUDGET, write_key

pytestmark = [pytest.mark.anyio, pytest.mark.threat("R38")]

ROWS = Path(__file__).parents[1] / "data" / "rows"
RELEASES = sorted(path.name for path in ROWS.iterdir())
KINDS = {"sqlite": {"cases", "records", "looks", "state rules", "state rejects", "state taken", "anchors"},
         "tables": {"cases case", "cases look", "cases rules", "cases rejects", "cases anchor", "cases a-", "cases r-",
                    "open index", "budgets taken"}}
HELD = {"proposed", "held", "rejected", "expired", "approved", "applying", "applied", "failed", "unknown", ""}

Entities = dict[str, list[dict[str, Any]]]


def evening(release: str) -> Any:
    return json.loads((ROWS / release / "evening.json").read_text("utf-8"))


def entities(release: str) -> Entities:
    def value(one: Any) -> Any:
        return b64decode(one["base64"]) if isinstance(one, dict) else one

    tables = json.loads((ROWS / release / "tables.json").read_text("utf-8"))
    return {table: [{name: value(one) for name, one in row.items()} for row in rows] for table, rows in tables.items()}


class Kept:
    """A store that holds a release's rows; `open` once more as another worker, `dump` of every row, `raise_v` of them."""

    def __init__(self, open: Callable[[], Store], dump: Callable[[], Awaitable[Any]], raise_v: Callable[[], Awaitable[None]]):
        self.open, self.dump, self.raise_v = open, dump, raise_v


@asynccontextmanager
async def in_sqlite(release: str, at: datetime, folder: Path, _: Any) -> AsyncIterator[Kept]:
    path, opened = folder / "guardrail.db", list[Store]()
    shutil.copy(ROWS / release / "guardrail.db", path)

    def open_one() -> Store:
        opened.append(SqliteStore(path, lambda: at, durable=False))
        return opened[-1]

    async def dump() -> Any:
        with closing(sqlite3.connect(path)) as db:
            return list(db.iterdump())

    async def raise_v() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            for table in ("cases", "records", "looks", "state", "anchors"):
                assert db.execute(f"UPDATE {table} SET v = ?", (V + 1,)).rowcount > 0

    yield Kept(open_one, dump, raise_v)
    for store in opened:
        store.close()


@asynccontextmanager
async def in_tables(release: str, at: datetime, _: Path, request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    azurite: Azurite = request.getfixturevalue("azurite")
    async with azurite.account().stores(lambda: at, anchors="") as open_one:
        first: Any = open_one()
        tables = first._tables

        async def dump() -> Any:
            every = ("cases", "open", "budgets")
            return {name: [dict(row) async for row in tables._table(name).list_entities()] for name in every}

        async def put(rows: Entities) -> None:
            for name, listed in rows.items():
                for row in listed:
                    await tables.merge(name, dict(row))

        async def raise_v() -> None:
            rows = await dump()
            await put({name: [{**row, "v": V + 1} for row in rows[name] if "v" in row] for name in ("cases", "budgets")})

        await put(entities(release))
        assert await dump() == {name: sorted(rows, key=lambda row: (row["PartitionKey"], row["RowKey"]))
                                for name, rows in entities(release).items()}
        yield Kept(open_one, dump, raise_v)


PLACES: dict[str, Callable[..., AbstractAsyncContextManager[Kept]]] = {"sqlite": in_sqlite, "tables": in_tables}


@pytest.fixture(params=[f"{place} {release}" for release in RELEASES for place in PLACES])
async def kept(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[tuple[Kept, Any]]:
    place, _, release = request.param.partition(" ")
    told = evening(release)
    async with PLACES[place](release, datetime.fromisoformat(told["at"]), tmp_path, request) as one:
        yield one, told


def test_every_release_has_a_row_of_each_kind() -> None:
    assert __version__ in RELEASES, "python -m tools.golden_rows keeps the rows of this release"
    for release in RELEASES:
        rows = [(table, row["RowKey"] if table != "open" else "index")
                for table, listed in entities(release).items() for row in listed]
        found = {f"{table} {name[:2] if name[1:2] == '-' else name}" for table, name in rows}
        assert found == KINDS["tables"], release
        with closing(sqlite3.connect(f"file:{ROWS / release / 'guardrail.db'}?immutable=1", uri=True)) as db:
            every = ("cases", "records", "looks", "anchors")
            tables = {name for name in every if db.execute(f"SELECT 1 FROM {name}").fetchone()}
            state = {f"state {name.split()[0]}" for (name,) in db.execute("SELECT name FROM state")}
        assert tables | state == KINDS["sqlite"], release
        assert set(evening(release)["states"].values()) == HELD, release


async def test_rows_of_every_release_are_read(kept: tuple[Kept, Any], tmp_path: Path) -> None:
    one, told = kept
    store = one.open()
    for id, state in told["states"].items():
        case, _ = await store.load(ResourceId(id))
        held = case.acting or case.asked
        assert (held.state if held else "") == state
        assert (held is None) == (not case.findings) or state in ("applied", "unknown")
        if held:
            assert held.plan.resource == id
            bodies = [json.loads(record.body) for record in await store.records(case.resource)]
            assert held.id in {body["detail"].get("action_id") for body in bodies}
    report = await audit.verify_store(store)
    assert (report.broken, report.records, report.chains) == ((), told["records"], told["chains"])
    assert report.anchors == len(await store.anchors()) > 1
    rules = await store.rules()
    assert (rules.switch, [freeze.name for freeze in rules.freezes]) == ("policy", ["tonight"])
    assert {case.resource for case in [case async for case in store.open_cases()]} >= {
        id for id, state in told["states"].items() if state}
    at_once = {id for id, state in told["states"].items() if state in ("approved", "applying")}
    assert {look.resource for look in [look async for look in store.looks()]} >= at_once
    # the clock stands where the evening ended: what was taken of the breakers' budgets still counts
    write_key(tmp_path)
    key = LocalKey(tmp_path / "guardrail.key")
    worker = SignedStore(store, Keys(key, key), lambda: datetime.fromisoformat(told["at"]))
    flapping, _ = await worker.load(ResourceId(next(id for id, state in told["states"].items() if state == "held")))
    assert (len(flapping.wrote["flapping/storage-public-network-access"]), flapping.forged) == (50, ())
    assert [await worker.take(BUDGET, 3, 3600) for _ in range(2)] == [True, False]


LOST: set[str] = set()       # fields of older releases that mean nothing any more, by name


@pytest.mark.parametrize("release", RELEASES)
async def test_no_field_of_a_row_is_lost(release: str) -> None:
    """A field renamed or retyped without a migration reads as if it had never been there."""
    with closing(sqlite3.connect(f"file:{ROWS / release / 'guardrail.db'}?immutable=1", uri=True)) as db:
        written = [
            *((body, case_body(case_of(V, resource, str(etag), seq, head, body)))
              for resource, etag, seq, head, body in db.execute("SELECT resource, etag, seq, head, body FROM cases")),
            *((body, look_body(look_of(resource, generation, body)))
              for resource, generation, body in db.execute("SELECT resource, generation, body FROM looks")),
            *((body, to_json(rules_from(body))) for (body,) in db.execute("SELECT body FROM state WHERE name = 'rules'")),
            *((line, to_json(msgspec.json.decode(line, type=anchors.AnchorLine)))
              for (line,) in db.execute("SELECT line FROM anchors")),
        ]
    assert len(written) > 20
    assert [place for body, again in written for place in lost(json.loads(body), json.loads(again))] == []


def lost(was: Any, now: Any, at: str = "") -> list[str]:
    """The places of `was` that are not the same in `now`, which may have more."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [place for name in was if name not in LOST | {"v"} for place in lost(was[name], now.get(name), f"{at}.{name}")]
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return [place for one, other in zip(was, now, strict=True) for place in lost(one, other, f"{at}[]")]
    return [] if was == now else [at]


async def test_rows_of_a_newer_version_are_held_and_left_untouched(kept: tuple[Kept, Any]) -> None:
    one, told = kept
    before = one.open()
    cases = [(await before.load(ResourceId(id)))[0] for id in told["states"]]
    rules = await before.rules()
    await one.raise_v()
    rows, store = await one.dump(), one.open()
    record = Record("change.seen", datetime.fromisoformat(told["at"]), "x", "", "report", "", {})
    for case in cases:
        with pytest.raises(Held):
            await store.load(case.resource)
        for attempt in (store.commit(case, record), store.commit(case, record, answered=Look(case.resource, "event", (), 1)),
                        store.send(Look(case.resource, "person")), before.commit(case, record)):
            with pytest.raises((Held, Stale)):
                await attempt
    for attempt in (store.budget(BUDGET), store.reject(b"{no event", "x"),
                    store.set_rules(replace(rules, switch="report"), record)):
        with pytest.raises((Held, Stale)):
            await attempt
    assert await store.rules() == Rules(), "unknown rules: report"
    assert [look async for look in store.looks()] == []
    assert all("version" in case.stuck for case in [case async for case in store.open_cases()])
    left = await one.dump()
    if isinstance(left, dict):
        rows["open"] = left["open"]     # an index, written before what it points to: it may name too many
    assert left == rows


@pytest.mark.parametrize("release", RELEASES)
async def test_what_a_release_left_open_is_finished(release: str, tmp_path: Path) -> None:
    """Each drift is put right by one write, or by none where it had been sent; what people must say, they say."""
    shutil.copy(ROWS / release / "guardrail.db", tmp_path / "guardrail.db")
    write_key(tmp_path)
    told = evening(release)
    async with world(tmp_path, told["policy"]) as here:
        here.clock.now = datetime.fromisoformat(told["at"])
        for stands in told["stands"]:
            here.sim.seed(stands["id"], stands["document"], stands["api_version"])
        for _ in range(17):         # an ask that nobody answered comes again for four hours only
            await decide(here, told["states"])
            await here.forward(3 * 3600, step=3600)
        for id, state in told["states"].items():
            case = await here.case(ResourceId(id))
            assert (case.asked, case.acting, case.stuck) == (None, None, ""), id
            sent = [line.method for line in here.ours if line.path.lower().startswith(id.lower())]
            assert sent == ([] if state in ("", "applied", "unknown") else ["PATCH"]), id
            if "/storageAccounts/" in id:
                assert (here.show(id)["properties"]["publicNetworkAccess"], case.findings) == ("Disabled", frozenset()), id
        report = await audit.verify_store(here.guardrail.store)
        assert report.broken == ()
        assert report.records > told["records"]


async def decide(here: World, states: dict[str, str]) -> None:
    engine = here.guardrail.engine
    for id in map(ResourceId, states):
        case = await here.case(id)
        for who in (APPROVER, ONCALL):
            with suppress(Refused):     # one was enough, or it rests
                if case.asked:
                    await people.approve(engine, id, case.asked.id, case.asked.plan.hash, who, "yes")
        if case.acting and case.acting.state == "failed":
            await people.retry(engine, id, case.acting.id, ONCALL, "the role is there")
        if case.acting and case.acting.state == "unknown":
            await people.settle(engine, id, case.acting.id, "verified", ONCALL, "seen in Azure")


@pytest.mark.parametrize("rows", ["case", "case and look"])
@pytest.mark.parametrize("place", list(PLACES))
async def test_two_versions_on_one_store_lose_no_row(
        place: str, rows: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A newer worker took one resource over: this one leaves it alone, event and all, and minds the others."""
    stores = partial(request.getfixturevalue("azurite").account().stores) if place == "tables" else None
    async with world(tmp_path, store=stores) as here:
        theirs, ours = (here.stands(STORAGE, id=f"/subscriptions/{DEV}/resourceGroups/rg-ai-dev/providers/{STORAGE}/{name}")
                        for name in ("sttheirs", "stours"))
        for id in (theirs, ours):
            here.write("PATCH", id, {"tags": {"seen": "once"}})
        await here.settle()
        await version(here, theirs, V + 1, look="look" in rows)
        left = await rows_of(here, theirs)
        here.write("PATCH", ours, OPEN)
        await here.settle()
        here.write("PATCH", theirs, OPEN)
        with pytest.raises(Held) if "look" in rows else nullcontext():
            await here.settle()         # the event goes back to its queue
        for _ in range(3):
            await here.guardrail.tend()
            here.clock.forward(60)
            await here.guardrail.settle()
        assert [line.path for line in here.ours] == [ours]
        now = await rows_of(here, theirs)
        assert now["case"] == left["case"]
        assert now["look"] == left["look"] or "look" not in rows
        await version(here, theirs, V, look="look" in rows)
        await here.forward(120)
        assert [line.path for line in here.ours] == [ours, theirs]
        assert (await here.case(theirs)).findings == frozenset()
        assert (await audit.verify_store(here.guardrail.store)).ok


async def version(here: World, id: ResourceId, v: int, *, look: bool) -> None:
    signed: Any = here.guardrail.store
    store = signed.inner
    if isinstance(store, SqliteStore):
        for table in ("cases", "looks") if look else ("cases",):
            store._db.execute(f"UPDATE {table} SET v = ? WHERE key = ?", (v, chain_key(id)))
        return
    for row in ("case", "look") if look else ("case",):
        await store._tables.change("cases", await store._tables.get("cases", chain_key(id), row), v=v)
    store._parts.seen.clear()       # what this worker saw was older


async def rows_of(here: World, id: ResourceId) -> dict[str, Any]:
    signed: Any = here.guardrail.store
    store = signed.inner
    if isinstance(store, SqliteStore):
        tables = {"case": "cases", "look": "looks"}
        return {name: store._db.execute(f"SELECT * FROM {table} WHERE key = ?", (chain_key(id),)).fetchone()
                for name, table in tables.items()}
    return {name: dict(await store._tables.get("cases", chain_key(id), name) or {}) for name in ("case", "look")}
