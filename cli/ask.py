"""The guardrail that a command asks: deployed, or the local store's in this process. Both by the same API, said first."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import quote, unquote

import msgspec
import typer

from cli import identities, remote
from cli.identities import GROUP
from cli.output import Code, Ended, count, nearest, say
from cli.target import running, running_text, settings, shown_path, store_path
from console import views
from guardrail import app, errors, ids
from guardrail.app import Guardrail
from guardrail.errors import Final, GuardrailError, Refused
from guardrail.ids import ResourceId
from guardrail.logs import visible
from guardrail.settings import Settings
from guardrail.stores import HOME

Send = Callable[[str, str, Mapping[str, str], bytes, remote.Sink], Coroutine[Any, Any, int]]     # method, path, headers, body

DONE = 200
TIMES = ("at", "since", "until", "expires", "opened", "from", "newest_anchor")
WITH_TIMES = ("records", "freezes", "pending")          # fields of rows that hold rows with times
ERRORS: Mapping[str, type[GuardrailError]] = {one.__name__: one for one in (
    errors.Throttled, errors.Unavailable, errors.StoreDown, errors.Busy, errors.Stale, errors.Malformed, errors.Denied,
    errors.Gone, errors.Immutable, errors.Unsafe, errors.Unanswered, errors.Held)}


class Into(Protocol):
    """What takes an answer."""

    def write(self, piece: bytes, /) -> object: ...


class Target:
    """One guardrail, asked by its API: that of another host, or in this process that of the local store.

    Rows are those of docs/reference/http-api.md; their times are datetimes.
    """

    def __init__(self, name: str, send: Send, runner: asyncio.Runner, who: str | None, url: str = "") -> None:
        self.name = name                # as it is said before anything else
        self.url = url                  # "" for the local store
        self._send, self._runner = send, runner
        self._who = who                 # whose name is sent, "" for nobody's; None where a token says it

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Object id -> name; empty where only ids are known."""
        return {} if self._who is None else identities.names()

    def get(self, path: str, as_: str = "", **query: str) -> Any:
        """Errors: those that the API tells, Ended, Unavailable."""
        answer = io.BytesIO()
        self.copy(path, answer, as_, **query)
        return _read(self.name, answer.getvalue())

    def copy(self, path: str, into: Into, as_: str = "", **query: str) -> None:
        """A whole answer, as it comes. Errors: as get, and OSError of `into`."""
        told = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items() if value)
        self._ask("GET", f"{path}?{told}" if told else path, {}, b"", into, as_)

    def post(self, path: str, **body: Any) -> Any:
        """What was changed; fields that are None are left out, a trailing _ too. Errors: as get, and Unanswered."""
        raw = msgspec.json.encode({name.rstrip("_"): value for name, value in body.items() if value is not None})
        answer = io.BytesIO()
        self._ask("POST", path, {"Content-Type": "application/json"}, raw, answer, "")
        return _read(self.name, answer.getvalue())

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes, into: Into, as_: str) -> None:
        refused = io.BytesIO()

        def sink(status: int, piece: bytes) -> None:
            (into if status == DONE else refused).write(piece)

        who = as_ or self._who
        sent = {**headers, "Authorization": f"Bearer {who}"} if who else headers
        status = self._runner.run(self._send(method, path, sent, body, sink))
        if status != DONE:
            raise _told(self.name, status, refused.getvalue())

    def confirm(self, question: str, *, always: bool = False) -> None:
        """Asks, with the target's name, before something is changed elsewhere. Errors: Ended without a yes."""
        if remote.chosen.is_sure or not (always or self.url):
            return
        if not sys.stdin.isatty():
            raise Ended(Code.REFUSED, f"nobody to ask here: nothing is changed on {self.name}. cure: --yes.")
        if not typer.confirm(f"{visible(question)} On {self.name}?", err=True):
            raise Ended(Code.REFUSED, "nothing is changed.")

    def find(self, path: str, prefix: str) -> views.Row:
        """The one row of a list whose id begins so. Errors: Ended for none, or several."""
        rows = self.get(path)
        try:
            return views.by_prefix(rows, prefix)
        except LookupError as error:
            raise Ended(Code.USAGE, f"{error}. cure: {count(len(rows), 'id')} can be listed with list -o json.") from error

    def resource(self, name: str, *, is_known: bool = False) -> ResourceId:
        """By ARM id, or the short name of one that has records. `is_known`: one that has none is nothing. Errors: Ended."""
        if name.startswith("/") and not is_known:
            return ids.parse(name)
        listed = [ResourceId(row["resource_id"]) for row in self.get("/resources")]
        found = [one for one in listed if name.lower() in (ids.fold(one), ids.name_of(one).lower())]
        if len(found) > 1:
            listing = "\n  ".join(found)
            raise Ended(Code.USAGE, f"{len(found)} resources are called {name!r}. cure: give the ARM id:\n  {listing}")
        if not found:
            raise nearest(name, [ids.name_of(one) for one in listed], "resource in this store called")
        return found[0]


