"""What every store does, whatever it is made of. All through the protocol; what was kept is read by a second worker."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import audit
from guardrail.chain import ZERO, follow
from guardrail.errors import Stale
from guardrail.ids import ResourceId
from guardrail.paths import ABSENT
from guardrail.stores import CHANGES, HOME, REJECTS, Rules, Store, Waiting, empty, join, rows
from guardrail.values import Acceptance, Action, Approval, Case, Change, Edit, Look, Plan, Record, Wish, digest

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 24, 19, 0, tzinfo=UTC)
GROUP = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ai-dev"
ACCOUNT = ResourceId(f"{GROUP}/providers/Microsoft.Storage/storageAccounts/stmltrain")
TYPE = "Microsoft.Storage/storageAccounts"
VAULT = ResourceId(f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-ai-dev")
Open = Callable[..., Store]


def record(event: str = "change.seen", **detail: Any) -> Record:
    return Record(event, AT, "guardrail", "5b1e", "report", "7f3a", detail)


def change(number: int = 1, actor: str = "someone", operation: str = f"{TYPE}/write") -> Change:
    return Change(f"event-{number}", operation, ACCOUNT, actor, "", "5b1e", AT + timedelta(seconds=number))


def event(*changes: Change, resource: ResourceId = ACCOUNT) -> Look:
    return Look(resource, "event", changes or (change(),))


async def due(store: Store) -> list[Look]:
    return [look async for look in store.looks()]


async def every(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


# Cases and records

async def test_what_people_are_told_waits_in_its_case_until_it_is_taken_out(reopen: Open) -> None:
    """Whichever way a record came in; the case is found among the open ones for nothing else."""
    store, told = reopen(tells=frozenset({"told", "change.rejected"})), record("told")
    first = await store.commit(Case(ACCOUNT), record(), told, record(), told)
    assert first.outbox == (2, 4)
    assert (await store.commit(first, told, record())).outbox == (2, 4, 5)
    await store.set_rules(await store.rules(), record(), told)
    await store.add_anchor(1, b"one", told, record())
    await store.reject(b"{}", "no event")
    home, _ = await reopen().load(HOME)
    events = [(one.seq, json.loads(one.body)["event"]) for one in await store.records(HOME)]
    assert home.outbox == tuple(seq for seq, name in events if name in ("told", "change.rejected"))
    assert len(home.outbox) == 3
    assert {case.resource: case.outbox async for case in reopen().open_cases()} == {ACCOUNT: (2, 4, 5), HOME: home.outbox}
    silent = await reopen().commit(replace(home, outbox=()), told)
    assert silent.outbox == ()
    assert [case.resource async for case in reopen().open_cases()] == [ACCOUNT]


PLAN = Plan(ACCOUNT, "one life", "fix", (Edit("a", ABSENT, {"x": 1}), Edit("b", "Enabled", ABSENT)), ("c",))
APPROVAL = Approval("approver", AT, PLAN.hash, "policy", "1.0")
ACTION = Action("act-4f7c21d09b3e", PLAN, "approved", "approve", AT, ("someone",), approvals=(APPROVAL,), expires=AT)
WISH = Wish("undo", "oncall", AT, "why")
LOGS = digest([{"name": "logs"}])
FULL = Case(
    ACCOUNT, findings=frozenset({("storage-sftp", "properties.isSftpEnabled"), ("storage-keys", "?")}),
    good={"": {"properties": {"a": None, "b": [1, 2.5, True]}}, "+diagnosticSettings": [{"name": "logs"}]},
    accepted={"+diagnosticSettings": (Acceptance("approver", AT, LOGS), Acceptance("oncall", AT, LOGS))},
    incarnation="2026-03-01T10:00:00Z", due=AT, outbox=(1, 2), stuck="why",
    acting=ACTION, missing=(AT, AT), busy_since=AT,
)


def unsigned(case: Case) -> Case:
    """As it was before a signed store kept it."""
    assert case.acting is not None
    approvals = tuple(replace(one, signature="") for one in case.acting.approvals)
    accepted = {part: (replace(first, signature=""), replace(second, signature=""))
                for part, (first, second) in case.accepted.items()}
    return replace(case, seal="", acting=replace(case.acting, seal="", approvals=approvals), accepted=accepted)


async def test_an_unknown_resource_is_an_empty_case_without_a_look(store: Store) -> None:
    assert await store.load(ACCOUNT) == (Case(ACCOUNT), None)
    assert list(await store.records(ACCOUNT)) == []


async def test_a_case_comes_back_as_it_went(store: Store, reopen: Open) -> None:
    kept = await store.commit(FULL, record())
    assert replace(unsigned(kept), seq=0, head="", etag="") == FULL
    assert await reopen().load(ACCOUNT) == (kept, None)


async def test_ids_that_differ_in_case_are_one_resource(store: Store) -> None:
    kept = await store.commit(Case(ACCOUNT), record())
    found, _ = await store.load(ResourceId(ACCOUNT.upper()))
    assert found == kept


@pytest.mark.threat("C8")
@pytest.mark.parametrize("odd", ["x' OR '1'='1", "a\\b", "x#y", "x?y=1", "' --", "ünïcode", "%27"])
async def test_an_id_reaches_its_own_rows_only(store: Store, odd: str) -> None:
    await store.commit(Case(ACCOUNT), record())
    other = ResourceId(f"{GROUP}/providers/Microsoft.Storage/storageAccounts/{odd}")
    assert await store.load(other) == (Case(other), None)
    await store.send(Look(other, "person"))
    await store.commit(Case(other), record())
    assert len(await store.records(ACCOUNT)) == len(await store.records(other)) == 1
    assert (await store.load(ACCOUNT))[1] is None


async def test_records_are_chained_over_the_bytes_as_stored(store: Store) -> None:
    first = await store.commit(Case(ACCOUNT), record(), record("finding.raised", observed="Enabled"))
    kept = await store.commit(first, record("finding.cleared", observed=ABSENT))
    records = await store.records(ACCOUNT)
    head = ZERO
    for seq, one in enumerate(records, 1):
        head = hashlib.sha256(head.encode() + one.body).hexdigest()
        assert (one.seq, one.hash) == (seq, head)
    assert (kept.seq, kept.head) == (3, head)
    assert json.loads(records[1].body) == {
        "v": 1, "seq": 2, "event": "finding.raised", "at": "2026-11-24T19:00:00Z", "actor": "guardrail",
        "correlation_id": "5b1e", "mode": "report", "policy_hash": "7f3a", "resource": ACCOUNT,
        "detail": {"observed": "Enabled"}}
    assert json.loads(records[2].body)["detail"] == {}
    assert list(await store.records(ACCOUNT, after=2)) == list(records[2:])


@pytest.mark.threat("R14")
async def test_the_slower_of_two_commits_is_stale_and_leaves_nothing(store: Store, reopen: Open) -> None:
    other = reopen()
    mine, _ = await store.load(ACCOUNT)
    theirs, _ = await other.load(ACCOUNT)
    kept = await other.commit(replace(theirs, stuck="theirs"), record())
    for slow in (mine, replace(kept, etag="")):
        await store.send(event())
        with pytest.raises(Stale):
            await store.commit(replace(slow, stuck="mine"), record(), answered=(await store.load(ACCOUNT))[1])
    found, look = await store.load(ACCOUNT)
    assert found == kept
    assert look is not None
    assert len(await store.records(ACCOUNT)) == 1
    again = await store.commit(kept, record())
    with pytest.raises(Stale):
        await other.commit(kept, record())
    assert (await other.load(ACCOUNT))[0] == again


@pytest.mark.parametrize(("again_s", "waits", "joined"), [(0, True, False), (5, True, True), (60, True, False),
                                                          (60, False, False), (60, False, True)])
async def test_a_commit_leaves_the_next_look(again_s: float, waits: bool, joined: bool, store: Store, reopen: Open,
                                             clock: Any) -> None:
    """In the same transaction, and otherwise as if it had been sent just after it."""
    kept = dict[ResourceId, Case]()
    for id in (ACCOUNT, VAULT):
        answered = None
        if waits:
            await store.send(event(resource=id))
            _, answered = await store.load(id)
        if joined:
            await reopen().send(event(change(2, "another"), resource=id))
        together = {"again_s": again_s} if id == ACCOUNT else {}
        kept[id] = await store.commit(Case(id, due=AT), record(), answered=answered, **together)
        if not together:
            await store.send(Look(id, "due"), again_s)
        case, look = await reopen().load(id)
        assert case == kept[id] and look is not None
        assert [one.event_id for one in look.changes] == (["event-2"] if joined else [])
    seen = list[int]()
    for wait_s in (0.5, 4, 1, 54, 1):       # 0.5, 4.5, 5.5, 59.5 and 60.5 s after it
        clock.forward(wait_s)
        found = {look.resource for look in await due(reopen())}
        assert found in (set(), {ACCOUNT, VAULT})
        seen.append(len(found))
    assert seen[-1] == 2 and (seen[0] == 2) == (again_s == 0)
    with pytest.raises(Stale):
        await reopen().commit(replace(kept[ACCOUNT], etag=""), again_s=0)


async def test_a_commit_leaves_the_reason_of_the_next_look(store: Store, reopen: Open) -> None:
    """What waits for later comes at once, and as a person's."""
    await store.send(Look(ACCOUNT, "due"), 600)
    case, look = await store.load(ACCOUNT)
    case = await store.commit(replace(case, due=AT), record("wish.made"), again_s=0, why="person")
    _, look = await reopen().load(ACCOUNT)
    assert look is not None and look.why == "person"
    assert [one.why for one in await due(reopen())] == ["person"]
    await reopen().commit(case, record(), answered=look, again_s=0, why="approval")
    (look,) = await due(reopen())
    assert (look.why, look.changes) == ("approval", ())


