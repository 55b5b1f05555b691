"""Bot Service: bots, their channels, and the connections by which they get users' tokens. Facts: published types, 2022-09-15.

What GET shows of a channel and of a connection was recorded at 2018-07-12: keys are empty texts, the client secret is
asterisks, and a connection's scopes stand in its own document only, not in the list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from detectors import floors
from guardrail.documents import Node
from guardrail.paths import ABSENT, fold
from guardrail.values import Control, Drift, Parameters

BOT = "Microsoft.BotService/botServices"
CHANNEL = f"{BOT}/channels"
CONNECTION = f"{BOT}/connections"

ENDPOINT = "properties.endpoint"
SITES = "properties.properties.sites"
MOST_SITES = 1_000
MOST_ORIGINS = 100

APP_TYPES = ("UserAssignedMSI", "SingleTenant")
CHANNELS = (
    "AlexaChannel", "FacebookChannel", "EmailChannel", "KikChannel", "TelegramChannel", "SlackChannel", "MsTeamsChannel",
    "SkypeChannel", "WebChatChannel", "DirectLineChannel", "SmsChannel", "LineChannel", "DirectLineSpeechChannel",
    "OutlookChannel", "Omnichannel", "TelephonyChannel", "AcsChatChannel", "SearchAssistant", "M365Extensions",
)

_NAME = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}"
_ADDRESS = re.compile(rf"https://({_NAME})(?::\d{{1,5}})?(?:[/?#][\x21-\x5b\x5d-\x7e]*)?", re.ASCII)


def host_of(address: str) -> str:
    """The host of an https address, in lower case; "" for anything else: another scheme, user information, an IP."""
    found = _ADDRESS.fullmatch(fold(address))
    return found[1] if found else ""


# Bots


def closed_to_public(bot: Node, p: Parameters) -> Iterator[Drift]:
    """Drift while channels reach the bot over the public network. Absent means Enabled (recorded)."""
    if p["require_isolated"]:
        yield from bot.expect("properties.publicNetworkAccess", one_of=("Disabled",), absent="Enabled")


def local_auth_off(bot: Node, _: Parameters) -> Iterator[Drift]:
    """Drift while Direct Line secrets are taken for authentication. Absent means false (recorded)."""
    yield from bot.expect("properties.disableLocalAuth", one_of=(True,), absent=False)


def customer_key_used(bot: Node, p: Parameters) -> Iterator[Drift]:
    """Drift unless the bot is encrypted with a key of ours from an approved vault. Absent means false (recorded)."""
    drifts = list(bot.expect("properties.isCmekEnabled", one_of=(True,), absent=False))
    yield from drifts
    allowed = [fold(host) for host in p["allowed_vaults"]]
    if not drifts and allowed and host_of(bot.text("properties.cmekKeyVaultUrl")) not in allowed:
        yield from bot.undecided("properties.cmekKeyVaultUrl", "the key comes from a vault that is not approved")


def app_of_one_tenant(bot: Node, p: Parameters) -> Iterator[Drift]:
    """Drift unless the bot's app belongs to one tenant. Absent counts as MultiTenant, as old documents are; fixed."""
    yield from bot.expect(
        "properties.msaAppType", one_of=p["allowed_app_types"], absent="MultiTenant", known=("MultiTenant", *APP_TYPES))


def endpoint_is_ours(bot: Node, p: Parameters) -> Iterator[Drift]:
    """Drift unless messages go over https to an approved host; without a list to the host that was known good.

    A bot without an endpoint sends its messages nowhere: Azure lets it be empty (recorded). Wanted is the address that
    was known good; without one a person decides.
    """
    address, before = bot.text(ENDPOINT), bot.known_good.text(ENDPOINT)
    if address and not _is_approved(address, before, p):
        if before and _is_approved(before, before, p):
            yield from bot.expect(ENDPOINT, one_of=(bot.known_good.get(ENDPOINT),), known=(bot.get(ENDPOINT),))
        else:
            yield from bot.undecided(ENDPOINT, "not https, or a host that is not approved, and no other was known good")


def _is_approved(address: str, before: str, p: Parameters) -> bool:
    host, hosts = host_of(address), [fold(one) for one in p["allowed_hosts"]]
    return bool(host) and host in (hosts or [host_of(before) or host])


# Channels


def _sites(channel: Node, *kinds: str) -> Iterator[Node]:
    """The sites of a channel of these kinds that are on; one that does not say counts as on.

    A kind of channel that we do not know cannot be judged.
    """
    kind = channel.text("properties.channelName")
    if kind not in kinds:
        if kind not in map(fold, CHANNELS):
            channel.troubles.setdefault("properties.channelName", "a kind of channel that we do not know")
        return
    sites = list(islice(channel.items(SITES, "siteName"), MOST_SITES + 1))
    yield from (site for site in sites[:MOST_SITES] if site.get("isEnabled") is not False)
    if len(sites) > MOST_SITES:
        channel.troubles[SITES] = "too many sites to follow"


