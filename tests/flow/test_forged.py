"""Whoever can write to the store, and not sign, gets nothing written to Azure: C1, C2, C4, C5 of the threats.

The attacker writes with SQL into the very file; what the guardrail then does is read from the simulator's log.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guardrail import people, switches, wishes
from guardrail.errors import Refused, StoreDown
from guardrail.ids import ResourceId
from guardrail.names import chain_key
from guardrail.stores import HOME
from guardrail.values import Look, digest
from tests.flow.harness import STORAGE, Crash, at, restart
from tests.flow.test_baselines import GROUPS, LOGS, NOTHING_DECLARED
from tests.flow.test_baselines import clean as clean_vault
from tests.flow.test_loop import OPEN
from tests.flow.test_people import APPROVER, GROUP, ONCALL, POLICY, asked, person
from tests.flow.world import World, world

pytestmark = pytest.mark.anyio
Body = dict[str, Any]
APPLYING = "CAST(body AS TEXT) LIKE '%action.applying%'"


class Attacker:
    """Has the file: reads and writes any row of it, and can put the whole of it back."""

    def __init__(self, here: World, folder: Path, id: ResourceId) -> None:
        self.here, self.id, self.document = here, id, here.show(id)
        self.db = sqlite3.connect(folder / "guardrail.db", isolation_level=None)
        self.copy = sqlite3.connect(":memory:")
        self.db.backup(self.copy)

    def body(self) -> Body:
        found = self.db.execute("SELECT body FROM cases WHERE key = ?", (chain_key(self.id),)).fetchone()
        return dict(json.loads(found[0]))

    def write(self, body: Body) -> None:
        self.db.execute("UPDATE cases SET body = ?, open = 1 WHERE key = ?", (json.dumps(body), chain_key(self.id)))

    def put_back(self) -> None:
        """Store and resource are as they were at the beginning, no read was spent, nothing told and no budget seen."""
        self.here.guardrail.engine.arm._budgets.clear()
        self.here.guardrail.engine.told.clear()
        store: Any = self.here.guardrail.store
        store._budgets._seen.clear()
        store._told.clear()
        self.copy.backup(self.db)
        self.here.sim.mutate(self.id, lambda _: self.document)

    async def outcome(self, seconds: float = 0) -> tuple[list[Any], list[str]]:
        """(what the guardrail then wrote to Azure, what it paged)."""
        writes, pages = len(self.here.ours), len(await self.pages())
        await self.here.guardrail.store.send(Look(self.id, "person"))
        await self.here.settle()
        if seconds:
            await self.here.forward(seconds)
        return [(one.method, one.path, one.body) for one in self.here.ours[writes:]], (await self.pages())[pages:]

    async def pages(self) -> list[str]:
        found = [one for id in (self.id, HOME) for one in await self.here.records(id) if one["event"] == "audit.broken"]
        return [what for one in found for what in one["detail"]["what"]]


async def approved(here: World) -> ResourceId:
    """A plan that the right person approved, and that nobody has carried out yet."""
    id, action = await asked(here)
    await people.approve(here.guardrail.engine, id, action.id, action.plan.hash, APPROVER, "yes")
    return id


async def proposed(here: World) -> ResourceId:
    return (await asked(here))[0]


async def failed(here: World) -> ResourceId:
    """Approved, and Azure refused it."""
    id = await approved(here)
    here.sim.faults.lock(id, "ReadOnly")
    await here.settle()
    here.sim.faults.clear()
    case = await here.case(id)
    assert case.acting is not None and case.acting.state == "failed"
    return id


async def applying(here: World) -> ResourceId:
    """Approved, recorded as being carried out, and then the worker died before it sent anything."""
    id = await approved(here)

    def die() -> None:
        raise Crash

    at(here.guardrail, "arm.send", "before", die)
    with pytest.raises(Crash):
        await here.settle()
    await restart(here, POLICY)
    here.clock.forward(301)
    return id


async def clean(here: World) -> ResourceId:
    """Where drift is mended at once, looked at while it was good."""
    id = here.stands(STORAGE)
    await here.guardrail.store.send(Look(id, "person"))
    await here.settle()
    here.clock.forward(60)
    return id


async def drifted(here: World) -> ResourceId:
    """The same, and drifted since, which nobody has noticed."""
    id = await clean(here)
    here.sim.mutate(id, lambda body: {**body, "properties": {**body["properties"], **OPEN["properties"]}})
    return id


@asynccontextmanager
async def attacked(folder: Path, state: Callable[[World], Any], policy: str = POLICY) -> AsyncIterator[Attacker]:
    async with world(folder, policy) as here:
        id = await state(here)
        await here.guardrail.tend()
        one = Attacker(here, folder, id)
        try:
            yield one
        finally:
            one.db.close()
            one.copy.close()


# C1: who has the store approves

def to_act(body: Body, state: str, **change: Any) -> Body:
    action = {**(body["asked"] or body["acting"]), "state": state, "expires": None, **change}
    return {**body, "asked": None, "acting": action}


def yes(body: Body, **change: Any) -> Body:
    plan = digest_of(body["asked"])
    return {"by": APPROVER.object_id, "at": "2026-11-24T19:00:00Z", "plan": plan, "policy_hash": "", "version": "0.1.0",
            "signature": "0123456789abcdef." + "A" * 86, **change}


def digest_of(action: Body) -> str:
    return digest(action["plan"])


FORGERIES: Mapping[str, Callable[[Body], Body]] = {
    **{f"its state is {state}": lambda body, state=state: to_act(body, state)  # type: ignore[misc]
       for state in ("approved", "applying", "applied")},
    "approved by nobody's signature": lambda body: to_act(body, "approved", approvals=[yes(body)]),
    "approved without a signature": lambda body: to_act(body, "approved", approvals=[yes(body, signature="")]),
    "approved by what is no signature": lambda body: to_act(body, "approved", approvals=[yes(body, signature="x.\n")]),
    "half approved": lambda body: {**body, "asked": {**body["asked"], "approvals": [yes(body)]}},
    "to be enforced": lambda body: to_act(body, "approved", mode="enforce"),
    "nobody is needed": lambda body: to_act(body, "approved", needs=0),
    "asked for by a person": lambda body: to_act(body, "approved", asked_by=APPROVER.object_id),
    "another id": lambda body: to_act(body, "approved", id="act-000000000000"),
    "a plan of its own": lambda body: to_act(body, "applying", mode="enforce", plan={
        **body["asked"]["plan"], "edits": [{"path": "properties.minimumTlsVersion", "before": "TLS1_2", "after": "TLS1_0"}]}),
    "an undo": lambda body: to_act(body, "approved", plan={**body["asked"]["plan"], "kind": "undo"}),
    "its seal is gone": lambda body: to_act(body, "approved", seal=""),
    "a quarantine is wished": lambda body: {**body, "wishes": [
        {"what": "quarantine", "by": ONCALL.object_id, "at": "2026-11-24T19:00:00Z", "reason": "x", "action": ""}]},
}


@pytest.mark.threat("C1")
async def test_nobody_approves_by_writing_rows(tmp_path: Path) -> None:
    """Whatever is made of a plan that waits: nothing is written, somebody is paged, and people may still decide."""
    async with attacked(tmp_path, proposed) as attacker:
        for name, forge in FORGERIES.items():
            attacker.write(forge(attacker.body()))
            writes, pages = await attacker.outcome()
            assert writes == [], name
            assert pages, name
            attacker.put_back()
        assert await attacker.outcome() == ([], [])
        waiting = (await attacker.here.case(attacker.id)).asked
        assert waiting is not None
        await people.approve(attacker.here.guardrail.engine, attacker.id, waiting.id, waiting.plan.hash, APPROVER, "yes")
        assert [one[0] for one in (await attacker.outcome())[0]] == ["PATCH"]


@pytest.mark.threat("C1")
async def test_a_yes_to_one_plan_is_none_to_another(tmp_path: Path) -> None:
    """An approval that a person did sign, copied to what others ask for on the same resource."""
    async with attacked(tmp_path, proposed) as attacker:
        here, id = attacker.here, attacker.id
        action = (await here.case(id)).asked
        assert action is not None
        await people.approve(here.guardrail.engine, id, action.id, action.plan.hash, APPROVER, "yes")
        signed = attacker.body()["acting"]["approvals"]
        await here.settle()
        here.clock.forward(60)
        here.write("PATCH", id, OPEN)
        await here.settle()
        attacker.write(to_act(attacker.body(), "approved", approvals=signed))
        writes, pages = await attacker.outcome()
        assert (writes, len(pages)) == ([], 1)
        assert pages[0].startswith("approval of act-")


@pytest.mark.threat("D13", "R21")
@pytest.mark.parametrize(("hours", "method"), [(3.9, "PATCH"), (4.1, "")])
async def test_an_approval_that_is_too_old_binds_nobody(hours: float, method: str, tmp_path: Path) -> None:
    """Held by the switch until its time is over: what people said yes to then is asked for again. Critical: four hours."""
    async with attacked(tmp_path, proposed) as attacker:
        here, id = attacker.here, attacker.id
        await here.rules(switch="report")
        await here.rules(switch="policy")
        action = (await here.case(id)).asked
        assert action is not None
        await people.approve(here.guardrail.engine, id, action.id, action.plan.hash, APPROVER, "yes")
        await here.rules(switch="report")
        await here.forward(hours * 3600, step=1800)
        assert here.ours == []
        await here.rules(switch="policy")
        writes, pages = await attacker.outcome()
        assert ([one[0] for one in writes], pages) == ([method] if method else [], [])
        again = (await here.case(id)).asked
        assert (again is None) == bool(method)


async def test_after_a_forgery_nothing_acts_by_itself_until_it_was_seen_clean(tmp_path: Path) -> None:
    """Where drift is mended at once: while what is known of the resource is not ours, people are asked, two of them."""
    async with attacked(tmp_path, clean) as attacker:
        here, id = attacker.here, attacker.id
        attacker.write({**attacker.body(), "actors": ["nobody"]})
        here.write("PATCH", id, OPEN)
        await here.settle()
        case = await here.case(id)
        assert here.ours == [] and case.asked is not None and case.distrusted is not None
        assert await attacker.pages() == ["case"]
        await people.approve(here.guardrail.engine, id, case.asked.id, case.asked.plan.hash, APPROVER, "yes", GROUP)
        await here.settle()
        assert here.ours == [], "nobody knows who did it: one person is not enough"
        waiting = (await here.case(id)).asked
        assert waiting is not None
        await people.approve(here.guardrail.engine, id, waiting.id, waiting.plan.hash, ONCALL, "yes", GROUP)
        await here.settle()
        assert [one.method for one in here.ours] == ["PATCH"]
        here.clock.forward(60)
        await here.guardrail.store.send(Look(id, "person"))
        await here.settle()
        assert (await here.case(id)).distrusted is None
        here.clock.forward(900)     # nobody knows how often it was written: the flapping breaker counts as tripped
        here.write("PATCH", id, OPEN)
        await here.settle()
        assert [one.method for one in here.ours] == ["PATCH", "PATCH"]


# C2: any field of any row

DELAYS = {"state", "leased_until", "stuck", "due", "missing", "busy_since"}
"""Of these a change can hold something up, and needs no page for it: nothing is written for it."""


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a row; of whole documents in it, only the uppermost."""
    yield at
    if {"good", "expects"} & set(at) and len(at) > 2:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*at, name))
    elif isinstance(value, list) and value:     # its items are alike
        yield from leaves(value[0], (*at, 0))


