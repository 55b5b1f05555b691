"""Events on their way to a Functions host, or to the embedded run, whose web hook is the same."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

ROUTE = "/runtime/webhooks/EventGrid?functionName=on_resource_change"


def url(base: str) -> str:
    """The web hook of a host; a URL that names a path is taken as it is."""
    return base if urlsplit(base).path.strip("/") else base.rstrip("/") + ROUTE


def post(to: str, raw: bytes, timeout_s: float = 30) -> int:
    """The status. No proxy, no redirect, no token. Errors: OSError, http.client.HTTPException, ValueError (no URL)."""
    parts = urlsplit(to)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{to!r} is no http or https URL")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout_s)
    try:
        headers = {"Content-Type": "application/json", "aeg-event-type": "Notification"}
        connection.request("POST", f"{parts.path or '/'}?{parts.query}", raw, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
