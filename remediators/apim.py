"""How ARM reads and writes the AI gateway: API Management services, and the APIs that lead to models. 2024-05-01."""

from __future__ import annotations

from guardrail.values import ResourceType, Route

SERVICE = "Microsoft.ApiManagement/service"
API = f"{SERVICE}/apis"
VERSION = "2024-05-01"

TYPES = (
    ResourceType(
        SERVICE, VERSION,
        # The service itself is only read: no control wants anything of it but its logs.
        (Route("+diagnosticSettings[name]", "{id}/providers/Microsoft.Insights/diagnosticSettings/{name}",
               "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True),),
        born="properties.createdAtUtc", dependants=("properties.privateEndpointConnections",),
    ),
    # An API has one policy, named `policy`; its text is listed and written as XML, which is the default of `format`.
    # The ETag stands in a header that a list does not have. A PUT was never recorded: unproven.
    ResourceType(API, VERSION, (Route("+policies[name]", "{id}/policies/{name}", update="PUT", create=True),), born=""),
)
