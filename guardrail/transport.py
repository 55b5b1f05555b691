"""How a request leaves: to one host only, with a token only for it, once. And what an answer's status means.

The SDKs' own policies (retries, redirects, provider registration, pollers) are replaced by the list made here.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from azure.core.exceptions import AzureError, HttpResponseError, ServiceResponseTimeoutError
from azure.core.pipeline import AsyncPipeline, PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import HttpRequest

from guardrail import errors
from guardrail.events import load
from guardrail.paths import fold
from guardrail.redact import scrub
from guardrail.values import Request, to_json

REQUEST_TIMEOUT_S = 100
DOCUMENT_BYTES = 4 * 1024 * 1024
TOKEN_MARGIN_S = 300
THROTTLED_AT_MOST_S = 900.0

Client = TypeVar("Client")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the JSON body unchanged, and ARM's request id for the record."""

    status: int
    body: Any
    headers: Mapping[str, str]          # names in lower case

    @property
    def request_id(self) -> str:
        return self.headers.get("x-ms-request-id", "")


class HostGuard(AsyncHTTPPolicy[Any, Any]):
    """Lets a request through only to the one endpoint: scheme, host and port equal, no userinfo, no dot segments.

    It stands before the token is put on and once more last, after everything that could rewrite the URL.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        wanted = urlsplit(endpoint)
        self._wanted = (wanted.scheme, wanted.netloc)

    async def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        check_url(request.http_request.url, *self._wanted)
        return await self.next.send(request)


def check_url(url: str, scheme: str, netloc: str) -> None:
    """Errors: Unsafe unless `url` goes to that endpoint and to the path it spells."""
    plain = url.isascii() and url.isprintable() and not set(url) & set("\\ <>\"{}|^`")
    parts = urlsplit(url) if plain else None
    if parts is None or (parts.scheme, parts.netloc) != (scheme, netloc) or parts.fragment:
        raise errors.Unsafe(f"refused to send a request to another host than {netloc}")
    if any(unquote(segment) in (".", "..") for segment in parts.path.split("/")):
        raise errors.Unsafe("refused a path with dot segments")


class Bearer(AsyncHTTPPolicy[Any, Any]):
    """Puts the token on. One token is kept; a 401 throws it away, so that the next try fetches a fresh one.

    azure-identity 1.27 would sleep through five tries of its own, and keeps a cache that only `claims` goes round.
    """

    def __init__(self, credential: Any, scope: str) -> None:
        super().__init__()
        self._credential, self._scope = credential, scope
        self._token: tuple[str, float] = ("", 0.0)
        self._fresh: dict[str, str] = {}
        self.object_id = ""         # of the identity that the token is for; "" before the first one

    async def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        if self._token[1] - TOKEN_MARGIN_S < time.time():
            try:
                token = await self._credential.get_token(self._scope, retry_total=0, **self._fresh)
            except AzureError as error:
                raise errors.Unavailable(f"no token: {type(error).__name__}", after_s=30) from error
            self._token, self._fresh = (token.token, token.expires_on), {}
            self.object_id = _object_id(token.token)
        request.http_request.headers["Authorization"] = f"Bearer {self._token[0]}"
        answer = await self.next.send(request)
        if answer.http_response.status_code == 401:
            self._token, self._fresh = ("", 0.0), {"claims": "{}"}
        return answer


def _object_id(token: str) -> str:
    """The claim `oid` of a token that we were given for ourselves; "" if it has none."""
    try:
        payload = token.split(".")[1]
        return fold(str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["oid"]))
    except (IndexError, KeyError, TypeError, ValueError):
        return ""


class Clients:
    """Everything that talks to one endpoint: our own pipeline, and SDK clients that use the very same policies."""

    def __init__(self, endpoint: str, scope: str, credential: Any, transport: AsyncHttpTransport[Any, Any]) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._credential, self._transport = credential, transport
        self.bearer = Bearer(credential, scope)
        self._policies = [HostGuard(self.endpoint), self.bearer, HostGuard(self.endpoint)]
        self._pipeline = AsyncPipeline(transport, list(self._policies))
        self._sdk: dict[tuple[type, str, str], Any] = {}

    def sdk(self, client: type[Client], subscription: str, api_version: str) -> Client:
        """One client a class, subscription and api-version. Its stubs say neither `policies` nor `transport`."""
        key = (client, subscription, api_version)
        if key not in self._sdk:
            made: Any = client
            self._sdk[key] = made(
                credential=self._credential, subscription_id=subscription, base_url=self.endpoint,
                api_version=api_version, policies=list(self._policies), transport=_Shared(self._transport))
        found: Client = self._sdk[key]
        return found

    @staticmethod
    def answer(response: PipelineResponse[Any, Any], _: Any = None, __: Any = None) -> Answer:
        """For the SDKs' `cls=`: the raw answer instead of a model that drops what it does not know."""
        return _answer(response.http_response)

    async def send(self, request: Request, headers: Mapping[str, str]) -> Answer:
        """Our own sender: what an SDK would have sent, without one."""
        separator = "&" if "?" in request.url else "?"
        url = f"{self.endpoint}{request.url}{separator}api-version={request.api_version}"
        return await self.call(request.method, url, request.body, headers)

    async def call(self, method: str, url: str, body: Any = None, headers: Mapping[str, str] = {}) -> Answer:
        """One request to a whole URL. Errors: the tree of guardrail.errors, by `failed`."""
        content = None if body is None else to_json(body)
        typed = {"Content-Type": "application/json"} if content else {}
        sent = HttpRequest(method, url, content=content, headers={"Accept": "application/json", **typed, **headers})
        try:
            async with in_time():
                response = await self._pipeline.run(sent)
            answer = _answer(response.http_response)
        except AzureError as error:
            raise mapped(error, method) from error
        if answer.status >= 300:        # a redirect is no document, and is not followed
            raise failed(answer, method)
        return answer

    async def close(self) -> None:
        await self._transport.close()
        await self._credential.close()


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """Around one request, the SDKs' too: it ends in time, also if its answer drips, for a lease outlasts no more."""
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            yield
    except TimeoutError as error:
        raise ServiceResponseTimeoutError(f"no whole answer in {REQUEST_TIMEOUT_S} s") from error