@pytest.mark.threat("C7")
async def test_no_secret_reaches_a_record(store: Store) -> None:
    edits = [{"path": "properties.adminPassword", "before": "canary-1", "after": "canary-2"}]
    body = {"properties": {"primaryKey": "canary-3"}}
    await store.commit(Case(ACCOUNT), record(edits=edits, body=body, url="https://x/?sig=canary-4"))
    (one,) = await store.records(ACCOUNT)
    assert b"canary" not in one.body
    assert json.loads(one.body)["detail"]["edits"][0] == {
        "path": "properties.adminPassword", "before": "(set)", "after": "(changed)"}


@pytest.mark.threat("R40", "R14", "I13")
async def test_eight_writers_on_one_resource_make_one_chain(reopen: Open, scale: Any) -> None:
    async def write(worker: int) -> int:
        store, stale, left = reopen(), 0, scale.turns
        while left:
            case, look = await store.load(ACCOUNT)
            await asyncio.sleep(0)      # the others load the same
            try:
                await store.commit(case, record(worker=worker, left=left), record(), answered=look)
                left -= 1
            except Stale:
                stale += 1
        return stale

    assert sum(await asyncio.gather(*(write(worker) for worker in range(8)))) > 0
    store = reopen()
    report = await audit.verify_store(store)
    assert report.ok
    assert (report.chains, report.records) == (1, 8 * scale.turns * 2)
    bodies = [json.loads(one.body)["detail"] for one in await store.records(ACCOUNT)]
    assert sorted((body["worker"], body["left"]) for body in bodies if body) == [
        (worker, left) for worker in range(8) for left in range(1, scale.turns + 1)]


