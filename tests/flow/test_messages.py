"""What people are told while the loop runs: once, together, later if need be, and never at the expense of an action."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guardrail import notify
from guardrail.authorize import Person
from guardrail.errors import StoreDown
from guardrail.messages import TOLD
from guardrail.stores import HOME, Store
from guardrail.stores.sqlite import SqliteStore
from guardrail.switches import switch
from guardrail.values import Case
from tests.flow.harness import HTTPS, NOT_HTTPS, STORAGE, Crash, at, laid, looked, plain_store, stand, value, world
from tests.flow.world import ENFORCE, Clock, Stores, World
from tests.receiver import Receiver
from tests.receiver import receiver as receiver

pytestmark = pytest.mark.anyio

ADMINISTRATOR = Person("oncall", frozenset({"Administrator"}), frozenset())
OFF = {"properties": {"supportsHttpsTrafficOnly": False}}


@pytest.fixture(params=["sqlite", "azurite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """Stores in which what is told waits: given to the world, so that `--store` changes nothing here."""
    if request.param == "azurite":
        account = request.getfixturevalue("azurite").account()
        return lambda clock: account.stores(clock, tells=TOLD)
    return on_a_file(tmp_path)


def on_a_file(folder: Path) -> Stores:
    @asynccontextmanager
    async def opened(clock: Clock) -> AsyncIterator[Callable[[], Store]]:
        yield lambda: SqliteStore(folder / "told.db", clock, durable=False, tells=TOLD)

    return opened


def told(folder: Path, store: Stores, receiver: Receiver, policy: str = ENFORCE,
         **settings: str) -> AbstractAsyncContextManager[World]:
    return world(folder, policy, store=store, settings={
        "GUARDRAIL_URL": "https://console.example.com", "GUARDRAIL_WEBHOOK": f"{receiver.url}/hook",
        "GUARDRAIL_WEBHOOK_KEY": "a key of some length", **settings})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PATIENCE_S", 0.05)


def drifted(here: World, id: str = "") -> Any:
    account = here.stands(STORAGE, id=id)
    here.write("PATCH", account, OFF)
    return account


async def outbox(here: World, id: Any) -> tuple[int, ...]:
    return (await here.case(id)).outbox


async def test_a_fix_is_told_once_to_each_channel(tmp_path: Path, stores: Stores, receiver: Receiver) -> None:
    async with told(tmp_path, stores, receiver, GUARDRAIL_SLACK=f"{receiver.url}/slack") as here:
        account = drifted(here)
        await here.forward(180)
        by_path = sorted(path for path, _, _ in receiver.tried)
        assert by_path == ["/hook", "/slack"]
        (message,) = [one for one in receiver.taken if "kind" in one]
        (action,) = {one["detail"]["action_id"] for one in await here.records(account) if one["event"] == "action.verified"}
        assert (message["kind"], message["action_id"]) == ("action.verified", action)
        assert message["links"] == {"console": f"https://console.example.com/actions/{action}"}
        assert message["simulator"] is True
        assert {"path": HTTPS, "now": False, "wanted": True} in message["changes"]
        assert message["caused_by"][0]["object_id"]
        assert await outbox(here, account) == ()
        sent = [one["detail"] for one in await here.records(account) if one["event"] == "message.sent"]
        assert sorted(one["channel"] for one in sent) == ["slack", "webhook"]
        assert {one["message_id"] for one in sent} == {message["id"]}


async def test_the_installations_own_records_are_told(tmp_path: Path, stores: Stores, receiver: Receiver) -> None:
    async with told(tmp_path, stores, receiver) as here:
        await switch(here.guardrail.engine, "report", ADMINISTRATOR, "an incident")
        assert len(await outbox(here, HOME)) == 1
        await here.forward(60)
        (message,) = receiver.taken
        assert (message["kind"], message["severity"]) == ("mode.switched", "high")
        assert message["title"] == "Switched from policy to report"
        assert message["links"] == {"console": "https://console.example.com/modes"}
        assert await outbox(here, HOME) == ()


async def test_without_a_channel_what_front_left_is_taken_out(tmp_path: Path, stores: Stores) -> None:
    async with world(tmp_path, store=stores) as here:
        account = drifted(here)
        await here.settle()
        assert await outbox(here, account)
        await here.forward(60)
        assert await outbox(here, account) == ()
        assert not [one for one in await here.events_of(account) if one.startswith("message.")]


@pytest.mark.threat("R37")
@pytest.mark.parametrize("answer", [500, "never"])
async def test_a_dead_receiver_delays_no_action(tmp_path: Path, receiver: Receiver, impatient: None, answer: int | str) -> None:
    """The same evening with a receiver that works and one that does not: the same records at the same times."""
    async def evening(name: str, answer: int | str) -> list[tuple[str, str]]:
        receiver.answer = answer
        folder = tmp_path / name
        folder.mkdir()
        async with told(folder, on_a_file(folder), receiver) as here:
            account = drifted(here)
            await here.forward(180)
            here.write("PATCH", account, OFF)
            await here.forward(180)
            seen = [(one["event"], one["at"]) for one in await here.records(account)]
            assert value(here, account, HTTPS) is True
            if answer != 200:
                assert [one for one, _ in seen].count("message.failed") == 2     # once a message, not once a minute
                assert len(await outbox(here, account)) == 2
                receiver.answer = 200
                await here.forward(60)
                assert receiver.kinds == ["action.verified"] * 2
                await here.forward(900)
                assert receiver.kinds == ["action.verified"] * 2
                assert await outbox(here, account) == ()
            receiver.taken.clear()
            return [one for one in seen if not one[0].startswith("message.")]

    assert await evening("dead", answer) == await evening("well", 200)


@pytest.mark.threat("R37")
async def test_looks_are_answered_while_a_receiver_hangs(tmp_path: Path, receiver: Receiver) -> None:
    """The loop of a worker without a queue: tend, looks and messages in one process."""
    receiver.answer = "never"
    async with told(tmp_path, on_a_file(tmp_path), receiver) as here:
        await switch(here.guardrail.engine, "policy", ADMINISTRATOR, "to have something to tell")
        stop = asyncio.Event()
        loop = asyncio.create_task(here.guardrail.run(tend_every_s=0.01, stop=stop))
        await asyncio.wait_for(receiver.called.wait(), 5)
        until = time.monotonic() + 5
        account = drifted(here)
        await here.deliver()
        while value(here, account, HTTPS) is not True:
            assert time.monotonic() < until, "the look waited for the receiver"
            await asyncio.sleep(0.01)
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        assert receiver.taken == []


async def test_one_dead_channel_holds_up_no_other(tmp_path: Path, receiver: Receiver, impatient: None,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    async with told(tmp_path, on_a_file(tmp_path), receiver, GUARDRAIL_TEAMS="https://localhost:9/dead") as here:
        account = drifted(here)
        await here.forward(120)
        assert receiver.kinds == ["action.verified"]
        assert await outbox(here, account)
        await here.forward(7 * 86400 + 60, step=6 * 3600)
        assert receiver.kinds == ["action.verified"]
        failed = [one["detail"] for one in await here.records(account) if one["event"] == "message.failed"]
        assert [(one["channel"], one.get("given_up", False)) for one in failed] == [("teams", False), ("teams", True)]
        assert await outbox(here, account) == ()


async def test_repeats_are_counted_in_the_next(tmp_path: Path, receiver: Receiver) -> None:
    async with told(tmp_path, on_a_file(tmp_path), receiver) as here:
        account = here.stands(STORAGE)
        await looked(here, account)
        for _ in range(3):
            stand(here, laid(STORAGE, NOT_HTTPS))
            await looked(here, account)
            await here.forward(60)
            here.clock.forward(2)
        assert [one.get("more", 0) for one in receiver.taken] == [0]
        await here.forward(600)
        assert [one.get("more", 0) for one in receiver.taken] == [0, 1]
        assert "And 1 more of the same: " in receiver.taken[1]["text"]


async def test_too_many_are_one_digest(tmp_path: Path, receiver: Receiver) -> None:
    async with told(tmp_path, on_a_file(tmp_path), receiver) as here:
        base = here.stands(STORAGE)
        for number in range(23):
            drifted(here, f"{base}{number}")
        await here.settle()
        await here.guardrail.tend()
        assert len(receiver.taken) == 21
        assert receiver.kinds.count("action.verified") == 20
        assert receiver.taken[-1]["kind"] == "digest"
        assert receiver.taken[-1]["more"] == 3
        assert len(receiver.taken[-1]["also"]) == 3
        await here.forward(1200)
        assert len(receiver.taken) == 21


async def test_one_deployment_is_one_message(tmp_path: Path, receiver: Receiver) -> None:
    """Many resources under one correlation id."""
    async with told(tmp_path, on_a_file(tmp_path), receiver) as here:
        base = here.stands(STORAGE)
        for number in range(5):
            account = here.stands(STORAGE, id=f"{base}{number}")
            here.sim.request("PATCH", account, OFF, as_="deploy-pipeline", headers={"x-ms-correlation-request-id": "5b1e" * 8})
        await here.forward(120)
        assert [(one["kind"], one["more"]) for one in receiver.taken] == [("action.verified", 4)]


async def test_what_is_too_mild_is_told_to_nobody(tmp_path: Path, receiver: Receiver) -> None:
    async with told(tmp_path, on_a_file(tmp_path), receiver, ENFORCE + "notify: {least: critical}\n") as here:
        account = drifted(here)
        await here.forward(120)
        assert receiver.tried == []
        assert await outbox(here, account) == ()


@pytest.mark.threat("R37")
async def test_a_crash_after_sending_tells_twice_under_one_id(tmp_path: Path, stores: Stores, receiver: Receiver) -> None:
    async with told(tmp_path, stores, receiver) as here:
        account = drifted(here)
        await here.settle()
        cases = [case async for case in here.guardrail.store.open_cases() if case.outbox]

        def crash() -> None:
            raise Crash

        plain = here.guardrail.engine.store
        at(here.guardrail, "store.commit", "before", crash)
        with pytest.raises(Crash):
            await notify.deliver(here.guardrail.engine, cases)
        here.guardrail.store = here.guardrail.engine.store = plain
        here.guardrail.engine.unwritten.clear()         # the memory of a process that is gone
        assert len(receiver.taken) == 1
        await here.forward(660)
        assert receiver.kinds == ["action.verified"] * 2
        assert len({one["id"] for one in receiver.taken}) == 1
        assert await outbox(here, account) == ()


async def test_what_could_not_be_written_down_is_not_told_again(tmp_path: Path, receiver: Receiver) -> None:
    """The store is away for a minute after the receiver took it; or an action began meanwhile."""
    async with told(tmp_path, on_a_file(tmp_path), receiver) as here:
        account = drifted(here)
        await here.settle()
        cases = [case async for case in here.guardrail.store.open_cases() if case.outbox]

        def away() -> None:
            raise StoreDown("the store does not answer")

        at(here.guardrail, "store.commit", "before", away, times=notify.TRIES)
        await notify.deliver(here.guardrail.engine, cases)
        assert len(receiver.taken) == 1
        assert await outbox(here, account)
        await here.forward(1200)
        assert len(receiver.taken) == 1
        assert await outbox(here, account) == ()
        assert (await here.events_of(account)).count("message.sent") == 1


@pytest.mark.threat("R37")
async def test_no_commit_of_ours_comes_between_an_action_and_its_end(tmp_path: Path, receiver: Receiver) -> None:
    """While a request is under way its case is left alone, else the action would be stale and wait for its lease."""
    async with told(tmp_path, on_a_file(tmp_path), receiver) as here:
        account = drifted(here)
        await here.settle()
        before = await outbox(here, account)
        store = plain_store(here.guardrail)

        async def tended() -> None:
            cases: list[Case] = [case async for case in store.open_cases() if case.outbox]
            assert cases
            await notify.deliver(here.guardrail.engine, cases)

        at(here.guardrail, "arm.send", "before", tended)
        here.write("PATCH", account, OFF)
        here.clock.forward(60)
        await here.settle()
        assert receiver.taken == []
        assert value(here, account, HTTPS) is True
        events = await here.events_of(account)
        assert events.count("action.verified") == 2
        assert len(await outbox(here, account)) == len(before) + 1


@pytest.mark.threat("R37")
async def test_an_action_that_begins_while_a_message_leaves_is_not_held_up(tmp_path: Path, receiver: Receiver) -> None:
    """What was told is written down when the action is over, and not told again."""
    async with told(tmp_path, on_a_file(tmp_path), receiver) as here:
        account = drifted(here)
        await here.settle()
        cases = [case async for case in here.guardrail.store.open_cases() if case.outbox]
        receiver.open.clear()
        leaving = asyncio.create_task(notify.deliver(here.guardrail.engine, cases))
        await asyncio.wait_for(receiver.called.wait(), 5)

        async def taken() -> None:
            receiver.open.set()
            await leaving

        at(here.guardrail, "arm.send", "before", taken)
        here.write("PATCH", account, OFF)
        here.clock.forward(60)
        await here.settle()
        assert receiver.kinds == ["action.verified"]
        assert (await here.events_of(account)).count("action.verified") == 2
        assert len(await outbox(here, account)) == 2
        await here.forward(1200)
        assert receiver.kinds == ["action.verified"] * 2
        assert await outbox(here, account) == ()
        sent = [one["detail"]["records"] for one in await here.records(account) if one["event"] == "message.sent"]
        assert len(sent) == len({seq for seqs in sent for seq in seqs}) == 2