DIRECT_LINE, WEB_CHAT = "directlinechannel", "webchatchannel"


def direct_line_hardened(channel: Node, p: Parameters) -> Iterator[Drift]:
    """Drift in each Direct Line site without enhanced authentication, with V1, or open to a web page not approved.

    Absent isSecureSiteEnabled and isV1Enabled count as false. Trusted origins count with enhanced authentication only,
    and it needs one: without `allowed_origins` a person says which.
    """
    allowed = {fold(origin): origin for origin in p["allowed_origins"]}
    for site in _sites(channel, DIRECT_LINE):
        origins = list(islice(site.items("trustedOrigins"), MOST_ORIGINS + 1))
        if len(origins) > MOST_ORIGINS:
            yield from site.undecided("trustedOrigins", "too many origins to follow")
            continue
        bad = [one for one in origins if not host_of(one.text()) or (allowed and one.text() not in allowed)]
        yield from site.expect("isV1Enabled", one_of=(False,), absent=False)
        if len(bad) == len(origins) and not allowed:
            yield from site.undecided("trustedOrigins", "no origin is fit to stay, and allowed_origins is empty")
            continue
        yield from site.expect("isSecureSiteEnabled", one_of=(True,), absent=False)
        for origin in bad:
            yield from origin.unwanted("not https, or not approved")
        for wanted in allowed.values() if len(bad) == len(origins) else ():
            yield from site.missing("trustedOrigins", wanted)


def uploads_blocked(channel: Node, p: Parameters) -> Iterator[Drift]:
    """Drift in each site where users may send files. Absent means false."""
    if p["block_uploads"]:
        for site in _sites(channel, DIRECT_LINE, WEB_CHAT):
            yield from site.expect("isBlockUserUploadEnabled", one_of=(True,), absent=False)


def web_chat_approved(channel: Node, p: Parameters) -> Iterator[Drift]:
    """Drift in each Web Chat site that is on and not approved: a new bot has one, with a key that pages embed (recorded)."""
    allowed = {fold(name) for name in p["allowed_sites"]}
    for site in _sites(channel, WEB_CHAT):
        if site.text("siteName") not in allowed:
            yield from site.expect("isEnabled", one_of=(False,), absent=True)


def channel_approved(channel: Node, p: Parameters) -> Iterator[Drift]:
    """Drift if the channel is none of the approved ones: unwanted as it stands."""
    name = channel.text("properties.channelName")
    if not name:
        yield from channel.undecided("properties.channelName", "a channel without a name")
    elif name not in map(fold, p["allowed_channels"]):
        yield from channel.unwanted("a channel that is not approved")


# Connections


def connection_as_it_was(connection: Node, p: Parameters) -> Iterator[Drift]:
    """Drift if provider, client or scopes are not those that were known good, or a scope is not approved.

    What was first seen passes, unless `allowed_scopes` says otherwise. Nothing is written: a PUT needs the client
    secret, which only its owner has.
    """
    was = connection.known_good
    for name in ("serviceProviderId", "clientId", "scopes"):
        now, before = connection.text(f"properties.{name}"), was.get(f"properties.{name}")
        if isinstance(before, str):
            yield from connection.expect(f"properties.{name}", one_of=(before,), known=(now,))
    allowed = {fold(scope) for scope in p["allowed_scopes"]}
    asked = set(re.split(r"[\s,]+", connection.text("properties.scopes"))) - {""}
    if allowed and not asked <= allowed:
        yield from connection.undecided("properties.scopes", f"not approved: {', '.join(sorted(asked - allowed))[:200]}")


# Parameters


def _texts(fits: Callable[[str], Any], what: str) -> floors.Floor:
    """A list of texts, each of which fits."""
    def floor(value: Any) -> str:
        sound = isinstance(value, (list, tuple)) and all(isinstance(one, str) and fits(one) for one in value)
        return "" if sound else f"must be a list of {what}"
    return floor


def _is_origin(text: str) -> bool:
    """https://host or https://host:port: what a browser sends."""
    return bool(host_of(text)) and "/" not in text.removeprefix("https://")


WRITE = (f"{BOT}/write",)
CHANNEL_EVENTS = (f"{CHANNEL}/write", f"{CHANNEL}/delete", f"{CHANNEL}/regeneratekeys/action")
_SITE = f"{SITES}[siteName='Default Site']"