@pytest.mark.parametrize("case", [
    Case(ACCOUNT, findings=frozenset({("a", "b")})), Case(ACCOUNT, acting=ACTION), Case(ACCOUNT, asked=ACTION),
    Case(ACCOUNT, stuck="x"), Case(ACCOUNT, outbox=(1,)), Case(ACCOUNT, due=AT)])
async def test_a_case_is_open_until_nothing_is_left_to_do(store: Store, case: Case) -> None:
    await store.commit(Case(VAULT, good={"": {}}), record())
    kept = await store.commit(case)
    assert await every(store.open_cases()) == [kept]
    await store.commit(Case(ACCOUNT, etag=kept.etag))
    assert await every(store.open_cases()) == []


async def test_all_open_cases_and_chains_are_found_however_many(store: Store, scale: Any) -> None:
    names = {ResourceId(f"{ACCOUNT}{number}") for number in range(scale.cases)}
    for name in sorted(names):
        await store.commit(Case(name, stuck="x"), record())
    assert {case.resource for case in await every(store.open_cases())} == names
    chains = await every(store.chains())
    assert {chain.resource for chain in chains} == names
    assert len(chains) == scale.cases


@pytest.mark.parametrize(("case", "after_s"), [
    (Case(ACCOUNT, due=AT), 0), (Case(ACCOUNT, due=AT + timedelta(minutes=20), findings=frozenset({("a", "b")})), 1200),
    (Case(ACCOUNT, outbox=(1,), stuck="x"), 0), (Case(ACCOUNT, wishes=(WISH,), due=AT + timedelta(hours=1)), 0),
    (Case(ACCOUNT, findings=frozenset({("a", "b")})), None), (Case(ACCOUNT, due=AT, stuck="x"), None)])
