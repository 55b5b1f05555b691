"""A simulated Azure in which a deployment of infra/ stands, a console beside it, and what tests break of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

import cli.doctor
import cli.seen
from console.api import Api
from console.app import Console, build
from guardrail import app, settings
from guardrail.authorize import Person
from guardrail.paths import fold
from simulator import Simulator
from simulator.access import Grant
from simulator.server import configuration, listen
from tests import deployment, infra
from tests.bicep import SUBSCRIPTION
from tests.infra import DEFINITIONS, GRANTS

SCOPE = f"/subscriptions/{SUBSCRIPTION}"
GROUP_OF_APPROVERS = "11111111-1111-1111-1111-111111111111"
READ, WRITE = "Microsoft.Storage/storageAccounts/read", "Microsoft.Storage/storageAccounts/write"
ROLE, READER = "permissions.0.actions", f"{SCOPE}/providers/"
EMPTY = "version: 1\ndefault: {production: report, other: report}\n"


class Site:
    """The console of the deployment: the real API, with a page of its own for the event path."""

    def __init__(self, store: Path, azure: str) -> None:
        self.store, self.azure = store, azure
        self.event_path: dict[str, Any] = {"state": "proven", "said": "proven 2 min ago"}
        self.policy, self.version, self.back_after = "guardrail.yaml", "", 0      # times that the event path is asked for
        self.starts, self.front = 0, 503        # requests that Azure's own front answers, and how
        self.person = Person("reader", frozenset({"Reader"}), frozenset(), is_person=True)
        self._listener = listen(0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.server = uvicorn.Server(configuration(self))       # type: ignore[arg-type]
        self._thread = threading.Thread(target=self.server.run, args=([self._listener],), daemon=True)
        self._thread.start()
        self._app: Starlette | None = None
        self._close: Callable[[], None] = lambda: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.starts > 0 and scope["type"] == "http":
            self.starts -= 1
            await Response("<html>", self.front)(scope, receive, send)
            return
        self._app = self._app or self._made()
        await self._app(scope, receive, send)

    def _made(self) -> Starlette:
        made = app.build(settings.read({
            "GUARDRAIL_SUBSCRIPTIONS": SUBSCRIPTION, "GUARDRAIL_CLOUD": self.azure, "GUARDRAIL_STORE": str(self.store),
            "IDENTITY_ENDPOINT": f"{self.azure}/msi/token", "GUARDRAIL_POLICY": self.policy}))
        self._close = made.store.close

        async def identify(_: Request) -> Person:
            return self.person

        async def event_path(_: Request) -> JSONResponse:
            self.back_after -= 1
            if self.back_after == 0:
                self.event_path.update(state="proven", said="proven just now")
            return JSONResponse(self.event_path)

        console = build(Console(made.store, "report", "", identify), api=Api(made.engine, identify))
        own = [Route("/event-path", event_path), Mount("/", console)]
        if self.version:
            own.insert(0, Route("/health", lambda _: JSONResponse({"version": self.version})))
        return Starlette(routes=own)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(timeout=5)
        self._close()


class Deployed:
    """One deployment, and what a test breaks of it."""

    def __init__(self, simulator: Simulator, name: str) -> None:
        self.simulator, self.name = simulator, name
        deployment.stand(simulator, name)
        for type, versions in cli.doctor.versions().items():
            simulator.surface.versions[fold(type)] = list(versions)
        self.edit("Microsoft.Web/sites/config", "front", "GUARDRAIL_APPROVERS", GROUP_OF_APPROVERS)

    def id(self, type: str, has: str = "") -> str:
        return next(one.id for one in infra.made(type, self.name) if has in one.id)

    def edit(self, type: str, has: str, path: str, value: Any) -> None:
        """Sets (a callable: changes) what stands at a path below properties, or, with a leading /, at the top."""
        def change(body: Any) -> None:
            *above, last = path.removeprefix("/").split(".")
            place = body if path.startswith("/") else body["properties"]
            for name in above:
                place = place[int(name)] if isinstance(place, list) else place[name]
            place[last] = value(place[last]) if callable(value) else value
        self.simulator.mutate(self.id(type, has), change)

    def narrow(self, scope: str) -> None:
        """The reader's role is assigned in a group alone."""
        assigned = next(one for one in infra.made(GRANTS, self.name) if one.scope == SCOPE)
        with self.simulator.lock:
            self.simulator.world.delete(assigned.id)
        self.grant("hands", self.id(DEFINITIONS, READER), scope)

    def may_not(self, action: str) -> None:
        """Whoever asks by the CLI: at the simulator that one's token names nobody."""
        self.simulator.faults.access.revoked.append(Grant("", "", 0.0, (action,)))

    def gone(self, type: str, has: str = "") -> None:
        with self.simulator.lock:
            self.simulator.world.delete(self.id(type, has))

    def principal(self, part: str) -> str:
        document: Any = self.simulator.document(infra.site(part, self.name).id)
        return str(document["identity"]["principalId"])

    def grant(self, part: str, role: str, scope: str) -> None:
        body = {"principalId": self.principal(part), "roleDefinitionId": role, "scope": scope}
        self.simulator.seed(f"{scope}/providers/{GRANTS}/00000000-0000-0000-0000-0000000000ad", {"properties": body})


def without(name: str) -> Callable[[list[str]], list[str]]:
    return lambda listed: [one for one in listed if one != name]
