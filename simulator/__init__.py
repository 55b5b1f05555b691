"""A local Azure Resource Manager over HTTP and HTTPS on loopback, for tests, demonstrations and the embedded run.

It imports nothing of the product and no azure package. What ARM does to a write is data in `simulator.types`;
its proof is tests/simulator/test_fidelity.py, which replays recorded traffic.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator import resources
from simulator.app import handle, tidy
from simulator.events import Events
from simulator.faults import Faults
from simulator.graph import Graph
from simulator.identity import Identity
from simulator.operations import Operations
from simulator.server import Server
from simulator.surface import Surface
from simulator.throttle import Throttle
from simulator.wire import Effect, Exchange, Request, Response, error
from simulator.world import Version, World

__all__ = ["Effect", "Exchange", "Request", "Response", "Simulator", "Version"]

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
TENANT = "00000000-0000-0000-0000-00000000000e"


class Simulator:
    """One made-up tenant. Safe from any thread: one re-entrant lock is held around each request and change."""

    def __init__(
        self,
        subscriptions: tuple[str, ...] = (SUBSCRIPTION,),
        tenant: str = TENANT,
        clock: Callable[[], float] = time.time,
        folder: str | Path = ".run",
    ) -> None:
        """`clock` gives seconds since 1970; `folder` is where the CA and the server's certificate are kept."""
        self.subscriptions, self.tenant, self.clock, self.folder = subscriptions, tenant, clock, Path(folder)
        self.lock = threading.RLock()
        self.log: list[Exchange] = []
        self.page_size = 1000
        self.world = World(self)
        self.operations = Operations(self)
        self.identity = Identity(self)
        self.throttle = Throttle(self)
        self.faults = Faults(self)
        self.events = Events(self)
        self.surface = Surface(self)
        self.graph = Graph(self)
        self.server = Server(self)
        for subscription in subscriptions:
            self.world.seed(f"/subscriptions/{subscription}", {})

    # the server

    def start(self, port: int = 0, tls_port: int | None = None) -> str:
        """Serves on loopback until `stop`; the http URL. With `tls_port` (0: any) also https_url and ca_file."""
        return self.server.start(port, tls_port)

    def stop(self) -> None:
        self.server.stop()
        self.events.close()

    def __enter__(self) -> Simulator:
        if not self.server.url:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def https_url(self) -> str:
        return self.server.https_url

    @property
    def ca_file(self) -> str:
        return self.server.ca_file

    # the world, behind everyone's back

    def seed(self, id: str, document: Mapping[str, Any], api_version: str | None = None) -> None:
        """The resource stands as if it always had: no event, no log line; parents and its group are made as needed."""
        with self.lock:
            self.world.seed(tidy(id), document, api_version or "")

    def load(self, folder: str | Path) -> None:
        """Seeds from every *.json under `folder`: `{"id", "api_version", "document"}` or a list of them."""
        for file in sorted(Path(folder).glob("**/*.json")):
            content = json.loads(file.read_text(encoding="utf-8"))
            for entry in content if isinstance(content, list) else [content]:
                self.seed(entry["id"], entry["document"], entry.get("api_version"))

    def document(self, id: str, api_version: str | None = None) -> dict[str, Any] | None:
        """What GET would show, without log line or fault; None if there is nothing."""
        with self.lock:
            return resources.show(self, tidy(id), api_version or "")

    def mutate(self, id: str, fn: Callable[[dict[str, Any]], Any], by: str = "mutate") -> None:
        """Changes the stored document by `fn` (in place, or by what it returns): no event, no log line, a new ETag."""
        with self.lock:
            self.world.mutate(tidy(id), fn, by)

    def history(self, id: str) -> list[Version]:
        """Every state the resource went through, with who wrote it; deletions have body None."""
        with self.lock:
            return self.world.history(tidy(id))

    # an actor's call

    def request(
        self,
        method: str,
        id_or_path: str,
        body: Any = None,
        *,
        as_: str = "ml-engineer",
        api_version: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """A call by an actor through the code path of HTTP (log, faults, events), without a socket.

        Without api_version the type's own newest one is taken, where the path has none.
        """
        path, _, query = id_or_path.partition("?")
        pairs = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        sent.setdefault("authorization", "Bearer " + self.identity.token(as_))
        content = b""
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        request = Request(method.upper(), tidy(path), pairs, sent, content, base=self.url or "http://127.0.0.1")
        if api_version or not request.version:
            request.query["api-version"] = api_version or resources.version_for(request.path)
        return handle(self, request)

    def writes(self) -> list[Exchange]:
        """The log without reads: no GET or HEAD, no Resource Graph query, no sign-in."""
        with self.lock:
            return [line for line in self.log if line.method not in ("GET", "HEAD") and not is_read_by_post(line.path)]

    # by hand, over HTTP

    def admin(self, request: Request) -> Response:
        """Routes under /_simulator: POST and DELETE faults, POST sinks and seed, GET log and documents. No token."""
        what, body = (request.method, request.path.removeprefix("/_simulator/")), json.loads(request.body or b"{}")
        with self.lock:
            if what == ("POST", "faults"):
                try:
                    return Response(200, self.faults.from_json(body))
                except (TypeError, ValueError) as why:
                    return error(400, "InvalidFault", str(why))
            if what == ("POST", "sinks"):
                sink = self.events.to(body["target"], schema=body.get("schema", "EventGridSchema"), scope=body.get("scope", ""))
                return Response(200, {"name": sink.name})
            if what == ("DELETE", "faults"):
                self.faults.clear()
                return Response(204)
            if what == ("POST", "seed"):
                for entry in body if isinstance(body, list) else [body]:
                    self.seed(entry["id"], entry["document"], entry.get("api_version"))
                return Response(204)
            if what == ("GET", "log"):
                return Response(200, [resources.plain(line) for line in self.log])
            if what == ("GET", "documents"):
                return Response(200, {item.id: resources.show(self, item.id, "") for item in self.world.all()})
        return error(404, "NotFound", f"{request.method} {request.path} is no route of the simulator.")

    def guid(self) -> str:
        return str(uuid.uuid4())


def is_read_by_post(path: str) -> bool:
    tail = path.lower().rsplit("/", 1)[-1]
    return "microsoft.resourcegraph" in path.lower() or tail in ("checknameavailability", "token", "getbyids")