def changed(value: Any, at: tuple[Any, ...]) -> Any:
    """The same with another value of the same kind at that place."""
    if at:
        copy = value.copy()
        copy[at[0]] = changed(value[at[0]], at[1:])
        return copy
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str() if value[4:5] == "-" and value.endswith("Z"):
            return value.replace("2026", "2027")
        case str():
            return value[:-1] + ("1" if value[-1:] == "0" else "0")
        case list() | dict():
            return type(value)()
        case _:
            return None


@pytest.mark.threat("C2")
@pytest.mark.parametrize("state", [proposed, approved, applying, failed, drifted])
async def test_each_field_of_a_row_is_signed_or_writes_nothing(state: Callable[[World], Any], tmp_path: Path) -> None:
    async with attacked(tmp_path, state) as attacker:
        honest = await attacker.outcome()
        assert honest[1] == []
        attacker.put_back()
        body = attacker.body()
        places = [at for at in leaves(body) if at]
        for at in places:
            forged = changed(body, at)
            if forged == body:
                continue
            attacker.write(forged)
            writes, pages = await attacker.outcome()
            if writes == [] and not pages:      # a row that cannot be read: tend says so
                now = attacker.here.clock.now
                attacker.here.clock.forward(3601)       # it walks all rows once an hour
                await attacker.here.guardrail.tend()
                attacker.here.clock.now = now
                pages = await attacker.pages()
            assert writes in ([], honest[0]), at
            assert writes == honest[0] or pages or at[-1] in DELAYS, at
            assert not (writes and pages), at
            attacker.put_back()


