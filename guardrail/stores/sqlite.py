"""The store in one SQLite file, for local runs: the standard library's sqlite3, called directly.

Any number of processes may share the file (WAL; a writer waits for another up to BUSY_S). Each commit is flushed to the
disk (synchronous=FULL), but for nudges and budgets, which are flushed with the next one. With NORMAL a killed process
would lose nothing either, but a power cut would lose the last commits, and a POST whose record is lost would be sent
again. `durable=False` is for benchmarks and tests.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from guardrail.chain import append
from guardrail.errors import Held, Malformed, Stale, StoreDown
from guardrail.ids import ResourceId, fold
from guardrail.names import chain_key
from guardrail.policy import Rules, rules_from
from guardrail.stores import HOME, Chain, Rejects, StoredRecord, V, Waiting, after, empty, recorded
from guardrail.stores.rows import case_body, case_of, decode, due_at, is_open, known, look_body, look_of
from guardrail.values import Case, Look, Record, Why, to_json

BUSY_S = 5.0        # how long a writer waits for another process before StoreDown
PAGE = 200          # rows read at once where all are walked

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cases (key TEXT PRIMARY KEY, v INTEGER NOT NULL, resource TEXT NOT NULL,
    etag INTEGER NOT NULL, seq INTEGER NOT NULL, head TEXT NOT NULL, open INTEGER NOT NULL, body BLOB NOT NULL,
    due REAL);
CREATE INDEX IF NOT EXISTS cases_open ON cases (key) WHERE open;
CREATE INDEX IF NOT EXISTS cases_due ON cases (due) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS records (key TEXT NOT NULL, seq INTEGER NOT NULL, v INTEGER NOT NULL, resource TEXT NOT NULL,
    hash TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (key, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS looks (key TEXT PRIMARY KEY, v INTEGER NOT NULL, resource TEXT NOT NULL,
    generation INTEGER NOT NULL, due REAL, since REAL, tried REAL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS looks_due ON looks (due) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, v INTEGER NOT NULL, generation INTEGER NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS anchors (number INTEGER PRIMARY KEY, v INTEGER NOT NULL, line BLOB NOT NULL);
"""
# Whatever somebody wrote into the file, records come out as the bytes and texts that a verifier can name.
_RECORDS = """SELECT seq, CAST(body AS BLOB), CAST(hash AS TEXT) FROM records WHERE key = ? AND seq > ? ORDER BY seq"""
_ANCHORS = "SELECT CAST(line AS BLOB) FROM anchors ORDER BY number DESC LIMIT ?"
_OPEN = """SELECT key, v, resource, etag, seq, head, body FROM cases WHERE open AND key > :last
    ORDER BY key LIMIT :page"""
_KNOWN = "SELECT key, resource FROM cases WHERE key > :last ORDER BY key LIMIT :page"
_DUE = """SELECT key, v, resource, etag, seq, head, body FROM cases INDEXED BY cases_due
    WHERE due <= :now AND key > :last
    ORDER BY key LIMIT :page"""
# Keys with records are found by jumping from one to the next; a case may lack its records, and records their case.
_CHAINS = """WITH RECURSIVE
    recorded(key) AS (SELECT min(key) FROM records WHERE key > :last UNION ALL
        SELECT (SELECT min(key) FROM records WHERE key > recorded.key) FROM recorded WHERE key IS NOT NULL LIMIT :page),
    known(key) AS (SELECT key FROM cases WHERE seq > 0 AND key > :last ORDER BY key LIMIT :page),
    keys(key) AS (SELECT key FROM recorded WHERE key IS NOT NULL UNION SELECT key FROM known ORDER BY 1 LIMIT :page)
    SELECT keys.key, coalesce(c.resource, (SELECT resource FROM records AS r WHERE r.key = keys.key LIMIT 1)),
        coalesce(c.seq, 0), CAST(coalesce(c.head, '') AS TEXT)
    FROM keys LEFT JOIN cases AS c ON c.key = keys.key ORDER BY keys.key"""


