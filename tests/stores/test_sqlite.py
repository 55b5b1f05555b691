"""What the file must stand: killed writers, several processes, rows of a newer version, damage."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guardrail import audit
from guardrail.errors import Held, Malformed, StoreDown
from guardrail.ids import ResourceId
from guardrail.names import chain_key
from guardrail.signing import Keys, LocalKey
from guardrail.stores import HOME, Rules
from guardrail.stores.signed import SignedStore
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Case, Look, Record

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 24, 19, 0, tzinfo=UTC)
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ai-dev"
ACCOUNT = ResourceId(f"{GROUP}/providers/Microsoft.Storage/storageAccounts/stmltrain")
RECORD = Record("change.seen", AT, "guardrail", "", "report", "", {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guardrail.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, lambda: AT, durable=False)
    yield store
    store.close()


KEY = LocalKey()


def signed(store: SqliteStore) -> SignedStore:
    return SignedStore(store, Keys(KEY, KEY), lambda: AT)


def alter(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute(statement, values).rowcount > 0


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from guardrail.errors import Stale, StoreDown
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Look, Record

async def main(path, resource, worker, count):
    store = SqliteStore(path, lambda: datetime.now(UTC), durable=False)
    print("ready", flush=True)
    sys.stdin.readline()
    done = 0
    while done < count:
        try:
            await store.send(Look(resource, "person"))
            case, look = await store.load(resource)
            record = Record("change.seen", datetime.now(UTC), worker, "", "", "", {"n": done})
            await store.commit(case, record, record, answered=look)
        except (Stale, StoreDown):
            continue
        print(done, flush=True)
        done += 1

asyncio.run(main(*sys.argv[1:4], int(sys.argv[4])))
"""


def start(path: Path, worker: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), ACCOUNT, worker, str(count)], cwd=ROOT, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.threat("R32", "R28", "I13")
async def test_a_killed_writer_loses_nothing_it_was_told_is_kept(path: Path) -> None:
    """Two processes write to one resource and are killed in the middle, twice over one file."""
    told = dict[str, int]()
    for round in range(2):
        workers = {f"{round}-{one}": start(path, f"{round}-{one}", 100_000) for one in range(2)}
        for process in workers.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in workers.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in workers.values():
            assert process.stdout is not None
            for _ in range(15):
                process.stdout.readline()
        for name, process in workers.items():
            process.send_signal(signal.SIGKILL)
            told[name] = 15 + len(process.communicate()[0].split())
    with closing(SqliteStore(path, lambda: AT)) as store:
        report = await audit.verify_store(store)
        records = [json.loads(one.body) for one in await store.records(ACCOUNT)]
        case, _ = await store.load(ACCOUNT)
    assert report.ok
    assert case.seq == len(records)
    for worker, count in told.items():
        assert [one["detail"]["n"] for one in records if one["actor"] == worker][: count * 2] == [
            number for number in range(count) for _ in range(2)]     # both records of a commit, or none


@pytest.mark.threat("R40", "R35")
async def test_processes_on_one_file_take_turns(path: Path) -> None:
    workers = [start(path, str(worker), 25) for worker in range(4)]
    outputs = [process.communicate("go\n", timeout=60)[0].split() for process in workers]
    assert [output[1:] for output in outputs] == [[str(number) for number in range(25)]] * 4
    with closing(SqliteStore(path, lambda: AT)) as store:
        report = await audit.verify_store(store)
        assert await store.load(ACCOUNT) == ((await store.load(ACCOUNT))[0], None)
    assert report.ok
    assert report.records == 4 * 25 * 2


@pytest.mark.threat("R38")
async def test_rows_of_a_newer_version_are_held_and_left_untouched(store: SqliteStore, path: Path) -> None:
    case = await store.commit(Case(ACCOUNT, stuck="x"), RECORD)
    await store.send(Look(ACCOUNT, "event"))
    for table in ("cases", "looks"):
        alter(path, f"UPDATE {table} SET v = 2")
        before = dump(path)
        with pytest.raises(Held):
            await store.load(ACCOUNT)
        with pytest.raises(Held):
            await store.commit(case, answered=Look(ACCOUNT, "event", (), 1))
        if table == "looks":
            with pytest.raises(Held):
                await store.send(Look(ACCOUNT, "person"))
        if table == "cases":
            assert ["version 2" in case.stuck async for case in store.open_cases()] == [True]
        else:
            assert [look async for look in store.looks()] == []
        assert dump(path) == before
        alter(path, f"UPDATE {table} SET v = 1")
    assert (await store.load(ACCOUNT))[0] == case


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


