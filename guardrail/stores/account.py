"""How a worker talks to its own storage account or Key Vault: by identity, to it and no other, for 30 s before it gives up.

The SDKs' own retries and redirects are off: here is the one place that asks again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AsyncHttpTransport

from guardrail.errors import StoreDown
from guardrail.transport import check_url

SCOPE = "https://storage.azure.com/.default"        # in every cloud (STORAGE_OAUTH_SCOPE of azure-storage-queue 12.18)
PATIENCE_S = 30.0
ATTEMPT_S = 10.0                                    # of one request; the last one may begin just before patience ends
AGAIN = (None, 408, 429, 500, 502, 503, 504)        # None: no answer, or half of one
MISSING = {"TableNotFound", "QueueNotFound", "ContainerNotFound"}

T = TypeVar("T")


class Refused(Exception):
    """The account answered, and a condition does not hold: not there (404), already there (409), changed (412)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Account:
    """What all clients of one storage account, or vault, share. `transport` and `credential` are their owner's to close."""

    def __init__(self, credential: Any, transport: AsyncHttpTransport[Any, Any],
                 clock: Callable[[], datetime] | None = None, patience_s: float = PATIENCE_S, scope: str = SCOPE,
                 name: str = "store") -> None:
        self._credential, self._transport, self._patience_s = _Token(credential, scope), transport, patience_s
        self._clock, self._name = clock, name
        self.skew_s = 0.0           # how far `clock` is ahead of the account's, by its last answer; 0 without a clock

    def options(self, url: str) -> dict[str, Any]:
        """For the constructor of an SDK client of `url`. Errors: ValueError from the client if that is not https."""
        return {"credential": self._credential, "transport": _Lent(self._transport, url, self.dated), "retry_total": 0,
                "permit_redirects": False}

    def dated(self, headers: Mapping[str, str]) -> None:
        """Compares the clocks. Each answer of the account carries its time, in whole seconds (RFC 9110, Date)."""
        try:
            theirs = parsedate_to_datetime(headers.get("date", ""))
            self.skew_s = (self._clock() - theirs).total_seconds() if self._clock else 0.0
        except (TypeError, ValueError):         # no date, or none with a zone
            return

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """What `call` returns; asked again while that can help. It may have taken effect though it fails.

        Errors: Refused, StoreDown.
        """
        clock = asyncio.get_running_loop().time
        until, pause_s = clock() + self._patience_s, 0.1
        while True:
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    return await call()
            except (AzureError, TimeoutError) as error:
                status, code = getattr(error, "status_code", None), getattr(error, "error_code", None) or ""
                code = str(getattr(code, "value", code))
                if status in (404, 409, 412) and code not in MISSING:
                    raise Refused(status) from error
                pause = pause_s * random.uniform(0.5, 1)        # noqa: S311  spread, not secret
                if status not in AGAIN or clock() + pause >= until:
                    raise StoreDown(f"{self._name}: {status or 'no answer'} {code or type(error).__name__}") from error
            await asyncio.sleep(pause)
            pause_s = min(pause_s * 2, 5.0)


class _Token:
    """One scope, whatever a client or a challenge in an answer asks for."""

    def __init__(self, credential: Any, scope: str) -> None:
        self._credential, self._scope = credential, scope

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        token: AccessToken = await self._credential.get_token(self._scope)
        return token

    async def close(self) -> None:
        """The owner closes it."""


class _Lent(AsyncHttpTransport[Any, Any]):
    """The shared transport, for requests to one host only, whatever rewrote their URL."""

    def __init__(self, transport: AsyncHttpTransport[Any, Any], url: str, dated: Callable[[Mapping[str, str]], None]) -> None:
        self._transport, self._wanted, self._dated = transport, urlsplit(url), dated

    async def send(self, request: Any, **options: Any) -> Any:
        check_url(request.url, self._wanted.scheme, self._wanted.netloc)
        answer = await self._transport.send(request, **options)
        self._dated(answer.headers)
        return answer

    async def open(self) -> None:
        await self._transport.open()

    async def close(self) -> None:
        """The owner closes it."""

    async def __aexit__(self, *_: object) -> None:
        await self.close()
