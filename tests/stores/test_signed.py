"""Two processes on one store, each with a key of its own: what each may say, and what it makes of what the other did not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from guardrail import app, people, wishes
from guardrail.errors import Refused, Unsafe
from guardrail.ids import ResourceId
from guardrail.policy import Rules
from guardrail.settings import Settings
from guardrail.signing import Keys, LocalKey
from guardrail.stores import HOME, Store
from guardrail.stores.signed import SignedStore
from guardrail.stores.sqlite import SqliteStore
from guardrail.values import Acceptance, Approval, Case, Look, Wish, digest
from tests.flow.harness import narrowed
from tests.flow.test_loop import OPEN, STORAGE
from tests.flow.test_people import APPROVER, ONCALL, POLICY
from tests.flow.world import PROD, World, world
from tests.stores.conftest import Clock
from tests.stores.test_contract import ACCOUNT, ACTION, AT, FULL, PLAN, record

pytestmark = pytest.mark.anyio
YES = Approval("approver", AT, PLAN.hash, "policy", "1.0")
SEEN = replace(FULL, accepted={}, acting=None, asked=replace(ACTION, state="proposed", approvals=()))


@dataclass
class Counted:
    """A key that counts what it is asked for."""

    key: LocalKey = field(default_factory=LocalKey)
    signed: int = 0

    async def sign(self, payload: bytes) -> str:
        self.signed += 1
        return await self.key.sign(payload)

    async def verify(self, payload: bytes, signature: str) -> bool:
        return await self.key.verify(payload, signature)


@dataclass
class Parts:
    path: Path
    clock: Clock
    front_key: Counted
    hands_key: Counted
    front: SignedStore
    hands: SignedStore


@pytest.fixture
def parts(tmp_path: Path, clock: Clock) -> Iterator[Parts]:
    path, front, hands = tmp_path / "guardrail.db", Counted(), Counted()
    with closing(SqliteStore(path, clock, durable=False)) as one, closing(SqliteStore(path, clock, durable=False)) as other:
        yield Parts(path, clock, front, hands, SignedStore(one, Keys(front, hands, "front"), clock),
                    SignedStore(other, Keys(front, hands, "hands"), clock))


async def test_what_has_not_changed_is_not_signed_again(parts: Parts) -> None:
    """A clean event asks no key for anything, whatever lies in the row."""
    case = await parts.hands.commit(SEEN, record())
    assert parts.hands_key.signed == 2      # the case and its action
    for _ in range(3):
        case, _look = await parts.hands.load(ACCOUNT)
        await parts.hands.commit(replace(case, due=AT, stuck=""), record())
    assert (parts.hands_key.signed, parts.front_key.signed) == (2, 0)
    case, _look = await parts.front.load(ACCOUNT)
    assert case.asked is not None and case.forged == ()
    moved = replace(case, asked=None, acting=replace(case.asked, state="approved", approvals=(YES,), expires=None, why="yes"))
    await parts.front.commit(moved)
    assert (parts.hands_key.signed, parts.front_key.signed) == (2, 1)
    case, _look = await parts.hands.load(ACCOUNT)
    assert case.forged == () and case.acting is not None and case.acting.approvals[0].signature


@pytest.mark.threat("C2")
@pytest.mark.parametrize("change", [
    lambda case: replace(case, actors=("nobody",)), lambda case: replace(case, good={}),
    lambda case: replace(case, findings=frozenset()), lambda case: replace(case, reported=case.findings),
    lambda case: replace(case, incarnation="another"), lambda case: replace(case, distrusted=AT),
    lambda case: replace(case, asked=replace(case.asked, caused_by=())),
    lambda case: replace(case, asked=replace(case.asked, needs=0)),
    lambda case: replace(case, asked=replace(case.asked, mode="enforce")),
    lambda case: replace(case, acting=replace(ACTION, id="act-new")),
], ids=["actors", "good", "findings", "reported", "incarnation", "distrusted", "caused by", "needs", "mode", "a new action"])
async def test_front_changes_nothing_that_only_hands_may_say(change: Callable[[Case], Case], parts: Parts) -> None:
    await parts.hands.commit(SEEN)
    case, _look = await parts.front.load(ACCOUNT)
    with pytest.raises(Unsafe):
        await parts.front.commit(change(case))
    assert (await parts.hands.load(ACCOUNT))[0] == case


@pytest.mark.threat("C1")
@pytest.mark.parametrize("change", [
    lambda case: replace(case, asked=replace(case.asked, approvals=(YES,))),
    lambda case: replace(case, wishes=(Wish("undo", "oncall", AT, "x"),)),
    lambda case: replace(case, accepting={"": Acceptance("approver", AT, "h")}),
], ids=["approval", "wish", "acceptance"])
async def test_hands_say_nothing_for_people(change: Callable[[Case], Case], parts: Parts) -> None:
    case = await parts.hands.commit(SEEN)
    with pytest.raises(Unsafe):
        await parts.hands.commit(change(case))


@pytest.mark.threat("C1", "C2")
async def test_a_front_in_strange_hands_speaks_for_people_and_not_for_hands(parts: Parts) -> None:
    """Who has front's key signs whatever they like with it: hands take none of it for their own."""
    key = parts.front_key
    with closing(SqliteStore(parts.path, parts.clock)) as inner:
        stolen = SignedStore(inner, Keys(key, key, "all"), parts.clock)
        await stolen.commit(replace(SEEN, acting=replace(ACTION, mode="enforce", approvals=()), asked=None))
    case, _look = await parts.hands.load(ACCOUNT)
    assert case.forged == ("action act-4f7c21d09b3e", "case")
    assert (case.asked, case.acting, case.good, case.actors, case.distrusted) == (None, None, {}, ("?",), AT)


