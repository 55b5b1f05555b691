"""Our own template as the tests see it: every resource of infra/, worked out with the parameters of a deployment."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from guardrail.documents import Document
from guardrail.ids import ResourceId
from remediators import TYPES
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
        "webhook": "https://hook.example/guardrail",
        "messageTopic": "https://topic.westeurope-1.eventgrid.azure.net/api/events",
        "alertEmails": "oncall@example.com", "managementGroups": "mg-ai",
        "approvers": "11111111-1111-1111-1111-111111111111"},
    "asking, unseen": {"ceiling": "approve", "consoleAccess": "private", "guardedSubscriptions": OTHER},
    "cheap and unseen": {"network": "service", "consoleAccess": "private"},
    "straight to the function": {"delivery": "function"},
}

ALL = list(DEPLOYMENTS)
ACCOUNTS, GRANTS = "Microsoft.Storage/storageAccounts", "Microsoft.Authorization/roleAssignments"
DEFINITIONS = "Microsoft.Authorization/roleDefinitions"
SUBSCRIPTIONS = "Microsoft.EventGrid/systemTopics/eventSubscriptions"
FRONT, HANDS = "func-guardrail-front", "func-guardrail-hands"
# the built-in roles that we assign, as the documentation lists them: none writes to ARM or reads keys
NARROW = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": "Storage Blob Data Reader",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "8a0f0c08-91a1-4084-bc3d-661d67233fed": "Storage Queue Data Message Processor",
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": "Storage Queue Data Message Sender",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "12338af0-0e69-4776-bea7-57ae8d297424": "Key Vault Crypto User",
    "21090545-7ca7-4776-b22c-e363652d74d2": "Key Vault Reader",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "e147488a-f6f5-4113-8e2d-b22465e65bf6": "Key Vault Crypto Service Encryption User",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
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


def environment(part: str, name: str = "as it comes") -> dict[str, str]:
    """The settings of one app as its worker would find them in Azure."""
    known = {"defaultHostName": "func.azurewebsites.net"}
    found = {key: re.sub(r"<[^>]*>\.properties\.(\w+)", lambda what: known.get(what[1], "x"), str(value))
             for key, value in settings(part, name).items()}
    return {**found, "WEBSITE_INSTANCE_ID": "1"}


def grants(name: str = "as it comes", to: str = "") -> Iterator[tuple[str, str, str]]:
    """(name of a built-in role or id of ours, scope, principal) of each role assignment of a deployment."""
    for one in made(GRANTS, name):
        role = one.body["properties"]["roleDefinitionId"]
        if to in one.body["properties"]["principalId"]:
            yield NARROW.get(role.rsplit("/", 1)[1], role), one.scope, one.body["properties"]["principalId"]


def document(one: Resource, every: tuple[Resource, ...]) -> Document:
    """As ARM would answer for it: with its diagnostic settings and those of its blob service mounted."""
    type = next(type for type in TYPES if type.name == one.type)
    parts = {route.path.split("[")[0] for route in type.routes if route.path.startswith("+")}
    body = json.loads(json.dumps({**one.body, "id": one.id, "name": one.name, "type": one.type}))
    for part, at in (("+diagnosticSettings", one.id), ("+blobDiagnosticSettings", f"{one.id}/blobServices/default")):
        if part in parts:
            body[part] = [{"name": other.name, "properties": other.body["properties"]} for other in every
                          if other.type == "Microsoft.Insights/diagnosticSettings" and other.scope == at]
    if one.type == GRANTS:
        body["properties"]["scope"] = one.scope
    return Document(ResourceId(one.id), one.type, body, parts=frozenset(parts))


def documents(name: str = "as it comes") -> list[Document]:
    """Of each resource of a type that controls judge."""
    judged = {type.name for type in TYPES}
    return [document(one, deployed(name)) for one in deployed(name) if one.type in judged and not one.existing]