@pytest.mark.threat("R38")
async def test_a_file_of_a_newer_version_is_not_opened(store: SqliteStore, path: Path) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    before = dump(path)
    with pytest.raises(Held):
        SqliteStore(path, lambda: AT)
    assert dump(path) == before


@pytest.mark.threat("R38")
async def test_a_row_with_fields_of_another_release_is_read(store: SqliteStore, path: Path) -> None:
    case = await store.commit(Case(ACCOUNT, stuck="x"))
    alter(path, "UPDATE cases SET body = ?", b'{"v":1,"stuck":"x","dropped_since":[1]}')
    assert (await store.load(ACCOUNT))[0] == case


@pytest.mark.threat("C2")
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"findings":7}', b'{"acting":{"state":"approved"}}'])
async def test_a_row_that_cannot_be_read_is_malformed_not_empty(store: SqliteStore, path: Path, body: bytes) -> None:
    await store.commit(Case(ACCOUNT, stuck="x"))
    other = await store.commit(Case(ResourceId(f"{ACCOUNT}2"), stuck="y"))
    alter(path, "UPDATE cases SET body = ? WHERE key = ?", body, chain_key(ACCOUNT))
    with pytest.raises(Malformed):
        await store.load(ACCOUNT)
    opened = {case.resource: case async for case in store.open_cases()}
    assert opened.keys() == {ACCOUNT, other.resource}
    assert "cannot be read" in opened[ACCOUNT].stuck
    assert opened[other.resource] == other


@pytest.mark.threat("C8", "I4")
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"resource":"/x","why":"event"}', b'{"changes":7}'])
async def test_a_look_that_cannot_be_read_is_still_answered(store: SqliteStore, path: Path, body: bytes) -> None:
    """It reads everything, by actors that nobody knows, and holds up no other look."""
    await store.send(Look(ACCOUNT, "event"))
    await store.send(Look(ResourceId(f"{ACCOUNT}2"), "event"))
    alter(path, "UPDATE looks SET body = ? WHERE key = ?", body, chain_key(ACCOUNT))
    looks = {look.resource: look async for look in store.looks()}
    assert looks.keys() == {ACCOUNT, f"{ACCOUNT}2"}
    await store.send(Look(ACCOUNT, "due"))
    case, look = await store.load(ACCOUNT)
    assert look is not None
    if b"why" not in body:
        assert looks[ACCOUNT].why == look.why == "sweep"
        assert [change.actor for change in look.changes] == ["?"]
    await store.commit(case, answered=look)
    assert (await store.load(ACCOUNT))[1] is None


async def test_damaged_counters_fail_closed_and_intake_goes_on(store: SqliteStore, path: Path) -> None:
    assert await signed(store).take("blast", 5, 60)
    await store.reject(b"junk", "no event")
    alter(path, "UPDATE state SET body = '{'")
    assert not await signed(store).take("blast", 5, 60)
    await store.reject(b"more junk", "no event")
    assert [json.loads(one.body)["event"] for one in await store.records(HOME)] == [
        "change.rejected", "audit.broken", "change.rejected"]


@pytest.mark.threat("C2", "A7")
async def test_a_row_moved_to_another_resource_is_malformed(store: SqliteStore, path: Path) -> None:
    await store.commit(Case(ACCOUNT))
    other = ResourceId(f"{ACCOUNT}2")
    alter(path, "UPDATE cases SET key = ?", chain_key(other))
    with pytest.raises(Malformed):
        await store.load(other)


@pytest.mark.threat("C5", "R38")
@pytest.mark.parametrize("damage", [
    "body = '{'", "body = x'ff'", """body = '{"switch":"enforce"}'""", "v = 2", "body = ''"])
