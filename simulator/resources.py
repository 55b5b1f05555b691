"""Any resource, collection or action: the part that knows the path answers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from simulator import deleted, ids, lists, writes
from simulator.ids import split, type_of
from simulator.reads import get, habits_for, not_found, show, view
from simulator.types import Body, habits_of
from simulator.wire import Exchange, Request, Response, error

if TYPE_CHECKING:
    from simulator import Simulator

__all__ = ["get", "habits_for", "not_found", "plain", "route", "show", "version_for", "view"]


def route(sim: Simulator, request: Request) -> Response:
    """The answer to a request on a resource, a collection or an action."""
    if refused := version_refused(request):
        return refused
    if (response := deleted.route(sim, request)) is not None:
        return response
    _, namespace, segments = split(request.path)
    if not namespace and not ids.is_resource(request.path):
        return error(404, "InvalidResourceNamespace", f"There is no resource at '{request.path}'.")
    if len(segments) % 2 and request.method == "GET":
        return lists.answer(sim, request)
    if request.method == "POST" and len(segments) % 2:
        return writes.act(sim, request)
    handler = {"GET": get, "HEAD": get, "PUT": writes.put, "PATCH": writes.patch, "DELETE": writes.delete}.get(request.method)
    if handler is None or not ids.is_resource(request.path):
        return Response(405, {"Message": f"The requested resource does not support http method '{request.method}'."})
    return handler(sim, request)


def version_refused(request: Request) -> Response | None:
    """400 for an api-version that is missing or malformed, or of no year that ARM has seen."""
    version, type = request.version, type_of(request.path) or request.path
    if not version:
        return error(400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required.")
    known = habits_of(type).versions
    date = version[:10].replace("-", "")
    if len(version) < 10 or len(date) != 8 or not date.isdigit():
        return error(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")
    if (known and version not in known) or not "2009" <= version[:4] <= "2027":
        _, namespace, _ = split(request.path)
        message = f"No registered resource provider found for API version '{version}' for type '{type}' of '{namespace}'."
        return error(400, "NoRegisteredProviderFound", message)
    return None


def version_for(path: str) -> str:
    """An api-version for callers that name none: the one the type's habits give."""
    type = type_of(path) if ids.is_resource(path) else type_of(path.rpartition("/")[0]) or type_of(path)
    return habits_of(type).version


def plain(line: Exchange) -> Body:
    """A log line as JSON, without the token."""
    record = dataclasses.asdict(line)
    record["headers"].pop("authorization", None)
    if isinstance(record["answer"], bytes):
        record["answer"] = record["answer"].decode("utf-8", "replace")
    return record
