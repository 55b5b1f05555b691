"""The status page, and in the embedded run the web hook that Event Grid would call. No script, no cookie, no form.

D7: every answer carries the headers, 404 and 500 too. E1: Jinja2 escapes everything; no value stands in a script.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import guardrail
from console import views
from console.api import Api
from console.event_path import event_path
from console.gate import Identify, body, problem, reading
from guardrail import audit, logs
from guardrail.authorize import Person
from guardrail.errors import Malformed
from guardrail.events import MIB, load
from guardrail.stores import HOME, Store
from guardrail.tokens import Verifier

HOOK = "/runtime/webhooks/EventGrid"
FUNCTION = "on_resource_change"
CHAIN_FOR_S = 15            # walking all chains is not done on each look at the page
LAST = 10
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                               "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost")

if TYPE_CHECKING:
    from guardrail.app import Guardrail

Intake = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class Console:
    """What the pages are made of. `people`: object id -> name, where it may be shown."""

    store: Store
    ceiling: str
    policy: str                                     # "guardrail.yaml 7f3a9c21"
    identify: Identify                              # who asks; there is no default that lets anyone in
    simulator: str = ""                             # its URL: every page carries a strip
    intake: Intake | None = None                    # embedded run: takes what the web hook gets
    people: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _chain: tuple[float, audit.Report] | None = None

    async def chain(self) -> audit.Report:
        now = time.monotonic()
        if self._chain is None or now - self._chain[0] > CHAIN_FOR_S:
            self._chain = (now, await audit.verify_store(self.store))
        return self._chain[1]

    async def status(self) -> dict[str, Any]:
        """Everything on the status page, and on /index.json."""
        findings, actions = await views.findings(self.store), await views.actions(self.store)
        known = [case for case in await views.cases(self.store) if case.resource != HOME]
        mode, chain = await views.mode(self.store), await self.chain()
        sweep = await views.last(self.store, "sweep.finished")
        return {
            "schema_version": 1, "mode": mode, "ceiling": self.ceiling, "policy": self.policy, "simulator": self.simulator,
            "counts": {
                "findings": len(findings), "severities": views.severities(findings),
                "waiting": sum(one["state"] == "proposed" for one in actions),
                "held": sum(one["state"] == "held" for one in actions),
                "failed": sum(one["state"] in ("failed", "unknown") for one in actions),
                "quarantined": sum(one["state"] == "quarantined" for one in actions),
                "verified": sum(one["state"] == "verified" for one in actions),
                "stuck": sum(bool(case.stuck) for case in known)},
            "sweep": {"at": sweep.at if sweep else None, "read": sweep.detail.get("read", 0) if sweep else 0},
            "event_path": await event_path(self.store, self.clock(), known),
            "findings": findings, "actions": actions[:LAST],
            "chain": {"intact": chain.ok, "records": chain.records, "chains": chain.chains,
                      "newest_anchor": chain.newest_anchor, "broken": [str(one) for one in chain.broken]}}


def build(console: Console, hosts: tuple[str, ...] = LOOPBACK, api: Api | None = None) -> Starlette:
    """The app. Names of `hosts` only are answered to: another site's page cannot reach us through the browser."""
    page = Page(console)
    who = console.identify
    routes = [Route("/", reading(who, page.index)), Route("/index.json", reading(who, page.index_json)),
              Route("/health", health), Route("/style.css", page.style), *(api.routes() if api else ())]
    if console.intake is not None:
        routes.append(Route(HOOK, Hook(console.intake).answer, methods=["POST"]))
    app = Starlette(
        routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={404: not_found, 405: not_found, 500: broken})
    app.build_middleware_stack = _outermost(app)    # type: ignore[method-assign]
    app.router.redirect_slashes = False
    return app


def deployed(guardrail: Guardrail) -> Starlette:
    """The app in Azure: a bearer token for everything but /health, whatever the platform did before. No web hook of ours."""
    settings, engine = guardrail.settings, guardrail.engine
    verifier = Verifier(settings, engine.clock)

    async def identify(request: Request) -> Person:
        return await verifier.person(request.headers.get("authorization", ""))

    console = Console(engine.store, engine.ceiling, f"{engine.policy.source} {engine.policy.hash[:8]}", identify,
                      clock=engine.clock)
    api = Api(engine, identify, settings.approvers, reads_azure=settings.part != "front", url=settings.url)
    return build(console, ("*",), api)