CONTROLS = (
    Control(
        "bot-public-network-access", closed_to_public, on=BOT, severity="medium", response="revert", triggered_by=WRITE,
        title="Bot is closed to the public network",
        why="Direct Line and the bot's channels can be reached from anywhere",
        breaks="every public channel such as Teams, Web Chat and Slack stops",
        asks="most bots live on public channels, and they would stop",
        parameters={"require_isolated": True}, floors={"require_isolated": floors.flag},
        drift={"properties.publicNetworkAccess": "Enabled"},
    ),
    Control(
        "bot-local-auth", local_auth_off, on=BOT, severity="medium", response="revert", triggered_by=WRITE,
        title="Bot takes no secrets for authentication",
        why="whoever holds a Direct Line secret speaks to the bot as anybody",
        breaks="clients that use Direct Line secrets",
        drift={"properties.disableLocalAuth": False},
    ),
    Control(
        "bot-cmk", customer_key_used, on=BOT, severity="low", response="report", triggered_by=WRITE,
        title="Bot is encrypted with a customer-managed key",
        why="without a key of our own nobody can revoke access to what the bot stores",
        breaks="the bot is down while the key or the vault cannot be reached, so only a person sets one",
        parameters={"allowed_vaults": ()}, floors={"allowed_vaults": floors.hosts},
        drift={"properties.isCmekEnabled": False},
    ),
    Control(
        "bot-app-type", app_of_one_tenant, on=BOT, severity="medium", response="report", triggered_by=WRITE,
        title="Bot's app belongs to one tenant",
        why="an app of many tenants takes tokens of any of them, and needs a client secret",
        breaks="cannot be changed: it takes a new bot",
        parameters={"allowed_app_types": APP_TYPES},
        floors={"allowed_app_types": floors.some_of(APP_TYPES)},
        drift={"properties.msaAppType": "MultiTenant"},
    ),
    Control(
        "bot-endpoint-https", endpoint_is_ours, on=BOT, severity="high", response="revert", triggered_by=WRITE,
        title="Bot's messages go to an approved host over HTTPS",
        why="conversations and tokens travel in clear text, or to an attacker",
        breaks="a planned move of the bot, until its new host is accepted",
        learns=True,
        parameters={"allowed_hosts": ()}, floors={"allowed_hosts": floors.hosts},
        drift={ENDPOINT: "http://bot.example.net/api/messages"},
    ),
    Control(
        "bot-directline-enhanced-auth", direct_line_hardened, on=CHANNEL, severity="medium", response="revert",
        triggered_by=CHANNEL_EVENTS,
        title="Direct Line sites use enhanced authentication",
        why="user ids can be forged, and any web page can embed the bot",
        breaks="clients on other origins, or without tokens bound to a user",
        parameters={"allowed_origins": ()}, floors={"allowed_origins": _texts(_is_origin, "origins such as https://host")},
        drift={f"{_SITE}.isSecureSiteEnabled": False},
    ),
    Control(
        "bot-directline-user-upload", uploads_blocked, on=CHANNEL, severity="low", response="revert",
        triggered_by=CHANNEL_EVENTS,
        title="Users cannot send files through Direct Line or Web Chat",
        why="users can push files to the bot, and with them whatever is in them",
        breaks="attachments", asks="whether a bot takes files is its owner's choice",
        parameters={"block_uploads": True}, floors={"block_uploads": floors.flag},
        drift={f"{_SITE}.isBlockUserUploadEnabled": False},
    ),
    Control(
        "bot-webchat-sites", web_chat_approved, on=CHANNEL, severity="low", response="revert", triggered_by=CHANNEL_EVENTS,
        title="Only approved Web Chat sites are on",
        why="the default Web Chat site carries a key that pages often show to everybody",
        breaks="web pages that embed the chat", asks="web pages that embed the chat would stop",
        parameters={"allowed_sites": ()},
        floors={"allowed_sites": _texts(lambda one: one and not set(one) & set("*?"), "site names, without wildcards")},
        drift={"properties.channelName": "WebChatChannel", "properties.properties.DirectLineEmbedCode": ABSENT},
    ),
    Control(
        "bot-channel-allow-list", channel_approved, on=CHANNEL, severity="medium", response="revert",
        triggered_by=CHANNEL_EVENTS,
        title="Bot has approved channels only",
        why="a new channel (Telegram, e-mail, SMS) carries conversations to a third party",
        breaks="users of that channel", asks="the channel's secrets go with it, and cannot be put back",
        parameters={"allowed_channels": ("MsTeamsChannel", "WebChatChannel", "DirectLineChannel")},
        floors={"allowed_channels": floors.some_of(CHANNELS, least=0)},
        drift={"properties.channelName": "TelegramChannel"},
    ),
    Control(
        "bot-oauth-connection", connection_as_it_was, on=CONNECTION, severity="medium", response="report",
        triggered_by=(f"{CONNECTION}/write", f"{CONNECTION}/delete"),
        title="Bot's OAuth connections are as they were",
        why="another client id, or wider scopes, capture users' tokens",
        breaks="nothing is written: the client secret cannot be read, so only its owner can put a connection back",
        learns=True,
        parameters={"allowed_scopes": ()},
        floors={"allowed_scopes": _texts(lambda one: one and not set(one) & set("*?, "), "scopes, without wildcards")},
        drift={"properties.scopes": "https://graph.microsoft.com/.default"},
    ),
)

LEFT_OUT: tuple[tuple[str, str], ...] = ()
