"""guardrail run: everything of the product in one process on loopback, with a simulated Azure instead of Azure.

Only what surrounds the engine is made here: simulator, web hook, page. Events take the way they take in Azure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cli import identities, target
from cli.documents import BY_NAME
from cli.output import Code, Ended, count, say, screen, tell, text
from guardrail import __version__, app, logs
from guardrail.app import Guardrail
from guardrail.ids import type_of
from guardrail.paths import fold
from guardrail.values import Record

if TYPE_CHECKING:
    import uvicorn

    from simulator import Simulator

PORTS = 50                  # tried after a busy one
POLICY = "guardrail.story.yaml"
Now = Callable[[], datetime]


def run(
    story: Annotated[bool, typer.Option("--story", help="Play the acts of a bad evening, then stay up.")] = False,
    port: Annotated[int, typer.Option(help="Of the page; the simulator gets the next one.")] = 8800,
    keep: Annotated[bool, typer.Option("--keep", help="Go on with the store and the world of the last run.")] = False,
    host: Annotated[str, typer.Option(help="Loopback only.")] = "127.0.0.1",
    is_open: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
    leave: Annotated[bool, typer.Option("--exit", help="End after the story: 0 if every act ended as told, else 1.")] = False,
    speed: Annotated[float, typer.Option(min=0.1, max=100, help="How fast the clock of this run goes.")] = 1,
) -> None:
    """Runs the product against a simulated Azure on this machine; nothing leaves it."""
    refuse_foreign(host)
    with locked(target.mark_path().with_suffix(".lock")):
        ended = asyncio.run(Embedded(host, port, keep=keep, speed=speed).run(
            story=story, leave=leave, is_open=is_open or bool(os.environ.get("OPEN"))))
    if ended is not None:
        raise ended


def refuse_foreign(host: str) -> None:
    """Errors: Ended for an address that others could reach: there is no sign-in here."""
    if host not in ("127.0.0.1", "localhost"):
        raise Ended(Code.REFUSED, f"{host} is not 127.0.0.1, and there is no sign-in here. cure: leave --host out.")


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """One embedded run a store: a second one would take the first one's away. Errors: Ended."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as held:
        if sys.platform != "win32":     # there a store in use cannot be removed anyway
            import fcntl

            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                name = target.shown_path(target.store_path())
                why = f"another run has the store {name}. cure: end it, or set GUARDRAIL_STORE."
                raise Ended(Code.UNFINISHED, why) from error
        yield


def free(port: int) -> int:
    """The port, or the next one that nobody has; 0 stays 0. Errors: OSError."""
    for candidate in range(port, port + PORTS) if port else ():
        with socket.socket() as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return candidate
    return 0


