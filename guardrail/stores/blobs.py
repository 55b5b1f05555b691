"""Blobs of our own account: bodies that are too large for a row, and the anchors. Loaded where one is needed: 0.2 s.

An anchor blob takes DAILY lines, the first of which has all heads; it is only ever appended to, so that its container can
be locked with protected appends allowed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from azure.core import MatchConditions
from azure.storage.blob.aio import ContainerClient

from guardrail.anchors import DAILY
from guardrail.errors import Held, Malformed, Stale
from guardrail.stores.account import Account, Refused

BLOCK_BYTES = 512 * 1024        # sent at once


class Bodies:
    """Compressed bodies by their hash, written before the row that names them, never changed."""

    def __init__(self, account: Account, container: str) -> None:
        self._account, self._blobs = account, container_of(account, container)

    async def put(self, hash: str, body: bytes) -> None:
        try:
            await self._account.ask(lambda: self._blobs.upload_blob(hash, body))
        except Refused:
            return      # it stands there already; whether it is whole is seen when it is read

    async def get(self, hash: str) -> bytes:
        """Errors: Held if it is not there, Malformed if it is another."""
        try:
            body = await self._account.ask(lambda: _read(self._blobs, hash))
        except Refused as error:
            raise Held(f"the body {hash[:8]} of a row is not there: the row is left untouched") from error
        if hashlib.sha256(body).hexdigest() != hash:
            raise Malformed(f"the body {hash[:8]} of a row is not the one that was written")
        return body


class Anchors:
    """Anchor lines in append blobs: number n is line (n - 1) % DAILY of blob (n - 1) // DAILY."""

    def __init__(self, account: Account, container: str) -> None:
        self._account, self._blobs = account, container_of(account, container)

    async def lines(self, last: int = 0) -> Sequence[bytes]:
        found = list[bytes]()
        for name in reversed(await self._names()):
            found = [*(await self._read(name)).splitlines(), *found]
            if last and len(found) >= last:
                return found[-last:]
        return found

    async def add(self, number: int, line: bytes) -> None:
        """Errors: Stale unless it follows the newest one."""
        name = f"anchors-{(number - 1) // DAILY:06}"
        newest = await self._newest()
        if number != newest + 1:
            raise Stale(f"anchor {newest} is the newest, so {number} cannot follow")
        blob: Any = self._blobs.get_blob_client(name)
        before = b""
        try:
            if (number - 1) % DAILY:
                before = await self._read(name)
            else:
                await self._account.ask(lambda: blob.create_append_blob(match_condition=MatchConditions.IfMissing))
        except Refused as error:
            if error.status == 404:
                raise Stale(f"the blob of anchor {newest} is not there") from error
        try:
            await self._account.ask(lambda: blob.append_block(line + b"\n", appendpos_condition=len(before)))
        except Refused as error:
            if await self._read(name) != before + line + b"\n":     # else it was our own, its answer lost
                raise Stale(f"anchor {number} was written by another") from error

    async def _newest(self) -> int:
        names = await self._names()
        if not names:
            return 0
        return int(names[-1].rpartition("-")[2]) * DAILY + len((await self._read(names[-1])).splitlines())

    async def _names(self) -> list[str]:
        async def names() -> list[str]:
            return [name async for name in self._blobs.list_blob_names(name_starts_with="anchors-")]

        return sorted(await self._account.ask(names))

    async def _read(self, name: str) -> bytes:
        return await self._account.ask(lambda: _read(self._blobs, name))


def container_of(account: Account, url: str) -> ContainerClient:
    made: Any = ContainerClient         # its stubs say none of the pipeline's options
    client: ContainerClient = made.from_container_url(
        url, max_single_put_size=BLOCK_BYTES, max_block_size=BLOCK_BYTES, **account.options(url))
    return client


async def _read(container: ContainerClient, name: str) -> bytes:
    return await (await container.download_blob(name)).readall()


