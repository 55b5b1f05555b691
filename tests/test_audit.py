"""Whoever rewrites a record is named: chain, place, what was expected and what is there."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardrail import anchors, audit, names
from guardrail.chain import ZERO, append, follow, root
from guardrail.errors import Stale
from guardrail.ids import ResourceId
from guardrail.names import chain_key
from guardrail.stores import HOME
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Case, Record

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 24, 19, 0, tzinfo=UTC)
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ai-dev"
ACCOUNT = ResourceId(f"{GROUP}/providers/Microsoft.Storage/storageAccounts/stmltrain")
VAULT = ResourceId(f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-ai-dev")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guardrail.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, lambda: AT, durable=False)
    yield store
    store.close()


async def write(store: SqliteStore, resource: ResourceId, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        case, _ = await store.load(resource)
        at = AT + timedelta(minutes=number)
        await store.commit(case, Record("change.seen", at, "ümlaut", resource, "report", "", {"n": number}))


async def story(store: SqliteStore) -> None:
    """Chains of 8 and of 5 records, and the installation's with two anchors: over 5 and 3 records, then over all."""
    await write(store, ACCOUNT, 5)
    await write(store, VAULT, 3)
    await anchors.write(store, AT + timedelta(minutes=5))
    await write(store, ACCOUNT, 3, 5)
    await write(store, VAULT, 2, 3)
    await anchors.write(store, AT + timedelta(minutes=10))


async def lines_of(store: SqliteStore, since: datetime | None = None) -> list[bytes]:
    return [line async for line in audit.export(store, since)]


async def test_an_untouched_store_and_its_export_verify(store: SqliteStore) -> None:
    await story(store)
    await write(store, ACCOUNT, 2, 8)       # after the newest anchor
    report = await audit.verify_store(store)
    assert report == audit.verify(await lines_of(store))
    assert report.ok
    assert (report.records, report.chains, report.intact, report.anchors) == (17, 3, 3, 2)
    assert report.newest_anchor == AT + timedelta(minutes=10)


async def test_an_empty_store_verifies_as_empty(store: SqliteStore) -> None:
    report = await audit.verify_store(store)
    assert (report.ok, report.records, report.chains, report.newest_anchor) == (True, 0, 0, None)