async def test_a_case_is_due_from_when_it_says(
        store: Store, reopen: Open, clock: Any, case: Case, after_s: int | None) -> None:
    kept = await store.commit(case)
    for now in range(0, 2400, 600):
        is_due = after_s is not None and now >= after_s
        assert await every(reopen().due()) == [kept] * is_due
        await reopen().nudge()
        clock.forward(600)
    await store.commit(Case(ACCOUNT, etag=kept.etag, findings=case.findings))
    assert await every(reopen().due()) == []


async def test_every_resource_with_a_case_is_known_also_a_clean_one(store: Store, reopen: Open) -> None:
    await store.commit(Case(VAULT))
    await store.commit(Case(ACCOUNT, stuck="x"), record())
    await store.send(event())
    known = await every(store.known())
    assert set(known) == {ACCOUNT, VAULT} and known == await every(reopen().known())


@pytest.mark.threat("I4", "R32")
async def test_whatever_happens_the_due_and_waiting_ones_are_found(store: Store, reopen: Open, clock: Any, scale: Any) -> None:
    """Three workers, each with its own memory of what it last saw, at random: none makes another miss anything."""
    dice = random.Random(7)
    workers = [store, reopen(), reopen()]
    names = [ResourceId(f"{ACCOUNT}{number}") for number in range(3)]
    for _ in range(scale.steps):
        worker, name = dice.choice(workers), dice.choice(names)
        what = dice.choice(("send", "answer", "commit", "commit", "nudge", "time"))
        if what == "send":
            await worker.send(Look(name, dice.choice(("event", "due", "person"))), dice.choice((0, 30, 900)))
        elif what == "nudge":
            await worker.nudge()
        elif what == "time":
            clock.forward(dice.choice((1, 61, 400, 1300)))
        else:
            case, look = await worker.load(name)
            at = dice.choice((None, -1, 30, 700, 3600))
            due_at = None if at is None else clock.now + timedelta(seconds=at)
            case = replace(case, due=due_at, stuck=dice.choice(("", "", "x")), outbox=dice.choice(((), (), (1,))),
                           findings=dice.choice((frozenset(), frozenset({("a", "b")}))))
            await worker.commit(case, answered=look if what == "answer" else None)
        other = reopen()
        found = [await other.load(one) for one in names]
        waiting = {look.resource for _, look in found if look}
        times = {case.resource: rows.due_at(case) for case, _ in found}
        now = clock.now.timestamp()
        assert {case.resource for case in await every(other.due())} - waiting == {
            one for one, at in times.items() if at is not None and at <= now} - waiting
        assert {case.resource for case in await every(other.open_cases())} == {
            case.resource for case, _ in found if rows.is_open(case)}
        assert {look.resource for look in await due(other)} <= waiting
        clock.forward(7200)         # all that waits is due by then
        assert {look.resource for look in await due(other)} == waiting
        clock.forward(-7200)


