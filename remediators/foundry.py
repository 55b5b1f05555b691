"""How ARM reads and writes Foundry projects, and the content-filter policy of a whole subscription."""

from __future__ import annotations

from guardrail.values import COMMON, ResourceType, Route
from remediators.cognitive import CONNECTIONS_AND_HOSTS, VERSION, send

PROJECT = "Microsoft.CognitiveServices/accounts/projects"
SUBSCRIPTION_POLICY = "Microsoft.CognitiveServices/raiPolicy"

TYPES = (
    ResourceType(
        PROJECT, VERSION,
        (
            Route(update="PATCH", readonly=(*COMMON, "identity.principalId", "identity.tenantId", "properties.endpoints",
                                            "properties.isDefault")),
            *CONNECTIONS_AND_HOSTS,
            # A PUT would have to carry the identities and routes of the agent: nothing writes one.
            Route("+applications[name]", "{id}/applications/{name}"),
        ),
        send=send, dependants=("+applications",),
    ),
    # PUT only, and never recorded. A planned deletion is not told from another: nothing makes it anew.
    ResourceType(SUBSCRIPTION_POLICY, VERSION, (Route(update="PUT", readonly=(*COMMON, "properties.type")),)),
)