async def test_a_row_that_front_began_claims_nothing(parts: Parts) -> None:
    """Somebody asks for a look at what hands never saw: a row without a seal of theirs, and none that they mistrust."""
    await parts.front.commit(Case(ACCOUNT), record("wish.made"))
    case, _look = await parts.hands.load(ACCOUNT)
    assert case.forged == () and case.actors == ()
    case = await parts.hands.commit(replace(case, actors=("someone",)))
    assert (await parts.front.load(ACCOUNT))[0] == case
    with closing(sqlite3.connect(parts.path, isolation_level=None)) as db:      # and nobody else begins one anew
        body = json.loads(db.execute("SELECT body FROM cases").fetchone()[0])
        db.execute("UPDATE cases SET body = ?", (json.dumps({"v": 1, "seal": body["seal"]}),))
        assert (await parts.hands.load(ACCOUNT))[0].forged == ("case",)
        db.execute("UPDATE cases SET body = ?", (json.dumps({"v": 1}),))
        assert (await parts.hands.load(ACCOUNT))[0].forged == ("case",)


@pytest.mark.threat("C2", "A11")
async def test_what_people_accepted_is_bound_to_its_value_and_its_life(parts: Parts) -> None:
    """Both said yes, to the logs as they stood in one life: moved to anything else their words are worth nothing."""
    case = await parts.hands.commit(replace(SEEN, asked=None))
    case, _look = await parts.front.load(ACCOUNT)
    logs = digest(case.good["+diagnosticSettings"])
    both = (Acceptance("approver", AT, logs), Acceptance("oncall", AT, logs))
    case = await parts.front.commit(replace(case, accepted={"+diagnosticSettings": both}))
    case, _look = await parts.hands.load(ACCOUNT)
    assert case.accepted.keys() == {"+diagnosticSettings"} and case.forged == ()
    (first, second) = case.accepted["+diagnosticSettings"]
    good = {**case.good, "+diagnosticSettings": [{"name": "another"}]}
    others = [replace(case, good=good), replace(case, incarnation="another"), replace(case, accepted={"": (first, second)}),
              replace(case, accepted={"+diagnosticSettings": (first, first)})]
    for other in others:
        await parts.hands.commit(replace(other, etag=(await parts.hands.load(ACCOUNT))[0].etag))
        found, _look = await parts.hands.load(ACCOUNT)
        assert found.accepted == {} and len(found.forged) == 1