# Looks

async def test_a_look_waits_until_it_is_answered(store: Store, reopen: Open) -> None:
    await store.send(event())
    case, look = await reopen().load(ACCOUNT)
    assert look == Look(ACCOUNT, "event", (change(),), 1)
    assert await due(store) == [look]
    await store.commit(case, answered=look)
    assert await due(store) == []
    assert (await store.load(ACCOUNT))[1] is None


@pytest.mark.threat("R1", "I4")
async def test_what_arrives_during_the_read_is_looked_at_again(store: Store, clock: Any) -> None:
    await store.send(event(change(1)))
    case, look = await store.load(ACCOUNT)
    await store.send(event(change(2, actor="another")))
    case = await store.commit(case, answered=look)
    clock.forward(5)
    (again,) = await due(store)
    assert [one.event_id for one in again.changes] == ["event-2"]
    await store.commit(case, answered=look)     # the old answer, once more
    clock.forward(5)
    assert await due(store) == [again]
    await store.commit((await store.load(ACCOUNT))[0], answered=again)
    clock.forward(60)
    assert await due(store) == []


@pytest.mark.threat("R1")
async def test_an_answer_to_an_older_life_of_the_row_removes_nothing(store: Store) -> None:
    await store.send(event())
    case, old = await store.load(ACCOUNT)
    case = await store.commit(case, answered=old)
    await store.send(Look(ACCOUNT, "person"))
    await store.commit(case, answered=old)
    assert [look.why for look in await due(store)] == ["person"]


@pytest.mark.threat("A5")
async def test_a_flood_costs_one_look_in_thirty_seconds(store: Store, clock: Any, scale: Any) -> None:
    """Events without a pause for two minutes: the first is looked at at once, the last within 5 s."""
    looked, began = list[float](), clock.now
    for number in range(round(150 / scale.step_s)):
        at = (clock.now - began).total_seconds()
        if at < 120:
            await store.send(event(change(number)))
        for look in await due(store):
            looked.append(at)
            await store.commit((await store.load(ACCOUNT))[0], answered=look)
        clock.forward(scale.step_s)
    assert looked[0] == 0
    assert len(looked) == 5
    gaps = [later - earlier for earlier, later in pairwise(looked)]
    assert all(29.9 <= gap <= 30.2 + scale.step_s for gap in gaps[:-1])
    assert 120 - scale.step_s <= looked[-1] <= 125.1


async def test_two_events_far_apart_are_both_looked_at_at_once(store: Store, clock: Any) -> None:
    for _ in range(3):
        await store.send(event())
        (look,) = await due(store)
        await store.commit((await store.load(ACCOUNT))[0], answered=look)
        clock.forward(6)


async def test_a_look_that_could_not_be_answered_goes_back(store: Store, clock: Any) -> None:
    await store.send(event())
    await store.send(Look(ACCOUNT, "due"), 15)
    assert await due(store) == []
    clock.forward(14)
    assert await due(store) == []
    clock.forward(1)
    assert await due(store) == [Look(ACCOUNT, "event", (change(),), 1)]


