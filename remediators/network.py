"""How ARM reads and writes network security groups: each rule at its own URL, and never the group. Types of 2025-09-01.

A PUT of the group would replace its list of rules and drop those that were added meanwhile; so the group has no route.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from guardrail.documents import Node
from guardrail.values import Drift, Parameters, Request, ResourceType, Route, to_json

NSG = "Microsoft.Network/networkSecurityGroups"

FIRST_PRIORITY, LAST_PRIORITY = 100, 4096
ANYTHING = dict.fromkeys(
    ("protocol", "sourcePortRange", "sourceAddressPrefix", "destinationPortRange", "destinationAddressPrefix"), "*")

_URL = re.compile(
    r"/subscriptions/([\w.-]+)/resourceGroups/([\w.-]+)/providers/Microsoft\.Network/networkSecurityGroups/([\w.-]+)"
    r"/securityRules/([\w.-]+)", re.ASCII)


def cut_off(nsg: Node, _: Parameters) -> Iterator[Drift]:
    """Isolated: in each direction a rule of ours denies everything before any other rule allows anything.

    Load balancer probes and peers are cut off too. Where no priority is free before the first allowance (just-in-time
    access takes 100 and up), a person decides.
    """
    rules = list(nsg.items("properties.securityRules", "name"))
    for direction in ("Inbound", "Outbound"):
        way = direction.lower()
        name = f"guardrail-quarantine-{way}"
        ours = next((rule for rule in rules if rule.text("name") == name), None)
        others = [rule for rule in rules if rule is not ours and rule.text("properties.direction") == way]
        allowing = [_priority(rule) for rule in others if rule.text("properties.access") != "deny"]
        first, taken = min(allowing, default=LAST_PRIORITY + 1), {_priority(rule) for rule in others}
        free = [number for number in range(FIRST_PRIORITY, first) if number not in taken]
        if not free:
            yield from nsg.undecided("properties.securityRules", f"no {way} priority is free before {first}")
        elif ours is None:
            yield from nsg.missing("properties.securityRules", _denial(name, direction, free[0]), "name")
        else:
            yield from _as_denial(ours, direction, _priority(ours) if _priority(ours) in free else free[0])


def _priority(rule: Node) -> int:
    """A number that we cannot read counts as the first: nothing goes before it."""
    number = rule.get("properties.priority")
    return number if isinstance(number, int) and not isinstance(number, bool) else FIRST_PRIORITY


def _denial(name: str, direction: str, priority: int) -> dict[str, Any]:
    return {"name": name, "properties": {
        "description": "Set by the guardrail: quarantine.", "access": "Deny", "direction": direction,
        "priority": priority, **ANYTHING}}


def _as_denial(ours: Node, direction: str, priority: int) -> Iterator[Drift]:
    """The name is ours, so whatever else the rule says is written over."""
    wanted: dict[str, Any] = {"access": "Deny", "direction": direction, "priority": priority, **ANYTHING}
    for field, value in wanted.items():
        path = f"properties.{field}"
        yield from ours.expect(path, one_of=(value,), known=(ours.get(path),))
    for field in ("sourcePortRanges", "sourceAddressPrefixes", "destinationPortRanges", "destinationAddressPrefixes",
                  "sourceApplicationSecurityGroups", "destinationApplicationSecurityGroups"):
        path = f"properties.{field}"
        yield from ours.expect(path, one_of=([],), absent=[], known=(ours.get(path),))


async def send(clients: Any, request: Request, headers: Mapping[str, str]) -> Any:
    """PUT and DELETE of a rule through azure-mgmt-network; all else, and names that it would spell otherwise, plainly.

    No poller: the group itself is read until it is done.
    """
    found = _URL.fullmatch(request.url)
    if request.method not in ("PUT", "DELETE") or found is None:
        return await clients.send(request, headers)
    from azure.mgmt.network.aio import NetworkManagementClient

    subscription, *names = found.groups()
    rules = clients.sdk(NetworkManagementClient, subscription, request.api_version).security_rules
    options: dict[str, Any] = {
        "api_version": request.api_version, "headers": dict(headers), "cls": clients.answer, "polling": False}
    if request.method == "DELETE":
        poller = await rules.begin_delete(*names, **options)
    else:
        poller = await rules.begin_create_or_update(*names, io.BytesIO(to_json(request.body)), **options)
    return await poller.result()


TYPES = (
    ResourceType(
        NSG, "2025-09-01",
        (
            # a PUT replaces the rule and nothing of it is write-only (recorded); a rule's ETag is its group's and moves
            # with every sibling, so that If-Match would stop a plan of two rules half way
            Route("properties.securityRules[name]", "{id}/securityRules/{name}",
                  update="PUT", create=True, delete=True, round_trip=True),
            Route("+diagnosticSettings[name]", "{id}/providers/Microsoft.Insights/diagnosticSettings/{name}",
                  "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True),
        ),
        isolate=cut_off, born="properties.resourceGuid",
        dependants=("properties.subnets", "properties.networkInterfaces"), send=send,
    ),
)
