"""The queue `looks`: a message says which resource's row to look at, and nothing else. It may be lost: tend sends another."""

from __future__ import annotations

import asyncio
import math
from base64 import b64encode
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeVar

from azure.storage.queue.aio import QueueClient

from guardrail.errors import StoreDown
from guardrail.ids import ResourceId
from guardrail.stores.account import Account, Refused
from guardrail.values import to_json

QUEUE = "looks"
HIDDEN_S = 7 * 24 * 3600    # a message stays hidden at most so long

T = TypeVar("T")


class Nudges:
    def __init__(self, account: Account, queues: str) -> None:
        self._account = account
        made: Any = QueueClient         # its stubs say none of the pipeline's options
        self._queue: QueueClient = made(queues, QUEUE, **account.options(queues))

    async def create(self) -> None:
        with suppress(Refused):
            await self._account.ask(self._queue.create_queue)

    async def send(self, resource: ResourceId, delay_s: float) -> None:
        """Errors: StoreDown."""
        text = b64encode(to_json({"v": 1, "resource": resource})).decode()
        hidden_s = min(max(0, math.ceil(delay_s)), HIDDEN_S)
        await self._account.ask(lambda: self._queue.send_message(text, visibility_timeout=hidden_s, time_to_live=-1))

    async def beside(self, write: Awaitable[T], resource: ResourceId, delay_s: float) -> T:
        """What `write` returns, and the message meanwhile: for nothing if the write fails, and lost if it fails itself."""
        sent = asyncio.ensure_future(self.send(resource, delay_s))
        try:
            return await write
        finally:
            with suppress(StoreDown):
                await sent