async def test_rules_that_cannot_be_read_only_report(store: SqliteStore, path: Path, damage: str) -> None:
    kept = await store.set_rules(Rules(switch="policy"))
    assert (await store.rules()).switch == "policy"
    alter(path, f"UPDATE state SET {damage} WHERE name = 'rules'")
    found = await store.rules()
    assert replace(found, generation=0) == Rules()
    assert found.switch == "report"
    if damage != "v = 2":       # a person sets them anew
        assert (await store.set_rules(replace(found, switch="approve"))).generation == kept.generation + 1
        assert (await store.rules()).switch == "approve"
    else:
        with pytest.raises(Held):
            await store.set_rules(found)


@pytest.mark.threat("R27")
async def test_a_store_that_does_not_answer_is_down_and_keeps_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guardrail.stores.sqlite.BUSY_S", 0.02)
    with closing(SqliteStore(path, lambda: AT)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        case = await store.commit(Case(ACCOUNT), RECORD)
        other.execute("BEGIN IMMEDIATE")
        for attempt in (store.commit(case, RECORD), store.send(Look(ACCOUNT, "event")), store.reject(b"", ""),
                        signed(store).take("a", 1, 1), store.set_rules(Rules())):
            with pytest.raises(StoreDown):
                await attempt
        assert (await store.load(ACCOUNT))[0] == case       # readers go on
        other.execute("ROLLBACK")
        await store.commit(case, RECORD)
    with pytest.raises(StoreDown):      # closed
        await store.load(ACCOUNT)
    with pytest.raises(StoreDown):
        await store.send(Look(ACCOUNT, "event"))


@pytest.mark.threat("R27", "I4")
@pytest.mark.threat("R32")
async def test_a_worker_starts_while_another_stands_still_in_the_middle_of_a_write(
        store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by the soak: it was paused, and nobody else could start."""
    monkeypatch.setattr("guardrail.stores.sqlite.BUSY_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as paused:
        paused.execute("BEGIN IMMEDIATE")
        other = SqliteStore(path, lambda: AT, durable=False)
        assert await other.load(ACCOUNT) == (Case(ACCOUNT), None)
        other.close()


async def test_a_failure_within_a_commit_leaves_nothing_of_it(store: SqliteStore, path: Path) -> None:
    await store.send(Look(ACCOUNT, "event"))
    case, look = await store.load(ACCOUNT)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TRIGGER fail BEFORE INSERT ON looks BEGIN SELECT RAISE(ABORT, 'disk'); END")
        before = list(db.iterdump())
    with pytest.raises(StoreDown):
        await store.commit(replace(case, stuck="x"), RECORD, answered=look)
    assert dump(path) == before
    assert await store.load(ACCOUNT) == (case, look)


async def test_no_file_and_no_folder_yet_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / ".run" / "guardrail.db"
    with closing(SqliteStore(path, lambda: AT)) as store:
        await store.commit(Case(ACCOUNT))
        assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(StoreDown):
        SqliteStore(tmp_path, lambda: AT)       # a folder


async def test_an_own_home_has_the_installations_chain(path: Path) -> None:
    home = ResourceId(f"{GROUP}-guardrail")
    with closing(SqliteStore(path, lambda: AT, home)) as store:
        await store.reject(b"junk", "no event")
        assert len(await store.records(home)) == 1
        assert not await store.records(HOME)
        assert [chain.resource async for chain in store.chains()] == [home]


async def test_threads_share_one_store(store: SqliteStore) -> None:
    async def take() -> int:
        return sum([await signed(store).take("a", 50, 60) for _ in range(25)])

    got = await asyncio.gather(*(asyncio.to_thread(asyncio.run, take()) for _ in range(4)))
    assert sum(got) == 50


async def test_a_file_without_the_column_of_dues_gets_it(path: Path) -> None:
    """Whatever was open is looked through once."""
    with closing(SqliteStore(path, lambda: AT)) as store:
        kept = await store.commit(Case(ACCOUNT, due=AT), RECORD)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP INDEX cases_due")
        db.execute("ALTER TABLE cases DROP COLUMN due")
    for _ in range(2):
        with closing(SqliteStore(path, lambda: AT)) as store:
            assert [case async for case in store.due()] == [kept]
            assert [one.seq for one in await store.records(ACCOUNT)] == [1]
