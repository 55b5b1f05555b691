"""What could not be delivered: dead letters of Event Grid and poisoned messages are taken in once more, then set aside.

Event Grid writes a blob NAME-OF-THE-SUBSCRIPTION/2026/11/24/19/<guid>.json, an array of events in the schema of their
delivery with deadLetterReason and others added (Microsoft's page "Dead letter and retry policies"). The Functions host
puts a message that failed maxDequeueCount times into `events-poison`. Each costs a look at most, so after a crash one may
be taken in twice; none is taken in for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from guardrail import events
from guardrail.errors import Malformed, Retryable
from guardrail.stores import RAW_BYTES
from guardrail.stores.account import Account, Refused
from guardrail.stores.signed import SignedStore
from guardrail.values import to_json

HANDLED = "handled/"                    # where they are set aside; Event Grid's own names are in upper case
AT_ONCE = 50                            # blobs a call, and messages
BLOB_BYTES = 16 * events.MIB            # a larger one is said to be there, and left to people
BATCH_BYTES = events.MIB // 2           # of events taken in at once
WEEK_S = 7 * 24 * 3600.0
HELD_S = 120                            # a poisoned message is nobody else's for so long

Intake = Callable[[bytes], Awaitable[None]]


class Letters:
    """`container`: address of the dead letters; `queues`: of the queue service with `events`; "": none."""

    def __init__(self, account: Account, container: str, queues: str) -> None:
        self._account, self._container, self._queues = account, container, queues

    async def again(self, store: SignedStore, intake: Intake) -> int:
        """How many blobs were taken in; the next call goes on. Errors: StoreDown, also if the container is not there."""
        taken = await self._dead(store, intake) if self._container else 0
        if self._queues:
            await self._poisoned(store)
        return taken

    async def _dead(self, store: SignedStore, intake: Intake) -> int:
        from azure.core import MatchConditions

        from guardrail.stores.blobs import container_of

        blobs: Any = container_of(self._account, self._container)

        async def found() -> list[Any]:
            listed = list[Any]()
            async for top in blobs.walk_blobs(delimiter="/"):
                if top.name != HANDLED and len(listed) < AT_ONCE:
                    listed += [one async for one in _first(blobs.list_blobs(name_starts_with=top.name, include="metadata"))]
            return listed[:AT_ONCE]

        async def read(name: str, etag: str, length: int | None) -> bytes:
            part = {"offset": 0, "length": length} if length else {}
            got = await blobs.download_blob(name, etag=etag, match_condition=MatchConditions.IfNotModified, **part)
            content: bytes = await got.readall()
            return content

        taken = 0
        for blob in await self._account.ask(found):
            name, etag, is_large = blob.name, blob.etag, blob.size > BLOB_BYTES
            try:
                raw = await self._account.ask(lambda: read(name, etag, RAW_BYTES if is_large else None))  # noqa: B023
                if is_large:
                    await store.reject(raw, f"dead letter {name} is larger than {BLOB_BYTES} bytes")
                    await self._account.ask(lambda: blobs.get_blob_client(name).set_blob_metadata(  # noqa: B023
                        {"handled": "too large"}))
                    continue
                await _take_in(raw, name, store, intake)
                taken += 1
                await self._account.ask(lambda: blobs.upload_blob(HANDLED + name, raw, overwrite=True))  # noqa: B023
                await self._account.ask(lambda: blobs.delete_blob(
                    name, etag=etag, match_condition=MatchConditions.IfNotModified))  # noqa: B023
            except Refused:
                continue        # another was faster, or it was written anew: next time
        return taken

    async def _poisoned(self, store: SignedStore) -> None:
        from azure.core.exceptions import ResourceNotFoundError
        from azure.storage.queue.aio import QueueClient

        made: Any = QueueClient
        options = self._account.options(self._queues)
        poison, queue = (made(self._queues, name, **options) for name in ("events-poison", "events"))

        async def waiting() -> list[Any]:
            try:
                return [one async for one in poison.receive_messages(
                    messages_per_page=min(32, AT_ONCE), max_messages=AT_ONCE, visibility_timeout=HELD_S)]
            except ResourceNotFoundError:       # the host makes it for the first one
                return []

        for message in await self._account.ask(waiting):
            text = str(message.content)
            mark = f"poison/{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()}"
            if await store.take(mark, 0, WEEK_S, 0):        # none like it was put back
                await self._account.ask(lambda: queue.send_message(text, time_to_live=-1))  # noqa: B023
                await store.take(mark, 1, WEEK_S)
            else:
                await store.reject(text.encode("utf-8", "backslashreplace"), "it failed too often, and once more after that")
            try:
                await self._account.ask(lambda: poison.delete_message(message))  # noqa: B023
            except Refused:
                continue


async def _first(blobs: Any) -> Any:
    count = 0
    async for blob in blobs:
        if not (blob.metadata or {}).get("handled"):
            yield blob
            count += 1
        if count >= AT_ONCE:
            return


async def _take_in(raw: bytes, name: str, store: SignedStore, intake: Intake) -> None:
    """All events of a blob; what is none is rejected by `intake`. Errors: Retryable."""
    try:
        try:
            value = events.load(raw, BLOB_BYTES)
        except Malformed:
            await intake(raw)           # which names what is wrong with it, and spares the others
            return
        for batch in _batches(value if isinstance(value, list) and value else [value]):
            await intake(to_json(batch))
    except Retryable:
        raise
    except Exception as error:  # noqa: BLE001  the edge of one item: it must not hold up the others for ever
        await store.reject(raw, f"dead letter {name} could not be taken in: {error!r}"[:500])


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    batch, size = list[Any](), 0
    for item in items:
        length = len(to_json(item))
        if batch and size + length > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    yield batch
