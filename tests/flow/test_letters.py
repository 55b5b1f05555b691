"""What could not be delivered is taken in once more, and then set aside: dead letters in a container, poisoned messages."""

from __future__ import annotations

import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.storage.blob.aio import ContainerClient
from azure.storage.queue.aio import QueueClient

from guardrail import letters, wishes
from guardrail.errors import StoreDown
from guardrail.letters import HANDLED, Letters
from guardrail.stores import HOME
from guardrail.stores.account import Account as Link
from tests.azurite import Account, Azurite, Counting, Credential
from tests.flow.harness import HTTPS, NOT_HTTPS, STORAGE, VAULT, event, laid, looked, stand, value, world
from tests.flow.test_people import ONCALL
from tests.flow.world import DEV, World

pytestmark = pytest.mark.anyio

NAME = "GUARDRAIL-CHANGES/2026/11/24/19/{}.json"


@dataclass
class Box:
    """The container and the two queues, as Event Grid and the host use them."""

    account: Account
    blobs: Any
    events: Any
    poison: Any

    async def write(self, name: str, content: Any) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        await self.blobs.upload_blob(name, raw)

    async def names(self) -> list[str]:
        return sorted([one async for one in self.blobs.list_blob_names()])

    async def messages(self, queue: Any) -> list[str]:
        return [one.content for one in await queue.peek_messages(32)]


def dead(id: str, **over: Any) -> dict[str, Any]:
    """As Event Grid writes it: the event, and what became of it."""
    return {**event(id), "deadLetterReason": "MaxDeliveryAttemptsExceeded", "deliveryAttempts": 30,
            "lastDeliveryOutcome": "GenericError", "publishTime": "2026-11-24T18:00:00.1234567Z",
            "lastDeliveryAttemptTime": "2026-11-24T19:00:00.1234567Z", **over}


@asynccontextmanager
async def box(here: World, azurite: Azurite) -> AsyncIterator[Box]:
    account = azurite.account()
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(account.ca)), limit=0)
    transport = Counting(account, here.clock, session=aiohttp.ClientSession(connector=connector))
    made: Any = ContainerClient
    blobs = made(account.blobs, "dead-letters", credential=Credential(), transport=transport,
                 max_single_put_size=500_000, max_block_size=500_000)
    await blobs.create_container()
    queue: Any = QueueClient
    events, poison = (queue(account.queues, name, credential=Credential(), transport=transport)
                      for name in ("events", "events-poison"))
    await events.create_queue()
    link = Link(Credential(), transport, here.clock, 0)
    here.guardrail.letters = Letters(link, f"{account.blobs}/dead-letters", account.queues)
    try:
        yield Box(account, blobs, events, poison)
    finally:
        await transport.close()


async def rejected(here: World) -> list[Any]:
    return [one["detail"] for one in await here.records(HOME) if one["event"] == "change.rejected"]


@pytest.mark.threat("B2")
async def test_a_dead_letter_mends_what_its_event_would_have(tmp_path: Path, azurite: Azurite) -> None:
    """Several events in one blob, in both schemas; once, and then they lie aside as they were."""
    async with world(tmp_path) as here, box(here, azurite) as mail:
        ids = [stand(here, laid(STORAGE)), stand(here, laid(VAULT))]
        for id in ids:
            await looked(here, id)
        stand(here, laid(STORAGE, NOT_HTTPS))
        cloud = {"specversion": "1.0", "type": "Microsoft.Resources.ResourceWriteSuccess", "id": "c",
                 "source": "/subscriptions/x", "subject": ids[1], "time": "2026-11-24T19:00:00Z",
                 "deadletterreason": "x", "data": {}}
        one = dead(ids[0])
        await mail.write(NAME.format("a"), [one, cloud])
        for _ in range(3):
            await here.forward(60)
        assert value(here, ids[0], HTTPS) is True
        assert "change.seen" in await here.events_of(ids[1])
        seen = [id for record in await here.records(ids[0]) for id in record["detail"].get("event_ids", [])]
        assert seen.count(one["id"]) == 1
        assert await mail.names() == [HANDLED + NAME.format("a")]
        kept = await (await mail.blobs.download_blob(HANDLED + NAME.format("a"))).readall()
        assert json.loads(kept)[1] == cloud
        assert await rejected(here) == []
        assert (await here.case(HOME)).good["letters"]["count"] == 1


@pytest.mark.threat("A15")
async def test_a_dead_letter_of_the_probe_proves_nothing(tmp_path: Path, azurite: Azurite) -> None:
    """It did not come by the way that is to be proven."""
    group = f"/subscriptions/{DEV}/resourceGroups/rg-guardrail"
    settings = {"GUARDRAIL_PROBE": "on", "GUARDRAIL_GROUP": group}
    async with world(tmp_path, settings=settings) as here, box(here, azurite) as mail:
        here.sim.seed(group, {"location": "westeurope"})
        here.sim.events.disturb(match="tags/write", drop=1)
        await here.guardrail.tend()
        raised = event(group, "Microsoft.Resources/tags/write", eventTime=here.clock().isoformat())
        await mail.write(NAME.format("a"), [{**dead(group), **raised}])
        await here.forward(60)
        assert (await here.case(HOME)).good["letters"]["count"] == 1
        told = await here.events_of(HOME)
        assert told.count("probe.sent") == 1 and "probe.received" not in told
        await here.guardrail.intake(json.dumps(raised))         # the very event, delivered
        assert (await here.events_of(HOME)).count("probe.received") == 1