async def test_both_may_set_the_rules_and_nobody_else(parts: Parts) -> None:
    first = await parts.front.set_rules(replace(await parts.front.rules(), switch="policy"))
    second = await parts.hands.set_rules(replace(await parts.hands.rules(), switch="approve"))
    assert (first.generation, second.generation, await parts.front.rules()) == (1, 2, second)
    stranger = LocalKey()
    with closing(SqliteStore(parts.path, parts.clock)) as inner:
        other = SignedStore(inner, Keys(stranger, stranger), parts.clock)
        await other.set_rules(Rules(switch="policy", generation=2))
    assert await parts.front.rules() == Rules(generation=3, forged=True)
    third = await parts.front.set_rules(replace(await parts.front.rules(), switch="report"))
    assert third.generation == 4 and await parts.hands.rules() == third


@pytest.mark.threat("C5")
async def test_nobody_takes_a_scope_out_of_the_switch(parts: Parts) -> None:
    await parts.front.set_rules(replace(await parts.front.rules(), switch="policy", scoped={str(ACCOUNT).lower(): "report"}))
    assert (await parts.hands.rules()).scoped == {str(ACCOUNT).lower(): "report"}
    with closing(sqlite3.connect(parts.path, isolation_level=None)) as db:
        body = json.loads(db.execute("SELECT body FROM state WHERE name = 'rules'").fetchone()[0])
        db.execute("UPDATE state SET body = ? WHERE name = 'rules'", (json.dumps({**body, "scoped": {}}),))
    assert await parts.hands.rules() == Rules(generation=1, forged=True)


async def test_rules_signed_by_a_slow_clock_are_still_the_newest(parts: Parts) -> None:
    first = await parts.front.set_rules(await parts.front.rules())
    parts.clock.now -= timedelta(seconds=30)
    second = await parts.hands.set_rules(replace(await parts.hands.rules(), switch="approve"))
    assert first.at is not None and second.at is not None and second.at > first.at
    assert await parts.front.rules() == second


# Older rows

async def old_store(path: Path, clock: Clock) -> None:
    """As the release before kept it: nothing signed, and acceptances without people."""
    with closing(SqliteStore(path, clock)) as store:
        await store.commit(FULL, record())
        await store.set_rules(Rules(switch="policy"))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        body = json.loads(db.execute("SELECT body FROM cases WHERE resource = ?", (ACCOUNT,)).fetchone()[0])
        body.update(accepted=["+diagnosticSettings"], accepting={"": ["hash", "approver"]})
        for name in ("seal", "distrusted"):
            body.pop(name)
        db.execute("UPDATE cases SET body = ? WHERE resource = ?", (json.dumps(body), ACCOUNT))
        rules = json.loads(db.execute("SELECT body FROM state WHERE name = 'rules'").fetchone()[0])
        for name in ("at", "signature", "forged"):
            rules.pop(name)
        db.execute("UPDATE state SET body = ? WHERE name = 'rules'", (json.dumps(rules),))


@asynccontextmanager
async def opened(path: Path, clock: Clock) -> Any:
    store = app.open_store(Settings(frozenset(), store=str(path)), clock)
    try:
        yield store
    finally:
        store.close()


