"""The activity log: the events once more, under other names, some minutes late (S16)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simulator.ids import fold, group_of, name_of, subscription_of, type_of
from simulator.kql import as_time
from simulator.queries import equalities
from simulator.wire import Request, Response

if TYPE_CHECKING:
    from simulator import Simulator


def route(sim: Simulator, request: Request) -> Response:
    """eventtypes/management/values (2015-04-01): what happened, newest first, once the log has caught up."""
    text, until = request.get("$filter"), sim.clock() - sim.surface.activity_lag_s
    wanted = dict(equalities(text))
    since = re.search(r"eventTimestamp ge '([^']*)'", text, re.IGNORECASE)
    upto = re.search(r"eventTimestamp le '([^']*)'", text, re.IGNORECASE)
    shown = []
    for event in reversed(sim.events.record):
        at = as_time(event["eventTime"])
        entry = _logged(event)
        keys = {
            "resourceuri": entry["resourceId"],
            "resourcegroupname": entry["resourceGroupName"],
            "correlationid": entry["correlationId"],
            "resourceprovider": entry["resourceProviderName"]["value"],
            "caller": entry["caller"],
        }
        if (
            at is not None
            and at.timestamp() <= until
            and fold(entry["subscriptionId"]) == fold(subscription_of(request.path))
            and not (since and (start := as_time(since[1])) and at < start)
            and not (upto and (end := as_time(upto[1])) and at > end)
            and all(fold(keys[key]) == fold(value) for key, value in wanted.items() if key in keys)
        ):
            shown.append(entry)
    return Response(200, {"value": shown})


def _logged(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as the activity log has it: the same words, each with a localized twin."""

    def both(value: str) -> dict[str, str]:
        return {"value": value, "localizedValue": value}

    data, id = event["data"], event["subject"]
    claims = data["claims"]
    caller = next((claims[key] for key in claims if key.endswith("/upn")), claims.get("appid", ""))
    return {
        "authorization": {"action": data["operationName"], "scope": id},
        "caller": caller,
        "claims": claims,
        "category": both("Administrative"),
        "channels": "Operation",
        "correlationId": data["correlationId"],
        "eventDataId": event["id"],
        "eventName": both("EndRequest"),
        "eventTimestamp": event["eventTime"],
        "submissionTimestamp": event["eventTime"],
        "httpRequest": data.get("httpRequest"),
        "id": f"{id}/events/{event['id']}/ticks/0",
        "level": "Informational" if data["status"] == "Succeeded" else "Error",
        "operationId": data["correlationId"],
        "operationName": both(data["operationName"]),
        "resourceGroupName": name_of(group_of(id)),
        "resourceId": id,
        "resourceProviderName": both(data["resourceProvider"]),
        "resourceType": both(type_of(id)),
        "status": both(data["status"]),
        "subStatus": both(""),
        "subscriptionId": data["subscriptionId"],
        "tenantId": data["tenantId"],
    }
