"""The ARM that both sides are measured against: constant answers after a fixed latency, in a process of its own.

It knows one kind of resource, the recorded good storage account under any name. `drift`: secure transfer is off until
somebody PATCHes that account. It counts what it is asked, so that reads and writes are counted the same way for all.

    python -m benchmarks.stub       prints its URL and serves until stdin closes
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import uvicorn

from simulator.server import listen

GOOD = Path(__file__).parent.parent / "recorded/resources/microsoft.storage.storageaccounts.json"
ACCOUNTS = "/providers/microsoft.storage/storageaccounts/"
VERSION = "2026-04-01"

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


def documents() -> tuple[bytes, bytes]:
    """The account as it should be, and with secure transfer off. The name stands for itself, to be replaced."""
    sample = json.loads(GOOD.read_text("utf-8"))["document"]
    body = {name: value for name, value in sample.items() if not name.startswith("+")}
    drifted = {**body, "properties": {**body["properties"], "supportsHttpsTrafficOnly": False}}
    return json.dumps(body).encode(), json.dumps(drifted).encode()


class Stub:
    """One ASGI app. PUT /stub {"latency_s", "drift"} begins anew; GET /stub shows the counters."""

    def __init__(self) -> None:
        self.good, self.drifted = documents()
        self.begin({})

    def begin(self, settings: Mapping[str, Any]) -> None:
        self.latency_s, self.drift = settings.get("latency_s", 0.0), settings.get("drift", False)
        self.mended = set[str]()
        self.counts = Counter[str]()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        body = b""
        while (part := await receive()).get("more_body") or part.get("body"):
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        method, path = scope["method"], scope["path"].lower()
        if path == "/stub":
            if method == "PUT":
                self.begin(json.loads(body))
            status, answer = 200, json.dumps(self.counts).encode()
        else:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            status, answer = self.answer(method, path)
        headers = [(b"content-type", b"application/json; charset=utf-8"), (b"x-ms-request-id", b"r"),
                   (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def answer(self, method: str, path: str) -> tuple[int, bytes]:
        if path == "/msi/token":
            self.counts["tokens"] += 1
            return 200, json.dumps({"access_token": "t", "expires_on": str(int(time.time()) + 86_400),
                                    "resource": "https://management.azure.com", "token_type": "Bearer"}).encode()
        _, found, name = path.partition(ACCOUNTS)
        if found and "/" not in name and method in ("GET", "PATCH"):
            self.counts["writes" if method == "PATCH" else "reads"] += 1
            if method == "PATCH":
                self.mended.add(name)
            body = self.drifted if self.drift and name not in self.mended else self.good
            return 200, body.replace(b"stmltrain", name.encode())
        if path.endswith("/providers/microsoft.storage"):
            self.counts["versions"] += 1        # which api-version has this type? The peer asks ARM
            types = [{"resourceType": "storageAccounts", "locations": ["East US"], "apiVersions": [VERSION]}]
            return 200, json.dumps({"namespace": "Microsoft.Storage", "resourceTypes": types}).encode()
        self.counts["unknown"] += 1
        return 404, b'{"error": {"code": "ResourceNotFound", "message": "no such route"}}'


async def serve() -> None:
    listener = listen(0)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server = uvicorn.Server(uvicorn.Config(Stub(), log_level="critical", access_log=False, lifespan="off", loop="asyncio"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = server.force_exit = True
    await task


if __name__ == "__main__":
    asyncio.run(serve())