def accepted_by(body: Body, *yeses: Body) -> Body:
    return {**body, "accepting": {}, "accepted": {LOGS: list(yeses)}}


BASELINES: Mapping[str, Callable[[Body], Body]] = {
    "of nobody": lambda body: accepted_by(body, *(
        {"by": by, "at": "2026-11-24T19:00:00Z", "hash": digest(body["good"][LOGS]), "signature": ""}
        for by in ("approver", "oncall"))),
    "one person twice": lambda body: accepted_by(body, *[body["accepting"][LOGS]] * 2),
    "one person and a copy": lambda body: accepted_by(
        body, body["accepting"][LOGS], {**body["accepting"][LOGS], "by": ONCALL.object_id}),
    "of something else": lambda body: {**body, "good": {**body["good"], LOGS: []}},
    "for another part": lambda body: {**body, "accepting": {"": body["accepting"][LOGS]}},
}


@pytest.mark.threat("C2", "A11")
async def test_a_baseline_that_two_people_did_not_accept_is_none(tmp_path: Path) -> None:
    """One person's yes is there, and signed: nobody makes two of it, nor one to another value."""
    async with attacked(tmp_path, clean_vault, NOTHING_DECLARED) as attacker:
        here, id = attacker.here, attacker.id
        hash = digest((await here.case(id)).good[LOGS])
        await people.accept(here.guardrail.engine, id, LOGS, hash, APPROVER, **GROUPS)
        attacker.db.backup(attacker.copy)
        for name, forge in BASELINES.items():
            attacker.write(forge(attacker.body()))
            assert LOGS not in (await here.case(id)).accepted, name
            pages = (await attacker.outcome())[1]
            assert pages, name
            assert LOGS not in (await here.case(id)).accepted, name
            attacker.put_back()
        await people.accept(here.guardrail.engine, id, LOGS, hash, ONCALL, **GROUPS)
        assert (await here.case(id)).accepted.keys() == {LOGS} and (await attacker.outcome())[1] == []


