"""Our own template as the tests see it: every resource of infra/, worked out with the parameters of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.bicep import SUBSCRIPTION, Resource, Template

ROOT = Path(__file__).resolve().parent.parent
INFRA = ROOT / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))
OTHER = "00000000-0000-0000-0000-00000000000b"
TOPIC = f"/subscriptions/{OTHER}/resourceGroups/rg-shared/providers/Microsoft.EventGrid/systemTopics/evgt-shared"
LEAST = {"environmentName": "test", "location": "westeurope", "audience": "api://guardrail-test"}
# deployments that between them take every branch of every condition
DEPLOYMENTS: Mapping[str, Mapping[str, str]] = {
    "as it comes": {},
    "two subscriptions, one with a topic": {"guardedSubscriptions": f"{SUBSCRIPTION}, {OTHER}", "existingTopics": TOPIC},
    "enforcing, cheap, with chats": {
        "ceiling": "enforce", "network": "service", "outbound": "https", "probe": "off", "channels": "teams,slack,webhook-key",
        "webhook": "https://hook.example/guardrail", "alertEmails": "oncall@example.com", "managementGroups": "mg-ai",
        "approvers": "11111111-1111-1111-1111-111111111111"},
    "asking, unseen, straight to the function": {
        "ceiling": "approve", "consoleAccess": "private", "delivery": "function", "guardedSubscriptions": OTHER},
}


@lru_cache
def deployed(name: str = "as it comes") -> tuple[Resource, ...]:
    """What that deployment sends or refers to."""
    return tuple(template(name).resources())


@lru_cache
def template(name: str = "as it comes") -> Template:
    return Template(INFRA / "main.bicep", LEAST | DEPLOYMENTS[name], f"/subscriptions/{SUBSCRIPTION}")


@lru_cache
def at_management_group() -> tuple[Resource, ...]:
    scope = "/providers/Microsoft.Management/managementGroups/mg-ai"
    given = {"installation": "test", "handsPrincipalId": "22222222-2222-2222-2222-222222222222"}
    return tuple(Template(INFRA / "managementgroup.bicep", given, scope).resources())


def made(type: str, name: str = "as it comes") -> list[Resource]:
    """Of one type, without those that are only referred to."""
    return [one for one in deployed(name) if one.type == type and not one.existing]


def site(part: str, name: str = "as it comes") -> Resource:
    return next(one for one in made("Microsoft.Web/sites", name) if one.body["tags"]["azd-service-name"] == part)


def settings(part: str, name: str = "as it comes") -> dict[str, Any]:
    """The app settings of one app."""
    id = site(part, name).id
    found = next(one for one in made("Microsoft.Web/sites/config", name) if one.id.startswith(f"{id}/"))
    return dict(found.body["properties"])