def _outermost(app: Starlette) -> Callable[[], ASGIApp]:
    """Headers go around Starlette's own error answer as well, which middleware does not."""
    inner = app.build_middleware_stack
    return lambda: Secured(inner())


class Secured:
    """Puts the headers on every answer. A bug is answered and logged; raised as well, the host would answer in our place."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_told = False

        async def secured(message: Message) -> None:
            nonlocal is_told
            is_told = True
            if message["type"] == "http.response.start":
                MutableHeaders(raw=message.setdefault("headers", [])).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            await self.app(scope, receive, secured)
        except Exception as error:
            if not is_told:
                raise
            logs.line("page.failed", error=repr(error), path=scope["path"], exc_info=error)


def _shown(one: Any) -> Any:
    """What a template puts out, before it is escaped: control characters are spelled, in every place alike."""
    return logs.visible(one) if isinstance(one, str) else one


class Page:
    """The one page there is."""

    def __init__(self, console: Console) -> None:
        self.console = console
        folder = Path(__file__).parent / "templates"
        self._style = (folder / "style.css").read_text("utf-8")
        self._templates = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined,
                                      trim_blocks=True, lstrip_blocks=True, finalize=_shown)
        self._templates.filters |= {"short": views.short, "shown": views.shown,
                                    "who": self._who, "json": lambda one: msgspec.json.encode(one, enc_hook=str).decode(),
                                    "when": lambda at: at.strftime("%Y-%m-%d %H:%M:%SZ")}

    def _who(self, row: Mapping[str, Any]) -> str:
        names = [self.console.people.get(one["object_id"], one["object_id"]) for one in row["caused_by"]]
        return ", ".join(filter(None, names)) or "unknown"

    async def index(self, request: Request) -> Response:
        html = self._templates.get_template("index.html").render(await self.console.status())
        return Response(html, media_type="text/html")

    async def index_json(self, request: Request) -> Response:
        return Response(msgspec.json.encode(await self.console.status(), enc_hook=str), media_type="application/json")

    async def style(self, request: Request) -> Response:
        return Response(self._style, media_type="text/css")


class Hook:
    """The host's own web hook, as Core Tools serves it: 202 for taken, 500 for raised; a handshake is answered."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake

    async def answer(self, request: Request) -> Response:
        if request.query_params.get("functionName", "").lower() != FUNCTION:
            return problem(404, "NotFound", "there is no such function", f"?functionName={FUNCTION}")
        raw = await body(request, MIB)
        if raw is None:
            return problem(413, "TooLarge", "more than 1 MiB", "send the events one by one")
        code = _handshake(request.headers, raw)
        if code is not None:
            return JSONResponse({"validationResponse": code})
        try:
            await self.intake(raw)
        except Exception as error:  # noqa: BLE001  the host's answer to whatever a function raises: Event Grid tries again
            logs.line("look.retried", error=repr(error), exc_info=error)
            return problem(500, type(error).__name__, "the events were not stored", "they are delivered again")
        return Response(status_code=202)


def _handshake(headers: Headers, raw: bytes) -> str | None:
    """The code of a subscription's validation event. Its validationUrl is never fetched."""
    if headers.get("aeg-event-type", "").lower() != "subscriptionvalidation":
        return None
    try:
        sent = load(raw)
        code = sent[0]["data"]["validationCode"]
    except (Malformed, LookupError, TypeError):
        return None
    return code if isinstance(code, str) else None


async def health(request: Request) -> Response:
    return JSONResponse({"status": "ok", "version": guardrail.__version__})


async def not_found(request: Request, error: Exception) -> Response:
    return problem(getattr(error, "status_code", 404), "NotFound", "there is nothing here", "GET /")


async def broken(request: Request, error: Exception) -> Response:
    return problem(500, "Failed", "this page could not be made", "see the log")
