"""What clients read beside Resource Manager: the cloud's endpoints, and the little of Microsoft Graph that az uses."""

from __future__ import annotations

import json
import re
from typing import Any

from simulator.identity import ACTORS, AUDIENCE, Actor, decode
from simulator.wire import Request, Response


def route(tenant: str, request: Request) -> Response | None:
    """`/metadata/endpoints` and `/v1.0/…`; None for every other path. Neither asks for a token of ARM's."""
    path = request.path.lower()
    if path == "/metadata/endpoints":
        cloud = endpoints(request.base, tenant)
        return Response(200, [cloud] if request.version == "2019-05-01" else cloud)
    if path.startswith("/v1.0/"):
        return graph(request, path.removeprefix("/v1.0/"))
    return None


def endpoints(base: str, tenant: str) -> dict[str, Any]:
    """The cloud as `az cloud register` reads it (2022-09-01): all endpoints are the simulator, suffixes Azure's.

    `audiences[0]` becomes the resource of the tokens."""
    return {
        "name": "Simulated",
        "portal": base,
        "authentication": {
            "loginEndpoint": base,
            "audiences": [AUDIENCE, "https://management.azure.com/"],
            "tenant": tenant,
            "identityProvider": "AAD",
        },
        "resourceManager": base,
        "graphAudience": base,
        "graph": base,
        "microsoftGraphResourceId": base,
        "suffixes": {
            "storage": "core.windows.net",
            "keyVaultDns": "vault.azure.net",
            "acrLoginServer": "azurecr.io",
            "mhsmDns": "managedhsm.azure.net",
            "sqlServerHostname": "database.windows.net",
        },
        "batch": base,
        "gallery": base,
        "media": base,
        "sqlManagement": base,
        "vmImageAliasDoc": f"{base}/aliases.json",
        "activeDirectoryDataLake": base,
        "ossrDbmsResourceId": base,
        "logAnalyticsResourceId": base,
        "appInsightsResourceId": base,
    }


def graph(request: Request, path: str) -> Response:
    """Reads of users and service principals; the directory holds the simulator's actors and nobody else."""
    if path == "me":
        claims = decode(request.headers.get("authorization", ""))
        found = [actor for actor in ACTORS.values() if actor.person and actor.oid == claims.get("oid")]
        return (
            Response(200, shown(found[0])) if found else _refused(400, "/me request is only valid with delegated flow.")
        )
    if path == "directoryobjects/getbyids":
        wanted = json.loads(request.body or b"{}").get("ids", [])
        return Response(200, {"value": [shown(actor) for actor in ACTORS.values() if actor.oid in wanted]})
    kind, _, id = path.partition("/")
    if kind not in ("users", "serviceprincipals", "groups"):
        return _refused(404, f"Resource not found for the segment '{kind}'.")
    people = [actor for actor in ACTORS.values() if kind != "groups" and actor.person == (kind == "users")]
    if id:
        one = [actor for actor in people if id in (actor.oid, actor.name, f"{actor.name}@simulated.example")]
        return Response(200, shown(one[0])) if one else _refused(404, f"Resource '{id}' does not exist.")
    words = set(re.findall(r"'([^']*)'", request.get("$filter")))
    keys = {actor.name: {actor.name, actor.oid, actor.appid, f"{actor.name}@simulated.example"} for actor in people}
    return Response(200, {"value": [shown(actor) for actor in people if not words or words & keys[actor.name]]})


def shown(actor: Actor) -> dict[str, Any]:
    if actor.person:
        return {
            "@odata.type": "#microsoft.graph.user",
            "id": actor.oid,
            "displayName": actor.name,
            "userPrincipalName": f"{actor.name}@simulated.example",
            "mail": None,
        }
    return {
        "@odata.type": "#microsoft.graph.servicePrincipal",
        "id": actor.oid,
        "displayName": actor.name,
        "appId": actor.appid,
        "servicePrincipalNames": [actor.appid],
        "servicePrincipalType": "Application",
    }


def _refused(status: int, message: str) -> Response:
    return Response(
        status,
        {"error": {"code": "Request_BadRequest" if status == 400 else "Request_ResourceNotFound", "message": message}},
    )