async def test_a_file_from_before_there_was_a_key_is_taken_as_it_is_once(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "guardrail.db"
    await old_store(path, clock)
    for _ in range(2):
        async with opened(path, clock) as store:
            case, _look = await store.load(ACCOUNT)
            assert (case.forged, case.good, case.accepted) == ((), FULL.good, {})
            assert case.acting is not None and case.acting.state == "approved"
            assert (await store.rules()).switch == "policy"
    assert path.with_suffix(".key").exists()


@pytest.mark.threat("C1", "C2", "C5")
async def test_where_a_key_was_unsigned_rows_are_forged(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "guardrail.db"
    async with opened(path, clock) as store:
        await store.load(ACCOUNT)
    await old_store(path, clock)
    async with opened(path, clock) as store:
        assert (await store.load(ACCOUNT))[0].forged == ("action act-4f7c21d09b3e", "case")
        assert [one.forged async for one in store.open_cases()] == [("action act-4f7c21d09b3e", "case")]
        assert await store.rules() == Rules(generation=1, forged=True)


def test_tables_are_never_taken_as_they_are() -> None:
    assert not app._is_older_than_its_key(Settings(frozenset(), store="https://127.0.0.1:10002/account"))


# The whole of it, as two apps

@asynccontextmanager
async def two_apps(folder: Path) -> Any:
    """(world, front, hands): the world's own worker is closed, and these stand on its store."""
    async with world(folder, POLICY) as here:
        front_key, hands_key = LocalKey(), LocalKey()
        made = []
        for part in ("front", "hands"):
            (folder / "two.db").parent.mkdir(exist_ok=True)
            store: Store = SqliteStore(folder / "two.db", here.clock, durable=False)
            keys = Keys(front_key, hands_key, part)  # type: ignore[arg-type]
            one = app.build(here.guardrail.settings, store=store, keys=keys, clock=here.clock)
            one.engine.policy = here.guardrail.engine.policy
            made.append(narrowed(one))
        await here.guardrail.close()
        front, hands = made
        here.guardrail = hands
        await front.engine.set_rules(replace(await front.store.rules(), switch="policy"))
        here.clock.forward(6)
        yield here, front, hands
        await front.close()


async def asked_in(here: World) -> tuple[ResourceId, Any]:
    id = here.stands(STORAGE, subscription=PROD)
    here.write("PATCH", id, OPEN)
    await here.settle()
    waiting = (await here.case(id)).asked
    assert waiting is not None
    return id, waiting


async def test_front_decides_hands_act_and_each_believes_the_other(tmp_path: Path) -> None:
    async with two_apps(tmp_path) as (here, front, _):
        id, waiting = await asked_in(here)
        await people.approve(front.engine, id, waiting.id, waiting.plan.hash, APPROVER, "yes")
        await here.settle()
        assert [one.method for one in here.ours] == ["PATCH"]
        await wishes.wish(front.engine, id, "undo", ONCALL, "the demo needs it", waiting.id)
        here.clock.forward(10)
        await here.settle()
        back = (await here.case(id)).asked
        assert back is not None and back.asked_by == ONCALL.object_id
        await people.approve(front.engine, id, back.id, back.plan.hash, APPROVER, "yes")
        await here.settle()
        assert [one.method for one in here.ours] == ["PATCH", "PATCH"]
        assert "audit.broken" not in [*await here.events_of(id), *await here.events_of(HOME)]


@pytest.mark.threat("C2", "D1")
async def test_what_front_cannot_mend_it_leaves_to_hands(tmp_path: Path) -> None:
    """Somebody took their own name out of those who touched the resource: front lets nobody decide on that row."""
    async with two_apps(tmp_path) as (here, front, hands):
        id, waiting = await asked_in(here)
        with closing(sqlite3.connect(tmp_path / "two.db", isolation_level=None)) as db:
            body = json.loads(db.execute("SELECT body FROM cases WHERE resource = ?", (id,)).fetchone()[0])
            db.execute("UPDATE cases SET body = ? WHERE resource = ?", (json.dumps({**body, "actors": []}), id))
        for _ in range(2):
            with pytest.raises(Refused, match="hands look at it first"):
                await people.approve(front.engine, id, waiting.id, waiting.plan.hash, APPROVER, "yes")
        await here.settle()
        assert (await here.events_of(id)).count("audit.broken") == 1
        again = (await here.case(id)).asked
        assert here.ours == [] and again is not None
        await people.approve(front.engine, id, again.id, again.plan.hash, APPROVER, "yes")
        await here.settle()
        assert here.ours == [], "two are needed now"
        assert digest(again.plan) == again.plan.hash
        assert hands.store is here.guardrail.store
        await front.store.send(Look(id, "person"))