class _Shared(AsyncHttpTransport[Any, Any]):
    """The one transport, lent to an SDK client: closing the client must not close it for the others."""

    def __init__(self, transport: AsyncHttpTransport[Any, Any]) -> None:
        self._transport = transport

    async def send(self, request: Any, **options: Any) -> Any:
        return await self._transport.send(request, **options)

    async def open(self) -> None:
        await self._transport.open()

    async def close(self) -> None:
        """The owner closes it."""

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _answer(response: Any) -> Answer:
    content = getattr(response, "content", None)
    raw = content if isinstance(content, bytes) else response.body()
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = None
    if raw and "json" in headers.get("content-type", "json"):
        try:
            body = load(raw, limit=DOCUMENT_BYTES)
        except errors.Malformed as error:
            if response.status_code < 400:
                raise errors.Malformed(f"the answer cannot be used: {error}") from error
    return Answer(response.status_code, body, headers)


# Codes that say more than their status does. What is not here is judged by its status.
_BUSY = {"AnotherOperationInProgress", "RetryableError", "RetryableErrorDueToAnotherOperation", "Conflict",
         "StorageAccountIsNotProvisioned", "StorageProvisioningStateNotSucceeded", "ReferencedResourceNotProvisioned"}
_DENIED = {"ScopeLocked", "RequestDisallowedByPolicy", "DenyAssignmentAuthorizationFailed", "AuthorizationFailed",
           "LinkedAuthorizationFailed"}
_IMMUTABLE = {"PropertyChangeNotAllowed", "PropertyUpdateNotAllowed", "ImmutableProperty"}


def failed(answer: Answer, method: str) -> errors.GuardrailError:
    """What an error answer means. A POST that a server broke off may have taken effect: nobody sends it again."""
    code, message = _error(answer.body)
    text = scrub(f"Azure answered {answer.status} {code}: {message}"[:1000])     # it goes into rows as it is
    final = {"code": code or str(answer.status), "request_id": answer.request_id}
    if code in _DENIED or answer.status == 403:
        return errors.Denied(text, **final)
    if code in _BUSY and answer.status in (400, 409, 429):
        return errors.Busy(text, after_s=retry_after(answer, 15))
    if code in _IMMUTABLE:
        return errors.Immutable(text, **final)
    if answer.status == 429:
        return errors.Throttled(text, after_s=retry_after(answer, 15))
    if answer.status == 412:
        return errors.Stale(text)
    if answer.status in (404, 410):
        return errors.Gone(text, **final)
    if method == "POST" and (answer.status < 400 or answer.status == 408 or answer.status >= 500):
        return errors.Unanswered(text, **final)
    if answer.status in (401, 408) or answer.status >= 500:
        return errors.Unavailable(text, after_s=retry_after(answer, 15))
    return errors.Final(text, **final)


def mapped(error: AzureError | ValueError, method: str) -> errors.GuardrailError:
    """azure.core's exceptions as ours; what carries an answer is judged by the answer."""
    if isinstance(error, HttpResponseError) and error.response is not None:
        answer = _answer(error.response)
        if answer.status >= 300:
            return failed(answer, method)
        return errors.Malformed(f"an answer {answer.status} that the SDK does not expect", request_id=answer.request_id)
    if isinstance(error, ValueError):
        return errors.Malformed(f"{type(error).__name__}: not a body that can be sent or read")
    if method == "POST":
        return errors.Unanswered(f"{type(error).__name__}: the POST may or may not have taken effect")
    return errors.Unavailable(f"{type(error).__name__}: no answer")


def _error(body: Any) -> tuple[str, str]:
    """(code, message) of Azure's error bodies: with an envelope or without, capitalised or not, or HTML."""
    for name in ("error", "Error"):
        if isinstance(body, Mapping) and isinstance(body.get(name), Mapping):
            body = body[name]
    if not isinstance(body, Mapping):
        return "", ""
    code, message = body.get("code", body.get("Code", "")), body.get("message", body.get("Message", ""))
    return code if isinstance(code, str) else "", message if isinstance(message, str) else ""


def retry_after(answer: Answer, least: float) -> float:
    """Seconds to wait: the header's (seconds or a date), at least `least`, 15 min at most; odd headers are ignored."""
    text, asked = answer.headers.get("retry-after", ""), 0.0
    if text.strip().isdecimal():
        asked = float(text)
    elif text:
        try:
            asked = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            asked = 0.0
    return min(max(asked, least), THROTTLED_AT_MOST_S)
