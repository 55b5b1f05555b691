"""The values that every part of the simulator shares: one request, one answer, and what the answer did to the world.

Nothing here knows a resource type, a fault or a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(slots=True)
class Request:
    """One call as it came in. `path` is decoded, `//` collapsed, no trailing `/`; header names are lower case."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    at: float = 0.0
    claims: Mapping[str, Any] = field(default_factory=dict)
    """Payload of the bearer token, not verified; empty without one."""
    base: str = ""
    """Scheme and authority the caller used, `http://127.0.0.1:8080`: operation URLs are made from it."""

    def get(self, name: str, default: str = "") -> str:
        """A query parameter, its name folded as ARM does (`$Filter` is `$filter`)."""
        for key, value in self.query.items():
            if key.lower() == name.lower():
                return value
        return default

    @property
    def version(self) -> str:
        """The api-version asked for; empty if there is none."""
        return self.get("api-version")

    @property
    def actor(self) -> str:
        """Who called, for log and history: the name in the token, else its object id or app id."""
        for claim in ("name", "oid", "appid"):
            if self.claims.get(claim):
                return str(self.claims[claim])
        return ""


@dataclass(slots=True)
class Effect:
    """What a request did (or was refused to do) to one resource: what events and history are made of."""

    id: str
    type: str
    kind: Literal["Write", "Delete", "Action"]
    operation: str
    """ARM's name, `Microsoft.Storage/storageAccounts/write`."""
    before: Any = None
    after: Any = None
    created: bool = False


@dataclass(slots=True)
class Response:
    """One answer. `body` is a JSON value, bytes (with a content-type of their own), or None for an empty one."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    """Empty for reads; for a refused write the one that did not happen (after is None)."""
    delay_s: float = 0.0
    """The server waits this long before it answers (S4)."""
    drip_s: float = 0.0
    """Pause between the bytes of the body (S4)."""
    drop: bool = False
    """The connection is closed without an answer (S2, S3)."""

    @property
    def ok(self) -> bool:
        return self.status < 400


@dataclass(slots=True)
class Exchange:
    """One line of the log (S0), complete with the answer; `body` is JSON where it could be read, else text."""

    at: float
    method: str
    url: str
    path: str
    query: dict[str, str]
    api_version: str
    headers: dict[str, str]
    body: Any
    status: int
    actor: str
    answer: Any


def error(status: int, code: str, message: str, **more: Any) -> Response:
    """Azure's error envelope; `more` adds target, details, additionalInfo."""
    return Response(status, {"error": {"code": code, "message": message, **more}})
