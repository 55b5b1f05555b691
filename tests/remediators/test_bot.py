"""What the two `write=` routes of Bot Service send: they are trusted, not proven, so they are held here, both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import recorded
from guardrail import plans
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Edit, Request, ResourceType
from remediators import bot

BOT, CHANNEL = (next(type for type in bot.TYPES if type.name == name) for name in (bot.BOT, bot.CHANNEL))
SITE = f"{bot.SITES}[siteName='Default Site']"


def sent(type: ResourceType, *edits: Edit, laid: dict[str, Any] | None = None) -> Request:
    document: Document = recorded.good(type.name).document
    document = replace(document, body=recorded.laid(document.body, laid or {}))
    (step,) = plans.steps(type, document, edits)
    return step.request


def test_a_bot_is_patched_with_all_that_can_be_set() -> None:
    """As every recorded PATCH was: what one that says less would drop is not known."""
    request = sent(BOT, Edit("properties.disableLocalAuth", False, True))
    assert (request.method, request.url, request.api_version) == ("PATCH", recorded.good(bot.BOT).id, "2022-09-15")
    good = recorded.good(bot.BOT).body["properties"]
    assert set(request.body) == {"properties"}
    said = request.body["properties"]
    assert said == {**{name: good[name] for name in said}, "disableLocalAuth": True}
    assert {"displayName", "endpoint", "msaAppId", "publicNetworkAccess", "isCmekEnabled"} <= set(said)
    assert not set(said) & {"endpointVersion", "configuredChannels", "enabledChannels", "cmekEncryptionStatus", "tenantId",
                            "isDeveloperAppInsightsApiKeySet", "privateEndpointConnections", "provisioningState"}
    assert None not in said.values()


def test_undoing_to_nothing_is_said_as_null() -> None:
    request = sent(BOT, Edit("properties.disableLocalAuth", True, ABSENT))
    assert request.body["properties"]["disableLocalAuth"] is None


def test_a_property_that_no_table_knows_is_sent_back() -> None:
    request = sent(BOT, Edit("properties.disableLocalAuth", False, True), laid={"properties.unheardOf": {"deep": [1]}})
    assert request.body["properties"]["unheardOf"] == {"deep": [1]}


def test_a_channel_is_patched_with_its_name_and_every_site_without_keys() -> None:
    more = {f"{bot.SITES}[siteName='Other']": {"siteName": "Other", "siteId": "x", "key": "a", "key2": "b", "isEnabled": True}}
    request = sent(CHANNEL, Edit(f"{SITE}.isSecureSiteEnabled", False, True), laid=more)
    body = request.body
    assert request.method == "PATCH" and body["location"] == "global"
    assert body["properties"]["channelName"] == "DirectLineChannel" and "etag" not in body["properties"]
    sites = body["properties"]["properties"]["sites"]
    assert [site["siteName"] for site in sites] == ["Default Site", "Other"]
    assert sites[0]["isSecureSiteEnabled"] is True and sites[0]["trustedOrigins"] == ["https://helpdesk.example.com"]
    assert all(not set(site) & {"siteId", "key", "key2", "isTokenEnabled"} for site in sites)


def test_the_way_back_says_what_stood_there() -> None:
    there = sent(CHANNEL, Edit(f"{SITE}.isV1Enabled", ABSENT, True))
    back = sent(CHANNEL, Edit(f"{SITE}.isV1Enabled", True, ABSENT), laid={f"{SITE}.isV1Enabled": True})
    assert there.body["properties"]["properties"]["sites"][0]["isV1Enabled"] is True
    assert "isV1Enabled" not in back.body["properties"]["properties"]["sites"][0]       # a list goes whole: left out is gone


def test_a_channel_is_deleted_and_never_made() -> None:
    body = recorded.good(bot.CHANNEL).body
    assert sent(CHANNEL, Edit("", body, ABSENT)) == Request("DELETE", recorded.good(bot.CHANNEL).id, "2022-09-15")
    with pytest.raises(plans.Unsafe):
        sent(CHANNEL, Edit("", ABSENT, body), laid={})


def test_nothing_writes_a_connection() -> None:
    """GET tells its secret as asterisks: a PUT would write them."""
    connection = next(type for type in bot.TYPES if type.name == bot.CONNECTION)
    with pytest.raises(plans.Unsafe):
        sent(connection, Edit("properties.scopes", "a", "b"))
