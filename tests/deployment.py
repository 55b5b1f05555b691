"""A simulated Azure in which a deployment of infra/ stands, worked out from the templates as Bicep would."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from simulator import Simulator
from tests import infra
from tests.bicep import SUBSCRIPTION, Resource, Runtime
from tests.infra import DEFINITIONS, NARROW

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-guardrail-test"
HOST = "func.azurewebsites.net"
# what Azure adds to what is sent
LOCKED = {"state": "Locked"}
SHOWN: dict[str, dict[str, Any]] = {
    "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies": LOCKED,
    "Microsoft.Storage/storageAccounts/queueServices/queues": {"approximateMessageCount": 0},
    "Microsoft.KeyVault/vaults/keys": {"attributes": {"enabled": True}},
    "Microsoft.EventGrid/systemTopics/eventSubscriptions": {"provisioningState": "Succeeded"},
}


def stand(simulator: Simulator, name: str = "as it comes") -> None:
    """Seeds every resource of that deployment; those that ask for what Azure makes (principals) last."""
    for guid, role in NARROW.items():
        permission = {"actions": [], "notActions": [], "dataActions": ["*"], "notDataActions": []}
        for one in simulator.subscriptions:
            simulator.seed(f"/subscriptions/{one}/providers/{DEFINITIONS}/{guid}",
                           {"properties": {"roleName": role, "type": "BuiltInRole", "permissions": [permission]}})
    made = [one for one in infra.deployed(name) if not one.existing]
    for one in sorted(made, key=lambda one: any(isinstance(value, Runtime) for value in leaves(one.body))):
        body = resolved(simulator, one.body)
        if one.type in SHOWN:
            body["properties"] = {**body.get("properties", {}), **SHOWN[one.type]}
        if one.type == infra.GRANTS:
            body["properties"]["scope"] = one.scope
        simulator.seed(one.id, body, one.api_version)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for one in value.values():
            yield from leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def resolved(simulator: Simulator, value: Any) -> Any:
    """A copy with what only Azure knows taken from the simulator's documents."""
    if isinstance(value, dict):
        return {key: resolved(simulator, one) for key, one in value.items()}
    if isinstance(value, list):
        return [resolved(simulator, one) for one in value]
    if isinstance(value, Runtime):
        return re.sub(r"<([^>]*)>\.([\w.]+)", lambda found: known(simulator, found[1], found[2]), value)
    return value


def known(simulator: Simulator, id: str, path: str) -> str:
    if path.endswith("defaultHostName"):
        return HOST
    document: Any = simulator.document(id)
    for name in path.split("."):
        document = document.get(name, "x") if isinstance(document, dict) else document
    return str(document)


def first(type: str, name: str = "as it comes", **has: str) -> Resource:
    return next(one for one in infra.made(type, name) if all(text in one.id for text in has.values()))