async def test_a_later_look_never_puts_off_an_earlier_one(store: Store, clock: Any) -> None:
    await store.send(Look(ACCOUNT, "due"), 60)
    await store.send(Look(ACCOUNT, "due"), 3600)
    clock.forward(10)
    await store.send(event())
    assert len(await due(store)) == 1
    await store.send(Look(VAULT, "approval"))
    await store.send(Look(VAULT, "due"), 3600)
    clock.forward(60)
    assert len(await due(store)) == 2


async def test_a_persons_look_does_not_wait_for_the_debounce(store: Store) -> None:
    await store.send(event())
    await store.commit((await store.load(ACCOUNT))[0], answered=(await store.load(ACCOUNT))[1])
    await store.send(event())
    assert await due(store) == []
    await store.send(Look(ACCOUNT, "approval"))
    assert [look.why for look in await due(store)] == ["approval"]


async def test_the_longest_due_comes_first(store: Store, clock: Any) -> None:
    await store.send(event(resource=VAULT))
    clock.forward(1)
    await store.send(event())
    assert [look.resource for look in await due(store)] == [VAULT, ACCOUNT]


LOOKS = st.builds(
    Look, st.just(ACCOUNT), st.sampled_from(["event", "sweep", "due", "approval", "person", "release"]),
    st.lists(st.builds(change, st.integers(1, 500), st.sampled_from("abcdefgh"), st.sampled_from("klmnopqrst")),
             max_size=70).map(tuple), st.integers(0, 9))


@given(LOOKS, LOOKS)
def test_joining_keeps_one_change_an_actor_and_operation_or_says_that_it_did_not(one: Look, other: Look) -> None:
    joined = join(one, other)
    assert joined.generation == max(one.generation, other.generation) + 1
    assert len(joined.changes) <= CHANGES
    wanted = {(change.actor, change.operation) for change in (*one.changes, *other.changes)}
    kept = {(change.actor, change.operation) for change in joined.changes}
    assert len(kept) == len(joined.changes)
    if len(wanted) <= CHANGES:
        assert kept == wanted
    else:
        assert ("?", "?") in kept
        assert len(kept) == CHANGES
        assert kept - {("?", "?")} < wanted
    assert replace(join(joined, other), generation=0) == replace(joined, generation=0)
    assert {change.event_id for change in join(other, one).changes} == {change.event_id for change in joined.changes}


@pytest.mark.threat("D1")
def test_who_hides_among_too_many_actors_makes_all_of_them_unknown() -> None:
    crowd = [change(number, actor=f"actor-{number}") for number in range(1, CHANGES + 11)]
    exact = join(event(*crowd[:20]), event(*crowd[20:CHANGES]))
    assert [one.actor for one in exact.changes] == [one.actor for one in crowd[:CHANGES]]
    for looks in ((crowd[:30], crowd[30:]), (crowd, crowd), (crowd[40:], crowd[:40])):
        joined = join(*(event(*changes) for changes in looks))
        assert [(one.actor, one.operation) for one in joined.changes[:1]] == [("?", "?")]
        assert [one.actor for one in joined.changes[1:]] == [one.actor for one in crowd[11:]]
        assert join(joined, event(change(99))).changes[0].actor == "?"


async def test_one_large_look_is_bounded_as_well(store: Store) -> None:
    await store.send(event(*(change(number, actor=f"actor-{number}") for number in range(500))))
    (look,) = await due(store)
    assert len(look.changes) == CHANGES
    assert look.changes[0].actor == "?"


