"""The order of one request, and the ASGI application around it.

log (S0) -> faults S1-S4 -> sign-in and metadata routes (no token) -> bearer token -> throttling (S13)
-> rights, locks, policies (S11, S12) -> routes outside resources -> Resource Graph -> operations -> resources -> events
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from simulator import resources
from simulator.identity import decode
from simulator.wire import Exchange, Request, Response, error

if TYPE_CHECKING:
    from simulator import Simulator

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def handle(sim: Simulator, request: Request) -> Response:
    """One request from log line to event, under the simulator's lock; never raises for what a client sent."""
    with sim.lock:
        exchange = begin(sim, request)
        response = done = sim.faults.before(request)
        if response is None:
            done = answer(sim, request)
            response = sim.faults.after(request, done)
        response.headers.setdefault("x-ms-request-id", sim.guid())
        response.headers.setdefault("x-ms-correlation-request-id", correlation(sim, request))
        exchange.status, exchange.answer, exchange.actor = response.status, response.body, request.actor
        sim.events.raised(request, done or response)  # S2 loses the answer, not the event
        return response


def answer(sim: Simulator, request: Request) -> Response:
    """What stands behind the faults: the first part that knows the path answers."""
    response = sim.identity.route(request) or sim.identity.authenticate(request) or sim.throttle.take(request)
    if response is not None:
        return response
    response = (
        sim.faults.allowed(request)
        or sim.surface.route(request)
        or sim.graph.route(request)
        or sim.operations.route(request)
        or resources.route(sim, request)
    )
    response.headers.update(sim.throttle.headers(request))
    return response


def begin(sim: Simulator, request: Request) -> Exchange:
    """Writes the log line; status and answer follow when they are known."""
    request.at = request.at or sim.clock()
    request.claims = request.claims or decode(request.headers.get("authorization", ""))
    query = "&".join(f"{key}={value}" for key, value in request.query.items())
    exchange = Exchange(
        at=request.at,
        method=request.method,
        url=request.base + request.path + ("?" + query if query else ""),
        path=request.path,
        query=dict(request.query),
        api_version=request.version,
        headers=dict(request.headers),
        body=readable(request.body),
        status=0,
        actor=request.actor,
        answer=None,
    )
    sim.log.append(exchange)
    return exchange


def correlation(sim: Simulator, request: Request) -> str:
    """ARM takes the caller's correlation id, else makes one; it stays the same for events and the activity log."""
    return request.headers.setdefault("x-ms-correlation-request-id", sim.guid())


def readable(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


class App:
    """ASGI: reads the request, hands it to `handle` in a thread (faults may block), writes the answer."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        if request.path.startswith("/_simulator/"):
            response = await asyncio.to_thread(self.sim.admin, request)
        else:
            response = await asyncio.to_thread(handle, self.sim, request)
            if self.sim.events.early:
                await asyncio.to_thread(self.sim.events.drain)
        await write(send, request, response)


async def read(scope: Message, receive: Receive) -> Request:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host") or "{}:{}".format(*scope["server"])
    return Request(
        method=scope["method"],
        path=tidy(unquote(scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0])),
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers=headers,
        body=b"".join(parts),
        base=f"{scope['scheme']}://{host}",
    )


def tidy(path: str) -> str:
    """`//` collapsed and no trailing `/`, as az sends both."""
    return "/" + "/".join(part for part in path.split("/") if part)


async def write(send: Send, request: Request, response: Response) -> None:
    if response.delay_s:
        await asyncio.sleep(response.delay_s)
    if response.drop:
        # uvicorn's request cycle owns the transport; there is no ASGI message for "hang up without a word".
        send.__self__.transport.abort()  # type: ignore[attr-defined]
        return
    headers = {name.lower(): value for name, value in response.headers.items()}
    if isinstance(response.body, bytes):
        body = response.body
        headers.setdefault("content-type", "application/octet-stream")
    elif response.body is None:
        body = b""
    else:
        body = json.dumps(response.body, ensure_ascii=True).encode()
        headers.setdefault("content-type", "application/json; charset=utf-8")
    if response.status not in (204, 304):
        headers.setdefault("content-length", str(len(body)))
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
    )
    if request.method == "HEAD" or response.status in (204, 304):
        body = b""
    if response.drip_s:
        for index in range(len(body)):
            await send({"type": "http.response.body", "body": body[index : index + 1], "more_body": True})
            await asyncio.sleep(response.drip_s)
        body = b""
    await send({"type": "http.response.body", "body": body})


def not_found(path: str) -> Response:
    return error(404, "InvalidResourceNamespace", f"The resource namespace in '{path}' is invalid.")
