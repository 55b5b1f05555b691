"""Azurite, the emulator of a storage account: over HTTPS, with bearer tokens, started once a session where it is installed.

Every test gets an account of its own in it. Azurite looks at a token's issuer, audience and times, not at its signature:
what the real service refuses, it may let through, and only a live account tells.
"""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import AioHttpTransport

from guardrail.stores.azure import AzureStore
from simulator.tls import certificates

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools/azurite/node_modules/azurite/dist/src/azurite.js"
CURE = "Azurite is not installed. cure: make azurite (needs Node 20)"
ACCOUNTS = 2000
START_S = 30
LISTENS = re.compile(r"Azurite (\w+) service is successfully listening at (\S+)")


class Credential:
    """Tokens as Azurite wants them; `asked` has the scopes that were asked for."""

    def __init__(self, **claims: Any) -> None:
        self._claims, self.asked = claims, list[tuple[str, ...]]()

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked.append(scopes)
        now = int(time.time())
        claims = {"aud": "https://storage.azure.com", "iss": "https://sts.windows.net/5b1e/", "iat": now, "nbf": now - 60,
                  "exp": now + 3600, **self._claims}
        return AccessToken(jwt.encode(claims, "nobody checks the signature here"), now + 3600)

    async def close(self) -> None: ...


@dataclass
class Account:
    """Addresses of the three services of an account that nobody has used yet; `requests` lists what was sent to it.

    `fault` is asked about the number of each request (from 0): "down" keeps it from arriving, "lost" loses its answer.
    """

    tables: str
    queues: str
    blobs: str
    ca: Path
    requests: list[str] = field(default_factory=list)
    fault: Callable[[int], str] = lambda number: ""
    own_date: bool = False          # its answers carry the machine's time, else that of the store's clock

    @asynccontextmanager
    async def stores(self, clock: Callable[[], datetime], *, create: bool = True,
                     **options: Any) -> AsyncIterator[Callable[..., AzureStore]]:
        """Opens the store of this account as often as it is called, each time as another worker would.

        `create`: unless tables, queue and containers stand already. `options` are AzureStore's; anchors and bodies have
        their containers if nothing is said.
        """
        # a context of its own, for azure-core makes a new one a request from a file's name, and a new connection with it
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(self.ca)), limit=0)
        transport = Counting(self, clock, session=aiohttp.ClientSession(connector=connector))

        def open_one(**more: Any) -> AzureStore:
            containers = {"anchors": f"{self.blobs}/anchors", "bodies": f"{self.blobs}/bodies"}
            return AzureStore(self.tables, self.queues, Credential(), transport, clock, **(containers | options | more))

        if create:
            from azure.storage.blob.aio import ContainerClient

            await open_one().create()
            for name in ("anchors", "bodies"):
                made: Any = ContainerClient
                await made(self.blobs, name, credential=Credential(), transport=transport).create_container()
        self.requests.clear()
        try:
            yield open_one
        finally:
            await transport.close()


class Counting(AioHttpTransport):
    """Notes each request as METHOD and the last part of its path."""

    def __init__(self, account: Account, clock: Callable[[], datetime], **options: Any) -> None:
        super().__init__(**options)
        self._account, self._clock = account, clock

    async def send(self, request: Any, **options: Any) -> Any:
        requests = self._account.requests
        requests.append(f"{request.method} {request.url.partition('?')[0].rpartition('/')[2]}")
        fault = self._account.fault(len(requests) - 1)
        if fault == "down":
            raise ServiceRequestError("no connection")
        answer = await super().send(request, **options)
        if fault == "lost":
            raise ServiceResponseError("no answer")
        if not self._account.own_date:
            answer.headers["date"] = format_datetime(self._clock(), usegmt=True)
        return answer


class Azurite:
    def __init__(self, urls: dict[str, str], ca: Path) -> None:
        self._urls, self._ca, self._count = urls, ca, count()

    def account(self) -> Account:
        name = f"account{next(self._count) % ACCOUNTS:04}"
        return Account(*(f"{self._urls[service]}/{name}" for service in ("Table", "Queue", "Blob")), self._ca)


@contextmanager
def running(folder: Path) -> Iterator[Azurite]:
    """Azurite as a process of its own, with its certificates and log in `folder`. Errors: FileNotFoundError."""
    node = shutil.which("node")
    if node is None or not SCRIPT.exists():
        raise FileNotFoundError(CURE)
    tls = certificates(folder / "tls")
    accounts = ";".join(f"account{number:04}:bm90IHVzZWQ=" for number in range(ACCOUNTS))
    ports = [word for service in ("blob", "queue", "table") for word in (f"--{service}Port", "0")]
    log = folder / "log"
    with log.open("w") as out, subprocess.Popen(
            [node, str(SCRIPT), "--silent", "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck",
             "--oauth", "basic", "--cert", str(tls.certificate), "--key", str(tls.key), *ports],
            cwd=folder, stdout=out, stderr=out, env={**os.environ, "AZURITE_ACCOUNTS": accounts}) as process:
        try:
            until = time.monotonic() + START_S
            while len(urls := dict(LISTENS.findall(log.read_text()))) < 3:
                assert process.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.02)
            yield Azurite(urls, tls.ca)
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    if shutil.which("node") is None or not SCRIPT.exists():
        pytest.skip(CURE)
    with running(tmp_path_factory.mktemp("azurite")) as started:
        yield started
