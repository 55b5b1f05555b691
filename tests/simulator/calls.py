"""Calls over HTTP as an actor makes them, for the tests of the simulator's surroundings. Knows no Azure client."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from simulator import Simulator

SUBSCRIPTION = "/subscriptions/00000000-0000-0000-0000-000000000001"
GROUP = f"{SUBSCRIPTION}/resourceGroups/ai"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/aidata"
NSG = f"{GROUP}/providers/Microsoft.Network/networkSecurityGroups/ai-nsg"
STORAGE = "2025-06-01"
NETWORK = "2025-03-01"
SECURED = {
    "location": "eastus",
    "kind": "StorageV2",
    "sku": {"name": "Standard_LRS"},
    "tags": {"env": "production"},
    "properties": {"publicNetworkAccess": "Disabled", "minimumTlsVersion": "TLS1_2", "allowBlobPublicAccess": False},
}

OPEN = {"properties": {"publicNetworkAccess": "Enabled"}}
RULE_BODY = {
    "properties": {
        "priority": 100,
        "direction": "Inbound",
        "access": "Allow",
        "protocol": "Tcp",
        "sourceAddressPrefix": "*",
        "sourcePortRange": "*",
        "destinationAddressPrefix": "*",
        "destinationPortRange": "22",
    }
}


class Answer(NamedTuple):
    """Header names in lower case; body is JSON, or bytes where it is none, or None."""

    status: int
    headers: dict[str, str]
    body: Any


def call(
    sim: Simulator,
    method: str,
    path: str,
    body: Any = None,
    *,
    as_: str = "ml-engineer",
    version: str = STORAGE,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    token: str | None = None,
    timeout_s: float = 5.0,
) -> Answer:
    """One request on a connection of its own. `token=""` sends none. Raises what http.client raises on a cut line."""
    split = urlsplit(sim.url)
    line = http.client.HTTPConnection(split.hostname or "", split.port, timeout=timeout_s)
    bearer = sim.identity.token(as_) if token is None else token
    sent = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    content = None if body is None else json.dumps(body).encode()
    url = f"{quote(path)}?{urlencode({'api-version': version, **(query or {})})}"
    try:
        line.request(method, url, content, {**sent, "Content-Type": "application/json", **(headers or {})})
        answer = line.getresponse()
        raw = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
    finally:
        line.close()
    try:
        return Answer(answer.status, found, json.loads(raw) if raw else None)
    except ValueError:
        return Answer(answer.status, found, raw)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


def access(sim: Simulator) -> Any:
    """What really stands at the account, whatever a caller was told."""
    document = sim.document(ACCOUNT)
    return document and document["properties"]["publicNetworkAccess"]
