"""uvicorn in a thread of its own: one loop, a plain listener and, when asked for, one with TLS."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from simulator import tls
from simulator.app import App

if TYPE_CHECKING:
    from simulator import Simulator


class Server:
    """Starts and stops the listeners; `url`, `https_url` and `ca_file` are empty while they do not stand."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.url = self.https_url = self.ca_file = ""
        self._servers: list[uvicorn.Server] = []
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] = lambda: None

    def start(self, port: int = 0, tls_port: int | None = None) -> str:
        if self._thread:
            return self.url
        app, listeners = App(self.sim), [listen(port)]
        self.url = f"http://127.0.0.1:{listeners[0].getsockname()[1]}"
        self._servers = [uvicorn.Server(configuration(app))]
        if tls_port is not None:
            files = tls.certificates(self.sim.folder)
            listeners.append(listen(tls_port))
            self.https_url, self.ca_file = f"https://localhost:{listeners[1].getsockname()[1]}", str(files.ca)
            self._servers.append(uvicorn.Server(configuration(app, str(files.certificate), str(files.key))))

        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listeners, ready)), name="simulator", daemon=True
        )
        self._thread.start()
        ready.wait(timeout=5)
        return self.url

    async def _serve(self, listeners: list[socket.socket], ready: threading.Event) -> None:
        """Serves until told to stop, then hangs up: uvicorn's own way out takes 0.2 s, which every test would pay."""
        stopped, loop = asyncio.Event(), asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
        pairs = list(zip(self._servers, listeners, strict=True))
        tasks = [asyncio.create_task(server.serve(sockets=[listener])) for server, listener in pairs]
        ready.set()
        await stopped.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server, listener in pairs:
            for connection in list(server.server_state.connections):
                connection.transport.abort()
            for accepting in getattr(server, "servers", ()):
                accepting.close()
            listener.close()
        await asyncio.sleep(0)

    def stop(self) -> None:
        if self._thread:
            self._stop()
            self._thread.join(timeout=5)
        self.url = self.https_url = self.ca_file = ""
        self._servers, self._thread = [], None


def listen(port: int) -> socket.socket:
    """A listening socket on loopback: a client that connects before uvicorn has come up waits in the backlog."""
    # With the protocol named asyncio switches Nagle off; else an answer waits 40 ms for the peer's acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(256)
    return listener


def configuration(app: App, certificate: str | None = None, key: str | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        lifespan="off",
        loop="asyncio",
        server_header=False,
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
