"""How ARM reads and writes machine learning endpoints. PATCH takes tags and identity only, so all else is a PUT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from guardrail.documents import Node
from guardrail.paths import join, show
from guardrail.values import COMMON, Drift, Parameters, ResourceType, Route
from remediators.ml_workspaces import DIAGNOSTICS, SPACE

ONLINE = f"{SPACE}/onlineEndpoints"
SERVERLESS = f"{SPACE}/serverlessEndpoints"
IDENTITY = ("identity.principalId", "identity.tenantId")


def cut_off(endpoint: Node, _: Parameters) -> Iterator[Drift]:
    """Closed to the Internet, and no deployment gets live or mirrored requests.

    A call that names a deployment in its header may still reach it from inside the network (not verified).
    """
    yield from endpoint.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")
    for path in ("properties.traffic", "properties.mirrorTraffic"):
        shares = endpoint.get(path)
        for name, share in shares.items() if isinstance(shares, Mapping) else ():
            known = (share,) if isinstance(share, int) and not isinstance(share, bool) else ()
            yield from endpoint.expect(join(path, show((name,))), one_of=(0,), absent=0, known=known)


TYPES = (
    ResourceType(
        ONLINE, "2026-05-01",
        (
            # `keys` sets the keys of a new endpoint and always reads as null: a PUT without it is how traffic is moved
            # every day, so it is no secret that this PUT erases. Never recorded over what stands: unproven.
            Route(update="PUT", readonly=(*COMMON, *IDENTITY, "properties.scoringUri", "properties.swaggerUri")),
            # PATCH takes sku and tags. Rolls the containers; never recorded over what stands: unproven.
            Route("+deployments[name]", "{id}/deployments/{name}", update="PUT", readonly=(*COMMON, *IDENTITY)),
            DIAGNOSTICS,
        ),
        isolate=cut_off, dependants=("+deployments",),
        stops={"properties.traffic": (0,), "properties.mirrorTraffic": (0,)},
    ),
    ResourceType(
        SERVERLESS, "2026-05-01",
        (
            # never recorded: unproven
            Route(update="PUT", readonly=(
                *COMMON, *IDENTITY, *(f"properties.{name}" for name in (
                    "endpointState", "inferenceEndpoint", "marketplaceSubscriptionId")))),
        ),
        busy={"properties.endpointState": ("Creating", "Deleting", "Suspending", "Reinstating")},
    ),
)
