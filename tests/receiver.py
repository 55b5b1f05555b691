"""Who gets messages: a web server with TLS on loopback, which keeps what it was sent and answers as it is told to."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from guardrail import channels
from simulator.tls import certificates


@dataclass
class Receiver:
    """`answer`: a status, or "never"; not before `open`. What was refused is kept in `tried` alone."""

    url: str = ""
    answer: int | str = 200
    tried: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    taken: list[Any] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.tried.append((request.path_qs, {name.lower(): value for name, value in request.headers.items()}, body))
        self.called.set()
        await self.open.wait()
        if self.answer == "never":
            await asyncio.sleep(3600)
        if self.answer == 200:
            self.taken.append(json.loads(body))
        return web.Response(status=int(self.answer), headers={"Location": f"{self.url}/elsewhere"})

    @property
    def kinds(self) -> list[str]:
        return [one["kind"] for one in self.taken]


@pytest.fixture
async def receiver(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch,
                   anyio_backend: str) -> AsyncIterator[Receiver]:
    tls = certificates(tmp_path_factory.getbasetemp() / "receiver-tls")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca))
    channels._trusted.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    here = Receiver()
    here.open.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", here._take)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    here.url = f"https://localhost:{runner.addresses[0][1]}"
    yield here
    await runner.cleanup()
    channels._trusted.cache_clear()