def sql(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement, values in statements:
            assert db.execute(statement, values).rowcount > 0, statement


def recompute(path: Path, resource: ResourceId, seq: int, *, drop: bool = False) -> None:
    """What a careful forger does: rewrites (or drops) one record, then every hash after it and the case's head."""
    key = chain_key(resource)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        rows = db.execute("SELECT seq, body, hash FROM records WHERE key = ? ORDER BY seq", (key,)).fetchall()
        head = rows[seq - 2][2] if seq > 1 else ZERO
        if drop:
            db.execute("DELETE FROM records WHERE key = ? AND seq >= ?", (key, seq))
            seq -= 1
        else:
            for number, body, _ in rows[seq - 1:]:
                body = body.replace(b'"n":4', b'"n":9')
                head = follow(head, body)
                db.execute("UPDATE records SET body = ?, hash = ? WHERE key = ? AND seq = ?", (body, head, key, number))
            seq = len(rows)
        db.execute("UPDATE cases SET head = ?, seq = ? WHERE key = ?", (head, seq, key))


def swap(path: Path) -> None:
    """Gives each of the two resources the other's history, and leaves everything else in order."""
    keys = {ACCOUNT: chain_key(ACCOUNT), VAULT: chain_key(VAULT)}
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for table in ("cases", "records"):
            for old, new in ((keys[ACCOUNT], "x"), (keys[VAULT], keys[ACCOUNT]), ("x", keys[VAULT])):
                db.execute(f"UPDATE {table} SET key = ? WHERE key = ?", (new, old))
            for resource, key in keys.items():
                db.execute(f"UPDATE {table} SET resource = ? WHERE key = ?", (resource, key))


def leave_out(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        line = json.loads(db.execute("SELECT line FROM anchors WHERE number = 2").fetchone()[0])
        line["moved"] = line["moved"][1:]
        db.execute("UPDATE anchors SET line = ? WHERE number = 2", (json.dumps(line),))


KEY = chain_key(ACCOUNT)
TAMPERINGS: dict[str, tuple[Callable[[Path], None], str, int, str]] = {
    "a byte of a record": (
        lambda path: sql(path, ("UPDATE records SET body = replace(body, '\"n\":3', '\"n\":7') WHERE key = ?", (KEY,))),
        ACCOUNT, 4, "record 4 does not follow record 3"),
    "a record's hash": (
        lambda path: sql(path, ("UPDATE records SET hash = ? WHERE key = ? AND seq = 6", ("0" * 64, KEY))),
        ACCOUNT, 6, "record 6 does not follow record 5"),
    "a record from the middle": (
        lambda path: sql(path, ("DELETE FROM records WHERE key = ? AND seq = 4", (KEY,))),
        ACCOUNT, 4, "record 4 is missing"),
    "the first record": (
        lambda path: sql(path, ("DELETE FROM records WHERE key = ? AND seq = 1", (KEY,))),
        ACCOUNT, 1, "record 1 is missing"),
    "the tail": (
        lambda path: sql(path, ("DELETE FROM records WHERE key = ? AND seq >= 7", (KEY,))),
        ACCOUNT, 7, "record 7 and all after are missing"),
    "all records of a chain": (
        lambda path: sql(path, ("DELETE FROM records WHERE key = ?", (KEY,))),
        ACCOUNT, 1, "record 1 and all after are missing"),
    "two records swapped": (
        lambda path: sql(path, *(("UPDATE records SET seq = ? WHERE key = ? AND seq = ?", (new, KEY, old))
                                 for old, new in ((3, 99), (5, 3), (99, 5)))),
        ACCOUNT, 3, "record 3 does not follow record 2"),
    "the head": (
        lambda path: sql(path, ("UPDATE cases SET head = ? WHERE key = ?", ("0" * 64, KEY))),
        ACCOUNT, 8, "record 8 is not the head"),
    "a case set back": (
        lambda path: sql(path, ("UPDATE cases SET seq = 5 WHERE key = ?", (KEY,))),
        ACCOUNT, 6, "record 6 lies beyond the head"),
    "the case": (
        lambda path: sql(path, ("DELETE FROM cases WHERE key = ?", (KEY,))),
        ACCOUNT, 0, "its case is missing"),
    "a whole partition": (
        lambda path: sql(path, *((f"DELETE FROM {table} WHERE key = ?", (KEY,)) for table in ("cases", "records"))),
        ACCOUNT, 8, "the chain is missing"),
    "a chain rewritten and recomputed": (
        lambda path: recompute(path, ACCOUNT, 5), ACCOUNT, 5, "record 5 is not the one that was anchored"),
    "a tail cut and the head set back": (
        lambda path: recompute(path, ACCOUNT, 7, drop=True), ACCOUNT, 8, "record 8 was anchored and is missing"),
    "two chains swapped": (
        swap, ACCOUNT, 1, f"record 1 is one of {VAULT}"),
    "an anchor": (
        lambda path: sql(path, ("UPDATE anchors SET line = replace(line, '\"heads\":2', '\"heads\":1')", ())),
        "", 2, "anchor 2 does not follow the one before"),
    "a head left out of the newest anchor": (
        leave_out, "", 2, "the root of anchor 2 is not that of its heads"),
    "the newest anchor": (
        lambda path: sql(path, ("DELETE FROM anchors WHERE number = 2", ())),
        "", 2, "anchor 2 is not the one that was recorded"),
    "all anchors": (
        lambda path: sql(path, ("DELETE FROM anchors", ())),
        "", 1, "anchor 1 is not the one that was recorded"),
}


@pytest.mark.threat("C3", "I13")
@pytest.mark.parametrize("what", TAMPERINGS)
async def test_one_tampering_is_named(store: SqliteStore, path: Path, what: str) -> None:
    await story(store)
    tamper, resource, seq, why = TAMPERINGS[what]
    tamper(path)
    for report in (await audit.verify_store(store), audit.verify(await lines_of(store))):
        assert not report.ok
        assert (resource, seq) in [(one.resource, one.seq) for one in report.broken if why in one.why], report.broken
    assert report.intact >= report.chains - (2 if "two chains" in what else 1)


@pytest.mark.threat("C3")
async def test_two_equal_chains_swapped_before_any_anchor_are_named(store: SqliteStore, path: Path) -> None:
    """Same events, same length, each in order: only the resource in each record tells them apart."""
    for resource in (ACCOUNT, VAULT):
        case, _ = await store.load(resource)
        await store.commit(case, Record("change.seen", AT, "unknown", "", "report", "", {"n": 1}))
    swap(path)
    report = await audit.verify_store(store)
    assert {(one.resource, one.seq, one.why) for one in report.broken} == {
        (ACCOUNT, 1, f"record 1 is one of {VAULT}"), (VAULT, 1, f"record 1 is one of {ACCOUNT}")}
    assert report.intact == 0


def without_resource(path: Path) -> None:
    """Every record as the first ones were written, and every hash, head and anchor as they were then."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for key, _ in db.execute("SELECT key, seq FROM cases").fetchall():
            head = ZERO
            for seq, body in db.execute("SELECT seq, body FROM records WHERE key = ? ORDER BY seq", (key,)).fetchall():
                fields = json.loads(body)
                del fields["resource"]
                body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
                head = follow(head, body)
                db.execute("UPDATE records SET body = ?, hash = ? WHERE key = ? AND seq = ?", (body, head, key, seq))
            db.execute("UPDATE cases SET head = ? WHERE key = ?", (head, key))


@pytest.mark.threat("C3", "R38")
async def test_records_that_name_no_resource_still_verify_and_go_on(store: SqliteStore, path: Path) -> None:
    await write(store, ACCOUNT, 5)
    await write(store, VAULT, 3)
    without_resource(path)
    assert (await audit.verify_store(store)).ok
    await anchors.write(store, AT)
    await write(store, ACCOUNT, 1, 5)
    report = await audit.verify_store(store)
    assert (report.ok, report.records) == (True, 10)
    swap(path)
    assert [(one.resource, one.seq) for one in (await audit.verify_store(store)).broken] == [(ACCOUNT, 5), (VAULT, 3)]


@pytest.mark.threat("C3", "C4")
async def test_an_old_copy_is_found_by_anchors_kept_elsewhere(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    """A whole file put back, anchors included, is consistent in itself."""
    await write(store, ACCOUNT, 3)
    await anchors.write(store, AT)
    store.close()
    shutil.copy(path, tmp_path / "old.db")
    with closing(SqliteStore(path, lambda: AT)) as newer:
        await write(newer, ACCOUNT, 2, 3)
        await anchors.write(newer, AT)
        kept = list(await newer.anchors())
        assert (await audit.verify_store(newer, kept)).ok
    with closing(SqliteStore(tmp_path / "old.db", lambda: AT)) as old:
        assert (await audit.verify_store(old)).ok
        report = await audit.verify_store(old, kept)
        assert [(one.resource, one.seq) for one in report.broken if one.resource == ACCOUNT] == [(ACCOUNT, 5)]
        await anchors.write(old, AT + timedelta(hours=1))        # it goes on: another anchor 2
        report = await audit.verify_store(old, kept)
        assert "anchor 2 is not the one that was kept" in {one.why for one in report.broken}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    async def make() -> list[bytes]:
        path = tmp_path_factory.mktemp("audit") / "guardrail.db"
        with closing(SqliteStore(path, lambda: AT, durable=False)) as store:
            await story(store)
            return await lines_of(store)

    return asyncio.run(make())


@pytest.mark.threat("C3", "I13")
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_one_flipped_byte_of_any_record_breaks_its_chain_there(exported: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.sampled_from([at for at, line in enumerate(exported) if b'"record"' in line]))
    fields = json.loads(exported[at])
    body = bytearray(fields["body"].encode("utf-8", "surrogateescape"))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    fields["body"] = bytes(body).decode("utf-8", "surrogateescape")
    report = audit.verify([*exported[:at], json.dumps(fields).encode(), *exported[at + 1:]])
    place = next(one for one in report.broken if one.resource)
    assert (place.resource, place.seq) == (fields["resource"], fields["seq"])
    assert place.expected == fields["hash"]
    assert place.found not in ("", place.expected)


@pytest.mark.threat("C3")
def test_an_export_that_was_cut_off_anywhere_is_no_whole_one(exported: list[bytes]) -> None:
    for length in range(len(exported)):
        why = [str(one) for one in audit.verify(exported[:length]).broken]
        assert f"export: the export is cut off, or lines are missing: {length} are here" in why


@pytest.mark.threat("C3", "C4")
def test_an_older_export_serves_as_the_anchors_that_were_kept(exported: list[bytes]) -> None:
    raw = [json.loads(line)["line"].encode() for line in exported if b'"anchor"' in line]
    assert audit.anchor_lines(exported) == audit.anchor_lines(raw) == raw
    assert audit.verify(exported, audit.anchor_lines(exported)).ok
    changed = [line.replace(b'\\"heads\\":2', b'\\"heads\\":3') for line in exported]
    assert changed != exported
    assert not audit.verify(exported, audit.anchor_lines(changed)).ok
    for odd in (b"", b"3", b"[]", b'{"line":3}', b"[" * 100_000, b"\xff"):
        assert not audit.verify(exported, audit.anchor_lines([odd])).ok


@pytest.mark.threat("C3")
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_any_line_lost_or_doubled_is_noticed_and_nothing_raises(exported: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(exported) - 1))
    line = exported[at]
    rest = [*exported[:at], *exported[at + 1:]]
    assert not audit.verify(rest).ok
    if b'"record"' in line:
        assert not audit.verify([*exported[:at], line, *exported[at:]]).ok
    audit.verify([*rest, data.draw(st.binary(max_size=30))])


def test_a_break_is_told_in_words(exported: Sequence[bytes]) -> None:
    at = next(at for at, line in enumerate(exported) if b'"record"' in line and b"stmltrain" in line)
    report = audit.verify([*exported[:at], exported[at].replace(b'\\"n\\":0', b'\\"n\\":1'), *exported[at + 1:]])
    (place,) = report.broken
    assert str(place) == (f"stmltrain: record 1 does not follow record 0 (hash {place.found[:8]}.. "
                          f"expected {place.expected[:8]}..)")


async def test_an_export_may_begin_later(store: SqliteStore) -> None:
    await story(store)
    lines = await lines_of(store, since=AT + timedelta(minutes=4))
    report = audit.verify(lines)
    assert report.ok
    assert report.records == 4 + 1 + 2
    cut = next(at for at, line in enumerate(lines) if b'"record"' in line and b"stmltrain" in line)
    assert not audit.verify([*lines[:cut], *lines[cut + 1:]]).ok


async def test_each_day_one_anchor_holds_all_heads(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "DAILY", 4)
    await write(store, VAULT, 1)
    moved = list[int]()
    for number in range(9):
        await write(store, ACCOUNT, 1, number)
        line = json.loads(await anchors.write(store, AT))
        assert line["heads"] == (3 if number else 2)
        moved.append(len(line["moved"]))
    assert moved == [2, 2, 2, 2, 3, 2, 2, 2, 3]
    assert (await audit.verify_store(store)).ok
    assert len(await store.records(HOME)) == 9


async def test_two_anchors_at_once_are_one(store: SqliteStore, path: Path) -> None:
    await write(store, VAULT, 1)
    with closing(SqliteStore(path, lambda: AT)) as other:
        results = await asyncio.gather(anchors.write(store, AT), anchors.write(other, AT), return_exceptions=True)
    assert len(await store.anchors()) + sum(isinstance(one, Stale) for one in results) == 2
    assert (await audit.verify_store(store)).ok


@pytest.mark.threat("R40")
async def test_a_store_that_is_written_to_while_it_is_verified_is_no_alarm(store: SqliteStore, path: Path) -> None:
    await story(store)
    with closing(SqliteStore(path, lambda: AT, durable=False)) as other:
        verifier, number = audit.Verifier(), 100
        async for line in audit.export(store):
            verifier.add(line)
            number += 1
            await write(other, random.Random(number).choice([ACCOUNT, VAULT]), 1, number)
            if number % 3 == 0:
                await anchors.write(other, AT)
    assert verifier.report().broken == ()


def test_the_root_depends_on_every_head_and_on_nothing_else() -> None:
    heads = [(chain_key(ResourceId(f"{ACCOUNT}{number}")), f"{number:064x}") for number in range(11)]
    assert root(heads) == root(reversed(heads))
    assert len({root(heads[:count]) for count in range(12)}) == 12
    for at in range(len(heads)):
        assert root([*heads[:at], (heads[at][0], "f" * 64), *heads[at + 1:]]) != root(heads)


def test_ids_are_the_same_for_the_same_and_differ_else() -> None:
    upper = ResourceId(ACCOUNT.upper())
    finding = names.finding_id(ACCOUNT, "one", "storage-sftp", "properties.isSftpEnabled")
    assert finding == names.finding_id(upper, "one", "storage-sftp", "properties.isSftpEnabled")
    ids = [finding, names.finding_id(ACCOUNT, "two", "storage-sftp", "properties.isSftpEnabled"),
           names.finding_id(ACCOUNT, "one", "storage-sftp", ""), names.action_id(ACCOUNT, 1, "h"),
           names.action_id(ACCOUNT, 2, "h"), names.action_id(ACCOUNT, 1, "i"), names.record_id("ab" * 32),
           names.exemption_id("storage-sftp", ACCOUNT, "2027-01-31", "review"),
           names.exemption_id("storage-sftp", ACCOUNT, "2027-01-31", "another")]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 16 and one[:4] in ("fnd-", "act-", "rec-", "exm-") for one in ids)
    assert names.action_id(upper, 1, "h") == ids[3]


async def test_a_case_without_records_is_no_chain(store: SqliteStore) -> None:
    await store.commit(Case(ACCOUNT, stuck="x"))
    assert [chain async for chain in store.chains()] == []


@pytest.mark.threat("C3")
def test_the_page_shows_a_verifier_that_works(exported: Sequence[bytes], tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/reference/records.md").read_text("utf-8")
    program = page.partition("```python\n")[2].partition("```")[0]

    def run(lines: Sequence[bytes]) -> int:
        (tmp_path / "chain.jsonl").write_bytes(b"\n".join(lines))
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    records = [at for at, line in enumerate(exported) if b'"record"' in line]
    assert run(exported) == 0
    assert run([*exported[:records[3]], *exported[records[3] + 1:]]) == 1
    changed = exported[records[3]].replace(b'\\"v\\":1', b'\\"v\\":2')
    assert run([*exported[:records[3]], changed, *exported[records[3] + 1:]]) == 1
    assert run(exported[:-1]) == 1


def test_the_page_shows_a_record_as_it_is_stored() -> None:
    page = (Path(__file__).parents[1] / "docs/reference/records.md").read_text("utf-8")
    shown = page.partition("```json\n")[2].partition("\n")[0]
    fields = json.loads(shown)
    record = Record(fields["event"], datetime.fromisoformat(fields["at"]), *(
        fields[name] for name in ("actor", "correlation_id", "mode", "policy_hash", "detail")))
    (stored,) = append(fields["resource"], fields["seq"] - 1, "", [record])
    assert stored.body.decode() == shown


def test_the_page_explains_what_each_tampering_is_named() -> None:
    def plain(words: str) -> str:
        return re.sub(r"\d+", "N", words.partition("/subscriptions")[0])

    page = (Path(__file__).parents[1] / "docs/how-to/prove-it.md").read_text("utf-8")
    told = [plain(line) for line in re.findall(r"^\| `\w+: (.+?)` \|", page, re.MULTILINE)]
    words = {plain(why) for _, _, _, why in TAMPERINGS.values()}
    assert [one for one in sorted(words) if not any(line.startswith(one) for line in told)] == []
