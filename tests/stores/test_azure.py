"""What the tables must stand beyond the contract: lost answers, an account that is down, large rows, damage, lost messages."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import HttpRequest
from hypothesis import given
from hypothesis import strategies as st

from guardrail import anchors, audit
from guardrail.errors import Held, Malformed, Stale, StoreDown, Unsafe
from guardrail.ids import ResourceId
from guardrail.names import chain_key
from guardrail.signing import Keys, LocalKey
from guardrail.stores import HOME, Rules, rows
from guardrail.stores import account as stores_account
from guardrail.stores.account import SCOPE
from guardrail.stores.azure import AzureStore
from guardrail.stores.signed import SignedStore
from guardrail.values import Case, Change, Look, Record
from simulator.tls import certificates
from tests.azurite import Account, Azurite, Credential

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 24, 19, 0, tzinfo=UTC)
ACCOUNT = ResourceId("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ai-dev"
                     "/providers/Microsoft.Storage/storageAccounts/stmltrain")
RECORD = Record("change.seen", AT, "guardrail", "", "report", "", {})
EVENT = Look(ACCOUNT, "event", (Change("e", "Microsoft.Storage/storageAccounts/write", ACCOUNT, "someone", "", "", AT),))


@pytest.fixture
def account(azurite: Azurite) -> Account:
    return azurite.account()


@pytest.fixture
async def reopen(account: Account, clock: Any, anyio_backend: str) -> AsyncIterator[Callable[[], AzureStore]]:
    async with account.stores(clock) as open_one:
        yield open_one


@pytest.fixture
def store(reopen: Callable[[], AzureStore]) -> AzureStore:
    return reopen()


async def due(store: AzureStore) -> list[Look]:
    return [look async for look in store.looks()]


async def opened(store: AzureStore) -> list[Case]:
    return [case async for case in store.open_cases()]


async def messages(store: AzureStore) -> list[Any]:
    """The visible ones, taken."""
    found = [one async for one in store._nudges._queue.receive_messages(messages_per_page=32)]
    for one in found:
        await store._nudges._queue.delete_message(one)
    return [json.loads(base64.b64decode(one.content)) for one in found]


async def alter(store: AzureStore, row: str, table: str = "cases", resource: ResourceId = ACCOUNT, **fields: Any) -> None:
    """Somebody else writes into a row: exactly these fields are changed."""
    found = await store._tables.get(table, chain_key(resource), row)
    assert found is not None
    await store._tables.merge(table, {**found, **fields})


# Answers that are lost

async def a_commit(store: AzureStore) -> None:
    await store.send(EVENT)
    case, look = await store.load(ACCOUNT)
    case = await store.commit(replace(case, stuck="x"), RECORD, RECORD, answered=look)
    await store.commit(case, RECORD)


KEY = LocalKey()


def signed(store: AzureStore) -> SignedStore:
    return SignedStore(store, Keys(KEY, KEY), store._clock)


async def a_budget(store: AzureStore) -> None:
    worker = signed(store)
    assert [await worker.take("blast", 2, 60) for _ in range(3)] == [True, True, False]
    assert await worker.take("blast", 2, 60, -1)


async def a_reject(store: AzureStore) -> None:
    for raw in (b"one", b"two", b"one"):
        await store.reject(raw, "no event")


async def new_rules(store: AzureStore) -> None:
    await store.set_rules(await store.set_rules(Rules(switch="policy"), RECORD), RECORD)


async def an_anchor(store: AzureStore) -> None:
    for number in (1, 2):
        await store.add_anchor(number, b"line %d" % number, RECORD)


async def all_of(store: AzureStore) -> Any:
    """Everything that a store can show."""
    report = await audit.verify_store(store)
    case, look = await store.load(ACCOUNT)
    home, _ = await store.load(HOME)
    budget = [await signed(store).take("blast", 2, 60) for _ in range(2)]
    return (report.broken, report.records, replace(case, etag=""), look and replace(look, generation=0),
            replace(home, etag=""), await store.rules(), await store.anchors(), budget, await due(store))


@pytest.mark.threat("R28", "I13")
@pytest.mark.parametrize("fault", ["lost", "down"])
@pytest.mark.parametrize(("do", "place"), [
    (a_commit, "blobs"), (a_budget, "blobs"), (a_reject, "blobs"), (new_rules, "blobs"), (an_anchor, "blobs"),
    (an_anchor, "rows")], ids=lambda one: getattr(one, "__name__", one))
async def test_any_answer_may_be_lost_and_everything_is_done_once(
        do: Callable[[AzureStore], Awaitable[None]], fault: str, place: str, azurite: Azurite, clock: Any,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """One request after the other loses its answer, or never arrives: what stands at the end is always the same."""
    monkeypatch.setattr("guardrail.stores.account.random.uniform", lambda *_: 0.1)
    options = {} if place == "blobs" else {"anchors": ""}

    async def run(faulty: int) -> tuple[int, Any]:
        account = azurite.account()
        async with account.stores(clock, **options) as open_one:
            account.fault = lambda number: fault if number == faulty else ""
            await do(open_one())
            account.fault = lambda _: ""
            return len(account.requests), await all_of(open_one())

    count, wanted = await run(-1)
    for _, found in await asyncio.gather(*(run(faulty) for faulty in range(count))):
        assert found == wanted


@pytest.mark.threat("R27", "I4")
async def test_an_account_that_is_down_is_said_so_and_nothing_of_it_stands(account: Account, clock: Any) -> None:
    async with account.stores(clock) as open_one:
        store = open_one(patience_s=0.3)
        case = await store.commit(Case(ACCOUNT), RECORD)
        account.fault = lambda _: "down"
        for attempt in (store.load(ACCOUNT), store.commit(case, RECORD), store.send(EVENT), store.reject(b"", ""),
                        store.rules(), store.budget("a"), store.set_budget("a", b"{}", ""), store.set_rules(Rules()),
                        store.add_anchor(1, b"")):
            with pytest.raises(StoreDown):
                await attempt
        account.fault = lambda _: ""
        assert await open_one().load(ACCOUNT) == (case, None)
        assert [await signed(one).take("a", 1, 1) for one in (store, open_one())] == [True, False]
        await store.commit(case, RECORD)


@pytest.mark.threat("R27")
async def test_what_answers_again_within_patience_is_not_noticed(account: Account, store: AzureStore) -> None:
    account.fault = lambda number: "down" if number < 2 else ""
    case = await store.commit(Case(ACCOUNT), RECORD)
    assert case.seq == 1


async def test_without_tables_the_store_is_down_not_empty(account: Account, clock: Any) -> None:
    async with account.stores(clock) as open_one:
        store = open_one()
        await store._tables._service.delete_table("cases")
        with pytest.raises(StoreDown, match="TableNotFound"):
            await store.load(ACCOUNT)


# Large rows

def noise(size_bytes: int, seed: int = 1) -> str:
    """Text that does not get smaller."""
    return base64.b64encode(random.Random(seed).randbytes(size_bytes * 3 // 4)).decode()


@pytest.mark.threat("R39")
@pytest.mark.parametrize("size", [20_000, 40_000, 400_000, 1_500_000, 3_000_000])
async def test_a_body_of_any_size_comes_back_as_it_went(size: int, store: AzureStore, reopen: Any) -> None:
    good = {"": {"properties": {"odd": "é\u2028\U0001F600'\"\\", "large": noise(size)}}}
    kept = await store.commit(Case(ACCOUNT, good=good), replace(RECORD, detail={"large": noise(size, 2)}), RECORD)
    kept = await store.commit(replace(kept, stuck="x"), RECORD)
    assert await reopen().load(ACCOUNT) == (kept, None)
    assert (await audit.verify_store(reopen())).ok
    assert json.loads((await store.records(ACCOUNT))[0].body)["detail"]["large"] == noise(size, 2)


@pytest.mark.threat("R39", "R40")
async def test_any_number_of_records_is_one_commit(store: AzureStore, reopen: Any) -> None:
    """More than a batch has rows, and more than it has bytes; and another worker sees all of them or none."""
    small = [replace(RECORD, detail={"n": number}) for number in range(250)]
    large = [replace(RECORD, detail={"n": number, "large": noise(90_000, number)}) for number in range(25)]
    case = await store.commit(Case(ACCOUNT), *small)
    with pytest.raises(Stale):
        await reopen().commit(Case(ACCOUNT), *large)
    case = await store.commit(case, *large)
    found = await reopen().records(ACCOUNT)
    assert [json.loads(one.body)["detail"]["n"] for one in found] == [*range(250), *range(25)]
    assert [one.seq for one in found] == list(range(1, 276))
    assert [one.seq for one in await store.records(ACCOUNT, after=100)] == list(range(101, 276))
    assert (await audit.verify_store(reopen())).ok
    assert [chain.seq async for chain in store.chains()] == [275]


@pytest.mark.threat("R39")
async def test_a_row_whose_blob_is_missing_or_another_is_not_used(store: AzureStore) -> None:
    await store.commit(Case(ACCOUNT, stuck="x", good={"": noise(1_500_000)}), replace(RECORD, detail={"x": noise(2_000_000)}))
    container: Any = store._tables._bodies._blobs
    names = [name async for name in container.list_blob_names()]
    assert len(names) == 2
    for name in names:
        await container.upload_blob(name, b"another", overwrite=True)
    with pytest.raises(Malformed):
        await store.load(ACCOUNT)
    for name in names:
        await container.delete_blob(name)
    with pytest.raises(Held):
        await store.load(ACCOUNT)
    assert ["is not there" in case.stuck for case in await opened(store)] == [True]
    (broken,) = (await audit.verify_store(store)).broken
    assert (broken.resource, broken.seq) == (ACCOUNT, 1)


async def test_a_body_without_a_place_for_it_is_refused(account: Account, clock: Any) -> None:
    async with account.stores(clock, bodies="") as open_one:
        with pytest.raises(Malformed):
            await open_one().commit(Case(ACCOUNT, good={"": noise(1_500_000)}))
        assert await open_one().load(ACCOUNT) == (Case(ACCOUNT), None)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_bytes_round_trip_through_properties(body: bytes) -> None:
    text = body.decode("utf-8", "backslashreplace").encode()
    assert rows.unpacked(rows.packed(text)) == text
    long = text + b"x" * rows.TEXT_BYTES
    assert rows.unpacked(rows.packed(long)) == long


def test_a_row_that_would_burst_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = rows.packed(b" " * 100_000)
    monkeypatch.setattr(rows, "UNPACKED_BYTES", 99_999)
    with pytest.raises(Malformed):
        rows.unpacked(packed)


# Damage, and rows of another version

@pytest.mark.threat("R38")
async def test_rows_of_a_newer_version_are_held_and_left_untouched(store: AzureStore, reopen: Any) -> None:
    case = await store.commit(Case(ACCOUNT, stuck="x"), RECORD)
    await store.send(Look(ACCOUNT, "event"))
    for row in ("case", "look"):
        await alter(store, row, v=2)
        fresh = reopen()
        for attempt in (fresh.load(ACCOUNT), fresh.commit(case, answered=Look(ACCOUNT, "event", (), 1))):
            with pytest.raises((Held, Stale)):
                await attempt
        if row == "look":
            with pytest.raises(Held):
                await fresh.send(Look(ACCOUNT, "person"))
            assert await due(fresh) == []
        else:
            assert ["version 2" in one.stuck for one in await opened(fresh)] == [True]
        await alter(store, row, v=1)
    assert replace((await reopen().load(ACCOUNT))[0], etag="") == replace(case, etag="")


@pytest.mark.threat("C2")
@pytest.mark.parametrize("body", ["", "{", "[]", '{"findings":7}', '{"acting":{"state":"approved"}}'])
async def test_a_row_that_cannot_be_read_is_malformed_not_empty(body: str, store: AzureStore) -> None:
    await store.commit(Case(ACCOUNT, stuck="x"))
    await store.send(EVENT)
    await alter(store, "case", body=body)
    with pytest.raises(Malformed):
        await store.load(ACCOUNT)
    assert ["cannot be read" in case.stuck for case in await opened(store)] == [True]
    await alter(store, "case", body="{}")
    await alter(store, "look", body=body)
    look = (await store.load(ACCOUNT))[1]
    assert look is not None and [change.actor for change in look.changes] in (["?"], [])
    await store.commit((await store.load(ACCOUNT))[0], answered=look)
    assert await due(store) == []


@pytest.mark.threat("C5", "C2", "A7")
async def test_damaged_state_fails_closed(store: AzureStore, reopen: Any) -> None:
    await store.set_rules(Rules(switch="policy"))
    await store.reject(b"junk", "no event")
    await store.commit(Case(ACCOUNT))
    for damage in ({"body": "{"}, {"body": '{"switch":"enforce"}'}, {"v": 2}):
        await alter(store, "rules", resource=HOME, **damage)
        assert (await store.rules()).switch == "report"
    await alter(store, "rejects", resource=HOME, body="{")
    await store.reject(b"more junk", "no event")
    assert len(await store.records(HOME)) == 2
    assert await signed(store).take("blast", 5, 60)
    (row,) = [one async for one in store._tables.query("budgets", "RowKey eq @row", row="taken")]
    for damage in ({"body": "{"}, {"blob": "of nobody"}):
        await store._tables.merge("budgets", {**row, **damage})
        assert not await signed(reopen()).take("blast", 5, 60)
    await store._tables.merge("budgets", {**row, "v": 2})
    with pytest.raises(Held):
        await signed(reopen()).take("blast", 5, 60)
    moved = await store._tables.get("cases", chain_key(ACCOUNT), "case")
    other = ResourceId(f"{ACCOUNT}2")
    assert moved is not None
    await store._tables.merge("cases", {**moved, "PartitionKey": chain_key(other)})
    with pytest.raises(Malformed):
        await store.load(other)


@pytest.mark.threat("C2")
async def test_records_without_their_case_are_shown_and_never_written_over(store: AzureStore, reopen: Any) -> None:
    await store.commit(Case(ACCOUNT), RECORD)
    row = await store._tables.get("cases", chain_key(ACCOUNT), "case")
    assert row is not None
    await store._tables.remove("cases", row)
    assert [(chain.resource, chain.seq) async for chain in store.chains()] == [(ACCOUNT, 0)]
    with pytest.raises(Malformed):
        await reopen().commit(Case(ACCOUNT), RECORD)
    assert not (await audit.verify_store(store)).ok


# The index and the messages

async def test_a_flood_is_one_message_and_it_goes_back_until_the_look_is_due(store: AzureStore, clock: Any) -> None:
    await store.send(EVENT)
    assert await messages(store) == [{"v": 1, "resource": ACCOUNT}]
    assert not await store.early(ACCOUNT)
    case, look = await store.load(ACCOUNT)
    await store.commit(case, answered=look)
    for _ in range(20):
        await store.send(EVENT)
        clock.forward(0.1)
    assert (await store._nudges._queue.get_queue_properties()).approximate_message_count == 1
    assert await messages(store) == []      # hidden until the look is due
    assert await store.early(ACCOUNT)       # the message comes; meanwhile the look was put off
    assert (await store._nudges._queue.get_queue_properties()).approximate_message_count == 2
    clock.forward(10)
    assert not await store.early(ACCOUNT)


@pytest.mark.threat("I4")
async def test_a_look_joined_in_hand_and_one_put_back_get_their_messages(store: AzureStore, reopen: Any) -> None:
    await store.send(EVENT)
    case, look = await store.load(ACCOUNT)
    assert len(await messages(store)) == 1
    await reopen().send(Look(ACCOUNT, "person"))      # joins what somebody has in hand: no message of its own
    assert await messages(store) == []
    await store.commit(case, answered=look)
    assert len(await messages(store)) == 1
    await store.send(Look(ACCOUNT, "due"), 15)        # whoever had it in hand could not answer it
    assert (await store._nudges._queue.get_queue_properties()).approximate_message_count == 1


@pytest.mark.threat("R29", "I4")
async def test_tend_nudges_for_a_lost_message_once_in_two_minutes(
        account: Account, store: AzureStore, reopen: Any, clock: Any) -> None:
    await store.send(EVENT)
    assert len(await messages(store)) == 1      # taken, and its worker is gone
    await reopen().nudge()
    assert await messages(store) == []          # it may still be in somebody's hands
    for _ in range(3):
        clock.forward(121)
        await reopen().nudge()
        await reopen().nudge()
        assert await messages(store) == [{"v": 1, "resource": ACCOUNT}]
    case, look = await store.load(ACCOUNT)
    await store.commit(case, answered=look)
    clock.forward(121)
    await reopen().nudge()
    assert await messages(store) == []


@pytest.mark.threat("R32", "I4")
async def test_the_index_never_names_too_few(azurite: Azurite, clock: Any) -> None:
    """A worker ends after any of its requests: what stands is found by another one."""
    for number in range(9):
        account = azurite.account()
        async with account.stores(clock) as open_one:
            account.fault = lambda at, number=number: "down" if at >= number else ""    # type: ignore[misc]
            store = open_one(patience_s=0)
            try:
                await store.send(EVENT)
                case, look = await store.load(ACCOUNT)
                case = await store.commit(case, answered=look)
                await store.commit(replace(case, stuck="x"))
            except StoreDown:
                pass
            account.fault = lambda _: ""
            other = open_one()
            case, look = await other.load(ACCOUNT)
            assert await due(other) == [one for one in (look,) if one]
            assert await opened(other) == [one for one in (case,) if rows.is_open(one)]
            clock.forward(121)
            await other.nudge()
            assert bool(look) <= bool(await messages(other))


async def test_the_index_is_tidied_behind_what_is_done(store: AzureStore, reopen: Any, clock: Any) -> None:
    await store.send(EVENT)
    case, look = await store.load(ACCOUNT)
    case = await store.commit(replace(case, stuck="x"), answered=look)

    async def indexed() -> list[str]:
        return [row["resource"] async for row in store._tables.query("open", "RowKey ge @any", any="")]

    for _ in range(2):
        clock.forward(700)
        await reopen().nudge()
        assert await indexed() == [ACCOUNT]     # still open
    await alter_index(store, look=0.0)          # as a look leaves it
    case = await store.commit(replace(case, stuck=""))
    await reopen().nudge()
    assert await indexed() == []
    case = await store.commit(replace(case, stuck="again"))
    assert await opened(reopen()) == [case]
    await store.send(Look(ACCOUNT, "person"))
    assert len(await due(reopen())) == 1


async def test_an_index_row_that_was_just_written_is_left_alone(store: AzureStore, clock: Any) -> None:
    """Who wrote it may be about to write what it points to."""
    await store.send(EVENT)
    case, look = await store.load(ACCOUNT)
    await store.commit(case, answered=look)
    for at, stands in ((clock.now.timestamp(), True), (clock.now.timestamp() - 601, False)):
        await alter_index(store, look=0.0, at=at)
        await store.nudge()
        assert bool([row async for row in store._tables.query("open", "RowKey ge @any", any="")]) == stands


async def alter_index(store: AzureStore, **fields: Any) -> None:
    (row,) = [row async for row in store._tables.query("open", "RowKey ge @any", any="")]
    await store._tables.merge("open", {**row, **fields})


# What it costs

async def test_what_is_merely_open_costs_tend_nothing(account: Account, store: AzureStore, reopen: Any, clock: Any) -> None:
    """Cases with findings and no due: one query of the index, whose rows lead to none of them."""
    for number in range(30):
        await store.commit(Case(ResourceId(f"{ACCOUNT}{number}"), findings=frozenset({("a", "b")})), RECORD)
    soon = await store.commit(Case(ACCOUNT, due=clock.now), RECORD)
    clock.forward(700)
    await reopen().nudge()
    account.requests.clear()
    assert [case async for case in reopen().due()] == [soon]
    await reopen().nudge()
    assert [one.partition("(")[0] for one in account.requests] == ["GET open", "GET cases"] * 2


async def test_an_anchor_reads_what_moved_and_once_an_hour_everything(
        account: Account, store: AzureStore, clock: Any) -> None:
    names = [ResourceId(f"{ACCOUNT}{number}") for number in range(13)]
    for name in names:
        await store.commit(Case(name, stuck="x"), RECORD)
    lines = list[dict[str, Any]]()
    for number in range(1, 15):
        clock.forward(300)
        if number > 1:
            await store.send(Look(names[number - 2], "event"))
            case, look = await store.load(names[number - 2])
            await store.commit(case, RECORD, answered=look)
        account.requests.clear()
        lines.append(json.loads(await anchors.write(store, clock.now)))
        walked = [one for one in account.requests if one.startswith("GET cases()")]
        await store.nudge()
        if number % anchors.WHOLE != 1 and number > 4:
            assert len(walked) <= 8, "those of the last fifteen minutes, and our own"
    assert {line["heads"] for line in lines[1:]} == {14}
    moved = [[ResourceId(one[0]) for one in line["moved"] if one[0] != HOME] for line in lines]
    assert [sorted(line) for line in moved] == [sorted(names), *([name] for name in names[:13])]
    assert (await audit.verify_store(store)).ok

async def test_an_event_is_one_query_and_one_batch(account: Account, store: AzureStore) -> None:
    await store.send(EVENT)
    assert [one.partition("(")[0] for one in account.requests] == ["GET cases", "PATCH open", "POST $batch", "POST messages"]
    account.requests.clear()
    assert not await store.early(ACCOUNT)
    case, look = await store.load(ACCOUNT)
    case = await store.commit(replace(case, stuck="open now"), RECORD, RECORD, answered=look)
    assert account.requests == ["GET cases()", "POST $batch"]
    account.requests.clear()
    await store.commit(replace(case, stuck=""), RECORD)
    assert account.requests == ["POST $batch"]
    account.requests.clear()
    await store.send(EVENT)
    assert account.requests == ["POST $batch", "POST messages"]


# Who gets the token

@pytest.mark.threat("E5", "I12")
async def test_neither_a_redirect_nor_a_challenge_moves_the_token(tmp_path: Any, clock: Any) -> None:
    tls, seen = certificates(tmp_path), list[tuple[str, str]]()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.certificate, tls.key)
    urls = list[str]()

    async def answer(request: web.Request) -> web.StreamResponse:
        where = "other" if request.url.port == ports[1] else "ours"
        seen.append((where, request.headers.get("Authorization", "")[:6]))
        if "queue" in request.path:
            challenge = "Bearer authorization_uri=https://login.example/other/oauth2 resource_id=https://management.azure.com"
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(status=307, headers={"Location": f"{urls[1]}{request.path_qs}"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    sites = [web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context) for _ in range(2)]
    for site in sites:
        await site.start()
    ports = [address[1] for address in runner.addresses]
    urls += [f"https://127.0.0.1:{port}" for port in ports]
    trusting = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(tls.ca)))
    credential, transport = Credential(), AioHttpTransport(session=aiohttp.ClientSession(connector=trusting))
    store = AzureStore(f"{urls[0]}/account", f"{urls[0]}/queue", credential, transport, clock, patience_s=0.1)
    try:
        with pytest.raises(StoreDown):
            await store.load(ACCOUNT)
        with pytest.raises(StoreDown):
            await store._nudges.send(ACCOUNT, 0)
    finally:
        await transport.close()
        await runner.cleanup()
    assert {where for where, _ in seen} == {"ours"}
    assert set(credential.asked) == {(SCOPE,)}


@pytest.mark.threat("E5", "I12")
@pytest.mark.parametrize("url", ["https://other.example/account/x", "http://127.0.0.1/account/x", "https://127.0.0.1:1/account",
                                 "https://127.0.0.1@other.example/x", "https://127.0.0.1/account/../x"])
async def test_a_client_of_ours_reaches_one_host_only(url: str) -> None:
    """Whatever in the SDK would rewrite the address, a secondary location for one."""
    shared = stores_account.Account(Credential(), AioHttpTransport(), lambda: datetime.now(UTC))
    with pytest.raises(Unsafe):
        await shared.options("https://127.0.0.1/account")["transport"].send(HttpRequest("GET", url))


@pytest.mark.threat("R26")
def test_only_a_date_tells_the_time() -> None:
    shared = stores_account.Account(Credential(), AioHttpTransport(), lambda: AT)
    for text, skew_s in (("", 0), ("soon", 0), ("Tue, 24 Nov 2026 18:50:00 GMT", 600), ("Tue, 24 Nov 2026 18:50:00 -0000", 600),
                         ("Tue, 24 Nov 2026 19:00:30 GMT", -30), ("\x00" * 9000, -30)):
        shared.dated({"date": text} if text else {})
        assert shared.skew_s == skew_s


def test_a_token_goes_over_https_only(clock: Any) -> None:
    with pytest.raises(ValueError):
        AzureStore("http://127.0.0.1/account", "https://127.0.0.1/account", Credential(), AioHttpTransport(), clock)