class SqliteStore:
    """A Store (guardrail.stores.Store). `home`: the installation's own case; `clock`: the time in UTC.

    `tells`: events whose records wait in the case's outbox until people were told.
    """

    skew_s = 0.0        # one machine, one clock

    def __init__(self, path: str | Path, clock: Callable[[], datetime], home: ResourceId = HOME, *,
                 durable: bool = True, tells: Set[str] = frozenset()) -> None:
        self._home, self._clock, self._lock, self._tells = home, clock, threading.Lock(), tells
        self._durable = durable
        try:
            if str(path) != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).touch(mode=0o600)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise StoreDown(f"store {path}: {error}") from error
        try:
            self._open("FULL" if durable else "NORMAL")
        except BaseException:
            self._db.close()
            raise

    def _open(self, synchronous: str) -> None:
        with self._reading() as db:
            for left in range(99, -1, -1):      # the change to WAL does not wait for others as everything else does
                try:
                    db.execute("PRAGMA journal_mode = WAL")
                    break
                except sqlite3.OperationalError:
                    if not left:
                        raise
                    time.sleep(0.01)
            db.execute(f"PRAGMA synchronous = {synchronous}")
            db.execute("PRAGMA wal_autocheckpoint = 4000")      # pages: fewer, larger pauses
            newest = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'cases_due'").fetchone()
            if newest and db.execute("PRAGMA user_version").fetchone()[0] == V:
                return      # a start writes nothing: another process may hold the writer's lock, and stand still
        with self._writing() as db:
            if (found := db.execute("PRAGMA user_version").fetchone()[0]) > V:
                raise Held(f"the store is of version {found}, this program knows {V}: nothing is touched")
            columns = {row[1] for row in db.execute("PRAGMA table_info(cases)")}
            if columns and "due" not in columns:        # a file of before there was one: everything open is due once
                db.execute("ALTER TABLE cases ADD COLUMN due REAL")
                db.execute("UPDATE cases SET due = 0 WHERE open")
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {V}")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise StoreDown(f"store: {error}") from error

    @contextmanager
    def _writing(self, *, flushed: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, with the writer's lock from its start: what is read in it still stands when it commits.

        `flushed` False: it reaches the disk with the next one that is, in order; for what a power cut may take back.
        """
        lazy = self._durable and not flushed
        with self._reading() as db:
            if lazy:
                db.execute("PRAGMA synchronous = NORMAL")
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            finally:
                if lazy:
                    db.execute("PRAGMA synchronous = FULL")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # cases and records

    async def load(self, resource: ResourceId) -> tuple[Case, Look | None]:
        with self._reading() as db:
            row = db.execute(
                "SELECT c.v, c.resource, c.etag, c.seq, c.head, c.body, l.v, l.due, l.generation, l.body "
                "FROM (SELECT ? AS key) AS k "
                "LEFT JOIN cases AS c ON c.key = k.key LEFT JOIN looks AS l ON l.key = k.key",
                (chain_key(resource),)).fetchone()
        case = Case(resource) if row[0] is None else _case(*row[:6])
        if fold(case.resource) != fold(resource):
            raise Malformed(f"the row of {resource} is one of {case.resource}")
        known(row[6] or V, "look", resource)
        return case, None if row[7] is None else look_of(resource, *row[8:])

    async def commit(self, case: Case, *records: Record, answered: Look | None = None,
                     again_s: float | None = None, why: Why = "due") -> Case:
        key, now = chain_key(case.resource), self._clock().timestamp()
        with self._writing() as db:
            row = db.execute("SELECT v, etag, seq, head FROM cases WHERE key = ?", (key,)).fetchone() or (V, "", 0, "")
            known(row[0], "case", case.resource)
            if str(row[1]) != case.etag:
                raise Stale(f"the case of {case.resource} is at {row[1] or 'none'}, not {case.etag or 'none'}")
            case = replace(case, seq=row[2], head=row[3], etag=str(int(row[1] or 0) + 1))
            case = self._put(db, key, case, records)
            if answered or again_s is not None:
                waiting = after(_waiting(db, key, case.resource), case.resource, answered, again_s, now, why)
                if waiting:
                    _put_waiting(db, key, waiting)
        return case

    async def records(self, resource: ResourceId, after: int = 0) -> Sequence[StoredRecord]:
        with self._reading() as db:
            rows = db.execute(_RECORDS, (chain_key(resource), after)).fetchall()
        return [StoredRecord(*row) for row in rows]

    async def open_cases(self) -> AsyncIterator[Case]:
        async for _, *row in self._pages(_OPEN):
            yield _readable(*row)

    async def known(self) -> AsyncIterator[ResourceId]:
        async for _, resource in self._pages(_KNOWN):
            yield ResourceId(resource)

    async def due(self) -> AsyncIterator[Case]:
        async for _, *row in self._pages(_DUE):
            yield _readable(*row)

    async def chains(self, since: datetime | None = None) -> AsyncIterator[Chain]:
        async for _, resource, seq, head in self._pages(_CHAINS):
            yield Chain(ResourceId(resource), seq, head)

    async def _pages(self, query: str) -> AsyncIterator[tuple[Any, ...]]:
        """All rows of `query` by their key, which comes first; the lock is free between pages."""
        last, now = "", self._clock().timestamp()
        while True:
            with self._reading() as db:
                rows = db.execute(query, {"last": last, "page": PAGE, "now": now}).fetchall()
            for row in rows:
                yield row
            if len(rows) < PAGE:
                return
            last = rows[-1][0]

    def _record(self, db: sqlite3.Connection, records: Sequence[Record]) -> None:
        """Into the installation's chain, inside a transaction."""
        key = chain_key(self._home)
        row = db.execute("SELECT v, resource, etag, seq, head, body FROM cases WHERE key = ?", (key,)).fetchone()
        case = _case(*row) if row else Case(self._home)
        self._put(db, key, replace(case, etag=str(int(case.etag or 0) + 1)), records)

    def _put(self, db: sqlite3.Connection, key: str, case: Case, records: Sequence[Record]) -> Case:
        """Records and the row of their case, inside a transaction."""
        stored = append(case.resource, case.seq, case.head, records)
        db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)",
                       [(key, one.seq, V, case.resource, one.hash, one.body) for one in stored])
        case = recorded(case, stored, records, self._tells)
        db.execute("INSERT OR REPLACE INTO cases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                   (key, V, case.resource, int(case.etag), case.seq, case.head, is_open(case), case_body(case), due_at(case)))
        return case

    # looks

    async def looks(self) -> AsyncIterator[Look]:
        with self._reading() as db:
            rows = db.execute("SELECT resource, generation, body FROM looks WHERE due <= ? AND v = ? ORDER BY due",
                              (self._clock().timestamp(), V)).fetchall()
        for row in rows:
            yield look_of(*row)

    async def send(self, look: Look, delay_s: float = 0) -> None:
        key, now = chain_key(look.resource), self._clock().timestamp()
        with self._writing(flushed=look.why != "due") as db:        # a nudge: the case's own `due` is the truth
            waiting = _waiting(db, key, look.resource) or empty(look.resource)
            _put_waiting(db, key, waiting.sent(look, now, delay_s))

    async def early(self, resource: ResourceId) -> bool:
        return False        # there are no messages

    async def nudge(self) -> None:
        """Nothing to do: who takes looks from here asks for the due ones."""

    # the installation's state

    async def reject(self, raw: bytes, why: str) -> None:
        with self._writing() as db:
            row = self._state(db, "rejects")
            try:
                rejects = decode(row[1], Rejects, "rejects") if row else Rejects()
            except Malformed:
                rejects = Rejects()
            rejects, record = rejects.add(raw, why, self._clock())
            self._set_state(db, "rejects", 0, rejects)
            if record:
                self._record(db, [record])

    async def budget(self, name: str) -> tuple[str, bytes]:
        with self._reading() as db:
            row = self._state(db, f"taken {name}")
        return (str(row[0]), row[1]) if row else ("", b"")

    async def set_budget(self, name: str, body: bytes, etag: str) -> str:
        with self._writing(flushed=False) as db:        # the commit that precedes any request flushes it
            row = self._state(db, f"taken {name}")
            if etag != (str(row[0]) if row else ""):
                return ""
            generation = row[0] + 1 if row else 1
            db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)", (f"taken {name}", V, generation, body))
        return str(generation)

    async def rules(self) -> Rules:
        try:
            with self._reading() as db:
                row = self._state(db, "rules")
        except Held:
            row = None
        return replace(rules_from(row[1]), generation=row[0]) if row else rules_from(None)

    async def set_rules(self, rules: Rules, *records: Record) -> Rules:
        with self._writing() as db:
            row = self._state(db, "rules")
            if rules.generation != (row[0] if row else 0):
                raise Stale("the rules were changed by another")
            rules = replace(rules, generation=rules.generation + 1)
            self._set_state(db, "rules", rules.generation, rules)
            self._record(db, records)
        return rules

    async def anchors(self, last: int = 0) -> Sequence[bytes]:
        with self._reading() as db:
            rows = db.execute(_ANCHORS, (last or -1,)).fetchall()
        return [row[0] for row in reversed(rows)]

    async def add_anchor(self, number: int, line: bytes, *records: Record) -> None:
        with self._writing() as db:
            newest = db.execute("SELECT coalesce(max(number), 0) FROM anchors").fetchone()[0]
            if number != newest + 1:
                raise Stale(f"anchor {newest} is the newest, so {number} cannot follow")
            db.execute("INSERT INTO anchors VALUES (?, ?, ?)", (number, V, line))
            self._record(db, records)

    def _state(self, db: sqlite3.Connection, name: str) -> tuple[int, bytes] | None:
        row = db.execute("SELECT v, generation, body FROM state WHERE name = ?", (name,)).fetchone()
        known(row[0] if row else V, name, self._home)
        return (row[1], row[2]) if row else None

    def _set_state(self, db: sqlite3.Connection, name: str, generation: int, value: Any) -> None:
        db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)", (name, V, generation, to_json(value)))


def _case(v: int, resource: str, etag: int, seq: int, head: str, body: bytes) -> Case:
    return case_of(v, resource, str(etag), seq, head, body)


def _readable(*row: Any) -> Case:
    """The case, or one that says why it cannot be read: one bad row hides no other, nor itself."""
    try:
        return _case(*row)
    except (Held, Malformed) as error:
        return Case(ResourceId(row[1]), stuck=str(error))


def _waiting(db: sqlite3.Connection, key: str, resource: ResourceId) -> Waiting | None:
    row = db.execute("SELECT v, generation, body, due, since, tried FROM looks WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    known(row[0], "look", resource)
    return Waiting(look_of(resource, row[1], row[2]), *row[3:])


def _put_waiting(db: sqlite3.Connection, key: str, waiting: Waiting) -> None:
    look = waiting.look
    db.execute("INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
               (key, V, look.resource, look.generation, waiting.due, waiting.since, waiting.tried,
                look_body(look)))