@pytest.mark.threat("C2")
@pytest.mark.parametrize("forge", [
    lambda record: record["detail"]["edits"][0].update(before="Enabled2"),
    lambda record: record["detail"].update(signature=""),
    lambda record: record["detail"].update(signature=record["detail"]["signature"][:-2] + "AA"),
    lambda record: record["detail"].update(controls=[]),
], ids=["before", "unsigned", "another signature", "controls"])
async def test_an_undo_writes_only_what_hands_recorded(forge: Callable[[Any], None], tmp_path: Path) -> None:
    """The before-values lie in a record: whoever changes them, and even the hash beside them, gets no undo."""
    async with attacked(tmp_path, approved) as attacker:
        here, id = attacker.here, attacker.id
        await here.settle()
        row = attacker.db.execute(f"SELECT seq, body FROM records WHERE {APPLYING}").fetchone()
        record = json.loads(row[1])
        good = record["detail"]["action_id"]
        forge(record)
        plan = {"resource": id, "incarnation": record["detail"]["incarnation"], "kind": record["detail"]["kind"],
                "edits": record["detail"]["edits"], "controls": record["detail"]["controls"]}
        record["detail"]["plan_hash"] = digest(plan)
        attacker.db.execute(f"UPDATE records SET body = ? WHERE seq = ? AND {APPLYING}",
                            (json.dumps(record), row[0]))
        with pytest.raises(Refused, match="not signed by hands"):
            await people.undo(here.guardrail.engine, id, good, ONCALL, "back")
        with pytest.raises(Refused, match="not signed by hands"):
            await wishes.wish(here.guardrail.engine, id, "undo", ONCALL, "back", good)
        assert await attacker.pages() == [f"record of {good}"]
        attacker.db.execute(f"UPDATE records SET body = ? WHERE seq = ? AND {APPLYING}", (row[1], row[0]))
        await people.undo(here.guardrail.engine, id, good, ONCALL, "back")


