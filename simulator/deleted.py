"""Softly deleted accounts and vaults: listing, reading, purging them. A PUT brings one back (`writes.restored`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.ids import fold, group_of, name_of, split, subscription_of
from simulator.reads import view
from simulator.types import Answer, Body
from simulator.wire import Request, Response, error
from simulator.world import Resource

if TYPE_CHECKING:
    from simulator import Simulator

COLLECTIONS = {
    "deletedaccounts": "microsoft.cognitiveservices/accounts",
    "deletedvaults": "microsoft.keyvault/vaults",
}
"""Last collection in the path -> type of what it holds."""


def route(sim: Simulator, request: Request) -> Response | None:
    """GET of the list or of one, DELETE (accounts) and POST .../purge (vaults); None for every other path."""
    scope, _, segments = split(request.path)
    parts = fold(request.path).strip("/").split("/")
    collection = next((part for part in parts if part in COLLECTIONS), None)
    if collection is None or not segments:
        return None
    found = [
        root
        for root, *_ in sim.world.deleted.values()
        if fold(root.type) == COLLECTIONS[collection] and fold(subscription_of(root.id)) == fold(subscription_of(scope))
    ]
    rest = parts[parts.index(collection) + 1 :]
    if not rest:
        return Response(200, {"value": [shown(sim, root, request) for root in found]})
    group = parts[parts.index("resourcegroups") + 1] if "resourcegroups" in parts else ""
    root = next((it for it in found if fold(it.name) == rest[0] and group in ("", fold(name_of(group_of(it.id))))), None)
    if root is None:
        return error(404, "ResourceNotFound", f"There is no deleted resource '{rest[0]}'.")
    if request.method == "GET":
        return Response(200, shown(sim, root, request))
    if request.method == "DELETE" or (request.method == "POST" and rest[1:] == ["purge"]):
        del sim.world.deleted[fold(root.id)]
        operation = sim.operations.start(root.id, sim.operations.plan(), lambda _: None, lambda: None)
        return Response(202, None, sim.operations.headers(request, operation, Answer(202, "aao loc")))
    return Response(405, {"Message": f"The requested resource does not support http method '{request.method}'."})


def shown(sim: Simulator, root: Resource, request: Request) -> Body:
    """The document as it was, under the id of the deleted one, with what it was called before."""
    document = view(sim, root, request.version)
    namespace, location = root.type.split("/")[0], root.body.get("location")
    where = f"/subscriptions/{subscription_of(root.id)}/providers/{namespace}/locations/{location}"
    if fold(root.type) == COLLECTIONS["deletedvaults"]:
        properties = {"vaultId": root.id, "location": root.body.get("location"), "tags": root.body.get("tags", {})}
        return {"id": f"{where}/deletedVaults/{root.name}", "name": root.name, "properties": properties,
                "type": "Microsoft.KeyVault/deletedVaults"}  # fmt: skip
    return {**document, "id": f"{where}/resourceGroups/{name_of(group_of(root.id))}/deletedAccounts/{root.name}"}