@given(st.lists(st.tuples(st.sampled_from(["event", "later", "answer", "person"]), st.floats(0, 40)), max_size=30))
def test_no_event_waits_longer_than_its_patience(steps: list[tuple[str, float]]) -> None:
    """Whatever else happens, an event is due within 30 s of the first unanswered one, unless its look was put back."""
    waiting, now, first = empty(ACCOUNT), 0.0, None
    for what, seconds in steps:
        now += seconds
        if what == "event":
            first = now if first is None else first
            waiting = waiting.sent(event(change(int(now))), now, 0)
        elif what == "person":
            waiting = waiting.sent(Look(ACCOUNT, "person"), now, 0)
            assert waiting.due is not None
            assert waiting.due <= now
        elif what == "answer":
            waiting, first = waiting.answered(waiting.look, now), None
        elif waiting.due is None or waiting.due > now:
            waiting = waiting.sent(Look(ACCOUNT, "due"), now, 3600)
        assert first is None or (waiting.due is not None and waiting.due <= max(now, first + 30))
        assert isinstance(waiting, Waiting)


# Rules, rejects, anchors

async def test_without_rules_everything_only_reports(store: Store) -> None:
    assert await store.rules() == Rules(switch="report")


@pytest.mark.threat("C5")
async def test_rules_are_set_by_who_read_the_newest(store: Store, reopen: Open) -> None:
    other = reopen()
    before = await other.rules()
    first = await store.set_rules(replace(before, switch="policy"), record("mode.switched", was="report", now="policy"))
    assert first.generation > before.generation
    assert await other.rules() == first
    with pytest.raises(Stale):
        await other.set_rules(replace(before, switch="approve"), record("mode.switched"))
    second = await other.set_rules(replace(first, switch="report"), record("mode.switched", was="policy", now="report"))
    assert await store.rules() == second
    assert [json.loads(one.body)["detail"]["now"] for one in await store.records(HOME)] == ["policy", "report"]


@pytest.mark.threat("B10")
async def test_rejects_are_kept_once_an_hour_and_bounded(store: Store, clock: Any, scale: Any) -> None:
    for number in (1, 1, 2, 1):
        await store.reject(b"junk %d" % number, "not JSON")
    bodies = [json.loads(one.body) for one in await store.records(HOME)]
    assert [body["detail"]["raw"] for body in bodies] == ["junk 1", "junk 2"]
    assert bodies[0]["detail"]["sha256"] == hashlib.sha256(b"junk 1").hexdigest()
    for number in range(3, scale.rejects):
        await store.reject(b"junk %d" % number, "not JSON")
    assert len(await store.records(HOME)) == REJECTS
    clock.forward(3600)
    await store.reject(b"junk 1" * 10_000, "too large")
    last = json.loads((await store.records(HOME))[-1].body)["detail"]
    assert len(last["raw"]) <= 8192
    assert last["size"] == 60_000
    assert last["more"] == scale.rejects - 3 - (REJECTS - 2)        # all that was only counted since the last record


@pytest.mark.threat("B10", "C7", "E2")
@pytest.mark.parametrize("raw", [
    b"", b"\xff\xfe\x00", b'{"a":"\\ud800"}',
    b'{"primaryKey": "canary', b'{"url":"?sig=canary"}', b'[{"a":"Pwd=canary;"}]'])
async def test_any_bytes_can_be_rejected_and_no_secret_stays(store: Store, raw: bytes) -> None:
    await store.reject(raw, "not an event")
    (one,) = await store.records(HOME)
    assert json.loads(one.body)["detail"]["size"] == len(raw)
    assert b"canary" not in one.body


async def test_anchors_have_no_gap_and_no_twin(store: Store, reopen: Open) -> None:
    await store.add_anchor(1, b"one", record("anchor.noted"))
    for wrong in (1, 3):
        with pytest.raises(Stale):
            await reopen().add_anchor(wrong, b"again")
    await store.add_anchor(2, b"two")
    await store.add_anchor(3, b"three")
    assert list(await reopen().anchors()) == [b"one", b"two", b"three"]
    assert list(await store.anchors(last=2)) == [b"two", b"three"]
    assert len(await store.records(HOME)) == 1
    assert follow(ZERO, (await store.records(HOME))[0].body) == (await store.load(HOME))[0].head
