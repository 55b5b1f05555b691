"""What stands before every page and route: who asks, from where, with what; and how an error is told.

Reading is GET and changes nothing (D8). A change is a POST with a bearer token and a JSON body: no form, no cookie, no
other site's page gets through (D6). Who it is says `identify`, which has no default.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from guardrail import logs
from guardrail.authorize import Person, authorize
from guardrail.errors import Final, GuardrailError, Held, Malformed, Refused, Retryable, Stale, Throttled
from guardrail.events import load
from guardrail.policy_schema import Policy
from guardrail.redact import redact

BODY_BYTES = 64 * 1024
NO_POLICY = Policy()
STATUS: Mapping[str, int] = {       # of a refusal; what is not here lost against the world's state: 409
    "token": 401, "token-age": 401, "role": 403, "app-only": 403, "guest": 403, "scope": 403, "four-eyes": 403, "groups": 403,
    "origin": 403, "body": 400, "until": 400, "what": 400, "unknown": 404,
}
CURES: Mapping[str, str] = {
    "token": "sign in, and send the access token", "token-age": "sign in again", "role": "ask for the app role",
    "app-only": "sign in as a person", "guest": "a member of the tenant decides", "scope": "a member of that group decides",
    "four-eyes": "another person decides", "groups": "assign groups to the application",
    "origin": "leave the Origin header out",
    "body": "docs/reference/http-api.md", "unknown": "list them first",
    "stale": "read it again, and send what you saw",
    "expired": "look at what is asked now: it comes again, louder", "clock": "set the clock, or wait until it is set",
    "intent": "approve the plan", "report": "switch back first: POST /mode", "until": "an earlier date",
}

Body = TypeVar("Body", bound="Reasoned")
Identify = Callable[[Request], Awaitable[Person]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Reasoned(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of every change: why."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"\S")]


def reading(identify: Identify, answer: Endpoint) -> Endpoint:
    """The endpoint for those who may read."""

    async def endpoint(request: Request) -> Response:
        try:
            who = await identify(request)
            authorize(who, "read", None, NO_POLICY)
            request.state.who = who
            return await answer(request)
        except GuardrailError as error:
            return told(error)

    return endpoint


def changing(identify: Identify, verb: str, shape: type[Body], url: str,
             act: Callable[[Request, Person, Body], Awaitable[Any]],
             refused: Callable[[Request, Person, str, Refused], Awaitable[None]]) -> Endpoint:
    """The endpoint for those who may `verb` at all; where, and whether now, is for `act` to say.

    `refused` records who got no further than here; beyond, the engine does.
    """

    async def endpoint(request: Request) -> Response:
        who: Person | None = None
        sent: Body | None = None
        try:
            who = await identify(request)
            _refuse_foreign(request, url)
            authorize(who, verb, None, NO_POLICY)
            sent = await _body(request, shape)
            return as_json(await act(request, who, sent))
        except Refused as error:
            if who is None:
                logs.line("person.refused", outcome=error.code, what=verb, why=str(error), path=request.url.path)
            elif sent is None:
                await refused(request, who, verb, error)
            return told(error)
        except GuardrailError as error:
            return told(error)

    return endpoint


def _refuse_foreign(request: Request, url: str) -> None:
    """Errors: Refused for another site's page, and for what a form can send."""
    origin = request.headers.get("origin")
    if origin is not None and origin not in (url.rstrip("/"), f"{request.url.scheme}://{request.headers.get('host', '')}"):
        raise Refused("origin", "this request comes from another site's page")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused("body", "send JSON: content-type application/json")


async def _body(request: Request, shape: type[Body]) -> Body:
    """Errors: Refused for what is not of this shape."""
    raw = await body(request, BODY_BYTES)
    if raw is None:
        raise Refused("body", f"more than {BODY_BYTES // 1024} KiB")
    try:
        return msgspec.convert(load(raw, BODY_BYTES, unique=True), shape, strict=True)
    except (Malformed, msgspec.ValidationError) as error:
        raise Refused("body", str(error)) from error


async def body(request: Request, limit: int) -> bytes | None:
    """What was sent; None as soon as it is more than `limit` bytes."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            return None
    return raw


def as_json(answer: Any) -> Response:
    """What leaves: secrets taken out, absent fields left out."""
    return Response(msgspec.json.encode(redact(answer), enc_hook=str), media_type="application/json")


def told(error: GuardrailError) -> Response:
    """An error as its status, a word for programs, a sentence for people, and what helps."""
    message = logs.visible(str(error))
    if isinstance(error, Refused):
        status = STATUS.get(error.code, 409)
        answer = problem(status, error.code, message, CURES.get(error.code, "look again"))
        if status == 401:
            answer.headers["www-authenticate"] = "Bearer"
        return answer
    if isinstance(error, Retryable):
        message = message if isinstance(error, Throttled) else "not now: our store, or the sign-in keys, did not answer"
        answer = problem(429 if isinstance(error, Throttled) else 503, type(error).__name__, message, "try again")
        answer.headers["retry-after"] = str(max(1, round(error.after_s)))
        return answer
    if isinstance(error, Malformed):
        return problem(400, "Malformed", message, CURES["body"])
    if isinstance(error, (Stale, Final)):
        return problem(409, type(error).__name__, message, "look again")
    return problem(503, type(error).__name__, message, "see the log" if not isinstance(error, Held) else "a newer version")


def problem(status: int, code: str, message: str, cure: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message, "cure": cure}}, status)
