"""What the Functions host does for a worker on Azure's stores: the queue `looks` in batches, five tries, poison, a timer.

With a queue's own faults (S19): messages that come twice at once, never, late, or that are none of ours.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from azure.core.exceptions import AzureError

from guardrail import app
from guardrail.errors import GuardrailError, Retryable
from guardrail.stores.azure import AzureStore
from tests.azurite import Account
from tests.soak.clock import Clock
from tests.soak.unsteady import Unsteady

BATCH, TRIES = 16, 5                    # host.json: batchSize, maxDequeueCount
HIDDEN_S, AGAIN_S = 600, 30             # while it is in hand, renewed; and after a failure (visibilityTimeout)
KEPT: list[Any] = []
JUNK = ("not base64 !", base64.b64encode(b"{").decode(), base64.b64encode(b'{"v": 2, "resource": "/subscriptions/0"}').decode(),
        base64.b64encode(json.dumps({"v": 1, "resource": "/subscriptions/0/../x"}).encode()).decode())


async def on_tables(account: dict[str, str], clock: Clock) -> AzureStore:
    """The store of this account, whose messages wait as long as the faster clock says: whole seconds on the wall."""
    opened = Account(account["tables"], account["queues"], account["blobs"], Path(account["ca"])).stores(clock, create=False)
    store = (await opened.__aenter__())()
    KEPT.append(opened)                 # as long as the process: its end closes the transport
    message = store._nudges.send

    async def scaled(resource: Any, delay_s: float) -> None:
        await message(resource, delay_s / clock.speed)

    store._nudges.send = scaled         # type: ignore[method-assign]
    return store


class Host:
    """One instance. `store` is the plain one: the queue belongs to the platform, and its faults to `unsteady`."""

    def __init__(self, worker: app.Guardrail, store: AzureStore, clock: Clock, unsteady: Unsteady) -> None:
        self.worker, self.queue, self.clock, self.unsteady = worker, store._nudges._queue, clock, unsteady
        self.gate = asyncio.Semaphore(app.IN_FLIGHT)
        self.at_work = set[asyncio.Task[None]]()

    async def run(self, stop: asyncio.Event) -> None:
        timer = asyncio.create_task(self.each_minute(stop))
        while not stop.is_set():
            async with self.gate:
                messages = await self.asked(self.received) or []
            for message in messages:
                for _ in range(2 if self.unsteady.meets("twice") else 1):
                    task = asyncio.create_task(self.answered(message))
                    self.at_work.add(task)
                    task.add_done_callback(self.at_work.discard)
            if not messages:
                await asyncio.sleep(app.IDLE_S)
        await asyncio.gather(timer, *self.at_work)

    async def received(self) -> list[Any]:
        hidden_s = max(1, math.ceil(HIDDEN_S / self.clock.speed))
        pages = self.queue.receive_messages(messages_per_page=BATCH, visibility_timeout=hidden_s).by_page()
        async for page in pages:
            return [message async for message in page]
        return []

    async def answered(self, message: Any) -> None:
        async with self.gate:
            if self.unsteady.meets("never"):
                await self.asked(lambda: self.queue.delete_message(message))
                return
            try:
                raw = base64.b64decode(message.content, validate=True)
                if (message.dequeue_count or 0) > TRIES:
                    await self.worker.poisoned(raw, TRIES)
                else:
                    await self.worker.nudged(raw)
            except (GuardrailError, ValueError) as error:
                if isinstance(error, Retryable) or (message.dequeue_count or 0) <= TRIES:
                    wait_s = max(1, math.ceil(AGAIN_S / self.clock.speed))
                    await self.asked(lambda: self.queue.update_message(message, visibility_timeout=wait_s))
                    return
            await self.asked(lambda: self.queue.delete_message(message))

    async def asked(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The host asks again by itself: what fails here comes back with the message."""
        with suppress(AzureError):
            return await call()

    async def each_minute(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(Retryable):
                await self.worker.tend()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 60 / self.clock.speed)
