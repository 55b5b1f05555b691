"""Resource Manager outside resources, as far as az and the SDKs need it: which part answers which path, and of these
here subscriptions, providers, name checks and permissions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator import activity, groups, roles, tags
from simulator.ids import fold, name_of, split
from simulator.queries import sent
from simulator.types import TYPES
from simulator.wire import Request, Response, error

if TYPE_CHECKING:
    from simulator import Simulator


class Surface:
    """The routes of one simulator. `activity_lag_s`: the activity log shows what is at least so old.

    `versions`: by folded type, what a provider lists beside the type's own, where any well-formed version is answered.
    """

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self.activity_lag_s = 0.0
        self.versions: dict[str, list[str]] = {}

    def clear(self) -> None:
        self.activity_lag_s = 0.0

    def route(self, request: Request) -> Response | None:
        """The answer, or None where the path is none of these."""
        parts = fold(request.path).strip("/").split("/")
        tail = "/".join(parts[-2:])
        if parts[-1] == "checknameavailability" and request.method == "POST":
            return self._name_check(request)
        if tail == "tags/default" and "microsoft.resources" in parts:
            return tags.route(self._sim, request)
        if tail == "microsoft.authorization/permissions":
            scope = split(request.path)[0]
            oid = str(request.claims.get("oid", ""))
            return Response(200, {"value": self._sim.faults.access.permissions(oid, scope)})
        if fold(roles.ROLE_DEFINITIONS) in fold(request.path) and request.method == "GET":
            return roles.route(self._sim, request)
        if tail == "microsoft.resources/changes" and request.method == "GET":
            return Response(200, {"value": list(self._sim.graph.changes(split(request.path)[0]))})
        if parts[-3:] == ["eventtypes", "management", "values"]:
            return activity.route(self._sim, request)
        return self._subscription_route(request, parts)

    def _subscription_route(self, request: Request, parts: list[str]) -> Response | None:
        if parts in (["subscriptions"], ["tenants"]):
            tenant = {"id": f"/tenants/{self._sim.tenant}", "tenantId": self._sim.tenant, "displayName": "Simulated"}
            shown = [self._subscription(id) for id in self._sim.subscriptions]
            return Response(200, {"value": shown if parts == ["subscriptions"] else [tenant]})
        if parts[0] == "providers" and len(parts) <= 2 and request.method == "GET":
            return self._providers(request, parts[1:], "")
        if parts[0] != "subscriptions" or len(parts) < 2:
            return None
        known = next((id for id in self._sim.subscriptions if fold(id) == parts[1]), None)
        if known is None:
            return error(404, "SubscriptionNotFound", f"The subscription '{parts[1]}' could not be found.")
        rest = parts[2:]
        if not rest and request.method == "GET":
            return Response(200, self._subscription(known))
        if rest == ["locations"]:
            here = {"id": f"/subscriptions/{known}/locations/eastus", "name": "eastus", "displayName": "East US"}
            return Response(200, {"value": [here]})
        if rest[:1] == ["providers"] and (len(rest) <= 2 or rest[2:] == ["register"]):
            return self._providers(request, rest[1:2], known)
        if rest == ["resourcegroups"]:
            return groups.collection(self._sim, request, known)
        if rest[:1] == ["resourcegroups"] and len(rest) == 2:
            return groups.one(self._sim, request, f"/subscriptions/{known}/resourceGroups/{name_of(request.path)}")
        if rest == ["resources"] or (rest[:1] == ["resourcegroups"] and rest[2:] == ["resources"]):
            return groups.contents(self._sim, request)
        return None

    # subscriptions, providers, names

    def _subscription(self, id: str) -> dict[str, Any]:
        policies = {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        }
        return {
            "id": f"/subscriptions/{id}",
            "subscriptionId": id,
            "displayName": f"Simulated {self._sim.subscriptions.index(id) + 1}",
            "tenantId": self._sim.tenant,
            "state": "Enabled",
            "subscriptionPolicies": policies,
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
        }

    def _providers(self, request: Request, namespace: list[str], subscription: str) -> Response:
        spaces: dict[str, list[dict[str, Any]]] = {}
        for habits in TYPES.values():
            space, _, kind = habits.type.partition("/")
            versions = list(habits.versions) or [habits.version, *self.versions.get(fold(habits.type), ())]
            entry = {"resourceType": kind, "locations": ["East US"], "apiVersions": sorted(versions, reverse=True)}
            spaces.setdefault(space, []).append(entry)
        at = f"/subscriptions/{subscription}/providers" if subscription else "/providers"
        shown = [
            {"id": f"{at}/{space}", "namespace": space, "registrationState": "Registered", "resourceTypes": kinds}
            for space, kinds in spaces.items()
        ]
        if not namespace:
            return Response(200, {"value": shown})
        found = next((entry for entry in shown if fold(str(entry["namespace"])) == namespace[0]), None)
        if found is None:
            return error(404, "InvalidResourceNamespace", f"The resource namespace '{namespace[0]}' is invalid.")
        return Response(200, found)

    def _name_check(self, request: Request) -> Response:
        """Storage and most others say `nameAvailable`, the bot service `valid`."""
        namespace, body = split(request.path)[1], sent(request)
        name, kind = str(body.get("name", "")), str(body.get("type", ""))
        taken = any(fold(item.name) == fold(name) and fold(item.type) == fold(kind) for item in self._sim.world.all())
        if fold(namespace) == "microsoft.botservice":
            return Response(200, {"valid": not taken, "message": ""})
        if not taken:
            return Response(200, {"nameAvailable": True})
        message = f"The name {name} is already taken."
        return Response(200, {"nameAvailable": False, "reason": "AlreadyExists", "message": message})