@contextmanager
def opened(who: str | None = None, *, needs_run: bool = False, announce: bool = True) -> Iterator[Target]:
    """What this command works on, said first. `who`: of --as, for what is decided, or "" for nobody; None only reads.

    `needs_run`: on the local store only beside an embedded run, which carries it out. Errors: Ended, ConfigError.
    """
    base = remote.url()
    far = remote.remote(base) if base else None
    if far is not None and far.audience:
        if who and who != os.environ.get("GUARDRAIL_AS"):
            raise Ended(Code.USAGE, f"--as is for the embedded run: {base} knows you by az's sign-in. cure: leave it out.")
    elif who is not None:
        identities.person(who)
    with asyncio.Runner() as runner:
        if far is not None:
            if announce:
                say(f"target: {base}{'' if far.audience else f', as {who}' if who else ', as nobody'}")
            yield Target(base, far.send, runner, None if far.audience else who or "", base)
            return
        guardrail = runner.run(_local(needs_run=needs_run))
        name = f"store {shown_path(store_path())}"
        if announce:
            say(f"target: {name}{running_text()}")
        try:
            yield Target(name, in_process(guardrail), runner, who or "")
        finally:
            runner.run(guardrail.close())


async def _local(*, needs_run: bool) -> Guardrail:
    """The engine that the embedded run has, on the same store: the same policy, Azure and people.

    Without a run: with what the environment says, and then nothing of Azure is read. Errors: Ended.
    """
    path, run = store_path(), running()
    if not path.exists() or (run is None and needs_run):
        what = f"no embedded run on {shown_path(path)}, and nobody to carry anything out" if path.exists() else (
            f"no store at {shown_path(path)}")
        raise Ended(Code.UNFINISHED, f"{what}. cure: guardrail run, in another shell (--keep goes on with the last one); "
                                     "or name a deployed guardrail: --url.")
    if run is not None:
        made = settings(run.simulator, run.subscriptions, run.policy)
        os.environ.update(IDENTITY_ENDPOINT=f"{run.simulator}/msi/token", IDENTITY_HEADER="embedded")
        return app.build(made)
    made = Settings(frozenset(), ceiling="enforce", approvers=GROUP, store=str(path),
                    policy=os.environ.get("GUARDRAIL_POLICY", "guardrail.yaml"))
    built = app.build(made)
    known = frozenset({ids.subscription(chain.resource) async for chain in built.store.chains() if chain.resource != HOME})
    built.engine.subscriptions = known
    return built


def in_process(guardrail: Guardrail) -> Send:
    """The API of this engine, asked without a socket."""
    from starlette.applications import Starlette

    from console.api import Api

    api = Starlette(routes=list(Api(guardrail.engine, identities.identify, guardrail.settings.approvers).routes()))

    async def send(method: str, path: str, headers: Mapping[str, str], body: bytes, sink: remote.Sink) -> int:
        path, _, query = path.partition("?")
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
                 "path": unquote(path), "raw_path": path.encode(), "root_path": "", "query_string": query.encode(),
                 "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()]}
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        status = 0

        async def receive() -> Any:
            return waiting.pop() if waiting else await asyncio.Event().wait()

        async def told(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            sink(status, message.get("body", b""))

        await api(scope, receive, told)
        return status

    return send


def _read(name: str, raw: bytes) -> Any:
    """JSON, its times as datetimes. Errors: Final for what is none."""
    try:
        return _timed(msgspec.json.decode(raw))
    except (msgspec.MsgspecError, ValueError) as error:
        raise Final(f"{name} answered, and not as a guardrail does") from error


def _timed(one: Any) -> Any:
    if isinstance(one, list):
        return [_timed(each) for each in one]
    if not isinstance(one, dict):
        return one
    return {name: datetime.fromisoformat(value) if name in TIMES and isinstance(value, str) else
            _timed(value) if name in WITH_TIMES else value for name, value in one.items()}


class _Error(msgspec.Struct):
    code: str
    message: str
    cure: str = ""


class _Answer(msgspec.Struct):
    error: _Error


def _told(name: str, status: int, raw: bytes) -> GuardrailError:
    """The error that an answer tells, as the engine itself would raise it."""
    try:
        told = msgspec.json.decode(raw, type=_Answer).error
    except msgspec.MsgspecError:
        more = ": a redirect, which is not followed" if 300 <= status < 400 else ""
        return Final(f"{name} answered {status}, and not as a guardrail does{more}")
    kind = ERRORS.get(told.code)
    if kind is not None:
        return kind(told.message)
    return Refused(told.code, told.message, told.cure) if told.code.islower() else Final(f"{name}: {told.message}")
