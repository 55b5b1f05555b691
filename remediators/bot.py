"""How ARM reads and writes bots, their channels and their connections. Types of 2022-09-15.

None of the three shows when it was born: what cannot change without a new life stands in for it, where there is any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from guardrail.documents import Document, Node
from guardrail.ids import url_path
from guardrail.paths import ABSENT, fold, get, parse, put
from guardrail.values import COMMON, Drift, Edit, Parameters, Request, ResourceType, Route

BOT = "Microsoft.BotService/botServices"
CHANNEL = f"{BOT}/channels"
CONNECTION = f"{BOT}/connections"
VERSION = "2022-09-15"
SITES = "properties.properties.sites"

BOT_READONLY = (*COMMON, "zones", *(f"properties.{name}" for name in (
    "endpointVersion", "configuredChannels", "enabledChannels", "cmekEncryptionStatus", "isDeveloperAppInsightsApiKeySet",
    "migrationToken", "privateEndpointConnections")))
SITE_READONLY = ("siteId", "key", "key2", "isTokenEnabled", "eTag")     # a site is found again by its name (recorded)


def patch_bot(document: Document, edits: Sequence[Edit]) -> Request:
    """All that can be set, as it is wanted: every recorded PATCH was so, and what one drops that says less is unknown.

    A secret that GET leaves out is left out here too, and the tenant, which is the service's, as the Azure CLI does.
    """
    properties = _settable(_edited(document, edits).get("properties"), (*BOT_READONLY, "properties.tenantId"))
    return _patch(document, edits, {"properties": properties})


def write_channel(document: Document, edits: Sequence[Edit]) -> Request:
    """DELETE if the channel itself goes; else a PATCH with its name and the whole list of sites, without their keys."""
    if any(not parse(edit.path) and edit.after is ABSENT for edit in edits):
        return Request("DELETE", url_path(document.id), VERSION)
    properties = _settable(_edited(document, edits).get("properties"), (*COMMON, "properties.etag"))
    settings = properties.get("properties")
    if isinstance(settings, Mapping):
        properties["properties"] = settings = _without(settings, ())
        sites = get(settings, ("sites",))
        if isinstance(sites, list):
            kept = [_without(site, SITE_READONLY) if isinstance(site, Mapping) else site for site in sites]
            properties["properties"] = put(settings, ("sites",), kept)
    place = document.get("location")
    return _patch(document, edits, {**({} if place is ABSENT else {"location": place}), "properties": properties})


def _edited(document: Document, edits: Sequence[Edit]) -> Any:
    body = document.body
    for edit in edits:
        body = put(body, parse(edit.path), edit.after)
    return body


def _settable(properties: Any, readonly: Sequence[str]) -> dict[str, Any]:
    below = [name.removeprefix("properties.") for name in readonly if name.startswith("properties.")]
    return _without(properties, below) if isinstance(properties, Mapping) else {}


def _without(value: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Without these names, and without what is null: GET shows what was never set as null."""
    dropped = {fold(name) for name in names}
    return {name: inner for name, inner in value.items() if inner is not None and fold(name) not in dropped}


def _patch(document: Document, edits: Sequence[Edit], body: dict[str, Any]) -> Request:
    for edit in edits:
        path = parse(edit.path)
        if edit.after is ABSENT and all(isinstance(one, str) for one in path):
            body = _with_null(body, [str(one) for one in path])
    return Request("PATCH", url_path(document.id), VERSION, body)


def _with_null(body: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """What is to be removed is said as null: `put` would only leave it out."""
    head, rest = path[0], path[1:]
    inner = body.get(head)
    return {**body, head: _with_null(inner if isinstance(inner, Mapping) else {}, rest) if rest else None}


def cut_off(bot: Node, _: Parameters) -> Iterator[Drift]:
    """No public channel, no Direct Line secret that opens anything."""
    yield from bot.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")
    yield from bot.expect("properties.disableLocalAuth", one_of=(True,), absent=False)


def sites_closed(channel: Node, _: Parameters) -> Iterator[Drift]:
    """Every site of a Direct Line or Web Chat channel is off; other channels have none."""
    if channel.text("properties.channelName") in ("directlinechannel", "webchatchannel"):
        for site in channel.items(SITES, "siteName"):
            yield from site.expect("isEnabled", one_of=(False,), absent=True)


TYPES = (
    ResourceType(
        BOT, VERSION,
        (
            Route(write=patch_bot, whole=("properties",), readonly=BOT_READONLY),
            Route("+diagnosticSettings[name]", "{id}/providers/Microsoft.Insights/diagnosticSettings/{name}",
                  "2021-05-01-preview", update="PUT", create=True, delete=True, round_trip=True),
        ),
        isolate=cut_off, born="properties.msaAppId",
        dependants=("properties.configuredChannels", "properties.privateEndpointConnections"),
    ),
    # A channel is never created: its secrets are not readable, so the undo of a removal is a person's.
    ResourceType(
        CHANNEL, VERSION,
        # its ETags are new with every read (recorded)
        (Route(write=write_channel, delete=True, whole=("properties",), readonly=(*COMMON, "zones", "properties.etag")),),
        isolate=sites_closed, born="", dependants=(SITES,), stops={f"{SITES}[siteName].isEnabled": (False,)},
    ),
    # GET tells the client secret as asterisks, so a PUT would write them: nothing writes a connection.
    ResourceType(CONNECTION, VERSION, born="properties.settingId"),
)