class Embedded:
    """One run: simulator, engine and page, and the clock that all of them go by."""

    def __init__(self, host: str, port: int, *, keep: bool, speed: float) -> None:
        self.host, self.port, self.keep = host, port, keep
        self._began, self._at, self.speed = app.now(), time.monotonic(), speed
        self.store_path = target.store_path()
        self.stop = asyncio.Event()
        self.simulator: Simulator
        self.guardrail: Guardrail
        self.url = ""

    def clock(self) -> datetime:
        return self._began + timedelta(seconds=(time.monotonic() - self._at) * self.speed)

    async def sleep(self, seconds: float) -> None:
        """On this run's clock; ends early when the run ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds / self.speed)

    @property
    def log_path(self) -> Path:
        return self.store_path.with_suffix(".log")

    @property
    def world_path(self) -> Path:
        return self.store_path.with_suffix(".world.json")

    async def run(self, *, story: bool, leave: bool, is_open: bool) -> Ended | None:
        """Until Ctrl+C, or the end of the story with `leave`."""
        from cli import story as stories

        log = sys.stderr if screen.verbose else self.log_path.open("w", encoding="utf-8", buffering=1)
        logs.configure("info", log)
        goes_on = self._forget()
        many = await self._start()
        server = self._server()
        tasks = [asyncio.create_task(server.serve(sockets=[self._socket])), asyncio.create_task(self._work())]
        for task in tasks:
            task.add_done_callback(lambda _: self.stop.set())       # none ends by itself but by a bug
        self._catch_signals()
        ended: Ended | None = None
        try:
            self._tell(many, goes_on)
            if is_open:
                await asyncio.to_thread(webbrowser.open, self.url)
            await self._begin()
            if story and not goes_on:
                ended = await stories.play(self)
            elif story:
                tell("The story was told in the run that this one goes on with. Without --keep it begins anew.")
            if not leave:
                ended = None
                await self.stop.wait()
        finally:
            self.stop.set()
            server.should_exit = True
            failed = [one for one in await asyncio.gather(*tasks, return_exceptions=True) if one is not None]
            await self._end()
            logs.configure("info" if screen.verbose else "error", sys.stderr)
            if log is not sys.stderr:
                log.close()
        if failed:
            raise failed[0]
        return ended

    def _forget(self) -> bool:
        """Whether this run goes on with the last one; if not, what that left is removed."""
        if self.keep and self.store_path.exists():
            return True
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.store_path}{suffix}").unlink(missing_ok=True)
        self.world_path.unlink(missing_ok=True)
        return False

    async def _start(self) -> int:
        from cli import world
        from simulator import Simulator

        found = list(world.samples(world.STORY / "world.json"))
        self._socket = self._listen()
        self.simulator = Simulator(
            world.subscriptions(found), clock=lambda: self.clock().timestamp(), folder=self.store_path.parent)
        many = world.seed(self.simulator, found) if not self.world_path.exists() else self._reseed()
        self.simulator.start(free(self.port + 1))
        simulator = self.simulator.url
        os.environ.update(IDENTITY_ENDPOINT=f"{simulator}/msi/token", IDENTITY_HEADER="embedded")
        self.guardrail = app.build(target.settings(simulator, self.simulator.subscriptions, POLICY), clock=self.clock)
        await self._prove()
        run = target.Running(os.getpid(), simulator, self.url, self.simulator.subscriptions, POLICY)
        target.mark_path().write_bytes(msgspec.json.encode(asdict(run)))
        return many

    async def _prove(self) -> None:
        """A fresh store reports; this one may act, and PUTs of the simulator's types count as proven (nothing can be lost)."""
        rules = await self.guardrail.store.rules()
        if rules.generation:
            return
        proven = frozenset(fold(name) for name in self.guardrail.engine.types)
        record = Record("mode.switched", self.clock(), "embedded run", "", "policy", self.guardrail.engine.policy.hash,
                        {"was": rules.switch, "now": "policy", "generation": 1, "reason": "embedded run"})
        await self.guardrail.engine.set_rules(replace(rules, switch="policy", proven=proven), record)

    async def _begin(self) -> None:
        """The first sweep: what stands there is looked at once, so that it is known before anything happens."""
        from console.app import HOOK

        self.simulator.events.to(f"{self.url}{HOOK}?functionName=on_resource_change", name="guardrail")
        await self.guardrail.sweep()

    async def _work(self) -> None:
        """Answers looks until the run ends; the request in hand is finished first."""
        await self.guardrail.run(stop=self.stop)

    def _listen(self) -> socket.socket:
        port = free(self.port)
        listener = socket.create_server(("127.0.0.1", port))
        self.bound = listener.getsockname()[1]
        self.url = f"http://{self.host}:{self.bound}"
        return listener

    def _server(self) -> uvicorn.Server:
        import uvicorn

        from console.api import Api
        from console.app import Console, build

        engine = self.guardrail.engine
        console = Console(
            engine.store, engine.ceiling, f"{engine.policy.source} {engine.policy.hash[:8]}", identities.identify,
            self.simulator.url, intake=self.guardrail.intake, people=identities.names(), clock=self.clock)
        api = Api(engine, identities.identify, self.guardrail.settings.approvers, url=self.url)
        config = uvicorn.Config(build(console, api=api), log_level="critical", access_log=False, lifespan="off",
                                server_header=False, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None       # type: ignore[attr-defined]
        server.capture_signals = contextlib.nullcontext     # type: ignore[method-assign,assignment]
        return server

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(name, self.stop.set)

    def _tell(self, many: int, goes_on: bool) -> None:
        engine = self.guardrail.engine
        modes = "   ".join(f"{' '.join(_listed(rule.group)) or rule.name}: {rule.mode}" for rule in engine.policy.rules)
        types = {control.on for control in engine.controls}
        path = target.shown_path(self.store_path)
        tell(f"guardrail {__version__}   embedded run. "
             "This is a simulator: nothing here is Azure, nothing leaves this machine.")
        tell(f"  simulator  {self.simulator.url}   {count(many, 'resource')} from "
             f"{'the last run' if goes_on else 'recorded/story'}")
        tell(f"  store      {path}       SQLite, {'kept' if goes_on else 'new'}")
        tell(f"  policy     {engine.policy.source}    {engine.policy.hash[:8]}   {modes}   else: {engine.policy.default.other}")
        tell(f"  controls   {len(engine.controls)} of {len(app.CONTROLS)} on             {count(len(types), 'resource type')}")
        busy = f"   ({self.port} was busy)" if self.bound != self.port and self.port else ""
        tell(f"  console    {self.url}   <- open this: what is open, what was done{busy}")
        say(f"Ctrl+C ends it.   Fresh start: run it again.   Go on with this one: --keep   Log: "
            f"{target.shown_path(self.log_path)}")

    def _reseed(self) -> int:
        entries = msgspec.json.decode(self.world_path.read_bytes())
        for entry in entries:
            self.simulator.seed(entry["id"], entry["document"])
        return sum(fold(type_of(entry["id"])) in BY_NAME for entry in entries)

    async def _end(self) -> None:
        """The world is kept beside the store, so that --keep goes on where this run ended."""
        await self.guardrail.close()
        self._socket.close()
        with self.simulator.lock:
            world: list[dict[str, Any]] = [
                {"id": one.id, "document": one.body} for one in self.simulator.world.all()]
        self.world_path.write_bytes(msgspec.json.encode(world))
        self.simulator.stop()
        target.mark_path().unlink(missing_ok=True)
        tell(f"stopped. store kept in {target.shown_path(self.store_path)} (fresh start: run again; go on: --keep)")


def _listed(group: Any) -> list[str]:
    return [group] if isinstance(group, str) else list(group)


HELP = text("guardrail run --story", "guardrail run --story --exit --speed 20", exits=(0, 1, 4, 5))