# C5: the switch

def raised(attacker: Attacker) -> None:
    attacker.db.execute("UPDATE state SET body = replace(CAST(body AS TEXT), '\"report\"', '\"policy\"') WHERE name = 'rules'")


def unsigned(attacker: Attacker) -> None:
    attacker.db.execute("UPDATE state SET body = '{\"switch\":\"policy\"}' WHERE name = 'rules'")


def garbled(attacker: Attacker) -> None:
    attacker.db.execute("UPDATE state SET body = X'ff' WHERE name = 'rules'")


def removed(attacker: Attacker) -> None:
    attacker.db.execute("DELETE FROM state WHERE name = 'rules'")


def replayed(attacker: Attacker) -> None:
    row = attacker.copy.execute("SELECT body, generation FROM state WHERE name = 'rules'").fetchone()
    attacker.db.execute("UPDATE state SET body = ?, generation = ? WHERE name = 'rules'", row)


@pytest.mark.threat("C5")
@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("forge", [raised, unsigned, garbled, removed, replayed])
async def test_the_switch_goes_up_by_people_only(forge: Callable[[Attacker], None], is_restarted: bool, tmp_path: Path) -> None:
    """It stood at policy, people lowered it, and somebody else raises it: by a row of theirs, or by the older one."""
    async with attacked(tmp_path, approved) as attacker:
        here = attacker.here
        await switches.switch(here.guardrail.engine, "report", person("oncall", "Administrator"), "enough")
        here.clock.forward(301)
        await here.guardrail.tend()
        forge(attacker)
        if is_restarted:
            await restart(here, POLICY)
            await here.guardrail.tend()
        here.clock.forward(6)
        writes, pages = await attacker.outcome(400)
        assert (await here.guardrail.engine.rules()).switch == "report"
        assert (await here.guardrail.store.rules()).switch == "report"
        assert writes == []
        assert set(pages) | set(await attacker.pages()) <= {"rules", "store"} and await attacker.pages()


async def test_people_raise_the_switch_again_after_a_forgery(tmp_path: Path) -> None:
    async with attacked(tmp_path, approved) as attacker:
        engine = attacker.here.guardrail.engine
        unsigned(attacker)
        attacker.here.clock.forward(6)
        assert (await attacker.outcome())[0] == []
        for who in ("oncall", "approver"):
            await switches.switch(engine, "policy", person(who, "Administrator"), "we looked")
        attacker.here.clock.forward(6)
        assert [one[0] for one in (await attacker.outcome())[0]] == ["PATCH"]


# C4: yesterday's store

