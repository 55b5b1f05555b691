"""Bots, channels, connections: which addresses are ours, which sites are judged, and what is never put into a plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import recorded
from detectors import bot
from guardrail import plans
from guardrail.documents import Document
from guardrail.paths import ABSENT
from guardrail.values import Control, Drift
from tests.detectors.worst import drifts_in_time

CONTROLS = {control.id: control for control in bot.CONTROLS}
ENDPOINT, DIRECT_LINE = CONTROLS["bot-endpoint-https"], CONTROLS["bot-directline-enhanced-auth"]
CONNECTION = CONTROLS["bot-oauth-connection"]
OURS = "https://bot-helpdesk.azurewebsites.net/api/messages"


def drifts(control: Control, edits: dict[str, Any], *, good: Any = None, **parameters: Any) -> list[Drift]:
    document = recorded.good(control.on).document
    known = document.good if good is None else {"": recorded.laid(document.body, good)} if good else {}
    document = replace(document, body=recorded.laid(document.body, edits), good=known)
    return list(control.check(document.node(), {**control.parameters, **parameters}))


@pytest.mark.threat("E9")
@pytest.mark.parametrize("address", [
    "http://bot-helpdesk.azurewebsites.net/api/messages", "https://bot-helpdesk.azurewebsites.net@attacker.net/",
    "https://attacker.net\\@bot-helpdesk.azurewebsites.net/", "https://bot-helpdesk.azurewebsites.net.attacker.net/",
    "https://attacker.net/bot-helpdesk.azurewebsites.net", "https://203.0.113.9/api/messages", "https://[::1]/api",
    " https://bot-helpdesk.azurewebsites.net/", "https://bot-helpdesk.azurewebsites.net/\u200b",
    "https:bot-helpdesk", "//x.net/",
    "https://bot-helpdeſk.azurewebsites.net/"])
def test_an_address_that_only_looks_like_ours_is_put_back(address: str) -> None:
    assert drifts(ENDPOINT, {bot.ENDPOINT: address}) == [Drift(bot.ENDPOINT, address, OURS)]


@pytest.mark.parametrize("address", [
    OURS, OURS.upper(), "https://bot-helpdesk.azurewebsites.net", "https://bot-helpdesk.azurewebsites.net:443/api?v=2", ""])
def test_the_same_host_or_none_is_fine(address: str) -> None:
    assert drifts(ENDPOINT, {bot.ENDPOINT: address}) == []


def test_the_list_of_hosts_decides_over_what_was_known_good() -> None:
    moved = "https://bot-2.azurewebsites.net/api/messages"
    assert drifts(ENDPOINT, {bot.ENDPOINT: moved}, allowed_hosts=("bot-2.azurewebsites.net",)) == []
    (drift,) = drifts(ENDPOINT, {}, allowed_hosts=("bot-2.azurewebsites.net",))
    assert not drift.decided       # what was known good is not approved any more


@pytest.mark.threat("A11")
def test_without_a_known_good_address_a_person_decides() -> None:
    (drift,) = drifts(ENDPOINT, {bot.ENDPOINT: "http://x.example.net/"}, good={})
    assert not drift.decided
    (drift,) = drifts(ENDPOINT, {bot.ENDPOINT: "http://x.example.net/"}, good={bot.ENDPOINT: "http://y.example.net/"})
    assert not drift.decided


def test_a_key_from_another_vault_is_reported() -> None:
    control = CONTROLS["bot-cmk"]
    assert drifts(control, {}, allowed_vaults=("kv-ai-dev.vault.azure.net",)) == []
    (drift,) = drifts(control, {}, allowed_vaults=("kv-other.vault.azure.net",))
    assert drift.path == "properties.cmekKeyVaultUrl" and not drift.decided


def site(name: str, **more: Any) -> dict[str, Any]:
    return {"siteName": name, "isEnabled": True, "isSecureSiteEnabled": True, "isBlockUserUploadEnabled": True,
            "trustedOrigins": ["https://helpdesk.example.com"], **more}


def found(control: Control, *sites: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    """path below the sites -> what is wanted, None where a person decides."""
    return {drift.path.removeprefix(bot.SITES): drift.wanted if drift.decided else None
            for drift in drifts(control, {bot.SITES: list(sites)}, **parameters)}


def test_each_site_that_is_on_is_judged_by_itself() -> None:
    sites = (site("a"), site("b", isV1Enabled=True), site("c", isEnabled=False, isSecureSiteEnabled=False),
             site("d", isEnabled=None, isSecureSiteEnabled=None), site("b", isV1Enabled=True))
    assert found(DIRECT_LINE, *sites) == {
        "[siteName='b'].isV1Enabled": False, "[siteName='d'].isSecureSiteEnabled": True, "[siteName='b';2].isV1Enabled": False}


def test_origins_that_are_not_https_or_not_approved_go() -> None:
    origins = ["https://helpdesk.example.com", "http://helpdesk.example.com", "*", "https://attacker.net"]
    assert found(DIRECT_LINE, site("a", trustedOrigins=origins)) == {
        "[siteName='a'].trustedOrigins[='http://helpdesk.example.com']": ABSENT, "[siteName='a'].trustedOrigins[='*']": ABSENT}
    assert found(DIRECT_LINE, site("a", trustedOrigins=origins), allowed_origins=("https://Helpdesk.example.com",)).keys() == {
        f"[siteName='a'].trustedOrigins[='{one}']" for one in origins[1:]}


@pytest.mark.parametrize("origins", [None, [], ["*"], ["http://helpdesk.example.com"]])
def test_enhanced_authentication_needs_an_origin(origins: Any) -> None:
    """Without one that may stay, the approved ones are put there; if there are none, a person says which."""
    open_site = site("a", trustedOrigins=origins, isSecureSiteEnabled=False)
    assert found(DIRECT_LINE, open_site) == {"[siteName='a'].trustedOrigins": None}
    wanted = found(DIRECT_LINE, open_site, allowed_origins=("https://helpdesk.example.com",))
    assert wanted["[siteName='a'].isSecureSiteEnabled"] is True
    assert wanted["[siteName='a'].trustedOrigins[='https://helpdesk.example.com']"] == "https://helpdesk.example.com"


def test_web_chat_sites_are_judged_by_their_own_controls() -> None:
    web_chat = {"properties.channelName": "WebChatChannel", bot.SITES: [site("a", isSecureSiteEnabled=False), site("b")]}
    assert drifts(DIRECT_LINE, web_chat) == []
    (drift,) = drifts(CONTROLS["bot-webchat-sites"], web_chat, allowed_sites=("B",))
    assert (drift.path, drift.wanted) == (f"{bot.SITES}[siteName='a'].isEnabled", False)


@pytest.mark.parametrize("control", [one for one in bot.CONTROLS if one.on == bot.CHANNEL], ids=lambda one: one.id)
def test_a_channel_of_an_unknown_kind_is_never_compliant(control: Control) -> None:
    document = recorded.good(bot.CHANNEL).document
    body = recorded.laid(document.body, {"properties.channelName": "DirectLineChannel2"})
    assert plans.judge([control], replace(document, body=body), lambda one: one.parameters)


def test_a_channel_without_a_name_is_not_deleted() -> None:
    (drift,) = drifts(CONTROLS["bot-channel-allow-list"], {"properties.channelName": ABSENT})
    assert not drift.decided


@pytest.mark.parametrize("name", ["serviceProviderId", "clientId", "scopes"])
def test_a_connection_that_is_not_as_it_was_is_reported(name: str) -> None:
    (drift,) = drifts(CONNECTION, {f"properties.{name}": "another"})
    assert drift.path == f"properties.{name}"
    assert drifts(CONNECTION, {f"properties.{name}": "another"}, good={}) == []      # as first seen


def test_scopes_outside_the_list_are_reported_whatever_was_known() -> None:
    assert drifts(CONNECTION, {}, allowed_scopes=("openid", "profile", "user.read")) == []
    (drift,) = drifts(CONNECTION, {}, allowed_scopes=("openid", "profile"))
    assert not drift.decided and "user.read" in drift.note


@pytest.mark.threat("E8")
def test_ten_thousand_sites_are_judged_in_time() -> None:
    document = recorded.good(bot.CHANNEL).document
    sites = [site(f"s{at}", trustedOrigins=["*"], isV1Enabled=True) for at in range(10_000)]
    worst = replace(document, body=recorded.laid(document.body, {bot.SITES: sites}))
    drifts_in_time(lambda: list(DIRECT_LINE.check(worst.node(), DIRECT_LINE.parameters)), worst, bot.SITES)
    findings = plans.judge([DIRECT_LINE], worst, lambda one: one.parameters)
    assert any(finding.drift is None for finding in findings)      # too many to follow: never compliant


ODD = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
                   | st.dictionaries(st.sampled_from(["siteName", "isEnabled", "trustedOrigins", "sites"]), inner, max_size=4))


@settings(max_examples=150, deadline=None)
@given(ODD, st.sampled_from([one for one in bot.CONTROLS if one.on == bot.CHANNEL]))
def test_odd_json_never_breaks_a_check(sites: Any, control: Control) -> None:
    document = recorded.good(bot.CHANNEL).document
    for path in (bot.SITES, "properties.properties", f"{bot.SITES}[siteName='Default Site'].trustedOrigins"):
        odd = replace(document, body=recorded.laid(document.body, {path: sites}))
        found = plans.judge([control], odd, lambda one: one.parameters)
        assert not [one for one in found if "check failed" in one.why]


@pytest.mark.threat("E7")
@pytest.mark.parametrize(("id", "name", "weak"), [
    ("bot-endpoint-https", "allowed_hosts", ["*"]), ("bot-endpoint-https", "allowed_hosts", ["*.azurewebsites.net"]),
    ("bot-endpoint-https", "allowed_hosts", "bot.example.net"), ("bot-app-type", "allowed_app_types", ["MultiTenant"]),
    ("bot-app-type", "allowed_app_types", []), ("bot-channel-allow-list", "allowed_channels", ["*"]),
    ("bot-directline-enhanced-auth", "allowed_origins", ["*"]), ("bot-directline-enhanced-auth", "allowed_origins", ["http://x.net"]),
    ("bot-directline-enhanced-auth", "allowed_origins", ["https://x.net/page"]), ("bot-webchat-sites", "allowed_sites", ["*"]),
    ("bot-oauth-connection", "allowed_scopes", ["*"]), ("bot-cmk", "allowed_vaults", [""])])
def test_a_weak_parameter_is_refused(id: str, name: str, weak: Any) -> None:
    assert CONTROLS[id].floors[name](weak)
    assert not CONTROLS[id].floors[name](CONTROLS[id].parameters[name])


def test_documents_of_other_bots_are_not_touched() -> None:
    """A check sees one document: the same path in another gives the same verdict, whatever was known of the first."""
    document = recorded.good(bot.BOT).document
    other = Document(document.id, document.type, document.body)
    assert list(ENDPOINT.check(other.node(), ENDPOINT.parameters)) == []