@pytest.mark.threat("B2")
async def test_a_thousand_dead_letters_of_one_resource_are_two_reads_and_no_write(tmp_path: Path, azurite: Azurite) -> None:
    async with world(tmp_path) as here, box(here, azurite) as mail:
        id = stand(here, laid(STORAGE))
        await looked(here, id)
        here.clock.forward(60)
        here.sim.log.clear()
        await mail.write(NAME.format("a"), [dead(id, pad="x" * 1500) for _ in range(995)])      # more than an event may be
        for number in range(5):
            await mail.write(NAME.format(number), [dead(id)])
        await here.guardrail.tend()
        await here.forward(60, step=10)
        assert len([line for line in here.reads if line.path == id]) <= 2
        assert here.ours == [] and await rejected(here) == []


async def test_bad_letters_are_rejected_and_set_aside(
        tmp_path: Path, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    """No JSON, no event, too large: each is recorded once, and the sound one between them is not held up."""
    monkeypatch.setattr(letters, "BLOB_BYTES", 100_000)
    async with world(tmp_path) as here, box(here, azurite) as mail:
        id = stand(here, laid(STORAGE))
        bad = {"a": b"{nonsense", "b": [{"eventType": 7}], "c": [], "d": b"", "e": b"[" * 90_000, "f": b"x" * 200_000}
        for name, content in bad.items():
            await mail.write(NAME.format(name), content)
        await mail.write(NAME.format("g"), [dead(id)])
        await mail.write("at-the-root.json", [dead(id)])
        for _ in range(3):
            await here.forward(60)
        assert "change.seen" in await here.events_of(id)
        assert len(await rejected(here)) == len(bad)
        left = [one for one in await mail.names() if not one.startswith(HANDLED)]
        assert left == [NAME.format("f")]


@pytest.mark.threat("I4", "B2")
async def test_a_crash_at_any_request_loses_no_letter_and_replays_one_at_most(tmp_path: Path, azurite: Azurite) -> None:
    """The account goes down before its n-th request: later all is taken in, and at most one blob twice."""
    async with world(tmp_path) as here:
        ids = [here.stands(STORAGE, id=f"{stand(here, laid(STORAGE))}{number}") for number in range(3)]
        for number in range(15):
            async with box(here, azurite) as mail:
                for index, id in enumerate(ids):
                    await mail.write(NAME.format(index), [dead(id)])
                taken = list[str]()

                async def intake(raw: bytes, taken: list[str] = taken) -> None:
                    taken.extend(one["subject"] for one in json.loads(raw))

                start = len(mail.account.requests)
                mail.account.fault = lambda at, last=start + number: "down" if at >= last else ""  # type: ignore[misc]
                assert here.guardrail.letters is not None
                with suppress(StoreDown):
                    await here.guardrail.letters.again(here.guardrail.store, intake)
                mail.account.fault = lambda _: ""
                await here.guardrail.letters.again(here.guardrail.store, intake)
                assert set(taken) == set(ids) and len(taken) <= 4
                assert await mail.names() == [HANDLED + NAME.format(index) for index in range(3)]


async def test_what_fails_in_our_own_code_is_set_aside_too(tmp_path: Path, azurite: Azurite) -> None:
    async with world(tmp_path) as here, box(here, azurite) as mail:
        await mail.write(NAME.format("a"), [dead(stand(here, laid(STORAGE)))])

        async def intake(raw: bytes) -> None:
            raise ZeroDivisionError("a bug")

        assert here.guardrail.letters is not None
        await here.guardrail.letters.again(here.guardrail.store, intake)
        assert await mail.names() == [HANDLED + NAME.format("a")]
        (told,) = await rejected(here)
        assert "a bug" in told["why"]
        # a person who sees it has the resource read whole, which is more than its event would have done
        (letter,) = json.loads(told["raw"])
        stand(here, laid(STORAGE, NOT_HTTPS))
        await wishes.look(here.guardrail.engine, letter["subject"], ONCALL, "its dead letter was rejected")
        await here.settle()
        assert value(here, letter["subject"], HTTPS) is True


async def test_many_letters_take_several_minutes(tmp_path: Path, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "AT_ONCE", 3)
    async with world(tmp_path) as here, box(here, azurite) as mail:
        id = stand(here, laid(STORAGE))
        for number in range(7):
            await mail.write(NAME.format(number), [dead(id)])
        for left in (4, 1, 0, 0):
            await here.guardrail.tend()
            assert len([one for one in await mail.names() if not one.startswith(HANDLED)]) == left


async def test_a_poisoned_event_is_put_back_once_and_then_rejected(tmp_path: Path, azurite: Azurite) -> None:
    async with world(tmp_path) as here, box(here, azurite) as mail:
        await here.guardrail.tend()         # the host has not made the queue yet
        await mail.poison.create_queue()
        texts = [b64encode(json.dumps(event(f"/subscriptions/x/{number}")).encode()).decode() for number in range(3)]
        for text in texts:
            await mail.poison.send_message(text)
        await here.guardrail.tend()
        assert sorted(await mail.messages(mail.events)) == sorted(texts) and await rejected(here) == []
        assert await mail.messages(mail.poison) == []
        await mail.poison.send_message(texts[0])        # it failed again
        await here.guardrail.tend()
        assert len(await mail.messages(mail.events)) == 3
        assert [one["raw"] for one in await rejected(here)] == [texts[0]]
        assert await mail.messages(mail.poison) == []


async def test_a_container_that_is_not_there_is_said_after_all_else_is_done(tmp_path: Path, azurite: Azurite) -> None:
    async with world(tmp_path) as here, box(here, azurite) as mail:
        await mail.blobs.delete_container()
        with pytest.raises(StoreDown, match="ContainerNotFound"):
            await here.guardrail.tend()
        assert "anchor.written" in await here.events_of(HOME)