@pytest.mark.threat("C4")
@pytest.mark.parametrize("first", ["tend", "write"])
@pytest.mark.parametrize("anchors", ["today's", "absent", "yesterday's"])
async def test_a_store_that_was_put_back_writes_nothing(anchors: str, first: str, tmp_path: Path) -> None:
    """Whether the new process first tends, or first would write.

    An approved plan waits in yesterday's copy. Under today's anchors, or none, it is held and somebody paged.

    With yesterday's anchors beside it, which takes the anchors' account too, nothing tells it from yesterday.
    """
    async with attacked(tmp_path, approved) as attacker:
        here = attacker.here
        await here.guardrail.tend()
        attacker.db.backup(attacker.copy)
        await here.settle()
        assert len(here.ours) == 1
        await here.forward(1200, step=300)
        lines = attacker.db.execute("SELECT * FROM anchors").fetchall()
        attacker.put_back()
        if anchors != "yesterday's":
            attacker.db.execute("DELETE FROM anchors")
        if anchors == "today's":
            attacker.db.executemany("INSERT INTO anchors VALUES (?, ?, ?)", lines)
        await restart(here, POLICY)
        if first == "tend":
            await here.guardrail.tend()
        writes, _ = await attacker.outcome(1200)        # and anchors go on being written
        if anchors == "yesterday's":
            assert [one[0] for one in writes] == ["PATCH"]
            return
        assert writes == []
        assert (await here.guardrail.store.rules()).switch == "report"
        assert await attacker.pages() == ["store"]
        switched = [one for one in await here.records(HOME) if one["event"] == "mode.switched"][-1]
        assert (switched["actor"], switched["detail"]["now"]) == ("guardrail", "report")


@pytest.mark.threat("C4")
async def test_a_resource_that_was_put_back_alone_is_not_written_by_a_new_process(tmp_path: Path) -> None:
    """Row, records and look of one resource are yesterday's; everything else is today's."""
    async with attacked(tmp_path, approved) as attacker:
        here, key = attacker.here, chain_key(attacker.id)
        await here.settle()
        await here.forward(600, step=300)
        assert len(here.ours) == 1
        for table in ("cases", "records", "looks"):
            attacker.db.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
            rows = attacker.copy.execute(f"SELECT * FROM {table} WHERE key = ?", (key,)).fetchall()
            attacker.db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        here.sim.mutate(attacker.id, lambda _: attacker.document)
        await restart(here, POLICY)
        assert (await attacker.outcome())[0] == []
        assert await attacker.pages() == ["store"]


async def test_an_honest_process_compares_once_and_writes(tmp_path: Path) -> None:
    async with attacked(tmp_path, approved) as attacker:
        here = attacker.here
        await restart(here, POLICY)
        assert not here.guardrail.engine.is_compared
        writes, pages = await attacker.outcome()
        assert ([one[0] for one in writes], pages, here.guardrail.engine.is_compared) == (["PATCH"], [], True)


async def test_while_anchors_cannot_be_read_a_new_process_waits_and_spends_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails closed: which of the two is out of date cannot be told."""
    tight = POLICY.replace("writes: 500,", "writes: 2,").replace("writes: 50,", "writes: 1,")
    async with attacked(tmp_path, drifted, tight) as attacker:
        here = attacker.here
        await restart(here, tight)

        tries = list[int]()

        real = here.guardrail.store.anchors

        async def anchors(last: int = 0) -> Any:
            tries.append(len(here.ours))
            if len(tries) <= 5:
                raise StoreDown("the anchors' account does not answer")
            return await real(last)

        monkeypatch.setattr(here.guardrail.store, "anchors", anchors)
        for _ in range(5):
            assert await attacker.outcome() == ([], [])
            here.clock.forward(61)
        writes, pages = await attacker.outcome()
        assert tries == [0] * 6
        assert ([one[0] for one in writes], pages) == (["PATCH"], [])


async def test_anchors_that_are_slow_to_answer_age_no_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody mends it while a new process waits for them: what was read before that is not acted on."""
    async with attacked(tmp_path, drifted, POLICY) as attacker:
        here = attacker.here
        await restart(here, POLICY)
        real = here.guardrail.store.anchors

        async def anchors(last: int = 0) -> Any:
            here.clock.forward(10)
            here.sim.mutate(attacker.id, lambda body: body["properties"].update(publicNetworkAccess="Disabled"))
            return await real(last)

        monkeypatch.setattr(here.guardrail.store, "anchors", anchors)
        [(_, _, body)], _ = await attacker.outcome()
        assert "minimumTlsVersion" in body["properties"] and "publicNetworkAccess" not in body["properties"]
